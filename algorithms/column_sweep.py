"""Column sweep (VCS) on the vector unit: one multiply-add of a vector at a time, led by a scalar.

Source: "Fast and Stable Triangular Inversion for Delta-Rule Linear Transformers" (arXiv 2605.21325), VCS.
Written for T (I + L) = I, whose rows are the columns of the upper triangular form in which kernels store L:
  x = e_i;   for k = i .. 1:   x[:k] <- x[:k] - x[k] L[k, :k]            row i of T
C(C-1)/2 dependent steps, each of which reads x[k] on the scalar unit before the vector unit can go on.

`tcuscan` has the structure of the measured kernel (huawei-csl/pytorch-tcuscan, tri_inv_col_sweep): one
matrix on a vector core, the result cleared, and all C steps for every column, also where x is zero; the
scalar unit keeps x in UB besides (read, write, read, convert and negate). Where there are more matrices than
vector cores, each core takes several here, one after the other.
"""

from __future__ import annotations

from algorithms.tri_inverse import Inverse, fitting
from npusim.builder import Algorithm, Item, Kernel, Options, Problem, Target, Tile, bytes_of

WORKING = {"fp64": "fp64", "fp32": "fp32", "fp16": "fp16"}
"""dtypes in which the sweep runs on operands as they are; others are swept in fp32"""


def build(problem: Problem, options: Options, target: Target) -> Kernel:
    """The tile graph; vector cores only."""
    variant = ALGORITHM.variant(problem, options, target)
    working = WORKING.get(problem.dtype, "fp32")
    inverse = Inverse.begin(problem, options, target, "column-sweep", variant, out=working)
    k, n = inverse.k, inverse.n
    each = 2 * n * n * bytes_of(working)
    slots = options.slots or (1 if variant == "tcuscan" else fitting(target, "UB", each, 2))
    k.settings["slots"] = slots

    def ub(name: str, dtype: str, slots: int = 1, scale: float = 1.0) -> Tile:
        return k.tile(name, "UB", (n, n), dtype, slots, "replicate", scale)

    loaded = ub("L", problem.dtype, slots, inverse.scale)
    L = loaded if problem.dtype == working else ub(f"L in {working}", working)
    T = ub("T", working, slots)
    out = T if inverse.T.dtype == working else ub("T rounded", inverse.T.dtype, 1, inverse.T.scale)

    def matrix(items: list[Item]) -> None:
        (item,) = items
        k.load(loaded, inverse.L.at(*item), label="load L")
        if L is not loaded:
            k.vector("cast", L, loaded, label=f"L in {working}")
        if variant == "tcuscan":
            k.vector("fill", T, imm=0.0, label="clear T")
        for i in range(n):
            k.vector("unit", T.view(i, 1), imm=i, label="x = e_i")
            if variant == "tcuscan":
                k.vector("sweep_kept", T.view(i, 1), L, label="sweep")
            elif i:
                k.vector("sweep", T.view(i, 1, 0, i + 1), L.view(0, i + 1, 0, i + 1), label="sweep")
        if out is not T:
            k.vector("cast", out, T, label="round T")
        k.store(inverse.T.at(*item), out, label="store T")

    with k.phase("sweep", over="vector"):
        k.items(inverse.axes, matrix)
    return k.finish()


ALGORITHM = Algorithm(
    name="column-sweep",
    meaning="one vector multiply-add at a time, each led by a scalar read",
    source="arXiv 2605.21325 (VCS); huawei-csl/pytorch-tcuscan",
    build=build,
    variants={
        "tcuscan": "as measured: all C steps of every column, x kept in UB, single buffers",
        "textbook": "only the steps that can change something, double-buffered where UB has room",
    },
    parameters=frozenset({"slots", "out_dtype"}),
)
