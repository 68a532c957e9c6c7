"""A gate per channel of the keys (Kimi Delta Attention), none (DeltaNet), and decoding token by token."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from gated_delta import layer, problem_arrays
from test_gdn import CASES, MACHINES, STAGES, distance, problem_of, stored

from algorithms import REGISTRY
from npusim import execute as executing
from npusim.cli import main
from npusim.execute import execute
from npusim.generate import generate
from npusim.lower import lower
from npusim.problem import Options, Problem, Target
from npusim.sequence_file import Sequence
from npusim.sequences import in_chunks, tokens_first
from npusim.settings import EngineSettings, MachineSettings
from npusim.simulate import simulate
from npusim.study import time_program

FORGETS = 20.0
"""-g of a token that forgets all: over 16 of them the decay is exp(-320), over a chunk below any format"""
SMALL = list(CASES)[:3]
A2 = Target.of(MACHINES["ascend-910b2"])


@pytest.fixture(autouse=True)
def _nothing_unwritten_counts(monkeypatch):
    monkeypatch.setattr(executing, "UNWRITTEN", np.nan)


def arrays_of(case, decay, seed=0):
    """Inputs with hard heads; of channels, some hardly decay, some forget at once, in every head."""
    sizes = {name: case[name] for name in ("lengths", "key_heads", "heads", "Dk", "Dv")}
    arrays = problem_arrays(**sizes, seed=seed, initial=case.get("initial", False))
    if decay == "none":
        del arrays["g"]
    if decay == "channel":
        rng = np.random.default_rng(seed + 1)
        shape = (*arrays["beta"].shape, case["Dk"])
        strength = rng.choice([1e-3, 0.3, FORGETS], shape[1:], p=[0.5, 0.3, 0.2])
        arrays["g"] = -strength * rng.random(shape)
        arrays["g"][::7, 0] = -FORGETS  # whole tokens, too
    return arrays


def computed(kernel_name, problem, arrays, machine="ascend-910b2", **options):
    """o, state, and how many values on the way were not finite."""
    entry = REGISTRY[kernel_name]
    kernel = entry.build(problem, Options(**options), Target.of(MACHINES[machine]))
    problem = entry.fix(problem)
    given = Sequence(
        *(arrays.get(name) for name in ("q", "k", "v", "g", "beta")), (), arrays.get("initial_state")
    )
    known = in_chunks(given, problem)
    found = execute(kernel, {t.name: known[t.name] for t in kernel.tensors if t.role == "input"})
    return tokens_first(found.outputs["O"], problem), found.outputs["state"], found.nonfinite


@pytest.mark.parametrize("decay", ["channel", "none"])
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", SMALL)
def test_the_fused_kernel_is_the_recurrence(name, machine, decay):
    problem = problem_of(CASES[name]).model_copy(update={"decay": decay})
    arrays = arrays_of(CASES[name], decay)
    o, state, _ = computed("gdn-fused", problem, arrays, machine)
    want, states = layer(arrays)
    assert distance(o, want) < 1e-10 and distance(state, states) < 1e-10


@pytest.mark.parametrize("decay", ["channel", "none"])
@pytest.mark.parametrize(("chunk", "Dk"), [(128, 32), (256, 16), (48, 256)])
def test_so_it_is_in_several_panels(chunk, Dk, decay):
    case = {"chunk": chunk, "lengths": (chunk + 20,), "key_heads": 1, "heads": 1, "Dk": Dk, "Dv": 16}
    problem, arrays = problem_of(case).model_copy(update={"decay": decay}), arrays_of(case, decay)
    o, state, _ = computed("gdn-fused", problem, arrays, algorithm="forward-substitution")
    want, states = layer(arrays)
    assert distance(o, want) < 1e-10 and distance(state, states) < 1e-10


@pytest.mark.parametrize("decay", ["channel", "none"])
@pytest.mark.parametrize(("dtype", "allowed"), [("fp16", 2e-3), ("bf16", 1.5e-2), ("fp32", 1e-5)])
@pytest.mark.parametrize("name", SMALL)
def test_strong_gates_neither_overflow_nor_lose_more_than_rounding(name, dtype, allowed, decay):
    """The bounds are those of one gate per head, keys that resemble each other."""
    arrays = arrays_of(CASES[name], decay)
    arrays = stored(arrays, dtype)
    problem = problem_of(CASES[name], dtype).model_copy(update={"decay": decay})
    o, state, nonfinite = computed("gdn-fused", problem, arrays)
    want, states = layer(arrays)
    assert not nonfinite
    assert distance(o, want) < allowed and distance(state, states) < allowed


@pytest.mark.parametrize("kernel", ["gdn-fused", "gdn-recurrent"])
def test_channels_that_decay_alike_are_one_gate_per_head(kernel):
    case = CASES[SMALL[0]] | {"lengths": (37, 16), "initial": True}
    arrays = arrays_of(case, "head")
    spread = arrays | {"g": np.repeat(arrays["g"][..., None], case["Dk"], axis=-1)}
    problem = problem_of(case) if kernel == "gdn-fused" else decoding(case, "head")
    o, state, _ = computed(kernel, problem, arrays)
    same, last, _ = computed(kernel, problem.model_copy(update={"decay": "channel"}), spread)
    assert distance(same, o) < 1e-12 and distance(last, state) < 1e-12


# --- decoding ----------------------------------------------------------------------------------


def decoding(case, decay, dtype="fp64"):
    """The sizes that gdn-recurrent has."""
    given = problem_of(case, dtype).model_dump(exclude_unset=True)
    kept = {k: v for k, v in given.items() if k in (*REGISTRY["gdn-recurrent"].sizes, "dtype")}
    return Problem(**kept, decay=decay)


@pytest.mark.parametrize("decay", ["head", "channel", "none"])
@pytest.mark.parametrize(("dtype", "allowed"), [("fp64", 1e-12), ("fp16", 1e-3)])
@pytest.mark.parametrize("name", SMALL)
def test_token_by_token_is_the_recurrence(name, dtype, allowed, decay):
    case = CASES[name] | {"initial": True}
    arrays = arrays_of(case, decay)
    arrays = arrays if dtype == "fp64" else stored(arrays, dtype)
    o, state, nonfinite = computed("gdn-recurrent", decoding(case, decay, dtype), arrays)
    want, states = layer(arrays)
    assert distance(o, want) < allowed and distance(state, states) < allowed and not nonfinite


def test_a_step_moves_the_states_and_little_else_at_the_rate_of_memory():
    """64 sequences of one token: 2048 states of 64 KiB read and written."""
    problem = Problem(batch=64, seq_len=1, heads=32, decay="channel")
    machine = MACHINES["ascend-910b2"]
    report = time_program(
        lower(REGISTRY["gdn-recurrent"].build(problem, Options(), A2), machine), EngineSettings()
    )[0]
    states = 2048 * 128 * 128 * 4
    assert report.bytes["hbm_read"] == pytest.approx(states, rel=0.03)
    assert report.bytes["hbm_written"] == pytest.approx(states, rel=0.01)
    rate_us = 2 * states / machine.pool_bytes_per_cycle("hbm") / machine.cycles_per_us
    assert rate_us < report.core_us < 1.1 * rate_us


def test_one_sequence_keeps_all_vector_cores_busy():
    problem = Problem(batch=1, seq_len=1, heads=32)
    program = lower(REGISTRY["gdn-recurrent"].build(problem, Options(), A2), MACHINES["ascend-910b2"])
    assert program.phases[0].streams == 48


# --- stages ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stage", "decay"), [
    (stage, decay) for stage in (*STAGES, "gdn-recurrent") for decay in ("channel", "none")
    if (stage, decay) != ("gdn-cumsum", "none")
])  # fmt: skip
def test_stages_take_the_same_file(tmp_path, capsys, stage, decay):
    """What the stages before them make of it is computed for them; the shape of g says what decays."""
    arrays = arrays_of({"lengths": (70, 33), "key_heads": 1, "heads": 2, "Dk": 32, "Dv": 16}, decay)
    np.savez(tmp_path / "x.npz", **arrays)
    chunk = [] if stage == "gdn-recurrent" else ["--chunk", "32"]
    said = run_json(capsys, stage, *chunk, *inputs(tmp_path, decay), "--no-timing")
    assert said["numerics"]["relative_error"] < 2e-3 and not said["numerics"]["nonfinite"]
    assert said["problem"]["decay"] == decay


def inputs(folder, decay):
    return ["--inputs", str(folder / "x.npz"), *(["--decay", "none"] if decay == "none" else [])]


def run_json(capsys, *command):
    with pytest.raises(SystemExit) as ended:
        main(["run", *command, "--json"])
    said = capsys.readouterr()
    assert not ended.value.code, said.err
    return json.loads(said.out)


@pytest.mark.parametrize("decay", ["channel", "none"])
def test_a_file_of_tokens_gives_outputs_and_states(tmp_path, capsys, decay):
    arrays = arrays_of(CASES[SMALL[1]], decay)
    np.savez(tmp_path / "x.npz", **arrays)
    want, states = layer(arrays)
    for kernel in ("gdn-fused", "gdn-recurrent"):
        command = ["--output", str(tmp_path / f"{kernel}.npz"), "--no-timing", "--dtype", "fp64"]
        run_json(capsys, kernel, *inputs(tmp_path, decay), *command)
        with np.load(tmp_path / f"{kernel}.npz") as file:
            found = dict(file)
        assert distance(found["o"], want) < 1e-10 and distance(found["state"], states) < 1e-10


@pytest.mark.parametrize("decay", ["channel", "none"])
@pytest.mark.parametrize("machine", MACHINES)
def test_both_engines_agree(machine, decay):
    problem = {"cu_seqlens": (0, 70, 100), "heads": 2, "key_heads": 1, "head_dim": 32, "decay": decay}
    target, settings = Target.of(MACHINES[machine]), (EngineSettings(engine="reference"), EngineSettings())
    for kernel, chunk in (("gdn-fused", {"chunk": 32}), ("gdn-recurrent", {})):
        program = lower(
            REGISTRY[kernel].build(Problem(**problem, **chunk), Options(), target), MACHINES[machine]
        )
        want, found = (simulate(program, one).makespan for one in settings)
        assert found == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize("decay", ["channel", "none"])
@pytest.mark.parametrize("stage", STAGES[1:])
def test_with_an_ample_l2_memory_moves_each_byte_of_the_tensors_once(stage, decay):
    machine = MachineSettings(profile="ascend-910b2", set=("memory.l2_bytes=1e15",)).machine()
    problem = Problem(chunk=64, seq_len=640, batch=2, heads=4, decay=decay)
    kernel = REGISTRY[stage].build(problem, Options(), Target.of(machine))
    moved = time_program(lower(kernel, machine), EngineSettings())[0].bytes
    size = {"fp16": 2, "fp32": 4}
    total = {role: sum(np.prod(t.shape) * size[t.dtype] for t in kernel.tensors if t.role in role.split())
             for role in ("input constant", "output")}  # fmt: skip
    assert moved["hbm_read"] == pytest.approx(total["input constant"], rel=0.02)
    assert moved["hbm_written"] == pytest.approx(total["output"], rel=0.02)


@pytest.mark.parametrize("decay", ["channel", "none"])
def test_generated_triangles_have_the_gates_asked_for(decay):
    """Row sums over channels in plain loops; without gates L is what beta and the keys make of it."""
    found = generate(16, [40], 2, key_heads=1, head_dim=8, samples=None, decay=decay)
    head = generate(16, [40], 2, key_heads=1, head_dim=8, samples=None)
    assert found.L.shape == head.L.shape == (6, 16, 16)
    assert (np.triu(found.L) == 0).all() and (found.L[4:, 8:] == 0).all()  # a last chunk of 8 tokens
    assert (abs(found.L) <= 1).all() and distance(found.L, head.L) > 0.01
    if decay == "none":
        below = np.tri(16, k=-1, dtype=bool)
        assert (abs(head.L[0])[below] <= abs(found.L[0])[below]).all()


# --- mistakes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("decay", "change", "flags", "message"), [
    ("none", {}, (), r"no array g .* give --decay none"),
    ("head", {}, ("--decay", "none"), r"array g: .* is not that of --decay none: drop g, or this option"),
    ("head", {}, ("--decay", "channel"), r"array g: .* is not that of --decay channel"),
    ("channel", {"cut": 1}, (), r"array g: shape .* is needed, \[tokens, heads, Dk\]"),
    ("channel", {"sign": -1}, (), r"array g: .* at token 0, head 0, channel 0: must be <= 0"),
])  # fmt: skip
def test_a_file_whose_gates_do_not_fit_is_one_line(tmp_path, capsys, decay, change, flags, message):
    arrays = arrays_of(CASES[SMALL[0]], decay)
    if change:
        arrays["g"] = arrays["g"][..., change.get("cut", 0) :] * change.get("sign", 1)
    np.savez(tmp_path / "x.npz", **arrays)
    refused(capsys, ["gdn-fused", "--inputs", str(tmp_path / "x.npz"), *flags], message)


@pytest.mark.parametrize(("command", "message"), [
    (["gdn-cumsum", "--decay", "none"], "--decay: gdn-cumsum has nothing to do"),
    (["gdn-kkt", "--decay", "channel", "--variant", "published"], "--variant: .* use textbook"),
    (["gdn-recurrent", "--chunk", "64"], "--chunk: gdn-recurrent has no such size"),
    (["gdn-recurrent", "--dtype", "int8"], "--dtype: gdn-recurrent computes on"),
    (["matmul", "--decay", "none"], "--decay: matmul has no such size"),
    (["gdn-kkt", "--decay", "row"], "--decay: "),
])  # fmt: skip
def test_what_there_is_not_is_said(capsys, command, message):
    refused(capsys, command, message)


def refused(capsys, command, message):
    with pytest.raises(SystemExit) as ended:
        main(["run", *command])
    error = capsys.readouterr().err
    assert ended.value.code == 2 and error.count("\n") == 1
    assert re.search(message, error), error
