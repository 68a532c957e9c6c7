"""The study of accuracy, benchmarks/accuracy: its inputs, its figures, its file, and the effects it shows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

STUDY = Path(__file__).parent.parent / "benchmarks" / "accuracy"
sys.path.insert(0, str(STUDY))

import inputs  # noqa: E402
import points  # noqa: E402
import tables  # noqa: E402
from points import Point  # noqa: E402


def snr(T, truth):
    return -20 * np.log10(np.linalg.norm(T - truth) / np.linalg.norm(truth))


@pytest.mark.parametrize("chunk", [16, 64, 128])
def test_the_hard_sets_are_what_they_are_called(chunk):
    sets = {one.name: one.L for one in inputs.stack(chunk, ()).sets}
    assert ("row sums 37.3" in sets) == (chunk > 38)
    one = np.eye(chunk)
    np.testing.assert_allclose(np.linalg.inv(one + sets["all ones"]), [one - np.eye(chunk, k=-1)], atol=1e-12)
    for name, L in sets.items():
        assert np.abs(np.triu(L)).max() == 0 and np.abs(L).max() <= 1, name
    row_sums = np.abs(sets.get("row sums 37.3", np.full((1, 1, 1), 37.3))).sum(-1).max(-1)
    np.testing.assert_allclose(row_sums, 37.3)
    assert (
        np.abs(sets["keys 0.99"][:, 1:][np.tri(chunk - 1, chunk, dtype=bool)[None].repeat(4, 0)]).min() > 0.95
    )
    first = (chunk - min(20, chunk - 4)) // 2
    np.testing.assert_allclose(np.diagonal(sets["run of 20"], -1, 1, 2)[:, first : first + 3], 0.9)


def test_figures_are_those_of_the_truncated_series():
    """Without the mask T is the series of N S terms; numpy sums it and inverts."""
    point = Point("keys", "fp64", 64, order=3, steps=4, mask=False, keys=0.3)
    (found,) = points.figures(point, ()).values()
    L = inputs.drawn(64, 0.3).L
    series = sum(np.linalg.matrix_power(-L, n) for n in range(12))
    truth = np.linalg.inv(np.eye(64) + L)
    worst = min(snr(*pair) for pair in zip(series, truth, strict=True))
    assert found["worst_snr_db"] == pytest.approx(worst, abs=0.1)
    assert found["error"] == pytest.approx(np.linalg.norm(series - truth) / np.linalg.norm(truth), rel=1e-3)
    assert (found["samples"], found["nonfinite"]) == (64, 0)
    assert found["worst_output"] > found["output"] > found["error"] / 100


def test_figures_do_not_depend_on_what_was_computed_before():
    """Kernels of one format share what they have in common, those of another take nothing of it."""

    def run(*asked):
        points._repeated.cache_clear()
        return [
            points.figures(Point("run", dtype, 64, order=3, steps=steps, mask=mask, run=20), ())
            for dtype, steps, mask in asked
        ]

    asked = [("fp16", 7, True), ("fp16", 8, True), ("int8", 8, True), ("fp16", 8, False)]
    assert run(*asked) == [run(one)[0] for one in asked]


def test_what_is_exact_counts_in_the_mean_at_the_resolution_of_float64():
    point = Point("run", "fp64", 64, "forward-substitution", run=0)
    (found,) = points.figures(point, ()).values()
    assert found["snr_db"] == found["worst_snr_db"] == pytest.approx(319.09, abs=0.01)


def worst(dtype, order, steps, mask, **where):
    (found,) = points.figures(
        Point(*where.pop("on"), dtype, 64, order=order, steps=steps, mask=mask, **where), ()
    ).values()
    return found["worst_snr_db"]


@pytest.mark.parametrize("dtype", ["fp64", "fp16"])
def test_where_tokens_repeat_one_another_the_paper_s_effects_show(dtype):
    """N = 3 alone is poor; S = 8 repairs little, in fp16 as its terms cancel; with the mask it is good."""
    found = {
        (steps, mask): worst(dtype, 3, steps, mask, on=("run",), run=20)
        for steps, mask in ((1, False), (8, False), (8, True))
    }
    assert found[1, False] < -15
    assert found[8, False] < 15
    assert found[8, True] > 75


def test_where_keys_resemble_each_other_a_little_the_mask_costs_what_it_saves_where_they_do_much():
    def gain(keys):
        return worst("fp64", 3, 8, True, on=("keys",), keys=keys) - worst(
            "fp64", 3, 8, False, on=("keys",), keys=keys
        )

    assert gain(0.2) < -50 and gain(0.3) < 0 and gain(0.5) > 30


def test_n_4_leaves_int16_where_n_3_does_not():
    def lost(order, name):
        point = Point("range", "int16", 64, order=order, steps=8, mask=True, inputs=name)
        return sum(seen["lost"] for seen in points.figures(point, ()).values())

    for name in ("all ones", "keys 0.99"):
        assert lost(3, name) == 0 < lost(4, name)


@pytest.mark.parametrize("form", [points.INT8[1], points.INT16[1]])
def test_a_scale_per_tile_helps_mxr_in_integers_as_far_as_it_is_finer(form):
    """Steps of 2^-6 instead of 2^-5, and of 2^-14 instead of 2^-10: 6 and 24 dB, less what fp16 takes."""

    def worst(**scaling):
        point = Point("run", form.dtype, 64, "mxr:textbook", run=0, **scaling)
        (found,) = points.figures(point, ()).values()
        return found["worst_snr_db"]

    gain = worst(scaling="per-tile") - worst()
    assert gain == pytest.approx(6 if form.dtype == "int8" else 24, abs=3)


def test_of_the_grid_only_what_is_looked_for_is_needed():
    """The smallest S from which on all suffice; S = 8 is always there, and at C = 64 every S."""

    def row(chunk, steps):
        return Point("grid", "fp16", chunk, order=3, steps=steps, mask=True)

    def found(error):
        return {name: {"worst_output": error} for name in points.DRAWN}

    known = {row(32, 12): found(1e-3), row(32, 11): found(6e-3), row(32, 8): found(1.0)}
    needed = [steps for steps in range(1, 13) if points.needed(row(32, steps), known)]
    assert needed == [8, 11, 12]
    known[Point("inverse", "fp16", 32, "forward-substitution")] = found(4e-3)  # twice that is allowed, then
    assert points.needed(row(32, 10), known) and not points.needed(row(32, 9), known)
    assert all(points.needed(row(64, steps), known) for steps in (1, 8, 16))


def test_every_table_is_made_of_the_points_that_are_needed():
    """Of figures that suffice once N S reaches C, the smallest S that suffices is C / N."""
    names = [one.name for one in inputs.stack(64, ()).sets]
    of = {"keys": ["one"], "run": ["one"], "range": ["store T", "I + A"], "long": ["layer", "floor"]}

    def figures(point):
        o = 1e-4 if (point.order or 16) * (point.steps or 16) >= point.chunk else 1.0
        what = ("snr_db", "worst_snr_db", "output", "state", "worst_state", "max_abs", "lost")
        return {name: dict.fromkeys(what, 1.0) | {"worst_output": o} for name in of.get(point.part, names)}

    known = {}
    for point in points.points():
        if points.needed(point, known):
            known[point] = figures(point)
    assert len(known) < len(points.points())
    shown = {name: list(make(known)) for name, make in tables.sections(known).items()}
    assert set(shown) == set(tables.TABLES)
    rows = [row.strip("| ").split(" | ") for row in shown["suffices"][2:]]
    assert len(rows) == len(points.CHUNKS) * len(points.FORMATS)
    for chunk, _, _, *cells in rows:
        least = [-(-int(chunk) // order) for order in points.ORDERS]
        assert cells == 2 * [f"{s} / {s}" if s <= 12 else "- / -" for s in least]
    assert len(shown["remedies"]) == 2 + 10 + 11


def test_no_start_of_three_terms_is_worse_than_the_bound():
    for L in (np.tril(np.ones((64, 64)), -1), np.tril(-np.ones((64, 64)), -1)):
        start = np.eye(64) - L + L @ L
        assert snr(start, np.linalg.inv(np.eye(64) + L)) > tables.worst_start(64) > -44


def test_a_run_that_was_killed_goes_on_where_it_was(tmp_path):
    path = tmp_path / "figures.jsonl"
    store = points.Store(path)
    first, second = (Point("run", "fp64", 64, "mxr", run=run) for run in (0, 4))
    store.add(first, {"run of 20": {"snr_db": float("inf"), "samples": 4}})
    with path.open("a") as file:
        file.write("\n" + json.dumps({"point": {"part": "run"}})[:-5])  # it died while it wrote
    again = points.Store(path)
    assert again.known == {first: {"run of 20": {"snr_db": float("inf"), "samples": 4}}}
    again.add(second, {})
    assert set(points.Store(path).known) == {first, second}


def test_an_algorithm_that_takes_no_such_chunk_has_no_figures():
    assert points.figures(Point("inverse", "fp16", 64, "blocked-substitution:tilelang", block=32), ()) == {}


def test_the_command_computes_what_is_missing_and_refreshes_the_page(tmp_path):
    page = tmp_path / "page.md"
    around = "before\n<!-- table run -->\n{}<!-- end -->\n<!-- table grid -->\nkept\n<!-- end -->\n"
    page.write_text(around.format("old\n"))
    command = [sys.executable, str(STUDY), "-o", str(tmp_path / "a.jsonl"), "--parts", "run"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "72 of 72 points" in shown.stderr
    assert shown.stdout.count("\n| ") == 1 + len(points.RUNS)
    again = subprocess.run([*command, "--page", str(page)], capture_output=True, text=True, check=True)
    assert again.stderr == ""
    table = shown.stdout.partition("run:\n\n")[2]
    assert page.read_text() == around.format(table)
