"""A phase as words, and the states it can be in: the first, copies of others, and one with wider rings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from npusim.engine.fast import layout as at
from npusim.engine.fast.native import INT, POINTER, Function
from npusim.engine.fast.views import Floats, Ints, Views
from npusim.program import PhaseProgram, Program

trim = Function("kept", "trim", *[POINTER] * 2, INT, INT)
move_rings = Function("kept", "move_rings", *[POINTER] * 3, INT, INT, INT)
LINE = 8
"""words of a line of the processor's cache"""


@dataclass(frozen=True, eq=False)
class Encoded:
    """The words of a phase, and which of its lanes are in use."""

    program: Program
    index: int
    words: Ints
    lanes: Ints

    @property
    def phase(self) -> PhaseProgram:
        return self.program.phases[self.index]

    def __getitem__(self, size: int) -> int:
        return int(self.words[size])

    def views(self, state: Ints) -> Views:
        return Views(self.words, state)

    def fresh(self, begin: Floats) -> Ints:
        """The state before the first step; `begin` [group], cycles."""
        state = _no_words(self[at.STATE_END])
        v = self.views(state)
        working = {self.phase.lanes[lane].core for lane in self.lanes}
        idle = [int(c not in working) for c in range(self[at.CORES])]
        v.group(at.AGENTS)[:] = sum(1 << (self[at.LANES] + c) for c in working)
        v.core(at.C_CLOSED)[:] = np.tile(idle, self[at.GROUPS])
        v.core(at.C_NEXT)[:] = at.NONE
        v.core(at.C_BLOCK_CODE)[:] = at.NO_BOUND
        v.versions()[:, v.entry_places() + at.REF] = at.NONE
        v.group_times(at.CLOSED_AT)[:] = begin
        for field in (at.L_FREE, at.L_DRAINED, at.L_REACHED):
            v.lane_times(field)[:] = np.repeat(begin, self[at.LANES])
        for field in (at.C_NOW, at.C_REACHED):
            v.core_times(field)[:] = np.repeat(begin, self[at.CORES])
        v.place_links()
        v.flight_times(at.SPEED)[:] = 1.0
        v.flight_times(at.LANDS)[:] = np.inf
        v.eta_times(at.ETA_TIME)[:] = np.inf
        return state

    def packed(self, state: Ints, group: int | None, rings: bool = True) -> Ints:
        """A copy of a state, or (of groups that run apart) of what of it is that of one group. With `rings`,
        the state forgets what nobody asks for any more, which changes no time; what is left is copied."""
        groups = self._range(group)
        own, words = state.ctypes.data, self.words.ctypes.data
        many = trim(own, words, *groups) if rings else 0
        parts = [slice(0, self[at.STEP])] if group is None else self._parts(group)
        end = sum(part.stop - part.start for part in parts)
        packed: Ints = np.empty(end + many, dtype=np.int64)
        np.concatenate([state[part] for part in parts], out=packed[:end])
        if rings:
            move_rings(own, words, packed[end:].ctypes.data, *groups, False)
        return packed

    def unpacked(self, packed: Ints, group: int | None) -> Ints:
        """The state again; of one group, with no work for the others."""
        state = _no_words(self[at.STATE_END])
        end = self._restore(state, packed, group)
        groups = self._range(group)
        move_rings(state.ctypes.data, self.words.ctypes.data, packed[end:].ctypes.data, *groups, True)
        return state

    def seen(self, packed: Ints, group: int | None) -> Views:
        """A packed state without its rings, to look at, not to change."""
        if group is None:
            return self.views(packed)
        state = _no_words(self[at.STEP])
        self._restore(state, packed, group)
        return self.views(state)

    def _restore(self, state: Ints, packed: Ints, group: int | None) -> int:
        """Into `state`, of zeros, what a packed one has but for the rings; how many words that were."""
        if group is None:
            state[: self[at.STEP]] = packed[: self[at.STEP]]
            return self[at.STEP]
        v = self.views(state)
        v.core(at.C_CLOSED)[:] = 1
        v.eta_times(at.ETA_TIME)[:] = np.inf
        end = 0
        for part in self._parts(group):
            start, end = end, end + part.stop - part.start
            state[part] = packed[start:end]
        return end

    def _range(self, group: int | None) -> tuple[int, int]:
        return (0, self[at.GROUPS]) if group is None else (group, group + 1)

    def _parts(self, group: int) -> list[slice]:
        """Where the words of a group are, and those of no group, but for the rings."""
        sizes = {name: size for name, size in _of_a_group(self.words).items() if name < at.STEP}
        starts = [(int(self.words[name]) + group * size, size) for name, size in sizes.items()]
        return [slice(0, at.GLOBALS), *(slice(start, start + size) for start, size in starts)]

    def widened(self, state: Ints) -> tuple[Encoded, Ints]:
        """The same with rings of twice the size."""
        words = self.words.copy()
        words[at.RING] *= 2
        words[at.RING_MASK] = words[at.RING] - 1
        place_state(words)
        wide = Encoded(self.program, self.index, words, self.lanes)
        fresh = _no_words(wide[at.STATE_END])
        old, new = self.views(state), wide.views(fresh)
        new.copy_from(old)
        return wide, fresh


def whole_lines(words: int) -> int:
    """So many words, rounded up to whole lines of the processor's cache."""
    return -(-words // LINE) * LINE


def _no_words(size: int) -> Ints:
    """Words that are zero, the first of them at the start of a line of the cache."""
    room = np.zeros(size + LINE, dtype=np.int64)
    start = -(room.ctypes.data // room.itemsize) % LINE
    return room[start : start + size]


def _of_a_group(words: Ints) -> dict[int, int]:
    """Words of one group in each table of the state that has a part for each."""
    lanes, cores, ring, codes = (int(words[n]) for n in (at.LANES, at.CORES, at.RING, at.CODES))
    return {
        at.GROUP: at.GROUP_SIZE, at.TRIP: int(words[at.LOOPS]) * at.TRIP_SIZE, at.LANE: lanes * at.LANE_SIZE,
        at.STEP: lanes * ring * int(words[at.STEP_WORDS]), at.CORE: cores * at.CORE_SIZE,
        at.ORDER: cores * 4 * ring, at.NEWEST: int(words[at.BUFFERS]),
        at.VERSION: int(words[at.VERSION_WORDS]),
        at.TALLY: int(words[at.INSTANCES]) * at.TALLY_SIZE, at.WAITS: lanes * codes,
        at.CORE_WAITS: cores * codes,
    }  # fmt: skip


def place_state(words: Ints) -> None:
    """Where each table of the state starts."""
    groups, fifo = int(words[at.GROUPS]), 0
    if classes := int(words[at.CLASSES]):
        last = int(words[at.CLASS]) + (classes - 1) * at.CLASS_SIZE
        fifo = int(words[last + at.FIFO_AT] + words[last + at.FIFO_MASK]) + 1
    sizes = {table: groups * size for table, size in _of_a_group(words).items()} | {
        at.HEAP: (groups * int(words[at.LANES]) + 1) * at.HEAP_SIZE,
        at.FLIGHT: int(words[at.CLASSES]) * at.FLIGHT_SIZE, at.FIFO: fifo * at.FIFO_SIZE,
        at.ETA: int(words[at.PARTS]) * at.ETA_SIZE, at.SCRATCH: int(words[at.POOLS]) * at.SCRATCH_SIZE,
    }  # fmt: skip
    end = at.GLOBALS
    for table in range(at.GROUP, at.STATE_END):
        words[table] = end = whole_lines(end)
        end += sizes[table]
    words[at.STATE_END] = end
