"""Synthetic gates: beta and g per token and head, drawn as trained gated-delta-rule models show them.

A layer computes beta = sigmoid(b) and g = -exp(A_log) * softplus(a + dt_bias) (Gated DeltaNet,
arXiv 2412.06464; A_log and dt_bias are parameters of the head, a and b projections of the token). Here a
and b are normal, and a head's parameters are drawn from the *kinds* of heads that two trained models have:
heads that keep their state (|g| of 1e-5 to 1e-2, and the hard case for an inverse, for then L does not decay
away from its diagonal), heads that forget it in a few tokens, and heads that erase it at every token.

What was matched: beta and g of 8192 tokens captured from one layer each of Qwen3.5-0.8B (16 heads) and of a
shard of Qwen3-Next (8 heads). Quantiles 1/10/50/90/99 % over all heads, captured (in brackets: mean over 50
seeds of 32 heads x 4096 tokens):
  Qwen3.5     beta .071 .169 .419 .872 .996         [.071 .162 .422 .858 .996]
              g    -5.87 -3.07 -1.5e-3 -1.6e-5 -3e-10  [-5.33 -3.26 -1.5e-3 -1.5e-5 -4e-10]
  Qwen3-Next  beta .199 .384 .834 .998 .999         [.213 .387 .832 .998 .999]
              g    -166 -165 -1.6e-3 -2.0e-5 -2.1e-6   [-166.5 -159.6 -1.5e-3 -2.0e-5 -1.6e-6]
Standard deviation over the seeds: below .01 for beta, below 6 % for g (9 % for its smallest). Five heads of
eight hardly decay over 64 tokens (median of g above ln(.85)/64), as in both captures. Of all chunks of 64
tokens, 60 % keep more than half of the state (captured: 62 %), with Next 55 % (51 %).
Tokens are independent: in both captures b and log|g| are uncorrelated from token to token (below 0.05; one
head of Next has a constant g).
Gates of channels (`--decay channel`, Kimi Delta Attention: A_log of a head, dt_bias and a of a channel) were
not captured from any model: they are drawn like those of the same heads, with dt_bias of the channels normal
around the head's (assumed).
Not matched: the correlation of b and a within a head (-0.8 to 0.5 in the captures), and skewed tails.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from npusim.errors import InputError, did_you_mean
from npusim.problem import Decay

Float64Array = npt.NDArray[np.float64]
Range = tuple[float, float]

HEADS, TOKENS, CHANNELS = 1, 2, 3
"""Purposes of a random stream, so that parameters and tokens of the same seed differ."""

JITTER = 0.3
"""How much of its stratum a drawn head parameter may move over."""


@dataclass(frozen=True)
class Kind:
    """Heads of one kind. Ranges (low, high) hold the parameters of its heads, spread evenly over them."""

    name: str
    heads: int
    """of so many heads in a cycle of the model"""
    decay: Range
    """median of |g| per token, spread in its logarithm"""
    rate: float
    """exp(A_log): above it |g| grows linearly with a, below it exponentially"""
    a_spread: Range
    """standard deviation of a over the tokens"""
    b_mean: Range
    b_spread: Range


@dataclass(frozen=True)
class HeadGates:
    """The parameters of one head."""

    a_log: float
    dt_bias: float
    a_spread: float
    b_mean: float
    b_spread: float

    def draw(self, rng: np.random.Generator, tokens: int) -> tuple[Float64Array, Float64Array]:
        """beta in (0, 1) and g <= 0, per token and not cumulated: [tokens] each, float64."""
        b, a = rng.standard_normal((2, tokens))
        beta = 1.0 / (1.0 + np.exp(-(self.b_mean + self.b_spread * b)))
        return beta, self._g(a)

    def by_channel(self, bias: Float64Array, rng: np.random.Generator, tokens: int) -> Float64Array:
        """g [tokens, channels], of which each channel has its own `bias` [channels] beside the head's."""
        return self._g(rng.standard_normal((tokens, len(bias))), bias)

    def _g(self, a: Float64Array, bias: Float64Array | float = 0.0) -> Float64Array:
        softplus: Float64Array = np.logaddexp(0.0, self.dt_bias + bias + self.a_spread * a)
        return -math.exp(self.a_log) * softplus


@dataclass(frozen=True)
class GateModel:
    """A model's heads, as kinds whose proportions hold in every cycle of `cycle` heads."""

    name: str
    kinds: tuple[Kind, ...]

    @property
    def cycle(self) -> int:
        return sum(kind.heads for kind in self.kinds)

    def head(self, seed: int, head: int) -> HeadGates:
        """Parameters of a head: they depend on (seed, head) alone.

        A Latin hypercube within the cycle: each parameter of a kind's n heads takes each of the n equal
        parts of its range once, in random order, so that quantiles over all heads hardly vary with the seed.
        """
        return _head(self, seed, head)

    def draw(
        self, seed: int, sequence: int, chunk: int, head: int, tokens: int
    ) -> tuple[Float64Array, Float64Array]:
        """beta and g [tokens] of one chunk, depending on (seed, sequence, chunk, head) alone."""
        rng = np.random.default_rng([seed, TOKENS, sequence, chunk, head])
        return self.head(seed, head).draw(rng, tokens)

    def draw_channels(
        self, seed: int, sequence: int, chunk: int, head: int, tokens: int, channels: int
    ) -> Float64Array:
        """g [tokens, channels] of one chunk, depending on the same alone."""
        bias = np.random.default_rng([seed, CHANNELS, head]).standard_normal(channels)
        rng = np.random.default_rng([seed, CHANNELS, sequence, chunk, head])
        return self.head(seed, head).by_channel(bias, rng, tokens)

    def draw_as(
        self, decay: Decay, seed: int, sequence: int, chunk: int, head: int, tokens: int, channels: int
    ) -> tuple[Float64Array, Float64Array]:
        """beta [tokens] of one chunk, and g: [tokens] of a head, zeros where there is none, or [tokens,
        channels]."""
        beta, g = self.draw(seed, sequence, chunk, head, tokens)
        if decay == "channel":
            g = self.draw_channels(seed, sequence, chunk, head, tokens, channels)
        return beta, (np.zeros_like(g) if decay == "none" else g)


def gate_model(name: str) -> GateModel:
    """The gates of `qwen3.5` or `qwen3-next`. InputError for another name."""
    if name not in GATE_MODELS:
        raise InputError(f"unknown gate model {name!r}: {did_you_mean(name, GATE_MODELS)}")
    return GATE_MODELS[name]


@lru_cache(maxsize=4096)
def _head(model: GateModel, seed: int, head: int) -> HeadGates:
    cycle, place = divmod(head, model.cycle)
    rng = np.random.default_rng([seed, HEADS, cycle])
    place = int(rng.permutation(model.cycle)[place])
    for kind in model.kinds:
        u = _strata(rng, kind.heads)
        if place < kind.heads:
            return _parameters(kind, u[place])
        place -= kind.heads
    raise AssertionError("the kinds of a cycle add up to it")


def _strata(rng: np.random.Generator, heads: int) -> Float64Array:
    """Positions in [0, 1] of `heads` heads in the ranges of their 4 parameters: [heads, 4]."""
    order = rng.permuted(np.tile(np.arange(heads)[:, np.newaxis], (1, 4)), axis=0)
    u: Float64Array = (order + 0.5 + JITTER * (rng.random((heads, 4)) - 0.5)) / heads
    return u


def _parameters(kind: Kind, u: Float64Array) -> HeadGates:
    """A head of `kind` at position u [4] of its ranges: decay, a_spread, b_mean, b_spread."""
    decay = math.exp(_between((math.log(kind.decay[0]), math.log(kind.decay[1])), u[0]))
    return HeadGates(
        a_log=math.log(kind.rate),
        # |g| at a = 0 is its median: decay = rate * softplus(dt_bias), solved without overflow
        dt_bias=decay / kind.rate + math.log(-math.expm1(-decay / kind.rate)),
        a_spread=_between(kind.a_spread, u[1]),
        b_mean=_between(kind.b_mean, u[2]),
        b_spread=_between(kind.b_spread, u[3]),
    )


def _between(ends: Range, u: float) -> float:
    return float(ends[0] + (ends[1] - ends[0]) * u)


GATE_MODELS: dict[str, GateModel] = {
    model.name: model
    for model in (
        GateModel(
            "qwen3.5",
            (
                Kind("frozen", 1, (5e-10, 2e-9), 1.0, (1.0, 1.1), (-1.6, -1.3), (0.5, 0.7)),
                Kind("keeps", 9, (5e-5, 2.4e-3), 1.0, (1.4, 2.1), (-1.6, 0.3), (0.3, 1.0)),
                Kind("leaks", 1, (0.007, 0.013), 1.0, (1.6, 1.8), (-0.2, 0.2), (0.7, 0.9)),
                Kind("fades", 1, (0.12, 0.20), 1.0, (0.5, 0.6), (1.3, 1.7), (0.6, 0.8)),
                Kind("forgets", 3, (1.2, 4.8), 1.0, (0.7, 2.0), (-0.9, 1.5), (0.7, 0.9)),
                Kind("rewrites", 1, (3.2, 3.8), 1.0, (0.7, 0.8), (4.7, 4.9), (0.7, 0.9)),
            ),
        ),
        GateModel(
            "qwen3-next",
            (
                Kind("keeps", 4, (2.4e-5, 6.0e-4), 1.0, (1.7, 2.1), (-0.8, 1.3), (0.4, 0.65)),
                Kind("spiky", 1, (1.4e-3, 2.2e-3), 1.0, (2.0, 2.2), (3.1, 3.5), (1.1, 1.3)),
                Kind("leaks", 1, (0.08, 0.12), 1.0, (1.1, 1.4), (3.0, 3.2), (1.0, 1.2)),
                Kind("erases", 2, (117.0, 182.0), 16.0, (0.01, 0.03), (5.7, 6.2), (0.8, 1.0)),
            ),
        ),
    )
}
