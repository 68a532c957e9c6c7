"""The dashboard as a person uses it, in a headless Chromium."""

from __future__ import annotations

import re

from browsing import PATIENCE_MS, SMALL, waits_for

from dashboard.components import plotlyjs


def headlines(page) -> list[str]:
    page.wait_for_selector("#error-cards .value")
    return page.locator(".headline .value").all_inner_texts()


VALUES = "[...document.querySelectorAll('.headline .value')].map(one => one.innerText).join('|')"


DRAWN = """() => [...document.querySelectorAll('.card .figure')]
    .every(one => one.querySelector('.main-svg .trace, .main-svg .heatmaplayer *'))"""
LIBRARIES = """() => performance.getEntriesByType('resource')
    .map(one => one.name.replace(location.origin, '')).filter(name => name.includes('plotly'))"""
MARGINS = """() => [...document.querySelectorAll('.card .js-plotly-plot')]
    .map(one => [one.parentNode.id, one.layout.margin, one._fullLayout._size])"""


def test_the_library_of_figures_is_waited_for_and_replaced_where_it_does_not_come(window, address):
    copies, asked = [], []
    for come in (True, False):
        page = window.new_page()
        page.route("**/plotly.js*", lambda route: asked.append(route))
        page.goto(f"{address}/?{SMALL}", wait_until="commit")
        waits_for(page, "() => document.querySelectorAll('.card .figure').length > 3")
        page.wait_for_timeout(500)  # in which Dash would ask for another
        if come:
            asked.pop().continue_()
        else:
            asked.pop().abort()
        waits_for(page, DRAWN)
        copies.append(page.evaluate(LIBRARIES))
        page.close()
    own, dash = plotlyjs.SCRIPT["src"], "/_dash-component-suites/plotly/package_data/plotly.min.js"
    assert copies == [[own], [own, dash]]


def test_explore_answers_says_what_cannot_be_and_its_link_restores_the_view(page, address, browser):
    page.goto(f"{address}/?{SMALL}")
    first = headlines(page)
    assert len(first) == 5
    waits_for(page, DRAWN)
    assert page.evaluate(LIBRARIES) == [plotlyjs.SCRIPT["src"]]  # and Dash asked for no other
    for name, given, taken in page.evaluate(MARGINS):  # plotly widens none, for which it would draw again
        assert (taken["l"], taken["b"]) == (given["l"], given["b"]), name
    chunk, alert = page.get_by_label("Chunk C"), page.locator(".alert")
    chunk.fill("50")  # which cannot be: it is said, and all stays usable
    alert.wait_for()
    assert "--chunk: mxr halves the matrix; got 50" in alert.inner_text()
    assert page.locator("#time-part.stale").count() == 1
    assert headlines(page) == first
    chunk.fill("32")
    alert.wait_for(state="detached")
    assert page.locator(".stale").count() == 0
    page.wait_for_url(re.compile("chunk=32"))
    page.get_by_label("Batch").press("ArrowUp")
    page.wait_for_url(re.compile("batch=2"))
    page.get_by_text("launch", exact=True).click()
    page.wait_for_url(re.compile("ideal=launch"))
    waits_for(page, f"() => document.querySelector('.headline .value').innerText !== {first[0]!r}")
    page.locator("#copy-link").click()
    waits_for(page, "() => document.querySelector('#copied').innerText === 'Copied'")

    other = browser.new_context().new_page()
    other.set_default_timeout(PATIENCE_MS)
    other.goto(page.url)
    shown = headlines(other)
    waits_for(page, f"() => {VALUES} === {'|'.join(shown)!r}")
    assert other.get_by_label("Chunk C").input_value() == "32"
    assert other.get_by_label("launch").is_checked()
    other.close()


def test_another_kernel_and_a_changed_number_answer_at_once(page, address):
    page.goto(f"{address}/explore?{SMALL}")
    headlines(page)
    page.get_by_role("textbox", name="Algorithm").click()
    page.get_by_role("option", name="doubling").click()
    page.wait_for_url(re.compile("algorithm=doubling"))
    page.locator("#numbers-open").click()
    page.get_by_label("Search the numbers").fill("cube.startup")
    waits_for(page, "() => document.querySelectorAll('.ag-cell.editable').length === 1")
    page.locator(".ag-cell.editable").click()
    page.keyboard.type("500")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"set=core\.cube\.startup_cycles=500"))
    page.locator(".ag-row.changed").wait_for()
    page.get_by_label("Search the numbers").fill("core.groups")
    waits_for(
        page, "() => [...document.querySelectorAll('.ag-cell.editable')].map(one => one.innerText) == '24'"
    )
    page.locator(".ag-cell.editable").click()
    page.keyboard.type("many")
    page.keyboard.press("Enter")
    page.get_by_text("core.groups: must be a number, got 'many'").wait_for()
    waits_for(page, "() => document.querySelector('.ag-cell.editable').innerText === '24'")
    page.get_by_label("Name of the profile").fill("../mine")
    page.get_by_role("button", name="Save as profile").click()
    page.get_by_text("is no plain name").wait_for()
    page.get_by_label("Name of the profile").fill("mine")
    page.get_by_role("button", name="Save as profile").click()
    page.get_by_text("Saved as mine.yaml").wait_for()
    page.keyboard.press("Escape")
    page.get_by_text("1 changed").wait_for()


def test_an_operation_of_the_graph_shows_its_cost_and_the_theme_is_remembered(page, address):
    page.goto(f"{address}/explore?{SMALL}")
    headlines(page)
    page.get_by_role("link", name="Graph").click()
    page.wait_for_url(re.compile(r"/graph\?.*seq_len=512"))
    page.get_by_role("textbox", name="Operation", exact=True).click()
    page.get_by_role("option", name="make I").click()
    page.wait_for_url(re.compile("graph.op=3"))
    page.locator("#graph-details .formula").first.wait_for()
    text = page.locator("#graph-details").inner_text()
    assert "⌈64/16⌉ × ⌈64/16⌉ × ⌈64/16⌉ cycles" in text and "core.cube.startup_cycles" in text
    page.get_by_role("button", name="Operation after").click()
    page.wait_for_url(re.compile("graph.op=4"))
    page.locator("#switch-theme").click()
    page.locator("html[data-scheme=dark]").wait_for()
    page.reload()
    page.locator("html[data-scheme=dark]").wait_for()
    page.locator("#tile-graph .main-svg").first.wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "Skip to the content"
