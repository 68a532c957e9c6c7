"""What happens to one block of keys in attention: scores on the cube core, online softmax on the vector
cores, P V on the cube core, and the output rescaled and added to on the vector cores.

Where a machine has no way from L0C to UB or from UB to L1, scores, weights and products pass through a
workspace in global memory: scores and products as the accumulator holds them, weights in the operands' dtype.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from algorithms.attention_plan import Kind
from algorithms.attention_size import FOLDED, Blocks, Shape
from npusim.builder import Access, Index, KernelBuilder, Tensor, Tile, View, accumulator_of

MASKED = -1e30
"""what is added to a score that does not count: far below any other, and its exponential is 0"""


@dataclass(frozen=True)
class Queries:
    """A tile of queries: its sequence, its (first) head, that of its keys, and its first token."""

    sequence: Index
    head: Index
    key_head: Index
    token: Index


def cuts(size: int, step: int) -> list[tuple[int, int]]:
    """Where the parts of at most `step` begin, and their sizes."""
    return [(start, min(step, size - start)) for start in range(0, size, step)]


class Online:
    """Tensors and tiles of attention, and the steps of a block.

    Every step reads the latest version of what passes between the cores: the weights of a block are made
    before the scores of the next are written, and its share of the output is added before the next one's.
    """

    def __init__(self, k: KernelBuilder, s: Shape, b: Blocks) -> None:
        self.k, self.s, self.b, self.piece = k, s, b, b.rows // b.pieces
        rows, across = (s.batch * s.heads, 1) if s.stacked else (s.batch * s.tokens, s.heads)
        self.q = k.input("q", (rows, across * s.D), s.dtype)
        self.keys = k.input("k", (s.batch * s.keys, s.key_heads * s.D), s.dtype)
        self.values = k.input("v", (s.batch * s.keys, s.key_heads * s.Dv), s.dtype)
        self.o = k.output("o", (rows, across * s.Dv), s.dtype)
        self.mask: Tensor | None = None
        if s.causal:
            seen = np.tri(b.rows, dtype=bool)
            self.mask = k.constant("causal mask", np.where(seen, 0.0, MASKED), s.working)
        self._cube()
        self._vector()
        self._between()

    def _cube(self) -> None:
        s, b, tile = self.s, self.b, self.k.tile
        terms, cols = (min(b.step, max(size, b.keys)) for size in (s.D, s.Dv))
        self.Q = tile("Q", "L1", (b.rows, s.D), s.dtype, b.slots)
        self.K = tile("K", "L1", (b.keys, s.D), s.dtype, b.slots)
        self.V = tile("V", "L1", (b.keys, s.Dv), s.dtype, b.slots)
        self.P = tile("P", "L1", (b.rows, b.keys), s.dtype)
        self.left = tile("left", "L0A", (b.rows, terms), s.dtype, 2)
        self.right = tile("right", "L0B", (terms, cols), s.dtype, 2)
        self.sums = tile("sums", "L0C", (b.rows, cols), accumulator_of(s.dtype), 2)

    def _vector(self) -> None:
        s, b = self.s, self.b

        def tile(name: str, cols: int, slots: int = 1, dtype: str = s.working) -> Tile:
            return self.k.tile(name, "UB", (self.piece, cols), dtype, slots)

        def each(name: str, cols: int) -> list[Tile]:
            return [tile(f"{name} {n}" if b.pieces > 1 else name, cols) for n in range(b.pieces)]

        self.S = tile("S", b.keys, 2)
        self.weights = self.S if s.dtype == s.working else tile("P in UB", b.keys, b.slots, s.dtype)
        self.fold = tile("fold", min(FOLDED, b.keys))
        self.x = tile("P V in UB, mask", b.scratch(s))
        self.rounded = tile("o rounded", s.Dv, 1, s.dtype)
        self.part, self.new = tile("of this block", 1), tile("new maximum", 1)
        self.O, self.top = each("O", s.Dv), each("maximum", 1)
        self.total, self.alpha = each("sum", 1), each("alpha", 1)

    def _between(self) -> None:
        s, b, target = self.s, self.b, self.k.target

        def workspace(name: str, cols: int, dtype: str) -> Tile:
            return self.k.tile(name, "GM", (b.rows, cols), dtype, 2)

        back = target.same_memory("UB", "L1") or ("UB", "L1") in target.paths
        self.via_S = None if b.direct else workspace("S in GM", b.keys, s.working)
        self.via_PV = None if b.direct else workspace("P V in GM", s.Dv, s.working)
        self.via_P = None if back else workspace("P in GM", b.keys, s.dtype)

    # --- the cube core -------------------------------------------------------------------------

    def begin(self, at: Queries) -> None:
        """Q of a tile."""
        s, rows = self.s, self.b.rows
        if s.stacked:
            access = self.q.at(row=at.sequence * s.heads + at.head, rows=rows)
        else:
            access = self.q.at(row=self.row(at), rows=rows, col=at.head * s.D, cols=s.D)
        self.k.load(self.Q, access, label="load Q")

    def row(self, at: Queries) -> Index:
        return at.sequence * self.s.tokens + at.token

    def scores(self, at: Queries, kind: Kind, start: Index) -> None:
        """S = Q K^T, on its way to the vector cores."""
        k, s, b = self.k, self.s, self.b
        row, head = at.sequence * s.keys + start, at.key_head * s.D
        access = self.keys.at(row=row, rows=kind.keys, col=head, cols=s.D)
        k.load(self.K.view(rows=kind.keys), access, "load K", fresh=True)
        home = self.S if self.via_S is None else self.via_S
        terms = cuts(s.D, b.step)
        for col, cols in cuts(kind.keys, b.step):
            sums = self.sums.view(cols=cols)
            for first, size in terms:
                left, right = self.left.view(cols=size), self.right.view(rows=size, cols=cols)
                if col == 0 or len(terms) > 1:
                    k.move(left, self.Q.view(col=first, cols=size), label="Q to L0A", fresh=True)
                block = self.K.view(row=col, rows=cols, col=first, cols=size)
                k.move(right, block, transpose=True, label="K^T to L0B", fresh=True)
                k.matmul(sums, left, right, first > 0, label="S = Q K^T", fresh=first == 0)
            k.move(home.view(col=col, cols=cols), sums, label="S out", fresh=col == 0)

    def product(self, at: Queries, kind: Kind, start: Index) -> None:
        """P V, on its way to the vector cores."""
        k, s, b = self.k, self.s, self.b
        row, head = at.sequence * s.keys + start, at.key_head * s.Dv
        access = self.values.at(row=row, rows=kind.keys, col=head, cols=s.Dv)
        k.load(self.V.view(rows=kind.keys), access, "load V", fresh=True)
        if self.via_P is not None:
            sent = self.via_P.view(cols=kind.keys)
            k.move(self.P.view(cols=kind.keys), sent, label="P to L1", fresh=True)
        home = self.x if self.via_PV is None else self.via_PV
        for col, cols in cuts(s.Dv, b.step):
            sums = self.sums.view(cols=cols)
            for first, size in cuts(kind.keys, b.step):
                left, right = self.left.view(cols=size), self.right.view(rows=size, cols=cols)
                k.move(left, self.P.view(col=first, cols=size), label="P to L0A", fresh=True)
                block = self.V.view(row=first, rows=size, col=col, cols=cols)
                k.move(right, block, label="V to L0B", fresh=True)
                k.matmul(sums, left, right, first > 0, label="P V", fresh=first == 0)
            k.move(home.view(col=col, cols=cols), sums, label="P V out", fresh=col == 0)

    # --- the vector cores ----------------------------------------------------------------------

    def softmax(self, kind: Kind) -> None:
        """P = exp(S - maximum), its sum, and by how much what was summed before has to shrink."""
        k, s = self.k, self.s
        S = self.S.view(cols=kind.keys)
        for n, (row, _) in enumerate(cuts(self.b.rows, self.piece)):
            if self.via_S is not None:
                held = self.via_S.view(row=row, rows=self.piece, cols=kind.keys)
                k.move(S, held, label="S to UB", fresh=True)
            k.vector("muls", S, S, imm=s.D**-0.5, label="scale S")
            if kind.masked and self.mask is not None:
                mask = self.x.view(cols=kind.keys)
                k.load(mask, self.mask.at(row=row, rows=self.piece, cols=kind.keys), "load mask", fresh=True)
                k.vector("add", S, S, mask, label="mask")
            self.maximum(n, kind, S)
            k.vector("sub_rows", S, S, self.top[n], label="S - maximum")
            k.vector("exp", S, S, label="P = exp")
            self.sum(n, kind, S)
            self.hand_over(row, kind, S)

    def maximum(self, n: int, kind: Kind, S: View) -> None:
        """The running maximum, and alpha = exp(the one before - it)."""
        k, top, alpha = self.k, self.top[n], self.alpha[n]
        if kind.first:
            self.reduce("max", top, S)
            return
        self.reduce("max", self.new, S)
        k.vector("max", self.new, self.new, top, label="new maximum")
        k.vector("sub", alpha, top, self.new, label="old - new maximum")
        k.vector("exp", alpha, alpha, label="alpha")
        k.vector("copy", top, self.new, label="keep maximum")

    def sum(self, n: int, kind: Kind, S: View) -> None:
        """The running sum of the weights."""
        k, total = self.k, self.total[n]
        if kind.first:
            self.reduce("sum", total, S)
            return
        self.reduce("sum", self.part, S)
        k.vector("mul", total, total, self.alpha[n], label="alpha sum")
        k.vector("add", total, total, self.part, label="+ sum")

    def reduce(self, how: str, out: Tile, S: View) -> None:
        self.k.vector(f"row_{how}", out, S, scratch=self.fold, label=f"{how} of rows")

    def hand_over(self, row: int, kind: Kind, S: View) -> None:
        """P in the dtype of the operands, to the cube core."""
        k, weights = self.k, self.weights.view(cols=kind.keys)
        if self.weights is not self.S:
            k.vector("cast", weights, S, label="round P")
        home = self.P if self.via_P is None else self.via_P
        part = home.view(row=row, rows=self.piece, cols=kind.keys)
        k.move(part, weights, label="P out", fresh=row == 0)

    def empty(self) -> None:
        """O = 0."""
        for output in self.O:
            self.k.vector("fill", output, imm=0.0, label="O = 0")

    def add(self, n: int, row: int) -> None:
        """O += P V of the latest product."""
        x = self.x.view(cols=self.s.Dv)
        if self.via_PV is not None:
            self.k.move(x, self.via_PV.view(row=row, rows=self.piece), label="P V to UB", fresh=True)
        self.k.vector("add", self.O[n], self.O[n], x, label="O + P V")

    def rescale(self) -> None:
        """O = (O + P V) alpha: what the block before gave, and as the maximum has grown since."""
        for n, (row, _) in enumerate(cuts(self.b.rows, self.piece)):
            self.add(n, row)
            self.k.vector("scale_rows", self.O[n], self.O[n], self.alpha[n], label="alpha O")

    def end(self, at: Queries) -> None:
        """o = (O + P V) / sum."""
        k, s = self.k, self.s
        for n, (row, _) in enumerate(cuts(self.b.rows, self.piece)):
            output = self.O[n]
            self.add(n, row)
            k.vector("fill", self.part, imm=1.0, label="1")
            k.vector("div", self.part, self.part, self.total[n], label="1 / sum")
            k.vector("scale_rows", output, output, self.part, label="O / sum")
            if s.dtype != s.working:
                k.vector("cast", self.rounded, output, label="round o")
                output = self.rounded
            k.store(self.out(at, row), output, label="store o")

    def out(self, at: Queries, row: int) -> Access:
        s = self.s
        if s.stacked:
            return self.o.at(row=at.sequence * s.heads + at.head + row, rows=self.piece)
        return self.o.at(row=self.row(at) + row, rows=self.piece, col=at.head * s.Dv, cols=s.Dv)
