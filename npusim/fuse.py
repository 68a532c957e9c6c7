"""Several kernels in one launch: their phases one after another, with a barrier over all cores between them.

What one stores and a later one loads stays a tensor in global memory, a workspace of the whole.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from npusim.errors import GraphError
from npusim.graph import Access, Items, Kernel, Loop, Node, Operation, Phase, Tensor, View


def fuse(
    name: str,
    kernels: Sequence[Kernel],
    outputs: Collection[str],
    algorithm: str = "",
    variant: str = "",
    settings: Mapping[str, Any] | None = None,
) -> Kernel:
    """One kernel of `kernels`, whose tensors are the same where they have one name (constants are each
    kernel's own). Of what they store, the tensors `outputs` are outputs.

    GraphError where two kernels see a tensor differently.
    """
    tensors: dict[str, Tensor] = {}
    parts = [_Part(kernel, tensors, outputs) for kernel in kernels]
    phases = tuple(phase for part in parts for phase in part.phases())
    tiles = tuple(tile for part in parts for tile in part.tiles.values())
    missing = [one for one in outputs if one not in tensors or tensors[one].role != "output"]
    if missing:
        raise GraphError("fuse", f"{name}: nothing stores {', '.join(missing)}")
    return Kernel(
        name,
        algorithm,
        variant,
        kernels[0].dtype,
        tuple(tensors.values()),
        tiles,
        phases,
        dict(settings or {}),
    )


class _Part:
    """One of the kernels, in the tensors of the whole."""

    def __init__(self, kernel: Kernel, tensors: dict[str, Tensor], outputs: Collection[str]) -> None:
        self.kernel = kernel
        self.tiles = {tile: replace(tile, name=f"{kernel.name}: {tile.name}") for tile in kernel.tiles}
        self.tensors: dict[str, Tensor] = {}
        for tensor in kernel.tensors:
            whole = self._in_whole(tensor, outputs)
            known = tensors.setdefault(whole.name, whole)
            if replace(known, role="input") != replace(whole, role="input"):
                raise GraphError(
                    "fuse",
                    f"{kernel.name}: tensor {tensor.name} is {_form(whole)}, before it was {_form(known)}",
                )
            self.tensors[tensor.name] = known

    def _in_whole(self, tensor: Tensor, outputs: Collection[str]) -> Tensor:
        if tensor.role in ("constant", "workspace"):
            return replace(tensor, name=f"{self.kernel.name}: {tensor.name}")
        inner = tensor.role == "output" and tensor.name not in outputs
        return replace(tensor, role="workspace") if inner else tensor

    def phases(self) -> list[Phase]:
        return [replace(phase, nodes=self._nodes(phase.nodes)) for phase in self.kernel.phases]

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
            dst=op.dst and self._end(op.dst),
            srcs=tuple(self._end(src) for src in op.srcs),
            scratch=op.scratch and self.tiles[op.scratch],
            sets=op.sets and self.tiles[op.sets],
            after=op.after and self._view(op.after),
        )

    def _end(self, end: View | Access) -> View | Access:
        if isinstance(end, View):
            return self._view(end)
        return replace(end, tensor=self.tensors[end.tensor.name])

    def _view(self, view: View) -> View:
        return replace(view, tile=self.tiles[view.tile])


def _form(tensor: Tensor) -> str:
    return f"{list(tensor.shape)} {tensor.dtype}, rows {tensor.pitch} apart, scale {tensor.scale:g}"
