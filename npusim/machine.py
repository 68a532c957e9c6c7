"""The machine: what exists. Every number carries its source and how well it is known.

A machine is a set of identical *core groups*. A group is one cube core with `core.vector_cores`
vector cores beside it (Ascend A2/A3/A5), or, with `vector_cores` 0, one fused core that holds the
cube and the vector unit. Units are named as the msprof profiler names them.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticKnownError

from npusim.dtypes import DTYPES
from npusim.errors import SHOWN, ProfileError, did_you_mean
from npusim.explain import explain, model_of

CUBE_UNITS = ("aic_scalar", "aic_mte2", "aic_mte1", "aic_mac", "aic_fixpipe")
VECTOR_UNITS = ("aiv_scalar", "aiv_mte2", "aiv_vec", "aiv_mte3")
LEVELS = ("GM", "L1", "L0A", "L0B", "L0C", "UB")

Unit = Literal[
    "aic_scalar", "aic_mte2", "aic_mte1", "aic_mac", "aic_fixpipe",
    "aiv_scalar", "aiv_mte2", "aiv_vec", "aiv_mte3",
]  # fmt: skip
LevelName = Literal["L1", "L0A", "L0B", "L0C", "UB"]

CUBE_DTYPES = frozenset(DTYPES) - {"fp64"}
"""operand dtypes that a cube may multiply; no cube has fp64, which is there to compute exactly"""

VECTOR_FUNCTIONS = frozenset({
    "abs", "add", "adds", "axpy", "brcb", "cast", "copy", "div", "exp",
    "fill", "ln", "max", "maxs", "min", "mins", "mul", "muls", "neg",
    "reciprocal", "relu", "row_max", "row_sum", "rsqrt", "select", "sqrt", "sub", "transpose",
})  # fmt: skip
"""the vector instructions that a profile gives costs of"""

LEAST_RATE, LARGEST, LARGEST_SIZE = 1e-9, 1e12, 10**15
"""Numbers beyond are slips of the pen; within, every time is a finite number of cycles."""


class Evidence(StrEnum):
    """How a number is known, from best to worst."""

    documented = "documented"
    measured = "measured"
    fitted = "fitted"
    assumed = "assumed"


class Model(BaseModel):
    """Frozen, and strict about names and types: a misspelt field is an error, not a default."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


T = TypeVar("T")


class Fit(Model):
    """How a number was fitted to measurements, which its `source` names."""

    rows: str = Field(min_length=1, description="the measured rows it was fitted to: '14-17, 26'")
    date: datetime.date
    standard_error: float | None = Field(None, ge=0, description="of the value, in its unit")


class Quantity(Model, Generic[T]):
    """A number with its provenance. `source` is a key of the profile's `sources`, or a citation."""

    value: T
    source: str = Field(min_length=1)
    evidence: Evidence
    note: str | None = None
    theory: T | None = Field(None, description="what the design cannot exceed")
    documented: T | None = Field(None, description="what the documents say of a number that was fitted")
    documented_by: str | None = Field(None, min_length=1, description="the source of `documented`")
    fitted: Fit | None = Field(None, description="the fit of a number that was fitted to measurements")

    @model_validator(mode="after")
    def _only_of_a_fit(self) -> Self:
        for name in ("documented", "documented_by", "fitted"):
            if getattr(self, name) is not None and self.evidence is not Evidence.fitted:
                raise ValueError(f"{name}: belongs to a number of evidence fitted, not {self.evidence}")
        if self.documented_by is not None and self.documented is None:
            raise ValueError("documented_by: names the source of documented, which is missing")
        return self


def _not_tiny(value: float) -> float:
    if value < LEAST_RATE:
        raise PydanticKnownError("greater_than_equal", {"ge": LEAST_RATE})
    return value


class Rate(Quantity[Annotated[float, Field(gt=0, le=LARGEST, strict=True), AfterValidator(_not_tiny)]]):
    """A rate: positive."""


class Share(Quantity[Annotated[float, Field(ge=0.01, le=1, strict=True)]]):
    """A part of a whole."""


class Cost(Quantity[Annotated[float, Field(ge=0, le=LARGEST, strict=True)]]):
    """A time or a work per step: zero where it is free."""


class Count(Quantity[Annotated[int, Field(gt=0, le=LARGEST_SIZE, strict=True)]]):
    """A whole number of things: positive."""


class CountOrNone(Quantity[Annotated[int, Field(ge=0, le=64, strict=True)]]):
    """A whole number of things, possibly none."""


class Scalar(Model):
    """The scalar unit, which issues a core's instructions in program order."""

    issue_cycles: Cost = Field(description="time to issue one instruction to a unit's queue")
    queue_depth: Count = Field(description="operations a unit's queue holds ahead of the running one")
    alu_cycles: Cost = Field(description="one scalar arithmetic instruction")
    ub_read_cycles: Cost = Field(description="scalar read of one element of UB")
    ub_write_cycles: Cost = Field(description="scalar write of one element of UB")


class Cube(Model):
    """The matrix unit: 16 x 16 x k0 multiply-adds a cycle."""

    startup_cycles: Cost = Field(description="added to every product; occupies the unit")
    latency_cycles: Cost = Field(description="from the last multiply-add to the visible result")
    k0: dict[str, Count] = Field(description="depth of one fractal step per operand dtype")


class VectorFunction(Model):
    """Cost of one vector instruction: repeats * cycles_per_repeat, visible latency_cycles later."""

    cycles_per_repeat: Cost
    latency_cycles: Cost
    cycles_per_repeat_16bit: Cost | None = Field(None, description="for 16-bit operands, where different")


class Vector(Model):
    """The vector unit: one repeat processes `repeat_bytes` of each operand."""

    repeat_bytes: Count
    mask_cycles: Cost = Field(description="setting one of the two mask registers, for a part of a repeat")
    functions: dict[str, VectorFunction]


class Flags(Model):
    """Delay from one unit's completion to the unit that waits for it."""

    default_cycles: Cost = Field(description="between two units of one core")
    pairs: dict[str, Cost] = Field(default_factory=dict, description="'unit->unit': where different")
    cross_core_cycles: Cost = Field(description="between a cube core and a vector core")


class Barriers(Model):
    unit_cycles: Cost = Field(description="barrier on one unit, beyond waiting for it to run empty")
    core_cycles: Cost = Field(description="barrier on all units of a core, beyond waiting for them")
    all_cores_cycles: Cost = Field(description="barrier over all cores between two phases")


class Core(Model):
    """One core group."""

    groups: Count = Field(description="core groups on the chip")
    vector_cores: CountOrNone = Field(description="vector cores per group; 0: cube and vector fused")
    scalar: Scalar
    cube: Cube
    vector: Vector
    flags: Flags
    barriers: Barriers
    l1_port_bytes_per_cycle: Rate | None = Field(
        None, description="shared by all traffic into and out of one core's L1; null: not modelled"
    )


class Level(Model):
    """An on-chip buffer. Levels that name the same `memory` are one memory and share its bytes."""

    bytes: Count
    memory: str | None = None


class Path(Model):
    """A way from one level to another: the unit that moves, its rate and its costs.

    occupancy = startup + max(min, rows * max(row_min, row_bytes / rate)) + (half_rate_bytes / rate)
    + partial_line * rows if the rows lie apart in GM and are no multiple of an L2 line; the data are visible
    latency later.
    """

    unit: Unit
    bytes_per_cycle: Rate
    latency_cycles: Cost
    charges: Literal["source", "destination"] = Field(
        "destination", description="which side's bytes count where the move converts"
    )
    startup_cycles: Cost | None = Field(None, description="per instruction; occupies the unit")
    min_cycles: Cost | None = Field(None, description="least occupancy of one instruction")
    half_rate_bytes: Cost | None = Field(None, description="size at which half the rate is reached")
    row_min_cycles: Cost | None = Field(None, description="least time of one row (burst)")
    missed_row_min_cycles: Cost | None = Field(
        None, description="the same of a row that L2 does not hold: so many rows under way take longer"
    )
    partial_line_cycles: Cost | None = Field(
        None, description="per row that is stored apart from the others and does not fill whole L2 lines"
    )
    quantise_cycles: dict[str, Cost] = Field(
        default_factory=dict,
        description="of a way out of L0C: 'int32->int8' and the like, the formats that it scales and rounds "
        "to as it moves, and what that adds to an instruction; all others are left to the vector unit",
    )


class Memory(Model):
    """What all cores share."""

    hbm_gb_per_s: Rate = Field(description="nominal")
    hbm_efficiency: Share | None = Field(None, description="the part of it that transfers reach [default: 1]")
    hbm_latency_cycles: Cost | None = Field(
        None, description="beyond a path's own latency, of a load that L2 does not hold"
    )
    l2_gb_per_s: Rate
    hbm_bytes: Count
    l2_bytes: Count
    l2_line_bytes: Count


class Launch(Model):
    """From the host's call to the first instruction."""

    base_us: Cost = Field(description="device time before the first core starts")
    dispatch_us: Cost = Field(description="between the starts of two cores")
    setup_us: Cost = Field(description="scalar set-up on each core before its first operation")
    mixed_us: Cost = Field(description="added where a kernel uses cube and vector cores")
    event_us: Cost = Field(description="what a host-side event sees beyond the task")
    host_us: Cost = Field(description="the host's time to issue one kernel; a faster device waits for it")


class Machine(Model):
    """A machine profile, resolved: `extends` merged, every number with its provenance."""

    name: str
    description: str
    family: Literal["ascend", "generic"]
    soc: tuple[str, ...] = ()
    device: str | None = Field(None, description="profile whose device this one describes by another name")
    extends: str | None = None
    sources: dict[str, str] = Field(default_factory=dict, description="citation per source key")
    clock_ghz: Rate
    core: Core
    levels: dict[LevelName, Level]
    paths: dict[str, Path] = Field(description="keyed 'from_to' in lower case: gm_l1, l0c_gm")
    memory: Memory
    launch: Launch

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        missing = [name for name in LEVELS[1:] if name not in self.levels]
        if missing:
            raise ValueError(f"levels: {', '.join(missing)} missing")
        for key, path in self.paths.items():
            ends = key.upper().split("_")
            if len(ends) != 2 or any(end not in LEVELS for end in ends):
                raise ValueError(f"paths.{key}: not 'from_to' of two levels ({', '.join(LEVELS)})")
            for change in path.quantise_cycles:
                if not (ends[0] == "L0C" and _is_pair(change, tuple(DTYPES))):
                    raise ValueError(
                        f"paths.{key}.quantise_cycles: {change!r} is not 'dtype->dtype' of a way out of L0C"
                    )
            if path.unit not in self.units:
                raise ValueError(f"paths.{key}.unit: a fused core has no {path.unit}")
        for dtype in self.core.cube.k0:
            if dtype not in CUBE_DTYPES:
                raise ValueError(
                    f"core.cube.k0.{dtype}: no dtype of a cube; {did_you_mean(dtype, CUBE_DTYPES)}"
                )
        for name in self.core.vector.functions:
            if name not in VECTOR_FUNCTIONS:
                known = did_you_mean(name, VECTOR_FUNCTIONS)
                raise ValueError(f"core.vector.functions.{name}: no vector function; {known}")
        for pair in self.core.flags.pairs:
            if not _is_pair(pair, self.units):
                raise ValueError(f"core.flags.pairs: {pair!r} is not 'unit->unit'")
        sizes: dict[str, int] = {}
        for name, level in self.levels.items():
            if level.memory and sizes.setdefault(level.memory, level.bytes.value) != level.bytes.value:
                raise ValueError(f"levels.{name}.bytes: differs from the other levels of {level.memory!r}")
        return self

    @property
    def fused(self) -> bool:
        """Cube and vector unit share one core and one scalar unit."""
        return self.core.vector_cores.value == 0

    @property
    def units(self) -> tuple[str, ...]:
        """All units of a core group, each once; a fused core has no vector-side scalar and GM load."""
        if not self.fused:
            return CUBE_UNITS + VECTOR_UNITS
        return (*CUBE_UNITS, "aiv_vec", "aiv_mte3")

    @property
    def cycles_per_us(self) -> float:
        return self.clock_ghz.value * 1e3

    def pool_bytes_per_cycle(self, pool: Literal["hbm", "l2"]) -> float:
        """Chip-wide rate of HBM or L2 in bytes per core cycle."""
        memory = self.memory
        if pool == "l2":
            return memory.l2_gb_per_s.value / self.clock_ghz.value
        reached = memory.hbm_efficiency.value if memory.hbm_efficiency else 1.0
        return memory.hbm_gb_per_s.value * reached / self.clock_ghz.value


def _is_pair(text: str, units: tuple[str, ...]) -> bool:
    """'unit->unit' of two known units."""
    ends = text.split("->")
    return len(ends) == 2 and all(unit in units for unit in ends)


# --- numbers by path -------------------------------------------------------------------------


def quantities(machine: Machine) -> dict[str, Quantity[Any]]:
    """Every number of the machine by its dotted path, in the order of the model."""
    return {path: number for path, number in _walk(machine, "") if number is not None}


def _walk(node: Any, path: str) -> Iterator[tuple[str, Quantity[Any] | None]]:
    """Paths and numbers below `node`; None for an optional number that the profile leaves out."""
    prefix = f"{path}." if path else ""
    if isinstance(node, Quantity):
        yield path, node
    elif isinstance(node, BaseModel):
        for name, field in type(node).model_fields.items():
            child = getattr(node, name)
            if child is None and model_of(field.annotation) is not None:
                yield prefix + name, None
            yield from _walk(child, prefix + name)
    elif isinstance(node, Mapping):
        for name, child in node.items():
            yield from _walk(child, prefix + str(name))


def override(machine: Machine, values: Mapping[str, float], source: str = "--set") -> Machine:
    """The machine with the numbers at `values`' paths replaced and marked as assumed.

    Raises ProfileError for an unknown path or a value out of range.
    """
    known = dict(_walk(machine, ""))
    data = machine.model_dump()
    for path, value in values.items():
        pair = path.removeprefix("core.flags.pairs.")
        if path not in known and (pair == path or not _is_pair(pair, machine.units)):
            raise ProfileError(f"{machine.name}: {path}: {_no_number(path, known)}")
        whole = isinstance(known.get(path), (Count, CountOrNone)) and float(value).is_integer()
        _put(data, path, {"value": int(value) if whole else value, "source": source, "evidence": "assumed"})
    return validate(data, machine.name)


STRUCTURE = ("core.scalar.queue_depth", "memory.l2_line_bytes")
"""numbers of which no value stands for "not known": kept as they are"""


def _no_number(path: str, known: Iterable[str]) -> str:
    inside = [name.removeprefix(f"{path}.") for name in known if name.startswith(f"{path}.")]
    if not inside:
        return f"no such number; {did_you_mean(path, known)}"
    more = f" and {len(inside) - SHOWN} more" if len(inside) > SHOWN else ""
    return f"is a group of numbers: {', '.join(inside[:SHOWN])}{more}"


def documented_only(machine: Machine) -> Machine:
    """The machine as the documents alone describe it: assumed and fitted costs become zero.

    A fitted number falls back to what the documents say of it, where the profile keeps that. The cube has no
    dtype whose depth is assumed or fitted.
    Raises ProfileError where a number that cannot be zero (a rate, a size) is not documented.
    """

    def change(path: str, number: Quantity[Any]) -> dict[str, Any] | None:
        if number.evidence in (Evidence.documented, Evidence.measured):
            return None
        if number.documented is not None:
            return _documented(number)
        if path in STRUCTURE:
            return None
        if path.startswith("core.cube.k0.") or isinstance(number, Share):
            return {}  # without a share, all of the nominal rate
        if not isinstance(number, Cost):
            raise ProfileError(
                f"{machine.name}: {path} is {number.evidence}, and without it there is no machine; "
                "drop --evidence documented or choose another profile"
            )
        return {**number.model_dump(), "value": 0}

    return rebuild(machine, change)


def _documented(number: Quantity[Any]) -> dict[str, Any]:
    """The number as it was before it was fitted."""
    return {
        "value": number.documented,
        "source": number.documented_by or number.source,
        "evidence": Evidence.documented,
        "note": number.note,
    }


def rebuild(machine: Machine, change: Callable[[str, Quantity[Any]], dict[str, Any] | None]) -> Machine:
    """The machine with each number for which `change(path, number)` is not None replaced by it.

    An empty mapping removes the number.
    """
    data = machine.model_dump()
    for path, number in quantities(machine).items():
        new = change(path, number)
        if new is not None:
            _put(data, path, new)
    return validate(data, machine.name)


def _put(data: dict[str, Any], path: str, new: Mapping[str, Any]) -> None:
    *parents, leaf = path.split(".")
    for step in parents:
        data = data[step]
    if new:
        data[leaf] = new
    else:
        del data[leaf]


def validate(data: Mapping[str, Any], where: str) -> Machine:
    """Build a Machine, or raise one ProfileError that names file, field and remedy."""
    try:
        return Machine.model_validate(data)
    except ValidationError as error:
        raise ProfileError(f"{where}: {explain(error, Machine)[1]}") from None
