"""The models whose layers npusim knows, as dimensions: what a decoder layer of each is made of.

Dimensions are those of the published config.json of each model (Hugging Face; Qwen3.5, Qwen3-Next, Kimi
Linear). A `config.json` of another model of these families is read by `algorithms/model_config.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from npusim.builder import InputError

Mixer = Literal["delta", "attention"]
FeedForward = Literal["dense", "experts"]


@dataclass(frozen=True)
class Delta:
    """A gated delta net. `heads` are value heads; keys are [key_heads, head_dim], values [heads, value_dim].
    `decay`: a gate per head, or per channel of the keys (Kimi Delta Attention)."""

    heads: int
    key_heads: int
    head_dim: int = 128
    value_dim: int = 128
    conv: int = 4
    decay: Literal["head", "channel"] = "head"

    @property
    def keys(self) -> int:
        return self.key_heads * self.head_dim

    @property
    def values(self) -> int:
        return self.heads * self.value_dim


@dataclass(frozen=True)
class Attention:
    """Softmax attention. `rotary`: dimensions of a head that are rotated (0: none); `gated`: the query
    projection brings a gate of the output; `latent`: width of the shared latent of keys and values (MLA),
    beside `rope` dimensions that all heads share."""

    heads: int
    key_heads: int
    head_dim: int = 256
    value_dim: int = 256
    rotary: int = 64
    gated: bool = True
    normed: bool = True
    latent: int | None = None
    rope: int = 0


@dataclass(frozen=True)
class Experts:
    """Mixture of experts: `active` of `count` for each token, each of `width`, and shared ones of `shared`
    together."""

    count: int
    active: int
    width: int
    shared: int


@dataclass(frozen=True)
class Model:
    """A decoder: `layers` names mixer and feed-forward of each layer in turn."""

    name: str
    hidden: int
    vocabulary: int
    delta: Delta
    attention: Attention
    dense: int | None
    experts: Experts | None
    layers: tuple[tuple[Mixer, FeedForward], ...]

    @property
    def meaning(self) -> str:
        """Its dimensions in one line."""
        delta, mixers = self.delta, [mixer for mixer, _ in self.layers]
        net = "Kimi Delta Attention" if delta.decay == "channel" else "gated delta net"
        feeds = [f"feed-forward {self.dense}"] if self.dense else []
        if e := self.experts:
            feeds.append(f"{e.active} of {e.count} experts of {e.width}, and {e.shared} shared")
        return (
            f"{mixers.count('delta')} {net}, {mixers.count('attention')} attention; hidden {self.hidden}, "
            f"{delta.heads} value heads of {delta.value_dim} on {delta.key_heads} of {delta.head_dim}, "
            f"{self.attention.heads}/{self.attention.key_heads} heads of {self.attention.head_dim}; "
            + "; ".join(feeds)
        )

    def shard(self, parts: int) -> Model:
        """What one of `parts` devices has under tensor parallelism: its heads and widths. Communication is
        not part of it. Key and value heads that are fewer than the devices are repeated. InputError where
        heads or widths do not divide."""
        if parts == 1:
            return self

        def part(name: str, size: int, repeated: bool = False) -> int:
            if size % parts == 0:
                return size // parts
            if repeated and parts % size == 0:
                return 1
            raise InputError(
                f"--tensor-parallel: {size} {name} of {self.name} cannot be divided by {parts}; use a divisor"
            )

        experts = self.experts and replace(
            self.experts,
            width=part("columns of an expert", self.experts.width),
            shared=part("columns of the shared expert", self.experts.shared),
        )
        return replace(
            self,
            vocabulary=-(-self.vocabulary // parts),
            delta=replace(
                self.delta,
                heads=part("value heads", self.delta.heads),
                key_heads=part("key heads", self.delta.key_heads),
            ),
            attention=replace(
                self.attention,
                heads=part("attention heads", self.attention.heads),
                key_heads=part("heads of keys and values", self.attention.key_heads, repeated=True),
            ),
            dense=self.dense and part("columns of the feed-forward", self.dense),
            experts=experts,
        )


def every(period: int, layers: int, feed_forward: FeedForward) -> tuple[tuple[Mixer, FeedForward], ...]:
    """Delta layers with an attention layer at the end of each `period`."""
    return tuple(
        ("attention" if (number + 1) % period == 0 else "delta", feed_forward) for number in range(layers)
    )


def _qwen(
    name: str,
    hidden: int,
    layers: int,
    heads: int,
    attention: tuple[int, int],
    dense: int | None = None,
    experts: Experts | None = None,
    vocabulary: int = 248320,
) -> Model:
    return Model(
        name, hidden, vocabulary, Delta(heads, 16), Attention(*attention), dense, experts,
        every(4, layers, "experts" if experts else "dense"),
    )  # fmt: skip


_KIMI_FULL = (4, 8, 12, 16, 20, 24, 27)
"""its attention layers, counted from one"""

MODELS = {
    model.name: model
    for model in (
        _qwen("qwen3.5-0.8b", 1024, 24, 16, (8, 2), 3584),
        _qwen("qwen3.5-2b", 2048, 24, 16, (8, 2), 6144),
        _qwen("qwen3.5-4b", 2560, 32, 32, (16, 4), 9216),
        _qwen("qwen3.5-9b", 4096, 32, 32, (16, 4), 12288),
        _qwen("qwen3.5-27b", 5120, 64, 48, (24, 4), 17408),
        _qwen("qwen3.5-35b-a3b", 2048, 40, 32, (16, 2), experts=Experts(256, 8, 512, 512)),
        _qwen("qwen3.5-122b-a10b", 3072, 48, 64, (32, 2), experts=Experts(256, 8, 1024, 1024)),
        _qwen("qwen3.5-397b-a17b", 4096, 60, 64, (32, 2), experts=Experts(512, 10, 1024, 1024)),
        _qwen(
            "qwen3-next-80b-a3b", 2048, 48, 32, (16, 2), experts=Experts(512, 10, 512, 512),
            vocabulary=151936,
        ),
        Model(
            "kimi-linear-48b-a3b", 2304, 163840,
            Delta(32, 32, decay="channel"),
            Attention(32, 32, 192, 128, rotary=0, gated=False, normed=False, latent=512, rope=64),
            9216, Experts(256, 8, 1024, 1024),
            tuple(
                ("attention" if number in _KIMI_FULL else "delta", "dense" if number == 1 else "experts")
                for number in range(1, 28)
            ),
        ),
    )
}  # fmt: skip
"""by the names that the command line knows"""
