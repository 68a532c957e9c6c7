"""Cost expressions: they compute what Python computes, and refuse what is no arithmetic over known names."""

from __future__ import annotations

import ast
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npusim.errors import InputError
from npusim.expression import SHORT, Expression, machine_names
from npusim.machine import override, quantities
from npusim.profiles import load_machine, profile_names

NAMES = {"cores": 24.0, "ub_kib": 192.0, "core.cube.startup_cycles": 17.5, "x": -0.25}
PYTHON = {
    "cores": 24.0, "ub_kib": 192.0, "x": -0.25, "min": min, "max": max, "sqrt": math.sqrt, "log": math.log,
}  # fmt: skip

numbers = st.one_of(
    st.integers(0, 10**6).map(str), st.floats(0, 1e6, allow_nan=False).map(repr), st.just("1e-3")
)
leaves = st.one_of(numbers, st.sampled_from(["cores", "ub_kib", "x"]))


def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    binary = st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "**", " + ", " * "]), inner).map("".join)
    called = st.tuples(st.sampled_from(["min", "max"]), st.lists(inner, min_size=2, max_size=4)).map(
        lambda made: f"{made[0]}({', '.join(made[1])})"
    )
    single = st.tuples(st.sampled_from(["sqrt", "log"]), inner).map(lambda made: f"{made[0]}({made[1]})")
    return st.one_of(binary, called, single, inner.map("({})".format), inner.map("-{}".format))


def in_floats(text: str) -> float | None:
    """What Python makes of it, whole numbers read as floats; None where a part of it is no finite number."""
    tree = ast.parse(text, mode="eval")
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            node.value = float(node.value)
    value = None
    for node in reversed(list(ast.walk(tree.body))):
        if isinstance(node, ast.expr) and not (isinstance(node, ast.Name) and callable(PYTHON[node.id])):
            try:
                value = eval(compile(ast.Expression(node), "test", "eval"), {"__builtins__": {}}, PYTHON)
            except (ZeroDivisionError, OverflowError, ValueError):
                return None
            if isinstance(value, complex) or not math.isfinite(value):
                return None
    return value


@given(st.recursive(leaves, larger, max_leaves=12))
def test_it_comes_to_what_python_computes(text):
    expected = in_floats(text)
    if expected is None:
        with pytest.raises(InputError, match="expression"):
            Expression.parse(text).value(NAMES)
    else:
        assert Expression.parse(text).value(NAMES) == expected


def test_the_coefficients_stand_behind_the_expression():
    made = Expression.parse("cores*a + ub_kib*b, a=3, b=-0.1*2")
    assert made.names == ("cores", "ub_kib")
    assert made.value(NAMES) == pytest.approx(24 * 3 - 192 * 0.2)
    assert Expression.parse("max(cores, a), a = 100").value(NAMES) == 100


def test_dotted_names_are_numbers_of_the_profile_and_results_are_the_callers():
    made = Expression.parse("core.cube.startup_cycles * 2 + time_us")
    assert made.names == ("core.cube.startup_cycles", "time_us")
    assert made.value({**NAMES, "time_us": 5}) == 40


def test_powers_bind_as_in_python_and_from_the_right():
    assert Expression.parse("-2**2").value({}) == -4
    assert Expression.parse("2**3**2").value({}) == 512
    assert Expression.parse("2**-1").value({}) == 0.5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        ("cores*", "cannot be read"),
        ("cores)", "cannot be read"),
        ("cores) + (2", "its parentheses do not match"),
        ("cores)(2", "its parentheses do not match"),
        ("cores, ub_kib", "one expression"),
        ("a=1", "one expression"),
        ("cores*a, a=1, a=2", "a is given twice"),
        ("cores*a, a=ub_kib", "a must be a number, got 'ub_kib'"),
        ("cores*alpha, alpa=2", "alpa is given and does not appear; did you mean 'alpha'?"),
        ("cores, **x", "'**' stands between two numbers"),
        ("min", "min is a function"),
        ("cores*min, min=3", "min is a function"),
        ("min(cores)", "min() takes two numbers or more"),
        ("log(2, cores)", "log() takes one number"),
        ("sqrt(x=2)", "sqrt() takes one number"),
        ("sqr(2)", "no function 'sqr'; did you mean 'sqrt'?"),
        ("cores % 2", "is no arithmetic"),
        ("cores // 2", "is no arithmetic"),
        ("cores < 2", "is no arithmetic"),
        ("cores if x else 2", "is no arithmetic"),
        ("[cores]", "is no arithmetic"),
        ("core['groups']", "is no arithmetic"),
        ("(lambda: 1)()", "is no arithmetic"),
        ("__import__('os').system('true')", "is no arithmetic"),
        ("(1).real", "'1' is no name"),
        ("'a' * 2", "'a' is not a number"),
        ("True", "True is not a number"),
        ("2j", "2j is not a number"),
        ("x := 2", "is no arithmetic"),
        ("*x", "is no arithmetic"),
        ("(" * 300 + "1" + ")" * 300, "cannot be read"),
        ("-" * 300 + "1", "nested too deeply"),
    ],
)
def test_what_is_no_arithmetic_is_refused_with_the_reason(text, said):
    with pytest.raises(InputError) as refused:
        Expression.parse(text)
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_what_is_too_long_is_refused_without_repeating_it():
    with pytest.raises(InputError, match="longer than 1000 characters"):
        Expression.parse("1+" * 600 + "1")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "cors * 2",
            "no number 'cors' (a coefficient has its value behind: '.., cors=1'); did you mean 'cores'?",
        ),
        ("core.cube.startup * 2", "did you mean 'core.cube.startup_cycles'?"),
        ("cores*x, x=2", "x is known by itself"),
        ("1/(cores-24)", "float division by zero"),
        ("x**0.5", "no finite number"),
        ("log(x)", "log(x): "),
        ("cores**cores**cores", "cores ** cores ** cores: "),
        ("1e999", "no finite number"),
    ],
)
def test_what_has_no_value_is_refused_with_the_reason(text, said):
    with pytest.raises(InputError) as refused:
        Expression.parse(text).value(NAMES)
    assert said in str(refused.value)


@pytest.mark.parametrize("profile", profile_names())
def test_every_number_of_a_machine_has_its_path_and_some_a_short_name(profile):
    machine = load_machine(profile)
    names = machine_names(machine)
    assert {path: number.value for path, number in quantities(machine).items()}.items() <= names.items()
    assert names["cores"] == machine.core.groups.value
    assert names["ub_kib"] == machine.levels["UB"].bytes.value / 1024
    assert names["l2_mib"] == machine.memory.l2_bytes.value / 2**20
    for dtype, depth in machine.core.cube.k0.items():
        assert names[f"cube_macs_{dtype}"] == 16 * 16 * depth.value
    assert not SHORT.keys() & quantities(machine).keys()


def test_a_cost_follows_the_machine():
    cost = Expression.parse("cores*a + ub_kib*b, a=3, b=0.1")
    small = override(load_machine("toy"), {"core.groups": 1})
    assert cost.value(machine_names(load_machine("toy"))) - cost.value(machine_names(small)) == 3
