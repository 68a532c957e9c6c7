"""Looking at a part of a run of the fast engine: what is replayed is what the reference did there."""

from __future__ import annotations

import numpy as np
import pytest
from agreement import EXACT, JUMPING, SPARING, TOLERANCE, amplifies, difference, places
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from long_graphs import long_case, long_cases
from random_graphs import Case, cases

from npusim.builder import KernelBuilder, Target
from npusim.engine.fast import layout as at
from npusim.engine.fast import rows
from npusim.engine.fast import run as fast_run
from npusim.engine.fast.playback import Playback, Steps, timeline
from npusim.engine.fast.run import Jumping, run_program
from npusim.engine.reference import simulate
from npusim.lower import lower
from npusim.machine import override
from npusim.profiles import load_machine
from npusim.program import Program
from npusim.timeline import Timeline

STATES = 97
"""operations from one state that an exact run keeps to the next, here: few, so that there are many"""
law = settings(deadline=None, derandomize=True, max_examples=40, database=None)
anything = st.one_of(cases(), cases(contention=False), long_cases(), long_cases(contention=False))
share = st.floats(0, 1)


def played(program: Program, jumping: Jumping) -> Playback:
    """A run that keeps a state every few operations."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast_run, "STEPS", STATES)
        return Playback(program, tuple(run_program(program, jumping)))


def looked_at(one: Case) -> tuple[Program, Timeline, list[Playback]]:
    program = lower(one.kernel, one.machine)
    return program, simulate(program), [played(program, how) for how in (EXACT, JUMPING)]


def whole(playback: Playback, phase: int) -> Steps:
    operations = playback.operations_of(phase)
    return playback.numbered(phase, np.zeros_like(operations), operations)


@law
@given(anything, share, share)
def test_a_stretch_of_time_shows_every_operation_that_takes_part_of_it_and_no_other(one, first, second):
    """Those that touch an end by no more than a rounding error may be in or out."""
    program, reference, playbacks = looked_at(one)
    start, end = (reference.makespan * part for part in sorted((first, second)))
    assume(start < end)
    slack = TOLERANCE * reference.makespan
    must = (reference.start < end - slack) & (reference.done > start + slack)
    may = (reference.start < end + slack) & (reference.done > start - slack)
    for playback in playbacks:
        seen = np.zeros(reference.operations, dtype=np.int64)
        problems = []
        for phase, steps in playback.between(start, end):
            problems.append(difference(reference, phase, steps)[1])
            np.add.at(seen, places(reference, phase, steps), 1)
        if any(problems) or (seen < must).any() or (seen > may).any():
            assert amplifies(program, reference), problems


@law
@given(anything)
def test_all_of_time_shows_every_operation(one):
    program, reference, playbacks = looked_at(one)
    for playback in playbacks:
        found = timeline(program, list(playback.between(-1.0, np.inf)))
        assert found.operations == reference.operations


@law
@given(anything, st.integers(0, 1000))
def test_a_stretch_of_operations_shows_them_as_the_whole_does(one, seed):
    chooser = np.random.default_rng(seed)
    program = lower(one.kernel, one.machine)
    for playback in (played(program, how) for how in (EXACT, JUMPING)):
        for phase in range(len(program.phases)):
            everything, operations = whole(playback, phase), playback.operations_of(phase)
            low = chooser.integers(0, operations + 1)
            high = chooser.integers(low, operations + 3)
            steps = playback.numbered(phase, low, high)
            wanted = everything.only(
                (everything.seq >= low[everything.group]) & (everything.seq < high[everything.group])
            )
            assert len(steps) == (np.minimum(high, operations) - low).sum() == len(wanted)
            mine, theirs = (np.lexsort((s.seq, s.group)) for s in (steps, wanted))
            for name in ("group", "seq", "instance", "bound"):
                assert (getattr(steps, name)[mine] == getattr(wanted, name)[theirs]).all()
            for name in ("issued", "start", "end", "done"):
                apart = np.abs(getattr(steps, name)[mine] - getattr(wanted, name)[theirs])
                assert (apart <= TOLERANCE * playback.makespan).all()


@law
@given(anything, st.sampled_from([1, 40, rows.WATCHED]))
def test_what_is_written_down_while_a_phase_runs_is_what_the_reference_did(one, room):
    """Of one core group, with and without jumps, until there is no room for more."""
    program = lower(one.kernel, one.machine)
    reference = simulate(program)
    for how in (EXACT, JUMPING, SPARING):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rows, "WATCHED", room)
            playback = Playback(program, tuple(run_program(program, how)))
        for phase, run in enumerate(playback.runs):
            seen = playback.watched(phase, run.watch.group)
            operations = int(playback.operations_of(phase)[run.watch.group])
            assert len(seen) <= room and (np.diff(seen.seq) > 0).all()
            assert how is not EXACT or len(seen) == min(room, operations)
            assert not difference(reference, phase, seen)[1] or amplifies(program, reference)


def test_a_loop_that_leaves_what_nothing_in_it_reads_runs_again_from_any_state(monkeypatch):
    """Where it has settled it looks for producers nowhere, but at its end for what it leaves."""
    machine = override(load_machine("toy"), {"core.groups": 1})
    k = KernelBuilder("leaves", Target.of(machine), "fp16")
    x, large = k.input("x", (16, 16), "fp16"), k.input("large", (128, 128), "fp16")
    read = k.tile("read", "UB", (16, 16), "fp16")
    loaded = k.tile("loaded", "UB", (128, 128), "fp16")
    written = [k.tile(f"written {number}", "UB", (16, 16), "fp16") for number in range(30)]
    with k.phase("only"):
        k.load(read, x.at())

        def trip(_: object) -> None:
            for tile in written[:15]:
                k.vector("add", tile, read, read)
            k.load(loaded, large.at())
            for tile in written[15:]:
                k.vector("add", tile, read, read)

        k.loop(50, trip)
        for number, tile in enumerate([*written, loaded]):
            k.store(k.output(f"y{number}", tile.shape, "fp16").at(), tile)
    program = lower(k.finish(), machine)
    reference = simulate(program)
    monkeypatch.setattr(fast_run, "STEPS", 1)
    monkeypatch.setattr(fast_run, "CHECKPOINTS", 1 << 20)
    playback = Playback(program, tuple(run_program(program, EXACT)))
    (run,) = playback.runs
    assert run.encoded[at.PRODUCER] == run.encoded[at.LEFT_BY] < run.encoded[at.DRAINS]
    states = run.checkpoints
    assert len(states) > 100
    for state in states:
        run.checkpoints = [state]
        steps = playback.numbered(0, state.taken, playback.operations_of(0))
        assert not difference(reference, 0, steps)[1]
        assert len(steps) == int((playback.operations_of(0) - state.taken).sum())


@pytest.mark.parametrize("seed", [0, 1, 3, 5])
def test_however_long_an_exact_run_it_keeps_few_states(seed, monkeypatch):
    one = long_case(seed)
    program = lower(one.kernel, one.machine)
    monkeypatch.setattr(fast_run, "STEPS", 5)
    passed = 0
    for run in run_program(program, EXACT):
        kept = len(run.checkpoints)
        assert kept <= fast_run.CHECKPOINTS
        assert kept >= min(run.passed, fast_run.CHECKPOINTS) // 4, "and enough to replay from"
        passed += run.passed
    assert passed > 2 * fast_run.CHECKPOINTS, "more were passed than are kept"
