"""Masked Neumann series with residual correction.

Source: "When Good Enough Is Optimal: Multiplication-Only Matrix Inversion Approximation for Quantized
Gated DeltaNet" (arXiv 2606.06034). With A = -L, so that T = (I - A)^-1 = sum A^n:
  1. T0 = sum_{n<N} A^n                                    truncated series, Horner's scheme
  2. keep the sub-diagonals below N of T0                  the band that is exact already
  3. E = I - (I - A) T0,  T = T0 sum_{s<S} E^s             residual correction; this order matters
Exact on sub-diagonals below N*S, everywhere once N*S >= C. Products per tile: N-2 for T0, 1 for E, 1 for
T, and for sum E^s: 2(p-1) by doubling where S = 2^p, else S-2. Additions are products with the identity
into the accumulator. The paper publishes no schedule, and not whether its mask keeps sub-diagonal N: both
are parameters. Chunks above 64 are split into blocks of 64, which are merged in pairs as 2 x 2 inverses,
  T21 = -T22 L21 T11.
All operands are lower triangular, and only fractals that can be non-zero are multiplied. Where the masked
start comes from (`--mask-on`): algorithms/masked_start.py; the merge: algorithms/merge.py.
`--scaling per-tile` gives each power of E and each running sum its own scale (algorithms/scaling.py). Sums at
different scales cannot stand in one accumulator: Horner's scheme has no powers and begins each sum anew,
doubling takes one product more a step where the scale changes, and naive, which adds to one sum, is refused.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from algorithms.masked_start import Block, FromLoads, FromSeries, Given, Square, Terms
from algorithms.merge import Merge
from algorithms.scaling import Matrix
from algorithms.tri_inverse import Inverse, Products
from npusim.builder import Algorithm, Item, Kernel, Options, Problem, Target, Tile, Unsupported


def build(problem: Problem, options: Options, target: Target) -> Kernel:
    """The tile graph: products on the cube, masks on the vector cores."""
    variant = ALGORITHM.variant(problem, options, target)
    inverse = Inverse.begin(problem, options, target, "masked-neumann", variant, out="fp32")
    MaskedNeumann(inverse, target).emit()
    return inverse.k.finish()


class MaskedNeumann:
    """Blocks go through in pairs, of two matrices or of one, so that one's products hide the other's mask."""

    def __init__(self, inverse: Inverse, target: Target) -> None:
        self.inverse, self.k, self.n = inverse, inverse.k, inverse.n
        options = inverse.options
        terms = Terms.of(self.n, options)
        self.size, self.order, self.steps = terms.size, terms.order, terms.steps
        self.blocks = self.n // self.size
        self.schedule = options.schedule or "doubling"
        if self.schedule == "doubling" and self.steps & (self.steps - 1):
            self.schedule = "horner"
        self.group = min(options.slots or (2 if self.blocks == 1 else 1), inverse.problem.total)
        self._settings(options)
        self.sums, self.powers = self._scales()
        self.products = Products(inverse, target, self.size, self.powers or self.sums[:-1])
        self._tiles(target)
        self.masked = self._start(options, target) if self.mask else None
        if self.blocks > 1:
            self.merge = Merge(self.products, target)

    def _start(self, options: Options, target: Target) -> FromSeries | FromLoads | Given:
        square = Square.of(self.inverse, self.size)
        if options.mask_on == "kkt":
            return Given(self.inverse)
        if options.mask_on == "start":
            return FromLoads(square, target, self.order, self.slots)
        band = self.order + (options.mask_edge == "inclusive")
        return FromSeries(square, self.order, band, self.slots)

    def _scales(self) -> tuple[list[float], list[float]]:
        """Of each running sum P, and of each power of E, in the order in which they leave the accumulator."""
        scaling = self.inverse.scaling
        if scaling.per_tile and self.schedule == "naive" and self.steps > 2:
            raise Unsupported(
                "--schedule: naive adds all powers to one sum, which powers of different scales do not have; "
                "use horner or doubling with --scaling per-tile"
            )
        if self.schedule != "doubling":
            return scaling.of_horner(self._residual(), max(0, self.steps - 2)), []
        sums, powers = scaling.of_doubling(-self._residual(), max(0, self.steps.bit_length() - 2))
        return sums, powers[:-1]

    def _residual(self) -> Matrix:
        """E of the chunk that scales are made for."""
        A, one = -self.inverse.scaling.chunk(self.size), np.eye(self.size)
        T0 = one
        for _ in range(self.order - 1):
            T0 = one + A @ T0
        band = self.order + (self.inverse.options.mask_edge == "inclusive")
        return one - (one - A) @ (np.triu(T0, 1 - band) if self.mask else T0)

    def _settings(self, options: Options) -> None:
        self.mask = options.mask is not False
        where = options.mask_on or "vector"
        for name, given in (("mask-on", options.mask_on), ("mask-edge", options.mask_edge)):
            if given and not self.mask:
                raise Unsupported(f"--{name}: there is no mask with --no-mask; drop one of the two")
        if where == "kkt" and self.steps == 1:
            raise Unsupported(
                "--steps: without a correction T is T0, which --mask-on kkt is given; use 2 or more"
            )
        if where != "vector" and options.mask_edge == "inclusive":
            raise Unsupported(
                f"--mask-edge: sub-diagonal N of the truncated series is not exact, and --mask-on {where} "
                "forms exact ones; use --mask-on vector, or another --order"
            )
        self.k.settings.update(order=self.order, steps=self.steps, mask=self.mask)
        if self.mask:
            self.k.settings.update(mask_on=where, mask_edge=options.mask_edge or "exclusive")
        self.k.settings.update(schedule=self.schedule, block=self.size, slots=self.group)

    def _tiles(self, target: Target) -> None:
        operand = self.products.operand
        self.slots = self.group * self.blocks
        """blocks that are under way together"""
        self.A = [operand(f"A{j}") for j in range(self.slots)]
        self.R = [operand(f"R{j}") for j in range(self.slots)]
        self.T0 = [operand(f"T0.{j}") for j in range(self.slots)]
        self.M, self.E, self.P, self.Q = (operand(name) for name in ("M", "E", "P", "E^s"))
        # two accumulators, more where there is room
        each = self.size * self.size * (8 if self.inverse.dtype == "fp64" else 4)
        room = target.level_bytes["L0C"] // each - 1 - self.blocks * self.blocks // 4
        self.c = self.products.accumulator("c", max(1, min(2, int(room))))
        self.cP = self.products.accumulator("P in L0C")

    def emit(self) -> None:
        with self.k.phase("inverse"):
            self.products.load()
            if isinstance(self.masked, FromSeries | FromLoads):
                self.masked.constants()
            if self.blocks > 1:
                self.merge.constants()
            self.k.items(self.inverse.axes, self.trip, group=self.group)

    def trip(self, items: list[Item]) -> None:
        """All blocks of some matrices: start them, correct them, merge."""
        work = [(item, block) for item in items for block in range(self.blocks)]
        if isinstance(self.masked, FromLoads):
            for j, (item, block) in enumerate(work):
                self.masked.form(j, self.block(block).of(self.inverse.L, item))
        for j, (item, block) in enumerate(work):
            self.start(j, item, block)
        for j, (item, block) in enumerate(work):
            self.correct(j, item, block)
            if self.blocks > 1 and block == self.blocks - 1:
                self.merge.matrix(item)

    def block(self, number: int) -> Block:
        return Block(number * self.size, self.size)

    def start(self, j: int, item: Item, block: int) -> None:
        """A in L1, and T0: given, from the loads, or from the series. Without a correction that is the
        result."""
        k, c = self.k, self.c
        if not isinstance(self.masked, FromLoads) or self.steps > 1:
            k.load(self.M, self.block(block).of(self.inverse.L, item), label="load L")
            self.products.add(c, self.products.minus_I, self.M, "A = -I L", first=True)
            k.move(self.A[j], c, label="exit A")
        if isinstance(self.masked, Given):
            self.masked.load(self.T0[j], item, self.block(block))
            return
        if not isinstance(self.masked, FromLoads):
            self.series(j)
        if isinstance(self.masked, FromSeries):
            self.masked.form(j, c)
        if self.steps == 1:
            self.result(item, block, self.masked.wide[j] if self.masked else c)
        elif self.masked:
            k.move(self.T0[j], self.masked.finished(j), label="T0 to L1")
        else:
            k.move(self.T0[j], c, label="exit T0")

    def series(self, j: int) -> None:
        """I + A (I + A (...)) in the accumulator; N - 2 products and N with the identity."""
        k, c, add, one = self.k, self.c, self.products.add, self.products.I
        if self.order == 1:
            add(c, one, one, "I", first=True)
        else:
            add(c, one, one, "I + A")
        for _ in range(self.order - 2):
            k.move(self.R[j], c, label="exit I + A ..")
            add(c, self.A[j], self.R[j], "A (I + A ..)", first=True)
            add(c, one, one, "I + A (..)")

    def correct(self, j: int, item: Item, block: int) -> None:
        """E = I - T0 + A T0 and T = T0 sum E^s."""
        add, one = self.products.add, self.products.I
        if self.steps == 1:
            return
        add(self.c, self.A[j], self.T0[j], "A T0", first=True)
        add(self.c, self.products.minus_I, self.T0[j], "- T0")
        add(self.c, one, one, "+ I")
        self.k.move(self.E, self.c, label="exit E")
        add(self.cP, one, one, "I", first=True)
        add(self.cP, self.E, one, "I + E")
        self.products.exit(self.P, self.cP, "exit P", self.sums[0])
        {"doubling": self.doubling, "horner": self.horner, "naive": self.naive}[self.schedule]()
        add(self.c, self.T0[j], self.P, "T0 P", first=True)
        self.result(item, block, self.c)

    def doubling(self) -> None:
        """P(2s) = P(s) + P(s) E^s, E^2s = E^s E^s: 2(p-1) products for S = 2^p."""
        power, products = self.E, self.products
        for of_power, of_sum in zip(self.powers, self.sums[1:], strict=True):
            products.add(self.c, power, power, "E^s E^s", first=True)
            products.exit(self.Q, self.c, "exit E^s", of_power)
            power = self.Q
            products.update(self.cP, self.P, self.Q, "+ P E^s")
            products.exit(self.P, self.cP, "exit P", of_sum)

    def horner(self) -> None:
        """P <- I + E P: S - 2 products."""
        one, ones = self.products.I, self.products.ones
        for before, scale in pairwise(self.sums):
            self.products.add(self.cP, self.E, self.P, "E P", first=True)
            self.products.add(self.cP, one, ones[before], "I + E P")
            self.products.exit(self.P, self.cP, "exit P", scale)

    def naive(self) -> None:
        """P = I + E + E E + ..: S - 2 products, each power added by the identity."""
        power = self.E
        for _ in range(self.steps - 2):
            self.products.add(self.c, power, self.E, "E^s E", first=True)
            self.k.move(self.Q, self.c, label="exit E^s")
            power = self.Q
            self.products.add(self.cP, self.products.I, self.Q, "+ E^s")
        if self.steps > 2:
            self.k.move(self.P, self.cP, label="exit P")

    def result(self, item: Item, block: int, tile: Tile) -> None:
        """Store a diagonal block of T; where blocks are merged, keep it as an operand too."""
        found = self.products.at(tile)
        if self.blocks > 1:
            self.merge.keep(block, found)
        self.k.store(self.block(block).of(self.inverse.T, item), found, label="store T")


ALGORITHM = Algorithm(
    name="masked-neumann",
    meaning="N terms of the Neumann series, banded, corrected by S powers of the residual",
    source="arXiv 2606.06034",
    build=build,
    variants={"textbook": "products on the cube, the mask on the vector cores, between or before them"},
    parameters=frozenset(
        {
            "order",
            "steps",
            "mask",
            "mask_edge",
            "mask_on",
            "schedule",
            "block",
            "slots",
            "fractals",
            "out_dtype",
            "scaling",
            "scaled_for",
        }
    ),
)
