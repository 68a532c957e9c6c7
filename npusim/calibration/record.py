"""A calibration as plain data: what is printed as JSON, and kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from npusim.calibration.calibrator import Calibrator, Learned
from npusim.calibration.findings import findings
from npusim.calibration.held_out import HeldOut
from npusim.calibration.suggest import Suggestion
from npusim.validation.labels import of_case
from npusim.validation.select import Refused


def to_json(
    fitted: Calibrator,
    refused: Sequence[Refused],
    groups: Mapping[str, Sequence[HeldOut]],
    ideas: Sequence[Suggestion],
    paths: Sequence[str],
) -> dict[str, Any]:
    """What `npusim calibrate --json` prints. `paths`: the files that were written."""
    before, after = fitted.errors_before_, fitted.errors_after_
    return {
        "rows": [
            {
                "row": one.row.place, "kernel": one.row.kernel, "device": one.row.device,
                "measured_us": one.row.time_us, "error_before": float(a), "error_after": float(b),
            }
            for one, a, b in zip(fitted.cases_, before, after, strict=True)
        ],
        "mape_before": float(np.abs(before).mean()),
        "mape_after": float(np.abs(after).mean()),
        "max_error_after": float(np.abs(after).max()),
        "numbers": [_number_json(one) for one in fitted.learned_],
        "undetermined": [one.parameter.name for one in fitted.learned_ if not one.determined],
        "correlations": [{"a": a, "b": b, "correlation": r} for a, b, r in fitted.correlations_],
        "findings": [{"about": one.about, "text": one.text} for one in findings(fitted)],
        "held_out": {
            kind: [
                {
                    "group": one.group, "rows": one.rows, "mape": one.mape,
                    "max_error": float(max(one.errors, key=abs)), "not_determined": list(one.unknown),
                }
                for one in found
            ]
            for kind, found in groups.items()
        },
        "suggestions": [
            {
                "measurement": of_case(one.case), "profile": one.case.settings.profile, "gain": one.gain,
                "settles": list(one.settles),
            }
            for one in ideas
        ],
        "unsupported": [one.to_json() for one in refused],
        "written": list(paths),
    }  # fmt: skip


def _number_json(one: Learned) -> dict[str, Any]:
    parameter = one.parameter
    return {
        "number": parameter.name,
        "sets": sorted({f"{profile}: {path}" for profile, path, _ in parameter.members}),
        "before": parameter.start,
        "documented": parameter.prior[0] if parameter.prior else None,
        "value": one.value,
        "standard_error": one.error if one.determined else None,
        "held_by": one.held_by,
        "common_factor": parameter.factor,
    }
