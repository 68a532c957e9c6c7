"""Generated problems and the exact inverse, against closed forms, quantiles of trained models and scipy."""

from __future__ import annotations

import math
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npusim.errors import InputError
from npusim.gates import GATE_MODELS
from npusim.generate import key_source
from npusim.inputs import (
    delta_matrix,
    gate_model,
    generate,
    generate_matrices,
    reference_inverse,
)
from npusim.matrices import Layout, spread

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
CAPTURES = {"qwen3.5": DATA / "gates_qwen3_5_0_8b.npz", "qwen3-next": DATA / "gates_qwen3_next_shard.npz"}

# Quantiles 1/10/50/90/99 % of beta and g over all tokens and heads of the captures.
BETA_QUANTILES = {
    "qwen3.5": [0.071, 0.169, 0.419, 0.872, 0.996],
    "qwen3-next": [0.199, 0.384, 0.834, 0.998, 0.999],
}
G_QUANTILES = {"qwen3.5": [-5.87, -3.07, -1.47e-3, -1.6e-5], "qwen3-next": [-166, -165, -1.59e-3, -2.0e-5]}
LEVELS = [0.01, 0.1, 0.5, 0.9, 0.99]


@pytest.fixture(autouse=True)
def _warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def lower(rng, matrices=3, size=20, scale=0.3):
    return np.tril(rng.standard_normal((matrices, size, size)) * scale, -1)


def drawn_gates(name, seed, heads, tokens=4096):
    pairs = [gate_model(name).draw(seed, 0, 0, head, tokens) for head in range(heads)]
    return np.stack([beta for beta, _ in pairs]), np.stack([g for _, g in pairs])


# Gates


@pytest.mark.parametrize("name", GATE_MODELS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_pooled_gates_have_the_quantiles_of_the_trained_model(name, seed):
    beta, g = drawn_gates(name, seed, heads=32)
    np.testing.assert_allclose(np.quantile(beta, LEVELS), BETA_QUANTILES[name], atol=0.03)
    np.testing.assert_allclose(np.quantile(g, LEVELS[:4]), G_QUANTILES[name], rtol=0.2)
    assert -1e-5 < np.quantile(g, 0.99) < 0
    assert ((beta > 0) & (beta < 1)).all() and (g <= 0).all() and np.isfinite(g).all()


@pytest.mark.parametrize("name", GATE_MODELS)
@pytest.mark.parametrize("seed", [0, 5])
def test_five_heads_of_eight_hardly_decay_over_a_chunk_of_64_tokens(name, seed):
    _, g = drawn_gates(name, seed, heads=16)
    assert np.count_nonzero(np.exp(64 * np.median(g, axis=1)) > 0.85) == 10


@pytest.mark.parametrize("name", GATE_MODELS)
def test_pooled_gates_are_close_to_the_captures_where_these_are_at_hand(name):
    if not CAPTURES[name].exists():
        pytest.skip("captured gates not at hand")
    with np.load(CAPTURES[name]) as capture:
        beta, g = capture["beta"], capture["g"].astype(float)
    our_beta, our_g = drawn_gates(name, 0, heads=32)
    np.testing.assert_allclose(np.quantile(our_beta, LEVELS), np.quantile(beta, LEVELS), atol=0.03)
    np.testing.assert_allclose(np.quantile(our_g, LEVELS[:4]), np.quantile(g, LEVELS[:4]), rtol=0.2)
    kept = np.mean(g.reshape(-1, 64, g.shape[1]).sum(axis=1) > math.log(0.5))
    our_kept = np.mean(our_g.reshape(32, -1, 64).sum(axis=2) > math.log(0.5))
    assert our_kept == pytest.approx(kept, abs=0.06)


def test_a_head_depends_on_the_seed_and_its_number_alone():
    model = gate_model("qwen3.5")
    assert model.head(3, 17) == model.head(3, 17)
    assert model.head(3, 17) != model.head(4, 17)
    assert len({model.head(0, head) for head in range(48)}) == 48


def test_an_unknown_gate_model_gets_a_suggestion():
    with pytest.raises(InputError, match=r"did you mean 'qwen3\.5'"):
        gate_model("qwen35")


# Keys and L


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.6, 0.9])
def test_the_mean_cosine_of_two_keys_is_the_correlation_asked_for(rho):
    keys = key_source(Layout((64 * 40,), 64, 1), 128, rho, seed=1)
    cosines = []
    for chunk in range(40):
        k = keys(0, chunk, 0)
        np.testing.assert_allclose(np.linalg.norm(k, axis=1), 1, rtol=1e-14)
        cosines.append((k @ k.T)[np.tril_indices(64, -1)].mean())
    assert np.mean(cosines) == pytest.approx(rho, abs=0.015)


def test_delta_matrix_equals_its_definition_element_by_element():
    rng = np.random.default_rng(0)
    k, beta, g = rng.standard_normal((2, 6, 5)), rng.random((2, 6)), -rng.random((2, 6))
    L = delta_matrix(k, beta, g)
    for m, i, j in np.ndindex(L.shape):
        between = math.fsum(g[m, j + 1 : i + 1])  # G_i - G_j
        expected = beta[m, i] * math.fsum(k[m, i] * k[m, j]) * math.exp(between) if i > j else 0.0
        assert L[m, i, j] == pytest.approx(expected, rel=1e-12)


def test_gates_that_erase_the_state_overflow_nothing():
    L = delta_matrix(np.ones((1, 64, 4)), np.ones((1, 64)), np.full((1, 64), -166.0))
    assert np.isfinite(L).all() and L[0, 1, 0] == pytest.approx(4 * math.exp(-166), rel=1e-10)


def test_without_decay_and_with_equal_keys_every_element_is_beta():
    L = delta_matrix(np.array([[1.0, 0.0]] * 5), np.full(5, 0.5), np.zeros(5))
    np.testing.assert_array_equal(L, 0.5 * np.tri(5, k=-1))


# Problems


def test_any_sample_holds_the_same_matrices_as_the_whole_problem():
    settings = {"chunk": 16, "sequences": (100, 40, 16), "heads": 4, "key_heads": 2, "head_dim": 8, "seed": 7}
    whole = generate(**settings, samples=None)
    assert whole.L.shape == ((7 + 3 + 1) * 4, 16, 16) and whole.total == 44
    for samples in (1, 3, 4, 9, 30, 43, 44, 1000):
        some = generate(**settings, samples=samples)
        index = spread(44, 4, samples)
        np.testing.assert_array_equal(some.L, whole.L[index])
        np.testing.assert_array_equal(some.head, index % 4)


@given(st.integers(1, 60), st.integers(1, 40), st.integers(1, 3000))
def test_samples_are_distinct_ascending_and_reach_every_head_and_all_of_the_problem(chunks, heads, samples):
    total = chunks * heads
    index = spread(total, heads, samples)
    assert len(index) == min(samples, total)
    assert (np.diff(index) > 0).all() and index[0] >= 0 and index[-1] < total
    if samples >= heads:
        assert len(set(index % heads)) == heads
    gaps = np.diff(np.concatenate([index // heads, [chunks]]), prepend=0)
    assert gaps.max() <= math.ceil(chunks / len(index)), "no stretch of chunks is left out"


def test_matrices_are_ordered_sequence_chunk_head_and_value_heads_share_keys():
    batch = generate(8, (20, 8), heads=4, key_heads=2, head_dim=4, samples=None, seed=3)
    layout = Layout((20, 8), 8, 4)
    keys = key_source(layout, 4, 0.3, 3)
    for matrix, (sequence, chunk) in enumerate([(0, 0), (0, 1), (0, 2), (1, 0)]):
        for head in range(4):
            beta, g = gate_model("qwen3.5").draw(3, sequence, chunk, head, 8)
            k = keys(sequence, chunk, head // 2)
            n = len(k)
            expected = np.zeros((8, 8))
            expected[:n, :n] = delta_matrix(k, beta[:n], g[:n])
            np.testing.assert_allclose(batch.L[4 * matrix + head], expected, rtol=1e-12, atol=1e-15)
            assert batch.head[4 * matrix + head] == head


def test_a_short_last_chunk_is_padded_so_that_its_inverse_is_padded_with_the_identity():
    batch = generate(16, (21,), heads=2, head_dim=8, samples=None)
    padded = batch.L[2:]
    assert (padded[:, 5:] == 0).all() and (padded[:, :, 5:] == 0).all() and (padded[:, 1, 0] != 0).all()
    np.testing.assert_array_equal(
        reference_inverse(padded)[:, 5:, 5:], np.broadcast_to(np.eye(11), (2, 11, 11))
    )


def test_a_problem_of_so_many_matrices_cycles_over_sixteen_heads():
    batch = generate_matrices(40, 8, samples=None)
    np.testing.assert_array_equal(batch.head, np.arange(40) % 16)
    assert batch.total == 40 and len(generate_matrices(5, 8).L) == 5
    some = generate_matrices(40, 8, samples=16)
    assert set(some.head) == set(range(16))
    assert (some.L.reshape(16, 1, -1) == batch.L.reshape(1, 40, -1)).all(-1).any(1).all()
    assert len(generate_matrices(20, 8, samples=17).L) == 17


def test_the_default_problem_is_as_hard_as_a_trained_model():
    batch = generate(128, (8192,) * 16, heads=16, key_heads=16)
    assert 25 < np.abs(batch.L).sum(axis=2).max() < 45, "||L||_inf = 37.3 was seen in a 27B model"
    assert "qwen3.5" in batch.description and "0.3" in batch.description


def test_seeds_and_gate_models_make_different_problems():
    problems = [
        generate(8, (64,), 2, seed=seed, gates=gates, samples=4).L
        for seed, gates in ((0, "qwen3.5"), (1, "qwen3.5"), (0, "qwen3-next"))
    ]
    assert not any((a == b).all() for a, b in zip(problems, problems[1:] + problems[:1], strict=True))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"chunk": 0}, "--chunk"),
        ({"sequences": ()}, "--seq-len"),
        ({"sequences": (5, 0)}, "--seq-len"),
        ({"key_heads": 3}, "--heads: 4 value heads are no multiple of 3 key heads"),
        ({"head_dim": 0}, "--head-dim"),
        ({"samples": 0}, "--samples"),
        ({"seed": -1}, "--seed"),
        ({"key_correlation": 1.0}, "--key-correlation"),
        ({"gates": "llama"}, "gate model 'llama'"),
    ],
)
def test_a_setting_that_makes_no_problem_is_refused_by_name(settings, message):
    with pytest.raises(InputError, match=message):
        generate(**{"chunk": 8, "sequences": (16,), "heads": 4} | settings)


# The exact inverse


@pytest.mark.parametrize("size", [1, 2, 15, 16, 17, 64, 100])
def test_the_reference_inverse_equals_scipys_triangular_solve(size):
    linalg = pytest.importorskip("scipy.linalg")
    L = lower(np.random.default_rng(size), 4, size, 0.5 / math.sqrt(size))
    inverse = reference_inverse(L)
    for one, matrix in zip(inverse, L, strict=True):
        expected = linalg.solve_triangular(
            np.eye(size) + matrix, np.eye(size), lower=True, unit_diagonal=True
        )
        assert np.linalg.norm(one - expected) <= 1e-13 * np.linalg.norm(expected)
    assert (np.triu(inverse, 1) == 0).all() and (inverse.diagonal(axis1=1, axis2=2) == 1).all()


def test_a_badly_scaled_inverse_is_exact_to_a_few_units_in_the_last_place():
    rng = np.random.default_rng(5)
    scale = 10.0 ** rng.integers(-12, 13, 24)
    L = lower(rng, 1, 24, 1.0) * scale[:, None] / scale
    exact = [[Fraction(int(i == j)) for j in range(24)] for i in range(24)]
    for i in range(24):
        for j in range(i):
            exact[i][j] = -sum((Fraction(L[0, i, p]) * exact[p][j] for p in range(j, i)), Fraction(0))
    expected = np.array([[float(x) for x in row] for row in exact])
    inverse = reference_inverse(L)[0]
    bound = 24 * 2.0**-52 * reference_inverse(-np.abs(L))[0]  # Higham, theorem 8.10: sums of absolute values
    assert (np.abs(inverse - expected) <= bound).all()
    assert np.linalg.norm(inverse - expected) <= 1e-14 * np.linalg.norm(expected)


def test_an_alternating_inverse_of_ones_is_its_closed_form():
    inverse = reference_inverse(np.tri(40, k=-1)[None])[0]
    np.testing.assert_array_equal(inverse, np.eye(40) - np.eye(40, k=-1))


def test_an_inverse_beyond_float64_is_not_finite_and_warns_of_nothing():
    assert not np.isfinite(reference_inverse(-1e200 * np.tri(8, k=-1)[None])).all()
    assert reference_inverse(np.zeros((0, 8, 8))).shape == (0, 8, 8)


def test_a_large_batch_gives_the_same_as_its_parts(monkeypatch):
    L = lower(np.random.default_rng(1), 30)
    whole = reference_inverse(L)
    monkeypatch.setattr("npusim.matrices.BLOCK_BYTES", 20 * 20 * 8 * 4)
    np.testing.assert_allclose(reference_inverse(L), whole, rtol=1e-13, atol=1e-15)
