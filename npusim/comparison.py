"""Several algorithms on several machines, side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from npusim.errors import GraphError, InputError, Unsupported
from npusim.kernels import KernelEntry
from npusim.machine import Machine
from npusim.problem import Options, Problem
from npusim.settings import EngineSettings, NumericsSettings
from npusim.study import Result, run

ERRORS = ("relative_error", "worst_relative_error", "snr_db", "worst_snr_db", "nonfinite")
"""the measures of error that a row shows"""


@dataclass(frozen=True)
class Row:
    """One configuration: its result, or why it could not be had. `speedup` is against the first row."""

    algorithm: str
    profile: str
    result: Result | None = None
    reason: str = ""
    speedup: float | None = None

    def to_json(self) -> dict[str, Any]:
        """One row of `npusim compare --json`; None for what there is not, and `reason` says why."""
        report = self.result.report if self.result else None
        numerics = self.result.numerics if self.result else None
        errors = numerics.errors.to_json() if numerics else {}
        return {
            "algorithm": self.algorithm,
            "variant": self.result.kernel.variant if self.result else None,
            "profile": self.profile,
            "options": dict(self.result.kernel.settings) if self.result else None,
            "time_us": report.task_us if report else None,
            "speedup": self.speedup,
            "bound": report.bound if report else None,
            "dominant_unit": report.dominant_unit if report else None,
            "utilisation": report.units[report.dominant_unit].utilisation if report else None,
            **{name: errors.get(name) for name in ERRORS},
            "samples": numerics.computed.samples if numerics else None,
            "total": numerics.computed.total if numerics else None,
            "reason": self.reason or None,
        }


def compare(
    entry: KernelEntry,
    algorithms: list[str],
    machines: list[Machine],
    problem: Problem,
    options: Options,
    numerics: NumericsSettings,
    engine: EngineSettings,
    progress: Callable[[int], None] | None = None,
) -> list[Row]:
    """Run every algorithm on every machine. What a machine or algorithm cannot do becomes a reason.

    A parameter or variant goes to the algorithms that know it; one that none knows is an InputError.
    """
    rows = []
    engine = engine.model_copy(update={"what_if": False})
    _check_known(entry, algorithms, options)
    for machine in machines:
        for name in algorithms:
            algorithm = entry.algorithm(name)
            own = {k: v for k, v in options.model_dump().items() if k in algorithm.parameters}
            variant = options.variant if options.variant in algorithm.variants else None
            chosen = Options(**{**own, "algorithm": name, "variant": variant})
            try:
                result = run(entry, problem, chosen, machine, numerics, engine, progress)
            except (GraphError, Unsupported) as error:
                rows.append(Row(name, machine.name, reason=str(error)))
                continue
            rows.append(Row(name, machine.name, result))
    return _speedups(rows)


def _check_known(entry: KernelEntry, algorithms: list[str], options: Options) -> None:
    chosen = [entry.algorithm(name) for name in algorithms]
    variants = {variant for algorithm in chosen for variant in algorithm.variants}
    if options.variant is not None and options.variant not in variants:
        raise InputError(
            f"--variant: none of these has {options.variant!r}; known: {', '.join(sorted(variants))}"
        )
    for field, value in options.model_dump(exclude={"algorithm", "variant"}, exclude_none=True).items():
        if not any(field in algorithm.parameters for algorithm in chosen):
            raise InputError(
                f"--{field.replace('_', '-')}: none of {', '.join(algorithms)} takes it, got {value}"
            )


def _speedups(rows: list[Row]) -> list[Row]:
    times = [row.result.report.task_us if row.result and row.result.report else None for row in rows]
    base = times[0] if times else None
    return [
        replace(row, speedup=base / time) if base and time else row
        for row, time in zip(rows, times, strict=True)
    ]
