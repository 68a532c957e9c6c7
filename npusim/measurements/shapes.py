"""Shapes of an operator's tensors, as profilers write them, and patterns that take sizes from them.

A pattern reads like the shapes themselves: `m,k; k,n -> m,n`. A name is a size, which is the same wherever
it stands; `*m` is the product of any number of dimensions, a number is itself, `_` any one dimension and `*_`
any number of them. `...` after the last tensor lets more follow. Without `->` outputs are not looked at.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from npusim.errors import did_you_mean
from npusim.measurements.rows import SIZES

Shape = tuple[int, ...]


def parse_shapes(text: str | None) -> tuple[Shape, ...] | None:
    """The shapes in '"8192,8192;8192,8192"'; None where none is stated. ValueError for what is none.

    Tensors without dimensions at the end are left out: a profiler writes optional inputs so.
    """
    if text is None:
        return None
    shapes = [_shape(part) for part in text.strip('" ').split(";")]
    while shapes and not shapes[-1]:
        shapes.pop()
    return tuple(shapes) or None


def _shape(text: str) -> Shape:
    return tuple(int(part) for part in text.split(",")) if text.strip() else ()


@dataclass(frozen=True)
class Tensors:
    """What a pattern says of the inputs, or of the outputs."""

    dims: tuple[tuple[str, ...], ...]
    more: bool

    @classmethod
    def parse(cls, text: str) -> Self:
        parts = [tuple(dim.strip() for dim in tensor.split(",")) for tensor in text.split(";")]
        more = parts[-1] == ("...",)
        dims = tuple(parts[:-1] if more else parts)
        for tensor in dims:
            _check(tensor)
        return cls(dims, more)

    def fit(self, shapes: tuple[Shape, ...], sizes: dict[str, int]) -> bool:
        """Whether the shapes are as the pattern says; adds the sizes found."""
        if len(shapes) < len(self.dims) or (len(shapes) > len(self.dims) and not self.more):
            return False
        return all(_fit(dims, shape, sizes) for dims, shape in zip(self.dims, shapes, strict=False))


@dataclass(frozen=True)
class Pattern:
    """A pattern for the shapes of an operator."""

    text: str
    inputs: Tensors
    outputs: Tensors | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """ValueError, with the remedy, for what is no pattern."""
        inputs, arrow, outputs = text.partition("->")
        return cls(text, Tensors.parse(inputs), Tensors.parse(outputs) if arrow else None)

    def fit(self, inputs: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> dict[str, int] | None:
        """The sizes, where all shapes are as the pattern says."""
        sizes: dict[str, int] = {}
        fits = self.inputs.fit(inputs, sizes) and (not self.outputs or self.outputs.fit(outputs, sizes))
        return sizes if fits else None


def _check(dims: tuple[str, ...]) -> None:
    for dim in dims:
        name = dim.removeprefix("*")
        if name not in (*SIZES, "_") and not (dim.isascii() and dim.isdigit()):
            raise ValueError(f"{dim!r} is no dimension: a number, _ or a size; {did_you_mean(name, SIZES)}")
    if sum(dim.startswith("*") for dim in dims) > 1:
        raise ValueError(f"{','.join(dims)!r}: only one dimension of a tensor can have a *")


def _fit(dims: tuple[str, ...], shape: Shape, sizes: dict[str, int]) -> bool:
    star = next((index for index, dim in enumerate(dims) if dim.startswith("*")), None)
    if star is not None:
        count = len(shape) - len(dims) + 1
        if count < 0:
            return False
        product = math.prod(shape[star : star + count])
        shape = (*shape[:star], product, *shape[star + count :])
    if len(shape) != len(dims):
        return False
    return all(_same(dim.removeprefix("*"), size, sizes) for dim, size in zip(dims, shape, strict=True))


def _same(name: str, size: int, sizes: dict[str, int]) -> bool:
    if size <= 0:  # empty, or not known before the launch
        return False
    if name.isdigit():
        return size == int(name)
    return name == "_" or sizes.setdefault(name, size) == size
