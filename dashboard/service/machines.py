"""Machines as a person changes them: numbers, paths and ideals, and the profile that keeps the changes."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from npusim.errors import InputError, ProfileError, did_you_mean
from npusim.ideals import IDEALS, idealise
from npusim.machine import LEVELS, Machine, Quantity, override, quantities, validate
from npusim.machine import Path as Route
from npusim.problem import Target
from npusim.profiles import SUFFIXES, extended, find, load_machine, profile_names
from npusim.refit import write_profile
from npusim.settings import MachineSettings, assignments
from npusim.units import unit_of
from npusim.yaml_files import dump

SAVED = "set in the dashboard"
"""the source of a number that was changed by hand"""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
"""what a saved profile may be called: no path leads out of the folder"""
Stamp = tuple[tuple[str, int], ...]
"""names and times of change of profiles"""


@dataclass(frozen=True)
class Number:
    """A number of a machine with its provenance, as it is changed by hand. `was`: its value in the profile,
    None where the profile has no such number."""

    path: str
    group: str
    value: float
    was: float | None
    unit: str
    evidence: str
    source: str
    changed: bool


@dataclass(frozen=True)
class Way:
    """A path between two levels that may be there or not. `own`: the profile has it."""

    key: str
    title: str
    own: bool
    on: bool
    donor: str
    """the profile whose numbers it takes, where this one has it not"""


@dataclass(frozen=True)
class Setup:
    """A machine as it was asked for: a profile's settings, and paths that are added (+) or taken away."""

    settings: MachineSettings
    paths: tuple[str, ...] = ()

    def machine(self) -> Machine:
        """The profile with its paths, then numbers and ideals, as the command line does it. InputError for
        what cannot be."""
        base = load_machine(self.settings.profile)
        plain = self.settings.model_copy(update={"set": (), "ideal": None})
        machine = with_paths(plain.machine(), self.paths, base.name) if self.paths else plain.machine()
        try:
            if self.settings.set:
                machine = override(machine, assignments(self.settings.set), source=SAVED)
        except ProfileError as error:
            raise InputError(f"--set: {error}") from None
        return idealise(machine, self.settings.ideal.split(",")) if self.settings.ideal else machine


def stamp(profile: str) -> Stamp:
    """Changes when the file of a profile does, or one that it extends; () of a shipped one."""
    found: dict[str, int] = {}
    while (file := of_file(Path(profile))) and profile not in found:
        found[profile] = file.st_mtime_ns
        profile = _extended(profile, file.st_mtime_ns)
    return tuple(found.items())


def of_file(path: Path) -> os.stat_result | None:
    """What the system says of a file; None where there is none, or no longer."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found if stat.S_ISREG(found.st_mode) else None


@lru_cache(maxsize=256)
def _extended(file: str, changed: int) -> str:
    """The file that a profile extends, as it is since it changed; '' where there is none."""
    try:
        return str(extended(Path(file)) or "")
    except ProfileError:  # which is said when the machine is asked for
        return ""


# --- paths -------------------------------------------------------------------------------------


@cache
def _donors() -> dict[str, tuple[str, Route]]:
    """By path key a shipped profile that has the path, and its numbers."""
    found: dict[str, tuple[str, Route]] = {}
    for name in sorted(profile_names(), key=lambda name: (name != "ascend-950pr-9599", name == "toy", name)):
        for key, route in load_machine(name).paths.items():
            found.setdefault(key, (name, route))
    return found


def ways(machine: Machine, own: Machine) -> list[Way]:
    """Paths that `own`, a profile, has or could have inside its cores; which of them `machine` has."""
    donors = _donors()
    keys = [key for key in donors if "gm" not in key.split("_") and donors[key][1].unit in own.units]
    keys += [key for key in own.paths if "gm" not in key.split("_") and key not in keys]
    order = {level.lower(): number for number, level in enumerate(LEVELS)}

    def way(key: str) -> Way:
        start, end = key.upper().split("_")
        donor = "" if key in own.paths else donors[key][0]
        return Way(key, f"{start} → {end}", key in own.paths, key in machine.paths, donor)

    return [way(key) for key in sorted(keys, key=lambda key: [order[end] for end in key.split("_")])]


def with_paths(machine: Machine, paths: tuple[str, ...], name: str) -> Machine:
    """The machine with paths added, their numbers borrowed from a profile that has them and marked as
    assumed, and those called -KEY taken away. InputError for a path that there is not."""
    data = machine.model_dump()
    for text in paths:
        key = text.removeprefix("-")
        if text.startswith("-"):
            if key not in data["paths"]:
                raise InputError(f"paths: {name} has no {key}; {did_you_mean(key, data['paths'])}")
            del data["paths"][key]
        elif key in data["paths"]:
            raise InputError(f"paths: {name} has {key} already; drop it")
        elif key not in _donors():
            raise InputError(f"paths: no profile has {key}; {did_you_mean(key, _donors())}")
        else:
            data["paths"][key] = _borrowed(key)
    return validate(data, machine.name)


def _borrowed(key: str) -> dict[str, Any]:
    donor, route = _donors()[key]
    said = {"source": f"as in {donor}", "evidence": "assumed"}

    def plain(value: Any) -> Any:
        """A number with its value alone; of numbers by name (quantise_cycles) each."""
        if not isinstance(value, dict):
            return value
        if "value" in value:
            return {"value": value["value"], **said}
        return {name: plain(own) for name, own in value.items()}

    return {name: plain(value) for name, value in route.model_dump(exclude_none=True).items()}


# --- numbers -----------------------------------------------------------------------------------


def numbers(machine: Machine, own: Machine, changed: tuple[str, ...]) -> list[Number]:
    """Every number of the machine; `own` is its profile as it stands in its file, `changed` the paths that
    were set by hand."""
    before = quantities(own)

    def number(path: str, found: Quantity[Any]) -> Number:
        was = before.get(path)
        source = machine.sources.get(found.source, found.source)
        note = f" — {found.note}" if found.note else ""
        return Number(
            path, _group(path), found.value, None if was is None else was.value, unit_of(path),
            str(found.evidence), source + note, path in changed,
        )  # fmt: skip

    return [number(path, found) for path, found in quantities(machine).items()]


def _group(path: str) -> str:
    """'core.vector.functions.add' of core.vector.functions.add.latency_cycles, at most three steps."""
    return ".".join(path.split(".")[:-1][:3]) or "machine"


def ideals() -> tuple[str, ...]:
    """The mechanisms that can be imagined away."""
    return tuple(IDEALS)


# --- profiles ----------------------------------------------------------------------------------


def profiles(folder: Path) -> list[str]:
    """The built-in profiles, and the files of profiles in the folder."""
    own = sorted(file.name for file in folder.iterdir() if file.suffix in SUFFIXES and file.is_file())
    return [*profile_names(), *(name for name in own if _is_profile(folder / name))]


@lru_cache(maxsize=256)
def _readable(path: str, as_it_is: Stamp) -> bool:
    try:
        load_machine(path)
    except ProfileError:
        return False
    return True


def _is_profile(file: Path) -> bool:
    return _readable(str(file), stamp(str(file)))


def place(profile: str, folder: Path) -> str:
    """What a link's profile means: a built-in name, an SoC, or a file of the folder and of no other."""
    if profile.endswith(SUFFIXES) or "/" in profile or "\\" in profile:
        if not NAME.fullmatch(profile):
            raise InputError(
                f"--profile: {profile}: only profiles in the working folder are opened; copy it there"
            )
        return str(folder / profile)
    if find(profile) == Path(profile):
        raise InputError(f"--profile: {profile} is no profile; a file's name ends in .yaml")
    return profile


def save(setup: Setup, name: str, folder: Path) -> Path:
    """Write the machine, without its ideals, as a profile NAME.yaml into the folder, and give its path.

    It extends the profile that was changed, and holds the changes alone. InputError for a name that leads
    elsewhere or is taken, and where nothing was changed.
    """
    target = target_of(name, folder)
    own = load_machine(setup.settings.profile)
    made = Setup(setup.settings.model_copy(update={"ideal": None, "evidence": "all"}), setup.paths).machine()
    write_profile(target, _text(target.stem, own, made, setup))
    return target


def target_of(name: str, folder: Path) -> Path:
    """The file of a profile that is saved under a name. InputError for one that leads elsewhere, or is that
    of a built-in profile."""
    stem = name.strip().removesuffix(".yaml")
    if not NAME.fullmatch(stem):
        raise InputError(f"save as: {name!r} is no plain name; use letters, digits, '.', '_' and '-'")
    if stem in profile_names():
        raise InputError(f"save as: {stem} is a built-in profile; choose another name")
    return folder / f"{stem}.yaml"


def _text(stem: str, own: Machine, made: Machine, setup: Setup) -> str:
    """The changes as YAML."""
    before, after = quantities(own), quantities(made)
    changes = {path: new for path, new in after.items() if before.get(path) != new}
    gone = [key for key in own.paths if key not in made.paths]
    if not (changes or gone):
        raise InputError("save as: nothing differs from the profile; change a number or a path first")
    base = setup.settings.profile
    count = len(changes) + len(gone)
    data: dict[str, Any] = {
        "name": stem,
        "description": f"{own.name} with {count} change{'s' if count > 1 else ''} made in the dashboard",
        "extends": Path(base).name if base.endswith(SUFFIXES) else own.name,
    }
    for path, number in changes.items():
        _put(data, path.split("."), number.model_dump(exclude_none=True))
    for key in made.paths.keys() - own.paths.keys():
        route = made.paths[key]
        data["paths"][key] |= {"unit": route.unit, "charges": route.charges}
    text = dump(data)
    if not gone:
        return text
    removed = "".join(f"  {key}: null\n" for key in gone)
    if "paths" in data:
        return text.replace("\npaths:\n", f"\npaths:\n{removed}", 1)
    return f"{text}paths:\n{removed}"


def _put(data: dict[str, Any], steps: list[str], leaf: dict[str, Any]) -> None:
    for step in steps[:-1]:
        data = data.setdefault(step, {})
    data[steps[-1]] = leaf


def seen(machine: Machine) -> str:
    """What an algorithm sees of a machine, as a key: machines alike in it build the same kernels."""
    return repr(Target.of(machine))
