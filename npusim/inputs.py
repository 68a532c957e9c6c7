"""The triangular matrices of a problem, generated or read from a file, and their true inverses.

One door to four files: `gates` (beta and g), `generate` (keys, whole problems), `problem_file` (files),
`matrices` (L itself, its place in the problem, its inverse).
"""

from npusim.gates import GateModel, gate_model
from npusim.generate import generate, generate_matrices
from npusim.matrices import MatrixBatch, delta_matrix, reference_inverse
from npusim.problem_file import read_matrices

__all__ = [
    "GateModel",
    "MatrixBatch",
    "delta_matrix",
    "gate_model",
    "generate",
    "generate_matrices",
    "read_matrices",
    "reference_inverse",
]
