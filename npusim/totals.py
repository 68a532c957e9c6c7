"""What a report needs of a run, of either engine: sums, and no row per operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from npusim.critical import critical_path
from npusim.engine.fast import layout as at
from npusim.program import Program
from npusim.spent import CriticalPath
from npusim.strands import PlaybackStrands, Strands, TimelineStrands
from npusim.timeline import Floats, Ints, Timeline
from npusim.usage import Busy, LaneUsage, lane_usage, listed_busy, played_busy, played_usage

if TYPE_CHECKING:
    from npusim.engine.fast.playback import Playback


class Timed(Protocol):
    """A run of whatever kind: how long a program took, in cycles."""

    @property
    def program(self) -> Program: ...

    @property
    def makespan(self) -> float: ...


@dataclass(frozen=True, eq=False)
class Totals:
    """Sums over a run. Of each phase `counts` [instance], how often it ran, and `occupied` [instance], the
    cycles that it occupied its unit, both over all core groups; `busy`: of the units that had work, by name;
    `usage` finds what they waited for."""

    program: Program
    makespan: float
    operations: int
    counts: tuple[Ints, ...]
    occupied: tuple[Floats, ...]
    busy: Mapping[str, Busy]
    usage: Callable[[], list[LaneUsage]]
    strands: Strands

    @cached_property
    def lanes(self) -> list[LaneUsage]:
        """The units with what they waited for."""
        return self.usage()

    @cached_property
    def path(self) -> CriticalPath:
        """What the time is made of: found when it is asked for."""
        return critical_path(self.strands)


def of_timeline(timeline: Timeline) -> Totals:
    """Summed over the rows of a timeline."""
    counts: list[Ints] = []
    occupied: list[Floats] = []
    for index, phase in enumerate(timeline.program.phases):
        rows = timeline.phase == index
        ran, spent = timeline.instance[rows], (timeline.end - timeline.start)[rows]
        counts.append(np.bincount(ran, minlength=len(phase.instances)))
        occupied.append(np.bincount(ran, spent, len(phase.instances)).astype(np.float64))
    lanes = list(lane_usage(timeline).values())
    return Totals(
        timeline.program, timeline.makespan, timeline.operations, tuple(counts), tuple(occupied),
        listed_busy(lanes), lambda: lanes, TimelineStrands(timeline),
    )  # fmt: skip


def of_playback(playback: Playback) -> Totals:
    """From what the fast engine counted on the way."""
    tallies = [run.encoded.views(run.state).tallies() for run in playback.runs]
    counts = tuple(one[:, :, at.T_COUNT].sum(axis=0) for one in tallies)
    occupied = tuple(one.view(np.float64)[:, :, at.T_OCCUPIED].sum(axis=0) for one in tallies)
    return Totals(
        playback.program, playback.makespan, playback.operations, counts, occupied,
        played_busy(playback), lambda: list(played_usage(playback).values()), PlaybackStrands(playback),
    )  # fmt: skip
