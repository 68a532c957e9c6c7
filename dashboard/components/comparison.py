"""Configurations side by side: a card for each, and tables of their numbers with differences to the
baseline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, State, dcc, html

from dashboard.figures.differences import difference, shown
from dashboard.figures.text import percent, time
from dashboard.service.compare import Column, Comparison
from dashboard.service.configurations import LEAST, MOST, Setting
from dashboard.service.rows import Row, Section

DO = "compare-do"
"""the store of what a button asked, {"what": ..., "place": ...}; `assets/compare.js` writes it, so that a
click counts though the cards are laid anew at that moment"""
Cells = dict[str, Any]
"""a row of a table, or a cell of it, as the browser draws it"""
ADD, EDIT, BASE, REMOVE = "add", "edit", "base", "remove"


def dot(place: int) -> html.Span:
    """The colour of a configuration."""
    return html.Span(className=f"dot series-{place + 1}", **{"aria-hidden": "true"})


def _button(what: str, place: int, text: str, why: str, **more: Any) -> html.Button:
    return html.Button(
        text, type="button", className="small-button", title=why,
        **{"data-what": what, "data-place": str(place)}, **more,
    )  # fmt: skip


def configuration_cards(comparison: Comparison) -> list[Any]:
    """A card for each configuration, and a place for one more."""
    columns = comparison.columns
    made: list[Any] = [_card(comparison, place) for place in range(len(columns))]
    if len(columns) < MOST:
        why = f"a copy of {columns[comparison.edit].configuration.name}, to be changed on the left"
        made.append(
            html.Button(
                [html.Span("+", className="plus"), html.Span("Add")],
                type="button",
                className="add",
                title=why,
                **{
                    "data-what": ADD,
                    "data-place": str(len(columns)),
                    "aria-label": "Add a configuration",
                },
            )
        )
    return made


def _card(comparison: Comparison, place: int) -> html.Article:
    one, base = comparison.columns[place], comparison.columns[comparison.base]
    edited, based = place == comparison.edit, place == comparison.base
    name = one.configuration.name
    kind = "config" + (" edited" if edited else "") + ("" if one.timing else " wrong")
    removable = len(comparison.columns) > LEAST
    buttons = [
        html.Span("on the left", className="dim") if edited
        else _button(EDIT, place, "Edit", "show its settings on the left"),
        None if based else _button(BASE, place, "Baseline", "take differences to this one"),
        _button(REMOVE, place, "Remove", "compare without it") if removable else None,
    ]  # fmt: skip
    return html.Article(
        [
            html.Header([dot(place), html.H2(name, title=name)]),
            _result(one, base, based),
            _differs(one.configuration.differs),
            html.Div([button for button in buttons if button is not None], className="buttons"),
        ],
        className=kind,
        **{"aria-label": name},
    )


def _result(one: Column, base: Column, based: bool) -> html.Div:
    """The time and how it stands to the baseline's; or why there is none."""
    if one.timing is None:
        return html.Div(one.reason, className="reason", role="alert", title=one.reason)
    us = one.timing.report.task_us
    value, unit = time(us)
    mark: Any = None
    if based:
        mark = html.Span("baseline", className="mark")
    elif base.timing and us:
        ratio = base.timing.report.task_us / us
        tone = "alike" if ratio == 1 else "better" if ratio > 1 else "worse"
        text = "as fast" if ratio == 1 else f"{shown('ratio', ratio)} as fast"
        mark = html.Span(text, className=f"mark {tone}")
    unit_text = [html.Span(value, className="value"), html.Span(unit, className="unit"), mark]
    report = one.timing.report
    busy = report.units[report.dominant_unit].utilisation if report.dominant_unit else 0.0
    bound = f"{report.bound}: {report.dominant_unit} busy {percent(busy)}"
    return html.Div(
        [html.Div(unit_text, className="number"), html.Div(bound, className="below", title=bound)],
    )


def _differs(differs: Sequence[Setting]) -> Any:
    """What is not alike in all."""
    if not differs:
        return html.P("nothing differs", className="differs dim")
    return html.Dl(
        [html.Div([html.Dt(one.label), html.Dd(one.value)]) for one in differs], className="differs"
    )


def same_line(same: Iterable[Setting]) -> list[Any]:
    """What is alike in all, said once."""
    parts = [html.Span([html.Span(one.label), html.B(one.value)], className="tag") for one in same]
    return [
        html.Span("The same in all that have it", className="field-label"),
        html.Div(parts, className="tags"),
    ]


# --- tables --------------------------------------------------------------------------------------


def table_head(comparison: Comparison) -> html.Tr:
    """The names of the columns."""
    cells = []
    for place, one in enumerate(comparison.columns):
        base = html.Span("baseline", className="mark") if place == comparison.base else None
        cells.append(
            html.Th(
                html.Div([dot(place), html.Span(one.configuration.name, className="name"), base]), scope="col"
            )
        )
    return html.Tr([html.Th(html.Span("Number", className="hidden"), scope="col", className="first"), *cells])


def table_rows(sections: Iterable[Section], base: int, columns: int) -> list[Cells]:
    """Sections of a table, each under its title, as `assets/compare.js` draws them."""
    made: list[Cells] = []
    for section in (one for one in sections if one.rows):
        title = {"section": section.title, "note": section.note, "span": columns + 1, "kind": "section"}
        made += [title, *(_row(row, base) for row in section.rows)]
    return made


def reason_rows(reasons: Sequence[str | None]) -> list[Cells]:
    """Why numbers of a section are missing, where they are."""
    if not any(reasons):
        return []
    cells = [{"kind": "why", "parts": [{"text": reason or "", "kind": "reason"}]} for reason in reasons]
    return [{"label": "", "cells": cells}]


def _row(row: Row, base: int) -> Cells:
    alike = len(set(row.values)) == 1
    cells = [_cell(row, place, base) for place in range(len(row.values))]
    return {"label": row.label, "help": row.help, "cells": cells, "kind": "alike" if alike else ""}


def _cell(row: Row, place: int, base: int) -> Cells:
    """A number and its difference to the baseline's."""
    value, other = row.values[place], row.values[base]
    exact = f"{value:,.10g}" if isinstance(value, float | int) else str(value or "")
    parts = [{"text": shown(row.kind, value), "kind": "said", "title": exact}]
    found = difference(row.kind, value, other)
    if place != base and found.text:
        good = found.sign * row.better
        tone = "better" if good > 0 else "worse" if good < 0 else "plain"
        parts.append({"text": found.text, "kind": f"difference {'same' if found.alike else tone}"})
    same = place != base and value is not None and value == other
    kinds = [*(["text"] if row.kind == "text" else []), *(["equal"] if same else [])]
    return {"kind": " ".join(kinds), "parts": parts}


def number_table(head: str, bodies: Iterable[str]) -> html.Div:
    """An empty table. Its head is filled by its id, a body by the rows in the store of its id."""
    ids = list(bodies)
    parts = [html.Thead(id=head), *(html.Tbody(id=body) for body in ids)]
    stores = [dcc.Store(id=rows_of(body)) for body in ids]
    return html.Div([html.Table(parts, className="numbers-table"), *stores], className="wide-table")


def rows_of(body: str) -> str:
    """The id of the store of a table's rows."""
    return f"{body}-rows"


def register(app: Dash, bodies: Iterable[str]) -> None:
    """Tables have hundreds of cells, which a component for each would make slow: the browser draws them."""
    for body in bodies:
        app.clientside_callback(
            ClientsideFunction("compare", "rows"),
            Output(body, "className"),
            Input(rows_of(body), "data"),
            State(body, "id"),
        )


def edited_head(comparison: Comparison) -> list[Any]:
    """Which configuration the settings are of."""
    one = comparison.columns[comparison.edit]
    return [html.Span("Settings of", className="dim"), dot(comparison.edit), html.B(one.configuration.name)]
