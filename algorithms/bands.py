"""What kernels that stream a matrix [m, n] through UB share: it is cut into bands of rows.

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
    that are left are dealt one by one, in pieces of `beyond` columns, so that no core has two more than
    another."""

    m: int
    n: int
    rows: int
    cols: int
    cores: int
    beyond: int

    def sweep(self, k: KernelBuilder, tile: Callable[[Place], None]) -> None:
        """Write `tile` for the tiles of each size: of the bands, and of the rows beyond them."""
        band, beyond = divmod(self.m, self.cores)
        for cols in edges(self.n, self.cols):
            for rows in edges(band, self.rows):
                self._items(k, ("core", self.cores, band), rows, cols, tile)
        for cols in edges(self.n, self.beyond):
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
    cores = 1 if structure.one_core else vector_cores(target)
    each = buffers * structure.slots * bytes_of(problem.dtype)
    return _cut(problem, cores, structure.elements or _fitting(problem.dtype, target, each))


def streamed(problem: Problem, target: Target, element: float) -> Bands:
    """The largest tiles, for a kernel that takes `element` bytes of UB for each element of one."""
    return _cut(problem, vector_cores(target), _fitting(problem.dtype, target, element))


def whole_rows(
    m: int, n: int, target: Target, element: float, row: float = 0.0, column: float = 0.0
) -> Bands | None:
    """The largest tiles of whole rows, for a kernel that takes `element` bytes of UB for each element of one,
    `row` for each of its rows, and `column` for each of its columns once. None where not one row fits."""
    cores = vector_cores(target)
    fitting = int((target.level_bytes["UB"] - n * column) // (n * element + row))
    band = max(1, m // cores)
    return Bands(m, n, _even(band, min(band, fitting)), n, cores, n) if fitting > 0 else None


def vector_cores(target: Target) -> int:
    """All that there are; of a fused machine, its cores."""
    return target.groups * max(1, target.vector_cores)


def _cut(problem: Problem, cores: int, most: int) -> Bands:
    """Tiles of at most `most` elements for `cores` cores. Rows that are left, as all are where they are fewer
    than the cores, are cut so that every core gets a piece, of whole repeats."""
    m, n = problem.m, problem.n
    rows, cols = _tile(max(1, m // cores), n, most)
    piece, left = cols, m % cores
    if left:
        repeat = int(REPEAT_BYTES / bytes_of(problem.dtype))
        share = -(-n // (cores // left))
        piece = min(cols, -(-share // repeat) * repeat)
    return Bands(m, n, rows, cols if m >= cores else piece, cores, piece)


def _fitting(dtype: str, target: Target, element: float) -> int:
    """Elements of a tile for each of which a kernel takes `element` bytes of UB, in whole repeats."""
    repeat = REPEAT_BYTES / bytes_of(dtype)
    return int(max(1, target.level_bytes["UB"] // (element * repeat)) * repeat)


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
