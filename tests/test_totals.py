"""What a report is made of is the same from either engine, whether operations were jumped over or not."""

from __future__ import annotations

import time
from functools import cache

import numpy as np
import pytest
from agreement import EXACT, JUMPING, example

from algorithms import REGISTRY
from npusim.critical import critical_path
from npusim.engine.fast.playback import Playback
from npusim.engine.fast.run import Jumping, run_program
from npusim.engine.reference import simulate
from npusim.lower import lower
from npusim.problem import Options, Problem, Target
from npusim.profiles import load_machine
from npusim.program import Program
from npusim.report import summarise
from npusim.settings import EngineSettings
from npusim.simulate import simulate as timed
from npusim.strands import PlaybackStrands, TimelineStrands
from npusim.timeline import Timeline
from npusim.totals import of_playback, of_timeline
from npusim.usage import lane_usage, played_busy, played_usage

JUMPS = (1002, 1008, 1116, 1158, 1431)
"""seeds at whose jumps operations are under way, units idle, or idle for longer than in a period"""
SEEDS = (*range(1000, 1060), *JUMPS[2:])


@cache
def reference(seed: int) -> Timeline:
    one = example(seed)
    return simulate(lower(one.kernel, one.machine))


@cache
def played(seed: int, jumping: Jumping) -> Playback:
    program = reference(seed).program
    return Playback(program, tuple(run_program(program, jumping)))


def jumped(playback: Playback) -> bool:
    return any(run.skipped_operations for run in playback.runs)


def inverses(matrices: int, chunk: int = 64) -> Program:
    machine = load_machine("ascend-910b2")
    problem, options = Problem(chunk=chunk, matrices=matrices), Options(algorithm="mxr")
    return lower(REGISTRY["tri-inverse"].build(problem, options, Target.of(machine)), machine)


@pytest.mark.parametrize("jumping", [EXACT, JUMPING], ids=["exact", "jumping"])
@pytest.mark.parametrize("seed", SEEDS)
def test_every_unit_is_busy_and_waits_as_in_the_timeline(seed, jumping):
    timeline, found = reference(seed), played_usage(played(seed, jumping))
    known = lane_usage(timeline)
    assert found.keys() == known.keys()
    slack = 1e-6 * timeline.makespan
    for unit, usage in known.items():
        assert found[unit].busy == pytest.approx(usage.busy, abs=slack), unit
        assert found[unit].occupied == pytest.approx(usage.occupied, abs=slack), unit
        causes = usage.waiting.keys() | found[unit].waiting.keys()
        waits = {cause: usage.waiting.get(cause, 0.0) for cause in causes}
        assert {cause: found[unit].waiting.get(cause, 0.0) for cause in causes} == pytest.approx(
            waits, abs=slack
        ), unit
    worked = sorted((one.unit, one.busy, one.occupied) for one in found.values())
    by_name = played_busy(played(seed, jumping))
    assert (
        sorted(
            (unit, *each)
            for unit, own in by_name.items()
            for each in zip(own.busy, own.occupied, strict=True)
        )
        == worked
    )


@pytest.mark.parametrize("jumping", [EXACT, JUMPING], ids=["exact", "jumping"])
@pytest.mark.parametrize("seed", SEEDS)
def test_counts_and_occupied_cycles_are_those_of_the_timeline(seed, jumping):
    one, other = of_timeline(reference(seed)), of_playback(played(seed, jumping))
    assert other.operations == one.operations
    for mine, theirs in zip(one.counts, other.counts, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    for mine, theirs in zip(one.occupied, other.occupied, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-9 * one.makespan)


@pytest.mark.parametrize("jumping", [EXACT, JUMPING], ids=["exact", "jumping"])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_critical_path_sums_to_the_makespan_by_name_and_by_field(seed, jumping):
    playback = played(seed, jumping)
    path = critical_path(PlaybackStrands(playback))
    for part in (path.by_name, path.by_field):
        assert sum(part.values()) == pytest.approx(playback.makespan, rel=1e-9)
    assert min(path.by_name.values()) >= -1e-3, "no stretch of the path takes less than no time"


@pytest.mark.parametrize("seed", SEEDS)
def test_the_critical_path_is_the_same_whether_periods_were_jumped_over_or_not(seed):
    exact, jumping = (critical_path(PlaybackStrands(played(seed, how))) for how in (EXACT, JUMPING))
    known = critical_path(TimelineStrands(reference(seed)))
    slack = 1e-6 * reference(seed).makespan
    assert jumping.by_field == pytest.approx(exact.by_field, rel=1e-6, abs=slack)
    assert exact.by_field == pytest.approx(known.by_field, rel=1e-6, abs=slack)


def test_the_seeds_jump():
    assert sum(jumped(played(seed, JUMPING)) for seed in SEEDS) >= 12
    assert all(jumped(played(seed, JUMPING)) for seed in JUMPS)


def test_a_report_is_the_same_from_either_engine():
    program = inverses(1200, chunk=32)
    runs = run_program(program, Jumping(first=1, least=0))
    playback = Playback(program, tuple(runs))
    assert jumped(playback)
    mine, theirs = (
        summarise(totals, program.machine)
        for totals in (of_playback(playback), of_timeline(simulate(program)))
    )
    for name in ("core_us", "task_us", "cycles", "roofline", "bytes", "evidence", "operations"):
        assert getattr(mine, name) == pytest.approx(getattr(theirs, name), rel=1e-6), name
    for name in ("breakdown", "critical_path", "mechanisms", "work"):
        found, known = dict(getattr(mine, name)), dict(getattr(theirs, name))
        assert found == pytest.approx(known, rel=1e-6, abs=1e-6), name
    assert (mine.bound, mine.dominant_unit) == (theirs.bound, theirs.dominant_unit)


def test_of_a_million_matrices_the_path_is_found_at_once_and_grows_with_them():
    """As many periods again cost nothing, and each adds the same to every field."""
    paths, took = [], []
    for matrices in (1 << 18, 1 << 19, 3 << 18):
        playback = Playback(program := inverses(matrices), tuple(run_program(program, Jumping())))
        began = time.perf_counter()
        paths.append(critical_path(PlaybackStrands(playback)).by_field)
        took.append(time.perf_counter() - began)
        assert sum(paths[-1].values()) == pytest.approx(playback.makespan, rel=1e-9)
    assert min(took) < 0.5
    for name in paths[0]:
        first, second, third = (path.get(name, 0.0) for path in paths)
        assert third - second == pytest.approx(second - first, rel=1e-3, abs=1e-4 * playback.makespan), name


def test_a_vector_core_is_one_core_in_phases_over_groups_and_over_vector_cores():
    """gdn-fused has both: of 24 groups 48 vector cores, whose busy times do not count as those of 96."""
    machine = load_machine("ascend-910b2")
    problem = Problem(chunk=64, seq_len=4096, heads=32)
    kernel = REGISTRY["gdn-fused"].build(problem, Options(), Target.of(machine))
    run = timed(lower(kernel, machine), EngineSettings())
    vectors = [lane for lane in run.totals().lanes if lane.unit == "aiv_vec"]
    assert len(vectors) == 48
    assert all(0 < lane.busy <= run.makespan for lane in vectors)
    units = {key[:2] for key in run.busy(np.array([0.0, run.makespan]))}
    assert {core for core, _ in units} == {"aic", "aiv0", "aiv1"} and len(units) == 72
    assert summarise(run.totals(), machine).cores == 24
