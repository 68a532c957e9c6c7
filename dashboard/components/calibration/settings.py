"""The callbacks of what is chosen: profile, numbers, how a fit is checked; in the link and in controls."""

from __future__ import annotations

from typing import Any

from dash import Dash, Input, Output, no_update
from dash import State as Kept

from dashboard.components import jobs
from dashboard.components.calibration import asked, views
from dashboard.components.calibration import fields as grid
from dashboard.components.events import changed
from dashboard.components.ids import SCHEME, STATE
from dashboard.service import Refused
from dashboard.service.calibrate import EACH, Calibrations, Rows
from dashboard.state import State


def register(app: Dash, found: Calibrations) -> None:
    """What is chosen, in the link and in the controls."""
    _grid(app, found)

    @app.callback(
        Output(asked.PROFILE, "data"),
        Output(asked.PROFILE, "value"),
        Output(grid.GROUPS, "value"),
        Output(grid.COUNT, "children"),
        Output(asked.GO, "disabled"),
        Output(asked.WHAT, "children"),
        Output(asked.COMMAND, "children"),
        Input(STATE, "data"),
        Input(asked.ROWS, "data"),
        Kept(asked.SESSION, "data"),
    )
    def _show(query: str, mark: Any, key: str | None) -> Any:
        state = State.from_query(query or "")
        rows = asked.readable(found, state, key)
        choices = found.profiles(rows)
        own = state.own(asked.PAGE).get("profile", "") or EACH
        if own not in [value for value, _ in choices]:
            choices.append((own, own))
        data = [{"value": value, "label": text} for value, text in choices]
        name = asked.target(rows, state)
        fields = asked.fields_of(state)
        try:
            groups = found.groups(name) if name else {}
            chosen = found.chosen(name, fields) if name and fields is not None else frozenset()
        except Refused as error:
            return data, own, no_update, "", True, str(error), None
        on = [one for one, paths in groups.items() if set(paths) <= chosen]
        count = f"{len(chosen)} of {sum(map(len, groups.values()))}" if groups else ""
        what = _what(rows, name, len(chosen))
        command = views.command(
            found.command(name, fields or (), *asked.fit_settings(state), rows) if chosen else ""
        )
        return data, own, on, count, not (rows and name and chosen), what, command

    @app.callback(
        Output(STATE, "data", allow_duplicate=True),
        Input(asked.PROFILE, "value"),
        Input(asked.HOLD, "value"),
        Input(asked.SUGGEST, "checked"),
        Input(asked.TABS, "value"),
        Input(grid.GROUPS, "value"),
        Input(grid.GRID, "cellValueChanged"),
        Kept(STATE, "data"),
        Kept(asked.SESSION, "data"),
        prevent_initial_call=True,
    )
    def _choose(
        profile: str | None, hold: str, suggest: bool, view: str, groups: Any, cells: Any, query: str,
        key: str | None,
    ) -> Any:  # fmt: skip
        before = state = State.from_query(query or "")
        did = changed()
        if asked.PROFILE in did:
            state = state.viewed(asked.PAGE, profile=None if profile in (None, EACH) else profile)
        state = state.viewed(
            asked.PAGE, hold=None if hold == "kernel" else hold, suggest=True if suggest else None,
            view=None if view == "accuracy" else view,
        )  # fmt: skip
        name = asked.target(asked.readable(found, state, key), state)
        try:
            if grid.GROUPS in did and name and groups is not None:
                state = asked.with_fields(state, found.with_groups(name, asked.fields_of(state), groups))
            if grid.GRID in did and name:
                for cell in cells or []:
                    row = cell["data"]
                    state = asked.with_fields(
                        state,
                        found.with_path(name, asked.fields_of(state), str(row["path"]), bool(row["chosen"])),
                    )
        except Refused:
            return no_update
        return no_update if state == before else state.query


def _grid(app: Dash, found: Calibrations) -> None:
    """The numbers that can be fitted, one by one."""

    @app.callback(
        Output(grid.GRID, "rowData"),
        Output(grid.GRID, "className"),
        Input(STATE, "data"),
        Input(asked.ROWS, "data"),
        Input(jobs.told(asked.SEE), "data"),
        Input(SCHEME, "data"),
        Kept(asked.SESSION, "data"),
    )
    def _numbers(query: str, mark: Any, told: Any, scheme: str, key: str | None) -> Any:
        state = State.from_query(query or "")
        name, fields = asked.target(asked.readable(found, state, key), state), asked.fields_of(state)
        if not name:
            return [], grid.theme(scheme)
        try:
            chosen = frozenset() if fields is None else found.chosen(name, fields)
            job = jobs.of(app).job(told["key"]) if told and told["status"] == "done" else None
            carried = job.result.carried.get(found.own_name(name)) if job else None
            return grid.rows(found.fields(name), chosen, carried), grid.theme(scheme)
        except Refused:
            return no_update, grid.theme(scheme)

    @app.callback(
        Output(grid.GRID, "dashGridOptions"),
        Input(grid.SEARCH, "value"),
        Kept(grid.GRID, "dashGridOptions"),
        prevent_initial_call=True,
    )
    def _search(text: str, options: dict[str, Any]) -> Any:
        return {**options, "quickFilterText": text or ""}


def _what(rows: Rows | None, name: str, count: int) -> str:
    if rows is None:
        return "Take the shipped rows, or upload your own."
    if not name:
        return "The rows name no device: choose a profile."
    if not count:
        return "Choose at least one number."
    own = rows.profiles.get(name)
    return f"Fits {name} to {own} rows of its device." if own else f"Fits {name} to the rows of its device."
