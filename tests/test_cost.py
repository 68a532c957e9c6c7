"""Every timing formula against its closed form, worked out by hand on the round numbers of the toy."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npusim import cost
from npusim.errors import Unsupported
from npusim.instructions import HandOver, Instruction
from npusim.machine import Machine, override, quantities
from npusim.ops import VECTOR, VectorOp
from npusim.profiles import load_machine

PROFILES = ("toy", "ascend-910b2", "ascend-310p3", "hexagon-class")


@lru_cache
def profile(name: str = "toy") -> Machine:
    return load_machine(name)


def toy(**values: float) -> Machine:
    """The toy with numbers replaced; '__' stands for '.' in their paths."""
    return override(profile(), {path.replace("__", "."): value for path, value in values.items()})


# --- products --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("m", "n", "k", "dtype", "steps"),
    [
        (16, 16, 16, "fp16", 1),
        (128, 128, 128, "fp16", 512),
        (128, 128, 128, "int8", 256),  # k0 32
        (128, 128, 128, "fp32", 2048),  # k0 4
        (128, 128, 128, "int4", 128),  # k0 64
        (17, 1, 33, "fp16", 2 * 1 * 3),  # every side rounded up to its fractal
        (16, 16, 33, "int8", 2),
    ],
)
def test_a_product_starts_up_and_then_takes_a_cycle_per_16x16xk0_step(m, n, k, dtype, steps):
    found = cost.product(profile(), m, n, k, dtype)
    assert (found.occupancy, found.latency, found.instructions) == (10 + steps, 10, 1)


@pytest.mark.parametrize(
    ("steps", "dtype", "cycles"), [(20, "fp16", 20), (3, "int8", 2), (20, "fp32", 80), (0, "fp16", 0)]
)
def test_empty_fractals_are_not_multiplied(steps, dtype, cycles):
    """`steps` counts 16x16x16 products: half a step each at a depth of 32, four at a depth of 4."""
    assert cost.product(profile(), 128, 128, 128, dtype, steps).occupancy == 10 + cycles


def test_a_dtype_that_the_cube_lacks_is_refused_with_a_remedy():
    with pytest.raises(
        Unsupported, match=r"toy: the cube has no fp64 \(it has bf16, .*\); use --no-timing or --dtype"
    ):
        cost.product(profile(), 16, 16, 16, "fp64")


# --- vector ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "cols", "each", "repeats"),
    [
        (64, 128, 4, 128),
        (64, 128, 2, 64),
        (1, 64, 4, 1),
        (1, 65, 4, 2),
        (1, 1, 2, 1),
        (3, 100, 4, 5),
        (64, 128, 1, 32),
    ],
)
def test_a_vector_instruction_takes_its_slope_for_every_256_bytes_begun(rows, cols, each, repeats):
    found = cost.vector(profile(), "exp", rows, cols, rows, each)
    mask = 2 * 10 if rows * cols == 1 else 0
    assert (found.occupancy, found.latency, found.instructions) == (4 * repeats + mask, 20, 1)


def test_a_single_element_needs_the_mask_set():
    found = dict(cost.vector(profile(), "add", 1, 1, 1, 4).terms)
    assert found == {"core.vector.functions.add.cycles_per_repeat": 1, "core.vector.mask_cycles": 2 * 10}


def test_16_bit_operands_may_have_a_slope_of_their_own():
    machine = toy(core__vector__functions__exp__cycles_per_repeat_16bit=8)
    assert cost.vector(machine, "exp", 64, 128, 64, 2).occupancy == 8 * 64
    assert cost.vector(machine, "exp", 64, 128, 64, 4).occupancy == 4 * 128
    assert cost.vector(machine, "add", 64, 128, 64, 2).occupancy == 64


def test_an_identity_is_a_fill_and_a_masked_fill_per_row():
    found = cost.vector(profile(), "identity", 64, 64, 64, 4)
    assert found.occupancy == 64 + 64 * (1 + 2 * 10)  # 16 KiB are 64 repeats; then 64 single elements
    assert found.instructions == 65


@pytest.mark.parametrize(("rows", "halves"), [(1, []), (2, [1]), (5, [3, 2, 1]), (64, [32, 16, 8, 4, 2, 1])])
def test_a_column_sum_halves_the_rows_and_each_half_waits_for_the_one_before(rows, halves):
    """Rows of 128 fp32 values are 2 repeats each; a latency of 10 shows between two adds."""
    found = cost.vector(profile(), "col_sum", 1, 128, rows, 4)
    assert found.occupancy == 2 * sum(halves) + 10 * max(0, len(halves) - 1)
    assert found.instructions == len(halves)
    assert found.latency == (10 if halves else 0)


def test_a_row_times_a_matrix_expands_into_cast_broadcast_multiply_tree_and_add():
    """A row of 32 against 32 x 64 fp32: cast 1 repeat, 32 blocks of 8 values 4, multiply 32, halves of
    16, 8, 4, 2 and 1 rows, add 1; nine instructions, so eight latencies between them."""
    found = cost.vector(profile(), "vecmat", 1, 64, 32, 4)
    assert found.occupancy == (1 + 4 + 32) + (16 + 8 + 4 + 2 + 1) + 1 + 8 * 10
    assert (found.instructions, found.latency) == (9, 10)


def test_a_row_broadcast_hands_over_between_scalar_and_vector_unit_for_every_row():
    """Per row: a fill of 128 fp32 values (2), two flags (10 each) and a scalar read of UB (10)."""
    found = cost.vector(profile(), "row_broadcast", 64, 128, 64, 4)
    assert found.occupancy == 64 * (2 + 10 + 10 + 10)
    assert found.instructions == 64
    assert dict(found.terms)["core.scalar.ub_read_cycles"] == 640


def test_a_column_broadcast_is_one_copy_per_row():
    found = cost.vector(profile(), "col_broadcast", 64, 128, 1, 4)
    assert (found.occupancy, found.instructions) == (64 * 2, 64)


@pytest.mark.parametrize(("function", "instructions", "cycles"), [
    # 32 rows of 128 fp32 values are 64 repeats, 64 values a repeat: two instructions, in blocks of 16 four
    ("sub_from_row", 2, 64), ("block_sub", 4, 64), ("block_mul", 4, 64),
    # a column of 32 values as 32-byte blocks (4 repeats), whose result the product waits for
    ("outer", 3, 4 + 10 + 64),
])  # fmt: skip
def test_an_operand_that_stays_costs_no_copies(function, instructions, cycles):
    found = cost.vector(profile(), function, 32, 128, 32, 4)
    assert (found.occupancy, found.instructions) == (cycles, instructions)


def test_blocks_are_transposed_and_copied_onto_the_diagonal():
    """32 rows of 16 fp32 values are 8 repeats; the copies wait for the transposition, latency 10."""
    found = cost.vector(profile(), "to_diagonal", 32, 64, 32, 4)
    assert (found.occupancy, found.instructions) == (8 + 10 + 2 * 4, 3)


TURN = 10 + 10
"""the flags to the scalar unit and back"""
STEPWISE = [
    # 7 axpys of a repeat under a mask (two settings), each led by a scalar read and a negation, each waiting
    # for the one before
    ("sweep", (1, 8), 7 * (TURN + 10 + 1) + 7 * (1 + 2 * 10) + 6 * 10, 7, 10),
    # 8 turns of two reads, a write and two computations, the last without an axpy behind it
    ("sweep_kept", (1, 8), 8 * (TURN + 2 * 10 + 10 + 2) + 7 * (1 + 2 * 10) + 7 * 10, 7, 0),
    # a fill, its latency, and a scalar write
    ("unit", (1, 64), 1 + 10 + TURN + 10, 1, 0),
    # 38 blocks of 16 x 16: rows of 10 repeats, arrays of 152; negate, broadcast, multiply, transpose, 15
    # adds, add, 38 copies of a row; 20 results are waited for
    ("block_row_step", (608, 16), 10 + 3 * 152 + 15 * 10 + 10 + 38 + 20 * 10, 58, 10),
    ("minus_lower", (608, 16), 3 * 152 + 2 * 10, 3, 10),
    ("plus_identity", (608, 16), 3 * 152 + 2 * 10, 3, 10),
    # six operations of 4 repeats on the indices, then the conversion
    ("masked_cast", (16, 16), 6 * 4 + 4 + 6 * 10, 7, 10),
]


@pytest.mark.parametrize(("function", "shape", "occupancy", "count", "latency"), STEPWISE)
def test_functions_of_substitution_cost_what_their_instructions_and_hand_overs_do(
    function, shape, occupancy, count, latency
):
    found = cost.vector(profile(), function, *shape, shape[0], 4)
    assert (found.occupancy, found.instructions, found.latency) == (occupancy, count, latency)


def test_a_long_sweep_takes_more_repeats():
    """Rows of k fp32 values are ceil(k / 64) repeats."""
    short, long = (cost.vector(profile(), "sweep", 1, n, n, 4).occupancy for n in (64, 128))
    steps = 64 * (TURN + 11 + 2 * 10 + 10)
    assert long - short == steps + sum(-(-k // 64) for k in range(64, 128))


@pytest.mark.parametrize(("cols", "folds"), [(8, 0), (64, 0), (65, 1), (128, 1), (512, 7)])
def test_rows_are_folded_to_one_repeat_each_and_reduced(cols, folds):
    """32 rows: a repeat of adds for each fold and row, and a repeat of the reduction for each row."""
    functions = profile().core.vector.functions
    found = cost.vector(profile(), "row_sum", 32, cols, 32, 4)
    add, reduce = (functions[name].cycles_per_repeat.value for name in ("add", "row_sum"))
    assert found.occupancy == 32 * (folds * add + reduce)
    assert found.instructions == folds + 1


def test_a_hand_over_waits_for_the_result_before_it(monkeypatch):
    """An add of a repeat with a latency of 10, then two flags and a scalar read."""
    made = VectorOp("", 1, "same", np.add, expand=lambda *_: [Instruction("add", 1, 64), HandOver(reads=1)])
    monkeypatch.setitem(VECTOR, "add and read", made)
    found = cost.vector(profile(), "add and read", 1, 64, 1, 4)
    assert (found.occupancy, found.latency) == (1 + 10 + TURN + 10, 0)


def test_a_function_that_the_unit_lacks_is_refused():
    data = profile().model_copy(deep=True)
    fewer = {name: f for name, f in data.core.vector.functions.items() if name != "exp"}
    vector = data.core.vector.model_copy(update={"functions": fewer})
    machine = data.model_copy(update={"core": data.core.model_copy(update={"vector": vector})})
    with pytest.raises(Unsupported, match="toy: the vector unit has no exp"):
        cost.vector(machine, "exp", 1, 1, 1, 4)


# --- transfers -------------------------------------------------------------------------------


def test_a_transfer_takes_its_bytes_over_the_rate_and_is_visible_a_latency_later():
    found = cost.transfer(profile(), "gm_l1", 128, 256)
    assert (found.occupancy, found.latency) == (pytest.approx(327.68), 100)


@pytest.mark.parametrize(
    ("extra", "row_bytes", "expected"),
    [
        ({"row_min_cycles": 4}, 200, 10 * 4),  # a row would take 2
        ({"row_min_cycles": 4}, 1000, 10 * 10),
        ({"min_cycles": 50}, 200, 50),  # all rows would take 20
        ({"min_cycles": 50}, 1000, 100),
        ({"row_min_cycles": 4, "min_cycles": 50}, 200, 50),
        ({"row_min_cycles": 6, "min_cycles": 50}, 200, 60),
        ({"startup_cycles": 30}, 1000, 130),
        ({"half_rate_bytes": 2000}, 1000, 100 + 20),  # half of the rate at 2000 bytes: 20 cycles more
        ({"partial_line_cycles": 3}, 1000, 100),  # adjacent rows
    ],
)
def test_what_a_path_adds_to_its_rate(extra, row_bytes, expected):
    """Ten rows over a path of 100 bytes a cycle."""
    machine = toy(**{f"paths__gm_ub__{name}": value for name, value in extra.items()})
    assert cost.transfer(machine, "gm_ub", 10, row_bytes).occupancy == pytest.approx(expected)


def test_half_of_the_rate_is_reached_at_the_size_that_says_so():
    machine = toy(paths__gm_l1__half_rate_bytes=5000)
    assert 5000 / cost.transfer(machine, "gm_l1", 1, 5000).occupancy == pytest.approx(100 / 2)


def test_rows_apart_that_do_not_fill_lines_of_the_l2_cost_extra():
    machine = toy(paths__l0c_gm__partial_line_cycles=25)
    line = machine.memory.l2_line_bytes.value

    def cycles(apart_bytes: float) -> float:
        return cost.transfer(machine, "l0c_gm", 128, 1000, apart_bytes).occupancy

    assert cycles(0) == cycles(line) == cycles(3 * line) == 1280
    assert cycles(line + 32) == cycles(line / 2) == 1280 + 128 * 25


def test_a_block_copy_is_an_instruction_per_fractal_each_with_its_start_up_and_least_time():
    machine = toy(paths__l1_l0a__startup_cycles=5, paths__l1_l0a__min_cycles=32)
    found = cost.transfer(machine, "l1_l0a", 16, 32, instructions=7)
    assert (found.occupancy, found.instructions) == (7 * (32 + 5), 7)


def test_a_missing_path_names_itself_and_the_field_to_add():
    with pytest.raises(Unsupported, match=r"toy: no path from L0C to UB; add paths\.l0c_ub to the profile"):
        cost.transfer(profile(), "l0c_ub", 1, 1)


# --- scalar, flags, barriers, launch ---------------------------------------------------------------


def test_scalar_work_reads_writes_or_computes():
    assert [cost.scalar(profile(), name).occupancy for name in ("read", "write", "alu")] == [10, 10, 1]
    with pytest.raises(Unsupported, match="no scalar function 'div'; known: read, write, alu"):
        cost.scalar(profile(), "div")


def test_a_flag_costs_the_default_unless_its_pair_or_a_crossing_says_otherwise():
    data = profile().model_dump()
    data["core"]["flags"]["pairs"] = {
        "aic_mac->aic_fixpipe": {"value": 35.0, "source": "a test", "evidence": "assumed"}
    }
    machine = Machine.model_validate(data)
    assert cost.flag_field(machine, "aic_mac", "aic_fixpipe") == ("core.flags.pairs.aic_mac->aic_fixpipe", 35)
    assert cost.flag_field(machine, "aic_fixpipe", "aic_mac") == ("core.flags.default_cycles", 10)
    assert cost.flag_field(machine, "aic_mac", "aic_fixpipe", cross=True)[1] == 100


def test_barriers_cost_by_their_reach():
    machine = toy(core__barriers__unit_cycles=2)
    found = [cost.barrier(machine, scope).occupancy for scope in ("aiv_vec", "core", "all")]
    assert found == [2, 10, 300]


def test_cores_start_one_after_another_after_their_set_up():
    machine = toy(clock_ghz=1.5, launch__setup_us=2, launch__dispatch_us=0.1)
    starts = [cost.start_cycles(machine, core) for core in range(3)]
    assert starts == pytest.approx([3000, 3150, 3300])


def test_a_task_takes_the_launch_and_more_where_both_core_types_work():
    machine = toy(launch__mixed_us=3)
    assert cost.task_overhead_us(machine, mixed=False) == 1
    assert cost.task_overhead_us(machine, mixed=True) == 4


@pytest.mark.parametrize(("host", "event"), [(0, 12), (12, 12), (30, 30)])
def test_a_host_that_issues_more_slowly_than_the_device_runs_makes_it_wait(host, event):
    machine = toy(launch__event_us=2, launch__host_us=host)
    assert cost.event_us(machine, task_us=10) == event


# --- laws ------------------------------------------------------------------------------------


sizes = st.integers(1, 200)


def accounted(machine: Machine, found: cost.Cost) -> None:
    """The terms make up the time, none is negative, and each names a number of the profile."""
    known = quantities(machine)
    assert sum(cycles for _, cycles in found.terms) == pytest.approx(found.occupancy, rel=1e-12, abs=1e-12)
    assert sum(cycles for _, cycles in found.latency_terms) == pytest.approx(found.latency, rel=1e-12)
    for field, cycles in (*found.terms, *found.latency_terms):
        assert cycles >= 0
        assert field in known, field


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.sampled_from(PROFILES), sizes, sizes, sizes, st.sampled_from(["fp16", "int8"]), st.none() | sizes)
def test_the_terms_of_a_product_sum_to_its_time(name, m, n, k, dtype, steps):
    accounted(profile(name), cost.product(profile(name), m, n, k, dtype, steps))


@settings(deadline=None, derandomize=True, max_examples=150)
@given(
    st.sampled_from(PROFILES),
    st.sampled_from(sorted(VECTOR)),
    sizes,
    sizes,
    sizes,
    st.sampled_from([1, 2, 4, 8]),
)
def test_the_terms_of_vector_work_sum_to_its_time(name, function, rows, cols, inner, each):
    accounted(profile(name), cost.vector(profile(name), function, rows, cols, inner, each))


@settings(deadline=None, derandomize=True, max_examples=100)
@given(
    st.sampled_from(PROFILES), st.data(), sizes, st.integers(1, 2000), st.integers(0, 999), st.integers(1, 9)
)
def test_the_terms_of_a_transfer_sum_to_its_time(name, data, rows, row_bytes, apart, instructions):
    key = data.draw(st.sampled_from(sorted(profile(name).paths)))
    found = cost.transfer(profile(name), key, rows, row_bytes, apart, instructions)
    accounted(profile(name), found)
    least = instructions * rows * row_bytes / profile(name).paths[key].bytes_per_cycle.value
    assert found.occupancy >= least * (1 - 1e-12)
