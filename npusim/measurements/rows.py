"""A measured timing as every reader gives it: what ran, how long it took on which clock, where it stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, ValidationError

from npusim.errors import InputError
from npusim.explain import explain
from npusim.problem import L2State, Settings

Clock = Literal["event", "task_duration", "core", "not stated"]
"""event: what the host's events see, launch included; task_duration: dispatch and execution on the device;
core: execution alone, from the first core's start to the last one's end (a profiler's aicore_time)"""

Microseconds = Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False)]
Busy = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]

BUSY = {
    "cube_us": "aic_mac", "vector_us": "aiv_vec", "scalar_us": "scalar", "mte1_us": "aic_mte1",
    "mte2_us": "mte2", "mte3_us": "aiv_mte3", "fixpipe_us": "aic_fixpipe",
}  # fmt: skip
"""columns of busy time and the unit they speak of; `scalar` and `mte2` are those of the cores that the kernel
uses, the cube core's where it uses both"""

SIZES = (
    "chunk", "matrices", "batch", "seq_len", "heads", "key_heads", "head_dim", "m", "n", "k",
    "tile_m", "tile_n", "repeat",
)  # fmt: skip
"""columns that say how large the problem is, and its tiles"""


class Measurement(Settings):
    """One row. None: not applicable, or not stated.

    `place`: 'file:line', which stands before every message about the row. `device`: a profile's name, a SoC
    name, or what the source calls it. Busy times are means over the cores used, while `time_us` follows the
    slowest core.
    """

    place: str = ""
    device: str = ""
    kernel: str = Field(min_length=1)
    algorithm: str | None = None
    variant: str | None = None
    dtype: str | None = None
    compute_dtype: str | None = None
    out_dtype: str | None = None
    chunk: PositiveInt | None = None
    matrices: PositiveInt | None = None
    batch: PositiveInt | None = None
    seq_len: PositiveInt | None = None
    heads: PositiveInt | None = None
    key_heads: PositiveInt | None = None
    head_dim: PositiveInt | None = None
    m: PositiveInt | None = None
    n: PositiveInt | None = None
    k: PositiveInt | None = None
    tile_m: PositiveInt | None = None
    tile_n: PositiveInt | None = None
    repeat: PositiveInt | None = None
    cores: PositiveInt | None = None
    time_us: Microseconds
    cube_us: Busy | None = None
    vector_us: Busy | None = None
    scalar_us: Busy | None = None
    mte1_us: Busy | None = None
    mte2_us: Busy | None = None
    mte3_us: Busy | None = None
    fixpipe_us: Busy | None = None
    clock: Clock = "not stated"
    l2: L2State = "dirty"
    note: str = ""
    source: str = ""
    time_std_us: Busy | None = None
    runs: PositiveInt | None = None
    clock_mhz: Microseconds | None = None
    cann_version: str | None = None

    @property
    def busy(self) -> dict[str, float]:
        """The busy times that were measured, by column."""
        return {column: value for column in BUSY if (value := getattr(self, column)) is not None}

    @classmethod
    def at(cls, place: str, **values: object) -> Self:
        """The row at 'file:line', of numbers or their text. InputError that names place and column."""
        try:
            return cls.model_validate({"place": place, **values})
        except ValidationError as error:
            raise InputError(f"{place}: {explain(error, cls)[1]}") from None


COLUMNS = tuple(name for name in Measurement.model_fields if name != "place")
"""the columns of a measurement file, in any order"""


class Device(Settings):
    """What stands for a device that no profile describes: a profile, how many cores it uses, and why."""

    profile: str = Field(min_length=1)
    cores: PositiveInt | None = None
    why: str = Field(min_length=1)


@dataclass(frozen=True)
class Unmapped:
    """A measured operator that is no row: where it stands, what it is called, and why. `name`, `type`,
    `shapes`: as its profiler has them, '' where it does not say; `launches`: how often it ran alike."""

    place: str
    operator: str
    reason: str
    name: str = ""
    type: str = ""
    shapes: str = ""
    launches: int = 1


@dataclass(frozen=True)
class Reading:
    """What was read: rows, operators that are none, and what stands for devices that are no profile."""

    rows: list[Measurement] = field(default_factory=list)
    unmapped: list[Unmapped] = field(default_factory=list)
    devices: dict[str, Device] = field(default_factory=dict)
