"""A chosen operation of a run: when it ran, what it waited for and what for it, its tiles and its cost."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import dcc, html

from dashboard.components import cards
from dashboard.components.operation import formula, operands
from dashboard.figures.text import cycles
from dashboard.figures.timeline import amount, wait
from dashboard.service import Node
from dashboard.service.operation import Chosen, Other

CHOSEN = "timeline-chosen"
"""type of the ids of what chooses an operation; of the place '': none"""
BEFORE = {
    "read": "its result",
    "stream": "streams from it",
    "reuse": "its slot",
    "drain": "barrier behind it",
}
AFTER = {
    "read": "reads it",
    "stream": "streams from it",
    "reuse": "takes its slot",
    "drain": "barrier behind it",
}
"""how an operation depends on one before it, and one after it on it"""
OTHERS = 8
"""dependences that are listed on each side"""


def _choice(place: str) -> dict[str, str]:
    return {"type": CHOSEN, "place": place}


def details(chosen: Chosen | None, node: Node | None, link: str) -> list[Any]:
    """The chosen operation: when it ran, what it waited for, its tiles and its cost."""
    if chosen is None:
        return [
            html.Header(
                [
                    html.H2("No operation is chosen"),
                    html.P("Click a bar to see its tiles, what it waited for and what waited for it."),
                ]
            )
        ]
    fact = chosen.fact
    core, group, unit = chosen.unit
    said = amount(fact)
    named = unit.replace("aiv_", f"{core}_")
    where = f"{named} of core group {group}, phase {fact.phase}, operation {chosen.place.number:,}"
    head = html.Div(
        [
            html.Header([html.H2(fact.name), html.P(where)]),
            html.Div(
                [
                    dcc.Link("Its cost in Graph", href=link, className="plain") if link else None,
                    dmc.Button("Clear", id=_choice(""), size="compact-xs", variant="default"),
                ],
                className="choose",
            ),
        ],
        className="spread",
    )
    times = [
        ("Issued, cycle", chosen.issued), ("Starts", chosen.start), ("Ends", chosen.end),
        ("Visible", chosen.done),
    ]  # fmt: skip
    cells = [
        html.Div([html.Span(name, className="field-label"), html.Span(cycles_text(at), className="at"),
                  html.Span(f"{at / chosen.scale:,.4f} µs", className="dim")])
        for name, at in times
    ]  # fmt: skip
    left = [
        html.Code(fact.text, className="line"),
        html.P(said, className="dim") if said else None,
        html.Div(cells, className="times"),
        html.P(_waiting(chosen)),
    ]
    right = [formula("Occupies its unit", node.occupancy, [t for t in node.terms if t.part == "occupancy"]),
             operands(node)] if node is not None else []  # fmt: skip
    return [
        head,
        html.Div([html.Div(left), html.Div(right)], className="two"),
        html.Div(
            [
                html.Div(_others("Waits for", chosen.before, chosen, True)),
                html.Div(_others("Waits for it", chosen.after, chosen, False)),
            ],
            className="two",
        ),
    ]


def cycles_text(value: float) -> str:
    """A moment in cycles, to a hundredth, however late."""
    return f"{value:,.2f}"


def _waiting(chosen: Chosen) -> str:
    """What it waited for, and how long."""
    queued = chosen.start - chosen.issued
    parts = [f"It waited last for {wait(chosen.waited)}."]
    if chosen.idle is None:
        parts.append("It is the first on its unit that is known here.")
    elif chosen.idle > 0:
        parts.append(f"Its unit stood idle for {cycles(chosen.idle)} cycles before it.")
    if queued > 0:
        parts.append(f"It was issued {cycles(queued)} cycles before it started.")
    return " ".join(parts)


def _others(name: str, others: tuple[Other, ...], chosen: Chosen, before: bool) -> list[Any]:
    """What is at the other ends of dependences, those nearest in time first."""
    label = html.Span(name, className="field-label")
    if not others:
        return [label, html.P("nothing among the operations around it", className="dim")]
    order = sorted(others, key=lambda one: (not one.last, -one.done if before else one.start))
    rows = []
    for one in order[:OTHERS]:
        apart = chosen.start - one.done if before else one.start - chosen.done
        core, _, unit = one.unit
        named = unit.replace("aiv_", f"{core}_")
        choose = html.Button(one.name, id=_choice(str(one.place)), className="as-link", type="button")
        how = html.Td((BEFORE if before else AFTER)[one.kind], className="dim")
        mark = html.Span("last", className="badge plain") if one.last else None
        rows.append(
            (choose, how, html.Td(named, className="mono"), f"{cycles(round(apart, 2))} cycles", mark)
        )
    heads = ("Operation", "How", "Unit", ">visible before" if before else ">start, since its end", "")
    more = [html.P(f"and {len(others) - OTHERS} more", className="dim")] if len(others) > OTHERS else []
    return [label, cards.table(heads, rows), *more]
