"""The figures of measurements: predicted against measured, errors by kernel, busy times, and a fit."""

from __future__ import annotations

import html
import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from dashboard.figures.text import spaced, time
from dashboard.figures.theme import Figure, Theme, clear, empty, figure, mixed
from dashboard.service.calibrating import Fit, Point, Seen, Shift

MARGIN = 0.2
"""errors between minus and plus this are within the band"""
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "triangle-down", "star", "pentagon")
"""of devices"""
LINE = 24
"""pixels of a line of points"""
PARITY = 430
TIMES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
"""ratios that an axis names"""
BRIGHT = 0.6
ROOM = 1.6
"""about the points of a logarithmic axis, as a factor"""
LETTERS = 34
"""of a row's name beside a figure"""


def signed(share: float) -> str:
    """'+12 %', '−0.4 %'."""
    places = 0 if abs(share) >= 0.0995 else 1
    return f"{100 * share:+.{places}f} %".replace("-", "−")


def colours(kernels: Iterable[str], theme: Theme) -> dict[str, str]:
    """A colour for each kernel; those of the second round are nearer to the ink."""
    names = sorted(set(kernels))
    rounds = [*theme.series, *(mixed(colour, theme.ink, BRIGHT) for colour in theme.series)]
    return {name: rounds[number % len(rounds)] for number, name in enumerate(names)}


def parity(seen: Seen, theme: Theme) -> Figure:
    """Predicted against measured, both logarithmic: a colour for each kernel, a symbol for each profile."""
    points = seen.points
    paint = colours((one.kernel for one in points), theme)
    profiles = sorted({one.profile for one in points})
    ends = [value for one in points for value in (one.measured, one.predicted)]
    data = _band(ends, theme)
    for number, profile in enumerate(profiles):
        own, symbol = [one for one in points if one.profile == profile], SYMBOLS[number % len(SYMBOLS)]
        data.append(
            _points(own, [one.measured for one in own], [one.predicted for one in own], paint, symbol)
            | {"showlegend": False}
        )
        data.append(
            {
                "type": "scatter", "mode": "markers", "x": [None], "y": [None], "name": profile,
                "marker": {"symbol": symbol, "size": 9, "color": theme.muted},
            }
        )  # fmt: skip
    return figure(
        theme, data, height=PARITY, xaxis=_times("measured µs", ends), yaxis=_times("predicted µs", ends),
        showlegend=len(profiles) > 1, legend={"traceorder": "normal"},
    )  # fmt: skip


def errors(seen: Seen, theme: Theme) -> Figure:
    """The error of each row, on a line for each kernel; a bar stands at the median."""
    paint = colours((one.kernel for one in seen.points), theme)
    groups = _grouped(seen.points)
    data: list[dict[str, Any]] = []
    for number, own in enumerate(groups.values()):
        xs = [100 * one.error for one in own]
        data += [
            _points(own, xs, _spread(number, len(own)), paint, "circle"),
            _median(statistics.median(xs), number, theme),
        ]
    names = [f"{name}  <span style='color:{theme.muted}'>{len(own)}</span>" for name, own in groups.items()]
    ticks = {"range": _reach([100 * one.error for one in seen.points])}
    return _strips(data, names, theme, height=PARITY, title="error %", edges=(-20.0, 0.0, 20.0), ticks=ticks)


def busy(seen: Seen, theme: Theme) -> Figure:
    """Predicted over measured busy time of each unit, logarithmic, where a profiler gave it."""
    units: dict[str, list[tuple[Point, float]]] = {}
    for one in seen.points:
        for own in one.busy:
            if own.measured and own.predicted:
                units.setdefault(own.unit, []).append((one, own.predicted / own.measured))
    if not units:
        return empty(theme, "no profiler gave busy times of these rows")
    paint = colours((one.kernel for one in seen.points), theme)
    data: list[dict[str, Any]] = []
    for number, unit in enumerate(sorted(units)):
        rows, xs = [one for one, _ in units[unit]], [ratio for _, ratio in units[unit]]
        points = _points(rows, xs, _spread(number, len(rows)), paint, "circle")
        points["hovertext"] = [_busy_text(one, unit) for one in rows]
        data += [points, _median(statistics.median(xs), number, theme)]
    every = [ratio for found in units.values() for _, ratio in found]
    low, high = min([*every, 0.75]) / 1.1, max([*every, 1.33]) * 1.1
    named = [value for value in TIMES if low <= value <= high]
    ticks = {
        "type": "log", "range": [math.log10(low), math.log10(high)], "tickvals": named,
        "ticktext": [f"{value:g}×" for value in named], "tickangle": 0,
    }  # fmt: skip
    title = "predicted / measured"
    return _strips(data, sorted(units), theme, title=title, edges=(0.8, 1.0, 1.25), ticks=ticks, height=0)


def fit_parity(fit: Fit, theme: Theme) -> Figure:
    """Predicted against measured, before the fit (hollow) and after it."""
    ends = [one.measured * (1 + share) for one in fit.shifts for share in (0.0, one.before, one.after)]
    data = _band(ends, theme)
    xs = [one.measured for one in fit.shifts]
    before = [one.measured * (1 + one.before) for one in fit.shifts]
    after = [one.measured * (1 + one.after) for one in fit.shifts]
    data.append(
        {
            "type": "scatter", "mode": "lines", "x": [x for x in xs for _ in range(3)],
            "y": [y for pair in zip(before, after, strict=True) for y in (*pair, None)],
            "line": {"color": theme.soft, "width": 2}, "hoverinfo": "skip", "showlegend": False,
        }
    )  # fmt: skip
    data += _two(fit.shifts, xs, before, xs, after, theme)
    return figure(
        theme, data, height=PARITY, xaxis=_times("measured µs", ends), yaxis=_times("predicted µs", ends),
        legend={"traceorder": "normal"},
    )  # fmt: skip


def fit_rows(fit: Fit, theme: Theme) -> Figure:
    """The error of each row, before the fit and after it; the largest after it on top."""
    rows = sorted(fit.shifts, key=lambda one: -abs(one.after))
    lines = [number for number, _ in enumerate(rows)]
    before, after = [100 * one.before for one in rows], [100 * one.after for one in rows]
    data: list[dict[str, Any]] = [
        {
            "type": "scatter", "mode": "lines",
            "x": [x for pair in zip(before, after, strict=True) for x in (*pair, None)],
            "y": [y for line in lines for y in (line, line, None)],
            "line": {"color": theme.soft, "width": 3}, "hoverinfo": "skip", "showlegend": False,
        }
    ]  # fmt: skip
    data += _two(rows, before, lines, after, lines, theme)
    names = [_shortened(one.what) for one in rows]
    ticks = {"range": _reach([*before, *after])}
    legend = {"x": 1, "xanchor": "right", "traceorder": "normal"}
    return _strips(
        data, names, theme, height=0, title="error %", edges=(-20.0, 0.0, 20.0), ticks=ticks, legend=legend
    )


def _two(
    rows: Sequence[Shift],
    xs: Sequence[float],
    ys: Sequence[float],
    later_xs: Sequence[float],
    later_ys: Sequence[float],
    theme: Theme,
) -> list[dict[str, Any]]:
    """Points before and after a fit."""
    common = {
        "type": "scatter", "mode": "markers", "hoverinfo": "text",
        "hovertext": [
            f"<b>{html.escape(one.what)}</b><br>{html.escape(one.device)}<br>measured "
            f"{spaced(time(one.measured))}<br>{signed(one.before)} before, {signed(one.after)} after"
            f"<br>{html.escape(one.place)}"
            for one in rows
        ],
    }  # fmt: skip
    hollow = {"symbol": "circle-open", "size": 8, "color": theme.muted, "line": {"width": 1.5}}
    full = {"symbol": "circle", "size": 8, "color": theme.accent}
    return [
        {**common, "x": list(xs), "y": list(ys), "name": "before", "marker": hollow},
        {**common, "x": list(later_xs), "y": list(later_ys), "name": "after", "marker": full},
    ]


def _times(title: str, ends: Sequence[float]) -> dict[str, Any]:
    """A logarithmic axis of microseconds from the least to the largest of `ends`, with few ticks."""
    low, high = (min(ends), max(ends)) if ends else (1.0, 1e3)
    steps = (1,) if high / low > 100 else (1, 2, 5)
    ticks = [step * 10.0**power for power in range(-2, 10) for step in steps]
    shown = [tick for tick in ticks if low / ROOM <= tick <= high * ROOM]
    return {
        "type": "log", "title": {"text": title}, "tickvals": shown,
        "ticktext": [_thousands(tick) for tick in shown],
        "range": [math.log10(low / ROOM), math.log10(high * ROOM)],
    }  # fmt: skip


def _thousands(value: float) -> str:
    """'20', '5k', '1M'."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _reach(errors: Iterable[float]) -> list[float]:
    """The range of an axis of errors in percent that shows all, and the band."""
    low, high = min([-25.0, *errors]), max([25.0, *errors])
    room = 0.06 * (high - low)
    return [low - room, high + room]


def _band(ends: Sequence[float], theme: Theme) -> list[dict[str, Any]]:
    """Where prediction and measurement agree, and the band about it."""
    if not ends:
        return []
    low, high = min(ends) / ROOM, max(ends) * ROOM
    common = {
        "type": "scatter", "mode": "lines", "x": [low, high], "hoverinfo": "skip", "showlegend": False,
    }  # fmt: skip
    edge = {"width": 0}
    return [
        {**common, "y": [low * (1 - MARGIN), high * (1 - MARGIN)], "line": edge},
        {
            **common, "y": [low * (1 + MARGIN), high * (1 + MARGIN)], "line": edge, "fill": "tonexty",
            "fillcolor": clear(theme.accent, 0.1),
        },
        {**common, "y": [low, high], "line": {"color": theme.muted, "width": 1}},
    ]  # fmt: skip


def _grouped(points: Iterable[Point]) -> dict[str, list[Point]]:
    groups: dict[str, list[Point]] = {}
    for one in points:
        groups.setdefault(one.name, []).append(one)
    return dict(sorted(groups.items()))


def _points(
    rows: Sequence[Point], xs: Sequence[float], ys: Sequence[float], paint: dict[str, str], symbol: str
) -> dict[str, Any]:
    """Rows as points; those that are counted apart are hollow."""
    own = [paint[one.kernel] for one in rows]
    shapes = [f"{symbol}-open" if one.apart else symbol for one in rows]
    return {
        "type": "scatter", "mode": "markers", "x": list(xs), "y": list(ys),
        "marker": {"color": own, "symbol": shapes, "size": 9, "line": {"width": 1.5, "color": own}},
        "hovertext": [_text(one) for one in rows], "hoverinfo": "text",
    }  # fmt: skip


def _text(one: Point) -> str:
    apart = f"; apart: {one.apart}" if one.apart else ""
    return "<br>".join(
        [
            f"<b>{html.escape(one.what)}</b>",
            html.escape(f"{one.device}, {one.clock}{apart}"),
            f"measured {spaced(time(one.measured))}, predicted {spaced(time(one.predicted))}, "
            f"{signed(one.error)}",
            html.escape(f"{one.unit} {one.why}"),
            html.escape(one.place),
        ]
    )


def _busy_text(one: Point, unit: str) -> str:
    own = next(found for found in one.busy if found.unit == unit)
    return (
        f"<b>{html.escape(one.what)}</b><br>{unit} busy: measured {spaced(time(own.measured))}, predicted "
        f"{spaced(time(own.predicted))}<br>{html.escape(one.place)}"
    )


def _median(x: float, number: int, theme: Theme) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "lines", "x": [x, x], "y": [number - 0.34, number + 0.34],
        "line": {"color": theme.ink, "width": 2}, "hoverinfo": "skip",
    }  # fmt: skip


def _spread(line: int, count: int) -> list[float]:
    """Heights about a line at which points do not hide each other: the golden ratio leaves no pattern."""
    return [line if count == 1 else line + ((0.5 + i * 0.618034) % 1 - 0.5) * 0.5 for i in range(count)]


def _strips(
    data: list[dict[str, Any]],
    names: Sequence[str],
    theme: Theme,
    *,
    height: int,
    title: str,
    edges: tuple[float, float, float],
    ticks: dict[str, Any],
    legend: dict[str, Any] | None = None,
) -> Figure:
    """Points on a line for each name, the first on top, with the band between the outer `edges`."""
    low, middle, high = edges
    shapes: list[dict[str, Any]] = [
        {
            "type": "rect", "x0": low, "x1": high, "y0": 0, "y1": 1, "yref": "paper", "layer": "below",
            "line": {"width": 0}, "fillcolor": clear(theme.accent, 0.1),
        },
        {
            "type": "line", "x0": middle, "x1": middle, "y0": 0, "y1": 1, "yref": "paper", "layer": "below",
            "line": {"color": theme.muted, "width": 1},
        },
    ]  # fmt: skip
    return figure(
        theme, data, height=max(height, 76 + LINE * max(len(names), 4)), shapes=shapes,
        showlegend=legend is not None, legend=legend or {},
        xaxis={"title": {"text": title}, **ticks},
        yaxis={
            "tickvals": list(range(len(names))), "ticktext": list(names),
            "range": [len(names) - 0.4, -0.6],
        },
    )  # fmt: skip


def _shortened(text: str) -> str:
    """A row's name that leaves room for its figure."""
    return html.escape(text if len(text) <= LETTERS else f"{text[: LETTERS - 1]}…")
