"""Elementwise sum z = x + y, all [m, n] row-major; vector cores only.

The structures of cannmirror/asc-devkit, examples/01_simd_cpp_api/05_best_practices, 00_vector_compute: load x
and y, add, store z, tile after tile. With one slot the loads of a tile wait for the sum before; with two
they run ahead of it.
"""

from __future__ import annotations

from algorithms.bands import Structure, bands
from algorithms.tiles import LARGEST, Place
from npusim.builder import Algorithm, Kernel, KernelBuilder, Options, Problem, Target, operand_scale

SMALL = 4096
"""elements of a tile in the first cases of the source"""

STRUCTURES = {
    "double": Structure(),
    "case-1": Structure(slots=1, elements=SMALL, one_core=True),
    "case-2": Structure(slots=1, elements=SMALL),
    "case-4": Structure(),
}


def build(problem: Problem, options: Options, target: Target) -> Kernel:
    """The tile graph of z = x + y. All in the dtype of the operands."""
    variant = ALGORITHM.variant(problem, options, target)
    structure = STRUCTURES.get(variant) or Structure(options.slots or 2)
    cut = bands(problem, target, structure, buffers=3)
    k = KernelBuilder("add", target, problem.dtype, ALGORITHM.name, variant)
    k.settings.update(tile_m=cut.rows, tile_n=cut.cols, slots=structure.slots)
    dtype, shape, slots = problem.dtype, (cut.rows, cut.cols), structure.slots
    scale = operand_scale(dtype, LARGEST)
    sum_scale = operand_scale(dtype, LARGEST * 2**0.5)  # the standard deviation of a sum of two normal values
    x = k.input("x", (problem.m, problem.n), dtype, scale=scale)
    y = k.input("y", (problem.m, problem.n), dtype, scale=scale)
    z = k.output("z", (problem.m, problem.n), dtype, scale=sum_scale)
    X = k.tile("X", "UB", shape, dtype, slots, scale=scale)
    Y = k.tile("Y", "UB", shape, dtype, slots, scale=scale)
    Z = k.tile("Z", "UB", shape, dtype, slots, scale=sum_scale)

    def tile(at: Place) -> None:
        """A ragged sum takes the slot of the one before, and waits until that is stored."""
        left, right, total = (T.view(rows=at.rows, cols=at.cols) for T in (X, Y, Z))
        k.load(left, x.at(row=at.row, rows=at.rows, col=at.col, cols=at.cols), "load x", fresh=True)
        k.load(right, y.at(row=at.row, rows=at.rows, col=at.col, cols=at.cols), "load y", fresh=True)
        k.vector("add", total, left, right, label="add")
        k.store(z.at(row=at.row, rows=at.rows, col=at.col, cols=at.cols), total, label="store z")

    with k.phase("add", over="vector"):
        cut.sweep(k, tile)
    return k.finish()


ALGORITHM = Algorithm(
    name="tiled",
    meaning="bands of rows, tile after tile through UB; vector cores only",
    source="cannmirror/asc-devkit, 05_best_practices/00_vector_compute",
    build=build,
    variants={
        "double": "all vector cores, two slots per tile, tiles as large as fit in UB",
        "case-1": "one vector core, 4096 elements a tile, one slot",
        "case-2": "all vector cores, 4096 elements a tile, one slot",
        "case-4": "double, by the source's name for it",
        "textbook": "as double, with the slots asked for",
    },
    parameters=frozenset({"slots"}),
    textbook_only=frozenset({"slots"}),
)
