"""Graph: the tile graph of the kernel, and of a chosen operation its cost with the numbers filled in."""

from __future__ import annotations

import functools
from typing import Any

import dash
import dash_mantine_components as dmc
from dash import Dash, Input, Output, dcc, html, no_update
from dash import State as Kept

from dashboard.components import cards
from dashboard.components.events import changed
from dashboard.components.ids import SCHEME, STATE
from dashboard.components.operation import formula, operands, sources
from dashboard.components.panel import panel
from dashboard.figures.graph import tile_graph
from dashboard.figures.theme import LIGHT, THEMES, WAITING
from dashboard.service import Graph, Node, PhaseGraph, Refused, Service
from dashboard.state import State, whole

NOTE, PART, FIGURE, PHASE, CHOSEN, DETAILS, TOLD = (
    "graph-note",
    "graph-part",
    "tile-graph",
    "graph-phase",
    "graph-chosen",
    "graph-details",
    "graph-told",
)
BACK, ON = "graph-back", "graph-on"
CONFIG = {**cards.CONFIG, "scrollZoom": True}


def layout(service: Service, /, **query: Any) -> html.Div:
    """The page of a link."""
    settings = panel(service, State.of(query))
    choose = [
        dmc.Select(id=PHASE, label="Phase", data=[], allowDeselect=False, size="xs", w=190),
        dmc.Select(
            id=CHOSEN,
            label="Operation",
            data=[],
            searchable=True,
            clearable=True,
            placeholder="click one, or search",
            size="xs",
            w=330,
        ),
        dmc.Button("‹", id=BACK, size="xs", variant="default", **{"aria-label": "Operation before"}),
        dmc.Button("›", id=ON, size="xs", variant="default", **{"aria-label": "Operation after"}),
    ]
    graph = dcc.Graph(id=FIGURE, figure=WAITING, config=CONFIG, className="figure")
    head = html.Header(
        [
            html.H2("Tile graph"),
            html.P(
                "a lane for each unit, in program order; drag to move, scroll to zoom, click an operation"
            ),
        ]
    )
    results = html.Div(
        [
            html.H1("Graph", className="hidden"),
            html.Div(id=NOTE, **{"aria-live": "polite"}),
            dcc.Store(id=TOLD),
            html.Div(
                [
                    html.Section(
                        [html.Div([head, html.Div(choose, className="choose")], className="spread"), graph],
                        className="card",
                    ),
                    html.Section(
                        html.Div(id=DETAILS), className="card", **{"aria-label": "Chosen operation"}
                    ),
                ],
                id=PART,
                className="stack",
            ),
        ],
        className="results",
    )
    return html.Div([*settings, results], className="page")


def chosen(graph: Graph, state: State) -> tuple[int, int | None]:
    """Phase and operation that a link names, where there are such."""
    own = state.own("graph")
    phase = _place(own.get("phase", ""), len(graph.phases)) or 0
    return phase, _place(own.get("op", ""), len(graph.phases[phase].nodes))


def _place(text: str, count: int) -> int | None:
    place = whole(text)
    return place if place is not None and place < count else None


# --- a chosen operation --------------------------------------------------------------------------


def details(phase: PhaseGraph, node: Node | None) -> list[Any]:
    """What a chosen operation reads, writes and costs; what the phase is, where none is chosen."""
    if node is None:
        loops = "; ".join(block.title for block in phase.blocks) or "no loops"
        return [
            html.Header(
                [
                    html.H2("No operation is chosen"),
                    html.P("Choose one to see its tiles and its cost with the numbers filled in."),
                ]
            ),
            html.P(
                f"Phase {phase.name}: {len(phase.nodes)} operations on {len(phase.units)} units, "
                f"{len(phase.edges)} dependences; {loops}."
            ),
        ]
    shared = (
        f" It shares {' and '.join(pool.upper() for pool in node.shares)} with other transfers: "
        "this is the time it takes alone."
        if node.shares
        else ""
    )
    occupancy = [term for term in node.terms if term.part == "occupancy"]
    latency = [term for term in node.terms if term.part == "latency"]
    return [
        html.Header([html.H2(node.name), html.P(f"operation {node.number}, {node.kind} on {node.unit}")]),
        html.Code(node.text, className="line"),
        html.Div(
            [
                html.Div(
                    [
                        formula("Occupies its unit", node.occupancy, occupancy),
                        formula("Visible after that by", node.latency, latency),
                        html.P(shared, className="dim"),
                    ]
                ),
                operands(node),
            ],
            className="two",
        ),
        sources(node.terms),
    ]


# --- callbacks -----------------------------------------------------------------------------------


def register(app: Dash, service: Service) -> None:
    """The page and its callbacks."""
    page = functools.partial(layout, service)
    dash.register_page("graph", path="/graph", name="Graph", title="Graph · npusim", layout=page)

    @app.callback(
        Output(NOTE, "children"),
        Output(PART, "className"),
        Output(FIGURE, "figure"),
        Output(DETAILS, "children"),
        Output(PHASE, "data"),
        Output(PHASE, "value"),
        Output(CHOSEN, "data"),
        Output(CHOSEN, "value"),
        Output(TOLD, "data"),
        Input(STATE, "data"),
        Input(SCHEME, "data"),
    )
    def _draw(query: str, scheme: str) -> list[Any]:
        state = State.from_query(query or "")
        try:
            graph = service.graph(state)
        except Refused as error:
            return [cards.alert(str(error)), "stack stale", *[no_update] * 7]
        number, node = chosen(graph, state)
        phase = graph.phases[number]
        phases = [{"value": str(i), "label": f"{i + 1} · {one.name}"} for i, one in enumerate(graph.phases)]
        nodes = [
            {"value": str(one.number), "label": f"{one.number} · {one.name} · {one.unit}"}
            for one in phase.nodes
        ]
        drawn = tile_graph(phase, THEMES.get(scheme, LIGHT), node)
        said = details(phase, None if node is None else phase.nodes[node])
        values = [str(number), None if node is None else str(node)]
        return [None, "stack", drawn, said, phases, values[0], nodes, values[1], values]

    @app.callback(
        Output(STATE, "data", allow_duplicate=True),
        Input(FIGURE, "clickData"),
        Input(PHASE, "value"),
        Input(CHOSEN, "value"),
        Input(BACK, "n_clicks"),
        Input(ON, "n_clicks"),
        Kept(TOLD, "data"),
        Kept(STATE, "data"),
        prevent_initial_call=True,
    )
    def _choose(
        click: Any, phase: str | None, op: str | None, back: Any, on: Any, told: list[str | None], query: str
    ) -> Any:
        """From the link: a field may still say what that was before, and one that is merely told its value is
        heard as well."""
        state = State.from_query(query or "")
        did, typed, own = changed(), (phase, op), state.own("graph")
        known = told or (None, None)
        phase, op = own.get("phase", "0"), own.get("op")
        if PHASE in did and typed[0] != known[0]:
            phase, op = typed[0], None
        if CHOSEN in did and typed[1] != known[1]:
            op = typed[1]
        if click and FIGURE in did:
            op = str(click["points"][0].get("customdata", op))
        elif BACK in did or ON in did:
            try:
                graph = service.graph(state)
            except Refused:
                return no_update
            number, place = chosen(graph, state.viewed("graph", phase=phase, op=op))
            step = (-1 if place is None else place) + (1 if ON in did else -1)
            op = str(min(max(0, step), len(graph.phases[number].nodes) - 1))
        after = state.viewed("graph", phase=None if phase == "0" else phase, op=op)
        return no_update if after == state else after.query
