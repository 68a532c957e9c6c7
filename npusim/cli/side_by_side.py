"""What people see of a comparison: one table, with fewer columns where they do not fit, and what is missing
from it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from npusim.cli.render import decibel, error, exactness, named, table, us
from npusim.comparison import Row
from npusim.kernels import KernelEntry
from npusim.shares import percent

FIGURES = (
    "time us", "speed-up", "rel. error", "worst", "mean SNR dB", "worst SNR dB", "not finite", "taken on",
)  # fmt: skip
"""the columns of a comparison that are aligned right"""
LEAST = (
    "taken on",
    "mean SNR dB",
    "worst",
    "worst SNR dB",
    "dominant unit",
    "bound",
    "out",
    "variant",
    "not finite",
)
"""the columns that are left out first where there is no room for all"""
UPRIGHT = 3
"""configurations that are shown as columns where their rows do not fit"""


def comparison(console: Console, entry: KernelEntry, rows: list[Row]) -> None:
    """The one table of `npusim compare`, and the reasons of what is missing from it.

    A row per configuration, with as many columns as fit the width; of two or three, a column per
    configuration where not all fit.
    """
    done = [row for row in rows if row.result]
    profiles = {row.profile for row in rows}
    title = entry.name + (f" on {next(iter(profiles))}" if len(profiles) == 1 else "")
    bases = [
        name
        for name in entry.baselines
        if any(name in row.speedups and row.algorithm != name for row in done)
    ]
    if len(profiles) == 1:  # the speed-up column is against the first row
        bases = [name for name in bases if name != rows[0].algorithm]
    columns = [_comparison_row(row, len(profiles) == 1, bases) for row in done]
    formats = [str(row.result.kernel.settings.get("out_dtype", "")) for row in done if row.result]
    if len(set(formats)) > 1:
        columns = [{**column, "out": text} for column, text in zip(columns, formats, strict=True)]
    if columns:
        wide = _table(title, columns, list(columns[0]))
        if _width(console, wide) <= console.width:
            console.print(wide)
        elif len(columns) <= UPRIGHT:
            _upright(console, title, columns)
        else:
            _fewer(console, title, columns)
    for line in (*_chosen(done), *_expected(done, several=len(profiles) > 1)):
        console.print(line, style="dim")
    for row in rows:
        if row.result is None:
            console.print(f"{row.algorithm} on {row.profile}: {row.why}", style="yellow")
    if rows[0].result is None and any(row.result and row.result.report for row in rows):
        first = f"{rows[0].algorithm} on {rows[0].profile}"
        console.print(f"no speed-ups: the baseline, {first}, has no time", style="yellow")


def _chosen(done: list[Row]) -> list[str]:
    """What each algorithm was built with, once for all profiles on which that is the same."""
    places: dict[str, dict[str, list[str]]] = {}
    for row in done:
        assert row.result
        kernel = row.result.kernel
        exact = exactness(kernel, row.result.problem.chunk)
        parts = [f"variant {kernel.variant}", *named(kernel.settings), *([exact] if exact else [])]
        places.setdefault(row.algorithm, {}).setdefault(", ".join(parts), []).append(row.profile)
    return [
        (f"{name} on {', '.join(where)}: " if len(texts) > 1 else f"{name}: ") + text
        for name, texts in places.items()
        for text, where in texts.items()
    ]


def _expected(done: list[Row], several: bool) -> list[str]:
    """One line on how wrong the times may be, with the rows of each size where there is more than one."""
    sizes: dict[str, list[str]] = {}
    for row in done:
        known = row.result.expected if row.result else None
        if known is not None:
            size = "unknown" if known.error is None else percent(known.error, 0)
            size += ", extrapolated" if known.error is not None and known.extrapolated else ""
            sizes.setdefault(size, []).append(
                f"{row.algorithm} on {row.profile}" if several else row.algorithm
            )
    said = [f"{size} ({', '.join(names)})" if len(sizes) > 1 else size for size, names in sizes.items()]
    return [f"expected error of the times: {'; '.join(said)}"] if said else []


def _width(console: Console, made: Table) -> int:
    """The width a table would like."""
    return console.measure(made, options=console.options.update(width=10_000)).maximum


def _fewer(console: Console, title: str, columns: list[dict[str, str]]) -> None:
    """The columns that matter most, as many as there is room for, and where the others are. A table for each
    profile where its column does not fit."""
    every = list(columns[0])
    names, dropped = list(every), []
    against = [name for name in every if name.startswith("vs ")]
    for name in [name for name in (*LEAST, "profile", *against) if name in names]:
        if _width(console, _table(title, columns, names)) <= console.width:
            break
        names.remove(name)
        dropped.append(name)
    for name in reversed(dropped):  # a narrow one may fit where a wide one had to go
        wider = [one for one in every if one in names or one == name]
        if _width(console, _table(title, columns, wider)) <= console.width:
            names = wider
    if "profile" in columns[0] and "profile" not in names:
        for profile in dict.fromkeys(column["profile"] for column in columns):
            own = [column for column in columns if column["profile"] == profile]
            console.print(_table(f"{title} on {profile}", own, names))
    else:
        console.print(_table(title, columns, names))
    left = [name for name in columns[0] if name not in names and name != "profile"]
    console.print(f"no room for {', '.join(left)}: widen the terminal, or --json", style="dim")


def _table(title: str, columns: list[dict[str, str]], names: list[str]) -> Table:
    right = [n for n, name in enumerate(names) if name in FIGURES or name.startswith("vs ")]
    made = table(title, *names, right=right)
    for column in columns:
        made.add_row(*(column[name] for name in names))
    return made


def _upright(console: Console, title: str, columns: list[dict[str, str]]) -> None:
    """A column per configuration, as many side by side as there is room for."""
    while columns:
        count = next(n for n in range(len(columns), 0, -1) if n == 1 or _fits(console, title, columns[:n]))
        console.print(_upright_table(title, columns[:count]))
        columns = columns[count:]


def _fits(console: Console, title: str, columns: list[dict[str, str]]) -> bool:
    return _width(console, _upright_table(title, columns)) <= console.width


def _upright_table(title: str, columns: list[dict[str, str]]) -> Table:
    right = range(1, 1 + len(columns))
    made = table(title, "", *(column["algorithm"] for column in columns), right=right)
    for name in list(columns[0])[1:]:
        made.add_row(name, *(column[name] for column in columns))
    return made


def _comparison_row(row: Row, one_profile: bool, baselines: list[str]) -> dict[str, str]:
    assert row.result
    report, numerics = row.result.report, row.result.numerics
    cells = {"algorithm": row.algorithm, "variant": row.result.kernel.variant}
    if not one_profile:
        cells["profile"] = row.profile
    if report:
        top = report.units[report.dominant_unit].utilisation
        cells |= {
            "time us": us(report.task_us), "speed-up": _times(row.speedup),
            **{f"vs {name.partition('-')[0]}": _times(row.speedups.get(name)) for name in baselines},
            "bound": report.bound, "dominant unit": f"{report.dominant_unit} {percent(top)}",
        }  # fmt: skip
    if numerics:
        errors, computed = numerics.errors, numerics.computed
        cells |= {
            "rel. error": error(errors.relative_error), "worst": error(errors.worst_relative_error),
            "mean SNR dB": decibel(errors.snr_db), "worst SNR dB": decibel(errors.worst_snr_db),
            "not finite": str(errors.nonfinite), "taken on": f"{computed.samples} of {computed.total}",
        }  # fmt: skip
    return cells


def _times(speedup: float | None) -> str:
    return f"{speedup:.2f}x" if speedup else "-"
