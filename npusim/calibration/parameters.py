"""What a calibration may change: numbers of profiles by path, those that are one number tied together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from npusim.errors import InputError, did_you_mean
from npusim.machine import Cost, Evidence, Machine, Quantity, Rate, Share, quantities

GROUPS: dict[str, tuple[str, ...]] = {
    "issue": ("core.scalar.issue_cycles",),
    "scalar": ("core.scalar.ub_read_cycles", "core.scalar.ub_write_cycles", "core.scalar.alu_cycles"),
    "flags": ("core.flags.*",),
    "barriers": ("core.barriers.*",),
    "cube": ("core.cube.startup_cycles", "core.cube.latency_cycles"),
    "vector": ("core.vector.functions.*.cycles_per_repeat", "core.vector.functions.*.latency_cycles"),
    "startups": ("paths.*.startup_cycles", "paths.*.min_cycles"),
    "rows": ("paths.*.row_min_cycles", "paths.*.missed_row_min_cycles", "paths.*.partial_line_cycles"),
    "rates": ("paths.*.bytes_per_cycle",),
    "latencies": ("paths.*.latency_cycles", "memory.hbm_latency_cycles"),
    "memory": ("memory.hbm_efficiency", "memory.l2_gb_per_s"),
    "launch": ("launch.base_us", "launch.setup_us", "launch.dispatch_us", "launch.mixed_us"),
}
"""fields that are fitted, by the name of what they describe"""

TOGETHER: dict[str, tuple[str, ...]] = {
    "core.vector.functions.*.cycles_per_repeat": (),
    "core.vector.functions.*.latency_cycles": (),
    "paths.l1_l0?.min_cycles": ("paths.l1_l0a.min_cycles", "paths.l1_l0b.min_cycles"),
    "paths.l1_l0?.latency_cycles": ("paths.l1_l0a.latency_cycles", "paths.l1_l0b.latency_cycles"),
}
"""fields of one mechanism that no measurement tells apart: a common factor is fitted"""

SPREADS: tuple[tuple[str, float], ...] = (
    ("core.scalar.*", 1.0),  # a vendor's model says 6 cycles a read, measured kernels want up to 26
    ("core.cube.startup_cycles", 1.0),  # 6 or 20
    ("core.cube.*", 0.5),
    ("core.vector.functions.*.cycles_per_repeat", 0.25),  # 1 or 2 a repeat of two operands
    ("core.vector.functions.*.latency_cycles", 0.25),
    ("paths.*.bytes_per_cycle", 0.1),  # practical and theoretical rates
    ("paths.l1_l0?.latency_cycles", 0.4),  # 25 or 43
    ("paths.*.latency_cycles", 0.25),  # 347 or 307, 203 or 153
    ("memory.*", 0.1),
    ("launch.*", 0.5),
)
"""how far documents on a field disagree, as a share of the value: the spread of a prior"""
OTHER_SPREAD = 0.25


UNDETERMINED = 0.35
"""a number that is not known better than by this share of itself is not determined"""
LEAST_SHARE = 0.05
"""of the room it has, which counts instead of itself for a number near zero"""
HELD = 0.7
"""where as much of a prior's spread is left, the rows say little beyond the documents"""


@dataclass(frozen=True)
class Parameter:
    """One unknown. `members`: (profile, path) of the numbers it sets, each `unit` times as large as it is.

    `unit` is 1 where all members are one number, and its own start where a common factor is fitted. `prior`:
    mean and spread, of documented numbers only. `theory`: what the design cannot exceed.
    """

    name: str
    members: tuple[tuple[str, str, float], ...]
    start: float
    lower: float
    upper: float
    prior: tuple[float, float] | None = None
    theory: float | None = None

    @property
    def factor(self) -> bool:
        return any(unit != 1.0 for _, _, unit in self.members)

    def doubt(self, value: float, error: float, scatter: float) -> float:
        """How far a standard error lies above what is called determined: beyond 1 it is not.

        `scatter`: by how much it was made larger because rows scatter more than they should.
        """
        if self.prior:
            return error / (scatter * HELD * self.prior[1])
        return error / (UNDETERMINED * max(abs(value), LEAST_SHARE * (self.upper - self.lower)))

    def values(self, profile: str, x: float) -> dict[str, float]:
        """What it sets in a profile at `x`."""
        return {
            path: max(x * unit, self._least(path, unit)) for own, path, unit in self.members if own == profile
        }

    def _least(self, path: str, unit: float) -> float:
        """What a number does not fall below with others by a common factor: a repeat takes a cycle."""
        return min(1.0, unit) if self.factor and path.endswith("cycles_per_repeat") else 0.0

    def slope(self, profile: str, x: float, by_path: Mapping[str, float]) -> float:
        """d / dx at `x` of what has the slopes `by_path` on a profile."""
        return sum(
            unit * by_path.get(path, 0.0)
            for own, path, unit in self.members
            if own == profile and x * unit >= self._least(path, unit)
        )


def select(machines: Sequence[Machine], fields: Iterable[str] = ()) -> list[Parameter]:
    """The parameters for some fields (groups, paths or globs; all groups if none is named) of machines.

    A number that a profile took over from another one, by inheriting it or by assuming the same value, is one
    parameter with it. InputError as `globs_of` says.
    """
    wanted = globs_of(machines, list(fields) or GROUPS)
    # those that others extend first, so that the order in which they are named does not matter
    machines = sorted(machines, key=lambda machine: (machine.extends is not None, machine.name))
    found: dict[tuple[str, float], list[tuple[str, str, Quantity[Any]]]] = {}
    for machine in machines:
        for path, number in quantities(machine).items():
            if any(fnmatchcase(path, glob) for glob in wanted) and isinstance(number, Cost | Rate | Share):
                _enter(found, machine.name, path, number)
    made = [_parameter(members, len(machines)) for members in _together(found.values())]
    return sorted(made, key=lambda one: one.name)


def globs_of(machines: Iterable[Machine], fields: Iterable[str]) -> list[str]:
    """The patterns of paths that `fields` (groups, paths or globs) stand for. InputError for a field that no
    machine has."""
    known = {path for machine in machines for path in quantities(machine)}
    globs: list[str] = []
    for field in fields:
        own = GROUPS.get(field, (field,))
        if field not in GROUPS and not any(fnmatchcase(path, field) for path in known):
            near = did_you_mean(field, [*GROUPS, *known])
            raise InputError(f"--fields: {field!r} is no group, number or pattern of numbers; {near}")
        globs += own
    return globs


Member = tuple[str, str, Quantity[Any]]


def _enter(
    found: dict[tuple[str, float], list[Member]], profile: str, path: str, number: Quantity[Any]
) -> None:
    """Put a number to the one it was taken over from, or by itself."""
    same = found.get((path, number.value))
    weak = (Evidence.assumed, Evidence.fitted)
    taken = same and (number == same[0][2] or number.evidence in weak or same[0][2].evidence in weak)
    key = (path, number.value) if taken or not same else (f"{path} of {profile}", number.value)
    found.setdefault(key, []).append((profile, path, number))


def _together(groups: Iterable[list[Member]]) -> Iterable[list[Member]]:
    """Numbers that no measurement tells apart, in one group."""
    merged: dict[tuple[str, tuple[str, ...]], list[Member]] = {}
    for members in groups:
        pattern = next((p for p in TOGETHER if fnmatchcase(members[0][1], p)), None)
        if pattern is None:
            yield members
        else:
            key = (pattern, tuple(profile for profile, _, _ in members))
            merged.setdefault(key, []).extend(members)
    yield from merged.values()


def _parameter(members: list[Member], machines: int) -> Parameter:
    paths = list(dict.fromkeys(path for _, path, _ in members))
    profiles = list(dict.fromkeys(profile for profile, _, _ in members))
    name = paths[0] if len(paths) == 1 else next(p for p in TOGETHER if fnmatchcase(paths[0], p))
    if len(profiles) < machines:
        others = f" +{len(profiles) - 1}" if len(profiles) > 1 else ""
        name += f" ({profiles[0]}{others})"
    first = members[0][2]
    one = all(number.value == first.value for _, _, number in members)
    start = float(first.value) if one else 1.0
    units = [1.0 if one else float(number.value) for _, _, number in members]
    stated = [_documented(number) for _, _, number in members]
    means = [value / unit for value, unit in zip(stated, units, strict=True) if value is not None and unit]
    prior = None
    if means:
        mean = sum(means) / len(means)
        prior = (mean, max(mean * spread(paths[0]), 1e-3))
    lower, upper = _bounds(paths[0], first, start, one)
    theories = [number.theory for _, _, number in members if number.theory is not None]
    return Parameter(
        name,
        tuple((profile, path, unit) for (profile, path, _), unit in zip(members, units, strict=True)),
        min(max(start, lower), upper), lower, upper, prior,
        min(theories) if theories and one else None,
    )  # fmt: skip


def _documented(number: Quantity[Any]) -> float | None:
    """What documents say of a number; None where they are silent."""
    if number.evidence in (Evidence.documented, Evidence.measured):
        return float(number.value)
    return None if number.documented is None else float(number.documented)


def spread(path: str) -> float:
    """How far documents on a field disagree, as a share of its value."""
    return next((spread for glob, spread in SPREADS if fnmatchcase(path, glob)), OTHER_SPREAD)


ROOM = 30.0
"""cycles up to which any small cost may grow"""
ROOM_US = 5.0
"""the same of times that the profile has in microseconds"""


def _bounds(path: str, number: Quantity[Any], start: float, one: bool) -> tuple[float, float]:
    """How far a fit may go: a cost to zero, a rate or a common factor by a few times."""
    if not one:
        return 0.2, 4.0
    if isinstance(number, Share):
        return 0.05, 1.0
    if isinstance(number, Rate):
        return start / 4, start * 4
    return 0.0, max(6 * start, ROOM_US if path.endswith("_us") else ROOM)
