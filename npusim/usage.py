"""How each unit spent its time: busy, and waiting for what. Busy and waits sum to the makespan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from npusim.engine.fast import layout as at
from npusim.program import PhaseProgram, Role, UnitKey
from npusim.timeline import Bound, Floats, Ints, Mask, Timeline

if TYPE_CHECKING:
    from npusim.engine.fast.playback import Playback
    from npusim.engine.fast.run import PhaseRun

ISSUE, QUEUE, FIRST_LANE = at.BY_ISSUE, at.BY_QUEUE, at.BY_LANE
"""codes of causes: the scalar unit's own pace, a full queue, and from there on dependences by lane"""


@dataclass(frozen=True, eq=False)
class Busy:
    """How long the units of one name work, each of every core that has work for it: cycles [unit]; in
    `occupied` of them it could not have started another operation."""

    busy: Floats
    occupied: Floats


@dataclass
class LaneUsage:
    """The same of one unit of one core, with what it waited for. `charged`: what says which cause a code is,
    and cycles by code; `waited`: causes and cycles."""

    unit: str
    busy: float = 0.0
    occupied: float = 0.0
    charged: list[tuple[Callable[[int], str], Floats]] = field(default_factory=list)
    waited: list[tuple[str, float]] = field(default_factory=list)
    cursor: float = 0.0
    """up to where the unit's time is accounted for"""

    @property
    def waiting(self) -> dict[str, float]:
        """Cycles by cause."""
        found: dict[str, float] = {}
        for name, cycles in self.charged:
            for code in np.flatnonzero(cycles > 0).tolist():
                cause = name(code)
                found[cause] = found.get(cause, 0.0) + float(cycles[code])
        for cause, waited in self.waited:
            found[cause] = found.get(cause, 0.0) + waited
        return found

    def wait(self, until: float, cause: str) -> None:
        if until > self.cursor:
            self.waited.append((cause, until - self.cursor))
            self.cursor = until


class _Units:
    """The usage of all units, filled phase by phase."""

    def __init__(self) -> None:
        self.usage: dict[UnitKey, LaneUsage] = {}

    def enter(self, phase: PhaseProgram, stream: int, lane: int, begin: float) -> LaneUsage:
        """The unit that is `lane` of a stream, accounted for up to the start of the phase: at `begin`, and
        once its core is dispatched."""
        key = phase.unit_of(stream, lane)
        entry = self.usage.get(key)
        if entry is None:
            entry = self.usage[key] = LaneUsage(key[2])
        entry.wait(begin, "barrier over all cores")
        entry.wait(float(phase.start_cycles[stream]), "launch")
        return entry

    def finished(self, makespan: float) -> dict[UnitKey, LaneUsage]:
        for entry in self.usage.values():
            entry.wait(makespan, "finished")
        return self.usage


class _Causes:
    """What a unit of a phase waited for, by code; codes count `lanes`, those of the phase that have any."""

    def __init__(self, phase: PhaseProgram, lanes: Ints) -> None:
        self.phase, self.lanes = phase, lanes
        self.of = cache(lambda lane: cache(partial(self._label, lane)))
        """[lane] what says which cause a code is"""

    def charge(self, entry: LaneUsage, lane: int, cycles: Floats) -> None:
        """Enter `cycles` [code] that a lane waited."""
        entry.charged.append((self.of(lane), cycles))

    def _label(self, lane: int, code: int) -> str:
        if code < FIRST_LANE:
            return "issue" if code == ISSUE else "queue full"
        reuse, place = divmod(code - FIRST_LANE, len(self.lanes))
        producer = self.phase.lanes[self.lanes[place]]
        text = f"{'slot freed by' if reuse else 'data from'} {producer.unit}"
        return f"other core: {text}" if producer.core != self.phase.lanes[lane].core else text


def scalar_lanes(phase: PhaseProgram) -> list[int]:
    """[core] lane of its scalar unit, -1 where it has none."""
    return [
        next((n for n, lane in enumerate(phase.lanes) if lane.core == core and "scalar" in lane.unit), -1)
        for core in range(len(phase.cores))
    ]


# --- from the tallies of the fast engine -----------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Tallies:
    """Of units [group, place in `lanes`] which of them worked, and cycles: busy, occupied, up to where their
    time is accounted for, and by code [.., code] what they waited for."""

    lanes: list[int]
    used: Mask
    busy: Floats
    occupied: Floats
    reached: Floats
    waits: Floats

    def working(self) -> Iterator[tuple[int, int]]:
        """(group, place) of those that worked, group by group in each place."""
        for place, group in np.argwhere(self.used.T).tolist():
            yield group, place


def _tallies(phase: PhaseProgram, run: PhaseRun) -> tuple[_Tallies, _Tallies]:
    """Those of the units of a phase, and of its scalar units."""
    encoded = run.encoded
    v, groups = encoded.views(run.state), encoded[at.GROUPS]
    counts = v.tallies()[:, :, at.T_COUNT]
    occupied = v.tallies().view(np.float64)[:, :, at.T_OCCUPIED]
    lane_of = phase.flat.lane[:, None]
    own = (phase.flat.role == Role.unit)[:, None] & (lane_of == encoded.lanes)
    busy, reached = (v.lane_times(f).reshape(groups, -1) for f in (at.L_BUSY, at.L_REACHED))
    units = _Tallies(encoded.lanes.tolist(), counts @ own > 0, busy, occupied @ own, reached, v.waits())
    core_of = np.array([lane.core for lane in phase.lanes])[lane_of]
    used = counts @ (core_of == np.arange(len(phase.cores))) > 0
    fields = at.C_BUSY, at.C_OCCUPIED, at.C_REACHED
    busy, occupied, reached = (v.core_times(f).reshape(groups, -1) for f in fields)
    return units, _Tallies(scalar_lanes(phase), used, busy, occupied, reached, v.core_waits())


def played_busy(playback: Playback) -> dict[str, Busy]:
    """By name, what the units of all cores worked over the whole run."""
    by_core: dict[tuple[str, str], list[Floats]] = {}
    for phase, run in zip(playback.program.phases, playback.runs, strict=True):
        for own in _tallies(phase, run) if run.operations else ():
            sums = np.stack([own.used, own.busy, own.occupied])
            for place in np.flatnonzero(own.used.any(axis=0)).tolist():
                for member in range(phase.per_group):
                    core, _, unit = phase.unit_of(member, own.lanes[place])
                    by_core.setdefault((core, unit), []).append(sums[:, member :: phase.per_group, place])
    by_unit: dict[str, list[Floats]] = {}
    for (_, unit), parts in by_core.items():
        whole = np.zeros((3, max(part.shape[1] for part in parts)))
        for part in parts:
            whole[:, : part.shape[1]] += part
        by_unit.setdefault(unit, []).append(whole[1:, whole[0] > 0])
    return {unit: Busy(*np.concatenate(parts, axis=1)) for unit, parts in by_unit.items()}


def listed_busy(lanes: Iterable[LaneUsage]) -> dict[str, Busy]:
    """The same of units that were looked at one by one."""
    found: dict[str, list[tuple[float, float]]] = {}
    for lane in lanes:
        found.setdefault(lane.unit, []).append((lane.busy, lane.occupied))
    return {unit: Busy(*np.array(own).T) for unit, own in found.items()}


def played_usage(playback: Playback) -> dict[UnitKey, LaneUsage]:
    """Usage of every unit of every core that had work, over the whole run."""
    units = _Units()
    begin = 0.0
    for phase, run in zip(playback.program.phases, playback.runs, strict=True):
        causes = _Causes(phase, run.encoded.lanes)
        for own in _tallies(phase, run) if run.operations else ():
            for group, place in own.working():
                lane = own.lanes[place]
                entry = units.enter(phase, group, lane, begin)
                entry.busy += float(own.busy[group, place])
                entry.occupied += float(own.occupied[group, place])
                causes.charge(entry, lane, own.waits[group, place])
                entry.cursor = float(own.reached[group, place])
        begin = run.finished + playback.program.barrier_cycles
    return units.finished(playback.makespan)


# --- from the rows of a timeline -------------------------------------------------------------------


def lane_usage(timeline: Timeline) -> dict[UnitKey, LaneUsage]:
    """Usage of every unit of every core that had work, over the whole run."""
    units = _Units()
    begin = 0.0
    for index, phase in enumerate(timeline.program.phases):
        rows = np.flatnonzero(timeline.phase == index)
        finished = max(begin, float(phase.start_cycles.max()))  # a core without work is there, too
        if len(rows):
            tables = _Tables(timeline, index, rows)
            for stream, lane, own in tables.segments():
                tables.account(units.enter(phase, stream, lane, begin), own, lane)
            finished = max(finished, tables.finished())
        begin = finished + timeline.program.barrier_cycles
    return units.finished(timeline.makespan)


class _Tables:
    """Per-row columns of one phase, and the walk over one unit's rows."""

    def __init__(self, timeline: Timeline, index: int, rows: Ints) -> None:
        self.t, self.rows = timeline, rows
        phase = self.phase = timeline.program.phases[index]
        instances = phase.instances
        self.causes = _Causes(phase, np.arange(len(phase.lanes)))
        self.lane_of = np.array([i.lane for i in instances])
        core_of = np.array([lane.core for lane in phase.lanes])
        self.unit_role = np.array([i.role is Role.unit for i in instances])
        self.issue_time = np.array([i.cost.instructions for i in instances]) * timeline.program.issue_cycles
        self.lane = self.lane_of[timeline.instance[rows]]
        self.core = core_of[self.lane]
        self.stream = timeline.stream[rows]
        self.scalar = scalar_lanes(phase)
        self.blocked = self._last_block()

    def finished(self) -> float:
        """When all is over, scalar units included."""
        ran = self.t.instance[self.rows]
        issued = np.where(self.unit_role[ran], self.t.issued[self.rows] + self.issue_time[ran], -np.inf)
        return float(max(self.t.done[self.rows].max(), issued.max()))

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
        codes = self._codes(t.bound[rows], t.cause[rows])
        self.causes.charge(entry, lane, _summed(codes[direct], (until - since)[direct]))
        # else the scalar unit was late: first for what stopped it last, then for issuing
        rows, since, until = rows[~direct], since[~direct], until[~direct]
        block = self.blocked[rows]
        resumed = np.where(block >= 0, np.clip(t.issued[block], since, until), since)
        block = np.where(block >= 0, block, self.rows[0])  # where none was, resumed - since is 0
        codes = self._codes(t.issue_bound[block], t.issue_cause[block])
        self.causes.charge(entry, lane, _summed(codes, resumed - since))
        self.causes.charge(entry, lane, np.array([(until - resumed).sum()]))  # of the code ISSUE

    def _codes(self, bound: Ints, cause: Ints) -> Ints:
        """A number per cause: issue, a full queue, or the kind of dependence and the producer's lane."""
        lanes = len(self.phase.lanes)
        producer = self.lane_of[self.t.instance[np.where(cause >= 0, cause, self.rows[0])]]
        codes = np.where(bound == Bound.reuse, lanes, 0) + producer + FIRST_LANE
        codes = np.where(bound == Bound.queue, QUEUE, codes)
        return np.where((bound != Bound.queue) & (cause < 0), ISSUE, codes)


def _summed(codes: Ints, cycles: Floats) -> Floats:
    """Cycles [code]."""
    return np.bincount(codes, weights=cycles).astype(np.float64)


def _groups(rows: Ints, first: Ints, second: Ints) -> Iterator[tuple[int, int, Ints]]:
    """Rows grouped by two keys, in order within each group."""
    if not len(rows):
        return
    order = np.lexsort((rows, second, first))
    a, b, sorted_rows = first[order], second[order], rows[order]
    edges: npt.NDArray[np.int64] = np.flatnonzero((np.diff(a) != 0) | (np.diff(b) != 0)) + 1
    for start, end in zip([0, *edges], [*edges, len(rows)], strict=True):
        yield int(a[start]), int(b[start]), sorted_rows[start:end]
