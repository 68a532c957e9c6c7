"""Busy fractions of every unit per bin of time, at any zoom.

Work is summed interval by interval. What a run of the fast engine skipped is summed in closed form: an
interval that is repeated every so many cycles has up to any moment so many whole copies and a part of one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from npusim.engine.fast import layout as at
from npusim.program import PhaseProgram, Program, Role, UnitKey
from npusim.timeline import Floats, Ints, Timeline
from npusim.usage import scalar_lanes

if TYPE_CHECKING:
    from npusim.engine.fast.playback import Playback
    from npusim.engine.fast.replay import Steps, Stretch


class Work(NamedTuple):
    """Intervals [start, end) in which lanes of streams of a phase are busy, on each lane one after another;
    they come `copies` times, each time `cycles` later."""

    phase: PhaseProgram
    stream: Ints
    lane: Ints
    start: Floats
    end: Floats
    copies: int = 1
    cycles: float = 1.0

    def only(self, keep: npt.NDArray[np.bool_], copies: int = 1, cycles: float = 1.0) -> Work:
        """Some of them, repeated."""
        return Work(
            self.phase, self.stream[keep], self.lane[keep], self.start[keep], self.end[keep], copies, cycles
        )


def within(works: Iterator[Work], edges: Floats, units: Iterable[UnitKey] = ()) -> dict[UnitKey, Floats]:
    """Of each unit of each core that works, and of `units` [bin] the busy share of the time between two
    `edges`."""
    found: dict[UnitKey, Floats] = {key: np.zeros(len(edges) - 1) for key in units}
    for work in works:
        lanes = len(work.phase.lanes)
        unit, row = np.unique(work.stream * lanes + work.lane, return_inverse=True)
        low, high = _touched(work, edges)
        near = edges[low : high + 1]
        cycles = (_repeated if work.copies > 1 else _once)(work, row, len(unit), near)
        for number, spent in zip(unit.tolist(), cycles, strict=True):
            key = work.phase.unit_of(number // lanes, number % lanes)
            share = found.setdefault(key, np.zeros(len(edges) - 1))
            share[low:high] += spent / np.diff(near)
    return found


def _touched(work: Work, edges: Floats) -> tuple[int, int]:
    """Bins [low, high), at least one, outside of which no interval lies."""
    end = work.end.max(initial=-np.inf) + (work.copies - 1) * work.cycles
    low = int(np.searchsorted(edges, work.start.min(initial=np.inf), side="right")) - 1
    low = min(max(low, 0), len(edges) - 2)
    return low, max(low + 1, min(int(np.searchsorted(edges, end)), len(edges) - 1))


def _once(work: Work, row: Ints, rows: int, edges: Floats) -> Floats:
    """[row, bin] cycles of intervals that come once."""
    bins = len(edges) - 1
    start, end = np.clip(work.start, edges[0], edges[-1]), np.clip(work.end, edges[0], edges[-1])
    first = np.clip(np.searchsorted(edges, start, side="right") - 1, 0, bins - 1)
    last = np.clip(np.searchsorted(edges, end, side="left") - 1, first, bins - 1)
    more = last > first

    def summed(place: Ints, values: Floats | None, own: Ints | slice = slice(None)) -> Floats:
        """[row, bin] sums of `values` (None: ones) of some intervals."""
        cells = np.bincount(row[own] * (bins + 1) + place, values, rows * (bins + 1))
        return cells.reshape(rows, bins + 1).astype(np.float64)

    total = summed(first, np.minimum(end, edges[first + 1]) - start)
    total += summed(last[more], end[more] - edges[last[more]], np.flatnonzero(more))
    # how many intervals fill a bin, less those that fill the one before
    whole = summed(first[more] + 1, None, np.flatnonzero(more))
    whole -= summed(last[more], None, np.flatnonzero(more))
    return total[:, :-1] + np.cumsum(whole, axis=1)[:, :-1] * np.diff(edges)


def _repeated(work: Work, row: Ints, rows: int, edges: Floats) -> Floats:
    """[row, bin] cycles of intervals that come several times: up to an edge a row has all cycles of so many
    copies that are over, and a part of those of the few that are under way."""
    base, copies = work.start.min(initial=np.inf), work.copies
    length = work.end.max(initial=-np.inf) - base
    if not length > 0:
        return np.zeros((rows, len(edges) - 1))
    since = edges - base
    over = np.clip(np.floor((since - length) / work.cycles) + 1, 0, copies)
    under_way = over[:, None] + np.arange(np.ceil(length / work.cycles) + 1)
    passed = np.clip(since[:, None] - under_way * work.cycles, 0.0, length) * (under_way < copies)
    points, place = np.unique(np.concatenate(([0.0, length], passed.ravel())), return_inverse=True)
    once = work._replace(start=work.start - base, end=work.end - base)
    upto = np.zeros((rows, len(points)))
    np.cumsum(_once(once, row, rows, points), axis=1, out=upto[:, 1:])
    parts = upto[:, place[2:]].reshape(rows, *passed.shape).sum(axis=2)
    return np.diff((over - over[0]) * upto[:, -1:] + parts, axis=1)


# --- where work comes from -------------------------------------------------------------------------


class _Phase:
    """How rows of a phase keep units busy: their own, and the scalar unit that issues them."""

    def __init__(self, program: Program, index: int) -> None:
        self.phase = program.phases[index]
        instances = self.phase.instances
        self.lane = np.array([i.lane for i in instances], dtype=np.int64)
        self.core = np.array([self.phase.lanes[i.lane].core for i in instances], dtype=np.int64)
        self.unit = np.array([i.role is Role.unit for i in instances], dtype=bool)
        self.pace = np.array([i.cost.instructions for i in instances]) * program.issue_cycles
        self.scalar = np.array(scalar_lanes(self.phase), dtype=np.int64)
        streams, lanes = self.phase.streams, len(self.phase.lanes)
        self.reached = np.full((streams, lanes), -np.inf)

    def work(self, rows: Timeline | Steps, stream: Ints) -> Iterator[tuple[Work, Ints]]:
        """Intervals of rows that finished in order on each unit, and which row each is of: of the units,
        where the second of two that overlap is the shorter (an operation may start while the result of the
        one before is under way), and of the scalar units, which do one thing at a time."""
        lane, on_unit = self.lane[rows.instance], self.unit[rows.instance]
        own = np.flatnonzero(on_unit)
        own = own[np.lexsort((rows.start[own], lane[own], stream[own]))]
        work = Work(self.phase, stream[own], lane[own], rows.start[own], rows.done[own])
        yield self._apart(work), own
        start = np.where(on_unit, rows.issued, rows.start)
        end = np.where(on_unit, rows.issued + self.pace[rows.instance], rows.done)
        scalar = self.scalar[self.core[rows.instance]]
        yield Work(self.phase, stream, scalar, start, end), np.arange(len(stream))

    def _apart(self, work: Work) -> Work:
        """Let no interval begin before those before it on its unit have ended."""
        unit = work.stream * self.reached.shape[1] + work.lane
        first = np.flatnonzero(np.diff(unit, prepend=-1))
        reached = self.reached.reshape(-1)
        start = work.start.copy()
        for low, high in pairwise([*first, len(unit)]):
            ends = np.maximum.accumulate(np.concatenate(([reached[unit[low]]], work.end[low:high])))
            start[low:high] = np.minimum(np.maximum(start[low:high], ends[:-1]), work.end[low:high])
            reached[unit[low]] = ends[-1]
        return work._replace(start=start)


def timeline_work(timeline: Timeline) -> Iterator[Work]:
    """All work of a timeline."""
    for index in range(len(timeline.program.phases)):
        rows = timeline.only(np.flatnonzero(timeline.phase == index))
        for work, _ in _Phase(timeline.program, index).work(rows, rows.stream):
            yield work


def played_work(playback: Playback, start: float, end: float) -> Iterator[Work]:
    """The work of a run between two moments, and some before and after it."""
    from npusim.engine.fast.replay import stretches

    for index, run in enumerate(playback.runs):
        if run.operations and run.last_done > start and float(run.begin.min()) < end:
            for stretch in (one for group in run.apart for one in stretches(run, group)):
                yield from _stretch_work(_Phase(playback.program, index), stretch, start, end)


def _stretch_work(phase: _Phase, stretch: Stretch, start: float, end: float) -> Iterator[Work]:
    """The work of a stretch, and that of the periods that repeat its last one."""
    from npusim.engine.fast.replay import issued_until, over, stream

    encoded, state = stretch.before(start)
    reached = encoded.views(state).lane_times(at.L_REACHED)
    phase.reached[:, encoded.lanes] = reached.reshape(encoded[at.GROUPS], -1)
    for steps in stream(encoded, state, lambda v: over(v, stretch.end) or issued_until(v, end)):
        for work, row in phase.work(steps, steps.group):
            number = steps.seq[row]
            own = work.stream, np.searchsorted(encoded.lanes, phase.lane[steps.instance[row]])
            mine = (number >= stretch.first[own]) & (number < stretch.end[own])
            again = mine & (number >= stretch.repeated[own]) & (stretch.copies > 0)
            yield work.only(mine & ~again)
            yield work.only(again, 1 + stretch.copies, stretch.cycles)
