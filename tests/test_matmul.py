"""The tiled matrix product, against numpy's, and what it asks of a machine."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms import REGISTRY
from npusim.errors import GraphError, InputError, Unsupported
from npusim.execute import execute
from npusim.lower import lower
from npusim.machine import Machine, override
from npusim.problem import Options, Problem, Target
from npusim.profiles import load_machine, profile_names
from npusim.settings import EngineSettings
from npusim.simulate import simulate
from npusim.study import time_program

MATMUL = REGISTRY["matmul"]


def built(machine: Machine, m: int, n: int, k: int, dtype: str = "fp16", **options: object):
    return MATMUL.build(Problem(m=m, n=n, k=k, dtype=dtype), Options(**options), Target.of(machine))


def values(m: int, n: int, k: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"a": rng.standard_normal((m, k)), "b": rng.standard_normal((k, n))}


@given(
    st.integers(1, 70), st.integers(1, 70), st.integers(1, 150), st.sampled_from([None, 16, 24]),
    st.sampled_from([None, 16, 40]), st.sampled_from([1, 2, 3]), st.sampled_from(["toy", "hexagon-class"]),
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_in_fp64_it_is_the_product_whatever_the_tiles_and_their_edges(m, n, k, tile, tile_k, slots, profile):
    options = {
        "tile_m": min(tile, m) if tile else None, "tile_n": min(tile, n) if tile else None,
        "tile_k": min(tile_k, k) if tile_k else None, "slots": slots,
    }  # fmt: skip
    given = values(m, n, k)
    kernel = built(load_machine(profile), m, n, k, "fp64", **options)
    np.testing.assert_allclose(execute(kernel, given).outputs["c"], given["a"] @ given["b"], atol=1e-12 * k)


@given(st.integers(257, 700), st.integers(1, 300), st.integers(1, 90))
@settings(max_examples=15, deadline=None)
def test_so_it_is_where_one_core_keeps_strips_of_a(m, n, k):
    given = values(m, n, k)
    kernel = built(load_machine("hexagon-class"), m, n, k, "fp64")
    assert kernel.settings["strip"] >= 64
    np.testing.assert_allclose(execute(kernel, given).outputs["c"], given["a"] @ given["b"], atol=1e-12 * k)


@pytest.mark.parametrize(("m", "n", "k"), [(4096, 18432, 2560), (4096, 2560, 9216), (4000, 2560, 9216)])
def test_of_one_core_memory_moves_a_once_and_b_once_for_each_strip(m, n, k):
    """8 MiB hold a strip of A and two panels of B, so the products set the pace where strips are high."""
    machine = load_machine("hexagon-class")
    kernel = built(machine, m, n, k)
    report, _ = time_program(lower(kernel, machine), EngineSettings())
    passes = -(-m // kernel.settings["strip"])
    moved = sum(report.bytes[way] for way in ("hbm_read", "l2_read"))
    assert moved == pytest.approx(2 * (m * k + passes * n * k))
    ideal_us = m * n * k / 8192 / 1400
    if m == 4096:
        assert ideal_us < report.task_us < 1.35 * ideal_us


@pytest.mark.parametrize("options", [{"tile_m": 128}, {"slots": 1}, {"swizzle": 2}])
def test_tiles_that_are_asked_for_are_taken_one_by_one(options):
    assert "strip" not in built(load_machine("hexagon-class"), 512, 512, 512, **options).settings
    assert "strip" not in built(load_machine("ascend-910b2"), 512, 512, 512).settings


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp32"])
def test_it_rounds_its_operands_and_once_its_result(dtype):
    given = values(100, 60, 500)
    done = execute(built(load_machine("toy"), 100, 60, 500, dtype), given)
    wide = done.inputs["a"].astype(np.float64) @ done.inputs["b"].astype(np.float64)
    unit = {"fp16": 2.0**-11, "bf16": 2.0**-8, "fp32": 2.0**-24}[dtype]
    sums = 500 * 2.0**-24 * np.abs(done.inputs["a"]) @ np.abs(done.inputs["b"])
    assert (np.abs(done.outputs["c"] - wide) <= unit * np.abs(wide) + sums + 1e-30).all()


@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_integer_products_are_exact(dtype):
    kernel = built(load_machine("toy"), 33, 65, 40, dtype)
    scale = kernel.tensor("a").scale
    done = execute(kernel, values(33, 65, 40))
    whole = np.rint(done.inputs["a"] / scale) @ np.rint(done.inputs["b"] / scale)
    assert kernel.tensor("c").dtype == "int32"
    np.testing.assert_array_equal(done.outputs["c"] / scale**2, whole)


@pytest.mark.parametrize("profile", profile_names())
def test_its_own_tiles_fit_every_machine_in_every_dtype_of_its_cube(profile):
    machine = load_machine(profile)
    for dtype in machine.core.cube.k0:
        for sizes in [(1024, 1024, 1024), (100, 50, 3000), (16, 4096, 16)]:
            assert lower(built(machine, *sizes, dtype), machine).phases


def test_on_an_ascend_core_the_tiles_fill_the_accumulator_and_halve_where_operands_are_wider():
    machine = load_machine("ascend-910b1")
    assert built(machine, 8192, 8192, 8192).settings == {
        "tile_m": 128, "tile_n": 256, "tile_k": 64, "chunk_k": 256, "slots": 2, "out_dtype": "fp16",
    }  # fmt: skip
    assert built(machine, 8192, 8192, 8192, "fp32").settings["tile_k"] == 32


def test_tiles_shrink_where_few_would_leave_cores_without_work():
    """300 x 1000: three rows of tiles of 128 leave 12 of 24 cores idle, seven of 48 one in seven."""
    machine = load_machine("ascend-910b1")
    assert built(machine, 300, 1000, 5000).settings["tile_m"] == 48
    assert time_us(machine, 300, 1000, 5000) < 0.9 * time_us(machine, 300, 1000, 5000, tile_m=128, tile_n=256)


@pytest.mark.parametrize("swizzle", [None, 1, 4, 64])
def test_a_band_of_rows_changes_what_is_shared_and_no_value(swizzle):
    machine, given = load_machine("toy"), values(128, 96, 64)
    options = {"tile_m": 16, "tile_n": 16, "swizzle": swizzle}
    kernel = built(machine, 128, 96, 64, "fp64", **options)
    np.testing.assert_allclose(execute(kernel, given).outputs["c"], given["a"] @ given["b"], atol=1e-10)


def test_bands_lower_what_memory_reads_where_l2_holds_few_strips():
    """Cores at work at one time read s strips of A and 24/s of B: 24 columns of one row read all of B once
    per row of tiles, a band of eight rows an eighth as often."""
    small = override(load_machine("ascend-910b1"), {"memory.l2_bytes": 16 * 2**20})
    rows, bands = (hbm_read(small, swizzle) for swizzle in (1, 8))
    assert bands < 0.4 * rows


def hbm_read(machine: Machine, swizzle: int) -> float:
    kernel = built(machine, 8192, 8192, 2048, swizzle=swizzle)
    return time_program(lower(kernel, machine), EngineSettings())[0].bytes["hbm_read"]


def time_us(machine: Machine, m: int, n: int, k: int, **options: object) -> float:
    return time_program(lower(built(machine, m, n, k, **options), machine), EngineSettings())[0].task_us


def test_a_tile_that_does_not_fit_or_exceeds_the_problem_is_refused():
    machine = load_machine("ascend-910b2")
    with pytest.raises(GraphError, match=r"L0C need 512 KiB of 128 KiB.*fewer slots"):
        lower(built(machine, 1024, 1024, 1024, tile_m=512, tile_n=256), machine)
    with pytest.raises(InputError, match=r"--tile-m: 128 is more than --m 100"):
        built(machine, 100, 1024, 1024, tile_m=128)


def test_the_cube_multiplies_each_fractal_once_and_memory_gives_each_operand_once():
    machine = load_machine("ascend-910b1")
    report, _ = time_program(lower(built(machine, 512, 1024, 768), machine), EngineSettings())
    steps = 512 // 16 * (1024 // 16) * (768 // 16)
    assert report.roofline["cube_us"] == pytest.approx(steps / 24 / machine.cycles_per_us)
    assert report.bytes["hbm_read"] == pytest.approx(2 * (512 * 768 + 768 * 1024))
    assert report.bytes["hbm_read"] + report.bytes["l2_read"] == 4 * 4 * (128 + 256) * 768 * 2
    assert report.bytes["hbm_written"] == pytest.approx(2 * 512 * 1024)


def test_edges_are_multiplied_at_their_own_size():
    machine = load_machine("toy")
    kernel = built(machine, 48, 20, 17, tile_m=32, tile_n=16, tile_k=16)
    report, _ = time_program(lower(kernel, machine), EngineSettings())
    fractals = 3 * 2 * 2  # ceil(48/16) ceil(20/16) ceil(17/16)
    assert report.roofline["cube_us"] == pytest.approx(fractals / 2 / machine.cycles_per_us)


@pytest.mark.parametrize("terms", [64, 1024])
def test_results_in_integers_reach_what_sums_of_so_many_products_do(terms):
    given = values(64, 64, terms)
    done = execute(built(load_machine("toy"), 64, 64, terms, "int8", out_dtype="int8"), given)
    assert done.saturated < 0.001 * 64 * 64
    error = np.linalg.norm(done.outputs["c"] - given["a"] @ given["b"])
    assert error < 0.05 * np.linalg.norm(given["a"] @ given["b"])


# --- the measured structures ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "variant"),
    [*(("ascend-910b1", name) for name in ("basic-2", "case-0", "case-1", "case-4", "gemm-a3")),
     ("ascend-950pr-9589", "basic-1")],
)  # fmt: skip
def test_measured_structures_multiply_by_the_transpose_of_b(profile, variant):
    """Whole numbers, so that fp16 operands and fp32 sums are exact; on a grid of 4 x 2 cores, of which the
    second column has a shorter block."""
    rng = np.random.default_rng(1)
    m, n, k = 512, 768, 512
    given = {"a": rng.integers(-2, 3, (m, k)), "b": rng.integers(-2, 3, (n, k))}
    kernel = built(override(load_machine(profile), {"core.groups": 8}), m, n, k, variant=variant)
    found = execute(kernel, {name: array.astype(float) for name, array in given.items()}).outputs["c"]
    np.testing.assert_array_equal(found, given["a"] @ given["b"].T)
    assert kernel.tensor("c").dtype == ("fp32" if variant == "gemm-a3" else "fp16")


def test_a_core_loads_multiplies_and_stores_as_often_as_the_sources_say():
    """Full cores of 8192^3 on A2: 96 tiles, 12288 products, 1536 loads of A and 3072 of B, 96 stores; case 4
    loads A 6144 times (asc-devkit, 01_matrix_compute). Mean over 24 cores, of which four have a third."""
    for variant, loads in {"basic-1": 1536 + 3072, "case-4": 6144 + 3072}.items():
        machine = load_machine("ascend-910b1")
        program = lower(built(machine, 8192, 8192, 8192, variant=variant), machine)
        counts: dict[str, float] = defaultdict(float)
        ran = simulate(program, EngineSettings()).totals().counts[0]
        for instance, count in zip(program.phases[0].instances, ran, strict=True):
            counts[instance.name] += count / 24
        share = (20 + 4 / 3) / 24
        assert counts["product"] == pytest.approx(12288 * share)
        assert counts["load A"] + counts["load B"] == pytest.approx(loads * share)
        assert counts["store C"] == pytest.approx(96 * share)


MEASURED = [
    # profile, variant, size, us and where published busy us of cube, MTE1, MTE2 (cannmirror/asc-devkit,
    # 01_matrix_compute, Task Duration; hw-native-sys/pto-isa, gemm_performance)
    ("ascend-910b1", "case-8", 8192, 4012.44, (3076.396, 2533.512, 3435.584)),
    ("ascend-910b1", "basic-1", 8192, 4121.16, (3081.664, 2538.348, 3552.248)),
    ("ascend-950pr-9589", "basic-1", 8192, 2572.047, (2564.813, 828.001, 1874.267)),
    ("ascend-910c-9391", "gemm-a3", 1536, 38.8, None),
    ("ascend-910c-9391", "gemm-a3", 6144, 1506.0, None),
]


@pytest.mark.parametrize(("profile", "variant", "size", "us", "busy"), MEASURED)
def test_matmul_comes_within_a_tenth_of_silicon_and_its_units_within_15_percent(
    profile, variant, size, us, busy
):
    machine = load_machine(profile)
    kernel = built(machine, size, size, size, variant=variant)
    report, _ = time_program(lower(kernel, machine), EngineSettings())
    assert report.task_us == pytest.approx(us, rel=0.10)
    for unit, measured in zip(("aic_mac", "aic_mte1", "aic_mte2"), busy or (), strict=False):
        assert report.units[unit].busy_us == pytest.approx(measured, rel=0.15)


def test_a_structure_that_takes_only_whole_tiles_says_which_size_is_wrong():
    machine = load_machine("ascend-910b1")
    with pytest.raises(Unsupported, match=r"--m: matmul case-8 is built for multiples of 256, got 8000"):
        built(machine, 8000, 8192, 8192, variant="case-8")
    with pytest.raises(Unsupported, match=r"--dtype: matmul basic-1 is built for fp16 and bf16"):
        built(machine, 8192, 8192, 8192, "fp32", variant="basic-1")
    with pytest.raises(Unsupported, match=r"there are 18; use --variant textbook"):
        built(override(machine, {"core.groups": 18}), 8192, 8192, 8192, variant="case-8")
    with pytest.raises(Unsupported, match=r"--tile-m: tiled case-4 is built as measured"):
        built(machine, 8192, 8192, 8192, variant="case-4", tile_m=64)
