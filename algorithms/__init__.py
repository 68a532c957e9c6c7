"""Kernels as tile graphs, and the registry of their names."""

from __future__ import annotations

from algorithms import forward_substitution, masked_neumann, matmul, mxr
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
        sizes=("chunk", "batch", "seq_len", "heads", "key_heads", "head_dim", "cu_seqlens", "matrices"),
        data="triangles",
    ),
    "matmul": KernelEntry(
        "matmul",
        "matrix product, c = a b with a [m, k] and b [k, n]",
        {matmul.ALGORITHM.name: matmul.ALGORITHM},
        sizes=("m", "n", "k"),
        infer=matmul.infer,
    ),
}
