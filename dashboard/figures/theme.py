"""Two themes, light and dark: one palette and one plotly template for each."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

Figure = dict[str, Any]
"""a plotly figure as JSON: data and layout"""
FONT = "Inter, 'Segoe UI', 'Helvetica Neue', Roboto, 'DejaVu Sans', system-ui, sans-serif"
"""fonts that computers have; none is loaded"""
POWERS = {"size": 9}
"""of ticks that are powers of ten, which plotly writes larger than asked"""
MARGIN = {"l": 8, "r": 12, "t": 8, "b": 8}
"""pixels around what a figure shows and says"""
NAMED = ("bar", "scatter")
"""types of what is drawn whose names stand above, where there are several"""
LEGEND = 29
"""pixels of a row of the names of colours, above a figure"""
TICK = 11
"""pixels of the letters of ticks and of titles of axes"""
NARROW, WIDE = " fijlrt.,:;'|!()[]-/I", "mwMW%@→"
"""letters that are none of the middle width"""


@dataclass(frozen=True, eq=False)
class Theme:
    """Colours of a theme. `series`: for categories, in this order; `scale`: from nothing to much."""

    name: str
    card: str
    ink: str
    muted: str
    grid: str
    line: str
    accent: str
    soft: str
    """the accent, for what belongs to it and is less"""
    series: tuple[str, ...]
    warn: str
    evidence: dict[str, str]
    scale: tuple[str, ...]


LIGHT = Theme(
    "light", card="#ffffff", ink="#1f2733", muted="#697586", grid="#edf0f4", line="#d5dbe3",
    accent="#2563c9", soft="#a9c4ee",
    series=("#2563c9", "#0f9488", "#d97a1c", "#7c5cd6", "#c2447a", "#7a8a1e", "#2b94c4", "#9a6a4f"),
    warn="#cf4436",
    evidence={"documented": "#0f9488", "measured": "#2563c9", "fitted": "#d9a01c", "assumed": "#d4644a"},
    scale=("#f2f6fc", "#bcd4f2", "#7fabe4", "#3f78cf", "#1c4794", "#0e2750"),
)  # fmt: skip
DARK = Theme(
    "dark", card="#1a1e26", ink="#e4e8ef", muted="#98a3b3", grid="#272d38", line="#394150",
    accent="#6ea2f7", soft="#34517f",
    series=("#6ea2f7", "#41bfae", "#eb9d4d", "#a78bf0", "#e57aa6", "#b3c04d", "#63bfe8", "#c79a7d"),
    warn="#f0796b",
    evidence={"documented": "#41bfae", "measured": "#6ea2f7", "fitted": "#e5b84b", "assumed": "#ee8a70"},
    scale=("#1f2530", "#23395e", "#2f5a9c", "#4f8ae0", "#93bdf9", "#dbe9ff"),
)  # fmt: skip
THEMES = {theme.name: theme for theme in (LIGHT, DARK)}


@cache
def template(theme: Theme) -> dict[str, Any]:
    """The plotly template of a theme."""
    axis = {
        "gridcolor": theme.grid, "linecolor": theme.line, "zerolinecolor": theme.line, "zeroline": False,
        "tickfont": {"color": theme.muted, "size": TICK}, "ticklabelstandoff": 4,
        "title": {"font": {"color": theme.muted, "size": TICK}, "standoff": 8}, "automargin": True,
    }  # fmt: skip
    layout = {
        "font": {"family": FONT, "size": 12, "color": theme.ink},
        "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)",
        "colorway": list(theme.series),
        "xaxis": axis, "yaxis": axis,
        "hoverlabel": {
            "align": "left", "bgcolor": theme.card, "bordercolor": theme.line,
            "font": {"family": FONT, "size": 12, "color": theme.ink},
        },
        "legend": {
            "orientation": "h", "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom",
            "font": {"size": 11, "color": theme.muted}, "itemsizing": "constant",
            "bgcolor": "rgba(0,0,0,0)", "itemclick": False, "itemdoubleclick": False, "itemwidth": 30,
        },
        "bargap": 0.34, "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": theme.muted},
    }  # fmt: skip
    return {"layout": layout}


def figure(theme: Theme, data: Sequence[dict[str, Any]], **layout: Any) -> Figure:
    """A figure in a theme. Plotly widens margins for what stands at the axes and above, and then draws all
    again: they are wide enough from the start, as far as can be told (of the names above, one row)."""
    given = {**MARGIN, **layout.pop("margin", {})}
    named = layout.get("showlegend", sum(one.get("showlegend", one["type"] in NAMED) for one in data) > 1)
    rooms = {
        "b": _below(layout.get("xaxis")), "l": _beside(layout.get("yaxis")), "t": LEGEND if named else 0,
    }  # fmt: skip
    margin = given
    for _ in range(2):  # plotly keeps the least margin between what stands at a side and the edge
        pad = min(margin.values())
        wide = {side: pad + room for side, room in rooms.items() if room}
        margin = {side: max(least, wide.get(side, 0)) for side, least in given.items()}
    return {"data": list(data), "layout": {"template": template(theme), "margin": margin, **layout}}


def _below(axis: dict[str, Any] | None) -> int:
    """Pixels of the ticks and the title of an x axis, 0 without ticks."""
    if axis is None or not axis.get("visible", True) or not axis.get("showticklabels", True):
        return 0
    return 36 if "title" in axis else 20


def _beside(axis: dict[str, Any] | None) -> int:
    """Pixels of the names at a y axis, 0 where it has none."""
    names = [] if axis is None else [*axis.get("ticktext", axis.get("categoryarray", ()))]
    return math.ceil(TICK * _widest(names)) + 6 if names else 0


def _widest(names: Iterable[str]) -> float:
    """About how wide the widest is, for letters of size 1, of a font that is wider than most."""
    plain = (re.sub("<.*?>", "", name) for name in names)
    return max(sum(0.38 if c in NARROW else 0.95 if c in WIDE else 0.63 for c in name) for name in plain)


WAITING: Figure = {
    "data": [],
    "layout": {
        "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "height": 180,
        "margin": {"l": 60, "r": 12, "t": 41, "b": 48},  # about those of answers: legends are laid in them
        "xaxis": {"visible": False}, "yaxis": {"visible": False},
    },
}  # fmt: skip
"""what stands before the first answer"""


def empty(theme: Theme, text: str) -> Figure:
    """A figure that says why there is none."""
    note = {
        "text": text, "showarrow": False, "x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper",
        "font": {"color": theme.muted, "size": 13},
    }  # fmt: skip
    hidden = {"visible": False}
    return figure(theme, [], height=160, annotations=[note], xaxis=hidden, yaxis=hidden)


def clear(colour: str, share: float) -> str:
    """A #rrggbb colour, so much of it opaque."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},{share:g})"


def mixed(colour: str, ground: str, share: float) -> str:
    """So much of a #rrggbb colour on a ground, opaque."""
    parts = [(int(colour[at : at + 2], 16), int(ground[at : at + 2], 16)) for at in (1, 3, 5)]
    return "#" + "".join(f"{round(share * one + (1 - share) * other):02x}" for one, other in parts)
