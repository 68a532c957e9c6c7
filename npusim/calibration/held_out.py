"""What a calibration is worth for kernels, devices or sources it did not see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import lsq_linear

from npusim.calibration.calibrator import Bools, Calibrator, Floats
from npusim.validation.predict import Case

UNSURE = 0.2
"""a row whose time is not known better than this without its group is not predicted but guessed"""
TELLING = 0.02
"""a parameter that carries less than this share of a row's time says nothing of the row"""
GROUPS: dict[str, Callable[[Case], str]] = {
    "kernel": lambda one: f"{one.row.kernel} {one.row.algorithm or ''}".strip(),
    "device": lambda one: one.row.device,
    "source": lambda one: one.row.source,
}
"""by what rows are left out together"""


@dataclass(frozen=True)
class HeldOut:
    """Rows predicted with the numbers that the other rows give. `errors`: signed, by row; `unknown`: the
    parameters that the others do not determine and that these rows depend on."""

    group: str
    rows: int
    errors: tuple[float, ...]
    unknown: tuple[str, ...]

    @property
    def mape(self) -> float:
        return float(np.mean(np.abs(self.errors)))

    @property
    def determined(self) -> bool:
        return not self.unknown


def held_out(fitted: Calibrator, kind: str) -> list[HeldOut]:
    """Leave one group out, for each group of a kind.

    The numbers without a group follow from the fit by one Gauss-Newton step over the other rows, of the same
    simulations; the group's rows are then simulated with them.
    """
    groups: dict[str, list[int]] = {}
    for number, one in enumerate(fitted.cases_):
        groups.setdefault(GROUPS[kind](one), []).append(number)
    return [_without(fitted, name, rows) for name, rows in sorted(groups.items())] if len(groups) > 1 else []


def _without(fitted: Calibrator, group: str, rows: list[int]) -> HeldOut:
    kept = ~np.isin(fitted.after_.owners, rows)
    x, known = _refitted(fitted, kept)
    covariance = fitted.covariance(kept)
    slope = fitted.after_.log_slopes[rows]
    spread = np.sqrt(np.diag(covariance))
    unsure = np.sqrt(np.einsum("ri,ij,rj->r", slope, covariance, slope)) > UNSURE
    # a number that no other row touches is not refitted, and no covariance speaks of it
    lost = ~known & fitted.free_ & (np.abs(slope * fitted.after_.x).max(axis=0) > TELLING)
    if unsure.any():
        lost |= fitted.free_ & (np.abs(slope[unsure]) * spread > UNSURE / 2).any(axis=0)
    times = [
        found.on(one.row.clock)
        for one, (found, _) in zip(
            (fitted.cases_[r] for r in rows),
            fitted.predictions(x, [fitted.cases_[r] for r in rows]),
            strict=True,
        )
    ]
    errors = np.array(times) / fitted.measured[rows] - 1
    names = tuple(one.name for one, gone in zip(fitted.parameters, lost, strict=True) if gone)
    return HeldOut(group, len(rows), tuple(float(error) for error in errors), names)


def _refitted(fitted: Calibrator, kept: Bools) -> tuple[Floats, Bools]:
    """The parameters from the residuals kept, and which of them a row still speaks of."""
    residuals, jacobian = fitted.weighted(fitted.after_, kept)
    speaks = np.abs(jacobian[(fitted.after_.owners >= 0) & kept]).max(axis=0, initial=0.0) > 0
    free = fitted.free_ & speaks
    # what no other row touches was learned from the rows that are left out
    start = np.array([one.prior[0] if one.prior else one.start for one in fitted.parameters])
    x = np.where(fitted.free_ & ~speaks, start, fitted.after_.x)
    if free.any():
        own = [one for one, moves in zip(fitted.parameters, free, strict=True) if moves]
        step = lsq_linear(
            jacobian[:, free],
            -residuals,
            bounds=(
                np.array([one.lower for one in own]) - x[free] - 1e-12,
                np.array([one.upper for one in own]) - x[free] + 1e-12,
            ),
        )
        x[free] += step.x
        lower, upper = (np.array([getattr(one, end) for one in own]) for end in ("lower", "upper"))
        x[free] = np.clip(x[free], lower, upper)
    return x, speaks
