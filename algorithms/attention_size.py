"""Sizes of attention: the problem, the blocks that fit a machine, and how much room they take.

Up to 128 rows of queries, of which each vector core takes half, piece by piece as UB allows; keys in blocks
of up to 512. The sizes are a choice made here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from algorithms.floats import check_floats, working_of
from algorithms.tiles import FRACTAL, fit
from npusim.builder import (
    InputError,
    Options,
    Problem,
    Target,
    Unsupported,
    accumulator_of,
    bytes_of,
)

LARGEST_HEAD = 256
ROWS = 128
KEYS = 512
STEP = 128
"""terms and columns of one product"""
PIECE = 128 * 128
"""scores that the vector cores of a group deal with at once where these come through global memory"""
FOLDED = 64
"""columns to which rows are folded while they are reduced"""


@dataclass(frozen=True)
class Shape:
    """The problem: `stacked` heads of a token are the rows of a tile where a sequence has one token."""

    batch: int
    tokens: int
    context: int
    heads: int
    key_heads: int
    D: int
    Dv: int
    causal: bool
    dtype: str

    @classmethod
    def of(cls, problem: Problem, options: Options) -> Shape:
        """Unsupported for sizes and dtypes that attention does not take."""
        D, Dv = problem.state_dims
        for option, size in (("--head-dim", D), ("--value-dim", Dv)):
            if size % FRACTAL or size > LARGEST_HEAD:
                raise Unsupported(
                    f"{option}: attention takes multiples of {FRACTAL} up to {LARGEST_HEAD}, got {size}"
                )
        check_floats("attention", problem.dtype)
        # a single token is the last of its sequence: it sees all keys
        causal = options.causal is not False and problem.seq_len > 1
        return cls(
            problem.batch, problem.seq_len, problem.context, problem.heads, problem.kv_heads, D, Dv, causal,
            problem.dtype,
        )  # fmt: skip

    @property
    def keys(self) -> int:
        return self.context + self.tokens

    @property
    def group(self) -> int:
        return self.heads // self.key_heads

    @property
    def stacked(self) -> bool:
        return self.tokens == 1

    @property
    def rows(self) -> int:
        """Rows that could stand in one tile."""
        return self.group if self.stacked else self.tokens

    @property
    def working(self) -> str:
        return working_of(self.dtype)


@dataclass(frozen=True)
class Blocks:
    """`rows` queries meet `keys` keys at a time, in products of at most `step` terms and columns; the vector
    cores take the rows in `pieces`. `direct`: scores come to UB without a way through global memory."""

    rows: int
    keys: int
    step: int
    pieces: int
    slots: int
    direct: bool

    def bytes(self, s: Shape, target: Target) -> dict[str, float]:
        """Room taken at each level, on the core that holds most."""
        each, wide = bytes_of(s.dtype), bytes_of(s.working)
        piece = self.rows // self.pieces
        own = -(-piece // max(1, target.vector_cores))
        part = own * (2 * self.keys + min(FOLDED, self.keys) + self.scratch(s)) * wide
        part += own * self.slots * self.keys * each if s.dtype != s.working else 0
        part += own * s.Dv * each
        state = self.pieces * own * (s.Dv + 5) * wide
        sums = bytes_of(accumulator_of(s.dtype))
        return {
            "L1": (self.slots * self.rows * s.D + self.slots * self.keys * (s.D + s.Dv)) * each
            + self.rows * self.keys * each,
            "L0A": 2 * self.rows * self.step * each,
            "L0B": 2 * self.step * self.step * each,
            "L0C": 2 * self.rows * self.step * sums,
            "UB": part + state,
        }

    def scratch(self, s: Shape) -> int:
        """Columns of the tile that holds products with V and, before the first of them, the mask."""
        return max(s.Dv, self.rows if s.causal else 0)


def blocks(s: Shape, options: Options, target: Target) -> Blocks:
    """Of the blocks that fit those of most scores that count (the last tile overlaps the one before), and of
    equal ones those of most rows; what the options state stays. The graph's own check refuses what never
    fits."""
    rows = _rows(s, options)
    found = [b for m in rows for b in _candidates(s, options, target, m)]
    fitting = [b for b in found if fit(b.bytes(s, target), target)]
    if not fitting:
        return min(found, key=lambda b: (b.rows * b.keys, b.step))
    return max(
        fitting, key=lambda b: (b.keys * s.rows / -(-s.rows // b.rows), b.rows, b.slots, b.step, -b.pieces)
    )


def _rows(s: Shape, options: Options) -> list[int]:
    """Rows that a tile may have. InputError for more than there are."""
    if options.tile_m is None:
        return list(dict.fromkeys(min(m, s.rows) for m in (ROWS, 64, 32, FRACTAL)))
    if options.tile_m > s.rows:
        what = "heads of a group" if s.stacked else "tokens"
        raise InputError(f"--tile-m: {options.tile_m} rows, and there are {s.rows} {what}; use at most that")
    return [options.tile_m]


def _candidates(s: Shape, options: Options, target: Target, rows: int) -> Iterator[Blocks]:
    # heads that are stacked must divide their group; so many rows at most
    if s.stacked:
        rows = max(m for m in range(1, rows + 1) if s.group % m == 0)
    several = s.causal and rows < s.tokens
    direct = target.same_memory("L0C", "UB") or ("L0C", "UB") in target.paths
    for keys in _keys(s, options, rows, several):
        # where L0 is a name for L1, windows of a block would be copied for nothing
        steps = (STEP,) if target.same_memory("L1", "L0A") else (STEP, 64, 32, FRACTAL)
        for step in steps:
            for pieces in (1,) if direct else _pieces(rows, keys):
                for slots in (options.slots,) if options.slots else (2, 1):
                    yield Blocks(rows, keys, step, pieces, slots, direct)


def _pieces(rows: int, keys: int) -> list[int]:
    """In how many pieces the vector cores may take their rows: few, of equal sizes."""
    fewest = max(1, rows * keys // PIECE)
    return [p for p in range(fewest, 4 * fewest + 1) if rows % p == 0][:2] or [1]


def _keys(s: Shape, options: Options, rows: int, several: bool) -> list[int]:
    """Keys that a block may have: of several causal tiles a multiple of their rows."""
    if options.tile_n is None:
        sizes = [KEYS, 256, ROWS, 64, 32, FRACTAL]
        unit, most = (rows, -(-s.keys // rows) * rows) if several else (1, s.keys)
        return [min(max(1, n // unit) * unit, most) for n in sizes]
    if several and options.tile_n % rows:
        raise InputError(
            f"--tile-n: blocks of keys under a causal mask are multiples of the {rows} rows of a tile "
            f"(--tile-m), got {options.tile_n}"
        )
    if options.tile_n > s.keys:
        raise InputError(f"--tile-n: {options.tile_n} is more than the {s.keys} keys; use at most that")
    return [options.tile_n]
