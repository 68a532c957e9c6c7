"""How the points of a store are looked at: what a link says of it, and else what says most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dash import dcc, html

from dashboard.service.points import Column, Points

NUMBER = {
    "function": "params.value == null ? '—' : params.value && params.value < 0.001 && params.value > -0.001 ?"
    " d3.format('.3~e')(params.value) : d3.format(',.4~g')(params.value)"
}


@dataclass(frozen=True)
class View:
    """What is drawn: the columns of each figure and of the grid."""

    x: str
    y: str
    hx: str
    hy: str
    hv: str
    how: str
    columns: list[str]
    stale: bool


def view(points: Points, own: dict[str, str]) -> View:
    """What a link says, where there are such columns, and else what says most."""
    axes, sets = points.axes, points.varied
    usual = usual_of(points)

    def of(name: str, among: list[str]) -> str:
        return own[name] if own.get(name) in among else usual[name]

    columns = [name for name in own.get("columns", "").split(",") if name in points.columns]
    return View(
        of("x", axes), of("y", axes), of("hx", sets), of("hy", sets), of("hv", axes),
        "mean" if own.get("how") == "mean" else "best", columns or points.shown,
        own.get("stale", usual["stale"]) == "yes",
    )  # fmt: skip


def usual_of(points: Points) -> dict[str, str]:
    """What is drawn where nothing is said."""
    axes, sets = points.axes, points.varied
    x = "time_us" if "time_us" in axes else next(iter(axes), "")
    y = next((n for n in ("cost", "relative_error") if n in axes), next((n for n in axes if n != x), x))
    numbers = [name for name in sets if points.scale(name).kind != "names"]
    across = max(numbers or sets, key=lambda name: points.frame[name].nunique(), default="")
    down = next((name for name in sets if name != across), "")  # words stand better at the side
    stale = "no" if points.states["done"] else "yes"
    return {
        "x": x, "y": y, "hx": across, "hy": down, "hv": x, "how": "best", "columns": ",".join(points.shown),
        "stale": stale,
    }  # fmt: skip


def drawn(points: Points, own: dict[str, str], seen: View) -> tuple[Points, Points]:
    """The points that meet the conditions, and those of them that have figures."""
    met = points.where(own.get("where", ""))
    return met, met.of_status("done", *(["stale"] if seen.stale else []))


def options(columns: list[Column]) -> list[dict[str, str]]:
    return [{"value": one.name, "label": one.label} for one in columns]


def column_defs(points: Points, names: list[str]) -> list[dict[str, Any]]:
    """The heads of the grid."""
    found = []
    for name in names:
        one = points.columns[name]
        made: dict[str, Any] = {
            "field": name, "headerName": one.title, "headerTooltip": one.meaning or one.title,
            "filter": "agNumberColumnFilter" if one.numeric else "agTextColumnFilter",
            "minWidth": 104 if one.numeric else 124,
        }  # fmt: skip
        if one.numeric:
            made |= {"type": "rightAligned", "valueFormatter": NUMBER}
        if name == "reason":
            made |= {"minWidth": 220, "tooltipField": name}
        found.append(made)
    return found


def records(points: Points, names: list[str]) -> list[dict[str, Any]]:
    """The rows of the grid."""
    kept = list(dict.fromkeys([*names, "status"]))
    cells = [points.values(name) for name in kept]
    keys = [row.key for row in points.rows]
    return [
        {"key": own, **dict(zip(kept, line, strict=True))} for own, *line in zip(keys, *cells, strict=True)
    ]


def counted(points: Points, met: Points, seen: Points) -> str:
    """How many points there are, in words."""
    said = [f"{number:,} {name}" for name, number in sorted(points.states.items())]
    some = f"; {len(met):,} meet the conditions" if len(met) < len(points) else ""
    none = "" if len(seen) else "; none is drawn"
    return f"{', '.join(said)}{some}{none}"


def chosen_strip(points: Points, own: str, link: str | None, why: str) -> Any:
    """The chosen point, and its way to Explore."""
    parts = [
        html.Span([f"{one.label} ", html.B(f"{text} {one.unit}".strip())]) for one, text in points.said(own)
    ]
    way: Any = html.Span(why, className="dim")
    if link is not None:
        way = dcc.Link("Open in Explore", href=link, className="open")
    return [html.Div(parts, className="parts"), way]
