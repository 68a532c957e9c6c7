"""The command recommend: the fastest inverse that is exact enough, and the best chunk for the layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from npusim.cli.app import LATER
from npusim.cli.fields import name_list, split, takes
from npusim.cli.kernels import REGISTRY
from npusim.cli.measured import Jobs, workers
from npusim.cli.options import Json, plain, print_json
from npusim.cli.progress import Rows
from npusim.errors import InputError, NpusimError, did_you_mean
from npusim.problem import Options, Problem, refuse
from npusim.settings import EngineSettings, MachineSettings, NumericsSettings

if TYPE_CHECKING:
    from algorithms.models import Delta
    from npusim.machine import Machine
    from npusim.recommend.search import Choice

app = typer.Typer(rich_markup_mode="rich")

SIZES = ("batch", "seq_len", "heads", "key_heads", "head_dim", "value_dim", "decay")
"""of the layer, without a model"""
OF_MODEL = ("heads", "key_heads", "head_dim", "value_dim", "decay")
"""those that a model has"""
LAYER_DTYPES = ("fp16", "bf16")


@app.callback()
def _group() -> None:
    """Keeps `recommend` the name of a command."""


@app.command(help=LATER["recommend"])
@takes(
    Problem,
    MachineSettings,
    NumericsSettings,
    without=frozenset(Problem.model_fields.keys() - set(SIZES))
    | {"inputs", "output", "samples", "timing", "numerics"},
)
def recommend(
    model: Annotated[
        str,
        typer.Argument(
            help=plain("Model (see: npusim list models), or a config.json [default: sizes by options]."),
            metavar="[MODEL]",
        ),
    ] = "",
    chunk: Annotated[str, typer.Option(help="Chunk sizes a,b.", metavar="VALUES")] = "32,64,128",
    dtype: Annotated[str, typer.Option(help="Formats of the inverse a,b.", metavar="NAMES")] = "fp16",
    layer_dtype: Annotated[
        str, typer.Option(help="Format of the layer, in which T is stored: fp16 or bf16.", metavar="NAME")
    ] = "fp16",
    measure: Annotated[
        str,
        typer.Option(
            help="What is bounded: layer-output (RMSE over RMS of o), layer-state, relative-error (of T), "
            "snr or worst-snr (of T, in dB).",
            metavar="NAME",
        ),
    ] = "layer-output",
    bound: Annotated[
        float | None,
        typer.Option(
            help=plain("At most so much, of an SNR at least [default: 5e-3 for layer-output]."),
            metavar="X",
            show_default=False,
        ),
    ] = None,
    algorithms: Annotated[
        str | None,
        typer.Option(help=plain("Choose among a,b [default: all]."), metavar="NAMES", show_default=False),
    ] = None,
    jobs: Jobs = None,
    as_json: Json = False,
    *,
    given: dict[str, Any],
) -> None:
    from algorithms import REGISTRY as KERNELS
    from npusim.cli import recommend_tables as tables
    from npusim.recommend.search import MEASURES, Goal, Search
    from npusim.workers import Workers

    problem, machines, numerics = split(given, Problem, MachineSettings, NumericsSettings)
    if measure not in MEASURES:
        raise InputError(f"--measure: no {measure!r}; {did_you_mean(measure, MEASURES)}")
    if layer_dtype not in LAYER_DTYPES:
        raise InputError(f"--layer-dtype: no {layer_dtype!r}; {did_you_mean(layer_dtype, LAYER_DTYPES)}")
    goal, entry = Goal.of(measure, bound), KERNELS["tri-inverse"]
    chosen = name_list("--algorithms", algorithms) if algorithms else list(entry.algorithms)
    for name in chosen:
        entry.algorithm(name, "--algorithms")
    formats, sizes = name_list("--dtype", dtype), _chunks(chunk)
    for name in formats:
        Problem.parse(dtype=name)
    delta = _delta(model, problem)
    layer = _layer(problem, delta, layer_dtype)
    console = Console(highlight=False, markup=False)
    choices: list[Choice] = []
    with Workers(workers(jobs)) as pool:
        search = Search(entry, REGISTRY, machines, layer, numerics, goal, pool)
        if not as_json:
            tables.settings(console, model, layer, goal, machines, search.machine, chosen)
        with Rows(not as_json, "{}") as tell:
            for one in formats:
                choices += [search.choose(chosen, one, size, tell) for size in sizes]
    if not any(one.tried for one in choices):
        reason = choices[0].refused[0].reason if choices[0].refused else "there is none"
        raise InputError(f"recommend: no inverse can be had: {reason}")
    others = {size: _rest_us(search.machine, layer, delta, size) for size in sizes}
    if as_json:
        print_json(tables.as_json(model, layer, goal, machines, choices, others))
    else:
        tables.show(console, goal, choices, others)


def _chunks(text: str) -> list[int]:
    from npusim.sweep.ranges import values

    return [Problem.parse(chunk=value).chunk for value in values("--chunk", text)]


def _delta(model: str, problem: Problem) -> Delta:
    """The delta net of a model, or that of the sizes that were given."""
    from algorithms.model_config import find_model
    from algorithms.models import Delta

    if model:
        found = find_model(model).delta
        refuse(problem, OF_MODEL, f"the sizes are those of {model}; drop it")
        return found
    if problem.decay == "none":
        raise InputError("--decay: a layer has a gate per head or per channel; drop it")
    keys, values = problem.state_dims
    return Delta(problem.heads, problem.kv_heads, keys, values, decay=problem.decay)


def _layer(problem: Problem, delta: Delta, dtype: str) -> Problem:
    """The sizes of the layer, and the format of its stages."""
    return Problem(
        batch=problem.batch, seq_len=problem.seq_len, heads=delta.heads, key_heads=delta.key_heads,
        head_dim=delta.head_dim, value_dim=delta.value_dim, decay=delta.decay, dtype=dtype,
    )  # fmt: skip


def _rest_us(machine: Machine, layer: Problem, delta: Delta, chunk: int) -> float | str:
    """What the other stages of the delta net take at a chunk size, or why they cannot be timed."""
    from algorithms import REGISTRY as KERNELS
    from algorithms.decoder import delta_net
    from npusim.calls import Pass, Stack
    from npusim.layers import Timer

    one = Pass(
        batch=layer.batch, seq_len=layer.seq_len, context=0, chunk=chunk, dtype=layer.dtype,
        inverse=Options(algorithm="masked-neumann"),
    )  # fmt: skip
    try:
        stages = Stack("delta net", (delta_net(delta, one),), (0,))
        (found,) = Timer(KERNELS, machine, EngineSettings()).time(stages, eager=False).layers
    except NpusimError as error:
        return str(error)
    return found.time_us - (found.inverse_us or 0.0)
