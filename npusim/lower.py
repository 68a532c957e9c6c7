"""Lowering: Kernel + Machine -> Program, the one input of an engine."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from npusim import cost
from npusim.check import check
from npusim.cost import Cost
from npusim.dtypes import dtype, takes_scale
from npusim.errors import GraphError, Unsupported
from npusim.graph import Access, Items, Kernel, Loop, Node, Operation, Phase, Place, Tile, View
from npusim.machine import Machine
from npusim.ops import VECTOR, OpKind
from npusim.problem import L2State, Target
from npusim.program import Flow, Instance, Lane, PhaseProgram, Program, Role, Trips, Use, on_grid
from npusim.reuse import Reuse
from npusim.where import blaming

Lowered = tuple[Instance, tuple[tuple[int, Use, int], ...]]
"""an operation on a core, and its uses of buffers"""
BYTE_FUNCTIONS = ("cast", "quantise", "copy", "fill", "col_broadcast")
"""vector functions that take elements below 16 bits (PyPTO times arithmetic for 16 and 32 bits only)"""


def lower(
    kernel: Kernel, machine: Machine, held: Mapping[str, float] | None = None, l2: L2State = "dirty"
) -> Program:
    """Check `kernel` against the machine and lower it; `held`: the share of each input that kernels before
    it left in L2 (by default none); `l2`: what else is there. Raises GraphError or Unsupported."""
    check(kernel, Target.of(machine))
    lowerings = [_PhaseLowering(kernel, phase, machine) for phase in kernel.phases]
    streams = [one.streams for one in lowerings]
    capacity = machine.memory.l2_bytes.value
    reuse = Reuse(kernel, streams, capacity, held, dirty=l2 != "clean")
    if l2 == "warm" and reuse.holds_all:
        reuse = Reuse(kernel, streams, capacity, {tensor.name: 1.0 for tensor in kernel.tensors})
    phases = tuple(one.program(reuse) for one in lowerings)
    pools = {name: machine.pool_bytes_per_cycle(name) for name in ("hbm", "l2")}
    if machine.core.l1_port_bytes_per_cycle:
        pools["l1"] = machine.core.l1_port_bytes_per_cycle.value
    used = {phase.lanes[instance.lane].unit[:3] for phase in phases for instance in phase.instances}
    return Program(
        kernel, machine, phases, pools,
        barrier_cycles=on_grid(cost.barrier(machine, "all").occupancy),
        issue_cycles=on_grid(machine.core.scalar.issue_cycles.value),
        queue_depth=machine.core.scalar.queue_depth.value,
        mixed={"aic", "aiv"} <= used and not machine.fused,
    )  # fmt: skip


class _PhaseLowering:
    """Lowers one phase; holds the tables it fills."""

    def __init__(self, kernel: Kernel, phase: Phase, machine: Machine) -> None:
        self.kernel, self.phase, self.machine = kernel, phase, machine
        split = not machine.fused
        self.vector_cores = machine.core.vector_cores.value if split and phase.over == "group" else 1
        if not split:
            self.cores: tuple[str, ...] = ("core",)
        elif phase.over == "vector":
            self.cores = ("aiv",)
        else:
            self.cores = ("aic", *(f"aiv{i}" for i in range(self.vector_cores)))
        self.lanes = tuple(
            Lane(core, unit) for core, name in enumerate(self.cores) for unit in machine.units
            if name == "core" or unit.startswith(name[:3])
        )  # fmt: skip
        self.lane_of = {(lane.core, lane.unit): i for i, lane in enumerate(self.lanes)}
        self.buffers: dict[tuple[Tile, int], int] = {}
        self.instances: list[Instance] = []
        self.available = machine.core.groups.value
        if split and phase.over == "vector":
            self.available *= machine.core.vector_cores.value
        self.streams = self._streams(phase.nodes)
        # of many operations that are alike, the first is costed
        self.product_cost: Callable[..., Cost] = cache(partial(self._exact, cost.product))
        self.vector_cost: Callable[..., Cost] = cache(partial(self._exact, cost.vector))
        self.transfer_cost: Callable[..., Cost] = cache(partial(self._exact, cost.transfer))
        self.lowered: dict[Hashable, list[Lowered]] = {}
        self.repeated: frozenset[Loop] = frozenset()
        """loops around that are past their first trip, where that makes a difference"""

    def program(self, reuse: Reuse) -> PhaseProgram:
        self.reuse = reuse
        body = self._nodes(self.phase.nodes)
        per_block = self.machine.core.vector_cores.value if self.cores == ("aiv",) else 1
        starts = [on_grid(cost.start_cycles(self.machine, s // per_block)) for s in range(self.streams)]
        slots = [0] * len(self.buffers)
        for (tile, _), number in self.buffers.items():
            slots[number] = tile.slots
        return PhaseProgram(
            self.phase.name, self.cores, self.lanes, self.streams, np.array(starts), self._flags(),
            tuple(slots), tuple(self.instances), body, per_block,
        )  # fmt: skip

    def _flags(self) -> npt.NDArray[np.float64]:
        flags = np.zeros((len(self.lanes), len(self.lanes)))
        for i, a in enumerate(self.lanes):
            for j, b in enumerate(self.lanes):
                if i != j:
                    _, cycles = cost.flag_field(self.machine, a.unit, b.unit, a.core != b.core)
                    flags[i, j] = on_grid(cycles)
        return flags

    # --- structure: dealing and loops ----------------------------------------------------------

    def _streams(self, nodes: Iterable[Node]) -> int:
        """Core groups that get work: as many as the largest `Items` has trips, one without items."""
        items = [node for node in nodes if isinstance(node, Items)]
        grids = [node.deal[0] * node.deal[1] for node in items if not isinstance(node.deal, str)]
        if max(grids, default=0) > self.available:
            with blaming(items[0].where):
                raise Unsupported(
                    f"{self.kernel.name}: a grid of {max(grids)} core groups on a machine of {self.available}"
                )
        trips = [-(-node.total // node.group) for node in items if isinstance(node.deal, str)]
        return max(min(self.available, max(trips, default=1)), *grids, 1)

    def _nodes(self, nodes: tuple[Node, ...]) -> tuple[int | Trips, ...]:
        lowered: list[int | Trips] = []
        for node in nodes:
            if isinstance(node, Operation):
                lowered.extend(self._operation(node))
            elif isinstance(node, Loop):
                lowered.extend(self._loop(node))
            else:
                lowered.extend(self._items(node))
        return tuple(lowered)

    def _loop(self, loop: Loop) -> list[Trips]:
        """The trips of a loop; the first one apart where later ones find in L2 what it brings there."""
        table = np.atleast_1d(np.asarray(loop.count, dtype=np.int64))
        per_item = np.ndim(loop.count) > 0
        if not self.reuse.peels(loop):
            return [Trips(table, self._nodes(loop.body), per_item)]
        first = Trips(np.minimum(table, 1), self._nodes(loop.body), per_item)
        around, self.repeated = self.repeated, self.repeated | {loop}
        later = Trips(np.maximum(table - 1, 0), self._nodes(loop.body), per_item, resumes=True)
        self.repeated = around
        return [first, later]

    def _items(self, items: Items) -> list[Trips]:
        """Full trips, dealt as stated, and the ragged last trip on its core."""
        if not isinstance(items.deal, str):
            return [Trips(self._grid(items, *items.deal), self._nodes(items.body))]
        full = items.total // items.group
        stream = np.arange(self.streams)
        if items.deal == "cyclic":
            counts, first, step = (full - stream + self.streams - 1) // self.streams, stream, self.streams
            last = full % self.streams
        else:
            counts = full // self.streams + (stream < full % self.streams)
            first, step, last = np.concatenate(([0], np.cumsum(counts)[:-1])), 1, self.streams - 1
        trips = [Trips(counts, self._nodes(items.body), False, first, step)]
        if items.ragged:
            trips.append(Trips((stream == last).astype(np.int64), self._nodes(items.ragged)))
        return trips

    def _grid(self, items: Items, rows: int, cols: int) -> npt.NDArray[np.int64]:
        """Trips of each stream on a grid: the size of its block of the two axes, the last ones short."""
        (_, height), (_, width) = items.axes
        tall, wide = -(-height // rows), -(-width // cols)
        stream = np.arange(self.streams)
        own_rows = np.clip(height - stream % rows * tall, 0, tall)
        own_cols = np.clip(width - stream // rows * wide, 0, wide)
        return np.where(stream < rows * cols, own_rows * own_cols, 0).astype(np.int64)

    # --- operations ----------------------------------------------------------------------------

    def _operation(self, op: Operation) -> list[int]:
        """The instances of a tile operation, one per core that takes part."""
        first = len(self.instances)
        with blaming(op.where) if op.where else nullcontext():
            alike = self._alike(op)
        # written out: dataclasses.replace takes as long as all else that is done here
        self.instances.extend([
            Instance(
                one.name, one.lane, one.cost, first + n, op, uses, one.flows, one.role, one.drains, one.holds
            )
            for n, (one, uses) in enumerate(alike)
        ])  # fmt: skip
        return list(range(first, len(self.instances)))

    def _alike(self, op: Operation) -> list[Lowered]:
        """An operation on each core that takes part: lowered once of many that are alike."""
        key = (op.signature, self.repeated)
        if key not in self.lowered:
            self.lowered[key] = [
                (self._instance(op, core), tuple(self._uses(op, core, order)))
                for order, core in enumerate(self._cores_of(op)) if self._takes_part(op, core)
            ]  # fmt: skip
        return self.lowered[key]

    def _cores_of(self, op: Operation) -> list[int]:
        if len(self.cores) == 1:
            return [0]
        if op.on in self.machine.units:
            if op.on.startswith("aic"):
                return [0]
            place = self._place_of(op)
            return self._placed("replicate" if place == "cube" else place)
        if op.on:
            return self._placed(op.on.split(":")[0])
        if op.kind in (OpKind.load, OpKind.store, OpKind.move) and self.phase.over == "group":
            unit = cost.find_path(self.machine, self._path_key(op)).unit
            return [0] if unit.startswith("aic") else self._placed(self._place_of(op))
        return self._placed(self._place_of(op))

    def _takes_part(self, op: Operation, core: int) -> bool:
        """A vector core whose share of the rows is empty has nothing to do."""
        self._whole_rows(op)
        if op.dst is None or op.kind in (OpKind.matmul, OpKind.scalar):
            return True
        return self._rows(op.dst.rows, self._place_of(op), core) > 0

    def _whole_rows(self, op: Operation) -> None:
        """A tile dealt by rows is used by all its rows: a window of rows lies on some of the cores only."""
        for view in op.views:
            window = view.tile.place == "rows" and view.rows != view.tile.shape[0]
            if window and view.tile.level == "UB" and self.vector_cores > 1:
                raise GraphError(
                    "place",
                    f"{self.kernel.name}: {op.name} uses {view.rows} of the {view.tile.shape[0]} rows of "
                    f"{view.tile.name}, whose rows are dealt to {self.vector_cores} vector cores; "
                    "give the tile another place",
                )

    @staticmethod
    def _path_key(op: Operation) -> str:
        ends = (op.srcs[0], op.dst)
        return "_".join(end.tile.level if isinstance(end, View) else "GM" for end in ends).lower()

    @staticmethod
    def _place_of(op: Operation) -> Place:
        """Vector cores take part in what touches UB, the cube core in all else."""
        for end in (op.dst, *op.srcs):
            if isinstance(end, View) and end.tile.level == "UB":
                return end.tile.place
        return "cube"

    def _placed(self, place: str) -> list[int]:
        vectors = list(range(1, 1 + self.vector_cores))
        places: dict[str, list[int]] = {
            "cube": [0], "rows": vectors, "replicate": vectors, "first": vectors[:1], "second": vectors[1:2],
        }  # fmt: skip
        if place not in places:
            raise Unsupported(f"{self.kernel.name}: no place {place!r}; known: {', '.join(places)}")
        if not places[place]:
            raise Unsupported(
                f"{self.kernel.name}: {self.machine.name} has {self.vector_cores} vector core(s) a group, "
                f"and none for what is placed {place!r}"
            )
        return places[place]

    def _uses(self, op: Operation, core: int, order: int) -> Iterable[tuple[int, Use, int]]:
        read = Use.stream if op.stream else Use.read
        for src in op.srcs:
            if isinstance(src, View) and not (
                op.into and isinstance(op.dst, View) and src.tile is op.dst.tile
            ):
                for buffer in self._buffers(src.tile, core):
                    yield buffer, read, src.back
        if isinstance(op.dst, View):
            shared = op.dst.tile.level != "UB"
            mode = Use.join if shared and order else Use.into if op.into else Use.write
            for buffer in self._buffers(op.dst.tile, core):
                yield buffer, mode, 0
        if op.scratch is not None:
            for buffer in self._buffers(op.scratch, core):
                yield buffer, Use.write, 0
        if op.after is not None:
            for buffer in self._buffers(op.after.tile, core):
                yield buffer, Use.read, op.after.back
        if op.sets is not None:
            for buffer in self._buffers(op.sets, core):
                yield buffer, Use.join if order else Use.write, 0

    def _buffers(self, tile: Tile, core: int) -> list[int]:
        """UB is private to a vector core, so another core's operation deals with the buffers of all that
        hold the tile; every other buffer belongs to the group."""
        owners = [-1]
        if tile.level == "UB":
            holders = self._placed(tile.place) if len(self.cores) > 1 else [0]
            owners = [core] if core in holders else holders
        return [self.buffers.setdefault((tile, owner), len(self.buffers)) for owner in owners]

    def _instance(self, op: Operation, core: int) -> Instance:
        if op.kind is OpKind.matmul:
            return self._on(core, "aic_mac", op, self._product(op))
        if op.kind is OpKind.vector:
            return self._vector(op, core)
        if op.kind in (OpKind.load, OpKind.store, OpKind.move):
            return self._transfer(op, core)
        scalar = self.lane_of[core, self._scalar_unit(core)]
        if op.kind is OpKind.barrier:
            scope = op.on.split(":")[1]
            drains = self._drained(core, scope)
            found = cost.barrier(self.machine, scope)
            return Instance(f"barrier {scope}", scalar, found, role=Role.barrier, drains=drains)
        if op.kind is OpKind.wait:
            unit = (core, op.on)
            if unit in self.lane_of:
                return Instance("wait", self.lane_of[unit], Cost(0.0))
            return Instance("wait", scalar, Cost(0.0), role=Role.scalar)
        found = cost.scalar(self.machine, op.function, int(op.immediate or 1))
        return Instance(op.name, scalar, found, role=Role.scalar)

    def _scalar_unit(self, core: int) -> str:
        return "aiv_scalar" if self.cores[core].startswith("aiv") else "aic_scalar"

    def _drained(self, core: int, scope: str) -> tuple[int, ...]:
        units = [lane.unit for lane in self.lanes if lane.core == core and not lane.unit.endswith("scalar")]
        wanted = units if scope == "core" else [scope]
        for unit in wanted:
            if unit not in units:
                name = self.cores[core]
                raise Unsupported(f"{self.kernel.name}: barrier on {unit!r}; {name} has {', '.join(units)}")
        return tuple(self.lane_of[core, unit] for unit in wanted)

    def _on(self, core: int, unit: str, op: Operation, found: Cost, **extra: Any) -> Instance:
        return Instance(op.name, self.lane_of[core, unit], found, **extra)

    def _exact(self, formula: Callable[..., Cost], *sizes: Any, **more: Any) -> Cost:
        """A cost on the grid of times, and no less than it takes to issue the instructions."""
        found = formula(self.machine, *sizes, **more)
        paced = found.instructions * self.machine.core.scalar.issue_cycles.value
        if found.instructions > 1 and paced > found.occupancy:
            wait = paced - found.occupancy
            terms = (*found.terms, ("core.scalar.issue_cycles", wait))
            found = replace(found, occupancy=paced, terms=terms)
        return replace(found, occupancy=on_grid(found.occupancy), latency=on_grid(found.latency))

    def _product(self, op: Operation) -> Cost:
        a, b = (src for src in op.srcs if isinstance(src, View))
        steps = None
        if op.fractals and any(mask is not None for mask in op.fractals):
            shapes = [tuple(cost.fractals(size) for size in view.shape) for view in (a, b)]
            masks = [
                np.ones(shape, dtype=bool) if mask is None else mask
                for mask, shape in zip(op.fractals, shapes, strict=True)
            ]
            steps = int((masks[0].astype(np.int64) @ masks[1].astype(np.int64)).sum())
        return self.product_cost(a.rows, b.cols, a.cols, a.tile.dtype, steps)

    def _rows(self, rows: int, place: Place, core: int) -> int:
        """The rows of an operand that `core` deals with: vector core i of n has its n-th part."""
        if place != "rows" or len(self.cores) == 1:
            return rows
        if core == 0:
            return rows
        return rows // self.vector_cores + (core <= rows % self.vector_cores)

    def _vector(self, op: Operation, core: int) -> Instance:
        dst = op.dst
        assert isinstance(dst, View)
        rows = self._rows(dst.rows, dst.tile.place, core)
        inner = op.srcs[-1].rows if op.srcs else rows
        if op.srcs and VECTOR[op.function].rule != "vecmat":
            inner = self._rows(inner, dst.tile.place, core)
        sizes = [dtype(end.tile.dtype).bytes for end in (dst, *op.srcs) if isinstance(end, View)]
        wide, narrow = max(sizes), min(sizes)
        if narrow < 2 and op.function not in BYTE_FUNCTIONS:
            raise Unsupported(
                f"{self.machine.name}: the vector unit computes on 16 and 32 bits, and {op.name} on fewer; "
                "cast first, or use --no-timing"
            )
        if wide > 4:
            raise Unsupported(f"{self.machine.name}: the vector unit has no fp64; use --no-timing or --dtype")
        reduced = VECTOR[op.function].rule == "to_column"
        cols = op.srcs[0].cols if reduced else dst.cols
        found = self.vector_cost(op.function, rows, cols, inner, wide)
        return self._on(core, "aiv_vec", op, found, holds=VECTOR[op.function].scalar_lockstep)

    def _transfer(self, op: Operation, core: int) -> Instance:
        src, dst = op.srcs[0], op.dst
        assert dst is not None
        if "fp64" in (_dtype(src), _dtype(dst)):
            raise Unsupported(
                f"{self.machine.name}: no unit has fp64 ({op.name}); use --no-timing, --dtype or --out-dtype"
            )
        key = self._path_key(op)
        path = cost.find_path(self.machine, key)
        counted = src if path.charges == "source" else dst
        place = self._place_of(op)
        rows, cols = self._rows(dst.rows, place, core), dst.cols
        if place == "replicate" and core == 0:
            rows *= self.vector_cores
        each = dtype(_dtype(counted)).bytes
        mask, change = op.fractals[0] if op.fractals else None, _quantised(src, dst)
        if mask is not None:
            count, edge = int(mask.sum()), cost.FRACTAL
            found = self.transfer_cost(key, edge, edge * each, instructions=count, quantised=change)
            moved = count * edge * edge
        else:
            apart = next((_row_bytes(end) for end in (src, dst) if not _adjacent(end)), 0.0)
            missed = self._missed(op) if "gm" in key else 0.0
            found = self.transfer_cost(key, rows, cols * each, apart, missed=missed, quantised=change)
            moved = rows * cols
        flows = tuple(self._flows(op, key.upper().split("_"), moved))
        return self._on(core, path.unit, op, found, flows=flows)

    def _flows(self, op: Operation, ends: list[str], elements: int) -> Iterable[Flow]:
        """Traffic with HBM and L2, as reuse divides it, and, if modelled, with L1's port."""
        src, dst = op.srcs[0], op.dst
        assert dst is not None
        port = ("l1",) if "L1" in ends and self.machine.core.l1_port_bytes_per_cycle else ()
        if "GM" in ends:
            count = elements * dtype(_dtype(src if ends[0] == "GM" else dst)).bytes
            missed = self._missed(op)
            parts = [("hbm", missed), ("l2", 1.0 - missed)]
            for pool, share in sorted(parts, key=lambda part: -part[1]):
                if share > 0:
                    yield Flow(count * share, (pool, *port), write=ends[1] == "GM")
        elif port:
            yield Flow(elements * dtype(_dtype(dst)).bytes, port, write=False)

    def _missed(self, op: Operation) -> float:
        """The share of the bytes of `op` that HBM serves."""
        share = self.reuse.written if op.kind is OpKind.store else self.reuse.missed
        missed = share(op, self.repeated)
        copies = self._place_of(op) == "replicate" and self.reuse.shared_by_copies(op)
        return missed / self.vector_cores if copies else missed


def _dtype(end: View | Access) -> str:
    return end.tile.dtype if isinstance(end, View) else end.tensor.dtype


def _quantised(src: View | Access, dst: View | Access) -> str:
    """'int32->int8' where a copy scales or requantises, else ''."""
    old, new = (end.scale if isinstance(end, View) else end.tensor.scale for end in (src, dst))
    source, target = _dtype(src), _dtype(dst)
    return f"{source}->{target}" if takes_scale(source, old, target, new) else ""


def _row_bytes(end: View | Access) -> float:
    return end.cols * dtype(_dtype(end)).bytes


def _adjacent(end: View | Access) -> bool:
    """Rows follow each other in global memory (on chip they always may)."""
    return isinstance(end, View) or end.rows == 1 or end.cols == end.tensor.pitch
