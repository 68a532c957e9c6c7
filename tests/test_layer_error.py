"""Errors of the delta rule's results when only T is approximate."""

from __future__ import annotations

import numpy as np
import pytest
from gated_delta import layer, problem_arrays

from npusim.errors import InputError
from npusim.layer_error import PROBED, LayerProbe, stored
from npusim.matrices import reference_inverse
from npusim.problem import Problem
from npusim.sequence_file import Sequence
from npusim.sequences import tokens_first
from npusim.settings import NumericsSettings


def probe_of(lengths, chunk=16, decay="head", heads=4, initial=False, Dk=12, Dv=6):
    arrays = problem_arrays(lengths, 2, heads, Dk, Dv, initial=initial)
    if decay == "none":
        del arrays["g"]
    elif decay == "channel":
        arrays["g"] = arrays["g"][..., None] * np.random.default_rng(1).uniform(0.5, 1.5, Dk)
    problem = Problem(
        chunk=chunk, cu_seqlens=tuple(arrays["cu_seqlens"].tolist()), heads=heads, key_heads=2, head_dim=Dk,
        value_dim=Dv, decay=decay, initial_state=initial,
    )  # fmt: skip
    given = [arrays.get(name) for name in ("q", "k", "v", "g", "beta")]
    return arrays, problem, LayerProbe(Sequence(*given, lengths, arrays.get("initial_state")), problem)


@pytest.mark.parametrize("decay", ["head", "channel", "none"])
@pytest.mark.parametrize("initial", [False, True])
@pytest.mark.parametrize("lengths", [(64,), (50, 7, 33)])
def test_with_the_exact_inverse_it_is_the_rule_token_by_token(lengths, initial, decay):
    arrays, problem, probe = probe_of(lengths, decay=decay, initial=initial)
    np.testing.assert_allclose(probe.T @ (np.eye(16) + probe.L), np.eye(16) + 0 * probe.L, atol=1e-12)
    o, states = layer(arrays)
    found, last = probe.run(probe.T)
    assert np.abs(tokens_first(found, problem) - o).max() < 1e-12 * np.abs(o).max()
    assert np.abs(last - states).max() < 1e-12 * np.abs(states).max()
    errors = probe.errors(probe.T)
    assert errors.output.relative_error == errors.state.relative_error == 0
    assert errors.output.samples == errors.state.samples == len(lengths) * 4


def test_it_is_what_transformers_computes_token_by_token():
    torch = pytest.importorskip("torch")
    public = pytest.importorskip("transformers.models.qwen3_5.modeling_qwen3_5")
    arrays, problem, probe = probe_of((75,))
    q, k = (torch.tensor(np.repeat(arrays[name], 2, axis=1)[None]) for name in ("q", "k"))
    v, g, beta = (torch.tensor(arrays[name][None]) for name in ("v", "g", "beta"))
    o, state = public.torch_recurrent_gated_delta_rule(
        q, k, v, g=g, beta=beta, initial_state=None, output_final_state=True, use_qk_l2norm_in_kernel=True
    )
    found, last = probe.run(probe.T)
    np.testing.assert_allclose(tokens_first(found, problem), o[0].numpy(), atol=1e-5)  # it computes in fp32
    np.testing.assert_allclose(last, state.numpy(), atol=1e-5)


def test_what_a_wrong_element_does_in_a_single_chunk_follows_by_hand():
    """T + e at (i, j): V' of token i is off by e R_j, so o of tokens m >= i is off by P_mi e R_j, and the
    state by exp(G_C - G_i) k_i e R_j; with S = 0 R_j is beta_j v_j."""
    arrays, _, probe = probe_of((16,), heads=2)
    i, j, e, head = 9, 4, 0.01, 1
    T = probe.T.copy()
    T[head, i, j] += e
    q, k = (x / np.sqrt((x**2).sum(-1, keepdims=True) + 1e-6) for x in (arrays["q"], arrays["k"]))
    G, R = arrays["g"][:, head].cumsum(), arrays["beta"][j, head] * arrays["v"][j, head]
    P = q[:, head] @ k[i, head] / np.sqrt(12) * np.exp(G - G[i])
    off_o = np.where(np.arange(16) >= i, P, 0)[:, None] * e * R
    off_state = np.exp(G[-1] - G[i]) * np.outer(k[i, head], e * R)
    o, states = layer(arrays)
    errors = probe.errors(T)
    norm = np.linalg.norm
    assert errors.output.worst_relative_error == pytest.approx(norm(off_o) / norm(o[:, head]), rel=1e-9)
    assert errors.output.relative_error == pytest.approx(norm(off_o) / norm(o), rel=1e-9)
    assert errors.state.worst_relative_error == pytest.approx(
        norm(off_state) / norm(states[0, head]), rel=1e-9
    )
    assert errors.state.relative_error == pytest.approx(norm(off_state) / norm(states), rel=1e-9)


def test_an_error_in_the_first_chunk_is_carried_on_as_the_rule_says():
    """The same rule with a wrong first state: what comes after a chunk knows its T by the state alone."""
    arrays, _, probe = probe_of((32,), heads=2)
    T = probe.T.copy()
    T[:2] += np.tril(np.full((16, 16), 0.01), -1)  # both heads of the first chunk
    found, last = probe.run(T)
    first = LayerProbe(
        Sequence(*(arrays[n][:16] for n in ("q", "k", "v", "g", "beta")), (16,)),
        Problem(chunk=16, seq_len=16, heads=2, key_heads=2, head_dim=12, value_dim=6),
    )
    start = first.run(T[:2])[1]
    rest = {n: arrays[n][16:] for n in ("q", "k", "v", "g", "beta")}
    o, states = layer({**rest, "cu_seqlens": [0, 16], "initial_state": start})
    np.testing.assert_allclose(found[1].swapaxes(0, 1), o, atol=1e-13)
    np.testing.assert_allclose(last, states, atol=1e-13)


def test_each_head_of_each_sequence_is_judged_alone():
    """However long the others are."""
    arrays, _, probe = probe_of((48, 16), heads=2)
    T = probe.T.copy()
    T[-2:] *= 1.01  # both heads of the short sequence
    errors = probe.errors(T)
    o, _ = layer(arrays)
    assert errors.output.worst_relative_error == pytest.approx(0.01, rel=1e-9)
    short = np.linalg.norm(o[48:]) / np.linalg.norm(o)
    assert errors.output.relative_error == pytest.approx(0.01 * short, rel=1e-9)
    assert (errors.output.exact, errors.state.exact) == (2, 2)


def test_a_part_of_the_value_columns_tells_the_error_of_all():
    """The columns of V do not meet in the rule."""
    arrays, problem, probe = probe_of((64,), Dv=8)
    some = problem.model_copy(update={"value_dim": 3})
    given = [arrays["q"], arrays["k"], arrays["v"][..., :3], arrays["g"], arrays["beta"]]
    T = probe.T + np.tril(np.full((16, 16), 1e-3), -1)
    part = LayerProbe(Sequence(*given, (64,)), some).run(T)
    for whole, piece in zip(probe.run(T), part, strict=True):
        np.testing.assert_allclose(whole[..., :3], piece, atol=1e-14)


def test_values_that_are_not_finite_are_counted_and_make_the_error_infinite():
    _, _, probe = probe_of((64,))
    T = probe.T.copy()
    T[0, 3, 1] = np.inf
    errors = probe.errors(T)
    assert errors.output.nonfinite > 0 and errors.state.nonfinite > 0
    assert errors.output.relative_error == errors.state.worst_relative_error == np.inf


def test_the_floor_is_the_exact_inverse_in_the_dtype_that_the_layer_multiplies():
    probe = LayerProbe.drawn(Problem(seq_len=256, heads=4, head_dim=32, value_dim=4))
    assert probe.T.dtype == np.float64
    np.testing.assert_array_equal(stored(probe.T, "fp16"), probe.T.astype(np.float16).astype(np.float64))
    np.testing.assert_array_equal(stored(np.array([0.3, -9.0]), "int8", 2.0**-5), [10 / 32, -4.0])
    assert probe.floor("fp64").output.relative_error == 0
    floors = [probe.floor(name).output.worst_relative_error for name in ("fp32", "fp16", "bf16")]
    assert floors[0] < 1e-7 < floors[1] < 1e-3 < 2 * floors[2] < 1e-1
    assert 4 < floors[2] / floors[1] < 16, "three bits less"
    rounded = probe.errors(probe.T.astype(np.float16), "fp16")
    assert rounded.output.relative_error == probe.floor("fp16").output.relative_error


def test_what_is_drawn_holds_all_chunks_of_all_heads_and_hard_ones_among_them():
    probe = LayerProbe.drawn(PROBED, NumericsSettings(key_correlation=0.6, samples=3))
    assert probe.L.shape == (16 * 16, 64, 64)
    hard = np.abs(probe.L).sum(-1).max(-1).reshape(16, 16)  # by chunk and head
    assert (hard.max(0) > 10).sum() >= 3
    np.testing.assert_allclose(probe.T, reference_inverse(probe.L))


def test_a_stack_of_another_shape_is_refused():
    _, _, probe = probe_of((32,))
    with pytest.raises(InputError, match=r"T has shape \(1, 16, 16\); the probe's L has \(8, 16, 16\)"):
        probe.run(probe.T[:1])
