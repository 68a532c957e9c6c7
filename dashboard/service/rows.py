"""The numbers of a comparison, row by row: what a report and an accuracy hold, a value for each
configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from dashboard.service.configurations import Alike, Configuration
from dashboard.service.explore import Accuracy, Timing

Kind = Literal["time", "share", "ratio", "bytes", "count", "error", "db", "text"]
"""how a number is meant: microseconds, a share of 1, a ratio, bytes, a whole number, a relative error, dB"""
Value = float | str | None
SMALL = 0.005
"""the share of the core time from which a cause of waiting has a row"""
TRAFFIC = {
    "hbm_read": "HBM read", "hbm_written": "HBM written", "l2_read": "L2 read", "l2_written": "L2 written",
}  # fmt: skip
EVIDENCE = ("documented", "measured", "fitted", "assumed")


@dataclass(frozen=True)
class Row:
    """A number of every configuration, None where there is none. `better`: 1 where more is better, -1 where
    less is, 0 where neither is."""

    label: str
    kind: Kind
    values: tuple[Value, ...]
    better: int = 0
    help: str = ""


@dataclass(frozen=True)
class Section:
    """Rows that belong together."""

    title: str
    rows: tuple[Row, ...]
    note: str = ""


class _Of:
    """Rows of several things of a kind, some of which may be missing."""

    def __init__(self, timings: Sequence[Timing | None]) -> None:
        self.timings = timings

    def row(
        self, label: str, kind: Kind, pick: Callable[[Timing], Value], better: int = 0, help: str = ""
    ) -> Row:
        return Row(
            label, kind, tuple(None if one is None else pick(one) for one in self.timings), better, help
        )

    def names(self, pick: Callable[[Timing], Iterable[str]]) -> list[str]:
        """Names that any of them has, in their order."""
        return list(dict.fromkeys(name for one in self.timings if one for name in pick(one)))


def setting_section(found: Sequence[Configuration], alike: Alike) -> Section:
    """Every setting that is not alike in all, those among them that a kernel chooses itself."""
    first: dict[str, str] = {}
    for one in found:
        for name in alike.unlike:
            if name in one.settings:
                first.setdefault(name, one.settings[name].label)
    rows = (
        Row(label, "text", tuple(one.settings[name].value if name in one.settings else None for one in found))
        for name, label in first.items()
    )
    return Section("Settings", tuple(rows), "that differ")


def time_sections(timings: Sequence[Timing | None], base: int) -> list[Section]:
    """Time and what is known of it."""
    of, first = _Of(timings), timings[base]

    def speed_up(one: Timing) -> float | None:
        return first.report.task_us / one.report.task_us if first and one.report.task_us else None

    rows = [
        of.row("Time", "time", lambda one: one.report.task_us, -1, "core time and launch"),
        of.row("Speed-up", "ratio", speed_up, 1, "time of the baseline by the time"),
        of.row("Core time", "time", lambda one: one.report.core_us, -1, "first start to last end"),
        of.row("Event time", "time", lambda one: one.report.event_us, -1, "with what the host sees"),
        of.row("Bound", "text", _bound, 0, "what is busy for more than 80 % of the core time"),
        of.row("Cores", "text", lambda one: one.cores, 0, "that take part"),
        of.row("Expected error", "share", lambda one: one.expected.error, -1, "of the time, by measurements"),
    ]
    known = [
        of.row(kind.capitalize(), "share", lambda one, kind=kind: one.report.evidence.get(kind, 0.0))  # type: ignore[misc]
        for kind in EVIDENCE
    ]
    return [Section("Time", tuple(rows)), Section("Evidence", tuple(known), "what carries the time")]


def _bound(one: Timing) -> str:
    report = one.report
    return report.bound if not report.dominant_unit else f"{report.bound}, {report.dominant_unit}"


def error_section(accuracies: Sequence[Accuracy | str]) -> Section:
    """Errors of the main output on a sample."""
    found = [one.main if isinstance(one, Accuracy) else None for one in accuracies]

    def row(label: str, kind: Kind, name: str, better: int, help: str = "") -> Row:
        values = (None if one is None else getattr(one, name) for one in found)
        return Row(label, kind, tuple(values), better, help)

    rows = (
        row("Relative error", "error", "relative_error", -1, "norm of the error by that of the result"),
        row("Worst relative error", "error", "worst_relative_error", -1, "largest of one piece"),
        row("SNR", "db", "snr_db", 1, "mean over the pieces"),
        row("Worst SNR", "db", "worst_snr_db", 1),
        row("Largest absolute error", "error", "max_abs_error", -1),
        row("Not finite", "count", "nonfinite", -1, "values that are infinite or no number"),
        row("Pieces compared", "count", "samples", 0),
    )
    return Section("Error", rows)


def unit_sections(timings: Sequence[Timing | None]) -> list[Section]:
    """Units, bytes, buffers and waiting."""
    of = _Of(timings)
    units = of.names(lambda one: (n for n, unit in one.report.units.items() if "unused" not in unit.waiting))

    def busy(name: str) -> Callable[[Timing], Value]:
        return lambda one: one.report.units[name].busy_us if name in one.report.units else None

    def utilisation(name: str) -> Callable[[Timing], Value]:
        return lambda one: one.report.units[name].utilisation if name in one.report.units else None

    def traffic(name: str) -> Callable[[Timing], Value]:
        return lambda one: one.report.bytes.get(name, 0.0)

    def peak(name: str) -> Callable[[Timing], Value]:
        return lambda one: one.report.peak_bytes.get(name, 0)

    levels = of.names(lambda one: (n for n, most in one.report.peak_bytes.items() if most))
    operations = of.row("Operations", "count", lambda one: one.report.operations, 0, "of all cores")
    return [
        Section("Utilisation", tuple(of.row(n, "share", utilisation(n)) for n in units), "mean core"),
        Section("Busy", tuple(of.row(n, "time", busy(n)) for n in units), "mean core"),
        Section("Bytes", tuple(of.row(t, "bytes", traffic(n), -1) for n, t in TRAFFIC.items()), "all cores"),
        Section("Buffers", tuple(of.row(n, "bytes", peak(n)) for n in levels), "the most that tiles take"),
        Section("Work", (operations,)),
        *_waiting(of, units),
    ]


def _waiting(of: _Of, units: Iterable[str]) -> Iterable[Section]:
    """What each unit waits for, those causes that matter in one of the configurations."""

    def waits(name: str, cause: str) -> Callable[[Timing], Value]:
        def pick(one: Timing) -> Value:
            return one.report.units[name].waiting.get(cause, 0.0) if name in one.report.units else None

        return pick

    def causes(name: str) -> Callable[[Timing], Iterable[str]]:
        def pick(one: Timing) -> Iterable[str]:
            found = one.report.units[name].waiting if name in one.report.units else {}
            return (c for c, us in found.items() if c != "unused" and us >= SMALL * one.report.core_us)

        return pick

    for name in units:
        rows = (of.row(cause, "time", waits(name, cause)) for cause in of.names(causes(name)))
        yield Section(f"{name} waits", tuple(rows), "for what, mean core")
