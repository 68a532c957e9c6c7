"""The commands sweep and results: many configurations at once, and what a store knows of them."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from npusim.cli.app import LATER
from npusim.cli.fields import name_list, takes
from npusim.cli.kernels import REGISTRY
from npusim.cli.measured import Jobs, workers
from npusim.cli.options import Json, plain, print_json
from npusim.cli.progress import Points
from npusim.errors import InputError
from npusim.problem import Options, Problem
from npusim.settings import EngineSettings, MachineSettings, NumericsSettings
from npusim.sweep.spec import NOT_SWEPT

if TYPE_CHECKING:
    from npusim.expression import Expression
    from npusim.sweep.run import Plan, Summary
    from npusim.sweep.spec import Spec

app = typer.Typer(rich_markup_mode="rich")

STORE = "npusim-sweep.db"
Cost = Annotated[
    str | None,
    typer.Option(
        help=plain('Rank by an expression over a machine and figures: "cores*a + ub_kib*b, a=3, b=0.1".'),
        metavar="EXPR",
        show_default=False,
    ),
]


@app.command(help=LATER["sweep"])
@takes(Problem, Options, MachineSettings, NumericsSettings, EngineSettings, without=NOT_SWEPT, lists=True)
def sweep(
    what: Annotated[
        str,
        typer.Argument(
            help="Kernel name (see: npusim list kernels), FILE.py:FUNCTION, or a sweep in a file SPEC.yaml.",
            metavar="KERNEL|SPEC.yaml",
        ),
    ],
    store: Annotated[
        str, typer.Option(help="File the points are kept in; a sweep goes on from it.", metavar="FILE")
    ] = STORE,
    jobs: Jobs = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            help="Compute on the workers of a Dask scheduler, tcp://HOST:PORT.",
            metavar="ADDRESS",
            show_default=False,
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            help="Compute part I of N parts of the points, 1/8 to 8/8.", metavar="I/N", show_default=False
        ),
    ] = None,
    cost: Cost = None,
    as_json: Json = False,
    *,
    given: dict[str, Any],
) -> None:
    from npusim.cli import sweep_tables as tables
    from npusim.sweep.run import plan, run
    from npusim.sweep.spec import Spec
    from npusim.sweep.store import Store
    from npusim.workers import Workers

    if cluster is not None and jobs is not None:
        raise InputError("--jobs: the workers are those of --cluster; drop one of the two")
    spec = Spec.read(what, given) if what.endswith((".yaml", ".yml")) else Spec.of(what, given)
    part = _shard(shard)
    expression = _expression(cost)
    wanted = plan(spec, REGISTRY, part)
    console = Console(highlight=False, markup=False)
    with Store(store) as kept, Workers(workers(jobs), cluster) as pool:
        if not as_json:
            tables.settings(console, wanted, store, cluster or _processes(workers(jobs)), part)
        try:
            with Points(not as_json) as tell:
                found = run(wanted, REGISTRY, kept, pool, tell)
        except KeyboardInterrupt:
            done = len(kept.known(wanted.keys))
            again = "the same command goes on from there"
            said = f"npusim: {done:,} of {len(wanted.points):,} points are in {store}; {again}"
            print(said, file=sys.stderr)
            raise
        if as_json:
            print_json(_json(wanted, found, store))
        else:
            tables.swept(console, wanted, found, kept.rows(wanted.keys), store, expression)


def _processes(count: int) -> str:
    return "this process" if count == 1 else f"{count} processes"


def _json(wanted: Plan, found: Summary, store: str) -> dict[str, Any]:
    spec: Spec = wanted.spec
    swept: Mapping[str, Any] = {**spec.fields, **{f"set.{path}": own for path, own in spec.numbers.items()}}
    return found.to_json() | {"store": store, "kernel": spec.kernel, "settings": dict(swept)}


def _shard(text: str | None) -> tuple[int, int]:
    """(i, n) of 'i/n'."""
    if text is None:
        return (1, 1)
    found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise InputError(f"--shard: {text!r} is no part; write I/N with I from 1 to N, as in 1/8")
    return int(found[1]), int(found[2])


def _expression(text: str | None) -> Expression | None:
    from npusim.expression import Expression

    return None if text is None else Expression.parse(text)


@app.command(help=LATER["results"])
def results(
    store: Annotated[str, typer.Argument(help="File of npusim sweep.", metavar="STORE")],
    where: Annotated[
        list[str] | None,
        typer.Option(
            help="Only rows with NAME=VALUE,VALUE.. or NAME<VALUE; != <= > >=, too (repeatable).",
            metavar="TEXT",
            show_default=False,
        ),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            help=plain("Columns a,-b, the first most, - for descending [default: time_us]."),
            metavar="NAMES",
            show_default=False,
        ),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(help="The first row of each group by columns a,b.", metavar="NAMES", show_default=False),
    ] = None,
    pareto: Annotated[
        str | None,
        typer.Option(
            help="Only rows that no other beats in all of the columns a,-b; - where more is better.",
            metavar="NAMES",
            show_default=False,
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            help=plain("Columns a,b to show [default: what varies, and the main figures]."),
            metavar="NAMES",
            show_default=False,
        ),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            min=1, help=plain("Rows to show [default: 20; with --json and --export all]."), show_default=False
        ),
    ] = None,
    status: Annotated[
        str,
        typer.Option(
            help="Rows that are done, skipped, failed, stale (of other code, or of a profile or file that "
            "changed), or all.",
            metavar="NAME",
        ),
    ] = "done",
    cost: Cost = None,
    export: Annotated[
        str | None,
        typer.Option(help="Write the rows to a file, .csv or .parquet.", metavar="FILE", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    from npusim.cli import sweep_tables as tables
    from npusim.errors import did_you_mean
    from npusim.sweep import table
    from npusim.sweep.store import Store

    states = ("done", "skipped", "failed", "stale", "all")
    if status not in states:
        raise InputError(f"--status: no {status!r}; {did_you_mean(status, states)}")
    expression = _expression(cost)
    with Store(store, write=False) as kept:
        rows = kept.rows()
    machines = table.Machines()
    rows = table.marked(rows, machines)
    chosen = [row for row in rows if status in ("all", row.status)]
    held = Counter(row.status for row in rows)
    if not chosen:
        counts = ", ".join(f"{held[one]:,} {one}" for one in states[:-1])
        raise InputError(f"{store}: has no rows of --status {status} ({counts})")
    found = table.frame(chosen)
    if expression:
        found = table.with_cost(found, chosen, expression, machines)
    found = table.where(found, where or [])
    if sort is not None or "time_us" in found.columns:
        found = table.ordered(found, ["time_us"] if sort is None else name_list("--sort", sort))
    if pareto is not None:
        found = table.pareto(found, name_list("--pareto", pareto))
    if group is not None:
        found = table.best(found, name_list("--group", group))
    asked = [] if columns is None else name_list("--columns", columns)
    shown = [table.known(found, one, "--columns") for one in asked]
    whole = found if top is None else found.head(top)
    if export:
        table.write(whole[shown] if shown else whole, export)
    if as_json:
        print_json({"store": store, "rows": tables.records(whole[shown] if shown else whole)})
        return
    console = Console(highlight=False, markup=False)
    tables.rows(console, store, chosen, found, shown, top or 20)
    if held["stale"] and status not in ("stale", "all"):
        said = f"{held['stale']:,} rows of other code, or of a profile or file that changed: --status stale"
        console.print(said, style="dim")
    if export:
        console.print(f"{len(whole):,} rows written to {export}", soft_wrap=True)
