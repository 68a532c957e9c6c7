"""Walking the code of a group: the next step in program order, with what it depends on.

The rules are those of npusim.engine.walk. A step is the n-th one of its lane and lives in a ring of the lane;
who depends on it names lane and n. What is known of a step's dependences is folded into it at once, the rest
is kept as edges. Before a place of the ring is taken again, all that names its step is given the times
instead.
"""

from __future__ import annotations

from npusim.engine.fast.jit import inline
from npusim.engine.fast.layout import *

END_OF_CODE, FULL = -1, -2
USE_READ, USE_STREAM, USE_WRITE, USE_INTO, USE_JOIN = range(5)


@inline
def lane_at(D, g, lane):
    return D[LANE] + (g * D[LANES] + lane) * LANE_SIZE


@inline
def core_at(D, g, number):
    return D[CORE] + (g * D[CORES] + number) * CORE_SIZE


@inline
def step_at(I, D, a, n):
    """The record of step `n` of the lane whose record is `a`."""
    return I[a + L_RING] + (n & (D[RING] - 1)) * D[STEP_WORDS]


@inline
def why(bound, cause):
    """What held up a step, as one word: the code of it, and the number of the step that was waited for."""
    return (cause << CODE_BITS) | (bound - NO_BOUND)


@inline
def bound_of(word):
    return (word & ((1 << CODE_BITS) - 1)) + NO_BOUND


@inline
def edges(I, x):
    """How many edges step `x` has."""
    return I[x + EDGES] & COUNT_MASK


@inline
def waits_for(I, x, side):
    """Whether what an edge of a side holds up has still to be looked at."""
    return (I[x + EDGES] >> (COUNT_BITS + side)) & 1


@inline
def known(I, y, kind):
    """Whether the time of step `y` that an edge is about is known."""
    return I[y + STAGE] > (kind != STREAM)


@inline
def add_edge(I, D, x, side, kind, of, y):
    """Step `x` waits for step `y` of lane `of`, which is not known yet."""
    what = ((kind * D[LANES] + of) << (SIDE_BITS + KIND_BITS)) | (side << KIND_BITS) | kind
    I[x + FIRST_EDGE + edges(I, x)] = (y << EDGE_BITS) | what
    I[x + EDGES] = (I[x + EDGES] + 1) | (1 << (COUNT_BITS + side))


@inline
def find(I, D, g):
    """Walk on to the next operation; its place in the code, or the end of the code."""
    group = D[GROUP] + g * GROUP_SIZE
    pc = I[group + PC]
    while pc < D[CODE_END]:
        code = D[CODE] + pc * CODE_SIZE
        if D[code + KIND] == OP:
            break
        loop = D[LOOP] + D[code + ARG] * LOOP_SIZE
        trip = D[TRIP] + (g * D[LOOPS] + D[code + ARG]) * TRIP_SIZE
        if D[code + KIND] == ENTER:
            by = D[loop + COUNT_BY]
            at = I[group + ITEM] if by == 2 else g if by == 1 else 0
            trips = D[D[TABLE] + D[loop + COUNT_AT] + at]
            if trips <= 0:
                pc = D[code + TO]
                continue
            I[trip + TRIP_NOW] = 0
            I[trip + TRIP_ALL] = trips
            I[trip + ITEM_OUTSIDE] = I[group + ITEM]
            if D[loop + WALKS]:
                I[group + ITEM] = D[D[TABLE] + D[loop + FIRST_AT] + g]
            pc += 1
        elif I[trip + TRIP_NOW] + 1 < I[trip + TRIP_ALL]:
            I[trip + TRIP_NOW] += 1
            I[group + ITEM] += D[loop + ITEM_STEP]
            I[PASSED] = 1
            pc = D[code + TO]
        else:
            I[group + ITEM] = I[trip + ITEM_OUTSIDE]
            pc += 1
    I[group + PC] = pc
    return pc


@inline
def fold(I, F, D, E, x, op, side, kind, of, time, seq):
    """A known time of a producer, which is on lane `of`, as part of the times of step `x`."""
    if kind == STREAM_END:
        F[x + TAIL] = max(F[x + TAIL], time)
    elif kind == EARLIER:
        F[x + KEPT] = max(F[x + KEPT], time)
    else:
        field, reason = (ISSUED, ISSUE_WHY) if side == BLOCKING else (READY, WHY)
        if kind != DRAIN:
            time += E[D[op + FLAGS_AT] + kind * D[LANES] + of]
        if time > F[x + field]:
            F[x + field] = time
            I[x + reason] = why(cause_of(D, kind, of), seq)


@inline
def cause_of(D, kind, of):
    """What a step waited for that waited for lane `of`."""
    return BY_LANE + of + (D[LANES] if kind == REUSE else 0)


@inline
def time_of(F, a, y, kind):
    """The time of step `y`, or for DRAIN of its lane `a`, that an edge is about."""
    if kind == DRAIN:
        return F[a + L_DRAINED]
    return F[y + (END if kind == STREAM_END else DONE if kind == EARLIER else kind)]


@inline
def retire_entries(I, F, D, g, lane, first, last):
    """Versions that name steps of `lane` at [first, last), all over, get their times instead."""
    versions = D[VERSION] + g * D[VERSION_WORDS]
    for j in range(D[ENTRIES]):
        e = versions + D[D[ENTRY] + j]
        y = I[e + REF] >> LANE_BITS
        if first <= y < last:
            F[e + REF_START] = F[y + START]
            F[e + REF_END] = F[y + END]
            F[e + REF_DONE] = F[y + DONE]
            I[e + REF] = lane


@inline
def retire_edges(I, F, D, E, g, lane, first, last):
    """Edges to steps of `lane` at [first, last), all over, are folded into the steps that wait for them."""
    for other in range(D[LANES]):
        b = lane_at(D, g, other)
        for n in range(I[b + L_FINISHED], I[b + L_WALKED]):
            x = step_at(I, D, b, n)
            base, left = x + FIRST_EDGE, 0
            for j in range(edges(I, x)):
                edge = I[base + j]
                y = edge >> EDGE_BITS
                if first <= y < last:
                    kind, side = edge & KIND_MASK, (edge >> KIND_BITS) & SIDE_MASK
                    if waits_for(I, x, side):
                        time = time_of(F, lane_at(D, g, lane), y, kind)
                        fold(I, F, D, E, x, I[x + OP_AT], side, kind, lane, time, I[y + NAME] >> LANE_BITS)
                else:
                    I[base + left] = edge
                    left += 1
            I[x + EDGES] += left - edges(I, x)


@inline
def depend(I, F, D, E, x, lane, op, kind, e):
    """Step `x` on `lane` depends on what entry `e` names: fold what is known, keep the rest as an edge."""
    ref = I[e + REF]
    of = ref & LANE_MASK
    if (of == lane) != (kind == EARLIER):
        return  # one unit works in order
    side = WAITING if (D[op + NEAR] >> of) & 1 else BLOCKING
    if kind == EARLIER or kind == STREAM_END:
        side = ENDING
    y = ref >> LANE_BITS
    if y == OLD:
        y = e + REF_START - START
    elif not known(I, y, kind):
        add_edge(I, D, x, side, kind, of, y)
        return
    fold(I, F, D, E, x, op, side, kind, of, time_of(F, 0, y, kind), I[e + REF_SEQ])


@inline
def read(I, F, D, E, x, lane, op, kind, v):
    """Depend on the writers of the version at place `v`; a lane that did so before need not again."""
    if (I[v + SEEN] >> lane) & 1:
        return
    if kind == USE_READ:
        I[v + SEEN] |= 1 << lane
    for j in range(I[v + WRITTEN]):
        e = v + PLACE_SIZE + j * ENTRY_SIZE
        if kind == USE_READ:
            depend(I, F, D, E, x, lane, op, READ, e)
        else:
            depend(I, F, D, E, x, lane, op, STREAM, e)
            if D[op + NEAR]:
                depend(I, F, D, E, x, lane, op, STREAM_END, e)


@inline
def keep(I, D, u, v, of, kind):
    """What the first writer of a version waited for, others of it wait for too."""
    if D[u + USE_GUARDS_AT] == 0:
        return
    place = v + D[u + USE_GUARDS_AT] + I[v + GUARDED] * ENTRY_SIZE
    for j in range(ENTRY_SIZE):
        I[place + j] = I[of + j]
    I[place + REF_KIND] = kind
    I[v + GUARDED] += 1


@inline
def write(I, F, D, E, x, lane, op, kind, u, v):
    """Depend on the readers of the version that is written over, and on its writers if there are none, or if
    the version stays."""
    I[v + GUARDED] = 0
    unread = True
    r = v + D[u + USE_READERS_AT]
    for _ in range(D[u + USE_READERS]):
        if I[r + REF] != NONE:
            unread = False
            keep(I, D, u, v, r, REUSE)
            depend(I, F, D, E, x, lane, op, REUSE, r)
            I[r + REF] = NONE
        r += ENTRY_SIZE
    if unread or kind == USE_INTO:
        for j in range(I[v + WRITTEN]):
            r = v + PLACE_SIZE + j * ENTRY_SIZE
            keep(I, D, u, v, r, READ)
            depend(I, F, D, E, x, lane, op, READ, r)
            if kind == USE_INTO:
                depend(I, F, D, E, x, lane, op, EARLIER, r)


@inline
def join(I, F, D, E, x, lane, op, u, v):
    """A further writer of a version waits for what the first one waited for."""
    for j in range(I[v + GUARDED]):
        r = v + D[u + USE_GUARDS_AT] + j * ENTRY_SIZE
        depend(I, F, D, E, x, lane, op, I[r + REF_KIND], r)


@inline
def slot(I, D, g, u):
    """Which of several versions of a buffer use `u` is about."""
    newest = D[NEWEST] + g * D[BUFFERS] + D[u + USE_BUFFER]
    place = I[newest] - D[u + USE_BACK]
    place = place + D[u + USE_SLOTS] if place < 0 else place
    if D[u + USE_KIND] == USE_WRITE:
        place = place + 1 if place + 1 < D[u + USE_SLOTS] else 0
        I[newest] = place
    return place


@inline
def use(I, F, D, E, g, u, x, lane, op, seq):
    """Record use `u` of a buffer by step `x` of `lane`, and depend on those before it."""
    kind = D[u + USE_KIND]
    v = D[VERSION] + g * D[VERSION_WORDS] + D[u + USE_FIRST]
    if D[u + USE_SLOTS] > 1:
        v += slot(I, D, g, u) * D[u + USE_STRIDE]
    e = v + D[u + USE_ENTRY]
    if kind <= USE_STREAM:
        read(I, F, D, E, x, lane, op, kind, v)
    else:
        if kind == USE_JOIN:
            join(I, F, D, E, x, lane, op, u, v)
            e += I[v + WRITTEN] * ENTRY_SIZE
            I[v + WRITTEN] += 1
        else:
            write(I, F, D, E, x, lane, op, kind, u, v)
            I[v + WRITTEN] = 1
        I[v + SEEN] = 0
    I[e + REF] = (x << LANE_BITS) | lane
    I[e + REF_SEQ] = seq


@inline
def drain(I, F, D, E, g, of, x, op):
    """A barrier waits until `of` has done all it was given."""
    a = lane_at(D, g, of)
    m = I[a + L_WALKED] - 1
    if m < 0:
        return
    y = step_at(I, D, a, m)
    if known(I, y, DRAIN):
        fold(I, F, D, E, x, op, BLOCKING, DRAIN, of, F[a + L_DRAINED], I[y + NAME] >> LANE_BITS)
    else:
        add_edge(I, D, x, BLOCKING, DRAIN, of, y)


@inline
def walk(I, F, D, E, g):
    """Take the next step in program order: END_OF_CODE, FULL (the rings are too small), or its core."""
    pc = find(I, D, g)
    if pc == D[CODE_END]:
        return END_OF_CODE
    op = D[D[CODE] + pc * CODE_SIZE + ARG]
    lane = D[op + OP_LANE]
    core = core_at(D, g, D[op + OP_CORE])
    a = lane_at(D, g, lane)
    n = I[a + L_WALKED]
    half, pending = D[RING] // 2, 4 * D[RING]
    if I[core + C_TAIL] - I[core + C_HEAD] == pending:
        return FULL
    x = step_at(I, D, a, n)
    if n & (half - 1) == 0 and n >= D[RING]:
        if min(I[a + L_FINISHED], I[a + L_ISSUED] - D[DEPTH]) < n - half:
            return FULL
        last = x + half * D[STEP_WORDS]  # these places come next
        retire_entries(I, F, D, g, lane, x, last)
        retire_edges(I, F, D, E, g, lane, x, last)
    group = D[GROUP] + g * GROUP_SIZE
    seq = I[group + SEQ_NEXT]
    F[x + READY] = F[x + TAIL] = F[x + KEPT] = F[x + ISSUED] = LOWEST
    I[x + OP_AT] = op
    I[x + NAME] = (seq << LANE_BITS) | lane
    I[x + STAGE] = PENDING
    I[x + EDGES] = 0
    I[x + WHY] = I[x + ISSUE_WHY] = why(NO_BOUND, NONE)
    I[a + L_WALKED] = n + 1
    for u in range(D[op + USE_AT], D[op + USE_END], USE_SIZE):
        use(I, F, D, E, g, u, x, lane, op, seq)
    for d in range(D[op + DRAIN_AT], D[op + DRAIN_END]):
        drain(I, F, D, E, g, D[D[DRAINS] + d], x, op)
    I[I[core + C_ORDER] + (I[core + C_TAIL] & (pending - 1))] = lane
    I[core + C_TAIL] += 1
    I[group + SEQ_NEXT] = seq + 1
    I[WALKED] += 1
    I[group + PC] = pc + 1
    return D[op + OP_CORE]
