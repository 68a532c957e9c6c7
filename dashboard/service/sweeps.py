"""Sweeps as a person defines and runs them: the settings of a link, and of some of them several values."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from dashboard.service import REGISTRY, SAMPLES, Service, machines
from dashboard.service import sweep_fields as fields
from dashboard.service.cache import Cache
from dashboard.service.controls import NUMERICS
from dashboard.service.jobs import Home, Tell
from dashboard.service.sweep_fields import SET
from dashboard.service.trial import Overtaken, tried
from dashboard.state import State, as_text
from npusim.errors import InputError, NpusimError, did_you_mean
from npusim.problem import Options
from npusim.profiles import SUFFIXES
from npusim.settings import EngineSettings, MachineSettings
from npusim.sweep.ranges import values
from npusim.sweep.run import Plan, plan, run
from npusim.sweep.spec import FIELDS, FIXED, WHOLE, Spec
from npusim.sweep.store import Row, Store
from npusim.workers import Workers
from npusim.yaml_files import dump

STORE = "sweep.db"
"""the store of a link that names none"""
ENDING = ".db"
VARIABLE = tuple(name for name in FIELDS if name not in (*WHOLE, *FIXED, "inputs"))
"""fields that may take several values here; a link opens no files of inputs"""
NONE = "-"
"""what a link says that varies nothing"""
LONGEST = 64 * 1024
"""letters of a sweep's YAML"""
PLANNED, MACHINES = 4000, 400
"""combinations, and machines among them, up to which they are looked at one by one before the start"""
TRIED, START_S = 3, 2.5
"""points that are computed to tell how long all take, and what worker processes take to begin"""


@dataclass(frozen=True)
class Varied:
    """A setting that varies: what was written for it, how many values that are, or what is wrong with it."""

    name: str
    label: str
    meaning: str
    text: str
    count: int
    problem: str = ""


@dataclass(frozen=True)
class Suggestion:
    """A setting that could vary, and values to begin with."""

    name: str
    group: str
    label: str
    meaning: str
    text: str


@dataclass(frozen=True)
class Outlook:
    """What a sweep comes to before it starts. `points`: those that can be; `skipped`: those that cannot, by
    why; `known`: those of both that the store has; `looked`: False where there are too many to look at."""

    points: int
    skipped: Mapping[str, int]
    known: int
    looked: bool = True

    @property
    def total(self) -> int:
        return self.points + sum(self.skipped.values())

    @property
    def left(self) -> int:
        return self.total - self.known


@dataclass(frozen=True)
class Estimate:
    """How long the missing points take, about; `tried`: how many were computed to tell."""

    seconds: float
    tried: int
    processes: int


def split(text: str) -> dict[str, str]:
    """What a link says that varies: 'chunk=16,32;order=2:6'."""
    pairs = (part.partition("=") for part in text.split(";"))
    return {name.strip(): own.strip() for name, _, own in pairs if name.strip() and name.strip() != NONE}


def joined(varied: Mapping[str, str]) -> str:
    """The same for a link."""
    return ";".join(f"{name}={own}" for name, own in varied.items()) or NONE


class Sweeps:
    """Sweeps of a service's kernels, kept in stores of its folder and of no other."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._plans: Cache[Plan] = Cache(8)
        self._estimates: Cache[Estimate | None] = Cache(32)

    # --- what varies -------------------------------------------------------------------------------

    def varied(self, state: State) -> dict[str, str]:
        """What was written for each setting that varies."""
        said = state.own("sweep").get("vary", "")
        return split(said) if said else self._usual(state)

    def _usual(self, state: State) -> dict[str, str]:
        """Where nothing was said: the algorithms of a kernel that has several, and their chunks."""
        entry = self.service.entry(state)
        found = {}
        if len(entry.algorithms) > 1 and not state.get("algorithm"):
            found["algorithm"] = ",".join(entry.algorithms)
        if "chunk" in entry.sizes and "chunk" not in dict(entry.fixed):
            found["chunk"] = fields.CHUNKS
        return found

    def _algorithms(self, state: State, varied: Mapping[str, str]) -> list[str]:
        entry = self.service.entry(state)
        text = varied.get("algorithm") or state.get("algorithm") or next(iter(entry.algorithms))
        return [name.strip() for name in text.split(",")]

    def rows(self, state: State) -> list[Varied]:
        """The settings that vary, as a person sees them."""
        known = {one.name: one for one in self.suggestions(state)}
        found = []
        for name, text in self.varied(state).items():
            label, meaning = fields.described(name)
            if name in known:
                label, meaning = known[name].label, known[name].meaning
            count, problem = 0, ""
            try:
                count = self._count(name, text)
            except NpusimError as error:
                problem = str(error)
            found.append(Varied(name, label, meaning, text, count, problem))
        return found

    @staticmethod
    def _count(name: str, text: str) -> int:
        """How many values a text stands for. InputError where it is none."""
        if name.startswith(SET):
            spec = Spec.of("", {"set": {name.removeprefix(SET): text}})
            return len(spec.numbers[name.removeprefix(SET)])
        if name not in VARIABLE:
            raise InputError(f"{name}: is no setting that varies; {did_you_mean(name, VARIABLE)}")
        return len(Spec.of("", {name: text}).fields[name])

    def suggestions(self, state: State) -> list[Suggestion]:
        """The settings that mean something to the kernel, and the numbers of its machine."""
        entry = self.service.entry(state)
        taken = fields.taken(entry, self._algorithms(state, self.varied(state)))
        panel = self.service.panel(state.asked)
        shown = {one.name: one for one in (*panel.problem, *panel.options, *panel.machine, *panel.numerics)}
        groups: dict[str, list[str]] = {
            "Kernel": ["algorithm", "variant", *[name for name in Options.model_fields if name in taken]],
            "Problem": [one.name for one in panel.problem if one.name in VARIABLE],
            "Machine": ["profile", "cores", "evidence"],
            "Inputs": list(NUMERICS),
            "Engine": ["engine", "exact", "tolerance"],
        }
        named = {
            "algorithm": ",".join(entry.algorithms), "variant": ",".join(one.name for one in panel.variants),
            "profile": ",".join(panel.profiles[:3]),
        }  # fmt: skip
        found = []
        for group, names in groups.items():
            for name in dict.fromkeys(names):
                label, meaning = fields.described(name)
                begin = named.get(name) or fields.begin(name, state.get(name) or fields.shown(shown, name))
                found.append(Suggestion(name, group, label, meaning, begin))
        return [*found, *self._numbers(state)]

    def _numbers(self, state: State) -> list[Suggestion]:
        with suppress(NpusimError):
            return [
                Suggestion(
                    SET + one.path, "Numbers of the profile", one.path,
                    f"{one.value:g} {one.unit}, {one.evidence}".replace(" ,", ","),
                    f"{one.value:g},{2 * one.value:g}" if one.value else "0,1",
                )
                for one in self.service.numbers(state)
            ]  # fmt: skip
        return []

    # --- what is asked ---------------------------------------------------------------------------------

    def spec(self, state: State) -> Spec:
        """The sweep of a state: what varies, and all else as in Explore. Refused for what cannot be."""
        varied = self.varied(state)
        for name in varied:
            if name not in VARIABLE and not name.startswith(SET):
                raise InputError(f"{name}: is no setting that varies; {did_you_mean(name, VARIABLE)}")
        kept = state.asked.updated(**dict.fromkeys(name for name in varied if name in VARIABLE))
        self.service.request(kept)
        if kept.get("paths"):
            raise InputError(
                "paths: a sweep takes machines from profiles: save this one as a profile, and choose that"
            )
        given: dict[str, Any] = {
            name: text for name, text in kept.values if name not in ("baseline", "paths", "set")
        }
        if given.get("numerics") == "no":
            given = {name: text for name, text in given.items() if name not in NUMERICS}
        else:
            given.setdefault("samples", SAMPLES[self.service.entry(state).data])
        given |= {name: text for name, text in varied.items() if name in VARIABLE}
        if "profile" in given:
            given["profile"] = [self._profile(name) for name in values("--profile", given["profile"])]
        numbers = dict(text.partition("=")[::2] for text in kept.listed("set"))
        numbers |= {name.removeprefix(SET): own for name, own in varied.items() if name.startswith(SET)}
        return Spec.of(state.kernel, {**given, "set": numbers})

    def _profile(self, name: str) -> str:
        """A profile's name or, of a file of the folder, its path as the command line would say it there."""
        found = machines.place(name, self.service.folder)
        return os.path.relpath(found) if found.endswith(SUFFIXES) else found

    def plan(self, state: State) -> Plan:
        """The points of a state's sweep."""
        spec = self.spec(state)
        stamps = [machines.stamp(str(name)) for name in spec.fields.get("profile", ())]

        def make() -> Plan:
            with self.service.guarded(state.kernel):
                return plan(spec, REGISTRY)

        return self._plans.get((repr(spec), *stamps), make)

    def outlook(self, state: State, store: str) -> Outlook:
        """What the sweep comes to. Refused for one that cannot be."""
        spec, path = self.spec(state), self.place(store)
        several = [spec.fields.get(name, ("",)) for name in MachineSettings.model_fields]
        if spec.size > PLANNED or math.prod(map(len, [*several, *spec.numbers.values()])) > MACHINES:
            spec.check(self.service.entry(state))
            return Outlook(spec.size, {}, 0, looked=False)
        wanted = self.plan(state)
        skipped = Counter(one.reason for one in wanted.points if one.point is None)
        known = set[str]()
        if path.is_file():
            with Store(near(path), write=False) as kept:
                known = kept.known(wanted.keys)
        return Outlook(len(wanted.points) - skipped.total(), skipped, len(known))

    def estimate(self, state: State, store: str) -> Estimate | None:
        """How long the missing points take, told from a few of them; None where that cannot be told."""
        ahead = self.outlook(state, store)
        if not ahead.looked or not ahead.left:
            return None
        wanted = self.plan(state)
        try:
            mean = self._estimates.get(tuple(wanted.keys), lambda: self._tried(wanted))
        except Overtaken:
            return None
        if mean is None:
            return None
        count = min(processes(), -(-ahead.left // 12))
        begin = START_S if count > 1 else 1.0
        return Estimate(begin + mean.seconds * ahead.left / count, mean.tried, count)

    @staticmethod
    def _tried(wanted: Plan) -> Estimate | None:
        """The mean time of some points, spread over all."""
        points = [one.point for one in wanted.points if one.point]
        places = sorted({round(n * (len(points) - 1) / (TRIED - 1)) for n in range(TRIED)} if points else ())
        common = (REGISTRY, wanted.spec.kernel, wanted.algorithms, wanted.stamp)
        seconds = tried(common, [points[place] for place in places]) if places else []
        return Estimate(fmean(seconds), len(seconds), 1) if seconds else None

    # --- stores and files ------------------------------------------------------------------------------

    def place(self, name: str) -> Path:
        """The file of a store of the folder. InputError for a name that leads elsewhere."""
        if not machines.NAME.fullmatch(name) or not name.endswith(ENDING):
            raise InputError(
                f"store: {name!r} is no plain name that ends in {ENDING}; use letters, digits, '.', '_' and "
                "'-': a store is kept in the folder where the dashboard runs"
            )
        path = self.service.folder / name
        if path.resolve().parent != self.service.folder:
            raise InputError(f"store: {name} is a link out of the folder where the dashboard runs")
        return path

    def yaml(self, state: State) -> str:
        """The sweep as a file that `npusim sweep` takes. Refused for one that cannot be."""
        spec = self.spec(state)
        said: dict[str, Any] = {"kernel": spec.kernel}
        said |= {name: fields.written(name, own) for name, own in spec.fields.items()}
        if spec.numbers:
            said["set"] = {path: fields.written("set", own) for path, own in spec.numbers.items()}
        return dump(said)

    def from_yaml(self, text: str, state: State) -> State:
        """The state of a sweep that was written as YAML: what has one value is set, what has several varies.
        Refused for what is none, or opens files of inputs."""
        if len(text) > LONGEST:
            raise InputError(f"the text is longer than {LONGEST:,} letters; is it a sweep?")
        spec = Spec.parse(text, "the text")
        fixed: dict[str, object] = {"kernel": spec.kernel}
        varied, numbers = dict[str, str](), list[str]()
        for name, own in spec.fields.items():
            if name == "inputs":
                raise InputError("the text: inputs: files of inputs are for the command line; drop it")
            plain = ",".join(as_text(one) for one in own)
            if len(own) > 1 and name in WHOLE:
                raise InputError(f"the text: {name}: several are for the command line; give one")
            if name == "timing":
                if own[0] is False:
                    raise InputError("the text: timing: all points are timed here; drop it")
            elif len(own) == 1 and name not in EngineSettings.model_fields:
                fixed[name] = plain
            else:
                varied[name] = plain
        for path, several in spec.numbers.items():
            plain = ",".join(as_text(one) for one in several)
            if len(several) == 1:
                numbers.append(f"{path}={plain}")
            else:
                varied[SET + path] = plain
        made = State.of({**dict(state.pages.values), **fixed, "set": numbers})
        made = made.viewed("sweep", vary=joined(varied))
        self.spec(made)
        return made


class _Counted(Store):
    """A store that counts what becomes of the points of a run."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.states: Counter[str] = Counter()

    def add(self, rows: Iterable[Row]) -> None:
        made = list(rows)
        super().add(made)
        self.states.update(row.status for row in made)


def sweep(tell: Tell, asked: Any, home: Home) -> dict[str, Any]:
    """The job of a sweep; `asked`: its state as a link, and its store."""
    own = Sweeps(Service(home.own, home.folder))
    path = own.place(str(asked["store"]))
    tell(0, 0, "Looking at the combinations")
    wanted = plan(own.spec(State.from_query(str(asked["state"]))), REGISTRY)
    with _Counted(near(path)) as store, Workers(processes()) as pool:

        def progress(done: int, total: int) -> None:
            said = [f"{store.states[one]:,} {one}" for one in ("skipped", "failed") if store.states[one]]
            tell(done, total, ", ".join(["Computing", *said]))

        return run(wanted, REGISTRY, store, pool, progress).to_json()


def processes() -> int:
    """How many of them compute."""
    return os.cpu_count() or 1


def near(path: Path) -> str:
    """A path as it is said: a plain name in the folder where the dashboard runs."""
    return os.path.relpath(path)
