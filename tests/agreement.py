"""Whether the fast engine agrees with the reference, operation by operation.

`agreement(program, timeline, jumping)` compares one run. As a script (`--examples 100000`) it compares the
random kernels of that many seeds, every third a long one, and exits 1 where any differs.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from unittest.mock import patch

import numpy as np
from long_graphs import LongCase, long_case
from random_graphs import Case, case

from npusim.engine import reference
from npusim.engine.fabric import Fabric
from npusim.engine.fast.playback import Playback, Steps
from npusim.engine.fast.run import Jumping, run_program
from npusim.engine.reference import simulate
from npusim.lower import lower
from npusim.program import Program, Trips
from npusim.timeline import Timeline

TOLERANCE = 1e-9
"""of the makespan: how far two times may lie apart"""
EXACT = Jumping(exact=True, least=0)
JUMPING = Jumping(first=1, least=0)
"""jumps wherever it can, however little that saves"""
SPARING = Jumping(first=1, least=400)
"""where it saves more than a trip or two of an inner loop: then outer ones are looked at"""
TIMES = ("start", "end", "done", "issued")


@dataclass(frozen=True, eq=False, repr=False)
class Agreement:
    """A run of the fast engine beside one of the reference. `worst`: largest difference of a time relative to
    the makespan; `problem`: what does not agree, or ''."""

    playback: Playback
    worst: float
    problem: str

    @property
    def jumped(self) -> bool:
        return any(run.skipped_operations for run in self.playback.runs)


def agreement(program: Program, timeline: Timeline, jumping: Jumping) -> Agreement:
    """Run `program` with the fast engine and compare every operation, those jumped over included."""
    playback = Playback(program, tuple(run_program(program, jumping)))
    if playback.operations != timeline.operations:
        return Agreement(playback, np.inf, f"{playback.operations} operations, not {timeline.operations}")
    worst, problem = 0.0, ""
    for phase in range(len(program.phases)):
        for steps, expected in stretches(playback, phase):
            found, said = difference(timeline, phase, steps)
            worst, problem = max(worst, found), problem or said
            if len(steps) != expected:
                problem = problem or f"phase {phase}: {len(steps)} rows of {expected} operations"
    apart = abs(playback.makespan - timeline.makespan)
    if apart > TOLERANCE * timeline.makespan:
        problem = problem or f"makespan {playback.makespan}, not {timeline.makespan}"
    return Agreement(playback, worst, problem)


def stretches(playback: Playback, phase: int) -> Iterator[tuple[Steps, int]]:
    """All operations of a phase, in stretches each of which is replayed from the last state before it (after
    a jump: one moved forward by whole periods), and how many they are."""
    operations = playback.operations_of(phase)
    states = [p for p in playback.runs[phase].checkpoints if p.period]
    ends = [operations * part // 8 for part in (0, 1, 3, 5, 7, 8)] if states else [0 * operations, operations]
    ends.insert(-1, np.maximum(ends[-2], operations - 3))
    for low, high in pairwise(ends):
        yield playback.numbered(phase, low, high), int((high - low).sum())


def rows_of(timeline: Timeline, phase: int) -> list[np.ndarray]:
    """[group] rows of the timeline, in program order."""
    streams = timeline.program.phases[phase].streams
    inside = timeline.phase == phase
    return [np.flatnonzero(inside & (timeline.stream == group)) for group in range(streams)]


def places(timeline: Timeline, phase: int, steps: Steps) -> np.ndarray:
    """The row of the timeline for each step."""
    rows = np.zeros(len(steps), dtype=np.int64)
    for group, own in enumerate(rows_of(timeline, phase)):
        mine = steps.group == group
        rows[mine] = own[steps.seq[mine]]
    return rows


def difference(timeline: Timeline, phase: int, steps: Steps) -> tuple[float, str]:
    """The largest difference of a time relative to the makespan, and what does not agree."""
    rows = places(timeline, phase, steps)
    if len(np.unique(rows)) != len(rows):
        return np.inf, f"phase {phase}: an operation stands in two rows"
    if (timeline.instance[rows] != steps.instance).any():
        return np.inf, f"phase {phase}: other operations"
    worst, problem = 0.0, ""
    for name in TIMES:
        apart = np.abs(getattr(timeline, name)[rows] - getattr(steps, name))
        relative = float(apart.max(initial=0.0)) / max(timeline.makespan, 1.0)
        worst = max(worst, relative)
        if relative > TOLERANCE and not problem:
            at = int(apart.argmax())
            problem = (
                f"phase {phase}: {name} of step {steps.seq[at]} of group {steps.group[at]}: {apart[at]} apart"
            )
    return worst, problem


# --- kernels that nobody can time exactly -----------------------------------------------------------

NOISE = 1e-14
"""of a transfer's cycles: some fifty roundings"""


class NoisyFabric(Fabric):
    """Transfers that take a little more or less, as if sums were rounded elsewhere."""

    chooser = random.Random(0)

    def begin(self, cycles, weight, pools):
        return super().begin(cycles * (1 + NOISE * self.chooser.uniform(-1, 1)), weight, pools)


def amplifies(program: Program, timeline: Timeline) -> bool:
    """Whether the reference itself, with noise of the size of rounding errors, comes to other times: in a few
    kernels each meeting of two transfers makes what sets them apart several times larger."""
    with patch.object(reference, "Fabric", NoisyFabric):
        for seed in range(12):
            NoisyFabric.chooser.seed(seed)
            noisy = simulate(program)
            rows = [
                np.concatenate([r for p in range(len(program.phases)) for r in rows_of(t, p)])
                for t in (noisy, timeline)
            ]
            apart = np.abs(noisy.start[rows[0]] - timeline.start[rows[1]]).max(initial=0.0)
            if apart > TOLERANCE * timeline.makespan:
                return True
    return False


# --- where it jumped -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Jumps:
    """What is told of the jumps of a run. `inner`: one over trips of a loop in a loop; `uneven`: one in a
    phase with a table of counts; `phases`: how many phases have one; `widened`: whether a ring grew."""

    inner: bool
    uneven: bool
    phases: int
    widened: bool


def jumps_of(playback: Playback) -> Jumps:
    """Where a run jumped."""
    inner = uneven = False
    phases = 0
    for run, phase in zip(playback.runs, playback.program.phases, strict=True):
        depths = list(_depths(phase.body, 0))
        periods = [point.period for point in run.checkpoints if point.period]
        loops = {int(loop) for period in periods for loop in period.loop[period.live] if loop >= 0}
        inner |= any(depths[loop][0] > 0 for loop in loops)
        uneven |= bool(periods) and any(table for _, table in depths)
        phases += bool(periods)
    widened = any(run.encoded is not run.first for run in playback.runs)
    return Jumps(inner, uneven, phases, widened)


def _depths(nodes: tuple[int | Trips, ...], depth: int) -> Iterator[tuple[int, bool]]:
    """(depth, whether its counts differ) of all loops, in the order in which the engine numbers them."""
    for node in nodes:
        if isinstance(node, Trips):
            yield depth, node.per_item
            yield from _depths(node.body, depth + 1)


# --- many seeds ------------------------------------------------------------------------------------


def example(number: int) -> Case:
    """Every third is a long one; every fourth has no contention."""
    return long_case(number, number % 4 != 0) if number % 3 == 0 else case(number, number % 4 != 0)


@dataclass(frozen=True)
class Compared:
    """One example. `worst`: largest difference; `problem`: what does not agree; `noisy`: the reference does
    not agree with itself either."""

    long: bool
    jumped: bool
    worst: float
    problem: str
    noisy: bool


def compare(number: int) -> Compared:
    one = example(number)
    try:
        program = lower(one.kernel, one.machine)
        timeline = simulate(program)
        exact, jumping = (agreement(program, timeline, how) for how in (EXACT, JUMPING))
    except Exception as error:  # a crash is a disagreement, and the other seeds go on
        return Compared(isinstance(one, LongCase), False, np.inf, f"{one}: {error!r}", False)
    problem = exact.problem or ("an exact run jumped" if exact.jumped else "") or jumping.problem
    noisy = bool(problem) and not exact.jumped and amplifies(program, timeline)
    worst = max(exact.worst, jumping.worst)
    return Compared(isinstance(one, LongCase), jumping.jumped, worst, problem and f"{one}: {problem}", noisy)


def main() -> int:
    parser = argparse.ArgumentParser(description="compare the engines on random kernels")
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    began = said = time.monotonic()
    done = long = jumped = noisy = 0
    worst, wrong = 0.0, []
    with ProcessPoolExecutor(asked.processes) as pool:
        numbers = range(asked.start, asked.start + asked.examples)
        for found in pool.map(compare, numbers, chunksize=20):
            done, long, jumped = done + 1, long + found.long, jumped + found.jumped
            noisy += found.noisy
            if not found.problem:
                worst = max(worst, found.worst)
            elif not found.noisy:
                wrong.append(found.problem)
                print(found.problem, flush=True)
            if time.monotonic() - said > 5:
                said = time.monotonic()
                print(f"{done} of {asked.examples}, {jumped} jumped, {said - began:.0f} s", flush=True)
    print(
        f"{done} examples, {long} of them long, in {time.monotonic() - began:.0f} s; {jumped} jumped; "
        f"largest difference {worst:.2g} of the makespan; {noisy} left out, where the reference differs from "
        f"itself under rounding noise; {len(wrong)} disagree" + "".join(f"\n  {one}" for one in wrong)
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
