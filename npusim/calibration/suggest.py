"""Which measurement would tell most that is not known yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from npusim.calibration.calibrator import Calibrator, Floats, inverse
from npusim.calibration.parameters import LEAST_SHARE
from npusim.calibration.slopes import slopes
from npusim.validation.predict import Case


@dataclass(frozen=True)
class Suggestion:
    """A measurement, by how much of its size the mean uncertainty would shrink, and what it would settle."""

    case: Case
    gain: float
    settles: tuple[str, ...]


def suggest(fitted: Calibrator, candidates: Sequence[Case]) -> list[Suggestion]:
    """Candidates by what one more row of each, as noisy as the others, would add; the best first, and of one
    measurement on several profiles the best alone.

    A row with slopes g shrinks the covariance C to C - C g g' C / (noise^2 + g' C g). The uncertainty is the
    mean standard error of the parameters, each as a share of itself and at most 1.
    """
    prior = _prior_covariance(fitted)
    rooms = [LEAST_SHARE * (one.upper - one.lower) for one in fitted.parameters]
    sizes = np.maximum(np.abs(fitted.after_.x), rooms)
    own = [(one, float(value)) for one, value in zip(fitted.parameters, fitted.after_.x, strict=True)]
    found = []
    for one, (made, machine) in fitted.possible(fitted.after_.x, candidates):
        by_path = slopes(made, machine, one.row.clock)
        time = made.on(one.row.clock)
        g = np.array([p.slope(machine.name, x, by_path) / time for p, x in own])
        reach = prior @ g
        after = np.diag(prior) - reach**2 / (fitted.noise**2 + g @ reach)
        was, now = (np.minimum(1.0, np.sqrt(np.maximum(0.0, d)) / sizes) for d in (np.diag(prior), after))
        gained = was - now
        names = [fitted.parameters[place].name for place in np.argsort(-gained)[:2] if gained[place] > 0.05]
        found.append(Suggestion(one, float(gained.sum() / max(1e-12, was.sum())), tuple(names)))
    best: dict[object, Suggestion] = {}
    for idea in sorted(found, key=lambda one: -one.gain):
        best.setdefault((idea.case.row.kernel, idea.case.problem, idea.case.options), idea)
    return list(best.values())


def _prior_covariance(fitted: Calibrator) -> Floats:
    """What is known of all parameters, those too that did not move: from rows, documents, or nothing."""
    kept = np.ones(len(fitted.after_.residuals), dtype=bool)
    _, jacobian = fitted.weighted(fitted.after_, kept)
    return inverse(jacobian)
