"""Moves that are no work: within one memory the destination may be another name of the source.

A move is only a name where every read of it, up to the next whole write of the destination in the same
block, finds the source unchanged, and nothing reads the destination after that block or in its next
trip. Every other move is a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from npusim.graph import Items, Loop, Node, Operation, Tile, View, operations
from npusim.ops import OpKind
from npusim.problem import Target

Nodes = tuple[Node, ...]


def drop_names(nodes: Nodes, later: set[Tile], target: Target, copied: Callable[[Operation], Nodes]) -> Nodes:
    """`nodes` without the moves that only name; `later` are the tiles read after them, in the next trip or
    a later phase. `copied` gives an operation that remains with the copies it needs before it."""
    done: list[Node] = []
    while nodes:
        node, nodes = nodes[0], nodes[1:]
        if isinstance(node, Loop):
            after = needed(node.body) | needed(nodes) | later
            done.append(replace(node, body=drop_names(node.body, after, target, copied)))
        elif isinstance(node, Items):  # what an item writes is its own
            body, ragged = (drop_names(part, set(), target, copied) for part in (node.body, node.ragged))
            done.append(replace(node, body=body, ragged=ragged))
        else:
            renamed = _renamed(node, nodes, later, target) if _changes_nothing(node, target) else None
            if renamed is None:
                done += copied(node)
            else:
                nodes = renamed
    return tuple(done)


def within_one_memory(op: Operation, target: Target) -> bool:
    """Whether it is a move that may be a name only; where there is none, `drop_names` changes nothing."""
    if op.kind is not OpKind.move:
        return False
    src, dst = op.srcs[0], op.dst
    assert isinstance(src, View) and isinstance(dst, View)
    return target.same_memory(src.tile.level, dst.tile.level)


def needed(nodes: Iterable[Node]) -> set[Tile]:
    """The tiles that are read, or written in part, before `nodes` write them whole."""
    found: set[Tile] = set()
    written: set[Tile] = set()
    for node in nodes:
        if isinstance(node, Operation):
            found |= {view.tile for view in node.views if node.into or view is not node.dst} - written
            written |= _written(node)
        else:
            found |= needed(node.body) - written
            found |= needed(node.ragged) - written if isinstance(node, Items) else set()
    return found


def _changes_nothing(op: Operation, target: Target) -> bool:
    """A whole tile goes to a tile of the same kind, in the same memory of the same cores."""
    if not within_one_memory(op, target):
        return False
    src, dst = op.srcs[0], op.dst
    assert isinstance(src, View) and isinstance(dst, View)
    return (
        (src.tile.level != dst.tile.level or src.tile.place in (dst.tile.place, "replicate"))
        and (src.tile.dtype, src.scale) == (dst.tile.dtype, dst.scale)
        and src.whole
        and dst.whole
        and not (any(op.transpose) or any(mask is not None for mask in op.fractals))
    )


def _renamed(move: Operation, nodes: Nodes, later: set[Tile], target: Target) -> Nodes | None:
    """The rest of the block with the source of `move` read by its own name; None if that may differ."""
    source, dst = move.srcs[0], move.dst
    assert isinstance(source, View) and isinstance(dst, View)
    name, back, lost = dst.tile, source.back, False
    if any(view.tile is name and view.back for op in operations(nodes) for view in op.views):
        return None
    done: list[Node] = []
    for place, node in enumerate(nodes):
        ops = list(operations((node,)))
        changes = any(source.tile in _written(op) for op in ops)
        readers = [op for op in ops if any(isinstance(src, View) and src.tile is name for src in op.srcs)]
        if readers:
            leaves = all(_has_path(op, source.tile.level, target) for op in readers)
            if changes or lost or back >= source.tile.slots or not leaves:
                return None
            node = _reading(node, name, replace(source, back=back))
        done.append(node)
        if any(name in _written(op) for op in ops):
            return (*done, *nodes[place + 1 :]) if _anew(node, name) else None
        if changes:
            back += 1
            lost = lost or not _anew(node, source.tile)
    return None if name in later else tuple(done)


def _has_path(op: Operation, level: str, target: Target) -> bool:
    """Whether `op` could copy out of the memory of `level` from there, if it does."""
    if op.kind not in (OpKind.move, OpKind.store):
        return True
    end = op.dst.tile.level if isinstance(op.dst, View) else "GM"
    return target.same_memory(level, end) or (level, end) in target.paths


def _written(op: Operation) -> set[Tile]:
    """The tiles whose contents an operation changes."""
    return {tile for tile in (op.dst.tile if isinstance(op.dst, View) else None, op.scratch) if tile}


def _anew(node: Node, tile: Tile) -> bool:
    """Whether `node`, which changes `tile`, is one operation that writes a new version of it."""
    return isinstance(node, Operation) and not node.into and node.scratch is not tile


def _reading(node: Node, name: Tile, source: View) -> Node:
    """`node` with `source` read where it reads the tile `name`."""
    if isinstance(node, Operation):
        srcs = tuple(
            replace(source, row=src.row, rows=src.rows, col=src.col, cols=src.cols)
            if isinstance(src, View) and src.tile is name
            else src
            for src in node.srcs
        )
        return replace(node, srcs=srcs)
    if isinstance(node, Loop):
        return replace(node, body=tuple(_reading(inner, name, source) for inner in node.body))
    body, ragged = (tuple(_reading(n, name, source) for n in part) for part in (node.body, node.ragged))
    return replace(node, body=body, ragged=ragged)
