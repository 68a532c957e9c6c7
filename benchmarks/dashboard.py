"""What the server takes to answer a moved control, on 16 sequences of 8192 tokens, and a zoom of a timeline.

Prints one line of JSON. Every control of Explore that matters to the masked Neumann series is moved, and for
each move both callbacks, that of the time and that of the error, are asked over HTTP one after the other, as
a browser would ask them: their sum is the time of the move, and beside it stands the processor time, as a
computer that does other things takes longer. Then visitors move their controls all at once. Last the
timeline of a run of a hundred million operations is zoomed, from a tenth of it down to an iteration, at three
places and for one, four and all core groups: the time of a zoom is that of the callback that draws.

Where there is a Chromium, Explore is also loaded in new ones, each with nothing kept: the time from the
navigation on until all that the window of 1280 x 800 shows is drawn, and until all figures of the page are.
No driver is attached: one that watches a browser's requests makes it read plotly.js several times more.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any
from urllib.request import Request, urlopen

del sys.path[0]  # the folder of this script, in which `dashboard` is itself

from dash import Dash  # noqa: E402
from flask import Response, request  # noqa: E402

from dashboard.app import create_app  # noqa: E402
from dashboard.components.ids import SCHEME, STATE  # noqa: E402
from dashboard.screenshots import FLAGS, chromium, serving  # noqa: E402
from dashboard.service import Service  # noqa: E402
from dashboard.service.timeline import Timelines  # noqa: E402
from dashboard.state import State  # noqa: E402

START = State.of({"batch": 16, "algorithm": "masked-neumann"})
VISITORS, MOVES_EACH = 20, 5
LONG = State.of({"matrices": 1_400_000})
LOADS, REST_MS, PATIENCE_S = 7, 2500, 120
"""loads after one that does not count; what a browser gets to start before it; and to draw"""
CHROME_PX = 87
"""of a headless window's height that are no page"""
WATCH = """<script>(function () {
  var seen = {}, asked = window.setInterval(function () {
    var figures = Array.from(document.querySelectorAll(".card .figure"));
    function drawn(one) { return one.querySelector(".main-svg .trace, .main-svg .heatmaplayer *"); }
    function shown(one) { return one.getBoundingClientRect().top < window.innerHeight; }
    if (!figures.length || !document.querySelector(".headline .value")) return;
    if (!seen.view && figures.filter(shown).every(drawn)) seen.view = performance.now();
    if (!figures.every(drawn)) return;
    window.clearInterval(asked);
    seen.all = performance.now();
    fetch("/loaded", { method: "POST", body: JSON.stringify(seen) });
  }, 20);
})();</script>"""
"""says when it is drawn"""


def moves() -> Iterator[State]:
    """One control moved at a time, from where the ones before left it."""
    state = START
    dials: tuple[tuple[str, tuple[object, ...]], ...] = (
        ("order", (4, 5, 6)), ("steps", (4, 16)), ("schedule", ("horner", "doubling")),
        ("mask", (False, True)), ("chunk", (32, 128, 64)), ("block", (32, 64)), ("heads", (16, 48)),
        ("dtype", ("bf16", "fp16")),
        ("set", ("core.cube.startup_cycles=20", "core.cube.startup_cycles=40")), ("paths", ("l0c_ub", None)),
        ("ideal", ("flags", "flags,launch", None)), ("cores", (12, 20)), ("seed", (1, 2)),
        ("profile", ("ascend-910b4", "ascend-950pr-9599", None)), ("algorithm", ("doubling", "mxr")),
    )  # fmt: skip
    for name, values in dials:
        if name in ("cores", "profile"):
            state = START
        for value in values:
            state = state.updated(**{name: value})
            if name == "algorithm":
                state = State.of({"batch": 16, "algorithm": value})
            yield state


def zooms(whole: float) -> Iterator[State]:
    """Windows of a timeline that takes `whole` microseconds."""
    for cores in ("0", "0-3", "all"):
        for place in (0.1, 0.5, 0.9):
            width = 0.1 * whole
            while width > 5.0:
                start = place * whole
                ends = {"from": round(start, 3), "to": round(start + width, 3)}
                yield LONG.viewed("timeline", cores=cores, **ends)
                width /= 4


class Client:
    """Asks the callbacks that listen to the state alone, as the browser does. `sign`: what is in the ids of
    those of a page, of which there are `count`."""

    def __init__(self, address: str, sign: str = "card", count: int = 2) -> None:
        self.address = address
        with urlopen(f"{address}/_dash-dependencies") as answer:
            known = json.load(answer)
        listens = [{"id": STATE, "property": "data"}, {"id": SCHEME, "property": "data"}]
        self.asked = [
            one for one in known if one["inputs"][: len(listens)] == listens and sign in one["output"]
        ]
        assert len(self.asked) == count, self.asked

    def move(self, state: State) -> float:
        """Seconds until both callbacks have answered."""
        return sum(self._ask(one, state) for one in self.asked)

    def _ask(self, one: dict[str, Any], state: State) -> float:
        places = [part.rpartition(".") for part in one["output"].strip(".").split("...")]
        said = {STATE: state.query, SCHEME: "light"}  # and nothing of what else it listens to
        asked = {
            "output": one["output"],
            "outputs": [{"id": name, "property": what} for name, _, what in places],
            "inputs": [{**known, "value": said.get(known["id"])} for known in one["inputs"]],
            "state": [{**known, "value": None} for known in one["state"]],
            "changedPropIds": [f"{STATE}.data"],
        }
        url, head = f"{self.address}/_dash-update-component", {"Content-Type": "application/json"}
        began = time.perf_counter()
        with urlopen(Request(url, json.dumps(asked).encode(), head)) as answer:
            found = json.load(answer)["response"]
        took = time.perf_counter() - began
        notes = [found[name]["children"] for name in found if name.endswith("-note")]
        assert not any(notes), notes
        return took


def visitor(client: Client, number: int) -> list[float]:
    """A visitor's moves, which are no other's."""
    states = [START.updated(heads=2 + number, order=3 + move) for move in range(MOVES_EACH)]
    return [client.move(state) for state in states]


def watched(app: Dash) -> SimpleQueue[dict[str, float]]:
    """Where pages of the application say when they were drawn, in milliseconds; /wait leads to one."""
    told: SimpleQueue[dict[str, float]] = SimpleQueue()

    @app.server.after_request
    def _watch(answer: Response) -> Response:
        if answer.mimetype == "text/html" and request.path == "/":
            answer.set_data(answer.get_data(as_text=True).replace("<head>", "<head>" + WATCH, 1))
        return answer

    @app.server.route("/wait")
    def _wait() -> str:
        return f"<script>setTimeout(function () {{ location.href = '/'; }}, {REST_MS})</script>"

    @app.server.route("/loaded", methods=["POST"])
    def _loaded() -> str:
        told.put(request.get_json(force=True))
        return ""

    return told


def load(address: str, told: SimpleQueue[dict[str, float]]) -> dict[str, float]:
    """Explore in a new browser."""
    size = f"--window-size=1280,{800 + CHROME_PX}"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as kept:
        browser = subprocess.Popen(
            [str(chromium()), "--headless=new", *FLAGS, size, f"--user-data-dir={kept}", f"{address}/wait"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            return told.get(timeout=PATIENCE_S)
        finally:
            os.killpg(browser.pid, signal.SIGTERM)
            browser.wait()


def loads() -> dict[str, float]:
    """Seconds of a load, none without a browser."""
    if chromium() is None:
        return {}
    app = create_app()
    told = watched(app)
    with serving(app) as address:
        found = [load(address, told) for _ in range(LOADS + 1)][1:]
    names = {"load_s": "all", "load_view_s": "view"}
    return {key: round(statistics.median(one[of] for one in found) / 1e3, 2) for key, of in names.items()}


def main() -> None:
    with serving(create_app()) as address:
        client = Client(address)
        client.move(START)
        took, busy = [], []
        for state in moves():
            began = time.process_time()
            took.append(client.move(state))
            busy.append(time.process_time() - began)
        took.sort()
        began = time.perf_counter()
        with ThreadPoolExecutor(VISITORS) as pool:
            crowd = [one for own in pool.map(lambda n: visitor(client, n), range(VISITORS)) for one in own]
        wall = time.perf_counter() - began
        run = Timelines(Service()).run(LONG)
        timeline = Client(address, "timeline-heads", 1)
        began = time.perf_counter()
        timeline.move(LONG)
        opened = time.perf_counter() - began
        zoomed = [timeline.move(state) for state in zooms(run.makespan)]
    print(
        json.dumps(
            {
                "moves": len(took),
                "median_ms": round(1e3 * statistics.median(took)),
                "cpu_median_ms": round(1e3 * statistics.median(busy)),
                "p90_ms": round(1e3 * took[int(0.9 * len(took))]),
                "worst_ms": round(1e3 * took[-1]),
                "visitors": VISITORS,
                "visitors_moves": len(crowd),
                "visitors_median_ms": round(1e3 * statistics.median(crowd)),
                "visitors_moves_per_s": round(len(crowd) / wall, 1),
                "timeline_operations": run.operations,
                "timeline_open_ms": round(1e3 * opened),
                "timeline_zooms": len(zoomed),
                "timeline_median_ms": round(1e3 * statistics.median(zoomed)),
                "timeline_worst_ms": round(1e3 * max(zoomed)),
                **loads(),
            }
        )
    )


if __name__ == "__main__":
    main()
