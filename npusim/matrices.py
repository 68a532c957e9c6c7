"""The matrices to invert: L of a chunk and head, where they stand in a problem, and their exact inverses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from npusim.errors import InputError
from npusim.room import check_room

Float64Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

BLOCK_BYTES = 1 << 22
"""Bound on one temporary array of a batch: small enough to stay in a cache."""

VALUE_BYTES = 40
"""Memory that a value of a matrix takes until its error is known, about: L and T, computed and true."""

ROWS = 16
"""Rows that forward substitution solves between two products with all the rows above."""


@dataclass(frozen=True)
class MatrixBatch:
    """Matrices L [M, C, C], strictly lower triangular, float64, ordered sequence, chunk, head."""

    L: Float64Array
    head: IntArray | None
    """value head of each matrix [M]; None where the matrices belong to no head"""
    total: int
    """matrices of the whole problem, of which these are an evenly spread sample"""
    description: str
    """one line: where they come from"""
    layout: Layout | None = None
    """the sequences they were cut from; None for matrices given as such"""
    stored_keys: bool = False
    """the keys came from a file, too"""


def delta_matrix(k: npt.NDArray[Any], beta: npt.NDArray[Any], g: npt.NDArray[Any]) -> Float64Array:
    """L [..., C, C] float64 of keys k [..., C, D] and gates beta, g [..., C] (g per token, not cumulated).

    L[i, j] = beta_i (k_i . k_j) exp(G_i - G_j) for i > j, else 0, with G = cumsum(g) inside the chunk
    (Gated DeltaNet, arXiv 2412.06464, its UT transform). Only decays, never growths, are exponentiated.
    With g [..., C, D], a gate for each channel of the keys, see `decayed_products`.
    """
    k, g = np.asarray(k, dtype=np.float64), np.asarray(g)
    if g.ndim == k.ndim:
        products = decayed_products(k, k, np.cumsum(g, axis=-2, dtype=np.float64))
        return np.tril(products * np.asarray(beta)[..., :, np.newaxis], -1)
    return _delta_matrix(np.matmul(k, k.swapaxes(-1, -2)), np.asarray(beta), np.asarray(g))


def decayed_products(left: npt.NDArray[Any], k: npt.NDArray[Any], G: npt.NDArray[Any]) -> Float64Array:
    """[..., C, C] float64, sum over d of left[i, d] exp(G[i, d] - G[j, d]) k[j, d] for i >= j, else 0, of
    left, k, G [..., C, D] (Kimi Delta Attention, arXiv 2510.26692)."""
    shape = np.broadcast_shapes(left.shape, k.shape, G.shape)
    result = np.zeros((*shape[:-1], shape[-2]))
    for j in range(shape[-2]):
        decay = np.exp(G[..., j:, :] - G[..., j, np.newaxis, :])
        products = left[..., j:, :] * decay * k[..., j, np.newaxis, :]
        result[..., j:, j] = products.sum(-1)
    return result


def _delta_matrix(gram: Float64Array, beta: npt.NDArray[Any], g: npt.NDArray[Any]) -> Float64Array:
    """L from the keys' products gram = k k^T [..., C, C]."""
    total = np.cumsum(g, axis=-1, dtype=np.float64)
    lower = np.tri(gram.shape[-1], k=-1, dtype=bool)
    decay = np.where(lower, total[..., :, np.newaxis] - total[..., np.newaxis, :], -np.inf)
    np.exp(decay, out=decay)
    decay *= beta[..., :, np.newaxis]
    decay *= gram
    return np.where(lower, decay, 0.0)


@dataclass(frozen=True)
class Layout:
    """Where the matrices of a problem stand: sequences of `lengths` tokens cut into chunks, value heads."""

    lengths: tuple[int, ...]
    chunk: int
    heads: int

    @cached_property
    def first_chunk(self) -> IntArray:
        """Chunks before each sequence, and of all of them: [sequences + 1]."""
        chunks = [0, *(-(-tokens // self.chunk) for tokens in self.lengths)]
        return np.cumsum(np.array(chunks, dtype=np.int64))

    @property
    def total(self) -> int:
        """Matrices of the whole problem."""
        return int(self.first_chunk[-1]) * self.heads

    def places(self, index: IntArray) -> IntArray:
        """(sequence, chunk within it, head) of the matrices numbered `index` [M], head fastest: [M, 3]."""
        slot, head = np.divmod(index, self.heads)
        sequence = np.searchsorted(self.first_chunk, slot, side="right") - 1
        return np.stack([sequence, slot - self.first_chunk[sequence], head], axis=1)

    def tokens(self, sequence: int, chunk: int) -> int:
        """Tokens in a chunk: fewer than the chunk size in the last one of a sequence that ends early."""
        return min(self.chunk, self.lengths[sequence] - chunk * self.chunk)


def spread(total: int, heads: int, samples: int | None) -> IntArray:
    """Ascending numbers of min(samples, total) matrices, spread over all chunks and all heads.

    Matrices are numbered chunk by chunk with the head fastest. None: all of them. With samples >= heads
    every head occurs.
    """
    if samples is not None and samples < 1:
        raise InputError(f"--samples: at least 1 matrix is needed, got {samples}")
    count = total if samples is None else min(samples, total)
    check_room(VALUE_BYTES * count)
    chunks = total // heads
    if count >= chunks * heads:
        return np.arange(count, dtype=np.int64)
    i = np.arange(count, dtype=np.int64)
    # Neighbours in i share a chunk at most ceil(count / chunks) <= heads times, so no pair occurs twice.
    head = i % heads if count >= heads else i * heads // count
    return np.sort(i * chunks // count * heads + head)


Keys = Callable[[int, int, int], npt.NDArray[Any]]
"""(sequence, chunk, key head) -> keys [tokens, D] of a chunk"""
Gates = Callable[[int, int, int], tuple[npt.NDArray[Any], npt.NDArray[Any]]]
"""(sequence, chunk, value head) -> beta [tokens] and g [tokens] or [tokens, D] of a chunk"""


def assemble(places: IntArray, chunk: int, group: int, keys: Keys, gates: Gates) -> Float64Array:
    """L [M, chunk, chunk] at `places` [M, 3]; `group` value heads share a key head.

    A chunk with fewer tokens is padded with zero rows and columns, for which the inverse is the identity.
    Where `gates` gives g [tokens, D], the keys have D channels.
    """
    check_room(VALUE_BYTES * len(places) * chunk**2)
    result = np.empty((len(places), chunk, chunk))
    step = max(1, BLOCK_BYTES // (8 * chunk * chunk))
    for start in range(0, len(places), step):
        some = places[start : start + step]
        shared, which = np.unique(some // [1, 1, group], axis=0, return_inverse=True)
        gram = np.zeros((len(shared), chunk, chunk))
        for place, product in zip(shared.tolist(), gram, strict=True):
            k = np.asarray(keys(*place), dtype=np.float64)
            product[: len(k), : len(k)] = k @ k.T
        beta, g, by_channel = *np.zeros((2, len(some), chunk)), {}
        for row, place in enumerate(some.tolist()):
            one_beta, one_g = gates(*place)
            tokens = len(one_beta)
            beta[row, :tokens] = one_beta
            if one_g.ndim == 1:
                g[row, :tokens] = one_g
            else:
                own = keys(place[0], place[1], place[2] // group)
                by_channel[start + row] = tokens, delta_matrix(own, one_beta, one_g)
        result[start : start + step] = _delta_matrix(gram[which.reshape(-1)], beta, g)
        for row, (tokens, L) in by_channel.items():
            result[row] = 0.0
            result[row, :tokens, :tokens] = L
    return result


def reference_inverse(L: Float64Array) -> Float64Array:
    """(I + L)^-1 [..., C, C] of strictly lower triangular L [..., C, C], by forward substitution in float64.

    Row i is e_i - L[i, :i] T[:i]. No pivoting, whatever the scale of the rows: the error of each element is
    bounded by that of the same sums over absolute values (Higham, Accuracy and Stability, section 8.2).
    Entries beyond the range become inf or NaN without a warning.
    """
    size = L.shape[-1]
    stack = np.asarray(L, dtype=np.float64).reshape(-1, size, size)
    inverse = np.zeros_like(stack)
    step = max(1, BLOCK_BYTES // (8 * size * size))
    with np.errstate(all="ignore"):
        for start in range(0, len(stack), step):
            _substitute(stack[start : start + step], inverse[start : start + step])
    return inverse.reshape(L.shape)


def banded_inverse(L: Float64Array, order: int, block: int) -> Float64Array:
    """T0 [..., C, C] of L: sub-diagonals 0 to order - 1 of (I + L)^-1, inside diagonal blocks of `block`."""
    row, col = np.indices(L.shape[-2:])
    kept = (row - col < order) & (row // block == col // block)
    return np.where(kept, reference_inverse(L), 0.0)


def _substitute(L: Float64Array, T: Float64Array) -> None:
    """Write (I + L)^-1 of L [M, C, C] into the zeros T [M, C, C]."""
    size = L.shape[-1]
    for first in range(0, size, ROWS):
        last = min(first + ROWS, size)
        T[:, first:last, :first] = -(L[:, first:last, :first] @ T[:, :first, :first])
        for i in range(first, last):
            T[:, i, i] = 1.0
            T[:, i, :i] -= (L[:, i, np.newaxis, first:i] @ T[:, first:i, :i])[:, 0]
