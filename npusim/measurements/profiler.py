"""Files of Ascend profilers: op_summary of msprof, and what msopprof writes of one operator.

Columns are matched by name without case and spaces, as they differ from version to version; those not named
here are left alone.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from npusim.errors import InputError
from npusim.measurements.operators import Operator, Operators, Unfit
from npusim.measurements.rows import Measurement, Reading, Unmapped
from npusim.measurements.shapes import Shape, parse_shapes
from npusim.measurements.table import Row, Table, load
from npusim.measurements.units import Unit, Units, means

NAME, TYPE, TASK_TYPE = "opname", "optype", "tasktype"
DURATION, FREQUENCY = "taskduration(us)", "currentfreq"
CORES = ("blockdim", "blocknum")
TENSORS = ("inputshapes", "outputshapes", "inputdatatypes", "outputdatatypes")
BASIC, PIPES = "OpBasicInfo", "PipeUtilization"
LAUNCHES = 8
"""lines that a note names"""


class Identity(NamedTuple):
    """What launches have in common that are one measurement."""

    name: str
    type: str | None
    task_type: str | None
    tensors: tuple[str | None, ...]
    cores: int | None
    clock: str | None


@dataclass(frozen=True)
class Launch:
    """One row of a profiler: a launch of an operator."""

    line: int
    time_us: float
    busy: Mapping[str, float]
    clock_mhz: float | None


def is_op_summary(columns: Sequence[str]) -> bool:
    """Whether a header, by its keys, is that of an op_summary."""
    return NAME in columns and any(time in columns for time in (DURATION, "aicore_time(us)", "aiv_time(us)"))


def read_op_summary(table: Table, operators: Operators) -> Reading:
    """Rows of msprof's op_summary; launches alike become one row with their median."""
    return _reading(table, operators, "msprof op_summary")


def read_msopprof(basic: Path, operators: Operators) -> Reading:
    """The operator of an OpBasicInfo.csv, with the busy times of the PipeUtilization.csv beside it."""
    table = load(basic)
    for name, column in (("Op Name", NAME), ("Task Duration(us)", DURATION)):
        if table.index(column) is None:
            raise table.missing(name)
    pipes = basic.with_name(basic.name.replace(BASIC, PIPES))
    if not pipes.exists():
        return _reading(table, operators, "msopprof")
    if second := next(itertools.islice(table.rows, 1, None), None):
        raise InputError(f"{second.place}: a second operator; {pipes.name} speaks of one: split the folder")
    return _reading(table, operators, "msopprof", _pipe_busy(load(pipes)))


def _pipe_busy(table: Table) -> dict[str, float]:
    """Busy times of a PipeUtilization.csv, which has a row per core: means over those used."""
    units = Units(table)
    if not units.columns:
        raise table.missing("aic_time(us)")
    return units.busy(means(units.times(row) for row in table.rows))


def _reading(
    table: Table, operators: Operators, source: str, busy: Mapping[str, float] | None = None
) -> Reading:
    """All operators of a table; `busy` times, where they are not those in it."""
    units, groups, first = Units(table), dict[Identity, list[Launch]](), dict[Identity, Row]()
    for row in table.rows:
        times = units.times(row)
        time_us, clock = _time(row, times)
        launch = Launch(row.line, time_us, busy or units.busy(times), row.number(FREQUENCY) or None)
        identity = _identity(row, clock)
        groups.setdefault(identity, []).append(launch)
        first.setdefault(identity, row)
    reading = Reading(devices=dict(operators.devices))
    for identity, launches in groups.items():
        place = first[identity].place
        operator = _operator(identity, first[identity])
        try:
            fields = operators.row(operator)
            if identity.clock is None:
                raise Unfit("no time in the file")
            reading.rows.append(_measurement(place, identity, launches, fields, source))
        except Unfit as unfit:
            count = len(launches)
            named = (operator.name, operator.type, operator.shapes, count)
            reading.unmapped.append(Unmapped(place, _shown(identity), _times(count) + str(unfit), *named))
    return reading


def _time(row: Row, times: Mapping[Unit, float]) -> tuple[float, str | None]:
    """Task Duration, or where it is absent the time of the cores; 0 is as good as absent."""
    duration = row.number(DURATION)
    if duration:
        return duration, "task_duration"
    cores = [value for (_, unit), value in times.items() if not unit]
    return (max(cores), "core") if cores else (0.0, None)


def _identity(row: Row, clock: str | None) -> Identity:
    name = row.text(NAME)
    if name is None:
        raise row.wrong(NAME, "is empty; an operator has a name")
    cores = next((count for column in CORES if (count := row.whole(column))), None)
    tensors = tuple(row.text(column) for column in TENSORS)
    return Identity(name, row.text(TYPE), row.text(TASK_TYPE), tensors, cores, clock)


def _operator(identity: Identity, row: Row) -> Operator:
    inputs, outputs = (_shapes(row, column) for column in TENSORS[:2])
    dtypes = [tuple((text or "").strip('" ').split(";")) for text in identity.tensors[2:]]
    names = (identity.name, identity.type or "", identity.task_type or "")
    return Operator(*names, inputs, outputs, dtypes[0], dtypes[1])


def _shapes(row: Row, column: str) -> tuple[Shape, ...] | None:
    text = row.text(column)
    try:
        return parse_shapes(text)
    except ValueError:
        what = "must be whole numbers such as 128,64;64,32"
        raise row.wrong(column, f"{what}, got {(text or '')[:40]!r}") from None


def _measurement(
    place: str, identity: Identity, launches: list[Launch], fields: dict[str, Any], source: str
) -> Measurement:
    times = [launch.time_us for launch in launches]
    columns = dict.fromkeys(column for launch in launches for column in launch.busy)
    busy = {
        column: statistics.median(launch.busy[column] for launch in launches if column in launch.busy)
        for column in columns
    }
    clocks = [launch.clock_mhz for launch in launches if launch.clock_mhz]
    fields["note"] += _remarks(identity, launches)
    return Measurement.at(
        place,
        **fields,
        **busy,
        time_us=statistics.median(times),
        time_std_us=statistics.stdev(times) if len(times) > 1 else None,
        runs=len(times),
        clock=identity.clock,
        clock_mhz=statistics.median(clocks) if clocks else None,
        cores=identity.cores,
        source=source,
    )


def _remarks(identity: Identity, launches: list[Launch]) -> str:
    remark = ""
    if len(launches) > 1:
        lines = ", ".join(str(launch.line) for launch in launches[:LAUNCHES])
        more = ", .." if len(launches) > LAUNCHES else ""
        remark += f"; median of {len(launches)} launches, lines {lines}{more}"
    if identity.clock == "core":
        remark += "; time of the cores, their mean, as the file has no Task Duration"
    return remark


def _shown(identity: Identity) -> str:
    return f"{identity.name} ({identity.type})" if identity.type else identity.name


def _times(count: int) -> str:
    return f"{count} launches: " if count > 1 else ""
