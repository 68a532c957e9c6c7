"""Requantising on the way out of an accumulator: by the move where it can, else by the vector unit."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from npusim import cost
from npusim.builder import KernelBuilder, Target, Tensor, Tile, accumulator_of
from npusim.errors import ProfileError
from npusim.execute import execute
from npusim.graph import View, operations
from npusim.lower import lower
from npusim.machine import override
from npusim.ops import OpKind
from npusim.profiles import load_machine

profile = lru_cache(load_machine)


def squared(machine: str, dtype: str, out: str = "", scale: float = 1.0, level: str = "L1"):
    """x x, which leaves its accumulator as `out` at `scale` for `level`: global memory, UB, or L1, from where
    it comes back through a product with the identity."""
    k, out = KernelBuilder("square", Target.of(profile(machine)), dtype), out or dtype
    last = accumulator_of(out) if level == "L1" else out
    x, y = k.input("x", (32, 32), dtype), k.output("y", (32, 32), last, scale=scale)
    l1, a, b = (k.tile(n, at, (32, 32), dtype) for n, at in (("l1", "L1"), ("a", "L0A"), ("b", "L0B")))
    c = k.tile("c", "L0C", (32, 32), accumulator_of(dtype))
    with k.phase("p"):
        k.load(l1, x.at())
        k.move(a, l1)
        k.move(b, l1)
        k.matmul(c, a, b)
        if level == "GM":
            k.store(y.at(), c, label="leave")
        else:
            come_back(k, c, y, out, scale, level)
    return k.finish()


def come_back(k: KernelBuilder, c: Tile, y: Tensor, out: str, scale: float, level: str) -> None:
    """By `level`, to y."""
    back = k.tile("back", level, (32, 32), out, scale=scale)
    k.move(back, c, label="leave")
    if level == "UB":
        k.store(y.at(), back)
        return
    one = k.tile("one", "L1", (32, 32), out)
    left, right = k.tile("left", "L0A", (32, 32), out, scale=scale), k.tile("right", "L0B", (32, 32), out)
    wide = k.tile("wide", "L0C", (32, 32), y.dtype, scale=scale)
    k.load(one, k.constant("I", np.eye(32), out).at())
    k.move(left, back)
    k.move(right, one)
    k.matmul(wide, left, right)
    k.store(y.at(), wide)


def leaving(kernel, machine: str) -> dict[str, cost.Cost]:
    """The operations by which the result leaves, with what they cost."""
    (phase,) = lower(kernel, profile(machine)).phases
    return {i.operation.name: i.cost for i in phase.instances if i.operation and i.name.startswith("leave")}


@pytest.mark.parametrize("level", ["L1", "GM", "UB"])
@pytest.mark.parametrize(
    ("machine", "dtype", "out"),
    [
        ("toy", "int8", ""), ("toy", "int4", ""), ("toy", "int8", "fp16"), ("toy", "int8", "int16"),
        ("ascend-310p3", "int8", ""), ("hexagon-class", "int8", "fp16"), ("hexagon-class", "int4", ""),
        ("ascend-950pr-9599", "fp8_e4m3", ""), ("ascend-910b2", "int8", "fp32"),
    ],
)  # fmt: skip
def test_values_are_the_same_by_every_way(machine, dtype, out, level):
    """Quantised once, to nearest even, whoever does it."""
    x = np.random.default_rng(3).integers(-3, 4, (32, 32)).astype(float)
    found = execute(squared(machine, dtype, out, 0.5 if out.startswith("int") else 1.0, level), {"x": x})
    want = execute(squared("toy", dtype, out or dtype, 0.5 if out.startswith("int") else 1.0), {"x": x})
    np.testing.assert_array_equal(found.outputs["y"], want.outputs["y"])
    limit = {"int8": 127, "int4": 7}.get(out or dtype)
    if limit:
        np.testing.assert_array_equal(found.outputs["y"], np.clip(x @ x, -limit - 1, limit))
        assert found.saturated >= np.count_nonzero(np.abs(x @ x) > limit + 1)


def test_a_move_that_quantises_takes_its_cycles_more():
    """32 rows of 32 int8; toy charges the source: 32 x 128 bytes at 100 a cycle, 10 cycles for the scale."""
    (found,) = leaving(squared("toy", "int8"), "toy").values()
    assert found.occupancy == pytest.approx(40.96 + 10, abs=1e-3)
    assert dict(found.terms)["paths.l0c_l1.quantise_cycles.int32->int8"] == 10
    (plain,) = leaving(squared("toy", "fp16"), "toy").values()
    assert plain.occupancy == pytest.approx(40.96, abs=1e-3)
    free = override(profile("toy"), {"paths.l0c_l1.quantise_cycles.int32->int8": 0})
    assert cost.transfer(free, "l0c_l1", 32, 128, quantised="int32->int8").occupancy == pytest.approx(40.96)


def test_the_vector_unit_makes_what_the_move_cannot():
    """int4 on toy goes as int32 by way of global memory, is multiplied and cast, and goes back."""
    kernel = squared("toy", "int4")
    found = leaving(kernel, "toy")
    assert set(found) == {"leave (out)", "leave (as it is)", "leave (quantise)", "leave"}
    # 16 rows of 32 int32 on each of two vector cores: 8 repeats each of muls and cast, muls visible 10 later
    vector = cost.vector(profile("toy"), "quantise", 16, 32, 16, 4)
    muls, cast = (profile("toy").core.vector.functions[name] for name in ("muls", "cast"))
    each = 8 * (muls.cycles_per_repeat.value + cast.cycles_per_repeat.value) + muls.latency_cycles.value
    assert vector.occupancy == each and vector.instructions == 2
    assert found["leave (quantise)"].occupancy == each
    quantised = [
        op
        for op in operations(kernel.phases[0].nodes)
        if op.kind is OpKind.move and isinstance(op.srcs[0], View) and op.srcs[0].tile.level == "L0C"
    ]
    assert {op.dst.tile.dtype for op in quantised} == {"int32"}


def test_every_number_that_says_what_an_exit_quantises_is_assumed_and_no_float_exit_pays_it():
    for name in ("ascend-910b2", "ascend-910c-9391", "ascend-950dt-9592"):
        paths = profile(name).paths
        changes = {key: set(path.quantise_cycles) for key, path in paths.items() if path.quantise_cycles}
        assert {"l0c_l1", "l0c_gm"} <= set(changes)
        assert all({"int32->int8", "int32->fp16"} <= found for found in changes.values())
        assert all("int4" not in change for found in changes.values() for change in found), "no such mode"
        assert {number.evidence for path in paths.values() for number in path.quantise_cycles.values()} == {
            "assumed"
        }
        (plain,) = leaving(squared(name, "fp16", "fp16"), name).values()
        assert not any("quantise" in field for field, _ in plain.terms)


@pytest.mark.parametrize("change", ["int8", "int32->int9", "fp16=>int8"])
def test_a_profile_names_both_dtypes_of_a_change(change, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\ndescription: mine\nextends: toy\npaths:\n  l0c_l1:\n    quantise_cycles:\n"
        f"      {change}: {{value: 1, source: me, evidence: assumed}}\n"
    )
    with pytest.raises(ProfileError, match=r"paths.l0c_l1.quantise_cycles: '.*' is not 'dtype->dtype'"):
        load_machine(str(path))
