"""Jumping over whole periods: what one period changes, how many more are alike, and a state so much later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, partial

import numpy as np

from npusim.engine.fast import layout as at
from npusim.engine.fast.encoded import Encoded
from npusim.engine.fast.native import FLOAT, INT, POINTER, Function
from npusim.engine.fast.views import Floats, Ints, Views

forward = Function("period", "forward", *[POINTER] * 5, INT, FLOAT)
ENDLESS = 1 << 62
LANE_TIMES = (at.L_FREE, at.L_DRAINED)
CORE_TIMES = (at.C_NOW, at.C_HELD)
ENTRY_TIMES = (at.REF_START, at.REF_END, at.REF_DONE)


def clock(v: Views) -> float:
    """The latest scalar unit of the group that is sampled: the clock that states are relative to."""
    cores = v.size(at.CORES)
    own = slice(int(v.state[at.SAMPLED]) * cores, (int(v.state[at.SAMPLED]) + 1) * cores)
    return float(v.core_times(at.C_NOW)[own][v.core(at.C_CLOSED)[own] == 0].max())


@dataclass(frozen=True, eq=False)
class Period:
    """From one state to the next that is like it: `cycles` and, per group, the loop whose trips it advances
    (or -1), by how many, and the operations it takes. `live`: groups that it is about; `group`: the only one
    where they run apart. `before`, `after`: packed states, the latter without rings; `front` [group, lane]:
    the first operation that is not over after it."""

    encoded: Encoded
    group: int | None
    cycles: float
    live: Ints
    loop: Ints
    trips: Ints
    operations: Ints
    before: Ints
    after: Ints
    front: Ints

    @staticmethod
    def between(encoded: Encoded, group: int | None, before: Ints, state: Ints) -> Period | None:
        """The period from a packed state to a later one that is alike; None where loops say otherwise."""
        after = encoded.packed(state, group, rings=False)
        old, new = (encoded.seen(packed, group) for packed in (before, after))
        groups = np.arange(encoded[at.GROUPS])
        cores, lanes = encoded[at.CORES], encoded[at.LANES]
        closed = new.core(at.C_CLOSED).reshape(-1, cores).all(axis=1)
        drained = (new.lane(at.L_FINISHED) == new.lane(at.L_WALKED)).reshape(-1, lanes).all(axis=1)
        live = groups[~(closed & drained)]
        loop, trips = np.full(len(groups), -1), np.zeros(len(groups), dtype=np.int64)
        stack = cache(partial(_stack, encoded))
        earlier, later, pc = old.trips(), new.trips(), new.group(at.PC)
        for g in live:
            found = _advanced(stack(int(pc[g])), earlier[g], later[g])
            if found is None:
                return None
            loop[g], trips[g] = found
        done = new.group(at.SEQ_NEXT) - old.group(at.SEQ_NEXT)
        front = encoded.views(state).fronts()
        if group is not None:
            front[groups != group] = 0
        cycles = clock(new) - clock(old)
        return Period(encoded, group, cycles, live, loop, trips, done, before, after, front)

    def ends(self) -> tuple[Views, Views]:
        """The states before and after it."""
        old, new = (self.encoded.seen(state, self.group) for state in (self.before, self.after))
        return old, new

    def most(self) -> int:
        """How many further periods all groups stay inside their loops, with inner loops of equal counts."""
        found = ENDLESS
        places = self.ends()[1].trips()
        varying = cache(self._varying)
        for g in self.live:
            if self.loop[g] < 0:
                continue
            now, count, _ = places[g, self.loop[g]]
            last = int(count) - 1
            for table in varying(int(self.loop[g])):
                last = _same_until(table, self._items(int(g), int(count)), int(now), int(self.trips[g]), last)
            found = min(found, (last - int(now)) // int(self.trips[g]))
        return 0 if found == ENDLESS else max(0, found)

    def longest(self) -> int:
        """How many operations all groups take in as many trips as any of the loops has that it advances."""
        own = self.live[self.loop[self.live] >= 0]
        counts = self.ends()[1].trips()[own, self.loop[own], at.TRIP_ALL] // self.trips[own]
        return int(counts.max(initial=0)) * int(self.operations[self.live].sum())

    @property
    def depth(self) -> int:
        """How many loops are around those whose trips it advances, at most."""
        words, own = self.encoded.words, self.loop[self.live]
        found = words[words[at.LOOP] + own[own >= 0] * at.LOOP_SIZE + at.AROUND]
        return int(found.max(initial=0))

    def _varying(self, loop: int) -> list[Ints]:
        """Tables of counts per item, of loops inside a loop that goes through items."""
        words = self.encoded.words
        if not words[words[at.LOOP] + loop * at.LOOP_SIZE + at.WALKS]:
            return []
        code = words[words[at.CODE] :].reshape(-1)
        rows = code[: self.encoded[at.CODE_END] * at.CODE_SIZE].reshape(-1, at.CODE_SIZE)
        (enter,) = np.flatnonzero((rows[:, at.KIND] == at.ENTER) & (rows[:, at.ARG] == loop))
        inside = rows[enter + 1 : rows[enter, at.TO]]
        tables = []
        for inner in inside[inside[:, at.KIND] == at.ENTER, at.ARG]:
            record = words[words[at.LOOP] + inner * at.LOOP_SIZE :]
            if record[at.COUNT_BY] == 2:
                tables.append(words[words[at.TABLE] + record[at.COUNT_AT] :])
        return tables

    def _items(self, g: int, count: int) -> Ints:
        """The item of each trip of a group's loop."""
        words = self.encoded.words
        record = words[words[at.LOOP] + int(self.loop[g]) * at.LOOP_SIZE :]
        first = int(words[words[at.TABLE] + record[at.FIRST_AT] + g])
        return first + int(record[at.ITEM_STEP]) * np.arange(count)

    @cached_property
    def fronts(self) -> tuple[Ints, Ints]:
        """[group, lane] of the states before and after it, the number of the first operation that is not
        over."""
        return self.encoded.views(self.encoded.unpacked(self.before, self.group)).fronts(), self.front

    def later(self, state: Ints, periods: int) -> None:
        """Move `state`, one like those of this period, forward by so many periods."""
        v, live = self.encoded.views(state), self.live
        cycles = periods * self.cycles
        operations = periods * self.operations
        lanes, cores = self._of(at.LANES), self._of(at.CORES)
        for times, rows in (
            [(v.group_times(at.CLOSED_AT), live)]
            + [(v.lane_times(f), lanes) for f in LANE_TIMES]
            + [(v.core_times(f), cores) for f in CORE_TIMES]
        ):
            times[rows] += cycles
        by_group = operations[live, None]
        entries = v.entry_places()
        for field in ENTRY_TIMES:
            v.versions().view(np.float64)[np.ix_(live, entries + field)] += cycles
        v.versions()[np.ix_(live, entries + at.REF_SEQ)] += by_group
        v.group(at.SEQ_NEXT)[live] += operations[live]
        if not self.encoded[at.ALONE]:
            state.view(np.float64)[at.CLOCK] += cycles
            v.heap()[:] += cycles
            v.flight_times(at.SINCE)[:] += cycles
            v.flight_times(at.LANDS)[:] += cycles
            v.eta_times(at.ETA_TIME)[:] += cycles
        stack = cache(partial(_stack, self.encoded))
        for g in live:
            self._trips_later(v, int(g), periods, stack)
        self._tallies_later(v, periods)

    def _of(self, size: int) -> Ints:
        """Records of lanes or cores of the live groups."""
        many = self.encoded[size]
        return (self.live[:, None] * many + np.arange(many)).ravel()

    def _trips_later(self, v: Views, g: int, periods: int, stack: Callable[[int], list[int]]) -> None:
        loop = int(self.loop[g])
        if loop < 0:
            return
        trips = periods * int(self.trips[g])
        v.trips()[g, loop, at.TRIP_NOW] += trips
        words = self.encoded.words
        items = trips * int(words[words[at.LOOP] + loop * at.LOOP_SIZE + at.ITEM_STEP])
        inside = False
        for one in stack(int(v.group(at.PC)[g])):
            if inside:
                v.trips()[g, one, at.ITEM_OUTSIDE] += items
                if words[words[at.LOOP] + one * at.LOOP_SIZE + at.WALKS]:
                    return
            inside |= one == loop
        v.group(at.ITEM)[g] += items

    def _tallies_later(self, v: Views, periods: int) -> None:
        old, new = self.ends()
        lanes, cores = self._of(at.LANES), self._of(at.CORES)
        for get, rows in (
            (_counts, self.live), (_occupied, self.live), (_busy, lanes), (_core_busy, cores),
            (_core_occupied, cores), (Views.waits, self.live), (Views.core_waits, self.live),
        ):  # fmt: skip
            get(v)[rows] += periods * (get(new)[rows] - get(old)[rows])

        def recurring(get: Callable[[Views], Floats], rows: Ints) -> Floats:
            """How much later the last of what may happen in a period is: where it did not happen, it
            stays."""
            return np.where(get(new)[rows] > get(old)[rows], periods * self.cycles, 0.0)

        for get, rows in ((_reached, lanes), (_core_reached, cores)):
            get(v)[rows] += recurring(get, rows)
        # when scalar units last had to wait, as they and the steps they issued remember it
        later = recurring(_block, cores)
        _block(v)[cores] += later
        own, words = v.state.ctypes.data, self.encoded.words.ctypes.data
        blocks, live = np.ascontiguousarray(later), np.ascontiguousarray(self.live)
        operations = np.ascontiguousarray(periods * self.operations)
        forward(
            own, words, live.ctypes.data, operations.ctypes.data, blocks.ctypes.data, len(live),
            periods * self.cycles,
        )  # fmt: skip


def _counts(v: Views) -> Ints:
    return v.tallies()[:, :, at.T_COUNT]


def _reached(v: Views) -> Floats:
    return v.lane_times(at.L_REACHED)


def _core_reached(v: Views) -> Floats:
    return v.core_times(at.C_REACHED)


def _block(v: Views) -> Floats:
    return v.core_times(at.C_BLOCK)


def _occupied(v: Views) -> Floats:
    return v.tallies().view(np.float64)[:, :, at.T_OCCUPIED]


def _busy(v: Views) -> Floats:
    return v.lane_times(at.L_BUSY)


def _core_busy(v: Views) -> Floats:
    return v.core_times(at.C_BUSY)


def _core_occupied(v: Views) -> Floats:
    return v.core_times(at.C_OCCUPIED)


def _stack(encoded: Encoded, pc: int) -> list[int]:
    """The loops around a place in the code, the outermost first."""
    words = encoded.words
    end = encoded[at.CODE_END]
    rows = words[words[at.CODE] : words[at.CODE] + end * at.CODE_SIZE].reshape(-1, at.CODE_SIZE)
    around = (rows[:, at.KIND] == at.ENTER) & (np.arange(end) < pc) & (rows[:, at.TO] > pc)
    return [int(loop) for loop in rows[around, at.ARG]]


def _advanced(around: list[int], old: Ints, new: Ints) -> tuple[int, int] | None:
    """The loop, of those `around` a group's place, whose trips differ between two states, and by how many;
    all loops inside it must be in the same trip of equally many. (-1, 0) where none differs."""
    found, trips = -1, 0
    for loop in around:
        ahead = int(new[loop, at.TRIP_NOW] - old[loop, at.TRIP_NOW])
        if found < 0 and ahead:
            found, trips = loop, ahead
        elif ahead or new[loop, at.TRIP_ALL] != old[loop, at.TRIP_ALL]:
            return None
    return None if trips < 0 else (found, trips)


def _same_until(table: Ints, items: Ints, now: int, trips: int, last: int) -> int:
    """Up to which trip the counts of the items go on as they did `trips` before."""
    if now < trips:
        return now
    counts = table[items[now - trips : last + 1]]
    differs = np.flatnonzero(counts[trips:] != counts[: len(counts) - trips])
    return now + int(differs[0]) - 1 if len(differs) else last
