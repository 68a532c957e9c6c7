"""Timeline: what happened when, from one iteration to the whole of a run of any length."""

from __future__ import annotations

import functools
import math
from typing import Any
from uuid import uuid4

import dash
import dash_mantine_components as dmc
from dash import ALL, ClientsideFunction, Dash, Input, Output, dcc, html, no_update
from dash import State as Kept
from flask import Response, request

from dashboard.components import cards
from dashboard.components.chosen import CHOSEN, details
from dashboard.components.events import changed
from dashboard.components.ids import SCHEME, STATE
from dashboard.components.panel import panel
from dashboard.figures import timeline as figures
from dashboard.figures.text import scaled, time
from dashboard.figures.theme import LIGHT, THEMES, WAITING
from dashboard.service import Refused, Service
from dashboard.service.operation import Chosen
from dashboard.service.run import Window
from dashboard.service.timeline import PAGE, Frame, Timelines, View, too_much
from dashboard.state import State

NOTE, PART, HEADS = "timeline-note", "timeline-part", "timeline-heads"
OVERVIEW, FIGURE, TITLE, DETAILS = (
    "timeline-overview",
    "timeline-figure",
    "timeline-title",
    "timeline-details",
)
CORES, FROM, TO = "timeline-cores", "timeline-from", "timeline-to"
FIELDS = (CORES, FROM, TO)
SAID = "timeline-said"
"""what the fields show of the view: anything else was typed"""
SEEN = "timeline-seen"
"""the window that a person dragged or scrolled to, once at rest"""
AGAIN = "timeline-again"
"""changes where a person's move leads to what is shown already, which then is drawn anew"""
MOVES = {
    "timeline-back": ("‹", "Earlier (arrow left)"),
    "timeline-in": ("+", "Closer (+)"),
    "timeline-out": ("−", "Wider (−)"),
    "timeline-on": ("›", "Later (arrow right)"),
    "timeline-one": ("Iteration", "One iteration of the first core group shown (i)"),
    "timeline-all": ("Whole run", "The whole run (0)"),
}
"""buttons that move the view: what they say and what they do"""
TRACE, TRACE_NOTE = "timeline-trace", "timeline-traced"
SAVES = {"timeline-svg": "Picture as SVG", "timeline-png": "Picture as PNG"}
PERFETTO = "timeline-perfetto"
TRACE_PATH = "/timeline/trace.json"
CONFIG = {**cards.CONFIG, "scrollZoom": True, "doubleClick": False}


def layout(service: Service, /, **query: Any) -> html.Div:
    """The page of a link."""
    settings = panel(service, State.of(query))
    main = html.Section(
        [
            html.Div([html.Header(id=TITLE), html.Div(_controls(), className="choose")], className="spread"),
            html.Div(
                dcc.Graph(id=FIGURE, figure=WAITING, config=CONFIG, className="figure"),
                id="timeline-stage",
                tabIndex=0,
                role="application",
                **{"aria-label": "Timeline: plus and minus zoom, arrows move, 0 shows the whole run"},
            ),
        ],
        className="card",
        **{"aria-label": "What is in view"},
    )
    results = html.Div(
        [
            html.H1("Timeline", className="hidden"),
            html.Div(id=NOTE, **{"aria-live": "polite"}),
            html.Div(
                [
                    html.Div(id=HEADS, className="headlines"),
                    cards.figure_card(
                        OVERVIEW, "Whole run",
                        "how busy each unit is, in the order below, all core groups; drag over a part",
                    ),
                    main,
                    html.Section(
                        html.Div(id=DETAILS), className="card", **{"aria-label": "Chosen operation"}
                    ),
                ],
                id=PART,
                className="stack",
            ),
            dcc.Store(id=SEEN),
            dcc.Store(id=SAID),
            dcc.Store(id=AGAIN),
        ],
        className="results",
    )  # fmt: skip
    return html.Div([*settings, results], className="page timeline")


def _controls() -> list[Any]:
    """What chooses core groups and time, and what is to be had of it."""
    # asked for on Enter or on leaving: a field that waits a while says what it was given once more, and might
    # do so after the next move
    common: dict[str, Any] = {"size": "xs", "debounce": True}
    number: dict[str, Any] = {
        "hideControls": True, "decimalScale": 6, "thousandSeparator": " ", "allowNegative": False, "w": 112,
    }  # fmt: skip
    return [
        dmc.TextInput(id=CORES, label="Cores shown", placeholder="0, 0-3 or all", w=92, **common),
        dmc.NumberInput(id=FROM, label="From, µs", **number, **common),
        dmc.NumberInput(id=TO, label="To, µs", **number, **common),
        html.Div([_button(name, *said) for name, said in MOVES.items()], className="moves"),
        dmc.Menu(
            [
                dmc.MenuTarget(dmc.Button("Download", id="timeline-menu", size="xs", variant="default")),
                dmc.MenuDropdown(
                    [
                        dmc.MenuItem("Trace as JSON", id=TRACE),
                        *[dmc.MenuItem(text, id=name) for name, text in SAVES.items()],
                        dmc.MenuDivider(),
                        dmc.MenuItem("Open in Perfetto", id=PERFETTO),
                        html.P(id=TRACE_NOTE, className="dim menu-note"),
                    ]
                ),
            ],
            position="bottom-end",
            keepMounted=True,
        ),
    ]


def _button(name: str, text: str, why: str) -> Any:
    return dmc.Button(text, id=name, size="xs", variant="default", **{"aria-label": why})


# --- what is shown -------------------------------------------------------------------------------


def heads(view: View) -> list[Any]:
    """The run, and what is in view."""
    run, window = view.run, view.window
    value, scale = time(run.makespan)
    width, width_scale = time(window.width)
    whole = f"{run.operations:,} in the run" if run.operations >= 1e6 else "in the run"
    number, prefix = _count(view.operations)
    place = figures.window_text(window)
    groups = "core group" if len(view.groups) == 1 else "core groups"
    how = "bars" if view.bars is not None else "busy share of each moment"
    return [
        cards.headline("Core time", value, scale, f"{run.groups} core groups, {_phases(view)}"),
        cards.headline("Operations", *_count(run.operations), whole),
        cards.headline("In view", width, width_scale, html.Span(place, title=place)),
        cards.headline(
            "Shown" if view.exact else "Shown, about", number, f"{prefix} operations".strip(),
            f"of {len(view.groups)} {groups}, as {how}; {figures.share_text(window, run.makespan)}",
        ),
    ]  # fmt: skip


def _phases(view: View) -> str:
    count = len(view.run.stages)
    return "one phase" if count == 1 else f"{count} phases"


def _count(value: float) -> tuple[str, str]:
    """A number of operations in few digits: '102', 'M'."""
    number, _, prefix = scaled(value, "").partition(" ")
    return (number, prefix) if value >= 1e6 else (f"{value:,}", "")


def title(view: View) -> list[Any]:
    """What the figure shows, and how to use it."""
    if len(view.groups) == 1:
        name = f"Core group {view.groups[0]}"
    elif len(view.groups) == view.run.groups:
        name = "All core groups"
    else:
        name = f"Core groups {view.frame.cores}"
    if view.bars is not None and view.chosen is not None:
        note = "arrows: blue for results, orange for slots, violet for barriers; bold: waited for last"
    elif view.bars is not None:
        note = "click an operation; thin lines: until a result is visible; drag to move, scroll to zoom"
    elif view.lanes and view.lanes[0].group is None:
        note = "busy share, mean of the core groups; drag to move, scroll to zoom"
    else:
        note = "busy share; operations show once fewer than 4,000 are in view; drag to move, scroll to zoom"
    return [html.H2(name), html.P(note)]


# --- moving about --------------------------------------------------------------------------------


def framed(state: State, window: Window) -> State:
    """The state that looks at a window; times are as exact as its width needs."""
    places = min(9, max(0, 7 - math.floor(math.log10(max(window.width, 1e-4)))))
    ends = {"from": round(window.start, places), "to": round(window.end, places)}
    return state.viewed(PAGE, **ends)


def moved(timelines: Timelines, state: State, what: str, value: Any) -> State:
    """The state after a control moved: `what` is its id, `value` what it says."""
    if what == CORES:
        same = (value or "0").strip() == timelines.frame(state).cores
        chosen = state.own(PAGE).get("op")  # whose core group is shown where none is named
        plain = value == "" or (value == "0" and not chosen)
        return state if same else state.viewed(PAGE, cores=None if plain else value)
    if what == "timeline-one":
        return framed(state, timelines.iteration(state))
    frame = timelines.frame(state)
    window = _asked(frame, what, value)
    return state if window is None else framed(state, window.within(frame.run.makespan))


def followed(timelines: Timelines, query: str, values: dict[str, Any]) -> tuple[Any, Any]:
    """The link after controls moved, and what draws it anew. Where the state cannot be, which the page says,
    the link stays. A move that leads nowhere, as one over the end of the run, is taken back: what is shown
    already is drawn anew."""
    state = after = State.from_query(query or "")
    try:
        for name, value in values.items():
            after = moved(timelines, after, name, value)
    except Refused:
        return no_update, no_update
    if after != state:
        return after.query, no_update
    return no_update, uuid4().hex if any(values.values()) else no_update


def _asked(frame: Frame, what: str, value: Any) -> Window | None:
    """Where a control leads; None where it says what is shown."""
    now = frame.window
    if what in (FROM, TO):
        if not isinstance(value, int | float):
            return None
        window = Window(value, now.end) if what == FROM else Window(now.start, value)
        if abs(value - shown(now)[what == TO]) < 1e-9:
            return None
        if window.width <= 0:  # the other end goes along
            window = Window(value, value + now.width) if what == FROM else Window(value - now.width, value)
        return window
    if what == SEEN:
        return Window(*sorted(value)) if value else None
    steps = {
        "timeline-back": now.moved(-0.75), "timeline-on": now.moved(0.75), "timeline-in": now.zoomed(0.5),
        "timeline-out": now.zoomed(2.0), "timeline-all": Window(0.0, frame.run.makespan),
    }  # fmt: skip
    return steps[what]


def shown(window: Window) -> tuple[float, float]:
    """A window as the fields show it."""
    places = figures.decimals(window.width) + 1
    return round(window.start, places), round(window.end, places)


def picked(timelines: Timelines, state: State, place: str) -> State:
    """The state in which an operation is chosen ('': none), with the view where the operation is."""
    after = state.viewed(PAGE, op=place or None)
    if not place:
        return after
    frame = timelines.frame(after)
    if frame.chosen is None:
        return after
    start, end = frame.chosen.start / frame.chosen.scale, frame.chosen.end / frame.chosen.scale
    now = timelines.frame(state).window
    if not (start < now.end and end > now.start):
        now = now.around((start + end) / 2).within(frame.run.makespan)
    return framed(after, now)


# --- callbacks -----------------------------------------------------------------------------------


def register(app: Dash, service: Service) -> None:
    """The page, its callbacks, and where its traces are to be had."""
    timelines = Timelines(service)
    page = functools.partial(layout, service)
    dash.register_page(PAGE, path="/timeline", name="Timeline", title="Timeline · npusim", layout=page)
    _drawing(app, service, timelines)
    _saying(app, timelines)
    _moving(app, timelines)
    app.clientside_callback(
        ClientsideFunction(PAGE, "save"),
        *[Input(name, "n_clicks") for name in (TRACE, *SAVES, PERFETTO)],
        prevent_initial_call=True,
    )
    app.server.add_url_rule(TRACE_PATH, "timeline_trace", functools.partial(_trace, timelines))


def _drawing(app: Dash, service: Service, timelines: Timelines) -> None:
    """What a link shows."""

    @app.callback(
        Output(NOTE, "children"),
        Output(PART, "className"),
        Output(HEADS, "children"),
        Output(OVERVIEW, "figure"),
        Output(FIGURE, "figure"),
        Output(TITLE, "children"),
        Output(DETAILS, "children"),
        Output(TRACE, "disabled"),
        Output(PERFETTO, "disabled"),
        Output(TRACE_NOTE, "children"),
        Input(STATE, "data"),
        Input(SCHEME, "data"),
        Input(AGAIN, "data"),
    )
    def _draw(query: str, scheme: str, again: str | None) -> list[Any]:
        state, theme = State.from_query(query or ""), THEMES.get(scheme, LIGHT)
        try:
            view = timelines.view(state)
        except Refused as error:
            return [cards.alert(str(error)), "stack stale", *[no_update] * 8]
        text = ". ".join(view.frame.wrong)
        wrong = cards.alert(text, "Not all that was asked can be shown") if text else None
        tracing = (
            "The trace stays in your browser: Perfetto opens in a tab of its own and is handed it there."
            if view.traceable
            else too_much(view.operations, view.exact)
        )
        return [
            wrong, "stack", heads(view), figures.overview(view.run, view.window, theme, again or ""),
            figures.drawn(view, theme, again or ""), title(view), _details(service, state, view.chosen),
            not view.traceable, not view.traceable, tracing,
        ]  # fmt: skip


def _saying(app: Dash, timelines: Timelines) -> None:
    """What the fields say: apart from the figures, as a move waits until they say where it begins."""

    @app.callback(Output(SAID, "data"), Input(STATE, "data"), Input(AGAIN, "data"))
    def _say(query: str, again: str | None) -> Any:
        try:
            frame = timelines.frame(State.from_query(query or ""))
        except Refused:
            return no_update
        return [frame.cores, *shown(frame.window)]

    # in the browser, as fields are inputs of what moves: Dash would ask no more where that moves meanwhile
    app.clientside_callback(ClientsideFunction(PAGE, "say"), Input(SAID, "data"))


def _moving(app: Dash, timelines: Timelines) -> None:
    """Where a person goes: by typing, by buttons, keys and the mouse, and by choosing an operation."""

    @app.callback(
        Output(STATE, "data", allow_duplicate=True),
        Output(AGAIN, "data", allow_duplicate=True),
        *[Input(name, "value") for name in FIELDS],
        Input(SEEN, "data"),
        *[Input(name, "n_clicks") for name in MOVES],
        Kept(SAID, "data"),
        Kept(STATE, "data"),
        prevent_initial_call=True,
    )
    def _move(*given: Any) -> Any:
        # one callback for both: a click on a button leaves the field that was typed in
        *values, said, query = given
        did, count = changed(), len(FIELDS)
        typed = zip(FIELDS, values[:count], said or [None] * count, strict=True)
        moves = zip((SEEN, *MOVES), values[count:], strict=True)
        asked = {name: value for name, value, known in typed if name in did and value != known}
        asked |= {name: value for name, value in moves if name in did and value}
        return followed(timelines, query, asked)

    @app.callback(
        Output(STATE, "data", allow_duplicate=True),
        Output(FIGURE, "clickData"),
        Input(FIGURE, "clickData"),
        Input({"type": CHOSEN, "place": ALL}, "n_clicks"),
        Kept(STATE, "data"),
        prevent_initial_call=True,
    )
    def _choose(click: Any, clicks: list[Any], query: str) -> Any:
        did, state = changed(), State.from_query(query or "")
        places = [one["place"] for one in did if isinstance(one, dict)]
        if click and FIGURE in did:
            place = click["points"][0].get("customdata")
        elif places and any(clicks):
            place = places[-1]
        else:
            return no_update, no_update
        if not isinstance(place, str):
            return no_update, None
        after = picked(timelines, state, place)
        return (no_update if after == state else after.query), None

    app.clientside_callback(
        ClientsideFunction(PAGE, "seen"),
        Input(FIGURE, "relayoutData"),
        Input(OVERVIEW, "relayoutData"),
        prevent_initial_call=True,
    )


def _trace(timelines: Timelines) -> Response:
    """The trace of what a link shows."""
    try:
        text = timelines.trace(State.from_query(request.query_string.decode("utf-8", "replace")))
    except Refused as error:
        return Response(f"{error}\n", 400, mimetype="text/plain")
    return Response(text, mimetype="application/json")


def _details(service: Service, state: State, chosen: Chosen | None) -> list[Any]:
    """The card of an operation, with its cost and the link to it in Graph."""
    if chosen is None:
        return details(None, None, "")
    phase = service.graph(state).phases[chosen.place.phase]
    number = phase.of.get(chosen.fact.instance)
    if number is None:
        return details(chosen, None, "")
    link = state.viewed("graph", phase=chosen.place.phase or None, op=number)
    return details(chosen, phase.nodes[number], f"/graph?{link.query}")
