"""What a kernel is to the command line: a name, its algorithms, and how to build one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from npusim.errors import InputError, did_you_mean
from npusim.graph import Kernel
from npusim.problem import Options, Problem, Target

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
    """name -> meaning; the first is the default on Ascend, the last the clean textbook form"""
    parameters: frozenset[str] = frozenset()

    def variant(self, options: Options, target: Target) -> str:
        """The variant asked for, or this family's default. InputError for an unknown one."""
        names = list(self.variants)
        if options.variant is None:
            return names[0] if target.family == "ascend" else names[-1]
        if options.variant not in names:
            raise InputError(
                f"--variant: {self.name} has no {options.variant!r}; {did_you_mean(options.variant, names)}"
            )
        return options.variant


@dataclass(frozen=True)
class KernelEntry:
    """A kernel of the registry: its algorithms, the default one first."""

    name: str
    meaning: str
    algorithms: Mapping[str, Algorithm]

    def algorithm(self, name: str | None) -> Algorithm:
        """The algorithm called `name`, or the default. InputError, with the nearest, if unknown."""
        if name is None:
            return next(iter(self.algorithms.values()))
        if name not in self.algorithms:
            raise InputError(
                f"--algorithm: {self.name} has no {name!r}; {did_you_mean(name, self.algorithms)}"
            )
        return self.algorithms[name]

    def build(self, problem: Problem, options: Options, target: Target) -> Kernel:
        """The tile graph. Options that the algorithm does not know are an InputError."""
        algorithm = self.algorithm(options.algorithm)
        for field in Options.model_fields.keys() - {"algorithm", "variant"}:
            if getattr(options, field) is not None and field not in algorithm.parameters:
                takes = ", ".join(f"--{p.replace('_', '-')}" for p in sorted(algorithm.parameters)) or "none"
                raise InputError(
                    f"--{field.replace('_', '-')}: {algorithm.name} has no such parameter; it takes {takes}"
                )
        return algorithm.build(problem, options, target)
