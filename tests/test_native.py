"""Machine code of the fast engine: made once, kept, loaded without the compiler."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from npusim.engine.fast import native
from npusim.engine.fast.native import INT, Function


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder for machine code, by the name that users give one."""
    monkeypatch.setenv("NPUSIM_CACHE", str(tmp_path / "cache"))
    native.folder.cache_clear()
    native._announce.cache_clear()
    yield tmp_path / "cache"
    native.folder.cache_clear()
    native._announce.cache_clear()


@pytest.fixture
def compiled(monkeypatch):
    """A module of the engine with a function `power`, and how often it was compiled."""
    from npusim.engine.fast.jit import INT as NUMBER
    from npusim.engine.fast.jit import exported

    @exported(NUMBER, NUMBER)
    def power(base, exponent):
        result = 1
        for _ in range(exponent):
            result *= base
        return result

    times = []

    def counting():
        times.append(1)
        return power()

    monkeypatch.setitem(sys.modules, "npusim.engine.fast.tiny", SimpleNamespace(power=counting))
    return times


def test_a_function_is_compiled_once_with_a_word_about_it_and_then_loaded(folder, compiled, capfd):
    first, second = (Function("tiny", "power", INT, INT) for _ in range(2))
    assert [first(3, n) for n in range(5)] == [1, 3, 9, 27, 81]
    assert "compiling the fast engine" in capfd.readouterr().err
    assert second(-2, 31) == -(2**31)
    assert len(compiled) == 1
    assert capfd.readouterr().err == ""
    (file,) = (path for path in folder.rglob("*") if path.is_file())
    assert file.name.startswith("power-") and file.suffix == ".o"


@pytest.mark.parametrize(
    "damage", [lambda code: b"", lambda code: code[:-100], lambda code: code[:200] + b"x" + code[201:]]
)
def test_what_was_kept_and_is_damaged_is_made_anew(folder, compiled, damage):
    Function("tiny", "power", INT, INT)(2, 2)
    (file,) = (path for path in folder.rglob("*") if path.is_file())
    file.write_bytes(damage(file.read_bytes()))
    assert [Function("tiny", "power", INT, INT)(2, 5) for _ in range(2)] == [32, 32]
    assert len(compiled) == 2, "once more, and that is kept"


def test_where_there_is_no_room_for_it_the_run_goes_on(folder, compiled, monkeypatch):
    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    assert Function("tiny", "power", INT, INT)(2, 5) == 32
    assert not any(path.is_file() for path in folder.rglob("*"))


def test_nothing_is_kept_of_a_compilation_that_was_cut_short(folder, compiled, monkeypatch):
    def killed(self, data):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.write_bytes", killed)
        with pytest.raises(KeyboardInterrupt):
            Function("tiny", "power", INT, INT)(2, 2)
    assert Function("tiny", "power", INT, INT)(2, 2) == 4
    assert len(compiled) == 2


def test_a_cache_that_cannot_be_written_to_is_one_clear_error(cli, tmp_path, monkeypatch):
    taken = tmp_path / "file"
    taken.write_text("")
    monkeypatch.setenv("NPUSIM_CACHE", str(taken))
    native.folder.cache_clear()
    monkeypatch.setattr("npusim.engine.fast.run.advance", Function("advance", "advance"))
    called = cli("run", "tri-inverse", "--matrices", 8, "--no-numerics", "--json")
    native.folder.cache_clear()
    assert called.code == 2 and called.out == ""
    assert (
        called.err.startswith(f"npusim: NPUSIM_CACHE: {taken} is no folder") and called.err.count("\n") == 1
    )


def test_where_the_cache_folder_of_the_user_cannot_be_had_a_temporary_one_serves(tmp_path, monkeypatch):
    taken = tmp_path / "file"
    taken.write_text("")
    monkeypatch.delenv("NPUSIM_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(taken))
    native.folder.cache_clear()
    found = native.folder()
    native.folder.cache_clear()
    assert found.is_dir() and taken not in found.parents


def test_a_run_loads_neither_the_compiler_nor_the_reference_engine():
    """They take longer to load than all else that a short run does."""
    from npusim.engine.fast.run import load

    load()  # so that there is machine code
    code = """
import sys
from npusim.cli import main
try:
    main(["run", "tri-inverse", "--matrices", "8", "--json"])
except SystemExit as end:
    assert end.code in (0, None), end.code
print([name for name in ("numba", "simpy", "scipy", "pandas") if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_help_loads_no_numbers():
    code = """
import sys
from npusim.cli import main
try:
    main(["--help"])
except SystemExit as end:
    assert end.code in (0, None), end.code
print([name for name in ("numpy", "ml_dtypes", "ruamel", "llvmlite") if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
