"""Fields of a state's records as numpy arrays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from npusim.engine.fast import layout as at

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


class Views:
    """Strided views: `lane(at.L_ISSUED)` is that field of all lanes, `lane_times(...)` one that is a time."""

    def __init__(self, words: Ints, state: Ints) -> None:
        self.words, self.state = words, state

    def size(self, name: int) -> int:
        return int(self.words[name])

    def table(self, name: int, count: int, size: int) -> Ints:
        """[record, field]"""
        start = self.size(name)
        return self.state[start : start + count * size].reshape(count, size)

    def _groups(self) -> Ints:
        return self.table(at.GROUP, self.size(at.GROUPS), at.GROUP_SIZE)

    def group(self, field: int) -> Ints:
        return self._groups()[:, field]

    def group_times(self, field: int) -> Floats:
        return self._groups().view(np.float64)[:, field]

    def lanes(self) -> Ints:
        return self.table(at.LANE, self.size(at.GROUPS) * self.size(at.LANES), at.LANE_SIZE)

    def lane(self, field: int) -> Ints:
        return self.lanes()[:, field]

    def lane_times(self, field: int) -> Floats:
        return self.lanes().view(np.float64)[:, field]

    def last_done(self) -> Floats:
        """[group] the end of its last operation so far"""
        drained = self.lane_times(at.L_DRAINED).reshape(self.size(at.GROUPS), -1)
        return np.asarray(drained.max(axis=1, initial=0.0))

    def fronts(self) -> Ints:
        """[group, lane] number of the first operation that is not over"""
        lanes = self.size(at.LANES)
        found = np.repeat(self.group(at.SEQ_NEXT), lanes)
        first = self.lane(at.L_FINISHED)
        own = np.flatnonzero(first < self.lane(at.L_WALKED))
        found[own] = self.steps()[own, first[own] % self.size(at.RING), at.NAME] >> at.LANE_BITS
        return found.reshape(-1, lanes)

    def cores(self) -> Ints:
        return self.table(at.CORE, self.size(at.GROUPS) * self.size(at.CORES), at.CORE_SIZE)

    def core(self, field: int) -> Ints:
        return self.cores()[:, field]

    def core_times(self, field: int) -> Floats:
        return self.cores().view(np.float64)[:, field]

    def steps(self) -> Ints:
        """[group x lane, ring, field]"""
        lanes, ring, size = (
            self.size(at.GROUPS) * self.size(at.LANES),
            self.size(at.RING),
            self.size(at.STEP_WORDS),
        )
        return self.table(at.STEP, lanes * ring, size).reshape(lanes, ring, size)

    def place_links(self) -> None:
        """Tell each lane and core where what belongs to it starts in other tables."""
        ring, codes = self.size(at.RING), self.size(at.CODES)
        for links, table, each in (
            (self.lane(at.L_RING), at.STEP, ring * self.size(at.STEP_WORDS)),
            (self.lane(at.L_WAITS), at.WAITS, codes),
            (self.core(at.C_ORDER), at.ORDER, 4 * ring),
            (self.core(at.C_WAITS), at.CORE_WAITS, codes),
        ):
            links[:] = self.size(table) + each * np.arange(len(links))

    def order(self) -> Ints:
        """[group x core, place]"""
        return self.table(at.ORDER, self.size(at.GROUPS) * self.size(at.CORES), 4 * self.size(at.RING))

    def versions(self) -> Ints:
        """[group, word] versions of buffers"""
        groups, words = self.size(at.GROUPS), self.size(at.VERSION_WORDS)
        return self.table(at.VERSION, groups, words)

    def entry_places(self) -> Ints:
        """Where the entries of a group's versions start among its words."""
        return self.words[self.size(at.ENTRY) : self.size(at.ENTRY) + self.size(at.ENTRIES)]

    def trips(self) -> Ints:
        """[group, loop, field]"""
        groups, loops = self.size(at.GROUPS), self.size(at.LOOPS)
        return self.table(at.TRIP, groups * loops, at.TRIP_SIZE).reshape(groups, loops, at.TRIP_SIZE)

    def heap(self) -> Floats:
        """[transfer] when it is to begin"""
        waiting = int(self.state[at.HEAPED])
        return self.table(at.HEAP, waiting, at.HEAP_SIZE).view(np.float64)[:, at.H_TIME]

    def flight_times(self, field: int) -> Floats:
        return self.table(at.FLIGHT, self.size(at.CLASSES), at.FLIGHT_SIZE).view(np.float64)[:, field]

    def eta_times(self, field: int) -> Floats:
        return self.table(at.ETA, self.size(at.PARTS), at.ETA_SIZE).view(np.float64)[:, field]

    def tallies(self) -> Ints:
        """[group, instance, field]"""
        groups, many = self.size(at.GROUPS), self.size(at.INSTANCES)
        return self.table(at.TALLY, groups * many, at.TALLY_SIZE).reshape(groups, many, at.TALLY_SIZE)

    def waits(self) -> Floats:
        """[group, lane, cause]"""
        groups, lanes, codes = (self.size(n) for n in (at.GROUPS, at.LANES, at.CODES))
        return self.table(at.WAITS, groups * lanes, codes).view(np.float64).reshape(groups, lanes, codes)

    def core_waits(self) -> Floats:
        """[group, core, cause]"""
        groups, cores, codes = (self.size(n) for n in (at.GROUPS, at.CORES, at.CODES))
        return self.table(at.CORE_WAITS, groups * cores, codes).view(np.float64).reshape(groups, cores, codes)

    def held(self) -> tuple[Ints, Ints]:
        """The lane and number of every step of a ring that may still be asked for."""
        walked = self.lane(at.L_WALKED)
        first = np.maximum(walked - self.size(at.RING), self.lane(at.L_HELD))
        return _numbers(np.clip(first, 0, walked), walked)

    def waiting(self) -> tuple[Ints, Ints]:
        """The core and number of every step that was walked over and waits for its core."""
        tail = self.core(at.C_TAIL)
        return _numbers(np.minimum(self.core(at.C_HEAD), tail), tail)

    def copy_from(self, old: Views) -> None:
        """Take over a state with narrower rings."""
        rest = self.size(at.STEP)
        self.state[:rest] = old.state[:rest]
        self.place_links()
        ring, wide = old.size(at.RING), self.size(at.RING)
        (lane, n), (core, m) = old.held(), old.waiting()
        self.steps()[lane, n % wide] = old.steps()[lane, n % ring]
        self.order()[core, m % (4 * wide)] = old.order()[core, m % (4 * ring)]
        self._move_names(old)

    def _move_names(self, old: Views) -> None:
        """Steps have other places than in `old`: versions and edges that name them follow."""
        words, first = self.size(at.STEP_WORDS), old.size(at.STEP)
        narrow, wide = old.size(at.RING), self.size(at.RING)
        walked = self.lane(at.L_WALKED)

        def moved(y: Ints) -> Ints:
            lane, place = np.divmod((y - first) // words, narrow)
            last = walked[lane] - 1
            n = last - (last - place) % narrow
            return np.asarray(self.size(at.STEP) + (lane * wide + n % wide) * words)

        refs = self.versions()[:, self.entry_places() + at.REF]
        named, own = (refs >> at.EDGE_BITS) > at.OLD, (1 << at.EDGE_BITS) - 1
        refs[named] = moved(refs[named] >> at.EDGE_BITS) << at.EDGE_BITS | refs[named] & own
        self.versions()[:, self.entry_places() + at.REF] = refs
        lane, n = _numbers(self.lane(at.L_FINISHED), walked)
        steps = self.steps()[lane, n % wide]
        many = steps[:, at.EDGES] & at.COUNT_MASK
        edges = steps[:, at.FIRST_EDGE :]
        named = np.arange(edges.shape[1]) < many[:, None]
        edges[named] = moved(edges[named] >> at.EDGE_BITS) << at.EDGE_BITS | edges[named] & own
        self.steps()[lane, n % wide] = steps


def _numbers(low: Ints, high: Ints) -> tuple[Ints, Ints]:
    """The whole numbers in [low, high) of each record: the record, and the number."""
    many = high - low
    record = np.repeat(np.arange(len(many)), many)
    return record, np.arange(len(record)) + np.repeat(low - (np.cumsum(many) - many), many)
