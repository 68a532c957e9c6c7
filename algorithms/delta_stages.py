"""gdn-wy, gdn-state and gdn-output with a gate per channel of the keys, or none.

The gates go into the operands, K and Q, on the vector cores, or nothing does; the cube core then has whole
products. P comes from gdn-kkt, so that O is one sum in the accumulator:
  U = (T beta_j) V     W = (T beta_j) (exp(G) * K)
  V' = U - W S     S <- diag(exp(G_C)) S + (exp(G_C - G) * K)^T V'     O = (exp(G) * Q) S + P V'
"""

from __future__ import annotations

from algorithms.gdn_stage import PANEL_VALUES, Carried, Stage
from algorithms.tiles import FRACTAL
from algorithms.tri_inverse import fitting
from npusim.builder import Index, Tensor, Tile, View, bytes_of


class Gated:
    """Panels [panel, Dk] of K or Q times the exponential of their gates, on their way to L1."""

    def __init__(self, s: Stage, name: str) -> None:
        self.s, self.name = s, name
        self.source, self.G = s.tensor(name.lower()), s.tensor("G") if s.by_channel else None
        if s.by_channel:
            self.stored = s.ub(f"{name} stored", s.panel, s.Dk, s.dtype)
            self.wide, self.g = s.ub(name, s.panel, s.Dk), s.ub("G", s.panel, s.Dk)

    def load(
        self, dst: Tile | View, chunk: Index, head: Index, key_head: Index, row: int, last: Tile | None = None
    ) -> None:
        """exp(G) * x, or exp(G_C - G) * x where G_C, `last` [1, Dk], is given, into `dst` in L1; x itself
        without gates."""
        k, s = self.s.k, self.s
        here, fresh = {"row": row, "rows": s.panel}, row == 0
        if self.G is None:
            k.load(dst, self.source.at(chunk, key_head, **here), label=f"load {self.name}", fresh=fresh)
            return
        k.load(self.stored, self.source.at(chunk, key_head, **here), label=f"load {self.name}")
        k.load(self.g, self.G.at(chunk, head, **here), label="load G")
        k.vector("cast", self.wide, self.stored, label=f"widen {self.name}")
        if last is not None:
            k.vector("sub_from_row", self.g, self.g, last, label="G_C - G")
        k.vector("exp", self.g, self.g, label="exp")
        k.vector("mul", self.wide, self.wide, self.g, label=f"gate {self.name}")
        k.vector("cast", self.stored, self.wide, label=f"round {self.name}")
        k.move(dst, self.stored, label=f"{self.name} to L1", fresh=fresh)


class Wy:
    """T, k, v, beta_heads (G) -> U [.., C, Dv], W [.., C, Dk]; T in panels of rows."""

    def __init__(self, s: Stage) -> None:
        self.s, self.k, n, P, wider = s, s.k, s.n, s.panel, max(s.Dk, s.Dv)
        self.T, self.values, self.beta = s.tensor("T"), s.tensor("v"), s.tensor("beta_heads")
        self.U, self.W = s.tensor("U", output=True), s.tensor("W", output=True)
        self.gated = Gated(s, "K")
        self.K, self.V = s.cube("K in L1", "L1", n, s.Dk), s.cube("V", "L1", n, s.Dv)
        self.raw, self.row = s.row("beta stored", s.dtype), s.row("beta")
        self.stored, self.wide = s.ub("T stored", P, n, s.dtype), s.ub("T", P, n)
        self.spread = s.ub("beta of the columns", P, n)
        self.T1, self.a = s.cube("T beta in L1", "L1", P, n), s.cube("T beta", "L0A", P, n)
        self.b = s.cube("right", "L0B", n, wider)
        self.c = s.cube("product", "L0C", P, wider)

    def emit(self) -> None:
        with self.k.phase("wy"):
            self.s.by_chunk(self.item)

    def item(self, chunk: Index, head: Index, key_head: Index) -> None:
        k, s = self.k, self.s
        k.load(self.raw, self.beta.at(chunk, head), label="load beta")
        k.vector("cast", self.row, self.raw, label="beta")
        k.vector("col_broadcast", self.spread, self.row, label="columns of beta")
        k.load(self.V, self.values.at(chunk, head), label="load V")
        for row in s.panels():
            self.gated.load(self.K.view(row=row, rows=s.panel), chunk, head, key_head, row)
        for row in s.panels():
            k.load(self.stored, self.T.at(chunk, head, row=row, rows=s.panel), label="load T")
            k.vector("cast", self.wide, self.stored, label="widen T")
            k.vector("mul", self.wide, self.wide, self.spread, label="T beta")
            k.vector("cast", self.stored, self.wide, label="round T beta")
            k.move(self.T1, self.stored, label="T beta to L1")
            k.move(self.a, self.T1, label="T beta to L0A")
            self.product(self.U, self.V, chunk, head, row)
            self.product(self.W, self.K, chunk, head, row)

    def product(self, result: Tensor, right: Tile, chunk: Index, head: Index, row: int) -> None:
        k, cols, name = self.k, right.shape[1], result.name
        b, c = self.b.view(cols=cols), self.c.view(cols=cols)
        k.move(b, right, label=f"{name}: right to L0B", fresh=True)
        k.matmul(c, self.a, b, label=f"product {name}", fresh=True)
        k.store(result.at(chunk, head, row=row, rows=self.s.panel), c, label=f"store {name}")


class State(Carried):
    """k, U, W (G, initial_state) -> V_new, S_chunks, state; chunks in panels of rows."""

    def __init__(self, s: Stage) -> None:
        P, Dk, Dv = s.panel, s.Dk, s.Dv
        self.gated = Gated(s, "K")
        self.U, self.W = s.tensor("U"), s.tensor("W")
        self.fresh, self.before = s.tensor("V_new", output=True), s.tensor("S_chunks", output=True)
        super().__init__(s)
        self.ready = s.k.flag("V' stored")
        self.S16 = s.ub("S stored", Dk, Dv, s.dtype)
        self.sum = s.ub("K~^T V' wide", Dk, Dv)
        self.u16, self.u32 = s.ub("U stored", P, Dv, s.dtype), s.ub("V'", P, Dv)
        self.ws32 = s.ub("W S wide", P, Dv)
        self.ws16 = self.u16 if s.accumulated else s.ub("W S stored", P, Dv, s.dtype)
        if s.by_channel:
            self.last, self.column = s.row("G_C", cols=Dk), s.ub("exp G_C", Dk, 1)
        self.S1, self.W1 = s.cube("S in L1", "L1", Dk, Dv), s.cube("W in L1", "L1", P, Dk)
        self.K1, self.V1 = s.cube("K~ in L1", "L1", P, Dk), s.cube("V' in L1", "L1", P, Dv)
        self.a, self.b = s.cube("W in L0A", "L0A", P, Dk), s.cube("S in L0B", "L0B", Dk, Dv)
        self.at, self.bt = s.cube("K~^T in L0A", "L0A", Dk, P), s.cube("V' in L0B", "L0B", P, Dv)
        self.c, self.ct = s.cube("W S in L0C", "L0C", P, Dv), s.cube("K~^T V' in L0C", "L0C", Dk, Dv)

    def chunk(self, chunk: Index, head: Index, key_head: Index) -> None:
        k, s = self.k, self.s
        k.vector("cast", self.S16, self.S, label="round S")
        k.store(self.before.at(chunk, head), self.S16, label="store S")
        k.move(self.S1, self.S16, label="S to L1")
        k.move(self.b, self.S1, label="S to L0B")
        if s.by_channel:
            G = self.gated.G
            assert G is not None
            k.load(self.last, G.at(chunk, head, row=s.n - 1, rows=1), label="load G_C")
            k.vector("column", self.column, self.last, label="G_C to a column")
            k.vector("exp", self.column, self.column, label="exp G_C")
        for row in s.panels():
            self.panel(chunk, head, key_head, row)
        if s.by_channel:
            k.vector("scale_rows", self.S, self.S, self.column, label="decay S")
        s.take(self.sum, self.S16, self.ct, "K~^T V'")
        s.widen(self.sum, self.S16, "K~^T V'")
        k.vector("add", self.S, self.S, self.sum, label="+ K~^T V'")

    def panel(self, chunk: Index, head: Index, key_head: Index, row: int) -> None:
        """V' of some rows, and K~^T V' added up."""
        k, here = self.k, {"row": row, "rows": self.s.panel}
        last = self.last if self.s.by_channel else None
        self.gated.load(self.K1, chunk, head, key_head, row, last)
        k.load(self.W1, self.W.at(chunk, head, **here), label="load W")
        k.move(self.a, self.W1, label="W to L0A")
        k.matmul(self.c, self.a, self.b, label="W S")
        k.load(self.u16, self.U.at(chunk, head, **here), label="load U")
        k.vector("cast", self.u32, self.u16, label="widen U")
        self.s.take(self.ws32, self.ws16, self.c, "W S")
        self.s.widen(self.ws32, self.ws16, "W S")
        k.vector("sub", self.u32, self.u32, self.ws32, label="V' = U - W S")
        k.vector("cast", self.u16, self.u32, label="round V'")
        k.store(self.fresh.at(chunk, head, **here), self.u16, label="store V'", sets=self.ready)
        k.move(self.at, self.K1, transpose=True, label="K~^T to L0A")
        k.load(self.V1, self.fresh.at(chunk, head, **here), label="load V'", after=self.ready)
        k.move(self.bt, self.V1, label="V' to L0B")
        k.matmul(self.ct, self.at, self.bt, accumulate=row > 0, label="K~^T V'")


class Output:
    """q, P, V_new, S_chunks (G) -> O [chunks, heads, C, Dv]; in panels of rows."""

    def __init__(self, s: Stage) -> None:
        self.s, self.k, n, P, Dk, Dv = s, s.k, s.n, s.panel, s.Dk, s.Dv
        self.gated = Gated(s, "Q")
        self.P, self.fresh, self.states = s.tensor("P"), s.tensor("V_new"), s.tensor("S_chunks")
        self.O = s.tensor("O", output=True)
        self.Q1, self.P1 = s.cube("Q in L1", "L1", P, Dk), s.cube("P in L1", "L1", P, n, slots=2)
        self.S1, self.V1 = s.cube("S in L1", "L1", Dk, Dv), s.cube("V' in L1", "L1", n, Dv)
        self.depth = max(FRACTAL, min(max(Dk, n), PANEL_VALUES // Dv // FRACTAL * FRACTAL))
        """terms of a product that go through L0 at once"""
        each = bytes_of(s.dtype)
        deep = [
            fitting(s.k.target, level, rows * self.depth * each, 2)
            for level, rows in (("L0A", P), ("L0B", Dv))
        ]
        self.a = s.cube("left", "L0A", P, self.depth, slots=deep[0])
        self.b = s.cube("right", "L0B", self.depth, Dv, slots=deep[1])
        self.c = s.cube("O in L0C", "L0C", P, Dv)

    def emit(self) -> None:
        with self.k.phase("output"):
            self.s.by_chunk(self.item)

    def item(self, chunk: Index, head: Index, key_head: Index) -> None:
        k, s = self.k, self.s
        k.load(self.S1, self.states.at(chunk, head), label="load S")
        k.load(self.V1, self.fresh.at(chunk, head), label="load V'")
        for row in s.panels():
            here = {"row": row, "rows": s.panel}
            self.gated.load(self.Q1, chunk, head, key_head, row)
            k.load(self.P1, self.P.at(chunk, head, **here), label="load P")
            self.add(self.Q1, self.S1, "Q S", first=True)
            self.add(self.P1, self.V1, "+ P V'", first=False)
            k.store(self.O.at(chunk, head, **here), self.c, label="store O")

    def add(self, left: Tile, right: Tile, label: str, first: bool) -> None:
        """left right into the accumulator, or added to it, in pieces that L0 holds."""
        k, terms = self.k, right.shape[0]
        for start in range(0, terms, self.depth):
            count = min(self.depth, terms - start)
            a, b = self.a.view(cols=count), self.b.view(rows=count)
            k.move(a, left.view(col=start, cols=count), label=f"{label}: left to L0A", fresh=True)
            k.move(b, right.view(row=start, rows=count), label=f"{label}: right to L0B", fresh=True)
            k.matmul(self.c, a, b, accumulate=not first or start > 0, label=label)
