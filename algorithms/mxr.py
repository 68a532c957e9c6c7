"""MXR: doubling on the 16x16 diagonal fractals, then block recursion from 16 up.

Source: "Fast and Stable Triangular Inversion for Delta-Rule Linear Transformers" (arXiv 2605.21325), MCH
and MBH. With D the diagonal fractals of M = L:
  doubling   X = I - D, Y = D D;  repeat X <- X + X Y, Y <- Y Y        (3 rounds reach D^15)
  recursion  X <- Xo + Xe - Xo M Xe for diagonal blocks of 16, 32, .. (Xe even, Xo odd blocks)
The `published` variant has the structure of the hand-written Ascend kernel (huawei-csl/megagdn-pto,
kernel_tri_inv_rec_unroll): identity and negation are products too, L0 and accumulators single-buffered.
`accumulator-kept` is the second variant of huawei-csl/pto-kernels PR #238. Not modelled: the scalar work on
the addresses of the tiles, and the issue slots of the flags that pipes set and wait for.
"""

from __future__ import annotations

from algorithms.block_recursion import merge_fractals
from algorithms.tiles import FRACTAL
from algorithms.tri_inverse import Inverse, Products, check_power_of_two, diagonal_blocks
from npusim.builder import Algorithm, Item, Kernel, Options, Problem, Target, Tile

ROUNDS = 3
"""of doubling on 16 x 16: they reach D^15"""


def build(problem: Problem, options: Options, target: Target) -> Kernel:
    """The tile graph of MXR; cube core only."""
    variant = ALGORITHM.variant(problem, options, target)
    check_power_of_two(problem.chunk, "mxr")
    inverse = Inverse.begin(problem, options, target, "mxr", variant, out="fp32")
    if variant == "textbook":
        Textbook(inverse, target).emit()
    else:
        Published(inverse, target, kept=variant == "accumulator-kept").emit()
    return inverse.k.finish()


class Published:
    """As measured: every operand copied to L0 anew, X and I - X M carried through identity products.

    `kept`: while X is doubled it stays in its accumulator, instead of being carried there by X I.
    """

    def __init__(self, inverse: Inverse, target: Target, kept: bool = False) -> None:
        self.inverse, self.k, self.n, self.kept = inverse, inverse.k, inverse.n, kept
        total = inverse.problem.total
        blocks = min(target.groups, total)
        # matrices a pass: as many as keep all cores busy, up to 4
        self.group = 1 if total <= blocks else 2 if total <= 2 * blocks else 4
        operand, accumulator = inverse.operand, inverse.accumulator
        self.I, self.minus_I, self.zero = operand("I", "L1"), operand("-I", "L1"), operand("0", "L1")
        self.A, self.X = operand("-M", "L1"), operand("X", "L1")
        self.Y = [operand(f"Y{j}", "L1") for j in range(self.group)]
        self.a0, self.a1 = operand("a0", "L0A"), operand("a1", "L0A")
        self.b0, self.b1 = operand("b0", "L0B"), operand("b1", "L0B")
        self.c0, self.c1 = accumulator("c0"), accumulator("c1")
        # the first product waits for the store before it: it goes to the accumulator that was stored
        self.first, self.second = (self.c1, self.c0) if self.n > 16 else (self.c0, self.c1)

    def emit(self) -> None:
        with self.k.phase("inverse"):
            self.constants()
            self.k.items(self.inverse.axes, self.trip, group=self.group)

    def constants(self) -> None:
        """Load -I once; I = (-I)(-I) and 0 = I + (-I) I by products."""
        k = self.k
        k.load(self.minus_I, self.inverse.identity("minus_identity", -1.0).at(), label="load -I")
        self.to_a(self.a0, self.minus_I)
        self.to_b(self.b0, self.minus_I)
        self.product(self.c0, self.a0, self.b0, "make I")
        k.move(self.I, self.c0, label="exit I")
        self.to_a(self.a0, self.minus_I)
        self.to_b(self.b0, self.I)
        self.product(self.c0, self.a0, self.b0, "make 0", add=True)
        k.move(self.zero, self.c0, label="exit 0")

    def trip(self, items: list[Item]) -> None:
        """Load all matrices of the pass, then invert them strictly one after another."""
        for item, slot in zip(items, self.Y, strict=False):
            self.k.load(slot, self.inverse.L.at(*item), label="load M")
        for item, slot in zip(items, self.Y, strict=False):
            self.start(slot)
            self.doubling(slot)
            self.recursion(slot, item)

    def to_a(self, dst: Tile, src: Tile) -> None:
        self.k.move(dst, src, label="L1 to L0A")

    def to_b(self, dst: Tile, src: Tile) -> None:
        self.k.move(dst, src, label="L1 to L0B")

    def product(self, dst: Tile, a: Tile, b: Tile, label: str, add: bool = False) -> None:
        self.k.matmul(dst, a, b, accumulate=add, label=label)

    def exit(self, dst: Tile, src: Tile, label: str) -> None:
        self.k.move(dst, src, label=label)

    def round_trip(self, tile: Tile) -> None:
        """An empty CUBE -> FIXPIPE -> CUBE hand-over before `tile` is added to."""
        self.k.wait(tile, on="aic_fixpipe")

    def start(self, Y: Tile) -> None:
        """-M, Y = diag(M)^2 and X = I - diag(M); 4 products, 3 exits."""
        k, M = self.k, Y
        diagonal = diagonal_blocks(self.n, 16)
        first, second = self.first, self.second
        self.to_b(self.b0, M)
        self.to_a(self.a0, self.minus_I)
        self.to_a(self.a1, self.zero)
        self.to_b(self.b1, self.zero)
        for half in (self.a1, self.b1):
            k.wait(half, on="aic_mac")  # the zero copies must end first: MTE1 -> CUBE -> MTE1
        k.move(self.a1, M, fractals=diagonal, into=True, label="diagonal fractals to L0A")
        k.move(self.b1, M, fractals=diagonal, into=True, label="diagonal fractals to L0B")
        self.product(first, self.a0, self.b0, "-I M")
        self.exit(self.A, first, "exit -M")
        self.product(second, self.a1, self.b1, "diag(M)^2")
        self.exit(Y, second, "exit Y")
        k.wait(Y, on="aic_mac")
        self.to_b(self.b0, self.minus_I)
        self.to_a(self.a0, self.minus_I)
        self.product(first, self.a1, self.b0, "-diag(M)")
        self.round_trip(first)
        self.product(first, self.a0, self.b0, "+ I", add=True)
        self.exit(self.X, first, "exit X")

    def doubling(self, Y: Tile) -> None:
        """X <- X + X Y, Y <- Y Y; three rounds, 8 products (5 if X is kept), 5 exits."""
        cx, cy = (self.first, self.second) if self.kept else (self.c0, self.c1)
        for last in (False, False, True):
            if not self.kept:
                self.to_b(self.b0, self.I)
            self.to_a(self.a0, self.X)
            self.to_b(self.b1, Y)
            if not self.kept:
                self.product(cx, self.a0, self.b0, "X I")
                self.round_trip(cx)
            if not last:
                self.to_a(self.a1, Y)
                self.product(cy, self.a1, self.b1, "Y Y")
                self.exit(Y, cy, "exit Y")
            self.product(cx, self.a0, self.b1, "+ X Y", add=True)
            self.exit(self.X, cx, "exit X")

    def recursion(self, Y: Tile, item: Item) -> None:
        """X <- Xo + (I - Xo M) Xe; log2(n/16) rounds of 4 products, 2 exits (the last leaves for GM)."""
        k, size = self.k, 16
        self.to_b(self.b1, self.A)
        self.to_a(self.a0, self.I)
        while size < self.n:
            self.to_a(self.a1, self.zero)
            self.to_b(self.b0, self.I)
            odd, even = diagonal_blocks(self.n, size, 1), diagonal_blocks(self.n, size, 0)
            k.move(self.a1, self.X, fractals=odd, into=True, label="odd blocks to L0A")
            self.product(self.c0, self.a0, self.b0, "I I")
            self.product(self.c1, self.a1, self.b0, "Xo I")
            self.product(self.c0, self.a1, self.b1, "- Xo M", add=True)
            self.exit(Y, self.c0, "exit I - Xo M")
            self.to_b(self.b0, self.zero)
            k.move(self.b0, self.X, fractals=even, into=True, label="even blocks to L0B")
            self.to_a(self.a1, Y)
            self.product(self.c1, self.a1, self.b0, "+ (I - Xo M) Xe", add=True)
            size *= 2
            if size < self.n:
                self.exit(self.X, self.c1, "exit X")
        result = self.c1 if self.n > 16 else self.c0
        k.store(self.inverse.T.at(*item), result, label="store T")


class Textbook:
    """The least products: 6 + 2 log2(n/16) and three with the identity; X stays in its accumulator, empty
    fractals are not multiplied, L0 is double-buffered."""

    def __init__(self, inverse: Inverse, target: Target) -> None:
        self.inverse, self.k, self.n = inverse, inverse.k, inverse.n
        slots = inverse.options.slots or 2
        inverse.k.settings["slots"] = slots
        scaling = inverse.scaling
        sums, self.powers = scaling.of_doubling(scaling.chunk(FRACTAL), ROUNDS)
        self.sums = [*sums[:-1], inverse.scale]  # the last is an inverse
        self.products = Products(inverse, target, scales=self.powers)
        operand, accumulator = self.products.operand, self.products.accumulator
        self.M, self.A = operand("M", slots), operand("-M", slots)
        self.X, self.Y = operand("X"), operand("Y")
        self.cx, self.cy = accumulator("X in L0C"), accumulator("Y in L0C")

    def emit(self) -> None:
        with self.k.phase("inverse"):
            self.products.load()
            self.k.items(self.inverse.axes, self.matrix)

    def matrix(self, items: list[Item]) -> None:
        """One matrix: 9 + 2 log2(n/16) products."""
        (item,) = items
        k, add, exit = self.k, self.products.add, self.products.exit
        one, diagonal = self.products.I, diagonal_blocks(self.n, FRACTAL)
        for tile in (self.X, self.Y):
            self.products.holds(tile, diagonal)
        k.load(self.M, self.inverse.L.at(*item), label="load M")
        add(self.cy, self.products.minus_I, self.M, "-I M", first=True)
        k.move(self.A, self.cy, label="exit -M")
        add(self.cy, self.M, self.M, "diag(M)^2", first=True, take=(diagonal, diagonal))
        exit(self.Y, self.cy, "exit Y", self.powers[0])
        add(self.cx, one, one, "I", first=True)
        add(self.cx, one, self.A, "- diag(M)", take=(None, diagonal))
        exit(self.X, self.cx, "exit X", self.sums[0])
        for done in range(1, ROUNDS + 1):
            self.products.update(self.cx, self.X, self.Y, "+ X Y")
            if not (done == ROUNDS and self.n == FRACTAL):
                exit(self.X, self.cx, "exit X", self.sums[done])
            if done < ROUNDS:
                add(self.cy, self.Y, self.Y, "Y Y", first=True)
                exit(self.Y, self.cy, "exit Y", self.powers[done])
        merge_fractals(self.products, self.A, self.X, self.Y, self.cx, self.cy)
        k.store(self.inverse.T.at(*item), self.products.at(self.cx), label="store T")


ALGORITHM = Algorithm(
    name="mxr",
    meaning="doubling on 16x16 diagonal blocks, then block recursion; cube only",
    source="arXiv 2605.21325; huawei-csl/megagdn-pto",
    build=build,
    variants={
        "published": "as in the hand-written Ascend kernel: identity products, single buffers",
        "accumulator-kept": "the same, X staying in its accumulator while it is doubled: 3 products fewer",
        "textbook": "accumulators kept, empty fractals skipped, L0 double-buffered",
    },
    parameters=frozenset({"slots", "fractals", "out_dtype", "scaling", "scaled_for"}),
    textbook_only=frozenset({"slots", "fractals", "scaling", "scaled_for"}),
)
