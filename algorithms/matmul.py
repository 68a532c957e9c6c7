"""Matrix product C = A B: [m, k] times [k, n], all row-major, tiled over L1 and L0.

The textbook blocking (Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", TOMS 2008):
a tile of C stays in its accumulator over all of k; A and B come in chunks of several steps into L1, and
step by step into L0, everything double-buffered. Tiles of C are dealt to the cores in bands of rows (block
swizzle); edges that fill no whole tile are items of their own. C leaves in the dtype of the operands
(integers: int32). One core alone, whose cube reads from L1, keeps strips of A there instead
(algorithms/matmul_strips.py).
"""

from __future__ import annotations

from functools import partial

from algorithms.chunked import Chunked
from algorithms.matmul_cases import CASES
from algorithms.matmul_cases import build as build_case
from algorithms.matmul_strips import SLOTS, Strips, strips
from algorithms.matmul_tiling import Tiling, band, tiling
from algorithms.tiles import LARGEST, Edge, Place, edges
from npusim.builder import (
    Algorithm,
    Index,
    InputError,
    Item,
    Kernel,
    KernelBuilder,
    Options,
    Problem,
    Shapes,
    Target,
    Tile,
    accumulator_of,
    operand_scale,
)


def build(problem: Problem, options: Options, target: Target) -> Kernel:
    """The tile graph of C = A B; cube core only."""
    variant = ALGORITHM.variant(problem, options, target)
    if variant in CASES:
        return build_case(variant, problem, target)
    builder = KernelBuilder("matmul", target, problem.dtype, ALGORITHM.name, variant)
    kept = strips(problem, options, target)
    if kept:
        Stripped(builder, problem, options, kept).emit()
        return builder.finish()
    t = tiling(problem, options, target)
    product = Product(builder, problem, options, t)
    with product.k.phase("product"):
        for rows in edges(problem.m, t.m):
            for cols in edges(problem.n, t.n):
                product.block(rows, cols, band(rows.count, t, options, target))
    return product.k.finish()


class Tensors:
    """A, B and C of one product."""

    def __init__(self, k: KernelBuilder, problem: Problem, options: Options) -> None:
        self.k, self.terms, dtype = k, problem.k, problem.dtype
        self.dtype, self.sums = dtype, accumulator_of(dtype)
        self.scale = scale = operand_scale(dtype, LARGEST)
        sums = self.sums
        out = options.out_dtype or ("int32" if sums == "int32" else dtype)
        if out == "int32" != sums:
            raise InputError(f"--out-dtype: int32 holds sums of integers; those of {dtype} are {sums}")
        # sums of k products of normal values have a standard deviation of sqrt(k)
        out_scale = scale**2 if out == "int32" else operand_scale(out, LARGEST * problem.k**0.5)
        k.settings["out_dtype"] = out
        self.a = k.input("a", (problem.m, problem.k), dtype, scale=scale)
        self.b = k.input("b", (problem.k, problem.n), dtype, scale=scale)
        self.c = k.output("c", (problem.m, problem.n), out, scale=out_scale)

    def operand(self, name: str, level: str, rows: int, cols: int, slots: int = 1) -> Tile:
        return self.k.tile(name, level, (rows, cols), self.dtype, slots, scale=self.scale)

    def accumulator(self, rows: int, cols: int, slots: int = 1) -> Tile:
        return self.k.tile("C", "L0C", (rows, cols), self.sums, slots, scale=self.scale**2)


class Stripped(Tensors):
    """A strip of A stays in L1 while all panels of B go past it."""

    def __init__(self, k: KernelBuilder, problem: Problem, options: Options, t: Strips) -> None:
        super().__init__(k, problem, options)
        self.m, self.n, self.t = problem.m, problem.n, t
        k.settings.update(tile_m=t.m, tile_n=t.n, strip=t.rows)
        self.A = [self.operand(f"A{i}", "L1", t.m, self.terms) for i in range(t.count)]
        self.B = self.operand("B", "L1", self.terms, t.n, SLOTS)
        self.left = self.operand("left", "L0A", t.m, self.terms)
        self.right = self.operand("right", "L0B", self.terms, t.n)
        self.C = self.accumulator(t.m, t.n, SLOTS)

    def emit(self) -> None:
        with self.k.phase("product"):
            for strip in edges(self.m, self.t.rows):
                self.k.items([("strip", strip.count)], partial(self.strip, strip))

    def strip(self, strip: Edge, items: list[Item]) -> None:
        """Load a strip, and multiply it by all of B."""
        ((number,),) = items
        first, parts = strip.at(number), []
        for edge in edges(strip.size, self.t.m):
            parts += [(first + edge.at(i), edge.size) for i in range(edge.count)]
        for tile, (row, rows) in zip(self.A, parts, strict=False):
            self.k.load(tile.view(rows=rows), self.a.at(row=row, rows=rows), "load A", fresh=True)
        for cols in edges(self.n, self.t.n):
            self.k.loop(cols.count, partial(self.panel, parts, cols))

    def panel(self, parts: list[tuple[Index | int, int]], edge: Edge, number: Index) -> None:
        """Load a panel of B, and multiply each tile of the strip by it."""
        k, col, cols = self.k, edge.at(number), edge.size
        B = self.B.view(cols=cols)
        k.load(B, self.b.at(col=col, cols=cols), "load B", fresh=True)
        for tile, (row, rows) in zip(self.A, parts, strict=False):
            left, right, C = (
                self.left.view(rows=rows), self.right.view(cols=cols), self.C.view(rows=rows, cols=cols)
            )  # fmt: skip
            k.move(left, tile.view(rows=rows), label="L1 to L0A", fresh=True)
            k.move(right, B, label="L1 to L0B", fresh=True)
            k.matmul(C, left, right, label="product", fresh=True)
            k.store(self.c.at(row=row, rows=rows, col=col, cols=cols), C, label="store C")


class Product(Tensors):
    """Tiles of C, whose operands come chunk by chunk."""

    def __init__(self, k: KernelBuilder, problem: Problem, options: Options, t: Tiling) -> None:
        super().__init__(k, problem, options)
        k.settings.update(tile_m=t.m, tile_n=t.n, tile_k=t.k, chunk_k=t.k * t.steps, slots=t.slots)
        self.chunked = Chunked(k, t, self.terms, self.dtype, scale=self.scale)

    def block(self, rows: Edge, cols: Edge, band: int) -> None:
        """All tiles of C of one size, in bands of so many rows."""

        def tile(items: list[Item]) -> None:
            ((number, j, i),) = items
            at = Place(rows.at(number * band + i), rows.size, cols.at(j), cols.size)
            sums = self.chunked.emit(
                at.rows,
                at.cols,
                lambda start, terms: self.a.at(row=at.row, rows=at.rows, col=start, cols=terms),
                lambda start, terms: self.b.at(row=start, rows=terms, col=at.col, cols=at.cols),
            )
            self.k.store(self.c.at(row=at.row, rows=at.rows, col=at.col, cols=at.cols), sums, label="store C")

        self.k.items([("band", rows.count // band), ("column", cols.count), ("row", band)], tile)


def infer(shapes: Shapes) -> dict[str, int]:
    """m, n and k from the shapes of a [m, k] and b [k, n], or [n, k] as the measured variants have it.
    InputError for any other number of axes."""
    for name, axes in (("a", "[m, k]"), ("b", "[k, n]")):
        if len(shapes.get(name, (0, 0))) != 2:
            raise InputError(f"array {name}: shape {shapes[name]}: two axes are needed, {axes}")
    if not {"a", "b"} <= shapes.keys():
        return {}
    (m, k), (rows, cols) = shapes["a"], shapes["b"]
    return {"m": m, "k": k, "n": rows if rows != k == cols else cols}


ALGORITHM = Algorithm(
    name="tiled",
    meaning="tiles of C in the accumulator, A and B double-buffered through L1 and L0; cube only",
    source="textbook",
    build=build,
    variants={
        **{name: case.meaning for name, case in CASES.items()},
        "textbook": "tiles as fit and spread best, in bands that share strips of A and B in L2",
    },
    parameters=frozenset({"tile_m", "tile_n", "tile_k", "slots", "swizzle", "out_dtype"}),
    textbook_only=frozenset({"tile_m", "tile_n", "tile_k", "slots", "swizzle", "out_dtype"}),
    on_ascend=lambda problem, target: "textbook",
)
