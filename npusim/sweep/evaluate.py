"""What a point is found to be: its time, and the error of what it computes. Runs in worker processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from npusim import cost
from npusim.data import Computed, Data
from npusim.errors import InputError, NpusimError
from npusim.kernels import KernelEntry
from npusim.machine import Machine
from npusim.problem import Problem
from npusim.registry import find_kernels, load_registry
from npusim.report import outline
from npusim.settings import NumericsSettings
from npusim.simulate import simulate
from npusim.study import find_data, prepare
from npusim.sweep.point import Point, code_digest, machine_of
from npusim.totals import Totals
from npusim.where import netting

Status = Literal["done", "skipped", "failed"]


@dataclass(frozen=True)
class Outcome:
    """What became of a point. `built`: what the kernel was built with; `result`: figures by name; `reason`:
    why there are none."""

    status: Status
    built: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    reason: str = ""


def evaluate(
    registry: str, kernel: str, algorithms: tuple[str, ...], code: str, points: Sequence[Point]
) -> list[Outcome]:
    """The outcome of each point. `registry`: 'module:attribute' of the built-in kernels; `algorithms`: those
    of the sweep that may be the user's own; `code`: the digest of the code of who asks, which must be that of
    this process."""
    if code != code_digest():
        raise InputError("a worker runs another version of npusim; install the same one everywhere")
    entry = _entry(registry, kernel, algorithms)
    return [_outcome(entry, point) for point in points]


def _outcome(entry: KernelEntry, point: Point) -> Outcome:
    try:
        return _found(entry, point)
    except NpusimError as error:
        return Outcome("skipped", reason=str(error))
    except MemoryError:
        return Outcome("failed", reason="does not fit into memory")


def _found(entry: KernelEntry, point: Point) -> Outcome:
    data = _data(entry, point.problem, point.numerics)
    machine = machine_of(point.machine)
    ready = prepare(entry, point.problem, point.options, machine, point.numerics, data)
    kernel, result = ready.kernel, dict[str, Any]()
    with netting(kernel.where):
        if ready.program:
            result |= _time(simulate(ready.program, point.engine).totals(), machine)
        if data and ready.sample:
            result |= _errors(data.compute(ready.sample))
    built = {"algorithm": kernel.algorithm, "variant": kernel.variant, **kernel.settings}
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
def _entry(registry: str, kernel: str, algorithms: tuple[str, ...]) -> KernelEntry:
    return find_kernels(load_registry(registry), kernel, algorithms)


_last: tuple[tuple[str, Problem, NumericsSettings], Data] | None = None
"""the data of the point before, and what the kernels before have computed of them: points come sorted"""


def _data(entry: KernelEntry, problem: Problem, numerics: NumericsSettings) -> Data | None:
    global _last
    key = (entry.name, problem, numerics)
    if _last is None or _last[0] != key:
        _last = None  # which frees what it holds before there is more
        data = find_data(entry, problem, numerics)
        if data is None:
            return None
        _last = (key, data.remembering())
    return _last[1]
