"""The figures of a model's layers: their kernels as a waterfall, and the ways to execute them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dashboard.figures.parts import scale_of
from dashboard.figures.text import escaped, percent, spaced, time
from dashboard.figures.theme import Figure, Theme, clear, empty, figure
from dashboard.service.layer import Answer, CallTime, LayerTime

PITCH = 24
"""pixels from a kernel to the next"""
THICK = 0.72
"""of a row that a bar takes"""
ROOM = 1.22
"""the axis by the time, so that the last bars' numbers have room"""
GAP = 0.03
"""of the width, between the columns of two inverses"""
LONGEST = 72
"""letters of a reason beside a figure's axis"""
HOST = "waiting for the host"


def _paint(row: CallTime, theme: Theme) -> str:
    """An inverse stands out; other kernels by what bounds them."""
    if row.call.inverse:
        return theme.series[2]
    shades = {"compute": theme.accent, "memory": theme.series[1], "latency": clear(theme.muted, 0.75)}
    return shades.get(row.found.bound, theme.muted)


def waterfall(answer: Answer, theme: Theme) -> Figure:
    """The kernels of a layer one after another, a column for each inverse, all to one scale."""
    layers = {name: answer.layer(one) for name, one in answer.times.items()}
    longest = max(layer.time_us for layer in layers.values())
    scale, unit = scale_of(longest)
    labels = list(dict.fromkeys(row.call.label for layer in layers.values() for row in layer.rows))
    places = {label: place for place, label in enumerate(labels)}
    data: list[dict[str, Any]] = _legend(theme, layers)
    notes, axes = [], {}
    width = (1 - GAP * (len(layers) - 1)) / len(layers)
    for number, (name, layer) in enumerate(layers.items()):
        axis = "" if number == 0 else str(number + 1)
        data += [{**trace, "xaxis": f"x{axis}"} for trace in _steps(layer, places, scale, theme)]
        axes[f"xaxis{axis}"] = {
            "domain": [number * (width + GAP), number * (width + GAP) + width],
            "range": [0, ROOM * longest / scale], "title": {"text": unit}, "anchor": "y", "nticks": 6,
        }  # fmt: skip
        head = f"<b>{escaped(name)}</b>  {spaced(time(layer.time_us))}" if len(layers) > 1 else ""
        notes.append({
            "x": 0, "xref": f"x{axis} domain", "y": -0.85, "text": head, "showarrow": False,
            "xanchor": "left", "yanchor": "middle", "font": {"size": 11.5, "color": theme.ink},
        })  # fmt: skip
    top = -1.4 if len(layers) > 1 else -0.6
    return figure(
        theme, data, barmode="overlay", height=PITCH * len(labels) + 104, annotations=notes, **axes,
        legend={"traceorder": "normal"},
        yaxis={
            "range": [len(labels) - 0.4, top], "tickvals": list(places.values()),
            "ticktext": list(map(escaped, labels)),
            "showgrid": False, "zeroline": False, "fixedrange": True, "ticks": "",
        },
    )  # fmt: skip


def _legend(theme: Theme, layers: Mapping[str, LayerTime]) -> list[dict[str, Any]]:
    """What the colours mean, of those that there are."""
    rows = [row for layer in layers.values() for row in layer.rows]
    known = {
        "inverse": theme.series[2], "compute bound": theme.accent, "memory bound": theme.series[1],
        "latency bound": clear(theme.muted, 0.75), HOST: clear(theme.warn, 0.45),
    }  # fmt: skip
    used = {"inverse" if row.call.inverse else f"{row.found.bound} bound" for row in rows}
    if any(layer.waiting_us for layer in layers.values()):
        used.add(HOST)
    return [
        {
            "type": "bar", "orientation": "h", "x": [None], "y": [None], "name": name,
            "marker": {"color": paint},
        }
        for name, paint in known.items()
        if name in used
    ]  # fmt: skip


def _steps(layer: LayerTime, places: Mapping[str, int], scale: float, theme: Theme) -> list[dict[str, Any]]:
    """A bar for each kernel from where the one before it ended, and what it waits for the host before it."""
    at = 0.0
    waits, steps = [], []
    for row, waited in zip(layer.rows, layer.waits, strict=True):
        if waited > 0:
            waits.append((row, at, waited))
        at += waited
        steps.append((row, at, row.found.task_us))
        at += row.found.task_us
    common = {"type": "bar", "orientation": "h", "width": THICK, "hoverinfo": "text", "showlegend": False}
    at_rows = [places[row.call.label] for row in layer.rows]
    made: list[dict[str, Any]] = [
        {
            **common, "y": at_rows, "x": [us / scale for *_, us in steps],
            "base": [start / scale for _, start, _ in steps],
            "hovertext": [_said(row, layer) for row, *_ in steps],
            "marker": {
                "color": [_paint(row, theme) for row, *_ in steps],
                "pattern": {"shape": ["/" if row.call.inverse == "inside" else "" for row, *_ in steps]},
            },
        }
    ]  # fmt: skip
    if waits:
        made.append({
            **common, "y": [places[row.call.label] for row, *_ in waits],
            "x": [us / scale for *_, us in waits], "base": [start / scale for _, start, _ in waits],
            "marker": {"color": clear(theme.warn, 0.45)},
            "hovertext": [
                f"{HOST} before {escaped(row.call.label)}<br>{spaced(time(us))}" for row, _, us in waits
            ],
        })  # fmt: skip
    made.append({
        "type": "scatter", "mode": "text", "showlegend": False, "hoverinfo": "skip",
        "x": [(start + us) / scale for _, start, us in steps], "y": at_rows,
        "text": [f"  {_beside(us, layer)}" for *_, us in steps], "textposition": "middle right",
        "textfont": {
            "size": 10.5, "color": [theme.ink if row.call.inverse else theme.muted for row, *_ in steps],
        },
        "cliponaxis": False,
    })  # fmt: skip
    return made


def _beside(us: float, layer: LayerTime) -> str:
    return percent(us / layer.time_us)


def _said(row: CallTime, layer: LayerTime) -> str:
    found = row.found
    inside = "<br>the inverse is a part of it" if row.call.inverse == "inside" else ""
    guessed = (
        f"<br>on the parabola through {', '.join(map(str, row.call.lengths))} tokens"
        if row.call.lengths
        else ""
    )
    return (
        f"<b>{escaped(row.call.label)}</b>, {escaped(row.call.kernel)}<br>{spaced(time(found.task_us))}, "
        f"{percent(found.task_us / layer.time_us)} of the layer<br>{found.bound}: {found.dominant_unit} busy "
        f"{percent(found.utilisation)}{inside}{guessed}"
    )


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def executions(found: Mapping[str, Answer | str], theme: Theme) -> Figure:
    """The layer executed in each way: its kernels, the inverse, and the waiting for the host; why not, where
    it cannot be."""
    layers = {name: one.layer(one.base) for name, one in found.items() if not isinstance(one, str)}
    if not layers:
        return empty(theme, "none of them can be")
    scale, unit = scale_of(max(layer.time_us for layer in layers.values()))
    names, reasons = list(layers), {name: one for name, one in found.items() if isinstance(one, str)}
    parts: dict[str, tuple[str, list[float]]] = {
        "inverse": (theme.series[2], [layer.inverse_us or 0.0 for layer in layers.values()]),
        "others": (
            theme.accent,
            [one.time_us - one.waiting_us - (one.inverse_us or 0.0) for one in layers.values()],
        ),
        HOST: (clear(theme.warn, 0.45), [layer.waiting_us for layer in layers.values()]),
    }
    data = [
        {
            "type": "bar", "orientation": "h", "name": part, "y": names, "x": [us / scale for us in values],
            "marker": {"color": paint, "line": {"width": 0.5, "color": theme.card}}, "hoverinfo": "text",
            "hovertext": [
                f"<b>{name}</b><br>{part}: {spaced(time(us))}" for name, us in zip(names, values, strict=True)
            ],
        }
        for part, (paint, values) in parts.items()
        if any(us > 0 for us in values)
    ]  # fmt: skip
    notes = [
        {
            "x": layer.time_us / scale, "y": name, "text": f" {spaced(time(layer.time_us))}",
            "showarrow": False, "xanchor": "left", "font": {"size": 11, "color": theme.ink},
        }
        for name, layer in layers.items()
    ] + [
        {
            "x": 0, "y": name, "text": escaped(_short(reason)), "hovertext": escaped(reason),
            "showarrow": False, "xanchor": "left", "font": {"size": 11, "color": theme.muted},
        }
        for name, reason in reasons.items()
    ]  # fmt: skip
    top = max(layer.time_us for layer in layers.values()) / scale
    return figure(
        theme, data, barmode="stack", height=34 * len(found) + 104, annotations=notes,
        xaxis={"range": [0, 1.2 * top], "title": {"text": unit}}, legend={"traceorder": "normal"},
        yaxis={
            "type": "category", "categoryorder": "array", "categoryarray": [*found][::-1],
            "range": [-0.5, len(found) - 0.5], "showgrid": False,
        },
    )  # fmt: skip
