"""The fields of a sweep as a person sees them: what each means, values to begin with, their YAML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dashboard.service.controls import BY_SIXTEEN, controls_of, short
from dashboard.state import as_text
from npusim.kernels import KernelEntry
from npusim.sweep.spec import MODELS
from npusim.units import unit_of

SET = "set."
"""how the names of a profile's numbers begin among them"""
CHUNKS = "32,64,128"


def taken(entry: KernelEntry, names: Iterable[str]) -> set[str]:
    """The parameters that any of some algorithms takes."""
    known = [entry.algorithms[name] for name in names if name in entry.algorithms]
    return {name for one in known for name in one.parameters}


def described(name: str) -> tuple[str, str]:
    """Label and meaning of a setting."""
    if name.startswith(SET):
        path = name.removeprefix(SET)
        return path, f"number of the profile, in {unit_of(path)}" if unit_of(
            path
        ) else "number of the profile"
    for model in MODELS:
        if name in model.model_fields:
            one = controls_of(model)[name]
            return one.label, short(one.help)
    return name, ""


def shown(shown: Mapping[str, Any], name: str) -> str:
    return str(shown[name].default) if name in shown else ""


def begin(name: str, now: str) -> str:
    """Values to begin with around the one that is set now."""
    if name == "chunk":
        return CHUNKS
    if name in BY_SIXTEEN and not now:
        return "16,32,64"
    one = next(controls_of(model)[name] for model in MODELS if name in model.model_fields)
    if one.choices:
        own = [choice for choice, _ in one.choices]
        return ",".join(own if len(own) <= 3 else dict.fromkeys([now or own[0], *own[:2]]))
    try:
        value = float(now or one.default or 1)
    except ValueError:
        return now
    if not one.whole:
        return ",".join(dict.fromkeys([as_text(value), as_text(value / 2)]))
    if name == "cores":
        return ",".join(dict.fromkeys(as_text(float(max(1, int(value) // part))) for part in (4, 2, 1)))
    if value < 8:
        return f"{int(value)}:{int(value) + 3}"
    most = one.maximum or float("inf")
    return ",".join(as_text(value * by) for by in (1, 2, 4) if value * by <= most)


def written(name: str, own: Any) -> Any:
    """Values as YAML has them: one alone, or a list."""
    plain = [list(one) if isinstance(one, tuple) else int(one) if _whole(one) else one for one in own]
    return plain[0] if len(plain) == 1 else plain


def _whole(value: object) -> bool:
    return isinstance(value, float) and value.is_integer()
