"""What Compare shows: configurations with their times and errors, and timelines laid under one another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dashboard.service.cache import Cache
from dashboard.service.configurations import Alike, Configuration, Slots, configurations, slots
from dashboard.service.explore import Accuracy, Timing
from dashboard.service.steady import Located, Steady, busy, locate, steady, width_us
from dashboard.state import State
from npusim.errors import NpusimError

if TYPE_CHECKING:
    from dashboard.service import Service

PARTS = 160
"""of a run, in which the utilisation over time is told"""


@dataclass(frozen=True)
class Column:
    """A configuration and its time, or why there is none."""

    configuration: Configuration
    timing: Timing | None
    reason: str = ""


@dataclass(frozen=True)
class Comparison:
    """Configurations side by side; `base`, `edit`: places of the baseline and of the one that is edited."""

    columns: tuple[Column, ...]
    base: int
    edit: int
    alike: Alike


@dataclass(frozen=True)
class Strip:
    """The timelines of a configuration: its steady state, and of each unit the share of each part of the
    core time in which it is busy."""

    name: str
    steady: Steady
    core_us: float
    busy: dict[str, tuple[float, ...]]


class Comparisons:
    """Answers about several states, by those about one."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._runs: Cache[Located] = Cache(6)
        self._busy: Cache[dict[str, tuple[float, ...]]] = Cache(24)

    def slots(self, state: State) -> Slots:
        """The configurations of a link, at least two."""
        return slots(self._service, state)

    def compared(self, found: Slots) -> Comparison:
        """All configurations with their times."""
        named, alike = configurations(self._service, found)
        return Comparison(tuple(map(self._column, named)), found.base, found.edit, alike)

    def _column(self, one: Configuration) -> Column:
        try:
            return Column(one, self._service.timing(one.state))
        except NpusimError as error:
            return Column(one, None, str(error))

    def accuracies(self, found: Slots) -> tuple[Accuracy | str, ...]:
        """The error of every configuration, or why there is none."""
        return tuple(map(self._accuracy, found.states))

    def _accuracy(self, state: State) -> Accuracy | str:
        if not self._service.computes(state):
            return "not computed"
        try:
            return self._service.accuracy(state)
        except NpusimError as error:
            return str(error)

    def strips(self, comparison: Comparison) -> tuple[float, tuple[Strip | None, ...]]:
        """Timelines of all that can be, of equally many microseconds; None for the others."""
        runs = [self._run(one.configuration.state) if one.timing else None for one in comparison.columns]
        width = width_us([run for run in runs if run]) if any(runs) else 0.0
        made = (
            self._strip(one, run, width) if run else None
            for one, run in zip(comparison.columns, runs, strict=True)
        )
        return width, tuple(made)

    def _run(self, state: State) -> Located:
        service, asked = self._service, self._service.request(state)
        return self._runs.get(service.key(asked), lambda: locate(service.simulation(asked)))

    def _strip(self, one: Column, run: Located, width: float) -> Strip:
        sim = run.simulation
        key = self._service.key(self._service.request(one.configuration.state))
        shares = self._busy.get(
            key, lambda: {unit: tuple(map(float, own)) for unit, own in busy(sim, PARTS).items()}
        )
        return Strip(one.configuration.name, steady(run, width), sim.makespan / run.per_us, shares)
