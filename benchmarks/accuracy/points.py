"""What is computed: points, each an inverse in a format on some inputs, and a file that keeps the figures."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

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


class Format(NamedTuple):
    """What operands are: a dtype, and how integers are scaled (docs/low-precision.md)."""

    dtype: str
    scaling: str | None = None
    scaled_for: float | None = None

    @property
    def name(self) -> str:
        scales = f" for {self.scaled_for:g}" if self.scaled_for else ""
        return f"{self.dtype} {self.scaling}{scales}" if self.scaling else self.dtype


INT16, INT8 = ((Format(dtype), Format(dtype, "per-tile"), Format(dtype, "per-tile", 0.3))
               for dtype in ("int16", "int8"))  # fmt: skip
"""with one scale; one for each tile, for a typical chunk; and for one about as hard as drawn ones come"""
FORMATS = (*map(Format, DTYPES[:4]), *INT16[:2], *INT8[:2], Format("int4"))
CHUNKS = (16, 32, 64, 128, 256)
FULL = 64
"""the chunk of which every N and S is computed"""
ORDERS, MOST = tuple(range(2, 7)), 12
"""N, and S up to which what suffices is looked for"""
STEPS = (16, *range(MOST, 0, -1))
"""by doubling S = 16 takes fewer products than 9 to 15 do"""
LENGTHS = (1024, 8192, 65536)
LONG_KEYS = (0.1, *inputs.CORRELATIONS)
LONG_HEADS = 4
"""of a long sequence: in the order they are drawn one that fades in ten tokens, one that never decays, one
that leaks over a hundred tokens, and one that keeps its state for thousands"""
RUNS = (0, 4, 8, 12, 16, 20, 24, 32, 48)
KEYS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
SUBSTITUTION, MXR = ("forward-substitution",), ("mxr",)
FOLLOWED: dict[Format, tuple[tuple[Any, ...], ...]] = {
    Format("fp32"): (MXR, (NEUMANN, 3, 8, True)),
    Format("fp16"): (
        SUBSTITUTION,
        MXR,
        *((NEUMANN, n, s, True) for n, s in ((3, 4), (3, 8), (4, 8), (4, 12), (4, 16))),
    ),
    Format("bf16"): (SUBSTITUTION, MXR, (NEUMANN, 3, 8, True), (NEUMANN, 4, 12, True)),
    INT16[0]: (SUBSTITUTION, MXR, (NEUMANN, 3, 8, True), (NEUMANN, 4, 12, True)),
    INT8[1]: (("mxr:textbook",),),
}
"""over long sequences, by format: algorithm, and N, S and mask where it has them"""
REMEDIES: tuple[tuple[Any, ...], ...] = (
    ("doubling",),
    *(("doubling", None, None, None, block) for block in (64, 32, 16)),
    ("doubling:diagonal-first",),
    ("mxr:textbook",),
    ("block-recursion",),
    *((NEUMANN, n, s, True) for n, s in ((3, 8), (3, 12), (4, 12), (5, 8))),
)
"""against a range that few bits do not have: algorithm, and N, S, mask and block where it has them"""
CLAIMED = tuple(range(8, 13))
"""S that the paper uses in int8"""
MACHINE = "ascend-910b2"
"""whose core groups and buffers the kernels are built for; values do not depend on it"""

BOUND = 5e-3
"""RMSE over RMS of o that FLA's tests allow at most"""
DRAWN = tuple(f"keys {correlation:g}" for correlation in inputs.CORRELATIONS)
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
    scaling: str | None = None
    scaled_for: float | None = None

    @property
    def format(self) -> Format:
        return Format(self.dtype, self.scaling, self.scaled_for)

    def kernel(self, matrices: int) -> Kernel:
        options = Options.parse(
            algorithm=self.algorithm.partition(":")[0], variant=self.algorithm.partition(":")[2] or None,
            order=self.order, steps=self.steps, mask=self.mask, block=self.block,
            scaling=self.scaling, scaled_for=self.scaled_for,
        )  # fmt: skip
        problem = Problem(chunk=self.chunk, matrices=matrices, dtype=self.dtype)
        return ENTRY.build(problem, options, _target())


def points() -> list[Point]:
    """The whole study, the quick parts first."""
    quick = (*paper(), *by_keys(), *by_run(), *ranges(), *remedies(), *scales(), *inverses())
    return [*quick, *grid(), *long()]


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
    for form in (Format("fp64"), Format("fp16"), *INT16[:2], *INT8[:2]):
        for order in ORDERS:
            for mask in (True, False):
                for name in names:
                    yield Point("range", chunk=64, order=order, steps=8, mask=mask, inputs=name,
                                **form._asdict())  # fmt: skip
    for name in names:
        for mask in (True, False):
            yield Point("range", "fp64", 128, order=3, steps=8, mask=mask, block=128, inputs=name)


def inverses() -> Iterator[Point]:
    for chunk in CHUNKS:
        for dtype in DTYPES:
            for algorithm in EXACT:
                yield Point("inverse", dtype, chunk, algorithm)


def remedies() -> Iterator[Point]:
    for chunk in (64, 128):
        for form in (Format("fp16"), *INT16, *INT8):
            for method in REMEDIES:
                point = Point("remedy", form.dtype, chunk, *method, scaling=form.scaling,
                              scaled_for=form.scaled_for)  # fmt: skip
                if not (point.algorithm == "doubling" and point.block == chunk):
                    yield point


def scales() -> Iterator[Point]:
    """Scales for a hard chunk; the others are in the grid."""
    for form in (INT16[2], INT8[2]):
        for order in (3, 4):
            for steps in CLAIMED:
                yield Point("scales", chunk=64, order=order, steps=steps, mask=True, **form._asdict())


def grid() -> Iterator[Point]:
    """All S of one N together: they share products. S = 16 at the FULL chunk only."""
    for chunk in CHUNKS:
        for form in FORMATS:
            for order in ORDERS:
                for mask in (True, False):
                    for steps in STEPS if chunk == FULL else STEPS[1:]:
                        yield Point("grid", chunk=chunk, order=order, steps=steps, mask=mask,
                                    **form._asdict())  # fmt: skip


def needed(point: Point, known: dict[Point, Figures]) -> bool:
    """Whether a table asks for it. At other chunks than FULL that is the smallest S that suffices: below one
    that does not, there is none. S = 8, the paper's, is always there."""
    if point.part != "grid" or point.chunk == FULL or point.steps in (8, MOST):
        return True
    more = known.get(replace(point, steps=(point.steps or 0) + 1), {})
    return any(more[name]["worst_output"] <= allowed(known, point, name) for name in DRAWN if name in more)


def allowed(known: dict[Point, Figures], point: Point, name: str) -> float:
    """The error of o, in the worst head, that is small enough: BOUND, or, where storing L in the dtype at one
    scale costs more than half of that already, twice what forward substitution comes to in it."""
    exact = known.get(Point("inverse", point.dtype, point.chunk, EXACT[0]), {}).get(name)
    return max(BOUND, 2 * exact["worst_output"]) if exact else BOUND


def long() -> Iterator[Point]:
    for tokens in LENGTHS:
        for keys in LONG_KEYS:
            for form, methods in FOLLOWED.items():
                for method in methods:
                    yield Point("long", form.dtype, 64, *method, keys=keys, tokens=tokens,
                                scaling=form.scaling, scaled_for=form.scaled_for)  # fmt: skip


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
    execution = invert(point.kernel(len(L)), L, stack.memo(point.format.name))
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
