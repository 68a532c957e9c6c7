"""What the builder keeps in mind while a graph is written: open blocks, the versions of every tile and
the routes of this target.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import get_args

from npusim.arguments import one_of, positive, sizes, text, whole, wrong
from npusim.dtypes import dtype as find_dtype
from npusim.dtypes import takes_scale
from npusim.errors import GraphError, Unsupported
from npusim.graph import START, Access, Bools, Node, Operation, Place, Tensor, Tile, View
from npusim.ops import OpKind
from npusim.problem import Target
from npusim.where import blaming, caller


@dataclass(frozen=True)
class Version:
    """A particular write of a tile, to be read even after later writes (while its slot lives)."""

    tile: Tile
    block: int
    number: int
    number_in_block: int


Operand = Tile | View | Version


def view_of(operand: Tile | View) -> View:
    """The whole of a tile, or a view as it is. GraphError for anything else."""
    if isinstance(operand, Tile):
        return operand.view()
    if not isinstance(operand, View):
        raise wrong(f"a tile or a view of one is needed here, got {_called(operand)}")
    return operand


def access_of(operand: Access) -> Access:
    """A place in a tensor. GraphError for anything else."""
    if not isinstance(operand, Access):
        raise wrong(f"a place in a tensor, x.at(...), is needed here, got {_called(operand)}")
    return operand


def _called(thing: object) -> str:
    if isinstance(thing, Access):
        return f"tensor {thing.tensor.name} (load it into a tile first)"
    name = getattr(thing, "name", "")
    return f"{type(thing).__name__.lower()} {name}" if name else repr(thing)


def copy_kind(source: View | Access) -> OpKind:
    """How a copy into a tile is called."""
    return OpKind.move if isinstance(source, View) else OpKind.load


class Writer:
    """The state of a graph under construction, and how an operation enters it."""

    def __init__(self, name: str, target: Target) -> None:
        self.name, self.target = text("the name of a kernel", name), target
        self._tensors: dict[str, Tensor] = {}
        self._tiles: dict[str, Tile] = {}
        self._flags: set[Tile] = set()
        self._blocks: list[list[Node]] = []
        self._block_ids: list[int] = []
        self._opened = 0
        self._routes: dict[tuple[str, str], list[str]] = {}
        self._writes: Counter[Tile] = Counter()
        self._block_writes: Counter[tuple[Tile, int]] = Counter()
        self._pins: list[dict[Tile, int]] = []
        """per open block: tiles of which it reads a version from outside, so that it must not write them"""

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
        if text("the name of a tile", name) in self._tiles:
            raise GraphError("name", f"tile {name!r} is declared twice; give each tile its own name")
        one_of("level", f"tile {name}: no level", level, ("GM", *self.target.level_bytes))
        rows, cols = sizes(f"tile {name}", shape, axes=2)
        find_dtype(dtype)
        holder: Place = ("rows" if level == "UB" else "cube") if place is None else place
        one_of("place", f"tile {name}: no place", holder, get_args(Place))
        slots, scale = whole(f"slots of tile {name}", slots, 1), positive(f"scale of tile {name}", scale)
        tile = Tile(name, level, (rows, cols), dtype, slots, holder, scale, caller())
        self._tiles[name] = tile
        return tile

    def flag(self, name: str) -> Tile:
        """A flag in global memory that a `load` or `store` sets, and another one, or a `wait`, waits for.

        Tiles order what uses them; a flag orders what meets in a tensor only, or does not meet at all.
        """
        made = self.tile(name, "GM", (1, 1), "int8")
        self._flags.add(made)
        return made

    def _flag(self, option: str, flag: Tile) -> Tile:
        if not isinstance(flag, Tile) or flag not in self._flags:
            raise wrong(f"{option}= takes a flag of this builder, k.flag(name), got {flag!r}")
        return flag

    def _after(self, flag: Tile | None) -> View | None:
        return None if flag is None else self._flag("after", flag).view()

    def _set(self, flag: Tile | None) -> Tile | None:
        """The flag, with one more setting of it counted."""
        if flag is not None:
            self._flag("sets", flag)
            self._count(flag)
        return flag

    # --- blocks ----------------------------------------------------------------------------------

    def _block(self, build: Callable[[], None]) -> tuple[Node, ...]:
        if not self._blocks:
            raise GraphError("phase", "operations stand outside a phase; open one with k.phase(...)")
        self._open()
        build()
        return self._close()

    def _open(self) -> None:
        self._opened += 1
        self._blocks.append([])
        self._block_ids.append(self._opened)
        self._pins.append({})

    def _close(self) -> tuple[Node, ...]:
        self._block_ids.pop()
        for tile, number in self._pins.pop().items():
            if self._writes[tile] != number:
                raise self._too_old(tile)
        return tuple(self._blocks.pop())

    def _emit(self, node: Node) -> None:
        if not self._blocks:
            raise GraphError("phase", "operations stand outside a phase; open one with k.phase(...)")
        if isinstance(node, Operation):
            text("a label", node.label, empty=True)
            for view in node.views:
                if self._tiles.get(view.tile.name) is not view.tile:
                    raise self._foreign(view.tile)
            for end in (node.dst, *node.srcs):
                if isinstance(end, Access) and self._tensors.get(end.tensor.name) is not end.tensor:
                    raise self._foreign(end.tensor)
        where = caller()
        self._blocks[-1].append(replace(node, where=where) if where else node)

    @staticmethod
    def _foreign(thing: Tile | Tensor) -> GraphError:
        """What is wrong with a tile or tensor that this builder did not declare."""
        kind = type(thing).__name__.lower()
        return wrong(f"{kind} {thing.name} belongs to another KernelBuilder; declare it with this one")

    # --- writing and reading ---------------------------------------------------------------------

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
        fresh: bool = False,
        adds: bool = False,
        sets: Tile | None = None,
        after: View | None = None,
    ) -> Version:
        """Emit a write; a partial one, or one that reads its own destination, keeps the version unless it is
        `fresh`."""
        target = view_of(dst)
        if target.tile in self._flags:
            raise wrong(f"{target.tile.name} is a flag and holds no data; sets= sets it")
        own = target.tile in [src.tile for src in srcs if isinstance(src, View) and not src.back]
        keeps = not fresh and (into or adds or own or not target.whole)
        if not keeps:
            self._count(target.tile)
        self._emit(
            Operation(
                kind,
                target,
                srcs,
                function,
                immediate,
                into=keeps,
                adds=adds,
                transpose=transpose,
                fractals=fractals,
                scratch=scratch,
                sets=sets,
                after=after,
                label=label,
            )
        )
        return self._version(target.tile)

    def _count(self, tile: Tile) -> None:
        """One more version of a tile."""
        self._writes[tile] += 1
        self._block_writes[tile, self._block_ids[-1] if self._block_ids else 0] += 1

    def _version(self, tile: Tile) -> Version:
        block = self._block_ids[-1] if self._block_ids else 0
        return Version(tile, block, self._writes[tile], self._block_writes[tile, block])

    def _back(self, version: Version) -> int:
        """How many writes ago `version` was the latest; countable within its own block only."""
        back = self._writes[version.tile] - version.number
        here = self._block_writes[version.tile, version.block] - version.number_in_block
        if back and (back != here or [version.block] != self._block_ids[-1:]):
            raise self._too_old(version.tile)
        if version.block in self._block_ids:  # the blocks inside its own may repeat
            for pins in self._pins[self._block_ids.index(version.block) + 1 :]:
                pins[version.tile] = version.number
        return back

    @staticmethod
    def _too_old(tile: Tile) -> GraphError:
        return GraphError("version", f"tile {tile.name}: an older version is read across the edge of a loop")

    def _read(self, operand: Operand) -> View:
        """The view that is read: a Version counted back from the latest write."""
        if isinstance(operand, Version):
            if self._tiles.get(operand.tile.name) is not operand.tile:
                raise self._foreign(operand.tile)
            rows, cols = operand.tile.shape
            return View(operand.tile, START, rows, START, cols, self._back(operand))
        return view_of(operand)

    # --- routes ----------------------------------------------------------------------------------

    def _route(self, start: str, end: str) -> list[str]:
        """The levels between `start` and `end`: none for a direct path, else the shortest detour."""
        if (start, end) not in self._routes:
            self._routes[start, end] = self._shortest(start, end)
        return self._routes[start, end]

    def _shortest(self, start: str, end: str) -> list[str]:
        queue: deque[list[str]] = deque([[start]])
        seen: set[str] = set()
        while queue:
            route = queue.popleft()
            for step in sorted(stop for origin, stop in self.target.paths if origin == route[-1]):
                if step == end:
                    return route[1:]
                if step not in seen:
                    seen.add(step)
                    queue.append([*route, step])
        raise Unsupported(f"{self.name}: this machine has no path from {start} to {end}")

    def _copied(self, op: Operation) -> tuple[Node, ...]:
        """A copy within one memory by the machine's route; any other operation as it is."""
        source, dst = op.srcs[0] if op.srcs else None, op.dst
        if op.kind is not OpKind.move or not isinstance(source, View) or not isinstance(dst, View):
            return (op,)
        start, end = source.tile.level, dst.tile.level
        if not self.target.same_memory(start, end):
            return (op,)
        try:
            stops = self._route(start, end)
        except Unsupported as error:
            text = f"tile {dst.tile.name} needs a copy of tile {source.tile.name}; {error}"
            with blaming(op.where):
                raise Unsupported(text) from None
        self._open()  # in a workspace that no name stands for
        last = self._detour(source, dst.tile, dst.scale, stops, op.label, "shared ")
        return *(replace(node, where=op.where) for node in self._close()), replace(op, srcs=(last,))

    def _detour(
        self,
        source: View | Access,
        goal: Tile | Tensor,
        scale: float,
        stops: list[str],
        label: str,
        prefix: str = "",
    ) -> View | Access:
        """Copy `source` over the levels `stops` on its way to `goal`, there counted in units of `scale`;
        rounding is done by the first copy."""
        for stop in stops:
            via = self._workspace(source, goal, stop, prefix).scaled(scale)
            self._write(copy_kind(source), via, (source,), label=label and f"{label} (out)")
            source = via
        return source

    def _leaving(self, source: View, goal: Tile | Tensor, scale: float, label: str) -> View:
        """`source`, on its way to `goal`, there counted in units of `scale`. Where it leaves an accumulator
        by a way that cannot quantise so, the vector unit does in UB, and what it makes is the source."""
        dtype, level = source.tile.dtype, goal.level if isinstance(goal, Tile) else "GM"
        if source.tile.level != "L0C" or not takes_scale(dtype, source.scale, goal.dtype, scale):
            return source
        first = [*self._route("L0C", level), level][0]
        if (first, f"{dtype}->{goal.dtype}") in self.target.quantises:
            return source
        if level != "UB" and ("UB", f"{dtype}->{goal.dtype}") in self.target.quantises:
            made = self._beside("quantised", source.shape, goal.dtype, "rows").scaled(scale)
            self._write(OpKind.move, made, (source,), label=label and f"{label} (quantise)")
            return made
        place = goal.place if isinstance(goal, Tile) and level == "UB" else "rows"
        raw = self._beside("accumulator", source.shape, dtype, place).scaled(source.scale)
        last = self._detour(source, raw.tile, source.scale, self._route("L0C", "UB"), label)
        self._write(OpKind.move, raw, (last,), label=label and f"{label} (as it is)")
        if level == "UB":
            return raw
        made = self._beside("quantised", source.shape, goal.dtype, place).scaled(scale)
        self._write(OpKind.vector, made, (raw,), False, "quantise", label=label and f"{label} (quantise)")
        return made

    def _beside(self, what: str, shape: tuple[int, int], dtype: str, place: Place) -> Tile:
        """A tile in UB in which the vector unit requantises, one for all of a kind."""
        name = f"{what} {shape[0]}x{shape[1]} {dtype}, {place}"
        return self._tiles.get(name) or self.tile(name, "UB", shape, dtype, place=place)

    def _workspace(self, source: View | Access, goal: Tile | Tensor, level: str, prefix: str) -> Tile:
        """A tile at `level`, private to the core group, for a detour; another one for each prefix."""
        start = source.tile if isinstance(source, View) else source.tensor
        (rows, cols), slots = source.shape, 1
        if level == "GM":  # room is plenty: a workspace for each pair
            name = f"{start.name}>{goal.name}"
            slots = goal.slots if isinstance(goal, Tile) else 1
            if name in self._tiles and self._tiles[name].shape != source.shape:
                name += f" {rows}x{cols}"
        else:
            name = f"{prefix}by way of {level} {rows}x{cols} {goal.dtype}" + (
                f" {goal.scale}" if goal.scale != 1 else ""
            )
        if name not in self._tiles:
            self.tile(name, level, (rows, cols), goal.dtype, slots, scale=goal.scale)
        return self._tiles[name]
