"""The errors over measured rows as they are recorded: `hw_profiles/measurements/accuracy.csv`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import fields

from npusim.validation.expected import GROUP, WHOLE, Entry
from npusim.validation.validate import Row, accuracy


def entries(rows: Iterable[Row]) -> list[Entry]:
    """One per kernel, algorithm and device of the rows that are not apart, and one of all."""
    counted = [row for row in rows if not row.apart]
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in counted:
        measured = row.case.row
        key = (measured.kernel, measured.algorithm or "", row.machine.name)
        groups.setdefault(key, []).append(row)
    return [_entry(GROUP, own, *key) for key, own in sorted(groups.items())] + [_entry(WHOLE, counted)]


def _entry(scope: str, rows: list[Row], kernel: str = "", algorithm: str = "", device: str = "") -> Entry:
    found = accuracy(rows)
    assert found is not None
    chunks = [row.case.row.chunk or 0 for row in rows]
    mape, worst = round(found.mape, 4), round(found.worst, 4)
    if scope == WHOLE:
        return Entry(scope, rows=len(rows), mape=mape, worst=worst)
    return Entry(
        scope, kernel, algorithm, device,
        " ".join(sorted({row.case.row.variant or "" for row in rows})),
        " ".join(sorted({row.case.row.dtype or "" for row in rows})),
        min(chunks), max(chunks), len(rows), mape, worst,
    )  # fmt: skip


def to_csv(known: Sequence[Entry]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(Entry))
    writer.writerows([getattr(one, field.name) for field in fields(Entry)] for one in known)
    return text.getvalue()
