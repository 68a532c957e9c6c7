"""Files of sequences for gated delta nets: q, k, v, g, beta, and perhaps cu_seqlens and initial_state."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from npusim.array_file import HEADS, KEY_HEADS, SEQUENCES, TOKENS, ArrayFile

Array = npt.NDArray[Any]
KEYS = (TOKENS, KEY_HEADS, ("Dk", "dimension"))
AXES = {
    "q": KEYS,
    "k": KEYS,
    "v": (TOKENS, HEADS, ("Dv", "dimension")),
    "g": (TOKENS, HEADS),
    "beta": (TOKENS, HEADS),
    "initial_state": (("sequences", "sequence"), HEADS, ("Dk", "row"), ("Dv", "column")),
    "cu_seqlens": SEQUENCES,
}
NEEDED = ("q", "k", "v", "g", "beta")


@dataclass(frozen=True)
class Sequence:
    """q, k [tokens, key heads, Dk], v [tokens, heads, Dv], g, beta [tokens, heads] of sequences of `lengths`
    tokens one after another; initial_state [sequences, heads, Dk, Dv] or None."""

    q: Array
    k: Array
    v: Array
    g: Array
    beta: Array
    lengths: tuple[int, ...]
    initial_state: Array | None = None

    @property
    def cu_seqlens(self) -> tuple[int, ...]:
        """Where each sequence begins, and where the last one ends."""
        return (0, *np.cumsum(self.lengths).tolist())


def read_sequences(path: Path) -> Sequence:
    """The sequences of a file. InputError, with the array and the remedy, where it does not hold any."""
    file = ArrayFile(path, AXES)
    file.need(NEEDED, ", ".join(f"{name} {file.shape(name)}" for name in NEEDED))
    beta, g = file.gates()
    q, k, v = (file.numbers(name) for name in ("q", "k", "v"))
    tokens, heads = beta.shape
    group = k.shape[1]
    if heads % group:
        file.fail("k", f"{group} key heads: the {heads} heads of beta and g are no multiple of that")
    _expect(file, "v", (tokens, heads, v.shape[2]))
    for name in ("k", "q"):
        _expect(file, name, (tokens, *k.shape[1:]))
    lengths, state = file.lengths(tokens), None
    if "initial_state" in file.arrays:
        state = file.numbers("initial_state")
        _expect(file, "initial_state", (len(lengths), heads, k.shape[2], v.shape[2]))
    return Sequence(q, k, v, g, beta, lengths, state)


def _expect(file: ArrayFile, name: str, wanted: tuple[int, ...]) -> None:
    found = file.arrays[name].shape
    if found != wanted:
        file.fail(name, f"shape {found}: beside the other arrays {wanted} is needed, {file.shape(name)}")
