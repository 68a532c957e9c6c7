"""gdn-gates: beta = sigmoid(b) and g = -exp(A_log) softplus(a + dt_bias), the gates of a gated delta net.

a and b [tokens, heads] come from a projection, A_log and dt_bias [1, heads] are weights (transformers,
qwen3_5); tokens are batch x seq_len. g stays in fp32, beta is rounded. Bands of tokens, whole rows to a tile;
what belongs to a head is spread over the rows of a tile once.
"""

from __future__ import annotations

from typing import Any

from algorithms.bands import whole_rows
from algorithms.tiles import Place
from algorithms.vector_work import Loaded, Stored, VectorWork, algorithm, sigmoid, softplus
from npusim.builder import InputError, Kernel, Options, Problem, Shapes, Target, Tile, Unsupported


def build(problem: Problem, options: Options, target: Target) -> Kernel:
    """The tile graph of both gates."""
    work = VectorWork("gdn-gates", "elementwise", problem, options, target)
    k, shape = work.k, (problem.batch * problem.seq_len, problem.heads)
    element = 2 * work.loaded_bytes + work.stored_bytes + (4 + work.slots) * work.work_bytes
    cut = whole_rows(*shape, target, element, column=2 * work.loaded_bytes)
    if cut is None:
        raise Unsupported(f"--heads: gdn-gates holds all heads of a token in UB, and {shape[1]} do not fit")
    k.settings.update(tile_m=cut.rows)
    edges = (cut.rows, cut.cols)
    a, b = (k.input(name, shape, work.dtype) for name in "ab")
    weights = {name: k.input(name, (1, problem.heads), work.dtype) for name in ("A_log", "dt_bias")}
    beta, g = k.output("beta", shape, work.dtype), k.output("g", shape, work.working)
    A, B = (Loaded(work, name, edges) for name in "ab")
    Beta, G = Stored(work, "beta", edges), work.tile("g", edges, work.slots)
    rows = {name: Loaded(work, name, (1, problem.heads), slots=1) for name in weights}
    decay, bias, scratch = (work.tile(name, edges) for name in ("-exp(A_log)", "bias", "scratch"))

    def spread(name: str, out: Tile) -> None:
        """A weight of each head to all rows of a tile; of A_log, -exp."""
        row = rows[name].load(weights[name].at())
        if name == "A_log":
            k.vector("exp", row, row, label="exp(A_log)")
            k.vector("muls", row, row, imm=-1.0, label="-exp(A_log)")
        k.vector("col_broadcast", out, row, label=f"spread {name}")

    with k.phase("gates", over="vector"):
        spread("A_log", decay)
        spread("dt_bias", bias)
        ones = work.ones(edges)

        def tile(at: Place) -> None:
            window: dict[str, Any] = {"row": at.row, "rows": at.rows}
            gate = G.view(rows=at.rows)
            parts = [T.view(rows=at.rows) for T in (decay, bias, scratch, ones)]
            x = B.load(b.at(**window))
            sigmoid(k, x, parts[3])
            Beta.store(beta.at(**window), x)
            x = A.load(a.at(**window))
            k.vector("add", x, x, parts[1], label="a + dt_bias")
            softplus(k, x, parts[2])
            k.vector("mul", gate, x, parts[0], label="g")
            k.store(g.at(**window), gate, "store g")

        cut.sweep(k, tile)
    return k.finish()


def infer(shapes: Shapes) -> dict[str, int]:
    """Tokens and heads from the shape of a [tokens, heads]. InputError for any other number of axes."""
    if "a" not in shapes:
        return {}
    if len(shapes["a"]) != 2:
        raise InputError(f"array a: shape {shapes['a']}: two axes are needed, [tokens, heads]")
    return {"seq_len": shapes["a"][0], "heads": shapes["a"][1]}


ALGORITHM = algorithm(
    "elementwise", "both gates of a band of tokens, all heads at once", "arXiv 2412.06464", build
)
