"""The tables of docs/accuracy.md, from the figures of points."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import inputs
import numpy as np
from points import (
    CHUNKS,
    CLAIMED,
    DRAWN,
    DTYPES,
    EXACT,
    FORMATS,
    INT8,
    INT16,
    KEYS,
    LENGTHS,
    LONG_KEYS,
    MOST,
    NEUMANN,
    ORDERS,
    REPORTED,
    RUNS,
    STEPS,
    Figures,
    Format,
    Point,
    allowed,
    long,
)
from points import remedies as remedy_points

Known = dict[Point, Figures]
Lines = Iterator[str]

PAPER = {
    (64, 1, False): "178 / 96 in fp64, 80 / -18 in fp16",
    (3, 1, False): "42 / -51",
    (3, 8, False): "80 / -4",
    (3, 8, True): "87 / 48",
}
"""SNR in dB, mean / worst, that arXiv 2606.06034 reports; of 64 terms in fp64 and in fp16, of the others in a
format that is not stated"""
REPEATED = f"run of {inputs.RUN}"
MADE = ("all ones", f"keys {inputs.ALIKE:g}", f"row sums {inputs.ROW_SUM:g}")
"""sets whose keys are all alike"""
SOME_STEPS = (1, 2, 3, 4, 6, 8, 10, 12, 16)
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
    for form in (Format("fp16"), *INT16[:2], *INT8[:2]):
        for order in ORDERS:
            cells = []
            for one in sets:
                counts = []
                for mask in (True, False):
                    point = replace(_neumann("range", form, 64, order, 8, mask), inputs=one)
                    counts.append(f"{sum(r['lost'] for r in known[point].values())}")
                cells.append(" / ".join(counts))
            yield _row(f"{form.name}, N = {order}", *cells)


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
        for form in FORMATS:
            rows = [_neumann("grid", form, chunk, order, MOST, True) for order in ORDERS]
            limits = [allowed(known, rows[0], name) for name in DRAWN]
            cells = []
            for name in DRAWN:
                for row in rows:
                    least = [_least(known, replace(row, mask=mask), name) for mask in (True, False)]
                    cells.append(" / ".join(str(count) if count else "-" for count in least))
            yield _row(str(chunk), form.name, "; ".join(map(_error, limits)), *cells)


def _least(known: Known, row: Point, name: str) -> int | None:
    """With every larger S up to MOST it does, too: one that is met by chance does not count."""
    limit, least = allowed(known, row, name), None
    for count in (count for count in STEPS if count <= MOST):
        if not known[replace(row, steps=count)][name]["worst_output"] <= limit:
            break
        least = count
    return least


def formats(known: Known) -> Lines:
    """The paper's N and S, and its N = 4, in every format."""
    sets = _sets(known, "grid")
    yield from _head("C = 64, SNR in dB, mean / worst", *sets, *(f"o of {name}" for name in DRAWN))
    for order, count, mask in ((3, 8, True), (3, 8, False), (4, 8, True), (4, 8, False), (4, 12, True)):
        for form in FORMATS:
            found = known[_neumann("grid", form, 64, order, count, mask)]
            cells = [_mean_worst(found[one]) for one in sets]
            cells += [_error(found[name]["worst_output"]) for name in DRAWN]
            yield _row(f"{form.name}, {_named(order, count, mask)}", *cells)


def scales(known: Known) -> Lines:
    """What the paper says of int8 and int16, under each choice of scales."""
    yield from _head(
        "C = 64, mask: worst SNR in dB; o, worst head", "N", "format", *(f"S = {count}" for count in CLAIMED)
    )
    for name in DRAWN:
        for order in (3, 4):
            for form in (*INT16, *INT8):
                part = "scales" if form.scaled_for else "grid"
                found = [known[_neumann(part, form, 64, order, count, True)][name] for count in CLAIMED]
                cells = (f"{_db(one['worst_snr_db'])}; {_error(one['worst_output'])}" for one in found)
                yield _row(name, str(order), form.name, *cells)


def remedies(known: Known) -> Lines:
    """Errors of o on drawn keys, and the worst SNR on others."""
    forms = dict.fromkeys(point.format for point in remedy_points())
    rows: dict[tuple[int, str], dict[Format, Figures]] = {}
    for point in remedy_points():
        rows.setdefault((point.chunk, _method(point)), {})[point.format] = known[point]
    yield from _head(
        f"o of {' / '.join(DRAWN)}; worst SNR of captured gates / {REPEATED} / the rest, dB",
        "C", *(form.name for form in forms),
    )  # fmt: skip
    for (chunk, name), found in rows.items():
        yield _row(name, str(chunk), *(_remedied(found[form]) for form in forms))


def _remedied(found: Figures) -> str:
    if not found:
        return ""
    others = [name for name in found if name not in DRAWN]
    groups = ([name for name in others if name not in (REPEATED, *MADE)], [REPEATED], MADE)
    worst = [min(found[name]["worst_snr_db"] for name in group) for group in groups if group]
    o = (_error(found[name]["worst_output"]) for name in DRAWN)
    return f"{' / '.join(o)}; {' / '.join(map(_db, worst))}"


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
    floors: set[str] = set()
    for row in dict.fromkeys(replace(point, keys=None, tokens=None) for point in long()):
        points = [replace(row, keys=keys, tokens=tokens) for keys, tokens in columns]
        name = row.format.name
        if name not in floors:
            floors.add(name)
            yield _row(f"{name}, T exact and rounded", *(_layer(known[point]["floor"]) for point in points))
        yield _row(f"{name}, {_method(row)}", *(_layer(known[point]["layer"]) for point in points))


def _sets(known: Known, part: str) -> list[str]:
    """The names of the sets of inputs at C = 64."""
    return next(list(found) for point, found in known.items() if point.part == part and point.chunk == 64)


def _neumann(part: str, form: Format, chunk: int, order: int, count: int, mask: bool) -> Point:
    return Point(part, chunk=chunk, order=order, steps=count, mask=mask, **form._asdict())


def _method(point: Point) -> str:
    if point.order is not None:
        return _named(point.order, point.steps or 0, bool(point.mask))
    block = f", blocks of {point.block}" if point.block else ""
    return point.algorithm.replace(":", ", ") + block


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
    "scales": (scales, "grid", "scales"),
    "remedies": (remedies, "remedy"),
    "inverses": (inverses, "inverse"),
    "hard": (hard, "grid", "inverse"),
    "long": (sequences, "long"),
}
"""what makes a table, and the parts whose points it takes"""


def printed(known: Known) -> Iterable[str]:
    for name, make in sections(known).items():
        yield from ("", f"{name}:", "", *make(known))
