"""Shared transfers in virtual time.

Transfers of one class (equal bytes, equal rate, the same pools) always move at one speed, so they land in the
order in which they began, and a clock per class, which runs at that speed, says when: a transfer that begins
at V lands at V + its cycles at full speed. Only speeds change when a transfer begins or lands.
"""

from __future__ import annotations

import numpy as np

from npusim.engine.fast.jit import inline
from npusim.engine.fast.layout import *


@inline
def push(I, F, D, time, lane):
    """A transfer of `lane` is to begin at `time`."""
    heap, i = D[HEAP], I[HEAPED]
    I[HEAPED] = i + 1
    while i > 0:
        up = (i - 1) >> 1
        if F[heap + up * HEAP_SIZE + H_TIME] <= time:
            break
        F[heap + i * HEAP_SIZE + H_TIME] = F[heap + up * HEAP_SIZE + H_TIME]
        I[heap + i * HEAP_SIZE + H_LANE] = I[heap + up * HEAP_SIZE + H_LANE]
        i = up
    F[heap + i * HEAP_SIZE + H_TIME] = time
    I[heap + i * HEAP_SIZE + H_LANE] = lane


@inline
def pop(I, F, D):
    """Take the earliest of the transfers that are to begin: its lane."""
    heap = D[HEAP]
    lane = I[heap + H_LANE]
    n = I[HEAPED] - 1
    I[HEAPED] = n
    time, last = F[heap + n * HEAP_SIZE + H_TIME], I[heap + n * HEAP_SIZE + H_LANE]
    i = 0
    while True:
        child = 2 * i + 1
        if child >= n:
            break
        other = child + 1
        if other < n and F[heap + other * HEAP_SIZE + H_TIME] < F[heap + child * HEAP_SIZE + H_TIME]:
            child = other
        if F[heap + child * HEAP_SIZE + H_TIME] >= time:
            break
        F[heap + i * HEAP_SIZE + H_TIME] = F[heap + child * HEAP_SIZE + H_TIME]
        I[heap + i * HEAP_SIZE + H_LANE] = I[heap + child * HEAP_SIZE + H_LANE]
        i = child
    F[heap + i * HEAP_SIZE + H_TIME] = time
    I[heap + i * HEAP_SIZE + H_LANE] = last
    return lane


@inline
def flight_at(D, k):
    return D[FLIGHT] + k * FLIGHT_SIZE


@inline
def landing_at(I, D, k, j):
    """The record of the `j`-th transfer in flight of class `k`."""
    kind = D[CLASS] + k * CLASS_SIZE
    place = (I[flight_at(D, k) + FIFO_HEAD] + j) & D[kind + FIFO_MASK]
    return D[FIFO] + (D[kind + FIFO_AT] + place) * FIFO_SIZE


@inline
def run_clock(F, y, clock):
    """Bring the virtual time of a class up to `clock`."""
    F[y + VIRTUAL] += (clock - F[y + SINCE]) * F[y + SPEED]
    F[y + SINCE] = clock


@inline
def set_speed(I, F, D, k, speed, clock):
    """From now on class `k` moves at `speed`; when its first transfer lands."""
    y = flight_at(D, k)
    if speed != F[y + SPEED]:
        run_clock(F, y, clock)
        F[y + SPEED] = speed
    F[y + LANDS] = max(clock, F[y + SINCE] + (F[landing_at(I, D, k, 0) + Q_END] - F[y + VIRTUAL]) / speed)


@inline
def enter(I, F, D, E, k, lane, clock):
    """A transfer of class `k` begins."""
    y = flight_at(D, k)
    run_clock(F, y, clock)
    if I[y + FLYING] == 0:
        F[y + VIRTUAL] = 0.0
    at = landing_at(I, D, k, I[y + FLYING])
    F[at + Q_END] = F[y + VIRTUAL] + E[D[CLASS] + k * CLASS_SIZE + CYCLES]
    I[at + Q_LANE] = lane
    I[y + FLYING] += 1


@inline
def leave(I, F, D, k, clock):
    """The first transfer of class `k` has landed: its lane. The next one lands as if speeds stayed."""
    y = flight_at(D, k)
    run_clock(F, y, clock)
    lane = I[landing_at(I, D, k, 0) + Q_LANE]
    I[y + FIFO_HEAD] += 1
    I[y + FLYING] -= 1
    if I[y + FLYING]:
        set_speed(I, F, D, k, F[y + SPEED], clock)
    return lane


@inline
def first_landing(I, F, D, part):
    """Find the class of a part that lands first."""
    here = D[PART] + part * PART_SIZE
    best = np.inf
    for j in range(D[here + PART_AT], D[here + PART_END]):
        k = D[D[MEMBERS] + j]
        y = flight_at(D, k)
        if I[y + FLYING] and F[y + LANDS] < best:
            best = F[y + LANDS]
            I[D[ETA] + part * ETA_SIZE + ETA_CLASS] = k
    F[D[ETA] + part * ETA_SIZE + ETA_TIME] = best


@inline
def share_pool(I, F, D, E, part, clock):
    """Speeds of the classes of one pool, the slowest paths first: each takes its own rate while that is no
    more than an even share of what is left."""
    here = D[PART] + part * PART_SIZE
    first, last = D[here + PART_AT], D[here + PART_END]
    left = E[D[POOL] + D[D[CLASS] + D[D[MEMBERS] + first] * CLASS_SIZE + POOL_A]]
    need, flights = 0.0, 0
    for j in range(first, last):
        k = D[D[MEMBERS] + j]
        need += I[flight_at(D, k) + FLYING] * E[D[CLASS] + k * CLASS_SIZE + WEIGHT]
        flights += I[flight_at(D, k) + FLYING]
    full = need > left
    for j in range(first, last):
        k = D[D[MEMBERS] + j]
        n = I[flight_at(D, k) + FLYING]
        if n == 0:
            continue
        weight, speed = E[D[CLASS] + k * CLASS_SIZE + WEIGHT], 1.0
        if full:
            level = left / flights
            if weight > level:
                speed = level / weight
            left -= n * min(weight, level)
            flights -= n
        set_speed(I, F, D, k, speed, clock)


@inline
def share_pools(I, F, D, E, clock):
    """Speeds where transfers pass through several pools: progressive filling. All rates rise together; those
    that meet their own limit or a full pool stay."""
    for pool in range(D[POOLS]):
        s = D[SCRATCH] + pool * SCRATCH_SIZE
        F[s + LEFT] = E[D[POOL] + pool]
        I[s + OPEN] = 0
    rest, full = 0, False
    for k in range(D[CLASSES]):
        kind, n = D[CLASS] + k * CLASS_SIZE, I[flight_at(D, k) + FLYING]
        I[flight_at(D, k) + TODO] = n
        rest += n > 0
        for side in range(POOL_A, POOL_B + 1):
            if D[kind + side] >= 0:
                s = D[SCRATCH] + D[kind + side] * SCRATCH_SIZE
                F[s + LEFT] -= n * E[kind + WEIGHT]
                I[s + OPEN] += n
                full |= F[s + LEFT] < 0.0
    for pool in range(D[POOLS]):
        F[D[SCRATCH] + pool * SCRATCH_SIZE + LEFT] = E[D[POOL] + pool]
    while rest > 0:
        level, tight = np.inf, -1
        if full:
            for pool in range(D[POOLS]):
                s = D[SCRATCH] + pool * SCRATCH_SIZE
                if I[s + OPEN] and F[s + LEFT] / I[s + OPEN] < level:
                    level, tight = F[s + LEFT] / I[s + OPEN], pool
        slow = False
        for k in range(D[CLASSES]):
            slow |= I[flight_at(D, k) + TODO] > 0 and E[D[CLASS] + k * CLASS_SIZE + WEIGHT] <= level
        for k in range(D[CLASSES]):
            kind, n = D[CLASS] + k * CLASS_SIZE, I[flight_at(D, k) + TODO]
            tightened = D[kind + POOL_A] == tight or D[kind + POOL_B] == tight
            if n == 0 or not (E[kind + WEIGHT] <= level if slow else tightened):
                continue
            I[flight_at(D, k) + TODO] = 0
            rest -= 1
            rate = min(E[kind + WEIGHT], level)
            for side in range(POOL_A, POOL_B + 1):
                if D[kind + side] >= 0:
                    s = D[SCRATCH] + D[kind + side] * SCRATCH_SIZE
                    F[s + LEFT] = max(0.0, F[s + LEFT] - n * rate)
                    I[s + OPEN] -= n
            set_speed(I, F, D, k, rate / E[kind + WEIGHT], clock)


@inline
def share(I, F, D, E, part, clock):
    """New speeds after a part has more or fewer transfers."""
    if D[PORTS]:
        share_pools(I, F, D, E, clock)
    else:
        share_pool(I, F, D, E, part, clock)
    first_landing(I, F, D, part)
