"""RMSNorm over the rows of x [m, n], y = w x / sqrt(mean(x^2) + 1e-6) with w [1, n]; vector cores only.

arXiv 1910.07467. `gated`: y times silu(z), as the output of a gated delta net is normalised over Dv
(Qwen3-Next, Qwen3.5). `residual`: s = x + r is normalised, and stored as well, as inference engines fuse
the two; the norm is that of s before it is rounded. Whole rows where they fit in UB; longer ones are loaded
twice, piece by piece, the second time from L2.
"""

from __future__ import annotations

from functools import partial

from algorithms.bands import Bands, whole_rows
from algorithms.row_pieces import RowPieces, row_pieces
from algorithms.tiles import Place
from algorithms.vector_work import BLOCK, Loaded, Stored, VectorWork, algorithm, reduce_rows, silu
from npusim.builder import Index, Item, Kernel, Options, Problem, Target, View, bytes_of

EPSILON = 1e-6
ALSO_LOADED = {"plain": (), "gated": ("z",), "residual": ("r",)}
"""what else is loaded, in the shape of x"""
MEANINGS = {
    "plain": "y = w x / rms(x)",
    "gated": "y = w x / rms(x) silu(z), as the output of a gated delta net",
    "residual": "s = x + r and y = w s / rms(s), both stored",
}


class Norm:
    """What both ways share. `shape` is that of a tile."""

    def __init__(self, way: str, work: VectorWork, problem: Problem, shape: tuple[int, int]) -> None:
        self.work, self.k, self.n = work, work.k, problem.n
        k, whole, rows = work.k, (problem.m, problem.n), shape[0]
        k.settings.update(tile_m=rows, tile_n=shape[1])
        names = ("x", *ALSO_LOADED[way])
        self.sources = {name: k.input(name, whole, work.dtype) for name in names}
        self.w = k.input("w", (1, problem.n), work.dtype)
        self.squares = work.tile("squares", shape)
        added = {"r": self.squares}  # which is free until there is a sum
        self.loads = {name: Loaded(work, name, shape, wide=added.get(name)) for name in names}
        self.W = Loaded(work, "w", (1, shape[1]), slots=1 if shape[1] == problem.n else work.slots)
        self.y, self.stored = k.output("y", whole, work.dtype), Stored(work, "y", shape)
        self.sum = k.output("s", whole, work.dtype) if way == "residual" else None
        # where the sum is stored as it is, the norm would have to wait for that to take its place
        self.apart = work.tile("normalised", shape, work.slots) if self.sum and not work.converts else None
        self.inverse, self.blocks = work.tile("1 / rms", (rows, 1)), work.tile("blocks", (rows, BLOCK))

    def read(self, at: Place, store_sum: bool) -> View:
        """What is normalised; its sum with the residual is stored when it is first read."""
        x = self._load("x", at)
        if self.sum:
            self.k.vector("add", x, x, self._load("r", at), label="x + r")
            if store_sum:
                self.stored.store(self.sum.at(**vars(at)), x)
        return x

    def _load(self, name: str, at: Place) -> View:
        return self.loads[name].load(self.sources[name].at(**vars(at)))

    def squared(self, x: View, column: View) -> None:
        """Sums of squares of rows."""
        squares = self.squares.view(rows=x.rows, cols=x.cols)
        self.k.vector("mul", squares, x, x, label="squares")
        reduce_rows(self.k, "add", column, squares, self.squares)

    def invert(self, column: View) -> None:
        """Sums of squares become 1 / sqrt(mean + 1e-6)."""
        k = self.k
        k.vector("muls", column, column, imm=1.0 / self.n, label="mean of squares")
        k.vector("adds", column, column, imm=EPSILON, label="+ 1e-6")
        k.vector("rsqrt", column, column, label="1 / rms")

    def write(self, at: Place, x: View, w: View) -> None:
        """Scale rows and columns, gate, store."""
        k, inverse = self.k, self.inverse.view(rows=x.rows)
        y = self.apart.view(rows=x.rows, cols=x.cols) if self.apart else x
        k.vector("scale_rows", y, x, inverse, scratch=self.blocks, label="normalise")
        k.vector("scale_cols", y, y, w, label="times w")
        if "z" in self.loads:
            z = self._load("z", at)
            silu(k, z, self.squares.view(rows=x.rows, cols=x.cols))
            k.vector("mul", y, y, z, label="times silu(z)")
        self.stored.store(self.y.at(**vars(at)), y)

    def rows(self, cut: Bands) -> None:
        """Bands of whole rows."""
        w = self.W.load(self.w.at())

        def tile(at: Place) -> None:
            x = self.read(at, store_sum=True)
            inverse = self.inverse.view(rows=at.rows)
            self.squared(x, inverse)
            self.invert(inverse)
            self.write(at, x, w)

        cut.sweep(self.k, tile)

    def pieces(self, m: int, cut: RowPieces) -> None:
        """A row at a time, each twice in pieces."""
        part, total = self.work.tile("part of sum", (1, 1)).view(), self.inverse.view()

        def add_up(row: Index, col: Index | int, cols: int, opens: bool) -> None:
            x = self.read(Place(row, 1, col, cols), store_sum=True)
            self.squared(x, total if opens else part)
            if not opens:
                self.k.vector("add", total, total, part, label="add to the sum")

        def norm(row: Index, col: Index | int, cols: int, _: bool) -> None:
            at = Place(row, 1, col, cols)
            x = self.read(at, store_sum=False)
            self.write(at, x, self.W.load(self.w.at(col=col, cols=cols)))

        def item(items: list[Item]) -> None:
            ((row,),) = items
            cut.each(self.k, partial(add_up, row))
            self.invert(total)
            cut.each(self.k, partial(norm, row))

        self.k.items([("row", m)], item)


def build(way: str, problem: Problem, options: Options, target: Target) -> Kernel:
    """The tile graph of one of `MEANINGS`."""
    work = VectorWork("rmsnorm", way, problem, options, target)
    m, n = problem.m, problem.n
    element = (1 + len(ALSO_LOADED[way])) * work.loaded_bytes + work.stored_bytes + work.work_bytes
    if way == "residual":
        element += -work.wide_bytes if work.converts else work.slots * work.work_bytes
    w_bytes = bytes_of(work.dtype) + work.wide_bytes
    whole = whole_rows(m, n, target, element, row=(1 + BLOCK) * work.work_bytes, column=w_bytes)
    pieces = row_pieces(n, work.dtype, target, element + work.loaded_bytes)
    norm = Norm(way, work, problem, (whole.rows, n) if whole else (1, pieces.cols))
    with work.k.phase("rmsnorm", over="vector"):
        if whole:
            norm.rows(whole)
        else:
            norm.pieces(m, pieces)
    return work.k.finish()


ALGORITHMS = {
    way: algorithm(way, meaning, "arXiv 1910.07467", partial(build, way)) for way, meaning in MEANINGS.items()
}
