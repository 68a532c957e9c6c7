"""Fitting numbers of profiles to measured rows: bounded, robust least squares on logarithms of ratios.

Residuals are log(predicted / measured) / noise of each row's time and, more loosely, of the busy times that
its profiler gave, and (value - documented) / spread of each number that documents state. Derivatives are
read off the critical paths of the same simulations (`npusim.calibration.slopes`). scipy's least_squares does
the rest (Branch, Coleman and Li, "A subspace, interior, and conjugate gradient method for large-scale
bound-constrained minimization problems", SIAM J. Sci. Comput. 1999).

A first fit moves all numbers. Then those that rows do not determine are put back, the least certain first
(backward elimination), and a second fit moves the others alone: what the data cannot tell stays put.
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
from npusim.settings import MachineSettings
from npusim.validation.predict import Case, Prediction
from npusim.validation.predictor import Predictor

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Progress = Callable[[int, int, int], None]
"""called with the evaluation, and how many of its rows are predicted, of how many"""

NOISE = 0.05
"""how far measured times of identical work lie apart: 7 % between the extremes"""
BUSY_NOISE = 0.2
"""the same of busy times, whose meaning profilers do not state: some count waits"""
BUSY_COLUMNS = ("cube_us", "vector_us", "mte1_us", "mte2_us", "mte3_us", "fixpipe_us")
"""those that say something of the model's numbers; a library's scalar work is not modelled"""
EDGE = 1e-9
LOOSE = 10.0
"""spread of a number that nothing holds, in its own size: it keeps the equations solvable, no more"""


@dataclass(frozen=True)
class Evaluation:
    """Residuals and their derivatives at one point. `times`: predicted microseconds by row; `owners`: the row
    of each residual, -1 of a prior; `log_slopes` [row, parameter]: d log(time) / d x."""

    x: Floats
    times: Floats
    residuals: Floats
    jacobian: Floats
    owners: npt.NDArray[np.int64]
    log_slopes: Floats


@dataclass(frozen=True)
class Learned:
    """What is known of one parameter. `error`: one standard error; `held_by`: 'rows', or where they did not
    move it 'documents' or 'nothing'."""

    parameter: Parameter
    value: float
    error: float
    held_by: str

    @property
    def determined(self) -> bool:
        return self.held_by == "rows"


class Calibrator:
    """Fits parameters to rows. Learned values end in _.

    `noise`, `busy_noise`: standard deviations of log(measured); `robust`: rows that are far off count less,
    so that no single one decides; `evaluations`: how often each of the two fits predicts all rows at most;
    `tolerance`: the relative gain below which it ends.
    """

    def __init__(
        self,
        parameters: Sequence[Parameter],
        *,
        noise: float = NOISE,
        busy_noise: float = BUSY_NOISE,
        robust: bool = True,
        evaluations: int = 4,
        tolerance: float = 3e-3,
    ) -> None:
        self.parameters = list(parameters)
        self.noise, self.busy_noise, self.robust = noise, busy_noise, robust
        self.evaluations, self.tolerance = evaluations, tolerance

    def fit(self, cases: Sequence[Case], predictor: Predictor, progress: Progress | None = None) -> Self:
        """Find the values that explain `cases` best. InputError where there is nothing to fit, or no row
        depends on any parameter."""
        if not cases or not self.parameters:
            raise InputError("calibrate: no row and no number to fit; see --measurements and --fields")
        self.cases_ = list(cases)
        self._machines = {one.settings: one.settings.machine() for one in self.cases_}
        self._predictor, self._progress = predictor, progress
        self.seen_: dict[tuple[float, ...], Evaluation] = {}
        start = np.array([one.start for one in self.parameters])
        self.before_ = self._at(start)
        if not self.before_.log_slopes.any():
            raise InputError("calibrate: no row depends on any of these fields; choose others with --fields")
        touched: Bools = np.abs(self.before_.log_slopes).max(axis=0) > 0
        first = self._fit(start, touched)
        free = self._determined(first, touched)
        self.free_ = free
        self.after_ = self._fit(np.where(free, first.x, start), free)
        self.covariance_ = self.covariance(np.ones(len(self.after_.residuals), dtype=bool))
        self.learned_ = [self._learned(place) for place in range(len(self.parameters))]
        return self

    # --- what was learned -----------------------------------------------------------------------

    @property
    def values_(self) -> dict[str, float]:
        """Values by parameter."""
        return {one.parameter.name: one.value for one in self.learned_}

    @property
    def correlations_(self) -> list[tuple[str, str, float]]:
        """Pairs of determined parameters that rows hardly tell apart, |r| above 0.9, the closest first."""
        own = np.flatnonzero(self.free_)
        errors = np.sqrt(np.diag(self.covariance_))
        pairs = [
            (
                self.parameters[i].name,
                self.parameters[j].name,
                float(self.covariance_[i, j] / errors[i] / errors[j]),
            )
            for i in own
            for j in own
            if j < i and errors[i] and errors[j]
        ]
        return sorted((pair for pair in pairs if abs(pair[2]) > 0.9), key=lambda pair: -abs(pair[2]))

    @property
    def errors_before_(self) -> Floats:
        """Signed, relative to measured, by row."""
        return self.before_.times / self.measured - 1

    @property
    def errors_after_(self) -> Floats:
        return self.after_.times / self.measured - 1

    @property
    def measured(self) -> Floats:
        """Microseconds by row."""
        return np.array([one.row.time_us for one in self.cases_])

    def machine(self, one: Case) -> Machine:
        """The machine of a case, before the fit."""
        return self._machines[one.settings]

    def numbers(self, profile: str, x: Floats | None = None) -> dict[str, float]:
        """The numbers of a profile at `x`, the fitted point if not given."""
        found: dict[str, float] = {}
        at = self.after_.x if x is None else x
        for parameter, value in zip(self.parameters, at, strict=True):
            found |= parameter.values(profile, float(value))
        return found

    def weighted(self, at: Evaluation, kept: Bools) -> tuple[Floats, Floats]:
        """Residuals and Jacobian, those of rows far off weighted down; those not kept are zero."""
        soft = (at.owners >= 0) & self.robust
        weight = np.where(soft, (1 + at.residuals**2) ** -0.25, 1.0) * kept
        return at.residuals * weight, at.jacobian * weight[:, None]

    def covariance(self, kept: Bools) -> Floats:
        """Covariance of all parameters from the residuals `kept`: zero of those that did not move. It is
        scaled up where rows scatter more than the noise."""
        return self._covariance(self.after_, self.free_, kept)

    def _covariance(self, at: Evaluation, free: Bools, kept: Bools) -> Floats:
        _, jacobian = self.weighted(at, kept)
        whole = np.zeros((len(free), len(free)))
        whole[np.ix_(free, free)] = inverse(jacobian[:, free]) * self._scatter(at, free, kept) ** 2
        return whole

    def _scatter(self, at: Evaluation, free: Bools, kept: Bools) -> float:
        """How many times the noise the rows scatter, at least 1."""
        residuals, _ = self.weighted(at, kept & (at.owners >= 0))
        spare = max(1, int((kept & (at.owners >= 0)).sum()) - int(free.sum()))
        return math.sqrt(max(1.0, float(residuals @ residuals) / spare))

    def _learned(self, place: int) -> Learned:
        parameter = self.parameters[place]
        error = math.sqrt(max(0.0, float(self.covariance_[place, place])))
        held = "rows" if self.free_[place] else "documents" if parameter.prior else "nothing"
        return Learned(parameter, float(self.after_.x[place]), error, held)

    def _determined(self, at: Evaluation, free: Bools) -> Bools:
        """The parameters that rows determine, found by giving up the least certain one by one."""
        free = free.copy()
        kept = np.ones(len(at.residuals), dtype=bool)
        while free.any():
            errors = np.sqrt(np.diag(self._covariance(at, free, kept)))
            scatter = self._scatter(at, free, kept)
            doubt = np.array(
                [
                    one.doubt(float(value), float(error), scatter) if own else 0.0
                    for one, value, error, own in zip(self.parameters, at.x, errors, free, strict=True)
                ]
            )
            worst = int(np.argmax(doubt))
            if doubt[worst] <= 1:
                break
            free[worst] = False
        return free

    # --- the fit --------------------------------------------------------------------------------

    def _fit(self, start: Floats, free: Bools) -> Evaluation:
        """The best point seen on the way from `start`, which moves the free parameters only."""
        best = self._at(start)
        if not free.any():
            return best

        def point(x: Floats) -> Evaluation:
            nonlocal best
            found = self._at(np.where(free, _spread(x, free), start))
            if self._cost(found) < self._cost(best):
                best = found
            return found

        own = [one for one, moves in zip(self.parameters, free, strict=True) if moves]
        least_squares(
            lambda x: self._softened(point(x))[0],
            start[free],
            jac=lambda x: self._softened(point(x))[1][:, free],
            # a start at a bound would be moved inside, and all rows predicted again
            bounds=([one.lower - EDGE for one in own], [one.upper + EDGE for one in own]),
            x_scale="jac", max_nfev=self.evaluations, ftol=self.tolerance,
        )  # fmt: skip
        return best

    def _softened(self, at: Evaluation) -> tuple[Floats, Floats]:
        """Residuals and Jacobian whose squares sum to the loss: 2 (sqrt(1 + r^2) - 1) of a row's r (soft L1),
        r^2 of a prior's, which no robustness may push aside."""
        soft = (at.owners >= 0) & self.robust
        root = np.sqrt(1 + at.residuals**2)
        # 2 (root - 1), written so that small r do not cancel
        softened = np.where(soft, at.residuals * np.sqrt(2 / (1 + root)), at.residuals)
        slope = np.where(soft, np.sqrt((1 + root) / 2) / root, 1.0)
        return softened, at.jacobian * slope[:, None]

    def _cost(self, at: Evaluation) -> float:
        residuals, _ = self._softened(at)
        return float(residuals @ residuals)

    def _at(self, x: Floats) -> Evaluation:
        ends = np.array([(one.lower, one.upper) for one in self.parameters])
        key = tuple(float(value) for value in np.clip(x, ends[:, 0], ends[:, 1]))
        if key not in self.seen_:
            self.seen_[key] = self._evaluate(np.array(key))
        return self.seen_[key]

    def predictions(self, x: Floats, cases: Sequence[Case]) -> list[tuple[Prediction, Machine]]:
        """What is predicted for some cases at `x`, and on which machine. InputError where one cannot be."""
        found = self.possible(x, cases)
        if len(found) < len(cases):
            known = {one for one, _ in found}
            lost = next(one for one in cases if one not in known)
            raise InputError(f"{lost.row.place}: cannot be predicted while numbers are fitted; leave it out")
        return [made for _, made in found]

    def possible(self, x: Floats, cases: Sequence[Case]) -> list[tuple[Case, tuple[Prediction, Machine]]]:
        """Those of the cases that can be predicted at `x`, with the prediction and the machine."""
        number, report = len(self.seen_) + 1, self._progress
        told = (lambda done, of: report(number, done, of)) if report else None
        numbers: dict[MachineSettings, dict[str, float]] = {}
        machines: dict[MachineSettings, Machine] = {}
        for settings in dict.fromkeys(one.settings for one in cases):
            machine = self._machines.setdefault(settings, settings.machine())
            numbers[settings] = self.numbers(machine.name, x)
            machines[settings] = override(machine, numbers[settings])
        answers = self._predictor([(one, numbers[one.settings]) for one in cases], told)
        return [
            (one, (answer, machines[one.settings]))
            for one, answer in zip(cases, answers, strict=True)
            if not isinstance(answer, str)
        ]

    def _evaluate(self, x: Floats) -> Evaluation:
        residuals: list[float] = []
        rows: list[list[float]] = []
        owners: list[int] = []
        times, log_slopes = [], []
        own = [(one, float(value)) for one, value in zip(self.parameters, x, strict=True)]
        for number, (one, made) in enumerate(zip(self.cases_, self.predictions(x, self.cases_), strict=True)):
            found, machine = made
            time = found.on(one.row.clock)
            by_path = slopes(found, machine, one.row.clock)
            times.append(time)
            log_slopes.append([p.slope(machine.name, v, by_path) / time for p, v in own])
            residuals.append(math.log(time / one.row.time_us) / self.noise)
            rows.append([value / self.noise for value in log_slopes[-1]])
            for column in BUSY_COLUMNS:
                busy, seen = one.row.busy.get(column), found.busy.get(column)
                if busy and seen:
                    by_path = busy_slopes(found, machine, column)
                    scale = seen * self.busy_noise
                    residuals.append(math.log(seen / busy) / self.busy_noise)
                    rows.append([p.slope(machine.name, v, by_path) / scale for p, v in own])
            owners += [number] * (len(residuals) - len(owners))
        for place, parameter in enumerate(self.parameters):
            mean, spread = parameter.prior or (parameter.start, LOOSE * max(parameter.start, 1e-3))
            residuals.append((float(x[place]) - mean) / spread)
            rows.append([1 / spread if p is parameter else 0.0 for p in self.parameters])
            owners.append(-1)
        return Evaluation(
            x, np.array(times), np.array(residuals), np.array(rows), np.array(owners), np.array(log_slopes)
        )


def inverse(jacobian: Floats) -> Floats:
    """(J' J)^-1 of parameters of any sizes."""
    sizes = np.linalg.norm(jacobian, axis=0)
    scale = np.divide(1.0, sizes, out=np.zeros_like(sizes), where=sizes > 0)
    scaled = jacobian * scale
    return np.asarray(np.linalg.pinv(scaled.T @ scaled, rcond=1e-12, hermitian=True) * np.outer(scale, scale))


def _spread(x: Floats, free: Bools) -> Floats:
    """`x` of the free parameters at their places among all."""
    whole = np.zeros(len(free))
    whole[free] = x
    return whole
