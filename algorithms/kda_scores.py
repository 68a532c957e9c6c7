"""gdn-kkt with a gate per channel of the keys: L and P of each chunk and value head.

  L[i, j] = beta_i sum_d k_id exp(G_id - G_jd) k_jd for i > j
  P[i, j] = sum_d q_id exp(G_id - G_jd) k_jd for i >= j

exp(G_i - G_j) is no product of exp(G_i) and exp(-G_j), which overflows. As the public kernels (fla-org,
flash-linear-attention, ops/kda: chunk_intra), a chunk is cut into sub-blocks of 16 rows. Off the diagonal
they are products, (k_i exp(G_i - G_n)) . (k_j exp(G_n - G_j)), n the first row of the sub-block of i: neither
exponent is above 0. On the diagonal they are computed element by element, a column j at a time. The vector
cores scale and do the diagonal, while the cube core multiplies.
"""

from __future__ import annotations

import numpy as np

from algorithms.gdn_stage import Stage
from algorithms.tiles import FRACTAL
from algorithms.tri_inverse import fitting
from npusim.builder import Index, Tensor, Tile, bytes_of

NAMES = ("L", "P")


class Scores:
    """q, k, G, beta_heads -> L, P [chunks, heads, C, C].

    Tiles of the stage, in panels of rows and columns. A vector core holds whole sub-blocks.
    """

    def __init__(self, s: Stage) -> None:
        self.s, self.k, P, Dk = s, s.k, s.panel, s.Dk
        self.queries, self.keys, self.G = s.tensor("q"), s.tensor("k"), s.tensor("G")
        self.beta = s.tensor("beta_heads")
        self.results = {name: s.tensor(name, output=True) for name in NAMES}
        self.raw, self.row = s.row("beta stored", s.dtype), s.row("beta")
        self.first = s.row("G of a sub-block's start", cols=Dk)
        self.stored = {"L": self.ub("K stored", Dk, s.dtype), "P": self.ub("Q stored", Dk, s.dtype)}
        self.wide = {"L": self.ub("K", Dk), "P": self.ub("Q", Dk)}
        self.g, self.x, self.y = (self.ub(name, Dk) for name in ("G", "decay", "product"))
        self.x16 = self.ub("scaled", Dk, s.dtype, slots=2)
        self.diagonal = {name: self.ub(f"diagonal of {name}, by columns", FRACTAL) for name in NAMES}
        self.column = self.ub("column of beta", 1)
        self.block, self.out = self.ub("block", P), self.ub("block stored", P, s.dtype, slots=2)
        self.zero = self.ub("0", P, s.dtype)
        self.masks = {name: self.ub(f"mask of {name}", P) for name in NAMES}
        self.cube_tiles(P, Dk)

    def cube_tiles(self, P: int, Dk: int) -> None:
        s = self.s
        deep = fitting(s.k.target, "L0B", Dk * P * bytes_of(s.dtype), 2)
        self.left1 = {name: s.cube(f"left of {name} in L1", "L1", P, Dk) for name in NAMES}
        self.left = {name: s.cube(f"left of {name}", "L0A", P, Dk) for name in NAMES}
        self.right1 = s.cube("right in L1", "L1", P, Dk, slots=2)
        self.right = s.cube("right", "L0B", Dk, P, slots=deep)
        self.c = {name: s.cube(f"{name} in L0C", "L0C", P, P) for name in NAMES}

    def ub(self, name: str, cols: int, dtype: str | None = None, slots: int = 1) -> Tile:
        """A panel of rows in UB."""
        s = self.s
        return s.k.tile(name, "UB", (s.panel, cols), dtype or s.working, slots, s.block_place)

    def emit(self) -> None:
        k, P = self.k, self.s.panel
        with k.phase("kkt"):
            for name, mask in self.masks.items():
                below = np.tri(P, k=-1 if name == "L" else 0)
                k.load(mask, k.constant(f"triangle of {name}", below, self.s.working).at(), label="load mask")
            k.vector("fill", self.zero, imm=0.0, label="0")
            self.s.by_chunk(self.item)

    def item(self, chunk: Index, head: Index, key_head: Index) -> None:
        k, P = self.k, self.s.panel
        k.load(self.raw, self.beta.at(chunk, head), label="load beta")
        k.vector("cast", self.row, self.raw, label="beta")
        for row in self.s.panels():
            self.fetch("P", self.queries, chunk, key_head, row)
            self.fetch_keys(chunk, head, key_head, row)
            k.vector("column", self.column, self.row.view(col=row, cols=P), label="beta of the rows")
            self.scale_left()
            self.products(chunk, head, row, own=True)
            self.diagonals()
            self.finish(chunk, head, row, row)
            for col in range(0, row, P):
                self.fetch_keys(chunk, head, key_head, col)
                self.products(chunk, head, row, own=False)
                self.finish(chunk, head, row, col)
            for col in range(row + P, self.s.n, P):
                for result in self.results.values():
                    place = result.at(chunk, head, row=row, rows=P, col=col, cols=P)
                    k.store(place, self.zero, label="store 0")

    def fetch(self, name: str, source: Tensor, chunk: Index, head: Index, row: int) -> None:
        """A panel of K or Q, widened."""
        k, letter = self.k, "K" if name == "L" else "Q"
        k.load(self.stored[name], source.at(chunk, head, row=row, rows=self.s.panel), label=f"load {letter}")
        k.vector("cast", self.wide[name], self.stored[name], label=f"widen {letter}")

    def fetch_keys(self, chunk: Index, head: Index, key_head: Index, row: int) -> None:
        """K and G of a panel."""
        self.fetch("L", self.keys, chunk, key_head, row)
        self.k.load(self.g, self.G.at(chunk, head, row=row, rows=self.s.panel), label="load G")

    def scale_left(self) -> None:
        """K and Q times exp(G_i - G_n) to the cube core."""
        k = self.k
        k.vector("block_sub", self.x, self.g, self.g, imm=0, label="G_i - G_n")
        k.vector("exp", self.x, self.x, label="exp(G_i - G_n)")
        for name in NAMES:
            k.vector("mul", self.y, self.x, self.wide[name], label="scale rows i")
            k.vector("cast", self.x16, self.y, label="round rows i")
            k.move(self.left1[name], self.x16, label="rows i to L1")
            k.move(self.left[name], self.left1[name], label="rows i to L0A")

    def diagonals(self) -> None:
        """The sub-blocks on the diagonal, a column j of all of them at a time; above the diagonal, where
        they mean nothing, the decay is at most 1."""
        k, K = self.k, self.wide["L"]
        for j in range(FRACTAL):
            k.vector("block_sub", self.x, self.g, self.g, imm=j, label="G_i - G_j")
            k.vector("mins", self.x, self.x, imm=0.0, label="at most 0")
            k.vector("exp", self.x, self.x, label="exp(G_i - G_j)")
            k.vector("block_mul", self.x, self.x, K, imm=j, label="times k_j")
            for name in NAMES:
                k.vector("mul", self.y, self.x, self.wide[name], label=f"terms of {name}")
                column = self.diagonal[name].view(col=j, cols=1)
                k.vector("row_sum", column, self.y, label=f"column of {name}")

    def products(self, chunk: Index, head: Index, row: int, own: bool) -> None:
        """The sub-blocks off the diagonal of a panel of rows, and of the columns whose K and G are there;
        `own`: these are the panel's own columns."""
        starts = self.starts(own)
        for start in starts:
            self.scale_right(chunk, head, row + start, own)
            # the first sub-block has nothing left of its diagonal; its rows go along, so that all is written
            first = 0 if start == starts[0] else start
            rows = start + FRACTAL - first
            for name in NAMES:
                left = self.left[name].view(row=first, rows=rows)
                part = self.c[name].view(row=first, rows=rows)
                fresh = start == starts[0]
                self.k.matmul(part, left, self.right, label=f"sub-blocks of {name}", fresh=fresh)

    def starts(self, own: bool) -> range:
        """The first rows of the sub-blocks that have something left of the diagonal."""
        return range(FRACTAL if own else 0, self.s.panel, FRACTAL)

    def finish(self, chunk: Index, head: Index, row: int, col: int) -> None:
        """Rows from `row` on and columns from `col` on of L and P."""
        k, P = self.k, self.s.panel
        for name, result in self.results.items():
            if self.starts(row == col):
                self.s.take(self.block, self.out, self.c[name], name)
                self.s.widen(self.block, self.out, name)
            else:
                k.vector("fill", self.block, imm=0.0, label="0 off the diagonal")
            if row == col:
                k.vector("to_diagonal", self.block, self.diagonal[name], label=f"diagonal of {name}")
                k.vector("mul", self.block, self.block, self.masks[name], label="mask")
            if name == "L":
                k.vector("scale_rows", self.block, self.block, self.column, label="times beta")
            k.vector("cast", self.out, self.block, label=f"round {name}")
            place = result.at(chunk, head, row=row, rows=P, col=col, cols=P)
            k.store(place, self.out, label=f"store {name}")

    def scale_right(self, chunk: Index, head: Index, start: int, own: bool) -> None:
        """K times exp(G_n - G_j) to the cube core; from row n on, where it means nothing, times at most 1."""
        k = self.k
        k.load(self.first, self.G.at(chunk, head, row=start, rows=1), label="load G_n")
        k.vector("sub_from_row", self.x, self.g, self.first, label="G_n - G_j")
        if own:
            k.vector("mins", self.x, self.x, imm=0.0, label="at most 0")
        k.vector("exp", self.x, self.x, label="exp(G_n - G_j)")
        k.vector("mul", self.x, self.x, self.wide["L"], label="scale rows j")
        k.vector("cast", self.x16, self.x, label="round rows j")
        k.move(self.right1, self.x16, label="rows j to L1")
        k.move(self.right, self.right1, transpose=True, label="rows j to L0B")
