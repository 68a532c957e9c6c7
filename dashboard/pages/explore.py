"""Explore: move a control, and see time, utilisation and error answer."""

from __future__ import annotations

import functools
from typing import Any

import dash
from dash import Dash, Input, Output, html, no_update
from dash import State as Kept

from dashboard.components import cards, first
from dashboard.components.ids import SCHEME, STATE
from dashboard.components.panel import panel
from dashboard.figures import accuracy as errors
from dashboard.figures import timing as times
from dashboard.figures.text import digits, percent, spaced, time, unit
from dashboard.figures.theme import LIGHT, THEMES, WAITING, Theme
from dashboard.service import Accuracy, Doubt, Refused, Service, Timing
from dashboard.state import State

TIME_FIGURES = {
    "utilisation": (
        "Utilisation",
        "busy share of the core time, mean core; dotted: where a unit is called the bound",
    ),
    "breakdown": (
        "Where the time goes",
        "each unit's core time: operations, latencies, waits for data, a slot, the other core, its queue",
    ),
    "critical_path": (
        "Critical path",
        "what decides the time: work in blue, its latency lighter, flags, issue and contention in orange",
    ),
    "roofline": (
        "Roofline",
        "the work of the cube (blue) and the vector unit (green) against what they and the memory could do",
    ),
    "traffic": ("Bytes moved", "through HBM and L2, and inside the cores, all cores together"),
    "buffers": ("Buffers", "the most that tiles take of each level of a core"),
}
"""figures of a timing, by the function that draws them: title and how to read them"""
ERROR_FIGURES = {
    "heat": ("Error of T", "root mean square error of each element, over the sample"),
    "ranges": (
        "Range of the intermediates",
        "dots: the largest value of each operation, red where infinite or saturated; bars: its type's limit",
    ),
}
TIME_NOTE, ERROR_NOTE = "time-note", "error-note"
TIME_CARDS, ERROR_CARDS, DOUBTS = "time-cards", "error-cards", "doubts"
TIME_PART, ERROR_PART = "time-part", "error-part"
TIME_DRAWN, ERROR_DRAWN = "time-drawn", "error-drawn"


def layout(service: Service, /, **query: Any) -> html.Div:
    """The page of a link, with the answers that are there soon."""
    state, scheme = State.of(query), first.scheme()
    theme = THEMES[scheme]
    timed, judged = first.soon(lambda: _timed(service, state, theme), lambda: _judged(service, state, theme))
    time_heads, doubted, *time_figures = timed or [None, None, *[WAITING] * len(TIME_FIGURES)]
    error_heads, heat, *error_figures = judged or [None, "card", *[WAITING] * len(ERROR_FIGURES)]
    time_cards = [
        cards.figure_card(name, *said, first=drawn)
        for (name, said), drawn in zip(TIME_FIGURES.items(), time_figures, strict=True)
    ]
    doubts = cards.content_card(
        DOUBTS,
        "Undocumented numbers that mattered",
        "the share of the time that each carries, of those that no source documents",
        first=doubted,
    )
    error_cards = [
        cards.figure_card(name, *said, wide=name == "ranges", first=drawn)
        for (name, said), drawn in zip(ERROR_FIGURES.items(), error_figures, strict=True)
    ]
    error_cards[list(ERROR_FIGURES).index("heat")].className = heat
    heads = html.Div(
        [
            html.Div(time_heads, id=TIME_CARDS, className="headlines"),
            html.Div(error_heads, id=ERROR_CARDS, className="headlines"),
        ],
        className="heads",
    )
    results = html.Div(
        [
            html.H1("Explore", className="hidden"),
            html.Div(id=TIME_NOTE, **{"aria-live": "polite"}),
            html.Div(id=ERROR_NOTE, **{"aria-live": "polite"}),
            heads,
            html.Div(
                [html.Div([*time_cards, doubts], id=TIME_PART), html.Div(error_cards, id=ERROR_PART)],
                className="cards",
            ),
            first.drawn(TIME_DRAWN, state.query, scheme, timed is not None),
            first.drawn(ERROR_DRAWN, state.query, scheme, judged is not None),
        ],
        className="results",
    )
    return html.Div([*panel(service, state), results], className="page")


def _timed(service: Service, state: State, theme: Theme) -> list[Any]:
    return time_view(service.timing(state), service.baseline(state), theme)


def _judged(service: Service, state: State, theme: Theme) -> list[Any] | None:
    return error_view(service.accuracy(state), theme) if service.computes(state) else None


# --- what is shown -------------------------------------------------------------------------------


def time_view(timing: Timing, baseline: tuple[str, float | str], theme: Theme) -> list[Any]:
    """Cards, table and figures of a timing, in the order of the outputs."""
    figures = [cards.replaced(getattr(times, name)(timing, theme)) for name in TIME_FIGURES]
    return [_time_cards(timing, baseline), _doubts(timing.doubts), *figures]


def error_view(accuracy: Accuracy, theme: Theme) -> list[Any]:
    """Cards and figures of an accuracy, in the order of the outputs."""
    figures = [cards.replaced(getattr(errors, name)(accuracy, theme)) for name in ERROR_FIGURES]
    return [_error_cards(accuracy), "card" if accuracy.heat is not None else "card gone", *figures]


def _time_cards(timing: Timing, baseline: tuple[str, float | str]) -> list[Any]:
    report, known = timing.report, timing.expected
    value, scale = time(report.task_us)
    margin = (
        "expected error unknown"
        if known.error is None
        else f"± {percent(known.error)} expected, from {known.basis}"
    )
    badge = cards.badge("extrapolated", "; ".join(known.extrapolated)) if known.extrapolated else None
    below: Any = html.Span(margin, title=margin)
    busy = report.units[report.dominant_unit].utilisation if report.dominant_unit else 0.0
    bound = f"{report.dominant_unit} busy {percent(busy)}, {timing.cores}"
    return [
        cards.headline("Time", value, scale, below, badge),
        cards.headline("Bound", report.bound, "", bound),
        _speed_up(report.task_us, baseline),
        cards.headline(
            "Evidence",
            percent(sum(report.evidence.get(k, 0.0) for k in ("documented", "measured"))),
            "",
            _evidence(report.evidence),
        ),
    ]


def _speed_up(task_us: float, baseline: tuple[str, float | str]) -> html.Div:
    name, found = baseline
    if isinstance(found, str):
        text = f"{name}: {found}" if name else found
        return cards.headline("Speed-up", "—", "", html.Span(text, title=text))
    below = f"over {name}, {spaced(time(found))}"
    return cards.headline(
        "Speed-up", digits(found / task_us) if task_us else "—", "×", html.Span(below, title=below)
    )


def _evidence(shares: dict[str, float]) -> html.Div:
    """How the numbers are known that carry the time, as a bar."""
    total = sum(shares.values()) or 1.0
    said = ", ".join(f"{kind} {percent(share)}" for kind, share in shares.items() if share > 0)
    parts = [
        html.Span(className=f"part {kind}", style={"width": f"{100 * share / total:.2f}%"})
        for kind, share in shares.items()
        if share > 0
    ]
    return html.Div(
        [
            html.Div(parts, className="bar", role="img", title=said, **{"aria-label": said}),
            html.Span("documented or measured", title=said),
        ]
    )


def _error_cards(accuracy: Accuracy) -> list[Any]:
    main = accuracy.main
    name = next(iter(accuracy.errors))
    sample = f"{accuracy.samples} of {accuracy.total:,} {accuracy.pieces}"
    bad = (
        cards.badge(f"{main.nonfinite:,} not finite", "values of the result that are infinite or no number")
        if main.nonfinite
        else None
    )
    below = f"of {name}, SNR {digits(main.snr_db)} dB, worst {digits(main.worst_snr_db)} dB; {sample}"
    more = f"worst piece {digits(main.worst_relative_error)}; {below}; {accuracy.origin}"
    return [
        cards.headline(
            "Relative error",
            digits(main.relative_error),
            "",
            html.Span(below, title=more),
            bad,
        )
    ]


def _meter(share: float) -> html.Span:
    return html.Span(
        html.Span(style={"width": f"{100 * share:.1f}%"}), className="meter", **{"aria-hidden": "true"}
    )


def _doubts(doubts: tuple[Doubt, ...]) -> Any:
    if not doubts:
        return html.P("None: documents and measurements carry the whole time.", className="dim")
    rows = [
        (
            html.Td(cards.path(one.field), className="mono", title=one.source),
            f"{digits(one.value)} {unit(one.unit)}",
            cards.evidence_badge(one.evidence),
            html.Td([_meter(one.share), html.Span(percent(one.share))], className="share"),
        )
        for one in doubts
    ]
    return cards.table(("Number", ">Value", "Evidence", "Share of the time"), rows)


# --- callbacks -----------------------------------------------------------------------------------


def register(app: Dash, service: Service) -> None:
    """The page and its callbacks. Time and error answer apart, each as soon as it is there."""
    page = functools.partial(layout, service)
    dash.register_page("explore", path="/explore", name="Explore", title="Explore · npusim", layout=page)
    dash.register_page("home", path="/", name="Explore", title="Explore · npusim", layout=page)

    @app.callback(
        Output(TIME_NOTE, "children"),
        Output(TIME_PART, "className"),
        Output(TIME_CARDS, "className"),
        Output(TIME_CARDS, "children"),
        Output(DOUBTS, "children"),
        *[Output(name, "figure") for name in TIME_FIGURES],
        Input(STATE, "data"),
        Input(SCHEME, "data"),
        Kept(TIME_DRAWN, "data"),
    )
    def _time(query: str, scheme: str, drawn: list[str] | None) -> list[Any]:
        if first.already(drawn, query, scheme):
            return [no_update] * (5 + len(TIME_FIGURES))
        state, theme = State.from_query(query or ""), THEMES.get(scheme, LIGHT)
        try:
            view = _timed(service, state, theme)
        except Refused as error:
            return [
                cards.alert(str(error)),
                "stale",
                "headlines stale",
                *[no_update] * (2 + len(TIME_FIGURES)),
            ]
        return [None, "", "headlines", *view]

    @app.callback(
        Output(ERROR_NOTE, "children"),
        Output(ERROR_PART, "className"),
        Output(ERROR_CARDS, "className"),
        Output(ERROR_CARDS, "children"),
        Output(cards.of("heat"), "className"),
        *[Output(name, "figure") for name in ERROR_FIGURES],
        Input(STATE, "data"),
        Input(SCHEME, "data"),
        Kept(ERROR_DRAWN, "data"),
    )
    def _error(query: str, scheme: str, drawn: list[str] | None) -> list[Any]:
        if first.already(drawn, query, scheme):
            return [no_update] * (5 + len(ERROR_FIGURES))
        state, theme = State.from_query(query or ""), THEMES.get(scheme, LIGHT)
        kept = [no_update] * (2 + len(ERROR_FIGURES))
        try:
            view = _judged(service, state, theme)
        except Refused as error:
            return [_unless_timed(service, state, str(error)), "stale", "headlines stale", *kept]
        if view is None:
            return [None, "gone", "headlines gone", *kept]
        return [None, "", "headlines", *view]


def _unless_timed(service: Service, state: State, message: str) -> Any:
    """Why there is no error, where the time does not say the same."""
    try:
        service.timing(state)
    except Refused as error:
        if str(error) == message:
            return None
    return cards.alert(message, "The error cannot be had")
