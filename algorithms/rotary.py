"""Rotary embedding of q and k, in place, in the first `rotary` elements of each head; vector cores only.

Pairs are half of that part apart, as in Hugging Face's rotate_half (arXiv 2104.09864):

    x1' = x1 cos - x2 sin,    x2' = x2 cos + x1 sin,    x = [x1, x2, what is not rotated]

q [batch, seq_len * heads, head_dim], k alike with its own heads; cos and sin [seq_len, rotary / 2], a row
for each position, which all heads of a token share. What is not rotated is neither read nor written: the
outputs q_rotated and k_rotated [batch, seq_len * heads, rotary] have rows that are head_dim elements apart,
as in place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from algorithms.bands import vector_cores
from algorithms.tiles import edges
from algorithms.vector_work import Loaded, Stored, VectorWork, algorithm
from npusim.builder import (
    Index,
    InputError,
    Item,
    Kernel,
    Options,
    Problem,
    Shapes,
    Target,
    Tensor,
    Unsupported,
    View,
)


@dataclass(frozen=True)
class Rotated:
    """q or k: its tensors, and its tiles of some tokens with all heads."""

    heads: int
    given: Tensor
    result: Tensor
    loaded: Loaded
    stored: Stored


class Rotary:
    """The kernel under construction. A tile holds `tokens` tokens."""

    def __init__(self, work: VectorWork, problem: Problem, part: int, tokens: int) -> None:
        self.work, self.k, self.part, self.half = work, work.k, part, part // 2
        k = work.k
        tables = [k.input(name, (problem.seq_len, self.half), work.dtype) for name in ("cos", "sin")]
        shape = (tokens, self.half)
        self.tables = [(table, Loaded(work, table.name, shape)) for table in tables]
        heads = {"q": problem.heads, "k": problem.kv_heads}
        tiles = {
            count: (
                Loaded(work, name, (tokens * count, part)),
                Stored(work, name + "'", (tokens * count, part)),
            )
            for name, count in reversed(heads.items())
        }
        self.both = [self._rotated(name, problem, count, *tiles[count]) for name, count in heads.items()]
        halves = (tokens * max(heads.values()), self.half)
        self.first, self.second = (work.tile(f"x1 {name}", halves) for name in ("cos", "sin"))

    def _rotated(self, name: str, problem: Problem, heads: int, loaded: Loaded, stored: Stored) -> Rotated:
        k, dtype, (batch, rows) = self.k, self.work.dtype, (problem.batch, problem.seq_len * heads)
        given = k.input(name, (batch, rows, problem.head_dim), dtype)
        result = k.output(f"{name}_rotated", (batch, rows, self.part), dtype, pitch=problem.head_dim)
        return Rotated(heads, given, result, loaded, stored)

    def tile(self, sequence: Index, token: Index | int, tokens: int) -> None:
        """Rotate q and k of some tokens of a sequence."""
        cos, sin = (tile.load(table.at(row=token, rows=tokens)) for table, tile in self.tables)
        for one in self.both:
            window: dict[str, Any] = {"row": token * one.heads, "rows": tokens * one.heads, "cols": self.part}
            x = one.loaded.load(one.given.at(sequence, **window))
            self.rotate(x, cos, sin)
            one.stored.store(one.result.at(sequence, **window), x)

    def rotate(self, x: View, cos: View, sin: View) -> None:
        k, rows = self.k, x.rows
        x1, x2 = (x.tile.view(rows=rows, col=col, cols=self.half) for col in (0, self.half))
        a, b = (tile.view(rows=rows) for tile in (self.first, self.second))
        k.vector("scale_cols", a, x1, cos, label="x1 cos")
        k.vector("scale_cols", b, x1, sin, label="x1 sin")
        k.vector("scale_cols", x1, x2, sin, label="x2 sin")
        k.vector("sub", x1, a, x1, label="x1 cos - x2 sin")
        k.vector("scale_cols", x2, x2, cos, label="x2 cos")
        k.vector("add", x2, x2, b, label="x2 cos + x1 sin")


def build(problem: Problem, options: Options, target: Target) -> Kernel:
    """The tile graph: sequences in pieces that fit, of which all vector cores get equally many."""
    part = problem.rotary or max(2, problem.head_dim // 4 // 2 * 2)
    _check(problem, part)
    work = VectorWork("rotary", "rotate-half", problem, options, target)
    total, cores = problem.batch * problem.seq_len, vector_cores(target)
    rounds = -(-total // (cores * _fitting(work, problem, part, target)))
    tokens = min(-(-total // (cores * rounds)), problem.seq_len)
    work.k.settings.update(tile_m=tokens, rotary=part)
    kernel = Rotary(work, problem, part, tokens)
    with work.k.phase("rotate", over="vector"):
        for piece in edges(problem.seq_len, tokens):

            def item(items: list[Item], piece=piece) -> None:  # type: ignore[no-untyped-def]
                ((sequence, number),) = items
                kernel.tile(sequence, piece.at(number), piece.size)

            work.k.items([("sequence", problem.batch), ("tile", piece.count)], item, deal="contiguous")
    return work.k.finish()


def _check(problem: Problem, part: int) -> None:
    if part % 2 or part > problem.head_dim:
        raise InputError(
            f"--rotary: an even number up to --head-dim {problem.head_dim} is needed, got {part}"
        )


def _fitting(work: VectorWork, problem: Problem, part: int, target: Target) -> int:
    """Tokens of a tile: with equally many heads q and k use the same tiles."""
    element = work.loaded_bytes + work.stored_bytes
    heads = sum({problem.heads, problem.kv_heads}) * element + problem.heads * work.work_bytes
    fitting = int(target.level_bytes["UB"] // (part * (heads + work.loaded_bytes)))
    if not fitting:
        raise Unsupported(
            f"--rotary: {problem.heads} heads of {part} of one token do not fit into UB; lower one of them"
        )
    return fitting


def infer(shapes: Shapes) -> dict[str, int]:
    """The sizes from the shapes of q, k and cos. InputError where these do not fit."""
    if not {"q", "k", "cos"} <= shapes.keys():
        return {}
    for name, axes in (("q", 3), ("k", 3), ("cos", 2)):
        if len(shapes[name]) != axes:
            raise InputError(f"array {name}: shape {shapes[name]}: {axes} axes are needed")
    (batch, rows, head_dim), (tokens, half) = shapes["q"], shapes["cos"]
    for name in ("q", "k"):
        if shapes[name][1] % tokens:
            raise InputError(
                f"array {name}: shape {shapes[name]}: [batch, seq_len * heads, head_dim] is needed, with "
                f"the {tokens} positions of cos"
            )
    heads, key_heads = rows // tokens, shapes["k"][1] // tokens
    return {
        "batch": batch, "seq_len": tokens, "heads": heads, "key_heads": key_heads, "head_dim": head_dim,
        "rotary": 2 * half,
    }  # fmt: skip


ALGORITHM = algorithm(
    "rotate-half",
    "tokens with all their heads, tile after tile, pairs half the rotated part apart",
    "arXiv 2104.09864; transformers, rotate_half",
    build,
)
