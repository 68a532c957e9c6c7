"""Where in a file of a user's own something was written: 'my_kernel.py:14'."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import FrameType

from npusim.errors import InputError, NpusimError

BUILDER = ("npusim.builder", "npusim.writer")
"""the modules through which a kernel is written: whoever calls them wrote it"""
BUILT_IN = ("npusim", "algorithms")
"""the packages whose lines are of no use to the user of a kernel"""


def caller() -> str:
    """'path:line' of the call of the builder that is under way; '' where a built-in kernel makes it."""
    frame: FrameType | None = sys._getframe(1)
    while frame and frame.f_globals.get("__name__") in BUILDER:
        frame = frame.f_back
    if frame is None or _built_in(str(frame.f_globals.get("__name__", ""))):
        return ""
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


@cache
def _built_in(module: str) -> bool:
    return module.partition(".")[0] in BUILT_IN


def line_in(path: str, error: BaseException) -> str:
    """'path:line' of the innermost call in `path` that `error` came through; `path` where there is none."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{error.filename}:{error.lineno}"
    lines = [
        line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == path
    ]
    return f"{path}:{lines[-1]}" if lines else path


@contextmanager
def netting(where: str) -> Iterator[None]:
    """What nothing foresaw, in a kernel of the user's own, is due to `where`, too: a line or a file of it."""
    try:
        yield
    except (NpusimError, MemoryError, OSError):
        raise
    except Exception as error:
        if not where:
            raise
        text = str(error)
        failure = InputError(
            f"this cannot be simulated: {type(error).__name__}" + (f": {text}" if text else "")
        )
        failure.blame(where)
        raise failure from error


@contextmanager
def blaming(where: str) -> Iterator[None]:
    """Errors raised inside are due to the line `where` of a user's file, unless they name one already."""
    try:
        with netting(where):
            yield
    except NpusimError as error:
        error.blame(where)
        raise
