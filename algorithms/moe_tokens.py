"""How many tokens each expert of a mixture of experts gets: a parameter, as a graph is fixed before the data.

Each token goes to `active` of the `experts`. `skew` 0 gives each expert equally many; otherwise expert e is
wanted in proportion to (e + 1)^-skew (Zipf), but by no token twice. With few tokens only
min(experts, tokens active) experts are hit, those with the lowest numbers.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from algorithms.tiles import FRACTAL
from npusim.builder import InputError, Problem

Ints = npt.NDArray[np.int64]
ALIGNED = FRACTAL
"""an expert's rows are filled up to whole fractals, in memory as in the cube"""


def tokens_per_expert(tokens: int, experts: int, active: int, skew: float) -> Ints:
    """[experts], most first; `tokens` * `active` in all."""
    wanted = np.arange(1, experts + 1, dtype=np.float64) ** -skew
    share = np.zeros(experts)
    left, open_ = float(tokens * active), np.ones(experts, bool)
    while left > 1e-9 and open_.any():  # what is wanted of full experts goes to the others
        given = np.where(open_, wanted / wanted[open_].sum() * left, 0.0)
        room = np.minimum(given, tokens - share)
        share += room
        left -= room.sum()
        open_ &= share < tokens - 1e-9
    counts = np.floor(share + 1e-6).astype(np.int64)
    rest = tokens * active - int(counts.sum())
    # largest remainders first, lowest numbers among equal ones
    order = np.lexsort((np.arange(experts), np.round(counts - share, 9)))
    order = order[counts[order] < tokens]
    counts[order[:rest]] += 1
    return np.sort(counts)[::-1]


def check_active(problem: Problem) -> None:
    """InputError where a token cannot have so many experts."""
    if problem.active > problem.experts:
        raise InputError(
            f"--active: {problem.active} experts per token, and there are {problem.experts} (--experts)"
        )


def counts_of(problem: Problem) -> Ints:
    """Tokens of each expert. InputError where a token cannot have so many experts."""
    check_active(problem)
    return tokens_per_expert(problem.m, problem.experts, problem.active, problem.skew)


def filled(counts: Ints) -> Ints:
    """Rows of each expert in memory: its tokens, filled up."""
    return -(-counts // ALIGNED) * ALIGNED
