"""The critical path as plain as it can be said: row by row over a timeline, one stretch after another."""

from __future__ import annotations

from collections import defaultdict

from npusim import cost
from npusim.program import Instance, PhaseProgram, Role, Use
from npusim.spent import CriticalPath
from npusim.strands import SLACK
from npusim.timeline import Bound, Timeline


def plain_path(timeline: Timeline) -> CriticalPath:
    """Walked to its beginning."""
    plain = Plain(timeline)
    plain.walk()
    names: dict[str, float] = defaultdict(float)
    fields: dict[str, float] = defaultdict(float)
    for (name, field), cycles in plain.spent.items():
        names[name] += cycles
        fields[field] += cycles
    return CriticalPath(names, fields, plain.limited)


class Plain:
    def __init__(self, timeline: Timeline) -> None:
        self.t, self.program = timeline, timeline.program
        self.machine = self.program.machine
        self.slack = SLACK * timeline.makespan
        self.spent: dict[tuple[str, str], float] = defaultdict(float)
        self.limited: dict[tuple[str, str], float] = defaultdict(float)

    def walk(self) -> None:
        row, moment = self.last_of_phases(len(self.program.phases)), "end"
        self.latency(row)
        while row >= 0:
            row, moment = getattr(self, f"from_{moment}")(row)

    def add(self, name: str, field: str, cycles: float) -> None:
        self.spent[name, field] += cycles

    def phase(self, row: int) -> PhaseProgram:
        return self.program.phases[self.t.phase[row]]

    def instance(self, row: int) -> Instance:
        return self.phase(row).instances[self.t.instance[row]]

    def last_of_phases(self, below: int) -> int:
        """The last row, of the first stream that has one, that is done when the phases before are; or -1."""
        t = self.t
        rows = [row for row in range(t.operations) if t.phase[row] < below]
        if not rows:
            return -1
        index = max(t.phase[row] for row in rows)
        rows = [row for row in rows if t.phase[row] == index]
        latest = max(t.done[row] for row in rows)
        rows = [row for row in rows if t.done[row] >= latest - self.slack]
        stream = min(t.stream[row] for row in rows)
        return max(row for row in rows if t.stream[row] == stream)

    def before(self, row: int, wanted) -> int:
        """The last row of its stream before it that is `wanted`, or -1."""
        t = self.t
        for other in range(row - 1, -1, -1):
            together = (t.phase[other], t.stream[other]) == (t.phase[row], t.stream[row])
            if together and wanted(other):
                return other
        return -1

    def streamed(self, row: int) -> set[int]:
        """Numbers of the instances that write what it streams from."""
        buffers = {buffer for buffer, use, _ in self.instance(row).uses if use is Use.stream}
        return {
            i.number
            for i in self.phase(row).instances
            if any(b in buffers and u >= Use.write for b, u, _ in i.uses)
        }

    def from_end(self, row: int) -> tuple[int, str]:
        t, instance, writers = self.t, self.instance(row), self.streamed(row)
        if writers and t.end[row] > t.start[row] + instance.cost.occupancy + self.slack:
            ends = t.end[row]
            producer = self.before(
                row, lambda r: t.instance[r] in writers and abs(t.end[r] - ends) <= self.slack
            )
            if producer >= 0:
                return producer, "end"
        extra = t.end[row] - t.start[row]
        for field, cycles in instance.cost.terms:
            self.add(instance.name, field, cycles)
            extra -= cycles
        pool = instance.flows[0].pools[0] if instance.flows else ""
        fields = {"hbm": "memory.hbm_gb_per_s", "l2": "memory.l2_gb_per_s", "": "rounding"}
        field = fields.get(pool, "core.l1_port_bytes_per_cycle")
        shared = bool(pool) and extra > 0.01
        self.add(f"{instance.name} (sharing {pool})" if shared else instance.name, field, extra)
        for rate, cycles in instance.cost.terms if shared else ():
            self.limited[rate, field] += cycles
        return row, "start"

    def from_start(self, row: int) -> tuple[int, str]:
        t, bound = self.t, self.t.bound[row]
        if self.instance(row).role is not Role.unit:
            return row, "issue"
        if bound == Bound.issue:
            self.add("issue", "core.scalar.issue_cycles", t.start[row] - t.issued[row])
            return row, "issue"
        if bound in (Bound.read, Bound.reuse):
            return self.edge(row, t.start[row], bound, t.cause[row])
        lane = self.instance(row).lane
        before = self.before(row, lambda r: self.instance(r).lane == lane)
        if before < 0:
            return self.phase_begin(row, t.start[row])
        self.add("rounding", "rounding", t.start[row] - t.end[before])
        return before, "end"

    def from_issue(self, row: int) -> tuple[int, str]:
        t, bound = self.t, self.t.issue_bound[row]
        if bound == Bound.queue:
            return t.issue_cause[row], "start"
        if bound in (Bound.read, Bound.reuse):
            return self.edge(row, t.issued[row], bound, t.issue_cause[row])
        lanes = self.phase(row).lanes
        core = lanes[self.instance(row).lane].core
        before = self.before(row, lambda r: lanes[self.instance(r).lane].core == core)
        if before < 0:
            return self.phase_begin(row, t.issued[row])
        if self.instance(before).role is not Role.unit:
            return before, "end"
        if self.instance(before).holds and abs(t.issued[row] - t.done[before]) <= self.slack:
            self.latency(before)
            return before, "end"
        self.add("issue", "core.scalar.issue_cycles", t.issued[row] - t.issued[before])
        return before, "issue"

    def edge(self, row: int, ready: float, bound: int, cause: int) -> tuple[int, str]:
        """Over a dependence."""
        t, lanes = self.t, self.phase(row).lanes
        if bound == Bound.read and self.streamed(row):
            return cause, "start"
        if bound == Bound.read:
            self.latency(cause)
        source, target = lanes[self.instance(cause).lane], lanes[self.instance(row).lane]
        across = source.core != target.core
        field, _ = cost.flag_field(self.machine, source.unit, target.unit, across)
        there = t.done[cause] if bound == Bound.read else t.end[cause]
        self.add("cross-core flags" if across else "flags", field, ready - there)
        return cause, "end"

    def latency(self, row: int) -> None:
        instance, spent = self.instance(row), self.t.done[row] - self.t.end[row]
        stated = sum(cycles for _, cycles in instance.cost.latency_terms) or 1.0
        for field, cycles in instance.cost.latency_terms:
            self.add(f"{instance.name} latency", field, spent * cycles / stated)

    def phase_begin(self, row: int, moment: float) -> tuple[int, str]:
        last = self.last_of_phases(self.t.phase[row])
        if last < 0:
            setup = min(moment, self.machine.launch.setup_us.value * self.machine.cycles_per_us)
            self.add("core set-up", "launch.setup_us", setup)
            self.add("dispatch of cores", "launch.dispatch_us", moment - setup)
            return -1, "end"
        gap = moment - self.t.done[last]
        barrier = min(gap, self.program.barrier_cycles)
        self.add("barrier", "core.barriers.all_cores_cycles", barrier)
        self.add("dispatch of cores", "launch.dispatch_us", gap - barrier)
        self.latency(last)
        return last, "end"
