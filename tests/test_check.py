"""Every rule of a valid graph, by a graph that breaks it and the message that names the tile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from npusim.builder import GraphError, Kernel, KernelBuilder, Target
from npusim.check import RULES, check, peak_bytes
from npusim.graph import Items, Loop, Phase
from npusim.profiles import load_machine


@lru_cache
def target(profile: str = "toy") -> Target:
    return Target.of(load_machine(profile))


class Graph:
    """A builder in an open phase, with tiles by their level, to make one mistake with."""

    def __init__(self, over: str = "group", profile: str = "toy") -> None:
        self.over = over
        self.k = k = KernelBuilder("bad", target(profile), "fp16")
        self.x, self.y = k.input("x", (16, 16), "fp16"), k.output("y", (16, 16), "fp16")
        self.l1 = k.tile("l1", "L1", (16, 16), "fp16")
        self.a, self.b = k.tile("a", "L0A", (16, 16), "fp16"), k.tile("b", "L0B", (16, 16), "fp16")
        self.c = k.tile("c", "L0C", (16, 16), "fp32")
        self.u, self.v = k.tile("u", "UB", (16, 16), "fp16"), k.tile("v", "UB", (16, 16), "fp16")

    def tile(self, name: str, level: str, shape=(16, 16), dtype="fp16", **how):
        return self.k.tile(name, level, shape, dtype, **how)

    def operands(self) -> None:
        self.k.load(self.l1, self.x.at())
        self.k.move(self.a, self.l1)
        self.k.move(self.b, self.l1)

    def finish(self, *build: Callable[[Graph], object]) -> Kernel:
        with self.k.phase("p", over=self.over):
            for step in build:
                step(self)
        return self.k.finish()


def load_u(g: Graph) -> None:
    g.k.load(g.u, g.x.at())


def operands(g: Graph) -> None:
    g.operands()


def late(g: Graph) -> None:
    """Reads a version after its only slot was written again."""
    old = g.k.load(g.l1, g.x.at())
    g.k.load(g.l1, g.x.at())
    g.k.move(g.a, old)


def from_items(g: Graph) -> None:
    g.k.items([("i", 2)], lambda _: g.k.load(g.u, g.x.at()))
    g.k.store(g.y.at(), g.u)


def too_deep(g: Graph) -> None:
    """A tile of 32 KiB in three slots."""
    big = g.k.input("big", (128, 128), "fp16")
    g.k.load(g.tile("deep", "L0A", (128, 128), slots=3), big.at())


def counted(g: Graph, counts: list[int], total: int, group: int = 1) -> None:
    def body(_: object) -> None:
        g.k.loop(np.array(counts), lambda _: g.k.load(g.u, g.x.at()))

    g.k.items([("i", total)], body, group=group)


BAD: dict[str, tuple[str, list[Callable[[Graph], object]], str]] = {
    "a view beyond the rows": (
        "bounds",
        [load_u, lambda g: g.k.vector("exp", g.v, g.u.view(8, 16))],
        "exp v: view u[8:+16, 0:+16] lies outside tile u [16, 16]",
    ),
    "an empty view": (
        "bounds",
        [load_u, lambda g: g.k.vector("exp", g.v.view(0, 0), g.u.view(0, 0))],
        "view v[0:+0, 0:+16] lies outside tile v",
    ),
    "a negative start": (
        "bounds",
        [load_u, lambda g: g.k.vector("exp", g.v, g.u.view(-1, 16))],
        "lies outside tile u",
    ),
    "a view that leaves its tile in the last trip": (
        "bounds",
        [
            load_u,
            lambda g: g.k.loop(
                3, lambda i: g.k.vector("exp", g.v.view(cols=4), g.u.view(col=4 * i + 6, cols=4))
            ),
        ],
        "lies outside tile u",
    ),
    "an access beyond its tensor": (
        "bounds",
        [lambda g: g.k.load(g.l1, g.x.at(row=8, rows=16))],
        "x[; 8:+16, 0:+16] lies outside tensor x [16, 16]",
    ),
    "a leading index too many": (
        "bounds",
        [lambda g: g.k.load(g.l1, g.x.at(0))],
        "1 leading indices; tensor x [16, 16] takes 0",
    ),
    "items in items": (
        "items",
        [
            lambda g: g.k.items(
                [("a", 2)], lambda _: g.k.items([("b", 2)], lambda _: g.k.load(g.l1, g.x.at()))
            )
        ],
        "the items b stand inside a loop or other items",
    ),
    "a load of what the phase stores": (
        "order",
        [
            operands,
            lambda g: g.k.matmul(g.c, g.a, g.b),
            lambda g: g.k.store(g.y.at(), g.c),
            lambda g: g.k.load(g.l1, g.y.at()),
        ],
        "loads tensor y, which the same phase stores",
    ),
    "a load of another shape": (
        "shape",
        [lambda g: g.k.load(g.l1, g.x.at(rows=8))],
        "load l1: tensor x [8, 16] does not fit tile l1 [16, 16]",
    ),
    "a store of another shape": (
        "shape",
        [load_u, lambda g: g.k.store(g.y.at(cols=4), g.u, label="leave")],
        "leave: tile u [16, 16] does not fit tensor y [16, 4]",
    ),
    "a product whose inner sizes differ": (
        "shape",
        [operands, lambda g: g.k.matmul(g.c, g.a.view(cols=8), g.b)],
        "matmul c: product of [16, 8] and [16, 16] does not give tile c [16, 16]",
    ),
    "elementwise on two shapes": (
        "shape",
        [load_u, lambda g: g.k.vector("add", g.v, g.u, g.u.view(0, 1))],
        "add v: tile u [16, 16], tile u [1, 16] do not fit tile v [16, 16]",
    ),
    "a row sum into a row": (
        "shape",
        [load_u, lambda g: g.k.vector("row_sum", g.tile("s", "UB", (1, 16)), g.u)],
        "row_sum s: tile u [16, 16] does not fit tile s [1, 16]",
    ),
    "one source too few": (
        "shape",
        [load_u, lambda g: g.k.vector("add", g.v, g.u)],
        "add v: add takes 2 sources, got 1",
    ),
    "no immediate value": (
        "shape",
        [load_u, lambda g: g.k.vector("muls", g.v, g.u)],
        "muls v: muls needs immediate value (imm=)",
    ),
    "an immediate value too many": (
        "shape",
        [load_u, lambda g: g.k.vector("exp", g.v, g.u, imm=1.0)],
        "exp takes no immediate value",
    ),
    "operands of two dtypes": (
        "dtype",
        [
            operands,
            lambda g: (
                g.k.load(t := g.tile("b16", "L1", dtype="bf16"), g.x.at())
                and g.k.move(h := g.tile("h", "L0B", dtype="bf16"), t)
                and g.k.matmul(g.c, g.a, h)
            ),
        ],
        "matmul c: operands a (fp16) and h (bf16) differ in dtype",
    ),
    "a narrow accumulator": (
        "dtype",
        [operands, lambda g: g.k.matmul(g.tile("narrow", "L0C"), g.a, g.b)],
        "matmul narrow: accumulator narrow is fp16; fp16 accumulates in fp32",
    ),
    "an integer accumulator of another scale": (
        "dtype",
        [lambda g: integers(g, 0.5, 0.25, 0.5)],
        "accumulator n has scale 0.5, not 0.125",
    ),
    "a product from L1": (
        "level",
        [operands, lambda g: g.k.matmul(g.c, g.l1, g.b)],
        "matmul c: tile l1 is at L1; a matmul needs it at L0A (use a move)",
    ),
    "a product into UB": (
        "level",
        [operands, lambda g: g.k.matmul(g.tile("w", "UB", dtype="fp32"), g.a, g.b)],
        "tile w is at UB; a matmul needs it at L0C",
    ),
    "vector work in L1": (
        "level",
        [operands, lambda g: g.k.vector("exp", g.v, g.l1)],
        "exp v: tile l1 is at L1; a vector needs it at UB (use a move)",
    ),
    "two places": (
        "place",
        [lambda g: g.k.load(t := g.tile("one", "UB", place="first"), g.x.at()) and g.k.vector("exp", g.v, t)],
        "exp v: tile one [16, 16] is placed first, but the result v rows; give both the same place",
    ),
    "a row that one vector core has": (
        "place",
        [
            lambda g: (
                g.k.load(t := g.tile("bias", "UB", (1, 16)), g.x.at(rows=1))
                and g.k.vector("col_broadcast", g.v, t)
            )
        ],
        "every vector core needs all rows of tile bias [1, 16], which is placed rows; "
        "give it place='replicate'",
    ),
    "a sum over rows of two cores": (
        "place",
        [load_u, lambda g: g.k.vector("col_sum", g.tile("s", "UB", (1, 16)), g.u)],
        "every vector core needs all rows of tile u",
    ),
    "a read after the slot is gone": (
        "deadlock",
        [late],
        "move a reads tile l1 1 writes late, but it has 1 slot(s): the later write waits for this read, "
        "and this read stands behind it; give it slots=2",
    ),
    "items without work": (
        "empty loop",
        [lambda g: g.k.items([("i", 2), ("j", 3)], lambda _: None)],
        "the items i x j have no operations",
    ),
    "no items": (
        "empty loop",
        [lambda g: g.k._emit(Items((("i", 0),), 1, "cyclic", ()))],
        "there are no items to deal",
    ),
    "a loop without work": (
        "empty loop",
        [lambda g: g.k.loop(3, lambda _: None)],
        "loop i1 has no operations",
    ),
    "too few counts": (
        "count",
        [lambda g: counted(g, [1, 2], 3)],
        "loop i1 has 2 counts for 3 items",
    ),
    "counts in groups": (
        "count",
        [lambda g: counted(g, [1, 2], 2, group=2)],
        "loop i1 has a count per item; put it into items dealt one by one (group=1)",
    ),
    "counts without items": (
        "count",
        [lambda g: g.k.loop(np.array([1, 2]), lambda _: g.k.load(g.u, g.x.at()))],
        "loop i1 has a count per item; put it into items",
    ),
    "a wait on an unknown unit": (
        "core",
        [load_u, lambda g: g.k.wait(g.u, on="aic_mca")],
        "wait on 'aic_mca'; did you mean 'aic_mac'",
    ),
    "a barrier on an unknown unit": (
        "core",
        [lambda g: g.k.barrier("aiv_vek", "rows")],
        "barrier on 'aiv_vek'; did you mean 'aiv_vec'",
    ),
    "a barrier on an unknown place": ("core", [lambda g: g.k.barrier("core", "third")], "barrier on 'third'"),
    "a scalar read of UB by the cube core": (
        "core",
        [load_u, lambda g: g.k.scalar("read", g.u)],
        "read: tile u [16, 16] is in UB, which the cube core cannot read; give on='rows'",
    ),
    "a read before any write": (
        "use before definition",
        [lambda g: g.k.store(g.y.at(), g.u)],
        "bad: store y reads tile u before anything wrote it",
    ),
    "an accumulation onto nothing": (
        "use before definition",
        [operands, lambda g: g.k.matmul(g.c, g.a, g.b, accumulate=True)],
        "matmul c adds to tile c before anything wrote it",
    ),
    "a read of what an item wrote": (
        "use before definition",
        [from_items],
        "store y reads tile u before anything wrote it",
    ),
    "too many slots": (
        "capacity",
        [too_deep],
        "phase p: the tiles at L0A need 96 KiB of 64 KiB (largest: deep 96 KiB); "
        "use smaller tiles or fewer slots",
    ),
}


def integers(g: Graph, a: float, b: float, c: float) -> None:
    """An int8 product with operands of scales a and b into an accumulator of scale c."""
    k = g.k
    raw = k.input("raw", (16, 16), "int8", scale=a)
    left, right = g.tile("l", "L0A", dtype="int8", scale=a), g.tile("r", "L0B", dtype="int8", scale=b)
    k.load(left, raw.at())
    k.load(right, raw.at())
    k.matmul(g.tile("n", "L0C", dtype="int32", scale=c), left, right)


@pytest.mark.parametrize("case", BAD)
def test_a_broken_rule_is_named_with_the_tile(case):
    rule, build, message = BAD[case]
    kernel = Graph().finish(*build)
    with pytest.raises(GraphError) as caught:
        check(kernel, target())
    assert caught.value.rule == rule
    where, line = caught.value.where.rsplit(":", 1)
    assert where == __file__ and int(line) > 0, "this file is the user's own"
    assert str(caught.value).startswith(f"{where}:{line}: {rule}: bad")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_rule_is_broken_by_some_graph_of_the_table():
    assert {rule for rule, _, _ in BAD.values()} == {*RULES, "level", "capacity", "use before definition"}


def test_a_good_graph_comes_back_unchanged():
    g = Graph()
    kernel = g.finish(
        operands, lambda g: g.k.matmul(g.c, g.a, g.b), lambda g: g.k.store(g.y.at(), g.c), load_u,
        lambda g: g.k.vector("add", g.v, g.u, g.u), lambda g: g.k.scalar("read", g.v, on="rows"),
    )  # fmt: skip
    assert check(kernel) is kernel and check(kernel, target()) is kernel


def test_work_on_the_cube_core_has_no_place_in_a_phase_over_vector_cores():
    kernel = Graph(over="vector").finish(operands)
    with pytest.raises(
        GraphError, match=r"level: .* tile l1 is on the cube core, in a phase over vector cores"
    ):
        check(kernel, target())


def test_nor_has_a_wait_on_it():
    kernel = Graph(over="vector").finish(load_u, lambda g: g.k.wait(g.u, on="cube"))
    with pytest.raises(GraphError, match=r"core: .* a wait on the cube core for tile u \[16, 16\]"):
        check(kernel, target())


def test_one_memory_behind_two_levels_serves_both():
    """On a mobile NPU products take their operands from where loads and vector work leave them."""
    profile = "hexagon-class"
    g = Graph(profile=profile)
    kernel = g.finish(operands, lambda g: g.k.matmul(g.c, g.a, g.b), lambda g: g.k.vector("exp", g.v, g.l1))
    check(kernel, target(profile))
    with pytest.raises(GraphError, match="level"):
        check(kernel, target("toy"))


def test_without_a_target_buffers_are_endless():
    g = Graph()
    big = g.k.input("big", (1024, 1024), "fp32")
    kernel = g.finish(lambda g: g.k.load(g.tile("huge", "UB", (1024, 1024), "fp32"), big.at()))
    check(kernel)
    with pytest.raises(GraphError, match="the tiles at UB need 2048 KiB of 192 KiB"):
        check(kernel, target())


def test_vector_cores_share_the_rows_of_a_tile_and_repeat_a_replicated_one():
    """64 x 64 fp16 is 8 KiB: half of it on each of two vector cores, all of it where replicated; slots
    multiply; a phase over vector cores holds all rows."""

    def peak(over: str, **how: object) -> int:
        k = KernelBuilder("peak", target(), "fp16")
        x, t = k.input("x", (64, 64), "fp16"), k.tile("t", "UB", (64, 64), "fp16", **how)
        with k.phase("p", over=over):
            k.load(t, x.at())
        return peak_bytes(k.finish(), target())["UB"]

    assert peak("group") == 4096
    assert peak("group", place="replicate") == 8192
    assert peak("group", slots=3) == 3 * 4096
    assert peak("vector") == 8192


def test_levels_of_one_memory_share_its_bytes():
    """Three tiles of 3 MiB at L1, L0A and UB are too much for the 8 MiB behind them."""
    k = KernelBuilder("shared", target("hexagon-class"), "fp16")
    x = k.input("x", (1024, 1536), "fp16")
    with k.phase("p"):
        for level in ("L1", "L0A", "UB"):
            k.load(k.tile(level, level, (1024, 1536), "fp16"), x.at())
    with pytest.raises(GraphError, match=r"the tiles at tcm need .* of 8192 KiB"):
        check(k.finish(), target("hexagon-class"))


def test_each_phase_has_the_buffers_to_itself():
    k = KernelBuilder("phases", target(), "fp16")
    x = k.input("x", (256, 256), "fp16")
    for name in ("one", "two", "three"):
        with k.phase(name):
            k.load(k.tile(name, "L1", (256, 256), "fp16", slots=3), x.at())
    assert peak_bytes(check(k.finish(), target()), target())["L1"] == 3 * 131072


def test_a_ragged_body_is_checked_like_the_full_one():
    g = Graph()
    kernel = g.finish(load_u)
    (phase,) = kernel.phases
    load = phase.nodes[0]
    items = Items((("i", 3),), 2, "cyclic", (load,), (Loop("i1", 2, ()),))
    bad = replace(kernel, phases=(Phase("p", "group", (items,)),))
    with pytest.raises(GraphError, match="loop i1 has no operations"):
        check(bad)
