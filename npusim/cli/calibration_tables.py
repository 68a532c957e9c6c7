"""What people see of a calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table

from npusim.calibration.findings import findings
from npusim.cli.render import field, table, us
from npusim.shares import percent, signed
from npusim.validation.labels import of_case as short
from npusim.validation.labels import refusals, short_places

if TYPE_CHECKING:
    from npusim.calibration.calibrator import Calibrator
    from npusim.calibration.held_out import HeldOut
    from npusim.calibration.suggest import Suggestion
    from npusim.machine import Machine
    from npusim.validation.select import Refused


def settings(
    console: Console, machines: Sequence[Machine], measurements: str, output: str | None, count: int
) -> None:
    """What was asked, as it was understood."""
    field(console, "profiles", ", ".join(machine.name for machine in machines))
    field(console, "rows", measurements)
    field(console, "numbers", f"{count} that may move; those that the rows do not determine stay")
    field(console, "output", output or "nothing is written; -o names a file")
    console.print()


def show(
    console: Console,
    fitted: Calibrator,
    refused: Sequence[Refused],
    groups: Mapping[str, Sequence[HeldOut]],
    ideas: Sequence[Suggestion],
) -> None:
    """All that was found."""
    _rows(console, fitted)
    _numbers(console, fitted)
    _doubts(console, fitted)
    for kind, found in groups.items():
        _held_out(console, kind, found)
    if ideas:
        _ideas(console, ideas)
    if refused:
        _refused(console, refused)
    _summary(console, fitted)


def _refused(console: Console, refused: Sequence[Refused]) -> None:
    """Rows that were not used, those with one reason together."""
    made = _folding("Not fitted to", "rows", "kernels", "reason")
    for places, kernels, reason in refusals(refused):
        made.add_row(places, kernels, reason)
    console.print(made)


def _rows(console: Console, fitted: Calibrator) -> None:
    made = table("Rows", "row", "device", "kernel", "measured us", "before", "after", right=(3, 4, 5))
    shown = short_places([one.row.place for one in fitted.cases_])
    for one, before, after in zip(fitted.cases_, fitted.errors_before_, fitted.errors_after_, strict=True):
        made.add_row(
            shown[one.row.place], one.row.device or fitted.machine(one).name, short(one), us(one.row.time_us),
            signed(before), signed(after),
        )  # fmt: skip
    console.print(made)


def _numbers(console: Console, fitted: Calibrator) -> None:
    columns = ("number", "before", "documents", "fitted", "+-")
    made = _folding("Numbers that the rows determine", *columns, right=(1, 2, 3, 4))
    for one in fitted.learned_:
        if one.determined:
            prior = one.parameter.prior
            made.add_row(
                one.parameter.name, f"{one.parameter.start:.4g}", f"{prior[0]:.4g}" if prior else "-",
                f"{one.value:.4g}", f"{one.error:.2g}",
            )  # fmt: skip
    console.print(made)


def _folding(title: str, *columns: str, right: Sequence[int] = ()) -> Table:
    """A table whose first column gives way where there is no room, and whose numbers never do."""
    made = table(title, *columns, right=right)
    made.columns[0].no_wrap = False
    for number in right:
        made.columns[number].min_width = max(8, len(columns[number]))
    return made


def _doubts(console: Console, fitted: Calibrator) -> None:
    title = "Numbers that the rows do not determine: they stay"
    made = _folding(title, "number", "value", "held by", right=(1,))
    for one in fitted.learned_:
        if not one.determined:
            made.add_row(one.parameter.name, f"{one.value:.4g}", one.held_by)
    if made.row_count:
        console.print(made)
    if pairs := fitted.correlations_:
        title = "Numbers that the rows hardly tell apart"
        made = _folding(title, "one", "the other", "correlation", right=(2,))
        for a, b, r in pairs:
            made.add_row(a, b, f"{r:+.2f}")
        console.print(made)
    if found := findings(fitted):
        made = _folding("What the fit points at", "about", "what")
        for finding in found:
            made.add_row(finding.about, finding.text)
        console.print(made)


def _held_out(console: Console, kind: str, found: Sequence[HeldOut]) -> None:
    if not found:
        console.print(f"all rows are of one {kind}: there is nothing to leave out\n")
        return
    title = f"Predicted without their {kind}'s rows"
    made = _folding(title, kind, "rows", "MAPE", "worst", "lost without them", right=(1, 2, 3))
    for one in found:
        worst = max(one.errors, key=abs)
        made.add_row(
            one.group, str(one.rows), percent(one.mape), signed(worst), "; ".join(one.unknown) or "-"
        )
    console.print(made)
    known = [error for one in found if one.determined for error in one.errors]
    if known:
        mape = percent(float(np.mean(np.abs(known))))
        console.print(f"of those that stay determined: MAPE {mape} ({len(known)} rows)\n")


def _ideas(console: Console, ideas: Sequence[Suggestion]) -> None:
    columns = ("measurement", "profile", "uncertainty", "settles most")
    made = _folding("What to measure next", *columns, right=(2,))
    for idea in ideas[:8]:
        name = idea.case.settings.profile
        made.add_row(short(idea.case), name, signed(-idea.gain), "; ".join(idea.settles) or "-")
    console.print(made)


def _summary(console: Console, fitted: Calibrator) -> None:
    before, after = (np.abs(e) for e in (fitted.errors_before_, fitted.errors_after_))
    worst = f"{percent(before.max(), 0)} -> {percent(after.max(), 0)}"
    console.print(
        f"MAPE {percent(before.mean())} -> {percent(after.mean())}, worst {worst} over {len(after)} rows; "
        f"{sum(one.determined for one in fitted.learned_)} numbers fitted"
    )


def written(console: Console, texts: Mapping[Path, str], targets: Mapping[str, Path]) -> None:
    """Which files were written."""
    for path in texts:
        console.print(f"written: {path}", soft_wrap=True)
    for path in targets.values():
        if path not in texts:
            console.print(f"not written: {path}: no number of it was determined", soft_wrap=True)
