"""Timeline as a person uses it, in a headless Chromium."""

from __future__ import annotations

import json
import re
from urllib.parse import parse_qs, urlparse

from browsing import PATIENCE_MS, waits_for

BARS = "#timeline-figure .barlayer .point path"
IN_VIEW = """bars => {
  const all = document.querySelector("#timeline-figure .nsewdrag").getBoundingClientRect();
  const boxes = [...document.querySelectorAll(bars)].map(one => one.getBoundingClientRect());
  const box = boxes.find(b => b.left > all.left + all.width / 3 && b.right < all.right && b.width > 4);
  return [box.left + box.width / 2, box.top + box.height / 2];
}"""
"""the middle of a bar that can be clicked"""
HEADS = "#timeline-figure .scatterlayer .point"
"""ends of arrows"""
SOME = "seq_len=2048&samples=2"
START = f"timeline?{SOME}&timeline.from=5&timeline.to=15"


def window(page) -> tuple[float, float]:
    """What the link looks at."""
    own = parse_qs(urlparse(page.url).query)
    return float(own["timeline.from"][0]), float(own["timeline.to"][0])


def shown(page) -> str:
    return page.locator("#timeline-heads .headline .value").nth(3).inner_text()


def opened(page, link: str) -> None:
    page.goto(link)
    page.locator(BARS).first.wait_for()


def test_the_view_is_moved_by_buttons_keys_and_the_mouse_and_its_link_restores_it(page, address, browser):
    opened(page, f"{address}/{START}")
    before = shown(page)
    page.get_by_role("button", name="Closer (+)").click()
    page.wait_for_url(re.compile(r"timeline\.from=7\.5&timeline\.to=12\.5"))
    waits_for(page, f"() => document.querySelectorAll('#timeline-heads .value')[3].innerText !== {before!r}")
    page.locator("#timeline-stage").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_url(re.compile(r"timeline\.from=11\.25&timeline\.to=16\.25"))
    field = page.get_by_label("From, µs")
    while field.input_value() != "11.25":  # else the answer to the key would undo what is typed
        page.wait_for_timeout(50)
    field.fill("10")
    field.press("Enter")
    page.wait_for_url(re.compile(r"timeline\.from=10&timeline\.to=16\.25"))
    for _ in range(60):  # a figure that is just being drawn anew does not hear it
        page.locator("#timeline-figure .nsewdrag").hover()
        page.mouse.wheel(0, -240)
        page.wait_for_timeout(1000)
        if "timeline.to=16.25" not in page.url:
            break
    low, high = window(page)
    assert 10 < low < high < 16.25
    waits_for(page, "() => !document.querySelector('[data-dash-is-loading]')")
    seen = shown(page)

    other = browser.new_context().new_page()
    other.set_default_timeout(PATIENCE_MS)
    opened(other, page.url)
    waits_for(other, f"() => document.querySelectorAll('#timeline-heads .value')[3].innerText === {seen!r}")
    other.close()


def test_a_click_shows_an_operation_and_what_is_in_view_is_downloaded(page, address):
    opened(page, f"{address}/{START}")
    assert page.locator(HEADS).count() == 0
    page.mouse.click(*page.evaluate(IN_VIEW, BARS))
    page.wait_for_url(re.compile(r"timeline\.op=0\.0\.\d+"))
    page.locator("#timeline-details .formula").wait_for()
    text = page.locator("#timeline-details").inner_text()
    assert "It waited last for" in text and "core group 0" in text
    waits_for(page, f"() => document.querySelectorAll('{HEADS}').length >= 2")
    place = parse_qs(urlparse(page.url).query)["timeline.op"]
    page.locator("#timeline-details .as-link").first.click()
    page.wait_for_function(f"() => !location.search.includes('timeline.op={place[0]}')")
    page.get_by_role("button", name="Clear").click()
    page.get_by_text("No operation is chosen").wait_for()

    count = int(shown(page).replace(",", ""))
    page.get_by_role("button", name="Download").click()
    with page.expect_download() as got:
        page.get_by_role("menuitem", name="Trace as JSON").click()
    trace = json.loads(got.value.path().read_text())
    slices = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert len(slices) == count == trace["otherData"]["kept_operations"]
    assert got.value.suggested_filename == "timeline.json"
    page.get_by_role("button", name="Download").click()
    assert page.get_by_role("menuitem", name="Open in Perfetto").is_enabled()
    page.get_by_text("The trace stays in your browser").wait_for()
    with page.expect_download() as got:
        page.get_by_role("menuitem", name="Picture as SVG").click()
    assert "<svg" in got.value.path().read_text()
