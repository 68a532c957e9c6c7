"""Work done elsewhere: by processes of this machine, or by a Dask cluster. A worker that dies costs no more
than what it was at work on."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from functools import partial
from multiprocessing.connection import wait as wait_for
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Self

from npusim.errors import InputError
from npusim.threads import one_thread_each

GARBAGE = (20_000, 20, 20)
"""when a worker looks for garbage: a kernel is thousands of objects, nearly all of which stay to its end"""
LOST = 4
"""breakdowns in a row, with nothing finished in between, after which work is given up"""
PATIENCE = "10s"
"""how long to wait for a Dask scheduler"""


class Workers:
    """Calls a function of a module with many arguments at once; a context, whose workers end with it.

    `jobs`: processes of this machine; 1: no other process. `cluster`: the address of a Dask scheduler, whose
    workers are called instead.
    """

    def __init__(self, jobs: int = 1, cluster: str | None = None) -> None:
        self.jobs, self.cluster = jobs, cluster
        self._executor: Executor | None = None
        self._client: Any = None
        self._processes: set[BaseProcess] = set()

    def __enter__(self) -> Self:
        if self.cluster is not None:
            self._client = _client(self.cluster)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(at_once=kind is not None)
        if self._client is not None:
            self._client.close()

    def begin(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Let processes start while the caller still finds out what to ask of them, with as many calls of a
        function that has them import what they will need."""
        if self._client is None and self.jobs > 1:
            with contextlib.suppress(BrokenExecutor):  # which is seen again when something is asked
                self._submit(function, dict.fromkeys(range(self.jobs), arguments))

    def __call__(
        self, function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]
    ) -> Iterator[tuple[int, Any]]:
        """(number, result) of each of the `arguments`, in the order in which they are finished.

        An error of a call is raised here. InputError where workers die again and again.
        """
        if self._client is None and (self.jobs == 1 or len(arguments) < 2):
            yield from ((number, function(*own)) for number, own in enumerate(arguments))
            return
        from npusim.engine.fast.run import load

        load()  # compiled here once, not by every worker
        left, lost = dict(enumerate(arguments)), 0
        while left:
            try:
                for number, result in self._round(function, left):
                    lost = 0
                    del left[number]
                    yield number, result
            except BrokenExecutor:
                self._end(at_once=True)
                lost += 1
                if lost == LOST:
                    raise InputError(
                        f"worker processes ended before their time {LOST} times in a row, for want of memory "
                        "perhaps; try --jobs 1"
                    ) from None

    def _round(
        self, function: Callable[..., Any], left: dict[int, tuple[Any, ...]]
    ) -> Iterator[tuple[int, Any]]:
        """The results of what is left, until a worker dies."""
        futures = self._submit(function, left)
        waiting = set(futures)
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            broken: BaseException | None = None
            for future in done:
                error = future.exception()
                if isinstance(error, BrokenExecutor) or _killed(error):
                    broken = error
                else:
                    yield futures[future], future.result()
            if broken:
                raise BrokenExecutor from broken

    def _submit(
        self, function: Callable[..., Any], arguments: dict[int, tuple[Any, ...]]
    ) -> dict[Future[Any], int]:
        with _uninterrupted(), one_thread_each():  # workers start here, and inherit it
            executor = self._started()
            before = set(multiprocessing.active_children())
            call = function if self._client else partial(_called, function)
            futures = {executor.submit(call, *own): number for number, own in list(arguments.items())}
            self._processes |= set(multiprocessing.active_children()) - before
        return futures

    def _started(self) -> Executor:
        if self._executor is None and self._client is not None:
            self._executor = self._client.get_executor(pure=False)
        if self._executor is None:
            # a fresh interpreter: threads of this one (a progress bar's) do not survive a fork
            spawn = multiprocessing.get_context("spawn")
            self._executor = ProcessPoolExecutor(self.jobs, mp_context=spawn, initializer=_prepare)
        return self._executor

    def _end(self, at_once: bool) -> None:
        """Let the workers end; `at_once`: what they are at work on is of no use any more."""
        if self._executor is None:
            return
        for process in self._processes if at_once else ():
            process.terminate()
        if self._client is None:
            self._executor.shutdown(wait=True, cancel_futures=True)
        else:
            self._executor.shutdown(wait=not at_once)
        self._executor, self._processes = None, set()


def _client(address: str) -> Any:
    """A client of the Dask scheduler at `address`. InputError where there is none."""
    try:
        from distributed import Client
    except ImportError:
        raise InputError("--cluster: needs Dask; install it with: pip install 'npusim[cluster]'") from None
    try:
        return Client(address, timeout=PATIENCE)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TypeError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"--cluster: no Dask scheduler at {address}: {reason}") from None


def _killed(error: BaseException | None) -> bool:
    """Whether a cluster gave up a call, as the workers that took it died."""
    return type(error).__name__ in ("KilledWorker", "CancelledError")


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ignores Ctrl-C, which processes that start meanwhile do, too: one that is about to import would answer
    it with a traceback."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _prepare() -> None:
    """In a worker: Ctrl-C, which its terminal sends to all processes, ends it at once and silently; and so
    does the death of the process that it works for, which would leave it waiting for ever."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.set_threshold(*GARBAGE)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()


def _called(function: Callable[..., Any], *arguments: Any) -> Any:
    """In a worker: what a call gives. What is there after the first stays to the end: modules above all, in
    which no garbage is looked for any more."""
    found = function(*arguments)
    if not gc.get_freeze_count():
        gc.collect()
        gc.freeze()
    return found


def _die_with(sentinel: int) -> None:
    wait_for([sentinel])
    os._exit(1)


class Last(threading.local):
    """What a worker made last, for the next call that wants the same. Each thread has its own: workers of a
    cluster have several."""

    _kept: tuple[object, Any] | None = None

    def get(self, key: object, make: Callable[[], Any]) -> Any:
        """What was made for an equal key, else what `make` makes."""
        if self._kept is None or self._kept[0] != key:
            self._kept = None  # which frees what it holds before there is more
            self._kept = (key, make())
        return self._kept[1]
