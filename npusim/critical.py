"""The critical path: walking back from the last operation to the launch, over what each start waited for.

Every stretch of the path is named by what took the time and by the profile field it comes from, so that
the makespan can be split by operation, by mechanism and by evidence. Where the engine jumped over periods,
the path soon stands at the same place of an earlier one: from there on it is multiplied instead of walked.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from npusim import cost
from npusim.program import Instance, PhaseProgram, Program, Role, Use
from npusim.strands import SLACK, Ran, Region, Strand, Strands
from npusim.timeline import Bound

STREAM_WINDOW = 1 << 12
"""operations of the stream before a streaming one among which its producer is looked for"""
CONTENTION = {"hbm": "memory.hbm_gb_per_s", "l2": "memory.l2_gb_per_s", "l1": "core.l1_port_bytes_per_cycle"}
READ, REUSE, QUEUE, ISSUE = int(Bound.read), int(Bound.reuse), int(Bound.queue), int(Bound.issue)

Place = tuple[int, str]
"""an operation of the strand that one is in and a moment of it, or (LAUNCH, '')"""
LAUNCH = -1


@dataclass(frozen=True)
class CriticalPath:
    """Cycles by name and by field; both sum to the makespan.

    `limited`: by rate of a path and shared pool, the cycles that transfers would have taken at that rate, of
    those that took longer by sharing the pool: what a faster path would not save, and a wider pool would.
    """

    by_name: dict[str, float]
    by_field: dict[str, float]
    limited: dict[tuple[str, str], float]


def critical_path(strands: Strands) -> CriticalPath:
    """Split the makespan along the path that decided it."""
    walk = _Walk(strands)
    walk.walk()
    names: dict[str, float] = defaultdict(float)
    fields: dict[str, float] = defaultdict(float)
    limited: dict[tuple[str, str], float] = {}
    for (name, field), cycles in walk.ledger.spent.items():
        if name.startswith(LIMITED):
            limited[field, name.removeprefix(LIMITED)] = cycles
        else:
            names[name] += cycles
            fields[field] += cycles
    return CriticalPath(dict(names), dict(fields), limited)


LIMITED = "limited by "
"""begins the name of an entry that is no stretch of its own, but says what a stretch was limited by"""


class _Ledger:
    """Stretches of the path: name for people, field of the profile that explains them, cycles."""

    def __init__(self) -> None:
        self.spent: dict[tuple[str, str], float] = defaultdict(float)
        self.recent: list[tuple[str, str, float]] = []
        """not in `spent` yet: they may have to be multiplied"""

    def add(self, name: str, field: str, cycles: float) -> None:
        self.recent.append((name, field, cycles))

    def repeat(self, since: int, times: int) -> None:
        """Enter what is in `recent` from place `since` on so many times more."""
        for name, field, cycles in self.recent[since:]:
            self.spent[name, field] += times * cycles

    def settle(self) -> None:
        for name, field, cycles in self.recent:
            self.spent[name, field] += cycles
        self.recent.clear()


class _Repeats:
    """The places where the path was in a region, by what is the same in every period."""

    def __init__(self, region: Region) -> None:
        self.region = region
        self.seen: dict[Place, tuple[int, int]] = {}
        self.over = False

    def jump(self, place: Place, ledger: _Ledger) -> int:
        """How many operations further back the path stands at the same place, all of it entered."""
        seq, moment = place
        same = (seq - self.region.first) % self.region.each, moment
        if same not in self.seen:
            self.seen[same] = seq, len(ledger.recent)
            return 0
        later, since = self.seen[same]
        times = (seq - self.region.first) // (later - seq)
        ledger.repeat(since, times)
        self.over = True
        return times * (later - seq)


class _Walk:
    """The walk back. A place on the path is an operation and a moment of it: its end, start or issue."""

    index: int
    phase: PhaseProgram
    strand: Strand
    streaming: dict[int, list[int]]
    """of the phase that the walk is in"""

    def __init__(self, strands: Strands) -> None:
        self.strands = strands
        self.program: Program = strands.program
        self.machine = self.program.machine
        self.slack = SLACK * strands.makespan
        self.ledger = _Ledger()
        self.repeats: _Repeats | None = None

    def walk(self) -> None:
        place = self._enter(len(self.program.phases))
        if place[0] != LAUNCH:
            self._latency(self.strand[place[0]])
        while place[0] != LAUNCH:
            place = self._back(self._repeated(place))
        self.ledger.settle()

    def _enter(self, below: int) -> Place:
        """Go to the end of the last operation of the phases before number `below`."""
        self.ledger.settle()
        self.repeats = None
        ends = np.zeros(0)
        while below and ends.max(initial=-np.inf) == -np.inf:
            below -= 1
            ends = self.strands.ends(below)
        if ends.max(initial=-np.inf) == -np.inf:
            return LAUNCH, ""
        late = float(ends.max()) - self.slack
        self.index, self.phase = below, self.program.phases[below]
        self.strand = self.strands.strand(below, int(np.argmax(ends >= late)))
        self.streaming = _streaming(self.phase)
        return self.strand.last(self.strand.size, lambda piece: piece.columns.done >= late), "end"

    def _repeated(self, place: Place) -> Place:
        """The same place as many periods earlier as it comes back in."""
        seq = place[0]
        if self.repeats is None or not self.repeats.region.first <= seq < self.repeats.region.end:
            self.ledger.settle()
            region = self.strand.region(seq)
            self.repeats = _Repeats(region) if region else None
        if self.repeats is None or self.repeats.over:
            return place
        return seq - self.repeats.jump(place, self.ledger), place[1]

    def _back(self, place: Place) -> Place:
        """Account for what led up to a place; returns the place before it."""
        seq, moment = place
        ran = self.strand[seq]
        instance = self.phase.instances[ran.instance]
        if moment == "start":
            return self._from_start(ran, instance)
        if moment == "issue":
            return self._from_issue(ran, instance)
        if (producer := self._streamed(ran, instance)) >= 0:
            return producer, "end"
        self._occupancy(ran, instance)
        return seq, "start"

    def _streamed(self, ran: Ran, instance: Instance) -> int:
        """The producer that a streaming operation had to end with, or -1 if it ended by itself."""
        writers = self.streaming.get(ran.instance)
        if writers is None or ran.end <= ran.start + instance.cost.occupancy + self.slack:
            return -1
        return self.strand.last(
            ran.seq,
            lambda piece: (
                (abs(piece.columns.end - ran.end) <= self.slack) & np.isin(piece.columns.instance, writers)
            ),
            max(0, ran.seq - STREAM_WINDOW),
        )

    def _occupancy(self, ran: Ran, instance: Instance) -> None:
        """The time on the unit: its cost terms, and what contention or streaming added."""
        extra = ran.end - ran.start
        for field, cycles in instance.cost.terms:
            self.ledger.add(instance.name, field, cycles)
            extra -= cycles
        pool = instance.flows[0].pools[0] if instance.flows else ""
        shared = bool(pool) and extra > 0.01
        name = f"{instance.name} (sharing {pool})" if shared else instance.name
        self.ledger.add(name, CONTENTION.get(pool, "rounding"), extra)
        if shared:
            for field, cycles in instance.cost.terms:
                self.ledger.add(LIMITED + CONTENTION[pool], field, cycles)

    def _latency(self, ran: Ran) -> None:
        """From the end of occupancy to the visible result."""
        instance = self.phase.instances[ran.instance]
        stated = sum(cycles for _, cycles in instance.cost.latency_terms) or 1.0
        for field, cycles in instance.cost.latency_terms:
            self.ledger.add(f"{instance.name} latency", field, (ran.done - ran.end) * cycles / stated)

    def _from_start(self, ran: Ran, instance: Instance) -> Place:
        """What the start waited for."""
        if instance.role is not Role.unit:
            return ran.seq, "issue"
        if ran.bound == ISSUE:
            self._issue(ran.start - ran.issued)
            return ran.seq, "issue"
        if ran.bound == READ and ran.instance in self.streaming:
            return ran.cause, "start"  # of its producer
        if ran.bound in (READ, REUSE):
            return self._edge(ran, ran.start, ran.cause, ran.bound == READ)
        before = self.strand.before_on_lane(ran)
        if before < 0:
            return self._phase_begin(ran.start)
        gap = ran.start - self.strand[before].end
        if gap:
            self.ledger.add("rounding", "rounding", gap)
        return before, "end"

    def _from_issue(self, ran: Ran, instance: Instance) -> Place:
        """What the issue waited for."""
        bound, cause = ran.issue_bound, ran.issue_cause
        if bound == QUEUE or (bound == READ and ran.instance in self.streaming):
            return cause, "start"
        if bound in (READ, REUSE):
            return self._edge(ran, ran.issued, cause, bound == READ)
        before = self.strand.before_in_core(ran)
        if before < 0:
            return self._phase_begin(ran.issued)
        previous = self.strand[before]
        made = self.phase.instances[previous.instance]
        if made.role is not Role.unit:
            return before, "end"
        if made.holds and abs(ran.issued - previous.done) <= self.slack:
            self._latency(previous)
            return before, "end"
        self._issue(ran.issued - previous.issued)
        return before, "issue"

    def _edge(self, ran: Ran, ready: float, cause: int, read: bool) -> Place:
        """Latency of the producer and the flag between the two units."""
        earlier = self.strand[cause]
        producer = self.phase.lanes[self.phase.instances[earlier.instance].lane]
        consumer = self.phase.lanes[self.phase.instances[ran.instance].lane]
        if read:
            self._latency(earlier)
        across = producer.core != consumer.core
        field, _ = cost.flag_field(self.machine, producer.unit, consumer.unit, across)
        flag = ready - (earlier.done if read else earlier.end)
        self.ledger.add("cross-core flags" if across else "flags", field, flag)
        return cause, "end"

    def _issue(self, cycles: float) -> None:
        self.ledger.add("issue", "core.scalar.issue_cycles", cycles)

    def _phase_begin(self, moment: float) -> Place:
        """The launch of the core, or the barrier and the phase before it."""
        place = self._enter(self.index)
        if place[0] == LAUNCH:
            setup = min(moment, self.machine.launch.setup_us.value * self.machine.cycles_per_us)
            self.ledger.add("core set-up", "launch.setup_us", setup)
            self.ledger.add("dispatch of cores", "launch.dispatch_us", moment - setup)
            return place
        last = self.strand[place[0]]
        gap = moment - last.done
        barrier = min(gap, self.program.barrier_cycles)
        self.ledger.add("barrier", "core.barriers.all_cores_cycles", barrier)
        self.ledger.add("dispatch of cores", "launch.dispatch_us", gap - barrier)
        self._latency(last)
        return place


def _streaming(phase: PhaseProgram) -> dict[int, list[int]]:
    """For each instance that streams the instances that write what it streams from."""
    found = {}
    for instance in phase.instances:
        buffers = {buffer for buffer, use, _ in instance.uses if use is Use.stream}
        if buffers:
            found[instance.number] = [
                i.number
                for i in phase.instances
                if any(b in buffers and use >= Use.write for b, use, _ in i.uses)
            ]
    return found
