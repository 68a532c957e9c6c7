"""Strips of A and panels of B kept in L1: how one core alone multiplies, where its cube reads from there.

Cores that share an L2 find in it what another has loaded; of one core alone only what it keeps itself is
used again. So a strip of A [rows, k] stays in L1, as tiles of `m` rows, and panels of B [k, n] go past it: A
is loaded once, B once for each strip (the blocking of Goto and van de Geijn for one cache level). Whole tiles
are operands where they lie; a second accumulator lets one tile of C leave while the next is multiplied.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product as combinations

from algorithms.tiles import FRACTAL
from npusim.builder import Options, Problem, Target, accumulator_of, bytes_of

SLOTS = 2
"""of panels of B, and of accumulators"""
SMALLEST_ROW_BYTES = 128
"""of a panel of B: shorter rows waste what a transfer from memory brings"""
LARGEST_ROWS, LARGEST_COLS = 256, 512
"""of a tile of C, beyond which nothing is gained"""


@dataclass(frozen=True)
class Strips:
    """Tiles of C are m x n; `count` tiles of A, of m rows and all of k, lie in L1 together."""

    m: int
    n: int
    count: int

    @property
    def rows(self) -> int:
        return self.m * self.count

    def traffic(self, problem: Problem) -> int:
        """Values of A and B loaded in all."""
        return problem.k * (problem.m + problem.n * -(-problem.m // self.rows))


def strips(problem: Problem, options: Options, target: Target) -> Strips | None:
    """The strips of least traffic, then the largest tiles. None where several cores share what they load, L0
    is a memory of its own, the options state tiles, one tile has all rows anyway, or nothing fits."""
    stated = any((options.tile_m, options.tile_n, options.tile_k, options.slots, options.swizzle))
    alone = target.groups == 1 and target.same_memory("L1", "L0A") and target.same_memory("L1", "L0B")
    if stated or not alone or problem.m <= LARGEST_ROWS:
        return None
    each = bytes_of(problem.dtype)
    least = min(problem.n, int(SMALLEST_ROW_BYTES / each))
    widths = [least, *range(2 * least, min(problem.n, LARGEST_COLS) + 1, least)]
    heights = range(4 * FRACTAL, LARGEST_ROWS + 1, 4 * FRACTAL)
    found = [_fitting(problem, target, m, n, each) for m, n in combinations(heights, widths)]
    fitting = [one for one in found if one]
    if not fitting:
        return None
    return min(fitting, key=lambda one: (one.traffic(problem), -one.m * one.n))


def _fitting(problem: Problem, target: Target, m: int, n: int, each: float) -> Strips | None:
    """As many tiles of A as L1 holds beside the panels of B, spread evenly over the rows there are. Tiles at
    an edge, which are not whole, are copied before they are multiplied, and take room once more."""
    if SLOTS * m * n * bytes_of(accumulator_of(problem.dtype)) > target.level_bytes["L0C"]:
        return None
    copies = m + n if problem.m % m or problem.n % n else 0
    room = target.level_bytes["L1"] - problem.k * (SLOTS * n + copies) * each
    most = min(int(room // (m * problem.k * each)), -(-problem.m // m))
    if most < 1:
        return None
    passes = math.ceil(problem.m / (most * m))
    return Strips(m, n, math.ceil(problem.m / (passes * m)))
