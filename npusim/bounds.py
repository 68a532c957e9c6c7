"""The rule "bounds": in every trip of every loop, views lie inside their tiles, accesses in tensors."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from npusim.graph import (
    Access,
    Fault,
    Index,
    Items,
    Loop,
    Node,
    Operation,
    Phase,
    item_variable,
)

Ints = npt.NDArray[np.int64]
Extent = tuple[int, int] | tuple[Ints, Ints]
"""least and largest value of a loop variable; of one that a table rules, for each of some items"""
ITEMS = ""
"""where the extents say which items these are"""


def bounds(phase: Phase) -> Iterator[Fault]:
    """What lies outside, and where."""
    yield from _nodes(phase.nodes, {})


def _nodes(nodes: tuple[Node, ...], extents: Mapping[str, Extent]) -> Iterator[Fault]:
    seen: set[Hashable] = set()
    for node in nodes:
        if isinstance(node, Operation):
            if node.signature not in seen:
                seen.add(node.signature)
                yield from _operation(node, extents)
        elif isinstance(node, Items):
            for body, group in ((node.body, node.group), (node.ragged, node.total % node.group)):
                own = {
                    item_variable(name, j, group): (0, size - 1)
                    for name, size in node.axes
                    for j in range(group)
                }
                yield from _nodes(body, {**extents, **own, **_each(node)})
        elif int(np.max(node.count)) > 0 and (inside := _in_loop(node, extents)):
            yield from _nodes(node.body, inside)


def _each(items: Items) -> dict[str, Extent]:
    """The variables of each of some items, where tables rule what each of them does."""
    if items.group != 1 or not (items.tables or _uneven(items.body)):
        return {}
    every = np.arange(items.total)
    return {name: (value, value) for name, value in items.variables(every, 1).items()} | {
        ITEMS: (every, every)
    }


def _uneven(nodes: tuple[Node, ...]) -> bool:
    """Whether a loop has a count for each item."""
    return any(
        isinstance(node, Loop) and (isinstance(node.count, np.ndarray) or _uneven(node.body))
        for node in nodes
    )


def _in_loop(loop: Loop, extents: Mapping[str, Extent]) -> dict[str, Extent]:
    """The extents inside a loop: where items have tables, of those that come there; {} if none does."""
    every = extents.get(ITEMS)
    # too few counts are another rule's fault
    if every is None or not isinstance(loop.count, np.ndarray) or np.max(every[0]) >= len(loop.count):
        return {**extents, loop.var: (0, int(np.max(loop.count)) - 1)}
    count = loop.count[extents[ITEMS][0]]
    comes = count > 0
    if not comes.any():
        return {}
    last = count[comes] - 1
    return {name: _of(ends, comes) for name, ends in extents.items()} | {
        loop.var: (np.zeros_like(last), last)
    }


def _of(ends: Extent, some: npt.NDArray[np.bool_]) -> Extent:
    low, high = ends
    if isinstance(low, np.ndarray) and isinstance(high, np.ndarray):
        return low[some], high[some]
    return ends


def _operation(op: Operation, extents: Mapping[str, Extent]) -> Iterator[Fault]:
    for index in _starts(op):
        if not index.terms:
            continue
        for name, _ in index.terms:
            if name not in extents:
                yield op, f"{op.name}: index {index} is used outside its loop or items; use it in their body"
                return
    for view in op.views:
        rows, cols = view.tile.shape
        if not (_inside(view.row, view.rows, rows, extents) and _inside(view.col, view.cols, cols, extents)):
            yield op, f"{op.name}: view {view} lies outside tile {view.tile.name} {[rows, cols]}"
    for access in (end for end in (op.dst, *op.srcs) if isinstance(end, Access)):
        yield from _access(op, access, extents)


def _starts(op: Operation) -> Iterator[Index]:
    """Every index that an operation uses."""
    for view in op.views:
        yield view.row
        yield view.col
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
    if not start.terms:
        return size >= 1 and 0 <= start.const <= limit - size
    least: int | Ints = start.const
    largest: int | Ints = start.const
    for name, factor in start.terms:
        low, high = extents[name] if factor >= 0 else extents[name][::-1]
        least, largest = least + factor * low, largest + factor * high
    return size >= 1 and _end(least, np.min) >= 0 and _end(largest, np.max) + size <= limit


def _end(values: int | Ints, pick: Callable[[Ints], int]) -> int:
    """The least or largest of some values; most are one number, of which numpy would make an array."""
    return values if isinstance(values, int) else int(pick(values))
