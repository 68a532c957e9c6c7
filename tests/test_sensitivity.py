"""Sensitivity: elasticities are analytic derivatives where a time has a closed form, and obey Euler's theorem
where it has none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from algorithms import REGISTRY
from npusim.errors import InputError
from npusim.kernels import KernelEntry
from npusim.lower import lower
from npusim.machine import Machine, override, quantities
from npusim.problem import Options, Problem, Target
from npusim.profiles import load_machine
from npusim.sensitivity import UNSEEN, Effect, Sensitivity, has_effect, sensitivity
from npusim.settings import EngineSettings, MachineSettings
from npusim.study import time_program

FINE = 0.01


def ranked(
    kernel: str,
    machine: Machine,
    *,
    options: Options | None = None,
    fields: Sequence[str] = (),
    step: float = FINE,
    entry: KernelEntry | None = None,
    **sizes: object,
) -> Sensitivity:
    problem = Problem.model_validate(sizes)
    one = entry or REGISTRY[kernel]
    return sensitivity(one, problem, options or Options(), machine, EngineSettings(), fields, step)


def elasticities(found: Sensitivity) -> dict[str, float]:
    return {one.field: one.elasticity for one in found.effects if one.elasticity is not None}


def effect(found: Sensitivity, field: str) -> Effect:
    return next(one for one in found.effects if one.field == field)


# --- closed forms ------------------------------------------------------------------------------------

SMALLEST_INVERSE = Options(algorithm="masked-neumann", order=1, steps=1, mask=False)
BY_HAND = {
    "launch.base_us": 1000, "core.scalar.issue_cycles": 1,
    "paths.gm_l1.bytes_per_cycle": -3 * 5.12, "paths.gm_l1.latency_cycles": 100,
    "paths.l1_l0b.bytes_per_cycle": -5.12, "paths.l1_l0b.latency_cycles": 10,
    "core.cube.startup_cycles": 20, "core.cube.latency_cycles": 10,
    "paths.l0c_gm.bytes_per_cycle": -10.24, "paths.l0c_gm.latency_cycles": 100,
    "core.flags.default_cycles": 30,
}  # fmt: skip
"""the example of docs/timing.md: of its 1303.72 cycles, what each number takes; rates take less if higher"""


def test_on_the_example_worked_by_hand_they_are_the_analytic_derivatives():
    found = ranked(
        "tri-inverse", load_machine("toy"), options=SMALLEST_INVERSE, fields=["*"], chunk=16, matrices=1
    )
    assert found.time_us == pytest.approx(1.30372, abs=1e-6)
    known = elasticities(found)
    for field, cycles in BY_HAND.items():
        assert known[field] == pytest.approx(cycles / 1303.72, rel=2e-3), field
    assert known["clock_ghz"] == pytest.approx(-303.72 / 1303.72, rel=2e-3)
    others = known.keys() - BY_HAND.keys() - {"clock_ghz", "core.cube.k0.fp16"}
    assert all(known[field] == pytest.approx(0, abs=1e-4) for field in others)


def test_to_first_order_they_are_what_the_critical_path_says():
    found = ranked("softmax", load_machine("ascend-910b2"))
    carrying = [one for one in found.effects if one.share]
    assert len(carrying) > 10
    for one in carrying:
        assert abs(one.elasticity or 0.0) == pytest.approx(one.share, abs=1e-3), one.field


TRIPS = 500
EACH = {
    "bare": {"core.flags.cross_core_cycles": 2, "core.scalar.ub_write_cycles": 2},
    "tile": {
        "core.flags.cross_core_cycles": 2, "core.flags.default_cycles": 2,
        **{f"paths.{path}.latency_cycles": 1 for path in ("l0c_gm", "gm_ub", "ub_gm", "gm_l1")},
    },
}  # fmt: skip


@pytest.mark.parametrize("variant", EACH)
def test_a_loop_is_as_sensitive_to_a_number_as_it_pays_it_often(variant):
    machine = override(load_machine("toy"), {"core.groups": 1})
    options = Options(algorithm="cross-core-flags", variant=variant)
    found = ranked("micro", machine, options=options, fields=list(EACH[variant]), m=TRIPS)
    for field, count in EACH[variant].items():
        cycles = TRIPS * count * quantities(machine)[field].value
        share = cycles / (found.time_us * machine.cycles_per_us)
        assert elasticities(found)[field] == pytest.approx(share, rel=5e-3), field  # and a few outside of it


# --- Euler's theorem ---------------------------------------------------------------------------------

SIZES = {
    "softmax": {"m": 256, "n": 256}, "add": {"m": 256, "n": 1024}, "tri-inverse": {"matrices": 24},
    "gdn-kkt": {"seq_len": 256},
}  # fmt: skip
CASES = [
    ("softmax", "toy"),
    ("softmax", "ascend-910b2"),
    ("add", "ascend-910b2"),
    ("tri-inverse", "ascend-910b2"),
    ("gdn-kkt", "toy"),
]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def every(request: pytest.FixtureRequest) -> Sensitivity:
    """With all numbers of the profile."""
    kernel, profile = request.param
    return ranked(kernel, load_machine(profile), fields=["*"], **SIZES[kernel])


def test_a_machine_whose_times_are_all_longer_takes_longer_by_as_much(every):
    """All costs in cycles and all rates per cycle take 1 / clock, launch times are in us and HBM and L2 move
    so much per second: with all of these c times as slow the time is c times as long, so by Euler's theorem
    the elasticities of the time in (1 / clock, launch times, 1 / rates) sum to 1."""
    known = elasticities(every)
    launch = sum(value for field, value in known.items() if field.endswith("_us"))
    seconds = known["clock_ghz"] + known["memory.hbm_gb_per_s"] + known["memory.l2_gb_per_s"]
    assert launch - seconds == pytest.approx(1, abs=0.01)


def test_the_clock_is_worth_what_all_cycles_are_worth_together(every):
    """Where no cube works, whose step is always one cycle."""
    known = elasticities(every)
    costs = sum(v for field, v in known.items() if "_cycles" in field or "cycles_per_" in field)
    rates = sum(v for field, v in known.items() if field.endswith("bytes_per_cycle"))
    if every.kernel.name in ("softmax", "add"):
        assert costs - rates == pytest.approx(-known["clock_ghz"], abs=0.01)
    else:
        assert costs - rates < -known["clock_ghz"] + 0.01


def test_what_is_not_tried_unasked_has_little_effect(every):
    found = ranked(every.kernel.name, every.machine, **SIZES[every.kernel.name])
    tried = {one.field for one in found.effects}
    for field, value in elasticities(every).items():
        if field not in tried and not field.startswith("core.cube.k0."):  # which is doubled
            assert abs(value) < 6e-3, field


# --- what is tried -----------------------------------------------------------------------------------


def test_better_is_less_of_a_cost_and_more_of_anything_else():
    found = ranked("tri-inverse", load_machine("toy"), step=0.25, matrices=10)
    cost, rate = effect(found, "core.flags.default_cycles"), effect(found, "paths.l0c_l1.bytes_per_cycle")
    assert cost.better and cost.worse and rate.better and rate.worse
    assert (cost.better.value, cost.worse.value) == (8, 12.5)
    assert (rate.better.value, rate.worse.value) == (125, 80)
    for one in (cost, rate):
        assert one.better.time_us < found.time_us < one.worse.time_us
        assert one.gain > 0
    assert cost.elasticity > 0 > rate.elasticity


def test_the_times_are_those_of_runs_with_the_values_set():
    found = ranked("gdn-kkt", load_machine("toy"), fields=["core.groups", "rates"], seq_len=256)
    for one in found.effects:
        for tried in (one.better, one.worse):
            assert tried and tried.time_us
            machine = MachineSettings(profile="toy", set=(f"{one.field}={tried.value!r}",)).machine()
            kernel = REGISTRY["gdn-kkt"].build(Problem(seq_len=256), Options(), Target.of(machine))
            assert time_program(lower(kernel, machine), EngineSettings())[0].task_us == tried.time_us


def test_whole_numbers_are_halved_and_doubled_and_core_groups_move_by_one_at_least():
    found = ranked("softmax", load_machine("ascend-910b2"), step=0.1)
    values = {
        one.field: (one.worse and one.worse.value, one.better and one.better.value) for one in found.effects
    }
    assert values["core.groups"] == (22, 26)
    assert values["core.vector_cores"] == (1, 4)
    assert values["levels.UB.bytes"] == (96 * 1024, 384 * 1024)
    few = ranked("softmax", override(load_machine("toy"), {"core.groups": 1, "core.vector_cores": 1}))
    assert effect(few, "core.groups").worse is None and effect(few, "core.groups").better.value == 2
    assert effect(few, "core.vector_cores").worse is None  # without any, it would be another machine


def test_a_share_goes_no_further_than_all():
    slow = {"memory.hbm_efficiency": 1.0, "memory.hbm_gb_per_s": 50.0}
    found = ranked("add", override(load_machine("ascend-910b2"), slow), m=4096, n=4096)
    one = effect(found, "memory.hbm_efficiency")
    assert one.better is None and one.worse and one.gain == 0
    assert one.elasticity == pytest.approx(-1, abs=0.02)  # HBM is nearly all there is to it


def test_levels_of_one_memory_change_together():
    found = ranked("tri-inverse", load_machine("hexagon-class"), fields=["levels.*"], matrices=10)
    one = next(one for one in found.effects if one.together)
    memories = {
        load_machine("hexagon-class").levels[path.split(".")[1]].memory for path in (one.field, *one.together)
    }
    assert len(memories) == 1 and memories != {None}
    assert not set(one.together) & {other.field for other in found.effects}


def test_where_the_kernel_does_not_fit_there_is_no_time_but_a_reason():
    one = effect(
        ranked("gdn-state", load_machine("ascend-910b2"), fields=["levels.UB.bytes"], seq_len=512),
        "levels.UB.bytes",
    )
    assert one.worse and one.worse.time_us is None and "the tiles at UB need" in one.worse.reason
    assert one.better and one.better.time_us and one.elasticity is not None


def test_a_kernel_is_built_anew_only_where_it_may_see_the_number():
    built: list[Target] = []
    algorithm = REGISTRY["softmax"].algorithm(None)

    def build(problem, options, target):
        built.append(target)
        return algorithm.build(problem, options, target)

    entry = replace(REGISTRY["softmax"], algorithms={"rows": replace(algorithm, build=build)})
    found = ranked("softmax", load_machine("toy"), entry=entry)
    seen = [one for one in found.effects if Target.sees(one.field)]
    assert len(built) == 1 + sum(tried is not None for one in seen for tried in (one.better, one.worse))
    assert len({str(target) for target in built}) == len(built)


def test_what_a_kernel_is_built_with_where_its_defaults_follow_the_number_is_said():
    found = ranked("softmax", load_machine("ascend-910b2"), fields=["levels.UB.bytes"], m=8192, n=1024)
    one = effect(found, "levels.UB.bytes")
    assert one.better and one.worse
    for tried in (one.better, one.worse):
        machine = override(load_machine("ascend-910b2"), {"levels.UB.bytes": tried.value})
        kernel = REGISTRY["softmax"].build(Problem(m=8192, n=1024), Options(), Target.of(machine))
        assert {**found.kernel.settings, **tried.settings} == kernel.settings
    assert one.better.settings["tile_m"] > found.kernel.settings["tile_m"] > one.worse.settings["tile_m"]


def test_a_number_that_is_zero_is_not_tried_and_said_so_where_it_was_asked_for():
    machine = override(load_machine("toy"), {"core.flags.default_cycles": 0})
    assert "core.flags.default_cycles" not in elasticities(ranked("softmax", machine))
    found = ranked("softmax", machine, fields=["flags"])
    assert found.untried == {"core.flags.default_cycles": "it is 0"}


def test_what_a_path_cannot_see_is_there_in_every_profile_or_optional():
    known = quantities(load_machine("ascend-910b2"))
    assert all(field in known for field in UNSEEN if "*" not in field)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"step": 0}, "--step: must be 0.001 to 1, got 0"),
        ({"step": float("nan")}, "--step: must be"),
        ({"step": 1.5}, "--step: must be"),
        ({"fields": ["core.scalar.isue_cycles"]}, "did you mean 'core.scalar.issue_cycles'"),
    ],
)
def test_what_cannot_be_ranked_is_refused(given, said):
    with pytest.raises(InputError, match=said):
        ranked("softmax", load_machine("toy"), **given)


def test_a_kernel_that_takes_no_time_is_refused():
    free = override(load_machine("toy"), {"launch.base_us": 0, "core.scalar.alu_cycles": 0})
    with pytest.raises(InputError, match="empty: takes no time"):
        ranked("empty", free)


# --- the command -------------------------------------------------------------------------------------

ASK = ("sensitivity", "softmax", "--profile", "ascend-910b2")


def test_the_json_says_all_that_was_tried_the_largest_first(cli):
    made = cli(*ASK, "--json")
    assert not made.code
    said = json.loads(made.out)
    assert (said["kernel"], said["profile"], said["step"]) == ("softmax", "ascend-910b2", 0.1)
    sizes = [abs(one["elasticity"]) for one in said["fields"] if one["elasticity"] is not None]
    assert sizes == sorted(sizes, reverse=True) and len(sizes) > 20
    best = said["improve_first"]
    first = next(one for one in said["fields"] if one["field"] == best)
    assert first["better"]["time_us"] < said["time_us"] < first["worse"]["time_us"]
    doubtful = next(one for one in said["fields"] if one["evidence"] in ("assumed", "fitted"))
    assert said["measure_first"] == doubtful["field"]
    assert len(json.loads(cli(*ASK, "--json", "--top", 2).out)["fields"]) == 2


def test_the_table_marks_what_rests_on_guesses_and_ends_in_words(cli):
    made = cli(*ASK)
    assert not made.code
    lines = [" ".join(line.split()) for line in made.out.splitlines()]
    assert any(line.startswith("launch.base_us") and "fitted" in line for line in lines)
    assert "which number to improve first, by what 1 % of it saves: launch.base_us (fitted)" in " ".join(
        lines
    )
    assert "which number to measure first: launch.base_us, which is fitted" in " ".join(lines)
    assert all(len(line) <= 100 for line in made.out.splitlines())


def test_only_the_fields_that_are_named_are_tried(cli):
    said = json.loads(cli(*ASK, "--fields", "launch,core.groups", "--json").out)
    assert {one["field"] for one in said["fields"]} == {
        "core.groups", "launch.base_us", "launch.dispatch_us", "launch.setup_us"
    } | {one["field"] for one in said["fields"] if one["field"] == "launch.mixed_us"}  # fmt: skip


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--step", "2"), "--step: must be 0.001 to 1"),
        (("--fields", "launch,"), "--fields: a name is empty"),
        (("--fields", "nothing"), "--fields: 'nothing' is no group"),
        (("--top", "0"), "--top"),
        (("--chunk", "64"), "--chunk: softmax has no such size"),
        (("--what-if",), "--what-if"),
    ],
)
def test_bad_input_is_one_line(cli, given, said):
    made = cli(*ASK, *given)
    assert made.code == 2 and said in made.err and made.err.count("\n") == 1 and not made.out


def test_effects_below_a_half_per_mille_are_called_none(cli):
    found = ranked("softmax", load_machine("ascend-910b2"), step=0.1)
    idle = [one.field for one in found.effects if not has_effect(one)]
    said = " ".join(cli(*ASK).out.split())
    assert idle and f"no effect within the step: {', '.join(idle)}" in said


OWN = """from npusim.builder import KernelBuilder


def build(problem, options, target):
    k = KernelBuilder("own", target, problem.dtype)
    x, y = k.input("x", (32, 32), "fp16"), k.output("y", (32, 32), "fp16")
    t = k.tile("t", "UB", (32, 32), "fp16")
    with k.phase("p"):
        k.load(t, x.at())
        k.store(y.at(), t)
    return k.finish()
"""


def test_a_kernel_of_ones_own_is_ranked_like_any_other(cli, tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    made = cli("sensitivity", f"{tmp_path / 'mine.py'}:build", "--profile", "toy", "--json")
    assert not made.code, made.err
    known = {one["field"]: one["elasticity"] for one in json.loads(made.out)["fields"]}
    cycles = 1 + 20.48 + 100 + 10 + 20.48 + 100  # issue, load and latency, flag, store and latency
    assert known["paths.gm_ub.latency_cycles"] == pytest.approx(100 / (1000 + cycles), rel=0.02)
    assert known["launch.base_us"] == pytest.approx(1000 / (1000 + cycles), rel=0.02)
