"""Blocked substitution: diagonal blocks by substitution on the vector unit, merged by products on the cube.

Textbook (Golub and Van Loan, Matrix Computations, 3.1), and the production baseline of gated delta networks.
With blocks of b and block rows i,
  T_ii = L_ii^-1 by rows, all diagonal blocks of several matrices at once
  T[i, :i] = -T_ii (L[i, :i] T[:i, :i])                       two products a block row
In 16-fractals that is sum_i (i(i+1)/2 + i) products: 2 at C = 32, 16 at C = 64, as in FLA.

`triton` and `tilelang` have the structures of the compiled kernels: algorithms/blocked_triton.py and
blocked_tilelang.py.
"""

from __future__ import annotations

import numpy as np

from algorithms.blocked_tilelang import TileLang
from algorithms.blocked_triton import Triton
from algorithms.floats import working_of
from algorithms.tiles import FRACTAL
from algorithms.tri_inverse import Bools, Inverse, fitting, lower_triangle, vector_place
from npusim.builder import (
    Algorithm,
    Item,
    Kernel,
    Options,
    Place,
    Problem,
    Target,
    Tile,
    Unsupported,
    View,
    bytes_of,
)

ELEMENTS = 4096
"""elements of all diagonal blocks that one vector core solves at once, where one matrix has no more"""


def build(problem: Problem, options: Options, target: Target) -> Kernel:
    """The tile graph."""
    variant = ALGORITHM.variant(problem, options, target)
    out = problem.dtype if variant == "tilelang" else "fp32"
    inverse = Inverse.begin(problem, options, target, "blocked-substitution", variant, out=out)
    if variant == "triton":
        Triton(inverse).emit()
    elif variant == "tilelang":
        TileLang(inverse, target).emit()
    else:
        Textbook(inverse, target).emit()
    return inverse.k.finish()


def production(problem: Problem, target: Target) -> str:
    """The kernel that production would use at this chunk; Triton's needs a cube with fp32, TileLang's two
    vector cores a group, or a fused core."""
    if problem.chunk in (16, 32, 64) and "fp32" in target.cube_dtypes:
        return "triton"
    return "tilelang" if problem.chunk == 128 and target.vector_cores != 1 else "textbook"


class Textbook:
    """Each vector core solves the diagonal blocks of some matrices, then the cube merges these one by one,
    while the vector cores go on with the next ones."""

    def __init__(self, inverse: Inverse, target: Target) -> None:
        self.inverse, self.k, self.n = inverse, inverse.k, inverse.n
        self.size = inverse.options.block or FRACTAL
        if self.n % self.size or self.size % FRACTAL:
            raise Unsupported(
                f"--block: {self.size} does not split a chunk of {self.n} into blocks of a multiple of 16"
            )
        self.count = self.n // self.size
        self.structured = inverse.options.fractals is not False
        stored = 2.5 * self.n * (self.n + self.size) * bytes_of(inverse.dtype)
        self.slots = inverse.options.slots or fitting(target, "L1", stored, 2)
        self.k.settings.update(block=self.size, slots=self.slots, fractals=self.structured)
        self.lanes = 2 if target.vector_cores > 1 else 1
        room = ELEMENTS // (self.n * self.size)
        self.each = max(1, min(room, -(-inverse.problem.total // self.lanes)))
        self.deep = self.slots if room else 1
        """buffers in UB"""
        self.working = working_of(inverse.dtype)
        self.vectors = [self._vector_tiles(vector_place(target, lane), lane) for lane in range(self.lanes)]
        if self.count > 1:
            self._cube_tiles(target)

    def _vector_tiles(self, place: Place, lane: int) -> dict[str, Tile]:
        n, b, inverse = self.n, self.size, self.inverse
        tall = (self.each * n, b)
        shapes: dict[str, tuple[tuple[int, int], str, float, int]] = {
            "L": (tall, inverse.dtype, inverse.scale, self.deep),
            "X": (tall, self.working, 1.0, 1),
            "out": (tall, inverse.T.dtype, inverse.T.scale, self.deep),
            "scratch": (tall, self.working, 1.0, 2),  # products before and after they are transposed
            "zero": ((b, n), inverse.T.dtype, inverse.T.scale, 1),
            "T": (tall, inverse.dtype, inverse.scale, self.deep),
            "-T": (tall, inverse.dtype, inverse.scale, self.deep),
        }
        return {
            name: self.k.tile(f"{name} on core {lane}", "UB", shape, dtype, slots, place, scale)
            for name, (shape, dtype, scale, slots) in shapes.items()
        }

    def _cube_tiles(self, target: Target) -> None:
        inverse, n, b = self.inverse, self.n, self.size
        each = bytes_of(inverse.dtype)
        deep = fitting(target, "L0B", 2 * b * n * each, 2)
        most = int(target.level_bytes["L0B"] / (deep * n * each)) // FRACTAL * FRACTAL
        self.panel = max(b, min(n, most))
        """rows of T that one product takes"""
        self.M, self.T = inverse.operand("L", "L1", self.slots), inverse.operand("T", "L1", self.slots)
        self.minus = inverse.operand("-T_ii", "L1", self.slots, (n, b))
        self.P = inverse.operand("L T", "L1", 1, (b, n))
        if not self.structured:
            self.zero = self.k.constant("zeros", np.zeros((n, n)), inverse.dtype, inverse.scale)
        self.a = inverse.operand("a", "L0A", 2, (b, n))
        self.b = inverse.operand("b", "L0B", deep, (self.panel, n))
        self.cP = inverse.accumulator("L T in L0C", 1, (b, n))
        self.cT = inverse.accumulator("T in L0C", 2, (b, n))

    def emit(self) -> None:
        total = self.inverse.problem.total
        with self.k.phase("inverse"):
            for tiles in self.vectors[: min(self.lanes, -(-total // self.each))]:
                self.k.vector("fill", tiles["zero"], imm=0.0, label="zeros")
            self.k.items(self.inverse.axes, self.trip, group=self.lanes * self.each)

    def trip(self, items: list[Item]) -> None:
        shares = [items[start : start + self.each] for start in range(0, len(items), self.each)]
        for tiles, share in zip(self.vectors, shares, strict=False):
            self.substitute(tiles, share)
        for tiles, share in zip(self.vectors, shares, strict=False):
            for place, item in enumerate(share):
                self.results(tiles, place, item)
                if self.count > 1:
                    self.merge(tiles, place, item)

    def substitute(self, tiles: dict[str, Tile], items: list[Item]) -> None:
        """All diagonal blocks of `items`, row after row."""
        k, b, X = self.k, self.size, tiles["X"]
        fresh = True
        for place, item in enumerate(items):
            for i in range(self.count):
                block = self.inverse.L.at(*item, row=i * b, rows=b, col=i * b, cols=b)
                k.load(self.block(tiles["L"], place, i), block, label="load L_ii", fresh=fresh)
                fresh = False
        k.vector("cast", X, tiles["L"], label=f"L_ii in {self.working}")
        k.vector("minus_lower", X, X, label="-L_ii")
        for row in range(1, b):
            k.vector("block_row_step", X, imm=row, scratch=tiles["scratch"], label="row step")
        k.vector("plus_identity", X, X, label="+ I")
        k.vector("cast", tiles["out"], X, label="round T_ii")
        if self.count > 1:
            k.vector("cast", tiles["T"], X, label="T_ii as operand")
            k.vector("muls", tiles["-T"], X, imm=-1.0, label="-T_ii")

    def block(self, tile: Tile, place: int, i: int) -> View:
        """Diagonal block i of matrix number `place` in a tall tile."""
        return tile.view(place * self.n + i * self.size, self.size)

    def results(self, tiles: dict[str, Tile], place: int, item: Item) -> None:
        """Store the diagonal blocks, and zeros to their right."""
        b, n, T = self.size, self.n, self.inverse.T
        for i in range(self.count):
            row, beyond = i * b, n - (i + 1) * b
            into = T.at(*item, row=row, rows=b, col=row, cols=b)
            self.k.store(into, self.block(tiles["out"], place, i), label="store T_ii")
            if beyond:
                right = T.at(*item, row=row, rows=b, col=row + b, cols=beyond)
                self.k.store(right, tiles["zero"].view(0, b, 0, beyond), label="store zeros")

    def merge(self, tiles: dict[str, Tile], place: int, item: Item) -> None:
        """T[i, :i] = -T_ii (L[i, :i] T[:i, :i]), block row by block row."""
        k, b = self.k, self.size
        k.load(self.M, self.inverse.L.at(*item), label="load L")
        k.move(self.minus, tiles["-T"].view(place * self.n, self.n), label="-T_ii to L1")
        if not self.structured:  # the fractals above the diagonal are multiplied, too
            k.load(self.T, self.zero.at(), label="clear T")
        for i in range(self.count):
            spot = self.T.view(i * b, b, i * b, b)
            fresh = i == 0 and self.structured
            k.move(spot, self.block(tiles["T"], place, i), label="T_ii to L1", fresh=fresh)
        for i in range(1, self.count):
            self.row(i, item)

    def row(self, i: int, item: Item) -> None:
        k, b, width = self.k, self.size, i * self.size
        left = self.a.view(0, b, 0, width)
        k.move(left, self.M.view(width, b, 0, width), label="L1 to L0A", fresh=True)
        for start in reversed(range(0, width, self.panel)):
            stop = min(start + self.panel, width)
            right = self.b.view(0, stop - start, 0, stop)
            k.move(right, self.T.view(start, stop - start, 0, stop), label="L1 to L0B", fresh=True)
            last = stop == width
            k.matmul(
                self.cP.view(0, b, 0, stop), self.a.view(0, b, start, stop - start), right,
                accumulate=not last, fractals=(None, self.held(start, stop)), fresh=last, label="L T",
            )  # fmt: skip
        product = self.P.view(0, b, 0, width)
        k.move(product, self.cP.view(0, b, 0, width), label="exit L T", fresh=True)
        k.move(self.a.view(0, b, 0, b), self.minus.view(width, b), label="L1 to L0A", fresh=True)
        k.move(self.b.view(0, b, 0, width), product, label="L1 to L0B", fresh=True)
        result = self.cT.view(0, b, 0, width)
        masks = (lower_triangle(b) if self.structured else None, None)
        k.matmul(
            result, self.a.view(0, b, 0, b), self.b.view(0, b, 0, width), fractals=masks, fresh=True,
            label="-T_ii (L T)",
        )  # fmt: skip
        if i < self.count - 1:
            k.move(self.T.view(width, b, 0, width), result, label="exit T")
        k.store(self.inverse.T.at(*item, row=width, rows=b, col=0, cols=width), result, label="store T")

    def held(self, start: int, stop: int) -> Bools | None:
        """The fractals of rows `start`..`stop` of a lower triangle that can be non-zero."""
        if not self.structured:
            return None
        rows, cols = np.arange(start, stop, FRACTAL), np.arange(0, stop, FRACTAL)
        mask: Bools = rows[:, None] >= cols[None, :]
        return mask


ALGORITHM = Algorithm(
    name="blocked-substitution",
    meaning="diagonal blocks by rows on the vector unit, merged by products on the cube",
    source="textbook; flash-linear-attention; vllm-ascend (Triton) and TileLang kernels of gated delta nets",
    build=build,
    variants={
        "triton": "as compiled by Triton-Ascend: 16-blocks in one launch, merges through global memory",
        "tilelang": "as written in TileLang: 32-blocks, one or two on each vector core",
        "textbook": "blocks of --block on the vector cores while the cube merges block rows",
    },
    parameters=frozenset({"block", "slots", "fractals", "out_dtype"}),
    textbook_only=frozenset({"block", "slots", "fractals"}),
    on_ascend=production,
)
