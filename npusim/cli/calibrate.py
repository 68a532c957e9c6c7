"""The command calibrate: numbers of profiles fitted to measured rows, and what the fit is worth."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from npusim.cli import calibration_tables as tables
from npusim.cli import measured
from npusim.cli.app import LATER
from npusim.cli.fields import name_list
from npusim.cli.kernels import REGISTRY
from npusim.cli.options import Json, plain, print_json
from npusim.cli.progress import Rows
from npusim.errors import InputError
from npusim.files import check_targets
from npusim.profiles import load_machine

if TYPE_CHECKING:
    from npusim.calibration.calibrator import Calibrator
    from npusim.machine import Machine
    from npusim.registry import Registry
    from npusim.validation.select import Refused

app = typer.Typer(rich_markup_mode="rich")


@app.callback()
def _group() -> None:
    """Keeps `calibrate` the name of a command."""


@app.command(help=LATER["calibrate"])
def calibrate(
    profile: Annotated[
        str, typer.Option(help="Profile to fit, or several a,b,.. together.", metavar="NAMES")
    ],
    measurements: measured.Measurements = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            show_default=False,
            help="The new profile, .yaml; of several profiles a folder. Without it nothing is written.",
        ),
    ] = None,
    fields: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            show_default=False,
            help=plain("Numbers to fit: groups, paths or patterns a,b,.. [default: all groups]."),
        ),
    ] = None,
    hold_out: Annotated[
        str, typer.Option(help=plain("Predict without: kernel, device, source, or none."), metavar="NAMES")
    ] = "kernel",
    suggest: Annotated[
        bool, typer.Option("--suggest", help="Say which measurement would tell most.", metavar="")
    ] = False,
    operators: measured.OperatorsFile = None,
    force: Annotated[bool, typer.Option("--force", help="Replace existing profiles.", metavar="")] = False,
    jobs: measured.Jobs = None,
    evaluations: Annotated[
        int, typer.Option(min=1, help="How often each of the two fits predicts all rows at most.")
    ] = 4,
    as_json: Json = False,
) -> None:
    from npusim.calibration import held_out as left
    from npusim.calibration.calibrator import Calibrator
    from npusim.calibration.outcome import SHIPPED, citation, texts
    from npusim.calibration.parameters import select
    from npusim.calibration.record import to_json
    from npusim.calibration.rows import fitting_rows
    from npusim.refit import write_profile
    from npusim.validation.predictor import Predictor

    names = name_list("--profile", profile)
    machines = _machines(names)
    kinds = _kinds(hold_out)
    measured.check(measurements, operators)
    files = {"--measurements": measurements, "--operators": operators}
    targets = _targets(names, machines, output, force, files)
    parameters = select(machines, name_list("--fields", fields) if fields is not None else ())
    reading = measured.rows(measurements, operators)
    console = Console(highlight=False, markup=False)
    if not as_json:
        tables.settings(console, machines, measurements or measured.SHIPPED, output, len(parameters))
    workers = measured.workers(jobs, len(reading.rows))
    with Predictor(REGISTRY, workers) as predictor, Rows(not as_json) as told:
        cases, refused = fitting_rows(reading, names, predictor.kernels)
        if not cases:
            raise InputError(f"calibrate: no row that {profile} can be fitted to{_first(refused)}")
        fitted = Calibrator(parameters, evaluations=evaluations).fit(cases, predictor, told)
        where = Path(measurements).resolve().name if measurements else SHIPPED
        written = texts(fitted, targets, citation(where, cases), datetime.date.today())
        for target, text in written.items():
            write_profile(target, text, force)
        groups = {kind: left.held_out(fitted, kind) for kind in kinds}
        ideas = _ideas(fitted, names, predictor.kernels) if suggest else []
    if as_json:
        print_json(to_json(fitted, refused, groups, ideas, [str(target) for target in written]))
    else:
        tables.show(console, fitted, refused, groups, ideas)
        tables.written(console, written, targets)


def _kinds(hold_out: str) -> list[str]:
    from npusim.calibration.held_out import GROUPS
    from npusim.errors import did_you_mean

    kinds = name_list("--hold-out", hold_out)
    for kind in kinds:
        if kind not in GROUPS and kind != "none":
            raise InputError(f"--hold-out: no {kind!r}; {did_you_mean(kind, [*GROUPS, 'none'])}")
    return [kind for kind in kinds if kind != "none"]


def _machines(names: Sequence[str]) -> list[Machine]:
    """The machine of each profile. InputError where two names mean one."""
    machines = [load_machine(name) for name in names]
    for number, machine in enumerate(machines):
        if machine.name in {other.name for other in machines[:number]}:
            raise InputError(f"--profile: {names[number]} is {machine.name}, which is named twice; keep one")
    return machines


def _targets(
    names: Sequence[str],
    machines: Sequence[Machine],
    output: str | None,
    force: bool,
    read: dict[str, str | None],
) -> dict[str, Path]:
    """The file for each profile, by the name it was given by. InputError for one that may not be written, or
    that is one of the files that are `read`."""
    from npusim.refit import check_output

    if output is None:
        if force:
            raise InputError("--force: nothing is written; give -o, or drop it")
        return {}
    if len(names) == 1:
        targets = {names[0]: Path(output)}
    else:
        folder = Path(output)
        if not folder.is_dir():
            raise InputError(
                f"--output: {output} is no folder, and {len(names)} profiles need one; create it"
            )
        own = zip(names, machines, strict=True)
        targets = {name: folder / f"{machine.name}.yaml" for name, machine in own}
    for target in targets.values():
        check_output(target, force)
        check_targets(read, {"--output": str(target)})
    return targets


def _first(refused: Sequence[Refused]) -> str:
    return f"; {refused[0].place}: {refused[0].reason}" if refused else ""


def _ideas(fitted: Calibrator, names: Sequence[str], registry: Registry) -> list[Any]:
    from npusim.calibration.candidates import candidates
    from npusim.calibration.suggest import suggest

    return suggest(fitted, candidates(names, registry))
