"""The timeline: what happened when, one row per operation that ran, as flat columns."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from npusim.program import Program

if TYPE_CHECKING:
    from npusim.engine.walk import Step

Mask = npt.NDArray[np.bool_]
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


NOWHERE, ELSEWHERE = -1, -2
"""causes that are no row: there is none; an operation of the phase that is not among the rows, of instance
ELSEWHERE - cause"""
GROWTH = 1 << 16
"""rows that the columns grow by"""
_COLUMNS = {
    "phase": "b", "stream": "i", "instance": "i", "start": "d", "end": "d", "done": "d",
    "bound": "b", "cause": "q", "issued": "d", "issue_bound": "b", "issue_cause": "q",
}  # fmt: skip


class Recorder:
    """Collects rows by step number, in whatever order the steps become known."""

    phase: array[int]
    stream: array[int]
    instance: array[int]
    start: array[float]
    end: array[float]
    done: array[float]
    bound: array[int]
    cause: array[int]
    issued: array[float]
    issue_bound: array[int]
    issue_cause: array[int]

    def __init__(self, program: Program) -> None:
        self.program = program
        for name, code in _COLUMNS.items():
            setattr(self, name, array(code))
        self.size = 0
        self.count = 0

    def issue(self, number: int, time: float, bound: Bound, cause: int) -> None:
        while number >= self.size:
            self._grow()
        self.issued[number] = time
        self.issue_bound[number] = bound
        self.issue_cause[number] = cause

    def run(self, phase: int, stream: int, step: Step, bound: Bound, cause: int) -> None:
        number = step.number
        self.phase[number] = phase
        self.stream[number] = stream
        self.instance[number] = step.instance
        self.start[number] = step.start
        self.end[number] = step.end
        self.done[number] = step.done
        self.bound[number] = bound
        self.cause[number] = cause
        if number >= self.count:
            self.count = number + 1

    def _grow(self) -> None:
        for name in _COLUMNS:
            column = getattr(self, name)
            column.frombytes(bytes(column.itemsize * GROWTH))
        self.size += GROWTH

    def timeline(self) -> Timeline:
        columns: dict[str, Any] = {
            name: np.array(getattr(self, name), dtype=code)[: self.count] for name, code in _COLUMNS.items()
        }
        number = _numbers(columns["phase"], columns["stream"])
        return Timeline(self.program, number=number, **columns)


def _numbers(phase: Ints, stream: Ints) -> Ints:
    """[row] the how manieth operation of its stream and phase it is."""
    order = np.lexsort((stream, phase))
    own = np.stack((phase[order], stream[order]))
    first = np.flatnonzero((np.diff(own, prepend=-1) != 0).any(axis=0))
    number = np.empty(len(order), dtype=np.int64)
    number[order] = np.arange(len(order)) - np.repeat(first, np.diff(first, append=len(order)))
    return number


@dataclass(frozen=True, eq=False)
class Timeline:
    """Columns over operations in program order of their group; times in cycles from the start of the first
    core. `number`: which operation it is of its stream in its phase, counted in program order;
    `bound`/`cause`: what the start waited for last, and that operation's row (else see NOWHERE)."""

    program: Program
    phase: Ints
    stream: Ints
    instance: Ints
    number: Ints
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

    def only(self, rows: Ints) -> Timeline:
        """Some of its rows, in the order given."""
        place = np.full(self.operations, -1, dtype=np.int64)
        place[rows] = np.arange(len(rows))
        columns = {name: getattr(self, name)[rows] for name in ("number", *_COLUMNS)}
        for name in ("cause", "issue_cause"):
            cause = columns[name]
            named = np.maximum(cause, 0)
            row = np.where(place[named] >= 0, place[named], ELSEWHERE - self.instance[named])
            columns[name] = np.where(cause < 0, cause, row)
        return Timeline(self.program, **columns)

    def lanes(self) -> Ints:
        """Lane number of every operation within its phase."""
        lanes = np.empty(self.operations, dtype=np.int64)
        for index, phase in enumerate(self.program.phases):
            rows = self.phase == index
            lanes[rows] = np.array([i.lane for i in phase.instances], dtype=np.int64)[self.instance[rows]]
        return lanes
