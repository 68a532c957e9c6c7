"""Random valid kernels and machines, for laws that hold for all of them.

`random_kernel(random, target)` writes a kernel through KernelBuilder and `random_machine(random)` changes the
numbers of a profile; both take a `random.Random`, so that one seed names one case. `cases()` is the
hypothesis strategy, `case(seed)` the same without hypothesis. `Moves(seed)` is a program of moves with its
values in plain numpy.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from hypothesis import strategies as st

from npusim.builder import Index, Kernel, KernelBuilder, Target, Tile, Version
from npusim.machine import Machine, override
from npusim.profiles import load_machine

SPLIT = ("toy", "toy", "toy", "ascend-950pr-9599")
FUSED = ("hexagon-class", "ascend-310p3")
SIZES = (16, 32, 48)
ELEMENTWISE = ("add", "sub", "mul", "max")


@dataclass(frozen=True, repr=False)
class Case:
    """A kernel built for a machine; `seed` and `contention` build it anew."""

    kernel: Kernel
    machine: Machine
    seed: int
    contention: bool

    def __repr__(self) -> str:
        return f"case({self.seed}, {self.contention})"


def cases(contention: bool = True) -> st.SearchStrategy[Case]:
    """Random kernels on random machines; without contention HBM, L2 and L1 ports never limit."""
    return st.integers(0, 2**32 - 1).map(lambda seed: case(seed, contention))


def case(seed: int, contention: bool = True) -> Case:
    """The kernel and machine of a seed."""
    chooser = random.Random(seed)
    machine = random_machine(chooser, contention)
    return Case(random_kernel(chooser, Target.of(machine)), machine, seed, contention)


# --- machines --------------------------------------------------------------------------------


def random_machine(chooser: random.Random, contention: bool = True) -> Machine:
    """A profile with random latencies, flags, queue depth, rates and core groups."""
    machine = _profile(chooser.choice(SPLIT + FUSED))
    values: dict[str, float] = {
        "core.groups": chooser.randint(1, 3),
        "core.scalar.issue_cycles": chooser.choice([0, 1, 2, 7.5]),
        "core.scalar.queue_depth": chooser.choice([1, 2, 3, 8, 32]),
        "core.scalar.ub_read_cycles": chooser.choice([0, 10]),
        "core.cube.startup_cycles": chooser.choice([0, 10, 33.3]),
        "core.cube.latency_cycles": chooser.choice([0, 10, 50]),
        "core.flags.default_cycles": chooser.choice([0, 1, 10, 40.1]),
        "core.flags.cross_core_cycles": chooser.choice([0, 100, 333]),
        "core.barriers.unit_cycles": chooser.choice([0, 3]),
        "core.barriers.core_cycles": chooser.choice([0, 10]),
        "core.barriers.all_cores_cycles": chooser.choice([0, 300]),
        "launch.setup_us": chooser.choice([0, 0.2]),
        "launch.dispatch_us": chooser.choice([0, 0.05, 1]),
        "memory.hbm_gb_per_s": chooser.choice([20, 90, 200, 1000]) if contention else 1e9,
        "memory.l2_gb_per_s": chooser.choice([30, 200, 1000]) if contention else 1e9,
    }
    for key in machine.paths:
        values[f"paths.{key}.bytes_per_cycle"] = chooser.choice([30, 100, 128, 177.7])
        values[f"paths.{key}.latency_cycles"] = chooser.choice([0, 10, 100])
        if chooser.random() < 0.3:
            values[f"paths.{key}.startup_cycles"] = chooser.choice([0, 12])
    if contention and chooser.random() < 0.3:
        values["core.l1_port_bytes_per_cycle"] = chooser.choice([60, 200])
    return override(machine, values)


_profile = lru_cache(load_machine)


# --- kernels ---------------------------------------------------------------------------------


def random_kernel(chooser: random.Random, target: Target) -> Kernel:
    """One to three phases of loads, moves, products, vector work, hand-overs between cores, stores, streams,
    waits and barriers, in items and loops."""
    k = KernelBuilder("random", target, "fp16")
    n = chooser.choice(SIZES)
    for number in range(chooser.choice([1, 1, 2, 3])):
        writer = (VectorPhase if chooser.random() < 0.25 else GroupPhase)(k, chooser, n, number)
        with k.phase(f"phase {number}", over=writer.over):
            writer.emit()
    return k.finish()


class PhaseWriter:
    """Writes one phase. `defined`: tiles that may be read, on each level."""

    over: str

    def __init__(self, k: KernelBuilder, chooser: random.Random, n: int, number: int) -> None:
        self.k, self.chooser, self.n, self.number = k, chooser, n, number
        self.total = self.many()
        self.group = chooser.choice([1, 1, 2, 3])
        self.defined: set[Tile] = set()
        self.constant = k.constant(self.name("constant"), np.eye(n), "fp16")
        self.source = k.input(self.name("in"), (self.total, n, n), "fp16", chooser.choice([n, 4 * n]))
        self.result = k.output(self.name("out"), (self.total, n, n), "fp16")

    def many(self) -> int:
        """How many items."""
        return self.chooser.choice([1, 2, 3, 5, 7, 8])

    def name(self, text: str) -> str:
        return f"{text}{self.number}"

    def tile(self, text: str, level: str, dtype: str = "fp16", place: str | None = None) -> Tile:
        slots = self.chooser.choice([1, 1, 2, 3])
        return self.k.tile(self.name(text), level, (self.n, self.n), dtype, slots, place)  # type: ignore[arg-type]

    def emit(self) -> None:
        self.before()
        deal = self.chooser.choice(["cyclic", "contiguous"])
        self.k.items([("i", self.total)], self.trip, group=self.group, deal=deal)
        if self.chooser.random() < 0.2:
            self.k.items([("j", self.chooser.randint(1, 4))], self.trip_again)

    def trip(self, items: list[tuple[Index, ...]]) -> None:
        outer = set(self.defined)
        for (item,) in items:
            self.start(item)
            self.statements(item, self.chooser.randint(1, 6), depth=0)
            self.finish(item)
        self.defined = outer

    def trip_again(self, items: list[tuple[Index, ...]]) -> None:
        outer = set(self.defined)
        self.start(Index())
        self.statements(Index(), 2, depth=1)
        self.defined = outer

    def statements(self, item: Index, count: int, depth: int) -> None:
        for _ in range(count):
            kinds = [*self.kinds(), *([self.loop] if depth == 0 else [])]
            self.chooser.choice(kinds)(item)

    def loop(self, item: Index) -> None:
        """A loop of one to four trips, peeled or not, or one with a count for each item."""
        chooser, outer = self.chooser, set(self.defined)
        statements = chooser.randint(1, 4)

        def body(_: Index) -> None:
            self.k.scalar("alu", on="cube" if self.over == "group" else "rows")
            self.statements(item, statements, depth=1)

        if self.group == 1 and chooser.random() < 0.3 and self.total > 1:
            counts = np.array([chooser.randint(0, 3) for _ in range(self.total)])
            if counts.sum():
                self.k.loop(counts, body)
            self.defined = outer
            return
        first = body if chooser.random() < 0.3 else None
        last = body if chooser.random() < 0.3 else None
        self.k.loop(chooser.randint(1, 4), body, first=first, last=last)

    def some(self, *levels: str) -> Tile | None:
        """A tile that is defined at one of the levels."""
        found = sorted((t for t in self.defined if t.level in levels), key=lambda t: t.name)
        return self.chooser.choice(found) if found else None

    def wrote(self, tile: Tile) -> Tile:
        self.defined.add(tile)
        return tile

    def before(self) -> None: ...
    def start(self, item: Index) -> None: ...
    def finish(self, item: Index) -> None: ...
    def kinds(self) -> list[Callable[[Index], None]]:
        return []


class GroupPhase(PhaseWriter):
    """On the cube core and its vector cores."""

    over = "group"

    def __init__(self, k: KernelBuilder, chooser: random.Random, n: int, number: int) -> None:
        super().__init__(k, chooser, n, number)
        self.I = self.tile("I", "L1")
        self.x, self.y = self.tile("x", "L1"), self.tile("y", "L1")
        self.a, self.b = self.tile("a", "L0A"), self.tile("b", "L0B")
        self.c = self.tile("c", "L0C", "fp32")
        self.u, self.v = self.tile("u", "UB"), self.tile("v", "UB")
        self.r = self.tile("r", "UB", place="replicate")
        self.first = self.tile("first", "UB", place="first")

    def before(self) -> None:
        self.k.load(self.wrote(self.I), self.constant.at(), label="load I")
        if self.chooser.random() < 0.5:
            self.k.load(self.wrote(self.r), self.constant.at(), label="load r")

    def start(self, item: Index) -> None:
        self.k.load(self.wrote(self.x), self.source.at(item), label="load x")

    def finish(self, item: Index) -> None:
        if self.chooser.random() < 0.7:
            self.store(item)

    def kinds(self) -> list[Callable[[Index], None]]:
        return [
            self.load, self.product, self.product, self.masked_product, self.leave, self.to_vector,
            self.load_ub, self.vector, self.vector, self.broadcast, self.to_cube, self.store, self.wait,
            self.barrier, self.scalar, self.older, self.alone,
        ]  # fmt: skip

    def load(self, item: Index) -> None:
        self.k.load(self.wrote(self.chooser.choice([self.x, self.y])), self.source.at(item), label="load")

    def load_ub(self, item: Index) -> None:
        tile = self.chooser.choice([self.u, self.v, self.r, self.first])
        rows = self.chooser.choice([self.n, self.n, self.n // 2, 1])
        if tile.place == "rows":  # dealt to the vector cores: no window of its rows
            rows = self.n
        if rows < self.n:
            whole = self.k.load(self.wrote(tile), self.source.at(item), label="load UB")
            assert whole.tile is tile
        self.k.load(self.wrote(tile).view(0, rows), self.source.at(item, rows=rows), label="load rows")

    def product(self, item: Index) -> None:
        left, right = self.some("L1"), self.some("L1")
        assert left and right
        k, more = self.k, self.c in self.defined and self.chooser.random() < 0.4
        k.move(self.a, left, label="to a")
        k.move(self.b, right, label="to b")
        k.matmul(self.wrote(self.c), self.a, self.b, accumulate=more, label="product")

    def masked_product(self, item: Index) -> None:
        edge = self.n // 16
        mask = np.array([[self.chooser.random() < 0.5 for _ in range(edge)] for _ in range(edge)])
        self.k.move(self.a, self.I, label="to a")
        if mask.any():
            self.k.move(self.a, self.x, fractals=mask, into=True, label="fractals to a")
        self.k.move(self.b, self.I, label="to b")
        self.k.matmul(self.wrote(self.c), self.a, self.b, fractals=(mask, None), label="masked product")

    def leave(self, item: Index) -> None:
        if self.c in self.defined:
            self.k.move(self.wrote(self.y), self.c, label="exit")

    def to_vector(self, item: Index) -> None:
        if self.c in self.defined:
            tile = self.chooser.choice([self.u, self.v, self.r])
            self.k.move(self.wrote(tile), self.c, label="cube to vector")

    def to_cube(self, item: Index) -> None:
        if self.u in self.defined:  # transposed: a plain move is no work on a machine with one memory
            self.k.move(self.wrote(self.y), self.u, transpose=True, label="vector to cube")

    def vector(self, item: Index) -> None:
        left, right = self._of_rows(), self._of_rows()
        if left and right:
            dst = self.wrote(self.chooser.choice([self.u, self.v]))
            self.k.vector(self.chooser.choice(ELEMENTWISE), dst, left, right, label="vector")

    def _of_rows(self) -> Tile | None:
        found = [t for t in (self.u, self.v, self.r) if t in self.defined]
        return self.chooser.choice(found) if found else None

    def broadcast(self, item: Index) -> None:
        if self.u in self.defined:
            self.k.vector("row_broadcast", self.wrote(self.v), self.u.view(cols=1), label="broadcast")

    def alone(self, item: Index) -> None:
        if self.first in self.defined:
            self.k.vector("exp", self.first, self.first, label="one core alone")

    def store(self, item: Index) -> None:
        tile = self.some("L0C", "UB")
        if tile is not None:
            self.k.store(self.result.at(item), tile, stream=self.chooser.random() < 0.4, label="store")

    def wait(self, item: Index) -> None:
        choices: list[tuple[Tile, str]] = [(self.x, "cube"), (self.x, "aic_mac"), (self.I, "aic_fixpipe")]
        if self.c in self.defined:
            choices += [(self.c, "aic_mte1"), (self.c, "cube")]
        if self.u in self.defined:
            choices += [(self.u, "rows"), (self.u, "aiv_mte3"), (self.u, "cube")]
        tile, on = self.chooser.choice(choices)
        self.k.wait(tile, on)

    def barrier(self, item: Index) -> None:
        scope, on = self.chooser.choice(
            [("core", "cube"), ("aic_mac", "cube"), ("aiv_vec", "rows"), ("core", "first")]
        )
        self.k.barrier(scope, on)  # type: ignore[arg-type]

    def scalar(self, item: Index) -> None:
        if self.u in self.defined and self.chooser.random() < 0.5:
            self.k.scalar("read", self.u, on="rows")
        else:
            self.k.scalar("alu", on=self.chooser.choice(["cube", "rows"]))  # type: ignore[arg-type]

    def older(self, item: Index) -> None:
        """A handle is read after its tile was written again."""
        if self.x.slots < 2:
            return
        old = self.k.load(self.x, self.source.at(item), label="load old")
        self.k.load(self.x, self.source.at(item), label="load new")
        assert isinstance(old, Version)
        self.k.move(self.a, old, label="old to a")


class VectorPhase(PhaseWriter):
    """On the vector cores alone, each with items of its own."""

    over = "vector"

    def __init__(self, k: KernelBuilder, chooser: random.Random, n: int, number: int) -> None:
        super().__init__(k, chooser, n, number)
        self.u, self.v = self.tile("u", "UB", "fp32"), self.tile("v", "UB", "fp32")
        self.row = k.tile(self.name("row"), "UB", (1, n), "fp32")

    def before(self) -> None:
        if self.chooser.random() < 0.5:
            self.k.load(self.wrote(self.v), self.constant.at(), label="load constant")

    def start(self, item: Index) -> None:
        self.k.load(self.wrote(self.u), self.source.at(item), label="load u")

    def finish(self, item: Index) -> None:
        self.k.store(self.result.at(item), self.u, stream=self.chooser.random() < 0.3, label="store u")

    def kinds(self) -> list[Callable[[Index], None]]:
        return [self.vector, self.vector, self.sum, self.step, self.identity, self.scalar, self.barrier]

    def vector(self, item: Index) -> None:
        left, right = self.some("UB"), self.some("UB")
        full = [t for t in (left, right) if t is not None and t is not self.row]
        if len(full) == 2:
            dst = self.wrote(self.chooser.choice([self.u, self.v]))
            self.k.vector(self.chooser.choice(ELEMENTWISE), dst, *full, label="vector")

    def sum(self, item: Index) -> None:
        self.k.vector("col_sum", self.wrote(self.row), self.u, label="column sum")

    def step(self, item: Index) -> None:
        """A row of the tile from the rows above it, in place."""
        i = self.chooser.randint(1, self.n - 1)
        row, above = self.u.view(i, 1), self.u.view(0, i)
        self.k.vector("vecmat", row, self.u.view(i, 1, 0, i), above, scratch=self.v, label="row step")

    def identity(self, item: Index) -> None:
        self.k.vector("identity", self.wrote(self.v), label="identity")

    def scalar(self, item: Index) -> None:
        self.k.scalar(self.chooser.choice(["read", "write"]), self.u, on="rows")

    def barrier(self, item: Index) -> None:
        self.k.barrier(self.chooser.choice(["aiv_vec", "core"]), "rows")


# --- moves -----------------------------------------------------------------------------------

EDGE = 32
LEVELS = {"x": "L1", "y": "L1", "u": "UB", "v": "UB", "w": "UB", "a": "L0A", "b": "L0B"}
ROUTES = [("UB", "UB"), ("UB", "L1"), ("UB", "L0A"), ("UB", "L0B"), ("L1", "L0A"), ("L1", "L0B")]
"""between which levels data move: on the toy too"""
Step = tuple[Any, ...]


class Moves:
    """A random program that moves tiles about, written as a kernel or run in plain numpy.

    All values are small whole numbers, so both agree exactly. A loop's count is a number, or a list with
    one for each item.
    """

    def __init__(self, seed: int, back: bool = False) -> None:
        self.chooser = chooser = random.Random(seed)
        self.routes = ROUTES + [("L1", "UB"), ("L1", "L1")] * back
        self.slots = {name: chooser.choice([1, 1, 2, 3]) for name in LEVELS}
        self.items, self.stores = chooser.randint(1, 3), 0
        self.before, self.after = self.block(1, chooser.randint(0, 5)), self.block(1, chooser.randint(0, 5))
        self.trip = self.block(0, chooser.randint(3, 9))
        self.x = np.random.default_rng(seed).integers(-9, 9, (8, EDGE, EDGE)).astype(float)

    def block(self, depth: int, count: int) -> list[Step]:
        return [*(self.step(depth) for _ in range(count)), self.store()]

    def store(self) -> Step:
        self.stores += 1
        return "store", self.stores - 1, self.chooser.choice("uvw")

    def step(self, depth: int) -> Step:
        chooser = self.chooser
        kinds = ["move"] * 6 + ["older", "load", "adds", "adds", "fractals", "transpose", "left", "right"]
        kind = chooser.choice([*kinds, "store", *["loop"] * 4 * (depth < 2)])
        start, end = chooser.choice(self.routes)
        src = chooser.choice([name for name in LEVELS if LEVELS[name] == start])
        dst = chooser.choice([name for name in LEVELS if LEVELS[name] == end and name != src])
        if kind == "loop":
            body, first, last = (self.block(depth + 1, chooser.randint(1, 5)) for _ in range(3))
            if depth == 0 and chooser.random() < 0.2:
                return kind, [chooser.randint(0, 3) for _ in range(self.items)], body, None, None
            peeled = [chooser.choice([None, trip]) for trip in (first, last)]
            return kind, chooser.randint(1, 3), body, *peeled
        if kind == "older" and self.slots[src] > 1:
            return kind, dst, src
        if kind == "load":
            return kind, chooser.choice("xyuvw"), chooser.choice([EDGE, EDGE // 2]), chooser.randrange(8)
        if kind == "adds":
            return kind, chooser.choice("uvw"), chooser.choice("uvw")
        if kind == "fractals":
            mask = [[chooser.random() < 0.5 for _ in range(2)] for _ in range(2)]
            return kind, chooser.choice("ab"), chooser.choice("xy"), np.array(mask)
        if kind in ("left", "right"):
            return kind, chooser.choice("xyuvw")
        if kind == "store":
            return self.store()
        return "transpose" if kind == "transpose" else "move", dst, src

    def kernel(self, target: Target) -> Kernel:
        k = KernelBuilder("moves", target, "fp16")
        self.source = k.input("x", self.x.shape, "fp16")
        self.result = k.output("y", (self.stores, self.items, EDGE, EDGE), "fp16")
        identity = k.constant("identity", np.eye(EDGE), "fp16")
        self.tiles = {
            n: k.tile(n, level, (EDGE, EDGE), "fp16", self.slots[n], "replicate" if level == "UB" else "cube")
            for n, level in LEVELS.items()
        }
        self.tiles |= {"I": k.tile("I", "L1", (EDGE, EDGE), "fp16")}
        self.tiles |= {"c": k.tile("c", "L0C", (EDGE, EDGE), "fp32")}
        with k.phase("one"):
            k.load(self.tiles["I"], identity.at())
            for number, name in enumerate(LEVELS):
                k.load(self.tiles[name], self.source.at(number))
            self.write(k, self.before, Index())
            k.items([("i", self.items)], lambda items: self.write(k, self.trip, items[0][0]))
        with k.phase("two"):
            self.write(k, self.after, Index())
        return k.finish()

    def write(self, k: KernelBuilder, block: list[Step] | None, item: Index) -> None:
        t = self.tiles
        for step in block or []:
            match step:
                case "loop", count, *trips:
                    body, first, last = (partial(self._trip, k, trip, item) for trip in trips)
                    k.loop(
                        np.array(count) if isinstance(count, list) else count,
                        body,
                        first if trips[1] else None,
                        last if trips[2] else None,
                    )
                case "load", dst, rows, number:
                    k.load(t[dst].view(0, rows), self.source.at(number, rows=rows))
                case ("move" | "transpose") as kind, dst, src:
                    k.move(t[dst], t[src], transpose=kind == "transpose")
                case "fractals", dst, src, mask:
                    k.move(t[dst], t[src], fractals=mask, into=True)
                case "older", dst, src:
                    old = k.load(t[src], self.source.at(0))
                    k.load(t[src], self.source.at(1))
                    k.move(t[dst], old)
                case "adds", dst, src:
                    k.vector("adds", t[dst], t[src], imm=1.0)
                case ("left" | "right") as side, dst:  # the other operand is the identity
                    k.move(t["b" if side == "left" else "a"], t["I"])
                    k.matmul(t["c"], t["a"], t["b"])
                    k.move(t[dst], t["c"])
                case "store", number, src:
                    k.store(self.result.at(number, item), t[src])

    def _trip(self, k: KernelBuilder, block: list[Step], item: Index, _: Index) -> None:
        self.write(k, block, item)

    def expected(self) -> np.ndarray:
        """The output by plain numpy."""
        y = np.zeros((self.stores, self.items, EDGE, EDGE))
        tiles = {name: self.x[number].copy() for number, name in enumerate(LEVELS)}
        self.run(self.before, tiles, y, 0)
        for item in range(self.items):
            self.run(self.trip, dict(tiles), y, item)
        self.run(self.after, tiles, y, 0)
        return y

    def run(self, block: list[Step], t: dict[str, np.ndarray], y: np.ndarray, item: int) -> None:
        """`block` on the tiles `t`, none of which is changed in place."""
        for step in block:
            match step:
                case "loop", count, body, first, last:
                    trips = [body] * (count[item] if isinstance(count, list) else count)
                    if last:
                        trips[-1] = last
                    if first:
                        trips[0] = first
                    for trip in trips:
                        self.run(trip, t, y, item)
                case "load", dst, rows, number:
                    t[dst] = np.vstack([self.x[number][:rows], t[dst][rows:]])
                case "move", dst, src:
                    t[dst] = t[src]
                case "transpose", dst, src:
                    t[dst] = t[src].T
                case "fractals", dst, src, mask:
                    t[dst] = np.where(np.kron(mask, np.ones((16, 16))), t[src], t[dst])
                case "older", dst, src:
                    t[dst], t[src] = self.x[0], self.x[1]
                case "adds", dst, src:
                    t[dst] = t[src] + 1
                case ("left" | "right") as side, dst:
                    t["b" if side == "left" else "a"] = np.eye(EDGE)
                    t[dst] = t["a"] @ t["b"]
                case "store", number, src:
                    y[number, item] = t[src]
