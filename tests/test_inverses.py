"""The triangular inverses: equal to numpy's in fp64, with the published counts, on every kind of machine."""

from __future__ import annotations

import math
from collections import Counter
from functools import lru_cache

import numpy as np
import pytest

from algorithms import REGISTRY
from npusim import inputs
from npusim.builder import InputError, Kernel, Options, Problem, Target, Unsupported
from npusim.check import check
from npusim.engine.reference import simulate
from npusim.execute import Execution, execute
from npusim.graph import Items, Operation, View, operations
from npusim.lower import lower
from npusim.metrics import compare
from npusim.ops import OpKind
from npusim.profiles import load_machine

ENTRY = REGISTRY["tri-inverse"]
CHUNKS = (16, 32, 64, 128)
profile = lru_cache(load_machine)


def build(
    algorithm: str, chunk: int, matrices: int = 3, dtype: str = "fp64", machine: str = "ascend-910b2", **how
):
    problem = Problem(chunk=chunk, matrices=matrices, dtype=dtype)
    return ENTRY.build(problem, Options(algorithm=algorithm, **how), Target.of(profile(machine)))


def inverse(kernel: Kernel, L: np.ndarray) -> Execution:
    """Run on L [matrices, C, C]."""
    return execute(kernel, {"L": L[:, None]})


def result(kernel: Kernel, L: np.ndarray) -> np.ndarray:
    return inverse(kernel, L).outputs["T"][:, 0]


def lower_triangular(matrices: int, chunk: int, seed: int = 0) -> np.ndarray:
    """Dense strictly lower triangular matrices with inverses of moderate size."""
    rng = np.random.default_rng(seed)
    return np.tril(rng.uniform(-1, 1, (matrices, chunk, chunk)), -1) / math.sqrt(chunk)


def truth(L: np.ndarray) -> np.ndarray:
    return np.linalg.inv(np.eye(L.shape[-1]) + L)


# --- exactness ---------------------------------------------------------------------------------------


EXACT = [
    ("forward-substitution", {}),
    ("mxr", {"variant": "published"}),
    ("mxr", {"variant": "textbook"}),
]


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize(("algorithm", "how"), EXACT)
def test_the_exact_algorithms_equal_numpy_in_fp64(algorithm, how, chunk):
    L = lower_triangular(3, chunk)
    np.testing.assert_allclose(result(build(algorithm, chunk, **how), L), truth(L), rtol=0, atol=1e-10)


@pytest.mark.parametrize("chunk", [48, 80, 96])
def test_algorithms_that_halve_nothing_take_any_multiple_of_16(chunk):
    L = lower_triangular(2, chunk)
    np.testing.assert_allclose(
        result(build("forward-substitution", chunk, 2), L), truth(L), rtol=0, atol=1e-10
    )
    full = build("masked-neumann", chunk, 2, order=4, steps=chunk // 4, schedule="horner")
    np.testing.assert_allclose(result(full, L), truth(L), rtol=0, atol=1e-10)


NEUMANN = [
    (order, steps, schedule)
    for order in (1, 2, 3, 4)
    for steps in (1, 2, 3, 4, 5, 8)
    for schedule in ("doubling", "horner", "naive")
]


def sub_diagonal(chunk: int) -> np.ndarray:
    """i - j of every element."""
    return np.arange(chunk)[:, None] - np.arange(chunk)


@pytest.mark.parametrize(("order", "steps", "schedule"), NEUMANN)
def test_masked_neumann_is_exact_below_sub_diagonal_n_times_s(order, steps, schedule):
    L = lower_triangular(2, 16)
    near = sub_diagonal(16) < order * steps
    found = result(build("masked-neumann", 16, 2, order=order, steps=steps, schedule=schedule), L)
    np.testing.assert_allclose(found[:, near], truth(L)[:, near], rtol=0, atol=1e-10)
    if order * steps < 16:
        assert np.abs(found - truth(L)).max() > 1e-6, "and nowhere else"


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("schedule", ["doubling", "horner", "naive"])
@pytest.mark.parametrize("mask", [True, False])
def test_masked_neumann_is_exact_everywhere_once_n_times_s_reaches_the_chunk(chunk, schedule, mask):
    steps = chunk // 4
    L = lower_triangular(2, chunk)
    kernel = build("masked-neumann", chunk, 2, order=4, steps=steps, schedule=schedule, mask=mask)
    np.testing.assert_allclose(result(kernel, L), truth(L), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("order", "steps"), [(1, 4), (2, 3), (3, 4), (4, 2), (3, 1)])
def test_without_the_mask_it_is_the_series_of_n_times_s_terms(order, steps):
    L = lower_triangular(2, 32)
    series = sum(np.linalg.matrix_power(-L, n) for n in range(order * steps))
    found = result(build("masked-neumann", 32, 2, order=order, steps=steps, mask=False), L)
    np.testing.assert_allclose(found, series, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("order", "steps"), [(2, 3), (3, 4), (3, 8), (4, 3), (3, 1)])
def test_with_the_mask_it_is_the_correction_of_the_masked_series(order, steps):
    """T0 = the sub-diagonals below N of sum A^n; E = I - (I - A) T0; T = T0 sum E^s, in this order."""
    L, one = lower_triangular(2, 32), np.eye(32)
    start = sum(np.linalg.matrix_power(-L, n) for n in range(order)) * (sub_diagonal(32) < order)
    residual = one - (one + L) @ start
    want = start @ sum(np.linalg.matrix_power(residual, s) for s in range(steps))
    found = result(build("masked-neumann", 32, 2, order=order, steps=steps), L)
    np.testing.assert_allclose(found, want, rtol=0, atol=1e-10)


@pytest.mark.parametrize("matrices", range(1, 10))
@pytest.mark.parametrize("algorithm", ["forward-substitution", "mxr", "masked-neumann"])
def test_results_do_not_depend_on_how_many_matrices_go_together(algorithm, matrices):
    """On two core groups mxr takes 1, 2 or 4 matrices a pass, masked-neumann 2: the last pass is ragged."""
    L = lower_triangular(matrices, 32, seed=5)
    found = result(build(algorithm, 32, matrices, "fp16", "toy", **published(algorithm)), L)
    alone = [
        result(build(algorithm, 32, 1, "fp16", "toy", **published(algorithm)), one[None])[0] for one in L
    ]
    if algorithm == "forward-substitution":  # its sums are taken in the order of the BLAS, which may change
        np.testing.assert_allclose(found, alone, rtol=0, atol=1e-6)
    else:
        np.testing.assert_array_equal(found, alone)


def published(algorithm: str) -> dict[str, str]:
    return {"variant": "published"} if algorithm == "mxr" else {}


# --- counts ------------------------------------------------------------------------------------------


def per_matrix(kernel: Kernel) -> list[Operation]:
    """The operations of one trip of one matrix."""
    (items,) = [node for phase in kernel.phases for node in phase.nodes if isinstance(node, Items)]
    return list(operations(items.body))


def way(op: Operation) -> str:
    ends = [end.tile.level if isinstance(end, View) else "GM" for end in (op.srcs[0], op.dst)]
    return "->".join(ends)


PUBLISHED = [  # chunk, products, exits to L1, full copies to A and to B, 16x16 copies
    (16, 12, 8, (9, 10), 2),
    (32, 16, 9, None, 6),
    (64, 20, 11, None, 20),
    (128, 24, 13, (15, 16), 72),
]


@pytest.mark.parametrize(("chunk", "products", "exits", "full", "blocks"), PUBLISHED)
def test_mxr_as_published_has_the_counts_of_the_measured_kernel(chunk, products, exits, full, blocks):
    ops = per_matrix(build("mxr", chunk, 1, "fp16", variant="published"))
    kinds = Counter(op.kind for op in ops)
    assert kinds[OpKind.matmul] == products
    ways = Counter(way(op) for op in ops if op.kind is OpKind.move and not masked(op))
    assert ways["L0C->L1"] == exits
    assert ways["L1->L0A"] + ways["L1->L0B"] == {16: 19, 32: 23, 64: 27, 128: 31}[chunk]
    if full:
        assert (ways["L1->L0A"], ways["L1->L0B"]) == full
    copies = Counter()
    for op in ops:
        if masked(op):
            copies[way(op)] += int(op.fractals[0].sum())
    assert sum(copies.values()) == blocks
    assert copies["L1->L0A"] == copies["L1->L0B"] == blocks // 2
    assert kinds[OpKind.load] == kinds[OpKind.store] == 1


def masked(op: Operation) -> bool:
    return op.kind is OpKind.move and any(mask is not None for mask in op.fractals)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_mxr_as_published_waits_where_the_measured_kernel_does(chunk):
    """Empty turns: the two zero copies, the exit of Y, and one before each of four products that add."""
    ops = per_matrix(build("mxr", chunk, 1, "fp16", variant="published"))
    waits = Counter(op.on for op in ops if op.kind is OpKind.wait)
    assert waits == {"aic_mac": 3, "aic_fixpipe": 4}


@pytest.mark.parametrize(("total", "group"), [(1, 1), (24, 1), (25, 2), (48, 2), (49, 4), (1000, 4)])
def test_mxr_as_published_takes_as_many_matrices_a_pass_as_keep_24_cores_busy(total, group):
    kernel = build("mxr", 16, total, "fp16", variant="published")
    (items,) = [node for node in kernel.phases[0].nodes if isinstance(node, Items)]
    assert items.group == group and items.deal == "cyclic"


@pytest.mark.parametrize("chunk", CHUNKS)
def test_mxr_by_the_book_multiplies_least(chunk):
    """6 + 2 log2(C/16) useful products, and three with the identity."""
    ops = per_matrix(build("mxr", chunk, 1, "fp16", variant="textbook"))
    products = [op for op in ops if op.kind is OpKind.matmul]
    assert len(products) == 9 + 2 * int(math.log2(chunk / 16))
    assert sum(identity_product(op) for op in ops) <= 3


def identity_product(op: Operation) -> bool:
    """An operand is the identity or its negative: the label names no product of two matrices."""
    return op.kind is OpKind.matmul and op.name in (
        "-I M",
        "I",
        "- diag(M)",
        "X I",
        "+ I",
        "-diag(M)",
        "I I",
        "Xo I",
    )


def test_forward_substitution_takes_a_step_per_row():
    ops = per_matrix(build("forward-substitution", 64, 1, "fp16"))
    steps = [op for op in ops if op.name == "row step"]
    assert [op.srcs[0].cols for op in steps] == list(range(1, 64)), "triangular: only the rows above"


USELESS = {"A = -I L", "I", "I + A", "I + A (..)", "- T0", "+ I", "I + E", "+ E^s", "I + E P"}
"""products of masked-neumann with the identity or its negative"""


@pytest.mark.parametrize(("order", "steps", "schedule"), [n for n in NEUMANN if n[0] > 1 and n[1] > 1])
def test_masked_neumann_has_the_products_that_the_paper_counts(order, steps, schedule):
    """(N - 2) + 1 + P(S) + 1 with P = 2 (p - 1) by doubling where S = 2^p, and S - 2 otherwise."""
    ops = per_matrix(build("masked-neumann", 64, 1, "fp16", order=order, steps=steps, schedule=schedule))
    products = [op for op in ops if op.kind is OpKind.matmul and op.name not in USELESS]
    power = steps & (steps - 1) == 0
    correction = 2 * (int(math.log2(steps)) - 1) if schedule == "doubling" and power else steps - 2
    assert len(products) == (order - 2) + 1 + correction + 1


def test_the_paper_s_settings_are_the_defaults():
    """C=64: N=3, S=8 by doubling, 7 products; C=32: N=4, S=3, 5 products."""
    for chunk, settings, count in ((64, (3, 8, "doubling"), 7), (32, (4, 3, "horner"), 5)):
        kernel = build("masked-neumann", chunk, 1, "fp16")
        assert (kernel.settings["order"], kernel.settings["steps"], kernel.settings["schedule"]) == settings
        assert kernel.settings["mask"] is True
        useful = [o for o in per_matrix(kernel) if o.kind is OpKind.matmul and o.name not in USELESS]
        assert len(useful) == count


# --- accuracy on realistic input -----------------------------------------------------------------------


@lru_cache
def realistic(chunk: int) -> np.ndarray:
    """Sixty-four matrices L of 16 heads, as the command line generates them by default."""
    return inputs.generate(chunk, [8192], heads=16, samples=64).L


@pytest.mark.parametrize("chunk", [64, 128])
@pytest.mark.parametrize("variant", ["published", "textbook"])
def test_mxr_in_fp16_is_within_a_thousandth_on_generated_input(chunk, variant):
    L = realistic(chunk)
    found = inverse(build("mxr", chunk, len(L), "fp16", variant=variant), L)
    errors = compare(found.outputs["T"][:, 0], inputs.reference_inverse(L))
    assert errors.relative_error < 1e-3
    assert found.nonfinite == 0


@pytest.mark.parametrize("algorithm", ["forward-substitution", "mxr", "masked-neumann"])
@pytest.mark.parametrize("chunk", [32, 64])
def test_bf16_runs_and_is_as_coarse_as_its_mantissa(algorithm, chunk):
    L = realistic(chunk)
    found = inverse(build(algorithm, chunk, len(L), "bf16"), L)
    precise = result(build(algorithm, chunk, len(L)), L)
    assert found.nonfinite == 0
    assert 1e-4 < compare(found.outputs["T"][:, 0], precise).relative_error < 1e-2


@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("algorithm", ["forward-substitution", "mxr", "masked-neumann"])
def test_integer_operands_run_and_report_what_saturates(algorithm, dtype):
    """Small matrices stay inside the range; with L of 10 in every place something must saturate."""
    small = np.tril(np.full((2, 32, 32), 0.01), -1)
    found = inverse(build(algorithm, 32, 2, dtype), small)
    assert found.saturated == 0
    step = 2.0**-6 if dtype == "int8" else 2.0**-11
    assert np.abs(found.outputs["T"][:, 0] - truth(small)).max() < 16 * step
    huge = inverse(build(algorithm, 32, 2, dtype), np.tril(np.full((2, 32, 32), 100.0), -1))
    bad = [r for r in huge.ranges if r.saturated or r.nonfinite]
    assert bad or algorithm == "forward-substitution", "its sums are taken in fp32"


def test_an_overflow_in_fp16_is_seen():
    """Powers of a matrix of ones leave fp16 where the exact inverse stays within one."""
    L = np.tril(np.ones((1, 128, 128)), -1)
    found = inverse(build("masked-neumann", 128, 1, "fp16", order=8, steps=16, mask=False), L)
    assert found.nonfinite > 0
    assert inverse(build("mxr", 128, 1, "fp16"), L).nonfinite == 0


# --- machines ------------------------------------------------------------------------------------------


MACHINES = ("ascend-910b2", "ascend-950pr-9599", "ascend-310p3", "hexagon-class", "toy")


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("chunk", [16, 32, 64])
@pytest.mark.parametrize(("algorithm", "how"), [*EXACT, ("masked-neumann", {})])
def test_every_algorithm_builds_is_checked_lowered_and_timed_on_every_machine(algorithm, how, chunk, machine):
    kernel = build(algorithm, chunk, 5, "fp16", machine, **how)
    check(kernel, Target.of(profile(machine)))
    timeline = simulate(lower(kernel, profile(machine)))
    assert timeline.operations > 0 and timeline.makespan > 0


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("algorithm", "how"), [*EXACT, ("masked-neumann", {"order": 4, "steps": 8})])
def test_routes_and_shared_memories_change_no_value(algorithm, how, machine):
    L = lower_triangular(5, 32, seed=3)
    kernel = build(algorithm, 32, 5, "fp64", machine, **how)
    np.testing.assert_allclose(result(kernel, L), truth(L), rtol=0, atol=1e-10)


@pytest.mark.parametrize("machine", MACHINES)
def test_chunks_of_128_fit_every_machine(machine):
    for algorithm in ("forward-substitution", "mxr", "masked-neumann"):
        check(build(algorithm, 128, 5, "fp16", machine), Target.of(profile(machine)))


# --- what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "chunk", "message"),
    [
        ("mxr", 40, "--chunk: mxr halves the matrix; got 40, use 16, 32, 64, 128 or 256"),
        (
            "masked-neumann",
            40,
            "--chunk: masked-neumann works on 16x16 fractals; got 40, use a multiple of 16",
        ),
        ("masked-neumann", 8, "--chunk: masked-neumann works on 16x16 fractals; got 8"),
        ("forward-substitution", 512, "--chunk: forward-substitution takes chunks up to 256, got 512"),
        ("mxr", 48, "--chunk: mxr halves the matrix; got 48, use 16, 32, 64, 128 or 256"),
    ],
)
def test_a_chunk_that_does_not_suit_the_algorithm_is_refused_with_the_remedy(algorithm, chunk, message):
    with pytest.raises(Unsupported, match=message):
        build(algorithm, chunk, dtype="fp16")


def test_parameters_belong_to_their_algorithm():
    with pytest.raises(
        InputError, match="--order: mxr has no such parameter; it takes --fractals, --out-dtype"
    ):
        build("mxr", 64, order=3)
    with pytest.raises(InputError, match="--algorithm: tri-inverse has no 'mrx'; did you mean 'mxr'"):
        build("mrx", 64)
    with pytest.raises(InputError, match="--variant: mxr has no 'publishd'; did you mean 'published'"):
        build("mxr", 64, variant="publishd")


def test_a_dtype_that_the_cube_lacks_is_computed_but_not_timed():
    kernel = build("mxr", 32, dtype="fp64")
    with pytest.raises(Unsupported, match="ascend-910b2: no unit has fp64"):
        lower(kernel, profile("ascend-910b2"))
