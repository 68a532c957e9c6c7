"""Blocked substitution as written in TileLang-Ascend (opt_gdn): blocks of 32 on the vector cores.

Source: structure of the kernel, read in its code. fp16 in and out, fp32 inside; one matrix a program, and
nothing overlaps between programs.
  C = 32    one matrix on each vector core
  C = 64    each vector core solves one diagonal block; the cube multiplies T22 A21 T11, each product going
            through global memory; the second vector core reads the result back, negates and stores it
  C = 128   the vector cores first negate what lies below the diagonal blocks, then solve two blocks each in
            turn; the cube merges the first pair while the second is solved, and then the two pairs
A result that another core needs is written twice here, to the workspace and to T, where the kernel reads its
own output back. Not modelled: the dispatch of each program. At C = 64 the quarter above the diagonal is
stored as zeros, which its caller may do instead.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from algorithms.floats import working_of
from algorithms.tri_inverse import Inverse, Shape
from npusim.builder import Item, Operand, Place, Target, Tensor, Tile, Unsupported, View

BLOCK = 32


class Solver:
    """One block of 32 on one vector core: X = -A, row i of X += itself @ X, T = I + X."""

    def __init__(self, inverse: Inverse, place: Place, eye: Tensor) -> None:
        self.inverse, self.k, self.place, self.identity = inverse, inverse.k, place, eye
        self.L = self.ub("L", inverse.dtype, inverse.scale)
        self.X, self.scratch, self.eye = (self.ub(name, eye.dtype) for name in ("X", "scratch", "I"))
        self.T = self.ub("T", inverse.T.dtype, inverse.T.scale)
        same = (inverse.T.dtype, inverse.T.scale) == (inverse.dtype, inverse.scale)
        self.operand = self.T if same else self.ub("T as operand", inverse.dtype, inverse.scale)
        """the block as the cube takes it"""

    def ub(self, name: str, dtype: str, scale: float = 1.0, shape: Shape = (BLOCK, BLOCK)) -> Tile:
        return self.k.tile(f"{name} on {self.place}", "UB", shape, dtype, 1, self.place, scale)

    def block(self, item: Item, i: int) -> None:
        """Diagonal block i of a matrix, in `T` and `operand`."""
        k, start, X = self.k, i * BLOCK, self.X
        here = self.inverse.L.at(*item, row=start, rows=BLOCK, col=start, cols=BLOCK)
        k.load(self.L, here, label="load L_ii")
        k.vector("cast", X, self.L, label=f"L_ii in {X.dtype}")
        k.vector("muls", X, X, imm=-1.0, label="-L_ii")
        for row in range(2, BLOCK):  # row 1 has nothing above it but row 0, which is zero
            k.vector("vecmat", X.view(row, 1), X.view(row, 1), X, scratch=self.scratch, label="row step")
        k.vector("add", X, X, self.eye, label="+ I")
        k.vector("cast", self.T, X, label="round T_ii")
        if self.operand is not self.T:
            k.vector("cast", self.operand, X, label="T_ii as operand")

    def store(self, item: Item, i: int) -> None:
        start = i * BLOCK
        into = self.inverse.T.at(*item, row=start, rows=BLOCK, col=start, cols=BLOCK)
        self.k.store(into, self.T, label="store T_ii")


class TileLang:
    """The three kernels: a solver on each vector core, and products that go through global memory."""

    def __init__(self, inverse: Inverse, target: Target) -> None:
        if inverse.n not in (32, 64, 128):
            raise Unsupported(
                "--chunk: the tilelang kernel of blocked-substitution takes 32, 64 and 128; "
                f"got {inverse.n}, use --variant textbook"
            )
        self.inverse, self.k, self.n = inverse, inverse.k, inverse.n
        self.k.settings["block"] = BLOCK
        working = working_of(inverse.dtype)
        eye = self.k.constant("I", np.eye(BLOCK), working)
        if self.n > BLOCK and target.vector_cores == 1:
            raise Unsupported(
                "--variant: the tilelang kernel of blocked-substitution needs two vector cores a group; "
                "use --variant textbook"
            )
        places: tuple[Place, ...] = ("first",) if self.n == BLOCK else ("first", "second")
        self.solvers = [Solver(inverse, place, eye) for place in places]
        self.made: dict[str, Tile] = {}

    def emit(self) -> None:
        programs = {32: self.alone, 64: self.pair, 128: self.two_pairs}
        with self.k.phase("inverse", over="vector" if self.n == BLOCK else "group"):
            self.k.items(self.inverse.axes, lambda items: programs[self.n](items[0]))

    def alone(self, item: Item) -> None:
        """C = 32: one matrix on one vector core."""
        (solver,) = self.solvers
        self.k.load(solver.eye, solver.identity.at(), label="load I")
        solver.block(item, 0)
        solver.store(item, 0)
        self.k.barrier("core", on="first")

    def pair(self, item: Item) -> None:
        """C = 64: T21 = -(T22 A21) T11."""
        k, T = self.k, self.inverse.T
        below = self.operand("A21", "L1", BLOCK)
        k.load(below, self.inverse.L.at(*item, row=BLOCK, rows=BLOCK, col=0, cols=BLOCK), label="load A21")
        for i, solver in enumerate(self.solvers):
            k.load(solver.eye, solver.identity.at(), label="load I")
            solver.block(item, i)
            solver.store(item, i)
            k.move(self.operand(f"T{i}{i}", "L1", BLOCK), solver.operand, label="T_ii to L1")
        self.zeros(item, self.solvers[0], 0, BLOCK, BLOCK)
        half = self.product("T22 A21", self.operand("T11", "L1", BLOCK), below, BLOCK)
        whole = self.multiplied("(T22 A21) T11", half, self.operand("T00", "L1", BLOCK), BLOCK)
        second = self.solvers[-1]
        back = self.tile("T21 back", lambda name: second.ub(name, T.dtype, T.scale))
        k.move(back, whole, label="T21 to UB")
        k.vector("muls", back, back, imm=-1.0, label="negate")
        k.store(T.at(*item, row=BLOCK, rows=BLOCK, col=0, cols=BLOCK), back, label="store T21")
        self.end()

    def two_pairs(self, item: Item) -> None:
        """C = 128: two pairs of 32, then one of 64; what lies below is negated first."""
        k, T = self.k, self.inverse.T
        for i, solver in enumerate(self.solvers):
            k.load(solver.eye, solver.identity.at(), label="load I")
            self.negate(item, solver, f"-A{2 * i + 1}{2 * i}", (2 * i + 1) * BLOCK, 2 * i * BLOCK, BLOCK, 0)
            self.negate(item, solver, "-A of 64", (2 + i) * BLOCK, 0, 2 * BLOCK, i * BLOCK)
            zero = self.zeros(item, solver, 2 * i * BLOCK, (2 * i + 1) * BLOCK, BLOCK)
            above = self.memory(f"pair {i}", 2 * BLOCK).view(0, BLOCK, BLOCK, BLOCK)
            k.move(above, zero, label="zeros to memory", fresh=True)
            self.zeros(item, solver, i * BLOCK, 2 * BLOCK, 2 * BLOCK)
        for pair in range(2):
            for i, solver in enumerate(self.solvers):
                solver.block(item, 2 * pair + i)
                solver.store(item, 2 * pair + i)
                spot = self.memory(f"pair {pair}", 2 * BLOCK).view(i * BLOCK, BLOCK, i * BLOCK, BLOCK)
                k.move(spot, solver.operand, label="T_ii to memory")
        for pair in range(2):
            block = self.memory(f"pair {pair}", 2 * BLOCK)
            half = self.product(
                f"T A {pair}", block.view(BLOCK, BLOCK, BLOCK, BLOCK),
                self.memory(f"-A{2 * pair + 1}{2 * pair}", BLOCK), BLOCK,
            )  # fmt: skip
            corner = self.multiplied(f"T A T {pair}", half, block.view(0, BLOCK, 0, BLOCK), BLOCK)
            k.move(block.view(BLOCK, BLOCK, 0, BLOCK), corner, label="corner to memory")
            row, col = (2 * pair + 1) * BLOCK, 2 * pair * BLOCK
            k.store(T.at(*item, row=row, rows=BLOCK, col=col, cols=BLOCK), corner, label="store corner")
        size = 2 * BLOCK
        half = self.product("T A", self.memory("pair 1", size), self.memory("-A of 64", size), size)
        corner = self.multiplied("T A T", half, self.memory("pair 0", size), size)
        k.store(T.at(*item, row=size, rows=size, col=0, cols=size), corner, label="store corner of 64")
        self.end()

    # --- pieces --------------------------------------------------------------------------------

    def tile(self, name: str, make: Callable[[str], Tile]) -> Tile:
        """The tile of this name, the same in every program."""
        if name not in self.made:
            self.made[name] = make(name)
        return self.made[name]

    def operand(self, name: str, level: str, size: int) -> Tile:
        return self.tile(
            f"{name} in {level}", lambda text: self.inverse.operand(text, level, 1, (size, size))
        )

    def memory(self, name: str, size: int) -> Tile:
        """A piece of the output that other cores read back: a tile in global memory."""
        return self.operand(name, "GM", size)

    def negate(self, item: Item, solver: Solver, name: str, row: int, col: int, width: int, at: int) -> None:
        """-A[row: , col: ], 32 rows of `width`, into rows `at` of the piece `name`."""
        k, inverse, here = self.k, self.inverse, (BLOCK, width)
        part = self.tile(
            f"A {width} wide, {solver.place}",
            lambda text: solver.ub(text, inverse.dtype, inverse.scale, here),
        )
        k.load(part, inverse.L.at(*item, row=row, rows=BLOCK, col=col, cols=width), label="load A")
        k.vector("muls", part, part, imm=-1.0, label="-A")
        k.move(self.memory(name, width).view(at, BLOCK), part, label="-A to memory", fresh=at == 0)

    def zeros(self, item: Item, solver: Solver, row: int, col: int, width: int) -> Tile:
        """Zeros into 32 rows of the output, above its diagonal."""
        T, here = self.inverse.T, (BLOCK, width)
        zero = self.tile(
            f"zeros {width} wide, {solver.place}", lambda text: solver.ub(text, T.dtype, T.scale, here)
        )
        self.k.vector("fill", zero, imm=0.0, label="zeros")
        self.k.store(T.at(*item, row=row, rows=BLOCK, col=col, cols=width), zero, label="store zeros")
        return zero

    def multiplied(self, name: str, left: Operand, right: Operand, size: int) -> Tile:
        """left right, in its accumulator; operands come to L1 from wherever they are."""
        ends: list[Tile] = []
        for source, level in ((left, "L0A"), (right, "L0B")):
            view = source.view() if isinstance(source, Tile) else source
            assert isinstance(view, View)
            if view.tile.level == "GM":
                staged = self.operand(f"{name}, {level[-1]}", "L1", size)
                self.k.move(staged, view, label="memory to L1")
                source = staged
            ends.append(self.operand(f"{name}, {level[-1]}", level, size))
            self.k.move(ends[-1], source, label=f"L1 to {level}")
        c = self.tile(f"{name} in L0C", lambda text: self.inverse.accumulator(text, 1, (size, size)))
        self.k.matmul(c, ends[0], ends[1], label=name)
        self.k.barrier("core", on="cube")
        return c

    def product(self, name: str, left: Operand, right: Operand, size: int) -> Tile:
        """left right, written to global memory and read back to L1."""
        staged = self.operand(name, "L1", size)
        c = self.multiplied(name, left, right, size)
        self.k.move(staged, c, route=self.memory(name, size), label="through memory")
        return staged

    def end(self) -> None:
        """Nothing of the next program overlaps."""
        self.k.barrier("core", on="replicate")
        self.k.barrier("core", on="cube")
