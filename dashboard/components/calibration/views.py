"""What the page Calibrate shows of a prediction and of a fit: its parts, and what fills them."""

from __future__ import annotations

from typing import Any

import dash_ag_grid as dag
import dash_mantine_components as dmc
from dash import dcc, html, no_update

from dashboard.components import cards
from dashboard.components.calibration import tables
from dashboard.components.calibration.fields import theme as grid_theme
from dashboard.figures import parity as figures
from dashboard.figures.parity import signed
from dashboard.figures.theme import Theme
from dashboard.service.calibrating import Fit, Seen

HEADS, PARITY, ERRORS, BUSY, DEVICES, GRID, BOX, LOST = (
    f"calibrate-{name}" for name in ("heads", "parity", "errors", "busy", "devices", "grid", "box", "lost")
)
PART, LATER, AGAIN, SAVE_NOTE = (
    "calibrate-part",
    "calibrate-later",
    "calibrate-again",
    "calibrate-save-note",
)
(
    FIT_PART, FIT_EMPTY, FIT_HEADS, FIT_PARITY, FIT_ROWS, FIT_NUMBERS, FIT_STAY, FIT_HELD, FIT_DOUBTS,
    FIT_IDEAS, FIT_LOST,
) = (
    f"calibrate-fit-{name}"
    for name in (
        "part", "empty", "heads", "parity", "rows", "numbers", "stay", "held", "doubts", "ideas", "lost",
    )
)  # fmt: skip
HIDDEN = "card gone"
SEEN = [
    (PART, "className"), (LATER, "className"), (HEADS, "children"), (PARITY, "figure"), (ERRORS, "figure"),
    (BUSY, "figure"), (cards.of(BUSY), "className"), (DEVICES, "children"), (GRID, "rowData"), (BOX, "style"),
    (GRID, "className"), (LOST, "children"), (cards.of(LOST), "className"),
]  # fmt: skip
"""what a prediction fills"""
FITTED = [
    (FIT_PART, "className"), (FIT_EMPTY, "children"), (FIT_HEADS, "children"), (FIT_PARITY, "figure"),
    (FIT_ROWS, "figure"), (FIT_NUMBERS, "children"), (FIT_STAY, "children"), (FIT_HELD, "children"),
    (FIT_DOUBTS, "children"), (FIT_IDEAS, "children"), (FIT_LOST, "children"),
    (cards.of(FIT_LOST), "className"),
]  # fmt: skip
"""what a fit fills"""
MICROSECONDS = {"function": "params.value === null ? '' : d3.format(',.4~r')(params.value)"}
SIGNED = {"function": "d3.format('+.1%')(params.value).replace('%', ' %')"}
COLUMNS = [
    {"field": "row", "headerName": "Row", "width": 64, "cellClass": "mono dim", "tooltipField": "place"},
    {"field": "device", "headerName": "Device", "width": 124, "tooltipField": "device"},
    {"field": "what", "headerName": "Kernel and sizes", "flex": 3, "minWidth": 200, "tooltipField": "what"},
    {
        "field": "measured", "headerName": "Measured µs", "width": 106, "type": "rightAligned",
        "cellClass": "mono ag-right-aligned-cell", "valueFormatter": MICROSECONDS,
    },
    {
        "field": "predicted", "headerName": "Predicted µs", "width": 106, "type": "rightAligned",
        "cellClass": "mono ag-right-aligned-cell", "valueFormatter": MICROSECONDS,
    },
    {
        "field": "error", "headerName": "Error", "width": 78, "type": "rightAligned",
        "cellClass": "mono ag-right-aligned-cell", "valueFormatter": SIGNED,
        "cellClassRules": {"far": "Math.abs(params.value) > 0.2"},
        "comparator": {"function": "Math.abs(valueA) - Math.abs(valueB)"},
    },
    {
        "field": "cause", "headerName": "Dominated by", "flex": 2, "minWidth": 140, "tooltipField": "cause",
        "cellClass": "dim",
    },
]  # fmt: skip


def accuracy_panel() -> html.Div:
    """Measured and predicted: figures, scores and rows."""
    grid = dag.AgGrid(
        id=GRID,
        columnDefs=COLUMNS,
        rowData=[],
        defaultColDef={"sortable": True, "resizable": True},
        dashGridOptions={"rowHeight": 30, "headerHeight": 32, "tooltipShowDelay": 300},
        rowClassRules={"apart": "params.data.apart"},
        className=grid_theme("light"),
        style={"height": "100%"},
    )
    rows = html.Section(
        [
            html.Header(
                [
                    html.H2("Rows"),
                    html.P("red: further off than 20 %; slanted: counted apart; a click on a head sorts"),
                ]
            ),
            html.Div(grid, id=BOX, className="calibrate-grid"),
        ],
        className="card wide",
    )
    lost = cards.content_card(LOST, "Rows that are not predicted", "and why", wide=True)
    lost.id = cards.of(LOST)
    again = html.Div(
        [
            html.P("These rows are not predicted yet."),
            dmc.Button("Predict again", id=AGAIN, size="xs", variant="default"),
        ],
        id=LATER,
        className=HIDDEN,
    )
    return html.Div(
        [
            again,
            html.Div(
                [
                    html.Div(id=HEADS, className="headlines"),
                    html.Div(
                        [
                            cards.figure_card(
                                PARITY, "Predicted against measured",
                                "the band is ± 20 %; hollow points count apart; colours as beside",
                            ),
                            cards.figure_card(
                                ERRORS, "Error by kernel",
                                "left is too fast; bar: the median; grey: how many rows",
                            ),
                            _pair(
                                cards.content_card(DEVICES, "Accuracy by device"),
                                cards.figure_card(
                                    BUSY, "Busy time of units", "predicted over measured, where it was"
                                ),
                            ),
                            rows,
                            lost,
                        ],
                        className="cards",
                    ),
                ],
                id=PART,
                className="stack gone",
            ),
        ],
        className="stack",
    )  # fmt: skip


def fit_panel(actions: html.Div) -> html.Div:
    """A fit: before and after, the numbers, and what they are worth."""
    left = cards.content_card(FIT_LOST, "Rows that are not fitted to", "and why", wide=True)
    left.id = cards.of(FIT_LOST)
    return html.Div(
        [
            html.Div(id=FIT_EMPTY),
            html.Div(
                [
                    html.Div(id=FIT_HEADS, className="headlines"),
                    html.Div(id=SAVE_NOTE, **{"aria-live": "polite"}),
                    html.Div(actions, className="card"),
                    html.Div(
                        [
                            cards.figure_card(FIT_PARITY, "Before and after", "the band is ± 20 %"),
                            cards.figure_card(
                                FIT_ROWS, "Error of each row", "the largest after the fit on top"
                            ),
                            _pair(
                                cards.content_card(
                                    FIT_HELD, "Held out", "predicted with the numbers that the others give"
                                ),
                                cards.content_card(FIT_DOUBTS, "To take with care", "what the fit points at"),
                            ),
                            html.Div(
                                [
                                    cards.content_card(
                                        FIT_NUMBERS, "Numbers that the rows determine",
                                        "error: one standard error; ×: a common factor of several numbers",
                                    ),
                                    cards.content_card(
                                        FIT_STAY, "Numbers that stay", "the rows do not determine them"
                                    ),
                                ],
                                className="two-wide",
                            ),
                            cards.content_card(
                                FIT_IDEAS, "What to measure next", "what would shrink the uncertainty most",
                                wide=True,
                            ),
                            left,
                        ],
                        className="cards",
                    ),
                ],
                id=FIT_PART,
                className="stack gone",
            ),
        ],
        className="stack",
    )  # fmt: skip


def _pair(*parts: Any) -> html.Div:
    """Cards side by side, or on top of each other where there is a third column for them."""
    return html.Div(list(parts), className="pair")


# --- a prediction ----------------------------------------------------------------------------------


def unseen(status: str | None) -> list[Any]:
    """While there is no prediction; one that came to no end can be asked for again, as can one that was not
    started, of which its callback says so: there is no status."""
    ended = status in ("failed", "cancelled", "lost")
    later: Any = "card" if ended else HIDDEN
    return ["stack gone", no_update if status is None else later, *[no_update] * (len(SEEN) - 2)]


def seen(found: Seen, theme: Theme) -> list[Any]:
    """What fills SEEN."""
    rows = [
        {
            "row": one.row, "place": one.apart or one.place, "device": one.device, "what": one.what,
            "measured": one.measured, "predicted": one.predicted, "error": one.error,
            "cause": f"{one.unit}: {one.why}", "apart": bool(one.apart),
        }
        for one in found.points
    ]  # fmt: skip
    busy = any(one.busy for one in found.points)
    return [
        "stack", HIDDEN, _heads(found), cards.replaced(figures.parity(found, theme)),
        cards.replaced(figures.errors(found, theme)), figures.busy(found, theme),
        "card" if busy else "card gone", _scores(found), rows,
        {"height": min(440, 38 + 30 * len(rows))}, grid_theme(theme.name),
        tables.lost(found.lost), "card wide" if found.lost else "card wide gone",
    ]  # fmt: skip


def _heads(found: Seen) -> list[Any]:
    whole = found.whole
    apart = len(found.points) - (whole.rows if whole else 0)
    shown = [
        cards.headline(
            "Rows", str(whole.rows if whole else 0), "",
            f"that count; {apart} apart, {found.unpredicted} not predicted",
        )
    ]  # fmt: skip
    if whole:
        shown = [
            cards.headline("Mean error", tables.percent(whole.mape), "", "MAPE of the rows that count"),
            cards.headline("Median error", tables.percent(whole.median), "", "half of the rows are nearer"),
            cards.headline("Worst error", signed(whole.worst), "", "below zero: predicted too fast"),
            *shown,
        ]
    if found.ranking is not None:
        below = f"of {found.pairs} pairs of rows"
        if found.ratio_error is not None:
            below += f", their ratios off by {tables.percent(found.ratio_error)}"
        shown.append(cards.headline("In order", tables.percent(found.ranking), "", below))
    return shown


def _scores(found: Seen) -> Any:
    groups = [*found.devices.items(), *((f"apart: {why}", one) for why, one in found.apart.items())]
    rows = [
        (name, str(one.rows), *map(tables.percent, (one.mape, one.median)), signed(one.worst))
        for name, one in groups
    ]
    return cards.table(("Device", ">Rows", ">Mean error", ">Median", ">Worst"), rows)


# --- a fit -----------------------------------------------------------------------------------------


def unfitted(status: str) -> list[Any]:
    """While there is no fit of these settings."""
    text = "Fitting; the rows are predicted again and again with other numbers."
    if status not in ("starting", "running"):
        text = "There is no fit with these settings yet: choose numbers at the left, then “Fit”."
    note = html.Div(html.P(text, className="dim"), className="card")
    return ["stack gone", note, *[no_update] * (len(FITTED) - 2)]


def fitted(fit: Fit, theme: Theme) -> list[Any]:
    """What fills FITTED."""
    return [
        "stack", None, tables.headlines(fit), cards.replaced(figures.fit_parity(fit, theme)),
        figures.fit_rows(fit, theme), tables.numbers(fit), tables.undetermined(fit), tables.held_out(fit),
        tables.doubts(fit), tables.ideas(fit), tables.lost(fit.lost),
        "card wide" if fit.lost else "card wide gone",
    ]  # fmt: skip


def saved(file: str) -> dmc.Alert:
    """That a profile was saved, and where it can be looked at."""
    link = dcc.Link("Explore it", href=f"/explore?profile={file}")
    return dmc.Alert(
        [f"Saved as {file} in the folder where the dashboard runs. ", link],
        color="green",
        variant="light",
        p="xs",
    )


def command(text: str) -> Any:
    """The command line that fits the same."""
    if not text:
        return None
    copy = dmc.CopyButton(
        value=text, children="Copy", copiedChildren="Copied", size="compact-xs", variant="subtle"
    )
    head = html.Div(
        [html.Span("The same on the command line", className="field-label"), copy], className="spread"
    )
    return [head, html.Code(text, className="line")]
