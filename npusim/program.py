"""The program: what an engine simulates. Numbers only; names remain for the report.

For each operation instance its lane (a unit of a core), cycles, shared transfers, and which buffers it
reads and writes; for each phase its loops, flags and start times.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from npusim.cost import Cost
from npusim.graph import Kernel, Operation
from npusim.machine import Machine

Ints = npt.NDArray[np.int64]
GRID = 2.0**16
"""Durations are multiples of 2^-16 cycle, so that sums without contention are exact."""


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
