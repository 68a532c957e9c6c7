"""What a user can do wrong, said in one line that names the place and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

SHOWN = 16
"""known names listed where none is near"""


class NpusimError(Exception):
    """Bad input. The command line prints the message alone and exits with code 2."""

    where = ""
    """'path:line' in a user's own kernel, where that is to blame; stands before the message"""

    def blame(self, where: str) -> None:
        """Say that the line `where` is to blame; the first one named stays."""
        self.where = self.where or where

    def add(self, remark: str) -> None:
        """Put a remark behind the message."""
        self.args = (f"{super().__str__()} {remark}",)

    def __str__(self) -> str:
        message = super().__str__()
        return f"{self.where}: {message}" if self.where else message


class ProfileError(NpusimError):
    """A machine profile that cannot be found, read or believed."""


class GraphError(NpusimError):
    """A tile graph that breaks one of the named rules of `npusim.check`, and what to do about it."""

    def __init__(self, rule: str, message: str, where: str = "", remedy: str = "") -> None:
        super().__init__(f"{rule}: {message}" + (f"; {remedy}" if remedy else ""))
        self.rule, self.message = rule, message
        self.blame(where)


class InputError(NpusimError):
    """Arrays, files or options that do not describe a problem."""


class Unsupported(NpusimError):
    """A combination that is well-formed but that this machine or algorithm cannot do."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A closing sentence for an unknown `name`: the nearest known names, or all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=2, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(repr(n) for n in near)}?"
    shown = ", ".join(names[:SHOWN])
    return f"known: {shown}" + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
