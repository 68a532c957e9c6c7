"""The builder through which every kernel, built-in or a user's own, writes its tile graph.

It decides what the graph leaves implicit: the route of a move on this target (through global memory
where there is no direct path, nothing at all within one memory), whether a write keeps its tile's
version, and which version a handle still names. This is the one module that algorithms import.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from npusim.arguments import (
    axes_of,
    finite,
    matrix,
    one_of,
    positive,
    settings_of,
    sizes,
    table,
    text,
    whole,
    wrong,
)
from npusim.calls import Call, Decoders, Layer, Pass, Stack
from npusim.dtypes import accumulator
from npusim.dtypes import dtype as find_dtype
from npusim.errors import GraphError, InputError, Unsupported
from npusim.fuse import fuse
from npusim.graph import (
    Access,
    Bools,
    Deal,
    Index,
    Items,
    Kernel,
    Loop,
    Operation,
    Phase,
    Place,
    Tensor,
    Tile,
    View,
    item_variable,
    table_variable,
)
from npusim.kernels import Algorithm, KernelEntry, Shapes
from npusim.names import drop_names, needed, within_one_memory
from npusim.ops import VECTOR, OpKind
from npusim.problem import Decay, Options, Problem, Target
from npusim.writer import Operand, Version, Writer, access_of, copy_kind, view_of

__all__ = [
    "Access",
    "Algorithm",
    "Call",
    "Decay",
    "Decoders",
    "GraphError",
    "Index",
    "InputError",
    "Item",
    "Kernel",
    "KernelBuilder",
    "KernelEntry",
    "Layer",
    "Operand",
    "Options",
    "Pass",
    "Place",
    "Problem",
    "Shapes",
    "Stack",
    "Target",
    "Tensor",
    "Tile",
    "Unsupported",
    "Version",
    "View",
    "accumulator_of",
    "bytes_of",
    "fuse",
    "operand_scale",
]  # fmt: skip

Item = tuple[Index, ...]
"""One value of the items' variables: an index per axis."""


def accumulator_of(dtype: str) -> str:
    """The dtype in which products of `dtype` operands accumulate."""
    return accumulator(find_dtype(dtype)).name


def bytes_of(dtype: str) -> float:
    """Bytes of one element."""
    return find_dtype(dtype).bytes


def operand_scale(dtype: str, largest: float, floats: bool = False) -> float:
    """Power-of-two scale with which an integer dtype reaches `largest`; 1 for floats, unless `floats` and
    they end below it."""
    kind = find_dtype(dtype)
    if kind.kind == "float" and not (floats and largest > kind.limit):
        return 1.0
    return float(2.0 ** np.ceil(np.log2(largest / kind.limit)))


class KernelBuilder(Writer):
    """Collects tensors, tiles and phases; `finish()` gives the checked Kernel.

    Raises GraphError (a rule broken, naming the tile) and Unsupported (no such path on the target).
    """

    def __init__(self, name: str, target: Target, dtype: str, algorithm: str = "", variant: str = "") -> None:
        super().__init__(name, target)
        self.dtype = find_dtype(dtype).name
        self.algorithm, self.variant = algorithm, variant
        self.settings: dict[str, object] = {}
        self._phases: list[Phase] = []
        self._loops = 0
        self._phase = ""
        self._over: Literal["group", "vector"] = "group"

    # --- what exists -------------------------------------------------------------------------

    def input(
        self, name: str, shape: Sequence[int], dtype: str, pitch: int | None = None, scale: float = 1.0
    ) -> Tensor:
        """An input in global memory; `pitch` elements from row to row where rows are not adjacent."""
        return self._array(name, shape, dtype, "input", pitch, scale)

    def output(
        self, name: str, shape: Sequence[int], dtype: str, pitch: int | None = None, scale: float = 1.0
    ) -> Tensor:
        """An output in global memory."""
        return self._array(name, shape, dtype, "output", pitch, scale)

    def workspace(self, name: str, shape: Sequence[int], dtype: str, pitch: int | None = None) -> Tensor:
        """An array in global memory that one phase stores and a later one loads."""
        return self._array(name, shape, dtype, "workspace", pitch, 1.0)

    def constant(self, name: str, value: npt.ArrayLike, dtype: str, scale: float = 1.0) -> Tensor:
        """A small matrix [rows, cols] the host prepares, read by every core."""
        text("the name of a tensor", name)
        array, scale = matrix(f"constant {name}", value), positive(f"scale of constant {name}", scale)
        return self._tensor(Tensor(name, array.shape, dtype, "constant", array.shape[-1], scale, array))

    def _array(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str,
        role: Literal["input", "output", "workspace"],
        pitch: int | None,
        scale: float,
    ) -> Tensor:
        text("the name of a tensor", name)
        whole_shape, scale = sizes(f"tensor {name}", shape), positive(f"scale of tensor {name}", scale)
        cols = whole_shape[-1]
        apart = cols if pitch is None else whole(f"pitch of tensor {name}", pitch, cols)
        return self._tensor(Tensor(name, whole_shape, dtype, role, apart, scale))

    def _tensor(self, tensor: Tensor) -> Tensor:
        if tensor.name in self._tensors:
            raise GraphError("name", f"tensor {tensor.name!r} is declared twice")
        find_dtype(tensor.dtype)
        self._tensors[tensor.name] = tensor
        return tensor

    # --- structure ---------------------------------------------------------------------------

    @contextmanager
    def phase(self, name: str, over: Literal["group", "vector"] = "group") -> Iterator[None]:
        """A phase; between two phases stands a barrier over all cores."""
        if self._blocks:
            raise GraphError("phase", f"phase {name!r} is opened inside another one")
        self._phase = text("the name of a phase", name)
        one_of("phase", f"phase {name!r}: nothing to run over called", over, ("group", "vector"))
        self._over = over
        self._open()
        yield
        self._phases.append(Phase(name, over, self._close()))

    def items(
        self,
        axes: Sequence[tuple[str, int]],
        body: Callable[[list[Item]], None],
        group: int = 1,
        deal: Deal = "cyclic",
        tables: Mapping[str, npt.NDArray[np.int64]] | None = None,
    ) -> None:
        """Deal all combinations of `axes` to the cores, `group` consecutive ones a trip.

        `body` is called with the items of one trip; a ragged last trip is built by a second call. `tables`
        gives, for some axes, a number for each value (where a sequence begins, say); an item then ends with
        the indices of these, in their order.
        """
        shape = axes_of(axes)
        total = math.prod(size for _, size in shape)
        group = min(whole("group", group, 1), total)
        if isinstance(deal, tuple):
            if len(deal) != 2:
                raise wrong(f"a grid has rows and columns, deal=(rows, columns), got {deal!r}")
            deal = (whole("the rows of a grid", deal[0], 1), whole("the columns of a grid", deal[1], 1))
        else:
            one_of("items", "they cannot be dealt", deal, ("cyclic", "contiguous"))
        given = self._tables(dict(shape), {} if tables is None else tables, group)
        looked_up = tuple(Index(0, ((table_variable(name), 1),)) for name, _ in given)
        full = self._block(lambda: body([(*item, *looked_up) for item in self._trip(shape, group)]))
        rest = total % group
        ragged = self._block(lambda: body(self._trip(shape, rest))) if rest else ()
        self._emit(Items(shape, group, deal, full, ragged, tables=given))

    @staticmethod
    def _tables(
        axes: Mapping[str, int], tables: Mapping[str, npt.NDArray[np.int64]], group: int
    ) -> tuple[tuple[str, npt.NDArray[np.int64]], ...]:
        if not isinstance(tables, Mapping):
            raise wrong(f"tables= is a mapping from axes to tables of numbers, got {tables!r}")
        if unknown := [str(name) for name in tables if name not in axes]:
            raise wrong(f"a table for {', '.join(unknown)}, but the axes are {', '.join(axes)}")
        if any("." in name for name in axes):
            raise wrong(f"the name of an axis has no dot, got {', '.join(axes)}")
        if tables and group != 1:
            raise wrong(f"items with tables are dealt one by one (group=1), got group={group}")
        for name, values in tables.items():
            if len(table(f"the table of axis {name}", values)) != axes.get(name):
                raise wrong(f"the table of axis {name} has {len(values)} values; the axes are {dict(axes)}")
        return tuple((name, np.asarray(values, dtype=np.int64)) for name, values in tables.items())

    def cores(self, body: Callable[[Index], None], name: str = "core") -> None:
        """Run `body(core)` once on every core group, or in a phase over 'vector' on every vector core; `core`
        is its number. A table of counts in a loop inside has a count per core."""
        per_group = max(1, self.target.vector_cores) if self._over == "vector" else 1
        self.items([(name, self.target.groups * per_group)], lambda items: body(items[0][0]))

    @staticmethod
    def _trip(axes: tuple[tuple[str, int], ...], group: int) -> list[Item]:
        return [
            tuple(Index(0, ((item_variable(name, j, group), 1),)) for name, _ in axes) for j in range(group)
        ]

    def loop(
        self,
        count: int | npt.NDArray[np.int64],
        body: Callable[[Index], None],
        first: Callable[[Index], None] | None = None,
        last: Callable[[Index], None] | None = None,
    ) -> None:
        """`count` trips of `body(index)`; `first` and `last` build those trips differently (peeling).

        A table of counts has one per item around (in `cores`: per core) and peels trip by trip as well.
        """
        one = not isinstance(count, (Sequence, np.ndarray)) or np.ndim(count) == 0
        count = whole("the count of a loop", count, 0) if one else table("a table of counts", count)
        head, tail = (1 if first else 0), (1 if last else 0)
        if first:
            self._loop(np.minimum(count, 1), first, 0)
        self._loop(np.maximum(count - head - tail, 0), body, head)
        if last:
            if isinstance(count, int):
                if count > head:
                    self._loop(1, last, count - 1)
            else:
                raise Unsupported("a peeled last trip needs the same count for every item")

    def _loop(self, count: int | npt.NDArray[np.int64], body: Callable[[Index], None], start: int) -> None:
        if not np.any(count):
            return
        self._loops += 1
        var = f"i{self._loops}"
        nodes = self._block(lambda: body(Index(start, ((var, 1),))))
        self._emit(Loop(var, int(count) if np.ndim(count) == 0 else np.asarray(count), nodes))

    # --- operations --------------------------------------------------------------------------

    def load(
        self,
        dst: Tile | View,
        src: Access,
        label: str = "",
        fresh: bool = False,
        after: Tile | None = None,
        sets: Tile | None = None,
    ) -> Version:
        """Global memory -> tile, rounding to the tile's dtype; by the machine's route.

        Filling a part of a tile keeps its version; `fresh` begins a new one (as all writes of a whole tile
        do), in which the other parts are zero: a ragged tile, or the first part of several. It waits for the
        flag `after`, and sets the flag `sets`, for which all that waited for its last setting must be done.
        """
        target = view_of(dst)
        route = self._route("GM", target.tile.level)
        source = self._detour(access_of(src), target.tile, target.scale, route, label)
        return self._write(
            copy_kind(source), target, (source,), label=label, fresh=fresh, sets=self._set(sets),
            after=self._after(after),
        )  # fmt: skip

    def store(
        self,
        dst: Access,
        src: Operand,
        label: str = "",
        stream: bool = False,
        after: Tile | None = None,
        sets: Tile | None = None,
    ) -> None:
        """Tile -> global memory, rounding to the tensor's dtype; by the machine's route. Flags as above."""
        if access_of(dst).tensor.role not in ("output", "workspace"):
            raise wrong(f"tensor {dst.tensor.name} is no output; declare what is stored with k.output(...)")
        source: View | Access = self._leaving(self._read(src), dst.tensor, dst.tensor.scale, label)
        assert isinstance(source, View)
        route = self._route(source.tile.level, "GM")
        source = self._detour(source, dst.tensor, dst.tensor.scale, route, label)
        flags = {"sets": self._set(sets), "after": self._after(after)}
        self._emit(Operation(OpKind.store, dst, (source,), label=label, stream=stream, **flags))  # type: ignore[arg-type]

    def move(
        self,
        dst: Tile | View,
        src: Operand,
        transpose: bool = False,
        fractals: Bools | None = None,
        into: bool = False,
        route: Tile | None = None,
        label: str = "",
        fresh: bool = False,
    ) -> Version:
        """Tile -> tile at another level, by the machine's route; `fresh` as for `load`.

        Of an accumulator, what the way out cannot quantise to, the vector unit does (npusim.machine.Path).
        Within one memory a plain move is no work wherever the destination can be another name of the
        source (npusim.names).
        With no direct path the data go through `route`, or through a workspace on the shortest way.
        `fractals` [rows/16, cols/16] copies only these, one instruction each; `into` keeps the rest.
        """
        if route:
            self.move(route, src, label=label and f"{label} (out)")
            src = route
        target = view_of(dst)
        given = self._read(src)
        source = self._leaving(given, target.tile, target.scale, label)
        if source is not given and target.tile.level == "UB":  # the vector unit makes it where it is to be
            return self._write(OpKind.vector, target, (source,), into, "quantise", label=label, fresh=fresh)
        start, end = source.tile.level, target.tile.level
        shared = self.target.same_memory(start, end)  # `finish` adds the route of what stays a copy
        stops = [] if shared else self._route(start, end)
        last = self._detour(source, target.tile, target.scale, stops, label)
        extra = {"transpose": (bool(transpose),), "fractals": (fractals,)}
        return self._write(OpKind.move, target, (last,), into=into, label=label, fresh=fresh, **extra)  # type: ignore[arg-type]

    def matmul(
        self,
        dst: Tile | View,
        a: Operand,
        b: Operand,
        accumulate: bool = False,
        fractals: tuple[Bools | None, Bools | None] = (None, None),
        label: str = "",
        fresh: bool = False,
    ) -> Version:
        """dst = a b, or dst += a b: [m, k] in L0A times [k, n] in L0B into [m, n] in L0C.

        `fractals` states the non-zero 16x16 fractals of a and b: only their products are computed. A product
        into a part of an accumulator keeps the rest of it; `fresh` as for `load`.
        """
        sources = (self._read(a), self._read(b))
        if not isinstance(fractals, (tuple, list)) or len(fractals) != 2:
            raise wrong(f"the fractals of a product are a pair, (of a, of b), got {fractals!r}")
        if accumulate and fresh:
            raise GraphError("version", f"{label or 'matmul'}: what is added to cannot be fresh")
        return self._write(
            OpKind.matmul, dst, sources, adds=accumulate, fractals=fractals, label=label, fresh=fresh
        )

    def vector(
        self,
        function: str,
        dst: Tile | View,
        *srcs: Operand,
        imm: float | None = None,
        scratch: Tile | None = None,
        label: str = "",
    ) -> Version:
        """dst = function(srcs) on the vector cores that hold dst; `scratch` is room it needs."""
        one_of("function", "no vector function", function, VECTOR)
        if imm is not None:
            finite(f"imm of {function}", imm)
        if scratch is not None and not isinstance(scratch, Tile):
            raise wrong(f"scratch of {function} must be a tile, got {scratch!r}")
        into = VECTOR[function].accumulates
        reads = tuple(self._read(src) for src in srcs)
        return self._write(OpKind.vector, dst, reads, into, function, imm, scratch=scratch, label=label)

    def scalar(
        self, function: str, *srcs: Operand, on: Place = "cube", label: str = "", times: int = 1
    ) -> None:
        """Work of a scalar unit: 'read' of a vector result stops it until the result is there, 'write'
        of an element keeps the tile's version, 'alu' touches no tile. It costs time and has no values;
        `times`: so many instructions in a row."""
        text("the scalar function", function)
        text(f"on of scalar {function}", on)
        reads = tuple(self._read(src) for src in srcs)
        dst, reads = (reads[0], ()) if function == "write" and reads else (None, reads)
        into = dst is not None
        count = None if times == 1 else float(whole("times of a scalar operation", times, 1))
        self._emit(Operation(OpKind.scalar, dst, reads, function, count, into=into, on=on, label=label))

    def wait(self, tile: Operand, on: str) -> None:
        """Wait until `tile` is ready: on a place ('cube', 'rows', 'first', ..) the scalar units of those
        cores stop; on a unit ('aic_mac') only that unit's queue does. Later writes of the tile wait for
        the wait, so a wait on another unit is an empty round trip between the two."""
        self._emit(Operation(OpKind.wait, None, (self._read(tile),), on=text("on of a wait", on)))

    def barrier(self, scope: str, on: Place) -> None:
        """Stop the scalar unit of the cores `on` until `scope` (a unit, or 'core') runs empty."""
        place = text("on of a barrier", on)
        self._emit(Operation(OpKind.barrier, None, (), on=f"{place}:{text('the scope of a barrier', scope)}"))

    def finish(self) -> Kernel:
        """The finished graph; `npusim.check` holds it against the rules."""
        if self._blocks:
            raise GraphError(
                "phase", f"finish() stands inside phase {self._phase!r}; move it out of the with block"
            )
        settings = settings_of(self.settings)
        text("the name of a kernel", self.name), find_dtype(self.dtype)
        text("the variant of a kernel", self.variant, empty=True)
        phases: list[Phase] = []
        for place, phase in enumerate(self._phases):
            if any(within_one_memory(op, self.target) for op in phase.operations):
                later = needed(node for after in self._phases[place + 1 :] for node in after.nodes)
                nodes = drop_names(phase.nodes, later, self.target, self._copied)
                phase = replace(phase, nodes=nodes)
            phases.append(phase)
        return Kernel(
            self.name, self.algorithm, self.variant, self.dtype,
            tuple(self._tensors.values()), tuple(self._tiles.values()), tuple(phases), settings,
        )  # fmt: skip
