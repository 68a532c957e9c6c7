"""What is asked (Problem), how the kernel is to be built (Options), and for what (Target).

The command line and the dashboard make their controls from these fields: descriptions are help texts.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from npusim.errors import InputError, did_you_mean
from npusim.explain import explain

if TYPE_CHECKING:
    from npusim.machine import Machine

KEY_CORRELATION = 0.3
"""mean cosine between two generated keys of a chunk"""


class Settings(BaseModel):
    """Base of all user-facing settings: frozen, unknown names rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def parse(cls, **values: object) -> Self:
        """Build from command-line values, or raise one InputError that names the option."""
        try:
            return cls.model_validate({k: v for k, v in values.items() if v is not None})
        except ValidationError as error:
            _, text = explain(error, cls)
            name, _, rest = text.partition(":")
            option = "--" + name.replace("_", "-")
            raise InputError(f"{option}:{rest}" if name in cls.model_fields else text) from None


def refuse(given: Settings, names: Iterable[str], why: str) -> None:
    """InputError for the first of the settings `names` that was given."""
    for name in names:
        if name in given.model_fields_set:
            raise InputError(f"--{name.replace('_', '-')}: {why}")


def _list(numbers: tuple[int, ...]) -> str:
    return ",".join(str(number) for number in numbers[:8]) + (",.." if len(numbers) > 8 else "")


def _known_dtype(name: str) -> str:
    from npusim.dtypes import DTYPES

    if name not in DTYPES:
        raise ValueError(f"unknown dtype {name!r}; {did_you_mean(name, DTYPES)}")
    return name


def _operand(name: str) -> str:
    if name == "int32":
        raise ValueError("int32 is what products of integers accumulate in; use int16, int8 or int4")
    return _known_dtype(name)


MOST = 10**12
"""tokens, matrices and the like: more than any problem has, and few enough to count in float64"""
LARGEST_CHUNK = 256


def _within_chunk(value: int) -> int:
    if value > LARGEST_CHUNK:
        raise PydanticCustomError(
            "beyond_chunk",
            f"must be <= {LARGEST_CHUNK}, the largest chunk: N*S beyond the chunk gains nothing",
        )
    return value


Terms = Annotated[int, Field(gt=0), AfterValidator(_within_chunk)]
"""how many terms of a series"""

DtypeName = Annotated[str, AfterValidator(_known_dtype)]
"""the name of a number format"""
OperandName = Annotated[str, AfterValidator(_operand)]
"""the same, of one that can be multiplied"""


Decay = Literal["head", "channel", "none"]
"""what has a decay of its own: a head (Gated DeltaNet, arXiv 2412.06464), a channel of its keys (Kimi Delta
Attention, arXiv 2510.26692), or nothing (DeltaNet, arXiv 2406.06484)"""


L2State = Literal["dirty", "clean", "warm"]
"""What a kernel finds in L2. dirty: bytes of others, which are written back as they make room; clean: nothing
that has to be; warm: what it left there itself when it ran before"""


class Problem(Settings):
    """The sizes of the problem and the dtype of its operands."""

    chunk: PositiveInt = Field(
        64,
        le=MOST,
        description="chunk size C: the matrices are C x C",
        json_schema_extra={"option": "--chunk-size"},
    )
    batch: PositiveInt = Field(1, le=10**6, description="sequences")
    seq_len: PositiveInt = Field(8192, le=MOST, description="tokens per sequence")
    heads: PositiveInt = Field(32, le=10**6, description="value heads")
    key_heads: PositiveInt | None = Field(None, le=10**6, description="key heads [default: heads]")
    head_dim: PositiveInt = Field(128, le=10**6, description="key and query dimension per head")
    value_dim: PositiveInt | None = Field(
        None, le=10**6, description="value dimension per head [default: head-dim]"
    )
    cu_seqlens: tuple[int, ...] | None = Field(
        None, description="cumulative sequence lengths 0,500,...: sequences of unequal length"
    )
    context: NonNegativeInt = Field(
        0, le=MOST, description="attention: keys in the cache before the tokens of each sequence"
    )
    matrices: PositiveInt | None = Field(
        None, le=MOST, description="number of matrices, instead of sequences"
    )
    initial_state: bool = Field(False, description="begin each sequence with a given state instead of zeros")
    decay: Decay = Field(
        "head",
        description="gdn kernels: what has a gate of its own: a head (Gated DeltaNet), a channel of the "
        "keys (Kimi Delta Attention), or none (DeltaNet)",
    )
    rotary: PositiveInt | None = Field(
        None, le=10**6, description="rotated part of each head [default: a quarter of head-dim]"
    )
    m: PositiveInt = Field(1024, le=10**9, description="rows; of matmul those of the result, of micro trips")
    n: PositiveInt = Field(
        1024, le=10**9, description="columns; of matmul those of the result, of causal-conv1d channels"
    )
    k: PositiveInt = Field(1024, le=10**6, description="matmul: terms of each sum")
    width: PositiveInt = Field(4, le=64, description="causal-conv1d: tokens that a result depends on")
    experts: PositiveInt = Field(64, le=10**4, description="mixture of experts: experts")
    active: PositiveInt = Field(8, le=10**3, description="mixture of experts: experts of each token")
    skew: float = Field(
        0.0,
        ge=0,
        le=10,
        allow_inf_nan=False,
        description="mixture of experts: exponent of a Zipf distribution of tokens over experts; 0 is even",
    )
    dtype: OperandName = Field(
        "fp16", description="dtype of the operands: fp16, bf16, fp32, fp64, fp8_e4m3, int16, int8, int4"
    )

    @field_validator("cu_seqlens", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """'0,500,1200' as the command line gives it."""
        if not isinstance(value, str):
            return value
        try:
            return tuple(int(part) for part in value.split(","))
        except ValueError:
            raise ValueError(f"{value!r} is not a list of whole numbers: 0,500,1200") from None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if "heads" in self.model_fields_set and self.heads % self.kv_heads:
            raise ValueError(f"key_heads: {self.heads} heads are no multiple of {self.kv_heads} key heads")
        ends = self.cu_seqlens
        if ends is not None and (
            len(ends) < 2 or ends[0] != 0 or any(b <= a for a, b in itertools.pairwise(ends))
        ):
            raise ValueError(f"cu_seqlens: must start at 0 and increase (0,500,1200), got {_list(ends)}")
        if ends is not None and ends[-1] > MOST:
            raise ValueError(f"cu_seqlens: must end at <= {MOST:g} tokens, got {ends[-1]}")
        if self.total > MOST:
            raise ValueError(
                f"{self.total:.3g} matrices are more than {MOST:g}; lower --batch, --seq-len or --heads"
            )
        return self

    @property
    def idle(self) -> tuple[tuple[str, ...], str]:
        """The sizes that say nothing, as the matrices are counted in another way, and which way that is."""
        if self.matrices is not None:
            names = ("batch", "seq_len", "heads", "key_heads", "cu_seqlens")
            return names, "the problem is given by --matrices"
        if self.cu_seqlens is not None:
            return ("batch", "seq_len", "matrices"), "the sequences are given by --cu-seqlens"
        return ("cu_seqlens", "matrices"), "the problem is given by --batch and --seq-len"

    @property
    def kv_heads(self) -> int:
        return self.key_heads or self.heads

    @property
    def state_dims(self) -> tuple[int, int]:
        """Dk, Dv of a head's state."""
        return self.head_dim, self.value_dim or self.head_dim

    @cached_property
    def sequences(self) -> tuple[int, ...]:
        """Tokens of each sequence."""
        if self.cu_seqlens is None:
            return (self.seq_len,) * self.batch
        return tuple(b - a for a, b in zip(self.cu_seqlens, self.cu_seqlens[1:], strict=False))

    @property
    def chunk_counts(self) -> tuple[int, ...]:
        """Chunks of each sequence."""
        return tuple(-(-tokens // self.chunk) for tokens in self.sequences)

    @property
    def shape(self) -> tuple[int, int]:
        """Chunks over all sequences, and heads; matrices are numbered with the head fastest."""
        if self.matrices is not None:
            return self.matrices, 1
        if self.cu_seqlens is None:
            return self.batch * -(-self.seq_len // self.chunk), self.heads
        return sum(self.chunk_counts), self.heads

    @property
    def total(self) -> int:
        """Number of chunk x chunk matrices."""
        return self.shape[0] * self.shape[1]


Schedule = Literal["doubling", "horner", "naive"]
Scaling = Literal["uniform", "per-tile"]


class Options(Settings):
    """How the kernel is built. None: the algorithm's own default."""

    algorithm: str | None = Field(
        None, description="algorithm; of gdn-fused that of its inverse [default: mxr]"
    )
    variant: str | None = Field(
        None, description="structure of the kernel [default: on Ascend the measured one]"
    )
    order: Terms | None = Field(
        None,
        description="N: terms of the truncated Neumann series",
        json_schema_extra={"option": "--neumann-terms"},
    )
    steps: Terms | None = Field(
        None,
        description="S: terms E^0..E^(S-1) of the residual correction; 1 means no correction",
        json_schema_extra={"option": "--correction-terms"},
    )
    mask: bool | None = Field(None, description="keep only the exact sub-diagonals of the start")
    schedule: Schedule | None = Field(
        None, description="order of the products in the correction: doubling, horner or naive"
    )
    mask_edge: Literal["exclusive", "inclusive"] | None = Field(
        None, description="exclusive: the mask keeps sub-diagonals 0..N-1; inclusive: 0..N"
    )
    mask_on: Literal["vector", "start", "kkt"] | None = Field(
        None,
        description="where the masked start is formed: vector, between the products; start, by the vector "
        "unit before them; kkt, by the stage that makes L",
    )
    block: PositiveInt | None = Field(
        None,
        le=LARGEST_CHUNK,
        description="edge of the diagonal blocks that are inverted first and then merged",
    )
    scaling: Scaling | None = Field(
        None,
        description="scales of operands in few bits: uniform, one for all; per-tile, for each tile, each "
        "power and each running sum its own [default: uniform]",
    )
    scaled_for: float | None = Field(
        None,
        gt=0,
        le=1,
        description="scaling per-tile: magnitude of L in the chunk, alike in all its places, whose powers "
        "and sums the scales reach; more saturates less and is coarser [default: 0.13]",
    )
    iterations: PositiveInt | None = Field(
        None, le=64, description="newton-schulz: iterations [default: as many as are exact]"
    )
    fractals: bool | None = Field(
        None, description="leave out products and copies of 16x16 fractals that are zero"
    )
    qk_norm: bool | None = Field(
        None, description="gdn-fused, gdn-recurrent: L2-normalise queries and keys inside [default: yes]"
    )
    exchange: Literal["rounded", "accumulated"] | None = Field(
        None,
        description="stages of a gated delta net: products go to the vector cores rounded to the dtype, or "
        "as they were accumulated [default: rounded, as measured; bf16: accumulated]",
    )
    causal: bool | None = Field(
        None, description="attention: a token sees no later one, or all of its sequence [default: yes]"
    )
    tile_m: PositiveInt | None = Field(
        None, le=4096, description="rows of a tile [default: as fits; tiled reads: 64]"
    )
    tile_n: PositiveInt | None = Field(
        None, le=4096, description="columns of a tile [default: as fits; tiled reads: 64]"
    )
    tile_k: PositiveInt | None = Field(
        None, le=4096, description="matmul: terms of a product [default: as fits]"
    )
    slots: PositiveInt | None = Field(None, le=1024, description="buffers per tile: 2 = double buffered")
    swizzle: PositiveInt | None = Field(
        None, le=4096, description="matmul: rows of tiles taken together [default: as shares most in L2]"
    )
    out_dtype: DtypeName | None = Field(None, description="dtype of the result in global memory")


@dataclass(frozen=True)
class Target:
    """The little of a machine that an algorithm may see: what there is, not what it costs."""

    family: str
    groups: int
    vector_cores: int
    level_bytes: dict[str, int]
    level_memory: dict[str, str]
    paths: frozenset[tuple[str, str]]
    cube_dtypes: frozenset[str]
    quantises: frozenset[tuple[str, str]] = frozenset()
    """(level, 'int32->int8'): what a move out of L0C to that level makes as it moves"""

    @classmethod
    def of(cls, machine: Machine) -> Self:
        paths = (tuple(key.upper().split("_")) for key in machine.paths)
        return cls(
            family=machine.family,
            groups=machine.core.groups.value,
            vector_cores=machine.core.vector_cores.value,
            level_bytes={name: level.bytes.value for name, level in machine.levels.items()},
            level_memory={name: level.memory or name for name, level in machine.levels.items()},
            paths=frozenset((start, end) for start, end in paths),
            cube_dtypes=frozenset(machine.core.cube.k0),
            quantises=frozenset(
                (key.upper().split("_")[1], change)
                for key, path in machine.paths.items()
                for change in path.quantise_cycles
            ),
        )

    @staticmethod
    def sees(path: str) -> bool:
        """Whether the number at `path` of a machine is one that an algorithm may see."""
        return path in ("core.groups", "core.vector_cores") or fnmatch(path, "levels.*.bytes")

    def same_memory(self, a: str, b: str) -> bool:
        """Both levels are one memory, so a plain move between them is no work."""
        return "GM" not in (a, b) and self.level_memory[a] == self.level_memory[b]
