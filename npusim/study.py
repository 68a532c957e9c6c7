"""One run, whole: build a kernel for a machine, time it, compute it, and say what came out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from npusim import inputs
from npusim.errors import InputError, Unsupported
from npusim.execute import Execution, execute
from npusim.graph import Kernel
from npusim.inputs import MatrixBatch, generate, generate_matrices, read_matrices
from npusim.kernels import KernelEntry
from npusim.lower import lower
from npusim.machine import Machine
from npusim.matrices import reference_inverse
from npusim.metrics import Errors, compare
from npusim.problem import Options, Problem, Target
from npusim.report import Report, summarise
from npusim.settings import EngineSettings, NumericsSettings
from npusim.simulate import EngineRun, simulate

Array = npt.NDArray[Any]
Progress = Callable[[int], None]
Announce = Callable[[Problem, Kernel], None]


TIMING_KEYS = (
    "time_us", "times", "cycles", "bound", "dominant_unit", "cores", "expected_error", "evidence", "units",
    "waiting", "breakdown", "critical_path", "roofline", "bytes", "peak_bytes", "assumed",
)  # fmt: skip
"""what a Report puts into the JSON; null where the kernel was not timed"""


@dataclass(frozen=True)
class Numerics:
    """Errors of the computed matrices against float64, and the range of every intermediate."""

    errors: Errors
    execution: Execution
    total: int
    """matrices of the whole problem; the errors were taken on `errors.samples` of them"""
    origin: str

    def to_json(self) -> dict[str, Any]:
        ranges = [
            {
                "name": r.name, "dtype": r.dtype, "max_abs": r.max_abs, "limit": r.limit,
                "nonfinite": r.nonfinite, "saturated": r.saturated,
            }
            for r in self.execution.ranges
        ]  # fmt: skip
        return {**self.errors.to_json(), "total": self.total, "inputs": self.origin, "range": ranges}


@dataclass(frozen=True)
class Result:
    """All that a run found. `report` or `numerics` is None where it was not asked for."""

    kernel: Kernel
    machine: Machine
    problem: Problem
    report: Report | None
    engine: EngineRun | None
    numerics: Numerics | None

    @property
    def total(self) -> int:
        """Matrices of the whole problem."""
        return self.problem.total

    def to_json(self) -> dict[str, Any]:
        """The JSON of `npusim run`."""
        timing = self.report.to_json() if self.report else dict.fromkeys(TIMING_KEYS)
        return {
            "kernel": self.kernel.name,
            "algorithm": self.kernel.algorithm,
            "variant": self.kernel.variant,
            "profile": self.machine.name,
            "problem": self.problem.model_dump(mode="json"),
            "options": dict(self.kernel.settings),
            **timing,
            "numerics": self.numerics.to_json() if self.numerics else None,
            "engine": self.engine.to_json() if self.engine else None,
        }


def resolve_problem(problem: Problem, settings: NumericsSettings) -> tuple[Problem, MatrixBatch | None]:
    """The problem with the sizes of --inputs, and the matrices read from it (None without --inputs)."""
    if settings.inputs is None:
        return problem, None
    batch = read_matrices(
        settings.inputs,
        problem.chunk,
        samples=None if settings.output else settings.samples,
        seed=settings.seed,
        key_heads=problem.key_heads,
        head_dim=problem.head_dim if "head_dim" in problem.model_fields_set else None,
        key_correlation=settings.key_correlation,
    )
    sizes: dict[str, Any] = {"dtype": problem.dtype, "chunk": batch.L.shape[-1], "head_dim": problem.head_dim}
    if batch.layout is None:
        _check_given(problem, settings, batch.L.shape[-1])
        sizes["matrices"] = batch.total
    else:
        ends = (0, *np.cumsum(batch.layout.lengths).tolist())
        sizes |= {"cu_seqlens": ends, "heads": batch.layout.heads}
    return Problem.parse(**sizes), batch


def _check_given(problem: Problem, settings: NumericsSettings, chunk: int) -> None:
    """A file of L leaves nothing to choose: an option that contradicts it is an InputError."""
    path = settings.inputs
    for name in ("seed", "gates", "key_correlation"):
        if name in settings.model_fields_set:
            raise InputError(
                f"--{name.replace('_', '-')}: {path} holds L, nothing is generated; drop this option"
            )
    if "chunk" in problem.model_fields_set and problem.chunk != chunk:
        raise InputError(f"--chunk: the matrices in {path} are {chunk} x {chunk}; drop this option")
    for name in ("key_heads", "head_dim"):
        if name in problem.model_fields_set:
            raise InputError(f"--{name.replace('_', '-')}: {path} holds L, not keys; drop this option")


def draw(problem: Problem, settings: NumericsSettings) -> MatrixBatch:
    """Generated matrices for `problem`: all of them where they are written, a sample otherwise."""
    common: dict[str, Any] = {
        "head_dim": problem.head_dim,
        "samples": None if settings.output else settings.samples,
        "seed": settings.seed,
        "key_correlation": settings.key_correlation,
        "gates": settings.gates,
    }
    if problem.matrices is not None:
        return generate_matrices(problem.matrices, problem.chunk, **common)
    return generate(problem.chunk, problem.sequences, problem.heads, problem.kv_heads, **common)


def run(
    entry: KernelEntry,
    problem: Problem,
    options: Options,
    machine: Machine,
    numerics: NumericsSettings,
    engine: EngineSettings,
    progress: Progress | None = None,
    announce: Announce | None = None,
) -> Result:
    """Time and compute one kernel, as the settings ask; `announce` hears what before the work begins."""
    _check_wishes(numerics)
    problem, batch = resolve_problem(problem, numerics)
    target = Target.of(machine)
    kernel = _build(entry, problem, options, target, numerics.inputs, batch)
    if announce:
        announce(problem, kernel)
    report, ran = None, None
    if numerics.timing:
        report, ran = time_kernel(kernel, machine, engine, progress)
    found = compute(entry, problem, options, target, numerics, batch) if numerics.numerics else None
    return Result(kernel, machine, problem, report, ran, found)


def _build(
    entry: KernelEntry,
    problem: Problem,
    options: Options,
    target: Target,
    path: str | None,
    batch: MatrixBatch | None,
) -> Kernel:
    """The kernel; where a file of L sets the chunk and no kernel can be built for it, the file is named."""
    try:
        return entry.build(problem, options, target)
    except Unsupported as error:
        option, _, reason = str(error).partition(": ")
        if batch is None or batch.layout is not None or option != "--chunk":
            raise
        raise Unsupported(
            f"{path}: array L: matrices of {problem.chunk} x {problem.chunk}: {reason}"
        ) from None


def _check_wishes(numerics: NumericsSettings) -> None:
    """Refuse now what would fail after minutes of simulation."""
    if not (numerics.timing or numerics.numerics):
        raise InputError("--no-timing and --no-numerics together leave nothing to do; drop one of them")
    if numerics.output and not numerics.numerics:
        raise InputError("--output: writes what the kernel computes; drop --no-numerics")
    if numerics.output:
        inputs.check_target(numerics.output)


def time_kernel(
    kernel: Kernel, machine: Machine, engine: EngineSettings, progress: Progress | None = None
) -> tuple[Report, EngineRun]:
    """Lower, simulate and summarise."""
    program = lower(kernel, machine)
    timeline, ran = simulate(program, engine.engine, progress)
    return summarise(timeline, machine), ran


def compute(
    entry: KernelEntry,
    problem: Problem,
    options: Options,
    target: Target,
    settings: NumericsSettings,
    batch: MatrixBatch | None,
) -> Numerics:
    """Execute the same graph on a sample of the problem's matrices; write them all with --output.

    The reference is the float64 inverse of L as the kernel receives it, that is in the operand dtype.
    """
    batch = batch or draw(problem, settings)
    count, n, _ = batch.L.shape
    sample = problem.model_copy(update={"matrices": count, "chunk": n})
    kernel = entry.build(sample, options, target)
    given = kernel.tensor("L")
    execution = execute(kernel, {"L": batch.L.reshape(given.shape)})
    T = execution.outputs["T"].reshape(batch.L.shape)
    stored = execution.inputs["L"].reshape(batch.L.shape).astype(np.float64)
    if settings.output:
        inputs.write_npz(settings.output, {"T": T})
    errors = compare(T, reference_inverse(stored), batch.head)
    return Numerics(errors, execution, batch.total, batch.description)
