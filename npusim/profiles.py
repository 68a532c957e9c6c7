"""Profiles: machines as YAML files, found by name, by SoC name or by path.

A profile may extend another: mappings merge field by field, a number (`{value, source, evidence}`)
is replaced whole, so that no value ever keeps the source of another, and `null` removes an entry.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib import resources
from importlib.metadata import version
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from npusim import cache
from npusim.errors import ProfileError, did_you_mean
from npusim.explain import explain
from npusim.machine import Fit, Machine, Quantity, quantities
from npusim.yaml_files import line_at, parse

PACKAGE = "hw_profiles"
# What a profile does not take over from the one it extends: two machines never share a name.
IDENTITY = ("name", "description", "soc", "device", "extends")
SUFFIXES = (".yaml", ".yml")


def profile_names() -> list[str]:
    """Names of the built-in profiles."""
    return sorted(_builtins())


def load_machine(name_or_path: str | os.PathLike[str]) -> Machine:
    """The machine of a built-in profile's name, a SoC name (any case) or a path to a .yaml file.

    Raises ProfileError, one line that names file, field and remedy.
    """
    wanted = os.fspath(name_or_path)
    file = find(wanted)
    if file in _builtins().values() and not _is_path(wanted):
        return _built_in_machine(file.name.removesuffix(".yaml"))
    return _resolve(_layers(file))


@functools.cache
def _built_in_machine(name: str) -> Machine:
    """The machine of a profile of the package, whose files stay as they are."""
    return _resolve(_layers(_builtins()[name]))


def _is_path(wanted: str) -> bool:
    return wanted.endswith(SUFFIXES) or "/" in wanted or os.sep in wanted


def machine_of(text: str, file: Path) -> Machine:
    """The machine of a profile's text, as if `file` held it. Raises ProfileError like load_machine."""
    return _resolve(_layers(file, text))


def _resolve(layers: list[_Layer]) -> Machine:
    try:
        return Machine.model_validate(_merged(layers))
    except ValidationError as error:
        place, text = explain(error, Machine)
        raise ProfileError(f"{_origin(layers, place)}: {text}") from None


def raw_profile(name_or_path: str | os.PathLike[str]) -> dict[str, Any]:
    """The profile as plain mappings, `extends` merged, not validated."""
    return _merged(_layers(find(os.fspath(name_or_path))))


def check(name_or_path: str | os.PathLike[str]) -> Machine:
    """Like load_machine, and also refuses a source that looks like a misspelt key of `sources`."""
    layers = _layers(find(os.fspath(name_or_path)))
    machine = _resolve(layers)
    for path, number in quantities(machine).items():
        near = did_you_mean(number.source, machine.sources)
        if number.source not in machine.sources and near.startswith("did you mean"):
            file = _origin(layers, tuple(path.split(".")))
            raise ProfileError(f"{file}: {path}.source: {number.source!r} is no key of sources; {near}")
    return machine


# --- finding ---------------------------------------------------------------------------------


@functools.cache
def _builtins() -> dict[str, Traversable]:
    """Files of the installed package by profile name."""
    folder = resources.files(PACKAGE)
    return {f.name.removesuffix(".yaml"): f for f in folder.iterdir() if f.name.endswith(".yaml")}


@functools.cache
def _by_soc() -> dict[str, str]:
    """Profile name by SoC name in lower case (ascend910b2: ascend-910b2)."""
    raw = {name: _read(file) for name, file in _builtins().items()}
    return {str(soc).casefold(): name for name in sorted(raw) for soc in raw[name].get("soc") or ()}


def find(wanted: str) -> Traversable:
    """The file of a profile's name, a SoC name or a path. Raises ProfileError for an unknown name."""
    if _is_path(wanted):
        return Path(os.path.expanduser(wanted))
    name = wanted.casefold()
    if name not in _builtins():
        name = _by_soc().get(name, name)
    if name in _builtins():
        return _builtins()[name]
    if os.path.exists(wanted):
        return Path(wanted)
    near = did_you_mean(name, [*_builtins(), *_by_soc()])
    raise ProfileError(f"{wanted!r}: no such profile or .yaml file; {near}")


def base_of(file: Traversable, base: object) -> Traversable:
    """The file that `extends: base` in `file` means: a path or a sibling from there, or a built-in."""
    if not isinstance(base, str):
        raise ProfileError(f"{shown(file)}: extends: must be a profile's name or file, got {base!r}")
    if base in _builtins():
        return _builtins()[base]
    where = ""
    if isinstance(file, Path):
        beside = file.parent / (base if base.endswith(SUFFIXES) else f"{base}.yaml")
        if os.path.exists(beside):
            return beside
        where = f" and no {beside.name} beside {shown(file)}"
    raise ProfileError(
        f"{shown(file)}: extends: no profile {base!r}{where}; {did_you_mean(base, _builtins())}"
    )


def extended(file: Traversable) -> Traversable | None:
    """The file that a profile extends, None where it extends none. Raises ProfileError like load_machine."""
    base = _read(file).get("extends")
    return None if base is None else base_of(file, base)


def shown(file: Traversable) -> str:
    """A file as messages name it: built-in profiles by name, others by the path that was given."""
    return file.name if file in _builtins().values() else str(file)


# --- reading ---------------------------------------------------------------------------------


def _read(file: Traversable, text: str | None = None) -> Mapping[str, Any]:
    """The mapping that a profile file holds, or will hold once `text` is written to it."""
    if text is None and file in _builtins().values():
        data = _built_in(text_of(file), shown(file))
    else:
        data = parse(text_of(file) if text is None else text, shown(file))
    if not isinstance(data, Mapping):
        what = "is empty" if data is None else f"holds a {type(data).__name__}, not fields"
        raise ProfileError(f"{shown(file)}: {what}; a profile starts with 'name: ...' or 'extends: ...'")
    return data


def _built_in(text: str, name: str) -> Any:
    """What a profile of the package holds. To parse it takes longer than all else: what came of it is kept
    as JSON, under a digest of the text."""
    folder = cache.folder()
    if folder is None:
        return parse(text, name)
    digest = sha256(f"{version('ruamel.yaml')}\n{text}".encode()).hexdigest()
    kept = folder / f"profile-{digest[:32]}.json"
    try:
        return json.loads(kept.read_bytes())
    except (OSError, ValueError):
        data = parse(text, name)
        cache.keep(kept, json.dumps(data, default=str).encode())
        return data


def read_yaml(file: Traversable) -> Any:
    """Parse a YAML 1.2 file; duplicate keys are errors. Raises ProfileError naming file and line."""
    return parse(text_of(file), shown(file))


def line_of(file: Traversable, place: Sequence[str]) -> int:
    """The line of what stands at `place` in a YAML file that `read_yaml` reads, or of what contains it."""
    return line_at(text_of(file), place)


def text_of(file: Traversable) -> str:
    """The text of a profile file. Raises ProfileError where it cannot be read."""
    try:
        return file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        name = file.name.removesuffix(".yaml").casefold()
        remedy = f"built in is {name!r}, without .yaml" if name in _builtins() else "check the path"
        raise ProfileError(f"{file}: no such file; {remedy}") from None
    except IsADirectoryError:
        raise ProfileError(f"{file}: is a directory; name a .yaml file in it") from None
    except UnicodeDecodeError as error:
        raise ProfileError(f"{shown(file)}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ProfileError(f"{file}: cannot be read: {reason}") from None


# --- merging ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layer:
    """One file of a chain of `extends`."""

    file: str
    data: Mapping[str, Any]


def _layers(file: Traversable, text: str | None = None) -> list[_Layer]:
    """The file, or the text that it will hold, and all it extends, the file itself first."""
    layers: list[_Layer] = []
    seen: list[str] = []
    while True:
        key = os.path.abspath(str(file))
        if key in seen:
            names = [layer.file for layer in layers[seen.index(key) :]]
            chain = " -> ".join([*names, names[0]])
            raise ProfileError(f"{layers[0].file}: extends: cycle {chain}; remove one of these 'extends'")
        seen.append(key)
        layers.append(_Layer(shown(file), _read(file, text)))
        base = layers[-1].data.get("extends")
        if base is None:
            return layers
        file, text = base_of(file, base), None


def _merged(layers: list[_Layer]) -> dict[str, Any]:
    """All layers as one mapping; those near the front win."""
    own = layers[0]
    data: dict[str, Any] = {}
    try:
        for layer in reversed(layers):
            data = _merge(data, {k: v for k, v in layer.data.items() if k not in IDENTITY})
    except RecursionError:
        raise ProfileError(
            f"{own.file}: nested too deeply; remove the alias (*) that contains itself"
        ) from None
    stem = Path(own.file).stem
    identity = {key: own.data[key] for key in IDENTITY if own.data.get(key) is not None}
    base = f"based on {identity['extends']}" if "extends" in identity else ""
    return {"name": stem} | ({"description": base} if base else {}) | identity | data


def _merge(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(old)
    for key, value in new.items():
        before = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif not isinstance(value, Mapping) or _is_number(value) or _is_number(before):
            merged[key] = value
        else:
            merged[key] = _merge(before if isinstance(before, Mapping) else {}, value)
    return merged


def _is_number(node: object) -> bool:
    return isinstance(node, Mapping) and ("value" in node or "evidence" in node)


def device_names(name_or_path: str | os.PathLike[str]) -> frozenset[str]:
    """What the device that a profile describes may be called: by the names and SoCs of the profile and of
    what it extends up to the first that names an SoC, or by those of the profile named as its `device`."""
    names: set[str] = set()
    for layer in _layers(find(os.fspath(name_or_path))):
        socs = layer.data.get("soc") or ()
        names |= {str(layer.data.get("name", Path(layer.file).stem)), *map(str, socs)}
        if device := layer.data.get("device"):
            return frozenset(names) | device_names(str(device))
        if socs:
            break
    return frozenset(names)


def stated(name_or_path: str | os.PathLike[str]) -> frozenset[str]:
    """Paths of the numbers that a profile's own file states, without those it takes over by `extends`."""

    def paths(node: object, path: str) -> Iterator[str]:
        if _is_number(node):
            yield path
        elif isinstance(node, Mapping):
            for name, child in node.items():
                yield from paths(child, f"{path}.{name}" if path else str(name))

    return frozenset(paths(_layers(find(os.fspath(name_or_path)))[0].data, ""))


def _origin(layers: list[_Layer], place: tuple[str, ...]) -> str:
    """The file that wrote what stands at `place`; the file itself for what no file wrote."""
    for layer in layers:
        node: Any = layer.data
        for step in place:
            if not isinstance(node, Mapping) or step not in node:
                break
            node = node[step]
            if node is None or _is_number(node):
                return layer.file
        else:
            return layer.file
    return layers[0].file


# --- comparing -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """One field in which two machines differ; None where a machine does not have it."""

    path: str
    a: object
    b: object
    evidence_a: str | None
    evidence_b: str | None
    documented_a: object = None
    documented_b: object = None


def diff(a: Machine, b: Machine) -> list[Difference]:
    """Fields in which two machines differ, in the order of the model; names are left out.

    A number differs in its value, its evidence or what the documents say beside a fitted value.
    """
    left, right = dict(_fields(a)), dict(_fields(b))
    rows = []
    for path in dict.fromkeys([*left, *right]):
        one, other = left.get(path, _Field(None)), right.get(path, _Field(None))
        if one != other:
            evidence = (one.evidence, other.evidence)
            rows.append(Difference(path, one.value, other.value, *evidence, one.documented, other.documented))
    return rows


class _Field(NamedTuple):
    """What two machines may differ in at one path; `evidence` is None where it is no number."""

    value: object
    evidence: str | None = None
    documented: object = None


def _fields(node: Any, path: str = "") -> Iterator[tuple[str, _Field]]:
    """Every field below `node` by its path."""
    if isinstance(node, Quantity):
        yield path, _Field(node.value, str(node.evidence), node.documented)
    elif isinstance(node, BaseModel | Mapping):
        children = dict(node) if isinstance(node, BaseModel) else node
        for name, child in children.items():
            if path or name not in (*IDENTITY, "sources"):
                yield from _fields(child, f"{path}.{name}" if path else str(name))
    elif node is not None:
        yield path, _Field(node)


def schema() -> dict[str, Any]:
    """JSON schema of a profile as users write it: with `extends`, every field may be left out."""
    full = Machine.model_json_schema()
    needed = [name for name in full["required"] if name != "name"]
    for name, part in (("Machine", full), *full["$defs"].items()):
        if name != Fit.__name__ and "evidence" not in part.get("properties", {}):
            part.pop("required", None)  # a number and its fit are written whole
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **full,
        "title": "npusim machine profile",
        "anyOf": [{"required": ["extends"]}, {"required": needed}],
    }
