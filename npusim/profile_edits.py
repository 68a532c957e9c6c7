"""Edits of a profile's text: numbers, texts and sections replaced and added, in the shipped profiles' style.

All that is not edited stays as it is, byte by byte: comments, blank lines, order, quotes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby, pairwise
from typing import Any, NamedTuple, TypeAlias

from pydantic import BaseModel

from npusim.machine import Quantity
from npusim.yaml_files import Entry, Piece, quoted, scalar

WIDTH = 110

Leaf: TypeAlias = "str | Quantity[Any] | dict[str, Leaf]"
"""what a key of a profile stands for: a text, a number, or a section"""


class Edit(NamedTuple):
    """`new` takes the place of text[start:end]."""

    start: int
    end: int
    new: str


def edits_of(text: str, piece: Piece, sections: Mapping[str, Leaf], model: Any) -> list[Edit]:
    """What makes the mapping `piece` say all of `sections`, in the order of `model`'s fields or keys."""
    found: list[Edit] = []
    missing: dict[str, Leaf] = {}
    for key, leaf in sections.items():
        entry = piece.entries.get(key)
        if entry is None:
            missing[key] = leaf
        elif isinstance(leaf, dict) and entry.value.entries:
            inner = getattr(model, key) if isinstance(model, BaseModel) else model[key]
            found += edits_of(text, entry.value, leaf, inner)
        else:
            found.append(replaced(text, entry, leaf, piece.flow))
    add = _added_in_flow if piece.flow else _added_in_block
    return found + [
        add(text, piece, after, {key: missing[key] for key in keys})
        for after, keys in groupby(_ordered(missing, model), lambda key: _before(key, piece, model))
    ]


def _ordered(keys: Iterable[str], model: Any) -> list[str]:
    """The keys as the model has them."""
    order = list(type(model).model_fields) if isinstance(model, BaseModel) else list(model)
    return sorted(keys, key=lambda key: order.index(key) if key in order else len(order))


def _before(new: str, piece: Piece, model: Any) -> Entry | None:
    """The last entry of `piece` that the model has before the key `new`."""
    order = _ordered([*piece.entries, new], model)
    earlier = [piece.entries[key] for key in order[: order.index(new)]]
    return max(earlier, key=lambda entry: entry.start, default=None)


def replaced(text: str, entry: Entry, leaf: Leaf, flow: bool) -> Edit:
    """The entry with another value; comments that stood inside the old one go above it."""
    before = text[text.rfind("\n", 0, entry.start) + 1 : entry.start]
    indent = len(before) - len(before.lstrip())
    items = _items(text[entry.start : entry.end], leaf, flow)
    comments = _comments(text, entry)
    if not comments:
        return Edit(entry.start, entry.value.end, _filled(before, items, indent)[len(before) :])
    pad = " " * (indent + 2 * flow)
    lines = "\n".join([*(pad + comment for comment in comments), _filled(pad, items, len(pad))])
    return Edit(entry.start, entry.value.end, f"\n{lines}" if flow else lines[indent:])


def without(text: str, entry: Entry) -> Edit:
    """The entry's lines, down to their comments; within {}, its list emptied."""
    start, stop = text.rfind("\n", 0, entry.start) + 1, text.index("\n", entry.value.end)
    if re.sub("#.*", "", text[start : entry.start] + text[entry.value.end : stop]).strip():
        return Edit(entry.end, entry.value.end, ": []")
    comments = re.findall(r"(?<=\s)#.*", text[entry.end : stop])
    return Edit(start, stop + 1, "".join(f"{comment}\n" for comment in comments))


def _comments(text: str, entry: Entry) -> list[str]:
    """Comments between the entry's key and the end of its value."""
    places = [(entry.end, entry.end), *_scalars(entry.value), (entry.value.end, entry.value.end)]
    return [
        comment for (_, end), (start, _) in pairwise(places) for comment in re.findall("#.*", text[end:start])
    ]


def _scalars(piece: Piece) -> Iterator[tuple[int, int]]:
    """Where the keys and values below a piece stand."""
    if not piece.entries:
        yield piece.start, piece.end
    for entry in piece.entries.values():
        yield entry.start, entry.end
        yield from _scalars(entry.value)


def _added_in_block(text: str, piece: Piece, after: Entry | None, new: Mapping[str, Leaf]) -> Edit:
    """New entries on lines of their own; at the top they stand apart where the file's sections do."""
    first = min(entry.start for entry in piece.entries.values())
    start = text.rfind("\n", 0, first) + 1
    place = start if after is None else text.index("\n", after.value.end) + 1
    apart = "\n" if first == start and "\n\n" in text else ""
    lines = "".join(apart + _block(key, leaf, first - start) for key, leaf in new.items())
    return Edit(place, place, lines + ("" if text[place : place + 1] in ("", "\n") else apart))


def _added_in_flow(text: str, piece: Piece, after: Entry | None, new: Mapping[str, Leaf]) -> Edit:
    """New entries on lines of their own within {}."""
    line = text[text.rfind("\n", 0, piece.start) + 1 : piece.start]
    pad = " " * (len(line) - len(line.lstrip()) + 2)
    lines = ",\n".join(_filled(pad, _items(scalar(key), leaf, True), len(pad)) for key, leaf in new.items())
    if after is None:
        return Edit(piece.start + 1, piece.start + 1, f"\n{lines},\n{pad}")
    return Edit(after.value.end, after.value.end, f",\n{lines}")


def applied(text: str, edits: Iterable[Edit]) -> str:
    """The text with all edits made; what is added at a place comes before what is replaced there."""
    parts, place = [], 0
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        parts += [text[place : edit.start], edit.new]
        place = edit.end
    return "".join([*parts, text[place:]])


# --- how it is written -----------------------------------------------------------------------


def _block(key: str, leaf: Leaf, indent: int) -> str:
    """Lines of an entry in block style, its numbers in flow style."""
    pad = " " * indent
    if isinstance(leaf, dict):
        return f"{pad}{scalar(key)}:\n" + "".join(_block(k, inner, indent + 2) for k, inner in leaf.items())
    return _filled(pad, _items(scalar(key), leaf, False), indent) + "\n"


def _items(key: str, leaf: Leaf, flow: bool) -> list[str]:
    """An entry in flow style as the pieces that its commas part."""
    if isinstance(leaf, str):
        return [f"{key}: {scalar(leaf, flow)}"]
    if isinstance(leaf, Quantity):
        *inner, last = _fields(leaf)
    else:
        *inner, last = (item for k, one in leaf.items() for item in _items(scalar(k), one, True))
    first, *rest = [*inner, f"{last}}}"]
    return [f"{key}: {{{first}", *rest]


def _fields(number: Quantity[Any]) -> Iterator[str]:
    yield f"value: {_written(number.value)}"
    yield f"source: {scalar(number.source)}"
    yield f"evidence: {number.evidence}"
    if number.documented is not None:
        by = "" if number.documented_by is None else f", documented_by: {scalar(number.documented_by)}"
        yield f"documented: {_written(number.documented)}{by}"
    if number.fitted is not None:
        fit = number.fitted.model_dump(exclude_none=True)
        yield f"fitted: {{{', '.join(f'{name}: {_written(value)}' for name, value in fit.items())}}}"
    if number.note is not None:
        yield f"note: {quoted(number.note)}"


def _written(value: object) -> str:
    """A value that reads back the same: texts in quotes, whole numbers without a point."""
    if isinstance(value, str):
        return quoted(value)
    return scalar(int(value) if isinstance(value, float) and value.is_integer() else value)


def _filled(before: str, items: list[str], indent: int) -> str:
    """`before` and the items, parted by commas, on lines of at most WIDTH columns.

    A new line starts with an item where it fits on one, otherwise in place of a single space within: there
    YAML takes a line break for a space, quoted or not.
    """
    lines = [before]
    for count, item in enumerate(items):
        part = item if count == len(items) - 1 else f"{item},"
        glue = " " if count else ""
        if count and len(lines[-1] + glue + part) > WIDTH:
            lines.append(" " * (indent + 2))
            glue = ""
        first, *words = re.split(r"(?<=\S) (?=\S)", part)
        whole = len(lines[-1] + glue + part) <= WIDTH
        lines[-1] += glue + (part if whole else first)
        for word in [] if whole else words:
            if len(lines[-1]) + 1 + len(word) > WIDTH:
                lines.append(" " * (indent + (4 if count else 2)) + word)
            else:
                lines[-1] += f" {word}"
    return "\n".join(lines)
