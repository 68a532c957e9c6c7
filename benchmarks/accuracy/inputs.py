"""What inverses are judged on: drawn layers, captured gates, and matrices made to be hard."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from npusim.generate import key_source
from npusim.inputs import delta_matrix, read_matrices, reference_inverse
from npusim.layer_error import VALUE_COLUMNS, LayerProbe
from npusim.matrices import Layout
from npusim.memo import Memo
from npusim.metrics import Errors, compare
from npusim.problem import Problem
from npusim.settings import NumericsSettings

Array = npt.NDArray[Any]

CORRELATIONS = (0.3, 0.6)
"""of generated keys: as npusim draws them by default, and twice that"""
TOKENS, HEADS = 256, 16
"""of a generated layer; with chunks of 256, which take longest, half of the heads"""
ALIKE = 0.99
"""correlation of keys, and beta, of chunks whose tokens say nearly the same"""
ROW_SUM = 37.3
"""||L||_inf in the first layer of a trained 27B model (arXiv 2605.21325)"""
FEW = 4
"""matrices of a hard set: they hardly differ"""
RUN = 20
"""tokens of a chunk that have the same key, as where a text repeats itself"""
RUN_KEYS, RUN_BETA = 0.05, 0.9
"""correlation of the other keys, and beta of all"""
MEMO_BYTES = 2 << 30
"""all values of a kernel on all sets: with fewer they would be gone before the next kernel asks for them"""


@dataclass(frozen=True)
class InputSet:
    """L [M, C, C] float64; the `probe` it belongs to, where there is one, knows the layer around it."""

    name: str
    L: Array
    probe: LayerProbe | None = None


@dataclass
class Stack:
    """All sets of one chunk size, one after another, so that one execution serves all."""

    sets: tuple[InputSet, ...]
    _stored: Array = field(default_factory=lambda: np.zeros(0))
    _truth: Array = field(default_factory=lambda: np.zeros(0))
    _memo: tuple[str, Memo] = field(default_factory=lambda: ("", Memo()))

    @cached_property
    def L(self) -> Array:
        return np.concatenate([one.L for one in self.sets])

    def memo(self, named: str) -> Memo:
        """What kernels of the format `named` have computed of L: one format at a time, for formats share
        nothing, and this takes memory."""
        if self._memo[0] != named:
            self._memo = named, Memo(MEMO_BYTES)
        return self._memo[1]

    def split(self, x: Array) -> dict[str, Array]:
        """Of x [all M, ..] the part of each set."""
        ends = np.cumsum([len(one.L) for one in self.sets])[:-1]
        return dict(zip((one.name for one in self.sets), np.split(x, ends), strict=True))

    def errors(self, T: Array, stored: Array) -> dict[str, Errors]:
        """Of each set, T [all M, C, C] against the inverse of L as the kernel `stored` it."""
        if not np.array_equal(stored, self._stored):
            self._stored, self._truth = stored, reference_inverse(stored.astype(np.float64))
        truths = self.split(self._truth)
        return {name: compare(part, truths[name]) for name, part in self.split(T).items()}


@lru_cache(maxsize=1)
def stack(chunk: int, gates: tuple[Path, ...]) -> Stack:
    """All sets at a chunk size, with the captured gates of these files."""
    made = [drawn(chunk, correlation) for correlation in CORRELATIONS]
    made += [captured(chunk, path) for path in gates]
    made += [ones(chunk), alike(chunk), run(chunk, min(RUN, chunk - 4))]
    if chunk - 1 > ROW_SUM:  # no entry is above 1
        made.append(row_sums(chunk))
    return Stack(tuple(made))


def drawn(chunk: int, correlation: float) -> InputSet:
    """A layer of qwen3.5's kinds of heads, ten of sixteen of which hardly decay."""
    heads = HEADS // 2 if chunk == 256 else HEADS
    problem = Problem(chunk=chunk, seq_len=TOKENS, heads=heads, value_dim=VALUE_COLUMNS)
    probe = LayerProbe.drawn(problem, NumericsSettings(key_correlation=correlation))
    return InputSet(f"keys {correlation:g}", probe.L, probe)


def captured(chunk: int, path: Path) -> InputSet:
    """Gates of a trained model, with generated keys, for none were published."""
    samples = min(32, max(8, 2048 // chunk))
    batch = read_matrices(path, chunk, samples=samples, key_correlation=CORRELATIONS[0])
    return InputSet(path.stem.removeprefix("gates_"), batch.L)


def ones(chunk: int) -> InputSet:
    """L one everywhere below the diagonal: the same key at every token, beta 1, no decay."""
    return InputSet("all ones", np.tril(np.ones((1, chunk, chunk)), -1))


def alike(chunk: int) -> InputSet:
    return InputSet(f"keys {ALIKE:g}", _undecayed(_keys(chunk, ALIKE), ALIKE))


def row_sums(chunk: int) -> InputSet:
    """Keys correlated as much as makes the last row sum to about ROW_SUM, scaled to it."""
    L = _undecayed(_keys(chunk, ROW_SUM / (chunk - 1) / ALIKE), ALIKE)
    return InputSet(f"row sums {ROW_SUM:g}", L * (ROW_SUM / np.abs(L).sum(-1).max(-1))[:, None, None])


def run(chunk: int, length: int) -> InputSet:
    """Keys that hardly resemble each other, but for `length` in the middle that are one key."""
    k = _keys(chunk, RUN_KEYS)
    first = (chunk - length) // 2
    k[:, first : first + length] = k[:, first, np.newaxis]
    return InputSet(f"run of {RUN}", _undecayed(k, RUN_BETA))


def _keys(chunk: int, correlation: float) -> Array:
    """[FEW heads, C, 128]."""
    keys = key_source(Layout((chunk,), chunk, FEW), 128, correlation, seed=0)
    return np.stack([keys(0, 0, head) for head in range(FEW)])


def _undecayed(k: Array, beta: float) -> Array:
    """L of keys k [heads, C, D] with the same beta everywhere and no decay."""
    return delta_matrix(k, np.full(k.shape[:2], beta), np.zeros(k.shape[:2]))
