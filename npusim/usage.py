"""How each unit spent its time: busy, and waiting for what. Busy and waits sum to the makespan."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from npusim.program import Role
from npusim.timeline import Bound, Floats, Ints, Timeline

ISSUE, QUEUE, FIRST_LANE = 0, 1, 2
"""codes of causes: the scalar unit's own pace, a full queue, and from there on dependences by lane"""


@dataclass
class LaneUsage:
    """One unit of one core. `waiting` maps a cause to cycles."""

    unit: str
    busy: float = 0.0
    occupied: float = 0.0
    """the part of `busy` in which the unit could not have started another operation"""
    waiting: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    cursor: float = 0.0
    """up to where the unit's time is accounted for"""

    def wait(self, until: float, cause: str) -> None:
        if until > self.cursor:
            self.waiting[cause] += until - self.cursor
            self.cursor = until


def lane_usage(timeline: Timeline) -> list[LaneUsage]:
    """Usage of every unit of every core that had work, over the whole run."""
    usage: dict[tuple[str, int, str], LaneUsage] = {}
    begin = 0.0
    for index, phase in enumerate(timeline.program.phases):
        rows = np.flatnonzero(timeline.phase == index)
        if not len(rows):
            continue
        tables = _Tables(timeline, index, rows)
        for stream, lane, own in tables.segments():
            start = float(phase.start_cycles[stream]) if index == 0 else begin
            place = phase.lanes[lane]
            key = (phase.cores[place.core], stream, place.unit)
            entry = usage.setdefault(key, LaneUsage(place.unit))
            entry.wait(start, "launch" if index == 0 else "barrier over all cores")
            tables.account(entry, own, lane)
        begin = float(timeline.done[rows].max()) + timeline.program.barrier_cycles
    for entry in usage.values():
        entry.wait(timeline.makespan, "finished")
    return list(usage.values())


class _Tables:
    """Per-row columns of one phase, and the walk over one unit's rows."""

    def __init__(self, timeline: Timeline, index: int, rows: Ints) -> None:
        self.t, self.rows = timeline, rows
        phase = self.phase = timeline.program.phases[index]
        instances = phase.instances
        self.lane_of = np.array([i.lane for i in instances])
        self.core_of = np.array([lane.core for lane in phase.lanes])
        self.unit_role = np.array([i.role is Role.unit for i in instances])
        self.issue_time = np.array([i.cost.instructions for i in instances]) * timeline.program.issue_cycles
        self.lane = self.lane_of[timeline.instance[rows]]
        self.core = self.core_of[self.lane]
        self.stream = timeline.stream[rows]
        self.scalar = [
            next((n for n, lane in enumerate(phase.lanes) if lane.core == c and "scalar" in lane.unit), -1)
            for c in range(len(phase.cores))
        ]
        self.blocked = self._last_block()

    def _last_block(self) -> Ints:
        """For each row the last row of its core whose issue had to wait, or -1."""
        blocked = np.full(len(self.t.start), -1, dtype=np.int64)
        for _, _, own in _groups(self.rows, self.stream, self.core):
            stopped = np.where(self.t.issue_bound[own] != Bound.order, np.arange(len(own)), -1)
            last = np.maximum.accumulate(stopped)
            blocked[own] = np.where(last >= 0, own[np.maximum(last, 0)], -1)
        return blocked

    def segments(self) -> Iterator[tuple[int, int, Ints]]:
        """(stream, lane, rows in order) of every unit with work; a scalar unit's rows are its core's."""
        units = self.unit_role[self.t.instance[self.rows]]
        yield from _groups(self.rows[units], self.stream[units], self.lane[units])
        for stream, core, own in _groups(self.rows, self.stream, self.core):
            yield stream, self.scalar[core], own

    def account(self, entry: LaneUsage, own: Ints, lane: int) -> None:
        """Add the rows' busy time, and the gaps between them by cause."""
        t = self.t
        starts, dones = t.start[own], t.done[own]
        if lane in self.scalar:
            issued = self.unit_role[t.instance[own]]
            starts = np.where(issued, t.issued[own], starts)
            dones = np.where(issued, t.issued[own] + self.issue_time[t.instance[own]], dones)
        reached = np.maximum.accumulate(np.concatenate(([entry.cursor], dones)))
        entry.busy += float(np.maximum(0.0, dones - np.maximum(starts, reached[:-1])).sum())
        ends = dones if lane in self.scalar else t.end[own]
        entry.occupied += float((ends - starts).sum())
        self._explain(entry, own, lane, np.maximum(reached[:-1], entry.cursor), starts)
        entry.cursor = float(reached[-1])

    def _explain(self, entry: LaneUsage, own: Ints, lane: int, since: Floats, until: Floats) -> None:
        """Charge the gap before each row: to its dependence, or to what its scalar unit waited for."""
        gaps = np.flatnonzero(until > since)
        rows, since, until = own[gaps], since[gaps], until[gaps]
        t = self.t
        direct = np.isin(t.bound[rows], (Bound.read, Bound.reuse)) & (lane not in self.scalar)
        self._charge(entry, lane, self._codes(t.bound[rows], t.cause[rows])[direct], (until - since)[direct])
        # else the scalar unit was late: first for what stopped it last, then for issuing
        rows, since, until = rows[~direct], since[~direct], until[~direct]
        block = self.blocked[rows]
        resumed = np.where(block >= 0, np.clip(t.issued[block], since, until), since)
        block = np.where(block >= 0, block, self.rows[0])  # where none was, resumed - since is 0
        self._charge(entry, lane, self._codes(t.issue_bound[block], t.issue_cause[block]), resumed - since)
        self._charge(entry, lane, np.full(len(rows), ISSUE), until - resumed)

    def _codes(self, bound: Ints, cause: Ints) -> Ints:
        """A number per cause: issue, a full queue, or the kind of dependence and the producer's lane."""
        lanes = len(self.phase.lanes)
        producer = self.lane_of[self.t.instance[np.where(cause >= 0, cause, self.rows[0])]]
        codes = np.where(bound == Bound.reuse, lanes, 0) + producer + FIRST_LANE
        codes = np.where(bound == Bound.queue, QUEUE, codes)
        return np.where((bound != Bound.queue) & (cause < 0), ISSUE, codes)

    def _charge(self, entry: LaneUsage, lane: int, codes: Ints, cycles: Floats) -> None:
        for code, total in enumerate(np.bincount(codes, weights=cycles)):
            if total > 0:
                entry.waiting[self._label(code, lane)] += float(total)

    def _label(self, code: int, lane: int) -> str:
        if code < FIRST_LANE:
            return "issue" if code == ISSUE else "queue full"
        reuse, producer = divmod(code - FIRST_LANE, len(self.phase.lanes))
        text = f"{'slot freed by' if reuse else 'data from'} {self.phase.lanes[producer].unit}"
        return f"other core: {text}" if self.core_of[producer] != self.core_of[lane] else text


def _groups(rows: Ints, first: Ints, second: Ints) -> Iterator[tuple[int, int, Ints]]:
    """Rows grouped by two keys, in order within each group."""
    if not len(rows):
        return
    order = np.lexsort((rows, second, first))
    a, b, sorted_rows = first[order], second[order], rows[order]
    edges: npt.NDArray[np.int64] = np.flatnonzero((np.diff(a) != 0) | (np.diff(b) != 0)) + 1
    for start, end in zip([0, *edges], [*edges, len(rows)], strict=True):
        yield int(a[start]), int(b[start]), sorted_rows[start:end]
