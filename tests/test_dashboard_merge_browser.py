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
from dashboard.state import KERNEL, LISTS, PAGES, State
from npusim.settings import MachineSettings

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
def script(browser):
    """A page with nothing but the script."""
    visitor = browser.new_context()
    page = visitor.new_page()
    with as_file(files("dashboard") / "assets" / "state.js") as file:
        page.add_script_tag(path=file)
    yield page
    visitor.close()


@pytest.fixture(scope="module")
def late(script):
    """What the link says in the end: (before, after, now), all three states, to a state."""

    def answered(before: State, after: State, now: State) -> State:
        text = script.evaluate(LATE, [before.query, after.query, now.query])
        found = State.from_query(text)
        assert found.query == text  # a link as the server writes it
        return found

    return answered


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
    before = State.of({"set": "a=1,b=2", "ideal": "launch", "paths": "l0c_ub"})
    after = before.updated(set="b=2,a=5", ideal="launch,flags", paths="-l0c_ub")
    now = before.updated(set="a=1,b=2,c=3", ideal=None, paths="l0c_ub,ub_l1")
    assert late(before, after, now) == State.of({
        "set": "b=2,c=3,a=5", "ideal": "flags", "paths": "ub_l1,-l0c_ub"
    })  # fmt: skip
    assert late(before, before.updated(set=None), now).get("set") == "c=3"
    assert (
        late(State(), State.of({"paths": "-l0c_ub"}), State.of({"paths": "l0c_ub"})).get("paths") == "-l0c_ub"
    )
    whole = State.of({"sweep.vary": "chunk=16,32"})
    found = late(whole, whole.viewed("sweep", vary="chunk=16"), whole.viewed("sweep", vary="chunk=64"))
    assert found == whole.viewed("sweep", vary="chunk=16")


def test_of_a_change_another_kernel_keeps_the_machine_and_another_profile_not_its_numbers(late):
    before = State.of({"chunk": 32, "set": "a=1", "layer.model": "x"})
    number = before.updated(set="a=1,b=2", chunk=16, evidence="documented").viewed("layer", model="y")
    kernel = State.of({"kernel": "matmul", "m": 512, "set": "a=1", "layer.model": "x"})
    profile = State.of({"profile": "toy", "chunk": 32, "layer.model": "x"})
    for turn, meant in (
        (kernel, kernel.updated(set="a=1,b=2", evidence="documented")),
        (profile, profile.updated(chunk=16, evidence="documented")),
        (
            kernel.updated(profile="toy", set=None),
            kernel.updated(profile="toy", set=None, evidence="documented"),
        ),
    ):
        assert late(before, turn, number) == meant.viewed("layer", model="y")
        assert late(before, number, turn) == meant.viewed("layer", model="y")


some = st.sampled_from([State(), *(State.of({"chunk": chunk}) for chunk in (16, 32)), State("matmul")])


@settings(max_examples=300, deadline=None)
@given(
    states=st.lists(some, min_size=2, max_size=5),
    places=st.tuples(*[st.integers(0, 4)] * 3),
    what=st.sampled_from(["added", "edited", "removed", "based"]),
    change=st.sampled_from([{"dtype": "bf16"}, {"profile": "toy"}, {"kernel": "copy"}, {"chunk": None}]),
    late_order=st.booleans(),
)
def test_a_change_goes_to_the_configuration_that_was_edited_when_it_was_made(
    late, states, places, what, change, late_order
):
    """As if it had been made before all else was done with them."""
    edit, base, place = (number % len(states) for number in places)
    slots = Slots(tuple(states), edit, base)

    def done(found: Slots) -> Slots:
        return found.added() if what == "added" else getattr(found, what)(place)

    new = slots.states[edit].updated(**change)
    with_new = replace(slots, states=tuple(new if n == edit else one for n, one in enumerate(states)))
    before, order, moved = (
        one.into(State.of({"layer.model": "x"})) for one in (slots, done(slots), with_new)
    )
    found = late(before, order, moved) if late_order else late(before, moved, order)
    wanted = done(with_new).into(State.of({"layer.model": "x"}))
    if what == "removed" and place == edit and order != before:
        alike = [n for n in range(len(states)) if slots.removed(n) == done(slots) and n != edit]
        if alike:  # no link tells which of two alike was removed: then the one without the change
            wanted = with_new.removed(alike[0]).into(State.of({"layer.model": "x"}))
    assert found == wanted


def test_who_comes_without_others_has_the_change_in_their_own(late):
    """`compared` is what Compare shows beside: the first button writes it into the link."""
    before, moved = State.of({"chunk": 32}), State.of({"chunk": 32, "dtype": "bf16"})
    compared = Slots((before, State.of({"algorithm": "doubling"})))
    for after, meant in (
        (compared.edited(1), (moved, compared.states[1])),
        (compared.based(1), (moved, compared.states[1])),
        (compared.added(), (moved, compared.states[1], moved)),
    ):
        found = late(before, after.into(before), moved)
        assert Slots.of(found) == replace(after, states=meant)


def test_of_two_who_reorder_the_first_is_heard(late):
    slots = Slots(tuple(State.of({"chunk": chunk}) for chunk in (16, 32, 64)))
    for done in (slots.added(), slots.edited(2)):
        before, first, other = (
            one.into(State.of({"graph.op": 3})) for one in (slots, slots.removed(1), done)
        )
        assert late(before, other.viewed("graph", op=4), first) == first.viewed("graph", op=4)


@pytest.mark.parametrize(
    "query", ["compare.1=chunk%3D16&compare.2=chunk%3D32", "chunk=64&compare.2=chunk%3D16&compare.edit=x",
              "compare.base=x&compare.edit=9&compare.5=chunk%3D16"],
)  # fmt: skip
def test_a_link_by_hand_is_read_as_the_server_reads_it(late, query):
    before = State.from_query(query)
    found = late(before, before.viewed("graph", op=4), before.updated(**{"layer.model": "x"}))
    assert found.own("graph") == {"op": "4"} and found.own("layer") == {"model": "x"}
    one, other = Slots.of(found), Slots.of(before)
    assert (one.states, one.edit) == (other.states, other.edit)


def test_a_page_without_a_link_lets_answers_be(page, address):
    page.goto(f"{address}/nowhere")
    page.get_by_text("404").wait_for()
    answer = page.evaluate(
        """() => { const answer = { state: { data: "chunk=32" } };
        window.npusim.hooks.request_post({ state: [{ id: "state", property: "data", value: "" }] }, answer);
        return answer; }"""
    )
    assert answer == {"state": {"data": "chunk=32"}}


def test_the_script_and_the_server_mean_the_same_names():
    text = (files("dashboard") / "assets" / "state.js").read_text()
    for name, values in (
        ("PAGES", PAGES),
        ("LISTS", LISTS),
        ("MACHINE", [*MachineSettings.model_fields, "paths"]),
    ):
        assert f"var {name} = {json.dumps(values)};" in text
    assert f'var KERNEL = "{KERNEL}";' in text
