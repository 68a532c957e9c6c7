"""A kernel of the user's own: FILE.py:FUNCTION, loaded only where it is named so.

The function has the form of the built-in ones, `build(problem, options, target) -> Kernel`. Whatever goes
wrong in the file is one InputError (or the builder's own error) that names the line in it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from npusim.check import check
from npusim.errors import InputError, did_you_mean
from npusim.graph import Access, Kernel
from npusim.kernels import Algorithm, Build, KernelEntry
from npusim.problem import Options, Problem, Target
from npusim.user_file import UserFile
from npusim.where import netting

FORM = "FILE.py:FUNCTION"
CHOICE = ("algorithm", "variant")
"""the fields of Options that choose a function instead of saying something to it"""


def is_own(name: str) -> bool:
    """Whether a kernel or algorithm called `name` can only be one of the user's own."""
    return ":" in name or name.endswith(".py")


Files = dict[Path, UserFile]
"""the files of a command, so that each is loaded once"""


def own_kernel(name: str, files: Files) -> KernelEntry:
    """The kernel FILE.py:FUNCTION[,FUNCTION..], whose algorithms are these functions of one file."""
    path, functions = _parts(name)
    file = _load(path, files)
    algorithms = [_algorithm(file, function, function) for function in functions]
    meaning = (
        _first_line(file.module) or f"{'functions' if functions[1:] else 'function'} {', '.join(functions)}"
    )
    sizes = tuple(field for field in Problem.model_fields if field != "dtype")
    return KernelEntry(path, meaning, {one.name: one for one in algorithms}, sizes)


def own_algorithm(name: str, files: Files) -> Algorithm:
    """FILE.py:FUNCTION as an algorithm of a built-in kernel, called as it was named."""
    path, functions = _parts(name)
    if len(functions) > 1:
        raise InputError(f"{name}: several functions of a file; name each of them {FORM}")
    return _algorithm(_load(path, files), functions[0], name)


def _load(path: str, files: Files) -> UserFile:
    place = Path(path).resolve()
    if place not in files:
        files[place] = UserFile(path)
    return files[place]


def _parts(name: str) -> tuple[str, list[str]]:
    """Path and functions of FILE.py:FUNCTION[,FUNCTION..]; the file exists. InputError otherwise."""
    path, _, listed = name.rpartition(":") if ":" in name else (name, "", "")
    functions = list(dict.fromkeys(part.strip() for part in listed.split(",") if part.strip()))
    if ".py:" in path:
        first = path.partition(".py:")[0] + ".py"
        raise InputError(f"{name}: several functions are those of one file: {first}:f,g")
    if not path.endswith(".py"):
        raise InputError(f"{name}: {path!r} is no .py file; a kernel of your own is {FORM}")
    if Path(path).is_dir():
        raise InputError(f"{path}: is a folder; a kernel of your own is {FORM}")
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file; check the path")
    if not functions:
        raise InputError(f"{name}: no function is named; give {path}:FUNCTION")
    return path, functions


# --- functions -----------------------------------------------------------------------------------


def _algorithm(file: UserFile, function: str, name: str) -> Algorithm:
    """The algorithm `name`, built by `function` of the file. InputError where that is no such function."""
    path, module = file.path, file.module
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
    return replace(algorithm, build=_guarded(file, function, found, algorithm))


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


def _guarded(file: UserFile, function: str, found: Callable[..., Any], algorithm: Algorithm) -> Build:
    """`found` with its errors named, and its kernel called after the algorithm."""
    path = file.path

    def build(problem: Problem, options: Options, target: Target) -> Kernel:
        algorithm.variant(
            problem, options, target
        )  # an unknown one is refused here: `found` need not look at it
        with file.running():
            kernel = found(problem, options, target)
        if not isinstance(kernel, Kernel):
            raise InputError(
                f"{_place(path, found)}: {function} gave {type(kernel).__name__}, no Kernel; "
                "end it with: return k.finish()"
            )
        with netting(path):
            missing = _missing(check(kernel))
        if missing:
            raise InputError(f"{_place(path, found)}: {function}: {missing}")
        return replace(kernel, algorithm=algorithm.name, variant=kernel.variant or "own", where=path)

    return build


def _missing(kernel: Kernel) -> str:
    """What a kernel lacks to be worth timing, or ''."""
    ops = [op for phase in kernel.phases for op in phase.operations]
    if not ops:
        return "the kernel has no operations; write some in a phase"
    stored = {op.dst.tensor for op in ops if isinstance(op.dst, Access)}
    idle = [tensor.name for tensor in kernel.outputs if tensor not in stored]
    return f"nothing stores output {idle[0]}; end with k.store({idle[0]}.at(...), tile)" if idle else ""


def _first_line(thing: object) -> str:
    """The first line of a docstring, without its full stop."""
    return (inspect.getdoc(thing) or "").partition("\n")[0].strip().removesuffix(".")
