"""The reference engine: the timing semantics of the tile graph, as plain as they can be said.

Every unit of every core is a SimPy process that takes its operations in the order of issue; every core's
scalar unit is a process that issues them in program order. An operation's end is known when it starts,
unless it moves data through a shared pool: then it is known when the transfer has landed. A process that
needs a time that is not known yet waits for it; nothing else happens in the simulation.

1. An operation starts when its unit is free, it has been issued, and its dependences are ready.
2. It occupies the unit until `end` and its result is visible at `done` = end + latency; a write that keeps
   its tile's version is not visible before the earlier writes of that version.
3. Read after write: done + flag on another unit. Write after read: end + flag. Same unit: end.
4. A stream edge starts with its producer and ends no earlier.
5. The scalar unit issues one instruction per `issue_cycles` and stops for: a full queue, a dependence on
   another core, its own scalar work, a barrier, and lock-step instructions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from itertools import count
from typing import Any

import simpy

from npusim.engine.fabric import Fabric
from npusim.engine.walk import READ, REUSE, STREAM, UNIT, Edge, Step, Walker, lists
from npusim.program import PhaseProgram, Program
from npusim.timeline import Bound, Recorder, Timeline

ORDER, ISSUE, RESULT, SLOT, QUEUE = Bound

Process = Generator[simpy.Event, Any, None]
Deps = list[tuple[Step, Edge]]
Moment = tuple[float, Bound, int]
"""a time, what it was bound by, and by which step (or -1)"""
Progress = Callable[[int], None]


def simulate(
    program: Program, env: simpy.Environment | None = None, progress: Progress | None = None
) -> Timeline:
    """Run `program` to its end. `env` may be another SimPy environment (to shuffle simultaneous events);
    `progress` is called now and then with the number of operations handed out."""
    env = env or simpy.Environment()
    recorder = Recorder(program)
    numbers = _numbered(progress)
    fabric = Fabric(env, program.pools)
    begin = 0.0
    for index, phase in enumerate(program.phases):
        groups = [
            CoreGroup(program, index, stream, env, fabric, recorder, numbers, begin)
            for stream in range(phase.streams)
        ]
        env.run(env.all_of([process for group in groups for process in group.processes]))
        begin = max(group.finished for group in groups) + program.barrier_cycles
    return recorder.timeline()


def _numbered(progress: Progress | None) -> Iterator[int]:
    for number in count():
        if progress and number % 4096 == 0:
            progress(number)
        yield number


class CoreGroup:
    """One cube core and its vector cores (or one fused core, or one vector core) running a phase."""

    def __init__(
        self, program: Program, index: int, stream: int, env: simpy.Environment, fabric: Fabric,
        recorder: Recorder, numbers: Iterator[int], begin: float,
    ) -> None:  # fmt: skip
        self.program, self.env, self.fabric, self.recorder = program, env, fabric, recorder
        self.index, self.stream = index, stream
        self.phase: PhaseProgram = program.phases[index]
        self.walker = Walker(self.phase, stream, numbers)
        self.flags: list[list[float]] = self.phase.flags.tolist()
        self.begin = max(begin, float(self.phase.start_cycles[stream]))  # not before it is dispatched
        self.finished = self.begin
        lanes = len(self.phase.lanes)
        self.queues: list[deque[Step]] = [deque() for _ in range(lanes)]
        self.work: list[simpy.Event | None] = [None] * lanes
        self.ahead: list[deque[Step]] = [deque() for _ in range(lanes)]
        self.closed = [False] * len(self.phase.cores)
        flat = self.phase.flat
        self.occupancy: list[float] = flat.occupancy.tolist()
        self.latency: list[float] = flat.latency.tolist()
        self.issue: list[float] = (flat.instructions * program.issue_cycles).tolist()
        self.is_unit: list[bool] = (flat.role == UNIT).tolist()
        self.holds: list[bool] = (flat.holds == 1).tolist()
        self.flows = lists([flat.transfers[n] for n in flat.flow.tolist()], flat.flow_end)
        units = set(flat.lane[flat.role == UNIT].tolist())
        cores = {self.phase.lanes[lane].core for lane in flat.lane.tolist()}
        self.processes = [
            *(env.process(self.scalar(core)) for core in sorted(cores)),
            *(env.process(self.unit(lane)) for lane in sorted(units)),
        ]

    # --- the scalar unit -----------------------------------------------------------------------

    def scalar(self, core: int) -> Process:
        """Issue the core's steps in program order; `now` runs ahead of the simulation's clock."""
        now = self.begin
        while (step := self.walker.next(core)) is not None:
            bound, cause = ORDER, -1
            if step.blocking:
                yield from self.unknown(step.blocking)
                now, bound, cause = self.latest(step.blocking, step.lane, now, bound, cause)
            if not self.is_unit[step.instance]:
                self.recorder.issue(step.number, now, bound, cause)
                now = self.finish(step, now, now + self.occupancy[step.instance], now, ISSUE, -1)
                continue
            before = self.crowding(step)
            if before is not None:
                if before.start is None:
                    yield self.begun(before)
                if before.start > now:
                    now, bound, cause = before.start, QUEUE, before.number
            self.recorder.issue(step.number, now, bound, cause)
            step.issued = now + self.program.issue_cycles
            now += self.issue[step.instance]
            self.put(step)
            if self.holds[step.instance]:
                if step.end is None:
                    yield self.known(step)
                now = max(now, step.done)
        self.finished = max(self.finished, now)
        self.closed[core] = True
        for lane, waiting in enumerate(self.work):
            if waiting is not None and self.phase.lanes[lane].core == core:
                self.work[lane] = None
                waiting.succeed()

    def crowding(self, step: Step) -> Step | None:
        """The step whose start makes room in the unit's queue for this one."""
        ahead = self.ahead[step.lane]
        ahead.append(step)
        return ahead.popleft() if len(ahead) > self.program.queue_depth else None

    def put(self, step: Step) -> None:
        self.queues[step.lane].append(step)
        waiting = self.work[step.lane]
        if waiting is not None:
            self.work[step.lane] = None
            waiting.succeed()

    # --- all other units -----------------------------------------------------------------------

    def unit(self, lane: int) -> Process:
        """Run the lane's steps in order of issue."""
        free = drained = self.begin
        queue = self.queues[lane]
        while True:
            while not queue:
                if self.closed[self.phase.lanes[lane].core]:
                    return
                self.work[lane] = self.env.event()
                yield self.work[lane]  # type: ignore[misc]
            step = queue.popleft()
            start, bound, cause = free, ORDER, -1
            if step.issued > start:
                start, bound = step.issued, ISSUE
            if step.deps:
                yield from self.unknown(step.deps)
                start, bound, cause = self.latest(step.deps, lane, start, bound, cause)
            step.start = start
            if step.begun is not None:
                step.begun.succeed()
            end = start + self.occupancy[step.instance]
            if self.flows[step.instance]:
                end = yield from self.transfer(step, start)
            for producer, edge in step.deps:
                if edge is STREAM:
                    if producer.end is None:
                        yield self.known(producer)
                    end = max(end, producer.end)
            done = end + self.latency[step.instance]
            for earlier in step.kept:
                done = max(done, earlier.done)
            step.drained = drained = max(drained, done)
            free = self.finish(step, start, end, done, bound, cause)

    def transfer(self, step: Step, start: float) -> Generator[simpy.Event, Any, float]:
        """Move the step's bytes through the shared pools; returns when the last part has landed."""
        if start > self.env.now:
            yield self.env.timeout(start - self.env.now)
        parts = [
            self.fabric.begin(one.cycles, one.rate, [self.pool(name) for name in one.pools])
            for one in self.flows[step.instance]
        ]
        yield parts[0] if len(parts) == 1 else self.env.all_of(parts)
        return float(self.env.now)

    def pool(self, name: str) -> str | tuple[str, int]:
        return (name, self.stream) if name == "l1" else name

    # --- times ---------------------------------------------------------------------------------

    def unknown(self, deps: Deps) -> Process:
        """Wait until the times that `deps` depend on are known (which may be before they are reached)."""
        for producer, edge in deps:
            if edge is STREAM:
                if producer.start is None:
                    yield self.begun(producer)
            elif producer.end is None:
                yield self.known(producer)

    def latest(self, deps: Deps, lane: int, now: float, bound: Bound, cause: int) -> Moment:
        """The latest of `now` and the moments the dependences are ready, and which one it was."""
        for producer, edge in deps:
            if edge is READ:
                ready = producer.done + self.flags[producer.lane][lane]
            elif edge is REUSE:
                ready = producer.end + self.flags[producer.lane][lane]
            else:
                ready = producer.start if edge is STREAM else producer.drained
            if ready > now:
                now, cause = ready, producer.number
                bound = SLOT if edge is REUSE else RESULT
        return now, bound, cause

    def finish(self, step: Step, start: float, end: float, done: float, bound: Bound, cause: int) -> float:
        """All times of a step are known: record them and wake whoever waits for them."""
        step.start, step.end, step.done = start, end, max(end, done)
        step.deps, step.blocking, step.kept = [], [], []
        self.finished = max(self.finished, step.done)
        self.recorder.run(self.index, self.stream, step, bound, cause)
        if step.known is not None:
            step.known.succeed()
        return end

    def known(self, step: Step) -> simpy.Event:
        if step.known is None:
            step.known = self.env.event()
        return step.known

    def begun(self, step: Step) -> simpy.Event:
        if step.begun is None:
            step.begun = self.env.event()
        return step.begun
