"""What a person did, as a callback hears of it."""

from __future__ import annotations

from typing import Any

from dash import ctx


def changed() -> list[Any]:
    """Ids of the components that a callback is asked for: all that changed since it was asked last. Dash asks
    once for several, as for a clock that ticks while a button is pressed; `ctx.triggered_id` is but the first
    of them, so it serves where no two things happen at once."""
    return list(ctx.triggered_prop_ids.values())
