"""Files that a visitor uploads: data in a private folder under a key that nobody guesses, and not for long.

A name is a name, never a path: what stands in a .zip is unpacked into the visitor's own folder or refused.
Nothing of it is run. The folder is of the application, which removes it as it ends.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
import shutil
import stat
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from threading import RLock
from typing import NamedTuple, TypeVar

from npusim.errors import InputError

LIMIT_BYTES = 10 * 2**20
"""of all files of a visitor together, as they are sent"""
LIMIT_UNPACKED = 40 * 2**20
"""of all that stands in archives"""
LIMIT_FILES = 200
"""as they are sent, and as many in all archives together"""
VISITORS = 24
"""folders kept at once; the one longest unused goes first"""
EXPIRY_S = 3 * 3600.0
"""after which a folder that nobody asks for is removed"""
TABLES, ARCHIVES, OPERATORS = (".csv",), (".zip",), (".yaml", ".yml")
SUFFIXES = (*TABLES, *ARCHIVES, *OPERATORS)
KEY = re.compile(r"[A-Za-z0-9_-]{32}")
NAME = re.compile(r"[^/\\\x00-\x1f:]{1,120}")
"""what a file may be called"""
GONE = "the files are gone; upload them again"
MIB = 2**20
T = TypeVar("T")


class Sent(NamedTuple):
    """A file as a browser sends it: its name, and a data URL in base64."""

    name: str
    content: str


class Room(NamedTuple):
    """What archives may still unpack to."""

    bytes: int = LIMIT_UNPACKED
    files: int = LIMIT_FILES


class Uploads:
    """The folders of visitors below `root`, by keys. `gone` is told of one that is removed; one that is
    `busy`, as work for it goes on, does not expire. For all threads of the server."""

    def __init__(
        self,
        root: Path,
        gone: Callable[[str], None] = lambda key: None,
        clock: Callable[[], float] = time.monotonic,
        busy: Callable[[str], bool] = lambda key: False,
    ) -> None:
        self.root, self._gone, self._clock, self._busy = root, gone, clock, busy
        root.mkdir(mode=0o700, exist_ok=True)
        self._used: dict[str, float] = {}
        self._lock = RLock()

    def visit(self, key: str | None) -> str:
        """The key of a visitor: the one that is given, where it is known; else a new one."""
        with self._lock:
            removed = self._expire()
            if not key or key not in self._used:
                key = secrets.token_urlsafe(24)
                (self.root / key).mkdir(mode=0o700, parents=True)
            self._used[key] = self._clock()
            most = sorted(self._used, key=lambda one: self._used[one])[:-VISITORS]
            removed += self._remove(most)
        self._tell(removed)
        return key

    def knows(self, key: str) -> bool:
        """Whether there is such a visitor, who is then kept longer."""
        with self._lock:
            removed = self._expire()
            known = key in self._used
            if known:
                self._used[key] = self._clock()
        self._tell(removed)
        return known

    def look(self, key: str, at: Callable[[Path], T]) -> T:
        """What `at` finds in the folder of a visitor's files while these stay as they are."""
        with self._lock:
            return at(folder_of(self.root, key))

    def add(self, key: str, sent: Sequence[Sent]) -> Path:
        """A folder with the files of a visitor so far and those that are sent, which take the place of others
        of their names; it counts once it is `kept`. InputError, with the remedy, for what cannot be."""
        _measured(sent)
        known, fresh = folder_of(self.root, key), self.root / key / f"new-{secrets.token_hex(8)}"
        try:
            fresh.mkdir(mode=0o700)
            names = {_named(one.name) for one in sent}
            if known.is_dir():
                for file in known.iterdir():
                    if file.name not in names:
                        shutil.copy(file, fresh / file.name)
            for one in sent:
                (fresh / one.name).write_bytes(_content(one))
            _within_limits(fresh)
        except BaseException as error:
            shutil.rmtree(fresh, ignore_errors=True)
            if isinstance(error, FileNotFoundError):  # the visitor was forgotten meanwhile
                raise InputError(GONE) from None
            raise
        return fresh

    def keep(self, key: str, fresh: Path) -> None:
        """The files of `fresh`, a folder that `add` made, are the visitor's from now on."""
        with self._lock:
            own = folder_of(self.root, key)
            if not fresh.is_dir():
                raise InputError(GONE)
            shutil.rmtree(own, ignore_errors=True)
            fresh.rename(own)

    def drop(self, fresh: Path) -> None:
        """Remove a folder that `add` made."""
        shutil.rmtree(fresh, ignore_errors=True)

    def forget(self, key: str) -> None:
        """Remove the files of a visitor, and what was made of them."""
        with self._lock:
            for one in folder_of(self.root, key).parent.glob("*"):
                shutil.rmtree(one, ignore_errors=True)
        self._tell([key])

    def _expire(self) -> list[str]:
        """Remove folders that nobody used for long; their keys."""
        now = self._clock()
        old = [key for key, used in self._used.items() if now - used > EXPIRY_S]
        at_work = [key for key in old if self._busy(key)]
        self._used.update(dict.fromkeys(at_work, now))
        return self._remove([key for key in old if key not in at_work])

    def _remove(self, keys: list[str]) -> list[str]:
        for key in keys:
            self._used.pop(key, None)
            shutil.rmtree(self.root / key, ignore_errors=True)
        return keys

    def _tell(self, keys: Iterable[str]) -> None:
        """Without the lock: who is told may end processes, which takes seconds."""
        for key in keys:
            self._gone(key)


def folder_of(root: Path, key: str) -> Path:
    """Where the files of a visitor are. InputError for a key that is none."""
    if not KEY.fullmatch(key):
        raise InputError("the session is not known; load the page again")
    return root / key / "files"


def unpacked(archive: Path, target: Path, room: Room) -> Room:
    """Put the tables of a .zip below the folder `target`; what is left of the room for archives. InputError
    for paths out of the folder, and too much."""
    try:
        with zipfile.ZipFile(archive) as found:
            for one in found.infolist():
                one.filename = one.filename.replace("\\", "/")  # as some programs on Windows write paths
            members = [one for one in found.infolist() if not one.is_dir()]
            if len(members) > room.files:
                raise _refused(
                    archive,
                    f"holds {len(members):,} files, the limit of all archives is {LIMIT_FILES}; split it",
                )
            for one in members:
                _inside(archive, one)
            tables, left = [one for one in members if one.filename.casefold().endswith(TABLES)], room.bytes
            if sum(one.file_size for one in tables) > left:
                raise _too_much(archive)
            for one in tables:
                left -= _unpack(found, one, archive, target, left)
            return Room(left, room.files - len(members))
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
        reason = "it is encrypted" if "encrypted" in str(error) else str(error) or type(error).__name__
        raise _refused(archive, f"cannot be unpacked: {reason}; send its .csv files") from None


def _unpack(found: zipfile.ZipFile, one: zipfile.ZipInfo, archive: Path, target: Path, left: int) -> int:
    """Unpack a file of at most `left` bytes, whatever the archive says of its size; how many it has."""
    if one.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # others are not unpacked piece by piece: a small file could fill the memory
        raise _refused(archive, f"{one.filename[:80]!r} is neither stored nor deflated; pack it as usual")
    with found.open(one) as stream:
        data = stream.read(left + 1)
    if len(data) > left:
        raise _too_much(archive)
    path = target.joinpath(*PurePosixPath(one.filename).parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return len(data)


def _inside(archive: Path, one: zipfile.ZipInfo) -> None:
    """InputError for a file that is none, or that would lie outside the folder."""
    name, parts = one.filename, PurePosixPath(one.filename).parts
    linked = stat.S_ISLNK(one.external_attr >> 16)
    if linked or name.startswith("/") or ".." in parts or not all(NAME.fullmatch(part) for part in parts):
        what = "is a link" if linked else "leads out of the archive"
        raise _refused(archive, f"{name[:80]!r} {what}; pack the folder anew")


def _too_much(archive: Path) -> InputError:
    limit = f"{LIMIT_UNPACKED // MIB} MiB"
    return _refused(archive, f"unpacks to more than {limit}, the limit of all archives; split it")


def _refused(archive: Path, why: str) -> InputError:
    return InputError(f"{archive.name}: {why}")


def _named(name: str) -> str:
    """A name that a file may have. InputError for a path, and for a kind that is not read."""
    if not NAME.fullmatch(name) or name.startswith("."):
        raise InputError(f"upload: {name[:80]!r} is no plain name; rename the file")
    if not name.casefold().endswith(SUFFIXES):
        raise InputError(
            f"{name}: is no measurement; send a .csv, a .zip of them, or an operators file (.yaml)"
        )
    return name


def _content(one: Sent) -> bytes:
    head, _, body = one.content.partition(",")
    if not (head.startswith("data:") and head.endswith(";base64")):
        raise InputError(f"{one.name}: was not received; send it again")
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error:
        raise InputError(f"{one.name}: was not received whole; send it again") from None


def _measured(sent: Sequence[Sent]) -> None:
    """InputError for more than can be meant, before anything of it is written."""
    if len(sent) > LIMIT_FILES:
        raise _too_many(len(sent))
    head = 200  # "data:text/csv;base64,", whatever the kind
    if sum(len(one.content) for one in sent) > LIMIT_BYTES * 4 // 3 + head * len(sent):
        raise too_large(one.name for one in sent)


def _too_many(count: int) -> InputError:
    return InputError(f"upload: {count:,} files, the limit is {LIMIT_FILES}; send them as a .zip")


def too_large(names: Iterable[str]) -> InputError:
    return InputError(
        f"{', '.join(names)}: more than {LIMIT_BYTES // MIB} MiB together with what is here already; "
        "split it, or forget the other files"
    )


def _within_limits(folder: Path) -> None:
    files = sorted(folder.iterdir())
    if len(files) > LIMIT_FILES:
        raise _too_many(len(files))
    if sum(file.stat().st_size for file in files) > LIMIT_BYTES:
        raise too_large(file.name for file in files)
    if sum(file.name.casefold().endswith(OPERATORS) for file in files) > 1:
        raise InputError("upload: two operators files (.yaml); send one")
