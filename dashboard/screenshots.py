"""Pictures of all pages, light and dark: `python -m dashboard.screenshots -o FOLDER`.

Needs playwright and a Chromium (Debian: apt-get install chromium); nothing is fetched.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

from dash import Dash

from dashboard.components import jobs
from dashboard.service.jobs import Home
from dashboard.service.sweeps import STORE, sweep

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-extensions",
)  # fmt: skip
"""a browser that asks nothing of the network by itself"""
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
SWEPT = (
    "seq_len=2048&samples=4&sweep.vary="
    "algorithm=mxr,doubling,newton-schulz,masked-neumann;chunk=16,32,64,128;dtype=fp16,bf16"
)
"""the sweep whose store there is"""
VIEWS = {
    "explore": ("/explore?algorithm=masked-neumann&batch=16&order=4", ".headline .value"),
    "timeline": (
        "/timeline?batch=16&timeline.op=0.0.6300&timeline.from=295.2&timeline.to=298.7",
        "#timeline-details .formula",
    ),
    "timeline-heat": ("/timeline?batch=16&timeline.from=2000&timeline.to=2400", "#timeline-heads .value"),
    "compare": (
        "/compare?algorithm=masked-neumann&order=4&compare.edit=2&compare.1=algorithm%3Ddoubling"
        "&compare.3=algorithm%3Dmxr&compare.4=algorithm%3Dmasked-neumann%26order%3D4%26paths%3Dl0c_ub",
        "#timelines .bars",
    ),
    "layer": (
        "/layer?layer.seq_len=65536&layer.inverse=forward-substitution,mxr,masked-neumann",
        "#layer-heads .value",
    ),
    "sweep": (f"/sweep?{SWEPT}", "#sweep-front .points path"),
    "calibrate": ("/calibrate?calibrate.shipped=yes", "#calibrate-heads .value"),
    "graph": ("/graph?algorithm=masked-neumann&graph.op=14", "#graph-details .formula"),
}
"""a link of each page worth looking at, and what is there once it has answered"""


def chromium() -> str | None:
    """Where the computer's own Chromium is."""
    return next((found for name in CHROMIUM if (found := shutil.which(name))), None)


@contextmanager
def serving(app: Dash) -> Iterator[str]:
    """The address of a server of the application, on a free port, while the block runs."""
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = make_server("127.0.0.1", 0, app.server, threaded=True)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        jobs.of(app).close()


@contextmanager
def browsing() -> Iterator[Any]:
    """A headless browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


def shoot(folder: Path, size: tuple[int, int], whole: bool) -> list[Path]:
    """A picture of each page in each theme; `whole`: as long as the page is."""
    from dashboard.app import create_app

    made: list[Path] = []
    with tempfile.TemporaryDirectory() as work, serving(create_app(folder=Path(work))) as address:
        sweep(lambda *_: None, {"state": SWEPT, "store": STORE}, Home(Path(work)))
        with browsing() as browser:
            for theme in ("light", "dark"):
                viewport = {"width": size[0], "height": size[1]}
                context = browser.new_context(viewport=viewport, color_scheme=theme, reduced_motion="reduce")
                for name, (link, sign) in VIEWS.items():
                    page = context.new_page()
                    page.goto(address + link)
                    page.wait_for_selector(sign, timeout=60_000)
                    page.wait_for_load_state("networkidle")
                    page.wait_for_timeout(300)  # figures are drawn once they are there
                    made.append(folder / f"{name}-{theme}.png")
                    page.screenshot(path=made[-1], full_page=whole)
                    page.close()
                context.close()
    return made


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m dashboard.screenshots", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--size", default="1280x800", help="of the window [default: 1280x800]")
    parser.add_argument("--whole", action="store_true", help="the whole page, not what the window shows")
    given = parser.parse_args()
    if chromium() is None:
        sys.exit("no Chromium is installed; on Debian: apt-get install chromium")
    width, _, height = given.size.partition("x")
    given.output.mkdir(parents=True, exist_ok=True)
    for path in shoot(given.output, (int(width), int(height)), given.whole):
        print(path)


if __name__ == "__main__":
    main()
