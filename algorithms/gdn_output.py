"""gdn-output: O = exp(G_i) Q S + tril(Q K^T exp(G_i - G_j)) V', per chunk and head.

As huawei-csl/megagdn-pto, chunk_o: three products, and two columns of gates spread over tiles on the vector
cores; the cube core begins an item when the vector cores have stored the one before.
"""

from __future__ import annotations

from algorithms.delta_stages import Output as DeltaOutput
from algorithms.gdn_stage import PANEL_VALUES, Stage, algorithm
from algorithms.tiles import FRACTAL
from npusim.builder import Index, InputError, Tile


class Output:
    """q, k, V_new, S_chunks, G_heads -> O [chunks, heads, C, Dv].

    Tiles of the stage; matrices in panels of rows.
    """

    def __init__(self, s: Stage) -> None:
        self.s, self.k, n, P, Dk, Dv = s, s.k, s.n, s.panel, s.Dk, s.Dv
        names = ("q", "k", "V_new", "S_chunks", "G_heads")
        self.queries, self.keys, self.fresh, self.states, self.G = (s.tensor(name) for name in names)
        self.O = s.tensor("O", output=True)
        self.begun = s.k.flag("item begun")
        self.Q, self.K = s.cube("Q", "L1", P, Dk), s.cube("K", "L1", n, Dk)
        self.S, self.V = s.cube("S", "L1", Dk, Dv), s.cube("V'", "L1", n, Dv)
        self.gated = s.cube("Q K^T gated", "L1", P, n)
        self.a, self.ag = s.cube("Q in L0A", "L0A", P, Dk), s.cube("gated in L0A", "L0A", P, n)
        self.width = min(n, max(PANEL_VALUES // Dk // FRACTAL * FRACTAL, FRACTAL))
        """columns of Q K^T, and terms of its product with V', that go through L0B at once"""
        self.b = s.cube("b", "L0B", Dk, max(self.width, Dv))
        self.deep = s.cube("V' in L0B", "L0B", self.width, Dv)
        self.qk, self.qs = s.cube("Q K^T in L0C", "L0C", P, n), s.cube("Q S in L0C", "L0C", P, Dv)
        self.via_QK = s.workspace("Q K^T", P, n, product=True)
        self.via_S = s.workspace("Q S, then the rest of O", P, Dv, product=True)
        self.via_G = s.workspace("gated Q K^T", P, n)
        self.g, self.column, self.decays = s.row("G"), s.ub("column of G", P, 1), s.ub("exp G", P, 1)
        self.gate, self.x = s.ub("gate", P, n), s.ub("Q K^T wide", P, n)
        self.x16 = s.ub("Q K^T stored", P, n, s.dtype)
        same = n == Dv
        self.o, self.y = (self.gate, self.x) if same else (s.ub("O wide", P, Dv), s.ub("Q S wide", P, Dv))
        self.y16 = s.ub("Q S stored", P, Dv, s.dtype)
        self.mask = s.mask(0)

    def emit(self) -> None:
        with self.k.phase("output"):
            self.mask.begin()
            self.s.by_chunk(self.item)

    def item(self, chunk: Index, head: Index, key_head: Index) -> None:
        k, s = self.k, self.s
        for row in s.panels():
            here = {"row": row, "rows": s.panel}
            k.load(
                self.Q,
                self.queries.at(chunk, key_head, **here),
                label="load Q",
                sets=self.begun if s.published else None,
            )
            sent = self.products(chunk, head, key_head)
            self.gates(chunk, head, row)
            self.finish_panel(chunk, head, row, *sent)

    def products(self, chunk: Index, head: Index, key_head: Index) -> tuple[Tile, Tile]:
        """Q K^T and Q S on their way to the vector cores."""
        k, s = self.k, self.s
        k.load(self.K, self.keys.at(chunk, key_head), label="load K")
        k.move(self.a, self.Q, label="Q to L0A")
        for col, cols in self.columns():
            right = self.b.view(cols=cols)
            k.move(right, self.K.view(row=col, rows=cols), transpose=True, label="K^T to L0B", fresh=True)
            k.matmul(self.qk.view(col=col, cols=cols), self.a, right, label="Q K^T", fresh=col == 0)
        k.load(self.S, self.states.at(chunk, head), label="load S")
        right = self.b.view(cols=s.Dv)
        k.move(right, self.S, label="S to L0B", fresh=True)
        k.matmul(self.qs, self.a, right, label="Q S")
        return s.send(self.via_QK, self.qk, "Q K^T out"), s.send(self.via_S, self.qs, "Q S out")

    def columns(self) -> list[tuple[int, int]]:
        """First column and number of columns that go through L0B at once."""
        return [(col, min(self.width, self.s.n - col)) for col in range(0, self.s.n, self.width)]

    def gates(self, chunk: Index, head: Index, row: int) -> None:
        """exp(min(G_i - G_j, 0)) under the mask, and exp G_i."""
        k = self.k
        k.load(self.g, self.G.at(chunk, head), label="load G")
        k.vector("column", self.column, self.g.view(col=row, cols=self.s.panel), label="to a column")
        k.vector("row_broadcast", self.gate, self.column, label="rows of G")
        k.vector("col_broadcast", self.x, self.g, label="columns of G")
        k.vector("sub", self.gate, self.gate, self.x, label="G_i - G_j")
        k.vector("mins", self.gate, self.gate, imm=0.0, label="at most 0")
        k.vector("exp", self.gate, self.gate, label="exp")
        k.vector("mul", self.gate, self.gate, self.mask.panel(row), label="mask")
        k.vector("exp", self.decays, self.column, label="exp G")

    def finish_panel(self, chunk: Index, head: Index, row: int, scores: Tile, from_state: Tile) -> None:
        """The gated scores to the cube core and their product with V' back; O is the sum."""
        k, s = self.k, self.s
        s.wait(scores, on="rows")
        s.wait(from_state, on="rows")
        s.take(self.x, self.x16, scores, "Q K^T")
        s.widen(self.x, self.x16, "Q K^T")
        k.vector("mul", self.x, self.x, self.gate, label="gate")
        k.vector("cast", self.x16, self.x, label="round")
        sent = s.send(self.via_G, self.x16, "gated Q K^T out")
        s.take(self.y, self.y16, from_state, "Q S")
        s.wait(sent, on="cube")
        k.move(self.gated, sent, label="gated Q K^T to L1")
        k.load(self.V, self.fresh.at(chunk, head), label="load V'")
        k.move(self.ag, self.gated, label="gated to L0A")
        for col, cols in self.columns():
            right = self.deep.view(rows=cols)
            k.move(right, self.V.view(row=col, rows=cols), label="V' to L0B", fresh=True)
            k.matmul(
                self.qs, self.ag.view(col=col, cols=cols), right, accumulate=col > 0, label="gated Q K^T V'"
            )
        s.widen(self.y, self.y16, "Q S")
        k.vector("row_broadcast", self.o, self.decays, label="rows of exp G")
        k.vector("mul", self.o, self.o, self.y, label="exp G Q S")
        rest = s.send(self.via_S, self.qs, "rest of O out")
        s.wait(rest, on="rows")
        s.take(self.y, self.y16, rest, "rest of O")
        s.widen(self.y, self.y16, "rest of O")
        k.vector("add", self.o, self.o, self.y, label="+ the rest")
        k.vector("cast", self.y16, self.o, label="round O")
        k.store(self.O.at(chunk, head, row=row, rows=s.panel), self.y16, label="store O")
        if s.published:  # the next item begins behind this store
            k.wait(self.begun, on="aiv_mte3")


def _in_one_sum(stage: Stage) -> None:
    if stage.options.exchange:
        raise InputError("--exchange: gdn-output hands over no product but with a gate per head; drop it")
    DeltaOutput(stage).emit()


ALGORITHM = algorithm(
    "gdn-output",
    "three products on the cube, gates on the vector cores",
    {
        "head": lambda stage: Output(stage).emit(),
        "channel": _in_one_sum,
        "none": _in_one_sum,
    },
    parameters=frozenset({"exchange"}),
)
