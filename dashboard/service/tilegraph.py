"""The tile graph as it is drawn: operations, what each depends on, and what each costs and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from npusim.cost import FRACTAL, Terms
from npusim.graph import Access, Kernel, Operation, View
from npusim.lower import lower
from npusim.machine import Machine, Quantity, quantities
from npusim.ops import OpKind
from npusim.program import Instance, PhaseProgram, Trips, Use
from npusim.text import operation_text
from npusim.units import unit_of

Kind = Literal["read", "stream", "reuse"]


@dataclass(frozen=True)
class Term:
    """One part of a cost: the profile's number, how often it counts, and the cycles that it comes to."""

    part: Literal["occupancy", "latency"]
    field: str
    formula: str
    cycles: float
    evidence: str
    source: str


@dataclass(frozen=True)
class Operand:
    """A tile or a tensor that an operation reads or writes."""

    role: Literal["reads", "writes", "uses"]
    name: str
    place: str
    shape: str
    dtype: str
    slots: int


@dataclass(frozen=True)
class Node:
    """An operation. `layer` is its column: behind all that it depends on and all before it on its unit."""

    number: int
    name: str
    kind: str
    unit: str
    text: str
    layer: int
    occupancy: float
    latency: float
    instructions: int
    operands: tuple[Operand, ...]
    terms: tuple[Term, ...]
    shares: tuple[str, ...]
    """what it shares with other transfers: hbm, l2, l1"""


@dataclass(frozen=True)
class Edge:
    """`target` waits for `source`: it reads its result (or streams from it), or takes the slot that it read
    (reuse). `distance`: trips of a loop between the two."""

    source: int
    target: int
    kind: Kind
    distance: int


@dataclass(frozen=True)
class Block:
    """A loop, over the columns [first, last]."""

    title: str
    first: int
    last: int
    depth: int


@dataclass(frozen=True)
class PhaseGraph:
    """A phase of a kernel, ready to be drawn. `of`: the node of each instance, where it has one."""

    name: str
    units: tuple[str, ...]
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    blocks: tuple[Block, ...]
    of: dict[int, int]


@dataclass(frozen=True)
class Graph:
    """All phases of a kernel."""

    kernel: Kernel
    machine: Machine
    phases: tuple[PhaseGraph, ...]


def graph_of(kernel: Kernel, machine: Machine) -> Graph:
    """The tile graph of a kernel, costed on a machine."""
    program = lower(kernel, machine)
    return Graph(kernel, machine, tuple(_Walk(phase, machine).graph() for phase in program.phases))


Visit = tuple[int, tuple[int, ...]]
"""an operation, and the trips of the loops around it"""


@dataclass
class _Version:
    """What a buffer holds: who wrote it, and who has read it."""

    writers: list[Visit] = field(default_factory=list)
    readers: list[Visit] = field(default_factory=list)


class _Walk:
    """Walks the loops of a phase, two trips of each, so that what one trip leaves to the next is seen."""

    def __init__(self, phase: PhaseProgram, machine: Machine) -> None:
        self.phase, self.machine = phase, machine
        self.known = quantities(machine)
        self.number: dict[Any, int] = {}
        """of an operation, by which its instances on several cores are one"""
        self.first: list[Instance] = []
        self.versions: dict[int, list[_Version]] = {}
        self.edges: dict[tuple[int, int, Kind], int] = {}
        self.layer: dict[int, int] = {}
        self.blocks: list[Block] = []
        self.lane_layer: dict[int, int] = {}
        self.floor = 0

    def graph(self) -> PhaseGraph:
        self._body(self.phase.body, (), True)
        nodes = tuple(self._node(number, instance) for number, instance in enumerate(self.first))
        used = {node.unit for node in nodes}
        units = tuple(unit for unit in self.machine.units if unit in used)
        edges = tuple(Edge(a, b, kind, apart) for (a, b, kind), apart in self.edges.items())
        of = {i.number: self.number[_key(i)] for i in self.phase.instances if _key(i) in self.number}
        return PhaseGraph(self.phase.name, units, nodes, edges, tuple(self.blocks), of)

    def _body(self, body: tuple[int | Trips, ...], trips: tuple[int, ...], fresh: bool) -> None:
        for part in body:
            if isinstance(part, Trips):
                self._loop(part, trips, fresh)
            else:
                self._visit(self.phase.instances[part], trips, fresh)

    def _loop(self, loop: Trips, trips: tuple[int, ...], fresh: bool) -> None:
        start = self.floor = self._next()
        self._body(loop.body, (*trips, 0), fresh)
        last = self._next() - 1
        if fresh and last >= start and not loop.resumes:
            low, high = int(loop.count.min()), int(loop.count.max())
            count = f"{high}" if low == high else f"{low} to {high}"
            what = f"loop × {count}" if loop.first_item is None else f"items: {count} trips a core group"
            self.blocks.append(Block(what, start, last, len(trips)))
        self._body(loop.body, (*trips, 1), False)
        self.floor = self._next()

    def _next(self) -> int:
        return max(self.layer.values(), default=self.floor - 1) + 1

    def _visit(self, instance: Instance, trips: tuple[int, ...], fresh: bool) -> None:
        key = _key(instance)
        if key not in self.number:
            self.number[key] = len(self.first)
            self.first.append(instance)
        own = self.number[key]
        for use in instance.uses:
            self._use(own, trips, *use)
        if own not in self.layer:
            before = [
                self.layer[a] for a, b, kind in self.edges if b == own and kind != "reuse" and a in self.layer
            ]
            lane = self.lane_layer.get(instance.lane, -1)
            self.layer[own] = max([self.floor, lane + 1, *(column + 1 for column in before)])
            self.lane_layer[instance.lane] = self.layer[own]

    def _use(self, own: int, trips: tuple[int, ...], buffer: int, use: Use, back: int) -> None:
        held = self.versions.setdefault(buffer, [])
        if use in (Use.read, Use.stream):
            if len(held) > back:
                version = held[-1 - back]
                kind: Kind = "stream" if use is Use.stream else "read"
                self._edges(version.writers, own, trips, kind)
                version.readers.append((own, trips))
            return
        if use is Use.write or not held:
            slots = self.phase.slots[buffer]
            if len(held) >= slots:
                self._edges(held[-slots].readers, own, trips, "reuse")
            held.append(_Version())
            del held[: -slots - 4]
        else:
            self._edges(held[-1].writers[-1:], own, trips, "read")
            self._edges(held[-1].readers, own, trips, "reuse")
        held[-1].writers.append((own, trips))

    def _edges(self, sources: list[Visit], own: int, trips: tuple[int, ...], kind: Kind) -> None:
        for source, there in sources:
            if source == own:
                continue
            apart = sum(abs(a - b) for a, b in zip(trips, there, strict=False))
            key = (source, own, kind)
            self.edges[key] = min(self.edges.get(key, apart), apart)

    # --- one operation ---------------------------------------------------------------------------

    def _node(self, number: int, instance: Instance) -> Node:
        op, cost = instance.operation, instance.cost
        pools = {pool for flow in instance.flows for pool in flow.pools}
        return Node(
            number, instance.name, str(op.kind) if op else "scalar", self.phase.lanes[instance.lane].unit,
            operation_text(op) if op else instance.name, self.layer[number], cost.occupancy, cost.latency,
            cost.instructions, tuple(_operands(op)) if op else (),
            (
                *self._terms("occupancy", cost.terms, op, cost.instructions),
                *self._terms("latency", cost.latency_terms, op, cost.instructions),
            ),
            tuple(pool for pool in ("hbm", "l2", "l1") if pool in pools),
        )  # fmt: skip

    def _terms(
        self, part: Literal["occupancy", "latency"], terms: Terms, op: Operation | None, instructions: int
    ) -> Iterator[Term]:
        for path, cycles in terms:
            number = self.known.get(path)
            if number is None or not cycles:
                continue
            source = self.machine.sources.get(number.source, number.source)
            said = self._formula(path, cycles, number, op)
            yield Term(part, path, said, cycles, str(number.evidence), source)

    def _formula(self, path: str, cycles: float, number: Quantity[Any], op: Operation | None) -> str:
        """How the number came to these cycles, with the values filled in."""
        value = number.value
        if path.startswith("core.cube.k0"):
            return _steps(op, value, cycles)
        if path.endswith("bytes_per_cycle"):
            return f"{cycles * value:,.0f} B / {value:g} B/cycle"
        if path.endswith("half_rate_bytes"):
            rate = self.known[path.replace("half_rate_bytes", "bytes_per_cycle")].value
            times = cycles * rate / value if value else 0
            return f"{_times(times)}{value:g} B / {rate:g} B/cycle"
        unit = unit_of(path)
        return f"{_times(cycles / value if value else 0)}{value:g} {unit}".strip()


def _key(instance: Instance) -> Any:
    """What instances of one operation share."""
    return instance.operation if instance.operation is not None else instance.number


def _times(count: float) -> str:
    return "" if abs(count - 1) < 1e-9 else f"{count:,.6g} × "


def _steps(op: Operation | None, k0: int, cycles: float) -> str:
    """The fractal steps of a product."""
    shape = product(op)
    if op is None or shape is None:
        return f"steps of {FRACTAL} × {FRACTAL} × {k0}"
    m, n, k = shape
    if any(mask is not None for mask in op.fractals):
        return f"{cycles:g} cycles of non-zero fractals of {m} × {n} × {k}"
    return f"⌈{m}/{FRACTAL}⌉ × ⌈{n}/{FRACTAL}⌉ × ⌈{k}/{k0}⌉ cycles"


def product(op: Operation | None) -> tuple[int, int, int] | None:
    """The sizes m, n and k of a product; None for what is none."""
    ends = [end for end in op.srcs if isinstance(end, View)] if op else []
    if op is None or op.kind is not OpKind.matmul or len(ends) < 2 or not isinstance(op.dst, View):
        return None
    (m, n), sides = op.dst.shape, ends[0].shape
    return m, n, sides[0] if op.transpose and op.transpose[0] else sides[1]


def _operands(op: Operation) -> Iterator[Operand]:
    """The tiles and tensors of an operation, what it writes first."""
    ends = [("writes", op.dst), *(("reads", src) for src in op.srcs)]
    for role, end in ends:
        if isinstance(end, View):
            tile = end.tile
            yield Operand(role, str(end), tile.level, _shape(end.shape), tile.dtype, tile.slots)  # type: ignore[arg-type]
        elif isinstance(end, Access):
            yield Operand(role, str(end), "GM", _shape(end.shape), end.tensor.dtype, 1)  # type: ignore[arg-type]
    named = {end.tile for _, end in ends if isinstance(end, View)}
    for view in op.views:
        if view.tile not in named:
            tile = view.tile
            yield Operand("uses", tile.name, tile.level, _shape(tile.shape), tile.dtype, tile.slots)


def _shape(shape: tuple[int, ...]) -> str:
    return " × ".join(str(size) for size in shape)
