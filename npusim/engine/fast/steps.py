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
    return I[x + UNKNOWN] & COUNT_MASK


@inline
def edges_of(I, x, side):
    return (I[x + UNKNOWN] >> (COUNT_BITS * (side + 1))) & COUNT_MASK


@inline
def count_edges(I, x, side, more):
    I[x + UNKNOWN] += more * (1 + (1 << (COUNT_BITS * (side + 1))))


@inline
def add_edge(I, x, side, kind, ref):
    """Step `x` waits for what `ref` names, which is not known yet."""
    I[x + FIRST_EDGE + edges(I, x)] = (((ref << SIDE_BITS) | side) << KIND_BITS) | kind
    count_edges(I, x, side, 1)


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
def fold(I, F, D, E, x, lane, side, kind, of, start, end, done, seq):
    """A known producer's part in the times of step `x` on `lane`; `of` is the producer's lane."""
    if kind == STREAM_END:
        F[x + TAIL] = max(F[x + TAIL], end)
        return
    if kind == EARLIER:
        F[x + KEPT] = max(F[x + KEPT], done)
        return
    code = BY_LANE + of
    time = start  # STREAM; for DRAIN the moment itself is given
    if kind == READ:
        time = done + E[D[FLAG] + of * D[LANES] + lane]
    elif kind == REUSE:
        time = end + E[D[FLAG] + of * D[LANES] + lane]
        code += D[LANES]
    field, reason = (ISSUED, ISSUE_WHY) if side == BLOCKING else (READY, WHY)
    if time > F[x + field]:
        F[x + field] = time
        I[x + reason] = why(code, seq)


@inline
def retire_entries(I, F, D, g, lane, below):
    """Versions that name steps of `lane` before `below`, all over, get their times instead."""
    versions = D[VERSION] + g * D[VERSION_WORDS]
    for j in range(D[ENTRIES]):
        e = versions + D[D[ENTRY] + j]
        ref = I[e + REF]
        if ref >= 0 and (ref & LANE_MASK) == lane and (ref >> LANE_BITS) < below:
            y = step_at(I, D, lane_at(D, g, lane), ref >> LANE_BITS)
            F[e + REF_START] = F[y + START]
            F[e + REF_END] = F[y + END]
            F[e + REF_DONE] = F[y + DONE]
            I[e + REF] = -2 - lane


@inline
def retire_edges(I, F, D, E, g, lane, below):
    """Edges to steps of `lane` before `below`, all over, are folded into the steps that wait for them."""
    for other in range(D[LANES]):
        b = lane_at(D, g, other)
        for n in range(I[b + L_FINISHED], I[b + L_WALKED]):
            x = step_at(I, D, b, n)
            base, left = x + FIRST_EDGE, 0
            for j in range(edges(I, x)):
                edge = I[base + j]
                kind, side = edge & KIND_MASK, (edge >> KIND_BITS) & SIDE_MASK
                m = edge >> (EDGE_BITS + LANE_BITS)
                if ((edge >> EDGE_BITS) & LANE_MASK) == lane and m < below and kind != DRAIN:
                    y = step_at(I, D, lane_at(D, g, lane), m)
                    start, end, done = F[y + START], F[y + END], F[y + DONE]
                    fold(I, F, D, E, x, other, side, kind, lane, start, end, done, I[y + SEQ])
                    count_edges(I, x, side, -1)
                else:
                    I[base + left] = edge
                    left += 1


@inline
def depend(I, F, D, E, g, x, lane, stops, kind, e):
    """Step `x` on `lane` depends on what entry `e` names: fold what is known, keep the rest as an edge."""
    ref = I[e + REF]
    of = -2 - ref if ref < 0 else ref & LANE_MASK
    if (of == lane) != (kind == EARLIER):
        return  # one unit works in order
    side = WAITING
    if kind == EARLIER or kind == STREAM_END:
        side = ENDING
    elif stops or D[D[LANE_CORE] + of] != D[D[LANE_CORE] + lane]:
        side = BLOCKING
    y = e + REF_START - START
    if ref >= 0:
        a = lane_at(D, g, of)
        n = ref >> LANE_BITS
        if n >= I[a + (L_STARTED if kind == STREAM else L_FINISHED)]:
            add_edge(I, x, side, kind, ref)
            return
        y = step_at(I, D, a, n)
    fold(I, F, D, E, x, lane, side, kind, of, F[y + START], F[y + END], F[y + DONE], I[e + REF_SEQ])


@inline
def read(I, F, D, E, g, x, lane, stops, kind, v, e):
    """Depend on the writers of the version at place `v`; a lane that did so before need not again."""
    if (I[v + SEEN] >> lane) & 1:
        return
    if kind == USE_READ:
        for j in range(I[v + WRITTEN]):
            depend(I, F, D, E, g, x, lane, stops, READ, e + j * ENTRY_SIZE)
        I[v + SEEN] |= 1 << lane
        return
    for j in range(I[v + WRITTEN]):
        depend(I, F, D, E, g, x, lane, stops, STREAM, e + j * ENTRY_SIZE)
        if not stops:
            depend(I, F, D, E, g, x, lane, stops, STREAM_END, e + j * ENTRY_SIZE)


@inline
def keep(I, D, b, v, of, kind):
    """What the first writer of a version waited for, others of it wait for too."""
    if D[b + GUARDS] == 0:
        return
    place = v + PLACE_SIZE + (D[b + WRITERS] + D[b + READERS] + I[v + GUARDED]) * ENTRY_SIZE
    for j in range(ENTRY_SIZE):
        I[place + j] = I[of + j]
    I[place + REF_KIND] = kind
    I[v + GUARDED] += 1


@inline
def write(I, F, D, E, g, x, lane, stops, kind, b, v, e):
    """Depend on the readers of the version that is written over, and on its writers if there are none, or if
    the version stays."""
    I[v + GUARDED] = 0
    unread = True
    for j in range(D[b + READERS]):
        r = e + (D[b + WRITERS] + j) * ENTRY_SIZE
        if I[r + REF] != NONE:
            unread = False
            keep(I, D, b, v, r, REUSE)
            depend(I, F, D, E, g, x, lane, stops, REUSE, r)
            I[r + REF] = NONE
    if unread or kind == USE_INTO:
        for j in range(I[v + WRITTEN]):
            r = e + j * ENTRY_SIZE
            keep(I, D, b, v, r, READ)
            depend(I, F, D, E, g, x, lane, stops, READ, r)
            if kind == USE_INTO:
                depend(I, F, D, E, g, x, lane, stops, EARLIER, r)


@inline
def join(I, F, D, E, g, x, lane, stops, b, e, v):
    """A further writer of a version waits for what the first one waited for."""
    guard = e + (D[b + WRITERS] + D[b + READERS]) * ENTRY_SIZE
    for j in range(I[v + GUARDED]):
        r = guard + j * ENTRY_SIZE
        depend(I, F, D, E, g, x, lane, stops, I[r + REF_KIND], r)


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
def use(I, F, D, E, g, u, x, lane, n, stops):
    """Record use `u` of a buffer by step `n` of `lane`, and depend on those before it."""
    kind = D[u + USE_KIND]
    v = D[VERSION] + g * D[VERSION_WORDS] + D[u + USE_FIRST]
    if D[u + USE_SLOTS] > 1:
        v += slot(I, D, g, u) * D[u + USE_STRIDE]
    e = v + D[u + USE_ENTRY]
    if kind <= USE_STREAM:
        read(I, F, D, E, g, x, lane, stops, kind, v, v + PLACE_SIZE)
    else:
        b = D[BUFFER] + D[u + USE_BUFFER] * BUFFER_SIZE
        if kind == USE_JOIN:
            join(I, F, D, E, g, x, lane, stops, b, e, v)
            e += I[v + WRITTEN] * ENTRY_SIZE
            I[v + WRITTEN] += 1
        else:
            write(I, F, D, E, g, x, lane, stops, kind, b, v, e)
            I[v + WRITTEN] = 1
        I[v + SEEN] = 0
    I[e + REF] = (n << LANE_BITS) | lane
    I[e + REF_SEQ] = I[D[GROUP] + g * GROUP_SIZE + SEQ_NEXT]


@inline
def drain(I, F, D, E, g, of, x, lane):
    """A barrier waits until `of` has done all it was given."""
    a = lane_at(D, g, of)
    m = I[a + L_WALKED] - 1
    if m < 0:
        return
    if m < I[a + L_FINISHED]:
        y = step_at(I, D, a, m)
        fold(I, F, D, E, x, lane, BLOCKING, DRAIN, of, F[a + L_DRAINED], 0.0, 0.0, I[y + SEQ])
    else:
        add_edge(I, x, BLOCKING, DRAIN, (m << LANE_BITS) | of)


@inline
def walk(I, F, D, E, g):
    """Take the next step in program order: END_OF_CODE, FULL (the rings are too small), or its core."""
    pc = find(I, D, g)
    if pc == D[CODE_END]:
        return END_OF_CODE
    op = D[INSTANCE] + D[D[CODE] + pc * CODE_SIZE + ARG] * INSTANCE_SIZE
    lane = D[op + OP_LANE]
    core = D[CORE] + (g * D[CORES] + D[op + OP_CORE]) * CORE_SIZE
    a = lane_at(D, g, lane)
    n = I[a + L_WALKED]
    half, pending = D[RING] // 2, 4 * D[RING]
    if I[core + C_TAIL] - I[core + C_HEAD] == pending:
        return FULL
    if n & (half - 1) == 0 and n >= D[RING]:
        below = n - half  # whose places come next
        if min(I[a + L_FINISHED], I[a + L_ISSUED] - D[DEPTH]) < below:
            return FULL
        retire_entries(I, F, D, g, lane, below)
        retire_edges(I, F, D, E, g, lane, below)
    group = D[GROUP] + g * GROUP_SIZE
    x = step_at(I, D, a, n)
    F[x + READY] = F[x + TAIL] = F[x + KEPT] = F[x + ISSUED] = LOWEST
    I[x + OP_OF] = D[D[CODE] + pc * CODE_SIZE + ARG]
    I[x + SEQ] = I[group + SEQ_NEXT]
    I[x + UNKNOWN] = 0
    I[x + WHY] = I[x + ISSUE_WHY] = why(NO_BOUND, NONE)
    stops = D[op + ROLE] != 0
    I[a + L_WALKED] = n + 1
    for u in range(D[op + USE_AT], D[op + USE_END]):
        use(I, F, D, E, g, D[USE] + u * USE_SIZE, x, lane, n, stops)
    for d in range(D[op + DRAIN_AT], D[op + DRAIN_END]):
        drain(I, F, D, E, g, D[D[DRAINS] + d], x, lane)
    order = D[ORDER] + (g * D[CORES] + D[op + OP_CORE]) * pending
    I[order + (I[core + C_TAIL] & (pending - 1))] = lane
    I[core + C_TAIL] += 1
    I[group + SEQ_NEXT] += 1
    I[WALKED] += 1
    I[group + PC] = pc + 1
    return D[op + OP_CORE]
