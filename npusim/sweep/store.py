"""The store of a sweep: an SQLite file with a row per point, which several processes may share.

What is in it stays: a point is written once, in one transaction with others, with a write-ahead log; a killed
sweep leaves what it had finished.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from npusim.errors import InputError

APPLICATION = 0x6E707573
"""'npus': marks the file as a store"""
VERSION = 2
WAIT_S = 60.0
"""how long to wait for another process that writes"""
SCHEMA = """
CREATE TABLE point (
    key TEXT PRIMARY KEY,
    kernel TEXT NOT NULL,
    status TEXT NOT NULL,
    settings TEXT NOT NULL,
    built TEXT NOT NULL,
    result TEXT NOT NULL,
    reason TEXT NOT NULL,
    code TEXT NOT NULL,
    machine TEXT NOT NULL,
    files TEXT NOT NULL DEFAULT '{}'
) WITHOUT ROWID;
"""
SINCE_2 = "ALTER TABLE point ADD COLUMN files TEXT NOT NULL DEFAULT '{}'"
AT_ONCE = 500
"""keys that are asked for in one query"""


@dataclass(frozen=True)
class Row:
    """A point and what became of it; see `npusim.sweep.evaluate.Outcome`. `code`, `machine`: digests of what
    it was computed with; `files`: those of files by path, a user's own kernels and inputs."""

    key: str
    kernel: str
    status: str
    settings: Mapping[str, Any]
    built: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    code: str = ""
    machine: str = ""
    files: Mapping[str, str] = field(default_factory=dict)


class Store:
    """An open store; a context. InputError, naming the file, for one that cannot be used.

    `write` False: an existing file is read, and nothing is created beside it.
    """

    def __init__(self, path: str, write: bool = True) -> None:
        self.path = path
        if write:
            self._check_place()
        elif not Path(path).is_file():
            raise InputError(f"{path}: no such store; npusim sweep makes one")
        with self._speaking():
            self._open(write)

    def _check_place(self) -> None:
        place = Path(self.path)
        if place.is_dir():
            raise InputError(f"{self.path}: is a folder; name a file in it")
        if not place.resolve().parent.is_dir():
            raise InputError(f"{self.path}: folder {place.parent} does not exist: create it, or name another")

    def _open(self, write: bool) -> None:
        if write:
            self.connection = sqlite3.connect(self.path, timeout=WAIT_S, isolation_level=None)
        else:
            self.connection = self._reading()
        try:
            fresh = self._check(write)
            if write:
                self.connection.execute("PRAGMA journal_mode = WAL")
                self.connection.execute("PRAGMA synchronous = NORMAL")
                if fresh:
                    self._create()
                else:
                    self._renew()
                # fails now where the file may not be written
                self.connection.execute("BEGIN IMMEDIATE")
                self.connection.execute("ROLLBACK")
        except BaseException:
            self.connection.close()
            raise

    def _reading(self) -> sqlite3.Connection:
        """A connection that only reads; where its folder cannot be written, as a file that nobody changes."""
        uri = Path(self.path).resolve().as_uri()
        for mode in ("mode=ro", "mode=ro&immutable=1"):
            made = sqlite3.connect(f"{uri}?{mode}", timeout=WAIT_S, isolation_level=None, uri=True)
            try:
                made.execute("SELECT count(*) FROM sqlite_master").fetchone()
            except sqlite3.OperationalError:
                made.close()
                if mode != "mode=ro":
                    raise
            else:
                return made
        raise AssertionError

    def _check(self, write: bool) -> bool:
        """Whether the file is new. InputError where it is something else, or newer than this."""
        ask = self.connection.execute
        version, application = (ask(f"PRAGMA {n}").fetchone()[0] for n in ("user_version", "application_id"))
        tables = ask("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if write and not (version or application or tables):
            return True
        if application != APPLICATION:
            raise InputError(f"{self.path}: is no store of a sweep; name another file")
        if version > VERSION:
            raise InputError(
                f"{self.path}: was made by a newer npusim (store version {version}, this one knows "
                f"{VERSION}); update npusim, or name another store"
            )
        found = ask("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(f"{found}")
        return False

    def _create(self) -> None:
        """Another process may be doing the same."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            if self._check(write=True):
                self.connection.execute(SCHEMA)
                self.connection.execute(f"PRAGMA application_id = {APPLICATION}")
                self.connection.execute(f"PRAGMA user_version = {VERSION}")
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    def _renew(self) -> None:
        """What an older npusim made becomes a store of this one; another process may be doing the same."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            if self._version() < VERSION:
                self.connection.execute(SINCE_2)
                self.connection.execute(f"PRAGMA user_version = {VERSION}")
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    def _version(self) -> int:
        return int(self.connection.execute("PRAGMA user_version").fetchone()[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()

    def known(self, keys: Iterable[str]) -> set[str]:
        """Those of the keys whose points are done or skipped; what failed is to be tried again."""
        wanted, found = list(keys), set[str]()
        with self._speaking():
            for start in range(0, len(wanted), AT_ONCE):
                some = wanted[start : start + AT_ONCE]
                marks = ",".join("?" * len(some))
                query = f"SELECT key FROM point WHERE status != 'failed' AND key IN ({marks})"
                found |= {key for (key,) in self.connection.execute(query, some)}
        return found

    def add(self, rows: Iterable[Row]) -> None:
        """Write rows, all or none. What another process has done meanwhile stays as it is."""
        values = [
            (
                row.key,
                row.kernel,
                row.status,
                *map(_text, (row.settings, row.built, row.result)),
                row.reason,
                row.code,
                row.machine,
                _text(row.files),
            )
            for row in rows
        ]
        if not values:
            return
        with self._speaking():
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                self.connection.executemany(
                    "INSERT INTO point VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET "
                    "status = excluded.status, built = excluded.built, result = excluded.result, "
                    "reason = excluded.reason WHERE point.status = 'failed'",
                    values,
                )
                self.connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self.connection.execute("ROLLBACK")
                raise

    def place(self, files: Mapping[str, Mapping[str, str]]) -> None:
        """Say where the files of rows are now, by key: what they hold is part of the key, where they lie is
        not."""
        with self._speaking():
            for key, own in files.items():
                text = _text(own)
                ask = "SELECT 1 FROM point WHERE key = ? AND files != ?"
                if self.connection.execute(ask, (key, text)).fetchone():
                    self.connection.execute("UPDATE point SET files = ? WHERE key = ?", (text, key))

    def rows(self, keys: Iterable[str] | None = None) -> list[Row]:
        """All rows, or those of `keys`, by key."""
        wanted = None if keys is None else set(keys)
        with self._speaking():
            files = "files" if self._version() >= VERSION else "'{}'"
            found = self.connection.execute(
                "SELECT key, kernel, status, settings, built, result, reason, code, machine, "
                f"{files} FROM point ORDER BY key"
            )
            return [_row(*values) for values in found if wanted is None or values[0] in wanted]

    @contextlib.contextmanager
    def _speaking(self) -> Iterator[None]:
        """What SQLite says, as one error with a remedy."""
        try:
            yield
        except (sqlite3.Error, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{self.path}: {_reason(error)}") from None


def _row(
    key: str, kernel: str, status: str, settings: str, built: str, result: str, reason: str, code: str,
    machine: str, files: str,
) -> Row:  # fmt: skip
    asked, made, found, beside = map(json.loads, (settings, built, result, files))
    return Row(key, kernel, status, asked, made, found, reason, code, machine, beside)


def _text(values: Mapping[str, Any]) -> str:
    """JSON, with Infinity for what is infinite."""
    return json.dumps(dict(values), sort_keys=True)


def _reason(error: Exception) -> str:
    text = str(error)
    if "readonly" in text or "unable to open" in text:
        return "cannot be written; name a store in a folder of your own"
    if "full" in text:
        return "the disk is full; what was done before is kept: make room and run the sweep again"
    if "locked" in text or "busy" in text:
        return f"another process has held it for {WAIT_S:.0f} s; try again when that is done"
    if "disk I/O" in text:
        return "the disk refuses it (disk I/O error); what was done before is kept"
    return f"is damaged or no store of a sweep ({text}); name another, or restore it from a copy"
