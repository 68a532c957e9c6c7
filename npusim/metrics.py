"""How wrong a result is: the measures of error against a float64 reference."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from npusim.errors import InputError

Float64Array = npt.NDArray[np.float64]

BLOCK_VALUES = 1 << 15
"""Values compared at once: the temporary arrays stay in the processor's cache."""

UNIT_ROUNDOFF = 2.0**-53


@dataclass(frozen=True)
class Errors:
    """Errors of a stack of matrices. Infinite, never NaN, where the result is not finite.

    SNR in dB is 10 log10(sum ref^2 / sum err^2) of one matrix, infinite where it is exact: gates that erase
    the state leave the identity up to errors of 1e-70, and their SNR would drown the others in the mean.
    Heads are None where no head per matrix was given.
    """

    relative_error: float
    """Frobenius norm of the error over that of the reference, over the whole stack"""
    worst_relative_error: float
    """largest such ratio of one matrix"""
    snr_db: float
    """mean over the matrices that are not exact; infinite if all are"""
    worst_snr_db: float
    max_abs_error: float
    nonfinite: int
    """values of the result that are inf or NaN"""
    samples: int
    """matrices compared"""
    exact: int
    """matrices whose relative error is below float64's unit roundoff, the resolution of the reference"""
    mean_head_error: float | None = None
    """mean over the heads of each head's relative (Frobenius) error"""
    worst_head: int | None = None
    worst_head_error: float | None = None

    def to_json(self) -> dict[str, float | int | None]:
        """The fields by name, ready for strict JSON: an infinite value becomes null."""
        fields: dict[str, float | int | None] = asdict(self)
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in fields.items()
        }


def compare(
    result: npt.NDArray[Any],
    reference: Float64Array,
    head: npt.ArrayLike | None = None,
    signal: Float64Array | None = None,
) -> Errors:
    """Errors of `result` [M, ...] (any float type, real values) against `reference` [M, ...] in float64.

    The first axis counts the matrices; `head` [M] says to which head each belongs; `signal`: the `norms` of
    the reference where they are known. Sums of squares are scaled, so that neither huge nor tiny errors are
    lost.
    """
    if result.shape != reference.shape or result.ndim < 1:
        raise InputError(f"result has shape {result.shape}, its reference {reference.shape}")
    if head is not None and np.shape(head) != result.shape[:1]:
        raise InputError(f"{result.shape[0]} matrices need as many heads, got shape {np.shape(head)}")
    samples = result.shape[0]
    error, largest = np.zeros(samples), np.zeros(samples)
    nonfinite = 0
    signal = norms(reference) if signal is None else signal
    with np.errstate(all="ignore"):
        for some in _blocks(result):
            want = _rows(reference[some])
            got = result[some].reshape(want.shape)
            difference = np.subtract(got, want, dtype=np.float64)
            largest[some] = _largest(difference)
            if not np.isfinite(largest[some]).all():
                nonfinite += got.size - int(np.count_nonzero(np.isfinite(got)))
                difference[np.isnan(difference)] = np.inf
                largest[some] = _largest(difference)
            error[some] = _norm(difference, largest[some])
        return _summarise(error, signal, largest, nonfinite, None if head is None else np.asarray(head))


def norms(reference: Float64Array) -> Float64Array:
    """The Euclidean norm of each matrix of a stack [M, ...]."""
    found = np.zeros(len(reference))
    with np.errstate(all="ignore"):
        for some in _blocks(reference):
            found[some] = _norm(_rows(reference[some]))
    return found


def _blocks(stack: npt.NDArray[Any]) -> Iterator[slice]:
    """Some matrices of a stack at a time."""
    step = max(1, BLOCK_VALUES // max(1, math.prod(stack.shape[1:])))
    for start in range(0, len(stack), step):
        yield slice(start, min(start + step, len(stack)))


def _rows(stack: Float64Array) -> Float64Array:
    """[M, values]"""
    return stack.reshape(len(stack), math.prod(stack.shape[1:]))


def rmse_ratio(result: npt.NDArray[Any], reference: npt.NDArray[Any]) -> float:
    """RMSE over the reference's RMS, the ratio that FLA's tests bound (over all values, any shape)."""
    whole = np.asarray(result)[np.newaxis], np.asarray(reference, dtype=np.float64)[np.newaxis]
    return compare(*whole).relative_error


def _largest(x: Float64Array) -> Float64Array:
    """The largest absolute value along the last axis; NaN if any is."""
    largest: Float64Array = np.maximum(x.max(axis=-1, initial=0.0), -x.min(axis=-1, initial=0.0))
    return largest


def _norm(x: Float64Array, largest: Float64Array | None = None) -> Float64Array:
    """Euclidean norm along the last axis, free of overflow and underflow; inf if any value is. `largest`: the
    largest absolute value where it is known."""
    largest = _largest(x) if largest is None else largest
    safe = np.where((largest > 0) & np.isfinite(largest), largest, 1.0)
    scaled = x / safe[..., np.newaxis]
    norm: Float64Array = safe * np.sqrt(np.einsum("...i,...i->...", scaled, scaled))
    return norm


def _ratio(error: Float64Array, signal: Float64Array) -> Float64Array:
    """error / signal, where 0 / 0 is 0, and any error of a zero or infinite reference is infinite."""
    ratio: Float64Array = np.where(error == 0, 0.0, np.where(np.isfinite(signal), error / signal, np.inf))
    return ratio


def _summarise(
    error: Float64Array,
    signal: Float64Array,
    largest: Float64Array,
    nonfinite: int,
    head: npt.NDArray[Any] | None,
) -> Errors:
    """Errors from the norms of each matrix's error and reference, and its largest error: all [M]."""
    ratio = _ratio(error, signal)
    inexact = ratio > UNIT_ROUNDOFF
    snr_db = np.where(inexact, -20.0 * np.log10(ratio), np.inf)
    worst_head = mean_head_error = worst_head_error = None
    if head is not None and head.size:
        heads, each = np.unique(head, return_counts=True)
        if (each == each[0]).all():
            order = np.argsort(head, kind="stable")
            own = (norm[order].reshape(len(heads), -1) for norm in (error, signal))
            of_head = _ratio(*map(_norm, own))
        else:
            of_head = np.array([_stack_ratio(error[head == h], signal[head == h]) for h in heads])
        worst_head = int(heads[np.argmax(of_head)])
        mean_head_error, worst_head_error = float(of_head.mean()), float(of_head.max())
    return Errors(
        relative_error=_stack_ratio(error, signal),
        worst_relative_error=float(np.max(ratio, initial=0.0)),
        snr_db=float(snr_db[inexact].mean()) if inexact.any() else math.inf,
        worst_snr_db=float(np.min(snr_db, initial=math.inf)),
        max_abs_error=float(np.max(largest, initial=0.0)),
        nonfinite=nonfinite,
        samples=ratio.size,
        exact=ratio.size - int(np.count_nonzero(inexact)),
        mean_head_error=mean_head_error,
        worst_head=worst_head,
        worst_head_error=worst_head_error,
    )


def _stack_ratio(error: Float64Array, signal: Float64Array) -> float:
    """Ratio of the Frobenius norms of a whole stack, from those of its matrices."""
    return float(_ratio(_norm(error), _norm(signal)))
