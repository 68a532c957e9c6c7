"""Doubling over the whole chunk (MCH, Cayley-Hamilton): (I + L)^-1 = (I - L)(I + L^2)(I + L^4) ..

Source: "Fast and Stable Triangular Inversion for Delta-Rule Linear Transformers" (arXiv 2605.21325), MCH.
  X = I - L, Y = L;   repeat  Y <- Y Y,  X <- X + X Y         until L^(2 rounds) vanishes
2 log2(C) - 2 products. The powers of L grow before they vanish: the error grows exponentially with C, and
fp16 overflows from about C = 128 on.
"""

from __future__ import annotations

from algorithms.tri_inverse import Inverse, Products, lower_triangle
from npusim.builder import Algorithm, Item, Kernel, Options, Problem, Target


def build(problem: Problem, options: Options, target: Target) -> Kernel:
    """The tile graph; cube core only."""
    variant = ALGORITHM.variant(problem, options, target)
    inverse = Inverse.begin(problem, options, target, "doubling", variant, out="fp32")
    Doubling(inverse, target).emit()
    return inverse.k.finish()


class Doubling:
    """X stays in its accumulator; the power L^p holds sub-diagonals from p on."""

    def __init__(self, inverse: Inverse, target: Target) -> None:
        self.inverse, self.k, self.n = inverse, inverse.k, inverse.n
        slots = inverse.options.slots or 2
        inverse.k.settings["slots"] = slots
        self.products = Products(inverse, target)
        self.M = self.products.operand("M", slots)
        self.X, self.Y = self.products.operand("X"), self.products.operand("Y")
        self.cx = self.products.accumulator("X in L0C")
        self.cy = self.products.accumulator("Y in L0C")

    def emit(self) -> None:
        with self.k.phase("inverse"):
            self.products.load()
            self.k.items(self.inverse.axes, self.matrix)

    def matrix(self, items: list[Item]) -> None:
        (item,) = items
        k, add, one = self.k, self.products.add, self.products.I
        k.load(self.M, self.inverse.L.at(*item), label="load L")
        add(self.cy, self.M, self.M, "L L", first=True)
        k.move(self.Y, self.cy, label="exit L^2")
        add(self.cx, one, one, "I", first=True)
        add(self.cx, self.products.minus_I, self.M, "- L")
        power = 2
        while power < self.n:
            self.products.holds(self.Y, lower_triangle(self.n, power))
            k.move(self.X, self.cx, label="exit X")
            add(self.cx, self.X, self.Y, "+ X Y")
            power *= 2
            if power < self.n:
                add(self.cy, self.Y, self.Y, "Y Y", first=True)
                k.move(self.Y, self.cy, label=f"exit L^{power}")
        k.store(self.inverse.T.at(*item), self.cx, label="store T")


ALGORITHM = Algorithm(
    name="doubling",
    meaning="powers of L by squaring over the whole chunk; cube only",
    source="arXiv 2605.21325 (MCH)",
    build=build,
    variants={"textbook": "X kept in its accumulator, empty fractals skipped, L0 double-buffered"},
    parameters=frozenset({"slots", "fractals", "out_dtype"}),
)
