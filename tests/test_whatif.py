"""What a mechanism carries, and what it would buy to be rid of it."""

from __future__ import annotations

import pytest

from algorithms import REGISTRY
from npusim.builder import Options, Problem, Target
from npusim.errors import InputError
from npusim.ideals import IDEALS, by_mechanism, idealise, work_by_unit
from npusim.lower import lower
from npusim.machine import quantities
from npusim.profiles import load_machine, profile_names
from npusim.report import task_us
from npusim.settings import EngineSettings, MachineSettings
from npusim.simulate import simulate
from npusim.study import time_program
from npusim.whatif import imagine, without_work

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
        assert found.time_us == task_us(simulate(program(algorithm, variant, ideal))[0])
    else:
        freed = task_us(simulate(without_work(made, found.name))[0])
        assert found.time_us == freed


def test_a_column_sweep_is_dominated_by_the_hand_overs_between_vector_and_scalar_unit():
    made = program("column-sweep", "tcuscan", load_machine("ascend-910b2"))
    report, _ = time_program(made, EngineSettings())
    assert report.mechanisms[0][0] == "flags"
    found = imagine(made, report, EngineSettings())
    assert found and found.name == "flags"


def test_nothing_is_imagined_where_nothing_costs_anything_or_it_would_take_minutes(monkeypatch):
    made = program("mxr", "published", load_machine("toy"))
    report, _ = time_program(made, EngineSettings())
    monkeypatch.setattr("npusim.whatif.MOST_OPERATIONS", report.operations - 1)
    found = imagine(made, report, EngineSettings())
    assert found and found.time_us is None and found.speedup is None and found.path_us > 0


def test_freeing_a_unit_leaves_its_latencies_and_all_other_work():
    made = program("mxr", "published", load_machine("toy"))
    freed = without_work(made, "aic_mac")
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
                assert after[path].value == 0 or name == "contention"


def test_every_field_belongs_to_one_mechanism_or_to_one_unit():
    machine = load_machine("ascend-910b2")
    for path in quantities(machine):
        owners = [name for name, ideal in IDEALS.items() if ideal.covers(path)]
        assert len(owners) <= 1, path
        work = work_by_unit({path: 1.0}, machine)
        assert not (owners and work), path
        assert sum(by_mechanism({path: 1.0}).values()) == len(owners)


def test_an_unknown_mechanism_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="--ideal: no mechanism 'flag'; did you mean 'flags'"):
        idealise(load_machine("toy"), ["flag"])
