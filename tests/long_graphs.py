"""Random kernels whose loops make so many trips that their runs settle, in outer and in inner loops.

`long_case(seed)` names one, `long_cases()` is the hypothesis strategy. They are made of what the kernels of
`random_graphs` are made of, and of states that loops carry from trip to trip, tables of counts that change on
the way, loops in loops, counts per core and grids. What a kernel does and how often are drawn apart, so that
trips can be cut until the reference engine takes no more than some tens of milliseconds.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

import numpy as np
from hypothesis import strategies as st
from random_graphs import SIZES, Case, GroupPhase, PhaseWriter, VectorPhase, random_machine

from npusim.builder import Index, Kernel, KernelBuilder, Target
from npusim.lower import lower
from npusim.machine import Machine
from npusim.program import Trips

MOST_OPERATIONS = 3000
SHAPES = ("items", "items", "loops", "innermost", "cores", "grid", "all")
"""which trips are many: those over items, of the loops in them, of the loops in those; counts per core in
`cores`, the tiles of a grid; a few dozen of each"""


class LongCase(Case):
    def __repr__(self) -> str:
        return f"long_case({self.seed}, {self.contention})"


def long_cases(contention: bool = True) -> st.SearchStrategy[LongCase]:
    """Random kernels with many trips on random machines."""
    return st.integers(0, 2**32 - 1).map(lambda seed: long_case(seed, contention))


def long_case(seed: int, contention: bool = True) -> LongCase:
    """The kernel and machine of a seed, with as many trips as the reference engine can make soon."""
    most = 200
    while True:
        chooser = random.Random(seed)
        machine = random_machine(chooser, contention)
        kernel = long_kernel(chooser, random.Random(seed + 1), Target.of(machine), most)
        operations = operations_of(kernel, machine)
        if most == 1 or operations <= MOST_OPERATIONS:
            return LongCase(kernel, machine, seed, contention)
        most = max(1, min(most // 2, most * MOST_OPERATIONS // operations))


def operations_of(kernel: Kernel, machine: Machine) -> int:
    """How many operations run, by the lowered loops alone."""
    phases = lower(kernel, machine).phases
    return sum(_count(p.body, stream, 0) for p in phases for stream in range(p.streams))


def _count(nodes: tuple[int | Trips, ...], stream: int, item: int) -> int:
    total = 0
    for node in nodes:
        if not isinstance(node, Trips):
            total += 1
            continue
        trips = int(node.count[item if node.per_item else stream if len(node.count) > 1 else 0])
        if node.first_item is None:
            total += trips * _count(node.body, stream, item)
            continue
        first = int(node.first_item[stream])
        total += sum(_count(node.body, stream, first + n * node.item_step) for n in range(trips))
    return total


def long_kernel(chooser: random.Random, trips: random.Random, target: Target, most: int) -> Kernel:
    """One to three phases; `trips` draws numbers of trips, none above `most`."""
    k = KernelBuilder("long", target, "fp16")
    n = chooser.choice(SIZES)
    for number in range(chooser.choice([1, 1, 2, 3])):
        kind = LongVectorPhase if chooser.random() < 0.25 else LongGroupPhase
        writer = kind(k, chooser, n, number, trips, most)
        with k.phase(f"phase {number}", over=writer.over):
            writer.emit()
    return k.finish()


class Long(PhaseWriter):
    """Makes a phase's loops long. `shape`: which of them."""

    def __init__(
        self, k: KernelBuilder, chooser: random.Random, n: int, number: int, trips: random.Random, most: int
    ) -> None:
        self.trips, self.most = trips, most
        self.shape, self.uneven = chooser.choice(SHAPES), chooser.random() < 0.4
        self.workers = k.target.groups
        if self.over == "vector":
            self.workers *= max(1, k.target.vector_cores)
        super().__init__(k, chooser, n, number)
        self.state = self.tile("state", "UB", "fp32" if self.over == "vector" else "fp16")
        self.fed = self.tile("fed", "UB", self.state.dtype)

    # --- how many trips ----------------------------------------------------------------------

    def drawn(self, most: int = 1000) -> int:
        most = min(most, self.most)
        return self.trips.randint(max(1, most // 3), most)

    def many(self) -> int:
        if self.shape == "cores":
            return self.workers
        if self.shape in ("items", "grid"):
            return self.drawn()
        return self.drawn(30) if self.shape == "all" else self.trips.randint(1, 4)

    def count(self, depth: int) -> int:
        """Trips of a loop at a depth."""
        if self.shape == "all":
            return self.drawn(12) if depth == 0 else self.trips.randint(1, 3)
        if self.shape == "innermost":
            return self.drawn() if depth else self.trips.randint(2, 4)
        if self.shape in ("loops", "cores") and depth == 0:
            return self.drawn()
        return self.trips.randint(1, 4)

    def counts(self, depth: int) -> np.ndarray:
        """A table of counts: mostly equal, higher up to some item, in turns, or any."""
        usual, style = self.count(depth), self.chooser.choice(["mostly", "steps", "turns", "any"])
        table = np.full(self.total, usual)
        other, place = self.trips.randint(0, usual), self.trips.randrange(self.total)
        if style == "mostly":
            table[place] = other
        elif style == "steps":
            table[place:] = other
        elif style == "turns":
            table[:: self.trips.randint(2, 3)] = other
        else:
            table = np.array([self.trips.randint(0, usual) for _ in table])
        table[-1] += not table.any()
        return table

    # --- what is done ------------------------------------------------------------------------

    def emit(self) -> None:
        self.before()
        k, deal = self.k, self.chooser.choice(["cyclic", "contiguous"])
        if self.chooser.random() < 0.4:
            self.begin_state(0)
        if self.shape == "cores":
            self.group = 1
            k.cores(lambda core: self.trip([(core,)]))
        elif self.shape == "grid":
            self.uneven = False
            grid = self.chooser.choice([(1, self.workers), (self.workers, 1), (1, 1)])
            axes = [("i", self.total), ("j", self.trips.randint(1, 3))]
            k.items(axes, lambda trip: self.trip([trip[0][:1]]), deal=grid)
        else:
            k.items([("i", self.total)], self.trip, group=self.group, deal=deal)
        if self.chooser.random() < 0.2:
            self.uneven = False
            k.items([("j", self.trips.randint(1, 4))], self.trip_again)

    def begin_state(self, item: Index | int) -> None:
        self.k.load(self.wrote(self.state), self.source.at(item), label="load state")

    def update_state(self, item: Index) -> None:
        """In place, from what this trip loads: each trip waits for the one before."""
        self.k.load(self.fed, self.source.at(item), label="feed")
        self.k.vector("add", self.state, self.state, self.fed, label="update state")

    def statements(self, item: Index, count: int, depth: int) -> None:
        if depth < (self.shape in ("loops", "cores", "all")) + 2 * (self.shape == "innermost"):
            self.loop(item, depth)
        for _ in range(min(count, 3)):
            kinds = [*self.kinds(), *([partial(self.loop, depth=depth)] * (depth < 2))]
            self.chooser.choice(kinds)(item)
        if self.state in self.defined and self.chooser.random() < 0.5:
            self.update_state(item)

    def loop(self, item: Index, depth: int = 0) -> None:
        """One that carries a state or none, peeled or not, or with a count for each item."""
        chooser, outer = self.chooser, set(self.defined)
        statements, carried = chooser.randint(1, 3), chooser.random() < 0.4
        if carried:
            self.begin_state(item)

        def body(_: Index) -> None:
            if carried:
                self.update_state(item)
            else:
                self.k.scalar("alu", on="cube" if self.over == "group" else "rows")
            self.statements(item, statements, depth + 1)

        if self.group == 1 and self.uneven and self.total > 1 and chooser.random() < 0.7:
            self.k.loop(self.counts(depth), body)
        else:
            peeled = [body if chooser.random() < 0.2 else None for _ in range(2)]
            self.k.loop(self.count(depth), body, *peeled)
        if carried:
            self.k.store(self.result.at(item), self.state, label="store state")
        self.defined = outer


class LongGroupPhase(Long, GroupPhase):
    """On the cube core and its vector cores; sums kept in the accumulator; tiles read a trip later."""

    def kinds(self) -> list[Callable[[Index], None]]:
        return [*GroupPhase.kinds(self), self.add_up, self.hand_on]

    def add_up(self, item: Index) -> None:
        """Sums over a loop stay in the accumulator."""
        k = self.k

        def body(_: Index, more: bool = True) -> None:
            k.load(self.wrote(self.x), self.source.at(item), label="load terms")
            k.move(self.a, self.x, label="terms to a")
            k.move(self.b, self.I, label="to b")
            k.matmul(self.wrote(self.c), self.a, self.b, accumulate=more, label="add product")

        k.loop(self.count(1), body, first=partial(body, more=False))

    def hand_on(self, item: Index) -> None:
        """What the trip before left is multiplied, and the next left."""
        self.k.move(self.a, self.x, label="of the trip before to a")
        self.k.load(self.x, self.source.at(item), label="load for the next trip")


class LongVectorPhase(Long, VectorPhase):
    """On the vector cores alone."""
