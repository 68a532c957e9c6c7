"""Executions that share what they have in common give what each gives alone, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from algorithms import REGISTRY
from npusim import dtypes
from npusim.execute import Execution, execute
from npusim.graph import Kernel
from npusim.inputs import generate_matrices
from npusim.memo import Memo, Result
from npusim.problem import Options, Problem, Target
from npusim.profiles import load_machine
from npusim.settings import NumericsSettings
from npusim.triangles import Triangles, TriangleSource

ENTRY = REGISTRY["tri-inverse"]
TARGET = Target.of(load_machine("ascend-910b2"))


def built(dtype: str = "fp16", chunk: int = 32, **options: object) -> Kernel:
    problem = Problem(chunk=chunk, dtype=dtype, matrices=6)
    return ENTRY.build(problem, Options.parse(algorithm="masked-neumann", **options), TARGET)


def equal(one: Execution, other: Execution) -> bool:
    """Outputs and ranges alike, NaN included."""
    same = all(np.array_equal(one.outputs[n], other.outputs[n], equal_nan=True) for n in one.outputs)
    return same and one.ranges == other.ranges and one.written.keys() == other.written.keys()


@pytest.mark.parametrize("most", [1, 1 << 16, 1 << 30])
@pytest.mark.parametrize("dtype", ["fp16", "bf16", "int8"])
def test_a_memo_changes_no_bit(dtype: str, most: int) -> None:
    L = generate_matrices(6, 32).L.reshape(6, 1, 32, 32)
    memo = Memo(most)
    for order in (2, 3):
        for steps in (1, 2, 3, 4, 5, 8):
            kernel = built(dtype, order=order, steps=steps)
            assert equal(execute(kernel, {"L": L}, memo=memo), execute(kernel, {"L": L}))


@pytest.mark.parametrize("algorithm", [a for a in ENTRY.algorithms if a != "column-sweep"])
def test_all_inverses_share_one_memo(algorithm: str) -> None:
    L = generate_matrices(3, 64).L.reshape(3, 1, 64, 64)
    memo = Memo()
    for dtype in ("fp16", "fp32"):
        kernel = ENTRY.build(Problem(chunk=64, dtype=dtype, matrices=3), Options(algorithm=algorithm), TARGET)
        for _ in range(2):
            assert equal(execute(kernel, {"L": L}, memo=memo), execute(kernel, {"L": L}))


def products(monkeypatch: pytest.MonkeyPatch, kernels: list[Kernel], memo: Memo | None) -> int:
    """Products that are computed for the kernels, one after another."""
    L = generate_matrices(6, 32).L.reshape(6, 1, 32, 32)
    count, plain = [0], dtypes.matmul

    def counted(*args: object, **kwargs: object) -> object:
        count[0] += 1
        return plain(*args, **kwargs)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(dtypes, "matmul", counted)
        for kernel in kernels:
            execute(kernel, {"L": L}, memo=memo)
    return count[0]


def test_horner_schemes_share_all_but_the_last_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = [built(order=2, steps=steps, schedule="horner") for steps in range(2, 13)]
    alone = [products(monkeypatch, [kernel], None) for kernel in kernels]
    both = products(monkeypatch, kernels, Memo())
    # each further S is one product E P, one of I + E P and one T0 P, for each of the two items of a trip
    assert both == products(monkeypatch, kernels[:1], Memo()) + 3 * 2 * (len(kernels) - 1)
    assert sum(alone) > 5 * both / 2


def test_other_inputs_are_not_taken_for_the_same() -> None:
    memo, kernel = Memo(), built(order=2, steps=2)
    for seed in range(3):
        L = generate_matrices(6, 32, seed=seed).L.reshape(6, 1, 32, 32)
        assert equal(execute(kernel, {"L": L}, memo=memo), execute(kernel, {"L": L}))
        del L  # its memory may be given to the next one


def test_the_truth_is_computed_once_and_is_the_same() -> None:
    problem = Problem(chunk=32, matrices=6)
    data = TriangleSource().draw(problem, NumericsSettings(samples=6))
    shared = data.remembering()
    assert isinstance(shared, Triangles)
    for dtype in ("fp16", "int8", "fp16"):
        for where in ("vector", "kkt"):
            kernel = built(dtype, order=2, steps=2, mask_on=where)
            assert shared.compute(kernel).errors == replace(data).compute(kernel).errors


def test_a_memo_forgets_what_was_used_least_recently() -> None:
    memo, made = Memo(3 * 800), list[int]()

    def value(n: int) -> Result:
        def compute() -> Result:
            made.append(n)
            return Result(np.full(100, float(n)))

        return memo.result(memo.number("value", n), compute)

    for n in (0, 1, 2, 0, 3, 0, 1):
        assert (value(n).value == n).all()
    assert made == [0, 1, 2, 3, 1]
