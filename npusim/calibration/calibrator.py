"""Fitting numbers of profiles to measured rows: bounded, robust least squares on logarithms of ratios.

Residuals are log(predicted / measured) / noise of each row's time and, more loosely, of the busy times that
its profiler gave, and (value - documented) / spread of each number that documents state. Numbers that neither
rows nor documents hold stay where they were. Derivatives are read off the critical paths of the same
simulations (`npusim.calibration.slopes`). scipy.optimize.least_squares does the rest (Branch, Coleman and Li,
"A subspace, interior, and conjugate gradient method for large-scale bound-constrained minimization problems",
SIAM J. Sci. Comput. 1999).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from npusim.calibration.parameters import Parameter
from npusim.calibration.slopes import busy_slopes, slopes
from npusim.errors import InputError
from npusim.machine import Machine, override
from npusim.validation.predict import Case, Prediction
from npusim.validation.predictor import Predictor

Floats = npt.NDArray[np.float64]
Progress = Callable[[int, int, int], None]
"""called with the evaluation, and how many of its rows are predicted, of how many"""

NOISE = 0.05
"""how far measured times of identical work lie apart: 7 % between the extremes"""
BUSY_NOISE = 0.2
"""the same of busy times, whose meaning profilers do not state: some count waits"""
BUSY_COLUMNS = ("cube_us", "vector_us", "mte1_us", "mte2_us", "mte3_us", "fixpipe_us")
"""those that say something of the model's numbers; a library's scalar work is not modelled"""
LOOSE = 100.0
"""spread of a number that nothing holds, in its own size: it keeps the equations solvable, no more"""
UNDETERMINED = 0.5
"""a number that is not known better than by this share of itself is not determined"""


@dataclass(frozen=True)
class Evaluation:
    """Residuals and their derivatives at one point; `times`: predicted microseconds, by row."""

    x: Floats
    times: Floats
    residuals: Floats
    jacobian: Floats
    log_slopes: Floats
    """[row, parameter]: d log(time) / d x"""


@dataclass(frozen=True)
class Learned:
    """What is known of one parameter. `error`: one standard error; `held_by`: 'rows', 'documents' or
    'nothing'."""

    parameter: Parameter
    value: float
    error: float
    held_by: str

    @property
    def determined(self) -> bool:
        return self.held_by == "rows"


class Calibrator:
    """Fits parameters to rows. Learned values end in _.

    `noise`: standard deviation of log(measured); `loss`: of scipy, soft_l1 keeps single rows from deciding;
    `evaluations`: how often all rows are predicted at most; `tolerance`: least relative gain of one.
    """

    def __init__(
        self,
        parameters: Sequence[Parameter],
        *,
        noise: float = NOISE,
        busy_noise: float = BUSY_NOISE,
        loss: str = "soft_l1",
        evaluations: int = 8,
        tolerance: float = 1e-3,
    ) -> None:
        self.parameters = list(parameters)
        self.noise, self.busy_noise, self.loss = noise, busy_noise, loss
        self.evaluations, self.tolerance = evaluations, tolerance

    def fit(self, cases: Sequence[Case], predictor: Predictor, progress: Progress | None = None) -> Self:
        """Find the values that explain `cases` best. InputError where there is nothing to fit, or no row
        depends on any parameter."""
        if not cases or not self.parameters:
            raise InputError("calibrate: no row and no number to fit; see --measurements and --fields")
        self.cases_ = list(cases)
        self._machines = {one.settings: one.settings.machine() for one in self.cases_}
        self._predictor, self._progress = predictor, progress
        self._seen: dict[tuple[float, ...], Evaluation] = {}
        start = np.array([one.start for one in self.parameters])
        self.before_ = self._at(start)
        if not self.before_.log_slopes.any():
            raise InputError("calibrate: no row depends on any of these fields; choose others with --fields")
        found = least_squares(
            lambda x: self._at(x).residuals,
            start,
            jac=lambda x: self._at(x).jacobian,
            bounds=([one.lower for one in self.parameters], [one.upper for one in self.parameters]),
            x_scale="jac", loss=self.loss, max_nfev=self.evaluations, ftol=self.tolerance,
        )  # fmt: skip
        # the best point seen: the last trial may have been a step too far
        self.after_ = min(self._seen.values(), key=lambda one: self._cost(one.residuals))
        self.converged_ = bool(found.status > 0)
        self.evaluations_ = len(self._seen)
        self.covariance_ = self.covariance(np.ones(len(self.after_.residuals), dtype=bool))
        self.learned_ = [self._learned(place) for place in range(len(self.parameters))]
        return self

    # --- what was learned -----------------------------------------------------------------------

    @property
    def values_(self) -> dict[str, float]:
        """Fitted values by parameter."""
        return {one.parameter.name: one.value for one in self.learned_}

    def numbers(self, profile: str, x: Floats | None = None) -> dict[str, float]:
        """The numbers of a profile at `x`, the fitted point if not given."""
        at = self.after_.x if x is None else x
        found: dict[str, float] = {}
        for parameter, value in zip(self.parameters, at, strict=True):
            found |= parameter.values(profile, float(value))
        return found

    @property
    def correlations_(self) -> list[tuple[str, str, float]]:
        """Pairs of determined parameters that rows hardly tell apart, |r| above 0.9, the closest first."""
        errors = np.sqrt(np.diag(self.covariance_))
        pairs = [
            (a.parameter.name, b.parameter.name, float(self.covariance_[i, j] / errors[i] / errors[j]))
            for i, a in enumerate(self.learned_)
            for j, b in enumerate(self.learned_[:i])
            if a.determined and b.determined
        ]
        return sorted((pair for pair in pairs if abs(pair[2]) > 0.9), key=lambda pair: -abs(pair[2]))

    @property
    def errors_before_(self) -> Floats:
        """Signed, relative to measured, by row."""
        return self.before_.times / self._measured - 1

    @property
    def errors_after_(self) -> Floats:
        return self.after_.times / self._measured - 1

    def covariance(self, kept: npt.NDArray[np.bool_]) -> Floats:
        """Covariance of the parameters from the residuals `kept`, weighted as the loss weights them, and
        scaled up where rows scatter more than the noise."""
        weight = np.sqrt(self._weights(self.after_.residuals)) * kept
        jacobian = self.after_.jacobian * weight[:, None]
        spare = max(1, int(kept.sum()) - len(self.parameters))
        scatter = max(1.0, float(((self.after_.residuals * weight) ** 2).sum()) / spare)
        return np.asarray(np.linalg.pinv(jacobian.T @ jacobian, rcond=1e-14) * scatter)

    def _learned(self, place: int) -> Learned:
        parameter, value = self.parameters[place], float(self.after_.x[place])
        error = math.sqrt(max(0.0, float(self.covariance_[place, place])))
        scale = max(abs(value), 0.05 * (parameter.upper - parameter.lower))
        if parameter.prior and error > 0.8 * parameter.prior[1]:
            held = "documents"
        else:
            held = "rows" if error < UNDETERMINED * scale else "nothing"
        return Learned(parameter, value, error, held)

    # --- residuals ------------------------------------------------------------------------------

    @property
    def _measured(self) -> Floats:
        return np.array([one.row.time_us for one in self.cases_])

    def _cost(self, residuals: Floats) -> float:
        robust = self.loss == "soft_l1"
        return float((2 * (np.sqrt(1 + residuals**2) - 1)).sum() if robust else residuals @ residuals)

    def _weights(self, residuals: Floats) -> Floats:
        """What the loss makes of the square of each residual."""
        return 1 / np.sqrt(1 + residuals**2) if self.loss == "soft_l1" else np.ones_like(residuals)

    def _at(self, x: Floats) -> Evaluation:
        key = tuple(float(value) for value in x)
        if key not in self._seen:
            self._seen[key] = self._evaluate(np.array(key))
        return self._seen[key]

    def predictions(self, x: Floats, cases: Sequence[Case]) -> list[tuple[Prediction, Machine]]:
        """What is predicted for some cases at `x`, and on which machine."""
        number = len(self._seen) + 1
        report = self._progress
        told = (lambda done, of: report(number, done, of)) if report else None
        numbers = [self.numbers(self._machines[one.settings].name, x) for one in cases]
        answers = self._predictor(list(zip(cases, numbers, strict=True)), told)
        found = []
        for one, values, answer in zip(cases, numbers, answers, strict=True):
            if isinstance(answer, str):
                raise InputError(f"{one.row.place}: cannot be predicted while fitting: {answer}")
            found.append((answer, override(self._machines[one.settings], values)))
        return found

    def _evaluate(self, x: Floats) -> Evaluation:
        residuals: list[float] = []
        rows: list[list[float]] = []
        times, log_slopes = [], []
        for one, (found, machine) in zip(self.cases_, self.predictions(x, self.cases_), strict=True):
            name, time = machine.name, found.on(one.row.clock)
            by_path = slopes(found, machine, one.row.clock)
            times.append(time)
            log_slopes.append([p.slope(name, by_path) / time for p in self.parameters])
            residuals.append(math.log(time / one.row.time_us) / self.noise)
            rows.append([value / self.noise for value in log_slopes[-1]])
            for column in BUSY_COLUMNS:
                busy, seen = one.row.busy.get(column), found.busy.get(column)
                if busy and seen:
                    by_path = busy_slopes(found, machine, column)
                    residuals.append(math.log(seen / busy) / self.busy_noise)
                    rows.append([p.slope(name, by_path) / seen / self.busy_noise for p in self.parameters])
        for place, parameter in enumerate(self.parameters):
            mean, spread = parameter.prior or (parameter.start, LOOSE * max(parameter.start, 1e-3))
            residuals.append((float(x[place]) - mean) / spread)
            rows.append([1 / spread if p is parameter else 0.0 for p in self.parameters])
        return Evaluation(x, np.array(times), np.array(residuals), np.array(rows), np.array(log_slopes))
