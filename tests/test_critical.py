"""The critical path, found piece by piece, is the one that a plain walk over the rows of a timeline finds."""

from __future__ import annotations

from functools import cache

import pytest
from agreement import EXACT, JUMPING, example
from plain_path import plain_path

from npusim import strands
from npusim.backward import Facts
from npusim.critical import critical_path
from npusim.engine.fast.playback import Playback
from npusim.engine.fast.run import run_program
from npusim.engine.reference import simulate
from npusim.lower import lower
from npusim.spent import CriticalPath
from npusim.strands import PlaybackStrands, TimelineStrands
from npusim.timeline import Timeline

SEEDS = [*range(1000, 1030), 1116, 1158, 1431]
FEW = SEEDS[::4]


@cache
def timeline(seed: int) -> Timeline:
    one = example(seed)
    return simulate(lower(one.kernel, one.machine))


@cache
def plain(seed: int) -> CriticalPath:
    return plain_path(timeline(seed))


def agrees(path: CriticalPath, seed: int, rel: float = 1e-9) -> None:
    slack = rel * timeline(seed).makespan
    for part in ("by_name", "by_field", "limited"):
        found, known = getattr(path, part), getattr(plain(seed), part)
        keys = found.keys() | known.keys()
        assert {key: found.get(key, 0.0) for key in keys} == pytest.approx(
            {key: known.get(key, 0.0) for key in keys}, rel=rel, abs=slack
        ), part


@pytest.mark.parametrize("seed", SEEDS)
def test_over_a_timeline_it_is_that_of_the_plain_walk(seed):
    agrees(critical_path(TimelineStrands(timeline(seed))), seed)


@pytest.mark.parametrize("size", [2, 7, 100])
@pytest.mark.parametrize("seed", FEW)
def test_it_does_not_depend_on_how_the_operations_are_cut_into_pieces(seed, size, monkeypatch):
    monkeypatch.setattr(strands, "LARGEST_LOAD", size)
    agrees(critical_path(TimelineStrands(timeline(seed))), seed)


@pytest.mark.parametrize("jumping", [EXACT, JUMPING], ids=["exact", "jumping"])
@pytest.mark.parametrize("seed", SEEDS)
def test_of_a_run_that_is_played_back_it_is_that_of_the_plain_walk(seed, jumping):
    program = timeline(seed).program
    playback = Playback(program, tuple(run_program(program, jumping)))
    agrees(critical_path(PlaybackStrands(playback)), seed, rel=1e-6)


def test_the_graphs_stream_and_jump():
    """What the walk treats apart does occur."""
    programs = [timeline(seed).program for seed in SEEDS]
    assert any(Facts(phase).streams.any() for program in programs for phase in program.phases)
    runs = [run_program(program, JUMPING) for program in programs]
    assert sum(run.skipped_operations > 0 for one in runs for run in one) >= 8
    assert any(i.holds for program in programs for phase in program.phases for i in phase.instances)
    assert sum(bool(plain(seed).limited) for seed in SEEDS) >= 8
