"""The report: what a run means. Times by clock, by unit, by operation, by cause and by evidence."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from npusim import cost
from npusim.check import peak_bytes
from npusim.graph import Operation
from npusim.ideals import by_mechanism, work_by_unit
from npusim.machine import Evidence, Machine, quantities
from npusim.problem import Target
from npusim.program import PhaseProgram
from npusim.spent import CriticalPath
from npusim.totals import Timed, Totals
from npusim.usage import Busy, LaneUsage

COMPUTE_UNITS = ("aic_mac", "aiv_vec")
BUSY_ENOUGH = 0.8
"""a unit busy for more than this share of the time is called the bound (msprof's own rule)"""


@dataclass(frozen=True)
class UnitUsage:
    """Means over the cores used; `slowest_core_us` is the largest busy time of any core."""

    busy_us: float
    occupied_us: float
    """the part of it in which the unit could not have started another operation (no latency)"""
    utilisation: float
    slowest_core_us: float
    waiting: dict[str, float]
    """microseconds by cause; with busy_us they sum to the core time"""


@dataclass(frozen=True)
class Report:
    """Everything npusim says about a kernel's time on a machine. Times in microseconds."""

    core_us: float
    task_us: float
    event_us: float
    cycles: float
    cores: int
    bound: str
    dominant_unit: str
    units: dict[str, UnitUsage]
    breakdown: list[tuple[str, float]]
    critical_path: list[tuple[str, float]]
    mechanisms: list[tuple[str, float]]
    """what each mechanism that can be imagined away carries of the task time, the largest first"""
    work: list[tuple[str, float]]
    """what the work of each unit carries of it besides"""
    roofline: dict[str, float]
    bytes: dict[str, float]
    peak_bytes: dict[str, int]
    evidence: dict[str, float]
    assumed: list[tuple[str, float, str]]
    """(field, share of the task time it carries, evidence), the largest first"""
    operations: int

    def to_json(self) -> dict[str, Any]:
        """The timing part of `npusim run --json`."""
        return {
            "time_us": self.task_us,
            "times": {"core_us": self.core_us, "task_us": self.task_us, "event_us": self.event_us},
            "cycles": self.cycles,
            "bound": self.bound,
            "dominant_unit": self.dominant_unit,
            "cores": self.cores,
            "evidence": self.evidence,
            "units": {
                name: {
                    "busy_us": unit.busy_us,
                    "occupied_us": unit.occupied_us,
                    "utilisation": unit.utilisation,
                    "slowest_core_us": unit.slowest_core_us,
                }
                for name, unit in self.units.items()
            },
            "waiting": {name: unit.waiting for name, unit in self.units.items()},
            "breakdown": [{"name": name, "time_us": time} for name, time in self.breakdown],
            "critical_path": [{"name": name, "time_us": time} for name, time in self.critical_path],
            "mechanisms": [{"name": name, "time_us": time} for name, time in self.mechanisms],
            "work": [{"name": name, "time_us": time} for name, time in self.work],
            "roofline": self.roofline,
            "bytes": self.bytes,
            "peak_bytes": self.peak_bytes,
            "assumed": [{"field": f, "effect": e, "evidence": kind} for f, e, kind in self.assumed],
        }


@dataclass(frozen=True)
class Outline:
    """The short form of a report: how long a kernel takes, what bounds it, what it moves."""

    task_us: float
    bound: str
    dominant_unit: str
    utilisation: float
    """of the dominant unit"""
    bytes: dict[str, float]


def outline(totals: Totals, machine: Machine) -> Outline:
    """What a table of many kernels shows of one, without its critical path."""
    core_us = totals.makespan / machine.cycles_per_us
    units = _units(totals.busy, (), machine, core_us)
    bound, dominant = _bound(units, _roofline(totals, machine), core_us)
    return Outline(task_us(totals), bound, dominant, units[dominant].utilisation, _bytes(totals))


def summarise(totals: Totals, machine: Machine) -> Report:
    """Reduce a run to a report."""
    scale = machine.cycles_per_us
    core_us = totals.makespan / scale
    whole_us = task_us(totals)
    units = _units(totals.busy, totals.lanes, machine, core_us)
    roofline = _roofline(totals, machine)
    bound, dominant = _bound(units, roofline, core_us)
    by_field = {name: cycles / scale for name, cycles in totals.path.by_field.items()}
    for name, cycles in _launch_fields(machine, totals.program.mixed).items():
        by_field[name] = by_field.get(name, 0.0) + cycles
    evidence, assumed = _evidence(by_field, machine, whole_us)
    return Report(
        core_us=core_us,
        task_us=whole_us,
        event_us=cost.event_us(machine, whole_us),
        cycles=totals.makespan,
        cores=_used(totals.program.phases),
        bound=bound,
        dominant_unit=dominant,
        units=units,
        breakdown=_breakdown(totals, scale),
        critical_path=_path(totals.path, scale),
        mechanisms=list(by_mechanism(by_field).items()),
        work=[(unit, time) for unit, time in work_by_unit(by_field, machine).items() if time > 1e-6],
        roofline=roofline,
        bytes=_bytes(totals),
        peak_bytes=peak_bytes(totals.program.kernel, Target.of(machine)),
        evidence=evidence,
        assumed=assumed,
        operations=totals.operations,
    )


def task_us(run: Timed) -> float:
    """Core time and launch, microseconds."""
    machine = run.program.machine
    overhead = cost.task_overhead_us(machine, run.program.mixed)
    return run.makespan / machine.cycles_per_us + overhead


def _units(
    busy: Mapping[str, Busy], lanes: Iterable[LaneUsage], machine: Machine, core_us: float
) -> dict[str, UnitUsage]:
    """By name, all units of a machine, with what those of `lanes` waited for."""
    scale = machine.cycles_per_us
    causes: dict[str, dict[str, float]] = {name: defaultdict(float) for name in busy}
    for lane in lanes:
        for cause, cycles in lane.waiting.items():
            causes[lane.unit][cause] += cycles / scale / len(busy[lane.unit].busy)
    found: dict[str, UnitUsage] = {}
    for name in machine.units:
        own = busy.get(name)
        if own is None:
            found[name] = UnitUsage(0.0, 0.0, 0.0, 0.0, {"unused": core_us})
            continue
        mean = float(own.busy.mean()) / scale
        waiting = dict(sorted(causes[name].items(), key=lambda item: -item[1]))
        found[name] = UnitUsage(
            mean, float(own.occupied.mean()) / scale, mean / core_us if core_us else 0.0,
            float(own.busy.max()) / scale, waiting,
        )  # fmt: skip
    return found


def _bound(units: dict[str, UnitUsage], roofline: dict[str, float], core_us: float) -> tuple[str, str]:
    """The bound and the unit that sets it: a compute or a memory unit busy for more than 80 % of the time, of
    several the one that is occupied longest; memory that loads and stores share, so that no unit need be busy
    all the time; where there is none, latency, and the unit that is busiest."""
    working = {name: unit for name, unit in units.items() if not name.endswith("scalar")}
    full = [name for name, unit in working.items() if unit.utilisation > BUSY_ENOUGH]
    if full:
        unit = max(full, key=lambda name: (working[name].occupied_us, working[name].utilisation))
        return "compute" if unit in COMPUTE_UNITS else "memory", unit
    if max(roofline["hbm_us"], roofline["l2_us"]) > BUSY_ENOUGH * core_us:
        moving = [name for name in working if name not in COMPUTE_UNITS]
        return "memory", max(moving, key=lambda name: units[name].utilisation)
    return "latency", max(units, key=lambda name: units[name].utilisation, default="")


def _breakdown(totals: Totals, scale: float) -> list[tuple[str, float]]:
    """Time each operation occupies its unit, on the mean core of those that run it."""
    total: dict[str, float] = defaultdict(float)
    for phase, spent in zip(totals.program.phases, totals.occupied, strict=True):
        cores = _cores(phase)
        for instance, cycles in zip(phase.instances, spent, strict=True):
            total[instance.name] += float(cycles) / scale / phase.streams / cores[instance.operation]
    return sorted(((n, t) for n, t in total.items() if t > 0), key=lambda item: -item[1])


def _used(phases: tuple[PhaseProgram, ...]) -> int:
    """Core groups that take part, or the vector cores where no phase has others."""
    alone = all(phase.cores == ("aiv",) for phase in phases)
    return max((p.streams if alone else -(-p.streams // p.per_group) for p in phases), default=0)


def _cores(phase: PhaseProgram) -> Counter[Operation | None]:
    """On how many cores of a group each operation runs."""
    return Counter(op for op, _ in {(i.operation, phase.lanes[i.lane].core) for i in phase.instances})


def _path(path: CriticalPath, scale: float) -> list[tuple[str, float]]:
    named = ((name, cycles / scale) for name, cycles in path.by_name.items() if cycles > 1e-6)
    return sorted(named, key=lambda item: -item[1])


def _bytes(totals: Totals) -> dict[str, float]:
    total = dict.fromkeys(("hbm_read", "hbm_written", "l2_read", "l2_written"), 0.0)
    for phase, counts in zip(totals.program.phases, totals.counts, strict=True):
        for instance, count in zip(phase.instances, counts, strict=True):
            for flow in instance.flows:
                if flow.pools[0] in ("hbm", "l2"):
                    total[f"{flow.pools[0]}_{'written' if flow.write else 'read'}"] += flow.bytes * int(count)
    return total


def _roofline(totals: Totals, machine: Machine) -> dict[str, float]:
    """Least time per resource if nothing else cost anything, all cores of the chip sharing evenly."""
    cube = vector = 0.0
    for phase, counts in zip(totals.program.phases, totals.counts, strict=True):
        for instance, count in zip(phase.instances, counts, strict=True):
            for name, cycles in instance.cost.terms:
                if name.startswith("core.cube.k0"):
                    cube += cycles * int(count)
                elif ".cycles_per_repeat" in name:
                    vector += cycles * int(count)
    groups = machine.core.groups.value
    moved = _bytes(totals)
    scale = machine.cycles_per_us
    terms = {
        "cube_us": cube / groups / scale,
        "vector_us": vector / (groups * max(1, machine.core.vector_cores.value)) / scale,
        "hbm_us": (moved["hbm_read"] + moved["hbm_written"]) / machine.pool_bytes_per_cycle("hbm") / scale,
        "l2_us": (moved["l2_read"] + moved["l2_written"]) / machine.pool_bytes_per_cycle("l2") / scale,
    }
    return terms | {"limit_us": max(terms.values())}


def _launch_fields(machine: Machine, mixed: bool) -> dict[str, float]:
    """Microseconds of the task beyond core time, by field."""
    fields = {"launch.base_us": machine.launch.base_us.value}
    if mixed:
        fields["launch.mixed_us"] = machine.launch.mixed_us.value
    return fields


def _evidence(
    by_field: dict[str, float], machine: Machine, task_us: float
) -> tuple[dict[str, float], list[tuple[str, float, str]]]:
    """Shares of the task time by evidence, and the numbers below `measured` that carried most.

    Each cost is rounded to the time grid, so that together they may come to a little more than the time.
    """
    known = quantities(machine)
    shares = {kind.value: 0.0 for kind in Evidence}
    doubtful: list[tuple[str, float, str]] = []
    for name, time in by_field.items():
        if name == "memory.hbm_gb_per_s" and "memory.hbm_efficiency" in known:
            name = "memory.hbm_efficiency"  # the weaker of the two that make up the rate
        if name not in known:
            continue  # what rounding to the time grid left over
        share = min(1.0, time / task_us) if task_us else 0.0
        kind = known[name].evidence
        shares[kind.value] = min(1.0, shares[kind.value] + share)
        if kind in (Evidence.assumed, Evidence.fitted) and share > 5e-4:
            doubtful.append((name, share, kind.value))
    return shares, sorted(doubtful, key=lambda item: -item[1])[:10]
