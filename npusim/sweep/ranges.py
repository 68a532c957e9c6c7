"""Lists and ranges of values as a command line or a YAML file gives them: 16,32,64 and 2:6 and 0:1:0.25."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from decimal import Decimal, InvalidOperation, Overflow
from typing import Any

from npusim.errors import InputError

MOST = 100_000
"""values of one field at most"""


def values(name: str, given: object, splits: bool = True, ranges: bool = True) -> list[Any]:
    """The values that `given` stands for: a list of some, a text of several, or one alone.

    In a text commas separate values (where it `splits`), and FIRST:LAST or FIRST:LAST:STEP are numbers, both
    ends included (where there are `ranges`). InputError, with `name`, for a range that is none or empty, for
    an empty list, for a list or a map within it, for a value that is given twice, and for too many.
    """
    listed = list(given) if isinstance(given, list | tuple) else [given]
    found: list[Any] = []
    for one in listed:
        if nested(one):
            raise InputError(f"{name}: a list or a map is no value; write one list of numbers and words")
        parts = one.split(",") if splits and isinstance(one, str) else [one]
        for part in parts:
            found += _span(name, part.strip(), ranges) if isinstance(part, str) else [part]
        if len(found) > MOST:
            raise InputError(f"{name}: has more than {MOST:,} values; give fewer")
    if not found:
        raise InputError(f"{name}: has no values; give one at least, or leave it out")
    for text, count in Counter(map(str, found)).items():
        if count > 1:
            raise InputError(f"{name}: {text} is given twice; keep one")
    return found


def nested(value: object) -> bool:
    """Whether a value holds others, and is not to be written out: a few lines of YAML with aliases stand for
    more than memory holds."""
    return isinstance(value, Collection) and not isinstance(value, str | bytes)


def _span(name: str, text: str, ranges: bool) -> Iterable[Any]:
    if not text:
        raise InputError(f"{name}: a value is empty; separate values by one comma")
    if not ranges or ":" not in text:
        return [text]
    form = f"{name}: {text!r} is no range; write FIRST:LAST or FIRST:LAST:STEP, both ends included"
    try:
        numbers = [Decimal(part.strip()) for part in text.split(":")]
    except InvalidOperation:
        raise InputError(form) from None
    if len(numbers) not in (2, 3) or not all(number.is_finite() for number in numbers):
        raise InputError(form)
    first, last = numbers[:2]
    step = numbers[2] if len(numbers) == 3 else Decimal(1)
    if step <= 0 or last < first:
        raise InputError(f"{name}: range {text} is empty; its LAST must be at least FIRST, its STEP positive")
    try:
        steps = (last - first) / step
    except Overflow:
        steps = Decimal("Infinity")
    if steps >= MOST:
        raise InputError(f"{name}: range {text} has more than {MOST:,} values; make STEP larger")
    return [str(first + step * number) for number in range(int(steps) + 1)]
