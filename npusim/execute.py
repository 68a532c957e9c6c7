"""Executing a tile graph in numpy with the machine's number formats: the living definition of its values.

Independent items run as a batch axis, in blocks of bounded memory; loops inside run in order. Rounding
and quantisation happen where a write changes the dtype, and nowhere else. No machine is needed.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from npusim import dtypes
from npusim.dtypes import dtype
from npusim.errors import InputError
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
    tiles_of,
)
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

    `max_abs` in real values; `nonfinite` counts inf and NaN, `saturated` integers beyond their range.
    """

    name: str
    dtype: str
    limit: float
    max_abs: float = 0.0
    nonfinite: int = 0
    saturated: int = 0


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


def execute(kernel: Kernel, inputs: Mapping[str, Array], samples: int | None = None) -> Execution:
    """Run `kernel` on `inputs`: real values by tensor name, in the tensors' shapes.

    `samples`: compute about so many items only, spread over all (None: all), which gives the right values
    where no phase needs what another one's items wrote. Raises InputError where an input is missing or of
    another shape.
    """
    memory: dict[Tensor, Array] = {}
    for tensor in kernel.tensors:
        if tensor.role in ("output", "workspace"):
            memory[tensor] = np.full(tensor.shape, UNWRITTEN, dtype(tensor.dtype).carrier)
            continue
        value = tensor.value if tensor.role == "constant" else inputs.get(tensor.name)
        if value is None or tuple(value.shape) != tensor.shape:
            given = "missing" if value is None else f"of shape {tuple(value.shape)}"
            raise InputError(f"{kernel.name}: input {tensor.name} is {given}; it takes {tensor.shape}")
        memory[tensor] = _encode(np.asarray(value), tensor.dtype, tensor.scale)[0]
    dealt = [node for phase in kernel.phases for node in phase.nodes if isinstance(node, Items)]
    total = sum(node.total for node in dealt)
    run = _Run(memory, (samples, total) if samples and samples < total else (1, 1))
    for phase in kernel.phases:
        run.nodes(phase.nodes, {})
    seen: dict[str, dict[str, Array]] = {"input": {}, "output": {}, "constant": {}, "workspace": {}}
    for tensor, value in memory.items():
        seen[tensor.role][tensor.name] = _decode(value, tensor.dtype, tensor.scale)
    written = {tensor.name: reached for tensor, reached in run.written.items()}
    items = (run.computed, total) if dealt else (1, 1)
    return Execution(seen["input"], seen["output"], written, list(run.ranges.values()), items)


def _encode(x: Array, name: str, scale: float) -> tuple[Array, int]:
    """Real values in the carrier of a dtype, and how many saturated."""
    target = dtype(name)
    if target.kind == "int":
        return dtypes.quantise(x, target, scale)
    return dtypes.round_to(x, target), 0


def _decode(x: Array, name: str, scale: float) -> Array:
    """The real values of a carrier; a power of two is exact in any precision, other scales take float64."""
    if dtype(name).kind != "int":
        return x
    return x * scale if math.frexp(scale)[0] == 0.5 else x.astype(np.float64) * scale


class _Run:
    """The state of an execution: versions of every tile, memory, and what was seen."""

    def __init__(self, memory: dict[Tensor, Array], share: tuple[int, int]) -> None:
        self.memory, self.share = memory, share
        self.written = {t: np.zeros(t.shape, bool) for t in memory if t.role in ("output", "workspace")}
        self.computed = 0
        self.tiles: dict[Tile, deque[Array]] = {}
        self.ranges: dict[tuple[str, str], Range] = {}
        self.batch = 1
        self.active: npt.NDArray[np.bool_] | None = None
        self.items: Array = np.zeros(1, dtype=np.int64)

    # --- structure -----------------------------------------------------------------------------

    def nodes(self, nodes: tuple[Node, ...], env: dict[str, Any]) -> None:
        for node in nodes:
            if isinstance(node, Operation):
                with blaming(node.where):
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
        tiles = {view.tile for op in operations(body) for view in tiles_of(op)}
        each = sum(8 * tile.shape[0] * tile.shape[1] for tile in tiles)
        size = max(1, BLOCK_BYTES // max(each, 1))
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
        if op.kind is OpKind.store:
            self.store(op, env)
            return
        dst = op.dst
        assert isinstance(dst, View)
        if op.kind is OpKind.matmul:
            value, saturated = self.product(op, env)
        elif op.kind is OpKind.vector:
            value, saturated = self.vector(op, env)
        else:
            value, saturated = self.copied(op, dst.tile.dtype, dst.tile.scale, env)
        self.write(dst, value, op, env)
        if op.kind is not OpKind.move or self.converts(op):
            self.note(op.name, dst.tile.dtype, dst.tile.scale, value, saturated)

    def product(self, op: Operation, env: dict[str, Any]) -> tuple[Array, int]:
        assert isinstance(op.dst, View)
        a, b = (self.read(src, env) for src in op.srcs if isinstance(src, View))
        masks = op.fractals or (None, None)
        a, b = (
            x if mask is None else np.where(_elements(mask, x), x, x.dtype.type(0))
            for x, mask in zip((a, b), masks, strict=True)
        )
        operands = op.srcs[0]
        assert isinstance(operands, View)
        onto = self.read(op.dst, env) if op.adds else None
        return dtypes.matmul(a, b, dtype(operands.tile.dtype), onto)

    def vector(self, op: Operation, env: dict[str, Any]) -> tuple[Array, int]:
        """Elementwise and row functions compute in fp32 (fp64 where the destination is)."""
        assert isinstance(op.dst, View)
        tile, function = op.dst.tile, VECTOR[op.function]
        wide = np.float64 if tile.dtype == "fp64" else np.float32
        operands: list[Any] = []
        for src in op.srcs:
            assert isinstance(src, View)
            operands.append(
                _decode(self.read(src, env), src.tile.dtype, src.tile.scale).astype(wide, copy=False)
            )
        if function.accumulates:
            operands.insert(
                0, _decode(self.read(op.dst, env), tile.dtype, tile.scale).astype(wide, copy=False)
            )
        elif function.rule == "none":
            operands.append(op.dst.shape)
        if function.immediate:
            operands.append(wide(op.immediate if op.immediate is not None else 0.0))
        if function.stepwise:
            operands.append(
                lambda x: _decode(_encode(x, tile.dtype, tile.scale)[0], tile.dtype, tile.scale).astype(wide)
            )
        with np.errstate(all="ignore"):
            value = np.asarray(function.compute(*operands), dtype=wide)
        value = np.broadcast_to(value, (*value.shape[:-2], *op.dst.shape))
        return _encode(value if value.ndim == 3 else value[None], tile.dtype, tile.scale)

    def copied(self, op: Operation, target: str, scale: float, env: dict[str, Any]) -> tuple[Array, int]:
        """A load's or move's values in the destination's dtype."""
        src = op.srcs[0]
        if isinstance(src, Access):
            value, source, old = self.fetch(src, env), src.tensor.dtype, src.tensor.scale
        else:
            value, source, old = self.read(src, env), src.tile.dtype, src.tile.scale
        if op.transpose and op.transpose[0]:
            value = np.swapaxes(value, -1, -2)
        if (source, old) == (target, scale):
            return value, 0
        return _encode(_decode(value, source, old), target, scale)

    def store(self, op: Operation, env: dict[str, Any]) -> None:
        dst = op.dst
        assert isinstance(dst, Access)
        value, saturated = self.copied(op, dst.tensor.dtype, dst.tensor.scale, env)
        self.note(op.name, dst.tensor.dtype, dst.tensor.scale, value, saturated)
        where = self.places(dst, env)
        value = np.broadcast_to(value, (self.batch, *dst.shape))
        if self.active is not None:
            where = tuple(np.broadcast_to(w, (self.batch, *w.shape[1:]))[self.active] for w in where)
            value = value[self.active]
        self.memory[dst.tensor][where] = value
        self.written[dst.tensor][where] = True

    @staticmethod
    def converts(op: Operation) -> bool:
        src, dst = op.srcs[0], op.dst
        if not (isinstance(src, View) and isinstance(dst, View)):
            return True
        return (src.tile.dtype, src.tile.scale) != (dst.tile.dtype, dst.tile.scale)

    # --- values --------------------------------------------------------------------------------

    def read(self, view: View, env: dict[str, Any]) -> Array:
        """[batch or 1, rows, cols] in the tile's carrier."""
        value = self.tiles[view.tile][-1 - view.back]
        return value if view.whole else value[(slice(None), *_window(view, env))]

    def write(self, dst: View, value: Array, op: Operation, env: dict[str, Any]) -> None:
        versions = self.tiles.setdefault(dst.tile, deque(maxlen=dst.tile.slots))
        mask = op.fractals[0] if op.kind is OpKind.move and op.fractals else None
        partial = not dst.whole or mask is not None or self.active is not None
        if not partial:
            if op.into and versions:
                versions[-1] = value
            else:
                versions.append(value)
            return
        shape = (max(self.batch, len(value)), *dst.tile.shape)
        before = versions[-1] if versions else np.full((1, 1, 1), UNWRITTEN, value.dtype)
        whole = np.broadcast_to(before if op.into else UNWRITTEN, shape).astype(value.dtype)
        window = (slice(None), *_window(dst, env))
        taken: Any = True if mask is None else _elements(mask, value)
        whole[window] = np.where(taken, value, whole[window])
        if self.active is not None:  # items that have finished keep what they have
            whole = np.where(self.active[:, None, None], whole, before)
        if op.into and versions:
            versions[-1] = whole
        else:
            versions.append(whole)

    def fetch(self, access: Access, env: dict[str, Any]) -> Array:
        """[batch or 1, rows, cols] from memory."""
        return self.memory[access.tensor][self.places(access, env)]

    def places(self, access: Access, env: dict[str, Any]) -> tuple[Array, ...]:
        """Index arrays [batch or 1, 1, 1], .., [.., rows, 1], [.., 1, cols] into the tensor."""
        lead = [self.place(index, env) for index in access.lead]
        row = self.place(access.row, env) + np.arange(access.rows)[:, None]
        col = self.place(access.col, env) + np.arange(access.cols)
        return (*lead, row, col)

    def place(self, index: Index, env: dict[str, Any]) -> Array:
        """[batch or 1, 1, 1]; items that have finished, and may be beyond the tensor, stay at the start."""
        value: Array = np.reshape(index.evaluate(env), (-1, 1, 1))
        return value if self.active is None else np.where(self.active[:, None, None], value, 0)

    def note(self, name: str, dtype_name: str, scale: float, value: Array, saturated: int) -> None:
        """Update the range of what operation `name` writes."""
        if self.active is not None:
            value = np.broadcast_to(value, (self.batch, *value.shape[1:]))[self.active]
        key = (name, dtype_name)
        kind = dtype(dtype_name)
        unit = scale if kind.kind == "int" else 1.0
        seen = self.ranges.setdefault(key, Range(name, dtype_name, kind.limit * unit))
        with np.errstate(all="ignore"):
            largest = float(max(value.max(initial=0.0), -value.min(initial=0.0))) * unit
        if not np.isfinite(largest):
            finite = np.isfinite(value)
            seen.nonfinite += int(value.size - np.count_nonzero(finite))
            largest = float(np.abs(value, where=finite, out=np.zeros_like(value)).max()) * unit
        seen.max_abs = max(seen.max_abs, largest)
        seen.saturated += saturated


def _window(view: View, env: dict[str, Any]) -> tuple[slice, slice]:
    row, col = int(view.row.evaluate(env)), int(view.col.evaluate(env))
    return slice(row, row + view.rows), slice(col, col + view.cols)


def _elements(mask: Bools, like: Array) -> Array:
    """A fractal mask as a mask over the elements of `like`."""
    edge = like.shape[-1] // mask.shape[-1]
    return np.kron(mask, np.ones((edge, edge), dtype=bool))
