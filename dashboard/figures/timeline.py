"""The figures of a timeline: bars or a heat map of what is in view, and the whole run above them."""

from __future__ import annotations

from typing import Any

import numpy as np

from dashboard.figures.text import cycles, escaped, percent, size, spaced, time
from dashboard.figures.theme import Figure, Theme, clear, empty, figure, mixed
from dashboard.service.operation import Fact, Other
from dashboard.service.run import Bars, Heat, Lane, Run, Stage, Window
from dashboard.service.timeline import View

KINDS = ("mac", "vec", "mte2", "mte1", "fixpipe", "mte3", "scalar")
"""units by what they do, in the order of a theme's series"""
PARTED = 160
"""bars up to which there is a line between two that touch"""
WIDTH, LETTER = 700, 6.2
"""pixels of the figure, at least, and of a letter"""
FADED = 0.42
"""how much is left of the colour of what has nothing to do with the chosen operation"""
LEAST_SHOWN = 0.004
"""the share of the overview that the view takes at least, so that it is seen"""
OVERVIEW = 118
ARROWS = {"read": (0, "solid"), "stream": (0, "dot"), "reuse": (2, "dash"), "drain": (3, "dash")}
"""of each kind of dependence: the colour of the series, and the dash"""


def colour_of(kind: str, theme: Theme) -> str:
    """The colour of a unit, the same on all cores."""
    if kind == "scalar" or kind not in KINDS:
        return theme.muted
    return theme.series[(0, 1, 2, 3, 4, 5)[KINDS.index(kind)]]


def _row(lanes: int) -> int:
    """Pixels of a row."""
    return 38 if lanes <= 6 else 27 if lanes <= 13 else 20 if lanes <= 26 else 14


def drawn(view: View, theme: Theme, again: str = "") -> Figure:
    """What is in view. A figure that a person moved stays so until the view or `again` changes."""
    if not view.lanes:
        return empty(theme, "no unit of these core groups works in this run")
    found = _bars(view, theme) if view.bars is not None else _heat(view, theme)
    found["layout"]["uirevision"] = f"{view.window.start} {view.window.end} {view.frame.cores} {again}"
    return found


def _layout(view: View, lanes: tuple[Lane, ...], theme: Theme) -> dict[str, Any]:
    """Time along, a row for each lane, the first on top."""
    count = len(lanes)
    several = len({lane.group for lane in lanes}) > 1
    names = [f"{lane.group} · {lane.name}" if several else lane.name for lane in lanes]
    lines = [
        _line(theme.line, count - n - 0.5) for n in range(1, count) if lanes[n].group != lanes[n - 1].group
    ]
    marks = [
        {**_line(theme.muted), "x0": stage.start, "x1": stage.start, "y0": 0, "y1": 1, "yref": "paper"}
        for stage in view.run.stages[1:]
        if stage.end > stage.start
    ]
    titles = [
        {
            "x": stage.start, "y": 1, "yref": "paper", "yanchor": "bottom", "xanchor": "left",
            "text": escaped(stage.name), "showarrow": False, "font": {"size": 10.5, "color": theme.muted},
        }
        for stage in view.run.stages
        if len(view.run.stages) > 1 and _has_room(stage, view.window)
    ]  # fmt: skip
    return {
        "height": 62 + _row(count) * count, "dragmode": "pan", "hovermode": "closest", "showlegend": False,
        "shapes": lines + marks, "annotations": titles,
        "margin": {"l": 8, "r": 12, "t": 18, "b": 8},
        "xaxis": {
            "range": [view.window.start, view.window.end], "ticksuffix": "", "nticks": 10,
            "tickformat": f",.{decimals(view.window.width)}f", "title": {"text": "µs"},
            "showline": True, "ticks": "",
        },
        "yaxis": {
            "range": [-0.6, count - 0.4], "fixedrange": True, "showgrid": False, "ticks": "",
            "tickfont": {"size": 11 if _row(count) > 14 else 10, "color": theme.muted},
            "tickvals": [count - 1 - n for n in range(count)], "ticktext": names,
        },
    }  # fmt: skip


def _has_room(stage: Stage, window: Window) -> bool:
    """Whether a phase begins in view, and its name stands there beside no other."""
    room = (min(stage.end, window.end) - stage.start) / window.width * WIDTH
    return window.start <= stage.start and room > LETTER * len(stage.name)


def decimals(width: float) -> int:
    """Of a time in microseconds, that tells apart what stands in a window of so many."""
    places = 0
    while width < 20 and places < 4:
        width, places = width * 10, places + 1
    return places


def _line(colour: str, y0: float = 0.0) -> dict[str, Any]:
    """A dotted line across, or (at 0) one to be put upright."""
    return {
        "type": "line", "x0": 0, "x1": 1, "xref": "paper" if y0 else "x", "y0": y0, "y1": y0,
        "line": {"color": colour, "width": 1, "dash": "dot"},
    }  # fmt: skip


# --- bars ----------------------------------------------------------------------------------------


def _bars(view: View, theme: Theme) -> Figure:
    bars = view.bars
    assert bars is not None
    top = len(view.lanes) - 1
    rows = [top - lane for lane in bars.lane.tolist()]
    colours = [colour_of(lane.kind, theme) for lane in view.lanes]
    places = [str(place) for place in bars.places]
    near = _near(view, places)
    bright = [near is None or place in near for place in places]
    parted = 0.8 if len(rows) <= PARTED else 0
    faded = [mixed(colour, theme.card, FADED) for colour in colours]
    fill = [(colours if one else faded)[lane] for lane, one in zip(bars.lane.tolist(), bright, strict=True)]
    ink = [theme.card if one else theme.ink for one in bright]
    data = [
        _tails(bars, rows, theme),
        {
            "type": "bar", "orientation": "h", "base": bars.start.tolist(),
            "x": (bars.end - bars.start).tolist(), "y": rows, "width": 0.72,
            "marker": {"color": fill, "line": {"color": theme.card, "width": parted}},
            "customdata": places, "hovertext": _hovers(view, bars), "hoverinfo": "text",
            "text": _names(view, bars), "textposition": "inside", "insidetextanchor": "middle",
            "constraintext": "none", "textangle": 0, "textfont": {"size": 10, "color": ink},
        },
        *_arrows(view, theme),
    ]  # fmt: skip
    return figure(theme, data, barmode="overlay", **_layout(view, view.lanes, theme))


def _names(view: View, bars: Bars) -> list[str]:
    """Of each bar, where it is wide enough for it."""
    room = (bars.end - bars.start) / view.window.width * WIDTH / LETTER
    return [
        escaped(fact.name) if len(fact.name) < letters else ""
        for fact, letters in zip(bars.facts, room.tolist(), strict=True)
    ]


def _near(view: View, places: list[str]) -> set[str] | None:
    """The chosen operation and those at the other ends of its dependences, where it is shown."""
    chosen = view.chosen
    if chosen is None or str(chosen.place) not in places:
        return None
    return {str(chosen.place), *(str(one.place) for one in (*chosen.before, *chosen.after))}


def _tails(bars: Bars, rows: list[int], theme: Theme) -> dict[str, Any]:
    """From the end of an operation on its unit to when its result is visible."""
    xs: list[float | None] = []
    ys: list[float | None] = []
    for row, end, done in zip(rows, bars.end.tolist(), bars.done.tolist(), strict=True):
        if done > end:
            xs += [end, done, None]
            ys += [row - 0.42, row - 0.42, None]
    return {
        "type": "scatter", "mode": "lines", "x": xs, "y": ys, "hoverinfo": "skip",
        "line": {"color": clear(theme.muted, 0.6), "width": 1.5},
    }  # fmt: skip


def _hovers(view: View, bars: Bars) -> list[str]:
    fixed = {id(fact): _fixed(fact) for fact in bars.facts}
    lanes = [lane.name if lane.group is None else f"core {lane.group} {lane.name}" for lane in view.lanes]
    places = max(2, decimals(view.window.width) + 1)
    return [
        f"<b>{escaped(fact.name)}</b> · {lanes[lane]}<br>{fixed[id(fact)]}"
        f"<br>{start:,.{places}f} to {end:,.{places}f} µs, {cycles(count)} cycles, visible "
        f"{cycles(later)} later<br>waited last for {escaped(wait(waited))}"
        for fact, lane, start, end, count, later, waited in zip(
            bars.facts, bars.lane.tolist(), bars.start.tolist(), bars.end.tolist(), bars.cycles.tolist(),
            np.round((bars.done - bars.end) * view.run.scale, 3).tolist(), bars.waited, strict=True,
        )
    ]  # fmt: skip


def _fixed(fact: Fact) -> str:
    text = escaped(fact.text.replace("<-", "←").replace("<~", "⇠"))
    said = amount(fact)
    return f"{text}<br>{said}" if said else text


def wait(waited: str) -> str:
    """What an operation waited for, in a sentence."""
    if waited == "unit":
        return "its unit, which was busy"
    return waited.replace("issue", "its issue", 1) if waited.startswith("issue") else waited


def amount(fact: Fact) -> str:
    """How much an operation does: '8 KiB, through HBM 8 KiB', 'product of 64 × 64 × 64'."""
    parts = []
    if fact.product:
        some = ", of its non-zero fractals" if fact.masked else ""
        parts.append(f"product of {' × '.join(map(str, fact.product))}{some}")
    if fact.bytes:
        parts.append(size(fact.bytes))
    if fact.elements:
        parts.append(f"{fact.elements:,} elements")
    if fact.through:
        parts.append(
            ", ".join(f"{size(count)} through {pool.upper()}" for pool, count in fact.through.items())
        )
    if fact.instructions != 1:
        parts.append(f"{fact.instructions:,} instructions")
    return " · ".join(parts)


# --- dependences -----------------------------------------------------------------------------------


def _arrows(view: View, theme: Theme) -> list[dict[str, Any]]:
    """From what the chosen operation waits for to it, and from it to what waits for it."""
    chosen, top = view.chosen, len(view.lanes) - 1
    rows = {(lane.core, lane.group, lane.unit): top - n for n, lane in enumerate(view.lanes)}
    if chosen is None or chosen.unit not in rows:
        return []
    own, scale = rows[chosen.unit], chosen.scale
    found = [
        _arrow(one, (one.end / scale, rows[one.unit]), (chosen.start / scale, own), theme)
        for one in chosen.before
        if one.unit in rows
    ]
    found += [
        _arrow(one, (chosen.end / scale, own), (one.start / scale, rows[one.unit]), theme)
        for one in chosen.after
        if one.unit in rows
    ]
    start, end = chosen.start / scale, chosen.end / scale
    outline = {
        "type": "scatter", "mode": "lines", "hoverinfo": "skip",
        "x": [start, end, end, start, start], "y": [own + d for d in (-0.4, -0.4, 0.4, 0.4, -0.4)],
        "line": {"color": theme.ink, "width": 2},
    }  # fmt: skip
    return [outline, *found]


def _arrow(one: Other, tail: tuple[float, int], head: tuple[float, int], theme: Theme) -> dict[str, Any]:
    series, dash = ARROWS[one.kind]
    colour = theme.series[series]
    return {
        "type": "scatter", "mode": "lines+markers", "hoverinfo": "skip",
        "x": [tail[0], head[0]], "y": [tail[1], head[1]],
        "line": {"color": colour, "width": 2.6 if one.last else 1.3, "dash": dash},
        "marker": {
            "symbol": "arrow", "angleref": "previous", "size": [0, 12 if one.last else 9], "color": colour,
            "opacity": 1, "line": {"width": 0},
        },
    }  # fmt: skip


# --- heat maps -----------------------------------------------------------------------------------


def _heat(view: View, theme: Theme) -> Figure:
    heat = view.heat
    assert heat is not None
    layout = _layout(view, heat.lanes, theme)
    bar = {
        "thickness": 10, "outlinewidth": 0, "ticksuffix": " %", "tickvals": [0, 50, 100], "len": 0.9,
        "tickfont": {"size": 10, "color": theme.muted},
    }  # fmt: skip
    trace = _heat_trace(heat, theme, decimals(view.window.width) + 1) | {"colorbar": bar}
    return figure(theme, [trace], **layout)


def _heat_trace(heat: Heat, theme: Theme, places: int) -> dict[str, Any]:
    """Busy shares, the first row on top."""
    stops = len(theme.scale) - 1
    edges = heat.edges
    names = [lane.name if lane.group is None else f"core {lane.group} {lane.name}" for lane in heat.lanes]
    return {
        "type": "heatmap", "x": edges.tolist(), "y": list(range(len(names))),
        "z": (100 * heat.share[::-1]).round(1).tolist(), "zmin": 0, "zmax": 100, "ygap": 1,
        "colorscale": [[n / stops, colour] for n, colour in enumerate(theme.scale)],
        "hovertemplate": "<b>%{text}</b><br>busy %{z:.0f} %<br>"
        f"%{{x:,.{places}f}} µs<extra></extra>",
        "text": [[name] * heat.share.shape[1] for name in names[::-1]],
    }  # fmt: skip


def overview(run: Run, window: Window, theme: Theme, again: str = "") -> Figure:
    """The whole run, mean of all core groups, and where the view is in it; `again` as above."""
    heat = run.overview
    count = len(heat.lanes)
    if not count:
        return empty(theme, "nothing ran")
    trace = _heat_trace(heat, theme, decimals(run.makespan)) | {"showscale": False, "ygap": 0}
    least = LEAST_SHOWN * run.makespan
    middle, half = (window.start + window.end) / 2, max(window.width, least) / 2
    mark = {
        "type": "rect", "x0": middle - half, "x1": middle + half, "y0": -0.5, "y1": count - 0.5,
        "line": {"color": theme.warn, "width": 2},
        "fillcolor": clear(theme.warn, 0.0 if 2 * window.width > run.makespan else 0.1),
    }  # fmt: skip
    stages = [
        {**_line(theme.muted), "x0": stage.start, "x1": stage.start, "y0": 0, "y1": 1, "yref": "paper"}
        for stage in run.stages[1:]
        if stage.end > stage.start
    ]
    return figure(
        theme, [trace], height=OVERVIEW, dragmode="zoom", hovermode="closest", shapes=[*stages, mark],
        uirevision=f"{window.start} {window.end} {again}", margin={"l": 8, "r": 12, "t": 4, "b": 8},
        xaxis={"range": [0, run.makespan], "ticks": "", "tickformat": ",~r", "nticks": 10, "showgrid": False},
        yaxis={
            "range": [-0.5, count - 0.5], "fixedrange": True, "showgrid": False,
            "tickvals": [], "showticklabels": False,
        },
    )  # fmt: skip


def window_text(window: Window) -> str:
    """'12.3 to 14.1 µs'."""
    places = decimals(window.width)
    return f"{window.start:,.{places}f} to {window.end:,.{places}f} µs"


def share_text(window: Window, whole: float) -> str:
    """'0.02 % of the run'."""
    share = window.width / whole if whole else 1.0
    if share >= 0.9995:
        return "the whole run"
    return f"{percent(share) if share >= 5e-4 else f'{100 * share:.2g} %'} of {spaced(time(whole))}"
