"""What a kernel is to the command line: a name, its algorithms, and how to build one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from npusim.errors import GraphError, InputError, Unsupported, did_you_mean
from npusim.graph import Kernel
from npusim.problem import Options, Problem, Target

TAKES_ROOM = ("chunk", "block", "tile_m", "tile_n", "tile_k", "slots")
"""the options by which tiles grow"""

Build = Callable[[Problem, Options, Target], Kernel]
"""The form of every kernel: a problem, options and a target give a tile graph."""


@dataclass(frozen=True)
class Algorithm:
    """One way to compute a kernel. `parameters` are the options that mean something to it."""

    name: str
    meaning: str
    source: str
    build: Build
    variants: Mapping[str, str]
    """name -> meaning; the first is the default on Ascend unless `on_ascend` says another, the last the clean
    textbook form"""
    parameters: frozenset[str] = frozenset()
    textbook_only: frozenset[str] = frozenset()
    """those of them that the variants with a measured structure leave no choice of"""
    stand_ins: frozenset[str] = frozenset()
    """variants that stand for kernels whose structure no source states"""
    on_ascend: Callable[[Problem, Target], str] | None = None
    """the default on Ascend, where that depends on the sizes"""

    def variant(self, problem: Problem, options: Options, target: Target) -> str:
        """The variant asked for, or this family's default. InputError for an unknown one."""
        names = list(self.variants)
        if options.variant is None:
            if target.family != "ascend":
                return names[-1]
            return self.on_ascend(problem, target) if self.on_ascend else names[0]
        if options.variant not in names:
            raise InputError(
                f"--variant: {self.name} has no {options.variant!r}; {did_you_mean(options.variant, names)}"
            )
        return options.variant


Shapes = Mapping[str, tuple[int, ...]]
"""the shapes of arrays, by name"""


@dataclass(frozen=True)
class KernelEntry:
    """A kernel of the registry: its algorithms, the default one first.

    `sizes`: the fields of Problem that mean something to it. `data`: where its inputs and its truth come from
    (npusim.study). `infer` gives the sizes that the shapes of a file's arrays state.
    """

    name: str
    meaning: str
    algorithms: Mapping[str, Algorithm]
    sizes: tuple[str, ...]
    data: Literal["triangles", "sequences", "tensors"] = "tensors"
    infer: Callable[[Shapes], dict[str, int]] | None = None
    fixed: tuple[tuple[str, Any], ...] = ()
    """the sizes that it leaves no choice of"""
    baselines: tuple[str, ...] = ()
    """algorithms that the others are held against, wherever they are compared together"""

    def algorithm(self, name: str | None, flag: str = "--algorithm") -> Algorithm:
        """Algorithm `name`, or the default one. InputError, with `flag` and the nearest name, if unknown."""
        if name is None:
            return next(iter(self.algorithms.values()))
        plain, _, variant = name.partition(":")
        if name not in self.algorithms and plain in self.algorithms:
            raise InputError(
                f"--algorithm: {name} names a variant; give --algorithm {plain} --variant {variant or 'NAME'}"
            )
        if name not in self.algorithms:
            raise InputError(f"{flag}: {self.name} has no {name!r}; {did_you_mean(name, self.algorithms)}")
        return self.algorithms[name]

    def named(self, name: str, flag: str = "--algorithms") -> tuple[Algorithm, str | None]:
        """What ALGORITHM or ALGORITHM:VARIANT names. InputError, with `flag` and the nearest, if unknown."""
        plain, colon, variant = name.partition(":")
        if name in self.algorithms or not (colon and plain in self.algorithms):
            return self.algorithm(name, flag), None
        algorithm = self.algorithm(plain, flag)
        if variant not in algorithm.variants:
            near = did_you_mean(variant, algorithm.variants)
            raise InputError(f"{flag}: {plain} has no variant {variant!r}; {near}")
        return algorithm, variant

    def check_sizes(self, problem: Problem) -> None:
        """InputError for a size that was given and that this kernel does not have."""
        for name in Problem.model_fields:
            free = (
                *self.sizes,
                "dtype",
                *(n for n, only in self.fixed if getattr(problem, n) == only),
            )
            if name in problem.model_fields_set and name not in free:
                takes = ", ".join(f"--{size.replace('_', '-')}" for size in self.sizes) or "none"
                raise InputError(
                    f"--{name.replace('_', '-')}: {self.name} has no such size; it takes {takes}"
                )

    def fix(self, problem: Problem) -> Problem:
        """`problem` with the sizes that this kernel leaves no choice of."""
        return problem.model_copy(update=dict(self.fixed)) if self.fixed else problem

    def sizes_json(self, problem: Problem) -> dict[str, Any]:
        """The sizes of `problem` that this kernel has and that count in it, and its dtype."""
        return problem.model_dump(mode="json", include={*self.sizes, "dtype"}.difference(problem.idle[0]))

    def build(self, problem: Problem, options: Options, target: Target) -> Kernel:
        """The tile graph. Sizes and options that mean nothing here are an InputError."""
        self.check_sizes(problem)
        problem = self.fix(problem)
        if problem.heads % problem.kv_heads:  # the heads that were not given: a file's would be known by now
            raise InputError(
                f"--key-heads: {problem.heads} heads are no multiple of {problem.kv_heads} key heads"
            )
        algorithm = self.algorithm(options.algorithm)
        for field in Options.model_fields:
            known = field in ("algorithm", "variant", *algorithm.parameters)
            if getattr(options, field) is not None and not known:
                takes = ", ".join(f"--{p.replace('_', '-')}" for p in sorted(algorithm.parameters)) or "none"
                raise InputError(
                    f"--{field.replace('_', '-')}: {algorithm.name} has no such parameter; it takes {takes}"
                )
        variant = algorithm.variant(problem, options, target)
        for field in sorted(algorithm.textbook_only):
            if variant != "textbook" and getattr(options, field) is not None:
                raise Unsupported(
                    f"--{field.replace('_', '-')}: {algorithm.name} {variant} is built as measured and has "
                    "no such choice; drop it, or use --variant textbook"
                )
        return algorithm.build(problem, options, target)

    @contextmanager
    def advising(self, problem: Problem, options: Options, target: Target) -> Iterator[None]:
        """Where a built-in kernel takes too much room, the error names the options that lower it."""
        try:
            yield
        except GraphError as error:
            remedy = "" if error.where else self._remedy(problem, options, target)
            if error.rule != "capacity" or not remedy:
                raise
            raise GraphError(error.rule, error.message, remedy=remedy) from None

    def _remedy(self, problem: Problem, options: Options, target: Target) -> str:
        """What takes less room, among the options that there are; '' where there is none."""
        algorithm = self.algorithm(options.algorithm)
        taken = algorithm.parameters
        if algorithm.variant(problem, options, target) != "textbook":
            taken -= algorithm.textbook_only
        if options.slots == 1:
            taken -= {"slots"}
        known = [name for name in TAKES_ROOM if name in self.sizes or name in taken]
        *others, last = [f"--{name.replace('_', '-')}" for name in known] or [""]
        return "lower " + (f"{', '.join(others)} or {last}" if others else last) if last else ""


def own_options(entry: KernelEntry, name: str, options: Options) -> Options:
    """Of the options, those that ALGORITHM or ALGORITHM:VARIANT knows."""
    algorithm, named = entry.named(name)
    if named and options.variant:
        raise InputError(f"--variant: {name} names its own; drop one of the two")
    own = {k: v for k, v in options.model_dump().items() if k in algorithm.parameters}
    variant = options.variant if options.variant in algorithm.variants else named
    known = name if name in entry.algorithms else algorithm.name
    return Options(**{**own, "algorithm": known, "variant": variant})


def check_known(
    entry: KernelEntry, algorithms: list[str], options: Options, flag: str = "--algorithms"
) -> None:
    """InputError for an algorithm that there is not, named by `flag`, and for an option that none takes."""
    chosen = [entry.named(name, flag)[0] for name in algorithms]
    variants = {variant for algorithm in chosen for variant in algorithm.variants}
    if options.variant is not None and options.variant not in variants:
        raise InputError(
            f"--variant: none of these has {options.variant!r}; known: {', '.join(sorted(variants))}"
        )
    for name, value in options.model_dump(exclude={"algorithm", "variant"}, exclude_none=True).items():
        if not any(name in algorithm.parameters for algorithm in chosen):
            raise InputError(
                f"--{name.replace('_', '-')}: none of {', '.join(algorithms)} takes it, got {value}"
            )
