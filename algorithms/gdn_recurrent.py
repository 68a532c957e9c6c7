"""gdn-recurrent: the delta rule token by token, as in decoding; vector cores only.

  S <- exp(g) S     delta = beta (v - S^T k)     S <- S + k delta^T     o = S^T q
per sequence and value head, S [Dk, Dv] in fp32 (transformers, qwen3_5: torch_recurrent_gated_delta_rule),
queries and keys normalised as in gdn-fused. Columns of S do not depend on each other, so a vector core takes
as many as UB holds together with those it loads or stores meanwhile. With few tokens the states are nearly
all the traffic.
"""

from __future__ import annotations

import numpy as np

from algorithms.floats import working_of
from algorithms.gdn_prepare import lengths
from algorithms.gdn_stage import check_formats
from algorithms.tiles import FRACTAL
from npusim.builder import (
    Algorithm,
    Index,
    Item,
    Kernel,
    KernelBuilder,
    Options,
    Problem,
    Target,
    Tile,
)


class Recurrence:
    """q_given, k_given [tokens, key heads, 1, Dk], v [tokens, heads, 1, Dv], beta [tokens, 1, heads],
    g alike or [tokens, heads, 1, Dk], initial_state [sequences, heads, Dk, Dv] -> O as v, state."""

    def __init__(self, problem: Problem, options: Options, target: Target, variant: str) -> None:
        check_formats("gdn-recurrent", problem)
        self.k = k = KernelBuilder("gdn-recurrent", target, problem.dtype, ALGORITHM.name, variant)
        self.problem, self.dtype, self.decay = problem, problem.dtype, problem.decay
        self.working = working_of(problem.dtype)
        self.tokens, self.heads = problem.shape
        self.key_heads, self.counts = problem.kv_heads, np.array(problem.chunk_counts, dtype=np.int64)
        self.Dk, self.Dv = problem.state_dims
        self.norm, slots = options.qk_norm is not False, options.slots or 2
        self.cols = self._columns(target, slots)
        k.settings.update(qk_norm=self.norm, tile_n=self.cols, slots=slots)
        self.tensors()
        self.tiles(slots)

    def _columns(self, target: Target, slots: int) -> int:
        """Columns of the state of one head that a trip takes: their slots and one more array fit into UB,
        beside some rows."""
        each = 4 * self.Dk * (slots + 1)
        room = target.level_bytes["UB"] - 64 * (self.Dk + self.Dv)
        widths = range(FRACTAL, self.Dv + 1, FRACTAL)
        fits = [cols for cols in widths if self.Dv % cols == 0 and cols * each <= room]
        return fits[-1] if fits else FRACTAL

    def tensors(self) -> None:
        k, H, T = self.k, self.heads, self.tokens
        keys, states = (T, self.key_heads, 1, self.Dk), (len(self.counts), H, self.Dk, self.Dv)
        self.given = {name: k.input(f"{name}_given", keys, self.dtype) for name in "kq"}
        self.v = k.input("v", (T, H, 1, self.Dv), self.dtype)
        self.beta = k.input("beta", (T, 1, H), self.dtype)
        if self.decay != "none":
            shape = (T, H, 1, self.Dk) if self.decay == "channel" else (T, 1, H)
            self.g = k.input("g", shape, self.working)
        self.before, self.O = (
            k.input("initial_state", states, self.working),
            k.output("O", self.v.shape, self.dtype),
        )
        self.after = k.output("state", states, self.working)

    def tiles(self, slots: int) -> None:
        Dk, W, deep = self.Dk, self.cols, 2
        self.S, self.products = self.ub("S", Dk, W, slots=slots), self.ub("products", Dk, W)
        self.stored = {name: self.ub(f"{name} stored", 1, Dk, self.dtype, deep) for name in "kq"}
        self.wide = {name: self.ub(name, 1, Dk) for name in "kq"}
        self.squares, self.length = self.ub("squares", 1, Dk), self.ub("1 / length", 1, 1)
        self.key = self.ub("k as a column", Dk, 1)
        self.v16, self.delta = self.ub("v stored", 1, W, self.dtype, deep), self.ub("delta", 1, W)
        self.read, self.out = self.ub("S^T k, then o", 1, W), self.ub("o stored", 1, W, self.dtype, deep)
        self.b16, self.b = self.ub("beta stored", 1, 1, self.dtype, deep), self.ub("beta", 1, 1)
        if self.decay == "head":
            self.gate = self.ub("g", 1, 1, slots=deep)
        elif self.decay == "channel":
            self.gate, self.decays = self.ub("g", 1, Dk, slots=deep), self.ub("exp g", Dk, 1)

    def ub(self, name: str, rows: int, cols: int, dtype: str | None = None, slots: int = 1) -> Tile:
        return self.k.tile(name, "UB", (rows, cols), dtype or self.working, slots)

    def emit(self) -> None:
        """Deal columns of heads of sequences; the tokens of one in order."""
        parts, H = self.Dv // self.cols, self.heads
        axes = [
            ("sequence", len(self.counts)),
            ("key_head", self.key_heads),
            ("member", H // self.key_heads),
            ("part", parts),
        ]
        equal = bool((self.counts == self.counts[0]).all())
        firsts = None if equal else {"sequence": np.cumsum(self.counts) - self.counts}
        count = int(self.counts[0]) if equal else np.repeat(self.counts, H * parts)

        def item(items: list[Item]) -> None:
            sequence, key_head, member, part, *looked_up = items[0]
            first = sequence * int(self.counts[0]) if equal else looked_up[0]
            head = key_head * (H // self.key_heads) + member
            col, W = part * self.cols, self.cols
            self.k.load(self.S, self.before.at(sequence, head, col=col, cols=W), label="load S")
            self.k.loop(count, lambda i: self.token(first + i, head, key_head, col))
            self.k.store(self.after.at(sequence, head, col=col, cols=W), self.S, label="store S")

        with self.k.phase("recurrence", over="vector"):
            self.k.items(axes, item, tables=firsts)

    def token(self, token: Index, head: Index, key_head: Index, col: Index) -> None:
        k, W = self.k, self.cols
        for name, tensor in self.given.items():
            k.load(self.stored[name], tensor.at(token, key_head), label=f"load {name}")
        k.load(self.v16, self.v.at(token, head, col=col, cols=W), label="load v")
        k.load(self.b16, self.beta.at(token, col=head, cols=1), label="load beta")
        k.vector("cast", self.b, self.b16, label="beta")
        k.vector("cast", self.delta, self.v16, label="widen v")
        self.decayed(token, head)
        self.normalised("k", 1.0)
        k.vector("column", self.key, self.wide["k"], label="k to a column")
        self.product("k", "S^T k")
        k.vector("sub", self.delta, self.delta, self.read, label="v - S^T k")
        k.vector("scale_rows", self.delta, self.delta, self.b, label="times beta")
        k.vector("outer", self.products, self.key, self.delta, label="k delta^T")
        k.vector("add", self.S, self.S, self.products, label="S + k delta^T")
        self.normalised("q", self.Dk**-0.5)
        self.product("q", "S^T q")
        k.vector("cast", self.out, self.read, label="round o")
        k.store(self.O.at(token, head, col=col, cols=W), self.out, label="store o")

    def decayed(self, token: Index, head: Index) -> None:
        """S times exp(g)."""
        k = self.k
        if self.decay == "head":
            k.load(self.gate, self.g.at(token, col=head, cols=1), label="load g")
            k.vector("exp", self.gate, self.gate, label="exp g")
            k.scalar("read", self.gate, on="rows", label="read exp g")
            k.vector("mul_scalar", self.S, self.S, self.gate, label="decay S")
        elif self.decay == "channel":
            k.load(self.gate, self.g.at(token, head), label="load g")
            k.vector("column", self.decays, self.gate, label="g to a column")
            k.vector("exp", self.decays, self.decays, label="exp g")
            k.vector("scale_rows", self.S, self.S, self.decays, label="decay S")

    def normalised(self, name: str, factor: float) -> None:
        """k, or q, of length 1 if so asked, times `factor`, in fp32."""
        k, x = self.k, self.wide[name]
        k.vector("cast", x, self.stored[name], label=f"widen {name}")
        if self.norm:
            lengths(k, x, self.squares, self.length)
            k.vector("scale_rows", x, x, self.length, label=f"normalise {name}")
        if factor != 1.0:
            k.vector("muls", x, x, imm=factor, label=f"scale {name}")

    def product(self, name: str, label: str) -> None:
        """S^T x of the columns at hand, into `read`."""
        k = self.k
        k.vector("fill", self.read, imm=0.0, label="0")
        k.vector("vecmat", self.read, self.wide[name], self.S, scratch=self.products, label=label)


def build(problem: Problem, options: Options, target: Target) -> Kernel:
    """The tile graph; `problem` has chunks of one token, and a state to begin with."""
    recurrence = Recurrence(problem, options, target, ALGORITHM.variant(problem, options, target))
    recurrence.emit()
    return recurrence.k.finish()


ALGORITHM = Algorithm(
    name="vector",
    meaning="columns of the states through UB, token after token; vector cores only",
    source="arXiv 2412.06464; huggingface/transformers, qwen3_5",
    build=build,
    variants={"textbook": "all vector cores, states in two slots"},
    parameters=frozenset({"slots", "qk_norm"}),
)
