"""What a state that is kept holds of its rings: steps that may still be asked for."""

from __future__ import annotations

from npusim.engine.fast.jit import INT, INTS, exported, fixed, floats, inline
from npusim.engine.fast.layout import *
from npusim.engine.fast.steps import core_at, edges, lane_at, name, step_at, waits_for


@inline
def hold(I, D, g, y):
    """Step `y` may still be asked for."""
    a = lane_at(D, g, I[y + NAME] & LANE_MASK)
    last = I[a + L_WALKED] - 1
    n = last - ((last - (y - I[a + L_RING]) // D[STEP_WORDS]) & D[RING_MASK])
    I[a + L_HELD] = min(I[a + L_HELD], n)


@inline
def first_held(I, D, a):
    """The first step of a lane that may still be asked for."""
    return min(max(0, I[a + L_WALKED] - D[RING], I[a + L_HELD]), I[a + L_WALKED])


@exported(INTS, INTS, INT, INT)
def trim(I, words, first, last):
    """In groups [first, last), versions that name steps which are over have their times instead, and lanes
    know from which step on one may still be asked for: as a producer, for a place in a full queue, or, where
    loops settle, by how far back it is (in their bodies or at their ends: tables PRODUCER and LEFT_BY). How
    many words of rings that are."""
    D, F = fixed(words), floats(I)
    for g in range(first, last):
        versions = D[VERSION] + g * D[VERSION_WORDS]
        for j in range(D[ENTRIES]):
            e = versions + D[D[ENTRY] + j]
            y = I[e + REF] >> EDGE_BITS
            if y > OLD and I[y + STAGE] == OVER:
                name(I, F, e, y)
        for lane in range(D[LANES]):
            a = lane_at(D, g, lane)
            held = max(0, I[a + L_WALKED] - D[RING])
            asked = min(I[a + L_FINISHED], I[a + L_ISSUED] - D[DEPTH])
            I[a + L_HELD] = held if D[DRAINS] > D[PRODUCER] else max(held, asked)
        for lane in range(D[LANES]):
            a = lane_at(D, g, lane)
            for n in range(I[a + L_FINISHED], I[a + L_WALKED]):
                x = step_at(I, D, a, n)
                for j in range(x + FIRST_EDGE, x + FIRST_EDGE + edges(I, x)):
                    if waits_for(I, x, (I[j] >> SIDE_AT) & SIDE_MASK):
                        hold(I, D, g, I[j] >> EDGE_BITS)
    many = 0
    for g in range(first, last):
        for lane in range(D[LANES]):
            a = lane_at(D, g, lane)
            for n in range(first_held(I, D, a), I[a + L_WALKED]):
                many += words_held(I, D, a, n)
        for number in range(D[CORES]):
            core = core_at(D, g, number)
            many += max(0, I[core + C_TAIL] - I[core + C_HEAD])
    return many


@inline
def words_held(I, D, a, n):
    """How many words of step `n` of a lane are asked for: of one that is over its times and its name."""
    return EDGES if n < I[a + L_FINISHED] else D[STEP_WORDS]


@exported(INTS, INTS, INTS, INT, INT, INT)
def move_rings(I, words, kept, first, last, back):
    """Copy what `trim` counted of groups [first, last) to the start of `kept`, or (`back`) from there: steps,
    and lanes that wait for their core."""
    D = fixed(words)
    j = 0
    for g in range(first, last):
        for lane in range(D[LANES]):
            a = lane_at(D, g, lane)
            for n in range(first_held(I, D, a), I[a + L_WALKED]):
                x = step_at(I, D, a, n)
                for word in range(words_held(I, D, a, n)):
                    if back:
                        I[x + word] = kept[j]
                    else:
                        kept[j] = I[x + word]
                    j += 1
        for number in range(D[CORES]):
            core = core_at(D, g, number)
            for n in range(I[core + C_HEAD], I[core + C_TAIL]):
                y = I[core + C_ORDER] + (n & (4 * D[RING] - 1))
                if back:
                    I[y] = kept[j]
                else:
                    kept[j] = I[y]
                j += 1
    return j
