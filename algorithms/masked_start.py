"""The masked start of masked-neumann: where the band of T0 comes from, and how it reaches the cube.

  vector   T0 leaves the accumulator for the vector cores in mid-chain, is masked there and comes back: two
           hand-overs a block, on machines whose cores meet only in memory each through global memory
  start    the vector cores form the band before the cube begins, from L alone. With T = I + A T, sub-diagonal
           d of T is T[i, i-d] = A[i, i-d] + sum_{0<e<d} A[i, i-e] T[i-e, i-d]: elementwise products of A
           shifted by columns (loaded from where they stand) and T shifted by rows. For N = 3 that is I, two
           sub-diagonals of A, and the products A[i, i-1] A[i-1, i-2] added to the second.
  kkt      gdn-kkt forms it as `start` does, in a phase after the one that makes L, and stores it
           (`start_phase`); the inverse loads it beside L and is left with products
All give the same band in exact arithmetic; only the first takes a matrix product for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from algorithms.gdn_stage import Stage
from algorithms.tri_inverse import Inverse, checked_block, splits, vector_dtype, vector_place
from npusim.builder import (
    Access,
    InputError,
    Item,
    KernelBuilder,
    Options,
    Place,
    Target,
    Tensor,
    Tile,
)

DEFAULTS = {16: (4, 4), 32: (4, 3), 64: (3, 8), 128: (8, 16), 256: (16, 16)}
"""Block -> (N, S). The paper's for 32 and 64, which chunks above 64 are split into. N=3, S=8 fails on whole
chunks of 128; where --block asks for these, the choice here is exact: N*S >= C."""
SPLIT = 64
"""blocks that larger chunks are split into, as in the paper"""


@dataclass(frozen=True)
class Terms:
    """Blocks of `size` on the diagonal of a chunk, N = `order` terms and S = `steps` in each."""

    size: int
    order: int
    steps: int

    @classmethod
    def of(cls, chunk: int, options: Options) -> Terms:
        """As the options say, or the defaults of this chunk. Unsupported for a --block that does not split
        it."""
        size = _block(chunk, options.block)
        order, steps = next(pair for most, pair in DEFAULTS.items() if size <= most)
        return cls(size, options.order or order, options.steps or steps)


def _block(chunk: int, block: int | None) -> int:
    if block is not None:
        return checked_block(chunk, block)
    size = chunk if chunk <= SPLIT else SPLIT
    return size if splits(chunk, size) else chunk  # 80, 96, ..: nothing that halves


@dataclass(frozen=True)
class Block:
    """The diagonal block from row `at` on of a chunk's matrix."""

    at: int
    size: int

    def of(self, tensor: Tensor, item: Item) -> Access:
        return tensor.at(*item, row=self.at, rows=self.size, col=self.at, cols=self.size)


@dataclass(frozen=True)
class Square:
    """The tiles of a masked start: [n, n], of operands in `dtype`, one unit of which is `scale`."""

    k: KernelBuilder
    n: int
    dtype: str
    scale: float

    @classmethod
    def of(cls, inverse: Inverse, n: int) -> Square:
        return cls(inverse.k, n, inverse.dtype, inverse.scale)


class _Start:
    """T0 of the blocks under way: `wide` in UB as it was masked. Integers and fp8 are masked as wider floats,
    since the vector unit computes on 16 and 32 bits."""

    wide: list[Tile]

    def __init__(self, square: Square, order: int) -> None:
        self.k, self.n, self.order = square.k, square.n, order
        self.dtype, self.scale = square.dtype, square.scale
        self.working = vector_dtype(self.dtype)

    def ub(self, name: str, place: Place, dtype: str | None = None, scale: float = 1.0) -> Tile:
        return self.k.tile(name, "UB", (self.n, self.n), dtype or self.working, 1, place, scale)

    def band(self, tile: Tile, name: str, sub_diagonals: range, value: float) -> None:
        """Load the constant that is `value` on some sub-diagonals and 0 elsewhere."""
        distance = np.arange(self.n)[:, None] - np.arange(self.n)
        kept = value * ((distance >= sub_diagonals.start) & (distance < sub_diagonals.stop))
        self.k.load(tile, self.k.constant(name, kept, self.working).at(), label=f"load {name}")

    def finished(self, j: int) -> Tile:
        """Block j as an operand: rounded."""
        if self.working == self.dtype:
            return self.wide[j]
        self.k.vector("quantise", self.rounded[j], self.wide[j], label="round T0")
        return self.rounded[j]

    rounded: list[Tile]

    def roundeds(self, places: list[Place]) -> list[Tile]:
        if self.working == self.dtype:
            return []
        return [self.ub(f"T0 cast.{j}", place, self.dtype, self.scale) for j, place in enumerate(places)]


class FromSeries(_Start):
    """The truncated series, masked; every vector core masks its half of the rows."""

    def __init__(self, square: Square, order: int, band: int, count: int) -> None:
        super().__init__(square, order)
        self.kept = range(band)
        self.mask = self.ub("band", "rows")
        self.wide = [self.ub(f"T0 in UB.{j}", "rows") for j in range(count)]
        self.rounded = self.roundeds(["rows"] * count)

    def constants(self) -> None:
        self.band(self.mask, "band mask", self.kept, 1.0)

    def form(self, j: int, accumulator: Tile) -> None:
        """Mask what stands in `accumulator`."""
        self.k.move(self.wide[j], accumulator, label="T0 to UB")
        self.k.vector("mul", self.wide[j], self.wide[j], self.mask, label="mask")


class FromLoads(_Start):
    """The band from L alone; each vector core forms whole blocks."""

    def __init__(self, square: Square, target: Target, order: int, count: int) -> None:
        super().__init__(square, order)
        places = [vector_place(target, j) for j in range(count)]
        self.first = self.ub("-1 on the band", "replicate")
        self.eye = self.ub("I in UB", "replicate")
        self.masks = {d: self.ub(f"-1 on sub-diagonal {d}", "replicate") for d in range(2, order)}
        self.wide = [self.ub(f"T0 in UB.{j}", place) for j, place in enumerate(places)]
        self.rounded = self.roundeds(places)
        names = ("product", "sum", *(f"L {shift} to the left" for shift in range(order - 1)))
        self.work: dict[Place, dict[str, Tile]] = {
            place: {name: self.ub(f"{name}, {place}", place) for name in names}
            for place in dict.fromkeys(places)
        }
        self.loaded = {
            place: self.ub(f"L as loaded, {place}", place, self.dtype, self.scale) for place in self.work
        }

    def constants(self) -> None:
        self.band(self.first, "minus the band", range(1, self.order), -1.0)
        self.band(self.eye, "identity in UB", range(1), 1.0)
        for tiles in self.work.values():  # what the windows below do not reach stays zero
            for tile in tiles.values():
                self.k.vector("fill", tile, imm=0.0, label="zeros")
        for raw in self.loaded.values() if self.working != self.dtype else ():
            self.k.vector("fill", raw, imm=0.0, label="zeros")
        for d, mask in self.masks.items():
            self.band(mask, f"minus sub-diagonal {d}", range(d, d + 1), -1.0)

    def form(self, j: int, source: Access) -> None:
        """I - L on the band, then sub-diagonal by sub-diagonal what lower ones add to it."""
        k, T, n = self.k, self.wide[j], self.n
        work = self.work[T.place]
        for shift in range(self.order - 1):
            self.load(source, work[f"L {shift} to the left"], self.loaded[T.place], shift)
        if self.order > 1:
            k.vector("mul", T, work["L 0 to the left"], self.first, label="-L on the band")
            k.vector("add", T, T, self.eye, label="+ I")
        else:
            k.vector("copy", T, self.eye, label="I")
        for d in range(2, self.order):
            total = work["sum"]
            for e in range(1, d):
                rows = n - e
                part = (total if e == 1 else work["product"]).view(e, rows)
                shifted = work[f"L {d - e} to the left"].view(e, rows)
                k.vector("mul", part, shifted, T.view(0, rows), label=f"A T on sub-diagonal {d}")
                if e > 1:
                    k.vector("add", total.view(e, rows), total.view(e, rows), part, label="sum of A T")
            k.vector("mul", total, total, self.masks[d], label=f"sub-diagonal {d}")
            k.vector("add", T, T, total, label="+ A T")

    def load(self, source: Access, dst: Tile, raw: Tile, shift: int) -> None:
        """L moved `shift` columns to the left, zeros coming in."""
        n = self.n
        window = source.tensor.at(
            *source.lead, row=source.row, rows=n, col=source.col + shift, cols=n - shift
        )
        into = dst if self.working == self.dtype else raw
        if into is raw and shift:
            self.k.vector("fill", raw, imm=0.0, label="zeros")
        self.k.load(into.view(0, n, 0, n - shift), window, label="load L, shifted")
        if into is raw:
            self.k.vector("quantise", dst, raw, label=f"L in {self.working}")


class Given:
    """T0 as gdn-kkt has stored it, an input beside L."""

    def __init__(self, inverse: Inverse) -> None:
        L = inverse.L
        self.k = inverse.k
        self.T0 = inverse.k.input("T0", L.shape, L.dtype, L.pitch, L.scale)

    def load(self, dst: Tile, item: Item, block: Block) -> None:
        self.k.load(dst, block.of(self.T0, item), label="load T0")


# --- formed by the stage that makes L --------------------------------------------------------------------


def start_phase(s: Stage, L: Tensor) -> None:
    """A phase that forms T0 [chunks, heads, C, C] of `L`, which a phase before it has stored: of each block
    on the diagonal the band, zeros beside it in the block; what lies outside the blocks is not written."""
    terms, target = Terms.of(s.n, s.options), s.k.target
    blocks = [Block(at, terms.size) for at in range(0, s.n, terms.size)]
    lanes = 2 if target.vector_cores > 1 else 1
    group = min(lanes, s.problem.total) if len(blocks) == 1 else 1
    start = FromLoads(Square(s.k, terms.size, s.dtype, 1.0), target, terms.order, group * len(blocks))
    T0 = s.tensor("T0", output=True)

    def trip(items: list[Item]) -> None:
        work = [(item, block) for item in items for block in blocks]
        for j, (item, block) in enumerate(work):
            start.form(j, block.of(L, item))
            s.k.store(block.of(T0, item), start.finished(j), label="store T0")

    s.k.settings.update(mask_on="kkt", order=terms.order, block=terms.size)
    with s.k.phase("masked start"):
        start.constants()
        s.k.items([("chunk", s.chunks), ("head", s.heads)], trip, group=group)


def start_options(inverse: Options) -> dict[str, object]:
    """Of the options of an inverse those that gdn-kkt is to have: where it forms the start, what says how."""
    if inverse.mask_on != "kkt":
        return {}
    return inverse.model_dump(include={"mask_on", "order", "block"})


def asks_for_start(options: Options) -> bool:
    """Whether gdn-kkt is to form T0. InputError for options of a start that it does not form."""
    if options.mask_on in ("vector", "start"):
        raise InputError(
            f"--mask-on: {options.mask_on} is formed by the inverse; gdn-kkt forms kkt, or nothing"
        )
    for name in ("order", "block"):
        if options.mask_on is None and getattr(options, name) is not None:
            raise InputError(f"--{name}: gdn-kkt forms no masked start; add --mask-on kkt, or drop it")
    return options.mask_on == "kkt"
