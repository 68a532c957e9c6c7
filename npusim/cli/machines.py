"""What people see of machines: their numbers with evidence and source, and where two differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from npusim.machine import Evidence, Machine, Quantity, quantities
from npusim.profiles import Difference
from npusim.validation.expected import measured_rows

COLOURS = {"documented": "green", "measured": "cyan", "fitted": "yellow", "assumed": "red"}
ROOMY = 120
"""columns from which on sources and notes stand beside their numbers instead of below"""


def show(console: Console, machine: Machine) -> None:
    """Every number of a machine."""
    _header(console, machine)
    wide = console.width >= ROOMY
    table = _table("field", "value", "evidence", *(["source", "note"] if wide else []))
    for section, numbers in _sections(machine):
        table.add_section()
        table.add_row(Text(section, style="bold"))
        for path, number in numbers:
            field = "  " + path.removeprefix(section + ".")
            cells: list[str | Text] = [field, _format(number.value), _evidence(number.evidence)]
            remarks = "; ".join(_remarks(number))
            if wide:
                table.add_row(*cells, number.source, Text(remarks, style="dim"))
            else:
                table.add_row(*cells)
                below = Text(number.source + (f": {remarks}" if remarks else ""), style="dim")
                table.add_row(Padding(below, (0, 0, 0, 4)))
    console.print(table)
    for key, citation in machine.sources.items():
        console.print(Text.assemble((key, "bold"), f": {citation}"))


def _remarks(number: Quantity[Any]) -> Iterator[str]:
    """The note of a number, and of a fitted one what the documents say of it and how it was fitted."""
    if number.documented is not None:
        by = f" by {number.documented_by}" if number.documented_by else ""
        yield f"documented {_format(number.documented)}{by}"
    if number.fitted is not None:
        error = number.fitted.standard_error
        within = "" if error is None else f", standard error {error:.3g}"
        yield f"fitted on {number.fitted.date} to rows {number.fitted.rows}{within}"
    if number.note:
        yield number.note


def differences(console: Console, a: str, b: str, rows: list[Difference]) -> None:
    """The fields in which machines called `a` and `b` differ."""
    made = _beside(a, b, rows)
    if console.measure(made, options=console.options.update(width=10_000)).maximum > console.width:
        made = _below(a, b, rows)
    console.print(made)


def _beside(a: str, b: str, rows: list[Difference]) -> Table:
    """A row per field, both machines side by side."""
    table = _table("field", a, b, "evidence", "evidence")
    for row in rows:
        evidence = (_evidence(row.evidence_a), _evidence(row.evidence_b))
        table.add_row(row.path, *_values(row), *evidence)
    return table


def _below(a: str, b: str, rows: list[Difference]) -> Table:
    """A row per field and machine, for narrow windows: no number is ever cut."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("field", overflow="fold")
    table.add_column("value", overflow="fold", min_width=22)
    table.add_column("evidence", no_wrap=True)
    for row in rows:
        table.add_row(Text(row.path, style="bold"))
        value_a, value_b = _values(row)
        table.add_row(f"  {a}", value_a, _evidence(row.evidence_a))
        table.add_row(f"  {b}", value_b, _evidence(row.evidence_b))
    return table


def _values(row: Difference) -> tuple[str, str]:
    """Both values, each with the documented one that it was fitted away from."""
    return _fitted(row.a, row.documented_a), _fitted(row.b, row.documented_b)


def _fitted(value: object, documented: object) -> str:
    return _format(value) + ("" if documented is None else f" (documented {_format(documented)})")


def as_json(machine: Machine) -> dict[str, Any]:
    """The JSON of `npusim profile show`."""
    numbers = [
        {"path": path} | number.model_dump(mode="json") for path, number in quantities(machine).items()
    ]
    identity = machine.model_dump(include={"name", "description", "family", "soc", "extends", "sources"})
    backing = measured_rows(machine.name)
    return identity | {"evidence": counts(machine), "measured_rows": backing, "numbers": numbers}


def counts(machine: Machine) -> dict[str, int]:
    """How many numbers have which evidence, from best to worst."""
    counted = Counter(number.evidence for number in quantities(machine).values())
    return {str(evidence): counted[evidence] for evidence in Evidence}


def _header(console: Console, machine: Machine) -> None:
    console.print(Text.assemble((machine.name, "bold"), f": {machine.description}"))
    facts = [f"family {machine.family}"]
    facts += [f"SoC {', '.join(machine.soc)}"] if machine.soc else []
    facts += [f"extends {machine.extends}"] if machine.extends else []
    console.print("; ".join(facts), highlight=False)
    found = counts(machine)
    parts = [(f"{count} {evidence}  ", COLOURS[evidence]) for evidence, count in found.items() if count]
    console.print(Text.assemble(f"{sum(found.values())} numbers: ", *parts))
    fitted = [one.fitted for one in quantities(machine).values() if one.evidence == Evidence.fitted]
    if None in fitted and any(fitted):
        console.print(f"{fitted.count(None)} of the fitted ones by hand, the others by npusim calibrate")
    backing = ", ".join(f"{kernel} {rows}" for kernel, rows in measured_rows(machine.name).items())
    console.print(f"measured rows behind it: {backing or 'none'}", highlight=False)


def _sections(machine: Machine) -> Iterator[tuple[str, list[tuple[str, Quantity[Any]]]]]:
    """The numbers by the part of the machine they belong to: core.cube, paths.gm_l1, memory."""
    sections: dict[str, list[tuple[str, Quantity[Any]]]] = {}
    for path, number in quantities(machine).items():
        steps = path.split(".")
        depth = 2 if steps[0] in ("core", "paths") and len(steps) > 2 else 1
        section = ".".join(steps[:depth]) if len(steps) > 1 else "chip"
        sections.setdefault(section, []).append((path, number))
    return iter(sections.items())


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
        else f"{value:,.15g}"
        if isinstance(value, float)
        else str(value)
    )
