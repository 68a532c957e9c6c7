"""Points per second of a sweep of about a thousand points, with numerics and without.

    python benchmarks/sweep.py

One JSON line: masked-neumann, chunks 16 to 128, orders 2 to 6, steps 1 to 12 in four formats, on two worker
processes into a fresh store. `runs_s`: what the points of one chunk and format (of 60 with shared data) take
as single runs of `npusim.study.run` in this process, their mean times all points: the peer. `peak_mib`: the
largest resident set of this process and its workers together.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from pathlib import Path

import psutil

from npusim import study
from npusim.registry import load_registry
from npusim.settings import EngineSettings
from npusim.sweep.run import plan, run
from npusim.sweep.spec import Spec
from npusim.sweep.store import Store
from npusim.workers import Workers

REGISTRY = "algorithms:REGISTRY"
JOBS = 2
SWEPT = {
    "algorithm": "masked-neumann", "chunk": "16,32,64,128", "order": "2:6", "steps": "1:12",
    "dtype": "fp16,bf16,fp32,int8",
}  # fmt: skip
ALONE = {**SWEPT, "chunk": "64", "order": "3", "steps": "1:12:3", "dtype": "fp16"}


class Peak:
    """Watches the memory of this process and of those it started."""

    def __enter__(self) -> Peak:
        self.bytes, self.over = 0, threading.Event()
        self.watcher = threading.Thread(target=self.watch, daemon=True)
        self.watcher.start()
        return self

    def watch(self) -> None:
        own = psutil.Process()
        while not self.over.wait(0.05):
            try:
                held = sum(one.memory_info().rss for one in (own, *own.children(recursive=True)))
            except psutil.NoSuchProcess:
                continue
            self.bytes = max(self.bytes, held)

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.watcher.join()


def swept(more: dict[str, object]) -> tuple[float, int]:
    """Seconds, and how many points."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        wanted = plan(Spec.of("tri-inverse", {**SWEPT, **more}), REGISTRY)
        with Store(str(Path(folder) / "s.db")) as store, Workers(JOBS) as workers:
            found = run(wanted, REGISTRY, store, workers)
        assert found.done == found.points
        return time.perf_counter() - began, found.points


def alone() -> float:
    """Mean seconds of a single run."""
    entry = load_registry(REGISTRY)["tri-inverse"]
    points = [one.point for one in plan(Spec.of("tri-inverse", ALONE), REGISTRY).points if one.point]
    began = 0.0
    for again in range(2):  # the first round loads the engine
        began = time.perf_counter() if again else began
        for p in points:
            study.run(
                entry, p.problem, p.options, p.machine.machine(), p.numerics, EngineSettings(what_if=False)
            )
    return (time.perf_counter() - began) / len(points)


if __name__ == "__main__":
    each = alone()
    with Peak() as peak:
        both, count = swept({})
    timed, _ = swept({"numerics": False})
    print(json.dumps({
        "points": count, "sweep_s": round(both, 1), "points_per_s": round(count / both, 1),
        "timing_s": round(timed, 1), "timed_points_per_s": round(count / timed, 1),
        "runs_s": round(each * count, 1), "speedup_on_two_cores": round(each * count / both, 1),
        "peak_mib": round(peak.bytes / 2**20),
    }))  # fmt: skip
