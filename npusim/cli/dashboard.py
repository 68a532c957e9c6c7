"""`npusim dashboard`: the browser's view of it all. Of the core only this file knows the dashboard."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

import typer

from npusim.cli.app import LATER
from npusim.errors import InputError

app = typer.Typer(rich_markup_mode="rich")
NEEDED = ("dash", "dash_mantine_components", "dash_ag_grid", "diskcache", "multiprocess", "psutil")


@app.callback()
def _group() -> None:
    """Keeps `dashboard` the name of a command."""


@app.command(help=LATER["dashboard"])
def dashboard(
    kernels: Annotated[
        list[str] | None,
        typer.Argument(
            help="Kernels of your own, FILE.py:FUNCTION, beside the built-in ones.", metavar="[KERNEL]..."
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than this computer's are warned of.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8050,
) -> None:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise InputError(
            f"the dashboard needs {', '.join(missing)}; install it with: pip install 'npusim[dashboard]'"
        )
    from dashboard.app import serve

    serve(host, port, kernels or ())
