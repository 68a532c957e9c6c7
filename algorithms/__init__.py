"""Kernels as tile graphs, and the registry of their names."""

from __future__ import annotations

from algorithms import forward_substitution, masked_neumann, mxr
from npusim.builder import KernelEntry

REGISTRY: dict[str, KernelEntry] = {
    "tri-inverse": KernelEntry(
        "tri-inverse",
        "inverse of unit lower triangular matrices, T = (I + L)^-1, one per chunk and value head",
        {
            algorithm.name: algorithm
            for algorithm in (
                mxr.ALGORITHM,
                forward_substitution.ALGORITHM,
                masked_neumann.ALGORITHM,
            )
        },
    ),
}
