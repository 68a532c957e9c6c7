"""The user's cache: what takes long to make, under names that change with all that it is made of."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def folder() -> Path | None:
    """NPUSIM_CACHE, or npusim in the user's cache folder, which need not be there; None for nobody's process,
    which has no home."""
    if asked := os.environ.get("NPUSIM_CACHE"):
        return Path(asked)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "npusim"
    except RuntimeError:
        return None


def keep(file: Path, data: bytes) -> None:
    """Write a file whole or not at all: where there is no room, it will be made again."""
    partial = file.with_suffix(f".{os.getpid()}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
        partial.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
