"""The builder: versions, names that share data, routes, items and loops, as operations of the graph."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import Moves

from npusim.builder import GraphError, Index, Kernel, KernelBuilder, Target, Unsupported
from npusim.check import check
from npusim.execute import execute
from npusim.graph import Items, Loop, Operation, View, operations
from npusim.ops import OpKind
from npusim.profiles import load_machine


@lru_cache
def target(profile: str = "toy") -> Target:
    return Target.of(load_machine(profile))


class Sketch:
    """A builder with an input, an output and a tile at every level, 16 x 16 in fp16."""

    def __init__(self, profile: str = "toy", slots: int = 1) -> None:
        self.k = k = KernelBuilder("sketch", target(profile), "fp16")
        self.x, self.y = k.input("x", (4, 16, 16), "fp16"), k.output("y", (4, 16, 16), "fp16")
        self.l1, self.l1b = (k.tile(name, "L1", (16, 16), "fp16", slots) for name in ("l1", "l1b"))
        self.a, self.b = k.tile("a", "L0A", (16, 16), "fp16"), k.tile("b", "L0B", (16, 16), "fp16")
        self.c = k.tile("c", "L0C", (16, 16), "fp32")
        self.u, self.v = k.tile("u", "UB", (16, 16), "fp16"), k.tile("v", "UB", (16, 16), "fp16")

    def finish(self) -> Kernel:
        return self.k.finish()


def ops(kernel: Kernel) -> list[Operation]:
    return [op for phase in kernel.phases for op in operations(phase.nodes)]


def levels(kernel: Kernel) -> list[str]:
    """The way of every copy: 'GM>L1'."""

    def level(end: object) -> str:
        return end.tile.level if isinstance(end, View) else "GM"

    return [f"{level(op.srcs[0])}>{level(op.dst)}" for op in ops(kernel)]


# --- versions --------------------------------------------------------------------------------


def test_indices_add_subtract_and_scale():
    env = {"i": 7, "j": np.array([1, 2])}
    i, j = Index(0, (("i", 1),)), Index(2, (("j", 3),))
    for index, want in (
        (i - 1, 6),
        (10 - i, 3),
        (j - i, 3 * env["j"] + 2 - 7),
        (2 * (i + j), 2 * (3 * env["j"] + 9)),
    ):
        np.testing.assert_array_equal(index.evaluate(env), want)
    assert i - i == Index()


def test_a_tile_reads_its_latest_version_and_a_handle_the_one_it_was_given_for():
    s = Sketch(slots=2)
    with s.k.phase("p"):
        old = s.k.load(s.l1, s.x.at(0))
        s.k.load(s.l1, s.x.at(1))
        s.k.move(s.a, s.l1)
        s.k.move(s.b, old)
    latest, older = [op.srcs[0] for op in ops(s.finish())[2:]]
    assert (latest.back, older.back) == (0, 1)


def test_writes_in_place_in_part_or_into_an_accumulator_keep_the_version():
    s = Sketch()
    with s.k.phase("p"):
        s.k.load(s.u, s.x.at(0))
        s.k.vector("adds", s.u, s.u, imm=1.0)
        s.k.load(s.u.view(0, 8), s.x.at(0, rows=8))
        handle = s.k.vector("mul", s.v, s.u, s.u)
        s.k.vector("exp", s.v.view(3, 1), s.u.view(3, 1))
        s.k.store(s.y.at(0), handle)
    assert [op.into for op in ops(s.finish())[:-1]] == [False, True, True, False, True]
    assert ops(s.finish())[-1].srcs[0].back == 0


def test_a_handle_cannot_be_read_across_the_edge_of_a_loop():
    s = Sketch(slots=2)
    with s.k.phase("p"), pytest.raises(GraphError, match="tile l1: an older version is read across the edge"):
        old = s.k.load(s.l1, s.x.at(0))
        s.k.loop(3, lambda _: s.k.load(s.l1, s.x.at(1)))
        s.k.move(s.a, old)


def test_nor_can_it_be_read_in_a_loop_that_writes_its_tile_later_on():
    s = Sketch(slots=2)
    with s.k.phase("p"), pytest.raises(GraphError, match="tile l1: an older version is read across the edge"):
        old = s.k.load(s.l1, s.x.at(0))

        def body(_: Index) -> None:
            s.k.move(s.a, old)
            s.k.load(s.l1, s.x.at(1))

        s.k.loop(3, body)


def test_a_handle_from_outside_a_loop_that_leaves_its_tile_alone_is_fine():
    s = Sketch()
    with s.k.phase("p"):
        old = s.k.load(s.l1, s.x.at(0))
        s.k.loop(3, lambda _: s.k.move(s.a, old))
    check(s.finish(), target())
    assert ops(s.finish())[1].srcs[0].back == 0


# --- one memory behind several levels --------------------------------------------------------------


def hexagon_copy_then_change() -> tuple[Sketch, Kernel]:
    s = Sketch("hexagon-class")
    with s.k.phase("p"):
        s.k.load(s.l1, s.x.at(0))
        s.k.move(s.u, s.l1)
        s.k.vector("adds", s.l1, s.l1, imm=1.0, label="in place")
        s.k.store(s.y.at(0), s.u)
        s.k.store(s.y.at(1), s.l1)
    return s, s.finish()


def test_within_one_memory_a_plain_move_is_no_work_but_a_name():
    s = Sketch("hexagon-class")
    with s.k.phase("p"):
        s.k.load(s.l1, s.x.at(0))
        s.k.move(s.a, s.l1)
        s.k.move(s.b, s.a)
        s.k.matmul(s.c, s.a, s.b)
        s.k.store(s.y.at(0), s.c)
    kernel = check(s.finish(), target("hexagon-class"))
    load, product, _ = ops(kernel)
    assert load.kind is OpKind.load and product.kind is OpKind.matmul
    assert [src.tile.name for src in product.srcs] == ["l1", "l1"]


@pytest.mark.parametrize(
    "how", ["transpose", "fractals", "dtype", "scale", "part", "into part", "fresh part"]
)
def test_a_move_that_changes_something_is_work_there_too(how):
    s = Sketch("hexagon-class")
    wide = s.k.tile("wide", "UB", (16, 16), "fp32")
    half = s.k.tile("half", "L1", (8, 16), "fp16")
    fine = s.k.tile("fine", "L1", (16, 16), "int8", scale=0.5)
    coarse = s.k.tile("coarse", "UB", (16, 16), "int8", scale=1.0)
    with s.k.phase("p"):
        match how:
            case "scale":
                s.k.load(fine, s.x.at(0))
                s.k.move(coarse, fine)
            case "part":
                s.k.load(s.u, s.x.at(0))
                s.k.move(half, s.u.view(8, 8))
            case "into part" | "fresh part":
                s.k.load(half, s.x.at(0, rows=8))
                s.k.move(s.u.view(8, 8), half, fresh=how == "fresh part")
            case _:
                s.k.load(s.l1, s.x.at(0))
                fractals = np.ones((1, 1), dtype=bool) if how == "fractals" else None
                s.k.move(wide if how == "dtype" else s.a, s.l1, how == "transpose", fractals)
    assert [op.kind for op in ops(check(s.finish()))] == [OpKind.load, OpKind.move]


def test_data_that_share_a_memory_part_before_one_name_is_changed_in_place():
    _, kernel = hexagon_copy_then_change()
    assert [op.name for op in ops(kernel)] == ["load l1", "move u", "in place", "store y", "store y"]
    x = np.arange(4 * 256, dtype=float).reshape(4, 16, 16) / 256
    y = execute(kernel, {"x": x}).outputs["y"]
    np.testing.assert_array_equal(y[0], x[0])
    np.testing.assert_array_equal(y[1], (x[0] + 1).astype(np.float16))


def test_a_partial_write_to_a_mere_name_first_takes_the_data_over():
    s = Sketch("hexagon-class")
    with s.k.phase("p"):
        s.k.load(s.l1, s.x.at(0))
        s.k.move(s.u, s.l1)
        s.k.load(s.u.view(0, 8), s.x.at(1, rows=8))
        s.k.store(s.y.at(0), s.u)
        s.k.store(s.y.at(1), s.l1)
    x = np.random.default_rng(0).random((4, 16, 16)).astype(np.float16).astype(float)
    y = execute(s.finish(), {"x": x}).outputs["y"]
    np.testing.assert_array_equal(y[0], np.vstack([x[1, :8], x[0, 8:]]))
    np.testing.assert_array_equal(y[1], x[0])


def test_names_made_outside_a_loop_part_before_it_changes_one():
    s = Sketch("hexagon-class")
    with s.k.phase("p"):
        s.k.load(s.l1, s.x.at(0))
        s.k.move(s.u, s.l1)
        s.k.loop(2, lambda _: s.k.vector("adds", s.l1, s.l1, imm=1.0))
        s.k.store(s.y.at(0), s.u)
        s.k.store(s.y.at(1), s.l1)
    y = execute(s.finish(), {"x": np.ones((4, 16, 16))}).outputs["y"]
    assert (y[0] == 1).all() and (y[1] == 3).all()


def test_a_name_ends_with_a_new_write_and_with_its_block():
    s = Sketch("hexagon-class")
    with s.k.phase("one"):
        s.k.load(s.l1, s.x.at(0))
        s.k.move(s.u, s.l1)
        s.k.store(s.y.at(0), s.u)
        s.k.load(s.u, s.x.at(1))
        s.k.store(s.y.at(1), s.u)
        s.k.move(s.v, s.l1)
    with s.k.phase("two"):
        s.k.store(s.y.at(2), s.v)
    check(s.finish(), target("hexagon-class"))
    assert [op.name for op in ops(s.finish()) if op.kind is OpKind.move] == ["move v"]
    stores = [op for op in ops(s.finish()) if op.kind is OpKind.store]
    assert [op.srcs[0].tile.name for op in stores] == ["l1", "u", "v"]


def test_data_that_lose_their_slot_are_copied_if_their_other_name_is_read_after_that():
    s = Sketch("hexagon-class")
    with s.k.phase("p"):
        s.k.load(s.l1, s.x.at(0))
        s.k.move(s.u, s.l1)
        s.k.move(s.v, s.l1)
        s.k.load(s.l1, s.x.at(1))
        s.k.store(s.y.at(0), s.u)
        s.k.store(s.y.at(1), s.l1)
    kernel = check(s.finish(), target("hexagon-class"))
    assert [op.name for op in ops(kernel)] == ["load l1", "move u", "load l1", "store y", "store y"]
    x = np.random.default_rng(0).random((4, 16, 16)).astype(np.float16).astype(float)
    np.testing.assert_array_equal(execute(kernel, {"x": x}).outputs["y"][:2], x[:2])


def test_a_source_written_again_is_read_through_the_name_as_it_was():
    s = Sketch("hexagon-class", slots=2)
    with s.k.phase("p"):
        s.k.load(s.l1, s.x.at(0))
        s.k.move(s.u, s.l1)
        s.k.load(s.l1, s.x.at(1))
        s.k.store(s.y.at(0), s.u)
    assert str(ops(s.finish())[-1].srcs[0]) == "l1@-1"


THREE = pytest.mark.parametrize("profile", ["toy", "hexagon-class", "ascend-310p3"])


@THREE
def test_a_tile_written_anew_in_a_loop_has_that_value_after_it(profile):
    s = Sketch(profile)
    with s.k.phase("p"):
        s.k.load(s.u, s.x.at(0))
        s.k.move(s.v, s.u)
        s.k.move(s.l1, s.u)
        s.k.loop(2, lambda _: s.k.vector("fill", s.v, imm=7.0))
        s.k.loop(2, lambda i: s.k.load(s.l1, s.x.at(i + 1)))
        s.k.store(s.y.at(0), s.v)
        for left, right in ((s.a, s.b), (s.b, s.a)):
            s.k.move(left, s.l1)
            s.k.move(right, s.l1)
        s.k.matmul(s.c, s.a, s.b)
        s.k.store(s.y.at(1), s.c)
    x = np.random.default_rng(0).integers(-4, 4, (4, 16, 16)).astype(float)
    y = execute(check(s.finish(), target(profile)), {"x": x}).outputs["y"]
    np.testing.assert_array_equal(y[0], np.full((16, 16), 7.0))
    np.testing.assert_array_equal(y[1], x[2] @ x[2])


@THREE
@pytest.mark.parametrize("through", ["UB", "L1"])
def test_a_state_that_moves_carry_from_trip_to_trip_changes_with_every_trip(profile, through):
    if (through, profile) == ("L1", "toy"):
        pytest.skip("no way from L1 to UB there")
    s = Sketch(profile)
    new = s.k.tile("new", through, (16, 16), "fp16")

    def body(_: Index) -> None:
        s.k.vector("adds", s.v, s.u, imm=1.0)
        s.k.move(new, s.v)
        s.k.move(s.u, new)

    with s.k.phase("p"):
        s.k.load(s.u, s.x.at(0))
        s.k.loop(3, body)
        s.k.store(s.y.at(0), s.u)
    x = np.random.default_rng(0).integers(-4, 4, (4, 16, 16)).astype(float)
    y = execute(check(s.finish(), target(profile)), {"x": x}).outputs["y"]
    np.testing.assert_array_equal(y[0], x[0] + 3)


@THREE
def test_a_move_in_a_peeled_first_trip_is_not_lost(profile):
    s = Sketch(profile)

    def add(_: Index) -> None:
        s.k.vector("adds", s.u, s.u, imm=1.0)

    with s.k.phase("p"):
        s.k.load(s.v, s.x.at(0))
        s.k.loop(3, add, first=lambda _: s.k.move(s.u, s.v))
        s.k.store(s.y.at(0), s.u)
    x = np.random.default_rng(0).integers(-4, 4, (4, 16, 16)).astype(float)
    y = execute(check(s.finish(), target(profile)), {"x": x}).outputs["y"]
    np.testing.assert_array_equal(y[0], x[0] + 2)


@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=150, deadline=None)
def test_wherever_data_move_they_are_the_same_on_every_machine(seed, back):
    program = Moves(seed, back)
    for profile in ("hexagon-class", "ascend-310p3", *["toy"] * (not back)):
        kernel = check(program.kernel(target(profile)), target(profile))
        y = execute(kernel, {"x": program.x}).outputs["y"]
        np.testing.assert_array_equal(y, program.expected(), err_msg=f"Moves({seed}, {back}) on {profile}")


def test_a_copy_within_one_memory_without_a_way_says_so():
    s = Sketch("hexagon-class")
    with s.k.phase("p"):
        s.k.load(s.l1, s.x.at(0))
        s.k.move(s.a, s.l1, transpose=True)
        s.k.move(s.b, s.a)
        s.k.move(s.a, s.l1, transpose=True)
        s.k.matmul(s.c, s.a, s.b)
    with pytest.raises(Unsupported, match=r"tile b needs a copy of tile a; .* no path from L0A to L0B"):
        s.finish()


# --- where a name ends, and what it leaves alone ----------------------------------------------------

X = np.random.default_rng(0).integers(-4, 4, (4, 16, 16)).astype(float)


def stored(kernel: Kernel, profile: str) -> np.ndarray:
    """What `kernel`, which keeps the rules, stores for the input X."""
    return execute(check(kernel, target(profile)), {"x": X}).outputs["y"]


def moves(kernel: Kernel) -> list[str]:
    """The moves that are work; a way through a workspace counts once."""
    return [op.name for op in ops(kernel) if op.kind is OpKind.move and ">" not in op.name]


@THREE
def test_a_handle_given_by_a_move_still_finds_its_version_after_another_write(profile):
    s = Sketch(profile)
    v = s.k.tile("v2", "UB", (16, 16), "fp16", slots=2)
    with s.k.phase("p"):
        s.k.load(s.u, s.x.at(0))
        old = s.k.move(v, s.u)
        s.k.load(v, s.x.at(1))
        s.k.store(s.y.at(0), old)
        s.k.store(s.y.at(1), v)
    np.testing.assert_array_equal(stored(s.finish(), profile)[:2], X[:2])


@THREE
@pytest.mark.parametrize("how", ["in place", "in a loop", "as scratch"])
def test_a_source_whose_versions_cannot_be_counted_is_copied_first(profile, how):
    s = Sketch(profile)
    u, w = (s.k.tile(name, "UB", (16, 16), "fp16", slots=3) for name in ("u3", "w"))
    with s.k.phase("p"):
        s.k.load(u, s.x.at(0))
        s.k.move(s.v, u)
        if how == "in place":
            s.k.vector("adds", u, u, imm=1.0)
        elif how == "in a loop":
            s.k.loop(2, lambda i: s.k.load(u, s.x.at(i + 1)))
        else:
            s.k.vector("fill", w, imm=1.0, scratch=u)
        s.k.load(u, s.x.at(3))
        s.k.store(s.y.at(0), s.v)
        s.k.store(s.y.at(1), u)
    kernel = s.finish()
    assert moves(kernel) == ["move v"]
    np.testing.assert_array_equal(stored(kernel, profile)[:2], X[[0, 3]])


@THREE
def test_a_name_used_as_scratch_room_keeps_its_data(profile):
    s = Sketch(profile)
    w = s.k.tile("w", "UB", (16, 16), "fp16")
    with s.k.phase("p"):
        s.k.load(s.u, s.x.at(0))
        s.k.move(s.v, s.u)
        s.k.vector("fill", w, imm=1.0, scratch=s.v)
        s.k.store(s.y.at(0), s.v)
    np.testing.assert_array_equal(stored(s.finish(), profile)[0], X[0])


@THREE
def test_a_loop_that_reads_a_name_and_changes_its_source_reads_the_same_in_every_trip(profile):
    s = Sketch(profile)

    def body(i: Index) -> None:
        s.k.store(s.y.at(i), s.v)
        s.k.load(s.u, s.x.at(i + 1))

    with s.k.phase("p"):
        s.k.load(s.u, s.x.at(0))
        s.k.move(s.v, s.u)
        s.k.loop(3, body)
    np.testing.assert_array_equal(stored(s.finish(), profile)[:3], X[[0, 0, 0]])


@THREE
def test_a_name_read_at_the_start_of_the_next_trip_is_a_copy(profile):
    s = Sketch(profile)

    def body(i: Index) -> None:
        s.k.store(s.y.at(i), s.v)
        s.k.load(s.u, s.x.at(i))
        s.k.move(s.v, s.u)

    with s.k.phase("p"):
        s.k.load(s.v, s.x.at(3))
        s.k.loop(3, body)
    np.testing.assert_array_equal(stored(s.finish(), profile)[:3], X[[3, 0, 1]])


@THREE
@pytest.mark.parametrize("inner", [False, True])
def test_a_loop_that_some_items_skip_ends_no_name(profile, inner):
    s = Sketch(profile)

    def body(items: list[tuple[Index, ...]]) -> None:
        s.k.load(s.u, s.x.at(0))
        if inner:
            s.k.loop(1, lambda _: s.k.move(s.v, s.u))
        else:
            s.k.move(s.v, s.u)
        s.k.loop(np.array([0, 1]), lambda _: s.k.load(s.v, s.x.at(1)))
        s.k.store(s.y.at(*items[0]), s.v)

    with s.k.phase("p"):
        s.k.items([("i", 2)], body)
    np.testing.assert_array_equal(stored(s.finish(), profile)[:2], X[:2])


def test_an_operation_never_writes_anew_the_tile_that_it_reads():
    s = Sketch("hexagon-class")
    with s.k.phase("p"):
        s.k.load(s.u, s.x.at(0))
        s.k.move(s.v, s.u)
        s.k.vector("mul", s.u, s.v, s.v)
        s.k.store(s.y.at(0), s.u)
    assert moves(s.finish()) == ["move v"]
    np.testing.assert_array_equal(stored(s.finish(), "hexagon-class")[0], X[0] * X[0])


@THREE
@pytest.mark.parametrize("around", ["loop", "items"])
def test_loops_and_items_read_a_name_by_its_source_and_have_names_of_their_own(profile, around):
    s = Sketch(profile)
    t, w, difference = (s.k.tile(name, "UB", (16, 16), "fp16") for name in ("t", "w", "difference"))

    def body(i: Index) -> None:
        s.k.move(w, s.v)
        s.k.load(t, s.x.at(i))
        s.k.vector("sub", difference, t, w)
        s.k.store(s.y.at(i), difference)

    def trip(items: list[tuple[Index, ...]]) -> None:
        for item in items:
            body(*item)

    with s.k.phase("p"):
        s.k.load(s.u, s.x.at(0))
        s.k.move(s.v, s.u)
        if around == "loop":
            s.k.loop(3, body)
        else:  # the last trip is ragged
            s.k.items([("i", 3)], trip, group=2)
    kernel = s.finish()
    assert {str(op.srcs[1]) for op in ops(kernel) if op.function == "sub"} == {"u"} and not moves(kernel)
    np.testing.assert_array_equal(stored(kernel, profile)[:3], X[:3] - X[0])


@THREE
def test_an_older_version_has_names_too_also_in_part_and_in_a_loop_that_leaves_its_tile_alone(profile):
    s = Sketch(profile)
    u = s.k.tile("u2", "UB", (16, 16), "fp16", slots=2)
    with s.k.phase("p"):
        old = s.k.load(u, s.x.at(0))
        s.k.load(u, s.x.at(1))
        s.k.move(s.v, old)
        s.k.store(s.y.at(0, row=8, rows=8), s.v.view(8, 8))
        s.k.loop(2, lambda i: s.k.store(s.y.at(i + 1), s.v))
        s.k.store(s.y.at(3), old)
    kernel = s.finish()
    reads = ["u2[8:+8, 0:+16]@-1", "u2@-1", "u2@-1"]
    assert [str(op.srcs[0]) for op in ops(kernel)[2:]] == reads
    y = stored(kernel, profile)
    np.testing.assert_array_equal(y[0, 8:], X[0, 8:])
    np.testing.assert_array_equal(y[1:], X[[0, 0, 0]])


@THREE
def test_a_tile_set_back_to_its_older_version_is_no_work_either(profile):
    s = Sketch(profile)
    u = s.k.tile("u2", "UB", (16, 16), "fp16", slots=2)
    with s.k.phase("p"):
        old = s.k.load(u, s.x.at(0))
        s.k.load(u, s.x.at(1))
        s.k.move(u, old)
        s.k.store(s.y.at(0), u)
        s.k.load(u, s.x.at(2))
        s.k.store(s.y.at(1), u)
    kernel = s.finish()
    assert [str(op.srcs[0]) for op in ops(kernel) if op.kind is OpKind.store] == ["u2@-1", "u2"]
    np.testing.assert_array_equal(stored(kernel, profile)[:2], X[[0, 2]])


@THREE
def test_nor_is_a_move_into_a_tile_of_which_it_keeps_nothing(profile):
    s = Sketch(profile)
    with s.k.phase("p"):
        s.k.load(s.u, s.x.at(0))
        s.k.load(s.v, s.x.at(1))
        s.k.move(s.v, s.u, into=True)
        s.k.store(s.y.at(0), s.v)
    assert not moves(s.finish())
    np.testing.assert_array_equal(stored(s.finish(), profile)[0], X[0])


@THREE
@pytest.mark.parametrize("how", ["in part", "in a loop", "in ragged items", "after items"])
def test_a_tile_that_a_later_phase_reads_first_is_a_copy(profile, how):
    s = Sketch(profile)
    expected = X[[0, 0, 0]]

    def ragged(items: list[tuple[Index, ...]]) -> None:
        s.k.store(s.y.at(*items[0]), s.v if len(items) == 1 else s.u)

    def own(items: list[tuple[Index, ...]]) -> None:
        s.k.load(s.v, s.x.at(1))
        s.k.store(s.y.at(*items[0]), s.v)

    with s.k.phase("one"):
        s.k.load(s.u, s.x.at(0))
        s.k.loop(2, lambda _: s.k.move(s.v, s.u))
    with s.k.phase("two"):
        if how == "in part":
            s.k.load(s.v.view(0, 16, 0, 8), s.x.at(1, cols=8))
            s.k.store(s.y.at(0), s.v)
            expected = np.stack([np.hstack([X[1, :, :8], X[0, :, 8:]]), 0 * X[0], 0 * X[0]])
        elif how == "in a loop":
            s.k.loop(3, lambda i: s.k.store(s.y.at(i), s.v))
        elif how == "in ragged items":
            s.k.load(s.u, s.x.at(3))
            s.k.items([("i", 3)], ragged, group=2)
            expected = np.stack([X[3], 0 * X[0], X[0]])
        else:
            s.k.items([("i", 3)], own)
            s.k.store(s.y.at(0), s.v)
            expected = X[[0, 1, 1]]
    np.testing.assert_array_equal(stored(s.finish(), profile)[:3], expected)


@THREE
def test_but_not_one_that_a_later_phase_first_writes_whole(profile):
    s = Sketch(profile)
    with s.k.phase("one"):
        s.k.load(s.u, s.x.at(0))
        s.k.move(s.v, s.u)
        s.k.store(s.y.at(0), s.v)
    with s.k.phase("two"):
        s.k.load(s.v, s.x.at(1))
        s.k.store(s.y.at(1), s.v)
        s.k.loop(1, lambda _: s.k.store(s.y.at(2), s.v))
        s.k.items([("i", 3)], lambda items: s.k.store(s.y.at(3), s.v if len(items) == 1 else s.u), group=2)
    kernel = s.finish()
    assert not moves(kernel)
    np.testing.assert_array_equal(stored(kernel, profile), X[[0, 1, 1, 1]])


@THREE
def test_what_an_item_moves_is_its_own(profile):
    s = Sketch(profile)

    def body(items: list[tuple[Index, ...]]) -> None:
        for item in items:
            s.k.store(s.y.at(*item), s.v)
            s.k.move(s.v, s.u)
            s.k.store(s.y.at(*item), s.v)

    with s.k.phase("one"):
        s.k.load(s.u, s.x.at(0))
        s.k.load(s.v, s.x.at(3))
        s.k.items([("i", 3)], body, group=2)
    with s.k.phase("two"):
        s.k.store(s.y.at(3), s.v)
    kernel = s.finish()
    assert not moves(kernel)
    np.testing.assert_array_equal(stored(kernel, profile), X[[0, 0, 0, 3]])


@pytest.mark.parametrize("profile", ["hexagon-class", "ascend-310p3", "ascend-950pr-9599"])
@pytest.mark.parametrize(
    ("start", "end", "work"),
    [("first", "rows", 1), ("first", "second", 1), ("rows", "replicate", 1), ("replicate", "rows", 0)],
)
def test_a_tile_of_some_vector_cores_is_no_name_of_one_that_others_hold(profile, start, end, work):
    s = Sketch(profile)
    u, v, w = (
        s.k.tile(name, "UB", (16, 16), "fp16", place=place)
        for name, place in (("from", start), ("to", end), ("more", end))
    )
    row = s.k.tile("row", "UB", (1, 16), "fp16", place=end)
    with s.k.phase("p"):
        s.k.load(u, s.x.at(0))
        s.k.move(v, u)
        if end != "rows":
            s.k.vector("col_sum", row, v)
        s.k.vector("adds", w, v, imm=1.0)
        s.k.store(s.y.at(0), w)
    kernel = s.finish()
    assert len(moves(kernel)) == work
    np.testing.assert_array_equal(stored(kernel, profile)[0], X[0] + 1)


@pytest.mark.parametrize("how", ["store", "move"])
def test_a_name_does_not_hide_that_there_is_no_way_out_of_its_source(how):
    s = Sketch("hexagon-class")
    outside = s.k.tile("outside", "GM", (16, 16), "fp16")

    def body(_: Index) -> None:
        s.k.vector("adds", s.v, s.u, imm=1.0)
        if how == "store":
            s.k.store(s.y.at(0), s.u)
        else:
            s.k.move(outside, s.u)

    with s.k.phase("p"):
        s.k.load(s.l1, s.x.at(0))
        s.k.move(s.a, s.l1, transpose=True)
        s.k.move(s.u, s.a)
        s.k.loop(2, body)
    with pytest.raises(Unsupported, match=r"tile u needs a copy of tile a; .* no path from L0A to UB"):
        s.finish()


def test_within_the_memory_a_copy_of_a_name_takes_the_way_from_its_source():
    s = Sketch("hexagon-class")
    with s.k.phase("p"):
        s.k.load(s.u, s.x.at(0))
        s.k.move(s.v, s.u)
        s.k.move(s.a, s.v, transpose=True)
    assert levels(s.finish()) == ["GM>UB", "UB>L1", "L1>L0A"]


# --- routes ----------------------------------------------------------------------------------


def test_with_no_direct_path_a_move_goes_through_global_memory():
    s = Sketch()
    with s.k.phase("p"):
        s.k.load(s.l1, s.x.at(0))
        s.k.move(s.a, s.l1)
        s.k.move(s.b, s.l1)
        s.k.matmul(s.c, s.a, s.b)
        s.k.move(s.u, s.c, label="across")
        s.k.move(s.l1b, s.u)
    kernel = check(s.finish(), target())
    assert levels(kernel)[4:] == ["L0C>GM", "GM>UB", "UB>GM", "GM>L1"]
    out, back = ops(kernel)[4:6]
    assert (out.name, back.name) == ("across (out)", "across")
    assert out.dst.tile.dtype == "fp16", "the first copy rounds"


def test_the_950_goes_from_cube_to_vector_and_back_directly():
    s = Sketch("ascend-950pr-9599")
    with s.k.phase("p"):
        s.k.load(s.l1, s.x.at(0))
        s.k.move(s.a, s.l1)
        s.k.move(s.b, s.l1)
        s.k.matmul(s.c, s.a, s.b)
        s.k.move(s.u, s.c)
        s.k.move(s.l1b, s.u)
    assert levels(check(s.finish(), target("ascend-950pr-9599")))[4:] == ["L0C>UB", "UB>L1"]


def test_where_products_leave_through_ub_moves_and_stores_do_so_too():
    s = Sketch("ascend-310p3")
    with s.k.phase("p"):
        s.k.load(s.l1, s.x.at(0))
        s.k.move(s.a, s.l1)
        s.k.move(s.b, s.l1)
        s.k.matmul(s.c, s.a, s.b)
        s.k.move(s.l1b, s.c)
        s.k.store(s.y.at(0), s.c)
    kernel = check(s.finish(), target("ascend-310p3"))
    assert levels(kernel)[4:] == ["L0C>UB", "UB>L1", "L0C>UB", "UB>GM"]


def test_a_load_reaches_l0_through_l1():
    s = Sketch()
    with s.k.phase("p"):
        s.k.load(s.a, s.x.at(0))
    kernel = check(s.finish(), target())
    assert levels(kernel) == ["GM>L1", "L1>L0A"]
    assert [op.kind for op in ops(kernel)] == [OpKind.load, OpKind.move]


def test_a_move_may_name_its_route():
    s = Sketch()
    with s.k.phase("p"):
        s.k.load(s.l1, s.x.at(0))
        s.k.move(s.a, s.l1)
        s.k.move(s.b, s.l1)
        s.k.matmul(s.c, s.a, s.b)
        s.k.move(s.b, s.c, route=s.l1b)
    assert levels(s.finish())[4:] == ["L0C>L1", "L1>L0B"]


def test_a_machine_without_any_way_says_so():
    s = Sketch()
    with s.k.phase("p"):
        s.k.load(s.l1, s.x.at(0))
        s.k.move(s.a, s.l1)
        with pytest.raises(Unsupported, match="sketch: this machine has no path from L0A to UB"):
            s.k.move(s.u, s.a)


# --- items and loops -----------------------------------------------------------------------------


def items_of(kernel: Kernel) -> Items:
    (found,) = [node for phase in kernel.phases for node in phase.nodes if isinstance(node, Items)]
    return found


@pytest.mark.parametrize(
    ("total", "group", "bodies"), [(4, 2, [2]), (7, 3, [3, 1]), (2, 5, [2]), (5, 1, [1])]
)
def test_a_ragged_last_trip_is_built_by_a_second_call(total, group, bodies):
    s, called = Sketch(), []

    def body(items: list[tuple[Index, ...]]) -> None:
        called.append(len(items))
        s.k.load(s.l1, s.x.at(0))

    with s.k.phase("p"):
        s.k.items([("i", total)], body, group=group)
    assert called == bodies
    assert bool(items_of(s.finish()).ragged) == (len(bodies) == 2)


def test_items_are_numbered_row_major_over_their_axes():
    s = Sketch()
    where = s.k.input("where", (2, 3, 16, 16), "fp16")

    def body(items: list[tuple[Index, ...]]) -> None:
        for item in items:
            s.k.load(s.l1, where.at(*item))

    with s.k.phase("p"):
        s.k.items([("m", 2), ("h", 3)], body, group=4)
    node = items_of(s.finish())
    seen = []
    for trip, group, part in ((0, 4, node.body), (1, 2, node.ragged)):
        env = node.variables(trip, group)
        seen += [tuple(int(i.evaluate(env)) for i in op.srcs[0].lead) for op in operations(part)]
    assert seen == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_peeled_trips_run_once_each_and_the_index_goes_from_first_to_last(count):
    s = Sketch()

    def trip(label: str):
        return lambda i: s.k.load(s.l1, s.x.at(i), label=label)

    with s.k.phase("p"):
        s.k.loop(count, trip("middle"), first=trip("first"), last=trip("last"))
    seen = [
        (op.name, int(op.srcs[0].lead[0].evaluate({node.var: trip})))
        for node in s.finish().phases[0].nodes
        for trip in range(int(node.count))
        for op in node.body
    ]
    names = ["first", *["middle"] * (count - 2), *["last"] * (count > 1)]
    assert seen == list(zip(names, range(count), strict=True))


def test_a_table_of_counts_is_peeled_item_by_item():
    s = Sketch()
    counts = np.array([0, 1, 3])

    def body(items: list[tuple[Index, ...]]) -> None:
        s.k.loop(counts, lambda i: s.k.load(s.l1, s.x.at(i)), first=lambda i: s.k.load(s.l1, s.x.at(i)))

    with s.k.phase("p"):
        s.k.items([("i", 3)], body)
    first, rest = (node for node in items_of(s.finish()).body if isinstance(node, Loop))
    np.testing.assert_array_equal(first.count, [0, 1, 1])
    np.testing.assert_array_equal(rest.count, [0, 0, 2])
    check(s.finish(), target())


def test_a_peeled_last_trip_needs_one_count_for_all():
    s = Sketch()
    with s.k.phase("p"), pytest.raises(Unsupported, match="a peeled last trip needs the same count"):
        s.k.loop(np.array([1, 2]), lambda i: None, last=lambda i: None)


def test_a_loop_of_no_trips_leaves_nothing_behind():
    s = Sketch()
    with s.k.phase("p"):
        s.k.load(s.l1, s.x.at(0))
        s.k.loop(0, lambda i: s.k.load(s.l1, s.x.at(i)))
    assert len(s.finish().phases[0].nodes) == 1


def test_indices_are_affine_and_print_so():
    i, j = Index(0, (("i", 1),)), Index(0, (("j", 1),))
    index = 16 * i + 4 * (j + 2) + i
    assert index.evaluate({"i": 3, "j": 5}) == 17 * 3 + 4 * 7
    assert str(index) == "17*i+4*j+8"
    assert str(Index(-3, (("i", 1),))) == "i-3" and str(Index()) == "0"


# --- mistakes ------------------------------------------------------------------------------------


def test_names_are_given_once_and_operations_stand_in_a_phase():
    s = Sketch()
    with pytest.raises(GraphError, match="tile 'l1' is declared twice"):
        s.k.tile("l1", "L1", (16, 16), "fp16")
    with pytest.raises(GraphError, match="tensor 'x' is declared twice"):
        s.k.output("x", (16, 16), "fp16")
    with pytest.raises(GraphError, match="operations stand outside a phase"):
        s.k.load(s.l1, s.x.at(0))
    with (
        s.k.phase("p"),
        pytest.raises(GraphError, match="phase 'q' is opened inside another"),
        s.k.phase("q"),
    ):
        pass


def test_an_unknown_function_and_dtype_suggest_the_nearest():
    s = Sketch()
    with (
        s.k.phase("p"),
        pytest.raises(GraphError, match="no vector function 'row_summ'; did you mean 'row_sum'"),
    ):
        s.k.vector("row_summ", s.u, s.u)
    with pytest.raises(Exception, match="unknown dtype 'fp61'"):
        s.k.tile("t", "UB", (16, 16), "fp61")
