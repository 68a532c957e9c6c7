"""Files that are written: whole or not at all, and never over what is no regular file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from npusim.errors import InputError


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path beside `path` to write to; it takes the place of `path` when the block ends without an error.

    An existing file is replaced, behind symbolic links too. InputError for a folder that does not exist
    or refuses the file, and for what is no regular file.
    """
    target = check_target(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(target)
    except OSError as error:
        raise InputError(f"{target}: cannot be written: {error.strerror or error}") from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def check_target(path: str | os.PathLike[str]) -> Path:
    """The path of a file that may be written, behind any symbolic links.

    InputError for a file in no folder, and for whatever exists and is not a regular file.
    """
    given, target = Path(path), Path(os.path.realpath(path))
    if not target.parent.is_dir():
        folder = target.parent if given.is_symlink() else given.parent
        raise InputError(f"{given}: folder {folder} does not exist: create it, or name another")
    if target.is_dir():
        raise InputError(f"{given}: is a folder: name a file in it")
    if os.path.lexists(target) and not target.is_file():
        raise InputError(f"{given}: exists and is no regular file: name another")
    return target


def check_targets(read: Mapping[str, str | None], written: Mapping[str, str | None]) -> None:
    """InputError where a file that is written, by the name of its option, may not be, or is another one's."""
    taken = {
        Path(os.path.realpath(path)): option for option, path in read.items() if path and os.path.exists(path)
    }
    for option, path in written.items():
        if path:
            target = check_target(path)
            if target in taken:
                raise InputError(f"{option}: {path} is the file of {taken[target]}, too; name another")
            taken[target] = option
