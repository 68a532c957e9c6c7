"""The loop of the fast engine: transfers in order of time, and between them all that follows at once."""

from __future__ import annotations

import numpy as np

from npusim.engine.fast.jit import (
    FLOAT,
    FLOATS,
    INT,
    INTS,
    exported,
    fixed,
    floats,
    inline,
    lowest_bit,
    short,
)
from npusim.engine.fast.layout import *
from npusim.engine.fast.period import same
from npusim.engine.fast.pools import enter, first_landing, leave, pop, push, share
from npusim.engine.fast.steps import core_at, lane_at, step_at, waits_for
from npusim.engine.fast.units import GOES_ON, NO_ROOM, PASSING, begin, ends, finish, issue, resolved, wake
from npusim.program import SAME_TIME


@inline
def run(I, F, D, E, rows, times, low, high, g, lane):
    """Run the steps of a lane as far as their times are known."""
    a = lane_at(D, g, lane)
    while True:
        n = I[a + L_FINISHED]
        x = step_at(I, D, a, n)
        op = I[x + OP_AT]
        if I[a + L_FLIGHT] == IDLE:
            if n == I[a + L_ISSUED]:
                return
            if waits_for(I, x, WAITING) and not resolved(I, F, D, E, g, x, op, WAITING, lane):
                return
            begin(I, F, a, x)
            if short(D, op, FLOW_END) > short(D, op, FLOW_AT):
                I[a + L_FLIGHT] = DUE
                push(I, F, D, F[x + START], g * D[LANES] + lane)
                wake(I, D, g, a)
                return
            F[x + END] = max(F[x + TAIL], F[x + START] + E[op + OCCUPANCY])
            I[a + L_FLIGHT] = ENDED
        elif I[a + L_FLIGHT] != ENDED:
            return
        if waits_for(I, x, ENDING) and not ends(I, F, D, g, x, lane):
            wake(I, D, g, a)  # its start is known
            return
        finish(I, F, D, E, rows, times, low, high, g, a, x, op)


@inline
def settle(I, F, D, E, rows, times, low, high, g):
    """Go on in group `g` until nothing follows without a transfer landing: FINISHED, WIDEN or PASSED_EDGE."""
    agents = D[GROUP] + g * GROUP_SIZE + AGENTS
    while I[agents]:
        lane = lowest_bit(I[agents])
        if lane < D[LANES]:
            I[agents] &= I[agents] - 1
        else:
            agent = lane
            lane = issue(I, F, D, E, rows, times, low, high, g, agent - D[LANES])
            if lane == GOES_ON:
                continue
            if lane == NO_ROOM:
                return WIDEN
            if lane == PASSING:
                return PASSED_EDGE
            if lane < 0:
                I[agents] &= ~(1 << agent)
                continue
        run(I, F, D, E, rows, times, low, high, g, lane)
    return FINISHED


@inline
def next_group(I, D, g):
    """The first group from `g` on that has something to do, or -1."""
    while g < D[GROUPS]:
        if I[D[GROUP] + g * GROUP_SIZE + AGENTS]:
            return g
        g += 1
    return -1


@inline
def over(I, D, g):
    """All scalar units of a group have come to the end of the code."""
    for c in range(D[CORES]):
        if not I[core_at(D, g, c) + C_CLOSED]:
            return False
    return True


@inline
def earliest(I, F, D, g):
    """The moment before which no scalar unit of a group issues anything more."""
    time = np.inf
    for c in range(D[CORES]):
        core = core_at(D, g, c)
        if not I[core + C_CLOSED]:
            time = min(time, F[core + C_NOW])
    return time


@inline
def depart(I, F, D, E, number, time):
    """The transfers of the step under way on lane `number` begin."""
    a = D[LANE] + number * LANE_SIZE
    x = step_at(I, D, a, I[a + L_FINISHED])
    op = I[x + OP_AT]
    first, last = short(D, op, FLOW_AT), short(D, op, FLOW_END)
    I[a + L_FLIGHT] = last - first
    for f in range(first, last):
        k = D[D[FLOWS] + f]
        k += D[D[CLASS] + k * CLASS_SIZE + PER_GROUP] * (number // D[LANES])
        enter(I, F, D, E, k, number, time)
        share(I, F, D, E, D[D[CLASS] + k * CLASS_SIZE + CLASS_PART], time)


@inline
def arrive(I, F, D, part, time):
    """The next transfer of a part has landed; where it was the last of its step, that step goes on."""
    k = I[D[ETA] + part * ETA_SIZE + ETA_CLASS]
    number = leave(I, F, D, k, time)
    a = D[LANE] + number * LANE_SIZE
    I[a + L_FLIGHT] -= 1
    if I[a + L_FLIGHT]:
        return -1
    I[a + L_FLIGHT] = ENDED
    x = step_at(I, D, a, I[a + L_FINISHED])
    F[x + END] = max(F[x + TAIL], time)
    awake = number // D[LANES]
    I[D[GROUP] + awake * GROUP_SIZE + AGENTS] |= 1 << (number - awake * D[LANES])
    return awake


@inline
def transfer(I, F, D, E, until):
    """A transfer begins, or those land that are the next to do so. Returns the first group that can go on
    (and GROUPS more where others can, too); -1: none; -2: nothing happens before `until`; -3: nothing at
    all."""
    due = F[D[HEAP] + H_TIME] if I[HEAPED] else np.inf
    landing = np.inf
    for part in range(D[PARTS]):
        landing = min(landing, F[D[ETA] + part * ETA_SIZE + ETA_TIME])
    time = min(due, landing)
    if time == np.inf:
        return -3
    if time > until:
        return -2
    F[CLOCK] = time
    if due <= landing:
        depart(I, F, D, E, pop(I, F, D), time)
        return -1
    first, landed = D[GROUPS], 0
    for part in range(D[PARTS]):
        before = landed
        while F[D[ETA] + part * ETA_SIZE + ETA_TIME] <= time * (1 + SAME_TIME):
            awake = arrive(I, F, D, part, time)
            landed += 1
            if awake >= 0:
                first = min(first, awake)
            first_landing(I, F, D, part)
        if landed > before:
            share(I, F, D, E, part, time)
    if first == D[GROUPS]:
        return -1
    return first if landed == 1 else first + D[GROUPS]


@inline
def look_at(I, g):
    """Sample group `g` from now on."""
    I[SAMPLED], I[SAMPLES], I[SNAP], I[COMPARING], I[DEEPEST] = g, 0, min(1, I[SNAP]), 0, ANY_DEPTH


@inline
def sample(I, F, D, E, M, N, first, last):
    """Look at the state: SNAPSHOT where one is due, MATCH where it is that of the last one again."""
    I[SAMPLES] += 1
    if I[SAMPLES] == I[SNAP]:
        return SNAPSHOT
    if I[COMPARING] and same(I, F, D, E, M, N, False, first, last):
        return MATCH
    return PASSED_EDGE


@exported(INTS, INTS, INTS, INTS, INTS, INTS, FLOATS, FLOAT, INT)
def advance(I, words, rows, asked_from, asked_to, M, N, until, budget):
    """Run until the phase is over, `budget` more steps were taken, the clock passes `until`, or Python is
    needed: for wider rings, for a snapshot, or because the state is that of the snapshot again."""
    D, low, high = fixed(words), fixed(asked_from), fixed(asked_to)
    F, E, times = floats(I), floats(D), floats(rows)
    most = I[WALKED] + budget
    g = next_group(I, D, 0)
    scanning = g >= 0
    while True:
        if g >= 0:
            if D[ALONE] and I[SAMPLED] != g:
                look_at(I, g)
            why = settle(I, F, D, E, rows, times, low, high, g)
            if why == WIDEN:
                return WIDEN
            if why == PASSED_EDGE:
                depth = I[PASSED] - 1
                I[PASSED] = 0
                if D[ALONE] and earliest(I, F, D, g) >= until:
                    I[D[GROUP] + g * GROUP_SIZE + AGENTS] &= (1 << D[LANES]) - 1  # no core issues more
                elif g == I[SAMPLED] and I[SNAP] and depth <= I[DEEPEST]:
                    first, last = (g, g + 1) if D[ALONE] else (0, D[GROUPS])
                    why = sample(I, F, D, E, M, N, first, last)
                    if why != PASSED_EDGE:
                        return why
            if I[WALKED] >= most:
                return BUDGET
            if I[D[GROUP] + g * GROUP_SIZE + AGENTS]:
                continue
        if scanning:
            g = next_group(I, D, g + 1)
            scanning = g >= 0
            if scanning:
                continue
        if not D[ALONE] and over(I, D, I[SAMPLED]) and I[SAMPLED] + 1 < D[GROUPS]:
            look_at(I, I[SAMPLED] + 1)
        g = transfer(I, F, D, E, until)
        if g == -3:
            return FINISHED
        if g == -2:
            return AT_TIME
        scanning = g >= D[GROUPS]
        if scanning:
            g -= D[GROUPS]
