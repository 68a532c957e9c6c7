"""Where measurements come from: the shipped rows, or files of one's own."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import ClientsideFunction, Dash, Input, Output, ctx, dcc, html, no_update
from dash import State as Kept

from dashboard.components import cards
from dashboard.components.calibration import asked
from dashboard.components.ids import STATE
from dashboard.figures.text import size
from dashboard.service import Refused
from dashboard.service.calibrate import Calibrations, Rows
from dashboard.service.uploads import LIMIT_BYTES, MIB, Sent, too_large
from dashboard.state import State

UPLOAD, SENT, SHIPPED, FORGET = (
    "calibrate-upload",
    "calibrate-sent",
    "calibrate-shipped",
    "calibrate-forget",
)
FILES, NOTE = "calibrate-files", "calibrate-note"


def section() -> html.Section:
    """The part of the panel that says where rows come from."""
    formats = "npusim's own CSV, op_summary, or a folder of msopprof"
    drop = html.Div(
        [
            html.Strong("Upload measurements"),
            html.Span(f"drop files here, or choose: {formats}, as files or a .zip"),
        ]
    )
    forget = html.Button("Forget the files", id=FORGET, className="plain-button gone", type="button")
    return html.Section(
        [
            html.H2("Measurements"),
            dmc.Button("Shipped rows", id=SHIPPED, size="xs", variant="default", fullWidth=True),
            dcc.Upload(drop, id=UPLOAD, multiple=True, className="drop", className_active="drop over"),
            html.Div(id=FILES),
            forget,
            dcc.Store(id=SENT),
        ],
        className="settings",
    )


def welcome() -> html.Div:
    """What stands where there are no rows yet."""
    limit = f"at most {LIMIT_BYTES // MIB} MiB in all"
    return html.Div(
        [
            html.H2("Hold the model against measurements, and fit it to them"),
            html.P(
                "Take the shipped rows, public timings of Ascend machines, or upload your own. Each is "
                "predicted; then you see how far off the model is, and where. Numbers of a profile that you "
                "choose are fitted to them, and the new profile is yours to download or save."
            ),
            html.P(
                f"Files are read as data, {limit}. They stay on this computer, in a folder that only this "
                "dashboard opens, and go when you forget them, when it ends, or when somebody comes after "
                "nobody has asked for them for three hours."
            ),
        ],
        className="card welcome",
    )


def files(rows: Rows) -> list[Any]:
    """What was read."""
    lines = [
        html.Div([html.Span(one.name, className="mono"), html.Span(size(one.bytes), className="dim")])
        for one in rows.files
    ]
    what = f"{rows.count:,} row{'s' if rows.count != 1 else ''}, {rows.kernels} kernels"
    if len(rows.devices) > 1 or "" not in rows.devices:
        what += f", {len(rows.devices)} device{'s' if len(rows.devices) != 1 else ''}"
    if rows.unmapped:
        what += f"; {len(rows.unmapped)} operators are no row"
    return [*lines, html.P(what)]


# --- callbacks -----------------------------------------------------------------------------------


def register(app: Dash, found: Calibrations) -> None:
    """Where the rows come from."""

    app.clientside_callback(
        ClientsideFunction("calibrate", "sent"),
        Output(SENT, "data"),
        Output(UPLOAD, "contents"),
        Input(UPLOAD, "contents"),
        Kept(UPLOAD, "filename"),
        prevent_initial_call=True,
    )

    @app.callback(
        Output(asked.SESSION, "data"),
        Output(STATE, "data", allow_duplicate=True),
        Output(asked.CHANGED, "data", allow_duplicate=True),
        Output(NOTE, "children", allow_duplicate=True),
        Output(SENT, "data", allow_duplicate=True),
        Input(SENT, "data"),
        Input(SHIPPED, "n_clicks"),
        Input(FORGET, "n_clicks"),
        Kept(asked.SESSION, "data"),
        Kept(STATE, "data"),
        prevent_initial_call=True,
    )
    def _source(sent: Any, shipped: Any, forget: Any, key: str | None, query: str) -> Any:
        state = State.from_query(query or "")
        if ctx.triggered_id == SHIPPED and shipped:
            return no_update, state.viewed(asked.PAGE, shipped=True).query, no_update, None, no_update
        if ctx.triggered_id == FORGET and forget and key:
            found.uploads.forget(key)
            return no_update, no_update, ctx.triggered_id, None, no_update
        if ctx.triggered_id != SENT or not sent:
            return [no_update] * 5
        try:
            if sent.get("large"):
                raise too_large(sent["large"])
            key = found.uploads.visit(key)
            rows = found.upload(key, [Sent(str(n), str(c)) for n, c in sent["files"]])
        except Refused as error:
            note = cards.alert(str(error), "This upload cannot be read; what was here stays")
            return key or no_update, no_update, no_update, note, None
        after = state.viewed(asked.PAGE, shipped=None)
        return key, after.query, rows.digest, None, None

    @app.callback(
        Output(asked.ROWS, "data"),
        Output(FILES, "children"),
        Output(FORGET, "className"),
        Output(SHIPPED, "variant"),
        Output(asked.WELCOME, "className"),
        Output(asked.BODY, "className"),
        Output(NOTE, "children"),
        Input(STATE, "data"),
        Input(asked.SESSION, "data"),
        Input(asked.CHANGED, "data"),
        Kept(asked.ROWS, "data"),
    )
    def _rows(query: str, key: str | None, _: Any, before: Any) -> Any:
        state = State.from_query(query or "")
        try:
            rows = asked.current(found, state, key)
        except Refused as error:
            return [*[no_update] * 6, cards.alert(str(error), "These measurements cannot be read")]
        shipped = rows is not None and not rows.key
        mark = None if rows is None else {"key": rows.key, "digest": rows.digest}
        same = mark == before
        return [
            no_update if same else mark, [] if rows is None else files(rows),
            "plain-button" if rows and rows.key else "plain-button gone",
            "filled" if shipped else "default", "" if rows is None else "gone",
            "gone" if rows is None else "", no_update,
        ]  # fmt: skip
