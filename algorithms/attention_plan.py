"""Which blocks of keys a tile of queries meets, and in what order: loop counts of attention.

A tile holds `rows` tokens, of which the first stands behind `context` keys; tile number i of several stands
i `rows` keys further. A causal tile begins with the square block of its own tokens, the only one under a
mask, and goes on with what lies before: blocks as narrow as a tile next to it, until the rest is a multiple
of `width`; wide ones of that size; and at the start of the sequence what no block fills. All of these are
whole. A tile that sees all keys meets wide blocks and what is left. Counts of trips depend on the tile alone,
and every place is affine in its number, that of its wide blocks, and the trip.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from npusim.builder import Index

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Kind:
    """What is done to a block: its number of keys; whether it is masked; whether it is the tile's first."""

    keys: int
    masked: bool = False
    first: bool = False


@dataclass(frozen=True)
class Place:
    """Indices of the tile at hand: its number, and how many wide blocks it meets."""

    number: Index
    wide: Index


@dataclass(frozen=True)
class Start:
    """The key at which a block begins: base + per_tile * number + per_wide * wide + per_trip * trip."""

    base: int
    per_tile: int = 0
    per_wide: int = 0
    per_trip: int = 0

    def at(self, tile: Place, trip: Index | int) -> Index:
        return (
            Index(self.base) + tile.number * self.per_tile + tile.wide * self.per_wide + trip * self.per_trip
        )


@dataclass(frozen=True, eq=False)
class Run:
    """Blocks of one kind in a row: how many for each tile, where each begins, and where the last does."""

    kind: Kind
    counts: Ints
    start: Start
    last: Start


@dataclass(frozen=True, eq=False)
class Plan:
    """The runs of all tiles, and how many wide blocks each tile meets."""

    runs: tuple[Run, ...]
    wide: Ints

    @property
    def work(self) -> Ints:
        """Keys that each tile meets."""
        return sum((run.counts * run.kind.keys for run in self.runs), np.zeros_like(self.wide))


def causal(tiles: int, rows: int, context: int, width: int) -> Plan:
    """Tile i sees `context` + i `rows` keys, and its own tokens up to each. Of several tiles, `width` is a
    multiple of their rows."""
    own = Run(Kind(rows, masked=True, first=True), np.ones(tiles, np.int64), *_same(context, rows))
    unit = rows if tiles > 1 else width
    rest, blocks = context % unit, context // unit + np.arange(tiles)
    wide, narrow = blocks // (width // unit), blocks % (width // unit)
    before = Run(Kind(unit), narrow, Start(context - unit, rows, 0, -unit), Start(rest, 0, width))
    return _plan((own, before, _wide(rest, width, wide), _rest(rest, tiles)), wide)


def full(tiles: int, keys: int, width: int) -> Plan:
    """Every tile sees all `keys`."""
    count, rest = divmod(keys, width)
    first = Run(Kind(width if count else rest, first=True), np.ones(tiles, np.int64), *_same(0))
    wide = np.full(tiles, max(count - 1, 0))
    others = _wide(width, width, wide)
    left = Run(Kind(rest or 1), np.full(tiles, int(bool(count and rest))), *_same(count * width))
    return _plan((first, others, left), wide)


def _same(base: int, per_tile: int = 0) -> tuple[Start, Start]:
    """Start and last start of a run of one block."""
    return Start(base, per_tile), Start(base, per_tile)


def _wide(base: int, width: int, counts: Ints) -> Run:
    return Run(Kind(width), counts, Start(base, 0, 0, width), Start(base - width, 0, width))


def _rest(keys: int, tiles: int) -> Run:
    """The first keys of the sequence."""
    return Run(Kind(keys or 1), np.full(tiles, int(keys > 0)), *_same(0))


def _plan(runs: tuple[Run, ...], wide: Ints) -> Plan:
    return Plan(tuple(run for run in runs if run.counts.any()), wide)
