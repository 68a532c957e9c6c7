"""A file of the user's own is loaded once, with what lies beside it, and leaves nothing in the process."""

from __future__ import annotations

import sys

import pytest

from npusim.cli.kernels import find_kernels
from npusim.user_file import UserFile

HEAD = """import numpy as np
from npusim.builder import InputError, KernelBuilder, Problem


def build(problem, options, target):
    k = KernelBuilder("copy", target, problem.dtype)
    x, y = k.input("x", (32, 32), "fp16"), k.output("y", (32, 32), "fp16")
    t = k.tile("t", "UB", (32, 32), "fp16")
    with k.phase("p"):
"""
COPY = """    with k.phase("q"):
        k.load(t, x.at())
        k.store(y.at(), t)
    return k.finish()
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes files into a folder to be in."""
    monkeypatch.chdir(tmp_path)

    def write(text, name="mine.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    return write


def refused(called):
    """The one line on standard error."""
    assert called.code == 2 and called.out == ""
    assert called.err.startswith("npusim: ") and called.err.count("\n") == 1 and "Traceback" not in called.err
    return called.err.removeprefix("npusim: ").rstrip("\n")


def test_nothing_of_a_file_stays_in_the_process(write, cli):
    write("SIZE = 32\n", "helper.py")
    write("", "pack/__init__.py")
    write("X = 1\n", "pack/part.py")
    write("Y = 2\n", "lib/further.py")
    write(
        "import sys, pack.part\nsys.path.append('lib')\nfrom helper import SIZE\n"
        + HEAD.replace("    k = ", "    import further, late\n    k = ", 1)
        + COPY.partition("\n")[2]
    )
    write("Z = 3\n", "late.py")
    assert cli("run", "mine.py:build", "--profile", "toy").code == 0  # what npusim itself imports is there
    path, entries, modules = sys.path, list(sys.path), dict(sys.modules)
    assert cli("run", "mine.py:build", "--profile", "toy").code == 0
    assert sys.path is path and sys.path == entries and dict(sys.modules) == modules
    write("import sys, helper\nsys.path = []\nsys.modules.pop('json')\n\n1 / 0\n")
    assert refused(cli("run", "mine.py:build")).startswith("mine.py:5: ZeroDivisionError")
    assert sys.path is path and sys.path == entries and dict(sys.modules) == modules


def test_a_helper_is_loaded_once_and_stays_itself(write, cli):
    write("print('loaded')\nclass Plan: pass\n", "helper.py")
    write(
        "import helper\nplan = helper.Plan\n"
        + HEAD.replace("    k = ", "    import helper as again\n    assert again.Plan is plan\n    k = ", 1)
        + COPY.partition("\n")[2]
    )
    made = cli("run", "mine.py:build", "--profile", "toy", "--json")
    assert made.code == 0 and made.err.count("loaded") == 1


def test_a_package_without_init_is_forgotten_too(write, cli):
    for name, size in (("one", 16), ("two", 24)):
        write(f"SIZE = {size}\n", f"{name}/bare/sizes.py")
        write(
            "from bare.sizes import SIZE\n" + HEAD.replace("32", "SIZE") + COPY.partition("\n")[2],
            f"{name}/mine.py",
        )
        assert f"input [{size}, {size}]" in cli("show", f"{name}/mine.py:build", "--profile", "toy").out


def test_the_packages_of_npusim_are_never_forgotten(write):
    """Even where they lie beside the file, as in a checkout of it."""
    write("", "npusim/__init__.py")
    write("x = 1\n")
    file = UserFile("mine.py")
    module = type(sys)("npusim.extra")
    module.__file__ = str(file.folder / "npusim" / "extra.py")
    known = dict(sys.modules)
    try:
        sys.modules["npusim.extra"] = module
        file._forget(known)
        assert sys.modules.get("npusim.extra") is module
    finally:
        sys.modules.pop("npusim.extra", None)


def test_a_dataclass_finds_the_names_of_its_annotations(write, cli):
    plan = "@dataclass\nclass Plan:\n    count: int\n    kinds: ClassVar[int] = 3\n\n\n"
    write(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom typing import ClassVar\n"
        + plan
        + HEAD.replace("    k = ", "    @dataclass\n    class In:\n        n: int\n    k = ", 1)
        + COPY.partition("\n")[2]
    )
    assert cli("show", "mine.py:build", "--profile", "toy").code == 0


def test_a_file_that_is_named_twice_is_loaded_once(write, capsys):
    write("print('loaded')\n" + HEAD + COPY.partition("\n")[2] + "\nother = build\n")
    found = find_kernels("tri-inverse", ["mine.py:build", "mxr", "./mine.py:other"])
    assert {"mine.py:build", "./mine.py:other"} < set(found.algorithms)
    assert capsys.readouterr().err == "loaded\n"
