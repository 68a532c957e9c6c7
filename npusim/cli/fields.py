"""Command-line options made from the settings models, so that both say the same."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer
from pydantic.fields import FieldInfo

from npusim.cli.options import plain
from npusim.errors import InputError
from npusim.problem import Options, Problem, Settings
from npusim.settings import EngineSettings, LayerSettings, MachineSettings, NumericsSettings

PANELS: dict[type[Settings], str] = {
    Problem: "Problem",
    LayerSettings: "Pass",
    Options: "Kernel",
    MachineSettings: "Machine",
    NumericsSettings: "Numerics",
    EngineSettings: "Engine",
}

LONGEST_CHOICES = 14
"""letters of choices that a help text shows in the column of values; beyond, the description names them"""


def takes(
    *models: type[Settings], without: frozenset[str] = frozenset(), lists: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one option per field of `models`; they arrive as its keyword argument `given`.

    `lists`: each takes several values, and arrives as the text that was given.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(command, include_extras=True)
        own = [
            p.replace(annotation=hints[p.name])
            for p in inspect.signature(command).parameters.values()
            if p.name != "given"
        ]
        fields = {
            name: (field, PANELS[model])
            for model in models
            for name, field in model.model_fields.items()
            if name not in without
        }
        extra = [_parameter(name, field, panel, lists) for name, (field, panel) in fields.items()]

        def wrapper(**values: Any) -> None:
            given = {name: _value(fields[name][0], values.pop(name), lists) for name in fields}
            command(**values, given={k: v for k, v in given.items() if v not in (None, [])})

        signature = inspect.Signature([*own, *extra])
        wrapper.__signature__ = signature  # type: ignore[attr-defined]
        wrapper.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
        wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
        return wrapper

    return decorate


def _parameter(name: str, field: FieldInfo, panel: str, lists: bool) -> inspect.Parameter:
    """The option of a field. Values arrive as text, so that the models alone say what is wrong."""
    flag = "--" + name.replace("_", "-")
    kind, default = _base(field.annotation), field.default
    text = field.description or ""
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    flags = [flag, *([str(extra["option"])] if "option" in extra else [])]
    several = lists and not (kind is bool and default is True)
    if kind is bool and several:
        text += " (yes, no, or yes,no)"
    elif kind is bool:
        off = "--no-" + name.replace("_", "-")
        flags = {True: [off], False: [flag]}.get(default, [f"{flag}/{off}"])
        text = str(extra.get("off", f"do not {text}")) if default is True else text
    elif default not in (None, ()) and "[default" not in text:
        text += f" [default: {default}]"
    option = typer.Option(
        *flags, help=plain(text), rich_help_panel=panel, show_default=False,
        metavar="VALUES" if several else _metavar(field),
    )  # fmt: skip
    flag_like = kind is bool and not several
    shown: Any = bool | None if flag_like else list[str] | None if name == "set" else str | None
    return _keyword(name, Annotated[shown, option], panel)


def _value(field: FieldInfo, value: Any, lists: bool) -> Any:
    """A number where the field wants one and the text is one; --no-NAME turns a default off."""
    kind = _base(field.annotation)
    if kind is bool and field.default is True:
        return None if value is None else not value
    if lists:
        return value
    if isinstance(value, str) and kind in (int, float):
        for number in (int, float):
            with contextlib.suppress(ValueError):
                return number(value)
    return value


def _keyword(name: str, annotation: Any, panel: str) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _base(annotation: Any) -> Any:
    """int, float, bool or str behind an optional or constrained annotation."""
    if get_origin(annotation) in (Union, UnionType):
        annotation = next(a for a in get_args(annotation) if a is not type(None))
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation


def _metavar(field: FieldInfo) -> str | None:
    kind = _base(field.annotation)
    if get_origin(kind) is Literal:
        choices = "|".join(get_args(kind))
        return choices if len(choices) <= LONGEST_CHOICES else "NAME"
    return {int: "N", float: "X", str: "TEXT", bool: ""}.get(kind, "TEXT")


def split(given: dict[str, Any], *models: type[Settings]) -> list[Any]:
    """The values given on the command line as one settings object per model."""
    return [model.parse(**{k: v for k, v in given.items() if k in model.model_fields}) for model in models]


def name_list(option: str, text: str) -> list[str]:
    """The names a,b of an option. InputError for one that is empty or named twice."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise InputError(f"{option}: a name is empty in {text!r}; separate names by one comma")
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{option}: {name} is named twice; keep one")
    return names
