"""How a matrix product is cut: the tiles of C, the steps of k, and the bands in which tiles are taken."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from algorithms.tiles import FRACTAL, edges, fit
from npusim.builder import InputError, Options, Problem, Target, accumulator_of, bytes_of

STEP_BYTES = 128
"""of the terms of a step, one row: long enough that products outweigh their start-up"""
STEPS = 4
"""steps of k in one chunk of L1"""
LARGEST_TILE = (256, 512)
"""rows and columns beyond which nothing is gained"""
BALANCE = 94
"""products of 16 terms that a core of A2 does while it loads one row or column of them: 4096 multiply-adds
and 87 bytes a cycle. Only the choice of tiles rests on it"""
LINE_BYTES = 512
"""a shorter row of B takes as long as one that fills a line of L2"""
NEAR = 1.05
"""tiles within 5 % of the least time count as equal"""


@dataclass(frozen=True)
class Tiling:
    """A tile of C is m x n; a step multiplies k terms; a chunk of L1 holds `steps` of them."""

    m: int
    n: int
    k: int
    steps: int
    slots: int

    def bytes(self, dtype: str) -> dict[str, float]:
        """Room taken at each level."""
        each, chunk = bytes_of(dtype) * self.slots, self.k * self.steps
        return {
            "L1": (self.m + self.n) * chunk * each,
            "L0A": self.m * self.k * each,
            "L0B": self.k * self.n * each,
            "L0C": self.m * self.n * bytes_of(accumulator_of(dtype)),
        }

    def time(self, problem: Problem, cores: int) -> float:
        """Relative, where products and loads overlap; tiles of each size are dealt in rounds of their own."""
        total, line = 0.0, LINE_BYTES / bytes_of(problem.dtype)
        for rows in edges(problem.m, self.m):
            for cols in edges(problem.n, self.n):
                rounds = -(-rows.count * cols.count // cores)
                loaded = rows.size + max(cols.size, line)
                total += rounds * max(rows.size * cols.size, BALANCE * loaded)
        return total


def tiling(problem: Problem, options: Options, target: Target) -> Tiling:
    """The tiles of least time among those that fit, then the longest steps and chunks; what the options state
    stays. The graph's own check refuses what never fits."""
    for name in ("m", "n", "k"):
        given, limit = getattr(options, f"tile_{name}"), getattr(problem, name)
        if given and given > limit:
            raise InputError(f"--tile-{name}: {given} is more than --{name} {limit}; use at most that")
    usual = min(problem.k, max(FRACTAL, int(STEP_BYTES / bytes_of(problem.dtype))))
    k, slots = options.tile_k or usual, options.slots or 2
    least = options.tile_k or min(problem.k, FRACTAL)
    tiles = [
        Tiling(m, n, least, 1, slots)
        for m in _sizes(options.tile_m, problem.m, LARGEST_TILE[0])
        for n in _sizes(options.tile_n, problem.n, LARGEST_TILE[1])
    ]
    fitting = [tile for tile in tiles if fit(tile.bytes(problem.dtype), target)] or tiles[:1]
    times = [tile.time(problem, target.groups) for tile in fitting]
    near = [tile for tile, time in zip(fitting, times, strict=True) if time <= NEAR * min(times)]
    each = bytes_of(problem.dtype)
    chosen = max(near, key=lambda tile: (tile.n * each % LINE_BYTES == 0, tile.m * tile.n, tile.n))
    # where L0 is a name for L1, windows of a chunk would be copied for nothing
    most = 1 if target.same_memory("L1", "L0A") else min(STEPS, -(-problem.k // k))
    grown = [replace(chosen, k=max(least, k // half), steps=1) for half in (1, 2, 4, 8)]
    grown = [tile for tile in grown if fit(tile.bytes(problem.dtype), target)] or [chosen]
    longer = [replace(grown[0], steps=steps) for steps in (most, most // 2, 1) if steps]
    return next((tile for tile in longer if fit(tile.bytes(problem.dtype), target)), grown[0])


def _sizes(given: int | None, size: int, largest: int) -> list[int]:
    """Rows or columns a tile may have: as stated, or whole fractals, or all there are."""
    if given:
        return [given]
    return [min(size, each) for each in range(FRACTAL, min(largest, size + FRACTAL - 1) + 1, FRACTAL)]


def band(rows: int, t: Tiling, options: Options, target: Target) -> int:
    """Rows of tiles that are taken together, column by column, so that the cores at work at one time share
    strips of A and of B: those of a square part of C. A divisor of `rows`, so that no band is short."""
    wanted = options.swizzle or (target.groups * t.n / t.m) ** 0.5
    divisors = [each for each in range(1, rows + 1) if rows % each == 0]
    return min(divisors, key=lambda each: abs(math.log(each / wanted)))
