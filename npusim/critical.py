"""The critical path: walking back from the last operation to the launch, over what each start waited for.

Every stretch of the path is named by what took the time and by the profile field it comes from, so that
the makespan can be split by operation, by mechanism and by evidence.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np

from npusim import cost
from npusim.program import Instance, Role, Use
from npusim.timeline import Bound, Ints, Timeline

STREAM_WINDOW = 1 << 14
"""rows before a streaming operation among which its producer is looked for"""
CONTENTION = {"hbm": "memory.hbm_gb_per_s", "l2": "memory.l2_gb_per_s", "l1": "core.l1_port_bytes_per_cycle"}


@dataclass(frozen=True)
class Stretch:
    """`cycles` of the path: `name` for people, `field` of the profile that explains them."""

    name: str
    field: str
    cycles: float


Steps = Generator[Stretch, None, tuple[int, str]]
"""yields stretches, returns the next row (-1: the launch) and the moment of it"""


@dataclass(frozen=True)
class CriticalPath:
    """Cycles by name and by field; both sum to the makespan."""

    by_name: dict[str, float]
    by_field: dict[str, float]


def critical_path(timeline: Timeline) -> CriticalPath:
    """Split the makespan along the path that decided it."""
    names: dict[str, float] = defaultdict(float)
    fields: dict[str, float] = defaultdict(float)
    if timeline.operations:
        for stretch in _Walk(timeline).path():
            names[stretch.name] += stretch.cycles
            fields[stretch.field] += stretch.cycles
    return CriticalPath(dict(names), dict(fields))


class _Walk:
    """The walk back. A place on the path is a row and a moment of it: its end, start or issue."""

    def __init__(self, timeline: Timeline) -> None:
        self.t = timeline
        self.machine, self.program = timeline.program.machine, timeline.program
        lanes = timeline.lanes()
        cores = np.zeros(timeline.operations, dtype=np.int64)
        for index, phase in enumerate(self.program.phases):
            rows = timeline.phase == index
            cores[rows] = np.array([lane.core for lane in phase.lanes])[lanes[rows]]
        self.before_on_lane = _previous(timeline, lanes)
        self.before_in_core = _previous(timeline, cores)

    def instance(self, row: int) -> Instance:
        phase = self.program.phases[int(self.t.phase[row])]
        return phase.instances[int(self.t.instance[row])]

    def path(self) -> Iterator[Stretch]:
        row = int(np.argmax(self.t.done))
        yield from self._latency(row)
        moment = "end"
        while row >= 0:
            if moment == "end" and (producer := self._streamed(row)) >= 0:
                row = producer
            elif moment == "end":
                yield from self._occupancy(row)
                moment = "start"
            elif moment == "start":
                row, moment = yield from self._from_start(row)
            else:
                row, moment = yield from self._from_issue(row)

    def _streamed(self, row: int) -> int:
        """The producer that a streaming operation had to end with, or -1 if it ended by itself."""
        t, instance = self.t, self.instance(row)
        buffers = {buffer for buffer, use, _ in instance.uses if use is Use.stream}
        if not buffers or t.end[row] <= t.start[row] + instance.cost.occupancy:
            return -1
        phase = self.program.phases[int(t.phase[row])]
        writers = [
            i.number
            for i in phase.instances
            if any(b in buffers and use >= Use.write for b, use, _ in i.uses)
        ]
        near = slice(max(0, row - STREAM_WINDOW), row)
        mine = (t.phase[near] == t.phase[row]) & (t.stream[near] == t.stream[row])
        found = np.flatnonzero(mine & (t.end[near] == t.end[row]) & np.isin(t.instance[near], writers))
        return near.start + int(found[-1]) if len(found) else -1

    def _streams(self, row: int, bound: int) -> bool:
        """The row waited for the start of its producer, not for its end."""
        return bound == Bound.read and any(use is Use.stream for _, use, _ in self.instance(row).uses)

    def _occupancy(self, row: int) -> Iterator[Stretch]:
        """The time on the unit: its cost terms, and what contention or streaming added."""
        instance = self.instance(row)
        spent = float(self.t.end[row] - self.t.start[row])
        stated = sum(cycles for _, cycles in instance.cost.terms)
        for field, cycles in instance.cost.terms:
            yield Stretch(instance.name, field, cycles)
        extra = spent - stated
        pool = instance.flows[0].pools[0] if instance.flows else ""
        name = f"{instance.name} (sharing {pool})" if pool and extra > 0.01 else instance.name
        yield Stretch(name, CONTENTION.get(pool, "rounding"), extra)

    def _latency(self, row: int) -> Iterator[Stretch]:
        """From the end of occupancy to the visible result."""
        instance = self.instance(row)
        spent = float(self.t.done[row] - self.t.end[row])
        stated = sum(cycles for _, cycles in instance.cost.latency_terms) or 1.0
        for field, cycles in instance.cost.latency_terms:
            yield Stretch(f"{instance.name} latency", field, spent * cycles / stated)

    def _from_start(self, row: int) -> Steps:
        """What the start waited for: returns the next row and moment."""
        t, role = self.t, self.instance(row).role
        bound, cause = t.bound[row], int(t.cause[row])
        if role is not Role.unit or bound == Bound.issue:
            if role is Role.unit:
                yield from self._issue(float(t.start[row] - t.issued[row]))
            return row, "issue"
        if self._streams(row, bound):
            return cause, "start"
        if bound in (Bound.read, Bound.reuse):
            yield from self._edge(row, cause, float(t.start[row]), bound == Bound.read)
            return cause, "end"
        before = int(self.before_on_lane[row])
        if before < 0:
            return (yield from self._phase_begin(row, float(t.start[row])))
        yield from self._gap(float(t.start[row] - t.end[before]))
        return before, "end"

    def _from_issue(self, row: int) -> Steps:
        """What the issue waited for: returns the next row and moment."""
        t = self.t
        bound, cause = t.issue_bound[row], int(t.issue_cause[row])
        if bound == Bound.queue or self._streams(row, bound):
            return cause, "start"
        if bound in (Bound.read, Bound.reuse):
            yield from self._edge(row, cause, float(t.issued[row]), bound == Bound.read)
            return cause, "end"
        before = int(self.before_in_core[row])
        if before < 0:
            return (yield from self._phase_begin(row, float(t.issued[row])))
        previous = self.instance(before)
        if previous.role is not Role.unit:
            return before, "end"
        if previous.holds and t.issued[row] == t.done[before]:
            yield from self._latency(before)
            return before, "end"
        yield from self._issue(float(t.issued[row] - t.issued[before]))
        return before, "issue"

    def _edge(self, row: int, cause: int, ready: float, read: bool) -> Iterator[Stretch]:
        """Latency of the producer and the flag between the two units."""
        t, phase = self.t, self.program.phases[self.t.phase[row]]
        producer = phase.lanes[self.instance(cause).lane]
        consumer = phase.lanes[self.instance(row).lane]
        if read:
            yield from self._latency(cause)
        flag = ready - float(t.done[cause] if read else t.end[cause])
        across = producer.core != consumer.core
        field, _ = cost.flag_field(self.machine, producer.unit, consumer.unit, across)
        yield Stretch("cross-core flags" if across else "flags", field, flag)

    def _issue(self, cycles: float) -> Iterator[Stretch]:
        yield Stretch("issue", "core.scalar.issue_cycles", cycles)

    def _gap(self, cycles: float) -> Iterator[Stretch]:
        if cycles:
            yield Stretch("rounding", "rounding", cycles)

    def _phase_begin(self, row: int, moment: float) -> Steps:
        """The launch of the core, or the barrier and the phase before it."""
        t, phase = self.t, int(self.t.phase[row])
        if phase == 0:
            setup = min(moment, self.machine.launch.setup_us.value * self.machine.cycles_per_us)
            yield Stretch("core set-up", "launch.setup_us", setup)
            yield Stretch("dispatch of cores", "launch.dispatch_us", moment - setup)
            return -1, "end"
        earlier = np.flatnonzero(t.phase == phase - 1)
        last = int(earlier[np.argmax(t.done[earlier])])
        gap = moment - float(t.done[last])
        barrier = min(gap, self.program.barrier_cycles)
        yield Stretch("barrier", "core.barriers.all_cores_cycles", barrier)
        yield Stretch("dispatch of cores", "launch.dispatch_us", gap - barrier)
        yield from self._latency(last)
        return last, "end"


def _previous(timeline: Timeline, key: Ints) -> Ints:
    """For each row the row before it with the same phase, stream and key, or -1."""
    rows = np.arange(timeline.operations)
    order = np.lexsort((rows, key, timeline.stream, timeline.phase))
    same = (
        (np.diff(timeline.phase[order]) == 0)
        & (np.diff(timeline.stream[order]) == 0)
        & (np.diff(key[order]) == 0)
    )
    previous = np.full(timeline.operations, -1, dtype=np.int64)
    previous[order[1:][same]] = order[:-1][same]
    return previous
