"""Program order: which operations a stream of a phase runs, by their numbers, without walking the loops."""

from __future__ import annotations

import numpy as np

from npusim.program import Ints, PhaseProgram, Trips

Nodes = tuple[int | Trips, ...]
Span = tuple[int, int]
"""operations numbered [first, end) of a stream"""


def spans(phase: PhaseProgram, stream: int, first: int, end: int) -> list[Span]:
    """The operations of a stream in trips [first, end) of every outermost loop, and all outside of loops."""
    found: list[Span] = []
    number = 0
    outside = np.zeros(1, dtype=np.int64)  # the walk starts with item 0
    for node in phase.body:
        if isinstance(node, Trips):
            low, high, length = (
                int(_loop_lengths(node, stream, outside, most)[0])
                for most in (max(0, first - node.resumes), max(0, end - node.resumes), None)
            )
        else:
            low, high, length = 0, 1, 1
        if low < high:
            if found and found[-1][1] == number + low:
                found[-1] = found[-1][0], number + high
            else:
                found.append((number + low, number + high))
        number += length
    return found


def operations(phase: PhaseProgram) -> Ints:
    """[stream] how many operations it runs."""
    one = np.zeros(1, dtype=np.int64)
    return np.array([_lengths(phase.body, stream, one)[0] for stream in range(phase.streams)])


def instance_at(phase: PhaseProgram, stream: int, number: int) -> int:
    """The instance of operation `number` of a stream."""
    return _instance_at(phase.body, stream, 0, number)


def _instance_at(nodes: Nodes, stream: int, item: int, number: int) -> int:
    node, before = _node_at(nodes, stream, item, number)
    if isinstance(node, int):
        return node
    number -= before
    (first, _), item = _trip_at(node, stream, item, number)
    return _instance_at(node.body, stream, item, number - first)


def trips_around(phase: PhaseProgram, stream: int, number: int) -> list[tuple[Trips, Span]]:
    """The loops around operation `number` of a stream, the outermost first, and the operations of the trip of
    each in which it lies."""
    found: list[tuple[Trips, Span]] = []
    nodes, item, start = phase.body, 0, 0
    while True:
        node, before = _node_at(nodes, stream, item, number - start)
        if isinstance(node, int):
            return found
        start += before
        (first, end), item = _trip_at(node, stream, item, number - start)
        found.append((node, (start + first, start + end)))
        nodes, start = node.body, start + first


def _node_at(nodes: Nodes, stream: int, item: int, number: int) -> tuple[int | Trips, int]:
    """The node in which operation `number` of one pass over `nodes` lies, and how many lie before it."""
    before, around = 0, np.array([item])
    for node in nodes:
        length = int(_loop_lengths(node, stream, around)[0]) if isinstance(node, Trips) else 1
        if number < before + length:
            return node, before
        before += length
    raise IndexError(f"no operation {number} behind the last one")


def _trip_at(node: Trips, stream: int, item: int, number: int) -> tuple[Span, int]:
    """The operations of the trip of a loop in which its operation `number` lies, and the trip's item."""
    around = np.array([item])
    if _alike(node):
        each = int(_lengths(node.body, stream, around)[0])
        first = number // each * each
        return (first, first + each), item
    items = _items(node, stream, int(_counts(node, stream, around)[0]))
    ends = np.cumsum(_lengths(node.body, stream, items))
    trip = int(np.searchsorted(ends, number, side="right"))
    return (int(ends[trip - 1] if trip else 0), int(ends[trip])), int(items[trip])


def _lengths(nodes: Nodes, stream: int, items: Ints) -> Ints:
    """Operations in one pass over `nodes`, for each of `items`; the loops are not walked."""
    loops = [node for node in nodes if isinstance(node, Trips)]
    total = np.full(len(items), len(nodes) - len(loops))
    for loop in loops:
        total += _loop_lengths(loop, stream, items)
    return total


def _counts(node: Trips, stream: int, items: Ints) -> Ints:
    """Trips of a loop, for each of the items around it."""
    if node.per_item:
        return node.count[items]
    return np.full(len(items), node.count[stream if len(node.count) > 1 else 0])


def _alike(node: Trips) -> bool:
    """Whether all trips of a loop around the same item run equally many operations: it goes through no items,
    or nothing in it depends on them."""
    return node.first_item is None or not any(map(_by_item, node.body))


def _by_item(node: int | Trips) -> bool:
    return isinstance(node, Trips) and (node.per_item or any(map(_by_item, node.body)))


def _items(node: Trips, stream: int, trips: int) -> Ints:
    """The items that a loop goes through."""
    assert node.first_item is not None
    return np.asarray(node.first_item[stream] + node.item_step * np.arange(trips))


def _loop_lengths(node: Trips, stream: int, items: Ints, most: int | None = None) -> Ints:
    """Operations in the first `most` trips of a loop (None: in all), for each of the items around it."""
    counts = _counts(node, stream, items)
    if most is not None:
        counts = np.minimum(counts, most)
    if _alike(node):
        return np.asarray(counts * _lengths(node.body, stream, items))
    own = _items(node, stream, int(counts.max(initial=0)))
    return np.concatenate(([0], np.cumsum(_lengths(node.body, stream, own))))[counts]
