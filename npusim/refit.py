"""A profile with some of its numbers fitted: the file's own text, in which nothing else changes."""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from npusim.errors import InputError, ProfileError
from npusim.files import check_target, replacing
from npusim.machine import Evidence, Machine, Quantity, override, quantities
from npusim.profile_edits import Edit, Leaf, applied, edits_of, replaced, without
from npusim.profiles import (
    SUFFIXES,
    base_of,
    diff,
    find,
    load_machine,
    machine_of,
    profile_names,
    shown,
    text_of,
)
from npusim.yaml_files import Piece, layout

SOURCE = "calibration"
"""key under which `sources` cites the measurements"""

_REMARK = r"; \d+ numbers? fitted on [\d-]+$"


@dataclass(frozen=True)
class Fitted:
    """A fitted value: to which rows of the measurements, and how uncertain where that is known."""

    value: float
    rows: tuple[int, ...]
    standard_error: float | None = None


def refit(
    profile: str,
    fitted: Mapping[str, Fitted],
    citation: str,
    date: datetime.date,
    target: str | os.PathLike[str],
) -> str:
    """The text of a profile `target`: that of `profile`, with the numbers at `fitted`'s paths replaced.

    Comments, order and layout stay. A replaced number keeps its note and, beside its value, what the
    documents say; `sources` cites the measurements by `citation`. A number that the file takes over from
    another, or leaves out, is added where the model has it. The new file has its own name, and no SoC.
    Raises ProfileError for an unknown path, a value out of range, and a file that cannot be rewritten.
    """
    machine, file, target = load_machine(profile), find(profile), Path(target)
    text = re.sub("\r\n?", "\n", text_of(file))
    text += "" if text.endswith("\n") else "\n"
    changed = override(machine, {path: one.value for path, one in fitted.items()})
    key = _source_key(machine, citation)
    old, wanted = quantities(machine), quantities(changed)
    numbers = {
        path: _number(number, old.get(path), fitted[path], key, date)
        for path, number in wanted.items()
        if path in fitted
    }

    root = layout(text, shown(file))
    sections: dict[str, Leaf] = {"sources": {key: citation}}
    for path, number in numbers.items():
        _put(sections, path.split("."), number)
    count = f"{len(numbers)} number{'s' if len(numbers) > 1 else ''}"
    elsewhere = os.path.realpath(str(file)) != os.path.realpath(target)
    if elsewhere and machine.name in profile_names():
        sections["device"] = machine.name
    edits = _identity(text, root, machine, file, target, f"{count} fitted on {date}")
    edits += edits_of(text, root, sections, changed)
    result = applied(text, edits)
    _verify(shown(file), machine, numbers, result, target)
    return result


def _verify(name: str, machine: Machine, numbers: dict[str, Quantity[Any]], text: str, target: Path) -> None:
    """ProfileError unless `text` is `machine` with `numbers`: YAML has more layouts than are edited well."""
    try:
        after = machine_of(text, target)
    except ProfileError as error:
        raise ProfileError(f"{name}: cannot be rewritten as {target}: {error}") from None
    others = [row.path for row in diff(machine, after) if row.path not in numbers]
    if others or quantities(after) != quantities(machine) | numbers:
        place = others[0] if others else "the provenance of other numbers"
        raise ProfileError(f"{name}: cannot be rewritten without a change of {place}; write out its section")


def check_output(path: str | os.PathLike[str], force: bool) -> None:
    """InputError where a profile may not be written to `path`; without `force`, where there is a file."""
    if not str(path).endswith(SUFFIXES):
        raise InputError(f"{path}: a profile is found by the suffix .yaml; name it so")
    if check_target(path).exists() and not force:
        raise InputError(f"{path}: exists; name another, or replace it with --force")


def write_profile(path: str | os.PathLike[str], text: str, force: bool = False) -> None:
    """Write a profile, whole or not at all; InputError as `check_output` says."""
    check_output(path, force)
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


# --- what is written -------------------------------------------------------------------------


def _source_key(machine: Machine, citation: str) -> str:
    """A key of `sources` that stands for `citation` or is free: earlier fits keep theirs."""
    key, count = SOURCE, 1
    while machine.sources.get(key, citation) != citation:
        count += 1
        key = f"{SOURCE}_{count}"
    return key


def _number(
    new: Quantity[Any], old: Quantity[Any] | None, fitted: Fitted, source: str, date: datetime.date
) -> Quantity[Any]:
    """A fitted number with its provenance, and what the profile says of it so far."""
    fit = {"rows": ranges(fitted.rows), "date": date, "standard_error": fitted.standard_error}
    data = {"value": new.value, "source": source, "evidence": Evidence.fitted, "fitted": fit}
    if old is not None:
        known = old.evidence in (Evidence.documented, Evidence.measured)
        documented = (old.value, old.source) if known else (old.documented, old.documented_by)
        data |= {"documented": documented[0], "documented_by": documented[1], "note": old.note}
    return type(new).model_validate(data)


def ranges(rows: Iterable[int]) -> str:
    """Row numbers as people list them: '14-17, 26'."""
    spans: list[list[int]] = []
    for row in sorted(set(rows)):
        if spans and spans[-1][-1] == row - 1:
            spans[-1][1:] = [row]
        else:
            spans.append([row])
    return ", ".join("-".join(map(str, span)) for span in spans)


def _put(sections: dict[str, Leaf], steps: list[str], leaf: Leaf) -> None:
    for step in steps[:-1]:
        inner = sections.setdefault(step, {})
        assert isinstance(inner, dict)
        sections = inner
    sections[steps[-1]] = leaf


def _identity(
    text: str, root: Piece, machine: Machine, file: Traversable, target: Path, remark: str
) -> list[Edit]:
    """What the new file says of itself: two machines never share a name or a SoC."""
    new = {"description": f"{re.sub(_REMARK, '', machine.description)}; {remark}"}
    edits = []
    if os.path.realpath(str(file)) != os.path.realpath(target):
        new["name"] = target.stem
        if machine.extends:
            new["extends"] = _base_from(file, machine.extends, target)
        if "soc" in root.entries:
            edits.append(without(text, root.entries["soc"]))
    here = {key: root.entries[key] for key in new if key in root.entries}
    return edits + [replaced(text, entry, new[key], root.flow) for key, entry in here.items()]


def _base_from(file: Traversable, base: str, target: Path) -> str:
    """`extends: base` of `file` as `target`, perhaps in another folder, has to write it."""
    found = base_of(file, base)
    if base in profile_names() or not isinstance(found, Path) or os.path.isabs(base):
        return base
    here, there = (os.path.realpath(one.parent) for one in (target, Path(str(file))))
    return base if here == there else Path(os.path.relpath(os.path.realpath(found), here)).as_posix()
