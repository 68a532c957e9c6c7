"""Layer: a model's layer as a waterfall of kernels, with the share of the inverse."""

from __future__ import annotations

import functools
from typing import Any

import dash
from dash import ALL, Dash, Input, Output, dcc, html, no_update
from dash import State as Kept

from dashboard.components import cards, comparison
from dashboard.components import layer as parts
from dashboard.components.ids import SCHEME, STATE
from dashboard.figures import layer as drawn
from dashboard.figures.text import digits, percent, spaced, time
from dashboard.figures.theme import LIGHT, THEMES, Theme
from dashboard.service import Refused, Service
from dashboard.service.layer import LENGTHS, Answer, Layers, delta_layer
from dashboard.state import State

PAGE = "layer"
NOTE, HEADS, PART = "layer-note", "layer-heads", "layer-part"
KERNEL_HEAD, KERNELS, LAYER_HEAD, LAYER_ROWS = (
    "layer-kernel-head",
    "layer-kernels",
    "layer-stack-head",
    "layer-stack",
)
WATERFALL, EXECUTIONS = "waterfall", "executions"


def layout(layers: Layers, /, **query: Any) -> html.Div:
    """The page of a link."""
    state = State.of(query)
    found = layers.settings(state)
    waterfall = cards.figure_card(
        WATERFALL,
        "Kernels of the layer",
        "one after another; colour: the inverse, and what bounds the others; numbers: share of the layer",
        wide=True,
    )
    executions = cards.figure_card(
        EXECUTIONS, "Ways to execute it", "the same layer issued kernel by kernel, as a graph, and fused"
    )
    results = html.Div(
        [
            html.H1("Layer", className="hidden"),
            html.Div(id=NOTE, **{"aria-live": "polite"}),
            html.Div(html.Div(id=HEADS, className="headlines"), className="heads"),
            parts.slider(found),
            html.Div(
                html.Div(
                    [
                        waterfall,
                        executions,
                        _table("Layers of the model", LAYER_HEAD, LAYER_ROWS, wide=False),
                        _table("Kernels", KERNEL_HEAD, KERNELS, wide=True),
                    ]
                ),
                id=PART,
                className="cards two-wide",
            ),
        ],
        className="results",
    )
    panel = html.Aside(
        html.Div(parts.panel_body(found), id=parts.BODY), className="panel", **{"aria-label": "Settings"}
    )
    return html.Div([dcc.Store(id=STATE, data=state.query), panel, results], className="page layer")


def _table(title: str, head: str, body: str, wide: bool) -> html.Section:
    return html.Section(
        [html.Header(html.H2(title)), comparison.number_table(head, (body,))],
        className="card wide" if wide else "card",
        **{"aria-label": title},
    )


# --- what is shown -------------------------------------------------------------------------------


def headlines(answer: Answer) -> list[Any]:
    """Time of the layer, the inverse's share, the model's time, and what the other inverses save."""
    layer, base = answer.layer(answer.base), answer.base
    value, unit = time(layer.time_us)
    what = f"{layer.count} layers of {answer.model}" if layer.count > 1 else f"once in {answer.model}"
    waits = f", {spaced(time(layer.waiting_us))} of it waiting for the host" if layer.waiting_us else ""
    share = layer.inverse_share
    made = [
        cards.headline(f"A layer: {answer.kind}", value, unit, what + waits, _outside(answer)),
        _inverse(answer, share),
    ]
    total, total_unit = time(base.total_us)
    if answer.settings.decode:
        below = f"one token of {answer.settings.batch} sequences after {answer.context:,}"
        made.append(cards.headline("Decoding", total, total_unit, below))
    else:
        tokens = answer.settings.batch * answer.settings.seq_len
        devices = answer.settings.tensor_parallel
        where = "the device" if devices == 1 else f"{devices} devices, communication not counted"
        rate = f"{tokens:,} tokens, {digits(tokens / base.total_us * 1e6)} a second on {where}"
        made.append(cards.headline("Prefill", total, total_unit, rate))
    return [*made, *([_saving(answer)] if len(answer.times) > 1 else [])]


def _outside(answer: Answer) -> Any:
    inside = answer.base.measured_share
    error = answer.base.expected_error
    if inside > 0.995:
        return None
    off = "unknown" if error is None else f"at most {percent(error)} of the total"
    why = f"expected error {off}; {percent(inside)} of the time is taken by kernels inside what was measured"
    return cards.badge("extrapolated", why)


def _inverse(answer: Answer, share: float | None) -> Any:
    name = next(iter(answer.times))
    layer = answer.layer(answer.base)
    if answer.settings.decode:
        return cards.headline("Inverse", "—", "", "decoding inverts nothing")
    if share is None:
        return cards.headline("Inverse", "—", "", "a part of gdn-fused, with no time of its own")
    if not share:
        return cards.headline("Inverse", "—", "", f"a layer of {answer.kind} has none")
    below = f"of the layer, {spaced(time(layer.inverse_us or 0.0))}, {name}"
    return cards.headline("Inverse", percent(share), "", below)


def _saving(answer: Answer) -> Any:
    """Of the inverse that saves most, against the first."""
    first, *_ = answer.times
    layer = delta_layer(answer.base)
    name, best = min(
        ((name, one) for name, one in answer.times.items() if name != first),
        key=lambda item: item[1].total_us,
    )
    saved, of_model = 1 - delta_layer(best).time_us / layer.time_us, 1 - best.total_us / answer.base.total_us
    sign = "" if saved >= 0 else "−"
    below = f"{name} instead of {first}; {_signed(of_model)} of the model"
    return cards.headline("Saving", f"{sign}{percent(abs(saved))}", "of a delta layer", below)


def _signed(share: float) -> str:
    return percent(share) if share >= 0 else f"−{percent(-share)}"


def view(answer: Answer, theme: Theme) -> list[Any]:
    """Cards, figure and tables, in the order of the outputs."""
    return [
        headlines(answer),
        cards.replaced(drawn.waterfall(answer, theme)),
        parts.kernel_head(answer),
        parts.kernel_rows(answer),
        parts.layer_head(),
        parts.layer_rows(answer.base),
    ]


def length_text(seq_len: int, decode: bool) -> str:
    """What the slider stands at."""
    return "one token is decoded" if decode else f"{seq_len:,} tokens"


def moved(layers: Layers, state: State, values: dict[str, Any]) -> State:
    """The state after controls moved; what says the default says nothing."""
    after = state.viewed(PAGE, **values)
    if layers.model(after) != layers.model(state):
        after = after.viewed(PAGE, kind=None)  # another model has other layers
    return layers.plain(after)


# --- callbacks -----------------------------------------------------------------------------------


def register(app: Dash, service: Service) -> None:
    """The page and its callbacks."""
    layers = Layers(service)
    comparison.register(app, (KERNELS, LAYER_ROWS))
    page = functools.partial(layout, layers)
    dash.register_page("layer", path="/layer", name="Layer", title="Layer · npusim", layout=page)

    @app.callback(
        Output(NOTE, "children"),
        Output(PART, "className"),
        Output(HEADS, "className"),
        Output(HEADS, "children"),
        Output(WATERFALL, "figure"),
        Output(KERNEL_HEAD, "children"),
        Output(comparison.rows_of(KERNELS), "data"),
        Output(LAYER_HEAD, "children"),
        Output(comparison.rows_of(LAYER_ROWS), "data"),
        Input(STATE, "data"),
        Input(SCHEME, "data"),
    )
    def _answer(query: str, scheme: str) -> list[Any]:
        try:
            answer = layers.answer(State.from_query(query or ""))
        except Refused as error:
            return [cards.alert(str(error)), "cards two-wide stale", "headlines stale", *[no_update] * 6]
        return [None, "cards two-wide", "headlines", *view(answer, THEMES.get(scheme, LIGHT))]

    @app.callback(Output(EXECUTIONS, "figure"), Input(STATE, "data"), Input(SCHEME, "data"))
    def _executions(query: str, scheme: str) -> Any:
        return drawn.executions(layers.executions(State.from_query(query or "")), THEMES.get(scheme, LIGHT))

    @app.callback(Output(parts.LENGTH, "children"), Input(STATE, "data"))
    def _length(query: str) -> str:
        found = layers.chosen(State.from_query(query or ""))
        return length_text(*found)

    @app.callback(
        Output(STATE, "data", allow_duplicate=True),
        Output(parts.BODY, "children"),
        Output(parts.SLIDER, "disabled"),
        Input({"type": parts.SETTING, "name": ALL}, "value"),
        Input(parts.at("decode"), "checked"),
        Input(parts.SLIDER, "value"),
        Kept({"type": parts.SETTING, "name": ALL}, "id"),
        Kept(STATE, "data"),
        prevent_initial_call=True,
    )
    def _moved(values: list[Any], decode: bool, place: int, ids: list[dict[str, str]], query: str) -> Any:
        before = State.from_query(query or "")
        given = {own["name"]: value for own, value in zip(ids, values, strict=True)}
        given["decode"] = True if decode else None
        if parts.nearest(layers.chosen(before)[0]) != place:
            given["seq_len"] = LENGTHS[place]
        after = moved(layers, before, given)
        if after == before:
            return no_update, no_update, no_update
        laid = ("model", "decode", "execution")
        stays = all(after.own(PAGE).get(name) == before.own(PAGE).get(name) for name in laid)
        stays = stays and bool(given.get("inverse"))  # none is chosen: the default is
        return after.query, no_update if stays else parts.panel_body(layers.settings(after)), bool(decode)
