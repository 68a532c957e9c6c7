"""The data of any kernel, known by nothing but its tensors: values by name, from a file or drawn.

The truth is the kernel itself in float64 (`npusim.exact`), on the inputs as it receives them: the errors are
those of rounding on the way. Of a kernel of one phase a sample of its items is computed.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from npusim.data import Computed, Data
from npusim.dtypes import dtype
from npusim.errors import InputError, did_you_mean
from npusim.exact import exact
from npusim.execute import Execution, execute
from npusim.graph import Access, Items, Kernel, Loop, Node, Tensor
from npusim.kernels import KernelEntry
from npusim.metrics import Errors, compare
from npusim.npz import read_npz
from npusim.ops import OpKind
from npusim.problem import Problem, refuse
from npusim.room import check_room
from npusim.settings import NumericsSettings

Array = npt.NDArray[Any]
INPUT_BYTES = 28
"""memory that a value of an input takes, about: drawn or read, stored, and in float64"""
TRUTH_BYTES, WRITTEN_BYTES, ERROR_BYTES = 8, 2, 16
"""a value of the truth, in float64; whether it was written, in both; its error, while its norm is taken"""
TRIANGLES_ONLY = ("gates", "key_correlation")
"""what only generated keys and gates can be asked for"""


@dataclass(frozen=True)
class Tensors(Data):
    """Input values by the names of a kernel's input tensors; None: drawn when the shapes are known."""

    whole: Problem
    path: str | None
    arrays: Mapping[str, Array]
    samples: int | None
    """items to compute; None: all"""
    seed: int = 0

    @property
    def sample(self) -> Problem:
        return self.whole

    @property
    def origin(self) -> str:
        if self.path:
            return f"{self.path}: {', '.join(self.arrays)}"
        return f"generated: standard normal values, seed {self.seed}"

    def check(self, kernel: Kernel, computed: bool) -> None:
        """A file holds just the kernel's inputs, each in the shape of its tensor; all fits into memory."""
        if computed:
            if not kernel.outputs:
                raise InputError(
                    f"{kernel.name}: nothing to compute: no tensor is an output; give "
                    "--no-numerics, or in a kernel of your own declare one with k.output(...)"
                )
            check_room(self._bytes(kernel))
        if self.path is None:
            return
        wanted = _inputs(kernel)
        for name in self.arrays:
            if name not in wanted:
                known = did_you_mean(name, wanted)
                raise InputError(f"{self.path}: array {name}: {kernel.name} has no such input; {known}")
        missing = [name for name in wanted if name not in self.arrays]
        if missing:
            raise InputError(
                f"{self.path}: no array {' or '.join(missing)}: store every input of {kernel.name}: "
                + ", ".join(wanted)
            )
        for name, array in self.arrays.items():
            _check_array(f"{self.path}: array {name}", array, wanted[name].shape)

    def check_sample(self, kernel: Kernel) -> None:
        """The sample are items of the same kernel."""

    def _bytes(self, kernel: Kernel) -> float:
        """Memory that it takes to compute `kernel`, about."""
        total = sum(node.total for phase in kernel.phases for node in phase.nodes if isinstance(node, Items))
        share = min(1.0, (self._some(kernel) or total) / total) if total else 1.0
        needed: float = INPUT_BYTES * sum(math.prod(tensor.shape) for tensor in _inputs(kernel).values())
        stored: dict[str, float] = {}
        for phase in kernel.phases:
            for name, rows in _rows_stored(phase.nodes, share):
                stored[name] = stored.get(name, 0.0) + rows
        for tensor in kernel.outputs:
            each = dtype(tensor.dtype).carrier.itemsize + TRUTH_BYTES
            # pages are given on first use, and large ones span several rows: as if whole rows were written
            rows = min(1.0, stored.get(tensor.name, 0.0) / math.prod(tensor.shape[:-1]))
            needed += (rows * (each + WRITTEN_BYTES) + share * (each + ERROR_BYTES)) * math.prod(tensor.shape)
        spaces = [math.prod(tensor.shape) for tensor in kernel.tensors if tensor.role == "workspace"]
        return needed + (TRUTH_BYTES + WRITTEN_BYTES) * sum(spaces)

    def _some(self, kernel: Kernel) -> int | None:
        """Items to compute; None: all, as always where phases need each other's items."""
        return self.samples if len(kernel.phases) == 1 else None

    def compute(self, kernel: Kernel) -> Computed:
        """Errors of each output, over the matrices of it that were written."""
        arrays = self.arrays if self.path else _drawn(kernel, self.seed)
        samples = self._some(kernel)
        found = execute(kernel, arrays, samples)
        truth = execute(exact(kernel), found.inputs, samples)
        errors = {tensor.name: _errors(tensor.name, found, truth) for tensor in kernel.outputs}
        return Computed(found, errors, found.outputs, *found.items)


class TensorSource:
    """Arrays of a file by the names of the kernel's inputs, or standard normal values."""

    def read(self, path: str, entry: KernelEntry, problem: Problem, settings: NumericsSettings) -> Tensors:
        refuse(settings, ("seed", *TRIANGLES_ONLY), "nothing is generated beside --inputs; drop it")
        arrays = read_npz(Path(path))
        return Tensors(_fitted(path, entry, problem, arrays), path, arrays, _samples(settings))

    def draw(self, problem: Problem, settings: NumericsSettings) -> Tensors:
        refuse(settings, TRIANGLES_ONLY, "the inputs of this kernel are no keys and gates; drop it")
        return Tensors(problem, None, {}, _samples(settings), settings.seed)


def _samples(settings: NumericsSettings) -> int | None:
    return None if settings.output else settings.samples


def _fitted(path: str, entry: KernelEntry, problem: Problem, arrays: Mapping[str, Array]) -> Problem:
    """The problem with the sizes that the shapes in the file say, where the kernel can tell them."""
    if entry.infer is None:
        return problem
    refuse(problem, entry.sizes, f"the problem is that of --inputs {path}; drop one of the two")
    try:
        sizes = entry.infer({name: array.shape for name, array in arrays.items()})
        return Problem.parse(dtype=problem.dtype, **sizes)
    except InputError as error:
        text = str(error)
        wrong = f"the shapes of its arrays: {text[2:]}" if text.startswith("--") else text
        raise InputError(f"{path}: {wrong}") from None


def _inputs(kernel: Kernel) -> dict[str, Tensor]:
    return {tensor.name: tensor for tensor in kernel.tensors if tensor.role == "input"}


def _check_array(place: str, array: Array, shape: tuple[int, ...]) -> None:
    if array.dtype.kind not in "fiu":
        raise InputError(f"{place}: dtype {array.dtype}: real numbers are needed, such as float32")
    if array.shape != shape:
        raise InputError(f"{place}: shape {array.shape}: {shape} is needed")
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        where = tuple(int(i) for i in bad[0])
        raise InputError(f"{place}: {array[where]} at {list(where)}: every value must be finite")


def _rows_stored(nodes: tuple[Node, ...], share: float, trips: float = 1.0) -> Iterator[tuple[str, float]]:
    """Each store of a share of the items: its tensor, and how many rows it stores, in all trips together."""
    for node in nodes:
        if isinstance(node, Loop):
            yield from _rows_stored(node.body, share, trips * float(np.mean(node.count)))
        elif isinstance(node, Items):
            yield from _rows_stored(node.body, share, trips * share * (node.total // node.group))
            yield from _rows_stored(node.ragged, share, trips)
        elif node.kind is OpKind.store and isinstance(node.dst, Access):
            yield node.dst.tensor.name, trips * node.dst.rows


def _drawn(kernel: Kernel, seed: int) -> dict[str, Array]:
    """Standard normal values for each input; a tensor's values depend on its name, shape and seed alone."""
    return {
        name: np.random.default_rng([seed, zlib.crc32(name.encode())]).standard_normal(
            tensor.shape, dtype=np.float32
        )
        for name, tensor in _inputs(kernel).items()
    }


def _errors(name: str, found: Execution, truth: Execution) -> Errors:
    """Errors of output `name` [..., rows, cols] where it was written; matrix by matrix if all are whole."""
    written = found.written[name]
    stack = (-1, *written.shape[-2:])
    whole = written.reshape(stack).all(axis=(1, 2))
    result, wanted = found.outputs[name], truth.outputs[name]
    if np.count_nonzero(written) == np.count_nonzero(whole) * math.prod(stack[1:]):
        return compare(result.reshape(stack)[whole], wanted.reshape(stack)[whole])
    return compare(result[written][np.newaxis], wanted[written][np.newaxis])
