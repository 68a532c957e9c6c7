"""Values: every function against numpy, rounding and quantisation exactly where a write changes the dtype."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import ml_dtypes
import numpy as np
import pytest
from random_graphs import case

import npusim.execute
from npusim.builder import Index, KernelBuilder, Target
from npusim.errors import InputError
from npusim.execute import Execution, execute
from npusim.ops import VECTOR
from npusim.profiles import load_machine

STORAGE = {
    "fp16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "fp8_e4m3": ml_dtypes.float8_e4m3fn,
    "fp32": np.float32,
}


@lru_cache
def target() -> Target:
    return Target.of(load_machine("toy"))


def builder(dtype: str = "fp32") -> KernelBuilder:
    return KernelBuilder("tiny", target(), dtype)


def rounded(x: np.ndarray, dtype: str) -> np.ndarray:
    """x in a float format, by numpy or ml_dtypes alone."""
    return x.astype(np.float32).astype(STORAGE[dtype]).astype(np.float32)


def values(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


# --- vector functions ------------------------------------------------------------------------------


def softened(function: str) -> Callable[..., np.ndarray]:
    """What a function of the table computes, in plain numpy on [rows, cols]."""
    return {
        "add": lambda a, b: a + b,
        "sub": lambda a, b: a - b,
        "mul": lambda a, b: a * b,
        "div": lambda a, b: a / b,
        "max": np.maximum,
        "min": np.minimum,
        "adds": lambda a, s: a + s,
        "muls": lambda a, s: a * s,
        "maxs": np.maximum,
        "mins": np.minimum,
        "exp": np.exp,
        "ln": np.log,
        "sqrt": np.sqrt,
        "abs": np.abs,
        "cast": lambda a: a,
        "copy": lambda a: a,
        "fill": lambda s: np.full((6, 8), s),
        "identity": lambda: np.eye(6, 8),
        "row_sum": lambda a: a.sum(axis=1, keepdims=True),
        "row_max": lambda a: a.max(axis=1, keepdims=True),
        "col_sum": lambda a: a.sum(axis=0, keepdims=True),
        "row_broadcast": lambda a: np.repeat(a, 8, axis=1),
        "col_broadcast": lambda a: np.repeat(a, 6, axis=0),
        "column": lambda a: a.T,
        "transpose": lambda a: a.T,
        "rsqrt": lambda a: 1 / np.sqrt(a),
        "quantise": lambda a: a,
        "scale_rows": lambda a, b: a * b,
        "sub_rows": lambda a, b: a - b,
        "scale_cols": lambda a, b: a * b[[0, 0, 1, 1, 2, 2]],
        "sub_from_row": lambda a, b: b[[0, 0, 1, 1, 2, 2]] - a,
        "outer": np.outer,
        "block_sub": lambda a, b, s: a - np.vstack([np.tile(b[1], (16, 1)), np.tile(b[17], (16, 1))]),
        "block_mul": lambda a, b, s: a * np.vstack([np.tile(b[1], (16, 1)), np.tile(b[17], (16, 1))]),
        "to_diagonal": lambda a: np.block([[a[:16], np.ones((16, 16))], [np.ones((16, 16)), a[16:]]]),
        "row_place": lambda a: np.array([[list(row).index(max(row))] for row in a]),
        "replace_equal": lambda a, b, s: np.array(
            [[s if x == y else x for x in row] for row, y in zip(a, b[:, 0], strict=True)]
        ),
        "mul_scalar": lambda a, b: a * b[0, 0],
        "add_scalar": lambda a, b: a + b[0, 0],
        "running_sum": lambda a: np.array([a[: i + 1].sum(0) for i in range(len(a))]),
        "running_sum_through": lambda a: np.array([a[: i + 1].sum(0) for i in range(len(a))]),
        "vecmat": lambda row, matrix: 1.0 + row @ matrix,
        "unit": lambda s: np.eye(6, 8)[[int(s)]].repeat(6, axis=0),
        "sweep": lambda m: swept(m),
        "sweep_kept": lambda m: swept(m),
        "block_row_step": lambda s: row_steps(np.ones((8, 4), s.dtype), int(s)),
        "minus_lower": lambda a: np.vstack([-np.tril(a[:4], -1), -np.tril(a[4:], -1)]),
        "plus_identity": lambda a: a + np.vstack([np.eye(4), np.eye(4)]),
        "masked_cast": lambda a: a,
    }[function]


def swept(m: np.ndarray) -> np.ndarray:
    """The row x with x M = [1, .., 1], M the unit lower triangle of m."""
    unit = np.tril(m.astype(np.float64), -1) + np.eye(len(m))
    return np.linalg.solve(unit.T, np.ones(len(m)))[None]


def row_steps(a: np.ndarray, i: int) -> np.ndarray:
    """Row i of both 4 x 4 blocks += itself @ its block."""
    for block in (a[:4], a[4:]):
        block[i] += block[i] @ block.copy()
    return a


SHAPES = {
    "to_column": ([(6, 8)], (6, 1)),
    "to_row": ([(6, 8)], (1, 8)),
    "from_column": ([(6, 1)], (6, 8)),
    "from_row": ([(1, 8)], (6, 8)),
    "row_to_column": ([(1, 6)], (6, 1)),
    "by_scalar": ([(6, 8), (1, 1)], (6, 8)),
    "turned": ([(8, 6)], (6, 8)),
    "by_column": ([(6, 8), (6, 1)], (6, 8)),
    "by_row": ([(6, 8), (3, 8)], (6, 8)),
    "outer": ([(6, 1), (1, 8)], (6, 8)),
    "by_blocks": ([(32, 8), (32, 8)], (32, 8)),
    "to_blocks": ([(32, 16)], (32, 32)),
    "vecmat": ([(1, 6), (6, 8)], (1, 8)),
    "sweep": ([(8, 8)], (1, 8)),
    "blocks": ([(8, 4)], (8, 4)),
}
UNSTEADY = ("sweep", "sweep_kept")
"""functions of many steps, whose order of summation is their own"""


@pytest.mark.parametrize("dtype", ["fp32", "fp64"])
@pytest.mark.parametrize("function", VECTOR)
def test_every_vector_function_is_that_of_numpy(function, dtype):
    op = VECTOR[function]
    sources, result = SHAPES.get(op.rule, ([(6, 8)] * op.sources, (6, 8)))
    sources = sources[: op.sources]
    k = builder(dtype)
    given = {f"x{i}": np.abs(values(*shape, seed=i)) + 0.1 for i, shape in enumerate(sources)}
    out = k.output("y", result, dtype)
    dst = k.tile("dst", "UB", result, dtype, place="replicate")
    tiles = [k.tile(f"t{i}", "UB", shape, dtype, place="replicate") for i, shape in enumerate(sources)]
    with k.phase("p"):
        for tile, (name, x) in zip(tiles, given.items(), strict=True):
            k.load(tile, k.input(name, x.shape, dtype).at())
        if op.accumulates:
            k.vector("fill", dst, imm=1.0)
        k.vector(function, dst, *tiles, imm=1.75 if op.immediate else None)
        k.store(out.at(), dst)
    arguments = [*given.values(), *([1.75] if op.immediate else [])]
    precise = np.float64 if dtype == "fp64" else np.float32
    want = softened(function)(*(np.asarray(a, dtype=precise) for a in arguments))
    found = execute(k.finish(), given).outputs["y"]
    assert found.dtype == precise
    allowed = 1e-14 if dtype == "fp64" else 3e-7
    np.testing.assert_allclose(found, want, rtol=allowed * (100 if function in UNSTEADY else 1))


def test_the_plain_table_knows_every_function():
    for function in VECTOR:
        assert softened(function)


def test_a_sweep_rounds_after_every_step():
    """x M = e_last in fp16, element by element; rounding once at the end would give another result."""
    M = np.tril(0.2 * values(48, 48, seed=3), -1).astype(np.float16).astype(np.float64)
    x = np.eye(1, 48, 47)[0].astype(np.float16)
    for k in range(47, 0, -1):
        step = x[:k].astype(np.float32) - np.float32(x[k]) * M[k, :k].astype(np.float32)
        x[:k] = step.astype(np.float16)
    k = builder("fp16")
    matrix = k.tile("M", "UB", (48, 48), "fp16", place="replicate")
    row = k.tile("x", "UB", (1, 48), "fp16", place="replicate")
    out = k.output("y", (1, 48), "fp16")
    with k.phase("p"):
        k.load(matrix, k.input("M", (48, 48), "fp16").at())
        k.vector("unit", row, imm=47)
        k.vector("sweep", row, matrix)
        k.store(out.at(), row)
    found = execute(k.finish(), {"M": M}).outputs["y"]
    np.testing.assert_array_equal(found[0], x.astype(np.float32))
    exact = np.linalg.solve((M + np.eye(48)).T, np.eye(1, 48, 47)[0])
    assert (found[0] != exact.astype(np.float16)).any()


def test_narrow_operands_are_computed_in_fp32_and_rounded_once():
    """a * a + a in fp16 would round twice; each instruction rounds its own result."""
    k, x = builder("fp16"), values(6, 8)
    u, v = (k.tile(name, "UB", (6, 8), "fp16") for name in "uv")
    out = k.output("y", (6, 8), "fp16")
    with k.phase("p"):
        k.load(u, k.input("x", (6, 8), "fp16").at())
        k.vector("mul", v, u, u)
        k.vector("add", v, v, u)
        k.store(out.at(), v)
    a = rounded(x, "fp16")
    want = rounded(rounded(a * a, "fp16") + a, "fp16")
    np.testing.assert_array_equal(execute(k.finish(), {"x": x}).outputs["y"], want)


# --- rounding and quantisation -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp8_e4m3"])
def test_a_product_rounds_its_operands_once_and_its_result_at_each_exit_bit_for_bit(dtype):
    """Load rounds to the operand dtype, the cube adds in fp32, the exit rounds; twice over."""
    k, n = builder(dtype), 32
    x, w = values(n, n), values(n, n, seed=1)
    l1, m1 = k.tile("l1", "L1", (n, n), dtype), k.tile("m1", "L1", (n, n), dtype)
    a, b, c = (
        k.tile(name, level, (n, n), kind)
        for name, level, kind in (("a", "L0A", dtype), ("b", "L0B", dtype), ("c", "L0C", "fp32"))
    )
    out = k.output("y", (n, n), "fp32")
    with k.phase("p"):
        k.load(l1, k.input("x", (n, n), dtype).at())
        k.load(m1, k.input("w", (n, n), dtype).at())
        k.move(a, l1)
        k.move(b, m1)
        k.matmul(c, a, b)
        k.move(l1, c, label="exit")
        k.move(a, l1)
        k.matmul(c, a, b)
        k.store(out.at(), c)
    xr, wr = rounded(x, dtype), rounded(w, dtype)
    inner = rounded(np.matmul(xr, wr, dtype=np.float32), dtype)
    want = np.matmul(inner, wr, dtype=np.float32)
    found = execute(k.finish(), {"x": x, "w": w})
    np.testing.assert_array_equal(found.outputs["y"], want)
    (exit_range,) = [r for r in found.ranges if r.name == "exit"]
    assert exit_range.max_abs == np.abs(inner).max()


def product_kernel(dtype: str, scales: tuple[float, float, float], n: int = 16) -> KernelBuilder:
    """y = quantise(x w), in integers of three scales."""
    k = builder(dtype)
    sx, sw, sy = scales
    x, w = k.input("x", (n, n), dtype, scale=sx), k.input("w", (n, n), dtype, scale=sw)
    out = k.output("y", (n, n), dtype, scale=sy)
    l1, m1 = k.tile("l1", "L1", (n, n), dtype, scale=sx), k.tile("m1", "L1", (n, n), dtype, scale=sw)
    a, b = k.tile("a", "L0A", (n, n), dtype, scale=sx), k.tile("b", "L0B", (n, n), dtype, scale=sw)
    c = k.tile("c", "L0C", (n, n), "int32", scale=sx * sw)
    with k.phase("p"):
        k.load(l1, x.at(), label="load x")
        k.load(m1, w.at(), label="load w")
        k.move(a, l1)
        k.move(b, m1)
        k.matmul(c, a, b, label="product")
        k.store(out.at(), c, label="leave")
    return k


@pytest.mark.parametrize(("dtype", "scale"), [("int8", 2.0**-5), ("int16", 2.0**-11), ("int8", 0.03)])
def test_integers_are_quantised_on_the_way_in_multiplied_exactly_and_quantised_at_the_exit(dtype, scale):
    info = np.iinfo(dtype)
    x, w, out = values(16, 16), values(16, 16, seed=1), 2 * scale
    found = execute(product_kernel(dtype, (scale, scale, out)).finish(), {"x": x, "w": w})

    def quantised(real: np.ndarray, step: float) -> tuple[np.ndarray, int]:
        q = np.rint(real / step)
        return np.clip(q, info.min, info.max), int(((q < info.min) | (q > info.max)).sum())

    (xq, x_over), (wq, w_over) = quantised(x, scale), quantised(w, scale)
    exact = xq.astype(np.int64) @ wq.astype(np.int64)
    want, over = quantised(exact * (scale * scale), out)
    np.testing.assert_array_equal(found.outputs["y"], want * out)
    saturated = {r.name: r.saturated for r in found.ranges}
    assert saturated["leave"] == over
    limit = next(r.limit for r in found.ranges if r.name == "leave")
    assert limit == pytest.approx(info.max * out)
    assert x_over + w_over == int((np.abs(x) > info.max * scale).sum() + (np.abs(w) > info.max * scale).sum())


def test_saturation_is_counted_where_it_happens():
    """Operands of 1 in steps of 1/64; sums of 16 leave the int8 range of 127/32 everywhere."""
    one = np.ones((16, 16))
    found = execute(product_kernel("int8", (2.0**-6, 2.0**-6, 2.0**-5)).finish(), {"x": one, "w": one})
    assert found.saturated == 256
    assert {r.name: r.saturated for r in found.ranges if r.saturated} == {"leave": 256}
    np.testing.assert_array_equal(found.outputs["y"], 127 / 32)


def test_a_move_to_a_finer_scale_counts_what_it_saturates():
    k = builder("int8")
    x = k.input("x", (16, 16), "int8", scale=1.0)
    coarse, fine = (
        k.tile(n, "UB", (16, 16), "int8", place="replicate", scale=s)
        for n, s in (("coarse", 1.0), ("fine", 2.0**-6))
    )
    y = k.output("y", (16, 16), "fp32")
    with k.phase("p"):
        k.load(coarse, x.at())
        k.move(fine, coarse, transpose=True, route=k.tile("via", "GM", (16, 16), "int8"), label="finer")
        k.store(y.at(), fine)
    found = execute(k.finish(), {"x": np.full((16, 16), 100.0)})
    assert {r.name: r.saturated for r in found.ranges if r.saturated} == {"finer": 256}
    np.testing.assert_array_equal(found.outputs["y"], 127 / 64)


@pytest.mark.parametrize(("accumulate", "want"), [(False, 3.0), (True, 3.0 + 5.0)])
def test_a_product_into_a_part_replaces_it_unless_it_is_added(accumulate, want):
    """The rest of the accumulator stays as it was."""
    k = builder("fp16")
    l1 = [k.tile(f"l1.{i}", "L1", (16, 16), "fp16") for i in range(3)]
    a, b = k.tile("a", "L0A", (16, 16), "fp16"), k.tile("b", "L0B", (16, 16), "fp16")
    c = k.tile("c", "L0C", (16, 32), "fp32")
    y = k.output("y", (16, 32), "fp32")
    with k.phase("p"):
        for tile, name in zip(l1, ("one", "five", "three"), strict=True):
            k.load(tile, k.input(name, (16, 16), "fp16").at())
        k.move(a, l1[0])
        k.move(b, l1[1])
        k.matmul(c.view(0, 16, 0, 16), a, b, fresh=True)
        k.matmul(c.view(0, 16, 16, 16), a, b)
        k.move(b, l1[2])
        k.matmul(c.view(0, 16, 16, 16), a, b, accumulate=accumulate)
        k.store(y.at(), c)
    given = {name: x * np.eye(16) for name, x in (("one", 1.0), ("five", 5.0), ("three", 3.0))}
    found = execute(k.finish(), given).outputs["y"]
    np.testing.assert_array_equal(found, np.hstack([5 * np.eye(16), want * np.eye(16)]))


def test_an_accumulator_keeps_what_its_operands_cannot_say():
    """2048 + 1 is lost in fp16 and kept in fp32; 2^24 + 1 is lost in fp32 and kept in int32."""
    k = builder("fp16")
    x = k.input("x", (2, 16, 16), "fp16")
    l1 = k.tile("l1", "L1", (16, 16), "fp16", 2)
    one = k.tile("one", "L1", (16, 16), "fp16")
    a, b = k.tile("a", "L0A", (16, 16), "fp16"), k.tile("b", "L0B", (16, 16), "fp16")
    c = k.tile("c", "L0C", (16, 16), "fp32")
    wide, narrow = k.output("wide", (16, 16), "fp32"), k.output("narrow", (16, 16), "fp16")
    with k.phase("p"):
        k.load(one, k.constant("I", np.eye(16), "fp16").at())
        k.move(b, one)
        for i in range(2):
            k.load(l1, x.at(i))
            k.move(a, l1)
            k.matmul(c, a, b, accumulate=i > 0)
        k.store(wide.at(), c)
        k.store(narrow.at(), c)
    found = execute(k.finish(), {"x": np.stack([np.full((16, 16), 2048.0), np.ones((16, 16))])})
    assert (found.outputs["wide"] == 2049).all() and (found.outputs["narrow"] == 2048).all()

    exact = execute(
        product_kernel("int16", (1.0, 1.0, 1024.0)).finish(),
        {"x": np.full((16, 16), 32767.0), "w": np.eye(16) * 32767},
    )
    assert next(r.max_abs for r in exact.ranges if r.name == "product") == 32767**2


def test_overflow_and_nonfinite_values_are_counted_and_the_largest_finite_one_kept():
    k = builder("fp16")
    u, v = (k.tile(name, "UB", (4, 4), "fp16") for name in "uv")
    out = k.output("y", (4, 4), "fp16")
    x = np.full((4, 4), 100.0)
    x[0, :3] = 300.0
    with k.phase("p"):
        k.load(u, k.input("x", (4, 4), "fp16").at())
        k.vector("mul", v, u, u, label="square")
        k.store(out.at(), v)
    found = execute(k.finish(), {"x": x})
    (square,) = [r for r in found.ranges if r.name == "square"]
    assert (square.nonfinite, square.max_abs, square.limit) == (3, 10000.0, 65504.0)
    assert found.nonfinite == 6, "in the product, and again where it is stored"
    assert np.isinf(found.outputs["y"]).sum() == 3


# --- structure of fractals -----------------------------------------------------------------------------


def elements(mask: np.ndarray) -> np.ndarray:
    return np.kron(mask, np.ones((16, 16)))


def test_a_masked_move_takes_its_fractals_and_into_keeps_the_rest():
    k, n = builder("fp32"), 48
    x, w = values(n, n), values(n, n, seed=1)
    mask = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 0]], dtype=bool)
    l1, m1, a = (
        k.tile(name, level, (n, n), "fp32") for name, level in (("l1", "L1"), ("m1", "L1"), ("a", "L0A"))
    )
    b, c = k.tile("b", "L0B", (n, n), "fp32"), k.tile("c", "L0C", (n, n), "fp32")
    alone, over = k.output("alone", (n, n), "fp32"), k.output("over", (n, n), "fp32")
    with k.phase("p"):
        k.load(l1, k.input("x", (n, n), "fp32").at())
        k.load(m1, k.input("w", (n, n), "fp32").at())
        eye = k.tile("eye", "L1", (n, n), "fp32")
        k.load(eye, k.constant("I", np.eye(n), "fp32").at())
        k.move(b, eye)
        k.move(a, l1, fractals=mask)
        k.matmul(c, a, b)
        k.store(alone.at(), c)
        k.move(a, m1)
        k.move(a, l1, fractals=mask, into=True)
        k.matmul(c, a, b)
        k.store(over.at(), c)
    found = execute(k.finish(), {"x": x, "w": w}).outputs
    x32, w32 = x.astype(np.float32), w.astype(np.float32)
    np.testing.assert_array_equal(found["alone"], x32 * elements(mask))
    np.testing.assert_array_equal(found["over"], np.where(elements(mask), x32, w32))


def test_a_masked_product_multiplies_only_the_fractals_it_names():
    k, n = builder("fp64"), 32
    x, w = values(n, n), values(n, n, seed=1)
    left, right = np.array([[1, 0], [1, 1]], dtype=bool), np.array([[0, 1], [1, 0]], dtype=bool)
    a, b = k.tile("a", "L0A", (n, n), "fp64"), k.tile("b", "L0B", (n, n), "fp64")
    c, out = k.tile("c", "L0C", (n, n), "fp64"), k.output("y", (n, n), "fp64")
    with k.phase("p"):
        k.load(a, k.input("x", (n, n), "fp64").at())
        k.load(b, k.input("w", (n, n), "fp64").at())
        k.matmul(c, a, b, fractals=(left, right))
        k.store(out.at(), c)
    want = (x * elements(left)) @ (w * elements(right))
    np.testing.assert_allclose(execute(k.finish(), {"x": x, "w": w}).outputs["y"], want, rtol=1e-13)


def test_a_move_may_transpose_and_windows_may_move_with_a_loop():
    """The rows of a tile, one after another, become columns of the result."""
    k = builder("fp32")
    x = values(4, 6)
    rows, column = k.tile("rows", "UB", (4, 6), "fp32"), k.tile("column", "L1", (6, 1), "fp32")
    a, b, c = (
        k.tile(name, level, shape, "fp32")
        for name, level, shape in (("a", "L0A", (6, 1)), ("b", "L0B", (1, 1)), ("c", "L0C", (6, 1)))
    )
    one, out = k.constant("one", [[1.0]], "fp32"), k.output("y", (6, 4), "fp32")
    with k.phase("p"):
        k.load(rows, k.input("x", (4, 6), "fp32").at())
        k.load(b, one.at())

        def body(i: Index) -> None:
            k.move(column, rows.view(i, 1), transpose=True)
            k.move(a, column)
            k.matmul(c, a, b)
            k.store(out.at(col=i, cols=1), c)

        k.loop(4, body)
    np.testing.assert_array_equal(execute(k.finish(), {"x": x}).outputs["y"], x.astype(np.float32).T)


# --- items, loops, versions ----------------------------------------------------------------------------


def recurrence(total: int, steps: int | np.ndarray, group: int = 1) -> KernelBuilder:
    """Per item: s = 0; s <- s / 2 + x[item, i]; y = s. The state is carried from trip to trip."""
    k = builder("fp32")
    x, y = k.input("x", (total, 5, 2, 4), "fp32"), k.output("y", (total, 2, 4), "fp32")
    s, u = k.tile("s", "UB", (2, 4), "fp32"), k.tile("u", "UB", (2, 4), "fp32", 2)

    def trip(items: list[tuple[Index, ...]]) -> None:
        for (item,) in items:
            k.vector("fill", s, imm=0.0)

            def step(i: Index, item: Index = item) -> None:
                k.load(u, x.at(item, i))
                k.vector("muls", s, s, imm=0.5)
                k.vector("add", s, s, u)

            k.loop(steps, step)
            k.store(y.at(item), s)

    with k.phase("p"):
        k.items([("i", total)], trip, group=group)
    return k


def by_hand(x: np.ndarray, counts: list[int]) -> np.ndarray:
    states = []
    for item, count in zip(x.astype(np.float32), counts, strict=True):
        state = np.zeros((2, 4), np.float32)
        for i in range(count):
            state = state * np.float32(0.5) + item[i]
        states.append(state)
    return np.array(states)


@pytest.mark.parametrize("group", [1, 2, 3])
def test_a_loop_carries_its_state_like_a_plain_loop(group):
    x = values(7, 5, 2, 4)
    found = execute(recurrence(7, 5, group).finish(), {"x": x}).outputs["y"]
    np.testing.assert_array_equal(found, by_hand(x, [5] * 7))


def test_every_item_runs_its_own_number_of_trips():
    x, counts = values(6, 5, 2, 4), [0, 5, 1, 3, 3, 2]
    found = execute(recurrence(6, np.array(counts)).finish(), {"x": x}).outputs["y"]
    np.testing.assert_array_equal(found, by_hand(x, counts))


def test_every_core_runs_its_own_number_of_trips():
    k = builder("fp32")
    cores = k.target.groups
    counts, y = np.arange(cores) + 2, k.output("y", (cores, 1, 1), "fp32")
    s = k.tile("s", "UB", (1, 1), "fp32", place="replicate")

    def body(core: Index) -> None:
        k.vector("fill", s, imm=1.0)
        k.loop(counts, lambda _: k.vector("muls", s, s, imm=2.0))
        k.store(y.at(core), s)

    with k.phase("p"):
        k.cores(body)
    np.testing.assert_array_equal(execute(k.finish(), {}).outputs["y"].ravel(), 2.0**counts)


def test_a_fresh_part_of_a_tile_leaves_zeros_around_it_and_a_kept_one_what_was_there():
    k = builder("fp32")
    x, y = k.input("x", (2, 4, 4), "fp32"), k.output("y", (2, 4, 4), "fp32")
    u = k.tile("u", "UB", (4, 4), "fp32", place="replicate")
    with k.phase("p"):
        for number, fresh in enumerate((False, True)):
            k.load(u, x.at(0))
            k.load(u.view(0, 2, 0, 2), x.at(1, rows=2, cols=2), fresh=fresh)
            k.store(y.at(number), u)
    x_values = values(2, 4, 4)
    kept, alone = execute(k.finish(), {"x": x_values}).outputs["y"]
    part = x_values[1, :2, :2].astype(np.float32)
    np.testing.assert_array_equal(alone, np.pad(part, ((0, 2), (0, 2))))
    np.testing.assert_array_equal(kept[:2, :2], part)
    np.testing.assert_array_equal(kept[2:], x_values[0, 2:].astype(np.float32))


@pytest.mark.parametrize("counts", [2, np.array([2, 2, 1])])
def test_a_fresh_part_leaves_zeros_in_loops_of_any_count_too(counts):
    k = builder("fp32")
    x, y = k.input("x", (3, 4, 4), "fp32"), k.output("y", (3, 4, 4), "fp32")
    u = k.tile("u", "UB", (4, 4), "fp32", place="replicate")

    def body(items: list[tuple[Index, ...]]) -> None:
        ((i,),) = items
        k.load(u, x.at(i))
        k.loop(counts, lambda _: k.load(u.view(0, 2, 0, 2), x.at(i, rows=2, cols=2), fresh=True))
        k.store(y.at(i), u)

    with k.phase("p"):
        k.items([("i", 3)], body)
    given = values(3, 4, 4)
    wanted = np.pad(given[:, :2, :2], ((0, 0), (0, 2), (0, 2))).astype(np.float32)
    np.testing.assert_array_equal(execute(k.finish(), {"x": given}).outputs["y"], wanted)


def test_ranges_leave_out_items_that_have_finished():
    """1, 2, 4, 8 in the first item, whose state then rests while the others double once, twice, .."""
    k = builder("fp32")
    y, s = k.output("y", (2, 1, 1), "fp32"), k.tile("s", "UB", (1, 1), "fp32", place="replicate")

    def body(items: list[tuple[Index, ...]]) -> None:
        ((i,),) = items
        k.vector("fill", s, imm=1.0)
        k.loop(np.array([3, 1]), lambda _: k.vector("muls", s, s, imm=2.0, label="double"))
        k.loop(np.array([0, 4]), lambda _: k.vector("adds", s, s, imm=-1.0, label="count down"))
        k.store(y.at(i), s)

    with k.phase("p"):
        k.items([("i", 2)], body)
    found = execute(k.finish(), {})
    np.testing.assert_array_equal(found.outputs["y"].ravel(), [8.0, -2.0])
    assert {r.name: r.max_abs for r in found.ranges} == {
        "fill s": 1.0, "double": 8.0, "count down": 2.0, "store y": 8.0
    }  # fmt: skip


@pytest.mark.parametrize("room", [1, 200, 700, 1 << 26])
def test_a_batch_in_blocks_equals_one_item_at_a_time(room, monkeypatch):
    x, counts = values(6, 5, 2, 4), np.array([2, 5, 1, 3, 3, 2])
    monkeypatch.setattr(npusim.execute, "BLOCK_BYTES", room)
    found = execute(recurrence(6, counts).finish(), {"x": x}).outputs["y"]
    np.testing.assert_array_equal(found, by_hand(x, counts.tolist()))


def test_random_kernels_give_the_same_values_in_blocks_of_any_size(monkeypatch):
    def outputs(seed: int) -> Execution:
        kernel = case(seed).kernel
        given = {t.name: values(*t.shape, seed=seed) for t in kernel.tensors if t.role == "input"}
        return execute(kernel, given)

    whole = [outputs(seed) for seed in range(30)]
    monkeypatch.setattr(npusim.execute, "BLOCK_BYTES", 1)
    for seed, want in enumerate(whole):
        found = outputs(seed)
        for name, value in want.outputs.items():
            np.testing.assert_array_equal(found.outputs[name], value, err_msg=f"seed {seed}, {name}")
        assert found.ranges == want.ranges


def test_what_stands_before_the_items_is_there_for_each_of_them():
    k = builder("fp32")
    x, y = k.input("x", (3, 4, 4), "fp32"), k.output("y", (3, 4, 4), "fp32")
    bias, u = k.tile("bias", "UB", (4, 4), "fp32"), k.tile("u", "UB", (4, 4), "fp32")

    def body(items: list[tuple[Index, ...]]) -> None:
        ((i,),) = items
        k.load(u, x.at(i))
        k.vector("add", bias, bias, u)
        k.store(y.at(i), bias)

    with k.phase("p"):
        k.load(bias, k.constant("b", np.full((4, 4), 3.0), "fp32").at())
        k.items([("i", 3)], body)
    x_values = values(3, 4, 4)
    found = execute(k.finish(), {"x": x_values}).outputs["y"]
    np.testing.assert_array_equal(found, x_values.astype(np.float32) + 3, "no item sees what another one did")


def test_a_later_phase_reads_what_an_earlier_one_stored():
    k = builder("fp32")
    x, mid, y = k.input("x", (3, 4), "fp32"), k.output("mid", (3, 4), "fp16"), k.output("y", (3, 4), "fp32")
    u, v = k.tile("u", "UB", (3, 4), "fp32"), k.tile("v", "UB", (3, 4), "fp32")
    with k.phase("one"):
        k.load(u, x.at())
        k.store(mid.at(), u)
    with k.phase("two"):
        k.load(v, mid.at())
        k.store(y.at(), v)
    given = values(3, 4)
    np.testing.assert_array_equal(execute(k.finish(), {"x": given}).outputs["y"], rounded(given, "fp16"))


def test_a_handle_reads_the_version_it_was_given_for():
    k = builder("fp32")
    x, y = k.input("x", (2, 4, 4), "fp32"), k.output("y", (4, 4), "fp32")
    u, v = k.tile("u", "UB", (4, 4), "fp32", 2), k.tile("v", "UB", (4, 4), "fp32")
    with k.phase("p"):
        old = k.load(u, x.at(0))
        k.load(u, x.at(1))
        k.vector("sub", v, u, old)
        k.store(y.at(), v)
    given = values(2, 4, 4).astype(np.float32)
    np.testing.assert_array_equal(execute(k.finish(), {"x": given}).outputs["y"], given[1] - given[0])


# --- wrong inputs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, r"tiny: input x is missing; it takes \(2, 5, 2, 4\)"),
        ({"X": np.zeros((2, 5, 2, 4))}, r"tiny: input x is missing"),
        ({"x": np.zeros((2, 5, 2))}, r"tiny: input x is of shape \(2, 5, 2\); it takes \(2, 5, 2, 4\)"),
    ],
)
def test_a_missing_or_misshaped_input_is_named(inputs, message):
    with pytest.raises(InputError, match=message):
        execute(recurrence(2, 5).finish(), inputs)


def test_inputs_are_left_as_they_were():
    x = values(2, 5, 2, 4)
    before = x.copy()
    execute(recurrence(2, 5).finish(), {"x": x})
    np.testing.assert_array_equal(x, before)
