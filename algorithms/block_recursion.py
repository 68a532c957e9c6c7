"""Block recursion (MBH, unrolled Bunch-Hopcroft): blocks of 1, 2, 4, .. merged in pairs.

Source: "Fast and Stable Triangular Inversion for Delta-Rule Linear Transformers" (arXiv 2605.21325), MBH.
With X_s the block diagonal inverse for blocks of s, and A_s the blocks of A = -L that lie between the two
blocks of each pair,
  X_2s = X_s + X_s A_s X_s,   X_1 = I                         (X <- L_X + R_X - L_X U R_X in the paper)
2 log2(C) products, two per level. From 16 up A_s is whole fractals. Below it is parts of the diagonal
fractals, which no copy can pick out: the vector cores mask them before the cube begins.
"""

from __future__ import annotations

import numpy as np

from algorithms.tiles import FRACTAL
from algorithms.tri_inverse import (
    Bools,
    Inverse,
    Products,
    below_diagonal_blocks,
    check_power_of_two,
    diagonal_blocks,
    vector_dtype,
)
from npusim.builder import Algorithm, Item, Kernel, Options, Problem, Target, Tile, bytes_of


def build(problem: Problem, options: Options, target: Target) -> Kernel:
    """The tile graph: masks on the vector cores, products on the cube."""
    variant = ALGORITHM.variant(problem, options, target)
    check_power_of_two(problem.chunk, "block-recursion")
    inverse = Inverse.begin(problem, options, target, "block-recursion", variant, out="fp32")
    BlockRecursion(inverse, target).emit()
    return inverse.k.finish()


class BlockRecursion:
    """The vector cores work ahead of the cube by as many matrices as there are `slots`."""

    def __init__(self, inverse: Inverse, target: Target) -> None:
        self.inverse, self.k, self.n = inverse, inverse.k, inverse.n
        slots = inverse.options.slots or 2
        inverse.k.settings["slots"] = slots
        self.products = Products(inverse, target)
        self.sizes = [size for size in (1, 2, 4, 8) if size < self.n]
        self.A = self.products.operand("A", slots)
        self.U = {size: self.products.operand(f"A{size}", slots) for size in self.sizes}
        self.X, self.Y = self.products.operand("X"), self.products.operand("Y")
        self.cx = self.products.accumulator("X in L0C")
        self.cy = self.products.accumulator("Y in L0C")
        share = self.n * self.n * bytes_of(inverse.dtype) / max(1, target.vector_cores)
        # A, its parts and their masks, and on a fused core the way of results through UB
        self._vector_tiles(slots if 10 * share <= target.level_bytes["UB"] else 1)

    def _vector_tiles(self, slots: int) -> None:
        """In UB, dealt to the vector cores by rows. Integers and fp8 are masked as wider floats."""
        inverse = self.inverse
        self.working = vector_dtype(inverse.dtype)

        def ub(name: str, dtype: str, slots: int = 1, scale: float = 1.0) -> Tile:
            return self.k.tile(name, "UB", (self.n, self.n), dtype, slots, "rows", scale)

        self.L = ub("L in UB", inverse.dtype, slots, inverse.scale)
        self.minus = self.L if self.working == inverse.dtype else ub("A in UB", self.working)
        self.masks = {size: ub(f"mask {size}", self.working) for size in self.sizes}
        self.part = ub("part of A", self.working, slots)
        self.rounded = self.part
        if self.working != inverse.dtype:
            self.rounded = ub("part of A rounded", inverse.dtype, slots, inverse.scale)

    def emit(self) -> None:
        with self.k.phase("inverse"):
            self.products.load()
            for size, mask in self.masks.items():
                keep = self.k.constant(f"blocks of {size}", pairs(self.n, size), self.working)
                self.k.load(mask, keep.at(), label="load mask")
            self.k.items(self.inverse.axes, self.matrix)

    def matrix(self, items: list[Item]) -> None:
        (item,) = items
        self.parts(item)
        k, add, diagonal = self.k, self.products.add, diagonal_blocks(self.n, FRACTAL)
        for tile in (self.X, self.Y, *self.U.values()):
            self.products.holds(tile, diagonal)
        add(self.cx, self.products.I, self.products.I, "X = I", first=True)
        add(self.cx, self.products.I, self.U[1], "+ A1")
        k.move(self.X, self.cx, label="exit X")
        for size in self.sizes[1:]:
            add(self.cy, self.X, self.U[size], "X A", first=True)
            k.move(self.Y, self.cy, label="exit X A")
            add(self.cx, self.Y, self.X, "+ X A X")
            if size < self.n // 2:
                k.move(self.X, self.cx, label="exit X")
        merge_fractals(self.products, self.A, self.X, self.Y, self.cx, self.cy)
        k.store(self.inverse.T.at(*item), self.cx, label="store T")

    def parts(self, item: Item) -> None:
        """A = -L, and of it the blocks below 16 that each level needs."""
        k = self.k
        k.load(self.L, self.inverse.L.at(*item), label="load L")
        if self.minus is not self.L:
            k.vector("quantise", self.minus, self.L, label=f"L in {self.working}")
        k.vector("muls", self.minus, self.minus, imm=-1.0, label="A = -L")
        if self.n > FRACTAL:
            self.to_l1(self.A, self.minus)
        for size in self.sizes:
            k.vector("mul", self.part, self.minus, self.masks[size], label="mask")
            self.to_l1(self.U[size], self.part)

    def to_l1(self, dst: Tile, src: Tile) -> None:
        if self.rounded is not self.part:
            self.k.vector("quantise", self.rounded, src, label="round")
            src = self.rounded
        self.k.move(dst, src, label=f"{dst.name} to L1")


def merge_fractals(products: Products, A: Tile, X: Tile, Y: Tile, cx: Tile, cy: Tile) -> None:
    """X <- X + X_odd A X_even for diagonal blocks of 16, 32, ..; X is in L1 and in its accumulator `cx`.
    All of it needs no other range than L."""
    n, size = products.n, FRACTAL
    while size < n:
        below, even = below_diagonal_blocks(n, size), diagonal_blocks(n, size, 0)
        products.add(cy, X, A, "Xo A", first=True, take=(diagonal_blocks(n, size, 1), below))
        products.exit(Y, cy, "exit Xo A")
        products.update(cx, Y, X, "+ Xo A Xe", take=(below, even), again=X)
        size *= 2
        if size < n:
            products.exit(X, cx, "exit X")


def pairs(n: int, size: int) -> Bools:
    """Where row and column lie in the two blocks of `size` of one pair, the row in the lower one."""
    block = np.arange(n) // size
    mask: Bools = (block[:, None] == block + 1) & (block % 2 == 0)
    return mask


ALGORITHM = Algorithm(
    name="block-recursion",
    meaning="inverses of blocks of 1, 2, 4, .. merged in pairs, two products a level",
    source="arXiv 2605.21325 (MBH)",
    build=build,
    variants={"textbook": "small blocks masked on the vector cores, all products on the cube"},
    parameters=frozenset({"slots", "fractals", "out_dtype", "scaling", "scaled_for"}),
)
