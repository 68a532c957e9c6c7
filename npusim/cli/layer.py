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
from npusim.cli.render import field, machine_line, percent, size, table, us
from npusim.errors import InputError
from npusim.problem import Options
from npusim.settings import EngineSettings, LayerSettings, MachineSettings

if TYPE_CHECKING:
    from algorithms.decoder import Pass
    from algorithms.models import Model
    from npusim.layers import LayerTime, StackTime, Timer

app = typer.Typer(rich_markup_mode="rich")
WIDE = 96
"""columns of a terminal that show L2 as well"""
DECODED = 8192
"""tokens that a decoded one follows, if nothing is said"""
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
    from algorithms.model_config import find_model
    from npusim.kernels import check_known, own_options
    from npusim.layers import Timer

    asked, options, machines, engine = split(given, LayerSettings, Options, MachineSettings, EngineSettings)
    found, entry = find_model(model), REGISTRY["tri-inverse"]
    _refuse(asked, options, found, inverse)
    chosen = name_list("--inverse", "mxr" if inverse is None else inverse)
    check_known(entry, chosen, options, "--inverse")
    own = {name: own_options(entry, name, options) for name in chosen}
    part, machine = found.shard(asked.tensor_parallel), machines.machine()
    one = _pass(asked, options)
    console = Console(highlight=False, markup=False)
    if not as_json:
        _settings(console, found, one, asked, machines, machine)
    with Progress(enabled=not as_json) as tick:
        timer = Timer(REGISTRY, machine, engine, tick)
        times = {name: _timed(timer, part, one.with_inverse(own[name]), asked) for name in chosen}
    if as_json:
        settings = asked.model_dump(mode="json") | {"seq_len": one.seq_len, "context": one.context}
        if asked.decode:
            del settings["chunk"]
        else:
            settings |= {"inverse": chosen, **options.model_dump(mode="json", exclude_none=True)}
        settings |= machines.model_dump(mode="json")
        settings |= engine.model_dump(mode="json", include={"exact", "tolerance"})
        print_json(_json(found, machine.name, asked.decode, times) | {"settings": settings})
    else:
        _tables(console, asked.decode, times)


def _refuse(asked: LayerSettings, options: Options, model: Model, inverse: str | None) -> None:
    """InputError for settings that say nothing together."""
    given = [*(["inverse"] if inverse is not None else []), *options.model_fields_set]
    if asked.decode and given:
        flag = min(given).replace("_", "-")
        raise InputError(f"--{flag}: decoding inverts nothing; drop it, or --decode")
    if asked.decode and asked.execution == "fused":
        raise InputError("--execution fused: nothing is fused in decoding; use eager or graph")
    if asked.decode and "seq_len" in asked.model_fields_set:
        raise InputError("--seq-len: one token is decoded; give --context, how many it follows")
    if asked.decode and "chunk" in asked.model_fields_set:
        raise InputError("--chunk: decoding has no chunks; drop it, or --decode")
    if "skew" in asked.model_fields_set and not model.experts:
        raise InputError(f"--skew: {model.name} has no experts; drop it")


def _timed(timer: Timer, model: Model, one: Pass, asked: LayerSettings) -> StackTime:
    """A model with one inverse."""
    from algorithms.decoder import stack

    try:
        return timer.time(stack(model, one), asked.execution == "eager")
    except InputError as error:
        if "(in the layer: " not in str(error):  # a size that no kernel has was refused before there was one
            error.add(f"(in a layer of {model.name})")
        raise


def _pass(asked: LayerSettings, options: Options) -> Pass:
    """The settings as one forward pass."""
    from algorithms.decoder import Pass

    context = (DECODED if asked.decode else 0) if asked.context is None else asked.context
    return Pass(
        batch=asked.batch, seq_len=1 if asked.decode else asked.seq_len, context=context,
        chunk=asked.chunk, dtype=asked.dtype, inverse=options, decoding=asked.decode,
        fused=asked.execution == "fused", skew=asked.skew,
    )  # fmt: skip


def _settings(
    console: Console,
    model: Model,
    one: Pass,
    asked: LayerSettings,
    machines: MachineSettings,
    machine: Any,
) -> None:
    """One block that says what is about to be timed."""
    console.print(Text.assemble((model.name, "bold"), f": {model.meaning}"))
    tokens = "1 token" if asked.decode else f"{one.seq_len} tokens"
    after = f" after {one.context}" if one.context else ""
    chunks = "" if asked.decode else f", chunk {one.chunk}"
    field(console, "pass", f"{one.batch} x {tokens}{after}{chunks}, {one.dtype}, execution {asked.execution}")
    if asked.tensor_parallel > 1:
        field(console, "devices", f"one of {asked.tensor_parallel}; communication is not counted")
    machine_line(console, machines, [machine])


# --- what comes out ----------------------------------------------------------------------------------


def _json(model: Model, profile: str, decode: bool, times: dict[str, StackTime]) -> dict[str, Any]:
    """The JSON of `npusim layer`: the delta layer with the first inverse, then all of it."""
    base = next(iter(times.values()))
    delta = _delta(base)
    first = delta.to_json()
    return {
        "model": model.name,
        "profile": profile,
        "time_us": delta.time_us,
        "breakdown": first["breakdown"],
        "inverse_share": delta.inverse_share,
        "expected_error": base.expected_error,
        "measured_share": base.measured_share,
        "prefill_us": None if decode else base.total_us,
        "decode_us": base.total_us if decode else None,
        "layers": [layer.to_json() for layer in base.layers],
        "inverses": [
            {
                "inverse": name, "inverse_us": _delta(time).inverse_us, "time_us": _delta(time).time_us,
                "inverse_share": _delta(time).inverse_share, "total_us": time.total_us,
                "saving": 1 - _delta(time).time_us / delta.time_us,
                "saving_of_model": 1 - time.total_us / base.total_us,
            }
            for name, time in ({} if decode else times).items()
        ],
    }  # fmt: skip


def _delta(time: StackTime) -> LayerTime:
    """The layer that holds the delta net; of several the most frequent, as where none holds one."""
    holding = [layer for layer in time.layers if layer.layer.kind.startswith("delta")]
    return max(holding or time.layers, key=lambda one: one.count)


def _tables(console: Console, decode: bool, times: dict[str, StackTime]) -> None:
    base = next(iter(times.values()))
    for layer in base.layers:
        console.print(_kernels(layer, wide=console.width >= WIDE))
    console.print(_parts(base, decode))
    off = "unknown" if base.expected_error is None else f"at most {base.expected_error:.0%}"
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


def _side_by_side(times: dict[str, StackTime]) -> Any:
    """What each inverse costs, and saves against the first."""
    first, *_ = times.values()
    columns = ("inverse", "us", "speed-up", "layer us", "saves", "model ms")
    made = table("Inverses, in a delta layer and in the model", *columns, right=range(1, 6))
    for name, time in times.items():
        layer, base = _delta(time), _delta(first)
        own, first_own = layer.inverse_us, base.inverse_us
        speedup = f"{first_own / own:.2f}x" if own and first_own else "-"
        made.add_row(
            name, us(own or None), speedup, us(layer.time_us),
            percent(1 - layer.time_us / base.time_us), f"{time.total_us / 1e3:,.1f}",
        )  # fmt: skip
    return made
