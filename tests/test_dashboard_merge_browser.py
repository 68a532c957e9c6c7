"""The link after two changes at the same time, of which one is answered late (assets/state.js)."""

from __future__ import annotations

import json
import string
from dataclasses import replace
from importlib.resources import as_file, files

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.service.configurations import Slots
from dashboard.state import LISTS, PAGES, State

LATE = """([before, after, now]) => {
    window.dash_component_api = { getLayout: () => ({ props: { data: now } }) };
    const asked = { inputs: [], state: [{ id: "state", property: "data", value: before }] };
    const answer = { state: { "data@1f": after } };
    window.npusim.hooks.request_post(asked, answer);
    return answer.state["data@1f"];
}"""
NAMES = ("chunk", "dtype", "order", "timeline.core", "sweep.vary", "layer.model", "graph.op")
TEXTS = st.text(string.printable + "éß", min_size=1, max_size=8).map(str.strip).filter(bool)


@pytest.fixture(scope="module")
def late(browser):
    """What the link says in the end: (before, after, now), all three states, to a state."""
    page = browser.new_context().new_page()
    with as_file(files("dashboard") / "assets" / "state.js") as script:
        page.add_script_tag(path=script)

    def answered(before: State, after: State, now: State) -> State:
        text = page.evaluate(LATE, [before.query, after.query, now.query])
        found = State.from_query(text)
        assert found.query == text  # a link as the server writes it
        return found

    yield answered
    page.close()


links = st.dictionaries(st.sampled_from(NAMES), TEXTS, max_size=5).map(State.of)


@settings(max_examples=60, deadline=None)
@given(before=links, other=links)
def test_who_changed_alone_has_it_as_it_was_changed(late, before, other):
    assert late(before, other, before) == other
    assert late(before, before, other) == other


@settings(max_examples=60, deadline=None)
@given(before=links, values=st.dictionaries(st.sampled_from(NAMES), st.none() | TEXTS), cut=st.integers(0, 7))
def test_changes_of_different_values_are_both_kept(late, before, values, cut):
    one, other = dict(list(values.items())[:cut]), dict(list(values.items())[cut:])
    assert late(before, before.updated(**one), before.updated(**other)) == before.updated(**values)


def test_parts_of_a_list_are_changed_apart(late):
    before = State.of({"set": "a=1,b=2", "ideal": "launch"})
    after = before.updated(set="b=2,a=5", ideal="launch,flags")
    now = before.updated(set="a=1,b=2,c=3", ideal=None)
    assert late(before, after, now) == State.of({"set": "a=5,b=2,c=3", "ideal": "flags"})
    assert late(before, before.updated(set=None), now).get("set") == "c=3"
    whole = State.of({"sweep.vary": "chunk=16,32"})
    found = late(whole, whole.viewed("sweep", vary="chunk=16"), whole.viewed("sweep", vary="chunk=64"))
    assert found == whole.viewed("sweep", vary="chunk=16")


def test_settings_of_another_kernel_or_profile_are_not_mixed_with_those_before(late):
    before = State.of({"chunk": 32, "set": "a=1", "layer.model": "x"})
    turn = State.of({"kernel": "matmul", "m": 512, "layer.model": "x"})
    number = before.updated(set="a=1,b=2").viewed("layer", model="y")
    assert late(before, turn, number) == turn.viewed("layer", model="y")
    assert late(before, number, turn) == turn.viewed("layer", model="y")


distinct = st.lists(st.sampled_from(range(16, 1024, 16)), min_size=3, max_size=5, unique=True)


@settings(max_examples=100, deadline=None)
@given(
    chunks=distinct,
    edit=st.integers(0, 4),
    place=st.integers(0, 4),
    what=st.sampled_from(["added", "edited", "removed", "based"]),
    late_order=st.booleans(),
)
def test_a_change_goes_to_the_configuration_that_was_edited_when_it_was_made(
    late, chunks, edit, place, what, late_order
):
    """By the configurations themselves: first the change, then what was done with them all."""
    states = tuple(State.of({"chunk": chunk}) for chunk in chunks)
    slots = Slots(states, edit % len(states))
    place %= len(states)

    def ordered(found: Slots) -> Slots:
        return found.added(states[slots.edit]) if what == "added" else getattr(found, what)(place)

    new = states[slots.edit].updated(dtype="bf16")
    changed = replace(slots, states=tuple(new if n == slots.edit else one for n, one in enumerate(states)))
    before, order, change = (
        one.into(State.of({"layer.model": "x"})) for one in (slots, ordered(slots), changed)
    )
    found = late(before, order, change) if late_order else late(before, change, order)
    assert Slots.of(found) == ordered(changed)
    assert found.get("layer.model") == "x"


def test_of_two_who_reorder_the_first_is_heard(late):
    slots = Slots(tuple(State.of({"chunk": chunk}) for chunk in (16, 32, 64)))
    before, first, other = (
        one.into(State.of({"graph.op": 3})) for one in (slots, slots.removed(1), slots.added())
    )
    assert late(before, other.viewed("graph", op=4), first) == first.viewed("graph", op=4)


def test_a_page_without_a_link_of_its_own_is_left_alone(browser):
    page = browser.new_context().new_page()
    with as_file(files("dashboard") / "assets" / "state.js") as script:
        page.add_script_tag(path=script)
    page.evaluate("window.dash_component_api = { getLayout: () => undefined }")
    answer = page.evaluate(
        """() => { const answer = { state: { data: "chunk=32" } };
        window.npusim.hooks.request_post({ state: [{ id: "state", property: "data", value: "" }] }, answer);
        return answer; }"""
    )
    page.close()
    assert answer == {"state": {"data": "chunk=32"}}


def test_the_script_and_the_server_mean_the_same_pages_and_lists():
    text = (files("dashboard") / "assets" / "state.js").read_text()
    for name, values in (("PAGES", PAGES), ("LISTS", LISTS)):
        assert f"var {name} = {json.dumps(values)};" in text
