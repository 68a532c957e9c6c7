"""Kernels by name: those of a registry, and a user's own FILE.py:FUNCTION.

A registry is found by 'module:attribute', by which another process finds it, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING

from npusim.errors import InputError, did_you_mean
from npusim.kernels import KernelEntry

if TYPE_CHECKING:
    from npusim.user_kernel import Files

Registry = Mapping[str, KernelEntry]


@lru_cache
def load_registry(name: str) -> Registry:
    """The registry at 'module:attribute'."""
    module, _, attribute = name.partition(":")
    found: Registry = getattr(import_module(module), attribute)
    return found


def find_kernels(
    registry: Registry, name: str, algorithms: Iterable[str] = (), files: Files | None = None
) -> KernelEntry:
    """The kernel called `name`, and those of `algorithms` that are FILE.py:FUNCTION among its own.

    `files`: receives the files that were loaded. InputError, with the nearest name, for an unknown one.
    """
    from npusim.user_kernel import is_own, own_algorithm, own_kernel

    files = {} if files is None else files
    if name not in registry and not is_own(name):
        raise InputError(f"no kernel {name!r}; {did_you_mean(name, registry)}")
    entry = registry[name] if name in registry else own_kernel(name, files)
    own = {
        choice: own_algorithm(choice, files)
        for choice in algorithms
        if is_own(choice) and choice.partition(":")[0] not in entry.algorithms  # else ALGORITHM:VARIANT
    }
    return replace(entry, algorithms={**entry.algorithms, **own}) if own else entry
