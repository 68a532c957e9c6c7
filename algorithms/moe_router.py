"""The router of a mixture of experts: logits = x Wr, their softmax, and the `active` largest of each token.

The product is made on the cube core, the rest on the vector cores, each its share of the tokens. Top-k is so
many passes over the row: its largest is found, with its place, and taken out, and all that equals it with it.
(Sorting instructions, which Ascend has, should need fewer passes; no profile times them.) The weights chosen
are divided by their sum, as in Qwen3 and Mixtral.
"""

from __future__ import annotations

from functools import partial

from algorithms.attention_size import FOLDED
from algorithms.chunked import Chunked
from algorithms.floats import check_floats, working_of
from algorithms.matmul_tiling import Tiling, tiling
from algorithms.moe_tokens import check_active
from npusim.builder import (
    Access,
    Algorithm,
    Index,
    Kernel,
    KernelBuilder,
    Options,
    Problem,
    Target,
    Tile,
    Unsupported,
    bytes_of,
)

MOST_EXPERTS = 1024
ROWS = 128
TAKEN = -1.0
"""what stands in place of a weight that was chosen; weights are positive"""


def build(problem: Problem, options: Options, target: Target) -> Kernel:
    """The tile graph: x [m, k], wr [k, experts] -> weights and places [m, active]."""
    check_floats("moe-router", problem.dtype)
    if problem.experts > MOST_EXPERTS:
        raise Unsupported(f"--experts: moe-router takes up to {MOST_EXPERTS}, got {problem.experts}")
    check_active(problem)
    variant = ALGORITHM.variant(problem, options, target)
    k = KernelBuilder("moe-router", target, problem.dtype, ALGORITHM.name, variant)
    router = Router(k, problem, options, target)
    with k.phase("router"):
        router.emit()
    return k.finish()


class Router:
    """Tensors, tiles and steps of a tile of tokens."""

    def __init__(self, k: KernelBuilder, problem: Problem, options: Options, target: Target) -> None:
        self.k, self.problem, dtype = k, problem, problem.dtype
        working = working_of(dtype)
        m, experts, active = problem.m, problem.experts, problem.active
        self.rows = _rows(problem, options, target, bytes_of(working))
        columns, height = {"n": experts}, {"tile_m": self.rows}
        self.t: Tiling = tiling(problem.model_copy(update=columns), options.model_copy(update=height), target)
        k.settings.update(tile_m=self.rows, tile_n=self.t.n, tile_k=self.t.k, slots=self.t.slots)
        self.x, self.wr = k.input("x", (m, problem.k), dtype), k.input("wr", (problem.k, experts), dtype)
        self.weights = k.output("weights", (m, active), working)
        self.places = k.output("places", (m, active), working)
        self.product = Chunked(k, self.t, problem.k, dtype)

        def tile(name: str, cols: int) -> Tile:
            return k.tile(name, "UB", (self.rows, cols), working)

        self.S, self.fold = tile("scores", experts), tile("fold", min(FOLDED, experts))
        self.chosen, self.place = tile("chosen", active), tile("their places", active)
        self.column, self.largest = tile("column", 1), tile("largest", 1)

    def emit(self) -> None:
        """Whole tiles; what is left is a whole tile that overlaps the one before."""
        count, left = divmod(self.problem.m, self.rows)
        self.k.items([("tile", count)], lambda items: self.tile(items[0][0] * self.rows))
        if left:
            start = self.problem.m - self.rows
            self.k.items([("last", 1)], lambda items: self.tile(items[0][0] * self.rows + start))

    def tile(self, row: Index) -> None:
        k, experts = self.k, self.problem.experts
        for col in range(0, experts, self.t.n):
            cols = min(self.t.n, experts - col)
            sums = self.product.emit(
                self.rows,
                cols,
                lambda first, terms: self.x.at(row=row, rows=self.rows, col=first, cols=terms),
                partial(self._weights, col, cols),
            )
            k.move(self.S.view(col=col, cols=cols), sums, label="logits to UB", fresh=col == 0)
        self.softmax()
        self.choose()
        k.store(self.weights.at(row=row, rows=self.rows), self.chosen, label="store weights")
        k.store(self.places.at(row=row, rows=self.rows), self.place, label="store places")

    def _weights(self, col: int, cols: int, first: Index | int, terms: int) -> Access:
        return self.wr.at(row=first, rows=terms, col=col, cols=cols)

    def softmax(self) -> None:
        k, S = self.k, self.S
        k.vector("row_max", self.column, S, scratch=self.fold, label="maximum")
        k.vector("sub_rows", S, S, self.column, label="logits - maximum")
        k.vector("exp", S, S, label="exp")
        self.divide(S)

    def divide(self, x: Tile) -> None:
        """x over the sum of each of its rows."""
        k = self.k
        k.vector("row_sum", self.largest, x, scratch=self.fold, label="sum")
        k.vector("fill", self.column, imm=1.0, label="1")
        k.vector("div", self.column, self.column, self.largest, label="1 / sum")
        k.vector("scale_rows", x, x, self.column, label="over the sum")

    def choose(self) -> None:
        """The largest, time and again, and where it stands."""
        k, S = self.k, self.S
        for number in range(self.problem.active):
            k.vector("row_max", self.largest, S, scratch=self.fold, label="largest")
            k.vector("copy", self.chosen.view(col=number, cols=1), self.largest, label="keep it")
            k.vector("row_place", self.place.view(col=number, cols=1), S, label="its place")
            if number + 1 < self.problem.active:
                k.vector("replace_equal", S, S, self.largest, imm=TAKEN, label="take it out")
        self.divide(self.chosen)


def _rows(problem: Problem, options: Options, target: Target, each: float) -> int:
    """Tokens of a tile: half of UB holds their scores, and all cores have some."""
    if options.tile_m is not None:
        return min(options.tile_m, problem.m)
    fair = -(-problem.m // target.groups)
    rows = min(ROWS, problem.m, max(16, -(-fair // 16) * 16))
    room = target.level_bytes["UB"] * max(1, target.vector_cores) / 2
    while rows > 1 and rows * problem.experts * each > room:
        rows //= 2
    return rows


ALGORITHM = Algorithm(
    name="top-k",
    meaning="product on the cube, softmax and the largest of each row one by one on the vector cores",
    source="textbook; same task as npu_moe_gating_top_k_softmax",
    build=build,
    variants={"textbook": "a tile of tokens per core group at a time"},
    parameters=frozenset({"tile_m", "tile_n", "tile_k", "slots"}),
)
