"""Number formats against ml_dtypes, exact integers and the definitions of IEEE 754."""

from __future__ import annotations

import math
import warnings

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from npusim.dtypes import DTYPES, accumulator, dtype, matmul, quantise, round_to
from npusim.errors import InputError, Unsupported

STORAGE = {
    "fp64": np.float64,
    "fp32": np.float32,
    "fp16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "fp8_e4m3": ml_dtypes.float8_e4m3fn,
}
NARROW = ["fp16", "bf16", "fp8_e4m3"]
INTEGERS = {"int32": 32, "int16": 16, "int8": 8, "int4": 4}

any_float32 = hnp.arrays(np.float32, st.integers(0, 40), elements=st.floats(width=32))
any_float64 = hnp.arrays(np.float64, st.integers(0, 40), elements=st.floats())


@pytest.fixture(autouse=True)
def _warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def bits(x):
    """The bit pattern of a float array, with all NaN made one: their payload is no value."""
    x = np.where(np.isnan(x), np.array(np.nan, x.dtype), x)
    return x.view(np.uint32 if x.dtype == np.float32 else np.uint64)


def cast(x, name):
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return x.astype(STORAGE[name]).astype(np.float64 if name == "fp64" else np.float32)


def patterns(name):
    """Every value of a format of 8 or 16 bits, in float32."""
    storage = np.dtype(STORAGE[name])
    count = 2 ** (8 * storage.itemsize)
    return np.arange(count, dtype=f"u{storage.itemsize}").view(storage).astype(np.float32)


@pytest.mark.parametrize("name", STORAGE)
@given(x=any_float32)
def test_rounding_float32_equals_ml_dtypes_bit_for_bit(name, x):
    result = round_to(x, dtype(name))
    assert result.dtype == dtype(name).carrier
    np.testing.assert_array_equal(bits(result), bits(cast(x, name)))


@pytest.mark.parametrize("name", STORAGE)
@given(x=any_float64)
def test_rounding_float64_equals_ml_dtypes_bit_for_bit(name, x):
    np.testing.assert_array_equal(bits(round_to(x, dtype(name))), bits(cast(x, name)))


@pytest.mark.parametrize("name", NARROW)
def test_every_value_of_a_narrow_format_is_its_own_rounding(name):
    every = patterns(name)
    np.testing.assert_array_equal(bits(round_to(every, dtype(name))), bits(every))


@pytest.mark.parametrize("name", NARROW)
def test_ties_go_to_even_and_neighbours_of_ties_to_the_nearer_value(name):
    values = np.unique(patterns(name)[np.isfinite(patterns(name))]).astype(np.float64)
    low, high = values[:-1], values[1:]
    middle = ((low + high) / 2).astype(np.float32)
    assert (middle.astype(np.float64) == (low + high) / 2).all(), "a tie is exact in float32"
    tied = round_to(middle, dtype(name))
    assert ((tied == low) | (tied == high)).all()
    storage = np.dtype(STORAGE[name])
    assert (tied.astype(storage).view(f"u{storage.itemsize}") % 2 == 0).all(), "last bit even"
    np.testing.assert_array_equal(round_to(np.nextafter(middle, np.float32(-np.inf)), dtype(name)), low)
    np.testing.assert_array_equal(round_to(np.nextafter(middle, np.float32(np.inf)), dtype(name)), high)


def test_the_smallest_subnormals_survive_and_half_of_them_is_zero():
    for name, smallest in (("fp16", 2.0**-24), ("bf16", 2.0**-133), ("fp8_e4m3", 2.0**-9)):
        x = np.array([smallest, smallest / 2, 0.75 * smallest, -smallest / 2], dtype=np.float32)
        np.testing.assert_array_equal(
            bits(round_to(x, dtype(name))), bits(x[:1] * np.float32([1, 0, 1, -0.0]))
        )


def test_overflow_is_infinite_except_in_fp8_which_has_no_infinity():
    x = np.array([65519, 65520, -1e30, np.inf, np.nan], dtype=np.float32)
    np.testing.assert_array_equal(round_to(x, dtype("fp16")), [65504, np.inf, -np.inf, np.inf, np.nan])
    x = np.array([464, 465, -1e30, np.inf, np.nan], dtype=np.float32)
    np.testing.assert_array_equal(round_to(x, dtype("fp8_e4m3")), [448, np.nan, np.nan, np.nan, np.nan])
    assert round_to(np.array([1e300]), dtype("fp32"))[0] == np.inf


def test_a_float32_array_is_already_fp32_and_is_not_copied():
    x = np.ones(3, dtype=np.float32)
    assert round_to(x, dtype("fp32")) is x
    y = np.ones(3)
    assert round_to(y, dtype("fp64")) is y


@pytest.mark.parametrize("name", STORAGE)
def test_limits_of_floats_are_those_of_the_library(name):
    assert dtype(name).limit == float(ml_dtypes.finfo(STORAGE[name]).max)
    assert dtype(name).lowest == -dtype(name).limit
    assert dtype(name).bits == 8 * np.dtype(STORAGE[name]).itemsize


@pytest.mark.parametrize(("name", "width"), INTEGERS.items())
def test_limits_of_integers_are_those_of_twos_complement(name, width):
    assert (dtype(name).lowest, dtype(name).limit) == (-(2 ** (width - 1)), 2 ** (width - 1) - 1)
    assert dtype(name).bytes == width / 8
    assert float(dtype(name).carrier.type(dtype(name).limit)) == dtype(name).limit


def test_int4_takes_half_a_byte_and_an_unknown_dtype_gets_a_suggestion():
    assert dtype("int4").bytes == 0.5
    assert all(name == known.name for name, known in DTYPES.items())
    with pytest.raises(InputError, match=r"did you mean.*'fp16'"):
        dtype("f16")


@pytest.mark.parametrize(("name", "width"), INTEGERS.items())
@given(x=any_float64, exponent=st.integers(-20, 20))
def test_quantising_rounds_to_the_nearest_even_integer_and_counts_what_saturates(name, width, x, exponent):
    scale = 2.0**exponent
    q, saturated = quantise(x, dtype(name), scale)
    low, high = -(2 ** (width - 1)), 2 ** (width - 1) - 1
    expected, outside = [], 0
    for value in x.tolist():
        if math.isnan(value):
            expected.append(0)
            outside += 1
            continue
        whole = round(value / scale) if math.isfinite(value / scale) else math.copysign(2**40, value)
        outside += not low <= whole <= high
        expected.append(min(max(whole, low), high))
    assert q.dtype == dtype(name).carrier
    assert (q.tolist(), saturated) == (expected, outside)
    assert not np.signbit(q[q == 0]).any()


@given(x=any_float32, scale=st.floats(1e-30, 1e30))
def test_quantising_float32_values_agrees_with_quantising_them_as_float64(x, scale):
    for s in (scale, 2.0 ** round(math.log2(scale))):
        narrow, wide = quantise(x, dtype("int8"), s), quantise(x.astype(np.float64), dtype("int8"), s)
        np.testing.assert_array_equal(narrow[0], wide[0])
        assert narrow[1] == wide[1]


def test_quantising_leaves_its_argument_alone_and_refuses_what_makes_no_sense():
    x = np.array([300.0, np.nan], dtype=np.float32)
    q, saturated = quantise(x, dtype("int8"), 1.0)
    assert (x[0], q.tolist(), saturated) == (300.0, [127, 0], 2)
    with pytest.raises(InputError, match="int8 tile must be positive"):
        quantise(x, dtype("int8"), 0.0)
    with pytest.raises(InputError, match="fp16: it is not an integer"):
        quantise(x, dtype("fp16"), 1.0)


def test_rounding_to_an_integer_dtype_is_quantising_with_scale_one():
    x = np.array([0.5, 1.5, 2.5, -0.5, 200.0])
    assert round_to(x, dtype("int8")).tolist() == [0, 2, 2, 0, 127]


def test_products_accumulate_in_the_wide_type_of_their_kind():
    wide = {name: accumulator(dtype(name)).name for name in DTYPES}
    assert wide.pop("fp64") == "fp64"
    assert {wide.pop(name) for name in INTEGERS} == {"int32"}
    assert set(wide.values()) == {"fp32"}


@pytest.mark.parametrize(("name", "terms"), [("int4", 50), ("int8", 1024), ("int8", 1500), ("int16", 40)])
def test_integer_products_are_exact_and_saturate_at_int32(name, terms):
    rng = np.random.default_rng(1)
    known = dtype(name)
    a, b = rng.integers(int(known.lowest), int(known.limit) + 1, (2, 3, 4, terms))
    a[0], b[0] = known.lowest, known.lowest  # the largest product there is
    exact = a @ b.swapaxes(-1, -2)
    product, overflows = matmul(a.astype(known.carrier), b.astype(known.carrier).swapaxes(-1, -2), known)
    assert product.dtype == np.float64
    np.testing.assert_array_equal(product, np.clip(exact, -(2**31), 2**31 - 1))
    assert overflows == np.count_nonzero((exact > 2**31 - 1) | (exact < -(2**31)))
    assert (overflows > 0) == (name == "int16")


def test_adding_to_an_integer_accumulator_saturates_too():
    one, full = np.ones((1, 1, 1), np.float32), np.full((1, 1, 1), 2.0**31 - 1)
    product, overflows = matmul(one, one, dtype("int8"), onto=full)
    assert (product.item(), overflows) == (2.0**31 - 1, 1)
    assert matmul(one, -one, dtype("int8"), onto=full) == (np.full((1, 1, 1), 2.0**31 - 2), 0)


def test_int32_is_no_operand():
    with pytest.raises(Unsupported, match="int32"):
        matmul(np.ones((2, 2)), np.ones((2, 2)), dtype("int32"))


@pytest.mark.parametrize("name", ["fp32", *NARROW])
def test_float_products_accumulate_in_fp32_within_its_error_bound(name):
    rng = np.random.default_rng(2)
    a, b = (round_to(rng.standard_normal((5, 64, 64)), dtype(name)) for _ in "ab")
    product, overflows = matmul(a, b, dtype(name))
    exact = a.astype(np.float64) @ b.astype(np.float64)
    bound = 65 * 2.0**-24 * (np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64))
    assert product.dtype == np.float32 and overflows == 0
    assert (np.abs(product - exact) <= bound).all()
    assert (product != exact).any() or name == "fp8_e4m3", "not wider than fp32 either"


def test_a_product_beyond_fp32_is_infinite_without_a_warning():
    big = np.full((1, 2, 2), 1e30, dtype=np.float32)
    assert np.isinf(matmul(big, big, dtype("fp32"))[0]).all()
    assert not np.isfinite(matmul(big, big * np.array([[1], [-1]], np.float32), dtype("fp32"))[0]).any()


def test_fp64_products_stay_in_float64_and_stacks_broadcast():
    a, b = np.full((2, 1, 3, 4), 1 / 3), np.full((5, 4, 2), 3.0)
    product, _ = matmul(a, b, dtype("fp64"), onto=np.ones((3, 2)))
    assert (product.dtype, product.shape) == (np.dtype(np.float64), (2, 5, 3, 2))
    np.testing.assert_allclose(product, 5.0, rtol=1e-15)
