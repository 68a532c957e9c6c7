"""Named arrays in .npz files: read, and written whole or not at all."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from npusim.errors import InputError
from npusim.files import replacing

Array = npt.NDArray[Any]


def write_npz(path: str | os.PathLike[str], arrays: Mapping[str, Any]) -> None:
    """Write `arrays` (any shape and numpy dtype) by name to exactly `path`, all or nothing.

    InputError for a place that cannot be written (see `npusim.files.replacing`).
    """
    with replacing(path) as partial, partial.open("wb") as stream:
        np.savez(stream, **arrays)


def read_npz(path: Path) -> dict[str, Array]:
    """All arrays of an .npz file. InputError for whatever is none."""
    if path.is_dir():
        raise InputError(f"{path}: is a folder: name an .npz file in it")
    try:
        with path.open("rb") as stream:  # numpy leaves a file open that it cannot read
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise InputError(f"{path}: holds one array without a name: write it with numpy.savez")
            return {name: _member(path, archive, name) for name in archive.files}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file: check the path") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, EOFError, zipfile.BadZipFile, MemoryError):
        raise InputError(f"{path}: is no .npz file: write one with numpy.savez") from None


def _member(path: Path, archive: Any, name: str) -> Array:
    try:
        array = archive[name]
    except ValueError as error:
        reason = "holds Python objects" if "allow_pickle" in str(error) else f"cannot be read ({error})"
        raise InputError(f"{path}: array {name}: {reason}: store plain numbers") from None
    except (
        OSError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
        MemoryError,
        NotImplementedError,
        RuntimeError,
    ):
        raise InputError(f"{path}: array {name}: is damaged: write the file again") from None
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path}: {name} is not a numpy array: write the file with numpy.savez")
    return array
