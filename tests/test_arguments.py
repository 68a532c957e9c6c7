"""The builder takes what it needs, numpy's numbers included, and refuses the rest where it is given."""

from __future__ import annotations

import numpy as np
import pytest

from npusim.builder import GraphError, Index, KernelBuilder, Target
from npusim.check import check
from npusim.profiles import load_machine


@pytest.fixture
def k():
    """A builder in an open phase."""
    k = KernelBuilder("k", Target.of(load_machine("toy")), "fp16")
    with k.phase("p"):
        yield k


def test_whole_numbers_of_numpy_are_whole_numbers():
    k = KernelBuilder("k", Target.of(load_machine("toy")), "fp16")
    sixteen = np.int64(16)
    x = k.input("x", (np.int32(64), sixteen), "fp16", pitch=sixteen)
    t = k.tile("t", "UB", (sixteen, sixteen), "fp16", slots=np.int8(2), scale=np.float32(1))
    with k.phase("p"):
        k.loop(np.int64(3), lambda i: k.load(t, x.at(row=i * sixteen + sixteen, rows=sixteen)))
        k.vector("adds", t, t.view(row=np.int64(0), rows=sixteen), imm=np.float32(1))
    check(k.finish())
    assert (x.shape, x.pitch, t.shape, t.slots) == ((64, 16), 16, (16, 16), 2)


WRONG = {
    "a tensor of one axis": (
        lambda k: k.input("x", (16,), "fp16"),
        "shape of tensor x must be (.., rows, cols)",
    ),
    "a tensor without rows": (
        lambda k: k.input("x", (0, 4), "fp16"),
        "each size of tensor x must be a whole",
    ),
    "a pitch below the columns": (
        lambda k: k.input("x", (4, 4), "fp16", pitch=2),
        "pitch of tensor x must be",
    ),
    "a tile of three axes": (
        lambda k: k.tile("t", "UB", (1, 2, 3), "fp16"),
        "must be (rows, cols), got (1, 2, 3)",
    ),
    "no slot": (
        lambda k: k.tile("t", "UB", (4, 4), "fp16", slots=0),
        "slots of tile t must be a whole number >= 1",
    ),
    "a scale of nothing": (
        lambda k: k.tile("t", "UB", (4, 4), "int8", scale=0),
        "scale of tile t must be a positive",
    ),
    "a grid of text": (
        lambda k: k.items([("i", 2), ("j", 2)], lambda _: None, deal=("2", 1)),
        "rows of a grid",
    ),
    "an unknown dealing": (
        lambda k: k.items([("i", 2)], lambda _: None, deal="cycli"),
        "did you mean 'cyclic'?",
    ),
    "a group of none": (
        lambda k: k.items([("i", 2)], lambda _: None, group=0),
        "group must be a whole number >= 1",
    ),
    "half an item": (
        lambda k: k.items([("i", 0.5)], lambda _: None),
        "items of 'i' must be a whole number >= 0",
    ),
    "a table of halves": (
        lambda k: k.loop(np.ones(2), lambda _: None),
        "a table of counts must hold whole numbers",
    ),
    "a view of half a row": (
        lambda k: k.tile("t", "UB", (4, 4), "fp16").view(rows=0.5),
        "rows must be a whole",
    ),
    "half a step": (
        lambda k: Index(0, (("i", 1),)) * 0.5,
        "the factor of an index must be a whole number, got 0.5",
    ),
    "half a place": (lambda k: Index() + 0.5, "what is added to an index must be a whole number, got 0.5"),
    "text for a number": (
        lambda k: k.vector("adds", t := k.tile("t", "UB", (4, 4), "fp16"), t, imm="1"),
        "imm of adds must be a finite number, got '1'",
    ),
    "a shape for a tile": (
        lambda k: k.vector("exp", t := k.tile("t", "UB", (4, 4), "fp16"), t, scratch=(4, 4)),
        "scratch of exp must be a tile, got (4, 4)",
    ),
    "a name for a tile": (
        lambda k: k.vector("exp", "t", "t"),
        "a tile or a view of one is needed here, got 't'",
    ),
    "a tensor for a tile": (
        lambda k: k.vector("exp", k.tile("t", "UB", (4, 4), "fp16"), k.input("x", (4, 4), "fp16").at()),
        "got tensor x (load it into a tile first)",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_is_refused_at_once(k, case):
    build, said = WRONG[case]
    with pytest.raises(GraphError) as caught:
        build(k)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_fractals_have_the_shape_of_their_operand():
    k = KernelBuilder("k", Target.of(load_machine("toy")), "fp16")
    x, t = k.input("x", (32, 32), "fp16"), k.tile("t", "L1", (32, 32), "fp16")
    with k.phase("p"):
        k.load(t, x.at())
        k.move(k.tile("a", "L0A", (32, 32), "fp16"), t, fractals=np.ones((1, 2), bool))
    with pytest.raises(
        GraphError, match=r"the fractals of tile t \[32, 32\] must be an array of \[2, 2\] bools"
    ):
        check(k.finish())
