"""Scales of operands in few bits: the ranges that the steps of an inverse need.

What the powers of A reach is the obstacle. `uniform`: one scale for all operands. `per-tile`: a power of two
for each, chosen before any data are seen from what the tile may hold:
  bounded by 1   L, the band T0, the residual E, the inverses X of diagonal blocks, X L between blocks, and T.
                 For keys of length 1, 0 < beta <= 1 and decays up to 1 each of their elements is
                 beta_i k_i^T S for some S = prod (I - beta k k^T) e^g k_j of norm 1 or less: solving
                 (I + L) u = e_j is running the delta rule from a single write (arXiv 2406.06484).
  by a chunk     powers, and sums on the way to an inverse. No bound is both sure and of use here (that of L^p
                 is binomial in C). Scales reach what a chunk gives whose L is `--scaled-for` in all places:
                 the mean cosine of two keys times beta, without decay.
Beyond the range integers saturate, and are counted. A scale found at run time is not offered: a maximum over
the accumulator would have to go through the vector and scalar units before each exit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from npusim.builder import Options, Unsupported, operand_scale

Matrix = npt.NDArray[np.float64]
TYPICAL = 0.13
"""--scaled-for where it is not given: a mean cosine of 0.3, as generated keys have it, times 0.42, the median
of beta in the gates of a trained 0.8B model, which generated ones follow"""


@dataclass(frozen=True)
class Scaling:
    """How operands of `dtype` are scaled; `unit` is the scale of L and of all that needs no other range."""

    dtype: str
    per_tile: bool
    unit: float
    scaled_for: float

    @classmethod
    def of(cls, dtype: str, largest: float, options: Options) -> Scaling:
        """`largest`: what operands reach if all have one scale."""
        per_tile = options.scaling == "per-tile"
        if options.scaled_for is not None and not per_tile:
            raise Unsupported("--scaled-for: all operands have one scale; use --scaling per-tile, or drop it")
        unit = operand_scale(dtype, 1.0 if per_tile else largest)
        return cls(dtype, per_tile, unit, options.scaled_for or TYPICAL)

    def chunk(self, n: int) -> Matrix:
        """L [n, n] of the chunk that scales are made for."""
        return np.tri(n, k=-1) * self.scaled_for

    def reaching(self, largest: float) -> float:
        """The scale of a tile that holds values up to `largest`. That of integers is at most 1, so that an
        identity can be written at it."""
        if not self.per_tile:
            return self.unit
        scale = operand_scale(self.dtype, max(1.0, largest), floats=True)
        return min(scale, 1.0) if self.unit < 1.0 else scale

    def of_doubling(self, L: Matrix, rounds: int) -> tuple[list[float], list[float]]:
        """The scales of the sums X and the powers Y, before the first and after each round of X <- X + X Y,
        Y <- Y Y, from X = I - L and Y = L L."""
        sums, powers = [np.eye(len(L)) - L], [L @ L]
        for _ in range(rounds if self.per_tile else 0):
            sums.append(sums[-1] + sums[-1] @ powers[-1])
            powers.append(powers[-1] @ powers[-1])
        if not self.per_tile:
            return [self.unit] * (rounds + 1), [self.unit] * (rounds + 1)
        return self._all(sums), self._all(powers)

    def of_horner(self, E: Matrix, steps: int) -> list[float]:
        """The scales of P, from I + E on, before the first and after each step of P <- I + E P."""
        sums = [np.eye(len(E)) + E]
        for _ in range(steps):
            sums.append(np.eye(len(E)) + E @ sums[-1])
        return self._all(sums)

    def _all(self, values: list[Matrix]) -> list[float]:
        return [self.reaching(float(np.abs(value).max())) for value in values]
