"""The mixture of experts: router, grouped product and weighted sum, against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms import REGISTRY
from algorithms.moe_tokens import filled, tokens_per_expert
from npusim.check import check
from npusim.errors import InputError, Unsupported
from npusim.execute import Execution, execute
from npusim.graph import Kernel
from npusim.lower import lower
from npusim.machine import Machine
from npusim.problem import Options, Problem, Target
from npusim.profiles import load_machine
from npusim.report import Report
from npusim.settings import EngineSettings
from npusim.study import time_program

PROFILES = ["ascend-910b2", "hexagon-class", "toy"]


def built(
    name: str, machine: Machine | str, options: dict[str, int] | None = None, **sizes: object
) -> Kernel:
    machine = load_machine(machine) if isinstance(machine, str) else machine
    return REGISTRY[name].build(Problem(**sizes), Options(**(options or {})), Target.of(machine))


def done(kernel: Kernel) -> Execution:
    rng = np.random.default_rng(5)
    given = {t.name: rng.standard_normal(t.shape) for t in kernel.tensors if t.role == "input"}
    return execute(check(kernel), given)


def timed(name: str, **sizes: object) -> Report:
    machine = load_machine("ascend-910b2")
    return time_program(lower(built(name, machine, **sizes), machine), EngineSettings())[0]


@given(st.integers(1, 500), st.integers(1, 64), st.integers(1, 64), st.floats(0, 3))
@settings(max_examples=100, deadline=None)
def test_every_token_has_its_experts_and_none_twice(tokens, experts, active, skew):
    active = min(active, experts)
    counts = tokens_per_expert(tokens, experts, active, skew)
    assert counts.sum() == tokens * active
    assert (np.diff(counts) <= 0).all() and counts.min() >= 0 and counts.max() <= tokens


def test_even_tokens_differ_by_one_and_few_hit_few_experts():
    assert np.ptp(tokens_per_expert(100, 7, 3, 0.0)) == 1
    assert np.count_nonzero(tokens_per_expert(3, 64, 8, 0.0)) == 24
    assert np.count_nonzero(tokens_per_expert(1000, 64, 8, 0.0)) == 64


def test_skewed_tokens_follow_zipf_where_no_expert_is_full():
    counts = tokens_per_expert(10**6, 100, 1, 1.2)
    wanted = np.arange(1, 101) ** -1.2
    np.testing.assert_allclose(counts, 10**6 * wanted / wanted.sum(), atol=1)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    ("tokens", "experts", "active", "skew", "options"),
    [
        (40, 8, 2, 1.0, {}),
        (3, 16, 4, 0.0, {}),
        (300, 4, 2, 0.5, {"tile_m": 32}),
        (150, 3, 3, 0.0, {"tile_n": 24}),
    ],
)
def test_each_experts_rows_are_multiplied_by_its_weights(profile, tokens, experts, active, skew, options):
    sizes = {"m": tokens, "n": 40, "k": 72, "experts": experts, "active": active, "skew": skew}
    found = done(built("grouped-matmul", profile, options, **sizes, dtype="fp64"))
    start, counts = 0, tokens_per_expert(tokens, experts, active, skew)
    for expert, rows in enumerate(filled(counts[counts > 0])):
        own = slice(start, start + rows)
        wanted = found.inputs["x"][own] @ found.inputs["w"][expert]
        np.testing.assert_allclose(found.outputs["y"][own], wanted, atol=1e-11)
        start += rows
    assert start == len(found.outputs["y"]) and found.written["y"].all()


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(("tokens", "experts", "active"), [(40, 8, 2), (300, 130, 4), (1, 16, 3)])
def test_the_router_finds_the_largest_and_where_they_stand(profile, tokens, experts, active):
    sizes = {"m": tokens, "k": 48, "experts": experts, "active": active, "dtype": "fp64"}
    found = done(built("moe-router", profile, **sizes))
    chances = np.exp(found.inputs["x"] @ found.inputs["wr"])
    chances /= chances.sum(axis=1, keepdims=True)
    places = np.argsort(-chances, axis=1)[:, :active]
    weights = np.take_along_axis(chances, places, axis=1)
    np.testing.assert_array_equal(found.outputs["places"], places)
    wanted = weights / weights.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.outputs["weights"], wanted, atol=1e-12)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    ("tokens", "n", "active", "options"), [(7, 100, 3, {}), (20, 700, 2, {"tile_n": 256})]
)
def test_a_tokens_rows_are_weighted_and_added_up(profile, tokens, n, active, options):
    found = done(built("moe-combine", profile, options, m=tokens, n=n, active=active, dtype="fp64"))
    wanted = np.einsum("atn,ta->tn", found.inputs["z"], found.inputs["weights"])
    np.testing.assert_allclose(found.outputs["y"], wanted, atol=1e-13)


def test_only_the_weights_of_experts_that_are_hit_are_loaded():
    sizes = {"n": 512, "k": 1024, "experts": 128, "active": 4}
    for tokens, hit in [(4, 16), (4096, 128)]:
        report = timed("grouped-matmul", m=tokens, **sizes)
        weights, rows = hit * 512 * 1024 * 2, filled(tokens_per_expert(tokens, 128, 4, 0.0)).sum() * 1024 * 2
        assert report.bytes["hbm_read"] == pytest.approx(weights + rows, rel=0.01)


def test_a_popular_experts_rows_are_dealt_to_several_cores():
    sizes = {"m": 4096, "n": 512, "k": 512, "experts": 64, "active": 4}
    cube = timed("grouped-matmul", **sizes, skew=1.5).to_json()["units"]["aic_mac"]
    assert cube["slowest_core_us"] < 1.25 * cube["busy_us"]


def test_top_k_costs_passes_over_the_scores():
    """Rows of 128 fp32 scores are two repeats: a pass folds them (1 repeat), reduces (1) and places (2); all
    but the last take out what was found (2 x 2)."""
    machine = load_machine("toy")
    one, two = (
        time_program(
            lower(built("moe-router", machine, m=64, k=64, experts=128, active=a), machine), EngineSettings()
        )[0]
        for a in (1, 2)
    )
    vector = [report.roofline["vector_us"] * machine.cycles_per_us * 4 for report in (one, two)]
    functions = machine.core.vector.functions
    each = {name: functions[name].cycles_per_repeat.value for name in ("max", "row_max", "select")}
    passes = 64 * (each["max"] + 3 * each["row_max"] + 4 * each["select"])
    assert vector[1] - vector[0] == pytest.approx(passes, rel=0.2)


@pytest.mark.parametrize("name", ["grouped-matmul", "moe-router", "moe-combine"])
def test_both_engines_say_the_same(name):
    machine = load_machine("toy")
    sizes = {"m": 70, "n": 64, "k": 64, "experts": 8, "active": 2}
    taken = {size: value for size, value in sizes.items() if size in REGISTRY[name].sizes}
    program = lower(built(name, machine, **taken), machine)
    fast, slow = (time_program(program, EngineSettings(engine=engine))[0] for engine in ("fast", "reference"))
    assert fast.to_json()["time_us"] == pytest.approx(slow.to_json()["time_us"], rel=1e-9)


def test_what_they_do_not_take_is_said():
    with pytest.raises(InputError, match=r"--active: 9 experts per token, and there are 8 \(--experts\)"):
        built("grouped-matmul", "toy", experts=8, active=9)
    with pytest.raises(InputError, match=r"--tile-m: rows come in multiples of 16, got 24"):
        built("grouped-matmul", "toy", {"tile_m": 24})
    with pytest.raises(Unsupported, match=r"--experts: moe-router takes up to 1024, got 2000"):
        built("moe-router", "toy", experts=2000)
    with pytest.raises(Unsupported, match=r"--dtype: moe-combine computes on .*, not on int8"):
        built("moe-combine", "toy", dtype="int8")
