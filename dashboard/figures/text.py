"""Numbers as people read them: with their units, and as many digits as are meant."""

from __future__ import annotations

import math
from html import escape

BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
DECIMAL = ("", "k", "M", "G", "T", "P", "E")


def digits(value: float, count: int = 3) -> str:
    """So many significant digits, thousands apart, an exponent where people use one: '9,640', '4.1e-5'."""
    if not math.isfinite(value):
        return "∞" if value > 0 else "−∞" if value < 0 else "—"
    if value == 0:
        return "0"
    if abs(value) < 1e-4 or abs(value) >= 1e9:
        return f"{value:.{count - 1}e}".replace("e-0", "e-").replace("e+0", "e")
    places = max(0, count - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{places}f}"


def time(us: float) -> tuple[str, str]:
    """A time and its unit: '9.64', 'ms'."""
    for limit, unit, scale in ((1e3, "µs", 1.0), (1e6, "ms", 1e3)):
        if abs(us) < limit:
            return digits(us / scale), unit
    return digits(us / 1e6), "s"


def spaced(value: tuple[str, str]) -> str:
    return " ".join(value)


def size(count: float) -> str:
    """Bytes with a binary prefix: '512 KiB'."""
    place = 0
    while abs(count) >= 1024 and place < len(BINARY) - 1:
        count, place = count / 1024, place + 1
    return f"{digits(count)} {BINARY[place]}"


def scaled(value: float, unit: str) -> str:
    """With a decimal prefix: '294 Tops/s'."""
    place = 0
    while abs(value) >= 1000 and place < len(DECIMAL) - 1:
        value, place = value / 1000, place + 1
    return f"{digits(value)} {DECIMAL[place]}{unit}"


def percent(share: float) -> str:
    """'83 %', '0.4 %'."""
    return f"{100 * share:.0f} %" if share >= 0.0995 or share == 0 else f"{100 * share:.1f} %"


def escaped(text: str) -> str:
    """As a text of a figure, which takes tags and entities for what they mean."""
    return escape(text, quote=False)


def cycles(value: float) -> str:
    """Cycles, or a profile's number, without zeros behind the point: '346.56', '70'."""
    return f"{value:,.6g}"


def unit(name: str) -> str:
    """A unit as it is printed."""
    return "µs" if name == "us" else name
