"""A kernel of the user's own: FILE.py:FUNCTION, loaded only where it is named so.

The function has the form of the built-in ones, `build(problem, options, target) -> Kernel`. Whatever goes
wrong in the file is one InputError (or the builder's own error) that names the line in it.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from npusim.check import check
from npusim.errors import InputError, NpusimError, did_you_mean
from npusim.graph import Access, Kernel, operations
from npusim.kernels import Algorithm, Build, KernelEntry
from npusim.problem import Options, Problem, Target
from npusim.where import BUILT_IN, line_in

FORM = "FILE.py:FUNCTION"
CHOICE = ("algorithm", "variant")
"""the fields of Options that choose a function instead of saying something to it"""


def is_own(name: str) -> bool:
    """Whether a kernel or algorithm called `name` can only be one of the user's own."""
    return ":" in name or name.endswith(".py")


def own_kernel(name: str) -> KernelEntry:
    """The kernel FILE.py:FUNCTION[,FUNCTION..], whose algorithms are these functions of one file."""
    path, functions = _parts(name)
    module = _load(path)
    algorithms = [_algorithm(path, function, module, function) for function in functions]
    meaning = _first_line(module) or f"{'functions' if functions[1:] else 'function'} {', '.join(functions)}"
    sizes = tuple(field for field in Problem.model_fields if field != "dtype")
    return KernelEntry(path, meaning, {one.name: one for one in algorithms}, sizes)


def own_algorithm(name: str) -> Algorithm:
    """FILE.py:FUNCTION as an algorithm of a built-in kernel, called as it was named."""
    path, functions = _parts(name)
    if len(functions) > 1:
        raise InputError(f"{name}: several functions of a file; name each of them {FORM}")
    return _algorithm(path, functions[0], _load(path), name)


def _parts(name: str) -> tuple[str, list[str]]:
    """Path and functions of FILE.py:FUNCTION[,FUNCTION..]; the file exists. InputError otherwise."""
    path, _, listed = name.rpartition(":") if ":" in name else (name, "", "")
    functions = list(dict.fromkeys(part.strip() for part in listed.split(",") if part.strip()))
    if not path.endswith(".py"):
        raise InputError(f"{name}: {path!r} is no .py file; a kernel of your own is {FORM}")
    if Path(path).is_dir():
        raise InputError(f"{path}: is a folder; a kernel of your own is {FORM}")
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file")
    if not functions:
        raise InputError(f"{name}: no function is named; give {path}:FUNCTION")
    return path, functions


# --- loading -------------------------------------------------------------------------------------


def _load(path: str) -> ModuleType:
    """Run the file as a module. Its text is compiled afresh, so that nothing is left beside it."""
    spec = importlib.util.spec_from_file_location(f"kernel file {Path(path).resolve()}", path)
    assert spec
    module = importlib.util.module_from_spec(spec)
    module.__file__ = path
    sys.modules[spec.name] = module  # where dataclasses look up the names of annotations
    with _foreign(path, "while the file was loaded"):
        exec(compile(_text(path), path, "exec"), module.__dict__)
    return module


def _text(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None


@contextmanager
def _foreign(path: str, when: str = "") -> Iterator[None]:
    """Code of the user's runs inside: its folder is importable as for `python FILE.py`, what it prints goes
    to standard error, and what it raises becomes one error with the line in the file."""
    folder, known = Path(path).resolve().parent, set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        with redirect_stdout(sys.stderr):
            yield
    except NpusimError as error:
        error.blame(line_in(path, error))
        raise
    except (Exception, SystemExit) as error:
        failure = InputError(_said(error) + (f" ({when})" if when else ""))
        failure.blame(line_in(path, error))
        raise failure from error
    finally:
        with suppress(ValueError):  # the file may have changed the path itself
            sys.path.remove(str(folder))
        _forget(folder, known)


def _forget(folder: Path, known: set[str]) -> None:
    """Drop the modules of `folder` that are not `known`: another folder may have some of the same name."""
    for name in set(sys.modules) - known:
        top, file = name.partition(".")[0], getattr(sys.modules[name], "__file__", None)
        beside = file and (Path(file) == folder / f"{top}.py" or Path(file).is_relative_to(folder / top))
        if beside and top not in BUILT_IN:
            del sys.modules[name]


def _said(error: BaseException) -> str:
    """'ZeroDivisionError: division by zero'; the bare text of a mistake in the syntax."""
    kind, text = type(error).__name__, str(error)
    if isinstance(error, SyntaxError):
        return f"{kind}: {error.msg}"
    return f"{kind}: {text}" if text else kind


# --- functions -----------------------------------------------------------------------------------


def _algorithm(path: str, function: str, module: ModuleType, name: str) -> Algorithm:
    """The algorithm `name`, built by `function` of the file. InputError where that is no such function."""
    found = getattr(module, function, None)
    if not hasattr(module, function):
        known = _functions(module)
        near = did_you_mean(function, known) if known else "it has none"
        raise InputError(f"{path}: no function {function!r}; {near}")
    if not callable(found):
        raise InputError(f"{path}: {function} is no function but of type {type(found).__name__}")
    _check_form(path, function, found)
    variants = {"own": "as the file says"}
    parameters = frozenset(Options.model_fields) - {*CHOICE}
    meaning = _first_line(found) or f"{function} of {path}"
    algorithm = Algorithm(name, meaning, f"{path}:{function}", found, variants, parameters)
    return replace(algorithm, build=_guarded(path, function, found, algorithm))


def _functions(module: ModuleType) -> list[str]:
    """The functions that the file itself defines."""
    return [
        name
        for name, thing in vars(module).items()
        if inspect.isfunction(thing) and thing.__module__ == module.__name__ and not name.startswith("_")
    ]


def _check_form(path: str, function: str, found: Callable[..., Any]) -> None:
    """InputError where `found` does not take (problem, options, target)."""
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(None, None, None)
    except TypeError:
        raise InputError(
            f"{_place(path, found)}: {function}{signature} must take (problem, options, target)"
        ) from None


def _place(path: str, found: Callable[..., Any]) -> str:
    """Where a function of the file begins; the file where that is not known."""
    code = getattr(found, "__code__", None)
    return f"{path}:{code.co_firstlineno}" if code and code.co_filename == path else path


def _guarded(path: str, function: str, found: Callable[..., Any], algorithm: Algorithm) -> Build:
    """`found` with its errors named, and its kernel called after the algorithm."""

    def build(problem: Problem, options: Options, target: Target) -> Kernel:
        algorithm.variant(
            problem, options, target
        )  # an unknown one is refused here: `found` need not look at it
        with _foreign(path):
            kernel = found(problem, options, target)
        if not isinstance(kernel, Kernel):
            raise InputError(
                f"{_place(path, found)}: {function} gave {type(kernel).__name__}, no Kernel; "
                "end it with: return k.finish()"
            )
        if missing := _missing(check(kernel)):
            raise InputError(f"{_place(path, found)}: {function}: {missing}")
        return replace(kernel, algorithm=algorithm.name, variant=kernel.variant or "own")

    return build


def _missing(kernel: Kernel) -> str:
    """What a kernel lacks to be worth timing, or ''."""
    ops = [op for phase in kernel.phases for op in operations(phase.nodes)]
    if not ops:
        return "the kernel has no operations; write some in a phase"
    stored = {op.dst.tensor for op in ops if isinstance(op.dst, Access)}
    idle = [tensor.name for tensor in kernel.outputs if tensor not in stored]
    return f"nothing stores output {idle[0]}; end with k.store({idle[0]}.at(...), tile)" if idle else ""


def _first_line(thing: object) -> str:
    """The first line of a docstring, without its full stop."""
    return (inspect.getdoc(thing) or "").partition("\n")[0].strip().removesuffix(".")
