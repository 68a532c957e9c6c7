"""Strands: the operations of one stream of a phase in program order, looked at from the last one back.

Both engines give them. What is looked at is loaded in pieces, so that of a run with millions of operations
only those near what one follows are ever there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from npusim.engine.fast import layout as at
from npusim.program import PhaseProgram, Program
from npusim.timeline import Floats, Ints, Timeline

if TYPE_CHECKING:
    from npusim.engine.fast.playback import Playback
    from npusim.engine.fast.run import PhaseRun

FIRST_PIECE, LARGEST_PIECE = 1 << 10, 1 << 15
"""operations that are loaded at once: each time twice as many"""
KEPT = 4
"""pieces that are kept"""
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


class Ran(NamedTuple):
    """An operation that ran, number `seq` of its strand; `on_lane`, `in_core`: the number of the one before
    it on its unit and of its core, -1 where its piece has none."""

    seq: int
    instance: int
    start: float
    end: float
    done: float
    bound: int
    cause: int
    issued: float
    issue_bound: int
    issue_cause: int
    on_lane: int
    in_core: int


@dataclass(frozen=True)
class Region:
    """Operations [first, end) of a strand that were jumped over: everything repeats every `each` of them."""

    first: int
    end: int
    each: int


class Piece:
    """Operations of a strand, from number `low` on."""

    def __init__(self, low: int, columns: Columns, lanes: Ints, cores: Ints) -> None:
        self.low, self.high, self.columns = low, low + len(columns.instance), columns
        self.lane, self.core = lanes[columns.instance], cores[columns.instance]
        numbers = np.arange(self.low, self.high)
        before = _previous(self.lane, low), _previous(self.core, low)
        self._rows = [column.tolist() for column in (numbers, *columns, *before)]

    def __getitem__(self, seq: int) -> Ran:
        place = seq - self.low
        return Ran(*[column[place] for column in self._rows])


class Strand:
    """The operations of a stream of a phase. `load(low, high)`: those numbered so."""

    def __init__(
        self, phase: PhaseProgram, size: int, load: Callable[[int, int], Columns], regions: tuple[Region, ...]
    ) -> None:
        self.phase, self.size, self.regions = phase, size, regions
        self._load = load
        self._lanes = np.array([i.lane for i in phase.instances])
        self._cores = np.array([phase.lanes[lane].core for lane in self._lanes])
        self._pieces: list[Piece] = []
        self._next = FIRST_PIECE

    def __getitem__(self, seq: int) -> Ran:
        return self._piece(seq)[seq]

    def before_on_lane(self, ran: Ran) -> int:
        """The operation before it on its unit, or -1."""
        lane = self._lanes[ran.instance]
        return ran.on_lane if ran.on_lane >= 0 else self.last(ran.seq, lambda piece: piece.lane == lane)

    def before_in_core(self, ran: Ran) -> int:
        """The operation before it of its core, or -1."""
        core = self._cores[ran.instance]
        return ran.in_core if ran.in_core >= 0 else self.last(ran.seq, lambda piece: piece.core == core)

    def last(self, below: int, wanted: Callable[[Piece], npt.NDArray[np.bool_]], least: int = 0) -> int:
        """The last operation in [least, below) that is `wanted`, or -1. Where the last period of those jumped
        over has none, the others have none."""
        top = below
        while below > least:
            piece = self._piece(below - 1)
            found = np.flatnonzero(wanted(piece)[: below - piece.low])
            if len(found):
                seq = piece.low + int(found[-1])
                return seq if seq >= least else -1
            below = self._searched(piece.low, top)
        return -1

    def region(self, seq: int) -> Region | None:
        """The region in which an operation lies."""
        return next((region for region in self.regions if region.first <= seq < region.end), None)

    def _searched(self, low: int, top: int) -> int:
        """Below what to search on where [low, top) has been: of a region one period is enough."""
        region = self.region(low)
        return region.first if region and min(top, region.end) - low >= region.each else low

    def _piece(self, seq: int) -> Piece:
        for piece in self._pieces:
            if piece.low <= seq < piece.high:
                return piece
        low = max(0, seq + 1 - self._next)
        piece = Piece(low, self._load(low, seq + 1), self._lanes, self._cores)
        self._pieces = [piece, *self._pieces[: KEPT - 1]]
        self._next = min(2 * self._next, LARGEST_PIECE)
        return piece


def _previous(key: Ints, low: int) -> Ints:
    """For each operation the number of the one before it with the same key, or -1."""
    order = np.argsort(key, kind="stable")
    same = np.diff(key[order]) == 0
    previous = np.full(len(key), -1, dtype=np.int64)
    previous[order[1:][same]] = low + order[:-1][same]
    return previous


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

        return Strand(self.program.phases[phase], len(rows), load, ())

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
        sizes = self.playback.operations_of(phase)

        def load(low: int, high: int) -> Columns:
            lows = np.zeros_like(sizes)
            lows[stream] = low
            highs = np.zeros_like(sizes)
            highs[stream] = high
            found = self.playback.numbered(phase, lows, highs)
            s = found.only(np.argsort(found.seq))
            return Columns(
                s.instance, s.start, s.end, s.done, s.bound, s.cause, s.issued, s.issue_bound, s.issue_cause
            )  # fmt: skip

        regions = _regions(self.playback.runs[phase], stream)
        return Strand(self.program.phases[phase], int(sizes[stream]), load, regions)

    def ends(self, phase: int) -> Floats:
        run = self.playback.runs[phase]
        v = run.encoded.views(run.state)
        return np.where(v.group(at.SEQ_NEXT) > 0, v.last_done(), -np.inf)


def _regions(run: PhaseRun, stream: int) -> tuple[Region, ...]:
    """What was jumped over of a stream; without those at its end that were not over yet."""
    regions = []
    for point in run.checkpoints:
        if point.period is None or stream not in point.period.live:
            continue
        v, each = point.period.ends()[1], int(point.period.operations[stream])
        first = int(v.group(at.SEQ_NEXT)[stream])
        end = int(v.fronts()[stream].min()) + point.periods * each
        if first < end:
            regions.append(Region(first, end, each))
    return tuple(regions)
