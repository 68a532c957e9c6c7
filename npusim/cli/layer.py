"""The command layer, and its tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from npusim.cli.app import LATER
from npusim.cli.fields import name_list, split, takes
from npusim.cli.options import Json, plain, print_json
from npusim.cli.progress import Progress
from npusim.cli.render import field, machine_line, narrow, size, table, us
from npusim.problem import Options
from npusim.settings import EngineSettings, LayerSettings, MachineSettings
from npusim.shares import percent

if TYPE_CHECKING:
    from npusim.forward import Forward
    from npusim.layers import LayerTime, StackTime

app = typer.Typer(rich_markup_mode="rich")
WIDE = 96
"""columns of a terminal that show L2 as well"""
OF_INVERSES = (
    "variant", "order", "steps", "mask", "schedule", "mask_edge", "mask_on", "block", "iterations",
    "fractals",
)  # fmt: skip
"""options that inverses have"""


@app.callback()
def _group() -> None:
    """Keeps `layer` the name of a command."""


@app.command(help=LATER["layer"])
@takes(
    LayerSettings,
    Options,
    MachineSettings,
    EngineSettings,
    without=frozenset(Options.model_fields.keys() - set(OF_INVERSES))
    | {"trace", "trace_iterations", "what_if", "engine"},
)
def layer(
    model: Annotated[
        str, typer.Argument(help="Model (see: npusim list models), or a config.json.", metavar="MODEL")
    ],
    inverse: Annotated[
        str | None,
        typer.Option(
            help=plain("Inverses a,b or a:variant, side by side, the baseline first [default: mxr]."),
            metavar="NAMES",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
    *,
    given: dict[str, Any],
) -> None:
    from algorithms import REGISTRY
    from algorithms.decoder import DECODERS
    from npusim.forward import Forward
    from npusim.layers import Timer

    asked, options, machines, engine = split(given, LayerSettings, Options, MachineSettings, EngineSettings)
    chosen = None if inverse is None else name_list("--inverse", inverse)
    found = Forward.of(DECODERS, REGISTRY["tri-inverse"], DECODERS.find(model), asked, chosen, options)
    found.model.shard(asked.tensor_parallel)
    machine, one = machines.machine(), found.one
    console = Console(highlight=False, markup=False)
    if not as_json:
        _settings(console, found, machines, machine)
    with Progress(enabled=not as_json) as tick:
        times = found.timed(Timer(REGISTRY, machine, engine, tick))
    if as_json:
        settings = asked.model_dump(mode="json") | {"seq_len": one.seq_len, "context": one.context}
        if asked.decode:
            del settings["chunk"]
        else:
            settings |= {
                "inverse": list(found.inverses),
                **options.model_dump(mode="json", exclude_none=True),
            }
        settings |= machines.model_dump(mode="json")
        settings |= engine.model_dump(mode="json", include={"exact", "tolerance"})
        print_json(found.to_json(machine.name, times) | {"settings": settings})
    else:
        _tables(console, asked.decode, times)


def _settings(console: Console, found: Forward, machines: MachineSettings, machine: Any) -> None:
    """One block that says what is about to be timed."""
    model, asked, one = found.model, found.asked, found.one
    console.print(Text.assemble((model.name, "bold"), f": {model.meaning}"))
    tokens = "1 token" if asked.decode else f"{one.seq_len} tokens"
    after = f" after {one.context}" if one.context else ""
    chunks = "" if asked.decode else f", chunk {one.chunk}"
    field(console, "pass", f"{one.batch} x {tokens}{after}{chunks}, {one.dtype}, execution {asked.execution}")
    if asked.tensor_parallel > 1:
        field(console, "devices", f"one of {asked.tensor_parallel}; communication is not counted")
    machine_line(console, machines, [machine])


# --- what comes out ----------------------------------------------------------------------------------


def _tables(console: Console, decode: bool, times: dict[str, StackTime]) -> None:
    base = next(iter(times.values()))
    for layer in base.layers:
        console.print(_kernels(layer, wide=console.width >= WIDE))
    console.print(_parts(base, decode))
    off = "unknown" if base.expected_error is None else f"at most {percent(base.expected_error, 0)}"
    inside = percent(base.measured_share)
    console.print(
        f"expected error of the total: {off}, if all kernels' point one way; {inside} of the time is taken "
        "by kernels inside what was measured, the rest is extrapolated",
        style="dim",
    )
    for row in (row for layer in base.layers for row in layer.rows if row.call.lengths):
        lengths = ", ".join(map(str, row.call.lengths))
        console.print(f"~ {row.call.label}: on the parabola through {lengths} tokens", style="dim")
    if any(layer.inverse_us is None for layer in base.layers):
        console.print("the inverse is a part of gdn-fused and has no time of its own", style="dim")
    if len(times) > 1:
        console.print(_side_by_side(times))


def _kernels(layer: LayerTime, wide: bool) -> Any:
    many = f"{layer.count} layers" if layer.count > 1 else "once"
    columns = ("what", "kernel", "time us", "share", "bound", "HBM", *(["L2"] if wide else []))
    title = f"{layer.layer.kind}: {us(layer.time_us)} us, {many}"
    made = table(title, *columns, right=(2, 3, 5, 6))
    made.columns[1].no_wrap = made.columns[4].no_wrap = True
    for row in layer.rows:
        found = row.found
        more = [_size(row.l2_bytes)] if wide else []
        bound = "latency" if found.bound == "latency" else found.dominant_unit
        time = ("~" if row.call.lengths else "") + us(found.task_us)
        made.add_row(
            row.call.label, row.call.kernel, time, percent(found.task_us / layer.time_us), bound,
            _size(row.hbm_bytes), *more, style="bold" if row.call.inverse == "own" else None,
        )  # fmt: skip
    if layer.waiting_us:
        share = percent(layer.waiting_us / layer.time_us)
        made.add_row("waiting for the host", "", us(layer.waiting_us), share)
    return made


def _size(count: float | None) -> str:
    return "-" if count is None else size(count, digits=3)


def _parts(time: StackTime, decode: bool) -> Any:
    """What the model's time is made of."""
    what = "one token of each sequence" if decode else "prefill"
    made = table(
        f"{time.model}, {what}: {time.total_us / 1e3:,.1f} ms on the device", "layers", "count", "each us",
        "all ms", "share", "inverse", right=(1, 2, 3, 4, 5),
    )  # fmt: skip
    for layer in time.layers:
        whole = layer.count * layer.time_us
        made.add_row(
            layer.layer.kind, str(layer.count), us(layer.time_us), f"{whole / 1e3:,.1f}",
            percent(whole / time.total_us), percent(layer.inverse_share) if layer.inverse_share else "-",
        )  # fmt: skip
    return made


def _inverse(name: str, layer: LayerTime) -> str:
    """As it was asked for, with its variant where it has a time of its own."""
    variant = next((row.variant for row in layer.rows if row.call.inverse == "own"), "")
    return f"{name.removesuffix(f':{variant}')} {variant}".strip()


def _side_by_side(times: dict[str, StackTime]) -> Any:
    """What each inverse costs, and saves against the first."""
    from npusim.forward import delta_layer

    first, *_ = times.values()
    columns = ("inverse", "us", "speed-up", "layer us", "saves", "model ms")
    made = narrow(table("Inverses, in a delta layer and in the model", *columns, right=range(1, 6)), 0)
    for name, time in times.items():
        layer, base = delta_layer(time), delta_layer(first)
        own, first_own = layer.inverse_us, base.inverse_us
        speedup = f"{first_own / own:.2f}x" if own and first_own else "-"
        made.add_row(
            _inverse(name, layer), us(own or None), speedup, us(layer.time_us),
            percent(1 - layer.time_us / base.time_us), f"{time.total_us / 1e3:,.1f}",
        )  # fmt: skip
    return made
