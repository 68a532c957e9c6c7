"""The same tile graph without rounding: what a kernel would give in exact arithmetic, up to float64."""

from __future__ import annotations

from dataclasses import replace

from npusim.graph import Kernel
from npusim.rewrite import Rewrite


def exact(kernel: Kernel) -> Kernel:
    """`kernel` with every tile and tensor in fp64 at scale 1; names, shapes and structure stay."""
    tiles = {tile: replace(tile, dtype="fp64", scale=1.0) for tile in kernel.tiles}
    tensors = {tensor.name: replace(tensor, dtype="fp64", scale=1.0) for tensor in kernel.tensors}
    rewrite = Rewrite(tiles.__getitem__, lambda tensor: tensors[tensor.name], keep_units=False)
    return replace(
        kernel,
        dtype="fp64",
        tensors=tuple(tensors.values()),
        tiles=tuple(tiles.values()),
        phases=tuple(rewrite.phase(phase) for phase in kernel.phases),
    )
