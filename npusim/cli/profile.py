"""`npusim profile`: check, show and compare machine profiles."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from npusim import profiles
from npusim.errors import ProfileError
from npusim.machine import Evidence, Machine, Quantity, quantities

app = typer.Typer(help="Check, show and compare machine profiles.", no_args_is_help=True)

COLOURS = {"documented": "green", "measured": "cyan", "fitted": "yellow", "assumed": "red"}

Name = Annotated[
    str, typer.Argument(help="Profile name, SoC name (Ascend910B2) or .yaml file.", metavar="NAME")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.", metavar="")]


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
        counted = _counts(machine)
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
    machine = profiles.load_machine(name)
    if as_json:
        _print_json(_as_json(machine))
        return
    console = Console()
    _print_header(console, machine)
    wide = console.width >= ROOMY
    table = _table("field", "value", "evidence", *(["source", "note"] if wide else []))
    for section, numbers in _sections(machine):
        table.add_section()
        table.add_row(Text(section, style="bold"))
        for path, number in numbers:
            field = "  " + path.removeprefix(section + ".")
            cells: list[str | Text] = [field, _format(number.value), _evidence(number.evidence)]
            if wide:
                table.add_row(*cells, number.source, Text(number.note or "", style="dim"))
            else:
                table.add_row(*cells)
                below = Text(number.source + (f": {number.note}" if number.note else ""), style="dim")
                table.add_row(Padding(below, (0, 0, 0, 4)))
    console.print(table)
    for key, citation in machine.sources.items():
        console.print(Text.assemble((key, "bold"), f": {citation}"))


@app.command()
def diff(
    a: Annotated[str, typer.Argument(help="Profile name, SoC name or .yaml file.", metavar="A")],
    b: Annotated[str, typer.Argument(help="The profile to compare it with.", metavar="B")],
    as_json: Json = False,
) -> None:
    """Print the fields in which two profiles differ, in value or in evidence."""
    one, two = profiles.load_machine(a), profiles.load_machine(b)
    rows = profiles.diff(one, two)
    if as_json:
        _print_json({"a": one.name, "b": two.name, "rows": [asdict(row) for row in rows]})
        return
    if not rows:
        typer.echo(f"{one.name} and {two.name} do not differ")
        return
    console = Console()
    made = _beside(one.name, two.name, rows)
    if console.measure(made, options=console.options.update(width=10_000)).maximum > console.width:
        made = _below(one.name, two.name, rows)
    console.print(made)


def _beside(a: str, b: str, rows: list[profiles.Difference]) -> Table:
    """A row per field, both machines side by side."""
    table = _table("field", a, b, "evidence", "evidence")
    for row in rows:
        evidence = (_evidence(row.evidence_a), _evidence(row.evidence_b))
        table.add_row(row.path, _format(row.a), _format(row.b), *evidence)
    return table


def _below(a: str, b: str, rows: list[profiles.Difference]) -> Table:
    """A row per field and machine, for narrow windows: no number is ever cut."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("field", overflow="fold")
    table.add_column("value", overflow="fold", min_width=22)
    table.add_column("evidence", no_wrap=True)
    for row in rows:
        table.add_row(Text(row.path, style="bold"))
        table.add_row(f"  {a}", _format(row.a), _evidence(row.evidence_a))
        table.add_row(f"  {b}", _format(row.b), _evidence(row.evidence_b))
    return table


@app.command()
def schema(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON (the schema always is).", metavar="")
    ] = False,
) -> None:
    """Print the JSON schema of a profile, for editors that complete YAML."""
    _print_json(profiles.schema())


def _print_json(data: Any) -> None:
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


def _as_json(machine: Machine) -> dict[str, Any]:
    numbers = [
        {"path": path} | number.model_dump(mode="json") for path, number in quantities(machine).items()
    ]
    identity = machine.model_dump(include={"name", "description", "family", "soc", "extends", "sources"})
    return identity | {"evidence": _counts(machine), "numbers": numbers}


def _counts(machine: Machine) -> dict[str, int]:
    """How many numbers have which evidence, from best to worst."""
    counted = Counter(number.evidence for number in quantities(machine).values())
    return {str(evidence): counted[evidence] for evidence in Evidence}


def _print_header(console: Console, machine: Machine) -> None:
    console.print(Text.assemble((machine.name, "bold"), f": {machine.description}"))
    facts = [f"family {machine.family}"]
    facts += [f"SoC {', '.join(machine.soc)}"] if machine.soc else []
    facts += [f"extends {machine.extends}"] if machine.extends else []
    console.print("; ".join(facts), highlight=False)
    counts = _counts(machine)
    parts = [(f"{count} {evidence}  ", COLOURS[evidence]) for evidence, count in counts.items() if count]
    console.print(Text.assemble(f"{sum(counts.values())} numbers: ", *parts))


def _sections(machine: Machine) -> Iterator[tuple[str, list[tuple[str, Quantity[Any]]]]]:
    """The numbers by the part of the machine they belong to: core.cube, paths.gm_l1, memory."""
    sections: dict[str, list[tuple[str, Quantity[Any]]]] = {}
    for path, number in quantities(machine).items():
        steps = path.split(".")
        depth = 2 if steps[0] in ("core", "paths") and len(steps) > 2 else 1
        section = ".".join(steps[:depth]) if len(steps) > 1 else "chip"
        sections.setdefault(section, []).append((path, number))
    return iter(sections.items())


ROOMY = 120
"""columns from which on sources and notes stand beside their numbers instead of below"""


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(
            column, overflow="fold", no_wrap=column == "evidence", min_width=46 if column == "field" else None
        )
    return table


def _evidence(evidence: str | None) -> Text:
    return Text(evidence or "", style=COLOURS.get(evidence or "", ""))


def _format(value: object) -> str:
    if value is None:
        return "-"
    return (
        f"{value:,}"
        if isinstance(value, int)
        else f"{value:.15g}"
        if isinstance(value, float)
        else str(value)
    )
