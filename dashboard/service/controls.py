"""Controls from the fields of npusim's settings: the same names, choices, ranges and help as on the command
line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

from npusim.dtypes import DTYPES
from npusim.gates import GATE_MODELS
from npusim.kernels import Algorithm, KernelEntry
from npusim.problem import Options, Problem, Settings
from npusim.settings import MachineSettings, NumericsSettings

Kind = Literal["number", "choice", "text"]
LABELS = {
    "seq_len": "Sequence length", "head_dim": "Head dimension", "value_dim": "Value dimension",
    "cu_seqlens": "Sequence ends", "order": "Order N", "steps": "Steps S", "chunk": "Chunk C",
    "dtype": "Data type", "out_dtype": "Result type", "qk_norm": "Normalise q, k", "m": "m", "n": "n",
    "k": "k", "decay": "Decay per", "gates": "Gates of", "cores": "Core groups",
    "tensor_parallel": "Tensor parallel", "skew": "Skew of experts", "context": "Tokens before",
    "initial_state": "Given state", "fractals": "Skip zero fractals", "samples": "Samples",
    "exchange": "Products handed over",
}  # fmt: skip
"""names that read better than those of the fields"""
BY_SIXTEEN = ("chunk", "block", "tile_m", "tile_n", "tile_k", "head_dim", "value_dim")
"""sizes that go by fractals: an arrow key moves them by 16"""
STEPS = {"seq_len": 1024, "context": 1024, "m": 128, "n": 128, "key_correlation": 0.05, "skew": 0.1}
"""by how much an arrow key moves other sizes"""
NUMERICS = ("samples", "seed", "key_correlation", "gates")
"""what is asked of the inputs that are drawn"""
YES_NO = (("yes", "yes"), ("no", "no"))


@dataclass(frozen=True)
class Control:
    """A setting that a person chooses. `default` is what stands where nothing is chosen, '' where the kernel
    decides; `choices`: value and text."""

    name: str
    label: str
    help: str
    kind: Kind
    default: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    step: float = 1
    whole: bool = True


def _choices(name: str, shape: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The values that a field takes, where they can be named."""
    if "enum" in shape:
        return tuple((one, one) for one in shape["enum"])
    if shape.get("type") == "boolean":
        return YES_NO
    if name in ("dtype", "out_dtype"):
        return tuple((one, one) for one in DTYPES if one != "int32" or name == "out_dtype")
    return tuple((one, one) for one in GATE_MODELS) if name == "gates" else ()


@cache
def controls_of(model: type[Settings]) -> dict[str, Control]:
    """A control for each field of a settings model, by name."""
    properties = model.model_json_schema()["properties"]
    return {name: _control(name, schema) for name, schema in properties.items()}


def _control(name: str, schema: Mapping[str, Any]) -> Control:
    shape = next((one for one in schema.get("anyOf", ()) if one.get("type") != "null"), schema)
    number = shape.get("type") in ("integer", "number")
    choices = _choices(name, shape)
    default = schema.get("default")
    text = "" if default is None or default == [] else str(default)
    if shape.get("type") == "boolean" and text:
        text = "yes" if default else "no"
    least = shape.get("minimum", shape.get("exclusiveMinimum"))
    whole = shape.get("type") == "integer"
    return Control(
        name=name,
        label=LABELS.get(name, name.replace("_", " ").capitalize()),
        help=str(schema.get("description", "")),
        kind="choice" if choices else "number" if number else "text",
        default=text,
        choices=choices,
        minimum=least + 1 if whole and least is not None and "exclusiveMinimum" in shape else least,
        maximum=shape.get("maximum", shape.get("exclusiveMaximum")),
        step=16 if name in BY_SIXTEEN else STEPS.get(name, 1),
        whole=whole,
    )  # fmt: skip


def problem_controls(entry: KernelEntry, problem: Problem) -> list[Control]:
    """The sizes that mean something to a kernel and count in this problem, and its dtype."""
    known = controls_of(Problem)
    fixed = {name for name, _ in entry.fixed}
    counted = problem.matrices is not None or problem.cu_seqlens is not None
    hidden = {*fixed, *(problem.idle[0] if counted else ())}
    return [known[name] for name in (*entry.sizes, "dtype") if name not in hidden]


def option_controls(
    algorithm: Algorithm, variant: str, settings: Mapping[str, Any], only: Iterable[str] | None = None
) -> list[Control]:
    """The parameters of an algorithm in one of its variants. `settings`: what the kernel chooses itself,
    which stands where nothing is asked."""
    taken = algorithm.parameters - (algorithm.textbook_only if variant != "textbook" else frozenset())
    known = controls_of(Options)
    names = [name for name in known if name in taken and (only is None or name in only)]
    return [replace(known[name], default=_plain(settings.get(name))) for name in names]


def _plain(value: object) -> str:
    """A setting of a kernel as a control shows it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def numerics_controls(samples: int) -> list[Control]:
    """What is asked of the inputs; `samples`: how many are computed where nothing is asked."""
    known = controls_of(NumericsSettings)
    found = [known[name] for name in NUMERICS]
    return [replace(one, default=str(samples)) if one.name == "samples" else one for one in found]


def machine_controls(groups: int) -> list[Control]:
    """Cores and evidence; profile, numbers, paths and ideals have controls of their own."""
    known = controls_of(MachineSettings)
    cores = replace(known["cores"], default=str(groups), maximum=groups)
    return [cores, known["evidence"]]


def short(help_text: str) -> str:
    """A help text without what the control itself shows: its default."""
    return re.sub(r" ?\[default:[^]]*\]", "", help_text)
