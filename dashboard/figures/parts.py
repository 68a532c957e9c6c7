"""Stacked bars of what a unit's core time went to: its operations, their latencies, what it waited for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from typing import Any

from dashboard.figures.text import escaped, percent, spaced, time
from dashboard.figures.theme import Theme, clear
from dashboard.service import Timing, UnitUsage

SHOWN = 4
"""operations of a unit that a bar shows apart"""
NAMED = 0.11
"""the share of the time from which a part of a bar is named in it"""
WAITS = {"data": "data from", "slot": "slot freed", "other core": "other core", "queue": "queue full"}
"""causes of waiting, as the legend groups them, by how their names begin"""
IDLE = ("launch", "finished", "unused")


def working(timing: Timing) -> dict[str, UnitUsage]:
    """The units that a kernel uses."""
    return {name: unit for name, unit in timing.report.units.items() if "unused" not in unit.waiting}


def scale_of(us: float) -> tuple[float, str]:
    """Microseconds of the unit that an axis of such times has, and its name."""
    return (1.0, "µs") if us < 1e4 else (1e3, "ms") if us < 1e7 else (1e6, "s")


def _group(cause: str) -> str:
    if cause in IDLE:
        return "idle"
    return next((name for name, start in WAITS.items() if cause.startswith(start)), "issue")


class Bars:
    """Parts of stacked bars, gathered by what they have in common. `rows`: the place of each bar on its axis,
    and what it is called."""

    def __init__(self, rows: dict[Hashable, str], whole: float) -> None:
        self.rows, self.whole = rows, whole
        self.scale, self.unit = scale_of(whole)
        self.parts: dict[tuple[str, int], dict[Hashable, list[tuple[str, float]]]] = {}

    def put(self, row: Hashable, timing: Timing, name: str) -> None:
        """The bar of a unit."""
        unit, own = timing.report.units[name], timing.operations.get(name, [])
        for rank, (operation, us) in enumerate(own[:SHOWN]):
            self._add(("operations", rank), row, us, operation)
        rest = sum(us for _, us in own[SHOWN:])
        if rest > 0:
            self._add(("operations", SHOWN), row, rest, f"{len(own) - SHOWN} other operations")
        self._add(("latency", 0), row, max(0.0, unit.busy_us - sum(us for _, us in own)), "latency")
        for cause, us in unit.waiting.items():
            self._add((_group(cause), 0), row, us, cause)

    def _add(self, key: tuple[str, int], row: Hashable, us: float, what: str) -> None:
        if us > 1e-9:
            self.parts.setdefault(key, defaultdict(list))[row].append((what, us))

    def traces(self, theme: Theme) -> list[dict[str, Any]]:
        """One for each colour, work first."""
        shades = {rank: clear(theme.accent, (1.0, 0.82, 0.66, 0.52, 0.4)[rank]) for rank in range(SHOWN + 1)}
        colours = {
            "latency": theme.soft, "data": clear(theme.series[2], 0.8), "slot": clear(theme.series[3], 0.8),
            "other core": clear(theme.series[4], 0.8), "queue": clear(theme.muted, 0.6),
            "issue": clear(theme.series[6], 0.8),
            "idle": clear(theme.muted, 0.22),
        }  # fmt: skip
        order = [("operations", rank) for rank in range(SHOWN + 1)] + [(name, 0) for name in colours]
        return [
            self._trace(key, shades[key[1]] if key[0] == "operations" else colours[key[0]], theme)
            for key in order
            if key in self.parts
        ]

    def _trace(self, key: tuple[str, int], colour: str, theme: Theme) -> dict[str, Any]:
        """One colour over all bars; several causes of a bar are one part that names each."""
        found = self.parts[key]
        totals = {row: sum(us for _, us in found[row]) for row in self.rows if row in found}
        lines = {
            row: [
                f"{escaped(what)}: {spaced(time(us))}, {percent(us / self.whole)}" for what, us in found[row]
            ]
            for row in totals
        }
        said = [f"<b>{escaped(self.rows[row])}</b><br>" + "<br>".join(lines[row]) for row in totals]
        named = key[0] == "operations" and key[1] < SHOWN
        text = [
            escaped(found[row][0][0]) if named and us > NAMED * self.whole else ""
            for row, us in totals.items()
        ]
        return {
            "type": "bar", "orientation": "h", "y": list(totals), "name": key[0],
            "x": [us / self.scale for us in totals.values()], "showlegend": key[1] == 0,
            "marker": {"color": colour, "line": {"width": 0.5, "color": theme.card}},
            "hovertext": said, "hoverinfo": "text", "text": text, "textposition": "inside",
            "insidetextanchor": "middle", "textangle": 0,
            "textfont": {"size": 10.5, "color": theme.card if key[1] < 2 else theme.ink},
        }  # fmt: skip
