"""What Explore shows: the time of a kernel and what it is made of, and its error."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from npusim.data import Data
from npusim.dtypes import dtype
from npusim.graph import Access, Kernel, Operation, View
from npusim.inputs import reference_inverse
from npusim.lower import lower
from npusim.machine import Machine, quantities
from npusim.metrics import Errors
from npusim.problem import Problem
from npusim.program import Program
from npusim.report import Report, summarise
from npusim.settings import EngineSettings
from npusim.simulate import Simulation, simulate
from npusim.study import compute
from npusim.totals import Totals
from npusim.units import unit_of
from npusim.validation.expected import Expected, expected

ENGINE = EngineSettings(what_if=False)
FRACTAL_VALUES = 256


@dataclass(frozen=True)
class Doubt:
    """A number that no source documents, and the share of the time that it carries."""

    field: str
    share: float
    evidence: str
    value: float
    unit: str
    source: str


@dataclass(frozen=True)
class Peaks:
    """What the machine could do at most: operations and bytes per second, and of the cube and the vector unit
    what the kernel asks of them (a multiply-add counts as two)."""

    cube_ops_per_s: float
    vector_ops_per_s: float
    hbm_bytes_per_s: float
    l2_bytes_per_s: float
    cube_ops: float
    vector_ops: float


@dataclass(frozen=True)
class Timing:
    """A timed kernel. `operations`: by unit, the time that each operation occupies it on its mean core, the
    longest first, microseconds. `traffic`: bytes by path; `capacity`: bytes of each level."""

    kernel: Kernel
    machine: Machine
    problem: Problem
    report: Report
    expected: Expected
    operations: dict[str, list[tuple[str, float]]]
    traffic: dict[str, float]
    capacity: dict[str, int]
    peaks: Peaks
    doubts: tuple[Doubt, ...]
    simulated: int
    skipped: int
    wall_s: float

    @property
    def cores(self) -> str:
        """What takes part, as the report counts it: core groups, or the vector cores where no cube works."""
        own, units = self.report.cores, self.report.units.items()
        alone = all("unused" in unit.waiting for name, unit in units if name.startswith("aic"))
        return f"{own} {'vector core' if alone else 'core group'}{'' if own == 1 else 's'}"


def simulated(kernel: Kernel, machine: Machine) -> Simulation:
    """A run of a kernel that was built, by the fast engine."""
    return simulate(lower(kernel, machine), ENGINE)


def timing_of(ran: Simulation, problem: Problem) -> Timing:
    """What a run says in sum."""
    program, totals = ran.program, ran.totals()
    kernel, machine = program.kernel, program.machine
    report = summarise(totals, machine)
    known = expected(kernel, problem, machine)
    return Timing(
        kernel, machine, problem, report, known, _by_unit(totals, machine), _traffic(totals),
        {name: level.bytes.value for name, level in machine.levels.items()}, _peaks(report, program, machine),
        tuple(_doubts(report, machine)), ran.engine.operations, ran.engine.skipped_operations,
        ran.engine.wall_s,
    )  # fmt: skip


def _by_unit(totals: Totals, machine: Machine) -> dict[str, list[tuple[str, float]]]:
    """Cycles that operations occupy a unit over all of its lanes, as microseconds of the mean lane: with the
    latencies and the waiting they sum to the core time."""
    lanes = {unit: len(own.busy) for unit, own in totals.busy.items()}
    found: dict[str, dict[str, float]] = {unit: defaultdict(float) for unit in lanes}
    for phase, occupied in zip(totals.program.phases, totals.occupied, strict=True):
        for instance, cycles in zip(phase.instances, occupied, strict=True):
            unit = phase.lanes[instance.lane].unit
            if cycles > 0 and unit in found:
                found[unit][instance.name] += float(cycles) / machine.cycles_per_us / lanes[unit]
    return {unit: sorted(own.items(), key=lambda item: -item[1]) for unit, own in found.items()}


def _traffic(totals: Totals) -> dict[str, float]:
    """Bytes that went over each path, over all cores."""
    moved: dict[str, float] = defaultdict(float)
    for phase, counts in zip(totals.program.phases, totals.counts, strict=True):
        for instance, count in zip(phase.instances, counts, strict=True):
            path = next((field for field, _ in instance.cost.terms if field.startswith("paths.")), "")
            if path and instance.operation is not None:
                moved[path.split(".")[1]] += written_bytes(instance.operation) * int(count)
    return dict(moved)


def written_bytes(op: Operation) -> float:
    """What a transfer writes."""
    if not isinstance(op.dst, View | Access):
        return 0.0
    name = op.dst.tile.dtype if isinstance(op.dst, View) else op.dst.tensor.dtype
    mask = op.fractals[0] if op.fractals else None
    values = op.dst.shape[0] * op.dst.shape[1] if mask is None else int(mask.sum()) * FRACTAL_VALUES
    return values * dtype(name).bytes


def _peaks(report: Report, program: Program, machine: Machine) -> Peaks:
    """Of the cube in the kernel's operand dtype, of the vector unit for elements of that size."""
    per_s = machine.cycles_per_us * 1e6
    core, groups = machine.core, machine.core.groups.value
    depth = core.cube.k0.get(program.kernel.dtype)
    cube = 2 * 16 * 16 * depth.value * groups * per_s if depth else 0.0
    lanes = core.vector.repeat_bytes.value / max(1.0, dtype(program.kernel.dtype).bytes)
    vector = lanes * groups * max(1, core.vector_cores.value) * per_s
    roof = report.roofline
    return Peaks(
        cube, vector,
        machine.pool_bytes_per_cycle("hbm") * per_s, machine.pool_bytes_per_cycle("l2") * per_s,
        roof["cube_us"] * 1e-6 * cube, roof["vector_us"] * 1e-6 * vector,
    )  # fmt: skip


def _doubts(report: Report, machine: Machine) -> Iterator[Doubt]:
    known = quantities(machine)
    for field, share, evidence in report.assumed:
        number = known[field]
        source = machine.sources.get(number.source, number.source)
        yield Doubt(field, share, evidence, number.value, unit_of(field), source)


# --- numerics ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Span:
    """The largest value that an operation wrote, and the limit of its dtype."""

    name: str
    dtype: str
    max_abs: float
    limit: float
    nonfinite: int
    saturated: int


@dataclass(frozen=True)
class Accuracy:
    """The error of a kernel on a sample. `heat` [C, C]: of an inverse, the root mean square error of each
    element of T over the sample; None for other kernels."""

    errors: dict[str, Errors]
    spans: tuple[Span, ...]
    samples: int
    total: int
    pieces: str
    origin: str
    heat: npt.NDArray[np.float64] | None

    @property
    def main(self) -> Errors:
        """That of the main output."""
        return next(iter(self.errors.values()))


def accuracy_of(data: Data, kernel: Kernel) -> Accuracy:
    """Compute a kernel that was built for `data.sample`."""
    found = compute(data, kernel)
    done = found.computed
    spans = tuple(
        Span(r.name, r.dtype, r.max_abs, r.limit, r.nonfinite, r.saturated) for r in done.execution.ranges
    )
    return Accuracy(
        dict(done.errors), spans, done.samples, done.total, done.piece[1], found.origin,
        _heat(done.execution.inputs.get("L"), done.outputs.get("T")),
    )  # fmt: skip


def _heat(
    given: npt.NDArray[np.generic] | None, result: npt.NDArray[np.generic] | None
) -> npt.NDArray[np.float64] | None:
    """Root mean square error [C, C] of inverses `result` [M, C, C] of `given`; None where there are none."""
    if given is None or result is None or result.ndim != 3:
        return None
    truth = reference_inverse(np.reshape(given, result.shape).astype(np.float64))
    with np.errstate(all="ignore"):
        return np.asarray(np.sqrt(np.mean((result.astype(np.float64) - truth) ** 2, axis=0)))
