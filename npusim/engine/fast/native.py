"""Machine code of the engine: made by numba once, kept on disk, loaded without numba.

Loading numba takes longer than all else that a short run does. So the object file that it makes is kept under
a name that changes with the code, the compiler and the processor, and is loaded by LLVM alone.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import hashlib
import importlib
import os
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm

from npusim.cache import folder as cache_folder
from npusim.cache import keep
from npusim.errors import InputError
from npusim.program import SAME_TIME

POINTER, INT, FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
COMPILED = ("jit", "layout", "steps", "units", "pools", "period", "kept", "advance")
"""modules that machine code is made of"""


class Function:
    """A function that returns an INT, of a module of this package; compiled or loaded when it is first
    needed."""

    def __init__(self, module: str, name: str, *arguments: Any) -> None:
        self.module, self.name, self.arguments = module, name, arguments

    @functools.cached_property
    def loaded(self) -> Any:
        file = folder() / f"{self.name}-{_processor()}.o"
        symbol, code = _kept(file) or _compiled(file, self.module, self.name)
        self.linker = _linker()  # whose memory the code is in
        self.linker.add_object_file(llvm.ObjectFileRef.from_data(code))
        self.linker.finalize_object()
        # PYFUNCTYPE: the interpreter's lock is held, as Python is called should a compiled function fail
        return ctypes.PYFUNCTYPE(INT, *self.arguments)(self.linker.get_function_address(symbol))

    def __call__(self, *values: Any) -> int:
        return int(self.loaded(*values))


def _kept(file: Path) -> tuple[str, bytes] | None:
    """Symbol and object file, if they were kept and are whole: LLVM does not survive damaged ones."""
    try:
        digest, symbol, code = file.read_bytes().split(b"\n", 2)
    except (OSError, ValueError):
        return None
    return (symbol.decode(), code) if digest == _digest(symbol + code) else None


def _compiled(file: Path, module: str, name: str) -> tuple[str, bytes]:
    """The same, made now, and kept if there is room."""
    _announce()
    symbol, code = getattr(importlib.import_module(f"npusim.engine.fast.{module}"), name)()
    keep(file, b"\n".join([_digest(symbol.encode() + code), symbol.encode(), code]))
    return symbol, code


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


def _linker() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    lock_is_held = ctypes.cast(ctypes.pythonapi.PyErr_Clear, ctypes.c_void_p).value
    for name in ("numba_gil_ensure", "numba_gil_release"):
        llvm.add_symbol(name, lock_is_held)
    machine = llvm.Target.from_default_triple().create_target_machine()
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)


def _processor() -> str:
    """The processor that machine code is made for."""
    features = hashlib.sha256(llvm.get_host_cpu_features().flatten().encode()).hexdigest()[:8]
    return f"{llvm.get_host_cpu_name()}-{features}"


@functools.cache
def folder() -> Path:
    """Where machine code is kept: under NPUSIM_CACHE, or the user's cache folder, or else for the time being.

    InputError where NPUSIM_CACHE is no folder that can be written to.
    """
    known = f"{version('numba')} {version('llvmlite')} {SAME_TIME}"
    digest = hashlib.sha256(known.encode())
    for module in COMPILED:
        digest.update((Path(__file__).parent / f"{module}.py").read_bytes())
    found = cache_folder()
    if found and _writable(kept := found / f"engine-{digest.hexdigest()[:16]}"):
        return kept
    if asked := os.environ.get("NPUSIM_CACHE"):
        raise InputError(
            f"NPUSIM_CACHE: {asked} is no folder that can be written to; name another or unset it"
        )
    return _temporary()


def _temporary() -> Path:
    made = Path(tempfile.mkdtemp(prefix="npusim-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def _writable(place: Path) -> bool:
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(place, os.W_OK)


@functools.cache
def _announce() -> None:
    """Say once that there is machine code to be made."""
    print(
        "npusim: compiling the fast engine, once for this version: half a minute", file=sys.stderr, flush=True
    )
