"""What vector functions are made of: the hardware instructions that one expands into, and the values of those
that are no single function of numpy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

LANES = 64
"""fp32 elements of one repeat of 256 bytes"""


@dataclass(frozen=True)
class Instruction:
    """`count` hardware vector instructions of `rows` x `cols` elements each.

    `dependent`: each needs the result of the one before, so its latency shows in between. `masked`: each sets
    the mask register anew, for the part of a repeat that it works on; a single element always needs that.
    """

    function: str
    rows: int
    cols: int
    count: int = 1
    dependent: bool = False
    masked: bool = False


@dataclass(frozen=True)
class HandOver:
    """`count` turns of vector unit -> scalar unit -> vector unit, in each of which the scalar unit reads and
    writes elements of UB and computes on them."""

    count: int = 1
    reads: int = 0
    writes: int = 0
    alus: int = 0


def tree_sum(rows: int, cols: int) -> list[Instruction | HandOver]:
    """Sum over rows by halving: ceil(log2 rows) dependent adds."""
    steps: list[Instruction | HandOver] = []
    while rows > 1:
        rows = (rows + 1) // 2
        steps.append(Instruction("add", rows, cols, dependent=True))
    return steps


def folded(fold: str, reduce: str, rows: int, cols: int) -> list[Instruction | HandOver]:
    """A reduction of rows: an instruction reduces one repeat to one element, so longer rows are folded first,
    and shorter ones take a repeat each as well."""
    folds = -(-cols // LANES) - 1
    steps: list[Instruction | HandOver] = [Instruction(fold, rows, LANES, count=folds)] if folds else []
    return [*steps, Instruction(reduce, rows, LANES)]


def vecmat_instructions(rows: int, cols: int, inner: int) -> list[Instruction | HandOver]:
    """dst += row @ matrix: the row's elements become 32-byte blocks, scale the rows, tree sum, add."""
    return [
        Instruction("cast", 1, inner, dependent=True),
        Instruction("brcb", inner, 8, dependent=True),
        Instruction("mul", inner, cols, dependent=True),
        *tree_sum(inner, cols),
        Instruction("add", 1, cols, dependent=True),
    ]


def identity(shape: tuple[int, int]) -> Array:
    return np.eye(*shape)


def unit(shape: tuple[int, int], place: float) -> Array:
    return np.eye(1, shape[1], int(place))


# --- substitution: many dependent steps in one function ------------------------------------------


def sweep(b: Array, matrix: Array, rounded: Callable[[Array], Array]) -> Array:
    """x M = b for unit lower triangular M, last element first: b[:k] -= b[k] M[k, :k]. [.., 1, n]."""
    x = np.broadcast_to(b, np.broadcast_shapes(b.shape, (*matrix.shape[:-2], 1, b.shape[-1]))).copy()
    for k in range(x.shape[-1] - 1, 0, -1):
        x[..., :k] = rounded(x[..., :k] - x[..., k : k + 1] * matrix[..., k : k + 1, :k])
    return x


def sweep_instructions(cols: int, every: HandOver, empty_last: bool) -> list[Instruction | HandOver]:
    """A hand-over and an axpy over k elements for k = cols - 1 .. 1."""
    steps: list[Instruction | HandOver] = []
    for k in range(cols - 1, 0, -1):
        steps += [every, Instruction("axpy", 1, k, dependent=True, masked=True)]
    return [*steps, every] if empty_last else steps


def square_blocks(tall: Array) -> Array:
    """[.., m b, b] as [.., m, b, b]."""
    b = tall.shape[-1]
    return tall.reshape(*tall.shape[:-2], -1, b, b)


def row_step(tall: Array, row: float) -> Array:
    """Row i of every block += itself @ its block."""
    blocks, i = square_blocks(tall).copy(), int(row)
    blocks[..., i, :] += np.matmul(blocks[..., i : i + 1, :], blocks)[..., 0, :]
    return blocks.reshape(tall.shape)


def row_step_instructions(rows: int, cols: int, _: int) -> list[Instruction | HandOver]:
    """Take and negate the rows, broadcast them along columns, multiply, transpose so that the sum goes over
    whole rows, add them up, and write each row back."""
    blocks = rows // cols
    return [
        Instruction("muls", blocks, cols, dependent=True),
        Instruction("brcb", rows, cols, dependent=True),
        Instruction("mul", rows, cols, dependent=True),
        Instruction("transpose", rows, cols, dependent=True),
        Instruction("add", blocks, cols, count=cols - 1, dependent=True),
        Instruction("add", blocks, cols, dependent=True),
        Instruction("copy", 1, cols, count=blocks, dependent=False),
    ]


BLOCK = 16
"""rows of a sub-block of a chunk, and of a fractal"""


def stepped(function: str, rows: int, cols: int) -> list[Instruction | HandOver]:
    """`function` of `rows` rows and one row that stays: per repeat of the row an instruction that steps over
    the others (Ascend C: a repeat stride of 0 for one operand)."""
    return [Instruction(function, rows, min(cols, LANES), count=-(-cols // LANES))]


def stepped_blocks(function: str, rows: int, cols: int) -> list[Instruction | HandOver]:
    """The same for every block of 16 rows and a row of its own."""
    return [Instruction(function, BLOCK, min(cols, LANES), count=-(-rows // BLOCK) * -(-cols // LANES))]


def block_rows(b: Array, place: float) -> Array:
    """Row `place` of every block of 16 rows of b [.., m 16, cols], 16 times."""
    return np.repeat(b[..., int(place) :: BLOCK, :], BLOCK, axis=-2)


def on_diagonal(dst: Array, a: Array) -> Array:
    """dst [.., n, n] with the blocks of a [.., n, 16] on its diagonal."""
    result = np.broadcast_to(dst, np.broadcast_shapes(dst.shape, (*a.shape[:-1], dst.shape[-1]))).copy()
    for start in range(0, a.shape[-2], BLOCK):
        here = slice(start, start + BLOCK)
        result[..., here, here] = a[..., here, :]
    return result


def running_sum_instructions(
    rows: int, cols: int, _: int, waits_for_copies: bool = True
) -> list[Instruction | HandOver]:
    """Row by row: add to an accumulator row, copy that out; each needs the one before, or, unless that
    `waits_for_copies`, only the sums do."""
    return [
        Instruction("copy", 1, cols, count=2, dependent=True),
        *(rows - 1)
        * [
            Instruction("add", 1, cols, dependent=True),
            Instruction("copy", 1, cols, dependent=waits_for_copies),
        ],
    ]
