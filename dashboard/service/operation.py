"""One operation of a run: what it does, when, what it waited for, and what waited for it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dashboard.service.explore import written_bytes
from dashboard.service.tilegraph import product
from dashboard.state import whole
from npusim.dependences import Dependence, dependences
from npusim.graph import View
from npusim.ops import OpKind
from npusim.program import Instance, PhaseProgram, Program, UnitKey
from npusim.simulate import Simulation
from npusim.text import operation_text
from npusim.timeline import Ints, Timeline
from npusim.waits import DEPENDENCE, moved, waited_for

AROUND = 1200
"""operations before and after one, among which its dependences are looked for"""
MOVES = (OpKind.load, OpKind.store, OpKind.move)


@dataclass(frozen=True)
class Place:
    """Which operation of a run: the phase, the stream of it (a core group, or a vector core of one), and the
    number in the stream's program order."""

    phase: int
    stream: int
    number: int

    def __str__(self) -> str:
        return f"{self.phase}.{self.stream}.{self.number}"


@dataclass(frozen=True)
class Fact:
    """What is the same each time an instance runs. `bytes`: what a transfer writes; `through`: the bytes by
    shared pool; `product`: sizes m, n and k; `elements`: values that any other operation writes."""

    name: str
    text: str
    unit: str
    phase: str
    instance: int
    instructions: int
    occupancy: float
    latency: float
    bytes: float
    through: dict[str, float]
    product: tuple[int, int, int] | None
    masked: bool
    elements: int


@dataclass(frozen=True)
class Other:
    """An operation at the other end of a dependence. `kind`: read, stream, reuse or drain; `last`: it is what
    the start, or the issue, waited for last."""

    place: Place
    name: str
    unit: UnitKey
    kind: str
    start: float
    end: float
    done: float
    last: bool


@dataclass(frozen=True)
class Chosen:
    """A chosen operation; times in cycles, and `scale` of them a microsecond. `idle`: cycles that its unit
    stood idle before it, None where it was the first."""

    place: Place
    fact: Fact
    unit: UnitKey
    issued: float
    start: float
    end: float
    done: float
    scale: float
    waited: str
    idle: float | None
    before: tuple[Other, ...]
    after: tuple[Other, ...]


def parsed(program: Program, text: str) -> Place | None:
    """A place from its text; None where a program has none such."""
    numbers = [number for part in text.split(".") if (number := whole(part)) is not None]
    if len(numbers) != 3 or text.count(".") != 2:
        return None
    place = Place(*numbers)
    known = place.phase < len(program.phases) and place.stream < program.phases[place.phase].streams
    return place if known else None


def fact_of(phase: PhaseProgram, instance: Instance) -> Fact:
    """What is known of an instance."""
    op = instance.operation
    moves = op is not None and op.kind in MOVES
    shape = product(op)
    return Fact(
        instance.name, operation_text(replace(op, label="")) if op else instance.name,
        phase.lanes[instance.lane].unit, phase.name, instance.number, instance.cost.instructions,
        float(instance.cost.occupancy), float(instance.cost.latency),
        written_bytes(op) if op is not None and moves else 0.0, moved(instance), shape,
        op is not None and any(mask is not None for mask in op.fractals),
        0 if op is None or moves or shape or not isinstance(op.dst, View) else int(np.prod(op.dst.shape)),
    )  # fmt: skip


def chosen_of(simulation: Simulation, facts: tuple[tuple[Fact, ...], ...], place: Place) -> Chosen | None:
    """All about an operation; None where the run has none such."""
    rows = simulation.numbered(place.phase, place.stream, place.number - AROUND, place.number + AROUND)
    found = np.flatnonzero(rows.number == place.number)
    if not len(found):
        return None
    row = int(found[0])
    ends = dependences(rows, row)
    lanes = rows.lanes()
    earlier = np.flatnonzero((lanes == lanes[row]) & (rows.number < place.number))
    idle = max(0.0, float(rows.start[row] - rows.end[earlier].max())) if len(earlier) else None
    phase = simulation.program.phases[place.phase]
    return Chosen(
        place, facts[place.phase][int(rows.instance[row])], phase.unit_of(place.stream, int(lanes[row])),
        float(rows.issued[row]), float(rows.start[row]), float(rows.end[row]), float(rows.done[row]),
        simulation.program.machine.cycles_per_us, waited_for(rows, row), idle,
        tuple(_other(rows, lanes, one, row, one.row) for one in ends.before),
        tuple(_other(rows, lanes, one, one.row, row) for one in ends.after),
    )  # fmt: skip


def _other(rows: Timeline, lanes: Ints, one: Dependence, waiter: int, cause: int) -> Other:
    """The other end of a dependence: `waiter` waits for `cause`."""
    row = one.row
    phase, stream = int(rows.phase[row]), int(rows.stream[row])
    program = rows.program.phases[phase]
    last = (rows.bound[waiter] in DEPENDENCE and rows.cause[waiter] == cause) or (
        rows.issue_bound[waiter] in DEPENDENCE and rows.issue_cause[waiter] == cause
    )
    return Other(
        Place(phase, stream, int(rows.number[row])), program.instances[int(rows.instance[row])].name,
        program.unit_of(stream, int(lanes[row])), one.kind, float(rows.start[row]), float(rows.end[row]),
        float(rows.done[row]), bool(last),
    )  # fmt: skip
