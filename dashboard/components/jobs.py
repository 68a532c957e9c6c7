"""Long work of a page, seen and cancelled. A page NAME that has some

- writes `work(tell, asked, home)`, a function of a module of the service (see `dashboard.service.jobs`); it
  checks `asked` anew, as that comes from a browser, and raises Refused for what cannot be;
- puts `bar(NAME)` into its layout, which shows the job that the store `watched(NAME)` names, also to one who
  has reloaded the page, or opened it twice: progress, rate, time to go, a button that cancels, and why a job
  failed or was lost; nothing where there is no such job;
- calls `register(app, NAME, work, unit, kept)` in its own `register`; `of(app)` are all `Jobs`;
- starts a job KEY by a callback that calls `of(app).expect(KEY)`, which is Refused where it runs already, and
  returns {"key": KEY, "number": that of what it gives, "asked": plain data} to `Output(ask(NAME), "data")`,
  and KEY to `watched(NAME)`;
- listens to `Input(told(NAME), "data")`: {"key", "number", "status", "done", "total"} of that job whenever it
  is another one; its result is `of(app).job(KEY).result`. A key is a page's own: "sweep points.db". What
  writes `ask` or `watched` must not listen to `told`, by way of others neither: Dash would wait in a circle.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, DiskcacheManager, Input, Output, dcc, html, no_update
from dash import State as Kept

from dashboard.components.cards import alert
from dashboard.components.events import changed
from dashboard.figures.text import digits
from dashboard.service.jobs import Home, Job, Jobs, Work

EVERY_MS = 400
"""between two questions how far a job is"""


class Manager(DiskcacheManager):
    """Dash's manager of background callbacks, whose processes are `Jobs`. What they say is asked of the jobs
    themselves: Dash's own questions end with the page that has started a job, and take a killed one for one
    that had nothing to say."""

    def __init__(self, home: Home) -> None:
        self.jobs = Jobs(home)
        super().__init__(self.jobs.cache)

    def make_job_fn(self, fn: Any, progress: bool, key: str | None = None) -> Any:
        return fn

    def call_job_fn(self, key: str, job_fn: Any, args: Any, context: Any) -> int:
        wanted = args[0]
        return self.jobs.start(str(wanted["key"]), int(wanted["number"]), job_fn.work, wanted["asked"])

    def job_running(self, job: Any) -> bool:
        return self.jobs.alive(int(job))

    def terminate_job(self, job: Any) -> None:
        """Nothing: Dash would end a job as its page asks for another one. Cancelling does."""


def of(app: Dash) -> Jobs:
    """The jobs of an application."""
    jobs: Jobs = app._background_manager.jobs
    return jobs


def ask(name: str) -> str:
    """Id of the store that starts a job."""
    return f"{name}-job-ask"


def watched(name: str) -> str:
    """Id of the store that names the job which is shown."""
    return f"{name}-job-watched"


def told(name: str) -> str:
    """Id of the store that says how the shown job stands."""
    return f"{name}-job-told"


def _part(name: str, part: str) -> str:
    return f"{name}-job-{part}"


def bar(name: str, key: str = "") -> html.Div:
    """The place where a page's job is seen; `key`: of the one that is shown at first."""
    cancel = dmc.Button("Cancel", id=_part(name, "cancel"), size="xs", variant="default")
    progress = dmc.Progress(id=_part(name, "bar"), value=0, size="md", transitionDuration=300)
    work = html.Div(
        [
            html.Div([html.Strong(id=_part(name, "title")), html.Span(id=_part(name, "text")), cancel]),
            progress,
        ],
        id=_part(name, "work"),
        className="job gone",
    )
    return html.Div(
        [
            dcc.Store(id=ask(name)),
            dcc.Store(id=watched(name), data=key),
            dcc.Store(id=told(name)),
            dcc.Store(id=_part(name, "ended")),
            dcc.Interval(id=_part(name, "tick"), interval=EVERY_MS, disabled=True),
            work,
            html.Div(id=_part(name, "note"), **{"aria-live": "polite"}),
        ],
        className="jobs",
    )


def register(app: Dash, name: str, work: Work, unit: str, kept: str) -> None:
    """The callbacks of a page's jobs. `unit`: what they count, as "points"; `kept`: what a person who has
    cancelled or lost one may do, a sentence."""

    def start(asked: Any) -> Any:  # what its process does is `work`
        raise AssertionError(asked)

    start.work = work  # type: ignore[attr-defined]
    app.callback(
        Output(_part(name, "ended"), "data"),
        Input(ask(name), "data"),
        background=True,
        interval=2000,
        prevent_initial_call=True,
    )(start)

    @app.callback(
        Output(told(name), "data"),
        Output(_part(name, "tick"), "disabled"),
        Output(_part(name, "work"), "className"),
        Output(_part(name, "title"), "children"),
        Output(_part(name, "text"), "children"),
        Output(_part(name, "bar"), "value"),
        Output(_part(name, "note"), "children"),
        Input(_part(name, "tick"), "n_intervals"),
        Input(watched(name), "data"),
        Input(ask(name), "data"),
        Input(_part(name, "cancel"), "n_clicks"),
        Kept(told(name), "data"),
    )
    def _watch(ticks: Any, key: str | None, asked: Any, cancel: Any, before: Any) -> Any:
        jobs = of(app)
        if cancel and key and _part(name, "cancel") in changed():
            jobs.cancel(key)
        job = jobs.job(key) if key else None
        now = _summary(job)
        note = no_update if now == before else _note(job, kept)
        seen = seen_of(job, unit)
        return (
            no_update if now == before else now, not (job and job.active),
            "job" if job and job.active else "job gone", seen.title, seen.text, seen.share, note,
        )  # fmt: skip

    logging.getLogger("diskcache").setLevel(logging.WARNING)


@dataclass(frozen=True)
class Seen:
    """A job at work in words, and how much of it is done in hundredths."""

    title: str = ""
    text: str = ""
    share: float = 0.0


def seen_of(job: Job | None, unit: str) -> Seen:
    """What is shown of a job at work."""
    if job is None or not job.active:
        return Seen()
    if job.status == "starting":
        return Seen("Starting…")
    if not job.total:
        return Seen(f"{job.text or 'Computing'}…")
    title = f"{job.text or 'Computing'}: {job.done:,} of {job.total:,} {unit}"
    parts = [f"{digits(job.rate, 2)} {unit}/s"] if job.rate > 0 else []
    if job.left_s is not None and job.done < job.total:
        parts.append(f"{span(job.left_s)} to go")
    return Seen(title, ", ".join(parts), 100 * job.done / job.total)


def span(seconds: float) -> str:
    """A time to wait, roughly: '40 s', '3 min', '2 h 10 min'."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _summary(job: Job | None) -> dict[str, Any] | None:
    if job is None:
        return None
    return {
        "key": job.key, "number": job.number, "status": job.status, "done": job.done, "total": job.total,
    }  # fmt: skip


def _note(job: Job | None, kept: str) -> Any:
    """Why a job did not come to its end."""
    if job is None or job.active or job.status == "done":
        return None
    how_far = f" after {job.done:,} of {job.total:,}" if job.total else ""
    if job.status == "cancelled":
        return dmc.Alert(f"Cancelled{how_far}. {kept}", color="gray", variant="light", p="xs")
    if job.status == "failed":
        return alert(job.message, "The computation stopped")
    text = f"{job.message[:1].upper()}{job.message[1:]}{how_far}. {kept}"
    return alert(text, "The computation was lost")
