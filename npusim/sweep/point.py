"""One point of a sweep, and the key that stands for all that its result depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

from npusim.errors import InputError
from npusim.kernels import KernelEntry
from npusim.machine import Machine
from npusim.problem import Options, Problem
from npusim.settings import EngineSettings, MachineSettings, NumericsSettings
from npusim.user_kernel import Files

PACKAGES = ("npusim", "algorithms")
"""packages whose code results depend on"""
APART = ("cli", "validation", "calibration", "measurements")
"""parts of npusim that they do not depend on"""
LIBRARIES = ("numpy", "ml_dtypes")


@dataclass(frozen=True)
class Stamp:
    """Digests of what stands outside of the settings of points: the code, the user's own kernel files,
    machines, and files of inputs by path. A worker that finds others there refuses."""

    code: str
    files: Mapping[str, str]
    machines: Mapping[MachineSettings, str]
    inputs: Mapping[str, str]


@dataclass(frozen=True)
class Point:
    """The settings of a run. Hashable, and small enough to be sent to a worker."""

    problem: Problem
    options: Options
    machine: MachineSettings
    numerics: NumericsSettings
    engine: EngineSettings

    def settings(self, entry: KernelEntry) -> dict[str, Any]:
        """What it was asked, by the names of options: sizes that count, options that were given, and of the
        rest what is not the default."""
        found = entry.sizes_json(self.problem)
        found |= self.options.model_dump(mode="json", exclude_none=True)
        found["profile"] = self.machine.profile
        found |= self.machine.model_dump(mode="json", exclude_defaults=True, exclude={"set", "profile"})
        for text in self.machine.set:
            path, _, value = text.partition("=")
            found[f"set.{path}"] = float(value)
        drawn = {"samples", "seed", "key_correlation", "gates", "inputs"} if self.numerics.numerics else set()
        found |= self.numerics.model_dump(
            mode="json", exclude_none=True, include=drawn - self._of_file, exclude_defaults=False
        )
        found |= self.numerics.model_dump(mode="json", exclude_defaults=True, include={"timing", "numerics"})
        return found | self.engine.model_dump(
            mode="json", exclude_defaults=True, include={"engine", "exact", "tolerance"}
        )

    @property
    def _of_file(self) -> set[str]:
        """What says nothing beside a file of inputs."""
        return {"gates"} if self.numerics.inputs else set()

    @cached_property
    def data(self) -> str:
        """What stands for the data that it computes on."""
        return self.problem.model_dump_json() + self.numerics.model_dump_json()

    def key(self, entry: KernelEntry, stamp: Stamp) -> str:
        """A digest of all that the result depends on."""
        machine, inputs = stamp.machines[self.machine], list[str]()
        if self.numerics.inputs:  # beside a file it matters what was given, be it the default
            given = sorted(self.problem.model_fields_set | self.numerics.model_fields_set)
            inputs = [stamp.inputs[self.numerics.inputs], *given]
        return digest(entry.name, self.settings(entry), machine, stamp.code, own_digest(stamp.files), inputs)


def digest(*parts: object) -> str:
    """128 bits of the SHA-256 of parts that JSON can hold."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def machine_digest(machine: Machine) -> str:
    """A digest of every number of a machine and of where it comes from."""
    return digest(machine.model_dump_json())


@lru_cache
def code_digest() -> str:
    """A digest of the code that results depend on, and of the libraries that compute."""
    found: list[object] = [f"{library} {version(library)}" for library in LIBRARIES]
    for package in PACKAGES:
        root = Path(str(resources.files(package)))
        for file in sorted(root.rglob("*.py")):
            name = file.relative_to(root)
            if name.parts[0] not in APART:
                found += [f"{package}/{name.as_posix()}", hashlib.sha256(file.read_bytes()).hexdigest()]
    return digest(*found)


def file_digest(path: str) -> str:
    """A digest of the bytes of a file. InputError where it cannot be read."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None


def own_files(files: Files) -> dict[str, str]:
    """Digests by path of a user's own kernel files and of what they import from beside them."""
    modules = [module for file in files.values() for module in file.modules.values()]
    known = [str(module.__file__) for module in modules if getattr(module, "__file__", None)]
    return {path: file_digest(path) for path in sorted({str(Path(one).resolve()) for one in known})}


def own_digest(own: Mapping[str, str]) -> str:
    """A digest of a user's own kernel files, wherever they lie; '' of none."""
    return digest(*sorted(own.values())) if own else ""


def skip_key(kernel: str, settings: Mapping[str, Any], stamp: Stamp) -> str:
    """The key of a combination that is no point."""
    return digest(
        "skipped", kernel, {k: str(v) for k, v in settings.items()}, stamp.code, own_digest(stamp.files)
    )
