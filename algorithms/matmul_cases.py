"""The measured structures of C = A B^T: loads, hand-overs and order of the published matmul kernels.

Sources: cannmirror/asc-devkit, examples/01_simd_cpp_api/05_best_practices, 01_matrix_compute (basic API and
the high-level API's cases), and hw-native-sys/pto-isa, kernels/manual/a2a3/gemm_performance (gemm-a3). Common
to all: B is stored [n, k], so that both operands are read along k; a tile of C fills the accumulator and
takes all of k in steps of 64; cores stand on a grid of 4 rows, each with its block of C; nothing stays in L1
between two tiles. Loads are written where they are used, and run ahead as far as the queues are deep.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from npusim.builder import (
    Index,
    Item,
    Kernel,
    KernelBuilder,
    Problem,
    Target,
    Unsupported,
    bytes_of,
)

COLS, STEP = 256, 64
"""columns of a tile of C, and terms of a step; its rows are what then fills the accumulator"""
GRID_ROWS = 4
CHUNK_BYTES = 128 * 1024
"""most that one load brings"""
SLICE = 16
"""terms that one 2-D load brings from L1 to L0B"""
HAND_WRITTEN, LIBRARY, LIBRARY_CONSTANT, LIBRARY_SINGLE = 22, 168, 80, 216
"""scalar instructions of a step of k beyond those of the tile operations. Read off from the busy time of the
scalar unit in the published rows: basic 57, case 4 351, case 8 174, case 1 449 cycles a step, two each"""


@dataclass(frozen=True)
class Case:
    """How one kernel loads, orders and stores. `overlapped`: the store follows the last product piece by
    piece (the unit flag); `serial`: a load waits until both copies to L0 are done; `small`: tiles of 64 x
    64."""

    meaning: str
    scalars: int
    a_steps: int = 8
    b_steps: int = 4
    slots: int = 2
    rounds: int = 1
    rows_first: bool = True
    overlapped: bool = True
    serial: bool = False
    one_core: bool = False
    small: bool = False
    out: str | None = None


_SINGLE = Case("tiles that fill L0, one slot in L1; library", LIBRARY_SINGLE, 1, 1, slots=1, serial=True)
_DOUBLE = Case("8 steps of A and 4 of B a load, two slots in L1; library", LIBRARY, overlapped=False)

CASES = {
    "basic-1": Case("8 steps of A and 4 of B a load, two slots in L1; hand-written", HAND_WRITTEN),
    "basic-2": Case("basic-1 in two rounds over the rows, for L2", HAND_WRITTEN, rounds=2),
    "case-0": replace(_SINGLE, meaning="case-1 with tiles of 64 x 64", one_core=True, small=True),
    "case-1": replace(_SINGLE, meaning="case-3 on one core", one_core=True),
    "case-3": _SINGLE,
    "case-4": replace(_DOUBLE, meaning="case-5 with 2 steps of A a load", a_steps=2),
    "case-5": _DOUBLE,
    "case-6": replace(_DOUBLE, meaning="case-5 in two rounds over the rows, for L2", rounds=2),
    "case-7": replace(_DOUBLE, meaning="case-6, its tiling constant", scalars=LIBRARY_CONSTANT, rounds=2),
    "case-8": Case("case-7 with the store behind the products", LIBRARY_CONSTANT, rounds=2),
    "gemm-a3": Case(
        "4 steps of both a load, along the rows of tiles, fp32 out; hand-written",
        HAND_WRITTEN, 4, 4, rows_first=False, overlapped=False, out="fp32",
    ),
}  # fmt: skip
"""by the names of the sources; their case 2, whose blocks cut tiles, is left out"""


def build(name: str, problem: Problem, target: Target) -> Kernel:
    """The tile graph of C [m, n] = A [m, k] B^T, B [n, k]; fp16 or bf16. Unsupported where the sizes are no
    multiples of what the kernel takes at once."""
    case = CASES[name]
    if bytes_of(problem.dtype) != 2:
        raise Unsupported(f"--dtype: matmul {name} is built for fp16 and bf16; use --variant textbook")
    return Cores(name, case, problem, target).kernel()


class Cores:
    """The blocks of C that cores have, and the tiles of one of them."""

    def __init__(self, name: str, case: Case, problem: Problem, target: Target) -> None:
        self.case, self.problem, self.target = case, problem, target
        k = self.k = KernelBuilder("matmul", target, problem.dtype, "tiled", name)
        full = target.level_bytes["L0C"] // (4 * COLS)
        self.m, self.n = (STEP, STEP) if case.small else (full, COLS)
        self.a_steps = min(case.a_steps, CHUNK_BYTES // (self.m * STEP * 2))
        self.unit = max(self.a_steps, case.b_steps)
        # where L0B holds a tile of 64 x 256 twice, one load brings it; on A2 it comes in 2-D loads
        self.slice = SLICE if target.level_bytes["L0C"] == 4 * 128 * COLS else STEP
        self.grid = (1, 1) if case.one_core else (GRID_ROWS, target.groups // GRID_ROWS)
        self._check(name)
        dtype, slots = problem.dtype, case.slots
        k.settings.update(tile_m=self.m, tile_n=self.n, tile_k=STEP, slots=slots)
        self.a = k.input("a", (problem.m, problem.k), dtype)
        self.b = k.input("b", (problem.n, problem.k), dtype)
        self.c = k.output("c", (problem.m, problem.n), case.out or dtype)
        self.A = k.tile("A", "L1", (self.m, self.a_steps * STEP), dtype, slots)
        self.B = k.tile("B", "L1", (self.n, case.b_steps * STEP), dtype, slots)
        self.left = k.tile("left", "L0A", (self.m, STEP), dtype, 2)
        self.right = k.tile("right", "L0B", (STEP, self.n), dtype, 2)
        self.C = k.tile("C", "L0C", (self.m, self.n), "fp32")

    def _check(self, name: str) -> None:
        rows, cols = self.grid
        if rows * cols != self.target.groups and not self.case.one_core:
            raise Unsupported(
                f"--variant: matmul {name} has its cores in {GRID_ROWS} rows, and there are "
                f"{self.target.groups}; use --variant textbook"
            )
        whole = {"m": self.m * self.case.rounds, "n": self.n, "k": self.unit * STEP}
        for size, part in whole.items():
            if getattr(self.problem, size) % part:
                raise Unsupported(
                    f"--{size}: matmul {name} is built for multiples of {part}, got "
                    f"{getattr(self.problem, size)}; use --variant textbook"
                )

    def kernel(self) -> Kernel:
        """Each core's block, once per round over the rows of C."""
        k, p, rounds = self.k, self.problem, self.case.rounds
        rows = _blocks(p.m // self.m // rounds, self.grid[0])
        cols = _blocks(p.n // self.n, self.grid[1])
        tall, wide = int(rows[0]) * self.m, int(cols[0]) * self.n

        def block(items: list[Item]) -> None:
            ((j, i),) = items
            k.loop(
                rounds,
                lambda number: self._walk(
                    Axis(_count(np.tile(rows, len(cols))), number * (p.m // rounds) + i * tall, self.m),
                    Axis(_count(np.repeat(cols, len(rows))), j * wide, self.n),
                ),
            )

        with k.phase("product"):
            # core c has row block c mod 4 and column block c div 4
            k.items([("column block", len(cols)), ("row block", len(rows))], block)
        return k.finish()

    def _walk(self, rows: Axis, cols: Axis) -> None:
        """The tiles of a block: down the columns, or along the rows."""
        k = self.k
        if self.case.rows_first:
            k.loop(cols.count, lambda j: k.loop(rows.count, lambda i: self._tile(rows.at(i), cols.at(j))))
        else:
            k.loop(rows.count, lambda i: k.loop(cols.count, lambda j: self._tile(rows.at(i), cols.at(j))))

    def _tile(self, row: Index | int, col: Index | int) -> None:
        """One tile of C, over all of k."""
        trips = self.problem.k // (self.unit * STEP)
        self.k.loop(trips, self._chunk(row, col), first=self._chunk(row, col, begin=True))
        whole = self.c.at(row=row, rows=self.m, col=col, cols=self.n)
        self.k.store(whole, self.C, label="store C", stream=self.case.overlapped)

    def _chunk(self, row: Index | int, col: Index | int, begin: bool = False) -> Callable[[Index], None]:
        """As many steps as the longer load brings; the very first begins the sums."""
        case = self.case

        def body(number: Index) -> None:
            for step in range(self.unit):
                at = number * (self.unit * STEP) + step * STEP
                if step % self.a_steps == 0:
                    self.k.load(
                        self.A, self.a.at(row=row, rows=self.m, col=at, cols=self.A.shape[1]), "load A"
                    )
                if step % case.b_steps == 0:
                    self.k.load(
                        self.B, self.b.at(row=col, rows=self.n, col=at, cols=self.B.shape[1]), "load B"
                    )
                self._step(step % self.a_steps * STEP, step % case.b_steps * STEP, begin and step == 0)

        return body

    def _step(self, a_from: int, b_from: int, begin: bool) -> None:
        """64 terms of what is in L1."""
        k = self.k
        k.move(self.left, self.A.view(col=a_from, cols=STEP), label="L1 to L0A")
        for first in range(0, STEP, self.slice):
            part = self.B.view(col=b_from + first, cols=self.slice)
            into = self.right.view(row=first, rows=self.slice)
            k.move(into, part, transpose=True, label="L1 to L0B", fresh=first == 0)
        if self.case.serial:
            k.wait(self.right, on="aic_mte2")
        k.scalar("alu", times=self.case.scalars, label="loop and library")
        k.matmul(self.C, self.left, self.right, accumulate=not begin, label="product")


@dataclass(frozen=True)
class Axis:
    """`count` tiles of `size` along an axis, from `start` on."""

    count: int | npt.NDArray[np.int64]
    start: Index | int
    size: int

    def at(self, index: Index) -> Index:
        return index * self.size + self.start


def _blocks(tiles: int, parts: int) -> npt.NDArray[np.int64]:
    """Tiles of each block where `parts` of equal size are asked for; the last one may be short."""
    each = -(-tiles // parts)
    return np.array([min(each, tiles - first) for first in range(0, tiles, each)], dtype=np.int64)


def _count(table: npt.NDArray[np.int64]) -> int | npt.NDArray[np.int64]:
    """One number where all are equal."""
    return int(table[0]) if (table == table[0]).all() else table
