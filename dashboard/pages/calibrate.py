"""Calibrate: measurements held against predictions, and numbers of a profile fitted to them.

What is asked stands in the link (profile, numbers, that the rows are the shipped ones); uploaded files are
the visitor's own, under a key that the browser keeps as long as its tab. Predicting and fitting are jobs,
whose keys name all that they depend on: what was computed once is shown at once.
"""

from __future__ import annotations

import functools
from typing import Any

import dash
import dash_mantine_components as dmc
from dash import Dash, dcc, html

from dashboard.components import jobs
from dashboard.components.calibration import asked, fields, measurements, operators, settings, views, work
from dashboard.components.ids import STATE
from dashboard.service import Service
from dashboard.service.calibrate import EACH, GROUP_MEANINGS, Calibrations
from dashboard.service.calibrating import uploads_of
from dashboard.state import State

HELD = {
    "kernel": "each kernel's rows in turn",
    "device": "each device's rows in turn",
    "source": "each source's rows in turn",
    "none": "nothing",
}


def layout(found: Calibrations, /, **query: Any) -> html.Div:
    """The page of a link."""
    state = State.of(query)
    own = state.own(asked.PAGE)
    panel = html.Aside(
        [
            measurements.section(),
            html.Section(
                [
                    html.H2("Profile"),
                    dmc.Select(
                        id=asked.PROFILE, size="xs", data=[EACH], value=EACH, allowDeselect=False,
                        searchable=True, **{"aria-label": "Profile"},
                    ),
                ],
                className="settings",
            ),
            html.Section(
                [
                    html.Div([html.H2("Numbers to fit"), html.Span(id=fields.COUNT)], className="spread"),
                    fields.chips(GROUP_MEANINGS),
                ],
                className="settings",
            ),
            html.Section(
                [
                    html.H2("Fit"),
                    dmc.Select(
                        id=asked.HOLD, label="Check by leaving out", size="xs", allowDeselect=False,
                        data=[{"value": name, "label": text} for name, text in HELD.items()],
                        value=own.get("hold", "kernel"),
                    ),
                    dmc.Switch(
                        id=asked.SUGGEST, label="Suggest a measurement", size="xs",
                        checked=own.get("suggest") == "yes",
                    ),
                    dmc.Button("Fit", id=asked.GO, size="sm", fullWidth=True, disabled=True),
                    html.P(id=asked.WHAT, className="dim"),
                    html.Div(id=asked.COMMAND),
                ],
                className="settings last",
            ),
        ],
        className="panel",
        **{"aria-label": "Settings"},
    )  # fmt: skip
    results = html.Div(
        [
            html.H1("Calibrate", className="hidden"),
            html.Div(
                [
                    html.Div(id=measurements.NOTE, **{"aria-live": "polite"}),
                    jobs.bar(asked.SEE),
                    jobs.bar(asked.FIT),
                    html.Div(id=asked.FIT_NOTE, **{"aria-live": "polite"}),
                ],
                className="notes",
            ),
            html.Div(measurements.welcome(), id=asked.WELCOME),
            html.Div(_tabs(own.get("view", "accuracy")), id=asked.BODY, className="gone"),
        ],
        className="results",
    )
    stores = [
        dcc.Store(id=STATE, data=state.query),
        dcc.Store(id=asked.SESSION, storage_type="session"),
        dcc.Store(id=asked.CHANGED),
        dcc.Store(id=asked.ROWS),
        dcc.Download(id=asked.DOWNLOAD),
    ]
    return html.Div([*stores, panel, results], className="page calibrate")


def _tabs(value: str) -> dmc.Tabs:
    names = {"accuracy": "Accuracy", "operators": "Operators", "numbers": "Numbers", "fit": "Fit"}
    inside = {
        "accuracy": views.accuracy_panel(),
        "operators": html.Div(id=operators.OPERATORS),
        "numbers": fields.card("light"),
        "fit": views.fit_panel(_actions()),
    }
    tabs = [dmc.TabsTab(text, value=name) for name, text in names.items()]
    panels = [dmc.TabsPanel(inside[name], value=name, pt=12) for name in names]
    return dmc.Tabs(
        [dmc.TabsList(tabs), *panels], id=asked.TABS, value=value if value in names else "accuracy",
        keepMounted=True,
    )  # fmt: skip


def _actions() -> html.Div:
    """What can be done with a fit."""
    return html.Div(
        [
            dmc.Button("Download profile", id=asked.TAKE_PROFILE, size="xs", variant="default"),
            dmc.Button("Download report", id=asked.TAKE_REPORT, size="xs", variant="default"),
            html.Div(className="push"),
            dmc.TextInput(
                id=asked.NAME, placeholder="my-npu", size="xs", w=200, **{"aria-label": "Name of the profile"}
            ),
            dmc.Button("Save as profile", id=asked.SAVE, size="xs"),
        ],
        className="buttons",
    )


# --- callbacks -----------------------------------------------------------------------------------


def register(app: Dash, service: Service) -> None:
    """The page and its callbacks."""
    made = jobs.of(app)
    assert made.home.private is not None

    def active(key: str) -> bool:
        job = made.job(key)
        return job is not None and job.active

    found = Calibrations(service, uploads_of(made.home.private), made.forget, active)
    page = functools.partial(layout, found)
    title = "Calibrate · npusim"
    dash.register_page(asked.PAGE, path="/calibrate", name="Calibrate", title=title, layout=page)
    for part in (measurements, operators, settings, work):
        part.register(app, found)
