"""What is swept: a kernel, and for each field of its settings the values that it is to take."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from npusim.errors import InputError, NpusimError, ProfileError, did_you_mean
from npusim.kernels import KernelEntry, check_known, own_options
from npusim.problem import Options, Problem, Settings
from npusim.settings import EngineSettings, MachineSettings, NumericsSettings, refuse_costs
from npusim.study import check_wishes
from npusim.sweep.point import Point, machine_digest
from npusim.sweep.ranges import nested, values

MODELS: tuple[type[Settings], ...] = (Problem, Options, MachineSettings, NumericsSettings, EngineSettings)
NOT_SWEPT = frozenset({"output", "trace", "trace_iterations", "what_if"})
"""fields of a single run"""
WHOLE = ("cu_seqlens", "ideal")
"""fields whose one value holds commas; a YAML file may list several"""
FIXED = ("timing", "numerics")
"""fields that are the same for all points"""
MOST = 1_000_000
"""points of a sweep at most"""
FIELDS = {
    name: model for model in MODELS for name in model.model_fields if name not in NOT_SWEPT and name != "set"
}
"""every field that may be swept, with the settings it belongs to; numbers of a profile are swept by path"""


@dataclass(frozen=True)
class Skip:
    """A combination that is no point, and why."""

    settings: Mapping[str, Any]
    reason: str


@dataclass(frozen=True)
class Spec:
    """The values of each field, in the order in which they were given, and of each number of a profile."""

    kernel: str
    fields: Mapping[str, Sequence[Any]]
    numbers: Mapping[str, Sequence[float]]

    @classmethod
    def of(cls, kernel: str, given: Mapping[str, Any], place: str = "") -> Spec:
        """Of values as they were written: texts, lists, numbers; `set` maps paths to them, or lists
        PATH=VALUES. InputError that names the option, or with `place` the field of a file."""
        fields = {name: _checked(name, given[name], place) for name in given if name not in ("set", "kernel")}
        return cls(kernel, fields, _numbers(given.get("set", ()), place))

    @classmethod
    def read(cls, path: str, more: Mapping[str, Any]) -> Spec:
        """A YAML file of option names; `more` takes the place of what it says. InputError naming the file."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "is not UTF-8 text"
            raise InputError(f"{path}: cannot be read: {reason}") from None
        spec = cls.parse(text, path)
        over = cls.of(spec.kernel, more)
        return cls(spec.kernel, {**spec.fields, **over.fields}, {**spec.numbers, **over.numbers})

    @classmethod
    def parse(cls, text: str, name: str) -> Spec:
        """YAML text of option names. InputError naming the text by `name`."""
        from npusim.yaml_files import parse

        try:
            data = parse(text, name)
        except ProfileError as error:
            raise InputError(str(error)) from None
        if not isinstance(data, dict):
            raise InputError(f"{name}: must map names of options to values: kernel: tri-inverse")
        named = {str(key).replace("-", "_"): value for key, value in data.items()}
        if len(named) < len(data):
            raise InputError(f"{name}: a field is given twice, with - and with _; keep one")
        for key in named:
            if key not in ("kernel", "set", *FIELDS):
                raise InputError(f"{name}: {key}: unknown field; {did_you_mean(key, ['kernel', *FIELDS])}")
        kernel = named.pop("kernel", None)
        if not isinstance(kernel, str):
            raise InputError(f"{name}: kernel: missing; name one, as in kernel: tri-inverse")
        return cls.of(kernel, named, place=name)

    @property
    def size(self) -> int:
        """Combinations."""
        count = 1
        for own in (*self.fields.values(), *self.numbers.values()):
            count *= len(own)
        return count

    def check(self, entry: KernelEntry) -> None:
        """InputError for what is wrong whatever the combination: a size that the kernel does not have, an
        option that none of the algorithms takes, settings that contradict each other, too many points."""
        if self.size > MOST:
            raise InputError(f"sweep: {self.size:,} combinations are more than {MOST:,}; sweep fewer values")
        first = {name: own[0] for name, own in self.fields.items()}
        sizes = {name: first[name] for name in first if name in Problem.model_fields}
        entry.check_sizes(Problem.model_construct(_fields_set=set(sizes), **sizes))
        for names, way in (
            (("batch", "seq_len", "heads", "key_heads", "cu_seqlens"), "matrices"),
            (("batch", "seq_len"), "cu_seqlens"),
        ):
            both = [name for name in names if name in sizes and way in sizes]
            if both:
                option = way.replace("_", "-")
                raise InputError(
                    f"--{both[0].replace('_', '-')}: the problem is given by --{option}; drop one of the two"
                )
        asked = {n: first[n] for n in first if n in Options.model_fields and n != "algorithm"}
        check_known(entry, self.algorithms(entry), Options.parse(**asked), "--algorithm")
        numerics = NumericsSettings.parse(**_of(NumericsSettings, first))
        check_wishes(numerics, EngineSettings.parse(**_of(EngineSettings, first)))
        if not numerics.timing:
            machine = MachineSettings.parse(
                **_of(MachineSettings, first), set=[f"{path}={own[0]}" for path, own in self.numbers.items()]
            )
            refuse_costs(machine)

    def algorithms(self, entry: KernelEntry) -> list[str]:
        """Those that are swept."""
        return [str(name) for name in self.fields.get("algorithm", [next(iter(entry.algorithms))])]

    def points(self, entry: KernelEntry, machines: Machines) -> Iterator[Point | Skip]:
        """Every combination, the last field the fastest; several that come to the same are one.

        InputError where no machine can be made at all.
        """
        swept = {**self.fields, **{f"set.{path}": own for path, own in self.numbers.items()}}
        seen = set()
        for combination in itertools.product(*swept.values()):
            chosen = dict(zip(swept, combination, strict=True))
            try:
                point = _point(entry, chosen)
            except NpusimError as error:
                yield Skip(chosen, str(error))
                continue
            reason = machines.reason(point.machine)
            if reason:
                yield Skip(chosen, reason)
            elif point not in seen:
                seen.add(point)
                yield point
        machines.check()


class Machines:
    """The machines of a sweep, each made once; where there is none at all, an option is wrong."""

    def __init__(self) -> None:
        self.digests: dict[MachineSettings, str] = {}
        self.reasons: dict[MachineSettings, str] = {}

    def reason(self, settings: MachineSettings) -> str:
        """Why there is no such machine; '' where there is one. ProfileError for a profile there is not."""
        if settings not in self.digests and settings not in self.reasons:
            try:
                self.digests[settings] = machine_digest(settings.machine())
            except ProfileError:
                raise
            except NpusimError as error:
                self.reasons[settings] = str(error)
        return self.reasons.get(settings, "")

    def check(self) -> None:
        if self.reasons and not self.digests:
            raise InputError(next(iter(self.reasons.values())))


def _of(model: type[Settings], chosen: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in chosen.items() if name in model.model_fields}


def _point(entry: KernelEntry, chosen: Mapping[str, Any]) -> Point:
    """A combination as settings. InputError where it is none."""
    numbers = tuple(f"{n.removeprefix('set.')}={v}" for n, v in chosen.items() if n.startswith("set."))
    options = Options.parse(**_of(Options, chosen))
    name = options.algorithm or next(iter(entry.algorithms))
    return Point(
        Problem.parse(**_of(Problem, chosen)),
        own_options(entry, name, options),
        MachineSettings.parse(**_of(MachineSettings, chosen), set=numbers),
        NumericsSettings.parse(**_of(NumericsSettings, chosen)),
        EngineSettings.parse(**_of(EngineSettings, chosen)),
    )


def _checked(name: str, given: object, place: str) -> list[Any]:
    """The values of a field, each of which the field takes."""
    model, option = FIELDS[name], f"{place}: {name}" if place else f"--{name.replace('_', '-')}"
    kind = str(model.model_fields[name].annotation)
    numeric = "int" in kind or "float" in kind
    splits = name not in WHOLE
    if name == "cu_seqlens" and place and isinstance(given, list):  # of one problem, or of several
        several = [given] if _whole_numbers(given) else given
        given = [",".join(map(str, one)) if _whole_numbers(one) else one for one in several]
    found = []
    for value in values(option, given, splits, numeric and splits):
        if value is None:
            raise InputError(f"{option}: is empty; give a value, or leave it out")
        if numeric and isinstance(value, bool):
            raise InputError(f"{option}: must be a number, got {'true' if value else 'false'}")
        try:
            found.append(getattr(model.parse(**{name: value}), name))
        except InputError as error:
            text = str(error).removeprefix(f"--{name.replace('_', '-')}")
            raise InputError(f"{option}{text}") from None
    if name in FIXED and len(found) > 1:
        raise InputError(f"{option}: is the same for all points; give one value")
    return found


def _whole_numbers(given: object) -> bool:
    return isinstance(given, list) and all(isinstance(n, int) for n in given)


def _numbers(given: object, place: str) -> dict[str, list[float]]:
    """The values of numbers of a profile by path."""
    option = f"{place}: set" if place else "--set"
    pairs: list[tuple[str, object]] = []
    if isinstance(given, Mapping):
        pairs = [(str(path), own) for path, own in given.items()]
    else:
        for text in given if isinstance(given, list | tuple) else [given]:
            said = "" if nested(text) else str(text)
            path, equals, own = said.partition("=")
            if not equals or not path.strip():
                raise InputError(f"{option} {said}".rstrip() + ": write path.to.field=VALUES")
            pairs.append((path.strip(), own))
    found: dict[str, list[float]] = {}
    for name, listed in pairs:
        if name in found:
            raise InputError(f"{option} {name}: is set twice; keep one")
        each = values(f"{option} {name}", listed)
        try:
            numbers = [math.nan if isinstance(value, bool) else float(value) for value in each]
        except (TypeError, ValueError):
            numbers = [math.nan]
        if not all(map(math.isfinite, numbers)):
            raise InputError(f"{option} {name}: {listed!r} is no number, list or range of numbers")
        found[name] = numbers
    return found
