"""Program -> what happened when, by the engine of one's choice; and what the engine itself took."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from npusim.busy import Work, played_work, timeline_work, within
from npusim.errors import InputError
from npusim.order import Span, spans
from npusim.program import Program, UnitKey
from npusim.settings import EngineSettings
from npusim.timeline import Floats, Ints, Timeline
from npusim.totals import Totals, of_playback, of_timeline
from npusim.usage import lane_usage, played_usage

if TYPE_CHECKING:
    from npusim.engine.fast.playback import Playback
    from npusim.engine.fast.run import Jumping

Progress = Callable[[int], None]


@dataclass(frozen=True)
class EngineRun:
    """What the engine did. `skipped_iterations`: loop trips not simulated one by one, because the state of
    all units had come back; `tolerance`: by how much, relative to a period, its times may have differed (0:
    nothing could be skipped); `error_us`: by how much at most the times after all jumps are wrong for that;
    where memory is shared, an estimate. `unsettled`: phases whose states were compared, and none came
    back."""

    name: str
    operations: int
    wall_s: float
    operations_per_s: float
    skipped_iterations: int = 0
    skipped_operations: int = 0
    tolerance: float = 0.0
    error_us: float = 0.0
    unsettled: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Simulation(ABC):
    """A program that was simulated: how long it took, and what can be asked of it. Times in cycles."""

    def __init__(self, program: Program, engine: EngineRun) -> None:
        self.program, self.engine = program, engine

    @property
    @abstractmethod
    def makespan(self) -> float:
        """Cycles from the start of the first core to the end of the last operation."""

    @property
    @abstractmethod
    def stages(self) -> list[tuple[float, float]]:
        """[phase] when it begins, not later than its first operation, and when its last is done; a phase
        without operations takes no time."""

    @abstractmethod
    def totals(self) -> Totals:
        """Sums over all operations."""

    @abstractmethod
    def between(self, start: float, end: float, groups: Collection[int] | None = None) -> Timeline:
        """All operations that take part of [start, end) cycles, of all core groups or of some: a row for
        each, so ask for what can be shown."""

    def trips(self, first: int, end: int) -> Timeline:
        """The operations in trips [first, end) of every outermost loop, and all outside of loops."""
        return self._numbered([
            [spans(phase, stream, first, end) for stream in range(phase.streams)]
            for phase in self.program.phases
        ])  # fmt: skip

    def numbered(self, phase: int, stream: int, first: int, end: int) -> Timeline:
        """The operations [first, end) of a stream of a phase, in program order."""
        own = [(max(0, first), end)] if max(0, first) < end else []
        return self._numbered([
            [own if (index, number) == (phase, stream) else [] for number in range(one.streams)]
            for index, one in enumerate(self.program.phases)
        ])  # fmt: skip

    def _streams(self, groups: Collection[int]) -> list[Ints]:
        """[phase] the streams of some core groups."""
        return [
            np.array([s for s in range(one.streams) if s // one.per_group in groups], dtype=np.int64)
            for one in self.program.phases
        ]

    @abstractmethod
    def _numbered(self, wanted: list[list[list[Span]]]) -> Timeline:
        """[phase][stream] operations by number, in this order."""

    def busy(self, edges: Floats) -> dict[UnitKey, Floats]:
        """Of each unit of each core that had work [bin] the share of the time between two `edges`, in cycles,
        in which it is busy. Where periods were skipped the cost does not depend on how many operations a bin
        holds. InputError for edges that do not rise."""
        edges = np.asarray(edges, dtype=np.float64)
        if edges.ndim != 1 or len(edges) < 2 or not np.isfinite(edges).all() or (np.diff(edges) <= 0).any():
            raise InputError("busy: edges must be at least two finite moments that rise")
        return within(self._work(edges), edges, self._units())

    @abstractmethod
    def _units(self) -> Iterable[UnitKey]:
        """All units that had work."""

    @abstractmethod
    def _work(self, edges: Floats) -> Iterator[Work]:
        """What was at work between the first and the last edge."""


class Listed(Simulation):
    """With a row for each operation."""

    def __init__(self, timeline: Timeline, engine: EngineRun) -> None:
        super().__init__(timeline.program, engine)
        self.timeline = timeline

    @property
    def makespan(self) -> float:
        return self.timeline.makespan

    @property
    def stages(self) -> list[tuple[float, float]]:
        t, end = self.timeline, 0.0
        found: list[tuple[float, float]] = []
        for index in range(len(self.program.phases)):
            rows = t.phase == index
            start = float(t.start[rows].min()) if rows.any() else end
            end = float(t.done[rows].max(initial=start))
            found.append((start, end))
        return found

    def totals(self) -> Totals:
        return of_timeline(self.timeline)

    def between(self, start: float, end: float, groups: Collection[int] | None = None) -> Timeline:
        t = self.timeline
        wanted = (t.start < end) & (t.done > start) & (start < end)
        if groups is not None:
            for phase, streams in enumerate(self._streams(groups)):
                wanted &= (t.phase != phase) | np.isin(t.stream, streams)
        return t.only(self._ordered(np.flatnonzero(wanted)))

    def _ordered(self, rows: Ints) -> Ints:
        """By phase, stream and program order."""
        return rows[np.lexsort((rows, self.timeline.stream[rows], self.timeline.phase[rows]))]

    def _numbered(self, wanted: list[list[list[Span]]]) -> Timeline:
        t = self.timeline
        parts: list[Ints] = [np.zeros(0, dtype=np.int64)]
        for index, streams in enumerate(wanted):
            for stream, own in enumerate(streams):
                rows = np.flatnonzero((t.phase == index) & (t.stream == stream))
                parts += [rows[low:high] for low, high in own]
        return t.only(np.concatenate(parts))

    def _work(self, edges: Floats) -> Iterator[Work]:
        return timeline_work(self.timeline)

    def _units(self) -> Iterable[UnitKey]:
        return lane_usage(self.timeline)


class Played(Simulation):
    """Kept as states, from which any stretch is played back."""

    def __init__(self, playback: Playback, engine: EngineRun) -> None:
        super().__init__(playback.program, engine)
        self.playback = playback

    @property
    def makespan(self) -> float:
        return self.playback.makespan

    @property
    def stages(self) -> list[tuple[float, float]]:
        found: list[tuple[float, float]] = []
        for run in self.playback.runs:
            if run.operations:
                found.append((float(run.begin.min()), run.last_done))
            else:
                found.append((found[-1][1], found[-1][1]) if found else (0.0, 0.0))
        return found

    def totals(self) -> Totals:
        return of_playback(self.playback)

    def between(self, start: float, end: float, groups: Collection[int] | None = None) -> Timeline:
        from npusim.engine.fast.playback import timeline

        if start >= end:
            return timeline(self.program, [])
        streams = None if groups is None else self._streams(groups)
        return timeline(self.program, list(self.playback.between(start, end, streams)))

    def _numbered(self, wanted: list[list[list[Span]]]) -> Timeline:
        from npusim.engine.fast.playback import timeline

        parts = []
        for index, streams in enumerate(wanted):
            for number in range(max(len(own) for own in streams)):
                own = [own[number] if number < len(own) else (0, 0) for own in streams]
                low, high = np.array(own).T
                parts.append((index, self.playback.numbered(index, low, high)))
        return timeline(self.program, parts)

    def _work(self, edges: Floats) -> Iterator[Work]:
        return played_work(self.playback, float(edges[0]), float(edges[-1]))

    def _units(self) -> Iterable[UnitKey]:
        return played_usage(self.playback)


def load_engine(settings: EngineSettings) -> None:
    """Have the machine code there that the engine needs, so that no run has to wait for it."""
    if settings.engine == "fast":
        from npusim.engine.fast.run import load

        load()


def simulate(
    program: Program, settings: EngineSettings | None = None, progress: Progress | None = None
) -> Simulation:
    """Simulate `program`; `progress` is called with the number of operations so far."""
    settings = settings or EngineSettings()
    if settings.engine == "reference":
        from npusim.engine import reference

        began = time.perf_counter()
        timeline = reference.simulate(program, progress=progress)
        return Listed(timeline, _took("reference", timeline.operations, began))
    from npusim.engine.fast.playback import Playback
    from npusim.engine.fast.run import Jumping, run_program

    load_engine(settings)
    jumping = Jumping(settings.exact, settings.tolerance)
    began = time.perf_counter()
    playback = Playback(program, tuple(run_program(program, jumping, progress)))
    return Played(playback, _took("fast", playback.operations, began, **_jumped(playback, jumping)))


def _took(name: str, operations: int, began: float, **jumped: Any) -> EngineRun:
    wall = time.perf_counter() - began
    return EngineRun(name, operations, wall, operations / wall if wall else 0.0, **jumped)


def _jumped(playback: Playback, jumping: Jumping) -> dict[str, Any]:
    """What the jumps of a run were, and where there were none though they were looked for."""
    runs = playback.runs
    named = zip(playback.program.phases, runs, strict=True)
    return {
        "skipped_iterations": sum(run.skipped_iterations for run in runs),
        "skipped_operations": sum(run.skipped_operations for run in runs),
        "tolerance": 0.0 if jumping.exact else jumping.tolerance,
        "error_us": sum(run.error_cycles for run in runs) / playback.program.machine.cycles_per_us,
        "unsettled": tuple(phase.name for phase, run in named if run.unsettled(jumping)),
    }
