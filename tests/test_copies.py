"""Kernels that only stream: add, copy, tiled reads and the empty one, against numpy.

Against silicon: test_accuracy.py.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms import REGISTRY, add, copy
from npusim.errors import InputError, Unsupported
from npusim.execute import Execution, execute
from npusim.graph import Kernel
from npusim.lower import lower
from npusim.machine import Machine
from npusim.problem import Options, Problem, Target
from npusim.profiles import load_machine, profile_names
from npusim.program import Program, Trips
from npusim.settings import EngineSettings
from npusim.study import time_program

STREAMS = [(name, v) for name, one in (("add", add), ("copy", copy)) for v in one.ALGORITHM.variants]
READS = ("copy-gm-ub", "copy-gm-l1")
FLOATS = {"fp64": np.float64, "fp32": np.float32, "fp16": np.float16}
SIZES = [(37, 129), (1, 1), (3, 40001), (500, 77), (97, 4097)]


def built(name: str, machine: Machine, m: int, n: int, dtype: str = "fp16", **options: object) -> Kernel:
    return REGISTRY[name].build(Problem(m=m, n=n, dtype=dtype), Options(**options), Target.of(machine))


def computed(name: str, machine: Machine, m: int, n: int, dtype: str, **options: object) -> Execution:
    rng = np.random.default_rng(0)
    given = {array: rng.standard_normal((m, n)) for array in "xy"}
    return execute(built(name, machine, m, n, dtype, **options), given)


def wanted(name: str, done: Execution, dtype: str) -> tuple[str, np.ndarray]:
    """The output and what numpy finds for it, of the inputs as stored, in their own dtype."""
    stored = {array: values.astype(FLOATS[dtype]) for array, values in done.inputs.items()}
    return ("z", stored["x"] + stored["y"]) if name == "add" else ("y", stored["x"])


# --- values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("m", "n"), SIZES)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("name", "variant"), STREAMS)
def test_values_are_those_of_numpy_to_the_last_bit(name, variant, dtype, m, n):
    done = computed(name, load_machine("ascend-910b1"), m, n, dtype, variant=variant)
    output, values = wanted(name, done, dtype)
    assert done.written[output].all()
    np.testing.assert_array_equal(done.outputs[output], values)


@given(
    st.integers(1, 60), st.integers(1, 9000), st.sampled_from(["add", "copy"]),
    st.sampled_from([1, 2, 3, 40]), st.sampled_from(["toy", "hexagon-class", "ascend-310p3"]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_values_are_right_whatever_the_tiles_and_their_edges(m, n, name, slots, profile):
    done = computed(name, load_machine(profile), m, n, "fp64", variant="textbook", slots=slots)
    output, values = wanted(name, done, "fp64")
    assert done.written[output].all()
    np.testing.assert_array_equal(done.outputs[output], values)


@pytest.mark.parametrize("dtype", ["int16", "int8"])
def test_sums_of_integers_are_rounded_once_and_copies_are_exact(dtype):
    machine = load_machine("toy")
    total, same = (computed(name, machine, 37, 129, dtype) for name in ("add", "copy"))
    unit = built("add", machine, 37, 129, dtype).tensor("z").scale
    assert (np.abs(total.outputs["z"] - total.inputs["x"] - total.inputs["y"]) <= unit / 2).all()
    np.testing.assert_array_equal(same.outputs["y"], same.inputs["x"])


# --- work and who does it --------------------------------------------------------------------------


def program(name: str, machine: Machine, m: int, n: int, **options: object) -> Program:
    return lower(built(name, machine, m, n, **options), machine)


@pytest.mark.parametrize(("m", "n"), SIZES)
@pytest.mark.parametrize(("name", "variant"), [*STREAMS, *((name, "plain") for name in READS)])
def test_memory_moves_each_byte_once(name, variant, m, n):
    machine = load_machine("ascend-910b1")
    moved = time_program(program(name, machine, m, n, variant=variant), EngineSettings())[0].bytes
    inputs, outputs = {"add": (2, 1), "copy": (1, 1)}.get(name, (1, 0))
    assert moved["hbm_read"] + moved["l2_read"] == pytest.approx(inputs * m * n * 2)
    assert moved["hbm_written"] + moved["l2_written"] == pytest.approx(outputs * m * n * 2)


def elements_per_core(program: Program) -> np.ndarray:
    """Elements that each core loads, of all inputs together. [cores]"""
    (phase,) = program.phases
    found = np.zeros(len(phase.start_cycles))
    for trips in phase.body:
        assert isinstance(trips, Trips)
        operations = [phase.instances[i].operation for i in trips.body if isinstance(i, int)]
        sizes = [op.dst.rows * op.dst.cols for op in operations if op and op.kind == "load" and op.dst]
        found += trips.count * sum(sizes)
    return found


@pytest.mark.parametrize(("m", "n"), [(8192, 8192), (1000, 512), (100, 129), (48, 30000)])
@pytest.mark.parametrize(("name", "variant"), [one for one in STREAMS if one[1] != "case-1"])
def test_all_vector_cores_share_the_rows_and_none_has_two_more_than_another(name, variant, m, n):
    found = elements_per_core(program(name, load_machine("ascend-910b1"), m, n, variant=variant))
    rows = found / n / (2 if name == "add" else 1)
    assert len(found) == 48
    assert rows.sum() == pytest.approx(m)
    assert rows.max() - rows.min() <= 1


def test_bands_of_add_are_those_of_the_source():
    """171 rows on 32 cores and 170 on 16, in 86 or 85 tiles of 16384 elements; 4096 in the first cases."""
    machine = load_machine("ascend-910b1")
    rows = elements_per_core(program("add", machine, 8192, 8192, variant="case-4")) / 2 / 8192
    assert sorted(rows) == 16 * [170] + 32 * [171]
    tiles = {v: built("add", machine, 8192, 8192, variant=v).settings for v in add.ALGORITHM.variants}
    assert tiles["case-4"] == tiles["double"] == {"tile_m": 2, "tile_n": 8192, "slots": 2}
    assert tiles["case-1"] == tiles["case-2"] == {"tile_m": 1, "tile_n": 4096, "slots": 1}
    assert len(program("add", machine, 8192, 8192, variant="case-1").phases[0].start_cycles) == 1


@pytest.mark.parametrize(("name", "cores", "tiles"), [("copy-gm-ub", 48, 768), ("copy-gm-l1", 24, 1536)])
def test_reads_are_dealt_evenly_in_bands(name, cores, tiles):
    (phase,) = program(name, load_machine("ascend-910b1"), 12288, 12288).phases
    (trips,) = phase.body
    assert trips.count.tolist() == cores * [tiles]
    assert trips.item_step == 1
    assert [instance.name for instance in phase.instances] == ["load x"]


@pytest.mark.parametrize("profile", profile_names())
@pytest.mark.parametrize("name", ["add", "copy", *READS])
def test_tiles_fit_every_machine(name, profile):
    machine = load_machine(profile)
    for m, n in SIZES:
        assert time_program(program(name, machine, m, n), EngineSettings())[0].task_us > 0


@pytest.mark.parametrize("profile", profile_names())
def test_the_empty_kernel_takes_its_launch_and_one_scalar_instruction(profile):
    machine = load_machine(profile)
    kernel = REGISTRY["empty"].build(Problem(), Options(), Target.of(machine))
    lowered = lower(kernel, machine)
    report, _ = time_program(lowered, EngineSettings())
    (phase,) = lowered.phases
    assert len(phase.start_cycles) == machine.core.groups.value
    alu = machine.core.scalar.alu_cycles.value
    assert report.core_us == pytest.approx((phase.start_cycles.max() + alu) / machine.cycles_per_us, abs=0.01)
    assert not any(report.bytes.values())


# --- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*READS, "empty"])
def test_without_an_output_there_are_no_values_and_the_error_says_what_to_give(cli, name):
    sizes = [] if name == "empty" else ["--m", 300, "--n", 70]
    called = cli("run", name, *sizes, "--profile", "toy")
    assert called.code and "--no-numerics" in called.err
    assert not cli("run", name, *sizes, "--profile", "toy", "--no-numerics").code


def test_options_that_a_variant_does_not_take_are_refused():
    machine = load_machine("ascend-910b1")
    with pytest.raises(Unsupported, match=r"--slots: tiled double .*--variant textbook"):
        built("add", machine, 64, 64, slots=3)
    with pytest.raises(InputError, match=r"--tile-m: tiled has no such parameter; it takes --slots"):
        built("copy", machine, 64, 64, tile_m=16)
    with pytest.raises(InputError, match=r"--tile-n: 128 is more than --n 100"):
        built("copy-gm-l1", machine, 100, 100, tile_n=128)
