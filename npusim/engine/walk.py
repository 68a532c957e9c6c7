"""Walking a phase's loop tree: the operations of one core group in program order, with dependences.

Dependences follow from the use of buffers alone. A buffer with k slots has k live versions; the state
kept is O(slots), however long the run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from enum import IntEnum
from itertools import pairwise
from typing import Any, TypeVar

import simpy

from npusim.program import Ints, PhaseProgram, Role, Trips, Use


class Edge(IntEnum):
    """Why a step waits for another one."""

    read = 0
    """read after write: the producer's result, by a flag where the units differ"""
    reuse = 1
    """write after read: the reader has let go of the slot"""
    stream = 2
    """starts with the producer, ends no earlier"""
    drain = 3
    """barrier: everything the lane was given is done"""


# Members by plain names: looking one up on its enum costs more than all else that is done with it.
READ, REUSE, STREAM, DRAIN = Edge
UNIT = Role.unit
T = TypeVar("T")
READS = (Use.read, Use.stream)
STREAMED, JOINED, KEPT = Use.stream, Use.join, Use.into


class Step:
    """One dynamic operation. Times are None until known; they may be known before they are reached."""

    __slots__ = (
        "begun", "blocking", "deps", "done", "drained", "end", "instance", "issued", "kept", "known",
        "lane", "number", "start",
    )  # fmt: skip

    def __init__(self, number: int, instance: int, lane: int) -> None:
        self.number, self.instance, self.lane = number, instance, lane
        self.deps: list[tuple[Step, Edge]] = []
        self.blocking: list[tuple[Step, Edge]] = []
        self.kept: list[Step] = []
        """earlier writes of the same version on this unit: it is not visible before they are"""
        self.issued = 0.0
        # Any: None until known; a process that needs one waits for it first
        self.start: Any = None
        self.end: Any = None
        self.done: Any = None
        self.drained: Any = None
        self.begun: simpy.Event | None = None
        self.known: simpy.Event | None = None


class Version:
    """One write of a buffer: who wrote it, the last reader on each lane, what the write waited for."""

    __slots__ = ("guard", "readers", "writers")

    def __init__(self, guard: list[tuple[Step, Edge]]) -> None:
        self.guard = guard
        self.writers: list[Step] = []
        self.readers: dict[int, Step] = {}


class Walker:
    """Program order of one core group, handed out core by core."""

    def __init__(self, phase: PhaseProgram, stream: int, number: Iterator[int]) -> None:
        self.phase, self.stream, self.number = phase, stream, number
        self.versions: list[deque[Version]] = [deque(maxlen=slots) for slots in phase.slots]
        self.last: dict[int, Step] = {}
        self.pending: list[deque[Step]] = [deque() for _ in phase.cores]
        self.order = self._walk(phase.body, 0)
        self.core_of = [lane.core for lane in phase.lanes]
        flat = phase.flat
        self.lane_of: list[int] = flat.lane.tolist()
        self.stops: list[bool] = (flat.role != UNIT).tolist()
        uses = list(
            zip(
                flat.use_buffer.tolist(),
                map(Use, flat.use_kind.tolist()),
                flat.use_back.tolist(),
                strict=True,
            )
        )
        self.uses = lists(uses, flat.use_end)
        self.drains = lists(flat.drain_lane.tolist(), flat.drain_end)

    def next(self, core: int) -> Step | None:
        """The core's next step, walking on over the steps of other cores as needed."""
        pending = self.pending[core]
        while not pending:
            instance = next(self.order, None)
            if instance is None:
                return None
            step = self.step(instance)
            self.pending[self.core_of[step.lane]].append(step)
        return pending.popleft()

    def _walk(self, nodes: tuple[int | Trips, ...], item: int) -> Iterator[int]:
        for node in nodes:
            if isinstance(node, int):
                yield node
                continue
            for trip in range(self._count(node, item)):
                inner = item
                if node.first_item is not None:
                    inner = int(node.first_item[self.stream]) + trip * node.item_step
                yield from self._walk(node.body, inner)

    def _count(self, node: Trips, item: int) -> int:
        if node.per_item:
            return int(node.count[item])
        return int(node.count[self.stream if len(node.count) > 1 else 0])

    def step(self, instance: int) -> Step:
        """The next operation in program order, with what it depends on."""
        step = Step(next(self.number), instance, self.lane_of[instance])
        deps: list[tuple[Step, Edge]] = []
        for buffer, use, back in self.uses[instance]:
            deps.extend(self._use(self.versions[buffer], step, use, back))
        deps.extend((self.last[lane], DRAIN) for lane in self.drains[instance] if lane in self.last)
        lane, core_of = step.lane, self.core_of
        stops = self.stops[instance]
        for producer, edge in deps:
            if producer.lane == lane and (producer is step or edge is not STREAM):
                continue  # one unit works in order; no flag is needed
            across = core_of[producer.lane] != core_of[lane]
            (step.blocking if across or stops else step.deps).append((producer, edge))
            if across and edge is STREAM and not stops:
                step.deps.append((producer, edge))  # issued after its producer's start; ends no earlier
        self.last[step.lane] = step
        return step

    def _use(self, versions: deque[Version], step: Step, use: Use, back: int) -> list[tuple[Step, Edge]]:
        """Record one use of a buffer; the steps it depends on."""
        if use in READS:
            while len(versions) <= back:
                versions.appendleft(Version([]))  # written in an earlier phase, behind the barrier
            version = versions[-1 - back]
            version.readers[step.lane] = step
            edge = STREAM if use is STREAMED else READ
            return [(writer, edge) for writer in version.writers]
        if use is JOINED and versions:
            version = versions[-1]
            version.writers.append(step)
            return version.guard
        if use is KEPT and versions:
            version = versions[-1]
            version.guard = _released(version, keep_writers=True)
            step.kept = [writer for writer in version.writers if writer.lane == step.lane]
            version.writers, version.readers = [step], {}
            return version.guard
        guard = _released(versions[0]) if len(versions) == versions.maxlen else []
        fresh = Version(guard)
        fresh.writers.append(step)
        versions.append(fresh)
        return guard


def lists(values: list[T], ends: Ints) -> list[list[T]]:
    """The list of each instance."""
    return [values[low:high] for low, high in pairwise(ends.tolist())]


def _released(version: Version, keep_writers: bool = False) -> list[tuple[Step, Edge]]:
    """What must be over before a version's slot is written again."""
    readers = [(reader, REUSE) for reader in version.readers.values()]
    if readers and not keep_writers:
        return readers
    return readers + [(writer, READ) for writer in version.writers]
