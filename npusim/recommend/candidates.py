"""The inverses that a recommendation chooses from: every algorithm, with the parameters worth trying."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from npusim.dtypes import dtype
from npusim.kernels import Algorithm, KernelEntry
from npusim.problem import Options

ORDERS, STEPS = range(2, 7), range(1, 13)
"""N and S of a masked Neumann series: those of the seed paper's study (arXiv 2606.06034)"""
LARGEST_BLOCK = 64
"""the block in which a masked Neumann series is exact once N*S reaches it, at most"""
MASKS: tuple[dict[str, Any], ...] = ({"mask": False}, {"mask_on": "vector"}, {"mask_on": "start"})
"""no mask, or where it is formed. A start that the stage before gives costs time there, which an inverse by
itself does not show: not among them"""


def candidates(
    entry: KernelEntry, algorithms: Sequence[str], name: str, chunk: int, out: str
) -> list[Options]:
    """Options of every candidate in dtype `name`, whose T is stored in dtype `out`."""
    found: list[Options] = []
    for algorithm in (entry.algorithms[one] for one in algorithms):
        for own in _parameters(algorithm, chunk):
            for scaling in _scalings(algorithm, own.get("variant"), name):
                given = {**own, **scaling, "algorithm": algorithm.name}
                if "out_dtype" in algorithm.parameters:
                    given["out_dtype"] = out
                found.append(Options(**given))
    return found


def _parameters(algorithm: Algorithm, chunk: int) -> Iterator[dict[str, Any]]:
    for variant in algorithm.variants:
        if variant in algorithm.stand_ins:
            continue  # nobody has said how that kernel is built
        if not {"order", "steps", "mask"} <= algorithm.parameters:
            yield {"variant": variant}
            continue
        block = min(chunk, LARGEST_BLOCK)
        for order in ORDERS:
            for steps in STEPS:
                if order * (steps - 1) < block:  # else fewer steps are exact already
                    yield from ({"order": order, "steps": steps, **mask} for mask in MASKS)


def _scalings(algorithm: Algorithm, variant: str | None, name: str) -> Iterator[dict[str, Any]]:
    """One scale for all operands, and of integers also one for each tile."""
    yield {}
    bound = "scaling" in algorithm.textbook_only and variant != "textbook"
    if dtype(name).kind == "int" and "scaling" in algorithm.parameters and not bound:
        yield {"scaling": "per-tile"}


def label(options: Options, short: bool = False) -> str:
    """What a candidate is called: 'masked-neumann N=3 S=8, mask on start'; `short`: 'masked-neumann 3/8
    start'."""
    parts = [str(options.algorithm)]
    if options.order is not None:
        mask = "no mask" if options.mask is False else f"{'' if short else 'mask on '}{options.mask_on}"
        terms = f"{options.order}/{options.steps}" if short else f"N={options.order} S={options.steps}"
        parts = [f"{parts[0]} {terms}", mask]
    elif options.variant is not None:
        parts[0] += f" {options.variant}"
    if options.scaling is not None:
        parts.append(options.scaling if short else f"scales {options.scaling}")
    return (" " if short else ", ").join(parts)
