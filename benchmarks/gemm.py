"""Matrix products in fp16 on ascend-910b1, with the jump and exact: wall time and simulated time.

Prints one line of JSON. Wall time is that of building the kernel, lowering it on the machine and simulating
it; the profile is read before.
"""

from __future__ import annotations

import json
import statistics
import time
from typing import Any

from algorithms import REGISTRY
from npusim.engine.fast.run import Jumping, PhaseRun, run_program
from npusim.lower import lower
from npusim.problem import Options, Problem, Target
from npusim.profiles import load_machine

RUNS = 5


MACHINE = load_machine("ascend-910b1")


def product(size: int, jumping: Jumping) -> tuple[float, float, list[PhaseRun]]:
    """Seconds to build, lower and simulate; simulated us; and what came out."""
    began = time.perf_counter()
    problem = Problem(m=size, n=size, k=size, dtype="fp16")
    program = lower(REGISTRY["matmul"].build(problem, Options(), Target.of(MACHINE)), MACHINE)
    runs = run_program(program, jumping)
    wall = time.perf_counter() - began
    cycles = max(run.last_done for run in runs)
    return wall, cycles / (MACHINE.clock_ghz.value * 1000), runs


def measured(size: int) -> dict[str, Any]:
    found: dict[str, Any] = {"size": size}
    for name, jumping in (("jump", Jumping()), ("exact", Jumping(exact=True))):
        product(size, jumping)
        many = [product(size, jumping) for _ in range(RUNS)]
        _, us, runs = many[0]
        found["operations"] = sum(run.operations for run in runs)
        found[f"{name}_wall_s"] = round(statistics.median(wall for wall, *_ in many), 4)
        found[f"{name}_us"] = us
        found[f"{name}_skipped"] = sum(run.skipped_operations for run in runs)
    found["relative_difference"] = abs(found["jump_us"] / found["exact_us"] - 1)
    return found


if __name__ == "__main__":
    print(json.dumps({"products": [measured(size) for size in (1024, 4096)]}))
