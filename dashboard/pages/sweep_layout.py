"""The parts of Sweep that show points, before there are any."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import dash_ag_grid as dag
import dash_mantine_components as dmc
from dash import dcc, html

from dashboard.components import cards, jobs
from dashboard.components.panel import panel
from dashboard.figures.theme import WAITING
from dashboard.pages import sweep_define as define
from dashboard.pages.sweep_define import NAME, key
from dashboard.service import Service
from dashboard.service.sweeps import Sweeps
from dashboard.state import State

LOOK, VERSION, BRUSH, GO = "sweep-look", "sweep-version", "sweep-brush", "sweep-go"
WROTE = "sweep-wrote"
"""what the controls were last made to show, and what they show where a link says nothing"""
LOOK_NOTE, PART, COUNTS = "sweep-look-note", "sweep-part", "sweep-counts"
OPEN, WHERE, COST, STALE = "sweep-open", "sweep-where", "sweep-cost", "sweep-stale"
PARALLEL, CLEAR, KEPT = "sweep-parallel", "sweep-clear", "sweep-kept"
FRONT, X, Y = "sweep-front", "sweep-x", "sweep-y"
HEAT, HX, HY, HV, HOW = "sweep-heat", "sweep-hx", "sweep-hy", "sweep-hv", "sweep-how"
GRID, COLUMNS, CHOSEN = "sweep-grid", "sweep-columns", "sweep-chosen"
CSV, PARQUET, FILE = "sweep-csv", "sweep-parquet", "sweep-file"
WANTED = "sweep-wanted"
"""the rows that are to be written to a file"""


def layout(service: Service, sweeps: Sweeps, /, **query: Any) -> html.Div:
    """The page of a link."""
    state = State.of(query)
    part = html.Div(
        [_bar(), _parallel(), html.Div([_front(), _heat()], className="pair"), _grid()],
        id=PART,
        className="stack gone",
    )
    results = html.Div(
        [
            html.H1("Sweep", className="hidden"),
            dcc.Store(id=LOOK),
            dcc.Store(id=VERSION),
            dcc.Store(id=WROTE),
            dcc.Store(id=BRUSH),
            dcc.Location(id=GO, refresh="callback-nav"),
            dcc.Download(id=FILE),
            dcc.Store(id=WANTED),
            define.card(sweeps, state),
            jobs.bar(NAME, key(state)),
            html.Div(id=LOOK_NOTE, **{"aria-live": "polite"}),
            part,
        ],
        className="results",
    )
    return html.Div([*panel(service, state), results], className="page")


def _bar() -> html.Section:
    """What is looked at."""
    open_ = dmc.Select(
        id=OPEN, label="Store", data=[], size="xs", w=190, allowDeselect=False, searchable=True,
        nothingFoundMessage="no store is called so",
    )  # fmt: skip
    where = dmc.TextInput(
        id=WHERE, label="Only points with", size="xs", debounce=500, className="grows",
        placeholder="chunk=32,64 time_us<500 relative_error<1e-3",
    )  # fmt: skip
    cost = dmc.TextInput(
        id=COST, label="Cost", size="xs", debounce=500, placeholder="cores*a + ub_kib*b, a=3, b=0.1", w=230
    )
    stale = dmc.Checkbox(id=STALE, label="draw stale ones too", size="xs", radius="sm")
    counts = html.Div([html.Div(id=COUNTS), stale], className="counts")
    return html.Section([open_, where, cost, counts], className="card looked", **{"aria-label": "Points"})


def _figure(id_: str, title: str, note: str, controls: list[Any]) -> html.Section:
    head = html.Header([html.H2(title), html.P(note)])
    graph = dcc.Graph(id=id_, figure=WAITING, config=cards.CONFIG, className="figure")
    return html.Section(
        [html.Div([head, html.Div(controls, className="choose")], className="spread"), graph],
        id=cards.of(id_),
        className="card",
        **{"aria-label": title},
    )


def _parallel() -> html.Section:
    note = "a line for each point; drag along an axis to choose a range, drag its name to move it"
    clear = dmc.Button("Show all", id=CLEAR, size="compact-xs", variant="default", className="gone")
    return _figure(PARALLEL, "Parallel coordinates", note, [html.Span(id=KEPT, className="dim"), clear])


def _axis(id_: str, label: str, width: int = 116) -> Any:
    return dmc.Select(
        id=id_, data=[], size="xs", w=width, allowDeselect=False, comboboxProps={"width": 210},
        **{"aria-label": label},
    )  # fmt: skip


def _front() -> html.Section:
    note = "strong: no other point beats it in both; click one to open it in Explore"
    return _figure(FRONT, "Pareto front", note, [_axis(X, "Across"), html.Span("×"), _axis(Y, "Up")])


def _heat() -> html.Section:
    how = dmc.SegmentedControl(
        id=HOW, value="best", size="xs",
        data=[{"value": "best", "label": "best"}, {"value": "mean", "label": "mean"}],
    )  # fmt: skip
    note = "of the points behind each cell; click one to open its best in Explore"
    axes = [_axis(HV, "Value"), html.Span("by"), _axis(HX, "Across"), html.Span("×"), _axis(HY, "Up")]
    return _figure(HEAT, "Heat map", note, [how, *axes])


def _grid() -> html.Section:
    """The points as rows."""
    columns = dmc.Popover(
        [
            dmc.PopoverTarget(dmc.Button("Columns", size="xs", variant="default")),
            dmc.PopoverDropdown(
                dmc.MultiSelect(
                    id=COLUMNS, data=[], size="xs", searchable=True, clearable=True, hidePickedOptions=True,
                    maxDropdownHeight=260, comboboxProps={"withinPortal": False}, **{"aria-label": "Columns"},
                )
            ),
        ],
        width=380, position="bottom-end", shadow="md", withArrow=True, trapFocus=True, keepMounted=True,
    )  # fmt: skip
    export = [dmc.Button("CSV", id=CSV, size="xs", variant="default")]
    parquet = "" if find_spec("pyarrow") else "gone"
    export.append(dmc.Button("Parquet", id=PARQUET, size="xs", variant="default", className=parquet))
    selection = {"mode": "singleRow", "checkboxes": False, "enableClickSelection": True}
    grid = dag.AgGrid(
        id=GRID, columnDefs=[], rowData=[], getRowId="params.data.key",
        defaultColDef={
            "sortable": True, "resizable": True, "flex": 1, "floatingFilter": True,
            "suppressFloatingFilterButton": True, "suppressHeaderFilterButton": True,
        },
        dashGridOptions={
            "rowHeight": 28, "headerHeight": 32, "floatingFiltersHeight": 34, "rowSelection": selection,
            "tooltipShowDelay": 300, "suppressFieldDotNotation": True, "animateRows": False,
        },
        rowClassRules={
            "stale-row": "params.data.status === 'stale'",
            "lost-row": "['skipped', 'failed'].includes(params.data.status)",
        },
        style={"height": "420px"},
    )  # fmt: skip
    head = html.Header([html.H2("Points"), html.P("filter and sort by the heads; choose a row to open it")])
    tools = html.Div([columns, *export], className="choose tools")
    return html.Section(
        [html.Div([head, tools], className="spread"), html.Div(id=CHOSEN, className="chosen"), grid],
        className="card",
        **{"aria-label": "Points"},
    )
