"""Measured rows as a visitor has them: the shipped ones, or those of uploaded files and an operators file.

Nothing here runs what it reads: tables and YAML are data, and their readers are those of the command line.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dashboard.service.machines import place
from dashboard.service.uploads import ARCHIVES, GONE, OPERATORS, TABLES, Room, folder_of, unpacked
from npusim.errors import InputError, NpusimError, ProfileError
from npusim.measurements.operators import load_operators
from npusim.measurements.profiler import BASIC, PIPES
from npusim.measurements.read import OWN, read, read_shipped
from npusim.measurements.rows import Reading
from npusim.measurements.table import header
from npusim.profiles import read_yaml
from npusim.yaml_files import dump

SHIPPED = "the shipped rows"
MOST_ROWS = 5000
"""of a table of our own columns"""
MOST_BYTES = 256 * 2**10
"""of an operators file: a longer one takes minutes to read"""
OWN_OPERATORS = "operators.yaml"
"""the operators file that the page writes where none was uploaded"""


@dataclass(frozen=True)
class File:
    """An uploaded file and its size."""

    name: str
    bytes: int


def files(folder: Path) -> tuple[File, ...]:
    """The files of a visitor; none where nothing was uploaded."""
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return tuple(File(file.name, file.stat().st_size) for file in found)


def digest(folder: Path) -> str:
    """Names the content of a visitor's files."""
    found = hashlib.sha256()
    for one in files(folder):
        found.update(f"{one.name}\0{one.bytes}\0".encode())
        found.update((folder / one.name).read_bytes())
    return found.hexdigest()


def reading_of(root: Path, key: str) -> Reading:
    """The rows of a visitor's files; of '' the shipped ones. InputError as the command line says it."""
    return read_files(folder_of(root, key)) if key else read_shipped()


def read_files(folder: Path) -> Reading:
    """All rows in the files of a folder, named as their visitor knows them."""
    names = [one.name for one in files(folder)]
    tables = [name for name in names if name.casefold().endswith(TABLES)]
    archives = [name for name in names if name.casefold().endswith(ARCHIVES)]
    if not tables and not archives:
        raise InputError("upload: no measurement; send a .csv, or a .zip of what a profiler wrote")
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch, _plain(folder, Path(scratch)):
        operators = operators_file(folder)
        if operators and operators.stat().st_size > MOST_BYTES:
            raise InputError(f"{operators}: has more than {MOST_BYTES // 2**10} KiB; keep what is needed")
        known = load_operators(operators)
        for name, stands in known.devices.items():
            _device(stands.profile, f"{operators}: devices: {name}: profile")
        for name in tables:
            _few(folder / name)
        found = [read(folder / name, operators) for name in tables if not _is_pipes_of(name, tables)]
        room = Room()
        for name in archives:
            (Path(scratch) / name).mkdir()
            room = unpacked(folder / name, Path(scratch) / name, room)
            for file in (Path(scratch) / name).rglob("*.csv"):
                _few(file)
            found.append(read(Path(scratch) / name, operators))
        for row in (row for one in found for row in one.rows):
            _device(row.device, f"{row.place}: device")
    starts = (f"{folder}/", f"{scratch}/")
    rows = [row.model_copy(update={"place": _short(row.place, starts)}) for one in found for row in one.rows]
    others = [replace(one, place=_short(one.place, starts)) for reading in found for one in reading.unmapped]
    return Reading(rows, others, dict(known.devices))


def _few(file: Path) -> None:
    """InputError for a table of our own columns with more rows than anyone waits for: each is predicted."""
    if all(name in header(file) for name in OWN):
        count = file.read_bytes().count(b"\n")
        if count > MOST_ROWS:
            raise InputError(
                f"{file}: has {count:,} lines, the limit is {MOST_ROWS:,}; split it, or use npusim validate"
            )


def _device(name: str, where: str) -> None:
    """InputError, with the place, for a device that would open a file other than a profile of the folder
    where the dashboard runs. A name that nobody knows may be: its rows are told apart later."""
    try:
        if name:
            place(name, Path())
    except InputError as error:
        raise InputError(f"{where}: {str(error).removeprefix('--profile: ')}") from None
    except ProfileError:
        return


@contextmanager
def _plain(*folders: Path) -> Iterator[None]:
    """Errors name files without the folders in which the server keeps them; these may go meanwhile."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(GONE) from None
    except NpusimError as error:
        raise InputError(_short(str(error), [f"{folder}/" for folder in folders])) from None


def _short(text: str, starts: Any) -> str:
    for start in starts:
        text = text.replace(start, "")
    return text


def _is_pipes_of(name: str, tables: list[str]) -> bool:
    """Whether a table belongs to another one, which reads it itself."""
    return name.startswith(PIPES) and name.replace(PIPES, BASIC) in tables


# --- which kernel an operator is -------------------------------------------------------------------


def operators_file(folder: Path) -> Path | None:
    """The operators file among a visitor's files."""
    found = [one.name for one in files(folder) if one.name.casefold().endswith(OPERATORS)]
    return folder / found[0] if found else None


def operators_text(folder: Path) -> str:
    """What stands in it; '' where there is none."""
    file = operators_file(folder)
    return "" if file is None else file.read_text(encoding="utf-8-sig", errors="replace")


def with_operators(folder: Path, text: str) -> tuple[Path, Reading]:
    """A folder beside `folder` with the same files and an operators file of this text, or none where it says
    nothing; and its rows. InputError where it is no operators file, or rows cannot be read with it."""
    if not folder.is_dir():
        raise InputError(GONE)
    try:
        fresh = Path(tempfile.mkdtemp(dir=folder.parent, prefix="new-"))
    except FileNotFoundError:
        raise InputError(GONE) from None
    try:
        for one in files(folder):
            if not one.name.casefold().endswith(OPERATORS):
                shutil.copy(folder / one.name, fresh / one.name)
        if text.strip():
            old = operators_file(folder)
            (fresh / (old.name if old else OWN_OPERATORS)).write_text(text, encoding="utf-8")
        return fresh, read_files(fresh)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def with_entry(folder: Path, entry: dict[str, Any]) -> str:
    """The text of the operators file with an entry more, which comes before the others."""
    file = operators_file(folder)
    data: Any = {"extends": "shipped"} if file is None else read_yaml(file)
    if not isinstance(data, dict) or not isinstance(data.get("operators", []), list):
        raise InputError(f"{file.name if file else OWN_OPERATORS}: is no operators file; forget it first")
    rest = {name: value for name, value in data.items() if name not in ("extends", "operators")}
    extends = {"extends": data["extends"]} if data.get("extends") else {}
    return dump({**extends, "operators": [entry, *data.get("operators", [])], **rest})
