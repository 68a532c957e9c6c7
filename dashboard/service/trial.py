"""A few points of a sweep computed in a process of its own, to tell how long all take: one that takes long is
ended there, and holds up nobody."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection

from npusim.errors import NpusimError
from npusim.sweep.evaluate import evaluate
from npusim.sweep.point import Point, Stamp

Common = tuple[str, str, tuple[str, ...], Stamp]
"""what `evaluate` takes before points"""
TRY_S = 0.8
"""after which no other point is begun"""
LONGEST_S = 8.0
"""after which one is ended"""
BEGIN_S = 30.0
"""in which a process has to begin"""

_one = threading.Lock()
"""held by who tries points: one process of this kind at once, whoever asks"""
_asking = threading.Lock()
"""held by who takes a number"""
_waiting = 0
"""who asked last: others that wait go away"""


class Overtaken(Exception):
    """Somebody asked for other points meanwhile."""


def tried(common: Common, points: Sequence[Point]) -> list[float]:
    """Seconds of each point that could be computed; none where one takes too long. Overtaken, where another
    request came while this one waited for its turn."""
    global _waiting
    with _asking:
        _waiting += 1
        mine = _waiting
    with _one:
        if mine != _waiting:
            raise Overtaken
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=_try, args=(there, common, points), daemon=True)
        process.start()
        there.close()
        seconds = list[float]()
        wait_s = BEGIN_S  # for its first word
        try:
            while here.poll(wait_s):
                wait_s = LONGEST_S
                found = here.recv()
                if found is None:
                    return seconds
                seconds += found
            return []
        except EOFError:  # it died
            return []
        finally:
            here.close()
            process.kill()
            process.join()
            process.close()


def _try(there: Connection, common: Common, points: Sequence[Point]) -> None:
    """In the process: a word when it begins, then what each point took, and at last None. The first is
    computed twice: what is loaded with it does not count."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's, with which this ends
    there.send([])
    with contextlib.suppress(NpusimError):
        evaluate(*common, points[:1])
    there.send([])
    began = time.perf_counter()
    for point in points:
        before = time.perf_counter()
        if before - began > TRY_S:
            break
        done = False
        with contextlib.suppress(NpusimError):
            done = evaluate(*common, [point])[0].status == "done"
        there.send([time.perf_counter() - before] if done else [])
    there.send(None)
