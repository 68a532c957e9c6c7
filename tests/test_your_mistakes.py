"""Mistakes in a user's own kernel that are easily made: each is one line, with its place in the file."""

from __future__ import annotations

import json

import pytest

from npusim.errors import InputError
from npusim.where import netting

HEAD = """import numpy as np
from npusim.builder import InputError, KernelBuilder, Problem


def build(problem, options, target):
    k = KernelBuilder("copy", target, problem.dtype)
    x, y = k.input("x", (32, 32), "fp16"), k.output("y", (32, 32), "fp16")
    t = k.tile("t", "UB", (32, 32), "fp16")
    kept = []
    with k.phase("p"):
"""
"""ten lines; what a test adds begins in line 11"""
COPY = """    with k.phase("q"):
        k.load(t, x.at())
        k.store(y.at(), t)
    return k.finish()
"""
OTHER = "o = KernelBuilder('o', target, 'fp16')\n        "


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes files into a folder to be in."""
    monkeypatch.chdir(tmp_path)

    def write(text, name="mine.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    return write


def refused(called):
    """The one line on standard error."""
    assert called.code == 2 and called.out == ""
    assert called.err.startswith("npusim: ") and called.err.count("\n") == 1 and "Traceback" not in called.err
    return called.err.removeprefix("npusim: ").rstrip("\n")


def item(code):
    """Three lines: the code stands in the second one, in items."""
    return f"def trip(items):\n            (i,) = items[0]; {code}\n        k.items([('a', 4)], trip)"


UNKNOWN = (
    "argument: index a is not known while the graph is built: it can only be added to and multiplied; use"
)
INDEX = {
    code: (12, item(code), UNKNOWN)
    for code in (
        "i == 0", "0 == i", "i != 0", "i == None", "i in (0, 1)", "bool(i)", "not i", "i and 1", "i // 2",
        "4 // i", "i % 2", "5 % i", "i / 2", "divmod(i, 2)", "i < 2", "2 < i", "i >= 1", "range(i)", "int(i)",
        "float(i)", "round(i)", "[1, 2][i]", "i ** 2", "i & 1", "min(i, 3)", "k.loop(i, print)",
        "x.at(rows=i)", "np.int64(0) == i", "np.arange(4) == i", "{0: 1}[0] if i else 2",
    )
}  # fmt: skip
BUILDER = {
    "finish in a phase": (
        11,
        "return k.finish()",
        "phase: finish() stands inside phase 'p'; move it out of the with block",
    ),
    "finish in an item": (12, item("k.finish()"), "phase: finish() stands inside phase 'p'; move"),
    "no items": (11, "k.items([('a', 0)], print)", "empty loop: there are no items to deal; the problem is"),
    "no axes": (11, "k.items([], print)", "argument: items take a list of axes, [(name, size), ..], got"),
    "a number of items": (11, "k.items(3, print)", "argument: items take a list of axes, [(name, size), ..]"),
    "one axis alone": (11, "k.items(('a', 3), print)", "argument: items take a list of axes, [(name, size)"),
    "one axis twice": (
        11,
        "k.items([('a', 2), ('a', 2)], print)",
        "argument: two axes of the items are called",
    ),
    "an axis like a loop": (11, "k.items([('i1', 2)], print)", "argument: no axis can be called 'i1': loops"),
    "an axis without name": (
        11,
        "k.items([(1, 2)], print)",
        "argument: the name of an axis must be text, got 1",
    ),
    "many items": (
        11,
        "k.items([('a', 2**35), ('b', 2**35)], print)",
        "argument: the number of items must be a whole number <= 2^40",
    ),
    "a grid of three": (
        11,
        "k.items([('a', 2), ('b', 2)], print, deal=(1, 2, 3))",
        "argument: a grid has rows and columns, deal=(rows, columns), got (1, 2, 3)",
    ),
    "a grid of one": (11, "k.items([('a', 2)], print, deal=(1,))", "argument: a grid has rows and columns"),
    "a deal of numbers": (11, "k.items([('a', 2)], print, deal=np.ones(2))", "items: they cannot be dealt"),
    "negative trips": (11, "k.loop(-1, print)", "argument: the count of a loop must be a whole number >= 0"),
    "negative counts": (
        12,
        item("k.loop(np.array([1, -1, 0, 0]), print)"),
        "argument: a table of counts must be a whole number >= 0, got -1",
    ),
    "counts of two axes": (
        12,
        item("k.loop(np.ones((2, 2), int), print)"),
        "argument: a table of counts must be a row with a count per item, got the shape [2, 2]",
    ),
    "no counts": (12, item("k.loop(np.zeros(0, int), print)"), "argument: a table of counts must be a row"),
    "endless trips": (
        11,
        "k.loop(10**20, print)",
        "argument: the count of a loop must be a whole number <= 2^40",
    ),
    "endless slots": (
        11,
        "k.tile('z', 'UB', (4, 4), 'fp16', slots=10**30)",
        "argument: slots of tile z must be",
    ),
    "an index after its items": (
        14,
        item("k.load(t, x.at()); kept.append(i)") + "\n        k.load(t, x.at(row=kept[0]))",
        "bounds: copy, phase p: load t: index a is used outside its loop or items; use it in their body",
    ),
    "an index of a view after its loop": (
        12,
        "k.loop(2, lambda i: (k.load(t, x.at()), kept.append(i)))\n"
        "        k.load(t.view(row=kept[0]), x.at())",
        "bounds: copy, phase p: load t: index i1 is used outside its loop",
    ),
    "a tensor of another": (
        12,
        OTHER + "k.load(t, o.input('x', (32, 32), 'fp16').at())",
        "argument: tensor x belongs to another KernelBuilder; declare it with this one",
    ),
    "a tile of another": (
        12,
        OTHER + "k.load(o.tile('t', 'UB', (32, 32), 'fp16'), x.at())",
        "argument: tile t belongs to another KernelBuilder; declare it with this one",
    ),
    "scratch elsewhere": (
        12,
        "k.load(t, x.at())\n        k.vector('exp', t, t, scratch=k.tile('s', 'L1', (4, 4), 'fp16'))",
        "level: copy, phase p: exp t: scratch tile s is at L1; it must be at UB",
    ),
    "a wait on nothing": (
        12,
        "k.load(t, x.at())\n        k.wait(t, None)",
        "argument: on of a wait must be text",
    ),
    "a wait on no text": (
        12,
        "k.load(t, x.at())\n        k.wait(t, '')",
        "argument: on of a wait must be text",
    ),
    "scalar work on nothing": (
        11,
        "k.scalar('alu', on=None)",
        "argument: on of scalar alu must be text, got None",
    ),
    "a barrier on nothing": (
        11,
        "k.barrier('core', on=None)",
        "argument: on of a barrier must be text, got None",
    ),
    "a barrier of nothing": (11, "k.barrier(None, 'rows')", "argument: the scope of a barrier must be text"),
    "no fractals": (
        11,
        "k.matmul(t, t, t, fractals=None)",
        "argument: the fractals of a product are a pair, (of a, of b), got None",
    ),
    "fractals of one": (
        11,
        "k.matmul(t, t, t, fractals=(None,))",
        "argument: the fractals of a product are a",
    ),
    "a name that is no text": (
        11,
        "k.tile(3, 'UB', (4, 4), 'fp16')",
        "argument: the name of a tile must be text",
    ),
    "a tensor's name": (11, "k.input(None, (4, 4), 'fp16')", "argument: the name of a tensor must be text"),
    "a label that is no text": (11, "k.load(t, x.at(), label=3)", "argument: a label must be text, got 3"),
    "a kernel's name": (
        11,
        "KernelBuilder(3, target, 'fp16')",
        "argument: the name of a kernel must be text",
    ),
    "a phase's name": (
        13,
        "k.load(t, x.at())\n        k.store(y.at(), t)\n    with k.phase(3):\n        pass",
        "argument: the name of a phase must be text, got 3",
    ),
    "a dtype of 16": (11, "k.tile('z', 'UB', (4, 4), 16)", "unknown dtype 16: a dtype is named by text"),
    "a dtype of numpy": (
        11,
        "k.input('z', (4, 4), np.float16)",
        "unknown dtype <class 'numpy.float16'>: a dtype is",
    ),
    "a dtype of the kernel": (
        11,
        "KernelBuilder('z', target, 16)",
        "unknown dtype 16: a dtype is named by text",
    ),
    "no vector function": (11, "k.vector(None, t)", "function: no vector function None; known: abs"),
    "a list of functions": (11, "k.vector(['exp'], t, t)", "function: no vector function ['exp']"),
    "an endless imm": (
        11,
        "k.vector('adds', t, t, imm=np.inf)",
        "argument: imm of adds must be a finite number",
    ),
    "an imm of NaN": (
        11,
        "k.vector('adds', t, t, imm=np.nan)",
        "argument: imm of adds must be a finite number",
    ),
    "a huge imm": (
        11,
        "k.vector('adds', t, t, imm=10**400)",
        "argument: imm of adds must be a finite number",
    ),
    "a constant of NaN": (
        11,
        "k.constant('c', [[1, np.nan]], 'fp16')",
        "argument: constant c must hold finite numbers only; nan is none",
    ),
    "a constant of text": (
        11,
        "k.constant('c', 'abc', 'fp16')",
        "argument: constant c must be a matrix of numbers, got 'abc'",
    ),
    "a complex constant": (
        11,
        "k.constant('c', [1j], 'fp16')",
        "argument: constant c must be a matrix of numb",
    ),
    "a variant that is no text": (
        14,
        "k.load(t, x.at())\n        k.store(y.at(), t)\n    k.variant = 3\n    return k.finish()",
        "argument: the variant of a kernel must be text, got 3",
    ),
    "a turn that is an array": (
        11,
        "k.move(t, t, transpose=np.ones(3))",
        "ValueError: The truth value of an array with more than one element is ambiguous",
    ),
    "a deep constant": (
        11,
        "k.constant('c', np.ones((2, 2, 2)), 'fp16')",
        "argument: constant c must be a matrix [rows, cols], got the shape [2, 2, 2]",
    ),
    "a huge scale": (
        11,
        "k.input('z', (4, 4), 'int8', scale=10**400)",
        "argument: scale of tensor z must be a",
    ),
    "an exception that is none": (11, "raise GeneratorExit", "GeneratorExit"),
    "an exception of one's own": (
        12,
        "class Mine(BaseException): pass\n        raise Mine('no')",
        "Mine: no",
    ),
    "an exception without text": (
        13,
        "class Mute(Exception):\n            def __str__(self): return 1 / 0\n        raise Mute",
        "Mute: its text cannot be had: ZeroDivisionError",
    ),
    "a size that is none": (
        11,
        "Problem(chunk='a')",
        "ValidationError: chunk: Input should be a valid integer",
    ),
}


@pytest.mark.parametrize("mistake", INDEX | BUILDER)
def test_a_mistake_is_one_line_with_its_place_in_the_file(write, cli, mistake):
    line, code, said = (INDEX | BUILDER)[mistake]
    write(HEAD + f"        {code}\n" + COPY)
    found = refused(cli("run", "mine.py:build", "--profile", "toy", "--json"))
    assert found.startswith(f"mine.py:{line}: {said}") and "pydantic.dev" not in found


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("k.settings = None", "k.settings must stay a dictionary (k.settings.update(..)), got None"),
        ("k.settings['a'] = float('nan')", "setting a must be text, a finite number or a bool, got nan"),
        ("k.settings['a'] = np.float32('inf')", "setting a must be text, a finite number or a bool, got"),
        ("k.settings['a'] = k", "setting a must be text, a finite number or a bool, got <npusim.builder"),
        ("k.settings['a'] = None", "setting a must be text, a finite number or a bool, got None"),
        ("k.settings[3] = 1", "the name of a setting must be text, got 3"),
    ],
)
def test_settings_are_what_a_report_can_show(write, cli, code, said):
    write(HEAD.replace("    with", f"    {code}\n    with") + COPY.partition("\n")[2])
    found = refused(cli("run", "mine.py:build", "--profile", "toy", "--json"))
    assert found.startswith(f"mine.py:14: argument: {said}")


def test_settings_of_numpy_are_numbers(write, cli):
    settings = "a=np.int64(3), b=np.float32(0.5), c=np.bool_(True), d='x'"
    write(HEAD.replace("    with", f"    k.settings.update({settings})\n    with") + COPY.partition("\n")[2])
    made = cli("run", "mine.py:build", "--profile", "toy", "--json")
    assert json.loads(made.out)["options"] == {"a": 3, "b": 0.5, "c": True, "d": "x"}


# --- what is found late --------------------------------------------------------------------------

INVERSE = """from npusim.builder import KernelBuilder


def f(problem, options, target):
    n, lead = problem.chunk, problem.shape
    k = KernelBuilder("mine", target, problem.dtype)
    L, T = k.input("L", (*lead, n, n), "fp16"), k.output("T", (*lead, n, n), "fp16")
    t = k.tile("t", "UB", (n, n), "fp16")
    def body(items):
        k.load(t, L.at(*items[0]))
        k.store(T.at(*items[0]), t)
    with k.phase("p"):
        k.items([("chunk", lead[0]), ("head", lead[1])], body)
    return k.finish()
"""


@pytest.mark.parametrize(
    "command", [("run", "tri-inverse", "--algorithm"), ("compare", "tri-inverse", "--algorithms")]
)
def test_a_mistake_in_the_sample_s_kernel_is_found_before_the_work(write, cli, monkeypatch, command):
    write(INVERSE.replace("    t = k", "    assert lead[1] > 1, lead\n    t = k"))
    monkeypatch.setattr("npusim.study.simulate", None)
    said = refused(cli(*command, "mine.py:f", "--heads", 8, "--samples", 4, "--json"))
    assert (
        "mine.py:8: AssertionError: (4, 1) (built for the sample that is computed, of shape (4, 1))" in said
    )


def test_a_sample_without_its_matrices_is_found_before_the_work(write, cli, monkeypatch):
    write(INVERSE.replace("lead = problem.chunk, problem.shape", "lead = problem.chunk, (128, 8)"))
    monkeypatch.setattr("npusim.study.simulate", None)
    line = ("run", "tri-inverse", "--algorithm", "mine.py:f", "--heads", 8, "--seq-len", 8192)
    said = refused(cli(*line, "--samples", 4, "--json"))
    assert said.endswith(
        "of 4 matrices; that of mine is [128, 8, 64, 64] "
        "(built for the sample that is computed, of shape (4, 1))"
    )


def test_what_nothing_foresaw_is_blamed_on_the_user_s_line_or_file(write, cli, monkeypatch):
    exp = "        k.vector('exp', t, t)\n"
    write(HEAD + COPY.partition("\n")[2].replace("        k.store", exp + "        k.store"))

    def broken(*_, **__):
        raise KeyError("i1")

    line = ("run", "mine.py:build", "--profile", "toy", "--json")
    for place, where in (
        ("npusim.execute._Run.vector", "mine.py:12"),
        ("npusim.lower._PhaseLowering._uses", "mine.py:11"),
        ("npusim.lower.Reuse", "mine.py"),
        ("npusim.study.summarise", "mine.py"),
        ("npusim.user_kernel.check", "mine.py"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, broken)
            assert refused(cli(*line)) == f"{where}: this cannot be simulated: KeyError: 'i1'", place
    with pytest.raises(KeyError), netting(""):
        broken()
    with (
        pytest.raises(InputError, match=r"^f.py: this cannot be simulated: KeyError: 'i1'$"),
        netting("f.py"),
    ):
        broken()
    with pytest.raises(MemoryError), netting("f.py"):
        raise MemoryError


# --- names on the command line -------------------------------------------------------------------


def test_a_variant_is_not_named_with_the_algorithm_of_a_run(cli):
    said = refused(cli("run", "tri-inverse", "--algorithm", "mxr:published"))
    assert said == "--algorithm: mxr:published names a variant; give --algorithm mxr --variant published"


def test_functions_of_two_files_are_not_compared(write, cli):
    said = refused(cli("compare", "ok.py:f,shape.py:f"))
    assert said == "ok.py:f,shape.py:f: several functions are those of one file: ok.py:f,g"


def test_a_comparison_says_nothing_of_what_it_does_not_do(write, cli):
    write(HEAD + COPY.partition("\n")[2])
    made = json.loads(cli("compare", "mine.py:build", "--profile", "toy", "--json").out)
    assert "what_if" not in made["settings"] and "samples" in made["settings"]
