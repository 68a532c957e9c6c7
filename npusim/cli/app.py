"""The commands by name. Those that need the settings models are imported when they are asked for: the models
take longer to load than all that `npusim --help` does."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer

from npusim import __version__
from npusim.cli import profile
from npusim.cli.options import Group, Json, plain, print_json
from npusim.errors import InputError, did_you_mean

LATER = {
    "run": "Time a kernel on a machine and compute its result: time, bound, breakdown, error.",
    "compare": "Time and compute several algorithms or profiles side by side; speed-ups against the first.",
    "layer": "Time a decoder layer and a model, kernel by kernel: what an inverse costs, and another saves.",
    "validate": "Hold predictions against measured times: errors by row, kernel and device, and the ranking.",
    "calibrate": "Fit numbers of a profile to measured rows, and say what the rows determine and what not.",
    "sweep": "Time and compute a kernel over ranges of any of its settings; kept in a store, to go on from.",
    "results": "Show the rows of a sweep's store: filtered, sorted, grouped, written to CSV or Parquet.",
    "recommend": "Find the fastest inverse that is exact enough, by chunk and format, and the best chunk.",
    "sensitivity": "Rank a profile's numbers by their effect on a kernel's time: which to improve first.",
    "dashboard": "Explore kernels and machines in the browser: move a control, see time and error answer.",
    "show": "Print a kernel's tile graph as text: tensors, tiles, operations, and their costs on a profile.",
}
"""commands that are imported when they are asked for, and what they do"""


FILES = {
    "layer": "layer", "validate": "validate", "calibrate": "calibrate", "sweep": "sweep", "results": "sweep",
    "recommend": "recommend", "sensitivity": "sensitivity", "dashboard": "dashboard",
}  # fmt: skip
"""the files of those of them that are not in commands.py"""


class Commands(Group):
    """Gives those of LATER, of which it has the names and the help alone, their parameters and their code."""

    def whole(self, name: str | None, command: Any) -> Any:
        if name not in LATER:
            return command
        module = import_module(f"npusim.cli.{FILES.get(name, 'commands')}")
        return typer.main.get_group(module.app).commands[name]


app = typer.Typer(
    cls=Commands,
    help="How long a tile algorithm takes on an NPU, why, and how wrong its result is.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _version(value: bool) -> None:
    if value:
        print(f"npusim {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version.", metavar=""),
    ] = False,
) -> None:
    """How long a tile algorithm takes on an NPU, why, and how wrong its result is."""


@app.command("list")
def list_names(
    what: Annotated[
        str, typer.Argument(help=plain("profiles, kernels or models [default: all]."), metavar="[WHAT]")
    ] = "",
    as_json: Json = False,
) -> None:
    """List profiles, kernels with their algorithms, and models."""
    from rich.console import Console

    from algorithms import REGISTRY
    from algorithms.models import MODELS
    from npusim.cli import render
    from npusim.profiles import load_machine, profile_names

    if what and what not in ("profiles", "kernels", "models"):
        raise InputError(f"list: no {what!r}; {did_you_mean(what, ('profiles', 'kernels', 'models'))}")
    machines = [load_machine(name) for name in profile_names()] if what in ("", "profiles") else []
    entries = list(REGISTRY.values()) if what in ("", "kernels") else []
    models = [(name, model.meaning) for name, model in MODELS.items()] if what in ("", "models") else []
    if as_json:
        print_json(render.names_json(machines, entries, models))
    else:
        render.names(Console(highlight=False, markup=False), machines, entries, models)


def _later() -> None:
    """Stands for a command until it is asked for."""


for _name, _help in LATER.items():
    app.command(_name, help=_help)(_later)
app.add_typer(profile.app, name="profile")
