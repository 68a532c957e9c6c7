"""Every access of a kernel to global memory, in its loop tree: what moves it, and how often it goes where.

A *region* is the rectangle of a tensor (or the workspace) that an access names in one trip; a *block* is a
loop, the items of a phase, their last ragged trip, or the whole kernel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import count
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npusim.dtypes import dtype
from npusim.graph import Access, Items, Kernel, Loop, Node, Operation, View, table_variable

LARGEST = 1 << 16
"""items that are looked at one by one; of more, the sizes of their axes are multiplied"""

TABLE = table_variable("").removeprefix(".")
"""how the variable of a table ends"""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Block:
    """What repeats: a loop, items dealt to `streams` cores, their ragged trip, or (None) the whole kernel."""

    node: Loop | Items | None
    parent: Block | None
    streams: int
    place: int = 0
    """its number among the children of its parent"""
    ragged: bool = False
    children: list[Block | Touch] = field(default_factory=list)

    @cached_property
    def above(self) -> list[Block]:
        """The blocks around it and itself, outermost first."""
        return [*(self.parent.above if self.parent else []), self]

    @property
    def variables(self) -> list[str]:
        """Its loop variable, or the axes of its items."""
        if isinstance(self.node, Loop):
            return [self.node.var]
        return [name for name, _ in self.node.axes] if self.node else []

    def extent(self, variable: str) -> tuple[int, int, int]:
        """Least and largest value, and step, of a variable ('chunk.2': of the third item of a trip)."""
        if isinstance(self.node, Loop):
            return 0, max(0, int(np.max(self.node.count)) - 1), 1
        assert self.node is not None
        axis, _, member = variable.partition(".")
        if member == TABLE:
            values = np.unique(dict(self.node.tables)[axis])
            return int(values[0]), int(values[-1]), int(np.diff(values).max(initial=0))
        if len(self.node.axes) > 1:
            # which values a member of a trip takes is not one step: as if it took them one trip apart
            return 0, dict(self.node.axes)[axis] - 1, self.node.group if member else 1
        full = self.node.total // self.node.group * self.node.group
        first, last = (full, full) if self.ragged else (0, full - self.node.group)
        return first + int(member or 0), last + int(member or 0), self.node.group

    @property
    def trips(self) -> float:
        """Trips of a loop, their mean over the items where they differ; full trips of items."""
        if isinstance(self.node, Loop):
            return float(np.mean(self.node.count))
        return self.node.total // self.node.group if self.node and not self.ragged else 1

    def touches(self) -> Iterator[Touch]:
        for child in self.children:
            yield from (child,) if isinstance(child, Touch) else child.touches()


@dataclass(frozen=True)
class Span:
    """One axis of a region: where it begins (`start` + the sum of factor * variable), and its size."""

    start: int
    terms: tuple[tuple[str, int], ...]
    size: int


@dataclass(frozen=True, eq=False)
class Touch:
    """One access: its operation, the bytes of its region, the block it stands in and its place there, how
    many cores of the phase come to it, and its number in program order."""

    op: Operation
    end: Access | View
    bytes: float
    parent: Block
    place: int
    streams: int
    number: int

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """The axes of the region; a workspace has none, it is all of the core's own."""
        if isinstance(self.end, View):
            return ()
        ends = [*((index, 1) for index in self.end.lead), (self.end.row, self.end.rows)]
        ends.append((self.end.col, self.end.cols))
        return tuple(Span(index.const, tuple(sorted(index.terms)), size) for index, size in ends)

    @property
    def where(self) -> str:
        """The tensor, or the workspace, that it touches."""
        return self.end.tile.name if isinstance(self.end, View) else self.end.tensor.name

    @cached_property
    def region(self) -> tuple[object, ...]:
        return self.where, self.spans

    @cached_property
    def items(self) -> Block | None:
        """The block of items it stands in."""
        return next((block for block in self.parent.above if isinstance(block.node, Items)), None)

    def moves_with(self, variable: str) -> bool:
        """Whether other bytes are touched when a loop variable, or an axis of items, goes on."""
        return variable in self._moved_by

    @cached_property
    def _moved_by(self) -> frozenset[str]:
        names = {name for span in self.spans for name, _ in span.terms}
        return frozenset(names | {name.partition(".")[0] for name in names})

    def kept_by_step(self, variable: str) -> float:
        """The share of the region that a step of a variable keeps: windows that overlap along one axis. Where
        a table says how far a step goes, none is counted on."""
        names = {name for span in self.spans for name, _ in span.terms}
        if any(_of(name, variable) and name.endswith(f".{TABLE}") for name in names):
            return 0.0
        moved = [
            (span.size, factor) for span in self.spans for name, factor in span.terms if _of(name, variable)
        ]
        (size, factor) = moved[0] if len(moved) == 1 else (1, 1)
        return max(0.0, 1 - abs(factor) / size)

    def moving_axes(self, items: Items) -> list[int]:
        return [place for place, (name, _) in enumerate(items.axes) if self.moves_with(name)]

    def box(self, within: Block) -> list[tuple[int, int]]:
        """From where to where it goes on each axis in one trip of `within`, whose variables count as 0."""
        free, found = self._free(within), []
        for span in self.spans:
            ends = [
                [factor * value for value in free[name][:2]] for name, factor in span.terms if name in free
            ]
            low, high = (span.start + sum(map(pick, ends)) for pick in (min, max))
            found.append((low, high + span.size))
        return found

    def pattern(self, within: Block) -> list[object]:
        """How it goes through its tensor in one trip of `within`: equal for accesses to the same regions."""
        places: dict[str, list[tuple[int, int]]] = {}
        for axis, span in enumerate(self.spans):
            for name, factor in span.terms:
                places.setdefault(name, []).append((axis, factor))
        moved = sorted(
            (places[name], extent) for name, extent in self._free(within).items() if name in places
        )
        return [*((span.start, span.size) for span in self.spans), *moved]

    def dense(self, within: Block) -> bool:
        """Whether it touches all of its box: no step is longer than what it goes through before the next one,
        and no two axes go on together."""
        free, seen = self._free(within), set[str]()
        for span in self.spans:
            reach = span.size
            for name, factor in sorted(span.terms, key=lambda term: abs(term[1])):
                if name not in free:
                    continue
                low, high, step = free[name]
                if name in seen or (high > low and abs(factor) * step > reach):
                    return False
                seen.add(name)
                reach += abs(factor) * (high - low)
        return True

    def _free(self, within: Block) -> dict[str, tuple[int, int, int]]:
        """Least and largest value, and step, of the variables that move it inside of `within`."""
        names = {name for span in self.spans for name, _ in span.terms}
        return {
            name: block.extent(name)
            for block in self.parent.above
            if block not in within.above
            for name in names
            if any(_of(name, variable) for variable in block.variables)
        }

    def regions(self, within: Block) -> npt.NDArray[np.float64]:
        """For each item, or in one value for all, how many regions it comes to by the loops in `within`."""
        count = np.ones(1)
        for block in self.parent.above:
            if isinstance(block.node, Loop) and block not in within.above:
                trips = np.atleast_1d(block.node.count)
                count = count * (trips if self.moves_with(block.node.var) else trips > 0)
        return count

    def reach(self, within: Block) -> float:
        """The regions that an item would come to by the loops in `within` if each went its farthest."""
        loops = [b.node for b in self.parent.above if isinstance(b.node, Loop) and b not in within.above]
        return math.prod(max(1, int(np.max(loop.count))) for loop in loops if self.moves_with(loop.var))

    @property
    def moves_with_items(self) -> bool:
        return self.items is not None and any(self.moves_with(name) for name in self.items.variables)

    def fixed(self, within: Block) -> list[frozenset[tuple[str, int]]]:
        """Of each axis, the terms in variables of `within` and of what is around it."""
        names = [name for block in within.above for name in block.variables]
        return [
            frozenset(term for term in span.terms if any(_of(term[0], name) for name in names))
            for span in self.spans
        ]

    @property
    def member(self) -> int:
        """Which item of a trip it belongs to."""
        suffixes = [name.split(".")[1] for span in self.spans for name, _ in span.terms if "." in name]
        suffixes = [one for one in suffixes if one != TABLE]
        return int(suffixes[0]) if suffixes else 0

    def meets(self, former: Touch, within: Block) -> float:
        """The share of the trips of `within` in which both begin at the same place: the members of a trip of
        items may, or may not, have a coordinate in common."""
        mine, its = self.fixed(within), former.fixed(within)
        if mine == its:
            return 1.0
        plain = [[{(n.split(".")[0], f) for n, f in span} for span in spans] for spans in (mine, its)]
        if plain[0] != plain[1]:
            return 0.0
        if former.member != self.member - 1:
            return 0.0  # the neighbour has what those before it have, too
        # only items have members, and they are around both
        node = self.items.node if self.items else None
        assert isinstance(node, Items)
        first = np.arange(min(node.total // node.group, LARGEST)) * node.group
        sizes = tuple(size for _, size in node.axes)
        places = [np.unravel_index(first + one.member, sizes) for one in (self, former)]
        moving = self.moving_axes(node)
        return float(np.mean(np.all([places[0][p] == places[1][p] for p in moving], axis=0)))


def _of(name: str, variable: str) -> bool:
    """'chunk.2' is the variable of axis 'chunk' for the third item of a trip."""
    return name == variable or name.startswith(f"{variable}.")


# --- collecting them -----------------------------------------------------------------------------


def collect(kernel: Kernel, streams: Sequence[int]) -> Block:
    """The whole kernel, whose phases run on so many streams each."""
    root, numbers = Block(None, None, 1), count()
    for phase, cores in zip(kernel.phases, streams, strict=True):
        _add(root, phase.nodes, cores, numbers)
    return root


def _add(parent: Block, nodes: tuple[Node, ...], streams: int, numbers: Iterator[int]) -> None:
    for node in nodes:
        if isinstance(node, Operation):
            for end in (node.dst, *node.srcs):
                if isinstance(end, Access) or (isinstance(end, View) and end.tile.level == "GM"):
                    parent.children.append(
                        Touch(node, end, _bytes(end), parent, len(parent.children), streams, next(numbers))
                    )
        elif isinstance(node, Loop):
            inner = Block(node, parent, streams, len(parent.children))
            parent.children.append(inner)
            _add(inner, node.body, streams, numbers)
        else:
            for body, ragged in ((node.body, False), (node.ragged, True)):
                if body:
                    inner = Block(node, parent, 1 if ragged else streams, len(parent.children), ragged)
                    parent.children.append(inner)
                    _add(inner, body, inner.streams, numbers)


def _bytes(end: Access | View) -> float:
    name = end.tile.dtype if isinstance(end, View) else end.tensor.dtype
    return end.rows * end.cols * dtype(name).bytes


# --- counting regions ----------------------------------------------------------------------------


def distinct(touch: Touch, within: Block, trips: int = 1) -> float:
    """How many different regions all cores touch in so many trips of `within` (several: of items only)."""
    inside = [block for block in touch.parent.above if block not in within.above]
    regions = math.prod(
        block.trips for block in inside if isinstance(block.node, Loop) and touch.moves_with(block.node.var)
    )
    items = touch.items
    if isinstance(touch.end, View):
        return touch.streams
    if items is None or items.ragged:
        return regions
    if items in inside:
        return regions * passes(touch, items)[1]
    return regions * _at_work(touch, items, trips)


def passes(touch: Touch, items: Block) -> tuple[float, float]:
    """How often all items together come to a region, and to how many different ones. Loops inside that have
    one count for all items are left out; of those with a table, each trip is a region of its own where the
    access moves with it, and an item without a trip does not come at all."""
    node = items.node
    assert isinstance(node, Items)
    moving, full = touch.moving_axes(node), node.total // node.group
    sizes = [size for _, size in node.axes]
    loops = [block.node for block in touch.parent.above if isinstance(block.node, Loop)]
    tables = [loop for loop in loops if np.ndim(loop.count)]
    if not tables:
        if full > LARGEST:
            return full, min(full, math.prod(sizes[place] for place in moving))
        return full, Dealing.of(items).regions(tuple(moving))
    numbers = np.arange(full) * node.group
    key = _keys(np.unravel_index(numbers, tuple(sizes)), moving, sizes)
    weights = np.ones(full)
    for loop in tables:
        count = np.asarray(loop.count)[numbers]
        # `distinct` counts the mean of a loop that moves it
        weights *= count / max(np.mean(loop.count), 1e-300) if touch.moves_with(loop.var) else count > 0
    _, group = np.unique(key, return_inverse=True)
    most = np.zeros(int(group.max()) + 1)
    np.maximum.at(most, group, weights)
    return float(weights.sum()), float(most.sum())


def at_once(touch: Touch, items: Block) -> float:
    """How many cores, on average, come to a region at one time."""
    node = items.node
    assert isinstance(node, Items)
    dealing = Dealing.of(items)
    trips = -(-dealing.full // items.streams)
    most = max(1, LARGEST // items.streams)
    return dealing.meeting(tuple(touch.moving_axes(node)), min(trips, most))


def _at_work(touch: Touch, items: Block, trips: int) -> int:
    """Different regions among the items that all cores begin their first so many trips with."""
    node = items.node
    assert isinstance(node, Items)
    dealing = Dealing.of(items)
    moving, sizes = touch.moving_axes(node), dealing.sizes
    if trips * items.streams > LARGEST:
        reach = [math.ceil(trips * items.streams * dealing.group / math.prod(sizes[p + 1 :])) for p in moving]
        return math.prod(min(sizes[p], most) for p, most in zip(moving, reach, strict=True))
    return dealing.different(tuple(moving), trips)


class Dealing(NamedTuple):
    """How items are dealt: all that decides which cores meet. Several accesses ask the same of it."""

    sizes: tuple[int, ...]
    deal: str | tuple[int, int]
    group: int
    streams: int

    @staticmethod
    def of(block: Block) -> Dealing:
        node = block.node
        assert isinstance(node, Items)
        return Dealing(tuple(size for _, size in node.axes), node.deal, node.group, block.streams)

    @property
    def full(self) -> int:
        """Full trips of all cores together."""
        return math.prod(self.sizes) // self.group

    @lru_cache(maxsize=256)  # noqa: B019 (of values, not of objects)
    def meeting(self, moving: tuple[int, ...], trips: int) -> float:
        """How many cores, on average over so many trips, are at the same place of the axes `moving` at one
        time."""
        places, trip = self._places(trips)
        key = _keys(places, moving, self.sizes)
        return len(key) / _different(key * (int(trip.max()) + 1) + trip)

    @lru_cache(maxsize=256)  # noqa: B019
    def different(self, moving: tuple[int, ...], trips: int) -> int:
        """Different places on the axes `moving` that all cores come to in their first so many trips."""
        return _different(_keys(self._places(trips)[0], moving, self.sizes))

    @lru_cache(maxsize=256)  # noqa: B019
    def regions(self, moving: tuple[int, ...]) -> int:
        """Different places on the axes `moving` that all full trips come to."""
        places = np.unravel_index(np.arange(self.full) * self.group, self.sizes)
        return _different(_keys(places, moving, self.sizes))

    def _places(self, trips: int) -> tuple[tuple[Ints, ...], Ints]:
        """Coordinates, per axis, of the first items of the first so many trips of all streams, and the
        trips."""
        core, trip = np.meshgrid(np.arange(self.streams), np.arange(trips))
        if not isinstance(self.deal, str):
            (height, width), (rows, cols) = self.sizes, self.deal
            tall, wide = -(-height // rows), -(-width // cols)
            row, col = core % rows * tall + trip // wide, core // rows * wide + trip % wide
            inside = (trip < tall * wide) & (row < height) & (col < width)
            return (row[inside], col[inside]), trip[inside]
        each = max(1, self.full // self.streams)
        number = trip * self.streams + core if self.deal == "cyclic" else core * each + trip
        inside = number < self.full
        return np.unravel_index(number[inside] * self.group, self.sizes), trip[inside]


def _keys(places: tuple[Ints, ...], moving: Sequence[int], sizes: Sequence[int]) -> Ints:
    """One number for each combination of coordinates on the axes `moving`."""
    key = np.zeros_like(places[0])
    for place in moving:
        key = key * sizes[place] + places[place]
    return key


def _different(keys: Ints) -> int:
    """How many of them are different. (np.unique says so, too, but loads numpy's masked arrays first.)"""
    return len(keys) and 1 + int(np.count_nonzero(np.diff(np.sort(keys))))
