"""gdn-kkt without gates: L = tril(beta K K^T, -1) and P = tril(Q K^T), per chunk and head (DeltaNet).

The products on the cube core; masks, and beta, on the vector cores.
"""

from __future__ import annotations

from algorithms.gdn_stage import Stage
from npusim.builder import Index, View


class Scores:
    """q, k, beta_heads -> L, P [chunks, heads, C, C].

    Tiles of the stage; matrices in panels of rows.
    """

    def __init__(self, s: Stage) -> None:
        self.s, self.k, n, P = s, s.k, s.n, s.panel
        self.queries, self.keys, self.beta = s.tensor("q"), s.tensor("k"), s.tensor("beta_heads")
        self.results = {name: s.tensor(name, output=True) for name in ("L", "P")}
        self.K, self.Q = s.cube("K", "L1", n, s.Dk), s.cube("Q", "L1", P, s.Dk)
        self.a, self.b = s.cube("a", "L0A", P, s.Dk), s.cube("K^T", "L0B", s.Dk, n)
        self.c = s.cube("c", "L0C", P, n)
        self.raw, self.row = s.row("beta stored", s.dtype), s.row("beta")
        self.column = s.ub("column of beta", P, 1)
        self.wide, self.out = s.ub("panel", P, n), s.ub("panel stored", P, n, s.dtype)
        self.masks = {"L": s.mask(1), "P": s.mask(0)}

    def emit(self) -> None:
        with self.k.phase("kkt"):
            for mask in self.masks.values():
                mask.begin()
            self.s.by_chunk(self.item)

    def item(self, chunk: Index, head: Index, key_head: Index) -> None:
        k, s, P = self.k, self.s, self.s.panel
        k.load(self.K, self.keys.at(chunk, key_head), label="load K")
        k.move(self.b, self.K, transpose=True, label="K^T to L0B")
        k.load(self.raw, self.beta.at(chunk, head), label="load beta")
        k.vector("cast", self.row, self.raw, label="beta")
        for row in s.panels():
            k.vector("column", self.column, self.row.view(col=row, cols=P), label="beta of the rows")
            k.load(self.Q, self.queries.at(chunk, key_head, row=row, rows=P), label="load Q")
            for name, left in (("L", self.K.view(row=row, rows=P)), ("P", self.Q.view())):
                self.panel(name, left, chunk, head, row)

    def panel(self, name: str, left: View, chunk: Index, head: Index, row: int) -> None:
        """Rows of L or P: their product with K^T, masked."""
        k, P = self.k, self.s.panel
        k.move(self.a, left, label="rows to L0A")
        k.matmul(self.c, self.a, self.b, label=f"{name}: product")
        self.s.take(self.wide, self.out, self.c, name)
        self.s.widen(self.wide, self.out, name)
        k.vector("mul", self.wide, self.wide, self.masks[name].panel(row), label="mask")
        if name == "L":
            k.vector("scale_rows", self.wide, self.wide, self.column, label="times beta")
        k.vector("cast", self.out, self.wide, label=f"round {name}")
        k.store(self.results[name].at(chunk, head, row=row, rows=P), self.out, label=f"store {name}")
