"""The ids that several modules name."""

from __future__ import annotations

STATE = "state"
"""the store of a page's state, as the query of its link"""
SCHEME = "scheme"
"""the store of the theme's name, kept by the browser"""
NAV = "nav"
CRASH = "crash"
SETTING = "setting"
"""type of the ids of all controls of settings: {"type": SETTING, "name": field}"""


def setting(name: str) -> dict[str, str]:
    return {"type": SETTING, "name": name}
