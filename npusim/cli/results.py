"""What people see of a run: the tables that explain its time and its errors, the summary last."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from npusim.cli.render import (
    ROWS,
    counted,
    error,
    exactness,
    size,
    table,
    us,
    with_unit,
)
from npusim.machine import Machine
from npusim.report import Report, UnitUsage
from npusim.shares import percent
from npusim.simulate import EngineRun
from npusim.study import Numerics, Result
from npusim.validation.expected import Expected
from npusim.whatif import WhatIf


def result(console: Console, found: Result) -> None:
    """All tables of `npusim run`, the summary last."""
    if found.report:
        units(console, found.report)
        mechanisms(console, found.report, found.what_if)
    if found.numerics:
        ranges(console, found.numerics)
    summary(console, found)


def units(console: Console, report: Report) -> None:
    """Busy time and waits of each unit; they sum to the core time."""
    cores = counted(report.cores, "core")
    made = table(
        f"Units (means over {cores}; busy + waiting = core time {us(report.core_us)} us)",
        "unit", "busy us", "utilised", "slowest us", "waiting us", right=(1, 2, 3),
    )  # fmt: skip
    for name, unit in report.units.items():
        if unit.busy_us == 0.0 and "unused" in unit.waiting:
            continue
        waits = [
            f"{cause} {us(time)}" for cause, time in unit.waiting.items() if time > 0.005 * report.core_us
        ]
        rest = sum(time for time in unit.waiting.values() if time <= 0.005 * report.core_us)
        waits += [f"other {us(rest)}"] if rest > 0 else []
        made.add_row(
            name, us(unit.busy_us), percent(unit.utilisation), us(unit.slowest_core_us), ", ".join(waits)
        )
    console.print(made)


def mechanisms(console: Console, report: Report, imagined: WhatIf | None) -> None:
    """Operations, critical path, what it would be worth to be rid of a mechanism, roofline and bytes, and the
    numbers that nobody documents."""
    made = table("Operations (time on their unit, mean core)", "operation", "us", "of core", right=(1, 2))
    _rows(made, report.breakdown, report.core_us)
    console.print(made)
    made = table("Critical path (what the core time is made of)", "what", "us", "of core", right=(1, 2))
    _rows(made, report.critical_path, report.core_us)
    console.print(made)
    ideals(console, report, imagined)
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


def ideals(console: Console, report: Report, imagined: WhatIf | None) -> None:
    """What mechanisms and units carry of the task time, and the time without the largest mechanism."""
    made = table(
        "Mechanisms on the critical path (timed again without the largest)",
        "what", "us", "of task", "were it free", right=(1, 2),
    )  # fmt: skip
    rows = [(name, time, name) for name, time in report.mechanisms]
    rows += [(unit, time, f"work of {unit}") for unit, time in report.work]
    for name, time, text in sorted(rows, key=lambda row: -row[1]):
        said = _without(imagined) if imagined and imagined.name == name else ""
        made.add_row(text, us(time), _share(time, report), said)
    console.print(made)


def _share(time: float, report: Report) -> str:
    return percent(time / report.task_us if report.task_us else 0.0)


def _without(imagined: WhatIf) -> str:
    if imagined.time_us is None:
        return "too long to simulate again here"
    return f"{us(imagined.time_us)} us" + (f", {imagined.speedup:.2f}x" if imagined.speedup else "")


def _rows(made: Table, rows: list[tuple[str, float]], whole: float) -> None:
    for name, time in rows[:ROWS]:
        made.add_row(name, us(time), percent(time / whole))
    rest = sum(time for _, time in rows[ROWS:])
    if rest:
        made.add_row(counted(len(rows) - ROWS, "other"), us(rest), percent(rest / whole), style="dim")


def ranges(console: Console, numerics: Numerics) -> None:
    """The largest value of every intermediate against the limit of its dtype."""
    made = table(
        "Range of every result", "operation", "dtype", "largest", "limit", "not finite", "saturated",
        right=(2, 3, 4, 5),
    )  # fmt: skip
    for seen in numerics.computed.execution.ranges:
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
        made.add_row(
            "core time",
            f"{us(report.core_us)} us",
            "from the start of the first core: set-up, dispatch of the others, execution; "
            f"{report.cycles:,.0f} cycles",
        )
        made.add_row("event time", f"{us(report.event_us)} us", _event(report, found.machine))
        made.add_row("expected error", *_expected(found.expected))
        top = report.units[report.dominant_unit]
        made.add_row("bound", report.bound, _bound(report, top))
        if found.what_if:
            made.add_row("costs most", *_largest(found.what_if, report))
        shares = ", ".join(
            f"{kind} {percent(share)}" for kind, share in report.evidence.items() if share > 5e-4
        )
        made.add_row("evidence", shares, "share of the time carried by numbers of each kind")
    if found.engine:
        made.add_row("engine", found.engine.name, _engine(found.engine))
    if found.numerics:
        _errors(made, found.numerics)
    exact = exactness(found.kernel, found.problem.chunk)
    if exact:
        made.add_row("series", exact, "N*S of C: the rest is an approximation")
    console.print(made)


def _expected(known: Expected | None) -> tuple[str, str]:
    """By how much the time may be off, from what that is known, and where it is extrapolated."""
    if known is None or known.error is None:
        return "unknown", known.basis if known else ""
    size = percent(known.error, 0)
    if known.extrapolated:
        return f"{size}, extrapolated", f"as of {known.basis}; outside: {'; '.join(known.extrapolated)}"
    return size, f"as of {known.basis}"


def _largest(imagined: WhatIf, report: Report) -> tuple[str, str]:
    """The mechanism or unit that carries most of the critical path, and what it would buy to be rid of it."""
    work = "work of " if any(imagined.name == unit for unit, _ in report.work) else ""
    share = _share(imagined.path_us, report)
    return f"{work}{imagined.name}", f"{share} of the critical path; were it free: {_without(imagined)}"


def _bound(report: Report, top: UnitUsage) -> str:
    """The unit that decides, on the mean and on the slowest core; or the memory that all share."""
    slowest = percent(top.slowest_core_us / report.core_us)
    said = f"dominant unit {report.dominant_unit} {percent(top.utilisation)}, slowest core {slowest}"
    moved = max(report.roofline["hbm_us"], report.roofline["l2_us"]) / report.core_us
    if report.bound == "latency":
        return f"no unit is busy for 80 % of the time; {said}"
    return f"{said}; memory {percent(moved)}" if report.bound == "memory" else said


def _event(report: Report, machine: Machine) -> str:
    host = machine.launch.host_us.value
    waits = report.event_us > report.task_us + machine.launch.event_us.value
    return (
        f"the host issues a kernel every {us(host)} us: the device waits" if waits else "as the host sees it"
    )


def _engine(engine: EngineRun) -> str:
    """How much was simulated, how much skipped, and how wrong the time may be for it."""
    said = f"{engine.operations:,} operations in {engine.wall_s:.2g} s"
    if engine.skipped_iterations:
        share = percent(engine.skipped_operations / engine.operations)
        trips = "iteration" if engine.skipped_iterations == 1 else "iterations"
        said += f"; {engine.skipped_iterations:,} {trips} skipped ({share}) where all units were "
        near = f"as before to {engine.tolerance:g} of a period: off by about {engine.error_us:.1g} us at most"
        said += near if engine.error_us else "exactly as before"
    if engine.unsettled:
        said += f"; no period found in {', '.join(engine.unsettled)}: all of it simulated"
    return said


def _errors(made: Table, numerics: Numerics) -> None:
    errors, computed = numerics.errors, numerics.computed
    piece, pieces = computed.piece
    several = errors.samples > 1
    made.add_row(
        "relative error",
        error(errors.relative_error),
        f"Frobenius, against float64, on {computed.samples} of {counted(computed.total, piece, pieces)}"
        + (f"; worst matrix {error(errors.worst_relative_error)}" if several else ""),
    )
    worst = f"mean; worst matrix {with_unit(errors.worst_snr_db)}" if several else ""
    made.add_row("SNR", with_unit(errors.snr_db), worst)
    if errors.mean_head_error is not None:
        made.add_row(
            "error per head",
            error(errors.mean_head_error),
            f"mean over heads; worst head {errors.worst_head}: {error(errors.worst_head_error)}",
        )
    made.add_row("largest error", error(errors.max_abs_error), "of one element")
    overflow = f"{computed.execution.nonfinite} on the way, {computed.execution.saturated} saturated"
    made.add_row("not finite", str(errors.nonfinite), f"values of the result; {overflow}")
    for name, other in numerics.others.items():
        made.add_row(f"error of {name}", error(other.relative_error), f"{other.nonfinite} values not finite")
    where, _, what = numerics.origin.partition(": ")
    made.add_row("inputs", where, what)
