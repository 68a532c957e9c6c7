"""Shares and relative errors as people read them."""

from __future__ import annotations


def percent(share: float, digits: int = 1) -> str:
    """'12.3 %'."""
    return f"{100 * share:.{digits}f} %"


def signed(share: float, digits: int = 1) -> str:
    """'+12.3 %', for an error or a change."""
    return f"{100 * share:+.{digits}f} %"
