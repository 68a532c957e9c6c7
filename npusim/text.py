"""The stable text form of a tile graph, as `npusim show` prints it and as goldens hold it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from npusim.graph import Items, Kernel, Loop, Node, Operation, Tensor, Tile, View, table_variable
from npusim.lower import lower
from npusim.machine import Machine
from npusim.ops import OpKind
from npusim.program import Instance, Lane, PhaseProgram

COLUMN = 78
"""where the cost of an operation stands"""


def kernel_text(kernel: Kernel, machine: Machine | None = None) -> str:
    """The graph, line by line; with a machine, each operation's unit, cycles and instructions on it."""
    return "\n".join(line.rstrip() for line in _lines(kernel, machine))


def _lines(kernel: Kernel, machine: Machine | None) -> Iterator[str]:
    name = " ".join(part for part in (kernel.name, kernel.algorithm, kernel.variant) if part)
    yield f"kernel {name}, {kernel.dtype} operands"
    settings = ", ".join(f"{key} {value}" for key, value in kernel.settings.items())
    if settings:
        yield f"settings {settings}"
    if machine is not None:
        yield f"machine {machine.name}; costs: unit, occupancy+latency in cycles, instructions if not 1"
    yield ""
    yield from (_tensor(tensor) for tensor in kernel.tensors)
    yield ""
    yield from (_tile(tile) for tile in kernel.tiles)
    programs = lower(kernel, machine).phases if machine else [None] * len(kernel.phases)
    for phase, program in zip(kernel.phases, programs, strict=True):
        yield ""
        yield f"phase {phase.name} over {'core groups' if phase.over == 'group' else 'vector cores'}"
        yield from _nodes(phase.nodes, 1, _costs(program) if program else {})


def _costs(program: PhaseProgram) -> dict[Operation, str]:
    """Unit, cycles and instructions of each operation, and on how many cores it runs."""
    instances: dict[Operation, list[Instance]] = {}
    for instance in program.instances:
        if instance.operation is not None:
            instances.setdefault(instance.operation, []).append(instance)
    return {op: _cost(found, program.lanes) for op, found in instances.items()}


def _tensor(tensor: Tensor) -> str:
    pitch = "" if tensor.pitch == tensor.shape[-1] else f", rows {tensor.pitch} elements apart"
    return f"tensor {tensor.name}: {tensor.role} {list(tensor.shape)} {tensor.dtype}{_scale(tensor)}{pitch}"


def _tile(tile: Tile) -> str:
    place = "" if tile.place == "cube" else f", {tile.place}"
    slots = f" x{tile.slots}" if tile.slots > 1 else ""
    return f"tile {tile.name}: {tile.level} {list(tile.shape)} {tile.dtype}{_scale(tile)}{slots}{place}"


def _scale(thing: Tensor | Tile) -> str:
    return "" if thing.scale == 1.0 else f" scale {thing.scale:g}"


def _nodes(nodes: tuple[Node, ...], depth: int, costs: Mapping[Operation, str]) -> Iterator[str]:
    indent = "  " * depth
    for node in nodes:
        if isinstance(node, Operation):
            line = indent + operation_text(node)
            found = costs.get(node)
            yield f"{line:<{COLUMN}} # {found}" if found else line
        elif isinstance(node, Loop):
            count = node.count if np.ndim(node.count) == 0 else f"per item {np.asarray(node.count).tolist()}"
            yield f"{indent}loop {node.var} x {count}"
            yield from _nodes(node.body, depth + 1, costs)
        else:
            yield indent + _items(node)
            yield from _nodes(node.body, depth + 1, costs)
            if node.ragged:
                yield f"{indent}ragged trip of {node.total % node.group}"
                yield from _nodes(node.ragged, depth + 1, costs)


def _items(items: Items) -> str:
    axes = " x ".join(f"{name} {size}" for name, size in items.axes)
    trip = f", {items.group} a trip" if items.group > 1 else ""
    deal = items.deal if isinstance(items.deal, str) else "grid {} x {}".format(*items.deal)
    tables = "".join(f", {table_variable(name)} {values.tolist()}" for name, values in items.tables)
    return f"items {axes}{trip}, {deal}{tables}"


def operation_text(op: Operation) -> str:
    """One operation: what it writes, by what, from what."""
    if op.kind in (OpKind.wait, OpKind.barrier):
        return f"{op.kind} {' '.join(str(src) for src in op.srcs)} on {op.on}".replace("  ", " ")
    arrow = "<~" if op.stream else "+=" if op.adds else "<-"
    what = op.function or str(op.kind)
    parts = [str(src) + _mask(op, i) for i, src in enumerate(op.srcs)]
    if op.immediate is not None:
        parts.append(f"{op.immediate:g}" + (" times" if op.kind is OpKind.scalar else ""))
    into = " (into)" if op.into and not op.adds else ""
    if isinstance(op.dst, View) and not (op.into or op.dst.whole):
        into = " (fresh)"
    flags = f" after {op.after.tile.name}" if op.after else ""
    flags += f" sets {op.sets.name}" if op.sets else ""
    label = f"  '{op.label}'" if op.label else ""
    return f"{what} {op.dst or op.on} {arrow} {', '.join(parts)}{into}{flags}{label}"


def _mask(op: Operation, source: int) -> str:
    turned = ".T" if source < len(op.transpose) and op.transpose[source] else ""
    mask = op.fractals[source] if source < len(op.fractals) else None
    return turned if mask is None else f"{turned}{{{int(mask.sum())} of {mask.size} fractals}}"


def _cost(instances: list[Instance], lanes: Sequence[Lane]) -> str:
    first = instances[0]
    cost = first.cost
    count = f" x{cost.instructions}" if cost.instructions != 1 else ""
    taken = len({lanes[instance.lane].core for instance in instances})
    cores = f" on {taken} cores" if taken > 1 else ""
    return f"{lanes[first.lane].unit} {cost.occupancy:.6g}+{cost.latency:.6g}{count}{cores}"
