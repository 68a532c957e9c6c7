"""A row that is too long for UB, dealt with a piece at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from algorithms.bands import REPEAT_BYTES
from algorithms.tiles import edges
from npusim.builder import Index, KernelBuilder, Target, bytes_of


@dataclass(frozen=True)
class RowPieces:
    """Pieces of `cols` columns of a row of n."""

    n: int
    cols: int

    def each(self, k: KernelBuilder, piece: Callable[[Index | int, int, bool], None]) -> None:
        """`piece(first column, columns, whether it is the first one)` for all of the row, in order."""
        for number, edge in enumerate(edges(self.n, self.cols)):
            body = [
                partial(lambda edge, opens, i: piece(edge.at(i), edge.size, opens), edge, opens)
                for opens in (False, True)
            ]
            k.loop(edge.count, body[0], first=body[1] if number == 0 else None)


def row_pieces(n: int, dtype: str, target: Target, element: float) -> RowPieces:
    """The longest pieces, in whole repeats, at `element` bytes of UB for each element."""
    repeat = REPEAT_BYTES / bytes_of(dtype)
    return RowPieces(n, int(target.level_bytes["UB"] // ((element + 1) * repeat) * repeat))
