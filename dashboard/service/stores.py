"""The stores of sweeps in the folder where the dashboard runs: their points as they are now, and the view of
Explore that a point is."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from dashboard.service import Service, machines
from dashboard.service.cache import Cache
from dashboard.service.points import Points
from dashboard.service.sweep_fields import SET
from dashboard.service.sweeps import ENDING, Sweeps, near
from dashboard.state import State
from npusim.errors import InputError
from npusim.expression import Expression
from npusim.profiles import SUFFIXES
from npusim.sweep import table
from npusim.sweep.store import Row, Store

NOT_ASKED = ("engine", "exact", "tolerance")
"""settings that Explore has no word for: how the engine simulates"""


class Empty(InputError):
    """A store that has no points yet."""


def _beside(rows: Iterable[Row]) -> tuple[Any, ...]:
    """Changes when a profile or a file does that rows were computed with."""
    profiles = {str(row.settings["profile"]) for row in rows if "profile" in row.settings}
    files = {Path(path) for row in rows for path in row.files}
    return (*((name, machines.stamp(name)) for name in sorted(profiles)), *_times(sorted(files)))


def _times(files: Iterable[Path]) -> tuple[Any, ...]:
    """Of those that are there, when they changed and how large they are."""
    there = [(str(file), found) for file in files if (found := machines.of_file(file))]
    return tuple((name, found.st_mtime_ns, found.st_size) for name, found in there)


class Stores:
    """The stores of a service's folder."""

    def __init__(self, service: Service, sweeps: Sweeps) -> None:
        self.service, self.sweeps = service, sweeps
        self._points: Cache[Points] = Cache(6)
        self._rows: Cache[list[Row]] = Cache(6)
        self._machines: Cache[table.Machines] = Cache(2)

    def names(self) -> list[str]:
        """Files that may be stores, the latest first."""
        found = [one for one in self.service.folder.glob(f"*{ENDING}") if machines.NAME.fullmatch(one.name)]
        there = [(file.st_mtime, one.name) for one in found if (file := machines.of_file(one))]
        return [name for _, name in sorted(there, reverse=True)]

    def points(self, name: str, cost: str = "") -> Points:
        """All points of a store, those of other code or machines marked as stale; `cost`: an expression that
        becomes a column. InputError for what is no store."""
        path = self.sweeps.place(name)
        stamp = _times((path, path.with_name(f"{name}-wal")))

        def read() -> list[Row]:
            with Store(near(path), write=False) as kept:
                return kept.rows()

        found = self._rows.get((path, stamp), read)
        if not found:
            raise Empty(f"{near(path)}: has no points yet")
        beside = _beside(found)

        def look() -> Points:
            expression = Expression.parse(cost) if cost.strip() else None
            known = self._machines.get(beside, table.Machines)
            rows = table.marked(found, known)
            frame = table.frame(rows)
            if expression:
                frame = table.with_cost(frame, rows, expression, known)
            frame.index = pd.Index([row.key for row in rows])
            first = "time_us" if "time_us" in frame else "status"
            return Points(rows, frame).only(table.ordered(frame, [first]).index).alone

        return self._points.get((path, stamp, cost, beside), look)

    def link(self, row: Row) -> State:
        """The view of Explore that a point is: exactly its settings. InputError where there is none."""
        names = [name for name, entry in self.service.entries.items() if row.kernel in (name, entry.name)]
        if not names:
            raise InputError(f"{row.kernel}: is no kernel of this dashboard; name its file at the start")
        if "inputs" in row.settings:
            raise InputError("inputs: this point computed on a file, which a link does not open")
        values: dict[str, object] = {"kernel": names[0]}
        numbers = []
        for name, own in row.settings.items():
            if name.startswith(SET):
                numbers.append(f"{name.removeprefix(SET)}={own!r}")
            elif name == "profile":
                values[name] = self._profile(str(own))
            elif name not in (*NOT_ASKED, "timing"):
                values[name] = own
        return self.service.cleaned(State.of({**values, "set": numbers}))

    def _profile(self, name: str) -> str:
        if not name.endswith(SUFFIXES):
            return name
        if Path(os.path.abspath(name)).parent != self.service.folder:
            raise InputError(f"{name}: is a profile of another folder, which a link does not open")
        return Path(name).name
