"""YAML: values read from it and written to it, and where they stand in a text that is edited in place."""

from __future__ import annotations

import copy
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from npusim.errors import ProfileError

MOST = 1_000_000
"""values and characters that aliases may add to a text: a few lines of them could stand for billions"""


def parse(text: str, name: str) -> Any:
    """What YAML 1.2 text holds; duplicate keys are errors. Raises ProfileError naming file and line."""
    from ruamel.yaml.constructor import DuplicateKeyError
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        return copy.deepcopy(_loaded(text))
    except DuplicateKeyError as error:
        key = re.search(r'duplicate key "([^"]*)"', str(error.problem))
        found = key.group(1) if key else "?"
        raise ProfileError(f"{name}: line {_line(error)}: {found}: given twice; keep one") from None
    except MarkedYAMLError as error:
        problem = error.problem or error.context or "not YAML"
        raise ProfileError(f"{name}: line {_line(error)}: YAML syntax: {problem}") from None
    except (YAMLError, ValueError, TypeError, RecursionError) as error:  # TypeError: a list as a key
        reason = " ".join(str(error).split())[:120]
        raise ProfileError(f"{name}: not valid YAML: {reason}") from None


@lru_cache(maxsize=64)
def _loaded(text: str) -> Any:
    """Kept, as profiles are loaded again and again and ruamel.yaml takes a quarter of a second for one."""
    data = _reader().load(text)
    if _expanded(data, {}) > MOST + len(text):
        raise ValueError("its aliases (*name) stand for too much; write less of it, or without them")
    return data


def _expanded(node: Any, known: dict[int, float]) -> float:
    """Values and characters in a node once its aliases are written out; infinite where it holds itself."""
    if isinstance(node, str):
        return len(node)
    if not isinstance(node, Mapping | list | tuple | set):
        return 1
    if id(node) not in known:
        known[id(node)] = math.inf
        children = [*node.keys(), *node.values()] if isinstance(node, Mapping) else node
        known[id(node)] = 1 + sum(_expanded(child, known) for child in children)
    return known[id(node)]


def _reader() -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.constructor import SafeConstructor

    class Constructor(SafeConstructor):
        """Dates are text, as YAML 1.2 knows none, and JSON, as which profiles are kept, neither."""

    Constructor.add_constructor("tag:yaml.org,2002:timestamp", SafeConstructor.construct_yaml_str)
    # pure: the C parser knows YAML 1.1 only, in which `no` is false and 010 is 8.
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = Constructor
    return yaml


def _line(error: Any) -> int:
    mark = error.problem_mark or error.context_mark
    return int(mark.line) + 1 if mark else 1


def line_at(text: str, place: Sequence[str]) -> int:
    """The line of what stands at `place` in a YAML text that `parse` takes, or of what contains it."""
    node = _reader().compose(text)
    line = 1
    for step in place:
        if node is None:
            break
        children = node.value if isinstance(node.value, list) else []
        if children and isinstance(children[0], tuple):
            found = {key.value: (key, child) for key, child in children}
        else:
            found = {str(index): (child, child) for index, child in enumerate(children)}
        if step not in found:
            break
        at, node = found[step]
        line = at.start_mark.line + 1
    return line


# --- writing ---------------------------------------------------------------------------------


def dump(data: Mapping[str, Any]) -> str:
    """A profile as YAML text, each number on one line in flow style."""
    return _dumped(_styled(data))


def scalar(value: object, flow: bool = True) -> str:
    """A value on one line, in double quotes where text cannot stand plain (inside {} or [] if `flow`)."""
    text = _one_line(value, flow)
    return quoted(value) if isinstance(value, str) and text.startswith("'") else text


def quoted(text: str) -> str:
    """A text on one line, in double quotes."""
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString

    return _one_line(DoubleQuotedScalarString(text), flow=True)


def _one_line(value: object, flow: bool) -> str:
    from ruamel.yaml.comments import CommentedSeq

    sequence = CommentedSeq([value])
    if flow:
        sequence.fa.set_flow_style()
    return _dumped(sequence).removesuffix("\n").removeprefix("[" if flow else "- ").removesuffix("]" * flow)


def _dumped(data: Any) -> str:
    from ruamel.yaml import YAML

    yaml = YAML(typ="rt", pure=True)
    yaml.width = 1 << 30
    out = io.StringIO()
    yaml.dump(data, out)
    return out.getvalue()


def _styled(node: Any) -> Any:
    from ruamel.yaml.comments import CommentedMap

    if not isinstance(node, Mapping):
        return list(node) if isinstance(node, tuple) else node
    styled = CommentedMap((key, _styled(child)) for key, child in node.items() if child is not None)
    if "evidence" in node:
        styled["evidence"] = str(node["evidence"])
        styled.fa.set_flow_style()
    return styled


# --- places ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """A value of a YAML text, which stands at text[start:end]."""

    start: int
    end: int
    flow: bool = False
    entries: Mapping[str, Entry] = field(default_factory=dict)
    """of a mapping, by key"""


@dataclass(frozen=True)
class Entry:
    """A key of a mapping, which stands at text[start:end], and its value."""

    start: int
    end: int
    value: Piece


def layout(text: str, name: str) -> Piece:
    """Where everything stands in a YAML text that `parse` takes.

    ProfileError for anchors, by which what is written once stands in several places, and for '? key'.
    """
    return _piece(_reader().compose(text), text, name)


def _piece(node: Any, text: str, name: str) -> Piece:
    if node.anchor is not None:
        place = f"{name}: line {node.start_mark.line + 1}: &{node.anchor}"
        raise ProfileError(f"{place}: a file with anchors is not rewritten; write out every *{node.anchor}")
    start, end = node.start_mark.index, node.end_mark.index
    if not isinstance(node.value, list):
        return Piece(start, start + len(text[start:end].rstrip()))
    entries: dict[str, Entry] = {}
    last = start
    for child in node.value:
        key, value = child if isinstance(child, tuple) else (None, child)
        piece = _piece(value, text, name)
        if key is not None:
            after = key.end_mark.index
            if not text[after:].lstrip(" ").startswith(":"):
                line = key.start_mark.line + 1
                raise ProfileError(
                    f"{name}: line {line}: '? {key.value}' is not rewritten; write 'key: value'"
                )
            colon = text.index(":", after) + 1
            piece = piece if piece.end > piece.start else Piece(colon, colon)  # nothing stands there
            entries[str(key.value)] = Entry(key.start_mark.index, after, piece)
        last = piece.end
    # The end mark of a block lies behind blank lines and comments, where the next one starts.
    return Piece(start, end if node.flow_style else last, bool(node.flow_style), entries)
