"""What jobs of the tests do: a process of its own imports this, and so need not load the dashboard."""

from __future__ import annotations

import signal
import time

from npusim.errors import NpusimError
from npusim.workers import Workers


def count(tell, asked, home):
    for done in range(asked + 1):
        tell(done, asked, "counting")
        time.sleep(0.25)
    return {"counted": asked, "where": str(home.folder), "own": list(home.own)}


def refuse(tell, asked, home):
    raise NpusimError(f"{asked}: cannot be")


def stumble(tell, asked, home):
    tell(1, 3, "")
    return 1 // 0


def sleep(seconds):
    time.sleep(seconds)


def employ(tell, asked, home):
    """Works by processes of its own, as a sweep does."""
    tell(1, 2, "")
    with Workers(2) as workers:
        list(workers(sleep, [(asked,), (asked,), (asked,)]))


def stubborn(tell, asked, home):
    """Does not end when it is asked to."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    tell(1, 2, "")
    time.sleep(asked)
