"""What the page Calibrate asks: a visitor's rows, numbers that may be fitted, and what jobs have found."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from dashboard.service import Service
from dashboard.service.cache import Cache
from dashboard.service.calibrating import HELD_OUT, REGISTRY, Fit
from dashboard.service.machines import place, profiles, stamp, target_of
from dashboard.service.measured import (
    SHIPPED,
    File,
    digest,
    files,
    operators_text,
    read_files,
    reading_of,
    with_entry,
    with_operators,
)
from dashboard.service.uploads import GONE, OPERATORS, TABLES, Sent, Uploads, folder_of
from dashboard.state import whole
from npusim.calibration.parameters import GROUPS, Parameter, select, spread
from npusim.errors import InputError, NpusimError
from npusim.machine import Cost, Machine, Rate, Share, quantities
from npusim.measurements.operators import DTYPES as OPERATOR_DTYPES
from npusim.measurements.rows import SIZES, Reading, Unmapped
from npusim.profiles import load_machine
from npusim.refit import refit, write_profile
from npusim.registry import load_registry
from npusim.units import unit_of
from npusim.validation.predict import LAYOUT

OTHER = "other"
"""the group of numbers that are fitted only where they are named"""
DTYPES = tuple(sorted(set(OPERATOR_DTYPES.values())))
"""number formats that an operator can have"""


GROUP_MEANINGS = {name: ", ".join(globs) for name, globs in GROUPS.items()}
"""what is in each group of numbers"""
EACH = "each"
"""stands for the profile of each row's own device"""
Fields = tuple[str, ...] | None
"""groups and paths of numbers; () all groups, None no number at all"""


@dataclass(frozen=True)
class Rows:
    """A visitor's rows. `key`: of the visitor, '' where the rows are the shipped ones; `digest`: of the
    content; `devices`: how many rows are of each device, '' where none is named; `profiles`: rows by profile
    that describes their device."""

    key: str
    digest: str
    count: int
    unmapped: tuple[Unmapped, ...]
    devices: dict[str, int]
    profiles: dict[str, int]
    files: tuple[File, ...]
    kernels: int

    @property
    def source(self) -> str:
        return ", ".join(one.name for one in self.files) if self.key else SHIPPED


@dataclass(frozen=True)
class Field:
    """A number that may be fitted. `documented`, `doubt`: what documents say, and how far they disagree;
    `together`: it moves with others by one factor."""

    path: str
    group: str
    value: float
    unit: str
    evidence: str
    source: str
    documented: float | None
    doubt: float | None
    together: bool


@dataclass(frozen=True)
class Kind:
    """What an operator can be: a kernel with its algorithms and their variants, and the sizes that it has."""

    kernel: str
    meaning: str
    algorithms: dict[str, tuple[str, ...]]
    sizes: tuple[str, ...]


class Calibrations:
    """Answers of the page. `root`: where visitors' files are kept, which goes with the application; `forget`
    removes what a job has found, by its key; `active`: whether it is at work."""

    def __init__(
        self,
        service: Service,
        root: Path,
        forget: Callable[[str], None] = lambda key: None,
        active: Callable[[str], bool] = lambda key: False,
    ) -> None:
        self.service, self._forget, self._active = service, forget, active
        self.uploads = Uploads(root, self._gone, busy=self._busy)
        self._readings: Cache[Rows] = Cache(16)
        self._jobs: dict[str, list[str]] = {}

    # --- measurements ------------------------------------------------------------------------------

    def upload(self, key: str, sent: Sequence[Sent]) -> Rows:
        """A visitor's rows with files more. Refused, and nothing is changed, for what cannot be read."""
        fresh = self.uploads.add(key, sent)
        try:
            read_files(fresh)
        except BaseException:
            self.uploads.drop(fresh)
            raise
        self.uploads.keep(key, fresh)
        return self.rows(key)

    def rows(self, key: str) -> Rows:
        """A visitor's rows; of '' the shipped ones."""
        content = self.uploads.look(key, digest) if key else ""
        return self._readings.get((key, content), lambda: self._rows(key, content))

    def _rows(self, key: str, content: str) -> Rows:
        reading = reading_of(self.uploads.root, key)
        devices: dict[str, int] = {}
        for row in reading.rows:
            devices[row.device] = devices.get(row.device, 0) + 1
        held = self.uploads.look(key, files) if key else ()
        kernels = len({row.kernel for row in reading.rows})
        return Rows(
            key, content, len(reading.rows), tuple(reading.unmapped), devices, _profiles(reading), held,
            kernels,
        )  # fmt: skip

    def _gone(self, key: str) -> None:
        """What jobs have found of a visitor's files goes with these."""
        for name in self._jobs.pop(key, []):
            self._forget(name)

    def _busy(self, key: str) -> bool:
        """Whether a job works for a visitor."""
        return any(map(self._active, self._jobs.get(key, [])))

    def has(self, key: str | None) -> bool:
        """Whether a visitor has files here."""
        if not key or not self.uploads.knows(key):
            return False
        return bool(self.uploads.look(key, files))

    def _folder(self, key: str) -> Path:
        """Where a visitor's files are. InputError where they have expired."""
        if not self.has(key):
            raise InputError(GONE)
        return folder_of(self.uploads.root, key)

    # --- operators ---------------------------------------------------------------------------------

    def operators(self, key: str) -> str:
        """The text of a visitor's operators file."""
        return self.uploads.look(key, operators_text)

    def map(self, key: str, text: str) -> Rows:
        """The rows with an operators file of this text."""
        fresh, _ = with_operators(self._folder(key), text)
        self.uploads.keep(key, fresh)
        return self.rows(key)

    def assign(self, key: str, one: Unmapped, given: Mapping[str, str]) -> Rows:
        """The rows once an operator is a kernel. `given`: kernel, algorithm, variant, dtype, shapes (patterns
        parted by |), sizes (name=number, ..), and for: 'type' for all operators of its type."""
        by = {"type": one.type} if given.get("for") == "type" and one.type else {"name": one.name}
        plain = ("kernel", "algorithm", "variant", "dtype")
        entry: dict[str, Any] = {**by, **{name: text for name in plain if (text := given.get(name))}}
        if shapes := [part.strip() for part in given.get("shapes", "").split("|") if part.strip()]:
            entry["shapes"] = shapes
        if sizes := _sizes(given.get("sizes", "")):
            entry["sizes"] = sizes
        entry["needs"] = _needed(given.get("kernel", ""), sizes)
        folder = self._folder(key)
        fresh, reading = with_operators(folder, with_entry(folder, entry))
        left = next((other for other in reading.unmapped if _same(other, one)), None)
        if left is not None:
            self.uploads.drop(fresh)
            raise InputError(f"{left.place}: {left.operator}: {left.reason}")
        self.uploads.keep(key, fresh)
        return self.rows(key)

    def kinds(self) -> list[Kind]:
        """What operators can be."""
        return [
            Kind(
                name, entry.meaning,
                {one.name: tuple(one.variants) for one in entry.algorithms.values()},
                tuple(size for size in entry.sizes if size in SIZES),
            )
            for name, entry in load_registry(REGISTRY).items()
        ]  # fmt: skip

    # --- numbers -----------------------------------------------------------------------------------

    def profiles(self, rows: Rows | None) -> list[tuple[str, str]]:
        """What rows can be predicted on, and how it is called: EACH is the profile of each row's device."""
        known = rows.profiles if rows else {}
        other = [name for name in profiles(self.service.folder) if name not in known]
        counted = [
            (name, f"{name} · {count} row{'s' if count != 1 else ''}") for name, count in known.items()
        ]
        return [(EACH, "that of each row's device"), *counted, *((name, name) for name in other)]

    def own_name(self, profile: str) -> str:
        """What a profile calls itself."""
        return load_machine(place(profile, self.service.folder)).name

    def groups(self, profile: str) -> dict[str, list[str]]:
        """The groups of numbers that a profile has, and their paths."""
        machine = load_machine(place(profile, self.service.folder))
        known = _fittable(machine)
        found = {
            group: [path for path in known if any(fnmatchcase(path, glob) for glob in globs)]
            for group, globs in GROUPS.items()
        }
        return {group: paths for group, paths in found.items() if paths}

    def fields(self, profile: str) -> list[Field]:
        """The numbers of a profile that a fit may change, those of groups first."""
        machine = load_machine(place(profile, self.service.folder))
        by_path = _parameters(machine)
        groups = {path: group for group, paths in self.groups(profile).items() for path in paths}
        order = [*GROUPS, OTHER]
        found = [
            _field(path, groups.get(path, OTHER), number, machine, by_path.get(path))
            for path, number in _fittable(machine).items()
        ]
        return sorted(found, key=lambda one: order.index(one.group))

    def chosen(self, profile: str, fields: Iterable[str]) -> frozenset[str]:
        """The paths that some fields (groups, paths, patterns; all groups where there are none) stand for.
        Refused for a field that is none."""
        machine = load_machine(place(profile, self.service.folder))
        parameters = select([machine], list(fields))
        return frozenset(path for one in parameters for _, path, _ in one.members)

    def named(self, profile: str, paths: Iterable[str]) -> Fields:
        """The fewest fields that stand for these paths; () where they are all that groups have, None where
        there are none."""
        whole, left = {group: set(own) for group, own in self.groups(profile).items()}, set(paths)
        if not left:
            return None
        if left == set().union(*whole.values()):
            return ()
        groups = [group for group, own in whole.items() if own <= left]
        for group in groups:
            left -= whole[group]
        return (*groups, *sorted(left))

    def with_groups(self, profile: str, fields: Fields, groups: Iterable[str]) -> Fields:
        """The fields once just these groups are chosen whole; single numbers of others stay."""
        before = frozenset() if fields is None else self.chosen(profile, fields)
        whole, wanted = self.groups(profile), set(groups)
        paths = set(before)
        for group, own in whole.items():
            if group in wanted:
                paths |= set(own)
            elif set(own) <= before:
                paths -= set(own)
        return self.named(profile, paths)

    def with_path(self, profile: str, fields: Fields, path: str, on: bool) -> Fields:
        """The fields once a number is chosen, or not any more."""
        before = frozenset() if fields is None else self.chosen(profile, fields)
        return self.named(profile, before | {path} if on else before - {path})

    # --- jobs --------------------------------------------------------------------------------------

    def prediction(self, rows: Rows, profile: str) -> tuple[str, dict[str, Any]]:
        """The key of the job that predicts rows, and what it is asked; equal ones have equal keys. Refused
        for a profile that is none."""
        if profile:
            self.own_name(profile)
        asked = {"key": rows.key, "profile": profile}
        return self._job(rows, f"calibrate predict {self._mark(rows, asked)}"), asked

    def fitting(
        self, rows: Rows, profile: str, fields: Sequence[str], hold_out: str, suggest: bool
    ) -> tuple[str, dict[str, Any]]:
        """The same of the job that fits. Refused for fields that are none."""
        if not profile:
            raise InputError("fit: choose the profile whose numbers are fitted")
        self.chosen(profile, fields)
        asked = {
            "key": rows.key, "profile": profile, "fields": list(fields),
            "hold_out": _held(hold_out), "suggest": suggest,
        }  # fmt: skip
        mark = self._mark(rows, asked)
        return self._job(rows, f"calibrate fit {mark}"), {**asked, "report": f"{mark}.html"}

    def _job(self, rows: Rows, name: str) -> str:
        """The key of a job, which is remembered as its visitor's."""
        if rows.key and name not in self._jobs.setdefault(rows.key, []):
            self._jobs[rows.key].append(name)
        return name

    def _mark(self, rows: Rows, asked: Mapping[str, Any]) -> str:
        """Names all that an answer depends on."""
        profile = str(asked["profile"])
        names = [profile] if profile else list(rows.profiles)
        stamps = [stamp(place(name, self.service.folder)) for name in names]
        text = json.dumps([rows.digest, stamps, asked], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def command(
        self, profile: str, fields: Sequence[str], hold_out: str, suggest: bool, rows: Rows | None
    ) -> str:
        """The command line that fits the same; '' where there is none: it reads one table, and no .zip."""
        names = [one.name for one in rows.files] if rows else []
        tables = [name for name in names if not name.casefold().endswith(OPERATORS)]
        one_table = len(tables) == 1 and tables[0].casefold().endswith(TABLES)
        if not profile or rows is None or (rows.key and not one_table):
            return ""
        words = ["npusim", "calibrate", "--profile", profile]
        for name in tables:
            words += ["--measurements", name]
        for name in names:
            words += [] if name in tables else ["--operators", name]
        if fields:
            words += ["--fields", ",".join(fields)]
        if (held := _held(hold_out)) != HELD_OUT[0]:
            words += ["--hold-out", held]
        if suggest:
            words.append("--suggest")
        return shlex.join(words)

    # --- what a fit leaves -------------------------------------------------------------------------

    def profile_text(self, found: Fit, name: str) -> str:
        """The new profile as a file of this name, comments and all of the old one kept."""
        target = target_of(name, self.service.folder)
        self._told(found)
        base = place(found.profile, self.service.folder)
        return refit(base, found.numbers, found.citation, found.date, target)

    def save(self, found: Fit, name: str) -> str:
        """Save it in the folder; the name of its file."""
        target = target_of(name, self.service.folder)
        write_profile(target, self.profile_text(found, name))
        return target.name

    def report(self, found: Fit) -> str:
        """The report, a whole HTML file."""
        file = self.uploads.root / found.report
        if not file.is_file():
            raise InputError("report: it is gone; fit again")
        return file.read_text(encoding="utf-8")

    @staticmethod
    def _told(found: Fit) -> None:
        if not found.numbers:
            raise InputError("the rows determine none of these numbers; there is nothing to write")


def _held(hold_out: str) -> str:
    """What is left out; nothing where a link says what cannot be."""
    return hold_out if hold_out in HELD_OUT else "none"


def _profiles(reading: Reading) -> dict[str, int]:
    """How many rows each profile describes, those with most first."""
    found: dict[str, int] = {}
    for row in reading.rows:
        stands = reading.devices.get(row.device)
        device = stands.profile if stands else row.device
        try:
            name = load_machine(device).name if device else ""
        except NpusimError:
            continue
        if name:
            found[name] = found.get(name, 0) + 1
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _same(a: Unmapped, b: Unmapped) -> bool:
    return (a.place, a.operator) == (b.place, b.operator)


def _needed(kernel: str, given: Mapping[str, int]) -> list[str]:
    """The sizes without which nobody knows how large a kernel's problem was."""
    entry = load_registry(REGISTRY).get(kernel)
    own = [name for name in (entry.sizes if entry else ()) if name in SIZES]
    idle = {"key_heads", *(LAYOUT if "matrices" in given else ("matrices",))}
    return [name for name in own if name not in idle]


def _sizes(text: str) -> dict[str, int]:
    """'chunk=128, heads=16' as numbers. InputError for what is none."""
    found: dict[str, int] = {}
    for part in re.split(r"[,;\s]+", text.strip()):
        name, _, number = part.partition("=")
        if not part:
            continue
        size = whole(number)
        if name not in SIZES or size is None:
            raise InputError(f"sizes: {part!r} is none; write name=number with {', '.join(SIZES)}")
        found[name] = size
    return found


def _parameters(machine: Machine) -> dict[str, Parameter]:
    return {path: one for one in select([machine]) for _, path, _ in one.members}


def _fittable(machine: Machine) -> dict[str, Any]:
    """The numbers that a fit can change, by path."""
    return {path: one for path, one in quantities(machine).items() if isinstance(one, Cost | Rate | Share)}


def _field(path: str, group: str, number: Any, machine: Machine, parameter: Parameter | None) -> Field:
    known = str(number.evidence) in ("documented", "measured")
    documented = number.value if known else number.documented
    doubt = None if documented is None else spread(path)
    source = machine.sources.get(number.source, number.source)
    note = f" — {number.note}" if number.note else ""
    return Field(
        path, group, float(number.value), unit_of(path), str(number.evidence), source + note,
        None if documented is None else float(documented), doubt, bool(parameter and parameter.factor),
    )  # fmt: skip
