"""What both engines answer about a run: stretches of it, and how busy its units are, at any zoom.

The random kernels jump wherever they can; the truth is the reference's row for every operation, and a walk
over every trip.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from io import StringIO
from itertools import pairwise

import numpy as np
import pytest
from agreement import JUMPING
from hypothesis import given, settings
from hypothesis import strategies as st
from long_graphs import long_case
from random_graphs import case

from algorithms import REGISTRY
from npusim.busy import Work, within
from npusim.engine.fast.playback import Playback
from npusim.engine.fast.run import run_program
from npusim.errors import InputError
from npusim.lower import lower
from npusim.machine import override
from npusim.order import instance_at, spans, trips_around
from npusim.problem import Options, Problem, Target
from npusim.profiles import load_machine
from npusim.program import PhaseProgram, Program, Trips
from npusim.settings import EngineSettings
from npusim.simulate import EngineRun, Listed, Played, simulate
from npusim.timeline import ELSEWHERE, Timeline
from npusim.trace import write_trace
from npusim.usage import lane_usage, played_usage

SEEDS = (*range(24), 46, 53, 78, 140, 321)
LONG = tuple(range(0, 72, 6))
TIMES = ("start", "end", "done", "issued")
law = settings(deadline=None, derandomize=True, max_examples=40, database=None)


@dataclass(frozen=True, eq=False)
class Both:
    """One program, run by both engines."""

    program: Program
    listed: Listed
    played: Played

    @property
    def slack(self) -> float:
        return 1e-9 * max(1.0, self.listed.makespan)


@cache
def both(seed: int, long: bool = False) -> Both:
    one = long_case(seed, seed % 4 != 0) if long else case(seed, seed % 4 != 0)
    program = lower(one.kernel, one.machine)
    listed = simulate(program, EngineSettings(engine="reference"))
    assert isinstance(listed, Listed)
    playback = Playback(program, tuple(run_program(program, JUMPING)))
    return Both(program, listed, Played(playback, EngineRun("fast", playback.operations, 0.0, 0.0)))


SHARING = (1121, 1241, 1249)
"""long ones whose last skipped period is not over when what comes after the loop shares memory with it"""
CASES = [*((seed, False) for seed in SEEDS), *((seed, True) for seed in (*LONG, *SHARING))]
seeds = pytest.mark.parametrize(("seed", "long"), CASES)


# --- program order ---------------------------------------------------------------------------------


def walked(phase: PhaseProgram, stream: int) -> Iterator[tuple[int, int | None]]:
    """(instance, trip of the outermost loop or None) of every operation of a stream in program order."""

    def walk(nodes: tuple[int | Trips, ...], item: int, trip: int | None) -> Iterator[tuple[int, int | None]]:
        for node in nodes:
            if isinstance(node, int):
                yield node, trip
                continue
            index = item if node.per_item else stream if len(node.count) > 1 else 0
            for number in range(node.count[index]):
                inner = item
                if node.first_item is not None:
                    inner = node.first_item[stream] + number * node.item_step
                yield from walk(node.body, inner, number + node.resumes if trip is None else trip)

    yield from walk(phase.body, 0, None)


@seeds
def test_the_operations_of_some_trips_are_those_that_a_walk_finds(seed, long):
    for phase in both(seed, long).program.phases:
        for stream in range(phase.streams):
            trips = [trip for _, trip in walked(phase, stream)]
            for first, end in ((0, 0), (0, 1), (0, 2), (1, 3), (2, 10**6), (5, 5)):
                kept = [n for n, trip in enumerate(trips) if trip is None or first <= trip < end]
                found = spans(phase, stream, first, end)
                assert [n for low, high in found for n in range(low, high)] == kept
                assert all(low < high for low, high in found)
                assert all(a[1] < b[0] for a, b in pairwise(found)), "as few as can be"


@seeds
def test_the_instance_of_every_operation_is_that_which_a_walk_finds(seed, long):
    for phase in both(seed, long).program.phases:
        for stream in range(phase.streams):
            known = [instance for instance, _ in walked(phase, stream)]
            for number in [
                *range(0, len(known), 1 + len(known) // 50),
                *range(max(0, len(known) - 3), len(known)),
            ]:
                assert instance_at(phase, stream, number) == known[number]
            with pytest.raises(IndexError):
                instance_at(phase, stream, len(known))


@seeds
def test_the_trips_around_an_operation_are_those_that_a_walk_goes_through(seed, long):
    def walk(phase, nodes, stream, item, number, around):
        """(number, spans of the trips around it) of every operation, by going through all trips."""
        for node in nodes:
            if isinstance(node, int):
                yield number, around
                number += 1
                continue
            index = item if node.per_item else stream if len(node.count) > 1 else 0
            for trip in range(node.count[index]):
                inner = item
                if node.first_item is not None:
                    inner = node.first_item[stream] + trip * node.item_step
                end = number + sum(1 for _ in walk(phase, node.body, stream, inner, 0, ()))
                yield from walk(phase, node.body, stream, inner, number, (*around, (number, end)))
                number = end

    for phase in both(seed, long).program.phases:
        for stream in {0, phase.streams - 1}:
            known = list(walk(phase, phase.body, stream, 0, 0, ()))
            for number, around in known[:: 1 + len(known) // 60]:
                found = trips_around(phase, stream, number)
                assert tuple(span for _, span in found) == around
                chain = [phase, *(loop for loop, _ in found), instance_at(phase, stream, number)]
                assert all(inner in outer.body for outer, inner in pairwise(chain))
            with pytest.raises(IndexError):
                trips_around(phase, stream, len(known))


# --- stretches of a run ----------------------------------------------------------------------------


def same(found: Timeline, known: Timeline, slack: float) -> None:
    for name in ("phase", "stream", "instance", "number"):
        assert (getattr(found, name) == getattr(known, name)).all(), name
    for name in TIMES:
        assert np.abs(getattr(found, name) - getattr(known, name)).max(initial=0.0) <= slack, name


@seeds
@pytest.mark.parametrize("trips", [(0, 0), (0, 2), (3, 5), (0, 10**6)])
def test_some_trips_are_the_same_from_both_engines(seed, long, trips):
    one = both(seed, long)
    found, known = (run.trips(*trips) for run in (one.played, one.listed))
    same(found, known, one.slack)
    ties = found.bound != known.bound
    assert ties.sum() <= 0.05 * known.operations + 1
    assert (found.cause == known.cause)[~ties].mean() >= 0.9 if (~ties).any() else True


@seeds
def test_a_window_of_time_is_the_same_from_both_engines(seed, long):
    one = both(seed, long)
    chooser = np.random.default_rng(seed)
    t = one.listed.timeline
    for _ in range(4):
        start, end = np.sort(chooser.uniform(0, one.listed.makespan, 2))
        edges = np.concatenate((t.start, t.done))
        if np.abs(edges[:, None] - [start, end]).min() <= one.slack:
            continue  # in or out by a rounding error
        same(one.played.between(start, end), one.listed.between(start, end), one.slack)


@seeds
def test_some_core_groups_show_what_they_do_among_all(seed, long):
    one = both(seed, long)
    streams, per_group = (
        np.array([getattr(phase, name) for phase in one.program.phases]) for name in ("streams", "per_group")
    )
    start, end = 0.2 * one.listed.makespan, 0.7 * one.listed.makespan
    for run in (one.listed, one.played):
        everything = run.between(start, end)
        group = everything.stream // per_group[everything.phase]
        for wanted in ([0], [int((streams // per_group).max()) - 1, 0], [99], []):
            found = run.between(start, end, wanted)
            same(found, everything.only(np.flatnonzero(np.isin(group, wanted))), one.slack)


@seeds
def test_operations_by_number_are_those_of_the_whole(seed, long):
    one = both(seed, long)
    t = one.listed.timeline
    for phase, stream in {(int(p), int(s)) for p, s in zip(t.phase, t.stream, strict=True)}:
        rows = np.flatnonzero((t.phase == phase) & (t.stream == stream))
        assert (t.number[rows] == np.arange(len(rows))).all()
        for first, end in ((0, 1), (-3, 5), (len(rows) // 2, len(rows) // 2 + 40), (len(rows) - 2, 10**9)):
            known = t.only(rows[max(0, first) : end])
            for run in (one.listed, one.played):
                same(run.numbered(phase, stream, first, end), known, one.slack)


@seeds
def test_phases_begin_before_their_operations_and_end_with_the_last(seed, long):
    one = both(seed, long)
    t = one.listed.timeline
    for run in (one.listed, one.played):
        assert len(run.stages) == len(one.program.phases)
        for index, (begin, end) in enumerate(run.stages):
            own = t.phase == index
            if own.any():
                assert begin <= t.start[own].min() + one.slack
                assert end == pytest.approx(t.done[own].max())
            else:
                assert begin == end


@seeds
def test_what_is_not_among_the_rows_is_still_named(seed, long):
    one = both(seed, long)
    t = one.listed.timeline
    for run in (one.listed, one.played):
        shown = run.trips(0, 1)
        rows = t.only(np.arange(t.operations))
        for cause in (shown.cause, shown.issue_cause):
            elsewhere = np.flatnonzero(cause <= ELSEWHERE)
            for row in elsewhere:
                phase = one.program.phases[shown.phase[row]]
                assert 0 <= ELSEWHERE - cause[row] < len(phase.instances)
        same(rows, t, 0.0)


@seeds
def test_both_engines_write_the_same_trace(seed, long):
    """But for a nanosecond, and for which of several simultaneous causes is named."""
    one = both(seed, long)
    traces = []
    for run in (one.listed, one.played):
        text = StringIO()
        write_trace(run.trips(0, 2), text)
        traces.append([e for e in json.loads(text.getvalue())["traceEvents"] if e["ph"] == "X"])
    known, found = (sorted(t, key=lambda e: (e["pid"], e["tid"], e["ts"])) for t in traces)
    assert [e["name"] for e in found] == [e["name"] for e in known]
    apart = [abs(a["ts"] - b["ts"]) for a, b in zip(found, known, strict=True)]
    assert max(apart, default=0.0) <= 0.0011
    same = [a["args"]["waited_for"] == b["args"]["waited_for"] for a, b in zip(found, known, strict=True)]
    assert sum(same) >= 0.9 * len(same) - 1


# --- how busy units are ----------------------------------------------------------------------------


@seeds
def test_units_are_as_busy_from_both_engines_in_every_bin_at_any_zoom(seed, long):
    one = both(seed, long)
    chooser = np.random.default_rng(seed)
    whole = one.listed.makespan
    zooms = [np.linspace(0, whole, 2), np.linspace(0, whole, 41), np.linspace(-0.1 * whole, 1.2 * whole, 7)]
    for _ in range(3):
        start, end = np.sort(chooser.uniform(0, whole, 2))
        zooms.append(np.linspace(start, end, 12))
        zooms.append(np.sort(chooser.uniform(start, end, 9)))
    for edges in zooms:
        if (np.diff(edges) < 1e-3).any():
            continue
        found, known = one.played.busy(edges), one.listed.busy(edges)
        for key in found.keys() | known.keys():
            zero = np.zeros(len(edges) - 1)
            apart = np.abs(found.get(key, zero) - known.get(key, zero)) * np.diff(edges)
            assert apart.max() <= 1e-6 * whole, (key, edges)


@seeds
def test_all_bins_together_are_the_busy_time_of_each_unit(seed, long):
    one = both(seed, long)
    known = lane_usage(one.listed.timeline)
    edges = np.linspace(0.0, one.listed.makespan, 14)
    for run in (one.listed, one.played):
        found = run.busy(edges)
        assert {key for key, usage in known.items() if usage.busy > 0} <= found.keys()
        for key, share in found.items():
            assert (share >= -1e-9).all() and (share <= 1 + 1e-9).all()
            assert (share * np.diff(edges)).sum() == pytest.approx(
                known[key].busy, abs=1e-6 * one.listed.makespan
            )


@law
@given(
    st.lists(st.tuples(st.floats(0, 50), st.floats(0.1, 3), st.floats(0, 2)), min_size=1, max_size=6),
    st.integers(1, 40),
    st.lists(st.floats(-10, 400), min_size=2, max_size=12, unique=True),
)
def test_repeated_work_is_what_its_copies_would_be(parts, copies, bounds):
    edges = np.sort(np.array(bounds))
    if np.diff(edges).min() < 1e-6:
        return
    program = both(0).program
    gaps = np.array([gap for gap, *_ in parts])
    lengths = np.array([length for _, length, _ in parts])
    start = np.cumsum(gaps + np.concatenate(([0.0], lengths[:-1])))
    zero = np.zeros(len(parts), dtype=np.int64)
    every = float(start[-1] + lengths[-1] - start[0]) + 1.0
    once = Work(program.phases[0], zero, zero, start, start + lengths, copies, every)
    each = [
        once._replace(start=start + n * every, end=start + lengths + n * every, copies=1)
        for n in range(copies)
    ]
    (found,) = within(iter([once]), edges).values()
    (known,) = within(iter(each), edges).values()
    np.testing.assert_allclose(found * np.diff(edges), known * np.diff(edges), atol=1e-9)


def test_units_where_memory_is_saturated_are_as_busy_as_if_nothing_had_been_skipped():
    machine = override(load_machine("ascend-910b2"), {"memory.hbm_gb_per_s": 50})
    problem = Problem(chunk=64, matrices=8192)
    program = lower(
        REGISTRY["tri-inverse"].build(problem, Options(algorithm="mxr"), Target.of(machine)), machine
    )
    jumped, exact = simulate(program), simulate(program, EngineSettings(exact=True))
    assert jumped.engine.skipped_iterations > 0
    edges = np.linspace(0, exact.makespan, 200)
    found, known = jumped.busy(edges), exact.busy(edges)
    assert found.keys() == known.keys()
    for key, share in known.items():
        np.testing.assert_allclose(found[key], share, atol=1e-6)
        assert share.max() <= 1 + 1e-9


@pytest.mark.parametrize("edges", [[], [1.0], [5.0, 5.0], [0.0, 2.0, 1.0], [0.0, np.inf], [np.nan, 1.0]])
def test_edges_that_do_not_rise_are_one_clear_error(edges):
    for run in (both(0).listed, both(0).played):
        with pytest.raises(InputError, match="edges must be at least two finite moments that rise"):
            run.busy(edges)


def test_a_window_that_is_none_holds_nothing():
    one = both(0)
    middle = one.listed.makespan / 2
    for run in (one.listed, one.played):
        assert run.between(middle, middle).operations == run.between(middle + 9, middle).operations == 0
        assert run.between(2 * one.listed.makespan, 3 * one.listed.makespan).operations == 0
        outside = run.busy([-10.0, -5.0])
        assert outside.keys() == lane_usage(one.listed.timeline).keys()
        assert not any(share.any() for share in outside.values())


@pytest.mark.parametrize("empty", [0, 1, 2])
def test_a_phase_without_operations_still_ends_in_a_barrier(empty):
    """Busy and waits of each unit sum to the makespan, from both engines."""
    machine = load_machine("ascend-910b2")
    problem = Problem(chunk=64, matrices=96)
    program = lower(
        REGISTRY["tri-inverse"].build(problem, Options(algorithm="mxr"), Target.of(machine)), machine
    )
    (phase,) = program.phases
    phases = [phase, phase]
    phases.insert(empty, replace(phase, body=(), instances=(), name="empty"))
    program = replace(program, phases=tuple(phases))
    listed, played = simulate(program, EngineSettings(engine="reference")), simulate(program)
    known, found = lane_usage(listed.timeline), played_usage(played.playback)
    assert found.keys() == known.keys()
    for key, usage in known.items():
        assert found[key].busy == pytest.approx(usage.busy)
        assert found[key].waiting == pytest.approx(usage.waiting)
        assert usage.busy + sum(usage.waiting.values()) == pytest.approx(listed.makespan, rel=1e-9)


# --- a billion operations --------------------------------------------------------------------------


def test_a_billion_operations_can_be_looked_at_anywhere():
    """80 million matrices of 16 x 16: at any place a window, and bins from the whole down to a cycle."""
    run = _billion()
    assert run.engine.operations > 10**9
    assert run.engine.skipped_operations > 0.99 * run.engine.operations
    for place in (0.0, 0.3, 0.77, 0.9999):
        start = place * run.makespan
        shown = run.between(start, start + 20_000.0)
        assert 0 < shown.operations < 10**5
        assert (shown.start < start + 20_000.0).all() and (shown.done > start).all()
        for width in (run.makespan / 50, 1e5, 10.0):
            edges = np.minimum(start + width * np.arange(11), run.makespan)
            edges = edges[: 1 + int((np.diff(edges) > 0).sum())]
            busy = run.busy(edges)
            assert all((share >= -1e-6).all() and (share <= 1 + 1e-6).all() for share in busy.values())
    whole = run.busy(np.array([0.0, run.makespan]))
    for usage in run.totals().lanes:
        assert usage.busy <= run.makespan * (1 + 1e-9)
    first = max(whole, key=lambda key: whole[key][0])
    assert whole[first][0] > 0.3


def _billion() -> Played:
    machine = load_machine("ascend-910b2")
    problem = Problem(chunk=16, matrices=80_000_000)
    program = lower(
        REGISTRY["tri-inverse"].build(problem, Options(algorithm="mxr"), Target.of(machine)), machine
    )
    run = simulate(program)
    assert isinstance(run, Played)
    return run


# --- what an engine says of itself -----------------------------------------------------------------


def test_an_exact_run_says_so():
    machine = load_machine("ascend-910b2")
    problem = Problem(chunk=32, matrices=4800)
    program = lower(
        REGISTRY["tri-inverse"].build(problem, Options(algorithm="mxr"), Target.of(machine)), machine
    )
    exact = simulate(program, EngineSettings(exact=True))
    jumped = simulate(program)
    loose = simulate(program, EngineSettings(tolerance=1e-4))
    assert exact.engine.skipped_iterations == exact.engine.tolerance == exact.engine.error_us == 0
    assert jumped.engine.skipped_iterations > 0 and jumped.engine.tolerance == 1e-9
    assert loose.engine.tolerance == 1e-4
    assert jumped.makespan == pytest.approx(exact.makespan, rel=1e-9)
    scale = machine.cycles_per_us
    for run in (jumped, loose):
        assert (
            abs(run.makespan - exact.makespan) / scale <= run.engine.error_us + 1e-9 * exact.makespan / scale
        )
