"""The rules a tile graph must keep, each by name, with messages that name the tile and the remedy.

`RULES` is the list; `check(kernel, target)` raises the first GraphError. Levels and capacity need a target.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import get_args

import numpy as np

from npusim.bounds import bounds
from npusim.dtypes import accumulator, dtype
from npusim.errors import GraphError, did_you_mean
from npusim.graph import (
    Access,
    Fault,
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
    operations,
)
from npusim.machine import Unit
from npusim.operand_shapes import SHAPE_RULES, WHOLE, WHOLE_SECOND
from npusim.ops import VECTOR, OpKind
from npusim.problem import Target
from npusim.tile_scales import scales

FRACTAL = 16
"""rows and columns of a fractal"""

_LEVELS: dict[OpKind, tuple[tuple[str, ...], ...]] = {
    OpKind.matmul: (("L0C",), ("L0A",), ("L0B",)),
    OpKind.vector: (("UB",),) * 4,
}


def check(kernel: Kernel, target: Target | None = None) -> Kernel:
    """Return `kernel` if it keeps every rule; raise GraphError otherwise.

    Without a target, levels (some machines have one memory behind several) and the capacity of the buffers
    are not looked at: numerics need neither.
    """
    # rules that look at operations one by one look at those of one signature once
    for phase in kernel.phases:
        place = f"{kernel.name}, phase {phase.name}"
        for rule, test in RULES.items():
            _refuse(rule, place, test(phase))
        if target is not None:
            _refuse("level", place, levels(phase, target))
            check_capacity(kernel, phase, target)
    _refuse("use before definition", kernel.name, use_before_definition(kernel))
    _refuse("scale", kernel.name, scales(kernel))
    return kernel


def _refuse(rule: str, place: str, faults: Iterable[Fault]) -> None:
    """Raise GraphError for the first fault, with the line of a user's file where one is to blame."""
    for node, message in faults:
        raise GraphError(rule, f"{place}: {message}", node.where)


def shapes(phase: Phase) -> Iterator[Fault]:
    """Operands of an operation fit each other."""
    for op in phase.distinct:
        problem = _shape_problem(op)
        if problem:
            yield op, f"{op.name}: {problem}"


def _shape_problem(op: Operation) -> str:
    """What does not fit, or ''. Shapes are [rows, cols]."""
    if op.dst is None or op.kind in (OpKind.wait, OpKind.barrier, OpKind.scalar):
        return ""
    for src, mask in zip(op.srcs, op.fractals, strict=False):
        wanted = tuple(-(-size // FRACTAL) for size in src.shape)
        bools = isinstance(mask, np.ndarray) and mask.dtype.kind == "b"
        if mask is not None and not (bools and mask.shape == wanted):
            return f"the fractals of {_named(src)} must be an array of {list(wanted)} bools"
    dst, srcs = op.dst.shape, [src.shape for src in op.srcs]
    if op.kind is OpKind.matmul:
        a, b = srcs
        fits = a[1] == b[0] and dst == (a[0], b[1])
        return "" if fits else f"product of {list(a)} and {list(b)} does not give {_named(op.dst)}"
    if op.kind is OpKind.vector:
        return _vector_shape_problem(op, dst, srcs)
    given = srcs[0][::-1] if op.transpose and op.transpose[0] else srcs[0]
    return "" if given == dst else f"{_named(op.srcs[0])} does not fit {_named(op.dst)}"


def _vector_shape_problem(op: Operation, dst: tuple[int, int], srcs: list[tuple[int, int]]) -> str:
    function = VECTOR[op.function]
    if len(srcs) != function.sources:
        return f"{op.function} takes {function.sources} sources, got {len(srcs)}"
    if function.immediate != (op.immediate is not None):
        return f"{op.function} {'needs' if function.immediate else 'takes no'} immediate value (imm=)"
    if SHAPE_RULES[function.rule](dst, srcs):
        return ""
    operands = ", ".join(_named(src) for src in op.srcs)
    return f"{operands} {'do' if len(srcs) > 1 else 'does'} not fit {_named(op.dst)}"


def _named(end: View | Access | None) -> str:
    if isinstance(end, View):
        return f"tile {end.tile.name} {list(end.shape)}"
    return f"tensor {end.tensor.name} {list(end.shape)}" if end else "nothing"


def dtypes(phase: Phase) -> Iterator[Fault]:
    """Products take two operands of one dtype and accumulate in that dtype's accumulator."""
    for op in phase.distinct:
        if op.kind is OpKind.matmul:
            views = [end for end in (op.dst, *op.srcs) if isinstance(end, View)]
            dst, a, b = (view.tile for view in views)
            if a.dtype != b.dtype:
                yield op, f"{op.name}: operands {a.name} ({a.dtype}) and {b.name} ({b.dtype}) differ in dtype"
            wanted = accumulator(dtype(a.dtype)).name
            if dst.dtype != wanted:
                yield (
                    op,
                    f"{op.name}: accumulator {dst.name} is {dst.dtype}; {a.dtype} accumulates in {wanted}",
                )
            given, due = views[0].scale, views[1].scale * views[2].scale
            if abs(given - due) > 1e-12 * given:
                yield op, f"{op.name}: accumulator {dst.name} has scale {given:g}, not {due:g}"


def levels(phase: Phase, target: Target) -> Iterator[Fault]:
    """Operands lie at the levels, or at least in the memories, that their unit reads and writes."""
    for op in phase.distinct:
        for view, allowed in zip((op.dst, *op.srcs), _LEVELS.get(op.kind, ()), strict=False):
            if isinstance(view, View) and not any(_lies(view.tile.level, at, target) for at in allowed):
                yield (
                    op,
                    f"{op.name}: tile {view.tile.name} is at {view.tile.level}; "
                    f"a {op.kind} needs it at {' or '.join(allowed)} (use a move)",
                )
        if op.scratch is not None and not _lies(op.scratch.level, "UB", target):
            yield op, f"{op.name}: scratch tile {op.scratch.name} is at {op.scratch.level}; it must be at UB"
        for view in op.views:
            if phase.over == "vector" and not any(_lies(view.tile.level, at, target) for at in ("UB", "GM")):
                yield (
                    op,
                    f"{op.name}: tile {view.tile.name} is on the cube core, in a phase over vector cores",
                )


def _lies(level: str, at: str, target: Target) -> bool:
    return level == at or target.same_memory(level, at)


def places(phase: Phase) -> Iterator[Fault]:
    """The vector cores that compute a result hold all of its operands."""
    for op in phase.distinct:
        if op.kind is not OpKind.vector or not isinstance(op.dst, View):
            continue
        here = op.dst.tile.place
        for src in op.srcs:
            there = src.tile.place if isinstance(src, View) and src.tile.level == "UB" else here
            if there not in (here, "replicate"):
                yield (
                    op,
                    f"{op.name}: {_named(src)} is placed {there}, but the result "
                    f"{op.dst.tile.name} {here}; give both the same place",
                )
            elif there == "rows" and phase.over == "group" and _is_needed_whole(op, src):
                yield (
                    op,
                    f"{op.name}: every vector core needs all rows of {_named(src)}, "
                    "which is placed rows; give it place='replicate'",
                )


def _is_needed_whole(op: Operation, src: View | Access) -> bool:
    rule = VECTOR[op.function].rule
    return rule in WHOLE or (rule in WHOLE_SECOND and src is op.srcs[1])


def deadlock(phase: Phase) -> Iterator[Fault]:
    """A version is read while its slot still lives: later writes would wait for this read for ever."""
    for op in phase.distinct:
        for view in op.views:
            if view.back >= view.tile.slots:
                yield (
                    op,
                    f"{op.name} reads tile {view.tile.name} {view.back} writes late, but it has "
                    f"{view.tile.slots} slot(s): the later write waits for this read, and this read "
                    f"stands behind it; give it slots={view.back + 1}",
                )


def empty_loops(phase: Phase) -> Iterator[Fault]:
    """Items that are none, or a loop without operations, say that something was forgotten."""
    for node in _loops(phase.nodes):
        if isinstance(node, Items):
            if node.total < 1:
                yield node, "there are no items to deal; the problem is empty"
            if not list(operations(node.body)):
                yield node, f"the items {' x '.join(name for name, _ in node.axes)} have no operations"
        elif not list(operations(node.body)):
            yield node, f"loop {node.var} has no operations"


def _loops(nodes: tuple[Node, ...]) -> Iterator[Loop | Items]:
    for node in nodes:
        if isinstance(node, (Loop, Items)):
            yield node
            yield from _loops(node.body)
        if isinstance(node, Items):
            yield from _loops(node.ragged)


def counts(phase: Phase) -> Iterator[Fault]:
    """A table of trip counts has one count for each of the items around it, dealt one by one."""
    yield from _counts(phase.nodes, None)


def _counts(nodes: tuple[Node, ...], items: Items | None) -> Iterator[Fault]:
    for node in nodes:
        if isinstance(node, Loop) and not isinstance(node.count, int):
            if items is None or items.group != 1:
                yield (
                    node,
                    f"loop {node.var} has a count per item; put it into items dealt one by one (group=1)",
                )
            elif not isinstance(items.deal, str):
                yield node, f"loop {node.var} has a count per item, which items dealt on a grid cannot have"
            elif len(node.count) != items.total:
                yield node, f"loop {node.var} has {len(node.count)} counts for {items.total} items"
        if isinstance(node, (Loop, Items)):
            yield from _counts(node.body, node if isinstance(node, Items) else items)


def items(phase: Phase) -> Iterator[Fault]:
    """Items are dealt to cores, so they stand at the top of a phase, not in a loop or in other items; on a
    grid they have two axes and come one by one."""
    for node in phase.nodes:
        grid = isinstance(node, Items) and not isinstance(node.deal, str)
        if isinstance(node, Items) and grid and (len(node.axes) != 2 or node.group != 1):
            yield node, f"a grid deals two axes one by one, got {len(node.axes)} in groups of {node.group}"
        if not isinstance(node, Operation):
            for inner in _loops(node.body):
                if isinstance(inner, Items):
                    names = " x ".join(name for name, _ in inner.axes)
                    yield inner, f"the items {names} stand inside a loop or other items; put them at the top"


def order(phase: Phase) -> Iterator[Fault]:
    """Nothing orders a load behind a store to the same tensor: another phase, a tile in GM or a flag does."""
    stored: dict[Tensor, set[Tile | None]] = {}
    places: set[tuple[int, Access, Tile | None]] = set()
    for block, op in _by_block(phase):
        if op.kind is OpKind.store and isinstance(op.dst, Access):
            stored.setdefault(op.dst.tensor, set()).add(op.sets)
            places.add((block, op.dst, op.sets))
    for block, op in _by_block(phase):
        for src in op.srcs:
            if not isinstance(src, Access) or src.tensor not in stored:
                continue
            if op.after is None or stored[src.tensor] != {op.after.tile}:
                yield (
                    op,
                    f"{op.name} loads tensor {src.tensor.name}, which the same phase stores; nothing orders "
                    "the two: load it in a later phase, hand the data over in a tile at GM, or let each "
                    "store set a flag (sets=) and the load wait for it (after=)",
                )
            elif (block, src, op.after.tile) not in places:
                yield (
                    op,
                    f"{op.name} loads {src} after flag {op.after.tile.name}, which no store to that very "
                    "place sets; what another item stores is another core's, and no flag orders the two",
                )


def _by_block(phase: Phase) -> Iterator[tuple[int, Operation]]:
    """Every operation, with the number of the items it stands in: others may be dealt otherwise."""
    for number, node in enumerate(phase.nodes):
        for op in operations((node,)):
            yield (number if isinstance(node, Items) else -1), op


def cores(phase: Phase) -> Iterator[Fault]:
    """Waits, barriers and scalar work name cores and units that the graph knows."""
    places = get_args(Place)
    for op in phase.distinct:
        place, _, scope = op.on.partition(":")
        known = [*places, *get_args(Unit)] if op.kind is OpKind.wait else places
        if op.on and place not in known:
            yield op, f"{op.name} on {place!r}; {did_you_mean(place, known)}"
        if scope and scope not in ("core", *get_args(Unit)):
            yield op, f"{op.name} on {scope!r}; {did_you_mean(scope, ['core', *get_args(Unit)])}"
        for src in op.srcs:
            if not isinstance(src, View):
                continue
            if (
                op.kind is OpKind.scalar
                and phase.over == "group"
                and src.tile.level == "UB"
                and op.on == "cube"
            ):
                place = src.tile.place
                yield (
                    op,
                    f"{op.name}: {_named(src)} is in UB, which the cube core cannot read; give on={place!r}",
                )
            if op.kind is OpKind.wait and phase.over == "vector" and op.on == "cube":
                yield op, f"a wait on the cube core for {_named(src)}, in a phase over vector cores"


def use_before_definition(kernel: Kernel) -> Iterator[Fault]:
    """Every read of a tile follows a write of it in program order, phase after phase. What an item writes
    is its own: it is gone when the next item, or the rest of the phase, begins."""
    written: set[Tile] = set()
    for phase in kernel.phases:
        yield from _undefined(phase.nodes, written)


def _undefined(nodes: tuple[Node, ...], written: set[Tile]) -> Iterator[Fault]:
    for op in nodes:
        if isinstance(op, Loop):
            yield from _undefined(op.body, written)
        elif isinstance(op, Items):
            yield from _undefined(op.body, set(written))
            yield from _undefined(op.ragged, set(written))
        else:
            for src in op.srcs:
                if isinstance(src, View) and src.tile not in written:
                    yield op, f"{op.name} reads tile {src.tile.name} before anything wrote it"
            if isinstance(op.dst, View):
                if op.adds and op.dst.tile not in written:
                    yield op, f"{op.name} adds to tile {op.dst.tile.name} before anything wrote it"
                written.add(op.dst.tile)
            if op.after is not None and op.after.tile not in written:
                yield op, f"{op.name} waits for flag {op.after.tile.name} before anything set it"
            if op.sets is not None:
                written.add(op.sets)


RULES: dict[str, Callable[[Phase], Iterator[Fault]]] = {
    "shape": shapes,
    "bounds": bounds,
    "dtype": dtypes,
    "place": places,
    "deadlock": deadlock,
    "empty loop": empty_loops,
    "count": counts,
    "items": items,
    "order": order,
    "core": cores,
}


# --- capacity --------------------------------------------------------------------------------


def tile_bytes(tile: Tile, target: Target, over: str = "group") -> int:
    """Bytes one core holds of a tile, all slots together."""
    rows = tile.shape[0]
    if tile.place == "rows" and over == "group" and target.vector_cores > 1:
        rows = -(-rows // target.vector_cores)
    return int(-(-rows * tile.shape[1] * dtype(tile.dtype).bytes // 1)) * tile.slots


def phase_tiles(phase: Phase) -> list[Tile]:
    """The tiles a phase touches, in order of first use."""
    return list(dict.fromkeys(view.tile for op in phase.distinct for view in op.views))


def peak_bytes(kernel: Kernel, target: Target) -> dict[str, int]:
    """Most bytes any phase holds at each on-chip level, per core."""
    peak: dict[str, int] = {}
    for phase in kernel.phases:
        by_level: dict[str, list[Tile]] = {}
        for tile in phase_tiles(phase):
            by_level.setdefault(tile.level, []).append(tile)
        for level, tiles in by_level.items():
            peak[level] = max(peak.get(level, 0), held_bytes(tiles, target, phase.over))
    return peak


def held_bytes(tiles: list[Tile], target: Target, over: str) -> int:
    """Bytes that tiles of one memory take on the core that holds most: of two vector cores, what lies on one
    alone takes no room on the other."""
    total = sum(tile_bytes(tile, target, over) for tile in tiles)
    if over != "group" or target.vector_cores < 2:
        return total
    alone = {
        place: sum(tile_bytes(t, target, over) for t in tiles if t.level == "UB" and t.place == place)
        for place in ("first", "second")
    }
    return total - min(alone.values())


def check_capacity(kernel: Kernel, phase: Phase, target: Target) -> None:
    """Raise GraphError where the tiles of a phase, times their slots, exceed a memory."""
    by_memory: dict[str, list[Tile]] = {}
    for tile in phase_tiles(phase):
        if tile.level != "GM":
            by_memory.setdefault(target.level_memory[tile.level], []).append(tile)
    for memory, tiles in by_memory.items():
        limit = target.level_bytes[tiles[0].level]
        used = held_bytes(tiles, target, phase.over)
        if used > limit:
            largest = sorted(tiles, key=lambda tile: -tile_bytes(tile, target, phase.over))[:4]
            sizes = ", ".join(f"{t.name} {_kib(tile_bytes(t, target, phase.over))}" for t in largest)
            raise GraphError(
                "capacity",
                f"{kernel.name}, phase {phase.name}: the tiles at {memory} need {_kib(used)} of "
                f"{_kib(limit)} (largest: {sizes})",
                remedy="use smaller tiles or fewer slots",
                where=largest[0].where,
            )


def _kib(count: int) -> str:
    return f"{count / 1024:g} KiB"
