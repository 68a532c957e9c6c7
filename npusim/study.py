"""One run, whole: build a kernel for a machine, time it, compute it, and say what came out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from npusim.check import check
from npusim.data import Computed, Data, Source
from npusim.errors import InputError, NpusimError, Unsupported
from npusim.files import check_targets, replacing
from npusim.graph import Kernel
from npusim.kernels import KernelEntry
from npusim.lower import lower
from npusim.machine import Machine
from npusim.metrics import Errors
from npusim.npz import write_npz
from npusim.problem import Options, Problem, Target, refuse
from npusim.program import Program
from npusim.report import Report, summarise
from npusim.sequences import SequenceSource
from npusim.settings import EngineSettings, NumericsSettings
from npusim.simulate import EngineRun, simulate
from npusim.tensors import TensorSource
from npusim.trace import write_trace
from npusim.triangles import TriangleSource
from npusim.validation.expected import Expected, expected
from npusim.whatif import WhatIf, imagine
from npusim.where import netting

Progress = Callable[[int | None], None]
"""told how many operations are simulated, and None once values are computed"""
Announce = Callable[[Problem, Kernel], None]

TIMING_KEYS = (
    "time_us", "times", "cycles", "bound", "dominant_unit", "cores", "evidence", "units",
    "waiting", "breakdown", "critical_path", "mechanisms", "work", "roofline", "bytes", "peak_bytes",
    "assumed",
)  # fmt: skip
"""what a Report puts into the JSON; null where the kernel was not timed"""


EXPECTED_KEYS = ("expected_error", "expected_from", "extrapolated")
SOURCES: dict[str, Source] = {
    "triangles": TriangleSource(),
    "sequences": SequenceSource(),
    "tensors": TensorSource(),
}
"""where data come from, by the name a kernel's entry gives"""


@dataclass(frozen=True)
class Numerics:
    """Errors of the computed values against float64, and the range of every intermediate."""

    computed: Computed
    origin: str

    @property
    def errors(self) -> Errors:
        """Those of the main output."""
        return next(iter(self.computed.errors.values()))

    @property
    def others(self) -> dict[str, Errors]:
        """Those of the other outputs, by name."""
        return dict(list(self.computed.errors.items())[1:])

    def to_json(self) -> dict[str, Any]:
        ranges = [
            {
                "name": r.name, "dtype": r.dtype, "scale": r.scale, "max_abs": r.max_abs, "limit": r.limit,
                "nonfinite": r.nonfinite, "saturated": r.saturated,
            }
            for r in self.computed.execution.ranges
        ]  # fmt: skip
        return {
            **self.errors.to_json(),
            "samples": self.computed.samples,
            "total": self.computed.total,
            "inputs": self.origin,
            "outputs": {name: _measures(errors) for name, errors in self.computed.errors.items()},
            "range": ranges,
        }


def _measures(errors: Errors) -> dict[str, Any]:
    """What does not count pieces: these are items of the problem, not matrices of an output."""
    return {name: value for name, value in errors.to_json().items() if name not in ("samples", "exact")}


@dataclass(frozen=True)
class Result:
    """All that a run found. `report` or `numerics` is None where it was not asked for."""

    entry: KernelEntry
    kernel: Kernel
    machine: Machine
    problem: Problem
    report: Report | None
    engine: EngineRun | None
    numerics: Numerics | None
    what_if: WhatIf | None = None

    @property
    def expected(self) -> Expected | None:
        """How wrong the time is to be expected to be; None where nothing was timed."""
        kernel = self.kernel
        return expected(kernel, self.problem, self.machine) if self.report else None

    def to_json(self) -> dict[str, Any]:
        """The JSON of `npusim run`."""
        timing = self.report.to_json() if self.report else dict.fromkeys(TIMING_KEYS)
        known = self.expected
        timing |= known.to_json() if known else dict.fromkeys(EXPECTED_KEYS)
        return {
            "kernel": self.kernel.name,
            "algorithm": self.kernel.algorithm,
            "variant": self.kernel.variant,
            "profile": self.machine.name,
            "problem": self.entry.sizes_json(self.problem),
            "options": dict(self.kernel.settings),
            **timing,
            "what_if": self.what_if.to_json() if self.what_if else None,
            "numerics": self.numerics.to_json() if self.numerics else None,
            "engine": self.engine.to_json() if self.engine else None,
        }


@dataclass(frozen=True)
class Prepared:
    """A run in which no mistake is left to find: its kernel is built and lowered, its data fit."""

    entry: KernelEntry
    kernel: Kernel
    machine: Machine
    problem: Problem
    options: Options
    program: Program | None
    data: Data | None
    sample: Kernel | None
    """the kernel that computes the data, or the sample of them"""

    def result(
        self, numerics: NumericsSettings, engine: EngineSettings, progress: Progress | None = None
    ) -> Result:
        """Time and compute it, as the settings ask."""
        with netting(self.kernel.where):
            return self._result(numerics, engine, progress)

    def _result(
        self, numerics: NumericsSettings, engine: EngineSettings, progress: Progress | None
    ) -> Result:
        report, ran = time_program(self.program, engine, progress) if self.program else (None, None)
        imagined = None
        if self.program and report and engine.what_if:
            imagined = imagine(self.program, report, engine, progress)
        found = None
        if self.sample and self.data:
            if progress:
                progress(None)
            found = compute(self.data, self.sample, numerics.output)
        return Result(self.entry, self.kernel, self.machine, self.problem, report, ran, found, imagined)


def find_data(entry: KernelEntry, problem: Problem, numerics: NumericsSettings) -> Data | None:
    """The data of --inputs, or generated ones; None where nothing is computed and no file is given."""
    source = SOURCES[entry.data]
    if numerics.inputs:
        return source.read(numerics.inputs, entry, problem, numerics)
    return source.draw(entry.fix(problem), numerics) if numerics.numerics else None


def prepare(
    entry: KernelEntry,
    problem: Problem,
    options: Options,
    machine: Machine,
    numerics: NumericsSettings,
    data: Data | None,
) -> Prepared:
    """All that comes before the work: what is wrong is said here. `data` are those of `find_data`."""
    if data:
        problem = data.whole
    target = Target.of(machine)
    kernel = _build(entry, problem, options, target, numerics.inputs)
    with entry.advising(problem, options, target), netting(kernel.where):
        program = lower(kernel, machine) if numerics.timing else None
    if data:
        data.check(kernel, numerics.numerics)
    sample = _sample(entry, data, options, target) if data and numerics.numerics else None
    return Prepared(entry, kernel, machine, problem, options, program, data, sample)


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
    check_wishes(numerics, engine)
    entry.check_sizes(problem)
    data = find_data(entry, problem, numerics)
    prepared = prepare(entry, problem, options, machine, numerics, data)
    if announce:
        announce(prepared.problem, prepared.kernel)
    return prepared.result(numerics, engine, progress)


def _build(
    entry: KernelEntry, problem: Problem, options: Options, target: Target, path: str | None
) -> Kernel:
    """The kernel; where a file of L sets the chunk and no kernel can be built for it, the file is named."""
    try:
        return entry.build(problem, options, target)
    except Unsupported as error:
        option, _, reason = str(error).partition(": ")
        if path is None or problem.matrices is None or option != "--chunk":
            raise
        n = problem.chunk
        raise Unsupported(f"{path}: array L: matrices of {n} x {n}: {reason}") from None


def _sample(entry: KernelEntry, data: Data, options: Options, target: Target) -> Kernel:
    """The kernel that computes. Where it takes other sizes than the one that is timed, a mistake says so."""
    try:
        kernel = check(entry.build(data.sample, options, target))
        data.check_sample(kernel)
    except NpusimError as error:
        if data.sample.shape != data.whole.shape:
            error.add(f"(built for the sample that is computed, of shape {data.sample.shape})")
        raise
    return kernel


def check_wishes(numerics: NumericsSettings, engine: EngineSettings) -> None:
    """Refuse now what would fail after minutes of simulation, or would be passed over in silence."""
    if not (numerics.timing or numerics.numerics):
        raise InputError("--no-timing and --no-numerics together leave nothing to do; drop one of them")
    if not numerics.numerics:
        refuse(numerics, ("output",), "writes what the kernel computes; drop --no-numerics")
        refuse(numerics, DRAWN, "nothing is computed; drop it, or --no-numerics")
    if not numerics.timing:
        why = "is about what is timed; drop it, or --no-timing"
        refuse(engine, ("trace", "what_if", "engine", "exact", "tolerance"), why)
    if numerics.timing and engine.engine == "fast":
        from npusim.engine.fast import native

        native.folder()
    if engine.engine == "reference":
        refuse(engine, ("tolerance",), "the reference engine simulates every operation; drop it")
    if engine.exact:
        refuse(engine, ("tolerance",), "with --exact no period is skipped; drop one of the two")
    if numerics.output:
        refuse(numerics, ("samples",), "--output computes all; drop one of the two")
    if not engine.trace:
        refuse(engine, ("trace_iterations",), "limits a trace; give --trace FILE, or drop it")
    check_targets({"--inputs": numerics.inputs}, {"--output": numerics.output, "--trace": engine.trace})


DRAWN = ("samples", "seed", "gates", "key_correlation")
"""settings that say nothing where nothing is computed"""


def time_program(
    program: Program, engine: EngineSettings, progress: Progress | None = None
) -> tuple[Report, EngineRun]:
    """Simulate and summarise; write the trace that `engine` asks for."""
    ran = simulate(program, engine, progress)
    if engine.trace:
        shown = ran.trips(0, engine.trace_iterations)
        known = {"operations": ran.engine.operations, "iterations": engine.trace_iterations}
        with replacing(engine.trace) as partial, partial.open("w", encoding="utf-8") as stream:
            write_trace(shown, stream, **known)
    return summarise(ran.totals(), program.machine), ran.engine


def compute(data: Data, kernel: Kernel, output: str | None = None) -> Numerics:
    """Execute the same graph on the data, or on a sample of them; write the results to `output`."""
    found = data.compute(kernel)
    if output:
        write_npz(output, found.outputs)
    return Numerics(found, data.origin)
