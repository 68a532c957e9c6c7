"""The rule "bounds": in every trip of every loop, views lie inside their tiles, accesses in tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from npusim.graph import Access, Fault, Index, Items, Node, Operation, Phase, item_variable, tiles_of

Extent = tuple[int, int]
"""least and largest value of a loop variable"""


def bounds(phase: Phase) -> Iterator[Fault]:
    """What lies outside, and where."""
    yield from _nodes(phase.nodes, {})


def _nodes(nodes: tuple[Node, ...], extents: Mapping[str, Extent]) -> Iterator[Fault]:
    for node in nodes:
        if isinstance(node, Operation):
            yield from _operation(node, extents)
        elif isinstance(node, Items):
            for body, group in ((node.body, node.group), (node.ragged, node.total % node.group)):
                own = {
                    item_variable(name, j, group): (0, size - 1)
                    for name, size in node.axes
                    for j in range(group)
                }
                yield from _nodes(body, {**extents, **own})
        elif int(np.max(node.count)) > 0:
            yield from _nodes(node.body, {**extents, node.var: (0, int(np.max(node.count)) - 1)})


def _operation(op: Operation, extents: Mapping[str, Extent]) -> Iterator[Fault]:
    for index in _starts(op):
        for name, _ in index.terms:
            if name not in extents:
                yield op, f"{op.name}: index {index} is used outside its loop or items; use it in their body"
                return
    for view in tiles_of(op):
        rows, cols = view.tile.shape
        if not (_inside(view.row, view.rows, rows, extents) and _inside(view.col, view.cols, cols, extents)):
            yield op, f"{op.name}: view {view} lies outside tile {view.tile.name} {[rows, cols]}"
    for access in (end for end in (op.dst, *op.srcs) if isinstance(end, Access)):
        yield from _access(op, access, extents)


def _starts(op: Operation) -> Iterator[Index]:
    """Every index that an operation uses."""
    for view in tiles_of(op):
        yield from (view.row, view.col)
    for end in (op.dst, *op.srcs):
        if isinstance(end, Access):
            yield from (*end.lead, end.row, end.col)


def _access(op: Operation, access: Access, extents: Mapping[str, Extent]) -> Iterator[Fault]:
    *axes, rows, cols = access.tensor.shape
    if len(access.lead) != len(axes):
        yield (
            op,
            f"{op.name}: {access} has {len(access.lead)} leading indices; "
            f"tensor {access.tensor.name} {list(access.tensor.shape)} takes {len(axes)}",
        )
        return
    parts = [(index, 1, size) for index, size in zip(access.lead, axes, strict=True)]
    parts += [(access.row, access.rows, rows), (access.col, access.cols, cols)]
    if not all(_inside(start, size, limit, extents) for start, size, limit in parts):
        yield op, f"{op.name}: {access} lies outside tensor {access.tensor.name} {list(access.tensor.shape)}"


def _inside(start: Index, size: int, limit: int, extents: Mapping[str, Extent]) -> bool:
    """start .. start + size lies in 0 .. limit for all values of the variables."""
    least = largest = start.const
    for name, factor in start.terms:
        ends = [factor * end for end in extents[name]]
        least, largest = least + min(ends), largest + max(ends)
    return size >= 1 and least >= 0 and largest + size <= limit
