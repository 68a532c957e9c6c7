"""The command sensitivity, and its table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from npusim.cli.app import LATER
from npusim.cli.commands import KernelName, refuse_sizes
from npusim.cli.fields import name_list, split, takes
from npusim.cli.kernels import find_kernel
from npusim.cli.machines import COLOURS
from npusim.cli.options import Json, plain, print_json
from npusim.cli.progress import Rows
from npusim.cli.render import ROWS, counted, named, settings, size, table, us
from npusim.problem import Options, Problem
from npusim.settings import EngineSettings, MachineSettings, NumericsSettings
from npusim.shares import percent
from npusim.units import unit_of

if TYPE_CHECKING:
    from npusim.graph import Kernel
    from npusim.sensitivity import Effect, Sensitivity, Tried

app = typer.Typer(rich_markup_mode="rich")

FIRST = 3
"""numbers that the closing line names"""
SPARED = ("on path", "value", "if worse")
"""the columns that are left out first where there is no room for all"""
NO_SHARE = 5e-4
"""of the time: what is shown as none"""
RIGHT = ("value", "elasticity", "if better", "if worse", "on path")


@app.callback()
def _group() -> None:
    """Keeps `sensitivity` the name of a command."""


@app.command(help=LATER["sensitivity"])
@takes(
    Problem,
    Options,
    MachineSettings,
    EngineSettings,
    without=frozenset({"trace", "trace_iterations", "what_if"}),
)
def sensitivity(
    kernel: KernelName,
    fields: Annotated[
        str | None,
        typer.Option(
            help=plain(
                "Numbers to try: groups, paths or patterns a,b,.. [default: those that carry time, and "
                "capacities, counts, clock and shared memory]."
            ),
            metavar="GLOBS",
            show_default=False,
        ),
    ] = None,
    step: Annotated[
        float,
        typer.Option(
            help=plain(
                "By how much a number is raised and lowered; core groups by one at least, other whole "
                "numbers are halved and doubled [default: 0.1]."
            ),
            metavar="X",
            show_default=False,
        ),
    ] = 0.1,
    top: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=plain(f"Show only the first N [default: {ROWS}; with --json all]."),
            metavar="N",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
    *,
    given: dict[str, Any],
) -> None:
    from npusim.sensitivity import sensitivity as rank

    problem, options, machines, engine = split(given, Problem, Options, MachineSettings, EngineSettings)
    entry = find_kernel(kernel, options.algorithm)
    entry.check_sizes(problem)
    refuse_sizes(problem)
    names = name_list("--fields", fields) if fields is not None else []
    machine = machines.machine()
    console = Console(highlight=False, markup=False)

    def announce(problem: Problem, built: Kernel) -> None:
        settings(console, entry, built, problem, machines, machine, NumericsSettings(numerics=False))

    with Rows(not as_json, "timing with another {}") as told:
        found = rank(
            entry, problem, options, machine, engine, names, step, told, None if as_json else announce
        )
    if as_json:
        asked = machines.model_dump(mode="json")
        asked |= engine.model_dump(mode="json", include={"engine", "exact", "tolerance"})
        built = found.kernel
        print_json(
            {
                "kernel": kernel, "algorithm": built.algorithm, "variant": built.variant,
                "profile": machine.name, "problem": entry.sizes_json(problem),
                "options": dict(built.settings), **found.to_json(),
                "fields": [one.to_json() for one in found.effects[:top]], "settings": asked,
            }
        )  # fmt: skip
    else:
        show(console, found, top or ROWS)


def show(console: Console, found: Sensitivity, top: int) -> None:
    """The table, what stands behind it, and in words which number to improve and which to measure first."""
    from npusim.sensitivity import has_effect

    rows = [one for one in found.effects if has_effect(one)]
    if rows:
        _table(console, found, rows[:top])
    step = f"better, worse: task time where a cost is divided or multiplied by {1 + found.step:g}, a rate "
    console.print(f"{step}multiplied or divided; whole numbers as stated", style="dim")
    if rest := rows[top:]:
        largest = abs(rest[0].elasticity or 0.0)
        console.print(f"{counted(len(rest), 'other')}, elasticity {largest:.3f} at most: --top", style="dim")
    idle = [one.field for one in found.effects if one.elasticity is not None and not has_effect(one)]
    if idle:
        console.print(f"no effect within the step: {', '.join(idle)}", style="dim")
    for one in found.effects:
        for tried in (one.worse, one.better):
            if tried and (said := _said(tried)):
                console.print(f"{one.field} at {_amount(one.field, tried.value)}: {said}", style="dim")
    for field, reason in found.untried.items():
        console.print(f"{field}: not tried: {reason}", style="dim")
    for line in _words(found):
        console.print(line)


def _said(tried: Tried) -> str:
    """What there is to say of a value besides its time."""
    if tried.time_us is None:
        return f"no time: {tried.reason}"
    return f"built with {', '.join(named(tried.settings))}" if tried.settings else ""


def _table(console: Console, found: Sensitivity, rows: list[Effect]) -> None:
    """With as many columns as there is room for."""
    cells = [_cells(one) for one in rows]
    names, spare = list(cells[0]), list(SPARED)
    while spare and _width(console, _made(found, cells, names)) > console.width:
        names.remove(spare.pop(0))
    console.print(_made(found, cells, names))
    dropped = [name for name in cells[0] if name not in names]
    if dropped:
        console.print(f"no room for {', '.join(dropped)}: widen the terminal, or --json", style="dim")


def _width(console: Console, made: Table) -> int:
    """The width a table would like."""
    return console.measure(made, options=console.options.update(width=10_000)).maximum


def _made(found: Sensitivity, cells: list[dict[str, str | Text]], names: list[str]) -> Table:
    title = f"Sensitivity of the task time, {us(found.time_us)} us, to numbers of {found.machine.name}"
    made = table(title, *names, right=[place for place, name in enumerate(names) if name in RIGHT])
    made.min_width = 0  # the columns alone say how wide it is
    for column in made.columns[1:]:  # where there is no room the numbers' names are folded
        column.no_wrap = True
    for row in cells:
        made.add_row(*(row[name] for name in names))
    return made


def _cells(one: Effect) -> dict[str, str | Text]:
    kind = one.number.evidence.value
    stepped = isinstance(one.number.value, int)  # by how much differs from number to number
    return {
        "number": " + ".join([one.field, *one.together]),
        "value": _amount(one.field, one.number.value),
        "evidence": Text(kind, style=COLOURS[kind]),
        "elasticity": f"{one.elasticity:+.3f}",
        "if better": _tried(one, one.better, stepped),
        "if worse": _tried(one, one.worse, stepped),
        "on path": percent(one.share) if one.share > NO_SHARE else "-",
    }


def _tried(one: Effect, tried: Tried | None, stepped: bool) -> str:
    if tried is None:
        return "-"
    time = "no time" if tried.time_us is None else us(tried.time_us)
    return f"{time} at {_amount(one.field, tried.value)}" if stepped else time


def _amount(field: str, value: float) -> str:
    """A value with its unit."""
    if field.endswith("bytes"):
        return size(value)
    return f"{value if isinstance(value, int) else f'{value:.4g}'} {unit_of(field)}".strip()


def _words(found: Sensitivity) -> list[str]:
    """Which number to improve first, and which of those that no source documents to measure first."""
    better = [f"{one.field}{_marked(one)}: {_change(one)}" for one in found.improvable[:FIRST]]
    said = "; then ".join(better) or "none of these shortens the time"
    lines = [f"which number to improve first, by what 1 % of it saves: {said}"]
    if found.doubtful:
        one = found.doubtful[0]
        moved = f"where it is off by 1 %, the time is by {abs(one.elasticity or 0.0):.2g} %"
        lines.append(f"which number to measure first: {one.field}, which is {one.number.evidence}: {moved}")
    return lines


def _marked(one: Effect) -> str:
    return f" ({one.number.evidence})" if one.doubtful else ""


def _change(one: Effect) -> str:
    """What the better value takes off the time."""
    assert one.better and one.better.time_us is not None
    values = f"{_amount(one.field, one.number.value)} -> {_amount(one.field, one.better.value)}"
    return f"{values} takes {percent(1 - one.better.time_us / one.base_us)} off"
