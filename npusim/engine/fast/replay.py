"""Running a stretch of a run of the fast engine again, to see its operations.

Kept are states: the first of each phase, one at the beginning of each period that was jumped over, and some
on the way. A stretch runs again from the last state before it, moved forward by whole periods where it lies
among those that were jumped over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from npusim.engine.fast import layout as at
from npusim.engine.fast.encoded import Encoded
from npusim.engine.fast.layout import (
    AT_TIME,
    FINISHED,
    R_BOUND,
    R_CAUSE,
    R_DONE,
    R_END,
    R_GROUP,
    R_INSTANCE,
    R_ISSUE_BOUND,
    R_ISSUE_CAUSE,
    R_ISSUED,
    R_SEQ,
    R_START,
    ROW_SIZE,
    WIDEN,
)  # fmt: skip
from npusim.engine.fast.rows import Rows
from npusim.engine.fast.run import Checkpoint, Memory, PhaseRun, step
from npusim.engine.fast.views import Floats, Ints, Mask, Views
from npusim.timeline import Bound

CHUNK, LARGEST = 1 << 12, 1 << 18
"""operations that a phase runs on before it is looked whether that was enough; at most, where there are
many"""


@dataclass(frozen=True, eq=False)
class Steps:
    """Operations that ran, in no order. `seq`: number in program order of the group (of that phase); `cause`,
    `issue_cause`: the same of what was waited for last, or -1; `bound`, `issue_bound`: members of Bound."""

    group: Ints
    seq: Ints
    instance: Ints
    start: Floats
    end: Floats
    done: Floats
    bound: Ints
    cause: Ints
    issued: Floats
    issue_bound: Ints
    issue_cause: Ints

    def __len__(self) -> int:
        return len(self.seq)

    def only(self, keep: Ints | Mask | slice) -> Steps:
        """Those at the given places, or where `keep` is true."""
        return Steps(*(getattr(self, name)[keep] for name in self.__dataclass_fields__))

    @staticmethod
    def chained(parts: list[Steps]) -> Steps:
        names = Steps.__dataclass_fields__
        return Steps(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def steps_of(encoded: Encoded, words: Ints) -> Steps:
    """Rows that machine code wrote down."""
    rows = words.reshape(-1, ROW_SIZE)
    times = rows.view(np.float64)

    def bounds(codes: Ints) -> Ints:
        """Codes of causes as members of Bound."""
        found = np.where(codes >= at.BY_LANE + len(encoded.lanes), int(Bound.reuse), int(Bound.read))
        found = np.where(codes == at.BY_QUEUE, int(Bound.queue), found)
        found = np.where(codes == at.BY_ISSUE, int(Bound.issue), found)
        return np.where(codes == at.NO_BOUND, int(Bound.order), found)

    return Steps(
        rows[:, R_GROUP].copy(), rows[:, R_SEQ].copy(), rows[:, R_INSTANCE].copy(), times[:, R_START].copy(),
        times[:, R_END].copy(), times[:, R_DONE].copy(), bounds(rows[:, R_BOUND]), rows[:, R_CAUSE].copy(),
        times[:, R_ISSUED].copy(), bounds(rows[:, R_ISSUE_BOUND]), rows[:, R_ISSUE_CAUSE].copy(),
    )  # fmt: skip


def watched(run: PhaseRun, group: int) -> Steps:
    """Operations of a group that were written down while it ran, in program order."""
    count = int(run.state[at.ROWS]) if group == run.watch.group else 0
    steps = steps_of(run.encoded, run.watch.words[: count * ROW_SIZE])
    return steps.only(np.argsort(steps.seq))


def _start(run: PhaseRun, group: int | None) -> Checkpoint:
    """The first state, of one group or (None) of all."""
    fresh = run.first.fresh(run.begin)
    return Checkpoint(run.first, group, run.first.packed(fresh, group))


def _points(run: PhaseRun, group: int | None) -> list[Checkpoint]:
    """States of a group from the first on."""
    return [_start(run, group), *(point for point in run.checkpoints if point.group == group)]


def _replayed(point: Checkpoint, ahead: int) -> tuple[Encoded, Ints]:
    """A state to go on from, without jumps, so many periods after a checkpoint."""
    state = point.state(ahead)
    state[at.SNAP] = state[at.COMPARING] = state[at.ROWS] = 0
    return point.encoded, state


def _from_number(run: PhaseRun, low: Ints, wanted: Mask, group: int | None) -> tuple[Encoded, Ints]:
    """The last state in which no wanted operation is taken yet."""
    for point in (point for point in reversed(run.checkpoints) if point.group == group):
        room = low[wanted] - point.taken[wanted]
        if (room >= 0).all():
            each = point.period.operations[wanted] if point.period else np.zeros_like(room)
            most = (room[each > 0] // each[each > 0]).min(initial=point.periods + 1)
            return _replayed(point, int(most) if each.any() else 0)
    return _replayed(_start(run, group), 0)


def by_number(run: PhaseRun, low: Ints, high: Ints, group: int | None) -> Steps:
    """Operations numbered [low, high) [group], of one group or (None) of all."""
    if group is not None:
        only = np.arange(len(low)) == group
        low, high = np.where(only, low, 0), np.where(only, high, 0)
    expected = int((high - low).sum())
    rows = Rows(low, high, expected)
    if expected == 0:
        return steps_of(run.encoded, rows.words[:0])
    encoded, state = _from_number(run, low, low < high, group)
    memory = Memory(0.0)
    budget = max(CHUNK, expected // 4)
    while int(state[at.ROWS]) < expected:
        why = step(encoded, state, rows, memory, np.inf, budget)
        if why == WIDEN:
            encoded, state = encoded.widened(state)
        assert why != FINISHED or int(state[at.ROWS]) == expected, (
            "the replay ended before its last operation"
        )
    return steps_of(encoded, rows.words)


def _from_time(run: PhaseRun, start: float, group: int | None) -> tuple[Encoded, Ints]:
    """The last state in which all that is over was over at `start`."""
    chosen, ahead = _start(run, group), 0
    for point in _points(run, group)[1:]:
        horizon = _horizon(point)
        if horizon > start:
            continue
        chosen, ahead = point, 0
        if point.period:
            ahead = min(int((start - horizon) // point.period.cycles), point.periods + 1)
    return _replayed(chosen, ahead)


def _horizon(point: Checkpoint) -> float:
    """When all that is over in a state was over."""
    return float(point.views().last_done().max())


def by_time(
    run: PhaseRun, start: float, end: float, group: int | None, wanted: Ints | None = None
) -> Iterator[Steps]:
    """Operations that take part of [start, end), of one group or (None) of all, in pieces; `wanted`: those of
    these groups alone are looked at."""
    encoded, state = _from_time(run, start, group)
    for found in stream(encoded, state, lambda v: started_until(v, end), end, wanted):
        yield found.only((found.start < end) & (found.done > start))


def stream(
    encoded: Encoded,
    state: Ints,
    enough: Callable[[Views], bool],
    until: float | None = None,
    wanted: Ints | None = None,
) -> Iterator[Steps]:
    """What finishes from a state on, of all groups or of those `wanted`, in pieces, on each unit in order:
    until the state is `enough`, which is looked at after each piece, or only from when transfers have come to
    `until` on."""
    groups = encoded[at.GROUPS]
    memory = Memory(0.0)
    low, high = np.zeros(groups, dtype=np.int64), np.full(groups, 1 << 62)
    if wanted is not None:
        high = np.where(np.isin(np.arange(groups), wanted), high, 0)
    budget = CHUNK
    while True:
        v = encoded.views(state)
        pending = int((v.lane(at.L_WALKED) - v.lane(at.L_FINISHED)).sum())
        rows = Rows(low, high, pending + budget + 2 * encoded[at.CODE_END])
        state[at.ROWS] = 0
        why = step(encoded, state, rows, memory, np.inf if until is None else until, budget)
        budget = min(2 * budget, LARGEST)
        yield steps_of(encoded, rows.words[: int(state[at.ROWS]) * ROW_SIZE])
        if why == WIDEN:
            encoded, state = encoded.widened(state)
        if why == AT_TIME:
            until = None
        if why == FINISHED or (until is None and enough(encoded.views(state))):
            return


def over(v: Views, last: Ints) -> bool:
    """Whether all operations [group, lane] before number `last` are over."""
    return bool((v.fronts() >= last).all())


def started_until(v: Views, end: float) -> bool:
    """Whether all that started before `end` is over. Transfers must have come to `end`: nothing else is still
    to start before."""
    starts = _heads(v, at.L_STARTED).view(np.float64)[:, at.START]
    return bool((starts >= end).all())


def issued_until(v: Views, end: float) -> bool:
    """Whether all that is issued before `end` is over, and all scalar units have come to `end`."""
    issuing = v.core(at.C_CLOSED) == 0
    if (v.core_times(at.C_NOW)[issuing] < end).any():
        return False
    issued = _heads(v, at.L_ISSUED).view(np.float64)[:, at.ISSUED]
    return bool((issued - v.words.view(np.float64)[at.ISSUE] >= end).all())


def _heads(v: Views, upto: int) -> Ints:
    """[step] the first of each lane that is not over, if the field `upto` counts it."""
    first = v.lane(at.L_FINISHED)
    lanes = np.flatnonzero(first < v.lane(upto))
    return v.steps()[lanes, first[lanes] % v.size(at.RING)]


@dataclass(frozen=True, eq=False)
class Stretch:
    """A part of a run that was simulated: in each group and lane the operations from `first` up to `end`.
    Those from `repeated` on come again `copies` times, each time `cycles` later. What was under way when
    periods were skipped belongs to what comes after them: it may share memory with that. `points`: from which
    it runs again, the first of them `ahead` periods later."""

    points: tuple[Checkpoint, ...]
    ahead: int
    first: Ints
    end: Ints
    repeated: Ints
    copies: int
    cycles: float

    def before(self, time: float) -> tuple[Encoded, Ints]:
        """The last state in which all that is over was over at `time`, or else the first."""
        early = [point for point in self.points[1:] if _horizon(point) <= time]
        return _replayed(early[-1], 0) if early else _replayed(self.points[0], self.ahead)


def stretches(run: PhaseRun, group: int | None) -> Iterator[Stretch]:
    """The parts of a run, of one group or (None) of all, that were simulated, and how often the last period
    of each was repeated."""
    points, ahead = [_start(run, group)], 0
    first = run.first.views(points[0].state()).fronts()
    for point in run.checkpoints:
        if point.group != group:
            continue
        points.append(point)
        if (period := point.period) is None:
            continue
        repeated, end = period.fronts
        yield Stretch(tuple(points), ahead, first, end, repeated, point.periods, period.cycles)
        points, ahead, first = [point], point.periods + 1, end + point.periods * period.operations[:, None]
    last = run.encoded.views(run.state).group(at.SEQ_NEXT).copy()
    if group is not None:
        last[np.arange(len(last)) != group] = 0
    last = np.repeat(last, run.encoded[at.LANES]).reshape(-1, run.encoded[at.LANES])
    yield Stretch(tuple(points), ahead, first, last, last, 0, 1.0)
