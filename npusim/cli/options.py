"""What options and answers of all commands share."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

Json = Annotated[bool, typer.Option("--json", help="Print JSON.", metavar="")]


class Group(TyperGroup):
    """Commands whose --help does not look as if it took a value: the option is made once, and kept."""

    def get_help_option(self, ctx: Any) -> Any:
        return _bare(super().get_help_option(ctx))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        command = self.whole(name, command)
        if command is not None:
            _bare(command.get_help_option(ctx))
        return name, command, rest

    def whole(self, name: str | None, command: Any) -> Any:
        """The command that stands behind a name, where `command` is but its help."""
        return command


def _bare(option: Any) -> Any:
    if option is not None:
        option.metavar = ""
    return option


def plain(text: str) -> str:
    """Help text whose square brackets are meant as such."""
    return text.replace("[", "\\[")


def print_json(data: Any) -> None:
    print(json.dumps(data, indent=2, allow_nan=False))
