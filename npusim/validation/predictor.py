"""Many predictions at once: in this process, or in worker processes that keep the kernels they built."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from types import TracebackType
from typing import Self

from npusim.errors import NpusimError
from npusim.graph import Kernel
from npusim.machine import Machine, override
from npusim.registry import Registry, load_registry
from npusim.settings import MachineSettings
from npusim.validation.predict import Case, Prediction, Work, predict
from npusim.workers import Workers

Progress = Callable[[int, int], None]
"""called with how many predictions are made, of how many"""
Values = Mapping[str, float]
"""numbers of a profile by path"""
Asked = tuple[Case, Values]
Answer = Prediction | str
"""a prediction, or why there is none"""
Key = tuple[Work, tuple[tuple[str, float], ...]]
"""what was asked, as it is remembered"""


class Predictor:
    """Predicts cases with some numbers of their profiles changed; a context, whose workers end with it.

    `registry`: 'module:attribute' of the kernels, which workers import. `jobs` 1: no other process.
    What was asked before, of this row or another that measured the same work, is not simulated again.
    """

    def __init__(self, registry: str, jobs: int = 1) -> None:
        self.registry, self._workers = registry, Workers(jobs)
        self._known: dict[Key, Answer] = {}

    def __enter__(self) -> Self:
        self._workers.__enter__()
        self._workers.begin(load_registry, self.registry)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._workers.__exit__(kind, error, trace)

    @property
    def kernels(self) -> Registry:
        return load_registry(self.registry)

    def __call__(self, asked: Sequence[Asked], progress: Progress | None = None) -> list[Answer]:
        """The answers, in the order of what was asked."""
        keys = [(case.work, tuple(sorted(values.items()))) for case, values in asked]
        new = [key for key in dict.fromkeys(keys) if key not in self._known]
        for count, (key, answer) in enumerate(self._answers(new), 1):
            self._known[key] = answer
            if progress:
                progress(len(keys) - len(new) + count, len(keys))
        return [self._known[key] for key in keys]

    def _answers(self, keys: Sequence[Key]) -> Iterable[tuple[Key, Answer]]:
        for number, answer in self._workers(_answer, [(self.registry, *key) for key in keys]):
            yield keys[number], answer


@lru_cache(maxsize=4096)
def _kernel(registry: str, work: Work) -> Kernel:
    return work.build(load_registry(registry))


@lru_cache(maxsize=64)
def _machine(settings: MachineSettings) -> Machine:
    return settings.machine()


def _answer(registry: str, work: Work, values: tuple[tuple[str, float], ...]) -> Answer:
    try:
        machine = _machine(work.settings)
        if values:
            machine = override(machine, dict(values), source="calibration")
        return predict(work, _kernel(registry, work), machine)
    except NpusimError as error:
        return str(error)
