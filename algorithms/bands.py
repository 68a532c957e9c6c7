"""What add and copy share: a matrix [m, n] that streams through UB, cut into bands of rows.

As cannmirror/asc-devkit, examples/01_simd_cpp_api/05_best_practices, 00_vector_compute: every vector core has
a band of rows, takes it tile by tile, and each tile is one contiguous piece of global memory. There a band is
one long vector, so a tile may end within a row; here it is several whole rows, or a piece of one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from algorithms.tiles import Edge, Place, edges
from npusim.builder import InputError, Item, KernelBuilder, Problem, Shapes, Target, bytes_of

REPEAT_BYTES = 256
"""UB is divided into whole repeats of the vector unit, as in the source"""


@dataclass(frozen=True)
class Structure:
    """How tiles are laid out: `elements` in each at most (None: as many as fit), in `slots` buffers; by one
    vector core or all of them."""

    slots: int = 2
    elements: int | None = None
    one_core: bool = False


@dataclass(frozen=True)
class Bands:
    """Tiles of [rows, cols] of an [m, n] matrix, a band of rows for each of `cores` vector cores. The rows
    that are left are dealt one by one, so that no core has two more than another."""

    m: int
    n: int
    rows: int
    cols: int
    cores: int

    def sweep(self, k: KernelBuilder, tile: Callable[[Place], None]) -> None:
        """Write `tile` for the tiles of each size: of the bands, and of the rows beyond them."""
        band, beyond = divmod(self.m, self.cores)
        for cols in edges(self.n, self.cols):
            for rows in edges(band, self.rows):
                self._items(k, ("core", self.cores, band), rows, cols, tile)
        for cols in edges(self.n, self.cols):
            if beyond:
                self._items(k, ("row", beyond, 1), Edge(self.m - beyond, 1, 1), cols, tile)

    def _items(
        self,
        k: KernelBuilder,
        parts: tuple[str, int, int],
        rows: Edge,
        cols: Edge,
        tile: Callable[[Place], None],
    ) -> None:
        """The tiles of one size in all `parts`: what a part is called, how many there are, rows of each."""
        name, count, height = parts

        def item(items: list[Item]) -> None:
            ((*part, i, j),) = items
            first = part[0] * height if part else 0
            tile(Place(first + rows.at(i), rows.size, cols.at(j), cols.size))

        within = [("tile", rows.count), ("column", cols.count)]
        if self.cores == 1:  # a grid of one keeps the others out of it
            k.items(within, item, deal=(1, 1))
        else:
            k.items([(name, count), *within], item, deal="contiguous")


def bands(problem: Problem, target: Target, structure: Structure, buffers: int) -> Bands:
    """The tiles of a kernel that holds `buffers` of them in UB, each in the structure's slots."""
    cores = 1 if structure.one_core else target.groups * max(1, target.vector_cores)
    most = structure.elements or _fitting(problem.dtype, target, buffers * structure.slots)
    rows, cols = _tile(max(1, problem.m // cores), problem.n, most)
    return Bands(problem.m, problem.n, rows, cols, cores)


def _fitting(dtype: str, target: Target, pieces: int) -> int:
    """Elements of the largest of `pieces` equal tiles in UB."""
    repeats = max(1, target.level_bytes["UB"] // (pieces * REPEAT_BYTES))
    return int(repeats * REPEAT_BYTES / bytes_of(dtype))


def _tile(band: int, n: int, most: int) -> tuple[int, int]:
    """Rows and columns of a tile of at most `most` elements; a band, or a long row, is cut evenly."""
    if n > most:
        return 1, _even(n, most)
    return _even(band, min(band, most // n)), n


def _even(size: int, most: int) -> int:
    """The size of equal parts, none above `most`."""
    return -(-size // -(-size // most))


def infer(shapes: Shapes) -> dict[str, int]:
    """m and n from the shape of x [m, n]. InputError for any other number of axes."""
    if "x" not in shapes:
        return {}
    if len(shapes["x"]) != 2:
        raise InputError(f"array x: shape {shapes['x']}: two axes are needed, [m, n]")
    return {"m": shapes["x"][0], "n": shapes["x"][1]}
