"""What people see first: the settings a run resolved, and lists; and how tables write numbers."""

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
from npusim.settings import MachineSettings, NumericsSettings

ROWS = 12
"""rows of a list before the rest is summed up"""


def us(time: float | None) -> str:
    """Microseconds with four significant digits at least."""
    if time is None:
        return "-"
    return f"{time:,.1f}" if time >= 1000 else f"{time:#.4g}" if time >= 0.001 else "0"


def error(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    return "not finite" if math.isinf(value) else f"{value:.2e}"


def decibel(value: float | None) -> str:
    if value is None:
        return "-"
    return ("exact" if value > 0 else "not finite") if math.isinf(value) else f"{value:.1f}"


def with_unit(value: float | None) -> str:
    text = decibel(value)
    return text if value is None or math.isinf(value) else f"{text} dB"


def counted(count: int, thing: str, things: str = "") -> str:
    return f"{count} {thing if count == 1 else things or thing + 's'}"


def size(count: float, digits: int = 4) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.{max(digits, len(str(round(count))))}g} {unit}"
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


def narrow(made: Table, folded: int) -> Table:
    """A table of which one column alone gives way where there is no room."""
    for number, column in enumerate(made.columns):
        column.no_wrap = number != folded
        if number != folded:
            column.min_width = len(str(column.header))
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
    field(console, "problem", _sizes(entry, problem, numerics.inputs))
    field(console, "kernel", ", ".join([f"variant {kernel.variant}", *named(kernel.settings)]))
    machine_line(console, machines, [machine])
    if numerics.numerics:
        field(console, "numerics", _samples(entry, problem, numerics, kernel))


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
    field(console, "problem", what)
    machine_line(console, machines, loaded)
    if numerics.numerics:
        field(console, "numerics", _samples(entry, problem, numerics))


def field(console: Console, name: str, text: str) -> None:
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
    sizes = ((name, getattr(problem, name)) for name in entry.sizes if name not in problem.idle[0])
    return [f"{name} {size}" for name, size in sizes if size is not None and size is not False]


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
    block = kernel.settings.get("block", chunk)
    if not (isinstance(order, int) and isinstance(steps, int) and isinstance(block, int)):
        return ""
    if order * steps >= block:
        return ""
    blocks = "" if block == chunk else f" of each block of {block}"
    return f"exact on {order * steps} of {block} sub-diagonals{blocks}"


def named(settings: Mapping[str, object]) -> list[str]:
    words = {True: "on", False: "off"}
    return [f"{key} {words[v] if isinstance(v, bool) else v}" for key, v in settings.items()]


def machine_line(console: Console, settings: MachineSettings, machines: list[Machine]) -> None:
    for number, machine in enumerate(machines):
        cores, vectors = machine.core.groups.value, machine.core.vector_cores.value
        kind = "fused core" if machine.fused else "core group"
        parts = "" if machine.fused else f" of 1 cube and {counted(vectors, 'vector core')}"
        text = f"{machine.name}, {counted(cores, kind)}{parts} at {machine.clock_ghz.value:g} GHz"
        field(console, "" if number else "machine", text)
    changed = [f"--set {text}" for text in settings.set]
    if settings.evidence == "documented":
        changed.append("only documented costs (assumed and fitted ones are zero)")
    if settings.ideal:
        changed.append(f"free: {settings.ideal}")
    if changed:
        field(console, "", "; ".join(changed))


def _samples(
    entry: KernelEntry, problem: Problem, numerics: NumericsSettings, kernel: Kernel | None = None
) -> str:
    """On what is computed: of how many, and where from."""
    from npusim.generate import drawn_gates
    from npusim.sequences import piece_of

    piece, pieces = piece_of(problem) if entry.data == "sequences" else ("matrix", "matrices")
    if entry.data == "tensors":
        every = numerics.output or (kernel and len(kernel.phases) > 1)
        count = "all items" if every else f"about {counted(numerics.samples, 'item')}"
    elif numerics.output or (numerics.inputs and entry.data == "sequences"):
        count = f"all {pieces}"
    elif numerics.inputs or numerics.samples < problem.total:
        count = ("up to " if numerics.inputs else "") + counted(numerics.samples, piece, pieces)
    else:
        count = f"all {counted(problem.total, piece, pieces)}" if problem.total > 1 else f"the one {piece}"
    if numerics.inputs:
        return f"{count} of {numerics.inputs}"
    if entry.data == "tensors":
        return f"{count}, generated: standard normal values, seed {numerics.seed}"
    return (
        f"{count}, generated: {drawn_gates(numerics.gates, problem.decay)}, key correlation "
        f"{numerics.key_correlation:g}, seed {numerics.seed}"
    )


def names(
    console: Console, machines: list[Machine], entries: list[KernelEntry], models: list[tuple[str, str]]
) -> None:
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
    if models:
        made = table("Models", "name", "layers")
        for model in models:
            made.add_row(*model)
        console.print(made)


def names_json(
    machines: list[Machine], entries: list[KernelEntry], models: list[tuple[str, str]]
) -> dict[str, Any]:
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
        "models": [{"name": name, "meaning": meaning} for name, meaning in models],
    }  # fmt: skip
