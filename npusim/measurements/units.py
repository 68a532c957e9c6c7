"""Busy times per unit in a profiler's table: whichever columns it has, by the core that they speak of."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from functools import cached_property

from npusim.measurements.rows import BUSY
from npusim.measurements.table import Row, Table

Unit = tuple[str, str]
"""core, aic or aiv, and unit on it; '' is the core itself, start to end"""

SUFFIX = "_time(us)"
NAMES = {
    "mac": "mac", "cube": "mac", "vec": "vec", "scalar": "scalar", "mte1": "mte1", "mte2": "mte2",
    "mte3": "mte3", "fixpipe": "fixpipe",
}  # fmt: skip
"""units by the names in columns: the cube is `mac` to msprof and `cube` to msopprof"""
CORES = {"aicore": "aic", "aic": "aic", "aiv": "aiv"}


class Units:
    """The columns of a table that hold times of cores and units, matched by name."""

    def __init__(self, table: Table) -> None:
        self.columns = {unit: column for column in table.columns if (unit := _unit(column))}

    @cached_property
    def fused(self) -> bool:
        """Cube and vector unit are one core, as on 310P; its columns speak of one core only."""
        return bool(self.columns) and not any(core == "aiv" for core, _ in self.columns)

    def times(self, row: Row) -> dict[Unit, float]:
        """What the row says of the cores that were used, in microseconds."""
        cells = {unit: row.number(column) for unit, column in self.columns.items()}
        known = {unit: value for unit, value in cells.items() if value is not None}
        total = {core: known.get((core, "")) for core in ("aic", "aiv")}
        used = {
            core
            for core in total
            if (total[core] or 0) > 0
            or (total[core] is None and any(v > 0 for (c, _), v in known.items() if c == core))
        }
        return {unit: value for unit, value in known.items() if unit[0] in used}

    def busy(self, times: Mapping[Unit, float]) -> dict[str, float]:
        """The columns of a `Measurement`; scalar and mte2 are the cube core's where it was used."""
        main = "aic" if any(core == "aic" for core, _ in times) else "aiv"
        found = {}
        for column, name in BUSY.items():
            core, _, unit = name.rpartition("_")
            value = times.get(("aic" if self.fused else core or main, unit))
            if value is not None:
                found[column] = value
        return found


def means(rows: Iterable[Mapping[Unit, float]]) -> dict[Unit, float]:
    """Means over the cores used, of rows that speak of one core each."""
    values: dict[Unit, list[float]] = {}
    for row in rows:
        for unit, value in row.items():
            values.setdefault(unit, []).append(value)
    return {unit: statistics.fmean(found) for unit, found in values.items()}


def _unit(column: str) -> Unit | None:
    """The unit a column speaks of: aic_mte1_time(us), aicore_time(us), or mte1_time(us) on fused cores."""
    if not column.endswith(SUFFIX):
        return None
    stem = column.removesuffix(SUFFIX)
    if stem in CORES:
        return CORES[stem], ""
    core, _, name = stem.rpartition("_")
    unit = NAMES.get(name)
    return (CORES.get(core, "aic"), unit) if unit and (not core or core in CORES) else None
