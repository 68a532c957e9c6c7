"""How sure a ranking is: numbers of a profile that are not documented are drawn from their ranges.

Times follow to first order from their slopes (npusim.calibration.slopes): t + sum of slope * change. All
contenders meet the same draws, so that what they share does not tell them apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from npusim.calibration.parameters import spread
from npusim.machine import Evidence, Machine, Quantity, quantities

DRAWS = 2000
SEED = 0


def spread_of(path: str, number: Quantity[Any]) -> float:
    """The standard deviation of the logarithm of a number: of a fitted one by its standard error, of an
    assumed one, or of a fit without an error, by how far documents on such numbers disagree; else 0."""
    if number.evidence not in (Evidence.assumed, Evidence.fitted) or not number.value:
        return 0.0
    error = number.fitted.standard_error if number.fitted else None
    share = spread(path) if error is None else error / abs(float(number.value))
    return math.sqrt(math.log1p(share**2))


def winning_share(machine: Machine, some: Sequence[tuple[float, Mapping[str, float]]]) -> list[float]:
    """The share of the draws in which each of `some`, (time in us, slopes by path), is the fastest."""
    known = quantities(machine)
    doubtful = {path: own for path, one in known.items() if (own := spread_of(path, one))}
    paths = [path for path in doubtful if any(path in slopes for _, slopes in some)]
    if not paths:
        first = min(range(len(some)), key=lambda number: some[number][0])
        return [float(number == first) for number in range(len(some))]
    sigma = np.array([doubtful[path] for path in paths])
    value = np.array([float(known[path].value) for path in paths])
    normal = np.random.default_rng(SEED).standard_normal((DRAWS, len(paths)))
    change = value * np.expm1(sigma * normal)
    times = [time + change @ np.array([slopes.get(path, 0.0) for path in paths]) for time, slopes in some]
    winner = np.argmin(np.stack(times), axis=0)
    return [float(np.mean(winner == number)) for number in range(len(some))]
