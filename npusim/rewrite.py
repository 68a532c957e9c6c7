"""The same tile graph with other tiles and tensors, wherever one is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from npusim.graph import Access, Items, Loop, Node, Operation, Phase, Tensor, Tile, View


@dataclass(frozen=True)
class Rewrite:
    """What becomes of each tile and each tensor; one always becomes the same."""

    tile: Callable[[Tile], Tile]
    tensor: Callable[[Tensor], Tensor]
    keep_units: bool = True
    """whether views keep a scale of their own, or have that of their new tile"""

    def phase(self, phase: Phase) -> Phase:
        return replace(phase, nodes=self._nodes(phase.nodes))

    def _nodes(self, nodes: tuple[Node, ...]) -> tuple[Node, ...]:
        return tuple(self._node(node) for node in nodes)

    def _node(self, node: Node) -> Node:
        if isinstance(node, Loop):
            return replace(node, body=self._nodes(node.body))
        if isinstance(node, Items):
            return replace(node, body=self._nodes(node.body), ragged=self._nodes(node.ragged))
        return self._operation(node)

    def _operation(self, op: Operation) -> Operation:
        return replace(
            op,
            dst=self._end(op.dst) if op.dst else None,
            srcs=tuple(self._end(src) for src in op.srcs),
            scratch=self.tile(op.scratch) if op.scratch else None,
            sets=self.tile(op.sets) if op.sets else None,
            after=self._view(op.after) if op.after else None,
        )

    def _end(self, end: View | Access) -> View | Access:
        if isinstance(end, View):
            return self._view(end)
        return replace(end, tensor=self.tensor(end.tensor))

    def _view(self, view: View) -> View:
        unit = view.unit if self.keep_units else None
        return replace(view, tile=self.tile(view.tile), unit=unit)
