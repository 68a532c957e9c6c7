"""The end of a mixture of experts: y = sum of weight_a z_a, z_a the row that a token's a-th expert gave.

Vector cores only, token by token, as the rows of a token lie far apart: each is a load of its own. Which row
it is depends on the data; here row t of part a is taken, which costs the same.
"""

from __future__ import annotations

from algorithms.floats import check_floats, working_of
from algorithms.tiles import Edge, edges
from npusim.builder import (
    Algorithm,
    Index,
    Item,
    Kernel,
    KernelBuilder,
    Options,
    Problem,
    Target,
    Tile,
    bytes_of,
)

WIDE, STORED = 2, 2
"""tiles of a row's columns in fp32 and in the operands' dtype, before slots"""
LINE = 128
"""elements whose multiples make whole repeats and blocks"""


def build(problem: Problem, options: Options, target: Target) -> Kernel:
    """The tile graph: z [active, m, n], weights [m, active] -> y [m, n]."""
    check_floats("moe-combine", problem.dtype)
    variant = ALGORITHM.variant(problem, options, target)
    k = KernelBuilder("moe-combine", target, problem.dtype, ALGORITHM.name, variant)
    combine = Combine(k, problem, options, target)
    with k.phase("combine", over="vector"):
        for cols in edges(problem.n, combine.cols):
            combine.columns(cols)
    return k.finish()


class Combine:
    """Tensors and tiles, and what happens to some columns of a token."""

    def __init__(self, k: KernelBuilder, problem: Problem, options: Options, target: Target) -> None:
        self.k, self.tokens, self.active, dtype = k, problem.m, problem.active, problem.dtype
        working, slots = working_of(dtype), options.slots or 2
        self.z = k.input("z", (problem.active, problem.m, problem.n), dtype)
        self.weights = k.input("weights", (problem.m, problem.active), working)
        self.y = k.output("y", (problem.m, problem.n), dtype)
        each = slots * (WIDE * bytes_of(working) + STORED * bytes_of(dtype))
        room = int((target.level_bytes["UB"] - slots * problem.active * bytes_of(working)) / each)
        self.cols = min(problem.n, options.tile_n or max(1, room // LINE * LINE or room))
        k.settings.update(tile_n=self.cols, slots=slots)

        def row(name: str, cols: int, dtype: str) -> Tile:
            return k.tile(name, "UB", (1, cols), dtype, slots, place="replicate")

        self.weight = row("weights of a token", problem.active, working)
        self.stored, self.rounded = row("z stored", self.cols, dtype), row("y rounded", self.cols, dtype)
        self.wide, self.sum = row("z", self.cols, working), row("y", self.cols, working)

    def columns(self, cols: Edge) -> None:
        """Tiles of columns of one size of all tokens."""

        def item(items: list[Item]) -> None:
            ((token, column),) = items
            self.token(token, cols.at(column), cols.size)

        self.k.items([("token", self.tokens), ("column", cols.count)], item)

    def token(self, token: Index, col: Index | int, cols: int) -> None:
        k = self.k
        k.load(self.weight, self.weights.at(row=token, rows=1), label="load weights")
        stored, wide = self.stored.view(cols=cols), self.wide.view(cols=cols)
        total, rounded = self.sum.view(cols=cols), self.rounded.view(cols=cols)
        for number in range(self.active):
            weight = self.weight.view(col=number, cols=1)
            access = self.z.at(number, row=token, rows=1, col=col, cols=cols)
            k.load(stored, access, label="load z", fresh=True)
            k.scalar("read", weight, on="rows", label="read weight")
            to = wide if number else total
            k.vector("cast", to, stored, label="widen z")
            k.vector("mul_scalar", to, to, weight, label="weight z")
            if number:
                k.vector("add", total, total, wide, label="add up")
        k.vector("cast", rounded, total, label="round y")
        k.store(self.y.at(row=token, rows=1, col=col, cols=cols), rounded, label="store y")


ALGORITHM = Algorithm(
    name="gather",
    meaning="a load for each row of a token, weighted and added up; vector cores only",
    source="textbook; same task as npu_moe_finalize_routing",
    build=build,
    variants={"textbook": "token by token, dealt to all vector cores"},
    parameters=frozenset({"tile_n", "slots"}),
)
