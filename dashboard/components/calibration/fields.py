"""The numbers that a fit may change: groups as chips, every one in a grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import dash_ag_grid as dag
import dash_mantine_components as dmc
from dash import html

from dashboard.service.calibrate import Field

GROUPS, GRID, SEARCH, COUNT = (
    "calibrate-groups",
    "calibrate-numbers",
    "calibrate-numbers-search",
    "calibrate-count",
)
NUMBER = {"function": "params.value === null ? '' : d3.format(',~r')(params.value)"}
SHARE = {
    "function": (
        "params.value === null ? '' : params.value < 0.0005 ? '0' : d3.format(',.1%')(params.value)"
        ".replace('%', ' %')"
    )
}
KINDS = ("documented", "measured", "fitted", "assumed")
COLUMNS = [
    {
        "field": "chosen", "headerName": "Fit", "width": 52, "editable": True, "cellDataType": "boolean",
        "cellRenderer": "agCheckboxCellRenderer", "cellEditor": "agCheckboxCellEditor",
    },
    {
        "field": "path", "headerName": "Number", "flex": 3, "minWidth": 200, "tooltipField": "tip",
        "cellClass": "mono",
    },
    {"field": "group", "headerName": "Group", "width": 82},
    {
        "field": "value", "headerName": "Value", "width": 78, "type": "rightAligned",
        "cellClass": "mono ag-right-aligned-cell", "valueFormatter": NUMBER,
    },
    {"field": "unit", "headerName": "Unit", "width": 74, "cellClass": "dim"},
    {
        "field": "evidence", "headerName": "Evidence", "width": 104,
        "cellClassRules": {f"evidence {kind}": f"params.value === '{kind}'" for kind in KINDS},
    },
    {
        "field": "prior", "headerName": "Documents", "width": 112, "type": "rightAligned",
        "cellClass": "mono dim ag-right-aligned-cell",
        "headerTooltip": "what documents say, and how far they disagree: a fit leaves it only for a reason",
    },
    {
        "field": "share", "headerName": "Carries", "width": 76, "type": "rightAligned",
        "cellClass": "mono ag-right-aligned-cell", "valueFormatter": SHARE,
        "headerTooltip": "the mean share of the rows' predicted time: what carries nothing cannot be fitted",
    },
]  # fmt: skip


def chips(groups: Mapping[str, str]) -> html.Div:
    """A chip for each group; `groups`: what is in it, by its name."""
    made = [
        dmc.Tooltip(
            dmc.Chip(name, value=name, size="xs", variant="outline"), label=what, openDelay=400, w=300,
            multiline=True,
        )
        for name, what in groups.items()
    ]  # fmt: skip
    group = dmc.ChipGroup(dmc.Group(made, gap=6), id=GROUPS, multiple=True, value=[])
    return html.Div(group, role="group", **{"aria-label": "Groups of numbers to fit"})


def card(scheme: str) -> html.Section:
    """The grid, empty."""
    head = html.Header(
        [
            html.H2("Numbers that a fit may change"),
            html.P("tick one, or a whole group at the left; those that the rows do not determine stay"),
        ]
    )
    search = dmc.TextInput(
        id=SEARCH, placeholder="Search: cube, latency, fitted…", size="xs", w=260,
        **{"aria-label": "Search the numbers"},
    )  # fmt: skip
    grid = dag.AgGrid(
        id=GRID,
        columnDefs=COLUMNS,
        rowData=[],
        getRowId="params.data.path",
        defaultColDef={"sortable": True, "resizable": True},
        dashGridOptions={"rowHeight": 30, "headerHeight": 32, "tooltipShowDelay": 300},
        className=theme(scheme),
        style={"height": "100%"},
    )
    return html.Section(
        [html.Div([head, search], className="spread"), html.Div(grid, className="calibrate-grid tall")],
        className="card",
    )


def theme(scheme: str) -> str:
    return "ag-theme-quartz-dark" if scheme == "dark" else "ag-theme-quartz"


def rows(
    fields: list[Field], chosen: frozenset[str], carried: Mapping[str, float] | None
) -> list[dict[str, Any]]:
    """The numbers as rows of the grid. `carried`: share of the rows' time, None before they are predicted."""
    found = []
    for one in fields:
        prior = ""
        if one.documented is not None and one.doubt is not None:
            prior = f"{one.documented:.4g} ± {100 * one.doubt:.0f} %"
        share = None if carried is None else carried.get(one.path, 0.0)
        found.append(
            {
                **asdict(one),
                "chosen": one.path in chosen,
                "prior": prior,
                "share": share,
                "tip": f"{one.path}: {one.source}",
            }
        )
    return found
