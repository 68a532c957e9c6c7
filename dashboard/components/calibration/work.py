"""The callbacks of predicting and fitting, of what is shown of them, and of what a fit leaves behind."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, ctx, no_update
from dash import State as Kept

from dashboard.components import cards, jobs
from dashboard.components.calibration import asked, measurements, views
from dashboard.components.events import changed
from dashboard.components.ids import SCHEME, STATE
from dashboard.figures.theme import LIGHT, THEMES
from dashboard.service import Refused
from dashboard.service import calibrating as work
from dashboard.service.calibrate import Calibrations
from dashboard.service.jobs import Job, Jobs
from dashboard.state import State


def register(app: Dash, found: Calibrations) -> None:
    """All of them."""
    jobs.register(app, asked.SEE, work.predict, "rows", "Choose “Predict again” to start anew.")
    jobs.register(app, asked.FIT, work.fit, "rows", "Choose “Fit” to start anew.")
    _work(app, found)
    _leaving(app, found)


def expected(known: Jobs, key: str) -> Job | None:
    """A job that is now to be started here; None where it is at work already, as another tab was first.
    Refused where too many are."""
    try:
        return known.expect(key)
    except Refused:
        job = known.job(key)
        if job is None or not job.active:
            raise
        return None


def _work(app: Dash, found: Calibrations) -> None:
    """Predicting and fitting, and what is shown of them."""

    @app.callback(
        Output(jobs.ask(asked.SEE), "data"),
        Output(jobs.watched(asked.SEE), "data"),
        Output(measurements.NOTE, "children", allow_duplicate=True),
        Output(views.LATER, "className", allow_duplicate=True),
        Input(asked.ROWS, "data"),
        Input(STATE, "data"),
        Input(views.AGAIN, "n_clicks"),
        Kept(jobs.watched(asked.SEE), "data"),
        Kept(asked.SESSION, "data"),
        prevent_initial_call="initial_duplicate",
    )
    def _predict(mark: Any, query: str, again: Any, watched: str, session: str | None) -> Any:
        state = State.from_query(query or "")
        rows = asked.readable(found, state, session)
        if rows is None:
            return no_update, "", no_update, views.HIDDEN
        profile = state.own(asked.PAGE).get("profile", "")
        if not profile and not rows.profiles:
            text = "No row names a device that a profile describes: choose the profile to predict them on."
            note = dmc.Alert(text, color="gray", variant="light", p="xs")
            return no_update, "", note, views.HIDDEN
        try:
            key, wanted = found.prediction(rows, profile)
        except Refused as error:
            return no_update, "", cards.alert(str(error)), views.HIDDEN
        job = jobs.of(app).job(key)
        anew = views.AGAIN in changed() and job and not job.active and job.status != "done"
        try:
            if (job is None or anew) and (own := expected(jobs.of(app), key)):
                return {"key": key, "number": own.number, "asked": wanted}, key, None, views.HIDDEN
        except Refused as error:  # later there may be room
            return no_update, "", cards.alert(str(error)), "card"
        same = key == watched
        return no_update, no_update if same else key, no_update if same else None, no_update

    @app.callback(
        *[Output(*one) for one in views.SEEN],
        Input(jobs.told(asked.SEE), "data"),
        Input(SCHEME, "data"),
    )
    def _see(told: Any, scheme: str) -> Any:
        job = jobs.of(app).job(told["key"]) if told else None
        if job is None or job.status != "done":
            return views.unseen(job.status if job else None)
        return views.seen(job.result, THEMES.get(scheme, LIGHT))

    @app.callback(
        Output(jobs.ask(asked.FIT), "data"),
        Output(jobs.watched(asked.FIT), "data"),
        Output(asked.FIT_NOTE, "children"),
        Output(asked.TABS, "value"),
        Input(asked.GO, "n_clicks"),
        Input(asked.ROWS, "data"),
        Input(STATE, "data"),
        Kept(jobs.watched(asked.FIT), "data"),
        Kept(asked.SESSION, "data"),
    )
    def _fit(go: Any, mark: Any, query: str, watched: str, session: str | None) -> Any:
        state = State.from_query(query or "")
        rows = asked.readable(found, state, session)
        name, fields = asked.target(rows, state), asked.fields_of(state)
        pressed = asked.GO in changed() and go
        if rows is None or fields is None or not name:
            return no_update, "", None, no_update
        try:
            key, wanted = found.fitting(rows, name, fields, *asked.fit_settings(state))
            job = jobs.of(app).job(key)
            fresh = job is None or (not job.active and job.status != "done")
            if pressed and fresh and (own := expected(jobs.of(app), key)):
                return {"key": key, "number": own.number, "asked": wanted}, key, None, "fit"
            shown = key if job or pressed else ""
            return no_update, no_update if shown == watched else shown, None, "fit" if pressed else no_update
        except Refused as error:
            return no_update, no_update, cards.alert(str(error)) if pressed else None, no_update

    @app.callback(
        *[Output(*one) for one in views.FITTED],
        Input(jobs.told(asked.FIT), "data"),
        Input(SCHEME, "data"),
    )
    def _fitted(told: Any, scheme: str) -> Any:
        job = jobs.of(app).job(told["key"]) if told else None
        if job is None or job.status != "done":
            return views.unfitted(job.status if job else "")
        return views.fitted(job.result, THEMES.get(scheme, LIGHT))


def _leaving(app: Dash, found: Calibrations) -> None:
    """What a fit leaves behind: a profile and a report."""

    @app.callback(
        Output(asked.DOWNLOAD, "data"),
        Output(views.SAVE_NOTE, "children"),
        Input(asked.TAKE_PROFILE, "n_clicks"),
        Input(asked.TAKE_REPORT, "n_clicks"),
        Input(asked.SAVE, "n_clicks"),
        Kept(jobs.told(asked.FIT), "data"),
        Kept(asked.NAME, "value"),
        prevent_initial_call=True,
    )
    def _take(profile: Any, report: Any, save: Any, told: Any, name: str | None) -> Any:
        job = jobs.of(app).job(told["key"]) if told else None
        if job is None or job.status != "done" or not (profile or report or save):
            return no_update, no_update
        fit: work.Fit = job.result
        plain = name or f"{fit.profile.removesuffix('.yaml')}-fitted"
        try:
            if ctx.triggered_id == asked.SAVE:
                file = found.save(fit, name or "")
                return no_update, views.saved(file)
            if ctx.triggered_id == asked.TAKE_REPORT:
                return {"content": found.report(fit), "filename": f"{plain}.html", "type": "text/html"}, None
            text = found.profile_text(fit, plain)
            return {"content": text, "filename": f"{plain}.yaml", "type": "application/yaml"}, None
        except Refused as error:
            return no_update, cards.alert(str(error), "This cannot be written")
