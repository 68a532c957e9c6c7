"""Grouped matrix product: the tokens of expert e times its weights, y_e = x_e W_e with W_e [k, n].

As grouped products of the field have it (npu_grouped_matmul; MegaBlocks, arXiv 2211.15841): tokens stand
sorted by expert, and each expert's rows are a product of their own. The rows of an expert are filled up to
whole fractals of 16, so that it has whole tiles and one short one, which comes first, of so many fractals. A
tile of columns of an expert is an item; a popular expert's tiles of rows are dealt to several. Only the
weights of experts with tokens are loaded.
"""

from __future__ import annotations

import itertools
import math
from functools import partial

import numpy as np

from algorithms.chunked import Chunked
from algorithms.floats import check_floats
from algorithms.matmul_tiling import tiling
from algorithms.moe_tokens import ALIGNED, Ints, counts_of, filled
from algorithms.tiles import Edge, edges
from npusim.builder import (
    Algorithm,
    Index,
    InputError,
    Item,
    Kernel,
    KernelBuilder,
    Options,
    Problem,
    Target,
)

TALLEST = 128
"""rows of a tile"""
MOST_PARTS = 64
"""into how many items the rows of an expert are dealt at most"""
FINE = 8
"""items of average size that each core has at least, where rows allow it"""


def build(problem: Problem, options: Options, target: Target) -> Kernel:
    """The tile graph: cube core only."""
    check_floats("grouped-matmul", problem.dtype)
    variant = ALGORITHM.variant(problem, options, target)
    k = KernelBuilder("grouped-matmul", target, problem.dtype, ALGORITHM.name, variant)
    grouped = Grouped(k, problem, options, target)
    with k.phase("products"):
        for cols in edges(problem.n, grouped.t.n):
            grouped.columns(cols)
    return k.finish()


class Grouped:
    """x [rows, k] sorted by expert, w [experts, k, n] -> y [rows, n]."""

    def __init__(self, k: KernelBuilder, problem: Problem, options: Options, target: Target) -> None:
        counts = counts_of(problem)
        rows = filled(counts[counts > 0])
        if options.tile_m is not None and options.tile_m % ALIGNED:
            raise InputError(f"--tile-m: rows come in multiples of {ALIGNED}, got {options.tile_m}")
        if options.tile_m is not None and options.tile_m > rows[0]:
            raise InputError(f"--tile-m: {options.tile_m} is more than the {rows[0]} rows of an expert")
        sizes = {"m": int(rows.sum())}
        height = {"tile_m": options.tile_m or min(TALLEST, int(rows[0]))}
        self.t = t = tiling(problem.model_copy(update=sizes), options.model_copy(update=height), target)
        self.k, self.rows, dtype = k, rows, problem.dtype
        self.short = rows % t.m
        self.whole = rows // t.m
        columns = -(-problem.n // t.n)
        fair = max(1, int(self.whole.sum()) * columns // (FINE * target.groups))
        wanted = min(MOST_PARTS, max(1, -(-int(self.whole.max()) // fair)))
        # no common factor with the cores: otherwise parts that are empty would all fall to the same ones
        self.parts = next(p for p in itertools.count(wanted) if math.gcd(p, target.groups) == 1)
        k.settings.update(
            tile_m=t.m, tile_n=t.n, tile_k=t.k, chunk_k=t.k * t.steps, slots=t.slots, experts_hit=len(rows),
            most_tokens=int(counts.max()), parts=self.parts,
        )  # fmt: skip
        self.x = k.input("x", (int(rows.sum()), problem.k), dtype)
        self.w = k.input("w", (problem.experts, problem.k, problem.n), dtype)
        self.y = k.output("y", (int(rows.sum()), problem.n), dtype)
        self.product = Chunked(k, t, problem.k, dtype)

    def columns(self, cols: Edge) -> None:
        """All rows of all experts, in tiles of columns of one size."""
        begins = np.cumsum(self.rows) - self.rows + self.short  # of each expert's whole tiles

        def item(items: list[Item]) -> None:
            expert, column, part, begin = items[0]
            at = cols.at(column)
            for size in range(ALIGNED, self.t.m, ALIGNED):
                if (self.short == size).any():
                    body = partial(self.short_tile, expert, begin - size, size, at, cols.size)
                    self.k.loop(
                        self.per_item((self.short == size).astype(np.int64), cols.count, last_only=True), body
                    )
            if self.whole.any():
                body = partial(self.rows_of, expert, begin + part * self.t.m, at, cols.size)
                self.k.loop(self.per_item(self.whole, cols.count), body)

        axes = [("expert", len(self.rows)), ("column", cols.count), ("part", self.parts)]
        self.k.items(axes, item, tables={"expert": begins})

    def rows_of(self, expert: Index, first: Index, col: Index | int, cols: int, number: Index) -> None:
        self.tile(expert, first + number * (self.parts * self.t.m), self.t.m, col, cols)

    def short_tile(self, expert: Index, row: Index, rows: int, col: Index | int, cols: int, _: Index) -> None:
        self.tile(expert, row, rows, col, cols)

    def per_item(self, per_expert: Ints, columns: int, last_only: bool = False) -> Ints:
        """Counts [expert, column, part] of items: part p has tiles p, p + parts, .., the last a short one."""
        part = np.arange(self.parts)
        shares = (
            per_expert[:, None] * (part == self.parts - 1)
            if last_only
            else (per_expert[:, None] - part + self.parts - 1) // self.parts
        )
        return np.repeat(shares[:, None, :], columns, axis=1).ravel()

    def tile(self, expert: Index, row: Index, rows: int, col: Index | int, cols: int) -> None:
        """`rows` rows of an expert times a tile of columns of its weights."""
        sums = self.product.emit(
            rows,
            cols,
            lambda first, terms: self.x.at(row=row, rows=rows, col=first, cols=terms),
            lambda first, terms: self.w.at(expert, row=first, rows=terms, col=col, cols=cols),
        )
        self.k.store(self.y.at(row=row, rows=rows, col=col, cols=cols), sums, label="store y")


ALGORITHM = Algorithm(
    name="grouped",
    meaning="tiles of each expert's product in the accumulator, as those of matmul; cube only",
    source="npu_grouped_matmul; arXiv 2211.15841",
    build=build,
    variants={"textbook": "tiles of columns of an expert are items, its tiles of rows dealt to several"},
    parameters=frozenset({"tile_m", "tile_n", "tile_k", "slots"}),
)
