"""L2 by reuse distance: the share of each access to global memory that goes on to HBM.

An access meets its bytes in L2 if the distinct bytes that all cores touched since the last touch of them fit
into the L2 (stack distance of an LRU cache; Mattson et al., "Evaluation techniques for storage hierarchies",
IBM Systems Journal 1970). Cores are taken to run in step. Distances follow from the loop tree alone: an
access that does not move with a loop touches the same bytes again one trip later, at the distance of what
one trip touches. So nothing here grows with the number of trips.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from npusim.dtypes import dtype
from npusim.graph import Access, Index, Items, Kernel, Loop, Node, Operation, View

Around = tuple[Loop | Items, ...]
LARGEST = 1 << 16
"""items that are looked at one by one; of more, the product of what each axis reaches is taken"""


@dataclass(frozen=True, eq=False)
class Touch:
    """One access to global memory: its bytes on a core group, and what stands around it, outermost first.

    `top`: number of the node of a phase it stands in; `ragged`: in the last, short trip of items; `before`:
    what stands around an earlier touch of the same bytes in the same trip, if there is one.
    """

    end: Access | View
    bytes: float
    around: Around
    top: int
    ragged: bool = False
    before: Around | None = None

    def moves_with(self, variable: str) -> bool:
        """Whether other bytes are touched when a loop variable, or an axis of items, goes on."""
        if isinstance(self.end, View):
            return False
        return any(
            name == variable or name.startswith(f"{variable}.")
            for index in (*self.end.lead, self.end.row, self.end.col)
            for name, _ in index.terms
        )

    @cached_property
    def box(self) -> list[tuple[int, int]]:
        """From where to where it goes on each axis of its tensor, over all trips of what stands around."""
        assert isinstance(self.end, Access)
        sizes = [1] * len(self.end.lead) + [self.end.rows, self.end.cols]
        indices = (*self.end.lead, self.end.row, self.end.col)
        return [self._reach(index, size) for index, size in zip(indices, sizes, strict=True)]

    def _reach(self, index: Index, size: int) -> tuple[int, int]:
        ends = [[factor * end for end in (0, self._last(name))] for name, factor in index.terms]
        return index.const + sum(map(min, ends)), index.const + sum(map(max, ends)) + size

    def _last(self, variable: str) -> int:
        """The largest value of a loop variable."""
        for node in self.around:
            if isinstance(node, Loop) and node.var == variable:
                return max(0, int(np.max(node.count)) - 1)
            if isinstance(node, Items):
                for name, size in node.axes:
                    if variable == name or variable.startswith(f"{name}."):
                        return size - 1
        return 0

    @property
    def region(self) -> tuple[object, ...]:
        """Two touches of one region touch the same bytes in the same trip."""
        if isinstance(self.end, View):
            return (self.end.tile,)
        return _region(self.end)


def _region(access: Access) -> tuple[object, ...]:
    def key(index: Index) -> tuple[object, ...]:
        return (index.const, frozenset(index.terms))

    lead = tuple(key(index) for index in access.lead)
    return (access.tensor.name, lead, key(access.row), access.rows, key(access.col), access.cols)


@dataclass(frozen=True)
class Repeat:
    """The same bytes are touched `count` times, at a distance of some bytes; along `loop`, if it is one."""

    count: float
    distance: float
    loop: Loop | None = None


class Reuse:
    """Reuse in a kernel whose phases run on so many streams each, with an L2 of so many bytes."""

    def __init__(self, kernel: Kernel, streams: Sequence[int], capacity: float) -> None:
        self.capacity = capacity
        self.touches: dict[Operation, Touch] = {}
        self.streams: list[int] = []
        """per top node"""
        for phase, count in zip(kernel.phases, streams, strict=True):
            for node in phase.nodes:
                self._collect((node,), (), {}, False)
                self.streams.append(count)
        self.repeats = cache(self._repeats)
        self.footprint = cache(self._footprint)

    def missed(self, op: Operation, repeated: frozenset[Loop] = frozenset()) -> float:
        """The share of the bytes of `op` that HBM serves, past the first trip of the loops `repeated`."""
        touch = self.touches[op]
        if touch.before is not None and self._step(touch.before) <= self.capacity:
            return 0.0
        hits = [repeat for repeat in self.repeats(touch) if repeat.distance <= self.capacity]
        if any(repeat.loop in repeated for repeat in hits if repeat.loop):
            return 0.0
        shared = math.prod(repeat.count for repeat in hits if repeat.loop is None)
        return (1.0 - self._kept(touch)) / shared

    def peels(self, loop: Loop) -> bool:
        """Whether the first trip of `loop` touches bytes that the later ones find in L2."""
        return any(
            repeat.loop is loop and repeat.distance <= self.capacity
            for touch in self.touches.values()
            if loop in touch.around
            for repeat in self.repeats(touch)
        )

    # --- what is touched -----------------------------------------------------------------------

    def _collect(
        self, nodes: tuple[Node, ...], around: Around, seen: dict[object, Around], ragged: bool
    ) -> None:
        for node in nodes:
            if isinstance(node, Operation):
                for end in (node.dst, *node.srcs):
                    if isinstance(end, Access) or (isinstance(end, View) and end.tile.level == "GM"):
                        touch = Touch(end, _bytes(end), around, len(self.streams), ragged)
                        self.touches[node] = replace(touch, before=seen.get(touch.region))
                        seen.setdefault(touch.region, around)
            elif isinstance(node, Loop):
                self._collect(node.body, (*around, node), dict(seen), ragged)
            else:
                self._collect(node.body, (*around, node), dict(seen), ragged)
                self._collect(node.ragged, (*around, node), dict(seen), True)

    # --- distances -----------------------------------------------------------------------------

    def _repeats(self, touch: Touch) -> list[Repeat]:
        """How often, and how far apart, the bytes of `touch` are touched within its top node."""
        if isinstance(touch.end, View):  # a workspace of the core's own, written and read in each trip
            return [Repeat(math.inf, self._step(touch.around))]
        found = [
            Repeat(_trips(loop), self.footprint(loop), loop)
            for loop in touch.around
            if isinstance(loop, Loop) and not touch.moves_with(loop.var) and _trips(loop) > 1
        ]
        items = next((node for node in touch.around if isinstance(node, Items)), None)
        if items is None:
            return [*found, Repeat(self.streams[touch.top], self._step(touch.around))]
        if touch.ragged:
            return found
        return found + [r for r in self._across_items(touch, items) if r.count > 1]

    def _across_items(self, touch: Touch, items: Items) -> Iterator[Repeat]:
        """Repeats along the axes that do not move the touch: on cores at the same time, and later on."""
        streams, step = self.streams[touch.top], self._step(touch.around)
        sizes = [size for _, size in items.axes]
        for place, (name, size) in enumerate(items.axes):
            if touch.moves_with(name):
                continue
            stride = math.prod(sizes[place + 1 :])
            if not isinstance(items.deal, str):
                here, rounds = self._on_grid(items, place)
            elif items.deal == "cyclic":
                width = streams * items.group  # items at work at a time
                here = min(size, math.ceil(width / stride))
                rounds = max(1.0, stride / width)
            else:
                here, rounds = self._in_runs(items, stride, size, streams)
            yield Repeat(here, step)
            yield Repeat(size / here, self.footprint(items, math.ceil(rounds)))

    @staticmethod
    def _in_runs(items: Items, stride: int, size: int, streams: int) -> tuple[float, float]:
        """The same where each core has a run of items: core k is k runs ahead, modulo the stride, of the
        first one on its way through the values of the axis."""
        own = max(1, items.total // streams)
        near = min(streams, max(1, stride * size // own))  # cores at work on the same values
        starts = sorted({k * own % stride for k in range(near)})
        gap = max(b - a for a, b in pairwise([*starts, stride]))
        return min(size, max(1.0, near / len(starts))), gap / items.group

    @staticmethod
    def _on_grid(items: Items, place: int) -> tuple[float, float]:
        """Cores that touch the same at one time, and trips until it is touched again, along axis `place`."""
        assert not isinstance(items.deal, str)
        (_, height), (_, width) = items.axes
        rows, cols = items.deal
        if place == 0:
            return min(rows, height), -(-width // cols)
        return min(cols, width), 1.0

    def _step(self, around: Around) -> float:
        """Bytes touched while cores that run in step reach the same place: one innermost trip."""
        return self.footprint(around[-1]) if around else 0.0

    def _footprint(self, node: Loop | Items, trips: int = 1) -> float:
        """Distinct bytes that all cores touch in some trips of `node` (of a loop: in one)."""
        sizes: dict[object, float] = {}
        for touch in self.touches.values():
            if node in touch.around and not (touch.ragged and isinstance(node, Items)):
                inner = touch.around[touch.around.index(node) + 1 :]
                count = math.prod(
                    _trips(loop) for loop in inner if isinstance(loop, Loop) and touch.moves_with(loop.var)
                )
                size = touch.bytes * count * self._distinct(touch, trips)
                sizes[touch.region] = max(sizes.get(touch.region, 0.0), size)
        return sum(sizes.values())

    def _distinct(self, touch: Touch, trips: int) -> int:
        """How many different regions the cores touch in so many trips of the items around."""
        streams = self.streams[touch.top]
        if isinstance(touch.end, View):
            return streams
        items = next((node for node in touch.around if isinstance(node, Items)), None)
        if items is None or touch.ragged:
            return 1
        moving = [place for place, (name, _) in enumerate(items.axes) if touch.moves_with(name)]
        if not moving:
            return 1
        sizes = [size for _, size in items.axes]
        if trips * streams > LARGEST:
            reach = [math.ceil(trips * streams * items.group / math.prod(sizes[p + 1 :])) for p in moving]
            return math.prod(min(sizes[p], most) for p, most in zip(moving, reach, strict=True))
        places = _at_work(items, streams, trips)
        number = np.ravel_multi_index(tuple(places[p] for p in moving), tuple(sizes[p] for p in moving))
        return len(np.unique(number))

    # --- from one top node to the next -----------------------------------------------------------

    def _kept(self, touch: Touch) -> float:
        """The share of a first touch that an earlier top node left in L2, if both go through the tensor in
        the same order: at a place f of the way, (1 - f) of the earlier one and f of this one lie between."""
        earlier = [
            (other.top, _overlap(touch, other)) for other in self.touches.values() if other.top < touch.top
        ]
        top, overlap = max((pair for pair in earlier if pair[1]), default=(0, 0.0))
        if not overlap:
            return 0.0
        between = sum(self.totals[top + 1 : touch.top])
        start, end = between + self.totals[top], between + self.totals[touch.top]
        if start == end:
            return overlap * (start <= self.capacity)
        crossing = min(1.0, max(0.0, (self.capacity - start) / (end - start)))
        return overlap * (crossing if start < end else 1.0 - crossing)

    @cached_property
    def totals(self) -> list[float]:
        """Distinct bytes that each top node touches in all."""
        regions: list[dict[object, float]] = [{} for _ in self.streams]
        for touch in self.touches.values():
            size = min(touch.bytes * self._moved(touch), _whole(touch.end) * self._owners(touch))
            regions[touch.top][touch.region] = size
        return [sum(sizes.values()) for sizes in regions]

    def _owners(self, touch: Touch) -> int:
        """Core groups that have a workspace each; a tensor is there once."""
        return self.streams[touch.top] if isinstance(touch.end, View) else 1

    def _moved(self, touch: Touch) -> float:
        """How many regions a touch goes through in all."""
        count = 1.0
        for node in touch.around:
            if isinstance(node, Loop):
                count *= _trips(node) if touch.moves_with(node.var) else 1
            elif not touch.ragged:
                count *= math.prod(size for name, size in node.axes if touch.moves_with(name))
        return count * self._owners(touch)


def _at_work(items: Items, streams: int, trips: int) -> tuple[npt.NDArray[np.int64], ...]:
    """Coordinates, per axis, of the items that all streams begin their first so many trips with."""
    core, trip = np.meshgrid(np.arange(streams), np.arange(trips))
    sizes = tuple(size for _, size in items.axes)
    if not isinstance(items.deal, str):
        (height, width), (rows, cols) = sizes, items.deal
        tall, wide = -(-height // rows), -(-width // cols)
        row, col = core % rows * tall + trip // wide, core // rows * wide + trip % wide
        inside = (trip < tall * wide) & (row < height) & (col < width)
        return row[inside], col[inside]
    count = items.total // items.group
    number = trip * streams + core if items.deal == "cyclic" else core * max(1, count // streams) + trip
    return np.unravel_index(number[number < count] * items.group, sizes)


def _overlap(touch: Touch, earlier: Touch) -> float:
    """The share of the box that `touch` goes through in its tensor, through which `earlier` went too."""
    a, b = touch.end, earlier.end
    if isinstance(a, View) or isinstance(b, View) or a.tensor.name != b.tensor.name:
        return 0.0
    share = 1.0
    for (start, stop), (other_start, other_stop) in zip(touch.box, earlier.box, strict=True):
        share *= max(0, min(stop, other_stop) - max(start, other_start)) / (stop - start)
    return share


def _trips(loop: Loop) -> float:
    """Trips of a loop; their mean over the items where they differ."""
    return float(np.mean(loop.count))


def _bytes(end: Access | View) -> float:
    if isinstance(end, View):
        return end.rows * end.cols * dtype(end.tile.dtype).bytes
    return end.rows * end.cols * dtype(end.tensor.dtype).bytes


def _whole(end: Access | View) -> float:
    """Bytes of all there is: the tile with its slots, or the tensor."""
    if isinstance(end, View):
        return math.prod(end.tile.shape) * dtype(end.tile.dtype).bytes * end.tile.slots
    return math.prod(end.tensor.shape) * dtype(end.tensor.dtype).bytes
