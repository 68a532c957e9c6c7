"""The rest of what a run is asked: which machine, which inputs, which engine.

With `Problem` and `Options` these are all settings of a run; the command line and the dashboard make
their controls from the fields, descriptions are help texts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt

from npusim.errors import InputError, ProfileError, did_you_mean
from npusim.problem import (
    KEY_CORRELATION,
    LARGEST_CHUNK,
    MOST,
    Settings,
    Target,
    refuse,
)

if TYPE_CHECKING:
    from npusim.machine import Machine


class MachineSettings(Settings):
    """Which machine, with which numbers changed."""

    profile: str = Field("ascend-910b2", min_length=1, description="profile name, SoC name or .yaml file")
    cores: PositiveInt | None = Field(None, description="use only so many core groups [default: all]")
    set: tuple[str, ...] = Field((), description="change a number: core.cube.startup_cycles=20 (repeatable)")
    ideal: str | None = Field(
        None, min_length=1, description="what if these were free: flags,issue,contention,launch,latency"
    )
    evidence: Literal["documented", "all"] = Field(
        "all", description="documented: without the costs that no source documents, and without fits"
    )

    def machine(self) -> Machine:
        """Load the profile and apply --evidence, --cores, --set and --ideal, in this order."""
        from npusim.ideals import idealise
        from npusim.machine import documented_only, override
        from npusim.profiles import load_machine

        machine = load_machine(self.profile)
        if self.evidence == "documented":
            machine = documented_only(machine)
        if self.cores is not None:
            available = machine.core.groups.value
            if self.cores > available:
                raise InputError(f"--cores: {machine.name} has {available} core groups, got {self.cores}")
            machine = override(machine, {"core.groups": self.cores}, source="--cores")
        if self.set:
            try:
                machine = override(machine, assignments(self.set))
            except ProfileError as error:
                raise InputError(f"--set: {error}") from None
        return idealise(machine, self.ideal.split(",")) if self.ideal else machine


def refuse_costs(settings: MachineSettings) -> None:
    """InputError for what matters to a time only; sizes by which kernels are built may matter to values."""
    why = "nothing is timed; drop it, or --no-timing"
    refuse(settings, ("ideal", "evidence"), why)
    for text in settings.set:
        if not Target.sees(_assignment(text)[0]):
            raise InputError(f"--set {text}: {why}")


def assignments(texts: Iterable[str]) -> dict[str, float]:
    """The numbers of --set, by path. InputError for what is no path=value, and for one that is set twice."""
    values: dict[str, float] = {}
    for text in texts:
        path, value = _assignment(text)
        if path in values:
            raise InputError(f"--set {text}: {path} is set twice; keep one")
        values[path] = value
    return values


def _assignment(text: str) -> tuple[str, float]:
    path, equals, value = text.partition("=")
    if equals and not path.strip():
        raise InputError(f"--set {text}: no path before '='; write path.to.field=value")
    try:
        return path.strip(), float(value)
    except ValueError:
        what = f"{value!r} is not a number" if equals else "no '='"
        raise InputError(f"--set {text}: {what}; write path.to.field=value") from None


def _known_gates(name: str) -> str:
    from npusim.gates import GATE_MODELS

    if name not in GATE_MODELS:
        raise ValueError(f"unknown gate model {name!r}; {did_you_mean(name, GATE_MODELS)}")
    return name


GateName = Annotated[str, AfterValidator(_known_gates)]
"""the name of a model whose gates can be imitated"""


class NumericsSettings(Settings):
    """Which inputs the kernel computes on, and how many of its matrices."""

    inputs: str | None = Field(
        None,
        min_length=1,
        description=".npz with L [matrices, C, C]; or k, beta, g; or beta, g (keys are generated); "
        "gdn kernels: q, k, v, g, beta, with cu_seqlens and initial_state; others: their inputs by name",
    )
    output: str | None = Field(
        None,
        min_length=1,
        description="compute all and write it by name (.npz): T [matrices, C, C]; of gdn-fused o and state",
    )
    samples: PositiveInt = Field(
        64, le=10**12, description="matrices (or items of other kernels) to compute, spread over all"
    )
    seed: NonNegativeInt = Field(0, description="seed of the generated inputs")
    key_correlation: float = Field(
        KEY_CORRELATION,
        ge=0,
        lt=1,
        allow_inf_nan=False,
        description="mean cosine between two generated keys of a chunk",
    )
    gates: GateName = Field("qwen3.5", description="model whose gates are imitated: qwen3.5 or qwen3-next")
    timing: bool = Field(
        True, description="time the kernel", json_schema_extra={"off": "only compute; then any dtype will do"}
    )
    numerics: bool = Field(
        True,
        description="compute the kernel and its error",
        json_schema_extra={"off": "only time the kernel"},
    )


class LayerSettings(Settings):
    """One forward pass of a model."""

    batch: PositiveInt = Field(1, le=10**6, description="sequences")
    seq_len: PositiveInt = Field(8192, le=MOST, description="tokens per sequence")
    context: NonNegativeInt | None = Field(
        None, le=MOST, description="tokens before these in each sequence [default: 0, with --decode 8192]"
    )
    decode: bool = Field(
        False, description="one more token of each sequence, the delta net by its recurrence"
    )
    chunk: PositiveInt = Field(
        64, le=LARGEST_CHUNK, description="chunk size C", json_schema_extra={"option": "--chunk-size"}
    )
    dtype: Literal["fp16", "bf16"] = Field("fp16", description="dtype of weights and activations")
    execution: Literal["eager", "graph", "fused"] = Field(
        "graph",
        description="eager: the host issues each kernel; graph: all at once; fused: and the delta net in one",
    )
    tensor_parallel: PositiveInt = Field(
        1, le=1024, description="devices that share heads and widths; communication is not counted"
    )
    skew: float = Field(
        0.0, ge=0, le=10, allow_inf_nan=False,
        description="exponent of a Zipf distribution of tokens over experts; 0 is even",
    )  # fmt: skip


class EngineSettings(Settings):
    """How the timeline is made."""

    what_if: bool = Field(
        True,
        description="time it again without the mechanism that costs most",
        json_schema_extra={"off": "do not time it again without what costs most"},
    )
    engine: Literal["fast", "reference"] = Field(
        "fast", description="fast: compiled, skips periods; reference: the definition, in SimPy"
    )
    exact: bool = Field(
        False, description="simulate every operation one by one (the reference engine always does)"
    )
    tolerance: float = Field(
        1e-9,
        ge=0,
        le=0.01,
        allow_inf_nan=False,
        description="states are alike if no time differs by more, relative to the period that is skipped; "
        "at most 0.01",
    )
    trace: str | None = Field(
        None, min_length=1, description="write the timeline for Perfetto or MindStudio Insight (.json)"
    )
    trace_iterations: PositiveInt = Field(
        2, le=10**9, description="trips of each outermost loop that the trace shows, per core group"
    )
