"""What Layer shows: a model's layers as kernels, each with its time, for every inverse that is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dashboard.service import controls, machines, unknown
from dashboard.service.cache import Cache
from dashboard.service.controls import Control
from dashboard.service.explore import ENGINE
from dashboard.state import State, whole
from npusim.errors import InputError, NpusimError, did_you_mean
from npusim.forward import DECODED, INVERSE, Forward, delta_layer, load_decoders
from npusim.layers import CallTime, LayerTime, StackTime, Timer
from npusim.settings import LayerSettings, MachineSettings

if TYPE_CHECKING:
    from dashboard.service import Service

__all__ = ["Answer", "CallTime", "LayerTime", "Layers", "Settings", "StackTime", "delta_layer"]

PAGE = "layer"
DECODERS = "algorithms.decoder:DECODERS"
MODEL = "qwen3.5-9b"
"""the model of a link that names none"""
MOST = 4
"""inverses side by side"""
EXECUTIONS = ("eager", "graph", "fused")
LEAST_LENGTH, MOST_LENGTH = 1 << 10, 1 << 20
LENGTHS = tuple(
    length for power in range(10, 21) for length in (1 << power, 3 << (power - 1)) if length <= MOST_LENGTH
)
"""sequence lengths of the slider: powers of two, and halfway between"""
FIELDS = ("batch", "tensor_parallel", "dtype", "skew")
PREFILL, DECODE = ("chunk", "context"), ("context",)
"""settings that say nothing in the other of the two"""
ALONE = ("seq_len", "chunk", "inverse")
"""settings that decoding has not: they are kept in the link, for when it is prefill again"""


@dataclass(frozen=True)
class Settings:
    """All that can be set: what is chosen, and what there is to choose. `kinds`: of the model's layers."""

    models: tuple[tuple[str, tuple[str, ...]], ...]
    model: str
    meaning: str
    kinds: tuple[str, ...]
    kind: str
    profiles: tuple[str, ...]
    profile: str
    execution: str
    inverses: tuple[str, ...]
    chosen: tuple[str, ...]
    decode: bool
    seq_len: int
    fields: tuple[Control, ...]
    values: dict[str, str]


@dataclass(frozen=True)
class Answer:
    """A model on a machine, with each inverse, the baseline first; `kind`: the layer that is shown."""

    model: str
    meaning: str
    profile: str
    settings: LayerSettings
    context: int
    times: dict[str, StackTime]
    kind: str

    @property
    def base(self) -> StackTime:
        """With the first inverse."""
        return next(iter(self.times.values()))

    def layer(self, time: StackTime) -> LayerTime:
        """The layer that is shown."""
        return next(one for one in time.layers if one.layer.kind == self.kind)


class Layers:
    """Answers about a link's own values layer.*."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._decoders = load_decoders(DECODERS)
        self._timers: Cache[Timer] = Cache(3)
        self._answers: Cache[dict[str, StackTime]] = Cache(64)

    def settings(self, state: State) -> Settings:
        """The controls of a link; of what cannot be, as far as it goes."""
        own, models = state.own(PAGE), self._decoders.models
        model = models.get(own.get("model", MODEL)) or models[MODEL]
        length, decode = self.chosen(state)
        known = controls.controls_of(LayerSettings)
        names = [*FIELDS, *(DECODE if decode else PREFILL)]
        fields = [known[name] for name in names if name != "skew" or model.experts]
        if decode:
            fields = [replace(one, default=str(DECODED)) if one.name == "context" else one for one in fields]
        kinds = self._kinds(state)
        kind = own.get("kind") or _first(kinds)
        return Settings(
            _families(models), model.name, model.meaning, tuple(kinds), kind,
            tuple(machines.profiles(self._service.folder)), own.get("profile", _PROFILE),
            own.get("execution", known["execution"].default),
            tuple(self._service.entries["tri-inverse"].algorithms),
            tuple(name for name in own.get("inverse", INVERSE).split(",") if name), decode,
            length, tuple(fields), own,
        )  # fmt: skip

    def _kinds(self, state: State) -> dict[str, int]:
        """The kinds of layers of a model, and how many it has; none where the settings cannot be."""
        try:
            found, _ = self._forward(state)
            stack = self._decoders.stack(
                found.model, found.one.with_inverse(next(iter(found.inverses.values())))
            )
        except NpusimError:
            return {}
        return {layer.kind: stack.order.count(place) for place, layer in enumerate(stack.layers)}

    def _forward(self, state: State) -> tuple[Forward, MachineSettings]:
        """A link as npusim's own settings. Refused for what cannot be, and for a name that nothing is
        called."""
        own, models = state.own(PAGE), self._decoders.models
        known = [*LayerSettings.model_fields, "model", "kind", "profile", "inverse"]
        for text in unknown(own, known, PAGE):
            raise InputError(text)
        if (name := own.get("model", MODEL)) not in models:
            raise InputError(f"no model {name!r}; {did_you_mean(name, models)}")
        decode = _decodes(own)
        dropped = ALONE if decode else ()
        given = {k: v for k, v in own.items() if k in LayerSettings.model_fields and k not in dropped}
        if not models[name].experts:
            given.pop("skew", None)
        asked = LayerSettings.parse(**given)
        assert isinstance(asked, LayerSettings)
        chosen = [part for part in own.get("inverse", INVERSE).split(",") if part]
        if not chosen and not decode:
            raise InputError(f"--inverse: {own['inverse']!r} names none; name one, as --inverse {INVERSE}")
        if len(chosen) > MOST:
            raise InputError(f"--inverse: {len(chosen)} inverses; up to {MOST} stand side by side")
        entry = self._service.entries["tri-inverse"]
        found = Forward.of(
            self._decoders, entry, models[name], asked, None if decode else list(dict.fromkeys(chosen))
        )
        place = machines.place(own.get("profile", _PROFILE), self._service.folder)
        setting = MachineSettings.parse(profile=place)
        assert isinstance(setting, MachineSettings)
        return found, setting

    def answer(self, state: State) -> Answer:
        """A model's layers and what they take. Refused for what cannot be."""
        found, setting = self._forward(state)
        setup = machines.Setup(setting, ())
        machine = self._service.machine(setup)
        stamp = machines.stamp(setting.profile)
        asked = found.asked
        alike = (found.model.name, setting, stamp, asked.batch, asked.dtype, asked.tensor_parallel)

        def compute() -> dict[str, StackTime]:
            timer = self._timers.get(alike, lambda: Timer(self._service.entries, machine, ENGINE, alone=True))
            return found.timed(timer)

        times = self._answers.get((alike, asked, tuple(found.inverses)), compute)
        kinds = [layer.layer.kind for layer in next(iter(times.values())).layers]
        kind = state.own(PAGE).get("kind") or delta_layer(next(iter(times.values()))).layer.kind
        if kind not in kinds:
            raise InputError(f"{found.model.name} has no layer {kind!r}; known: {', '.join(kinds)}")
        return Answer(
            found.model.name, found.model.meaning, machine.name, asked, found.one.context, times, kind
        )

    @staticmethod
    def model(state: State) -> str:
        """The model of a link."""
        return state.own(PAGE).get("model", MODEL)

    def plain(self, state: State) -> State:
        """Without what says the default: equal views have equal links."""
        defaults = {name: one.default for name, one in controls.controls_of(LayerSettings).items()}
        defaults |= {"model": MODEL, "inverse": INVERSE, "profile": _PROFILE, "decode": "no"}
        defaults["kind"] = _first(self._kinds(state.viewed(PAGE, kind=None)))
        if self.chosen(state)[1]:
            defaults["context"] = str(DECODED)
        same = [name for name, text in state.own(PAGE).items() if defaults.get(name) == text]
        return state.viewed(PAGE, **dict.fromkeys(same))

    @staticmethod
    def chosen(state: State) -> tuple[int, bool]:
        """The sequence length of a link, and whether one token is decoded instead."""
        own = state.own(PAGE)
        length = own.get("seq_len", controls.controls_of(LayerSettings)["seq_len"].default)
        try:
            decode = _decodes(own)
        except InputError:
            decode = False
        return whole(length) or LEAST_LENGTH, decode

    def executions(self, state: State) -> dict[str, Answer | str]:
        """The same with every way to execute it; why not, where one cannot be."""
        found: dict[str, Answer | str] = {}
        for name in EXECUTIONS:
            try:
                found[name] = self.answer(state.viewed(PAGE, execution=name))
            except NpusimError as error:
                found[name] = str(error)
        return found


_PROFILE = str(MachineSettings.model_fields["profile"].default)


def _decodes(own: Mapping[str, str]) -> bool:
    """Whether a link asks for decoding. InputError where it says neither yes nor no."""
    asked = LayerSettings.parse(**{name: text for name, text in own.items() if name == "decode"})
    assert isinstance(asked, LayerSettings)
    return asked.decode


def _first(kinds: Mapping[str, int]) -> str:
    """The most frequent kind of layer that holds a delta net; '' where there is none."""
    return max(kinds, key=lambda kind: (kind.startswith("delta"), kinds[kind]), default="")


def _families(models: Mapping[str, Any]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Models in groups: their family, and whether they have experts."""
    groups: dict[str, list[str]] = {}
    for name, model in models.items():
        family = name.split("-")[0].capitalize()
        groups.setdefault(f"{family}, {'experts' if model.experts else 'dense'}", []).append(name)
    return tuple((group, tuple(names)) for group, names in groups.items())
