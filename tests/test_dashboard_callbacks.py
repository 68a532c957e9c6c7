"""What links services and pages: callbacks, asked as a browser asks them."""

from __future__ import annotations

import json

import pytest
from asking import ask

from dashboard.app import create_app
from dashboard.components import jobs
from dashboard.components.calibration import asked, fields, views
from dashboard.components.ids import SETTING, STATE, setting
from dashboard.components.panel import BODY
from dashboard.pages import graph
from dashboard.state import State

ROWS = State.of({"calibrate.shipped": "yes", "calibrate.profile": "ascend-910b4"})
ALL = f'{{"name":["ALL"],"type":"{SETTING}"}}'


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    return create_app(folder=tmp_path_factory.mktemp("work"))


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
