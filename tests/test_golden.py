"""Texts that must not change unnoticed: tile graphs, a result, and the words of errors.

`pytest --update-golden tests/test_golden.py` accepts what they are now.
"""

from __future__ import annotations

import json

import pytest

GRAPHS = {
    "mxr-published-32": ("--algorithm", "mxr", "--chunk", 32),
    "mxr-textbook-32": ("--algorithm", "mxr", "--variant", "textbook", "--chunk", 32),
    "masked-neumann-32": ("--algorithm", "masked-neumann", "--chunk", 32),
    "forward-substitution-16": ("--algorithm", "forward-substitution", "--chunk", 16),
}

RESULTS = {
    "worked-example": (
        "--algorithm", "masked-neumann", "--order", 1, "--steps", 1, "--no-mask", "--chunk", 16,
        "--matrices", 1,
    ),
    "mxr-textbook-16": ("--algorithm", "mxr", "--chunk", 16, "--matrices", 5),
    "masked-neumann-32": ("--algorithm", "masked-neumann", "--chunk", 32, "--matrices", 6),
}  # fmt: skip

MISTAKES = (
    ("run", "tri-invers"),
    ("run", "tri-inverse", "--algorithm", "mxrr"),
    ("run", "tri-inverse", "--variant", "publishd"),
    ("run", "tri-inverse", "--dtype", "fp17"),
    ("run", "tri-inverse", "--schedule", "hornr"),
    ("run", "tri-inverse", "--chunk", 100),
    ("run", "tri-inverse", "--chunk", 96),
    ("run", "tri-inverse", "--chunk", "many"),
    ("run", "tri-inverse", "--profile", "toyy"),
    ("run", "tri-inverse", "--profile", "toy", "--cores", 9),
    ("run", "tri-inverse", "--set", "core.cube.startup=3"),
    ("run", "tri-inverse", "--ideal", "flag"),
    ("run", "tri-inverse", "--cu-seqlens", "0,500,400"),
    ("run", "tri-inverse", "--inputs", "nowhere.npz"),
    ("run", "tri-inverse", "--dtype", "fp64"),
    ("run", "tri-inverse", "--algorithm", "forward-substitution", "--chunk", 256, "--profile", "toy"),
    ("compare", "tri-inverse", "--algorithms", "mxr,fastest"),
    ("list", "profile"),
)


@pytest.mark.parametrize("name", GRAPHS)
def test_tile_graphs_are_as_they_were(cli, golden, name):
    made = cli("show", "tri-inverse", *GRAPHS[name], "--matrices", 6, "--no-costs")
    assert made.code == 0 and made.err == ""
    golden(f"show-{name}.txt", made.out)


@pytest.mark.parametrize("name", RESULTS)
def test_results_on_the_machine_of_round_numbers_are_as_they_were(cli, golden, name):
    made = cli("run", "tri-inverse", *RESULTS[name], "--profile", "toy", "--no-numerics", "--json")
    result = json.loads(made.out, parse_float=lambda text: rounded(float(text)))
    for field in ("wall_s", "operations_per_s"):
        del result["engine"][field]
    golden(f"run-{name}.json", json.dumps(result, indent=1) + "\n")


def rounded(value: float) -> float:
    """Six digits, and nothing of what is only the rounding of sums."""
    return 0.0 if abs(value) < 1e-7 else float(f"{value:.6g}")


def test_errors_say_what_they_said(cli, golden):
    lines = []
    for arguments in MISTAKES:
        made = cli(*arguments)
        lines += [f"$ npusim {' '.join(str(argument) for argument in arguments)}", made.err.rstrip("\n"), ""]
    golden("errors.txt", "\n".join(lines))
