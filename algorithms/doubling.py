"""Doubling over the whole chunk (MCH, Cayley-Hamilton): (I + L)^-1 = (I - L)(I + L^2)(I + L^4) ..

Source: "Fast and Stable Triangular Inversion for Delta-Rule Linear Transformers" (arXiv 2605.21325), MCH.
  X = I - L, Y = L;   repeat  Y <- Y Y,  X <- X + X Y         until L^(2 rounds) vanishes
2 log2(C) - 2 products. The powers of L grow before they vanish: the error grows exponentially with C, and
fp16 overflows from about C = 128 on. Remedies:
  --block B                 blocks of B on the diagonal are inverted so, and merged as 2 x 2 inverses
                            (algorithms/merge.py): powers up to L^(B/2) only
  --variant diagonal-first  the 16 x 16 diagonal blocks first (algorithms/diagonal_first.py)
  --scaling per-tile        every power and every sum at its own scale (algorithms/scaling.py): nothing
                            overflows, but what cancels is not brought back. Where the scale changes, X enters
                            its accumulator once more, as a product with the identity
"""

from __future__ import annotations

from algorithms.diagonal_first import DiagonalFirst
from algorithms.merge import Merge
from algorithms.tri_inverse import Inverse, Products, checked_block, lower_triangle
from npusim.builder import Access, Algorithm, Item, Kernel, Options, Problem, Target, Tensor, Unsupported


def build(problem: Problem, options: Options, target: Target) -> Kernel:
    """The tile graph; cube core only."""
    variant = ALGORITHM.variant(problem, options, target)
    inverse = Inverse.begin(problem, options, target, "doubling", variant, out="fp32")
    if variant == "diagonal-first":
        if options.block is not None:
            raise Unsupported("--block: the diagonal blocks of diagonal-first are 16 x 16; drop the option")
        DiagonalFirst(inverse, target).emit()
    else:
        Doubling(inverse, target).emit()
    return inverse.k.finish()


class Doubling:
    """X stays in its accumulator; the power L^p holds sub-diagonals from p on."""

    def __init__(self, inverse: Inverse, target: Target) -> None:
        self.inverse, self.k = inverse, inverse.k
        self.n = checked_block(inverse.n, inverse.options.block or inverse.n)
        slots = inverse.options.slots or 2
        inverse.k.settings["slots"] = slots
        if self.n < inverse.n:
            inverse.k.settings["block"] = self.n
        scaling, rounds = inverse.scaling, (self.n - 1).bit_length() - 1
        self.sums, self.powers = scaling.of_doubling(scaling.chunk(self.n), rounds)
        self.products = Products(inverse, target, self.n, self.powers)
        self.M = self.products.operand("M", slots)
        self.X, self.Y = self.products.operand("X"), self.products.operand("Y")
        self.cx = self.products.accumulator("X in L0C")
        self.cy = self.products.accumulator("Y in L0C")
        self.merge = Merge(self.products, target) if self.n < inverse.n else None

    def emit(self) -> None:
        with self.k.phase("inverse"):
            self.products.load()
            if self.merge:
                self.merge.constants()
            self.k.items(self.inverse.axes, self.matrix)

    def matrix(self, items: list[Item]) -> None:
        (item,) = items
        for number, at in enumerate(range(0, self.inverse.n, self.n)):
            self.block(self._part(self.inverse.L, item, at))
            found = self.products.at(self.cx)
            if self.merge:
                self.merge.keep(number, found)
            self.k.store(self._part(self.inverse.T, item, at), found, label="store T")
        if self.merge:
            self.merge.matrix(item)

    def _part(self, tensor: Tensor, item: Item, at: int) -> Access:
        """The diagonal block from row `at` on."""
        return tensor.at(*item, row=at, rows=self.n, col=at, cols=self.n)

    def block(self, L: Access) -> None:
        """The inverse of I + L, left in the accumulator of X."""
        k, products, one = self.k, self.products, self.products.I
        k.load(self.M, L, label="load L")
        products.add(self.cy, self.M, self.M, "L L", first=True)
        products.exit(self.Y, self.cy, "exit L^2", self.powers[0])
        products.add(self.cx, one, one, "I", first=True)
        products.add(self.cx, products.minus_I, self.M, "- L")
        power, done = 2, 0
        while power < self.n:
            products.holds(self.Y, lower_triangle(self.n, power))
            products.exit(self.X, self.cx, "exit X", self.sums[done])
            products.update(self.cx, self.X, self.Y, "+ X Y")
            power, done = 2 * power, done + 1
            if power < self.n:
                products.add(self.cy, self.Y, self.Y, "Y Y", first=True)
                products.exit(self.Y, self.cy, f"exit L^{power}", self.powers[done])


ALGORITHM = Algorithm(
    name="doubling",
    meaning="powers of L by squaring over the whole chunk; cube only",
    source="arXiv 2605.21325 (MCH)",
    build=build,
    variants={
        "diagonal-first": "L = D + N: the 16 x 16 diagonal blocks first, then doubling over the blocks",
        "textbook": "X kept in its accumulator, empty fractals skipped, L0 double-buffered",
    },
    parameters=frozenset({"block", "slots", "fractals", "out_dtype", "scaling", "scaled_for"}),
    on_ascend=lambda problem, target: "textbook",
)
