"""Executing a tile graph in numpy with the machine's number formats: the living definition of its values.

Independent items run as a batch axis, in blocks of bounded memory; loops inside run in order. Rounding
and quantisation happen where a write changes the dtype, and nowhere else. No machine is needed.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from npusim import dtypes
from npusim.dtypes import dtype
from npusim.errors import InputError
from npusim.fractals import elements, masked
from npusim.graph import (
    Access,
    Bools,
    Index,
    Items,
    Kernel,
    Loop,
    Node,
    Operation,
    Tensor,
    Tile,
    View,
    operations,
)
from npusim.memo import Memo, Result
from npusim.ops import VECTOR, OpKind
from npusim.where import blaming

Array = npt.NDArray[Any]
UNWRITTEN = 0.0
"""the value of what nothing wrote; tests set it to NaN, to see that nothing depends on it"""
BLOCK_BYTES = 1 << 26
"""memory that the tiles of one block of items may take together, about"""


@dataclass
class Range:
    """What one operation wrote, over the whole execution, against the limit of its dtype.

    `max_abs` and `limit` in real values, of which one unit stored is `scale`; `nonfinite` counts inf and NaN,
    `saturated` integers beyond their range.
    """

    name: str
    dtype: str
    limit: float
    max_abs: float = 0.0
    nonfinite: int = 0
    saturated: int = 0
    scale: float = 1.0


@dataclass
class Execution:
    """Inputs as stored and outputs, by tensor name (real values, in the shape of the tensor), and the
    range of every result. `written`: which values of an output a store reached (the others are 0).
    `items`: how many independent items were computed, and of how many."""

    inputs: dict[str, Array]
    outputs: dict[str, Array]
    written: dict[str, Bools]
    ranges: list[Range] = field(default_factory=list)
    items: tuple[int, int] = (1, 1)

    @property
    def nonfinite(self) -> int:
        return sum(r.nonfinite for r in self.ranges)

    @property
    def saturated(self) -> int:
        return sum(r.saturated for r in self.ranges)


class Version(NamedTuple):
    """A version of a tile or tensor: its values, and their number in the memo (0 where there is none)."""

    array: Array
    number: int = 0


def execute(
    kernel: Kernel, inputs: Mapping[str, Array], samples: int | None = None, memo: Memo | None = None
) -> Execution:
    """Run `kernel` on `inputs`: real values by tensor name, in the tensors' shapes.

    `samples`: compute about so many items only, spread over all (None: all), which gives the right values
    where no phase needs what another one's items wrote. `memo`: take from it what an execution before has
    computed, of inputs that were the same arrays. Raises InputError where an input is missing or of another
    shape.
    """
    memory: dict[Tensor, Version] = {}
    for tensor in kernel.tensors:
        if tensor.role in ("output", "workspace"):
            blank = np.full(tensor.shape, UNWRITTEN, dtype(tensor.dtype).carrier)
            memory[tensor] = Version(blank, memo.number("blank", tensor.shape, tensor.dtype) if memo else 0)
            continue
        value = tensor.value if tensor.role == "constant" else inputs.get(tensor.name)
        if value is None or tuple(value.shape) != tensor.shape:
            given = "missing" if value is None else f"of shape {tuple(value.shape)}"
            raise InputError(f"{kernel.name}: input {tensor.name} is {given}; it takes {tensor.shape}")
        memory[tensor] = _stored(tensor, np.asarray(value), memo)
    dealt = [node for phase in kernel.phases for node in phase.nodes if isinstance(node, Items)]
    total = sum(node.total for node in dealt)
    run = _Run(memory, (samples, total) if samples and samples < total else (1, 1), memo)
    for phase in kernel.phases:
        run.nodes(phase.nodes, {})
    seen: dict[str, dict[str, Array]] = {"input": {}, "output": {}, "constant": {}, "workspace": {}}
    for tensor, version in run.memory.items():
        seen[tensor.role][tensor.name] = _decode(version.array, tensor.dtype, tensor.scale)
    written = {tensor.name: reached for tensor, reached in run.written.items()}
    items = (run.computed, total) if dealt else (1, 1)
    return Execution(seen["input"], seen["output"], written, list(run.ranges.values()), items)


def _stored(tensor: Tensor, value: Array, memo: Memo | None) -> Version:
    """An input or constant as memory holds it."""

    def encode() -> Result:
        return Result(*_encode(value, tensor.dtype, tensor.scale))

    if memo is None:
        return Version(encode().value)
    own = value.tobytes() if tensor.role == "constant" else memo.given(value)
    number = memo.number("stored", own, tensor.shape, tensor.dtype, tensor.scale)
    return Version(memo.result(number, encode).value, number)


def _encode(x: Array, name: str, scale: float) -> tuple[Array, int]:
    """Real values in the carrier of a dtype, and how many saturated."""
    target = dtype(name)
    if target.kind == "int":
        return dtypes.quantise(x, target, scale)
    return dtypes.round_to(x if scale == 1.0 else x / x.dtype.type(scale), target), 0


def _decode(x: Array, name: str, scale: float) -> Array:
    """The real values of a carrier; a power of two is exact in any precision, other scales take float64."""
    if scale == 1.0:
        return x
    return x * scale if math.frexp(scale)[0] == 0.5 else x.astype(np.float64) * scale


class _Run:
    """The state of an execution: versions of every tile, memory, and what was seen."""

    def __init__(
        self, memory: dict[Tensor, Version], share: tuple[int, int], memo: Memo | None = None
    ) -> None:
        self.memory, self.share, self.memo = memory, share, memo
        self.written = {t: np.zeros(t.shape, bool) for t in memory if t.role in ("output", "workspace")}
        self.computed = 0
        self.tiles: dict[Tile, deque[Version]] = {}
        self.ranges: dict[tuple[str, str, float], Range] = {}
        self.batch = 1
        self.active: npt.NDArray[np.bool_] | None = None
        self.items: Array = np.zeros(1, dtype=np.int64)

    # --- structure -----------------------------------------------------------------------------

    def nodes(self, nodes: tuple[Node, ...], env: dict[str, Any]) -> None:
        for node in nodes:
            if isinstance(node, Operation):
                with blaming(node.where) if node.where else nullcontext():
                    self.operation(node, env)
            elif isinstance(node, Loop):
                self.loop(node, env)
            else:
                full = node.total // node.group
                self.trips(node, node.body, self.sampled(full), node.group, env)
                if node.ragged:
                    self.trips(node, node.ragged, np.array([full]), node.total % node.group, env)

    def sampled(self, full: int) -> npt.NDArray[np.int64]:
        """Numbers of the trips to run, spread evenly over all `full` ones."""
        some, of = self.share
        count = -(-some * full // of)
        return np.arange(count) * full // max(count, 1)

    def loop(self, loop: Loop, env: dict[str, Any]) -> None:
        """In order; items whose own count is reached keep their state while the others go on."""
        counts = np.asarray(loop.count)
        if counts.ndim == 0:
            for trip in range(int(counts)):
                self.nodes(loop.body, {**env, loop.var: trip})
            return
        counts, outer = counts[self.items], self.active
        going = counts if outer is None else counts[outer]
        for trip in range(int(going.max(initial=0))):
            self.active = trip < counts if outer is None else outer & (trip < counts)
            self.nodes(loop.body, {**env, loop.var: trip})
        self.active = outer

    def trips(
        self,
        items: Items,
        body: tuple[Node, ...],
        trips: npt.NDArray[np.int64],
        group: int,
        env: dict[str, Any],
    ) -> None:
        """Run `body` for all `trips` at once, block by block; tiles written before stay as they were."""
        tiles = {view.tile for op in operations(body) for view in op.views}
        each = sum(8 * tile.shape[0] * tile.shape[1] for tile in tiles)
        # a power of two: kernels that differ by a tile have the same blocks, and share what they compute
        size = 1 << max(1, BLOCK_BYTES // max(each, 1)).bit_length() - 1
        outer = {tile: deque(versions, versions.maxlen) for tile, versions in self.tiles.items()}
        for start in range(0, len(trips), size):
            block = trips[start : start + size]
            self.batch, self.items = len(block), block * items.group
            self.computed += len(block) * group
            self.tiles = {tile: deque(versions, versions.maxlen) for tile, versions in outer.items()}
            self.nodes(body, {**env, **items.variables(block, group)})
        self.batch, self.items, self.tiles = 1, np.zeros(1, dtype=np.int64), outer

    # --- operations ----------------------------------------------------------------------------

    def operation(self, op: Operation, env: dict[str, Any]) -> None:
        if op.kind in (OpKind.wait, OpKind.barrier, OpKind.scalar):
            return
        if same := self.renamed(op):
            assert isinstance(op.dst, View)
            self.write(op.dst, same, op, env)
            return
        found, number = self.result(op, env)
        if isinstance(op.dst, Access):
            self.note(op.name, *_format(op.dst), found)
            self.store(op.dst, found.value, number, env)
            return
        assert isinstance(op.dst, View)
        self.write(op.dst, Version(found.value, number), op, env)
        if op.kind is not OpKind.move or self.converts(op):
            self.note(op.name, *_format(op.dst), found)

    def renamed(self, op: Operation) -> Version | None:
        """What a move of a whole tile takes to another that holds it alike: nothing is computed."""
        src = op.srcs[0] if op.srcs else None
        if op.kind is not OpKind.move or not isinstance(src, View) or not src.whole:
            return None
        return None if any(op.transpose) or self.converts(op) else self.tiles[src.tile][-1 - src.back]

    def result(self, op: Operation, env: dict[str, Any]) -> tuple[Result, int]:
        """What `op` gives, and its number: computed, or as the memo has it."""
        if self.memo is None:
            return self.compute(op, env), 0
        number = self.memo.number(*self.key(op, env))
        return self.memo.result(number, lambda: self.compute(op, env)), number

    def key(self, op: Operation, env: dict[str, Any]) -> tuple[Hashable, ...]:
        """All that the result of `op` depends on, its operands by number."""
        assert op.dst is not None
        masks = tuple(None if mask is None else mask.tobytes() for mask in op.fractals)
        reads = op.adds or (op.kind is OpKind.vector and VECTOR[op.function].accumulates)
        operands = [self.seen(src, env) for src in (*op.srcs, *([op.dst] if reads else []))]
        immediate = repr(op.immediate)  # 0.0 and -0.0 are equal
        what = (str(op.kind), op.function, immediate, op.transpose, masks, op.dst.shape)
        return (*what, *_format(op.dst), *operands)

    def seen(self, end: View | Access, env: dict[str, Any]) -> Hashable:
        """What an operand is: the number of a version, the part of it that is taken, and its format."""
        if isinstance(end, View):
            window = None if end.whole else (end.shape, _corner(end, env))
            return self.tiles[end.tile][-1 - end.back].number, window, *_format(end)
        places = [self.place(index, env).tobytes() for index in (*end.lead, end.row, end.col)]
        return self.memory[end.tensor].number, end.shape, *places, *_format(end)

    def compute(self, op: Operation, env: dict[str, Any]) -> Result:
        assert op.dst is not None
        if op.kind is OpKind.matmul:
            return Result(*self.product(op, env))
        if op.kind is OpKind.vector:
            return Result(*self.vector(op, env))
        return Result(*self.copied(op, *_format(op.dst), env))

    def product(self, op: Operation, env: dict[str, Any]) -> tuple[Array, int]:
        assert isinstance(op.dst, View)
        a, b = (self.read(src, env) for src in op.srcs if isinstance(src, View))
        a, b = (masked(x, mask) for x, mask in zip((a, b), op.fractals or (None, None), strict=True))
        operands = op.srcs[0]
        assert isinstance(operands, View)
        onto = self.read(op.dst, env) if op.adds else None
        return dtypes.matmul(a, b, dtype(operands.tile.dtype), onto)

    def vector(self, op: Operation, env: dict[str, Any]) -> tuple[Array, int]:
        """Elementwise and row functions compute in fp32 (fp64 where the destination is)."""
        assert isinstance(op.dst, View)
        tile, scale, function = op.dst.tile, op.dst.scale, VECTOR[op.function]
        wide = np.float64 if tile.dtype == "fp64" else np.float32
        operands: list[Any] = []
        for src in op.srcs:
            assert isinstance(src, View)
            operands.append(_decode(self.read(src, env), src.tile.dtype, src.scale).astype(wide, copy=False))
        if function.accumulates:
            operands.insert(0, _decode(self.read(op.dst, env), tile.dtype, scale).astype(wide, copy=False))
        elif function.rule == "none":
            operands.append(op.dst.shape)
        if function.immediate:
            operands.append(wide(op.immediate if op.immediate is not None else 0.0))
        if function.stepwise:
            operands.append(
                lambda x: _decode(_encode(x, tile.dtype, scale)[0], tile.dtype, scale).astype(wide)
            )
        with np.errstate(all="ignore"):
            value = np.asarray(function.compute(*operands), dtype=wide)
        value = np.broadcast_to(value, (*value.shape[:-2], *op.dst.shape))
        return _encode(value if value.ndim == 3 else value[None], tile.dtype, scale)

    def copied(self, op: Operation, target: str, scale: float, env: dict[str, Any]) -> tuple[Array, int]:
        """A load's or move's values in the destination's dtype."""
        src = op.srcs[0]
        if isinstance(src, Access):
            value, source, old = self.fetch(src, env), src.tensor.dtype, src.tensor.scale
        else:
            value, source, old = self.read(src, env), src.tile.dtype, src.scale
        if op.transpose and op.transpose[0]:
            value = np.swapaxes(value, -1, -2)
        if (source, old) == (target, scale):
            return value, 0
        return _encode(_decode(value, source, old), target, scale)

    def store(self, dst: Access, value: Array, number: int, env: dict[str, Any]) -> None:
        """Put `value` into memory; of items that have finished nothing."""
        version, written = self.memory[dst.tensor], self.written[dst.tensor]
        value = np.broadcast_to(value, (self.batch, *dst.shape))
        where = self.places(dst, env)
        if self.active is not None:
            where = tuple(w if isinstance(w, slice) else self.going(w) for w in where)
            value = value[self.active]
        version.array[where] = value
        written[where] = True
        if self.memo is not None:
            going = None if self.active is None else self.active.tobytes()
            number = self.memo.number("store", version.number, number, self.seen(dst, env), going)
            self.memory[dst.tensor] = Version(version.array, number)

    @staticmethod
    def converts(op: Operation) -> bool:
        src, dst = op.srcs[0], op.dst
        if not (isinstance(src, View) and isinstance(dst, View)):
            return True
        return (src.tile.dtype, src.scale) != (dst.tile.dtype, dst.scale)

    # --- values --------------------------------------------------------------------------------

    def read(self, view: View, env: dict[str, Any]) -> Array:
        """[batch or 1, rows, cols] in the tile's carrier."""
        value = self.tiles[view.tile][-1 - view.back].array
        return value if view.whole else value[(slice(None), *_window(view, env))]

    def write(self, dst: View, new: Version, op: Operation, env: dict[str, Any]) -> None:
        """The next version of a tile, or with `into` another value of the last."""
        versions = self.tiles.setdefault(dst.tile, deque(maxlen=dst.tile.slots))
        mask = op.fractals[0] if op.kind is OpKind.move and op.fractals else None
        before = versions[-1] if versions else Version(np.full((1, 1, 1), UNWRITTEN, new.array.dtype), -1)
        if not dst.whole or mask is not None or self.active is not None:
            new = self.merged(dst, new, before, mask, op.into, env)
        if op.into and versions:
            versions[-1] = new
        else:
            versions.append(new)

    def merged(
        self, dst: View, new: Version, before: Version, mask: Bools | None, into: bool, env: dict[str, Any]
    ) -> Version:
        """A tile of which a part is written; the rest is that of `before` (`into`), or was never written."""

        def merge() -> Result:
            value = new.array
            shape = (max(self.batch, len(value)), *dst.tile.shape)
            whole = np.broadcast_to(before.array if into else UNWRITTEN, shape).astype(value.dtype)
            window = (slice(None), *_window(dst, env))
            if mask is not None:
                value = np.where(elements(mask, value), value, whole[window])
            whole[window] = value
            if self.active is not None:  # items that have finished keep what they have
                whole = np.where(self.active[:, None, None], whole, before.array)
            return Result(whole)

        if self.memo is None:
            return Version(merge().value)
        number = self.memo.number(
            "merge", new.number, before.number, into, dst.tile.shape, dst.shape, _corner(dst, env),
            self.batch,
            None if mask is None else mask.tobytes(),
            None if self.active is None else self.active.tobytes(),
        )  # fmt: skip
        return Version(self.memo.result(number, merge).value, number)

    def fetch(self, access: Access, env: dict[str, Any]) -> Array:
        """[batch or 1, rows, cols] from memory."""
        value: Array = self.memory[access.tensor].array[self.places(access, env)]
        return value

    def places(self, access: Access, env: dict[str, Any]) -> tuple[Any, ...]:
        """Indices into the tensor: arrays [batch or 1] and slices where all items take the same rows and
        columns, else arrays [batch or 1, 1, 1], .., [.., rows, 1], [.., 1, cols]."""
        lead = [self.place(index, env) for index in access.lead]
        row, col = self.place(access.row, env), self.place(access.col, env)
        if lead and row.size == col.size == 1:
            first, left = int(row.item()), int(col.item())
            window = slice(first, first + access.rows), slice(left, left + access.cols)
            return (*(index.reshape(-1) for index in lead), *window)
        return (*lead, row + np.arange(access.rows)[:, None], col + np.arange(access.cols))

    def place(self, index: Index, env: dict[str, Any]) -> Array:
        """[batch or 1, 1, 1]; items that have finished, and may be beyond the tensor, stay at the start."""
        value: Array = np.reshape(index.evaluate(env), (-1, 1, 1))
        return value if self.active is None else np.where(self.active[:, None, None], value, 0)

    def going(self, index: Array) -> Array:
        """Of an index [batch or 1, ..] the part of the items that have not finished."""
        return np.broadcast_to(index, (self.batch, *index.shape[1:]))[self.active]

    def note(self, name: str, kind: str, scale: float, found: Result) -> None:
        """Update the range of what operation `name` writes."""
        if self.active is not None:
            value = np.broadcast_to(found.value, (self.batch, *found.value.shape[1:]))
            found = Result(value[self.active], found.saturated)
        fresh = Range(name, kind, dtype(kind).limit * scale, scale=scale)
        seen = self.ranges.setdefault((name, kind, scale), fresh)
        largest, nonfinite = found.extent
        seen.max_abs = max(seen.max_abs, largest * scale)
        seen.nonfinite += nonfinite
        seen.saturated += found.saturated


def _format(end: View | Access) -> tuple[str, float]:
    """Dtype and scale in which an end of an operation is written or read."""
    return (end.tile.dtype, end.scale) if isinstance(end, View) else (end.tensor.dtype, end.tensor.scale)


def _corner(view: View, env: dict[str, Any]) -> tuple[int, int]:
    return int(view.row.evaluate(env)), int(view.col.evaluate(env))


def _window(view: View, env: dict[str, Any]) -> tuple[slice, slice]:
    row, col = _corner(view, env)
    return slice(row, row + view.rows), slice(col, col + view.cols)
