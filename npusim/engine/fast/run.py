"""Running a program with the fast engine: phase by phase, jumping where the state comes back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from npusim.engine.fast import layout as at
from npusim.engine.fast.encode import encode
from npusim.engine.fast.encoded import Encoded, move_rings, trim
from npusim.engine.fast.jump import Period, forward
from npusim.engine.fast.layout import (
    APART,
    BUDGET,
    FINISHED,
    M_END,
    MATCH,
    N_END,
    N_HEAD,
    SNAPSHOT,
    TOLERANCE,
    WIDEN,
)  # fmt: skip
from npusim.engine.fast.native import FLOAT, INT, POINTER, Function
from npusim.engine.fast.rows import Rows, Watch
from npusim.engine.fast.views import Floats, Ints, Views
from npusim.order import operations
from npusim.program import Program

Progress = Callable[[int], None]
advance = Function("advance", "advance", *[POINTER] * 7, FLOAT, INT)
alike = Function("period", "alike", *[POINTER] * 4, INT, INT, INT)
STEPS = 1 << 20
"""operations between two reports of progress"""
PATIENCE = 1 << 17
"""operations without a sample outside of loops that were soon over after which one looks inside again, at
first: each time twice as many, up to STEPS"""
CHECKPOINTS = 32
"""states that are kept of a phase at most, besides those at jumps"""


@dataclass(frozen=True)
class Jumping:
    """How the engine jumps. `tolerance`: two states are alike if no time differs by more, relative to the
    period. `first`: samples before the first snapshot. `least`: operations that a jump must save."""

    exact: bool = False
    tolerance: float = 1e-9
    first: int = 2
    least: int = 1 << 16


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A state of a phase, or of one `group` of it where they run apart, from which it can be run again; after
    it `periods` periods were jumped over."""

    encoded: Encoded
    group: int | None
    packed: Ints
    period: Period | None = None
    periods: int = 0

    def state(self, ahead: int = 0) -> Ints:
        """The state, so many periods later."""
        state = self.encoded.unpacked(self.packed, self.group)
        if ahead:
            assert self.period is not None
            self.period.later(state, ahead)
        return state

    def views(self) -> Views:
        """To look at it, without its rings."""
        return self.encoded.seen(self.packed, self.group)

    @cached_property
    def taken(self) -> Ints:
        """[group] how many operations were taken until then."""
        return self.views().group(at.SEQ_NEXT).copy()

    def begin(self, group: int, number: int) -> int:
        """The last operation of a group up to `number` from which on it can run again; -1 where none can."""
        first, each = int(self.taken[group]), int(self.period.operations[group]) if self.period else 0
        if first > number:
            return -1
        return first + min((number - first) // each, self.periods + 1) * each if each else first


@dataclass(eq=False)
class PhaseRun:
    """A phase that ran: its last state, states on the way, and what was not simulated."""

    first: Encoded
    begin: Floats
    encoded: Encoded
    state: Ints
    watch: Watch
    checkpoints: list[Checkpoint] = field(default_factory=list)
    skipped_iterations: int = 0
    skipped_operations: int = 0
    error_cycles: float = 0.0
    compared: bool = False
    came_back: bool = False
    """whether a state was kept to compare later ones with, and whether one was alike"""
    passed: int = 0
    spacing: int = 1
    """states on the way: how many went by, and of how many one is kept"""
    patience: int = PATIENCE

    @property
    def apart(self) -> list[int] | list[None]:
        """The groups, where they run one after another; else None for all."""
        return list(range(self.encoded[at.GROUPS])) if self.encoded[at.ALONE] else [None]

    @property
    def alone(self) -> int | None:
        """The group at work, where they run one after another."""
        return int(self.state[at.SAMPLED]) if self.encoded[at.ALONE] else None

    @cached_property
    def lengths(self) -> Ints:
        """[group] operations in all."""
        return operations(self.encoded.phase)

    def unsettled(self, jumping: Jumping) -> bool:
        """Whether no state came back, in a phase long enough to jump."""
        return self.compared and not self.came_back and self.operations >= jumping.least

    @property
    def finished(self) -> float:
        """When all its groups are done, scalar units included."""
        closed = self.encoded.views(self.state).group_times(at.CLOSED_AT)
        return max(self.last_done, float(closed.max(initial=0.0)))

    @property
    def last_done(self) -> float:
        """End of its last operation."""
        return float(self.encoded.views(self.state).last_done().max(initial=0.0))

    @property
    def operations(self) -> int:
        return int(self.encoded.views(self.state).group(at.SEQ_NEXT).sum())


def load() -> None:
    """Have the machine code there, so that no run has to wait for it."""
    for one in (advance, alike, forward, trim, move_rings):
        assert one.loaded


class Memory:
    """A state to compare with."""

    def __init__(self, tolerance: float) -> None:
        self.numbers = np.zeros(1 << 14, dtype=np.int64)
        self.times = np.zeros(1 << 14)
        self.times[TOLERANCE] = tolerance

    def save(self, encoded: Encoded, state: Ints) -> None:
        first, last = 0, encoded[at.GROUPS]
        if encoded[at.ALONE]:
            first = int(state[at.SAMPLED])
            last = first + 1
        own, words = state.ctypes.data, encoded.words.ctypes.data
        while True:
            self.numbers[M_END], self.numbers[N_END] = len(self.numbers), len(self.times)
            memory = self.numbers.ctypes.data, self.times.ctypes.data
            if alike(own, words, *memory, True, first, last):
                return
            self.numbers = np.zeros(2 * len(self.numbers), dtype=np.int64)
            times = np.zeros(2 * len(self.times))
            times[:N_HEAD] = self.times[:N_HEAD]
            self.times = times


def run_phase(
    program: Program,
    index: int,
    begin: float,
    jumping: Jumping,
    progress: Progress | None = None,
    done: int = 0,
) -> PhaseRun:
    """Run phase `index`, whose cores are free at `begin`."""
    encoded = encode(program, index, settling=jumping.exact)
    start = np.maximum(begin, program.phases[index].start_cycles)
    run = PhaseRun(encoded, start, encoded, encoded.fresh(start), Watch(encoded, start))
    memory = Memory(jumping.tolerance)
    _look_anew(run.state, 0 if jumping.exact else jumping.first)
    samples = walked = 0
    """how many there were when this last came back only because it had gone on for long; how many operations
    it has gone on since a state was kept on the way, at least"""
    before: Ints | None = None
    """the state when one was first alike"""
    again = False
    while True:
        state = run.state
        budget = STEPS if state[at.DEEPEST] == at.ANY_DEPTH else min(STEPS, run.patience)
        why = step(run.encoded, state, run.watch, memory, np.inf, budget)
        if why == FINISHED:
            return run
        if why == WIDEN:
            run.encoded, run.state = run.encoded.widened(state)
            before = None
            looking = 0 < state[at.SNAP] < at.NEVER
            _look_later(run.state, int(state[at.SAMPLES]) + 1 if looking else int(state[at.SNAP]))
        elif why == SNAPSHOT or (why == MATCH and not again):
            # the first period counts causes from before it, so it is the second that is repeated
            again = why == MATCH
            run.compared, run.came_back = True, run.came_back or again
            memory.save(run.encoded, state)
            if again:
                before = run.encoded.packed(state, run.alone)
            state[at.COMPARING] = 1
            state[at.SNAP] = 2 * state[at.SAMPLES]
        elif why == MATCH:
            assert before is not None
            _jump(run, before, jumping, float(memory.times[APART]))
            before, again, samples = None, False, 0
        elif why == BUDGET:
            if state[at.DEEPEST] != at.ANY_DEPTH and state[at.SAMPLES] == samples:
                state[at.DEEPEST] = at.ANY_DEPTH  # a loop inside is long after all
                run.patience *= 2
            samples = int(state[at.SAMPLES])
            walked += budget
            if walked < STEPS:
                continue
            walked = 0
            _remember(run)
            if progress:
                progress(done + run.operations)


def _remember(run: PhaseRun) -> None:
    """Keep the state; of those on the way every second one where there are many."""
    run.passed += 1
    if run.passed % run.spacing:
        return
    run.checkpoints.append(Checkpoint(run.encoded, run.alone, run.encoded.packed(run.state, run.alone)))
    plain = [point for point in run.checkpoints if point.period is None]
    if len(plain) > CHECKPOINTS:
        run.spacing *= 2
        dropped = plain[::2]
        run.checkpoints = [point for point in run.checkpoints if point not in dropped]


def step(encoded: Encoded, state: Ints, rows: Rows, memory: Memory, until: float, budget: int) -> int:
    """Go on; why it came back."""
    own, words, written = state.ctypes.data, encoded.words.ctypes.data, rows.words.ctypes.data
    return advance(
        own, words, written, rows.low.ctypes.data, rows.high.ctypes.data,
        memory.numbers.ctypes.data, memory.times.ctypes.data, until, budget,
    )  # fmt: skip


def _look_anew(state: Ints, first: int, deepest: int = at.ANY_DEPTH) -> None:
    """Count samples from here on, where at most `deepest` loops are around; the first snapshot is due at
    sample `first`, or (0) at none."""
    state[at.SAMPLES], state[at.SNAP], state[at.COMPARING], state[at.DEEPEST] = 0, first, 0, deepest


def _look_later(state: Ints, sample: int) -> None:
    """The next snapshot is due at that sample; 0: at none; NEVER: at none of this group."""
    state[at.COMPARING], state[at.SNAP] = 0, sample


def _left(run: PhaseRun) -> int:
    """How many operations are still to be taken by all groups, or by the one at work."""
    left = run.lengths - run.encoded.views(run.state).group(at.SEQ_NEXT)
    return int(left.sum() if run.alone is None else left[run.alone])


def _jump(run: PhaseRun, before: Ints, jumping: Jumping, apart: float) -> None:
    """The state is that of `before` again: jump over as many periods as follow, if that saves enough."""
    state = run.state
    least = jumping.least // 2 if run.encoded[at.ALONE] else jumping.least  # the state of a group is small
    period = Period.between(run.encoded, run.alone, before, state)
    periods = period.most() if period else 0
    if period is None or periods == 0 or periods * int(period.operations[period.live].sum()) < least:
        if _left(run) < least:
            over = not run.encoded[at.ALONE] or run.lengths.max() < least
            _look_later(state, 0 if over else at.NEVER)
        elif period and (depth := period.depth) and period.longest() < 2 * least:
            # these loops are soon over, but what is around them may come again with all that is inside
            _look_anew(state, 1, depth - 1)
        else:
            _look_later(state, 2 * int(state[at.SAMPLES]))
        return
    run.checkpoints.append(Checkpoint(run.encoded, run.alone, before, period, periods))
    period.later(state, periods)
    run.watch.go_on(run.encoded, state)
    run.skipped_iterations += periods * int(period.trips[period.live].sum())
    run.skipped_operations += periods * int(period.operations[period.live].sum())
    run.error_cycles += periods * apart
    run.patience = PATIENCE
    _look_anew(state, jumping.first)


def run_program(program: Program, jumping: Jumping, progress: Progress | None = None) -> list[PhaseRun]:
    """Run all phases, each after the barrier that ends the one before."""
    runs: list[PhaseRun] = []
    begin, done = 0.0, 0
    for index in range(len(program.phases)):
        run = run_phase(program, index, begin, jumping, progress, done)
        runs.append(run)
        begin = run.finished + program.barrier_cycles
        done += run.operations
    return runs
