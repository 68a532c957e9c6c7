"""Sweep: many points at once, defined, computed while one watches, and looked at."""

from __future__ import annotations

import functools
import json
import time
from typing import Any, NamedTuple

import dash
from dash import ClientsideFunction, Dash, Input, Output, ctx, dcc, html, no_update
from dash import State as Kept

from dashboard.components import cards, jobs
from dashboard.components.events import changed
from dashboard.components.ids import SCHEME, STATE
from dashboard.figures import sweep as figures
from dashboard.figures.theme import LIGHT, THEMES, WAITING
from dashboard.pages import sweep_define as define
from dashboard.pages.sweep_define import NAME, STORE_NAME, store
from dashboard.pages.sweep_layout import (
    BRUSH,
    CHOSEN,
    CLEAR,
    COLUMNS,
    COST,
    COUNTS,
    CSV,
    FILE,
    FRONT,
    GO,
    GRID,
    HEAT,
    HOW,
    HV,
    HX,
    HY,
    KEPT,
    LOOK,
    LOOK_NOTE,
    OPEN,
    PARALLEL,
    PARQUET,
    PART,
    STALE,
    VERSION,
    WANTED,
    WHERE,
    WROTE,
    X,
    Y,
    layout,
)  # fmt: skip
from dashboard.pages.sweep_view import (
    View,
    chosen_strip,
    column_defs,
    counted,
    drawn,
    options,
    picked,
    records,
    shown,
    spans_of,
    usual_of,
    view,
)  # fmt: skip
from dashboard.service import Refused, Service
from dashboard.service.points import Points
from dashboard.service.stores import Empty, Stores
from dashboard.service.sweeps import STORE, Sweeps
from dashboard.state import State

SETTINGS = ("store", "where", "cost", "stale", "x", "y", "hx", "hy", "hv", "how", "columns", "point")
"""what a link says of how the points are looked at"""
FRESH_S = 3
"""between two looks at a store that is being filled"""


# --- callbacks -----------------------------------------------------------------------------------


def register(app: Dash, service: Service) -> None:
    """The page and its callbacks."""
    sweeps = Sweeps(service)
    stores = Stores(service, sweeps)
    page = functools.partial(layout, service, sweeps)
    dash.register_page("sweep", path="/sweep", name="Sweep", title="Sweep · npusim", layout=page)
    define.register(app, sweeps)
    _looking(app, stores)
    _drawing(app, stores)
    _choosing(app)
    _leaving(app, stores)


def read(stores: Stores, look: str | None) -> tuple[dict[str, str], Points]:
    """What a look says, and the points of its store. Refused where there are none."""
    own = json.loads(look or "{}")
    return own, stores.points(own.get("store", STORE), own.get("cost", ""))


def link_of(stores: Stores, points: Points, chosen: str, state: State) -> str:
    """The address of Explore for a point; what pages have of their own stays."""
    made = stores.link(points.row(chosen))
    values = {"kernel": made.kernel, **dict(made.values), **dict(state.pages.values)}
    return f"/explore?{State.of(values).query}"


class Looked(NamedTuple):
    """What a link says; all points of the store; which columns are drawn; the points that meet the
    conditions, and of these those that have figures."""

    own: dict[str, str]
    points: Points
    seen: View
    met: Points
    some: Points


def looked(stores: Stores, look: str | None) -> Looked:
    """What a look comes to. Refused where there is no such store, or no points."""
    own, points = read(stores, look)
    seen = view(points, own)
    return Looked(own, points, seen, *drawn(points, own, seen))


def _looking(app: Dash, stores: Stores) -> None:
    """At which store is looked, and its controls."""

    @app.callback(Output(LOOK, "data"), Input(STATE, "data"), Kept(LOOK, "data"))
    def _look(query: str, before: str | None) -> Any:
        own = State.from_query(query or "").own(NAME)
        look = json.dumps({name: own[name] for name in SETTINGS if name in own})
        return no_update if look == before else look

    @app.callback(Output(VERSION, "data"), Input(jobs.told(NAME), "data"), Kept(VERSION, "data"))
    def _version(told: Any, before: Any) -> Any:
        version = None
        if told:
            at_work = told["status"] in ("starting", "running")
            tick = int(time.time() / FRESH_S) if at_work and told["done"] else 0
            version = [told["key"], told["number"], told["status"], tick]
        return no_update if version == before and version else version

    @app.callback(
        Output(LOOK_NOTE, "children"),
        Output(PART, "className"),
        Output(OPEN, "data"),
        Output(OPEN, "value"),
        Output(WHERE, "value"),
        Output(COST, "value"),
        Output(STALE, "checked"),
        Output(STALE, "className"),
        Output(COUNTS, "children"),
        *[Output(one, "data") for one in (X, Y, HX, HY, HV)],
        *[Output(one, "value") for one in (X, Y, HX, HY, HV)],
        Output(HOW, "value"),
        Output(COLUMNS, "data"),
        Output(COLUMNS, "value"),
        Output(cards.of(HEAT), "className"),
        Output(WROTE, "data"),
        Input(LOOK, "data"),
        Input(VERSION, "data"),
    )
    def _controls(look: str | None, _: Any) -> Any:
        own = json.loads(look or "{}")
        names, name = stores.names(), own.get("store", STORE)
        head = [names, name if name in names else None, own.get("where", ""), own.get("cost", "")]
        wrote = {"shown": {one: own.get(one, "") for one in ("where", "cost")}, "usual": {}}
        try:
            own, points, seen, met, some = looked(stores, look)
        except Refused as error:
            if not names or isinstance(error, Empty):
                return [_nothing(), "stack gone", *head, *[no_update] * 17, wrote]
            title = "This store cannot be shown" if name in names else "There is no such store yet"
            return [
                cards.alert(str(error), title), "stack stale", *head, *[no_update] * 17, wrote,
            ]  # fmt: skip
        axes = options([points.columns[n] for n in points.axes])
        sets = options([points.columns[n] for n in points.varied])
        every = options(list(points.columns.values()))
        flat = "card" if len(points.varied) > 1 else "card gone"
        return [
            None, "stack", *head, seen.stale, "" if points.states["stale"] else "gone",
            counted(points, met, some), axes, axes, sets, sets, axes,
            seen.x, seen.y, seen.hx, seen.hy, seen.hv, seen.how, every, seen.columns, flat,
            {"shown": shown(own, points, seen), "usual": usual_of(points)},
        ]  # fmt: skip


def _drawing(app: Dash, stores: Stores) -> None:
    """What is drawn."""

    @app.callback(
        Output(PARALLEL, "figure"),
        Output(BRUSH, "data"),
        Input(LOOK, "data"),
        Input(VERSION, "data"),
        Input(SCHEME, "data"),
        Input(CLEAR, "n_clicks"),
        Kept(BRUSH, "data"),
    )
    def _coordinates(look: str | None, _: Any, scheme: str, clear: Any, brush: Any) -> Any:
        try:
            own, points, _seen, _met, some = looked(stores, look)
        except Refused:
            return no_update, no_update
        name = own.get("store", STORE)
        cleared = clear and CLEAR in changed()
        spans = {} if cleared else spans_of(points, name, brush)
        scales = {axis: points.scale(axis).mark for axis in figures.axes(some)}
        after = {"store": name, "spans": spans, "scales": scales}
        figure = figures.parallel(some, THEMES.get(scheme, LIGHT), spans)
        return figure, no_update if after == brush else after

    app.clientside_callback(
        ClientsideFunction(NAME, "brushed"),
        Output(BRUSH, "data", allow_duplicate=True),
        Input(PARALLEL, "restyleData"),
        Kept(BRUSH, "data"),
        prevent_initial_call=True,
    )

    @app.callback(
        Output(FRONT, "figure"),
        Output(HEAT, "figure"),
        Output(GRID, "columnDefs"),
        Output(GRID, "rowData"),
        Output(GRID, "className"),
        Output(KEPT, "children"),
        Output(CLEAR, "className"),
        Input(LOOK, "data"),
        Input(VERSION, "data"),
        Input(BRUSH, "data"),
        Input(SCHEME, "data"),
    )
    def _figures(look: str | None, _: Any, brush: Any, scheme: str) -> Any:
        theme = THEMES.get(scheme, LIGHT)
        try:
            own, points, seen, met, some = looked(stores, look)
            spans = spans_of(points, own.get("store", STORE), brush)
            within = some.brushed(spans) if spans else some
            front = figures.front(within, seen.x, seen.y, theme, own.get("point", ""))
            heat: Any = WAITING
            if seen.hx and seen.hy and seen.hv:
                heat = figures.heat(within.cells(seen.hx, seen.hy, seen.hv, seen.how), points, theme)
        except Refused:
            return [no_update] * 7
        rows = within if spans else met
        grid = "ag-theme-quartz-dark" if scheme == "dark" else "ag-theme-quartz"
        kept = f"{len(within):,} of {len(some):,} chosen" if spans else ""
        return [
            front, heat, column_defs(points, seen.columns), records(rows, seen.columns), grid, kept,
            "" if spans else "gone",
        ]  # fmt: skip


def _nothing() -> html.Div:
    """What stands where there is no store yet."""
    return html.Div(
        [
            html.H2("No points yet"),
            html.P("Start the sweep: its points appear here as they are computed, and stay in the store."),
        ],
        className="card nothing",
    )


def _choosing(app: Dash) -> None:
    """What a person chooses to see becomes part of the link."""

    @app.callback(
        Output(STATE, "data", allow_duplicate=True),
        Input(STORE_NAME, "value"),
        Input(WHERE, "value"),
        Input(COST, "value"),
        Input(STALE, "checked"),
        *[Input(one, "value") for one in (X, Y, HX, HY, HV, HOW)],
        Input(COLUMNS, "value"),
        Input(GRID, "selectedRows"),
        Kept(WROTE, "data"),
        Kept(STATE, "data"),
        prevent_initial_call=True,
    )
    def _set(
        name: str | None, where: str | None, cost: str | None, stale: bool,
        x: str | None, y: str | None, hx: str | None, hy: str | None, hv: str | None, how: str | None,
        columns: list[str] | None, rows: Any, wrote: Any, query: str,
    ) -> Any:  # fmt: skip
        state = State.from_query(query or "")
        said: dict[str, Any] = {}
        if name and name != store(state):
            said = dict.fromkeys(SETTINGS) | {"store": None if name == STORE else name}
        else:
            now = {"x": x, "y": y, "hx": hx, "hy": hy, "hv": hv, "how": how}
            said = picked(wrote, {
                **{n: v for n, v in now.items() if v}, "where": where or "", "cost": cost or "",
                "stale": "yes" if stale else "no", "columns": ",".join(columns or []),
            })  # fmt: skip
            if rows and GRID in changed():
                said["point"] = rows[0]["key"]
        after = state.viewed(NAME, **said)
        return no_update if after == state else after.query

    @app.callback(
        Output(STORE_NAME, "value"),
        Input(OPEN, "value"),
        Kept(STORE_NAME, "value"),
        prevent_initial_call=True,
    )
    def _name(opened: str | None, name: str | None) -> Any:
        return opened if opened and opened != name else no_update


def _leaving(app: Dash, stores: Stores) -> None:
    """Points opened in Explore, and written to files."""

    @app.callback(
        Output(GO, "href"),
        Output(LOOK_NOTE, "children", allow_duplicate=True),
        Input(FRONT, "clickData"),
        Input(HEAT, "clickData"),
        Kept(LOOK, "data"),
        Kept(STATE, "data"),
        prevent_initial_call=True,
    )
    def _open(front: Any, heat: Any, look: str | None, query: str) -> Any:
        click = front if ctx.triggered_id == FRONT else heat
        chosen = click["points"][0].get("customdata") if click else None
        if not chosen:
            return no_update, no_update
        try:
            return link_of(stores, read(stores, look)[1], chosen, State.from_query(query or "")), no_update
        except Refused as error:
            return no_update, cards.alert(str(error), "This point cannot be opened")

    @app.callback(
        Output(CHOSEN, "children"), Input(LOOK, "data"), Input(VERSION, "data"), Input(STATE, "data")
    )
    def _chosen(look: str | None, _: Any, query: str) -> Any:
        try:
            own, points = read(stores, look)
        except Refused:
            return None
        chosen = own.get("point", "")
        if chosen not in points.frame.index:
            return None
        try:
            return chosen_strip(
                points, chosen, link_of(stores, points, chosen, State.from_query(query or "")), ""
            )
        except Refused as error:
            return chosen_strip(points, chosen, None, str(error))

    app.clientside_callback(
        ClientsideFunction(NAME, "wanted"),
        Output(WANTED, "data"),
        Input(CSV, "n_clicks"),
        Input(PARQUET, "n_clicks"),
        Kept(GRID, "virtualRowData"),
        prevent_initial_call=True,
    )

    @app.callback(
        Output(FILE, "data"),
        Output(LOOK_NOTE, "children", allow_duplicate=True),
        Input(WANTED, "data"),
        Kept(LOOK, "data"),
        prevent_initial_call=True,
    )
    def _export(wanted: Any, look: str | None) -> Any:
        if not wanted:
            return no_update, no_update
        ending = ".csv" if wanted["button"] == CSV else ".parquet"
        try:
            own, points = read(stores, look)
            some = points.only(wanted["keys"])
            data = some.export(view(points, own).columns, ending)
        except Refused as error:
            return no_update, cards.alert(str(error), "Nothing was written")
        name = own.get("store", STORE).removesuffix(".db")
        return dcc.send_bytes(data, f"{name}{ending}"), no_update
