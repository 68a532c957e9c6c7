"""Steps back along the critical path: what each moment of each operation of a piece had waited for.

All of a piece are found at once, as following them one by one is what a path of a million steps costs. A
place is a moment of an operation: MOMENTS times its row in the piece, and the moment.
"""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import numpy as np

from npusim.program import Instance, PhaseProgram, Role, Use
from npusim.strands import Piece, Strand
from npusim.timeline import Bound, Floats, Ints, Mask

END, START, ISSUE = range(3)
MOMENTS = 3
ELSEWHERE = -1
"""in place of a place that is not in the piece, or not at all"""
STREAM_WINDOW = 1 << 12
"""operations of the stream before a streaming one among which its producer is looked for"""


(OCCUPIED, STREAMED, ISSUING, AT_ONCE, ALONG, READ, REUSE, UNIT, SCALAR, HELD, PASSED, STEPS) = range(12)
"""Steps, what leads from a place to the one before it.
OCCUPIED: from the end to the start, its work; STREAMED: from the end to that of the producer that it streams
from; ISSUING: from the start to the issue, which takes time; AT_ONCE: the same where the issue is the start.
ALONG: to the start of another operation at the same moment; READ, REUSE: to the end of the operation whose
result, or whose slot, it waited for; UNIT: from the start to the end of the operation before on the unit.
SCALAR: from the issue to that of the operation before of the core; HELD, PASSED: to its end, as it held the
scalar unit until it was done, or ran on it. STEPS: how many there are."""


class Facts:
    """Of a phase, by instance, what the steps depend on."""

    def __init__(self, phase: PhaseProgram) -> None:
        self.unit = np.array([i.role is Role.unit for i in phase.instances])
        self.holds = np.array([i.holds for i in phase.instances])
        self.occupancy = np.array([float(i.cost.occupancy) for i in phase.instances])
        self.writers = {i.number: found for i in phase.instances if (found := _writers(i, phase)) is not None}
        self.streams = np.isin(np.arange(len(phase.instances)), list(self.writers))


def _writers(instance: Instance, phase: PhaseProgram) -> Ints | None:
    """The instances that write what an instance streams from; None where it does not stream."""
    buffers = {buffer for buffer, use, _ in instance.uses if use is Use.stream}
    if not buffers:
        return None
    return np.array([
        i.number
        for i in phase.instances
        if any(buffer in buffers and use >= Use.write for buffer, use, _ in i.uses)
    ])  # fmt: skip


class Backward:
    """The steps back from the places of a piece: `step` [place] which, `before` [place] the place before."""

    def __init__(self, piece: Piece, facts: Facts, slack: float) -> None:
        self.piece, self.facts, self.slack = piece, facts, slack
        self._streams = facts.streams[piece.columns.instance]
        self._step = np.empty((len(piece.numbers), MOMENTS), dtype=np.int8)
        self._before = np.empty((len(piece.numbers), MOMENTS), dtype=np.int64)
        self.step, self.before = self._step.reshape(-1), self._before.reshape(-1)
        self._ends()
        self._starts()
        self._issues()

    @cached_property
    def _following(self) -> list[int]:
        return self.before.tolist()

    def path(self, place: int) -> Ints:
        """The places from `place` on back to the last that is in the piece."""
        following, found = self._following, []
        while place >= 0:
            found.append(place)
            place = following[place]
        return np.array(found)

    def _lead(self, moment: int, step: int, rows: Ints, to: int, where: Mask | Literal[True] = True) -> None:
        """From that moment of the operations `where` so, a step leads to moment `to` of `rows`."""
        places = np.where(rows < 0, ELSEWHERE, MOMENTS * rows + to)
        np.copyto(self._step[:, moment], step, where=where)
        np.copyto(self._before[:, moment], places, where=where)

    def _ends(self) -> None:
        """From the ends: to the own start, where no producer that is streamed from ended later."""
        c, f = self.piece.columns, self.facts
        self._lead(END, OCCUPIED, np.arange(len(c.instance)), START)
        if not self._streams.any():
            return
        late = self._streams & (c.end > c.start + f.occupancy[c.instance] + self.slack)
        for instance in np.unique(c.instance[late]):
            rows = np.flatnonzero(late & (c.instance == instance))
            producers = self._ending_with(rows, f.writers[int(instance)])
            found = producers >= 0
            self._step[rows[found], END] = STREAMED
            self._before[rows[found], END] = MOMENTS * producers[found] + END
            if self.piece.low > 0:
                self._before[rows[~found & (rows < STREAM_WINDOW)], END] = ELSEWHERE

    def _ending_with(self, rows: Ints, writers: Ints) -> Ints:
        """For each of `rows` the last operation of `writers` before it that ends when it does, or -1."""
        c = self.piece.columns
        own = np.flatnonzero(np.isin(c.instance, writers))
        own = own[np.argsort(c.end[own])]
        first = np.searchsorted(c.end[own], c.end[rows] - self.slack, "left")
        beyond = np.searchsorted(c.end[own], c.end[rows] + self.slack, "right")
        found = np.full(len(rows), -1)
        for nth in range(int((beyond - first).max(initial=0))):
            one = own[np.minimum(first + nth, len(own) - 1)]
            found = np.where((first + nth < beyond) & (one < rows), np.maximum(found, one), found)
        return found

    def _starts(self) -> None:
        """From the starts; of what holds for an operation the last counts."""
        c = self.piece.columns
        own, cause = np.arange(len(c.instance)), self.piece.rows(c.cause)
        self._lead(START, UNIT, _previous(self.piece.lane), END)
        self._lead(START, REUSE, cause, END, c.bound == Bound.reuse)
        self._lead(START, READ, cause, END, c.bound == Bound.read)
        self._lead(START, ALONG, cause, START, (c.bound == Bound.read) & self._streams)
        self._lead(START, ISSUING, own, ISSUE, c.bound == Bound.issue)
        self._lead(START, AT_ONCE, own, ISSUE, ~self.facts.unit[c.instance])

    def _issues(self) -> None:
        """From the issues; of what holds for an operation the last counts."""
        c = self.piece.columns
        before, cause = _previous(self.piece.core), self.piece.rows(c.issue_cause)
        made = c.instance[before]
        held = (before >= 0) & self.facts.holds[made] & (abs(c.issued - c.done[before]) <= self.slack)
        self._lead(ISSUE, SCALAR, before, ISSUE)
        self._lead(ISSUE, HELD, before, END, held)
        self._lead(ISSUE, PASSED, before, END, (before >= 0) & ~self.facts.unit[made])
        self._lead(ISSUE, REUSE, cause, END, c.issue_bound == Bound.reuse)
        self._lead(ISSUE, READ, cause, END, c.issue_bound == Bound.read)
        along = (c.issue_bound == Bound.queue) | ((c.issue_bound == Bound.read) & self._streams)
        self._lead(ISSUE, ALONG, cause, START, along)

    def outside(self, place: int, strand: Strand) -> int:
        """The number of the operation before a place whose step leads out of the piece, or -1."""
        row, moment = divmod(place, MOMENTS)
        c, number, step = self.piece.columns, int(self.piece.numbers[row]), self.step[place]
        if step == OCCUPIED:
            end, writers = c.end[row], self.facts.writers[int(c.instance[row])]
            least = max(0, number - STREAM_WINDOW)
            return strand.last(number, lambda p: _ending(p, writers, end, self.slack), least)
        if step == UNIT:
            return strand.last(number, lambda p: p.lane == self.piece.lane[row])
        if step == SCALAR:
            return strand.last(number, lambda p: p.core == self.piece.core[row])
        return int((c.cause if moment == START else c.issue_cause)[row])


def _previous(key: Ints) -> Ints:
    """For each operation the one before it with the same key, or -1."""
    order = np.argsort(key.astype(np.int16), kind="stable")  # which has few values: sorted by counting
    same = key[order[1:]] == key[order[:-1]]
    previous = np.full(len(key), -1)
    previous[order[1:][same]] = order[:-1][same]
    return previous


def _ending(piece: Piece, writers: Ints, end: Floats, slack: float) -> Mask:
    columns = piece.columns
    return np.asarray((abs(columns.end - end) <= slack) & np.isin(columns.instance, writers))
