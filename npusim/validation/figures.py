"""Pictures of a validation: pure functions from what was found to a figure.

Colours of text and lines are a neutral grey on a transparent ground; who shows a figure may set them.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

import plotly.graph_objects as go

from npusim.shares import signed
from npusim.validation.labels import CLOCKS, device, what
from npusim.validation.validate import Row, Validation, kernel_name, microseconds

T = TypeVar("T")

PALETTE = (
    "#3b82d9", "#e07b39", "#2fa37c", "#b65fc4", "#d1495b", "#8a9a2b", "#17a2b8", "#c98b1d", "#6d6fd8",
    "#a0685a", "#6fb53b", "#d36fa3",
)  # fmt: skip
"""colours of kernels, legible on white and on black; the first again after the last"""
SYMBOLS = (
    "circle", "square", "diamond", "triangle-up", "cross", "triangle-down", "star", "pentagon", "hexagon",
)  # fmt: skip
"""of devices"""
GREY, FAINT = "#808080", "rgba(128,128,128,0.25)"
MARGIN = 0.2
"""errors between minus and plus this are marked"""
TIMES = (0.5, 0.6, 0.8, 1, 1.2, 1.5, 2)
"""ratios that an axis of ratios names, with their tenfold"""


class Move(NamedTuple):
    """A row before and after a fit, errors signed and relative to measured; `text`: what it is."""

    kernel: str
    device: str
    text: str
    measured: float
    before: float
    after: float


def parity(found: Validation) -> go.Figure:
    """Predicted against measured time, both logarithmic: a colour per kernel, a symbol per device."""
    rows = found.rows
    figure = _square([value for row in rows for value in (row.case.row.time_us, row.predicted_us)])
    colours, symbols = _colours(rows), _symbols(rows)
    for kernel, alike in _groups(rows, lambda row: row.case.row.kernel).items():
        xs, ys = [row.case.row.time_us for row in alike], [row.predicted_us for row in alike]
        figure.add_trace(_points(alike, xs, ys, colours, symbols, kernel))
    _legend(figure, colours, symbols)
    return figure


def moves(rows: Sequence[Move]) -> go.Figure:
    """Predicted against measured time, both logarithmic, before a fit (hollow) and after it."""
    figure = _square([one.measured * (1 + share) for one in rows for share in (0.0, one.before, one.after)])
    for number, (kernel, alike) in enumerate(_groups(rows, lambda one: one.kernel).items()):
        colour = PALETTE[number % len(PALETTE)]
        xs, steps = [one.measured for one in alike], [(one.before, one.after) for one in alike]
        ends = [[x * (1 + share) for share in pair] for x, pair in zip(xs, steps, strict=True)]
        said = [
            f"<b>{html.escape(one.text)}</b><br>{html.escape(one.device)}<br>measured "
            f"{microseconds(one.measured)} us<br>{signed(one.before)} before, {signed(one.after)} after"
            for one in alike
        ]
        name = html.escape(kernel)
        figure.add_scatter(
            x=[x for x in xs for _ in range(3)], y=[y for pair in ends for y in (*pair, None)], mode="lines",
            line={"color": colour, "width": 1}, hoverinfo="skip", showlegend=False, legendgroup=name,
        )  # fmt: skip
        for place, symbol in enumerate(("circle-open", "circle")):
            figure.add_scatter(
                x=xs, y=[pair[place] for pair in ends], mode="markers", name=name, legendgroup=name,
                marker={"color": colour, "symbol": symbol, "size": 9}, showlegend=place == 1, text=said,
                hovertemplate="%{text}<extra></extra>",
            )  # fmt: skip
    return figure


def errors(found: Validation) -> go.Figure:
    """The error of every row in percent, signed, on a line per kernel; a bar stands at the median."""
    groups = _groups(found.rows, kernel_name)
    figure = _strips("error %: predicted against measured", list(groups))
    for edge in (-MARGIN, MARGIN):
        figure.add_vline(x=100 * edge, line={"color": GREY, "width": 1, "dash": "dot"})
    figure.add_vline(x=0, line={"color": GREY, "width": 1})
    colours, symbols = _colours(found.rows), _symbols(found.rows)
    for number, (name, rows) in enumerate(groups.items()):
        xs = [100 * row.error for row in rows]
        figure.add_trace(_points(rows, xs, _spread(number, len(rows)), colours, symbols, name))
        _median(figure, xs, number)
    return figure


def busy(found: Validation) -> go.Figure:
    """Predicted over measured busy time of units where a profiler gave it, logarithmic, a line per unit."""
    points: dict[str, list[tuple[Row, float, str]]] = {}
    for row in found.rows:
        for column, (measured, predicted) in row.busy.items():
            if predicted and measured:
                unit = row.found.units[column]
                text = f"{unit}: {_against(measured, predicted)}"
                points.setdefault(unit, []).append((row, predicted / measured, text))
    units = sorted(points)
    figure = _strips("busy time: predicted / measured", units)
    figure.add_vline(x=1, line={"color": GREY, "width": 1})
    ratios = [ratio for seen in points.values() for _, ratio, _ in seen]
    figure.update_xaxes(type="log", **_ratio_ticks(ratios))
    colours, symbols = _colours(found.rows), _symbols(found.rows)
    for number, unit in enumerate(units):
        rows, xs = [row for row, *_ in points[unit]], [ratio for _, ratio, _ in points[unit]]
        said = [text for *_, text in points[unit]]
        figure.add_trace(_points(rows, xs, _spread(number, len(rows)), colours, symbols, unit, said))
        _median(figure, xs, number)
    return figure


# --- parts -----------------------------------------------------------------------------------


def _figure(x: str, y: str, height: int) -> go.Figure:
    axis = {"gridcolor": FAINT, "zeroline": False, "linecolor": GREY, "automargin": True}
    return go.Figure(
        layout={
            "template": "none", "height": height,
            "font": {"color": GREY, "size": 13, "family": "system-ui, sans-serif"},
            "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)",
            "margin": {"l": 60, "r": 20, "t": 36, "b": 50}, "hoverlabel": {"align": "left"},
            "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": GREY, "activecolor": GREY},
            "xaxis": axis | {"title": {"text": x}}, "yaxis": axis | {"title": {"text": y}},
        }
    )  # fmt: skip


def _square(ends: Sequence[float]) -> go.Figure:
    """An empty figure of predicted against measured times, with lines where they agree; `ends`: all times."""
    figure = _figure("measured us", "predicted us", 560)
    figure.update_xaxes(type="log", exponentformat="power", dtick=1)
    figure.update_yaxes(type="log", exponentformat="power", dtick=1)
    if not ends:
        return figure
    low, high = min(ends) / 1.6, max(ends) * 1.6
    for factor, dash in ((1.0, "solid"), (1 - MARGIN, "dot"), (1 + MARGIN, "dot")):
        line = {"color": GREY, "width": 1, "dash": dash}
        ys = [factor * low, factor * high]
        figure.add_scatter(x=[low, high], y=ys, mode="lines", line=line, hoverinfo="skip", showlegend=False)
    return figure


def _strips(x: str, names: Sequence[str]) -> go.Figure:
    """An empty figure with a line per name, the first on top."""
    figure = _figure(x, "", 110 + 34 * max(1, len(names)))
    figure.update_yaxes(
        tickvals=list(range(len(names))), ticktext=list(names), range=[len(names) - 0.5, -0.5],
        ticklabelstandoff=6,
    )  # fmt: skip
    figure.update_layout(showlegend=False)
    return figure


def _points(
    rows: Sequence[Row],
    xs: Sequence[float],
    ys: Sequence[float],
    colours: dict[str, str],
    symbols: dict[str, str],
    name: str,
    said: Sequence[str] = (),
) -> go.Scatter:
    """Rows as points, those that are apart hollow; `said`: a line more for each."""
    lines = said or [""] * len(rows)
    kernels = [row.case.row.kernel for row in rows]
    shapes = [symbols[row.machine.name] + ("-open" if row.apart else "") for row in rows]
    paint = [colours[kernel] for kernel in kernels]
    marker = {"color": paint, "symbol": shapes, "size": 10, "line": {"width": 1.5, "color": paint}}
    return go.Scatter(
        x=list(xs), y=list(ys), mode="markers", marker=marker, name=html.escape(name),
        legendgroup=html.escape(name), showlegend=False, hovertemplate="%{text}<extra></extra>",
        text=[_hover(row, line) for row, line in zip(rows, lines, strict=True)],
    )  # fmt: skip


def _hover(row: Row, said: str) -> str:
    measured = row.case.row
    unit, why, _ = row.culprit
    lines = [
        what(row),
        f"{device(row)}, {CLOCKS[measured.clock]}" + (f"; apart: {row.apart}" if row.apart else ""),
        f"{_against(measured.time_us, row.predicted_us)}, {signed(row.error)}",
        said or f"{unit} {why}",
        measured.place,
    ]
    first, *rest = (html.escape(line) for line in lines)
    return "<br>".join([f"<b>{first}</b>", *rest])


def _against(measured: float, predicted: float) -> str:
    return f"measured {microseconds(measured)} us, predicted {microseconds(predicted)} us"


def _legend(figure: go.Figure, colours: dict[str, str], symbols: dict[str, str]) -> None:
    """An entry per kernel, which shows and hides it, and one per device."""

    def entry(title: str, group: str, name: str, colour: str, symbol: str) -> None:
        figure.add_scatter(
            x=[None], y=[None], mode="markers", name=html.escape(name), legendgroup=html.escape(group),
            marker={"color": colour, "symbol": symbol, "size": 10}, legendgrouptitle={"text": title},
        )  # fmt: skip

    for number, (name, colour) in enumerate(colours.items()):
        entry("" if number else "kernel", name, name, colour, "circle")
    for number, (name, symbol) in enumerate(symbols.items()):
        entry("" if number else "device", f"device {name}", name, GREY, symbol)
    figure.update_layout(legend={"tracegroupgap": 0, "itemsizing": "constant"})


def _median(figure: go.Figure, xs: Sequence[float], number: int) -> None:
    middle = sorted(xs)
    at = (middle[(len(xs) - 1) // 2] + middle[len(xs) // 2]) / 2
    ends = [number - 0.32, number + 0.32]
    line = {"color": GREY, "width": 3}
    figure.add_scatter(x=[at, at], y=ends, mode="lines", line=line, hoverinfo="skip", showlegend=False)


def _spread(line: int, count: int) -> list[float]:
    """Heights around a line at which points do not hide each other: the golden ratio leaves no pattern."""
    return [line if count == 1 else line + ((0.5 + i * 0.618034) % 1 - 0.5) * 0.5 for i in range(count)]


def _ratio_ticks(ratios: Iterable[float]) -> dict[str, list[float] | list[str]]:
    ratios = [*ratios, 0.8, 1.25]
    low, high = min(ratios) / 1.1, max(ratios) * 1.1
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    ticks = sorted({round(one * 10.0**d, 9) for d in decades for one in (1, 2, 5)} | set(TIMES))
    shown = [tick for tick in ticks if low <= tick <= high]
    return {
        "tickvals": shown, "ticktext": [f"{tick:g}" for tick in shown],
        "range": [math.log10(low), math.log10(high)],
    }  # fmt: skip


def _groups(rows: Iterable[T], key: Callable[[T], str]) -> dict[str, list[T]]:
    groups: dict[str, list[T]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return dict(sorted(groups.items()))


def _colours(rows: Iterable[Row]) -> dict[str, str]:
    names = sorted({row.case.row.kernel for row in rows})
    return {name: PALETTE[number % len(PALETTE)] for number, name in enumerate(names)}


def _symbols(rows: Iterable[Row]) -> dict[str, str]:
    names = sorted({row.machine.name for row in rows})
    return {name: SYMBOLS[number % len(SYMBOLS)] for number, name in enumerate(names)}
