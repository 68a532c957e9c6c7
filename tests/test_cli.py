"""The command line as people and scripts use it: what it prints, what it writes, and how it refuses."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from algorithms import REGISTRY
from npusim import __version__
from npusim.inputs import delta_matrix, reference_inverse
from npusim.machine import quantities
from npusim.profiles import load_machine, profile_names

SMALL = ("tri-inverse", "--profile", "toy", "--chunk", 16, "--matrices", 6)
COMMANDS = (
    (), ("list",), ("run",), ("compare",), ("show",), ("validate",), ("sensitivity",), ("sweep",),
    ("results",), ("recommend",), ("layer",), ("calibrate",), ("profile",),
    ("profile", "check"), ("profile", "show"), ("profile", "diff"), ("profile", "schema"),
)  # fmt: skip

RUN_KEYS = {
    "kernel", "algorithm", "variant", "profile", "problem", "time_us", "times", "cycles", "bound", "cores",
    "expected_error", "evidence", "units", "waiting", "breakdown", "critical_path", "roofline", "bytes",
    "peak_bytes", "assumed", "numerics", "engine",
}  # fmt: skip
NUMERICS_KEYS = {
    "relative_error", "snr_db", "worst_snr_db", "max_abs_error", "nonfinite", "samples", "range",
}  # fmt: skip
UNITS = {
    "aic_mac", "aic_mte1", "aic_mte2", "aic_fixpipe", "aic_scalar",
    "aiv_vec", "aiv_mte2", "aiv_mte3", "aiv_scalar",
}  # fmt: skip


def lower(matrices=3, size=16, seed=0):
    rng = np.random.default_rng(seed)
    return np.tril(rng.standard_normal((matrices, size, size)) * 0.2, -1)


def gates(tokens=40, heads=4, key_heads=2, seed=0):
    rng = np.random.default_rng(seed)
    k = rng.standard_normal((tokens, key_heads, 8))
    return {
        "k": k / np.linalg.norm(k, axis=-1, keepdims=True),
        "beta": rng.random((tokens, heads)),
        "g": -rng.random((tokens, heads)),
    }


@pytest.fixture
def saved(tmp_path):
    def save(**arrays):
        path = tmp_path / "problem.npz"
        np.savez(path, **arrays)
        return path

    return save


def data(called):
    assert called.code == 0, called.err
    assert called.err == ""
    return json.loads(called.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def plain(text):
    """Help without its frames and line breaks."""
    return re.sub(r"\s+", " ", re.sub(r"[│╭╮╰╯─]", " ", text))


# --- the program as a process --------------------------------------------------------------------


def test_the_module_runs_as_a_program_and_reads_nothing():
    made = subprocess.run(
        [sys.executable, "-m", "npusim", "run", *map(str, SMALL)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (made.returncode, made.stderr) == (0, "")
    assert "Result" in made.stdout and made.stdout.index("problem") < made.stdout.index("Result")


def test_a_mistake_ends_the_process_with_code_2_and_one_line():
    made = subprocess.run(
        [sys.executable, "-m", "npusim", "run", "tri-invers"], capture_output=True, text=True, timeout=120
    )
    assert (made.returncode, made.stdout) == (2, "")
    assert made.stderr == "npusim: no kernel 'tri-invers'; did you mean 'tri-inverse'?\n"


def test_output_that_nobody_reads_to_its_end_is_no_traceback():
    command = f"{sys.executable} -m npusim show tri-inverse --profile toy --chunk 128 | head -n 1"
    made = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=120)
    assert made.stdout.startswith("kernel tri-inverse") and "Traceback" not in made.stderr


def test_the_version_is_that_of_the_package(cli):
    assert cli("--version").out == f"npusim {__version__}\n"


# --- help --------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("width", [80, 100, 160])
def test_help_is_clean_at_any_width(cli, monkeypatch, command, width):
    monkeypatch.setenv("COLUMNS", str(width))
    made = cli(*command, "--help")
    assert made.code == 0 and made.err == ""
    assert "Usage: npusim" in made.out
    assert "\\[" not in made.out and "{value" not in made.out and "[/" not in made.out
    assert "<bool>" not in made.out  # a flag takes no value
    assert all(len(line) <= width for line in made.out.splitlines())


def test_help_shows_defaults_and_shapes(cli):
    text = plain(cli("run", "--help").out)
    for shown in (
        "[default: 64]", "[default: 8192]", "[default: heads]", "[default: fp16]", "[default: mxr]",
        "[default: ascend-910b2]", "[default: all]", "[default: 0.3]", "[default: qwen3.5]",
        "L [matrices, C, C]", "T [matrices, C, C]", "--neumann-terms", "--correction-terms", "--chunk-size",
        "--no-timing", "--no-numerics", "--no-mask",
    ):  # fmt: skip
        assert shown in text, shown


def test_products_are_multiplied_in_one_thread_unless_somebody_says_otherwise(cli, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "")  # which is there again after the test
    monkeypatch.delenv("OPENBLAS_NUM_THREADS")
    cli("--version")
    assert (os.environ["OPENBLAS_NUM_THREADS"], os.environ["OMP_NUM_THREADS"]) == ("1", "3")


def test_no_command_prints_the_help_and_fails(cli):
    made = cli()
    assert made.code == 2 and "Usage" in made.out and "a command is missing" in made.err


# --- list, show, profile -------------------------------------------------------------------------


def test_list_names_every_profile_and_kernel(cli):
    both = data(cli("list", "--json"))
    assert [p["name"] for p in both["profiles"]] == profile_names()
    kernels = {k["name"]: [a["name"] for a in k["algorithms"]] for k in both["kernels"]}
    assert {"mxr", "forward-substitution", "masked-neumann"} <= set(kernels["tri-inverse"])
    assert data(cli("list", "profiles", "--json"))["kernels"] == []
    assert data(cli("list", "kernels", "--json"))["profiles"] == []
    text = cli("list").out
    assert all(name in text for name in [*profile_names(), "tri-inverse", "masked-neumann"])


def test_show_is_the_same_every_time_and_tells_costs(cli):
    first = cli("show", *SMALL)
    assert first.code == 0 and first.out == cli("show", *SMALL).out
    assert "aic_mac" in first.out and "tensor L: input" in first.out
    assert "aic_mac" not in cli("show", *SMALL, "--no-costs").out.replace("wait", "")
    shown = data(cli("show", *SMALL, "--json"))
    assert shown["kernel"] == "tri-inverse" and shown["text"] + "\n" == first.out


def test_show_needs_no_cube_of_that_dtype_without_costs(cli):
    assert cli("show", *SMALL, "--dtype", "fp64", "--no-costs").code == 0


@pytest.mark.parametrize("command", [("check", "toy"), ("show", "toy"), ("diff", "toy", "hexagon-class")])
def test_profile_commands_give_json_and_tables(cli, command):
    assert data(cli("profile", *command, "--json"))
    assert "toy" in cli("profile", *command).out


@pytest.mark.parametrize("width", [80, 160])
def test_a_profile_shows_every_number_with_its_source(cli, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    text = cli("profile", "show", "ascend-910b2").out
    names = {path.rsplit(".", 1)[-1] for path in quantities(load_machine("ascend-910b2"))}
    assert all(name in text for name in names) and "pypto" in text
    assert all(len(line) <= width for line in text.splitlines())


# --- run ---------------------------------------------------------------------------------------


@pytest.fixture
def result(cli):
    return data(cli("run", *SMALL, "--json"))


def test_run_has_the_keys_that_others_rely_on(result):
    assert set(result) >= RUN_KEYS
    assert set(result["times"]) == {"core_us", "task_us", "event_us"}
    assert result["time_us"] == result["times"]["task_us"]
    assert set(result["evidence"]) == {"documented", "measured", "fitted", "assumed"}
    assert set(result["bytes"]) == {"hbm_read", "hbm_written", "l2_read", "l2_written"}
    assert set(result["numerics"]) >= NUMERICS_KEYS
    assert all({"name", "max_abs", "limit"} <= set(row) for row in result["numerics"]["range"])
    assert all({"field", "effect"} <= set(row) for row in result["assumed"])
    assert set(result["engine"]) == {
        "name", "operations", "wall_s", "operations_per_s", "skipped_iterations", "skipped_operations",
        "tolerance", "error_us", "unsettled",
    }  # fmt: skip
    assert set(result["units"]) == set(result["waiting"]) == UNITS
    assert result["settings"]["profile"] == "toy" and result["settings"]["seed"] == 0


@pytest.mark.parametrize("how", [("--engine", "reference"), ("--exact",), ("--tolerance", "1e-6")])
def test_every_way_of_simulating_says_the_same(cli, how):
    line = ("run", "tri-inverse", "--matrices", 2400, "--profile", "ascend-910b2", "--no-numerics", "--json")
    known, found = data(cli(*line)), data(cli(*line, *how))
    assert known["engine"]["skipped_iterations"] > 0
    for key in ("time_us", "units", "breakdown", "critical_path", "mechanisms", "bytes"):
        assert _numbers(found[key]) == pytest.approx(_numbers(known[key]), rel=1e-6, abs=1e-6), key
    assert found["bound"] == known["bound"] and found["what_if"]["name"] == known["what_if"]["name"]
    assert found["what_if"]["time_us"] == pytest.approx(known["what_if"]["time_us"], rel=1e-9)


def _numbers(value: object) -> dict[str, object]:
    """All that a part of the JSON says, by place or by name."""
    if isinstance(value, dict):
        return {f"{k}.{p}": v for k, child in value.items() for p, v in _numbers(child).items()}
    if isinstance(value, list):
        return {row["name"]: row["time_us"] for row in value}
    return {"": value}


def test_busy_and_waiting_sum_to_the_core_time(result):
    core_us = result["times"]["core_us"]
    for name, unit in result["units"].items():
        assert unit["busy_us"] + sum(result["waiting"][name].values()) == pytest.approx(core_us, rel=1e-9)
        assert unit["busy_us"] <= unit["slowest_core_us"] * (1 + 1e-12)


def test_critical_path_and_evidence_sum_to_the_whole(result):
    whole = sum(row["time_us"] for row in result["critical_path"])
    assert whole == pytest.approx(result["times"]["core_us"], rel=1e-6)
    assert sum(result["evidence"].values()) == pytest.approx(1, rel=1e-6)


def test_bytes_are_those_of_the_problem(result):
    """HBM gives each matrix, I and -I once and takes each result; another core finds I and -I in L2."""
    read, written = 6 * 16 * 16 * 2 + 2 * 512, 6 * 16 * 16 * 4
    assert (result["bytes"]["hbm_read"], result["bytes"]["hbm_written"]) == (read, written)
    assert (result["bytes"]["l2_read"], result["bytes"]["l2_written"]) == ((result["cores"] - 1) * 1024, 0)


def test_run_says_first_what_it_resolved_and_ends_in_the_result(cli):
    made = cli("run", "tri-inverse", "--profile", "toy", "--chunk", 32, "--seq-len", 64, "--heads", 4,
               "--key-heads", 2, "--set", "core.cube.startup_cycles=3", "--ideal", "flags")  # fmt: skip
    assert made.code == 0 and made.err == ""
    head = made.out[: made.out.index("Units")]
    for said in ("chunk 32", "1 sequence, 64 tokens", "4 heads (2 key heads)", "8 matrices", "fp16", "toy",
                 "2 core groups", "variant textbook", "out_dtype fp32", "core.cube.startup_cycles=3",
                 "free: flags", "seed 0"):  # fmt: skip
        assert said in head, said
    tail = made.out[made.out.index("\nResult") :]
    for said in ("time", "bound", "relative error", "on 8 of 8 matrices"):
        assert said in plain(tail), said


@pytest.mark.parametrize("width", [80, 100, 160])
@pytest.mark.parametrize("algorithm", ["mxr", "forward-substitution", "masked-neumann"])
def test_tables_keep_to_the_width(cli, monkeypatch, width, algorithm):
    monkeypatch.setenv("COLUMNS", str(width))
    made = cli("run", *SMALL, "--algorithm", algorithm)
    assert made.code == 0 and all(len(line) <= width for line in made.out.splitlines())


def test_a_sample_of_the_matrices_is_computed_and_said(cli):
    made = data(cli("run", *SMALL, "--samples", 2, "--json"))
    assert (made["numerics"]["samples"], made["numerics"]["total"]) == (2, 6)


def test_without_timing_any_dtype_computes(cli):
    exact = data(cli("run", *SMALL, "--no-timing", "--dtype", "fp64", "--json"))
    assert exact["time_us"] is None and exact["engine"] is None
    assert exact["numerics"]["relative_error"] < 1e-12
    coarse = data(cli("run", *SMALL, "--no-timing", "--dtype", "int16", "--json"))
    assert 1e-6 < coarse["numerics"]["relative_error"] < 1e-1
    text = cli("run", *SMALL, "--no-timing", "--dtype", "fp64").out
    assert "Units" not in text and "relative error" in text


def test_without_numerics_nothing_is_computed(cli):
    assert data(cli("run", *SMALL, "--no-numerics", "--json"))["numerics"] is None
    assert "relative error" not in cli("run", *SMALL, "--no-numerics").out


# --- what if -----------------------------------------------------------------------------------


def time_us(cli, *arguments):
    return data(cli("run", *SMALL, "--no-numerics", "--json", *arguments))["time_us"]


@pytest.mark.parametrize("names", ["flags", "issue", "contention", "launch", "latency", "flags,latency"])
def test_what_is_free_costs_nothing(cli, names):
    assert time_us(cli, "--ideal", names) <= time_us(cli)


def test_a_number_set_by_hand_changes_the_time(cli):
    assert time_us(cli, "--set", "launch.base_us=11") == pytest.approx(time_us(cli) + 10)
    both = time_us(cli, "--set", "launch.base_us=11", "--set", "launch.event_us=1")
    assert both == pytest.approx(time_us(cli) + 10)


def test_fewer_cores_are_slower(cli):
    one = data(cli("run", *SMALL, "--no-numerics", "--json", "--cores", 1))
    assert one["cores"] == 1 and one["time_us"] > time_us(cli)


def test_documented_evidence_is_what_the_documents_alone_say(cli):
    asked = ("tri-inverse", "--matrices", 24, "--chunk", 32, "--profile", "ascend-910b2", "--no-numerics")
    every = data(cli("run", *asked, "--json"))
    documented = data(cli("run", *asked, "--evidence", "documented", "--json"))
    assert documented["time_us"] < every["time_us"]
    assert documented["evidence"]["assumed"] == documented["evidence"]["fitted"] == 0
    assert documented["assumed"] == []
    assert "only documented costs" in cli("run", *asked, "--evidence", "documented").out


# --- files -------------------------------------------------------------------------------------


def test_the_result_of_all_matrices_is_written(cli, tmp_path, saved):
    L = lower(5)
    made = cli("run", "tri-inverse", "--profile", "toy", "--inputs", saved(L=L), "--output",
               tmp_path / "out.npz", "--dtype", "fp32")  # fmt: skip
    assert made.code == 0 and "T [5, 16, 16] written" in plain(made.out)
    with np.load(tmp_path / "out.npz") as out:
        assert out.files == ["T"] and out["T"].shape == (5, 16, 16)
        np.testing.assert_allclose(out["T"], reference_inverse(L.astype(np.float32)), atol=1e-5)


def test_the_written_matrices_are_ordered_sequence_chunk_head(cli, tmp_path, saved):
    arrays = gates()
    path = saved(**arrays, cu_seqlens=[0, 20, 40])
    asked = ("tri-inverse", "--inputs", path, "--chunk", 16, "--no-timing", "--dtype", "fp64")
    made = data(cli("run", *asked, "--output", tmp_path / "out.npz", "--json"))
    assert made["problem"]["cu_seqlens"] == [0, 20, 40] and made["problem"]["heads"] == 4
    with np.load(tmp_path / "out.npz") as out:
        T = out["T"]
    assert T.shape == (16, 16, 16)
    tokens, head = slice(20, 36), 3  # sequence 1, its first chunk
    L = delta_matrix(arrays["k"][tokens, head // 2], arrays["beta"][tokens, head], arrays["g"][tokens, head])
    np.testing.assert_allclose(T[2 * 4 + head], np.linalg.inv(np.eye(16) + L), atol=1e-12)


def test_keys_are_generated_around_gates_alone(cli, saved):
    arrays = gates()
    del arrays["k"]
    made = data(cli("run", "tri-inverse", "--profile", "toy", "--inputs", saved(**arrays), "--chunk", 16,
                    "--json"))  # fmt: skip
    assert "keys generated" in made["numerics"]["inputs"] and made["numerics"]["total"] == 12
    assert made["numerics"]["mean_head_error"] <= made["numerics"]["worst_head_error"]


def test_a_trace_shows_the_first_trips_and_says_so(cli, tmp_path):
    path = tmp_path / "trace.json"
    asked = ("run", *SMALL, "--no-numerics", "--trace", path, "--trace-iterations", 1)
    made = cli(*asked)
    assert made.code == 0 and "up to 1 trip of each outermost loop written to" in plain(made.out)
    trace = json.loads(path.read_text())
    done = data(cli(*asked, "--json"))
    assert trace["otherData"]["operations"] == done["engine"]["operations"]
    assert 0 < trace["otherData"]["kept_operations"] < done["engine"]["operations"]
    ends = [event["ts"] + event["dur"] for event in trace["traceEvents"] if event["ph"] == "X"]
    assert max(ends) <= done["times"]["core_us"] + 1e-3


def test_a_slow_host_is_named_as_what_the_event_time_waits_for(cli):
    made = cli("run", *SMALL, "--no-numerics", "--set", "launch.host_us=500")
    assert "event time" in made.out and "issues a kernel every 500.0 us: the device waits" in plain(made.out)


# --- compare -----------------------------------------------------------------------------------


def test_compare_puts_all_into_one_table(cli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    made = cli("compare", *SMALL, "--algorithms", "forward-substitution,mxr,masked-neumann", "--samples", 2)
    assert made.code == 0 and made.err == ""
    for said in ("speed-up", "1.00x", "dominant unit", "rel. error", "2 of 6", "masked-neumann"):
        assert said in made.out, said
    assert made.out.index("problem") < made.out.index("speed-up")


@pytest.mark.parametrize("width", [80, 100])
def test_compare_stands_upright_where_it_does_not_fit(cli, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    made = cli("compare", *SMALL, "--algorithms", "forward-substitution,masked-neumann")
    assert made.code == 0 and all(len(line) <= width for line in made.out.splitlines())
    for whole in ("forward-substitution", "masked-neumann", "dominant unit", "speed-up", "6 of 6"):
        assert whole in made.out, whole


@pytest.mark.parametrize("width", [80, 100])
def test_of_many_compare_shows_the_columns_that_there_is_room_for_in_one_table(cli, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    made = cli("compare", SMALL[0], *SMALL[3:], "--profiles", "toy,ascend-910b2")
    assert made.code == 0 and all(len(line) <= width for line in made.out.splitlines())
    tables = 2  # one for each profile, where its column does not fit
    for column in ("speed-up", "vs blocked", "vs mxr", "rel. error"):
        assert made.out.count(column) == tables, column
    for name in REGISTRY["tri-inverse"].algorithms:
        assert sum(line.startswith(f" {name} ") for line in made.out.splitlines()) == 2, "once a profile"
    assert "no room for" in made.out and "widen the terminal, or --json" in " ".join(made.out.split())


def test_compare_holds_every_row_against_the_baselines_of_its_own_profile(cli):
    """The default variant of a baseline is the baseline; a named variant is one more row."""
    names = "doubling,mxr,mxr:textbook,blocked-substitution"
    asked = ("compare", SMALL[0], *SMALL[3:], "--profiles", "toy,ascend-910b2", "--algorithms", names)
    rows = data(cli(*asked, "--no-numerics", "--json"))["rows"]
    times = {(row["algorithm"], row["profile"]): row["time_us"] for row in rows}
    assert len(times) == len(rows) == 8
    for row in rows:
        for base in ("mxr", "blocked-substitution"):
            assert row["speedups"][base] == times[base, row["profile"]] / row["time_us"]
        assert "forward-substitution" not in row["speedups"], "it is not compared"
    variants = {(row["algorithm"], row["profile"]): row["variant"] for row in rows}
    assert variants["mxr", "ascend-910b2"] == "published"
    assert variants["mxr:textbook", "ascend-910b2"] == "textbook"


def test_compare_does_not_time_anything_twice(cli, monkeypatch):
    def never(*_):
        raise AssertionError("compare imagines nothing")

    monkeypatch.setattr("npusim.study.imagine", never)
    assert cli("compare", *SMALL, "--algorithms", "mxr", "--no-numerics").code == 0


def test_compare_marks_results_of_unlike_formats(cli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    asked = ("compare", *SMALL, "--no-numerics", "--algorithms")
    mixed = cli(*asked, "mxr,column-sweep").out
    assert re.search(r"mxr .* fp32 *$", mixed, re.M) and re.search(r"column-sweep .* fp16 *$", mixed, re.M)
    assert " out " not in cli(*asked, "mxr,doubling").out.replace("out_dtype", "")


@pytest.mark.parametrize(
    ("names", "said"), [("mxr,,doubling", "a name is empty"), ("mxr,mxr", "named twice")]
)
def test_compare_refuses_names_that_say_nothing(cli, names, said):
    refused(cli("compare", *SMALL, "--algorithms", names), f"--algorithms: {said}" if "is" in said else said)


def test_compare_refuses_a_variant_that_there_is_not(cli):
    asked = ("compare", *SMALL, "--algorithms")
    refused(
        cli(*asked, "mxr:textbok"), "--algorithms: mxr has no variant 'textbok'; did you mean 'textbook'?"
    )
    refused(cli(*asked, "mxr:textbook", "--variant", "published"), "mxr:textbook names its own; drop one")


def test_compare_json_measures_speed_against_the_first(cli):
    rows = data(cli("compare", *SMALL, "--algorithms", "mxr,masked-neumann", "--json"))["rows"]
    assert [row["algorithm"] for row in rows] == ["mxr", "masked-neumann"]
    assert rows[0]["speedup"] == 1 and rows[1]["speedup"] == rows[0]["time_us"] / rows[1]["time_us"]
    assert all(row["relative_error"] > 0 and row["profile"] == "toy" and row["samples"] == 6 for row in rows)


def test_compare_gives_a_reason_for_what_does_not_fit(cli):
    asked = ("compare", *SMALL[:3], "--chunk", 96, "--matrices", 2, "--no-numerics",
             "--algorithms", "mxr,forward-substitution")  # fmt: skip
    not_, fits = data(cli(*asked, "--json"))["rows"]
    assert fits["time_us"] > 0 and fits["reason"] is None
    assert not_["time_us"] is None and not_["speedup"] is None and "16, 32, 64, 128" in not_["reason"]
    made = cli(*asked)
    assert made.code == 0 and "mxr on toy: --chunk" in made.out


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_compare_fails_where_nothing_fits_and_says_why_for_each(cli, form):
    made = cli("compare", *SMALL, "--chunk", 100, "--algorithms", "mxr,masked-neumann", *form)
    refused(made, "nothing could be compared", "mxr on toy: --chunk", "masked-neumann on toy: --chunk")
    assert made.out == ""


def test_compare_says_why_there_is_no_speed_up(cli):
    asked = ("compare", *SMALL[:3], "--chunk", 96, "--matrices", 2, "--algorithms")
    line = "no speed-ups: the baseline, mxr on toy, has no time"
    both = cli(*asked, "mxr,forward-substitution", "--no-numerics")
    assert both.out.count(line) == 1 and "1.00x" not in both.out
    other = cli(*asked, "forward-substitution,mxr", "--no-numerics")
    assert "no speed-ups" not in other.out and "1.00x" in other.out
    assert "no speed-ups" not in cli(*asked, "mxr,forward-substitution", "--no-timing").out


@pytest.mark.parametrize("command", ["run", "compare"])
def test_json_lists_the_sizes_that_count(cli, saved, command):
    def sizes(*given):
        return set(data(cli(command, "tri-inverse", "--profile", "toy", *given, "--json"))["problem"])

    always = {"chunk", "head_dim", "dtype", "decay"}
    small = ("--chunk", 16, "--no-timing", "--samples", 1)
    assert sizes(*small, "--matrices", 4) == always | {"matrices"}
    heads = always | {"heads", "key_heads"}
    assert sizes(*small, "--seq-len", 32) == heads | {"batch", "seq_len"}
    assert sizes(*small, "--cu-seqlens", "0,16,40") == heads | {"cu_seqlens"}
    assert sizes(*small[2:], "--inputs", saved(L=lower())) == always | {"matrices"}


def test_a_parameter_goes_to_the_algorithms_that_know_it(cli):
    rows = data(cli("compare", *SMALL, "--algorithms", "mxr,masked-neumann", "--order", 2, "--json"))["rows"]
    assert rows[1]["options"]["order"] == 2 and "order" not in rows[0]["options"]


def test_compare_says_what_each_profile_was_built_with(cli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    asked = ("compare", "tri-inverse", "--chunk", 32, "--matrices", 6, "--algorithms", "mxr",
             "--no-numerics")  # fmt: skip
    made = cli(*asked, "--profiles", "ascend-910b2,toy,hexagon-class").out
    lines = [line for line in made.splitlines() if line.startswith("mxr") and "variant" in line]
    assert len(lines) >= 2 and lines[0].startswith("mxr on ascend-910b2")
    assert sum(name in line for line in lines for name in ("910b2", "toy", "hexagon-class")) == 3
    made = cli(*asked, "--profiles", "ascend-910b2,ascend-910b3").out
    assert [line.split(":")[0] for line in made.splitlines() if ": variant" in line] == ["mxr"]


def test_a_series_that_is_exact_in_part_says_so(cli):
    asked = ("--algorithm", "masked-neumann", "--order", 2)
    assert "exact on 4 of 16 sub-diagonals" in plain(cli("run", *SMALL, *asked, "--steps", 2).out)
    assert "sub-diagonals" not in cli("run", *SMALL, *asked, "--steps", 8).out.replace(
        "keep only the exact sub-diagonals", ""
    )
    made = cli("compare", *SMALL, "--algorithms", "masked-neumann", "--order", 2, "--steps", 2)
    assert "exact on 4 of 16 sub-diagonals" in plain(made.out)


def test_one_thing_is_no_plural(cli):
    made = cli("run", "tri-inverse", "--profile", "toy", "--chunk", 16, "--seq-len", 1, "--heads", 1,
               "--cores", 1)  # fmt: skip
    assert "1 sequence, 1 token, 1 head, 1 matrix," in plain(made.out)
    assert not re.search(r"\b1 (tokens|heads|matrices|cores|others|core groups)\b", plain(made.out))


def test_an_exact_result_has_no_decibels(cli, saved):
    made = cli("run", "tri-inverse", "--profile", "toy", "--inputs", saved(L=np.zeros((2, 16, 16))))
    assert made.code == 0 and "exact" in made.out and "exact dB" not in made.out


def test_the_core_time_says_from_when_on(cli):
    assert "from the start of the first core" in plain(cli("run", *SMALL, "--no-numerics").out)


# --- bad input ---------------------------------------------------------------------------------

RUN = ("run", "tri-inverse")
BAD = [
    # names
    (("run", "tri-invers"), ("no kernel 'tri-invers'", "'tri-inverse'")),
    (("compare", "tri-invrse"), ("'tri-inverse'",)),
    (("show", "inverse"), ("'tri-inverse'",)),
    (("list", "profile"), ("'profiles'",)),
    ((*RUN, "--profile", "ascend-910b22"), ("no such profile", "'ascend-910b2'")),
    ((*RUN, "--profile", "Ascend910B9"), ("no such profile", "ascend910b")),
    ((*RUN, "--profile", "nowhere.yaml"), ("nowhere.yaml", "no such file")),
    ((*RUN, "--algorithm", "mxrr"), ("--algorithm", "'mxr'")),
    ((*RUN, "--algorithm", "masked_neumann"), ("--algorithm", "'masked-neumann'")),
    ((*RUN, "--variant", "publishd"), ("--variant", "'published'")),
    ((*RUN, "--dtype", "fp17"), ("--dtype", "'fp16'")),
    ((*RUN, "--out-dtype", "float32"), ("--out-dtype", "fp32")),
    ((*RUN, "--algorithm", "masked-neumann", "--schedule", "hornr"), ("--schedule", "'horner'")),
    ((*RUN, "--gates", "qwen3.6"), ("--gates", "'qwen3.5'")),
    ((*RUN, "--engine", "refrence"), ("--engine", "'reference'")),
    ((*RUN, "--evidence", "document"), ("--evidence", "'documented'")),
    ((*RUN, "--ideal", "flag"), ("--ideal", "'flags'")),
    ((*RUN, "--ideal", "flags,isue"), ("--ideal", "'issue'")),
    (("compare", "tri-inverse", "--algorithms", "mxr,mxrr"), ("--algorithms: ", "'mxr'")),
    (("compare", "tri-inverse", "--profiles", "toy,toyy"), ("'toyy'", "'toy'")),
    (("compare", "tri-inverse", "--variant", "publishd"), ("--variant", "published")),
    (("compare", "tri-inverse", "--algorithms", "mxr", "--order", 3), ("--order", "mxr")),
    # numbers
    ((*RUN, "--chunk", 0), ("--chunk", "> 0")),
    ((*RUN, "--chunk", -64), ("--chunk", "> 0")),
    ((*RUN, "--chunk", "many"), ("--chunk", "whole number", "'many'")),
    ((*RUN, "--chunk", 1.5), ("--chunk", "whole number", "1.5")),
    ((*RUN, "--chunk", 100), ("--chunk", "mxr", "100", "64, 128")),
    ((*RUN, "--algorithm", "masked-neumann", "--chunk", 100), ("--chunk", "100", "multiple of 16")),
    ((*RUN, "--chunk", 512), ("--chunk", "512", "up to 256")),
    ((*RUN, "--chunk", 96), ("--chunk", "mxr", "96", "64, 128")),
    ((*RUN, "--batch", 0), ("--batch", "> 0")),
    ((*RUN, "--batch", 10**16), ("--batch", "<= 1e+06")),
    ((*RUN, "--matrices", 10**20), ("--matrices", "<= 1e+12")),
    ((*RUN, "--seq-len", 10**20), ("--seq-len", "<= 1e+12")),
    ((*RUN, "--heads", 10**20), ("--heads", "<= 1e+06")),
    ((*RUN, "--head-dim", 10**20), ("--head-dim", "<= 1e+06")),
    ((*RUN, "--seq-len", 10**12, "--batch", 10**6), ("5e+17 matrices are more than 1e+12", "--batch")),
    ((*RUN, "--cu-seqlens", f"0,{10**20}"), ("--cu-seqlens", "<= 1e+12")),
    ((*RUN, "--algorithm", "masked-neumann", "--steps", 10**6), ("--steps", "<= 256", "gains nothing")),
    ((*RUN, "--algorithm", "masked-neumann", "--order", 257), ("--order", "<= 256", "gains nothing")),
    (("compare", "tri-inverse", "--algorithms", ""), ("--algorithms", "empty")),
    (("compare", "tri-inverse", "--profiles", ","), ("--profiles", "empty")),
    ((*RUN, "--ideal", ""), ("--ideal", "empty")),
    ((*RUN, "--output", ""), ("--output", "empty")),
    ((*RUN, "--inputs", ""), ("--inputs", "empty")),
    ((*RUN, "--output", "/dev/null"), ("/dev/null", "no regular file")),
    ((*RUN, "--seq-len", 0), ("--seq-len", "> 0")),
    ((*RUN, "--heads", 0), ("--heads", "> 0")),
    ((*RUN, "--heads", 32, "--key-heads", 5), ("--key-heads", "32", "multiple")),
    ((*RUN, "--matrices", 0), ("--matrices", "> 0")),
    ((*RUN, "--samples", 0), ("--samples", "> 0")),
    ((*RUN, "--seed", -1), ("--seed", ">= 0")),
    ((*RUN, "--key-correlation", 1), ("--key-correlation", "< 1")),
    ((*RUN, "--key-correlation", "high"), ("--key-correlation", "number", "'high'")),
    ((*RUN, "--key-correlation", "nan"), ("--key-correlation", "finite", "nan")),
    ((*RUN, "--cu-seqlens", "0,500,400"), ("--cu-seqlens", "increase", "0,500,400")),
    ((*RUN, "--cu-seqlens", "5,10"), ("--cu-seqlens", "start at 0")),
    ((*RUN, "--cu-seqlens", "0,x"), ("--cu-seqlens", "'0,x'", "whole numbers")),
    ((*RUN, "--cores", 0), ("--cores", "> 0")),
    ((*RUN, "--cores", 25), ("--cores", "24", "25")),
    ((*RUN, "--algorithm", "masked-neumann", "--order", 0), ("--order", "> 0")),
    ((*RUN, "--order", 3), ("--order", "mxr", "--out-dtype")),
    # --set
    ((*RUN, "--set", "core.cube.startup_cycle=3"), ("--set", "'core.cube.startup_cycles'")),
    ((*RUN, "--set", "core.cube.startup_cycles"), ("--set", "path.to.field=value")),
    ((*RUN, "--set", "core.cube.startup_cycles=fast"), ("--set", "'fast'", "not a number")),
    ((*RUN, "--set", "core.cube.startup_cycles=-1"), ("--set", "core.cube.startup_cycles", ">= 0", "-1")),
    ((*RUN, "--set", "=3"), ("--set =3", "no path", "path.to.field=value")),
    ((*RUN, "--set", "core.cube=3"), ("--set", "core.cube: is a group", "startup_cycles")),
    ((*RUN, "--set", "clock_ghz=1", "--set", "clock_ghz=2"), ("--set clock_ghz=2", "twice")),
    ((*RUN, "--set", "clock_ghz=1e308"), ("--set", "clock_ghz", "<= 1e+12")),
    ((*RUN, "--set", "clock_ghz=0"), ("--set", "clock_ghz", "> 0")),
    ((*RUN, "--set", "clock_ghz=nan"), ("--set", "clock_ghz", "finite")),
    ((*RUN, "--set", "core.groups=1.5"), ("--set", "core.groups", "whole number")),
    # what does not go together
    ((*RUN, "--matrices", 8, "--batch", 2), ("--batch", "--matrices", "drop")),
    ((*RUN, "--cu-seqlens", "0,64", "--seq-len", 64), ("--seq-len", "--cu-seqlens", "drop")),
    ((*RUN, "--no-timing", "--no-numerics"), ("--no-timing", "--no-numerics", "drop")),
    ((*RUN, "--no-numerics", "--output", "T.npz"), ("--output", "--no-numerics")),
    ((*RUN, "--no-timing", "--trace", "t.json"), ("--trace", "--no-timing")),
    ((*RUN, "--trace", "same", "--output", "same"), ("--trace", "--output", "name another")),
    (("run", "matmul", "--m", 10**5, "--n", 10**5, "--k", 16, "--no-timing", "--output", "c.npz"), ("GiB",)),
    (("show", "tri-inverse", "--matrices", 3, "--batch", 2), ("--batch", "--matrices", "drop")),
    (("show", "matmul", "--dtype", "fp64"), ("fp64", "--no-costs")),
    (("show", "matmul", "--slots", 999), ("capacity", "lower --tile-m, --tile-n, --tile-k or --slots")),
    ((*RUN, "--key-heads", 5, "--no-numerics"), ("--key-heads", "32", "5")),
    ((*RUN, "--samples", 2, "--output", "T.npz"), ("--samples", "--output computes all")),
    ((*RUN, "--no-numerics", "--samples", 2), ("--samples", "--no-numerics")),
    (("run", "matmul", "--no-numerics", "--gates", "qwen3.5"), ("--gates", "--no-numerics")),
    (("run", "matmul", "--gates", "qwen3.5"), ("--gates", "no keys and gates", "drop")),
    (("compare", "matmul", "--gates", "qwen3.5"), ("--gates", "no keys and gates", "drop")),
    (("compare", "tri-inverse", "--key-heads", 5), ("--key-heads", "32", "5")),
    (("compare", "tri-inverse", "--chunk", 100), ("nothing could be compared", "mxr", "masked-neumann")),
    (("compare", "matmul", "--m", 64, "--tile-m", 65), ("--tile-m", "65", "--m 64")),
    (("compare", "tri-inverse", "--no-timing", "--no-numerics"), ("--no-timing", "drop")),
    ((*RUN, "--no-timing", "--ideal", "flags"), ("--ideal", "--no-timing")),
    ((*RUN, "--no-timing", "--exact"), ("--exact", "timed", "--no-timing")),
    ((*RUN, "--no-timing", "--tolerance", "1e-6"), ("--tolerance", "timed", "--no-timing")),
    ((*RUN, "--exact", "--tolerance", "1e-6"), ("--tolerance", "--exact", "drop one of the two")),
    ((*RUN, "--engine", "reference", "--tolerance", "1e-6"), ("--tolerance", "reference engine", "drop it")),
    ((*RUN, "--tolerance", "-1"), ("--tolerance: must be >= 0, got -1",)),
    ((*RUN, "--tolerance", "nan"), ("--tolerance", "nan")),
    ((*RUN, "--engine", "quick"), ("--engine: must be 'fast' or 'reference', got 'quick'",)),
    ((*RUN, "--no-timing", "--engine", "reference"), ("--engine", "timed")),
    (
        (*RUN, "--no-timing", "--set", "core.groups=2", "--set", "clock_ghz=1"),
        ("--set clock_ghz=1: nothing is timed",),
    ),
    (("compare", "tri-inverse", "--profile", "toy", "--profiles", "toy"), ("--profile: ", "--profiles")),
    ((*RUN, "--dtype", "int32"), ("--dtype", "int32", "accumulate", "int8")),
    ((*RUN, "--out-dtype", "fp64"), ("fp64", "--out-dtype")),
    (("run", "matmul", "--out-dtype", "int32"), ("--out-dtype", "int32", "fp16", "fp32")),
    (("run", "matmul", "--matrices", 3, "--batch", 2), ("matmul has no such size",)),
    ((*RUN, "--matrices", 10**10, "--no-timing", "--output", "T.npz"), ("GiB", "--output")),
    ((*RUN, "--trace-iterations", 3), ("--trace-iterations", "--trace FILE")),
    ((*RUN, "--trace", "t.json", "--trace-iterations", 0), ("--trace-iterations", "> 0")),
    ((*RUN, "--trace", "no/such/folder/t.json"), ("no/such/folder", "create it")),
    ((*RUN, "--m", 64), ("--m", "tri-inverse", "--chunk")),
    (("run", "matmul", "--chunk", 64), ("--chunk", "matmul", "--m, --n, --k")),
    (("run", "matmul", "--order", 3), ("--order", "--tile-m")),
    (("run", "matmul", "--m", 64, "--tile-m", 65), ("--tile-m", "65", "--m 64")),
    ((*RUN, "--profile", "hexagon-class", "--evidence", "documented"), ("hexagon-class", "--evidence")),
    # what the machine cannot do
    ((*RUN, "--dtype", "fp64"), ("ascend-910b2", "fp64", "--no-timing")),
    ((*RUN, "--dtype", "int16"), ("ascend-910b2", "int16", "--no-timing")),
    ((*RUN, "--algorithm", "forward-substitution", "--chunk", 256), ("UB", "192 KiB", "T 256 KiB")),
    ((*RUN, "--algorithm", "masked-neumann", "--slots", 99), ("L1", "lower --chunk, --block or --slots")),
    ((*RUN, "--algorithm", "masked-neumann", "--chunk", 256, "--slots", 64), ("capacity", "L1")),
    (
        ("run", "matmul", "--tile-m", 1024, "--tile-n", 1024),
        ("capacity", "lower --tile-m, --tile-n, --tile-k or --slots"),
    ),
    (("show", "tri-inverse", "--dtype", "fp64"), ("fp64", "--no-costs")),
    # files
    ((*RUN, "--output", "no/such/folder/T.npz"), ("no/such/folder", "create it")),
    ((*RUN, "--inputs", "nowhere.npz"), ("nowhere.npz", "no such file", "check")),
    # usage
    ((*RUN, "--fast"), ("--fast", "npusim run --help")),
    ((*RUN, "--chunk"), ("--chunk", "--help")),
    (("run",), ("KERNEL", "npusim run --help")),
    ((*RUN, "more"), ("more", "npusim run --help")),
    (("lst",), ("'lst'", "npusim --help")),
    (("profile", "shw"), ("'shw'", "npusim profile --help")),
    (("profile", "diff", "toy"), ("'B'", "npusim profile diff --help")),
    (("profile", "show", "toyy"), ("'toy'",)),
    (("profile", "check", "toy", "nowhere.yaml"), ("nowhere.yaml",)),
]  # fmt: skip


def refused(called, *parts):
    assert called.code == 2, called
    assert "Traceback" not in called.out + called.err
    assert called.err.count("\n") == 1 and called.err.startswith("npusim: "), called.err
    for part in parts:
        assert part in called.err, f"{part!r} is not in {called.err!r}"


@pytest.mark.parametrize(("arguments", "parts"), BAD, ids=[" ".join(map(str, a)) for a, _ in BAD])
def test_bad_input_is_one_line_that_names_place_and_remedy(cli, arguments, parts):
    made = cli(*arguments)
    refused(made, *parts)
    if arguments[:2] != ("profile", "check"):  # which says what it found of each
        assert made.out == ""


def test_a_wish_that_would_fail_later_is_refused_before_the_work(cli):
    made = cli(*RUN, "--output", "no/such/folder/T.npz", "--batch", 16)
    refused(made, "no/such/folder")
    assert made.out == ""


def changed(array, where, value):
    array = array.copy()
    array[where] = value
    return array


FILES = {
    "no arrays that we know": (lambda: {"M": lower()}, (), ("array M", "unknown")),
    "nothing to go by": (lambda: {"k": gates()["k"]}, (), ("beta", "L [matrices, C, C]")),
    "two problems": (lambda: {"L": lower()} | gates(), (), ("array L", "remove one")),
    "two axes": (lambda: {"L": lower()[0]}, (), ("array L", "(16, 16)", "[matrices, C, C]")),
    "not square": (lambda: {"L": lower()[:, :, :8]}, (), ("array L", "square")),
    "empty": (lambda: {"L": lower()[:0]}, (), ("array L", "empty")),
    "complex": (lambda: {"L": lower() + 1j}, (), ("array L", "complex128", "real")),
    "objects": (lambda: {"L": np.array([None, "a"], dtype=object)}, (), ("array L", "Python objects")),
    "nan": (lambda: {"L": changed(lower(), (1, 3, 2), np.nan)}, (), ("array L", "matrix 1, row 3", "finite")),
    "upper": (lambda: {"L": changed(lower(), (2, 1, 5), 1)}, (), ("row 1, column 5", "strictly lower")),
    "diagonal": (lambda: {"L": lower() + np.eye(16)}, (), ("row 0, column 0", "not I + L")),
    "beta": (lambda: gates() | {"beta": gates()["beta"] + 1}, (), ("array beta", "0..1")),
    "g": (lambda: gates() | {"g": -gates()["g"]}, (), ("array g", "<= 0")),
    "tokens": (lambda: gates() | {"k": gates(39)["k"]}, (), ("array k", "39", "40")),
    "heads": (lambda: gates() | {"k": gates(key_heads=3)["k"]}, (), ("array k", "3 key heads")),
    "sequences": (lambda: gates() | {"cu_seqlens": [0, 50]}, (), ("cu_seqlens", "40")),
    "odd chunk": (
        lambda: {"L": lower(size=20)}, (), ("problem.npz: array L: matrices of 20 x 20", "64, 128"),
    ),
    "seed for L": (lambda: {"L": lower()}, ("--seed", 3), ("--seed", "holds L", "drop")),
    "correlation for L": (
        lambda: {"L": lower()}, ("--key-correlation", 0.1), ("--key-correlation", "holds L", "drop"),
    ),
    "sequences for L": (lambda: {"L": lower(), "cu_seqlens": [0, 48]}, (), ("array cu_seqlens", "remove")),
    "sizes": (lambda: {"L": lower()}, ("--heads", 2), ("--heads", "--inputs", "drop")),
    "count": (lambda: {"L": lower()}, ("--matrices", 3), ("--matrices", "--inputs")),
    "other chunk": (lambda: {"L": lower()}, ("--chunk", 32), ("--chunk", "16 x 16", "drop")),
    "keys for L": (lambda: {"L": lower()}, ("--head-dim", 64), ("--head-dim", "holds L", "drop")),
    "other key heads": (gates, ("--key-heads", 4), ("array k", "--key-heads 4", "drop")),
    "other dimension": (gates, ("--head-dim", 64), ("array k", "--head-dim 64", "drop")),
    "a seed for stored keys": (gates, ("--seed", 3), ("--seed", "holds the keys", "drop")),
    "other gates": (gates, ("--gates", "qwen3-next"), ("--gates", "--inputs", "drop")),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("command", ["run", "compare"])
def test_a_bad_problem_file_is_one_line_that_names_file_and_array(cli, saved, name, command):
    arrays, options, parts = FILES[name]
    made = cli(command, "tri-inverse", "--profile", "toy", "--inputs", saved(**arrays()), *options)
    refused(made, *parts)
    assert made.out == ""
    if not options:
        assert "problem.npz" in made.err


def test_what_is_no_npz_file_is_told_so(cli, tmp_path):
    (tmp_path / "text.npz").write_text("not arrays")
    refused(cli(*RUN, "--inputs", tmp_path / "text.npz"), "text.npz", "numpy.savez")
    with zipfile.ZipFile(tmp_path / "other.npz", "w") as archive:
        archive.writestr("L.npy", b"damaged")
    refused(cli(*RUN, "--inputs", tmp_path / "other.npz"), "other.npz", "L")
    np.save(tmp_path / "one.npy", lower())
    refused(cli(*RUN, "--inputs", tmp_path / "one.npy"), "one.npy", "numpy.savez")
    refused(cli(*RUN, "--inputs", tmp_path), "folder")


PROFILES = {
    "unknown field": (
        "core: {cube: {startup: {value: 3, source: me, evidence: assumed}}}",
        "core.cube.startup",
    ),
    "wrong type": ("clock_ghz: {value: fast, source: me, evidence: assumed}", "clock_ghz"),
    "negative": ("clock_ghz: {value: -1, source: me, evidence: assumed}", "clock_ghz: must be > 0"),
    "no source": ("clock_ghz: {value: 1, evidence: assumed}", "clock_ghz"),
    "bare number": ("clock_ghz: 1.5", "clock_ghz"),
    "evidence": ("clock_ghz: {value: 1, source: me, evidence: hearsay}", "evidence"),
    "twice": ("name: a\nname: b", "given twice"),
    "syntax": ("core: {cube: [", "YAML syntax"),
}


@pytest.mark.parametrize("name", PROFILES)
def test_a_bad_profile_is_one_line_that_names_file_and_field(cli, tmp_path, name):
    text, part = PROFILES[name]
    path = tmp_path / "mine.yaml"
    path.write_text(f"extends: toy\n{text}\n")
    refused(cli(*RUN, "--profile", path), str(path), part)
    refused(cli("profile", "check", path), str(path), part)


@pytest.mark.parametrize("option", ["--output", "--trace"])
@pytest.mark.parametrize("other", ["--inputs", "--profile"])
def test_what_a_run_reads_is_not_written_over(cli, tmp_path, saved, option, other):
    path = saved(L=lower())
    if other == "--profile":
        path = tmp_path / "mine.yaml"
        path.write_text("extends: toy\n")
    before = path.read_bytes()
    (tmp_path / "link").symlink_to(path)
    made = cli("run", "tri-inverse", "--chunk", 16, other, path, option, tmp_path / "link")
    refused(made, option, other, "name another")
    assert path.read_bytes() == before


def test_key_heads_divide_the_heads_of_the_file(cli, saved):
    arrays = gates()
    del arrays["k"]
    asked = ("run", "tri-inverse", "--profile", "toy", "--chunk", 16, "--inputs", saved(**arrays))
    assert cli(*asked, "--key-heads", 2).code == 0
    refused(cli(*asked, "--key-heads", 3), "4 heads", "3 key heads")


def test_a_profile_of_ones_own_runs(cli, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("extends: toy\nclock_ghz: {value: 2.0, source: me, evidence: assumed}\n")
    arguments = (*SMALL[:2], path, *SMALL[3:], "--no-numerics", "--json")
    mine, toy = data(cli("run", *arguments)), data(cli("run", *SMALL, "--no-numerics", "--json"))
    assert mine["profile"] == "mine" and not math.isclose(mine["time_us"], toy["time_us"])
