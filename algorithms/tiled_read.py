"""Reads of x [m, n], row-major, tile by tile into one buffer of UB or L1, and nothing else.

As cannmirror/asc-devkit, examples/01_simd_cpp_api/05_best_practices, 04_memory_access/data_copy: the rows are
split evenly over the cores in contiguous bands; within a band row tiles are outer, column tiles inner. All
loads of a core fill one buffer that nobody reads, so only the queue of the unit that loads orders them. UB is
filled by every vector core, L1 by the cube core of each group.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from algorithms.tiles import LARGEST, Edge, edges
from npusim.builder import (
    Algorithm,
    InputError,
    Item,
    Kernel,
    KernelBuilder,
    Options,
    Problem,
    Target,
    operand_scale,
)

EDGE = 64
"""rows and columns of a tile, unless asked otherwise"""
Level = Literal["UB", "L1"]


def build(level: Level, problem: Problem, options: Options, target: Target) -> Kernel:
    """The tile graph: loads into a tile at `level`, and no output."""
    algorithm = ALGORITHMS[level]
    rows = _edge("m", options.tile_m, problem.m)
    cols = _edge("n", options.tile_n, problem.n)
    name, variant = f"copy-gm-{level.lower()}", algorithm.variant(problem, options, target)
    k = KernelBuilder(name, target, problem.dtype, algorithm.name, variant)
    k.settings.update(tile_m=rows, tile_n=cols)
    scale = operand_scale(problem.dtype, LARGEST)
    x = k.input("x", (problem.m, problem.n), problem.dtype, scale=scale)
    X = k.tile("X", level, (rows, cols), problem.dtype, scale=scale)

    def block(down: Edge, across: Edge) -> None:
        """All tiles of one size: whole ones, or those at an edge of x."""
        part = X.view(rows=down.size, cols=across.size)

        def tile(items: list[Item]) -> None:
            ((i, j),) = items
            place = x.at(row=down.at(i), rows=down.size, col=across.at(j), cols=across.size)
            k.load(part, place, "load x", fresh=True)

        k.items([("row", down.count), ("column", across.count)], tile, deal="contiguous")

    with k.phase("read", over="vector" if level == "UB" else "group"):
        for down in edges(problem.m, rows):
            for across in edges(problem.n, cols):
                block(down, across)
    return k.finish()


def _edge(name: str, given: int | None, limit: int) -> int:
    """The edge of a tile along an axis. InputError for one beyond the matrix."""
    if given is not None and given > limit:
        raise InputError(f"--tile-{name}: {given} is more than --{name} {limit}; use at most that")
    return given or min(EDGE, limit)


def _algorithm(level: Level, cores: str) -> Algorithm:
    return Algorithm(
        name="tiled",
        meaning=f"bands of rows, tile after tile into one buffer of {level}; {cores} cores only",
        source="cannmirror/asc-devkit, 05_best_practices/04_memory_access/data_copy",
        build=partial(build, level),
        variants={"plain": "row tiles outer, column tiles inner, each tile read once"},
        parameters=frozenset({"tile_m", "tile_n"}),
    )


ALGORITHMS: dict[Level, Algorithm] = {"UB": _algorithm("UB", "vector"), "L1": _algorithm("L1", "cube")}
