"""The trace: a timeline as one JSON file that Perfetto and MindStudio Insight open.

The format is Chrome's Trace Event Format (a JSON object with `traceEvents`; times in microseconds) as the
msprof operator simulator writes it for MindStudio Insight: `"profilingType":"op"` before the first '[',
the core as a string pid, the unit as a string tid. Both viewers keep whole nanoseconds, and Perfetto rounds
`ts` and `dur` each on its own; so times are put on that grid here, and operations that follow each other
never overlap.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from operator import itemgetter
from typing import Any, TextIO

import numpy as np

from npusim.program import Instance, PhaseProgram
from npusim.timeline import Bound, Floats, Ints, Timeline
from npusim.waits import DEPENDENCE, moved, waits

Event = dict[str, Any]
Entry = tuple[int, int, int, Event]
"""nanosecond, operation, rank within the operation, event: the order of the file"""
SLICE, FLOW_IN, FLOW_OUT = range(3)
"""ranks: viewers bind a flow to the slice of its track that was opened last"""
FLOW_END = {"ph": "f", "bp": "e"}
"""ends a flow at the slice that encloses it; MindStudio Insight passes over 'f' in operator traces"""
TIDS = {
    "scalar": "SCALAR", "mte1": "MTE1", "mte2": "MTE2", "mte3": "MTE3",
    "mac": "CUBE", "vec": "VECTOR", "fixpipe": "FIXP",
}  # fmt: skip
"""the simulator's names of the units, by those of msprof without 'aic_' or 'aiv_'"""


def trace_events(timeline: Timeline) -> list[dict[str, Any]]:
    """Complete events and flow events in order of time."""
    return _Events(timeline).all()


def write_trace(timeline: Timeline, stream: TextIO, **known: Any) -> None:
    """Write the trace as text, one event a line; `known` is what else it says of itself."""
    program = timeline.program
    kept = {"kept_operations": timeline.operations, **known}
    other = {"kernel": program.kernel.name, "profile": program.machine.name, **kept}
    # before the events: MindStudio Insight looks for the last event in the last bytes of the file
    stream.write(
        f'{{"profilingType":"op","displayTimeUnit":"ns","otherData":{_text(other)},\n"traceEvents":['
    )
    for number, event in enumerate(_Events(timeline).all()):
        stream.write(f"{',' if number else ''}\n{_text(event)}")
    stream.write("\n]}\n")


_text = json.JSONEncoder(separators=(",", ":")).encode


# --- events ----------------------------------------------------------------------------------


class _Events:
    """The events of a timeline, row by row."""

    def __init__(self, timeline: Timeline) -> None:
        self.t = timeline
        self.start_ns = self._nanoseconds(timeline.start)
        self.end_ns = np.maximum(self.start_ns, self._nanoseconds(timeline.end))
        self.done_ns = self._nanoseconds(timeline.done)
        self.tracks: dict[tuple[int, int, int], dict[str, str]] = {}
        self.fixed = [[_fixed(phase, i) for i in phase.instances] for phase in timeline.program.phases]

    def all(self) -> list[Event]:
        entries = [*self._slices(), *self._flows("start", self.t.bound, self.t.cause)]
        entries += self._flows("issue", self.t.issue_bound, self.t.issue_cause)
        entries.sort(key=itemgetter(0, 1, 2))
        return [entry[-1] for entry in entries]

    def _slices(self) -> Iterator[Entry]:
        columns = (self.start_ns, self.end_ns, self.done_ns, self.t.end - self.t.start)
        lists = (column.tolist() for column in columns)
        said = waits(self.t, np.arange(self.t.operations))
        for row, (start, end, done, occupied, waited) in enumerate(zip(*lists, said, strict=True)):
            phase, instance = self._instance(row)
            times = {"ts": start / 1e3, "dur": (end - start) / 1e3}
            args = {"done_us": done / 1e3, "cycles": occupied, "waited_for": waited}
            args |= self.fixed[phase][instance.number]
            what = {"name": instance.name, "ph": "X", **self._track(row)}
            yield start, row, SLICE, {**what, **times, "args": args}

    def _flows(self, cat: str, bounds: Ints, causes: Ints) -> Iterator[Entry]:
        """A flow for each operation that waited for one of the timeline: from that one's end to its start."""
        consumers = np.flatnonzero(np.isin(bounds, DEPENDENCE) & (causes >= 0))
        producers, arrives = causes[consumers], self.start_ns[consumers]
        # inside the slice: at its end the unit's next operation may start. A stream starts with its producer
        leaves = np.maximum(self.start_ns[producers], self.end_ns[producers] - 1)
        leaves = np.minimum(leaves, arrives)
        columns = (bounds[consumers], leaves, producers, arrives, consumers)
        for bound, leave, producer, arrive, consumer in zip(*(c.tolist() for c in columns), strict=True):
            # Perfetto reads a string id as hexadecimal
            same = {"name": Bound(bound).name, "cat": cat, "id": f"{2 * consumer + (cat == 'issue'):#x}"}
            begin, end = self._track(producer), self._track(consumer)
            yield leave, producer, FLOW_OUT, {**same, "ph": "s", **begin, "ts": leave / 1e3}
            yield arrive, consumer, FLOW_IN, {**same, **FLOW_END, **end, "ts": arrive / 1e3}

    def _nanoseconds(self, cycles: Floats) -> Ints:
        return np.rint(cycles / self.t.program.machine.cycles_per_us * 1e3).astype(np.int64)

    def _instance(self, row: int) -> tuple[int, Instance]:
        """The phase and the instance of a row."""
        phase = int(self.t.phase[row])
        return phase, self.t.program.phases[phase].instances[int(self.t.instance[row])]

    def _track(self, row: int) -> dict[str, str]:
        """pid and tid of a row's core and unit."""
        number, instance = self._instance(row)
        key = number, int(self.t.stream[row]), instance.lane
        if key not in self.tracks:
            self.tracks[key] = _track(self.t.program.phases[number], key[1], instance.lane)
        return self.tracks[key]


def _track(phase: PhaseProgram, stream: int, lane: int) -> dict[str, str]:
    """pid 'core<group>.cubecore0' or 'core<group>.veccore<n>', and tid. A stream is a core group, or in a
    phase over vector cores alone one vector core. A fused core has its vector side as veccore0."""
    place = phase.lanes[lane]
    group, member = divmod(stream, phase.per_group)
    vector_core = member + max(place.core - 1, 0)
    side, _, unit = place.unit.partition("_")
    core = "cubecore0" if side == "aic" else f"veccore{vector_core}"
    return {"pid": f"core{group}.{core}", "tid": TIDS[unit]}


def _fixed(phase: PhaseProgram, instance: Instance) -> dict[str, Any]:
    """What is the same each time an instance runs."""
    through = {f"{pool}_bytes": count for pool, count in moved(instance).items()}
    return {"phase": phase.name, "instructions": instance.cost.instructions, **through}
