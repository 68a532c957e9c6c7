"""A model from the config.json beside its weights on Hugging Face: Qwen3-Next, Qwen3.5 and Kimi Linear."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from algorithms.models import (
    MODELS,
    Attention,
    Delta,
    Experts,
    FeedForward,
    Mixer,
    Model,
)
from algorithms.tiles import FRACTAL
from npusim.builder import InputError


def find_model(name: str) -> Model:
    """A known model, or that of a file. InputError, with the names that there are, for anything else."""
    if name in MODELS:
        return MODELS[name]
    if not name.endswith(".json"):
        raise InputError(f"MODEL: no {name!r}; known: {', '.join(MODELS)}, or the path of a config.json")
    return read_config(name)


def read_config(path: str) -> Model:
    """The model of a config.json. InputError, naming file and field, for what is missing or of no use."""
    try:
        with open(path, encoding="utf-8") as stream:
            data = json.load(stream)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: no JSON: {error}") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: a config.json is one object, got {type(data).__name__}")
    text = data.get("text_config", data)  # where the model also takes images
    config = _Config(path, text if isinstance(text, dict) else data)
    place = Path(path).resolve()
    name = place.parent.name if place.stem == "config" else place.stem
    kimi = config.has("linear_attn_config")
    return _checked(path, _kimi(config, name) if kimi else _qwen(config, name))


def _checked(path: str, model: Model) -> Model:
    """InputError, naming the file, for sizes that no kernel has."""
    d, a, e = model.delta, model.attention, model.experts
    for what, size in (("keys", d.head_dim), ("values", d.value_dim)):
        if size % FRACTAL:
            raise InputError(f"{path}: heads of {size} {what}: multiples of {FRACTAL} are needed")
    if a.rotary % 2:
        raise InputError(f"{path}: {a.rotary} rotated dimensions of {a.head_dim}: an even number is needed")
    if e and e.active > e.count:
        raise InputError(f"{path}: {e.active} experts for each token, and there are {e.count}")
    return model


class _Config:
    """The fields of a file, checked as they are read."""

    def __init__(self, path: str, fields: dict[str, Any], prefix: str = "") -> None:
        self.path, self.fields, self.prefix = path, fields, prefix

    def has(self, name: str) -> bool:
        return self.fields.get(name) is not None

    def number(self, *names: str, default: int | None = None, least: int = 1) -> int:
        """A whole number, by the first of its names that there is."""
        for name in names:
            if self.has(name):
                value = self.fields[name]
                if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= 10**9:
                    raise self.wrong(name, f"must be a whole number from {least} to 1e9, got {value!r}")
                return value
        if default is None:
            raise self.wrong(names[0], "is missing")
        return default

    def numbers(self, name: str) -> list[int]:
        value = self.fields.get(name)
        if not isinstance(value, list) or not all(isinstance(one, int) for one in value):
            raise self.wrong(name, f"must be a list of whole numbers, got {value!r}")
        return value

    def only(self, **known: object) -> None:
        """Refuse fields with another value than the one that the layers are made for."""
        for name, value in known.items():
            if self.has(name) and self.fields[name] != value:
                raise self.wrong(name, f"must be {json.dumps(value)}; other layers are not known")

    def part(self, name: str) -> _Config:
        value = self.fields.get(name)
        if not isinstance(value, dict):
            raise self.wrong(name, f"must be an object, got {value!r}")
        return _Config(self.path, value, f"{self.prefix}{name}.")

    def wrong(self, name: str, why: str) -> InputError:
        return InputError(f"{self.path}: {self.prefix}{name} {why}")


def _qwen(config: _Config, name: str) -> Model:
    """Qwen3-Next and Qwen3.5, dense or with experts."""
    layers = config.number("num_hidden_layers")
    delta = Delta(
        config.number("linear_num_value_heads"), config.number("linear_num_key_heads"),
        config.number("linear_key_head_dim"), config.number("linear_value_head_dim"),
        config.number("linear_conv_kernel_dim"),
    )  # fmt: skip
    if delta.heads % delta.key_heads:
        raise config.wrong("linear_num_value_heads", f"is no multiple of {delta.key_heads} key heads")
    heads = config.number("num_attention_heads")
    if heads % config.number("num_key_value_heads", default=heads):
        raise config.wrong("num_key_value_heads", f"does not divide {heads} attention heads")
    config.only(attn_output_gate=True)
    dim = config.number("head_dim", default=config.number("hidden_size") // heads)
    attention = Attention(
        heads, config.number("num_key_value_heads", default=heads), dim, dim, int(_rotary(config) * dim)
    )
    experts = None
    if config.has("num_experts") and config.number("num_experts", least=0):
        config.only(decoder_sparse_step=1, mlp_only_layers=[])
        width = config.number("moe_intermediate_size")
        experts = Experts(
            config.number("num_experts"), config.number("num_experts_per_tok"), width,
            config.number("shared_expert_intermediate_size", default=width),
        )  # fmt: skip
    feed: FeedForward = "experts" if experts else "dense"
    return Model(
        name, config.number("hidden_size"), config.number("vocab_size"), delta, attention,
        None if experts else config.number("intermediate_size"), experts,
        tuple((mixer, feed) for mixer in _mixers(config, layers)),
    )  # fmt: skip


def _rotary(config: _Config) -> float:
    """The part of a head that is rotated."""
    places = [config.fields, config.fields.get("rope_parameters"), config.fields.get("rope_scaling")]
    for place in places:
        if isinstance(place, dict) and place.get("partial_rotary_factor") is not None:
            value = place["partial_rotary_factor"]
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise config.wrong("partial_rotary_factor", f"must be between 0 and 1, got {value!r}")
            return float(value)
    return 0.25


def _mixers(config: _Config, layers: int) -> list[Mixer]:
    """The mixer of each layer."""
    if not config.has("layer_types"):
        period = config.number("full_attention_interval", default=4)
        return ["attention" if (number + 1) % period == 0 else "delta" for number in range(layers)]
    known: dict[str, Mixer] = {"linear_attention": "delta", "full_attention": "attention"}
    types = config.fields["layer_types"]
    if not isinstance(types, list) or len(types) != layers or not all(one in known for one in types):
        raise config.wrong("layer_types", f"must name {' or '.join(known)} for each of {layers} layers")
    return [known[one] for one in types]


def _kimi(config: _Config, name: str) -> Model:
    """Kimi Linear: Kimi Delta Attention and latent attention, experts after the first dense layers."""
    layers, linear = config.number("num_hidden_layers"), config.part("linear_attn_config")
    heads, dim = linear.number("num_heads"), linear.number("head_dim")
    nope, rope = config.number("qk_nope_head_dim"), config.number("qk_rope_head_dim")
    full, first = linear.numbers("full_attn_layers"), config.number("first_k_dense_replace", least=0)
    width = config.number("moe_intermediate_size")
    own = config.number("num_attention_heads")
    config.only(q_lora_rank=None, moe_layer_freq=1)
    attention = Attention(
        own, own, nope + rope, config.number("v_head_dim"), rotary=0, gated=False, normed=False,
        latent=config.number("kv_lora_rank"), rope=rope,
    )  # fmt: skip
    experts = Experts(
        config.number("num_experts"), config.number("num_experts_per_token", "num_experts_per_tok"), width,
        width * config.number("num_shared_experts", default=1),
    )  # fmt: skip
    return Model(
        name, config.number("hidden_size"), config.number("vocab_size"),
        Delta(heads, heads, dim, dim, linear.number("short_conv_kernel_size", default=4), "channel"),
        attention, config.number("intermediate_size"), experts,
        tuple(
            ("attention" if number in full else "delta", "dense" if number <= first else "experts")
            for number in range(1, layers + 1)
        ),
    )  # fmt: skip
