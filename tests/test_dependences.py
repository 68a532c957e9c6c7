"""Dependences of an operation, found around it, against a walk over the whole stream."""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest
from random_graphs import case

from npusim.builder import KernelBuilder, Target
from npusim.dependences import dependences
from npusim.engine.reference import simulate
from npusim.engine.walk import Walker
from npusim.lower import lower
from npusim.profiles import load_machine


def truth(phase, stream) -> list[dict[int, str]]:
    """[operation] what it depends on, by number in program order of its stream: a walk from the beginning."""
    walker = Walker(phase, stream, count())
    found: dict[int, dict[int, str]] = {}
    while any(steps := [walker.next(core) for core in range(len(phase.cores))]):
        for step in steps:
            if step is not None:
                own = found.setdefault(step.number, {})
                for producer, edge in (*step.deps, *step.blocking):
                    own.setdefault(producer.number, edge.name)
    return [found[number] for number in range(len(found))]


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 7, 11, 20])
def test_all_that_a_stream_did_tells_all_dependences_and_a_part_none_that_are_not(seed):
    one = case(seed)
    timeline = simulate(lower(one.kernel, one.machine))
    seen = 0
    for index, phase in enumerate(timeline.program.phases):
        rows = np.flatnonzero((timeline.phase == index) & (timeline.stream == 0))
        known = truth(phase, 0)
        whole = timeline.only(rows)
        for chosen in range(0, len(rows), 1 + len(rows) // 12):
            found = dependences(whole, chosen)
            assert {one.row: one.kind for one in found.before} == known[chosen]
            after = {n: own[chosen] for n, own in enumerate(known) if chosen in own}
            assert {one.row: one.kind for one in found.after} == after
            low = max(0, chosen - 7)
            part = dependences(timeline.only(rows[low : chosen + 8]), chosen - low)
            assert {(d.row + low, d.kind) for d in part.before} <= known[chosen].items()
            seen += len(found.before)
    assert seen


def test_a_load_feeds_what_reads_it_and_waits_for_its_slot():
    machine = load_machine("toy")
    k = KernelBuilder("k", Target.of(machine), "fp16")
    x = k.input("x", (16, 16), "fp16")
    u, v = (k.tile(name, "UB", (16, 16), "fp16", place="first") for name in "uv")
    with k.phase("p"):
        k.load(u, x.at(), label="first")
        k.vector("exp", v, u)
        k.load(u, x.at(), label="second")
    timeline = simulate(lower(k.finish(), machine))
    rows = timeline.only(np.flatnonzero(timeline.stream == 0))
    names = [timeline.program.phases[0].instances[int(i)].name for i in rows.instance]
    first, second = names.index("first"), names.index("second")
    assert [(names[d.row], d.kind) for d in dependences(rows, first).after] == [("exp v", "read")]
    assert [(names[d.row], d.kind) for d in dependences(rows, second).before] == [("exp v", "reuse")]
