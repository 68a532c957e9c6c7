"""What a kernel computes on: its inputs, and the truth that its results are held against.

Every kernel names a *source* of data (`KernelEntry.data`). A source reads --inputs or draws values, and gives
`Data`, which runs a kernel on them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from npusim.execute import Execution
from npusim.graph import Kernel
from npusim.kernels import KernelEntry
from npusim.metrics import Errors
from npusim.problem import Problem
from npusim.settings import NumericsSettings

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Computed:
    """What a kernel gave, and how wrong each of its outputs is, the main one first.

    `outputs`: arrays by name, as --output writes them. The errors were taken on `samples` of the `total`
    pieces of the whole problem; a piece is called `piece`.
    """

    execution: Execution
    errors: Mapping[str, Errors]
    outputs: Mapping[str, Array]
    samples: int
    total: int
    piece: tuple[str, str] = ("item", "items")


class Data(ABC):
    """Inputs of one problem.

    `whole` is the problem as asked, with the sizes of the file where there is one; `sample` is the problem
    whose kernel computes: the whole, or as many of its independent pieces as were asked for.
    """

    whole: Problem

    @property
    @abstractmethod
    def sample(self) -> Problem: ...

    @property
    @abstractmethod
    def origin(self) -> str:
        """Where the values come from, in words."""

    @abstractmethod
    def check(self, kernel: Kernel, computed: bool) -> None:
        """Raise InputError where `kernel`, built for the whole problem, cannot take these inputs, or, if it
        is to be `computed`, where that takes more memory than there is."""

    @abstractmethod
    def check_sample(self, kernel: Kernel) -> None:
        """Raise InputError where `kernel`, built for `sample`, cannot compute it."""

    @abstractmethod
    def compute(self, kernel: Kernel) -> Computed:
        """Execute `kernel`, built for `sample`, and compare its outputs with the truth in float64."""

    def remembering(self) -> Data:
        """The same data, of which several kernels compute once what they have in common, where they can."""
        return self


class Source(Protocol):
    """Where the data of a kind of kernel come from."""

    def read(self, path: str, entry: KernelEntry, problem: Problem, settings: NumericsSettings) -> Data:
        """The data of a file. InputError where it does not hold a problem, or an option contradicts it."""
        ...

    def draw(self, problem: Problem, settings: NumericsSettings) -> Data:
        """Generated data: all where they are written to a file, a sample otherwise. What takes time is left
        until they are computed on."""
        ...


def written(arrays: Mapping[str, Array]) -> str:
    """Names and shapes of arrays: 'T [64, 128, 128]'."""
    return ", ".join(f"{name} {list(np.shape(array))}" for name, array in arrays.items())
