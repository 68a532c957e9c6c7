"""Operations per second of both engines in one run, beside what a bare relaxation reaches.

Prints one line of JSON. Two bodies: the inverse (mxr as published, chunk 64, 24 staggered core groups), and
the same where HBM is so slow that it is never idle. The bound is a loop over a dependence list made
beforehand: start = the latest of three producers, end = start + duration, and nothing else.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

import numba
import numpy as np

from algorithms import REGISTRY
from npusim.engine.fast.run import Jumping, run_program
from npusim.engine.reference import simulate
from npusim.lower import lower
from npusim.machine import Machine, override
from npusim.problem import Options, Problem, Target
from npusim.profiles import load_machine
from npusim.program import Program
from npusim.timeline import Timeline

RUNS = 5
EXACT = Jumping(exact=True)
PROFILE = "ascend-910b2"
SLOW_GB_PER_S = 60.0
"""of HBM, at which the body saturates it"""


def inverse(machine: Machine, **sizes: int) -> Program:
    """mxr as published on matrices of 64 x 64, fp16."""
    problem = Problem(chunk=64, dtype="fp16", **sizes)
    options = Options(algorithm="mxr", variant="published")
    return lower(REGISTRY["tri-inverse"].build(problem, options, Target.of(machine)), machine)


def seconds(call: Callable[[], object], runs: int = RUNS) -> float:
    """Median wall time of a call."""
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def hbm_share(timeline: Timeline) -> float:
    """Bytes that went through HBM, of what it could have moved from the first transfer to the last."""
    moved = 0.0
    first, last = np.inf, 0.0
    for number, phase in enumerate(timeline.program.phases):
        for index, instance in enumerate(phase.instances):
            rows = (timeline.phase == number) & (timeline.instance == index)
            through = sum(flow.bytes for flow in instance.flows if "hbm" in flow.pools)
            if through and rows.any():
                moved += through * int(rows.sum())
                first, last = min(first, timeline.start[rows].min()), max(last, timeline.end[rows].max())
    return moved / (timeline.program.pools["hbm"] * (last - first))


@numba.njit(cache=True)
def relax(producers, durations, end):
    for n in range(len(durations)):
        a, b, c = producers[n, 0], producers[n, 1], producers[n, 2]
        end[n] = max(end[a], end[b], end[c]) + durations[n]


def bare(operations: int) -> float:
    """Operations per second of the relaxation: three producers among the 64 operations before each."""
    rng = np.random.default_rng(0)
    back = rng.integers(1, 64, (operations, 3))
    producers = np.maximum(np.arange(operations)[:, None] - back, 0)
    durations, end = rng.random(operations), np.zeros(operations)
    relax(producers, durations, end)
    return operations / seconds(lambda: relax(producers, durations, end))


def measured(large: Program, small: Program) -> dict[str, float]:
    """Both engines: the fast one on the large program, the reference on the small one."""
    run_program(small, EXACT)
    operations = sum(run.operations for run in run_program(large, EXACT))
    fast = operations / seconds(lambda: run_program(large, EXACT))
    timeline = simulate(small)
    reference = timeline.operations / seconds(lambda: simulate(small), 3)
    return {
        "operations": operations,
        "fast_ops_per_s": round(fast),
        "reference_ops_per_s": round(reference),
        "ratio": round(fast / reference, 1),
        "hbm_busy": round(hbm_share(timeline), 4),
    }


def main() -> None:
    machine = load_machine(PROFILE)
    slow = override(machine, {"memory.hbm_gb_per_s": SLOW_GB_PER_S})
    mxr = measured(inverse(machine, matrices=65_536), inverse(machine, matrices=1024))
    saturated = measured(inverse(slow, matrices=32_768), inverse(slow, matrices=1024))
    bound = bare(mxr["operations"])
    print(json.dumps({"mxr": mxr, "saturated": saturated, "relaxation_ops_per_s": round(bound)}))


if __name__ == "__main__":
    main()
