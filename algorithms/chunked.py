"""A tile of a product summed up over chunks of terms: the inner block of tiled matrix products.

A chunk of both operands comes into L1 and goes step by step into L0, all of it in several slots.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from algorithms.matmul_tiling import Tiling
from algorithms.tiles import Edge, edges
from npusim.builder import Access, Index, KernelBuilder, View, accumulator_of

Operand = Callable[[Index | int, int], Access]
"""first term and number of terms -> where they lie: [rows, terms] of the left operand, [terms, columns] of
the right one"""


class Chunked:
    """Tiles of the product, with `sums` [m, n] in L0C; `scale` of the operands, where they are integers."""

    def __init__(
        self, k: KernelBuilder, t: Tiling, terms: int, dtype: str, sum_slots: int = 1, scale: float = 1.0
    ) -> None:
        self.k, self.t, self.terms = k, t, terms
        chunk = t.k * t.steps
        self.A = k.tile("A", "L1", (t.m, chunk), dtype, t.slots, scale=scale)
        self.B = k.tile("B", "L1", (chunk, t.n), dtype, t.slots, scale=scale)
        self.left = k.tile("left", "L0A", (t.m, t.k), dtype, t.slots, scale=scale)
        self.right = k.tile("right", "L0B", (t.k, t.n), dtype, t.slots, scale=scale)
        self.sums = k.tile("C", "L0C", (t.m, t.n), accumulator_of(dtype), sum_slots, scale=scale**2)

    def emit(self, rows: int, cols: int, a: Operand, b: Operand) -> View:
        """Sum up `rows` x `cols`; where the sums stand then."""
        sums = self.sums.view(rows=rows, cols=cols)
        for number, edge in enumerate(edges(self.terms, self.t.k * self.t.steps)):
            first = partial(self._chunk, sums, a, b, edge, True) if number == 0 else None
            self.k.loop(edge.count, partial(self._chunk, sums, a, b, edge, False), first=first)
        return sums

    def _chunk(self, sums: View, a: Operand, b: Operand, edge: Edge, begin: bool, number: Index) -> None:
        k, terms = self.k, edge.size
        A, B = self.A.view(rows=sums.rows, cols=terms), self.B.view(rows=terms, cols=sums.cols)
        k.load(A, a(edge.at(number), terms), "load A", fresh=True)
        k.load(B, b(edge.at(number), terms), "load B", fresh=True)
        for first in range(0, terms, self.t.k):
            size = min(self.t.k, terms - first)
            left, right = (
                self.left.view(rows=sums.rows, cols=size),
                self.right.view(rows=size, cols=sums.cols),
            )
            k.move(left, self.A.view(rows=sums.rows, col=first, cols=size), label="L1 to L0A", fresh=True)
            k.move(right, self.B.view(row=first, rows=size, cols=sums.cols), label="L1 to L0B", fresh=True)
            new = begin and first == 0
            k.matmul(sums, left, right, accumulate=not new, label="product", fresh=new)
