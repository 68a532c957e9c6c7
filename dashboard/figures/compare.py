"""The figures of several configurations: what each unit's time went to, timelines laid under one another, and
utilisation over the whole run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from dashboard.figures.parts import Bars, scale_of, working
from dashboard.figures.text import escaped, percent, spaced, time
from dashboard.figures.theme import Figure, Theme, clear, empty, figure
from dashboard.service.compare import Comparison, Strip

PITCH = 19
"""pixels from a bar to the next"""
LONGEST = 24
"""letters of a name beside a bar"""
NAMED = 0.045
"""the share of the width from which an operation is named in its bar"""
GAP = 0.35
"""rows between the timelines of two configurations"""
THICK = 0.74
"""of a row that a bar takes"""
COLOURED = 8
"""operations that have a colour of their own, those that take longest"""


def colour(theme: Theme, place: int) -> str:
    """Of a configuration, everywhere."""
    return theme.series[place % len(theme.series)]


def _short(name: str) -> str:
    return escaped(name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…")


def _rows(count: float, ticks: dict[float, str]) -> dict[str, Any]:
    """An axis of so many rows from the top, with names at some of them."""
    return {
        "range": [count - 0.4, -0.6], "showgrid": False, "zeroline": False, "fixedrange": True,
        "showline": False, "ticks": "", "tickvals": list(ticks), "ticktext": list(ticks.values()),
    }  # fmt: skip


def _height(comparison: Comparison) -> float:
    """Of the two figures that stand side by side: the rows of the one that has more."""
    used = [working(one.timing) for one in comparison.columns if one.timing]
    by_unit = len({unit for own in used for unit in own}) + sum(map(len, used))
    by_run = sum(len(own) + 1 + GAP for own in used)
    return PITCH * max(by_unit, by_run) + 84


def _heading(
    text: str, y: float, theme: Theme, tint: str | None = None, right: bool = False
) -> dict[str, Any]:
    """A line over bars, from the left or at the right end."""
    return {
        "x": 1 if right else 0, "xref": "paper", "y": y, "yref": "y", "text": text, "showarrow": False,
        "xanchor": "right" if right else "left", "yanchor": "middle", "align": "left",
        "font": {"size": 11 if right else 11.5, "color": tint or (theme.muted if right else theme.ink)},
    }  # fmt: skip


def breakdown(comparison: Comparison, theme: Theme) -> Figure:
    """The core time of each unit, the configurations under one another: operations, latencies, waiting."""
    timed = [(place, one) for place, one in enumerate(comparison.columns) if one.timing]
    if not timed:
        return empty(theme, "none of them can be")
    units = list(dict.fromkeys(unit for _, one in timed if one.timing for unit in working(one.timing)))
    rows: dict[Any, str] = {}
    heads, put = [], []
    y = 0
    for unit in units:
        heads.append(_heading(f"<b>{unit}</b>", y, theme))
        y += 1
        for _, one in timed:
            assert one.timing
            if unit in working(one.timing):
                rows[y] = f"{one.configuration.name}, {unit}"
                put.append((y, one, unit))
                y += 1
    bars = Bars(rows, max(one.timing.report.core_us for _, one in timed if one.timing) or 1.0)
    for place, one, unit in put:
        assert one.timing
        bars.put(place, one.timing, unit)
    ticks: dict[float, str] = {row: _short(one.configuration.name) for row, one, _ in put}
    data = [{**trace, "width": THICK} for trace in bars.traces(theme)]
    return figure(
        theme, data, barmode="stack", height=_height(comparison), annotations=heads,
        uniformtext={"mode": "hide", "minsize": 9}, legend={"traceorder": "normal"},
        xaxis={"range": [0, bars.whole / bars.scale], "title": {"text": f"core time, {bars.unit}"}},
        yaxis=_rows(y, ticks),
    )  # fmt: skip


# --- timelines -----------------------------------------------------------------------------------


def timelines(width_us: float, strips: Sequence[Strip | None], theme: Theme) -> Figure:
    """What core 0 does from the start of a trip of its loop on, all to the same scale; dotted: a trip
    begins."""
    shown = [(place, strip) for place, strip in enumerate(strips) if strip]
    if not shown:
        return empty(theme, "none of them can be")
    scale, unit = scale_of(width_us)
    paint = _paints([strip for _, strip in shown], theme)
    data, notes, marks = [], [], []
    ticks: dict[float, str] = {}
    y = 0.0
    for place, strip in shown:
        steady = strip.steady
        notes.append(_heading(f"<b>{escaped(strip.name)}</b>", y, theme, colour(theme, place)))
        notes.append(_heading(_trip(strip), y, theme, right=True))
        lanes = {name: y + 1 + number for number, name in enumerate(steady.units)}
        ticks |= {row: name for name, row in lanes.items()}
        y += len(lanes) + 1
        data += _bars(strip, lanes, width_us, scale, unit, paint, theme)
        marks += [_mark(at / scale, min(lanes.values()), max(lanes.values()), theme) for at in steady.begins]
        y += GAP
    return figure(
        theme, data, height=int(PITCH * y) + 56, barmode="overlay", annotations=notes,
        shapes=marks, showlegend=False, dragmode="zoom",
        xaxis={"range": [0, width_us / scale], "title": {"text": f"{unit} from the start of a trip"}},
        yaxis=_rows(y, ticks),
    )  # fmt: skip


def _trip(strip: Strip) -> str:
    steady = strip.steady
    phase = f"{escaped(steady.phase)}: " if steady.phase else ""
    if steady.period_us is None:
        return f"{phase}no loop repeats; the run takes {spaced(time(strip.core_us))}"
    trips = f"a trip {spaced(time(steady.period_us))}, {steady.trips} trips"
    return f"{phase}{trips}, from {spaced(time(steady.at_us))}"


def _paints(strips: Sequence[Strip], theme: Theme) -> dict[str, str]:
    """A colour for each operation, the same in all timelines."""
    total: dict[str, float] = defaultdict(float)
    for strip in strips:
        for bar in strip.steady.bars:
            total[bar.name] += bar.done - bar.start
    names = sorted(total, key=lambda name: -total[name])
    return {
        name: clear(theme.series[rank % COLOURED], 0.95 if rank < COLOURED else 0.55)
        for rank, name in enumerate(names)
    }


def _bars(
    strip: Strip, lanes: dict[str, float], width_us: float, scale: float, unit: str, paint: dict[str, str],
    theme: Theme,
) -> list[dict[str, Any]]:  # fmt: skip
    """Operations, and their latencies lighter behind them."""
    own, name = strip.steady.bars, escaped(strip.name)
    said = [
        f"<b>{escaped(one.name)}</b> on {one.unit}<br>{name}<br>{spaced(time(one.done - one.start))} from "
        f"{one.start / scale:.3f} {unit}"
        for one in own
    ]
    common = {
        "type": "bar", "orientation": "h", "y": [lanes[one.unit] for one in own], "width": THICK,
        "base": [one.start / scale for one in own], "hovertext": said, "hoverinfo": "text",
    }  # fmt: skip
    late = [(one.done - one.start) / scale for one in own]
    work = [(one.end - one.start) / scale for one in own]
    text = [
        escaped(one.name)
        if one.end - one.start > NAMED * width_us and one.start >= 0 and one.end <= width_us
        else ""
        for one in own
    ]
    soft = [paint[one.name].rsplit(",", 1)[0] + ",0.32)" for one in own]
    line = {"width": 0.5, "color": theme.card}
    return [
        {**common, "x": late, "marker": {"color": soft, "line": line}},
        {
            **common, "x": work, "marker": {"color": [paint[one.name] for one in own], "line": line},
            "text": text, "textposition": "inside", "insidetextanchor": "middle", "textangle": 0,
            "textfont": {"size": 10, "color": theme.card}, "constraintext": "inside",
        },
    ]  # fmt: skip


def _mark(x: float, first: float, last: float, theme: Theme) -> dict[str, Any]:
    """Where a trip begins."""
    line = {"color": theme.muted, "width": 1, "dash": "dot"}
    return {
        "type": "line", "x0": x, "x1": x, "y0": first - 0.5, "y1": last + 0.5, "line": line, "layer": "above",
    }  # fmt: skip


def over_time(comparison: Comparison, strips: Sequence[Strip | None], theme: Theme) -> Figure:
    """How busy each unit is from the first to the last moment, mean core, all to the same scale."""
    shown = [(place, strip) for place, strip in enumerate(strips) if strip]
    if not shown:
        return empty(theme, "none of them can be")
    longest = max(strip.core_us for _, strip in shown)
    scale, unit = scale_of(longest)
    data: list[dict[str, Any]] = []
    notes = []
    ticks: dict[float, str] = {}
    y = 0.0
    steps = [[at / (len(theme.scale) - 1), paint] for at, paint in enumerate(theme.scale)]
    for place, strip in shown:
        notes.append(_heading(f"<b>{escaped(strip.name)}</b>", y, theme, colour(theme, place)))
        notes.append(_heading(spaced(time(strip.core_us)), y, theme, right=True))
        names = list(strip.busy)
        lanes = [y + 1 + number for number in range(len(names))]
        ticks |= dict(zip(lanes, names, strict=True))
        y += len(names) + 1
        if not names:
            continue
        parts = len(strip.busy[names[0]])
        width = strip.core_us / scale / parts
        what = escaped(strip.name)
        said = [[f"<b>{name}</b>: {percent(min(1.0, share))}<br>{what}" for share in strip.busy[name]]
                for name in names]  # fmt: skip
        data.append({
            "type": "heatmap", "x": [(at + 0.5) * width for at in range(parts)], "y": lanes,
            "z": [[min(1.0, share) for share in strip.busy[name]] for name in names], "zmin": 0, "zmax": 1,
            "colorscale": steps, "showscale": not data, "ygap": 3, "text": said, "hoverinfo": "text",
            "colorbar": {
                "orientation": "h", "thickness": 8, "len": 0.34, "x": 1, "xanchor": "right", "y": 1,
                "yanchor": "bottom", "ypad": 4, "xpad": 16, "tickvals": [0, 0.5, 1],
                "ticktext": ["0", "50 %", "100 %"], "tickfont": {"size": 10, "color": theme.muted},
                "outlinewidth": 0,
            },
        })  # fmt: skip
        y += GAP
    return figure(
        theme, data, height=_height(comparison), annotations=notes,
        xaxis={"range": [0, longest / scale], "title": {"text": f"core time, {unit}"}, "showgrid": False},
        yaxis=_rows(y, ticks),
    )  # fmt: skip
