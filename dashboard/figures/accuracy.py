"""The figures of a kernel's error."""

from __future__ import annotations

import math
from typing import Any

from dashboard.figures.text import digits
from dashboard.figures.theme import POWERS, Figure, Theme, empty, figure
from dashboard.service import Accuracy, Span


def ranges(accuracy: Accuracy, theme: Theme) -> Figure:
    """The largest value that each operation wrote, against the limit of its dtype; both logarithmic."""
    spans = [span for span in accuracy.spans if span.max_abs > 0 or span.nonfinite]
    if not spans:
        return empty(theme, "nothing but zeros")
    names = [f"{number}" for number in range(len(spans))]
    limits = [_finite(span.limit) for span in spans]
    largest = [min(_finite(span.max_abs), limit) for span, limit in zip(spans, limits, strict=True)]
    bad = [_bad(span) for span in spans]
    said = [_range_text(span) for span in spans]
    lines: dict[str, list[float | str | None]] = {"x": [], "y": []}
    for name, low, high in zip(names, largest, limits, strict=True):
        lines["x"] += [low, high, None]
        lines["y"] += [name, name, None]
    common = {"type": "scatter", "y": names, "hovertext": said, "hoverinfo": "text"}
    data: list[dict[str, Any]] = [
        {
            "type": "scatter", "mode": "lines", **lines, "line": {"color": theme.grid, "width": 4},
            "name": "headroom", "hoverinfo": "skip",
        },
        {
            **common, "mode": "markers", "x": largest, "name": "largest value",
            "marker": {"size": 8, "color": [theme.warn if b else theme.accent for b in bad]},
        },
        {
            **common, "mode": "markers", "x": limits, "name": "limit of the dtype",
            "marker": {"symbol": "line-ns-open", "size": 11, "color": theme.muted, "line": {"width": 2}},
        },
    ]  # fmt: skip
    labels = [f"{span.name}  <span style='color:{theme.muted}'>{span.dtype}</span>" for span in spans]
    return figure(
        theme, data, height=70 + 19 * max(len(spans), 4), showlegend=False,
        xaxis={"type": "log", "exponentformat": "power", "nticks": 8, "tickfont": POWERS},
        yaxis={
            "type": "category", "categoryorder": "array", "categoryarray": names[::-1], "tickvals": names,
            "ticktext": labels, "showgrid": False, "range": [-0.7, len(spans) - 0.3],
        },
    )  # fmt: skip


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 1e308


def _bad(span: Span) -> bool:
    return bool(span.nonfinite or span.saturated)


def _range_text(span: Span) -> str:
    lines = [
        f"<b>{span.name}</b>, {span.dtype}",
        f"largest value {digits(span.max_abs)}, limit {digits(span.limit)}",
    ]
    lines += [f"{span.nonfinite:,} values are not finite"] if span.nonfinite else []
    lines += [f"{span.saturated:,} values are saturated"] if span.saturated else []
    return "<br>".join(lines)


def heat(accuracy: Accuracy, theme: Theme) -> Figure:
    """The error of each element of T, over the sample; where it is exact, nothing stands."""
    if accuracy.heat is None:
        return empty(theme, "drawn for inverses T of one matrix a chunk")
    shown: list[list[float | None]] = []
    values: list[float] = []
    for row in accuracy.heat.tolist():
        logs = [math.log10(v) if v > 0 and math.isfinite(v) else None for v in row]
        values += [v for v in logs if v is not None]
        shown.append(logs)
    if not values:
        return empty(theme, "exact" if math.isfinite(float(accuracy.heat.sum())) else "not finite")
    low, high = min(values), max(values)
    colours = [[at / (len(theme.scale) - 1), colour] for at, colour in enumerate(theme.scale)]
    step = max(1, math.ceil((high - low) / 5))
    ticks = [float(tick) for tick in range(math.ceil(low), math.floor(high) + 1, step)] or [low]
    data = {
        "type": "heatmap", "z": shown, "colorscale": colours, "hoverongaps": False,
        "hovertemplate": "row %{y}, column %{x}<br>10<sup>%{z:.2f}</sup><extra></extra>",
        "colorbar": {
            "thickness": 10, "outlinewidth": 0, "tickvals": ticks,
            "ticktext": [f"10<sup>{t:g}</sup>" for t in ticks],
            "tickfont": {"size": 11, "color": theme.muted}, "len": 1.0,
        },
    }  # fmt: skip
    size_ = len(shown)
    axis = {
        "showgrid": False,
        "constrain": "domain",
        "tickvals": [0, size_ // 4, size_ // 2, 3 * size_ // 4, size_ - 1],
    }
    return figure(
        theme, [data], height=330, margin={"l": 55, "r": 72, "t": 17, "b": 55},
        xaxis={**axis, "title": {"text": "column"}},
        yaxis={**axis, "autorange": "reversed", "scaleanchor": "x", "title": {"text": "row"}},
    )  # fmt: skip
