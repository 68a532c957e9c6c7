"""Number formats: how the values of a tile are held, rounded, quantised and multiplied.

The values of a tile are carried as a numpy array of its dtype's *carrier* type:

* fp64: float64;
* fp32, fp16, bf16, fp8_e4m3: float32 holding values that the dtype represents exactly;
* int32, int16: float64, and int8, int4: float32, holding whole numbers q. The real value is
  q * scale, with one positive static `scale` per tile, which the caller keeps.

The conversions are those of numpy and ml_dtypes (nearest even), bit for bit. Products accumulate as the
machines do: floats in fp32, fp64 in fp64, integers exactly in int32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import ml_dtypes
import numpy as np
import numpy.typing as npt

from npusim.errors import InputError, Unsupported, did_you_mean

Array = npt.NDArray[Any]

EXACT_FLOAT32 = 2.0**24
"""Whole numbers up to this magnitude, and hence sums that never leave it, are exact in float32."""
EXACT_FLOAT64 = 2.0**53
OVERFLOWS_HALF = int(np.float32(65520.0).view(np.uint32))
"""bits of the least float32 that is inf in fp16"""
HALVES = 1 << 15
"""values that are rounded to fp16 at once: they stay in the processor's cache"""


@dataclass(frozen=True)
class Dtype:
    """A number format. `limit` is the largest finite magnitude, in whole numbers q for integers."""

    name: str
    bits: int
    kind: Literal["float", "int"]
    limit: float
    carrier: np.dtype[Any]
    """numpy type of the arrays that hold values of this dtype"""
    storage: np.dtype[Any]
    """numpy or ml_dtypes type that defines the rounding"""

    @property
    def bytes(self) -> float:
        """Bytes per element; half a byte for int4."""
        return self.bits / 8

    @property
    def lowest(self) -> float:
        """Most negative value: -limit for floats, -limit - 1 for the two's complement integers."""
        return -self.limit - 1 if self.kind == "int" else -self.limit


def _float(name: str, bits: int, limit: float, storage: Any, carrier: Any = np.float32) -> Dtype:
    return Dtype(name, bits, "float", limit, np.dtype(carrier), np.dtype(storage))


def _int(name: str, bits: int, storage: Any, carrier: Any) -> Dtype:
    return Dtype(name, bits, "int", 2.0 ** (bits - 1) - 1, np.dtype(carrier), np.dtype(storage))


DTYPES: dict[str, Dtype] = {
    known.name: known
    for known in (
        _float("fp64", 64, (2 - 2.0**-52) * 2.0**1023, np.float64, np.float64),
        _float("fp32", 32, (2 - 2.0**-23) * 2.0**127, np.float32),
        _float("fp16", 16, 65504.0, np.float16),
        _float("bf16", 16, (2 - 2.0**-7) * 2.0**127, ml_dtypes.bfloat16),
        _float("fp8_e4m3", 8, 448.0, ml_dtypes.float8_e4m3fn),
        _int("int32", 32, np.int32, np.float64),
        _int("int16", 16, np.int16, np.float64),
        _int("int8", 8, np.int8, np.float32),
        _int("int4", 4, ml_dtypes.int4, np.float32),
    )
}


def dtype(name: str) -> Dtype:
    """The dtype called `name`. InputError, with the nearest names, for an unknown one."""
    if not isinstance(name, str):
        raise InputError(f"unknown dtype {name!r}: a dtype is named by text, such as 'fp16'")
    try:
        return DTYPES[name]
    except KeyError:
        raise InputError(f"unknown dtype {name!r}: {did_you_mean(name, DTYPES)}") from None


def round_to(x: Array, dtype: Dtype) -> Array:
    """Real values `x` (any shape, float32 or float64) rounded to `dtype`, nearest even, in its carrier.

    Equals a cast by numpy or ml_dtypes and back, bit for bit; `x` itself is returned where it is in the
    dtype already (float32 to fp32). Beyond the range fp32, fp16 and bf16 become inf, as IEEE 754 says.
    fp8_e4m3 (ml_dtypes' float8_e4m3fn) has no inf and becomes NaN beyond 464; hardware may saturate at
    448 instead. ml_dtypes takes float64 to bf16 and fp8 through float32: a value within 2^-24 of a tie
    is rounded twice, as it is where hardware rounds an fp32 accumulator.
    Integer dtypes: `quantise` with scale 1.
    """
    if dtype.kind == "int":
        return quantise(x, dtype, 1.0)[0]
    if dtype.name == "fp16" and x.dtype == np.float32 and (found := _to_half(x)) is not None:
        return found
    with np.errstate(all="ignore"):
        rounded = x.astype(dtype.storage, copy=False)
        return rounded.astype(dtype.carrier, copy=False)


def _to_half(x: Array) -> Array | None:
    """float32 values rounded to fp16, in float32: a third of the time of numpy's casts, and a fiftieth
    where values underflow. None where any is not finite or beyond the range.

    With c = 1.5 2^(e + 13) for a value of exponent e (at least -14, that of the smallest normal number), the
    unit of the last place of c is that of the value in fp16: x + c is rounded to it, and - c is exact.
    """
    half = np.empty(x.shape, np.float32)
    flat, out = np.ascontiguousarray(x).reshape(-1), half.reshape(-1)
    for start in range(0, len(flat), HALVES):
        some, to = flat[start : start + HALVES], out[start : start + HALVES]
        bits = some.view(np.uint32)
        if (bits & np.uint32(0x7FFFFFFF)).max() >= OVERFLOWS_HALF:
            return None
        shift = bits & np.uint32(0x7F800000)
        np.maximum(shift, np.uint32((127 - 14) << 23), out=shift)
        shift += np.uint32((13 << 23) + (1 << 22))
        np.add(some, shift.view(np.float32), out=to)
        to -= shift.view(np.float32)
        to.view(np.uint32)[...] |= bits & np.uint32(0x80000000)  # of what became 0
    return half


def quantise(x: Array, dtype: Dtype, scale: float) -> tuple[Array, int]:
    """Whole numbers q nearest to the real values `x` (any shape) over `scale`, and how many saturated.

    Ties go to even. Quotients outside the integer `dtype`'s range saturate to its ends; NaN becomes 0 and
    counts as saturated. q comes in the dtype's carrier.
    """
    if dtype.kind != "int":
        raise InputError(f"cannot quantise to {dtype.name}: it is not an integer dtype")
    if not (math.isfinite(scale) and scale > 0):
        raise InputError(f"scale of an {dtype.name} tile must be positive and finite, got {scale}")
    # A power of two divides a float32 exactly; another scale needs the digits of float64.
    exact = x.dtype == np.float32 and math.frexp(scale)[0] == 0.5 and 2.0**-126 <= scale <= 2.0**127
    with np.errstate(all="ignore"):
        q = np.divide(x, scale, dtype=np.float32 if exact else np.float64)
        np.rint(q, out=q)
        inside = (q >= dtype.lowest) & (q <= dtype.limit)
        saturated = int(q.size - np.count_nonzero(inside))
        if saturated:
            np.clip(q, dtype.lowest, dtype.limit, out=q)
            q[np.isnan(q)] = 0.0
        q += 0.0  # integers know no -0
        return q.astype(dtype.carrier, copy=False), saturated


def takes_scale(source: str, old: float, target: str, scale: float) -> bool:
    """Whether numbers of dtype `source`, one unit of which is worth `old`, must be scaled to become `target`
    at `scale`, as in all but a copy and a rounding from float to float. fp8 is always quantised to."""
    if (source, old) == (target, scale):
        return False
    floats = DTYPES[source].kind == DTYPES[target].kind == "float"
    return not floats or old != scale or DTYPES[target].bits < 16


def accumulator(dtype: Dtype) -> Dtype:
    """The dtype in which products of `dtype` operands accumulate: fp64, fp32 or int32."""
    if dtype.kind == "int":
        return DTYPES["int32"]
    return dtype if dtype.name == "fp64" else DTYPES["fp32"]


def matmul(a: Array, b: Array, dtype: Dtype, onto: Array | None = None) -> tuple[Array, int]:
    """Product of the carriers a [..., M, K] and b [..., K, N] of operand type `dtype`, and its overflows.

    The result [..., M, N] is a carrier of `accumulator(dtype)`; `onto`, one too, is added to it. Float
    products multiply and add in fp32 (fp64 for fp64), in the order of the BLAS; what overflows there is
    inf or NaN in the result and counts as 0 here. Integer products are exact; sums outside int32 are
    counted and saturate. Scales multiply: the real value is q * scale_a * scale_b.
    """
    if dtype.kind == "int":
        return _int_matmul(a, b, dtype, onto)
    carrier = accumulator(dtype).carrier
    with np.errstate(all="ignore"):
        product: Array = np.matmul(a, b, dtype=carrier)
        return (product if onto is None else np.add(product, onto, dtype=carrier)), 0


def _int_matmul(a: Array, b: Array, dtype: Dtype, onto: Array | None) -> tuple[Array, int]:
    int32 = DTYPES["int32"]
    largest = dtype.lowest**2 * a.shape[-1]  # no sum of products can exceed it, partial ones included
    if largest > EXACT_FLOAT64:
        raise Unsupported(
            f"product of {dtype.name} operands over {a.shape[-1]} terms is not exact: "
            "use int16, int8 or int4 operands"
        )
    fast = np.float32 if largest <= EXACT_FLOAT32 else np.float64
    total: Array = np.matmul(a, b, dtype=fast).astype(int32.carrier, copy=False)
    if onto is not None:
        total = total + onto
    if onto is None and largest <= int32.limit:
        return total, 0
    overflows = int(np.count_nonzero((total < int32.lowest) | (total > int32.limit)))
    if overflows:
        np.clip(total, int32.lowest, int32.limit, out=total)
    return total, overflows
