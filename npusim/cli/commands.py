"""The commands list, run, compare and show; `profile` has a file of its own."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from npusim import __version__
from npusim.cli import profile
from npusim.cli.fields import Json, split, takes
from npusim.errors import InputError, NpusimError, Unsupported, did_you_mean
from npusim.problem import Options, Problem
from npusim.settings import EngineSettings, MachineSettings, NumericsSettings

app = typer.Typer(
    help="How long a tile algorithm takes on an NPU, why, and how wrong its result is.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(profile.app, name="profile")

KernelName = Annotated[str, typer.Argument(help="Kernel name (see: npusim list kernels).", metavar="KERNEL")]


def _version(value: bool) -> None:
    if value:
        print(f"npusim {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """How long a tile algorithm takes on an NPU, why, and how wrong its result is."""


def find_kernel(name: str) -> Any:
    from algorithms import REGISTRY

    if name not in REGISTRY:
        raise InputError(f"no kernel {name!r}; {did_you_mean(name, REGISTRY)}")
    return REGISTRY[name]


@app.command("list")
def list_names(
    what: Annotated[str, typer.Argument(help="profiles or kernels; both without.", metavar="[WHAT]")] = "",
    as_json: Json = False,
) -> None:
    """List profiles and kernels with their algorithms."""
    from algorithms import REGISTRY
    from npusim.cli import render
    from npusim.profiles import load_machine, profile_names

    if what and what not in ("profiles", "kernels"):
        raise InputError(f"list: no {what!r}; {did_you_mean(what, ('profiles', 'kernels'))}")
    machines = [load_machine(name) for name in profile_names()] if what != "kernels" else []
    entries = list(REGISTRY.values()) if what != "profiles" else []
    if as_json:
        print(json.dumps(render.names_json(machines, entries), indent=2))
    else:
        render.names(Console(), machines, entries)


@app.command()
@takes(Problem, Options, MachineSettings, NumericsSettings, EngineSettings)
def run(kernel: KernelName, as_json: Json = False, *, given: dict[str, Any]) -> None:
    """Time a kernel on a machine and compute its result: time, bound, breakdown, error."""
    from npusim import study
    from npusim.cli import render

    problem, options, machines, numerics, engine = split(
        given, Problem, Options, MachineSettings, NumericsSettings, EngineSettings
    )
    entry = find_kernel(kernel)
    sizes = {"chunk", "batch", "seq_len", "heads", "cu_seqlens", "matrices"} & given.keys()
    if numerics.inputs:
        _refuse_sizes(sizes, numerics.inputs)
    machine = machines.machine()
    console = Console()
    if not as_json:
        render.settings(console, entry, problem, options, machines, machine, numerics)
    with _progress(enabled=not as_json) as tick:
        result = study.run(entry, problem, options, machine, numerics, engine, tick)
    if as_json:
        print(json.dumps(result.to_json(), indent=2, allow_nan=False))
    else:
        render.result(console, result)
        if numerics.output:
            console.print(f"T [matrices, C, C] of all matrices written to {numerics.output}")


def _refuse_sizes(sizes: set[str], path: str) -> None:
    """With --inputs the sizes follow from the file; only the chunk of a k, beta, g file is free."""
    for name in sorted(sizes - {"chunk"}):
        raise InputError(
            f"--{name.replace('_', '-')}: the sizes follow from --inputs {path}; drop this option"
        )


@app.command()
@takes(
    Problem,
    Options,
    MachineSettings,
    NumericsSettings,
    EngineSettings,
    without=frozenset({"algorithm", "output"}),
)
def compare(
    kernel: KernelName,
    algorithms: Annotated[str, typer.Option(help="Algorithms, the baseline first: mxr,masked-neumann.")] = "",
    profiles: Annotated[str, typer.Option(help="Profiles, the baseline first [default: --profile].")] = "",
    as_json: Json = False,
    *,
    given: dict[str, Any],
) -> None:
    """Time and compute several algorithms or profiles side by side; speed-ups against the first."""
    from npusim.cli import render
    from npusim.comparison import compare as compare_all

    problem, options, machines, numerics, engine = split(
        given, Problem, Options, MachineSettings, NumericsSettings, EngineSettings
    )
    entry = find_kernel(kernel)
    if numerics.inputs:
        _refuse_sizes({"batch", "seq_len", "heads", "cu_seqlens", "matrices"} & given.keys(), numerics.inputs)
    names = _names(algorithms) or list(entry.algorithms)
    for name in names:
        entry.algorithm(name)
    places = _names(profiles) or [machines.profile]
    with _progress(enabled=not as_json) as tick:
        rows = compare_all(entry, names, places, problem, options, machines, numerics, engine, tick)
    if as_json:
        print(
            json.dumps({"kernel": kernel, "rows": [row.to_json() for row in rows]}, indent=2, allow_nan=False)
        )
    else:
        render.comparison(Console(), entry, rows)
    if all(row.result is None for row in rows):
        raise NpusimError("nothing could be compared; see the reasons above")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


@app.command()
@takes(Problem, Options, MachineSettings)
def show(
    kernel: KernelName,
    costs: Annotated[bool, typer.Option("--costs/--no-costs", help="With cycles on the profile.")] = True,
    as_json: Json = False,
    *,
    given: dict[str, Any],
) -> None:
    """Print a kernel's tile graph as text: tensors, tiles, operations, and their costs on a profile."""
    from npusim.check import check
    from npusim.problem import Target
    from npusim.text import kernel_text

    problem, options, machines = split(given, Problem, Options, MachineSettings)
    machine = machines.machine()
    graph = check(find_kernel(kernel).build(problem, options, Target.of(machine)), Target.of(machine))
    try:
        text = kernel_text(graph, machine if costs else None)
    except Unsupported as error:
        raise Unsupported(f"{error} (or --no-costs)") from None
    print(json.dumps({"kernel": kernel, "text": text}) if as_json else text)


class _progress:
    """A line that counts operations while the engine runs; nothing where nobody looks."""

    def __init__(self, enabled: bool) -> None:
        console = Console(stderr=True)
        self.enabled = enabled and console.is_terminal and sys.stdout.isatty()
        self.bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )

    def __enter__(self) -> Any:
        if not self.enabled:
            return None
        self.bar.start()
        self.task = self.bar.add_task("simulating")
        return lambda count: self.bar.update(self.task, description=f"simulating: {count:,} operations")

    def __exit__(self, *_: object) -> None:
        if self.enabled:
            self.bar.stop()
