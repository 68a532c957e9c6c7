"""What any kernel computes on: values by name, drawn or read; its truth is the kernel without rounding."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

import algorithms
from npusim.builder import Algorithm, Index, Kernel, KernelBuilder, KernelEntry, Options, Problem, Target
from npusim.exact import exact
from npusim.execute import execute
from npusim.machine import Machine
from npusim.problem import Target as Machines
from npusim.profiles import load_machine
from npusim.settings import EngineSettings, NumericsSettings
from npusim.study import Result, run
from npusim.tensors import Tensors
from npusim.text import kernel_text

ROWS = 32


def scaled(problem: Problem, options: Options, target: Target) -> Kernel:
    """y = 2 x + 1 and, from y in a second phase, z = y y; m items of 32 x 32."""
    k = KernelBuilder("scaled", target, problem.dtype, "plain", "textbook")
    shape = (problem.m, ROWS, ROWS)
    x, y, z = (k.input("x", shape, problem.dtype), *(k.output(name, shape, problem.dtype) for name in "yz"))
    u = k.tile("u", "UB", (ROWS, ROWS), problem.dtype)

    def twice(items: list[tuple[Index, ...]]) -> None:
        ((i,),) = items
        k.load(u, x.at(i), label="load x")
        k.vector("muls", u, u, imm=2.0)
        k.vector("adds", u, u, imm=1.0)
        k.store(y.at(i), u, label="store y")

    def square(items: list[tuple[Index, ...]]) -> None:
        ((i,),) = items
        k.load(u, y.at(i), label="load y")
        k.vector("mul", u, u, u)
        k.store(z.at(i), u, label="store z")

    with k.phase("twice"):
        k.items([("i", problem.m)], twice)
    if options.variant != "short":
        with k.phase("square"):
            k.items([("i", problem.m)], square)
    return k.finish()


def entry(build: Callable[..., Kernel] = scaled) -> KernelEntry:
    algorithm = Algorithm("plain", "y = 2 x + 1, z = y y", "test", build, {"textbook": "two phases"})
    return KernelEntry("scaled", "two results", {"plain": algorithm}, sizes=("m",))


def ran(
    problem: Problem, machine: Machine | None = None, options: Options | None = None, **numerics
) -> Result:
    machine = machine or load_machine("toy")
    return run(
        entry(), problem, options or Options(), machine, NumericsSettings(**numerics), EngineSettings()
    )


def test_every_output_has_errors_of_its_own_against_the_kernel_without_rounding():
    numerics = ran(Problem(m=4)).numerics
    assert numerics is not None and list(numerics.computed.errors) == ["y", "z"]
    x = numerics.computed.execution.inputs["x"].astype(np.float64)
    for name, truth in (("y", 2 * x + 1), ("z", (2 * x + 1) ** 2)):
        found = numerics.computed.outputs[name]
        error = np.linalg.norm(found - truth) / np.linalg.norm(truth)
        assert 0 < error < 2.0**-10
        assert numerics.computed.errors[name].relative_error == pytest.approx(error)
    assert numerics.to_json()["relative_error"] == numerics.to_json()["outputs"]["y"]["relative_error"]


def test_progress_counts_operations_and_then_says_that_values_are_computed(monkeypatch):
    monkeypatch.setattr("npusim.engine.fast.run.STEPS", 100)
    told: list[int | None] = []
    settings = (load_machine("toy"), NumericsSettings(), EngineSettings(exact=True, what_if=False))
    run(entry(), Problem(m=200), Options(), *settings, progress=told.append)
    assert told[-1] is None and len(told) > 1 and None not in told[:-1]


def test_phases_that_need_each_other_compute_all_items_and_say_so():
    numerics = ran(Problem(m=9), samples=2).numerics
    assert numerics is not None
    assert (numerics.computed.samples, numerics.computed.total) == (18, 18)


def test_of_one_phase_a_sample_of_items_is_computed_and_compared():
    k = scaled(Problem(m=100), Options(variant="short"), Machines.of(load_machine("toy")))
    x = np.random.default_rng(0).standard_normal((100, ROWS, ROWS))
    some, every = execute(k, {"x": x}, samples=10), execute(k, {"x": x})
    assert some.items == (10, 100) and every.items == (100, 100)
    written = some.written["y"].all(axis=(1, 2))
    assert written.sum() == 10 and every.written["y"].all()
    assert np.diff(np.flatnonzero(written)).max() == 10  # spread over all
    np.testing.assert_array_equal(some.outputs["y"][written], every.outputs["y"][written])
    assert not some.outputs["y"][~written].any()


@pytest.mark.parametrize(("total", "group", "samples"), [(7, 3, 3), (7, 3, 100), (1, 1, 1), (40, 4, 1)])
def test_a_sample_takes_whole_trips_and_never_more_than_there_are(total, group, samples):
    k = KernelBuilder("groups", Machines.of(load_machine("toy")), "fp16")
    x, y = k.input("x", (total, ROWS, ROWS), "fp16"), k.output("y", (total, ROWS, ROWS), "fp16")
    u = k.tile("u", "UB", (ROWS, ROWS), "fp16")

    def body(items: list[tuple[Index, ...]]) -> None:
        for (i,) in items:
            k.load(u, x.at(i))
            k.store(y.at(i), u)

    with k.phase("p"):
        k.items([("i", total)], body, group=group)
    found = execute(k.finish(), {"x": np.ones((total, ROWS, ROWS))}, samples)
    computed = int(found.written["y"].all(axis=(1, 2)).sum())
    assert found.items == (computed, total) and min(samples, total) <= computed <= total


def test_the_kernel_without_rounding_is_the_same_but_for_its_dtypes():
    k = scaled(Problem(m=2), Options(), Machines.of(load_machine("toy")))
    text = kernel_text(k).replace("fp16", "fp64")
    assert kernel_text(exact(k)) == text
    x = np.random.default_rng(1).standard_normal((2, ROWS, ROWS))
    np.testing.assert_allclose(execute(exact(k), {"x": x}).outputs["z"], (2 * x + 1) ** 2, rtol=1e-15)


def test_two_inputs_of_one_shape_are_drawn_differently():
    machine, settings = load_machine("toy"), NumericsSettings()
    problem, matmul = Problem(m=16, n=16, k=16), algorithms.REGISTRY["matmul"]
    numerics = run(matmul, problem, Options(), machine, settings, EngineSettings()).numerics
    assert numerics is not None
    drawn = numerics.computed.execution.inputs
    assert not np.array_equal(drawn["a"], drawn["b"])


def test_a_sample_of_a_large_result_is_compared_where_it_was_computed():
    """Tiles of 16 x 16 of a product of 64 x 64: three of sixteen, and the error is that of these."""
    matmul = algorithms.REGISTRY["matmul"]
    problem, options = Problem(m=64, n=64, k=32), Options(tile_m=16, tile_n=16)
    machine, settings = load_machine("toy"), NumericsSettings(samples=3)
    numerics = run(matmul, problem, options, machine, settings, EngineSettings()).numerics
    assert numerics is not None and (numerics.computed.samples, numerics.computed.total) == (3, 16)
    execution = numerics.computed.execution
    written = execution.written["c"]
    assert written.sum() == 3 * 256
    truth = execution.inputs["a"].astype(np.float64) @ execution.inputs["b"].astype(np.float64)
    error = np.linalg.norm((execution.outputs["c"] - truth)[written]) / np.linalg.norm(truth[written])
    assert numerics.errors.relative_error == pytest.approx(error, rel=1e-6)


def product(size: int, dtype: str, samples: int | None) -> tuple[Tensors, Kernel]:
    """The data of a product of little more than its result, in tiles of 128 x 256."""
    problem, machine = Problem(m=size, n=size, k=16, dtype=dtype), load_machine("ascend-910b2")
    options = Options(tile_m=128, tile_n=256, swizzle=1)
    kernel = algorithms.REGISTRY["matmul"].build(problem, options, Machines.of(machine))
    return Tensors(problem, None, {}, samples), kernel


@pytest.mark.parametrize("samples", [40, None])
@pytest.mark.parametrize("dtype", ["fp16", "int8"])
def test_the_memory_that_is_asked_for_is_what_a_larger_result_takes(dtype, samples):
    """A sample that reaches all rows takes whole arrays, too. What both sizes take alike is left out: a block
    of items."""
    taken, asked, sizes = [], [], (1024, 2048)
    for size in sizes:
        tensors, kernel = product(size, dtype, samples)
        tracemalloc.start()
        tensors.compute(kernel)
        taken.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        asked.append(tensors._bytes(kernel))
    assert asked[1] - asked[0] == pytest.approx(taken[1] - taken[0], rel=0.03)


def test_a_sample_of_few_rows_is_not_asked_to_have_room_for_all():
    """Tiles in four of 32 rows of tiles take an eighth of what tiles in all rows take, beside the inputs."""
    (few, kernel), (more, _) = product(4096, "fp16", 4), product(4096, "fp16", 32)
    inputs = 28 * 2 * 4096 * 16
    assert (few._bytes(kernel) - inputs) / (more._bytes(kernel) - inputs) == pytest.approx(1 / 8)


def test_drawn_values_depend_on_the_seed():
    def drawn(seed: int) -> np.ndarray:
        numerics = ran(Problem(m=3), seed=seed).numerics
        assert numerics is not None
        return numerics.computed.execution.inputs["x"]

    np.testing.assert_array_equal(drawn(0), drawn(0))
    assert not np.array_equal(drawn(0), drawn(1))


# --- from the command line -----------------------------------------------------------------------


@pytest.fixture
def kernel(monkeypatch):
    monkeypatch.setitem(algorithms.REGISTRY, "scaled", entry())


@pytest.fixture
def saved(tmp_path):
    def save(**arrays):
        np.savez(tmp_path / "in.npz", **arrays)
        return tmp_path / "in.npz"

    return save


@pytest.mark.usefixtures("kernel")
def test_all_outputs_are_written_by_name(cli, tmp_path, saved):
    x = np.random.default_rng(2).standard_normal((2, ROWS, ROWS)).astype(np.float32)
    made = cli("run", "scaled", "--m", 2, "--inputs", saved(x=x), "--profile", "toy", "--output",
               tmp_path / "out.npz")  # fmt: skip
    assert made.code == 0 and made.err == ""
    assert "y [2, 32, 32], z [2, 32, 32] written" in " ".join(made.out.split())
    with np.load(tmp_path / "out.npz") as out:
        assert sorted(out.files) == ["y", "z"]
        np.testing.assert_allclose(out["z"], (2 * x + 1) ** 2, rtol=5e-3, atol=2e-3)
    assert "error of z" in made.out


def test_a_product_takes_its_sizes_from_the_file(cli, tmp_path, saved):
    a, b = np.random.default_rng(3).standard_normal((2, 40, 40))
    made = cli("run", "matmul", "--inputs", saved(a=a[:24], b=b[:, :33]), "--profile", "toy", "--output",
               tmp_path / "c.npz")  # fmt: skip
    assert made.code == 0 and "m 24, n 33, k 40, fp16" in made.out
    with np.load(tmp_path / "c.npz") as out:
        np.testing.assert_allclose(out["c"], a[:24] @ b[:, :33], atol=0.05)


SQUARE = np.ones((16, 16))
FAULTS = {
    "an unknown array": ({"a": SQUARE, "b": SQUARE, "c": SQUARE}, (), ("array c", "no such input")),
    "a missing one": ({"a": SQUARE}, (), ("no array b",)),
    "shapes that do not fit": ({"a": SQUARE, "b": np.ones((17, 18))}, (), ("array b", "(16, 18)")),
    "three axes": ({"a": SQUARE[None], "b": SQUARE}, (), ("in.npz", "array a", "two axes", "[m, k]")),
    "one axis": ({"a": SQUARE[0], "b": SQUARE}, (), ("array a", "(16,)", "[m, k]")),
    "an empty array": ({"a": SQUARE[:0], "b": SQUARE}, (), ("in.npz", "shapes", "m: must be > 0")),
    "an infinite value": ({"a": SQUARE, "b": SQUARE * np.inf}, (), ("array b", "[0, 0]", "finite")),
    "complex values": ({"a": SQUARE, "b": SQUARE * 1j}, (), ("array b", "complex128", "real")),
    "sizes beside the file": ({"a": SQUARE, "b": SQUARE}, ("--m", 16), ("--m", "--inputs", "drop")),
    "a seed beside the file": ({"a": SQUARE, "b": SQUARE}, ("--seed", 1), ("--seed", "drop")),
    "sizes of another kernel": ({"a": SQUARE, "b": SQUARE}, ("--chunk", 16), ("--chunk", "--m, --n, --k")),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_file_that_does_not_fit_the_kernel_is_one_line_that_names_the_array(cli, saved, name):
    arrays, options, parts = FAULTS[name]
    made = cli("run", "matmul", "--profile", "toy", "--inputs", saved(**arrays), *options)
    assert made.code == 2 and made.err.count("\n") == 1
    for part in parts:
        assert part in made.err


@pytest.mark.parametrize(("option", "value"), [("--gates", "qwen3.5"), ("--key-correlation", 0.2)])
def test_options_of_keys_and_gates_are_refused_where_there_are_none(cli, option, value):
    made = cli("run", "matmul", "--m", 16, "--n", 16, "--k", 16, "--profile", "toy", option, value)
    assert made.code == 2 and option in made.err and "drop" in made.err
