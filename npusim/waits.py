"""What is said of a row of a timeline: what it waited for, and which bytes it moves."""

from __future__ import annotations

import numpy as np

from npusim.program import Instance, PhaseProgram
from npusim.timeline import ELSEWHERE, Bound, Ints, Timeline

DEPENDENCE = (Bound.read, Bound.reuse)
"""waits for another operation"""


def waits(timeline: Timeline, rows: Ints) -> list[str]:
    """What each of some rows waited for: rows that waited alike for the same instance say the same."""

    def instance(cause: Ints) -> Ints:
        return np.where(cause >= 0, timeline.instance[np.maximum(cause, 0)], ELSEWHERE - cause)

    said = np.stack((
        timeline.phase, timeline.bound, instance(timeline.cause),
        timeline.issue_bound, instance(timeline.issue_cause),
    ))[:, rows]  # fmt: skip
    _, first, same = np.unique(said, axis=1, return_index=True, return_inverse=True)
    texts = [waited_for(timeline, int(rows[one])) for one in first]
    return [texts[one] for one in same.reshape(-1).tolist()]


def waited_for(timeline: Timeline, row: int) -> str:
    """What the start of a row waited for last, or else its issue."""
    bound = timeline.bound[row]
    if bound == Bound.order:
        return "unit"
    if bound in DEPENDENCE:
        return _dependence(timeline, row, bound, timeline.cause[row])
    bound = timeline.issue_bound[row]
    if bound in DEPENDENCE:
        return f"issue: {_dependence(timeline, row, bound, timeline.issue_cause[row])}"
    return "issue: queue full" if bound == Bound.queue else "issue"


def _dependence(timeline: Timeline, row: int, bound: int, cause: int) -> str:
    phase, producer = _producer(timeline, row, int(cause))
    unit = phase.lanes[producer.lane].unit
    return f"{'slot freed by' if bound == Bound.reuse else 'data from'} {unit}: {producer.name}"


def _producer(timeline: Timeline, row: int, cause: int) -> tuple[PhaseProgram, Instance]:
    """The operation that a row waited for, of the timeline or not; and its phase."""
    phase = timeline.program.phases[int(timeline.phase[row])]
    return phase, phase.instances[int(timeline.instance[cause]) if cause >= 0 else ELSEWHERE - cause]


def moved(instance: Instance) -> dict[str, float]:
    """Bytes that an instance moves through each shared pool."""
    found: dict[str, float] = {}
    for flow in instance.flows:
        for pool in flow.pools:
            found[pool] = found.get(pool, 0) + flow.bytes
    return found
