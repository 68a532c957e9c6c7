"""Forward substitution, row by row, on the vector unit: T[i] = e_i - L[i, :i] T[:i].

The textbook algorithm for triangular systems (Golub and Van Loan, Matrix Computations, 3.1), the
baseline that the matrix-product algorithms are held against. C - 1 dependent row steps per matrix, step
i on the i rows above at full width; matrices are spread over the vector cores.
"""

from __future__ import annotations

from algorithms.floats import working_of
from algorithms.tri_inverse import Inverse
from npusim.builder import Algorithm, Index, Kernel, Options, Problem, Target, Tile

IN_PLACE = {"fp64", "fp32", "fp16", "bf16"}
"""dtypes in which L can be negated exactly where it lies"""


def build(problem: Problem, options: Options, target: Target) -> Kernel:
    """The tile graph; vector cores only. Substitution runs in fp32 (fp64 for fp64 operands)."""
    variant = ALGORITHM.variant(problem, options, target)
    inverse = Inverse.begin(problem, options, target, "forward-substitution", variant, out="fp32")
    k, n = inverse.k, inverse.n
    working = working_of(problem.dtype)
    slots = options.slots or _slots(inverse, working, target)
    k.settings["slots"] = slots

    def ub(name: str, dtype: str, slots: int = 1, scale: float = 1.0) -> Tile:
        return k.tile(name, "UB", (n, n), dtype, slots, "replicate", scale)

    L = ub("L", problem.dtype, slots, inverse.scale)
    minus_L = L if problem.dtype in IN_PLACE else ub("-L", working)
    T, scratch = ub("T", working, slots), ub("scaled rows", working)
    out = T if inverse.T.dtype == working else ub("T rounded", inverse.T.dtype, 1, inverse.T.scale)

    def matrix(items: list[tuple[Index, ...]]) -> None:
        (item,) = items
        k.load(L, inverse.L.at(*item), label="load L")
        if minus_L is not L:
            k.vector("cast", minus_L, L, label="L in fp32")
        k.vector("muls", minus_L, minus_L, imm=-1.0, label="negate L")
        k.vector("identity", T, label="T = I")
        for i in range(1, n):
            row = T.view(i, 1)
            coefficients = minus_L.view(i, 1, 0, i)
            k.vector("vecmat", row, coefficients, T.view(0, i), scratch=scratch, label="row step")
        if out is not T:
            k.vector("cast", out, T, label="round T")
        k.store(inverse.T.at(*item), out, label="store T")

    with k.phase("substitution", over="vector"):
        k.items(inverse.axes, matrix)
    return k.finish()


def _slots(inverse: Inverse, working: str, target: Target) -> int:
    """Double buffering where UB has room for it."""
    each = inverse.n**2 * {"fp64": 8, "fp32": 4}[working]
    return 2 if 4.5 * each <= target.level_bytes["UB"] else 1


ALGORITHM = Algorithm(
    name="forward-substitution",
    meaning="row by row on the vector unit, each row needing all before it",
    source="textbook",
    build=build,
    variants={"textbook": "one matrix per vector core at a time, all rows above, full width"},
    parameters=frozenset({"slots", "out_dtype"}),
)
