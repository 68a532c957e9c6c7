"""The dashboard in a headless Chromium: fixtures that `conftest` makes known, and what tests share."""

from __future__ import annotations

import os

import pytest

SMALL = "seq_len=512&heads=2&samples=2"
PATIENCE_MS = 60_000
"""a computer that does other things besides is slow; what is waited for comes at once otherwise"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the dashboard runs: profiles and stores are found and saved there."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def app(folder):
    from dashboard.app import create_app

    return create_app(folder=folder)


@pytest.fixture(scope="module")
def address(app):
    from dashboard.screenshots import serving

    with serving(app) as found:
        yield found


@pytest.fixture(scope="module")
def browser():
    """Without one, tests are skipped, but never in CI."""
    from dashboard.screenshots import browsing, chromium

    if chromium() is None and os.environ.get("CI") != "true":
        pytest.skip("no Chromium is installed; on Debian: apt-get install chromium")
    with browsing() as found:
        yield found


@pytest.fixture(scope="module")
def window(browser):
    """Shared by the visitors of a module, so that what the browser has read and compiled once it keeps."""
    found = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme="light")
    found.set_default_timeout(PATIENCE_MS)
    yield found
    found.close()


@pytest.fixture
def page(window, address):
    """A page of a fresh visitor; in the end nothing was wrong, and nobody else was asked."""
    found, wrong = window.new_page(), []
    found.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    found.on("pageerror", lambda error: wrong.append(str(error)))
    found.on(
        "request",
        lambda one: None if one.url.startswith((address, "data:", "blob:")) else wrong.append(one.url),
    )
    found.on("response", lambda one: wrong.append(f"{one.status} {one.url}") if one.status >= 400 else None)
    yield found
    if found.url.startswith(address):
        found.evaluate("localStorage.clear(); sessionStorage.clear()")
    window.clear_cookies()
    found.close()
    assert wrong == []


def waits_for(page, script: str) -> None:
    page.wait_for_function(script, polling=100)
