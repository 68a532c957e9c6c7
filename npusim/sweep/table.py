"""The rows of a store as a table: filtered, sorted, grouped, written to files."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from npusim.errors import InputError, NpusimError, did_you_mean
from npusim.files import replacing
from npusim.machine import Machine
from npusim.settings import MachineSettings
from npusim.sweep.point import code_digest, file_digest, machine_digest
from npusim.sweep.store import Row

if TYPE_CHECKING:
    from npusim.expression import Expression

CONDITION = re.compile(r"\s*([\w.>-]+?)\s*(<=|>=|!=|=|<|>)\s*(.*?)\s*")
FORM = "write NAME=VALUE,VALUE.. or NAME<VALUE (also != <= > >=)"
KINDS = (".csv", ".parquet")


def frame(rows: Iterable[Row]) -> pd.DataFrame:
    """A line per row: what was asked, what the kernel was built with where that says more, the figures."""
    return pd.DataFrame(
        [
            {"kernel": r.kernel, **_flat(r.settings), **_flat(r.built), **r.result, "status": r.status,
             "reason": r.reason}
            for r in rows
        ]
    )  # fmt: skip


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Lists as the command line writes them: 0,500,1200."""
    return {
        name: ",".join(map(str, value)) if isinstance(value, list) else value
        for name, value in values.items()
    }


class Machines:
    """The machines of rows, and the files beside them, as they are now."""

    def __init__(self) -> None:
        self._made: dict[MachineSettings, Machine | None] = {}
        self._files: dict[str, str] = {}
        self._digests: dict[MachineSettings, str] = {}

    def of(self, settings: Mapping[str, Any]) -> Machine | None:
        """The machine of a row's settings; None where it cannot be made any more."""
        asked = self._asked(settings)
        if asked not in self._made:
            try:
                self._made[asked] = asked.machine()
            except NpusimError:
                self._made[asked] = None
        return self._made[asked]

    def stale(self, row: Row) -> bool:
        """Whether a row is of other code, or of a machine or a file that is another one now, or gone."""
        if row.code != code_digest() or any(self._file(path) != was for path, was in row.files.items()):
            return True
        asked = self._asked(row.settings)
        machine = self.of(row.settings)
        if asked not in self._digests:
            self._digests[asked] = machine_digest(machine) if machine else ""
        return bool(row.machine) and row.machine != self._digests[asked]

    def _file(self, path: str) -> str:
        if path not in self._files:
            try:
                self._files[path] = file_digest(path)
            except InputError:
                self._files[path] = ""
        return self._files[path]

    @staticmethod
    def _asked(settings: Mapping[str, Any]) -> MachineSettings:
        fields = [name for name in MachineSettings.model_fields if name != "set" and name in settings]
        numbers = [f"{n.removeprefix('set.')}={v}" for n, v in settings.items() if n.startswith("set.")]
        return MachineSettings.parse(**{name: settings[name] for name in fields}, set=numbers)


def marked(rows: Iterable[Row], machines: Machines) -> list[Row]:
    """The rows, those of other code, or of a machine or file that changed since, with the status `stale`."""
    return [replace(row, status="stale") if machines.stale(row) else row for row in rows]


def with_cost(
    table: pd.DataFrame, rows: Sequence[Row], expression: Expression, machines: Machines
) -> pd.DataFrame:
    """With a column `cost`: an expression over the numbers of each row's machine and its own columns; none
    where there is no such machine any more. `rows`: those of the table, in its order."""
    from npusim.expression import machine_names

    costs, names = list[float](), dict[int, dict[str, float]]()
    for row, line in zip(rows, table.to_dict("records"), strict=True):
        machine = machines.of(row.settings)
        figures = {
            str(name): float(value)
            for name, value in line.items()
            if isinstance(value, int | float) and value == value
        }
        if machine is None or not row.result:
            costs.append(math.nan)
            continue
        if id(machine) not in names:  # of which `machines` keeps hold
            names[id(machine)] = machine_names(machine)
        costs.append(expression.value(figures | names[id(machine)]))
    return table.assign(cost=costs)


def where(table: pd.DataFrame, conditions: Sequence[str]) -> pd.DataFrame:
    """The rows that meet all conditions. InputError for one that is none, or of an unknown column."""
    for text in conditions:
        found = CONDITION.fullmatch(text)
        if not found or not found[3]:
            raise InputError(f"--where: {text!r} is no condition; {FORM}")
        name, sign, given = found.groups()
        column = table[known(table, name, "--where")]
        if sign in ("=", "!="):
            same = column.map(
                lambda value, given=given: any(_same(value, v) for v in (given, *given.split(",")))
            ).astype(bool)  # also of no rows at all
            table = table[same if sign == "=" else ~same]
            continue
        try:
            limit = float(given)
        except ValueError:
            raise InputError(f"--where: {text!r}: {given!r} is no number; {FORM}") from None
        numbers = pd.to_numeric(column, errors="coerce")
        compare = {"<": numbers < limit, ">": numbers > limit, "<=": numbers <= limit, ">=": numbers >= limit}
        table = table[compare[sign]]
    return table


def _same(value: Any, text: str) -> bool:
    """Whether a cell is what `text` says: yes and no stand for true and false."""
    text = text.strip()
    if isinstance(value, bool | np.bool_):
        return text.lower() in (("true", "yes") if value else ("false", "no"))
    if isinstance(value, int | float | np.number):
        try:
            return float(value) == float(text)
        except ValueError:
            return False
    return str(value) == text


def known(table: pd.DataFrame, name: str, option: str) -> str:
    """A column's name. InputError, with the nearest, for one that there is not."""
    plain = name if name in table.columns else name.replace("-", "_")
    if plain not in table.columns:
        near = did_you_mean(plain, [str(column) for column in table.columns])
        raise InputError(f"{option}: no column {name!r}; {near}")
    return plain


def ordered(table: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Sorted by columns, the first one most; '-NAME' is descending; what has no figure comes last."""
    names = [known(table, name.removeprefix("-"), "--sort") for name in by]
    rising = [not name.startswith("-") for name in by]
    return table.sort_values(names, ascending=rising, kind="stable", na_position="last")


def best(table: pd.DataFrame, groups: Sequence[str]) -> pd.DataFrame:
    """The first row of each group, with the number of rows behind it as `points`."""
    names = [known(table, name, "--group") for name in groups]
    grouped = table.groupby(names, sort=False, dropna=False)
    return grouped.head(1).assign(points=grouped[names[0]].transform("size"))


def pareto(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The rows that no other one beats in all of the columns, of which smaller is better ('-NAME': larger).

    Of rows that are alike in them all stay; rows without a figure in one of them are left out. InputError for
    a column that holds no numbers.
    """
    keys = [known(table, name.removeprefix("-"), "--pareto") for name in names]
    signs = [-1.0 if name.startswith("-") else 1.0 for name in names]
    for key in keys:
        if not pd.api.types.is_numeric_dtype(table[key]):
            raise InputError(f"--pareto: {key} holds no numbers; name columns that do")
    figures = table[keys].to_numpy(dtype=float) * signs
    there = ~np.isnan(figures).any(axis=1)
    # sorted by the columns one after another: who beats a row stands before it
    distinct, places = np.unique(figures[there], axis=0, return_inverse=True)
    front, best = np.empty((0, len(keys))), np.zeros(len(distinct), dtype=np.bool_)
    for number, own in enumerate(distinct):
        if not (front <= own).all(axis=1).any():
            front, best[number] = np.vstack([front, own]), True
    kept = np.zeros(len(table), dtype=np.bool_)
    kept[there] = best[places.reshape(-1)]
    return table[kept].sort_values(keys[0], ascending=signs[0] > 0, kind="stable")


def write(table: pd.DataFrame, path: str) -> None:
    """A CSV or Parquet file, by its ending. InputError for another one."""
    kind = Path(path).suffix
    if kind not in KINDS:
        raise InputError(f"--export: {path}: must end in {' or '.join(KINDS)}")
    if kind == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            remedy = "pip install 'npusim[parquet]', or name a .csv file"
            raise InputError(f"--export: {path}: Parquet needs pyarrow; {remedy}") from None
    with replacing(path) as partial:
        if kind == ".csv":
            table.to_csv(partial, index=False)
        else:
            # a column of several kinds, as of a parameter that is a number or a word, becomes text
            mixed = [n for n in table if table[n].map(type).nunique() > 1 and table[n].dtype == object]
            table.astype(dict.fromkeys(mixed, "string")).to_parquet(partial, index=False)
