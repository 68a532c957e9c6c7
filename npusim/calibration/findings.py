"""What a fit points at: values that the design does not allow, and errors that no number explains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from npusim.calibration.calibrator import Calibrator
from npusim.calibration.held_out import GROUPS, TELLING
from npusim.shares import signed


@dataclass(frozen=True)
class Finding:
    """Something a fit points at: `about` a parameter or a group of rows, and what."""

    about: str
    text: str


def findings(fitted: Calibrator) -> list[Finding]:
    """Values beyond what the design allows, and errors that no number explains."""
    found = [_beyond(one.parameter.name, one.value, one.parameter.theory) for one in fitted.learned_]
    found += [
        Finding(
            one.parameter.name,
            f"stands at the end of what a fit may do ({one.value:.4g}): rows ask for more than a number of "
            "this kind should give",
        )
        for one in fitted.learned_
        if one.determined and _at_end(one.value, one.parameter.lower, one.parameter.upper)
    ]
    return [one for one in found if one] + _missing(fitted)


def _beyond(name: str, value: float, theory: float | None) -> Finding | None:
    if theory is None or value <= theory * (1 + 1e-9):
        return None
    return Finding(name, f"{value:.4g} is above {theory:.4g}, which the design cannot exceed")


def _at_end(value: float, lower: float, upper: float) -> bool:
    near = 1e-3 * (upper - lower)
    return value > upper - near or (lower > 0 and value < lower + near)


def _missing(fitted: Calibrator) -> list[Finding]:
    """Groups of one kernel on one device that stay off together, though the fit was free to move."""
    groups: dict[tuple[str, str], list[int]] = {}
    for number, one in enumerate(fitted.cases_):
        groups.setdefault((GROUPS["kernel"](one), fitted.machine(one).name), []).append(number)
    found = []
    for (kernel, device), rows in groups.items():
        errors = fitted.errors_after_[rows]
        if abs(np.median(np.log1p(errors))) < 2 * fitted.noise:
            continue
        slope = np.abs(fitted.after_.log_slopes[rows] * fitted.after_.x).mean(axis=0) * fitted.free_
        names = [fitted.parameters[place].name for place in np.argsort(-slope)[:2] if slope[place] > TELLING]
        held = f"; {' and '.join(names)} could, and other rows hold them" if names else ""
        off = signed(float(np.median(errors)), 0)
        found.append(
            Finding(
                f"{kernel} on {device}",
                f"off by {off} after the fit ({len(rows)} rows), which no free "
                f"number explains{held}: look for a mechanism that is missing",
            )
        )
    return found
