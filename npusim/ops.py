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


@dataclass(frozen=True)
class Instruction:
    """`count` hardware vector instructions of `rows` x `cols` elements each.

    `dependent`: each needs the result of the one before, so its latency shows in between.
    """

    function: str
    rows: int
    cols: int
    count: int = 1
    dependent: bool = False


Expansion = Callable[[int, int, int], list[Instruction]]


@dataclass(frozen=True)
class VectorOp:
    """A vector function: shapes by `rule`, values by `compute`, instructions by `expand`.

    `expand(rows, cols, inner)` gets the destination's shape on one vector core and the rows of the
    last source. None: one instruction of the function's own name over the destination.
    """

    meaning: str
    sources: int
    rule: str
    compute: Callable[..., Array]
    immediate: bool = False
    accumulates: bool = False
    expand: Expansion | None = None
    scalar_lockstep: bool = False


def _tree_sum(rows: int, cols: int) -> list[Instruction]:
    """Sum over rows by halving: ceil(log2 rows) dependent adds."""
    steps = []
    while rows > 1:
        rows = (rows + 1) // 2
        steps.append(Instruction("add", rows, cols, dependent=True))
    return steps


def _vecmat_instructions(rows: int, cols: int, inner: int) -> list[Instruction]:
    """dst += row @ matrix: the row's elements become 32-byte blocks, scale the rows, tree sum, add."""
    return [
        Instruction("cast", 1, inner, dependent=True),
        Instruction("brcb", inner, 8, dependent=True),
        Instruction("mul", inner, cols, dependent=True),
        *_tree_sum(inner, cols),
        Instruction("add", 1, cols, dependent=True),
    ]


def _identity(rows: int, cols: int) -> Array:
    return np.eye(rows, cols)


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
    "row_sum": VectorOp("sum of each row", 1, "to_column", lambda a: a.sum(-1, keepdims=True)),
    "row_max": VectorOp("largest of each row", 1, "to_column", lambda a: a.max(-1, keepdims=True)),
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
        expand=lambda rows, cols, _: [Instruction("fill", 1, cols, count=rows)],
        scalar_lockstep=True,
    ),
    "col_broadcast": VectorOp(
        "a row copied to every row: one copy per row",
        1,
        "from_row",
        lambda a: a,
        expand=lambda rows, cols, _: [Instruction("copy", 1, cols, count=rows)],
    ),
    "vecmat": VectorOp(
        "dst + row @ matrix, in the destination's precision",
        2,
        "vecmat",
        np.matmul,
        accumulates=True,
        expand=_vecmat_instructions,
    ),
}
"""What the vector unit can compute. numpy evaluates `compute` on [batch, rows, cols] carriers."""
