"""The builder through which every kernel, built-in or a user's own, writes its tile graph.

It decides what the graph leaves implicit: the route of a move on this target (through global memory
where there is no direct path, nothing at all within one memory), whether a write keeps its tile's
version, and which version a handle still names. This is the one module that algorithms import.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from npusim.dtypes import accumulator
from npusim.dtypes import dtype as find_dtype
from npusim.errors import GraphError, InputError, Unsupported, did_you_mean
from npusim.graph import (
    Access,
    Bools,
    Deal,
    Index,
    Items,
    Kernel,
    Loop,
    Node,
    Operation,
    Phase,
    Place,
    Tensor,
    Tile,
    View,
    item_variable,
)
from npusim.kernels import Algorithm, KernelEntry
from npusim.ops import VECTOR, OpKind
from npusim.problem import Options, Problem, Target

__all__ = [
    "Access",
    "Algorithm",
    "GraphError",
    "Index",
    "InputError",
    "Kernel",
    "KernelBuilder",
    "KernelEntry",
    "Operand",
    "Options",
    "Problem",
    "Target",
    "Tensor",
    "Tile",
    "Unsupported",
    "Version",
    "View",
    "accumulator_of",
    "operand_scale",
]  # fmt: skip

Item = tuple[Index, ...]
"""One value of the items' variables: an index per axis."""


@dataclass(frozen=True)
class Version:
    """A particular write of a tile, to be read even after later writes (while its slot lives)."""

    tile: Tile
    block: int
    number: int
    number_in_block: int


Operand = Tile | View | Version


def accumulator_of(dtype: str) -> str:
    """The dtype in which products of `dtype` operands accumulate."""
    return accumulator(find_dtype(dtype)).name


def operand_scale(dtype: str, largest: float) -> float:
    """Power-of-two scale with which an integer dtype reaches `largest`; 1 for floats."""
    kind = find_dtype(dtype)
    if kind.kind == "float":
        return 1.0
    return float(2.0 ** np.ceil(np.log2(largest / kind.limit)))


class KernelBuilder:
    """Collects tensors, tiles and phases; `finish()` gives the checked Kernel.

    Raises GraphError (a rule broken, naming the tile) and Unsupported (no such path on the target).
    """

    def __init__(self, name: str, target: Target, dtype: str, algorithm: str = "", variant: str = "") -> None:
        self.name, self.target, self.dtype = name, target, dtype
        self.algorithm, self.variant = algorithm, variant
        self.settings: dict[str, object] = {}
        self._tensors: dict[str, Tensor] = {}
        self._tiles: dict[str, Tile] = {}
        self._phases: list[Phase] = []
        self._blocks: list[list[Node]] = []
        self._block_ids: list[int] = []
        self._writes: Counter[Tile] = Counter()
        self._block_writes: Counter[tuple[Tile, int]] = Counter()
        self._alias: dict[Tile, tuple[View, Version]] = {}
        self._loops = 0
        self._opened = 0

    # --- what exists -------------------------------------------------------------------------

    def input(
        self, name: str, shape: Sequence[int], dtype: str, pitch: int | None = None, scale: float = 1.0
    ) -> Tensor:
        """An input in global memory; `pitch` elements from row to row where rows are not adjacent."""
        return self._tensor(Tensor(name, tuple(shape), dtype, "input", pitch or shape[-1], scale))

    def output(
        self, name: str, shape: Sequence[int], dtype: str, pitch: int | None = None, scale: float = 1.0
    ) -> Tensor:
        """An output in global memory."""
        return self._tensor(Tensor(name, tuple(shape), dtype, "output", pitch or shape[-1], scale))

    def constant(self, name: str, value: npt.ArrayLike, dtype: str, scale: float = 1.0) -> Tensor:
        """A small matrix [rows, cols] the host prepares, read by every core."""
        array = np.atleast_2d(np.asarray(value, dtype=np.float64))
        return self._tensor(Tensor(name, array.shape, dtype, "constant", array.shape[-1], scale, array))

    def tile(
        self,
        name: str,
        level: str,
        shape: tuple[int, int],
        dtype: str,
        slots: int = 1,
        place: Place | None = None,
        scale: float = 1.0,
    ) -> Tile:
        """A buffer of [rows, cols] at a level; `slots` 2 = double buffered.

        `place` says which cores of the group hold it; by default the cube core, for UB the vector
        cores, each its half of the rows.
        """
        if name in self._tiles:
            raise GraphError("name", f"tile {name!r} is declared twice; give each tile its own name")
        find_dtype(dtype)
        where: Place = place or ("rows" if level == "UB" else "cube")
        tile = Tile(name, level, shape, dtype, slots, where, scale)
        self._tiles[name] = tile
        return tile

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
        self._open()
        yield
        self._phases.append(Phase(name, over, self._close()))
        self._alias.clear()

    def items(
        self,
        axes: Sequence[tuple[str, int]],
        body: Callable[[list[Item]], None],
        group: int = 1,
        deal: Deal = "cyclic",
    ) -> None:
        """Deal all combinations of `axes` to the cores, `group` consecutive ones a trip.

        `body` is called with the items of one trip; a ragged last trip is built by a second call.
        """
        shape = tuple((name, size) for name, size in axes)
        total = int(np.prod([size for _, size in shape], dtype=np.int64))
        group = min(group, total)
        full = self._block(lambda: body(self._trip(shape, group)))
        rest = total % group
        ragged = self._block(lambda: body(self._trip(shape, rest))) if rest else ()
        self._emit(Items(shape, group, deal, full, ragged))

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

        A table of counts, one per item of the enclosing items, peels trip by trip as well.
        """
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
        if np.ndim(count) == 0 and int(count) == 0:
            return
        self._loops += 1
        var = f"i{self._loops}"
        nodes = self._block(lambda: body(Index(start, ((var, 1),))))
        self._emit(Loop(var, int(count) if np.ndim(count) == 0 else np.asarray(count), nodes))

    def _block(self, build: Callable[[], None]) -> tuple[Node, ...]:
        if not self._blocks:
            raise GraphError("phase", "operations stand outside a phase; open one with k.phase(...)")
        outer = dict(self._alias)
        self._open()
        build()
        self._alias = outer
        return self._close()

    def _open(self) -> None:
        self._opened += 1
        self._blocks.append([])
        self._block_ids.append(self._opened)

    def _close(self) -> tuple[Node, ...]:
        self._block_ids.pop()
        return tuple(self._blocks.pop())

    def _emit(self, node: Node) -> None:
        if not self._blocks:
            raise GraphError("phase", "operations stand outside a phase; open one with k.phase(...)")
        self._blocks[-1].append(node)

    # --- operations --------------------------------------------------------------------------

    def load(self, dst: Tile | View, src: Access, label: str = "") -> Version:
        """Global memory -> tile, rounding to the tile's dtype."""
        return self._write(OpKind.load, dst, (src,), label=label)

    def store(self, dst: Access, src: Operand, label: str = "", stream: bool = False) -> None:
        """Tile -> global memory, rounding to the tensor's dtype."""
        self._emit(Operation(OpKind.store, dst, (self._read(src),), label=label, stream=stream))

    def move(
        self,
        dst: Tile | View,
        src: Operand,
        transpose: bool = False,
        fractals: Bools | None = None,
        into: bool = False,
        route: Tile | None = None,
        label: str = "",
    ) -> Version:
        """Tile -> tile at another level, by the machine's route.

        Within one memory a plain move is no work: the destination becomes another name of the source.
        With no direct path the data go through `route`, or through a workspace in global memory.
        `fractals` [rows/16, cols/16] copies only these, one instruction each; `into` keeps the rest.
        """
        source, target = self._read(src), _view(dst)
        start, end = source.tile.level, target.tile.level
        plain = not transpose and fractals is None and not into and source.whole and target.whole
        same = (source.tile.dtype, source.tile.scale) == (target.tile.dtype, target.tile.scale)
        if plain and same and self.target.same_memory(start, end):
            self._alias[target.tile] = (source, self._version(source.tile, source.back))
            return self._version(target.tile)
        for stop in self._route(start, end, route):
            via = route or self._workspace(source, target)
            if via.level != stop:
                raise GraphError("route", f"move to {target.tile.name}: {via.name} is not at {stop}")
            self._write(OpKind.move, via, (source,), label=label and f"{label} (out)")
            source = via.view()
        extra = {"transpose": (transpose,), "fractals": (fractals,)}
        return self._write(OpKind.move, target, (source,), into=into, label=label, **extra)  # type: ignore[arg-type]

    def matmul(
        self,
        dst: Tile,
        a: Operand,
        b: Operand,
        accumulate: bool = False,
        fractals: tuple[Bools | None, Bools | None] = (None, None),
        label: str = "",
    ) -> Version:
        """dst = a b, or dst += a b: [m, k] in L0A times [k, n] in L0B into [m, n] in L0C.

        `fractals` states the non-zero 16x16 fractals of a and b: only their products are computed.
        """
        sources = (self._read(a), self._read(b))
        return self._write(OpKind.matmul, dst, sources, into=accumulate, fractals=fractals, label=label)

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
        if function not in VECTOR:
            raise GraphError("function", f"no vector function {function!r}; {did_you_mean(function, VECTOR)}")
        into = VECTOR[function].accumulates
        reads = tuple(self._read(src) for src in srcs)
        return self._write(OpKind.vector, dst, reads, into, function, imm, scratch=scratch, label=label)

    def scalar(self, function: str, *srcs: Operand, on: Place = "cube", label: str = "") -> None:
        """Work of a scalar unit: 'read' of a vector result stops it until the result is there."""
        reads = tuple(self._read(src) for src in srcs)
        self._emit(Operation(OpKind.scalar, None, reads, function=function, on=on, label=label))

    def wait(self, tile: Operand, on: str) -> None:
        """Wait until `tile` is ready: on a place ('cube', 'rows', 'first', ..) the scalar units of those
        cores stop; on a unit ('aic_mac') only that unit's queue does. Later writes of the tile wait for
        the wait, so a wait on another unit is an empty round trip between the two."""
        self._emit(Operation(OpKind.wait, None, (self._read(tile),), on=on))

    def barrier(self, scope: str, on: Place) -> None:
        """Stop the scalar unit of the cores `on` until `scope` (a unit, or 'core') runs empty."""
        self._emit(Operation(OpKind.barrier, None, (), on=f"{on}:{scope}"))

    def finish(self) -> Kernel:
        """The finished graph; `npusim.check` holds it against the rules."""
        return Kernel(
            self.name, self.algorithm, self.variant, self.dtype,
            tuple(self._tensors.values()), tuple(self._tiles.values()), tuple(self._phases), self.settings,
        )  # fmt: skip

    # --- versions, aliases and routes --------------------------------------------------------

    def _write(
        self,
        kind: OpKind,
        dst: Tile | View,
        srcs: tuple[View | Access, ...],
        into: bool = False,
        function: str = "",
        immediate: float | None = None,
        transpose: tuple[bool, ...] = (),
        fractals: tuple[Bools | None, ...] = (),
        scratch: Tile | None = None,
        label: str = "",
    ) -> Version:
        """Emit a write; a partial one, or one that reads its own destination, keeps the version."""
        target = _view(dst)
        own = any(isinstance(src, View) and src.tile is target.tile and not src.back for src in srcs)
        keeps = into or own or not target.whole
        self._alias.pop(target.tile, None)
        if not keeps:
            self._writes[target.tile] += 1
            self._block_writes[target.tile, self._block_ids[-1] if self._block_ids else 0] += 1
        self._emit(
            Operation(
                kind, target, srcs, function, immediate, keeps, False, transpose, fractals, scratch, "", label
            )
        )
        return self._version(target.tile)

    def _version(self, tile: Tile, back: int = 0) -> Version:
        block = self._block_ids[-1] if self._block_ids else 0
        return Version(tile, block, self._writes[tile] - back, self._block_writes[tile, block] - back)

    def _back(self, version: Version) -> int:
        """How many writes ago `version` was the latest; countable within its own block only."""
        back = self._writes[version.tile] - version.number
        here = self._block_writes[version.tile, version.block] - version.number_in_block
        if back and (back != here or version.block != self._block_ids[-1]):
            raise GraphError(
                "version", f"tile {version.tile.name}: an older version is read across the edge of a loop"
            )
        return back

    def _read(self, operand: Operand) -> View:
        """The view that is read: aliases resolved, a Version counted back from the latest write."""
        if isinstance(operand, Version):
            if operand.tile in self._alias:
                view = operand.tile.view()
            else:
                view = replace(operand.tile.view(), back=self._back(operand))
        else:
            view = _view(operand)
        if view.tile not in self._alias:
            return view
        source, version = self._alias[view.tile]
        return replace(
            source, row=view.row, rows=view.rows, col=view.col, cols=view.cols, back=self._back(version)
        )

    def _route(self, start: str, end: str, via: Tile | None) -> list[str]:
        """The levels between `start` and `end`: none for a direct path, else the shortest detour."""
        if via is not None:
            return [via.level]
        queue: deque[list[str]] = deque([[start]])
        seen = {start}
        while queue:
            route = queue.popleft()
            if route[-1] == end:
                return route[1:-1]
            for step in sorted(stop for origin, stop in self.target.paths if origin == route[-1]):
                if step not in seen:
                    seen.add(step)
                    queue.append([*route, step])
        raise Unsupported(f"{self.name}: this machine has no path from {start} to {end}")

    def _workspace(self, source: View, target: View) -> Tile:
        """A tile in global memory, private to the core group, for a detour between two tiles."""
        name = f"{source.tile.name}>{target.tile.name}"
        if name not in self._tiles:
            tile = target.tile
            self.tile(name, "GM", source.shape, tile.dtype, max(tile.slots, 1), "cube", tile.scale)
        return self._tiles[name]


def _view(operand: Tile | View) -> View:
    return operand.view() if isinstance(operand, Tile) else operand
