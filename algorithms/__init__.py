"""Kernels as tile graphs, and the registry of their names."""

from __future__ import annotations

from algorithms import (
    activation,
    add,
    attention,
    bands,
    block_recursion,
    blocked_substitution,
    causal_conv1d,
    column_sweep,
    copy,
    doubling,
    empty,
    forward_substitution,
    gdn_cumsum,
    gdn_fused,
    gdn_gates,
    gdn_kkt,
    gdn_output,
    gdn_prepare,
    gdn_recurrent,
    gdn_state,
    gdn_wy,
    grouped_matmul,
    masked_neumann,
    matmul,
    micro,
    moe_combine,
    moe_router,
    mxr,
    newton_schulz,
    rmsnorm,
    rotary,
    softmax,
    tiled_read,
)
from algorithms.gdn_stage import SIZES, STATE_SIZES
from npusim.builder import Algorithm, KernelEntry

INVERSES = (
    mxr.ALGORITHM,
    forward_substitution.ALGORITHM,
    column_sweep.ALGORITHM,
    blocked_substitution.ALGORITHM,
    doubling.ALGORITHM,
    block_recursion.ALGORITHM,
    newton_schulz.ALGORITHM,
    masked_neumann.ALGORITHM,
)
BASELINES = ("forward-substitution", "blocked-substitution", "mxr")


def _stage(name: str, meaning: str, one: Algorithm, sizes: tuple[str, ...] = SIZES) -> KernelEntry:
    """A stage of a gated delta net."""
    return KernelEntry(name, f"gated delta net: {meaning}", {one.name: one}, sizes, data="sequences")


ENTRIES = (
    KernelEntry(
        "tri-inverse",
        "inverse of unit lower triangular matrices, T = (I + L)^-1, one per chunk and value head",
        {algorithm.name: algorithm for algorithm in INVERSES},
        sizes=(
            "chunk",
            "batch",
            "seq_len",
            "heads",
            "key_heads",
            "head_dim",
            "cu_seqlens",
            "matrices",
            "decay",
        ),
        data="triangles",
        baselines=BASELINES,
    ),
    KernelEntry(
        "gdn-fused",
        "gated delta net in one launch: o and states of q, k, v, g, beta; algorithms are inverses",
        gdn_fused.algorithms(INVERSES),
        sizes=STATE_SIZES,
        data="sequences",
        baselines=BASELINES,
    ),
    _stage("gdn-normalise", "queries and keys normalised, queries scaled", gdn_prepare.NORMALISE),
    _stage("gdn-cumsum", "the gates summed up inside each chunk", gdn_cumsum.ALGORITHM),
    _stage("gdn-transpose", "gates of tokens brought head by head", gdn_prepare.TRANSPOSE),
    _stage("gdn-kkt", "L = tril(beta (K K^T) decay, -1) of each chunk and value head", gdn_kkt.ALGORITHM),
    _stage("gdn-wy", "U = T (beta V), W = T (beta exp(G) K)", gdn_wy.ALGORITHM),
    _stage(
        "gdn-state",
        "the state, chunk after chunk, and V' = U - W S",
        gdn_state.ALGORITHM,
        STATE_SIZES,
    ),
    _stage("gdn-output", "O = exp(G) Q S + tril(Q K^T decay) V'", gdn_output.ALGORITHM),
    KernelEntry(
        "gdn-recurrent",
        "gated delta net token by token, as in decoding: o and states of q, k, v, g, beta and states",
        {gdn_recurrent.ALGORITHM.name: gdn_recurrent.ALGORITHM},
        sizes=tuple(size for size in SIZES if size != "chunk"),
        data="sequences",
        fixed=(("chunk", 1), ("initial_state", True)),
    ),
    KernelEntry(
        "matmul",
        "matrix product, c = a b with a [m, k] and b [k, n]",
        {matmul.ALGORITHM.name: matmul.ALGORITHM},
        sizes=("m", "n", "k"),
        infer=matmul.infer,
    ),
    KernelEntry(
        "activation",
        "elementwise, z = f(x) or z = f(x) y, all [m, n]; algorithms are functions",
        activation.ALGORITHMS,
        sizes=("m", "n"),
        infer=bands.infer,
    ),
    KernelEntry(
        "softmax",
        "softmax over the rows of x [m, n]",
        {softmax.ALGORITHM.name: softmax.ALGORITHM},
        sizes=("m", "n"),
        infer=bands.infer,
    ),
    KernelEntry(
        "rmsnorm",
        "RMSNorm over the rows of x [m, n], with weights w [1, n]",
        rmsnorm.ALGORITHMS,
        sizes=("m", "n"),
        infer=bands.infer,
    ),
    KernelEntry(
        "causal-conv1d",
        "depthwise causal convolution of x [batch, seq_len, n], with weights w [width, n]",
        causal_conv1d.ALGORITHMS,
        sizes=("batch", "seq_len", "n", "width"),
        infer=causal_conv1d.infer,
    ),
    KernelEntry(
        "gdn-gates",
        "gated delta net: beta = sigmoid(b) and g = -exp(A_log) softplus(a + dt_bias)",
        {gdn_gates.ALGORITHM.name: gdn_gates.ALGORITHM},
        sizes=("batch", "seq_len", "heads"),
        infer=gdn_gates.infer,
    ),
    KernelEntry(
        "rotary",
        "rotary embedding of q and k, in place, in the first part of each head",
        {rotary.ALGORITHM.name: rotary.ALGORITHM},
        sizes=("batch", "seq_len", "heads", "key_heads", "head_dim", "rotary"),
        infer=rotary.infer,
    ),
    KernelEntry(
        "attention",
        "o = softmax(q k^T D^-1/2) v, causal or full, of prefill and of decoding (--seq-len 1 --context N)",
        {attention.ALGORITHM.name: attention.ALGORITHM},
        sizes=("batch", "seq_len", "context", "heads", "key_heads", "head_dim", "value_dim"),
    ),
    KernelEntry(
        "moe-router",
        "mixture of experts: softmax(x wr) and its --active largest, x [m, k], wr [k, experts]",
        {moe_router.ALGORITHM.name: moe_router.ALGORITHM},
        sizes=("m", "k", "experts", "active"),
    ),
    KernelEntry(
        "grouped-matmul",
        "mixture of experts: rows of each expert times its weights [k, n]; m tokens, --active rows of each",
        {grouped_matmul.ALGORITHM.name: grouped_matmul.ALGORITHM},
        sizes=("m", "n", "k", "experts", "active", "skew"),
    ),
    KernelEntry(
        "moe-combine",
        "mixture of experts: weighted sum of the --active rows of each of m tokens, rows of n",
        {moe_combine.ALGORITHM.name: moe_combine.ALGORITHM},
        sizes=("m", "n", "active"),
    ),
    KernelEntry(
        "add",
        "elementwise sum, z = x + y, all [m, n]",
        {add.ALGORITHM.name: add.ALGORITHM},
        sizes=("m", "n"),
        infer=bands.infer,
    ),
    KernelEntry(
        "copy",
        "copy through UB, y = x, both [m, n]",
        {copy.ALGORITHM.name: copy.ALGORITHM},
        sizes=("m", "n"),
        infer=bands.infer,
    ),
    *(
        KernelEntry(
            f"copy-gm-{level.lower()}",
            f"tiled reads of x [m, n] into {level}, and no output: --no-numerics",
            {algorithm.name: algorithm},
            sizes=("m", "n"),
            infer=bands.infer,
        )
        for level, algorithm in tiled_read.ALGORITHMS.items()
    ),
    KernelEntry(
        "empty",
        "a kernel that does nothing, on all cores: --no-numerics",
        {empty.ALGORITHM.name: empty.ALGORITHM},
        sizes=(),
    ),
    KernelEntry(
        "micro",
        "micro-benchmarks, one number of a profile each, --m trips on each core: --no-numerics",
        micro.ALGORITHMS,
        sizes=("m",),
    ),
)
REGISTRY: dict[str, KernelEntry] = {entry.name: entry for entry in ENTRIES}
