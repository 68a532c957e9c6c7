"""The configurations that Compare holds side by side: how a link carries them, and what each is called.

One of them is edited: it is the link's own state, so that the panel of settings edits it and other pages show
it. The others are `compare.1` to `compare.6`, each the text of a link. A number without one is that of the
edited.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from dashboard.state import State, whole
from npusim.errors import NpusimError

if TYPE_CHECKING:
    from dashboard.service import Control, Panel, Service

PAGE = "compare"
LEAST, MOST = 2, 6
SHORT = {
    "chunk": "C", "order": "N", "steps": "S", "seq_len": "T", "heads": "H", "batch": "B", "head_dim": "D",
    "value_dim": "Dv", "matrices": "M", "block": "block", "m": "m", "n": "n", "k": "k", "samples": "samples",
    "seed": "seed", "cores": "cores", "slots": "slots", "evidence": "evidence", "tile_m": "tile m",
    "tile_n": "tile n", "tile_k": "tile k",
}  # fmt: skip
"""settings as a name spells them; others by their label"""
BARE = ("kernel", "algorithm", "variant", "profile", "dtype")
"""settings whose values say what they are"""
ALWAYS = ("kernel", "algorithm", "profile")
"""settings that tell configurations apart whether or not they were asked for; others do where one asks for
them, as what a kernel chooses follows from these"""
INPUTS = ("samples", "seed", "key_correlation", "gates", "numerics")
"""settings of the inputs that are drawn, of which a comparison speaks only where they differ"""


@dataclass(frozen=True)
class Setting:
    """A setting of a configuration as it is read."""

    label: str
    value: str


@dataclass(frozen=True)
class Configuration:
    """One of those compared. `name` and `differs` say what is not alike in all and was asked for; `settings`:
    all that it sets or takes by default, by the names of the fields."""

    state: State
    name: str
    differs: tuple[Setting, ...]
    settings: dict[str, Setting]


@dataclass(frozen=True)
class Alike:
    """What is the same in all configurations that have it, and the names of the settings that are not: those
    of one alone among them."""

    same: tuple[Setting, ...]
    unlike: tuple[str, ...]


@dataclass(frozen=True)
class Slots:
    """The states compared, which of them is edited, and which is the baseline (places from 0). `wrong`: what
    the link says that cannot be."""

    states: tuple[State, ...]
    edit: int = 0
    base: int = 0
    wrong: tuple[str, ...] = ()

    @classmethod
    def of(cls, state: State) -> Slots:
        """Those of a link; one alone where it names no others."""
        own, wrong = state.own(PAGE), []
        numbers = [str(number) for number in range(1, MOST + 1)]
        for name in own:
            if name not in (*numbers, "base", "edit"):
                text = f"{LEAST} to {MOST} configurations are compared, {PAGE}.1 to {PAGE}.{MOST}"
                wrong.append(f"the link sets {PAGE}.{name}: {text}, {PAGE}.base and {PAGE}.edit")
        edit = own.get("edit", "1") if own.get("edit", "1") in numbers else "1"
        given: dict[int, State] = {}
        for number in numbers:
            try:
                if number in own:
                    parse_qsl(own[number], strict_parsing=True)
                    given[int(number)] = State.from_query(own[number]).asked
            except ValueError:
                text = f"{own[number]!r}, which is not the text of a link, as kernel=matmul&m=512"
                wrong.append(f"the link's {PAGE}.{number} is {text}")
        if int(edit) not in given or state.asked != State():
            # one that a link names at the place of its own settings goes nowhere: these take the next place
            free = [number for number in numbers if int(number) not in given]
            if edit not in free and free:
                edit = free[0]
            elif edit not in free:
                wrong.append(f"the link's own settings are one more than {MOST}; {PAGE}.{edit} is left out")
            given[int(edit)] = state.asked
        places = sorted(given)
        found = cls(tuple(given[place] for place in places), places.index(int(edit)), 0, tuple(wrong))
        for name in ("edit", "base"):
            known = found.states if name == "base" else numbers
            if name in own and not 1 <= (whole(own[name]) or 0) <= len(known):
                text = f"the link's {PAGE}.{name} is {own[name]!r}, and there are {len(found.states)}"
                found = replace(found, wrong=(*found.wrong, f"{text} configurations; it must number one"))
            elif name == "base" and name in own:
                found = replace(found, base=int(own[name]) - 1)
        return found

    def into(self, state: State) -> State:
        """A state that carries them, with what other pages have of their own."""
        pages = {name: text for name, text in state.pages.values if not name.startswith(f"{PAGE}.")}
        own: dict[str, object] = {
            f"{PAGE}.{place + 1}": _text(one) for place, one in enumerate(self.states) if place != self.edit
        }
        own[f"{PAGE}.edit"] = self.edit + 1 if self.edit else None
        own[f"{PAGE}.base"] = self.base + 1 if self.base else None
        edited = self.states[self.edit]
        return State.of({"kernel": edited.kernel, **dict(edited.values), **pages, **own})

    def edited(self, place: int) -> Slots:
        """Another is edited."""
        return replace(self, edit=place) if 0 <= place < len(self.states) else self

    def based(self, place: int) -> Slots:
        """Another is the baseline."""
        return replace(self, base=place) if 0 <= place < len(self.states) else self

    def added(self, state: State | None = None) -> Slots:
        """With one more, which is edited: a copy of the edited one where none is given."""
        if len(self.states) >= MOST:
            return self
        new = self.states[self.edit] if state is None else state
        return replace(self, states=(*self.states, new), edit=len(self.states))

    def removed(self, place: int) -> Slots:
        """Without one of them."""
        if len(self.states) <= LEAST or not 0 <= place < len(self.states):
            return self
        left = (*self.states[:place], *self.states[place + 1 :])

        def moved(other: int) -> int:
            return min(other - (other > place), len(left) - 1)

        base = 0 if self.base == place else moved(self.base)
        return replace(self, states=left, edit=moved(self.edit), base=base)


def _text(state: State) -> str:
    """A configuration as a value of a link: never empty, which would be none."""
    return state.query or f"kernel={state.kernel}"


def slots(service: Service, state: State) -> Slots:
    """Those of a link. Who comes with one sees it beside the kernel's baseline, else its next algorithm or
    variant, else the machine's next profile."""
    found = Slots.of(state)
    if len(found.states) >= LEAST:
        return found
    return replace(found, states=(*found.states, _beside(service, found.states[0])), edit=0)


def _beside(service: Service, state: State) -> State:
    """What a configuration is sensibly held against."""
    try:
        panel = service.panel(state)
        names = [one.name for one in panel.algorithms]
        for name in panel.baselines:
            algorithm, _, variant = name.partition(":")
            if algorithm in names and (algorithm, variant or panel.variant) != (
                panel.algorithm, panel.variant,
            ):  # fmt: skip
                other = state.updated(algorithm=algorithm, variant=variant or None)
                return service.cleaned(other)
        others = [name for name in panel.profiles if name != panel.profile]
        return service.cleaned(state.updated(profile=others[0], set=None, paths=None, cores=None))
    except (NpusimError, IndexError):
        return state


# --- names ---------------------------------------------------------------------------------------


def configurations(service: Service, found: Slots) -> tuple[tuple[Configuration, ...], Alike]:
    """The configurations by name, and what is alike in all."""
    known = [settings(service, state) for state in found.states]
    names = dict.fromkeys(name for own in known for name in own)
    had = {name: [own[name].value for own in known if name in own] for name in names}
    unlike = [name for name, values in had.items() if len(values) == 1 or len(set(values)) > 1]
    asked = {name for state in found.states for name, _ in state.values}
    telling = [n for n in unlike if n in ALWAYS or n in asked or n.startswith(("set ", "path "))]
    called = _unique([_name(own, known, telling) for own in known])
    every = [
        Configuration(state, name, tuple(own[key] for key in telling if key in own), own)
        for state, own, name in zip(found.states, known, called, strict=True)
    ]
    first = {name: own[name] for own in reversed(known) for name in own}
    same = tuple(first[name] for name in names if name not in unlike and name not in INPUTS)
    return tuple(every), Alike(same, tuple(unlike))


def settings(service: Service, state: State) -> dict[str, Setting]:
    """All that a configuration sets or takes by default, by the names of the fields."""
    try:
        panel = service.panel(state)
    except NpusimError:
        return {"kernel": Setting("Kernel", state.kernel), **_changes(state)}
    found = {"kernel": Setting("Kernel", state.kernel)}
    if len(panel.algorithms) > 1:
        found["algorithm"] = Setting("Algorithm", state.get("algorithm") or panel.algorithm)
    if len(panel.variants) > 1:
        found["variant"] = Setting("Variant", state.get("variant") or panel.variant)
    found["profile"] = Setting("Profile", panel.profile)
    for one in _controls(panel):
        if value := state.get(one.name) or one.default:
            found[one.name] = Setting(one.label, _plain(value))
    return {**found, **_changes(state)}


def _controls(panel: Panel) -> list[Control]:
    return [*panel.problem, *panel.options, *panel.machine, *panel.numerics]


def _changes(state: State) -> dict[str, Setting]:
    """Numbers, paths and ideals that a configuration changes on its machine."""
    found = {}
    for text in state.listed("set"):
        path, _, value = text.partition("=")
        found[f"set {path}"] = Setting(path, _plain(value))
    for key in state.listed("paths"):
        way = " → ".join(key.removeprefix("-").upper().split("_"))
        found[f"path {key}"] = Setting("Path", f"without {way}" if key.startswith("-") else f"with {way}")
    if ideals := state.listed("ideal"):
        found["ideal"] = Setting("Free", ", ".join(ideals))
    if state.get("numerics") == "no":
        found["numerics"] = Setting("Error", "not computed")
    return found


def _plain(value: str) -> str:
    return f"{int(value):,}" if re.fullmatch(r"[0-9]{4,15}", value) else value


def _name(own: dict[str, Setting], known: Sequence[dict[str, Setting]], telling: Sequence[str]) -> str:
    """What a configuration is called beside others: what differs among all that have it."""
    parts = []
    others = [one for one in known if one["kernel"] != own["kernel"]]
    by_algorithm = "algorithm" in own and all(own["algorithm"] != one.get("algorithm") for one in others)
    for name in telling:
        if name == "kernel" and by_algorithm:
            continue
        values = {one[name].value for one in known if name in one}
        alone = name == "algorithm" or name.startswith(("set ", "path ")) or name in ("ideal", "numerics")
        if name in own and (len(values) > 1 or alone):
            parts.append(_word(name, own[name]))
    if not parts:
        parts = [own["algorithm"].value if "algorithm" in own else own["kernel"].value]
    return " · ".join(dict.fromkeys(parts))


def _word(name: str, setting: Setting) -> str:
    """A setting in a name."""
    value = setting.value
    if name == "profile":
        return _machine(value)
    if name in BARE:
        return value
    if name.startswith("set "):
        return f"{'.'.join(setting.label.split('.')[-2:])} {value}"
    if name.startswith("path ") or name == "numerics":
        return value
    if name == "ideal":
        return f"{value} free"
    label = SHORT.get(name, setting.label.lower())
    if value in ("yes", "no"):
        return label if value == "yes" else f"no {label}"
    return f"{label} {value}"


def _machine(profile: str) -> str:
    """A profile as people call the machine: 'ascend-910b2' is 910B2."""
    short = profile.removeprefix("ascend-").removesuffix(".yaml").removesuffix(".yml")
    return short.upper() if short[:1].isdigit() else short


def _unique(names: list[str]) -> list[str]:
    """Equal configurations are told apart."""
    seen: dict[str, int] = {}
    made = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        copy = "copy" if seen[name] == 2 else f"copy {seen[name] - 1}"
        made.append(name if seen[name] == 1 else f"{name} · {copy}")
    return made
