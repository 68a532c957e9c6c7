"""How wrong a gated delta rule becomes when only T is approximate: errors of its output o and of its state.

An inverse is judged by what it does to the layer. A `LayerProbe` holds sequences, with the L of every chunk
and the exact results; `errors(T)` runs the chunked rule (npusim.delta) in float64 with a T that an algorithm
gave (`npusim.triangles.invert` runs one). The truth takes L in float64: what an algorithm loses in storing L
counts as its error. With R = beta (V - exp(G) K S) the T of a chunk is used once:
  V' = T R     O = exp(G) Q S + P V'     S <- exp(G_C) S + (exp(G_C - G) K)^T V'
The columns of V do not meet in any of these, so a few of them (`value_dim` 8) give the same relative errors
as all, at their share of the cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from npusim import dtypes
from npusim.delta import GATES, Chunks, everything, gate, per_value_head
from npusim.dtypes import dtype
from npusim.errors import InputError
from npusim.matrices import reference_inverse
from npusim.metrics import Errors, compare
from npusim.problem import Problem
from npusim.sequence_file import Sequence
from npusim.sequences import SequenceSource, in_chunks
from npusim.settings import NumericsSettings

Array = npt.NDArray[Any]

VALUE_COLUMNS = 8
PROBED = Problem(seq_len=1024, heads=16, value_dim=VALUE_COLUMNS)
"""tokens and heads that show hard heads and the growth over chunks, and take milliseconds an inverse"""


@dataclass(frozen=True)
class LayerErrors:
    """Errors of o and of the states after the last token. What is compared is a head of a sequence: `samples`
    counts these, `relative_error` is RMSE over RMS of all (the ratio that FLA's tests bound, 2e-3 to 5e-3
    for o), `worst_relative_error` that of the worst, `nonfinite` counts values."""

    output: Errors
    state: Errors


class LayerProbe:
    """Sequences with all that does not depend on how T is computed. `decay` of the problem says what decays.

    `L` [M, C, C] float64, of all chunks, with the head fastest; `T` alike, exact.
    """

    def __init__(self, sequence: Sequence, problem: Problem) -> None:
        """`problem` has the sizes of `sequence`; its dtype does not matter."""
        group = problem.heads // problem.kv_heads
        chunks = Chunks(problem.chunk_counts, group, problem.decay)
        given = in_chunks(sequence, problem)
        names = ("q_given", "k_given", "v", "beta", "g", "initial_state")
        given = {name: given[name] for name in names if name in given}
        known = everything(given, chunks, ("q", "k", "beta_heads", "L", "P", *GATES[problem.decay]))
        self.spans = chunks.spans()
        self.shape = known["L"].shape
        self.L = known["L"].reshape(-1, problem.chunk, problem.chunk)
        q, k = (per_value_head(known[name], chunks) for name in ("q", "k"))
        G, beta = gate(known, chunks), known["beta_heads"].swapaxes(-1, -2)
        last = G[..., -1:, :]
        self._P = known["P"]
        self._values = beta * known["v"]
        self._reads = np.concatenate([beta * np.exp(G) * k, np.exp(G) * q], axis=-2)
        self._writes = np.ascontiguousarray((np.exp(last - G) * k).swapaxes(-1, -2))
        self._keeps = np.exp(last).swapaxes(-1, -2)
        zeros = np.zeros((len(self.spans), self.shape[1], *problem.state_dims))
        self._initial = known.get("initial_state", zeros)

    @classmethod
    def drawn(cls, problem: Problem = PROBED, settings: NumericsSettings | None = None) -> LayerProbe:
        """All tokens of `problem`, drawn as for gated delta nets (npusim.sequences). --samples does not
        matter."""
        settings = (settings or NumericsSettings()).model_copy(update={"samples": problem.total})
        return cls(SequenceSource().draw(problem, settings).arrays, problem)

    @cached_property
    def T(self) -> Array:
        return reference_inverse(self.L)

    @cached_property
    def exact(self) -> tuple[Array, Array]:
        """o and states, as `run` gives them."""
        return self.run(self.T)

    def run(self, T: Array) -> tuple[Array, Array]:
        """o [chunks, heads, C, Dv] and the last states [sequences, heads, Dk, Dv] with T [M, C, C]."""
        if T.shape != self.L.shape:
            raise InputError(f"T has shape {T.shape}; the probe's L has {self.L.shape}")
        T = T.reshape(self.shape)
        n = self.shape[-1]
        o, states = np.empty_like(self._values), []
        with np.errstate(all="ignore"):  # what is not finite is counted in the errors
            for sequence, span in enumerate(self.spans):
                S = self._initial[sequence]
                for chunk in span:
                    read = self._reads[chunk] @ S
                    fresh = T[chunk] @ (self._values[chunk] - read[:, :n])
                    o[chunk] = read[:, n:] + self._P[chunk] @ fresh
                    S = self._keeps[chunk] * S + self._writes[chunk] @ fresh
                states.append(S)
        return o, np.stack(states)

    def errors(self, T: Array, operand: str = "fp64", scale: float = 1.0) -> LayerErrors:
        """Errors with T [M, C, C], rounded to `operand`, the dtype in which the layer multiplies it, integers
        in units of `scale`. InputError for a T of another shape."""
        o, states = self.run(stored(T, operand, scale))
        true_o, true_states = self.exact
        return LayerErrors(compare(self._by_head(o), self._by_head(true_o)),
                           compare(_flat(states), _flat(true_states)))  # fmt: skip

    def floor(self, operand: str, scale: float = 1.0) -> LayerErrors:
        """What no inverse can avoid: T exact and rounded to `operand`."""
        return self.errors(self.T, operand, scale)

    def _by_head(self, o: Array) -> Array:
        """[sequences x heads, tokens of the longest x Dv] of o; shorter sequences end in zeros."""
        longest = max(len(span) for span in self.spans)
        found = np.zeros((len(self.spans), longest, *o.shape[1:]))
        for sequence, span in enumerate(self.spans):
            found[sequence, : len(span)] = o[span.start : span.stop]
        return _flat(found.swapaxes(1, 2))


def stored(T: Array, name: str, scale: float = 1.0) -> Array:
    """Real values of T, float64, after it was stored in dtype `name`, integers in units of `scale`."""
    target = dtype(name)
    if target.kind == "int":
        return dtypes.quantise(T, target, scale)[0].astype(np.float64) * scale
    return dtypes.round_to(T, target).astype(np.float64)


def _flat(x: Array) -> Array:
    """[sequences x heads, ..] of [sequences, heads, ..]."""
    return x.reshape(x.shape[0] * x.shape[1], -1)
