"""Running a sweep: what is in the store already stays, the rest is computed and put there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from npusim.errors import InputError
from npusim.kernels import KernelEntry
from npusim.registry import find_kernels, load_registry
from npusim.sweep.evaluate import Outcome, evaluate
from npusim.sweep.point import Point, Stamp, code_digest, file_digest, own_files, skip_key
from npusim.sweep.spec import Machines, Skip, Spec
from npusim.sweep.store import Row, Store
from npusim.user_kernel import Files
from npusim.workers import Workers

TASK = 12
"""points that a worker takes at once: few enough that a killed sweep loses little, and enough that they share
what they compute"""

Progress = Callable[[int, int], None]
"""called with how many points are known, of how many"""


@dataclass(frozen=True)
class Planned:
    """A point with its key and what it was asked, or why it is none."""

    key: str
    settings: dict[str, Any]
    point: Point | None
    reason: str = ""


@dataclass(frozen=True)
class Plan:
    """All points of a sweep, or of a shard of it; those that compute on the same data stand together."""

    spec: Spec
    kernel: str
    """what the kernel is called"""
    algorithms: tuple[str, ...]
    stamp: Stamp
    points: tuple[Planned, ...]
    whole: bool
    """no shard of a larger one"""

    @property
    def keys(self) -> list[str]:
        return [one.key for one in self.points]


@dataclass(frozen=True)
class Summary:
    """How many points there are, and what became of them; `computed`: those of them that were computed now,
    `known`: those that the store had; `reasons`: why points were skipped or failed, with how many each."""

    points: int
    done: int
    skipped: int
    failed: int
    computed: int
    known: int
    reasons: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        return {
            "points": self.points, "done": self.done, "skipped": self.skipped, "failed": self.failed,
            "computed": self.computed, "known": self.known, "reasons": self.reasons,
        }  # fmt: skip


def plan(spec: Spec, registry: str, shard: tuple[int, int] = (1, 1)) -> Plan:
    """The points of shard i of n. InputError for what is wrong with the sweep as a whole."""
    files: Files = {}
    asked = tuple(str(name) for name in spec.fields.get("algorithm", ()))
    entry = find_kernels(load_registry(registry), spec.kernel, asked, files)
    if not asked and spec.kernel not in load_registry(registry):
        asked = tuple(entry.algorithms)
        spec = Spec(spec.kernel, {"algorithm": list(asked), **spec.fields}, spec.numbers)
    spec.check(entry)
    machines = Machines()
    found = list(spec.points(entry, machines))
    inputs = {one.numerics.inputs for one in found if isinstance(one, Point) and one.numerics.inputs}
    digests = {path: file_digest(path) for path in inputs}
    stamp = Stamp(code_digest(), own_files(files), machines.digests, digests)
    planned = (_planned(spec.kernel, entry, one, stamp) for one in found)
    made = list({one.key: one for one in planned}.values())
    number, of = shard
    made.sort(key=_data)
    tasks = [task for n, task in enumerate(_tasks(made)) if n % of == number - 1]
    points = tuple(point for task in tasks for point in task)
    return Plan(spec, entry.name, asked, stamp, points, whole=of == 1)


def _planned(kernel: str, entry: KernelEntry, one: Point | Skip, stamp: Stamp) -> Planned:
    if isinstance(one, Point):
        return Planned(one.key(entry, stamp), one.settings(entry), one)
    return Planned(skip_key(kernel, one.settings, stamp), _plain(one.settings), None, one.reason)


def _plain(settings: Any) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}


def _data(one: Planned) -> str:
    return one.point.data if one.point else ""


def _tasks(points: Sequence[Planned]) -> Iterator[list[Planned]]:
    """Pieces of some points, of the same data each."""
    task: list[Planned] = []
    for one in points:
        if task and (len(task) == TASK or _data(one) != _data(task[0])):
            yield task
            task = []
        task.append(one)
    if task:
        yield task


def run(
    wanted: Plan, registry: str, store: Store, workers: Workers, progress: Progress | None = None
) -> Summary:
    """Compute what the store lacks, and put it there piece by piece."""
    known = store.known(wanted.keys)
    there = ((one.key, _files(wanted, one)) for one in wanted.points if one.key in known)
    store.place({key: files for key, files in there if files})
    left = [one for one in wanted.points if one.key not in known]
    reasons = [one for one in left if one.point is None]
    store.add(_row(wanted, one, Outcome("skipped", reason=one.reason)) for one in reasons)
    tasks = list(_tasks([one for one in left if one.point is not None]))
    total, count = len(wanted.points), len(known) + len(reasons)
    if progress:
        progress(count, total)
    common = (registry, wanted.spec.kernel, wanted.algorithms, wanted.stamp)
    asked = [(*common, [one.point for one in task]) for task in tasks]
    computed = 0
    for number, outcomes in workers(evaluate, asked):
        pairs = zip(tasks[number], outcomes, strict=True)
        store.add(_row(wanted, one, outcome) for one, outcome in pairs)
        computed += len(outcomes)
        if progress:
            progress(count + computed, total)
    return summary(wanted, store, computed, len(known))


def _row(wanted: Plan, one: Planned, found: Outcome) -> Row:
    stamp = wanted.stamp
    machine = stamp.machines[one.point.machine] if one.point else ""
    return Row(
        one.key, wanted.kernel, found.status, one.settings, found.built, found.result, found.reason,
        stamp.code, machine, _files(wanted, one),
    )  # fmt: skip


def _files(wanted: Plan, one: Planned) -> dict[str, str]:
    """Digests by path of the files that a point is computed with."""
    inputs = one.point.numerics.inputs if one.point else None
    own = {str(Path(inputs).resolve()): wanted.stamp.inputs[inputs]} if inputs else {}
    return {**wanted.stamp.files, **own}


def summary(wanted: Plan, store: Store, computed: int, known: int) -> Summary:
    """What the store knows of the points. InputError where nothing could be done at all."""
    rows = store.rows(wanted.keys)
    states = Counter(row.status for row in rows)
    reasons = Counter(row.reason for row in rows if row.reason)
    if rows and not states["done"] and wanted.whole:
        first, count = reasons.most_common(1)[0]
        raise InputError(f"sweep: none of {len(rows)} points could be done; {count} of them: {first}")
    return Summary(
        len(wanted.points), states["done"], states["skipped"], states["failed"], computed, known,
        dict(reasons.most_common()),
    )  # fmt: skip
