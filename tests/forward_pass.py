"""An engine of a hundred lines for machines on which transfers never share: one pass in program order.

Written from the timing semantics of the design, not from the reference engine: without sharing, every time
of an operation follows from operations before it in the program order of its core group. Versions of a
buffer are kept in full lists. Where a version was never read, the next write of its slot waits for the
write itself; an in-place write waits for both the writer and the readers of the version.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from npusim.program import Instance, PhaseProgram, Program, Role, Trips, Use


@dataclass
class Op:
    """One operation that ran."""

    phase: int
    stream: int
    instance: Instance
    issued: float = 0.0
    start: float = 0.0
    end: float = 0.0
    done: float = 0.0
    kept: list[Op] = field(default_factory=list)


@dataclass
class Version:
    writers: list[Op] = field(default_factory=list)
    readers: list[Op] = field(default_factory=list)
    waits: list[tuple[Op, str]] = field(default_factory=list)


def forward(program: Program) -> list[Op]:
    """Every operation with its times, group by group in program order."""
    ops: list[Op] = []
    begin = 0.0
    for number, phase in enumerate(program.phases):
        ran = []
        for stream in range(phase.streams):
            at = max(begin, float(phase.start_cycles[stream]))
            ran += list(_Group(program, number, stream, at).run())
        ops += ran
        begin = max((op.done for op in ran), default=begin) + program.barrier_cycles
    return ops


def program_order(phase: PhaseProgram, stream: int) -> Iterator[Instance]:
    """The instances that a core group runs, in order."""

    def walk(nodes: tuple[int | Trips, ...], item: int) -> Iterator[Instance]:
        for node in nodes:
            if isinstance(node, int):
                yield phase.instances[node]
                continue
            at = item if node.per_item else stream if len(node.count) > 1 else 0
            for trip in range(int(node.count[at])):
                own = (
                    item if node.first_item is None else int(node.first_item[stream]) + trip * node.item_step
                )
                yield from walk(node.body, own)

    return walk(phase.body, 0)


class _Group:
    def __init__(self, program: Program, number: int, stream: int, begin: float) -> None:
        self.program, self.number, self.stream = program, number, stream
        self.phase = program.phases[number]
        lanes = len(self.phase.lanes)
        self.scalar = [begin] * len(self.phase.cores)
        self.free = [begin] * lanes
        self.lane_ops: list[list[Op]] = [[] for _ in range(lanes)]
        self.buffers: list[list[Version]] = [[] for _ in self.phase.slots]

    def run(self) -> Iterator[Op]:
        for instance in program_order(self.phase, self.stream):
            op = Op(self.number, self.stream, instance)
            self.place(op)
            self.lane_ops[instance.lane].append(op)
            yield op

    def place(self, op: Op) -> None:
        instance, cost = op.instance, op.instance.cost
        lane, core = instance.lane, self.phase.lanes[instance.lane].core
        waits = [wait for buffer, use, back in instance.uses for wait in self.use(buffer, use, back, op)]
        waits = [(other, why) for other, why in waits if other is not op]
        elsewhere = [w for w in waits if self.phase.lanes[w[0].instance.lane].core != core]
        now = max([self.scalar[core], *(self.ready(*w, lane) for w in elsewhere)])
        if instance.role is not Role.unit:
            now = max([now, *(self.ready(*w, lane) for w in waits)])
            for drained in instance.drains:
                now = max([now, *(before.done for before in self.lane_ops[drained])])
            op.issued = op.start = now
            op.end = op.done = self.scalar[core] = now + cost.occupancy
            return
        queue = self.lane_ops[lane]
        if len(queue) >= self.program.queue_depth:
            now = max(now, queue[-self.program.queue_depth].start)
        op.issued = now
        self.scalar[core] = now + self.program.issue_cycles * cost.instructions
        here = [self.ready(*w, lane) for w in waits]
        op.start = max([now + self.program.issue_cycles, self.free[lane], *here])
        streamed = [other.end for other, why in waits if why == "stream"]
        op.end = self.free[lane] = max([op.start + cost.occupancy, *streamed])
        op.done = max([op.end + cost.latency, *(before.done for before in op.kept)])
        if instance.holds:
            self.scalar[core] = max(self.scalar[core], op.done)

    def use(self, buffer: int, use: Use, back: int, op: Op) -> list[tuple[Op, str]]:
        """Record the use; what it has to wait for, and why."""
        versions, slots = self.buffers[buffer], self.phase.slots[buffer]
        if use in (Use.read, Use.stream):
            while len(versions) <= back:  # written in an earlier phase
                versions.insert(0, Version(writers=[]))
            versions[-1 - back].readers.append(op)
            return [(w, "stream" if use is Use.stream else "result") for w in versions[-1 - back].writers]
        if use is Use.join and versions:
            versions[-1].writers.append(op)
            return versions[-1].waits
        if use is Use.into and versions:
            last = versions[-1]
            last.waits = [(r, "slot") for r in last.readers] + [(w, "result") for w in last.writers]
            op.kept = [w for w in last.writers if w.instance.lane == op.instance.lane]
            last.readers, last.writers = [], [op]
            return last.waits
        fresh = Version(writers=[op])
        if len(versions) >= slots:
            old = versions[-slots]
            fresh.waits = [(r, "slot") for r in old.readers] or [(w, "result") for w in old.writers]
        versions.append(fresh)
        return fresh.waits

    def ready(self, other: Op, why: str, lane: int) -> float:
        if why == "stream":
            return other.start
        if other.instance.lane == lane:
            return other.end
        flag = float(self.phase.flags[other.instance.lane, lane])
        return (other.done if why == "result" else other.end) + flag
