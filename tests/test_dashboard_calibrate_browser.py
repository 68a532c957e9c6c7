"""The page Calibrate as a person uses it, in a headless Chromium."""

from __future__ import annotations

from test_dashboard_calibrate import HIDDEN, PROFILE, synthetic

from npusim.profiles import load_machine

__all__ = ["synthetic"]  # a fixture, which pytest finds by its name

HEADS, FIT_HEADS = "#calibrate-heads .value", "#calibrate-fit-heads .value"


def choose(page, name: str, data: bytes) -> None:
    """A file, by the file chooser."""
    with page.expect_file_chooser() as chooser:
        page.get_by_text("Upload measurements").click()
    chooser.value.set_files([{"name": name, "mimeType": "text/csv", "buffer": data}])


def test_measurements_are_uploaded_seen_fitted_downloaded_and_saved(page, address, folder, synthetic):
    page.goto(f"{address}/calibrate?calibrate.fields=flags&calibrate.hold=none")
    alert = page.locator(".alert")
    choose(page, "photo.csv", b"\x89PNG\r\n\x00")
    alert.get_by_text("photo.csv:2: has a zero byte").wait_for()
    choose(page, "large.csv", b"0" * (11 * 2**20))
    alert.get_by_text("large.csv: more than 10 MiB").wait_for()
    choose(page, "m.csv", synthetic)
    page.wait_for_selector(HEADS)
    assert alert.count() == 0
    assert page.locator(HEADS).nth(3).inner_text() == "8"
    assert page.locator("#calibrate-box .ag-row").count() == 8

    before = page.locator(HEADS).first.inner_text()
    page.get_by_role("button", name="Fit", exact=True).click()
    page.wait_for_selector(FIT_HEADS)
    after = page.locator(FIT_HEADS).first.inner_text()
    assert float(after.split()[0]) < 1 < float(before.split()[0])
    with page.expect_download() as download:
        page.get_by_role("button", name="Download profile").click()
    text = download.value.path().read_text()
    assert download.value.suggested_filename == f"{PROFILE}-fitted.yaml"
    assert "m.csv, rows by line; 8 timings" in text
    with page.expect_download() as download:
        page.get_by_role("button", name="Download report").click()
    assert "cross_core_cycles" in download.value.path().read_text()
    page.get_by_label("Name of the profile").fill("../mine")
    page.get_by_role("button", name="Save as profile").click()
    page.get_by_text("is no plain name").wait_for()
    page.get_by_label("Name of the profile").fill("fitted-here")
    page.get_by_role("button", name="Save as profile").click()
    page.get_by_text("Saved as fitted-here.yaml").wait_for()
    made = load_machine(folder / "fitted-here.yaml")
    want = HIDDEN["core.flags.cross_core_cycles"]
    assert abs(made.core.flags.cross_core_cycles.value / want - 1) < 0.01

    page.reload()
    page.wait_for_selector(FIT_HEADS)
    assert page.locator(FIT_HEADS).first.inner_text() == after
    page.get_by_role("button", name="Forget the files").click()
    page.get_by_text("Hold the model against measurements").wait_for()
