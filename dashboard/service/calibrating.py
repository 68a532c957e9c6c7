"""The long work of calibrating, as jobs do it: predicting measured rows, and fitting numbers to them."""

from __future__ import annotations

import datetime
import os
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dashboard.service.jobs import Home, Tell
from dashboard.service.machines import place
from dashboard.service.measured import SHIPPED, reading_of
from dashboard.service.uploads import folder_of
from npusim.calibration.parameters import select
from npusim.errors import InputError
from npusim.profiles import load_machine
from npusim.refit import Fitted
from npusim.validation.labels import CLOCKS, device, of_case, refusals, short_places, what
from npusim.validation.predictor import Predictor
from npusim.validation.select import Refused, select_rows
from npusim.validation.validate import Accuracy, Row, Validation, kernel_name, validate

REGISTRY = "algorithms:REGISTRY"
ROWS_A_WORKER = 40
"""rows from which another process pays, which takes seconds to start"""
EVALUATIONS = 4
REPORTS = 8
"""of a visitor that are kept; one is some megabytes large"""
HELD_OUT = ("kernel", "device", "source", "none")
"""what can be left out to see what a fit is worth, as `npusim calibrate --hold-out`"""
REPORT = re.compile(r"[0-9a-f]{16}\.html")


@dataclass(frozen=True)
class Busy:
    """A unit's busy time, measured and predicted, microseconds."""

    unit: str
    measured: float
    predicted: float


@dataclass(frozen=True)
class Point:
    """A predicted row. `row`: its place, short; `name`: kernel and algorithm; `what`: with structure, sizes
    and dtype; `device`: as people call it; `apart`: why it does not count, or ''; `unit`, `why`: what
    dominates the error."""

    place: str
    row: str
    kernel: str
    name: str
    what: str
    device: str
    profile: str
    clock: str
    apart: str
    measured: float
    predicted: float
    error: float
    unit: str
    why: str
    busy: tuple[Busy, ...] = ()


@dataclass(frozen=True)
class Score:
    """Errors of some rows, as `npusim.validation.validate.Accuracy`."""

    rows: int
    mape: float
    median: float
    worst: float


@dataclass(frozen=True)
class Lost:
    """Rows that are not predicted, or not fitted to, for one reason."""

    places: str
    kernels: str
    reason: str


@dataclass(frozen=True)
class Seen:
    """Measured rows and their predictions. `carried`: by profile and path, the mean share of the rows' time
    that the number carries."""

    points: tuple[Point, ...]
    whole: Score | None
    kernels: dict[str, Score]
    devices: dict[str, Score]
    apart: dict[str, Score]
    ranking: float | None
    pairs: int
    ratio_error: float | None
    lost: tuple[Lost, ...]
    unpredicted: int
    carried: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Shift:
    """A row before and after a fit. `before`, `after`: signed relative errors."""

    place: str
    kernel: str
    device: str
    what: str
    measured: float
    before: float
    after: float


@dataclass(frozen=True)
class Learned:
    """A number that was free. `sets`: the paths it stands for; `documented`: what documents say; `error`: one
    standard error, None where rows did not move it; `factor`: it is one of several numbers together."""

    name: str
    sets: tuple[str, ...]
    before: float
    value: float
    documented: float | None
    error: float | None
    held_by: str
    factor: bool


@dataclass(frozen=True)
class Without:
    """Rows that were predicted without having been fitted to. `unknown`: numbers that only they determine."""

    group: str
    rows: int
    mape: float
    worst: float
    unknown: tuple[str, ...]


@dataclass(frozen=True)
class Idea:
    """A measurement that would tell something: by how much uncertainty shrinks, and what it settles."""

    measurement: str
    gain: float
    settles: tuple[str, ...]


@dataclass(frozen=True)
class Fit:
    """What a fit gave. `numbers`: of the new profile; `profile`: where the old one is; `report`: where the
    report is, below the folder of visitors."""

    profile: str
    shifts: tuple[Shift, ...]
    learned: tuple[Learned, ...]
    correlations: tuple[tuple[str, str, float], ...]
    findings: tuple[tuple[str, str], ...]
    held_out: tuple[Without, ...]
    by: str
    ideas: tuple[Idea, ...]
    lost: tuple[Lost, ...]
    numbers: dict[str, Fitted]
    citation: str
    date: datetime.date
    report: str

    def mape(self, when: str) -> float:
        return float(np.mean([abs(getattr(one, when)) for one in self.shifts]))

    def worst(self, when: str) -> float:
        """The error that is largest, signed."""
        return max((float(getattr(one, when)) for one in self.shifts), key=abs)


# --- the jobs ----------------------------------------------------------------------------------------


def predict(tell: Tell, asked: dict[str, Any], home: Home) -> Seen:
    """Hold rows against their predictions. `asked`: `key` of the visitor, '' for the shipped rows, and
    `profile`, '' for that of each row's device."""
    reading = reading_of(_root(home), asked["key"])
    profiles = [place(asked["profile"], home.folder)] if asked["profile"] else []
    with Predictor(REGISTRY, _processes(len(reading.rows))) as predictor:
        selection = select_rows(
            reading, predictor.kernels, profiles, lambda done, of: tell(done, of, "Building kernels")
        )
        found = validate(selection, predictor, lambda done, of: tell(done, of, "Predicting"))
    if not found.rows:
        first = f"; {found.refused[0].place}: {found.refused[0].reason}" if found.refused else ""
        raise InputError(f"no row could be predicted{first}")
    return seen_of(found)


def fit(tell: Tell, asked: dict[str, Any], home: Home) -> Fit:
    """Fit numbers of a profile. `asked`: as of `predict`, with `fields`, `hold_out`, `suggest` and `report`,
    the name of the file for the report."""
    # only here: a prediction need not wait for scipy and plotly
    from npusim.calibration.calibrator import Calibrator
    from npusim.calibration.candidates import candidates
    from npusim.calibration.held_out import held_out
    from npusim.calibration.html import report
    from npusim.calibration.outcome import SHIPPED as SHIPPED_FILE
    from npusim.calibration.outcome import citation, determined
    from npusim.calibration.record import to_json
    from npusim.calibration.rows import fitting_rows
    from npusim.calibration.suggest import suggest

    root, key = _root(home), str(asked["key"])
    profile, kind = place(asked["profile"], home.folder), asked["hold_out"]
    if kind not in HELD_OUT or not REPORT.fullmatch(asked["report"]):
        raise InputError("fit: these settings are none; load the page again")
    parameters = select([load_machine(profile)], [one for one in asked["fields"] if one])
    reading = reading_of(root, key)
    with Predictor(REGISTRY, _processes(len(reading.rows))) as predictor:
        tell(0, max(1, len(reading.rows)), "Building kernels")
        cases, refused = fitting_rows(reading, [profile], predictor.kernels)
        if not cases:
            first = f"; {refused[0].place}: {refused[0].reason}" if refused else ""
            raise InputError(f"fit: no row that {asked['profile']} can be fitted to{first}")

        def told(number: int, done: int, of: int) -> None:
            tell(done, of, f"Evaluation {number}")

        fitted = Calibrator(parameters, evaluations=EVALUATIONS).fit(cases, predictor, told)
        groups = {} if kind == "none" else {kind: held_out(fitted, kind)}
        ideas = suggest(fitted, candidates([profile], predictor.kernels)) if asked["suggest"] else []
    today = datetime.date.today()
    names = sorted({one.row.place.rpartition(":")[0] for one in cases})
    where = ", ".join(names) if key else SHIPPED
    written = report(fitted, refused, groups, ideas, where, today)
    plain = to_json(fitted, refused, groups, ideas, [])
    return Fit(
        asked["profile"],
        tuple(
            Shift(
                one.row.place, one.row.kernel, one.row.device or fitted.machine(one).name, of_case(one),
                one.row.time_us, float(before), float(after),
            )
            for one, before, after in zip(
                fitted.cases_, fitted.errors_before_, fitted.errors_after_, strict=True
            )
        ),
        tuple(
            Learned(
                one["number"], tuple(text.partition(": ")[2] for text in one["sets"]), one["before"],
                one["value"], one["documented"], one["standard_error"], one["held_by"], one["common_factor"],
            )
            for one in plain["numbers"]
        ),
        tuple((one["a"], one["b"], one["correlation"]) for one in plain["correlations"]),
        tuple((one["about"], one["text"]) for one in plain["findings"]),
        tuple(
            Without(one["group"], one["rows"], one["mape"], one["max_error"], tuple(one["not_determined"]))
            for found in plain["held_out"].values()
            for one in found
        ),
        kind,
        tuple(Idea(one["measurement"], one["gain"], tuple(one["settles"])) for one in plain["suggestions"]),
        _lost(refused),
        determined(fitted, load_machine(profile).name),
        citation(where if key else SHIPPED_FILE, cases),
        today,
        _kept(root, key, asked["report"], written),
    )  # fmt: skip


def _kept(root: Path, key: str, name: str, text: str) -> str:
    """Keep a report among its visitor's, of which few stay, and say where below `root`."""
    folder = (folder_of(root, key).parent if key else root / "shipped") / "reports"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    for old in sorted(folder.iterdir(), key=lambda file: -file.stat().st_mtime_ns)[REPORTS:]:
        old.unlink(missing_ok=True)
    return (folder / name).relative_to(root).as_posix()


def _root(home: Home) -> Path:
    """The folder of visitors."""
    assert home.private is not None
    return uploads_of(home.private)


def uploads_of(private: Path) -> Path:
    """Where visitors' folders and reports are, in the folder that goes with the application."""
    return private / "uploads"


def _processes(rows: int) -> int:
    return max(1, min(os.cpu_count() or 1, rows // ROWS_A_WORKER))


# --- what was found, as plain records ----------------------------------------------------------------


def seen_of(found: Validation) -> Seen:
    """A validation as what the page shows."""
    shares: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    counts: dict[str, int] = defaultdict(int)
    for row in found.rows:
        counts[row.machine.name] += 1
        for path, us in row.found.by_field.items():
            shares[row.machine.name][path].append(us / row.predicted_us)
    ranking, shown = found.ranking, short_places([row.case.row.place for row in found.rows])
    return Seen(
        tuple(_point(row, shown[row.case.row.place]) for row in found.rows),
        None if found.whole is None else _score(found.whole),
        {name: _score(one) for name, one in found.by_kernel.items()},
        {name: _score(one) for name, one in found.by_device.items()},
        {name: _score(one) for name, one in found.apart.items()},
        ranking.share, ranking.pairs, ranking.speedup_error, _lost(found.refused), len(found.refused),
        {
            name: {path: sum(values) / counts[name] for path, values in by_path.items()}
            for name, by_path in shares.items()
        },
    )  # fmt: skip


def _point(row: Row, short: str) -> Point:
    measured, culprit = row.case.row, row.culprit
    return Point(
        measured.place, short, measured.kernel, kernel_name(row), what(row), device(row), row.machine.name,
        CLOCKS[measured.clock], row.apart, measured.time_us, row.predicted_us, row.error, culprit.unit,
        culprit.why,
        tuple(
            Busy(row.found.units[column], us, predicted)
            for column, (us, predicted) in row.busy.items()
            if predicted is not None
        ),
    )  # fmt: skip


def _score(one: Accuracy) -> Score:
    return Score(one.rows, one.mape, one.median, one.worst)


def _lost(refused: Iterable[Refused]) -> tuple[Lost, ...]:
    return tuple(Lost(*one) for one in refusals(list(refused)))
