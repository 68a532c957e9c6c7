"""gdn-state: the recurrence over chunks, S <- exp(G_C) S + (exp(G_C - G) K)^T V', V' = U - W S.

As huawei-csl/megagdn-pto, chunk_h: the state stays in UB in fp32, its rows on the two vector cores; per chunk
it goes to the cube core and W S, K~ and V', and K~^T V' come and go: four hand-overs in a row. Left out: the
loads of K and G one chunk ahead.
"""

from __future__ import annotations

from algorithms.delta_stages import State as DeltaState
from algorithms.gdn_stage import Carried, Stage, algorithm
from npusim.builder import Index, Tile


class State(Carried):
    """k, U, W, G_heads (initial_state) -> V_new, S_chunks, state.

    Tiles of the stage; chunks in panels of rows.
    """

    def __init__(self, s: Stage) -> None:
        n, P, Dk, Dv = s.n, s.panel, s.Dk, s.Dv
        self.keys, self.G, self.U, self.W = (s.tensor(name) for name in ("k", "G_heads", "U", "W"))
        self.fresh, self.before = s.tensor("V_new", output=True), s.tensor("S_chunks", output=True)
        super().__init__(s)
        self.ready = s.k.flag("V' stored")
        self.via_S, self.via_K = (
            s.workspace("S for the cube core", Dk, Dv),
            s.workspace("K~ for the cube core", P, Dk),
        )
        self.via_WS = s.workspace("W S for UB", P, Dv, product=True)
        self.via_KV = s.workspace("K~^T V' for UB", Dk, Dv, product=True)
        self.S1, self.W1 = s.cube("S in L1", "L1", Dk, Dv), s.cube("W in L1", "L1", P, Dk)
        self.K1, self.V1 = s.cube("K~ in L1", "L1", P, Dk), s.cube("V' in L1", "L1", P, Dv)
        self.a, self.b = s.cube("W in L0A", "L0A", P, Dk), s.cube("S in L0B", "L0B", Dk, Dv)
        self.at, self.bt = s.cube("K~^T in L0A", "L0A", Dk, P), s.cube("V' in L0B", "L0B", P, Dv)
        self.c, self.ct = s.cube("W S in L0C", "L0C", P, Dv), s.cube("K~^T V' in L0C", "L0C", Dk, Dv)
        self.vector_tiles(n, P, Dk, Dv)

    def vector_tiles(self, n: int, P: int, Dk: int, Dv: int) -> None:
        """UB is full at C = Dk = Dv = 128: tiles of one shape are used for several things in turn."""
        s = self.s
        self.g, self.decays, self.gap = s.row("G"), s.row("exp G"), s.row("G_C - G")
        self.last, self.decay = s.row("G_C", cols=1), s.row("exp G_C", cols=1)
        self.column = s.ub("exp(G_C - G)", P, 1)
        self.k16, self.k32 = s.ub("K stored", P, Dk, s.dtype), s.ub("K~", P, Dk)
        self.u16, self.u32 = s.ub("U stored", P, Dv, s.dtype), s.ub("V'", P, Dv)
        self.ws32 = s.ub("W S wide", P, Dv)
        self.spread = self.ws32 if Dk == Dv else s.ub("factors of the rows", P, Dk)
        self.kv16 = s.ub("S stored, K~^T V' stored", Dk, Dv, s.dtype)
        self.kv32 = self.ws32 if Dk == P else s.ub("K~^T V' wide", Dk, Dv)
        own = Dk != P and not s.accumulated
        self.ws16 = s.ub("W S stored", P, Dv, s.dtype) if own else self.kv16

    def chunk(self, chunk: Index, head: Index, key_head: Index) -> None:
        """S to the cube core; W S back; K~ and V' there; K~^T V' back, and into the state."""
        k, s = self.k, self.s
        k.vector("cast", self.kv16, self.S, label="round S")
        k.store(self.before.at(chunk, head), self.kv16, label="store S")
        sent = s.send(self.via_S, self.kv16, "S out")
        s.wait(sent, on="cube")
        k.move(self.S1, sent, label="S to L1")
        k.move(self.b, self.S1, label="S to L0B")
        self.gates(chunk, head)
        for row in s.panels():
            self.panel(chunk, head, key_head, row)
        sent = s.send(self.via_KV, self.ct, "K~^T V' out")
        k.scalar("read", self.decay, on="rows", label="read exp G_C")
        k.vector("mul_scalar", self.S, self.S, self.decay, label="decay S")
        s.wait(sent, on="rows")
        s.take(self.kv32, self.kv16, sent, "K~^T V'")
        s.widen(self.kv32, self.kv16, "K~^T V'")
        s.barrier("rows")
        k.vector("add", self.S, self.S, self.kv32, label="+ K~^T V'")

    def gates(self, chunk: Index, head: Index) -> None:
        """exp(G_C - G) of all tokens, and exp G_C."""
        k = self.k
        k.load(self.g, self.G.at(chunk, head), label="load G")
        k.vector("copy", self.last, self.g.view(col=self.s.n - 1, cols=1), label="G_C")
        k.scalar("read", self.last, on="rows", label="read G_C")
        k.vector("muls", self.gap, self.g, imm=-1.0, label="- G")
        k.vector("add_scalar", self.gap, self.gap, self.last, label="G_C - G")
        k.vector("exp", self.gap, self.gap, label="exp(G_C - G)")
        k.vector("exp", self.decays, self.g, label="exp G")
        k.vector("copy", self.decay, self.decays.view(col=self.s.n - 1, cols=1), label="exp G_C")

    def panel(self, chunk: Index, head: Index, key_head: Index, row: int) -> None:
        """V' and K~ of some rows, and their product added up."""
        k, s, P = self.k, self.s, self.s.panel
        here = {"row": row, "rows": P}
        k.load(self.W1, self.W.at(chunk, head, **here), label="load W")
        k.move(self.a, self.W1, label="W to L0A")
        k.matmul(self.c, self.a, self.b, label="W S")
        sent = s.send(self.via_WS, self.c, "W S out")
        k.load(self.k16, self.keys.at(chunk, key_head, **here), label="load K")
        k.load(self.u16, self.U.at(chunk, head, **here), label="load U")
        k.vector("cast", self.k32, self.k16, label="widen K")
        k.vector("cast", self.u32, self.u16, label="widen U")
        k.vector("column", self.column, self.gap.view(col=row, cols=P), label="to a column")
        k.vector("row_broadcast", self.spread, self.column, label="rows of exp(G_C - G)")
        k.vector("mul", self.k32, self.k32, self.spread, label="K~ = exp(G_C - G) K")
        s.wait(sent, on="rows")
        s.take(self.ws32, self.ws16, sent, "W S")
        s.widen(self.ws32, self.ws16, "W S")
        k.vector("sub", self.u32, self.u32, self.ws32, label="V' = U - W S")
        k.vector("cast", self.u16, self.u32, label="round V'")
        k.vector("cast", self.k16, self.k32, label="round K~")
        k.store(self.fresh.at(chunk, head, **here), self.u16, label="store V'", sets=self.ready)
        sent = s.send(self.via_K, self.k16, "K~ out")
        s.barrier("rows", "aiv_mte3")
        self.sum(sent, chunk, head, row)

    def sum(self, sent: Tile, chunk: Index, head: Index, row: int) -> None:
        """K~^T V' of these rows, on the cube core."""
        k, s = self.k, self.s
        here = {"row": row, "rows": s.panel}
        s.wait(sent, on="cube")
        k.move(self.K1, sent, label="K~ to L1")
        k.move(self.at, self.K1, transpose=True, label="K~^T to L0A")
        k.load(self.V1, self.fresh.at(chunk, head, **here), label="load V'", after=self.ready)
        k.move(self.bt, self.V1, label="V' to L0B")
        k.matmul(self.ct, self.at, self.bt, accumulate=row > 0, label="K~^T V'")


ALGORITHM = algorithm(
    "gdn-state",
    "chunk after chunk: two products on the cube, gates and the running state on the vector cores",
    {
        "head": lambda stage: State(stage).emit(),
        "channel": lambda stage: DeltaState(stage).emit(),
        "none": lambda stage: DeltaState(stage).emit(),
    },
    parameters=frozenset({"exchange"}),
)
