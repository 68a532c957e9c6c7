"""Synthetic problems: correlated L2-normalised keys and the gates of `npusim.gates`, seeded.

Keys k = normalise(sqrt(rho) c + sqrt(1 - rho) n), with a unit vector c common to all tokens of a key head
and a fresh one n per token, have a mean cosine of about rho. The default rho = 0.3 makes the hardest heads as
hard as real ones: a row of L sums to up to 127 * 0.3 = 38 at C = 128 where beta is near 1 and nothing decays,
and ||L||_inf = 37.3 was reported for the first layer of a trained 27B model (arXiv 2605.21325). A trained
model's keys are correlated because they leave a convolution and a SiLU, whose outputs are mostly positive.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from npusim.errors import InputError
from npusim.gates import GateModel, gate_model
from npusim.matrices import Keys, Layout, MatrixBatch, assemble, spread
from npusim.problem import KEY_CORRELATION, Decay

Float64Array = npt.NDArray[np.float64]

HEAD_DIM = 128
MATRIX_HEADS = 16
"""Heads over which a problem given as a number of matrices cycles."""

COMMON, FRESH = 11, 12
"""Purposes of a random stream (see npusim.gates)."""


def generate(
    chunk: int,
    sequences: Sequence[int],
    heads: int,
    key_heads: int | None = None,
    head_dim: int = HEAD_DIM,
    samples: int | None = 64,
    seed: int = 0,
    key_correlation: float = KEY_CORRELATION,
    gates: str | GateModel = "qwen3.5",
    decay: Decay = "head",
) -> MatrixBatch:
    """min(samples, total) matrices L of sequences of so many tokens each (samples None: all of them).

    `heads` value heads share `key_heads` key heads (None: as many). The matrices are spread over all
    sequences, chunks and heads, and each is the same whichever others are picked.
    """
    key_heads = heads if key_heads is None else key_heads
    _check(chunk, sequences, heads, key_heads)
    layout = Layout(tuple(sequences), chunk, heads)
    group = heads // key_heads
    return _batch(layout, layout.total, group, samples, seed, head_dim, key_correlation, gates, decay)


def generate_matrices(
    matrices: int,
    chunk: int,
    head_dim: int = HEAD_DIM,
    samples: int | None = 64,
    seed: int = 0,
    key_correlation: float = KEY_CORRELATION,
    gates: str | GateModel = "qwen3.5",
    decay: Decay = "head",
) -> MatrixBatch:
    """min(samples, matrices) matrices L of a problem that only counts them: 16 heads in turn."""
    if matrices < 1:
        raise InputError(f"--matrices: at least 1 is needed, got {matrices}")
    _check(chunk, [1], MATRIX_HEADS, MATRIX_HEADS)
    layout = Layout((-(-matrices // MATRIX_HEADS) * chunk,), chunk, MATRIX_HEADS)
    return _batch(layout, matrices, 1, samples, seed, head_dim, key_correlation, gates, decay)


def key_source(layout: Layout, head_dim: int, key_correlation: float, seed: int) -> Keys:
    """Generated keys [tokens, head_dim] of any chunk and key head of `layout`.

    The common direction depends on (seed, key head), the rest on (seed, sequence, chunk, key head).
    """
    if head_dim < 1:
        raise InputError(f"--head-dim: at least 1 is needed, got {head_dim}")
    if not 0 <= key_correlation < 1:
        raise InputError(f"--key-correlation: must be at least 0 and below 1, got {key_correlation}")
    if seed < 0:
        raise InputError(f"--seed: must not be negative, got {seed}")

    def keys(sequence: int, chunk: int, key_head: int) -> Float64Array:
        common = np.random.default_rng([seed, COMMON, key_head]).standard_normal(head_dim)
        rng = np.random.default_rng([seed, FRESH, sequence, chunk, key_head])
        fresh = rng.standard_normal((layout.tokens(sequence, chunk), head_dim))
        shared, own = math.sqrt(key_correlation), math.sqrt(1 - key_correlation)
        return _normalise(shared * _normalise(common) + own * _normalise(fresh))

    return keys


def drawn_gates(model: str, decay: Decay) -> str:
    """What was drawn, in words."""
    return {
        "head": f"{model} gates",
        "channel": f"{model} gates per channel",
        "none": f"beta of {model}, no decay",
    }[decay]


def _normalise(x: Float64Array) -> Float64Array:
    """x [..., D] with rows of length 1."""
    normalised: Float64Array = x / np.linalg.norm(x, axis=-1, keepdims=True)
    return normalised


def _check(chunk: int, sequences: Sequence[int], heads: int, key_heads: int) -> None:
    if chunk < 1:
        raise InputError(f"--chunk: at least 1 is needed, got {chunk}")
    if not len(sequences) or min(sequences) < 1:
        raise InputError("--seq-len: every sequence needs at least 1 token, and there must be one")
    if min(heads, key_heads) < 1 or heads % key_heads:
        raise InputError(f"--heads: {heads} value heads are no multiple of {key_heads} key heads")


def _batch(
    layout: Layout,
    total: int,
    group: int,
    samples: int | None,
    seed: int,
    head_dim: int,
    key_correlation: float,
    gates: str | GateModel,
    decay: Decay,
) -> MatrixBatch:
    model = gate_model(gates) if isinstance(gates, str) else gates
    keys = key_source(layout, head_dim, key_correlation, seed)
    places = layout.places(spread(total, layout.heads, samples))

    def drawn(sequence: int, chunk: int, head: int) -> tuple[Float64Array, Float64Array]:
        beta, g = model.draw_as(decay, seed, sequence, chunk, head, layout.chunk, head_dim)
        tokens = layout.tokens(sequence, chunk)
        return beta[:tokens], g[:tokens]

    return MatrixBatch(
        L=assemble(places, layout.chunk, group, keys, drawn),
        head=places[:, 2].copy(),
        total=total,
        description=f"generated: {drawn_gates(model.name, decay)}, keys of dimension {head_dim} and "
        f"correlation {key_correlation:g}, seed {seed}",
    )
