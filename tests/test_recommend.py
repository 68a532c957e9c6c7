"""Recommendations: the winner is what a plain search finds, and what is said of it is true."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from algorithms import REGISTRY
from npusim import study
from npusim.cli import recommend_tables as tables
from npusim.errors import InputError
from npusim.layer_error import LayerProbe
from npusim.machine import override, quantities
from npusim.problem import Options, Problem, Target
from npusim.profiles import load_machine
from npusim.recommend.candidates import candidates, label
from npusim.recommend.doubt import spread_of, winning_share
from npusim.recommend.judge import Exactness, Judged
from npusim.recommend.search import CONTENDERS, DRAWN, PROBED, RUNGS, Choice, Goal, Search, front
from npusim.settings import EngineSettings, MachineSettings, NumericsSettings
from npusim.triangles import invert
from npusim.workers import Workers

ENTRY = REGISTRY["tri-inverse"]
LAYER = Problem(seq_len=512, heads=4, head_dim=32)
TIMED = NumericsSettings(numerics=False)


def judged(time_us: float, error: float, snr: float = 40.0, nonfinite: int = 0) -> Judged:
    exactness = Exactness(error, error, error, error, snr, snr, nonfinite)
    return Judged(Options(algorithm="mxr"), time_us, exactness=exactness)


def search(goal: Goal, workers: Workers, profile: str = "toy") -> Search:
    settings = MachineSettings(profile=profile)
    return Search(ENTRY, "algorithms:REGISTRY", settings, LAYER, NumericsSettings(), goal, workers)


# --- candidates ---------------------------------------------------------------------------------------


def test_a_series_is_not_longer_than_what_is_exact() -> None:
    found = candidates(ENTRY, ["masked-neumann"], "fp16", 16, "fp16")
    terms = {(one.order, one.steps) for one in found}
    assert terms == {(n, s) for n in range(2, 7) for s in range(1, 13) if n * (s - 1) < 16}
    masks = {(one.mask, one.mask_on) for one in found}
    assert masks == {(False, None), (None, "vector"), (None, "start")}
    assert len(found) == 3 * len(terms) == len(set(found))


def test_integers_are_tried_with_one_scale_and_with_one_a_tile() -> None:
    found = candidates(ENTRY, ["mxr", "block-recursion"], "int8", 64, "fp16")
    scaled = {(one.algorithm, one.variant) for one in found if one.scaling}
    assert scaled == {("mxr", "textbook"), ("block-recursion", "textbook")}
    assert not any(one.scaling for one in candidates(ENTRY, list(ENTRY.algorithms), "fp16", 64, "fp16"))


def test_all_candidates_can_be_built_or_say_why_not() -> None:
    for options in candidates(ENTRY, list(ENTRY.algorithms), "fp16", 32, "fp16"):
        kernel = ENTRY.build(Problem(chunk=32, matrices=4), options, Target.of(load_machine("ascend-910b2")))
        assert kernel.settings["out_dtype"] == "fp16" and label(options) and label(options, short=True)


# --- goals and fronts ---------------------------------------------------------------------------------


def test_goals() -> None:
    assert Goal.of("layer-output", None).bound == 5e-3
    with pytest.raises(InputError, match="--bound: give one for --measure snr"):
        Goal.of("snr", None)
    for measure, bound in (("layer-output", 0.0), ("layer-output", math.nan), ("snr", math.inf)):
        with pytest.raises(InputError, match="--bound: must be finite"):
            Goal.of(measure, bound)
    small, loud = Goal("layer-output", 1e-2), Goal("worst-snr", 40.0)
    assert small.met(judged(1, 1e-2)) and not small.met(judged(1, 1.1e-2))
    assert not small.met(judged(1, 1e-3, nonfinite=1))
    assert loud.met(judged(1, 1, snr=40)) and not loud.met(judged(1, 1, snr=39.9))
    assert small.nearly(judged(1, 0.2)) and not small.nearly(judged(1, 0.21))
    assert loud.nearly(judged(1, 1, snr=14)) and not loud.nearly(judged(1, 1, snr=13.9))


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=25))
def test_a_front_is_what_none_beats(pairs: list[tuple[int, int]]) -> None:
    some = [judged(time, error) for time, error in pairs]
    found = front(some, Goal("layer-output", 1.0))
    wanted = {
        (t, e) for t, e in pairs if not any(a <= t and b <= e and (a, b) != (t, e) for a, b in pairs)
    }  # fmt: skip
    assert [(one.time_us, one.exactness.output) for one in found if one.exactness] == sorted(wanted)


# --- doubt --------------------------------------------------------------------------------------------


def test_shares_of_draws_are_those_of_the_distribution() -> None:
    """Two contenders that differ in one uncertain number: the probability is known in closed form."""
    machine = load_machine("hexagon-class")
    path = "core.cube.startup_cycles"
    number = quantities(machine)[path]
    value, sigma = float(number.value), spread_of(path, number)
    assert sigma > 0
    for gap in (0.0, 0.2, -0.4):  # the first one is slower by `gap` at the value as it stands
        slope = 1.0 / value
        share = winning_share(machine, [(10.0 + gap, {path: slope}), (10.0, {})])[0]
        # it wins where slope * value * (exp(sigma z) - 1) < -gap
        wanted = norm.cdf(math.log(1 - gap) / sigma)
        assert share == pytest.approx(wanted, abs=0.03)


def test_documented_numbers_are_not_doubted() -> None:
    machine = load_machine("ascend-910b2")
    known = quantities(machine)
    documented = [path for path, one in known.items() if one.evidence in ("documented", "measured")]
    assert documented and all(spread_of(path, known[path]) == 0 for path in documented)
    fitted = next(p for p, one in known.items() if one.fitted and one.fitted.standard_error and one.value)
    error = known[fitted].fitted.standard_error / known[fitted].value  # type: ignore[union-attr]
    assert spread_of(fitted, known[fitted]) == pytest.approx(math.sqrt(math.log(1 + error**2)))
    assert winning_share(machine, [(2.0, {}), (1.0, {documented[0]: 5.0})]) == [0.0, 1.0]


def test_what_contenders_share_does_not_tell_them_apart() -> None:
    machine = override(load_machine("toy"), {"core.cube.startup_cycles": 8})  # which makes it assumed
    path = "core.cube.startup_cycles"
    assert winning_share(machine, [(1.0, {path: 0.5}), (1.01, {path: 0.5})]) == [1.0, 0.0]


# --- the search ---------------------------------------------------------------------------------------


def test_the_winner_is_that_of_a_plain_search() -> None:
    """Every candidate timed by npusim.study and judged on all heads: no halving, no memo."""
    names, goal = ["mxr", "masked-neumann"], Goal.of("layer-output", 2e-3)
    with Workers() as workers:
        found = search(goal, workers).choose(names, "fp16", 16)
    machine = load_machine("toy")
    probe = LayerProbe.drawn(Problem(chunk=16, heads=RUNGS[-1], head_dim=32, **PROBED))
    whole = Problem(chunk=16, seq_len=512, heads=4, head_dim=32)
    good = []
    for options in candidates(ENTRY, names, "fp16", 16, "fp16"):
        sample = Problem(chunk=16, matrices=len(probe.L))
        T = invert(ENTRY.build(sample, options, Target.of(machine)), probe.L).outputs["T"]
        error = probe.errors(T.reshape(probe.L.shape), "fp16").output.relative_error
        if error <= 2e-3:
            alone = study.run(ENTRY, whole, options, machine, TIMED, EngineSettings(what_if=False))
            assert alone.report
            good.append((alone.report.task_us, error, options))
    assert found.winner and found.winner.exactness
    best = min(good, key=lambda one: one[0])
    assert found.winner.time_us == best[0]
    wanted = min(error for time, error, _ in good if time == best[0])
    assert found.winner.exactness.output == pytest.approx(wanted, rel=1e-9)
    assert found.winner.held == DRAWN
    assert found.front and all(one.exactness for one in found.front)
    assert found.stays is not None and found.stays + sum(s for _, s in found.rivals) == pytest.approx(1)


def test_where_the_fastest_are_exact_on_some_inputs_only_the_next_are_tried() -> None:
    class Luck(Search):
        def _tested(self, some: list[Judged], dtype: str, chunk: int) -> list[Judged]:
            tried.extend(some)
            return [replace(one, held=DRAWN if one.time_us in lasting else 2) for one in some]

    good, tried = [judged(float(time), 1e-3) for time in range(3 * CONTENDERS)], list[Judged]()
    with Workers() as workers:
        one = search(Goal("layer-output", 1e-2), workers)
        one.__class__ = Luck
        for lasting, slices in (({CONTENDERS + 2.0}, 2), (set[float](), 3)):
            tried.clear()
            found = one._on_other_inputs(good, "fp16", 16)
            assert tried == good[: slices * CONTENDERS]
            assert found[0].time_us == min(lasting, default=0.0) and len(found) == len(tried)


def test_where_nothing_is_good_enough_the_nearest_is_known() -> None:
    with Workers() as workers:
        found = search(Goal("relative-error", 1e-12), workers).choose(["mxr", "doubling"], "fp16", 16)
    assert found.winner is None and found.stays is None and found.front
    assert min(one.exactness.relative for one in found.front if one.exactness) > 1e-12


def test_formats_that_a_chip_lacks_are_refused_with_the_reason() -> None:
    with Workers() as workers:
        found = search(Goal.of("layer-output", None), workers, "ascend-910b2").choose(["mxr"], "int16", 16)
    assert found.winner is None
    assert found.refused and all("no int16" in one.reason for one in found.refused)


# --- the command --------------------------------------------------------------------------------------

SMALL = ("recommend", "--profile", "toy", "--seq-len", "512", "--heads", "4", "--head-dim", "32",
         "--algorithms", "mxr,doubling", "--jobs", "1")  # fmt: skip


def test_json(cli) -> None:
    found = json.loads(cli(*SMALL, "--chunk", "16,32", "--dtype", "fp16,int8", "--json").out)
    assert [(one["dtype"], one["chunk"]) for one in found["choices"]] == [
        ("fp16", 16), ("fp16", 32), ("int8", 16), ("int8", 32),
    ]  # fmt: skip
    for one in found["choices"][:2]:
        winner = one["winner"]
        assert winner["errors"]["output"] <= 5e-3 and winner["time_us"] > 0
        assert one["delta_net_us"] > winner["time_us"]
        assert f"C={one['chunk']} fp16: {winner['candidate']}" in one["words"]
    whole = {one["chunk"]: one["delta_net_us"] for one in found["choices"][:2]}
    assert found["best_chunk"]["fp16"] == min(whole, key=whole.get)


def test_words_and_tables(cli) -> None:
    text = " ".join(cli(*SMALL, "--chunk", "16").out.split())
    for said in ("goal layer-output at most 0.005", "C=16 fp16:", "-bound (", "best chunk",
                 "what nothing beats", "error of o", "extrapolated"):  # fmt: skip
        assert said in text


def test_what_is_far_from_exact_enough_is_shown_where_nothing_else_is() -> None:
    goal, far, further, good = Goal("layer-output", 5e-3), judged(2, 0.2), judged(1, 9), judged(3, 1e-3)
    for some, shown in (((further, far, good), ["1.00e-03"]), ((further, far), ["2.00e-01"]), ((), [])):
        made = tables._front(Choice("fp16", 64, None, None, some, 3, 3, ()), goal)
        assert [*made.columns[3].cells] == shown


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--measure", "snrr"), "--measure: no 'snrr'; did you mean 'snr'?"),
        (("--measure", "snr"), "--bound: give one"),
        (("--algorithms", "mxx"), "--algorithms: tri-inverse has no 'mxx'"),
        (("--dtype", "fp17"), "--dtype"), (("--chunk", "0"), "--chunk"), (("--chunk", "a"), "--chunk"),
        (("--chunk", "33"), "recommend: no inverse can be had"), (("--bound", "nan"), "--bound"),
        (("--layer-dtype", "fp32"), "--layer-dtype: no 'fp32'"), (("--decay", "none"), "--decay"),
    ],
)  # fmt: skip
def test_mistakes(cli, more: tuple[str, ...], said: str) -> None:
    failed = cli(*SMALL, *more)
    assert failed.code == 2 and said in failed.err and failed.err.count("\n") == 1


def test_a_model_has_its_own_sizes(cli) -> None:
    failed = cli("recommend", "qwen3.5-9b", "--heads", "4")
    assert failed.code == 2 and "--heads: the sizes are those of qwen3.5-9b" in failed.err
