"""Sweep as a person uses it, in a headless Chromium."""

from __future__ import annotations

import os
import re
import signal
import threading

from browsing import waits_for

from dashboard.components import jobs
from dashboard.figures.text import time as in_words
from dashboard.pages import sweep_define
from npusim.sweep.store import Store

QUICK = "seq_len=256&heads=1&numerics=no"
ROWS = "document.querySelectorAll('#sweep-grid .ag-center-cols-container .ag-row').length"


def rows(folder, name):
    with Store(str(folder / name), write=False) as kept:
        return {row.key: row for row in kept.rows()}


def button(page, text):
    waits_for(page, f"() => document.querySelector('#sweep-start')?.innerText === '{text}'")
    return page.locator("#sweep-start")


def test_a_change_that_is_answered_late_takes_back_no_other(page, address, monkeypatch):
    """It is asked with the link as the one before left it."""
    going_on, real = threading.Event(), sweep_define.varying

    def late(*asked):
        going_on.wait(20)
        return real(*asked)

    page.goto(f"{address}/sweep?{QUICK}&sweep.vary=chunk=16,32")
    button(page, "Start")
    monkeypatch.setattr(sweep_define, "varying", late)
    page.get_by_label("Values of Chunk C").fill("16,48")
    page.wait_for_timeout(300)
    page.get_by_label("Kept in").fill("other.db")
    page.wait_for_timeout(600)
    assert "chunk=16,32" in page.url
    going_on.set()
    page.wait_for_url(re.compile("sweep.store=other.db"))
    page.wait_for_url(re.compile("chunk=16,48"))
    assert "sweep.store=other.db" in page.url
    assert page.get_by_label("Values of Chunk C").input_value() == "16,48"


def test_points_are_defined_computed_brushed_and_opened_in_explore(page, address, folder):
    page.goto(f"{address}/sweep?{QUICK}&sweep.vary=chunk=16,32")
    button(page, "Start")
    page.get_by_label("Kept in").fill("../mine.db")
    page.get_by_text("is no plain name that ends in .db").first.wait_for()
    assert page.locator("#sweep-start").is_disabled()
    page.get_by_label("Kept in").fill("mine.db")
    page.get_by_label("Values of Chunk C").fill("16,x")
    page.locator("#sweep-rows .wrong").wait_for()
    page.get_by_label("Values of Chunk C").fill("16,32,64")
    page.locator("#sweep-rows .said", has_text="3 values").wait_for()
    page.get_by_role("textbox", name="Add what varies").click()
    page.get_by_role("option", name=re.compile("Core groups")).click()
    page.get_by_label("Values of Core groups").fill("1,2")
    page.wait_for_url(re.compile(r"cores=1,2"))
    page.locator("#sweep-outlook strong", has_text="6 points").wait_for()
    button(page, "Start").click()
    page.locator(".job:not(.gone)").wait_for()
    button(page, "All computed")
    page.locator("#sweep-counts", has_text="6 done").wait_for()
    waits_for(page, "() => document.querySelectorAll('#sweep-front .points path').length >= 6")

    axis = page.locator("#sweep-parallel .axis-brush").first.bounding_box()
    x = axis["x"] + axis["width"] / 2
    page.mouse.move(x, axis["y"] + 0.6 * axis["height"])
    page.mouse.down()
    page.mouse.move(x, axis["y"] + 2, steps=4)
    page.mouse.up()
    kept = page.locator("#sweep-kept", has_text="of 6 chosen")
    kept.wait_for()
    count = int(kept.inner_text().split()[0])
    assert 0 < count < 6
    waits_for(page, f"() => {ROWS} === {count}")
    page.get_by_role("button", name="Show all").click()
    waits_for(page, f"() => {ROWS} === 6")

    with page.expect_download() as saved:
        page.get_by_role("button", name="CSV").click()
    assert saved.value.path().read_text().count("\n") == 7
    point = page.locator("#sweep-front .points path").first
    place = page.evaluate(
        "() => document.querySelector('#sweep-front .js-plotly-plot').data.find(one => one.customdata)"
        ".customdata[0]"
    )
    point.click(force=True)
    page.wait_for_url(re.compile("/explore"))
    page.locator(".headline .value").first.wait_for()
    want = "".join(in_words(rows(folder, "mine.db")[place].result["time_us"]))
    assert page.locator(".headline .number").first.inner_text() == want
    page.get_by_role("link", name="Sweep").click()
    page.locator("#sweep-counts", has_text="6 done").wait_for()


def test_a_sweep_is_cancelled_lost_and_gone_on_with(page, address, app, folder):
    page.goto(f"{address}/sweep?{QUICK}&sweep.store=long.db&sweep.vary=seq_len=101:3300")
    button(page, "Start").click()
    waits_for(
        page, "() => /: [1-9][\\d,]* of 3,200/.test(document.querySelector('#sweep-job-title')?.innerText)"
    )
    page.reload()  # who comes later sees it, too
    page.locator(".job:not(.gone) button", has_text="Cancel").click()
    page.get_by_text(re.compile(r"^Cancelled after [\d,]+ of 3,200")).wait_for()
    first = rows(folder, "long.db")
    assert 0 < len(first) < 3200

    button(page, "Resume").click()
    waits_for(
        page, "() => /: [1-9][\\d,]* of 3,200/.test(document.querySelector('#sweep-job-title')?.innerText)"
    )
    os.kill(jobs.of(app)._started["sweep long.db"].process.pid, signal.SIGKILL)
    lost = page.get_by_role("alert").filter(has_text="The computation was lost")
    lost.wait_for(timeout=10_000)
    assert "killed from outside (SIGKILL)" in lost.inner_text() and "start again" in lost.inner_text()
    second = rows(folder, "long.db")
    assert first.items() <= second.items()
    assert button(page, "Resume").is_enabled()
