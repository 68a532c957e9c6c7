"""The application: pages on a service, and the server that shows it."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import dash
from dash import Dash, set_props
from flask import abort, request
from werkzeug.serving import make_server

from dashboard.components import jobs, panel, plotlyjs, shell
from dashboard.components.cards import alert
from dashboard.components.ids import CRASH
from dashboard.pages import calibrate, compare, explore, graph, layer, sweep, timeline
from dashboard.service import Refused, Service
from dashboard.service.jobs import Home

PAGES = (explore, timeline, compare, layer, sweep, calibrate, graph)
"""the pages that there are; the navigation has its own order"""
LIMIT_BYTES = 32 * 2**20
"""of a request: an upload, whose own limit says what to do, is smaller"""
LOCAL = ("127.0.0.1", "localhost", "::1")


def create_app(own: Iterable[str] = (), folder: Path | None = None) -> Dash:
    """The application with a user's own kernels beside the built-in ones. Refused for one that cannot be."""
    own = tuple(own)
    service = Service(own, folder)
    dash.page_registry.clear()
    app = Dash(
        "dashboard",
        use_pages=True,
        pages_folder="",
        assets_folder=str(Path(__file__).parent / "assets"),
        serve_locally=True,
        external_scripts=[plotlyjs.SCRIPT],
        suppress_callback_exceptions=True,
        title="npusim",
        update_title=None,
        on_error=_crashed,
        background_callback_manager=jobs.Manager(Home(service.folder, own)),
    )
    app.server.config["MAX_CONTENT_LENGTH"] = LIMIT_BYTES
    plotlyjs.register(app)
    panel.register(app, service)
    for page in PAGES:
        page.register(app, service)
    shell.register(app)
    app.layout = shell.layout
    service.warm()
    return app


def _crashed(error: Exception) -> None:
    """A mistake of the program itself: it is said, and the application stays usable."""
    logging.getLogger("dashboard").error("a callback failed", exc_info=error)
    text = f"{type(error).__name__}: {error}. The terminal where the dashboard runs has the details."
    set_props(CRASH, {"children": alert(text, "Something went wrong in the dashboard itself")})


def _local_alone() -> None:
    """A page of the web that has its name resolved to this computer is not answered."""
    if urlsplit(f"//{request.host}").hostname not in LOCAL:
        abort(403, f"{request.host}: only {' and '.join(LOCAL)} are answered; --host says otherwise")


def serve(host: str, port: int, own: Iterable[str] = ()) -> None:
    """Show the dashboard until it is interrupted; a thread for each request."""
    app = create_app(own)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # not a line for each request
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise Refused(
            f"--port {port}: cannot listen on {host}: {reason}; choose another port or --host"
        ) from error
    if host in LOCAL:
        app.server.before_request(_local_alone)
    else:
        print(
            f"npusim: {host} is reachable from other computers: whoever reaches it can use this dashboard "
            "and save profiles into this folder; --host 127.0.0.1 keeps it to this one",
            file=sys.stderr,
        )
    shown, port = f"[{host}]" if family == socket.AF_INET6 else host, listening.getsockname()[1]
    print(f"dashboard at http://{shown}:{port}/ (Ctrl-C ends it)", flush=True)
    before = signal.signal(signal.SIGTERM, _ended)
    try:
        with listening, closing(jobs.of(app)):
            make_server(host, port, app.server, threaded=True, fd=listening.fileno()).serve_forever()
    finally:
        signal.signal(signal.SIGTERM, before)


def _ended(*_: object) -> None:
    """Who asks the server to end has its jobs ended, too."""
    raise SystemExit(0)
