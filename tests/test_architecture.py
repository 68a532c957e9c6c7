"""The rules of the code's structure, held by walking its syntax trees."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("npusim", "algorithms", "dashboard", "hw_profiles")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
LONGEST = 450

ONLY_IN = {
    "simpy": ("npusim/engine/reference.py", "npusim/engine/fabric.py", "npusim/engine/walk.py"),
    "ruamel": ("npusim/yaml_files.py",),
    "typer": ("npusim/cli/",),
    "rich": ("npusim/cli/",),
    "numba": ("npusim/engine/fast/jit.py",),
    "llvmlite": ("npusim/engine/fast/native.py",),
    "dash": ("dashboard/",),
    "dash_mantine_components": ("dashboard/",),
    "dash_ag_grid": ("dashboard/components/", "dashboard/pages/"),
    "diskcache": ("dashboard/service/jobs.py",),
    "psutil": ("dashboard/service/jobs.py",),
    "playwright": ("dashboard/screenshots.py",),
    "scipy": ("npusim/calibration/calibrator.py", "npusim/calibration/held_out.py"),
    "plotly": (
        "dashboard/components/plotlyjs.py",
        "npusim/validation/figures.py",
        "npusim/validation/page.py",
    ),
}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@functools.cache
def modules(path: Path) -> list[str]:
    """Every module a file imports, wherever in it; `from a import b` gives a.b too, as b may be a module."""
    return list(_modules(path))


def _modules(path: Path) -> Iterator[str]:
    package = list(path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


@pytest.mark.parametrize("path", [p for p in FILES if name(p).startswith("algorithms/")], ids=name)
def test_algorithms_know_the_builder_and_each_other_and_nothing_else_of_npusim(path):
    for module in modules(path):
        if within(module, "npusim"):
            assert within(module, "npusim.builder"), f"{name(path)} imports {module}"
        assert not within(module, "dashboard") and not within(module, "hw_profiles")


@pytest.mark.parametrize("path", [p for p in FILES if name(p).startswith("npusim/")], ids=name)
def test_of_npusim_only_the_command_line_knows_the_algorithms_and_nothing_the_dashboard(path):
    for module in modules(path):
        if not name(path).startswith("npusim/cli/"):
            assert not within(module, "algorithms"), f"{name(path)} imports {module}"
            assert not within(module, "npusim.cli") or name(path) == "npusim/__main__.py"
        if name(path) != "npusim/cli/dashboard.py":
            assert not within(module, "dashboard"), f"{name(path)} imports {module}"


DASHBOARD = ("state", "service", "figures", "components", "pages", "app", "screenshots")
"""the layers of the dashboard: each knows those before it"""


@pytest.mark.parametrize("path", [p for p in FILES if name(p).startswith("dashboard/")], ids=name)
def test_the_dashboard_knows_npusim_by_its_service_alone_and_its_imports_run_one_way(path):
    own = name(path).split("/")[1].removesuffix(".py")
    for module in modules(path):
        assert not within(module, "algorithms") and not within(module, "npusim.cli")
        if within(module, "npusim"):
            assert own == "service", f"{name(path)} imports {module}"
        if module.startswith("dashboard."):
            layer = module.split(".")[1]
            assert DASHBOARD.index(layer) <= DASHBOARD.index(own), f"{name(path)} imports {module}"
        if within(module, "dash"):
            assert own not in ("state", "service", "figures"), f"{name(path)} imports {module}"


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_is_imported_in_one_place(library):
    for path in FILES:
        if any(within(module, library) for module in modules(path)):
            assert name(path).startswith(ONLY_IN[library]), f"{name(path)} imports {library}"


def test_engines_see_programs_and_timelines_not_graphs():
    for path in (p for p in FILES if name(p).startswith("npusim/engine/")):
        for module in modules(path):
            if within(module, "npusim"):
                known = (
                    "npusim.engine",
                    "npusim.program",
                    "npusim.order",
                    "npusim.timeline",
                    "npusim.errors",
                    "npusim.cache",
                )
                assert any(within(module, k) for k in known), f"{name(path)} imports {module}"


def test_no_module_of_npusim_imports_itself_in_a_circle():
    """Imports for type checkers alone are left out."""
    graph = {}
    for path in (p for p in FILES if name(p).startswith(("npusim/", "algorithms/"))):
        own = name(path).removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        tree = ast.parse(path.read_text())
        tree.body = [
            n for n in tree.body if not (isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n.test))
        ]
        found = set()
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        graph[own] = found - {own}
    graph = {own: found & graph.keys() for own, found in graph.items()}
    while free := [own for own, found in graph.items() if not found]:
        graph = {own: found - set(free) for own, found in graph.items() if own not in free}
    assert not graph, f"in or behind a circle: {sorted(graph)}"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_file_stays_short_enough_to_read_in_one_go(path):
    lines = len(path.read_text().splitlines())
    assert lines <= LONGEST, f"{name(path)} has {lines} lines: split it by what it tells"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_file_says_in_its_first_line_what_it_is(path):
    tree = ast.parse(path.read_text())
    assert not tree.body or ast.get_docstring(tree), name(path)
