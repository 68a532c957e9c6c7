"""The commands that build kernels: run, compare and show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from npusim.cli.app import LATER
from npusim.cli.fields import name_list, split, takes
from npusim.cli.kernels import find_kernel, find_kernels
from npusim.cli.options import Json, plain, print_json
from npusim.cli.progress import Progress
from npusim.errors import Unsupported
from npusim.files import check_targets
from npusim.problem import Options, Problem, Settings, refuse
from npusim.settings import EngineSettings, MachineSettings, NumericsSettings, refuse_costs

if TYPE_CHECKING:
    from npusim.graph import Kernel

app = typer.Typer(rich_markup_mode="rich")

KernelName = Annotated[
    str,
    typer.Argument(help="Kernel name (see: npusim list kernels), or FILE.py:FUNCTION.", metavar="KERNEL"),
]
KernelNames = Annotated[
    str,
    typer.Argument(
        help="Kernel name (see: npusim list kernels), or FILE.py:FUNCTION,FUNCTION..", metavar="KERNEL"
    ),
]

Algorithms = Annotated[
    str | None,
    typer.Option(
        help=plain("Algorithms a,b,c or a:variant, the baseline first [default: all]."), metavar="NAMES"
    ),
]
Profiles = Annotated[
    str | None,
    typer.Option(help=plain("Profiles p,q, the baseline first [default: --profile]."), metavar="NAMES"),
]


@app.command(help=LATER["run"])
@takes(Problem, Options, MachineSettings, NumericsSettings, EngineSettings)
def run(kernel: KernelName, as_json: Json = False, *, given: dict[str, Any]) -> None:
    from npusim import study
    from npusim.cli import render, results
    from npusim.data import written

    problem, options, machines, numerics, engine = chosen = split(
        given, Problem, Options, MachineSettings, NumericsSettings, EngineSettings
    )
    entry = find_kernel(kernel, options.algorithm)
    entry.check_sizes(problem)
    refuse_sizes(problem, numerics.inputs)
    if not numerics.timing:
        refuse_costs(machines)
    machine = machines.machine()
    check_targets({"--profile": machines.profile}, {"--output": numerics.output, "--trace": engine.trace})
    console = Console(highlight=False, markup=False)

    def announce(problem: Problem, built: Kernel) -> None:
        render.settings(console, entry, built, problem, machines, machine, numerics)

    with Progress(enabled=not as_json) as tick:
        result = study.run(
            entry, problem, options, machine, numerics, engine, tick, None if as_json else announce
        )
    if as_json:
        asked = {} if kernel == result.kernel.name else {"kernel": kernel}  # a graph may differ
        print_json(result.to_json() | {"settings": asked | _settings(*chosen[2:])})
    else:
        results.result(console, result)
        if numerics.output and result.numerics:
            console.print(f"{written(result.numerics.computed.outputs)} written to {numerics.output}")
        if engine.trace:
            most = render.counted(engine.trace_iterations, "trip")
            console.print(f"up to {most} of each outermost loop written to {engine.trace}")


def refuse_sizes(problem: Problem, inputs: str | None = None) -> None:
    """A problem is counted in one way. What contradicts a file is known once it is read: `npusim.data`."""
    if not inputs:
        names, way = problem.idle
        refuse(problem, names, f"{way}; drop one of the two")


def _settings(*chosen: Settings) -> dict[str, Any]:
    """What else was asked, so that a result can be had again from its JSON."""
    return {name: value for one in chosen for name, value in one.model_dump(mode="json").items()}


@app.command(help=LATER["compare"])
@takes(
    Problem,
    Options,
    MachineSettings,
    NumericsSettings,
    EngineSettings,
    without=frozenset({"algorithm", "output", "trace", "trace_iterations", "what_if"}),
)
def compare(
    kernel: KernelNames,
    algorithms: Algorithms = None,
    profiles: Profiles = None,
    as_json: Json = False,
    *,
    given: dict[str, Any],
) -> None:
    from npusim.cli import render, side_by_side
    from npusim.comparison import compare as compare_all

    problem, options, machines, numerics, engine = chosen = split(
        given, Problem, Options, MachineSettings, NumericsSettings, EngineSettings
    )
    asked = None if algorithms is None else name_list("--algorithms", algorithms)
    entry = find_kernels(kernel, asked or [])
    entry.check_sizes(problem)
    refuse_sizes(problem, numerics.inputs)
    if not numerics.timing:
        refuse_costs(machines)
    names = asked or list(entry.algorithms)
    for name in names:
        entry.named(name)
    if profiles is not None:
        refuse(machines, ("profile",), "the machines are those of --profiles; drop one of the two")
    places = [machines.profile] if profiles is None else name_list("--profiles", profiles)
    loaded = [machines.model_copy(update={"profile": place}).machine() for place in places]
    console = Console(highlight=False, markup=False)

    def announce() -> None:
        render.comparison_settings(console, entry, problem, machines, loaded, numerics)

    with Progress(enabled=not as_json) as tick:
        said_first = None if as_json else announce
        rows = compare_all(entry, names, loaded, problem, options, numerics, engine, tick, said_first)
    if as_json:
        solved = next(row.result.problem for row in rows if row.result)  # with the sizes of --inputs
        said = {"kernel": kernel, "problem": entry.sizes_json(solved)}
        settings = _settings(*chosen[2:])
        del settings["what_if"]  # which is for one kernel alone
        print_json(said | {"rows": [row.to_json() for row in rows], "settings": settings})
    else:
        side_by_side.comparison(console, entry, rows)


@app.command(help=LATER["show"])
@takes(Problem, Options, MachineSettings)
def show(
    kernel: KernelName,
    costs: Annotated[
        bool, typer.Option("--costs/--no-costs", help="With cycles on the profile.", metavar="")
    ] = True,
    as_json: Json = False,
    *,
    given: dict[str, Any],
) -> None:
    from npusim.check import check
    from npusim.problem import Target
    from npusim.text import kernel_text
    from npusim.where import netting

    problem, options, machines = split(given, Problem, Options, MachineSettings)
    machine = machines.machine()
    target = Target.of(machine)
    entry = find_kernel(kernel, options.algorithm)
    entry.check_sizes(problem)
    refuse_sizes(problem)
    with entry.advising(problem, options, target):
        graph = check(entry.build(problem, options, target), target)
    try:
        with netting(graph.where):
            text = kernel_text(graph, machine if costs else None)
    except Unsupported as error:
        raise Unsupported(str(error).replace("--no-timing", "--no-costs")) from None
    if as_json:
        said = {"kernel": kernel, "problem": entry.sizes_json(problem)}
        print_json(said | {"settings": machines.model_dump(mode="json"), "text": text})
    else:
        print(text)
