"""L2 by reuse distance: the share of each access to global memory that goes on to HBM.

An access meets its bytes in L2 if the distinct bytes that all cores touched since the last touch of them fit
into the L2 (stack distance of an LRU cache; Mattson et al., "Evaluation techniques for storage hierarchies",
IBM Systems Journal 1970). Cores are taken to run in step. Distances follow from the loop tree alone
(`npusim.touches`), so nothing here grows with the number of trips. All distances are in bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise

import numpy as np

from npusim.dtypes import dtype
from npusim.graph import Access, Items, Kernel, Loop, Operation, View
from npusim.touches import Block, Touch, at_once, collect, distinct, passes

Piece = tuple[float, float, float]
"""from where to where along an axis, and the share of it that is not found"""


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
    """Reuse in a kernel whose phases run on so many streams each, with an L2 of `capacity_bytes`. `held`: the
    share of a tensor that kernels before left there. `dirty`: they also left bytes to be written back."""

    def __init__(
        self,
        kernel: Kernel,
        streams: Sequence[int],
        capacity_bytes: float,
        held: Mapping[str, float] | None = None,
        dirty: bool = True,
    ) -> None:
        self.capacity_bytes, self.held, self.dirty = capacity_bytes, held or {}, dirty
        self.kernel = collect(kernel, streams)
        self.touches = {touch.op: touch for touch in self.kernel.touches()}
        self.by_tensor: dict[str, list[Touch]] = {}
        for touch in self.touches.values():
            self.by_tensor.setdefault(touch.where, []).append(touch)
        self.missed = cache(self._missed)
        self.repeats = cache(self._repeats)
        self.first = cache(self._first)
        self.kept = cache(self._kept)
        self.footprint = cache(self._footprint)
        self.swept = cache(self._swept)
        self.sums = cache(self._sums)
        # each access is compared with many
        self.box, self.dense, self.pattern = cache(Touch.box), cache(Touch.dense), cache(Touch.pattern)

    def _missed(self, op: Operation, repeated: frozenset[Loop] = frozenset()) -> float:
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
            shared = min(shared, executed / regions) if regions else 1.0
        shared *= math.prod(repeat.count for repeat in hits if repeat.window)
        held = self.held.get(touch.where, 0.0)
        if held and not self.fits(self.footprint(self.kernel)):
            return (1.0 - self.kept(touch)) * max(0.0, 1.0 / shared - held * self.first(touch))
        return (1.0 - self.kept(touch)) * (1.0 - held) / shared

    def _first(self, touch: Touch) -> float:
        """The share of all that an access touches which no access touched before: where L2 does not hold the
        whole kernel, what kernels before it left there helps once."""
        # the first trip of a loop that fits is looked at by itself
        lost = [r for r in self.repeats(touch) if r.loop and not r.window and not self.fits(r.distance_bytes)]
        again = math.prod(repeat.count for repeat in lost)
        if touch.items and not touch.items.ragged:
            executed, regions = passes(touch, touch.items)
            again *= executed / regions if regions else 1.0
        else:
            again *= math.prod(r.count for r in self.repeats(touch) if not (r.loop or r.window))
        swept = sum(other.bytes * distinct(other, self.kernel) for other in self.by_tensor[touch.where])
        assert isinstance(touch.end, Access)
        size = math.prod(touch.end.tensor.shape) * dtype(touch.end.tensor.dtype).bytes
        return 1.0 / (max(1.0, again) * max(1.0, swept / size))

    def peels(self, loop: Loop) -> bool:
        """Whether the first trip of `loop` touches bytes that the later ones find in L2."""
        return any(
            repeat.loop is loop and self.fits(repeat.distance_bytes)
            for touch in self.touches.values()
            for repeat in self.repeats(touch)
        )

    def written(self, op: Operation, repeated: frozenset[Loop] = frozenset()) -> float:
        """The share of the bytes stored by `op` that HBM takes in the kernel's time.

        A store leaves its bytes in L2, where they take the place of others. If those have to be written back,
        HBM takes as many as are stored. If the L2 was clean, it takes none until what the kernel touches has
        filled it, and at the end as many are left there.
        """
        if self.dirty:
            return self.missed(op, repeated)
        footprint = self.footprint(self.kernel)
        return self.missed(op, repeated) * max(0.0, 1.0 - self.capacity_bytes / footprint)

    @property
    def holds_all(self) -> bool:
        """L2 has room for all that the kernel touches."""
        return self.fits(self.footprint(self.kernel))

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
        assert child.parent is not None  # the whole kernel stands in nothing
        touches = [child] if isinstance(child, Touch) else child.touches()
        return _total((touch, distinct(touch, child.parent)) for touch in touches)

    def _sums(self, block: Block) -> list[float]:
        """Bytes that the children of a block sweep: all before the first, before the second, .."""
        return list(accumulate((self.swept(child) for child in block.children), initial=0.0))

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
        later: list[tuple[float, float]] = [(self.footprint(block), 1.0)]
        for place, (name, size) in enumerate(items.axes):
            stride = math.prod(sizes[place + 1 :]) / items.group  # trips from one value to the next
            count = size * min(1.0, stride)
            if touch.moves_with(name):
                if window := touch.kept_by_step(name):
                    near = items.deal == "cyclic" and stride < block.streams
                    apart = step if near else self.footprint(block, math.ceil(stride))
                    yield Repeat(_windows(count, window), apart, window=True)
                continue
            here, rounds = _dealt(block, items, place, stride, count)
            later.append((self.footprint(block, math.ceil(rounds)), max(1.0, count / here)))
        here = at_once(touch, block)
        yield Repeat(here, step)
        executed, regions = passes(touch, block)
        # what axes do not account for comes one trip later: items that do not fill a round of cores
        rest = executed / regions / here / math.prod(times for _, times in later) if regions else 1.0
        for distance_bytes, times in later:
            yield Repeat(max(1.0, times * rest), distance_bytes)
            rest = 1.0

    # --- other accesses before it -----------------------------------------------------------------

    def _kept(self, touch: Touch) -> float:
        """The share of a first touch that earlier accesses to the tensor left in L2, the latest first."""
        earlier = [other for other in self.by_tensor[touch.where] if other.number < touch.number]
        missing: dict[int, list[Piece]] = {}
        share = 0.0
        for other in reversed(earlier):
            axis, start, end, found = self._left_by(touch, other)
            if found:
                missing[axis] = _without(missing.get(axis, [(0.0, 1.0, 1.0)]), start, end, found)
                share = max(share, 1.0 - sum((high - low) * part for low, high, part in missing[axis]))
            if share > 1 - 1e-12:
                break
        return share

    def _left_by(self, touch: Touch, other: Touch) -> tuple[int, float, float, float]:
        """What `other` left of `touch`: from where to where along which axis, and what share of that.

        Both are taken to go through the tensor in the same order: at a place on the way, the rest of the
        earlier block and the first part of this one lie between.
        """
        around, mine, its = _parting(touch, other)
        nothing = (0, 0.0, 0.0, 0.0)
        together = touch.meets(other, around)
        if not together:
            return nothing
        if isinstance(mine, Block) and isinstance(its, Block) and mine.ragged and mine.node is its.node:
            return (0, 0.0, 1.0, float(self.fits(self.footprint(its)))) if _twin(touch, other) else nothing
        met = _met(self.box(touch, around), self.box(other, around))
        if met is None:
            return nothing
        same = self.pattern(touch, around) == self.pattern(other, around)
        if not (same or self.dense(other, around)):
            return nothing  # its box is not all touched
        sums = self.sums(around)
        between = sums[mine.place] - sums[its.place + 1]
        before, after = self._way(its, other), self._way(mine, touch)
        ends = [between + (1 - y) * before + x * after for x, y in zip(met.own, met.former, strict=True)]
        start, end = met.own
        tables = min(1.0, _covered(touch, other, around) / (end - start))
        return met.axis, start, end, together * tables * met.rest * share_within(self.capacity_bytes, *ends)

    def _way(self, child: Block | Touch, touch: Touch) -> float:
        """Bytes touched on the way through `child`; one trip of it if each comes to all that `touch` does."""
        still = isinstance(child, Block) and not any(touch.moves_with(name) for name in child.variables)
        return self.footprint(child) if still else self.swept(child)


def share_within(capacity_bytes: float, start: float, end: float) -> float:
    """The share of the way from one distance to another, at an even pace, that fits an L2 of this size."""
    if start == end:
        return float(start <= capacity_bytes)
    crossing = min(1.0, max(0.0, (capacity_bytes - start) / (end - start)))
    return crossing if start < end else 1.0 - crossing


@dataclass(frozen=True)
class Meeting:
    """Where two boxes meet: from where to where on the way through the one, along `axis`, and on the way
    through the former; `rest` is the share that the other axes leave."""

    axis: int
    own: tuple[float, float]
    former: tuple[float, float]
    rest: float


def _met(box: list[tuple[int, int]], former: list[tuple[int, int]]) -> Meeting | None:
    """Where a box meets a former one; both ways go through the first axis that does not meet as a whole."""
    ways: list[tuple[int, float, float]] = []
    before: list[tuple[float, float]] = []
    for axis, (a, b) in enumerate(zip(box, former, strict=True)):
        low, high = max(a[0], b[0]), min(a[1], b[1])
        if high <= low:
            return None
        if (low, high) != a:
            ways.append((axis, (low - a[0]) / (a[1] - a[0]), (high - a[0]) / (a[1] - a[0])))
        if (low, high) != b:
            before.append(((low - b[0]) / (b[1] - b[0]), (high - b[0]) / (b[1] - b[0])))
    axis, start, end = ways[0] if ways else (0, 0.0, 1.0)
    rest = math.prod(high - low for _, low, high in ways[1:])
    return Meeting(axis, (start, end), before[0] if before else (0.0, 1.0), rest)


def _total(regions: Iterator[tuple[Touch, float]]) -> float:
    """Bytes of so many regions of each access; accesses to the same regions count once."""
    sizes: dict[object, float] = {}
    for touch, count in regions:
        sizes[touch.region] = max(sizes.get(touch.region, 0.0), touch.bytes * count)
    return sum(sizes.values())


def _windows(count: float, kept: float) -> float:
    """How often the bytes of overlapping windows are touched, on average."""
    return max(1.0, count) / (1 + (max(1.0, count) - 1) * (1 - kept))


def _dealt(block: Block, items: Items, place: int, stride: float, count: float) -> tuple[float, float]:
    """Cores that touch the same at one time along axis `place`, and trips until it is touched again."""
    if not isinstance(items.deal, str):
        (_, height), (_, width) = items.axes
        rows, cols = items.deal
        return (min(rows, height), -(-width // cols)) if place == 0 else (min(cols, width), 1.0)
    if items.deal == "cyclic":
        here = min(count, math.ceil(block.streams / max(1.0, stride)))
        return here, max(1.0, stride / block.streams)
    # core k is k runs ahead, modulo the stride, of the first one on its way through the axis
    own, step = max(1, int(block.trips) // block.streams), max(1, int(stride))
    near = int(min(block.streams, max(1, step * count // own)))  # cores at work on the same values
    starts = sorted({k * own % step for k in range(near)})
    gap = max(b - a for a, b in pairwise([*starts, step]))
    return min(count, max(1.0, near / len(starts))), gap


def _parting(touch: Touch, other: Touch) -> tuple[Block, Block | Touch, Block | Touch]:
    """The innermost block around both, and what in it holds the one and the other."""
    mine: list[Block | Touch] = [*touch.parent.above, touch]
    its: list[Block | Touch] = [*other.parent.above, other]
    depth = next(i for i, (a, b) in enumerate(zip(mine, its, strict=False)) if a is not b)
    return touch.parent.above[depth - 1], mine[depth], its[depth]


def _covered(touch: Touch, other: Touch, around: Block) -> float:
    """The share of the regions of `touch` that `other` came to, item by item where counts differ."""
    mine, its = touch.regions(around), other.regions(around)
    if len(mine) == len(its) == 1 or not other.moves_with_items:
        return float(its.max() / other.reach(around))  # all items come to the same, the longest farthest
    if 1 < len(mine) != len(its) > 1 or not mine.any():
        return 0.0
    if not touch.moves_with_items:
        return float(its.min() >= mine.max())
    return float(np.minimum(mine, its).sum() / (mine + 0 * its).sum())


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


def _without(pieces: list[Piece], start: float, end: float, found: float) -> list[Piece]:
    """The pieces, of which a share is `found` between `start` and `end`."""
    cut: list[Piece] = []
    for low, high, missing in pieces:
        first, last = min(max(low, start), high), max(min(high, end), low)
        cut += [(low, first, missing), (first, last, missing * (1 - found)), (last, high, missing)]
    return [(low, high, missing) for low, high, missing in cut if high > low]
