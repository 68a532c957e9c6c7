"""The tile graph: what must happen. One description that is both timed and executed.

A Kernel is a sequence of phases with a barrier over all cores between them. A phase is a tree of
operations, loops, and `Items`: the independent pieces of work that are dealt to the cores.
Nothing here states a dependence; they follow from the order in which tiles are written and read.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from npusim.arguments import positive, whole, wrong
from npusim.ops import OpKind

Bools = npt.NDArray[np.bool_]
Place = Literal["cube", "rows", "replicate", "first", "second"]
"""Which cores of a group hold a tile: the cube core; each vector core its share of the rows; every
vector core a full copy; or one vector core alone."""
Deal = Literal["cyclic", "contiguous"] | tuple[int, int]
"""To core groups in turn; in runs; or (r, c): groups form an r x c grid, group i has the block i mod r of
the first axis and i div r of the second."""


@dataclass(frozen=True)
class Index:
    """An affine expression of loop variables: const + sum(factor * variable).

    It is no number while the graph is built, once for all trips: what asks for its value is a GraphError.
    """

    const: int = 0
    terms: tuple[tuple[str, int], ...] = ()

    def _unknown(self, *_: Any) -> Any:
        raise wrong(
            f"index {self} is not known while the graph is built: it can only be added to and multiplied; "
            "use first= or last= of k.loop, or a table of counts"
        )

    __bool__ = __int__ = __float__ = __index__ = __round__ = _unknown
    __lt__ = __le__ = __gt__ = __ge__ = _unknown
    __floordiv__ = __rfloordiv__ = __truediv__ = __rtruediv__ = __mod__ = __rmod__ = _unknown
    __divmod__ = __rdivmod__ = __pow__ = __and__ = __or__ = __xor__ = __lshift__ = __rshift__ = _unknown

    def __eq__(self, other: object) -> bool:
        """Whether two expressions are the same; nothing else can be told of an index."""
        if not isinstance(other, Index):
            self._unknown()
        return isinstance(other, Index) and (self.const, self.terms) == (other.const, other.terms)

    def __add__(self, other: int | Index) -> Index:
        if not isinstance(other, Index):
            return Index(self.const + whole("what is added to an index", other), self.terms)
        merged = dict(self.terms)
        for name, factor in other.terms:
            merged[name] = merged.get(name, 0) + factor
        return Index(self.const + other.const, tuple((n, f) for n, f in merged.items() if f))

    __radd__ = __add__

    def __mul__(self, factor: int) -> Index:
        factor = whole("the factor of an index", factor)
        return Index(self.const * factor, tuple((n, f * factor) for n, f in self.terms))

    __rmul__ = __mul__

    def __sub__(self, other: int | Index) -> Index:
        return self + other * -1

    def __rsub__(self, other: int) -> Index:
        return self * -1 + other

    def evaluate(self, env: Mapping[str, Any]) -> Any:
        """The value with the variables of `env` (ints, or arrays over a batch of items)."""
        return self.const + sum(env[name] * factor for name, factor in self.terms)

    def __str__(self) -> str:
        parts = [name if factor == 1 else f"{factor}*{name}" for name, factor in self.terms]
        if self.const or not parts:
            parts.append(str(self.const))
        return "+".join(parts).replace("+-", "-")


START = Index()
"""where most rectangles begin"""


def as_index(value: int | Index) -> Index:
    if value.__class__ is int and not value:
        return START
    return value if isinstance(value, Index) else Index(whole("a position", value))


@dataclass(frozen=True)
class Tensor:
    """An array in global memory: leading axes, then the rows and columns that tiles are cut from."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    role: Literal["input", "output", "constant", "workspace"]
    """a workspace is what one phase stores and a later one loads"""
    pitch: int
    """elements from one row to the next; equal to the columns where rows are adjacent"""
    scale: float = 1.0
    value: npt.NDArray[np.float64] | None = field(default=None, compare=False)

    def at(
        self,
        *lead: int | Index,
        row: int | Index = 0,
        rows: int | None = None,
        col: int | Index = 0,
        cols: int | None = None,
    ) -> Access:
        """The block of `rows` x `cols` at `row`, `col` of the matrix at leading index `lead`."""
        return Access(
            self,
            tuple(as_index(i) for i in lead),
            as_index(row),
            self.shape[-2] if rows is None else whole("rows", rows),
            as_index(col),
            self.shape[-1] if cols is None else whole("cols", cols),
        )


@dataclass(frozen=True)
class Access:
    """A rectangle of a tensor; `lead`, `row` and `col` are affine in the loop variables."""

    tensor: Tensor
    lead: tuple[Index, ...]
    row: Index
    rows: int
    col: Index
    cols: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows, self.cols

    def __str__(self) -> str:
        text = ", ".join(str(i) for i in self.lead)
        whole = self.shape == self.tensor.shape[-2:] and self.row == self.col == Index()
        window = "" if whole else f"; {_span(self.row, self.rows)}, {_span(self.col, self.cols)}"
        return f"{self.tensor.name}[{text}{window}]"


@dataclass(frozen=True, eq=False)
class Tile:
    """A buffer at a memory level with `slots` copies that successive writes go round."""

    name: str
    level: str
    shape: tuple[int, int]
    dtype: str
    slots: int = 1
    place: Place = "cube"
    scale: float = 1.0
    """real values are what is stored times this: for integers the value of one unit in the last place"""
    where: str = ""
    """'path:line' where a user's own kernel says so"""

    def view(
        self, row: int | Index = 0, rows: int | None = None, col: int | Index = 0, cols: int | None = None
    ) -> View:
        """A rectangle of the tile's latest version."""
        return View(
            self,
            as_index(row),
            self.shape[0] if rows is None else whole("rows", rows),
            as_index(col),
            self.shape[1] if cols is None else whole("cols", cols),
        )

    def scaled(self, scale: float) -> View:
        """The whole tile, what it holds counted in another unit: a buffer of operands takes each at the scale
        it comes with."""
        unit = None if scale == self.scale else positive("scale", scale)
        return View(self, START, self.shape[0], START, self.shape[1], unit=unit)

    @cached_property
    def all(self) -> View:
        """Its latest version, whole, to look at: an operation that uses it has a view of its own."""
        return self.view()


@dataclass(frozen=True)
class View:
    """A rectangle of a tile, `back` versions before the latest."""

    tile: Tile
    row: Index
    rows: int
    col: Index
    cols: int
    back: int = 0
    unit: float | None = None
    """the scale of this version, where it is not the tile's own"""

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows, self.cols

    @property
    def scale(self) -> float:
        """Real values are what is stored times this."""
        return self.tile.scale if self.unit is None else self.unit

    @property
    def whole(self) -> bool:
        return self.shape == self.tile.shape and not (self.row.const or self.col.const)

    def __str__(self) -> str:
        window = "" if self.whole else f"[{_span(self.row, self.rows)}, {_span(self.col, self.cols)}]"
        unit = "" if self.unit is None else f" scale {self.unit:g}"
        return f"{self.tile.name}{window}{f'@-{self.back}' if self.back else ''}{unit}"


def _span(start: Index, size: int) -> str:
    return f"{start}:+{size}"


@dataclass(frozen=True, eq=False)
class Operation:
    """One tile operation. `into`: the write keeps the version (accumulation, partial fill, in place)."""

    kind: OpKind
    dst: View | Access | None
    srcs: tuple[View | Access, ...]
    function: str = ""
    immediate: float | None = None
    into: bool = False
    adds: bool = False
    """a product that is added to what stands there"""
    stream: bool = False
    """starts with its source's producer and ends no earlier, instead of waiting for it"""
    transpose: tuple[bool, ...] = ()
    fractals: tuple[Bools | None, ...] = ()
    """per source: which 16x16 fractals are non-zero (product) or taken (move); None: all"""
    scratch: Tile | None = None
    """a tile the instructions use in between; it only takes room"""
    sets: Tile | None = None
    """a flag that a load or store sets: it waits until the readers of the flag's last setting are done"""
    after: View | None = None
    """a flag that a load or store waits for"""
    on: str = ""
    """core, unit or scope of a scalar, wait or barrier operation"""
    label: str = ""
    where: str = ""
    """'path:line' where a user's own kernel says so"""

    @cached_property
    def views(self) -> tuple[View, ...]:
        """The tile views it reads and writes."""
        found = [end for end in (self.dst, *self.srcs) if isinstance(end, View)]
        found += [tile.all for tile in (self.scratch, self.sets) if tile is not None]
        return (*found, self.after) if self.after is not None else tuple(found)

    @cached_property
    def signature(self) -> Hashable:
        """Equal for operations of a kernel that differ in nothing but their place in its tree; of one that
        touches a tensor itself, as it matters where in the tree it does so."""
        ends = [end for end in (self.dst, *self.srcs) if isinstance(end, View)]
        if len(ends) < len(self.srcs) + (self.dst is not None) or "GM" in [v.tile.level for v in ends]:
            return self
        views = [
            (v.tile, v.row.const, v.row.terms, v.rows, v.col.const, v.col.terms, v.cols, v.back, v.unit)
            for v in ends
        ]
        # masks are known by their places: all of them live as long as the kernel does
        return (
            self.kind, self.function, self.immediate, self.into, self.adds, self.stream, self.transpose,
            tuple(map(id, self.fractals)), self.scratch, self.sets, self.after, self.on, self.label,
            self.dst is None, *views,
        )  # fmt: skip

    @property
    def name(self) -> str:
        """How reports call it: the label, or the kind and destination."""
        if self.label:
            return self.label
        target = self.dst.tile.name if isinstance(self.dst, View) else ""
        if isinstance(self.dst, Access):
            target = self.dst.tensor.name
        return " ".join(part for part in (self.function or str(self.kind), target) if part)


@dataclass(frozen=True, eq=False)
class Loop:
    """`count` trips of `body`; a table gives the count per item of the enclosing `Items`."""

    var: str
    count: int | npt.NDArray[np.int64]
    body: tuple[Node, ...]
    where: str = ""
    """'path:line' where a user's own kernel says so"""


@dataclass(frozen=True, eq=False)
class Items:
    """Independent pieces of work, numbered row-major over `axes`, dealt to the cores in groups.

    A trip of `body` handles `group` consecutive items; a last, ragged trip runs `ragged`. The
    variables of item j of a trip are 'axis.j' ('axis' where group is 1). `tables`: for some axes a number
    for each of its values, as variable 'axis.of' (dealt one by one only).
    """

    axes: tuple[tuple[str, int], ...]
    group: int
    deal: Deal
    body: tuple[Node, ...]
    ragged: tuple[Node, ...] = ()
    where: str = ""
    """'path:line' where a user's own kernel says so"""
    tables: tuple[tuple[str, npt.NDArray[np.int64]], ...] = ()

    @property
    def total(self) -> int:
        return int(np.prod([size for _, size in self.axes], dtype=np.int64))

    def variables(self, trip: Any, group: int) -> dict[str, Any]:
        """Values of all item variables in trip number(s) `trip` of a body that handles `group`."""
        sizes = tuple(size for _, size in self.axes)
        env: dict[str, Any] = {}
        for j in range(group):
            places = np.unravel_index(np.asarray(trip) * self.group + j, sizes)
            for (name, _), place in zip(self.axes, places, strict=True):
                env[item_variable(name, j, group)] = place
        for name, table in self.tables:
            env[table_variable(name)] = table[env[name]]
        return env


def item_variable(axis: str, j: int, group: int) -> str:
    return axis if group == 1 else f"{axis}.{j}"


def table_variable(axis: str) -> str:
    """The variable that holds what a table of the axis gives."""
    return f"{axis}.of"


Node = Operation | Loop | Items
Fault = tuple[Node, str]
"""what breaks a rule: the node to blame, and the message"""


@dataclass(frozen=True, eq=False)
class Phase:
    """Runs on every core group, or (over 'vector') with the vector cores as groups of their own."""

    name: str
    over: Literal["group", "vector"]
    nodes: tuple[Node, ...]

    @cached_property
    def operations(self) -> tuple[Operation, ...]:
        """Every operation of its tree once, in program order."""
        return tuple(operations(self.nodes))

    @cached_property
    def distinct(self) -> tuple[Operation, ...]:
        """Of operations of one signature the first."""
        found: dict[Hashable, Operation] = {}
        for op in self.operations:
            found.setdefault(op.signature, op)
        return tuple(found.values())


@dataclass(frozen=True, eq=False)
class Kernel:
    """A tile graph. `dtype` is that of the operands; `settings` are the parameters it was built with."""

    name: str
    algorithm: str
    variant: str
    dtype: str
    tensors: tuple[Tensor, ...]
    tiles: tuple[Tile, ...]
    phases: tuple[Phase, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    where: str = ""
    """the file of a user's own kernel"""

    def tensor(self, name: str) -> Tensor:
        return next(tensor for tensor in self.tensors if tensor.name == name)

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return tuple(tensor for tensor in self.tensors if tensor.role == "output")


def operations(nodes: tuple[Node, ...]) -> Iterator[Operation]:
    """Every operation of a tree once, in program order (ragged trips after full ones)."""
    for node in nodes:
        if isinstance(node, Operation):
            yield node
        elif isinstance(node, Loop):
            yield from operations(node.body)
        else:
            yield from operations(node.body)
            yield from operations(node.ragged)
