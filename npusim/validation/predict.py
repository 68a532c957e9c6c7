"""Predicting a measured row: the kernel with the structure that was measured, timed on the row's machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from npusim import cost
from npusim.errors import InputError, NpusimError, Unsupported, did_you_mean
from npusim.graph import Kernel
from npusim.kernels import Algorithm, KernelEntry
from npusim.lower import lower
from npusim.machine import Machine
from npusim.measurements.rows import BUSY, Measurement
from npusim.problem import L2State, Options, Problem, Target
from npusim.program import Program
from npusim.registry import Registry
from npusim.report import task_us
from npusim.settings import EngineSettings, MachineSettings
from npusim.simulate import simulate
from npusim.totals import Totals

SIZES = ("chunk", "matrices", "batch", "seq_len", "heads", "key_heads", "head_dim", "m", "n", "k", "dtype")
"""columns of a row that are sizes of a problem"""
LAYOUT = ("heads", "seq_len", "batch", "key_heads")
"""those that say how matrices lie in memory"""
CHOICES = ("tile_m", "tile_n", "out_dtype")
"""columns of a row that are options of a kernel"""


@dataclass(frozen=True)
class Work:
    """What npusim runs: one for all rows that measured the same. Hashable, and small enough to be sent to a
    worker."""

    kernel: str
    problem: Problem
    options: Options
    settings: MachineSettings
    l2: L2State

    def build(self, registry: Registry) -> Kernel:
        """The tile graph; of the machine's sizes only, so that it stays while costs are fitted."""
        return registry[self.kernel].build(self.problem, self.options, Target.of(self.settings.machine()))


@dataclass(frozen=True)
class Case:
    """A row, and what npusim runs for it."""

    row: Measurement
    problem: Problem
    options: Options
    settings: MachineSettings

    @property
    def work(self) -> Work:
        return Work(self.row.kernel, self.problem, self.options, self.settings, self.row.l2)


def case(row: Measurement, registry: Registry, settings: MachineSettings) -> Case:
    """What runs for a row. Unsupported, with the reason, for one that nothing can model."""
    if row.kernel not in registry:
        raise Unsupported(f"no kernel {row.kernel!r}; {did_you_mean(row.kernel, registry)}")
    entry = registry[row.kernel]
    try:
        algorithm = entry.algorithm(row.algorithm)
        problem = Problem.parse(**_sizes(row, entry))
        found = Case(row, problem, Options.parse(**_choices(row, algorithm)), settings)
        return _on_cores(found, registry)
    except NpusimError as error:
        raise Unsupported(str(error)) from None


def _sizes(row: Measurement, entry: KernelEntry) -> dict[str, object]:
    """The sizes of a row that its kernel has. A row that says how its matrices lie in memory counts them by
    that, else by their number."""
    idle = LAYOUT if row.heads is None else ("matrices",)
    names = [name for name in SIZES if name in (*entry.sizes, "dtype") and name not in idle]
    return {name: value for name in names if (value := getattr(row, name)) is not None}


def _choices(row: Measurement, algorithm: Algorithm) -> dict[str, object]:
    """The options that a row states and its kernel leaves a choice of."""
    if row.variant is not None and row.variant not in algorithm.variants:
        near = did_you_mean(row.variant, algorithm.variants)
        raise InputError(f"{row.kernel} {algorithm.name} has no variant {row.variant!r}; {near}")
    if (row.repeat or 1) > 1:
        raise InputError(f"{row.kernel} repeats its work {row.repeat} times, which no kernel does")
    fixed = algorithm.textbook_only if row.variant not in (None, "textbook") else frozenset()
    known = [name for name in CHOICES if name in algorithm.parameters - fixed]
    stated = {name: value for name in known if (value := getattr(row, name)) is not None}
    return {"algorithm": row.algorithm, "variant": row.variant, **stated}


def _on_cores(found: Case, registry: Registry) -> Case:
    """The case on as many cores as the row says, where the kernel would take more."""
    if found.row.cores is None:
        return found
    program = lower(found.work.build(registry), found.settings.machine())
    most = max(program.phases, key=lambda phase: phase.streams)
    if most.streams <= found.row.cores:
        return found
    groups = -(-found.row.cores // most.per_group)
    return replace(found, settings=found.settings.model_copy(update={"cores": groups}))


@dataclass(frozen=True)
class Prediction:
    """Times by clock, busy times by column of a row, and what the task time is made of by profile field, all
    in microseconds. `limited`: see `npusim.spent.CriticalPath`; `worked`: by column, the cycles of a
    unit's own costs by field, as microseconds of the mean core; `units`: the unit that a column speaks of;
    `idle`: see `is_idle`."""

    times: Mapping[str, float]
    busy: Mapping[str, float]
    by_field: Mapping[str, float]
    limited: Mapping[tuple[str, str], float]
    worked: Mapping[str, Mapping[str, float]]
    units: Mapping[str, str]
    idle: bool

    def on(self, clock: str) -> float:
        """The time on a row's clock; on the device's where the row does not say which."""
        return self.times["task_duration" if clock == "not stated" else clock]


def predict(work: Work, kernel: Kernel, machine: Machine) -> Prediction:
    """Time the kernel of some work on a machine."""
    program = lower(kernel, machine, l2=work.l2)
    return prediction(simulate(program, EngineSettings()).totals())


def prediction(totals: Totals) -> Prediction:
    """What a run says of times, busy times and the numbers that carry them."""
    program, machine = totals.program, totals.program.machine
    task, scale = task_us(totals), machine.cycles_per_us
    times = {
        "core": totals.makespan / scale, "task_duration": task, "event": cost.event_us(machine, task),
    }  # fmt: skip
    path, units = totals.path, units_of(program)
    launch = {"launch.base_us": machine.launch.base_us.value}
    if program.mixed:
        launch["launch.mixed_us"] = machine.launch.mixed_us.value
    return Prediction(
        times,
        {column: busy for column, unit in units.items() if (busy := _busy(totals, unit)) is not None},
        {name: cycles / scale for name, cycles in path.by_field.items()} | launch,
        {key: cycles / scale for key, cycles in path.limited.items()},
        {column: worked for column, unit in units.items() if (worked := _worked(totals, unit))},
        units,
        is_idle(program.kernel),
    )


def is_idle(kernel: Kernel) -> bool:
    """Whether nothing is read, written or handed over, so that all time is that of the launch."""
    return not any(op.dst or op.srcs or op.sets for phase in kernel.phases for op in phase.operations)


def _busy(totals: Totals, unit: str) -> float | None:
    """The mean over the cores that use the unit; None where none does."""
    own = totals.busy.get(unit)
    return None if own is None else float(own.busy.mean()) / totals.program.machine.cycles_per_us


def _worked(totals: Totals, unit: str) -> dict[str, float]:
    program = totals.program
    lanes = len(totals.busy[unit].busy) if unit in totals.busy else 0
    worked: dict[str, float] = {}
    for phase, counts in zip(program.phases, totals.counts, strict=True):
        for instance, count in zip(phase.instances, counts, strict=True):
            if phase.lanes[instance.lane].unit == unit:
                for name, cycles in instance.cost.terms:
                    us = cycles * int(count) / lanes / program.machine.cycles_per_us
                    worked[name] = worked.get(name, 0.0) + us
    return worked


def units_of(program: Program) -> dict[str, str]:
    """The unit that each column of busy time speaks of: of scalar units and loads the cube core's, if that
    works."""
    used = {phase.lanes[i.lane].unit[:3] for phase in program.phases for i in phase.instances}
    core = "aic" if "aic" in used or program.machine.fused else "aiv"
    return {column: name if "_" in name else f"{core}_{name}" for column, name in BUSY.items()}
