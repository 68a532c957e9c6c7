"""A phase of a program as words: uses of buffers as lists, shared transfers as classes, loops as code.

A buffer's versions take the places of a ring; each place has entries for its writers, for the last reader on
each lane that reads it, and, where several cores write one version, for what the first of them waited for.
Lanes without work are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from npusim.engine.fast import layout as at
from npusim.engine.fast.encoded import Encoded, place_state, whole_lines
from npusim.engine.fast.loops import Loops
from npusim.engine.fast.settled import Settled, settle
from npusim.engine.fast.views import Ints, Mask
from npusim.errors import Unsupported
from npusim.program import Flat, PhaseProgram, Program, Role, Use

READING = (Use.read, Use.stream)
WIDEST = 1024
"""steps that rings have room for at first, at most"""


def encode(program: Program, index: int, settling: bool = False) -> Encoded:
    """The words of phase `index`. `settling`: find loops that settle, which pays where all of their trips are
    simulated. Raises Unsupported for more units in a core group than a word has bits."""
    phase = program.phases[index]
    flat = phase.flat
    used = np.flatnonzero(np.bincount(flat.lane))
    if len(used) + len(phase.cores) > 62 or len(used) > 1 << at.LANE_BITS:
        raise Unsupported(
            f"{program.machine.name}: {len(used)} units at work in one core group are more than the fast "
            "engine can tell apart; use --engine reference"
        )
    lane = np.searchsorted(used, flat.lane)
    core_of = np.array([one.core for one in phase.lanes], dtype=np.int64)
    ring = 2 * power_of_two(program.queue_depth + 24)
    if len(set(core_of[used].tolist())) > 1:
        # a core that finds its next step runs ahead of the others, by a trip or two of a loop
        ring = max(ring, min(WIDEST, power_of_two(2 * int(np.bincount(lane).max()) + 1)))
    near = (core_of[used] == core_of[flat.lane][:, None]) @ (1 << np.arange(len(used)))
    near = np.where(flat.role == Role.unit, near, 0)
    uses, flows = _Uses(phase), _Flows(program, phase)
    loops = Loops(phase, partial(uses.settled, lane, near, ring) if settling else None)
    flags = phase.flags[np.ix_(used, used)]
    w = _Words()
    for size, value in {
        at.GROUPS: phase.streams, at.LANES: len(used), at.CORES: len(phase.cores),
        at.LOOPS: len(loops.records), at.INSTANCES: len(lane),
        at.RING: ring, at.RING_MASK: ring - 1,
        at.STEP_WORDS: whole_lines(at.FIRST_EDGE + uses.most_edges), at.DEPTH: program.queue_depth,
        at.ALONE: int(flows.alone), at.CODE_END: len(loops.kind), at.BUFFERS: len(phase.slots),
        at.ENTRIES: len(uses.entries), at.VERSION_WORDS: uses.words,
        at.CLASSES: len(flows.classes), at.PARTS: len(flows.parts), at.POOLS: len(flows.capacity),
        at.CODES: at.BY_LANE + 2 * len(used), at.PORTS: int(flows.ports),
    }.items():  # fmt: skip
        w.header[size] = value
    w.header.view(np.float64)[at.ISSUE] = program.issue_cycles
    w.header.view(np.float64)[at.FARTHEST] = flags.max(initial=0.0)
    more = loops.more(core_of[flat.lane].tolist())
    w.records(at.LOOP, loops.records)
    w.table(at.TABLE, np.concatenate([*loops.tables, np.zeros(0, dtype=np.int64)]))
    # a barrier waits for nothing of a lane without work
    drained, drain_end = _only(np.isin(flat.drain_lane, used), flat.drain_end)
    shared, flow_end = _only(np.full(len(flat.flow), not flows.alone), flat.flow_end)
    w.table(at.USE, *_paired(*zip(*uses.records, strict=True)))
    # what a lane adds to the time of a producer, by lane of the producer and kind of edge
    added = np.zeros((len(used), len(used), 1 << at.KIND_BITS))
    added[:, :, [at.REUSE, at.READ]] = flags.T[:, :, None]
    w.table(at.FLAG, added.ravel())
    use_end = w.header[at.USE] + at.USE_SIZE * flat.use_end
    producer_end = _settled_tables(w, loops)
    settles = np.arange(len(lane) + len(loops.again)) >= len(lane)
    each = np.concatenate([np.arange(len(lane)), np.array(loops.again, dtype=np.int64)])
    w.table(
        at.INSTANCE, flat.occupancy[each], flat.latency[each], flat.instructions[each] * program.issue_cycles,
        near[each],
        *_paired(
            each, lane[each], core_of[flat.lane][each], flat.role[each] != Role.unit, flat.holds[each],
            w.header[at.FLAG] + (len(used) << at.KIND_BITS) * lane[each], *_list(flow_end, each),
            *(np.where(settles, 0, end) for end in _list(use_end, each)),
            np.append(0 * lane, producer_end[:-1]), np.append(0 * lane, producer_end[1:]),
            *_list(drain_end, each),
        ),
    )  # fmt: skip
    w.table(
        at.CODE,
        [*loops.kind, at.END_OF_CODE],
        [*loops.targets(int(w.header[at.INSTANCE])), 0],
        [*loops.to, 0],
        more,
    )
    w.table(at.DRAINS, np.searchsorted(used, flat.drain_lane[drained]))
    w.table(at.FLOWS, flows.first[flat.flow[shared]])
    w.table(at.LANE_CORE, core_of[used])
    w.records(at.BUFFER, uses.buffers)
    w.table(at.ENTRY, uses.entries)
    w.records(at.CLASS, flows.classes)
    ends = np.cumsum([0, *(len(part) for part in flows.parts)])
    w.table(at.PART, ends[:-1], ends[1:])
    w.table(at.MEMBERS, [k for part in flows.parts for k in part])
    w.table(at.POOL, np.array(flows.capacity, dtype=np.float64))
    words = w.words()
    place_state(words)
    return Encoded(program, index, words, used)


def _settled_tables(w: _Words, loops: Loops) -> Ints:
    """Producers of the instances of settled loops, and what these leave; where the list of each starts."""
    w.table(at.PRODUCER, *_paired(*_columns(loops.producers, 4)))
    place, lane, value = _columns(loops.left, 3)
    w.table(at.LEFT_BY, *_paired(np.where(lane < 0, lane, lane * at.LANE_SIZE), place), value)
    ends: Ints = int(w.header[at.PRODUCER]) + at.PRODUCER_SIZE * np.array(loops.producer_end, dtype=np.int64)
    return ends


def _list(ends: Ints, which: Ints) -> tuple[Ints, Ints]:
    """Where the lists of some instances start and end."""
    return ends[:-1][which], ends[1:][which]


def _only(keep: Mask, ends: Ints) -> tuple[Mask, Ints]:
    """What is kept of lists one after another, and where each of them ends then."""
    return keep, np.concatenate(([0], np.cumsum(keep)))[ends]


def _columns(rows: Sequence[Sequence[int]], many: int) -> Ints:
    """[column, row]"""
    return np.array(rows, dtype=np.int64).reshape(-1, many).T


def _paired(*columns: npt.ArrayLike) -> list[Ints]:
    """Numbers of 32 bits, two to a word: the first of a pair is the lower half."""
    fields = [np.asarray(column, dtype=np.int64) for column in columns]
    return [(low & 0xFFFFFFFF) | (high << 32) for low, high in zip(fields[::2], fields[1::2], strict=True)]


def power_of_two(least: int) -> int:
    return 1 << max(0, least - 1).bit_length()


class _Words:
    """Collects the tables, one after another."""

    def __init__(self) -> None:
        self.header: Ints = np.zeros(at.HEADER, dtype=np.int64)
        self.tables = [self.header]
        self.size = at.HEADER

    def table(self, name: int, *fields: npt.ArrayLike) -> None:
        """Records, given field by field: whole numbers or floats."""
        self.header[name] = self.size
        columns = [_word(np.asarray(field)) for field in fields]
        if columns:
            self.tables.append(np.stack(columns, axis=1).reshape(-1))
            self.size += len(self.tables[-1])

    def records(self, name: int, records: Sequence[Sequence[float]]) -> None:
        """Records, given one by one."""
        self.table(name, *zip(*records, strict=True))

    def words(self) -> Ints:
        return np.concatenate(self.tables)


def _word(field: npt.NDArray[Any]) -> Ints:
    """A field as words: floats keep their bits."""
    if field.dtype == np.float64 and field.size:
        return np.ascontiguousarray(field).view(np.int64)
    return field.astype(np.int64)


class _Uses:
    """Uses of buffers, with the place of what each leaves in the version it uses."""

    def __init__(self, phase: PhaseProgram) -> None:
        flat = phase.flat
        instance = np.repeat(np.arange(len(flat.lane)), np.diff(flat.use_end))
        columns = flat.use_buffer, flat.use_kind, flat.use_back, flat.lane[instance]
        uses = list(zip(*(column.tolist() for column in columns), strict=True))
        lanes: list[list[int]] = [[] for _ in phase.slots]
        self.writing: list[set[int]] = [set() for _ in phase.slots]
        joins = [0] * len(phase.slots)
        for buffer, kind, _, lane in uses:
            if kind not in READING:
                self.writing[buffer].add(lane)
            elif lane not in lanes[buffer]:
                lanes[buffer].append(lane)
            joins[buffer] += kind == Use.join
        self.reading = lanes
        self.readers = [len(own) for own in lanes]
        self.writers = [1 + n for n in joins]
        self.guards = [(r + w) * (n > 0) for r, w, n in zip(self.readers, self.writers, joins, strict=True)]
        self._place(phase.slots)
        # most uses are like others
        records = {use: self._record(lanes, *use) for use in set(uses)}
        bounds = {use: self._edges(use[0], use[1], use[3]) for use in records}
        self.records = [records[use] for use in uses]
        self.ends = flat.use_end.tolist()
        edges = [bounds[use] for use in uses]
        most = np.bincount(instance, edges, len(flat.lane)) + np.diff(flat.drain_end)
        self.most_edges = int(most.max(initial=0))

    def settled(self, lane: Ints, near: Ints, ring: int, body: Sequence[int]) -> Settled | None:
        """The loop over `body` from the trip on in which it has settled."""
        lists = {n: self.records[self.ends[n] : self.ends[n + 1]] for n in body}
        return settle(body, lists, lane.tolist(), near.tolist(), ring)

    def _record(
        self, lanes: list[list[int]], buffer: int, kind: int, back: int, lane: int
    ) -> tuple[int, ...]:
        entry = self.writers[buffer] + lanes[buffer].index(lane) if kind in READING else 0
        record = self.buffers[buffer]
        writers, readers = self.writers[buffer], self.readers[buffer]
        place, readers_at, guards_at = (
            at.PLACE_SIZE + n * at.ENTRY_SIZE for n in (entry, writers, writers + readers)
        )
        return (
            buffer, kind, back, place, record[at.SLOTS], record[at.VERSION_AT], record[at.STRIDE], readers,
            readers_at, guards_at if self.guards[buffer] else 0,
        )  # fmt: skip

    def _edges(self, buffer: int, kind: int, lane: int) -> int:
        """A bound on the producers that a use has to wait for: those on other lanes, and where it writes into
        a version earlier writers of it."""
        readers = len({*self.reading[buffer]} - {lane})
        most = self.writers[buffer]
        writers = most if self.writing[buffer] - {lane} else 0
        return {
            Use.read: writers, Use.stream: 2 * writers, Use.write: max(readers, writers),
            Use.into: readers + most, Use.join: readers + writers,
        }[Use(kind)]  # fmt: skip

    def _place(self, slots: tuple[int, ...]) -> None:
        """Where the versions of each buffer are among those of a group, and where their entries."""
        self.buffers: list[tuple[int, ...]] = []
        self.entries: list[int] = []
        self.words = 0
        for k, w, r, g in zip(slots, self.writers, self.readers, self.guards, strict=True):
            size = at.PLACE_SIZE + (w + r + g) * at.ENTRY_SIZE
            self.buffers.append((k, self.words, w, r, size))
            for version in range(self.words, self.words + k * size, size):
                self.entries += range(version + at.PLACE_SIZE, version + size, at.ENTRY_SIZE)
            self.words += k * size


class _Flows:
    """Shared transfers as classes: equal sizes at equal rates through the same pools land in order. Each
    group has a class of its own where a port of its own is among the pools."""

    def __init__(self, program: Program, phase: PhaseProgram) -> None:
        flat = phase.flat
        self.groups = phase.streams
        self.alone = self._never_full(program, flat)
        self.ports = any("l1" in one.pools for one in flat.transfers)
        pools = [name for name in program.pools if name != "l1"]
        self.capacity = [float(program.pools[name]) for name in pools]
        if self.ports:
            self.capacity += [float(program.pools["l1"])] * self.groups
        self.classes: list[tuple[int | float, ...]] = []
        first: list[int] = []
        instance = np.repeat(np.arange(len(flat.lane)), np.diff(flat.flow_end))
        fifo = 0
        for number, one in enumerate(flat.transfers):
            first.append(len(self.classes))
            lanes = len(set(flat.lane[instance[flat.flow == number]].tolist()))
            own_port = "l1" in one.pools
            main = [pools.index(name) for name in one.pools if name != "l1"]
            room = power_of_two(lanes * (1 if own_port else self.groups) + 1)
            for group in range(self.groups if own_port else 1):
                through = [*main, *([len(pools) + group] if own_port else []), -1, -1]
                part = 0 if self.ports else through[0]
                self.classes.append((*one[:2], through[0], through[1], int(own_port), fifo, room - 1, part))
                fifo += room
        self.first = np.array(first, dtype=np.int64)
        """[transfer] its class, that of the first group"""
        self.parts = self._parts(len(pools))

    def _never_full(self, program: Program, flat: Flat) -> bool:
        """All lanes of all groups at full speed at once fit into every pool."""
        need: dict[tuple[str, int], float] = {}
        flow, ends = flat.flow.tolist(), flat.flow_end.tolist()
        lists = zip(flat.lane.tolist(), pairwise(ends), strict=True)
        for lane, *numbers in dict.fromkeys((lane, *flow[low:high]) for lane, (low, high) in lists):
            own = [flat.transfers[n] for n in numbers]
            for name in {pool for one in own for pool in one.pools}:
                rate = sum(one.rate for one in own if name in one.pools)
                need[name, lane] = max(need.get((name, lane), 0.0), rate)
        total: dict[str, float] = {}
        for (name, _), rate in need.items():
            total[name] = total.get(name, 0.0) + rate * (1 if name == "l1" else self.groups)
        return all(rate <= program.pools[name] for name, rate in total.items())

    def _parts(self, pools: int) -> list[list[int]]:
        """Classes whose speeds depend on each other, the slowest first."""
        parts: list[list[int]] = [[] for _ in range(1 if self.ports else pools)]
        for k, record in enumerate(self.classes):
            parts[int(record[at.CLASS_PART])].append(k)
        return [sorted(part, key=lambda k: self.classes[k][at.WEIGHT]) for part in parts]
