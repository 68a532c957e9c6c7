"""Loops whose steps depend, from some trip on, on the same steps in every trip.

What a step depends on follows from the versions of buffers, and what a loop without loops inside leaves in
them is soon the same after every trip, but for how many steps its lanes have taken meanwhile. So the loop is
walked here, by the rules of `steps`, until that is so. For the trips that follow, each operation has a list
of producers, counted back on their lanes, and no version is looked at until the loop is over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from npusim.engine.fast import layout as at
from npusim.program import Use

Place = tuple[int, int]
"""a step: its lane, and how many steps the lane took before it"""
Record = tuple[int, ...]
"""a use of a buffer, as `layout` has it"""


class Producer(NamedTuple):
    """What a step waits for: the step so many back on a lane. `side`: what it holds up."""

    lane: int
    back: int
    kind: int
    side: int


class Left(NamedTuple):
    """A word of the versions after a trip: a number, or (`lane` >= 0) the name of a step so many back; or (at
    NEWEST_PLACE) the newest place of a buffer."""

    place: int
    lane: int
    value: int


class Settled(NamedTuple):
    """From `trip` on (the first is 0) the operations of a loop have these producers; what it leaves."""

    trip: int
    producers: list[list[Producer]]
    left: list[Left]


def settle(
    body: Sequence[int],
    uses: Mapping[int, Sequence[Record]],
    lane: Sequence[int],
    near: Sequence[int],
    ring: int,
) -> Settled | None:
    """The loop over `body` once it has settled; None where it does not, or looks back further than `ring`.
    `uses`, `lane`, `near`: of each instance, the last a bit per lane that does not stop its scalar unit."""
    records = [use for instance in body for use in uses[instance]]
    slots = {use[at.USE_BUFFER]: use[at.USE_SLOTS] for use in records}
    moved = {use[at.USE_BUFFER] for use in records if use[at.USE_KIND] == Use.write}
    if any(many > 1 and buffer not in moved for buffer, many in slots.items()):
        return None  # which place is the newest stays what it was before the loop
    walk = _Walk(slots)
    before: list[tuple[int, dict[int, Left]]] = []
    for trip in range(max(slots.values(), default=1) + 3):
        walk.known = True
        producers = [walk.step(uses[n], lane[n], near[n]) for n in body]
        after = walk.relative()
        if walk.known and after == before:
            left = walk.left()
            backs = [one.back for own in producers for one in own] + [o.value for o in left if o.lane >= 0]
            return Settled(trip, producers, left) if max(backs, default=0) <= ring else None
        before = after
    return None


class _Walk:
    """The versions of the buffers that a loop uses: words that it has written so far. `known`: nothing was
    asked for that was left by what came before the loop."""

    def __init__(self, slots: dict[int, int]) -> None:
        self.slots = slots
        self.first: dict[int, Record] = {}
        self.newest = dict.fromkeys(slots, 0)
        self.words: dict[int, int | Place] = {}
        self.taken: Counter[int] = Counter()
        self.known = True
        self.producers: list[Producer] = []
        self.lane = self.near = 0

    def step(self, uses: Sequence[Record], lane: int, near: int) -> list[Producer]:
        """Take a step: what it waits for."""
        self.producers, self.lane, self.near = [], lane, near
        self.taken[lane] += 1
        for use in uses:
            self._use(use)
        return self.producers

    def _use(self, use: Record) -> None:
        kind = use[at.USE_KIND]
        v = use[at.USE_FIRST] + self._slot(use) * use[at.USE_STRIDE]
        entry = v + use[at.USE_ENTRY]
        if kind in (Use.read, Use.stream):
            self._read(kind, v)
        elif kind == Use.join:
            entry += self._join(use, v) * at.ENTRY_SIZE
        else:
            self._write(kind, use, v)
        self.words[entry + at.REF] = (self.lane, self.taken[self.lane] - 1)

    def _slot(self, use: Record) -> int:
        buffer = use[at.USE_BUFFER]
        self.first[buffer] = use
        place = (self.newest[buffer] - use[at.USE_BACK]) % use[at.USE_SLOTS]
        if use[at.USE_KIND] == Use.write:
            place = self.newest[buffer] = (place + 1) % use[at.USE_SLOTS]
        return place

    def _number(self, place: int) -> int:
        """A number of a version, 0 and not `known` where it is from before the loop."""
        found = self.words.get(place)
        self.known &= found is not None
        return found if isinstance(found, int) else 0

    def _read(self, kind: int, v: int) -> None:
        seen = self.words.get(v + at.SEEN, 0)
        assert isinstance(seen, int)
        if seen >> self.lane & 1:
            return
        if kind == Use.read:
            self.words[v + at.SEEN] = seen | 1 << self.lane
        for e in self._writers(v):
            if kind == Use.read:
                self._depend(at.READ, e)
            else:
                self._depend(at.STREAM, e)
                if self.near:
                    self._depend(at.STREAM_END, e)

    def _writers(self, v: int) -> range:
        start = v + at.PLACE_SIZE
        return range(start, start + self._number(v + at.WRITTEN) * at.ENTRY_SIZE, at.ENTRY_SIZE)

    def _write(self, kind: int, use: Record, v: int) -> None:
        writers = self._writers(v)
        if use[at.USE_GUARDS_AT]:
            self._forget(v + use[at.USE_GUARDS_AT], v + use[at.USE_STRIDE])
        self.words[v + at.GUARDED] = 0
        unread = True
        readers = v + use[at.USE_READERS_AT]
        for r in range(readers, readers + use[at.USE_READERS] * at.ENTRY_SIZE, at.ENTRY_SIZE):
            if self.words.get(r + at.REF) != at.NONE:
                unread = False
                self._keep(use, v, at.REUSE, r)
                self._depend(at.REUSE, r)
            self.words[r + at.REF] = at.NONE
        for e in writers if unread or kind == Use.into else ():
            self._keep(use, v, at.READ, e)
            self._depend(at.READ, e)
            if kind == Use.into:
                self._depend(at.EARLIER, e)
        self._forget(v + at.PLACE_SIZE, readers)
        self.words[v + at.WRITTEN], self.words[v + at.SEEN] = 1, 0

    def _forget(self, start: int, end: int) -> None:
        for place in range(start, end):
            self.words.pop(place, None)

    def _keep(self, use: Record, v: int, kind: int, e: int) -> None:
        if not use[at.USE_GUARDS_AT]:
            return
        many = self._number(v + at.GUARDED)
        guard = v + use[at.USE_GUARDS_AT] + many * at.ENTRY_SIZE
        self.words[guard + at.REF] = self.words.get(e + at.REF, at.NONE)
        self.words[guard + at.REF_KIND] = kind
        self.words[v + at.GUARDED] = many + 1

    def _join(self, use: Record, v: int) -> int:
        """Returns how many writers there were before."""
        for j in range(self._number(v + at.GUARDED)):
            guard = v + use[at.USE_GUARDS_AT] + j * at.ENTRY_SIZE
            self._depend(self._number(guard + at.REF_KIND), guard)
        many = self._number(v + at.WRITTEN)
        if v + at.WRITTEN in self.words:
            self.words[v + at.WRITTEN] = many + 1
        self.words[v + at.SEEN] = 0
        return many

    def _depend(self, kind: int, e: int) -> None:
        ref = self.words.get(e + at.REF)
        if not isinstance(ref, tuple):
            self.known = False
            return
        lane, n = ref
        if (lane == self.lane) != (kind == at.EARLIER):
            return
        side = at.WAITING if self.near >> lane & 1 else at.BLOCKING
        if kind in (at.EARLIER, at.STREAM_END):
            side = at.ENDING
        self.producers.append(Producer(lane, self.taken[lane] - n, kind, side))

    def _versions(self) -> Iterator[tuple[int, int, dict[int, int | Place]]]:
        """Of each buffer and version, from its newest on: where it starts, and its words."""
        for buffer, use in self.first.items():
            for back in range(use[at.USE_SLOTS]):
                place = (self.newest[buffer] - back) % use[at.USE_SLOTS]
                v = use[at.USE_FIRST] + place * use[at.USE_STRIDE]
                words = range(v, v + use[at.USE_STRIDE])
                yield buffer, v, {word - v: self.words[word] for word in words if word in self.words}

    def relative(self) -> list[tuple[int, dict[int, Left]]]:
        """The versions, steps in them as so many back."""
        return [
            (buffer, {word: self._left(0, value) for word, value in words.items()})
            for buffer, _, words in self._versions()
        ]

    def left(self) -> list[Left]:
        """What the loop leaves in the versions. Who has seen those that it does not write is known there."""
        found = [Left(buffer, at.NEWEST_PLACE, self.newest[buffer]) for buffer in self.slots]
        for _, v, words in self._versions():
            if at.WRITTEN not in words:
                words.pop(at.SEEN, None)
            found += [self._left(v + word, value) for word, value in words.items()]
        return found

    def _left(self, place: int, value: int | Place) -> Left:
        if isinstance(value, int):
            return Left(place, at.NUMBER, value)
        return Left(place, value[0], self.taken[value[0]] - value[1])
