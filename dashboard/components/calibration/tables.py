"""What a fit gave, in cards and tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import html

from dashboard.components import cards
from dashboard.figures.parity import signed
from dashboard.figures.text import digits
from dashboard.service.calibrating import Fit, Learned, Lost

NAMES = 60
"""undetermined numbers that are listed"""


def headlines(fit: Fit) -> list[Any]:
    """The fit in five numbers."""
    determined = [one for one in fit.learned if one.error is not None]
    before, after = fit.mape("before"), fit.mape("after")
    told = f"{len(fit.learned) - len(determined)} stay, as the rows do not determine them"
    known = [one for one in fit.held_out if not one.unknown]
    shown = [
        cards.headline(
            "Mean error", percent(after), "", f"MAPE over {len(fit.shifts)} rows; {percent(before)} before"
        ),
        cards.headline(
            "Worst error", signed(fit.worst("after")), "", f"{signed(fit.worst('before'))} before"
        ),
        cards.headline("Fitted", str(len(determined)), f"of {len(fit.learned)} numbers", told),
    ]
    if fit.held_out:
        rows = sum(one.rows for one in known)
        mape = sum(one.rows * one.mape for one in known) / rows if rows else 0.0
        shown.append(
            cards.headline(
                "Held out", percent(mape) if rows else "—", "",
                f"mean error of {fit.by}s that were left out"
                + ("" if len(known) == len(fit.held_out) else ", where others tell"),
            )
        )  # fmt: skip
    return shown


def percent(share: float) -> str:
    """'12 %', '3.2 %'."""
    return signed(share).lstrip("+−")


def numbers(fit: Fit) -> Any:
    """The numbers that moved: old, new, and how sure."""
    rows = [one for one in fit.learned if one.error is not None]
    if not rows:
        return html.P("None: the rows determine none of the numbers that were free.", className="dim")
    warned = dict(fit.findings)
    lines = [
        (
            html.Td([*cards.path(one.name), _together(one)], className="mono"),
            html.Td(digits(one.before, 4), className="right dim"),
            html.Td("→", className="dim"),
            html.Strong(digits(one.value, 4)),
            html.Td(f"± {digits(one.error or 0.0, 2)}", className="right dim"),
            "—" if one.documented is None else digits(one.documented, 4),
            _warning(warned.get(one.name, "")),
        )
        for one in rows
    ]
    return cards.table(("Number", ">Before", "", ">Fitted", ">Error", ">Documents", ""), lines)


def _together(one: Learned) -> Any:
    if not one.factor:
        return ""
    return dmc.Tooltip(
        html.Span(" ×", className="dim"), label=f"a common factor of {len(one.sets)} numbers", openDelay=200
    )


def _warning(text: str) -> Any:
    return cards.badge("look", text) if text else ""


def undetermined(fit: Fit) -> Any:
    """The numbers that stay, by what holds them."""
    left = [one for one in fit.learned if one.error is None]
    parts: list[Any] = []
    for held, why in (("documents", "held by documents"), ("nothing", "held by nothing")):
        names = [one.name for one in left if one.held_by == held]
        if names:
            more = f", and {len(names) - NAMES} more" if len(names) > NAMES else ""
            shown = [
                html.Span([*cards.path(name), " "], className="mono chip-like") for name in names[:NAMES]
            ]
            parts += [
                html.P([html.Strong(f"{len(names)} "), f"{why}{more}"]),
                html.Div(shown, className="names"),
            ]
    return parts or html.P("None: the rows determine all.", className="dim")


def held_out(fit: Fit) -> Any:
    """What the fit is worth for rows that it did not see."""
    if not fit.held_out:
        why = "nothing was left out" if fit.by == "none" else f"all rows are of one {fit.by}"
        return html.P(f"There is nothing to say: {why}.", className="dim")
    lines = [
        (
            one.group or "not stated", str(one.rows), percent(one.mape), signed(one.worst),
            html.Td(", ".join(one.unknown) or "—", className="source"),
        )
        for one in fit.held_out
    ]  # fmt: skip
    return cards.table((fit.by.capitalize(), ">Rows", ">Mean error", ">Worst", "Lost without them"), lines)


def doubts(fit: Fit) -> Any:
    """What to take with care: numbers that rows hardly tell apart, and what the fit points at."""
    parts: list[Any] = [html.Li([html.Strong(about), ": ", text]) for about, text in fit.findings]
    parts += [
        html.Li([html.Strong(f"{a} and {b}"), f": correlation {r:+.2f}; the rows hardly tell them apart"])
        for a, b, r in fit.correlations
    ]
    if not parts:
        return html.P("Nothing: no number left its range, and the rows tell them apart.", className="dim")
    return html.Ul(parts, className="doubts")


def ideas(fit: Fit) -> Any:
    """Measurements that would tell most."""
    if not fit.ideas:
        return html.P("Not asked: switch on “Suggest a measurement” and fit again.", className="dim")
    lines = [
        (one.measurement, f"−{percent(one.gain)}", html.Td(", ".join(one.settles) or "—", className="source"))
        for one in fit.ideas[:6]
    ]
    return cards.table(("Measurement", ">Uncertainty", "Settles most"), lines)


def lost(rows: Sequence[Lost]) -> Any:
    """Rows that were left out, and why."""
    lines = [
        (
            html.Td(one.places.replace("-", "\N{NON-BREAKING HYPHEN}"), className="mono"), one.kernels,
            html.Td(one.reason, className="source"),
        )
        for one in rows
    ]  # fmt: skip
    return cards.table(("Rows", "Kernels", "Reason"), lines)
