"""Room in this computer's memory, asked for before it is taken."""

from __future__ import annotations

import os

from npusim.errors import InputError


def check_room(needed_bytes: float) -> None:
    """InputError where so many bytes are more than this computer has (where it can be asked)."""
    try:
        there_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return
    if needed_bytes > there_bytes:
        raise InputError(
            f"to compute this takes about {needed_bytes / 2**30:.3g} GiB of memory, and this computer has "
            f"{there_bytes / 2**30:.3g} GiB; make it smaller, compute a sample (--samples, no --output) or "
            "only time it (--no-numerics)"
        )
