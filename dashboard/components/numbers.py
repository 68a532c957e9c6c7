"""The drawer of a profile's numbers: searched, changed, taken back, and saved as a profile of one's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import dash_ag_grid as dag
import dash_mantine_components as dmc
from dash import Dash, Input, Output, dcc, html, no_update
from dash import State as Kept

from dashboard.components.events import changed
from dashboard.components.ids import SCHEME, STATE
from dashboard.service import Refused, Service
from dashboard.state import State

DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
OPEN, COUNT, DRAWER = "numbers-open", "numbers-count", "numbers-drawer"
CONTENT, GRID, SEARCH = "numbers-content", "numbers-grid", "numbers-search"
NOTE, TOLD = "numbers-note", "numbers-told"
ONE, ALL_BACK, NAME, SAVE = "numbers-one", "numbers-all", "numbers-name", "numbers-save"

COLUMNS = [
    {
        "field": "path",
        "headerName": "Number",
        "flex": 3,
        "minWidth": 230,
        "tooltipField": "source",
        "cellClass": "mono",
    },
    {
        "field": "value",
        "headerName": "Value",
        "editable": True,
        "flex": 1,
        "minWidth": 96,
        "type": "rightAligned",
        "cellDataType": False,  # as a number it would take any other text for an empty cell
        "cellClass": "mono editable ag-right-aligned-cell",
        "tooltipField": "was",
        "valueFormatter": {
            "function": "Number(params.value) == params.value && params.value !== null "
            "? d3.format(',~r')(params.value) : params.value"
        },
    },
    {"field": "unit", "headerName": "Unit", "width": 84, "cellClass": "dim"},
    {
        "field": "evidence",
        "headerName": "Evidence",
        "width": 118,
        "cellClassRules": {
            f"evidence {kind}": f"params.value === '{kind}'"
            for kind in ("documented", "measured", "fitted", "assumed")
        },
    },
    {
        "field": "was",
        "headerName": "Profile",
        "width": 88,
        "type": "rightAligned",
        "cellClass": "mono dim ag-right-aligned-cell",
    },
]


def drawer() -> dmc.Drawer:
    """The drawer. Its content comes when it is opened: the grid's code is large."""
    hint = "Click a value to change it; a number shows its source on hover."
    return dmc.Drawer(
        id=DRAWER,
        position="right",
        size=760,
        padding="md",
        zIndex=300,
        title=html.Div([html.H2("Numbers of the profile"), html.P(hint)]),
        children=html.Div(id=CONTENT, className="numbers"),
        keepMounted=True,
    )


def _content(service: Service, state: State, scheme: str) -> list[Any]:
    """Search, grid and buttons."""
    search = dmc.TextInput(
        id=SEARCH,
        placeholder="Search: cube, latency, fitted…",
        size="xs",
        **{"aria-label": "Search the numbers"},
    )
    name = dmc.TextInput(id=NAME, placeholder="my-npu", size="xs", **{"aria-label": "Name of the profile"})
    buttons = [
        dmc.Button("Reset chosen", id=ONE, size="xs", variant="default"),
        dmc.Button("Reset all", id=ALL_BACK, size="xs", variant="default"),
        html.Div(className="push"),
        name,
        dmc.Button("Save as profile", id=SAVE, size="xs"),
    ]
    return [
        search,
        html.Div(id=NOTE, role="status"),
        dcc.Store(id=TOLD, data=state.query),
        html.Div(_grid(rows(service, state), scheme), className="grid"),
        html.Div(buttons, className="buttons"),
    ]


def _grid(data: list[dict[str, Any]], scheme: str) -> dag.AgGrid:
    selection = {"mode": "singleRow", "checkboxes": False, "enableClickSelection": True}
    return dag.AgGrid(
        id=GRID,
        columnDefs=COLUMNS,
        rowData=data,
        getRowId="params.data.path",
        defaultColDef={"sortable": True, "resizable": True},
        dashGridOptions={
            "rowHeight": 30,
            "headerHeight": 32,
            "tooltipShowDelay": 300,
            "singleClickEdit": True,
            "rowSelection": selection,
            "stopEditingWhenCellsLoseFocus": True,
        },
        rowClassRules={"changed": "params.data.changed"},
        className="ag-theme-quartz-dark" if scheme == "dark" else "ag-theme-quartz",
        style={"height": "100%"},
    )


def rows(service: Service, state: State) -> list[dict[str, Any]]:
    """The numbers as rows of the grid, which changes a `value` that is typed, but not what it was `told`."""
    return [asdict(one) | {"told": one.value} for one in service.numbers(state)]


def _rows(service: Service, state: State) -> Any:
    """The rows, or those that are there where the state cannot be."""
    try:
        return rows(service, state)
    except Refused:
        return no_update


def register(app: Dash, service: Service) -> None:
    """The callbacks of the drawer."""

    @app.callback(
        Output(DRAWER, "opened"),
        Output(CONTENT, "children"),
        Input(OPEN, "n_clicks"),
        Kept(STATE, "data"),
        Kept(SCHEME, "data"),
        prevent_initial_call=True,
    )
    def _open(clicks: int | None, query: str, scheme: str) -> Any:
        if not clicks:
            return no_update, no_update
        try:
            return True, _content(service, State.from_query(query or ""), scheme)
        except Refused as error:
            return True, _note(str(error), "red")

    @app.callback(
        Output(COUNT, "children"), Output(COUNT, "className"), Input(STATE, "data"), Input(OPEN, "id")
    )
    def _count(query: str, _: str) -> tuple[str, str]:
        changed = len(State.from_query(query or "").listed("set"))
        return (f"{changed} changed", "badge") if changed else ("as in the profile", "dim")

    @app.callback(
        Output(GRID, "dashGridOptions"),
        Input(SEARCH, "value"),
        Kept(GRID, "dashGridOptions"),
        prevent_initial_call=True,
    )
    def _search(text: str, options: dict[str, Any]) -> Any:
        return {**options, "quickFilterText": text or ""}

    @app.callback(
        Output(GRID, "rowData"),
        Output(TOLD, "data"),
        Input(STATE, "data"),
        Kept(TOLD, "data"),
        Kept(DRAWER, "opened"),
    )
    def _follow(query: str, told: str, opened: bool) -> Any:
        """The rows of the link, where it has changed otherwise; who opens the drawer gets them anew."""
        query = query or ""
        if query == told or not opened:
            return no_update, no_update
        return _rows(service, State.from_query(query)), query

    @app.callback(
        Output(STATE, "data", allow_duplicate=True),
        Output(GRID, "rowData", allow_duplicate=True),
        Output(TOLD, "data", allow_duplicate=True),
        Output(NOTE, "children"),
        Input(GRID, "cellValueChanged"),
        Input(ONE, "n_clicks"),
        Input(ALL_BACK, "n_clicks"),
        Input(SAVE, "n_clicks"),
        Kept(GRID, "rowData"),
        Kept(GRID, "selectedRows"),
        Kept(NAME, "value"),
        Kept(STATE, "data"),
        prevent_initial_call=True,
    )
    def _change(
        cell: Any, one: Any, every: Any, save: Any, data: Any, chosen: Any, name: str, query: str
    ) -> Any:
        if not (cell or one or every or save):
            return no_update, no_update, no_update, no_update
        state = after = State.from_query(query or "")
        did, values = changed(), _typed(data or [])
        if ONE in did:
            values |= {row["path"]: None for row in chosen or []}
        after, wrong = _after(service, after, values)
        if ALL_BACK in did:
            after = after.updated(set=None)
        note: Any = [_note(text, "red") for text in wrong]
        if SAVE in did and not wrong:
            note = _saved(service, after, name or "")
        if after == state:
            return no_update, _rows(service, state) if values else no_update, no_update, note
        return after.query, _rows(service, after), after.query, note


def _saved(service: Service, state: State, name: str) -> dmc.Alert:
    """Save the numbers as a profile, and say what became of it."""
    try:
        file = service.save(state, name)
    except Refused as error:
        return _note(str(error), "red")
    return _note(f"Saved as {file} in the folder where the dashboard runs.", "green")


def _typed(data: list[dict[str, Any]]) -> dict[str, float | str | None]:
    """The values that were typed since the rows were told, by path; None: as in the profile. Of two that are
    typed before the first is answered, and of one and a button, Dash tells of the last alone, and drops the
    answer to the first."""
    return {row["path"]: _number(row["value"]) for row in data if row["value"] != row["told"]}


def _number(value: float | str | None) -> float | str | None:
    """What was typed into a cell, which gives its text; None where it was emptied."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    return float(text) if DECIMAL.fullmatch(text) else text or None


def _after(
    service: Service, state: State, values: Mapping[str, float | str | None]
) -> tuple[State, list[str]]:
    """The state with some values, and why some of them cannot be."""
    wrong = []
    for path, value in values.items():
        try:
            state = service.with_number(state, path, value)
        except Refused as error:
            wrong.append(str(error))
    return state, list(dict.fromkeys(wrong))


def _note(text: str, color: str) -> dmc.Alert:
    return dmc.Alert(text, color=color, variant="light", p="xs")
