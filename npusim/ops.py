"""The closed tables: what an operation can be, and what a vector instruction can compute.

Anything a kernel does is one of `OpKind`; anything its vector unit computes is one of `VECTOR`.
Composite vector functions say into which hardware instructions they expand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

import numpy as np

from npusim.instructions import (
    BLOCK,
    LANES,
    Array,
    HandOver,
    Instruction,
    block_rows,
    folded,
    identity,
    on_diagonal,
    row_step,
    row_step_instructions,
    running_sum_instructions,
    square_blocks,
    stepped,
    stepped_blocks,
    sweep,
    sweep_instructions,
    tree_sum,
    unit,
    vecmat_instructions,
)


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


MASK_SETTINGS = 2
"""scalar instructions that set the vector mask: its 128 lanes are two registers (pto-isa, A2/A3)"""


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
    "quantise": VectorOp(
        "a in the destination's dtype and scale: a multiplication by the ratio of the scales, and a cast",
        1,
        "same",
        lambda a: a,
        expand=lambda rows, cols, _: [
            Instruction("muls", rows, cols, dependent=True),
            Instruction("cast", rows, cols),
        ],
    ),
    "copy": VectorOp("a", 1, "same", lambda a: a),
    "fill": VectorOp("the immediate everywhere", 0, "none", np.full, immediate=True),
    "identity": VectorOp(
        "the identity matrix: a fill, then one masked fill per row",
        0,
        "none",
        identity,
        expand=lambda rows, cols, _: [
            Instruction("fill", rows, cols),
            Instruction("fill", 1, 1, count=rows),
        ],
    ),
    "unit": VectorOp(
        "the unit row that is 1 at the immediate: a fill, and a scalar write",
        0,
        "none",
        unit,
        immediate=True,
        expand=lambda rows, cols, _: [Instruction("fill", rows, cols, dependent=True), HandOver(writes=1)],
        scalar_lockstep=True,
    ),
    "row_sum": VectorOp(
        "sum of each row: added up to the elements of one repeat, which an instruction sums",
        1,
        "to_column",
        lambda a: a.sum(-1, keepdims=True),
        expand=lambda rows, cols, _: folded("add", "row_sum", rows, cols),
    ),
    "row_max": VectorOp(
        "largest of each row: compared down to the elements of one repeat, of which an instruction finds it",
        1,
        "to_column",
        lambda a: a.max(-1, keepdims=True),
        expand=lambda rows, cols, _: folded("max", "row_max", rows, cols),
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
        expand=lambda _, cols, inner: tree_sum(inner, cols),
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
        expand=running_sum_instructions,
    ),
    "running_sum_through": VectorOp(
        "the same without barriers: a sum waits for the sum before it, not for the copy of it",
        1,
        "down",
        lambda a: a.cumsum(-2),
        expand=partial(running_sum_instructions, waits_for_copies=False),
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
        "columns of a times the elements of row b, which stays; several rows b share the rows of a evenly, "
        "each serving so many in a row",
        2,
        "by_row",
        lambda a, b: a * np.repeat(b, a.shape[-2] // b.shape[-2], axis=-2),
        expand=lambda rows, cols, _: stepped("mul", rows, cols),
    ),
    "sub_from_row": VectorOp(
        "row b minus each row of a: b stays while an instruction steps over the rows",
        2,
        "by_row",
        lambda a, b: np.repeat(b, a.shape[-2] // b.shape[-2], axis=-2) - a,
        expand=lambda rows, cols, _: stepped("sub", rows, cols),
    ),
    "outer": VectorOp(
        "column a times row b: a becomes 32-byte blocks that the rows step over, b stays",
        2,
        "outer",
        np.multiply,
        expand=lambda rows, cols, _: [
            Instruction("brcb", rows, 8, dependent=True),
            *stepped("mul", rows, cols),
        ],
    ),
    "block_sub": VectorOp(
        "a minus, in every block of 16 rows, that row of b which the immediate names",
        2,
        "by_blocks",
        lambda a, b, place: a - block_rows(b, place),
        immediate=True,
        expand=lambda rows, cols, _: stepped_blocks("sub", rows, cols),
    ),
    "block_mul": VectorOp(
        "a times, in every block of 16 rows, that row of b which the immediate names",
        2,
        "by_blocks",
        lambda a, b, place: a * block_rows(b, place),
        immediate=True,
        expand=lambda rows, cols, _: stepped_blocks("mul", rows, cols),
    ),
    "to_diagonal": VectorOp(
        "blocks of 16 x 16, whose columns lie one after another, onto the diagonal of dst: transposed and "
        "copied",
        1,
        "to_blocks",
        on_diagonal,
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
        expand=vecmat_instructions,
    ),
    "sweep": VectorOp(
        "x M = dst for unit lower triangular M, element by element from the last: a scalar read and an axpy",
        1,
        "sweep",
        sweep,
        accumulates=True,
        expand=lambda _, cols, __: sweep_instructions(cols, HandOver(reads=1, alus=1), False),
        stepwise=True,
        scalar_lockstep=True,
    ),
    "sweep_kept": VectorOp(
        "the same, the scalar unit also keeping each element in UB: read, write, read, convert and negate",
        1,
        "sweep",
        sweep,
        accumulates=True,
        expand=lambda _, cols, __: sweep_instructions(cols, HandOver(reads=2, writes=1, alus=2), True),
        stepwise=True,
        scalar_lockstep=True,
    ),
    "block_row_step": VectorOp(
        "in every square block, the row at the immediate += itself @ the block",
        0,
        "blocks",
        row_step,
        immediate=True,
        accumulates=True,
        expand=row_step_instructions,
    ),
    "minus_lower": VectorOp(
        "minus the strictly lower triangle of every square block: a transposing copy, a negation, a mask",
        1,
        "blocks",
        lambda tall: -np.tril(square_blocks(tall), -1).reshape(tall.shape),
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
        lambda tall: (square_blocks(tall) + np.eye(tall.shape[-1])).reshape(tall.shape),
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
