"""What people see of a sweep and of a store: settings, counts, and the rows that matter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.console import Console

from npusim.cli.render import table
from npusim.sweep import table as rows_of
from npusim.sweep.columns import FIGURES, fixed, shown
from npusim.sweep.run import Plan, Summary
from npusim.sweep.store import Row

if TYPE_CHECKING:
    from npusim.expression import Expression

MOST = 12
"""rows shown after a sweep, and reasons"""


def settings(console: Console, wanted: Plan, store: str, where: str, shard: tuple[int, int]) -> None:
    """What was resolved, before the work begins."""
    spec = wanted.spec
    swept = {**spec.fields, **{f"set {path}": own for path, own in spec.numbers.items()}}
    for name, own in (("kernel", [spec.kernel]), *swept.items()):
        text = ", ".join(_value(value) for value in own)
        console.print(f" {name.replace('_', '-'):22} {text}", soft_wrap=True)
    part = f", part {shard[0]} of {shard[1]}" if shard[1] > 1 else ""
    console.print(f" {'points':22} {len(wanted.points):,}{part}, on {where}, kept in {store}", soft_wrap=True)


def swept(
    console: Console,
    wanted: Plan,
    found: Summary,
    rows: Sequence[Row],
    store: str,
    expression: Expression | None,
) -> None:
    """Counts, why points are missing, and of those that are done the Pareto front, or the fastest."""
    console.print(
        f"{found.done:,} of {found.points:,} points done"
        + (f", {found.skipped:,} skipped" if found.skipped else "")
        + (f", {found.failed:,} failed" if found.failed else "")
        + f"; {found.computed:,} computed now"
        + (f", {found.known:,} known before" if found.known else "")
    )
    for reason, count in list(found.reasons.items())[:MOST]:
        console.print(f"  {count:,} x {reason}", style="yellow", soft_wrap=True)
    if len(found.reasons) > MOST:
        console.print(
            f"  and {len(found.reasons) - MOST} more reasons: npusim results {store} --status skipped"
        )
    done = [row for row in rows if row.status == "done"]
    if not done:
        return
    data = rows_of.frame(done)
    front = _front(data, done, expression)
    if front:
        best = rows_of.pareto(front[1], front[0])
        title = f"no other point is better in {' and '.join(_label(name) for name in front[0])}"
    else:
        first = "time_us" if "time_us" in data else "relative_error"
        best, title = rows_of.ordered(data, [first]), f"by {_label(first)}"
    _print(console, title, best, shown(best, rows), MOST)
    _same(console, best)
    if front and len(best) > MOST:
        pareto = f"npusim results {store} --pareto {','.join(front[0])} --top {len(best)}"
        console.print(f"and {len(best) - MOST} more: {pareto}", style="dim", soft_wrap=True)
    console.print(f"all rows: npusim results {store}", style="dim", soft_wrap=True)


def _front(
    data: pd.DataFrame, done: Sequence[Row], expression: Expression | None
) -> tuple[list[str], pd.DataFrame] | None:
    """Columns whose front is shown, and the rows with the cost among them."""
    if expression is not None:
        data = rows_of.with_cost(data, done, expression, rows_of.Machines())
        return (["cost", "time_us"], data) if "time_us" in data else None
    return (["time_us", "relative_error"], data) if {"time_us", "relative_error"} <= {*data} else None


def rows(
    console: Console, store: str, kept: Sequence[Row], found: pd.DataFrame, columns: list[str], top: int
) -> None:
    """The rows of a store that were asked for, `found` among those that it holds."""
    _print(console, f"{store}: {len(found):,} rows", found, columns or shown(found, kept), top)
    if not columns and len(found) > 1:
        _same(console, found)
    if len(found) > top:
        console.print(f"and {len(found) - top:,} more: --top N", style="dim")


def _print(console: Console, title: str, found: pd.DataFrame, names: list[str], top: int) -> None:
    """As many of the columns as there is room for, those that matter most."""
    names = list(names)
    while True:
        right = [n for n, name in enumerate(names) if pd.api.types.is_numeric_dtype(found[name])]
        made = table(title, *(_label(name) for name in names), right=right)
        for _, row in found.head(top).iterrows():
            made.add_row(*(_value(row[name]) for name in names))
        wide = console.measure(made, options=console.options.update(width=10_000)).maximum > console.width
        less = [name for name in reversed(FIGURES) if name in names and name not in FIGURES[:3]]
        if not wide or not less:
            break
        names.remove(less[0])
    console.print(made)


def _same(console: Console, found: pd.DataFrame) -> None:
    """One line on what is the same in all rows."""
    same = {name: found[name].iloc[0] for name in map(str, found) if fixed(found, name)}
    said = [f"{_label(name)} {_value(value)}" for name, value in same.items() if not _missing(value)]
    console.print(f"all: {', '.join(said)}", style="dim", soft_wrap=True)


def _label(name: str) -> str:
    return {
        "time_us": "time us", "relative_error": "rel. error", "worst_relative_error": "worst",
        "snr_db": "SNR dB", "worst_snr_db": "worst SNR", "nonfinite": "not finite",
        "utilisation": "busy", "range": "range",
    }.get(name, name if "." in name else name.replace("_", "-"))  # fmt: skip


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _value(value: Any) -> str:
    value = value.item() if hasattr(value, "item") else value
    if _missing(value):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{int(value)}" if value.is_integer() and abs(value) < 1e15 else f"{value:.4g}"
    if isinstance(value, list | tuple):
        return " ".join(str(part) for part in value)
    return str(value)


def records(found: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows for strict JSON: what is missing, infinite or no number is null."""

    def plain(value: Any) -> Any:
        value = value.item() if hasattr(value, "item") else value
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return [{str(name): plain(value) for name, value in row.items()} for row in found.to_dict("records")]
