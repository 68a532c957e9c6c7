"""Predicting a measured row: the kernel with the structure that was measured, timed on the row's machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from npusim import cost
from npusim.errors import InputError, NpusimError, Unsupported, did_you_mean
from npusim.graph import Kernel
from npusim.kernels import Algorithm, KernelEntry
from npusim.lower import lower
from npusim.machine import Machine
from npusim.measurements.rows import BUSY, Measurement
from npusim.problem import Options, Problem, Target
from npusim.program import Program
from npusim.report import task_us
from npusim.settings import EngineSettings, MachineSettings
from npusim.simulate import simulate
from npusim.totals import Totals

SIZES = ("chunk", "matrices", "batch", "seq_len", "heads", "key_heads", "head_dim", "m", "n", "k", "dtype")
"""columns of a row that are sizes of a problem"""
CHOICES = ("variant", "tile_m", "tile_n", "out_dtype")
"""columns of a row that are options of a kernel"""
LAYOUT = ("heads", "seq_len", "batch", "key_heads")


@dataclass(frozen=True)
class Case:
    """A row, and what npusim runs for it on the profile `profile`."""

    row: Measurement
    entry: KernelEntry
    problem: Problem
    options: Options
    settings: MachineSettings

    @property
    def algorithm(self) -> Algorithm:
        return self.entry.algorithm(self.options.algorithm)

    @cached_property
    def machine(self) -> Machine:
        return self.settings.machine()

    @cached_property
    def kernel(self) -> Kernel:
        """The tile graph; of the machine's sizes only, so that it stays while costs are fitted."""
        return self.entry.build(self.problem, self.options, Target.of(self.machine))


def case(row: Measurement, registry: Mapping[str, KernelEntry], settings: MachineSettings) -> Case:
    """What runs for a row. Unsupported, with the reason, for one that nothing can model."""
    if row.kernel not in registry:
        raise Unsupported(f"no kernel {row.kernel!r}; {did_you_mean(row.kernel, registry)}")
    entry = registry[row.kernel]
    try:
        algorithm = entry.algorithm(row.algorithm)
        problem = Problem.parse(**_sizes(row, entry))
        found = Case(row, entry, problem, Options.parse(**_choices(row, algorithm)), settings)
        return _on_cores(found)
    except NpusimError as error:
        raise Unsupported(str(error)) from None


def _sizes(row: Measurement, entry: KernelEntry) -> dict[str, object]:
    """The sizes of a row that its kernel has. A row that says how its matrices lie in memory counts them by
    that, else by their number."""
    idle = LAYOUT if row.heads is None else ("matrices",)
    names = [name for name in SIZES if name in (*entry.sizes, "dtype") and name not in idle]
    return {name: value for name in names if (value := getattr(row, name)) is not None}


def _choices(row: Measurement, algorithm: Algorithm) -> dict[str, object]:
    """The options that a row states."""
    if row.variant is not None and row.variant not in algorithm.variants:
        near = did_you_mean(row.variant, algorithm.variants)
        raise InputError(f"{row.kernel} {algorithm.name} has no variant {row.variant!r}; {near}")
    if (row.repeat or 1) > 1:
        raise InputError(f"{row.kernel}: no kernel repeats its work, and this one did {row.repeat} times")
    fixed = algorithm.textbook_only if row.variant not in (None, "textbook") else frozenset()
    known = {"variant", *algorithm.parameters} - fixed
    choices = {name: getattr(row, name) for name in CHOICES if name in known}
    return {"algorithm": row.algorithm, **{name: v for name, v in choices.items() if v is not None}}


def _on_cores(found: Case) -> Case:
    """The case on as many cores as the row says, where the kernel would take more."""
    cores = found.row.cores
    if cores is None:
        return found
    program = lower(found.kernel, found.machine)
    used = max(phase.streams for phase in program.phases)
    if used <= cores:
        return found
    per_group = max(phase.per_block for phase in program.phases)
    groups = -(-cores // per_group)
    return Case(
        found.row, found.entry, found.problem, found.options,
        found.settings.model_copy(update={"cores": groups}),
    )  # fmt: skip


@dataclass(frozen=True)
class Prediction:
    """Times by clock, and busy times by column of a row, microseconds."""

    times: Mapping[str, float]
    busy: Mapping[str, float]
    totals: Totals

    def on(self, clock: str) -> float:
        """The time on a row's clock; on the device's where the row does not say which."""
        return self.times["task_duration" if clock == "not stated" else clock]


def predict(one: Case, machine: Machine | None = None) -> Prediction:
    """Time a case, on its own machine or on one with other costs."""
    machine = machine or one.machine
    program = lower(one.kernel, machine, l2=one.row.l2)
    totals = simulate(program, EngineSettings()).totals()
    task = task_us(totals)
    times = {
        "core": totals.makespan / machine.cycles_per_us,
        "task_duration": task,
        "event": cost.event_us(machine, task),
    }
    return Prediction(times, _busy(totals, program), totals)


def _busy(totals: Totals, program: Program) -> dict[str, float]:
    """Mean over the cores used, by column of a row."""
    busy = {}
    units = {unit for column in BUSY for unit in units_of(column, program)}
    for column in BUSY:
        own = [lane.busy for lane in totals.lanes if lane.unit in units_of(column, program)]
        if own:
            busy[column] = sum(own) / len(own) / program.machine.cycles_per_us
    return busy if units else {}


def units_of(column: str, program: Program) -> tuple[str, ...]:
    """The unit that a column of busy time speaks of: of scalar units and loads the cube core's, if it works."""
    name = BUSY[column]
    if "_" in name:
        return (name,)
    used = {phase.lanes[i.lane].unit[:3] for phase in program.phases for i in phase.instances}
    return (f"{'aic' if 'aic' in used or program.machine.fused else 'aiv'}_{name}",)
