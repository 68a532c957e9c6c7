"""Measured against predicted: errors by row, kernel and device, and what carries them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from npusim.ideals import by_mechanism, work_by_unit
from npusim.machine import Machine
from npusim.measurements.rows import SIZES, Measurement
from npusim.registry import Registry
from npusim.shares import percent, signed
from npusim.validation.predict import Case, Prediction
from npusim.validation.predictor import Predictor, Progress
from npusim.validation.select import Refused, Selection

LAUNCH_ONLY = "launch only"
UNSTATED_STRUCTURE = "structure not stated"
UNSTATED_DEVICE = "device not stated"
APART = {
    LAUNCH_ONLY: "kernels that do nothing but start",
    UNSTATED_STRUCTURE: "kernels whose structure no source states; another stands for it",
    UNSTATED_DEVICE: "rows whose source does not say which chip it was; another stands for it",
}
"""rows that are predicted and counted by themselves: they say little of the model"""
NOISE = 0.07
"""times that differ by less are not ordered: as much lies between rows of identical work"""
BEFORE_CORES = ("launch.base_us", "launch.mixed_us")
"""what of a prediction the clock `core` does not count"""


class Culprit(NamedTuple):
    """What dominates a difference, the reason for the claim, and the reason in a word."""

    unit: str
    why: str
    short: str


@dataclass(frozen=True)
class Row:
    """One row, predicted. `apart`: a key of APART, or ''."""

    case: Case
    found: Prediction
    machine: Machine
    apart: str

    @property
    def predicted_us(self) -> float:
        return self.found.on(self.case.row.clock)

    @property
    def error(self) -> float:
        """Signed, relative to measured."""
        return self.predicted_us / self.case.row.time_us - 1

    @property
    def busy(self) -> dict[str, tuple[float, float | None]]:
        """Measured and predicted busy time by column, us; None where the model uses no such unit."""
        return {name: (us, self.found.busy.get(name)) for name, us in self.case.row.busy.items()}

    @cached_property
    def culprit(self) -> Culprit:
        """The unit or mechanism that dominates the difference, and why it is taken to.

        Where the profiler gave busy times, the unit whose busy time is off by most, if that is a good part of
        the difference; otherwise what carries most of the predicted critical path.
        """
        difference = self.predicted_us - self.case.row.time_us
        off = {
            name: seen - us
            for name, (us, seen) in self.busy.items()
            if seen is not None and name != "scalar_us" and (seen - us) * difference > 0
        }
        if off:
            worst = max(off, key=lambda name: abs(off[name]))
            us, seen = self.busy[worst]
            if abs(off[worst]) > 0.3 * abs(difference) and seen is not None:
                why = f"busy {microseconds(seen)} us, measured {microseconds(us)}"
                short = f"busy {signed(seen / us - 1, 0)}" if us else why
                return Culprit(self.found.units[worst], why, short)
        core = self.case.row.clock == "core"
        fields = {name: us for name, us in self.found.by_field.items() if not (core and name in BEFORE_CORES)}
        carried = by_mechanism(fields) | work_by_unit(fields, self.machine)
        name = max(carried, key=lambda one: carried[one])
        share = percent(carried[name] / self.predicted_us, 0)
        return Culprit(name, f"carries {share} of the prediction", share)

    def to_json(self) -> dict[str, Any]:
        row = self.case.row
        return {
            "row": row.place, "kernel": row.kernel, "algorithm": row.algorithm, "variant": row.variant,
            "sizes": {name: size for name in SIZES if (size := getattr(row, name)) is not None},
            "dtype": row.dtype, "device": row.device, "profile": self.machine.name, "clock": row.clock,
            "apart": self.apart or None, "measured_us": row.time_us, "predicted_us": self.predicted_us,
            "error": self.error,
            "busy": {n: {"measured_us": a, "predicted_us": b} for n, (a, b) in self.busy.items()},
            "dominated_by": {"unit": self.culprit.unit, "why": self.culprit.why},
        }  # fmt: skip


@dataclass(frozen=True)
class Accuracy:
    """Relative errors of some rows: mean and median of their sizes, and the worst, signed."""

    rows: int
    mape: float
    median: float
    worst: float

    def to_json(self) -> dict[str, float]:
        return {
            "rows": self.rows, "mape": self.mape, "median_error": self.median, "max_error": self.worst,
        }  # fmt: skip


@dataclass(frozen=True)
class Ranking:
    """Pairs of comparable rows (one kernel, measured on one clock, and on one device or of one problem).

    `share`: of those that differ by more than the noise, how many are predicted in the measured order.
    `speedup_error`: the median relative error of the predicted ratio of all pairs.
    """

    pairs: int
    share: float | None
    speedup_error: float | None


@dataclass(frozen=True)
class Validation:
    """All rows predicted, and those that could not be."""

    rows: list[Row]
    refused: list[Refused]

    @property
    def counted(self) -> list[Row]:
        """The rows that are not apart."""
        return [row for row in self.rows if not row.apart]

    @property
    def whole(self) -> Accuracy | None:
        return accuracy(self.counted)

    def by(self, key: Callable[[Row], str]) -> dict[str, Accuracy]:
        """Accuracy of the counted rows by some key of theirs."""
        groups: dict[str, list[Row]] = {}
        for row in self.counted:
            groups.setdefault(key(row), []).append(row)
        return {name: found for name in sorted(groups) if (found := accuracy(groups[name]))}

    @property
    def by_kernel(self) -> dict[str, Accuracy]:
        return self.by(kernel_name)

    @property
    def by_device(self) -> dict[str, Accuracy]:
        return self.by(lambda row: row.machine.name)

    @property
    def apart(self) -> dict[str, Accuracy]:
        """Accuracy of the rows that are counted by themselves, by what sets them apart."""
        found = {why: accuracy([row for row in self.rows if row.apart == why]) for why in APART}
        return {why: one for why, one in found.items() if one}

    @cached_property
    def ranking(self) -> Ranking:
        ratios = [
            (a.case.row.time_us / b.case.row.time_us, a.predicted_us / b.predicted_us)
            for a, b in itertools.combinations(self.counted, 2)
            if _comparable(a, b)
        ]
        told = [seen for seen in ratios if abs(math.log(seen[0])) > NOISE]
        right = sum((measured - 1) * (predicted - 1) > 0 for measured, predicted in told)
        off = [abs(predicted / measured - 1) for measured, predicted in ratios]
        return Ranking(len(told), right / len(told) if told else None, float(np.median(off)) if off else None)

    def to_json(self, profile: str | None) -> dict[str, Any]:
        whole, ranking = self.whole, self.ranking
        return {
            "profile": profile,
            "rows": [row.to_json() for row in self.rows],
            "mape": whole.mape if whole else None,
            "median_error": whole.median if whole else None,
            "max_error": whole.worst if whole else None,
            "ranking": ranking.share,
            "ranked_pairs": ranking.pairs,
            "speedup_error": ranking.speedup_error,
            "by_kernel": {name: one.to_json() for name, one in self.by_kernel.items()},
            "by_device": {name: one.to_json() for name, one in self.by_device.items()},
            "apart": {name: one.to_json() for name, one in self.apart.items()},
            "unsupported": [one.to_json() for one in self.refused],
        }


def microseconds(time: float) -> str:
    """As people read it: four digits at least, no exponent."""
    return f"{time:,.1f}" if time >= 1000 else f"{time:.4g}"


def kernel_name(row: Row) -> str:
    """Kernel and, where it has several, algorithm."""
    measured = row.case.row
    return f"{measured.kernel} {measured.algorithm}" if measured.algorithm else measured.kernel


def accuracy(rows: Iterable[Row]) -> Accuracy | None:
    """None of no rows."""
    errors = np.array([row.error for row in rows])
    if not len(errors):
        return None
    sizes = np.abs(errors)
    return Accuracy(
        len(errors), float(sizes.mean()), float(np.median(sizes)), float(errors[int(np.argmax(sizes))])
    )


def _comparable(a: Row, b: Row) -> bool:
    one, other = a.case, b.case
    alike = one.row.kernel == other.row.kernel and one.row.clock == other.row.clock
    return alike and (one.row.device == other.row.device or one.problem == other.problem)


def validate(selection: Selection, predictor: Predictor, progress: Progress | None = None) -> Validation:
    """Predict all selected rows. A row that the model turns down at the last moment is refused, too."""
    answers = predictor([(one, {}) for one in selection.cases], progress)
    machines: dict[Any, Machine] = {}
    rows: list[Row] = []
    refused = list(selection.refused)
    for one, answer in zip(selection.cases, answers, strict=True):
        if isinstance(answer, str):
            refused.append(Refused(one.row.place, one.row.kernel, answer))
            continue
        if one.settings not in machines:
            machines[one.settings] = one.settings.machine()
        apart = apart_of(one.row, answer.idle, predictor.kernels, one.row.place in selection.unnamed)
        rows.append(Row(one, answer, machines[one.settings], apart))
    return Validation(rows, refused)


def apart_of(row: Measurement, idle: bool, registry: Registry, unnamed: bool) -> str:
    """What sets a row apart (a key of APART), or ''. `idle`: its kernel does nothing; `unnamed`: its source
    does not name the device."""
    if idle:
        return LAUNCH_ONLY
    algorithm = registry[row.kernel].algorithm(row.algorithm)
    told = row.variant is not None or len(algorithm.variants) == 1
    if not told or row.variant in algorithm.stand_ins:
        return UNSTATED_STRUCTURE
    return UNSTATED_DEVICE if unnamed else ""
