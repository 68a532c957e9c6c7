"""What people see: the settings a run resolved, its result, and lists, as rich tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from npusim.graph import Kernel
from npusim.kernels import KernelEntry
from npusim.machine import Machine, quantities
from npusim.problem import Problem
from npusim.report import Report, UnitUsage
from npusim.settings import MachineSettings, NumericsSettings
from npusim.simulate import EngineRun
from npusim.study import Numerics, Result

ROWS = 12
"""rows of a list before the rest is summed up"""


def us(time: float | None) -> str:
    """Microseconds with four significant digits at least."""
    if time is None:
        return "-"
    return f"{time:,.1f}" if time >= 1000 else f"{time:#.4g}" if time >= 0.001 else "0"


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


def _with_unit(value: float | None) -> str:
    text = decibel(value)
    return text if value is None or math.isinf(value) else f"{text} dB"


def counted(count: int, thing: str, things: str = "") -> str:
    return f"{count} {thing if count == 1 else things or thing + 's'}"


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
    numbers = set(right)
    for number, column in enumerate(columns):
        made.add_column(
            column,
            justify="right" if number in numbers else "left",
            overflow="fold",
            no_wrap=number == 0 or number in numbers,
        )
    return made


# --- settings and lists --------------------------------------------------------------------------


def settings(
    console: Console,
    entry: KernelEntry,
    kernel: Kernel,
    problem: Problem,
    machines: MachineSettings,
    machine: Machine,
    numerics: NumericsSettings,
) -> None:
    """One block that says what is about to be run, every default resolved."""
    algorithm = entry.algorithm(kernel.algorithm)
    console.print(Text.assemble((entry.name, "bold"), f" {algorithm.name}: {algorithm.meaning}"))
    _field(console, "problem", _sizes(entry, problem, numerics.inputs))
    _field(console, "kernel", ", ".join([f"variant {kernel.variant}", *named(kernel.settings)]))
    _machine(console, machines, [machine])
    if numerics.numerics:
        _field(console, "numerics", _samples(entry, problem, numerics, kernel))


def comparison_settings(
    console: Console,
    entry: KernelEntry,
    problem: Problem,
    machines: MachineSettings,
    loaded: list[Machine],
    numerics: NumericsSettings,
) -> None:
    """The same for all rows of a comparison; what each of them chose stands below its table."""
    console.print(Text.assemble((entry.name, "bold"), f": {entry.meaning}"))
    what = f"those of {numerics.inputs}, {problem.dtype}" if numerics.inputs else _sizes(entry, problem, None)
    _field(console, "problem", what)
    _machine(console, machines, loaded)
    if numerics.numerics:
        _field(console, "numerics", _samples(entry, problem, numerics))


def _field(console: Console, name: str, text: str) -> None:
    """A line of settings; what does not fit goes on below the text, not below the name."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=8)
    grid.add_column(overflow="fold")
    grid.add_row(name, text)
    console.print(grid)


def _sizes(entry: KernelEntry, problem: Problem, path: str | None) -> str:
    parts = _triangles(problem) if entry.data == "triangles" else _named_sizes(entry, problem)
    return ", ".join([*parts, problem.dtype]) + (f" (sizes from {path})" if path else "")


def _named_sizes(entry: KernelEntry, problem: Problem) -> list[str]:
    return [f"{name} {getattr(problem, name)}" for name in entry.sizes]


def _triangles(problem: Problem) -> list[str]:
    """Chunk, sequences, tokens and heads in words, and how many matrices that makes."""
    parts = [f"chunk {problem.chunk}"]
    if problem.matrices is None:
        lengths = problem.sequences
        parts.append(counted(len(lengths), "sequence"))
        each = len(set(lengths)) == 1
        parts.append(counted(lengths[0] if each else sum(lengths), "token") + ("" if each else " in all"))
        shared = f" ({counted(problem.kv_heads, 'key head')})" if problem.kv_heads != problem.heads else ""
        parts.append(counted(problem.heads, "head") + shared)
    return [*parts, _matrices(problem.total)]


def _matrices(count: int) -> str:
    return counted(count, "matrix", "matrices")


def exactness(kernel: Kernel, chunk: int) -> str:
    """How much of a truncated series is exact, where that is not all of it; '' otherwise."""
    order, steps = kernel.settings.get("order"), kernel.settings.get("steps")
    if not isinstance(order, int) or not isinstance(steps, int) or order * steps >= chunk:
        return ""
    return f"exact on {order * steps} of {chunk} sub-diagonals"


def named(settings: Mapping[str, object]) -> list[str]:
    words = {True: "on", False: "off"}
    return [f"{key} {words[v] if isinstance(v, bool) else v}" for key, v in settings.items()]


def _machine(console: Console, settings: MachineSettings, machines: list[Machine]) -> None:
    for number, machine in enumerate(machines):
        cores, vectors = machine.core.groups.value, machine.core.vector_cores.value
        kind = "fused core" if machine.fused else "core group"
        parts = "" if machine.fused else f" of 1 cube and {counted(vectors, 'vector core')}"
        text = f"{machine.name}, {counted(cores, kind)}{parts} at {machine.clock_ghz.value:g} GHz"
        _field(console, "" if number else "machine", text)
    changed = [f"--set {text}" for text in settings.set]
    if settings.evidence == "documented":
        changed.append("only documented costs (assumed and fitted ones are zero)")
    if settings.ideal:
        changed.append(f"free: {settings.ideal}")
    if changed:
        _field(console, "", "; ".join(changed))


def _samples(
    entry: KernelEntry, problem: Problem, numerics: NumericsSettings, kernel: Kernel | None = None
) -> str:
    """On what is computed: of how many, and where from."""
    if entry.data == "tensors":
        every = numerics.output or (kernel and len(kernel.phases) > 1)
        count = "all items" if every else f"about {counted(numerics.samples, 'item')}"
    elif numerics.output:
        count = "all matrices"
    elif numerics.inputs or numerics.samples < problem.total:
        count = ("up to " if numerics.inputs else "") + _matrices(numerics.samples)
    else:
        count = f"all {_matrices(problem.total)}" if problem.total > 1 else "the one matrix"
    if numerics.inputs:
        return f"{count} of {numerics.inputs}"
    if entry.data == "tensors":
        return f"{count}, generated: standard normal values, seed {numerics.seed}"
    return (
        f"{count}, generated: {numerics.gates} gates, key correlation "
        f"{numerics.key_correlation:g}, seed {numerics.seed}"
    )


def names(console: Console, machines: list[Machine], entries: list[KernelEntry]) -> None:
    """The lists of `npusim list`."""
    if machines:
        columns = ("name", "SoC", "cores", "GHz", "undocumented", "description")
        made = table("Profiles", *columns, right=(2, 3, 4))
        for machine in machines:
            numbers = quantities(machine).values()
            doubtful = sum(number.evidence in ("assumed", "fitted") for number in numbers)
            made.add_row(
                machine.name,
                ", ".join(machine.soc),
                str(machine.core.groups.value),
                f"{machine.clock_ghz.value:g}",
                f"{doubtful} of {len(numbers)}",
                machine.description.split(",")[0],
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
                "sizes": list(entry.sizes),
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
    if found.report:
        units(console, found.report)
        mechanisms(console, found.report)
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
        top = report.units[report.dominant_unit]
        made.add_row("bound", report.bound, _bound(report, top))
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


def _bound(report: Report, top: UnitUsage) -> str:
    """The unit that decides, on the mean and on the slowest core; or the memory that all share."""
    slowest = percent(top.slowest_core_us / report.core_us)
    said = f"dominant unit {report.dominant_unit} {percent(top.utilisation)}, slowest core {slowest}"
    moved = max(report.roofline["hbm_us"], report.roofline["l2_us"]) / report.core_us
    return said + (f"; memory {percent(moved)}" if report.bound == "memory" else "") + "; 80 % rule"


def _event(report: Report, machine: Machine) -> str:
    host = machine.launch.host_us.value
    waits = report.event_us > report.task_us + machine.launch.event_us.value
    return (
        f"the host issues a kernel every {us(host)} us: the device waits" if waits else "as the host sees it"
    )


def _engine(engine: EngineRun) -> str:
    return f"{engine.operations:,} operations in {engine.wall_s:.2g} s"


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
    worst = f"mean; worst matrix {_with_unit(errors.worst_snr_db)}" if several else ""
    made.add_row("SNR", _with_unit(errors.snr_db), worst)
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
