"""Attention: o = softmax(q k^T D^-1/2) v, block by block of keys with a running maximum and sum.

FlashAttention-2 (Dao, arXiv 2307.08691), divided between the cores as in the fused attention kernels of CANN
(fused_infer_attention_score), whose code was not read for this: S = Q K^T and P V on the cube core, softmax
and the rescaling of the output on the vector cores, each its share of the rows. The cube core is one block
ahead: it makes the scores of a block while the vector cores deal with those of the one before.

Tensors are tokens first: q [batch seq_len, heads D], k [batch (context + seq_len), key_heads D], v and o with
Dv. Where a sequence has one token, q and o are [batch heads, D], which is the same memory, and the heads that
share keys are the rows of a tile.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from algorithms.attention_online import Online, Queries
from algorithms.attention_plan import Bools, Ints, Kind, Place, Plan, Run, causal, full
from algorithms.attention_size import Shape, blocks
from npusim.builder import Algorithm, Index, Item, Kernel, KernelBuilder, Options, Problem, Target


def build(problem: Problem, options: Options, target: Target) -> Kernel:
    """The tile graph of attention."""
    s = Shape.of(problem, options)
    variant = ALGORITHM.variant(problem, options, target)
    k = KernelBuilder("attention", target, s.dtype, ALGORITHM.name, variant)
    b = blocks(s, options, target)
    k.settings.update(
        causal=s.causal, tile_m=b.rows, tile_n=b.keys, tile_k=b.step, pieces=b.pieces, slots=b.slots
    )
    online = Online(k, s, b)
    with k.phase("attention"):
        if s.stacked:
            _tiles(online, 1, 0)
        else:
            # what is left of a sequence is a whole tile that overlaps the one before it; what both compute
            # is stored twice
            count, left = divmod(s.tokens, b.rows)
            if left:
                _tiles(online, 1, s.tokens - b.rows)
            _tiles(online, count, 0)
    return k.finish()


def _tiles(online: Online, tiles: int, first: int) -> None:
    """`tiles` tiles of queries of every sequence and head, of which the first begins with token `first`.

    Tile by tile from the last, which meets most keys, and heads that share keys next to each other: what the
    cores do at one time is much alike, and short tiles fill up the end."""
    s, rows = online.s, online.b.rows
    plan = _plan(online, tiles, first)
    members = s.group // (rows if s.stacked else 1)
    others = s.batch * s.key_heads * members
    equal = bool((plan.wide == plan.wide[0]).all())

    def item(items: list[Item]) -> None:
        number, sequence, key_head, member, *looked_up = items[0]
        number = tiles - 1 - number
        head = key_head * s.group + member * (rows if s.stacked else 1)
        at = Queries(sequence, head, key_head, number * rows + first)
        wide = looked_up[0] if looked_up else Index(int(plan.wide[0]))
        online.begin(at)
        Pipeline(online, at, Place(number, wide), others).emit(plan)
        online.end(at)

    axes = [("tile", tiles), ("sequence", s.batch), ("key_head", s.key_heads), ("member", members)]
    online.k.items(axes, item, tables=None if equal else {"tile": plan.wide[::-1]})


def _plan(online: Online, tiles: int, first: int) -> Plan:
    s, b = online.s, online.b
    if s.causal:
        return causal(tiles, b.rows, s.context + first, b.keys)
    return full(tiles, s.keys, b.keys)


class Pipeline:
    """All blocks of keys of one tile of queries: while the scores of a block are made, the block before it is
    finished."""

    def __init__(self, online: Online, at: Queries, place: Place, others: int) -> None:
        self.online, self.at, self.place, self.others = online, at, place, others
        self.before: list[tuple[Run, Bools]] = []
        """the runs that may have been the latest, each with the tiles of which it was"""

    def emit(self, plan: Plan) -> None:
        k = self.online.k
        for run in plan.runs:
            k.loop(self.counts(run.counts), partial(self.later, run), first=partial(self.first, run))
            met = run.counts > 0
            left = [(one, of & ~met) for one, of in self.before]
            self.before = [(one, of) for one, of in left if of.any()] + [(run, met)]
        self.weights()
        self.products()

    def first(self, run: Run, trip: Index) -> None:
        """The first block of a run: another run's last is finished."""
        self.weights()
        self.online.scores(self.at, run.kind, run.start.at(self.place, trip))
        self.products()

    def later(self, run: Run, trip: Index) -> None:
        online, at = self.online, self.at
        online.softmax(run.kind)
        online.scores(at, run.kind, run.start.at(self.place, trip))
        self.product(run.kind, run.start.at(self.place, trip - 1))

    def weights(self) -> None:
        """The softmax of the latest block."""
        for run, of in self.before:
            self.where(of, partial(self.online.softmax, run.kind))

    def products(self) -> None:
        """What follows on the softmax of the latest block, where this is not the trip's own run."""
        for run, of in self.before:
            self.where(of, partial(self.product, run.kind, run.last.at(self.place, 0)))

    def product(self, kind: Kind, start: Index) -> None:
        """The output so far is rescaled, and P V of the block made, which the next step adds to it."""
        if kind.first:
            self.online.empty()
        else:
            self.online.rescale()
        self.online.product(self.at, kind, start)

    def where(self, of: Bools, body: partial[None]) -> None:
        """`body` for some of the tiles: a loop of no or one trip where it is not for all that come here."""
        if len(self.before) == 1:
            body()
        else:
            self.online.k.loop(self.counts(of.astype(np.int64)), lambda _: body())

    def counts(self, table: Ints) -> int | Ints:
        """Counts per item, from those per tile."""
        if (table == table[0]).all():
            return int(table[0])
        return np.repeat(table[::-1], self.others)


VARIANTS = {
    "fused-infer": "cube core one block ahead of the vector cores, exchange by the machine's own route",
}
ALGORITHM = Algorithm(
    name="flash",
    meaning="blocks of keys with a running maximum and sum; the cube core is one block ahead",
    source="arXiv 2307.08691; division of work as in CANN's fused_infer_attention_score",
    build=build,
    variants=VARIANTS,
    parameters=frozenset({"causal", "tile_m", "tile_n", "slots"}),
)
