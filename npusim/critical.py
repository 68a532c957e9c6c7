"""The critical path: walking back from the last operation to the launch, over what each start waited for.

The walk goes piece by piece, through each at once as far as it stays there. Where the engine jumped over
periods, the path soon stands at the same place of an earlier one: from there on it is multiplied instead of
walked.
"""

from __future__ import annotations

import numpy as np

from npusim.backward import END, MOMENTS, START, Backward, Facts
from npusim.spent import CriticalPath, PhaseSpent, Spent
from npusim.strands import SLACK, Piece, Region, Strand, Strands
from npusim.timeline import Ints

Place = tuple[int, int]
"""an operation of the strand that one is in and a moment of it, or AT_LAUNCH"""
AT_LAUNCH = -1, END


def critical_path(strands: Strands) -> CriticalPath:
    """Split the makespan along the path that decided it."""
    walk = _Walk(strands)
    walk.walk()
    return walk.spent.path()


class _Trail:
    """The path through a region, or (None) outside of any. In a region it is entered once it is known how
    often: when it stands at a place where it has been in a later period."""

    def __init__(self, region: Region | None, sums: PhaseSpent) -> None:
        self.region, self.sums = region, sums
        self.multiplied = False
        self.parts: list[tuple[Backward, Ints]] = []
        """places that are not entered yet, by the piece that they are in"""

    def add(self, back: Backward, places: Ints) -> Place | None:
        """Go on over places of a piece. Where the path repeats itself: the place after all repetitions."""
        self.parts.append((back, places))
        if self.region is None or self.multiplied:
            self.settle()
            return None
        numbers = np.concatenate([back.piece.numbers[places // MOMENTS] for back, places in self.parts])
        moments = np.concatenate([places % MOMENTS for _, places in self.parts])
        same = (numbers - self.region.first) % self.region.each * MOMENTS + moments
        _, first, which = np.unique(same, return_index=True, return_inverse=True)
        again = np.flatnonzero(first[which] < np.arange(len(same)))
        if not len(again):
            return None
        now = int(again[0])
        number, each = int(numbers[now]), int(numbers[first[which[now]]] - numbers[now])
        times = (number - self.region.first) // each
        self.settle(now, int(first[which[now]]), times)
        self.multiplied = True
        return number - times * each, int(moments[now])

    def settle(self, end: int | None = None, since: int = 0, times: int = 0) -> None:
        """Enter all of it, or up to place `end`; from place `since` on so many times more."""
        at = 0
        for back, places in self.parts:
            number = at + np.arange(len(places))
            often = np.where(number >= since, 1 + times, 1)
            kept = slice(None if end is None else max(0, end - at))
            self.sums.add(back, places[kept], often[kept])
            at += len(places)
        self.parts.clear()


class _Walk:
    """The walk back."""

    index: int
    strand: Strand
    facts: Facts
    sums: PhaseSpent
    """of the phase that the walk is in"""

    def __init__(self, strands: Strands) -> None:
        self.strands = strands
        self.program, self.machine = strands.program, strands.program.machine
        self.slack = SLACK * strands.makespan
        self.spent = Spent()
        self.back: Backward | None = None
        """of the piece that it went through last"""

    def walk(self) -> None:
        place, _ = self._enter(len(self.program.phases))
        while place != AT_LAUNCH:
            place = self._through(place)

    def _enter(self, below: int) -> tuple[Place, float]:
        """Go to the end of the last operation of the phases before number `below`; when it was done."""
        ends = np.zeros(0)
        while below and ends.max(initial=-np.inf) == -np.inf:
            below -= 1
            ends = self.strands.ends(below)
        if ends.max(initial=-np.inf) == -np.inf:
            return AT_LAUNCH, 0.0
        late = float(ends.max()) - self.slack
        self.index, phase = below, self.program.phases[below]
        self.strand = self.strands.strand(below, int(np.argmax(ends >= late)))
        self.facts, self.sums = Facts(phase), PhaseSpent(phase)
        self.trail = _Trail(None, self.sums)
        last = self.strand.last(self.strand.size, lambda piece: piece.columns.done >= late)
        done = self.sums.add_latency(self.strand.piece(last).only(last))
        return (last, END), done

    def _through(self, place: Place) -> Place:
        """Follow the path through the piece that a place is in, and out of it."""
        number, moment = place
        region = self.strand.region(number)
        if region != self.trail.region:
            self.trail.settle()
            self.trail = _Trail(region, self.sums)
        piece = self.strand.piece(number)
        if self.back is None or self.back.piece is not piece:
            self.back = Backward(piece, self.facts, self.slack)
        places = self.back.path(MOMENTS * (number - piece.low) + moment)
        return self.trail.add(self.back, places[:-1]) or self._out(self.back, int(places[-1]))

    def _out(self, back: Backward, place: int) -> Place:
        """The step from a place that leads out of its piece."""
        row, moment = divmod(place, MOMENTS)
        number = int(back.piece.numbers[row])
        earlier = back.outside(place, self.strand)
        if moment == END:
            if earlier >= 0:
                return earlier, END
            return self.trail.add(back, np.array([place])) or (number, START)
        if earlier < 0:
            columns = back.piece.columns
            return self._phase_begin(float((columns.start if moment == START else columns.issued)[row]))
        both = Piece.chained([self.strand.piece(earlier).only(earlier), back.piece.only(number)])
        pair = Backward(both, self.facts, self.slack)
        place = MOMENTS + moment
        return self.trail.add(pair, np.array([place])) or (earlier, int(pair.before[place]) % MOMENTS)

    def _phase_begin(self, moment: float) -> Place:
        """The launch of the core, or the barrier and the phase before it."""
        self.trail.settle()
        self.sums.enter(self.spent, self.machine)
        place, done = self._enter(self.index)
        if place == AT_LAUNCH:
            setup = min(moment, self.machine.launch.setup_us.value * self.machine.cycles_per_us)
            self.spent.add("core set-up", "launch.setup_us", setup)
            self.spent.add("dispatch of cores", "launch.dispatch_us", moment - setup)
            return place
        gap = moment - done
        barrier = min(gap, self.program.barrier_cycles)
        self.spent.add("barrier", "core.barriers.all_cores_cycles", barrier)
        self.spent.add("dispatch of cores", "launch.dispatch_us", gap - barrier)
        return place
