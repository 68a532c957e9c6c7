"""Predictions held against silicon where tests/test_accuracy.py, which predicts all shipped rows, says
nothing: what documents alone give, a busy time of a graph made by hand, rows of a device that is not named.

The 910B2 rows are those of huawei-csl/megagdn-pto (outputs/data/kernel_bench_L4096.json and
kernel_bench_L8192.json; fp16 in, fp32 out, mean of 15 runs after 5 warm-ups), in which identical work differs
by up to 7 %. Sources of the others stand with them.
"""

from __future__ import annotations

from typing import Literal

import pytest

from algorithms import REGISTRY
from npusim.builder import Index, KernelBuilder
from npusim.lower import lower
from npusim.problem import Options, Problem, Target
from npusim.settings import EngineSettings, MachineSettings
from npusim.study import time_program


@pytest.mark.parametrize(
    ("profile", "cores", "mte2_us"), [("ascend-910b1", 24, 283.508), ("ascend-950pr-9589", 32, 241.56)]
)
def test_tiled_reads_of_128_byte_rows_into_l1_take_what_the_profiler_measured(profile, cores, mte2_us):
    """12288 x 12288 fp16 in tiles of 64 x 64, bands of rows per core, all loads into one buffer
    (cannmirror/asc-devkit, examples/01_simd_cpp_api/05_best_practices, 04_memory_access/data_copy)."""
    machine = MachineSettings(profile=profile).machine()
    k = KernelBuilder("copy-gm-l1", Target.of(machine), "fp16")
    tensor = k.input("x", (192, 192, 64, 64), "fp16", pitch=12288)
    tile = k.tile("tile", "L1", (64, 64), "fp16")

    def band(items: list[tuple[Index, ...]]) -> None:
        row, column = items[0]
        k.load(tile, tensor.at(row, column), label="load")

    with k.phase("read"):
        k.items([("row", 192), ("column", 192)], band, deal="contiguous")
    assert len(lower(k.finish(), machine).phases[0].start_cycles) == cores
    report, _ = time_program(lower(k.finish(), machine), EngineSettings())
    assert report.units["aic_mte2"].busy_us == pytest.approx(mte2_us, rel=0.05)


def mxr_event_us(
    problem: Problem, evidence: Literal["documented", "all"] = "all", cores: int | None = None
) -> float:
    machine = MachineSettings(profile="ascend-910b2", evidence=evidence, cores=cores).machine()
    options = Options(algorithm="mxr", out_dtype="fp32")
    kernel = REGISTRY["tri-inverse"].build(problem, options, Target.of(machine))
    assert kernel.variant == "published"
    return time_program(lower(kernel, machine), EngineSettings())[0].event_us


@pytest.mark.parametrize(
    ("seq_len", "heads", "us"), [(4096, 16, 4007.088), (8192, 16, 7420.848), (4096, 32, 7958.417)]
)
def test_with_documented_costs_alone_mxr_comes_within_15_percent_of_silicon(seq_len, heads, us):
    problem = Problem(chunk=128, batch=16, seq_len=seq_len, heads=heads)
    assert mxr_event_us(problem, "documented") == pytest.approx(us, rel=0.15)


@pytest.mark.parametrize(
    ("chunk", "matrices", "us"),
    [(16, 80, 16.215), (16, 160, 20.249), (16, 320, 27.779), (16, 512, 37.619), (16, 1024, 61.139),
     (64, 160, 32.264), (64, 320, 58.544)],
)  # fmt: skip
def test_inverses_on_a_910b_that_is_not_named_come_within_a_tenth_of_silicon(chunk, matrices, us):
    """huawei-csl/pto-kernels PR #73; 20 cores are likely. The errors that the package records leave these
    rows out. One is left out here, too: 80 matrices of 64 took 19.06 us, 2.9 more than 80 of 16, where by its
    neighbours the four a core should take 9 more. Predicted: 23.0 us."""
    found = mxr_event_us(Problem(chunk=chunk, matrices=matrices), cores=20)
    assert found == pytest.approx(us, rel=0.10)
