"""The rule on scales: what is read is counted in the unit in which it was written.

A tile has one scale, unless operations use it at others (`tile.scaled(scale)`): a buffer of operands holds
numbers, and what one of them is worth is known to the program alone. So nothing on the machine would notice a
product added to an accumulator of another scale, or an exit that takes it for another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from npusim.graph import Fault, Items, Kernel, Loop, Node, Operation, Tile, View, operations
from npusim.ops import OpKind

Scales = dict[Tile, deque[float]]
"""of each tile the scales of its versions that still have a slot, the latest last"""


def scales(kernel: Kernel) -> Iterator[Fault]:
    """Every view has the scale of the version that it reads, or adds to."""
    if any(view.unit is not None for phase in kernel.phases for view in _views(phase.nodes)):
        known: Scales = {}
        for phase in kernel.phases:
            yield from _walk(phase.nodes, known)


def _views(nodes: tuple[Node, ...]) -> Iterator[View]:
    return (view for op in operations(nodes) for view in op.views)


def _walk(nodes: tuple[Node, ...], known: Scales) -> Iterator[Fault]:
    for node in nodes:
        if isinstance(node, Operation):
            yield from _operation(node, known)
        elif isinstance(node, Loop):
            for _ in range(2):  # what a trip leaves to the next
                yield from _walk(node.body, known)
        else:
            yield from _items(node, known)


def _items(items: Items, known: Scales) -> Iterator[Fault]:
    for body in (items.body, items.ragged):
        own = {tile: deque(found, found.maxlen) for tile, found in known.items()}
        for _ in range(2):
            yield from _walk(body, own)


def _operation(op: Operation, known: Scales) -> Iterator[Fault]:
    for src in op.srcs:
        if isinstance(src, View):
            yield from _read(op, src, known)
    if not isinstance(op.dst, View) or op.kind is OpKind.scalar:
        return
    found = known.setdefault(op.dst.tile, deque(maxlen=op.dst.tile.slots))
    if op.into and found:
        yield from _read(op, op.dst, known)
    else:
        found.append(op.dst.scale)


def _read(op: Operation, view: View, known: Scales) -> Iterator[Fault]:
    found = known.get(view.tile, ())
    if view.back < len(found) and found[-1 - view.back] != view.scale:
        yield (
            op,
            f"{op.name}: tile {view.tile.name} is used at scale {view.scale:g}, but was written at "
            f"{found[-1 - view.back]:g}; use it at that one, or requantise it with a move",
        )
