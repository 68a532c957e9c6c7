"""The trace against the rules of its format, and against the timeline, on random kernels and by hand.

Nothing here knows how the trace is made: events are read back from the text, flows are bound as viewers do
(to the slice of their track that was opened last), and what is kept is found by walking every trip.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from io import StringIO
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from random_graphs import case

from npusim.builder import Index, KernelBuilder, Target
from npusim.engine.reference import simulate
from npusim.lower import lower
from npusim.machine import Machine, override
from npusim.profiles import load_machine
from npusim.program import PhaseProgram, Program, Trips
from npusim.simulate import EngineRun, Listed
from npusim.timeline import Bound, Timeline
from npusim.trace import trace_events, write_trace

Event = dict[str, Any]
SEEDS = (*range(20), 46, 53, 58, 78, 104, 114, 140, 186, 321)
"""the last ones for loops with a count per item, and for operations that waited both in issue and at start"""
LIMITS = (0, 1, 2, 10**6)
UNITS = {
    "aic_scalar": "SCALAR", "aiv_scalar": "SCALAR", "aic_mte1": "MTE1", "aic_mte2": "MTE2",
    "aiv_mte2": "MTE2", "aiv_mte3": "MTE3", "aic_mac": "CUBE", "aiv_vec": "VECTOR", "aic_fixpipe": "FIXP",
}  # fmt: skip


@cache
def timeline_of(seed: int) -> Timeline:
    one = case(seed)
    return simulate(lower(one.kernel, one.machine))


def written(timeline: Timeline, iterations: int) -> tuple[str, int]:
    """The text of the trace, and how many operations the writer says it kept."""
    stream = StringIO()
    shown = first_trips(timeline, iterations)
    write_trace(shown, stream, operations=timeline.operations, iterations=iterations)
    return stream.getvalue(), shown.operations


def first_trips(timeline: Timeline, iterations: int) -> Timeline:
    return Listed(timeline, EngineRun("reference", timeline.operations, 0.0, 0.0)).trips(0, iterations)


def events_of(timeline: Timeline, iterations: int) -> list[Event]:
    """The events as a viewer has them from the text, in order of time and then of the file."""
    events: list[Event] = json.loads(written(timeline, iterations)[0])["traceEvents"]
    return sorted(events, key=lambda event: nanoseconds(event["ts"]))


def nanoseconds(us: float) -> int:
    """Viewers keep whole nanoseconds and round each number on its own."""
    return round(us * 1e3)


def slices(events: list[Event]) -> list[Event]:
    return [event for event in events if event["ph"] == "X"]


# --- what must be kept, one operation after the other ----------------------------------------


def walked(phase: PhaseProgram, stream: int, iterations: int) -> Iterator[tuple[int, bool]]:
    """(instance, kept) of every operation of a stream in program order."""

    def walk(nodes: tuple[int | Trips, ...], item: int, depth: int, kept: bool) -> Iterator[tuple[int, bool]]:
        for node in nodes:
            if isinstance(node, int):
                yield node, kept
                continue
            index = item if node.per_item else stream if len(node.count) > 1 else 0
            for trip in range(node.count[index]):
                inner = item
                if node.first_item is not None:
                    inner = node.first_item[stream] + trip * node.item_step
                yield from walk(
                    node.body, inner, depth + 1, kept and (depth > 0 or trip + node.resumes < iterations)
                )

    yield from walk(phase.body, 0, 0, True)


def expected_rows(timeline: Timeline, iterations: int) -> list[int]:
    found = []
    for index, phase in enumerate(timeline.program.phases):
        for stream in range(phase.streams):
            rows = np.flatnonzero((timeline.phase == index) & (timeline.stream == stream))
            steps = list(walked(phase, stream, iterations))
            assert [instance for instance, _ in steps] == timeline.instance[rows].tolist()
            found += [int(row) for row, (_, kept) in zip(rows, steps, strict=True) if kept]
    return sorted(found)


def track_of(timeline: Timeline, row: int) -> tuple[str, str]:
    """pid and tid, from the core's name: 'aic', 'aiv0', 'aiv1', ...; 'aiv' alone in a vector phase."""
    program = timeline.program
    phase, stream = program.phases[timeline.phase[row]], int(timeline.stream[row])
    lane = phase.lanes[phase.instances[timeline.instance[row]].lane]
    core, vectors = phase.cores[lane.core], program.machine.core.vector_cores.value
    if core == "aiv":
        pid = f"core{stream // vectors}.veccore{stream % vectors}"
    elif core == "aic" or (core == "core" and lane.unit.startswith("aic")):
        pid = f"core{stream}.cubecore0"
    else:
        pid = f"core{stream}.veccore{core.removeprefix('core').removeprefix('aiv') or 0}"
    return pid, UNITS[lane.unit]


def by_track(timeline: Timeline, rows: list[int]) -> dict[tuple[str, str], list[int]]:
    tracks = defaultdict(list)
    for row in rows:
        tracks[track_of(timeline, row)].append(row)
    return tracks


def rows_of_slices(timeline: Timeline, events: list[Event], rows: list[int]) -> dict[int, int]:
    """The row of each slice (by its id()): on a track both are in order of time."""
    found, left = {}, {track: iter(own) for track, own in by_track(timeline, rows).items()}
    for event in slices(events):
        found[id(event)] = next(left[event["pid"], event["tid"]])
    assert all(next(own, None) is None for own in left.values())
    return found


# --- the file --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS[:4])
def test_the_file_says_before_its_first_bracket_that_it_is_an_operator_trace(seed):
    text, _ = written(timeline_of(seed), 1)
    assert text.startswith('{"profilingType":"op",')
    assert '"traceEvents":[' in text and text.index("[") == text.index('"traceEvents":[') + 14
    assert list(json.loads(text)) == ["profilingType", "displayTimeUnit", "otherData", "traceEvents"]


@pytest.mark.parametrize("iterations", LIMITS)
def test_the_file_says_what_it_left_out(iterations):
    timeline = timeline_of(7)
    text, kept = written(timeline, iterations)
    assert json.loads(text)["otherData"] == {
        "kernel": "random",
        "profile": timeline.program.machine.name,
        "kept_operations": kept,
        "operations": timeline.operations,
        "iterations": iterations,
    }
    assert kept == len(expected_rows(timeline, iterations))


def test_each_event_has_a_line_of_its_own():
    text, _ = written(timeline_of(3), 2)
    _, _, *lines, end = text.splitlines()
    assert end == "]}"
    assert [json.loads(line.rstrip(",")) for line in lines] == trace_events(first_trips(timeline_of(3), 2))


@pytest.mark.parametrize("seed", SEEDS)
def test_cores_and_units_have_the_names_of_the_simulator_and_every_value_its_type(seed):
    for event in trace_events(first_trips(timeline_of(seed), 2)):
        assert re.fullmatch(r"core\d+\.(cubecore0|veccore\d+)", event["pid"])
        assert event["tid"] in set(UNITS.values())
        assert isinstance(event["name"], str) and event["ph"] in ("X", "s", "f")
        assert isinstance(event["ts"], float) and event["ts"] >= 0
        if event["ph"] == "X":
            assert isinstance(event["dur"], float) and event["dur"] >= 0
        else:
            assert isinstance(event["id"], str) and int(event["id"], 16) >= 0
            assert event.get("bp") == ("e" if event["ph"] == "f" else None)


@pytest.mark.parametrize("seed", SEEDS)
def test_operations_of_one_unit_never_overlap_however_a_viewer_rounds(seed):
    ends: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for event in slices(events_of(timeline_of(seed), 3)):
        start = nanoseconds(event["ts"])
        ends[event["pid"], event["tid"]].append((start, start + nanoseconds(event["dur"])))
    for spans in ends.values():
        assert all(end <= start for (_, end), (start, _) in pairwise(spans))


# --- the operations --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_the_kept_operations_are_those_of_the_first_trips_with_the_times_of_the_timeline(seed):
    timeline = timeline_of(seed)
    per_ns = timeline.program.machine.cycles_per_us / 1e3
    for iterations in LIMITS:
        rows = expected_rows(timeline, iterations)
        events = events_of(timeline, iterations)
        assert len(slices(events)) == len(rows) == written(timeline, iterations)[1]
        found = rows_of_slices(timeline, events, rows)
        for event in slices(events):
            row = found[id(event)]
            phase = timeline.program.phases[timeline.phase[row]]
            start, end = event["ts"], event["ts"] + event["dur"]
            times = np.array([start, end, event["args"]["done_us"]]) * 1e3
            exact = np.array([timeline.start[row], timeline.end[row], timeline.done[row]]) / per_ns
            np.testing.assert_allclose(times, exact, rtol=0, atol=0.5001)
            assert event["args"]["cycles"] == timeline.end[row] - timeline.start[row]
            assert event["args"]["phase"] == phase.name
            assert event["name"] == phase.instances[timeline.instance[row]].name


@pytest.mark.parametrize("seed", SEEDS)
def test_more_iterations_than_the_run_has_keep_all_of_it(seed):
    timeline = timeline_of(seed)
    assert len(slices(trace_events(first_trips(timeline, 10**9)))) == timeline.operations


def test_the_random_kernels_have_what_makes_the_limit_hard():
    """Counts per item, several phases, phases over vector cores, fused cores, and trips that are left out."""
    programs = [timeline_of(seed).program for seed in SEEDS]
    phases = [phase for program in programs for phase in program.phases]
    assert sum(any(loop.per_item for loop in loops(phase.body)) for phase in phases) > 5
    assert sum(len(program.phases) > 1 for program in programs) > 5
    assert sum(phase.cores == ("aiv",) for phase in phases) > 5
    assert sum(program.machine.fused for program in programs) > 5
    assert sum(phase.streams > 1 for phase in phases) > 5
    left_out = [t for t in map(timeline_of, SEEDS) if len(expected_rows(t, 1)) < t.operations]
    assert len(left_out) > 5


def test_the_random_kernels_have_operations_that_waited_both_in_issue_and_at_start():
    flows = [expected_flows(t, list(range(t.operations))) for t in map(timeline_of, SEEDS)]
    waiters = [{waiter for _, waiter, _, _ in found} for found in flows]
    assert sum(map(len, flows)) > sum(map(len, waiters))


def loops(nodes: tuple[int | Trips, ...]) -> Iterator[Trips]:
    for node in nodes:
        if isinstance(node, Trips):
            yield node
            yield from loops(node.body)


# --- flows -----------------------------------------------------------------------------------


def bound_flows(events: list[Event]) -> dict[str, list[tuple[Event, Event]]]:
    """(flow event, slice it is bound to) by id: the last slice opened on the track before it in the file."""
    opened: dict[tuple[str, str], Event] = {}
    flows = defaultdict(list)
    for event in events:
        track = event["pid"], event["tid"]
        if event["ph"] == "X":
            opened[track] = event
        else:
            flows[event["id"]].append((event, opened[track]))
    return flows


def encloses(event: Event, ts: float) -> bool:
    """Half-open, as viewers have it; an operation that takes no time encloses its moment."""
    begin, length, at = nanoseconds(event["ts"]), nanoseconds(event["dur"]), nanoseconds(ts)
    return begin <= at < begin + max(length, 1)


def expected_flows(timeline: Timeline, rows: list[int]) -> set[tuple[int, int, str, str]]:
    """(producer, consumer, kind, what waited) where both are kept."""
    kept, found = set(rows), set()
    columns = (
        ("start", timeline.bound, timeline.cause),
        ("issue", timeline.issue_bound, timeline.issue_cause),
    )
    for waiter, bounds, causes in columns:
        for row in rows:
            if bounds[row] in (Bound.read, Bound.reuse) and int(causes[row]) in kept:
                found.add((int(causes[row]), row, Bound(bounds[row]).name, waiter))
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_a_flow_leads_from_what_was_waited_for_to_what_waited(seed):
    timeline = timeline_of(seed)
    for iterations in LIMITS:
        rows = expected_rows(timeline, iterations)
        events = events_of(timeline, iterations)
        row_of = rows_of_slices(timeline, events, rows)
        found = []
        for (begin, producer), (end, consumer) in bound_flows(events).values():
            assert (begin["ph"], end["ph"]) == ("s", "f")
            assert all(begin[key] == end[key] for key in ("name", "cat"))
            assert begin["ts"] <= end["ts"] == consumer["ts"]
            assert encloses(producer, begin["ts"]) and encloses(consumer, end["ts"])
            found.append((row_of[id(producer)], row_of[id(consumer)], begin["name"], begin["cat"]))
        assert len(found) == len(set(found))
        assert set(found) == expected_flows(timeline, rows)


@pytest.mark.parametrize("seed", SEEDS)
def test_events_are_written_in_order_of_time(seed):
    events = trace_events(first_trips(timeline_of(seed), 2))
    assert [event["ts"] for event in events] == sorted(event["ts"] for event in events)


# --- by hand ---------------------------------------------------------------------------------

N = 80


def toy(**values: float) -> Machine:
    """The toy with two core groups, and numbers replaced ('__' stands for '.')."""
    given = {path.replace("__", "."): value for path, value in values.items()}
    return override(load_machine("toy"), {"core.groups": 2, **given})


def product(clock_ghz: float = 1) -> Timeline:
    """Load 1-129 (visible 229), to a 239-303, to b 303-431 (441), product 451-586 (596), out of L0C 606-862;
    from there by each vector core its half."""
    k = KernelBuilder("product", Target.of(toy()), "fp16")
    x = k.input("x", (1, N, N), "fp16")
    l1, a = k.tile("l1", "L1", (N, N), "fp16"), k.tile("a", "L0A", (N, N), "fp16")
    b, c = k.tile("b", "L0B", (N, N), "fp16"), k.tile("c", "L0C", (N, N), "fp32")
    u = k.tile("u", "UB", (N, N), "fp16")
    with k.phase("only"):
        k.load(l1, x.at(0), label="load")
        k.move(a, l1, label="to a")
        k.move(b, l1, label="to b")
        k.matmul(c, a, b, label="product")
        k.move(u, c, label="exit")
    return simulate(lower(k.finish(), toy(clock_ghz=clock_ghz, memory__hbm_gb_per_s=1e6)))


def one(events: list[Event], name: str, pid: str = "core0.cubecore0") -> Event:
    (found,) = [event for event in events if event["name"] == name and event["pid"] == pid]
    return found


def test_an_operation_tells_when_and_where_it_ran_and_what_it_waited_for():
    events = trace_events(first_trips(product(), 1))
    assert one(events, "load") == {
        "name": "load", "ph": "X", "pid": "core0.cubecore0", "tid": "MTE2", "ts": 0.001, "dur": 0.128,
        "args": {
            "done_us": 0.229, "cycles": 128.0, "waited_for": "issue", "phase": "only", "instructions": 1,
            "hbm_bytes": 2 * N * N,
        },
    }  # fmt: skip
    assert one(events, "to a")["args"]["waited_for"] == "data from aic_mte2: load"
    assert one(events, "to b")["args"]["waited_for"] == "unit"
    assert one(events, "product")["args"]["waited_for"] == "data from aic_mte1: to b"
    far = one(events, "exit", "core0.veccore1")
    assert (far["tid"], far["args"]["l2_bytes"]) == ("MTE2", N * N)
    assert far["args"]["waited_for"] == "issue: data from aic_fixpipe: exit (out)"


def test_a_clock_of_two_gigahertz_halves_every_time_to_the_nanosecond():
    to_a = one(trace_events(first_trips(product(clock_ghz=2), 1)), "to a")
    assert (to_a["ts"], to_a["dur"]) == (0.120, 0.032)  # 119.5 ns, and 151.5 - 119.5
    assert to_a["args"]["cycles"] == 64


def test_a_flow_starts_within_the_producer_a_nanosecond_before_its_end_and_ends_with_the_start():
    begin, end = [event for event in trace_events(first_trips(product(), 1)) if event["ph"] != "X"][:2]
    assert (begin["tid"], begin["ts"], begin["name"]) == ("MTE2", 0.128, "read")
    assert (end["tid"], end["ts"], end["bp"]) == ("MTE1", 0.239, "e")


def test_streams_of_a_vector_phase_are_the_vector_cores_of_the_groups():
    k = KernelBuilder("vectors", Target.of(toy()), "fp16")
    x, u = k.input("x", (4, N, N), "fp16"), k.tile("u", "UB", (N, N), "fp16")

    def body(items: list[tuple[Index, ...]]) -> None:
        ((i,),) = items
        k.load(u, x.at(i), label="load")

    with k.phase("vector", over="vector"):
        k.items([("i", 4)], body)
    events = trace_events(first_trips(simulate(lower(k.finish(), toy())), 1))
    assert {event["pid"] for event in events} == {
        "core0.veccore0", "core0.veccore1", "core1.veccore0", "core1.veccore1",
    }  # fmt: skip


@pytest.mark.parametrize("iterations", [1, 2, 5, 9])
def test_a_loop_whose_first_trip_misses_the_l2_is_one_loop(iterations):
    """Five trips that load the same: the first from HBM, lowered apart from the others."""
    k = KernelBuilder("again", Target.of(toy()), "fp16")
    x, u = k.input("x", (N, N), "fp16"), k.tile("u", "L1", (N, N), "fp16")
    with k.phase("p"):
        k.loop(5, lambda _: k.load(u, x.at(), label="load"))
    timeline = simulate(lower(k.finish(), toy()))
    assert len(timeline.program.phases[0].body) == 2
    assert (
        len(trace_events(first_trips(timeline, iterations)))
        == min(iterations, 5) * timeline.program.phases[0].streams
    )


def test_an_empty_run_is_an_empty_trace():
    full = product()
    columns = {name: getattr(full, name)[:0] for name in Timeline.__dataclass_fields__ if name != "program"}
    program = Program(full.program.kernel, full.program.machine, (), {}, 0.0, 1.0, 8, False)
    text, kept = written(Timeline(program, **columns), 1)
    assert kept == 0 and json.loads(text)["traceEvents"] == []
