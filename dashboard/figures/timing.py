"""The figures of a kernel's time."""

from __future__ import annotations

import math
from typing import Any

from dashboard.figures.parts import Bars, scale_of, working
from dashboard.figures.text import digits, percent, scaled, size, spaced, time
from dashboard.figures.theme import POWERS, Figure, Theme, clear, empty, figure
from dashboard.service import Timing

BOUND = 0.8
"""the share of the time from which a busy unit is called the bound"""
ROW = 26
"""pixels of a bar"""
SQUARE, THICK = 310, 17
"""pixels of the height of the figures in the middle, and of a bar"""
MECHANISMS = ("flags", "cross-core flags", "issue", "rounding", "barrier", "core set-up", "dispatch of cores")
"""parts of a critical path that are no operation's"""


def _row_axis(names: list[str]) -> dict[str, Any]:
    """An axis with a bar for each name, the first on top."""
    return {"type": "category", "categoryorder": "array", "categoryarray": names[::-1], "showgrid": False}


def _height(rows: int, beside: int = 56) -> int:
    return beside + ROW * max(rows, 3)


def _beside_roofline(rows: int) -> dict[str, float]:
    """The height of the card beside, with bars as thick as everywhere."""
    return {"height": SQUARE, "bargap": max(0.34, 1 - THICK * rows / (SQUARE - 30))}


def utilisation(timing: Timing, theme: Theme) -> Figure:
    """The share of the core time in which each unit is busy; the lighter part is latency alone."""
    core = timing.report.core_us or 1.0
    units = working(timing)
    names = list(units)
    occupied = [100 * min(u.occupied_us / core, u.utilisation) for u in units.values()]
    latency = [100 * u.utilisation - share for u, share in zip(units.values(), occupied, strict=True)]
    busy = [100 * u.utilisation for u in units.values()]
    said = [
        f"<b>{name}</b><br>busy {spaced(time(u.busy_us))} on the mean core, {share:.1f} %"
        f"<br>slowest core {spaced(time(u.slowest_core_us))}"
        for (name, u), share in zip(units.items(), busy, strict=True)
    ]
    common = {"type": "bar", "orientation": "h", "y": names, "hovertext": said, "hoverinfo": "text"}
    colours = [theme.accent if n == timing.report.dominant_unit else clear(theme.accent, 0.72) for n in names]
    text = [percent(share / 100) for share in busy]
    data: list[dict[str, Any]] = [
        {**common, "x": occupied, "name": "occupied", "marker": {"color": colours}},
        {
            **common, "x": latency, "name": "latency", "marker": {"color": theme.soft}, "text": text,
            "textposition": "outside", "cliponaxis": False, "textfont": {"color": theme.ink, "size": 11},
        },
    ]  # fmt: skip
    line = {"color": theme.muted, "width": 1, "dash": "dot"}
    mark = {
        "type": "line",
        "x0": 100 * BOUND,
        "x1": 100 * BOUND,
        "y0": 0,
        "y1": 1,
        "yref": "paper",
        "line": line,
    }
    return figure(
        theme, data, barmode="stack", height=_height(len(names), 96), shapes=[mark],
        xaxis={"range": [0, 108], "ticksuffix": " %", "tickvals": [0, 20, 40, 60, 80, 100]},
        yaxis=_row_axis(names), legend={"traceorder": "normal"},
    )  # fmt: skip


def breakdown(timing: Timing, theme: Theme) -> Figure:
    """The core time of each unit: its operations, their latencies, and what it waited for."""
    names = list(working(timing))
    bars = Bars({name: name for name in names}, timing.report.core_us or 1.0)
    for name in names:
        bars.put(name, timing, name)
    return figure(
        theme, bars.traces(theme), barmode="stack", height=_height(len(names), 96),
        uniformtext={"mode": "hide", "minsize": 9},
        xaxis={"range": [0, bars.whole / bars.scale], "title": {"text": f"core time, {bars.unit}"}},
        yaxis=_row_axis(names), legend={"traceorder": "normal"},
    )  # fmt: skip


def critical_path(timing: Timing, theme: Theme, most: int = 9) -> Figure:
    """What the time is made of, on the path that decides it: operations and mechanisms, the largest first."""
    path = timing.report.critical_path
    rows = path[:most]
    rest = sum(us for _, us in path[most:])
    if rest > 0:
        rows = [*rows, (f"{len(path) - most} others", rest)]
    if not rows:
        return empty(theme, "nothing takes time")
    whole = timing.report.core_us or 1.0
    names = [name for name, _ in rows]
    scale, unit = scale_of(max(us for _, us in rows))
    data = {
        "type": "bar", "orientation": "h", "y": names, "x": [us / scale for _, us in rows],
        "marker": {"color": [_paint(name, theme) for name in names]},
        "text": [percent(us / whole) for _, us in rows], "textposition": "outside", "cliponaxis": False,
        "textfont": {"size": 11, "color": theme.ink},
        "hovertext": [f"<b>{name}</b><br>{spaced(time(us))} of the core time" for name, us in rows],
        "hoverinfo": "text",
    }  # fmt: skip
    top = max(us for _, us in rows) / scale
    return figure(
        theme, [data], height=_height(len(rows)), xaxis={"title": {"text": unit}, "range": [0, 1.16 * top]},
        yaxis=_row_axis(names), showlegend=False,
    )  # fmt: skip


def _paint(name: str, theme: Theme) -> str:
    """Of a part of the critical path: an operation's own work, its latency, or a mechanism."""
    if name.endswith(" others"):
        return clear(theme.muted, 0.5)
    if name in MECHANISMS or "(sharing " in name:
        return theme.series[2]
    return theme.soft if name.endswith(" latency") else theme.accent


def roofline(timing: Timing, theme: Theme) -> Figure:
    """Operations a second over operations a byte: the roofs of cube, vector unit, HBM and L2, and where the
    kernel stands under them."""
    p, moved, core_s = timing.peaks, timing.report.bytes, timing.report.core_us * 1e-6
    hbm = moved["hbm_read"] + moved["hbm_written"]
    l2 = hbm + moved["l2_read"] + moved["l2_written"]
    works = (("cube", p.cube_ops, p.cube_ops_per_s), ("vector", p.vector_ops, p.vector_ops_per_s))
    used = [(name, ops, peak) for name, ops, peak in works if ops > 0 and peak > 0]
    if not used or core_s <= 0 or l2 <= 0:
        return empty(theme, "no work of cube or vector unit on bytes from memory")
    points = [
        (f"{name} on {pool}", name, ops / count, ops / core_s, symbol)
        for name, ops, _ in used
        for pool, count, symbol in (("HBM", hbm, "circle"), ("L2", l2, "diamond"))
        if count > 0
    ]
    xs = [x for _, _, x, _, _ in points]
    knees = [peak / rate for _, _, peak in used for rate in (p.hbm_bytes_per_s, p.l2_bytes_per_s)]
    low, high = min(*xs, *knees) / 8, max(*xs, *knees) * 8
    top = max(peak for _, _, peak in used)
    ends = [(name, rate, colour) for name, rate, colour in (
        ("HBM", p.hbm_bytes_per_s, theme.muted), ("L2", p.l2_bytes_per_s, clear(theme.muted, 0.6)),
    )]  # fmt: skip
    data: list[dict[str, Any]] = [
        {
            "type": "scatter", "mode": "lines", "x": [low, top / rate], "y": [low * rate, top],
            "line": {"color": colour, "width": 1.5}, "showlegend": False,
            "name": f"{name} {scaled(rate, 'B/s')}",
            "hoverinfo": "name",
        }
        for name, rate, colour in ends
    ]  # fmt: skip
    colours = {"cube": theme.accent, "vector": theme.series[1]}
    data += [
        {
            "type": "scatter", "mode": "lines", "x": [peak / p.l2_bytes_per_s, high], "y": [peak, peak],
            "line": {"color": colours[name], "width": 1.5}, "showlegend": False, "hoverinfo": "name",
            "name": f"{name} peak {scaled(peak, 'op/s')}",
        }
        for name, _, peak in used
    ]  # fmt: skip
    data += [
        {
            "type": "scatter", "mode": "markers+text", "x": [x], "y": [y], "name": label,
            "text": [label.rpartition(" ")[2]],
            "textposition": "bottom right" if symbol == "circle" else "bottom left",
            "textfont": {"size": 10.5, "color": theme.ink},
            "marker": {
                "size": 11, "symbol": symbol, "color": colours[name],
                "line": {"width": 1.5, "color": theme.card},
            },
            "hovertext": f"<b>{label}</b><br>{digits(x)} operations a byte<br>{scaled(y, 'op/s')}",
            "hoverinfo": "text",
        }
        for label, name, x, y, symbol in points
    ]  # fmt: skip
    floor = min(y for *_, y, _ in points) / 6
    notes = []  # HBM's low on the right of its line, L2's high on the left of its own: no line passes there
    for (name, rate, _), (side, up) in zip(ends, (("left", 0.3), ("right", 0.9)), strict=True):
        y = floor ** (1 - up) * top**up
        text = f"{name} {scaled(rate, 'B/s')}"
        notes.append(_note(y / rate, y, text, theme, side) | {"yanchor": "middle"})
    notes += [_note(high, peak, f"{name} {scaled(peak, 'op/s')}", theme, "right") for name, _, peak in used]
    return figure(
        theme, data, height=SQUARE, annotations=notes, showlegend=False,
        margin={"l": 58},  # "100T" and a title
        xaxis={
            "type": "log", "title": {"text": "operations a byte"}, "exponentformat": "power", "dtick": 1,
            "tickfont": POWERS,
            "range": [math.log10(low), math.log10(high)],
        },
        yaxis={
            "type": "log", "title": {"text": "operations a second"}, "exponentformat": "SI", "dtick": 1,
            "range": [math.log10(floor), math.log10(top) + 0.45],
        },
    )  # fmt: skip


def _note(x: float, y: float, text: str, theme: Theme, anchor: str) -> dict[str, Any]:
    return {
        "x": math.log10(x), "y": math.log10(y), "text": text, "showarrow": False, "xanchor": anchor,
        "xshift": 6 if anchor == "left" else -6,
        "yanchor": "bottom", "font": {"size": 10, "color": theme.muted},
    }  # fmt: skip


def traffic(timing: Timing, theme: Theme) -> Figure:
    """Bytes through HBM and L2, and over each path inside the cores."""
    moved = timing.report.bytes
    rows = [
        (name.replace("hbm", "HBM").replace("l2", "L2").replace("_", " "), count)
        for name, count in moved.items()
    ]
    inside = {key: count for key, count in timing.traffic.items() if "gm" not in key.split("_")}
    rows += [(" → ".join(key.upper().split("_")), count) for key, count in inside.items()]
    rows = [(name, count) for name, count in rows if count > 0]
    if not rows:
        return empty(theme, "nothing moves")
    names = [name for name, _ in rows]
    colours = [
        theme.accent if name.startswith("HBM") else theme.series[1] if name.startswith("L2") else theme.soft
        for name in names
    ]
    data = {
        "type": "bar", "orientation": "h", "y": names, "x": [count for _, count in rows],
        "marker": {"color": colours}, "text": [size(count) for _, count in rows], "textposition": "outside",
        "cliponaxis": False, "textfont": {"size": 11, "color": theme.ink},
        "hovertext": [f"<b>{name}</b><br>{count:,.0f} bytes" for name, count in rows], "hoverinfo": "text",
    }  # fmt: skip
    top = max(count for _, count in rows)
    return figure(
        theme, [data], **_beside_roofline(len(rows)), showlegend=False, yaxis=_row_axis(names),
        xaxis={"range": [0, 1.25 * top], "showticklabels": False, "showgrid": False},
    )  # fmt: skip


def buffers(timing: Timing, theme: Theme) -> Figure:
    """How full the levels are at most."""
    peaks = timing.report.peak_bytes
    names = [name for name in timing.capacity if peaks.get(name)]
    if not names:
        return empty(theme, "no tiles")
    shares = [100 * peaks[name] / timing.capacity[name] for name in names]
    text = [f"{size(peaks[name])} of {size(timing.capacity[name])}" for name in names]
    data = {
        "type": "bar", "orientation": "h", "y": names, "x": shares, "text": text,
        "textposition": ["inside" if share > 55 else "outside" for share in shares],
        "insidetextanchor": "end", "marker": {"color": clear(theme.series[1], 0.75)}, "hoverinfo": "none",
        "textfont": {"size": 11}, "outsidetextfont": {"color": theme.ink},
        "insidetextfont": {"color": theme.card},
        "cliponaxis": False,
    }  # fmt: skip
    return figure(
        theme, [data], **_beside_roofline(len(names)), showlegend=False, yaxis=_row_axis(names),
        margin={"r": 20},  # half of "100"
        xaxis={"range": [0, 100], "ticksuffix": " %", "tickvals": [0, 25, 50, 75, 100]},
    )  # fmt: skip
