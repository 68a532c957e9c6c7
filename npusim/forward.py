"""A forward pass of a model: what may be asked of it, and what its layers take.

`npusim layer` and the dashboard ask by these settings; models come from `Decoders`, by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from npusim.calls import Decoder, Decoders, Pass
from npusim.errors import InputError
from npusim.kernels import KernelEntry, check_known, own_options
from npusim.layers import LayerTime, StackTime, Timer
from npusim.problem import Options
from npusim.settings import LayerSettings

DECODED = 8192
"""tokens that a decoded one follows, if nothing is said"""
INVERSE = "mxr"
"""the inverse, if nothing is said"""


def load_decoders(name: str) -> Decoders[Any]:
    """The models at 'module:attribute'."""
    module, _, attribute = name.partition(":")
    found: Decoders[Any] = getattr(import_module(module), attribute)
    return found


@dataclass(frozen=True)
class Forward:
    """A pass of a model, checked. `inverses`: by name, the baseline first."""

    decoders: Decoders[Any]
    model: Decoder
    asked: LayerSettings
    one: Pass
    inverses: Mapping[str, Options]

    @classmethod
    def of(
        cls, decoders: Decoders[Any], inverses: KernelEntry, model: Decoder, asked: LayerSettings,
        chosen: Sequence[str] | None = None, options: Options | None = None,
    ) -> Forward:  # fmt: skip
        """`inverses`: the kernel whose algorithms `chosen` names; `options`: of those. InputError for
        settings that say nothing together."""
        options = options or Options()
        _refuse(asked, options, model, chosen is not None)
        names = [INVERSE] if chosen is None else list(chosen)
        check_known(inverses, names, options, "--inverse")
        own = {name: own_options(inverses, name, options) for name in names}
        return cls(decoders, model, asked, _pass(asked, options), own)

    def timed(self, timer: Timer) -> dict[str, StackTime]:
        """The model with each of the inverses. InputError, named by the call or the model, for what cannot
        be."""
        part = self.model.shard(self.asked.tensor_parallel)
        return {
            name: self._timed(timer, part, self.one.with_inverse(own)) for name, own in self.inverses.items()
        }

    def _timed(self, timer: Timer, part: Decoder, one: Pass) -> StackTime:
        try:
            return timer.time(self.decoders.stack(part, one), self.asked.execution == "eager")
        except InputError as error:
            if "(in the layer: " not in str(
                error
            ):  # a size that no kernel has was refused before one was built
                error.add(f"(in a layer of {self.model.name})")
            raise

    def to_json(self, profile: str, times: Mapping[str, StackTime]) -> dict[str, Any]:
        """The JSON of `npusim layer`: the delta layer with the first inverse, then all of it."""
        base, decode = next(iter(times.values())), self.asked.decode
        delta = delta_layer(base)
        first = delta.to_json()
        return {
            "model": self.model.name,
            "profile": profile,
            "time_us": delta.time_us,
            "breakdown": first["breakdown"],
            "inverse_share": delta.inverse_share,
            "expected_error": base.expected_error,
            "measured_share": base.measured_share,
            "prefill_us": None if decode else base.total_us,
            "decode_us": base.total_us if decode else None,
            "layers": [layer.to_json() for layer in base.layers],
            "inverses": [] if decode else [
                _side_by_side(name, time, base) for name, time in times.items()
            ],
        }  # fmt: skip


def delta_layer(time: StackTime) -> LayerTime:
    """The layer that holds the delta net; of several the most frequent, as where none holds one."""
    holding = [layer for layer in time.layers if layer.layer.kind.startswith("delta")]
    return max(holding or time.layers, key=lambda one: one.count)


def _side_by_side(name: str, time: StackTime, base: StackTime) -> dict[str, Any]:
    own, first = delta_layer(time), delta_layer(base)
    return {
        "inverse": name, "inverse_us": own.inverse_us, "time_us": own.time_us,
        "inverse_share": own.inverse_share, "total_us": time.total_us,
        "saving": 1 - own.time_us / first.time_us,
        "saving_of_model": 1 - time.total_us / base.total_us,
    }  # fmt: skip


def _refuse(asked: LayerSettings, options: Options, model: Decoder, inverse: bool) -> None:
    """InputError for settings that say nothing together."""
    given = [*(["inverse"] if inverse else []), *options.model_fields_set]
    if asked.decode and given:
        flag = min(given).replace("_", "-")
        raise InputError(f"--{flag}: decoding inverts nothing; drop it, or --decode")
    if asked.decode and asked.execution == "fused":
        raise InputError("--execution fused: nothing is fused in decoding; use eager or graph")
    if asked.decode and "seq_len" in asked.model_fields_set:
        raise InputError("--seq-len: one token is decoded; give --context, how many it follows")
    if asked.decode and "chunk" in asked.model_fields_set:
        raise InputError("--chunk: decoding has no chunks; drop it, or --decode")
    if "skew" in asked.model_fields_set and not model.experts:
        raise InputError(f"--skew: {model.name} has no experts; drop it")


def _pass(asked: LayerSettings, options: Options) -> Pass:
    """The settings as one forward pass."""
    context = (DECODED if asked.decode else 0) if asked.context is None else asked.context
    return Pass(
        batch=asked.batch, seq_len=1 if asked.decode else asked.seq_len, context=context,
        chunk=asked.chunk, dtype=asked.dtype, inverse=options, decoding=asked.decode,
        fused=asked.execution == "fused", skew=asked.skew,
    )  # fmt: skip
