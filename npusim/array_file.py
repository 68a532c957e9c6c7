"""The arrays of an .npz file, each held against the axes it should have.

Every fault is one InputError that names file and array.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from npusim.errors import InputError, did_you_mean
from npusim.npz import read_npz

Array = npt.NDArray[Any]
Axes = Mapping[str, tuple[tuple[str, str], ...]]
"""of each array, each axis as it stands in a shape, and how one place along it is called"""

TOKENS, HEADS, KEY_HEADS = ("tokens", "token"), ("heads", "head"), ("key heads", "key head")
SEQUENCES = (("sequences + 1", "entry"),)
BLOCK_BYTES = 1 << 22
"""Bound on one temporary array while values are looked at."""


class ArrayFile:
    """Arrays by name; each is checked as it is asked for. `also`: names that may stand in it, too."""

    def __init__(self, path: Path, axes: Axes, also: Collection[str] = ()) -> None:
        self.path, self.axes = path, axes
        self.arrays = read_npz(path)
        for name in self.arrays:
            if name not in (*axes, *also):
                self.fail(name, f"unknown array: {did_you_mean(name, axes)}")

    def fail(self, name: str, message: str) -> NoReturn:
        raise InputError(f"{self.path}: array {name}: {message}")

    def fail_at(self, name: str, mask: npt.NDArray[np.bool_], message: str, start: int = 0) -> None:
        """Refuse the first value of array `name` that `mask`, which begins at `start`, marks, if any."""
        if mask.any():
            first, *rest = (int(i) for i in np.unravel_index(int(mask.argmax()), mask.shape))
            where = (start + first, *rest)
            place = ", ".join(f"{axis[1]} {i}" for axis, i in zip(self.axes[name], where, strict=True))
            self.fail(name, f"{self.arrays[name][where]} at {place}: {message}")

    def need(self, names: Collection[str], store: str) -> None:
        """Refuse the file if it lacks one of `names`; `store` says what belongs into it."""
        missing = [name for name in names if name not in self.arrays]
        if missing:
            held = ", ".join(self.arrays) or "none"
            raise InputError(
                f"{self.path}: no array {' or '.join(missing)} (arrays in it: {held}): store {store}"
            )

    def shape(self, name: str) -> str:
        """The axes that array `name` should have: '[tokens, heads]'."""
        return f"[{', '.join(axis[0] for axis in self.axes[name])}]"

    def numbers(self, name: str) -> Array:
        """Array `name` as stored: real and finite, with the axes it should have and none of them empty."""
        array, axes = self.arrays[name], self.shape(name)
        if array.dtype.kind not in "fiu":
            self.fail(name, f"dtype {array.dtype}: real numbers are needed, such as float32")
        if array.ndim != len(self.axes[name]):
            self.fail(name, f"shape {array.shape}: {len(self.axes[name])} axes are needed, {axes}")
        if array.size == 0:
            self.fail(name, f"shape {array.shape}: is empty, {axes} must hold values")
        for start, block in blocks(array):
            self.fail_at(name, ~np.isfinite(block), "every value must be finite", start)
        return array

    def gates(self) -> tuple[Array, Array]:
        """beta in [0, 1] and g <= 0, [tokens, heads] each."""
        return self.beta(), self.decays()

    def beta(self) -> Array:
        """beta in [0, 1], [tokens, heads]."""
        beta = self.numbers("beta")
        self.fail_at("beta", (beta < 0) | (beta > 1), "must lie in 0..1, after the sigmoid")
        return beta

    def decays(self) -> Array:
        """g <= 0, [tokens, heads] as beta, or where its axes say so with a further one."""
        beta, g = self.numbers("beta"), self.numbers("g")
        if beta.shape != g.shape[:2]:
            self.fail("g", f"shape {g.shape} differs from that of beta, {beta.shape}: make them equal")
        self.fail_at("g", g > 0, "must be <= 0, the logarithm of a decay per token")
        return g

    def lengths(self, tokens: int) -> tuple[int, ...]:
        """Tokens of each sequence; one sequence of all `tokens` without cu_seqlens."""
        if "cu_seqlens" not in self.arrays:
            return (tokens,)
        ends = self.numbers("cu_seqlens")
        if ends.dtype.kind not in "iu":
            self.fail("cu_seqlens", f"dtype {ends.dtype}: whole numbers are needed, such as int64")
        steps = np.diff(ends.astype(np.int64))
        if len(ends) < 2 or ends[0] != 0 or ends[-1] != tokens or (steps <= 0).any():
            self.fail("cu_seqlens", f"must start at 0, increase and end at the {tokens} tokens of beta and g")
        return tuple(steps.tolist())


def blocks(array: Array) -> Iterator[tuple[int, Array]]:
    """The array cut along its first axis into views of bounded size, each with its first index."""
    step = max(1, BLOCK_BYTES // max(1, array[:1].size * 8))
    return ((start, array[start : start + step]) for start in range(0, len(array), step))
