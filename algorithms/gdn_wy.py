"""gdn-wy: U = (T beta_j) V and W = (T beta_j exp(G_j)) K, per chunk and head.

As huawei-csl/megagdn-pto, wy_fast: the vector cores scale the columns of T twice, once for either product;
one slot of workspace for each.
"""

from __future__ import annotations

from algorithms.delta_stages import Wy as DeltaWy
from algorithms.gdn_stage import Stage, algorithm
from npusim.builder import Index, Tensor, Tile


class Wy:
    """T, k, v, G_heads, beta_heads -> U [.., C, Dv], W [.., C, Dk].

    Tiles of the stage; T in panels of rows.
    """

    def __init__(self, s: Stage) -> None:
        self.s, self.k, n, P = s, s.k, s.n, s.panel
        self.T, self.keys, self.values = s.tensor("T"), s.tensor("k"), s.tensor("v")
        self.G, self.beta = s.tensor("G_heads"), s.tensor("beta_heads")
        self.U, self.W = s.tensor("U", output=True), s.tensor("W", output=True)
        self.K, self.V = s.cube("K", "L1", n, s.Dk), s.cube("V", "L1", n, s.Dv)
        self.scaled = {name: s.cube(f"T for {name}", "L1", P, n) for name in "UW"}
        self.via = {name: s.workspace(f"T for {name}, for the cube core", P, n) for name in "UW"}
        self.a = s.cube("a", "L0A", P, n)
        self.b = {"U": s.cube("V in L0B", "L0B", n, s.Dv), "W": s.cube("K in L0B", "L0B", n, s.Dk)}
        self.c = {"U": s.cube("U", "L0C", P, s.Dv), "W": s.cube("W", "L0C", P, s.Dk)}
        if s.Dk == s.Dv:  # one buffer, as measured
            self.b["W"], self.c["W"] = self.b["U"], self.c["U"]
        self.raw, self.row, self.g = s.row("beta stored", s.dtype), s.row("beta"), s.row("G")
        self.spread = s.ub("factors of the columns", P, n)
        self.stored, self.wide = s.ub("T stored", P, n, s.dtype), s.ub("T", P, n)
        self.out = s.ub("T scaled", P, n, s.dtype)

    def emit(self) -> None:
        with self.k.phase("wy"):
            self.s.by_chunk(self.item)

    def item(self, chunk: Index, head: Index, key_head: Index) -> None:
        k, s = self.k, self.s
        k.load(self.K, self.keys.at(chunk, key_head), label="load K")
        k.load(self.V, self.values.at(chunk, head), label="load V")
        for row in s.panels():
            here = {"row": row, "rows": s.panel}
            k.load(self.raw, self.beta.at(chunk, head), label="load beta")
            k.load(self.stored, self.T.at(chunk, head, **here), label="load T")
            k.vector("cast", self.row, self.raw, label="beta")
            k.vector("cast", self.wide, self.stored, label="widen T")
            sent = self.scale("U")
            self.product("U", sent, self.V, self.U, chunk, head, row)
            k.load(self.g, self.G.at(chunk, head), label="load G")
            k.vector("exp", self.g, self.g, label="exp G")
            k.vector("mul", self.row, self.row, self.g, label="beta exp G")
            sent = self.scale("W")
            self.product("W", sent, self.K, self.W, chunk, head, row)

    def scale(self, name: str) -> Tile:
        """Columns of T times `row`, rounded, on their way to the cube core."""
        k, s = self.k, self.s
        k.vector("col_broadcast", self.spread, self.row, label="columns of factors")
        k.vector("mul", self.spread, self.spread, self.wide, label="scale T")
        k.vector("cast", self.out, self.spread, label="round T")
        sent = s.send(self.via[name], self.out, "T scaled out")
        s.barrier("rows")
        return sent

    def product(
        self, name: str, sent: Tile, right: Tile, result: Tensor, chunk: Index, head: Index, row: int
    ) -> None:
        k, s = self.k, self.s
        s.wait(sent, on="cube")
        k.move(self.scaled[name], sent, label="T scaled to L1")
        k.move(self.a, self.scaled[name], label="L1 to L0A")
        k.move(self.b[name], right, label="L1 to L0B")
        k.matmul(self.c[name], self.a, self.b[name], label=f"product {name}")
        k.store(result.at(chunk, head, row=row, rows=s.panel), self.c[name], label=f"store {name}")


ALGORITHM = algorithm(
    "gdn-wy",
    "columns of T scaled on the vector cores, two products on the cube",
    {
        "head": lambda stage: Wy(stage).emit(),
        "channel": lambda stage: DeltaWy(stage).emit(),
        "none": lambda stage: DeltaWy(stage).emit(),
    },
)
