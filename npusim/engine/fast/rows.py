"""What machine code writes down of operations that are over.

Of a run that is one core group's: of the group that probably ends last, as the critical path mostly goes
through its operations, which then need not run again.
"""

from __future__ import annotations

import numpy as np

from npusim.engine.fast import layout as at
from npusim.engine.fast.encoded import Encoded
from npusim.engine.fast.layout import ROW_SIZE
from npusim.engine.fast.views import Floats, Ints
from npusim.program import PhaseProgram, Trips

WATCHED = 1 << 16
"""operations of a phase that are written down while it runs, at most"""


class Rows:
    """Room for finished steps that are written down: those of each group numbered in [low, high)."""

    def __init__(self, low: Ints, high: Ints, room: int) -> None:
        self.low, self.high = (np.ascontiguousarray(n, dtype=np.int64) for n in (low, high))
        self.words = np.zeros(max(1, room) * ROW_SIZE, dtype=np.int64)


class Watch(Rows):
    """Those of `group`, which probably ends last, as far as there is room."""

    def __init__(self, encoded: Encoded, begin: Floats) -> None:
        self.group = last_to_end(encoded.phase, begin)
        groups = np.arange(encoded[at.GROUPS])
        super().__init__(np.zeros_like(groups), np.where(groups == self.group, WATCHED, 0), WATCHED)

    def go_on(self, encoded: Encoded, state: Ints) -> None:
        """With the numbers that operations have after a jump."""
        v = encoded.views(state)
        under_way = (v.lane(at.L_WALKED) - v.lane(at.L_FINISHED)).reshape(-1, encoded[at.LANES])
        left = WATCHED - int(state[at.ROWS]) - int(under_way[self.group].sum())
        self.high[self.group] = v.group(at.SEQ_NEXT)[self.group] + left if left > 0 else 0


def last_to_end(phase: PhaseProgram, begin: Floats) -> int:
    """The core group with most to do by the counts of the outermost loops; of several the last to begin."""
    trips = np.zeros(phase.streams, dtype=np.int64)
    for node in phase.body:
        if isinstance(node, Trips) and not node.per_item:
            trips += node.count
    most = np.flatnonzero(trips == trips.max())
    return int(most[np.argmax(begin[most])])
