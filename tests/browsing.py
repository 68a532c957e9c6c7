"""What tests of the dashboard in a Chromium share; pytest finds a fixture in every module that names it."""

from __future__ import annotations

import os

import pytest

from dashboard.app import create_app
from dashboard.screenshots import browsing, chromium, serving

needs_chromium = pytest.mark.skipif(
    chromium() is None and os.environ.get("CI") != "true",
    reason="no Chromium is installed; on Debian: apt-get install chromium",
)
"""skipped where there is none, but never in CI"""

SMALL = "seq_len=512&heads=2&samples=2"
PATIENCE_MS = 60_000
"""a computer that does other things besides is slow; what is waited for comes at once otherwise"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the dashboard runs: profiles and stores are found and saved there."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def app(folder):
    return create_app(folder=folder)


@pytest.fixture(scope="module")
def address(app):
    with serving(app) as found:
        yield found


@pytest.fixture(scope="module")
def browser():
    with browsing() as found:
        yield found


@pytest.fixture
def page(browser, address):
    """A page of a fresh visitor; in the end nothing was wrong, and nobody else was asked."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme="light")
    context.set_default_timeout(PATIENCE_MS)
    found, wrong = context.new_page(), []
    found.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    found.on("pageerror", lambda error: wrong.append(str(error)))
    found.on(
        "request",
        lambda one: None if one.url.startswith((address, "data:", "blob:")) else wrong.append(one.url),
    )
    found.on("response", lambda one: wrong.append(f"{one.status} {one.url}") if one.status >= 400 else None)
    yield found
    assert wrong == []
    context.close()


def waits_for(page, script: str) -> None:
    page.wait_for_function(script)
