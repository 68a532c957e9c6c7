"""What options and answers of all commands share."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON.", metavar="")]


def plain(text: str) -> str:
    """Help text whose square brackets are meant as such."""
    return text.replace("[", "\\[")


def print_json(data: Any) -> None:
    print(json.dumps(data, indent=2, allow_nan=False))
