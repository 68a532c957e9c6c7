"""Attention, against plain softmax attention in numpy, and what it asks of a machine."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms import REGISTRY
from algorithms.attention_plan import Plan, causal, full
from npusim.check import check
from npusim.errors import InputError, Unsupported
from npusim.execute import execute
from npusim.graph import Kernel, operations
from npusim.lower import lower
from npusim.machine import Machine
from npusim.problem import Options, Problem, Target
from npusim.profiles import load_machine
from npusim.settings import EngineSettings
from npusim.study import time_program

ATTENTION = REGISTRY["attention"]
Array = np.ndarray


def built(machine: Machine | str, options: dict[str, object] | None = None, **sizes: object) -> Kernel:
    machine = load_machine(machine) if isinstance(machine, str) else machine
    return ATTENTION.build(Problem(**sizes), Options(**(options or {})), Target.of(machine))


def values(kernel: Kernel) -> dict[str, Array]:
    rng = np.random.default_rng(3)
    return {t.name: 2 * rng.standard_normal(t.shape) for t in kernel.tensors if t.role == "input"}


def truth(p: Problem, causal: bool, q: Array, k: Array, v: Array) -> Array:
    """Softmax attention, all at once: [batch, tokens, heads, Dv]."""
    keys, (D, Dv), group = p.context + p.seq_len, p.state_dims, p.heads // p.kv_heads
    q = q.reshape(p.batch, p.seq_len, p.heads, D)
    k = k.reshape(p.batch, keys, p.kv_heads, D).repeat(group, axis=2)
    v = v.reshape(p.batch, keys, p.kv_heads, Dv).repeat(group, axis=2)
    scores = np.einsum("bihd,bjhd->bhij", q, k) / np.sqrt(D)
    if causal:
        seen = np.arange(keys) <= p.context + np.arange(p.seq_len)[:, None]
        scores = np.where(seen, scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("bhij,bjhd->bihd", weights / weights.sum(-1, keepdims=True), v)


def agrees(profile: str, options: dict[str, object], **sizes: object) -> None:
    kernel = check(built(profile, options, **sizes, dtype="fp64"))
    given = values(kernel)
    done = execute(kernel, given).outputs["o"]
    wanted = truth(Problem(**sizes), options.get("causal") is not False, *(given[name] for name in "qkv"))
    np.testing.assert_allclose(done, wanted.reshape(done.shape), atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("profile", ["ascend-910b2", "ascend-950pr-9599", "hexagon-class", "ascend-310p3"])
@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({}, {"seq_len": 300, "heads": 2, "key_heads": 1, "value_dim": 16}),
        ({}, {"batch": 2, "seq_len": 140, "context": 77, "heads": 2, "value_dim": 64}),
        ({"causal": False}, {"seq_len": 200, "context": 50, "heads": 2}),
        ({}, {"batch": 3, "seq_len": 1, "context": 300, "heads": 8, "key_heads": 2}),
        ({}, {"seq_len": 37, "heads": 2}),
        ({"tile_m": 32, "tile_n": 96}, {"seq_len": 330, "context": 37, "heads": 1}),
        ({"slots": 1}, {"seq_len": 24, "context": 600, "heads": 1, "head_dim": 256}),
    ],
    ids=["groups", "context", "full", "decoding", "short", "tiles", "one slot, wide heads"],
)
def test_in_fp64_it_is_softmax_attention(profile, options, sizes):
    agrees(profile, options, **{"head_dim": 32, **sizes})


@given(
    st.integers(1, 120), st.integers(0, 150), st.sampled_from([(1, 1), (2, 1), (4, 2)]), st.integers(1, 2),
    st.booleans(), st.sampled_from([None, 16, 24]), st.integers(1, 3),
    st.sampled_from(["toy", "ascend-950pr-9599", "hexagon-class"]),
)  # fmt: skip
@settings(max_examples=15, deadline=None)
def test_whatever_the_lengths_and_tiles(tokens, context, heads, batch, causal, rows, wide, profile):
    sizes = {"batch": batch, "seq_len": tokens, "context": context, "heads": heads[0], "key_heads": heads[1]}
    options: dict[str, object] = {} if causal else {"causal": False}
    if rows and tokens > 1 and rows <= tokens and rows * wide <= tokens + context:
        options |= {"tile_m": rows, "tile_n": rows * wide}
    agrees(profile, options, **sizes, head_dim=16)


@pytest.mark.parametrize(("dtype", "error"), [("fp16", 1e-3), ("bf16", 8e-3), ("fp32", 1e-6)])
def test_weights_and_result_are_rounded_to_the_operands_dtype(dtype, error):
    sizes = {"seq_len": 256, "context": 100, "heads": 4, "key_heads": 2, "head_dim": 64}
    kernel = built("ascend-910b2", **sizes, dtype=dtype)
    done = execute(kernel, values(kernel))
    wanted = truth(Problem(**sizes), True, *(done.inputs[name].astype(np.float64) for name in "qkv"))
    apart = np.linalg.norm(done.outputs["o"] - wanted.reshape(256, -1)) / np.linalg.norm(wanted)
    assert error / 20 < apart < error
    assert done.nonfinite == 0


def met(plan: Plan, number: int) -> list[int]:
    """The keys that tile `number` meets, in order of their runs."""
    keys: list[int] = []
    for run in plan.runs:
        at, wide = run.start, int(plan.wide[number])
        first = at.base + at.per_tile * number + at.per_wide * wide
        starts = [first + at.per_trip * trip for trip in range(int(run.counts[number]))]
        if starts:
            end = run.last
            assert starts[-1] == end.base + end.per_tile * number + end.per_wide * wide
        keys += [start + key for start in starts for key in range(run.kind.keys)]
    return keys


@given(st.integers(1, 12), st.integers(1, 9), st.integers(0, 60), st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_every_tile_meets_each_key_that_it_sees_once(tiles, rows, context, wide):
    for number in range(tiles):
        seen = range(context + (number + 1) * rows)
        assert sorted(met(causal(tiles, rows, context, rows * wide), number)) == list(seen)
        assert sorted(met(full(tiles, context + rows, wide), number)) == list(range(context + rows))


def test_blocks_above_the_diagonal_are_not_computed_and_cores_have_equally_much_to_do():
    machine = load_machine("ascend-910b2")
    report, _ = time_program(lower(built(machine, seq_len=2048, heads=16), machine), EngineSettings())
    keys = sum(128 * (tile + 1) for tile in range(16))
    fractals = 16 * 2 * (128 // 16) * (128 // 16) * (keys // 16)
    assert report.roofline["cube_us"] == pytest.approx(fractals / 24 / machine.cycles_per_us)
    cube = report.to_json()["units"]["aic_mac"]
    assert cube["slowest_core_us"] < 1.15 * cube["busy_us"]


def test_the_cube_core_works_while_the_vector_cores_do():
    machine = load_machine("ascend-910b2")
    report, _ = time_program(
        lower(built(machine, seq_len=128, context=3968, heads=24), machine), EngineSettings()
    )
    units = report.to_json()["units"]
    assert units["aic_mte2"]["utilisation"] + units["aiv_vec"]["utilisation"] > 1


def test_decoding_reads_the_cache_once_for_all_heads_that_share_it():
    machine = load_machine("ascend-910b2")
    kernel = built(machine, batch=6, seq_len=1, context=16383, heads=32, key_heads=4)
    assert kernel.settings["tile_m"] == 8
    report, _ = time_program(lower(kernel, machine), EngineSettings())
    cache = 2 * 6 * 16384 * 4 * 128 * 2
    assert cache <= report.bytes["hbm_read"] < 1.01 * cache
    assert report.bound == "memory"


def test_the_graph_is_as_large_for_long_sequences():
    sizes = [
        [len(list(operations(phase.nodes))) for phase in built("ascend-910b2", seq_len=n, heads=16).phases]
        for n in (4096, 65536)
    ]
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("profile", ["toy", "hexagon-class"])
def test_both_engines_say_the_same(profile):
    machine = load_machine(profile)
    program = lower(built(machine, seq_len=150, context=40, heads=3, head_dim=32), machine)
    fast, slow = (time_program(program, EngineSettings(engine=name))[0] for name in ("fast", "reference"))
    assert fast.to_json()["time_us"] == pytest.approx(slow.to_json()["time_us"], rel=1e-9)


@pytest.mark.parametrize(
    ("options", "sizes", "error", "message"),
    [
        ({}, {"head_dim": 300}, Unsupported, r"--head-dim: .* multiples of 16 up to 256, got 300"),
        ({}, {"value_dim": 24}, Unsupported, r"--value-dim: .* got 24"),
        ({}, {"dtype": "int8"}, Unsupported, r"--dtype: attention computes on .*, not on int8"),
        ({"tile_m": 64}, {"seq_len": 50}, InputError, r"--tile-m: 64 rows, and there are 50 tokens"),
        ({"tile_n": 192}, {"seq_len": 500}, InputError, r"--tile-n: .* multiples of the 128 rows"),
        ({"tile_k": 64}, {}, InputError, r"--tile-k: flash has no such parameter"),
    ],
)
def test_what_it_does_not_take_is_said(options, sizes, error, message):
    with pytest.raises(error, match=message):
        built("ascend-910b2", options, **{"seq_len": 512, "heads": 1, **sizes})
