"""gdn-cumsum: G = cumsum(g) inside each chunk, all heads at once; vector unit only.

As huawei-csl/megagdn-pto, chunk_cumsum: the first vector core of each group, a row of heads at a time, each
row waiting for the one before.
"""

from __future__ import annotations

from algorithms.gdn_stage import Stage, algorithm
from npusim.builder import Item


def emit(s: Stage) -> None:
    """g [chunks, C, heads] -> G alike."""
    k, shape = s.k, (s.n, s.heads)
    g, G = s.by_head("g"), s.by_head("G", output=True)
    # no flag holds the next load back until the sums are done, which two slots come to
    rows = k.tile("g", "UB", shape, s.working, slots=2, place="first")
    sums = k.tile("G", "UB", shape, s.working, place="first")

    def chunk(items: list[Item]) -> None:
        ((number,),) = items
        k.load(rows, g.at(number), label="load g")
        k.vector("running_sum", sums, rows, label="running sum")
        k.store(G.at(number), sums, label="store G")

    with k.phase("cumsum"):
        k.items([("chunk", s.chunks)], chunk)


ALGORITHM = algorithm("gdn-cumsum", "row by row on one vector core of each group", emit)
