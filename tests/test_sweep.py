"""Sweeps: their points, what is kept, and that being killed costs nothing but time."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms import REGISTRY
from npusim import study, workers
from npusim.errors import InputError, NpusimError
from npusim.settings import EngineSettings
from npusim.sweep import evaluate as evaluate_module
from npusim.sweep import run as running
from npusim.sweep import table
from npusim.sweep.point import Point
from npusim.sweep.ranges import values
from npusim.sweep.spec import Machines, Skip, Spec
from npusim.sweep.store import Row, Store
from npusim.workers import Workers

NAME = "algorithms:REGISTRY"
ENTRY = REGISTRY["tri-inverse"]
SMALL: dict[str, Any] = {"chunk": "16,32", "matrices": "64", "samples": "4", "algorithm": "masked-neumann"}


def swept(store: Path, given: dict[str, Any], **more: Any) -> running.Summary:
    with Store(str(store)) as kept, Workers(more.pop("jobs", 1), more.pop("cluster", None)) as workers:
        plan = running.plan(Spec.of("tri-inverse", given), NAME, more.pop("shard", (1, 1)))
        return running.run(plan, NAME, kept, workers, **more)


def rows(store: Path) -> list[Row]:
    with Store(str(store), write=False) as kept:
        return kept.rows()


# --- ranges -------------------------------------------------------------------------------------------


@given(st.integers(-50, 50), st.integers(0, 60), st.integers(1, 9))
def test_ranges_include_both_ends(first: int, more: int, step: int) -> None:
    found = values("--order", f"{first}:{first + more}:{step}")
    assert [int(v) for v in found] == list(range(first, first + more + 1, step))


@given(st.integers(1, 40), st.integers(1, 20))
def test_ranges_of_decimals_are_exact(count: int, tenths: int) -> None:
    step = Decimal(tenths) / 10
    found = values("--set x", f"0.1:{Decimal('0.1') + count * step}:{step}")
    assert [Decimal(v) for v in found] == [Decimal("0.1") + n * step for n in range(count + 1)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("6:2", "is empty"), ("1:5:0", "is empty"), ("1:2:3:4", "is no range"), ("a:b", "is no range"),
        ("1,,2", "a value is empty"), ("", "a value is empty"), ("3,3", "given twice"), ([], "has no values"),
        ("0:1e9", "more than"), ("0:1e9999", "more than"), ("0:1e999999:1e-999999", "more than"),
        ("0:99999,100000", "more than"), ([1, [2]], "a list or a map"), ({"a": 1}, "a list or a map"),
        ("1:nan", "is no range"),
    ],
)  # fmt: skip
def test_what_is_no_range_is_named(text: object, said: str) -> None:
    with pytest.raises(InputError, match=f"--order.*{said}"):
        values("--order", text)


# --- points -------------------------------------------------------------------------------------------


def test_points_are_the_product_of_all_values() -> None:
    given = {**SMALL, "order": "2:4", "steps": "1,2", "set": ["core.cube.startup_cycles=6,20"]}
    found = list(Spec.of("tri-inverse", given).points(ENTRY, Machines()))
    assert len(found) == len({p for p in found if isinstance(p, Point)}) == 2 * 3 * 2 * 2
    assert {p.machine.set for p in found if isinstance(p, Point)} == {
        ("core.cube.startup_cycles=6.0",), ("core.cube.startup_cycles=20.0",)
    }  # fmt: skip


def test_an_algorithm_that_takes_no_order_is_one_point() -> None:
    given = {"algorithm": "masked-neumann,mxr", "order": "2:5"}
    found = list(Spec.of("tri-inverse", given).points(ENTRY, Machines()))
    assert len(found) == 4 + 1


def test_combinations_that_are_no_problem_are_skipped_with_the_reason() -> None:
    spec = Spec.of("tri-inverse", {"heads": "32,48", "key_heads": "16,32"})
    found = list(spec.points(ENTRY, Machines()))
    (skip,) = [one for one in found if isinstance(one, Skip)]
    assert (skip.settings["heads"], skip.settings["key_heads"]) == (48, 32)
    assert "no multiple" in skip.reason


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"order": "2:600"}, "--order: must be <= 256"),
        ({"dtype": "fp16,fp17"}, "--dtype: unknown dtype 'fp17'"),
        ({"algorithm": "mxr", "order": "2:3"}, "--order: none of mxr takes it"),
        ({"algorithm": "mxx"}, "--algorithm: tri-inverse has no 'mxx'"),
        ({"m": "16"}, "--m: tri-inverse has no such size"),
        ({"matrices": "4", "seq_len": "128"}, "--seq-len: the problem is given by --matrices"),
        ({"set": ["core.cube.startup=1"]}, "--set: ascend-910b2: core.cube.startup: no such number"),
        ({"set": ["core.cube.startup_cycles"]}, "write path.to.field=VALUES"),
        ({"set": ["clock_ghz=fast"]}, "no number"), ({"set": ["clock_ghz=nan,1"]}, "no number"),
        ({"profile": "ascend-910b9"}, "ascend-910b9"),
        ({"timing": False, "numerics": False}, "leave nothing to do"),
        ({"numerics": False, "seed": "1,2"}, "--seed: nothing is computed"),
        ({"chunk": "1:200000"}, "more than 100,000"),
    ],
)  # fmt: skip
def test_mistakes_end_a_sweep_before_it_begins(given: dict[str, Any], said: str) -> None:
    with pytest.raises(NpusimError) as caught:
        running.plan(Spec.of("tri-inverse", given), NAME)
    assert said in str(caught.value)


def test_a_file_says_the_same_as_the_options(tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(
        "kernel: tri-inverse\nalgorithm: masked-neumann\nchunk: [16, 32]\nmask: [yes, 'no']\nsteps: 1:3\n"
        "set:\n  core.cube.startup_cycles: [6, 20]\nkey-correlation: 0.5\n"
    )
    options = {
        "algorithm": "masked-neumann", "chunk": "16,32", "mask": "yes,no", "steps": "1:3",
        "key_correlation": "0.5", "set": ["core.cube.startup_cycles=6,20"],
    }  # fmt: skip
    one, other = Spec.read(str(file), {}), Spec.of("tri-inverse", options)
    assert one.fields == other.fields and one.numbers == other.numbers
    assert Spec.read(str(file), {"chunk": "64"}).fields["chunk"] == [64]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kernel: tri-inverse\nchunks: 16\n", "chunks: unknown field; did you mean 'chunk'"),
        ("kernel: tri-inverse\nchunk: []\n", "chunk: has no values"),
        ("kernel: tri-inverse\nchunk: -1\n", "chunk: must be > 0"),
        ("kernel: tri-inverse\nchunk:\n", "chunk: is empty"),
        ("kernel: tri-inverse\norder: true\n", "order: must be a number"),
        ("chunk: 16\n", "kernel: missing"),
        ("- 16\n", "must map names"),
        ("kernel: tri-inverse\nchunk: 16\nchunk: 32\n", "given twice"),
        ("kernel: [tri-inverse\n", "YAML"),
        ("kernel: tri-inverse\noutput: T.npz\n", "output: unknown field"),
        ("kernel: tri-inverse\nset: 3\n", "set 3"),
    ],
)
def test_mistakes_in_a_file_name_it_and_the_field(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        Spec.read(str(file), {})
    assert str(caught.value).startswith(str(file)) and said in str(caught.value)


# --- keys ---------------------------------------------------------------------------------------------


def key(given: dict[str, Any]) -> str:
    (one,) = running.plan(Spec.of("tri-inverse", given), NAME).points
    return one.key


def test_a_key_changes_with_all_that_a_result_depends_on(tmp_path: Path, monkeypatch: Any) -> None:
    base: dict[str, Any] = {"chunk": "32", "matrices": "8", "algorithm": "masked-neumann"}
    changes: list[dict[str, Any]] = [
        {"chunk": "16"}, {"dtype": "bf16"}, {"order": "2"}, {"mask": "no"}, {"profile": "toy"},
        {"cores": "2"},
        {"set": ["clock_ghz=1"]}, {"ideal": "flags"}, {"seed": "1"}, {"samples": "3"},
        {"numerics": False}, {"timing": False}, {"exact": "yes"}, {"gates": "qwen3-next"},
    ]  # fmt: skip
    keys = [key(base), *(key({**base, **change}) for change in changes)]
    assert len(set(keys)) == len(keys)
    assert key(dict(base)) == keys[0]
    file = tmp_path / "in.npz"
    own: dict[str, Any] = {"inputs": str(file), "algorithm": "masked-neumann"}
    for seed in (1, 2):
        np.savez(file, L=np.tril(np.random.default_rng(seed).random((2, 16, 16)), -1))
        keys.append(key(own))
    monkeypatch.setattr(running, "code_digest", lambda: "other code")
    keys.append(key(base))
    assert len(set(keys)) == len(keys)


def test_a_key_does_not_change_with_what_says_nothing() -> None:
    base = {"chunk": "32", "matrices": "8"}
    assert key(base) == key({**base, "seed": "0"})
    given = {"numerics": False, "tolerance": "1e-9"}
    assert key({**base, "numerics": False}) == key({**base, **given})


def test_beside_a_file_it_matters_what_was_given(tmp_path: Path) -> None:
    """A chunk that is given is refused beside L, the same chunk by default is not."""
    file = tmp_path / "L.npz"
    np.savez(file, L=np.tril(np.random.default_rng(0).random((4, 16, 16)) / 4, -1))
    given: dict[str, Any] = {"inputs": str(file), "profile": "toy", "algorithm": "mxr"}
    with pytest.raises(InputError, match="none of 1 points"):
        swept(tmp_path / "s.db", {**given, "chunk": "64"})
    assert swept(tmp_path / "s.db", given).done == 1
    (row,) = [one for one in rows(tmp_path / "s.db") if one.status == "done"]
    assert (row.built["chunk"], row.built["matrices"]) == (16, 4)
    same = running.plan(Spec.of("tri-inverse", {**given, "gates": "qwen3.5,qwen3-next"}), NAME)
    assert len({one.key for one in same.points}) == len(same.points)


def test_a_file_that_is_gone_is_no_fault_of_the_point(tmp_path: Path) -> None:
    file = tmp_path / "L.npz"
    np.savez(file, L=np.tril(np.random.default_rng(0).random((4, 16, 16)) / 4, -1))
    given: dict[str, Any] = {"inputs": str(file), "profile": "toy", "algorithm": "mxr"}
    plan, data = running.plan(Spec.of("tri-inverse", given), NAME), file.read_bytes()
    file.unlink()
    with Store(str(tmp_path / "s.db")) as store, Workers() as workers:
        with pytest.raises(InputError, match="cannot be read"):
            running.run(plan, NAME, store, workers)
        file.write_bytes(data)
        assert running.run(plan, NAME, store, workers).done == 1


def test_a_users_own_file_is_part_of_the_key(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    text = Path(__file__).parent.parent.joinpath("docs/your-kernel.md").read_text()
    code = text.partition("```python my_kernel.py\n")[2].partition("```")[0]
    name = code.partition("\ndef ")[2].partition("(")[0]
    keys = []
    for more in ("", "# changed\n"):
        Path("own.py").write_text(code + more)
        keys += [one.key for one in running.plan(Spec.of(f"own.py:{name}", {}), NAME).points]
    assert len(keys) == 2 and keys[0] != keys[1]


# --- results ------------------------------------------------------------------------------------------


def test_results_are_those_of_single_runs(tmp_path: Path) -> None:
    given = {**SMALL, "order": "2,3", "steps": "1,4", "dtype": "fp16,int8"}
    summary = swept(tmp_path / "s.db", given)
    assert (summary.points, summary.done, summary.computed) == (16, 16, 16)
    plan = running.plan(Spec.of("tri-inverse", given), NAME)
    found = {row.key: row for row in rows(tmp_path / "s.db")}
    for one in plan.points:
        assert one.point
        p, row = one.point, found[one.key]
        alone = study.run(ENTRY, p.problem, p.options, p.machine.machine(), p.numerics, EngineSettings())
        assert alone.report and alone.numerics and alone.engine
        assert row.result["time_us"] == alone.report.task_us
        assert row.result["core_us"] == alone.report.core_us
        assert row.result["event_us"] == alone.report.event_us
        assert (row.result["bound"], row.result["unit"]) == (alone.report.bound, alone.report.dominant_unit)
        assert row.result["utilisation"] == alone.report.units[row.result["unit"]].utilisation
        errors = alone.numerics.errors
        for name in ("relative_error", "worst_relative_error", "snr_db", "worst_snr_db", "nonfinite"):
            assert row.result[name] == getattr(errors, name)
        assert row.result["saturated"] == alone.numerics.computed.execution.saturated
        assert row.built["order"] == p.options.order


def test_a_repeated_sweep_computes_nothing_and_a_larger_one_what_is_new(tmp_path: Path) -> None:
    store = tmp_path / "s.db"
    assert swept(store, {**SMALL, "order": "2,3"}).computed == 4
    before = rows(store)
    assert swept(store, {**SMALL, "order": "2,3"}).computed == 0
    assert rows(store) == before
    assert swept(store, {**SMALL, "order": "2:5"}).computed == 4


def test_points_that_a_machine_cannot_do_are_skipped_and_stay_so(tmp_path: Path) -> None:
    given = {**SMALL, "dtype": "fp16,int16"}
    for computed in (4, 0):
        summary = swept(tmp_path / "s.db", given)
        assert (summary.done, summary.skipped, summary.computed) == (2, 2, computed)
        ((reason, count),) = summary.reasons.items()
        assert "no int16" in reason and count == 2
    with pytest.raises(InputError, match=r"none of 2 points could be done.*no int16"):
        swept(tmp_path / "t.db", {**SMALL, "dtype": "int16"})


def test_shards_together_are_the_whole(tmp_path: Path) -> None:
    given = {**SMALL, "order": "2:5", "steps": "1:5", "timing": False}
    whole = swept(tmp_path / "whole.db", given)
    parts = [swept(tmp_path / "parts.db", given, shard=(i, 3)) for i in (1, 2, 3)]
    assert [one.computed for one in parts] == [one.points for one in parts]
    assert sum(one.points for one in parts) == whole.points == 40
    assert rows(tmp_path / "parts.db") == rows(tmp_path / "whole.db")


def test_other_processes_give_the_same_table(tmp_path: Path) -> None:
    given = {**SMALL, "order": "2:3", "steps": "1:6"}
    seen: list[tuple[int, int]] = []
    swept(tmp_path / "two.db", given, jobs=2, progress=lambda *told: seen.append(told))
    swept(tmp_path / "one.db", given)
    assert rows(tmp_path / "two.db") == rows(tmp_path / "one.db")
    assert seen[0] == (0, 24) and seen[-1] == (24, 24)


def test_a_shard_may_have_skipped_points_alone(tmp_path: Path) -> None:
    given = {**SMALL, "dtype": "fp16,int16"}
    parts = [swept(tmp_path / "s.db", given, shard=(i, 4)) for i in (1, 2, 3, 4)]
    assert {(one.done, one.skipped) for one in parts} == {(1, 0), (0, 1)}
    assert [one.known for one in parts] == [0, 0, 0, 0]


# --- being killed -------------------------------------------------------------------------------------

MANY = ["--chunk", "16,32", "--matrices", "64", "--samples", "4", "--order", "2:7", "--steps", "1:6",
        "--algorithm", "masked-neumann"]  # fmt: skip
POINTS = 2 * 6 * 6
MANY_GIVEN = {n.removeprefix("--"): v for n, v in zip(MANY[::2], MANY[1::2], strict=True)}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    store = tmp_path_factory.mktemp("sweep") / "s.db"
    swept(store, MANY_GIVEN)
    return rows(store)


@pytest.fixture
def begun(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A sweep that is under way in two worker processes."""
    store = tmp_path / "s.db"
    command = [sys.executable, "-m", "npusim", "sweep", "tri-inverse", *MANY, "--store", str(store)]
    with subprocess.Popen([*command, "--jobs", "2", "--json"], stdout=subprocess.PIPE, text=True) as process:
        try:
            until(lambda: store.exists() and counted(store) >= 12)
            yield process, store
        finally:
            process.kill()


def counted(store: Path) -> int:
    try:
        with sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True, timeout=10) as connection:
            return int(connection.execute("SELECT count(*) FROM point").fetchone()[0])
    except sqlite3.OperationalError:  # not created yet
        return 0


def until(done: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    children = psutil.Process(process.pid).children()
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def test_a_killed_sweep_goes_on_where_it_was(
    begun: tuple[subprocess.Popen[str], Path], undisturbed: list[Row]
) -> None:
    process, store = begun
    workers = workers_of(process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = counted(store)
    assert 12 <= kept < POINTS
    again = swept(store, MANY_GIVEN, jobs=2)
    assert again.computed == POINTS - kept and again.done == POINTS
    assert rows(store) == undisturbed
    until(lambda: not any(worker.is_running() for worker in workers))  # which have nobody to work for


def test_a_killed_worker_costs_what_it_was_at_work_on(
    begun: tuple[subprocess.Popen[str], Path], undisturbed: list[Row]
) -> None:
    process, store = begun
    workers_of(process)[0].kill()
    assert process.stdout
    found = json.loads(process.stdout.read())
    assert process.wait() == 0
    assert found["points"] == found["done"] == found["computed"] == POINTS
    assert rows(store) == undisturbed


def test_ctrl_c_says_what_is_kept(tmp_path: Path) -> None:
    store = tmp_path / "s.db"
    more = [*MANY, "--seed", "0:29"]  # enough that it is still at work
    command = [sys.executable, "-m", "npusim", "sweep", "tri-inverse", *more, "--store", str(store)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # also where the tests do not hear it
    with subprocess.Popen([*command, "--jobs", "2"], text=True, preexec_fn=heard, **pipes) as process:  # type: ignore[call-overload]
        until(lambda: store.exists() and counted(store) >= 12)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "of 2,160 points are in" in said and "Traceback" not in said
    assert 12 <= counted(store) < 30 * POINTS


def test_two_sweeps_may_share_a_store(tmp_path: Path, undisturbed: list[Row]) -> None:
    store = tmp_path / "s.db"
    command = [sys.executable, "-m", "npusim", "sweep", "tri-inverse", *MANY, "--store", str(store), "--json"]
    both = [subprocess.Popen([*command, "--jobs", "1"], stdout=subprocess.PIPE, text=True) for _ in "ab"]
    for process in both:
        out, _ = process.communicate(timeout=300)
        assert process.returncode == 0 and json.loads(out)["done"] == POINTS
    assert rows(store) == undisturbed


def test_a_cluster_gives_the_same_table_though_a_worker_is_killed(
    tmp_path: Path, undisturbed: list[Row]
) -> None:
    distributed = pytest.importorskip("distributed", reason="needs Dask: pip install 'npusim[cluster]'")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, protocol="tcp", dashboard_address=None
    ) as cluster:
        killed: list[int] = []

        def tell(done: int, of: int) -> None:
            if done >= 24 and not killed:
                victim = next(iter(cluster.workers.values())).pid
                killed.append(victim)
                os.kill(victim, signal.SIGKILL)

        assert cluster.scheduler_address.startswith("tcp://")
        store = tmp_path / "s.db"
        found = swept(store, MANY_GIVEN, cluster=cluster.scheduler_address, progress=tell)
    assert killed and found.done == found.computed == POINTS
    assert rows(store) == undisturbed


def test_no_cluster_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="needs Dask: pip install 'npusim[cluster]'")
    monkeypatch.setattr(workers, "PATIENCE", "1s")
    for address in ("tcp://127.0.0.1:1", "nonsense://x"):
        with (
            pytest.raises(InputError, match=f"--cluster: no Dask scheduler at {address}"),
            Workers(1, address),
        ):
            pass


def _dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_workers_that_always_die_end_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "LOST", 2)
    with pytest.raises(InputError, match="ended before their time"), Workers(2) as pool:
        list(pool(_dies, [(), ()]))


def test_other_code_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(running, "code_digest", lambda: "another")
    with pytest.raises(InputError, match="another version of npusim"):
        swept(tmp_path / "s.db", SMALL)


def test_what_a_worker_finds_changed_is_refused(tmp_path: Path) -> None:
    """As a worker of a cluster may, which outlives the change of a file."""
    profile = tmp_path / "mine.yaml"
    for clock in (1.0, 2.0):
        profile.write_text("name: mine\ndescription: mine\nextends: toy\nclock_ghz:\n"
                           f"  {{value: {clock}, source: me, evidence: assumed}}\n")  # fmt: skip
        plan = running.plan(Spec.of("tri-inverse", {**SMALL, "profile": str(profile)}), NAME)
        with Store(str(tmp_path / "s.db")) as store, Workers() as workers:
            assert running.run(plan, NAME, store, workers).computed == 2
            if clock == 1.0:
                old = plan
    with Store(str(tmp_path / "t.db")) as store, Workers() as workers:
        evaluate_module._machine.cache_clear()
        with pytest.raises(InputError, match="another profile than was asked for"):
            running.run(old, NAME, store, workers)


# --- the store ----------------------------------------------------------------------------------------

ROW = Row("k", "tri-inverse", "done", {"chunk": 16}, {"order": 3}, {"time_us": 1.5, "snr_db": float("inf")})


def test_rows_come_back_as_they_were_infinities_included(tmp_path: Path) -> None:
    with Store(str(tmp_path / "s.db")) as store:
        store.add([ROW])
        assert store.rows() == [ROW] and store.known(["k", "other"]) == {"k"}


def test_what_is_done_stays_and_what_failed_is_tried_again(tmp_path: Path) -> None:
    failed = Row("f", "tri-inverse", "failed", {}, reason="does not fit into memory")
    with Store(str(tmp_path / "s.db")) as store:
        store.add([ROW, failed])
        assert store.known(["k", "f"]) == {"k"}
        store.add([Row("k", "tri-inverse", "done", {}, {}, {"time_us": 9.0})])
        store.add([Row("f", "tri-inverse", "done", {}, {}, {"time_us": 2.0})])
        assert {row.key: row.result["time_us"] for row in store.rows()} == {"k": 1.5, "f": 2.0}


def test_rows_are_written_all_or_none(tmp_path: Path) -> None:
    def some() -> Iterator[Row]:
        yield ROW
        raise RuntimeError

    with Store(str(tmp_path / "s.db")) as store:
        with pytest.raises(RuntimeError):
            store.add(some())
        store.connection.execute("CREATE TRIGGER no BEFORE INSERT ON point WHEN new.key = 'b' BEGIN "
                                 "SELECT RAISE(ABORT, 'refused'); END")  # fmt: skip
        with pytest.raises(InputError, match="refused"):
            store.add([ROW, Row("b", "tri-inverse", "done", {})])
        assert store.rows() == []


def test_a_store_of_the_first_version_is_read_and_renewed(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with Store(str(path)) as store:
        store.add([ROW])
        store.connection.execute("ALTER TABLE point DROP COLUMN files")
        store.connection.execute("PRAGMA user_version = 1")
    assert rows(path) == [ROW]
    with Store(str(path)) as store:
        assert store.rows() == [ROW]
        store.add([replace(ROW, key="other", files={"own.py": "0" * 64})])
    assert [one.files for one in rows(path)] == [{}, {"own.py": "0" * 64}]


def test_a_full_disk_is_one_error_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with Store(str(path)) as store:
        store.add([ROW])
        pages = store.connection.execute("PRAGMA page_count").fetchone()[0]
        store.connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(InputError, match=r"the disk is full.*run the sweep again"):
            store.add(Row(f"{n}", "tri-inverse", "done", {"text": "x" * 500}) for n in range(500))
    assert rows(path) == [ROW]


def test_a_newer_store_and_other_files_are_left_alone(tmp_path: Path) -> None:
    newer, other, damaged = (tmp_path / name for name in ("newer.db", "other.db", "damaged.db"))
    with Store(str(newer)) as store:
        store.add([ROW])
        store.connection.execute("PRAGMA user_version = 99")
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (x)")
    with Store(str(damaged)) as store:
        store.add(Row(f"{n}", "tri-inverse", "done", {"text": "x" * 500}) for n in range(500))
    data = bytearray(damaged.read_bytes())
    data[4096:60000] = os.urandom(60000 - 4096)
    damaged.write_bytes(data)
    text = tmp_path / "text.db"
    text.write_text("no database at all, but a text that is long enough to be taken for one" * 40)
    for file, said in (
        (newer, "newer npusim"), (other, "no store of a sweep"), (damaged, "is damaged"),
        (text, "is damaged"),
    ):  # fmt: skip
        before = file.read_bytes()
        for write in (True, False):
            with pytest.raises(InputError, match=said) as caught:
                Store(str(file), write=write)
            assert str(caught.value).startswith(str(file))
        assert file.read_bytes() == before


def test_a_store_that_may_only_be_read(tmp_path: Path) -> None:
    """As somebody who may not write there; root may write anywhere, so another process becomes nobody."""
    path = tmp_path / "s.db"
    with Store(str(path)) as store:
        store.add([ROW])
    # pytest lets nobody else into its own folders
    modes = {place: place.stat().st_mode for place in (tmp_path, *tmp_path.parents)}
    closed = [place for place, mode in modes.items() if mode & 0o005 != 0o005]
    for place in closed:
        place.chmod(modes[place] | 0o055)
    tmp_path.chmod(0o555)
    path.chmod(0o444)
    before = path.read_bytes()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if os.getuid() == 0:
                os.setuid(65534)
            with Store(str(path), write=False) as store:
                assert store.rows() == [ROW]
            with pytest.raises(InputError, match="cannot be written"):
                Store(str(path))
            code = 0
        finally:
            os._exit(code)
    failed = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    for place in (tmp_path, *closed):
        place.chmod(modes[place])
    assert not failed and path.read_bytes() == before


@pytest.mark.parametrize(("place", "said"), [("", "is a folder"), ("none/s.db", "does not exist")])
def test_a_place_where_no_store_can_be(tmp_path: Path, place: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Store(str(tmp_path / place))


# --- the table ----------------------------------------------------------------------------------------

DATA = pd.DataFrame(
    {
        "chunk": [16, 16, 32, 32], "dtype": ["fp16", "int8", "fp16", "int8"],
        "mask": [True, False, True, True],
        "time_us": [4.0, 2.0, 3.0, 1.0], "error": [0.1, 0.2, 0.05, np.nan],
    }
)  # fmt: skip


@pytest.mark.parametrize(
    ("condition", "kept"),
    [
        ("chunk=16", [0, 1]), ("chunk!=16", [2, 3]), ("dtype=fp16,int8", [0, 1, 2, 3]),
        ("dtype = int8", [1, 3]),
        ("mask=no", [1]), ("mask=true", [0, 2, 3]), ("time_us<3", [1, 3]), ("time_us>=3", [0, 2]),
        ("error<1", [0, 1, 2]), ("time-us<=2", [1, 3]), ("chunk=x", []),
    ],
)  # fmt: skip
def test_conditions(condition: str, kept: list[int]) -> None:
    assert list(table.where(DATA, [condition]).index) == kept
    assert list(table.where(DATA, ["chunk=999", condition]).index) == []


@pytest.mark.parametrize(
    ("condition", "said"),
    [("chunk", "no condition"), ("chunk=", "no condition"), ("chnk=1", "did you mean 'chunk'"),
     ("time_us<x", "no number")],
)  # fmt: skip
def test_conditions_that_are_none(condition: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        table.where(DATA, [condition])


def test_sorting_and_grouping() -> None:
    assert list(table.ordered(DATA, ["dtype", "-time_us"]).index) == [0, 2, 1, 3]
    found = table.best(table.ordered(DATA, ["time_us"]), ["chunk"])
    assert list(found.index) == [3, 1] and list(found["points"]) == [2, 2]
    assert table.ordered(DATA, ["error"]).index[-1] == 3


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=30))
def test_the_front_is_what_nothing_beats(pairs: list[tuple[int, int]]) -> None:
    found = table.pareto(pd.DataFrame(pairs, columns=["a", "b"]), ["a", "-b"])
    expected = {
        i for i, (a, b) in enumerate(pairs)
        if not any(x <= a and y >= b and (x < a or y > b) for x, y in pairs)
    }  # fmt: skip
    assert set(found.index) == expected


def test_rows_of_other_code_or_of_a_changed_profile_are_stale(tmp_path: Path, monkeypatch: Any) -> None:
    profile = tmp_path / "mine.yaml"
    number = "{{value: {}, source: me, evidence: assumed}}"
    text = f"name: mine\ndescription: mine\nextends: toy\nclock_ghz: {number}\n"
    states = []
    for clock in (1.0, 2.0):
        profile.write_text(text.format(clock))
        swept(tmp_path / "s.db", {**SMALL, "chunk": "16", "profile": str(profile)})
        machines = table.Machines()
        states.append(sorted(machines.stale(row) for row in rows(tmp_path / "s.db")))
    assert states == [[False], [False, True]]
    monkeypatch.setattr(table, "code_digest", lambda: "other")
    assert all(table.Machines().stale(row) for row in rows(tmp_path / "s.db"))
    profile.unlink()
    monkeypatch.undo()
    assert all(table.Machines().stale(row) for row in rows(tmp_path / "s.db"))


def test_rows_of_inputs_or_of_a_kernels_file_that_changed_are_stale(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    inputs, own, store = Path("L.npz"), Path("own.py"), tmp_path / "s.db"
    text = Path(__file__).parent.parent.joinpath("docs/your-kernel.md").read_text()
    own.write_text(text.partition("```python my_kernel.py\n")[2].partition("```")[0])
    name = own.read_text().partition("\ndef ")[2].partition("(")[0]
    np.savez(inputs, L=np.tril(np.random.default_rng(0).random((2, 16, 16)), -1) / 16)
    swept(store, {"inputs": "L.npz", "profile": "toy", "algorithm": "mxr"})
    plan = running.plan(Spec.of(f"own.py:{name}", {"profile": "toy", "numerics": False}), NAME)
    with Store(str(store)) as kept, Workers() as workers:
        running.run(plan, NAME, kept, workers)

    def stale() -> list[bool]:
        machines, found = table.Machines(), rows(store)
        return [machines.stale(row) for row in sorted(found, key=lambda row: row.kernel != "tri-inverse")]

    assert stale() == [False, False]
    Path("elsewhere").mkdir()
    moved = own.rename("elsewhere/own.py")
    monkeypatch.chdir("elsewhere")  # from where is asked does not matter, but a file that is gone does
    assert stale() == [False, True]
    plan = running.plan(Spec.of(f"own.py:{name}", {"profile": "toy", "numerics": False}), NAME)
    with Store(str(store)) as kept, Workers() as workers:
        assert running.run(plan, NAME, kept, workers).computed == 0
    assert stale() == [False, False]  # it is known where it lies now
    monkeypatch.chdir(tmp_path)
    moved.write_text(moved.read_text() + "# changed\n")
    assert stale() == [False, True]
    inputs.unlink()
    assert stale() == [True, True]


def test_lists_are_cells_of_text() -> None:
    found = table.frame([Row("k", "tri-inverse", "done", {"cu_seqlens": [0, 64, 200]})])
    assert list(table.where(found, ["cu_seqlens=0,64,200"])["cu_seqlens"]) == ["0,64,200"]
    assert table.where(found, ["cu_seqlens!=0,64,200"]).empty
    assert len(table.best(found, ["cu_seqlens"])) == 1


def test_files_hold_the_table(tmp_path: Path) -> None:
    for name in ("t.csv", "t.parquet"):
        table.write(DATA, str(tmp_path / name))
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "t.csv"), DATA)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "t.parquet"), DATA)
    mixed = pd.DataFrame({"x": [1, "a", None], "y": [1.0, 2.0, 3.0]})
    table.write(mixed, str(tmp_path / "m.parquet"))
    assert len(pd.read_parquet(tmp_path / "m.parquet")) == 3
    with pytest.raises(InputError, match=r"must end in \.csv or \.parquet"):
        table.write(DATA, str(tmp_path / "t.xlsx"))
