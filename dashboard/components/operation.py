"""The tiles and the cost of an operation, as the pages show them that let one be chosen."""

from __future__ import annotations

from typing import Any

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
    if not node.operands:
        return html.P("It touches no tile.", className="dim")
    rows = [
        (
            html.Td(o.role, className="dim"), html.Td(o.name, className="mono"), o.place, o.shape, o.dtype,
            str(o.slots),
        )
        for o in node.operands
    ]  # fmt: skip
    return cards.table(("", "Tile", "Level", "Shape", "Type", "Slots"), rows)


def sources(terms: tuple[Term, ...]) -> Any:
    """The numbers that its cost is made of, with where they come from."""
    if not terms:
        return html.P("It costs nothing on this machine.", className="dim")
    rows = [
        (
            html.Td(cards.path(term.field), className="mono"), term.formula, shown(term.cycles),
            cards.evidence_badge(term.evidence), html.Td(term.source, className="source"),
        )
        for term in terms
    ]  # fmt: skip
    return cards.table(("Number", "Filled in", ">Cycles", "Evidence", "Source"), rows)
