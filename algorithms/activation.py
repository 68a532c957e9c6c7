"""Elementwise activations z = f(x), or z = f(x) y, all [m, n] row-major; vector cores only.

silu-mul is the product of a SwiGLU feed-forward layer (arXiv 2002.05202), sigmoid-mul an attention's output
gate. Tile after tile as algorithms.add: x, and y, are loaded, widened, worked on in place, rounded, stored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from algorithms.bands import streamed
from algorithms.tiles import Place
from algorithms.vector_work import Loaded, Stored, VectorWork, algorithm, sigmoid, silu, softplus
from npusim.builder import Algorithm, Kernel, KernelBuilder, Options, Problem, Target, View


@dataclass(frozen=True)
class Activation:
    """f, in place: `apply(k, x, other)`; `other` is a tile of ones, or one to work in. `gated`: times y."""

    meaning: str
    apply: Callable[[KernelBuilder, View, View], None]
    ones: bool = False
    gated: bool = False


ACTIVATIONS = {
    "silu": Activation("z = x sigmoid(x)", silu),
    "sigmoid": Activation("z = 1 / (1 + exp(-x))", sigmoid, ones=True),
    "softplus": Activation("z = ln(1 + exp(x))", softplus),
    "silu-mul": Activation("z = silu(x) y, as in SwiGLU", silu, gated=True),
    "sigmoid-mul": Activation("z = sigmoid(x) y, an output gate", sigmoid, ones=True, gated=True),
}


def build(name: str, problem: Problem, options: Options, target: Target) -> Kernel:
    """The tile graph of activation `name`."""
    what = ACTIVATIONS[name]
    work = VectorWork("activation", name, problem, options, target)
    k, shape = work.k, (problem.m, problem.n)
    loads = 2 if what.gated else 1
    cut = streamed(problem, target, loads * work.loaded_bytes + work.stored_bytes + work.work_bytes)
    k.settings.update(tile_m=cut.rows, tile_n=cut.cols)
    edges = (cut.rows, cut.cols)
    x, z = k.input("x", shape, work.dtype), k.output("z", shape, work.dtype)
    X, Z = Loaded(work, "x", edges), Stored(work, "z", edges)
    y = (k.input("y", shape, work.dtype), Loaded(work, "y", edges)) if what.gated else None

    with k.phase(name, over="vector"):
        other = work.ones(edges) if what.ones else work.tile("scratch", edges)

        def tile(at: Place) -> None:
            value = X.load(x.at(**vars(at)))
            factor = y[1].load(y[0].at(**vars(at))) if y else None
            what.apply(k, value, other.view(rows=at.rows, cols=at.cols))
            if factor:
                k.vector("mul", value, value, factor, label="times y")
            Z.store(z.at(**vars(at)), value)

        cut.sweep(k, tile)
    return k.finish()


def _algorithm(name: str, what: Activation) -> Algorithm:
    return algorithm(
        name,
        f"{what.meaning}; bands of rows, tile after tile through UB",
        "arXiv 2002.05202" if name == "silu-mul" else "textbook",
        partial(build, name),
    )


ALGORITHMS = {name: _algorithm(name, what) for name, what in ACTIVATIONS.items()}
