"""A matrix cut into tiles: whole ones along each axis, and what is left at the edges."""

from __future__ import annotations

from dataclasses import dataclass

from npusim.builder import Index

FRACTAL = 16
"""rows and columns of what the cube takes at once"""
LARGEST = 4.0
"""what integers that hold normal values must reach: four standard deviations"""


@dataclass(frozen=True)
class Edge:
    """`count` tiles of `size` along an axis, from `start` on."""

    start: int
    count: int
    size: int

    def at(self, index: Index | int) -> Index | int:
        return self.start + index * self.size


def edges(size: int, tile: int) -> list[Edge]:
    """The whole tiles along an axis, and what is left of it."""
    full, rest = divmod(size, tile)
    return [e for e in (Edge(0, full, tile), Edge(full * tile, 1 if rest else 0, rest)) if e.count]


@dataclass(frozen=True)
class Place:
    """A tile of a matrix: where it begins, and its size."""

    row: Index | int
    rows: int
    col: Index | int
    cols: int
