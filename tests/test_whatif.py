"""What a mechanism carries, and what it would buy to be rid of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from algorithms import REGISTRY
from npusim.builder import Options, Problem, Target
from npusim.engine import reference
from npusim.errors import InputError, Unsupported
from npusim.ideals import IDEALS, by_mechanism, idealise, work_by_unit
from npusim.lower import lower
from npusim.machine import LARGEST, override, quantities
from npusim.profiles import load_machine, profile_names
from npusim.report import task_us
from npusim.settings import EngineSettings, MachineSettings
from npusim.simulate import simulate
from npusim.study import time_program
from npusim.whatif import imagine, without

CASES = [
    ("mxr", "published"),
    ("masked-neumann", "textbook"),
    ("blocked-substitution", "triton"),
    ("column-sweep", "tcuscan"),
]


def program(algorithm: str, variant: str, machine, matrices: int = 30):
    problem = Problem(chunk=32, matrices=matrices)
    options = Options(algorithm=algorithm, variant=variant)
    return lower(REGISTRY["tri-inverse"].build(problem, options, Target.of(machine)), machine)


@pytest.mark.parametrize("profile", ["toy", "ascend-910b2"])
@pytest.mark.parametrize(("algorithm", "variant"), CASES)
def test_mechanisms_and_work_make_up_the_task_time(algorithm, variant, profile):
    made = program(algorithm, variant, load_machine(profile))
    report, _ = time_program(made, EngineSettings())
    total = sum(time for _, time in report.mechanisms) + sum(time for _, time in report.work)
    assert total == pytest.approx(report.task_us, rel=1e-4), "but for rounding to the time grid"


@pytest.mark.parametrize(("algorithm", "variant"), CASES)
def test_what_removing_a_mechanism_buys_is_what_a_run_without_it_takes(algorithm, variant):
    made = program(algorithm, variant, load_machine("ascend-910b2"))
    report, _ = time_program(made, EngineSettings())
    found = imagine(made, report, EngineSettings())
    assert found and found.time_us and found.speedup == report.task_us / found.time_us
    assert found.path_us == max(time for _, time in [*report.mechanisms, *report.work])
    assert found.time_us < report.task_us
    if found.name in IDEALS:
        ideal = MachineSettings(profile="ascend-910b2", ideal=found.name).machine()
        assert found.time_us == task_us(simulate(program(algorithm, variant, ideal)))
    else:
        assert found.time_us == task_us(simulate(without(made, found.name)))


@pytest.mark.parametrize("profile", ["toy", "ascend-910b2", "ascend-950pr-9599", "hexagon-class"])
def test_being_rid_of_something_never_buys_more_than_it_carries(profile):
    """Of one path at most its share of that path can go. A unit's operations keep what is not its own work:
    hand-overs, latencies between instructions, the pace of issue."""
    machine = load_machine(profile)
    seen = set()
    for algorithm, one in REGISTRY["tri-inverse"].algorithms.items():
        for variant in one.variants:
            try:
                made = program(algorithm, variant, machine)
            except Unsupported:
                continue
            report, _ = time_program(made, EngineSettings())
            found = imagine(made, report, EngineSettings())
            assert found and found.time_us
            assert 0 < report.task_us - found.time_us <= found.path_us + 1e-3, (algorithm, variant)
            seen.add(found.name)
    assert len(seen) > 1


def test_the_work_of_scalar_units_can_be_what_costs_most():
    machine = override(load_machine("toy"), {"core.scalar.ub_read_cycles": 100})
    made = program("column-sweep", "tcuscan", machine)
    report, _ = time_program(made, EngineSettings())
    found = imagine(made, report, EngineSettings())
    assert found and found.name == "scalar units" and found.time_us
    free = {f"core.scalar.{name}_cycles": 0 for name in ("alu", "ub_read", "ub_write")}
    freed = program("column-sweep", "tcuscan", override(machine, free))
    assert found.time_us == task_us(simulate(freed))


def test_a_unit_without_work_of_its_own_still_shares_memory():
    """All loads at no time of their own: what they move still passes through HBM."""
    made = program("mxr", "published", load_machine("ascend-910b2"), matrices=480)
    freed = reference.simulate(without(made, "aic_mte2"))
    moved = 480 * 32 * 32 * 2 / freed.program.machine.pool_bytes_per_cycle("hbm")
    loads = [i.number for i in freed.program.phases[0].instances if i.name == "load M"]
    spent = sum(float((freed.end - freed.start)[freed.instance == number].sum()) for number in loads)
    assert spent >= moved > 0


def test_waiting_for_the_dispatch_of_a_core_in_a_later_phase_is_launch():
    """Two phases of some 50 us, the cores dispatched 20 us apart: the barrier is not to blame."""
    machine = override(load_machine("ascend-910b2"), {"launch.dispatch_us": 20.0})
    report, _ = time_program(program("blocked-substitution", "triton", machine), EngineSettings())
    carried = dict(report.mechanisms)
    assert carried["launch"] > 400 > 10 * carried["flags"], "the last core starts after 460 us"


def test_a_column_sweep_is_dominated_by_the_hand_overs_between_vector_and_scalar_unit():
    made = program("column-sweep", "tcuscan", load_machine("ascend-910b2"))
    report, _ = time_program(made, EngineSettings())
    assert report.mechanisms[0][0] == "flags"
    found = imagine(made, report, EngineSettings())
    assert found and found.name == "flags"


def test_nothing_is_imagined_where_nothing_costs_anything():
    made = program("mxr", "published", load_machine("toy"))
    report, _ = time_program(made, EngineSettings())
    free = replace(report, mechanisms=[(name, 0.0) for name, _ in report.mechanisms], work=[])
    assert imagine(made, free, EngineSettings()) is None


def test_what_would_take_minutes_is_not_simulated_again(monkeypatch):
    made = program("mxr", "published", load_machine("toy"))
    report, _ = time_program(made, EngineSettings(engine="reference"))
    monkeypatch.setattr("npusim.whatif.MOST_OF_REFERENCE", report.operations - 1)
    found = imagine(made, report, EngineSettings(engine="reference"))
    assert found and found.time_us is None and found.speedup is None and found.path_us > 0


def test_freeing_a_unit_leaves_its_latencies_and_all_other_work():
    made = program("mxr", "published", load_machine("toy"))
    freed = without(made, "aic_mac")
    for before, after in zip(made.phases[0].instances, freed.phases[0].instances, strict=True):
        own = made.phases[0].lanes[before.lane].unit == "aic_mac"
        assert after.cost.latency == before.cost.latency
        assert after.cost.occupancy == (0 if own else before.cost.occupancy)


@pytest.mark.parametrize("name", IDEALS)
def test_an_ideal_machine_differs_in_what_the_mechanism_covers_and_nothing_else(name):
    for profile in profile_names():
        machine = load_machine(profile)
        before, after = quantities(machine), quantities(idealise(machine, [name]))
        for path, number in before.items():
            if number.value != after[path].value:
                assert IDEALS[name].covers(path), path
                ample = min(1e6 * number.value, LARGEST)
                assert after[path].value == (ample if name == "contention" else 0)


def test_every_field_belongs_to_one_mechanism_or_to_one_unit():
    machine = load_machine("ascend-910b2")
    for path in quantities(machine):
        owners = [name for name, ideal in IDEALS.items() if ideal.covers(path)]
        assert len(owners) <= 1, path
        work = work_by_unit({path: 1.0}, machine)
        assert set(work) <= {*machine.units, "scalar units"}
        if path.startswith("core.scalar.ub"):
            assert work == {"scalar units": 1.0}
        assert not (owners and work), path
        assert sum(by_mechanism({path: 1.0}).values()) == len(owners)


def test_an_unknown_mechanism_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="--ideal: no mechanism 'flag'; did you mean 'flags'"):
        idealise(load_machine("toy"), ["flag"])
