"""Newton-Schulz iteration for the inverse of A = I + L: X <- 2 X - X A X.

Source: "Fast and Stable Triangular Inversion for Delta-Rule Linear Transformers" (arXiv 2605.21325);
G. Schulz, Iterative Berechnung der reziproken Matrix, ZAMM 13 (1933). The residual I - A X squares with
every iteration.
  textbook   X0 = 2 I - A = I - L leaves the residual L^2, which log2(C) squarings carry beyond C; two
             products an iteration, E = I - A X and X + X E
  published  X0 = I / C, as in the Ascend kernel (huawei-csl/pto-kernels, kernel_tri_inv_ns):
             Y = -X A, X <- 2 X + Y X; 2 + 3 products an iteration, of max(2 ceil(log2 C), 12) iterations
"""

from __future__ import annotations

import math

from algorithms.tri_inverse import Inverse, Products
from npusim.builder import Algorithm, Item, Kernel, Options, Problem, Target


def build(problem: Problem, options: Options, target: Target) -> Kernel:
    """The tile graph; cube core only."""
    variant = ALGORITHM.variant(problem, options, target)
    inverse = Inverse.begin(problem, options, target, "newton-schulz", variant, out="fp32")
    if variant == "published":
        Published(inverse).emit()
    else:
        Textbook(inverse, target).emit()
    return inverse.k.finish()


class Published:
    """As in the hand-written kernel: one matrix after another, every operand copied anew, 2 X by a product
    with 2 I, single buffers. The constants are made once a core."""

    def __init__(self, inverse: Inverse) -> None:
        self.inverse, self.k, self.n = inverse, inverse.k, inverse.n
        self.iterations = inverse.options.iterations or max(2 * math.ceil(math.log2(self.n)), 12)
        self.k.settings["iterations"] = self.iterations
        operand, accumulator = inverse.operand, inverse.accumulator
        self.I, self.minus_I, self.two_I = operand("I", "L1"), operand("-I", "L1"), operand("2I", "L1")
        self.A, self.X, self.Y = operand("-A", "L1"), operand("X", "L1"), operand("Y", "L1")
        self.a0, self.a1 = operand("a0", "L0A"), operand("a1", "L0A")
        self.b0, self.b1 = operand("b0", "L0B"), operand("b1", "L0B")
        self.c0, self.c1 = accumulator("c0"), accumulator("c1")

    def emit(self) -> None:
        k = self.k
        self.start = self.inverse.identity("identity over C", 1.0 / self.n)
        with k.phase("inverse"):
            k.load(self.minus_I, self.inverse.identity("minus identity", -1.0).at(), label="load -I")
            k.move(self.a0, self.minus_I, label="L1 to L0A")
            k.move(self.b0, self.minus_I, label="L1 to L0B")
            k.matmul(self.c1, self.a0, self.b0, label="make I")
            k.move(self.I, self.c1, label="exit I")
            k.matmul(self.c1, self.a0, self.b0, accumulate=True, label="make 2I")
            k.move(self.two_I, self.c1, label="exit 2I")
            k.items(self.inverse.axes, self.matrix)

    def matrix(self, items: list[Item]) -> None:
        """2 + 3 iterations products."""
        (item,) = items
        k = self.k
        k.load(self.A, self.inverse.L.at(*item), label="load L")
        k.load(self.X, self.start.at(), label="load I/C")
        k.move(self.b0, self.minus_I, label="L1 to L0B")
        k.move(self.a1, self.A, label="L1 to L0A")
        k.matmul(self.c0, self.a1, self.b0, label="-L")
        k.move(self.a1, self.I, label="L1 to L0A")
        k.matmul(self.c0, self.a1, self.b0, accumulate=True, label="- I")
        k.move(self.A, self.c0, label="exit -A")
        k.move(self.a1, self.two_I, label="L1 to L0A")
        k.move(self.b1, self.A, label="L1 to L0B")
        for turn in range(self.iterations):
            k.move(self.b0, self.X, label="L1 to L0B")
            k.move(self.a0, self.X, label="L1 to L0A")
            k.matmul(self.c0, self.a0, self.b1, label="-X A")
            k.move(self.Y, self.c0, label="exit -X A")
            k.matmul(self.c1, self.a1, self.b0, label="2 X")
            k.move(self.a0, self.Y, label="L1 to L0A")
            k.matmul(self.c1, self.a0, self.b0, accumulate=True, label="- X A X")
            if turn < self.iterations - 1:
                k.move(self.X, self.c1, label="exit X")
        k.store(self.inverse.T.at(*item), self.c1, label="store T")


class Textbook:
    """X stays in its accumulator, to which X E is added; all operands are lower triangular."""

    def __init__(self, inverse: Inverse, target: Target) -> None:
        self.inverse, self.k, self.n = inverse, inverse.k, inverse.n
        slots = inverse.options.slots or 2
        self.iterations = inverse.options.iterations or math.ceil(math.log2(self.n))
        self.k.settings.update(iterations=self.iterations, slots=slots)
        self.products = Products(inverse, target)
        self.M = self.products.operand("M", slots)
        self.A, self.X = self.products.operand("-A"), self.products.operand("X")
        self.E = self.products.operand("E")
        self.cx = self.products.accumulator("X in L0C")
        self.ce = self.products.accumulator("E in L0C")

    def emit(self) -> None:
        with self.k.phase("inverse"):
            self.products.load()
            self.k.items(self.inverse.axes, self.matrix)

    def matrix(self, items: list[Item]) -> None:
        """2 products an iteration, and one with the identity."""
        (item,) = items
        k, add = self.k, self.products.add
        one, minus_one = self.products.I, self.products.minus_I
        k.load(self.M, self.inverse.L.at(*item), label="load L")
        add(self.ce, one, minus_one, "-I", first=True)
        add(self.ce, minus_one, self.M, "- L")
        k.move(self.A, self.ce, label="exit -A")
        add(self.cx, one, one, "I", first=True)
        add(self.cx, minus_one, self.M, "- L")
        for _ in range(self.iterations):
            k.move(self.X, self.cx, label="exit X")
            add(self.ce, one, one, "I", first=True)
            add(self.ce, self.A, self.X, "- A X")
            k.move(self.E, self.ce, label="exit E")
            add(self.cx, self.X, self.E, "+ X E")
        k.store(self.inverse.T.at(*item), self.cx, label="store T")


ALGORITHM = Algorithm(
    name="newton-schulz",
    meaning="X <- 2 X - X A X, whose residual squares with every iteration; cube only",
    source="arXiv 2605.21325; Schulz 1933",
    build=build,
    variants={
        "published": "as in the hand-written Ascend kernel: from I/C, three products an iteration",
        "textbook": "from I - L, two products an iteration, X kept in its accumulator",
    },
    parameters=frozenset({"iterations", "slots", "fractals", "out_dtype"}),
    textbook_only=frozenset({"slots", "fractals"}),
)
