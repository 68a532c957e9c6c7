"""The inputs of a problem, generated or read from a file, and the float64 truth to compare with.

One door to four files: `gates` (beta and g), `generate` (keys, whole problems), `npz` (files), `matrices`
(L itself, its place in the problem, its inverse).
"""

from npusim.gates import GateModel, gate_model
from npusim.generate import KEY_CORRELATION, generate, generate_matrices
from npusim.matrices import MatrixBatch, delta_matrix, reference_inverse
from npusim.npz import check_target, read_matrices, write_npz

__all__ = [
    "KEY_CORRELATION",
    "GateModel",
    "MatrixBatch",
    "check_target",
    "delta_matrix",
    "gate_model",
    "generate",
    "generate_matrices",
    "read_matrices",
    "reference_inverse",
    "write_npz",
]
