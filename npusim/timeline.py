"""The timeline: what happened when, one row per operation that ran, as flat columns."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from npusim.lower import Program

if TYPE_CHECKING:
    from npusim.engine.walk import Step

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Bound(IntEnum):
    """What an operation's start (or its issue) was waiting for last."""

    order = 0
    """the operation before it on the unit (or before it in program order, for an issue)"""
    issue = 1
    """its scalar unit"""
    read = 2
    """a result"""
    reuse = 3
    """a slot still being read"""
    queue = 4
    """room in the unit's queue"""


_COLUMNS = {
    "phase": "b", "stream": "i", "instance": "i", "start": "d", "end": "d", "done": "d",
    "bound": "b", "cause": "q", "issued": "d", "issue_bound": "b", "issue_cause": "q",
}  # fmt: skip


class Recorder:
    """Collects rows by step number, in whatever order the steps become known."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.columns: dict[str, array[Any]] = {name: array(code) for name, code in _COLUMNS.items()}
        self.size = 0
        self.count = 0

    def issue(self, number: int, time: float, bound: Bound, cause: int) -> None:
        self._grow(number)
        columns = self.columns
        columns["issued"][number] = time
        columns["issue_bound"][number] = bound
        columns["issue_cause"][number] = cause

    def run(self, phase: int, stream: int, step: Step, bound: Bound, cause: int) -> None:
        number = step.number
        columns = self.columns
        columns["phase"][number] = phase
        columns["stream"][number] = stream
        columns["instance"][number] = step.instance.number
        columns["start"][number] = step.start
        columns["end"][number] = step.end
        columns["done"][number] = step.done
        columns["bound"][number] = bound
        columns["cause"][number] = cause
        self.count = max(self.count, number + 1)

    def _grow(self, number: int) -> None:
        while number >= self.size:
            for column in self.columns.values():
                column.frombytes(bytes(column.itemsize * 65536))
            self.size += 65536

    def timeline(self) -> Timeline:
        columns: dict[str, Any] = {
            name: np.array(column, dtype=column.typecode)[: self.count]
            for name, column in self.columns.items()
        }
        return Timeline(self.program, **columns)


@dataclass(frozen=True, eq=False)
class Timeline:
    """Columns over the operations in program order of their group; times in cycles from the start of
    the first core. `bound`/`cause`: what the start waited for last, and that operation's row (or -1)."""

    program: Program
    phase: Ints
    stream: Ints
    instance: Ints
    start: Floats
    end: Floats
    done: Floats
    bound: Ints
    cause: Ints
    issued: Floats
    issue_bound: Ints
    issue_cause: Ints

    @property
    def operations(self) -> int:
        return len(self.start)

    @property
    def makespan(self) -> float:
        """Cycles from the start of the first core to the end of the last operation."""
        return float(self.done.max(initial=0.0))

    def lanes(self) -> Ints:
        """Lane number of every operation within its phase."""
        lanes = np.empty(self.operations, dtype=np.int64)
        for index, phase in enumerate(self.program.phases):
            rows = self.phase == index
            lanes[rows] = np.array([i.lane for i in phase.instances], dtype=np.int64)[self.instance[rows]]
        return lanes
