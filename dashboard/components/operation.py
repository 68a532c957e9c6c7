"""The tiles and the cost of an operation, as the pages show them that let one be chosen."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import html

from dashboard.components import cards
from dashboard.figures.text import cycles as shown
from dashboard.service import Node, Term


def formula(what: str, cycles: float, terms: list[Term]) -> html.Div:
    """'= 6 cycles + ⌈64/16⌉ × ... cycles = 70 cycles'."""
    parts = [
        part
        for term in terms
        for part in (
            html.Span(" + "),
            html.Span(term.formula, className=f"term {term.evidence}", title=term.field),
        )
    ]
    total = html.Span([f"{shown(cycles)} ", html.Span("cycles", className="unit")], className="total")
    return html.Div(
        [
            html.Span(what, className="field-label"),
            total,
            html.Div(["= ", *parts[1:]] if parts else "nothing", className="formula"),
        ]
    )


def operands(node: Node) -> Any:
    """The tiles and tensors that it touches."""
    head = html.Thead(html.Tr([html.Th(text) for text in ("", "Tile", "Level", "Shape", "Type", "Slots")]))
    rows = [
        html.Tr(
            [
                html.Td(o.role, className="dim"),
                html.Td(o.name, className="mono"),
                html.Td(o.place),
                html.Td(o.shape),
                html.Td(o.dtype),
                html.Td(str(o.slots)),
            ]
        )
        for o in node.operands
    ]
    return (
        dmc.Table([head, html.Tbody(rows)], className="table")
        if rows
        else html.P("It touches no tile.", className="dim")
    )


def sources(terms: tuple[Term, ...]) -> Any:
    """The numbers that its cost is made of, with where they come from."""
    if not terms:
        return html.P("It costs nothing on this machine.", className="dim")
    head = html.Thead(
        html.Tr(
            [
                html.Th("Number"),
                html.Th("Filled in"),
                html.Th("Cycles", className="right"),
                html.Th("Evidence"),
                html.Th("Source"),
            ]
        )
    )
    rows = [
        html.Tr(
            [
                html.Td(cards.path(term.field), className="mono"),
                html.Td(term.formula),
                html.Td(shown(term.cycles), className="right"),
                html.Td(cards.evidence_badge(term.evidence)),
                html.Td(term.source, className="source"),
            ]
        )
        for term in terms
    ]
    return dmc.Table([head, html.Tbody(rows)], className="table")
