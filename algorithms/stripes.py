"""Sequences of rows [sequences, length, n], cut into parts of rows and stripes of columns for vector cores.

A core goes down a part of a stripe tile by tile. Each tile needs `halo` rows before its own, which belong
to the tile before; before the first tile of a sequence there are none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from algorithms.tiles import Edge, Place, edges
from npusim.builder import Index, Item, KernelBuilder

LINE_BYTES = 512
"""a stripe is as wide as this at least, so that its rows are whole lines of L2"""

Tile = Callable[[Index, Place, bool], None]
"""what to do with (sequence, place, whether rows before it belong to the sequence)"""


@dataclass(frozen=True)
class Stripes:
    """Tiles of [rows, cols] of sequences [length, n]; each stripe of one is dealt in `parts`."""

    sequences: int
    length: int
    n: int
    rows: int
    cols: int
    parts: int
    halo: int

    @property
    def stripes(self) -> int:
        return -(-self.n // self.cols)

    def most_loaded(self, cores: int) -> int:
        """Elements that the core with most to do goes through: tiles with their halos, and as many rows as a
        result depends on where a part begins, which has weights of its own."""
        items = -(-self.sequences * self.parts * self.stripes // cores)
        tiles = -(-self.length // self.rows)
        rows = -(-tiles // self.parts) * (self.rows + self.halo) + self.halo + 1
        return items * rows * self.cols

    def sweep(self, k: KernelBuilder, begin: Callable[[Index | int, int], None], tile: Tile) -> None:
        """Deal the parts: `begin(first column, columns)` at the start of each, then `tile` for its tiles."""
        for cols in edges(self.n, self.cols):
            self._items(k, cols, begin, tile)

    def _items(
        self, k: KernelBuilder, across: Edge, begin: Callable[[Index | int, int], None], tile: Tile
    ) -> None:
        """Whole tiles of a sequence are dealt evenly to its parts; what is left of it goes to the last."""
        whole, rest = divmod(self.length, self.rows)
        ends = np.arange(1, self.parts + 1) * whole // self.parts
        starts = np.concatenate([[0], ends[:-1]])
        opening = (starts == 0) & (ends > 0)
        opening[1:] = False  # where there are fewer tiles than parts, several begin at 0
        closing = (np.arange(self.parts) == self.parts - 1) & (rest > 0)
        later = np.maximum(starts, 1)

        def item(items: list[Item]) -> None:
            sequence, _, stripe, first = items[0]
            col = across.at(stripe)
            begin(col, across.size)

            def at(row: Index | int, rows: int) -> Place:
                return Place(row, rows, col, across.size)

            k.loop(per_item(opening), lambda _: tile(sequence, at(0, self.rows), False))
            k.loop(
                per_item(ends - starts - opening),
                lambda i: tile(sequence, at((first + i) * self.rows, self.rows), True),
            )
            k.loop(per_item(closing), lambda _: tile(sequence, at(whole * self.rows, rest), True))

        def per_item(counts: npt.NDArray[np.generic]) -> int | npt.NDArray[np.int64]:
            """A count of each part as one of each item."""
            whole_numbers = counts.astype(np.int64)
            if (whole_numbers == whole_numbers[0]).all():
                return int(whole_numbers[0])
            return np.tile(np.repeat(whole_numbers, across.count), self.sequences)

        axes = [("sequence", self.sequences), ("part", self.parts), ("stripe", across.count)]
        k.items(axes, item, deal="contiguous", tables={"part": later})


def stripes(
    size: tuple[int, int, int], cores: int, line: int, halo: int, fitting: Callable[[int], int]
) -> Stripes | None:
    """The cut of `size` (sequences, length, n) that leaves least to the core with most to do; of several
    the one with the widest stripes. `line`: elements of a line of L2; `fitting(cols)`: rows of a tile, its
    halo included, that UB holds. None where no stripe has room for a row and the halo."""
    sequences, length, n = size
    found: list[Stripes] = []
    for cols in _widths(n, line):
        fits = fitting(cols) - halo
        if fits < max(1, min(halo, length)):
            continue
        for parts in range(1, min(cores, length) + 1):
            share = -(-length // parts)
            rows = max(-(-share // -(-share // fits)), min(halo, length))
            found.append(Stripes(sequences, length, n, rows, cols, min(parts, length // rows), halo))
    return min(found, key=lambda one: (one.most_loaded(cores), -one.cols), default=None)


def _widths(n: int, line: int) -> list[int]:
    """Widths of 1, 2, .. even stripes, in whole lines."""
    wide = min(n, line)
    return sorted({min(n, -(-n // (count * line)) * line) for count in range(1, max(1, n // wide) + 1)})
