"""Reading measurements: a file of our own columns, or what Ascend's profilers write, a file or a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from npusim.errors import InputError, did_you_mean
from npusim.measurements.operators import Operators, load_operators
from npusim.measurements.profiler import BASIC, PIPES, is_op_summary, read_msopprof, read_op_summary
from npusim.measurements.rows import COLUMNS, Measurement, Reading
from npusim.measurements.table import Table, header, load, parse
from npusim.profiles import PACKAGE

OWN = ("kernel", "time_us")
"""the columns by which a file of our own is known"""


def read(path: str | os.PathLike[str], operators: str | os.PathLike[str] | None = None) -> Reading:
    """The measurements in a file, or in all files below a folder, whatever wrote them.

    `operators` names a file that says which kernel a profiler's operator is, in place of the shipped one.
    InputError, one line that names file, line, column and remedy, for what cannot be read.
    """
    known = load_operators(operators)
    start = Path(os.path.expanduser(path))
    if not os.path.isdir(start):
        return _file(start, known)
    readings = [_file(file, known) for file in _files(start)]
    if not readings:
        wanted = "a CSV with kernel and time_us, op_summary_*.csv or OpBasicInfo.csv"
        raise InputError(f"{start}: holds no measurement; name a folder with {wanted} in it")
    rows = [row for reading in readings for row in reading.rows]
    unmapped = [operator for reading in readings for operator in reading.unmapped]
    return Reading(rows, unmapped, dict(known.devices))


def read_shipped() -> Reading:
    """The public measurements that are part of the package."""
    file = resources.files(PACKAGE) / "measurements" / "ascend.csv"
    return _own(parse(file.read_bytes(), file.name), load_operators())


def _file(path: Path, known: Operators) -> Reading:
    if _is(path, BASIC):
        return read_msopprof(path, known)
    table = load(path)
    if any(name in table.columns for name in OWN):
        return _own(table, known)
    if is_op_summary(table.columns):
        return read_op_summary(table, known)
    if _is(path, PIPES):
        raise InputError(f"{path}: has no time of the operator; name its folder, with {BASIC}.csv in it")
    raise table.missing("Task Duration(us)" if "opname" in table.columns else "kernel")


def _own(table: Table, known: Operators) -> Reading:
    for name, column in zip(table.names, table.columns, strict=True):
        if column not in COLUMNS:
            where = f"{table.file}:{table.line}: column {name!r}"
            raise InputError(f"{where} is none of a measurement; {did_you_mean(column, COLUMNS)}")
    for name in OWN:
        if table.index(name) is None:
            raise table.missing(name)
    rows = []
    for row in table.rows:
        cells = {column: text for column in table.columns if (text := row.text(column)) is not None}
        rows.append(Measurement.at(row.place, **cells))
    return Reading(rows, devices=dict(known.devices))


def _files(start: Path) -> Iterator[Path]:
    """Every file of measurements below a folder, in order of their names."""
    for folder, folders, names in os.walk(start, onerror=_unreadable):
        folders.sort()
        paths = [Path(folder, name) for name in sorted(names) if name.casefold().endswith(".csv")]
        if any(_is(path, PIPES) for path in paths) and not any(_is(path, BASIC) for path in paths):
            raise InputError(f"{folder}: has {PIPES}.csv without {BASIC}.csv; copy the whole folder")
        yield from (path for path in paths if _is_measurement(path))


def _is_measurement(path: Path) -> bool:
    """By the name that a profiler gives it, or by its header: profilers write tables of other things, too."""
    if _is(path, BASIC) or _is(path, "op_summary"):
        return True
    columns = header(path)
    return not _is(path, PIPES) and (all(name in columns for name in OWN) or is_op_summary(columns))


def _is(path: Path, stem: str) -> bool:
    return path.name.startswith(stem) and path.name.casefold().endswith(".csv")


def _unreadable(error: OSError) -> None:
    raise InputError(f"{error.filename}: cannot be read: {error.strerror}; check its permissions") from None
