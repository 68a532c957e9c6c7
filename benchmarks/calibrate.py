"""How long a full calibration on all shipped rows takes, and the validation of 300 rows.

    python benchmarks/calibrate.py

One JSON line: wall times in seconds on two worker processes, and beside them that of one bare prediction of
all rows in this process: the bound that both are made of.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace

from npusim.calibration.calibrator import Calibrator
from npusim.calibration.held_out import held_out
from npusim.calibration.parameters import select
from npusim.calibration.rows import fitting_rows
from npusim.measurements.read import read_shipped
from npusim.measurements.rows import Measurement
from npusim.profiles import load_machine
from npusim.validation.predictor import Predictor
from npusim.validation.select import select_rows
from npusim.validation.validate import validate

REGISTRY = "algorithms:REGISTRY"
JOBS = 2
ROWS = 300
PROFILES = (
    "ascend-910b2", "ascend-910b1", "ascend-910b4", "ascend-910c-9391", "ascend-950pr-9599",
    "ascend-950pr-9589", "ascend-950dt-9592",
)  # fmt: skip


def calibration() -> dict[str, float]:
    """The numbers of all profiles with measured rows, fitted together, and kernels left out in turn."""
    began = time.perf_counter()
    with Predictor(REGISTRY, JOBS) as predictor:
        cases, _ = fitting_rows(read_shipped(), PROFILES, predictor.kernels)
        fitted = Calibrator(select([load_machine(name) for name in PROFILES])).fit(cases, predictor)
        held_out(fitted, "kernel")
    return {
        "calibration_s": round(time.perf_counter() - began, 1),
        "rows": len(cases),
        "evaluations": len(fitted.seen_),
        "mape": round(float(abs(fitted.errors_after_).mean()), 4),
    }


def validation() -> dict[str, float]:
    """Rows of larger problems than the shipped ones, so that hardly any is predicted twice."""
    reading = read_shipped()
    rows = [_larger(row, number) for number in range(5) for row in reading.rows][:ROWS]
    began = time.perf_counter()
    with Predictor(REGISTRY, JOBS) as predictor:
        found = validate(select_rows(replace(reading, rows=rows), predictor.kernels), predictor)
        took = time.perf_counter() - began
    works = len({row.case.work for row in found.rows})
    return {"validation_s": round(took, 1), "validated": len(found.rows), "validated_works": works}


def _larger(row: Measurement, number: int) -> Measurement:
    grown = {
        name: size + 128 * number for name in ("seq_len", "matrices", "m") if (size := getattr(row, name))
    }
    return row.model_copy(update={"place": f"{row.place}.{number}", **grown})


def bare() -> dict[str, float]:
    """All shipped rows once, in this process, everything compiled and imported."""
    with Predictor(REGISTRY) as predictor:
        cases = select_rows(read_shipped(), predictor.kernels).cases
        predictor([(one, {}) for one in cases[:3]])
        began = time.perf_counter()
        predictor([(one, {"core.scalar.issue_cycles": 2.5}) for one in cases])
    return {"all_rows_once_s": round(time.perf_counter() - began, 1)}


if __name__ == "__main__":
    print(json.dumps({**bare(), **validation(), **calibration()}))
