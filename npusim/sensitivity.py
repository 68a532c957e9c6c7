"""Which number of a profile to improve first: how the time of a kernel changes with each.

The measure is the elasticity, d ln(task time) / d ln(number): 0.3 means that the time grows by 0.3 % where
the number grows by 1 %. The critical path of one run says which numbers carry time
(`npusim.calibration.slopes`); each of these, and those that a path cannot see (capacities, counts, the
clock, what all cores share), is then raised and lowered and the kernel timed again, so that a path that
becomes critical on the way counts. Two times give the elasticity over the step, ln(t2 / t1) / ln(v2 / v1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from npusim.calibration.parameters import globs_of
from npusim.calibration.slopes import slopes
from npusim.errors import InputError, NpusimError
from npusim.graph import Kernel
from npusim.kernels import KernelEntry
from npusim.lower import lower
from npusim.machine import Cost, Count, CountOrNone, Evidence, Machine, Quantity, Share, override, quantities
from npusim.problem import Options, Problem, Target
from npusim.program import Program
from npusim.report import task_us
from npusim.settings import EngineSettings, NumericsSettings
from npusim.simulate import Simulation, simulate
from npusim.study import check_wishes, prepare
from npusim.validation.predict import Prediction, prediction
from npusim.where import netting

UNSEEN = (
    "clock_ghz", "core.groups", "core.vector_cores", "core.scalar.issue_cycles", "core.scalar.queue_depth",
    "core.vector.repeat_bytes", "levels.*.bytes", "memory.hbm_gb_per_s", "memory.hbm_efficiency",
    "memory.l2_gb_per_s", "memory.l2_bytes", "memory.l2_line_bytes",
)  # fmt: skip
"""numbers that matter in other ways than by taking time on the critical path"""
LEAST_SHARE = 5e-3
"""of the time: a number that carries less on the critical path is not tried"""
SMALLEST, LARGEST = 1e-3, 1.0
"""steps: below, rounding to the time grid is felt; above, it is no longer this machine"""
NO_EFFECT = 5e-4
"""elasticity below which a number is said to have no effect"""
WORTH_NAMING = 5e-3
"""elasticity from which on it is said that a number should be improved"""
DOUBTFUL = (Evidence.assumed, Evidence.fitted)

Progress = Callable[[str, int, int], None]
"""called with the number that is tried, how many are done, of how many"""


@dataclass(frozen=True)
class Tried:
    """A value of a number and the task time with it; None where the kernel cannot be built or timed so.
    `settings`: what it was built with where its defaults followed the value: {'tile_m': 64}."""

    value: float
    time_us: float | None
    reason: str = ""
    settings: Mapping[str, object] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "value": self.value,
            "time_us": self.time_us,
            "reason": self.reason or None,
            "options": dict(self.settings),
        }


@dataclass(frozen=True)
class Effect:
    """What a number does to the time of `base_us`. `together`: the other levels of one memory, which change
    with it; `share`: of the time, what the critical path puts down to the number. Better is less of a cost
    and more of anything else; None where there is no such value."""

    field: str
    together: tuple[str, ...]
    number: Quantity[Any]
    share: float
    base_us: float
    better: Tried | None
    worse: Tried | None

    @property
    def elasticity(self) -> float | None:
        """Over all that was tried; None where no value but the machine's own could be timed."""
        return self._between(self.better, self.worse)

    @property
    def gain(self) -> float:
        """That of the better side alone, positive where the time shrinks."""
        found = self._between(self.better, None)
        return 0.0 if found is None else found if isinstance(self.number, Cost) else -found

    @property
    def doubtful(self) -> bool:
        """No source documents the number, and nobody measured it."""
        return self.number.evidence in DOUBTFUL

    def _between(self, *tried: Tried | None) -> float | None:
        own = float(self.number.value)
        times = {one.value: one.time_us for one in tried if one and one.time_us}
        low, high = (side({own, *times}) for side in (min, max))
        if low == high:
            return None
        times.setdefault(own, self.base_us)
        return math.log(times[high] / times[low]) / math.log(high / low)

    def to_json(self) -> dict[str, Any]:
        return {
            "field": self.field,
            "together": list(self.together),
            "value": self.number.value,
            "evidence": self.number.evidence.value,
            "elasticity": self.elasticity,
            "better": self.better.to_json() if self.better else None,
            "worse": self.worse.to_json() if self.worse else None,
            "path_share": self.share,
        }


@dataclass(frozen=True)
class Sensitivity:
    """The effects on a kernel's time, the largest first. `untried`: why a number that was asked for has
    none."""

    kernel: Kernel
    machine: Machine
    time_us: float
    step: float
    effects: tuple[Effect, ...]
    untried: dict[str, str]

    @property
    def improvable(self) -> list[Effect]:
        """Those by which the time shrinks, that by which it shrinks most first."""
        return sorted((one for one in self.effects if one.gain > WORTH_NAMING), key=lambda one: -one.gain)

    @property
    def doubtful(self) -> list[Effect]:
        """Those with an effect that no source documents, the largest first."""
        return [one for one in self.effects if one.doubtful and has_effect(one)]

    def to_json(self) -> dict[str, Any]:
        first = self.improvable
        return {
            "time_us": self.time_us,
            "step": self.step,
            "improve_first": first[0].field if first else None,
            "measure_first": self.doubtful[0].field if self.doubtful else None,
            "untried": [{"field": path, "reason": reason} for path, reason in self.untried.items()],
        }


def has_effect(one: Effect) -> bool:
    return one.elasticity is not None and abs(one.elasticity) >= NO_EFFECT


def sensitivity(
    entry: KernelEntry,
    problem: Problem,
    options: Options,
    machine: Machine,
    engine: EngineSettings,
    fields: Sequence[str] = (),
    step: float = 0.1,
    progress: Progress | None = None,
    announce: Callable[[Problem, Kernel], None] | None = None,
) -> Sensitivity:
    """Rank numbers of `machine`: those that carry time and UNSEEN, or all that `fields` (groups, paths or
    globs) name. `step`: by how much a number is raised and lowered, as a share of it.

    InputError for a step out of range, a field that the machine does not have, and a kernel that takes no
    time; what else is wrong with the kernel is said as `npusim.study.prepare` does.
    """
    if not SMALLEST <= step <= LARGEST:
        raise InputError(f"--step: must be {SMALLEST:g} to {LARGEST:g}, got {step:g}")
    wanted = globs_of([machine], fields)
    numerics = NumericsSettings(numerics=False)
    check_wishes(numerics, engine)
    prepared = prepare(entry, problem, options, machine, numerics, None)
    if announce:
        announce(prepared.problem, prepared.kernel)
    assert prepared.program
    trial = _Trial(entry, problem, options, prepared.program, engine)
    found = prediction(trial.run(machine).totals())
    base = found.on("task_duration")
    if base <= 0:
        raise InputError(f"{prepared.kernel.name}: takes no time on this machine: there is nothing to rank")
    shares = _shares(found, machine)
    known, untried = quantities(machine), {}
    groups = _groups(machine, _chosen(known, wanted) if wanted else _candidates(machine, found, shares))
    effects = []
    for place, (path, *others) in enumerate(groups):
        number = known[path]
        low, high = _values(path, number, step)
        if low is high is None:
            untried[path] = "it is 0" if not number.value else "there is no other value"
            continue
        if progress:
            progress(path, place, len(groups))
        less = None if low is None else trial.time((path, *others), low)
        more = None if high is None else trial.time((path, *others), high)
        better, worse = (less, more) if isinstance(number, Cost) else (more, less)
        effects.append(Effect(path, tuple(others), number, shares.get(path, 0.0), base, better, worse))
    effects.sort(key=lambda one: (-abs(one.elasticity or 0.0), -one.share, one.field))
    return Sensitivity(prepared.kernel, machine, base, step, tuple(effects), untried if wanted else {})


# --- which numbers ---------------------------------------------------------------------------------


def _shares(found: Prediction, machine: Machine) -> dict[str, float]:
    """Of the task time what each number carries: its elasticity to first order, without the sign."""
    known, base = quantities(machine), found.on("task_duration")
    return {
        path: abs(slope) * known[path].value / base
        for path, slope in slopes(found, machine, "task_duration").items()
    }


def _chosen(known: Iterable[str], wanted: Sequence[str]) -> list[str]:
    return [path for path in known if any(fnmatchcase(path, glob) for glob in wanted)]


def _candidates(machine: Machine, found: Prediction, shares: dict[str, float]) -> list[str]:
    """Numbers that carry time, by themselves or by what transfers share, and those that a path cannot see."""
    base = found.on("task_duration")
    carrying = {path for path, us in found.by_field.items() if us > LEAST_SHARE * base}
    carrying |= {path for path, share in shares.items() if share > LEAST_SHARE}
    known = quantities(machine)
    return [path for path in known if path in carrying or any(fnmatchcase(path, glob) for glob in UNSEEN)]


def _groups(machine: Machine, chosen: Iterable[str]) -> list[tuple[str, ...]]:
    """The numbers each by itself, but the sizes of levels that are one memory together."""
    levels = {f"levels.{name}.bytes": level.memory for name, level in machine.levels.items()}
    groups: dict[tuple[str, ...], None] = {}
    for path in chosen:
        memory = levels.get(path)
        others = [one for one, own in levels.items() if memory and own == memory]
        groups[tuple(others) or (path,)] = None
    return list(groups)


def _values(path: str, number: Quantity[Any], step: float) -> tuple[float | None, float | None]:
    """A smaller and a larger value; None where there is none. Core groups move by one at least; other whole
    numbers, most of them powers of two, are halved and doubled."""
    value = number.value
    low, high = value / (1 + step), value * (1 + step)
    if isinstance(number, Count | CountOrNone):
        low, high = value // 2, 2 * value
        if path == "core.groups":
            low = min(value - 1, round(value / (1 + step)))
            high = max(value + 1, round(value * (1 + step)))
    if isinstance(number, Share):
        low, high = max(low, 0.01), min(high, 1.0)
    return (low if 0 < low < value else None), (high if high > value else None)


# --- timing again ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Trial:
    """Times a kernel on machines that differ from the one of `program` in a number."""

    entry: KernelEntry
    problem: Problem
    options: Options
    program: Program
    engine: EngineSettings

    def time(self, paths: Sequence[str], value: float) -> Tried:
        try:
            changed = override(self.program.machine, dict.fromkeys(paths, value))
            ran = self.run(changed, any(map(Target.sees, paths)))
        except NpusimError as error:
            return Tried(value, None, str(error))
        own, built = self.program.kernel.settings, ran.program.kernel.settings
        others = {name: one for name, one in built.items() if own.get(name) != one}
        return Tried(value, task_us(ran), settings=others)

    def run(self, machine: Machine, rebuild: bool = False) -> Simulation:
        """The kernel is built anew where it may see what differs."""
        kernel, program = self.program.kernel, self.program
        if rebuild:
            kernel = self.entry.build(self.problem, self.options, Target.of(machine))
        with netting(kernel.where):
            if machine is not program.machine:
                program = lower(kernel, machine)
            return simulate(program, self.engine)
