"""How exact each inverse is, by order and steps, chunk, format and input: the tables of docs/accuracy.md.

  python benchmarks/accuracy [-o accuracy.jsonl] [--gates FILE.npz ...] [--page docs/accuracy.md]

computes what the file of -o does not hold yet, a line a point, and prints the tables, or puts them into a
page. Captured gates (beta, g [tokens, heads]) are not part of the project; without --gates their columns are
left out.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # products of 64 are too small to share

import points
import tables


def main() -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("-o", "--output", type=Path, default=Path("accuracy.jsonl"), help="figures, by point")
    parser.add_argument("--gates", type=Path, nargs="*", default=[], help="captured beta and g (.npz)")
    parser.add_argument("--parts", help="only these, as paper,keys,run,range,remedy,scales,inverse,grid,long")
    parser.add_argument("--page", type=Path, help="put the tables into this page instead of printing them")
    asked = parser.parse_args()
    store = points.Store(asked.output)
    wanted = [p for p in points.points() if not asked.parts or p.part in asked.parts.split(",")]
    compute([point for point in wanted if point not in store.known], store, tuple(asked.gates))
    known = {point: store.known[point] for point in wanted if point in store.known}
    if asked.page:
        tables.refresh(asked.page, known)
        return
    for line in tables.printed(known):
        print(line)


def compute(missing: list[points.Point], store: points.Store, gates: tuple[Path, ...]) -> None:
    """Each of them, with what is left to do on stderr."""
    began = time.monotonic()
    for number, point in enumerate(missing, 1):
        if not points.needed(point, store.known):
            continue
        store.add(point, points.figures(point, gates))
        if number % 20 == 0 or number == len(missing):
            spent = time.monotonic() - began
            left = spent / number * (len(missing) - number)
            print(f"\r{number} of {len(missing)} points, {spent:.0f} s, {left:.0f} s left  ",
                  end="", file=sys.stderr, flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
