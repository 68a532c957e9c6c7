"""Sweep without a browser: how one is defined, its stores, what is drawn of them, and the way to Explore."""

from __future__ import annotations

import io
import json
import math
import multiprocessing
import os
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dashboard.figures import sweep as figures
from dashboard.figures.theme import DARK, LIGHT
from dashboard.pages import sweep as page
from dashboard.pages import sweep_define as define
from dashboard.pages import sweep_view as looked
from dashboard.service import REGISTRY, Refused, Service, trial
from dashboard.service.jobs import Home
from dashboard.service.points import ROUGH, Points, text_of
from dashboard.service.stores import Stores
from dashboard.service.sweep_fields import SET
from dashboard.service.sweeps import Sweeps, joined, split, sweep
from dashboard.state import State
from npusim.sweep import run as running
from npusim.sweep import table
from npusim.sweep.spec import Spec
from npusim.sweep.store import Row, Store
from npusim.workers import Workers

STARTUP = "set.core.cube.startup_cycles"
SMALL = State.of({"seq_len": 256, "heads": 2, "samples": 2})
LAUGHS = "[&a0 [1], " + ", ".join(f"&a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)) + "]"
"""YAML whose last list stands for 9^29 numbers"""
VARY = f"algorithm=mxr,doubling,masked-neumann;chunk=16,32,40;order=2;{STARTUP}=10,20"


def compute(folder: Path, state: State, store: str) -> dict:
    """A sweep as its job computes it, in this process."""
    told = []
    found = sweep(lambda *own: told.append(own), {"state": state.query, "store": store}, Home(folder))
    assert told[0][:2] != told[-1][:2] and told[-1][0] == told[-1][1] == found["points"]
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("work")
    before = Path.cwd()
    os.chdir(found)  # as the dashboard does, which runs where it is started
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dashboard.service.sweeps.processes", lambda: 1)
        compute(found, SMALL.viewed("sweep", vary=VARY), "some.db")
    yield found
    os.chdir(before)


@pytest.fixture(scope="module")
def service(folder):
    return Service(folder=folder)


@pytest.fixture(scope="module")
def sweeps(service):
    return Sweeps(service)


@pytest.fixture(scope="module")
def stores(service, sweeps):
    return Stores(service, sweeps)


@pytest.fixture(scope="module")
def points(stores):
    return stores.points("some.db")


# --- what varies -----------------------------------------------------------------------------------


def test_a_sweep_is_what_the_command_line_would_ask(sweeps):
    state = SMALL.updated(set="core.cube.startup_cycles=7", dtype="bf16", mask="no")
    state = state.viewed("sweep", vary="algorithm=masked-neumann;chunk=16,32;order=2:4;set.clock_ghz=1,1.5")
    given = {
        "seq_len": 256, "heads": 2, "samples": 2, "dtype": "bf16", "mask": "no", "order": "2:4",
        "algorithm": "masked-neumann", "chunk": "16,32",
        "set": {"core.cube.startup_cycles": "7", "clock_ghz": "1,1.5"},
    }  # fmt: skip
    want = Spec.of("tri-inverse", given)
    found = sweeps.spec(state)
    assert dict(found.fields) == dict(want.fields) and dict(found.numbers) == dict(want.numbers)
    assert sweeps.outlook(state, "new.db").points == found.size == 12


@pytest.mark.parametrize("kernel", ["tri-inverse", "gdn-fused", "matmul", "softmax", "copy"])
def test_what_is_suggested_can_be_asked(sweeps, kernel):
    for one in sweeps.suggestions(State(kernel)):
        if not one.name.startswith(SET):
            assert one.label and one.meaning, one
            assert one.text, one
        state = State(kernel).viewed("sweep", vary=f"{one.name}={one.text}")
        rows = sweeps.rows(state)
        assert [(row.name, row.problem) for row in rows] == [(one.name, "")]
        assert rows[0].count >= 1


def test_what_varies_by_itself_is_the_algorithms_and_chunks_of_a_kernel_that_has_several(sweeps):
    assert list(sweeps.varied(State())) == ["algorithm", "chunk"]
    assert sweeps.varied(State.of({"algorithm": "mxr"})) == {"chunk": "32,64,128"}
    assert sweeps.varied(State("matmul")) == {}
    state = State().viewed("sweep", vary="-")
    assert sweeps.varied(state) == {} and sweeps.outlook(state, "new.db").points == 1
    assert define.varying(sweeps, state, sweeps.varied(State())) == State()
    assert define.varying(sweeps, State(), {}) == state


@pytest.mark.parametrize(
    ("vary", "said"),
    [
        ("chunk=16,x", "--chunk"), ("chunk=", "--chunk: a value is empty"), ("chunk=16,16", "given twice"),
        ("order=9:2", "range 9:2 is empty"), ("chnk=16", "did you mean 'chunk'"),
        ("set.core.cube.startup=1", "core.cube.startup"), ("inputs=/etc/passwd", "is no setting that varies"),
        ("seq_len=1:2000;heads=1:2000", "are more than 1,000,000"),
        ("profile=../x.yaml", "in the working folder"),
        ("algorithm=mxr;order=2", "--order"),
    ],
)  # fmt: skip
def test_a_sweep_that_cannot_be_says_so_in_one_line(sweeps, vary, said):
    state = SMALL.viewed("sweep", vary=vary)
    with pytest.raises(Refused, match=said) as error:
        sweeps.outlook(state, "new.db")
    assert "\n" not in str(error.value)


def test_machines_with_other_paths_are_saved_first(sweeps):
    with pytest.raises(Refused, match="save this one as a profile"):
        sweeps.spec(SMALL.updated(paths="l0c_ub"))


def test_what_cannot_be_is_counted_by_why(sweeps):
    state = SMALL.viewed("sweep", vary="algorithm=mxr,doubling;variant=published,textbook;cores=1,99")
    ahead = sweeps.outlook(state, "new.db")
    assert ahead.points + sum(ahead.skipped.values()) == 8
    assert any("has 24 core groups, got 99" in reason for reason in ahead.skipped)
    many = SMALL.viewed("sweep", vary=f"{STARTUP}=1:500")
    assert not sweeps.outlook(many, "new.db").looked and sweeps.estimate(many, "new.db") is None


def test_time_is_estimated_from_points_that_are_tried(sweeps, monkeypatch):
    monkeypatch.setattr("dashboard.service.trial.LONGEST_S", 60.0)  # of a busy machine, too
    state = SMALL.updated(numerics="no").viewed("sweep", vary="chunk=16:512:16")
    few, many = (
        sweeps.estimate(SMALL.updated(numerics="no").viewed("sweep", vary=v), "new.db")
        for v in ("chunk=16,32", "chunk=16,32;batch=1:60")
    )
    assert few.tried == 2 and 0 < few.seconds < many.seconds
    assert define.estimate_text(few).endswith("as 2 points tried here say")
    assert define.estimate_text(None) == "" and sweeps.outlook(state, "new.db").points == 32


def test_a_point_that_takes_long_is_ended_and_tells_nothing(sweeps, monkeypatch):
    monkeypatch.setattr("dashboard.service.trial.LONGEST_S", 0.2)
    long = State.of({"kernel": "attention", "seq_len": 65536, "numerics": "no"}).viewed("sweep", vary="-")
    assert sweeps.estimate(long, "new.db") is None  # it would take the better part of a minute
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    "text", [VARY, "chunk=16,32", "algorithm=mxr,doubling;profile=toy,ascend-910b2;engine=fast"]
)
def test_a_sweep_goes_to_yaml_and_back(sweeps, text):
    state = SMALL.updated(dtype="bf16").viewed("sweep", vary=text)
    again = sweeps.from_yaml(sweeps.yaml(state), State.of({"graph.op": 3}))
    one, other = sweeps.spec(state), sweeps.spec(again)
    assert dict(one.fields) == dict(other.fields) and dict(one.numbers) == dict(other.numbers)
    assert again.own("graph") == {"op": "3"}
    assert split(joined(split(text))) == split(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must map names"), ("kernel: nonsense", "no kernel 'nonsense'"), ("kernel: [", "YAML syntax"),
        ("kernel: matmul\ninputs: x.npz", "are for the command line"), ("chunk: 16", "kernel: missing"),
        ("kernel: tri-inverse\nchnk: 16", "did you mean 'chunk'"),
        ("kernel: copy\ntiming: false", "are timed"),
        ("kernel: tri-inverse\nprofile: /etc/x.yaml", "in the working folder"), ("a" * 70_000, "longer than"),
        (f"kernel: copy\nm: {LAUGHS}", "its aliases .* stand for too much"),
        ("kernel: copy\nm: [[1], [2]]", "m: a list or a map is no value"),
        ("kernel: copy\nset: {clock_ghz: [[1]]}", "clock_ghz: a list or a map is no value"),
        ("kernel: copy\nset: [[1]]", "set: write path.to.field=VALUES"),
        (f"kernel: copy\n? {LAUGHS}\n: 3", "not valid YAML: unhashable"),
    ],
)  # fmt: skip
def test_yaml_that_is_no_sweep_says_so(sweeps, text, said):
    with pytest.raises(Refused, match=said):
        sweeps.from_yaml(text, State())


# --- stores ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../x.db", "/tmp/x.db", "a/b.db", "x", "x.yaml", "", ".db", "..\\x.db", "x.db\n"]
)
def test_a_store_is_a_plain_file_of_the_folder(sweeps, folder, name):
    with pytest.raises(Refused, match="no plain name"):
        sweeps.place(name)
    with pytest.raises(Refused, match="no plain name"):
        sweep(lambda *_: None, {"state": SMALL.query, "store": name}, Home(folder))
    assert sweeps.place("x.db") == folder / "x.db"


def test_no_link_leads_out_of_the_folder(sweeps, folder, tmp_path):
    (folder / "out.db").symlink_to(tmp_path / "there.db")
    with pytest.raises(Refused, match="a link out of the folder"):
        sweeps.place("out.db")
    (folder / "out.db").unlink()


def test_a_link_to_a_profile_that_is_gone_is_no_error(stores, folder):
    (folder / "gone.yaml").symlink_to(folder / "nowhere.yaml")
    assert len(stores.points("some.db", "1 + cores"))
    (folder / "gone.yaml").unlink()


def test_stores_are_listed_and_foreign_or_damaged_ones_say_what_they_are(stores, folder):
    (folder / "text.db").write_text("no store at all, but a text")
    (folder / "cut.db").write_bytes((folder / "some.db").read_bytes()[:5000])
    with Store(str(folder / "none.db")):
        pass
    assert set(stores.names()) == {"some.db", "text.db", "cut.db", "none.db"}
    for name, said in (
        ("text.db", "text.db: is damaged or no store"), ("cut.db", "cut.db: is damaged"),
        ("none.db", "none.db: has no points yet"), ("gone.db", "gone.db: no such store"),
    ):  # fmt: skip
        with pytest.raises(Refused, match=said):
            stores.points(name)
    for name in ("text.db", "cut.db", "none.db"):
        (folder / name).unlink()


def test_a_sweep_that_is_started_again_computes_what_is_missing(folder, sweeps, monkeypatch):
    monkeypatch.setattr("dashboard.service.sweeps.processes", lambda: 1)
    state = SMALL.updated(numerics="no").viewed("sweep", vary="chunk=16,32")
    assert compute(folder, state, "more.db")["computed"] == 2
    more = state.viewed("sweep", vary="chunk=16,32,64")
    ahead = sweeps.outlook(more, "more.db")
    assert (ahead.points, ahead.known, ahead.left) == (3, 2, 1)
    found = compute(folder, more, "more.db")
    assert (found["computed"], found["known"]) == (1, 2)
    assert not sweeps.outlook(more, "more.db").left
    (folder / "more.db").unlink()


# --- the points --------------------------------------------------------------------------------------


def shown(cli, *arguments) -> list[dict]:
    """Rows as `npusim results` gives them."""
    called = cli("results", "some.db", "--json", *arguments)
    assert called.code == 0, called.err
    return json.loads(called.out)["rows"]


def test_points_are_what_results_shows(points, cli, folder):
    want = shown(cli, "--status", "all")
    names = list(want[0])
    assert Counter(points.states) == Counter(row["status"] for row in want) == {"done": 12, "skipped": 6}
    found = [dict(zip(names, line, strict=True)) for line in zip(*map(points.values, names), strict=True)]
    key = repr
    assert sorted(map(key, found)) == sorted(map(key, want))


@pytest.mark.parametrize(
    "conditions",
    [
        ["chunk=32"],
        ["time_us<20", "algorithm!=mxr"],
        ["relative_error<1e-3"],
        [f"{STARTUP}>=20", "chunk=16,32"],
    ],
)
def test_conditions_choose_what_they_choose_on_the_command_line(points, cli, conditions):
    words = [word for one in conditions for word in ("--where", one)]
    want = [row["time_us"] for row in shown(cli, *words)]
    found = points.where(" ".join(f"'{one}'" for one in conditions)).of_status("done")
    assert want and sorted(found.values("time_us")) == sorted(want)


def test_a_wrong_condition_says_so(points):
    for text, said in (
        ("chnk=3", "did you mean 'chunk'"),
        ("chunk", "no condition"),
        ("'a", "quotation mark"),
    ):
        with pytest.raises(Refused, match=said):
            points.where(text)
    assert len(points.where("chunk=7 algorithm=mxr")) == 0


def test_the_front_is_that_of_results(points, cli):
    want = shown(cli, "--pareto", "time_us,relative_error")
    done = points.of_status("done")
    keys = done.front("time_us", "relative_error")
    assert done.only(keys).values("time_us") == [row["time_us"] for row in want]
    best = done.front("time_us", "snr_db")  # of which more is better
    assert [done.only(best).values(n) for n in ("time_us", "snr_db")] == [
        [row[n] for row in shown(cli, "--pareto", "time_us,-snr_db")] for n in ("time_us", "snr_db")
    ]


def test_a_cost_is_a_column(stores, cli):
    cost = "cores*a + 1, a=2"
    want = shown(cli, "--cost", cost)
    points = stores.points("some.db", cost).of_status("done")
    assert points.values("cost") == [row["cost"] for row in want] and "cost" in points.axes
    with pytest.raises(Refused, match="nonsense"):
        stores.points("some.db", "nonsense + 1")


@pytest.mark.parametrize("how", ["best", "mean"])
@pytest.mark.parametrize("value", ["time_us", "utilisation"])
def test_cells_are_what_pandas_groups(points, how, value):
    done = points.of_status("done")
    cells = done.cells("chunk", "algorithm", value, how)
    better = "mean" if how == "mean" else "max" if value == "utilisation" else "min"
    want = done.frame.pivot_table(value, "algorithm", "chunk", aggfunc=better)
    assert cells.xs == ("16", "32") and cells.ys == tuple(want.index)
    assert np.allclose(np.array(cells.values, dtype=float), want.to_numpy())
    assert {count for row in cells.counts for count in row} == {2}
    for row in zip(cells.values, cells.keys, strict=True):
        for number, key in zip(*row, strict=True):
            if how == "best":
                assert done.only([key]).values(value) == [number]


def test_brushing_keeps_what_lies_in_the_ranges(points):
    done = points.of_status("done")
    frame = done.frame
    logs = np.log10(frame["relative_error"].astype(float))
    low, high = np.quantile(logs, [0.2, 0.7])
    assert points.scale("relative_error").kind == "log"
    found = done.brushed({"relative_error": [[low, high]]})
    assert set(found.frame.index) == set(frame.index[(logs >= low) & (logs <= high)]) != set(frame.index)
    names = points.scale("algorithm").names
    place = names.index("doubling")
    found = done.brushed(
        {"algorithm": [[place - 0.4, place + 0.4]], "chunk": [[0, 99]], "no column": [[0, 1]]}
    )
    assert set(found.frame["algorithm"]) == {"doubling"}
    two = done.brushed({"algorithm": [[-0.1, 0.1], [place - 0.1, place + 0.1]]})
    assert set(two.frame["algorithm"]) == {names[0], "doubling"}


def test_every_point_opens_in_explore_with_exactly_its_settings(points, stores, service):
    for row in points.of_status("done").rows:
        link = State.from_query(stores.link(row).query)
        assert service.timing(link).report.task_us == row.result["time_us"]
        assert service.accuracy(link).main.relative_error == row.result["relative_error"]
        asked = service.request(link)
        built = service.kernel(asked, service.machine(asked.setup))
        assert (built.algorithm, asked.problem.chunk) == (row.settings["algorithm"], row.settings["chunk"])
        assert link.listed("set") == (f"core.cube.startup_cycles={row.settings[STARTUP]}",)


def test_a_point_of_a_file_or_of_a_kernel_that_is_not_there_says_so(stores):
    with pytest.raises(Refused, match="mine: is no kernel of this dashboard"):
        stores.link(Row("k", "mine", "done", {}))
    with pytest.raises(Refused, match="computed on a file"):
        stores.link(Row("k", "matmul", "done", {"inputs": "x.npz"}))
    with pytest.raises(Refused, match="another folder"):
        stores.link(Row("k", "matmul", "done", {"profile": "/etc/x.yaml"}))


def test_profiles_of_the_folder_are_named_as_the_command_line_would(
    folder, sweeps, stores, service, monkeypatch
):
    monkeypatch.setattr("dashboard.service.sweeps.processes", lambda: 1)
    service.save(SMALL.updated(set="clock_ghz=1"), "slow")
    state = SMALL.updated(numerics="no").viewed("sweep", vary="profile=slow.yaml,ascend-910b2")
    compute(folder, state, "own.db")
    points = stores.points("own.db")
    assert sorted(points.values("profile")) == ["ascend-910b2", "slow.yaml"]
    for row in points.rows:
        assert service.timing(stores.link(row)).report.task_us == row.result["time_us"]
    own = folder / "slow.yaml"
    own.write_text(own.read_text().replace("value: 1", "value: 2", 1))
    assert Counter(stores.points("own.db").states) == {"done": 1, "stale": 1}
    own.unlink()
    (folder / "own.db").unlink()


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_an_export_holds_the_rows_and_columns_that_are_seen(points, ending):
    some = points.of_status("done").where("chunk=32")
    data = io.BytesIO(some.export(["algorithm", "chunk", "time_us", "no column"], ending))
    found = pd.read_csv(data) if ending == ".csv" else pd.read_parquet(data)
    assert list(found) == ["algorithm", "chunk", "time_us"]
    assert list(found["time_us"]) == pytest.approx(some.values("time_us"))
    assert list(found["algorithm"]) == some.values("algorithm")


# --- what is drawn -----------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_parallel_coordinates_have_a_line_for_each_point_and_keep_what_is_brushed(points, theme):
    done = points.of_status("done")
    data = figures.parallel(done, theme, {"chunk": [[1.4, 1.6]]})["data"][0]
    axes = {axis["name"]: axis for axis in data["dimensions"]}
    assert list(axes)[:4] == ["algorithm", "chunk", STARTUP, "time_us"]
    assert all(len(axis["values"]) == 12 for axis in axes.values())
    assert axes["chunk"]["constraintrange"] == [1.4, 1.6] and "constraintrange" not in axes["time_us"]
    assert axes["relative_error"]["values"] == pytest.approx(
        np.log10(done.frame["relative_error"].astype(float))
    )
    assert axes["algorithm"]["ticktext"] == ["doubling", "masked-neumann", "mxr"]
    for axis in axes.values():
        low, high = axis["range"]
        assert all(low <= value <= high for value in (*axis["values"], *axis["tickvals"]))
        assert len(axis["tickvals"]) == len(axis["ticktext"])
    assert figures.parallel(points.where("chunk=7"), theme, {})["data"] == []


def test_the_front_marks_its_points_and_says_all_settings(points):
    done = points.of_status("done")
    found = figures.front(done, "time_us", "relative_error", LIGHT, done.rows[3].key)
    marks = [trace for trace in found["data"] if trace["mode"] == "markers" and trace.get("customdata")]
    large = [
        key for trace in marks for key, size in zip(trace["customdata"], trace["marker"]["size"], strict=True)
        if size == max(trace["marker"]["size"]) and size > 7
    ]  # fmt: skip
    assert sorted(large) == sorted(done.front("time_us", "relative_error"))
    assert sum(len(trace["customdata"]) for trace in marks) == 12
    row = done.rows[0]
    said = next(
        trace["hovertext"][trace["customdata"].index(row.key)]
        for trace in marks
        if row.key in trace["customdata"]
    )
    for name, unit in (("algorithm", ""), ("chunk", ""), (STARTUP, " cycles")):
        assert f"<b>{text_of(row.settings[name])}{unit}</b>" in said
    assert f"<b>{text_of(row.result['time_us'], ROUGH)} µs</b>" in said


def test_cells_say_their_value_and_open_their_best_point(points):
    done = points.of_status("done")
    cells = done.cells("chunk", "algorithm", "time_us", "best")
    data = figures.heat(cells, points, LIGHT)["data"][0]
    assert (len(data["z"]), len(data["z"][0])) == (3, 2)
    assert data["customdata"] == [list(row) for row in cells.keys]
    assert all("best of 2 points" in text for row in data["hovertext"] for text in row)


def test_nothing_is_drawn_of_nothing(points):
    none = points.where("chunk=7")
    for made in (
        figures.front(none, "time_us", "relative_error", LIGHT),
        figures.heat(none.cells("chunk", "algorithm", "time_us", "best"), points, LIGHT),
        figures.parallel(none, LIGHT, {}),
    ):
        assert made["data"] == [] and made["layout"]["annotations"][0]["text"]


@pytest.mark.parametrize("x", ["time_us", "utilisation"])
@pytest.mark.parametrize("y", ["relative_error", "snr_db"])
def test_the_line_of_a_front_promises_nothing_that_no_point_gives(points, x, y):
    done = points.of_status("done")
    line = figures.front(done, x, y, LIGHT)["data"][0]
    assert line["mode"] == "lines" and line["line"]["shape"] == "hv"  # across first, and then up or down
    signs = [1 if done.columns[name].better > 0 else -1 for name in (x, y)]
    there = np.array([done.coordinates(x), done.coordinates(y)]).T * signs
    for corner in zip(line["x"][1:], line["y"], strict=False):
        assert (there >= np.array(corner) * signs).all(axis=1).any()


def stored(*settings_and_figures: tuple[dict, dict]) -> Points:
    """Points of these settings and figures, by the keys 0, 1, 2; skipped where there are no figures."""
    rows = [
        Row(str(n), "tri-inverse", "done" if figures else "skipped", settings, {}, figures)
        for n, (settings, figures) in enumerate(settings_and_figures)
    ]
    frame = table.frame(rows)
    frame.index = pd.Index([row.key for row in rows])
    return Points(rows, frame)


def test_an_exact_point_hides_no_front():
    snrs = (math.inf, 50.0, 60.0)
    points = stored(*[({}, {"time_us": float(n), "snr_db": snr}) for n, snr in enumerate(snrs, 1)])
    assert points.front("time_us", "snr_db") == ["1", "2"] and points.front("snr_db", "time_us") == ["2", "1"]
    traces = figures.front(points, "time_us", "snr_db", LIGHT)["data"]
    assert traces[0]["y"] == [50.0, 60.0] and traces[1]["customdata"] == ["1", "2"]


@pytest.mark.parametrize("settings", [{"algorithm": "mxr"}, {"chunk": 16}])
def test_a_store_without_figures_yet_is_no_error(settings):
    points = stored((settings, {}), ({**settings, "dtype": "bf16"}, {}))
    seen = looked.view(points, {"x": "time_us"})
    some = looked.drawn(points, {}, seen)[1]
    assert seen.x == "" and some.brushed({}).axes == points.axes == []
    assert figures.front(some, seen.x, seen.y, LIGHT)["layout"]["annotations"][0]["text"]
    assert len(looked.records(points, seen.columns)) == 2


def test_zero_beside_logarithms_is_called_zero():
    points = stored(*[({}, {"time_us": 1.0, "relative_error": own}) for own in (0.0, 2e-6, 3e-4, 1e-2)])
    axis = figures.front(points, "time_us", "relative_error", LIGHT)["layout"]["yaxis"]
    ticks = dict(zip(axis["tickvals"], axis["ticktext"], strict=True))
    assert ticks.pop(min(points.coordinates("relative_error"))) == "0"
    assert all(10**at == pytest.approx(float(text)) for at, text in ticks.items()) and len(ticks) > 2
    axis = figures.front(points.only(["1", "2"]), "time_us", "relative_error", LIGHT)["layout"]["yaxis"]
    assert "0" not in axis["ticktext"]


def test_settings_that_differ_in_the_fifth_digit_are_two():
    points = stored(*[({STARTUP: own, "chunk": 16384}, {"time_us": own}) for own in (1.00001, 1.00002)])
    assert points.texts(STARTUP) == ["1.00001", "1.00002"] and points.texts("time_us") == ["1", "1"]
    assert points.cells(STARTUP, "chunk", "time_us", "best").counts == ((1, 1),)


def test_names_of_a_store_are_letters_and_no_markup():
    own = {"a%sb": "<b>50%</b>", "c<d": "x&y"}
    points = stored((own, {"time_us": 1.0}), (dict.fromkeys(own, "z"), {"time_us": 2.0}))
    said = [text for one in figures.front(points, "time_us", "time_us", LIGHT)["data"]
            for text in one.get("hovertext", ())]  # fmt: skip
    assert any("A%sb <b>&lt;b&gt;50%&lt;/b&gt;</b><br>C&lt;d <b>x&amp;y</b>" in text for text in said)
    data = figures.heat(points.cells("a%sb", "c<d", "time_us", "best"), points, LIGHT)
    assert "&lt;b&gt;50%&lt;/b&gt;" in data["data"][0]["x"] and "C&lt;d" in str(data["layout"])


def test_a_point_that_is_gone_is_not_another_one(points, stores):
    assert len(points.only(["no key", points.rows[2].key])) == 1
    with pytest.raises(Refused, match="not in the store any more"):
        page.link_of(stores, points, "no key", State())


def test_a_brush_holds_while_its_axis_means_the_same():
    rows = [({"algorithm": own}, {"time_us": time}) for own, time in (("a", 1.0), ("c", 2.0))]
    before = stored(*rows)
    scales = {name: before.scale(name).mark for name in ("algorithm", "time_us")}
    brush = {"store": "s.db", "spans": {"algorithm": [[0.5, 1.5]], "time_us": [[0, 1.5]]}, "scales": scales}
    assert looked.spans_of(before, "s.db", brush) == brush["spans"]
    assert looked.spans_of(before, "other.db", brush) == looked.spans_of(before, "s.db", None) == {}
    named = stored(*rows, ({"algorithm": "b"}, {"time_us": 3.0}))  # which now has the place of c
    assert looked.spans_of(named, "s.db", brush) == {"time_us": [[0, 1.5]]}
    wide = stored(*rows, ({"algorithm": "a"}, {"time_us": 100.0}))  # now drawn by its logarithm
    assert looked.spans_of(wide, "s.db", brush) == {"algorithm": [[0.5, 1.5]]}


def test_a_link_says_only_what_was_chosen(points):
    seen = looked.view(points, {"y": "no column yet"})
    usual, shown = looked.usual_of(points), looked.shown({}, points, seen)
    wrote = {"usual": usual, "shown": shown}
    assert looked.picked(wrote, shown) == looked.picked(None, shown) == {}
    assert looked.picked(wrote, {**shown, "x": "utilisation", "where": "chunk=16"}) == {
        "x": "utilisation", "where": "chunk=16",
    }  # fmt: skip
    other = {"usual": usual, "shown": {**shown, "x": "utilisation", "where": "chunk=16"}}
    assert looked.picked(other, shown) == {"x": None, "where": None}
    assert looked.picked({"usual": {}, "shown": {"where": "", "cost": "1"}}, {**shown, "cost": ""}) == {
        "cost": None
    }


def synthetic(count: int) -> Points:
    """Points of a large store; some are infinite, some lack a setting."""
    draw = np.random.default_rng(0)
    rows = [
        Row(
            f"{n:032x}", "tri-inverse", "done",
            {"algorithm": f"a{n % 5}", "chunk": 16 << n % 4, "set.clock_ghz": 1 + n % 50 / 50}
            | ({"order": n % 7} if n % 5 else {}),
            {},
            {"time_us": float(10 ** draw.uniform(1, 4)), "utilisation": float(draw.uniform()),
             "relative_error": math.inf if n % 97 == 0 else float(10 ** draw.uniform(-7, 0))},
        )
        for n in range(count)
    ]  # fmt: skip
    frame = table.frame(rows)
    frame.index = pd.Index([row.key for row in rows])
    return Points(rows, frame)


def test_thousands_of_points_answer_to_a_brush_and_a_filter():
    points = synthetic(5000)
    assert points.scale("order").names == (*map(str, range(7)), "—")
    within = points.brushed({"time_us": [[1.5, 3.5]], "order": [[0, 6]]}).where("chunk=16,32")
    want = points.frame.query("31.6227766 <= time_us <= 3162.27766 and order == order and chunk in (16, 32)")
    assert sorted(within.frame.index) == sorted(want.index)
    finite = points.frame[np.isfinite(points.frame["relative_error"])]
    assert len(figures.parallel(points, LIGHT, {})["data"][0]["dimensions"][0]["values"]) == len(finite)
    front = figures.front(points, "time_us", "relative_error", LIGHT)
    assert sum(len(trace.get("customdata", ())) for trace in front["data"]) == len(finite)


# --- the page -----------------------------------------------------------------------------------------


def test_a_view_is_what_a_link_says_and_else_what_says_most(points):
    usual = looked.view(points, {})
    assert (usual.x, usual.y, usual.hx, usual.hy, usual.how) == (
        "time_us", "relative_error", "chunk", "algorithm", "best",
    )  # fmt: skip
    assert usual.columns[:5] == ["status", "algorithm", "chunk", STARTUP, "time_us"]
    assert "saturated" not in usual.columns
    own = {"x": "utilisation", "hx": STARTUP, "how": "mean", "columns": "chunk,nonsense", "y": "no column"}
    seen = looked.view(points, own)
    assert (seen.x, seen.y, seen.hx, seen.how, seen.columns) == (
        "utilisation", "relative_error", STARTUP, "mean", ["chunk"],
    )  # fmt: skip


def test_rows_of_the_grid_are_json_and_columns_have_filters_of_their_kind(points):
    names = looked.view(points, {}).columns
    rows = looked.records(points, names)
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows and len(rows) == len(points)
    kinds = {one["field"]: one["filter"] for one in looked.column_defs(points, names)}
    assert kinds["time_us"] == kinds["chunk"] == "agNumberColumnFilter"
    assert kinds["algorithm"] == kinds["reason"] == "agTextColumnFilter"


def test_what_a_sweep_comes_to_in_words(sweeps):
    state = SMALL.viewed("sweep", vary="chunk=16,32;cores=1,99")
    text = str(define.outlook(sweeps.outlook(state, "new.db")))
    assert "2 points" in text and "2 combinations cannot be" in text and "got 99" in text
    ahead = sweeps.outlook(SMALL.viewed("sweep", vary=VARY), "some.db")
    assert not ahead.left and "all of them in the store" in str(define.outlook(ahead))


def test_the_layout_holds_what_its_link_says(service, sweeps):
    state = SMALL.viewed("sweep", vary="chunk=16,48", store="mine.db")
    laid = str(page.layout(service, sweeps, **dict(state.values)))
    assert "16,48" in laid and "mine.db" in laid and "sweep mine.db" in laid
    assert "Sweep" in str(page.layout(service, sweeps, kernel="nonsense"))


def test_points_are_stale_once_their_profile_or_inputs_change(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    number = "{{value: {}, source: me, evidence: assumed}}"
    base = tmp_path / "sub/base.yaml"
    base.parent.mkdir()
    base.write_text(f"extends: toy\nclock_ghz: {number.format(1)}\n")
    (tmp_path / "mine.yaml").write_text("extends: sub/base.yaml\n")
    np.savez("L.npz", L=np.tril(np.random.default_rng(0).random((2, 16, 16)), -1) / 16)
    for given in (
        {"profile": "mine.yaml", "matrices": 8, "chunk": 16, "numerics": False},
        {"profile": "toy", "inputs": "L.npz"},
    ):
        plan = running.plan(Spec.of("tri-inverse", {"algorithm": "mxr", **given}), REGISTRY)
        with Store("s.db") as kept, Workers() as workers:
            running.run(plan, REGISTRY, kept, workers)
    own = Service(folder=tmp_path)
    stores, state = Stores(own, Sweeps(own)), State.of({"profile": "mine.yaml", "matrices": 8, "chunk": 16})
    assert stores.points("s.db").states == {"done": 2}
    before = own.timing(state).report.core_us
    base.write_text(f"extends: toy\nclock_ghz: {number.format(2)}\n")
    os.utime(base, ns=(1, 1))
    assert stores.points("s.db").states == {"done": 1, "stale": 1}
    assert own.timing(state).report.core_us < before
    Path("L.npz").unlink()
    assert stores.points("s.db").states == {"stale": 2}


def test_who_waits_for_an_estimate_goes_away_when_another_is_asked_for():
    found = []

    def ask() -> None:
        with pytest.raises(trial.Overtaken):
            trial.tried(("", "", (), None), [])
        found.append("overtaken")

    before = trial._waiting
    with trial._one:
        first = threading.Thread(target=ask)
        first.start()
        while trial._waiting == before:
            time.sleep(0.01)
        trial._waiting += 1
    first.join()
    assert found == ["overtaken"]


def test_a_store_that_grows_is_read_anew(folder, stores):
    row = Row("0" * 32, "copy", "done", {"m": 4}, {}, {"time_us": 1.0})
    with Store(str(folder / "grows.db")) as kept:
        kept.add([row])
        assert len(stores.points("grows.db")) == 1
        time.sleep(0.02)
        kept.add([Row("1" * 32, "copy", "done", {"m": 8}, {}, {"time_us": 2.0})])
        assert len(stores.points("grows.db")) == 2
    (folder / "grows.db").unlink()
