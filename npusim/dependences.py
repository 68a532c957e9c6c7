"""What an operation of a run depends on, and what depends on it: found by walking the operations around it.

The rules are those of the reference engine's walk, which knows of a version only who wrote and who read it
among the operations that it was given; what lies further back is not found.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

import numpy as np

from npusim.engine.walk import Edge, Walker
from npusim.timeline import Timeline


@dataclass(frozen=True)
class Dependence:
    """One operation waits for another: `row` of a timeline is the other end. `kind`: a result is read, or
    streamed from; a slot is written again (reuse); a barrier waits for a unit (drain)."""

    row: int
    kind: str


@dataclass(frozen=True)
class Dependences:
    """Of one operation: what it waits for, and what waits for it, in program order."""

    before: tuple[Dependence, ...]
    after: tuple[Dependence, ...]


def dependences(rows: Timeline, chosen: int) -> Dependences:
    """Of row `chosen`, among rows that are consecutive operations of one stream of a phase, in order."""
    phase = rows.program.phases[int(rows.phase[chosen])]
    walker = Walker(phase, int(rows.stream[chosen]), count())
    before: dict[int, Edge] = {}
    after: dict[int, Edge] = {}
    for number, instance in enumerate(np.asarray(rows.instance).tolist()):
        step = walker.step(instance)
        for producer, edge in (*step.deps, *step.blocking):
            if number == chosen:
                before.setdefault(producer.number, edge)
            elif producer.number == chosen:
                after.setdefault(number, edge)
    return Dependences(_ordered(before), _ordered(after))


def _ordered(found: dict[int, Edge]) -> tuple[Dependence, ...]:
    return tuple(Dependence(row, edge.name) for row, edge in sorted(found.items()))
