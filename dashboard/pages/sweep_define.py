"""The upper part of Sweep: what varies, what that comes to, and its start."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import ALL, Dash, Input, Output, ctx, dcc, html, no_update
from dash import State as Kept

from dashboard.components import cards, jobs
from dashboard.components.events import changed
from dashboard.components.ids import STATE
from dashboard.service import Refused
from dashboard.service.sweeps import NONE, STORE, Estimate, Outlook, Suggestion, Sweeps, Varied, joined, sweep
from dashboard.state import State

NAME = "sweep"
"""of the page, its settings and its jobs"""
VARY, REMOVE, SAID = "sweep-vary", "sweep-remove", "sweep-said"
ROWS, ADD, STORE_NAME, START = "sweep-rows", "sweep-add", "sweep-store-name", "sweep-start"
TYPED = "sweep-typed"
"""the store of the state that the fields were typed to"""
LAID = "sweep-laid"
"""the store of what varied when the rows were looked at last: names and values"""
OUTLOOK, ESTIMATE, NOTE = "sweep-outlook", "sweep-estimate", "sweep-note"
MODE, FORM, TEXT, YAML, APPLY, YAML_NOTE = (
    "sweep-mode", "sweep-form", "sweep-text", "sweep-yaml", "sweep-apply", "sweep-yaml-note",
)  # fmt: skip
AGAIN = "What was computed is kept: start again, and only what is missing is computed."


def card(sweeps: Sweeps, state: State) -> html.Section:
    """The card of a state."""
    mode = dmc.SegmentedControl(
        id=MODE, value="form", size="xs",
        data=[{"value": "form", "label": "Settings"}, {"value": "yaml", "label": "YAML"}],
    )  # fmt: skip
    head = html.Header(
        [html.H2("Sweep"), html.P("every combination of what varies here; all else is as set on the left")]
    )
    add = dmc.Select(
        id=ADD, data=[], placeholder="Add what varies: a setting, a number", searchable=True, size="xs",
        clearable=False, limit=400, maxDropdownHeight=380, nothingFoundMessage="none is called so",
        comboboxProps={"width": 460, "position": "bottom-start"}, className="add",
        **{"aria-label": "Add what varies"},
    )  # fmt: skip
    try:
        rows = [_row(one) for one in sweeps.rows(state)]
    except Refused:  # an unknown kernel, which the outlook names
        rows = []
    form = html.Div(
        [html.Div(rows, id=ROWS, className="vary"), add, dcc.Store(id=TYPED), dcc.Store(id=LAID)], id=FORM
    )
    area = dmc.Textarea(
        id=YAML, autosize=True, minRows=8, maxRows=24, size="xs", spellCheck=False,
        **{"aria-label": "The sweep as YAML"},
    )  # fmt: skip
    text = html.Div(
        [
            area,
            html.Div(id=YAML_NOTE, **{"aria-live": "polite"}),
            html.Div(
                [
                    html.Span("as npusim sweep takes it from a file; paste or edit, then", className="dim"),
                    dmc.Button("Apply", id=APPLY, size="xs", variant="default"),
                ],
                className="yaml-foot",
            ),
        ],
        id=TEXT,
        className="gone",
    )
    name = dmc.TextInput(
        id=STORE_NAME, label="Kept in", value=state.own(NAME).get("store", STORE), size="xs", debounce=400,
        w=170,
    )  # fmt: skip
    foot = html.Div(
        [
            html.Div(
                [html.Div(id=OUTLOOK, **{"aria-live": "polite"}), html.Div(id=ESTIMATE, className="dim")],
                className="ahead",
            ),
            name,
            dmc.Button("Start", id=START, size="sm", disabled=True),
        ],
        className="foot",
    )
    return html.Section(
        [html.Div([head, mode], className="spread"), form, text, foot, html.Div(id=NOTE)],
        className="card define",
        **{"aria-label": "Define a sweep"},
    )


def _row(one: Varied) -> html.Div:
    """A setting that varies."""
    field = dmc.TextInput(
        id={"type": VARY, "name": one.name}, value=one.text, size="xs", debounce=400,
        placeholder="16,32,64 or 2:6 or 0:1:0.25", **{"aria-label": f"Values of {one.label}"},
    )  # fmt: skip
    away = html.Button(
        "×", id={"type": REMOVE, "name": one.name}, className="away", type="button",
        title="Does not vary", **{"aria-label": f"{one.label} does not vary"},
    )  # fmt: skip
    label = html.Div(
        [html.Span(cards.path(one.label), className="name"), html.Span(one.meaning, className="dim")],
        title=one.meaning,
    )
    return html.Div(
        [label, field, html.Div(said(one), id={"type": SAID, "name": one.name}, className="said"), away]
    )


def said(one: Varied) -> Any:
    """How many values, or what is wrong with them."""
    if one.problem:
        return html.Span(one.problem, className="wrong")
    return f"{one.count:,} value{'' if one.count == 1 else 's'}"


def choices(suggestions: list[Suggestion], varied: dict[str, str]) -> list[dict[str, Any]]:
    """What can be added, by groups."""
    groups: dict[str, list[dict[str, str]]] = {}
    for one in suggestions:
        if one.name not in varied:
            text = f"{one.label} · {one.meaning}" if one.meaning else one.label
            groups.setdefault(one.group, []).append({"value": one.name, "label": text})
    return [{"group": group, "items": items} for group, items in groups.items()]


def outlook(ahead: Outlook) -> list[Any]:
    """What a sweep comes to, in words."""
    if not ahead.looked:
        many = html.Strong(f"{ahead.points:,} combinations")
        return [
            many,
            html.Span(" too many to look at one by one now; what cannot be is skipped", className="dim"),
        ]
    parts: list[Any] = [html.Strong(f"{ahead.points:,} point{'' if ahead.points == 1 else 's'}")]
    if ahead.known:
        many = "all" if not ahead.left else f"{ahead.known:,}"
        parts.append(html.Span(f", {many} of them in the store already", className="dim"))
    if ahead.skipped:
        count = sum(ahead.skipped.values())
        reasons = [
            html.Li([html.Span(f"{number:,} × ", className="dim"), reason])
            for reason, number in sorted(ahead.skipped.items(), key=lambda pair: -pair[1])
        ]
        parts.append(
            html.Details(
                [html.Summary(f"{count:,} combinations cannot be"), html.Ul(reasons[:12])], className="skips"
            )
        )
    return parts


def estimate_text(found: Estimate | None) -> str:
    """How long it takes, in words."""
    if found is None:
        return ""
    where = "1 process" if found.processes == 1 else f"{found.processes} processes"
    points = "a point" if found.tried == 1 else f"{found.tried} points"
    return f"about {jobs.span(found.seconds)} on {where}, as {points} tried here say"


def key(state: State) -> str:
    """The job of a state's store."""
    return f"{NAME} {store(state)}"


def store(state: State) -> str:
    return state.own(NAME).get("store", STORE)


def varying(sweeps: Sweeps, state: State, varied: dict[str, str]) -> State:
    """The state in which just this varies; what varies by itself is not said."""
    usual = sweeps.varied(state.viewed(NAME, vary=None))
    return state.viewed(NAME, vary=None if varied == usual else joined(varied) or NONE)


def register(app: Dash, sweeps: Sweeps) -> None:
    """The callbacks of the card."""
    jobs.register(app, NAME, sweep, "points", AGAIN)
    _varying(app, sweeps)
    _starting(app, sweeps)


def _varying(app: Dash, sweeps: Sweeps) -> None:
    """What varies, in fields or as YAML."""

    @app.callback(
        Output(ROWS, "children"),
        Output(ADD, "data"),
        Output({"type": SAID, "name": ALL}, "children"),
        Output(LAID, "data"),
        Input(STATE, "data"),
        Kept({"type": VARY, "name": ALL}, "id"),
        Kept({"type": VARY, "name": ALL}, "value"),
        Kept(TYPED, "data"),
        Kept(LAID, "data"),
    )
    def _rows(query: str, ids: list[Any], values: list[Any], typed: str | None, laid: Any) -> Any:
        state = State.from_query(query or "")
        try:
            varied, rows = sweeps.varied(state), {one.name: one for one in sweeps.rows(state)}
            data = choices(sweeps.suggestions(state), varied)
        except Refused:
            return no_update, no_update, [no_update] * len(ids), no_update
        shown = {own["name"]: value for own, value in zip(ids, values, strict=True)}
        words = [said(rows[own["name"]]) if own["name"] in rows else no_update for own in ids]
        # what was typed stands there, or something newer that must not be undone: neither by what was typed
        # before nor by a change of something else
        now = [list(one) for one in varied.items()]
        same = list(shown) == list(varied) if query == typed else now in (laid, [*map(list, shown.items())])
        return no_update if same else [_row(one) for one in rows.values()], data, words, now

    @app.callback(
        Output(STATE, "data", allow_duplicate=True),
        Output(ADD, "value"),
        Output(TYPED, "data"),
        Input({"type": VARY, "name": ALL}, "value"),
        Input({"type": REMOVE, "name": ALL}, "n_clicks"),
        Input(ADD, "value"),
        Kept({"type": VARY, "name": ALL}, "id"),
        Kept(STATE, "data"),
        prevent_initial_call=True,
    )
    def _vary(values: list[Any], clicks: list[Any], added: str | None, ids: list[Any], query: str) -> Any:
        state = State.from_query(query or "")
        shown = {
            own["name"]: str(value or "").replace(";", ",") for own, value in zip(ids, values, strict=True)
        }
        did = changed()
        pressed = dict(zip((own["name"] for own in ids), clicks, strict=True))
        removed = [
            one["name"] for one in did
            if isinstance(one, dict) and one["type"] == REMOVE and pressed.get(one["name"])
        ]  # fmt: skip
        try:
            if added and ADD in did:
                begin = {one.name: one.text for one in sweeps.suggestions(state)}
                shown[added] = begin.get(added, "")
            elif removed:
                shown = {name: text for name, text in shown.items() if name not in removed}
            elif set(shown) != set(sweeps.varied(state)):  # rows that are about to be laid anew
                return no_update, no_update, no_update
            after = varying(sweeps, state, shown)
        except Refused:
            return no_update, no_update, no_update
        typed = after.query if any(isinstance(one, dict) and one["type"] == VARY for one in did) else None
        return no_update if after == state else after.query, None if added else no_update, typed

    @app.callback(
        Output(FORM, "className"),
        Output(TEXT, "className"),
        Output(YAML, "value"),
        Output(YAML_NOTE, "children"),
        Output(MODE, "value"),
        Output(STATE, "data", allow_duplicate=True),
        Input(MODE, "value"),
        Input(APPLY, "n_clicks"),
        Kept(YAML, "value"),
        Kept(STATE, "data"),
        prevent_initial_call=True,
    )
    def _yaml(mode: str, clicks: Any, text: str | None, query: str) -> Any:
        state = State.from_query(query or "")
        try:
            if ctx.triggered_id == APPLY and clicks:
                after = sweeps.from_yaml(text or "", state)
                return "", "gone", no_update, None, "form", after.query
            if mode == "yaml":
                return "gone", "", sweeps.yaml(state), None, no_update, no_update
        except Refused as error:
            note = cards.alert(str(error), "This is no sweep")
            return "gone", "", no_update, note, no_update, no_update
        return "", "gone", no_update, None, no_update, no_update


def _starting(app: Dash, sweeps: Sweeps) -> None:
    """What a sweep comes to, and its start."""

    @app.callback(
        Output(OUTLOOK, "children"),
        Output(START, "disabled"),
        Output(START, "children"),
        Input(STATE, "data"),
        Input(jobs.told(NAME), "data"),
    )
    def _outlook(query: str, told: Any) -> Any:
        state = State.from_query(query or "")
        if told and told["key"] == key(state) and told["status"] in ("starting", "running"):
            return no_update, True, "Computing…"
        try:
            ahead = sweeps.outlook(state, store(state))
        except Refused as error:
            return html.Span(str(error), className="wrong"), True, "Start"
        if ahead.known and not ahead.left:
            return outlook(ahead), True, "All computed"
        return outlook(ahead), False, "Resume" if ahead.known else "Start"

    @app.callback(Output(jobs.watched(NAME), "data"), Input(STATE, "data"), Kept(jobs.watched(NAME), "data"))
    def _watched(query: str, before: str) -> Any:
        now = key(State.from_query(query or ""))
        return no_update if now == before else now

    @app.callback(Output(ESTIMATE, "children"), Input(STATE, "data"), Input(START, "children"))
    def _estimate(query: str, label: str) -> Any:
        if label not in ("Start", "Resume"):
            return ""
        state = State.from_query(query or "")
        try:
            return estimate_text(sweeps.estimate(state, store(state)))
        except Refused:
            return ""

    @app.callback(
        Output(jobs.ask(NAME), "data"),
        Output(NOTE, "children"),
        Input(START, "n_clicks"),
        Kept(STATE, "data"),
        prevent_initial_call=True,
    )
    def _start(clicks: int | None, query: str) -> Any:
        if not clicks:
            return no_update, no_update
        state = State.from_query(query or "")
        try:
            sweeps.outlook(state, store(state))
            number = jobs.of(app).expect(key(state)).number
        except Refused as error:
            return no_update, cards.alert(str(error), "The sweep cannot start")
        asked = {"state": state.query, "store": store(state)}
        return {"key": key(state), "asked": asked, "number": number}, None
