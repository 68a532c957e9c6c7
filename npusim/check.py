"""The rules a tile graph must keep, each by name, with messages that name the tile and the remedy.

`RULES` is the list; `check(kernel, target)` raises the first GraphError. Capacity needs a target.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from npusim.dtypes import accumulator, dtype
from npusim.errors import GraphError
from npusim.graph import (
    Access,
    Items,
    Kernel,
    Loop,
    Node,
    Operation,
    Phase,
    Tile,
    View,
    operations,
    tiles_of,
)
from npusim.ops import VECTOR, OpKind
from npusim.problem import Target

Shape = tuple[int, int]

_LEVELS: dict[OpKind, tuple[tuple[str, ...], ...]] = {
    OpKind.matmul: (("L0C",), ("L0A",), ("L0B",)),
    OpKind.vector: (("UB",),) * 4,
}


def check(kernel: Kernel, target: Target | None = None) -> Kernel:
    """Return `kernel` if it keeps every rule; raise GraphError otherwise.

    Without a target the capacity of the buffers is not looked at (numerics need none).
    """
    for phase in kernel.phases:
        for rule, test in RULES.items():
            for message in test(phase):
                raise GraphError(rule, f"{kernel.name}, phase {phase.name}: {message}")
        if target is not None:
            check_capacity(kernel, phase, target)
    for message in use_before_definition(kernel):
        raise GraphError("use before definition", f"{kernel.name}: {message}")
    return kernel


def shapes(phase: Phase) -> Iterator[str]:
    """Operands of an operation fit each other, and views lie inside their tiles."""
    for op in operations(phase.nodes):
        for view in tiles_of(op):
            for start, size, limit in (
                (view.row, view.rows, view.tile.shape[0]),
                (view.col, view.cols, view.tile.shape[1]),
            ):
                if size < 1 or (not start.terms and (start.const < 0 or start.const + size > limit)):
                    yield f"{op.name}: view {view} lies outside tile {view.tile.name} {view.tile.shape}"
        problem = _shape_problem(op)
        if problem:
            yield f"{op.name}: {problem}"


def _shape_problem(op: Operation) -> str:
    """What does not fit, or ''. Shapes are [rows, cols]."""
    if op.dst is None or op.kind in (OpKind.wait, OpKind.barrier, OpKind.scalar):
        return ""
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
    if _SHAPE_RULES[function.rule](dst, srcs):
        return ""
    operands = ", ".join(_named(src) for src in op.srcs)
    return f"{operands} {'do' if len(srcs) > 1 else 'does'} not fit {_named(op.dst)}"


_SHAPE_RULES: dict[str, Callable[[Shape, list[Shape]], bool]] = {
    "none": lambda dst, srcs: True,
    "same": lambda dst, srcs: all(src == dst for src in srcs),
    "to_column": lambda dst, srcs: dst == (srcs[0][0], 1),
    "to_row": lambda dst, srcs: dst == (1, srcs[0][1]),
    "from_column": lambda dst, srcs: srcs[0] == (dst[0], 1),
    "from_row": lambda dst, srcs: srcs[0] == (1, dst[1]),
    "vecmat": lambda dst, srcs: srcs[0] == (1, srcs[1][0]) and dst == (1, srcs[1][1]),
}


def _named(end: View | Access | None) -> str:
    if isinstance(end, View):
        return f"tile {end.tile.name} {list(end.shape)}"
    return f"tensor {end.tensor.name} {list(end.shape)}" if end else "nothing"


def dtypes(phase: Phase) -> Iterator[str]:
    """Products take two operands of one dtype and accumulate in that dtype's accumulator."""
    for op in operations(phase.nodes):
        if op.kind is OpKind.matmul:
            dst, a, b = (end.tile for end in (op.dst, *op.srcs) if isinstance(end, View))
            if a.dtype != b.dtype:
                yield f"{op.name}: operands {a.name} ({a.dtype}) and {b.name} ({b.dtype}) differ in dtype"
            wanted = accumulator(dtype(a.dtype)).name
            if dst.dtype != wanted:
                yield f"{op.name}: accumulator {dst.name} is {dst.dtype}; {a.dtype} accumulates in {wanted}"
            if dtype(wanted).kind == "int" and abs(dst.scale - a.scale * b.scale) > 1e-12 * dst.scale:
                yield f"{op.name}: accumulator {dst.name} has scale {dst.scale:g}, not {a.scale * b.scale:g}"


def levels(phase: Phase) -> Iterator[str]:
    """Operands lie at the levels their unit reads and writes."""
    for op in operations(phase.nodes):
        for view, allowed in zip((op.dst, *op.srcs), _LEVELS.get(op.kind, ()), strict=False):
            if isinstance(view, View) and view.tile.level not in allowed:
                yield (
                    f"{op.name}: tile {view.tile.name} is at {view.tile.level}; "
                    f"a {op.kind} needs it at {' or '.join(allowed)} (use a move)"
                )
        for view in tiles_of(op):
            if phase.over == "vector" and view.tile.level not in ("UB", "GM"):
                yield f"{op.name}: tile {view.tile.name} is on the cube core, in a phase over vector cores"


def places(phase: Phase) -> Iterator[str]:
    """The vector cores that compute a result hold all of its operands."""
    for op in operations(phase.nodes):
        if op.kind is not OpKind.vector or not isinstance(op.dst, View):
            continue
        for src in op.srcs:
            there = src.tile.place if isinstance(src, View) else op.dst.tile.place
            broadcast = isinstance(src, View) and src.rows == 1 and there == "replicate"
            if there not in (op.dst.tile.place, "replicate") and not broadcast:
                yield (
                    f"{op.name}: tile {_named(src)} is placed {there}, but the result "
                    f"{op.dst.tile.name} {op.dst.tile.place}; give both the same place"
                )


def deadlock(phase: Phase) -> Iterator[str]:
    """A version is read while its slot still lives: later writes would wait for this read for ever."""
    for op in operations(phase.nodes):
        for view in tiles_of(op):
            if view.back >= view.tile.slots:
                yield (
                    f"{op.name} reads tile {view.tile.name} {view.back} writes late, but it has "
                    f"{view.tile.slots} slot(s): the later write waits for this read, and this read "
                    f"stands behind it; give it slots={view.back + 1}"
                )


def empty_loops(phase: Phase) -> Iterator[str]:
    """A loop without trips or without operations says that something was forgotten."""
    for node in _loops(phase.nodes):
        if isinstance(node, Items):
            if node.total < 1:
                yield "there are no items to deal; the problem is empty"
            if not list(operations(node.body)):
                yield f"the items {' x '.join(name for name, _ in node.axes)} have no operations"
        elif not list(operations(node.body)):
            yield f"loop {node.var} has no operations"


def _loops(nodes: tuple[Node, ...]) -> Iterator[Loop | Items]:
    for node in nodes:
        if isinstance(node, (Loop, Items)):
            yield node
            yield from _loops(node.body)


def barriers(phase: Phase) -> Iterator[str]:
    """Barriers, waits and scalar work name cores and units that the graph knows."""
    for op in operations(phase.nodes):
        if op.kind is OpKind.wait and op.srcs and phase.over == "vector" and op.on == "cube":
            yield f"a wait on the cube core for {_named(op.srcs[0])}, in a phase over vector cores"


def use_before_definition(kernel: Kernel) -> Iterator[str]:
    """Every read of a tile follows a write of it; program order runs through all phases."""
    written: set[Tile] = set()
    for phase in kernel.phases:
        for op in operations(phase.nodes):
            for src in op.srcs:
                if isinstance(src, View) and src.tile not in written:
                    yield f"{op.name} reads tile {src.tile.name} before anything wrote it"
            if isinstance(op.dst, View):
                if op.into and op.kind is OpKind.matmul and op.dst.tile not in written:
                    yield f"{op.name} adds to tile {op.dst.tile.name} before anything wrote it"
                written.add(op.dst.tile)


RULES: dict[str, Callable[[Phase], Iterator[str]]] = {
    "shape": shapes,
    "dtype": dtypes,
    "level": levels,
    "place": places,
    "deadlock": deadlock,
    "empty loop": empty_loops,
    "core": barriers,
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
    return list(dict.fromkeys(view.tile for op in operations(phase.nodes) for view in tiles_of(op)))


def peak_bytes(kernel: Kernel, target: Target) -> dict[str, int]:
    """Most bytes any phase holds at each on-chip level, per core."""
    peak: dict[str, int] = {}
    for phase in kernel.phases:
        held: dict[str, int] = {}
        for tile in phase_tiles(phase):
            held[tile.level] = held.get(tile.level, 0) + tile_bytes(tile, target, phase.over)
        for level, count in held.items():
            peak[level] = max(peak.get(level, 0), count)
    return peak


def check_capacity(kernel: Kernel, phase: Phase, target: Target) -> None:
    """Raise GraphError where the tiles of a phase, times their slots, exceed a memory."""
    by_memory: dict[str, list[Tile]] = {}
    for tile in phase_tiles(phase):
        if tile.level != "GM":
            by_memory.setdefault(target.level_memory[tile.level], []).append(tile)
    for memory, tiles in by_memory.items():
        limit = target.level_bytes[tiles[0].level]
        used = sum(tile_bytes(tile, target, phase.over) for tile in tiles)
        if used > limit:
            largest = sorted(tiles, key=lambda tile: -tile_bytes(tile, target, phase.over))[:4]
            sizes = ", ".join(f"{t.name} {_kib(tile_bytes(t, target, phase.over))}" for t in largest)
            raise GraphError(
                "capacity",
                f"{kernel.name}, phase {phase.name}: the tiles at {memory} need {_kib(used)} of "
                f"{_kib(limit)} (largest: {sizes}); use a smaller chunk or fewer slots",
            )


def _kib(count: int) -> str:
    return f"{count / 1024:g} KiB"
