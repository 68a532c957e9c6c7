"""A user's own kernel: the page that teaches it is run as it stands, and every mistake is one line."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PAGE = Path(__file__).parent.parent / "docs" / "your-kernel.md"
BLOCK = re.compile(r"^```(\w+) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

HEAD = '''"""A kernel that copies a matrix by way of the vector cores."""
from npusim.builder import KernelBuilder


def build(problem, options, target):
    """Copy x to y."""
    k = KernelBuilder("copy", target, problem.dtype)
    x, y = k.input("x", (32, 32), "fp16"), k.output("y", (32, 32), "fp16")
    t = k.tile("t", "UB", (32, 32), "fp16")
'''
"""nine lines; what a test adds begins in line 10"""
COPY = """    with k.phase("p"):
        k.load(t, x.at())
        k.store(y.at(), t)
    return k.finish()
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to be in, so that files are named as a user would."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def write(folder):
    def write(text, name="mine.py"):
        (folder / name).write_text(text)

    return write


def refused(called):
    """The one line on standard error."""
    assert called.code == 2 and called.out == ""
    assert called.err.startswith("npusim: ") and called.err.count("\n") == 1 and "Traceback" not in called.err
    return called.err.removeprefix("npusim: ").rstrip("\n")


def squeezed(text):
    return [" ".join(line.split()) for line in text.splitlines()]


# --- the page ------------------------------------------------------------------------------------


def called(cli, line):
    """What a command of the page prints."""
    program, *arguments = shlex.split(line)
    if program == "python":
        done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout
    assert program == "npusim"
    made = cli(*arguments)
    assert (made.code, made.err) == (0, ""), line
    return made.out


def test_the_page_can_be_followed_and_every_line_it_shows_is_printed(folder, cli):
    files, printed, seen = {}, [], 0
    for kind, name, text in BLOCK.findall(PAGE.read_text()):
        if kind == "python":
            files[name] = files[name] + "\n\n" + text if name in files else text
            (folder / name).write_text(files[name])
        elif kind == "sh":
            printed = [line for command in text.splitlines() for line in squeezed(called(cli, command))]
        else:
            assert kind == "text" and text.strip()
            for line in squeezed(text):
                assert line in printed, f"the page shows {line!r}"
                seen += 1
    assert set(files) == {"my_kernel.py", "make_inputs.py", "check.py"} and seen > 25
    improved_is_faster_and_both_are_right(folder, cli)


def improved_is_faster_and_both_are_right(folder, cli):
    small = ("--seq-len", 256, "--heads", 6, "--inputs", "problem.npz", "--output", "result.npz", "--json")
    with np.load(folder / "problem.npz") as file:
        given = dict(file)
    weights = given["A"] * np.exp(given["g"]) * np.tri(64)
    values = given["V"].reshape(4, 64, 6, 128).transpose(0, 2, 1, 3)
    wanted = (weights @ values).transpose(0, 2, 1, 3).reshape(4, 64, 768)
    times = []
    for function, slots in (("gated", 1), ("gated", 2), ("paired", 3)):
        made = json.loads(cli("run", f"my_kernel.py:{function}", "--slots", slots, *small).out)
        with np.load(folder / "result.npz") as file:
            got = file["O"]
        assert np.linalg.norm(got - wanted) < 1e-3 * np.linalg.norm(wanted), function
        assert (made["kernel"], made["algorithm"], made["variant"]) == ("gated-product", function, "own")
        assert made["settings"]["kernel"] == f"my_kernel.py:{function}"
        long = cli(
            "run", f"my_kernel.py:{function}", "--slots", slots, "--seq-len", 1024, "--no-numerics", "--json"
        )
        times.append(json.loads(long.out)["time_us"])
    assert times[0] > times[1] > times[2] and times[0] > 1.4 * times[2]


def test_the_page_and_the_builder_know_the_same_methods():
    from npusim.builder import KernelBuilder

    public = {name for name in dir(KernelBuilder) if not name.startswith("_")}
    assert set(re.findall(r"`?k\.(\w+)\(", PAGE.read_text())) == public - {"settings"}


# --- what works ----------------------------------------------------------------------------------


def test_a_function_is_run_shown_and_compared_by_its_name(write, cli):
    write(
        HEAD + COPY + "\n\ndef other(problem, options, target):\n    return build(problem, options, target)\n"
    )
    made = cli("run", "mine.py:build", "--profile", "toy")
    assert made.code == 0 and made.out.startswith("mine.py build: Copy x to y\n")
    assert cli("show", "mine.py:build", "--profile", "toy").out.startswith("kernel copy build own, fp16")
    compared = json.loads(cli("compare", "mine.py:build,other", "--profile", "toy", "--json").out)
    assert [(row["algorithm"], row["speedup"]) for row in compared["rows"]] == [("build", 1), ("other", 1)]
    assert compared["kernel"] == "mine.py:build,other"


def test_it_stands_beside_the_built_in_algorithms(write, cli):
    """T = I - L, exact where L^2 = 0."""
    write("""import numpy as np
from npusim.builder import KernelBuilder


def first_order(problem, options, target):
    n, lead = problem.chunk, problem.shape
    k = KernelBuilder("mine", target, problem.dtype)
    L, T = k.input("L", (*lead, n, n), "fp16"), k.output("T", (*lead, n, n), "fp16")
    one = k.constant("one", np.eye(n), "fp16")
    eye, l, t = (k.tile(name, "UB", (n, n), "fp16") for name in ("eye", "l", "t"))
    with k.phase("p"):
        k.load(eye, one.at())

        def body(items):
            k.load(l, L.at(*items[0]))
            k.vector("sub", t, eye, l)
            k.store(T.at(*items[0]), t)

        k.items([("chunk", lead[0]), ("head", lead[1])], body)
    return k.finish()
""")
    L = np.zeros((3, 16, 16))
    L[:, 12, 3] = 0.5
    np.savez("l.npz", L=L)
    own = "mine.py:first_order"
    both = cli("compare", "tri-inverse", "--algorithms", f"mxr,{own}", "--inputs", "l.npz", "--json")
    rows = json.loads(both.out)["rows"]
    assert [row["algorithm"] for row in rows] == ["mxr", own]
    assert [row["relative_error"] for row in rows] == [0, 0] and all(row["time_us"] > 0 for row in rows)
    alone = cli("run", "tri-inverse", "--algorithm", own, "--inputs", "l.npz", "--output", "t.npz", "--json")
    assert json.loads(alone.out)["algorithm"] == own
    with np.load("t.npz") as file:
        assert np.array_equal(file["T"], np.eye(16) - L)
    assert cli("show", "tri-inverse", "--algorithm", own, "--matrices", 3).out.startswith(
        f"kernel mine {own}"
    )


def test_the_folder_of_the_file_is_importable_and_prints_do_not_spoil_json(write, cli):
    write("SIZE = 32\nprint('loaded')\n", "helper.py")
    write("from helper import SIZE\n" + HEAD + "    assert SIZE == 32\n    print('built')\n" + COPY)
    made = cli("run", "mine.py:build", "--profile", "toy", "--json")
    assert made.code == 0 and json.loads(made.out)["kernel"] == "copy"
    assert "loaded" in made.err and "built" in made.err
    assert not list(Path().glob("**/mine*.pyc"))


def test_two_files_may_have_helpers_of_the_same_name(folder, write, cli):
    for name, size in (("one", 16), ("two", 24)):
        (folder / name).mkdir()
        write(f"SIZE = {size}\n", f"{name}/helper.py")
        write("from helper import SIZE\n" + HEAD.replace("32", "SIZE") + COPY, f"{name}/mine.py")
        assert f"input [{size}, {size}]" in cli("show", f"{name}/mine.py:build", "--profile", "toy").out


def test_a_change_of_the_file_is_seen_at_once(write, cli):
    for size in ("16", "24"):
        write(HEAD.replace("32", size) + COPY)
        assert f"input [{size}, {size}]" in cli("show", "mine.py:build", "--profile", "toy").out


def test_nothing_is_imported_that_is_not_named(write, folder, cli):
    write("open('touched', 'w')\n" + HEAD + COPY)
    assert cli("list").code == 0 and cli("run", "build", "--profile", "toy").code == 2
    assert (
        cli("run", "mine", "--profile", "toy").code == 2
        and cli("run", "mine.py", "--profile", "toy").code == 2
    )
    assert not (folder / "touched").exists()
    assert cli("show", "mine.py:build", "--profile", "toy").code == 0 and (folder / "touched").exists()


def test_the_help_says_how_a_kernel_of_ones_own_is_named(cli):
    assert all("FILE.py:FUNCTION" in cli(command, "--help").out for command in ("run", "show", "compare"))


# --- mistakes in the name ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none.py:build", "none.py: no such file; check the path"),
        ("mine.py", "mine.py: no function is named; give mine.py:FUNCTION"),
        ("mine.py:", "mine.py:: no function is named; give mine.py:FUNCTION"),
        ("mine.py:biuld", "mine.py: no function 'biuld'; did you mean 'build'?"),
        ("mine.py:SIZE", "mine.py: SIZE is no function but of type int"),
        (
            "mine.txt:build",
            "mine.txt:build: 'mine.txt' is no .py file; a kernel of your own is FILE.py:FUNCTION",
        ),
        ("folder.py:build", "folder.py: is a folder; a kernel of your own is FILE.py:FUNCTION"),
        ("mine.py:two", "mine.py:16: two(problem, options) must take (problem, options, target)"),
        (
            "mine.py:build,two",
            "mine.py:16: two(problem, options) must take (problem, options, target)",
        ),
        (
            "mine.py:build,again",
            "mine.py:build,again: one function is built at a time, not build, again; "
            "npusim compare takes several",
        ),
    ],
)
def test_a_mistake_in_the_name(write, folder, cli, name, said):
    write(HEAD + COPY + "SIZE = 1\n\ndef two(problem, options): pass\nagain = build\n")
    (folder / "folder.py").mkdir()
    assert refused(cli("run", name, "--profile", "toy")) == said


def test_each_algorithm_of_a_file_is_named_whole(write, cli):
    write(HEAD + COPY)
    said = refused(cli("compare", "tri-inverse", "--algorithms", "mxr,mine.py:build,other"))
    assert said.startswith("--algorithms: tri-inverse has no 'other'")
    assert refused(cli("run", "mine.py:build", "--algorithm", "mxr")).startswith(
        "--algorithm: mine.py has no 'mxr'"
    )
    assert refused(cli("run", "mine.py:build", "--variant", "fast", "--profile", "toy")) == (
        "--variant: build has no 'fast'; known: own"
    )


def test_an_inverse_needs_l_and_t(write, cli):
    write(HEAD + COPY)
    said = refused(cli("run", "tri-inverse", "--algorithm", "mine.py:build", "--matrices", 2, "--json"))
    assert said == (
        "mine.py:build: an inverse needs an input L [chunks, heads, 64, 64] of 2 matrices; copy has none"
    )
    write((HEAD + COPY).replace('"x"', '"L"').replace('"y"', '"T"'))
    said = refused(cli("run", "tri-inverse", "--algorithm", "mine.py:build", "--matrices", 2, "--json"))
    assert said.endswith("of 2 matrices; that of copy is [32, 32]")


# --- mistakes in the file ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = (\n", "mine.py:1: SyntaxError: '(' was never closed (while the file was loaded)"),
        ("\nimport nothing_of_this_name\n", "mine.py:2: ModuleNotFoundError: No module named"),
        ("import sys\nsys.exit(3)\n", "mine.py:2: SystemExit: 3 (while the file was loaded)"),
        ("\n\n1 / 0\n", "mine.py:3: ZeroDivisionError: division by zero (while the file was loaded)"),
        ("import broken\n", "broken.py:2: SyntaxError: invalid syntax"),
        ("a\0b", "mine.py"),
        ("", "mine.py: no function 'build'; it has none"),
    ],
)
def test_a_file_that_cannot_be_loaded(write, cli, text, said):
    write("x = 1\n? = 2\n", "broken.py")
    write(text)
    assert said in refused(cli("run", "mine.py:build"))


MISTAKES = {
    "a wrong shape": (
        11,
        "k.load(t, x.at(rows=8))",
        "shape: copy, phase p: load t: tensor x [8, 32] does not",
    ),
    "a place beyond": (11, "k.load(t, x.at(row=8))", "bounds: copy, phase p: load t: x[; 8:+32, 0:+32] lies"),
    "an unknown level": (
        11,
        "k.tile('z', 'L2', (16, 16), 'fp16')",
        "level: tile z: no level 'L2'; known: GM,",
    ),
    "an unknown place": (
        11,
        "k.tile('z', 'UB', (16, 16), 'fp16', place='row')",
        "place: tile z: no place 'row'; did you mean 'rows'?",
    ),
    "an unknown dtype": (
        11,
        "k.tile('z', 'UB', (16, 16), 'fp15')",
        "unknown dtype 'fp15': did you mean 'fp16'",
    ),
    "half a row": (
        11,
        "k.tile('z', 'UB', (16, 2.5), 'fp16')",
        "argument: each size of tile z must be a whole",
    ),
    "an unknown function": (
        11,
        "k.vector('expp', t, t)",
        "function: no vector function 'expp'; did you mean",
    ),
    "an unknown unit": (
        12,
        "k.load(t, x.at())\n        k.wait(t, on='aic_mca')",
        "core: copy, phase p: wait on",
    ),
    "an unknown barrier": (
        11,
        "k.barrier('aiv_vek', 'rows')",
        "core: copy, phase p: barrier on 'aiv_vek'; did",
    ),
    "an unread barrier": (
        11,
        "k.barrier('aic_mac', 'rows')",
        "copy: barrier on 'aic_mac'; aiv0 has aiv_mte2",
    ),
    "no scalar work": (11, "k.scalar('sqrt')", "no scalar function 'sqrt'; known: read, write, alu"),
    "an exception": (11, "1 / 0", "ZeroDivisionError: division by zero"),
    "an unknown name": (11, "tt", "NameError: name 'tt' is not defined"),
    "an unknown method": (
        11,
        "k.lod(t, x.at())",
        "AttributeError: 'KernelBuilder' object has no attribute 'lod'",
    ),
    "a call without arguments": (11, "k.load()", "TypeError: KernelBuilder.load() missing 2 required"),
    "a key that is not there": (11, "{}['a']", "KeyError: 'a'"),
    "an exit": (11, "raise SystemExit", "SystemExit"),
    "the tensor itself": (
        11,
        "k.load(t, x)",
        "argument: a place in a tensor, x.at(...), is needed here, got",
    ),
    "a store to an input": (
        12,
        "k.load(t, x.at())\n        k.store(x.at(), t)",
        "argument: tensor x is no output",
    ),
    "no path": (
        13,
        "a = k.tile('a', 'L0A', (32, 32), 'fp16')\n        k.load(a, x.at())\n"
        "        k.move(k.tile('b', 'L0B', (32, 32), 'fp16'), a)",
        "copy: this machine has no path from L0A to L0B",
    ),
    "a product of what the cube lacks": (
        15,
        "i = 'int16'\n        a, b = k.tile('a', 'L0A', (32, 32), i), k.tile('b', 'L0B', (32, 32), i)\n"
        "        k.load(a, x.at())\n        k.load(b, x.at())\n"
        "        k.matmul(k.tile('c', 'L0C', (32, 32), 'int32'), a, b)",
        "toy: the cube has no int16",
    ),
    "too much for the buffer": (
        12,
        "small = k.tile('s', 'UB', (32, 32), 'fp16')\n"
        "        big = k.tile('big', 'UB', (1024, 1024), 'fp32')\n"
        "        k.load(small, x.at())\n        k.vector('fill', big, imm=0.0)",
        "capacity: copy, phase p: the tiles at UB need",
    ),
    "a read before any write": (
        11,
        "k.store(y.at(), t)",
        "use before definition: copy: store y reads tile t",
    ),
    "a loop without work": (11, "k.loop(3, lambda i: None)", "empty loop: copy, phase p: loop i1 has no"),
    "half a trip": (
        11,
        "k.loop(2.5, lambda i: None)",
        "argument: the count of a loop must be a whole number",
    ),
    "a mistake in a trip": (
        12,
        "def trip(items):\n            k.load(t, x.at(1))\n        k.items([('i', 4)], trip)",
        "bounds: copy, phase p: load t: x[1] has 1 leading indices",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_with_its_place_in_the_file(write, cli, mistake):
    line, code, said = MISTAKES[mistake]
    write(HEAD + f"    with k.phase('p'):\n        {code}\n" + COPY.replace("'p'", "'q'"))
    assert refused(cli("run", "mine.py:build", "--profile", "toy", "--json")).startswith(
        f"mine.py:{line}: {said}"
    )


def test_a_mistake_in_a_helper_names_the_helper_s_line(write, cli):
    write("def load(k, t, x):\n    k.load(t, x.at(3))\n", "helper.py")
    write("from helper import load\n" + HEAD + "    with k.phase('p'):\n        load(k, t, x)\n" + COPY)
    assert "helper.py:2: bounds: copy, phase p: load t: x[3]" in refused(cli("show", "mine.py:build"))


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("    pass\n", "mine.py:5: build gave NoneType, no Kernel; end it with: return k.finish()"),
        ("    return k\n", "mine.py:5: build gave KernelBuilder, no Kernel; end it with: return k.finish()"),
        ("    return k.finish()\n", "mine.py:5: build: the kernel has no operations; write some in a phase"),
        (
            COPY.replace("k.store(y.at(), t)", "pass"),
            "mine.py:5: build: nothing stores output y; end with k.store(y.at(...), tile)",
        ),
    ],
)
def test_what_a_function_has_to_give(write, cli, end, said):
    write(HEAD + end)
    assert refused(cli("run", "mine.py:build", "--profile", "toy", "--json")) == said


def test_a_broken_graph_is_refused_where_nothing_is_timed_too(write, cli):
    write(HEAD + COPY.replace("x.at()", "x.at(rows=8)"))
    assert refused(cli("run", "mine.py:build", "--no-timing", "--json")).startswith("mine.py:11: shape: ")


def test_a_comparison_goes_on_without_what_a_machine_cannot_do(write, cli):
    write(HEAD + COPY + HEAD.replace("def build", "def large").replace("32, 32", "1024, 1024") + COPY)
    rows = json.loads(cli("compare", "mine.py:build,large", "--profile", "toy", "--json").out)["rows"]
    assert rows[0]["time_us"] > 0 and rows[1]["time_us"] is None
    assert rows[1]["reason"].startswith("mine.py:22: capacity: ")
