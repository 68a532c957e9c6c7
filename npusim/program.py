"""The program: what an engine simulates. Numbers only; names remain for the report.

For each operation instance its lane (a unit of a core), cycles, shared transfers, and which buffers it
reads and writes; for each phase its loops, flags and start times. Engines read the instances of a phase as
flat arrays, `PhaseProgram.flat`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npusim.cost import Cost
from npusim.graph import Kernel, Operation
from npusim.machine import Machine

Ints = npt.NDArray[np.int64]
GRID = 2.0**16
"""Durations are multiples of 2^-16 cycle, so that sums without contention are exact."""
SAME_TIME = 1e-12
"""relative distance below which two landings are one moment (floating-point noise of the division)"""


UnitKey = tuple[str, int, str]
"""core, core group and unit"""


class Use(IntEnum):
    """How an operation instance uses a buffer. JOIN: a further instance of the same tile operation."""

    read = 0
    stream = 1
    write = 2
    into = 3
    join = 4


class Role(IntEnum):
    """What an instance does to its core's scalar unit."""

    unit = 0
    """runs on its own unit; the scalar unit only issues it"""
    scalar = 1
    """runs on the scalar unit, after its dependences"""
    barrier = 2
    """the scalar unit waits until lanes of its core are empty"""


@dataclass(frozen=True)
class Lane:
    """One unit of one core of a group."""

    core: int
    unit: str


@dataclass(frozen=True)
class Flow:
    """A shared transfer: `bytes` through each of `pools`, at full speed in the op's occupancy."""

    bytes: float
    pools: tuple[str, ...]
    write: bool


@dataclass(frozen=True, eq=False)
class Instance:
    """One operation on one lane. `drains`: lanes a barrier waits for. `holds`: stops the scalar unit."""

    name: str
    lane: int
    cost: Cost
    number: int = -1
    operation: Operation | None = None
    uses: tuple[tuple[int, Use, int], ...] = ()
    flows: tuple[Flow, ...] = ()
    role: Role = Role.unit
    drains: tuple[int, ...] = ()
    holds: bool = False


@dataclass(frozen=True, eq=False)
class Trips:
    """A loop of the program. `count` is a number, one per stream, or (per_item) one per item."""

    count: Ints
    body: tuple[int | Trips, ...]
    per_item: bool = False
    first_item: Ints | None = None
    """per stream: number of its first trip, for a loop over items; `item_step` leads to the next"""
    item_step: int = 1
    resumes: bool = False
    """the later trips of the loop before it, whose first trip is lowered apart"""


class Transfers(NamedTuple):
    """What makes shared transfers alike: bytes a cycle and cycles at full speed, and the pools they pass."""

    rate: float
    cycles: float
    pools: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Flat:
    """The instances of a phase as arrays [instance]; lists of instance i are [end[i], end[i + 1]) of theirs.

    `occupancy`, `latency`: cycles; `holds`: stops the scalar unit. Uses name a buffer, a member of Use and
    how many versions back; dependences and their distances follow from them while loops are walked. `flow`:
    the class of each of its shared transfers, a place in `transfers`; what has any occupies its unit until
    all have landed. What moves no bytes, or in no time, shares nothing: it has no class, and no occupancy.
    """

    lane: Ints
    role: Ints
    occupancy: npt.NDArray[np.float64]
    latency: npt.NDArray[np.float64]
    instructions: Ints
    holds: Ints
    use_end: Ints
    use_buffer: Ints
    use_kind: Ints
    use_back: Ints
    drain_end: Ints
    drain_lane: Ints
    flow_end: Ints
    flow: Ints
    transfers: tuple[Transfers, ...]

    @staticmethod
    def of(instances: Sequence[Instance]) -> Flat:
        """The instances, transfer classes numbered as they first appear."""
        uses = [use for i in instances for use in i.uses]
        moves = [_transfers(i) for i in instances]
        transfers = tuple(dict.fromkeys(one for own in moves for one in own))
        number = {one: n for n, one in enumerate(transfers)}
        still = [bool(i.flows) and not own for i, own in zip(instances, moves, strict=True)]
        return Flat(
            lane=_ints(i.lane for i in instances),
            role=_ints(i.role for i in instances),
            occupancy=np.array(
                [0.0 if s else i.cost.occupancy for i, s in zip(instances, still, strict=True)]
            ),
            latency=np.array([float(i.cost.latency) for i in instances]),
            instructions=_ints(i.cost.instructions for i in instances),
            holds=_ints(i.holds for i in instances),
            use_end=_ends(i.uses for i in instances),
            use_buffer=_ints(buffer for buffer, _, _ in uses),
            use_kind=_ints(kind for _, kind, _ in uses),
            use_back=_ints(back for _, _, back in uses),
            drain_end=_ends(i.drains for i in instances),
            drain_lane=_ints(lane for i in instances for lane in i.drains),
            flow_end=_ends(moves),
            flow=_ints(number[one] for own in moves for one in own),
            transfers=transfers,
        )


def _transfers(instance: Instance) -> list[Transfers]:
    cycles = float(instance.cost.occupancy)
    return [Transfers(f.bytes / cycles, cycles, f.pools) for f in instance.flows if cycles and f.bytes]


def _ints(numbers: Iterable[int]) -> Ints:
    return np.fromiter(numbers, dtype=np.int64)


def _ends(lists: Iterable[Sequence[object]]) -> Ints:
    return np.cumsum([0, *(len(one) for one in lists)], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class PhaseProgram:
    """One phase on `streams` identical core groups. `flags[a, b]`: cycles from lane a to lane b."""

    name: str
    cores: tuple[str, ...]
    lanes: tuple[Lane, ...]
    streams: int
    start_cycles: npt.NDArray[np.float64]
    flags: npt.NDArray[np.float64]
    slots: tuple[int, ...]
    instances: tuple[Instance, ...]
    body: tuple[int | Trips, ...]
    per_group: int = 1
    """streams of a core group: in a phase over vector cores each of these is a stream"""

    def unit_of(self, stream: int, lane: int) -> UnitKey:
        """The unit that a lane of a stream is, called alike in all phases."""
        group, member = divmod(stream, self.per_group)
        place = self.lanes[lane]
        core = self.cores[place.core]
        return f"{core}{member}" if core == "aiv" else core, group, place.unit

    @cached_property
    def flat(self) -> Flat:
        """The instances as arrays."""
        return Flat.of(self.instances)


@dataclass(frozen=True, eq=False)
class Program:
    """What an engine simulates. Pools give bytes per cycle; 'l1' is one port per core group."""

    kernel: Kernel
    machine: Machine
    phases: tuple[PhaseProgram, ...]
    pools: dict[str, float]
    barrier_cycles: float
    issue_cycles: float
    queue_depth: int
    mixed: bool


def on_grid(cycles: float) -> float:
    return round(cycles * GRID) / GRID
