"""Decoder layers and models: kernel after kernel, as a host issues them.

Each kernel is timed as by itself, with what the kernels before it left in L2; nothing of two kernels
overlaps. `eager`: the host issues each kernel, which takes it `launch.host_us`, and a device that is faster
waits. `graph`: the host issues all of them at once. Both pay each kernel's own launch on the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from npusim import cost
from npusim.beside import in_two
from npusim.calls import Call, Layer, Stack
from npusim.dtypes import dtype
from npusim.errors import GraphError, NpusimError, Unsupported
from npusim.graph import Kernel
from npusim.kernels import KernelEntry
from npusim.lower import lower
from npusim.machine import Machine
from npusim.problem import Options, Problem, Target
from npusim.program import Program
from npusim.report import Outline, outline
from npusim.reuse import share_within
from npusim.settings import EngineSettings
from npusim.simulate import load_engine, simulate
from npusim.validation.expected import Expected, expected

KERNELS, OUTLINES = 64, 1000
"""what a timer keeps for the next question: tile graphs, and times of kernels"""


@dataclass(frozen=True)
class CallTime:
    """A kernel of a layer, and what it takes."""

    call: Call
    found: Outline
    expected: Expected
    algorithm: str
    variant: str

    @property
    def hbm_bytes(self) -> float | None:
        """None for a kernel that was timed at other lengths: what L2 holds of them is not what it holds."""
        return None if self.call.lengths else self.found.bytes["hbm_read"] + self.found.bytes["hbm_written"]

    @property
    def l2_bytes(self) -> float | None:
        return None if self.call.lengths else self.found.bytes["l2_read"] + self.found.bytes["l2_written"]


@dataclass(frozen=True)
class LayerTime:
    """The kernels of one kind of layer, `count` of which the model has; `waits`: what the device waits for
    the host before each of them, microseconds, on average over the layers."""

    layer: Layer
    count: int
    rows: tuple[CallTime, ...]
    waits: tuple[float, ...]

    @property
    def waiting_us(self) -> float:
        """What the device waits for the host in one of them."""
        return sum(self.waits)

    @property
    def time_us(self) -> float:
        return sum(row.found.task_us for row in self.rows) + self.waiting_us

    @property
    def inverse_us(self) -> float | None:
        """None where the inverse is a part of a kernel and has no time of its own."""
        if any(row.call.inverse == "inside" for row in self.rows):
            return None
        return sum(row.found.task_us for row in self.rows if row.call.inverse)

    @property
    def inverse_share(self) -> float | None:
        return None if self.inverse_us is None else self.inverse_us / self.time_us

    def to_json(self) -> dict[str, Any]:
        """One entry of `layers` in the JSON of `npusim layer`."""
        rows: list[dict[str, Any]] = [
            {
                "name": row.call.label, "kernel": row.call.kernel, "algorithm": row.algorithm,
                "variant": row.variant, "time_us": row.found.task_us,
                "share": row.found.task_us / self.time_us, "bound": row.found.bound,
                "dominant_unit": row.found.dominant_unit, "hbm_bytes": row.hbm_bytes,
                "l2_bytes": row.l2_bytes, "timed_at": list(row.call.lengths) or None,
                **row.expected.to_json(),
            }
            for row in self.rows
        ]  # fmt: skip
        if self.waiting_us:
            waited = {"time_us": self.waiting_us, "share": self.waiting_us / self.time_us}
            rows.append({"name": "waiting for the host", **waited})
        return {
            "kind": self.layer.kind, "count": self.count, "time_us": self.time_us,
            "waiting_us": self.waiting_us, "inverse_us": self.inverse_us,
            "inverse_share": self.inverse_share, "breakdown": rows,
        }  # fmt: skip


@dataclass(frozen=True)
class StackTime:
    """A model with one inverse: its layers, and all of it."""

    model: str
    layers: tuple[LayerTime, ...]

    @property
    def total_us(self) -> float:
        return sum(layer.count * layer.time_us for layer in self.layers)

    @property
    def expected_error(self) -> float | None:
        """The error to expect of the total if those of the kernels all point one way; None if one is not
        known."""
        rows = [(layer.count * row.found.task_us, row) for layer in self.layers for row in layer.rows]
        errors = [row.expected.error for _, row in rows]
        if None in errors:
            return None
        off = sum(us * error for (us, _), error in zip(rows, errors, strict=True) if error is not None)
        return off / self.total_us

    @property
    def measured_share(self) -> float:
        """The share of the time that kernels take which lie inside what was measured."""
        inside = (
            layer.count * row.found.task_us
            for layer in self.layers
            for row in layer.rows
            if row.expected.error is not None and not row.expected.extrapolated
        )
        return sum(inside) / self.total_us


@dataclass(frozen=True)
class _Run:
    """A kernel that is to be timed, with the shares of its inputs that are in L2, where there are any."""

    call: Call
    held: tuple[tuple[str, float], ...] = ()

    @property
    def key(self) -> object:
        """Calls that are alike are timed once."""
        return self.call.kernel, self.call.problem, self.call.options, self.held


class Timer:
    """Times stacks on a machine, each kernel once."""

    def __init__(
        self,
        registry: Mapping[str, KernelEntry],
        machine: Machine,
        engine: EngineSettings,
        progress: Callable[[int], None] | None = None,
        alone: bool = False,
    ) -> None:
        """`alone`: no second process helps, which a program of several threads cannot copy safely."""
        self.registry, self.machine, self.engine, self.progress = registry, machine, engine, progress
        self.alone = alone
        self.target = Target.of(machine)
        self._build = lru_cache(KERNELS)(self._built)
        self._found: dict[object, Outline] = {}

    def time(self, stack: Stack, eager: bool) -> StackTime:
        """All layers of a model, and the waiting for the host where it issues kernels one by one.

        NpusimError, named by the call, where the machine cannot run one of the kernels.
        """
        runs = [[self._runs(*one) for one in self._held(layer)] for layer in stack.layers]
        found = self._find([run for layer in runs for call in layer for run in call])
        rows = [
            [
                self._call_time(call, [found[run.key] for run in own])
                for call, own in zip(layer.calls, calls, strict=True)
            ]
            for layer, calls in zip(stack.layers, runs, strict=True)
        ]
        waits = self._waits(stack, rows) if eager else [[0.0] * len(own) for own in rows]
        counts = [stack.order.count(place) for place in range(len(rows))]
        layers = map(LayerTime, stack.layers, counts, map(tuple, rows), map(tuple, waits))
        return StackTime(stack.model, tuple(layers))

    def _call_time(self, call: Call, outlines: list[Outline]) -> CallTime:
        kernel = self._kernel(call)
        known = expected(kernel, call.problem, self.machine)
        return CallTime(call, self._outline(call, outlines), known, kernel.algorithm, kernel.variant)

    def _held(self, layer: Layer) -> list[tuple[Call, dict[str, float]]]:
        """Every call, with the share of each input that is still in L2, in a layer that follows one of its
        kind."""
        kernels = [self._kernel(call) for call in layer.calls]
        sizes = [_bytes(kernel) for kernel in kernels]
        return [
            (
                call,
                {
                    tensor.name: self._share(layer, sizes, place, call.values[tensor.name])
                    for tensor in kernel.tensors
                    if tensor.role == "input" and tensor.name in call.values
                },
            )
            for place, (call, kernel) in enumerate(zip(layer.calls, kernels, strict=True))
        ]

    def _share(self, layer: Layer, sizes: list[float], place: int, value: str) -> float:
        """The share of a value that is still in L2, where an earlier call (of the layer before, if need be)
        touched it. Both are taken to go through it in the same order."""
        between = 0.0
        for back in range(1, len(layer.calls)):
            at = (place - back) % len(layer.calls)
            if value in layer.calls[at].values.values():
                capacity = self.machine.memory.l2_bytes.value
                return share_within(capacity, sizes[at] + between, between + sizes[place])
            between += sizes[at]
        return 0.0

    def _kernel(self, call: Call) -> Kernel:
        try:
            return self._build(call.kernel, call.problem, call.options)
        except NpusimError as error:
            error.add(f"(in the layer: {call.label})")
            raise

    def _built(self, name: str, problem: Problem, options: Options) -> Kernel:
        return self.registry[name].build(problem, options, self.target)

    def _runs(self, call: Call, held: Mapping[str, float]) -> list[_Run]:
        """What is to be timed for a call: its kernel, or it at shorter lengths."""
        if not call.lengths:
            return [_Run(call, tuple((name, share) for name, share in held.items() if share))]
        problems = [call.problem.model_copy(update={"seq_len": length}) for length in call.lengths]
        return [_Run(replace(call, problem=problem, lengths=())) for problem in problems]

    def _find(self, wanted: list[_Run]) -> dict[object, Outline]:
        """What each takes: those that are not known yet are timed. Of more than OUTLINES, only these are
        kept."""
        known = self._found
        new = {run.key: run for run in wanted if run.key not in known}
        load_engine(self.engine)
        runs = list(new.values())
        outlines = [self._timed(run) for run in runs] if self.alone else in_two(self._timed, runs)
        found = known | dict(zip(new, outlines, strict=True))
        own = {run.key: found[run.key] for run in wanted}
        self._found = found if len(found) <= OUTLINES else own
        return own

    def _timed(self, run: _Run) -> Outline:
        kernel = self._kernel(run.call)
        try:
            program = _lowered(run.call, kernel, self.machine, dict(run.held))
        except NpusimError as error:
            error.add(f"(in the layer: {run.call.label})")
            raise
        return outline(simulate(program, self.engine, self.progress).totals(), self.machine)

    def _outline(self, call: Call, outlines: list[Outline]) -> Outline:
        """What a call takes. If it was timed at other lengths: the time on the parabola through them and the
        bare launch, which is what no token at all would take; the bound is that of the longest."""
        if not call.lengths:
            return outlines[0]
        points = [cost.launch_us(self.machine, mixed=True), *(one.task_us for one in outlines)]
        curve = np.polynomial.Polynomial.fit((0, *call.lengths), points, len(outlines))
        return replace(outlines[-1], task_us=float(curve(call.problem.seq_len)))

    def _waits(self, stack: Stack, rows: list[list[CallTime]]) -> list[list[float]]:
        """What the device waits for the host before each call of each layer, on average over the model's."""
        host = end = 0.0
        waited = [[0.0] * len(own) for own in rows]
        for place in stack.order:
            for number, row in enumerate(rows[place]):
                host += self.machine.launch.host_us.value
                start = max(host, end)
                waited[place][number] += start - end
                end = start + row.found.task_us
        counts = [max(1, stack.order.count(place)) for place in range(len(rows))]
        return [[total / count for total in own] for own, count in zip(waited, counts, strict=True)]


def _lowered(call: Call, kernel: Kernel, machine: Machine, held: Mapping[str, float]) -> Program:
    """`lower`, whose remedies are those of a kernel by itself; a layer has others."""
    other = "use another --profile"
    try:
        return lower(kernel, machine, held)
    except GraphError as error:
        if error.rule != "capacity":
            raise
        chunked = "chunk" in call.problem.model_fields_set
        raise GraphError(error.rule, error.message, remedy="lower --chunk" if chunked else other) from None
    except Unsupported as error:
        raise Unsupported(f"{str(error).partition(';')[0]}; {other} or --dtype") from None


def _bytes(kernel: Kernel) -> float:
    """Bytes of all tensors of a kernel, those of experts that no token chose among them."""
    return sum(math.prod(tensor.shape) * dtype(tensor.dtype).bytes for tensor in kernel.tensors)
