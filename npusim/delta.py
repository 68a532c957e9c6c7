"""The gated delta rule, chunk by chunk, in float64: the truth that stage kernels are held against.

Gated DeltaNet (arXiv 2412.06464, section 3.3), in the notation of docs/stages.md. Per chunk and value head,
with C tokens, K, Q [C, Dk], V [C, Dv], beta, g [C] and a state S [Dk, Dv]:
  G = cumsum(g)     L[i, j] = beta_i (k_i . k_j) exp(G_i - G_j) for i > j     T = (I + L)^-1
  U = T (beta V)    W = T (beta exp(G) K)     V' = U - W S
  O = exp(G) Q S + tril((Q K^T) exp(G_i - G_j)) V'     S <- exp(G_C) S + (exp(G_C - G) K)^T V'
A gate per channel of the keys (Kimi Delta Attention, arXiv 2510.26692), g and G [C, Dk], decays each of them:
  L[i, j] = beta_i sum_d k_id exp(G_id - G_jd) k_jd     W = T (beta exp(G) * K)     P alike, of q and k
  O = (exp(G) * Q) S + P V'     S <- diag(exp(G_C)) S + (exp(G_C - G) * K)^T V'
No gate (DeltaNet, arXiv 2406.06484) is G = 0.
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

from npusim.matrices import banded_inverse, decayed_products, reference_inverse
from npusim.problem import Decay

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]


@dataclass(frozen=True)
class Chunks:
    """How many chunks each sequence has, how many value heads share a key head, and what decays; where a
    kernel forms a masked start, its terms and the edge of its blocks."""

    counts: tuple[int, ...]
    group: int = 1
    decay: Decay = "head"
    start: tuple[int, int] = (1, 1)

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
    """G [chunks, C, heads] of g alike; of channels [chunks, heads, C, Dk]."""
    return {"G": arrays["g"].cumsum(-2)}


def transpose(arrays: Arrays, chunks: Chunks) -> dict[str, Array]:
    """beta, and G of heads, head by head: [chunks, heads, 1, C] of [chunks, C, heads]."""
    names = ("G", "beta") if chunks.decay == "head" else ("beta",)
    return {f"{name}_heads": np.swapaxes(arrays[name], -1, -2)[:, :, None] for name in names}


def kkt(arrays: Arrays, chunks: Chunks) -> dict[str, Array]:
    """L [chunks, heads, C, C]."""
    k, beta = per_value_head(arrays["k"], chunks), arrays["beta_heads"]
    products = _products(k, k, gate(arrays, chunks))
    return {"L": np.tril(products * np.swapaxes(beta, -1, -2), -1)}


def scores(arrays: Arrays, chunks: Chunks) -> dict[str, Array]:
    """P [chunks, heads, C, C]."""
    q, k = per_value_head(arrays["q"], chunks), per_value_head(arrays["k"], chunks)
    return {"P": _products(q, k, gate(arrays, chunks))}


def inverse(arrays: Arrays, _: Chunks) -> dict[str, Array]:
    """T [chunks, heads, C, C]."""
    return {"T": reference_inverse(arrays["L"])}


def masked_start(arrays: Arrays, chunks: Chunks) -> dict[str, Array]:
    """T0 [chunks, heads, C, C]."""
    return {"T0": banded_inverse(arrays["L"], *chunks.start)}


def wy(arrays: Arrays, chunks: Chunks) -> dict[str, Array]:
    """U [.., C, Dv] and W [.., C, Dk]."""
    Tb = arrays["T"] * arrays["beta_heads"]
    k = per_value_head(arrays["k"], chunks)
    return {"U": Tb @ arrays["v"], "W": Tb @ (np.exp(gate(arrays, chunks)) * k)}


def state(arrays: Arrays, chunks: Chunks) -> dict[str, Array]:
    """V' [.., C, Dv], the state before each chunk, S_chunks [chunks, heads, Dk, Dv], and the last of each
    sequence, state [sequences, heads, Dk, Dv]; from initial_state alike, or zeros."""
    k, G, U, W = per_value_head(arrays["k"], chunks), gate(arrays, chunks), arrays["U"], arrays["W"]
    fresh, before = np.empty_like(U), np.empty((*U.shape[:2], k.shape[-1], U.shape[-1]))
    initial, final = arrays.get("initial_state"), []
    for sequence, span in enumerate(chunks.spans()):
        S = np.zeros(before.shape[1:]) if initial is None else initial[sequence].astype(np.float64)
        for chunk in span:
            before[chunk] = S
            fresh[chunk] = U[chunk] - W[chunk] @ S
            last = G[chunk][..., -1:, :]
            decayed = k[chunk] * np.exp(last - G[chunk])
            S = np.exp(np.swapaxes(last, -1, -2)) * S + np.swapaxes(decayed, -1, -2) @ fresh[chunk]
        final.append(S)
    return {"V_new": fresh, "S_chunks": before, "state": np.stack(final)}


def output(arrays: Arrays, chunks: Chunks) -> dict[str, Array]:
    """O [.., C, Dv]."""
    q = per_value_head(arrays["q"], chunks) * np.exp(gate(arrays, chunks))
    return {"O": q @ arrays["S_chunks"] + arrays["P"] @ arrays["V_new"]}


@dataclass(frozen=True)
class Step:
    """A stage, and the arrays that it needs."""

    compute: Callable[[Arrays, Chunks], dict[str, Array]]
    needs: tuple[str, ...]


GATES: dict[Decay, tuple[str, ...]] = {"head": ("G_heads",), "channel": ("G",), "none": ()}
"""the array of gates that stages take"""


def steps(decay: Decay) -> tuple[Step, ...]:
    """All stages, in order."""
    G = GATES[decay]
    return (
        Step(prepare, ("q_given", "k_given")),
        Step(scale, ("q_given",)),
        Step(cumsum, ("g",)),
        Step(transpose, ("G", "beta") if decay == "head" else ("beta",)),
        Step(kkt, ("k", "beta_heads", *G)),
        Step(scores, ("q", "k", *G)),
        Step(masked_start, ("L",)),
        Step(inverse, ("L",)),
        Step(wy, ("T", "k", "v", "beta_heads", *G)),
        Step(state, ("k", "U", "W", *G)),
        Step(output, ("q", "P", "S_chunks", "V_new", *G)),
    )


def everything(arrays: Arrays, chunks: Chunks, wanted: Iterable[str]) -> dict[str, Array]:
    """What follows from `arrays`, stage after stage until all that is wanted is there, and they themselves,
    in float64."""
    names = set(wanted)
    found = {name: np.asarray(array, dtype=np.float64) for name, array in arrays.items()}
    for step in steps(chunks.decay):
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


def per_value_head(x: Array, chunks: Chunks) -> Array:
    """One per value head."""
    return np.repeat(x, chunks.group, axis=1)


def gate(arrays: Arrays, chunks: Chunks) -> Array:
    """G [chunks, heads, C, Dk], or [.., C, 1] where it is one for all channels, or 0 for all."""
    if chunks.decay == "none":
        x = arrays["k" if "k" in arrays else "q"]
        return np.zeros((x.shape[0], 1, x.shape[-2], 1))
    return arrays["G"] if chunks.decay == "channel" else np.swapaxes(arrays["G_heads"], -1, -2)


def _products(left: Array, k: Array, G: Array) -> Array:
    """[.., C, C] of left, k [.., C, Dk]: (left_i . k_j) exp(G_i - G_j) for i >= j, else 0."""
    if G.shape[-1] > 1:
        return decayed_products(left, k, G)
    gap = G - np.swapaxes(G, -1, -2)
    decay: Array = np.exp(np.where(np.tri(G.shape[-2], dtype=bool), gap, -np.inf))
    return (left @ np.swapaxes(k, -1, -2)) * decay
