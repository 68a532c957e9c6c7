"""The report of a calibration: one HTML file."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from npusim import __version__
from npusim.calibration.calibrator import Calibrator, Learned
from npusim.calibration.findings import findings
from npusim.calibration.held_out import HeldOut
from npusim.calibration.suggest import Suggestion
from npusim.shares import percent, signed
from npusim.validation.figures import Move, moves
from npusim.validation.labels import of_case, refusals
from npusim.validation.page import Cell, facts, heading, page, plot, table, tiles
from npusim.validation.select import Refused
from npusim.validation.validate import microseconds


def report(
    fitted: Calibrator,
    refused: Sequence[Refused],
    groups: Mapping[str, Sequence[HeldOut]],
    ideas: Sequence[Suggestion],
    measurements: str,
    date: datetime.date,
) -> str:
    """The file's text. `measurements`: where the rows are from; `groups`: rows left out, by kind."""
    parts = [*_head(fitted, measurements, date), *_rows(fitted), *_numbers(fitted), *_doubts(fitted)]
    for kind, found in groups.items():
        parts += _held_out(kind, found)
    if ideas:
        parts.append(heading("What to measure next", "By how much the mean uncertainty would shrink."))
        rows: list[list[Cell]] = [
            [of_case(one.case), one.case.settings.profile, (signed(-one.gain), one.gain), _all(one.settles)]
            for one in ideas
        ]
        parts.append(table(("measurement", "profile", "uncertainty", "settles most"), rows, (2,)))
    if refused:
        parts.append(heading("Not fitted to"))
        parts.append(table(("rows", "kernels", "reason"), refusals(refused)))
    return page("npusim: numbers fitted to measurements", parts)


def _head(fitted: Calibrator, measurements: str, date: datetime.date) -> Iterator[str]:
    profiles = dict.fromkeys(fitted.machine(one).name for one in fitted.cases_)
    yield facts([
        ("measurements", measurements), ("profiles", ", ".join(profiles)), ("date", date.isoformat()),
        ("npusim", __version__),
    ])  # fmt: skip
    before, after = np.abs(fitted.errors_before_), np.abs(fitted.errors_after_)
    told = sum(one.determined for one in fitted.learned_)
    yield tiles([
        (f"{percent(before.mean())} → {percent(after.mean())}", "mean error (MAPE), before and after"),
        (f"{percent(before.max())} → {percent(after.max())}", "worst error"),
        (str(len(after)), "rows"),
        (f"{told} of {len(fitted.learned_)}", "numbers that the rows determine"),
    ])  # fmt: skip


def _rows(fitted: Calibrator) -> Iterator[str]:
    rows = list(zip(fitted.cases_, fitted.errors_before_, fitted.errors_after_, strict=True))
    yield heading("Before and after", "Dotted: 20 % more and less. Hollow points are before the fit.")
    yield plot(
        moves([
            Move(
                one.row.kernel, fitted.machine(one).name, f"{of_case(one)}, {one.row.place}",
                one.row.time_us, float(before), float(after),
            )
            for one, before, after in rows
        ])
    )  # fmt: skip
    yield heading("Rows")
    lines: list[list[Cell]] = [
        [
            one.row.place, one.row.device or fitted.machine(one).name, of_case(one),
            (microseconds(one.row.time_us), one.row.time_us), (signed(before), float(before)),
            (signed(after), float(after)),
        ]
        for one, before, after in rows
    ]  # fmt: skip
    yield table(("row", "device", "kernel", "measured us", "before", "after"), lines, (3, 4, 5))


def _numbers(fitted: Calibrator) -> Iterator[str]:
    yield heading("Numbers that the rows determine", "±: one standard error.")
    columns = ("number", "before", "documents", "fitted", "±")
    yield table(columns, [_number(one) for one in fitted.learned_ if one.determined], (1, 2, 3, 4))
    if stay := [one for one in fitted.learned_ if not one.determined]:
        yield heading("Numbers that the rows do not determine", "They stay.")
        rows: list[list[Cell]] = [[one.parameter.name, _shown(one.value), one.held_by] for one in stay]
        yield table(("number", "value", "held by"), rows, (1,))


def _number(one: Learned) -> list[Cell]:
    prior = one.parameter.prior
    stated: Cell = _shown(prior[0]) if prior else "-"
    values = (_shown(one.parameter.start), stated, _shown(one.value), _shown(one.error))
    return [one.parameter.name, *values]


def _shown(value: float) -> tuple[str, float]:
    return f"{value:.4g}", value


def _doubts(fitted: Calibrator) -> Iterator[str]:
    if pairs := fitted.correlations_:
        yield heading("Numbers that the rows hardly tell apart")
        rows = [(a, b, (f"{r:+.2f}", r)) for a, b, r in pairs]
        yield table(("one", "the other", "correlation"), rows, (2,))
    if found := findings(fitted):
        yield heading("What the fit points at")
        yield facts((one.about, one.text) for one in found)


def _held_out(kind: str, found: Sequence[HeldOut]) -> Iterator[str]:
    if not found:
        return
    yield heading(f"Predicted without their {kind}'s rows", "Lost: numbers that only these rows determine.")
    rows: list[list[Cell]] = []
    for one in found:
        worst = max(one.errors, key=abs)
        errors: list[Cell] = [(percent(one.mape), one.mape), (signed(worst), worst)]
        rows.append([one.group, (str(one.rows), one.rows), *errors, _all(one.unknown)])
    yield table((kind, "rows", "MAPE", "worst", "lost"), rows, (1, 2, 3))


def _all(names: Sequence[str]) -> str:
    return "; ".join(names) or "-"
