"""How good predictions have been, by kernel and device, and what that lets one expect of another one.

`hw_profiles/measurements/accuracy.csv` holds the errors over the shipped rows; a test compares it with what
the model predicts today (`npusim.validation.accuracy`). Its rows of scope `held out` are the errors over
kernels and devices whose rows a calibration did not see, which `npusim calibrate` reports.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from npusim.graph import Kernel
from npusim.machine import Machine, quantities
from npusim.problem import Problem
from npusim.profiles import PACKAGE, load_machine, profile_names

FILE = "accuracy.csv"
GROUP, WHOLE, HELD_OUT_KERNEL, HELD_OUT_DEVICE = "group", "whole", "held out kernel", "held out device"
BORROWED = 3
"""rows of the mean accuracy that a group's own counts with: a single row that fits well proves little"""

ROUNDED = "rounded"
"""how measured kernels hand products to the vector cores"""


@dataclass(frozen=True)
class Entry:
    """Errors over some rows. `variants`, `dtypes`: of the rows, separated by spaces; `chunk_min`,
    `chunk_max`: 0 where they have no chunk."""

    scope: str
    kernel: str = ""
    algorithm: str = ""
    device: str = ""
    variants: str = ""
    dtypes: str = ""
    chunk_min: int = 0
    chunk_max: int = 0
    rows: int = 0
    mape: float = 0.0
    worst: float = 0.0


@dataclass(frozen=True)
class Expected:
    """The error to expect of a prediction (a share of the time; None where nothing is known), from what, and
    in which respects it lies outside what was measured."""

    error: float | None
    basis: str
    extrapolated: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        return {
            "expected_error": self.error,
            "expected_from": self.basis,
            "extrapolated": list(self.extrapolated),
        }


@lru_cache
def recorded() -> tuple[Entry, ...]:
    """The entries of the package."""
    file = resources.files(PACKAGE) / "measurements" / FILE
    rows = csv.DictReader(io.StringIO(file.read_text(encoding="utf-8")))
    return tuple(
        Entry(
            row["scope"], row["kernel"], row["algorithm"], row["device"], row["variants"], row["dtypes"],
            int(row["chunk_min"]), int(row["chunk_max"]), int(row["rows"]), float(row["mape"]),
            float(row["worst"]),
        )
        for row in rows
    )  # fmt: skip


def measured_rows(device: str) -> dict[str, int]:
    """How many measured rows stand behind the profile of a device, by kernel."""
    found: dict[str, int] = {}
    for one in recorded():
        if one.scope == GROUP and one.device == device:
            found[one.kernel] = found.get(one.kernel, 0) + one.rows
    return found


def expected(kernel: Kernel, problem: Problem, machine: Machine) -> Expected:
    """The error to expect, from the rows of the same kernel, algorithm and device if there are any."""
    device = machine.device or machine.name
    found = _of_rows(kernel, problem, device, machine.family)
    if found.error is None or not _changed(machine, device):
        return found
    reasons = (*found.extrapolated, f"numbers of {device} were changed")
    return Expected(max(found.error, _scope(HELD_OUT_KERNEL)), found.basis, reasons)


def _changed(machine: Machine, device: str) -> bool:
    """Whether numbers differ from those of the built-in profile of the device."""
    if device not in profile_names():
        return False
    now, known = quantities(machine), quantities(load_machine(device))
    return {path: one.value for path, one in now.items()} != {path: one.value for path, one in known.items()}


def _of_rows(kernel: Kernel, problem: Problem, device: str, family: str) -> Expected:
    known = recorded()
    of_kernel = [one for one in known if one.scope == GROUP and one.kernel == kernel.name]
    alike = [one for one in of_kernel if one.algorithm in ("", kernel.algorithm)]
    here = next((one for one in alike if one.device == device), None)
    if here is not None:
        beyond = _beyond(here, kernel, problem)
        name = f"{here.kernel} {here.algorithm}".strip()
        if not beyond:
            whole = _scope(WHOLE)
            error = (here.rows * here.mape + BORROWED * whole) / (here.rows + BORROWED)
            return Expected(error, f"{here.rows} measured rows of {name} on {here.device}", ())
        return Expected(_scope(HELD_OUT_KERNEL), "kernels left out of the calibration", beyond)
    devices = {one.device for one in known if one.scope == GROUP}
    reasons = []
    if not of_kernel:
        reasons.append(f"kernel {kernel.name} was not measured")
    elif not alike:
        reasons.append(f"{kernel.name} {kernel.algorithm} was not measured")
    if device not in devices:
        reasons.append(f"profile {device} is of no device that was measured")
    elif alike:
        reasons.append(f"{kernel.name} was not measured on {device}")
    if family != "ascend":
        return Expected(None, "no machine of this family was measured", tuple(reasons))
    unseen = {}
    if device not in devices:
        unseen["devices"] = _scope(HELD_OUT_DEVICE)
    if device in devices or not alike:
        unseen["kernels"] = _scope(HELD_OUT_KERNEL)
    what = max(unseen, key=lambda name: unseen[name])
    return Expected(unseen[what], f"{what} left out of the calibration", tuple(reasons))


def _beyond(one: Entry, kernel: Kernel, problem: Problem) -> tuple[str, ...]:
    """In which respects a problem lies outside the rows of its kernel, algorithm and device."""
    reasons = []
    if kernel.variant not in one.variants.split():
        reasons.append(f"structure {kernel.variant} (measured: {one.variants.replace(' ', ', ')})")
    if (exchange := kernel.settings.get("exchange", ROUNDED)) != ROUNDED:
        reasons.append(f"products handed over as {exchange} (measured: {ROUNDED})")
    if problem.dtype not in one.dtypes.split():
        reasons.append(f"dtype {problem.dtype} (measured: {one.dtypes.replace(' ', ', ')})")
    if one.chunk_max and not one.chunk_min <= problem.chunk <= one.chunk_max:
        most = f" to {one.chunk_max}" if one.chunk_max > one.chunk_min else ""
        reasons.append(f"chunk {problem.chunk} (measured: {one.chunk_min}{most})")
    return tuple(reasons)


def _scope(scope: str) -> float:
    return next(one.mape for one in recorded() if one.scope == scope)
