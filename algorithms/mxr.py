"""MXR: doubling on the 16x16 diagonal fractals, then block recursion from 16 up.

Source: "Fast and Stable Triangular Inversion for Delta-Rule Linear Transformers" (arXiv 2605.21325), MCH
and MBH. With D the diagonal fractals of M = L:
  doubling   X = I - D, Y = D D;  repeat X <- X + X Y, Y <- Y Y        (3 rounds reach D^15)
  recursion  X <- Xo + Xe - Xo M Xe for diagonal blocks of 16, 32, .. (Xe even, Xo odd blocks)
The `published` variant has the structure of the hand-written Ascend kernel (huawei-csl/megagdn-pto,
kernel_tri_inv_rec_unroll): identity and negation are products too, L0 and accumulators single-buffered.
"""

from __future__ import annotations

from algorithms.tri_inverse import Bools, Inverse, below_diagonal_blocks, check_power_of_two, diagonal_blocks
from npusim.builder import Algorithm, Item, Kernel, Options, Problem, Target, Tile, Unsupported


def build(problem: Problem, options: Options, target: Target) -> Kernel:
    """The tile graph of MXR; cube core only."""
    variant = ALGORITHM.variant(options, target)
    check_power_of_two(problem.chunk, "mxr")
    inverse = Inverse.begin(problem, options, target, "mxr", variant, out="fp32")
    if variant == "published":
        Published(inverse, target).emit()
    else:
        Textbook(inverse, target).emit()
    return inverse.k.finish()


class Published:
    """As measured: every operand copied to L0 anew, X and I - X M carried through identity products."""

    def __init__(self, inverse: Inverse, target: Target) -> None:
        self.inverse, self.k, self.n = inverse, inverse.k, inverse.n
        if inverse.options.slots is not None:
            raise Unsupported(
                "--slots: the published mxr has single buffers; drop it, or use --variant textbook"
            )
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

    def emit(self) -> None:
        with self.k.phase("inverse"):
            self.constants()
            self.k.items(self.inverse.axes, self.trip, group=self.group)

    def constants(self) -> None:
        """Load -I once; I = (-I)(-I) and 0 = I + (-I) I by products."""
        k = self.k
        k.load(self.minus_I, self.inverse.identity("minus_identity", -1.0).at(), label="load -I")
        self.inverse.product(self.c0, self.minus_I, self.minus_I, self.a0, self.b0, "make I")
        k.move(self.I, self.c0, label="exit I")
        self.inverse.product(self.c0, self.minus_I, self.I, self.a0, self.b0, "make 0", accumulate=True)
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
        # the first product waits for the store before it: it goes to the accumulator that was stored
        first, second = (self.c1, self.c0) if self.n > 16 else (self.c0, self.c1)
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
        """X <- X + X Y, Y <- Y Y; three rounds, 8 products, 5 exits."""
        for last in (False, False, True):
            self.to_b(self.b0, self.I)
            self.to_a(self.a0, self.X)
            self.to_b(self.b1, Y)
            self.product(self.c0, self.a0, self.b0, "X I")
            self.round_trip(self.c0)
            if not last:
                self.to_a(self.a1, Y)
                self.product(self.c1, self.a1, self.b1, "Y Y")
                self.exit(Y, self.c1, "exit Y")
            self.product(self.c0, self.a0, self.b1, "+ X Y", add=True)
            self.exit(self.X, self.c0, "exit X")

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
    """The least products: 6 + 2 log2(n/16) and three with the identity; X stays in its accumulator,
    empty fractals are neither copied nor multiplied, L0 is double-buffered."""

    def __init__(self, inverse: Inverse, target: Target) -> None:
        self.inverse, self.k, self.n = inverse, inverse.k, inverse.n
        slots = inverse.options.slots or 2
        inverse.k.settings["slots"] = slots
        operand = inverse.operand
        self.I, self.minus_I = operand("I", "L1"), operand("-I", "L1")
        self.M, self.A = operand("M", "L1", slots), operand("-M", "L1")
        self.X, self.Y = operand("X", "L1"), operand("Y", "L1")
        deep = slots if self.n <= 128 else 1
        self.a, self.b = operand("a", "L0A", deep), operand("b", "L0B", deep)
        self.cx, self.cy = inverse.accumulator("X in L0C"), inverse.accumulator("Y in L0C")

    def emit(self) -> None:
        identity, negative = self.inverse.identity("identity", 1.0), self.inverse.identity("minus", -1.0)
        with self.k.phase("inverse"):
            self.k.load(self.I, identity.at(), label="load I")
            self.k.load(self.minus_I, negative.at(), label="load -I")
            self.k.items(self.inverse.axes, self.matrix)

    def matrix(self, items: list[Item]) -> None:
        """One matrix: 9 + 2 log2(n/16) products."""
        (item,) = items
        k, diagonal = self.k, diagonal_blocks(self.n, 16)
        k.load(self.M, self.inverse.L.at(*item), label="load M")
        self.product(self.cy, self.minus_I, self.M, diagonal, None, "-I M")
        k.move(self.A, self.cy, label="exit -M")
        self.product(self.cy, self.M, self.M, diagonal, diagonal, "diag(M)^2")
        k.move(self.Y, self.cy, label="exit Y")
        self.product(self.cx, self.I, self.I, diagonal, diagonal, "I")
        self.product(self.cx, self.I, self.A, diagonal, diagonal, "- diag(M)", add=True)
        k.move(self.X, self.cx, label="exit X")
        for last in (False, False, True):
            self.product(self.cx, self.X, self.Y, diagonal, diagonal, "+ X Y", add=True)
            k.move(self.X, self.cx, label="exit X")
            if not last:
                self.product(self.cy, self.Y, self.Y, diagonal, diagonal, "Y Y")
                k.move(self.Y, self.cy, label="exit Y")
        self.recursion()
        k.store(self.inverse.T.at(*item), self.cx, label="store T")

    def recursion(self) -> None:
        """X(odd, even) = -X(odd) M(odd, even) X(even), block by block of 16, 32, .."""
        size = 16
        while size < self.n:
            below, even = below_diagonal_blocks(self.n, size), diagonal_blocks(self.n, size, 0)
            odd = diagonal_blocks(self.n, size, 1)
            self.product(self.cy, self.X, self.A, odd, below, "- Xo M")
            self.k.move(self.Y, self.cy, label="exit Y")
            self.product(self.cx, self.Y, self.X, below, even, "+ (- Xo M) Xe", add=True)
            size *= 2
            if size < self.n:
                self.k.move(self.X, self.cx, label="exit X")

    def product(
        self,
        dst: Tile,
        a: Tile,
        b: Tile,
        a_blocks: Bools,
        b_blocks: Bools | None,
        label: str,
        add: bool = False,
    ) -> None:
        """dst (+)= a b on the stated fractals."""
        self.inverse.product(dst, a, b, self.a, self.b, label, add, (a_blocks, b_blocks))


ALGORITHM = Algorithm(
    name="mxr",
    meaning="doubling on 16x16 diagonal blocks, then block recursion; cube only",
    source="arXiv 2605.21325; huawei-csl/megagdn-pto",
    build=build,
    variants={
        "published": "as in the hand-written Ascend kernel: identity products, single buffers",
        "textbook": "accumulators kept, empty fractals skipped, L0 double-buffered",
    },
    parameters=frozenset({"slots", "out_dtype"}),
)
