"""Depthwise causal convolution over tokens, y_t = f(sum_j w_j x_{t - width + 1 + j}); vector cores only.

x and y [batch, seq_len, n], w [width, n]; before the first token of a sequence x is zero. f is silu, as in
the layers of gated delta nets (Qwen3-Next, Qwen3.5), or nothing (`plain`). `step` goes on by one token, as
decoding does: x is [batch, 1, n], the width - 1 inputs before it stand in `state` [batch, width - 1, n],
and `new_state` is what the next token needs.

A product and a sum for each tap, on windows of one tile that are a row apart; weights are read anew for every
row. Tokens and channels are both cut (algorithms.stripes).
"""

from __future__ import annotations

from functools import partial
from typing import Any

from algorithms.bands import vector_cores
from algorithms.stripes import LINE_BYTES, Stripes, stripes
from algorithms.tiles import Place
from algorithms.vector_work import Loaded, Stored, VectorWork, algorithm, silu
from npusim.builder import (
    Index,
    InputError,
    Kernel,
    Options,
    Problem,
    Shapes,
    Target,
    Unsupported,
    View,
    bytes_of,
)


def build(name: str, problem: Problem, options: Options, target: Target) -> Kernel:
    """The tile graph of whole sequences."""
    work = VectorWork("causal-conv1d", name, problem, options, target)
    k, shape, width = work.k, (problem.batch, problem.seq_len, problem.n), problem.width
    halo, sums = width - 1, 1 if work.converts else work.slots
    element = work.loaded_bytes + (sums + 1) * work.work_bytes + work.stored_bytes
    cut = _cut(work, target, shape, halo, element, width * work.loaded_bytes)
    k.settings.update(tile_m=cut.rows, tile_n=cut.cols, parts=cut.parts)
    x, y = k.input("x", shape, work.dtype), k.output("y", shape, work.dtype)
    w = k.input("w", (width, problem.n), work.dtype)
    X, W = Loaded(work, "x", (cut.rows + halo, cut.cols)), Loaded(work, "w", (width, cut.cols))
    Y, total = Stored(work, "y", (cut.rows, cut.cols)), work.tile("sum", (cut.rows, cut.cols), sums)
    product = work.tile("product", (cut.rows, cut.cols))

    def begin(col: Index | int, cols: int) -> None:
        W.load(w.at(col=col, cols=cols))

    def tile(sequence: Index, at: Place, follows: bool) -> None:
        columns: dict[str, Any] = {"col": at.col, "cols": at.cols}
        if follows:
            X.load(x.at(sequence, row=at.row - halo, rows=at.rows + halo, **columns))
        else:
            X.load(x.at(sequence, row=at.row, rows=at.rows, **columns), row=halo)
            if halo:
                k.vector("fill", X.wide.view(rows=halo, cols=at.cols), imm=0.0, label="zeros before")
        parts = [T.view(rows=at.rows, cols=at.cols) for T in (total, product)]
        taps(parts[0], parts[1], at)
        if name == "silu":
            silu(k, *parts)
        Y.store(y.at(sequence, **vars(at)), parts[0])

    def taps(out: View, part: View, at: Place) -> None:
        """The sum over taps: windows of the tile, a row apart."""
        for tap in range(width):
            window = X.wide.view(row=tap, rows=at.rows, cols=at.cols)
            weights = W.wide.view(row=tap, rows=1, cols=at.cols)
            k.vector("scale_cols", part if tap else out, window, weights, label="tap")
            if tap:
                k.vector("add", out, out, part, label="sum of taps")

    with k.phase("convolve", over="vector"):
        cut.sweep(k, begin, tile)
    return k.finish()


def build_step(problem: Problem, options: Options, target: Target) -> Kernel:
    """The tile graph of one more token of each sequence."""
    width, halo = problem.width, problem.width - 1
    if problem.seq_len != 1:
        raise Unsupported(f"--seq-len: step takes one token of each sequence, not {problem.seq_len}; give 1")
    if not halo:
        raise Unsupported("--width: step keeps the last width - 1 inputs, of which there are none for 1")
    work = VectorWork("causal-conv1d", "step", problem, options, target)
    k, batch, n = work.k, problem.batch, problem.n
    sums = 1 if work.converts else work.slots
    element = width * (2 * work.loaded_bytes + work.work_bytes)
    element += (sums + 1) * work.work_bytes + work.stored_bytes
    cut = _cut(work, target, (1, batch, n), 0, 0.0, element)
    k.settings.update(tile_n=cut.cols, parts=cut.parts)
    x, y = k.input("x", (batch, 1, n), work.dtype), k.output("y", (batch, 1, n), work.dtype)
    state = k.input("state", (batch, halo, n), work.dtype)
    new_state = k.output("new_state", (batch, halo, n), work.dtype)
    w = k.input("w", (width, n), work.dtype)
    X, W = (Loaded(work, name, (width, cut.cols)) for name in ("x", "w"))
    Y, total = Stored(work, "y", (1, cut.cols)), work.tile("sum", (1, cut.cols), sums)
    products, scratch = work.tile("products", (width, cut.cols)), work.tile("scratch", (1, cut.cols))

    def begin(col: Index | int, cols: int) -> None:
        W.load(w.at(col=col, cols=cols))

    def tile(_: Index, at: Place, __: bool) -> None:
        """State and token make one window of `width` rows, which is the next state but for its first row."""
        columns: dict[str, Any] = {"col": at.col, "cols": at.cols}
        window = X.stored.view(cols=at.cols)
        k.load(X.stored.view(rows=halo, cols=at.cols), state.at(at.row, **columns), "load state", fresh=True)
        k.load(X.stored.view(row=halo, rows=1, cols=at.cols), x.at(at.row, **columns), "load x")
        wide = X.widen(0, width, at.cols)
        out, free, all_taps = (T.view(cols=at.cols) for T in (total, scratch, products))
        k.vector("mul", all_taps, wide, W.wide.view(cols=at.cols), label="taps")
        k.vector("col_sum", out, all_taps, label="sum of taps")
        silu(k, out, free)
        Y.store(y.at(at.row, **columns), out)
        k.store(
            new_state.at(at.row, **columns), window.tile.view(row=1, rows=halo, cols=at.cols), "store state"
        )

    with k.phase("convolve", over="vector"):
        cut.sweep(k, begin, tile)
    return k.finish()


def _cut(
    work: VectorWork, target: Target, size: tuple[int, int, int], halo: int, element: float, column: float
) -> Stripes:
    """Stripes and parts, for a kernel that takes `element` bytes of UB for each element of a tile with its
    halo, and `column` for each of its columns."""
    room = target.level_bytes["UB"]

    def fitting(cols: int) -> int:
        rest = room - cols * column
        if element:
            return int(rest // (cols * element))
        return 1 if rest >= 0 else 0

    line = int(LINE_BYTES / bytes_of(work.dtype))
    found = stripes(size, vector_cores(target), line, halo, fitting)
    if found is None:
        raise Unsupported(f"--width: {halo + 1} rows of {line} channels do not fit into UB; lower --width")
    return found


def infer(shapes: Shapes) -> dict[str, int]:
    """The sizes from the shapes of x [batch, seq_len, n] and w [width, n]. InputError for other axes."""
    if not {"x", "w"} <= shapes.keys():
        return {}
    for name, axes, form in (("x", 3, "[batch, seq_len, n]"), ("w", 2, "[width, n]")):
        if len(shapes[name]) != axes:
            raise InputError(f"array {name}: shape {shapes[name]}: {axes} axes are needed, {form}")
    batch, seq_len, n = shapes["x"]
    return {"batch": batch, "seq_len": seq_len, "n": n, "width": shapes["w"][0]}


ALGORITHMS = {
    name: algorithm(name, meaning, "arXiv 2312.00752; Tri Dao's causal-conv1d", make)
    for name, meaning, make in (
        ("silu", "whole sequences, then silu", partial(build, "silu")),
        ("plain", "whole sequences", partial(build, "plain")),
        ("step", "decoding: one more token of each sequence and its state, then silu", build_step),
    )
}
