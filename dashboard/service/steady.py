"""The steady state of a run as bars, from where core 0 begins a trip of its loop: runs of different kernels
can be laid under one another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from npusim.program import PhaseProgram, Role, Trips
from npusim.simulate import Simulation
from npusim.timeline import Floats, Timeline

TRIPS = 2
"""trips that are shown of the loop that takes longest"""
BARS = 420
"""operations of one core that are drawn at most"""
FEW = 3
"""a loop of fewer trips has no steady state; one inside it may have"""
LOOKED = 6
"""how often a stretch is doubled to find trips in it"""


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
    several; `trips`: of that loop; `begins`: starts of trips from here on, microseconds."""

    at_us: float
    period_us: float | None
    trips: int
    units: tuple[str, ...]
    bars: tuple[Bar, ...]
    begins: tuple[float, ...]


@dataclass(frozen=True)
class Located:
    """A simulation, and where its steady state is: starts of trips in the middle of the run, cycles; how many
    trips there are; and how many bars of core 0 there are in a cycle."""

    simulation: Simulation
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
    """Find the steady state. The middle of the run is searched for the operation that begins a trip."""
    operations, streams = max(1, sim.engine.operations), max(p.streams for p in sim.program.phases)
    middle, width = sim.makespan / 2, max(1.0, sim.makespan * 200 * streams / operations)
    found = Located(sim, (), 0, 0.0)
    for _ in range(LOOKED):
        at, upto = (middle, middle + width) if width < sim.makespan / 2 else (0.0, sim.makespan)
        timeline = sim.between(at, upto)
        own = np.flatnonzero(timeline.stream == 0)
        density = len(own) / max(upto - at, 1.0)
        found = Located(sim, (), 0, density)
        if len(own):
            number = int(np.bincount(timeline.phase[own]).argmax())
            loop = _loop(sim.program.phases[number].body)
            if loop is not None:
                starts = _starts(timeline, number, _first(loop), at)
                found = Located(sim, starts, _count(loop), density)
        if len(found.starts) > TRIPS or upto - at >= sim.makespan:
            break
        width *= 2
    return found


def _starts(timeline: Timeline, phase: int, instance: int, least: float) -> tuple[float, ...]:
    """When core 0 starts an operation, from a moment on."""
    rows = (timeline.stream == 0) & (timeline.phase == phase) & (timeline.instance == instance)
    return tuple(float(at) for at in np.sort(timeline.start[rows & (timeline.start >= least)]))


def _loop(nodes: tuple[int | Trips, ...]) -> Trips | None:
    """The outermost loop that core 0 goes through often; where there are several, the longest."""
    loops = sorted((n for n in nodes if isinstance(n, Trips)), key=_size, reverse=True)
    often = next((one for one in loops if _count(one) >= FEW), None)
    if often is not None:
        return often
    inner = (found for one in loops if _count(one) and (found := _loop(one.body)) is not None)
    return next(inner, next((one for one in loops if _count(one) > 1), None))


def _count(loop: Trips) -> int:
    """Trips of a loop on core 0; of one that goes by items, the most of any."""
    return int(loop.count.max(initial=0)) if loop.per_item else int(loop.count[0])


def _size(loop: Trips) -> int:
    return _count(loop) * sum(1 if isinstance(node, int) else _size(node) for node in loop.body)


def _first(loop: Trips) -> int:
    """The instance that begins a trip."""
    node = loop.body[0]
    return node if isinstance(node, int) else _first(node)


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
    return Steady(start / scale, period, run.trips, units, bars, begins)


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
