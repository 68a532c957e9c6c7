"""Rows in a few words, and their place, unit and error as people read them."""

from __future__ import annotations

import os
from collections.abc import Sequence

from npusim.measurements.rows import Measurement
from npusim.refit import ranges
from npusim.validation.predict import Case
from npusim.validation.select import Refused
from npusim.validation.validate import Row, kernel_name

CLOCKS = {
    "event": "host events",
    "task_duration": "task duration",
    "core": "core time",
    "not stated": "clock not stated",
}
"""what a row's time counts, in words"""


def named(row: Row) -> str:
    """Kernel and structure."""
    variant = row.case.row.variant
    return f"{kernel_name(row)} {variant}" if variant else kernel_name(row)


def what(row: Row) -> str:
    """Kernel, structure, sizes and dtype."""
    measured = row.case.row
    return ", ".join(part for part in (named(row), sizes(measured), measured.dtype) if part)


def short(row: Row) -> str:
    """The same in few letters: 'gdn-kkt published, chunk 128, 16x4096x16'."""
    size = sizes(row.case.row).replace(" tokens, ", "x").replace(" heads", "").replace(" x ", "x")
    return f"{named(row)}, {size}" if size else named(row)


def sizes(row: Measurement) -> str:
    """As in 'chunk 128, 16 x 4096 tokens, 16 heads' or '1024 x 1024 x 4096, tiles 128 x 256'."""
    parts = [f"chunk {row.chunk}"] if row.chunk else []
    if row.heads:
        tokens = [str(size) for size in (row.batch, row.seq_len) if size]
        parts += [f"{' x '.join(tokens)} tokens"] if tokens else []
        parts.append(f"{row.heads} heads")
    elif row.matrices:
        parts.append(f"{row.matrices} matrices")
    if shape := [str(size) for size in (row.m, row.n, row.k) if size]:
        parts.append(" x ".join(shape))
    if tile := [str(size) for size in (row.tile_m, row.tile_n) if size]:
        parts.append(f"tiles {' x '.join(tile)}")
    return ", ".join(parts)


def of_case(one: Case) -> str:
    """A row that is not predicted yet: its kernel, structure and sizes."""
    row = one.row
    names = [name for name in (row.kernel, row.algorithm, row.variant) if name]
    return ", ".join(part for part in (" ".join(names), sizes(row)) if part)


def device(row: Row) -> str:
    """The profile, and what the source calls the device where that is another name."""
    name, profile = row.case.row.device, row.machine.name
    return profile if not name or name.casefold() == profile.casefold() else f"{profile} for {name}"


def short_places(places: Sequence[str]) -> dict[str, str]:
    """Each 'file:line' as short as it stays clear: the line alone where all are of one file, else without
    the folders that all are in."""
    files = {place: place.rpartition(":")[0] for place in places}
    if len(set(files.values())) <= 1:
        return {place: place.rpartition(":")[2] for place in places}
    shared = os.path.commonpath([os.path.dirname(file) for file in files.values()])
    return {place: place.removeprefix(shared).lstrip(os.sep) for place in places}


def refusals(refused: Sequence[Refused]) -> list[tuple[str, str, str]]:
    """Rows that are not predicted, those of one reason together: their places, their kernels, the reason."""
    shown = short_places([one.place for one in refused])
    groups: dict[str, list[Refused]] = {}
    for one in refused:
        groups.setdefault(one.reason, []).append(one)
    return [
        (
            _listed([shown[one.place] for one in alike]),
            ", ".join(dict.fromkeys(one.kernel for one in alike)),
            reason,
        )
        for reason, alike in groups.items()
    ]


def _listed(places: Sequence[str]) -> str:
    """'2-13, 35', or 'a.csv:2-13, b.csv:7'."""
    files: dict[str, list[int]] = {}
    others = []
    for place in places:
        file, _, line = place.rpartition(":")
        if line.isdigit():
            files.setdefault(file, []).append(int(line))
        else:
            others.append(place)
    found = [f"{file}:{ranges(lines)}" if file else ranges(lines) for file, lines in files.items()]
    return ", ".join([*found, *others])
