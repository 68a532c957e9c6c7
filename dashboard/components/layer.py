"""The settings of a model's forward pass, the slider of the sequence length, tables of its kernels."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import html

from dashboard.components.comparison import Cells
from dashboard.components.panel import field
from dashboard.figures.differences import difference, shown
from dashboard.figures.text import percent, size, spaced, time
from dashboard.service.layer import LENGTHS, MOST, Answer, CallTime, LayerTime, Settings, StackTime

SETTING = "layer-setting"
"""type of the ids of all controls: {"type": SETTING, "name": ...}"""
SLIDER, LENGTH, BODY = "layer-slider", "layer-length", "layer-body"
MARKS = {1 << 10: "1 k", 1 << 12: "4 k", 1 << 14: "16 k", 1 << 16: "64 k", 1 << 18: "256 k", 1 << 20: "1 M"}
MEANINGS = {
    "eager": "the host issues each kernel", "graph": "all kernels at once",
    "fused": "all at once, and the delta net in one",
}  # fmt: skip


def at(name: str) -> dict[str, str]:
    return {"type": SETTING, "name": name}


def panel_body(found: Settings) -> list[Any]:
    """The settings on the left."""
    models = [
        {"group": group, "items": [{"value": name, "label": name} for name in names]}
        for group, names in found.models
    ]
    kinds = [{"value": name, "label": name} for name in found.kinds]
    profiles = [{"value": n, "label": n} for n in dict.fromkeys([*found.profiles, found.profile])]
    modes = [{"value": name, "label": name.capitalize()} for name in MEANINGS]
    choose: dict[str, Any] = {"size": "xs", "allowDeselect": False}
    inverses = dmc.MultiSelect(
        id=at("inverse"), label="Inverses, side by side", data=list(found.inverses), value=list(found.chosen),
        maxValues=MOST, hidePickedOptions=True, size="xs", disabled=found.decode,
        description="decoding inverts nothing" if found.decode else "the first is the baseline",
        inputWrapperOrder=["label", "input", "description"],
    )  # fmt: skip
    execution = dmc.SegmentedControl(
        id=at("execution"), data=modes, value=found.execution, size="xs", fullWidth=True,
        **{"aria-label": "Execution"},
    )  # fmt: skip
    return [
        _section("Model", [
            dmc.Select(id=at("model"), label="Model", data=models, value=found.model, searchable=True,
                       description=found.meaning, inputWrapperOrder=["label", "input", "description"],
                       maxDropdownHeight=380, **choose),
            dmc.Select(id=at("kind"), label="Layer", data=kinds, value=found.kind or None, **choose),
        ]),
        _section("Machine", [dmc.Select(id=at("profile"), label="Profile", data=profiles, value=found.profile,
                                        searchable=True, **choose)]),
        _section("Execution", [execution, html.P(MEANINGS.get(found.execution, ""), className="dim small")]),
        _section("Inverse", [inverses]),
        _section("Pass", [
            dmc.Switch(id=at("decode"), label="Decode one token", checked=found.decode, size="xs"),
            html.Div([field(one, found.values.get(one.name, ""), at(one.name)) for one in found.fields],
                     className="fields"),
        ]),
    ]  # fmt: skip


def _section(title: str, children: list[Any]) -> html.Section:
    return html.Section([html.H2(title), *children], className="settings")


def slider(found: Settings) -> html.Section:
    """The sequence length, from a thousand to a million tokens, by powers of two and halfway between."""
    marks = [
        {"value": place, "label": MARKS.get(length)}
        for place, length in enumerate(LENGTHS)
        if length in MARKS
    ]
    bar = dmc.Slider(
        id=SLIDER, min=0, max=len(LENGTHS) - 1, step=1, value=nearest(found.seq_len), marks=marks,
        label={"function": "tokens", "options": {"lengths": list(LENGTHS)}}, updatemode="mouseup", size=5,
        thumbSize=18, disabled=found.decode, thumbLabel="Sequence length",
    )  # fmt: skip
    return html.Section(
        [
            html.Div([html.Span("Sequence length", className="field-label"), html.Span(id=LENGTH)]),
            html.Div(bar, className="slide"),
        ],
        className="card length", **{"aria-label": "Sequence length"},
    )  # fmt: skip


def nearest(length: int) -> int:
    """The place of a sequence length on the slider."""
    return min(range(len(LENGTHS)), key=lambda place: abs(LENGTHS[place] - length))


# --- tables --------------------------------------------------------------------------------------


def kernel_head(answer: Answer) -> html.Tr:
    """The columns of the table of kernels: time and what it is of, then the time with other inverses."""
    names = ["Kernel", "Time", "Share", "Bound", "HBM", "L2", "In the model"]
    first, *others = answer.times
    names += [f"with {name}" for name in others]
    heads = [html.Th(name, scope="col") for name in names]
    what = f"{answer.kind}, {first}" if others else answer.kind
    return html.Tr([html.Th(what, scope="col", className="first"), *heads])


def kernel_rows(answer: Answer) -> list[Cells]:
    """The kernels of a layer as `assets/compare.js` draws them."""
    layer = answer.layer(answer.base)
    others = [answer.layer(time) for name, time in list(answer.times.items())[1:]]
    rows = [_kernel(row, place, layer, others) for place, row in enumerate(layer.rows)]
    if layer.waiting_us:
        waits = [_text("—"), *_times(layer.waiting_us, layer), *[_text("—")] * 3]
        waits.append(_text(spaced(time(layer.count * layer.waiting_us))))
        waits += [_beside(one.waiting_us, layer.waiting_us) for one in others]
        rows.append({"label": "waiting for the host", "cells": waits})
    total = [_text(""), *_times(layer.time_us, layer), *[_text("")] * 3]
    total.append(_text(spaced(time(layer.count * layer.time_us))))
    total += [_beside(one.time_us, layer.time_us) for one in others]
    return [*rows, {"label": "all", "cells": total, "kind": "sum"}]


def _kernel(row: CallTime, place: int, layer: LayerTime, others: list[LayerTime]) -> Cells:
    found, us = row.found, row.found.task_us
    bound = "latency" if found.bound == "latency" else found.dominant_unit
    moved = [_text("—" if count is None else size(count)) for count in (row.hbm_bytes, row.l2_bytes)]
    cells = [_text(row.call.kernel), *_times(us, layer), _text(bound), *moved]
    cells.append(_text(spaced(time(layer.count * us))))
    cells += [_beside(one.rows[place].found.task_us, us) for one in others]
    at_lengths = ", ".join(map(str, row.call.lengths))
    return {
        "label": row.call.label, "cells": cells, "kind": "inverse" if row.call.inverse else "",
        "help": f"on the parabola through {at_lengths} tokens" if at_lengths else "",
    }  # fmt: skip


def _text(text: str) -> Cells:
    return {"kind": "text", "parts": [{"text": text, "kind": "said"}]}


def _times(us: float, layer: LayerTime) -> list[Cells]:
    value = {"text": spaced(time(us)), "kind": "said", "title": f"{us:,.3f} µs"}
    return [{"kind": "", "parts": [value]}, _text(percent(us / layer.time_us))]


def _beside(us: float, base: float) -> Cells:
    """A time with another inverse, and its difference to that with the first."""
    found = difference("ratio", us / base if base else 1.0, 1.0)
    parts = [{"text": shown("time", us), "kind": "said"}]
    if not found.alike:
        parts.append({"text": found.text, "kind": f"difference {'better' if found.sign < 0 else 'worse'}"})
    return {"kind": "equal" if found.alike else "", "parts": parts}


def layer_head() -> html.Tr:
    """The columns of the table of layers."""
    names = ("Count", "Each", "All", "Share", "Inverse", "Waiting")
    heads = [html.Th(name, scope="col") for name in names]
    return html.Tr([html.Th("", scope="col", className="first"), *heads])


def layer_rows(base: StackTime) -> list[Cells]:
    """What the model's time is made of."""
    made: list[Cells] = []
    for layer in base.layers:
        whole = layer.count * layer.time_us
        share = layer.inverse_share
        texts = [
            str(layer.count), spaced(time(layer.time_us)), spaced(time(whole)),
            percent(whole / base.total_us),
            "inside" if share is None else percent(share) if share else "—",
            spaced(time(layer.waiting_us)) if layer.waiting_us else "—",
        ]  # fmt: skip
        made.append({"label": layer.layer.kind, "cells": [_text(text) for text in texts]})
    return made
