"""In how many threads numpy multiplies.

The products here are of tiles: more threads than one only wait for each other, and where other processes have
the cores they take ten times as long. Whoever sets the variables has what they say.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def one_thread() -> list[str]:
    """In this process, unless numpy is loaded already, and in those that it starts; the variables set."""
    added = [name for name in VARIABLES if name not in os.environ]
    os.environ.update(dict.fromkeys(added, "1"))
    return added


@contextlib.contextmanager
def one_thread_each() -> Iterator[None]:
    """In the processes that start meanwhile."""
    added = one_thread()
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
