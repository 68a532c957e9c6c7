"""The gated delta rule, chunk by chunk, in float64: the truth that stage kernels are held against.

Gated DeltaNet (arXiv 2412.06464, section 3.3), in the notation of docs/layers.md. Per chunk and value head,
with C tokens, K, Q [C, Dk], V [C, Dv], beta, g [C] and a state S [Dk, Dv]:
  G = cumsum(g)     L[i, j] = beta_i (k_i . k_j) exp(G_i - G_j) for i > j     T = (I + L)^-1
  U = T (beta V)    W = T (beta exp(G) K)     V' = U - W S
  O = exp(G) Q S + tril((Q K^T) exp(G_i - G_j)) V'     S <- exp(G_C) S + (exp(G_C - G) K)^T V'
All functions take and give arrays [chunks, heads, C, ..] of one or several sequences; `Chunks` says which
chunks are whose.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from npusim.matrices import reference_inverse

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]


@dataclass(frozen=True)
class Chunks:
    """How many chunks each sequence has, and how many value heads share a key head."""

    counts: tuple[int, ...]
    group: int = 1

    def spans(self) -> list[range]:
        """The chunks of each sequence."""
        ends = np.cumsum((0, *self.counts)).tolist()
        return [range(a, b) for a, b in itertools.pairwise(ends)]


EPSILON = 1e-6
"""added to the squared length of what is L2-normalised (transformers, qwen3_5, l2norm)"""


def prepare(arrays: Arrays, _: Chunks) -> dict[str, Array]:
    """Queries and keys as the stages take them: L2-normalised, queries times Dk^-1/2."""
    q, k = (_normalised(arrays[name]) for name in ("q_given", "k_given"))
    return {"q": q / np.sqrt(q.shape[-1]), "k": k}


def scale(arrays: Arrays, _: Chunks) -> dict[str, Array]:
    """The same of queries that are normalised, or not meant to be."""
    return {"q": arrays["q_given"] / np.sqrt(arrays["q_given"].shape[-1])}


def cumsum(arrays: Arrays, _: Chunks) -> dict[str, Array]:
    """G [chunks, C, heads] of g alike."""
    return {"G": arrays["g"].cumsum(-2)}


def transpose(arrays: Arrays, _: Chunks) -> dict[str, Array]:
    """G and beta head by head: [chunks, heads, 1, C] of [chunks, C, heads]."""
    return {f"{name}_heads": np.swapaxes(arrays[name], -1, -2)[:, :, None] for name in ("G", "beta")}


def kkt(arrays: Arrays, chunks: Chunks) -> dict[str, Array]:
    """L [chunks, heads, C, C]."""
    k, G, beta = _keys(arrays["k"], chunks), arrays["G_heads"], arrays["beta_heads"]
    gram = k @ np.swapaxes(k, -1, -2)
    return {"L": np.tril(gram * np.swapaxes(beta, -1, -2) * _decay(G), -1)}


def inverse(arrays: Arrays, _: Chunks) -> dict[str, Array]:
    """T [chunks, heads, C, C]."""
    return {"T": reference_inverse(arrays["L"])}


def wy(arrays: Arrays, chunks: Chunks) -> dict[str, Array]:
    """U [.., C, Dv] and W [.., C, Dk]."""
    T, G, beta = arrays["T"], arrays["G_heads"], arrays["beta_heads"]
    k = _keys(arrays["k"], chunks)
    return {"U": (T * beta) @ arrays["v"], "W": (T * beta * np.exp(G)) @ k}


def state(arrays: Arrays, chunks: Chunks) -> dict[str, Array]:
    """V' [.., C, Dv], the state before each chunk, S_chunks [chunks, heads, Dk, Dv], and the last of each
    sequence, state [sequences, heads, Dk, Dv]; from initial_state alike, or zeros."""
    k, G, U, W = _keys(arrays["k"], chunks), arrays["G_heads"], arrays["U"], arrays["W"]
    fresh, before = np.empty_like(U), np.empty((*U.shape[:2], k.shape[-1], U.shape[-1]))
    initial, final = arrays.get("initial_state"), []
    for sequence, span in enumerate(chunks.spans()):
        S = np.zeros(before.shape[1:]) if initial is None else initial[sequence].astype(np.float64)
        for chunk in span:
            before[chunk] = S
            fresh[chunk] = U[chunk] - W[chunk] @ S
            last = G[chunk][..., -1:]
            decayed = k[chunk] * np.exp(np.swapaxes(last - G[chunk], -1, -2))
            S = np.exp(last) * S + np.swapaxes(decayed, -1, -2) @ fresh[chunk]
        final.append(S)
    return {"V_new": fresh, "S_chunks": before, "state": np.stack(final)}


def output(arrays: Arrays, chunks: Chunks) -> dict[str, Array]:
    """O [.., C, Dv]."""
    q, k, G = _keys(arrays["q"], chunks), _keys(arrays["k"], chunks), arrays["G_heads"]
    inside = np.tril((q @ np.swapaxes(k, -1, -2)) * _decay(G))
    return {"O": np.exp(np.swapaxes(G, -1, -2)) * (q @ arrays["S_chunks"]) + inside @ arrays["V_new"]}


@dataclass(frozen=True)
class Step:
    """A stage, and the arrays that it needs."""

    compute: Callable[[Arrays, Chunks], dict[str, Array]]
    needs: tuple[str, ...]


STEPS = (
    Step(prepare, ("q_given", "k_given")),
    Step(scale, ("q_given",)),
    Step(cumsum, ("g",)),
    Step(transpose, ("G", "beta")),
    Step(kkt, ("k", "G_heads", "beta_heads")),
    Step(inverse, ("L",)),
    Step(wy, ("T", "k", "v", "G_heads", "beta_heads")),
    Step(state, ("k", "G_heads", "U", "W")),
    Step(output, ("q", "k", "G_heads", "S_chunks", "V_new")),
)


def everything(arrays: Arrays, chunks: Chunks, wanted: Iterable[str]) -> dict[str, Array]:
    """What follows from `arrays`, stage after stage until all that is wanted is there, and they themselves,
    in float64."""
    names = set(wanted)
    found = {name: np.asarray(array, dtype=np.float64) for name, array in arrays.items()}
    for step in STEPS:
        if names <= found.keys():
            break
        if all(name in found for name in step.needs):
            with np.errstate(all="ignore"):  # what is not finite is counted in the errors
                made = step.compute(found, chunks)
            found |= {name: array for name, array in made.items() if name not in found}
    return found


def _normalised(x: Array) -> Array:
    normalised: Array = x / np.sqrt((x * x).sum(-1, keepdims=True) + EPSILON)
    return normalised


def _keys(x: Array, chunks: Chunks) -> Array:
    """One per value head."""
    return np.repeat(x, chunks.group, axis=1)


def _decay(G: Array) -> Array:
    """exp(G_i - G_j) for i >= j, else 0, of G [.., 1, C]."""
    gap = np.swapaxes(G, -1, -2) - G
    return np.exp(np.where(np.tri(G.shape[-1], dtype=bool), gap, -np.inf))
