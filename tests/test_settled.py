"""Loops that settle: what the steps of their later trips depend on is found before they run."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
from agreement import EXACT, agreement
from hypothesis import given
from hypothesis import strategies as st
from long_graphs import long_case, long_cases
from random_graphs import cases
from test_fast import N, built, law, ran

from algorithms import REGISTRY
from npusim.builder import KernelBuilder, Tile
from npusim.engine.fast import layout as at
from npusim.engine.fast import run as fast_run
from npusim.engine.fast.encode import encode
from npusim.engine.fast.playback import Playback
from npusim.engine.reference import simulate
from npusim.lower import lower
from npusim.problem import Options, Problem, Target
from npusim.profiles import load_machine
from npusim.program import Program


def settles(program: Program, phase: int = 0) -> list[int]:
    """The trip from which on each loop has settled, or 0."""
    encoded = encode(program, phase, settling=True)
    start, loops = encoded[at.LOOP], encoded[at.LOOPS]
    records = encoded.words[start : start + loops * at.LOOP_SIZE].reshape(loops, at.LOOP_SIZE)
    return [int(trip) for trip in records[:, at.SETTLES]]


@pytest.mark.parametrize("slots", [1, 2, 3, 4])
def test_a_loop_settles_in_the_trip_that_writes_what_its_first_one_wrote_again(slots):
    def write(k: KernelBuilder, t: dict[str, Tile]) -> None:
        x, y = k.input("x", (N, N), "fp16"), k.output("y", (N, N), "fp16")
        through = k.tile("through", "UB", (N, N), "fp16", slots=slots)

        def trip(_: object) -> None:
            k.load(through, x.at())
            k.store(y.at(), through)

        k.items([("i", 50)], trip)

    program = built(write)
    assert settles(program) == [slots]
    assert not agreement(program, simulate(program), EXACT).problem


def test_what_was_written_before_a_loop_and_what_it_leaves_hold_across_it():
    def write(k: KernelBuilder, t: dict[str, Tile]) -> None:
        x, y = k.input("x", (N, N), "fp16"), k.output("y", (N, N), "fp16")
        through = k.tile("through", "UB", (N, N), "fp16", slots=2)

        def inner(_: object) -> None:
            k.load(through, x.at())
            k.vector("add", t["UB"], t["state"], through)

        def trip(_: object) -> None:
            k.load(t["state"], x.at())
            k.loop(9, inner)
            k.vector("add", t["state"], t["UB"], through)
            k.loop(7, inner)
            k.store(y.at(), t["UB"])

        k.items([("i", 6)], trip)

    program = built(write)
    assert sum(trip > 0 for trip in settles(program)) >= 2
    assert not agreement(program, simulate(program), EXACT).problem


def test_the_inverse_as_published_settles_in_its_second_trip():
    machine = load_machine("ascend-910b2")
    problem = Problem(chunk=64, dtype="fp16", matrices=4096)
    options = Options(algorithm="mxr", variant="published")
    kernel = REGISTRY["tri-inverse"].build(problem, options, Target.of(machine))
    assert settles(lower(kernel, machine)) == [1]


def test_many_loops_of_random_kernels_settle():
    """Else the comparisons of exact runs would show little. Of those seen here 32 % do."""
    cases = [long_case(seed, seed % 4 != 0) for seed in range(60)]
    programs = [lower(one.kernel, one.machine) for one in cases]
    found = [trip for p in programs for phase in range(len(p.phases)) for trip in settles(p, phase)]
    assert np.mean(np.array(found) > 0) >= 0.2
    assert len(set(found)) >= 4


def said(playback: Playback) -> list[np.ndarray]:
    """All that a run says of its operations, and what it counted."""
    found: list[np.ndarray] = []
    for phase, run in enumerate(playback.runs):
        operations = playback.operations_of(phase)
        steps = playback.numbered(phase, np.zeros_like(operations), operations)
        order = np.lexsort((steps.seq, steps.group))
        found += [getattr(steps, name)[order] for name in steps.__dataclass_fields__]
        views = run.encoded.views(run.state)
        found += [views.tallies(), views.waits(), views.core_waits()]
    return found


@law(60)
@given(st.one_of(cases(), long_cases()))
def test_it_makes_no_difference_to_the_last_bit(one):
    program = lower(one.kernel, one.machine)
    found = said(ran(program, EXACT))
    with patch.object(fast_run, "encode", lambda program, index, settling: encode(program, index)):
        expected = said(ran(program, EXACT))
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
