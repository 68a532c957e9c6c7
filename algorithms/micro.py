"""Micro-benchmarks: one short loop each, whose time per trip follows from one number of a profile.

Every core group (or vector core) runs --m trips of the same loop. The difference between two numbers of trips
is free of launch and of what is loaded before the loop; docs/calibration.md says which kernel to measure, and
how the number follows. Nothing is computed, so there is no output. All sizes are fixed: a fractal of 16 x 16,
a repeat of 256 bytes, a tile of 16 KiB.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from algorithms.tiles import FRACTAL
from npusim.builder import (
    Algorithm,
    Index,
    Kernel,
    KernelBuilder,
    Options,
    Problem,
    Target,
    Tile,
    Unsupported,
    accumulator_of,
    bytes_of,
)

REPEAT_BYTES = 256
ROWS = 128
HEADS = 16
"""strided rows are at least as far apart as those of so many heads"""
READS = 8
Emit = Callable[[KernelBuilder, str, int], None]
"""writes the phase of a benchmark: of a variant, with so many trips"""


def build(name: str, problem: Problem, options: Options, target: Target) -> Kernel:
    """The tile graph of a benchmark, without an output."""
    algorithm, (emit, hops) = ALGORITHMS[name], BENCHMARKS[name]
    variant = algorithm.variant(problem, options, target)
    for start, end in hops:
        if (start, end) not in target.paths:
            raise Unsupported(f"micro {name}: this machine has no path from {start} to {end}")
        if target.same_memory(start, end):
            raise Unsupported(f"micro {name}: on this machine {start} and {end} are one memory")
    k = KernelBuilder("micro", target, problem.dtype, name, variant)
    k.settings.update(trips=problem.m)
    emit(k, variant, problem.m)
    return k.finish()


def _row(k: KernelBuilder) -> int:
    """Elements of 256 bytes."""
    return int(REPEAT_BYTES / bytes_of(k.dtype))


# --- cube core --------------------------------------------------------------------------------------


def _loaded(k: KernelBuilder, name: str, rows: int, cols: int) -> Tile:
    """A tile in L1, loaded once."""
    tile = k.tile(name, "L1", (rows, cols), k.dtype)
    k.load(tile, k.input(name, (rows, cols), k.dtype).at(), label=f"load {name}")
    return tile


def _operand(k: KernelBuilder, level: str, name: str, rows: int, cols: int) -> Tile:
    """A tile in L0A or L0B, loaded and copied once."""
    tile = k.tile(f"{name} at {level}", level, (rows, cols), k.dtype)
    k.move(tile, _loaded(k, name, rows, cols), label=f"copy {name}")
    return tile


def _product(k: KernelBuilder, rows: int, cols: int) -> Tile:
    """An accumulator [rows, cols], computed once."""
    left, right = _operand(k, "L0A", "a", rows, FRACTAL), _operand(k, "L0B", "b", FRACTAL, cols)
    out = k.tile("c", "L0C", (rows, cols), accumulator_of(k.dtype))
    k.matmul(out, left, right, label="product")
    return out


def _flags(k: KernelBuilder, variant: str, trips: int) -> None:
    """One slot in L0A, which is filled again once the cube has let go of it: two flags a trip."""

    def core(_: Index) -> None:
        source, left = _loaded(k, "a", FRACTAL, FRACTAL), k.tile("left", "L0A", (FRACTAL, FRACTAL), k.dtype)
        use = partial(k.wait, left, on="aic_mac") if variant == "bare" else _multiplied(k, left)

        def trip(_: Index) -> None:
            k.move(left, source, label="copy")
            use()

        k.loop(trips, trip)

    _on_groups(k, core)


def _multiplied(k: KernelBuilder, left: Tile) -> Callable[[], object]:
    """What multiplies `left` by a fractal that stays."""
    right = _operand(k, "L0B", "b", FRACTAL, FRACTAL)
    out = k.tile("c", "L0C", (FRACTAL, FRACTAL), accumulator_of(k.dtype))
    return partial(k.matmul, out, left, right, label="product")


def _fractal_copy(k: KernelBuilder, variant: str, trips: int) -> None:
    def core(_: Index) -> None:
        source = _loaded(k, "a", FRACTAL, FRACTAL)
        tile = k.tile("copied", variant.upper(), (FRACTAL, FRACTAL), k.dtype)
        _repeated_move(k, trips, tile, source)

    _on_groups(k, core)


def _fractal_exit(k: KernelBuilder, variant: str, trips: int) -> None:
    edge = FRACTAL if variant == "fractal" else ROWS

    def core(_: Index) -> None:
        out, tile = _product(k, edge, edge), k.tile("left L0C", "L1", (edge, edge), k.dtype)
        _repeated_move(k, trips, tile, out)

    _on_groups(k, core)


def _repeated_move(k: KernelBuilder, trips: int, to: Tile, source: Tile) -> None:
    """Moves into one tile that nobody reads, so that only the order of the unit holds them up."""

    def trip(_: Index) -> None:
        k.move(to, source, label="move")

    k.loop(trips, trip)


def _store_rows(k: KernelBuilder, variant: str, trips: int) -> None:
    """Every trip stores to a place of its own, as kernels do; strided: side by side, each core a head."""
    cols, groups = _row(k), k.target.groups
    heads = max(HEADS, groups)
    shape = (trips, groups, ROWS, cols) if variant == "dense" else (trips, ROWS, heads * cols)
    stored = k.workspace("stored", shape, k.dtype)

    def core(group: Index) -> None:
        out = _product(k, ROWS, cols)

        def trip(i: Index) -> None:
            dense = variant == "dense"
            k.store(stored.at(i, group) if dense else stored.at(i, col=group * cols, cols=cols), out)

        k.loop(trips, trip)

    _on_groups(k, core)


# --- cube and vector cores --------------------------------------------------------------------------


def _cross_core(k: KernelBuilder, variant: str, trips: int) -> None:
    if not k.target.vector_cores:
        raise Unsupported("micro cross-core-flags: cube and vector unit of this machine share one core")
    _on_groups(k, partial(_bare, k, trips) if variant == "bare" else partial(_with_tile, k, trips))


def _bare(k: KernelBuilder, trips: int, _: Index) -> None:
    """Each side sets a flag by one scalar instruction once it has seen the other's."""
    ping, pong = (k.tile(name, "GM", (1, 1), "int8") for name in ("ping", "pong"))

    def trip(_: Index) -> None:
        k.scalar("write", ping, on="cube", label="ping")
        k.wait(ping, on="first")
        k.scalar("write", pong, on="first", label="pong")
        k.wait(pong, on="cube")

    k.loop(trips, trip)


def _with_tile(k: KernelBuilder, trips: int, _: Index) -> None:
    """16 KiB leave L0C, pass through UB and come back to L1; for the next ones FIXPIPE waits for them."""
    rows, cols = ROWS // 2, _row(k)
    out = _product(k, rows, cols)
    there, back = (k.tile(name, "GM", (rows, cols), k.dtype) for name in ("there", "back"))
    passing = k.tile("passing", "UB", (rows, cols), k.dtype, place="first")
    home = k.tile("home", "L1", (rows, cols), k.dtype)

    def trip(_: Index) -> None:
        k.move(there, out, label="out of L0C")
        k.move(passing, there, label="into UB")
        k.move(back, passing, label="out of UB")
        k.move(home, back, label="into L1")
        k.wait(home, on="aic_fixpipe")

    k.loop(trips, trip)


# --- vector cores -----------------------------------------------------------------------------------


def _repeat(k: KernelBuilder) -> Tile:
    """One repeat in UB."""
    x = k.tile("x", "UB", (1, _row(k)), k.dtype)
    k.vector("fill", x, imm=1.0, label="start")
    return x


def _vector_scalar(k: KernelBuilder, variant: str, trips: int) -> None:
    """The scalar unit reads each sum, and the next addition waits until it has."""
    times = 1 if variant == "one-read" else READS

    def core(_: Index) -> None:
        x = _repeat(k)

        def trip(_: Index) -> None:
            k.vector("adds", x, x, imm=1.0, label="add")
            k.scalar("read", x, on="rows", times=times, label="read")

        k.loop(trips, trip)

    _on_vector_cores(k, core)


def _dependent_add(k: KernelBuilder, variant: str, trips: int) -> None:
    def core(_: Index) -> None:
        x = _repeat(k)

        def trip(_: Index) -> None:
            k.vector("add", x, x, x, label="add")
            if variant == "barrier":
                k.barrier("aiv_vec", on="rows")

        k.loop(trips, trip)

    _on_vector_cores(k, core)


def _on_groups(k: KernelBuilder, body: Callable[[Index], None]) -> None:
    with k.phase("trips"):
        k.cores(body)


def _on_vector_cores(k: KernelBuilder, body: Callable[[Index], None]) -> None:
    with k.phase("trips", over="vector"):
        k.cores(body)


TO_L0C = (("GM", "L1"), ("L1", "L0A"), ("L1", "L0B"))
BENCHMARKS: dict[str, tuple[Emit, tuple[tuple[str, str], ...]]] = {
    "cross-core-flags": (_cross_core, ()),
    "vector-scalar": (_vector_scalar, ()),
    "flags": (_flags, TO_L0C),
    "fractal-copy": (_fractal_copy, TO_L0C),
    "fractal-exit": (_fractal_exit, (*TO_L0C, ("L0C", "L1"))),
    "store-rows": (_store_rows, (*TO_L0C, ("L0C", "GM"))),
    "dependent-add": (_dependent_add, ()),
}
"""by name: what writes the phase, and the paths without which there is nothing to measure"""


def _algorithm(name: str, meaning: str, **variants: str) -> Algorithm:
    return Algorithm(
        name=name,
        meaning=f"{meaning}; --m trips a core",
        source="docs/calibration.md",
        build=partial(build, name),
        variants={variant.replace("_", "-"): text for variant, text in variants.items()},
    )


ALGORITHMS = {
    one.name: one
    for one in (
        _algorithm(
            "cross-core-flags",
            "ping-pong of cube and vector core: core.flags.cross_core_cycles",
            bare="flags alone",
            tile="a tile of 16 KiB goes along, through global memory",
        ),
        _algorithm(
            "vector-scalar",
            "vector result read by the scalar unit, and back: core.scalar.ub_read_cycles",
            one_read="one read a trip",
            eight_reads="eight reads a trip",
        ),
        _algorithm(
            "flags",
            "one slot between L1->L0A copies and the cube: core.flags.default_cycles",
            bare="the cube only waits",
            product="a product of one fractal each: core.cube.startup_cycles",
        ),
        _algorithm(
            "fractal-copy",
            "L1->L0 copies of one fractal, back to back: paths.l1_l0a.min_cycles, l1_l0b",
            l0a="into L0A",
            l0b="into L0B",
        ),
        _algorithm(
            "fractal-exit",
            "L0C->L1 exits, back to back: paths.l0c_l1.startup_cycles, bytes_per_cycle",
            fractal="one fractal",
            tile="128 x 128",
        ),
        _algorithm(
            "store-rows",
            "L0C->GM stores of 128 rows of 256 bytes: paths.l0c_gm.partial_line_cycles",
            dense="rows follow each other: the rate",
            strided="rows lie apart, those of all cores side by side",
        ),
        _algorithm(
            "dependent-add",
            "additions of one repeat: core.barriers.unit_cycles",
            barrier="a barrier after each",
            plain="back to back: core.vector.functions.add.cycles_per_repeat",
        ),
    )
}
