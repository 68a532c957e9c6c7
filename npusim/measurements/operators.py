"""Which kernel an operator of a profiler is, by patterns in YAML: hw_profiles/measurements/operators.yaml."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt, ValidationError, model_validator

from npusim.errors import InputError, ProfileError, did_you_mean
from npusim.explain import explain
from npusim.measurements.rows import SIZES, Device
from npusim.measurements.shapes import Pattern, Shape
from npusim.problem import DtypeName, Settings
from npusim.profiles import PACKAGE, line_of, read_yaml

DTYPES = {
    "float16": "fp16", "half": "fp16", "fp16": "fp16",
    "bf16": "bf16", "bfloat16": "bf16",
    "float": "fp32", "float32": "fp32", "fp32": "fp32",
    "double": "fp64", "float64": "fp64",
    "float8_e4m3fn": "fp8_e4m3",
    "int32": "int32", "int16": "int16", "int8": "int8", "int4": "int4",
}  # fmt: skip
"""number formats by the names that profilers give them, without DT_ and case"""
ELSEWHERE = ("cpu", "hccl", "communication", "dvpp")
"""what stands in the Task Type of an operator that ran on no AI core"""


class Unfit(Exception):
    """An operator that is no row, and why."""


@dataclass(frozen=True)
class Operator:
    """What a profiler says of an operator: names, shapes and dtypes (None: not stated) of its tensors."""

    name: str
    type: str = ""
    task_type: str = ""
    inputs: tuple[Shape, ...] | None = None
    outputs: tuple[Shape, ...] | None = None
    input_dtypes: tuple[str, ...] = ()
    output_dtypes: tuple[str, ...] = ()

    @property
    def shapes(self) -> str:
        """As a pattern is written: '128,64; 64,32 -> 128,32', '' where none is stated."""
        if self.inputs is None and self.outputs is None:
            return ""
        return f"{_text(self.inputs or ())} -> {_text(self.outputs or ())}"


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _pattern(text: str) -> str:
    Pattern.parse(text)
    return text


def _size(name: str) -> str:
    if name not in SIZES:
        raise ValueError(f"unknown size {name!r}; {did_you_mean(name, SIZES)}")
    return name


Texts = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Patterns = Annotated[tuple[Annotated[str, AfterValidator(_pattern)], ...], BeforeValidator(_listed)]
SizeName = Annotated[str, AfterValidator(_size)]
SizeNames = Annotated[tuple[SizeName, ...], BeforeValidator(_listed)]


class Entry(Settings):
    """What is known of operators whose name and type match.

    `name`, `type`: globs on Op Name and OP Type in any case, of which one each must match. `shapes`: patterns
    (`npusim.measurements.shapes`), of which the first that fits gives the sizes. `sizes`: those that are
    known beforehand. `needs`: those without which an operator is no row.
    """

    name: Texts = ()
    type: Texts = ()
    kernel: str = Field(min_length=1)
    algorithm: str | None = None
    variant: str | None = None
    dtype: DtypeName | None = None
    out_dtype: DtypeName | None = None
    shapes: Patterns = ()
    sizes: dict[SizeName, PositiveInt] = Field(default_factory=dict)
    needs: SizeNames = ()
    note: str = ""

    @model_validator(mode="after")
    def _matches_something(self) -> Self:
        if not self.name and not self.type:
            raise ValueError("name or type: missing; an entry needs a glob for Op Name or for OP Type")
        return self

    def matches(self, operator: Operator) -> bool:
        """Whether the operator's names are those of this entry."""
        return _any(self.name, operator.name) and _any(self.type, operator.type)

    def row(self, operator: Operator) -> dict[str, Any]:
        """Fields of a `Measurement`: kernel, sizes, dtypes and a note. Unfit where they cannot be had."""
        shape, found = self._shape(operator) if self.shapes else ("", {})
        sizes = found | self.sizes
        if lacking := [name for name in self.needs if name not in sizes]:
            raise Unfit(f"no {', '.join(lacking)} in the file; give sizes in an operators file of your own")
        used = len(Pattern.parse(shape).inputs.dims) if shape else None
        dtype = self.dtype or _one_dtype(operator.input_dtypes[:used])
        out_dtype = self.out_dtype or _one_dtype(operator.output_dtypes[:1])
        named = {"kernel": self.kernel, "algorithm": self.algorithm, "variant": self.variant}
        names = dict.fromkeys((operator.type, operator.name, shape and f"({shape})"))
        what = " ".join(name for name in names if name)
        note = "; ".join(part for part in (what, self.note) if part)
        return {**named, **sizes, "dtype": dtype, "out_dtype": out_dtype, "note": note}

    def _shape(self, operator: Operator) -> tuple[str, dict[str, int]]:
        if operator.inputs is None:
            raise Unfit("no input shapes in the file; give sizes in an operators file of your own")
        for text in self.shapes:
            sizes = Pattern.parse(text).fit(operator.inputs, operator.outputs or ())
            if sizes is not None:
                return text, sizes
        raise Unfit(f"shapes {operator.shapes} are not those of {self.kernel}: {' or '.join(self.shapes)}")


class Operators(Settings):
    """An operators file. `extends: shipped`: what it does not know is looked up in the shipped one."""

    extends: Literal["shipped"] | None = None
    operators: tuple[Entry, ...] = ()
    devices: dict[str, Device] = Field(default_factory=dict)

    def row(self, operator: Operator) -> dict[str, Any]:
        """Fields of a `Measurement` by the first entry that matches and fits. Unfit where none does."""
        task = operator.task_type.casefold()
        if any(word in task for word in ELSEWHERE):
            raise Unfit(f"ran on {operator.task_type}, on no AI core")
        reasons = []
        for entry in self.operators:
            if entry.matches(operator):
                try:
                    return entry.row(operator)
                except Unfit as unfit:
                    reasons.append(unfit)
        raise reasons[0] if reasons else Unfit("no entry of the operators file has its name or type")


def load_operators(path: str | os.PathLike[str] | None = None) -> Operators:
    """The operators file at `path`, or the shipped one. InputError that names file, line and field."""
    if path is None:
        return _shipped()
    own = _load(Path(os.path.expanduser(path)))
    if own.extends is None:
        return own
    base = _shipped()
    return Operators(operators=own.operators + base.operators, devices=base.devices | own.devices)


@functools.cache
def _shipped() -> Operators:
    return _load(resources.files(PACKAGE) / "measurements" / "operators.yaml")


def _load(file: Traversable) -> Operators:
    try:
        data = read_yaml(file)
    except ProfileError as error:
        raise InputError(str(error)) from None
    try:
        return Operators.model_validate(data)
    except ValidationError as error:
        place, text = explain(error, Operators)
        raise InputError(f"{file}:{line_of(file, place)}: {text}") from None


def _any(globs: Sequence[str], name: str) -> bool:
    return not globs or any(fnmatchcase(name.casefold(), glob.casefold()) for glob in globs)


def _one_dtype(given: Sequence[str]) -> str | None:
    """The one dtype of all tensors, None where none is stated."""
    plain = {name.strip().casefold().removeprefix("dt_") for name in given} - {""}
    if unknown := sorted(plain - DTYPES.keys()):
        raise Unfit(f"dtype {unknown[0]} is none that npusim knows")
    names = sorted({DTYPES[name] for name in plain})
    if len(names) > 1:
        raise Unfit(f"inputs differ in dtype ({', '.join(names)}); an entry that states dtype takes them")
    return names[0] if names else None


def _text(shapes: tuple[Shape, ...]) -> str:
    return "; ".join(",".join(map(str, shape)) for shape in shapes) or "none"
