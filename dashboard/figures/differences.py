"""Numbers of several configurations as people read them, and their differences to a baseline."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dashboard.figures.text import digits, percent, size, spaced, time
from dashboard.service.rows import Kind, Value

ALIKE = 1e-9
"""relative distance of numbers that are the same"""
FOLD = 2.0
"""a ratio from which a change is told as 'so many times', not in percent"""


@dataclass(frozen=True)
class Difference:
    """Of a number to the baseline's: how it is written, and its sign (0: alike or not to be compared)."""

    text: str
    sign: int
    alike: bool = False


def shown(kind: Kind, value: Value) -> str:
    """A number, or a dash where there is none."""
    if value is None:
        return "—"
    if isinstance(value, str):
        return value
    return {
        "time": lambda: spaced(time(value)),
        "share": lambda: percent(value),
        "ratio": lambda: f"{digits(value)} ×",
        "bytes": lambda: size(value),
        "count": lambda: f"{value:,.0f}",
        "error": lambda: digits(value),
        "db": lambda: f"{digits(value)} dB" if math.isfinite(value) else digits(value),
        "text": lambda: str(value),
    }[kind]()


def difference(kind: Kind, value: Value, base: Value) -> Difference:
    """`value` less `base`, where it is sensible in its own unit, and in percent or as a ratio."""
    if value is None or base is None:
        return Difference("", 0)
    if isinstance(value, str) or isinstance(base, str):
        return Difference("", 0, value == base)
    if value == base or math.isclose(value, base, rel_tol=ALIKE, abs_tol=1e-15):
        return Difference("=", 0, True)
    less = value - base
    sign = 1 if less > 0 else -1
    if not math.isfinite(less):
        return Difference("", sign)
    if kind == "ratio":
        return Difference(_signed(less, percent(abs(less / base))), sign)
    relative = _fold(value, base) if kind == "error" else _relative(value, base)
    absolute = {
        "time": lambda: _signed(less, spaced(time(abs(less)))),
        "share": lambda: _signed(less, f"{digits(100 * abs(less), 2 if abs(less) < 0.1 else 3)} pts"),
        "bytes": lambda: _signed(less, size(abs(less))),
        "count": lambda: _signed(less, f"{abs(less):,.0f}"),
        "db": lambda: _signed(less, f"{digits(abs(less))} dB"),
    }.get(kind)
    if absolute is None:
        return Difference(relative or _signed(less, digits(abs(less))), sign)
    if kind in ("share", "db") or not relative:
        return Difference(absolute(), sign)
    return Difference(f"{absolute()} · {relative}", sign)


def _signed(value: float, text: str) -> str:
    return f"+{text}" if value > 0 else f"−{text}"


def _relative(value: float, base: float) -> str:
    """In percent, or '3.1 ×' where it is several times as much; '' where the baseline is nothing."""
    if base == 0:
        return ""
    ratio = value / base
    if ratio >= FOLD:
        return f"{digits(ratio)} ×"
    change = abs(ratio - 1)
    return _signed(ratio - 1, percent(change) if change >= 5e-4 else f"{digits(100 * change, 1)} %")


def _fold(value: float, base: float) -> str:
    """Of what goes over powers of ten."""
    if base == 0 or value == 0 or 1 / FOLD < value / base < FOLD:
        return _relative(value, base)
    return f"{digits(value / base)} × more" if value > base else f"{digits(base / value)} × less"
