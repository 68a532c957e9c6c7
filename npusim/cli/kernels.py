"""Kernels and algorithms as the command line names them: built in, or a user's own FILE.py:FUNCTION."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from npusim.errors import InputError

if TYPE_CHECKING:
    from npusim.kernels import KernelEntry

REGISTRY = "algorithms:REGISTRY"
"""the built-in kernels, as other processes find them"""


def find_kernel(name: str, algorithm: str | None = None) -> KernelEntry:
    """The one kernel that `run` and `show` are to build, with `algorithm` where that is the user's own.

    InputError, with the nearest name, for an unknown one, and for several functions to choose from.
    """
    from npusim.registry import load_registry

    entry = find_kernels(name, [algorithm] if algorithm else [])
    if algorithm is None and name not in load_registry(REGISTRY) and len(entry.algorithms) > 1:
        listed = ", ".join(entry.algorithms)
        raise InputError(
            f"{name}: one function is built at a time, not {listed}; npusim compare takes several"
        )
    return entry


def find_kernels(name: str, algorithms: Iterable[str] = ()) -> KernelEntry:
    """The kernel called `name`, and those of `algorithms` that are FILE.py:FUNCTION among its own."""
    from npusim import registry

    return registry.find_kernels(registry.load_registry(REGISTRY), name, algorithms)
