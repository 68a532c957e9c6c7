"""Arguments of the builder, held against what they must be where they are given, not where they fail."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

from npusim.errors import GraphError, did_you_mean


def wrong(message: str) -> GraphError:
    return GraphError("argument", message)


def whole(what: str, value: Any, least: int | None = None) -> int:
    """`value` as an int, numpy's included. GraphError if it is no whole number, or less than `least`."""
    wanted = "a whole number" + ("" if least is None else f" >= {least}")
    try:
        number = operator.index(value)
    except TypeError:
        raise wrong(f"{what} must be {wanted}, got {value!r}") from None
    if least is not None and number < least:
        raise wrong(f"{what} must be {wanted}, got {number}")
    return number


def sizes(what: str, shape: Any, axes: int | None = None) -> tuple[int, ...]:
    """A shape of whole numbers >= 1: just so many `axes`, or two at least."""
    form = "(rows, cols)" if axes == 2 else "(.., rows, cols)"
    if not isinstance(shape, Sequence) or (len(shape) != axes if axes else len(shape) < 2):
        raise wrong(f"the shape of {what} must be {form}, got {shape!r}")
    return tuple(whole(f"each size of {what}", size, 1) for size in shape)


def positive(what: str, value: Any) -> float:
    """A positive, finite number."""
    number = float(value) if isinstance(value, Real) else 0.0
    if not 0 < number < math.inf:
        raise wrong(f"{what} must be a positive number, got {value!r}")
    return number


def one_of(rule: str, what: str, name: Any, known: Iterable[str]) -> None:
    """GraphError of `rule` where `name` is none of the known ones, with the nearest."""
    names = list(known)
    if name not in names:
        raise GraphError(rule, f"{what} {name!r}; {did_you_mean(str(name), names)}")
