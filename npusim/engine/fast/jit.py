"""numba, as this engine uses it: a compiler of functions that are then loaded without it (see `native`)."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, lower_builtin, models, register_model

F = TypeVar("F", bound=Callable[..., Any])
INT, FLOAT = types.int64, types.float64
INTS, FLOATS = types.CPointer(INT), types.CPointer(FLOAT)
"""arguments: a number, and the first of many; those have no length, and an index counts from 0 on"""


def inline(function: F) -> F:
    """Part of what calls it: state stays in registers, nothing is handed over."""
    return cast(F, numba.njit(forceinline=True, error_model="numpy", _nrt=False)(function))


def shared(function: F) -> F:
    """A function of machine code that others call."""
    return cast(F, numba.njit(error_model="numpy", _nrt=False)(function))


def exported(*arguments: Any) -> Callable[[Callable[..., Any]], Callable[[], tuple[str, bytes]]]:
    """In place of a function that returns an INT, what compiles it: (its symbol, an object file that has
    it)."""

    def decorate(function: Callable[..., Any]) -> Callable[[], tuple[str, bytes]]:
        def code() -> tuple[str, bytes]:
            made = numba.cfunc(INT(*arguments), error_model="numpy", _nrt=False)(function)
            return made.native_name, made._library._get_compiled_object()  # as numba's own cache keeps it

        return code

    return decorate


class Fixed(types.CPointer):  # type: ignore[misc]
    """A pointer to what does not change while machine code runs, so that what was read stays known."""

    def __init__(self, dtype: Any) -> None:
        super().__init__(dtype)
        self.name = f"fixed {dtype}*"


register_model(Fixed)(models.PointerModel)


@lower_builtin(operator.getitem, Fixed, types.Integer)
def _read_fixed(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    pointer, place = args
    word = builder.load(builder.gep(pointer, [place]))
    word.set_metadata("invariant.load", builder.module.add_metadata([]))
    return word


def _itself(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return builder.bitcast(args[0], context.get_value_type(signature.return_type))


@intrinsic
def fixed(context: Any, pointer: Any) -> Any:
    """The same pointer, to what does not change."""
    return Fixed(pointer.dtype)(pointer), _itself


@intrinsic
def floats(context: Any, pointer: Any) -> Any:
    """The same pointer, to the same words as times: handed over apart it would take a register of its own."""
    return type(pointer)(FLOAT)(pointer), _itself


@intrinsic
def short(context: Any, pointer: Any, record: Any, place: Any) -> Any:
    """A number of 32 bits, of those that share the words of a record that does not change."""

    def load(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start = builder.bitcast(builder.gep(args[0], [args[1]]), cgutils.int32_t.as_pointer())
        number = builder.load(builder.gep(start, [args[2]]))
        number.set_metadata("invariant.load", builder.module.add_metadata([]))
        return builder.sext(number, cgutils.intp_t)

    return INT(pointer, INT, INT), load


@intrinsic
def lowest_bit(context: Any, word: Any) -> Any:
    """The place of the lowest bit that is set."""

    def count(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], cgutils.true_bit)

    return word(word), count
