"""What links services and pages: callbacks, asked as a browser asks them."""

from __future__ import annotations

import json

import pytest
from asking import ask

from dashboard.app import create_app
from dashboard.components import jobs, numbers
from dashboard.components.calibration import asked, fields, views
from dashboard.components.ids import SETTING, STATE, setting
from dashboard.components.panel import BODY
from dashboard.pages import graph, sweep_define, timeline
from dashboard.service import Service
from dashboard.state import State
from npusim.profiles import load_machine

ROWS = State.of({"calibrate.shipped": "yes", "calibrate.profile": "ascend-910b4"})
ALL = f'{{"name":["ALL"],"type":"{SETTING}"}}'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def app(folder):
    return create_app(folder=folder)


def test_a_prediction_is_asked_for_once_and_after_it_was_lost_again(app):
    want, watch = jobs.ask(asked.SEE), jobs.watched(asked.SEE)

    def predict(changed: str, watched: str = ""):
        said = {f"{STATE}.data": ROWS.query, f"{watch}.data": watched, f"{views.AGAIN}.n_clicks": 1}
        return ask(app, f"{want}.data", changed, said)

    first = predict(f"{asked.ROWS}.data")
    key = first[f"{watch}.data"]
    assert first[f"{want}.data"]["key"] == key and first[f"{want}.data"]["asked"]["profile"] == "ascend-910b4"
    assert predict(f"{asked.ROWS}.data", key) == {}  # another tab watches the same one
    jobs.of(app).cancel(key)
    assert predict(f"{asked.ROWS}.data", key) == {}
    again = predict(f"{views.AGAIN}.n_clicks", key)
    assert again[f"{want}.data"]["number"] > first[f"{want}.data"]["number"]
    jobs.of(app).forget(key)


def test_without_rows_nothing_is_predicted(app):
    found = ask(app, f"{jobs.ask(asked.SEE)}.data", f"{asked.ROWS}.data", {f"{STATE}.data": ""})
    assert found[f"{jobs.watched(asked.SEE)}.data"] == "" and f"{jobs.ask(asked.SEE)}.data" not in found


def test_groups_and_numbers_that_are_chosen_stand_in_the_link(app):
    said = {
        f"{STATE}.data": ROWS.query, f"{asked.PROFILE}.value": "ascend-910b4", f"{asked.HOLD}.value": "none",
        f"{asked.SUGGEST}.checked": True, f"{asked.TABS}.value": "fit",
        f"{fields.GROUPS}.value": ["launch"],
    }  # fmt: skip
    found = ask(app, f"{STATE}.data", f"{fields.GROUPS}.value", said)
    state = State.from_query(found[f"{STATE}.data"])
    assert state.own("calibrate") == {
        **ROWS.own("calibrate"), "fields": "launch", "hold": "none", "suggest": "yes", "view": "fit",
    }  # fmt: skip
    row = {"path": "core.flags.cross_core_cycles", "chosen": True}
    said |= {f"{STATE}.data": state.query, f"{fields.GRID}.cellValueChanged": [{"data": row}]}
    found = ask(app, f"{STATE}.data", f"{fields.GRID}.cellValueChanged", said)
    chosen = State.from_query(found[f"{STATE}.data"]).own("calibrate")["fields"].split(",")
    assert set(chosen) == {"launch", "core.flags.cross_core_cycles"}


def test_an_unknown_kernel_of_a_link_can_be_left_for_another(app):
    values = {json.dumps(setting("kernel")): "matmul"}
    said = {
        f"{ALL}.value": values, f"{ALL}.id": {name: json.loads(name) for name in values},
        f"{setting('numerics')}.checked": True, f"{STATE}.data": "kernel=nonsense&compare.1=kernel%3Dcopy",
    }  # fmt: skip
    found = ask(app, f"{STATE}.data", f"{ALL}.value", said)
    state = State.from_query(found[f"{STATE}.data"])
    assert state.kernel == "matmul" and state.own("compare") == {"1": "kernel=copy"}
    assert found[f"{BODY}.children"]


@pytest.mark.parametrize("text", ["²", "9" * 5000, "-1", "x"])
def test_an_operation_of_the_graph_that_there_is_not_is_none(app, text):
    query = State.of({"matrices": 8, "chunk": 16, "graph.op": text, "graph.phase": text}).query
    said = {f"{STATE}.data": query, "scheme.data": "light"}
    found = ask(app, f"{graph.FIGURE}.figure", f"{STATE}.data", said)
    assert found[f"{graph.CHOSEN}.value"] is None and found[f"{graph.PHASE}.value"] == "0"


# --- two things at once, of which a browser tells in one request ---------------------------------------


def test_a_job_is_cancelled_while_its_clock_ticks(app):
    of, name = jobs.of(app), asked.FIT
    of.expect("a job")
    said = {f"{jobs.watched(name)}.data": "a job", f"{name}-job-cancel.n_clicks": 1}
    found = ask(
        app, f"{jobs.told(name)}.data", f"{name}-job-cancel.n_clicks", said, [f"{name}-job-tick.n_intervals"]
    )
    assert found[f"{jobs.told(name)}.data"]["status"] == of.job("a job").status == "cancelled"
    of.forget("a job")


def test_a_fit_begins_though_its_settings_have_just_changed(app):
    query = ROWS.viewed("calibrate", fields="launch", hold="none").query
    said = {f"{STATE}.data": query, f"{asked.GO}.n_clicks": 1}
    found = ask(app, f"{jobs.ask(asked.FIT)}.data", f"{asked.GO}.n_clicks", said, [f"{STATE}.data"])
    key = found[f"{jobs.ask(asked.FIT)}.data"]["key"]
    assert jobs.of(app).job(key).status == "starting"
    jobs.of(app).forget(key)


def test_a_number_that_is_left_for_the_button_that_saves_is_saved(app, folder):
    row = {"path": "clock_ghz", "was": 1.8, "told": 1.8, "value": 1.5}
    said = {
        f"{STATE}.data": "profile=ascend-910b2", f"{numbers.NAME}.value": "mine",
        f"{numbers.SAVE}.n_clicks": 1, f"{numbers.GRID}.cellValueChanged": [{}],
        f"{numbers.GRID}.rowData": [row],
    }  # fmt: skip
    cell = f"{numbers.GRID}.cellValueChanged"
    found = ask(app, f"{numbers.NOTE}.children", f"{numbers.SAVE}.n_clicks", said, [cell])
    assert State.from_query(found[f"{STATE}.data"]).listed("set") == ("clock_ghz=1.5",)
    assert load_machine(folder / "mine.yaml").clock_ghz.value == 1.5


def test_all_numbers_go_back_though_the_cell_that_was_left_for_that_cannot_be(app):
    cell, button = f"{numbers.GRID}.cellValueChanged", f"{numbers.ALL_BACK}.n_clicks"
    said = {
        f"{STATE}.data": State.of({"profile": "ascend-910b2"}).updated(set=("core.groups=8",)).query,
        button: 1, cell: [{}],
        f"{numbers.GRID}.rowData": [{"path": "clock_ghz", "was": 1.8, "told": 1.8, "value": -1}],
    }  # fmt: skip
    found = ask(app, f"{numbers.NOTE}.children", button, said, [cell])
    assert found[f"{STATE}.data"] == "profile=ascend-910b2"
    assert "clock_ghz" in json.dumps(found[f"{numbers.NOTE}.children"])


def typed(state: State, **values: object) -> dict[str, object]:
    """What the grid says once some cells were typed and none was answered."""
    rows = numbers.rows(Service(), state)
    names = {name.replace("__", "."): value for name, value in values.items()}
    said = [row | {"value": names.get(row["path"], row["value"])} for row in rows]
    return {
        f"{STATE}.data": state.query, f"{numbers.GRID}.cellValueChanged": [{}],
        f"{numbers.GRID}.rowData": said,
    }  # fmt: skip


def test_cells_that_were_typed_faster_than_answers_come_are_all_heard(app):
    state, cell = State.of({"set": ("core.groups=8",)}), f"{numbers.GRID}.cellValueChanged"
    said = typed(state, clock_ghz="1.5", core__groups=None, core__cube__startup_cycles=" 7e0 ")
    found = ask(app, f"{numbers.NOTE}.children", cell, said)
    assert set(State.from_query(found[f"{STATE}.data"]).listed("set")) == {
        "clock_ghz=1.5", "core.cube.startup_cycles=7"
    }  # fmt: skip
    rows = {row["path"]: (row["value"], row["told"]) for row in found[f"{numbers.GRID}.rowData"]}
    assert (rows["clock_ghz"], rows["core.groups"]) == ((1.5, 1.5), (24, 24))
    one = f"{numbers.ONE}.n_clicks"  # a button is told of while the cell is not answered yet
    said = typed(state, clock_ghz="1.5") | {one: 1, f"{numbers.GRID}.selectedRows": [{"path": "core.groups"}]}
    found = ask(app, f"{numbers.NOTE}.children", one, said)
    assert State.from_query(found[f"{STATE}.data"]).listed("set") == ("clock_ghz=1.5",)


def test_what_cannot_be_of_the_cells_is_said_and_goes_back(app):
    state, cell = State.of({"set": ("core.groups=8",)}), f"{numbers.GRID}.cellValueChanged"
    for text in ("0", "many", "Infinity", "1e400", "0x10", "1_0", "１２"):
        found = ask(app, f"{numbers.NOTE}.children", cell, typed(state, clock_ghz=text, core__groups="12"))
        assert State.from_query(found[f"{STATE}.data"]).listed("set") == ("core.groups=12",), text
        assert "clock_ghz" in json.dumps(found[f"{numbers.NOTE}.children"])
        rows = {row["path"]: row["value"] for row in found[f"{numbers.GRID}.rowData"]}
        assert (rows["clock_ghz"], rows["core.groups"]) == (1.8, 12)
    for text in (" ", "8", "8.0"):  # emptied, and as it is
        found = ask(app, f"{numbers.NOTE}.children", cell, typed(state, core__groups=text))
        link = found.get(f"{STATE}.data", state.query)
        assert State.from_query(link).listed("set") == (() if text == " " else ("core.groups=8",))


def test_steps_of_graph_stay_within_the_phase(app):
    state = State.of({"matrices": 8, "chunk": 16})
    last = len(Service().graph(state).phases[0].nodes) - 1
    for button, place, meant in (
        (graph.ON, last, last), (graph.BACK, last, last - 1), (graph.BACK, 0, 0), (graph.ON, None, 0),
    ):  # fmt: skip
        before = state.viewed("graph", op=place)
        clicks = f"{button}.n_clicks"
        found = ask(app, f"{STATE}.data", clicks, {f"{STATE}.data": before.query, clicks: 1})
        after = State.from_query(found.get(f"{STATE}.data", before.query))
        assert after == state.viewed("graph", op=str(meant))


def test_rows_follow_the_link_where_it_can_be(app):
    rows, state = f"{numbers.GRID}.rowData", f"{STATE}.data"
    said = {f"{numbers.DRAWER}.opened": True, f"{numbers.TOLD}.data": ""}
    found = ask(app, rows, state, said | {state: "set=core.groups=8"})
    (groups,) = (row for row in found[rows] if row["path"] == "core.groups")
    assert (groups["value"], groups["told"], groups["was"]) == (8, 8, 24)
    assert found[f"{numbers.TOLD}.data"] == "set=core.groups=8"
    assert rows not in ask(app, rows, state, said | {state: "batch=0"})
    for other in ({f"{numbers.DRAWER}.opened": False}, {f"{numbers.TOLD}.data": "set=core.groups=8"}):
        assert ask(app, rows, state, said | other | {state: "set=core.groups=8"}) == {}


def test_where_the_link_cannot_be_numbers_say_so_once(app):
    said = typed(State(), clock_ghz="1.5", core__groups="9") | {f"{STATE}.data": "batch=0"}
    found = ask(app, f"{numbers.NOTE}.children", f"{numbers.GRID}.cellValueChanged", said)
    assert json.dumps(found[f"{numbers.NOTE}.children"]).count("--batch") == 1
    assert f"{numbers.GRID}.rowData" not in found and f"{STATE}.data" not in found


def test_a_time_that_is_left_for_a_button_that_moves_is_where_the_move_begins(app):
    query = "profile=toy&samples=2&timeline.from=5&timeline.to=15"
    fields, button = (f"{timeline.FROM}.value", f"{timeline.TO}.value"), "timeline-on.n_clicks"
    said = {f"{STATE}.data": query, f"{timeline.SAID}.data": ["0", 5, 15], f"{timeline.CORES}.value": "0"}
    said |= dict(zip(fields, (9, 15), strict=True))
    typed = ask(app, f"{STATE}.data", fields[0], said)
    assert State.from_query(typed[f"{STATE}.data"]).own("timeline") == {"from": "9", "to": "15"}
    found = ask(app, f"{STATE}.data", button, said | {button: 1}, [fields[0]])
    assert State.from_query(found[f"{STATE}.data"]).own("timeline") == {"from": "13.5", "to": "19.5"}


def test_what_was_typed_stays_as_something_else_begins_to_vary(app):
    typed, away = ({"type": kind, "name": "chunk"} for kind in (sweep_define.VARY, sweep_define.REMOVE))
    every = {kind: f'{{"name":["ALL"],"type":"{kind}"}}' for kind in (sweep_define.VARY, sweep_define.REMOVE)}
    name = json.dumps(typed, separators=(",", ":"), sort_keys=True)
    said = {
        f"{STATE}.data": State.of({"sweep.vary": "chunk=16"}).query, f"{sweep_define.ADD}.value": "order",
        f"{every[sweep_define.VARY]}.value": {name: "16,32"}, f"{every[sweep_define.VARY]}.id": {name: typed},
        f"{every[sweep_define.REMOVE]}.n_clicks": {json.dumps(away): None},
    }  # fmt: skip
    found = ask(app, f"{sweep_define.TYPED}.data", f"{sweep_define.ADD}.value", said, [f"{name}.value"])
    varied = State.from_query(found[f"{STATE}.data"]).own("sweep")["vary"]
    assert varied.startswith("chunk=16,32;order=")
