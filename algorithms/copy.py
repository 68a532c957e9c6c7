"""Copy y = x, both [m, n] row-major, through UB and back; vector cores only.

The structure of the double-buffered add (algorithms.add) without the sum: a tile is loaded and stored from
one buffer.
"""

from __future__ import annotations

from algorithms.bands import Structure, bands
from algorithms.tiles import LARGEST, Place
from npusim.builder import Algorithm, Kernel, KernelBuilder, Options, Problem, Target, operand_scale


def build(problem: Problem, options: Options, target: Target) -> Kernel:
    """The tile graph of y = x, in the dtype of the operands."""
    variant = ALGORITHM.variant(problem, options, target)
    structure = Structure(options.slots or 2)
    cut = bands(problem, target, structure, buffers=1)
    k = KernelBuilder("copy", target, problem.dtype, ALGORITHM.name, variant)
    k.settings.update(tile_m=cut.rows, tile_n=cut.cols, slots=structure.slots)
    dtype, scale = problem.dtype, operand_scale(problem.dtype, LARGEST)
    x = k.input("x", (problem.m, problem.n), dtype, scale=scale)
    y = k.output("y", (problem.m, problem.n), dtype, scale=scale)
    X = k.tile("X", "UB", (cut.rows, cut.cols), dtype, structure.slots, scale=scale)

    def tile(at: Place) -> None:
        part = X.view(rows=at.rows, cols=at.cols)
        k.load(part, x.at(row=at.row, rows=at.rows, col=at.col, cols=at.cols), "load x", fresh=True)
        k.store(y.at(row=at.row, rows=at.rows, col=at.col, cols=at.cols), part, label="store y")

    with k.phase("copy", over="vector"):
        cut.sweep(k, tile)
    return k.finish()


ALGORITHM = Algorithm(
    name="tiled",
    meaning="bands of rows, tile after tile through UB; vector cores only",
    source="textbook",
    build=build,
    variants={
        "double": "all vector cores, two slots per tile, tiles as large as fit in UB",
        "clone": "double, in place of a framework's copy, of which no source says how it is made",
        "textbook": "as double, with the slots asked for",
    },
    parameters=frozenset({"slots"}),
    textbook_only=frozenset({"slots"}),
    stand_ins=frozenset({"clone"}),
)
