"""`npusim profile`: check, show and compare machine profiles."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console

from npusim.cli.options import Group, Json
from npusim.errors import ProfileError

app = typer.Typer(cls=Group, help="Check, show and compare machine profiles.", no_args_is_help=True)

Name = Annotated[
    str, typer.Argument(help="Profile name, SoC name (Ascend910B2) or .yaml file.", metavar="NAME")
]


@app.command()
def check(
    names: Annotated[
        list[str], typer.Argument(help="Profile names, SoC names or .yaml files.", metavar="PATH...")
    ],
    as_json: Json = False,
) -> None:
    """Validate profiles: names, units, types, ranges, and a source for every number.

    All of them, one line each; the exit code is 2 if one failed.
    """
    from npusim import profiles
    from npusim.cli import machines

    rows: list[dict[str, Any]] = []
    failed = False
    for name in names:
        try:
            machine = profiles.check(name)
        except ProfileError as error:
            failed = True
            rows.append({"profile": name, "error": str(error)})
            typer.echo(f"npusim: {error}", err=True)
            continue
        counted = machines.counts(machine)
        rows.append({"profile": machine.name, "numbers": sum(counted.values()), "evidence": counted})
        if not as_json:
            counts = ", ".join(f"{count} {evidence}" for evidence, count in counted.items() if count)
            typer.echo(f"{machine.name}: ok, {sum(counted.values())} numbers ({counts})")
    if as_json:
        _print_json({"profiles": rows})
    if failed:
        raise typer.Exit(2)


@app.command()
def show(name: Name, as_json: Json = False) -> None:
    """Print every number of a profile with its evidence, source and note."""
    from npusim import profiles
    from npusim.cli import machines

    machine = profiles.load_machine(name)
    if as_json:
        _print_json(machines.as_json(machine))
        return
    machines.show(Console(), machine)


@app.command()
def diff(
    a: Annotated[str, typer.Argument(help="Profile name, SoC name or .yaml file.", metavar="A")],
    b: Annotated[str, typer.Argument(help="The profile to compare it with.", metavar="B")],
    as_json: Json = False,
) -> None:
    """Print the fields in which two profiles differ, in value or in evidence."""
    from npusim import profiles
    from npusim.cli import machines

    one, two = profiles.load_machine(a), profiles.load_machine(b)
    rows = profiles.diff(one, two)
    if as_json:
        _print_json({"a": one.name, "b": two.name, "rows": [asdict(row) for row in rows]})
        return
    if not rows:
        typer.echo(f"{one.name} and {two.name} do not differ")
        return
    machines.differences(Console(), one.name, two.name, rows)


@app.command()
def schema(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON (the schema always is).", metavar="")
    ] = False,
) -> None:
    """Print the JSON schema of a profile, for editors that complete YAML."""
    from npusim import profiles

    _print_json(profiles.schema())


def _print_json(data: Any) -> None:
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))
