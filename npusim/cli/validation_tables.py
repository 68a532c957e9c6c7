"""What people see of a validation: rows, busy times, accuracy, ranking, and what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from npusim.cli.render import counted, field, table, us
from npusim.shares import percent, signed
from npusim.validation.labels import CLOCKS, device, refusals, short, short_places
from npusim.validation.validate import APART, kernel_name

if TYPE_CHECKING:
    from npusim.machine import Machine
    from npusim.measurements.rows import Reading
    from npusim.validation.validate import Accuracy, Row, Validation


def settings(
    console: Console,
    reading: Reading,
    source: str,
    machine: Machine | None,
    html: str | None,
    jobs: int,
) -> None:
    """What was asked, as it was understood."""
    rows = counted(len(reading.rows), "measured row")
    if reading.unmapped:
        rows += f", {counted(len(reading.unmapped), 'operator')} that are none"
    field(console, "rows", f"{rows}: {source}")
    if machine:
        field(console, "profile", f"{machine.name}, for rows of its device")
    else:
        devices = Counter(row.device or "no device" for row in reading.rows)
        named = ", ".join(f"{name} ({count})" for name, count in devices.items())
        field(console, "profiles", f"that of each row's device: {named}")
    for name, one in reading.devices.items():
        if any(row.device == name for row in reading.rows):
            cores = f" with {one.cores} cores" if one.cores else ""
            field(console, "", f"{name} is taken to be {one.profile}{cores}: {one.why}")
    field(console, "workers", str(jobs))
    if html:
        field(console, "report", html)
    console.print()


def show(console: Console, found: Validation) -> None:
    """All that was found."""
    places = short_places([row.case.row.place for row in found.rows])
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in found.counted:
        groups.setdefault((device(row), CLOCKS[row.case.row.clock]), []).append(row)
    for (name, clock), rows in groups.items():
        console.print(_rows(f"{name}, {clock}", rows, places))
    for why, meaning in APART.items():
        if rows := [row for row in found.rows if row.apart == why]:
            console.print(_rows(f"Apart, {why}: {meaning}", rows, places, devices=True))
    console.print(
        "times in us; why: the unit whose busy time is off by a good part of the difference, else what "
        "carries most of the prediction, and its share\n",
        style="dim",
    )
    _busy(console, found, places)
    _accuracy(console, found)
    _ranking(console, found)
    _refused(console, found)


def _rows(title: str, rows: Iterable[Row], places: Mapping[str, str], devices: bool = False) -> Table:
    columns = ("row", "kernel and sizes", "measured", "predicted", "error", "why")
    made = table(title, *columns, right=(2, 3, 4))
    made.min_width, made.padding = None, (0, 1, 0, 0)
    made.columns[0].no_wrap = False
    for row in rows:
        place, name = places[row.case.row.place], short(row)
        made.add_row(
            place, f"{device(row)}: {name}" if devices else name, us(row.case.row.time_us),
            us(row.predicted_us), signed(row.error), f"{row.culprit.unit} {row.culprit.short}",
        )  # fmt: skip
    return made


def _busy(console: Console, found: Validation, places: Mapping[str, str]) -> None:
    """Busy times that a profiler gave, beside those of the model."""
    made = table(
        "Busy times of units, mean over cores", "row", "kernel", "unit", "measured us", "predicted", "error",
        right=(3, 4, 5),
    )  # fmt: skip
    for row in found.rows:
        name, place = kernel_name(row), places[row.case.row.place]
        for column, (measured, predicted) in row.busy.items():
            if predicted is None:
                continue
            error = signed(predicted / measured - 1) if measured else "-"
            made.add_row(place, name, row.found.units[column], us(measured), us(predicted), error)
            name = place = ""
    if made.row_count:
        console.print(made)


def _accuracy(console: Console, found: Validation) -> None:
    made = table("Accuracy", "of", "rows", "MAPE", "median", "worst", right=(1, 2, 3, 4))
    groups = (found.by_kernel, found.by_device, {"all": found.whole}, found.apart)
    for group in groups:
        for name, one in group.items():
            if one:
                made.add_row(*_accuracy_row(f"apart: {name}" if name in APART else name, one))
        made.add_section()
    if made.row_count:
        console.print(made)


def _accuracy_row(name: str, one: Accuracy) -> tuple[str, ...]:
    return name, str(one.rows), percent(one.mape), percent(one.median), signed(one.worst)


def _ranking(console: Console, found: Validation) -> None:
    ranking = found.ranking
    if ranking.share is not None:
        pairs = counted(ranking.pairs, "pair")
        field(console, "ranking", f"{percent(ranking.share)} of {pairs} predicted in the measured order")
    if ranking.speedup_error is not None:
        field(console, "", f"a pair's ratio of times is off by {percent(ranking.speedup_error)} (median)")
    if whole := found.whole:
        field(
            console, "accuracy",
            f"MAPE {percent(whole.mape)}, median {percent(whole.median)}, worst {signed(whole.worst)} over "
            f"{counted(whole.rows, 'row')}; {len(found.rows) - whole.rows} apart",
        )  # fmt: skip
    else:
        field(console, "accuracy", "no row that counts was predicted")


def _refused(console: Console, found: Validation) -> None:
    if not found.refused:
        return
    console.print()
    made = table(f"Not predicted: {counted(len(found.refused), 'row')}", "rows", "kernel", "reason")
    made.columns[0].no_wrap = False
    for places, kernels, reason in refusals(found.refused):
        made.add_row(places, kernels, reason)
    console.print(made)
