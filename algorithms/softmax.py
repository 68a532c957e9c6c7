"""Softmax over the rows of x [m, n], y = exp(x - max x) / sum exp(x - max x); vector cores only.

Whole rows where they fit in UB. Longer ones go through it twice, piece by piece, as online softmax does
(arXiv 1805.02867): once for their largest value and their sum, which is rescaled as larger ones are found,
and once for the values; the second time they are in L2.
"""

from __future__ import annotations

from algorithms.bands import Bands, whole_rows
from algorithms.row_pieces import RowPieces, row_pieces
from algorithms.tiles import Place
from algorithms.vector_work import BLOCK, Loaded, Stored, VectorWork, algorithm, reduce_rows
from npusim.builder import Index, Item, Kernel, Options, Problem, Target, View


class Softmax:
    """What both ways share. `shape` is that of a tile."""

    def __init__(self, work: VectorWork, problem: Problem, shape: tuple[int, int]) -> None:
        self.work, self.k = work, work.k
        self.k.settings.update(tile_m=shape[0], tile_n=shape[1])
        self.x = self.k.input("x", (problem.m, problem.n), work.dtype)
        self.y = self.k.output("y", (problem.m, problem.n), work.dtype)
        self.X, self.Y = Loaded(work, "x", shape), Stored(work, "y", shape)
        self.halves = work.tile("halves", (shape[0], -(-shape[1] // 2)))
        self.top, self.total, self.inverse = (
            work.tile(name, (shape[0], 1)) for name in ("largest", "sum", "1 / sum")
        )
        self.blocks = work.tile("blocks", (shape[0], BLOCK))

    def exponentials(self, x: View, top: View) -> None:
        self.k.vector("sub_rows", x, x, top, scratch=self.blocks, label="x - largest")
        self.k.vector("exp", x, x, label="exp")

    def normalise(self, x: View, inverse: View) -> None:
        self.k.vector("scale_rows", x, x, inverse, scratch=self.blocks, label="normalise")

    def inverse_of(self, total: View, ones: View) -> View:
        inverse = self.inverse.view(rows=total.rows)
        self.k.vector("div", inverse, ones, total, label="1 / sum")
        return inverse

    def rows(self, cut: Bands) -> None:
        """Bands of whole rows."""
        k, ones = self.k, self.work.ones((cut.rows, 1))

        def tile(at: Place) -> None:
            top, total, one = (t.view(rows=at.rows) for t in (self.top, self.total, ones))
            x = self.X.load(self.x.at(row=at.row, rows=at.rows))
            reduce_rows(k, "max", top, x, self.halves)
            self.exponentials(x, top)
            reduce_rows(k, "add", total, x, self.halves)
            self.normalise(x, self.inverse_of(total, one))
            self.Y.store(self.y.at(row=at.row, rows=at.rows), x)

        cut.sweep(k, tile)

    def pieces(self, m: int, cut: RowPieces) -> None:
        """A row at a time, each twice in pieces."""
        k, ones = self.k, self.work.ones((1, 1))
        top, total, found, factor, part = (
            t.view()
            for t in (
                self.top,
                self.total,
                *(self.work.tile(n, (1, 1)) for n in ("larger", "factor", "part of sum")),
            )
        )

        def row(items: list[Item]) -> None:
            ((number,),) = items

            def load(col: Index | int, cols: int) -> View:
                return self.X.load(self.x.at(row=number, rows=1, col=col, cols=cols))

            def first_pass(col: Index | int, cols: int, opens: bool) -> None:
                x = load(col, cols)
                reduce_rows(k, "max", top if opens else found, x, self.halves)
                if not opens:
                    k.vector("max", found, found, top, label="larger")
                    k.vector("sub", factor, top, found, label="old - new largest")
                    k.vector("exp", factor, factor, label="rescaling")
                    k.vector("mul", total, total, factor, label="rescale the sum")
                    k.vector("copy", top, found, label="new largest")
                self.exponentials(x, top)
                reduce_rows(k, "add", total if opens else part, x, self.halves)
                if not opens:
                    k.vector("add", total, total, part, label="add to the sum")

            def second_pass(col: Index | int, cols: int, _: bool) -> None:
                x = load(col, cols)
                self.exponentials(x, top)
                self.normalise(x, self.inverse.view())
                self.Y.store(self.y.at(row=number, rows=1, col=col, cols=cols), x)

            cut.each(k, first_pass)
            self.inverse_of(total, ones.view())
            cut.each(k, second_pass)

        k.items([("row", m)], row)


def build(problem: Problem, options: Options, target: Target) -> Kernel:
    """The tile graph of y = softmax(x)."""
    work = VectorWork("softmax", "rows", problem, options, target)
    m, n, element = problem.m, problem.n, work.loaded_bytes + work.stored_bytes + work.work_bytes / 2
    whole = whole_rows(m, n, target, element, row=(4 + BLOCK) * work.work_bytes)
    pieces = row_pieces(n, work.dtype, target, element)
    kernel = Softmax(work, problem, (whole.rows, n) if whole else (1, pieces.cols))
    with work.k.phase("softmax", over="vector"):
        if whole:
            kernel.rows(whole)
        else:
            kernel.pieces(m, pieces)
    return work.k.finish()


ALGORITHM = algorithm(
    "rows",
    "whole rows, shared by all vector cores; rows longer than UB twice, piece by piece",
    "arXiv 1805.02867 for long rows",
    build,
)
