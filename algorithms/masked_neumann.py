"""Masked Neumann series with residual correction.

Source: "When Good Enough Is Optimal: Multiplication-Only Matrix Inversion Approximation for Quantized
Gated DeltaNet" (arXiv 2606.06034). With A = -L, so that T = (I - A)^-1 = sum A^n:
  1. T0 = sum_{n<N} A^n                                    truncated series, Horner's scheme
  2. keep sub-diagonals 0..N-1 of T0                       the band that is exact already
  3. E = I - (I - A) T0,  T = T0 sum_{s<S} E^s             residual correction; this order matters
Exact on sub-diagonals below N*S, everywhere once N*S >= C. Products per tile: N-2 for T0, 1 for E, 1 for
T, and for sum E^s: 2(p-1) by doubling where S = 2^p, else S-2. Additions are products with the identity
into the accumulator. The paper publishes no schedule: it is a parameter, and its mask is taken to keep N
sub-diagonals, the main one included. All operands are lower triangular, and only fractals that can be
non-zero are multiplied.
"""

from __future__ import annotations

import numpy as np

from algorithms.tri_inverse import Bools, Inverse, diagonal_blocks, lower_triangle
from npusim.builder import Algorithm, Item, Kernel, Options, Problem, Target, Tile

DEFAULTS = {16: (4, 4), 32: (4, 3), 64: (3, 8), 128: (8, 16), 256: (16, 16)}
"""Chunk -> (N, S). The paper's for 32 and 64. It splits 128 into blocks of 64, because N=3, S=8 fails on
whole chunks of that size; unsplit, the choice here is exact: N*S >= C."""


def build(problem: Problem, options: Options, target: Target) -> Kernel:
    """The tile graph: products on the cube, the mask on the vector cores."""
    variant = ALGORITHM.variant(options, target)
    inverse = Inverse.begin(problem, options, target, "masked-neumann", variant, out="fp32")
    kernel = MaskedNeumann(inverse, options, target)
    kernel.emit()
    return inverse.k.finish()


class MaskedNeumann:
    """Items go through in pairs (`slots`), so that one's products hide the other's mask."""

    def __init__(self, inverse: Inverse, options: Options, target: Target) -> None:
        self.inverse, self.k, self.n = inverse, inverse.k, inverse.n
        order, steps = next(pair for chunk, pair in DEFAULTS.items() if self.n <= chunk)
        self.order, self.steps = options.order or order, options.steps or steps
        self.mask = options.mask is not False
        power = self.steps & (self.steps - 1) == 0
        self.schedule = options.schedule or "doubling"
        if self.schedule == "doubling" and not power:
            self.schedule = "horner"
        self.group = min(options.slots or 2, inverse.problem.total)
        self.k.settings.update(
            order=self.order, steps=self.steps, mask=self.mask, schedule=self.schedule, slots=self.group
        )
        self._tiles(target)

    def _tiles(self, target: Target) -> None:
        operand, group = self.inverse.operand, range(self.group)
        self.I, self.minus_I = operand("I", "L1"), operand("-I", "L1")
        self.A = [operand(f"A{j}", "L1") for j in group]
        self.R = [operand(f"R{j}", "L1") for j in group]
        self.T0 = [operand(f"T0.{j}", "L1") for j in group]
        self.M, self.E, self.P = operand("M", "L1"), operand("E", "L1"), operand("P", "L1")
        self.Q = operand("E^s", "L1")
        # double buffers in L0 where they fit; two accumulators, more where there is room
        deep = 2 if self.n <= 128 else 1
        self.a, self.b = operand("a", "L0A", deep), operand("b", "L0B", deep)
        room = target.level_bytes["L0C"] // (self.n * self.n * (8 if self.inverse.dtype == "fp64" else 4))
        self.c = self.inverse.accumulator("c", max(1, min(2, room - 1)))
        self.cP = self.inverse.accumulator("P in L0C")
        shape, dtype = (self.n, self.n), self.inverse.dtype
        if self.mask:
            # integers are masked in fp16: the vector unit computes on 16 and 32 bits
            masked = dtype if self.inverse.scale == 1.0 else "fp16"
            self.masked = masked
            self.band = self.k.tile("band", "UB", shape, masked, 1, "rows")
            self.u = [self.k.tile(f"T0 in UB.{j}", "UB", shape, masked, 1, "rows") for j in group]
            if masked != dtype:
                self.rounded = self.k.tile("T0 cast", "UB", shape, dtype, 1, "rows", self.inverse.scale)

    def emit(self) -> None:
        k, inverse = self.k, self.inverse
        identity, negative = inverse.identity("identity", 1.0), inverse.identity("minus", -1.0)
        with k.phase("inverse"):
            k.load(self.I, identity.at(), label="load I")
            k.load(self.minus_I, negative.at(), label="load -I")
            if self.mask:
                keep = np.tri(self.n) - np.tri(self.n, k=-self.order)
                k.load(self.band, k.constant("band mask", keep, self.masked).at(), label="load mask")
            k.items(inverse.axes, self.trip, group=self.group)

    def trip(self, items: list[Item]) -> None:
        for j, item in enumerate(items):
            self.start(j, item)
        for j, item in enumerate(items):
            self.correct(j, item)

    def add(self, dst: Tile, left: Tile, right: Tile, label: str, first: bool = False) -> None:
        """dst += left right (= for the first), on the fractals of their triangles."""
        fractals = (self._fractals(left), self._fractals(right))
        self.inverse.product(dst, left, right, self.a, self.b, label, not first, fractals)

    def _fractals(self, tile: Tile) -> Bools:
        """The fractals that can be non-zero: the diagonal of an identity, else the lower triangle."""
        if tile in (self.I, self.minus_I):
            return diagonal_blocks(self.n, 16)
        return lower_triangle(self.n)

    def start(self, j: int, item: Item) -> None:
        """T0 = I + A (I + A (...)), masked, in L1; N - 2 products and N with the identity."""
        k, c = self.k, self.c
        k.load(self.M, self.inverse.L.at(*item), label="load L")
        self.add(c, self.minus_I, self.M, "A = -I L", first=True)
        k.move(self.A[j], c, label="exit A")
        if self.order == 1:
            self.add(c, self.I, self.I, "I", first=True)
        else:
            self.add(c, self.I, self.I, "I + A")
        for _ in range(self.order - 2):
            k.move(self.R[j], c, label="exit I + A ..")
            self.add(c, self.A[j], self.R[j], "A (I + A ..)", first=True)
            self.add(c, self.I, self.I, "I + A (..)")
        if self.mask:
            k.move(self.u[j], c, label="T0 to UB")
            k.vector("mul", self.u[j], self.u[j], self.band, label="mask")
            if self.steps == 1:
                self.store(item, self.u[j])
            elif self.masked == self.inverse.dtype:
                k.move(self.T0[j], self.u[j], label="T0 to L1")
            else:
                k.vector("cast", self.rounded, self.u[j], label="round T0")
                k.move(self.T0[j], self.rounded, label="T0 to L1")
        elif self.steps > 1:
            k.move(self.T0[j], c, label="exit T0")
        else:
            self.store(item, c)

    def correct(self, j: int, item: Item) -> None:
        """E = I - T0 + A T0 and T = T0 sum E^s."""
        if self.steps == 1:
            return
        self.add(self.c, self.A[j], self.T0[j], "A T0", first=True)
        self.add(self.c, self.minus_I, self.T0[j], "- T0")
        self.add(self.c, self.I, self.I, "+ I")
        self.k.move(self.E, self.c, label="exit E")
        self.add(self.cP, self.I, self.I, "I", first=True)
        self.add(self.cP, self.E, self.I, "I + E")
        self.k.move(self.P, self.cP, label="exit P")
        {"doubling": self.doubling, "horner": self.horner, "naive": self.naive}[self.schedule]()
        self.add(self.c, self.T0[j], self.P, "T0 P", first=True)
        self.store(item, self.c)

    def doubling(self) -> None:
        """P(2s) = P(s) + P(s) E^s, E^2s = E^s E^s: 2(p-1) products for S = 2^p."""
        power, terms = self.E, 2
        while terms < self.steps:
            self.add(self.c, power, power, "E^s E^s", first=True)
            self.k.move(self.Q, self.c, label="exit E^s")
            power = self.Q
            self.add(self.cP, self.P, self.Q, "+ P E^s")
            self.k.move(self.P, self.cP, label="exit P")
            terms *= 2

    def horner(self) -> None:
        """P <- I + E P: S - 2 products."""
        for _ in range(self.steps - 2):
            self.add(self.cP, self.E, self.P, "E P", first=True)
            self.add(self.cP, self.I, self.I, "I + E P")
            self.k.move(self.P, self.cP, label="exit P")

    def naive(self) -> None:
        """P = I + E + E E + ..: S - 2 products, each power added by the identity."""
        power = self.E
        for _ in range(self.steps - 2):
            self.add(self.c, power, self.E, "E^s E", first=True)
            self.k.move(self.Q, self.c, label="exit E^s")
            power = self.Q
            self.add(self.cP, self.I, self.Q, "+ E^s")
        if self.steps > 2:
            self.k.move(self.P, self.cP, label="exit P")

    def store(self, item: Item, tile: Tile) -> None:
        self.k.store(self.inverse.T.at(*item), tile, label="store T")


ALGORITHM = Algorithm(
    name="masked-neumann",
    meaning="N terms of the Neumann series, banded, corrected by S powers of the residual",
    source="arXiv 2606.06034",
    build=build,
    variants={"textbook": "products on the cube, the mask on the vector cores between them"},
    parameters=frozenset({"order", "steps", "mask", "schedule", "slots", "out_dtype"}),
)
