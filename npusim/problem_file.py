"""Problem files of triangular matrices: L, or the keys and gates it is made of. Every fault is one InputError
naming file and array.

A problem file holds either `L` [matrices, C, C], strictly lower triangular, or `beta` and `g` [tokens, heads]
(g per token, not cumulated) with `k` [tokens, key heads, D] or with keys generated around the gates, and
optionally `cu_seqlens` [sequences + 1], the token at which each sequence starts and the last one ends.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from npusim.array_file import HEADS, KEY_HEADS, SEQUENCES, TOKENS, ArrayFile, blocks
from npusim.errors import InputError
from npusim.generate import HEAD_DIM, key_source
from npusim.matrices import VALUE_BYTES, Keys, Layout, MatrixBatch, assemble, spread
from npusim.problem import KEY_CORRELATION
from npusim.room import check_room

Array = npt.NDArray[Any]
Span = Callable[[int, int], slice]
"""(sequence, chunk within it) -> its tokens"""

AXES = {
    "L": (("matrices", "matrix"), ("C", "row"), ("C", "column")),
    "k": (TOKENS, KEY_HEADS, ("D", "dimension")),
    "beta": (TOKENS, HEADS),
    "g": (TOKENS, HEADS),
    "cu_seqlens": SEQUENCES,
}
OTHER_NAMES = ("q", "v", "T", "initial_state")
"""Arrays of the other kernels and results, which may stand in the same file."""

UNIT_NORM_TOLERANCE = 0.02
"""What rounding to fp8 may do to the length of a normalised key; beyond, the description says so."""


def read_matrices(
    path: str | os.PathLike[str],
    chunk: int = 64,
    *,
    samples: int | None = None,
    seed: int = 0,
    key_heads: int | None = None,
    head_dim: int | None = None,
    key_correlation: float = KEY_CORRELATION,
) -> MatrixBatch:
    """The matrices of a problem file, or `samples` of them spread over it. InputError if it is not one.

    With `L` the chunk follows from the file. Otherwise `chunk` cuts the sequences, and a last short chunk
    is padded; key_heads (None: one per head), head_dim (None: 128), key_correlation and seed describe
    the keys to generate where the file has none. Keys of a file are taken as they are, normalised or not.
    """
    file = _File(Path(path))
    if "L" in file.arrays:
        return _read_triangles(file, samples)
    if chunk < 1:
        raise InputError(f"--chunk: at least 1 is needed, got {chunk}")
    beta, g = file.gates()
    layout = Layout(file.lengths(len(beta)), chunk, beta.shape[1])
    span = _spans(layout)

    def gates(sequence: int, index: int, head: int) -> tuple[Array, Array]:
        tokens = span(sequence, index)
        return beta[tokens, head], g[tokens, head]

    if "k" in file.arrays:
        k = file.keys(layout.heads, len(beta), key_heads, head_dim)
        key_heads, origin = k.shape[1], f"keys of {k.shape[1]} heads{_norms(k)}"
        keys = _stored_keys(k, span)
    else:
        key_heads = file.key_heads(layout.heads, key_heads)
        head_dim = head_dim or HEAD_DIM
        keys = key_source(layout, head_dim, key_correlation, seed)
        origin = f"keys generated (dimension {head_dim}, correlation {key_correlation:g}, seed {seed})"
    places = layout.places(spread(layout.total, layout.heads, samples))
    with np.errstate(all="ignore"):
        L = assemble(places, chunk, layout.heads // key_heads, keys, gates)
    if not np.isfinite(L).all():
        file.fail("k" if "k" in file.arrays else "g", "values too large: L exceeds the range of float64")
    return MatrixBatch(
        L=L,
        head=places[:, 2].copy(),
        total=layout.total,
        description=f"{file.path}: beta, g of {len(beta)} tokens and {layout.heads} heads, {origin}",
        layout=layout,
        stored_keys="k" in file.arrays,
    )


class _File(ArrayFile):
    """The arrays of one problem file."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, AXES, also=OTHER_NAMES)
        if "L" in self.arrays and {"k", "beta", "g"} & set(self.arrays):
            self.fail("L", "either L, or k, beta and g describe the problem: remove one of them")
        if "L" in self.arrays and "cu_seqlens" in self.arrays:
            self.fail("cu_seqlens", "cuts the tokens of k, beta and g, and L has none: remove it")
        if "L" not in self.arrays:
            self.need(("beta", "g"), "L [matrices, C, C], or k, beta and g")

    def keys(self, heads: int, tokens: int, key_heads: int | None, head_dim: int | None) -> Array:
        """k [tokens, key heads, D] for gates of so many heads and tokens, and of these sizes if given."""
        k = self.numbers("k")
        if len(k) != tokens:
            self.fail("k", f"{len(k)} tokens, but beta and g have {tokens}: make them equal")
        if heads % k.shape[1]:
            self.fail("k", f"{k.shape[1]} key heads: the {heads} heads of beta and g are no multiple of that")
        for wanted, there, option in (
            (key_heads, k.shape[1], "--key-heads"),
            (head_dim, k.shape[2], "--head-dim"),
        ):
            if wanted not in (None, there):
                self.fail("k", f"shape {k.shape} differs from {option} {wanted}: drop this option")
        return k

    def key_heads(self, heads: int, wanted: int | None) -> int:
        """Key heads to generate keys for, by default one for each of the gates' heads."""
        if wanted is not None and (wanted < 1 or heads % wanted):
            self.fail("beta", f"{heads} heads are no multiple of {wanted} key heads (--key-heads)")
        return wanted or heads


def _read_triangles(file: _File, samples: int | None) -> MatrixBatch:
    """The batch of a file with L."""
    stored = file.numbers("L")
    count, rows, columns = stored.shape
    if rows != columns:
        file.fail("L", f"shape {stored.shape}: the matrices must be square, [matrices, C, C]")
    upper = np.tri(rows, dtype=bool).T
    remedy = "L must be strictly lower triangular (store L, not I + L; transpose an upper triangle)"
    for start, block in blocks(stored):
        file.fail_at("L", (block != 0) & upper, remedy, start)
    picked = spread(count, 1, samples)
    check_room(VALUE_BYTES * len(picked) * rows * columns)
    with np.errstate(all="ignore"):
        L = stored[picked].astype(np.float64)
    if not np.isfinite(L).all():
        file.fail("L", f"dtype {stored.dtype}: values exceed the range of float64")
    return MatrixBatch(L, None, count, f"{file.path}: L of {count} matrices {rows} x {rows}, {stored.dtype}")


def _spans(layout: Layout) -> Span:
    """The tokens of each chunk in a file that holds the sequences one after another."""
    starts = np.cumsum([0, *layout.lengths]).tolist()

    def span(sequence: int, index: int) -> slice:
        first = starts[sequence] + index * layout.chunk
        return slice(first, first + layout.tokens(sequence, index))

    return span


def _stored_keys(k: Array, span: Span) -> Keys:
    return lambda sequence, index, key_head: k[span(sequence, index), key_head]


def _norms(k: Array) -> str:
    """A remark for keys [tokens, key heads, D] that are not L2-normalised; zero keys (padding) are fine."""
    with np.errstate(all="ignore"):
        norms = np.linalg.norm(k.astype(np.float64), axis=-1)
    norms = norms[norms > 0]
    if not norms.size or np.abs(norms - 1).max() <= UNIT_NORM_TOLERANCE:
        return ""
    return f" (not normalised: lengths {norms.min():.3g} to {norms.max():.3g})"
