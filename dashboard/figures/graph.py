"""The picture of a tile graph: a lane for each unit, a column for each step, edges for dependences."""

from __future__ import annotations

import textwrap
from typing import Any

from dashboard.figures.text import cycles
from dashboard.figures.theme import Figure, Theme, clear, empty, figure, mixed
from dashboard.service import Block, Edge, Node, PhaseGraph

COLUMNS = 14
"""columns in view at first"""
LANE = 66
"""pixels of a lane"""
BOX_WIDTH, BOX_HEIGHT = 0.86, 0.62
LETTERS = 9
"""of a line in a box"""


def tile_graph(phase: PhaseGraph, theme: Theme, chosen: int | None = None) -> Figure:
    """The operations of a phase. Of the chosen one all edges stand out, those for its slots too."""
    if not phase.nodes:
        return empty(theme, "the phase has no operations")
    lanes = {unit: number for number, unit in enumerate(phase.units[::-1])}
    colours = {unit: theme.series[number % len(theme.series)] for number, unit in enumerate(phase.units)}
    around = _around(phase, chosen)
    near = [edge for edge in phase.edges if _near(phase, edge)]
    data = [
        _edges(phase, [e for e in near if _shown(e, 0)], lanes, theme.line, 1, "solid", "depends on"),
        _edges(phase, [e for e in near if _shown(e, 1)], lanes, theme.soft, 1, "dot", "on the trip before"),
    ]
    if chosen is not None:
        styles = (
            ("reads", [e for e in around if e.kind != "reuse" and e.target == chosen], theme.accent, "solid"),
            (
                "read by",
                [e for e in around if e.kind != "reuse" and e.source == chosen],
                theme.series[1],
                "solid",
            ),
            ("slots", [e for e in around if e.kind == "reuse"], theme.series[2], "dash"),
        )
        data += [_edges(phase, found, lanes, colour, 2, dash, name) for name, found, colour, dash in styles]
    data.append(_nodes(phase, lanes, theme))
    ends = {end for edge in around for end in (edge.source, edge.target)}
    shapes = [_block(block, len(lanes), theme) for block in phase.blocks]
    shapes += [
        _box(
            node, lanes, colours[node.unit], theme, node.number == chosen,
            chosen is not None and node.number not in ends,
        )
        for node in phase.nodes
    ]  # fmt: skip
    last = max(node.layer for node in phase.nodes)
    return figure(
        theme, data, height=110 + LANE * len(lanes), shapes=shapes,
        annotations=_titles(phase, len(lanes), theme),
        dragmode="pan", hovermode="closest", showlegend=True,
        xaxis={
            "range": _window(phase, chosen, last), "showgrid": False, "showticklabels": False,
            "rangeslider": {
                "visible": last > COLUMNS, "thickness": 0.09, "bgcolor": theme.grid, "borderwidth": 0,
                "range": [-0.7, last + 0.7],
            },
        },
        yaxis={
            "range": [-0.6, len(lanes) - 0.05], "tickvals": list(lanes.values()), "ticktext": list(lanes),
            "fixedrange": True, "gridcolor": theme.grid,
        },
    )  # fmt: skip


def _window(phase: PhaseGraph, chosen: int | None, last: int) -> list[float]:
    """The columns in view: all of a small graph, else the first, or those around the chosen one."""
    if last <= COLUMNS:
        return [-0.7, max(last, 4) + 0.7]
    middle = 0 if chosen is None else phase.nodes[chosen].layer
    left = min(max(-0.7, middle - COLUMNS / 2), last + 0.7 - COLUMNS)
    return [left, left + COLUMNS]


def _shown(edge: Edge, distance: int) -> bool:
    return edge.kind != "reuse" and min(edge.distance, 1) == distance


def _near(phase: PhaseGraph, edge: Edge) -> bool:
    """Whether both ends can be in view: longer edges are drawn for a chosen operation alone."""
    return abs(phase.nodes[edge.target].layer - phase.nodes[edge.source].layer) <= COLUMNS


def _around(phase: PhaseGraph, chosen: int | None) -> list[Edge]:
    return [edge for edge in phase.edges if chosen in (edge.source, edge.target)]


def _edges(
    phase: PhaseGraph,
    edges: list[Edge],
    lanes: dict[str, int],
    colour: str,
    width: float,
    dash: str,
    name: str,
) -> dict[str, Any]:
    """Lines from the right of one box to the left of another, or around where time runs back."""
    xs: list[float | None] = []
    ys: list[float | None] = []
    for edge in edges:
        one, other = phase.nodes[edge.source], phase.nodes[edge.target]
        a, b = lanes[one.unit], lanes[other.unit]
        start, end = one.layer + BOX_WIDTH / 2, other.layer - BOX_WIDTH / 2
        if one.unit == other.unit and end - start > 0.5:  # over the boxes between
            lift = a + BOX_HEIGHT / 2 + 0.08
            xs += [start, start + 0.06, end - 0.06, end, None]
            ys += [a, lift, lift, b, None]
        else:
            xs += [start, end, None]
            ys += [a, b, None]
    return {
        "type": "scatter", "mode": "lines", "x": xs, "y": ys, "name": name, "hoverinfo": "skip",
        "line": {"color": colour, "width": width, "dash": dash},
    }  # fmt: skip


def _nodes(phase: PhaseGraph, lanes: dict[str, int], theme: Theme) -> dict[str, Any]:
    """What is pointed at and chosen: a mark as large as a box, which itself is a shape."""
    return {
        "type": "scatter", "mode": "markers", "name": "operations", "showlegend": False,
        "x": [node.layer for node in phase.nodes], "y": [lanes[node.unit] for node in phase.nodes],
        "customdata": [node.number for node in phase.nodes],
        "marker": {"symbol": "square", "size": 38, "opacity": 0, "color": theme.accent},
        "hovertext": [_hover(node) for node in phase.nodes], "hoverinfo": "text",
    }  # fmt: skip


def _label(node: Node) -> str:
    lines = textwrap.wrap(node.name, LETTERS, break_long_words=True)
    return "<br>".join([*lines[:2], *(["…"] if len(lines) > 3 else lines[2:3])])


def _hover(node: Node) -> str:
    text = node.text.replace("<-", "←").replace("<~", "⇠").replace("<", "&lt;")
    count = f" in {node.instructions:,} instructions" if node.instructions != 1 else ""
    cost = f"{cycles(node.occupancy)} cycles{count}, visible {cycles(node.latency)} later"
    return f"<b>{node.name}</b> · {node.unit}<br>{text}<br>{cost}"


def _box(
    node: Node, lanes: dict[str, int], colour: str, theme: Theme, chosen: bool, faint: bool
) -> dict[str, Any]:
    y = lanes[node.unit]
    return {
        "type": "rect", "x0": node.layer - BOX_WIDTH / 2, "x1": node.layer + BOX_WIDTH / 2,
        "y0": y - BOX_HEIGHT / 2, "y1": y + BOX_HEIGHT / 2, "layer": "above",
        "fillcolor": mixed(colour, theme.card, 0.34 if chosen else 0.14),
        "line": {"color": theme.accent if chosen else clear(colour, 0.7), "width": 2.5 if chosen else 1},
        "label": {"text": _label(node), "font": {"size": 9.5, "color": theme.muted if faint else theme.ink}},
    }  # fmt: skip


def _block(block: Block, lanes: int, theme: Theme) -> dict[str, Any]:
    return {
        "type": "rect", "x0": block.first - 0.49, "x1": block.last + 0.49, "y0": -0.5 + 0.03 * block.depth,
        "y1": lanes - 0.45 - 0.03 * block.depth, "layer": "below",
        "fillcolor": clear(theme.muted, 0.06), "line": {"color": theme.line, "width": 1, "dash": "dot"},
    }  # fmt: skip


def _titles(phase: PhaseGraph, lanes: int, theme: Theme) -> list[dict[str, Any]]:
    return [
        {
            "x": block.first - 0.4, "y": lanes - 0.44 + 0.2 * block.depth,
            "text": block.title, "showarrow": False,
            "xanchor": "left", "yanchor": "bottom", "font": {"size": 11, "color": theme.muted},
        }
        for block in phase.blocks
    ]  # fmt: skip
