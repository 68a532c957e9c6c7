"""How the points of a store are looked at: what a link says of it, and else what says most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dash import dcc, html

from dashboard.service.points import Column, Points

SETTING = {"function": "params.value == null ? '—' : d3.format(',.12~g')(params.value)"}
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


def spans_of(points: Points, store: str, brush: Mapping[str, Any] | None) -> dict[str, Any]:
    """The ranges of a brush that mean the same as when they were drawn: of this store, on axes whose scale
    no new point has changed."""
    if not brush or brush["store"] != store:
        return {}
    return {
        name: spans for name, spans in brush["spans"].items()
        if name in points.columns and brush["scales"].get(name) == points.scale(name).mark
    }  # fmt: skip


def shown(own: Mapping[str, str], points: Points, seen: View) -> dict[str, Any]:
    """What the controls are made to show, by the names of a link's settings."""
    return {
        "where": own.get("where", ""), "cost": own.get("cost", ""), "stale": "yes" if seen.stale else "no",
        "x": seen.x, "y": seen.y, "hx": seen.hx, "hy": seen.hy, "hv": seen.hv, "how": seen.how,
        "columns": ",".join(seen.columns),
    }  # fmt: skip


def picked(wrote: Mapping[str, Mapping[str, str]] | None, now: Mapping[str, str | None]) -> dict[str, Any]:
    """What a person has chosen of what the controls say `now`: where they say something else than they were
    made to show. What is so by itself is not said in a link (None). `wrote`: see `shown` and `usual_of`;
    a control that was not written to says nothing."""
    was, usual = (wrote or {}).get("shown", {}), (wrote or {}).get("usual", {})
    return {n: None if v in ("", usual.get(n)) else v for n, v in now.items() if n in was and v != was[n]}


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
            made |= {"type": "rightAligned", "valueFormatter": SETTING if one.setting else NUMBER}
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
