"""What a decoder layer is to the simulator: kernels that a host calls one after another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

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
