"""The same tile graph without rounding: what a kernel would give in exact arithmetic, up to float64."""

from __future__ import annotations

from dataclasses import replace

from npusim.graph import Access, Items, Kernel, Loop, Node, Operation, Phase, Tensor, Tile, View


def exact(kernel: Kernel) -> Kernel:
    """`kernel` with every tile and tensor in fp64 at scale 1; names, shapes and structure stay."""
    rewrite = _Rewrite()
    phases = tuple(Phase(phase.name, phase.over, rewrite.nodes(phase.nodes)) for phase in kernel.phases)
    return replace(
        kernel,
        dtype="fp64",
        tensors=tuple(rewrite.tensor(tensor) for tensor in kernel.tensors),
        tiles=tuple(rewrite.tile(tile) for tile in kernel.tiles),
        phases=phases,
    )


class _Rewrite:
    """Each tile and tensor becomes one new one, wherever it is named."""

    def __init__(self) -> None:
        self.tiles: dict[Tile, Tile] = {}
        self.tensors: dict[str, Tensor] = {}

    def tile(self, tile: Tile) -> Tile:
        return self.tiles.setdefault(tile, replace(tile, dtype="fp64", scale=1.0))

    def tensor(self, tensor: Tensor) -> Tensor:
        return self.tensors.setdefault(tensor.name, replace(tensor, dtype="fp64", scale=1.0))

    def end(self, end: View | Access) -> View | Access:
        if isinstance(end, View):
            return replace(end, tile=self.tile(end.tile))
        return replace(end, tensor=self.tensor(end.tensor))

    def nodes(self, nodes: tuple[Node, ...]) -> tuple[Node, ...]:
        return tuple(self.node(node) for node in nodes)

    def node(self, node: Node) -> Node:
        if isinstance(node, Loop):
            return replace(node, body=self.nodes(node.body))
        if isinstance(node, Items):
            return replace(node, body=self.nodes(node.body), ragged=self.nodes(node.ragged))
        return self.operation(node)

    def operation(self, op: Operation) -> Operation:
        return replace(
            op,
            dst=self.end(op.dst) if op.dst else None,
            srcs=tuple(self.end(src) for src in op.srcs),
            scratch=self.tile(op.scratch) if op.scratch else None,
        )
