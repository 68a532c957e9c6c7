"""What can be imagined away: mechanisms, the profile numbers they stand for, and machines without them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from npusim.errors import InputError, did_you_mean
from npusim.machine import LARGEST, Cost, Machine, Quantity, rebuild

POOLS = ("memory.hbm_gb_per_s", "memory.l2_gb_per_s", "core.l1_port_bytes_per_cycle")
"""what transfers share"""


@dataclass(frozen=True)
class Ideal:
    """A mechanism: the profile fields it stands for, and whether they are rates to make ample or costs to
    make zero."""

    covers: Callable[[str], bool]
    ample: bool = False

    def change(self, path: str, number: Quantity[Any]) -> dict[str, Any] | None:
        """The number at `path` without this mechanism; None: as it is."""
        if not self.covers(path) or (not self.ample and not isinstance(number, Cost)):
            return None
        value = min(number.value * 1e6, LARGEST) if self.ample else 0
        return {**number.model_dump(), "value": value, "source": "--ideal"}


IDEALS: dict[str, Ideal] = {
    "flags": Ideal(lambda path: path.startswith(("core.flags.", "core.barriers."))),
    "issue": Ideal(lambda path: path == "core.scalar.issue_cycles"),
    "contention": Ideal(lambda path: path in POOLS, ample=True),
    "launch": Ideal(lambda path: path.startswith("launch.")),
    "latency": Ideal(lambda path: path.endswith("latency_cycles")),
}
"""Flags and barriers, instruction issue, sharing of HBM and L2, launch, and latencies of units and paths."""


def idealise(machine: Machine, names: Iterable[str]) -> Machine:
    """The machine with the named mechanisms free. InputError for an unknown name."""
    for name in (name.strip() for name in names):
        if name not in IDEALS:
            raise InputError(f"--ideal: no mechanism {name!r}; {did_you_mean(name, IDEALS)}")
        machine = rebuild(machine, IDEALS[name].change)
    return machine


def by_mechanism(by_field: Mapping[str, float]) -> dict[str, float]:
    """What each mechanism takes of times by profile field, the largest first."""
    taken = {
        name: max(0.0, round(sum(t for field, t in by_field.items() if ideal.covers(field)), 9))
        for name, ideal in IDEALS.items()
    }
    return dict(sorted(taken.items(), key=lambda item: -item[1]))


def work_by_unit(by_field: Mapping[str, float], machine: Machine) -> dict[str, float]:
    """What the units' own work takes of times by profile field: all that no mechanism covers."""
    taken: dict[str, float] = {}
    for field, time in by_field.items():
        if unit := worker(field, machine):
            taken[unit] = taken.get(unit, 0.0) + time
    return dict(sorted(taken.items(), key=lambda item: -item[1]))


SCALAR = "scalar units"
"""whose own work is counted together"""


def worker(field: str, machine: Machine) -> str:
    """The unit whose work a profile field describes; '' for a field of a mechanism, and for what rounding
    left over."""
    if any(ideal.covers(field) for ideal in IDEALS.values()):
        return ""
    group, _, rest = field.partition(".")
    if group == "paths":
        return machine.paths[rest.split(".")[0]].unit
    units = {"cube": "aic_mac", "vector": "aiv_vec", "scalar": SCALAR}
    return units.get(rest.split(".")[0], "")


def without_scalar_work(machine: Machine) -> Machine:
    """The machine whose scalar units read, write and compute in no time."""

    def change(path: str, number: Quantity[Any]) -> dict[str, Any] | None:
        own = worker(path, machine) == SCALAR and isinstance(number, Cost)
        return {**number.model_dump(), "value": 0, "source": "what if"} if own else None

    return rebuild(machine, change)
