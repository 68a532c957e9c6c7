"""gdn-cumsum: G = cumsum(g) inside each chunk, all heads at once; vector unit only.

As huawei-csl/megagdn-pto, chunk_cumsum: the first vector core of each group, a row of heads at a time, each
row waiting for the one before.
"""

from __future__ import annotations

from algorithms.gdn_stage import VARIANTS, Stage
from npusim.builder import Algorithm, Item, Kernel, Options, Problem, Target


def build(problem: Problem, options: Options, target: Target) -> Kernel:
    """The tile graph. g [chunks, C, heads] -> G alike."""
    s = Stage("gdn-cumsum", problem, options, target, ALGORITHM.variant(problem, options, target))
    k, shape = s.k, (s.n, s.heads)
    g, G = s.by_head("g"), s.by_head("G", output=True)
    rows = k.tile("g", "UB", shape, s.working, place="first")
    sums = k.tile("G", "UB", shape, s.working, place="first")

    def chunk(items: list[Item]) -> None:
        ((number,),) = items
        k.load(rows, g.at(number), label="load g")
        k.vector("running_sum", sums, rows, label="running sum")
        k.store(G.at(number), sums, label="store G")

    with k.phase("cumsum"):
        k.items([("chunk", s.chunks)], chunk)
    return k.finish()


ALGORITHM = Algorithm(
    name="gated-delta",
    meaning="row by row on one vector core of each group",
    source="arXiv 2412.06464; huawei-csl/megagdn-pto",
    build=build,
    variants=VARIANTS,
)
