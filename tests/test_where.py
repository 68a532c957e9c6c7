"""Where something was written: the line of a user's file, nothing for built-in kernels."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from algorithms import REGISTRY
from npusim.builder import KernelBuilder, Options, Problem, Target
from npusim.errors import GraphError
from npusim.graph import Items, Loop, operations
from npusim.profiles import load_machine
from npusim.where import blaming, line_in


def target(profile="toy"):
    return Target.of(load_machine(profile))


def line():
    """The line of the call, as the builder should see it."""
    return f"{__file__}:{inspect.currentframe().f_back.f_lineno}"


def test_every_node_and_tile_knows_the_line_that_wrote_it():
    k = KernelBuilder("k", target(), "fp16")
    x, y = k.input("x", (16, 16), "fp16"), k.output("y", (16, 16), "fp16")
    tile, at_tile = k.tile("t", "UB", (16, 16), "fp16"), line()
    places = {}

    def body(index):
        k.load(tile, x.at()), places.setdefault("load", line())
        k.wait(tile, on="rows"), places.setdefault("wait", line())
        k.barrier("core", on="rows"), places.setdefault("barrier", line())
        k.scalar("read", tile, on="rows"), places.setdefault("scalar", line())
        k.vector("exp", tile, tile), places.setdefault("vector", line())
        k.store(y.at(), tile), places.setdefault("store", line())

    def trip(items):
        k.loop(2, body), places.setdefault("loop", line())

    with k.phase("p"):
        k.items([("i", 3)], trip), places.setdefault("items", line())
    (phase,) = k.finish().phases
    (items,) = phase.nodes
    (loop,) = items.body
    assert isinstance(items, Items) and isinstance(loop, Loop) and tile.where == at_tile
    assert (items.where, loop.where) == (places["items"], places["loop"])
    assert {str(op.kind): op.where for op in loop.body} == {
        kind: places[kind] for kind in ("load", "wait", "barrier", "scalar", "vector", "store")
    }


def test_the_copies_of_a_detour_have_the_line_of_the_move():
    """Both where there is no path, and where one memory needs a copy that is found when all is written."""
    for profile, levels in (("ascend-910b2", ("UB", "L1")), ("hexagon-class", ("UB", "L0A"))):
        k = KernelBuilder("k", target(profile), "fp16")
        x = k.input("x", (32, 32), "fp16")
        start, end = (k.tile(level, level, (32, 32), "fp16") for level in levels)
        with k.phase("p"):
            k.load(start, x.at())
            k.move(end, start, transpose=True), (at := line())
        ops = [op for phase in k.finish().phases for op in operations(phase.nodes)]
        assert len(ops) > 2 and [op.where for op in ops[-2:]] == [at, at], profile


@pytest.mark.parametrize(("kernel", "algorithm"), [(k, a) for k, e in REGISTRY.items() for a in e.algorithms])
def test_built_in_kernels_say_nothing_of_lines(kernel, algorithm):
    entry = REGISTRY[kernel]
    problem = Problem(seq_len=1) if "seq_len" in entry.sizes else Problem()  # all that a decoding step takes
    built = entry.build(problem, Options(algorithm=algorithm), target("ascend-910b2"))
    assert not any(tile.where for tile in built.tiles)
    assert {op.where for phase in built.phases for op in operations(phase.nodes)} == {""}


def test_the_first_line_that_is_blamed_stays():
    with pytest.raises(GraphError) as caught, blaming("outer.py:1"), blaming("inner.py:2"):
        raise GraphError("shape", "no")
    assert str(caught.value) == "inner.py:2: shape: no"
    with pytest.raises(GraphError, match=r"^shape: no$"), blaming(""):
        raise GraphError("shape", "no")


def test_the_line_of_an_error_is_the_innermost_one_in_the_file():
    def deeper():
        Path("\0").read_text()  # fails in a library

    with pytest.raises(ValueError) as caught:
        deeper()
    assert line_in(__file__, caught.value) == f"{__file__}:{deeper.__code__.co_firstlineno + 1}"
    assert line_in("other.py", caught.value) == "other.py"
