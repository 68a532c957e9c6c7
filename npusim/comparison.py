"""Several algorithms on several machines, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from npusim.errors import GraphError, NpusimError, Unsupported
from npusim.kernels import KernelEntry, check_known, own_options
from npusim.machine import Machine
from npusim.problem import Options, Problem
from npusim.settings import EngineSettings, NumericsSettings
from npusim.study import EXPECTED_KEYS, Prepared, Progress, Result, check_wishes, find_data, prepare

ERRORS = ("relative_error", "worst_relative_error", "snr_db", "worst_snr_db", "nonfinite")
"""the measures of error that a row shows"""


@dataclass(frozen=True)
class Row:
    """One configuration: its result, or why it could not be had. `speedup` is against the first row,
    `speedups` against each baseline of the kernel that is compared on the same profile. `algorithm` is
    ALGORITHM, or ALGORITHM:VARIANT where a variant was named."""

    algorithm: str
    profile: str
    result: Result | None = None
    reason: str = ""
    speedup: float | None = None
    speedups: Mapping[str, float] = field(default_factory=dict)

    @property
    def time_us(self) -> float | None:
        return self.result.report.task_us if self.result and self.result.report else None

    @property
    def why(self) -> str:
        """The reason, without the name of the machine that stands beside it."""
        return self.reason.removeprefix(f"{self.profile}: ")

    def to_json(self) -> dict[str, Any]:
        """One row of `npusim compare --json`; None for what there is not, and `reason` says why."""
        report = self.result.report if self.result else None
        numerics = self.result.numerics if self.result else None
        errors = numerics.errors.to_json() if numerics else {}
        known = self.result.expected if self.result else None
        return {
            "algorithm": self.algorithm,
            "variant": self.result.kernel.variant if self.result else None,
            "profile": self.profile,
            "options": dict(self.result.kernel.settings) if self.result else None,
            "time_us": self.time_us,
            **(known.to_json() if known else dict.fromkeys(EXPECTED_KEYS)),
            "speedup": self.speedup,
            "speedups": dict(self.speedups),
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
    progress: Progress | None = None,
    announce: Callable[[], None] | None = None,
) -> list[Row]:
    """Run every algorithm on every machine. What a machine or algorithm cannot do becomes a reason, and so
    does a mistake in a user's own kernel.

    A parameter or variant goes to the algorithms that know it; one that none knows is an InputError.
    NpusimError where nothing at all can be done. `announce` is called before the work begins.
    """
    check_wishes(numerics, engine)
    entry.check_sizes(problem)
    engine = engine.model_copy(update={"what_if": False})
    check_known(entry, algorithms, options)
    data = find_data(entry, problem, numerics)
    ready: list[tuple[Row, Prepared | None]] = []
    for machine in machines:
        for name in algorithms:
            row, chosen = Row(name, machine.name), own_options(entry, name, options)
            try:
                ready.append((row, prepare(entry, problem, chosen, machine, numerics, data)))
            except NpusimError as error:
                if not _is_reason(error):
                    raise
                ready.append((replace(row, reason=str(error)), None))
    if not any(prepared for _, prepared in ready):
        raise _nothing([row for row, _ in ready])
    if announce:
        announce()
    rows = [_ran(row, prepared, numerics, engine, progress) if prepared else row for row, prepared in ready]
    if not any(row.result for row in rows):
        raise _nothing(rows)
    return _against_baselines(entry, _speedups(rows))


def _ran(
    row: Row,
    prepared: Prepared,
    numerics: NumericsSettings,
    engine: EngineSettings,
    progress: Progress | None,
) -> Row:
    try:
        return replace(row, result=prepared.result(numerics, engine, progress))
    except NpusimError as error:
        if not _is_reason(error):
            raise
        return replace(row, reason=str(error))


def _is_reason(error: NpusimError) -> bool:
    """What a machine or algorithm cannot do, and a mistake in a user's own kernel, end no comparison."""
    return bool(error.where) or isinstance(error, (GraphError, Unsupported))


def _nothing(rows: list[Row]) -> NpusimError:
    """Why there is no row to show, reason by reason."""
    reasons: dict[str, str] = {}
    for row in rows:
        reasons.setdefault(row.reason, f"{row.algorithm} on {row.profile}: {row.why}")
    return NpusimError("nothing could be compared; " + "; ".join(reasons.values()))


def _speedups(rows: list[Row]) -> list[Row]:
    base = rows[0].time_us if rows else None
    return [replace(row, speedup=base / row.time_us) if base and row.time_us else row for row in rows]


def _against_baselines(entry: KernelEntry, rows: list[Row]) -> list[Row]:
    """The speed-ups against the baselines of the kernel in their default variants."""
    times = {(row.algorithm, row.profile): row.time_us for row in rows if row.time_us}

    def ratios(row: Row) -> dict[str, float]:
        base = {name: times.get((name, row.profile)) for name in entry.baselines}
        return {name: time / row.time_us for name, time in base.items() if time and row.time_us}

    return [replace(row, speedups=ratios(row)) for row in rows]
