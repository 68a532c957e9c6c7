"""What removing the mechanism that costs most would buy: the same program, timed without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from npusim.ideals import idealise
from npusim.lower import lower
from npusim.program import Instance, PhaseProgram, Program
from npusim.report import Report, task_us
from npusim.settings import EngineSettings
from npusim.simulate import simulate

MOST_OPERATIONS = 2_000_000
"""timelines beyond are not made twice: it would take minutes"""


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
    units = [(name, time) for name, time in report.work if name in program.machine.units]
    name, cost = max([*report.mechanisms, *units], key=lambda item: item[1])
    if cost <= 0:
        return None
    if report.operations > MOST_OPERATIONS:
        return WhatIf(name, cost, None, None)
    if name in program.machine.units:
        freed = without_work(program, name)
    else:
        freed = lower(program.kernel, idealise(program.machine, [name]))
    time = task_us(simulate(freed, engine.engine, progress)[0])
    return WhatIf(name, cost, time, report.task_us / time if time else None)


def without_work(program: Program, unit: str) -> Program:
    """The program with all work of `unit` done in no time; its latencies stay."""

    def free(phase: PhaseProgram) -> PhaseProgram:
        made = (
            _free(instance) if phase.lanes[instance.lane].unit == unit else instance
            for instance in phase.instances
        )
        return replace(phase, instances=tuple(made))

    return replace(program, phases=tuple(free(phase) for phase in program.phases))


def _free(instance: Instance) -> Instance:
    return replace(instance, cost=replace(instance.cost, occupancy=0.0, terms=()), flows=())
