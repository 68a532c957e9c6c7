"""Inverses in few bits: each remedy against integers worked out by hand, what it buys, and what it costs."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from algorithms import REGISTRY
from npusim import cost
from npusim.builder import InputError, Options, Problem, Target, Unsupported
from npusim.check import check
from npusim.execute import Execution, execute
from npusim.generate import generate_matrices
from npusim.lower import lower
from npusim.metrics import Errors, compare
from npusim.profiles import load_machine

ENTRY = REGISTRY["tri-inverse"]
LIMIT = {"int4": 7, "int8": 127, "int16": 32767}
profile = lru_cache(load_machine)


def build(algorithm: str, chunk: int = 64, dtype: str = "int8", machine: str = "ascend-910b2", **how):
    problem = Problem(chunk=chunk, matrices=COUNT, dtype=dtype)
    return ENTRY.build(problem, Options(algorithm=algorithm, **how), Target.of(profile(machine)))


COUNT = 48


@lru_cache
def data(chunk: int = 64, correlation: float = 0.3) -> np.ndarray:
    """L [48, C, C] of generated keys and gates; 16 heads."""
    return generate_matrices(COUNT, chunk, samples=COUNT, key_correlation=correlation).L.astype(np.float64)


def run(kernel) -> Execution:
    return execute(check(kernel), {"L": data(kernel.tensor("L").shape[-1])[:, None]})


def errors(algorithm: str, **how) -> Errors:
    found = run(build(algorithm, **how))
    return compare(found.outputs["T"][:, 0], inverse_of(found.inputs["L"][:, 0].astype(np.float64)))


def inverse_of(L: np.ndarray) -> np.ndarray:
    return np.linalg.inv(np.eye(L.shape[-1]) + L)


# --- integers by hand --------------------------------------------------------------------------------


class Fixed:
    """Integers of a dtype in plain numpy: values q times a power of two, and a count of what saturates. What
    the vector unit quantises, int16, passes through fp32, which does not hold all of an int32."""

    def __init__(self, dtype: str) -> None:
        self.limit, self.saturated = LIMIT[dtype], 0

    def unit(self, largest: float) -> float:
        """The least power of two, at most 1, with which the dtype reaches max(1, largest)."""
        unit = 1.0
        while unit / 2 * self.limit >= max(1.0, largest):
            unit /= 2
        return unit

    def __call__(self, x: np.ndarray, unit: float, stored: bool = False) -> np.ndarray:
        q = np.rint((x.astype(np.float32) if self.limit > 127 and not stored else x).astype(float) / unit)
        kept = np.clip(q, -self.limit - 1, self.limit)
        self.saturated += int((q != kept).sum())
        return kept * unit


def band(n: int, width: int) -> np.ndarray:
    distance = np.arange(n)[:, None] - np.arange(n)
    return (distance >= 0) & (distance < width)


def ranges_of(largest: float, n: int, steps: int, horner: bool) -> tuple[list[float], list[float]]:
    """Largest P and E^s of the chunk whose L is `largest` everywhere, N = 3."""
    A, one = -largest * np.tri(n, k=-1), np.eye(n)
    E = one - (one - A) @ ((one + A + A @ A) * band(n, 3))
    sums, powers = [one + E], []
    if horner:
        for _ in range(steps - 2):
            sums.append(one + E @ sums[-1])
    else:
        power = E
        for _ in range(int(np.log2(steps)) - 1):
            power = power @ power
            powers.append(power)
            sums.append(sums[-1] + sums[-1] @ power)
    return [abs(s).max() for s in sums], [abs(p).max() for p in powers]


@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize(
    ("steps", "schedule", "scaled_for"), [(12, "horner", 0.3), (8, "doubling", 0.13), (8, "doubling", 0.3)]
)
def test_masked_neumann_with_a_scale_per_tile_is_what_integers_by_hand_give(
    dtype, steps, schedule, scaled_for
):
    """N = 3, C = 64: the mask in floats that hold what was requantised, everything else in integers; P is
    written anew, rounded, where a power has another scale than the one before."""
    how = {"order": 3, "steps": steps, "schedule": schedule, "scaling": "per-tile", "scaled_for": scaled_for}
    found = run(build("masked-neumann", dtype=dtype, **how))
    q, one = Fixed(dtype), np.eye(64)
    u = q.unit(1.0)
    sums, powers = ([q.unit(x) for x in xs] for xs in ranges_of(scaled_for, 64, steps, schedule == "horner"))
    L = q(data(), u, stored=True)
    before, q.saturated = q.saturated, 0
    A = -L
    wide = np.float16 if dtype == "int8" else np.float32
    T0 = (one + A @ q(one + A, u)).astype(wide).astype(float) * band(64, 3)
    T0 = q(T0, u)
    E = q(one - T0 + A @ T0, u)
    exact = one + E
    P, scale = q(exact, sums[0]), u * u
    if schedule == "horner":
        for unit in sums[1:]:
            P = q(one + E @ P, unit)
    else:
        power, at = E, sums[0]
        for of_power, of_sum in zip(powers, sums[1:], strict=True):
            power = q(power @ power, of_power)
            exact = (exact if scale == at * of_power else P) + P @ power
            P, scale, at = q(exact, of_sum), at * of_power, of_sum
    np.testing.assert_array_equal(found.inputs["L"][:, 0], L)
    np.testing.assert_array_equal(found.outputs["T"][:, 0], (T0 @ P).astype(np.float16))
    assert found.saturated == q.saturated and before == 0
    assert (found.saturated > 0) == (scaled_for == 0.13), "0.3 is as hard as any of these chunks"


@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_diagonal_first_is_what_integers_by_hand_give(dtype):
    found = run(build("doubling", variant="diagonal-first", dtype=dtype, scaling="per-tile"))
    q, one, blocks = Fixed(dtype), np.eye(64), np.kron(np.eye(4), np.ones((16, 16)))
    u = q.unit(1.0)
    L = q(data(), u, stored=True)
    D = L * blocks
    Y, X = q(D @ D, u), one - D
    for last in (False, False, True):
        X = X + q(X, u) @ Y
        Y = Y if last else q(Y @ Y, u)
    X = q(X, u)
    B = q(X @ (L - D), u)
    Z = one - B
    Z = q(Z + q(Z, u) @ q(B @ B, u), u)
    np.testing.assert_array_equal(found.outputs["T"][:, 0], (Z @ X).astype(np.float16))
    assert found.saturated == q.saturated == 0


# --- what bounds the ranges --------------------------------------------------------------------------


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.9])
def test_what_is_said_to_be_bounded_by_one_is(correlation):
    """X, X L between blocks, T0 and E of the delta rule in float64, from keys that are alike or not."""
    L, one = data(64, correlation), np.eye(64)
    T = inverse_of(L)
    T0 = T * band(64, 3)
    E = one - (one + L) @ T0
    blocks = np.kron(np.eye(4), np.ones((16, 16)))
    X = inverse_of(L * blocks)
    for bounded in (L, T - one, T0 - one, E, X - one, X @ (L - L * blocks)):
        assert np.abs(bounded).max() <= 1 + 1e-12
    assert np.abs(np.linalg.matrix_power(L, 4)).max() > 1 or correlation < 0.3, "powers are not"


# --- what the remedies buy ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize(
    ("algorithm", "how"),
    [
        ("masked-neumann", {"steps": 12}), ("block-recursion", {}), ("mxr", {"variant": "textbook"}),
        ("doubling", {"variant": "diagonal-first"}),
    ],
)  # fmt: skip
def test_a_scale_per_tile_gains_the_bits_that_one_scale_for_all_wastes(algorithm, how, dtype):
    """One bit of eight, as 2 is no longer to be reached, and four of sixteen: 6 dB each."""
    one, each = (errors(algorithm, dtype=dtype, scaling=s, **how) for s in ("uniform", "per-tile"))
    gained = each.snr_db - one.snr_db
    assert (3 < gained < 8) if dtype == "int8" else (15 < gained < 26)


def test_twelve_terms_in_int8_end_where_its_rounding_does_and_eight_do_not():
    """As the paper, which uses S = 8..12 with INT8; fp16 gains by S = 12 as well, and far more."""
    eight, twelve = (errors("masked-neumann", steps=s, scaling="per-tile") for s in (8, 12))
    assert eight.worst_snr_db < 15 < 25 < twelve.worst_snr_db
    assert twelve.relative_error < 0.25 * eight.relative_error
    floats = errors("masked-neumann", steps=12, dtype="fp16")
    assert floats.snr_db > twelve.snr_db + 30


@pytest.mark.parametrize("dtype", ["int8", "int16", "fp16"])
def test_blocks_bring_powers_back_into_range(dtype):
    whole, split = (errors("doubling", dtype=dtype, block=block) for block in (64, 16))
    first = errors("doubling", dtype=dtype, variant="diagonal-first")
    assert max(split.relative_error, first.relative_error) < 0.1 * whole.relative_error


def test_doubling_in_fp16_at_128_is_finite_with_the_diagonal_first_or_in_blocks():
    assert errors("doubling", chunk=128, dtype="fp16").nonfinite > 0
    first = errors("doubling", chunk=128, dtype="fp16", variant="diagonal-first")
    split = errors("doubling", chunk=128, dtype="fp16", block=32)
    assert first.nonfinite == split.nonfinite == 0
    assert first.relative_error < 5e-4 and split.relative_error < 5e-4


def test_powers_at_a_scale_of_their_own_do_not_overflow_but_what_cancels_is_lost():
    """C = 128 in fp16: made for chunks as hard as 0.3, nothing overflows, and no digit of T is right."""
    kernel = build("doubling", chunk=128, dtype="fp16", scaling="per-tile", scaled_for=0.3)
    found = run(kernel)
    assert found.nonfinite == 0
    assert {r.scale for r in found.ranges if r.name.startswith("exit L^")} > {1.0}
    assert compare(found.outputs["T"][:, 0], inverse_of(data(128))).relative_error > 0.5


@pytest.mark.parametrize("chunk", [16, 32, 64, 128])
@pytest.mark.parametrize("algorithm", ["doubling", "mxr", "block-recursion", "masked-neumann"])
def test_scales_change_nothing_but_the_rounding(algorithm, chunk):
    """In fp32 what has a power of two for a scale is the same to the last bit of it, or nearly."""
    how = {"variant": "textbook"} | ({"block": 16} if algorithm == "doubling" else {})
    for dtype in ("int8", "int16", "fp8_e4m3", "bf16"):
        kernel = build(algorithm, chunk, dtype, scaling="per-tile", scaled_for=0.3, **how)
        assert run(kernel).nonfinite == 0
    plain, scaled = (run(build(algorithm, chunk, "fp32", scaling=s, **how)) for s in ("uniform", "per-tile"))
    np.testing.assert_array_equal(plain.outputs["T"], scaled.outputs["T"])


# --- what they cost ----------------------------------------------------------------------------------


def cycles(kernel, machine: str, unit: str) -> float:
    """Occupancy of a unit by one of each operation of the kernel."""
    (phase,) = lower(kernel, profile(machine)).phases
    return sum(i.cost.occupancy for i in phase.instances if phase.lanes[i.lane].unit == unit)


@pytest.mark.parametrize(
    ("machine", "dtype", "k0"),
    [("ascend-910b2", "int8", 32), ("ascend-910b2", "int4", 64), ("ascend-950pr-9599", "fp8_e4m3", 32)],
)
def test_products_run_at_the_k0_of_their_dtype(machine, dtype, k0):
    wide, narrow = (cost.product(profile(machine), 64, 64, 64, d) for d in ("fp16", dtype))
    start = profile(machine).core.cube.startup_cycles.value
    assert (wide.occupancy - start) / (narrow.occupancy - start) == k0 / 16
    how = {"algorithm": "mxr", "variant": "textbook", "machine": machine}
    graphs = [build(dtype=d, **how) for d in ("fp16", dtype)]
    assert cycles(graphs[1], machine, "aic_mac") < cycles(graphs[0], machine, "aic_mac")


def test_requantising_takes_the_vector_unit_where_no_move_does():
    eight, four = (build("mxr", variant="textbook", dtype=d) for d in ("int8", "int4"))
    assert cycles(eight, "ascend-910b2", "aiv_vec") == 0 < cycles(four, "ascend-910b2", "aiv_vec")
    fused = build("mxr", variant="textbook", dtype="int8", machine="ascend-310p3")
    assert cycles(fused, "ascend-310p3", "aiv_vec") > 0


def test_a_sum_is_written_anew_where_the_scale_of_a_power_changes():
    """As a product more: E^4 of a chunk as hard as 0.3 needs another scale than E^2."""
    kernels = [
        build("masked-neumann", scaling="per-tile", scaled_for=hard, schedule="doubling")
        for hard in (0.01, 0.3)
    ]
    counts = [
        sum(i.name == "P I" for i in lower(kernel, profile("ascend-910b2")).phases[0].instances) // 2
        for kernel in kernels
    ]
    assert counts == [0, 1]


# --- what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "machine"),
    [("int16", "ascend-910b2"), ("fp8_e4m3", "ascend-910b2"), ("bf16", "ascend-310p3"), ("int16", "toy")],
)
@pytest.mark.parametrize("algorithm", ["masked-neumann", "mxr", "block-recursion", "doubling"])
def test_a_chip_that_lacks_a_dtype_refuses_to_time_it_and_computes(algorithm, dtype, machine):
    kernel = build(algorithm, 32, dtype, machine, scaling="uniform", variant="textbook")
    with pytest.raises(Unsupported, match=f"the cube has no {dtype} .*--no-timing"):
        lower(kernel, profile(machine))
    assert np.isfinite(execute(kernel, {"L": data(32)[:, None]}).outputs["T"]).all()


@pytest.mark.parametrize(
    ("how", "kind", "said"),
    [
        (
            {"algorithm": "masked-neumann", "schedule": "naive", "scaling": "per-tile"},
            Unsupported, "--schedule: naive adds all powers to one sum",
        ),
        ({"algorithm": "masked-neumann", "scaled_for": 0.2}, Unsupported, "--scaled-for: all operands have"),
        ({"algorithm": "mxr", "scaling": "per-tile"}, Unsupported, "--scaling: mxr published is built as"),
        ({"algorithm": "newton-schulz", "scaling": "per-tile"}, InputError, "--scaling: newton-schulz has"),
        ({"algorithm": "doubling", "block": 48}, Unsupported, "--block: 48 does not split a chunk of 64"),
        (
            {"algorithm": "doubling", "variant": "diagonal-first", "block": 16},
            Unsupported, "--block: the diagonal blocks of diagonal-first are 16 x 16",
        ),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(how, kind, said):
    with pytest.raises(kind, match=said):
        build(**how)
