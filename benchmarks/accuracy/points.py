"""What is computed: points, each an inverse in a format on some inputs, and a file that keeps the figures."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import inputs

from algorithms import REGISTRY
from npusim.builder import Kernel, Options, Problem, Target, Unsupported
from npusim.errors import InputError
from npusim.layer_error import VALUE_COLUMNS, LayerErrors, LayerProbe
from npusim.metrics import UNIT_ROUNDOFF, Errors
from npusim.profiles import load_machine
from npusim.settings import NumericsSettings
from npusim.triangles import invert

ENTRY = REGISTRY["tri-inverse"]
NEUMANN = "masked-neumann"
EXACT = (
    "forward-substitution", "blocked-substitution:textbook", "block-recursion", "mxr",
    "newton-schulz:textbook", "doubling",
)  # fmt: skip
"""what is not an approximation by itself"""
DTYPES = ("fp32", "fp16", "bf16", "fp8_e4m3", "int16", "int8", "int4")
CHUNKS = (16, 32, 64, 128, 256)
ORDERS, STEPS = tuple(range(2, 7)), (*range(1, 13), 16)
"""N and S; by doubling S = 16 takes fewer products than 9 to 15 do"""
LENGTHS = (1024, 8192, 65536)
LONG_KEYS = (0.1, *inputs.CORRELATIONS)
LONG_HEADS = 4
"""of a long sequence: in the order they are drawn one that fades in ten tokens, one that never decays, one
that leaks over a hundred tokens, and one that keeps its state for thousands"""
RUNS = (0, 4, 8, 12, 16, 20, 24, 32, 48)
KEYS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
SUBSTITUTION, MXR = ("forward-substitution",), ("mxr",)
FOLLOWED: dict[str, tuple[tuple[Any, ...], ...]] = {
    "fp32": (MXR, (NEUMANN, 3, 8, True)),
    "fp16": (
        SUBSTITUTION,
        MXR,
        *((NEUMANN, n, s, True) for n, s in ((3, 4), (3, 8), (4, 8), (4, 12), (4, 16))),
    ),
    "bf16": (SUBSTITUTION, MXR, (NEUMANN, 3, 8, True), (NEUMANN, 4, 12, True)),
    "int16": (SUBSTITUTION, MXR, (NEUMANN, 3, 8, True), (NEUMANN, 4, 12, True)),
}
"""over long sequences, by format: algorithm, and N, S and mask where it has them"""
MACHINE = "ascend-910b2"
"""whose core groups and buffers the kernels are built for; values do not depend on it"""

RESOLUTION_DB = -20 * math.log10(UNIT_ROUNDOFF)
"""SNR of what is exact in float64: 319 dB"""
Figures = dict[str, dict[str, Any]]
"""by set of inputs, or by name of an intermediate"""


@dataclass(frozen=True)
class Point:
    """One inverse in one format. `part` of the study says on what, and what is kept."""

    part: str
    dtype: str
    chunk: int
    algorithm: str = NEUMANN
    order: int | None = None
    steps: int | None = None
    mask: bool | None = None
    block: int | None = None
    keys: float | None = None
    """correlation of generated keys"""
    run: int | None = None
    """tokens with the same key"""
    tokens: int | None = None
    """of a long sequence"""
    inputs: str | None = None
    """the one set of inputs; None: all"""

    def kernel(self, matrices: int) -> Kernel:
        options = Options.parse(
            algorithm=self.algorithm.partition(":")[0], variant=self.algorithm.partition(":")[2] or None,
            order=self.order, steps=self.steps, mask=self.mask, block=self.block,
        )  # fmt: skip
        problem = Problem(chunk=self.chunk, matrices=matrices, dtype=self.dtype)
        return ENTRY.build(problem, options, _target())


def points() -> list[Point]:
    """The whole study, the quick parts first."""
    return [*paper(), *by_keys(), *by_run(), *ranges(), *inverses(), *grid(), *long()]


REPORTED = ((64, 1, False), (3, 1, False), (3, 8, False), (3, 8, True))
"""N, S and mask of the rows of arXiv 2606.06034, at C = 64"""


def paper() -> Iterator[Point]:
    """On all inputs. Horner's scheme sums the 64 terms without their cancellation, doubling does not."""
    for dtype in ("fp64", "fp16"):
        yield Point("paper", dtype, 64, "doubling")
        for order, steps, mask in REPORTED:
            yield Point("paper", dtype, 64, order=order, steps=steps, mask=mask)


def by_keys() -> Iterator[Point]:
    """How the same depend on how much keys resemble each other."""
    for keys in KEYS:
        for dtype in ("fp64", "fp16"):
            for order, steps, mask in REPORTED[1:]:
                yield Point("keys", dtype, 64, order=order, steps=steps, mask=mask, keys=keys)


def by_run() -> Iterator[Point]:
    """And on how many tokens of a chunk repeat one another."""
    for length in RUNS:
        for dtype in ("fp64", "fp16"):
            yield Point("run", dtype, 64, "doubling", run=length)
            for order, steps, mask in REPORTED[1:]:
                yield Point("run", dtype, 64, order=order, steps=steps, mask=mask, run=length)


def ranges() -> Iterator[Point]:
    """In fp64 what the values are, in the others how many leave the format."""
    names = [one.name for one in inputs.stack(64, ()).sets]
    for dtype in ("fp64", "fp16", "int16", "int8"):
        for order in ORDERS:
            for mask in (True, False):
                for name in names:
                    yield Point("range", dtype, 64, order=order, steps=8, mask=mask, inputs=name)
    for name in names:
        for mask in (True, False):
            yield Point("range", "fp64", 128, order=3, steps=8, mask=mask, block=128, inputs=name)


def inverses() -> Iterator[Point]:
    for chunk in CHUNKS:
        for dtype in DTYPES:
            for algorithm in EXACT:
                yield Point("inverse", dtype, chunk, algorithm)


def grid() -> Iterator[Point]:
    """All S of one N together: they share products."""
    for chunk in CHUNKS:
        for dtype in DTYPES:
            for order in ORDERS:
                for mask in (True, False):
                    for steps in STEPS:
                        yield Point("grid", dtype, chunk, order=order, steps=steps, mask=mask)


def long() -> Iterator[Point]:
    for tokens in LENGTHS:
        for keys in LONG_KEYS:
            for dtype, methods in FOLLOWED.items():
                for method in methods:
                    yield Point("long", dtype, 64, *method, keys=keys, tokens=tokens)


def figures(point: Point, gates: tuple[Path, ...]) -> Figures:
    """What there is to know about a point. Empty where the algorithm takes no such format or chunk."""
    try:
        return _PARTS.get(point.part, _judged)(point, gates)
    except (Unsupported, InputError):
        return {}


def _judged(point: Point, gates: tuple[Path, ...]) -> Figures:
    """On all sets, of T and of the layer where there is one."""
    return _on(point, inputs.stack(point.chunk, gates))


def _on(point: Point, stack: inputs.Stack) -> Figures:
    L = stack.L
    execution = invert(point.kernel(len(L)), L, stack.memo(point.dtype))
    T, stored = (x.reshape(L.shape) for x in (execution.outputs["T"], execution.inputs["L"]))
    found = {name: _of_matrices(errors) for name, errors in stack.errors(T, stored).items()}
    parts = stack.split(T)
    for one in stack.sets:
        if one.probe:
            found[one.name] |= _of_layer(one.probe.errors(parts[one.name], operand(point.dtype)))
    return found


def _by_keys(point: Point, _: tuple[Path, ...]) -> Figures:
    return _on(point, _drawn(point.keys or 0.0))


def _by_run(point: Point, _: tuple[Path, ...]) -> Figures:
    return _on(point, _repeated(point.chunk, point.run or 0))


@lru_cache(maxsize=1)
def _drawn(keys: float) -> inputs.Stack:
    return inputs.Stack((inputs.drawn(64, keys),))


@lru_cache(maxsize=1)
def _repeated(chunk: int, length: int) -> inputs.Stack:
    return inputs.Stack((inputs.run(chunk, length),))


def _ranges(point: Point, _: tuple[Path, ...]) -> Figures:
    (L,) = (one.L for one in inputs.stack(point.chunk, ()).sets if one.name == point.inputs)
    seen = invert(point.kernel(len(L)), L).ranges
    return {
        r.name: {"max_abs": r.max_abs, "limit": r.limit, "lost": r.nonfinite + r.saturated}
        for r in seen if not r.name.startswith("load")
    }  # fmt: skip


def _long(point: Point, _: tuple[Path, ...]) -> Figures:
    probe = _probe(point.tokens or 0, point.keys or 0.0)
    execution = invert(point.kernel(len(probe.L)), probe.L)
    T = execution.outputs["T"].reshape(probe.L.shape)
    own = operand(point.dtype)
    return {
        "layer": _of_layer(probe.errors(T, own)),
        "floor": _floor(point.tokens or 0, point.keys or 0.0, own),
    }


_PARTS = {"keys": _by_keys, "run": _by_run, "range": _ranges, "long": _long}


@lru_cache(maxsize=1)
def _probe(tokens: int, keys: float) -> LayerProbe:
    problem = Problem(seq_len=tokens, heads=LONG_HEADS, value_dim=VALUE_COLUMNS)
    return LayerProbe.drawn(problem, NumericsSettings(key_correlation=keys))


@lru_cache(maxsize=8)
def _floor(tokens: int, keys: float, dtype: str) -> dict[str, float]:
    return _of_layer(_probe(tokens, keys).floor(dtype))


@lru_cache(maxsize=1)
def _target() -> Target:
    return Target.of(load_machine(MACHINE))


def operand(dtype: str) -> str:
    """What a layer multiplies T in: the inverse's own format, fp16 around integers and formats of 8 bits."""
    return dtype if dtype in ("fp64", "fp32", "fp16", "bf16") else "fp16"


def _of_matrices(errors: Errors) -> dict[str, Any]:
    """The mean counts what is exact at the resolution of float64, so that it is over the same matrices in
    every format: without them it would rise where rounding brings easy ones in."""
    inexact = errors.samples - errors.exact
    mean = ((errors.snr_db * inexact if inexact else 0.0) + RESOLUTION_DB * errors.exact) / errors.samples
    return {
        "snr_db": mean, "worst_snr_db": min(errors.worst_snr_db, RESOLUTION_DB),
        "error": errors.relative_error, "nonfinite": errors.nonfinite, "samples": errors.samples,
    }  # fmt: skip


def _of_layer(errors: LayerErrors) -> dict[str, float]:
    return {
        "output": errors.output.relative_error, "worst_output": errors.output.worst_relative_error,
        "state": errors.state.relative_error, "worst_state": errors.state.worst_relative_error,
    }  # fmt: skip


class Store:
    """Figures of points, a line each, kept as they come: a run that was ended goes on where it was.

    The file belongs to one version of npusim and one choice of gates: remove it to compute anew.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[Point, Figures] = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    entry = json.loads(line)
                except json.JSONDecodeError:  # a run was killed while it wrote; or the line is empty
                    continue
                self.known[Point(**entry["point"])] = entry["figures"]

    def add(self, point: Point, found: Figures) -> None:
        self.known[point] = found
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps({"point": asdict(point), "figures": found}))
