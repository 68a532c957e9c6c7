"""Compare: two to six configurations side by side, every number with its difference to the baseline."""

from __future__ import annotations

import functools
from typing import Any

import dash
from dash import Dash, Input, Output, dcc, html, no_update
from dash import State as Kept

from dashboard.components import cards, comparison
from dashboard.components.ids import SCHEME, STATE
from dashboard.components.panel import BODY, body, panel
from dashboard.figures import compare as drawn
from dashboard.figures.theme import LIGHT, THEMES, Theme
from dashboard.service import Accuracy, Service
from dashboard.service.compare import Comparison, Comparisons
from dashboard.service.configurations import Slots
from dashboard.service.rows import error_section, setting_section, time_sections, unit_sections
from dashboard.state import State

EDITED, HEADS, SAME = "compare-edited", "compare-heads", "compare-same"
HEAD, TIMES, ERRORS, SETTINGS = "compare-head", "compare-times", "compare-errors", "compare-settings"
MORE_HEAD, MORE = "compare-more-head", "compare-more"
FIGURES = {
    "timelines": (
        "Timelines, aligned",
        "core 0 from the start of a trip of its loop on, to one scale; dotted: a trip begins; "
        "lighter: latency; drag to zoom, double click to see all",
    ),
    "compare-breakdown": (
        "Where the time goes",
        "each unit's core time in every configuration: operations, latencies, and what it waits for",
    ),
    "over-time": ("Utilisation over the run", "busy share of each unit, mean core, to one scale"),
}
"""title and how to read a figure"""


def layout(service: Service, comparisons: Comparisons, /, **query: Any) -> html.Div:
    """The page of a link."""
    state = State.of(query)
    found = comparisons.slots(state)
    state = found.into(state)
    wrong = cards.alert(". ".join(found.wrong), "The link says what cannot be") if found.wrong else None
    timelines, breakdown, over_time = (
        cards.figure_card(name, *FIGURES[name], wide=name == "timelines") for name in FIGURES
    )
    numbers = html.Section(
        [_title("Numbers", "differences are to the baseline; green is better, red worse"),
         comparison.number_table(HEAD, (TIMES, ERRORS, SETTINGS))],
        className="card wide", **{"aria-label": "Numbers"},
    )  # fmt: skip
    more = html.Section(
        [_title("Units, memory and waiting", "means over the cores used, bytes of all cores"),
         comparison.number_table(MORE_HEAD, (MORE,))],
        className="card wide", **{"aria-label": "Units, memory and waiting"},
    )  # fmt: skip
    results = html.Div(
        [
            html.H1("Compare", className="hidden"),
            html.Div(wrong, **{"aria-live": "polite"}),
            dcc.Store(id=comparison.DO),
            html.Div(id=HEADS, className="configs"),
            html.Div(id=SAME, className="same"),
            html.Div(html.Div([numbers, timelines, breakdown, over_time, more]), className="cards two-wide"),
        ],
        className="results",
    )
    head = html.Div(id=EDITED, className="edited-head", **{"aria-live": "polite"})
    return html.Div([*panel(service, state, head), results], className="page compare")


def _title(text: str, note: str) -> html.Header:
    return html.Header([html.H2(text), html.P(note)])


# --- what is shown -------------------------------------------------------------------------------


def time_view(found: Comparison, theme: Theme) -> list[Any]:
    """All that follows from the times, in the order of the outputs."""
    columns, base = found.columns, found.base
    timings = [one.timing for one in columns]
    head = comparison.table_head(found)
    settings = setting_section([one.configuration for one in columns], found.alike)
    times, evidence = time_sections(timings, base)
    return [
        comparison.edited_head(found),
        comparison.configuration_cards(found),
        comparison.same_line(found.alike.same),
        head,
        comparison.table_rows([times], base, len(columns)),
        comparison.table_rows([settings], base, len(columns)),
        head,
        comparison.table_rows([*unit_sections(timings), evidence], base, len(columns)),
        cards.replaced(drawn.breakdown(found, theme)),
    ]


def error_view(found: Comparison, accuracies: tuple[Accuracy | str, ...]) -> list[Any]:
    """The section of errors; why there are none is said where the time does not say the same."""
    section, base = error_section(accuracies), found.base
    reasons = [
        one if isinstance(one, str) and one != column.reason else None
        for one, column in zip(accuracies, found.columns, strict=True)
    ]
    rows = comparison.table_rows([section], base, len(accuracies))
    return [rows[0], *comparison.reason_rows(reasons), *rows[1:]]


def acted(found: Slots, what: str, place: int) -> Slots:
    """The configurations after a button."""
    if what == comparison.ADD:
        return found.added()
    return {
        comparison.EDIT: found.edited,
        comparison.BASE: found.based,
        comparison.REMOVE: found.removed,
    }[what](place)


# --- callbacks -----------------------------------------------------------------------------------


def register(app: Dash, service: Service) -> None:
    """The page and its callbacks: times, errors and timelines answer apart, each as soon as it is there."""
    comparisons = Comparisons(service)
    comparison.register(app, (TIMES, ERRORS, SETTINGS, MORE))
    page = functools.partial(layout, service, comparisons)
    dash.register_page("compare", path="/compare", name="Compare", title="Compare · npusim", layout=page)

    def slots(query: str) -> Slots:
        return comparisons.slots(State.from_query(query or ""))

    @app.callback(
        Output(EDITED, "children"),
        Output(HEADS, "children"),
        Output(SAME, "children"),
        Output(HEAD, "children"),
        Output(comparison.rows_of(TIMES), "data"),
        Output(comparison.rows_of(SETTINGS), "data"),
        Output(MORE_HEAD, "children"),
        Output(comparison.rows_of(MORE), "data"),
        Output("compare-breakdown", "figure"),
        Input(STATE, "data"),
        Input(SCHEME, "data"),
    )
    def _times(query: str, scheme: str) -> list[Any]:
        return time_view(comparisons.compared(slots(query)), THEMES.get(scheme, LIGHT))

    @app.callback(Output(comparison.rows_of(ERRORS), "data"), Input(STATE, "data"))
    def _errors(query: str) -> list[Any]:
        found = slots(query)
        return error_view(comparisons.compared(found), comparisons.accuracies(found))

    @app.callback(
        Output("timelines", "figure"),
        Output("over-time", "figure"),
        Input(STATE, "data"),
        Input(SCHEME, "data"),
    )
    def _lines(query: str, scheme: str) -> list[Any]:
        theme = THEMES.get(scheme, LIGHT)
        found = comparisons.compared(slots(query))
        width, strips = comparisons.strips(found)
        return [drawn.timelines(width, strips, theme), drawn.over_time(found, strips, theme)]

    @app.callback(
        Output(STATE, "data", allow_duplicate=True),
        Output(BODY, "children", allow_duplicate=True),
        Input(comparison.DO, "data"),
        Kept(STATE, "data"),
        prevent_initial_call=True,
    )
    def _act(asked: dict[str, Any] | None, query: str) -> Any:
        if not asked:
            return no_update, no_update
        state = State.from_query(query or "")
        before = comparisons.slots(state)
        after = acted(before, asked["what"], asked["place"])
        new = after.into(state)
        same = after.states[after.edit] == before.states[before.edit]
        return new.query, no_update if same else body(service, new.asked)
