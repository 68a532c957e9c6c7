"""The gated delta rule token by token, in float64, from the paper alone, to hold kernels against."""

from __future__ import annotations

import itertools

import numpy as np


def recurrence(q, k, v, g, beta, state=None):
    """o [T, H, Dv] and the last state [H, Dk, Dv] of q, k [T, Hk, Dk], v [T, H, Dv], beta [T, H], g [T, H].

    S <- exp(g) S; S <- S + k (beta (v - S^T k))^T; o = S^T q (Gated DeltaNet, arXiv 2412.06464, equation 10).
    With g [T, H, Dk], S <- diag(exp(g)) S (Kimi Delta Attention, arXiv 2510.26692); with None, S stays
    (DeltaNet, arXiv 2406.06484).
    """
    tokens, heads, width = v.shape
    group = heads // k.shape[1]
    o, states = np.empty(v.shape), np.empty((heads, k.shape[2], width))
    for h in range(heads):
        S = np.zeros((k.shape[2], width)) if state is None else state[h].astype(np.float64)
        for t in range(tokens):
            key, query = k[t, h // group], q[t, h // group]
            if g is not None:
                S = np.exp(g[t, h])[..., np.newaxis] * S
            S = S + np.outer(key, beta[t, h] * (v[t, h] - S.T @ key))
            o[t, h] = S.T @ query
        states[h] = S
    return o, states


def layer(arrays, normalise=True):
    """o and states of all sequences: keys and queries normalised as asked, queries times Dk^-1/2."""
    q, k = arrays["q"], arrays["k"]
    if normalise:
        q, k = (x / np.sqrt((x**2).sum(-1, keepdims=True) + 1e-6) for x in (q, k))
    q = q / np.sqrt(q.shape[-1])
    outputs, states = [], []
    ends = arrays["cu_seqlens"]
    for number, (a, b) in enumerate(itertools.pairwise(ends)):
        initial = arrays["initial_state"][number] if "initial_state" in arrays else None
        g = arrays["g"][a:b] if "g" in arrays else None
        o, state = recurrence(q[a:b], k[a:b], arrays["v"][a:b], g, arrays["beta"][a:b], initial)
        outputs.append(o)
        states.append(state)
    return np.concatenate(outputs), np.stack(states)


def problem_arrays(lengths, key_heads, heads, Dk, Dv, seed=0, initial=False):
    """Inputs with hard heads: gates that hardly decay, keys that resemble each other."""
    rng = np.random.default_rng(seed)
    tokens = sum(lengths)
    k = 0.8 * rng.standard_normal((1, key_heads, Dk)) + rng.standard_normal((tokens, key_heads, Dk))
    decay = np.where(np.arange(heads) % 2, 1e-3, 0.5)  # every other head keeps its state
    arrays = {
        "q": rng.standard_normal((tokens, key_heads, Dk)),
        "k": k,
        "v": rng.standard_normal((tokens, heads, Dv)),
        "g": -decay * rng.random((tokens, heads)),
        "beta": rng.random((tokens, heads)) ** 0.3,
        "cu_seqlens": np.cumsum([0, *lengths]),
    }
    if initial:
        arrays["initial_state"] = rng.standard_normal((len(lengths), heads, Dk, Dv))
    return arrays
