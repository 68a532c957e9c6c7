"""Kernels as tile graphs, and the registry of their names."""

from __future__ import annotations

from algorithms import (
    block_recursion,
    blocked_substitution,
    column_sweep,
    doubling,
    forward_substitution,
    masked_neumann,
    matmul,
    mxr,
    newton_schulz,
)
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
                column_sweep.ALGORITHM,
                blocked_substitution.ALGORITHM,
                doubling.ALGORITHM,
                block_recursion.ALGORITHM,
                newton_schulz.ALGORITHM,
                masked_neumann.ALGORITHM,
            )
        },
        sizes=("chunk", "batch", "seq_len", "heads", "key_heads", "head_dim", "cu_seqlens", "matrices"),
        data="triangles",
        baselines=("forward-substitution", "blocked-substitution", "mxr"),
    ),
    "matmul": KernelEntry(
        "matmul",
        "matrix product, c = a b with a [m, k] and b [k, n]",
        {matmul.ALGORITHM.name: matmul.ALGORITHM},
        sizes=("m", "n", "k"),
        infer=matmul.infer,
    ),
}
