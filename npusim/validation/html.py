"""The report of a validation: one HTML file."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable, Iterator

from npusim import __version__
from npusim.shares import percent, signed
from npusim.validation import figures
from npusim.validation.labels import CLOCKS, device, what
from npusim.validation.page import Cell, facts, heading, page, plot, table, tiles
from npusim.validation.validate import APART, Accuracy, Row, Validation, kernel_name, microseconds


def report(found: Validation, measurements: str, date: datetime.date) -> str:
    """The file's text. `measurements`: where the rows are from."""
    return page("npusim: measured and predicted", _parts(found, measurements, date))


def _parts(found: Validation, measurements: str, date: datetime.date) -> Iterator[str]:
    yield _facts(found, measurements, date)
    yield tiles(_headlines(found))
    yield from _pictures(found)
    yield from _accuracy(found)
    yield from _rows(found)
    yield from _busy(found)
    if found.refused:
        yield heading("Not predicted", "Rows that the model has no kernel, structure or profile for.")
        rows = [(one.place, one.kernel, one.reason) for one in found.refused]
        yield table(("row", "kernel", "reason"), rows)


def _facts(found: Validation, measurements: str, date: datetime.date) -> str:
    profiles = Counter(row.machine.name for row in found.rows)
    named = ", ".join(f"{name} ({count})" for name, count in sorted(profiles.items())) or "none"
    return facts([
        ("measurements", measurements), ("profiles (rows)", named), ("date", date.isoformat()),
        ("npusim", __version__),
    ])  # fmt: skip


def _headlines(found: Validation) -> Iterator[tuple[str, str]]:
    whole, ranking = found.whole, found.ranking
    apart = len(found.rows) - len(found.counted)
    yield str(len(found.counted)), f"rows count; {apart} apart, {len(found.refused)} not predicted"
    if whole:
        yield percent(whole.mape), "mean error (MAPE)"
        yield percent(whole.median), "median error"
        yield signed(whole.worst), "worst error"
    if ranking.share is not None:
        yield percent(ranking.share), f"of {ranking.pairs} pairs in the measured order"
    if ranking.speedup_error is not None:
        yield percent(ranking.speedup_error), "median error of a pair's ratio"


def _pictures(found: Validation) -> Iterator[str]:
    if not found.rows:
        return
    about = "Hollow points are rows that are counted apart."
    yield heading("Predicted against measured", f"Dotted: 20 % more and less. {about}")
    yield plot(figures.parity(found))
    yield heading("Error by kernel", "Below zero the prediction is too fast. The bar is the median.")
    yield plot(figures.errors(found))
    if any(predicted for row in found.rows for _, predicted in row.busy.values()):
        yield heading("Busy times of units", "Mean over the cores used, where a profiler gave it.")
        yield plot(figures.busy(found))


def _accuracy(found: Validation) -> Iterator[str]:
    groups = {"kernel": found.by_kernel, "device": found.by_device, "apart": found.apart}
    for name, group in groups.items():
        if group:
            said = "; ".join(f"{why}: {APART[why]}" for why in group) if name == "apart" else ""
            yield heading(f"Accuracy by {name}" if name != "apart" else "Rows apart", said)
            columns = (name, "rows", "MAPE", "median", "worst")
            yield table(columns, [_accuracy_row(*item) for item in group.items()], range(1, 5))


def _accuracy_row(name: str, one: Accuracy) -> list[Cell]:
    sizes = [(percent(size), size) for size in (one.mape, one.median)]
    return [name, (str(one.rows), one.rows), *sizes, (signed(one.worst), one.worst)]


def _rows(found: Validation) -> Iterator[str]:
    columns = ("row", "device", "kernel", "clock", "measured us", "predicted us", "error", "why")
    for title, rows in (("Rows", found.counted), ("Rows that are counted apart", _apart(found))):
        if rows:
            yield heading(title)
            yield table(columns, [_row(row) for row in rows], (4, 5, 6))


def _apart(found: Validation) -> list[Row]:
    return [row for row in found.rows if row.apart]


def _row(row: Row) -> list[Cell]:
    measured = row.case.row
    unit, why, _ = row.culprit
    said = f"{unit} {why}" + (f"; {row.apart}" if row.apart else "")
    times = _times((measured.time_us, row.predicted_us))
    error = (signed(row.error), row.error)
    return [measured.place, device(row), what(row), CLOCKS[measured.clock], *times, error, said]


def _busy(found: Validation) -> Iterator[str]:
    rows: list[list[Cell]] = []
    for row in found.rows:
        for column, (measured, predicted) in row.busy.items():
            if predicted is not None:
                error = predicted / measured - 1 if measured else None
                told: Cell = "-" if error is None else (signed(error), error)
                names = (row.case.row.place, kernel_name(row), row.found.units[column])
                rows.append([*names, *_times((measured, predicted)), told])
    if rows:
        yield heading("Busy times of units, row by row")
        yield table(("row", "kernel", "unit", "measured us", "predicted us", "error"), rows, (3, 4, 5))


def _times(times: Iterable[float]) -> list[Cell]:
    return [(microseconds(time), time) for time in times]
