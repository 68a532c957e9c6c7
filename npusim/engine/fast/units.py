"""What scalar units and other units do with the steps of their group, as far as times are known."""

from __future__ import annotations

from npusim.engine.fast.jit import inline, short
from npusim.engine.fast.layout import *
from npusim.engine.fast.steps import (
    FULL,
    bound_of,
    cause_of,
    core_at,
    edges,
    known,
    lane_at,
    step_at,
    waits_for,
    walk,
    why,
)  # fmt: skip

BLOCKED, CLOSED, GOES_ON, NO_ROOM, PASSING = -1, -2, -3, -4, -5
"""what became of a scalar unit's next step; from 0 on: issued to that lane, which is free to run it"""


@inline
def record(I, F, D, E, rows, times, low, high, g, x):
    """Write down a finished step if its number is asked for: in [low, high) of its group."""
    seq = I[x + NAME] >> LANE_BITS
    if low[g] <= seq < high[g]:
        r = I[ROWS] * ROW_SIZE
        I[ROWS] += 1
        rows[r + R_GROUP] = g
        rows[r + R_SEQ] = seq
        rows[r + R_INSTANCE] = short(D, I[x + OP_AT], OP_NUMBER)
        times[r + R_START] = F[x + START]
        times[r + R_END] = F[x + END]
        times[r + R_DONE] = F[x + DONE]
        rows[r + R_BOUND] = bound_of(I[x + WHY])
        rows[r + R_CAUSE] = I[x + WHY] >> CODE_BITS
        times[r + R_ISSUED] = F[x + ISSUED] - E[ISSUE]
        rows[r + R_ISSUE_BOUND] = bound_of(I[x + ISSUE_WHY])
        rows[r + R_ISSUE_CAUSE] = I[x + ISSUE_WHY] >> CODE_BITS


@inline
def producer(D, g, edge):
    """The lane of a producer."""
    return lane_at(D, g, (edge & OF_MASK) >> KIND_BITS)


@inline
def resolved(I, F, D, E, g, x, op, side, agent):
    """Whether all producers that step `x` waits for before its issue or its start are known by now: then it
    has the latest of their times. Else `agent` waits for the lane of the last that is not: once that is
    known, the others mostly are."""
    field, word = (ISSUED, ISSUE_WHY) if side == BLOCKING else (READY, WHY)
    latest, last = LOWEST, 0
    flags = short(D, op, FLAGS_AT)
    first = x + FIRST_EDGE
    j = first + edges(I, x)
    while j > first:
        j -= 1
        edge = I[j]
        if edge & (SIDE_MASK << SIDE_AT) != side << SIDE_AT:
            continue
        kind, y = edge & KIND_MASK, edge >> EDGE_BITS
        if not known(I, y, kind):
            I[producer(D, g, edge) + L_WAITERS] |= 1 << agent
            return False
        if side == BLOCKING and kind == DRAIN:
            time = F[producer(D, g, edge) + L_DRAINED]
        else:
            time = F[y + kind] + E[flags + (edge & FLAG_MASK)]
        if time >= latest:  # of equal ones the first
            latest, last = time, edge
    if latest > F[x + field]:
        of = (last & OF_MASK) >> KIND_BITS
        F[x + field] = latest
        I[x + word] = why(cause_of(D, last & KIND_MASK, of), I[(last >> EDGE_BITS) + NAME] >> LANE_BITS)
    I[x + EDGES] &= ~(1 << (COUNT_BITS + side))
    return True


@inline
def ends(I, F, D, g, x, agent):
    """The same for what holds up the end of step `x`."""
    for j in range(x + FIRST_EDGE, x + FIRST_EDGE + edges(I, x)):
        edge = I[j]
        if edge & (SIDE_MASK << SIDE_AT) != ENDING << SIDE_AT:
            continue
        kind, y = edge & KIND_MASK, edge >> EDGE_BITS
        if not known(I, y, kind):
            I[producer(D, g, edge) + L_WAITERS] |= 1 << agent
            return False
        if kind == STREAM_END:
            F[x + TAIL] = max(F[x + TAIL], F[y + END])
        else:
            F[x + KEPT] = max(F[x + KEPT], F[y + DONE])
    I[x + EDGES] &= ~(1 << (COUNT_BITS + ENDING))
    return True


@inline
def wake(I, D, g, a):
    """Whoever waits for a lane looks again."""
    I[D[GROUP] + g * GROUP_SIZE + AGENTS] |= I[a + L_WAITERS]
    I[a + L_WAITERS] = 0


@inline
def tally(I, F, D, g, x, op):
    """Count a finished step."""
    y = D[TALLY] + (g * D[INSTANCES] + short(D, op, OP_NUMBER)) * TALLY_SIZE
    I[y + T_COUNT] += 1
    F[y + T_OCCUPIED] += F[x + END] - F[x + START]


@inline
def wait(F, base, since, until, blocked, code):
    """Charge the gap [since, until) of a unit to what its scalar unit waited for, and then to issue."""
    resumed = since
    if code != NO_BOUND:
        resumed = min(max(blocked, since), until)
        F[base + code] += resumed - since
    F[base + BY_ISSUE] += until - resumed


@inline
def scalar_time(I, F, core, start, done):
    """Account for a scalar unit's time up to `done`: a gap before `start`, then work."""
    since = F[core + C_REACHED]
    if start > since:
        wait(F, I[core + C_WAITS], since, start, F[core + C_BLOCK], I[core + C_BLOCK_CODE])
    F[core + C_BUSY] += max(0.0, done - max(start, since))
    F[core + C_OCCUPIED] += done - start
    F[core + C_REACHED] = max(since, done)


@inline
def unit_time(I, F, a, x):
    """Account for a unit's time up to the end of a step: a gap before its start, by its cause, then work."""
    since, start, done = F[a + L_REACHED], F[x + START], F[x + DONE]
    if start > since:
        bound = bound_of(I[x + WHY])
        if bound >= BY_LANE:
            F[I[a + L_WAITS] + bound] += start - since
        else:
            wait(F, I[a + L_WAITS], since, start, F[x + BLOCK], I[x + BLOCK_CODE])
        since = F[a + L_REACHED] = start
    if done > since:
        F[a + L_BUSY] += done - since
        F[a + L_REACHED] = done


@inline
def waiting(I, D, core):
    """The lane of the first step that waits for a core."""
    lane = I[I[core + C_ORDER] + (I[core + C_HEAD] & (4 * D[RING] - 1))]
    I[core + C_HEAD] += 1
    if I[core + C_HEAD] == I[core + C_TAIL]:
        I[core + C_HEAD] = I[core + C_TAIL] = 0  # the same few words again
    return lane


@inline
def issue(I, F, D, E, rows, times, low, high, g, number):
    """Issue the next step of a core: the lane that may run it, or what else became of it."""
    core = core_at(D, g, number)
    agent = D[LANES] + number
    if I[core + C_HOLDING]:
        if I[core + C_HOLDING] == 1:
            return BLOCKED
        I[core + C_HOLDING] = 0
        F[core + C_NOW] = max(F[core + C_NOW], F[core + C_HELD])
    lane = I[core + C_NEXT]
    while lane == NONE:
        if I[core + C_HEAD] < I[core + C_TAIL]:
            lane = waiting(I, D, core)
            break
        group = D[GROUP] + g * GROUP_SIZE
        if not (D[D[CODE] + I[group + PC] * CODE_SIZE + MORE] >> number) & 1:
            I[core + C_CLOSED] = 1
            F[group + CLOSED_AT] = max(F[group + CLOSED_AT], F[core + C_NOW])
            return CLOSED
        lane = walk(I, F, D, E, g, number)
        if lane == FULL:
            return NO_ROOM
        if I[PASSED]:
            I[core + C_NEXT] = lane
            return PASSING
    a = lane_at(D, g, lane)
    n = I[a + L_ISSUED]
    x = step_at(I, D, a, n)
    op = I[x + OP_AT]
    if waits_for(I, x, BLOCKING) and not resolved(I, F, D, E, g, x, op, BLOCKING, agent):
        I[core + C_NEXT] = lane
        return BLOCKED
    unit = short(D, op, ROLE) == 0
    now, reason = F[core + C_NOW], why(NO_BOUND, NONE)
    if F[x + ISSUED] > now:
        now, reason = F[x + ISSUED], I[x + ISSUE_WHY]
    if unit and n >= D[DEPTH]:
        if I[a + L_STARTED] <= n - D[DEPTH]:
            I[a + L_WAITERS] |= 1 << agent
            I[core + C_NEXT] = lane
            return BLOCKED
        y = step_at(I, D, a, n - D[DEPTH])
        if F[y + START] > now:
            now, reason = F[y + START], why(BY_QUEUE, I[y + NAME] >> LANE_BITS)
    F[x + ISSUED] = now + E[ISSUE]
    I[x + ISSUE_WHY] = reason
    if reason != why(NO_BOUND, NONE):
        F[core + C_BLOCK] = now
        I[core + C_BLOCK_CODE] = bound_of(reason)
    I[a + L_ISSUED] = n + 1
    I[core + C_NEXT] = NONE
    after = now + (E[op + PACE] if unit else E[op + OCCUPANCY])
    F[core + C_NOW] = after
    scalar_time(I, F, core, now, after)
    if unit:
        F[x + BLOCK] = F[core + C_BLOCK]
        I[x + BLOCK_CODE] = I[core + C_BLOCK_CODE]
        I[core + C_HOLDING] = short(D, op, HOLDS)
        return lane if I[a + L_FINISHED] == n else GOES_ON
    I[x + WHY] = why(BY_ISSUE, NONE)
    F[x + START] = now
    F[x + END] = F[x + DONE] = after
    F[a + L_DRAINED] = max(F[a + L_DRAINED], after)
    I[a + L_STARTED] = I[a + L_FINISHED] = n + 1
    I[x + STAGE] = OVER
    tally(I, F, D, g, x, op)
    record(I, F, D, E, rows, times, low, high, g, x)
    wake(I, D, g, a)
    return GOES_ON


@inline
def begin(I, F, a, x):
    """Start the step at the head of a lane."""
    start, reason = F[a + L_FREE], why(NO_BOUND, NONE)
    if F[x + ISSUED] > start:
        start, reason = F[x + ISSUED], why(BY_ISSUE, NONE)
    if F[x + READY] > start:
        start, reason = F[x + READY], I[x + WHY]
    I[x + WHY] = reason
    F[x + START] = start
    I[x + STAGE] = STARTED
    I[a + L_STARTED] += 1


@inline
def finish(I, F, D, E, rows, times, low, high, g, a, x, op):
    """All times of the step at the head of a lane are known."""
    end = F[x + END]
    done = max(end, end + E[op + LATENCY], F[x + KEPT])
    F[x + DONE] = done
    F[a + L_FREE] = end
    F[a + L_DRAINED] = max(F[a + L_DRAINED], done)
    I[a + L_FINISHED] += 1
    I[a + L_FLIGHT] = IDLE
    I[x + STAGE] = OVER
    tally(I, F, D, g, x, op)
    unit_time(I, F, a, x)
    record(I, F, D, E, rows, times, low, high, g, x)
    if short(D, op, HOLDS):
        core = core_at(D, g, short(D, op, OP_CORE))
        F[core + C_HELD] = done
        I[core + C_HOLDING] = 2
        I[D[GROUP] + g * GROUP_SIZE + AGENTS] |= 1 << (D[LANES] + short(D, op, OP_CORE))
    wake(I, D, g, a)
