"""What comes before the stages: queries and keys normalised, gates brought head by head.

Normalisation as the public reference has it (transformers, qwen3_5: x / sqrt(sum x^2 + 1e-6), queries times
Dk^-1/2), in an order of vector work of our own. The transposition of the gates is that of
huawei-csl/megagdn-pto.
"""

from __future__ import annotations

from algorithms.gdn_stage import Stage, algorithm
from npusim.builder import Index, Item, Kernel, KernelBuilder, Options, Problem, Target, Tensor, Tile

EPSILON = 1e-6


def normalise(problem: Problem, options: Options, target: Target, variant: str, norm: bool) -> Kernel:
    """The queries scaled, and with `norm` they and the keys normalised."""
    s = Stage("gdn-normalise", problem, options, target, variant)
    _normalise(s, norm)
    return s.k.finish()


def transpose(problem: Problem, options: Options, target: Target, variant: str) -> Kernel:
    """The gates brought head by head."""
    s = Stage("gdn-transpose", problem, options, target, variant)
    _transpose(s)
    return s.k.finish()


def _normalise(s: Stage, norm: bool = True) -> None:
    """q_given [chunks, key heads, C, Dk] -> q, and with `norm` k_given -> k; over all vector cores."""
    k, shape = s.k, (s.panel, s.Dk)
    pairs = [("q", s.Dk**-0.5), ("k", 1.0)] if norm else [("q", s.Dk**-0.5)]
    ends = {name: (s.tensor(name, given=True), s.tensor(name, output=True)) for name, _ in pairs}
    stored = k.tile("stored", "UB", shape, s.dtype, place="replicate")
    x, squares = (k.tile(name, "UB", shape, s.working, place="replicate") for name in ("x", "squares"))
    length = k.tile("1 / length", "UB", (s.panel, 1), s.working, place="replicate")

    def part(source: Tensor, result: Tensor, factor: float, at: tuple[Index, Index], row: int) -> None:
        k.load(stored, source.at(*at, row=row, rows=s.panel), label="load")
        k.vector("cast", x, stored, label="widen")
        if norm:
            lengths(s.k, x, squares, length)
            k.vector("scale_rows", x, x, length, label="normalise")
        k.vector("muls", x, x, imm=factor, label="scale")
        k.vector("cast", stored, x, label="round")
        k.store(result.at(*at, row=row, rows=s.panel), stored, label="store")

    def item(items: list[Item]) -> None:
        chunk, head = items[0]
        for name, factor in pairs:
            for row in s.panels():
                part(*ends[name], factor, (chunk, head), row)

    with k.phase("normalise", over="vector"):
        k.items([("chunk", s.chunks), ("key_head", s.key_heads)], item)


def lengths(k: KernelBuilder, x: Tile, squares: Tile, length: Tile) -> None:
    """1 / sqrt(sum x^2 + 1e-6) of each row."""
    k.vector("mul", squares, x, x, label="squares")
    k.vector("row_sum", length, squares, label="sum of squares")
    k.vector("adds", length, length, imm=EPSILON, label="+ 1e-6")
    k.vector("rsqrt", length, length, label="1 / length")


def _transpose(s: Stage) -> None:
    """beta, and the G of heads, [chunks, C, heads] -> G_heads and beta_heads [chunks, heads, 1, C]; the first
    vector core of each group loads a chunk, transposes it and stores a row per head."""
    k, names = s.k, ("G", "beta") if s.problem.decay == "head" else ("beta",)
    arrays = {name: (s.by_head(name), s.tensor(f"{name}_heads", output=True)) for name in names}
    tiles = {}
    for name, (source, _) in arrays.items():
        for way, shape in (("in", (s.n, s.heads)), ("out", (s.heads, s.n))):
            tiles[name, way] = k.tile(f"{name} {way}", "UB", shape, source.dtype, place="first")

    def item(items: list[Item]) -> None:
        ((chunk,),) = items
        for name, (source, result) in arrays.items():
            taken, turned = tiles[name, "in"], tiles[name, "out"]
            k.load(taken, source.at(chunk), label=f"load {name}")
            k.vector("transpose", turned, taken, label=f"transpose {name}")
            for head in range(s.heads):
                k.store(result.at(chunk, head), turned.view(row=head, rows=1), label=f"store {name}")

    with k.phase("transpose"):
        k.items([("chunk", s.chunks)], item)


NORMALISE = algorithm(
    "gdn-normalise",
    "queries and keys over their lengths, queries scaled; rows over all vector cores",
    dict.fromkeys(("head", "channel", "none"), _normalise),
)
TRANSPOSE = algorithm(
    "gdn-transpose",
    "a chunk's gates turned on one vector core of a group and stored row by row",
    dict.fromkeys(("head", "channel", "none"), _transpose),
)
