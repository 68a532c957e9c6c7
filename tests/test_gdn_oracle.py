"""gdn-fused held against the public reference: the functions that transformers runs where it has no kernel.

They compute in fp32, on torch. CI has both packages (extra `oracle`); elsewhere these tests may be skipped.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from gated_delta import problem_arrays
from test_gdn import MACHINES

from algorithms import REGISTRY
from npusim.execute import execute
from npusim.problem import Options, Problem, Target
from npusim.sequence_file import Sequence
from npusim.sequences import in_chunks, tokens_first

if not os.environ.get("CI"):
    pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[oracle]'")
    pytest.importorskip("transformers", reason="transformers is not installed: pip install -e '.[oracle]'")


def reference(arrays, chunked):
    """o [T, H, Dv] and state [H, Dk, Dv] of one sequence, by transformers."""
    import torch
    from transformers.models.qwen3_5 import modeling_qwen3_5 as public

    group = arrays["v"].shape[1] // arrays["k"].shape[1]
    q, k = (torch.tensor(np.repeat(arrays[name], group, axis=1)[None]).float() for name in ("q", "k"))
    v, g, beta = (torch.tensor(arrays[name][None]).float() for name in ("v", "g", "beta"))
    state = torch.tensor(arrays["initial_state"]).float() if "initial_state" in arrays else None
    common = {"initial_state": state, "output_final_state": True, "use_qk_l2norm_in_kernel": True}
    function = public.torch_chunk_gated_delta_rule if chunked else public.torch_recurrent_gated_delta_rule
    o, last = function(q, k, v, g=g, beta=beta, **common)
    return o[0].numpy(), last[0].numpy()


@pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "recurrent"])
@pytest.mark.parametrize("initial", [False, True])
@pytest.mark.parametrize(("key_heads", "heads"), [(2, 2), (2, 4), (1, 4)])
@pytest.mark.parametrize(("tokens", "chunk"), [(150, 64), (64, 64), (100, 32)])
def test_the_fused_kernel_is_what_transformers_computes(tokens, chunk, key_heads, heads, initial, chunked):
    arrays = problem_arrays((tokens,), key_heads, heads, 32, 48, initial=initial)
    problem = Problem(
        chunk=chunk, seq_len=tokens, heads=heads, key_heads=key_heads, head_dim=32, value_dim=48,
        initial_state=initial, dtype="fp64",
    )  # fmt: skip
    kernel = REGISTRY["gdn-fused"].build(problem, Options(), Target.of(MACHINES["ascend-910b2"]))
    given = Sequence(
        *(arrays[name] for name in ("q", "k", "v", "g", "beta")), (), arrays.get("initial_state")
    )
    known = in_chunks(given, problem)
    found = execute(kernel, {t.name: known[t.name] for t in kernel.tensors if t.role == "input"})
    o, state = reference(arrays, chunked)
    for result, want in ((tokens_first(found.outputs["O"], problem), o), (found.outputs["state"][0], state)):
        assert np.linalg.norm(result - want) / np.linalg.norm(want) < 1e-5
