"""A run of any length, and parts of it as bars or as a heat map.

A run is kept as the engine keeps it, as states from which any stretch is played back, so that what is held
does not grow with its length. Times are microseconds from the start of the first core.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from dashboard.service.operation import Fact, Place, fact_of
from npusim.program import Program, UnitKey
from npusim.simulate import Simulation
from npusim.timeline import Floats, Ints, Timeline
from npusim.waits import waits

BINS, OVERVIEW_BINS = 240, 320
"""of time, in the heat map of what is in view, and of the whole run"""
FINE, REPLAYED = 20, 200_000
"""parts of a bin of the whole run that are kept where looking at it takes long: where so many operations were
simulated, as nothing or little could be skipped"""
ROWS = 72
"""units that have a row each; of more, the mean of the core groups is shown"""
NARROWEST_US = 0.02


@dataclass(frozen=True)
class Window:
    """A stretch of time, microseconds."""

    start: float
    end: float

    @property
    def width(self) -> float:
        return self.end - self.start

    def within(self, whole: float) -> Window:
        """Moved, and narrowed where it must be, so that it lies in a run."""
        width = min(max(self.width, NARROWEST_US), whole)
        start = min(max(0.0, self.start), whole - width)
        return Window(start, start + width)

    def zoomed(self, factor: float) -> Window:
        """So many times as wide, around the same middle."""
        middle, half = (self.start + self.end) / 2, self.width * factor / 2
        return Window(middle - half, middle + half)

    def around(self, moment: float) -> Window:
        """As wide, with a moment in the middle."""
        return Window(moment - self.width / 2, moment + self.width / 2)

    def moved(self, share: float) -> Window:
        """So many widths later."""
        return Window(self.start + share * self.width, self.end + share * self.width)


@dataclass(frozen=True)
class Lane:
    """A row: a unit of a core group, or (None) the mean of several groups."""

    core: str
    group: int | None
    unit: str

    @property
    def name(self) -> str:
        """'aic_mac', 'aiv1_vec'."""
        return self.unit.replace("aiv_", f"{self.core}_") if self.core.startswith("aiv") else self.unit

    @property
    def kind(self) -> str:
        """'mac', 'vec', 'mte2'."""
        return self.unit.partition("_")[2]


@dataclass(frozen=True, eq=False)
class Heat:
    """Busy share [lane, bin] between `edges` of time."""

    lanes: tuple[Lane, ...]
    edges: Floats
    share: Floats


@dataclass(frozen=True, eq=False)
class Bars:
    """Operations [bar]: the row, and what is known of it; `cycles` that it occupies its unit."""

    lane: Ints
    start: Floats
    end: Floats
    done: Floats
    cycles: Floats
    facts: tuple[Fact, ...]
    waited: tuple[str, ...]
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Stage:
    """A phase of a run."""

    name: str
    start: float
    end: float


@dataclass(frozen=True, eq=False)
class Run:
    """A simulated kernel. `lanes`: the units that work, in order of core groups. `overview`: their means over
    the core groups; `fine`: each of them in smaller bins, where asking the simulation takes long."""

    simulation: Simulation
    lanes: tuple[Lane, ...]
    groups: int
    overview: Heat
    stages: tuple[Stage, ...]
    facts: tuple[tuple[Fact, ...], ...]
    fine: Heat | None

    @property
    def program(self) -> Program:
        return self.simulation.program

    @property
    def scale(self) -> float:
        """Cycles of a microsecond."""
        return self.program.machine.cycles_per_us

    @property
    def makespan(self) -> float:
        return self.simulation.makespan / self.scale

    @property
    def operations(self) -> int:
        return self.simulation.engine.operations

    def between(self, window: Window, groups: Iterable[int]) -> Timeline:
        start, end = window.start * self.scale, window.end * self.scale
        return self.simulation.between(start, end, frozenset(groups))

    def about(self, window: Window, groups: int) -> float:
        """How many operations of so many core groups a window holds, were they spread evenly."""
        return self.operations * window.width / (self.makespan or 1.0) * groups / max(1, self.groups)


def run_of(simulation: Simulation) -> Run:
    """A run, with what does not depend on where it is looked at."""
    program, scale = simulation.program, simulation.program.machine.cycles_per_us
    replayed = simulation.engine.operations - simulation.engine.skipped_operations
    parts = FINE if replayed > REPLAYED else 1
    edges = np.linspace(0.0, max(simulation.makespan, 1e-9), OVERVIEW_BINS * parts + 1)
    busy = simulation.busy(edges)
    order = {unit: number for number, unit in enumerate(program.machine.units)}
    keys = sorted(
        (key for key, share in busy.items() if share.any()), key=lambda key: (key[1], key[0], order[key[2]])
    )
    lanes = tuple(Lane(*key) for key in keys)
    stages = tuple(
        Stage(phase.name, start / scale, end / scale)
        for phase, (start, end) in zip(program.phases, simulation.stages, strict=True)
    )
    facts = tuple(tuple(fact_of(phase, one) for one in phase.instances) for phase in program.phases)
    groups = max((-(-p.streams // p.per_group) for p in program.phases), default=1)
    share = np.array([busy[key] for key in keys]).reshape(len(keys), OVERVIEW_BINS, parts)
    overview = mean_heat(Heat(lanes, edges[::parts] / scale, share.mean(axis=2)))
    fine = Heat(lanes, edges / scale, share.reshape(len(keys), -1)) if parts > 1 else None
    return Run(simulation, lanes, groups, overview, stages, facts, fine)


def mean_heat(heat: Heat) -> Heat:
    """The mean of the core groups, a row for each unit of a core."""
    units = list(dict.fromkeys((lane.core, lane.unit) for lane in heat.lanes))
    of = np.array([units.index((lane.core, lane.unit)) for lane in heat.lanes], dtype=np.int64)
    groups = max(1, len({lane.group for lane in heat.lanes}))
    total = np.zeros((len(units), heat.share.shape[1]))
    np.add.at(total, of, heat.share)
    return Heat(tuple(Lane(core, None, unit) for core, unit in units), heat.edges, total / groups)


# --- parts of it ---------------------------------------------------------------------------------


def heat_of(run: Run, more: Window, window: Window, lanes: tuple[Lane, ...]) -> Heat:
    """Busy shares of some lanes, or of their means where there are too many for a row each."""
    fine = run.fine
    if fine is not None and window.width / BINS >= fine.edges[1]:
        heat = _gathered(fine, more, window.width / BINS, lanes)
    else:
        bins = max(1, round(BINS * more.width / window.width))
        edges = np.linspace(more.start, more.end, bins + 1)
        busy = run.simulation.busy(edges * run.scale)
        none = np.zeros(bins)
        share = np.array([busy.get(_key(lane), none) for lane in lanes]).reshape(len(lanes), bins)
        heat = Heat(lanes, edges, share)
    return heat if len(lanes) <= ROWS else mean_heat(heat)


def _gathered(fine: Heat, more: Window, width: float, lanes: tuple[Lane, ...]) -> Heat:
    """A window in bins of about some width, each of whole bins of a finer map."""
    each, last = fine.edges[1], len(fine.edges) - 1
    step = max(1, round(width / each))
    low, high = int(more.start / each) // step * step, int(np.ceil(more.end / each))
    places = np.unique(np.minimum(np.arange(low, high + step, step), last))
    kept = np.isin(np.arange(len(fine.lanes)), [fine.lanes.index(lane) for lane in lanes])
    upto = np.concatenate((np.zeros((len(lanes), 1)), np.cumsum(fine.share[kept], axis=1)), axis=1)
    return Heat(lanes, fine.edges[places], np.diff(upto[:, places], axis=1) / np.diff(places))


def _key(lane: Lane) -> UnitKey:
    assert lane.group is not None
    return lane.core, lane.group, lane.unit


def bars_of(run: Run, rows: Timeline, lanes: tuple[Lane, ...]) -> Bars:
    """Rows of a timeline as bars on some lanes."""
    number = {_key(lane): place for place, lane in enumerate(lanes)}
    lane, place = rows.lanes(), np.full(rows.operations, -1, dtype=np.int64)
    for index, phase in enumerate(run.program.phases):
        own = np.flatnonzero(rows.phase == index)
        if len(own):
            table = np.array([
                [number.get(phase.unit_of(stream, one), -1) for one in range(len(phase.lanes))]
                for stream in range(phase.streams)
            ])  # fmt: skip
            place[own] = table[rows.stream[own], lane[own]]
    shown = np.flatnonzero(place >= 0)
    phases, streams, numbers, instances = (
        getattr(rows, name)[shown].tolist() for name in ("phase", "stream", "number", "instance")
    )
    facts = tuple(run.facts[phase][instance] for phase, instance in zip(phases, instances, strict=True))
    places = tuple(map(Place, phases, streams, numbers))
    start, end, done = (getattr(rows, name)[shown] / run.scale for name in ("start", "end", "done"))
    return Bars(
        place[shown], start, end, done, rows.end[shown] - rows.start[shown], facts,
        tuple(waits(rows, shown)), places,
    )  # fmt: skip
