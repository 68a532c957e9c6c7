"""Masks over the 16x16 fractals of matrices, laid over their elements."""

from __future__ import annotations

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
    if mask is None or mask.all():
        return x
    edge, kept = x.shape[-1] // mask.shape[-1], x.copy()
    for number, row in enumerate(mask):
        # where runs of masked fractals begin and end
        edges = np.flatnonzero(np.diff(np.concatenate(([True], row, [True])).astype(np.int8)))
        for first, last in edges.reshape(-1, 2).tolist():
            kept[..., number * edge : (number + 1) * edge, first * edge : last * edge] = 0
    return kept
