"""What tests share: the command line in this process, and golden files."""

from __future__ import annotations

import difflib
import gc
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

# before numpy is loaded: there is a worker for each core, and threads that wait for one take most of the time
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from npusim.cli import main
from npusim.engine.fast.run import load
from npusim.workers import GARBAGE

pytest_plugins = ["browsing"]
GOLDEN = Path(__file__).parent / "golden"


@dataclass(frozen=True)
class Called:
    """What one call of the command line gave."""

    code: int
    out: str
    err: str


Cli = Callable[..., Called]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Call `npusim` with arguments, by the entry point of the console script, at a width of 100."""
    monkeypatch.setenv("COLUMNS", "100")

    def call(*arguments: object) -> Called:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return Called(code or 0, out, err)

    return call


def pytest_sessionstart() -> None:
    """The fast engine compiled once, before there are workers, and never in the middle of a test."""
    load()


def pytest_collection_finish() -> None:
    """Thousands of tests are there to stay: who looks for garbage need not walk them each time, nor often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite tests/golden instead of comparing with it"
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with the golden file of a name, or rewrite the file with --update-golden."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            return
        assert path.exists(), f"{name} is missing; pytest --update-golden writes it"
        want = path.read_text(encoding="utf-8")
        changes = difflib.unified_diff(want.splitlines(), text.splitlines(), name, "now", lineterm="", n=1)
        assert text == want, "differs from its golden (pytest --update-golden accepts it):\n" + "\n".join(
            changes
        )

    return compare
