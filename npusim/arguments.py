"""Arguments of the builder, held against what they must be where they are given, not where they fail."""

from __future__ import annotations

import math
import operator
import re
import sys
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from npusim.errors import GraphError, did_you_mean

LARGEST = 2**40
"""what any whole number may be at most: far beyond every problem, and products of two are still numbers"""

MOST = sys.float_info.max


def wrong(message: str) -> GraphError:
    return GraphError("argument", message)


def whole(what: str, value: Any, least: int | None = None) -> int:
    """`value` as an int, numpy's included. GraphError if it is no whole number, less than `least` or huge."""
    wanted = "a whole number" + ("" if least is None else f" >= {least}")
    try:
        number = operator.index(value)
    except TypeError:
        raise wrong(f"{what} must be {wanted}, got {value!r}") from None
    if least is not None and number < least:
        raise wrong(f"{what} must be {wanted}, got {number}")
    if abs(number) > LARGEST:
        raise wrong(f"{what} must be a whole number <= 2^40, got {number}")
    return number


def text(what: str, value: Any, empty: bool = False) -> str:
    """A text; an `empty` one only where that is said."""
    if not isinstance(value, str) or not (value or empty):
        raise wrong(f"{what} must be text, got {value!r}")
    return value


def _plain(value: Any) -> Any:
    """A number of numpy as Python's own: small formats of numpy cannot be compared with large limits."""
    return value.item() if isinstance(value, np.generic) else value


def finite(what: str, value: Any) -> float:
    """A finite number, as it was given."""
    real = isinstance(value, Real)
    if not (real and -MOST <= _plain(value) <= MOST):  # false for NaN
        raise wrong(f"{what} must be a finite number, got {value!r}")
    return value  # type: ignore[no-any-return]


def matrix(what: str, values: Any) -> npt.NDArray[np.float64]:
    """Finite numbers [rows, cols]; a row of them, or one alone, is a matrix of one row."""
    try:
        if np.iscomplexobj(values):  # numpy drops what is imaginary, and only warns
            raise TypeError
        array = np.atleast_2d(np.array(values, dtype=np.float64))
    except (TypeError, ValueError):
        raise wrong(f"{what} must be a matrix of numbers, got {values!r}") from None
    if array.ndim != 2 or not array.size:
        raise wrong(f"{what} must be a matrix [rows, cols], got the shape {list(array.shape)}")
    if not np.isfinite(array).all():
        raise wrong(f"{what} must hold finite numbers only; {array[~np.isfinite(array)][0]} is none")
    return array


def table(what: str, counts: Any) -> npt.NDArray[np.int64]:
    """Whole numbers >= 0 in a row, one for each item."""
    array = np.asarray(counts)
    if array.dtype.kind not in "iu":
        raise wrong(f"{what} must hold whole numbers, got {array.dtype}")
    if array.ndim != 1 or not array.size:
        raise wrong(f"{what} must be a row with a count per item, got the shape {list(array.shape)}")
    whole(what, int(array.min()), 0)
    whole(what, int(array.max()))
    return array.astype(np.int64)


def axes_of(axes: Any) -> tuple[tuple[str, int], ...]:
    """The axes of items: names, each with a size, which are none twice."""
    form = "items take a list of axes, [(name, size), ..]"
    pairs = list(axes) if isinstance(axes, Iterable) and not isinstance(axes, str) else []
    if not pairs or not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in pairs):
        raise wrong(f"{form}, got {axes!r}")
    found = tuple((text("the name of an axis", n), whole(f"items of {n!r}", size, 0)) for n, size in pairs)
    names = [name for name, _ in found]
    for name in names:
        if names.count(name) > 1:
            raise wrong(f"two axes of the items are called {name!r}; give each its own name")
        if re.fullmatch(r"i\d+", name):
            raise wrong(f"no axis can be called {name!r}: loops are; give another name")
    total = whole("the number of items", math.prod(size for _, size in found))
    if not total:
        raise GraphError("empty loop", "there are no items to deal; the problem is empty")
    return found


def settings_of(settings: Any) -> dict[str, Any]:
    """What a report can show: by name a text, a bool, a whole or finite number; numpy's become Python's."""
    if not isinstance(settings, dict):
        raise wrong(f"k.settings must stay a dictionary (k.settings.update(..)), got {settings!r}")
    return {text("the name of a setting", name): _shown(name, value) for name, value in settings.items()}


def _shown(name: str, value: Any) -> Any:
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, (str, int)) or (isinstance(plain, float) and math.isfinite(plain)):
        return plain
    raise wrong(f"setting {name} must be text, a finite number or a bool, got {value!r}")


def sizes(what: str, shape: Any, axes: int | None = None) -> tuple[int, ...]:
    """A shape of whole numbers >= 1: just so many `axes`, or two at least."""
    form = "(rows, cols)" if axes == 2 else "(.., rows, cols)"
    if (
        not isinstance(shape, Sequence)
        or isinstance(shape, str)
        or (len(shape) != axes if axes else len(shape) < 2)
    ):
        raise wrong(f"the shape of {what} must be {form}, got {shape!r}")
    return tuple(whole(f"each size of {what}", size, 1) for size in shape)


def positive(what: str, value: Any) -> float:
    """A positive, finite number."""
    real = isinstance(value, Real)
    if not (real and 0 < _plain(value) <= MOST):
        raise wrong(f"{what} must be a positive number, got {value!r}")
    return float(value)


def one_of(rule: str, what: str, name: Any, known: Iterable[str]) -> None:
    """GraphError of `rule` where `name` is none of the known ones, with the nearest."""
    names = list(known)
    if not isinstance(name, str) or name not in names:
        raise GraphError(rule, f"{what} {name!r}; {did_you_mean(str(name), names)}")
