"""Flags, tables of items, and several kernels in one launch: what they order, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from npusim import cost
from npusim.builder import KernelBuilder, fuse
from npusim.check import check
from npusim.errors import GraphError
from npusim.exact import exact
from npusim.execute import execute
from npusim.lower import lower
from npusim.problem import Target
from npusim.profiles import load_machine
from npusim.settings import EngineSettings
from npusim.simulate import simulate
from npusim.study import time_program

TOY = load_machine("toy")
TARGET = Target.of(TOY)


def passing(flagged=True, slow=1):
    """The vector cores store y = x + 1 to a tensor, the cube core loads it and stores it to z."""
    k = KernelBuilder("passing", TARGET, "fp16")
    x, z = k.input("x", (4, 32, 32), "fp16"), k.output("z", (4, 32, 32), "fp16")
    y = k.output("y", (4, 32, 32), "fp16")
    here, there = k.tile("here", "UB", (32, 32), "fp16"), k.tile("there", "L1", (32, 32), "fp16")
    left, one = k.tile("left", "L0A", (32, 32), "fp16"), k.tile("one", "L1", (32, 32), "fp16")
    right, c = k.tile("right", "L0B", (32, 32), "fp16"), k.tile("c", "L0C", (32, 32), "fp32")
    stored = k.flag("y stored")

    def item(items):
        ((i,),) = items
        k.load(here, x.at(i), label="load x")
        for _ in range(slow):
            k.vector("adds", here, here, imm=1.0, label="+ 1")
        k.store(y.at(i), here, label="store y", sets=stored if flagged else None)
        k.load(there, y.at(i), label="load y", after=stored if flagged else None)
        k.move(left, there)
        k.matmul(c, left, right)
        k.store(z.at(i), c, label="store z")

    with k.phase("pass"):
        k.load(one, k.constant("I", np.eye(32), "fp16").at())
        k.move(right, one)
        k.items([("i", 4)], item)
    return k.finish()


def test_a_load_after_a_flag_sees_what_was_stored():
    x = np.random.default_rng(0).standard_normal((4, 32, 32))
    found = execute(check(passing(), TARGET), {"x": x})
    np.testing.assert_array_equal(found.outputs["z"], found.outputs["y"])


def test_the_load_waits_for_the_stores_of_all_cores_in_both_engines():
    """However long the stores take to come, what follows comes that much later."""
    settings = [EngineSettings(engine="reference"), EngineSettings(exact=True), EngineSettings()]
    times = [[simulate(lower(passing(slow=n), TOY), one).makespan for one in settings] for n in (1, 50)]
    for reference, *fast in times:
        assert fast == pytest.approx([reference] * 2, rel=1e-9)
    rows = 32 // max(1, TOY.core.vector_cores.value)
    add = cost.vector(TOY, "adds", rows, 32, rows, 2)
    assert times[1][0] - times[0][0] > 0.9 * 49 * add.occupancy


def test_without_the_flag_the_graph_is_refused():
    with pytest.raises(GraphError, match=r"loads tensor y.*flag \(sets=\)"):
        check(passing(flagged=False), TARGET)


def windows(lengths):
    """Sequences one after another in one tensor, each as long as it is."""
    k = KernelBuilder("windows", TARGET, "fp32")
    total = sum(lengths)
    x, y = k.input("x", (total, 16, 16), "fp32"), k.output("y", (total, 16, 16), "fp32")
    tile = k.tile("t", "UB", (16, 16), "fp32")

    def item(items):
        _, first = items[0]

        def step(i):
            k.load(tile, x.at(first + i))
            k.vector("muls", tile, tile, imm=2.0)
            k.store(y.at(first + i), tile)

        k.loop(np.array(lengths), step)

    with k.phase("all"):
        starts = np.cumsum([0, *lengths[:-1]])
        k.items([("sequence", len(lengths))], item, tables={"sequence": starts})
    return k.finish()


@pytest.mark.parametrize("lengths", [(3, 1, 5), (9, 1, 2), (1, 0, 4), (2, 2)])
def test_a_table_says_where_each_item_begins(lengths):
    x = np.random.default_rng(1).standard_normal((sum(lengths), 16, 16)).astype(np.float32)
    found = execute(check(windows(lengths), TARGET), {"x": x})
    np.testing.assert_array_equal(found.outputs["y"], 2 * x)


def test_a_table_of_the_wrong_length_or_in_groups_is_refused():
    for wrong in (
        {"tables": {"i": [0, 1, 2]}},
        {"tables": {"j": [0, 1]}},
        {"tables": {"i": [0, 1]}, "group": 2},
    ):
        k = KernelBuilder("wrong", TARGET, "fp16")
        with k.phase("p"), pytest.raises(GraphError, match="table"):
            k.items([("i", 2)], lambda items: None, **wrong)


def half(name, source, result, role, dtype="fp32"):
    """One of two kernels: result = 2 source."""
    k = KernelBuilder(name, TARGET, dtype)
    x = k.input(source, (2, 16, 16), dtype)
    y = k.output(result, (2, 16, 16), dtype)
    tile = k.tile("t", "UB", (16, 16), dtype)

    def item(items):
        ((i,),) = items
        k.load(tile, x.at(i))
        k.vector("muls", tile, tile, imm=2.0)
        k.store(y.at(i), tile)

    with k.phase(role):
        k.items([("i", 2)], item)
    return k.finish()


def test_two_kernels_in_one_launch_pass_a_tensor_on():
    kernel = fuse("both", [half("a", "x", "y", "first"), half("b", "y", "z", "second")], ("z",),
                  algorithm="", variant="")  # fmt: skip
    x = np.random.default_rng(2).standard_normal((2, 16, 16)).astype(np.float32)
    found = execute(check(kernel, TARGET), {"x": x})
    assert [t.name for t in kernel.outputs] == ["z"]
    np.testing.assert_array_equal(found.outputs["z"], 4 * x)


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(GraphError, match="tensor y is"):
        fuse("both", [half("a", "x", "y", "first"), half("b", "y", "z", "second", "fp16")], ("z",))
    with pytest.raises(GraphError, match="nothing stores q"):
        fuse("one", [half("a", "x", "y", "first")], ("q",))


def test_a_load_of_what_another_item_stores_is_refused():
    k = KernelBuilder("neighbour", TARGET, "fp16")
    y, tile, stored = k.output("y", (8, 16, 16), "fp16"), k.tile("t", "UB", (16, 16), "fp16"), k.flag("f")

    def item(items):
        ((s,),) = items
        k.vector("fill", tile, imm=1.0)
        k.store(y.at(s), tile, sets=stored)
        k.load(tile, y.at(7 - s), after=stored)

    with k.phase("p"):
        k.items([("s", 8)], item)
    with pytest.raises(GraphError, match="very place"):
        check(k.finish(), TARGET)


@pytest.mark.parametrize("wrong", ["f", 0, "tile"])
def test_only_a_flag_is_one(wrong):
    k = KernelBuilder("wrong", TARGET, "fp16")
    x, tile = k.input("x", (16, 16), "fp16"), k.tile("t", "UB", (16, 16), "fp16")
    with k.phase("p"):
        for option in ("sets", "after"):
            with pytest.raises(GraphError, match="takes a flag"):
                k.load(tile, x.at(), **{option: tile if wrong == "tile" else wrong})


def test_loops_with_counts_of_their_own_inside_each_other_compute_what_they_say():
    """Items that have finished the outer loop would be beyond the tensor in the inner one."""
    k = KernelBuilder("nested", TARGET, "fp32")
    x, y = k.input("x", (5, 16, 16), "fp32"), k.output("y", (2, 16, 16), "fp32")
    tile, total = k.tile("t", "UB", (16, 16), "fp32"), k.tile("sum", "UB", (16, 16), "fp32")

    def item(items):
        s, first = items[0]

        def inner(i, j):
            k.load(tile, x.at(first + i + j))
            k.vector("add", total, total, tile)

        k.vector("fill", total, imm=0.0)
        k.loop(np.array([5, 1]), lambda i: k.loop(np.array([1, 5]), lambda j: inner(i, j)))
        k.store(y.at(s), total)

    with k.phase("p"):
        k.items([("s", 2)], item, tables={"s": np.array([0, 0])})
    values = np.random.default_rng(3).standard_normal((5, 16, 16)).astype(np.float32)
    found = execute(check(k.finish(), TARGET), {"x": values})
    np.testing.assert_allclose(found.outputs["y"], [values.sum(0)] * 2, rtol=1e-5, atol=1e-6)


def test_an_item_without_trips_at_the_end_lies_within_bounds():
    check(windows((2, 0)), TARGET)


def test_windows_that_a_table_places_are_no_windows_that_overlap():
    """64 rows each, 64 apart: each byte is read from memory once."""
    machine = load_machine("ascend-910b2")
    k = KernelBuilder("rows", Target.of(machine), "fp16")
    x, y = k.input("x", (480 * 64, 128), "fp16"), k.output("y", (480, 64, 128), "fp16")
    tile = k.tile("t", "UB", (64, 128), "fp16")

    def item(items):
        s, first = items[0]
        k.load(tile, x.at(row=first, rows=64))
        k.store(y.at(s), tile)

    with k.phase("p"):
        k.items([("s", 480)], item, tables={"s": np.arange(480) * 64})
    moved = time_program(lower(k.finish(), machine), EngineSettings())[0].bytes
    assert moved["hbm_read"] == 480 * 64 * 128 * 2


def test_in_exact_arithmetic_the_flags_are_those_of_the_new_kernel():
    kernel = exact(passing())
    x = np.random.default_rng(4).standard_normal((4, 32, 32))
    found = execute(check(kernel, TARGET), {"x": x})
    np.testing.assert_allclose(found.outputs["z"], x + 1, rtol=1e-15)
    used = {view.tile for phase in kernel.phases for op in phase.operations for view in op.views}
    assert used == set(kernel.tiles)


@pytest.mark.parametrize("nested", [False, True])
def test_an_item_that_does_not_come_to_a_place_is_not_held_against_it(nested):
    """The last item begins behind the tensor, and has no trips."""
    k = KernelBuilder("none", TARGET, "fp32")
    x, tile = k.input("x", (4, 16, 16), "fp32"), k.tile("t", "UB", (16, 16), "fp32")

    def item(items):
        _, first = items[0]
        inner = np.array([1, 1, 3])
        body = (lambda i: k.loop(inner, lambda j: k.load(tile, x.at(first + j)))) if nested else (
            lambda i: k.load(tile, x.at(first)))  # fmt: skip
        k.loop(np.array([2, 2, 0]), body)

    with k.phase("p"):
        k.items([("i", 3)], item, tables={"i": np.array([0, 2, 4])})
    check(k.finish(), TARGET)


def test_a_flag_holds_no_data():
    k = KernelBuilder("wrong", TARGET, "int8")
    x, flag = k.input("x", (1, 1), "int8"), k.flag("f")
    with k.phase("p"), pytest.raises(GraphError, match="holds no data"):
        k.load(flag, x.at())


def test_items_dealt_otherwise_are_no_store_to_wait_for():
    k = KernelBuilder("two", TARGET, "fp16")
    y, tile, stored = k.output("y", (8, 16, 16), "fp16"), k.tile("t", "UB", (16, 16), "fp16"), k.flag("f")

    def first(items):
        k.vector("fill", tile, imm=1.0)
        k.store(y.at(items[0][0]), tile, sets=stored)

    with k.phase("p"):
        k.items([("s", 8)], first)
        k.items([("s", 8)], lambda items: k.load(tile, y.at(items[0][0]), after=stored), deal="contiguous")
    with pytest.raises(GraphError, match="very place"):
        check(k.finish(), TARGET)
