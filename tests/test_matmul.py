"""The tiled matrix product, against numpy's, and what it asks of a machine."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms import REGISTRY
from npusim.errors import GraphError, InputError
from npusim.execute import execute
from npusim.lower import lower
from npusim.machine import Machine
from npusim.problem import Options, Problem, Target
from npusim.profiles import load_machine, profile_names
from npusim.settings import EngineSettings
from npusim.study import time_program

MATMUL = REGISTRY["matmul"]


def built(machine: Machine, m: int, n: int, k: int, dtype: str = "fp16", **options: int):
    return MATMUL.build(Problem(m=m, n=n, k=k, dtype=dtype), Options(**options), Target.of(machine))


def values(m: int, n: int, k: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"a": rng.standard_normal((m, k)), "b": rng.standard_normal((k, n))}


@given(
    st.integers(1, 70), st.integers(1, 70), st.integers(1, 150), st.sampled_from([None, 16, 24]),
    st.sampled_from([None, 16, 40]), st.sampled_from([1, 2, 3]), st.sampled_from(["toy", "hexagon-class"]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_in_fp64_it_is_the_product_whatever_the_tiles_and_their_edges(m, n, k, tile, tile_k, slots, profile):
    options = {
        "tile_m": min(tile, m) if tile else None, "tile_n": min(tile, n) if tile else None,
        "tile_k": min(tile_k, k) if tile_k else None, "slots": slots,
    }  # fmt: skip
    given = values(m, n, k)
    kernel = built(load_machine(profile), m, n, k, "fp64", **options)
    np.testing.assert_allclose(execute(kernel, given).outputs["c"], given["a"] @ given["b"], atol=1e-12 * k)


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
    assert built(machine, 1024, 1024, 1024).settings == {
        "tile_m": 128, "tile_n": 256, "tile_k": 64, "chunk_k": 256, "slots": 2, "out_dtype": "fp16",
    }  # fmt: skip
    assert built(machine, 1024, 1024, 1024, "fp32").settings["tile_k"] == 32


def test_a_tile_that_does_not_fit_or_exceeds_the_problem_is_refused():
    machine = load_machine("ascend-910b2")
    with pytest.raises(GraphError, match=r"L0C need 512 KiB of 128 KiB.*fewer slots"):
        lower(built(machine, 1024, 1024, 1024, tile_m=512), machine)
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
