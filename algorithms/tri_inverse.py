"""What all triangular inverses share: the tensors L and T, scales of integer operands, fractal masks.

T = (I + L)^-1 for strictly lower triangular L [C, C]; the papers write A = -L, T = sum A^n.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt

from algorithms.scaling import Scaling
from algorithms.tiles import FRACTAL
from npusim.builder import (
    KernelBuilder,
    Options,
    Place,
    Problem,
    Target,
    Tensor,
    Tile,
    Unsupported,
    View,
    accumulator_of,
    bytes_of,
    operand_scale,
)

Bools = npt.NDArray[np.bool_]
Shape = tuple[int, int]
LARGEST_CHUNK = 256
LARGEST = {"int8": 2.0, "int16": 16.0, "int4": 1.0}
"""Range that integer operands must reach where all have one scale: L stays below 1, T and the powers may grow
beyond."""


@dataclass
class Inverse:
    """A tri-inverse under construction: builder, problem sizes, and operand formats."""

    k: KernelBuilder
    problem: Problem
    options: Options
    dtype: str
    L: Tensor
    T: Tensor
    scaling: Scaling

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
        # what an int32 accumulator can leave as (DEQF16), where operands are integers
        natural = "fp64" if dtype == "fp64" else "fp16" if accumulator_of(dtype) == "int32" else out
        out_dtype = options.out_dtype or natural
        shape = (chunks, heads, n, n)
        scaling = Scaling.of(dtype, LARGEST.get(dtype, 1.0), options)
        if scaling.per_tile:
            k.settings.update(scaling="per-tile", scaled_for=scaling.scaled_for)
        L = k.input("L", shape, dtype, pitch, scaling.unit)
        T = k.output("T", shape, out_dtype, pitch, operand_scale(out_dtype, LARGEST.get(out_dtype, 1.0)))
        k.settings["out_dtype"] = out_dtype
        return cls(k, problem, options, dtype, L, T, scaling)

    @cached_property
    def n(self) -> int:
        return self.problem.chunk

    @property
    def axes(self) -> list[tuple[str, int]]:
        chunks, heads = self.problem.shape
        return [("chunk", chunks), ("head", heads)]

    @property
    def scale(self) -> float:
        """Value of one unit of an operand that has no other range than L; 1 for floats."""
        return self.L.scale

    def operand(self, name: str, level: str, slots: int = 1, shape: Shape | None = None) -> Tile:
        """An operand tile [C, C], or of `shape`, of the cube at `level`."""
        return self.k.tile(name, level, shape or (self.n, self.n), self.dtype, slots, "cube", self.scale)

    def accumulator(self, name: str, slots: int = 1, shape: Shape | None = None) -> Tile:
        """An accumulator tile [C, C], or of `shape`, in L0C."""
        dtype = accumulator_of(self.dtype)
        return self.k.tile(name, "L0C", shape or (self.n, self.n), dtype, slots, "cube", self.scale**2)

    def identity(
        self, name: str, factor: float, size: int | None = None, scale: float | None = None
    ) -> Tensor:
        """factor * I [C, C], or of another size or scale, as a constant in global memory."""
        return self.k.constant(name, factor * np.eye(size or self.n), self.dtype, scale or self.scale)


class Products:
    """Products of square operands in L1, through L0 tiles that are double-buffered where they fit.

    Operands are copied whole, and multiplied on the fractals that can be non-zero, as one product with one
    start-up. `--no-fractals`: they are multiplied whole; where a step takes certain blocks only, these are
    copied fractal by fractal over zeros.

    `I` and `minus_I` lie in L1 once `load` is called, inside a phase, and an identity at each of `scales`.
    Tiles hold numbers at the scale that `exit` gave them last. What is added to an accumulator must have the
    scale of what stands there, the product of its operands' scales: `update` begins anew where it changes.
    """

    def __init__(
        self, inverse: Inverse, target: Target, size: int | None = None, scales: Iterable[float] = ()
    ) -> None:
        self.inverse, self.k, self.n = inverse, inverse.k, size or inverse.n
        self.structured = inverse.options.fractals is not False
        inverse.k.settings["fractals"] = self.structured
        self.square = (self.n, self.n)
        deep = fitting(target, "L0A", self.n * self.n * bytes_of(inverse.dtype), 2)
        self.a = inverse.operand("a", "L0A", deep, self.square)
        self.b = inverse.operand("b", "L0B", deep, self.square)
        self.I, self.minus_I, self.zero = (self.operand(name) for name in ("I", "-I", "0"))
        self.known: dict[Tile, Bools] = {}
        self.scales: dict[Tile, float] = {}
        """of tiles that are not at their own scale"""
        others = sorted({scale for scale in scales if scale != inverse.scale})
        self.ones = {scale: self._one(scale) for scale in others} | {inverse.scale: self.I}
        for one in (*self.ones.values(), self.minus_I):
            self.holds(one, diagonal_blocks(self.n, FRACTAL))

    def _one(self, scale: float) -> Tile:
        name = f"I in units of {scale:g}"
        return self.k.tile(name, "L1", self.square, self.inverse.dtype, scale=scale)

    def load(self) -> None:
        """Load the two identities, and the zero that fills up what is copied in part."""
        factors = {self.I: 1.0, self.minus_I: -1.0} | ({} if self.structured else {self.zero: 0.0})
        for tile, factor in factors.items():
            source = self.inverse.identity(f"{tile.name} for all", factor, self.n)
            self.k.load(tile, source.at(), label=f"load {tile.name}")
        for scale, tile in self.ones.items():
            if tile is not self.I:
                source = self.inverse.identity(f"{tile.name} for all", 1.0, self.n, scale)
                self.k.load(tile, source.at(), label=f"load {tile.name}")

    def operand(self, name: str, slots: int = 1) -> Tile:
        """An operand in L1."""
        return self.inverse.operand(name, "L1", slots, self.square)

    def accumulator(self, name: str, slots: int = 1) -> Tile:
        return self.inverse.accumulator(name, slots, self.square)

    def holds(self, tile: Tile, fractals: Bools) -> Tile:
        """State which fractals of `tile` can be non-zero from here on; by default the lower triangle."""
        self.known[tile] = fractals
        return tile

    def at(self, tile: Tile) -> View:
        """What stands in a tile, at the scale that it has there."""
        return tile.scaled(self.scales.get(tile, tile.scale))

    def exit(self, dst: Tile, src: Tile, label: str, scale: float | None = None) -> None:
        """Move what stands in an accumulator to L1; at `scale` there, or the tile's own."""
        self.scales[dst] = scale or dst.scale
        self.k.move(self.at(dst), self.at(src), label=label)

    def update(
        self,
        dst: Tile,
        left: Tile,
        right: Tile,
        label: str,
        take: tuple[Bools | None, Bools | None] = (None, None),
        again: Tile | None = None,
    ) -> None:
        """dst += left right, where dst holds `again` (left), which is also in L1: where the scale changes, it
        is written anew, as a product with the identity."""
        again, due = again or left, self.at(left).scale * self.at(right).scale
        if self.at(dst).scale != due:
            one = self.ones[due / self.at(again).scale]
            self.add(dst, again, one, f"{again.name} I", first=True)
        self.add(dst, left, right, label, take=take)

    def add(
        self,
        dst: Tile,
        left: Tile,
        right: Tile,
        label: str,
        first: bool = False,
        take: tuple[Bools | None, Bools | None] = (None, None),
    ) -> None:
        """dst += left right (= for the first); of either operand only the fractals to `take`."""
        a, b = self._copy(self.a, left, take[0]), self._copy(self.b, right, take[1])
        masks = (self._mask(left, take[0]), self._mask(right, take[1]))
        if first:
            self.scales[dst] = a.scale * b.scale
        self.k.matmul(dst.scaled(a.scale * b.scale), a, b, not first, masks, label=label)

    def _copy(self, buffer: Tile, tile: Tile, take: Bools | None) -> View:
        """The operand in a buffer of L0, at its scale."""
        src = self.at(tile)
        dst, label = buffer.scaled(src.scale), f"L1 to {buffer.level}"
        if take is None or self.structured:
            self.k.move(dst, src, label=label)
        else:
            self.k.move(dst, self.zero.scaled(src.scale), label=label)
            self.k.move(dst, src, fractals=take, into=True, label=f"fractals to {buffer.level}")
        return dst

    def _mask(self, tile: Tile, take: Bools | None) -> Bools | None:
        if not self.structured:
            return None
        return self.known.get(tile, lower_triangle(self.n)) if take is None else take


def vector_dtype(dtype: str) -> str:
    """What the vector unit computes in for operands of `dtype`: floats of 16 or 32 bits that hold them."""
    if accumulator_of(dtype) == "int32":
        return "fp32" if bytes_of(dtype) > 1 else "fp16"
    return dtype if bytes_of(dtype) > 1 else "fp16"


def fitting(target: Target, level: str, each: float, most: int) -> int:
    """How many buffers of `each` bytes fit into a level: at least one, `most` at most."""
    return max(1, min(most, int(target.level_bytes[level] // each)))


def vector_place(target: Target, number: int) -> Place:
    """The one vector core of a group, of those it has, that takes matrix or block `number`."""
    return "second" if target.vector_cores > 1 and number % 2 else "first"


@cache
def diagonal_blocks(n: int, size: int, parity: int | None = None) -> Bools:
    """Mask over the 16x16 fractals of an n x n matrix: its diagonal blocks of `size`, or only the even
    (parity 0) or odd (1) ones."""
    count = n // FRACTAL
    block = np.arange(count) * FRACTAL // size
    mask: Bools = block[:, None] == block[None, :]
    return _shared(mask if parity is None else mask & (block[:, None] % 2 == parity))


@cache
def lower_triangle(n: int, first: int = 0) -> Bools:
    """Mask of the fractals on and below the diagonal: those that hold sub-diagonals from `first` on."""
    return _shared(np.tri(n // FRACTAL, k=-max(0, -(-(first - FRACTAL + 1) // FRACTAL)), dtype=bool))


@cache
def below_diagonal_blocks(n: int, size: int) -> Bools:
    """Mask of the blocks (1, 0), (3, 2), ... of `size`: what one step of block recursion fills."""
    block = np.arange(n // FRACTAL) * FRACTAL // size
    return _shared((block[:, None] == block[None, :] + 1) & (block[None, :] % 2 == 0))


def _shared(mask: Bools) -> Bools:
    """A mask that many operations have."""
    mask.setflags(write=False)
    return mask


def splits(chunk: int, block: int) -> bool:
    """Whether blocks of 16 or more on the diagonal of a chunk can be merged in pairs."""
    halvings = chunk // block
    return not (chunk % block or block % FRACTAL or halvings & (halvings - 1))


def checked_block(chunk: int, block: int) -> int:
    """`block`, where it splits the chunk so. Unsupported otherwise."""
    if splits(chunk, block):
        return block
    raise Unsupported(
        f"--block: {block} does not split a chunk of {chunk} into 2, 4 or 8 blocks of 16 or more"
    )


def check_power_of_two(n: int, algorithm: str) -> None:
    if n & (n - 1):
        raise Unsupported(f"--chunk: {algorithm} halves the matrix; got {n}, use 16, 32, 64, 128 or 256")
