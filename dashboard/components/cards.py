"""Cards: a figure with a title, a headline number, a message."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import dcc, html

from dashboard.figures.theme import WAITING, Figure

CONFIG = {"displaylogo": False, "displayModeBar": False, "scrollZoom": False}


def figure_card(
    id_: str,
    title: str,
    note: str = "",
    wide: bool = False,
    config: dict[str, Any] | None = None,
    first: Figure = WAITING,
) -> html.Section:
    """A card that a callback fills with a figure; `note`: how to read it; `first`: what stands there."""
    head = [html.H2(title)]
    if note:
        head.append(html.P(note))
    graph = dcc.Graph(id=id_, figure=first, config=config or CONFIG, className="figure")
    kind = "card wide" if wide else "card"
    return html.Section([html.Header(head), graph], id=of(id_), className=kind, **{"aria-label": title})


def of(figure: str) -> str:
    """The id of the card around a figure."""
    return f"{figure}-card"


def content_card(id_: str, title: str, note: str = "", wide: bool = False, first: Any = None) -> html.Section:
    """A card that a callback fills with anything; `first`: what stands there."""
    head = [html.H2(title)]
    if note:
        head.append(html.P(note))
    body = html.Div(first, id=id_, className="content")
    return html.Section(
        [html.Header(head), body], className="card wide" if wide else "card", **{"aria-label": title}
    )


def headline(label: str, value: str, unit: str = "", below: Any = None, badge: Any = None) -> html.Div:
    """A number that is seen first: its name, itself, and a line that says how to take it."""
    top = [html.Span(label, className="label")]
    if badge is not None:
        top.append(badge)
    number = [html.Span(value, className="value")]
    if unit:
        number.append(html.Span(unit, className="unit"))
    return html.Div(
        [
            html.Div(top, className="top"),
            html.Div(number, className="number"),
            html.Div(below, className="below"),
        ],
        className="headline",
    )


def evidence_badge(kind: str) -> html.Span:
    """How a number is known."""
    return html.Span(kind, className=f"evidence {kind}")


def badge(text: str, why: str) -> dmc.Tooltip:
    """A word of warning, with its reason on hover and focus."""
    mark = html.Span(text, className="badge", tabIndex=0, **{"aria-label": f"{text}: {why}"})
    return dmc.Tooltip(
        mark, label=why, multiline=True, w=280, events={"hover": True, "focus": True, "touch": True}
    )


def table(heads: Iterable[str], rows: Iterable[Sequence[Any]]) -> dmc.Table:
    """A table of cells. A head that begins with > is that of numbers, which stand at the right; a cell that
    is a Td stands as it is."""
    kinds = [(head.removeprefix(">"), "right" if head.startswith(">") else "") for head in heads]
    lines = [
        html.Tr(
            [
                cell if isinstance(cell, html.Td) else html.Td(cell, className=kind)
                for cell, (_, kind) in zip(row, kinds, strict=True)
            ]
        )
        for row in rows
    ]
    head = html.Thead(html.Tr([html.Th(name, className=kind) for name, kind in kinds]))
    return dmc.Table([head, html.Tbody(lines)], className="table")


def path(text: str) -> list[Any]:
    """A dotted path that breaks where people would."""
    return [part for word in re.split(r"(?<=[._])", text) for part in (word, html.Wbr())]


def alert(message: str, title: str = "These settings cannot be") -> dmc.Alert:
    """A mistake in npusim's own words; what was shown before stays below, dimmed."""
    return dmc.Alert(message, title=title, color="red", variant="light", className="alert", radius="md")


def replaced(figure: Figure) -> Figure:
    """A figure that keeps what a person zoomed to while its data change."""
    figure["layout"]["uirevision"] = "kept"
    return figure
