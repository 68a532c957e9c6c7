"""Files of sequences for gated delta nets. Every fault is one InputError naming file and array."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from npusim.errors import InputError, did_you_mean
from npusim.npz import read_npz

Array = npt.NDArray[Any]
AXES = {
    "q": "[tokens, key heads, Dk]",
    "k": "[tokens, key heads, Dk]",
    "v": "[tokens, heads, Dv]",
    "g": "[tokens, heads]",
    "beta": "[tokens, heads]",
    "initial_state": "[sequences, heads, Dk, Dv]",
    "cu_seqlens": "[sequences + 1]",
}
NEEDED = ("q", "k", "v", "g", "beta")


@dataclass(frozen=True)
class Sequence:
    """q, k [tokens, key heads, Dk], v [tokens, heads, Dv], g, beta [tokens, heads] of sequences that begin
    and end at `cu_seqlens`; initial_state [sequences, heads, Dk, Dv] or None."""

    q: Array
    k: Array
    v: Array
    g: Array
    beta: Array
    cu_seqlens: tuple[int, ...]
    initial_state: Array | None = None


def read_sequences(path: Path) -> Sequence:
    """The sequences of a file. InputError, with the array and the remedy, where it does not hold any."""
    return _File(path, read_npz(path)).sequences()


class _File:
    """The arrays of one file, each held against the others."""

    def __init__(self, path: Path, arrays: dict[str, Array]) -> None:
        self.path, self.arrays = path, arrays
        for name, array in arrays.items():
            if name not in AXES:
                self.fail(name, f"unknown array: {did_you_mean(name, AXES)}")
            if array.dtype.kind not in "fiu":
                self.fail(name, f"dtype {array.dtype}: real numbers are needed, such as float32")
            if array.ndim != AXES[name].count(",") + 1 or not array.size:
                self.fail(name, f"shape {array.shape}: {AXES[name]} is needed")
            bad = np.argwhere(~np.isfinite(array))
            if len(bad):
                where = tuple(int(i) for i in bad[0])
                self.fail(name, f"{array[where]} at {list(where)}: every value must be finite")
        missing = [name for name in NEEDED if name not in arrays]
        if missing:
            held = ", ".join(arrays) or "none"
            raise InputError(
                f"{path}: no array {' or '.join(missing)} (arrays in it: {held}): store "
                + ", ".join(f"{name} {AXES[name]}" for name in NEEDED)
            )

    def fail(self, name: str, message: str) -> NoReturn:
        raise InputError(f"{self.path}: array {name}: {message}")

    def sequences(self) -> Sequence:
        q, k, v, g, beta = (self.arrays[name] for name in NEEDED)
        tokens, heads, _ = v.shape
        self.shaped("q", k.shape)
        self.shaped("k", (tokens, *k.shape[1:]))
        for name in ("g", "beta"):
            self.shaped(name, (tokens, heads))
        if heads % k.shape[1]:
            self.fail("k", f"{k.shape[1]} key heads: the {heads} heads of v are no multiple of that")
        self.within("g", g <= 0, "must not be positive: it is the logarithm of a decay")
        self.within("beta", (beta >= 0) & (beta <= 1), "must lie in 0 .. 1")
        ends = self.ends(tokens)
        state = self.arrays.get("initial_state")
        if state is not None:
            self.shaped("initial_state", (len(ends) - 1, heads, k.shape[2], v.shape[2]))
        return Sequence(q, k, v, g, beta, ends, state)

    def shaped(self, name: str, wanted: tuple[int, ...]) -> None:
        found = self.arrays[name].shape
        if found != wanted:
            self.fail(name, f"shape {found}: beside the other arrays {wanted} is needed, {AXES[name]}")

    def within(self, name: str, good: npt.NDArray[np.bool_], message: str) -> None:
        if not good.all():
            where = tuple(int(i) for i in np.argwhere(~good)[0])
            self.fail(name, f"{self.arrays[name][where]} at {list(where)}: {message}")

    def ends(self, tokens: int) -> tuple[int, ...]:
        found = self.arrays.get("cu_seqlens", np.array([0, tokens]))
        steps = np.diff(found)
        if (
            found.dtype.kind not in "iu"
            or len(found) < 2
            or found[0]
            or found[-1] != tokens
            or (steps <= 0).any()
        ):
            self.fail("cu_seqlens", f"must be whole numbers that start at 0, increase and end at {tokens}")
        return tuple(int(end) for end in found)
