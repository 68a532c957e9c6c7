"""The stable text form of a tile graph, as `npusim show` prints it and as goldens hold it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from npusim.graph import Items, Kernel, Loop, Node, Operation, Tensor, Tile
from npusim.lower import Instance, lower
from npusim.machine import Machine
from npusim.ops import OpKind

COLUMN = 78
"""where the cost of an operation stands"""


def kernel_text(kernel: Kernel, machine: Machine | None = None) -> str:
    """The graph, line by line; with a machine, each operation's unit, cycles and instructions on it."""
    costs: dict[Operation, list[Instance]] = {}
    if machine is not None:
        for phase in lower(kernel, machine).phases:
            for instance in phase.instances:
                if instance.operation is not None:
                    costs.setdefault(instance.operation, []).append(instance)
    return "\n".join(line.rstrip() for line in _lines(kernel, machine, costs))


def _lines(
    kernel: Kernel, machine: Machine | None, costs: Mapping[Operation, list[Instance]]
) -> Iterator[str]:
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
    for phase in kernel.phases:
        yield ""
        yield f"phase {phase.name} over {'core groups' if phase.over == 'group' else 'vector cores'}"
        lanes = {}
        if machine is not None:
            program = next(p for p in lower(kernel, machine).phases if p.name == phase.name)
            lanes = {number: lane.unit for number, lane in enumerate(program.lanes)}
        yield from _nodes(phase.nodes, 1, costs, lanes)


def _tensor(tensor: Tensor) -> str:
    pitch = "" if tensor.pitch == tensor.shape[-1] else f", rows {tensor.pitch} elements apart"
    return f"tensor {tensor.name}: {tensor.role} {list(tensor.shape)} {tensor.dtype}{_scale(tensor)}{pitch}"


def _tile(tile: Tile) -> str:
    place = "" if tile.place == "cube" else f", {tile.place}"
    slots = f" x{tile.slots}" if tile.slots > 1 else ""
    return f"tile {tile.name}: {tile.level} {list(tile.shape)} {tile.dtype}{_scale(tile)}{slots}{place}"


def _scale(thing: Tensor | Tile) -> str:
    return "" if thing.scale == 1.0 else f" scale {thing.scale:g}"


def _nodes(
    nodes: tuple[Node, ...], depth: int, costs: Mapping[Operation, list[Instance]], lanes: Mapping[int, str]
) -> Iterator[str]:
    indent = "  " * depth
    for node in nodes:
        if isinstance(node, Operation):
            line = indent + _operation(node)
            found = costs.get(node)
            yield f"{line:<{COLUMN}} # {_cost(found, lanes)}" if found else line
        elif isinstance(node, Loop):
            count = node.count if np.ndim(node.count) == 0 else f"per item {np.asarray(node.count).tolist()}"
            yield f"{indent}loop {node.var} x {count}"
            yield from _nodes(node.body, depth + 1, costs, lanes)
        else:
            yield indent + _items(node)
            yield from _nodes(node.body, depth + 1, costs, lanes)
            if node.ragged:
                yield f"{indent}ragged trip of {node.total % node.group}"
                yield from _nodes(node.ragged, depth + 1, costs, lanes)


def _items(items: Items) -> str:
    axes = " x ".join(f"{name} {size}" for name, size in items.axes)
    trip = f", {items.group} a trip" if items.group > 1 else ""
    return f"items {axes}{trip}, {items.deal}"


def _operation(op: Operation) -> str:
    if op.kind in (OpKind.wait, OpKind.barrier):
        return f"{op.kind} {' '.join(str(src) for src in op.srcs)} on {op.on}".replace("  ", " ")
    arrow = "<~" if op.stream else "+=" if op.into and op.kind is OpKind.matmul else "<-"
    what = op.function or str(op.kind)
    parts = [str(src) + _mask(op, i) for i, src in enumerate(op.srcs)]
    if op.immediate is not None:
        parts.append(f"{op.immediate:g}")
    into = " (into)" if op.into and op.kind is not OpKind.matmul else ""
    label = f"  '{op.label}'" if op.label else ""
    return f"{what} {op.dst or op.on} {arrow} {', '.join(parts)}{into}{label}"


def _mask(op: Operation, source: int) -> str:
    turned = ".T" if source < len(op.transpose) and op.transpose[source] else ""
    mask = op.fractals[source] if source < len(op.fractals) else None
    return turned if mask is None else f"{turned}{{{int(mask.sum())} of {mask.size} fractals}}"


def _cost(instances: list[Instance], lanes: Mapping[int, str]) -> str:
    first = instances[0]
    cost = first.cost
    count = f" x{cost.instructions}" if cost.instructions != 1 else ""
    cores = f" on {len(instances)} cores" if len(instances) > 1 else ""
    return f"{lanes[first.lane]} {cost.occupancy:.6g}+{cost.latency:.6g}{count}{cores}"
