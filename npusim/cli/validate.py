"""The command validate: predictions held against measured rows."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from npusim.cli import measured
from npusim.cli import validation_tables as tables
from npusim.cli.app import LATER
from npusim.cli.kernels import REGISTRY
from npusim.cli.options import Json, plain, print_json
from npusim.cli.progress import Rows
from npusim.errors import InputError
from npusim.files import check_targets, replacing
from npusim.profiles import load_machine

if TYPE_CHECKING:
    from npusim.validation.validate import Validation

app = typer.Typer(rich_markup_mode="rich")


@app.callback()
def _group() -> None:
    """Keeps `validate` the name of a command."""


@app.command(help=LATER["validate"])
def validate(
    profile: Annotated[
        str | None,
        typer.Option(
            help=plain("Predict the rows of its device on it [default: all, each on its device's profile]."),
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    measurements: measured.Measurements = None,
    operators: measured.OperatorsFile = None,
    html: Annotated[
        str | None,
        typer.Option(help="Write a report that opens without a network.", metavar="FILE", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing report.", metavar="")] = False,
    jobs: measured.Jobs = None,
    as_json: Json = False,
) -> None:
    from npusim.validation.predictor import Predictor
    from npusim.validation.select import select_rows
    from npusim.validation.validate import validate as held

    _check(profile, measurements, operators, html, force)
    machine = None if profile is None else load_machine(profile)
    reading = measured.rows(measurements, operators)
    workers = measured.workers(jobs, len(reading.rows))
    console = Console(highlight=False, markup=False)
    if not as_json:
        tables.settings(console, reading, measurements or measured.SHIPPED, machine, html, workers)
    with Predictor(REGISTRY, workers) as predictor:
        with Rows(not as_json, "building kernels") as told:
            selection = select_rows(reading, predictor.kernels, [profile] if profile else (), told)
        with Rows(not as_json, "predicting rows") as told:
            found = held(selection, predictor, told)
    if not found.rows:
        first = f"; {found.refused[0].place}: {found.refused[0].reason}" if found.refused else ""
        raise InputError(f"validate: no row could be predicted{first}")
    if html is not None:
        _write(html, found, measurements or measured.SHIPPED)
    if as_json:
        asked = {"measurements": measurements, "operators": operators, "html": html}
        print_json(found.to_json(profile) | {"settings": {"profile": profile, **asked}})
    else:
        tables.show(console, found)
        if html is not None:
            console.print(f"written: {html}", soft_wrap=True)


def _check(
    profile: str | None, measurements: str | None, operators: str | None, html: str | None, force: bool
) -> None:
    """InputError for options that say nothing together, and for a report that may not be written."""
    measured.check(measurements, operators)
    if html is None:
        if force:
            raise InputError("--force: no report is written; give --html, or drop it")
        return
    read: dict[str, Any] = {
        "--profile": profile, "--measurements": measurements, "--operators": operators,
    }  # fmt: skip
    check_targets(read, {"--html": html})
    if Path(html).exists() and not force:
        raise InputError(f"--html: {html} exists; name another, or replace it with --force")


def _write(path: str, found: Validation, measurements: str) -> None:
    from npusim.validation.html import report

    text = report(found, measurements, datetime.date.today())
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")
