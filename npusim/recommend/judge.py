"""What a candidate is found to be: its time, and what its T does to the layer. Runs in worker processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from npusim.calibration.slopes import slopes
from npusim.errors import NpusimError
from npusim.layer_error import LayerProbe
from npusim.lower import lower
from npusim.machine import Machine
from npusim.memo import Memo
from npusim.metrics import compare
from npusim.problem import Options, Problem, Target
from npusim.registry import load_registry
from npusim.report import outline
from npusim.settings import EngineSettings, MachineSettings, NumericsSettings
from npusim.simulate import simulate
from npusim.triangles import invert
from npusim.validation.expected import expected
from npusim.validation.predict import prediction
from npusim.workers import Last

KERNEL = "tri-inverse"


@dataclass(frozen=True)
class Exactness:
    """Errors of T and of the layer with it, on some heads of sequences. `output`, `state`: RMSE over RMS."""

    output: float
    worst_output: float
    """of the worst head"""
    state: float
    relative: float
    snr_db: float
    worst_snr_db: float
    nonfinite: int


@dataclass(frozen=True)
class Judged:
    """A candidate with what is known of it; `reason`: why it cannot be had. `slopes`: d time / d number."""

    options: Options
    time_us: float = 0.0
    bound: str = ""
    unit: str = ""
    utilisation: float = 0.0
    expected_error: float | None = None
    extrapolated: tuple[str, ...] = ()
    exactness: Exactness | None = None
    slopes: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    held: int = 0
    """on how many draws of inputs it was exact enough"""


@lru_cache(maxsize=4)
def _machine(settings: MachineSettings) -> Machine:
    return settings.machine()


def timed(registry: str, settings: MachineSettings, problem: Problem, some: Sequence[Judged]) -> list[Judged]:
    """The same with the time of each candidate on the whole problem."""
    entry, machine = load_registry(registry)[KERNEL], _machine(settings)
    target, found = Target.of(machine), list[Judged]()
    for one in some:
        try:
            kernel = entry.build(problem, one.options, target)
            totals = simulate(lower(kernel, machine), EngineSettings()).totals()
        except NpusimError as error:
            found.append(replace(one, reason=str(error)))
            continue
        short = outline(totals, machine)
        known = expected(kernel, problem, machine)
        found.append(replace(
            one, time_us=short.task_us, bound=short.bound, unit=short.dominant_unit,
            utilisation=short.utilisation, expected_error=known.error, extrapolated=known.extrapolated,
        ))  # fmt: skip
    return found


def exactness(
    registry: str,
    settings: MachineSettings,
    probed: Problem,
    numerics: NumericsSettings,
    operand: str,
    some: Sequence[Judged],
) -> list[Judged]:
    """The same with the errors of each candidate on the heads and tokens of `probed`, whose dtype is that of
    the inverse; the layer multiplies T in dtype `operand`."""
    entry, machine = load_registry(registry)[KERNEL], _machine(settings)
    probe, memo = _probe(probed, numerics)
    sample = Problem(chunk=probed.chunk, dtype=probed.dtype, matrices=len(probe.L))
    found: list[Judged] = []
    for one in some:
        try:
            kernel = entry.build(sample, one.options, Target.of(machine))
            T = invert(kernel, probe.L, memo).outputs["T"].reshape(probe.L.shape)
        except NpusimError as error:
            found.append(replace(one, reason=str(error)))
            continue
        layer, own = probe.errors(T, operand), compare(T, probe.T)
        found.append(replace(one, exactness=Exactness(
            layer.output.relative_error, layer.output.worst_relative_error, layer.state.relative_error,
            own.relative_error, own.snr_db, own.worst_snr_db, own.nonfinite,
        )))  # fmt: skip
    return found


_before = Last()
"""the probe of the candidates before, and what they computed on it"""


def _probe(problem: Problem, numerics: NumericsSettings) -> tuple[LayerProbe, Memo]:
    found: tuple[LayerProbe, Memo] = _before.get(
        (problem, numerics), lambda: (LayerProbe.drawn(problem, numerics), Memo())
    )
    return found


def with_slopes(
    registry: str, settings: MachineSettings, problem: Problem, some: Sequence[Judged]
) -> list[Judged]:
    """The same with how their times change with each number of the profile."""
    entry, machine = load_registry(registry)[KERNEL], _machine(settings)
    found = []
    for one in some:
        kernel = entry.build(problem, one.options, Target.of(machine))
        totals = simulate(lower(kernel, machine), EngineSettings()).totals()
        found.append(replace(one, slopes=slopes(prediction(totals), machine, "task_duration")))
    return found
