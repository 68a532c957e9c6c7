"""gdn-fused: the whole gated delta net in one launch, its stages with a barrier over all cores between them.

As the fused kernel of huawei-csl/megagdn-pto: cumsum, transposes, kkt, inverse, wy, state, output, data
passing through global memory. Queries and keys are normalised first, which that kernel leaves to others
(`--no-qk-norm`). The algorithm is that of the inverse, and so are the variants.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

from algorithms.gdn_cumsum import ALGORITHM as cumsum
from algorithms.gdn_kkt import ALGORITHM as kkt
from algorithms.gdn_output import ALGORITHM as output
from algorithms.gdn_prepare import normalise, transpose
from algorithms.gdn_stage import check_sizes, exchange_of, structure_of
from algorithms.gdn_state import ALGORITHM as state
from algorithms.gdn_wy import ALGORITHM as wy
from algorithms.masked_start import start_options
from npusim.builder import Algorithm, Kernel, Options, Problem, Target, fuse


def _build(inverse: Algorithm, problem: Problem, options: Options, target: Target) -> Kernel:
    """The tile graph. q_given, k_given, v, beta (g, initial_state) -> O, state."""
    check_sizes("gdn-fused", problem)
    structure = structure_of(problem, target.family == "ascend")
    norm = options.qk_norm is not False
    plain = Options(variant=structure)
    exchanging = plain.model_copy(update={"exchange": options.exchange})
    inside = options.model_copy(update={"out_dtype": problem.dtype, "algorithm": inverse.name})
    matrix = inverse.build(problem, inside, target)
    scores = exchanging.model_copy(update=start_options(options))
    stages = [
        normalise(problem, plain, target, structure, norm),
        *((cumsum.build(problem, plain, target),) if problem.decay != "none" else ()),
        transpose(problem, plain, target, structure),
        kkt.build(problem, scores, target),
        matrix,
        wy.build(problem, plain, target),
        state.build(problem, exchanging, target),
        output.build(problem, exchanging if problem.decay == "head" else plain, target),
    ]
    exchange = exchange_of(options, problem.dtype)
    settings = {**matrix.settings, "qk_norm": norm, "stages": structure, "exchange": exchange}
    return fuse(
        "gdn-fused",
        stages,
        ("O", "state"),
        algorithm=inverse.name,
        variant=matrix.variant,
        settings=settings,
    )


def algorithms(inverses: Iterable[Algorithm]) -> dict[str, Algorithm]:
    """gdn-fused with each of the inverses."""

    def fused(inverse: Algorithm) -> Algorithm:
        own = inverse.parameters - {"out_dtype"} | {"qk_norm", "exchange"}
        return replace(inverse, build=partial(_build, inverse), parameters=own)

    return {inverse.name: fused(inverse) for inverse in inverses}
