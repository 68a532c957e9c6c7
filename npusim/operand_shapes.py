"""Which shapes the operands of vector functions have, by the rule that each names (`npusim.ops.VECTOR`)."""

from __future__ import annotations

from collections.abc import Callable

Shape = tuple[int, int]
FRACTAL = 16

SHAPE_RULES: dict[str, Callable[[Shape, list[Shape]], bool]] = {
    "none": lambda dst, srcs: True,
    "same": lambda dst, srcs: all(src == dst for src in srcs),
    "down": lambda dst, srcs: all(src == dst for src in srcs),
    "to_column": lambda dst, srcs: dst == (srcs[0][0], 1),
    "to_row": lambda dst, srcs: dst == (1, srcs[0][1]),
    "from_column": lambda dst, srcs: srcs[0] == (dst[0], 1),
    "from_row": lambda dst, srcs: srcs[0] == (1, dst[1]),
    "row_to_column": lambda dst, srcs: srcs[0] == dst[::-1] and dst[1] == 1,
    "turned": lambda dst, srcs: srcs[0] == dst[::-1],
    "by_column": lambda dst, srcs: srcs[0] == dst and srcs[1] == (dst[0], 1),
    "by_row": lambda dst, srcs: srcs[0] == dst and srcs[1][1] == dst[1] and dst[0] % srcs[1][0] == 0,
    "outer": lambda dst, srcs: srcs == [(dst[0], 1), (1, dst[1])],
    "by_blocks": lambda dst, srcs: srcs == [dst, dst] and dst[0] % FRACTAL == 0,
    "to_blocks": lambda dst, srcs: srcs[0] == (dst[0], FRACTAL) and dst[0] == dst[1],
    "by_scalar": lambda dst, srcs: srcs[0] == dst and srcs[1] == (1, 1),
    "vecmat": lambda dst, srcs: srcs[0] == (1, srcs[1][0]) and dst == (1, srcs[1][1]),
    "sweep": lambda dst, srcs: dst[0] == 1 and srcs[0] == (dst[1], dst[1]),
    "blocks": lambda dst, srcs: dst[0] % dst[1] == 0 and all(src == dst for src in srcs),
}
"""whether a destination and sources fit"""
WHOLE = ("to_row", "from_row", "row_to_column", "turned", "down", "vecmat", "sweep", "blocks")
"""shape rules of the functions that go across rows, so that a share of the rows is not enough"""
WHOLE_SECOND = ("by_scalar", "by_row", "outer")
"""those of the functions that need all of their second source"""
