"""Decoder layers: sizes against published parameter counts, times against sums and closed forms."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from algorithms import REGISTRY
from algorithms.decoder import Pass, stack
from algorithms.model_config import find_model, read_config
from algorithms.models import MODELS, Model
from npusim.calls import Call, Layer, Stack
from npusim.errors import InputError
from npusim.layers import StackTime, Timer
from npusim.lower import lower
from npusim.machine import Machine, override
from npusim.problem import Options, Problem, Target
from npusim.profiles import load_machine
from npusim.reuse import share_within
from npusim.settings import EngineSettings
from npusim.study import time_program

SMALL = MODELS["qwen3.5-0.8b"]


def one(**changes: object) -> Pass:
    given = {"batch": 1, "seq_len": 512, "context": 0, "chunk": 64, "dtype": "fp16", "inverse": Options()}
    return Pass(**{**given, **changes})  # type: ignore[arg-type]


def timed(model: Model, machine: Machine, eager: bool = False, **changes: object) -> StackTime:
    return Timer(REGISTRY, machine, EngineSettings()).time(stack(model, one(**changes)), eager)


# --- models --------------------------------------------------------------------------------------


def parameters(model: Model, active: bool = False) -> float:
    """Weights of all matrix products of all layers and the head: experts all, or those of one token."""
    built = stack(model, one(seq_len=1, decoding=True))
    total = 0.0
    for place in built.order:
        for call in built.layers[place].calls:
            p = call.problem
            if call.kernel == "matmul":
                total += p.n * p.k
            elif call.kernel == "grouped-matmul":
                total += p.n * p.k * (p.active if active else p.experts)
            elif call.kernel == "moe-router":
                total += p.k * p.experts
    return total


@pytest.mark.parametrize("name", MODELS)
def test_the_layers_have_as_many_weights_as_the_name_of_the_model_says(name):
    """Names round, and small models share the embedding with the head; others have it once more."""
    model = MODELS[name]
    size, *rest = [part for part in name.removeprefix("qwen3.5-").split("-") if part[-1] == "b"]
    billions = float(size[:-1])
    embedding = 0 if billions < 9 else model.vocabulary * model.hidden
    assert (parameters(model) + embedding) / 1e9 == pytest.approx(billions, rel=0.08)
    if rest:  # a3b: those that one token uses, by some without the vocabulary, by others with it
        used, named = parameters(model, active=True) / 1e9, float(rest[0][1:-1])
        head = model.vocabulary * model.hidden / 1e9
        assert used - head < 1.1 * named and used + head > 0.9 * named


def test_layers_come_in_the_published_order():
    kinds = [mixer for mixer, _ in MODELS["qwen3.5-9b"].layers]
    assert kinds == ["delta", "delta", "delta", "attention"] * 8
    kimi = MODELS["kimi-linear-48b-a3b"].layers
    assert [n for n, (mixer, _) in enumerate(kimi, 1) if mixer == "attention"] == [4, 8, 12, 16, 20, 24, 27]
    assert [feed for _, feed in kimi] == ["dense"] + ["experts"] * 26


@pytest.mark.parametrize("parts", [2, 4])
def test_devices_share_the_weights_evenly(parts):
    model = MODELS["qwen3.5-9b"]
    # two heads of keys and values would have to be in four places, and are not divided beyond one each
    assert parameters(model.shard(parts)) == pytest.approx(parameters(model) / parts, rel=1e-3)


def test_what_cannot_be_divided_is_refused():
    with pytest.raises(InputError, match=r"--tensor-parallel: 32 value heads of qwen3.5-9b .* by 3"):
        MODELS["qwen3.5-9b"].shard(3)
    assert MODELS["qwen3.5-35b-a3b"].shard(4).attention.key_heads == 1  # 2, each on two devices


QWEN = {
    "hidden_size": 2048, "num_hidden_layers": 48, "vocab_size": 151936, "linear_num_value_heads": 32,
    "linear_num_key_heads": 16, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4, "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 256,
    "partial_rotary_factor": 0.25, "num_experts": 512, "num_experts_per_tok": 10,
    "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512, "intermediate_size": 5120,
}  # fmt: skip
KIMI = {
    "hidden_size": 2304, "num_hidden_layers": 27, "vocab_size": 163840, "num_attention_heads": 32,
    "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
    "num_experts": 256, "num_experts_per_token": 8, "moe_intermediate_size": 1024, "num_shared_experts": 1,
    "first_k_dense_replace": 1, "intermediate_size": 9216,
    "linear_attn_config": {
        "num_heads": 32, "head_dim": 128, "short_conv_kernel_size": 4,
        "full_attn_layers": [4, 8, 12, 16, 20, 24, 27], "kda_layers": [],
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (QWEN, "qwen3-next-80b-a3b"),
        ({"text_config": QWEN}, "qwen3-next-80b-a3b"),
        (QWEN | {"layer_types": (["linear_attention"] * 3 + ["full_attention"]) * 12}, "qwen3-next-80b-a3b"),
        (KIMI, "kimi-linear-48b-a3b"),
    ],
)
def test_a_config_gives_the_model_it_describes(tmp_path, config, name):
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps(config))
    assert read_config(str(path)) == MODELS[name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": None}, r"hidden_size is missing"),
        ({"num_hidden_layers": 0}, r"num_hidden_layers must be a whole number from 1"),
        ({"linear_num_value_heads": 24}, r"linear_num_value_heads is no multiple of 16 key heads"),
        ({"layer_types": ["recurrent"] * 48}, r"layer_types must name linear_attention or full_attention"),
        ({"num_key_value_heads": 3}, r"num_key_value_heads does not divide 16 attention heads"),
        ({"num_experts_per_tok": 513}, r"513 experts for each token, and there are 512"),
        ({"linear_key_head_dim": 100}, r"heads of 100 keys: multiples of 16 are needed"),
        ({"decoder_sparse_step": 2}, r"decoder_sparse_step must be 1; other layers are not known"),
        ({"partial_rotary_factor": "x"}, r"partial_rotary_factor must be between 0 and 1"),
    ],
)
def test_a_fault_in_a_config_is_named_with_file_and_field(tmp_path, change, message):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(QWEN | change))
    with pytest.raises(InputError, match=message) as caught:
        find_model(str(path))
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("text", ["", "[1]", "{", "\xff"])
def test_what_is_no_config_is_refused(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"config\.json"):
        find_model(str(path))
    with pytest.raises(InputError, match=r"MODEL: no 'qwen'; known: qwen3.5-0.8b"):
        find_model("qwen")


# --- times ---------------------------------------------------------------------------------------


def test_a_model_is_the_sum_of_its_kernels_each_as_it_runs_alone():
    """Without an L2 to leave anything in, a kernel of a layer is that kernel by itself."""
    machine = override(load_machine("ascend-910b2"), {"memory.l2_bytes": 1})
    found = timed(SMALL, machine)
    for layer in found.layers:
        for row in layer.rows:
            kernel = REGISTRY[row.call.kernel].build(row.call.problem, row.call.options, Target.of(machine))
            alone, _ = time_program(lower(kernel, machine), EngineSettings())
            assert row.found.task_us == pytest.approx(alone.task_us, rel=1e-12)
            assert (row.found.bound, row.found.dominant_unit) == (alone.bound, alone.dominant_unit)
    assert [layer.count for layer in found.layers] == [18, 6, 1]
    times = [layer.count * sum(row.found.task_us for row in layer.rows) for layer in found.layers]
    assert found.total_us == pytest.approx(sum(times))


def test_what_a_timer_keeps_is_bounded_and_changes_no_answer(monkeypatch):
    machine, settings = load_machine("ascend-910b2"), EngineSettings()
    whole = [stack(SMALL, one(seq_len=length)) for length in (64, 128, 64)]
    built = [replace(found, layers=found.layers[:1], order=(0,)) for found in whole]
    free = Timer(REGISTRY, machine, settings, alone=True)
    wanted = [free.time(found, eager=False) for found in built]
    most = len(built[0].layers[0].calls)
    assert len(free._found) > most
    monkeypatch.setattr("npusim.layers.KERNELS", 2)
    monkeypatch.setattr("npusim.layers.OUTLINES", most)
    bounded = Timer(REGISTRY, machine, settings, alone=True)
    for found, known in zip(built, wanted, strict=True):
        assert bounded.time(found, eager=False) == known
        assert len(bounded._found) <= most and bounded._build.cache_info().currsize <= 2


def test_a_host_that_is_slower_than_the_device_sets_the_pace():
    """Every kernel begins when the host has issued it, the last one ends after its own time."""
    machine = override(load_machine("ascend-910b2"), {"launch.host_us": 10_000})
    built = stack(SMALL, one())
    calls = sum(len(built.layers[place].calls) for place in built.order)
    found = Timer(REGISTRY, machine, EngineSettings()).time(built, eager=True)
    last = found.layers[-1].rows[-1].found.task_us
    assert found.total_us == pytest.approx(10_000 * calls + last)
    graph = Timer(REGISTRY, machine, EngineSettings()).time(built, eager=False)
    assert graph.total_us < found.total_us / 20 and not any(layer.waiting_us for layer in graph.layers)


def pair(rows: int) -> Stack:
    """b = silu(a), c = silu(b), on rows of 4096."""
    problem = Problem(m=rows, n=4096)
    calls = tuple(
        Call(end, "activation", problem, values={"x": start, "z": end}) for start, end in ("ab", "bc")
    )
    return Stack("pair", (Layer("pair", calls),), (0,))


@pytest.mark.parametrize("rows", [1024, 8192, 12288, 65536])
def test_a_kernel_finds_in_l2_what_the_one_before_left_there(rows):
    """Of b, as much as can be reached within L2: its first part lies a whole kernel back, its last part two
    kernels' bytes after b was written."""
    machine = load_machine("ascend-910b2")
    first, second = Timer(REGISTRY, machine, EngineSettings()).time(pair(rows), False).layers[0].rows
    size = rows * 4096 * 2
    held = share_within(machine.memory.l2_bytes.value, 2 * size, 2 * size)
    assert first.found.bytes["hbm_read"] == pytest.approx(size, rel=1e-3)
    assert second.found.bytes["hbm_read"] == pytest.approx((1 - held) * size, rel=1e-3, abs=1)
    assert held == (1.0 if rows <= 12288 else 0.0)


def test_the_share_that_is_found_is_what_an_lru_cache_keeps():
    """A kernel writes v block by block, then something else is read, then another kernel reads v and writes
    as much: a cache of least recently used blocks, step by step."""
    blocks, other, capacity = 60, 25, 110
    trace = [("v", i) for i in range(blocks)] + [("o", i) for i in range(other)]
    cache: dict[object, None] = {}

    def touch(block: object) -> bool:
        hit = cache.pop(block, 0) is None
        cache[block] = None
        while len(cache) > capacity:
            cache.pop(next(iter(cache)))
        return hit

    for block in trace:
        touch(block)
    hits = 0
    for i in range(blocks):
        hits += touch(("v", i))
        touch(("w", i))
    assert share_within(capacity, blocks + other, other + 2 * blocks) == pytest.approx(
        hits / blocks, abs=0.05
    )


@pytest.mark.parametrize("name", ["qwen3.5-9b", "qwen3.5-35b-a3b"])
def test_what_is_said_of_tensors_is_said_of_tensors_that_there_are(name):
    """Of the stages one table names the tensors of all."""
    target = Target.of(load_machine("ascend-910b2"))
    for layer in stack(MODELS[name], one(seq_len=128)).layers:
        for call in layer.calls:
            kernel = REGISTRY[call.kernel].build(call.problem, call.options, target)
            if not call.kernel.startswith(("gdn-", "tri-")):
                assert call.values.keys() <= {tensor.name for tensor in kernel.tensors}, call.label


def test_keys_and_values_of_a_context_come_from_memory():
    """4 sequences of 8192 tokens: 2 x 4 heads x 256 x 2 bytes of each."""
    found = timed(
        MODELS["qwen3.5-9b"], load_machine("ascend-910b2"), batch=4, seq_len=1, context=8192, decoding=True
    )
    (row,) = [row for layer in found.layers for row in layer.rows if row.call.kernel == "attention"]
    cache = 4 * 8192 * 2 * 4 * 256 * 2
    assert row.found.bytes["hbm_read"] == pytest.approx(cache, rel=0.01)


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_what_is_held_helps_once_however_often_it_is_read(share):
    """Of k and v, which attention reads again and again past a small L2, at most that share of their size."""
    machine = override(load_machine("ascend-910b2"), {"memory.l2_bytes": 4 * 2**20})
    problem = Problem(seq_len=4096, heads=16, key_heads=4, head_dim=128)
    kernel = REGISTRY["attention"].build(problem, Options(), Target.of(machine))
    size = 2 * 4096 * 4 * 128 * 2

    def read(held: float) -> float:
        program = lower(kernel, machine, {"k": held, "v": held})
        return time_program(program, EngineSettings())[0].bytes["hbm_read"]

    saved = read(0.0) - read(share)
    assert 0 < saved <= 1.05 * share * size


@pytest.mark.parametrize("length", [512, 2048])
def test_what_is_held_of_a_kernel_that_l2_holds_whole_is_not_read_from_memory(length):
    """But for the mask of 128 x 128, which is no input of the layer."""
    machine = load_machine("ascend-910b2")
    kernel = REGISTRY["attention"].build(
        Problem(seq_len=length, heads=16, key_heads=4, head_dim=128), Options(), Target.of(machine)
    )
    program = lower(kernel, machine, dict.fromkeys("qkv", 1.0))
    assert time_program(program, EngineSettings())[0].bytes["hbm_read"] <= 128 * 128 * 4


def test_long_attention_is_the_parabola_through_shorter():
    """5120 tokens are simulated whole; the layer takes them from 2048 and 4096."""
    machine = load_machine("ascend-910b2")
    built = stack(MODELS["qwen3.5-4b"], one(seq_len=5120))
    (call,) = [call for layer in built.layers for call in layer.calls if call.lengths]
    assert call.lengths == (2048, 4096)
    alone = Stack("attention", (Layer("attention", (call,)),), (0,))
    (row,) = Timer(REGISTRY, machine, EngineSettings()).time(alone, False).layers[0].rows
    kernel = REGISTRY["attention"].build(row.call.problem, Options(), Target.of(machine))
    whole, _ = time_program(lower(kernel, machine), EngineSettings())
    assert row.found.task_us == pytest.approx(whole.task_us, rel=0.02)
    assert row.hbm_bytes is None and row.l2_bytes is None


def test_an_inverse_is_paid_in_prefill_alone_and_by_the_delta_layers():
    machine = load_machine("ascend-910b2")
    prefill, decoding = timed(SMALL, machine), timed(SMALL, machine, seq_len=1, context=4096, decoding=True)
    shares = {layer.layer.kind: layer.inverse_share for layer in prefill.layers}
    assert shares["delta"] is not None and 0 < shares["delta"] < 0.5
    assert shares["attention"] == shares["head"] == 0
    assert all(layer.inverse_us == 0 for layer in decoding.layers)
    kernels = {row.call.kernel for layer in decoding.layers for row in layer.rows}
    assert "gdn-recurrent" in kernels and "tri-inverse" not in kernels


def test_in_one_launch_the_delta_net_is_one_kernel_and_saves_launches():
    machine = load_machine("ascend-910b2")
    graph, fused = timed(SMALL, machine), timed(SMALL, machine, fused=True)
    stages = [
        row.found.task_us for row in graph.layers[0].rows if row.call.kernel.startswith(("gdn-", "tri"))
    ]
    (whole,) = [row.found.task_us for row in fused.layers[0].rows if row.call.kernel == "gdn-fused"]
    assert whole < sum(stages)
    assert fused.layers[0].inverse_us is None, "a part of a kernel has no time of its own"


@pytest.mark.parametrize("name", ["qwen3.5-35b-a3b", "kimi-linear-48b-a3b"])
@pytest.mark.parametrize("profile", ["ascend-910b2", "ascend-950pr-9599", "hexagon-class"])
def test_experts_and_gates_per_channel_run_on_every_kind_of_machine(name, profile):
    model = replace(MODELS[name], layers=MODELS[name].layers[:4])
    found = timed(model, load_machine(profile), seq_len=256)
    assert all(np.isfinite(row.found.task_us) for layer in found.layers for row in layer.rows)


# --- the command ---------------------------------------------------------------------------------


def test_the_command_says_what_each_inverse_costs_and_saves(cli):
    command = ("layer", "qwen3.5-0.8b", "--seq-len", "1024", "--inverse", "blocked-substitution,mxr")
    done = cli(*command, "--json")
    data = json.loads(done.out)
    assert (data["model"], data["profile"]) == ("qwen3.5-0.8b", "ascend-910b2")
    assert sum(row["share"] for row in data["breakdown"]) == pytest.approx(1)
    assert sum(row["time_us"] for row in data["breakdown"]) == pytest.approx(data["time_us"])
    assert data["prefill_us"] == pytest.approx(sum(k["count"] * k["time_us"] for k in data["layers"]))
    first, second = data["inverses"]
    assert data["inverse_share"] == pytest.approx(first["inverse_us"] / data["time_us"])
    # what lies in L2 for the other kernels does not depend on the inverse
    assert second["saving"] == pytest.approx((first["inverse_us"] - second["inverse_us"]) / data["time_us"])
    shown = cli(*command).out
    assert "24 layers" not in shown and "18 layers" in shown
    names = [line.split()[:2] for line in shown.splitlines()]
    assert ["blocked-substitution", "triton"] in names and ["mxr", "published"] in names
    built = {row["name"]: (row["algorithm"], row["variant"]) for row in data["breakdown"]}
    assert built["inverse"] == ("blocked-substitution", "triton")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("qwen3.5-9",), "MODEL: no 'qwen3.5-9'; known:"),
        (("qwen3.5-9b", "--inverse", "mxs"), "--inverse: tri-inverse has no 'mxs'; did you mean 'mxr'?"),
        (("qwen3.5-9b", "--inverse", "mxr:fast"), "--inverse: mxr has no variant 'fast'"),
        (("qwen3.5-9b", "--steps", "3"), "--steps: none of mxr takes it, got 3"),
        (("qwen3.5-9b", "--decode", "--seq-len", "8"), "--seq-len: one token is decoded"),
        (("qwen3.5-9b", "--decode", "--chunk", "64"), "--chunk: decoding has no chunks"),
        (("qwen3.5-9b", "--decode", "--execution", "fused"), "--execution fused: nothing is fused"),
        (("qwen3.5-9b", "--tensor-parallel", "5"), "cannot be divided by 5; use a divisor"),
        (("qwen3.5-9b", "--dtype", "int8"), "--dtype: "),
        (("qwen3.5-9b", "--skew", "1"), "--skew: qwen3.5-9b has no experts"),
        (("qwen3.5-9b", "--decode", "--inverse", "mxr"), "--inverse: decoding inverts nothing"),
        (("qwen3.5-9b", "--decode", "--block", "32"), "--block: decoding inverts nothing"),
        (
            ("qwen3.5-0.8b", "--seq-len", "64", "--set", "levels.L0C.bytes=512"),
            "use another --profile (in the layer: q, k, v)",
        ),
        (("qwen3.5-9b", "--batch", "64", "--seq-len", "1000000"), "(in a layer of qwen3.5-9b)"),
        (("qwen3.5-0.8b", "--seq-len", "64", "--chunk", "24"), "(in the layer: "),
    ],
)
def test_what_makes_no_sense_is_one_line(cli, arguments, message):
    done = cli("layer", *arguments)
    assert done.code == 2 and message in done.err and done.err.count("\n") == 1
