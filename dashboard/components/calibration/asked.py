"""What the page Calibrate asks: the ids of its controls and stores, and its part of a link."""

from __future__ import annotations

from dashboard.service import Refused
from dashboard.service.calibrate import Calibrations, Fields, Rows
from dashboard.state import State

PAGE = "calibrate"
SEE, FIT = "calibrate-see", "calibrate-fit"
SESSION, CHANGED, ROWS = "calibrate-session", "calibrate-changed", "calibrate-rows"
PROFILE, HOLD, SUGGEST, GO = (
    "calibrate-profile",
    "calibrate-hold",
    "calibrate-suggest",
    "calibrate-go",
)
WHAT = "calibrate-what"
TABS, BODY, WELCOME, COMMAND = "calibrate-tabs", "calibrate-body", "calibrate-welcome", "calibrate-command"
FIT_NOTE = "calibrate-fit-note"
NAME, SAVE, TAKE_PROFILE, TAKE_REPORT, DOWNLOAD = (
    f"calibrate-{name}" for name in ("name", "save", "take-profile", "take-report", "download")
)


def fields_of(state: State) -> Fields:
    """The numbers that a link chooses; () for all groups, None for none at all."""
    text = state.own(PAGE).get("fields", "")
    return None if text == "none" else tuple(part for part in text.split(",") if part)


def with_fields(state: State, fields: Fields) -> State:
    return state.viewed(PAGE, fields="none" if fields is None else fields)


def target(rows: Rows | None, state: State) -> str:
    """The profile that is fitted: the one that is chosen, else the one with most rows."""
    own = state.own(PAGE).get("profile", "")
    return own or next(iter(rows.profiles), "") if rows else own


def current(found: Calibrations, state: State, key: str | None) -> Rows | None:
    """The rows that are looked at, None where there are none. Refused where they cannot be read."""
    if state.own(PAGE).get("shipped") == "yes":
        return found.rows("")
    return found.rows(key) if found.has(key) and key else None


def fit_settings(state: State) -> tuple[str, bool]:
    own = state.own(PAGE)
    return own.get("hold", "kernel"), own.get("suggest") == "yes"


def readable(found: Calibrations, state: State, key: str | None) -> Rows | None:
    try:
        return current(found, state, key)
    except Refused:  # which `_rows` says
        return None
