"""Layer as a person uses it, in a headless Chromium."""

from __future__ import annotations

import re

from browsing import PATIENCE_MS, SMALL, waits_for

MODEL = "layer.model=qwen3.5-0.8b&layer.seq_len=1024"
VALUES = "[...document.querySelectorAll('#layer-heads .value')].map(one => one.innerText).join('|')"
INVERSE = "#layer-kernels tr.inverse th"


def test_a_model_a_length_and_an_impossible_setting(page, address, browser):
    page.goto(f"{address}/explore?{SMALL}&{MODEL}")
    page.locator("#time-cards .value").first.wait_for()
    page.get_by_role("link", name="Layer").click()
    page.wait_for_url(re.compile(r"/layer\?.*layer\.seq_len=1024"))
    page.locator(INVERSE).wait_for()
    assert page.locator(INVERSE).inner_text() == "inverse"
    first = page.evaluate(VALUES)

    page.get_by_role("textbox", name="Model").click()
    page.get_by_role("option", name="qwen3.5-2b").click()
    page.wait_for_url(re.compile(r"layer\.model=qwen3\.5-2b"))
    waits_for(page, f"() => {VALUES} !== {first!r}")
    second = page.evaluate(VALUES)
    thumb = page.get_by_role("slider", name="Sequence length")
    thumb.press("ArrowRight")
    page.wait_for_url(re.compile(r"layer\.seq_len=1536"))
    page.get_by_text("1,536 tokens").first.wait_for()
    waits_for(page, f"() => {VALUES} !== {second!r}")

    page.get_by_label("Tensor parallel").fill("3")
    page.locator(".alert").wait_for()
    assert page.locator(".alert").count() == 1
    assert "cannot be divided by 3" in page.locator(".alert").inner_text()
    assert page.locator("#layer-part.stale").count() == 1
    page.get_by_label("Tensor parallel").fill("2")
    page.locator(".alert").wait_for(state="detached")
    assert page.locator(".stale").count() == 0

    shown = page.evaluate(VALUES)
    other = browser.new_context().new_page()
    other.set_default_timeout(PATIENCE_MS)
    other.goto(page.url)
    waits_for(other, f"() => {VALUES} === {shown!r}")
    assert other.get_by_label("Tensor parallel").input_value() == "2"
    other.close()
