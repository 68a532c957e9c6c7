"""A decoder as kernels: what the host calls for each layer, in prefill and in decoding.

The layers are those of Qwen3.5 and Kimi Linear as the public reference computes them (transformers, qwen3_5,
and the published modeling_kimi), with the fusions that inference engines make: the residual is added in the
norm after it, projections of one input are one product where their outputs are used alike. What is left out
stands in docs/layers.md. Sizes are those of one device (`Model.shard`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from algorithms.masked_start import start_options
from algorithms.model_config import find_model
from algorithms.models import MODELS, Attention, Delta, Experts, FeedForward, Mixer, Model
from npusim.builder import Call, Decoders, Layer, Options, Pass, Problem, Stack


def stack(model: Model, one: Pass) -> Stack:
    """All of a model: each kind of layer, the order in which they come, and the head of the last tokens."""
    kinds = list(dict.fromkeys(model.layers))
    layers = [Layer(_kind(model, kind), tuple(_layer(model, one, *kind))) for kind in kinds]
    order = [kinds.index(kind) for kind in model.layers]
    head = Layer("head", tuple(_head(model, one)))
    return Stack(model.name, (*layers, head), (*order, len(layers)))


def delta_net(d: Delta, one: Pass) -> Layer:
    """The stages of a delta net by themselves, from normalised queries and keys to o."""
    return Layer("delta net", tuple(_chunks(one, d)))


def _kind(model: Model, kind: tuple[Mixer, FeedForward]) -> str:
    mixer, feed_forward = kind
    mixed = len({feed for _, feed in model.layers}) > 1
    return f"{mixer}, {feed_forward}" if mixed else mixer


def _layer(model: Model, one: Pass, mixer: Mixer, feed_forward: FeedForward) -> Iterator[Call]:
    at = _At(one, model.hidden)
    yield at.residual("norm before", "mixed")
    yield from (_delta(at, model.delta) if mixer == "delta" else _attention(at, model.attention))
    yield at.residual("norm after", "mixed")
    if feed_forward == "dense":
        assert model.dense
        yield from at.feed_forward(model.dense, "x", "mixed")
    else:
        assert model.experts
        yield from _experts(at, model.experts)


def _head(model: Model, one: Pass) -> Iterator[Call]:
    """Logits of the last token of each sequence."""
    sizes = {"m": one.batch, "dtype": one.dtype}
    yield Call("last norm", "rmsnorm", Problem.parse(n=model.hidden, **sizes), values={"y": "last"})
    yield Call(
        "logits", "matmul", Problem.parse(n=model.vocabulary, k=model.hidden, **sizes), values={"a": "last"}
    )


class _At:
    """Calls on the tokens of a pass, with `hidden` columns."""

    def __init__(self, one: Pass, hidden: int) -> None:
        self.one, self.hidden = one, hidden

    def matmul(self, label: str, n: int, k: int, a: str, c: str) -> Call:
        problem = Problem.parse(m=self.one.tokens, n=n, k=k, dtype=self.one.dtype)
        return Call(label, "matmul", problem, values={"a": a, "c": c})

    def residual(self, label: str, added: str) -> Call:
        """x = norm(hidden + added), and the sum."""
        values = {"x": "hidden", "r": added, "s": "hidden", "y": "x"}
        return self.rows(label, "rmsnorm", "residual", self.hidden, values)

    def rows(
        self, label: str, kernel: str, algorithm: str, n: int, values: dict[str, str], each: int = 1
    ) -> Call:
        """A kernel over `each` rows of n for every token."""
        problem = Problem.parse(m=self.one.tokens * each, n=n, dtype=self.one.dtype)
        return Call(label, kernel, problem, Options(algorithm=algorithm), values)

    def feed_forward(self, width: int, x: str, out: str, name: str = "") -> Iterator[Call]:
        """down(silu(gate(x)) * up(x)); gate and up are one product."""
        pair, inner = f"{name}pair", f"{name}inner"
        yield self.matmul(f"{name}gate, up", 2 * width, self.hidden, x, pair)
        yield self.rows(f"{name}silu", "activation", "silu-mul", width, {"x": pair, "y": pair, "z": inner})
        yield self.matmul(f"{name}down", self.hidden, width, inner, out)


# --- the delta net -----------------------------------------------------------------------------------


def _delta(at: _At, d: Delta) -> Iterator[Call]:
    """Projections, convolution, gates, the delta net, the gated norm and the projection back."""
    one, channels = at.one, 2 * d.keys + d.values
    kimi = d.decay == "channel"
    yield at.matmul("q, k, v", channels, at.hidden, "x", "qkv")
    if kimi:
        yield at.matmul("gates down", 2 * d.head_dim + d.heads, at.hidden, "x", "gates")
        yield at.matmul("decay up", d.keys, d.head_dim, "gates", "a")
        yield at.matmul("z up", d.values, d.head_dim, "gates", "z")
    else:
        yield at.matmul("z", d.values, at.hidden, "x", "z")
        yield at.matmul("a, b", 2 * d.heads, at.hidden, "x", "gates")
    conv = Problem.parse(batch=one.batch, seq_len=one.seq_len, n=channels, width=d.conv, dtype=one.dtype)
    step = Options(algorithm="step" if one.seq_len == 1 else "silu")
    yield Call("convolution", "causal-conv1d", conv, step, {"x": "qkv", "y": "q, k, v"})
    yield from _gates(at, d)
    yield from (_recurrent(one, d) if one.decoding else _chunks(one, d))
    values = {"x": "o", "z": "z", "y": "normed o"}
    yield at.rows("gated norm", "rmsnorm", "gated", d.value_dim, values, each=d.heads)
    yield at.matmul("out", at.hidden, d.values, "normed o", "mixed")


def _gates(at: _At, d: Delta) -> Iterator[Call]:
    """beta = sigmoid(b), g = -exp(A_log) softplus(a + dt_bias). For a decay per channel there is no such
    kernel: softplus and sigmoid stand for it, without bias and factor."""
    one = at.one
    if d.decay == "channel":
        yield at.rows("decay", "activation", "softplus", d.keys, {"x": "a", "z": "g"})
        yield at.rows("beta", "activation", "sigmoid", d.heads, {"x": "gates", "z": "beta"})
        return
    sizes = Problem.parse(batch=one.batch, seq_len=one.seq_len, heads=d.heads, dtype=one.dtype)
    values = {"a": "gates", "b": "gates", "g": "g", "beta": "beta"}
    yield Call("gates", "gdn-gates", sizes, values=values)


SHORT, MANY = 2048, 16
"""attention over more tokens is timed over so many, and twice as many: its work is of degree 2 in them. With
fewer sequences and heads than MANY, over longer ones, as tiles of all cores have to balance"""
PREPARED = {"q_given": "q, k, v", "k_given": "q, k, v"}
STAGES = (
    ("L", "gdn-kkt"),
    ("inverse", "tri-inverse"),
    ("u, w", "gdn-wy"),
    ("state", "gdn-state"),
    ("o", "gdn-output"),
)
VALUES = {"v": "q, k, v", "O": "o", **PREPARED}
"""what the tensors of the stages hold, where that has another name"""
TENSORS = (
    "q", "k", "v", "g", "G", "beta", "G_heads", "beta_heads", "L", "P", "T0", "T", "U", "W", "V_new",
    "S_chunks", "O", "q_given", "k_given",
)  # fmt: skip


def _sizes(one: Pass, d: Delta, *names: str) -> Problem:
    known = {
        "chunk": one.chunk, "batch": one.batch, "seq_len": one.seq_len, "heads": d.heads,
        "key_heads": d.key_heads, "head_dim": d.head_dim, "value_dim": d.value_dim, "decay": d.decay,
    }  # fmt: skip
    return Problem.parse(dtype=one.dtype, **{name: known[name] for name in names or known})


def _chunks(one: Pass, d: Delta) -> Iterable[Call]:
    """The chunk-wise form: stage by stage, or in one launch."""
    values = {name: VALUES.get(name, name) for name in TENSORS}
    begun = {"initial_state": True} if one.context else {}  # by the tokens before
    if one.fused:
        whole = _sizes(one, d).model_copy(update=begun)
        return [Call("delta net", "gdn-fused", whole, one.inverse, values, inverse="inside")]
    inverse = one.inverse.model_copy(update={"out_dtype": one.dtype})
    matrices = _sizes(one, d, "chunk", "batch", "seq_len", "heads", "key_heads", "head_dim", "decay")
    scores = Options(**start_options(one.inverse))
    return [
        Call("q, k norm", "gdn-normalise", _sizes(one, d), values=values),
        Call("sum of g", "gdn-cumsum", _sizes(one, d), values=values),
        Call("gates by head", "gdn-transpose", _sizes(one, d), values=values),
        *(
            Call(label, kernel, matrices, inverse, values, inverse="own")
            if kernel == "tri-inverse"
            else Call(
                label,
                kernel,
                _sizes(one, d).model_copy(update=begun if kernel == "gdn-state" else {}),
                scores if kernel == "gdn-kkt" else Options(),
                values=values,
            )
            for label, kernel in STAGES
        ),
    ]


def _recurrent(one: Pass, d: Delta) -> Iterator[Call]:
    """Token by token: the state is read and written, nothing is inverted."""
    names = ("batch", "seq_len", "heads", "key_heads", "head_dim", "value_dim", "decay")
    values = {name: VALUES.get(name, name) for name in TENSORS}
    yield Call("recurrence", "gdn-recurrent", _sizes(one, d, *names), values=values)


# --- attention, experts ------------------------------------------------------------------------------


def _attention(at: _At, a: Attention) -> Iterator[Call]:
    """Projections, norms and rotation of queries and keys, attention, its gate, the projection back."""
    one, keys = at.one, a.key_heads * (a.head_dim + a.value_dim)
    if a.latent:
        yield at.matmul("q", a.heads * a.head_dim, at.hidden, "x", "q, k, v")
        yield at.matmul("latent", a.latent + a.rope, at.hidden, "x", "latent")
        yield at.rows("latent norm", "rmsnorm", "plain", a.latent, {"x": "latent", "y": "latent n"})
        up = a.heads * (a.head_dim - a.rope + a.value_dim)
        yield at.matmul("k, v", up, a.latent, "latent n", "q, k, v")
    else:
        queries = a.heads * a.head_dim * (2 if a.gated else 1)
        yield at.matmul("q, k, v", queries + keys, at.hidden, "x", "q, k, v")
    if a.normed:
        values = {"x": "q, k, v", "y": "q, k, v"}
        yield at.rows("q, k norm", "rmsnorm", "plain", a.head_dim, values, each=a.heads + a.key_heads)
    sizes = {
        "batch": one.batch, "seq_len": one.seq_len, "heads": a.heads, "key_heads": a.key_heads,
        "head_dim": a.head_dim, "dtype": one.dtype,
    }  # fmt: skip
    if a.rotary:
        values = dict.fromkeys(("q", "k", "q_rotated", "k_rotated"), "q, k, v")
        yield Call("rotary", "rotary", Problem.parse(rotary=a.rotary, **sizes), values=values)
    # keys and values of a context come from memory
    fresh = ("q",) if one.context else ("q", "k", "v")
    values = dict.fromkeys(fresh, "q, k, v") | {"o": "o"}
    whole = Problem.parse(value_dim=a.value_dim, context=one.context, **sizes)
    short = SHORT * -(-MANY // (a.heads * one.batch))
    lengths = (short, 2 * short) if one.seq_len > 2 * short else ()
    yield Call("attention", "attention", whole, values=values, lengths=lengths)
    if a.gated:
        values = {"x": "q, k, v", "y": "o", "z": "o"}
        yield at.rows("output gate", "activation", "sigmoid-mul", a.heads * a.value_dim, values)
    yield at.matmul("out", at.hidden, a.heads * a.value_dim, "o", "mixed")


def _experts(at: _At, e: Experts) -> Iterator[Call]:
    """Router, the experts that tokens chose, the shared one, and their weighted sum."""
    one, hidden = at.one, at.hidden
    chosen = {"experts": e.count, "active": e.active}
    sizes = {"m": one.tokens, "dtype": one.dtype}
    router = Problem.parse(k=hidden, **chosen, **sizes)
    yield Call("router", "moe-router", router, values={"x": "x", "weights": "weights"})
    grouped = {**chosen, **sizes, "skew": one.skew}
    yield Call(
        "experts: gate, up", "grouped-matmul", Problem.parse(n=2 * e.width, k=hidden, **grouped),
        values={"x": "x", "y": "pairs"},
    )  # fmt: skip
    values = {"x": "pairs", "y": "pairs", "z": "inner"}
    yield at.rows("experts: silu", "activation", "silu-mul", e.width, values, each=e.active)
    yield Call(
        "experts: down", "grouped-matmul", Problem.parse(n=hidden, k=e.width, **grouped),
        values={"x": "inner", "y": "parts"},
    )  # fmt: skip
    yield from at.feed_forward(e.shared, "x", "shared", name="shared ")
    yield Call(
        "weighted sum", "moe-combine", Problem.parse(n=hidden, active=e.active, **sizes),
        values={"z": "parts", "weights": "weights", "y": "mixed"},
    )  # fmt: skip
    both = {"x": "mixed", "y": "shared", "z": "mixed"}
    yield Call("shared added", "add", Problem.parse(n=hidden, **sizes), values=both)


DECODERS = Decoders(MODELS, find_model, stack)
