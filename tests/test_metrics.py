"""Measures of error against closed forms."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npusim.errors import InputError
from npusim.metrics import compare, rmse_ratio


@pytest.fixture(autouse=True)
def _warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def stack(samples=6, size=8, seed=0):
    return np.random.default_rng(seed).standard_normal((samples, size, size))


def test_an_exact_result_has_no_error_and_infinite_snr():
    errors = compare(stack(), stack(), head=[0, 1, 0, 1, 0, 1])
    assert (errors.relative_error, errors.worst_relative_error, errors.max_abs_error) == (0, 0, 0)
    assert errors.snr_db == errors.worst_snr_db == math.inf
    assert (errors.nonfinite, errors.samples, errors.exact) == (0, 6, 6)
    assert errors.worst_head_error == 0


@given(st.floats(1e-12, 1e12), st.floats(1e-200, 1e200))
def test_a_result_scaled_by_one_plus_e_has_relative_error_e_whatever_its_magnitude(ratio, magnitude):
    reference = np.full((3, 2, 2), magnitude)
    errors = compare(reference + ratio * reference, reference)
    step = 2.0**-52 * max(1, ratio) / ratio  # rounding of the sum above, relative to the error
    assert errors.relative_error == pytest.approx(ratio, rel=1e-12 + 2 * step)
    assert errors.snr_db == pytest.approx(-20 * math.log10(ratio), abs=1e-9 + 20 * step)


def test_measures_equal_their_definitions():
    reference, noise = stack(seed=1), 1e-3 * stack(seed=2) * np.arange(1, 7)[:, None, None]
    errors = compare(reference + noise, reference)
    noise = (reference + noise) - reference
    per_matrix = np.linalg.norm(noise, axis=(1, 2)) / np.linalg.norm(reference, axis=(1, 2))
    snr_db = 10 * np.log10((reference**2).sum((1, 2)) / (noise**2).sum((1, 2)))
    assert errors.relative_error == pytest.approx(np.linalg.norm(noise) / np.linalg.norm(reference))
    assert errors.worst_relative_error == pytest.approx(per_matrix.max())
    assert errors.snr_db == pytest.approx(snr_db.mean())
    assert errors.worst_snr_db == pytest.approx(snr_db.min())
    assert errors.max_abs_error == np.abs(noise).max()
    assert errors.exact == 0


def test_many_matrices_give_the_same_as_their_parts(monkeypatch):
    reference, result = stack(50), stack(50) + 1e-5 * stack(50, seed=3)
    whole = compare(result, reference)
    monkeypatch.setattr("npusim.metrics.BLOCK_VALUES", 200)
    assert compare(result, reference) == whole


def test_matrices_exact_to_the_resolution_of_float64_stay_out_of_the_mean_snr():
    reference = stack(2)
    result = reference.copy()
    result[1] *= 1.1
    reference[0], result[0] = np.eye(8), np.eye(8) + 1e-72 * np.eye(8, k=-1)
    errors = compare(result, reference)
    assert errors.snr_db == pytest.approx(20.0)
    assert errors.worst_snr_db == pytest.approx(20.0)
    assert errors.exact == 1


def test_the_worst_head_is_named_with_its_own_error():
    reference = np.ones((6, 4, 4))
    result = reference * np.array([1, 1.01, 1.05, 1, 1.01, 1.05])[:, None, None]
    errors = compare(result, reference, head=[7, 8, 9, 7, 8, 9])
    assert (errors.worst_head, errors.worst_head_error) == (9, pytest.approx(0.05))
    assert errors.mean_head_error == pytest.approx((0 + 0.01 + 0.05) / 3)
    assert compare(result, reference).worst_head is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_makes_errors_infinite_and_never_nan(value):
    result = stack().astype(np.float32)
    result[2, 0, 0] = value
    errors = compare(result, stack(), head=np.arange(6))
    assert errors.relative_error == errors.worst_relative_error == errors.max_abs_error == math.inf
    assert errors.worst_snr_db == errors.snr_db == -math.inf
    assert (errors.nonfinite, errors.worst_head, errors.worst_head_error) == (1, 2, math.inf)
    assert errors.mean_head_error == math.inf


def test_a_reference_of_zeros_allows_no_error():
    zeros = np.zeros((1, 2, 2))
    assert compare(zeros, zeros).relative_error == 0
    assert compare(zeros + 1e-300, zeros).relative_error == math.inf


def test_json_is_strict_and_holds_null_for_infinities():
    errors = compare(np.full((1, 2, 2), np.nan), np.ones((1, 2, 2)), head=[3])
    fields = json.loads(json.dumps(errors.to_json(), allow_nan=False))
    assert fields["relative_error"] is None and fields["snr_db"] is None
    assert (fields["nonfinite"], fields["samples"], fields["worst_head"]) == (4, 1, 3)
    assert compare(stack(1) * 2, stack(1)).to_json()["relative_error"] == pytest.approx(1)


def test_an_empty_stack_has_no_error():
    assert compare(np.zeros((0, 4, 4)), np.zeros((0, 4, 4))).samples == 0
    assert compare(np.zeros((3, 0, 4)), np.zeros((3, 0, 4))).relative_error == 0


def test_shapes_that_differ_are_refused_with_both_named():
    with pytest.raises(InputError, match=r"\(1, 2, 2\).*\(2, 2, 2\)"):
        compare(np.ones((1, 2, 2)), np.ones((2, 2, 2)))
    with pytest.raises(InputError, match="heads"):
        compare(np.ones((2, 2, 2)), np.ones((2, 2, 2)), head=[0])


def test_rmse_ratio_is_root_mean_square_error_over_root_mean_square():
    reference, result = stack(seed=4), stack(seed=4) + 0.01 * stack(seed=5)
    rms = np.sqrt(np.mean((result - reference) ** 2)) / np.sqrt(np.mean(reference**2))
    assert rmse_ratio(result, reference) == pytest.approx(rms)
