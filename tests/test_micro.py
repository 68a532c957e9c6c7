"""Micro-benchmarks: time per trip in closed form, and the number of the profile that follows from it."""

from __future__ import annotations

import json
from functools import cache

import pytest

from algorithms import REGISTRY
from npusim.errors import Unsupported
from npusim.lower import lower
from npusim.machine import Machine, override
from npusim.measurements.rows import Measurement
from npusim.problem import L2State, Options, Problem, Target
from npusim.profiles import load_machine, profile_names
from npusim.settings import MachineSettings
from npusim.validation.predict import Case, Prediction, case, predict

MICRO = REGISTRY["micro"]
EVERY = [(name, variant) for name, one in MICRO.algorithms.items() for variant in one.variants]
FEW, MANY = 100, 300
TILE, FRACTAL = 32768, 512
"""bytes of 128 rows of 256, and of a fractal of fp16"""
loaded = cache(load_machine)


@cache
def machine(profile: str = "ascend-910b2", cores: int = 1, **fields: float) -> Machine:
    """A machine on which no loop is held up by the pace of issue."""
    numbers = {name.replace("__", "."): value for name, value in fields.items()}
    return override(loaded(profile), {"core.groups": cores, "core.scalar.issue_cycles": 1} | numbers)


def predicted(
    kernel: str, algorithm: str, variant: str, on: Machine, trips: int, l2: L2State = "dirty"
) -> Prediction:
    row = Measurement(kernel=kernel, algorithm=algorithm, variant=variant, time_us=1, l2=l2)
    problem = Problem(m=trips) if kernel == "micro" else Problem()
    one = Case(row, problem, Options(algorithm=algorithm, variant=variant), MachineSettings())
    return predict(one.work, REGISTRY[kernel].build(problem, one.options, Target.of(on)), on)


class Slope:
    """What a trip takes in cycles, between two numbers of trips: of the task, and of a unit's busy time."""

    def __init__(self, algorithm: str, variant: str, on: Machine, l2: L2State = "dirty") -> None:
        few, many = (predicted("micro", algorithm, variant, on, trips, l2) for trips in (FEW, MANY))
        scale = on.cycles_per_us / (MANY - FEW)
        self.cycles = (many.on("task_duration") - few.on("task_duration")) * scale
        self.busy = {column: (many.busy[column] - few.busy[column]) * scale for column in few.busy}
        of_fields = {field: (us - few.by_field.get(field, 0)) * scale for field, us in many.by_field.items()}
        self.fields = {field: cycles for field, cycles in of_fields.items() if abs(cycles) > 1e-3}


@cache
def slope(algorithm: str, variant: str, cores: int = 1, l2: L2State = "dirty", **fields: float) -> Slope:
    return Slope(algorithm, variant, machine(cores=cores, **fields), l2)


def value(path: str) -> float:
    """The number of the profile at `path`."""
    found: object = machine()
    for name in path.split("."):
        found = found[name] if isinstance(found, dict) else getattr(found, name)
    return float(found.value)  # type: ignore[attr-defined]


# --- closed forms ----------------------------------------------------------------------------------

ADD = "core.vector.functions.add"
TERMS = {
    ("cross-core-flags", "bare"): {"core.flags.cross_core_cycles": 2, "core.scalar.ub_write_cycles": 2},
    ("cross-core-flags", "tile"): {
        "core.flags.cross_core_cycles": 2, "core.flags.default_cycles": 2, "core.scalar.issue_cycles": 2,
        **{f"paths.{path}.latency_cycles": 1 for path in ("l0c_gm", "gm_ub", "ub_gm", "gm_l1")},
    },
    ("vector-scalar", "one-read"): {
        "core.scalar.ub_read_cycles": 1, "core.flags.default_cycles": 2,
        **{f"core.vector.functions.adds.{name}": 1 for name in ("cycles_per_repeat", "latency_cycles")},
    },
    ("vector-scalar", "eight-reads"): {
        "core.scalar.ub_read_cycles": 8, "core.flags.default_cycles": 2,
        **{f"core.vector.functions.adds.{name}": 1 for name in ("cycles_per_repeat", "latency_cycles")},
    },
    ("flags", "bare"): {
        "core.flags.default_cycles": 2, "paths.l1_l0a.min_cycles": 1, "paths.l1_l0a.latency_cycles": 1,
    },
    ("flags", "product"): {
        "core.flags.default_cycles": 2, "paths.l1_l0a.min_cycles": 1, "paths.l1_l0a.latency_cycles": 1,
        "core.cube.startup_cycles": 1,
    },
    ("fractal-copy", "l0a"): {"paths.l1_l0a.min_cycles": 1},
    ("fractal-copy", "l0b"): {"paths.l1_l0b.min_cycles": 1},
    ("fractal-exit", "fractal"): {"paths.l0c_l1.startup_cycles": 1},
    ("fractal-exit", "tile"): {"paths.l0c_l1.startup_cycles": 1},
    ("store-rows", "dense"): {},
    ("store-rows", "strided"): {"paths.l0c_gm.partial_line_cycles": 128},
    ("dependent-add", "barrier"): {
        "core.barriers.unit_cycles": 1, "core.scalar.issue_cycles": 1,
        f"{ADD}.cycles_per_repeat": 1, f"{ADD}.latency_cycles": 1,
    },
    ("dependent-add", "plain"): {f"{ADD}.cycles_per_repeat": 1},
}  # fmt: skip
"""how often a trip pays each number of the profile, rates and the cube's steps aside"""
RATES = {
    ("cross-core-flags", "tile"): dict.fromkeys(("l0c_gm", "gm_ub", "ub_gm", "gm_l1"), TILE / 2),
    ("fractal-exit", "fractal"): {"l0c_l1": FRACTAL},
    ("fractal-exit", "tile"): {"l0c_l1": TILE},
    ("store-rows", "dense"): {"l0c_gm": TILE},
    ("store-rows", "strided"): {"l0c_gm": TILE},
}
"""bytes of a trip on each path whose rate it pays"""


@pytest.mark.parametrize("name", EVERY, ids=":".join)
def test_a_trip_takes_what_its_numbers_add_up_to_and_depends_on_no_other(name):
    rates = {
        f"paths.{path}.bytes_per_cycle": size / value(f"paths.{path}.bytes_per_cycle")
        for path, size in RATES.get(name, {}).items()
    }
    steps = {"core.cube.k0.fp16": 1.0} if name == ("flags", "product") else {}
    terms = {field: count * value(field) for field, count in TERMS[name].items()} | rates | steps
    found = slope(*name)
    assert found.cycles == pytest.approx(sum(terms.values()), abs=1e-3)
    assert found.fields == pytest.approx(terms, abs=1e-3)


@pytest.mark.parametrize(("name", "field"), [(n, f) for n in EVERY for f in TERMS[n]])
def test_raising_a_number_lengthens_a_trip_as_often_as_it_is_paid(name, field):
    more = slope(*name, **{field.replace(".", "__"): value(field) + 100})
    assert more.cycles - slope(*name).cycles == pytest.approx(100 * TERMS[name][field], abs=1e-3)


# --- the formulas of docs/calibration.md -------------------------------------------------------------


def test_flags_follow_from_time_and_busy_time():
    bare, product = slope("flags", "bare"), slope("flags", "product")
    assert (bare.cycles - bare.busy["mte1_us"]) / 2 == pytest.approx(value("core.flags.default_cycles"))
    copy = slope("fractal-copy", "l0a").cycles
    assert bare.busy["mte1_us"] - copy == pytest.approx(value("paths.l1_l0a.latency_cycles"))
    assert product.cycles - bare.cycles - 1 == pytest.approx(value("core.cube.startup_cycles"))
    ping = slope("cross-core-flags", "bare").cycles
    cross = value("core.flags.cross_core_cycles")
    assert ping / 2 - value("core.scalar.ub_write_cycles") == pytest.approx(cross)
    tile = slope("cross-core-flags", "tile")
    units = sum(tile.busy[column] for column in ("fixpipe_us", "mte2_us", "mte3_us"))
    load = TILE / 2 / value("paths.gm_ub.bytes_per_cycle") + value("paths.gm_ub.latency_cycles")
    on_the_way = (tile.cycles - units - load) / 2 - value("core.flags.default_cycles")
    assert on_the_way - value("core.scalar.issue_cycles") == pytest.approx(cross)


def test_scalar_reads_and_barriers_follow():
    one, eight = slope("vector-scalar", "one-read"), slope("vector-scalar", "eight-reads")
    read = (eight.cycles - one.cycles) / 7
    assert read == pytest.approx(value("core.scalar.ub_read_cycles"))
    flags = one.cycles - one.busy["vector_us"] - read
    assert flags == pytest.approx(2 * value("core.flags.default_cycles"))
    barrier, plain = slope("dependent-add", "barrier"), slope("dependent-add", "plain")
    latency = barrier.busy["vector_us"] - plain.cycles
    assert latency == pytest.approx(value(f"{ADD}.latency_cycles"), abs=1e-3)
    wait = barrier.cycles - barrier.busy["vector_us"] - value("core.scalar.issue_cycles")
    assert wait == pytest.approx(value("core.barriers.unit_cycles"))


def test_rates_and_start_ups_follow_from_two_sizes_and_rows_from_two_layouts():
    small, large = (slope("fractal-exit", variant).cycles for variant in ("fractal", "tile"))
    rate = (TILE - FRACTAL) / (large - small)
    assert rate == pytest.approx(value("paths.l0c_l1.bytes_per_cycle"), rel=1e-4)
    assert small - FRACTAL / rate == pytest.approx(value("paths.l0c_l1.startup_cycles"), abs=1e-3)
    dense, strided = (slope("store-rows", variant, l2="clean").cycles for variant in ("dense", "strided"))
    assert TILE / dense == pytest.approx(value("paths.l0c_gm.bytes_per_cycle"), rel=1e-4)
    assert (strided - dense) / 128 == pytest.approx(value("paths.l0c_gm.partial_line_cycles"))


def test_stores_of_all_cores_meet_in_hbm_where_l2_is_dirty_and_not_where_it_is_clean():
    cores = 24
    alone, clean = slope("store-rows", "dense").cycles, slope("store-rows", "dense", cores, "clean").cycles
    dirty = slope("store-rows", "dense", cores).cycles
    hbm = value("memory.hbm_gb_per_s") * value("memory.hbm_efficiency")
    assert cores * TILE / dirty * value("clock_ghz") == pytest.approx(hbm, rel=0.02)
    assert TILE / clean == pytest.approx(TILE / alone, rel=0.02)


def test_launch_follows_from_the_empty_kernel_against_the_number_of_cores():
    one, all_ = (predicted("empty", "empty", "plain", machine(cores=cores), 1) for cores in (1, 24))
    task = "task_duration"
    assert (all_.on(task) - one.on(task)) / 23 == pytest.approx(value("launch.dispatch_us"), rel=1e-3)
    assert one.on(task) - one.on("core") == pytest.approx(value("launch.base_us"))
    assert one.on("core") == pytest.approx(value("launch.setup_us"), abs=0.01)
    both = predicted("micro", "cross-core-flags", "bare", machine(), FEW)
    start = both.on(task) - FEW * slope("cross-core-flags", "bare").cycles / machine().cycles_per_us
    assert start - one.on(task) == pytest.approx(value("launch.mixed_us"), abs=0.01)


# --- machines, rows, command line ------------------------------------------------------------------

ABSENT = {
    "ascend-310p3": {"cross-core-flags", "fractal-exit", "store-rows"},
    "hexagon-class": {"cross-core-flags", "flags", "fractal-copy", "fractal-exit", "store-rows"},
}


@pytest.mark.parametrize("profile", profile_names())
def test_a_benchmark_runs_on_a_machine_or_says_what_the_machine_lacks(profile):
    on = machine(profile)
    for name, variant in EVERY:
        options = Options(algorithm=name, variant=variant)
        if name in ABSENT.get(profile, ()):
            with pytest.raises(Unsupported, match=f"micro {name}: .*machine"):
                MICRO.build(Problem(m=10), options, Target.of(on))
        else:
            (phase,) = lower(MICRO.build(Problem(m=10), options, Target.of(on)), on).phases
            assert phase.instances


def test_a_row_of_a_measurement_file_is_predicted_with_its_trips_on_its_cores():
    row = Measurement(
        kernel="micro", algorithm="store-rows", variant="strided", m=50, cores=1, time_us=100, l2="clean"
    )
    one = case(row, REGISTRY, MachineSettings(profile="toy"))
    assert one.problem.m == 50 and one.settings.cores == 1
    found = predict(one.work, one.work.build(REGISTRY), override(loaded("toy"), {"core.groups": 1}))
    assert found.on("task_duration") > found.on("core") > 50 * TILE / 100 / 1000


def test_the_command_line_runs_lists_and_refuses(cli):
    run = ("run", "micro", "--algorithm", "cross-core-flags", "--m", 1000, "--profile", "toy")
    called = cli(*run, "--no-numerics", "--json")
    assert not called.code
    assert json.loads(called.out)["problem"] == {"m": 1000, "dtype": "fp16"}
    called = cli(*run)
    assert called.code == 2 and "--no-numerics" in called.err
    called = cli(*run, "--n", 4, "--no-numerics")
    assert called.code == 2 and "--n: micro has no such size; it takes --m" in called.err
    listed = cli("list", "kernels", "--json").out
    assert all(name in listed for name in MICRO.algorithms)
