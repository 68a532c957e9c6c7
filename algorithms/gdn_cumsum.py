"""gdn-cumsum: G = cumsum(g) inside each chunk, all heads at once; vector unit only.

As huawei-csl/megagdn-pto, chunk_cumsum: the first vector core of each group, a row of heads at a time, each
row waiting for the one before. With a gate per channel of the keys, one head at a time on any vector core.
"""

from __future__ import annotations

from algorithms.gdn_stage import PANEL_VALUES, Stage, algorithm
from algorithms.tiles import FRACTAL
from npusim.builder import Item


def by_head(s: Stage) -> None:
    """g [chunks, C, heads] -> G alike."""
    k, shape = s.k, (s.n, s.heads)
    # the kernel for cores with a direct way into UB (A5; its version of August 2026) has no barriers there
    through = ("L0C", "UB") in k.target.paths and s.published
    g, G = s.by_head("g"), s.by_head("G", output=True)
    # no flag holds the next load back until the sums are done, which two slots come to
    rows = k.tile("g", "UB", shape, s.working, slots=2, place="first")
    sums = k.tile("G", "UB", shape, s.working, place="first")

    def chunk(items: list[Item]) -> None:
        ((number,),) = items
        k.load(rows, g.at(number), label="load g")
        k.vector("running_sum_through" if through else "running_sum", sums, rows, label="running sum")
        k.store(G.at(number), sums, label="store G")

    with k.phase("cumsum"):
        k.items([("chunk", s.chunks)], chunk)


def by_channel(s: Stage) -> None:
    """g [chunks, heads, C, Dk] -> G alike; chunks of a head, in as many columns as UB holds twice over, dealt
    to all vector cores."""
    k, g, G = s.k, s.tensor("g"), s.tensor("G", output=True)
    most = max(FRACTAL, PANEL_VALUES // 2 // s.n)
    cols = max(cols for cols in range(FRACTAL, min(s.Dk, most) + 1, FRACTAL) if s.Dk % cols == 0)
    rows, sums = (k.tile(name, "UB", (s.n, cols), s.working, slots=2) for name in "gG")

    def piece(items: list[Item]) -> None:
        chunk, head = items[0]
        for col in range(0, s.Dk, cols):
            k.load(rows, g.at(chunk, head, col=col, cols=cols), label="load g")
            k.vector("running_sum", sums, rows, label="running sum")
            k.store(G.at(chunk, head, col=col, cols=cols), sums, label="store G")

    with k.phase("cumsum", over="vector"):
        k.items([("chunk", s.chunks), ("head", s.heads)], piece)


ALGORITHM = algorithm(
    "gdn-cumsum",
    "row by row on one vector core of each group",
    {"head": by_head, "channel": by_channel},
)
