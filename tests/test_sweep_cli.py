"""The commands sweep and results, as people and scripts use them."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pandas as pd
import pytest

from algorithms import REGISTRY
from npusim import study
from npusim.problem import Options, Problem
from npusim.profiles import load_machine
from npusim.settings import EngineSettings, NumericsSettings

SWEEP = ("sweep", "tri-inverse", "--algorithm", "masked-neumann", "--profile", "toy", "--chunk", "16,32",
         "--matrices", "32", "--steps", "1:3", "--order", "2", "--samples", "4", "--jobs", "1")  # fmt: skip


@pytest.fixture
def store(cli, tmp_path: Path) -> str:
    path = str(tmp_path / "s.db")
    assert cli(*SWEEP, "--mask", "yes,no", "--store", path).code == 0
    return path


def rows(cli, store: str, *more: object) -> list[dict]:
    found = cli("results", store, *more, "--json")
    assert found.code == 0, found.err
    return json.loads(found.out)["rows"]


def test_json_says_what_became_of_the_points(cli, tmp_path: Path) -> None:
    path = str(tmp_path / "s.db")
    for computed in (6, 0):
        found = json.loads(cli(*SWEEP, "--store", path, "--json").out)
        assert {name: found[name] for name in ("points", "done", "skipped", "failed", "computed")} == {
            "points": 6, "done": 6, "skipped": 0, "failed": 0, "computed": computed
        }  # fmt: skip
        assert found["store"] == path and found["settings"]["steps"] == [1, 2, 3]


def test_text_names_what_is_swept_and_shows_the_front(cli, tmp_path: Path) -> None:
    path = str(tmp_path / "s.db")
    text = cli(*SWEEP, "--dtype", "fp16,fp64", "--store", path).out
    words = " ".join(text.split())
    assert "steps 1, 2, 3" in words and "points 12, on this process, kept in" in words
    assert "6 of 12 points done, 6 skipped; 12 computed now" in words
    assert "no other point is better in time us and rel. error" in words
    assert f"npusim results {path}" in words.replace(" ", "") or path in text.replace("\n", "")


def test_a_spec_file_and_options_beside_it(cli, tmp_path: Path) -> None:
    spec, path = tmp_path / "spec.yaml", str(tmp_path / "s.db")
    spec.write_text("kernel: tri-inverse\nprofile: toy\nmatrices: 8\nchunk: [16, 32]\nnumerics: false\n")
    found = json.loads(cli("sweep", str(spec), "--store", path, "--jobs", 1, "--chunk", 64, "--json").out)
    assert (found["points"], found["settings"]["chunk"]) == (1, [64])


def test_figures_are_those_of_a_run(cli, store: str) -> None:
    found = rows(cli, store, "--where", "mask=no", "--where", "chunk=32", "--where", "steps=3")
    (row,) = found
    options = Options(algorithm="masked-neumann", order=2, steps=3, mask=False)
    alone = study.run(
        REGISTRY["tri-inverse"], Problem(chunk=32, matrices=32), options, load_machine("toy"),
        NumericsSettings(samples=4), EngineSettings(what_if=False),
    )  # fmt: skip
    assert alone.report and alone.numerics
    assert (row["time_us"], row["relative_error"]) == (
        alone.report.task_us, alone.numerics.errors.relative_error,
    )  # fmt: skip


def test_filtering_sorting_grouping(cli, store: str) -> None:
    assert len(rows(cli, store)) == 12
    times = [row["time_us"] for row in rows(cli, store, "--sort", "-time_us")]
    assert times == sorted(times, reverse=True)
    best = rows(cli, store, "--group", "chunk", "--sort", "time_us")
    assert {row["chunk"]: row["points"] for row in best} == {16: 6, 32: 6}
    for row in best:
        own = [r["time_us"] for r in rows(cli, store, "--where", f"chunk={row['chunk']}")]
        assert row["time_us"] == min(own)
    assert len(rows(cli, store, "--top", 3)) == 3
    assert set(rows(cli, store, "--columns", "chunk,time_us")[0]) == {"chunk", "time_us"}
    front = rows(cli, store, "--pareto", "time_us,relative_error")
    assert 0 < len(front) < 12


def test_a_cost_ranks(cli, store: str) -> None:
    machine = load_machine("toy")
    wanted = 3 * machine.core.groups.value + 0.5 * machine.levels["UB"].bytes.value / 1024
    found = rows(cli, store, "--cost", "cores*a + ub_kib*b, a=3, b=0.5", "--sort", "cost")
    assert {row["cost"] for row in found} == {wanted}
    found = rows(cli, store, "--cost", "time_us * cores", "--sort", "cost")
    assert [row["cost"] for row in found] == sorted(r["time_us"] * machine.core.groups.value for r in found)


def test_sweeps_over_numbers_of_a_profile_rank_by_cost(cli, tmp_path: Path) -> None:
    path = str(tmp_path / "s.db")
    more = ("--set", "memory.l2_gb_per_s=100:300:100", "--no-numerics", "--store", path)
    text = cli("sweep", "tri-inverse", "--profile", "toy", "--matrices", 8, "--chunk", 16, "--jobs", 1,
               *more, "--cost", "l2_gb_per_s / 100").out  # fmt: skip
    assert "no other point is better in cost and time us" in " ".join(text.split())
    found = rows(cli, path, "--cost", "l2_gb_per_s / 100", "--sort", "cost")
    assert [(row["set.memory.l2_gb_per_s"], row["cost"]) for row in found] == [(100, 1), (200, 2), (300, 3)]


def test_export(cli, store: str, tmp_path: Path) -> None:
    for name, read in (("t.csv", pd.read_csv), ("t.parquet", pd.read_parquet)):
        target = tmp_path / name
        assert cli("results", store, "--export", target).code == 0
        assert len(read(target)) == 12


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--where", "chnk=1"), "--where: no column 'chnk'; did you mean 'chunk'"),
        (("--where", "chunk"), "--where: 'chunk' is no condition"),
        (("--sort", "tim"), "--sort: no column 'tim'"), (("--group", "x"), "--group: no column 'x'"),
        (("--pareto", "dtype"), "--pareto: dtype holds no numbers"), (("--columns", "a,,b"), "--columns"),
        (("--sort", ""), "--sort: a name is empty"), (("--group", ""), "--group: a name is empty"),
        (("--status", "doen"), "--status: no 'doen'; did you mean 'done'"),
        (("--status", "failed"), "has no rows of --status failed"),
        (("--cost", "cores*"), "expression"), (("--cost", "coresx"), "no number 'coresx'"),
        (("--export", "x.xlsx"), "--export: x.xlsx: must end in"),
    ],
)  # fmt: skip
def test_mistakes_in_results(cli, store: str, more: tuple[str, ...], said: str) -> None:
    failed = cli("results", store, *more)
    assert failed.code == 2 and said in failed.err and failed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--order", "6:2"), "--order: range 6:2 is empty"),
        (("--shard", "3/2"), "--shard: '3/2' is no part"),
        (("--mask", "maybe"), "--mask"), (("--cluster", "x", "--jobs", "2"), "--jobs"),
        (("--store", "none/s.db"), "folder none does not exist"), (("--cost", "1+"), "expression"),
        (("--dtype", "fp64"), "none of 6 points could be done"), (("--output", "x.npz"), "--output"),
    ],
)  # fmt: skip
def test_mistakes_in_sweeps(cli, tmp_path: Path, monkeypatch, more: tuple[str, ...], said: str) -> None:
    monkeypatch.chdir(tmp_path)
    failed = cli(*SWEEP, *more)
    assert failed.code == 2 and said in failed.err and failed.err.count("\n") == 1


def test_a_damaged_store_is_one_error(cli, tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    path.write_bytes(b"SQLite format 3\x00" + b"x" * 5000)
    for arguments in (("results", path), (*SWEEP, "--store", path)):
        failed = cli(*arguments)
        assert failed.code == 2 and str(path) in failed.err and failed.err.count("\n") == 1
    assert not sqlite3.connect(":memory:").in_transaction
