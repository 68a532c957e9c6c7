"""Arithmetic that a user writes over named numbers: "cores*a + ub_kib*b, a=3, b=0.1".

Python's grammar is borrowed to read it, and nothing of Python runs: numbers, names, + - * / **, parentheses
and a few functions are known, all else is refused. Names may be dotted: core.cube.startup_cycles. What
stands behind the expression as NAME=VALUE are the user's own coefficients.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn, Self

from npusim.cost import FRACTAL
from npusim.errors import InputError, did_you_mean
from npusim.machine import Machine, quantities

LONGEST, DEEPEST = 1000, 60
"""characters of an expression, and how deep it may be nested: more than anybody writes"""

BINARY: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
UNARY: dict[type[ast.unaryop], Callable[[float], float]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
FUNCTIONS: dict[str, tuple[Callable[..., float], int, int]] = {
    "min": (min, 2, LONGEST),
    "max": (max, 2, LONGEST),
    "sqrt": (math.sqrt, 1, 1),
    "log": (math.log, 1, 1),
}
"""by name: the function, and of how many numbers, from and to; log is the natural one"""


@dataclass(frozen=True)
class Expression:
    """`names`: the numbers it needs, in the order in which they appear, the coefficients left out."""

    text: str
    tree: ast.expr
    names: tuple[str, ...]
    coefficients: Mapping[str, float]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "EXPRESSION, NAME=VALUE, .."; InputError for anything that is not such arithmetic."""
        tree, values = _read(text)
        used = tuple(dict.fromkeys(_names(text, tree)))
        coefficients: dict[str, float] = {}
        for keyword in values:
            name = keyword.arg
            if name is None:
                _refuse(text, "'**' stands between two numbers")
            if name in FUNCTIONS:
                _refuse(text, f"{name} is a function; give the coefficient another name")
            if next(_names(text, keyword.value), None) is not None:
                _refuse(text, f"{name} must be a number, got {ast.unparse(keyword.value)!r}")
            if name not in used:
                _refuse(text, f"{name} is given and does not appear; {did_you_mean(name, used)}")
            if name in coefficients:
                _refuse(text, f"{name} is given twice; keep one")
            coefficients[name] = _value(text, keyword.value, {})
        return cls(text, tree, tuple(name for name in used if name not in coefficients), coefficients)

    def check(self, known: Iterable[str]) -> None:
        """InputError for a name that is not `known`, and for a coefficient that is."""
        known = set(known)
        for name in self.coefficients:
            if name in known:
                _refuse(self.text, f"{name} is known by itself; give the coefficient another name")
        for name in self.names:
            if name not in known:
                own = "" if "." in name else f" (a coefficient has its value behind: '.., {name}=1')"
                _refuse(self.text, f"no number {name!r}{own}; {did_you_mean(name, known)}")

    def value(self, mapping: Mapping[str, float]) -> float:
        """What it comes to with the numbers of `mapping`; InputError as `check` says, and where that is no
        finite number."""
        self.check(mapping)
        return _value(self.text, self.tree, {**mapping, **self.coefficients})


def _refuse(text: str, why: str) -> NoReturn:
    raise InputError(f"expression {text!r}: {why}")


def _read(text: str) -> tuple[ast.expr, list[ast.keyword]]:
    """The expression and what is given behind it, read as the arguments of a call."""
    if not text.strip():
        _refuse(text, "is empty; write arithmetic such as cores*3 + ub_kib*0.1")
    if len(text) > LONGEST:
        raise InputError(f"expression: longer than {LONGEST} characters")
    try:
        call = ast.parse(f"_({text}\n)", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        what = error.msg if isinstance(error, SyntaxError) else "nested too deeply"
        _refuse(text, f"cannot be read ({what}); use numbers, names, + - * / ** ( ) and {_functions()}")
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
        _refuse(text, "its parentheses do not match")
    if len(call.args) != 1:
        _refuse(text, "must be one expression, then NAME=VALUE, each behind a comma")
    return call.args[0], call.keywords


def _functions() -> str:
    return ", ".join(f"{name}()" for name in FUNCTIONS)


def _names(text: str, node: ast.expr, depth: int = 0) -> Iterator[str]:
    """The names of an expression, which is checked on the way."""
    if depth > DEEPEST:
        _refuse(text, "is nested too deeply")
    if isinstance(node, ast.Constant):
        if not isinstance(node.value, int | float) or isinstance(node.value, bool):
            _refuse(text, f"{ast.unparse(node)} is not a number")
    elif isinstance(node, ast.Name | ast.Attribute):
        name = _dotted(text, node)
        if name in FUNCTIONS:
            _refuse(text, f"{name} is a function: {name}(..)")
        yield name
    else:
        for inner in _inner(text, node):
            yield from _names(text, inner, depth + 1)


def _inner(text: str, node: ast.expr) -> list[ast.expr]:
    """What an operation is done to; InputError for an operation that is not known."""
    if isinstance(node, ast.BinOp) and type(node.op) in BINARY:
        return [node.left, node.right]
    if isinstance(node, ast.UnaryOp) and type(node.op) in UNARY:
        return [node.operand]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        name = node.func.id
        if name not in FUNCTIONS:
            _refuse(text, f"no function {name!r}; {did_you_mean(name, FUNCTIONS)}")
        _, least, most = FUNCTIONS[name]
        if node.keywords or not least <= len(node.args) <= most:
            _refuse(text, f"{name}() takes {'one number' if most == 1 else 'two numbers or more'}")
        return node.args
    _refuse(text, f"{ast.unparse(node)!r} is no arithmetic; use + - * / ** ( ) and {_functions()}")


def _dotted(text: str, node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(text, node.value)}.{node.attr}"
    _refuse(text, f"{ast.unparse(node)!r} is no name")


def _value(text: str, node: ast.expr, known: Mapping[str, float]) -> float:
    """The value of an expression that was checked; in float64 throughout."""
    if isinstance(node, ast.Name | ast.Attribute):
        return float(known[_dotted(text, node)])
    try:
        found = _applied(text, node, known)
    except (ZeroDivisionError, OverflowError, ValueError) as error:
        _refuse(text, f"{ast.unparse(node)}: {error}")
    if isinstance(found, complex) or not math.isfinite(found):
        _refuse(text, f"{ast.unparse(node)} is no finite number")
    return found


def _applied(text: str, node: ast.expr, known: Mapping[str, float]) -> float:
    if isinstance(node, ast.Constant):
        assert isinstance(node.value, int | float)
        return float(node.value)
    values = [_value(text, inner, known) for inner in _inner(text, node)]
    if isinstance(node, ast.BinOp):
        return BINARY[type(node.op)](*values)
    if isinstance(node, ast.UnaryOp):
        return UNARY[type(node.op)](*values)
    assert isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    return FUNCTIONS[node.func.id][0](*values)


# --- what a machine has ------------------------------------------------------------------------------

KIB, MIB, GIB = 2**10, 2**20, 2**30

SHORT: dict[str, tuple[str, float]] = {
    "cores": ("core.groups", 1),
    "vector_cores": ("core.vector_cores", 1),
    "queue_depth": ("core.scalar.queue_depth", 1),
    "vector_bytes": ("core.vector.repeat_bytes", 1),
    **{f"{level.lower()}_kib": (f"levels.{level}.bytes", KIB) for level in ("L1", "L0A", "L0B", "L0C", "UB")},
    "l2_mib": ("memory.l2_bytes", MIB),
    "hbm_gib": ("memory.hbm_bytes", GIB),
    "hbm_gb_per_s": ("memory.hbm_gb_per_s", 1),
    "l2_gb_per_s": ("memory.l2_gb_per_s", 1),
}
"""short names of numbers of a profile, and the unit they count in; vector_cores are those of one group"""


def machine_names(machine: Machine) -> dict[str, float]:
    """Every number of a machine by its dotted path, those of SHORT besides, and of each dtype of the cube
    cube_macs_DTYPE, multiply-adds per cycle and core."""
    names = {path: float(number.value) for path, number in quantities(machine).items()}
    short = {name: names[path] / unit for name, (path, unit) in SHORT.items()}
    cube = {
        f"cube_macs_{dtype}": float(FRACTAL**2 * depth.value) for dtype, depth in machine.core.cube.k0.items()
    }
    return names | short | cube
