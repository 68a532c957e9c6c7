"""The figures of many points: parallel coordinates, a front, a grid of cells."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from dashboard.figures.text import digits
from dashboard.figures.theme import Figure, Theme, clear, empty, figure
from dashboard.service.points import Cells, Column, Points, Scale, text_of

MOST_AXES = 10
"""axes of parallel coordinates"""
TICKS = (1, 2, 5)
"""of a decade"""
SERIES = 8
"""groups that have a colour of their own"""
LETTERS = 15
"""of the name of an axis"""
HEIGHT = 340
WRITTEN = 150
"""cells up to which each says its value"""
LETTER = 6.4
"""pixels of a letter of an axis"""
APART = 0.4
"""decades between zero and the first number beside it"""
EDGE = 0.05
"""room beside the outermost points, as a share of an axis"""


def axes(points: Points) -> list[str]:
    """The columns that parallel coordinates have: what varies, then the figures that matter most."""
    figures = [
        n for n in ("time_us", "cost", "relative_error", "utilisation", "hbm_bytes") if n in _main(points)
    ]
    settings = points.varied[: MOST_AXES - min(len(figures), 3)]
    return [*settings, *figures][:MOST_AXES]


def _main(points: Points) -> list[str]:
    return [name for name in points.axes if points.columns[name].numeric]


def parallel(points: Points, theme: Theme, brush: Mapping[str, Sequence[Sequence[float]]]) -> Figure:
    """A line for each point through all axes, coloured by the last setting's figure: its time. What has no
    figure on an axis is left out."""
    names = axes(points)
    if len(names) < 2:
        return empty(theme, "nothing varies")
    found = {name: points.coordinates(name) for name in names}
    there = [n for n in range(len(points)) if all(math.isfinite(own[n]) for own in found.values())]
    if not there:
        return empty(theme, "no point has all figures")
    hue = next((name for name in ("time_us", "cost", "relative_error") if name in found), names[-1])
    own = [found[hue][n] for n in there]
    line = {
        "color": own, "colorscale": _colours(theme, 2), "cmin": min(own), "cmax": max(own),
        "colorbar": _bar(points.scale(hue), own, theme),
    }  # fmt: skip
    dimensions = []
    for name in names:
        scale, column = points.scale(name), points.columns[name]
        values = [found[name][n] for n in there]
        ticks = _ticks(scale, values)
        low, high = min(values), max(values)
        room = (high - low) * EDGE or 0.5
        dimensions.append({
            "label": html.escape(_short(column.title)), "values": values, "range": [low - room, high + room],
            "tickvals": [at for at, _ in ticks], "ticktext": [_short(text) for _, text in ticks],
            "name": name,
            **({"constraintrange": _spans(brush[name])} if brush.get(name) else {}),
        })  # fmt: skip
    data = {
        "type": "parcoords", "line": line, "dimensions": dimensions, "labelside": "top",
        "labelfont": {"size": 11.5, "color": theme.ink}, "tickfont": {"size": 10.5, "color": theme.muted},
        "rangefont": {"size": 1, "color": "rgba(0,0,0,0)"},
        "unselected": {"line": {"color": theme.line, "opacity": 0.25}},
    }  # fmt: skip
    first = max((len(text) for text in dimensions[0]["ticktext"]), default=0)
    beside = max(LETTER * first + 14, LETTER * len(_short(points.columns[names[0]].title)) / 2 + 8)
    return figure(theme, [data], height=HEIGHT, margin={"l": beside, "r": 16, "t": 40, "b": 14})


def _spans(spans: Sequence[Sequence[float]]) -> Any:
    return [list(span) for span in spans] if len(spans) > 1 else list(spans[0])


def _short(text: str) -> str:
    """The end of a path, or as much of a text as there is room for."""
    if len(text) <= LETTERS:
        return text
    end = text.rpartition(".")[2]
    return end if end != text and len(end) <= LETTERS else f"{text[: LETTERS - 1]}…"


def _colours(theme: Theme, start: int) -> list[list[Any]]:
    """The theme's scale, without its faintest end, that all can be seen."""
    own = theme.scale[start:]
    return [[at / (len(own) - 1), colour] for at, colour in enumerate(own)]


def _ticks(scale: Scale, values: Sequence[float]) -> list[tuple[float, str]]:
    """Coordinates and what stands at them."""
    if scale.kind == "names":
        there = sorted(set(values))
        step = max(1, math.ceil(len(there) / 14))
        return [(at, scale.names[int(at)]) for at in there[::step]]
    low, high = min(values), max(values)
    if scale.values:
        named = [(scale.at(value), text_of(value)) for value in scale.values]
        return [(at, text) for at, text in named if low <= at <= high]
    if scale.kind == "log":
        return _logarithms(scale, low, high)
    apart = _step(high - low)
    if not apart:
        return [(low, digits(low))]
    places = range(math.ceil(low / apart), math.floor(high / apart) + 1)
    return [(place * apart, _tick(place * apart)) for place in places]


def _tick(value: float) -> str:
    """A round number, without zeros behind the point; large ones with a prefix."""
    for limit, sign in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            scale = {"G": 1e9, "M": 1e6, "k": 1e3}[sign]
            return f"{value / scale:.6g}{sign}"
    return f"{value:,.6g}"


def _logarithms(scale: Scale, low: float, high: float) -> list[tuple[float, str]]:
    """Those of a logarithm, and of zero where it has a place beside them."""
    zero = math.log10(scale.low) if scale.zero else -math.inf
    if low > zero:
        return _decades(low, high)
    return [(zero, "0"), *[(at, text) for at, text in _decades(low, high) if at > zero + APART]]


def _decades(low: float, high: float) -> list[tuple[float, str]]:
    """Ticks of a logarithm: at 1, 2 and 5 while there is room, else at some powers of ten."""
    steps: Sequence[int] = TICKS if high - low < 2.2 else (1,)
    every = max(1, math.ceil((high - low) / 7))
    small = low < -3
    found = [
        (power + math.log10(step), f"{step}e{power}" if small and power < 0 else _tick(step * 10.0**power))
        for power in range(math.floor(low), math.ceil(high) + 1, every)
        for step in steps
    ]
    return [(at, text) for at, text in found if low - 1e-9 <= at <= high + 1e-9]


def _step(span: float) -> float:
    """A round step that cuts a span into some five."""
    if span <= 0:
        return 0.0
    rough = span / 5
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * by for by in (1, 2, 2.5, 5, 10) if power * by >= rough)


def _bar(scale: Scale, values: Sequence[float], theme: Theme) -> dict[str, Any]:
    ticks = _ticks(scale, values)
    return {
        "thickness": 8, "outlinewidth": 0, "len": 1, "tickvals": [at for at, _ in ticks],
        "ticktext": [text for _, text in ticks], "tickfont": {"size": 10, "color": theme.muted},
    }  # fmt: skip


# --- the front -----------------------------------------------------------------------------------


def front(points: Points, x: str, y: str, theme: Theme, chosen: str = "") -> Figure:
    """Each point by two columns, those on top that no other beats in both. `chosen`: a point with a ring."""
    if not (x and y):
        return empty(theme, "no point has figures yet")
    across, down = points.coordinates(x), points.coordinates(y)
    keys = [row.key for row in points.rows]
    there = [n for n in range(len(keys)) if math.isfinite(across[n]) and math.isfinite(down[n])]
    if not there:
        return empty(theme, "no point has both figures")
    best = points.front(x, y)
    place = {key: n for n, key in enumerate(keys)}
    said = _hovers(points)
    groups = _groups(points)
    data: list[dict[str, Any]] = []
    edge = [place[key] for key in best]
    if len(edge) > 1:  # from the best across: up to the next point none is better than this one
        data.append({
            "type": "scatter", "mode": "lines", "x": [across[n] for n in edge], "y": [down[n] for n in edge],
            "line": {"color": theme.muted, "width": 1.2, "shape": "hv", "dash": "dot"},
            "hoverinfo": "skip", "showlegend": False,
        })  # fmt: skip
    on = set(best)
    for number, (group, members) in enumerate(groups):
        name = html.escape(group)
        colour = theme.series[number % len(theme.series)] if len(groups) > 1 else theme.accent
        own = [n for n in members if math.isfinite(across[n]) and math.isfinite(down[n])]
        data.append({
            "type": "scatter", "mode": "markers", "name": name, "x": [across[n] for n in own],
            "y": [down[n] for n in own], "customdata": [keys[n] for n in own],
            "hovertext": [said[n] for n in own], "hoverinfo": "text", "showlegend": False,
            "marker": {
                "size": [10 if keys[n] in on else 7 for n in own],
                "color": [colour if keys[n] in on else clear(colour, 0.45) for n in own],
                "line": {"width": [1.2 if keys[n] in on else 0 for n in own], "color": theme.card},
            },
        })  # fmt: skip
        if len(groups) > 1:  # the legend has the colour itself
            data.append({
                "type": "scatter", "mode": "markers", "name": name, "x": [None], "y": [None],
                "marker": {"size": 7, "color": colour}, "hoverinfo": "skip",
            })  # fmt: skip
    if chosen in place and math.isfinite(across[place[chosen]]) and math.isfinite(down[place[chosen]]):
        ring = {"symbol": "circle-open", "size": 17, "color": theme.ink, "line": {"width": 2}}
        data.append({
            "type": "scatter", "mode": "markers", "x": [across[place[chosen]]], "y": [down[place[chosen]]],
            "marker": ring, "hoverinfo": "skip", "showlegend": False,
        })  # fmt: skip
    return figure(
        theme, data, height=HEIGHT + 30, hovermode="closest", xaxis=_axis(points, x, across),
        yaxis=_axis(points, y, down), margin={"l": 8, "r": 14, "t": 26, "b": 8},
    )  # fmt: skip


def _groups(points: Points) -> list[tuple[str, list[int]]]:
    """The points by the first setting in words that varies, where it has few values; else all together."""
    for name in points.whole.varied:
        scale = points.scale(name)
        if scale.kind == "names" and 1 < len(scale.names) <= SERIES:
            cells = points.texts(name)
            return [(one, [n for n, cell in enumerate(cells) if cell == one]) for one in scale.names]
    return [("points", list(range(len(points))))]


def _axis(points: Points, name: str, values: Sequence[float]) -> dict[str, Any]:
    own = [value for value in values if math.isfinite(value)]
    ticks = _ticks(points.scale(name), own)
    low, high = min(own), max(own)
    room = (high - low) * EDGE or 0.5
    return {
        "title": {"text": html.escape(points.columns[name].title)}, "range": [low - room, high + room],
        "tickvals": [at for at, _ in ticks], "ticktext": [text for _, text in ticks],
    }  # fmt: skip


def _hovers(points: Points) -> list[str]:
    """Of each point all settings that vary, and the figures."""
    columns = points.telling
    cells = [points.texts(one.name) for one in columns]
    return [
        "<br>".join(_said(one, text) for one, text in zip(columns, line, strict=True) if text != "—")
        for line in zip(*cells, strict=True)
    ]


def _said(column: Column, text: str) -> str:
    """A column and its value, as plotly's text has them: a store may hold any letters."""
    return f"{html.escape(column.label)} <b>{html.escape(_value(column, text))}</b>"


def _value(column: Column, text: str) -> str:
    return f"{text} {column.unit}" if column.unit else text


# --- cells ---------------------------------------------------------------------------------------


def heat(cells: Cells, points: Points, theme: Theme) -> Figure:
    """A cell for each pair of two settings, coloured by the best or the mean of the points behind it."""
    scale = points.scale(cells.value.name)
    shown = [[None if v is None else scale.at(v) for v in row] for row in cells.values]
    flat = [v for row in shown for v in row if v is not None and math.isfinite(v)]
    if not flat:
        return empty(theme, "no point has this figure")
    across, down = ([html.escape(text) for text in own] for own in (cells.xs, cells.ys))
    said = [[_cell(cells, r, c) for c in range(len(cells.xs))] for r in range(len(cells.ys))]
    written = len(cells.xs) * len(cells.ys) <= WRITTEN and len(cells.xs) <= 12
    text = [["" if v is None else digits(v) for v in row] for row in cells.values]
    data = {
        "type": "heatmap", "z": shown, "x": across, "y": down,
        "colorscale": _colours(theme, 0),
        "zmin": min(flat), "zmax": max(flat), "xgap": 2, "ygap": 2, "hoverongaps": False,
        "customdata": [list(row) for row in cells.keys], "hovertext": said, "hoverinfo": "text",
        "colorbar": _bar(scale, flat, theme),
        **({"text": text, "texttemplate": "%{text}", "textfont": {"size": 11}} if written else {}),
    }  # fmt: skip
    kind = {"type": "category", "showgrid": False, "categoryorder": "array"}
    return figure(
        theme, [data], height=HEIGHT + 30, margin={"l": 8, "r": 8, "t": 26, "b": 8},
        xaxis={**kind, "categoryarray": across, "title": {"text": html.escape(cells.x.title)}},
        yaxis={**kind, "categoryarray": down, "title": {"text": html.escape(cells.y.title)}},
    )  # fmt: skip


def _cell(cells: Cells, row: int, place: int) -> str:
    value, count = cells.values[row][place], cells.counts[row][place]
    if value is None:
        return ""
    how = "" if count == 1 else f", {cells.how} of {count:,} points"
    return (
        f"{_said(cells.x, cells.xs[place])}, {_said(cells.y, cells.ys[row])}"
        f"<br>{_said(cells.value, digits(value))}{how}"
    )
