"""What the time on a critical path was spent on: cycles by name and by field of the profile.

Every stretch of the path is named by what took the time and by the profile field it comes from, so that the
makespan can be split by operation, by mechanism and by evidence.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from npusim import cost
from npusim.backward import (
    HELD,
    ISSUING,
    MOMENTS,
    OCCUPIED,
    READ,
    REUSE,
    SCALAR,
    START,
    STEPS,
    UNIT,
    Backward,
)  # fmt: skip
from npusim.machine import Machine
from npusim.program import Instance, PhaseProgram
from npusim.strands import Piece
from npusim.timeline import Floats, Ints

CONTENTION = {"hbm": "memory.hbm_gb_per_s", "l2": "memory.l2_gb_per_s", "l1": "core.l1_port_bytes_per_cycle"}
SHARING = 0.01
"""cycles beyond its own cost from which on an operation is said to have shared memory"""


@dataclass(frozen=True)
class CriticalPath:
    """Cycles by name and by field; both sum to the makespan.

    `limited`: by rate of a path and shared pool, the cycles that transfers would have taken at that rate,
    of those that took longer by sharing the pool: what a faster path would not save, and a wider pool would.
    """

    by_name: dict[str, float]
    by_field: dict[str, float]
    limited: dict[tuple[str, str], float]


class Spent:
    """Cycles by name and field."""

    def __init__(self) -> None:
        self.names: dict[str, float] = defaultdict(float)
        self.fields: dict[str, float] = defaultdict(float)
        self.limited: dict[tuple[str, str], float] = defaultdict(float)

    def add(self, name: str, field: str, cycles: float) -> None:
        self.names[name] += cycles
        self.fields[field] += cycles

    def path(self) -> CriticalPath:
        return CriticalPath(dict(self.names), dict(self.fields), dict(self.limited))


class PhaseSpent:
    """Sums over the part of the path in one phase: [.., 0] how many stretches, [.., 1] cycles.

    `occupied` [2 x instance + whether it shared memory]; `latency` [instance]; `flags` [lane x lanes + lane];
    `issue`; `order`, what lies between two operations of a unit.
    """

    def __init__(self, phase: PhaseProgram) -> None:
        self.phase = phase
        instances, lanes = len(phase.instances), len(phase.lanes)
        self.stated = np.array([sum(c for _, c in i.cost.terms) for i in phase.instances])
        self.pooled = np.array([_pool(i) != "" for i in phase.instances])
        self.occupied, self.latency = np.zeros((2 * instances, 2)), np.zeros((instances, 2))
        self.flags = np.zeros((lanes * lanes, 2))
        self.issue, self.order = np.zeros((1, 2)), np.zeros((1, 2))

    def add(self, back: Backward, places: Ints, times: Ints) -> None:
        """Enter the steps from these places, each so many times. None leads out of the piece."""
        steps, before = back.step[places], back.before[places]
        for step in range(STEPS):
            own = np.flatnonzero(steps == step)
            if len(own):
                self._add(back.piece, step, places[own], before[own] // MOMENTS, times[own])

    def _add(self, piece: Piece, step: int, places: Ints, earlier: Ints, times: Ints) -> None:
        """Enter steps of one kind, from places to operations `earlier`."""
        c, row = piece.columns, places // MOMENTS
        moment = np.where(places % MOMENTS == START, c.start[row], c.issued[row])
        if step == OCCUPIED:
            took, instance = c.end[row] - c.start[row], c.instance[row]
            shared = self.pooled[instance] & (took - self.stated[instance] > SHARING)
            _count(self.occupied, 2 * instance + shared, took, times)
        elif step in (ISSUING, SCALAR):
            issued = c.issued[row if step == ISSUING else earlier]
            _count(self.issue, np.zeros_like(row), moment - issued, times)
        elif step == UNIT:
            _count(self.order, np.zeros_like(row), moment - c.end[earlier], times)
        if step in (READ, HELD):
            _count(self.latency, c.instance[earlier], c.done[earlier] - c.end[earlier], times)
        if step in (READ, REUSE):
            there = (c.done if step == READ else c.end)[earlier]
            pair = piece.lane[earlier] * len(self.phase.lanes) + piece.lane[row]
            _count(self.flags, pair, moment - there, times)

    def add_latency(self, last: Piece) -> float:
        """Enter that of the last operation of the phase, for whose result nothing in it waited; returns when
        it was done."""
        c = last.columns
        _count(self.latency, c.instance, c.done - c.end, np.ones(1))
        return float(c.done[0])

    def enter(self, spent: Spent, machine: Machine) -> None:
        """Name all of it."""
        for key, count, cycles in _entries(self.occupied):
            self._enter_occupied(spent, self.phase.instances[key // 2], bool(key % 2), count, cycles)
        for key, _, cycles in _entries(self.latency):
            instance = self.phase.instances[key]
            stated = sum(c for _, c in instance.cost.latency_terms) or 1.0
            for field, own in instance.cost.latency_terms:
                spent.add(f"{instance.name} latency", field, cycles * own / stated)
        for key, _, cycles in _entries(self.flags):
            source, target = (self.phase.lanes[lane] for lane in divmod(key, len(self.phase.lanes)))
            across = source.core != target.core
            field, _ = cost.flag_field(machine, source.unit, target.unit, across)
            spent.add("cross-core flags" if across else "flags", field, cycles)
        for _, _, cycles in _entries(self.issue):
            spent.add("issue", "core.scalar.issue_cycles", cycles)
        for _, _, cycles in _entries(self.order):
            spent.add("rounding", "rounding", cycles)

    def _enter_occupied(
        self, spent: Spent, instance: Instance, shared: bool, count: float, cycles: float
    ) -> None:
        """The time on the unit: its cost terms, and what contention or streaming added."""
        pool = _pool(instance)
        for field, own in instance.cost.terms:
            spent.add(instance.name, field, count * own)
            cycles -= count * own
            if shared:
                spent.limited[field, CONTENTION[pool]] += count * own
        name = f"{instance.name} (sharing {pool})" if shared else instance.name
        spent.add(name, CONTENTION.get(pool, "rounding"), cycles)


def _pool(instance: Instance) -> str:
    return instance.flows[0].pools[0] if instance.flows else ""


def _count(sums: Floats, keys: Ints, cycles: Floats, times: Ints | Floats) -> None:
    sums[:, 0] += np.bincount(keys, times, len(sums))
    sums[:, 1] += np.bincount(keys, cycles * times, len(sums))


def _entries(sums: Floats) -> Iterator[tuple[int, float, float]]:
    """(key, how many, cycles) of what there is."""
    for key in np.flatnonzero(sums[:, 0]):
        yield int(key), float(sums[key, 0]), float(sums[key, 1])
