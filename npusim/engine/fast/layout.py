"""Where things lie: a phase and its state are two stretches of 8-byte words, made of records.

A word is a whole number or a time; the same stretch is seen as both (`D`/`E` what does not change while the
phase runs, `I`/`F` the state). The first words of `D` are sizes and where each table of records starts. The
numbers below are places within a record. What machine code takes as arguments are these four views alone:
that keeps it quick to compile, and a state is copied in one go.
"""

from __future__ import annotations

from itertools import count as _count

_header = _count()
# sizes
(GROUPS, LANES, CORES, LOOPS, INSTANCES, RING, STEP_WORDS, DEPTH, ALONE, CODE_END, BUFFERS, ENTRIES,
 CLASSES, PARTS, POOLS, CODES, ISSUE, FARTHEST, PORTS,
 VERSION_WORDS, RING_MASK) = (next(_header) for _ in range(21))  # fmt: skip
"""RING: steps that a lane remembers, a power of two; RING_MASK: one less; STEP_WORDS: of a step with its
edges; ALONE: no transfers are shared; CODES: causes of waiting; ISSUE: cycles an instruction; FARTHEST: the
longest flag; PORTS: transfers pass through several pools; VERSION_WORDS: words of a group's versions; ENTRY:
where the entries of a group's versions are among them"""
# tables that do not change
(CODE, LOOP, TABLE, INSTANCE, USE, PRODUCER, LEFT_BY, DRAINS, FLOWS, LANE_CORE, FLAG, BUFFER, ENTRY, CLASS,
 PART, MEMBERS, POOL) = (next(_header) for _ in range(17))  # fmt: skip
# tables of the state
(GROUP, TRIP, LANE, CORE, NEWEST, VERSION, HEAP, FLIGHT, FIFO, ETA, TALLY, WAITS, CORE_WAITS, SCRATCH,
 STEP, ORDER, STATE_END) = (next(_header) for _ in range(17))  # fmt: skip
"""STEP, ORDER: rings, of which little may be in use; they come last"""
HEADER = next(_header)

# --- records that do not change --------------------------------------------------------------
KIND, ARG, TO, MORE, CODE_SIZE = range(5)
"""OP, ENTER, LEAVE or SETTLED_LEAVE; where the record of the instance is, or which loop; where the other end
of the loop leads; cores with more to come"""
OP, ENTER, LEAVE, SETTLED_LEAVE, END_OF_CODE = range(5)
(COUNT_AT, COUNT_BY, WALKS, ITEM_STEP, FIRST_AT, AROUND, EXIT, SETTLES, AGAIN, LEFT_AT, LEFT_END,
 LOOP_SIZE) = range(12)  # fmt: skip
"""table of trips, what picks from it (0 nothing, 1 the group, 2 the item); whether it goes through items; how
many loops are around it; what follows it in the code; the trip in which it has settled (or 0), its body from
there on, and the words that it leaves in versions then"""
OCCUPANCY, LATENCY, PACE, NEAR, NUMBERS_AT = range(5)
(OP_NUMBER, OP_LANE, OP_CORE, ROLE, HOLDS, FLAGS_AT, FLOW_AT, FLOW_END, USE_AT, USE_END, PRODUCER_AT,
 PRODUCER_END, DRAIN_AT, DRAIN_END) = range(2 * NUMBERS_AT, 2 * NUMBERS_AT + 14)  # fmt: skip
INSTANCE_SIZE = NUMBERS_AT + 7
"""NEAR: a bit per lane whose results do not stop its scalar unit. The rest are halves of words (`short`).
FLAGS_AT, USE_AT, USE_END, PRODUCER_AT, PRODUCER_END: places in `D`; in a settled loop it has producers in
place of uses"""
(USE_BUFFER, USE_KIND, USE_BACK, USE_ENTRY, USE_SLOTS, USE_FIRST, USE_STRIDE, USE_READERS, USE_READERS_AT,
 USE_GUARDS_AT) = range(10)  # fmt: skip
USE_SIZE = 5
"""Halves of words. USE_ENTRY: where in a version its entry is, for a writer that of the first; USE_READERS:
how many entries of readers a version has, at USE_READERS_AT; USE_GUARDS_AT: 0 where it has no guards; the
rest is that of the buffer"""
PRODUCER_LANE, PRODUCER_BACK, PRODUCER_EDGE, PRODUCER_SIDE = range(4)
PRODUCER_SIZE = 2
"""Halves of words. PRODUCER_LANE: where the record of its lane is among those of a group; PRODUCER_BACK: how
many steps back; PRODUCER_EDGE: the lower bits of an edge to it; PRODUCER_SIDE: the bit of its side in
EDGES"""
LEFT_LANE, LEFT_PLACE = range(2)
LEFT_VALUE, LEFT_SIZE = range(1, 3)
"""What `settled` calls so. LEFT_LANE, LEFT_PLACE: halves of a word; a lane as PRODUCER_LANE has it"""
NUMBER, NEWEST_PLACE = -1, -2
"""in place of a lane: a number in the versions; which place of the buffer LEFT_PLACE is its newest"""
SLOTS, VERSION_AT, WRITERS, READERS, STRIDE, BUFFER_SIZE = range(6)
WEIGHT, CYCLES, POOL_A, POOL_B, PER_GROUP, FIFO_AT, FIFO_MASK, CLASS_PART, CLASS_SIZE = range(9)
"""bytes a cycle and cycles at full speed; pools or -1; whether each group has a class of its own"""
PART_AT, PART_END, PART_SIZE = range(3)

# --- records of the state ---------------------------------------------------------------------
CLOCK, HEAPED, SAMPLED, PASSED, DEEPEST, SAMPLES, SNAP, COMPARING, ROWS, WALKED, GLOBALS = range(11)
"""first words: the clock; transfers to begin; the group that is sampled; whether a back edge was passed (then
1 and how many loops are around its own); how many may be around that of a sample; samples, the next snapshot,
whether there is one; rows written; steps taken"""
ANY_DEPTH = NEVER = 1 << 62
"""DEEPEST where every back edge is a sample; SNAP where none is due in this group that runs alone, but in the
next one again"""
PC, ITEM, SEQ_NEXT, AGENTS, CLOSED_AT, GROUP_SIZE = range(6)
"""CLOSED_AT: when the last of its scalar units so far came to the end of the code"""
TRIP_NOW, TRIP_ALL, ITEM_OUTSIDE, TRIP_SIZE = range(4)
(L_WALKED, L_ISSUED, L_STARTED, L_FINISHED, L_FLIGHT, L_WAITERS, L_FREE, L_DRAINED, L_REACHED, L_BUSY, L_RING,
 L_WAITS, L_HELD) = range(13)  # fmt: skip
LANE_SIZE = 16  # a power of two: cheap to multiply by
IDLE, ENDED, DUE = 0, -1, -2
"""L_FLIGHT: no step under way; one whose own work is over; one whose transfers are to begin; else how many of
them are in flight. L_HELD: what is asked for of its steps is of this one or later ones"""
(START, END, DONE, ISSUED, BLOCK, STAGE, NAME, OP_AT, EDGES, WHY, ISSUE_WHY, BLOCK_CODE,
 FIRST_EDGE) = range(13)  # fmt: skip
READY, TAIL, KEPT = START, END, DONE
"""READY: until it starts, the dependences known so far. TAIL, KEPT: until it is over, the ends of what it
streams from, and the earlier writes of the version. ISSUED: until it is issued, the moment its scalar unit
may go on. BLOCK: when its scalar unit last had to wait, up to here. OP_AT: the record of its instance. NAME:
its number in program order, and its lane. EDGES: how many edges follow, and a bit for each side that still
waits. WHY, ISSUE_WHY: what held it up, as `why` puts it"""
PENDING, STARTED, OVER = 0, 1, 8
"""STAGE: a time of the step is known if the kind of edges that are about it is less"""
(C_NEXT, C_HEAD, C_TAIL, C_CLOSED, C_HOLDING, C_NOW, C_HELD, C_BLOCK, C_BLOCK_CODE, C_REACHED, C_BUSY,
 C_OCCUPIED, C_ORDER, C_WAITS) = range(14)  # fmt: skip
CORE_SIZE = 16
"""C_NEXT: the lane of its next step, or NONE where that is still to be taken: from those that were walked
over for other cores, C_HEAD to C_TAIL, or else from the code. L_RING, L_WAITS, C_ORDER, C_WAITS: where what
belongs to a lane or core starts in other tables"""
SEEN, WRITTEN, GUARDED, PLACE_SIZE = range(4)
REF, REF_SEQ, REF_KIND, REF_START, REF_END, REF_DONE, ENTRY_SIZE = range(7)
H_TIME, H_LANE, HEAP_SIZE = range(3)
FLYING, VIRTUAL, SINCE, SPEED, LANDS, FIFO_HEAD, TODO, FLIGHT_SIZE = range(8)
Q_END, Q_LANE, FIFO_SIZE = range(3)
ETA_TIME, ETA_CLASS, ETA_SIZE = range(3)
T_COUNT, T_OCCUPIED, TALLY_SIZE = range(3)
LEFT, OPEN, SCRATCH_SIZE = range(3)

# --- codes ------------------------------------------------------------------------------------
NONE = -1
OLD = 0
"""in place of a step that a version names: its times are in the version itself"""
NO_BOUND = -1
"""held up by nothing but the order of its own unit or core"""
BY_ISSUE, BY_QUEUE, BY_LANE = 0, 1, 2
"""held up by issue, by a full queue, by a result of a lane (and, `LANES` further, by a slot freed by it)"""
STREAM, REUSE, READ, STREAM_END, EARLIER, DRAIN = START, END, DONE, 3, 4, 5
"""kinds of edges; the first three are the time of the producer that counts"""
BLOCKING, WAITING, ENDING = range(3)
"""what an edge holds up: the issue, the start or the end of its step"""
KIND_BITS, LANE_BITS, SIDE_BITS = 3, 6, 2
KIND_MASK, LANE_MASK, SIDE_MASK = (1 << KIND_BITS) - 1, (1 << LANE_BITS) - 1, (1 << SIDE_BITS) - 1
SIDE_AT = KIND_BITS + LANE_BITS
EDGE_BITS = SIDE_AT + SIDE_BITS
OF_MASK, FLAG_MASK = LANE_MASK << KIND_BITS, (1 << SIDE_AT) - 1
"""An edge is one word: from the lowest bit on its kind, the lane of the producer (together the place of its
flag in the table of the waiting lane), what it holds up, and the place of the producer's record. A version
names a step by such a word, of kind and side 0."""
CODE_BITS = 8
COUNT_BITS = 16
COUNT_MASK = (1 << COUNT_BITS) - 1
LOWEST = -1e300
"""a time that binds nothing"""
FINISHED, BUDGET, WIDEN, SNAPSHOT, MATCH, AT_TIME, PASSED_EDGE = range(7)
"""why the engine came back: the phase is over, enough steps were taken, rings are too small, a state is to be
kept, one is that which was kept, the time asked for has come, a back edge was passed"""

# --- what is written down ---------------------------------------------------------------------
(R_GROUP, R_SEQ, R_INSTANCE, R_START, R_END, R_DONE, R_BOUND, R_CAUSE, R_ISSUED, R_ISSUE_BOUND, R_ISSUE_CAUSE,
 ROW_SIZE) = range(12)  # fmt: skip
"""a row of a finished step"""
M_AT, N_AT, M_END, N_END, M_HEAD = range(5)
"""first words of the whole numbers of a state that is kept: how far each of the two memories is written or
compared, and where they end"""
BASE, TOLERANCE, APART, ALLOWED, N_HEAD = range(5)
"""first words of its times: the clock of the state; the tolerance, relative to the period; the largest
difference; the difference allowed now"""
