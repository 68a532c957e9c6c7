"""Long work in processes of its own: started, watched, cancelled, and noticed when it is killed.

A job is a function `work(tell, asked, home)` of a module, which a fresh interpreter imports: nothing of the
server's threads, of its compiled code or of its connections is taken over. `tell(done, total, text)` says how
far it is; what it returns, plain data, is its result. Its words stand in a cache on the disk, in a folder of
the application's own that nobody else may read and that goes with it. A job may start processes itself, as
`npusim.workers` does: they end when it ends, and it ends when the application does.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import multiprocessing
import os
import platform
import re
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

import diskcache
import psutil

from npusim.errors import InputError, NpusimError

Status = Literal["starting", "running", "done", "failed", "cancelled", "lost"]
EXPIRY_S = 24 * 3600.0
"""how long words of a job are kept that nobody asks for"""
PATIENCE_S = 30.0
"""how long a job may be expected without having been started"""
EVERY_S = 0.2
"""between two words of a job on how far it is"""
GRACE_S = 2.0
"""in which a job that is asked to end may do so itself"""
MOST = 4
"""jobs at work at once"""


@dataclass(frozen=True)
class Home:
    """What a job knows of the application: its folder, the user's own kernels, and a folder for its owner
    alone that goes with the application."""

    folder: Path
    own: tuple[str, ...] = ()
    private: Path | None = None


@dataclass(frozen=True)
class Job:
    """What is known of a job. `first`: how much was done when it began to tell, which is not of its rate;
    `message`: why there is no result, a sentence."""

    key: str
    status: Status
    since: float = 0.0
    """time at which it began to tell, or was expected"""
    told: float = 0.0
    first: int = 0
    done: int = 0
    total: int = 0
    text: str = ""
    message: str = ""
    result: Any = None
    number: int = 0
    """of the start: two jobs of one key differ in it"""

    @property
    def active(self) -> bool:
        return self.status in ("starting", "running")

    @property
    def rate(self) -> float:
        """Steps a second since it began to tell."""
        spent = self.told - self.since
        return (self.done - self.first) / spent if spent > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds to go at that rate; None where there is none yet."""
        return (self.total - self.done) / self.rate if self.rate > 0 else None


Tell = Callable[[int, int, str], None]
Work = Callable[[Tell, Any, Home], Any]


@dataclass
class _Started:
    """A process of a job, and the job's number. `cancelled`: it is to end; `ending`: held by who ends it."""

    process: BaseProcess
    number: int
    cancelled: bool = False
    ending: threading.Lock = field(default_factory=threading.Lock)


class Jobs:
    """The jobs of an application, by keys that its pages choose. For all threads of the server."""

    def __init__(self, home: Home) -> None:
        self.folder = _private_folder()
        self.home = replace(home, private=Path(self.folder))
        self.cache = diskcache.Cache(self.folder)
        self._started: dict[str, _Started] = {}
        self._count = 0
        self._expected: set[str] = set()
        """jobs that may be about to be started"""
        self._lock = threading.RLock()
        atexit.register(self.close)

    def expect(self, key: str) -> Job:
        """Say that a job is about to be started, by its number. InputError where it is at work already, or
        too many are."""
        with self._lock:
            self._tidy()
            found = self.job(key)
            if found and found.active:
                raise InputError(f"{key}: is being computed already; wait for it, or cancel it")
            self._expected = {one for one in self._expected if self._about(one)}
            if len(self._started.keys() | self._expected) >= MOST:
                raise InputError(f"{MOST} jobs are at work already; wait for one, or cancel one")
            self._count += 1
            expected = Job(key, "starting", time.time(), number=self._count)
            self._keep(expected)
            self._expected.add(key)
            return expected

    def _about(self, key: str) -> bool:
        """Whether a job is expected and has not begun."""
        found = self.job(key)
        return found is not None and found.status == "starting"

    def start(self, key: str, number: int, work: Work, asked: Any) -> int:
        """Start the expected job of this number, and give its process's number; 0 where it is expected no
        more: started by another request, cancelled, forgotten, or expected anew since."""
        with self._lock:
            found = self.job(key)
            if found is None or found.status != "starting" or found.number != number or self._of(found):
                return 0
            job = replace(found, since=time.time())
            self._keep(job)
            context = multiprocessing.get_context("spawn")
            process = context.Process(target=_run, args=(self.folder, job, work, asked, self.home))
            process.start()
            self._started[key] = _Started(process, job.number)
            return process.pid or 0

    def job(self, key: str) -> Job | None:
        """What is known of a job now; None of one that never was, or long ago."""
        with self._lock:
            started = self._started.get(key)
            dead = started is not None and not started.process.is_alive()
            found: Job | None = self.cache.get(_place(key))  # after its process was asked
            if found is None or not found.active:
                return found
            own = self._of(found)
            if own is None and time.time() - found.since < PATIENCE_S:
                return found
            if own is not None and not dead:
                return found
            if own is not None and own.cancelled:
                over = replace(found, status="cancelled")
            else:
                over = replace(found, status="lost", message=_ending(own.process.exitcode if own else None))
            self._keep(over)
            return over

    def cancel(self, key: str) -> None:
        """End a job and the processes that work for it, at once. Others are not kept waiting by it."""
        with self._lock:
            started, found = self._started.get(key), self.job(key)
            if started:
                started.cancelled = True
            if found and found.active and not self._of(found):
                self._keep(replace(found, status="cancelled"))
        if started:
            with started.ending:
                _end(started.process)
            self.job(key)  # says that it was cancelled, unless it has finished meanwhile

    def forget(self, key: str) -> None:
        """End a job, and remove what it said."""
        self.cancel(key)
        with self._lock:
            self._tidy()
            self.cache.delete(_place(key))

    def alive(self, number: int) -> bool:
        """Whether the process of this number is a job at work."""
        with self._lock:
            processes = [one.process for one in self._started.values()]
            return any(one.pid == number and one.is_alive() for one in processes)

    def close(self) -> None:
        """End all jobs, and remove what they said."""
        with self._lock:
            for started in self._started.values():
                _end(started.process)
            self._started.clear()
            self.cache.close()
            shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.close)

    def _of(self, job: Job) -> _Started | None:
        """The process of a job, and of no earlier one of its key."""
        started = self._started.get(job.key)
        return started if started and started.number == job.number else None

    def _tidy(self) -> None:
        """Let go of processes that have ended, and so of their descriptors; how they did is noted first."""
        for key in [key for key, one in self._started.items() if not one.process.is_alive()]:
            self.job(key)
            del self._started[key]

    def _keep(self, job: Job) -> None:
        self.cache.set(_place(job.key), job, expire=EXPIRY_S)


def _private_folder() -> str:
    """A new folder for its owner alone, named by this process; those of processes that were killed go."""
    start = f"npusim-dashboard-{platform.node()}-"  # numbers of another container's processes say nothing
    for folder in Path(tempfile.gettempdir()).glob("npusim-dashboard-*"):
        number = re.fullmatch(re.escape(start) + r"(\d+)-\w+", folder.name)
        if number and not psutil.pid_exists(int(number.group(1))):
            shutil.rmtree(folder, ignore_errors=True)  # another user's stays
    return tempfile.mkdtemp(prefix=f"{start}{os.getpid()}-")


def _place(key: str) -> str:
    """Where the cache keeps a job, apart from what Dash keeps there."""
    return f"job {key}"


def _ending(code: int | None) -> str:
    """How a process ended that did not say so itself."""
    if code is None:
        return "its process could not be started"
    if code >= 0:
        return f"its process ended before its time (exit status {code})"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"its process was killed from outside ({name}), by the system for want of memory perhaps"


def _end(process: BaseProcess) -> None:
    """End a process and all that it has started: asked first, that it tidies up, and then made to."""
    try:
        first = psutil.Process(process.pid)
        tree = [first, *first.children(recursive=True)]
    except psutil.NoSuchProcess:
        tree = []
    if process.is_alive():
        process.terminate()
        process.join(GRACE_S)
    else:
        tree = []  # of whoever has its number now
    for one in tree:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    process.join(10)


# --- in the process of a job -----------------------------------------------------------------------


def _run(folder: str, job: Job, work: Work, asked: Any, home: Home) -> None:
    """The whole life of a job's process."""
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C is the server's, which ends its jobs
    signal.signal(signal.SIGTERM, _leave)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()
    words = _Words(diskcache.Cache(folder), job)
    try:
        words.say(status="done", result=work(words.tell, asked, home))
    except NpusimError as error:
        words.say(status="failed", message=str(error))
    except Exception as error:
        logging.getLogger("dashboard").exception("a job failed")
        remedy = "the terminal where the dashboard runs has the details"
        words.say(status="failed", message=f"{type(error).__name__}: {error}; {remedy}")


def _leave(*_: object) -> None:
    """Ends the process by way of what it has open: its workers end, too."""
    raise SystemExit(1)


class _Words:
    """What a job says of itself."""

    def __init__(self, cache: Any, job: Job) -> None:
        self.cache, self.now = cache, job

    def tell(self, done: int, total: int, text: str = "") -> None:
        """How far it is; the first word that knows how much there is to do begins its rate."""
        now = time.time()
        if self.now.status == "starting" or (total and not self.now.total):
            self.now = replace(self.now, since=now, first=done)
        elif now - self.now.told < EVERY_S and done < total and text == self.now.text:
            return
        self.say(status="running", done=done, total=total, text=text, told=now)

    def say(self, **changes: Any) -> None:
        self.now = replace(self.now, **changes)
        self.cache.set(_place(self.now.key), self.now, expire=EXPIRY_S)


def _die_with(sentinel: int) -> None:
    """A job is of no use to anyone once the server is gone."""
    wait([sentinel])
    os._exit(1)
