"""The masked start that gdn-kkt forms for masked-neumann: values, its way into the inverse, faults."""

from __future__ import annotations

import json

import numpy as np
import pytest

from algorithms import REGISTRY
from algorithms.decoder import Pass, stack
from algorithms.models import MODELS
from npusim.delta import Chunks, everything
from npusim.execute import execute
from npusim.graph import operations
from npusim.ops import OpKind
from npusim.problem import Options, Problem, Target
from npusim.settings import MachineSettings

TARGETS = {
    name: Target.of(MachineSettings(profile=name).machine())
    for name in ("ascend-910b2", "ascend-950pr-9599", "hexagon-class")
}


def build(kernel, machine="ascend-910b2", options=None, **sizes):
    problem = Problem(**{"seq_len": 96, "heads": 3, "key_heads": 3, "head_dim": 16, "dtype": "fp64"} | sizes)
    return problem, REGISTRY[kernel].build(problem, Options(**(options or {})), TARGETS[machine])


def drawn(problem, seed=0):
    """Keys, queries and gates as the stages take them: [chunks, heads, C, ..]."""
    rng, (chunks, heads), C, D = np.random.default_rng(seed), problem.shape, problem.chunk, problem.head_dim
    gates = -rng.random((chunks, heads, 1, C)).cumsum(-1)
    by_channel = -rng.random((chunks, heads, C, D)).cumsum(-2)
    keys = rng.standard_normal((chunks, heads, C, D)) / np.sqrt(D)
    return {
        "k": keys, "q": keys[::-1], "G_heads": gates, "G": by_channel,
        "beta_heads": rng.random((chunks, heads, 1, C)),
    }  # fmt: skip


@pytest.mark.parametrize("machine", TARGETS)
@pytest.mark.parametrize("decay", ["head", "channel", "none"])
@pytest.mark.parametrize(("chunk", "order", "block"), [(32, 4, 32), (96, 3, 96), (128, 3, 64), (64, 5, 16)])
def test_it_is_the_band_of_the_inverse_in_each_block(machine, decay, chunk, order, block):
    how = {"mask_on": "kkt", "order": order, "block": None if chunk == 96 else block}
    problem, kernel = build("gdn-kkt", machine, how, chunk=chunk, seq_len=2 * chunk, decay=decay)
    arrays = drawn(problem)
    found = execute(kernel, {t.name: arrays[t.name] for t in kernel.tensors if t.role == "input"})
    inverse = np.linalg.inv(np.eye(chunk) + found.outputs["L"])
    apart = np.subtract.outer(np.arange(chunk), np.arange(chunk))
    for at in range(0, chunk, block):
        here = (..., slice(at, at + block), slice(at, at + block))
        want = inverse[here] * (apart[here] < order)
        np.testing.assert_allclose(found.outputs["T0"][here], want, rtol=0, atol=1e-12)
    known = everything(arrays, Chunks((2,), 1, decay, (order, block)), ["T0"])
    np.testing.assert_allclose(np.where(found.written["T0"], found.outputs["T0"], 0), known["T0"], atol=1e-10)


@pytest.mark.parametrize(("chunk", "heads"), [(32, 3), (64, 1), (128, 2)])
@pytest.mark.parametrize("machine", TARGETS)
def test_the_fused_net_is_that_of_a_start_before_the_products_bit_by_bit(machine, chunk, heads):
    results = []
    for where in ("start", "kkt"):
        how = {"algorithm": "masked-neumann", "mask_on": where}
        _, kernel = build("gdn-fused", machine, how, chunk=chunk, heads=heads, key_heads=heads, dtype="fp16")
        rng = np.random.default_rng(1)
        inputs = [t for t in kernel.tensors if t.role == "input"]
        given = {t.name: rng.random(t.shape) * (-1 if t.name == "g" else 1) for t in inputs}
        results.append(execute(kernel, given).outputs)
    for name in ("O", "state"):
        np.testing.assert_array_equal(results[0][name], results[1][name])


@pytest.mark.parametrize("machine", TARGETS)
@pytest.mark.parametrize("chunk", [32, 64, 128])
def test_the_inverse_is_left_with_loads_products_and_copies(machine, chunk):
    how = {"algorithm": "masked-neumann", "mask_on": "kkt"}
    kernel = REGISTRY["tri-inverse"].build(Problem(chunk=chunk, matrices=8), Options(**how), TARGETS[machine])
    ops = [op for phase in kernel.phases for op in operations(phase.nodes)]
    kinds = {op.kind for op in ops if "zeros" not in op.label}  # above the diagonal, of merged blocks
    assert kinds == {OpKind.load, OpKind.move, OpKind.matmul, OpKind.store}
    assert sum(op.label == "load T0" for op in ops) == sum(op.label == "load L" for op in ops) > 0


def test_in_a_layer_the_stage_before_the_inverse_forms_it():
    def calls(**inverse):
        options = Options(algorithm="masked-neumann", **inverse)
        layers = stack(MODELS["qwen3.5-4b"], Pass(1, 128, 0, 64, "fp16", options)).layers
        return {call.kernel: call for call in layers[0].calls}

    formed = calls(mask_on="kkt", order=4, steps=4)
    assert formed["gdn-kkt"].options == Options(mask_on="kkt", order=4)
    assert formed["gdn-kkt"].values["T0"] == formed["tri-inverse"].values["T0"]
    assert calls(mask_on="start", order=4)["gdn-kkt"].options == Options()


@pytest.mark.parametrize(("words", "message"), [
    ("gdn-kkt --mask-on start", "--mask-on: start is formed by the inverse"),
    ("gdn-kkt --order 3", "--order: gdn-kkt forms no masked start; add --mask-on kkt"),
    ("gdn-kkt --mask-on kkt --block 48", "--block: 48 does not split"),
    ("tri-inverse --algorithm masked-neumann --mask-on kkt --steps 1", "--steps: without a correction"),
    ("tri-inverse --algorithm masked-neumann --mask-on kkt --mask-edge inclusive", "--mask-edge: sub-diag"),
    ("tri-inverse --algorithm masked-neumann --mask-on kkt --no-mask", "--mask-on: there is no mask"),
])  # fmt: skip
def test_a_wish_that_says_nothing_is_refused_with_its_option(cli, words, message):
    called = cli("run", *words.split(), "--no-numerics")
    assert called.code == 2
    assert message in called.err


def test_drawn_data_bring_a_start_of_their_own(cli):
    """In fp64 with N S >= C the result is the inverse."""
    words = "tri-inverse --algorithm masked-neumann --mask-on kkt --order 4 --steps 8 --chunk 32 --matrices 4"
    called = cli("run", *words.split(), "--dtype", "fp64", "--no-timing", "--json")
    assert json.loads(called.out)["numerics"]["relative_error"] < 1e-10
