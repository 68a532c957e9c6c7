"""The fast engine against the reference: every time of every operation, with and without jumps.

The random kernels of `random_graphs` are short; those of `long_graphs` make so many trips that most runs
settle and jump. `agreement` replays what was jumped over, so that no operation goes unseen. The constructed
kernels hold what random ones rarely do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from agreement import (
    EXACT,
    JUMPING,
    SPARING,
    TOLERANCE,
    Agreement,
    agreement,
    amplifies,
    difference,
    jumps_of,
    places,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from long_graphs import long_case, long_cases, operations_of
from random_graphs import cases
from test_engine import Shuffled

from algorithms import REGISTRY
from npusim.builder import Index, KernelBuilder, Target, Tile
from npusim.engine.fast import layout as at
from npusim.engine.fast.playback import Playback, timeline
from npusim.engine.fast.run import Jumping, run_program
from npusim.engine.reference import simulate
from npusim.lower import lower
from npusim.machine import override
from npusim.problem import Options, Problem
from npusim.profiles import load_machine
from npusim.program import PhaseProgram, Program, Role, Trips
from npusim.timeline import Bound, Timeline


def law(examples: int) -> settings:
    """Always the same examples, and so many of them."""
    return settings(deadline=None, derandomize=True, max_examples=examples, database=None)


def ran(program: Program, jumping: Jumping) -> Playback:
    return Playback(program, tuple(run_program(program, jumping)))


def skipped(playback: Playback) -> int:
    """Operations jumped over."""
    return sum(run.skipped_operations for run in playback.runs)


def agree(program: Program, reference: Timeline, jumps: Jumping = JUMPING) -> tuple[Agreement, Agreement]:
    """Exact and jumping runs, both of which agree with the reference (where it agrees with itself)."""
    exact, jumping = (agreement(program, reference, how) for how in (EXACT, jumps))
    problem = exact.problem or jumping.problem
    assert not problem or amplifies(program, reference), problem
    assert not exact.jumped
    return exact, jumping


# --- every operation of random kernels -------------------------------------------------------------


@law(1090)
@given(cases())
def test_every_time_of_every_operation_is_that_of_the_reference(one):
    program = lower(one.kernel, one.machine)
    agree(program, simulate(program))


@law(660)
@given(cases(contention=False))
def test_so_it_is_without_sharing_where_core_groups_run_one_after_another(one):
    program = lower(one.kernel, one.machine)
    agree(program, simulate(program))


@law(150)
@given(long_cases(), st.sampled_from([JUMPING, SPARING]))
def test_long_loops_end_as_if_every_trip_had_been_simulated(one, jumps):
    program = lower(one.kernel, one.machine)
    agree(program, simulate(program), jumps)


@law(100)
@given(long_cases(contention=False), st.sampled_from([JUMPING, SPARING]))
def test_so_they_do_without_sharing(one, jumps):
    program = lower(one.kernel, one.machine)
    agree(program, simulate(program), jumps)


def test_most_long_kernels_jump_in_outer_and_inner_loops_in_several_phases_and_with_uneven_counts():
    """Else the tests above would show little. Of the 120 seen here 68 jump."""
    runs = [
        ran(lower(one.kernel, one.machine), JUMPING) for one in (long_case(s, s % 4 != 0) for s in range(120))
    ]
    where = [jumps_of(run) for run in runs if skipped(run)]
    assert len(where) >= 0.4 * len(runs)
    assert sum(skipped(run) for run in runs) >= 0.2 * sum(run.operations for run in runs)
    assert sum(jumps.inner for jumps in where) >= 20
    assert sum(not jumps.inner for jumps in where) >= 20
    assert sum(jumps.phases > 1 for jumps in where) >= 10
    assert sum(jumps.uneven for jumps in where) >= 4
    assert sum(jumps_of(run).widened for run in runs) >= 20


@law(25)
@given(long_cases())
def test_as_many_operations_run_as_the_loops_say(one):
    """Counted by the tree alone, jumps included."""
    assert ran(lower(one.kernel, one.machine), JUMPING).operations == operations_of(one.kernel, one.machine)


# --- order of what is simultaneous -----------------------------------------------------------------


@law(40)
@given(st.one_of(cases(), long_cases()), st.integers(0, 1000))
def test_the_reference_may_handle_simultaneous_events_in_any_order(one, seed):
    program = lower(one.kernel, one.machine)
    agree(program, simulate(program, Shuffled(seed)))


def renumbered(phase: PhaseProgram, order: np.ndarray) -> PhaseProgram:
    """The phase with core group `order[g]` as group g."""

    def nodes(body: tuple[int | Trips, ...]) -> tuple[int | Trips, ...]:
        return tuple(trips(node) if isinstance(node, Trips) else node for node in body)

    def trips(node: Trips) -> Trips:
        by_group = not node.per_item and len(node.count) > 1
        first = None if node.first_item is None else node.first_item[order]
        count = node.count[order] if by_group else node.count
        return replace(node, count=count, first_item=first, body=nodes(node.body))

    return replace(phase, start_cycles=phase.start_cycles[order], body=nodes(phase.body))


@law(40)
@given(st.one_of(cases(), long_cases()), st.integers(0, 1000))
def test_the_order_in_which_core_groups_are_numbered_changes_nothing(one, seed):
    """Groups that are ready at once are handled in the order of their numbers."""
    program = lower(one.kernel, one.machine)
    reference = simulate(program)
    orders = [np.random.default_rng(seed).permutation(phase.streams) for phase in program.phases]
    phases = tuple(renumbered(phase, order) for phase, order in zip(program.phases, orders, strict=True))
    for jumping in (EXACT, JUMPING):
        playback = ran(replace(program, phases=phases), jumping)
        assert playback.operations == reference.operations
        for phase, order in enumerate(orders):
            operations = playback.operations_of(phase)
            steps = playback.numbered(phase, np.zeros_like(operations), operations)
            problem = difference(reference, phase, replace(steps, group=order[steps.group]))[1]
            assert not problem or amplifies(program, reference), problem


# --- why an operation starts when it does ----------------------------------------------------------


def unexplained(t: Timeline, playback: Playback) -> int:
    """Operations whose start is not the moment that the cause they name gives."""
    lanes, slack, wrong = t.lanes(), 1e-9 * t.makespan, 0
    for number, phase in enumerate(t.program.phases):
        rows = np.flatnonzero(t.phase == number)
        begin = playback.runs[number].begin[t.stream[rows]]
        order = np.lexsort((rows, lanes[rows], t.stream[rows]))
        free = begin.copy()
        same = (np.diff(lanes[rows][order]) == 0) & (np.diff(t.stream[rows][order]) == 0)
        free[order[1:][same]] = t.end[rows][order[:-1][same]]
        named, lane = t.cause[rows] >= 0, lanes[rows]
        cause = np.where(named, t.cause[rows], rows)
        flag = phase.flags[lanes[cause], lane]
        unit = np.array([phase.instances[i].role is Role.unit for i in t.instance[rows]])
        moments = {
            Bound.order: [free], Bound.issue: [t.issued[rows] + unit * t.program.issue_cycles],
            Bound.read: [t.done[cause] + flag, t.start[cause]], Bound.reuse: [t.end[cause] + flag],
        }  # fmt: skip
        for bound, ready in moments.items():
            mine = t.bound[rows] == bound
            apart = np.min([np.abs(t.start[rows] - time) for time in ready], axis=0)
            wrong += int((apart[mine] > slack).sum()) + int((~named[mine]).sum()) * (bound >= Bound.read)
        wrong += int((t.bound[rows] == Bound.queue).sum())
    return wrong


@law(60)
@given(st.one_of(cases(), long_cases()))
def test_every_operation_starts_at_the_moment_that_its_cause_gives(one):
    """Of causes that give the same moment the engines may name different ones; both explain the start."""
    program = lower(one.kernel, one.machine)
    for jumping in (EXACT, JUMPING):
        playback = ran(program, jumping)
        parts = []
        for phase in range(len(program.phases)):
            operations = playback.operations_of(phase)
            parts.append((phase, playback.numbered(phase, np.zeros_like(operations), operations)))
        assert unexplained(timeline(program, parts), playback) == 0


@law(60)
@given(cases())
def test_both_engines_name_the_same_cause_in_all_but_a_few_ties(one):
    program = lower(one.kernel, one.machine)
    reference, playback = simulate(program), ran(program, JUMPING)
    other = 0
    for phase in range(len(program.phases)):
        operations = playback.operations_of(phase)
        steps = playback.numbered(phase, np.zeros_like(operations), operations)
        rows = places(reference, phase, steps)
        found = timeline(program, [(phase, steps)])
        order = np.lexsort((steps.seq, steps.group))
        other += int((reference.bound[rows][order] != found.bound).sum())
        other += int((reference.issue_bound[rows][order] != found.issue_bound).sum())
    assert other <= 0.05 * reference.operations + 1


# --- states that only come near each other ---------------------------------------------------------


@pytest.mark.parametrize("seed", [309, 328, 496, 643, 779])
def test_a_looser_tolerance_jumps_earlier_by_no_larger_an_error_than_it_says(seed):
    """Kernels whose transfers meet, and settle trip by trip."""
    one = long_case(seed)
    program = lower(one.kernel, one.machine)
    true, strict, loose = (ran(program, j) for j in (EXACT, JUMPING, replace(JUMPING, tolerance=1e-3)))
    error = sum(run.error_cycles for run in loose.runs)
    assert skipped(loose) > skipped(strict)
    assert error > sum(run.error_cycles for run in strict.runs)
    assert 0 < abs(loose.makespan - true.makespan) <= error + TOLERANCE * true.makespan
    assert abs(strict.makespan - true.makespan) <= TOLERANCE * true.makespan


# --- constructed kernels ---------------------------------------------------------------------------

N = 80


def built(write: Callable[[KernelBuilder, dict[str, Tile]], None], **values: float) -> Program:
    """A phase that `write` writes for the toy, with 80 x 80 tiles at every level."""
    machine = override(
        load_machine("toy"), {"core.groups": 1} | {k.replace("__", "."): v for k, v in values.items()}
    )
    k = KernelBuilder("constructed", Target.of(machine), "fp16")
    dtypes = {"L1": "fp16", "L0A": "fp16", "L0B": "fp16", "L0C": "fp32", "UB": "fp16"}
    tiles = {level: k.tile(level, level, (N, N), dtype) for level, dtype in dtypes.items()}
    tiles["state"] = k.tile("state", "UB", (N, N), "fp16")
    with k.phase("only"):
        write(k, tiles)
    return lower(k.finish(), machine)


def source(k: KernelBuilder):
    return k.input("x", (N, N), "fp16").at()


def product(k: KernelBuilder, t: dict[str, Tile], more: bool = False) -> None:
    k.move(t["L0A"], t["L1"])
    k.move(t["L0B"], t["L1"])
    k.matmul(t["L0C"], t["L0A"], t["L0B"], accumulate=more)


def test_a_state_carried_over_ten_thousand_chunks_of_one_item_jumps_in_their_loop():
    def write(k: KernelBuilder, t: dict[str, Tile]) -> None:
        x, y = source(k), k.output("y", (N, N), "fp16")

        def chunk(_: Index) -> None:
            k.load(t["UB"], x)
            k.vector("add", t["state"], t["state"], t["UB"])

        def sequence(_: object) -> None:
            k.load(t["state"], x)
            k.loop(10_000, chunk)
            k.store(y.at(), t["state"])

        k.items([("i", 1)], sequence)

    program = built(write)
    _, jumping = agree(program, simulate(program))
    assert jumps_of(jumping.playback).inner
    assert skipped(jumping.playback) > 0.99 * jumping.playback.operations


def timed(kernel: str, sizes: Problem, jumping: Jumping) -> Playback:
    machine = load_machine("ascend-910b2")
    made = REGISTRY[kernel].build(sizes, Options(), Target.of(machine))
    return ran(lower(made, machine), jumping)


SHORT_AND_LONG = (0, *np.cumsum([128 * 32] * 24 + [128 * 1200] * 24).tolist())
"""where sequences begin: each core group has one of 32 chunks, and then one of 1200"""
UNEVEN = (0, *np.cumsum(128 * np.random.default_rng(1).integers(500, 1500, 24)).tolist())
"""of hundreds of chunks, each of another number: loops that are long, but for their last trips"""


@pytest.mark.parametrize(
    ("kernel", "sizes"),
    [
        ("gdn-kkt", Problem(batch=64, seq_len=2048, heads=16, chunk=128)),
        ("gdn-kkt", Problem(cu_seqlens=SHORT_AND_LONG, heads=1, chunk=128)),
        ("gdn-kkt", Problem(cu_seqlens=UNEVEN, heads=4, chunk=128)),
    ],
    ids=["short", "long after short", "uneven"],
)
def test_what_comes_again_around_short_loops_is_skipped_and_what_does_in_a_long_one_after_them(kernel, sizes):
    """The loops inside are over before a jump pays, each core group at another time; long ones come to their
    last trips."""
    exact, jumping = (timed(kernel, sizes, how) for how in (EXACT, Jumping()))
    assert skipped(jumping) > 0.5 * jumping.operations == 0.5 * exact.operations
    assert jumping.makespan == pytest.approx(exact.makespan, rel=TOLERANCE)


def test_a_vector_core_may_run_far_ahead_of_its_cube_core():
    """What the cube core has yet to do is remembered in rings that grow."""

    def write(k: KernelBuilder, t: dict[str, Tile]) -> None:
        x, y = source(k), k.output("y", (N, N), "fp16")

        def trip(_: object) -> None:
            k.load(t["L1"], x)
            for number in range(4):
                product(k, t, number > 0)
            k.load(t["UB"], x)
            k.store(y.at(), t["UB"])

        k.items([("i", 300)], trip)

    program = built(write)
    for found in agree(program, simulate(program)):
        (run,) = found.playback.runs
        assert run.encoded[at.RING] >= 8 * run.first[at.RING]
        steps = found.playback.numbered(0, np.zeros(1, dtype=np.int64), found.playback.operations_of(0))
        lane_of = np.array([i.lane for i in program.phases[0].instances])
        core_of = np.array([lane.core for lane in program.phases[0].lanes])
        on_cube = core_of[lane_of[steps.instance]] == 0
        assert steps.end[~on_cube].max() < 0.5 * steps.end[on_cube].max()


@pytest.mark.parametrize("seed", [13491, 2742, 8463, 21591, 3159, 68427, 69021, 201])
def test_kernels_that_once_disagreed_agree(seed):
    """Transfers that land at one moment but for rounding; a step issued long ago held up by a time that looks
    old; rings that grow in an exact run."""
    one = long_case(seed)
    program = lower(one.kernel, one.machine)
    timeline = simulate(program)
    assert not amplifies(program, timeline)
    agree(program, timeline)


def test_where_rounding_errors_grow_from_trip_to_trip_the_reference_differs_from_itself():
    """No order of sums is the right one."""
    one = long_case(39807)
    program = lower(one.kernel, one.machine)
    assert amplifies(program, simulate(program))
