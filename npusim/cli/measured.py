"""What the commands over measured rows share: their options, and reading the rows."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from npusim.cli.options import plain
from npusim.errors import InputError

if TYPE_CHECKING:
    from npusim.measurements.rows import Reading

SHIPPED = "the shipped rows (hw_profiles/measurements/ascend.csv)"

Measurements = Annotated[
    str | None,
    typer.Option(
        help=plain(
            "Measured rows: a CSV, op_summary or msopprof, a file or folder [default: the shipped rows]."
        ),
        metavar="PATH",
        show_default=False,
    ),
]
OperatorsFile = Annotated[
    str | None,
    typer.Option(
        help="Which kernel an operator of a profiler is (.yaml).", metavar="FILE", show_default=False
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(min=1, help=plain("Worker processes [default: one per processor]."), show_default=False),
]


def check(measurements: str | None, operators: str | None) -> None:
    """InputError for operators without a file whose operators they are, and for a path that is empty."""
    if measurements == "":
        raise InputError("--measurements: is empty; name a file or a folder")
    if operators is not None and measurements is None:
        raise InputError("--operators: the shipped rows name their kernels; give --measurements, or drop it")


def rows(measurements: str | None, operators: str | None) -> Reading:
    """The rows of a file or folder, or the shipped ones."""
    from npusim.measurements.read import read, read_shipped

    return read_shipped() if measurements is None else read(measurements, operators)


def workers(jobs: int | None, most: int | None = None) -> int:
    """As many as asked for, or as there are cores, but no more than `most`, and one at least."""
    wanted = jobs or os.cpu_count() or 1
    return wanted if most is None else max(1, min(wanted, most))
