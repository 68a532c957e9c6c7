"""Blocked substitution as Triton-Ascend compiles it: the production kernel of chunks up to 64.

Source: structure of solve_tril in vllm-ascend and sgl-kernel-npu (two launches), read in their code:
  1. vector cores only: a program takes 1216 tokens of one head in two tasks of 38 blocks of 16 x 16, solves
     them row by row in fp32 and stores the inverses [tokens, heads, 16].
  2. one matrix per program, products in fp32 on the cube: blocks of 16 are merged to 32, then 64, by
     T21 = -(T22 A21) T11. Every operand is masked, converted and assembled by a vector core and reaches the
     cube through global memory; every product comes back the same way. Programs do not overlap.
Not modelled: the dispatch of each program; the launch between the two kernels (a barrier over all cores
stands for it); a clearing of the output where the caller asks for one (at C = 32 the zero quarter is stored
here instead). Inferred, not read: that one vector core of the two does a program's work; that the products of
a level, which do not need each other, are sent to the cube together. One by one, a matrix would take 1.6
times what was measured.
"""

from __future__ import annotations

from algorithms.floats import working_of
from algorithms.tiles import FRACTAL
from algorithms.tri_inverse import Inverse
from npusim.builder import Access, Index, Item, Place, Tensor, Tile, Unsupported, accumulator_of

BLOCKS, TASKS = 38, 2
"""16-blocks of a task, and tasks of a program: 2 x 38 x 16 = 1216 tokens"""


class Triton:
    """Tiles are named after the first kernel (solve) or the second (merge)."""

    def __init__(self, inverse: Inverse) -> None:
        if inverse.n not in (16, 32, 64):
            raise Unsupported(
                "--chunk: the triton kernel of blocked-substitution takes 16, 32 and 64; "
                f"got {inverse.n}, use --variant textbook"
            )
        self.inverse, self.k, self.n = inverse, inverse.k, inverse.n
        self.working = working_of(inverse.dtype)
        problem, (chunks, self.heads) = inverse.problem, inverse.problem.shape
        equal = problem.matrices is None and problem.cu_seqlens is None
        self.sequences = problem.batch if equal else 1
        """runs of tokens that programs do not cross; sequences of unequal length are taken as one"""
        self.chunks = chunks // self.sequences
        self.per_chunk = self.n // FRACTAL
        self.k.settings["block"] = FRACTAL
        if self.n > FRACTAL:
            tokens = (self.heads, chunks * self.n, FRACTAL)
            self.solved = self.k.workspace("T_ii", tokens, self.working, pitch=self.heads * FRACTAL)

    def emit(self) -> None:
        self.solve_tiles()
        a_program = TASKS * BLOCKS // self.per_chunk
        full, rest = divmod(self.chunks, a_program)
        axes = [("sequence", self.sequences), ("head", self.heads)]

        def whole(items: list[Item]) -> None:
            sequence, head, program = items[0]
            self.program(sequence * self.chunks + program * a_program, head, TASKS * BLOCKS)

        def last(items: list[Item]) -> None:
            sequence, head = items[0]
            self.program(sequence * self.chunks + full * a_program, head, rest * self.per_chunk)

        with self.k.phase("solve", over="vector"):
            if full:
                self.k.items([*axes, ("program", full)], whole)
            if rest:
                self.k.items(axes, last)
        if self.n > FRACTAL:
            merge = Merge(self.inverse, self.working)
            with self.k.phase("merge"):
                self.k.items(self.inverse.axes, lambda items: merge.program(items[0], self.solved))

    # --- first kernel --------------------------------------------------------------------------

    def solve_tiles(self) -> None:
        def ub(name: str, rows: int, dtype: str, scale: float = 1.0) -> Tile:
            return self.k.tile(name, "UB", (rows, FRACTAL), dtype, 1, "replicate", scale)

        self.one = ub("block of L", FRACTAL, self.inverse.dtype, self.inverse.scale)
        self.X = ub("38 blocks", BLOCKS * FRACTAL, self.working)
        self.scratch = ub("copies of them", 2 * BLOCKS * FRACTAL, self.working)
        out = self.inverse.T
        same = self.n > FRACTAL or out.dtype == self.working
        self.out = self.X if same else ub("38 blocks rounded", BLOCKS * FRACTAL, out.dtype, out.scale)

    def program(self, chunk: Index, head: Index, blocks: int) -> None:
        for first in range(0, blocks, BLOCKS):
            self.task(chunk, head, range(first, min(first + BLOCKS, blocks)))

    def task(self, chunk: Index, head: Index, blocks: range) -> None:
        """38 loads of a block, each masked and converted; then all blocks at once."""
        k, X, L = self.k, self.X, self.inverse.L
        k.vector("fill", X, imm=0.0, label="zeros")
        for place, block in enumerate(blocks):
            inside = block % self.per_chunk * FRACTAL
            at = L.at(
                chunk + block // self.per_chunk, head,
                row=inside, rows=FRACTAL, col=inside, cols=FRACTAL,
            )  # fmt: skip
            k.load(self.one, at, label="load L_ii")
            k.vector("masked_cast", X.view(place * FRACTAL, FRACTAL), self.one, label="insert L_ii")
        k.vector("minus_lower", X, X, label="-L_ii")
        for row in range(1, FRACTAL):
            k.vector("block_row_step", X, imm=row, scratch=self.scratch, label="row step")
        k.vector("plus_identity", X, X, label="+ I")
        if self.out is not X:
            k.vector("cast", self.out, X, label="round T")
        if self.n > FRACTAL:
            token = chunk * self.n + blocks.start * FRACTAL
            rows = len(blocks) * FRACTAL
            k.store(self.solved.at(head, row=token, rows=rows), X.view(0, rows), label="store T_ii")
        else:
            for place, block in enumerate(blocks):
                one = self.out.view(place * FRACTAL, FRACTAL)
                k.store(self.inverse.T.at(chunk + block, head), one, label="store T")


class Merge:
    """Second kernel. All tiles in UB lie on the first vector core of the group."""

    def __init__(self, inverse: Inverse, working: str) -> None:
        self.inverse, self.k, self.n, self.working = inverse, inverse.k, inverse.n, working
        self.zero = self.ub("zeros", inverse.T.dtype, self.n // 2, inverse.T.scale)
        self.made: dict[str, Tile] = {}

    def ub(self, name: str, dtype: str, size: int, scale: float = 1.0) -> Tile:
        return self.k.tile(name, "UB", (size, size), dtype, 1, "first", scale)

    def tile(self, name: str, level: str, size: int, dtype: str | None = None, scale: float = 1.0) -> Tile:
        """The tile of this name, the same in every program."""
        if name not in self.made:
            place: Place = "first" if level == "UB" else "cube"
            kind = dtype or self.working
            self.made[name] = self.k.tile(name, level, (size, size), kind, 1, place, scale)
        return self.made[name]

    def program(self, item: Item, solved: Tensor) -> None:
        """One matrix: load and mask all operands, merge 16 to 32, 32 to 64, store."""
        k, n = self.k, self.n
        chunk, head = item
        blocks = []
        for i in range(n // FRACTAL):
            source = solved.at(head, row=chunk * n + i * FRACTAL, rows=FRACTAL)
            blocks.append(self.loaded(f"T{i}{i}", source, self.working, 1.0))
        size = FRACTAL
        while size < n:
            blocks = self.level(item, blocks, size)
            size *= 2
        self.store(item, blocks[0])
        k.barrier("core", on="first")

    def level(self, item: Item, blocks: list[Tile], size: int) -> list[Tile]:
        """Pairs of blocks of `size` become blocks twice as large; the products of all pairs go together."""
        inverse, pairs = self.inverse, range(0, len(blocks), 2)
        below = []
        for i in pairs:
            row, col = (i + 1) * size, i * size
            source = inverse.L.at(*item, row=row, rows=size, col=col, cols=size)
            below.append(self.loaded(f"A{i + 1}{i} of {size}", source, inverse.dtype, inverse.scale))
        halves = self.products(f"T A of {size}", [blocks[i + 1] for i in pairs], below, size)
        wholes = self.products(f"T A T of {size}", halves, [blocks[i] for i in pairs], size)
        merged = []
        for i, corner in zip(pairs, wholes, strict=True):
            self.k.vector("muls", corner, corner, imm=-1.0, label="negate")
            block = self.tile(f"T{i // 2}{i // 2} of {2 * size}", "UB", 2 * size)
            self.k.vector("fill", block, imm=0.0, label="zeros")
            for part, (row, col) in ((blocks[i], (0, 0)), (blocks[i + 1], (1, 1)), (corner, (1, 0))):
                view = block.view(row * size, size, col * size, size)
                self.k.vector("copy", view, part, label="insert")
            merged.append(block)
        return merged

    def loaded(self, name: str, source: Access, dtype: str, scale: float) -> Tile:
        """An operand from global memory, masked and converted."""
        raw = self.tile(f"{name} raw", "UB", source.rows, dtype, scale)
        self.k.load(raw, source, label=f"load {name}")
        tile = self.tile(name, "UB", source.rows)
        self.k.vector("masked_cast", tile, raw, label="mask and convert")
        return tile

    def products(self, name: str, lefts: list[Tile], rights: list[Tile], size: int) -> list[Tile]:
        """left right of every pair, from UB to UB through global memory; all go out before one comes back."""
        pairs = enumerate(zip(lefts, rights, strict=True))
        made = [self.multiply(f"{name}, {number}", left, right, size) for number, (left, right) in pairs]
        results = [self.tile(f"{name}, {number}", "UB", size) for number in range(len(made))]
        for result, c in zip(results, made, strict=True):
            self.k.move(result, c, label="back to UB")
        return results

    def multiply(self, name: str, left: Tile, right: Tile, size: int) -> Tile:
        """left right in L0C, both sent there from UB."""
        k = self.k
        ends = {}
        for tile, side, level in ((left, "left", "L0A"), (right, "right", "L0B")):
            staged = self.tile(f"{name}, {side}", "L1", size)
            k.move(staged, tile, label=f"{side} to L1")
            ends[level] = self.tile(f"{name}, {side} in {level}", level, size)
            k.move(ends[level], staged, label=f"L1 to {level}")
        c = self.tile(f"{name} in L0C", "L0C", size, accumulator_of(self.working))
        k.matmul(c, ends["L0A"], ends["L0B"], label=name)
        return c

    def store(self, item: Item, block: Tile) -> None:
        """Four quarters, one of them zero."""
        k, T, half = self.k, self.inverse.T, self.n // 2
        out = block
        if T.dtype != self.working:
            out = self.tile("T rounded", "UB", self.n, T.dtype, T.scale)
            k.vector("cast", out, block, label="round T")
        k.vector("fill", self.zero, imm=0.0, label="zeros")
        for row in (0, half):
            for col in (0, half):
                part = self.zero.view() if col > row else out.view(row, half, col, half)
                k.store(T.at(*item, row=row, rows=half, col=col, cols=half), part, label="store T")
