"""Many predictions at once: in this process, or in worker processes that keep the kernels they built."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from importlib import import_module
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Self

from npusim.engine.fast.run import load
from npusim.errors import InputError, NpusimError
from npusim.graph import Kernel
from npusim.machine import Machine, override
from npusim.settings import MachineSettings
from npusim.validation.predict import Case, Prediction, Registry, predict

Progress = Callable[[int, int], None]
"""called with how many predictions are made, of how many"""
Values = Mapping[str, float]
"""numbers of a profile by path"""
Asked = tuple[Case, Values]
Answer = Prediction | str
"""a prediction, or why there is none"""
Key = tuple[Case, tuple[tuple[str, float], ...]]
"""what was asked, as it is remembered"""


class Predictor:
    """Predicts cases with some numbers of their profiles changed; a context, whose workers end with it.

    `registry`: 'module:attribute' of the kernels, which workers import. `jobs` 1: no other process.
    What was asked before is not simulated again.
    """

    def __init__(self, registry: str, jobs: int = 1) -> None:
        self.registry, self.jobs = registry, jobs
        self._pool: ProcessPoolExecutor | None = None
        self._workers: set[BaseProcess] = set()
        self._known: dict[Key, Answer] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool:
            for worker in self._workers if kind else ():  # what they compute is of no use any more
                worker.terminate()
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    @property
    def kernels(self) -> Registry:
        return _registry(self.registry)

    def __call__(self, asked: Sequence[Asked], progress: Progress | None = None) -> list[Answer]:
        """The answers, in the order of what was asked."""
        keys = [(case, tuple(sorted(values.items()))) for case, values in asked]
        new = [key for key in dict.fromkeys(keys) if key not in self._known]
        for number, (key, answer) in enumerate(self._answers(new), 1):
            self._known[key] = answer
            if progress:
                progress(len(keys) - len(new) + number, len(keys))
        return [self._known[key] for key in keys]

    def _answers(self, keys: Sequence[Key]) -> Iterable[tuple[Key, Answer]]:
        if self.jobs == 1 or len(keys) < 2:
            yield from ((key, _answer(self.registry, *key)) for key in keys)
            return
        load()  # compiled here once, not by every worker
        with _uninterrupted():  # workers start here, and inherit it
            futures = self._submitted(keys)
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool:
            raise InputError(
                "a worker process ended before its time, for want of memory perhaps; try --jobs 1"
            ) from None

    def _submitted(self, keys: Sequence[Key]) -> dict[Future[Answer], Key]:
        if self._pool is None:
            # a fresh interpreter: threads of this one (a progress bar's) do not survive a fork
            spawn = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.jobs, mp_context=spawn, initializer=_interruptible)
        before = set(multiprocessing.active_children())
        futures = {self._pool.submit(_answer, self.registry, *key): key for key in keys}
        self._workers |= set(multiprocessing.active_children()) - before
        return futures


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


def _interruptible() -> None:
    """In a worker: Ctrl-C, which its terminal sends to all processes, ends it at once and silently."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@lru_cache
def _registry(name: str) -> Registry:
    module, _, attribute = name.partition(":")
    found: Registry = getattr(import_module(module), attribute)
    return found


@lru_cache(maxsize=4096)
def _kernel(registry: str, one: Case) -> Kernel:
    return one.build(_registry(registry))


@lru_cache(maxsize=64)
def _machine(settings: MachineSettings) -> Machine:
    return settings.machine()


def _answer(registry: str, one: Case, values: tuple[tuple[str, float], ...]) -> Answer:
    try:
        machine = _machine(one.settings)
        if values:
            machine = override(machine, dict(values), source="calibration")
        return predict(one, _kernel(registry, one), machine)
    except NpusimError as error:
        return str(error)
