"""What the stages of a gated delta net share: problem sizes, tensors, and the way between the cores.

The stages and their mathematics: npusim/delta.py, docs/stages.md. Tensors are tokens first, as the field
stores them: [chunks, heads, C, D], rows of one head `heads` * D elements apart; gates head by head,
[chunks, heads, 1, C]. A sequence's last chunk is filled up in memory: beta with ones, all else with zeros.

The `published` variants have the structure of the hand-written Ascend kernels (huawei-csl/megagdn-pto at
20b1b7c): products on the cube core, gates and masks on the two vector cores, each its half of the rows; what
one core hands to another goes through a workspace in global memory, with barriers where those kernels have
them. In `textbook` it takes the machine's own route, and there are no barriers. Products are rounded on their
way to the vector cores, as in those kernels, which compute on fp16; in bf16, or where asked for, they are
not.

Those kernels have a gate per head. With one per channel of the keys, g and G are [chunks, heads, C, Dk], and
there is `textbook` only, as there is without gates.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from algorithms.floats import check_floats, working_of
from algorithms.tiles import FRACTAL
from algorithms.tri_inverse import LARGEST_CHUNK
from npusim.builder import (
    Algorithm,
    Decay,
    Index,
    InputError,
    Item,
    Kernel,
    KernelBuilder,
    Options,
    Place,
    Problem,
    Target,
    Tensor,
    Tile,
    Unsupported,
    accumulator_of,
    bytes_of,
)

Ints = npt.NDArray[np.int64]
PANEL_VALUES = 128 * 128
"""values of one panel of a chunk's matrix: what the tiles of a stage leave room for in UB"""
CHANNEL_ROWS = 64
"""rows of a panel with gates per channel, at most: more gain nothing"""
VARIANTS = {
    "published": "as in the hand-written Ascend kernels: exchange through global memory, single buffers",
    "textbook": "the same work, exchanged by the machine's own route, without barriers",
}
SIZES = ("chunk", "batch", "seq_len", "heads", "key_heads", "head_dim", "value_dim", "cu_seqlens", "decay")
STATE_SIZES = (*SIZES, "initial_state")
"""of the stages that hold a state"""


class Stage:
    """One stage under construction."""

    def __init__(self, name: str, problem: Problem, options: Options, target: Target, variant: str) -> None:
        check_sizes(name, problem)
        n, dtype = problem.chunk, problem.dtype
        self.k = KernelBuilder(name, target, dtype, "gated-delta", variant)
        self.options = options
        self.name, self.problem, self.dtype, self.n = name, problem, dtype, n
        self.published = variant == "published"
        self.exchange = exchange_of(options, dtype)
        self.accumulated = self.exchange == "accumulated"
        self.working = working_of(dtype)
        self.chunks, self.heads = problem.shape
        self.key_heads, self.group = problem.kv_heads, problem.heads // problem.kv_heads
        self.Dk, self.Dv = problem.state_dims
        self.by_channel = problem.decay == "channel"
        most = max(FRACTAL, PANEL_VALUES // n)
        self.panel = max(rows for rows in range(FRACTAL, min(n, most) + 1, FRACTAL) if n % rows == 0)
        if self.by_channel:
            self.panel = self._channel_panel(target)
        self.counts = np.array(problem.chunk_counts, dtype=np.int64)

    def _channel_panel(self, target: Target) -> int:
        """The rows of a panel with gates per channel, as kkt (algorithms/kda_scores.py) holds most of them:
        in fp32 K, Q, G and two results, as stored K, Q and two slots, and matrices of a panel."""
        each, most = min(bytes_of(self.dtype), 4), min(self.n, CHANNEL_ROWS)
        row_bytes = self.Dk * (5 * 4 + 4 * each) + most * (3 * 4 + 3 * each) + 4 * self.Dk

        def fits(rows: int) -> bool:
            return self.n % rows == 0 and self._own_rows(rows) * row_bytes <= target.level_bytes["UB"]

        heights = [rows for rows in range(FRACTAL, most + 1, FRACTAL) if fits(rows)]
        return heights[-1] if heights else FRACTAL

    def _own_rows(self, rows: int) -> int:
        """Of a panel of `rows` those that one vector core has, in whole sub-blocks of 16 rows."""
        cores = max(1, self.k.target.vector_cores)
        return rows // cores if rows % (cores * FRACTAL) == 0 else rows

    @property
    def block_place(self) -> Place:
        """Where tiles lie of which a vector core needs whole sub-blocks of rows."""
        return "rows" if self._own_rows(self.panel) < self.panel else "first"

    # --- tensors -------------------------------------------------------------------------------

    def tensor(self, name: str, output: bool = False, given: bool = False) -> Tensor:
        """An input or output by its name in npusim/delta.py; `given`: as it was before it was normalised."""
        n, H, shape = self.n, self.heads, (self.chunks, self.heads)
        if name in ("q", "k"):
            H, shape = self.key_heads, (self.chunks, self.key_heads)
        rows, cols, dtype, pitch = {
            "q": (n, self.Dk, self.dtype, H * self.Dk),
            "k": (n, self.Dk, self.dtype, H * self.Dk),
            "v": (n, self.Dv, self.dtype, H * self.Dv),
            "g": (n, self.Dk, self.working, H * self.Dk),
            "G": (n, self.Dk, self.working, H * self.Dk),
            "P": (n, n, self.dtype, H * n),
            "G_heads": (1, n, self.working, n),
            "beta_heads": (1, n, self.dtype, n),
            "L": (n, n, self.dtype, H * n),
            "T": (n, n, self.dtype, H * n),
            "T0": (n, n, self.dtype, H * n),
            "U": (n, self.Dv, self.dtype, H * self.Dv),
            "W": (n, self.Dk, self.dtype, H * self.Dk),
            "V_new": (n, self.Dv, self.dtype, H * self.Dv),
            "S_chunks": (self.Dk, self.Dv, self.dtype, self.Dv),
            "O": (n, self.Dv, self.dtype, H * self.Dv),
            "initial_state": (self.Dk, self.Dv, self.working, self.Dv),
            "state": (self.Dk, self.Dv, self.working, self.Dv),
        }[name]
        if name in ("initial_state", "state"):
            shape = (len(self.counts), H)
        declare = self.k.output if output else self.k.input
        return declare(f"{name}_given" if given else name, (*shape, rows, cols), dtype, pitch)

    def by_head(self, array: str, output: bool = False) -> Tensor:
        """g, G or beta of all heads, a row per token: [chunks, C, heads]."""
        dtype = self.dtype if array == "beta" else self.working
        declare = self.k.output if output else self.k.input
        return declare(array, (self.chunks, self.n, self.heads), dtype)

    # --- dealing -------------------------------------------------------------------------------

    def by_chunk(self, body: Callable[[Index, Index, Index], None]) -> None:
        """Deal (chunk, head), the head fastest: `body(chunk, head, key head)`. Before each item the core
        walks over those of the others."""

        def item(items: list[Item]) -> None:
            ((chunk, key_head, member),) = items
            self._walk()
            body(chunk, key_head * self.group + member, key_head)

        axes = [("chunk", self.chunks), ("key_head", self.key_heads), ("member", self.group)]
        self.k.items(axes, item)

    def by_sequence(
        self,
        body: Callable[[Index, Index, Index], None],
        before: Callable[[Index, Index], None] | None = None,
        after: Callable[[Index, Index], None] | None = None,
    ) -> None:
        """Deal (sequence, head); all chunks of one in order: `body(chunk, head, key head)`, around them
        `before(sequence, head)` and `after(sequence, head)`."""
        equal = bool((self.counts == self.counts[0]).all())

        def item(items: list[Item]) -> None:
            sequence, key_head, member, *looked_up = items[0]
            first = sequence * int(self.counts[0]) if equal else looked_up[0]
            head = key_head * self.group + member
            if before:
                before(sequence, head)
            count = int(self.counts[0]) if equal else np.repeat(self.counts, self.heads)
            self.k.loop(count, lambda i: body(first + i, head, key_head))
            if after:
                after(sequence, head)

        axes = [("sequence", len(self.counts)), ("key_head", self.key_heads), ("member", self.group)]
        firsts = None if equal else {"sequence": np.cumsum(self.counts) - self.counts}
        self.k.items(axes, item, tables=firsts)

    # --- tiles and moves -----------------------------------------------------------------------

    def row(self, name: str, dtype: str | None = None, cols: int | None = None) -> Tile:
        """One row in UB, all of it on each vector core."""
        return self.k.tile(name, "UB", (1, cols or self.n), dtype or self.working, place="replicate")

    def ub(self, name: str, rows: int, cols: int, dtype: str | None = None) -> Tile:
        """A tile in UB, its rows dealt to the vector cores."""
        return self.k.tile(name, "UB", (rows, cols), dtype or self.working)

    def cube(self, name: str, level: str, rows: int, cols: int, slots: int = 1) -> Tile:
        """An operand, or at L0C an accumulator."""
        dtype = accumulator_of(self.dtype) if level == "L0C" else self.dtype
        return self.k.tile(name, level, (rows, cols), dtype, slots)

    def workspace(
        self, name: str, rows: int, cols: int, slots: int = 1, product: bool = False
    ) -> Tile | None:
        """Where a tile passes from core to core; None where the machine's own route is taken. `product`: it
        passes from the cube core, whose sums may stay as they are."""
        dtype = accumulator_of(self.dtype) if product and self.accumulated else self.dtype
        return self.k.tile(name, "GM", (rows, cols), dtype, slots) if self.published else None

    def send(self, via: Tile | None, src: Tile, label: str) -> Tile:
        """Write `src` to its workspace: what the other core is to move from."""
        if via is None:
            return src
        self.k.move(via, src, label=label)
        return via

    def take(self, wide: Tile, rounded: Tile, sent: Tile, what: str) -> None:
        """Move a product that was sent to UB: into `wide` as it was accumulated, else into `rounded`."""
        self.k.settings["exchange"] = self.exchange
        self.k.move(wide if self.accumulated else rounded, sent, label=f"{what} to UB")

    def widen(self, wide: Tile, rounded: Tile, what: str) -> None:
        """Have in `wide` what `take` moved."""
        if not self.accumulated:
            self.k.vector("cast", wide, rounded, label=f"widen {what}")

    def wait(self, tile: Tile, on: str) -> None:
        """Stop the scalar units of the cores `on` until `tile` is there."""
        if self.published:
            self.k.wait(tile, on=on)

    def barrier(self, on: str, scope: str = "core") -> None:
        if self.published:
            self.k.barrier(scope, on=on)  # type: ignore[arg-type]

    def _walk(self) -> None:
        """Step over the items of the other cores: about four scalar instructions each (a 64-bit remainder
        among them), on each of the three cores."""
        if self.published:
            for place in ("cube", "rows"):
                self.k.scalar("alu", on=place, label="find the item", times=4 * self.k.target.groups)

    def mask(self, first: int) -> Mask:
        """Zeros above sub-diagonal `first` of a chunk's matrix."""
        below = np.tri(self.n, k=-first)
        name = "lower triangle" if first else "triangle and diagonal"
        constant = self.k.constant(name, below, self.working)
        return Mask(self, constant, self.ub(f"mask: {name}", self.panel, self.n))

    def panels(self) -> list[int]:
        """The first row of each panel of a chunk."""
        return list(range(0, self.n, self.panel))


def check_sizes(name: str, problem: Problem) -> None:
    """Unsupported for sizes and dtypes that kernel `name` does not take."""
    n = problem.chunk
    if n % FRACTAL or n > LARGEST_CHUNK:
        raise Unsupported(f"--chunk: {name} takes multiples of {FRACTAL} up to {LARGEST_CHUNK}, got {n}")
    check_formats(name, problem)


def check_formats(name: str, problem: Problem) -> None:
    """Unsupported for dimensions and dtypes that kernel `name` does not take."""
    for option, size in zip(("--head-dim", "--value-dim"), problem.state_dims, strict=True):
        if size % FRACTAL or size > LARGEST_CHUNK:
            raise Unsupported(
                f"{option}: {name} takes multiples of {FRACTAL} up to {LARGEST_CHUNK}, got {size}"
            )
    check_floats(name, problem.dtype)


def algorithm(
    name: str,
    meaning: str,
    emit: Mapping[Decay, Callable[[Stage], None]],
    parameters: frozenset[str] = frozenset(),
) -> Algorithm:
    """The one algorithm of stage `name`, whose phases `emit` writes, by what decays."""

    def build(problem: Problem, options: Options, target: Target) -> Kernel:
        if problem.decay not in emit:
            raise InputError(
                f"--decay: {name} has nothing to do without gates; {problem.decay} leaves it out"
            )
        variant = made.variant(problem, options, target)
        if variant == "published" and problem.decay != "head":
            raise Unsupported("--variant: the published kernels have a gate per head; use textbook")
        stage = Stage(name, problem, options, target, variant)
        emit[problem.decay](stage)
        return stage.k.finish()

    made = Algorithm(
        name="gated-delta",
        meaning=meaning,
        source="arXiv 2412.06464; huawei-csl/megagdn-pto",
        build=build,
        variants=VARIANTS,
        parameters=parameters,
        on_ascend=lambda problem, _: structure_of(problem, True),
    )
    return made


def exchange_of(options: Options, dtype: str) -> str:
    """How products go to the vector cores. In bf16 to round them costs as much as all operands: more than the
    public suites allow, on heads that keep their state (docs/stages.md)."""
    return options.exchange or ("accumulated" if dtype == "bf16" else "rounded")


def structure_of(problem: Problem, ascend: bool) -> str:
    """The variant of the stages where none is asked for."""
    return "published" if ascend and problem.decay == "head" else "textbook"


class Carried(ABC):
    """The state of a head, in UB from chunk to chunk of a sequence."""

    def __init__(self, stage: Stage) -> None:
        self.k, self.s = stage.k, stage
        self.initial = stage.tensor("initial_state") if stage.problem.initial_state else None
        self.final = stage.tensor("state", output=True)
        self.S = stage.ub("S", stage.Dk, stage.Dv)

    def emit(self) -> None:
        with self.k.phase("state"):
            self.s.by_sequence(self.chunk, before=self.begin, after=self.end)

    @abstractmethod
    def chunk(self, chunk: Index, head: Index, key_head: Index) -> None:
        """The work of one chunk."""

    def begin(self, sequence: Index, head: Index) -> None:
        if self.initial is None:
            self.k.vector("fill", self.S, imm=0.0, label="S = 0")
        else:
            self.k.load(self.S, self.initial.at(sequence, head), label="load S")

    def end(self, sequence: Index, head: Index) -> None:
        self.k.store(self.final.at(sequence, head), self.S, label="store the state")


class Mask:
    """The mask of the panel at hand: the only one stays in UB, of several each is loaded in its turn."""

    def __init__(self, stage: Stage, constant: Tensor, tile: Tile) -> None:
        self.stage, self.constant, self.tile = stage, constant, tile

    def begin(self) -> None:
        if len(self.stage.panels()) == 1:
            self._load(0)

    def panel(self, row: int) -> Tile:
        if len(self.stage.panels()) > 1:
            self._load(row)
        return self.tile

    def _load(self, row: int) -> None:
        access = self.constant.at(row=row, rows=self.stage.panel)
        self.stage.k.load(self.tile, access, label="load mask")
