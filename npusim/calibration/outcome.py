"""What a fit writes: which numbers go into which profile, and with what provenance."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from npusim.calibration.calibrator import Calibrator
from npusim.calibration.held_out import TELLING
from npusim.profiles import find, load_machine, stated
from npusim.refit import Fitted, refit
from npusim.validation.predict import Case

DIGITS = 4
"""significant digits of a value that is written: more than any fit determines"""
SHIPPED = "hw_profiles/measurements/ascend.csv"
"""where the shipped measurements stand, as they are cited"""


def citation(where: str, cases: Sequence[Case]) -> str:
    """What new numbers were fitted to: the name of the measurements, and their sources."""
    sources = list(dict.fromkeys(one.row.source for one in cases if one.row.source))
    return f"{where}, rows by line; {len(cases)} timings" + (f" from {'; '.join(sources)}" if sources else "")


def texts(
    fitted: Calibrator, targets: Mapping[str, Path], citation: str, date: datetime.date
) -> dict[Path, str]:
    """The text of each new profile, by its file. `targets`: the file for each profile that was fitted, by the
    name or path it was given by."""
    made = {}
    places = {target.resolve() for target in targets.values()}
    for profile, target in targets.items():
        own = determined(fitted, load_machine(profile).name)
        base = Path(str(find(profile))).resolve()
        if base == target.resolve() and len(places) > 1:
            # rewritten in place with others: what it takes over from one of them is written there
            own = {path: one for path, one in own.items() if path in stated(profile)}
        if own:
            made[target] = refit(profile, own, citation, date, target)
    return made


def determined(fitted: Calibrator, profile: str) -> dict[str, Fitted]:
    """The numbers of a profile that rows determined."""
    found: dict[str, Fitted] = {}
    for place, learned in enumerate(fitted.learned_):
        if learned.determined:
            rows = bearing(fitted, place)
            for path, value in learned.parameter.values(profile, learned.value).items():
                error = learned.error * value / learned.value if learned.value else learned.error
                found[path] = Fitted(_rounded(value), rows, _rounded(error))
    return found


def bearing(fitted: Calibrator, place: int) -> tuple[int, ...]:
    """Lines of the measurements whose time depends on parameter number `place`; all where hardly one does."""
    share = np.abs(fitted.after_.log_slopes[:, place] * fitted.after_.x[place])
    lines = [int(one.row.place.rpartition(":")[2]) for one in fitted.cases_]
    telling = [line for line, carried in zip(lines, share, strict=True) if carried > TELLING]
    return tuple(telling or lines)


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
