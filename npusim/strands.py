"""Strands: the operations of one stream of a phase in program order, looked at from the last one back.

Both engines give them. What is looked at is loaded in pieces, so that of a run with millions of operations
only those near what one follows are ever there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from npusim.engine.fast import layout as at
from npusim.program import PhaseProgram, Program
from npusim.timeline import Floats, Ints, Timeline

if TYPE_CHECKING:
    from npusim.engine.fast.playback import Playback
    from npusim.engine.fast.replay import Steps
    from npusim.engine.fast.run import PhaseRun

LARGEST_LOAD = 1 << 17
"""operations that are loaded at once, at most"""
SHORTEST_LOAD = 1 << 9
"""of short periods so many are loaded at once, as to begin takes longer than these take"""
KEPT = 8
"""pieces that are kept of those loaded before"""
SLACK = 1e-12
"""of the makespan: moments closer together than this are one"""


class Columns(NamedTuple):
    """Operations [operation] in program order. Times in cycles; `bound`, `issue_bound`: members of Bound;
    `cause`, `issue_cause`: number of that operation in the strand, or -1."""

    instance: Ints
    start: Floats
    end: Floats
    done: Floats
    bound: Ints
    cause: Ints
    issued: Floats
    issue_bound: Ints
    issue_cause: Ints


@dataclass(frozen=True)
class Region:
    """Operations [first, end) of a strand that are alike, as they were jumped over: everything repeats every
    `each` of them."""

    first: int
    end: int
    each: int


@dataclass(frozen=True, eq=False)
class Piece:
    """Operations of a strand by their `numbers`, in program order. `lane`, `core` [operation]: where each
    runs."""

    numbers: Ints
    columns: Columns
    lane: Ints
    core: Ints

    @property
    def low(self) -> int:
        return int(self.numbers[0])

    def rows(self, numbers: Ints) -> Ints:
        """Where operations stand in it; -1: not at all."""
        found = np.minimum(np.searchsorted(self.numbers, numbers), len(self.numbers) - 1)
        return np.where(self.numbers[found] == numbers, found, -1)

    def only(self, number: int) -> Piece:
        """One of its operations."""
        own = slice(number - self.low, number - self.low + 1)
        columns = Columns._make(column[own] for column in self.columns)
        return Piece(self.numbers[own], columns, self.lane[own], self.core[own])

    @staticmethod
    def chained(parts: list[Piece]) -> Piece:
        columns = Columns._make(map(np.concatenate, zip(*(part.columns for part in parts), strict=True)))
        numbers, lane, core = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("numbers", "lane", "core")
        )
        return Piece(numbers, columns, lane, core)


class Strand:
    """The operations of a stream of a phase. `load(low, high)`: those numbered so. `begin(number)`: the last
    operation up to that one from which on they can be made; from any between on they cost as much.
    `kept(number)`: the first operation up to that one from which on all are there; None where that one is
    not."""

    def __init__(
        self,
        phase: PhaseProgram,
        size: int,
        load: Callable[[int, int], Columns],
        begin: Callable[[int], int],
        kept: Callable[[int], int | None],
        regions: tuple[Region, ...] = (),
    ) -> None:
        self.phase, self.size, self.regions = phase, size, regions
        self._load, self._begin, self._kept = load, begin, kept
        self._lanes = np.array([i.lane for i in phase.instances])
        self._cores = np.array([phase.lanes[lane].core for lane in self._lanes])
        self._pieces: list[Piece] = []

    def last(self, below: int, wanted: Callable[[Piece], npt.NDArray[np.bool_]], least: int = 0) -> int:
        """The last operation in [least, below) that is `wanted`, or -1. Where the last period of those jumped
        over has none, the others have none."""
        top = below
        while below > least:
            piece = self.piece(below - 1)
            found = np.flatnonzero(wanted(piece)[: below - piece.low])
            if len(found):
                number = piece.low + int(found[-1])
                return number if number >= least else -1
            below = self._searched(piece.low, top)
        return -1

    def region(self, number: int) -> Region | None:
        """The region in which an operation lies."""
        return next((region for region in self.regions if region.first <= number < region.end), None)

    def _searched(self, low: int, top: int) -> int:
        """Below what to search on where [low, top) has been: of a region one period is enough."""
        region = self.region(low)
        return region.first if region and min(top, region.end) - low >= region.each else low

    def piece(self, number: int) -> Piece:
        """A piece with an operation, and with others before it: all in one region, or none in any."""
        for piece in self._pieces:
            if piece.low <= number <= piece.numbers[-1]:
                return piece
        kept = None if self.region(number) else self._kept(number)
        low = max(self._low(number) if kept is None else kept, number + 1 - LARGEST_LOAD)
        loaded = self._load(low, number + 1)
        cuts = {cut for region in self.regions for cut in (region.first, region.end) if low < cut <= number}
        edges = [low, *sorted(cuts), number + 1]
        found = [self._part(loaded, low, *edge) for edge in pairwise(edges)]
        self._pieces = [*reversed(found), *self._pieces[:KEPT]]
        return found[-1]

    def _part(self, loaded: Columns, low: int, first: int, end: int) -> Piece:
        """Of operations that are loaded from `low` on those numbered [first, end)."""
        columns = Columns._make(column[first - low : end - low] for column in loaded)
        instance = columns.instance
        return Piece(np.arange(first, end), columns, self._lanes[instance], self._cores[instance])

    def _low(self, number: int) -> int:
        """From where on to load what leads up to an operation: in a region two periods, as they are enough to
        see the path repeat itself (of short ones more); with what was simulated before a region the end of
        the one before that."""
        region = self.region(number)
        if region and number >= region.first + 2 * region.each:
            periods = min(max(2, SHORTEST_LOAD // region.each), (number - region.first) // region.each)
            return number + 1 - (number + 1 - region.first) % region.each - periods * region.each
        first = region.first if region else number
        begin = self._begin(max(0, first - SHORTEST_LOAD))
        before = max((r for r in self.regions if r.end <= first), key=lambda r: r.end, default=None)
        return begin if before is None or begin > before.end + before.each else self._low(before.end - 1)


class Strands(Protocol):
    """Where strands come from: a run of either engine."""

    @property
    def program(self) -> Program: ...

    @property
    def makespan(self) -> float: ...

    def strand(self, phase: int, stream: int) -> Strand: ...

    def ends(self, phase: int) -> Floats:
        """[stream] when its last result is there, cycles; -inf where nothing ran."""


class TimelineStrands:
    """The strands of a timeline."""

    def __init__(self, timeline: Timeline) -> None:
        self.timeline, self.program, self.makespan = timeline, timeline.program, timeline.makespan

    def strand(self, phase: int, stream: int) -> Strand:
        t = self.timeline
        rows = np.flatnonzero((t.phase == phase) & (t.stream == stream))

        def place(cause: Ints) -> Ints:
            return np.where(cause >= 0, np.searchsorted(rows, cause), -1)

        def load(low: int, high: int) -> Columns:
            own = rows[low:high]
            numbers = {"cause": place(t.cause[own]), "issue_cause": place(t.issue_cause[own])}
            return Columns(**{name: getattr(t, name)[own] for name in Columns._fields} | numbers)

        return Strand(self.program.phases[phase], len(rows), load, lambda number: 0, lambda number: None)

    def ends(self, phase: int) -> Floats:
        t = self.timeline
        rows = np.flatnonzero(t.phase == phase)
        ends = np.full(self.program.phases[phase].streams, -np.inf)
        np.maximum.at(ends, t.stream[rows], t.done[rows])
        return ends


class PlaybackStrands:
    """The strands of a run of the fast engine: pieces are played back when they are looked at."""

    def __init__(self, playback: Playback) -> None:
        self.playback, self.program, self.makespan = playback, playback.program, playback.makespan

    def strand(self, phase: int, stream: int) -> Strand:
        run, sizes = self.playback.runs[phase], self.playback.operations_of(phase)

        def load(low: int, high: int) -> Columns:
            first, beyond = np.searchsorted(there.seq, [low, high])
            if beyond - first == high - low:
                return _columns(there.only(slice(first, beyond)))
            lows = np.zeros_like(sizes)
            lows[stream] = low
            highs = np.zeros_like(sizes)
            highs[stream] = high
            found = self.playback.numbered(phase, lows, highs)
            return _columns(found.only(np.argsort(found.seq)))

        def begin(number: int) -> int:
            return max([0, *(point.begin(stream, number) for point in points)])

        def kept(number: int) -> int | None:
            place = int(np.searchsorted(runs, number, "right")) - 1
            if place < 0 or number >= runs[place] + lengths[place]:
                return None
            return int(runs[place]) if lengths[place] >= SHORTEST_LOAD or runs[place] == 0 else None

        there = self.playback.watched(phase, stream)
        begins = np.flatnonzero(np.diff(there.seq, prepend=-2) != 1)
        runs, lengths = there.seq[begins], np.diff(begins, append=len(there))
        points = [point for point in run.checkpoints if point.group in (stream, None)]
        regions = _regions(run, stream)
        return Strand(self.program.phases[phase], int(sizes[stream]), load, begin, kept, regions)

    def ends(self, phase: int) -> Floats:
        run = self.playback.runs[phase]
        v = run.encoded.views(run.state)
        return np.where(v.group(at.SEQ_NEXT) > 0, v.last_done(), -np.inf)


def _columns(s: Steps) -> Columns:
    return Columns(
        s.instance, s.start, s.end, s.done, s.bound, s.cause, s.issued, s.issue_bound, s.issue_cause
    )


def _regions(run: PhaseRun, stream: int) -> tuple[Region, ...]:
    """What was jumped over of a stream, and the period before it, which is like those; without those at the
    end that were not over yet."""
    regions = []
    for point in run.checkpoints:
        if point.period is None or stream not in point.period.live:
            continue
        each = int(point.period.operations[stream])
        end = int(point.period.front[stream].min()) + point.periods * each
        first = int(point.taken[stream])
        if first < end:
            regions.append(Region(first, end, each))
    return tuple(regions)
