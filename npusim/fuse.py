"""Several kernels in one launch: their phases one after another, with a barrier over all cores between them.

What one stores and a later one loads stays a tensor in global memory, a workspace of the whole.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from npusim.errors import GraphError
from npusim.graph import Kernel, Phase, Tensor, Tile
from npusim.rewrite import Rewrite


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

    GraphError where two kernels see a tensor differently, or where nothing stores an output.
    """
    tensors: dict[str, Tensor] = {}
    tiles: list[Tile] = []
    phases: list[Phase] = []
    for kernel in kernels:
        own_tiles = {tile: replace(tile, name=f"{kernel.name}: {tile.name}") for tile in kernel.tiles}
        own_tensors = {tensor.name: _shared(kernel, tensor, tensors, outputs) for tensor in kernel.tensors}
        rewrite = Rewrite(own_tiles.__getitem__, lambda tensor, own=own_tensors: own[tensor.name])  # type: ignore[misc]
        tiles += own_tiles.values()
        phases += [rewrite.phase(phase) for phase in kernel.phases]
    missing = [one for one in outputs if one not in tensors or tensors[one].role != "output"]
    if missing:
        raise GraphError("fuse", f"{name}: nothing stores {', '.join(missing)}")
    return Kernel(
        name, algorithm, variant, kernels[0].dtype,
        tuple(tensors.values()), tuple(tiles), tuple(phases), dict(settings or {}),
    )  # fmt: skip


def _shared(kernel: Kernel, tensor: Tensor, known: dict[str, Tensor], outputs: Collection[str]) -> Tensor:
    """What a tensor of one kernel is in the whole, where `known` are those of the kernels before."""
    whole = tensor
    if tensor.role in ("constant", "workspace"):
        whole = replace(tensor, name=f"{kernel.name}: {tensor.name}")
    elif tensor.role == "output" and tensor.name not in outputs:
        whole = replace(tensor, role="workspace")
    before = known.setdefault(whole.name, whole)
    if replace(before, role="input") != replace(whole, role="input"):
        raise GraphError(
            "fuse", f"{kernel.name}: tensor {tensor.name} is {_form(whole)}, before it was {_form(before)}"
        )
    return before


def _form(tensor: Tensor) -> str:
    return f"{list(tensor.shape)} {tensor.dtype}, rows {tensor.pitch} apart, scale {tensor.scale:g}"
