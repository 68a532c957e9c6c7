"""Walking the code of a group: the next step in program order, with what it depends on.

The rules are those of npusim.engine.walk. A step is the n-th one of its lane and lives in a ring of the lane;
who depends on it names lane and n. What is known of a step's dependences is folded into it at once, the rest
is kept as edges. Before a place of the ring is taken again, all that names its step is given the times
instead.
"""

from __future__ import annotations

from npusim.engine.fast.jit import inline, short
from npusim.engine.fast.layout import *

FULL = -2
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
    return I[a + L_RING] + (n & D[RING_MASK]) * D[STEP_WORDS]


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
    return kind < I[y + STAGE]


@inline
def add_edge(I, x, found, side, kind, ref):
    """Step `x`, of `found` edges so far, waits for the step that `ref` names, which is not known yet."""
    I[x + FIRST_EDGE + (found & COUNT_MASK)] = ref | (side << SIDE_AT) | kind
    return (found + 1) | (1 << (COUNT_BITS + side))


@inline
def back(I, D, g, lane_place, steps):
    """The record of the step so many back on a lane of group `g`."""
    a = D[LANE] + g * D[LANES] * LANE_SIZE + lane_place
    return step_at(I, D, a, I[a + L_WALKED] - steps)


@inline
def leave_versions(I, F, D, g, loop):
    """A settled loop is over: what it leaves in the versions."""
    versions = D[VERSION] + g * D[VERSION_WORDS]
    for n in range(D[loop + LEFT_AT], D[loop + LEFT_END]):
        one = D[LEFT_BY] + n * LEFT_SIZE
        lane, place, value = short(D, one, LEFT_LANE), short(D, one, LEFT_PLACE), D[one + LEFT_VALUE]
        if lane == NUMBER:
            I[versions + place] = value
        elif lane == NEWEST_PLACE:
            I[D[NEWEST] + g * D[BUFFERS] + place] = value
        else:
            name(I, F, versions + place, back(I, D, g, lane, value))


@inline
def name(I, F, e, y):
    """Let entry `e` of a version name step `y`, or have its times: its place may soon be taken again."""
    ref = (I[y + NAME] & LANE_MASK) << KIND_BITS
    if I[y + STAGE] == OVER:
        F[e + REF_START] = F[y + START]
        F[e + REF_END] = F[y + END]
        F[e + REF_DONE] = F[y + DONE]
    else:
        ref |= y << EDGE_BITS
    I[e + REF] = ref
    I[e + REF_SEQ] = I[y + NAME] >> LANE_BITS


@inline
def find(I, F, D, g):
    """Walk on to the next operation; its place in the code, or the end of the code."""
    group = D[GROUP] + g * GROUP_SIZE
    pc = I[group + PC]
    code = D[CODE] + pc * CODE_SIZE
    if D[code + KIND] == OP:
        return pc
    while OP < D[code + KIND] < END_OF_CODE:
        loop = D[LOOP] + D[code + ARG] * LOOP_SIZE
        trip = D[TRIP] + (g * D[LOOPS] + D[code + ARG]) * TRIP_SIZE
        if D[code + KIND] == ENTER:
            by = D[loop + COUNT_BY]
            at = I[group + ITEM] if by == 2 else g if by == 1 else 0
            trips = D[D[TABLE] + D[loop + COUNT_AT] + at]
            if trips <= 0:
                pc = D[loop + EXIT]
            else:
                I[trip + TRIP_NOW] = 0
                I[trip + TRIP_ALL] = trips
                I[trip + ITEM_OUTSIDE] = I[group + ITEM]
                if D[loop + WALKS]:
                    I[group + ITEM] = D[D[TABLE] + D[loop + FIRST_AT] + g]
                pc += 1
        elif I[trip + TRIP_NOW] + 1 < I[trip + TRIP_ALL]:
            I[trip + TRIP_NOW] += 1
            I[group + ITEM] += D[loop + ITEM_STEP]
            I[PASSED] = 1 + D[loop + AROUND]
            pc = D[loop + AGAIN] if I[trip + TRIP_NOW] == D[loop + SETTLES] else D[code + TO]
        else:
            I[group + ITEM] = I[trip + ITEM_OUTSIDE]
            if D[code + KIND] == SETTLED_LEAVE:
                leave_versions(I, F, D, g, loop)
            pc = D[loop + EXIT]
        code = D[CODE] + pc * CODE_SIZE
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
        time += E[short(D, op, FLAGS_AT) + (of << KIND_BITS) + kind]
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
        y = I[e + REF] >> EDGE_BITS
        if first <= y < last:
            F[e + REF_START] = F[y + START]
            F[e + REF_END] = F[y + END]
            F[e + REF_DONE] = F[y + DONE]
            I[e + REF] = lane << KIND_BITS


@inline
def retire_edges(I, F, D, E, g, lane, first, last):
    """Edges to steps of `lane` at [first, last), all over, are folded into the steps that wait for them."""
    low, high = first << EDGE_BITS, last << EDGE_BITS
    for other in range(D[LANES]):
        b = lane_at(D, g, other)
        for n in range(I[b + L_FINISHED], I[b + L_WALKED]):
            x = step_at(I, D, b, n)
            j, end = x + FIRST_EDGE, x + FIRST_EDGE + edges(I, x)
            while j < end and not low <= I[j] < high:
                j += 1
            if j < end:
                fold_edges(I, F, D, E, g, lane, x, j, end, low, high)


@inline
def fold_edges(I, F, D, E, g, lane, x, j, end, low, high):
    """Those of step `x` at [j, end) that are in [low, high)."""
    left = j
    while j < end:
        edge = I[j]
        if low <= edge < high:
            kind, side, y = edge & KIND_MASK, (edge >> SIDE_AT) & SIDE_MASK, edge >> EDGE_BITS
            if waits_for(I, x, side):
                time = time_of(F, lane_at(D, g, lane), y, kind)
                fold(I, F, D, E, x, I[x + OP_AT], side, kind, lane, time, I[y + NAME] >> LANE_BITS)
        else:
            I[left] = edge
            left += 1
        j += 1
    I[x + EDGES] -= end - left


@inline
def retire(I, F, D, E, g, a, lane, x, n):
    """Free the half of a lane's ring that begins with place `x`, which step `n` takes. Whether it can be."""
    half = D[RING] // 2
    if min(I[a + L_FINISHED], I[a + L_ISSUED] - D[DEPTH]) < n - half:
        return False
    last = x + half * D[STEP_WORDS]
    retire_entries(I, F, D, g, lane, x, last)
    retire_edges(I, F, D, E, g, lane, x, last)
    return True


@inline
def depend(I, F, D, E, x, op, found, own, kind, e):
    """Step `x`, of `found` edges so far, depends on what entry `e` names: fold what is known, keep the rest
    as an edge. `own`: its lane, as a version names it. Returns how many edges it has then."""
    ref = I[e + REF]
    of = ref & OF_MASK
    if (of == own) != (kind == EARLIER):
        return found  # one unit works in order
    of >>= KIND_BITS
    side = WAITING if (D[op + NEAR] >> of) & 1 else BLOCKING
    if kind == EARLIER or kind == STREAM_END:
        side = ENDING
    y = ref >> EDGE_BITS
    if y == OLD:
        y = e + REF_START - START
    elif not known(I, y, kind):
        return add_edge(I, x, found, side, kind, ref)
    fold(I, F, D, E, x, op, side, kind, of, time_of(F, 0, y, kind), I[e + REF_SEQ])
    return found


@inline
def read(I, F, D, E, x, op, found, own, kind, v):
    """Depend on the writers of the version at place `v`; a lane that did so before need not again."""
    bit = 1 << (own >> KIND_BITS)
    if I[v + SEEN] & bit:
        return found
    if kind == USE_READ:
        I[v + SEEN] |= bit
    e = v + PLACE_SIZE
    end = e + I[v + WRITTEN] * ENTRY_SIZE
    while e < end:
        if kind == USE_READ:
            found = depend(I, F, D, E, x, op, found, own, READ, e)
        else:
            found = depend(I, F, D, E, x, op, found, own, STREAM, e)
            if D[op + NEAR]:
                found = depend(I, F, D, E, x, op, found, own, STREAM_END, e)
        e += ENTRY_SIZE
    return found


@inline
def keep(I, D, u, v, of, kind):
    """What the first writer of a version waited for, others of it wait for too."""
    if short(D, u, USE_GUARDS_AT) == 0:
        return
    place = v + short(D, u, USE_GUARDS_AT) + I[v + GUARDED] * ENTRY_SIZE
    for j in range(ENTRY_SIZE):
        I[place + j] = I[of + j]
    I[place + REF_KIND] = kind
    I[v + GUARDED] += 1


@inline
def write(I, F, D, E, x, op, found, own, kind, u, v):
    """Depend on the readers of the version that is written over, and on its writers if there are none, or if
    the version stays."""
    I[v + GUARDED] = 0
    unread = True
    r = v + short(D, u, USE_READERS_AT)
    end = r + short(D, u, USE_READERS) * ENTRY_SIZE
    while r < end:
        if I[r + REF] != NONE:
            unread = False
            keep(I, D, u, v, r, REUSE)
            found = depend(I, F, D, E, x, op, found, own, REUSE, r)
            I[r + REF] = NONE
        r += ENTRY_SIZE
    if unread or kind == USE_INTO:
        r = v + PLACE_SIZE
        end = r + I[v + WRITTEN] * ENTRY_SIZE
        while r < end:
            keep(I, D, u, v, r, READ)
            found = depend(I, F, D, E, x, op, found, own, READ, r)
            if kind == USE_INTO:
                found = depend(I, F, D, E, x, op, found, own, EARLIER, r)
            r += ENTRY_SIZE
    return found


@inline
def join(I, F, D, E, x, op, found, own, u, v):
    """A further writer of a version waits for what the first one waited for."""
    r = v + short(D, u, USE_GUARDS_AT)
    end = r + I[v + GUARDED] * ENTRY_SIZE
    while r < end:
        found = depend(I, F, D, E, x, op, found, own, I[r + REF_KIND], r)
        r += ENTRY_SIZE
    return found


@inline
def slot(I, D, g, u):
    """Which of several versions of a buffer use `u` is about."""
    newest = D[NEWEST] + g * D[BUFFERS] + short(D, u, USE_BUFFER)
    place = I[newest] - short(D, u, USE_BACK)
    place = place + short(D, u, USE_SLOTS) if place < 0 else place
    if short(D, u, USE_KIND) == USE_WRITE:
        place = place + 1 if place + 1 < short(D, u, USE_SLOTS) else 0
        I[newest] = place
    return place


@inline
def use(I, F, D, E, g, u, x, op, found, own, seq):
    """Record use `u` of a buffer by step `x`, and depend on those before it."""
    kind = short(D, u, USE_KIND)
    v = D[VERSION] + g * D[VERSION_WORDS] + short(D, u, USE_FIRST)
    if short(D, u, USE_SLOTS) > 1:
        v += slot(I, D, g, u) * short(D, u, USE_STRIDE)
    e = v + short(D, u, USE_ENTRY)
    if kind <= USE_STREAM:
        found = read(I, F, D, E, x, op, found, own, kind, v)
    else:
        if kind == USE_JOIN:
            found = join(I, F, D, E, x, op, found, own, u, v)
            e += I[v + WRITTEN] * ENTRY_SIZE
            I[v + WRITTEN] += 1
        else:
            found = write(I, F, D, E, x, op, found, own, kind, u, v)
            I[v + WRITTEN] = 1
        I[v + SEEN] = 0
    I[e + REF] = (x << EDGE_BITS) | own
    I[e + REF_SEQ] = seq
    return found


@inline
def settled(I, F, D, E, g, p, x, op, found):
    """Step `x`, in a settled loop and of `found` edges so far, depends on its producer `p`."""
    y = back(I, D, g, short(D, p, PRODUCER_LANE), short(D, p, PRODUCER_BACK))
    edge = short(D, p, PRODUCER_EDGE)
    kind = edge & KIND_MASK
    if not known(I, y, kind):
        I[x + FIRST_EDGE + (found & COUNT_MASK)] = (y << EDGE_BITS) | edge
        return (found + 1) | short(D, p, PRODUCER_SIDE)
    side, of = edge >> SIDE_AT, (edge & OF_MASK) >> KIND_BITS
    fold(I, F, D, E, x, op, side, kind, of, time_of(F, 0, y, kind), I[y + NAME] >> LANE_BITS)
    return found


@inline
def drain(I, F, D, E, g, of, x, op, found):
    """A barrier waits until `of` has done all it was given."""
    a = lane_at(D, g, of)
    m = I[a + L_WALKED] - 1
    if m < 0:
        return found
    y = step_at(I, D, a, m)
    if not known(I, y, DRAIN):
        return add_edge(I, x, found, BLOCKING, DRAIN, (y << EDGE_BITS) | (of << KIND_BITS))
    fold(I, F, D, E, x, op, BLOCKING, DRAIN, of, F[a + L_DRAINED], I[y + NAME] >> LANE_BITS)
    return found


@inline
def walk(I, F, D, E, g, number):
    """Take the next step in program order: its lane if it is of core `number`; NONE: it is of another core,
    where it waits now, or there is none; FULL: the rings are too small."""
    pc = find(I, F, D, g)
    code = D[CODE] + pc * CODE_SIZE
    if D[code + KIND] != OP:
        return NONE
    op = D[code + ARG]
    lane = short(D, op, OP_LANE)
    own = short(D, op, OP_CORE) == number
    core = core_at(D, g, short(D, op, OP_CORE))
    if not own:
        if I[core + C_TAIL] - I[core + C_HEAD] == 4 * D[RING]:
            return FULL
    a = lane_at(D, g, lane)
    n = I[a + L_WALKED]
    x = step_at(I, D, a, n)
    if n & (D[RING_MASK] >> 1) == 0:
        if n > D[RING_MASK] and not retire(I, F, D, E, g, a, lane, x, n):
            return FULL
    group = D[GROUP] + g * GROUP_SIZE
    seq = I[group + SEQ_NEXT]
    F[x + READY] = F[x + TAIL] = F[x + KEPT] = F[x + ISSUED] = LOWEST
    I[x + OP_AT] = op
    I[x + NAME] = (seq << LANE_BITS) | lane
    I[x + STAGE] = PENDING
    I[x + WHY] = I[x + ISSUE_WHY] = why(NO_BOUND, NONE)
    I[a + L_WALKED] = n + 1
    found = 0
    u, last = short(D, op, USE_AT), short(D, op, USE_END)
    while u < last:
        found = use(I, F, D, E, g, u, x, op, found, lane << KIND_BITS, seq)
        u += USE_SIZE
    p, last = short(D, op, PRODUCER_AT), short(D, op, PRODUCER_END)
    while p < last:
        found = settled(I, F, D, E, g, p, x, op, found)
        p += PRODUCER_SIZE
    for d in range(short(D, op, DRAIN_AT), short(D, op, DRAIN_END)):
        found = drain(I, F, D, E, g, D[D[DRAINS] + d], x, op, found)
    I[x + EDGES] = found
    I[group + SEQ_NEXT] = seq + 1
    I[group + PC] = pc + 1
    I[WALKED] += 1
    if own:
        return lane
    I[I[core + C_ORDER] + (I[core + C_TAIL] & (4 * D[RING] - 1))] = lane
    I[core + C_TAIL] += 1
    return NONE
