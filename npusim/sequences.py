"""The data of gated delta nets: queries, keys, values and gates of sequences, from a file or drawn.

A file, and --output of gdn-fused, hold tokens first: q, k [tokens, key heads, Dk], v [tokens, heads, Dv],
g, beta [tokens, heads] (g per token, not cumulated; of channels [tokens, heads, Dk]), optionally
initial_state [sequences, heads, Dk, Dv] and cu_seqlens [sequences + 1]. Kernels take chunks,
[chunks, heads, C, D], of which a sequence's last one is filled up: beta with ones, all else with zeros. A
stage gets what the stages before it give in float64. The truth is the float64 recurrence over chunks
(`npusim.delta`) of the inputs as the kernel receives them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from npusim.data import Computed, Data
from npusim.delta import Chunks, everything
from npusim.execute import execute
from npusim.gates import gate_model
from npusim.generate import drawn_gates, key_source
from npusim.graph import Kernel
from npusim.kernels import KernelEntry
from npusim.matrices import Layout
from npusim.metrics import Errors, compare
from npusim.problem import Problem, refuse
from npusim.room import check_room
from npusim.sequence_file import Sequence, read_sequences
from npusim.settings import NumericsSettings

Array = npt.NDArray[Any]
QUERY, VALUE, STATE = 21, 22, 23
"""Purposes of a random stream (see npusim.gates)."""
WHOLE = ("gdn-fused", "gdn-recurrent")
"""kernels whose outputs are those of the net, written as files have them"""
COPIES = 12
"""arrays of the size of a chunk's matrix that are held at once, about, in float64"""


@dataclass(frozen=True)
class Sequences(Data):
    """Sequences of a problem: all, or one long enough for the sample."""

    whole: Problem
    some: Problem
    make: Callable[[], Sequence]
    """draws the arrays of `sample`, which takes time, or gives those that were read"""
    origin_text: str

    @cached_property
    def arrays(self) -> Sequence:
        return self.make()

    @property
    def sample(self) -> Problem:
        return self.some

    @property
    def origin(self) -> str:
        return self.origin_text

    def check(self, kernel: Kernel, computed: bool) -> None:
        """All fits into memory."""
        if computed:
            n, dims = self.some.chunk, sum(self.some.state_dims)
            check_room(8.0 * COPIES * self.some.total * n * (n + 2 * dims))

    def check_sample(self, kernel: Kernel) -> None:
        """Built-in kernels of this problem take them."""

    def compute(self, kernel: Kernel) -> Computed:
        problem = self.some
        group, settings = problem.heads // problem.kv_heads, kernel.settings
        start = (settings.get("order", 1), settings.get("block", 1))
        chunks = Chunks(problem.chunk_counts, group, problem.decay, start)
        given = in_chunks(self.arrays, problem)
        names = [tensor.name for tensor in kernel.tensors if tensor.role == "input"]
        known = given if set(names) <= set(given) else everything(_plain(given), chunks, names)
        found = execute(kernel, {name: known[name] for name in names})
        truth = everything(found.inputs, chunks, [tensor.name for tensor in kernel.outputs])
        results = sorted(kernel.outputs, key=lambda tensor: tensor.name != "O")  # the main one first
        errors = {t.name: _errors(found.outputs[t.name], truth[t.name]) for t in results}
        outputs: Mapping[str, Array] = found.outputs
        if kernel.name in WHOLE:
            o = tokens_first(found.outputs["O"], problem)
            outputs = {"o": o, "state": found.outputs["state"]}
        return Computed(found, errors, outputs, problem.total, self.whole.total, piece_of(problem))


def piece_of(problem: Problem) -> tuple[str, str]:
    """How what is counted is called: one, and several."""
    one = "token" if problem.chunk == 1 else "chunk"
    return f"{one} of a head", f"{one}s of heads"


def _plain(given: Mapping[str, Array]) -> dict[str, Array]:
    """Without the names that the stages give to the same arrays."""
    return {name: array for name, array in given.items() if name not in ("q", "k")}


def in_chunks(arrays: Sequence, problem: Problem) -> dict[str, Array]:
    """The arrays as kernels take them, filled up with zeros: [chunks, heads, C, D], gates of heads tokens
    first."""
    q, k = (_cut(array, problem).swapaxes(1, 2) for array in (arrays.q, arrays.k))
    found = {"q": q, "k": k, "q_given": q, "k_given": k, "v": _cut(arrays.v, problem).swapaxes(1, 2)}
    beta = _cut(arrays.beta, problem, fill=1.0)  # of keys that are zero; the logarithm of 1 is finite
    found["beta"] = beta
    if arrays.g is not None:
        g = _cut(arrays.g, problem)
        found["g"] = g.swapaxes(1, 2) if problem.decay == "channel" else g
    if problem.initial_state:
        assert arrays.initial_state is not None
        found["initial_state"] = arrays.initial_state
    return found


def _cut(array: Array, problem: Problem, fill: float = 0.0) -> Array:
    """[tokens, ..] as [chunks, C, ..], filled up."""
    n, parts, start = problem.chunk, [], 0
    for tokens in problem.sequences:
        missing = [(0, -tokens % n), *((0, 0) for _ in array.shape[1:])]
        parts.append(np.pad(array[start : start + tokens], missing, constant_values=fill))
        start += tokens
    return np.concatenate(parts).reshape(-1, n, *array.shape[1:])


def tokens_first(outputs: Array, problem: Problem) -> Array:
    """Of [chunks, heads, C, D] the [tokens, heads, D], without what was filled up."""
    n = problem.chunk
    rows = outputs.swapaxes(1, 2).reshape(-1, outputs.shape[1], outputs.shape[-1])
    starts = np.cumsum([0, *problem.chunk_counts]) * n
    return np.concatenate([rows[s : s + t] for s, t in zip(starts, problem.sequences, strict=False)])


def _errors(result: Array, truth: Array) -> Errors:
    stack = (-1, *truth.shape[-2:])
    return compare(result.reshape(stack), truth.reshape(stack))


class SequenceSource:
    """Tokens from a file, or drawn like those of trained models."""

    def read(self, path: str, entry: KernelEntry, problem: Problem, settings: NumericsSettings) -> Sequences:
        why = f"the problem is that of --inputs {path}, also cu_seqlens and initial_state; drop this option"
        sizes = (
            "batch",
            "seq_len",
            "heads",
            "key_heads",
            "head_dim",
            "value_dim",
            "cu_seqlens",
            "initial_state",
        )
        refuse(problem, sizes, why)
        refuse(settings, ("gates", "seed", "key_correlation"), f"{path} holds all inputs; drop this option")
        arrays = read_sequences(Path(path), problem.decay if "decay" in problem.model_fields_set else None)
        tokens, heads, value_dim = arrays.v.shape
        starts = arrays.initial_state is not None and "initial_state" in entry.sizes
        whole = entry.fix(Problem.parse(
            chunk=problem.chunk, dtype=problem.dtype, cu_seqlens=arrays.cu_seqlens, heads=heads,
            key_heads=arrays.k.shape[1], head_dim=arrays.k.shape[2], value_dim=value_dim,
            decay=arrays.decay, **({"initial_state": True} if starts else {}),
        ))  # fmt: skip
        if whole.initial_state and arrays.initial_state is None:
            zeros = np.zeros((len(arrays.lengths), heads, *whole.state_dims))
            arrays = replace(arrays, initial_state=zeros)
        text = f"{path}: {len(whole.sequences)} sequence(s), {tokens} tokens, {heads} heads"
        return Sequences(whole, whole, lambda: arrays, text)

    def draw(self, problem: Problem, settings: NumericsSettings) -> Sequences:
        some = problem if settings.output else _sample(problem, settings.samples)
        text = (
            f"generated: {drawn_gates(settings.gates, problem.decay)}, keys of correlation "
            f"{settings.key_correlation:g}, seed {settings.seed}"
        )
        return Sequences(problem, some, lambda: _drawn(some, settings), text)


def _sample(problem: Problem, samples: int) -> Problem:
    """All heads (few samples: some) of as many chunks of the longest sequences as come to the samples; of two
    at least, as a first chunk meets no state yet."""
    group, least = problem.heads // problem.kv_heads, 2 if max(problem.sequences) > problem.chunk else 1
    key_heads = min(problem.kv_heads, max(1, samples // (group * least)))
    chunks = max(least, samples // (key_heads * group))
    lengths: list[int] = []
    for tokens in sorted(problem.sequences, reverse=True):
        own = min(chunks, -(-tokens // problem.chunk))
        if own < 1:
            break
        lengths.append(min(tokens, own * problem.chunk))
        chunks -= own
    ends = (0, *np.cumsum(lengths).tolist())
    kept = problem.model_dump(include=problem.model_fields_set, exclude={"batch", "seq_len"})
    return Problem(**{**kept, "cu_seqlens": ends, "heads": key_heads * group, "key_heads": key_heads})


def _drawn(problem: Problem, settings: NumericsSettings) -> Sequence:
    """Correlated keys and gates (npusim.generate, npusim.gates); queries, values and states are normal."""
    layout = Layout(problem.sequences, problem.chunk, problem.heads)
    keys = key_source(layout, problem.head_dim, settings.key_correlation, settings.seed)
    model = gate_model(settings.gates)
    Dk, Dv = problem.state_dims
    tokens = sum(problem.sequences)
    q = np.random.default_rng([settings.seed, QUERY]).standard_normal((tokens, problem.kv_heads, Dk))
    v = np.random.default_rng([settings.seed, VALUE]).standard_normal((tokens, problem.heads, Dv))
    k, beta = np.empty(q.shape), np.empty((tokens, problem.heads))
    g = np.empty((*beta.shape, Dk) if problem.decay == "channel" else beta.shape)
    start = 0
    for sequence in range(len(problem.sequences)):
        for chunk in range(problem.chunk_counts[sequence]):
            count = layout.tokens(sequence, chunk)
            here = slice(start, start + count)
            for head in range(problem.kv_heads):
                k[here, head] = keys(sequence, chunk, head)
            for head in range(problem.heads):
                one_beta, one_g = model.draw_as(
                    problem.decay, settings.seed, sequence, chunk, head, problem.chunk, Dk
                )
                beta[here, head], g[here, head] = one_beta[:count], one_g[:count]
            start += count
    q /= np.linalg.norm(q, axis=-1, keepdims=True)
    state = None
    if problem.initial_state:
        shape = (len(problem.sequences), problem.heads, Dk, Dv)
        state = np.random.default_rng([settings.seed, STATE]).standard_normal(shape) / math.sqrt(Dk)
    return Sequence(q, k, v, None if problem.decay == "none" else g, beta, problem.sequences, state)
