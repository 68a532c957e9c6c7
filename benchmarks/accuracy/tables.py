"""The tables of docs/accuracy.md, from the figures of points."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import inputs
import numpy as np
from points import (
    CHUNKS,
    DTYPES,
    EXACT,
    KEYS,
    LENGTHS,
    LONG_KEYS,
    NEUMANN,
    ORDERS,
    REPORTED,
    RUNS,
    STEPS,
    Figures,
    Point,
    long,
)

Known = dict[Point, Figures]
Lines = Iterator[str]

BOUND = 5e-3
"""RMSE over RMS of o that FLA's tests allow at most"""
PAPER = {
    (64, 1, False): "178 / 96 in fp64, 80 / -18 in fp16",
    (3, 1, False): "42 / -51",
    (3, 8, False): "80 / -4",
    (3, 8, True): "87 / 48",
}
"""SNR in dB, mean / worst, that arXiv 2606.06034 reports; of 64 terms in fp64 and in fp16, of the others in a
format that is not stated"""
MOST = 12
"""S up to which what suffices is looked for; beyond it there is but one, by doubling"""
SOME_STEPS = (1, 2, 3, 4, 6, 8, 10, 12, 16)
DRAWN = tuple(f"keys {correlation:g}" for correlation in inputs.CORRELATIONS)
START = ("I + A", "I + A (..)")
AFTER = ("+ I", "E^s E^s", "+ P E^s", "store T")
"""labels of the operations that write T0, and what comes after it: E, its powers, their sum, T"""


def sections(known: Known) -> dict[str, Callable[[Known], Lines]]:
    """By the name of its place in the page; only those whose points are there."""
    parts = {point.part for point in known}
    return {name: make for name, (make, *needed) in TABLES.items() if parts.issuperset(needed)}


def refresh(page: Path, known: Known) -> None:
    """Put the tables into `page`, each between its two marks."""
    text = page.read_text(encoding="utf-8")
    for name, make in sections(known).items():
        table = "\n".join(make(known))
        marks = re.compile(f"(<!-- table {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text = marks.sub(lambda found, table=table: f"{found[1]}{table}\n{found[2]}", text)
    page.write_text(text, encoding="utf-8")


def paper(known: Known) -> Lines:
    sets = _sets(known, "paper")
    yield from _head("C = 64, SNR in dB, mean / worst", "reported", *sets)
    for dtype in ("fp64", "fp16"):
        rows: dict[str, tuple[Point, str]] = {
            "64 terms by doubling": (Point("paper", dtype, 64, "doubling"), PAPER[REPORTED[0]])
        }
        for terms in REPORTED:
            order, count, mask = terms
            name = "64 terms by Horner" if order == 64 else _named(order, count, mask)
            rows[name] = (Point("paper", dtype, 64, NEUMANN, *terms), PAPER[terms])
        for name, (point, reported) in rows.items():
            yield _row(f"{dtype}, {name}", reported, *(_mean_worst(known[point].get(one)) for one in sets))
    yield ""
    reach = ", ".join(f"{worst_start(chunk):.1f} dB at C = {chunk}" for chunk in (64, 128))
    yield f"No L of entries up to 1 has a worse T0 of N = 3 than {reach}."


def worst_start(chunk: int) -> float:
    """A bound on the SNR of T0 = I + A + A^2: in Frobenius norms |T - T0| / |T| <= 1 + |T0| / |T|, where T0
    is at most d on sub-diagonal d, and the diagonal of T is one."""
    d = np.arange(1, chunk)
    start = math.sqrt(chunk + float(((chunk - d) * d**2).sum()))
    return -20 * math.log10(1 + start / math.sqrt(chunk))


def by_keys(known: Known) -> Lines:
    """SNR, and what the worst head's o makes of it."""
    kinds = [terms for terms in REPORTED if terms[0] == 3]
    names = [f"{dtype} {_named(*terms)}" for dtype in ("fp64", "fp16") for terms in kinds]
    yield from _head("correlation", *names, "o, fp16, no mask / mask")
    for keys in KEYS:
        cells, o = [], []
        for dtype in ("fp64", "fp16"):
            for terms in kinds:
                (one,) = known[Point("keys", dtype, 64, NEUMANN, *terms, keys=keys)].values()
                cells.append(_mean_worst(one))
                if dtype == "fp16" and terms[1] == 8:
                    o.append(_error(one["worst_output"]))
        yield _row(f"{keys:g}", *cells, " / ".join(o))


def by_run(known: Known) -> Lines:
    kinds = [("doubling", None), *((NEUMANN, terms) for terms in REPORTED if terms[0] == 3)]
    names = ["64 terms by doubling" if terms is None else _named(*terms) for _, terms in kinds]
    yield from _head("tokens alike", *(f"{dtype} {name}" for dtype in ("fp64", "fp16") for name in names))
    for run in RUNS:
        cells = []
        for dtype in ("fp64", "fp16"):
            for algorithm, terms in kinds:
                (one,) = known[Point("run", dtype, 64, algorithm, *(terms or ()), run=run)].values()
                cells.append(_db(one["worst_snr_db"]))
        yield _row(str(run), *cells)


def ranges(known: Known) -> Lines:
    """In float64, where nothing is lost: T0 before it is masked, and the largest after it, with the mask and
    without."""
    sets = _range_sets(known)
    yield from _head("S = 8: T0; largest after it, mask / no mask", *sets)
    for chunk, block, orders in ((64, None, ORDERS), (128, 128, (3,))):
        for order in orders:
            cells = []
            for one in sets:
                with_mask, without = (
                    known[Point("range", "fp64", chunk, NEUMANN, order, 8, mask, block, inputs=one)]
                    for mask in (True, False)
                )
                largest = [max(_reached(found, label) for label in AFTER) for found in (with_mask, without)]
                start = max(_reached(without, label) for label in START)
                cells.append(f"{start:.3g}; {largest[0]:.3g} / {largest[1]:.3g}")
            yield _row(f"C = {chunk}, {'in one block, ' if block else ''}N = {order}", *cells)


def _range_sets(known: Known) -> list[str]:
    return list(dict.fromkeys(str(p.inputs) for p in known if p.part == "range" and p.chunk == 64))


def _reached(found: Figures, label: str) -> float:
    return float(found[label]["max_abs"]) if label in found else 0.0


def lost(known: Known) -> Lines:
    """Values that saturate or are not finite, over all matrices of a set."""
    sets = _range_sets(known)
    yield from _head("C = 64, S = 8, mask / no mask", *sets)
    for dtype in ("fp16", "int16", "int8"):
        for order in ORDERS:
            cells = []
            for one in sets:
                counts = []
                for mask in (True, False):
                    point = Point("range", dtype, 64, NEUMANN, order, 8, mask, inputs=one)
                    counts.append(f"{sum(r['lost'] for r in known[point].values())}")
                cells.append(" / ".join(counts))
            yield _row(f"{dtype}, N = {order}", *cells)


def steps(known: Known) -> Lines:
    """In fp16 at C = 64 what each N and S comes to."""
    yield from _head("C = 64, fp16", "N", *(f"S = {count}" for count in SOME_STEPS))
    for name in DRAWN:
        for what in ("worst_snr_db", "worst_output"):
            for order in ORDERS:
                cells = []
                for count in SOME_STEPS:
                    found = [
                        known[Point("grid", "fp16", 64, NEUMANN, order, count, mask)][name][what]
                        for mask in (True, False)
                    ]
                    cells.append(" / ".join(map(_db if what == "worst_snr_db" else _error, found)))
                title = "worst SNR, dB" if what == "worst_snr_db" else "o, worst head"
                yield _row(f"{name}, {title}", str(order), *cells)


def suffices(known: Known) -> Lines:
    """The smallest S with which the worst head's o keeps to what is allowed, with the mask and without."""
    yield from _head(
        "C", "format", "o allowed", *(f"{name}, N = {order}" for name in DRAWN for order in ORDERS)
    )
    for chunk in CHUNKS:
        for dtype in DTYPES:
            limits = [allowed(known, dtype, chunk, name) for name in DRAWN]
            cells = []
            for name, limit in zip(DRAWN, limits, strict=True):
                for order in ORDERS:
                    least = [_least(known, dtype, chunk, order, mask, name, limit) for mask in (True, False)]
                    cells.append(" / ".join(str(count) if count else "-" for count in least))
            yield _row(str(chunk), dtype, "; ".join(map(_error, limits)), *cells)


def allowed(known: Known, dtype: str, chunk: int, name: str) -> float:
    """BOUND, or, where storing L in the format costs more than that already, twice what forward substitution
    in this format comes to."""
    exact = known[Point("inverse", dtype, chunk, EXACT[0])][name]["worst_output"]
    return max(BOUND, float(2 * exact))


def _least(
    known: Known, dtype: str, chunk: int, order: int, mask: bool, name: str, limit: float
) -> int | None:
    """With every larger S up to MOST it does, too: one that is met by chance does not count."""
    least = None
    for count in reversed([count for count in STEPS if count <= MOST]):
        if not known[Point("grid", dtype, chunk, NEUMANN, order, count, mask)][name]["worst_output"] <= limit:
            break
        least = count
    return least


def formats(known: Known) -> Lines:
    """The paper's N and S, and its N = 4, in every format."""
    sets = _sets(known, "grid")
    yield from _head("C = 64, SNR in dB, mean / worst", *sets, *(f"o of {name}" for name in DRAWN))
    for order, count, mask in ((3, 8, True), (3, 8, False), (4, 8, True), (4, 12, True)):
        for dtype in DTYPES:
            found = known[Point("grid", dtype, 64, NEUMANN, order, count, mask)]
            cells = [_mean_worst(found[one]) for one in sets]
            cells += [_error(found[name]["worst_output"]) for name in DRAWN]
            yield _row(f"{dtype}, {_named(order, count, mask)}", *cells)


def hard(known: Known) -> Lines:
    """fp16 on what was made to be hard, beside inverses that are exact."""
    sets = [one for one in _sets(known, "grid") if one not in DRAWN and one != "samples"]
    yield from _head("fp16, worst SNR in dB", "C", *sets)
    for chunk in (64, 128):
        rows = {_named(*terms): Point("grid", "fp16", chunk, NEUMANN, *terms)
                for terms in ((3, 8, True), (3, 8, False), (4, 8, True))}  # fmt: skip
        rows |= {name.partition(":")[0]: Point("inverse", "fp16", chunk, name) for name in EXACT}
        for name, point in rows.items():
            found = known.get(point, {})
            yield _row(name, str(chunk), *(_db(found[s]["worst_snr_db"]) if s in found else "" for s in sets))


def inverses(known: Known) -> Lines:
    """Worst SNR on hard drawn keys, and the worst head's o."""
    hardest = DRAWN[-1]
    yield from _head(f"{hardest}: worst SNR in dB; o", "C", *DTYPES)
    for chunk in CHUNKS:
        for name in EXACT:
            cells = []
            for dtype in DTYPES:
                one = known[Point("inverse", dtype, chunk, name)].get(hardest)
                cells.append(f"{_db(one['worst_snr_db'])}; {_error(one['worst_output'])}" if one else "")
            yield _row(name.partition(":")[0], str(chunk), *cells)


def sequences(known: Known) -> Lines:
    """Errors of o over all tokens, and of the state after the last, in the worst head."""
    columns = [(keys, tokens) for keys in LONG_KEYS for tokens in LENGTHS]
    yield from _head("C = 64: o; state", *(f"keys {keys:g}, {tokens} tokens" for keys, tokens in columns))
    rows = list(dict.fromkeys((p.dtype, p.algorithm, p.order, p.steps, p.mask) for p in long()))
    floors: set[str] = set()
    for dtype, algorithm, order, count, mask in rows:
        points = [Point("long", dtype, 64, algorithm, order, count, mask, keys=keys, tokens=tokens)
                  for keys, tokens in columns]  # fmt: skip
        if dtype not in floors:
            floors.add(dtype)
            yield _row(f"{dtype}, T exact and rounded", *(_layer(known[point]["floor"]) for point in points))
        name = algorithm if order is None else _named(order, count or 0, bool(mask))
        yield _row(f"{dtype}, {name}", *(_layer(known[point]["layer"]) for point in points))


def _sets(known: Known, part: str) -> list[str]:
    """The names of the sets of inputs at C = 64."""
    return next(list(found) for point, found in known.items() if point.part == part and point.chunk == 64)


def _named(order: int, count: int, mask: bool) -> str:
    return f"N = {order}, S = {count}{', mask' if mask else ''}"


def _layer(found: dict[str, float]) -> str:
    return f"{_error(found['worst_output'])}; {_error(found['worst_state'])}"


def _mean_worst(found: dict[str, float] | None) -> str:
    return f"{_db(found['snr_db'])} / {_db(found['worst_snr_db'])}" if found else ""


def _db(x: float) -> str:
    return "not finite" if x == -math.inf else f"{x:.0f}"


def _error(x: float) -> str:
    return f"{x:.1e}" if math.isfinite(x) else "not finite"


def _head(*cells: str) -> Lines:
    yield _row(*cells)
    yield "|" + "---|" * len(cells)


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


TABLES: dict[str, tuple[Any, ...]] = {
    "paper": (paper, "paper"),
    "keys": (by_keys, "keys"),
    "run": (by_run, "run"),
    "range": (ranges, "range"),
    "lost": (lost, "range"),
    "suffices": (suffices, "grid", "inverse"),
    "steps": (steps, "grid"),
    "formats": (formats, "grid"),
    "inverses": (inverses, "inverse"),
    "hard": (hard, "grid", "inverse"),
    "long": (sequences, "long"),
}
"""what makes a table, and the parts whose points it takes"""


def printed(known: Known) -> Iterable[str]:
    for name, make in sections(known).items():
        yield from ("", f"{name}:", "", *make(known))
