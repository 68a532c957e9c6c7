"""Operators of a profiler that are no row: which kernel one is, and the file that says so."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import ALL, Dash, Input, Output, ctx, html, no_update
from dash import State as Kept

from dashboard.components import cards
from dashboard.components.calibration import asked, measurements
from dashboard.service import Refused
from dashboard.service.calibrate import DTYPES, Calibrations, Kind, Rows
from dashboard.service.measured import OWN_OPERATORS

OPERATORS = "calibrate-operators"
OPERATOR, BY, KERNEL, ALGORITHM, VARIANT, DTYPE, SHAPES, SIZES, ASSIGN = (
    f"calibrate-map-{name}"
    for name in ("operator", "by", "kernel", "algorithm", "variant", "dtype", "shapes", "sizes", "assign")
)
YAML, APPLY, TAKE, MAP_NOTE = "calibrate-yaml", "calibrate-apply", "calibrate-take", "calibrate-map-note"
EXAMPLE = "extends: shipped\noperators:\n- name: my_kernel*\n  kernel: matmul\n  shapes: m,k; k,n -> m,n"
PLACE = "calibrate-place"
"""type of the ids of buttons that choose an operator: {"type": PLACE, "place": its place}"""


def shown(rows: Rows, kinds: list[Kind], text: str) -> list[Any]:
    """The operators that are no row, a form that makes one a row, and the operators file."""
    if not rows.key:
        return [
            html.P(
                "The shipped rows name their kernels; operators of a profiler are mapped here.",
                className="dim",
            )
        ]
    head = html.Header(
        [
            html.H2(f"Operators that are no row: {len(rows.unmapped)}"),
            html.P("a profiler names operators; which kernel one is, an operators file says"),
        ]
    )
    parts = [html.Section([head, _table(rows)], className="card"), _form(rows, kinds), _file(text)]
    return [html.Div(parts, className="stack")]


def _table(rows: Rows) -> Any:
    if not rows.unmapped:
        return html.P("None: each operator in the files is a row.", className="dim")
    lines = [
        (
            html.Td(one.place, className="mono"), html.Td(cards.path(one.operator), className="mono"),
            html.Td(one.shapes or "—", className="mono"), f"{one.launches:,}",
            html.Td(one.reason, className="source"),
            dmc.Button(
                "Assign", id={"type": PLACE, "place": one.place}, size="compact-xs", variant="subtle"
            ),
        )
        for one in rows.unmapped[:200]
    ]  # fmt: skip
    heads = ("Place", "Operator", "Shapes", ">Launches", "Why it is no row", "")
    return html.Div(cards.table(heads, lines), className="scrolls")


def _form(rows: Rows, kinds: list[Kind]) -> html.Section:
    choices = [{"value": one.place, "label": f"{one.operator} · {one.place}"} for one in rows.unmapped]
    kernels = [{"value": one.kernel, "label": one.kernel} for one in kinds]
    by = [{"value": "name", "label": "this name"}, {"value": "type", "label": "its whole type"}]
    common: dict[str, Any] = {"size": "xs"}
    fields = [
        dmc.Select(id=OPERATOR, label="Operator", data=choices, searchable=True, **common, className="wide"),
        dmc.Select(id=BY, label="For", data=by, value="name", allowDeselect=False, **common),
        dmc.Select(id=KERNEL, label="Kernel", data=kernels, searchable=True, **common),
        dmc.Select(id=ALGORITHM, label="Algorithm", data=[], clearable=True, placeholder="first", **common),
        dmc.Select(id=VARIANT, label="Variant", data=[], clearable=True, placeholder="not stated", **common),
        dmc.Select(
            id=DTYPE, label="Dtype", data=list(DTYPES), clearable=True, placeholder="of its inputs", **common
        ),
        dmc.TextInput(
            id=SHAPES,
            label="Pattern of the shapes",
            placeholder="m,k; k,n -> m,n",
            className="wide",
            size="xs",
        ),
        dmc.TextInput(
            id=SIZES, label="Sizes known beforehand", placeholder="chunk=128, heads=16", **common,
            className="wide",
        ),
    ]  # fmt: skip
    head = html.Header(
        [
            html.H2("Assign a kernel"),
            html.P(
                "sizes come from the pattern, whose names are sizes, or are given; | parts several patterns"
            ),
        ]
    )
    return html.Section(
        [
            head,
            html.Div(fields, className="map-fields"),
            html.Div([dmc.Button("Assign", id=ASSIGN, size="xs")], className="buttons"),
        ],
        className="card" if rows.unmapped else "card gone",
    )


def _file(text: str) -> html.Section:
    head = html.Header(
        [
            html.H2("Operators file"),
            html.P(
                "the first entry whose name or type matches and whose shapes fit is taken; edit it freely"
            ),
        ]
    )
    area = dmc.Textarea(
        id=YAML, value=text, autosize=True, minRows=4, maxRows=18, className="yaml",
        placeholder=EXAMPLE,
        **{"aria-label": "Operators file"},
    )  # fmt: skip
    buttons = [
        dmc.Button("Apply", id=APPLY, size="xs", variant="default"),
        dmc.Button("Download", id=TAKE, size="xs", variant="default"),
    ]
    return html.Section([head, area, html.Div(buttons, className="buttons")], className="card")


# --- callbacks -----------------------------------------------------------------------------------


def register(app: Dash, found: Calibrations) -> None:
    """All of them."""

    @app.callback(Output(OPERATORS, "children"), Input(asked.ROWS, "data"))
    def _show(mark: Any) -> Any:
        if not mark:
            return None
        try:
            own = found.rows(mark["key"])
            text = found.operators(mark["key"]) if mark["key"] else ""
        except Refused:  # which the page says
            return None
        return shown(own, found.kinds(), text)

    @app.callback(
        Output(OPERATOR, "value"),
        Input({"type": PLACE, "place": ALL}, "n_clicks"),
        prevent_initial_call=True,
    )
    def _operator(clicks: list[Any]) -> Any:
        own = ctx.triggered_id
        return own["place"] if own and any(clicks) else no_update

    @app.callback(
        Output(ALGORITHM, "data"),
        Output(ALGORITHM, "value"),
        Output(VARIANT, "data"),
        Output(VARIANT, "value"),
        Output(SIZES, "description"),
        Input(KERNEL, "value"),
        Input(ALGORITHM, "value"),
        prevent_initial_call=True,
    )
    def _kernel(kernel: str | None, algorithm: str | None) -> Any:
        kind = next((one for one in found.kinds() if one.kernel == kernel), None)
        if kind is None:
            return [], None, [], None, ""
        algorithm = algorithm if algorithm in kind.algorithms else None
        variants = kind.algorithms[algorithm or next(iter(kind.algorithms))]
        sizes = f"{kind.kernel} has {', '.join(kind.sizes)}"
        return list(kind.algorithms), algorithm, list(variants), None, sizes

    @app.callback(
        Output(asked.CHANGED, "data", allow_duplicate=True),
        Output(measurements.NOTE, "children", allow_duplicate=True),
        Input(ASSIGN, "n_clicks"),
        Input(APPLY, "n_clicks"),
        *[
            Kept(name, "value")
            for name in (
                OPERATOR, BY, KERNEL, ALGORITHM, VARIANT, DTYPE,
                SHAPES, SIZES, YAML,
            )
        ],
        Kept(asked.SESSION, "data"),
        prevent_initial_call=True,
    )  # fmt: skip
    def _map(assign: Any, apply: Any, *given: Any) -> Any:
        *fields, text, key = given
        names = ("operator", "for", "kernel", "algorithm", "variant", "dtype", "shapes", "sizes")
        wanted = {name: value for name, value in zip(names, fields, strict=True) if value}
        if not key or not (assign or apply):
            return no_update, no_update
        try:
            if ctx.triggered_id == APPLY:
                return found.map(key, text or "").digest, None
            place = wanted.pop("operator", "")
            one = next((own for own in found.rows(key).unmapped if own.place == place), None)
            if one is None or not wanted.get("kernel"):
                text = "Choose the operator and the kernel that it is."
                return no_update, cards.alert(text, "Nothing is assigned yet")
            return found.assign(key, one, wanted).digest, None
        except Refused as error:
            return no_update, cards.alert(str(error), "This operator is no row yet")

    @app.callback(
        Output(asked.DOWNLOAD, "data", allow_duplicate=True),
        Input(TAKE, "n_clicks"),
        Kept(YAML, "value"),
        prevent_initial_call=True,
    )
    def _take(clicks: Any, text: str | None) -> Any:
        if not clicks or not text:
            return no_update
        return {"content": text, "filename": OWN_OPERATORS, "type": "application/yaml"}
