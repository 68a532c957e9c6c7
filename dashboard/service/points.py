"""The points of a store as a person looks at them: which columns there are, filtered, a front, a grid of
cells."""

from __future__ import annotations

import math
import shlex
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from dashboard.service.controls import controls_of, short
from dashboard.service.sweep_fields import SET
from npusim.errors import InputError
from npusim.sweep import table
from npusim.sweep.columns import FIGURES, fixed, shown, varied
from npusim.sweep.spec import FIELDS
from npusim.sweep.store import Row
from npusim.units import unit_of

DECADE = 20.0
"""how many times its least value a figure's largest is, from which it is drawn by its logarithm"""
FEW = 12
"""values up to which an axis names each"""
EXACT, ROUGH = 12, 4
"""digits of a setting, of which two that differ are two, and of a figure, in words"""
KNOWN = {
    "time_us": ("Time", "µs", -1, "task: launch, dispatch and execution"),
    "core_us": ("Core time", "µs", -1, "from the start of the first core to the end of the last"),
    "event_us": ("Event time", "µs", -1, "from one kernel to the next, as the events of the host see it"),
    "relative_error": ("Relative error", "", -1, "of the main output, over the sample"),
    "worst_relative_error": ("Worst error", "", -1, "relative error of the worst piece"),
    "snr_db": ("SNR", "dB", 1, "of the main output, over the sample"),
    "worst_snr_db": ("Worst SNR", "dB", 1, "of the worst piece"),
    "max_abs_error": ("Largest error", "", -1, "absolute, of any element"),
    "nonfinite": ("Not finite", "", -1, "values of the output that are infinite or no number"),
    "saturated": ("Saturated", "", -1, "values that were cut off at the limit of their type"),
    "range": ("Range used", "", -1, "the largest value on the way as a share of the limit of its type"),
    "bound": ("Bound", "", 0, "what bounds the time"),
    "unit": ("Busiest unit", "", 0, "the unit that is busy most"),
    "utilisation": ("Utilisation", "", 1, "busy share of the busiest unit"),
    "hbm_bytes": ("HBM bytes", "B", -1, "read and written"),
    "l2_bytes": ("L2 bytes", "B", -1, "read and written"),
    "computed": ("Computed", "", 0, "pieces that were computed"),
    "total": ("Pieces", "", 0, "pieces of the whole problem"),
    "cost": ("Cost", "", -1, "the expression over each row's machine and figures"),
    "kernel": ("Kernel", "", 0, "kernel"),
    "status": ("Status", "", 0, "done; stale: of other code, or of a profile or file that changed"),
    "reason": ("Reason", "", 0, "why there are no figures"),
}
"""label, unit, whether more (1) or less (-1) is better, and meaning of the columns that are no settings"""


@dataclass(frozen=True)
class Column:
    """A column. `better`: 1 where more is, -1 where less is, 0 where neither."""

    name: str
    label: str
    unit: str
    meaning: str
    better: int
    numeric: bool
    setting: bool

    @property
    def title(self) -> str:
        return f"{self.label}, {self.unit}" if self.unit else self.label


@dataclass(frozen=True)
class Scale:
    """How a column becomes a coordinate: itself, its logarithm, or its place among `names`; `low` stands for
    `zero` where there is one, of which there is no logarithm."""

    kind: Literal["linear", "log", "names"]
    names: tuple[str, ...] = ()
    values: tuple[float, ...] = ()
    """of a number that takes few: these"""
    low: float = 0.0
    zero: bool = False

    @property
    def mark(self) -> str:
        """What two scales share on which a coordinate means the same."""
        return " ".join([self.kind, *([f"{self.low}"] if self.zero else []), *self.names])

    def at(self, value: Any) -> float:
        """NaN where a figure is missing or infinite."""
        if self.kind == "names":
            return float(self.names.index(text_of(value)))
        number = math.nan if missing(value) else float(value)
        if not math.isfinite(number):
            return math.nan
        return math.log10(max(number, self.low)) if self.kind == "log" else number


@dataclass(frozen=True)
class Cells:
    """A grid of cells. `values` and `keys` (of the best point) by row, as `counts` of points behind."""

    x: Column
    y: Column
    value: Column
    how: str
    xs: tuple[str, ...]
    ys: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    counts: tuple[tuple[int, ...], ...]
    keys: tuple[tuple[str, ...], ...]


class Points:
    """Some points of a store. `whole`: all of them, by which scales are made that stay as some are chosen."""

    def __init__(self, rows: Sequence[Row], frame: pd.DataFrame, whole: Points | None = None) -> None:
        self.rows, self.frame = rows, frame
        self.whole: Points = whole or self
        self._scales: dict[str, Scale] = {}
        self._made: dict[tuple[str, str], list[Any]] = {}

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def columns(self) -> dict[str, Column]:
        """The columns by name, settings first."""
        asked = {name for row in self.whole.rows for name in (*row.settings, *row.built)}
        numeric = pd.api.types.is_numeric_dtype
        return {
            str(name): _column(str(name), bool(numeric(own) and own.dtype != bool), str(name) in asked)
            for name, own in self.whole.frame.items()
        }

    @cached_property
    def states(self) -> Counter[str]:
        """How many points are done, skipped, failed, stale."""
        return Counter(row.status for row in self.rows)

    @cached_property
    def varied(self) -> list[str]:
        """Settings that vary; what some points lack and all others have alike does not."""
        return [name for name in varied(self.frame, self.rows) if self._says(name)]

    @cached_property
    def figures(self) -> list[str]:
        """The main figures that are numbers and say something."""
        own = [name for name in FIGURES if name in self.columns and self.columns[name].numeric]
        return [name for name in own if self._says(name)]

    @cached_property
    def axes(self) -> list[str]:
        """Numbers that an axis can have: figures first, then settings."""
        numbers = [n for n, one in self.columns.items() if one.numeric and self.frame[n].notna().any()]
        rest = [name for name in numbers if name not in self.figures and not fixed(self.frame, name)]
        return [*self.figures, *rest]

    @cached_property
    def shown(self) -> list[str]:
        """The columns that a grid shows unless others are asked for."""
        names = [name for name in shown(self.frame, self.rows) if name in self.columns]
        some = [name for name in names if self._says(name)]
        return [*(["status"] if len(self.states) > 1 else []), *some]

    def _says(self, name: str) -> bool:
        """Whether a column is not alike wherever it has values; a time and a reason always say something."""
        return name in ("time_us", "reason") or len({*self.texts(name)} - {"—"}) > 1

    def scale(self, name: str) -> Scale:
        """How a column is drawn."""
        if self.whole is not self:
            return self.whole.scale(name)
        if name not in self._scales:
            self._scales[name] = _scale(self.columns[name], self.frame[name])
        return self._scales[name]

    def coordinates(self, name: str) -> list[float]:
        """Where the points lie on the axis of a column; NaN where they do not."""
        return self._of_whole(name, "at", self.scale(name).at)

    def texts(self, name: str) -> list[str]:
        """A column's values in words."""
        one = self.columns[name]
        digits = ROUGH if one.numeric and not one.setting else EXACT
        return self._of_whole(name, "text", lambda value: text_of(value, digits))

    def _of_whole(self, name: str, what: str, make: Callable[[Any], Any]) -> list[Any]:
        """Something of a column's values, which is made once for all points."""
        if self.whole is not self:
            own = self.whole._of_whole(name, what, make)
            return [own[place] for place in self.whole.places.get_indexer(self.frame.index)]
        if (name, what) not in self._made:
            self._made[name, what] = [make(value) for value in self.frame[name].tolist()]
        return self._made[name, what]

    @cached_property
    def places(self) -> pd.Index[str]:
        return self.frame.index

    def values(self, name: str) -> list[Any]:
        """A column's values, as JSON has them: what is missing or infinite is None."""
        return [plain(value) for value in self.frame[name]]

    # --- some of them ------------------------------------------------------------------------------

    def only(self, keys: pd.Index[str] | Sequence[str]) -> Points:
        """The points of these keys, in their order; keys of other points count for nothing."""
        found = self.frame.index.get_indexer(pd.Index(keys))
        places = found[found >= 0]
        return Points([self.rows[int(place)] for place in places], self.frame.iloc[places], self.whole)

    def row(self, key: str) -> Row:
        """The row of a key. InputError where there is none."""
        found = self.only([key]).rows
        if not found:
            raise InputError("this point is not in the store any more; choose another one")
        return found[0]

    @property
    def alone(self) -> Points:
        """The same points as the whole of themselves."""
        return Points(self.rows, self.frame)

    def of_status(self, *names: str) -> Points:
        return self.only(self.frame.index[self.frame["status"].isin(names)])

    def where(self, text: str) -> Points:
        """Those that meet conditions, as `npusim results --where` takes them, separated by spaces. InputError
        for what is none."""
        if not text.strip():
            return self
        try:
            conditions = shlex.split(text)
        except ValueError:
            raise InputError(f"--where: {text!r}: a quotation mark is left open; close it") from None
        return self.only(table.where(self.frame, conditions).index)

    def brushed(self, brush: Mapping[str, Sequence[Sequence[float]]]) -> Points:
        """Those whose coordinates lie in any of the ranges of each column that has some."""
        kept = np.ones(len(self), dtype=np.bool_)
        for name, spans in brush.items():
            if name in self.columns:
                own = np.array(self.coordinates(name))
                kept &= np.any([(own >= low) & (own <= high) for low, high in spans], axis=0)
        return self.only(self.frame.index[kept])

    # --- what is drawn of them --------------------------------------------------------------------------

    def front(self, x: str, y: str) -> list[str]:
        """Keys of the points that no other beats in both columns, from the best by the first; of those that
        are drawn: an infinite figure has no place on an axis."""
        names = [f"-{name}" if self.columns[name].better > 0 else name for name in (x, y)]
        places = zip(self.frame.index, self.coordinates(x), self.coordinates(y), strict=True)
        drawn = [key for key, *own in places if all(map(math.isfinite, own))]
        return [str(key) for key in table.pareto(self.only(drawn).frame, names).index]

    def cells(self, x: str, y: str, value: str, how: str) -> Cells:
        """The best value, or the mean, of the points behind each pair of two settings."""
        column = self.columns[value]
        texts = self.texts(x), self.texts(y)
        across, down = (_ordered(own, self.coordinates(n)) for own, n in zip(texts, (x, y), strict=True))
        groups: dict[tuple[str, str], list[tuple[float, str]]] = {}
        numbers = self.frame[value].tolist()
        for a, b, number, key in zip(*texts, numbers, self.frame.index, strict=True):
            if not missing(number) and math.isfinite(number):
                groups.setdefault((a, b), []).append((float(number), str(key)))
        best = max if column.better > 0 else min
        found = {pair: best(own) for pair, own in groups.items()}
        means = {pair: sum(n for n, _ in own) / len(own) for pair, own in groups.items()}
        shown = {pair: number for pair, (number, _) in found.items()} if how == "best" else means
        return Cells(
            self.columns[x], self.columns[y], column, how, tuple(across), tuple(down),
            tuple(tuple(shown.get((a, b)) for a in across) for b in down),
            tuple(tuple(len(groups.get((a, b), ())) for a in across) for b in down),
            tuple(tuple(found[a, b][1] if (a, b) in found else "" for a in across) for b in down),
        )  # fmt: skip

    def said(self, key: str) -> list[tuple[Column, str]]:
        """What a point was asked that is not the same for all, and its figures, in words."""
        line = self.only([key])
        return [(one, line.texts(one.name)[0]) for one in self.telling if line.texts(one.name) != ["—"]]

    @cached_property
    def telling(self) -> list[Column]:
        """The settings that vary, and the main figures."""
        own = [name for name in FIGURES if name in self.columns and self.whole._says(name)]
        return [self.columns[name] for name in (*self.whole.varied, *own)]

    def export(self, columns: Sequence[str], ending: str) -> bytes:
        """A file of the columns, '.csv' or '.parquet'. InputError where it cannot be written."""
        names = [name for name in columns if name in self.columns] or list(self.columns)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"points{ending}"
            table.write(self.frame[names], str(path))
            return path.read_bytes()


def _column(name: str, numeric: bool, setting: bool) -> Column:
    if name in KNOWN:
        label, unit, better, meaning = KNOWN[name]
        return Column(name, label, unit, meaning, better, numeric, False)
    if name.startswith(SET):
        path = name.removeprefix(SET)
        return Column(name, path, unit_of(path), "number of the profile", 0, numeric, setting)
    if name in FIELDS:
        one = controls_of(FIELDS[name])[name]
        return Column(name, one.label, "", short(one.help), 0, numeric, setting)
    return Column(name, name.replace("_", " ").capitalize(), "", "setting of the kernel", 0, numeric, setting)


def _scale(column: Column, own: pd.Series[Any]) -> Scale:
    """A setting that some points lack is named, as words are; a figure they lack leaves a gap."""
    lacking = own.isna().any()
    if not column.numeric or (column.setting and lacking):
        distinct = {text_of(value) for value in own}
        return Scale("names", tuple(sorted(distinct, key=_natural)))
    numbers = sorted({float(v) for v in own if not missing(v) and math.isfinite(v)})
    few = tuple(numbers) if column.setting and len(numbers) <= FEW else ()
    above = [number for number in numbers if number > 0]
    wide = bool(above) and numbers[0] >= 0 and above[-1] / above[0] >= (8 if few else DECADE)
    if not wide:
        return Scale("linear", values=few)
    zero = numbers[0] == 0
    return Scale("log", values=few, low=above[0] / 10 if zero else above[0], zero=zero)


def _natural(text: str) -> tuple[int, float, str]:
    """Numbers by their size, before words; what is missing last."""
    try:
        return (0, float(text), "")
    except ValueError:
        return (2 if text == "—" else 1, 0.0, text)


def _ordered(texts: Sequence[str], places: Sequence[float]) -> list[str]:
    """The values of a setting in their order on an axis."""
    found = dict(zip(texts, places, strict=True))
    return sorted(found, key=lambda text: found[text])


def missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def plain(value: Any) -> Any:
    """A cell as JSON has it."""
    value = value.item() if hasattr(value, "item") else value
    return None if missing(value) or (isinstance(value, float) and math.isinf(value)) else value


def text_of(value: Any, digits: int = EXACT) -> str:
    """A cell in words."""
    value = value.item() if hasattr(value, "item") else value
    if missing(value):
        return "—"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        whole = value.is_integer() and abs(value) < 1e15
        return f"{int(value)}" if whole else f"{value:.{digits}g}".replace("e-0", "e-")
    return str(value)
