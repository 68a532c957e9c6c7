"""The dashboard without a browser: states and links, the service, the figures, the application."""

from __future__ import annotations

import os
import re
import socket
import threading
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import dashboard.app as app_module
from algorithms import REGISTRY
from dashboard.components import first, shell
from dashboard.components import panel as panel_module
from dashboard.components.numbers import rows
from dashboard.figures import accuracy as error_figures
from dashboard.figures import text
from dashboard.figures import timing as time_figures
from dashboard.figures.graph import tile_graph
from dashboard.figures.theme import DARK, LIGHT, empty
from dashboard.pages import explore, graph
from dashboard.service import Refused, Service
from dashboard.service.cache import Cache
from dashboard.service.machines import Setup
from dashboard.state import State
from npusim import comparison, study
from npusim.inputs import reference_inverse
from npusim.machine import quantities
from npusim.problem import Options, Problem
from npusim.profiles import diff, load_machine
from npusim.settings import EngineSettings, MachineSettings, NumericsSettings

SMALL = State.of({"seq_len": 1024, "heads": 4, "samples": 3})
MASKED = SMALL.updated(algorithm="masked-neumann")
DIRECT = "paths.l0c_ub.bytes_per_cycle"


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> Service:
    return Service(folder=tmp_path_factory.mktemp("work"))


# --- states and links ----------------------------------------------------------------------------

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Z")), min_size=1, max_size=12)
STATES = st.builds(
    lambda kernel, values: State.of({**values, "kernel": kernel}),
    st.sampled_from(sorted(REGISTRY)),
    st.dictionaries(WORDS.filter(lambda name: name != "kernel"), WORDS | st.integers() | st.booleans()),
)


@given(STATES)
def test_a_link_gives_back_the_state_that_it_was_made_of(state):
    assert State.from_query(state.query) == state
    assert State.from_query("?" + state.query) == state


@given(STATES, WORDS)
def test_a_value_that_is_taken_away_leaves_no_trace(state, value):
    assert state.updated(added=value).updated(added=None) == state.updated(added=None)


def test_settings_of_several_values_and_flags_between_units_survive_a_link():
    texts = ("core.flags.pairs.aic_mac->aic_fixpipe=12", "clock_ghz=1.5")
    state = State.of({"set": texts, "ideal": ["flags", "launch"]})
    back = State.from_query(state.query)
    assert back.listed("set") == texts
    assert back.listed("ideal") == ("flags", "launch")


def test_what_a_control_shows_by_default_says_nothing(service):
    found = service.panel(SMALL)
    shown = {one.name: one.default for one in panel_module._controls(found)} | {
        "variant": found.default_variant
    }
    values = {**shown, "kernel": "tri-inverse", "algorithm": "mxr", "seq_len": 1024, "heads": 4, "samples": 3}
    values["paths"] = [way.key for way in found.ways if way.on]
    assert panel_module.moved(service, SMALL, values, shown) == SMALL


def test_another_kernel_takes_away_what_means_nothing_to_it(service):
    state = MASKED.updated(order=6, set="core.cube.startup_cycles=9", profile="toy")
    after = panel_module.moved(service, state, {"kernel": "matmul"}, {})
    assert after == State.of({"kernel": "matmul", "samples": 3, "set": state.get("set"), "profile": "toy"})


def test_another_profile_takes_away_the_numbers_that_were_changed(service):
    state = SMALL.updated(set="core.cube.startup_cycles=9", paths="l0c_ub")
    assert panel_module.moved(service, state, {"profile": "toy"}, {}) == SMALL.updated(profile="toy")


@pytest.mark.parametrize("kernel", sorted(REGISTRY))
def test_a_panel_has_the_controls_that_the_command_line_takes_and_no_others(service, kernel):
    found = service.panel(State(kernel))
    entry = REGISTRY[kernel]
    algorithm = next(iter(entry.algorithms.values()))
    hidden = algorithm.textbook_only if found.variant != "textbook" else set()
    assert {one.name for one in found.options} == algorithm.parameters - hidden
    assert {one.name for one in found.problem} == {*entry.sizes, "dtype"} - {name for name, _ in entry.fixed}
    for one in (*found.options, *found.problem):
        model = Problem if one.name in Problem.model_fields else Options
        assert one.help == model.model_fields[one.name].description


def test_the_command_line_of_a_view_asks_the_same(service):
    number = "core.flags.pairs.aic_mac->aic_fixpipe=12"
    state = MASKED.updated(order=5, mask="no", set=number).viewed("graph", op=3)
    words = service.command(state)
    assert words == (
        "npusim run tri-inverse --algorithm masked-neumann --heads 4 --no-mask --order 5 --samples 3 "
        "--seq-len 1024 --set 'core.flags.pairs.aic_mac->aic_fixpipe=12'"
    )
    assert service.command(SMALL.updated(paths="l0c_ub")) == ""


# --- the service: time -----------------------------------------------------------------------------


def test_a_time_is_the_one_of_the_command_line(service):
    numerics, engine = NumericsSettings(numerics=False), EngineSettings(what_if=False)
    problem, options = Problem(seq_len=1024, heads=4), Options(algorithm="masked-neumann")
    machine = MachineSettings(set=("core.cube.startup_cycles=40",), ideal="launch").machine()
    result = study.run(REGISTRY["tri-inverse"], problem, options, machine, numerics, engine)
    timing = service.timing(MASKED.updated(set="core.cube.startup_cycles=40", ideal="launch"))
    assert timing.report.to_json() == result.report.to_json()
    assert timing.expected == result.expected


@pytest.mark.parametrize("kernel", ["tri-inverse", "gdn-kkt", "softmax", "matmul"])
def test_operations_latencies_and_waiting_of_a_unit_come_to_the_core_time(service, kernel):
    sizes = {"seq_len": 1024, "heads": 4} if "seq_len" in REGISTRY[kernel].sizes else {"m": 512}
    timing = service.timing(State.of({"kernel": kernel, **sizes}))
    for name, unit in timing.report.units.items():
        if "unused" not in unit.waiting:
            assert unit.busy_us + sum(unit.waiting.values()) == pytest.approx(timing.report.core_us)
            assert sum(us for _, us in timing.operations[name]) <= unit.busy_us * (1 + 1e-9) + 1e-9


def test_bytes_of_paths_are_those_of_the_problem(service):
    timing = service.timing(State.of({"kernel": "copy", "m": 512, "n": 2048}))
    assert timing.traffic == {"gm_ub": 512 * 2048 * 2, "ub_gm": 512 * 2048 * 2}


def test_the_speed_up_is_that_of_a_comparison(service):
    state = MASKED.updated(baseline="doubling")
    name, time_us = service.baseline(state)
    rows = comparison.compare(
        REGISTRY["tri-inverse"], ["doubling", "masked-neumann"], [load_machine("ascend-910b2")],
        Problem(seq_len=1024, heads=4), Options(), NumericsSettings(numerics=False), EngineSettings(),
    )  # fmt: skip
    assert name == "doubling"
    assert time_us / service.timing(state).report.task_us == pytest.approx(rows[1].speedup)


def test_a_baseline_that_cannot_be_says_why(service):
    name, reason = service.baseline(MASKED.updated(chunk=48, baseline="mxr"))
    assert name == "mxr" and "48" in str(reason)


def test_the_cube_does_in_its_time_what_the_products_take(service):
    timing = service.timing(State.of({"kernel": "matmul", "m": 512, "n": 512, "k": 512}))
    assert timing.peaks.cube_ops == pytest.approx(2 * 512**3)


# --- the service: error ----------------------------------------------------------------------------


def test_an_error_is_the_one_of_the_command_line(service):
    numerics = NumericsSettings(samples=3, timing=False)
    problem, options = Problem(seq_len=1024, heads=4), Options(algorithm="masked-neumann", order=4)
    machine = load_machine("ascend-910b2")
    result = study.run(REGISTRY["tri-inverse"], problem, options, machine, numerics, EngineSettings())
    accuracy = service.accuracy(MASKED.updated(order=4))
    assert accuracy.main == result.numerics.errors
    assert [span.name for span in accuracy.spans] == [
        r.name for r in result.numerics.computed.execution.ranges
    ]


def test_the_heat_map_holds_the_squared_error_of_the_sample(service):
    accuracy = service.accuracy(MASKED)
    numerics = NumericsSettings(samples=3, timing=False)
    data = study.find_data(REGISTRY["tri-inverse"], Problem(seq_len=1024, heads=4), numerics)
    truth = reference_inverse(data.batch.L.astype(np.float16).astype(np.float64))
    squared = (accuracy.main.relative_error**2) * np.sum(truth**2)
    assert accuracy.samples * np.sum(accuracy.heat**2) == pytest.approx(squared, rel=1e-6)
    assert service.accuracy(State.of({"kernel": "softmax", "m": 64})).heat is None


def test_a_kernel_without_outputs_has_no_error_to_ask_for(service):
    assert service.computes(SMALL) and service.computes(SMALL.updated(chunk=50))
    assert not service.computes(SMALL.updated(numerics=False))
    assert not service.computes(State("empty"))


def test_another_cost_leaves_what_was_computed(service):
    one = service.accuracy(MASKED)
    assert service.accuracy(MASKED.updated(set="core.cube.startup_cycles=40", ideal="flags")) is one
    assert service.accuracy(MASKED.updated(seed=1)) is not one
    assert service.timing(MASKED.updated(seed=1)) is service.timing(MASKED)


# --- machines ------------------------------------------------------------------------------------


def test_numbers_are_all_of_the_machine_and_the_changed_ones_are_marked(service):
    state = SMALL.updated(set="core.cube.startup_cycles=40", ideal="flags")
    found = {one.path: one for one in service.numbers(state)}
    machine = load_machine("ascend-910b2")
    assert list(found) == list(quantities(machine))
    assert [one.path for one in found.values() if one.changed] == ["core.cube.startup_cycles"]
    changed = found["core.cube.startup_cycles"]
    assert (changed.value, changed.was) == (40, machine.core.cube.startup_cycles.value)
    assert (changed.unit, changed.evidence) == ("cycles", "assumed")


def test_a_number_is_set_and_taken_back(service):
    changed = service.with_number(SMALL, "clock_ghz", 1.5)
    assert changed == SMALL.updated(set="clock_ghz=1.5")
    assert service.with_number(changed, "clock_ghz", None) == SMALL
    with pytest.raises(Refused, match="clock_ghz"):
        service.with_number(SMALL, "clock_ghz", -1)
    assert all(set(row) >= {"path", "value", "was", "source", "changed"} for row in rows(service, changed))


def test_a_direct_path_is_taken_and_its_numbers_can_be_changed(service):
    on = service.with_ways(MASKED, [*(way.key for way in service.panel(MASKED).ways if way.on), "l0c_ub"])
    assert on == MASKED.updated(paths="l0c_ub")
    assert "l0c_ub" not in service.timing(MASKED).traffic
    fast = service.timing(on)
    assert fast.traffic["l0c_ub"] > 0
    assert fast.report.task_us < service.timing(MASKED).report.task_us
    slow = service.timing(service.with_number(on, DIRECT, 0.5))
    assert slow.report.task_us > fast.report.task_us
    assert quantities(slow.machine)[DIRECT].evidence == "assumed"
    assert service.with_ways(on, [w.key for w in service.panel(MASKED).ways if w.on]) == MASKED


def test_a_path_that_is_taken_away_is_missed(service):
    with pytest.raises(Refused, match=r"no path from L0C"):
        service.timing(SMALL.updated(paths="-l0c_l1,-l0c_gm"))
    with pytest.raises(Refused, match="no profile has"):
        service.timing(SMALL.updated(paths="ub_l0a"))


def test_a_saved_profile_is_the_machine_that_was_made(service):
    state = MASKED.updated(
        set=f"core.cube.startup_cycles=40,{DIRECT}=99", paths="l0c_ub,-l0c_l1", ideal="launch"
    )
    assert service.save(state, "mine") == "mine.yaml"
    machine = service.machine(Setup(MachineSettings(set=state.listed("set")), state.listed("paths")))
    saved = load_machine(service.folder / "mine.yaml")
    assert diff(saved, machine) == []
    assert saved.extends == "ascend-910b2" and saved.core.cube.startup_cycles.source == "set in the dashboard"
    assert "mine.yaml" in service.panel(SMALL).profiles
    assert service.timing(MASKED.updated(profile="mine.yaml")).machine == saved


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/b", "..", "", ".hidden", "toy", "a\\b", "x" * 100])
def test_a_profile_is_saved_in_its_folder_under_a_plain_name_only(service, name):
    before = sorted(service.folder.parent.rglob("*"))
    with pytest.raises(Refused, match="save as"):
        service.save(SMALL.updated(set="clock_ghz=1.5"), name)
    assert sorted(service.folder.parent.rglob("*")) == before


def test_a_profile_is_neither_replaced_nor_saved_without_a_change(service):
    service.save(SMALL.updated(set="clock_ghz=1.5"), "once")
    with pytest.raises(Refused, match="exists"):
        service.save(SMALL.updated(set="clock_ghz=1.4"), "once")
    with pytest.raises(Refused, match="nothing differs"):
        service.save(SMALL, "same")


@pytest.mark.parametrize("profile", ["/etc/passwd", "../secret.yaml", "/tmp/x.yaml", "~/x.yml", "pyproject"])
def test_a_link_opens_no_file_outside_the_folder(service, profile):
    with pytest.raises(Refused, match="profile"):
        service.timing(SMALL.updated(profile=profile))


@pytest.mark.parametrize("name", ["inputs", "output", "trace", "timing", "nonsense"])
def test_a_link_sets_what_the_dashboard_has_and_nothing_else(service, name):
    with pytest.raises(Refused, match=f"{name!r}, which is no setting"):
        service.timing(SMALL.updated(**{name: "x"}))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"chunk": 50}, "--chunk: mxr"),
        ({"chunk": "many"}, "--chunk"),
        ({"algorithm": "mxrr"}, "did you mean 'mxr'"),
        ({"set": "core.cube.startup=3"}, "--set"),
        ({"dtype": "fp64"}, "no unit has fp64"),
        ({"matrices": 5}, "--matrices"),
    ],
)
def test_an_impossible_setting_is_refused_in_npusims_own_words(service, values, said):
    with pytest.raises(Refused, match=said):
        service.timing(SMALL.updated(**values))


def test_a_tile_that_is_too_large_is_named_with_its_remedy(service):
    with pytest.raises(Refused, match=r"capacity.*lower"):
        service.timing(
            State.of({"kernel": "add", "variant": "textbook", "m": 4096, "n": 4096, "slots": 1024})
        )


def test_a_kernel_that_cannot_be_timed_may_still_be_computed(service):
    assert service.accuracy(SMALL.updated(dtype="fp64")).main.relative_error < 1e-12


# --- kernels of one's own --------------------------------------------------------------------------

OWN = '''
from npusim.builder import KernelBuilder


def build(problem, options, target):
    """Twice a matrix."""
    k = KernelBuilder("twice", target, "fp16")
    x, y = k.input("x", (64, 128), "fp16"), k.output("y", (64, 128), "fp16")
    a, b = k.tile("a", "UB", (16, 128), "fp16"), k.tile("b", "UB", (16, 128), "fp16")

    def band(items):
        ((row,),) = items
        k.load(a, x.at(row=row * 16, rows=16), "read")
        k.vector("add", b, a, a, label="work")
        k.store(y.at(row=row * 16, rows=16), b, "write")

    with k.phase("twice", over="vector"):
        k.items([("band", 4)], band)
    return k.finish()
'''


def test_a_kernel_of_ones_own_stands_beside_the_built_in_ones_and_no_link_names_another(tmp_path, own_kernel):
    service = Service([own_kernel], tmp_path)
    assert own_kernel in [one.name for one in service.panel(State()).kernels]
    assert service.timing(State(own_kernel)).report.task_us > 0
    (tmp_path / "other.py").write_text("raise SystemExit")
    with pytest.raises(Refused, match="no kernel"):
        service.timing(State(f"{tmp_path / 'other.py'}:build"))


def test_two_functions_of_one_file_are_two_kernels(tmp_path, own_kernel):
    file = Path(own_kernel.removesuffix(":build"))
    other = tmp_path / "both.py"
    other.write_text(
        file.read_text() + file.read_text().replace("build(", "four(").replace('"band", 4', '"band", 2')
    )
    service = Service([f"{other}:build", f"{other}:four"], tmp_path)
    moved = [service.timing(State(f"{other}:{name}")).traffic["gm_ub"] for name in ("build", "four")]
    assert moved == [64 * 128 * 2, 32 * 128 * 2]


# --- the tile graph --------------------------------------------------------------------------------


def test_operations_depend_on_what_they_read(tmp_path, own_kernel):
    service = Service([own_kernel], tmp_path)
    (phase,) = service.graph(State(own_kernel)).phases
    names = {node.number: node.name for node in phase.nodes}
    reads = {(names[e.source], names[e.target]) for e in phase.edges if e.kind == "read"}
    assert reads == {("read", "work"), ("work", "write")}


@pytest.mark.parametrize("kernel", ["tri-inverse", "gdn-state", "matmul", "softmax"])
def test_a_graph_runs_to_the_right_and_its_costs_are_the_sums_of_their_parts(service, kernel):
    for phase in service.graph(State(kernel)).phases:
        assert len({(node.layer, node.unit) for node in phase.nodes}) == len(phase.nodes)
        for edge in phase.edges:
            if edge.kind == "read" and edge.distance == 0:
                assert phase.nodes[edge.source].layer < phase.nodes[edge.target].layer
        for node in phase.nodes:
            parts = sum(term.cycles for term in node.terms if term.part == "occupancy")
            assert parts == pytest.approx(node.occupancy, abs=1e-3)
            assert all(term.source and term.formula for term in node.terms)


def test_a_recurrent_state_is_an_edge_from_one_trip_to_the_next(service):
    (phase,) = service.graph(State("gdn-state")).phases
    assert any(edge.kind == "read" and edge.distance == 1 for edge in phase.edges)


# --- figures ---------------------------------------------------------------------------------------

THEMES = pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
DRAWN = [
    SMALL,
    MASKED,
    State.of({"kernel": "softmax", "m": 64}),
    State.of({"kernel": "gdn-kkt", "seq_len": 256}),
]


@THEMES
@pytest.mark.parametrize("state", DRAWN, ids=lambda state: f"{state.kernel} {state.get('algorithm')}")
def test_plotly_takes_every_figure(service, state, theme):
    timing, accuracy = service.timing(state), service.accuracy(state)
    drawn = [getattr(time_figures, name)(timing, theme) for name in explore.TIME_FIGURES]
    drawn += [getattr(error_figures, name)(accuracy, theme) for name in explore.ERROR_FIGURES]
    drawn += [tile_graph(phase, theme, 0) for phase in service.graph(state).phases]
    for one in [*drawn, empty(theme, "nothing")]:
        go.Figure(one)


def test_bars_of_the_breakdown_reach_the_core_time(service):
    timing = service.timing(MASKED)
    figure = time_figures.breakdown(timing, LIGHT)
    lengths: dict[str, float] = {}
    for trace in figure["data"]:
        for unit, us in zip(trace["y"], trace["x"], strict=True):
            lengths[unit] = lengths.get(unit, 0.0) + us
    assert set(lengths) == {n for n, unit in timing.report.units.items() if "unused" not in unit.waiting}
    assert list(lengths.values()) == pytest.approx([timing.report.core_us] * len(lengths), rel=1e-6)


def test_a_kernel_stands_under_its_roofs(service):
    figure = time_figures.roofline(service.timing(MASKED), LIGHT)
    peaks = service.timing(MASKED).peaks
    rates = {"HBM": peaks.hbm_bytes_per_s, "L2": peaks.l2_bytes_per_s}
    points = [trace for trace in figure["data"] if trace["mode"].startswith("markers")]
    assert len(points) == 4
    for point in points:
        work, _, pool = point["name"].split(" ")
        roof = {"cube": peaks.cube_ops_per_s, "vector": peaks.vector_ops_per_s}[work]
        assert point["y"][0] <= min(roof, point["x"][0] * rates[pool])


def test_a_value_beyond_its_dtype_is_seen(service):
    accuracy = service.accuracy(SMALL.updated(algorithm="newton-schulz", dtype="fp8_e4m3"))
    figure = error_figures.ranges(accuracy, LIGHT)
    assert len(figure["data"][1]["y"]) == sum(
        span.max_abs > 0 or span.nonfinite > 0 for span in accuracy.spans
    )


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (text.digits(9640.69), "9,641"), (text.digits(0.07961), "0.0796"), (text.digits(8.1e-5), "8.10e-5"),
        (text.spaced(text.time(9640.7)), "9.64 ms"), (text.spaced(text.time(602.2)), "602 µs"),
        (text.size(524288), "512 KiB"), (text.scaled(3.54e14, "op/s"), "354 Top/s"),
        (text.percent(0.083), "8.3 %"), (text.percent(0.83), "83 %"), (text.cycles(346.56), "346.56"),
    ],
)  # fmt: skip
def test_numbers_are_written_as_people_read_them(said, meant):
    assert said == meant


# --- the application -------------------------------------------------------------------------------


def test_pages_are_those_that_there_are(tmp_path):
    app = app_module.create_app(folder=tmp_path)
    client = app.server.test_client()
    own = [page.__name__.rpartition(".")[2] for page in app_module.PAGES]
    for path in ("", *own):
        assert client.get(f"/{path}").status_code == 200
    html = client.get("/").get_data(as_text=True)
    assert set(re.findall(r"https?://[^/\"]+", html)) <= {"http://localhost"}
    large = client.post(
        "/_dash-update-component", data=b"0" * (app_module.LIMIT_BYTES + 1), content_type="application/json"
    )
    assert large.status_code == 413
    layout = str(app.layout())
    assert {name for name in shell.PAGES if f"'{name.capitalize()}'" in layout} == set(own)


def test_the_layout_of_a_page_holds_the_state_of_its_link(service):
    for page in (explore, graph):
        assert MASKED.query in str(page.layout(service, **dict(MASKED.values)))


def test_a_page_comes_with_what_is_there_soon_and_without_what_takes_long_or_fails(service, monkeypatch):
    monkeypatch.setattr(first, "SOON_S", 0.2)
    over = threading.Event()
    assert first.soon(lambda: [1], over.wait, lambda: service.timing(State("nonsense"))) == [[1], None, None]
    over.set()
    monkeypatch.setattr(first, "SOON_S", 60.0)
    there = str(explore.layout(service, **dict(MASKED.values)))
    known, _ = service.timing(MASKED), service.accuracy(MASKED)
    value, scale = text.time(known.report.task_us)
    assert f"children='{value}'" in there and f"children='{scale}'" in there
    assert f"data={[MASKED.query, 'light']!r}" in there
    assert f"data={[MASKED.query, 'light']!r}" not in str(explore.layout(service, kernel="nonsense"))


def test_a_name_in_a_link_that_python_uses_is_no_setting(service):
    for page in (explore, graph):
        assert "service=3" in str(page.layout(service, service="3"))
    with pytest.raises(Refused, match="'service', which is no setting"):
        service.request(State.of({"service": "3"}))


def test_a_profile_changes_with_what_it_extends(tmp_path):
    number = "{{value: {}, source: me, evidence: assumed}}"
    (tmp_path / "base.yaml").write_text(f"extends: toy\nclock_ghz: {number.format(1)}\n")
    (tmp_path / "kid.yaml").write_text("extends: base.yaml\n")
    own = Service(folder=tmp_path)
    state = State.of({"profile": "kid.yaml", "matrices": 8, "chunk": 16, "numerics": "no"})
    slow = own.timing(state).report.core_us
    (tmp_path / "base.yaml").write_text(f"extends: toy\nclock_ghz: {number.format(2)}\n")
    os.utime(tmp_path / "base.yaml", ns=(1, 1))
    assert own.timing(state).report.core_us < slow


def test_another_name_of_this_computer_is_not_answered(monkeypatch, tmp_path):
    """A page of the web could have its own name resolved to this computer."""
    made = []
    monkeypatch.setattr("werkzeug.serving.BaseWSGIServer.serve_forever", lambda self: made.append(self.app))
    monkeypatch.chdir(tmp_path)
    app_module.serve("127.0.0.1", 0)
    client = made[0].test_client()
    for host, code in (("127.0.0.1:8050", 200), ("localhost", 200), ("[::1]:1", 200), ("evil.example", 403)):
        assert client.get("/", headers={"Host": host}).status_code == code


def test_other_addresses_are_warned_of(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("werkzeug.serving.BaseWSGIServer.serve_forever", lambda self: self.server_close())
    monkeypatch.chdir(tmp_path)
    app_module.serve("127.0.0.1", 0)
    assert capsys.readouterr().err == ""
    app_module.serve("0.0.0.0", 0)
    assert "reachable from other computers" in capsys.readouterr().err


def test_a_port_that_is_taken_is_said_in_one_line(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Refused, match=f"--port {port}: cannot listen on 127.0.0.1"):
            app_module.serve("127.0.0.1", port)


def test_without_its_libraries_the_command_says_how_to_get_them(monkeypatch):
    from npusim.cli import dashboard
    from npusim.errors import InputError

    monkeypatch.setattr(dashboard, "find_spec", lambda name: None)
    result = CliRunner().invoke(dashboard.app, ["dashboard"])
    assert isinstance(result.exception, InputError)
    assert "pip install 'npusim[dashboard]'" in str(result.exception)


def test_a_cache_computes_once_for_all_and_keeps_no_error():
    cache: Cache[int] = Cache(2)
    started, count = threading.Event(), []

    def slow() -> int:
        count.append(1)
        started.wait(2)
        return 7

    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(cache.get("a", slow))) for _ in range(8)]
    for thread in threads:
        thread.start()
    started.set()
    for thread in threads:
        thread.join()
    assert found == [7] * 8 and len(count) == 1
    with pytest.raises(ZeroDivisionError):
        cache.get("b", lambda: 1 // 0)
    assert cache.get("b", lambda: 3) == 3
    assert [cache.get(key, lambda: 0) for key in "cd"] == [0, 0]
    assert cache.get("a", lambda: 8) == 8


@pytest.fixture(scope="module")
def own_kernel(tmp_path_factory) -> str:
    file: Path = tmp_path_factory.mktemp("own") / "twice.py"
    file.write_text(OWN)
    return f"{file}:build"
