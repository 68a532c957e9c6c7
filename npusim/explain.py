"""A pydantic error as one line that names the field and the remedy."""

from __future__ import annotations

from collections.abc import Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from npusim.errors import did_you_mean

Place = tuple[str, ...]

_TEXTS = {
    "greater_than_equal": "must be >= {ge:g}",
    "greater_than": "must be > {gt:g}",
    "less_than_equal": "must be <= {le:g}",
    "less_than": "must be < {lt:g}",
    "finite_number": "must be finite",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "string_type": "must be text",
    "string_too_short": "must not be empty",
    "enum": "must be {expected}",
    "literal_error": "must be {expected}",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "invalid_key": "must be text",
    "date_type": "must be a date, 2026-11-29",
    "date_from_datetime_parsing": "must be a date, 2026-11-29",
}
_NUMBER = "{value, source, evidence}"


def explain(error: ValidationError, root: type[BaseModel]) -> tuple[Place, str]:
    """Where in data meant for `root` the first mistake is, and 'field: what is wrong (and n more)'.

    An unknown field goes first: the one reported missing is often the same, misspelt.
    """
    errors = sorted(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    first, *more = errors
    place = tuple(str(step) for step in first["loc"] if step != "[key]")
    text = _text(first["type"], place, root, first["input"], first.get("ctx", {}), first["msg"])
    shown = place[:-1] if place[-1:] == ("value",) else place
    path = f"{'.'.join(shown)}: " if shown else ""
    return place, path + text + (f" (and {len(more)} more)" if more else "")


def _text(
    kind: str, place: Place, root: type[BaseModel], given: object, ctx: Mapping[str, Any], message: str
) -> str:
    """What is wrong at `place`, with the remedy where it is not the plain opposite."""
    if kind == "value_error":  # a rule over several fields, which names them itself
        return message.removeprefix("Value error, ")
    here, parent = _model_at(place, root), _model_at(place[:-1], root)
    if kind == "missing":
        what = "value missing" if place[-1] == "value" else "missing"
        return what + (f"; a number is {_NUMBER}" if _is_number(here) or _is_number(parent) else "")
    if kind == "extra_forbidden":
        return f"unknown field; {did_you_mean(place[-1], parent.model_fields if parent else ())}"
    if kind == "model_type" and _is_number(here):
        return f"must be {_NUMBER}, got {_short(given)}"
    wanted = _TEXTS[kind].format(**ctx) if kind in _TEXTS else message[:1].lower() + message[1:]
    return f"{wanted}, got {_short(given)}"


def _is_number(model: type[BaseModel] | None) -> bool:
    return model is not None and "evidence" in model.model_fields


def _model_at(place: Place, root: type[BaseModel]) -> type[BaseModel] | None:
    """The model class that validates what stands at `place`, where it is a model."""
    here: Any = root
    for step in place:
        model = model_of(here)
        if model is None:
            inner = [argument for argument in get_args(here) if argument is not Ellipsis]
            here = inner[-1] if inner else None
        else:
            here = model.model_fields[step].annotation if step in model.model_fields else None
    return model_of(here)


def model_of(annotation: Any) -> type[BaseModel] | None:
    """The model class in an annotation `Model` or `Model | None`; else None."""
    options = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    for option in options:
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return None


def _short(value: object) -> str:
    """A value as a user wrote it, cut to 60 characters."""
    text = repr(value)
    if value is None or isinstance(value, bool):
        text = {"None": "nothing", "True": "true", "False": "false"}[text]
    return text if len(text) <= 60 else text[:57] + "..."
