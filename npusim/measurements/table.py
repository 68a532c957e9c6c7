"""A CSV file as rows of text that know their line; whatever is malformed is one error that names it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from npusim.errors import SHOWN, InputError, did_you_mean

LIMIT_BYTES = 64 * 2**20
"""no file above this is read: a profile of a million launches stays below"""
ABSENT = frozenset({"", "n/a", "na", "N/A", "NA"})
"""cells in which a profiler says nothing"""


def key(name: str) -> str:
    """A column's name without case and spaces, by which it is matched."""
    return "".join(name.split()).casefold()


@dataclass(frozen=True)
class Row:
    """One row; columns are named by `key`."""

    table: Table
    line: int
    cells: tuple[str, ...]

    @property
    def place(self) -> str:
        """'file:line', the line as an editor counts it."""
        return f"{self.table.file}:{self.line}"

    def text(self, column: str) -> str | None:
        """The cell without spaces around it; None where it or its column is absent."""
        index = self.table.index(column)
        cell = "" if index is None else self.cells[index]
        return None if cell in ABSENT else cell

    def number(self, column: str) -> float | None:
        """A finite number that is not negative; None where absent. InputError for all else."""
        text = self.text(column)
        if text is None:
            return None
        value = _float(text)
        if not 0 <= value < math.inf:
            wrong = "must be >= 0" if value < 0 else "must be a finite number"
            raise self.wrong(column, f"{wrong}, got {text[:40]!r}; leave it empty where nothing was measured")
        return value

    def whole(self, column: str) -> int | None:
        """A number of things; None where absent or 0."""
        value = self.number(column)
        if value is not None and value != int(value):
            raise self.wrong(column, f"must be a whole number, got {value}")
        return int(value) if value else None

    def wrong(self, column: str, what: str) -> InputError:
        """The error that blames this row's cell in a column."""
        index = self.table.index(column)
        name = column if index is None else self.table.names[index]
        return InputError(f"{self.place}: {name}: {what}")


@dataclass(frozen=True)
class Table:
    """`names` as they stand in the header, on `line`, without spaces around them."""

    file: str
    line: int
    names: tuple[str, ...]
    source: str

    @cached_property
    def _indices(self) -> dict[str, list[int]]:
        indices: dict[str, list[int]] = {}
        for index, column in enumerate(self.columns):
            indices.setdefault(column, []).append(index)
        return indices

    def index(self, column: str) -> int | None:
        """Where a column stands, named by its `key`; None where there is none, InputError where two are."""
        found = self._indices.get(column, [])
        if len(found) > 1:
            first, second = (index + 1 for index in found[:2])
            where = f"{self.file}:{self.line}: column {self.names[first - 1]!r}"
            raise InputError(f"{where} is there twice ({first} and {second}); remove one")
        return found[0] if found else None

    @property
    def columns(self) -> tuple[str, ...]:
        """The keys of all columns, in order."""
        return tuple(key(name) for name in self.names)

    @property
    def rows(self) -> Iterator[Row]:
        """All rows below the header, read as they are asked for: a large file is not held twice."""
        records = _records(self.source, self.file)
        next(records)
        for line, cells in records:
            yield Row(self, line, _fitted(cells, self.names, f"{self.file}:{line}"))

    def missing(self, name: str) -> InputError:
        """The error for a header without the column `name`."""
        near = did_you_mean(name, self.names)
        if not near.startswith("did you mean"):
            more = ", .." if len(self.names) > SHOWN else ""
            near = f"it has {', '.join(self.names[:SHOWN])}{more}"
        return InputError(f"{self.file}:{self.line}: column {name!r} is missing from the header; {near}")


def _float(text: str) -> float:
    """The number in a text, nan for what is none; Python's own 1_000 is none."""
    try:
        return math.nan if "_" in text else float(text)
    except ValueError:
        return math.nan


def load(path: Path) -> Table:
    """The table in a CSV file: UTF-8, comma-separated, at most 64 MiB. InputError for all else."""
    return parse(_bytes(path), str(path))


def header(path: Path) -> tuple[str, ...]:
    """The keys of a CSV file's columns, as far as its first line tells; none where it is no CSV."""
    try:
        with path.open("rb") as stream:
            text = stream.readline(2**16).decode("utf-8-sig")
        return tuple(key(cell) for cell in next(csv.reader([text]), []))
    except (UnicodeDecodeError, csv.Error):
        return ()
    except OSError as error:
        raise _unreadable(path, error) from None


def parse(data: bytes, file: str) -> Table:
    """The table in the bytes of a file; `file` names it in messages."""
    text = _decoded(data, file)
    line, cells = next(_records(text, file), (0, ()))
    if not cells:
        raise InputError(f"{file}: is empty; a measurement file has a header and rows")
    names = _without_end(cells)
    if len(names) == 1 and (other := next((mark for mark in ";\t" if mark in names[0]), None)):
        raise InputError(f"{file}:{line}: columns are separated by {other!r}; separate them by commas")
    table = Table(file, line, names, text)
    if next(table.rows, None) is None:
        raise InputError(f"{file}: has a header and no row below it; write one row per measurement")
    return table


def _bytes(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: is no regular file; name a CSV file")
        size = path.stat().st_size
        if size > LIMIT_BYTES:
            limit = LIMIT_BYTES // 2**20
            raise InputError(f"{path}: holds {size / 2**20:,.0f} MiB, the limit is {limit}; split it")
        with path.open("rb") as stream:
            return stream.read(LIMIT_BYTES)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or str(error)
    return InputError(f"{path}: cannot be read: {reason}; check its permissions")


def _decoded(data: bytes, file: str) -> str:
    zero = data.find(b"\0")
    if zero >= 0:
        line = data.count(b"\n", 0, zero) + 1
        raise InputError(f"{file}:{line}: has a zero byte; it is no text, or UTF-16: save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{file}:{line}: is not UTF-8 text; save it as UTF-8") from None


def _records(text: str, file: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Each record that is not blank, and the line that it starts on."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    while True:
        try:
            cells = tuple(cell.strip() for cell in next(reader))
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(f"{file}:{line}: is no CSV row ({error}); check its quotes") from None
        if any(cells):
            yield line, cells
        line = reader.line_num + 1


def _without_end(cells: tuple[str, ...]) -> tuple[str, ...]:
    """The cells before the empty ones at the end: some profilers close a line with a comma."""
    count = len(cells)
    while count and not cells[count - 1]:
        count -= 1
    return cells[:count]


def _fitted(cells: tuple[str, ...], names: tuple[str, ...], place: str) -> tuple[str, ...]:
    if len(cells) < len(names) or any(cells[len(names) :]):
        what = f"has {len(cells)} cells, the header {len(names)}"
        raise InputError(f"{place}: {what}; quote cells that hold a comma, keep empty ones")
    return cells[: len(names)]
