"""The masked start of masked-neumann: where the band of T0 comes from, and how it reaches the cube.

  vector   T0 leaves the accumulator for the vector cores in mid-chain, is masked there and comes back: two
           hand-overs a block, on machines whose cores meet only in memory each through global memory
  start    the vector cores form the band before the cube begins, from L alone. With T = I + A T, sub-diagonal
           d of T is T[i, i-d] = A[i, i-d] + sum_{0<e<d} A[i, i-e] T[i-e, i-d]: elementwise products of A
           shifted by columns (loaded from where they stand) and T shifted by rows. For N = 3 that is I, two
           sub-diagonals of A, and the products A[i, i-1] A[i-1, i-2] added to the second.
Both give the same band in exact arithmetic; the second needs no matrix product.
"""

from __future__ import annotations

import numpy as np

from algorithms.tri_inverse import Products, vector_place
from npusim.builder import Access, Place, Target, Tile


class _Start:
    """T0 of the blocks under way: `wide` in UB as it was masked. Integers are masked in fp16, since the
    vector unit computes on 16 and 32 bits."""

    wide: list[Tile]

    def __init__(self, products: Products, order: int) -> None:
        self.products, self.k, self.order = products, products.k, order
        inverse = products.inverse
        self.dtype, self.scale = inverse.dtype, inverse.scale
        self.working = self.dtype if self.scale == 1.0 else "fp16"

    def ub(self, name: str, place: Place, dtype: str | None = None, scale: float = 1.0) -> Tile:
        return self.k.tile(name, "UB", self.products.square, dtype or self.working, 1, place, scale)

    def band(self, tile: Tile, name: str, sub_diagonals: range, value: float) -> None:
        """Load the constant that is `value` on some sub-diagonals and 0 elsewhere."""
        n = self.products.n
        distance = np.arange(n)[:, None] - np.arange(n)
        kept = value * np.isin(distance, sub_diagonals)
        self.k.load(tile, self.k.constant(name, kept, self.working).at(), label=f"load {name}")

    def to_l1(self, j: int, dst: Tile) -> None:
        """Block j to the cube, rounded."""
        source = self.wide[j]
        if self.working != self.dtype:
            self.k.vector("cast", self.rounded[j], source, label="round T0")
            source = self.rounded[j]
        self.k.move(dst, source, label="T0 to L1")

    rounded: list[Tile]

    def roundeds(self, places: list[Place]) -> list[Tile]:
        if self.working == self.dtype:
            return []
        return [self.ub(f"T0 cast.{j}", place, self.dtype, self.scale) for j, place in enumerate(places)]


class FromSeries(_Start):
    """The truncated series, masked; every vector core masks its half of the rows."""

    def __init__(self, products: Products, target: Target, order: int, band: int, count: int) -> None:
        super().__init__(products, order)
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

    def __init__(self, products: Products, target: Target, order: int, band: int, count: int) -> None:
        super().__init__(products, order)
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
        k, T, n = self.k, self.wide[j], self.products.n
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
        n = self.products.n
        window = source.tensor.at(
            *source.lead, row=source.row, rows=n, col=source.col + shift, cols=n - shift
        )
        into = dst if self.working == self.dtype else raw
        if into is raw and shift:
            self.k.vector("fill", raw, imm=0.0, label="zeros")
        self.k.load(into.view(0, n, 0, n - shift), window, label="load L, shifted")
        if into is raw:
            self.k.vector("cast", dst, raw, label="L in fp16")
