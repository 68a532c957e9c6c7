"""The search: errors of all candidates on a few heads, times of those that come near, and errors on more and
more heads of those that may matter yet (successive halving: Jamieson and Talwalkar, "Non-stochastic best arm
identification", 2016)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from npusim.errors import InputError
from npusim.kernels import KernelEntry
from npusim.machine import Machine
from npusim.problem import Options, Problem
from npusim.recommend.candidates import candidates
from npusim.recommend.doubt import winning_share
from npusim.recommend.judge import Judged, exactness, timed, with_slopes
from npusim.settings import MachineSettings, NumericsSettings
from npusim.workers import Workers

PROBED = {"seq_len": 1024, "value_dim": 8}
"""tokens that show how errors grow over chunks; of the columns of values, which do not meet, a few"""
RUNGS = (2, 4, 8)
"""heads on which errors are found; where few are left, those on the most at once"""
FEW = 12
FAR = 20.0
"""by how much a candidate may miss the bound on the first heads and be looked at further"""
TASK = 12
"""candidates that a worker takes at once"""
DRAWN = 4
"""draws of inputs on which contenders have to be exact enough, the first among them"""
NEAR = 1.3
"""how much slower those may be that could turn out to be faster than the winner"""
CONTENDERS = 6
"""how many are looked at together on further draws"""

MEASURES: dict[str, tuple[str, bool, float | None]] = {
    "layer-output": ("output", False, 5e-3),
    "layer-state": ("state", False, None),
    "relative-error": ("relative", False, None),
    "snr": ("snr_db", True, None),
    "worst-snr": ("worst_snr_db", True, None),
}
"""what a bound may be about: the field of an Exactness, whether more is better, and the bound where none is
given (5e-3 for layer outputs: the public tests of flash-linear-attention)"""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Goal:
    """What is good enough: `measure` at most `bound` (of an SNR: at least)."""

    measure: str
    bound: float

    @classmethod
    def of(cls, measure: str, bound: float | None) -> Goal:
        """With the usual bound where none is given. InputError where there is none that is usual."""
        _, more, usual = MEASURES[measure]
        if bound is None and usual is None:
            raise InputError(f"--bound: give one for --measure {measure}; there is no usual one")
        if bound is not None and not (math.isfinite(bound) and (more or bound > 0)):
            raise InputError(f"--bound: must be finite{'' if more else ' and positive'}, got {bound:g}")
        return cls(measure, float(usual if bound is None else bound))  # type: ignore[arg-type]

    def badness(self, one: Judged) -> float:
        """The measure of a candidate, so that less is better."""
        field, more, _ = MEASURES[self.measure]
        value = float(getattr(one.exactness, field))
        return -value if more else value

    def met(self, one: Judged) -> bool:
        limit = -self.bound if MEASURES[self.measure][1] else self.bound
        return one.exactness is not None and one.exactness.nonfinite == 0 and self.badness(one) <= limit

    def nearly(self, one: Judged) -> bool:
        """Whether it misses the bound by no more than FAR, in amplitude."""
        if MEASURES[self.measure][1]:
            return self.badness(one) <= 20 * math.log10(FAR) - self.bound
        return self.badness(one) <= FAR * self.bound


@dataclass(frozen=True)
class Choice:
    """The answer for one chunk and dtype. `winner`: None where nothing is good enough; `front`: those that
    none beats in time and error; `tried`: how many could be had, `judged`: on all heads; `stays`: how often
    the winner is still the fastest that is good enough when uncertain numbers of the profile are drawn from
    their ranges, `rivals`: who is instead, by share."""

    dtype: str
    chunk: int
    winner: Judged | None
    baseline: Judged | None
    front: tuple[Judged, ...]
    tried: int
    judged: int
    refused: tuple[Judged, ...]
    stays: float | None = None
    rivals: tuple[tuple[Judged, float], ...] = ()


class Search:
    """Finds choices on a machine; `problem` has the sizes of the layer and the dtype of its other stages."""

    def __init__(
        self,
        entry: KernelEntry,
        registry: str,
        settings: MachineSettings,
        problem: Problem,
        numerics: NumericsSettings,
        goal: Goal,
        workers: Workers,
    ) -> None:
        self.entry, self.registry, self.settings = entry, registry, settings
        self.problem, self.numerics, self.goal, self.workers = problem, numerics, goal, workers
        self.machine: Machine = settings.machine()

    def choose(
        self, algorithms: Sequence[str], dtype: str, chunk: int, progress: Progress | None = None
    ) -> Choice:
        """The choice for one chunk and dtype of the inverse."""
        some = candidates(self.entry, algorithms, dtype, chunk, self.problem.dtype)
        sizes = self.problem.model_copy(update={"chunk": chunk, "dtype": dtype})
        whole = Problem(**sizes.model_dump(include=set(self.entry.sizes) | {"dtype"}, exclude_none=True))
        tell = _telling(progress, f"C={chunk} {dtype}")
        refused: list[Judged] = []

        def kept(found: list[Judged]) -> list[Judged]:
            refused.extend(one for one in found if one.reason)
            return [one for one in found if not one.reason]

        def judged(left: list[Judged], heads: int) -> list[Judged]:
            common = (self.registry, self.settings, self._probed(chunk, dtype, heads), self.numerics)
            return kept(self._all(exactness, (*common, self.problem.dtype), left, tell(f"{heads} heads")))

        left = judged([Judged(options) for options in some], RUNGS[0])
        left = kept(self._all(timed, (self.registry, self.settings, whole), self._near(left), tell("timing")))
        for heads in RUNGS[1:] if len(left) > FEW else RUNGS[-1:]:
            left = judged(self._half(left), heads)
        return self._choice(dtype, chunk, whole, left, tuple(refused), len(some) - len(refused))

    def _near(self, some: list[Judged]) -> list[Judged]:
        """Without those that are far from good enough on a few heads already, which more heads hardly ever
        make good; the nearest FEW where all are."""
        ordered = sorted(some, key=self.goal.badness)
        near = [one for one in ordered if self.goal.nearly(one)]
        return near if len(near) > FEW else ordered[:FEW]

    def _probed(self, chunk: int, dtype: str, heads: int) -> Problem:
        """Heads of their own keys: as hard as any."""
        sizes = {"head_dim": self.problem.head_dim, "decay": self.problem.decay}
        return Problem(chunk=chunk, dtype=dtype, heads=heads, **sizes, **PROBED)

    def _all(self, work: Any, common: tuple[Any, ...], some: Sequence[Any], tell: Any) -> list[Judged]:
        """What `work` finds of all, in the order of `some`."""
        pieces = [some[start : start + TASK] for start in range(0, len(some), TASK)]
        found: dict[int, list[Judged]] = {}
        for number, result in self.workers(work, [(*common, piece) for piece in pieces]):
            found[number] = result
            tell(sum(map(len, found.values())), len(some))
        return [one for number in sorted(found) for one in found[number]]

    def _half(self, some: Sequence[Judged]) -> list[Judged]:
        """The better half: those that none beats in time and error, then those that only these beat, .."""
        left, kept = list(some), list[Judged]()
        while left and len(kept) < max(FEW, len(some) / 2):
            best = front(left, self.goal)
            kept += best
            left = [one for one in left if one not in best]
        return kept

    def _choice(
        self,
        dtype: str,
        chunk: int,
        whole: Problem,
        left: list[Judged],
        refused: tuple[Judged, ...],
        tried: int,
    ) -> Choice:
        good = sorted((one for one in left if self.goal.met(one)), key=lambda one: one.time_us)
        base = self._baseline(whole)
        made = Choice(
            dtype, chunk, good[0] if good else None, base, tuple(front(left, self.goal)), tried, len(left),
            refused,
        )  # fmt: skip
        if not good:
            return made
        tested = self._on_other_inputs(good, dtype, chunk)
        # held against those alone that are exact enough as often
        first, near = tested[0], NEAR * tested[0].time_us
        known = [one for one in tested if one.held == first.held and one.time_us <= near]
        known = self._all(with_slopes, (self.registry, self.settings, whole), known, _silent)
        shares = winning_share(self.machine, [(one.time_us, one.slopes) for one in known])
        rivals = sorted(zip(known[1:], shares[1:], strict=True), key=lambda pair: -pair[1])
        named = tuple((one, share) for one, share in rivals if share > 0)
        return replace(made, winner=known[0], stays=shares[0], rivals=named)

    def _on_other_inputs(self, good: list[Judged], dtype: str, chunk: int) -> list[Judged]:
        """Contenders with how often they are exact enough on further draws of inputs, those that are so most
        often first, then the fastest. `good` by time: where none of the fastest is so always, the next."""
        known: list[Judged] = []
        for start in range(0, len(good), CONTENDERS):
            known += self._tested(good[start : start + CONTENDERS], dtype, chunk)
            if any(one.held == DRAWN for one in known):
                break
        return sorted(known, key=lambda one: (-one.held, one.time_us))

    def _tested(self, some: list[Judged], dtype: str, chunk: int) -> list[Judged]:
        """The same with how often they are exact enough."""
        held = [1] * len(some)
        probed = self._probed(chunk, dtype, RUNGS[-1])
        for more in range(1, DRAWN):
            numerics = self.numerics.model_copy(update={"seed": self.numerics.seed + more})
            common = (self.registry, self.settings, probed, numerics, self.problem.dtype)
            for number, one in enumerate(self._all(exactness, common, some, _silent)):
                held[number] += not one.reason and self.goal.met(one)
        return [replace(one, held=count) for one, count in zip(some, held, strict=True)]

    def _baseline(self, whole: Problem) -> Judged | None:
        """The last baseline of the kernel: the best that is published, in the format of the layer."""
        plain = whole.model_copy(update={"dtype": self.problem.dtype})
        options = Options(algorithm=self.entry.baselines[-1], out_dtype=self.problem.dtype)
        (found,) = timed(self.registry, self.settings, plain, [Judged(options)])
        return None if found.reason else found


def _silent(done: int, of: int) -> None:
    """Progress that is not worth telling."""


def front(some: Iterable[Judged], goal: Goal) -> list[Judged]:
    """Those that no other one beats in time and error, the fastest first."""
    found: list[Judged] = []
    for one in sorted(some, key=lambda one: (one.time_us, goal.badness(one))):
        if not found or goal.badness(one) < goal.badness(found[-1]):
            found.append(one)
    return found


def _telling(progress: Progress | None, where: str) -> Callable[[str], Callable[[int, int], None]]:
    def about(what: str) -> Callable[[int, int], None]:
        def tell(done: int, of: int) -> None:
            if progress:
                progress(f"{where}: {what}", done, of)

        return tell

    return about
