"""What kernels of vector work share: values stored in the problem's dtype and worked on in a wider one, and
functions as sums of hardware instructions.

All work is in fp32 (fp64 for fp64). A value is widened after its load and rounded before its store, each by a
cast of the vector unit, except where both dtypes are one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from algorithms.bands import REPEAT_BYTES
from algorithms.floats import check_floats, working_of
from npusim.builder import (
    Access,
    Algorithm,
    Kernel,
    KernelBuilder,
    Options,
    Problem,
    Target,
    Tile,
    View,
    bytes_of,
)

BLOCK = 8
"""elements of the blocks that a column becomes before rows are scaled by it, or it is taken from them"""


class VectorWork:
    """A kernel of vector work under construction."""

    def __init__(self, name: str, algorithm: str, problem: Problem, options: Options, target: Target) -> None:
        check_floats(name, problem.dtype)
        self.k = KernelBuilder(name, target, problem.dtype, algorithm, "textbook")
        self.dtype, self.working = problem.dtype, working_of(problem.dtype)
        self.converts = self.dtype != self.working
        self.slots = options.slots or 2
        self.k.settings.update(slots=self.slots)

    # --- room: bytes of UB for each element --------------------------------------------------------

    @property
    def work_bytes(self) -> float:
        return bytes_of(self.working)

    @property
    def wide_bytes(self) -> float:
        """Of the copy that is worked on: none where it is the loaded tile itself."""
        return self.work_bytes if self.converts else 0.0

    @property
    def loaded_bytes(self) -> float:
        """Of a tile that is loaded and widened."""
        return self.slots * bytes_of(self.dtype) + self.wide_bytes

    @property
    def stored_bytes(self) -> float:
        """Of a tile in which results are rounded: none where they are stored as they are."""
        return self.slots * bytes_of(self.dtype) if self.converts else 0.0

    # --- tiles -------------------------------------------------------------------------------------

    def tile(self, name: str, shape: tuple[int, int], slots: int = 1) -> Tile:
        """A tile that is worked on."""
        return self.k.tile(name, "UB", shape, self.working, slots)

    def ones(self, shape: tuple[int, int]) -> Tile:
        """What reciprocals divide: filled once."""
        ones = self.tile("ones", shape)
        self.k.vector("fill", ones, imm=1.0, label="ones")
        return ones


class Loaded:
    """A tile as it is loaded, and as it is worked on: one and the same where both are of one dtype."""

    def __init__(
        self,
        work: VectorWork,
        name: str,
        shape: tuple[int, int],
        slots: int | None = None,
        wide: Tile | None = None,
    ) -> None:
        """`wide`: a tile to widen into, where it is not to have one of its own."""
        self.k, self.name = work.k, name
        self.stored = work.k.tile(name, "UB", shape, work.dtype, slots or work.slots)
        self.wide = (wide or work.tile(f"{name} wide", shape)) if work.converts else self.stored

    def load(self, place: Access, row: int = 0) -> View:
        """Load `place` into the rows from `row` on, and widen it: the view that is worked on. The rest of the
        tile as it was loaded is zero."""
        size = {"row": row, "rows": place.rows, "cols": place.cols}
        self.k.load(self.stored.view(**size), place, f"load {self.name}", fresh=True)
        return self.widen(**size)

    def widen(self, row: int, rows: int, cols: int) -> View:
        wide = self.wide.view(row=row, rows=rows, cols=cols)
        if self.wide is not self.stored:
            stored = self.stored.view(row=row, rows=rows, cols=cols)
            self.k.vector("cast", wide, stored, label=f"widen {self.name}")
        return wide


class Stored:
    """Stores what was worked on, rounded in a tile of its own where the dtypes differ."""

    def __init__(self, work: VectorWork, name: str, shape: tuple[int, int]) -> None:
        self.k = work.k
        self.tile = (
            work.k.tile(f"{name} rounded", "UB", shape, work.dtype, work.slots) if work.converts else None
        )

    def store(self, place: Access, value: View) -> None:
        rounded = value
        if self.tile:
            rounded = self.tile.view(rows=value.rows, cols=value.cols)
            self.k.vector("cast", rounded, value, label=f"round {place.tensor.name}")
        self.k.store(place, rounded, f"store {place.tensor.name}")


# --- functions, in place: x becomes f(x) ---------------------------------------------------------------


def one_plus_exp_minus(k: KernelBuilder, out: View, x: View) -> None:
    """1 + exp(-x), the divisor of sigmoid and silu: beyond the range of exp it is inf, and they are 0."""
    k.vector("muls", out, x, imm=-1.0, label="-x")
    k.vector("exp", out, out, label="exp(-x)")
    k.vector("adds", out, out, imm=1.0, label="1 + exp(-x)")


def sigmoid(k: KernelBuilder, x: View, ones: View) -> None:
    """1 / (1 + exp(-x))."""
    one_plus_exp_minus(k, x, x)
    k.vector("div", x, ones, x, label="sigmoid")


def silu(k: KernelBuilder, x: View, scratch: View) -> None:
    """x / (1 + exp(-x))."""
    one_plus_exp_minus(k, scratch, x)
    k.vector("div", x, x, scratch, label="silu")


def softplus(k: KernelBuilder, x: View, scratch: View) -> None:
    """ln(1 + exp(x)) = max(x, 0) + ln(1 + exp(-|x|)), in which nothing overflows."""
    k.vector("abs", scratch, x, label="|x|")
    one_plus_exp_minus(k, scratch, scratch)
    k.vector("ln", scratch, scratch, label="ln(1 + exp(-|x|))")
    k.vector("maxs", x, x, imm=0.0, label="max(x, 0)")
    k.vector("add", x, x, scratch, label="softplus")


def reduce_rows(
    k: KernelBuilder, function: Literal["add", "max"], column: View | Tile, x: View, halves: Tile
) -> None:
    """The sum, or the largest, of each row of x [rows, cols] into `column` [rows, 1]: the right half is laid
    on the left one until a row is one repeat, which an instruction reduces. `halves` [rows, cols / 2] holds
    what comes out, and may be the tile of x itself."""
    lanes = int(REPEAT_BYTES / bytes_of(halves.dtype))
    source, width = x, x.cols
    while width > lanes:
        keep = -(-width // 2)
        pairs = width - keep
        left, right = (_columns(source, first, pairs) for first in (0, keep))
        k.vector(function, halves.view(rows=x.rows, cols=pairs), left, right, label=f"{function} halves")
        if pairs < keep and source.tile is not halves:
            middle = halves.view(rows=x.rows, col=pairs, cols=1)
            k.vector("copy", middle, _columns(source, pairs, 1), label="middle column")
        source, width = halves.view(rows=x.rows, cols=keep), keep
    of_rows = {"add": "row_sum", "max": "row_max"}[function]
    k.vector(of_rows, column, source, label=of_rows.replace("_", " "))


def _columns(x: View, first: int, cols: int) -> View:
    return x.tile.view(row=x.row, rows=x.rows, col=x.col + first, cols=cols)


def algorithm(
    name: str, meaning: str, source: str, build: Callable[[Problem, Options, Target], Kernel]
) -> Algorithm:
    """An algorithm of vector work, of which there is one structure."""
    return Algorithm(
        name=name,
        meaning=meaning,
        source=source,
        build=build,
        variants={
            "textbook": "vector cores only, tiles as large as fit in UB, two slots unless asked otherwise"
        },
        parameters=frozenset({"slots"}),
    )
