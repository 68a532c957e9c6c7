"""Program -> Timeline, by the engine of one's choice; and what the engine itself took."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from npusim.program import Program
from npusim.timeline import Timeline


@dataclass(frozen=True)
class EngineRun:
    """What the engine did. `skipped_iterations`: loop trips not simulated one by one."""

    name: str
    operations: int
    wall_s: float
    operations_per_s: float
    skipped_iterations: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def simulate(
    program: Program, engine: str = "reference", progress: Callable[[int], None] | None = None
) -> tuple[Timeline, EngineRun]:
    """Simulate `program`; `progress` is called with the number of operations so far."""
    from npusim.engine import reference

    began = time.perf_counter()
    timeline = reference.simulate(program, progress=progress)
    wall = time.perf_counter() - began
    count = timeline.operations
    return timeline, EngineRun(engine, count, wall, count / wall if wall else 0.0)
