"""The closed tables: what an operation can be, and what a vector instruction can compute.

Anything a kernel does is one of `OpKind`; anything its vector unit computes is one of `VECTOR`.
Composite vector functions say into which hardware instructions they expand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class OpKind(StrEnum):
    """One line each; `OPERATIONS` carries the meaning."""

    load = "load"
    store = "store"
    move = "move"
    matmul = "matmul"
    vector = "vector"
    scalar = "scalar"
    wait = "wait"
    barrier = "barrier"


OPERATIONS: dict[OpKind, str] = {
    OpKind.load: "copy from global memory into a tile, rounding to the tile's dtype",
    OpKind.store: "copy a tile to global memory, rounding to the tensor's dtype",
    OpKind.move: "copy between on-chip levels; may round, transpose, or take some fractals only",
    OpKind.matmul: "product of an L0A and an L0B tile into an L0C accumulator, or added to it",
    OpKind.vector: "a named elementwise, row or reduction function on UB tiles",
    OpKind.scalar: "work of the scalar unit; with a source, a read of a vector result",
    OpKind.wait: "stop a core's scalar unit until a tile is ready there",
    OpKind.barrier: "stop a core's scalar unit until one unit, or all units of its core, run empty",
}


LANES = 64
"""fp32 elements of one repeat of 256 bytes"""
MASK_SETTINGS = 2
"""scalar instructions that set the vector mask: its 128 lanes are two registers (pto-isa, A2/A3)"""


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


Expansion = Callable[[int, int, int], list[Instruction | HandOver]]


@dataclass(frozen=True)
class VectorOp:
    """A vector function: shapes by `rule`, values by `compute`, instructions by `expand`.

    `compute` gets the destination's old value if it `accumulates` (else its shape if there are no sources),
    the sources, the immediate value, and if it is `stepwise` a function that rounds to the destination's
    dtype, as each of its instructions does. `expand(rows, cols, inner)` gets the destination's shape on one
    vector core (of a column that rows are reduced to: their length) and the rows of the last source. None:
    one instruction of the function's own name over the destination.
    """

    meaning: str
    sources: int
    rule: str
    compute: Callable[..., Array]
    immediate: bool = False
    accumulates: bool = False
    expand: Expansion | None = None
    stepwise: bool = False
    scalar_lockstep: bool = False
    """it has hand-overs, so that the scalar unit issues nothing else meanwhile"""


def _tree_sum(rows: int, cols: int) -> list[Instruction | HandOver]:
    """Sum over rows by halving: ceil(log2 rows) dependent adds."""
    steps: list[Instruction | HandOver] = []
    while rows > 1:
        rows = (rows + 1) // 2
        steps.append(Instruction("add", rows, cols, dependent=True))
    return steps


def _folded(fold: str, reduce: str, rows: int, cols: int) -> list[Instruction | HandOver]:
    """A reduction of rows: an instruction reduces one repeat to one element, so longer rows are folded first,
    and shorter ones take a repeat each as well."""
    folds = -(-cols // LANES) - 1
    steps: list[Instruction | HandOver] = [Instruction(fold, rows, LANES, count=folds)] if folds else []
    return [*steps, Instruction(reduce, rows, LANES)]


def _vecmat_instructions(rows: int, cols: int, inner: int) -> list[Instruction | HandOver]:
    """dst += row @ matrix: the row's elements become 32-byte blocks, scale the rows, tree sum, add."""
    return [
        Instruction("cast", 1, inner, dependent=True),
        Instruction("brcb", inner, 8, dependent=True),
        Instruction("mul", inner, cols, dependent=True),
        *_tree_sum(inner, cols),
        Instruction("add", 1, cols, dependent=True),
    ]


def _identity(shape: tuple[int, int]) -> Array:
    return np.eye(*shape)


def _unit(shape: tuple[int, int], place: float) -> Array:
    return np.eye(1, shape[1], int(place))


# --- substitution: many dependent steps in one function ------------------------------------------


def _sweep(b: Array, matrix: Array, rounded: Callable[[Array], Array]) -> Array:
    """x M = b for unit lower triangular M, last element first: b[:k] -= b[k] M[k, :k]. [.., 1, n]."""
    x = np.broadcast_to(b, np.broadcast_shapes(b.shape, (*matrix.shape[:-2], 1, b.shape[-1]))).copy()
    for k in range(x.shape[-1] - 1, 0, -1):
        x[..., :k] = rounded(x[..., :k] - x[..., k : k + 1] * matrix[..., k : k + 1, :k])
    return x


def _sweep_instructions(cols: int, every: HandOver, empty_last: bool) -> list[Instruction | HandOver]:
    """A hand-over and an axpy over k elements for k = cols - 1 .. 1."""
    steps: list[Instruction | HandOver] = []
    for k in range(cols - 1, 0, -1):
        steps += [every, Instruction("axpy", 1, k, dependent=True, masked=True)]
    return [*steps, every] if empty_last else steps


def _blocks(tall: Array) -> Array:
    """[.., m b, b] as [.., m, b, b]."""
    b = tall.shape[-1]
    return tall.reshape(*tall.shape[:-2], -1, b, b)


def _row_step(tall: Array, row: float) -> Array:
    """Row i of every block += itself @ its block."""
    blocks, i = _blocks(tall).copy(), int(row)
    blocks[..., i, :] += np.matmul(blocks[..., i : i + 1, :], blocks)[..., 0, :]
    return blocks.reshape(tall.shape)


def _row_step_instructions(rows: int, cols: int, _: int) -> list[Instruction | HandOver]:
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


LANES = 64
"""values of fp32 in a repeat"""
BLOCK = 16
"""rows of a sub-block of a chunk, and of a fractal"""


def _stepped(function: str, rows: int, cols: int) -> list[Instruction | HandOver]:
    """`function` of `rows` rows and one row that stays: per repeat of the row an instruction that steps over
    the others (Ascend C: a repeat stride of 0 for one operand)."""
    return [Instruction(function, rows, min(cols, LANES), count=-(-cols // LANES))]


def _stepped_blocks(function: str, rows: int, cols: int) -> list[Instruction | HandOver]:
    """The same for every block of 16 rows and a row of its own."""
    return [Instruction(function, BLOCK, min(cols, LANES), count=-(-rows // BLOCK) * -(-cols // LANES))]


def _block_rows(b: Array, place: float) -> Array:
    """Row `place` of every block of 16 rows of b [.., m 16, cols], 16 times."""
    return np.repeat(b[..., int(place) :: BLOCK, :], BLOCK, axis=-2)


def _on_diagonal(dst: Array, a: Array) -> Array:
    """dst [.., n, n] with the blocks of a [.., n, 16] on its diagonal."""
    result = np.broadcast_to(dst, np.broadcast_shapes(dst.shape, (*a.shape[:-1], dst.shape[-1]))).copy()
    for start in range(0, a.shape[-2], BLOCK):
        here = slice(start, start + BLOCK)
        result[..., here, here] = a[..., here, :]
    return result


def _running_sum_instructions(rows: int, cols: int, _: int) -> list[Instruction | HandOver]:
    """Row by row: add to an accumulator row, copy that out; each needs the one before."""
    return [
        Instruction("copy", 1, cols, count=2, dependent=True),
        *(rows - 1)
        * [Instruction("add", 1, cols, dependent=True), Instruction("copy", 1, cols, dependent=True)],
    ]


VECTOR: dict[str, VectorOp] = {
    "add": VectorOp("a + b", 2, "same", np.add),
    "sub": VectorOp("a - b", 2, "same", np.subtract),
    "mul": VectorOp("a * b", 2, "same", np.multiply),
    "div": VectorOp("a / b", 2, "same", np.divide),
    "max": VectorOp("larger of a and b", 2, "same", np.maximum),
    "min": VectorOp("smaller of a and b", 2, "same", np.minimum),
    "adds": VectorOp("a + immediate", 1, "same", np.add, immediate=True),
    "muls": VectorOp("a * immediate", 1, "same", np.multiply, immediate=True),
    "maxs": VectorOp("larger of a and immediate", 1, "same", np.maximum, immediate=True),
    "mins": VectorOp("smaller of a and immediate", 1, "same", np.minimum, immediate=True),
    "exp": VectorOp("e to the a", 1, "same", np.exp),
    "ln": VectorOp("natural logarithm of a", 1, "same", np.log),
    "sqrt": VectorOp("square root of a", 1, "same", np.sqrt),
    "rsqrt": VectorOp("1 over the square root of a", 1, "same", lambda a: 1 / np.sqrt(a)),
    "abs": VectorOp("magnitude of a", 1, "same", np.abs),
    "cast": VectorOp("a in the destination's dtype", 1, "same", lambda a: a),
    "copy": VectorOp("a", 1, "same", lambda a: a),
    "fill": VectorOp("the immediate everywhere", 0, "none", np.full, immediate=True),
    "identity": VectorOp(
        "the identity matrix: a fill, then one masked fill per row",
        0,
        "none",
        _identity,
        expand=lambda rows, cols, _: [
            Instruction("fill", rows, cols),
            Instruction("fill", 1, 1, count=rows),
        ],
    ),
    "unit": VectorOp(
        "the unit row that is 1 at the immediate: a fill, and a scalar write",
        0,
        "none",
        _unit,
        immediate=True,
        expand=lambda rows, cols, _: [Instruction("fill", rows, cols, dependent=True), HandOver(writes=1)],
        scalar_lockstep=True,
    ),
    "row_sum": VectorOp(
        "sum of each row: added up to the elements of one repeat, which an instruction sums",
        1,
        "to_column",
        lambda a: a.sum(-1, keepdims=True),
        expand=lambda rows, cols, _: _folded("add", "row_sum", rows, cols),
    ),
    "row_max": VectorOp(
        "largest of each row: compared down to the elements of one repeat, of which an instruction finds it",
        1,
        "to_column",
        lambda a: a.max(-1, keepdims=True),
        expand=lambda rows, cols, _: _folded("max", "row_max", rows, cols),
    ),
    "row_place": VectorOp(
        "where the largest of each row stands: instructions give it with the largest of each repeat",
        1,
        "to_column",
        lambda a: a.argmax(-1, keepdims=True),
        expand=lambda rows, cols, _: [Instruction("row_max", rows, LANES, count=-(-cols // LANES))],
    ),
    "transpose": VectorOp(
        "a transposed, in blocks of 16 x 16 or 16 x 8", 1, "turned", lambda a: np.swapaxes(a, -1, -2)
    ),
    "col_sum": VectorOp(
        "sum of each column, by halving",
        1,
        "to_row",
        lambda a: a.sum(-2, keepdims=True),
        expand=lambda _, cols, inner: _tree_sum(inner, cols),
    ),
    "row_broadcast": VectorOp(
        "a column's element along each row: per row a scalar read and a fill, in lock step",
        1,
        "from_column",
        lambda a: a,
        expand=lambda rows, cols, _: [HandOver(rows, reads=1), Instruction("fill", 1, cols, count=rows)],
        scalar_lockstep=True,
    ),
    "col_broadcast": VectorOp(
        "a row copied to every row: one copy per row",
        1,
        "from_row",
        lambda a: a,
        expand=lambda rows, cols, _: [Instruction("copy", 1, cols, count=rows)],
    ),
    "column": VectorOp(
        "a row as a column: one copy, as both are contiguous",
        1,
        "row_to_column",
        lambda a: np.swapaxes(a, -1, -2),
        expand=lambda rows, _, __: [Instruction("copy", 1, rows)],
    ),
    "mul_scalar": VectorOp(
        "a times the one element of b, which the scalar unit has read (builder.scalar)",
        2,
        "by_scalar",
        np.multiply,
        expand=lambda rows, cols, _: [Instruction("muls", rows, cols)],
    ),
    "add_scalar": VectorOp(
        "a plus the one element of b, which the scalar unit has read (builder.scalar)",
        2,
        "by_scalar",
        np.add,
        expand=lambda rows, cols, _: [Instruction("adds", rows, cols)],
    ),
    "running_sum": VectorOp(
        "sum of the rows up to each: per row an add and a copy, each waiting for the one before",
        1,
        "down",
        lambda a: a.cumsum(-2),
        expand=_running_sum_instructions,
    ),
    "scale_rows": VectorOp(
        "rows of a times the elements of column b: these become 32-byte blocks that the rows step over",
        2,
        "by_column",
        np.multiply,
        expand=lambda rows, cols, _: [
            Instruction("brcb", rows, 8, dependent=True),
            Instruction("mul", rows, cols),
        ],
    ),
    "sub_rows": VectorOp(
        "rows of a minus the elements of column b, which become blocks as for scale_rows",
        2,
        "by_column",
        np.subtract,
        expand=lambda rows, cols, _: [
            Instruction("brcb", rows, 8, dependent=True),
            Instruction("sub", rows, cols),
        ],
    ),
    "scale_cols": VectorOp(
        "columns of a times the elements of row b, which stays; several rows b share the rows of a evenly, each "
        "serving so many in a row",
        2,
        "by_row",
        lambda a, b: a * np.repeat(b, a.shape[-2] // b.shape[-2], axis=-2),
        expand=lambda rows, cols, _: _stepped("mul", rows, cols),
    ),
    "sub_from_row": VectorOp(
        "row b minus each row of a: b stays while an instruction steps over the rows",
        2,
        "by_row",
        lambda a, b: np.repeat(b, a.shape[-2] // b.shape[-2], axis=-2) - a,
        expand=lambda rows, cols, _: _stepped("sub", rows, cols),
    ),
    "outer": VectorOp(
        "column a times row b: a becomes 32-byte blocks that the rows step over, b stays",
        2,
        "outer",
        np.multiply,
        expand=lambda rows, cols, _: [
            Instruction("brcb", rows, 8, dependent=True),
            *_stepped("mul", rows, cols),
        ],
    ),
    "block_sub": VectorOp(
        "a minus, in every block of 16 rows, that row of b which the immediate names",
        2,
        "by_blocks",
        lambda a, b, place: a - _block_rows(b, place),
        immediate=True,
        expand=lambda rows, cols, _: _stepped_blocks("sub", rows, cols),
    ),
    "block_mul": VectorOp(
        "a times, in every block of 16 rows, that row of b which the immediate names",
        2,
        "by_blocks",
        lambda a, b, place: a * _block_rows(b, place),
        immediate=True,
        expand=lambda rows, cols, _: _stepped_blocks("mul", rows, cols),
    ),
    "to_diagonal": VectorOp(
        "blocks of 16 x 16, whose columns lie one after another, onto the diagonal of dst: transposed and "
        "copied",
        1,
        "to_blocks",
        _on_diagonal,
        accumulates=True,
        expand=lambda rows, _, __: [
            Instruction("transpose", rows, BLOCK, dependent=True),
            Instruction("copy", BLOCK, BLOCK, count=-(-rows // BLOCK)),
        ],
    ),
    "replace_equal": VectorOp(
        "a, with the immediate where it equals its row's element of column b: a comparison and a select",
        2,
        "by_column",
        lambda a, b, value: np.asarray(np.where(a == b, value, a)),
        immediate=True,
        expand=lambda rows, cols, _: [
            Instruction("brcb", rows, 8, dependent=True),
            Instruction("select", rows, cols, count=2, dependent=True),
        ],
    ),
    "vecmat": VectorOp(
        "dst + row @ matrix, in the destination's precision",
        2,
        "vecmat",
        lambda dst, row, matrix: dst + np.matmul(row, matrix),
        accumulates=True,
        expand=_vecmat_instructions,
    ),
    "sweep": VectorOp(
        "x M = dst for unit lower triangular M, element by element from the last: a scalar read and an axpy",
        1,
        "sweep",
        _sweep,
        accumulates=True,
        expand=lambda _, cols, __: _sweep_instructions(cols, HandOver(reads=1, alus=1), False),
        stepwise=True,
        scalar_lockstep=True,
    ),
    "sweep_kept": VectorOp(
        "the same, the scalar unit also keeping each element in UB: read, write, read, convert and negate",
        1,
        "sweep",
        _sweep,
        accumulates=True,
        expand=lambda _, cols, __: _sweep_instructions(cols, HandOver(reads=2, writes=1, alus=2), True),
        stepwise=True,
        scalar_lockstep=True,
    ),
    "block_row_step": VectorOp(
        "in every square block, the row at the immediate += itself @ the block",
        0,
        "blocks",
        _row_step,
        immediate=True,
        accumulates=True,
        expand=_row_step_instructions,
    ),
    "minus_lower": VectorOp(
        "minus the strictly lower triangle of every square block: a transposing copy, a negation, a mask",
        1,
        "blocks",
        lambda tall: -np.tril(_blocks(tall), -1).reshape(tall.shape),
        expand=lambda rows, cols, _: [
            Instruction("transpose", rows, cols, dependent=True),
            Instruction("muls", rows, cols, dependent=True),
            Instruction("mul", rows, cols),
        ],
    ),
    "plus_identity": VectorOp(
        "every square block plus the identity: a comparison of indices, an add, a select",
        1,
        "blocks",
        lambda tall: (_blocks(tall) + np.eye(tall.shape[-1])).reshape(tall.shape),
        expand=lambda rows, cols, _: [
            Instruction("select", rows, cols, dependent=True),
            Instruction("add", rows, cols, dependent=True),
            Instruction("select", rows, cols),
        ],
    ),
    "masked_cast": VectorOp(
        "a in the destination's dtype, after six operations on the indices of a masked load",
        1,
        "same",
        lambda a: a,
        expand=lambda rows, cols, _: [
            Instruction("select", rows, cols, count=6, dependent=True),
            Instruction("cast", rows, cols),
        ],
    ),
}
"""What the vector unit can compute. numpy evaluates `compute` on [batch, rows, cols] carriers."""
