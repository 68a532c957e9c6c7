"""The triangular inverses: equal to numpy's in fp64, with the published counts, on every kind of machine."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import pytest

from algorithms import REGISTRY
from npusim import inputs
from npusim.builder import GraphError, InputError, Kernel, Options, Problem, Target, Unsupported
from npusim.check import check
from npusim.engine.reference import simulate
from npusim.execute import Execution, execute
from npusim.graph import Items, Operation, View, operations
from npusim.lower import lower
from npusim.machine import override
from npusim.metrics import compare
from npusim.ops import OpKind
from npusim.profiles import load_machine

ENTRY = REGISTRY["tri-inverse"]
CHUNKS = (16, 32, 64, 128)
VARIANTS = [(name, variant) for name, one in ENTRY.algorithms.items() for variant in one.variants]
"""every algorithm in every structure"""
TAKES = {"triton": (16, 32, 64), "tilelang": (32, 64, 128)}
"""chunks of the compiled kernels; all else takes any that its buffers allow"""
profile = lru_cache(load_machine)


def build(
    algorithm: str, chunk: int, matrices: int = 3, dtype: str = "fp64", machine: str = "ascend-910b2", **how
):
    problem = Problem(chunk=chunk, matrices=matrices, dtype=dtype)
    return ENTRY.build(problem, Options(algorithm=algorithm, **how), Target.of(profile(machine)))


def inverse(kernel: Kernel, L: np.ndarray) -> Execution:
    """Run on L [matrices, C, C], and on the masked start where the kernel is given one."""
    given = {"L": L[:, None]}
    if any(tensor.name == "T0" for tensor in kernel.tensors):
        order, block = kernel.settings["order"], kernel.settings["block"]
        blocks = np.arange(L.shape[-1]) // block
        kept = (sub_diagonal(L.shape[-1]) < order) & (blocks[:, None] == blocks)
        given["T0"] = (truth(L) * kept)[:, None]
    return execute(kernel, given)


def result(kernel: Kernel, L: np.ndarray) -> np.ndarray:
    return inverse(kernel, L).outputs["T"][:, 0]


def lower_triangular(matrices: int, chunk: int, seed: int = 0) -> np.ndarray:
    """Dense strictly lower triangular matrices with inverses of moderate size."""
    rng = np.random.default_rng(seed)
    return np.tril(rng.uniform(-1, 1, (matrices, chunk, chunk)), -1) / math.sqrt(chunk)


def truth(L: np.ndarray) -> np.ndarray:
    return np.linalg.inv(np.eye(L.shape[-1]) + L)


# --- exactness ---------------------------------------------------------------------------------------


EXACT = [(name, {"variant": variant}) for name, variant in VARIANTS if name != "masked-neumann"]


def taken(how: dict[str, object], chunk: int) -> bool:
    return chunk in TAKES.get(str(how.get("variant")), (chunk,))


@pytest.mark.parametrize("chunk", [*CHUNKS, 256])
@pytest.mark.parametrize(("algorithm", "how"), EXACT)
def test_the_exact_algorithms_equal_numpy_in_fp64(algorithm, how, chunk):
    """And store every element of T, the zeros above the diagonal too."""
    L = lower_triangular(3, chunk)
    if not taken(how, chunk):
        with pytest.raises(
            Unsupported, match=f"--chunk: the {how['variant']} kernel of .*; got {chunk}, use"
        ):
            build(algorithm, chunk, **how)
        return
    found = inverse(build(algorithm, chunk, **how), L)
    np.testing.assert_allclose(found.outputs["T"][:, 0], truth(L), rtol=0, atol=1e-10)
    assert found.written["T"].all()


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize(
    "algorithm", ["doubling", "block-recursion", "mxr", "newton-schulz", "masked-neumann"]
)
def test_fractals_left_out_change_nothing_but_the_work(algorithm, chunk):
    """Whole products of operands whose empty fractals are zero; blocks are picked out by copies then."""
    L = lower_triangular(3, chunk, seed=2)
    built = {on: build(algorithm, chunk, variant="textbook", fractals=on) for on in (True, False)}
    np.testing.assert_allclose(
        *(result(kernel, L) for kernel in built.values()), rtol=0, atol=1e-12, err_msg=algorithm
    )
    steps = {on: sum(fractal_products(op) for op in per_matrix(kernel)) for on, kernel in built.items()}
    assert steps[True] < steps[False] or chunk == 16


@pytest.mark.parametrize(
    ("block", "fractals"), [(16, True), (16, False), (32, True), (64, None), (128, None)]
)
def test_blocked_substitution_takes_blocks_of_any_size(block, fractals):
    L = lower_triangular(5, 128, seed=4)
    how = {"variant": "textbook", "block": block, "fractals": fractals}
    np.testing.assert_allclose(
        result(build("blocked-substitution", 128, 5, **how), L), truth(L), rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_newton_schulz_squares_its_residual_with_every_iteration(iterations):
    """From I - L the residual is L^2; after k iterations it is L^(2^(k+1))."""
    L, one = lower_triangular(2, 32), np.eye(32)
    found = result(build("newton-schulz", 32, 2, variant="textbook", iterations=iterations), L)
    residual = one - (one + L) @ found
    want = np.linalg.matrix_power(L, 2 ** (iterations + 1))
    np.testing.assert_allclose(residual, want, rtol=0, atol=1e-10)


@pytest.mark.parametrize("chunk", [48, 80, 96])
def test_algorithms_that_halve_nothing_take_any_multiple_of_16(chunk):
    L = lower_triangular(2, chunk)
    for algorithm in ("forward-substitution", "column-sweep", "doubling", "newton-schulz"):
        np.testing.assert_allclose(result(build(algorithm, chunk, 2), L), truth(L), rtol=0, atol=1e-10)
    blocked = build("blocked-substitution", chunk, 2, variant="textbook")
    np.testing.assert_allclose(result(blocked, L), truth(L), rtol=0, atol=1e-10)
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
    how = {"order": 4, "steps": steps, "schedule": schedule, "mask": mask, "block": chunk}
    kernel = build("masked-neumann", chunk, 2, **how)
    np.testing.assert_allclose(result(kernel, L), truth(L), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("order", "steps"), [(1, 4), (2, 3), (3, 4), (4, 2), (3, 1)])
def test_without_the_mask_it_is_the_series_of_n_times_s_terms(order, steps):
    L = lower_triangular(2, 32)
    series = sum(np.linalg.matrix_power(-L, n) for n in range(order * steps))
    found = result(build("masked-neumann", 32, 2, order=order, steps=steps, mask=False), L)
    np.testing.assert_allclose(found, series, rtol=0, atol=1e-10)


def corrected(L: np.ndarray, order: int, steps: int, kept: int) -> np.ndarray:
    """T0 = the sub-diagonals below `kept` of sum A^n; E = I - (I - A) T0; T = T0 sum E^s, in this order."""
    one = np.eye(L.shape[-1])
    series = sum(np.linalg.matrix_power(-L, n) for n in range(order))
    start = series * (sub_diagonal(L.shape[-1]) < kept)
    residual = one - (one + L) @ start
    return start @ sum(np.linalg.matrix_power(residual, s) for s in range(steps))


STARTS = [("vector", "exclusive"), ("vector", "inclusive"), ("start", "exclusive"), ("kkt", "exclusive")]


@pytest.mark.parametrize(("where", "edge"), STARTS)
@pytest.mark.parametrize(("order", "steps"), [(1, 4), (2, 3), (3, 4), (3, 8), (4, 3), (5, 2), (3, 1)])
def test_with_the_mask_it_is_the_correction_of_the_masked_series(order, steps, where, edge):
    """The same band, whether masked in mid-chain or formed from shifted loads before the cube begins."""
    if (where, steps) == ("kkt", 1):
        pytest.skip("the given start is the result")
    L = lower_triangular(2, 32)
    kernel = build("masked-neumann", 32, 2, order=order, steps=steps, mask_on=where, mask_edge=edge)
    want = corrected(L, order, steps, order + (edge == "inclusive"))
    np.testing.assert_allclose(result(kernel, L), want, rtol=0, atol=1e-10)


@pytest.mark.parametrize("where", ["vector", "start", "kkt"])
@pytest.mark.parametrize(("chunk", "block"), [(128, None), (256, None), (128, 32), (64, 16), (256, 128)])
def test_large_chunks_are_split_into_blocks_that_are_merged_in_pairs(chunk, block, where):
    L, size = lower_triangular(2, chunk), block or 64
    order, steps = 3, 4
    kernel = build("masked-neumann", chunk, 2, order=order, steps=steps, block=block, mask_on=where)
    want = np.zeros_like(L)
    for at in range(0, chunk, size):
        here = slice(at, at + size)
        want[:, here, here] = corrected(L[:, here, here], order, steps, order)
    while size < chunk:
        for at in range(size, chunk, 2 * size):
            low, high = slice(at, at + size), slice(at - size, at)
            want[:, low, high] = -want[:, low, low] @ L[:, low, high] @ want[:, high, high]
        size *= 2
    found = inverse(kernel, L)
    np.testing.assert_allclose(found.outputs["T"][:, 0], want, rtol=0, atol=1e-10)
    assert found.written["T"].all()


@pytest.mark.parametrize("matrices", range(1, 10))
@pytest.mark.parametrize("algorithm", list(ENTRY.algorithms))
def test_results_do_not_depend_on_how_many_matrices_go_together(algorithm, matrices):
    """On two core groups mxr takes 1, 2 or 4 matrices a pass, masked-neumann 2, blocked substitution as many
    as a vector core solves at once: the last pass is ragged."""
    L = lower_triangular(matrices, 32, seed=5)
    found = result(build(algorithm, 32, matrices, "fp16", "toy", **published(algorithm)), L)
    alone = [
        result(build(algorithm, 32, 1, "fp16", "toy", **published(algorithm)), one[None])[0] for one in L
    ]
    if algorithm in (
        "forward-substitution",
        "blocked-substitution",
    ):  # its sums are taken in the order of the BLAS, which may change
        np.testing.assert_allclose(found, alone, rtol=0, atol=1e-6)
    else:
        np.testing.assert_array_equal(found, alone)


def published(algorithm: str) -> dict[str, str]:
    return {"variant": "published"} if algorithm == "mxr" else {}


def per_matrix(kernel: Kernel) -> list[Operation]:
    """The operations of one trip of one matrix."""
    (items,) = [node for phase in kernel.phases for node in phase.nodes if isinstance(node, Items)]
    return list(operations(items.body))


def fractal_products(op: Operation) -> int:
    """How many products of two 16x16 fractals a product takes."""
    if op.kind is not OpKind.matmul:
        return 0
    a, b = (src for src in op.srcs if isinstance(src, View))
    masks = op.fractals or (None, None)
    left = np.ones((a.rows // 16, a.cols // 16)) if masks[0] is None else masks[0].astype(float)
    right = np.ones((b.rows // 16, b.cols // 16)) if masks[1] is None else masks[1].astype(float)
    return int((left @ right).sum())


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
    """L in multiples of 1/16, which both formats hold, stays inside the range and is inverted to about two
    units; with L of 100 in every place something must saturate."""
    sparse = np.random.default_rng(1).integers(-4, 5, (2, 32, 32)) * (lower_triangular(2, 32) > 0.14)
    small = np.tril(sparse, -1) / 16
    full = {"order": 4, "steps": 8} if algorithm == "masked-neumann" else {}
    kernel = build(algorithm, 32, 2, dtype, **full)
    found = inverse(kernel, small)
    assert found.saturated == 0
    unit = kernel.tensor("L").scale
    assert unit == (2.0**-5 if dtype == "int8" else 2.0**-10)
    np.testing.assert_array_equal(found.inputs["L"][:, 0], small)
    assert 8 * unit < np.abs(truth(small) - np.eye(32)).max() < 2
    assert np.abs(found.outputs["T"][:, 0] - truth(small)).max() < 3 * unit
    huge = inverse(build(algorithm, 32, 2, dtype), np.tril(np.full((2, 32, 32), 100.0), -1))
    bad = [r for r in huge.ranges if r.saturated or r.nonfinite]
    assert bad or algorithm == "forward-substitution", "its sums are taken in fp32"


@pytest.mark.parametrize("dtype", ["fp64", "int8"])
@pytest.mark.parametrize("chunk", [32, 64, 128, 256])
@pytest.mark.parametrize(("algorithm", "variant"), VARIANTS)
def test_nothing_depends_on_what_nothing_wrote(monkeypatch, algorithm, variant, chunk, dtype):
    """Memory that no operation wrote holds NaN here: zeros are not to be had for nothing."""
    monkeypatch.setattr("npusim.execute.UNWRITTEN", float("nan"))
    takes = ENTRY.algorithms[algorithm].parameters
    ways = [{}, {"fractals": False}, {"mask_on": "start"}, {"block": 16}, {"block": 16, "fractals": False}]
    for how in ways:
        textbook = variant == "textbook" or not (set(how) & {"fractals", "block"})
        if set(how) <= takes and textbook and taken({"variant": variant}, chunk):
            kernel = build(algorithm, chunk, 3, dtype, variant=variant, **how)
            assert np.isfinite(result(kernel, lower_triangular(3, chunk))).all(), how


FP32_ERRORS = [
    ("column-sweep", 64, 1e-7), ("doubling", 64, 7e-4), ("block-recursion", 64, 9e-8), ("mxr", 64, 1e-7),
    ("column-sweep", 128, 2e-7), ("doubling", 128, 2e2), ("block-recursion", 128, 2e-7), ("mxr", 128, 2e-7),
]  # fmt: skip
"""relative Frobenius errors that arXiv 2605.21325 gives for 0.5 tril(uniform) in fp32"""


@pytest.mark.parametrize(("algorithm", "chunk", "published_error"), FP32_ERRORS)
def test_errors_in_fp32_are_those_of_the_paper(algorithm, chunk, published_error):
    uniform = np.random.default_rng(0).uniform(0, 1, (8, chunk, chunk))
    L = np.tril(0.5 * uniform, -1).astype(np.float32)
    found, want = result(build(algorithm, chunk, 8, "fp32"), L), truth(L.astype(np.float64))
    errors = [np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(found, want, strict=True)]
    assert published_error / 2 < np.mean(errors) < 2 * published_error


def test_doubling_over_128_overflows_in_fp16_and_says_where():
    L = np.tril(0.5 * np.random.default_rng(0).uniform(0, 1, (4, 128, 128)), -1)
    found = inverse(build("doubling", 128, 4, "fp16"), L)
    assert found.nonfinite > 0
    assert {r.name for r in found.ranges if r.nonfinite} >= {"exit X", "+ X Y", "Y Y", "store T"}
    for algorithm in ("mxr", "block-recursion"):
        assert inverse(build(algorithm, 128, 4, "fp16"), L).nonfinite == 0


def correlated(chunk: int) -> np.ndarray:
    """L of keys that share a direction, without decay: row sums above 30, as in a trained model's layer 0."""
    rng = np.random.default_rng(0)
    keys = 0.6 * unit(rng.standard_normal((4, chunk, 64))) + unit(rng.standard_normal((4, 1, 64)))
    return 0.45 * np.tril(unit(keys) @ unit(keys).transpose(0, 2, 1), -1)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


OVERFLOWS = {("doubling", "textbook"), ("newton-schulz", "textbook")}
"""what forms powers of the whole L"""


@pytest.mark.parametrize(("algorithm", "variant"), [v for v in VARIANTS if v[1] != "triton"])
def test_row_sums_above_30_make_powers_of_the_whole_chunk_overflow_and_nothing_else(algorithm, variant):
    L = correlated(128)
    assert np.abs(L).sum(axis=-1).max() > 30
    found = inverse(build(algorithm, 128, 4, "fp16", variant=variant), L)
    bad = [r.name for r in found.ranges if r.nonfinite]
    assert bool(bad) == ((algorithm, variant) in OVERFLOWS)
    if bad:
        assert max(r.max_abs for r in found.ranges) > 65504
    elif algorithm != "masked-neumann":
        reference = inputs.reference_inverse(L.astype(np.float16).astype(np.float64))
        assert compare(found.outputs["T"][:, 0], reference).relative_error < 2e-3


def test_an_overflow_in_fp16_is_seen():
    """Powers of a matrix of ones leave fp16 where the exact inverse stays within one."""
    L = np.tril(np.ones((1, 128, 128)), -1)
    found = inverse(build("masked-neumann", 128, 1, "fp16", order=8, steps=16, mask=False, block=128), L)
    assert found.nonfinite > 0
    assert inverse(build("mxr", 128, 1, "fp16"), L).nonfinite == 0


# --- machines ------------------------------------------------------------------------------------------


NO_FP32_CUBE = ("ascend-310p3", "hexagon-class")
MACHINES = ("ascend-910b2", "ascend-950pr-9599", "ascend-310p3", "hexagon-class", "toy")


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("chunk", [16, 32, 64])
@pytest.mark.parametrize(
    ("algorithm", "how"), [*EXACT, ("masked-neumann", {}), ("masked-neumann", {"mask_on": "start"})]
)
def test_every_algorithm_builds_is_checked_lowered_and_timed_on_every_machine(algorithm, how, chunk, machine):
    if not taken(how, chunk):
        return
    if how.get("variant") == "triton" and machine in NO_FP32_CUBE and chunk > 16:
        with pytest.raises(Unsupported, match="the cube has no fp32"):
            lower(build(algorithm, chunk, 5, "fp16", machine, **how), profile(machine))
        return
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
    for algorithm in ENTRY.algorithms:
        kernel, target = build(algorithm, 128, 5, "fp16", machine), Target.of(profile(machine))
        if (algorithm, machine) == ("block-recursion", "ascend-310p3"):
            with pytest.raises(GraphError, match="the tiles at UB need 288 KiB of 256 KiB"):
                check(kernel, target)
        else:
            check(kernel, target)


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


@pytest.mark.parametrize("chunk", [48, 80, 96])
def test_on_ascend_blocked_substitution_is_the_kernel_that_takes_the_chunk(chunk):
    assert build("blocked-substitution", chunk).variant == "textbook"
    for size, variant in ((16, "triton"), (64, "triton"), (128, "tilelang"), (256, "textbook")):
        assert build("blocked-substitution", size).variant == variant
    assert build("blocked-substitution", 64, machine="ascend-310p3").variant == "textbook", "no fp32 there"
    one = override(profile("ascend-910b2"), {"core.vector_cores": 1})
    options = Options(algorithm="blocked-substitution")
    alone = ENTRY.build(Problem(chunk=128, matrices=3), options, Target.of(one))
    assert alone.variant == "textbook", "tilelang needs two vector cores"


def test_measured_structures_leave_no_choice_of_what_was_built():
    with pytest.raises(
        Unsupported, match=r"--slots: mxr published is built as measured .* --variant textbook"
    ):
        build("mxr", 64, variant="published", slots=2)
    with pytest.raises(Unsupported, match="--block: blocked-substitution triton is built as measured"):
        build("blocked-substitution", 64, block=32)


def test_what_needs_two_vector_cores_is_refused_where_there_is_one():
    one = override(profile("ascend-910b2"), {"core.vector_cores": 1})
    problem = Problem(chunk=64, matrices=24)
    options = Options(algorithm="blocked-substitution", variant="tilelang")
    with pytest.raises(Unsupported, match="needs two vector cores a group; use --variant textbook"):
        ENTRY.build(problem, options, Target.of(one))
    two = ENTRY.build(problem, options, Target.of(profile("ascend-910b2")))
    with pytest.raises(Unsupported, match=r"has 1 vector core\(s\) a group, and none for .* 'second'"):
        lower(two, one)


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
