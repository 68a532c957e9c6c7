"""Which columns of a store's table say something: what varies of what was asked, and the main figures."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from npusim.sweep.store import Row

FIGURES = (
    "time_us", "cost", "relative_error", "worst_relative_error", "snr_db", "worst_snr_db", "nonfinite",
    "saturated", "range", "bound", "unit", "utilisation", "points",
)  # fmt: skip
"""columns that are shown unless others are asked for"""
OTHERS = ("kernel", "status", "reason", "computed", "total", "core_us", "event_us", "hbm_bytes", "l2_bytes",
          "max_abs_error")  # fmt: skip
"""columns that are not"""


def fixed(found: pd.DataFrame, name: str) -> bool:
    """Whether a setting is the same in all rows."""
    return name not in (*FIGURES, *OTHERS) and found[name].map(str).nunique() == 1


def varied(found: pd.DataFrame, kept: Sequence[Row]) -> list[str]:
    """What varies of that which was asked; `kept`: the rows of the table."""
    asked = list(dict.fromkeys(name for row in kept for name in row.settings if name in found))
    return [name for name in asked if not fixed(found, name)]


def shown(found: pd.DataFrame, kept: Sequence[Row]) -> list[str]:
    """What varies of that which was asked, and the main figures."""
    names = varied(found, kept)
    if len(found) == 1:
        names = [name for name in ("algorithm", "chunk", "dtype") if name in found]
    return [*names, *(n for n in FIGURES if n in found), *(["reason"] if found["reason"].any() else [])]
