"""Errors over the shipped rows are what the package says they are, and expected errors follow from them."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from algorithms import REGISTRY
from npusim.measurements.read import read_shipped
from npusim.problem import Options, Problem, Target
from npusim.profiles import load_machine
from npusim.validation.accuracy import entries, to_csv
from npusim.validation.expected import (
    FILE,
    GROUP,
    HELD_OUT_DEVICE,
    HELD_OUT_KERNEL,
    WHOLE,
    Expected,
    expected,
    recorded,
)
from npusim.validation.predictor import Predictor
from npusim.validation.select import select_rows
from npusim.validation.validate import Validation, validate

POINT = 0.01


@pytest.fixture(scope="module")
def shipped() -> Validation:
    with Predictor("algorithms:REGISTRY") as predictor:
        return validate(select_rows(read_shipped(), predictor.kernels), predictor)


def test_no_entry_is_worse_than_recorded_by_more_than_a_point(shipped, pytestconfig):
    """A change that worsens one has to update the file: pytest --update-golden tests/test_accuracy.py."""
    found = entries(shipped.rows)
    kept = [one for one in recorded() if one.scope not in (GROUP, WHOLE)]
    if pytestconfig.getoption("--update-golden"):
        file = Path(str(resources.files("hw_profiles"))) / "measurements" / FILE
        file.write_text(to_csv([*found, *kept]), encoding="utf-8")
        return
    known = {(one.scope, one.kernel, one.algorithm, one.device): one for one in recorded()}
    for one in found:
        before = known[one.scope, one.kernel, one.algorithm, one.device]
        assert one.mape <= before.mape + POINT, f"{one} was {before}"
        assert (one.rows, one.variants, one.dtypes) == (before.rows, before.variants, before.dtypes)
    assert len(found) + len(kept) == len(recorded())


def test_the_shipped_rows_are_predicted_within_7_percent_on_average_and_20_at_worst(shipped):
    """Rows of identical work disagree among themselves by about 7 %."""
    assert shipped.whole is not None
    assert shipped.whole.mape <= 0.07
    assert abs(shipped.whole.worst) <= 0.20
    assert len(shipped.rows) == 65 and not shipped.refused
    assert {row.apart for row in shipped.rows} == {
        "", "launch only", "structure not stated", "device not stated"
    }  # fmt: skip


def test_kernels_that_calibrations_did_not_see_are_predicted_within_20_percent():
    scopes = {one.scope: one for one in recorded()}
    assert scopes[HELD_OUT_KERNEL].mape <= 0.20
    assert scopes[HELD_OUT_DEVICE].rows > 0


def test_what_was_measured_is_expected_to_be_as_wrong_as_its_rows_and_the_rest_is_extrapolated():
    inside = of("gdn-kkt", "ascend-910b2", chunk=128)
    assert inside.extrapolated == () and "4 measured rows" in inside.basis
    assert inside.error is not None and 0 < inside.error < 0.2
    chunk = of("gdn-kkt", "ascend-910b2", chunk=64)
    assert chunk.extrapolated == ("chunk 64 (measured: 128)",)
    assert chunk.error is not None and chunk.error > inside.error
    other = of("gdn-kkt", "ascend-910b2", Options(variant="textbook"), chunk=128, dtype="bf16")
    assert [text.split()[0] for text in other.extrapolated] == ["structure", "products", "dtype"]
    whole = of("gdn-kkt", "ascend-910b2", Options(exchange="accumulated"), chunk=128)
    assert whole.extrapolated == ("products handed over as accumulated (measured: rounded)",)
    unseen = of("softmax", "ascend-910b2", m=16, n=64)
    assert unseen.extrapolated == ("kernel softmax was not measured",)
    device = of("gdn-kkt", "ascend-310p3", chunk=128)
    assert device.extrapolated == ("profile ascend-310p3 is of no device that was measured",)


def test_of_machines_of_another_family_nothing_is_known():
    assert of("gdn-kkt", "toy", chunk=64).error is None


def of(kernel: str, profile: str, options: Options | None = None, **sizes: Any) -> Expected:
    """What is expected of a kernel."""
    machine, problem = load_machine(profile), Problem(**sizes)
    made = REGISTRY[kernel].build(problem, options or Options(), Target.of(machine))
    return expected(made, problem, machine)
