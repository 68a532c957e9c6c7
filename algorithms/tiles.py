"""A matrix cut into tiles: whole ones along each axis, and what is left at the edges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from npusim.builder import Index, Target

FRACTAL = 16
"""rows and columns of what the cube takes at once"""
LARGEST = 4.0
"""what integers that hold normal values must reach: four standard deviations"""


def fit(sizes: Mapping[str, float], target: Target) -> bool:
    """Whether every memory holds what lies in it, bytes by level; one memory may serve several levels."""
    held: dict[str, float] = {}
    for level, size in sizes.items():
        memory = target.level_memory[level]
        held[memory] = held.get(memory, 0) + size
    return all(held[target.level_memory[level]] <= target.level_bytes[level] for level in sizes)


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
