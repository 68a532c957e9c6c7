"""A kernel that does nothing: what is left of its time is launching it.

A phase needs an operation, so every core group executes one scalar instruction.
"""

from __future__ import annotations

from npusim.builder import Algorithm, Kernel, KernelBuilder, Options, Problem, Target


def build(problem: Problem, options: Options, target: Target) -> Kernel:
    """The tile graph: one scalar instruction on each group, and no tensor."""
    variant = ALGORITHM.variant(problem, options, target)
    k = KernelBuilder("empty", target, problem.dtype, ALGORITHM.name, variant)
    with k.phase("nothing"):
        k.cores(lambda core: k.scalar("alu", label="nothing"))
    return k.finish()


ALGORITHM = Algorithm(
    name="empty",
    meaning="one scalar instruction on each core group",
    source="textbook",
    build=build,
    variants={"plain": "all core groups"},
)
