"""The question of arXiv 2606.06034 on the machines of this project: what its inverse saves, and against what.

Prints the tables of docs/seed-paper.md: `python benchmarks/seed_paper.py [PROFILE ...]`. Each row is one
inverse in the delta layer of a model, kernel after kernel (npusim.layers); no other layer is timed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from algorithms import REGISTRY
from algorithms.decoder import Pass, stack
from algorithms.models import MODELS
from npusim.calls import Stack
from npusim.layers import LayerTime, Timer
from npusim.machine import Machine
from npusim.problem import Options
from npusim.settings import EngineSettings, MachineSettings

CHUNKS = (32, 64, 128)
PHONE, NODE = ("qwen3.5-4b", 4096), ("qwen3.5-9b", 8192)
"""model and tokens on hexagon-class, and on Ascend"""
PROFILES = ("hexagon-class", "ascend-910b2", "ascend-910b4", "ascend-950pr-9599")

SUBSTITUTION, BLOCKED, MXR, NEUMANN = (
    "forward-substitution", "blocked-substitution", "mxr", "masked-neumann"
)  # fmt: skip
BASELINES = {
    "forward-substitution": Options(algorithm=SUBSTITUTION),
    "blocked-substitution": Options(algorithm=BLOCKED),
    "mxr": Options(algorithm=MXR),
}
PLACES = {
    f"masked-neumann, {where}": Options(algorithm=NEUMANN, mask_on=where)
    for where in ("vector", "start", "kkt")
}
METHODS = {**BASELINES, **PLACES}
OTHERS = {
    "generic": ("blocked-substitution, 32", Options(algorithm=BLOCKED, block=32)),
    "ascend": ("blocked-substitution, textbook", Options(algorithm=BLOCKED, variant="textbook")),
}
"""by family, what else substitution may look like: blocks of 32, or a structure that no kernel has"""


@dataclass(frozen=True)
class Row:
    """One inverse in a delta layer. `scores_us` is the stage that makes L, and T0 where it does."""

    inverse_us: float
    scores_us: float
    layer_us: float
    unit: str
    bound: str

    @property
    def share(self) -> float:
        return self.inverse_us / self.layer_us

    def faster(self, baseline: Row) -> float:
        """Speed-up of the inverse alone."""
        return baseline.inverse_us / self.inverse_us

    def saving(self, baseline: Row) -> float:
        """The share of the baseline's layer that is saved."""
        return 1 - self.layer_us / baseline.layer_us


def measure(
    machine: Machine, model: str, tokens: int, chunk: int, methods: dict[str, Options] = METHODS
) -> dict[str, Row]:
    """Each of `methods` in the delta layer of `model`, one sequence in fp16, all kernels issued at once."""
    timer = Timer(REGISTRY, machine, EngineSettings())
    rows = {}
    for name, options in methods.items():
        whole = stack(MODELS[model], Pass(1, tokens, 0, chunk, "fp16", options))
        delta = Stack(model, whole.layers[:1], (0,))
        rows[name] = _row(timer.time(delta, eager=False).layers[0])
    return rows


def _row(layer: LayerTime) -> Row:
    inverse = next(row.found for row in layer.rows if row.call.inverse)
    scores = next(row.found for row in layer.rows if row.call.kernel == "gdn-kkt")
    return Row(inverse.task_us, scores.task_us, layer.time_us, inverse.dominant_unit, inverse.bound)


def table(machine: Machine, model: str, tokens: int, chunks: Iterable[int] = CHUNKS) -> Iterator[str]:
    """Lines of a table: each method at each chunk, against the three baselines."""
    name, options = OTHERS[machine.family]
    yield f"{machine.name}, delta layer of {model}, {tokens} tokens"
    yield ""
    yield "| C | inverse | us | unit | gdn-kkt us | layer us | share | speed-up | layer saves |"
    yield "|" + "---|" * 9
    for chunk in chunks:
        rows = measure(machine, model, tokens, chunk, {**METHODS, name: options})
        for method, row in rows.items():
            faster = " / ".join(f"{row.faster(rows[base]):.2f}" for base in BASELINES)
            saved = " / ".join(f"{100 * row.saving(rows[base]):.1f}" for base in BASELINES)
            yield (
                f"| {chunk} | {method} | {row.inverse_us:.1f} | {row.unit} | {row.scores_us:.1f} | "
                f"{row.layer_us:.0f} | {100 * row.share:.1f} % | {faster} | {saved} % |"
            )
    yield ""


def main(profiles: list[str]) -> None:
    for name in profiles or PROFILES:
        machine = MachineSettings(profile=name).machine()
        model, tokens = PHONE if machine.family != "ascend" else NODE
        for line in table(machine, model, tokens):
            print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
