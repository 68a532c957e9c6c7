"""Wall time and memory of the inverse against the length of the sequence, 1 k to 16 M tokens.

Prints one line of JSON. Each length runs in a process of its own, so that its peak memory is its own; the
time is the median of five runs in it (build, lower, simulate with the jump, sum up), after one that loads the
engine. Beside them a million matrices, with the jump and, once, exact.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

from engine import PROFILE, RUNS, inverse

from npusim.engine.fast.playback import Playback
from npusim.engine.fast.run import Jumping, run_program
from npusim.profiles import load_machine
from npusim.report import summarise
from npusim.totals import of_playback

LENGTHS = [1024 * 4**n for n in range(8)]
MATRICES = 1_048_576
MACHINE = load_machine(PROFILE)


class Run:
    """One run: seconds of all of it, seconds of the simulation alone, and what came out."""

    def __init__(self, jumping: Jumping, **sizes: int) -> None:
        began = time.perf_counter()
        program = inverse(MACHINE, **sizes)
        lowered = time.perf_counter()
        self.phases = run_program(program, jumping)
        self.simulation_s = time.perf_counter() - lowered
        summarise(of_playback(Playback(program, tuple(self.phases))), program.machine)
        self.wall_s = time.perf_counter() - began

    @property
    def operations(self) -> int:
        return sum(phase.operations for phase in self.phases)

    @property
    def skipped(self) -> int:
        return sum(phase.skipped_operations for phase in self.phases)

    @property
    def makespan(self) -> float:
        return max(phase.last_done for phase in self.phases)


def one_length(seq_len: int) -> dict[str, Any]:
    runs = [Run(Jumping(), heads=32, seq_len=seq_len) for _ in range(RUNS + 1)][1:]
    return {
        "tokens": seq_len,
        "operations": runs[0].operations,
        "cycles": runs[0].makespan,
        "wall_s": round(statistics.median(run.wall_s for run in runs), 4),
        "simulation_s": round(statistics.median(run.simulation_s for run in runs), 4),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def many_matrices() -> dict[str, Any]:
    jumping = [Run(Jumping(), matrices=MATRICES) for _ in range(RUNS + 1)][1:]
    exact = Run(Jumping(exact=True), matrices=MATRICES)
    return {
        "matrices": MATRICES,
        "operations": exact.operations,
        "jump_wall_s": round(statistics.median(run.wall_s for run in jumping), 4),
        "jump_simulation_s": round(statistics.median(run.simulation_s for run in jumping), 4),
        "exact_simulation_s": round(exact.simulation_s, 3),
        "relative_difference": abs(jumping[0].makespan / exact.makespan - 1),
        "jump_skipped": jumping[0].skipped,
    }


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(one_length(int(sys.argv[1]))))
        return
    lengths = []
    for seq_len in LENGTHS:
        command = [sys.executable, __file__, str(seq_len)]
        lengths.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    growth = {
        key: round(lengths[-1][key] / lengths[0][key], 3) for key in ("wall_s", "simulation_s", "peak_mib")
    }
    print(json.dumps({"lengths": lengths, "growth_16M_over_1k": growth, "million": many_matrices()}))


if __name__ == "__main__":
    main()
