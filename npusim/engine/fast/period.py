"""Whether a state has come back: the same but for the clock, and for the trip numbers of loops.

All times are taken relative to the scalar unit of the group that is sampled. A time so old that no scalar
unit of its group could still be held up by it counts as old, whatever it is. What is compared is written to a
memory of whole numbers (`M`) and times (`N`), in a fixed order, and read from it in the same.
"""

from __future__ import annotations

from npusim.engine.fast.jit import FLOAT, FLOATS, INT, INTS, exported, fixed, floats, inline, shared
from npusim.engine.fast.layout import *
from npusim.engine.fast.pools import flight_at, landing_at
from npusim.engine.fast.steps import core_at, edges, lane_at, step_at, waits_for


@inline
def number(M, saving, value):
    k = M[M_AT]
    M[M_AT] = k + 1
    if k >= M[M_END]:
        return False
    if saving:
        M[k] = value
    return M[k] == value


@inline
def moment(M, N, saving, value):
    k = M[N_AT]
    M[N_AT] = k + 1
    if k >= M[N_END]:
        return False
    if saving:
        N[k] = value
    apart = abs(N[k] - value)
    N[APART] = max(N[APART], apart)
    return apart <= N[ALLOWED]


@inline
def clock_of(I, F, D, g):
    """The latest scalar unit of a group."""
    clock = LOWEST
    for c in range(D[CORES]):
        core = core_at(D, g, c)
        if not I[core + C_CLOSED]:
            clock = max(clock, F[core + C_NOW])
    return clock


@inline
def oldest(I, F, D, E, g):
    """What lies before holds nothing up in group `g`; LOWEST where all of it is over."""
    old, over = -LOWEST, True
    for c in range(D[CORES]):
        core = core_at(D, g, c)
        if not I[core + C_CLOSED]:
            old, over = min(old, F[core + C_NOW]), False
    for lane in range(D[LANES]):
        a = lane_at(D, g, lane)
        if I[a + L_FINISHED] < I[a + L_ISSUED]:
            old = min(old, F[step_at(I, D, a, I[a + L_FINISHED]) + ISSUED])
        over = over and I[a + L_FINISHED] == I[a + L_WALKED]
    return LOWEST if over else old - E[FARTHEST]


@inline
def core_alike(I, F, D, M, N, saving, g, number_of, base, old):
    core = core_at(D, g, number_of)
    waiting = int(I[core + C_NEXT] != NONE) + I[core + C_TAIL] - I[core + C_HEAD]
    if not number(M, saving, I[core + C_CLOSED] + 2 * I[core + C_HOLDING] + 8 * waiting):
        return False
    if I[core + C_CLOSED]:
        return True
    if not moment(M, N, saving, F[core + C_NOW] - base):
        return False
    if I[core + C_HOLDING] and not moment(M, N, saving, max(F[core + C_HELD], old) - base):
        return False
    if I[core + C_NEXT] != NONE and not number(M, saving, I[core + C_NEXT]):
        return False
    pending = 4 * D[RING]
    for n in range(I[core + C_HEAD], I[core + C_TAIL]):
        if not number(M, saving, I[I[core + C_ORDER] + (n & (pending - 1))]):
            return False
    return True


@inline
def ahead(I, D, g, lane, y):
    """How many steps step `y` of a lane is after the first that is not over, in a ring of them."""
    a = lane_at(D, g, lane)
    return ((y - I[a + L_RING]) // D[STEP_WORDS] - I[a + L_FINISHED]) & (D[RING] - 1)


@inline
def step_alike(I, F, D, M, N, saving, g, lane, n, base, old):
    """A step that is not over."""
    x = step_at(I, D, lane_at(D, g, lane), n)
    age = I[D[GROUP] + g * GROUP_SIZE + SEQ_NEXT] - (I[x + NAME] >> LANE_BITS)
    if not (number(M, saving, I[x + OP_AT]) and number(M, saving, age)):
        return False
    issued = LOWEST if n < I[lane_at(D, g, lane) + L_ISSUED] else old
    started = LOWEST if n < I[lane_at(D, g, lane) + L_STARTED] else old
    if not (moment(M, N, saving, max(F[x + ISSUED], issued) - base)
            and moment(M, N, saving, max(F[x + START], started) - base)
            and moment(M, N, saving, max(F[x + TAIL], old) - base)
            and moment(M, N, saving, max(F[x + KEPT], old) - base)):  # fmt: skip
        return False
    if not number(M, saving, I[x + EDGES]):
        return False
    for j in range(edges(I, x)):
        edge = I[x + FIRST_EDGE + j]
        if not waits_for(I, x, (edge >> SIDE_AT) & SIDE_MASK):
            continue
        y = edge >> EDGE_BITS
        what = edge - (y << EDGE_BITS)
        if not number(M, saving, what + (ahead(I, D, g, I[y + NAME] & LANE_MASK, y) << EDGE_BITS)):
            return False
    return True


@inline
def lane_alike(I, F, D, M, N, saving, g, lane, base, old):
    a = lane_at(D, g, lane)
    if not (moment(M, N, saving, max(F[a + L_FREE], old) - base)
            and moment(M, N, saving, max(F[a + L_DRAINED], old) - base)):  # fmt: skip
        return False
    for field in range(L_WALKED, L_FINISHED):
        if not number(M, saving, I[a + field] - I[a + L_FINISHED]):
            return False
    if not (number(M, saving, I[a + L_FLIGHT]) and number(M, saving, I[a + L_WAITERS])):
        return False
    for n in range(I[a + L_FINISHED], I[a + L_WALKED]):
        if not step_alike(I, F, D, M, N, saving, g, lane, n, base, old):
            return False
    for n in range(I[a + L_ISSUED] - D[DEPTH], I[a + L_STARTED]):
        time = old if n < 0 else max(old, F[step_at(I, D, a, n) + START])
        if not moment(M, N, saving, time - base):
            return False
    return True


@inline
def entry_alike(I, F, D, M, N, saving, g, e, base, old):
    """What a version remembers of a writer or reader."""
    ref = I[e + REF]
    if ref == NONE:
        return number(M, saving, -1)
    of, y = (ref & OF_MASK) >> KIND_BITS, ref >> EDGE_BITS
    age = I[D[GROUP] + g * GROUP_SIZE + SEQ_NEXT] - I[e + REF_SEQ]
    start, end, done = F[e + REF_START], F[e + REF_END], F[e + REF_DONE]
    if y != OLD:
        if I[y + STAGE] != OVER:
            what = of + (ahead(I, D, g, of, y) << LANE_BITS)
            return number(M, saving, what) and number(M, saving, age)
        start, end, done = F[y + START], F[y + END], F[y + DONE]
    if done <= old:
        return number(M, saving, -2)
    if not (number(M, saving, -3 - of) and number(M, saving, age)):
        return False
    return (moment(M, N, saving, max(start, old) - base) and moment(M, N, saving, max(end, old) - base)
            and moment(M, N, saving, done - base))  # fmt: skip


@inline
def buffer_alike(I, F, D, M, N, saving, g, buffer, base, old):
    """The versions of a buffer, from the newest on."""
    b = D[BUFFER] + buffer * BUFFER_SIZE
    width = D[b + WRITERS] + D[b + READERS]
    for back in range(D[b + SLOTS]):
        place = I[D[NEWEST] + g * D[BUFFERS] + buffer] - back
        place = place + D[b + SLOTS] if place < 0 else place
        v = D[VERSION] + g * D[VERSION_WORDS] + D[b + VERSION_AT] + place * D[b + STRIDE]
        e = v + PLACE_SIZE
        for field in range(PLACE_SIZE):
            if not number(M, saving, I[v + field]):
                return False
        for j in range(width + I[v + GUARDED]):
            if I[v + WRITTEN] <= j < D[b + WRITERS]:
                continue
            if not entry_alike(I, F, D, M, N, saving, g, e + j * ENTRY_SIZE, base, old):
                return False
            if j >= width and not number(M, saving, I[e + j * ENTRY_SIZE + REF_KIND]):
                return False
    return True


@inline
def group_alike(I, F, D, E, M, N, saving, g, base):
    group = D[GROUP] + g * GROUP_SIZE
    old = oldest(I, F, D, E, g)
    if not number(M, saving, int(old == LOWEST)):
        return False
    if old == LOWEST:
        return True
    if not (number(M, saving, I[group + PC]) and number(M, saving, I[group + AGENTS])):
        return False
    for c in range(D[CORES]):
        if not core_alike(I, F, D, M, N, saving, g, c, base, old):
            return False
    for lane in range(D[LANES]):
        if not lane_alike(I, F, D, M, N, saving, g, lane, base, old):
            return False
    for b in range(D[BUFFERS]):
        if not buffer_alike(I, F, D, M, N, saving, g, b, base, old):
            return False
    return True


@inline
def transfers_alike(I, F, D, M, N, saving, base):
    if not (number(M, saving, I[HEAPED]) and moment(M, N, saving, F[CLOCK] - base)):
        return False
    for k in range(D[CLASSES]):
        y = flight_at(D, k)
        if not number(M, saving, I[y + FLYING]):
            return False
        clock = F[y + VIRTUAL] + (F[CLOCK] - F[y + SINCE]) * F[y + SPEED]
        for j in range(I[y + FLYING]):
            at = landing_at(I, D, k, j)
            if not (number(M, saving, I[at + Q_LANE]) and moment(M, N, saving, F[at + Q_END] - clock)):
                return False
    return True


@shared
def same(I, F, D, E, M, N, saving, first, last):
    """Save the state of groups [first, last) or compare with what was saved. False: it differs, or, when
    saving, the memory is too small."""
    base = clock_of(I, F, D, I[SAMPLED])
    M[M_AT], M[N_AT] = M_HEAD, N_HEAD
    if saving:
        N[BASE] = base
    N[APART] = 0.0
    N[ALLOWED] = N[TOLERANCE] * (base - N[BASE])
    if not saving and base <= N[BASE]:
        return False
    for g in range(first, last):
        if not group_alike(I, F, D, E, M, N, saving, g, base):
            return False
    return D[ALONE] == 1 or transfers_alike(I, F, D, M, N, saving, base)


@exported(INTS, INTS, INTS, INTS, FLOATS, INT, FLOAT)
def forward(I, words, live, operations, blocks, many, cycles):
    """Move the steps in the rings of `many` groups, named in `live`, forward: their times, their numbers by
    `operations` [group], and when their scalar units last had to wait by `blocks` [of many, core]."""
    D, F = fixed(words), floats(I)
    for j in range(many):
        g = live[j]
        named, caused = operations[g] << LANE_BITS, operations[g] << CODE_BITS
        for lane in range(D[LANES]):
            a = lane_at(D, g, lane)
            later = blocks[j * D[CORES] + D[D[LANE_CORE] + lane]]
            for n in range(max(0, I[a + L_WALKED] - D[RING]), I[a + L_WALKED]):
                x = step_at(I, D, a, n)
                F[x + START] += cycles
                F[x + END] += cycles
                F[x + DONE] += cycles
                F[x + ISSUED] += cycles
                F[x + BLOCK] += later
                I[x + NAME] += named
                if I[x + WHY] >= 0:
                    I[x + WHY] += caused
                if I[x + ISSUE_WHY] >= 0:
                    I[x + ISSUE_WHY] += caused
    return 0


@exported(INTS, INTS, INTS, FLOATS, INT, INT, INT)
def alike(state, words, numbers, moments, saving, first, last):
    """`same`, for arrays."""
    D = fixed(words)
    return same(state, floats(state), D, floats(D), numbers, moments, saving != 0, first, last)
