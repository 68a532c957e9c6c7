"""What all triangular inverses share: the tensors L and T, scales of integer operands, fractal masks.

T = (I + L)^-1 for strictly lower triangular L [C, C]; the papers write A = -L, T = sum A^n.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from npusim.builder import (
    KernelBuilder,
    Operand,
    Options,
    Problem,
    Target,
    Tensor,
    Tile,
    Unsupported,
    accumulator_of,
    operand_scale,
)

Bools = npt.NDArray[np.bool_]
FRACTAL = 16
LARGEST_CHUNK = 256
LARGEST = {"int8": 2.0, "int16": 16.0, "int4": 1.0}
"""Range that integer operands must reach: L stays below 1, T and the powers may grow beyond."""


@dataclass
class Inverse:
    """A tri-inverse under construction: builder, problem sizes, and operand formats."""

    k: KernelBuilder
    problem: Problem
    options: Options
    dtype: str
    L: Tensor
    T: Tensor

    @classmethod
    def begin(
        cls, problem: Problem, options: Options, target: Target, algorithm: str, variant: str, out: str
    ) -> Inverse:
        """Declare L [chunks, heads, C, C] and T alike, in the layout the field uses: tokens first, so
        that rows of one matrix are `heads` * C elements apart; given matrices are dense."""
        n, dtype = problem.chunk, problem.dtype
        if n > LARGEST_CHUNK:
            raise Unsupported(f"--chunk: {algorithm} takes chunks up to {LARGEST_CHUNK}, got {n}")
        if n % FRACTAL:
            raise Unsupported(f"--chunk: {algorithm} works on 16x16 fractals; got {n}, use a multiple of 16")
        k = KernelBuilder("tri-inverse", target, dtype, algorithm, variant)
        chunks, heads = problem.shape
        pitch = heads * n
        out_dtype = options.out_dtype or ("fp64" if dtype == "fp64" else out)
        shape = (chunks, heads, n, n)
        L = k.input("L", shape, dtype, pitch, operand_scale(dtype, LARGEST.get(dtype, 1.0)))
        T = k.output("T", shape, out_dtype, pitch, operand_scale(out_dtype, LARGEST.get(out_dtype, 1.0)))
        k.settings["out_dtype"] = out_dtype
        return cls(k, problem, options, dtype, L, T)

    @cached_property
    def n(self) -> int:
        return self.problem.chunk

    @property
    def axes(self) -> list[tuple[str, int]]:
        chunks, heads = self.problem.shape
        return [("chunk", chunks), ("head", heads)]

    @property
    def scale(self) -> float:
        """Value of one unit of an integer operand; 1 for floats."""
        return self.L.scale

    def operand(self, name: str, level: str, slots: int = 1) -> Tile:
        """An operand tile [C, C] of the cube at `level`."""
        return self.k.tile(name, level, (self.n, self.n), self.dtype, slots, "cube", self.scale)

    def accumulator(self, name: str, slots: int = 1) -> Tile:
        """An accumulator tile [C, C] in L0C."""
        dtype = accumulator_of(self.dtype)
        return self.k.tile(name, "L0C", (self.n, self.n), dtype, slots, "cube", self.scale**2)

    def identity(self, name: str, factor: float) -> Tensor:
        """factor * I as a constant in global memory."""
        return self.k.constant(name, factor * np.eye(self.n), self.dtype, self.scale)

    def product(
        self,
        dst: Tile,
        a: Operand,
        b: Operand,
        left: Tile,
        right: Tile,
        label: str,
        accumulate: bool = False,
        fractals: tuple[Bools | None, Bools | None] = (None, None),
    ) -> None:
        """dst (+)= a b with both operands copied from L1 to the L0 tiles `left` and `right`."""
        self.k.move(left, a, label="L1 to L0A")
        self.k.move(right, b, label="L1 to L0B")
        self.k.matmul(dst, left, right, accumulate, fractals, label=label)


def diagonal_blocks(n: int, size: int, parity: int | None = None) -> Bools:
    """Mask over the 16x16 fractals of an n x n matrix: its diagonal blocks of `size`, or only the even
    (parity 0) or odd (1) ones."""
    count = n // FRACTAL
    block = np.arange(count) * FRACTAL // size
    mask: Bools = block[:, None] == block[None, :]
    return mask if parity is None else mask & (block[:, None] % 2 == parity)


def lower_triangle(n: int) -> Bools:
    """Mask of the fractals on and below the diagonal."""
    return np.tri(n // FRACTAL, dtype=bool)


def below_diagonal_blocks(n: int, size: int) -> Bools:
    """Mask of the blocks (1, 0), (3, 2), ... of `size`: what one step of block recursion fills."""
    block = np.arange(n // FRACTAL) * FRACTAL // size
    mask: Bools = (block[:, None] == block[None, :] + 1) & (block[None, :] % 2 == 0)
    return mask


def check_power_of_two(n: int, algorithm: str) -> None:
    if n & (n - 1):
        raise Unsupported(f"--chunk: {algorithm} halves the matrix; got {n}, use 16, 32, 64, 128 or 256")
