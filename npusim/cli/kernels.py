"""Kernels and algorithms as the command line names them: built in, or a user's own FILE.py:FUNCTION."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from npusim.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from npusim.kernels import KernelEntry


def find_kernel(name: str, algorithm: str | None = None) -> KernelEntry:
    """The one kernel that `run` and `show` are to build, with `algorithm` where that is the user's own.

    InputError, with the nearest name, for an unknown one, and for several functions to choose from.
    """
    entry = find_kernels(name, [algorithm] if algorithm else [])
    if algorithm is None and name not in _registry() and len(entry.algorithms) > 1:
        listed = ", ".join(entry.algorithms)
        raise InputError(
            f"{name}: one function is built at a time, not {listed}; npusim compare takes several"
        )
    return entry


def find_kernels(name: str, algorithms: Iterable[str] = ()) -> KernelEntry:
    """The kernel called `name`, and those of `algorithms` that are FILE.py:FUNCTION among its own."""
    from npusim.user_kernel import Files, is_own, own_algorithm, own_kernel

    known, files = _registry(), Files()
    if name not in known and not is_own(name):
        raise InputError(f"no kernel {name!r}; {did_you_mean(name, known)}")
    entry = known[name] if name in known else own_kernel(name, files)
    own = {
        choice: own_algorithm(choice, files)
        for choice in algorithms
        if is_own(choice) and choice.partition(":")[0] not in entry.algorithms  # else ALGORITHM:VARIANT
    }
    return replace(entry, algorithms={**entry.algorithms, **own}) if own else entry


def _registry() -> dict[str, KernelEntry]:
    from algorithms import REGISTRY

    return REGISTRY
