"""What Timeline shows of a run, by what its link says."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np

from dashboard.service import Service, unknown
from dashboard.service.cache import Cache
from dashboard.service.operation import Chosen, Place, chosen_of, parsed
from dashboard.service.run import NARROWEST_US, ROWS, Bars, Heat, Lane, Run, Window, bars_of, heat_of, run_of
from dashboard.state import State
from npusim.errors import InputError
from npusim.order import trips_around
from npusim.trace import write_trace

PAGE = "timeline"
OWN = ("from", "to", "cores", "op")
"""settings of the page"""
BARS = 4000
"""operations in view up to which each is a bar"""
ITERATION = 600
"""operations that an iteration has at most, where there is a loop inside that has less"""
ENOUGH = 120
"""operations of a core group that are worth a first look"""
TRACE = 100_000
"""operations of a trace at most: a file of some 35 MB"""
RUNS = 4


@dataclass(frozen=True, eq=False)
class Frame:
    """Where a link looks, and at which operation; at which core groups of a run, as they are called and by
    their numbers. `wrong`: what of the link is nonsense, and why."""

    run: Run
    window: Window
    groups: tuple[int, ...]
    cores: str
    chosen: Chosen | None
    wrong: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class View:
    """What is in view. `exact`: whether the operations were counted, or are that many on average; there are
    either bars or a heat map of the lanes."""

    frame: Frame
    lanes: tuple[Lane, ...]
    operations: int
    exact: bool
    bars: Bars | None = None
    heat: Heat | None = None

    @property
    def run(self) -> Run:
        return self.frame.run

    @property
    def window(self) -> Window:
        return self.frame.window

    @property
    def groups(self) -> tuple[int, ...]:
        return self.frame.groups

    @property
    def chosen(self) -> Chosen | None:
        return self.frame.chosen

    @property
    def traceable(self) -> bool:
        """Whether a trace of it is of a size that viewers take."""
        return self.operations <= TRACE


class Timelines:
    """Answers about what happened when, over a service; the last runs are kept."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._runs: Cache[Run] = Cache(RUNS)
        self._first: Cache[Window] = Cache(8 * RUNS)

    def run(self, state: State) -> Run:
        """The run of a state. Refused for a state that cannot be."""
        service, asked = self._service, self._service.request(state)
        return self._runs.get(service.key(asked), lambda: run_of(service.simulation(asked)))

    def frame(self, state: State) -> Frame:
        """Where a link looks; what of it is nonsense is said, and something near it is looked at."""
        run, own = self.run(state), state.own(PAGE)
        wrong = unknown(own, OWN, PAGE)
        chosen = None
        if op := own.get("op"):
            place = parsed(run.program, op)
            chosen = None if place is None else chosen_of(run.simulation, run.facts, place)
            if chosen is None:
                wrong.append(f"timeline.op={op}: the run has no such operation; click one")
        cores = own.get("cores") or (str(chosen.unit[1]) if chosen else "0")
        groups = _groups(run, cores, wrong)
        window = _window(run, own, wrong)
        if window is None:
            window = self.first(state, groups[0])
            if chosen is not None:
                window = iteration_of(run, chosen.place) or window.around(chosen.start / run.scale)
        return Frame(run, window.within(run.makespan), groups, cores, chosen, tuple(wrong))

    def view(self, state: State) -> View:
        """What a link shows."""
        return look(self.frame(state))

    def first(self, state: State, group: int) -> Window:
        """What is worth a first look at a core group: an iteration or two from the middle of the run."""
        run = self.run(state)
        key = (self._service.key(self._service.request(state)), group)
        return self._first.get(key, lambda: first_look(run, group))

    def iteration(self, state: State) -> Window:
        """The iteration in the middle of what is in view; where there is none, what is in view."""
        frame = self.frame(state)
        middle = (frame.window.start + frame.window.end) / 2
        return iteration(frame.run, frame.groups[0], middle) or frame.window

    def trace(self, state: State) -> str:
        """The trace of what is in view. InputError where it holds too much for one."""
        frame = self.frame(state)
        run, window = frame.run, frame.window
        about = run.about(window, len(frame.groups))
        if about > 2 * TRACE:
            raise InputError(too_much(round(about), False))
        rows = run.between(window, frame.groups)
        if rows.operations > TRACE:
            raise InputError(too_much(rows.operations, True))
        stream = io.StringIO()
        write_trace(
            rows, stream, operations=run.operations, from_us=window.start, to_us=window.end,
            core_groups=list(frame.groups),
        )  # fmt: skip
        return stream.getvalue()


def _groups(run: Run, text: str, wrong: list[str]) -> tuple[int, ...]:
    """Core groups from '0', '0-3,8' or 'all'."""
    parts: list[range] = []
    try:
        for part in text.replace(" ", "").split(","):
            low, dash, high = part.partition("-")
            whole = part == "all"
            parts.append(range(run.groups) if whole else range(int(low), int(high if dash else low) + 1))
    except ValueError:
        wrong.append(f"timeline.cores={text}: core groups are a number, a range as 0-3, several, or all")
        return (0,)
    known = tuple(one for one in range(run.groups) if any(one in part for part in parts))
    if not known or not all(part and part[0] >= 0 and part[-1] < run.groups for part in parts):
        wrong.append(f"timeline.cores={text}: the run has the core groups 0 to {run.groups - 1}")
    return known or (0,)


def _window(run: Run, own: dict[str, str], wrong: list[str]) -> Window | None:
    """The window that a link names; None for the first one."""
    if "from" not in own and "to" not in own:
        return None
    ends = []
    for name, text in (("from", own.get("from", "0")), ("to", own.get("to", repr(run.makespan)))):
        try:
            ends.append(float(text))
        except ValueError:
            wrong.append(f"timeline.{name}={text}: a time is a number of microseconds, as 12.5")
    if len(ends) < 2:
        return None
    if not np.isfinite(ends).all() or ends[0] >= ends[1]:
        wrong.append(f"timeline.from={ends[0]:g}, timeline.to={ends[1]:g}: the end must be after the start")
        return None
    if ends[0] >= run.makespan or ends[1] <= 0:
        wrong.append(
            f"from {ends[0]:,.6g} to {ends[1]:,.6g} µs nothing runs: the run takes {run.makespan:,.6g} µs"
        )
        return None
    return Window(*ends)


def too_much(operations: int, exact: bool) -> str:
    return (
        f"a trace holds at most {TRACE:,} operations, and there are {'' if exact else 'about '}"
        f"{operations:,} in view: zoom in, or choose fewer core groups"
    )


def iteration(run: Run, group: int, moment: float, enough: int = 0) -> Window | None:
    """The trip of a loop that a core group is in at a moment, or so many that they hold `enough` operations;
    None where it is in none near by."""
    place = _near(run, group, moment)
    return None if place is None else iteration_of(run, place, enough)


def iteration_of(run: Run, place: Place, enough: int = 0) -> Window | None:
    """The trip of a loop that an operation belongs to, and as many after it; None where it is in no loop."""
    around = trips_around(run.program.phases[place.phase], place.stream, place.number)
    trips = [trip for _, trip in around]
    if not trips:
        return None
    short = next((n for n, (low, high) in enumerate(trips) if high - low <= ITERATION), len(trips) - 1)
    low, high = trips[short]
    times = max(1, -(-enough // (high - low)))
    rows = run.simulation.numbered(place.phase, place.stream, low, low + times * (high - low))
    start, end = float(rows.start.min()) / run.scale, float(rows.done.max()) / run.scale
    return Window(start, end).zoomed(1.04).within(run.makespan)


def _near(run: Run, group: int, moment: float) -> Place | None:
    """An operation of a core group at a moment or not far from it."""
    width = max(NARROWEST_US, 1e-6 * run.makespan)
    while True:
        rows = run.between(Window(moment - width / 2, moment + width / 2), [group])
        if rows.operations:
            first = int(rows.start.argmin())
            return Place(int(rows.phase[first]), int(rows.stream[first]), int(rows.number[first]))
        if width > 0.1 * run.makespan:
            return None
        width *= 8


def first_look(run: Run, group: int) -> Window:
    """An iteration or two of a core group from the middle of the run; all of a short one."""
    whole = Window(0.0, run.makespan)
    if run.about(whole, 1) <= ITERATION:
        return whole
    return iteration(run, group, run.makespan / 2, ENOUGH) or whole


# --- what is in view -----------------------------------------------------------------------------


def look(frame: Frame) -> View:
    """Bars where they are few enough, and else a heat map; where it costs little, of some more than is in
    view, so that a figure can be dragged."""
    run, window, groups = frame.run, frame.window, frame.groups
    lanes = tuple(lane for lane in run.lanes if lane.group in groups)
    about = run.about(window, len(groups))
    operations, exact = round(about), False
    if len(lanes) <= ROWS and about <= 2 * BARS:
        rows = run.between(window.zoomed(2.0) if about <= BARS / 4 else window, groups)
        start, end = window.start * run.scale, window.end * run.scale
        seen = np.flatnonzero((rows.start < end) & (rows.done > start))
        operations, exact = len(seen), True
        if operations <= BARS:
            shown = rows if rows.operations <= BARS else rows.only(seen)
            return View(frame, lanes, operations, exact, bars=bars_of(run, shown, lanes))
    more = window.zoomed(2.0).within(run.makespan)
    heat = heat_of(run, more, window, lanes)
    return View(frame, heat.lanes, operations, exact, heat=heat)
