"""Predictions held against measured rows, on rows whose times are made from what `npusim run` says."""

from __future__ import annotations

import csv
import itertools
import json
import math
import os
import re
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from npusim.measurements.rows import Measurement
from npusim.settings import MachineSettings
from npusim.validation import predictor
from npusim.validation.labels import ranges, refusals, short_places
from npusim.validation.predict import case
from npusim.validation.select import Refused

CLOCK = {"event": "event_us", "task_duration": "task_us", "core": "core_us", "": "task_us"}
"""what `npusim run` calls the time on a clock"""


def inverse(matrices, **more):
    return {
        "device": "toy", "kernel": "tri-inverse", "algorithm": "mxr", "variant": "textbook", "dtype": "fp16",
        "chunk": 16, "matrices": matrices, **more,
    }  # fmt: skip


def product(m, **more):
    return {
        "device": "ascend-910b2", "kernel": "matmul", "variant": "textbook", "dtype": "fp16",
        "m": m, "n": 256, "k": 512, **more,
    }  # fmt: skip


ROWS = (
    inverse(6, clock="core"),
    inverse(24, clock="core"),
    inverse(24, clock="task_duration"),
    inverse(96, clock="event"),
    inverse(96, clock="core", algorithm="newton-schulz"),
    product(128, clock="core"),
    product(512, clock=""),
    product(2048, clock="core"),
    product(2048, clock="core", device="Ascend910B4"),
)
OFF = (1.0, 1.3, 0.5, 0.93, 1.1, 1.02, 0.98, 0.05, 1.6)
"""measured time over that of the model; the small eighth turns an order round"""


def test_rows_that_measured_the_same_work_are_simulated_once(monkeypatch):
    simulated = []
    real = predictor.predict
    monkeypatch.setattr(predictor, "predict", lambda work, *more: simulated.append(work) or real(work, *more))
    said = (product(128, clock="core"), product(128, clock="event"), product(512))
    rows = [Measurement(place=f"file:{n}", time_us=10.0 + n, **one) for n, one in enumerate(said)]
    with predictor.Predictor("algorithms:REGISTRY") as ask:
        cases = [case(row, ask.kernels, MachineSettings()) for row in rows]
        answers = ask([(one, {}) for one in cases])
        again = ask([(one, {"core.scalar.issue_cycles": 3.0}) for one in cases[:2]])
    assert [work.problem.m for work in simulated] == [128, 512, 128]
    assert answers[0] is answers[1] is not answers[2] and again[0] is again[1] is not answers[0]


@pytest.fixture(scope="module")
def truth():
    """The times of ROWS, by a way that has nothing to do with measurements."""
    from algorithms import REGISTRY
    from npusim.lower import lower
    from npusim.problem import Options, Problem, Target
    from npusim.profiles import load_machine
    from npusim.settings import EngineSettings
    from npusim.study import time_program

    found = []
    for row in ROWS:
        machine = load_machine(row["device"])
        problem = Problem(**{k: row[k] for k in ("chunk", "matrices", "m", "n", "k", "dtype") if k in row})
        options = Options(algorithm=row.get("algorithm"), variant=row["variant"])
        kernel = REGISTRY[row["kernel"]].build(problem, options, Target.of(machine))
        report = time_program(lower(kernel, machine), EngineSettings())[0]
        found.append(getattr(report, CLOCK[row["clock"]]))
    return found


@pytest.fixture
def write(tmp_path):
    def written(rows, name="rows.csv"):
        path = tmp_path / name
        columns = list(dict.fromkeys(key for row in rows for key in row))
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, columns, restval="")
            writer.writeheader()
            writer.writerows(rows)
        return path

    return written


def timed(truth, factors):
    return [row | {"time_us": us * off} for row, us, off in zip(ROWS, truth, factors, strict=True)]


def validated(cli, path, *more):
    done = cli("validate", "--measurements", path, "--jobs", 1, "--json", *more)
    assert done.code == 0, done.err
    return json.loads(done.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


# --- numbers -------------------------------------------------------------------------------------


def test_a_file_of_predictions_has_no_error_whatever_the_clock(cli, write, truth):
    data = validated(cli, write(timed(truth, [1.0] * len(ROWS))))
    assert [row["error"] for row in data["rows"]] == pytest.approx([0.0] * len(ROWS), abs=1e-12)
    assert [row["clock"] for row in data["rows"]] == [row["clock"] or "not stated" for row in ROWS]
    assert (data["mape"], data["median_error"], data["ranking"]) == (pytest.approx(0, abs=1e-12), 0.0, 1.0)
    assert data["speedup_error"] == pytest.approx(0, abs=1e-12) and data["unsupported"] == []


def test_errors_are_the_factors_and_their_means_those_of_pandas(cli, write, truth):
    data = validated(cli, write(timed(truth, OFF)))
    rows = pd.DataFrame(data["rows"])
    rows["size"] = (rows.predicted_us / rows.measured_us - 1).abs()
    assert list(rows.error) == pytest.approx([1 / off - 1 for off in OFF])
    assert not rows.apart.any()
    assert data["mape"] == pytest.approx(rows["size"].mean())
    assert data["median_error"] == pytest.approx(rows["size"].median())
    assert data["max_error"] == pytest.approx(rows.error[rows["size"].idxmax()])
    rows["name"] = rows.kernel + rows.algorithm.map(lambda name: f" {name}" if isinstance(name, str) else "")
    for key, groups in (("name", data["by_kernel"]), ("profile", data["by_device"])):
        assert groups.keys() == set(rows[key])
        for name, group in rows.groupby(key):
            assert groups[name]["rows"] == len(group)
            assert groups[name]["mape"] == pytest.approx(group["size"].mean())
            assert groups[name]["median_error"] == pytest.approx(np.median(group["size"]))


def test_the_ranking_is_that_of_all_pairs_tried_one_by_one(cli, write, truth):
    data = validated(cli, write(timed(truth, OFF)))
    right, off = [], []
    for a, b in itertools.combinations(data["rows"], 2):
        where = a["device"] == b["device"] or (a["sizes"] == b["sizes"] and a["dtype"] == b["dtype"])
        if a["kernel"] != b["kernel"] or a["clock"] != b["clock"] or not where:
            continue
        measured, predicted = (a[key] / b[key] for key in ("measured_us", "predicted_us"))
        off.append(abs(predicted / measured - 1))
        if abs(math.log(measured)) > 0.07:
            right.append((measured < 1) == (predicted < 1) and predicted != 1)
    assert 0 < sum(right) < len(right)
    assert (data["ranked_pairs"], data["ranking"]) == (len(right), pytest.approx(np.mean(right)))
    assert data["speedup_error"] == pytest.approx(np.median(off))


def test_rows_of_one_predicted_time_are_not_in_the_measured_order_whichever_comes_first(cli, write):
    slow, fast = (inverse(6, clock="core", time_us=us) for us in (80.0, 40.0))
    for name, pair in (("a.csv", (slow, fast)), ("b.csv", (fast, slow))):
        data = validated(cli, write(pair, name))
        assert (data["ranked_pairs"], data["ranking"]) == (1, 0.0)


def test_busy_times_stand_beside_those_of_the_model_and_say_what_is_wrong(cli, write):
    large = product(4096, n=4096, k=4096, clock="core", time_us=1.0)
    first = validated(cli, write([large | {"mte2_us": 1, "cube_us": 2}]))["rows"][0]
    seen, us = first["busy"], first["predicted_us"]
    assert (seen["mte2_us"]["measured_us"], seen["cube_us"]["measured_us"]) == (1, 2)
    mte2, cube = (seen[column]["predicted_us"] for column in ("mte2_us", "cube_us"))
    assert 0 < mte2 < us and us / 2 < cube < us
    off = large | {"time_us": us - cube / 2, "mte2_us": mte2, "cube_us": cube / 2}
    told = validated(cli, write([off]))["rows"][0]["dominated_by"]
    assert told["unit"] == "aic_mac" and told["why"].startswith("busy ")
    carried = validated(cli, write([large]))["rows"][0]["dominated_by"]
    share = re.fullmatch(r"carries (\d+) % of the prediction", carried["why"])
    assert share and carried["unit"] in ("aic_mac", "aic_mte2") and 50 < int(share.group(1)) <= 100


def test_what_says_little_of_the_model_is_counted_by_itself(cli, write):
    copies = {"device": "ascend-910b2", "kernel": "copy", "dtype": "fp16", "m": 64, "n": 256, "time_us": 9}
    rows = [
        {"device": "ascend-910b2", "kernel": "empty", "time_us": 10.0, "clock": "task_duration"},
        copies | {"variant": "clone"},
        product(128, device="unknown-910b", time_us=20.0),
        product(128, time_us=10.0),
    ]
    data = validated(cli, write(rows))
    kinds = ["launch only", "structure not stated", "device not stated", None]
    assert [row["apart"] for row in data["rows"]] == kinds
    assert data["mape"] == pytest.approx(abs(data["rows"][3]["error"])) and len(data["by_kernel"]) == 1
    assert [data["apart"][kind]["rows"] for kind in kinds[:3]] == [1, 1, 1]


# --- what is not predicted -----------------------------------------------------------------------


def test_every_row_is_predicted_or_has_a_reason(cli, write, truth):
    unknown = [
        product(128, kernel="conv3d", time_us=1), product(128, device="", time_us=1),
        product(128, device="h100", time_us=1), inverse(6, variant="fast", time_us=1),
        product(128, variant="textbook", repeat=7, time_us=1), inverse(6, chunk=24, time_us=1),
    ]  # fmt: skip
    path = write([*timed(truth, OFF), *unknown])
    data = validated(cli, path)
    places = [row["row"] for key in ("rows", "unsupported") for row in data[key]]
    assert sorted(places) == sorted(f"{path}:{line}" for line in range(2, 2 + len(ROWS) + len(unknown)))
    reasons = [row["reason"] for row in data["unsupported"]]
    for reason, part in zip(
        reasons, ("no kernel", "names no device", "h100", "no variant", "repeats", "24"), strict=True
    ):
        assert part in reason and "\n" not in reason


def test_a_profile_takes_the_rows_of_its_device_and_those_that_name_none(cli, write, truth, tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("extends: ascend-910b2\nclock_ghz: {value: 0.9, source: mine, evidence: assumed}\n")
    rows = [*timed(truth, [1.0] * len(ROWS)), product(128, device="", time_us=truth[5], clock="core")]
    data = validated(cli, write(rows), "--profile", mine)
    assert data["profile"] == str(mine) and Counter(row["profile"] for row in data["rows"]) == {"mine": 4}
    assert all(row["error"] > 0 for row in data["rows"])
    assert all("does not describe" in row["reason"] for row in data["unsupported"])
    assert len(data["unsupported"]) == len(ROWS) - 3


def test_operators_of_a_profiler_that_are_none_of_ours_are_listed(cli, tmp_path):
    lines = (
        "Op Name,OP Type,Task Type,Task Duration(us),Block Dim,Input Shapes,Input Data Types,Output Shapes",
        'mm,MatMulV2,AI_CORE,12.5,24,"256,512;512,256",FLOAT16;FLOAT16,"256,256"',
        'gather,GatherV2,AI_CORE,3.5,24,"256,512",FLOAT16,"256,256"',
    )
    path = tmp_path / "op_summary_0.csv"
    path.write_text("\n".join(lines) + "\n")
    data = validated(cli, path, "--profile", "ascend-910b2")
    assert (data["rows"][0]["kernel"], data["rows"][0]["apart"]) == ("matmul", "structure not stated")
    assert data["unsupported"][0]["row"] == f"{path}:3" and data["mape"] is None


# --- what people see -----------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 120])
def test_the_tables_fit_the_terminal_and_show_settings_first(cli, write, truth, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    bad = product(128, kernel="conv3d", time_us=1)
    done = cli("validate", "--measurements", write([*timed(truth, OFF), bad]), "--jobs", 1)
    assert done.code == 0 and done.err == ""
    text = done.out
    longest = max(len(line.rstrip()) for line in text.splitlines() if str(os.sep) not in line)
    assert longest <= width
    order = [text.index(part) for part in ("workers", "toy, core time", "Accuracy", "ranking", "no kernel")]
    assert order == sorted(order) and "…" not in text


def test_places_are_as_short_as_they_stay_clear():
    assert short_places(["a/b.csv:2", "a/b.csv:13"]) == {"a/b.csv:2": "2", "a/b.csv:13": "13"}
    assert list(short_places(["a/b/x.csv:2", "a/c/x.csv:2"]).values()) == ["b/x.csv:2", "c/x.csv:2"]
    assert list(short_places(["x.csv:2", "a/x.csv:2"]).values()) == ["x.csv:2", "a/x.csv:2"]
    assert ranges([7, 2, 3, 4]) == "2-4, 7"
    refused = [Refused(f"a.csv:{line}", "add", "why") for line in (2, 3, 9)]
    assert refusals(refused) == [("2-3, 9", "add", "why")]


# --- the report ----------------------------------------------------------------------------------


class Page(HTMLParser):
    """Tags with their attributes, and the text that is no script and no style."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.data, self.inside = [], "", [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.inside.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self.inside.pop()

    def handle_data(self, data):
        if not self.inside:
            self.text += data
        elif self.inside[-1][1].get("type") == "application/json":
            self.data.append(json.loads(data))


def test_the_report_asks_no_other_host_and_shows_every_row(cli, write, truth, tmp_path):
    rows = timed(truth, OFF)
    rows[7] |= {"mte2_us": 3.0, "scalar_us": 0.0}
    path = write([*rows, product(9, kernel="</script><b>bold</b>", time_us=1)])
    target = tmp_path / "report.html"
    done = cli("validate", "--measurements", path, "--jobs", 1, "--html", target)
    assert done.code == 0 and f"written: {target}" in done.out
    page = Page(target.read_text())
    kinds = {tag for tag, _ in page.tags}
    assert not kinds & {"link", "img", "iframe", "object", "embed", "base", "form", "b>bold"}
    assert not any(name in attrs for _, attrs in page.tags for name in ("src", "href", "srcset", "action"))
    assert "@import" not in target.read_text().partition("</style>")[0]
    assert "prefers-color-scheme: dark" in target.read_text()
    for line in range(2, 3 + len(ROWS)):
        assert f"{path}:{line}" in page.text
    assert "</script><b>bold</b>" in page.text and str(path) in page.text
    parity, errors, busy = page.data
    shown = [text for trace in parity["data"] for text in trace.get("text", ())]
    assert sorted(re.findall(r"rows\.csv:(\d+)", " ".join(shown)), key=int) == [str(n) for n in range(2, 11)]
    assert (parity["layout"]["xaxis"]["type"], parity["layout"]["yaxis"]["type"]) == ("log", "log")
    points = sorted(x for trace in errors["data"] if "text" in trace for x in trace["x"])
    assert points == pytest.approx(sorted(100 * (1 / off - 1) for off in OFF))
    assert busy["layout"]["yaxis"]["ticktext"] == ["aic_mte2"]


def test_a_report_is_replaced_only_when_asked(cli, write, truth, tmp_path):
    path, target = write(timed(truth, OFF)[:1]), tmp_path / "report.html"
    target.write_text("mine")
    refused = cli("validate", "--measurements", path, "--jobs", 1, "--html", target)
    assert refused.code == 2 and "--force" in refused.err and refused.out == ""
    assert target.read_text() == "mine"
    assert cli("validate", "--measurements", path, "--jobs", 1, "--html", target, "--force").code == 0
    assert target.read_text().startswith("<!DOCTYPE html>")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["report.html", "rows.csv"]


# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--measurements", "none.csv"), "none.csv: no such file"),
        (("--measurements", "bad.csv"), "column 'kernal' is none of a measurement"),
        (("--measurements", "bad.csv", "--operators", "none.yaml"), "none.yaml"),
        (("--operators", "bad.csv"), "--operators: the shipped rows name their kernels"),
        (("--profile", "ascend-910b9"), "ascend-910b9"),
        (("--jobs", "0"), "--jobs"),
        (("--force",), "--force: no report is written"),
        (("--html", "nowhere/report.html"), "folder nowhere does not exist"),
        (("--html", "."), "is a folder"),
        (("--measurements", "bad.csv", "--html", "bad.csv", "--force"), "is the file of --measurements"),
        (("extra",), "extra"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(cli, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.csv").write_text("kernal,time_us\nadd,1\n")
    done = cli("validate", *arguments)
    assert (done.code, done.out) == (2, "") and message in done.err and done.err.count("\n") == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["bad.csv"]


def test_worker_processes_say_the_same(cli, write, truth):
    path = write(timed(truth, OFF)[:3])
    alone = validated(cli, path)
    done = cli("validate", "--measurements", path, "--jobs", 2, "--json")
    assert done.code == 0 and json.loads(done.out) == alone
