"""Changes of the link, of which a server that is slow has several to answer: in a headless Chromium."""

from __future__ import annotations

import re
import threading
from importlib.resources import as_file, files
from urllib.parse import quote

import pytest
from browsing import SMALL, waits_for

from dashboard.components import numbers, panel
from dashboard.pages import compare, graph
from npusim.profiles import load_machine

HARNESS = """() => {
    window.sent = []; window.answered = []; window.link = "chunk=16";
    window.dash_clientside = { set_props: (id, { data }) => { window.link = data; } };
    window.dash_component_api = { getLayout: () => ({ props: { data: window.link } }) };
    window.fetch = (url, options) => new Promise((done, failed) => window.sent.push({
        url, body: JSON.parse(options.body), failed,
        done: (answer, status = 200) => done(new Response(answer && JSON.stringify(answer), { status })),
    }));
}"""
ASK = """([output, changed]) => {
    const state = [{ id: "state", property: "data", value: "chunk=16" }];
    const body = JSON.stringify({ output, state, changedPropIds: [changed] });
    const place = window.answered.push("") - 1;
    window.fetch("/_dash-update-component", { method: "POST", body })
        .then((found) => String(found.status), () => "failed")
        .then((text) => { window.answered[place] = text; });
}"""
LINK, OTHER, PANEL = "state.data", "..state.data@1f...note.children..", "..state.data...panel-body.children.."
FIELD = '{"name":"chunk","type":"setting"}.value'


class Server:
    """A page with nothing but the script, and a server that answers when it is told to."""

    def __init__(self, page):
        self.page = page
        page.evaluate(HARNESS)
        with as_file(files("dashboard") / "assets" / "state.js") as file:
            page.add_script_tag(path=file)

    def ask(self, output, changed="a.n_clicks"):
        self.page.evaluate(ASK, [output, changed])

    def sent(self):
        """The links that were sent, of those asked that came to the server within some time."""
        self.page.wait_for_timeout(60)
        return self.page.evaluate("window.sent.map(one => one.body.state[0].value)")

    def answer(self, number, link=None, applied=True, **more):
        """`link`: what it makes of the link; Dash has `applied` it a moment later."""
        answer = {"response": {**({"state": {"data": link}} if link is not None else {}), **more}}
        self.page.evaluate("([n, answer]) => window.sent[n].done(answer)", [number, answer])
        if applied and link is not None:
            self.page.wait_for_timeout(20)
            self.page.evaluate("link => { window.link = link; }", link)

    def answered(self):
        self.page.wait_for_timeout(60)
        return self.page.evaluate("window.answered")


@pytest.fixture
def server(browser):
    visitor = browser.new_context()
    yield Server(visitor.new_page())
    visitor.close()


def test_each_change_is_asked_with_the_link_as_the_one_before_left_it(server):
    server.ask(LINK)
    server.ask(OTHER)
    server.ask("cards.children")  # which changes no link, and need not wait
    assert server.sent() == ["chunk=16", "chunk=16"]
    server.answer(0, "chunk=32")
    assert server.sent() == ["chunk=16", "chunk=16", "chunk=32"]
    server.answer(2, "chunk=32&dtype=bf16")
    assert server.answered() == ["200", "200", ""]
    server.ask(LINK)
    assert server.sent()[3:] == ["chunk=32&dtype=bf16"]


def test_an_answer_that_dash_drops_as_it_was_asked_again_is_made_the_link(server):
    server.ask(LINK)
    server.ask(LINK)
    server.answer(0, "chunk=32", applied=False)
    assert server.sent() == ["chunk=16", "chunk=32"]
    server.ask(OTHER)
    server.answer(1, "chunk=64", applied=False)
    assert server.sent() == ["chunk=16", "chunk=32"]  # nobody asked that again: Dash will make it the link
    server.page.evaluate("window.link = 'chunk=64'")
    assert server.sent() == ["chunk=16", "chunk=32", "chunk=64"]


def test_what_a_later_question_of_the_same_fields_tells_too_is_not_asked(server):
    for _ in range(4):
        server.ask(PANEL, FIELD)
    assert server.sent() == ["chunk=16"]
    server.answer(0, "chunk=32", applied=False, **{"panel-body": {"children": []}})
    assert server.sent() == ["chunk=16", "chunk=16"]  # Dash takes the last answer alone: as it was asked
    server.answer(1, "chunk=64")
    assert server.answered() == ["200", "204", "204", "200"]


def test_an_answer_that_never_comes_holds_nobody_up_for_ever(server):
    server.page.clock.install()
    server.ask(LINK)
    server.ask(OTHER)
    server.page.clock.run_for(9_000)
    assert server.page.evaluate("window.sent.length") == 1
    server.page.clock.run_for(2_000)
    assert server.page.evaluate("window.sent.length") == 2


def test_what_fails_or_changes_nothing_holds_nobody_up(server):
    for _ in range(4):
        server.ask(LINK)
    server.sent()
    server.page.evaluate("window.sent[0].failed(new Error('no network'))")
    server.sent()
    server.page.evaluate("window.sent[1].done(null, 204)")
    server.sent()
    server.page.evaluate("window.sent[2].done({}, 500)")
    assert len(server.sent()) == 4
    assert server.answered() == ["failed", "204", "500", ""]


def test_a_field_that_is_gone_changes_nothing(server):
    """It was one of the configuration edited before, or of the kernel before."""
    server.ask(OTHER)
    server.ask(PANEL, FIELD)
    server.answer(0, "chunk=32", **{"panel-body": {"children": []}})
    assert server.answered() == ["200", "204"]
    server.ask(OTHER)
    server.ask(PANEL, FIELD)
    assert server.sent() == ["chunk=16", "chunk=32"]
    server.answer(1, "chunk=64")
    assert server.sent() == ["chunk=16", "chunk=32", "chunk=64"]


def test_on_a_page_without_a_link_all_is_asked_as_it_was(server):
    server.page.evaluate(
        "() => { window.dash_component_api.getLayout = () => { throw new Error('none'); }; }"
    )
    server.ask(LINK)
    assert server.sent() == ["chunk=16"]


def test_who_waits_for_fields_waits_for_as_long_as_they_do():
    found = re.search(r"FIELD_MS = (\d+);", (files("dashboard") / "assets" / "state.js").read_text())
    assert found and int(found[1]) > max(panel.DEBOUNCE_MS, panel.TEXT_MS)


# --- pages ---------------------------------------------------------------------------------------


class Slow:
    """A function that answers when it may."""

    def __init__(self, real):
        self.real, self.may, self.asked = real, threading.Event(), threading.Event()

    def __call__(self, *asked):
        self.asked.set()
        self.may.wait(20)
        return self.real(*asked)


def explored(page, address, monkeypatch) -> Slow:
    """Explore, whose panel is answered when it may be."""
    page.goto(f"{address}/explore?{SMALL}")
    page.locator("#time-cards .value").first.wait_for()
    slow = Slow(panel.moved)
    monkeypatch.setattr(panel, "moved", slow)
    return slow


def configurations(*others: str) -> str:
    own = "&".join(f"compare.{n}={quote(f'{SMALL}&{one}', safe='')}" for n, one in enumerate(others, 2))
    return f"/compare?{SMALL}&{own}"


def named(page, *names: str) -> None:
    script = "[...document.querySelectorAll('.config h2')].map(one => one.innerText).join('|')"
    waits_for(page, f"() => {script} === {'|'.join(names)!r}")


def button(page, name: str, text: str):
    return page.get_by_role("article", name=name, exact=True).get_by_role("button", name=text)


def test_what_is_typed_before_edit_goes_to_the_configuration_it_was_typed_for(page, address, monkeypatch):
    page.goto(address + configurations("algorithm=doubling"))
    named(page, "mxr", "doubling")
    slow = Slow(panel.moved)
    monkeypatch.setattr(panel, "moved", slow)
    page.get_by_label("Chunk C").fill("32")
    button(page, "doubling", "Edit").click()
    slow.asked.wait(20)
    page.wait_for_timeout(600)  # the button is due long since
    slow.may.set()
    named(page, "mxr · C 32", "doubling · C 64")
    page.wait_for_url(re.compile(r"compare\.edit=2"))
    assert "compare.1=chunk=32" in page.url and page.get_by_label("Chunk C").input_value() == "64"


def test_what_is_typed_after_edit_into_the_old_fields_changes_no_other_configuration(
    page, address, monkeypatch
):
    page.goto(address + configurations("algorithm=doubling"))
    named(page, "mxr", "doubling")
    slow = Slow(compare.acted)
    monkeypatch.setattr(compare, "acted", slow)
    button(page, "doubling", "Edit").click()
    slow.asked.wait(20)
    page.get_by_label("Chunk C").fill("32")
    page.wait_for_timeout(400)
    slow.may.set()
    page.wait_for_url(re.compile(r"compare\.edit=2"))
    waits_for(page, "() => document.querySelector('#compare-edited b').innerText === 'doubling'")
    page.wait_for_load_state("networkidle")
    named(page, "mxr", "doubling")


def test_of_buttons_pressed_while_a_field_is_waited_for_each_is_heard(page, address):
    page.goto(address + configurations("algorithm=doubling"))
    named(page, "mxr", "doubling")
    page.get_by_label("Chunk C").fill("32")
    add = page.get_by_role("button", name="Add a configuration")
    add.click()
    add.click()
    named(page, "mxr · C 32", "doubling · C 64", "mxr · C 32 · copy", "mxr · C 32 · copy 2")


def test_who_leaves_compare_with_a_button_pressed_hears_no_more_of_it(page, address):
    page.goto(address + configurations("algorithm=doubling"))
    named(page, "mxr", "doubling")
    page.get_by_label("Chunk C").fill("32")
    page.locator("#compare-heads [data-what=edit][data-place='1']").click()
    page.get_by_role("link", name="Graph").click()
    page.wait_for_url(re.compile(r"/graph\?.*chunk=32"))  # what was typed comes along
    page.wait_for_timeout(300)


def test_a_page_that_is_left_takes_along_what_was_just_typed(page, address, monkeypatch):
    slow = explored(page, address, monkeypatch)
    page.get_by_label("Chunk C").fill("32")
    page.get_by_role("link", name="Timeline").click()
    slow.asked.wait(20)
    slow.may.set()
    page.wait_for_url(re.compile(r"/timeline\?.*chunk=32"))
    assert page.get_by_label("Chunk C").input_value() == "32"


def test_digits_typed_while_the_panel_is_laid_anew_make_the_number(page, address, monkeypatch):
    slow = explored(page, address, monkeypatch)
    page.get_by_role("textbox", name="Algorithm").click()
    page.get_by_role("option", name="doubling").click()
    slow.asked.wait(20)
    page.get_by_label("Sequence length").click()
    page.keyboard.press("Control+A")
    page.keyboard.type("10")
    slow.may.set()
    page.wait_for_url(re.compile("algorithm=doubling"))
    page.wait_for_timeout(100)
    page.keyboard.type("24")
    page.wait_for_url(re.compile("seq_len=1024"))


def test_of_two_links_pressed_after_typing_the_last_counts(page, address, monkeypatch):
    slow = explored(page, address, monkeypatch)
    page.get_by_label("Chunk C").fill("32")
    slow.asked.wait(20)
    page.get_by_role("link", name="Graph").click()
    page.wait_for_timeout(60)
    page.get_by_role("link", name="Timeline").click()
    slow.may.set()
    page.wait_for_url(re.compile(r"/timeline\?.*chunk=32"))
    page.wait_for_timeout(300)
    assert "/timeline" in page.url
    page.go_back()
    page.wait_for_url(re.compile("/explore"))


def test_a_row_of_a_sweep_goes_once_what_was_typed_in_another_is_told(page, address):
    page.goto(f"{address}/sweep?{SMALL}&sweep.vary=algorithm=mxr,doubling%3Bchunk=32")
    page.get_by_label("Values of Chunk C").fill("64")
    page.get_by_label("Algorithm does not vary").click()
    page.wait_for_url(re.compile("sweep.vary=chunk=64(&|$)"))


def test_each_step_of_graph_counts(page, address, monkeypatch):
    page.goto(f"{address}/graph?{SMALL}&graph.op=4")
    on = page.get_by_role("button", name="Operation after")
    waits_for(page, "() => document.querySelector('#graph-chosen')?.value.startsWith('4')")
    page.wait_for_timeout(500)  # in which it is told what it was filled with
    slow = Slow(graph.changed)
    monkeypatch.setattr(graph, "changed", slow)
    for _ in range(3):
        on.click()
        page.wait_for_timeout(80)
    slow.may.set()
    page.wait_for_url(re.compile("graph.op=7"))


SAME = """() => ["from", "to"].every(name => {
    const link = Number(new URLSearchParams(location.search).get("timeline." + name));
    return link && Math.abs(link - Number(document.getElementById("timeline-" + name).value)) < 0.01;
})"""


def test_fields_of_timeline_say_what_is_shown_after_quick_steps(page, address):
    page.goto(f"{address}/timeline?{SMALL}")
    waits_for(page, "() => Number(document.getElementById('timeline-to')?.value) > 0")
    page.wait_for_load_state("networkidle")
    page.get_by_label("Chunk C").fill("32")
    zoom = page.locator("#timeline-in")
    zoom.click()
    page.wait_for_timeout(30)
    zoom.click()
    page.wait_for_url(re.compile("chunk=32.*timeline.from"))
    page.wait_for_load_state("networkidle")
    waits_for(page, SAME)
    page.locator("#timeline-from").fill("5")
    for _ in range(3):
        zoom.click()
        page.wait_for_timeout(120)
    page.wait_for_load_state("networkidle")
    waits_for(page, SAME)


def test_rows_of_numbers_are_those_of_the_link_though_the_drawer_opened_before(page, address, monkeypatch):
    slow = explored(page, address, monkeypatch)
    page.get_by_role("textbox", name="Profile").click()
    page.get_by_role("option", name="ascend-310p3").click()
    slow.asked.wait(20)
    page.locator("#numbers-open").click()
    page.get_by_label("Search the numbers").fill("core.groups")
    cell = "document.querySelector('.ag-cell.editable')?.innerText"
    waits_for(page, f"() => {cell} === '24'")
    slow.may.set()
    page.wait_for_url(re.compile("profile=ascend-310p3"))
    waits_for(page, f"() => {cell} === '8'")
    page.locator(".ag-cell.editable").click()
    page.keyboard.type("24")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"set=core\.groups=24"))


def test_a_number_that_is_typed_and_not_answered_is_saved(page, address, folder, monkeypatch):
    page.goto(f"{address}/explore?{SMALL}")
    page.locator("#numbers-open").click()
    page.get_by_label("Search the numbers").fill("core.groups")
    waits_for(page, "() => document.querySelectorAll('.ag-cell.editable').length === 1")
    page.get_by_label("Name of the profile").fill("typed")
    slow = Slow(numbers._after)
    monkeypatch.setattr(numbers, "_after", slow)
    page.locator(".ag-cell.editable").click()
    page.keyboard.type("12")
    page.keyboard.press("Enter")
    slow.asked.wait(20)
    page.get_by_role("button", name="Save as profile").click()
    page.wait_for_timeout(100)
    slow.may.set()
    page.get_by_text("Saved as typed.yaml").wait_for()
    page.wait_for_url(re.compile(r"set=core\.groups=12"))
    assert load_machine(folder / "typed.yaml").core.groups.value == 12
    assert page.locator(".ag-row.changed").count() > 0
