"""The one way from the dashboard to npusim: questions in plain settings, answers in frozen records.

Nothing here knows Dash. Every mistake that a person can make is a `Refused`, whose text is npusim's own.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import RLock
from typing import Any

from dashboard.service import controls, machines
from dashboard.service.cache import Cache
from dashboard.service.controls import Control
from dashboard.service.explore import (
    Accuracy,
    Doubt,
    Peaks,
    Span,
    Timing,
    accuracy_of,
    simulated,
    timing_of,
)
from dashboard.service.machines import Number, Setup, Way
from dashboard.service.tilegraph import Block, Edge, Graph, Node, Operand, PhaseGraph, Term, graph_of
from dashboard.state import State
from npusim.check import check
from npusim.errors import InputError, NpusimError, did_you_mean
from npusim.graph import Kernel
from npusim.kernels import Algorithm, KernelEntry
from npusim.machine import Machine, quantities
from npusim.problem import Options, Problem, Target, refuse
from npusim.profiles import load_machine
from npusim.registry import Registry, find_kernels, load_registry
from npusim.report import Report, UnitUsage, task_us
from npusim.settings import MachineSettings, NumericsSettings
from npusim.simulate import Simulation, load_engine
from npusim.study import find_data, prepare

__all__ = [
    "Accuracy", "Block", "Choice", "Control", "Doubt", "Edge", "Graph", "Node", "Number", "Operand", "Panel",
    "Peaks", "PhaseGraph", "Refused", "Report", "Service", "Span", "Term", "Timing", "UnitUsage", "Way",
]  # fmt: skip

Refused = NpusimError
"""bad input; its text says what, where and what to do"""
REGISTRY = "algorithms:REGISTRY"
SIMULATIONS = 6
"""runs that are kept, which are states of the engine: their size does not grow with a run's length"""
SAMPLES = {"triangles": 16, "sequences": 4, "tensors": 2}
"""pieces that are computed where nothing is asked, by the kind of a kernel's data: so many that dials turn"""


@dataclass(frozen=True)
class Choice:
    """One of several things to choose: its name and what it is."""

    name: str
    meaning: str


@dataclass(frozen=True)
class Panel:
    """All that can be set for a kernel: what is chosen, and the controls that mean something to it."""

    state: State
    kernels: tuple[Choice, ...]
    algorithms: tuple[Choice, ...]
    algorithm: str
    variants: tuple[Choice, ...]
    variant: str
    default_variant: str
    baselines: tuple[str, ...]
    baseline: str
    profiles: tuple[str, ...]
    profile: str
    problem: tuple[Control, ...]
    options: tuple[Control, ...]
    numerics: tuple[Control, ...]
    machine: tuple[Control, ...]
    ways: tuple[Way, ...]
    ideals: tuple[str, ...]


@dataclass(frozen=True)
class Request:
    """A state as npusim's own settings, checked."""

    kernel: str
    """as the state calls it: several functions of one file are kernels apart"""
    entry: KernelEntry
    problem: Problem
    options: Options
    setup: Setup
    numerics: NumericsSettings
    baseline: str


class Service:
    """Answers about states. `own`: a user's own kernels, FILE.py:FUNCTION, which stand beside the built-in
    ones; `folder`: where profiles are found and saved. Kept for all threads; a link names no other files."""

    def __init__(self, own: Iterable[str] = (), folder: Path | None = None) -> None:
        self.folder = (folder or Path.cwd()).resolve()
        built_in = load_registry(REGISTRY)
        self.entries: Registry = {**built_in, **{name: find_kernels(built_in, name) for name in own}}
        self._own = frozenset(own)
        self._building = RLock()
        self._machines: Cache[Machine] = Cache(32)
        self._kernels: Cache[Kernel] = Cache(32)
        self._simulations: Cache[Simulation] = Cache(SIMULATIONS)
        self._timings: Cache[Timing] = Cache(24)
        self._times: Cache[float] = Cache(64)
        self._data: Cache[Any] = Cache(6)
        self._accuracies: Cache[Accuracy] = Cache(24)
        self._graphs: Cache[Graph] = Cache(4)

    def warm(self) -> None:
        """Have the engine's machine code there before anyone waits for it."""
        from dashboard.service.explore import ENGINE

        load_engine(ENGINE)

    # --- what is asked -------------------------------------------------------------------------

    def entry(self, state: State) -> KernelEntry:
        if state.kernel not in self.entries:
            raise InputError(f"no kernel {state.kernel!r}; {did_you_mean(state.kernel, self.entries)}")
        return self.entries[state.kernel]

    def request(self, state: State) -> Request:
        """A state as settings. Refused for what cannot be, and for a name that nothing is called."""
        entry = self.entry(state)
        models = (Problem, Options, MachineSettings, NumericsSettings)
        known = {name for model in models for name in model.model_fields} | {"baseline", "paths"}
        known -= {"inputs", "output", "timing"}  # a link opens and writes no files
        given: dict[str, Any] = dict(state.asked.values)
        for text in unknown(given, known):
            raise InputError(text)
        given["set"] = state.listed("set")
        samples = given.get("samples", SAMPLES[entry.data])
        given = {
            **given,
            "samples": samples,
            "profile": machines.place(state.get("profile", _PROFILE), self.folder),
        }
        problem, options, setting, numerics = (
            model.parse(**{name: value for name, value in given.items() if name in model.model_fields})
            for model in models
        )
        assert isinstance(problem, Problem) and isinstance(options, Options)
        assert isinstance(setting, MachineSettings) and isinstance(numerics, NumericsSettings)
        entry.algorithm(options.algorithm)
        entry.check_sizes(problem)
        names, way = problem.idle
        refuse(problem, names, f"{way}; drop one of the two")
        setup = Setup(setting, state.listed("paths"))
        baseline = state.get("baseline") or next(iter(self.baselines(entry)), "")
        if baseline:
            entry.named(baseline, "baseline")
        return Request(state.kernel, entry, problem, options, setup, numerics, baseline)

    def cleaned(self, state: State) -> State:
        """Without what means nothing to the state's kernel and algorithm any more, as a control of another
        has set it."""
        entry = self.entry(state)
        if state.get("algorithm") not in entry.algorithms:
            state = state.updated(algorithm=None)
        algorithm = entry.algorithm(state.get("algorithm") or None)
        if state.get("variant") not in algorithm.variants:
            state = state.updated(variant=None)
        if state.get("baseline") not in self.baselines(entry):
            state = state.updated(baseline=None)
        sizes = set(entry.sizes) - {name for name, _ in entry.fixed} - set(_idle(state))
        rest = {
            *MachineSettings.model_fields,
            *controls.NUMERICS,
            "numerics",
            "dtype",
            "baseline",
            "paths",
        }
        variant = state.get("variant")
        taken = algorithm.parameters - (
            algorithm.textbook_only if variant and variant != "textbook" else frozenset()
        )
        state = state.only({*sizes, *taken, *rest, "algorithm", "variant"})
        return self._without_defaults(state, entry, algorithm)

    def _without_defaults(self, state: State, entry: KernelEntry, algorithm: Algorithm) -> State:
        """Equal views have equal links: what says the default says nothing."""
        known = {
            **controls.controls_of(Problem),
            **controls.controls_of(MachineSettings),
            **{one.name: one for one in controls.numerics_controls(SAMPLES[entry.data])},
        }
        same = {name: None for name, text in state.values if name in known and known[name].default == text}
        first = next(iter(entry.algorithms))
        if algorithm.name == first:
            same["algorithm"] = None
        if state.get("baseline") == next(iter(self.baselines(entry)), ""):
            same["baseline"] = None
        return state.updated(**same)

    @staticmethod
    def baselines(entry: KernelEntry) -> tuple[str, ...]:
        """What a kernel can be held against: its algorithms, those first that are meant for it; or the
        variants of its only one, the textbook form first."""
        if len(entry.algorithms) > 1:
            return tuple(dict.fromkeys([*entry.baselines, *entry.algorithms]))
        only = next(iter(entry.algorithms.values()))
        return (
            tuple(f"{only.name}:{variant}" for variant in reversed(list(only.variants)))
            if len(only.variants) > 1
            else ()
        )

    def panel(self, state: State) -> Panel:
        """The controls for a state. Where the state cannot be, they are those of its kernel and algorithm."""
        entry = self.entry(state)
        name = state.get("algorithm")
        algorithm = entry.algorithms.get(name) or entry.algorithm(None)
        problem, default, chosen = Problem(), next(iter(algorithm.variants)), {}
        own = machine = load_machine(_PROFILE)
        try:
            asked = self.request(state)
            problem = asked.problem
            own, machine = load_machine(asked.setup.settings.profile), self.machine(asked.setup)
            target = Target.of(machine)
            default = algorithm.variant(problem, Options(algorithm=algorithm.name), target)
            plain = Options(algorithm=algorithm.name, variant=asked.options.variant)
            chosen = dict(self.kernel(replace(asked, options=plain), machine).settings)
        except NpusimError:
            pass
        variant = state.get("variant") if state.get("variant") in algorithm.variants else default
        baselines = self.baselines(entry)
        return Panel(
            state,
            tuple(Choice(name, one.meaning) for name, one in self.entries.items()),
            tuple(Choice(one.name, one.meaning) for one in entry.algorithms.values()), algorithm.name,
            tuple(Choice(name, meaning) for name, meaning in algorithm.variants.items()), variant,
            default, baselines, state.get("baseline") or next(iter(baselines), ""),
            tuple(machines.profiles(self.folder)), state.get("profile", _PROFILE),
            tuple(controls.problem_controls(entry, problem)),
            tuple(controls.option_controls(algorithm, variant, chosen)),
            tuple(controls.numerics_controls(SAMPLES[entry.data])),
            tuple(controls.machine_controls(own.core.groups.value)),
            tuple(machines.ways(machine, own)), machines.ideals(),
        )  # fmt: skip

    # --- what is answered ------------------------------------------------------------------------

    def machine(self, setup: Setup) -> Machine:
        stamp = machines.stamp(setup.settings.profile)
        return self._machines.get((setup, stamp), setup.machine)

    def kernel(self, asked: Request, machine: Machine, problem: Problem | None = None) -> Kernel:
        """The tile graph of a request, for its problem or another."""
        problem = problem or asked.problem
        key = (asked.kernel, problem, asked.options, machines.seen(machine))

        def build() -> Kernel:
            target = Target.of(machine)
            with self.guarded(asked.kernel), asked.entry.advising(problem, asked.options, target):
                return check(asked.entry.build(problem, asked.options, target), target)

        return self._kernels.get(key, build)

    @contextmanager
    def guarded(self, kernel: str) -> Iterator[None]:
        """A user's own file runs alone: it changes where modules are found."""
        if kernel not in self._own:
            yield
            return
        with self._building:
            yield

    def timing(self, state: State) -> Timing:
        """How long the kernel takes, and why."""
        asked = self.request(state)
        return self._timings.get(self.key(asked), lambda: timing_of(self.simulation(asked), asked.problem))

    def simulation(self, asked: Request) -> Simulation:
        """The run of a request, from which any part of its timeline is played back."""

        def compute() -> Simulation:
            machine = self.machine(asked.setup)
            return simulated(self.kernel(asked, machine), machine)

        return self._simulations.get(self.key(asked), compute)

    @staticmethod
    def key(asked: Request) -> tuple[Any, ...]:
        """What a time depends on."""
        stamp = machines.stamp(asked.setup.settings.profile)
        return (asked.kernel, asked.problem, asked.options, asked.setup, stamp)

    def baseline(self, state: State) -> tuple[str, float | str]:
        """The baseline's name, and its time in microseconds or why there is none; all but the algorithm and
        its parameters is the same."""
        asked = self.request(state)
        if not asked.baseline:
            return "", "the kernel has one algorithm"
        algorithm, variant = asked.entry.named(asked.baseline, "baseline")
        options = Options(algorithm=algorithm.name, variant=variant)
        try:
            other = replace(asked, options=options)
            time = self._times.get(self.key(other), lambda: task_us(self.simulation(other)))
            return asked.baseline, time
        except NpusimError as error:
            return asked.baseline, str(error)

    def accuracy(self, state: State) -> Accuracy:
        """How wrong the result is, on a sample."""
        asked = self.request(state)
        machine = self.machine(asked.setup)
        numerics = asked.numerics.model_copy(update={"timing": False})
        drawn = (asked.kernel, asked.problem, numerics)
        key = (*drawn, asked.options, machines.seen(machine))

        def compute() -> Accuracy:
            data = self._data.get(drawn, lambda: find_data(asked.entry, asked.problem, numerics))
            if data is None:
                raise InputError("nothing is computed; switch the numerics on")
            with self.guarded(asked.kernel):
                ready = prepare(asked.entry, asked.problem, asked.options, machine, numerics, data)
            if ready.sample is None:
                raise InputError("nothing is computed; switch the numerics on")
            return accuracy_of(data, ready.sample)

        return self._accuracies.get(key, compute)

    def computes(self, state: State) -> bool:
        """Whether there is an error to ask for: it was not switched off, and the kernel has outputs. Where
        there is no kernel, asking says why."""
        if state.get("numerics") == "no":
            return False
        try:
            asked = self.request(state)
            return bool(self.kernel(asked, self.machine(asked.setup)).outputs)
        except NpusimError:
            return True

    def graph(self, state: State) -> Graph:
        """The tile graph, costed."""
        asked = self.request(state)
        machine = self.machine(asked.setup)
        return self._graphs.get(self.key(asked), lambda: graph_of(self.kernel(asked, machine), machine))

    def numbers(self, state: State) -> list[Number]:
        """Every number of the machine, those changed by hand marked. Ideals are left out: what they make
        free is no change of a number."""
        asked = self.request(state)
        settings = asked.setup.settings.model_copy(update={"ideal": None})
        machine = self.machine(Setup(settings, asked.setup.paths))
        changed = tuple(text.partition("=")[0] for text in settings.set)
        return machines.numbers(machine, load_machine(settings.profile), changed)

    def with_ways(self, state: State, on: Iterable[str]) -> State:
        """The state in which just these of the paths inside the cores are there."""
        ways, wanted = self.panel(state).ways, set(on)
        texts = [
            way.key if way.key in wanted else f"-{way.key}" for way in ways if way.own != (way.key in wanted)
        ]
        return state.updated(paths=texts)

    def with_number(self, state: State, path: str, value: float | str | None) -> State:
        """The state in which a number has another value; None, or that of its profile: this. Refused for one
        that cannot be, as for a text that is none."""
        kept = [text for text in state.listed("set") if text.partition("=")[0] != path]
        own = quantities(load_machine(self.request(state).setup.settings.profile)).get(path)
        if value is not None and (own is None or own.value != value):
            if isinstance(value, str) or not math.isfinite(value):
                raise Refused(f"{path}: must be a number, got {value!r}")
            plain = int(value) if float(value).is_integer() else float(value)
            kept.append(f"{path}={plain}")
        new = state.updated(set=kept)
        self.machine(self.request(new).setup)
        return new

    def save(self, state: State, name: str) -> str:
        """Save the machine as a profile in the folder; the name of its file."""
        return machines.save(self.request(state).setup, name, self.folder).name

    def command(self, state: State) -> str:
        """The command line that asks the same; '' where it has no word for it."""
        if state.get("paths"):
            return ""
        words = ["npusim", "run", state.kernel]
        for name, text in state.asked.values:
            flag = f"--{name.replace('_', '-')}"
            if name == "set":
                words += [word for part in state.listed("set") for word in (flag, part)]
            elif text in ("yes", "no"):
                words.append(flag if text == "yes" else f"--no-{name.replace('_', '-')}")
            elif name != "baseline":
                words += [flag, text]
        return shlex.join(words)


def unknown(given: Iterable[str], known: Iterable[str], page: str = "") -> list[str]:
    """What a link sets that is no setting, or none of a page."""
    start = f"{page}." if page else ""
    return [
        f"the link sets '{start}{name}', which is no setting; {did_you_mean(name, known)}"
        for name in given
        if name not in known
    ]


def _idle(state: State) -> tuple[str, ...]:
    """The sizes that say nothing, as the state counts its matrices in another way."""
    if state.get("matrices"):
        return Problem(matrices=1).idle[0]
    return Problem(cu_seqlens=(0, 1)).idle[0] if state.get("cu_seqlens") else ()


_PROFILE = str(MachineSettings.model_fields["profile"].default)
