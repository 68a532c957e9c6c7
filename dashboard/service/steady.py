"""The steady state of a run as bars, from where core 0 begins a trip of its loop: runs of different kernels
can be laid under one another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from npusim.order import Span, trips_around
from npusim.program import PhaseProgram, Role, Trips
from npusim.simulate import Simulation
from npusim.timeline import Floats, Ints, Timeline

TRIPS = 2
"""trips that are shown of the loop that takes longest"""
BARS = 420
"""operations of one core that are drawn at most"""
FEW = 3
"""a loop of fewer trips has no steady state; one inside it may have"""
NEAR = 20_000
"""operations that are played back to see when trips among them start"""
SEEN = 24
"""trips after the first whose starts are told"""
LOOKED = 6
"""how often a stretch is doubled to find a loop in it"""


@dataclass(frozen=True)
class Bar:
    """An operation on a unit, microseconds from where the picture begins: it occupies the unit up to `end`
    and is done at `done`."""

    unit: str
    name: str
    start: float
    end: float
    done: float


@dataclass(frozen=True)
class Steady:
    """What core 0 (of vector cores the first of its group) does from the start of a trip on. `at_us`: when
    that is; `period_us`: from the start of a trip to that of the next on average, None where no loop has
    several; `trips`: of that loop; `begins`: starts of trips from here on, microseconds; `phase`: of several
    the one that this is of, which takes longest."""

    phase: str
    at_us: float
    period_us: float | None
    trips: int
    units: tuple[str, ...]
    bars: tuple[Bar, ...]
    begins: tuple[float, ...]


@dataclass(frozen=True)
class Located:
    """A simulation, and where its steady state is: in which phase; starts of trips in the middle of it,
    cycles; how many trips there are; and how many bars of core 0 there are in a cycle."""

    simulation: Simulation
    phase: int
    starts: tuple[float, ...]
    trips: int
    density: float

    @property
    def start(self) -> float:
        return self.starts[0] if self.starts else 0.0

    @property
    def period(self) -> float | None:
        """Cycles; the mean over the trips that were seen."""
        seen = len(self.starts) - 1
        return (self.starts[-1] - self.starts[0]) / seen if seen > 0 else None

    @property
    def per_us(self) -> float:
        return self.simulation.program.machine.cycles_per_us


def locate(sim: Simulation) -> Located:
    """Find the steady state: the trips of a loop in the middle of the phase that takes longest."""
    spent = [end - start for start, end in sim.stages]
    phase = int(np.argmax(spent))
    program, operations = sim.program.phases[phase], max(1, sim.engine.operations)
    middle, most = sim.stages[phase][0] + spent[phase] / 2, max(1.0, spent[phase])
    width = max(1.0, sim.makespan * 200 * max(one.streams for one in sim.program.phases) / operations)
    found = Located(sim, phase, (), 0, 0.0)
    for _ in range(LOOKED):
        whole = width >= most / 2
        at, upto = (sim.stages[phase][0], sim.stages[phase][0] + most) if whole else (middle, middle + width)
        timeline = sim.between(at, upto, {0})
        own = np.flatnonzero((timeline.stream == 0) & (timeline.phase == phase))
        found = replace(found, density=len(own) / (upto - at))
        if (looped := _looped(program, timeline, own)) is not None:
            number, depth, trips = looped
            return replace(found, starts=_starts(sim, phase, _trips(program, number, depth)), trips=trips)
        if whole:
            break
        width *= 2
    return found


def _looped(program: PhaseProgram, timeline: Timeline, rows: Ints) -> tuple[int, int, int] | None:
    """An operation of core 0 in a loop, how deep that loop is, and its trips: the outermost around what runs
    most often that has FEW trips, else several."""
    _, first, often = np.unique(timeline.instance[rows], return_index=True, return_counts=True)
    order = np.argsort(-often, kind="stable").tolist()
    for least in (FEW, 2):
        for place in order:
            number = int(timeline.number[rows[first[place]]])
            for depth, (loop, _) in enumerate(trips_around(program, 0, number)):
                if (trips := _count(loop)) >= least:
                    return number, depth, trips
    return None


def _starts(sim: Simulation, phase: int, numbers: list[int]) -> tuple[float, ...]:
    """When core 0 starts operations: at once those that are near the first, else the first two."""
    near = [number for number in numbers if number - numbers[0] <= NEAR]
    if len(near) > 1:
        start = sim.numbered(phase, 0, near[0], near[-1] + 1).start
        return tuple(float(start[number - near[0]]) for number in near)
    return tuple(float(sim.numbered(phase, 0, number, number + 1).start[0]) for number in numbers[:2])


def _count(loop: Trips) -> int:
    """Trips of a loop on core 0, with a first that is lowered apart; of one that goes by items, the most of
    any."""
    return int(loop.count.max(initial=0) if loop.per_item else loop.count[0]) + loop.resumes


def _trips(program: PhaseProgram, number: int, depth: int) -> list[int]:
    """The operations of core 0 that begin trips, of the loop so deep around operation `number`: that of its
    trip and those after it, and, at the end of the loop, before it."""
    here = trips_around(program, 0, number)
    around, (loop, (first, end)) = here[:depth], here[depth]

    def trip(other: int) -> Span | None:
        """The trip of the same loop in which another operation lies."""
        try:
            there = trips_around(program, 0, other) if other >= 0 else []
        except IndexError:
            return None  # behind the last operation
        same = len(there) > depth and there[:depth] == around and there[depth][0] is loop
        return there[depth][1] if same else None

    found = [first]
    while len(found) <= SEEN and (after := trip(end)) is not None:
        found.append(after[0])
        end = after[1]
    while len(found) <= TRIPS and (before := trip(found[0] - 1)) is not None:
        found.insert(0, before[0])
    return found


# --- bars ----------------------------------------------------------------------------------------


def width_us(found: list[Located]) -> float:
    """How much of all runs is shown, microseconds: some trips of the longest, or the whole run, and no more
    than can be drawn of the busiest."""
    whole = [run.simulation.makespan - run.start for run in found]
    wanted = (
        (TRIPS * run.period if run.period else rest) / run.per_us
        for run, rest in zip(found, whole, strict=True)
    )
    drawn = (BARS / run.density / run.per_us for run in found if run.density > 0)
    return max(1e-3, min(max(wanted), min(drawn, default=np.inf)))


def steady(run: Located, width: float) -> Steady:
    """What core 0 does in `width` microseconds of its steady state."""
    scale, start = run.per_us, run.start
    timeline = run.simulation.between(start, start + width * scale)
    bars = tuple(_bars(timeline, start, scale))
    present = {bar.unit for bar in bars}
    units = tuple(name for name in run.simulation.program.machine.units if name in present)
    begins = tuple((at - start) / scale for at in run.starts if at - start <= width * scale)
    period = None if run.period is None else run.period / scale
    phases = run.simulation.program.phases
    phase = phases[run.phase].name if len(phases) > 1 and run.starts else ""
    return Steady(phase, start / scale, period, run.trips, units, bars, begins)


def _bars(timeline: Timeline, start: float, scale: float) -> Iterator[Bar]:
    """The operations of the first core group that take time, each unit of several cores once."""
    for row in np.flatnonzero((timeline.stream == 0) & (timeline.done > timeline.start)):
        phase: PhaseProgram = timeline.program.phases[int(timeline.phase[row])]
        instance = phase.instances[int(timeline.instance[row])]
        unit = phase.lanes[instance.lane].unit
        first = next(number for number, lane in enumerate(phase.lanes) if lane.unit == unit)
        if instance.lane != first or instance.role == Role.barrier:
            continue
        times = (timeline.start[row], timeline.end[row], timeline.done[row])
        yield Bar(unit, instance.name, *((float(at) - start) / scale for at in times))


# --- the whole run -------------------------------------------------------------------------------


def busy(sim: Simulation, parts: int) -> dict[str, Floats]:
    """Of each unit that works, the share of each of `parts` equal parts of the run in which it is busy, on
    the mean core."""
    edges = np.linspace(0.0, max(sim.makespan, 1.0), parts + 1)
    found: dict[str, list[Floats]] = {}
    for (_, _, unit), shares in sim.busy(edges).items():
        found.setdefault(unit, []).append(shares)
    return {name: np.mean(found[name], axis=0) for name in sim.program.machine.units if name in found}
