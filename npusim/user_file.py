"""Python files of the user's own: loaded once, run with what they import, and gone from the process after.

Whatever goes wrong in such a file is one InputError (or the builder's own error) that names the line in it.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType

from pydantic import ValidationError

from npusim.errors import InputError, NpusimError
from npusim.where import BUILT_IN, line_in


class UserFile:
    """A file that was run as a module. Its text is compiled afresh, so that nothing is left beside it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.folder = Path(path).resolve().parent
        self.added: list[str] = []
        """what the file put on sys.path"""
        spec = importlib.util.spec_from_file_location(f"kernel file {Path(path).resolve()}", path)
        assert spec
        self.module = importlib.util.module_from_spec(spec)
        self.module.__file__ = path
        self.modules = {spec.name: self.module}
        """the file and what it imported from beside it; dataclasses look up names of annotations there"""
        with self.running("while the file was loaded"):
            exec(compile(self._text(), path, "exec"), self.module.__dict__)

    def _text(self) -> bytes:
        try:
            return Path(self.path).read_bytes()
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read: {error.strerror or error}") from None

    @contextmanager
    def running(self, when: str = "") -> Iterator[None]:
        """Code of the file runs inside: its folder is importable as for `python FILE.py`, what it prints
        goes to standard error, and what it raises becomes one error with the line in the file."""
        path, entries, known = sys.path, list(sys.path), dict(sys.modules)
        sys.path[:0] = [str(self.folder), *self.added]
        sys.modules.update(self.modules)
        try:
            with redirect_stdout(sys.stderr):
                yield
        except KeyboardInterrupt:
            raise
        except NpusimError as error:
            error.blame(line_in(self.path, error))
            raise
        except BaseException as error:  # whatever a user's code may raise, SystemExit among it
            failure = InputError(_said(error) + (f" ({when})" if when else ""))
            failure.blame(line_in(self.path, error))
            raise failure from error
        finally:
            self.added = [e for e in sys.path if e not in entries and e != str(self.folder)]
            sys.path = path
            sys.path[:] = entries
            self._forget(known)

    def _forget(self, known: dict[str, ModuleType]) -> None:
        """Keep the modules from beside the file here, and drop them from sys.modules: another file may have
        some of the same name."""
        self.modules |= {
            name: module
            for name, module in sys.modules.items()
            if known.get(name) is not module and self._beside(name, module)
        }
        for name in self.modules:
            sys.modules.pop(name, None)
        sys.modules.update(known)

    def _beside(self, name: str, module: ModuleType) -> bool:
        """Whether a module lies in the folder of the file, or where the file itself looks for modules."""
        top = name.partition(".")[0]
        places = [getattr(module, "__file__", None), *list(getattr(module, "__path__", ()))[:1]]
        folders = [self.folder, *(Path(entry).resolve() for entry in self.added if isinstance(entry, str))]
        return top not in BUILT_IN and any(
            Path(place).resolve() == folder / f"{top}.py"
            or Path(place).resolve().is_relative_to(folder / top)
            for place in places
            if isinstance(place, str)
            for folder in folders
        )


def _said(error: BaseException) -> str:
    """'ZeroDivisionError: division by zero'; the bare text of a mistake in the syntax."""
    kind = type(error).__name__
    if isinstance(error, SyntaxError):
        return f"{kind}: {error.msg}"
    if isinstance(error, ValidationError):  # pydantic's own text has many lines and an address
        found = [(".".join(str(step) for step in one["loc"]), one["msg"]) for one in error.errors()]
        return f"{kind}: " + "; ".join(f"{place}: {what}" if place else what for place, what in found)
    try:
        text = str(error)
    except BaseException as second:
        text = f"its text cannot be had: {type(second).__name__}"
    return f"{kind}: {text}" if text else kind
