"""Doubling in two stages: first the 16 x 16 diagonal blocks, then the blocks below them.

Source: "Fast and Stable Triangular Inversion for Delta-Rule Linear Transformers" (arXiv 2605.21325), its
remedy for fp16 at C = 128. With L = D + N, D the 16 x 16 diagonal blocks:
  Xd = (I + D)^-1                                   doubling, 3 rounds: powers up to D^8
  B = Xd N,  (I + L)^-1 = (I + B)^-1 Xd
  (I + B)^-1 = (I - B)(I + B^2)(I + B^4) ..         doubling, log2(C/16) - 1 rounds: B^(C/16) is 0
Every element of B is one of an inverse's blocks times L, and so no larger than L's (algorithms/scaling.py);
its powers are few. 6 + 2 log2(C/16) products, as mxr, and four with the identity.
"""

from __future__ import annotations

import numpy as np

from algorithms.tiles import FRACTAL
from algorithms.tri_inverse import Bools, Inverse, Products, diagonal_blocks
from npusim.builder import Item, Target

ROUNDS = 3
"""of doubling on 16 x 16: they reach D^15"""


class DiagonalFirst:
    """X and Z stay in their accumulators while they are doubled; Xd waits in L1."""

    def __init__(self, inverse: Inverse, target: Target) -> None:
        self.inverse, self.k, self.n = inverse, inverse.k, inverse.n
        slots = inverse.options.slots or 2
        inverse.k.settings["slots"] = slots
        self.blocks = self.n // FRACTAL
        self.rounds = max(0, (self.blocks - 1).bit_length() - 1)
        """of doubling over the blocks: I - B is a round's worth"""
        self.diagonal = diagonal_blocks(self.n, FRACTAL)
        self._scales()
        self.products = Products(inverse, target, scales=(*self.powers, *self.block_powers))
        operand, accumulator = self.products.operand, self.products.accumulator
        self.M = operand("M", slots)
        self.X, self.Y, self.Z = operand("X"), operand("Y"), operand("Z")
        self.cx, self.cy = accumulator("X in L0C"), accumulator("Y in L0C")

    def _scales(self) -> None:
        """Of the sums and powers of either stage; the inverse of the diagonal, and B, need no range of their
        own."""
        scaling, L = self.inverse.scaling, self.inverse.scaling.chunk(self.n)
        sums, self.powers = scaling.of_doubling(scaling.chunk(FRACTAL), ROUNDS)
        self.sums = [*sums[:-1], scaling.unit]
        D = L * np.kron(self.diagonal, np.ones((FRACTAL, FRACTAL)))
        B = np.asarray(np.linalg.solve(np.eye(self.n) + D, L - D), dtype=np.float64)
        self.block_sums, self.block_powers = scaling.of_doubling(B, self.rounds)

    def emit(self) -> None:
        with self.k.phase("inverse"):
            self.products.load()
            self.k.items(self.inverse.axes, self.matrix)

    def matrix(self, items: list[Item]) -> None:
        (item,) = items
        self.k.load(self.M, self.inverse.L.at(*item), label="load L")
        self.invert_diagonal()
        if self.blocks > 1:
            self.below()
        self.k.store(self.inverse.T.at(*item), self.products.at(self.cx), label="store T")

    def invert_diagonal(self) -> None:
        """Xd, in its accumulator and in L1."""
        products, one, take = self.products, self.products.I, self.diagonal
        for tile in (self.X, self.Y):
            products.holds(tile, take)
        products.add(self.cy, self.M, self.M, "D D", first=True, take=(take, take))
        products.exit(self.Y, self.cy, "exit D^2", self.powers[0])
        products.add(self.cx, one, one, "I", first=True)
        products.add(self.cx, products.minus_I, self.M, "- D", take=(None, take))
        products.exit(self.X, self.cx, "exit Xd", self.sums[0])
        for done in range(1, ROUNDS + 1):
            products.update(self.cx, self.X, self.Y, "+ Xd Y")
            if not (done == ROUNDS and self.blocks == 1):
                products.exit(self.X, self.cx, "exit Xd", self.sums[done])
            if done < ROUNDS:
                products.add(self.cy, self.Y, self.Y, "Y Y", first=True)
                products.exit(self.Y, self.cy, f"exit D^{2 << done}", self.powers[done])

    def below(self) -> None:
        """Z = (I + B)^-1 by doubling over the blocks, and T = Z Xd."""
        products, one = self.products, self.products.I
        products.add(self.cy, self.X, self.M, "B = Xd N", first=True, take=(None, self.from_block(1)))
        products.exit(self.Y, self.cy, "exit B")
        products.holds(self.Y, self.from_block(1))
        products.add(self.cx, one, one, "I", first=True)
        products.add(self.cx, products.minus_I, self.Y, "- B")
        products.exit(self.Z, self.cx, "exit Z", self.block_sums[0])
        for done in range(self.rounds):
            power = 2 << done
            products.add(self.cy, self.Y, self.Y, "B B", first=True)
            products.exit(self.Y, self.cy, f"exit B^{power}", self.block_powers[done])
            products.holds(self.Y, self.from_block(power))
            products.update(self.cx, self.Z, self.Y, "+ Z B^p")
            products.exit(self.Z, self.cx, "exit Z", self.block_sums[done + 1])
        products.add(self.cx, self.Z, self.X, "Z Xd", first=True)

    def from_block(self, number: int) -> Bools:
        """The fractals on and below block sub-diagonal `number`."""
        return np.tri(self.blocks, k=-number, dtype=bool)
