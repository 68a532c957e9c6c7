"""L2 by reuse distance: the share of each access to global memory that goes on to HBM.

An access meets its bytes in L2 if the distinct bytes that all cores touched since the last touch of them fit
into the L2 (stack distance of an LRU cache; Mattson et al., "Evaluation techniques for storage hierarchies",
IBM Systems Journal 1970). Cores are taken to run in step. Distances follow from the loop tree alone
(`npusim.touches`), so nothing here grows with the number of trips. All distances are in bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np

from npusim.graph import Items, Kernel, Loop, Operation, View
from npusim.touches import Block, Touch, collect, distinct, passes


@dataclass(frozen=True)
class Repeat:
    """The same bytes are touched `count` times, `distance_bytes` apart; along `loop`, if it is one.

    `window`: only a part of the bytes is the same, and `count` is what that comes to.
    """

    count: float
    distance_bytes: float
    loop: Loop | None = None
    window: bool = False


class Reuse:
    """Reuse in a kernel whose phases run on so many streams each, with an L2 of `capacity_bytes`."""

    def __init__(self, kernel: Kernel, streams: Sequence[int], capacity_bytes: float) -> None:
        self.capacity_bytes = capacity_bytes
        self.kernel = collect(kernel, streams)
        self.touches = {touch.op: touch for touch in self.kernel.touches()}
        self.by_tensor: dict[str, list[Touch]] = {}
        for touch in self.touches.values():
            self.by_tensor.setdefault(touch.where, []).append(touch)
        self.repeats = cache(self._repeats)
        self.kept = cache(self._kept)
        self.footprint = cache(self._footprint)
        self.swept = cache(self._swept)

    def missed(self, op: Operation, repeated: frozenset[Loop] = frozenset()) -> float:
        """The share of the bytes of `op` that HBM serves, past the first trip of the loops `repeated`."""
        touch = self.touches[op]
        if isinstance(touch.end, View):  # a workspace of the core's own, written and read in each trip
            return 0.0 if self.fits(self._step(touch)) else 1.0
        hits = [repeat for repeat in self.repeats(touch) if self.fits(repeat.distance_bytes)]
        if any(repeat.loop in repeated for repeat in hits if repeat.loop):
            return 0.0
        shared = math.prod(repeat.count for repeat in hits if not (repeat.loop or repeat.window))
        if touch.items and not touch.items.ragged:
            executed, regions = passes(touch, touch.items)
            shared = min(shared, executed / regions)
        shared *= math.prod(repeat.count for repeat in hits if repeat.window)
        return (1.0 - self.kept(touch)) / shared

    def peels(self, loop: Loop) -> bool:
        """Whether the first trip of `loop` touches bytes that the later ones find in L2."""
        return any(
            repeat.loop is loop and self.fits(repeat.distance_bytes)
            for touch in self.touches.values()
            for repeat in self.repeats(touch)
        )

    def shared_by_copies(self, op: Operation) -> bool:
        """Whether vector cores that all load the same find each other's bytes."""
        return self.fits(self._step(self.touches[op]))

    def fits(self, distance_bytes: float) -> bool:
        return distance_bytes <= self.capacity_bytes

    # --- how much lies between --------------------------------------------------------------------

    def _footprint(self, block: Block, trips: int = 1) -> float:
        """Distinct bytes that all cores touch in some trips of `block` (of a loop: in one)."""
        return _total((touch, distinct(touch, block, trips)) for touch in block.touches())

    def _swept(self, child: Block | Touch) -> float:
        """Distinct bytes touched by all trips of a block, or by one access, in one trip of what is around."""
        if child.parent is None:
            return self.footprint(child)
        touches = [child] if isinstance(child, Touch) else child.touches()
        return _total((touch, distinct(touch, child.parent)) for touch in touches)

    def _step(self, touch: Touch) -> float:
        """Bytes touched while cores that run in step reach the same place: one innermost trip."""
        return self.swept(touch) if touch.parent is self.kernel else self.footprint(touch.parent)

    # --- the same access again --------------------------------------------------------------------

    def _repeats(self, touch: Touch) -> list[Repeat]:
        """How often, and how far apart, `touch` comes to the same bytes again."""
        if isinstance(touch.end, View):
            return []
        found: list[Repeat] = []
        for block in touch.parent.above:
            if isinstance(block.node, Loop):
                found += self._along_loop(touch, block, block.node)
            elif isinstance(block.node, Items) and not block.ragged:
                found += self._across_items(touch, block, block.node)
        if touch.items is None:  # every core of the phase
            found.append(Repeat(touch.streams, self._step(touch)))
        return [repeat for repeat in found if repeat.count > 1 or repeat.loop]

    def _along_loop(self, touch: Touch, block: Block, loop: Loop) -> Iterator[Repeat]:
        if not touch.moves_with(loop.var):
            if np.max(loop.count) > 1:
                yield Repeat(block.trips, self.footprint(block), loop)
        elif window := touch.kept_by_step(loop.var):
            yield Repeat(_windows(block.trips, window), self.footprint(block), window=True)

    def _across_items(self, touch: Touch, block: Block, items: Items) -> Iterator[Repeat]:
        """Repeats along the axes of items: on cores at the same time, and in later trips."""
        sizes, step = [size for _, size in items.axes], self._step(touch)
        for place, (name, size) in enumerate(items.axes):
            stride = math.prod(sizes[place + 1 :]) / items.group  # trips from one value to the next
            count = size * min(1.0, stride)
            if touch.moves_with(name):
                if window := touch.kept_by_step(name):
                    near = items.deal == "cyclic" and stride < block.streams
                    apart = step if near else self.footprint(block, math.ceil(stride))
                    yield Repeat(_windows(count, window), apart, window=True)
                continue
            if not isinstance(items.deal, str):
                here, rounds = _on_grid(items, place)
            elif items.deal == "cyclic":
                here = min(count, math.ceil(block.streams / max(1.0, stride)))
                rounds = max(1.0, stride / block.streams)
            else:
                here, rounds = _in_runs(block, max(1, int(stride)), count)
            yield Repeat(here, step)
            yield Repeat(count / here, self.footprint(block, math.ceil(rounds)))

    # --- other accesses before it -----------------------------------------------------------------

    def _kept(self, touch: Touch) -> float:
        """The share of a first touch that earlier accesses to the tensor left in L2, the latest first."""
        earlier = [other for other in self.by_tensor[touch.where] if other.number < touch.number]
        left: dict[int, list[tuple[float, float]]] = {}
        shares: dict[int, float] = {}
        for other in reversed(earlier):
            axis, start, end, found = self._left_by(touch, other)
            new = _not_in(left.setdefault(axis, []), start, end)
            shares[axis] = shares.get(axis, 0.0) + new * found
            left[axis].append((start, end))
        return min(1.0, max(shares.values(), default=0.0))

    def _left_by(self, touch: Touch, other: Touch) -> tuple[int, float, float, float]:
        """What `other` left of `touch`: from where to where along which axis, and what share of that.

        Both are taken to go through the tensor in the same order: at a place on the way, the rest of the
        earlier block and the first part of this one lie between.
        """
        around, mine, its = _parting(touch, other)
        nothing = (0, 0.0, 0.0, 0.0)
        if touch.fixed(around) != other.fixed(around):
            return nothing
        if isinstance(mine, Block) and isinstance(its, Block) and mine.ragged and mine.node is its.node:
            return (0, 0.0, 1.0, float(self.fits(self.footprint(its)))) if _twin(touch, other) else nothing
        own, former, rest = [0.0, 1.0], [0.0, 1.0], _both_run(touch, other, around)
        along = 0
        for axis, (a, b) in enumerate(zip(touch.box(around), other.box(around), strict=True)):
            low, high = max(a[0], b[0]), min(a[1], b[1])
            if high <= low:
                return nothing
            if (low, high) != a:
                if own != [0.0, 1.0]:
                    rest *= (high - low) / (a[1] - a[0])
                else:
                    own, along = [(end - a[0]) / (a[1] - a[0]) for end in (low, high)], axis
            if (low, high) != b and former == [0.0, 1.0]:
                former = [(end - b[0]) / (b[1] - b[0]) for end in (low, high)]
        places = around.children
        between = sum(self.swept(child) for child in places[places.index(its) + 1 : places.index(mine)])
        before, after = self._way(its, other), self._way(mine, touch)
        ends = [between + (1 - y) * before + x * after for x, y in zip(own, former, strict=True)]
        return along, own[0], own[1], rest * self._within(*ends)

    def _way(self, child: Block | Touch, touch: Touch) -> float:
        """Bytes touched on the way through `child`; one trip of it if each comes to all that `touch` does."""
        still = isinstance(child, Block) and not any(touch.moves_with(name) for name in child.variables)
        return self.footprint(child) if still else self.swept(child)

    def _within(self, start: float, end: float) -> float:
        """The share of the way from one distance to another, at an even pace, that fits."""
        if start == end:
            return float(self.fits(start))
        crossing = min(1.0, max(0.0, (self.capacity_bytes - start) / (end - start)))
        return crossing if start < end else 1.0 - crossing


def _total(regions: Iterator[tuple[Touch, float]]) -> float:
    """Bytes of so many regions of each access; accesses to the same regions count once."""
    sizes: dict[object, float] = {}
    for touch, count in regions:
        sizes[touch.region] = max(sizes.get(touch.region, 0.0), touch.bytes * count)
    return sum(sizes.values())


def _windows(count: float, kept: float) -> float:
    """How often the bytes of overlapping windows are touched, on average."""
    return max(1.0, count) / (1 + (max(1.0, count) - 1) * (1 - kept))


def _in_runs(block: Block, stride: int, count: float) -> tuple[float, float]:
    """Cores that touch the same at one time, and trips until it is touched again, where each core has a run
    of items: core k is k runs ahead, modulo the stride, of the first on its way through an axis."""
    own = max(1, int(block.trips) // block.streams)
    near = int(min(block.streams, max(1, stride * count // own)))  # cores at work on the same values
    starts = sorted({k * own % stride for k in range(near)})
    gap = max(b - a for a, b in pairwise([*starts, stride]))
    return min(count, max(1.0, near / len(starts))), gap


def _on_grid(items: Items, place: int) -> tuple[float, float]:
    """Cores that touch the same at one time, and trips until it is touched again, along axis `place`."""
    assert not isinstance(items.deal, str)
    (_, height), (_, width) = items.axes
    rows, cols = items.deal
    if place == 0:
        return min(rows, height), -(-width // cols)
    return min(cols, width), 1.0


def _parting(touch: Touch, other: Touch) -> tuple[Block, Block | Touch, Block | Touch]:
    """The innermost block around both, and what in it holds the one and the other."""
    mine: list[Block | Touch] = [*touch.parent.above, touch]
    its: list[Block | Touch] = [*other.parent.above, other]
    depth = next(i for i, (a, b) in enumerate(zip(mine, its, strict=False)) if a is not b)
    return touch.parent.above[depth - 1], mine[depth], its[depth]


def _both_run(touch: Touch, other: Touch, around: Block) -> float:
    """Of the items in which `touch` has a trip, the share in which `other` has one."""
    mine, its = touch.runs(around), other.runs(around)
    if len(mine) == len(its) and mine.any():
        return float(its[mine].mean())
    return float(its.mean())


def _twin(touch: Touch, other: Touch) -> bool:
    """Whether a touch in the ragged trip of items comes to a region to which `other` came before."""
    block = touch.items
    assert block is not None and isinstance(block.node, Items)
    items = block.node

    def shape(one: Touch) -> list[tuple[int, list[tuple[str, int]], int]]:
        axes = [name for name, _ in items.axes]  # of an access in a loop the loops differ in name
        own = [[(name.split(".")[0], factor) for name, factor in span.terms] for span in one.spans]
        return [
            (span.start, sorted((name if name in axes else "", factor) for name, factor in terms), span.size)
            for span, terms in zip(one.spans, own, strict=True)
        ]

    full = items.total // items.group * items.group
    sizes = tuple(size for _, size in items.axes)
    moving = touch.moving_axes(items)
    places = np.unravel_index(full + touch.member, sizes)
    first = sum(int(places[p]) * math.prod(sizes[p + 1 :]) for p in moving)
    return shape(touch) == shape(other) and first < full


def _not_in(taken: list[tuple[float, float]], start: float, end: float) -> float:
    """The length of start .. end outside of the intervals `taken`."""
    length, at = 0.0, start
    for low, high in sorted(taken):
        if low > at:
            length += max(0.0, min(low, end) - at)
        at = max(at, high)
    return length + max(0.0, end - at)
