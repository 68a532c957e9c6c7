"""The data of triangular inverses: matrices L of chunks and heads, and their inverses in float64.

A sample of a problem's matrices is computed by a kernel that is built for just these.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from npusim.data import Array, Computed, Data
from npusim.errors import InputError
from npusim.execute import Execution, execute
from npusim.graph import Kernel
from npusim.inputs import MatrixBatch, generate, generate_matrices, read_matrices, reference_inverse
from npusim.kernels import KernelEntry
from npusim.matrices import VALUE_BYTES, banded_inverse
from npusim.memo import Memo, Result
from npusim.metrics import compare, norms
from npusim.problem import Problem, refuse
from npusim.room import check_room
from npusim.settings import NumericsSettings


@dataclass(frozen=True)
class Triangles(Data):
    """Matrices L of a problem, all of them or a sample."""

    whole: Problem
    count: int
    make: Callable[[], MatrixBatch]
    """draws the `count` matrices, which takes time, or gives those that were read"""
    memo: Memo | None = None
    """what kernels before have computed of them"""

    @cached_property
    def batch(self) -> MatrixBatch:
        return self.make()

    @property
    def sample(self) -> Problem:
        return self.whole.model_copy(update={"matrices": self.count})

    @property
    def origin(self) -> str:
        return self.batch.description

    def check(self, kernel: Kernel, computed: bool) -> None:
        """Any built-in kernel of this chunk takes them, a user's own must have L and T; all fits into
        memory."""
        _check_tensors(kernel, self.whole)
        if computed:
            check_room(VALUE_BYTES * self.count * self.whole.chunk**2)

    def check_sample(self, kernel: Kernel) -> None:
        _check_tensors(kernel, self.sample)

    def compute(self, kernel: Kernel) -> Computed:
        """The reference is the float64 inverse of L as the kernel receives it, in the operand dtype."""
        L = self.batch.L
        execution = invert(kernel, L, self.memo)
        T = execution.outputs["T"].reshape(L.shape)
        stored = execution.inputs["L"].reshape(L.shape)

        def truth() -> Array:
            return reference_inverse(stored.astype(np.float64))

        given_as = kernel.tensor("L")
        reference = once(self.memo, truth, "inverse", given_as.dtype, given_as.scale)
        signal = once(self.memo, lambda: norms(reference), "norms", given_as.dtype, given_as.scale)
        errors = compare(T, reference, self.batch.head, signal)
        return Computed(
            execution, {"T": errors}, {"T": T}, len(L), self.batch.total, piece=("matrix", "matrices")
        )

    def remembering(self) -> Triangles:
        return replace(self, memo=Memo())


def invert(kernel: Kernel, L: Array, memo: Memo | None = None) -> Execution:
    """Run `kernel`, a tri-inverse of M matrices, on L [M, C, C] float64. T is `outputs["T"]`, of the shape
    [chunks, heads, C, C]. Where the kernel takes a masked start, it is that of L as given, not as stored.
    `memo`: what kernels before have computed of this L."""
    shape = kernel.tensor("L").shape
    given = {"L": L.reshape(shape)}
    if any(tensor.name == "T0" for tensor in kernel.tensors):
        order, block = kernel.settings["order"], kernel.settings["block"]
        start = once(memo, lambda: banded_inverse(L, order, block), "start", order, block)
        given["T0"] = start.reshape(shape)
    return execute(kernel, given, memo=memo)


def once(memo: Memo | None, compute: Callable[[], Array], *key: Hashable) -> Array:
    """What `compute` gives, and has given before under this key."""
    if memo is None:
        return compute()
    return memo.result(memo.number("computed", *key), lambda: Result(compute())).value


def _check_tensors(kernel: Kernel, problem: Problem) -> None:
    """InputError where `kernel` does not take every L of `problem`, or does not give a T for each."""
    n = problem.chunk
    for name, role in (("L", "input"), ("T", "output")):
        wanted = f"an inverse needs an {role} {name} [chunks, heads, {n}, {n}] of {problem.total} matrices"
        found = next((t for t in kernel.tensors if (t.name, t.role) == (name, role)), None)
        if found is None:
            raise InputError(f"{kernel.algorithm}: {wanted}; {kernel.name} has none")
        if found.shape[-2:] != (n, n) or math.prod(found.shape) != problem.total * n * n:
            raise InputError(f"{kernel.algorithm}: {wanted}; that of {kernel.name} is {list(found.shape)}")


class TriangleSource:
    """L itself, or keys and gates, from a file or drawn like those of trained models."""

    def read(self, path: str, entry: KernelEntry, problem: Problem, settings: NumericsSettings) -> Triangles:
        why = f"the problem is that of --inputs {path}; drop one of the two"
        refuse(problem, ("batch", "seq_len", "heads", "cu_seqlens", "matrices"), why)
        refuse(problem, ("decay",), f"{path} holds L, or gates per head; drop this option")
        refuse(settings, ("gates",), why)
        batch = read_matrices(
            path,
            problem.chunk,
            samples=None if settings.output else settings.samples,
            seed=settings.seed,
            key_heads=problem.key_heads,
            head_dim=problem.head_dim if "head_dim" in problem.model_fields_set else None,
            key_correlation=settings.key_correlation,
        )
        n = batch.L.shape[-1]
        sizes: dict[str, Any] = {"dtype": problem.dtype, "chunk": n, "head_dim": problem.head_dim}
        if batch.layout is None:
            _refuse_beside_matrices(path, n, problem, settings)
            sizes["matrices"] = batch.total
        else:
            ends = (0, *np.cumsum(batch.layout.lengths).tolist())
            sizes |= {"cu_seqlens": ends, "heads": batch.layout.heads}
            if batch.stored_keys:
                refuse(settings, ("seed", "key_correlation"), f"{path} holds the keys; drop this option")
        return Triangles(Problem.parse(**sizes), len(batch.L), lambda: batch)

    def draw(self, problem: Problem, settings: NumericsSettings) -> Triangles:
        samples = None if settings.output else settings.samples
        common: dict[str, Any] = {
            "head_dim": problem.head_dim,
            "samples": samples,
            "seed": settings.seed,
            "key_correlation": settings.key_correlation,
            "gates": settings.gates,
            "decay": problem.decay,
        }

        def make() -> MatrixBatch:
            if problem.matrices is not None:
                return generate_matrices(problem.matrices, problem.chunk, **common)
            return generate(problem.chunk, problem.sequences, problem.heads, problem.kv_heads, **common)

        return Triangles(problem, min(samples or problem.total, problem.total), make)


def _refuse_beside_matrices(path: str, chunk: int, problem: Problem, settings: NumericsSettings) -> None:
    """A file of L leaves nothing to choose: an option that contradicts it is an InputError."""
    generated = ("seed", "gates", "key_correlation")
    refuse(settings, generated, f"{path} holds L, nothing is generated; drop this option")
    if problem.chunk != chunk:
        refuse(problem, ("chunk",), f"the matrices in {path} are {chunk} x {chunk}; drop this option")
    refuse(problem, ("key_heads", "head_dim"), f"{path} holds L, not keys; drop this option")
