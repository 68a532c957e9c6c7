"""The frame of all pages: navigation, theme, and the link that a view is shared by."""

from __future__ import annotations

from typing import Any

import dash
import dash_mantine_components as dmc
from dash import ALL, ClientsideFunction, Dash, Input, Output, State, dcc, html

from dashboard.components.ids import CRASH, NAV, SCHEME, STATE

PAGES = ("explore", "timeline", "compare", "layer", "sweep", "calibrate", "graph")
"""the order of the pages in the navigation; those that are not registered do not appear"""
THEME = {
    "primaryColor": "blue",
    "fontFamily": "Inter, 'Segoe UI', 'Helvetica Neue', Roboto, 'DejaVu Sans', system-ui, sans-serif",
    "fontFamilyMonospace": "'JetBrains Mono', 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace",
    "defaultRadius": "md",
    "cursorType": "pointer",
    "colors": {
        "dark": [
            "#e4e8ef",
            "#c3cad6",
            "#98a3b3",
            "#6f7b8d",
            "#394150",
            "#2b323e",
            "#20262f",
            "#1a1e26",
            "#151920",
            "#12151b",
        ],
        "blue": [
            "#eef4fd",
            "#d9e6fa",
            "#b0ccf4",
            "#84b0ee",
            "#609ae9",
            "#4a8ce6",
            "#2f6fd0",
            "#2563c9",
            "#1d55b0",
            "#154897",
        ],
    },
}


def icon(name: str, label: str = "") -> html.Span:
    """A drawing of the assets in the colour of the text beside it."""
    said = {"role": "img", "aria-label": label} if label else {"aria-hidden": "true"}
    return html.Span(className=f"icon icon-{name}", **said)


def layout() -> dmc.MantineProvider:
    """The application, whatever the page."""
    return dmc.MantineProvider(
        id="theme",
        theme=THEME,
        defaultColorScheme="light",
        children=[
            dcc.Store(id=SCHEME, storage_type="local"),
            html.A("Skip to the content", href="#content", className="skip"),
            html.Div([_rail(), html.Main(_main(), id="content", tabIndex=-1)], className="shell"),
        ],
    )


def _main() -> list[Any]:
    return [html.Div(id=CRASH, role="alert"), dash.page_container]


def _rail() -> html.Nav:
    """The navigation: a link for each page that there is, in the order of PAGES."""
    pages = {page["module"]: page for page in dash.page_registry.values()}
    links = [
        dcc.Link(
            [icon(name), html.Span(pages[name]["name"])],
            href=pages[name]["path"],
            id={"type": NAV, "page": name},
            className="nav",
        )
        for name in PAGES
        if name in pages
    ]
    tools = [
        html.Button(
            [icon("link"), html.Span("Copy link", id="copied")],
            id="copy-link",
            className="nav",
            type="button",
            title="Copy a link that restores this view",
        ),
        html.Button(
            [icon("theme"), html.Span("Theme")],
            id="switch-theme",
            className="nav",
            type="button",
            title="Switch between light and dark",
        ),
    ]
    brand = html.Div([html.Span(className="icon icon-brand"), html.Span("npusim")], className="brand")
    return html.Nav(
        [brand, *links, html.Div(className="push"), *tools],
        className="rail",
        **{"aria-label": "Pages"},
    )


def register(app: Dash) -> None:
    """What happens in the browser alone."""
    here = "shell"
    app.clientside_callback(
        ClientsideFunction(here, "scheme"),
        Output(SCHEME, "data"),
        Input("switch-theme", "n_clicks"),
        State(SCHEME, "data"),
    )
    app.clientside_callback(
        ClientsideFunction(here, "paint"), Output("theme", "forceColorScheme"), Input(SCHEME, "data")
    )
    app.clientside_callback(
        ClientsideFunction(here, "address"),
        Output({"type": NAV, "page": ALL}, "href"),
        Input(STATE, "data"),
        State({"type": NAV, "page": ALL}, "id"),
    )
    app.clientside_callback(
        ClientsideFunction(here, "copy"),
        Output("copied", "children"),
        Input("copy-link", "n_clicks"),
        prevent_initial_call=True,
    )
