"""Compare as a person uses it, in a headless Chromium."""

from __future__ import annotations

import re

from browsing import PATIENCE_MS, SMALL, waits_for

NAMES = "[...document.querySelectorAll('.config h2')].map(one => one.innerText).join('|')"
TABLE = "document.querySelectorAll('#compare-times td, #compare-errors td')"
CELLS = f"[...{TABLE}].map(one => one.innerText).join('|')"


def shows(page, *names: str) -> None:
    waits_for(page, f"() => {NAMES} === {'|'.join(names)!r}")


def card(page, name: str):
    return page.get_by_role("article", name=name, exact=True)


def test_configurations_are_added_changed_and_held_against_each_other(page, address, browser):
    page.goto(f"{address}/explore?{SMALL}")
    page.locator("#time-cards .value").first.wait_for()
    page.get_by_role("link", name="Compare").click()
    shows(page, "mxr", "forward-substitution")
    card(page, "mxr").get_by_text("baseline").wait_for()

    page.get_by_role("button", name="Add a configuration").click()
    shows(page, "mxr", "forward-substitution", "mxr · copy")
    page.get_by_role("textbox", name="Algorithm").click()
    page.get_by_role("option", name="masked-neumann").click()
    shows(page, "mxr", "forward-substitution", "masked-neumann")
    page.get_by_label("Order N").fill("5")
    page.wait_for_url(re.compile("order=5"))
    card(page, "masked-neumann").get_by_role("button", name="Baseline").click()
    page.wait_for_url(re.compile(r"compare\.base=3"))
    card(page, "masked-neumann").get_by_text("baseline").wait_for()
    card(page, "mxr").get_by_role("button", name="Edit").click()
    waits_for(page, "() => document.querySelector('#compare-edited b').innerText === 'mxr'")
    assert page.get_by_role("textbox", name="Algorithm").input_value() == "mxr"
    page.get_by_label("Chunk C").fill("50")
    page.get_by_text("--chunk: mxr halves the matrix; got 50").wait_for()
    assert page.locator(".config.wrong").count() == 1
    page.get_by_label("Chunk C").fill("64")
    page.locator(".config.wrong").wait_for(state="detached")
    page.locator("#timelines .bars path").first.wait_for()
    page.wait_for_load_state("networkidle")

    shown = page.evaluate(CELLS)
    other = browser.new_context().new_page()
    other.set_default_timeout(PATIENCE_MS)
    other.goto(page.url)
    shows(other, "mxr", "forward-substitution", "masked-neumann")
    waits_for(other, f"() => {CELLS} === {shown!r}")
    assert other.locator("#compare-edited b").inner_text() == "mxr"
    other.close()

    card(page, "forward-substitution").get_by_role("button", name="Remove").click()
    shows(page, "mxr", "masked-neumann")
    page.get_by_role("link", name="Explore").click()
    page.wait_for_url(re.compile(r"/explore\?.*seq_len=512"))
    page.locator("#time-cards .value").first.wait_for()
