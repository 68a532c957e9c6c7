"""gdn-kkt: L = tril((K K^T) exp(G_i + log beta_i - G_j), -1), per chunk and head.

As huawei-csl/megagdn-pto, scaled_dot_kkt: all chunks of a sequence and head on one core group, two slots of
workspace between the cores, so that the cube core runs ahead of the vector cores. With `--mask-on kkt` a
second phase forms the masked start of masked-neumann, T0, of --order terms: algorithms/masked_start.py.
"""

from __future__ import annotations

from algorithms.delta_scores import Scores as DeltaScores
from algorithms.gdn_stage import Stage, algorithm
from algorithms.kda_scores import Scores as KdaScores
from algorithms.masked_start import asks_for_start, start_phase
from npusim.builder import Index, Tensor


class Kkt:
    """k, G_heads, beta_heads -> L [chunks, heads, C, C].

    Tiles of the stage; matrices in panels of rows.
    """

    def __init__(self, s: Stage) -> None:
        self.s, self.k, n, P = s, s.k, s.n, s.panel
        self.keys, self.G = s.tensor("k"), s.tensor("G_heads")
        self.beta, self.L = s.tensor("beta_heads"), s.tensor("L", output=True)
        self.K, self.a, self.b = (
            s.cube("K", "L1", n, s.Dk),
            s.cube("a", "L0A", P, s.Dk),
            s.cube("b", "L0B", s.Dk, n),
        )
        self.c = s.cube("K K^T", "L0C", P, n)
        self.via = s.workspace("K K^T for the vector cores", P, n, slots=2, product=True)
        self.g, self.raw = s.row("G"), s.row("beta stored", s.dtype)
        self.log, self.sum = s.row("log beta"), s.row("G + log beta")
        self.column = s.ub("column", P, 1)
        self.gate, self.other = s.ub("gate", P, n), s.ub("K K^T wide", P, n)
        self.out = s.ub("L", P, n, s.dtype)
        self.product = self.out if s.accumulated else s.ub("K K^T in UB", P, n, s.dtype)
        self.mask = s.mask(1)

    def emit(self) -> None:
        with self.k.phase("kkt"):
            self.mask.begin()
            self.s.by_sequence(self.chunk)

    def chunk(self, chunk: Index, head: Index, key_head: Index) -> None:
        k, s, P = self.k, self.s, self.s.panel
        s.barrier("cube")
        k.load(self.K, self.keys.at(chunk, key_head), label="load K")
        k.move(self.b, self.K, transpose=True, label="K^T to L0B")
        k.load(self.g, self.G.at(chunk, head), label="load G")
        k.load(self.raw, self.beta.at(chunk, head), label="load beta")
        for row in s.panels():
            k.move(self.a, self.K.view(row=row, rows=P), label="K to L0A")
            k.matmul(self.c, self.a, self.b, label="K K^T")
            sent = s.send(self.via, self.c, "K K^T out")
            s.wait(sent, on="rows")
            s.barrier("rows")
            if row == 0:
                k.vector("cast", self.log, self.raw, label="beta")
                k.vector("ln", self.log, self.log, label="log beta")
                k.vector("add", self.sum, self.log, self.g, label="G + log beta")
            k.vector("column", self.column, self.sum.view(col=row, cols=P), label="to a column")
            self.coefficients()
            if s.published:  # those kernels do not load while they compute the coefficients
                k.wait(self.gate, on="aiv_mte2")
            s.take(self.other, self.product, sent, "K K^T")
            s.widen(self.other, self.product, "K K^T")
            k.vector("mul", self.other, self.other, self.gate, label="gate")
            k.vector("mul", self.other, self.other, self.mask.panel(row), label="mask")
            k.vector("cast", self.out, self.other, label="round L")
            k.store(self.L.at(chunk, head, row=row, rows=P), self.out, label="store L")
            s.barrier("rows")

    def coefficients(self) -> None:
        """exp(min(G_i + log beta_i - G_j, 0)); above the diagonal, where it means nothing, at most 1."""
        k = self.k
        k.vector("row_broadcast", self.gate, self.column, label="rows of G + log beta")
        k.vector("col_broadcast", self.other, self.g, label="columns of G")
        k.vector("sub", self.gate, self.gate, self.other, label="G_i + log beta_i - G_j")
        k.vector("mins", self.gate, self.gate, imm=0.0, label="at most 0")
        k.vector("exp", self.gate, self.gate, label="exp")


def _with_start(stage: Stage, scores: Kkt | KdaScores | DeltaScores, L: Tensor) -> None:
    """The scores, and T0 of the L among them where that is asked for."""
    wanted = asks_for_start(stage.options)
    scores.emit()
    if wanted:
        start_phase(stage, L)


def _by_head(stage: Stage) -> None:
    scores = Kkt(stage)
    _with_start(stage, scores, scores.L)


def _by_channel(stage: Stage) -> None:
    scores = KdaScores(stage)
    _with_start(stage, scores, scores.results["L"])


def _without_gates(stage: Stage) -> None:
    scores = DeltaScores(stage)
    _with_start(stage, scores, scores.results["L"])


ALGORITHM = algorithm(
    "gdn-kkt",
    "K K^T on the cube, gates and mask on the vector cores",
    {"head": _by_head, "channel": _by_channel, "none": _without_gates},
    parameters=frozenset({"mask_on", "order", "block", "exchange"}),
)
