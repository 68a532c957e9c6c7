"""The timeline of a run of the fast engine, made where it is looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from npusim.engine.fast import layout as at
from npusim.engine.fast.replay import Steps, by_number, by_time, watched
from npusim.engine.fast.run import PhaseRun
from npusim.engine.fast.views import Floats, Ints
from npusim.order import instance_at
from npusim.program import Program
from npusim.timeline import ELSEWHERE, NOWHERE, Timeline


@dataclass(frozen=True, eq=False)
class Playback:
    """What happened when, for all phases of a program."""

    program: Program
    runs: tuple[PhaseRun, ...]

    @property
    def operations(self) -> int:
        return sum(run.operations for run in self.runs)

    @property
    def makespan(self) -> float:
        """Cycles from the start of the first core to the end of the last operation."""
        return max((run.last_done for run in self.runs if run.operations), default=0.0)

    def operations_of(self, phase: int) -> Ints:
        """[group] operations of a phase."""
        run = self.runs[phase]
        return run.encoded.views(run.state).group(at.SEQ_NEXT).copy()

    def numbered(self, phase: int, low: Ints, high: Ints) -> Steps:
        """The operations of each group that are numbered in [low, high)."""
        run = self.runs[phase]
        high = np.minimum(high, self.operations_of(phase))
        low = np.minimum(low, high)
        if run.encoded[at.ALONE]:
            found = [by_number(run, low, high, int(g)) for g in np.flatnonzero(low < high)]
            return Steps.chained(found) if found else by_number(run, low, low, None)
        return by_number(run, low, high, None)

    def watched(self, phase: int, group: int) -> Steps:
        """Operations of a group that were written down while it ran, in program order."""
        return watched(self.runs[phase], group)

    def between(
        self, start: float, end: float, streams: Sequence[Ints] | None = None
    ) -> Iterator[tuple[int, Steps]]:
        """(phase, operations that take part of [start, end)), in pieces, in order of phases; of all streams,
        or of those that are named for each phase."""
        for phase, run in enumerate(self.runs):
            if run.operations and run.last_done > start and float(run.begin.min()) < end:
                wanted = None if streams is None else streams[phase]
                for group in run.apart:
                    if wanted is not None and group is not None and group not in wanted:
                        continue
                    for steps in by_time(run, start, end, group, wanted):
                        yield phase, steps


def timeline(program: Program, parts: list[tuple[int, Steps]]) -> Timeline:
    """One row per operation, in program order of each phase and group."""
    columns: list[dict[str, Ints | Floats]] = []
    size = 0
    by_phase: dict[int, list[Steps]] = {}
    for phase, steps in parts:
        by_phase.setdefault(phase, []).append(steps)
    for phase, found in sorted(by_phase.items()):
        steps = Steps.chained(found)
        steps = steps.only(np.lexsort((steps.seq, steps.group)))
        columns.append({
            "phase": np.full(len(steps), phase), "stream": steps.group, "instance": steps.instance,
            "number": steps.seq, "start": steps.start, "end": steps.end, "done": steps.done,
            "bound": steps.bound, "cause": _rows_of(program, phase, steps, steps.cause, size),
            "issued": steps.issued, "issue_bound": steps.issue_bound,
            "issue_cause": _rows_of(program, phase, steps, steps.issue_cause, size),
        })  # fmt: skip
        size += len(steps)
    names = [name for name in Timeline.__dataclass_fields__ if name != "program"]
    empty: Ints = np.zeros(0, dtype=np.int64)
    joined: dict[str, Any] = {n: np.concatenate([c[n] for c in columns]) if columns else empty for n in names}
    return Timeline(program, **joined)


def _rows_of(program: Program, phase: int, steps: Steps, cause: Ints, before: int) -> Ints:
    """Rows of the steps that are numbered `cause` in the same group, after `before` others."""
    place = np.full(len(steps), NOWHERE, dtype=np.int64)
    for group in np.unique(steps.group):
        own = np.flatnonzero(steps.group == group)
        seq = steps.seq[own]
        found = np.minimum(np.searchsorted(seq, cause[own]), len(own) - 1)
        there = seq[found] == cause[own]
        place[own[there]] = before + own[found[there]]
        for row in own[~there & (cause[own] >= 0)]:
            place[row] = ELSEWHERE - instance_at(program.phases[phase], int(group), int(cause[row]))
    return place
