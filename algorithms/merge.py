"""Diagonal blocks of an inverse, merged in pairs as 2 x 2 block inverses: T21 = -T22 L21 T11.

Textbook (Golub and Van Loan, Matrix Computations, 3.1). Two useful products a pair, and one with -I.
"""

from __future__ import annotations

import numpy as np

from algorithms.tri_inverse import Bools, Products, diagonal_blocks, fitting, lower_triangle
from npusim.builder import Item, Target, View, bytes_of


class Merge:
    """Diagonal blocks of T, kept in L1, merged in pairs: T21 = -T22 L21 T11, -L21 by an identity product.

    Blocks above the diagonal are stored as zeros by the vector cores.
    """

    def __init__(self, products: Products, target: Target) -> None:
        self.inverse, self.k, self.size = products.inverse, products.k, products.n
        self.structured = products.structured
        self.n, half = self.inverse.n, self.inverse.n // 2
        operand, square = self.inverse.operand, (half, half)
        self.T = operand("T in L1", "L1")
        self.minus = {
            size: operand(f"-I of {size}", "L1", 1, (size, size)) for size in self.sizes if size > self.size
        } | {self.size: products.minus_I}
        # not A21, as the operand of a 21st matrix may be called
        self.L, self.A, self.H = (operand(name, "L1", 1, square) for name in ("L21", "A(21)", "T22 A21"))
        deep = fitting(target, "L0A", 3 * half * half * bytes_of(self.inverse.dtype), 2)
        self.a, self.b = operand("a of T21", "L0A", deep, square), operand("b of T21", "L0B", deep, square)
        self.c = self.inverse.accumulator("T21 in L0C", 1, square)
        if not self.structured:
            zeros = np.zeros((self.n, self.n))
            self.clear = self.k.constant("zeros", zeros, self.inverse.dtype, self.inverse.scale)
        out = self.inverse.T
        self.zero = self.k.tile("zeros", "UB", (self.size, half), out.dtype, 1, "rows", out.scale)

    @property
    def sizes(self) -> list[int]:
        """Blocks that are merged in pairs, the smallest first."""
        return [size for size in (16, 32, 64, 128) if self.size <= size < self.n]

    def constants(self) -> None:
        self.k.vector("fill", self.zero, imm=0.0, label="zeros")
        for size, tile in self.minus.items():
            if size > self.size:
                source = self.inverse.identity(f"-I of {size} for all", -1.0, size)
                self.k.load(tile, source.at(), label=f"load {tile.name}")

    def keep(self, block: int, tile: View) -> None:
        """Keep a diagonal block of T, which stands in an accumulator or in UB, as an operand."""
        at, size = block * self.size, self.size
        if block == 0 and not self.structured:  # the fractals above the diagonal are multiplied, too
            self.k.load(self.T, self.clear.at(), label="clear T")
        fresh = block == 0 and self.structured
        self.k.move(self.T.view(at, size, at, size), tile, label="exit T_ii", fresh=fresh)

    def matrix(self, item: Item) -> None:
        """All pairs of one matrix, whose diagonal blocks are there."""
        for size in self.sizes:
            for row in range(size, self.n, 2 * size):
                self.pair(item, row, size)

    def pair(self, item: Item, row: int, size: int) -> None:
        """The blocks of `size` at `row` and just before it."""
        k, T, col = self.k, self.inverse.T, row - size
        L, A, H, c = (tile.view(0, size, 0, size) for tile in (self.L, self.A, self.H, self.c))
        lower, diagonal = lower_triangle(size), diagonal_blocks(size, 16)
        k.load(
            L, self.inverse.L.at(*item, row=row, rows=size, col=col, cols=size), label="load L21", fresh=True
        )
        self.product(self.minus[size].view(), L, diagonal, None, "A21 = -I L21")
        k.move(A, c, label="exit A21", fresh=True)
        self.product(self.T.view(row, size, row, size), A, lower, None, "T22 A21")
        k.move(H, c, label="exit T22 A21", fresh=True)
        self.product(H, self.T.view(col, size, col, size), None, lower, "T22 A21 T11")
        if 2 * size < self.n:
            k.move(self.T.view(row, size, col, size), c, label="exit T21")
        k.store(T.at(*item, row=row, rows=size, col=col, cols=size), c, label="store T21")
        for at in range(0, size, self.size):
            above = T.at(*item, row=col + at, rows=self.size, col=row, cols=size)
            k.store(above, self.zero.view(0, self.size, 0, size), label="store zeros")

    def product(self, left: View, right: View, a: Bools | None, b: Bools | None, label: str) -> None:
        """left right in `c`."""
        k, size = self.k, left.rows
        ends = [tile.view(0, size, 0, size) for tile in (self.a, self.b)]
        k.move(ends[0], left, label="L1 to L0A", fresh=True)
        k.move(ends[1], right, label="L1 to L0B", fresh=True)
        masks = (a, b) if self.structured else (None, None)
        c = self.c.view(0, size, 0, size)
        k.matmul(c, ends[0], ends[1], fractals=masks, label=label, fresh=True)
