"""What people see of a recommendation: a table, the reasons in words, and the fronts it was chosen from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from npusim.cli.render import decibel, error, field, machine_line, narrow, table, us
from npusim.machine import Machine
from npusim.problem import Problem
from npusim.recommend.candidates import label
from npusim.recommend.judge import Judged
from npusim.recommend.search import DRAWN, MEASURES, PROBED, RUNGS, Choice, Goal
from npusim.settings import MachineSettings
from npusim.shares import percent

SHOWN = 6
"""rows of a front that are shown"""
Rest = Mapping[int, float | str]
"""by chunk size the time of the other stages, or why there is none"""


def settings(
    console: Console,
    model: str,
    layer: Problem,
    goal: Goal,
    machines: MachineSettings,
    machine: Machine,
    algorithms: Sequence[str],
) -> None:
    """What was resolved, before the work begins."""
    net = f"{layer.heads} value heads of {layer.value_dim} on {layer.kv_heads} of {layer.head_dim}"
    field(console, "layer", f"{model or 'delta net'}: {net}, decay per {layer.decay}, {layer.dtype}")
    field(console, "problem", f"{layer.batch} x {layer.seq_len} tokens")
    machine_line(console, machines, [machine])
    field(console, "goal", f"{goal.measure} {_sign(goal)} {goal.bound:g}")
    field(console, "among", ", ".join(algorithms))


def _sign(goal: Goal) -> str:
    return "at least" if MEASURES[goal.measure][1] else "at most"


def show(console: Console, goal: Goal, choices: Sequence[Choice], rest: Rest) -> None:
    """One table of the choices; words; the fronts; what the figures rest on."""
    columns = ("dtype", "C", "fastest exact enough", "us", "vs mxr", "o error", "net us")
    title = "the fastest inverse, and the delta net with it"
    made = narrow(table(title, *columns, right=(1, 3, 4, 5, 6)), 2)
    best = best_chunks(choices, rest)
    for one in choices:
        made.add_row(*_row(one, rest), style="bold" if one.chunk == best.get(one.dtype) else None)
    console.print(made)
    for one in choices:
        console.print(words(one, goal))
    for name, chunk in best.items():
        console.print(f"best chunk for the delta net with an inverse in {name}: {chunk}", style="bold")
    for size, why in rest.items():
        if isinstance(why, str):
            console.print(f"C={size}: no time of the other stages: {why}", style="yellow")
    for one in choices:
        if one.front:
            console.print(_front(one, goal))
    for line in notes(choices):
        console.print(line, style="dim")


def best_chunks(choices: Sequence[Choice], rest: Rest) -> dict[str, int]:
    """By dtype the chunk at which the delta net is fastest, among those with a winner."""
    whole: dict[str, tuple[float, int]] = {}
    for one in choices:
        time = layer_us(one, rest)
        if time is not None:
            whole[one.dtype] = min(whole.get(one.dtype, (math.inf, 0)), (time, one.chunk))
    return {name: chunk for name, (_, chunk) in whole.items()}


def layer_us(one: Choice, rest: Rest) -> float | None:
    """The delta net with the winner: its other stages and the inverse, one after another."""
    others = rest[one.chunk]
    return None if one.winner is None or isinstance(others, str) else others + one.winner.time_us


def _speedup(one: Choice, of: Judged) -> float | None:
    return one.baseline.time_us / of.time_us if one.baseline else None


def _row(one: Choice, rest: Rest) -> list[str]:
    winner = one.winner
    if winner is None or winner.exactness is None:
        return [one.dtype, str(one.chunk), "none", *["-"] * 4]
    return [
        one.dtype, str(one.chunk), label(winner.options, short=True), us(winner.time_us),
        _times(_speedup(one, winner)), error(winner.exactness.output), us(layer_us(one, rest)),
    ]  # fmt: skip


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}x"


def words(one: Choice, goal: Goal) -> str:
    """The reason in words: 'C=64 fp16: masked-neumann N=3 S=8, cube-bound, 2.1x faster than mxr, ..'."""
    start = f"C={one.chunk} {one.dtype}: "
    if one.winner is None or one.winner.exactness is None:
        return start + _none(one, goal)
    winner, found, ratio = one.winner, one.winner.exactness, _speedup(one, one.winner)
    busy = f"{winner.unit} busy {percent(winner.utilisation, 0)}"
    parts = [label(winner.options), f"{winner.bound}-bound ({busy})"]
    if ratio is not None and not (winner.options.algorithm == "mxr" and ratio == 1):
        parts.append(f"{ratio:.2g}x faster than mxr" if ratio >= 1 else f"{1 / ratio:.2g}x slower than mxr")
    parts += [
        f"error of o {found.output:.1e} (worst head {found.worst_output:.1e}), of the state {found.state:.1e}"
    ]
    parts += [f"worst SNR of T {decibel(found.worst_snr_db)} dB"]
    off = "unknown" if winner.expected_error is None else percent(winner.expected_error, 0)
    if winner.extrapolated:
        parts.append(f"time extrapolated, expected error {off} ({'; '.join(winner.extrapolated)})")
    else:
        parts.append(f"time inside what was measured, expected error {off}")
    text = start + ", ".join(parts)
    text += f"; exact enough on {winner.held} of {DRAWN} draws of inputs"
    if one.stays is not None:
        often = percent(one.stays, 0)
        text += f"; of those like it in this, within 30 %, the fastest in {often} of draws of the uncertain "
        text += "numbers"
        if one.rivals:
            rival, share = one.rivals[0]
            text += f" (in {percent(share, 0)} it is {label(rival.options)})"
    return text


def _none(one: Choice, goal: Goal) -> str:
    """Why there is no winner, and what comes nearest."""
    if not one.tried:
        reason = one.refused[0].reason if one.refused else "there are no candidates"
        return f"nothing can be built: {reason}"
    nearest = min(one.front, key=goal.badness, default=None)
    if nearest is None:
        return "no candidate gave errors"
    value = goal.badness(nearest) * (-1 if MEASURES[goal.measure][1] else 1)
    said = "infinite" if math.isinf(value) else f"{value:.2g}"
    return f"none of {one.tried} candidates is exact enough; nearest {label(nearest.options)}: {said}"


def _front(one: Choice, goal: Goal) -> Any:
    """Time against error, what nothing beats in both."""
    columns = ("", "us", "vs mxr", "o error", "state", "worst SNR")
    title = f"C={one.chunk} {one.dtype}: what nothing beats in time and {goal.measure}"
    made = narrow(table(title, *columns, right=range(1, len(columns))), 0)
    rows = [row for row in one.front if goal.nearly(row)] or list(one.front[-1:])  # what is no result is none
    if len(rows) > SHOWN:  # around the winner
        at = next((n for n, row in enumerate(rows) if one.winner and row.options == one.winner.options), 0)
        start = min(max(0, at - SHOWN // 2), len(rows) - SHOWN)
        rows = rows[start : start + SHOWN]
    for row in rows:
        found = row.exactness
        if found is None:
            continue
        won = one.winner is not None and row.options == one.winner.options
        made.add_row(
            label(row.options, short=True), us(row.time_us), _times(_speedup(one, row)), error(found.output),
            error(found.state), decibel(found.worst_snr_db),
            style="bold" if won else None,
        )  # fmt: skip
    return made


def notes(choices: Sequence[Choice]) -> list[str]:
    """What the figures rest on."""
    tried, judged = sum(one.tried for one in choices), sum(one.judged for one in choices)
    fewer = " (the others fell behind on fewer heads)" if judged < tried else ""
    lines = [
        f"{tried} candidates, {judged} of them judged on {RUNGS[-1]} heads x {PROBED['seq_len']} tokens with "
        f"generated keys and gates{fewer}; errors are what T alone does: the other stages are exact",
        "net us: all stages of the delta net one after another, without projections; the inverse stores T "
        "in the layer's format",
    ]
    if any(one.dtype not in ("fp16", "bf16") for one in choices):
        lines.append(
            "an inverse in another format reads L in that format: that the stage before stores it so is not "
            "counted"
        )
    reasons: dict[str, list[str]] = {}
    for row in (row for one in choices for row in one.refused):
        reasons.setdefault(row.reason.partition(";")[0], []).append(str(row.options.algorithm))
    for reason, names in reasons.items():
        lines.append(f"left out: {', '.join(dict.fromkeys(names))}: {reason}")
    return lines


def as_json(
    model: str,
    layer: Problem,
    goal: Goal,
    machines: MachineSettings,
    choices: Sequence[Choice],
    rest: Rest,
) -> dict[str, Any]:
    """The JSON of `npusim recommend`."""
    return {
        "model": model or None,
        "problem": layer.model_dump(mode="json", include={
            "batch", "seq_len", "heads", "key_heads", "head_dim", "value_dim", "decay", "dtype",
        }),
        "goal": {"measure": goal.measure, "bound": goal.bound},
        "choices": [
            {
                "dtype": one.dtype, "chunk": one.chunk, "winner": _judged(one, one.winner),
                "words": words(one, goal), "delta_net_us": layer_us(one, rest), "stays": one.stays,
                "rivals": [{"share": share, **(_judged(one, row) or {})} for row, share in one.rivals],
                "front": [_judged(one, row) for row in one.front],
                "tried": one.tried, "judged": one.judged,
                "refused": [{"candidate": label(row.options), "reason": row.reason} for row in one.refused],
            }
            for one in choices
        ],
        "best_chunk": best_chunks(choices, rest),
        "notes": notes(choices),
        "settings": machines.model_dump(mode="json"),
    }  # fmt: skip


def _judged(choice: Choice, one: Judged | None) -> dict[str, Any] | None:
    if one is None:
        return None
    found = one.exactness

    def plain(value: float) -> float | None:
        return value if math.isfinite(value) else None

    return {
        "candidate": label(one.options),
        "options": one.options.model_dump(mode="json", exclude_none=True),
        "time_us": one.time_us, "speedup": _speedup(choice, one), "bound": one.bound, "unit": one.unit,
        "utilisation": one.utilisation, "expected_error": one.expected_error,
        "extrapolated": list(one.extrapolated), "held": one.held or None, "draws": DRAWN,
        "errors": {name: plain(float(value)) for name, value in vars(found).items()} if found else None,
    }  # fmt: skip
