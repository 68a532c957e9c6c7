"""What a decoder layer is to the simulator: kernels that a host calls one after another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, Protocol, Self, TypeVar

from npusim.problem import Options, Problem


@dataclass(frozen=True)
class Call:
    """One kernel of a layer.

    `values` says what its tensors hold, by names that the layer's other calls know: what one has stored or
    read another may find in L2. A tensor that is not named comes from memory each time, as weights do.
    """

    label: str
    kernel: str
    problem: Problem
    options: Options = field(default_factory=Options)
    values: Mapping[str, str] = field(default_factory=dict)
    inverse: Literal["own", "inside"] | None = None
    """the triangular inverse, whose share is asked for: this kernel, or a part of it that has no time of its
    own"""
    lengths: tuple[int, ...] = ()
    """sequence lengths at which it is timed instead, where no two of its tiles are alike so that all of it
    would have to be simulated; its own time is on the parabola through them"""


@dataclass(frozen=True)
class Layer:
    """The calls of one kind of layer."""

    kind: str
    calls: tuple[Call, ...]


@dataclass(frozen=True)
class Stack:
    """A model as a host runs it: `order` names the layer (its place in `layers`) of each step."""

    model: str
    layers: tuple[Layer, ...]
    order: tuple[int, ...]


@dataclass(frozen=True)
class Pass:
    """One forward pass: `batch` sequences of `seq_len` tokens after `context` that are known already.
    `decoding`: the delta net by its recurrence. `inverse`: algorithm and its parameters; `fused`: the delta
    net in one launch."""

    batch: int
    seq_len: int
    context: int
    chunk: int
    dtype: str
    inverse: Options
    decoding: bool = False
    fused: bool = False
    skew: float = 0.0

    @property
    def tokens(self) -> int:
        return self.batch * self.seq_len

    def with_inverse(self, inverse: Options) -> Pass:
        return replace(self, inverse=inverse)


class Decoder(Protocol):
    """A model as its layers are made of it."""

    @property
    def name(self) -> str: ...

    @property
    def meaning(self) -> str:
        """Its dimensions in one line."""

    @property
    def experts(self) -> Any:
        """None where it has none."""

    def shard(self, parts: int) -> Self:
        """What one of several devices has under tensor parallelism. InputError where it cannot be."""


D = TypeVar("D", bound=Decoder)


@dataclass(frozen=True)
class Decoders(Generic[D]):
    """Models by name; `find` takes the path of a config.json as well; `stack` makes the layers of a pass."""

    models: Mapping[str, D]
    find: Callable[[str], D]
    stack: Callable[[D, Pass], Stack]
