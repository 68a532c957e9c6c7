"""plotly.js, asked for with the page.

Dash asks for it only once a figure is there, and takes it as it is where it is there already. Read early, it
comes while the browser waits for a page's content anyway; Dash waits for it, and where it does not come,
Dash's own copy is read (assets/library.js).
"""

from __future__ import annotations

import functools

from dash import Dash
from flask import Response
from plotly.offline import get_plotlyjs, get_plotlyjs_version

PATH = "/plotly.js"
SCRIPT = {"src": f"{PATH}?v={get_plotlyjs_version()}-eager", "defer": ""}
"""as an external script of Dash, which it is not: the server of the dashboard has it, as `eager` makes it"""
YEAR_S = 365 * 24 * 3600
BEGINS, ENDS = '(typeof self !== "undefined" ? self : this, () => {', "}));"
"""around the body of the function that is the library"""


def eager(text: str) -> str:
    """The library with the function that it is in parentheses, by which an engine knows that it is called at
    once: it is compiled while it is loaded, not skimmed then and read again on the page's own thread. A text
    of another form stays as it is."""
    head, begins, body = text.partition(BEGINS)
    body, ends, tail = body.rpartition(ENDS)
    if not begins or not ends or tail.strip():
        return text
    return f"{head}{BEGINS.replace('() =>', '(() =>')}{body}}}){ENDS[1:]}{tail}"


@functools.cache
def _source() -> bytes:
    return eager(get_plotlyjs()).encode()


def register(app: Dash) -> None:
    """The address of the library; its version is in it, so that a browser keeps it."""

    @app.server.route(PATH)
    def _plotly() -> Response:
        answer = Response(_source(), mimetype="text/javascript")
        answer.cache_control.max_age = YEAR_S
        return answer
