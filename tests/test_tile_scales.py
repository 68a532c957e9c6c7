"""A buffer that holds each operand at the scale it comes with, for integers and for floats."""

from __future__ import annotations

import numpy as np
import pytest

from npusim.builder import GraphError, KernelBuilder, Target
from npusim.check import check
from npusim.exact import exact
from npusim.execute import execute
from npusim.profiles import load_machine
from npusim.text import kernel_text

TOY = Target.of(load_machine("toy"))
FINE, COARSE = 2.0**-6, 2.0**-4


def products(second: float = FINE, store: float = FINE * COARSE, add: bool = False):
    """y = x x at two scales, one after another through the same buffers. `second`: the scale at which the
    accumulator's own second product is taken to stand; `store`: that at which it is taken to leave."""
    k = KernelBuilder("squares", TOY, "int8")
    x, y = k.input("x", (16, 16), "int8", scale=FINE), k.output("y", (16, 16), "fp16")
    z = k.output("z", (16, 16), "fp16")
    fine, coarse = (k.tile(name, "L1", (16, 16), "int8") for name in ("fine", "coarse"))
    a, b = k.tile("a", "L0A", (16, 16), "int8"), k.tile("b", "L0B", (16, 16), "int8")
    c = k.tile("c", "L0C", (16, 16), "int32")
    with k.phase("p"):
        k.load(fine.scaled(FINE), x.at())
        k.load(coarse.scaled(COARSE), x.at())
        k.move(a.scaled(FINE), fine.scaled(FINE))
        k.move(b.scaled(FINE), fine.scaled(FINE))
        k.matmul(c.scaled(FINE * FINE), a.scaled(FINE), b.scaled(FINE), label="fine")
        k.store(y.at(), c.scaled(FINE * FINE))
        k.move(b.scaled(COARSE), coarse.scaled(COARSE))
        k.matmul(c.scaled(second * COARSE), a.scaled(second), b.scaled(COARSE), accumulate=add, label="mixed")
        k.store(z.at(), c.scaled(store))
    return k.finish()


def test_operands_are_multiplied_at_the_scale_they_come_with():
    x = np.random.default_rng(0).integers(-20, 20, (16, 16)) * FINE
    found = execute(check(products(), TOY), {"x": x})
    rounded = np.rint(x / COARSE) * COARSE
    np.testing.assert_allclose(found.outputs["y"], x @ x, rtol=1e-3)
    np.testing.assert_allclose(found.outputs["z"], x @ rounded, rtol=1e-3)
    assert {r.scale for r in found.ranges if r.dtype == "int32"} == {FINE * FINE, FINE * COARSE}
    assert "matmul c scale 0.000976562 <- a scale 0.015625, b scale 0.0625" in kernel_text(products())


def test_in_exact_arithmetic_there_are_no_scales():
    x = np.random.default_rng(1).normal(size=(16, 16))
    found = execute(exact(products()), {"x": x}).outputs
    np.testing.assert_allclose(found["z"], x @ x, rtol=1e-13)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"second": COARSE, "store": COARSE**2}, "mixed: tile a is used at scale 0.0625, but was written at"),
        ({"store": FINE * FINE}, "store z: tile c is used at scale 0.000244141, but was written at 0.00097"),
        ({"add": True}, "mixed: tile c is used at scale 0.000976562, but was written at 0.000244141"),
    ],
)
def test_what_is_read_or_added_to_has_the_scale_it_was_written_at(wrong, said):
    with pytest.raises(GraphError, match=said) as caught:
        check(products(**wrong), TOY)
    assert caught.value.rule == "scale"


def looped(first: float, later: float, slots: int = 1):
    """A tile that a loop reads and then writes at another scale."""
    k = KernelBuilder("loop", TOY, "int8")
    x, y = k.input("x", (16, 16), "int8"), k.output("y", (16, 16), "int8")
    tile = k.tile("t", "UB", (16, 16), "int8", slots)

    def trip(_):
        k.store(y.at(), tile.scaled(first))
        k.load(tile.scaled(later), x.at())

    with k.phase("p"):
        k.load(tile.scaled(first), x.at())
        k.loop(3, trip)
    return k.finish()


def test_a_scale_that_the_next_trip_of_a_loop_finds_changed_is_refused():
    check(looped(0.5, 0.5), TOY)
    with pytest.raises(GraphError, match=r"tile t is used at scale 0\.5, but was written at 0\.25"):
        check(looped(0.5, 0.25), TOY)


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp8_e4m3"])
def test_a_float_at_a_scale_reaches_beyond_its_format_and_rounds_as_it_does(dtype):
    k = KernelBuilder("scaled", TOY, "fp32")
    x, y = k.input("x", (16, 16), "fp32"), k.output("y", (16, 16), "fp32")
    wide = k.tile("wide", "UB", (16, 16), "fp32")
    few = {scale: k.tile(f"few {scale}", "UB", (16, 16), dtype, scale=scale) for scale in (1.0, 2.0**12)}
    with k.phase("p"):
        k.load(wide, x.at())
        for scale, tile in few.items():
            k.vector("quantise", tile, wide, label=f"at {scale:g}")
        k.store(y.at(), few[2.0**12])
    small = np.random.default_rng(2).uniform(-1, 1, (16, 16)).astype(np.float32) + 2
    found = execute(check(k.finish(), TOY), {"x": small * 2.0**17})
    exact_of = execute(k_rounding(dtype), {"x": small * 2.0**5})
    np.testing.assert_array_equal(found.outputs["y"], exact_of.outputs["y"] * 2.0**12)
    seen = {r.name: r for r in found.ranges}
    assert bool(seen["at 1"].nonfinite) == (dtype != "bf16") and seen["at 4096"].nonfinite == 0
    assert seen["at 4096"].limit == seen["at 1"].limit * 4096


def k_rounding(dtype: str):
    """x rounded to `dtype`."""
    k = KernelBuilder("rounded", TOY, "fp32")
    x, y = k.input("x", (16, 16), "fp32"), k.output("y", (16, 16), "fp32")
    tile = k.tile("t", "UB", (16, 16), dtype)
    with k.phase("p"):
        k.load(tile, x.at())
        k.store(y.at(), tile)
    return k.finish()
