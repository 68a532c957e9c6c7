"""What a point is found to be: its time, and the error of what it computes. Runs in worker processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, Literal

from npusim import cost
from npusim.data import Computed, Data
from npusim.errors import InputError, NpusimError
from npusim.kernels import KernelEntry
from npusim.machine import Machine
from npusim.problem import Problem
from npusim.registry import find_kernels, load_registry
from npusim.report import outline
from npusim.settings import MachineSettings, NumericsSettings
from npusim.simulate import simulate
from npusim.study import find_data, prepare
from npusim.sweep.point import Point, Stamp, code_digest, file_digest, machine_digest, own_digest, own_files
from npusim.totals import Totals
from npusim.user_kernel import Files
from npusim.where import netting
from npusim.workers import Last

Status = Literal["done", "skipped", "failed"]


@dataclass(frozen=True)
class Outcome:
    """What became of a point. `built`: what the kernel was built with; `result`: figures by name; `reason`:
    why there are none."""

    status: Status
    built: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    reason: str = ""


class Changed(InputError):
    """A file is not what it was when the sweep began: no fault of the point, which is to be tried again."""


def evaluate(
    registry: str, kernel: str, algorithms: tuple[str, ...], stamp: Stamp, points: Sequence[Point]
) -> list[Outcome]:
    """The outcome of each point. `registry`: 'module:attribute' of the built-in kernels; `algorithms`: those
    of the sweep that may be the user's own; `stamp`: what who asks has found, which must be what is here."""
    if stamp.code != code_digest():
        raise InputError("a worker runs another version of npusim; install the same one everywhere")
    entry = _entry(registry, kernel, algorithms, own_digest(stamp.files))
    return [_outcome(entry, point, stamp) for point in points]


def _outcome(entry: KernelEntry, point: Point, stamp: Stamp) -> Outcome:
    machine = _machine(point.machine, stamp.machines[point.machine])
    inputs = point.numerics.inputs
    data = partial(_data, entry, point.problem, point.numerics, stamp.inputs[inputs] if inputs else "")
    try:
        return _found(entry, point, machine, data)
    except Changed as error:
        return Outcome("failed", reason=str(error))
    except NpusimError as error:
        return Outcome("skipped", reason=str(error))
    except MemoryError:
        return Outcome("failed", reason="does not fit into memory")


def _found(entry: KernelEntry, point: Point, machine: Machine, drawn: Callable[[], Data | None]) -> Outcome:
    data = drawn()
    ready = prepare(entry, point.problem, point.options, machine, point.numerics, data)
    kernel, result = ready.kernel, dict[str, Any]()
    with netting(kernel.where):
        if ready.program:
            result |= _time(simulate(ready.program, point.engine).totals(), machine)
        if data and ready.sample:
            result |= _errors(data.compute(ready.sample))
    built = {"algorithm": kernel.algorithm, "variant": kernel.variant, **kernel.settings}
    if point.numerics.inputs:  # whose sizes are the file's
        built |= entry.sizes_json(ready.problem)
    return Outcome("done", built, result)


def _time(totals: Totals, machine: Machine) -> dict[str, Any]:
    found = outline(totals, machine)
    return {
        "time_us": found.task_us, "core_us": totals.makespan / machine.cycles_per_us,
        "event_us": cost.event_us(machine, found.task_us),
        "bound": found.bound, "unit": found.dominant_unit, "utilisation": found.utilisation,
        "hbm_bytes": found.bytes["hbm_read"] + found.bytes["hbm_written"],
        "l2_bytes": found.bytes["l2_read"] + found.bytes["l2_written"],
    }  # fmt: skip


def _errors(found: Computed) -> dict[str, Any]:
    """Of the main output; `range`: the largest value on the way, as a share of the limit of its dtype."""
    errors, ranges = next(iter(found.errors.values())), found.execution.ranges
    return {
        "relative_error": errors.relative_error, "worst_relative_error": errors.worst_relative_error,
        "snr_db": errors.snr_db, "worst_snr_db": errors.worst_snr_db,
        "max_abs_error": errors.max_abs_error, "nonfinite": errors.nonfinite,
        "saturated": found.execution.saturated,
        "range": max((one.max_abs / one.limit for one in ranges), default=0.0),
        "computed": found.samples, "total": found.total,
    }  # fmt: skip


@lru_cache(maxsize=4)
def _entry(registry: str, kernel: str, algorithms: tuple[str, ...], stamp: str) -> KernelEntry:
    """The kernel, its own files being those of `stamp`: a worker of a cluster outlives a change of them."""
    files: Files = {}
    entry = find_kernels(load_registry(registry), kernel, algorithms, files)
    if own_digest(own_files(files)) != stamp:
        raise InputError(f"{kernel}: a worker finds other files than were asked for; run the sweep again")
    return entry


@lru_cache(maxsize=64)
def _machine(settings: MachineSettings, stamp: str) -> Machine:
    machine = settings.machine()
    if machine_digest(machine) != stamp:
        raise InputError(f"{settings.profile}: a worker finds another profile than was asked for")
    return machine


_before = Last()
"""the data of the point before, and what the kernels before have computed of them: points come sorted"""


def _check(path: str, stamp: str) -> None:
    """Changed where a file of inputs is gone, or another one than was asked for."""
    try:
        found = file_digest(path)
    except InputError as error:
        raise Changed(str(error)) from None
    if found != stamp:
        raise Changed(f"{path}: a worker finds another file than was asked for")


def _data(entry: KernelEntry, problem: Problem, numerics: NumericsSettings, stamp: str) -> Data | None:
    def find() -> Data | None:
        if numerics.inputs:
            _check(numerics.inputs, stamp)
        data = find_data(entry, problem, numerics)
        return data and data.remembering()

    found: Data | None = _before.get((entry.name, problem, numerics, stamp), find)
    return found
