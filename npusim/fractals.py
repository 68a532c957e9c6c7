"""Masks over the 16x16 fractals of matrices, laid over their elements."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]


def elements(mask: Bools, like: Array) -> Bools:
    """A mask [rows, cols] over fractals as one over the elements of `like` [.., rows * edge, cols * edge]."""
    edge = like.shape[-1] // mask.shape[-1]
    return np.kron(mask, np.ones((edge, edge), dtype=bool))


def masked(x: Array, mask: Bools | None) -> Array:
    """`x` with zeros where its mask is false; `x` itself where nothing is masked."""
    runs = () if mask is None else _empty(mask.tobytes(), mask.shape[-1])
    if mask is None or not runs:
        return x
    edge, kept = x.shape[-1] // mask.shape[-1], x.copy()
    for row, first, last in runs:
        kept[..., row * edge : (row + 1) * edge, first * edge : last * edge] = 0
    return kept


@lru_cache(maxsize=256)
def _empty(mask: bytes, cols: int) -> tuple[tuple[int, int, int], ...]:
    """Runs of masked fractals of a mask of so many columns: the row, and from which column to which."""
    runs = []
    for number, row in enumerate(np.frombuffer(mask, dtype=bool).reshape(-1, cols)):
        ends = np.flatnonzero(np.diff(np.concatenate(([True], row, [True])).astype(np.int8)))
        runs += [(number, first, last) for first, last in ends.reshape(-1, 2).tolist()]
    return tuple(runs)
