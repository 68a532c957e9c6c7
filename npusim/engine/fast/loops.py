"""The loop tree of a phase as code, which machine code walks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from npusim.engine.fast import layout as at
from npusim.engine.fast.settled import Left, Settled
from npusim.engine.fast.views import Ints
from npusim.program import PhaseProgram, Trips


class Loops:
    """The loop tree as code. Loops that settle stand there twice: as the first trips need them, and as the
    others do; `again`: the instances of the latter, with their producers."""

    def __init__(self, phase: PhaseProgram, settle: Callable[[Sequence[int]], Settled | None] | None) -> None:
        self.settle, self.instances = settle, len(phase.instances)
        self.again: list[int] = []
        self.producers: list[tuple[int, ...]] = []
        self.producer_end = [0]
        self.left: list[Left] = []
        self.kind: list[int] = []
        self.arg: list[int] = []
        self.to: list[int] = []
        self.records: list[tuple[int, ...]] = []
        self.tables: list[Ints] = []
        self.size = 0
        self._nodes(phase.body, 0)

    def _nodes(self, nodes: tuple[int | Trips, ...], around: int) -> None:
        for node in nodes:
            if isinstance(node, Trips):
                self._loop(node, around)
            else:
                self._emit(at.OP, node)

    def _emit(self, kind: int, arg: int) -> int:
        self.kind.append(kind)
        self.arg.append(arg)
        self.to.append(0)
        return len(self.kind) - 1

    def _append(self, values: Ints) -> int:
        """Where in the table `values` start."""
        self.tables.append(values)
        self.size += len(values)
        return self.size - len(values)

    def _loop(self, node: Trips, around: int) -> None:
        """`around`: how many loops are."""
        by = 2 if node.per_item else int(len(node.count) > 1)
        walks = node.first_item is not None
        first = self._append(node.first_item) if node.first_item is not None else 0
        number = len(self.records)
        record = (self._append(node.count), by, int(walks), node.item_step * walks, first, around)
        self.records.append(record)
        enter = self._emit(at.ENTER, number)
        self._nodes(node.body, around + 1)
        leave = self._emit(at.LEAVE, number)
        self.to[leave] = enter + 1
        start = len(self.left)
        trip = self._settled(node, number)
        self.to[enter] = len(self.kind)
        self.records[number] = (*record, self.to[enter], trip, leave + 1, start, len(self.left))

    def _settled(self, node: Trips, number: int) -> int:
        """The body of a loop once more, as from the trip on that is returned; 0: it does not settle."""
        body = [one for one in node.body if isinstance(one, int)]
        if self.settle is None or len(body) < len(node.body):
            return 0
        found = self.settle(body)
        if found is None:
            return 0
        start = len(self.kind)
        for instance, own in zip(body, found.producers, strict=True):
            self._emit(at.OP, self.instances + len(self.again))
            self.again.append(instance)
            for one in own:
                edge = one.side << at.SIDE_AT | one.lane << at.KIND_BITS | one.kind
                side = 1 << (at.COUNT_BITS + one.side)
                self.producers.append((at.LANE_SIZE * one.lane, one.back, edge, side))
            self.producer_end.append(len(self.producers))
        self.left += found.left
        self.to[self._emit(at.SETTLED_LEAVE, number)] = start
        return found.trip

    def targets(self, instances: int) -> list[int]:
        """What each place in the code is about: a loop, or where the record of the instance is."""
        pairs = zip(self.kind, self.arg, strict=True)
        return [instances + arg * at.INSTANCE_SIZE if kind == at.OP else arg for kind, arg in pairs]

    def more(self, core_of: list[int]) -> list[int]:
        """For each place in the code a bit per core that has operations from there on, back edges
        included."""
        core_of = core_of + [core_of[instance] for instance in self.again]
        own = [
            1 << core_of[arg] if kind == at.OP else 0 for kind, arg in zip(self.kind, self.arg, strict=True)
        ]
        more = [0]
        for bits in reversed(own):
            more.append(more[-1] | bits)
        more.reverse()
        for place, kind in enumerate(self.kind):
            if kind == at.ENTER:
                inside = 0
                for bits in own[place : self.to[place]]:
                    inside |= bits
                for within in range(place, self.to[place]):
                    more[within] |= inside
        return more
