"""Results of operations by what they were computed from, so that executions share them.

Kernels that are alike in their first steps, as those of a sweep over the steps of a correction are, compute
these once. Every version of a tile has a number that stands for its value (value numbering: Cocke and
Schwartz, Programming Languages and Their Compilers, 1970): two of one number are equal bit for bit.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MOST_BYTES = 192 << 20
"""what a memo holds at most, about: the values of one run of a sweep, and few enough for two processes"""


@dataclass(frozen=True)
class Result:
    """What an operation wrote, in the carrier of its dtype, and how many integers saturated."""

    value: Array
    saturated: int = 0

    @cached_property
    def extent(self) -> tuple[float, int]:
        """Largest absolute value that is finite, and how many are inf or NaN."""
        value = self.value
        with np.errstate(all="ignore"):
            largest = float(max(value.max(initial=0.0), -value.min(initial=0.0)))
        if np.isfinite(largest):
            return largest, 0
        finite = np.isfinite(value)
        largest = float(np.abs(value, where=finite, out=np.zeros_like(value)).max())
        return largest, int(value.size - np.count_nonzero(finite))


class Memo:
    """Numbers of values, and the values that were used last, `most` bytes of them at most."""

    def __init__(self, most: int = MOST_BYTES) -> None:
        self.most = most
        self._numbers: dict[Hashable, int] = {}
        self._results: OrderedDict[int, Result] = OrderedDict()
        self._bytes = 0
        self._given: dict[Hashable, Array] = {}

    def number(self, *key: Hashable) -> int:
        """The number of the value that is computed from `key`."""
        return self._numbers.setdefault(key, len(self._numbers))

    def given(self, array: Array) -> int:
        """The number of an array that a caller holds and does not change."""
        place = (array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str)
        self._given.setdefault(place, array)  # kept, so that no other array comes to lie there
        return self.number("given", place)

    def result(self, number: int, compute: Callable[[], Result]) -> Result:
        """That of `number`: kept, or computed now."""
        known = self._results.get(number)
        if known is None:
            known = self._results[number] = compute()
            self._bytes += known.value.nbytes
            while self._bytes > self.most and len(self._results) > 1:
                self._bytes -= self._results.popitem(last=False)[1].value.nbytes
        else:
            self._results.move_to_end(number)
        return known
