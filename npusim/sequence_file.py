"""Files of sequences for gated delta nets: q, k, v, g, beta, and perhaps cu_seqlens and initial_state.

The shape of g says what decays: [tokens, heads] or, a gate per channel of the keys, [tokens, heads, Dk].
Nothing decays without g, which has to be said: a g that was forgotten would go unnoticed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from npusim.array_file import HEADS, KEY_HEADS, SEQUENCES, TOKENS, ArrayFile
from npusim.problem import Decay

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
BY_CHANNEL = {"g": (TOKENS, HEADS, ("Dk", "channel"))}
NEEDED = ("q", "k", "v", "g", "beta")


@dataclass(frozen=True)
class Sequence:
    """q, k [tokens, key heads, Dk], v [tokens, heads, Dv], beta [tokens, heads], g alike, or [tokens, heads,
    Dk], or None, of sequences of `lengths` tokens one after another; initial_state [sequences, heads, Dk, Dv]
    or None."""

    q: Array
    k: Array
    v: Array
    g: Array | None
    beta: Array
    lengths: tuple[int, ...]
    initial_state: Array | None = None

    @property
    def decay(self) -> Decay:
        """What has a gate of its own."""
        if self.g is None:
            return "none"
        return "channel" if self.g.ndim == 3 else "head"

    @property
    def cu_seqlens(self) -> tuple[int, ...]:
        """Where each sequence begins, and where the last one ends."""
        return (0, *np.cumsum(self.lengths).tolist())


def read_sequences(path: Path, decay: Decay | None = None) -> Sequence:
    """The sequences of a file. InputError, with the array and the remedy, where it does not hold any, or
    where something else has gates than `decay` says (None: as the file has it, which is not without any)."""
    file = ArrayFile(path, AXES)
    by_channel = "g" in file.arrays and file.arrays["g"].ndim == 3
    if by_channel:
        file.axes = {**AXES, **BY_CHANNEL}
    needed = [name for name in NEEDED if name != "g" or decay != "none"]
    also = "" if decay else "; without g, give --decay none"
    file.need(needed, ", ".join(f"{name} {file.shape(name)}" for name in needed) + also)
    beta, g = file.beta(), file.decays() if "g" in file.arrays else None
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
    if g is not None and by_channel:
        _expect(file, "g", (tokens, heads, k.shape[2]))
    found = Sequence(q, k, v, g, beta, lengths, state)
    if decay not in (None, found.decay):
        file.fail(
            "g", f"shape {file.arrays['g'].shape} is not that of --decay {decay}: drop {_either(decay)}"
        )
    return found


def _either(decay: Decay | None) -> str:
    return "g, or this option" if decay == "none" else "this option"


def _expect(file: ArrayFile, name: str, wanted: tuple[int, ...]) -> None:
    found = file.arrays[name].shape
    if found != wanted:
        file.fail(name, f"shape {found}: beside the other arrays {wanted} is needed, {file.shape(name)}")
