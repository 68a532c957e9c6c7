"""Products, moves, steps and waits per tile, against the published counts of each algorithm.

The counts are those of arXiv 2606.06034 and 2605.21325 and of the measured kernels' code; C is the chunk and
r = log2(C / 16). A product with the identity or its negative does the work of an addition or a copy, and does
not count as useful.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from test_inverses import CHUNKS, ENTRY, NEUMANN, build, fractal_products, per_matrix, profile

from npusim.builder import Options, Problem, Target
from npusim.graph import Items, Kernel, Operation, View, operations
from npusim.instructions import HandOver, Instruction
from npusim.ops import VECTOR, OpKind

IDENTITIES = {"I", "-I", "2I", "-I of 64", "-I of 128"}


def products(ops: list[Operation], useful: bool = True) -> list[Operation]:
    """The products; the useful ones are those of which neither operand is an identity, by what was copied to
    L0 last."""
    found, held = [], {}
    for op in ops:
        if op.kind is OpKind.move and isinstance(op.dst, View) and op.dst.tile.level in ("L0A", "L0B"):
            held[op.dst.tile] = op.srcs[0].tile.name
        elif op.kind is OpKind.matmul:
            names = {held[src.tile] for src in op.srcs if isinstance(src, View)}
            if not (useful and names & IDENTITIES):
                found.append(op)
    return found


def instructions(ops: list[Operation]) -> Iterator[Instruction | HandOver]:
    """What the vector operations expand into, on one vector core."""
    for op in ops:
        if op.kind is OpKind.vector and isinstance(op.dst, View):
            function = VECTOR[op.function]
            inner = op.srcs[-1].shape[0] if op.srcs else op.dst.rows
            if function.expand:
                yield from function.expand(op.dst.rows, op.dst.cols, inner)
            else:
                yield Instruction(op.function, op.dst.rows, op.dst.cols)


def rounds(chunk: int) -> int:
    """r = log2(C / 16)."""
    return int(math.log2(chunk // 16))


def way(op: Operation) -> str:
    ends = [end.tile.level if isinstance(end, View) else "GM" for end in (op.srcs[0], op.dst)]
    return "->".join(ends)


def masked(op: Operation) -> bool:
    return op.kind is OpKind.move and any(mask is not None for mask in op.fractals)


# --- products of the clean forms -----------------------------------------------------------------------

USEFUL = {
    "doubling": lambda chunk: 2 * int(math.log2(chunk)) - 2,
    "block-recursion": lambda chunk: 2 * int(math.log2(chunk)),
    "mxr": lambda chunk: 6 + 2 * rounds(chunk),
    "newton-schulz": lambda chunk: 2 * int(math.log2(chunk)),
}


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("algorithm", USEFUL)
def test_the_clean_forms_have_the_products_of_the_literature(algorithm, chunk):
    ops = per_matrix(build(algorithm, chunk, 1, "fp16", variant="textbook"))
    # the first level of the recursion, X = I + A1, is counted there though its products are with I
    trivial = 2 if algorithm == "block-recursion" else 0
    assert len(products(ops)) + trivial == USEFUL[algorithm](chunk)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_a_sum_costs_one_product_with_the_identity_and_no_more(chunk):
    """mxr: -M, I and + I; newton-schulz one an iteration and four to begin; doubling two."""
    for algorithm, most in (("mxr", 3), ("newton-schulz", 4 + int(math.log2(chunk))), ("doubling", 2)):
        ops = per_matrix(build(algorithm, chunk, 1, "fp16", variant="textbook"))
        assert len(products(ops, useful=False)) - len(products(ops)) == most


@pytest.mark.parametrize(("chunk", "count"), [(32, 2), (64, 16), (128, 112)])
def test_blocked_substitution_multiplies_as_many_fractals_as_fla(chunk, count):
    """sum over sub-diagonals d of blocks: (m - d)(d + 1) products of 16 x 16, m = C / 16 blocks."""
    m = chunk // 16
    assert count == sum((m - d) * (d + 1) for d in range(1, m))
    ops = per_matrix(build("blocked-substitution", chunk, 1, "fp16", variant="textbook"))
    assert sum(fractal_products(op) for op in ops) == count
    assert len(products(ops)) == 2 * (m - 1)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_of_lower_triangles_just_the_fractals_that_meet_are_multiplied(chunk):
    """Fractals (i, k) and (k, j) for i >= k >= j: m(m + 1)(m + 2) / 6 of m^3."""
    m = chunk // 16
    ops = products(per_matrix(build("newton-schulz", chunk, 1, "fp16", variant="textbook")))
    assert {fractal_products(op) for op in ops} == {m * (m + 1) * (m + 2) // 6}


@pytest.mark.parametrize("chunk", CHUNKS)
def test_doubling_multiplies_the_fractals_that_a_power_of_a_full_triangle_fills(chunk):
    """Held against the powers themselves: L of ones, whose power p fills all sub-diagonals from p on."""
    ones = np.tril(np.ones((chunk, chunk)), -1)
    triangle = np.tri(chunk // 16)

    def filled(power: int) -> np.ndarray:
        found = np.linalg.matrix_power(ones, power).reshape(chunk // 16, 16, chunk // 16, 16)
        return (found != 0).any(axis=(1, 3)).astype(int)

    want, power = [int((triangle @ triangle).sum())], 2
    while power < chunk:
        want.append(int((triangle @ filled(power)).sum()))
        if 2 * power < chunk:
            want.append(int((filled(power) @ filled(power)).sum()))
        power *= 2
    ops = products(per_matrix(build("doubling", chunk, 1, "fp16", variant="textbook")))
    assert [fractal_products(op) for op in ops] == want


def test_the_blocks_of_the_recursion_are_the_fractals_that_are_multiplied():
    """Blocks of s = 1 .. 8 lie on the diagonal: m products. From 16 up n / 2s pairs: a lower triangle of s
    times a full block, which is times a lower triangle again."""
    for algorithm, small in (("mxr", 6), ("block-recursion", 6)):
        ops = products(per_matrix(build(algorithm, 128, 1, "fp16", variant="textbook")))
        counts = [fractal_products(op) for op in ops]
        assert counts[:small] == [8] * small
        pairs = [(128 // 2 // s, s // 16) for s in (16, 32, 64)]
        assert counts[small:] == [p * b**3 for p, b in pairs for _ in "ab"]


def test_operands_wait_in_double_buffers_where_they_fit():
    for chunk, dtype, slots in ((64, "fp16", 2), (128, "fp16", 2), (128, "fp32", 1)):
        kernel = build("doubling", chunk, 4, dtype, variant="textbook")
        assert {t.slots for t in kernel.tiles if t.level in ("L0A", "L0B")} == {slots}


@pytest.mark.parametrize("chunk", [64, 128])
def test_structure_lets_about_half_of_the_fractal_products_be_left_out(chunk):
    whole = (chunk // 16) ** 3
    for algorithm in ("doubling", "newton-schulz", "masked-neumann"):
        useful = products(
            per_matrix(build(algorithm, chunk, 1, "fp16", variant="textbook", **unsplit(algorithm, chunk)))
        )
        assert sum(fractal_products(op) for op in useful) < 0.5 * whole * len(useful)


def unsplit(algorithm: str, chunk: int) -> dict[str, int]:
    return {"block": chunk} if algorithm == "masked-neumann" else {}


# --- substitution --------------------------------------------------------------------------------------


def test_forward_substitution_takes_a_step_per_row():
    ops = per_matrix(build("forward-substitution", 64, 1, "fp16"))
    steps = [op for op in ops if op.name == "row step"]
    assert [op.srcs[0].cols for op in steps] == list(range(1, 64)), "triangular: only the rows above"


@pytest.mark.parametrize("chunk", CHUNKS)
def test_a_column_sweep_takes_an_axpy_and_a_scalar_read_for_every_element_below_the_diagonal(chunk):
    found = list(instructions(per_matrix(build("column-sweep", chunk, 1, "fp16", variant="textbook"))))
    axpys = sum(step.count for step in found if isinstance(step, Instruction) and step.function == "axpy")
    reads = sum(step.reads * step.count for step in found if isinstance(step, HandOver))
    assert axpys == reads == chunk * (chunk - 1) // 2


def test_the_measured_column_sweep_takes_all_steps_of_all_columns():
    """tcuscan at 64: 4096 elements read and written and read again, 64 ones written, 4032 axpys."""
    found = list(instructions(per_matrix(build("column-sweep", 64, 1, "fp16", variant="tcuscan"))))
    turns = [step for step in found if isinstance(step, HandOver)]
    axpys = [step for step in found if isinstance(step, Instruction) and step.function == "axpy"]
    assert len(axpys) == 4032
    assert all(step.rows * step.cols * 2 <= 256 for step in axpys), "one repeat each"
    assert sum(turn.alus for turn in turns) == 2 * 4096
    assert sum(turn.reads for turn in turns) == 2 * 4096
    assert sum(turn.writes for turn in turns) == 4096 + 64


def test_only_the_measured_column_sweep_clears_its_result():
    for variant, times in (("tcuscan", 1), ("textbook", 0)):
        ops = per_matrix(build("column-sweep", 64, 1, "fp16", variant=variant))
        assert sum(op.name == "clear T" for op in ops) == times


def test_vector_algorithms_deal_their_matrices_to_the_vector_cores():
    for algorithm in ("forward-substitution", "column-sweep"):
        (phase,) = build(algorithm, 32, 100, "fp16").phases
        assert phase.over == "vector"
    kernel = build("blocked-substitution", 32, 100, "fp16", variant="textbook")
    assert {tile.place for tile in kernel.tiles if tile.level == "UB"} == {"first", "second"}


# --- blocked substitution as compiled ------------------------------------------------------------------


def phases(kernel: Kernel) -> dict[str, list[Operation]]:
    """The operations of the first items of each phase."""
    return {
        phase.name: list(operations(next(n for n in phase.nodes if isinstance(n, Items)).body))
        for phase in kernel.phases
    }


def test_triton_solves_38_blocks_of_16_at_once_in_15_row_steps():
    """Two tasks a program of 1216 tokens; about 10.5 thousand repeats a task."""
    ops = phases(build("blocked-substitution", 64, 38, "fp16", variant="triton"))["solve"]
    kinds = Counter(op.name for op in ops)
    assert kinds["load L_ii"] == 2 * 38 and kinds["row step"] == 2 * 15 and kinds["store T_ii"] == 2
    tall = [op for op in ops if op.kind is OpKind.vector and op.dst.rows == 608]
    repeats = sum(step.count * math.ceil(step.rows * step.cols * 4 / 256) for step in instructions(tall))
    assert repeats / 2 == pytest.approx(10.5e3, rel=0.1)


@pytest.mark.parametrize(
    ("sizes", "shape", "full", "rest"),
    [
        ({"batch": 2, "seq_len": 8192, "heads": 3}, (2, 3), 6, 14),
        ({"cu_seqlens": (0, 4096, 16384), "heads": 3}, (1, 3), 13, 9),
        ({"matrices": 40}, (1, 1), 2, 2),
        ({"matrices": 19}, (1, 1), 1, 0),
    ],
)
def test_triton_programs_take_1216_tokens_of_one_sequence_and_head(sizes, shape, full, rest):
    """19 chunks of 64 a program, and a shorter one where a sequence ends; sequences of unequal length count
    as one."""
    problem = Problem(chunk=64, **sizes)
    options = Options(algorithm="blocked-substitution", variant="triton")
    solve = ENTRY.build(problem, options, Target.of(profile("ascend-910b2"))).phases[0]
    whole, *last = [node for node in solve.nodes if isinstance(node, Items)]
    assert whole.axes == (("sequence", shape[0]), ("head", shape[1]), ("program", full))
    assert [node.axes for node in last] == ([whole.axes[:2]] if rest else [])
    loads = [sum(op.name == "load L_ii" for op in operations(node.body)) for node in (whole, *last)]
    assert loads == [76, *([4 * rest] if rest else [])]


def test_triton_masks_every_operand_and_ends_a_program_before_the_next():
    ops = phases(build("blocked-substitution", 64, 8, "fp16", variant="triton"))["merge"]
    assert sum(op.name == "mask and convert" for op in ops) == 4 + 2 + 1
    assert ops[-1].kind is OpKind.barrier and ops[-1].on == "first:core"
    order = [op.name for op in ops if op.kind is OpKind.matmul or op.name == "back to UB"]
    assert order[:4] == ["T A of 16, 0", "T A of 16, 1", "back to UB", "back to UB"], "a level goes together"


@pytest.mark.parametrize(("chunk", "sizes"), [(32, {16: 2}), (64, {16: 4, 32: 2})])
def test_triton_merges_by_products_whose_operands_and_results_cross_memory(chunk, sizes):
    """Two crossings a product, each of which the other kind of core waits for: 12 a matrix of 64."""
    ops = phases(build("blocked-substitution", chunk, 8, "fp16", variant="triton"))["merge"]
    assert Counter(op.srcs[0].rows for op in ops if op.kind is OpKind.matmul) == sizes
    ways = Counter(way(op) for op in ops if op.kind in (OpKind.move, OpKind.load, OpKind.store))
    total = sum(sizes.values())
    assert ways["UB->GM"] == 2 * total + 4 and ways["GM->L1"] == 2 * total
    assert ways["L0C->GM"] == total


@pytest.mark.parametrize(("chunk", "sizes"), [(32, {}), (64, {32: 2}), (128, {32: 4, 64: 2})])
def test_tilelang_has_the_products_and_row_steps_of_its_kernel(chunk, sizes):
    ops = phases(build("blocked-substitution", chunk, 8, "fp16", variant="tilelang"))["inverse"]
    assert Counter(op.srcs[0].rows for op in ops if op.kind is OpKind.matmul) == sizes
    assert sum(op.name == "row step" for op in ops) == 30 * chunk // 32


@pytest.mark.parametrize(
    ("chunk", "ways", "barriers", "stores"),
    [
        (32, {}, 1, 1),
        # both blocks, the product and the result cross memory; zeros and three blocks are stored
        (64, {"UB->GM": 2, "GM->L1": 3, "L0C->GM": 2, "GM->UB": 1}, 4, 4),
        # four -A and two zeros go out with the four blocks; 12 operands come in; three halves and two
        # corners go out
        (128, {"UB->GM": 4 + 2 + 4, "GM->L1": 12, "L0C->GM": 5}, 8, 4 + 4 + 3),
    ],
)
def test_tilelang_hands_everything_over_through_memory_and_waits_for_it(chunk, ways, barriers, stores):
    ops = phases(build("blocked-substitution", chunk, 8, "fp16", variant="tilelang"))["inverse"]
    found = Counter(way(op) for op in ops if op.kind is OpKind.move and "GM" in way(op))
    assert found == ways
    assert sum(op.kind is OpKind.barrier for op in ops) == barriers
    assert sum(op.kind is OpKind.store for op in ops) == stores
    assert sum(op.name == "load I" for op in ops) == (1 if chunk == 32 else 2), "every program loads it"


# --- mxr and newton-schulz as published ----------------------------------------------------------------

PUBLISHED = [  # chunk, products, exits to L1, full copies to A and to B, 16x16 copies
    (16, 12, 8, (9, 10), 2),
    (32, 16, 9, None, 6),
    (64, 20, 11, None, 20),
    (128, 24, 13, (15, 16), 72),
]


@pytest.mark.parametrize(("chunk", "count", "exits", "full", "blocks"), PUBLISHED)
def test_mxr_as_published_has_the_counts_of_the_measured_kernel(chunk, count, exits, full, blocks):
    ops = per_matrix(build("mxr", chunk, 1, "fp16", variant="published"))
    kinds = Counter(op.kind for op in ops)
    assert kinds[OpKind.matmul] == count == 12 + 4 * rounds(chunk)
    ways = Counter(way(op) for op in ops if op.kind is OpKind.move and not masked(op))
    assert ways["L0C->L1"] == exits
    assert ways["L1->L0A"] + ways["L1->L0B"] == {16: 19, 32: 23, 64: 27, 128: 31}[chunk]
    if full:
        assert (ways["L1->L0A"], ways["L1->L0B"]) == full
    copies = Counter()
    for op in ops:
        if masked(op):
            copies[way(op)] += int(op.fractals[0].sum())
    assert sum(copies.values()) == blocks
    assert copies["L1->L0A"] == copies["L1->L0B"] == blocks // 2
    assert kinds[OpKind.load] == kinds[OpKind.store] == 1


@pytest.mark.parametrize("chunk", CHUNKS)
def test_the_accumulator_kept_saves_three_products(chunk):
    ops = per_matrix(build("mxr", chunk, 1, "fp16", variant="accumulator-kept"))
    assert len(products(ops, useful=False)) == 9 + 4 * rounds(chunk)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_mxr_as_published_waits_where_the_measured_kernel_does(chunk):
    """Empty turns: the two zero copies, the exit of Y, and one before each of four products that add."""
    ops = per_matrix(build("mxr", chunk, 1, "fp16", variant="published"))
    waits = Counter(op.on for op in ops if op.kind is OpKind.wait)
    assert waits == {"aic_mac": 3, "aic_fixpipe": 4}


@pytest.mark.parametrize(("total", "group"), [(1, 1), (24, 1), (25, 2), (48, 2), (49, 4), (1000, 4)])
def test_mxr_as_published_takes_as_many_matrices_a_pass_as_keep_24_cores_busy(total, group):
    kernel = build("mxr", 16, total, "fp16", variant="published")
    (items,) = [node for node in kernel.phases[0].nodes if isinstance(node, Items)]
    assert items.group == group and items.deal == "cyclic"


@pytest.mark.parametrize("chunk", CHUNKS)
def test_newton_schulz_as_published_takes_two_products_and_three_an_iteration(chunk):
    iterations = max(2 * int(math.log2(chunk)), 12)
    kernel = build("newton-schulz", chunk, 1, "fp16", variant="published")
    assert kernel.settings["iterations"] == iterations
    assert len(products(per_matrix(kernel), useful=False)) == 2 + 3 * iterations


# --- masked-neumann ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("order", "steps", "schedule"), [n for n in NEUMANN if n[0] > 1 and n[1] > 1])
def test_masked_neumann_has_the_products_that_the_paper_counts(order, steps, schedule):
    """(N - 2) + 1 + P(S) + 1 with P = 2 (p - 1) by doubling where S = 2^p, and S - 2 otherwise."""
    ops = per_matrix(build("masked-neumann", 64, 1, "fp16", order=order, steps=steps, schedule=schedule))
    power = steps & (steps - 1) == 0
    correction = 2 * (int(math.log2(steps)) - 1) if schedule == "doubling" and power else steps - 2
    assert len(products(ops)) == (order - 2) + 1 + correction + 1


@pytest.mark.parametrize(("chunk", "count"), [(32, 5), (64, 7), (128, 2 * 7 + 2), (256, 4 * 7 + 2 * 2 + 2)])
def test_the_paper_s_settings_are_the_defaults(chunk, count):
    """C=64: N=3, S=8 by doubling; C=32: N=4, S=3; C=128: two blocks of 64 and two products of 64."""
    settings = {"order": 4, "steps": 3, "schedule": "horner"} if chunk == 32 else {}
    settings = settings or {"order": 3, "steps": 8, "schedule": "doubling"}
    kernel = build("masked-neumann", chunk, 1, "fp16")
    assert kernel.settings.items() >= {**settings, "mask": True, "block": min(chunk, 64)}.items()
    assert len(products(per_matrix(kernel))) == count


def test_a_start_formed_before_the_cube_begins_takes_no_product_for_the_band():
    """N = 3: five operations of a vector core, where the series takes a product and two hand-overs."""
    ops = per_matrix(build("masked-neumann", 64, 1, "fp16", mask_on="start"))
    assert len(products(ops)) == 7 - 1
    assert sum(op.kind is OpKind.vector for op in ops) == 5
    back = [op for op in ops if way_of_move(op) == "L0C->GM"]
    assert not back, "nothing goes from the cube to a vector core"


def way_of_move(op: Operation) -> str:
    return way(op) if op.kind is OpKind.move else ""
