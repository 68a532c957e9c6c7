"""The vector kernels around a gated delta net, against plain numpy, and what they ask of a machine."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms import REGISTRY
from npusim import execute as execution
from npusim.check import check
from npusim.errors import InputError, Unsupported
from npusim.execute import execute
from npusim.graph import Kernel
from npusim.lower import lower
from npusim.problem import Options, Problem, Target
from npusim.profiles import load_machine
from npusim.settings import EngineSettings
from npusim.study import time_program

MATRICES = [
    ("softmax", "rows"),
    *((name, a) for name in ("rmsnorm", "activation") for a in REGISTRY[name].algorithms),
]
"""kernels of a matrix [m, n], with each of their algorithms"""
machine = cache(load_machine)


def built(
    name: str, algorithm: str, profile: str, dtype: str = "fp16", slots: int | None = None, **sizes: int
):
    options = Options(algorithm=algorithm, slots=slots)
    return REGISTRY[name].build(Problem(dtype=dtype, **sizes), options, Target.of(machine(profile)))


def computed(kernel: Kernel, **given: np.ndarray):
    """Inputs as received and outputs of `kernel`, on standard normal values where none are given. What
    nothing wrote is NaN, and every value is written."""
    rng = np.random.default_rng(0)
    inputs = {
        t.name: given.get(t.name, rng.standard_normal(t.shape)) for t in kernel.tensors if t.role == "input"
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execution, "UNWRITTEN", np.nan)
        done = execute(check(kernel), inputs)
    assert all(written.all() for written in done.written.values())
    return {name: x.astype(np.float64) for name, x in done.inputs.items()}, done.outputs


# --- the truth, in plain numpy -----------------------------------------------------------------------


def sigmoid(x):
    return 0.5 * (1 + np.tanh(x / 2))


def norm(x, w):
    return x / np.sqrt((x * x).mean(axis=1, keepdims=True) + 1e-6) * w


def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def silu(x):
    return x * sigmoid(x)


def convolved(x, w, past=None):
    """[batch, tokens, n], token by token; before the first one `past` [batch, width - 1, n], or zeros."""
    before = np.zeros((len(x), len(w) - 1, x.shape[2])) if past is None else past
    long = np.concatenate([before, x], axis=1)
    return np.stack([(long[:, t : t + len(w)] * w).sum(axis=1) for t in range(x.shape[1])], axis=1)


TRUTH = {
    ("softmax", "rows"): lambda i: {"y": softmax(i["x"])},
    ("rmsnorm", "plain"): lambda i: {"y": norm(i["x"], i["w"])},
    ("rmsnorm", "gated"): lambda i: {"y": norm(i["x"], i["w"]) * silu(i["z"])},
    ("rmsnorm", "residual"): lambda i: {"s": i["x"] + i["r"], "y": norm(i["x"] + i["r"], i["w"])},
    ("activation", "silu"): lambda i: {"z": silu(i["x"])},
    ("activation", "sigmoid"): lambda i: {"z": sigmoid(i["x"])},
    ("activation", "softplus"): lambda i: {"z": np.logaddexp(0, i["x"])},
    ("activation", "silu-mul"): lambda i: {"z": silu(i["x"]) * i["y"]},
    ("activation", "sigmoid-mul"): lambda i: {"z": sigmoid(i["x"]) * i["y"]},
    ("causal-conv1d", "plain"): lambda i: {"y": convolved(i["x"], i["w"])},
    ("causal-conv1d", "silu"): lambda i: {"y": silu(convolved(i["x"], i["w"]))},
    ("gdn-gates", "elementwise"): lambda i: {
        "beta": sigmoid(i["b"]),
        "g": -np.exp(i["A_log"]) * np.logaddexp(0, i["a"] + i["dt_bias"]),
    },
}  # fmt: skip


def agrees(name: str, algorithm: str, kernel: Kernel, tolerance: float, **given: np.ndarray) -> None:
    inputs, outputs = computed(kernel, **given)
    for output, wanted in TRUTH[name, algorithm](inputs).items():
        np.testing.assert_allclose(outputs[output], wanted, rtol=tolerance, atol=tolerance, err_msg=output)


# --- values ------------------------------------------------------------------------------------------


@given(
    st.sampled_from(MATRICES), st.integers(1, 40), st.integers(1, 2000), st.sampled_from([1, 2, 3]),
    st.sampled_from(["toy", "ascend-910b2", "hexagon-class"]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_kernels_of_a_matrix_are_right_whatever_its_sizes(kernel, m, n, slots, profile):
    agrees(*kernel, built(*kernel, profile, "fp64", slots, m=m, n=n), 1e-12)


@pytest.mark.parametrize(("name", "algorithm"), MATRICES)
@pytest.mark.parametrize("n", [20_000, 20_097])
def test_rows_longer_than_ub_are_dealt_with_in_pieces(name, algorithm, n):
    for dtype, tolerance in (("fp64", 1e-12), ("fp32", 2e-5)):
        kernel = built(name, algorithm, "toy", dtype, m=3, n=n)
        assert kernel.settings["tile_n"] < n
        agrees(name, algorithm, kernel, tolerance)


def test_softmax_rescales_whenever_a_later_piece_has_a_larger_value():
    x = np.sort(30 * np.random.default_rng(1).standard_normal((2, 30_000)), axis=1)
    x[1] = x[1, ::-1]
    kernel = built("softmax", "rows", "toy", "fp64", m=2, n=x.shape[1])
    assert 2 * kernel.settings["tile_n"] < x.shape[1]
    agrees("softmax", "rows", kernel, 1e-12, x=x)


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp32"])
@pytest.mark.parametrize(("name", "algorithm"), MATRICES)
def test_results_are_rounded_once(name, algorithm, dtype):
    """One rounding of the result, to half a unit in the last place, and those of fp32 on the way."""
    unit = {"fp16": 2.0**-11, "bf16": 2.0**-8, "fp32": 2.0**-21}[dtype]
    agrees(name, algorithm, built(name, algorithm, "ascend-910b2", dtype, m=50, n=700), unit)


@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
@pytest.mark.parametrize(("name", "algorithm"), [k for k in MATRICES if k[0] != "rmsnorm"])
def test_values_far_beyond_the_range_of_exp_give_finite_results(name, algorithm, dtype):
    x = np.array([[-6e4, -1000.0, -90.0, 0.0], [90.0, 1000.0, 6e4, -6e4]])
    kernel = built(name, algorithm, "toy", dtype, m=2, n=4)
    agrees(name, algorithm, kernel, 1e-3, x=x, y=np.full((2, 4), 0.5))


@given(
    st.sampled_from(["plain", "silu"]), st.integers(1, 3), st.integers(1, 150), st.integers(1, 400),
    st.integers(1, 6), st.sampled_from([1, 2, 3]), st.sampled_from(["toy", "ascend-910b2", "hexagon-class"]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_a_convolution_is_right_whatever_its_sizes(algorithm, batch, seq_len, n, width, slots, profile):
    sizes = {"batch": batch, "seq_len": seq_len, "n": n, "width": width}
    kernel = built("causal-conv1d", algorithm, profile, "fp64", slots, **sizes)
    agrees("causal-conv1d", algorithm, kernel, 1e-12)


@given(st.integers(1, 20), st.integers(1, 1500), st.integers(2, 6), st.sampled_from(["toy", "ascend-910b2"]))
@settings(max_examples=15, deadline=None)
def test_a_step_goes_on_where_the_state_left_off(batch, n, width, profile):
    kernel = built("causal-conv1d", "step", profile, "fp64", batch=batch, seq_len=1, n=n, width=width)
    inputs, outputs = computed(kernel)
    wanted = silu(convolved(inputs["x"], inputs["w"], inputs["state"]))
    np.testing.assert_allclose(outputs["y"], wanted, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(outputs["new_state"][:, :-1], inputs["state"][:, 1:])
    np.testing.assert_array_equal(outputs["new_state"][:, -1:], inputs["x"])


@pytest.mark.parametrize("dtype", ["fp64", "fp16"])
@pytest.mark.parametrize(("batch", "seq_len", "heads"), [(1, 1, 1), (3, 77, 5), (2, 1000, 32)])
def test_gates_are_those_of_the_delta_net(batch, seq_len, heads, dtype):
    kernel = built("gdn-gates", "elementwise", "toy", dtype, batch=batch, seq_len=seq_len, heads=heads)
    assert kernel.tensor("g").dtype == ("fp64" if dtype == "fp64" else "fp32")
    agrees("gdn-gates", "elementwise", kernel, 1e-12 if dtype == "fp64" else 1e-3)


@pytest.mark.parametrize("profile", ["toy", "ascend-910b2"])
@pytest.mark.parametrize(
    ("batch", "seq_len", "heads", "key_heads", "head_dim", "rotary"),
    [(1, 1, 1, 1, 2, 2), (3, 77, 6, 2, 64, None), (2, 90, 4, 4, 16, 16), (5, 1, 8, 2, 256, None)],
)
def test_rotary_turns_pairs_half_a_part_apart(profile, batch, seq_len, heads, key_heads, head_dim, rotary):
    """As x cos + rotate_half(x) sin, with tables repeated for both halves, of the public implementation."""
    kernel = built(
        "rotary", "rotate-half", profile, "fp64",
        batch=batch, seq_len=seq_len, heads=heads, key_heads=key_heads, head_dim=head_dim, rotary=rotary,
    )  # fmt: skip
    inputs, outputs = computed(kernel)
    cos, sin = (np.concatenate([inputs[t]] * 2, axis=-1)[None, :, None] for t in ("cos", "sin"))
    assert cos.shape[-1] == (rotary or max(2, head_dim // 4))
    for name, count in (("q", heads), ("k", key_heads)):
        x = inputs[name].reshape(batch, seq_len, count, head_dim)[..., : cos.shape[-1]]
        first, second = np.split(x, 2, axis=-1)
        wanted = x * cos + np.concatenate([-second, first], axis=-1) * sin
        np.testing.assert_allclose(outputs[f"{name}_rotated"].reshape(wanted.shape), wanted, atol=1e-14)


# --- what they ask of a machine ----------------------------------------------------------------------

LAYER = [
    *((name, a, {"m": 3000, "n": 2048}) for name, a in MATRICES),
    *(("causal-conv1d", a, {"batch": 2, "seq_len": 2000, "n": 3072}) for a in ("silu", "plain")),
    ("causal-conv1d", "step", {"batch": 64, "seq_len": 1, "n": 8192}),
    ("gdn-gates", "elementwise", {"batch": 2, "seq_len": 3000, "heads": 32}),
    ("rotary", "rotate-half", {"seq_len": 3000, "heads": 16, "key_heads": 2, "head_dim": 256}),
]
DECODING = [
    *((name, a, {"m": 64, "n": 12288}) for name, a in MATRICES),
    ("activation", "silu-mul", {"m": 3, "n": 12288}),
    ("causal-conv1d", "silu", {"batch": 1, "seq_len": 50, "n": 8192}),
    ("causal-conv1d", "step", {"batch": 2, "seq_len": 1, "n": 8192}),
    ("gdn-gates", "elementwise", {"batch": 64, "seq_len": 1, "heads": 32}),
    ("rotary", "rotate-half", {"batch": 64, "seq_len": 1, "heads": 16, "key_heads": 2, "head_dim": 256}),
]


@pytest.mark.parametrize("profile", ["ascend-910b2", "ascend-310p3", "ascend-950pr-9599", "hexagon-class"])
def test_tiles_fit_machines_of_every_family(profile):
    for dtype in ("fp16", "fp32"):
        for name, algorithm, sizes in [*LAYER, *DECODING]:
            check(built(name, algorithm, profile, dtype, **sizes), Target.of(machine(profile)))


@pytest.mark.parametrize(("name", "algorithm", "sizes"), LAYER)
def test_all_vector_cores_are_busy_alike_and_hbm_moves_each_byte_once(name, algorithm, sizes):
    kernel = built(name, algorithm, "ascend-910b2", **sizes)
    report, _ = time_program(lower(kernel, machine("ascend-910b2")), EngineSettings())
    found = report.to_json()
    vector = found["units"]["aiv_vec"]
    assert found["cores"] == 48 and vector["slowest_core_us"] < 1.1 * vector["busy_us"]
    moved = {"input": 0.0, "output": 0.0}
    for tensor in kernel.tensors:
        rotated = kernel.settings["rotary"] / tensor.shape[-1] if tensor.name in ("q", "k") else 1
        moved[tensor.role] += rotated * np.prod(tensor.shape) * (4 if tensor.dtype == "fp32" else 2)
    assert found["bytes"]["hbm_read"] == pytest.approx(moved["input"], rel=0.005)
    assert found["bytes"]["hbm_written"] == pytest.approx(moved["output"], rel=0.005)


@pytest.mark.parametrize(("name", "algorithm", "sizes"), DECODING)
def test_a_few_tokens_are_spread_over_the_cores_as_well(name, algorithm, sizes):
    kernel = built(name, algorithm, "ascend-910b2", **sizes)
    report, _ = time_program(lower(kernel, machine("ascend-910b2")), EngineSettings())
    assert report.to_json()["cores"] >= 32
    assert report.core_us < 30


@pytest.mark.parametrize(
    ("algorithm", "cycles", "once"),
    [("silu", 12, 0), ("sigmoid", 12, 1), ("softplus", 15, 0), ("silu-mul", 14, 0), ("sigmoid-mul", 14, 1)],
)
def test_an_activation_costs_its_instructions(algorithm, cycles, once):
    """Of toy: 4 cycles a repeat of 64 values for exp, ln and div, 1 for a cast and all else. silu, for one,
    is two casts, muls, exp, adds and div; reciprocals divide ones, which are filled `once`."""
    kernel = built("activation", algorithm, "toy", m=4, n=6400)  # one row, and one tile, for each core
    (phase,) = lower(kernel, machine("toy")).phases
    vector = [one.cost.occupancy for one in phase.instances if phase.lanes[one.lane].unit == "aiv_vec"]
    assert sum(vector) == 100 * (cycles + once)


@pytest.mark.parametrize(
    ("name", "algorithm", "sizes"),
    [
        ("softmax", "rows", {"m": 9, "n": 30_000}),
        ("rmsnorm", "residual", {"m": 70, "n": 900}),
        ("causal-conv1d", "silu", {"batch": 2, "seq_len": 150, "n": 1200}),
        ("causal-conv1d", "step", {"batch": 7, "seq_len": 1, "n": 1200}),
        ("gdn-gates", "elementwise", {"seq_len": 500, "heads": 48}),
        ("rotary", "rotate-half", {"seq_len": 70, "heads": 6, "key_heads": 2, "head_dim": 64}),
    ],
)
def test_both_engines_agree(name, algorithm, sizes):
    program = lower(built(name, algorithm, "toy", **sizes), machine("toy"))
    fast, slow = (time_program(program, EngineSettings(engine=e))[0].core_us for e in ("fast", "reference"))
    assert fast == pytest.approx(slow, rel=1e-9)


# --- files, and what is refused ----------------------------------------------------------------------

FILES = [
    ("softmax", {"x": (9, 40)}, {"m": 9, "n": 40}),
    ("rmsnorm", {"x": (9, 40), "w": (1, 40)}, {"m": 9, "n": 40}),
    ("causal-conv1d", {"x": (2, 9, 40), "w": (3, 40)}, {"batch": 2, "seq_len": 9, "n": 40, "width": 3}),
    (
        "gdn-gates",
        {"a": (9, 4), "b": (9, 4), "A_log": (1, 4), "dt_bias": (1, 4)},
        {"batch": 1, "seq_len": 9, "heads": 4},
    ),
    (
        "rotary",
        {"q": (2, 36, 16), "k": (2, 18, 16), "cos": (9, 4), "sin": (9, 4)},
        {"batch": 2, "seq_len": 9, "heads": 4, "key_heads": 2, "head_dim": 16, "rotary": 8},
    ),
]


@pytest.mark.parametrize(("name", "shapes", "sizes"), FILES)
def test_a_file_says_all_sizes(name, shapes, sizes, cli, tmp_path):
    rng = np.random.default_rng(0)
    path, out = tmp_path / "in.npz", tmp_path / "out.npz"
    np.savez(path, **{array: rng.standard_normal(shape) for array, shape in shapes.items()})
    called = cli("run", name, "--inputs", path, "--output", out, "--no-timing", "--dtype", "fp64", "--json")
    assert not called.code, called.err
    problem = json.loads(called.out)["problem"]
    assert {size: problem[size] for size in sizes} == sizes
    with np.load(out) as file:
        names = set(file.files)
    assert names == {t.name for t in built(name, None, "toy", **sizes).outputs}


@pytest.mark.parametrize(
    ("name", "shapes", "message"),
    [
        ("softmax", {"x": (3, 4, 5)}, r"array x: shape \(3, 4, 5\): two axes"),
        ("causal-conv1d", {"x": (30, 4), "w": (4, 4)}, r"array x: .*\[batch, seq_len, n\]"),
        ("causal-conv1d", {"x": (2, 30, 4), "w": (4,)}, r"array w: .*\[width, n\]"),
        ("gdn-gates", {"a": (1, 30, 4)}, r"array a: .*\[tokens, heads\]"),
        ("rotary", {"q": (30, 4), "k": (1, 30, 4), "cos": (30, 2)}, r"array q: .* 3 axes"),
        ("rotary", {"q": (1, 60, 4), "k": (1, 31, 4), "cos": (30, 2)}, r"array k: .*the 30 positions of cos"),
    ],
)
def test_shapes_that_do_not_fit_are_named(name, shapes, message):
    with pytest.raises(InputError, match=message):
        REGISTRY[name].infer(shapes)


@pytest.mark.parametrize(
    ("name", "algorithm", "sizes", "message"),
    [
        ("softmax", None, {"dtype": "int8"}, r"--dtype: softmax computes on .*not on int8"),
        ("causal-conv1d", "step", {}, r"--seq-len: step takes one token .*not 8192; give 1"),
        ("causal-conv1d", "step", {"seq_len": 1, "width": 1}, r"--width: step keeps the last width - 1"),
        (
            "causal-conv1d",
            None,
            {"dtype": "fp32", "width": 64, "n": 4096},
            r"--width: 64 rows .*lower --width",
        ),
        ("gdn-gates", None, {"heads": 100_000}, r"--heads: .*100000 do not fit"),
        ("rotary", None, {"rotary": 3}, r"--rotary: an even number up to --head-dim 128 is needed, got 3"),
        ("rotary", None, {"rotary": 200}, r"--rotary: .*got 200"),
        ("rotary", None, {"heads": 1000, "rotary": 128}, r"--rotary: 1000 heads of 128 .*do not fit"),
        ("rmsnorm", None, {"width": 3}, r"--width: rmsnorm has no such size; it takes --m, --n"),
    ],
)
def test_what_cannot_be_built_is_refused_with_the_option_to_change(name, algorithm, sizes, message):
    with pytest.raises((InputError, Unsupported), match=message):
        built(name, algorithm, "toy", **sizes)
