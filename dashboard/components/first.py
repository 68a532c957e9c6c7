"""What a page shows when it comes: answers that are there soon stand in its layout, so that the browser draws
each figure once; for others the page comes without, and its callbacks fill them in."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any

from dash import ctx, dcc
from flask import has_request_context, request

from dashboard.figures.theme import THEMES

SOON_S = 0.8
"""how long a page waits for its answers"""


def scheme() -> str:
    """The theme's name as the browser told it last; light for a new visitor."""
    told = request.cookies.get("scheme", "") if has_request_context() else ""
    return told if told in THEMES else next(iter(THEMES))


def soon(*asks: Callable[[], Any]) -> list[Any]:
    """What each gives, None where it takes long or fails: the callbacks say why."""
    asked: list[Future[Any]] = [Future() for _ in asks]
    for ask, future in zip(asks, asked, strict=True):
        # a thread that nobody waits for when the dashboard ends
        threading.Thread(target=_answer, args=(ask, future), daemon=True).start()
    done, _ = wait(asked, SOON_S)
    return [one.result() if one in done and one.exception() is None else None for one in asked]


def _answer(ask: Callable[[], Any], future: Future[Any]) -> None:
    try:
        future.set_result(ask())
    except Exception as error:
        future.set_exception(error)


def drawn(id_: str, query: str, theme: str, there: bool) -> dcc.Store:
    """The store that says what stands in the layout already."""
    return dcc.Store(id=id_, data=[query, theme] if there else None)


def already(said: list[str] | None, query: str, theme: str) -> bool:
    """Whether the first call of a callback, which is when nothing has changed, would draw the same again."""
    return ctx.triggered_id is None and said == [query, theme]
