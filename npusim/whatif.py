"""What removing the mechanism that costs most would buy: the same program, timed without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from npusim.ideals import IDEALS, SCALAR, idealise, without_scalar_work, worker
from npusim.lower import lower
from npusim.machine import Machine
from npusim.program import GRID, Instance, PhaseProgram, Program, on_grid
from npusim.report import Report, task_us
from npusim.settings import EngineSettings
from npusim.simulate import simulate

MOST_OF_REFERENCE = 2_000_000
"""operations beyond which the reference engine does not run twice: it would take minutes"""


@dataclass(frozen=True)
class WhatIf:
    """`name`, a mechanism that --ideal knows or a unit, carries `path_us` of the task time on the critical
    path. Were it free, other work would become critical: `time_us` is the task time then, None where it was
    not simulated again."""

    name: str
    path_us: float
    time_us: float | None
    speedup: float | None

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "path_us": self.path_us,
            "time_us": self.time_us,
            "speedup": self.speedup,
        }


def imagine(
    program: Program,
    report: Report,
    engine: EngineSettings,
    progress: Callable[[int], None] | None = None,
) -> WhatIf | None:
    """Time a kernel without what dominates it: a mechanism, or the work of one unit. None where nothing costs
    anything."""
    name, cost = max([*report.mechanisms, *report.work], key=lambda item: item[1])
    if cost <= 0:
        return None
    if engine.engine == "reference" and report.operations > MOST_OF_REFERENCE:
        return WhatIf(name, cost, None, None)
    time = task_us(simulate(without(program, name), engine, progress))
    return WhatIf(name, cost, time, report.task_us / time if time else None)


def without(program: Program, name: str) -> Program:
    """The program without a mechanism, or without the work of a unit."""
    if name in IDEALS:
        return lower(program.kernel, idealise(program.machine, [name]))
    if name == SCALAR:
        return lower(program.kernel, without_scalar_work(program.machine))
    return replace(program, phases=tuple(_freed(phase, name, program.machine) for phase in program.phases))


def _freed(phase: PhaseProgram, unit: str, machine: Machine) -> PhaseProgram:
    """The phase with all work of `unit` done in no time. What other mechanisms put into its operations stays:
    latencies between dependent instructions, hand-overs, the pace of issue, and the sharing of memory."""

    def free(instance: Instance) -> Instance:
        if phase.lanes[instance.lane].unit != unit:
            return instance
        cost = instance.cost
        terms = tuple((field, cycles) for field, cycles in cost.terms if worker(field, machine) != unit)
        least = 1 / GRID if instance.flows else 0.0  # a rate of its own that limits nothing
        occupancy = max(on_grid(sum(cycles for _, cycles in terms)), least)
        return replace(instance, cost=replace(cost, occupancy=occupancy, terms=terms))

    return replace(phase, instances=tuple(free(instance) for instance in phase.instances))
