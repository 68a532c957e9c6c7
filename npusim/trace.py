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
import numpy.typing as npt

from npusim.program import Instance, PhaseProgram, Trips
from npusim.timeline import Bound, Floats, Ints, Timeline

Event = dict[str, Any]
Entry = tuple[int, int, int, Event]
"""nanosecond, operation, rank within the operation, event: the order of the file"""
SLICE, FLOW_IN, FLOW_OUT = range(3)
"""ranks: viewers bind a flow to the slice of its track that was opened last"""
FLOW_END = {"ph": "f", "bp": "e"}
"""ends a flow at the slice that encloses it; MindStudio Insight passes over 'f' in operator traces"""
DEPENDENCE = (Bound.read, Bound.reuse)
TIDS = {
    "scalar": "SCALAR", "mte1": "MTE1", "mte2": "MTE2", "mte3": "MTE3",
    "mac": "CUBE", "vec": "VECTOR", "fixpipe": "FIXP",
}  # fmt: skip
"""the simulator's names of the units, by those of msprof without 'aic_' or 'aiv_'"""


def trace_events(timeline: Timeline, iterations: int) -> list[dict[str, Any]]:
    """Complete events and flow events in order of time; of every outermost loop of a core group only the
    first `iterations` trips, and everything outside of loops."""
    return _Events(timeline, kept_rows(timeline, iterations)).all()


def write_trace(timeline: Timeline, stream: TextIO, iterations: int) -> int:
    """Write the trace as text, one event a line; returns how many operations it keeps."""
    rows = kept_rows(timeline, iterations)
    program = timeline.program
    kept = {"kept_operations": len(rows), "operations": timeline.operations, "iterations": iterations}
    other = {"kernel": program.kernel.name, "profile": program.machine.name, **kept}
    # before the events: MindStudio Insight looks for the last event in the last bytes of the file
    stream.write(
        f'{{"profilingType":"op","displayTimeUnit":"ns","otherData":{_text(other)},\n"traceEvents":['
    )
    for number, event in enumerate(_Events(timeline, rows).all()):
        stream.write(f"{',' if number else ''}\n{_text(event)}")
    stream.write("\n]}\n")
    return len(rows)


def _text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


# --- which operations are kept ---------------------------------------------------------------


def kept_rows(timeline: Timeline, iterations: int) -> Ints:
    """Rows of the first `iterations` trips of every outermost loop, and of all outside of loops."""
    found = [np.empty(0, dtype=np.int64)]
    for index, phase in enumerate(timeline.program.phases):
        rows = np.flatnonzero(timeline.phase == index)
        # program order of stream 0, then of stream 1, ...
        rows = rows[np.argsort(timeline.stream[rows], kind="stable")]
        kept = [_kept_in_order(phase, stream, iterations) for stream in range(phase.streams)]
        found.append(rows[np.concatenate(kept)])
    return np.sort(np.concatenate(found))


def _kept_in_order(phase: PhaseProgram, stream: int, iterations: int) -> npt.NDArray[np.bool_]:
    """For each operation of a stream in program order, whether it is kept."""
    flags, lengths = [], []
    outside = np.zeros(1, dtype=np.int64)  # the walk starts with item 0
    for node in phase.body:
        length = kept = 1
        if isinstance(node, Trips):
            length = int(_loop_lengths(node, stream, outside)[0])
            most = max(0, iterations - 1) if node.resumes else iterations
            kept = int(_loop_lengths(node, stream, outside, most)[0])
        flags += [True, False]
        lengths += [kept, length - kept]
    return np.repeat(np.array(flags, dtype=bool), np.array(lengths, dtype=np.int64))


def _lengths(nodes: tuple[int | Trips, ...], stream: int, items: Ints) -> Ints:
    """Operations in one pass over `nodes`, for each of `items`; the loops are not walked."""
    total = np.zeros(len(items), dtype=np.int64)
    for node in nodes:
        total += _loop_lengths(node, stream, items) if isinstance(node, Trips) else 1
    return total


def _loop_lengths(node: Trips, stream: int, items: Ints, most: int | None = None) -> Ints:
    """Operations in the first `most` trips of a loop (None: in all), for each of the items around it."""
    if node.per_item:
        counts = node.count[items]
    else:
        counts = np.full(len(items), node.count[stream if len(node.count) > 1 else 0])
    if most is not None:
        counts = np.minimum(counts, most)
    if node.first_item is None:
        return np.asarray(counts * _lengths(node.body, stream, items))
    own = node.first_item[stream] + node.item_step * np.arange(counts.max(initial=0))
    return np.concatenate(([0], np.cumsum(_lengths(node.body, stream, own))))[counts]


# --- events ----------------------------------------------------------------------------------


class _Events:
    """The events of some rows of a timeline. An operation is known by its place among `rows`."""

    def __init__(self, timeline: Timeline, rows: Ints) -> None:
        self.t, self.rows = timeline, rows
        self.place = np.full(timeline.operations, -1, dtype=np.int64)
        self.place[rows] = np.arange(len(rows))
        self.start_ns = self._nanoseconds(timeline.start[rows])
        self.end_ns = np.maximum(self.start_ns, self._nanoseconds(timeline.end[rows]))
        self.done_ns = self._nanoseconds(timeline.done[rows])
        self.tracks: dict[tuple[int, int, int], dict[str, str]] = {}
        self.fixed = [[_fixed(phase, i) for i in phase.instances] for phase in timeline.program.phases]

    def all(self) -> list[Event]:
        entries = [*self._slices(), *self._flows("start", self.t.bound, self.t.cause)]
        entries += self._flows("issue", self.t.issue_bound, self.t.issue_cause)
        entries.sort(key=itemgetter(0, 1, 2))
        return [entry[-1] for entry in entries]

    def _slices(self) -> Iterator[Entry]:
        cycles = self.t.end[self.rows] - self.t.start[self.rows]
        columns = (self.rows, self.start_ns, self.end_ns, self.done_ns, cycles)
        lists = (column.tolist() for column in columns)
        for place, (row, start, end, done, occupied) in enumerate(zip(*lists, strict=True)):
            phase, instance = self._instance(row)
            times = {"ts": start / 1e3, "dur": (end - start) / 1e3}
            args = {"done_us": done / 1e3, "cycles": occupied, "waited_for": self._waited_for(row)}
            args |= self.fixed[phase][instance.number]
            what = {"name": instance.name, "ph": "X", **self._track(row)}
            yield start, place, SLICE, {**what, **times, "args": args}

    def _flows(self, cat: str, bounds: Ints, causes: Ints) -> Iterator[Entry]:
        """A flow for each kept operation that waited for a kept one: from the producer's end to the start."""
        rows = self.rows[np.isin(bounds[self.rows], DEPENDENCE)]
        rows = rows[self.place[causes[rows]] >= 0]
        producers, consumers = self.place[causes[rows]], self.place[rows]
        arrives = self.start_ns[consumers]
        # inside the slice: at its end the unit's next operation may start. A stream starts with its producer
        leaves = np.maximum(self.start_ns[producers], self.end_ns[producers] - 1)
        leaves = np.minimum(leaves, arrives)
        columns = (bounds[rows], leaves, producers, arrives, consumers)
        for bound, leave, producer, arrive, consumer in zip(*(c.tolist() for c in columns), strict=True):
            begin, end = int(self.rows[producer]), int(self.rows[consumer])
            # Perfetto reads a string id as hexadecimal
            same = {"name": Bound(bound).name, "cat": cat, "id": f"{2 * end + (cat == 'issue'):#x}"}
            yield leave, producer, FLOW_OUT, {**same, "ph": "s", **self._track(begin), "ts": leave / 1e3}
            yield arrive, consumer, FLOW_IN, {**same, **FLOW_END, **self._track(end), "ts": arrive / 1e3}

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
            program = self.t.program
            cores = program.machine.core.vector_cores.value
            self.tracks[key] = _track(program.phases[number], key[1], instance.lane, cores)
        return self.tracks[key]

    def _waited_for(self, row: int) -> str:
        """What the start waited for last, or else the issue."""
        bound = self.t.bound[row]
        if bound == Bound.order:
            return "unit"
        if bound in DEPENDENCE:
            return self._dependence(bound, self.t.cause[row])
        bound = self.t.issue_bound[row]
        if bound in DEPENDENCE:
            return f"issue: {self._dependence(bound, self.t.issue_cause[row])}"
        return "issue: queue full" if bound == Bound.queue else "issue"

    def _dependence(self, bound: int, cause: int) -> str:
        phase, producer = self._instance(cause)
        unit = self.t.program.phases[phase].lanes[producer.lane].unit
        return f"{'slot freed by' if bound == Bound.reuse else 'data from'} {unit}: {producer.name}"


def _track(phase: PhaseProgram, stream: int, lane: int, vector_cores: int) -> dict[str, str]:
    """pid 'core<group>.cubecore0' or 'core<group>.veccore<n>', and tid. A stream is a core group, or in a
    phase over vector cores alone one vector core. A fused core has its vector side as veccore0."""
    place = phase.lanes[lane]
    group, vector_core = stream, max(place.core - 1, 0)
    if phase.cores == ("aiv",):
        group, vector_core = divmod(stream, vector_cores)
    side, _, unit = place.unit.partition("_")
    core = "cubecore0" if side == "aic" else f"veccore{vector_core}"
    return {"pid": f"core{group}.{core}", "tid": TIDS[unit]}


def _fixed(phase: PhaseProgram, instance: Instance) -> dict[str, Any]:
    """What is the same each time an instance runs."""
    moved: dict[str, float] = {}
    for flow in instance.flows:
        for pool in flow.pools:
            moved[f"{pool}_bytes"] = moved.get(f"{pool}_bytes", 0) + flow.bytes
    return {"phase": phase.name, "instructions": instance.cost.instructions, **moved}
