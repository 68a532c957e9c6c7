"""What people see: the settings a run resolved, its result, comparisons and lists, as rich tables."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from npusim.comparison import Row
from npusim.kernels import KernelEntry
from npusim.machine import Machine, quantities
from npusim.problem import Options, Problem
from npusim.report import Report
from npusim.settings import MachineSettings, NumericsSettings
from npusim.simulate import EngineRun
from npusim.study import Numerics, Result

ROWS = 12
"""rows of a list before the rest is summed up"""


def us(time: float | None) -> str:
    """Microseconds with four significant digits at least."""
    if time is None:
        return "-"
    return f"{time:,.1f}" if time >= 1000 else f"{time:.4g}" if time >= 0.001 else "0"


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def error(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    return "not finite" if math.isinf(value) else f"{value:.2e}"


def decibel(value: float | None) -> str:
    if value is None:
        return "-"
    return ("exact" if value > 0 else "not finite") if math.isinf(value) else f"{value:.1f}"


def size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.4g} {unit}"
        count /= 1024
    raise AssertionError


def table(title: str, *columns: str, right: Iterable[int] = ()) -> Table:
    """A light table; columns numbered in `right` are aligned right."""
    made = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    made.min_width = len(title)
    for number, column in enumerate(columns):
        made.add_column(column, justify="right" if number in set(right) else "left", overflow="fold")
    return made


# --- settings and lists --------------------------------------------------------------------------


def settings(
    console: Console,
    entry: KernelEntry,
    problem: Problem,
    options: Options,
    machines: MachineSettings,
    machine: Machine,
    numerics: NumericsSettings,
) -> None:
    """One block that says what is about to be run."""
    algorithm = entry.algorithm(options.algorithm)
    if numerics.inputs:
        sizes = f"sizes from {numerics.inputs}"
    elif problem.matrices is not None:
        sizes = f"{problem.matrices} matrices"
    else:
        lengths = set(problem.sequences)
        each = f"{lengths.pop()} tokens" if len(lengths) == 1 else f"{sum(problem.sequences)} tokens in all"
        sizes = f"{len(problem.sequences)} sequence{'s' * (len(problem.sequences) > 1)}, {each}, {problem.heads} heads, {problem.total} matrices"
    console.print(f"[bold]{entry.name}[/] {algorithm.name}: {algorithm.meaning}")
    console.print(f"problem  chunk {problem.chunk}, {sizes}, {problem.dtype}")
    given = options.model_dump(exclude_none=True, exclude={"algorithm"})
    if given:
        console.print("options  " + ", ".join(f"{k} {v}" for k, v in given.items()))
    console.print(
        f"machine  {machine.name}, {machine.core.groups.value} cores at {machine.clock_ghz.value} GHz"
    )
    changed = [f"--set {text}" for text in machines.set]
    if machines.evidence == "documented":
        changed.append("only documented costs (assumed and fitted ones are zero)")
    if machines.ideal:
        changed.append(f"free: {machines.ideal}")
    if changed:
        console.print("         " + ", ".join(changed), highlight=False)


def names(console: Console, machines: list[Machine], entries: list[KernelEntry]) -> None:
    """The lists of `npusim list`."""
    if machines:
        made = table("Profiles", "name", "SoC", "cores", "GHz", "assumed", "description", right=(2, 3, 4))
        for machine in machines:
            numbers = quantities(machine).values()
            doubtful = sum(number.evidence in ("assumed", "fitted") for number in numbers)
            made.add_row(
                machine.name,
                ", ".join(machine.soc),
                str(machine.core.groups.value),
                f"{machine.clock_ghz.value:g}",
                f"{doubtful} of {len(numbers)}",
                machine.description.split(". ")[0],
            )
        console.print(made)
    for entry in entries:
        made = table(f"{entry.name}: {entry.meaning}", "algorithm", "meaning", "variants", "source")
        for algorithm in entry.algorithms.values():
            made.add_row(algorithm.name, algorithm.meaning, ", ".join(algorithm.variants), algorithm.source)
        console.print(made)


def names_json(machines: list[Machine], entries: list[KernelEntry]) -> dict[str, Any]:
    return {
        "profiles": [
            {"name": m.name, "soc": list(m.soc), "cores": m.core.groups.value, "description": m.description}
            for m in machines
        ],
        "kernels": [
            {
                "name": entry.name,
                "meaning": entry.meaning,
                "algorithms": [
                    {
                        "name": a.name, "meaning": a.meaning, "source": a.source,
                        "variants": dict(a.variants), "parameters": sorted(a.parameters),
                    }
                    for a in entry.algorithms.values()
                ],
            }
            for entry in entries
        ],
    }  # fmt: skip


# --- results ---------------------------------------------------------------------------------------


def result(console: Console, found: Result) -> None:
    """All tables of `npusim run`, the summary last."""
    console.print(
        f"kernel   {found.kernel.algorithm}, variant {found.kernel.variant}"
        + "".join(f", {key} {value}" for key, value in found.kernel.settings.items())
    )
    if found.report:
        units(console, found.report)
        mechanisms(console, found.report)
    if found.numerics:
        ranges(console, found.numerics)
    summary(console, found)


def units(console: Console, report: Report) -> None:
    """Busy time and waits of each unit; they sum to the core time."""
    made = table(
        f"Units (means over {report.cores} cores; busy + waiting = core time {us(report.core_us)} us)",
        "unit", "busy us", "utilised", "slowest us", "waiting us", right=(1, 2, 3),
    )  # fmt: skip
    for name, unit in report.units.items():
        if unit.busy_us == 0.0 and "unused" in unit.waiting:
            continue
        waits = [
            f"{cause} {us(time)}" for cause, time in unit.waiting.items() if time > 0.005 * report.core_us
        ]
        made.add_row(
            name, us(unit.busy_us), percent(unit.utilisation), us(unit.slowest_core_us), ", ".join(waits)
        )
    console.print(made)


def mechanisms(console: Console, report: Report) -> None:
    """Operations, critical path, roofline and bytes, and the numbers that nobody documents."""
    made = table("Operations (time on their unit, mean core)", "operation", "us", "of core", right=(1, 2))
    _rows(made, report.breakdown, report.core_us)
    console.print(made)
    made = table("Critical path (what the core time is made of)", "what", "us", "of core", right=(1, 2))
    _rows(made, report.critical_path, report.core_us)
    console.print(made)
    limits = {"cube_us": "cube", "vector_us": "vector", "hbm_us": "HBM", "l2_us": "L2"}
    made = table(
        "Roofline (least time of each resource alone)", "resource", "us", "of core", "bytes", right=(1, 2)
    )
    moved = {
        "hbm_us": f"read {size(report.bytes['hbm_read'])}, written {size(report.bytes['hbm_written'])}",
        "l2_us": f"read {size(report.bytes['l2_read'])}, written {size(report.bytes['l2_written'])}",
    }
    for key, name in limits.items():
        made.add_row(
            name, us(report.roofline[key]), percent(report.roofline[key] / report.core_us), moved.get(key, "")
        )
    console.print(made)
    held = ", ".join(f"{level} {size(count)}" for level, count in report.peak_bytes.items() if level != "GM")
    console.print(f"buffers  {held} per core")
    if report.assumed:
        made = table(
            "Numbers that no source documents (share of the time they carry)", "field", "share", "evidence",
            right=(1,),
        )  # fmt: skip
        for name, share, kind in report.assumed:
            made.add_row(name, percent(share), kind)
        console.print(made)


def _rows(made: Table, rows: list[tuple[str, float]], whole: float) -> None:
    for name, time in rows[:ROWS]:
        made.add_row(name, us(time), percent(time / whole))
    rest = sum(time for _, time in rows[ROWS:])
    if rest:
        made.add_row(f"{len(rows) - ROWS} others", us(rest), percent(rest / whole), style="dim")


def ranges(console: Console, numerics: Numerics) -> None:
    """The largest value of every intermediate against the limit of its dtype."""
    made = table(
        "Range of every result", "operation", "dtype", "largest", "limit", "not finite", "saturated",
        right=(2, 3, 4, 5),
    )  # fmt: skip
    for seen in numerics.execution.ranges:
        close = seen.nonfinite or seen.saturated or seen.max_abs > 0.5 * seen.limit
        made.add_row(
            seen.name, seen.dtype, f"{seen.max_abs:.4g}", f"{seen.limit:.4g}", str(seen.nonfinite),
            str(seen.saturated), style="red" if close else None,
        )  # fmt: skip
    console.print(made)


def summary(console: Console, found: Result) -> None:
    """The table a run ends in: time, bound and error."""
    made = table("Result", "what", "value", "how it is meant")
    if found.report:
        report = found.report
        made.add_row("time", f"{us(report.task_us)} us", "task: launch, dispatch and execution")
        made.add_row("core time", f"{us(report.core_us)} us", f"execution only: {report.cycles:,.0f} cycles")
        made.add_row("event time", f"{us(report.event_us)} us", "as the host sees it")
        top = report.units[report.dominant_unit]
        made.add_row(
            "bound",
            report.bound,
            f"busiest unit {report.dominant_unit} {percent(top.utilisation)}; 80 % rule",
        )
        shares = ", ".join(
            f"{kind} {percent(share)}" for kind, share in report.evidence.items() if share > 5e-4
        )
        made.add_row("evidence", shares, "share of the time carried by numbers of each kind")
    if found.engine:
        made.add_row("engine", found.engine.name, _engine(found.engine))
    if found.numerics:
        _errors(made, found.numerics)
    console.print(made)


def _engine(engine: EngineRun) -> str:
    return f"{engine.operations:,} operations in {engine.wall_s:.1f} s"


def _errors(made: Table, numerics: Numerics) -> None:
    errors = numerics.errors
    made.add_row(
        "relative error",
        error(errors.relative_error),
        f"Frobenius, against float64, on {errors.samples} of {numerics.total} matrices; "
        f"worst matrix {error(errors.worst_relative_error)}",
    )
    made.add_row(
        "SNR", f"{decibel(errors.snr_db)} dB", f"mean; worst matrix {decibel(errors.worst_snr_db)} dB"
    )
    if errors.mean_head_error is not None:
        made.add_row(
            "error per head",
            error(errors.mean_head_error),
            f"mean over heads; worst head {errors.worst_head}: {error(errors.worst_head_error)}",
        )
    made.add_row("largest error", error(errors.max_abs_error), "of one element")
    overflow = f"{numerics.execution.nonfinite} on the way, {numerics.execution.saturated} saturated"
    made.add_row("not finite", str(errors.nonfinite), f"values of the result; {overflow}")
    made.add_row("inputs", "", numerics.origin)


def comparison(console: Console, entry: KernelEntry, rows: list[Row]) -> None:
    """The one table of `npusim compare`, and the reasons of what is missing from it."""
    done = [row for row in rows if row.result]
    profiles = {row.profile for row in rows}
    where = f" on {next(iter(profiles))}" if len(profiles) == 1 else ""
    made = table(
        f"{entry.name}{where}", "algorithm", *([] if where else ["profile"]), "variant", "us", "speed-up",
        "bound", "busiest unit", "rel. error", "worst", "SNR dB", "worst dB", "not finite", "taken on",
        right=range(2, 12),
    )  # fmt: skip
    for row in done:
        made.add_row(*_comparison_row(row, bool(where)))
    console.print(made)
    for row in done:
        if row.result and row.result.kernel.settings:
            chosen = ", ".join(f"{k} {v}" for k, v in row.result.kernel.settings.items())
            console.print(f"[dim]{row.algorithm}: {chosen}[/]", highlight=False)
    for row in rows:
        if row.result is None:
            console.print(f"[yellow]{row.algorithm} on {row.profile}: {row.reason}[/]", highlight=False)


def _comparison_row(row: Row, one_profile: bool) -> list[str]:
    assert row.result
    report, numerics = row.result.report, row.result.numerics
    cells = [row.algorithm, *([] if one_profile else [row.profile]), row.result.kernel.variant]
    if report:
        top = report.units[report.dominant_unit].utilisation
        speedup = f"{row.speedup:.2f}x" if row.speedup else "-"
        cells += [us(report.task_us), speedup, report.bound, f"{report.dominant_unit} {percent(top)}"]
    else:
        cells += ["-"] * 4
    if numerics is None:
        return cells + ["-"] * 6
    errors = numerics.errors
    return [
        *cells, error(errors.relative_error), error(errors.worst_relative_error), decibel(errors.snr_db),
        decibel(errors.worst_snr_db), str(errors.nonfinite), f"{errors.samples} of {numerics.total}",
    ]  # fmt: skip
