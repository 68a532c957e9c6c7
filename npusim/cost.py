"""Every timing formula, and nothing else. The numbers are the machine's; none hides here.

A formula gives a `Cost` whose terms say which profile field contributes how many cycles, so that a
report can trace time back to numbers and their evidence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from npusim.errors import Unsupported
from npusim.instructions import HandOver, Instruction
from npusim.machine import Machine, Path
from npusim.ops import MASK_SETTINGS, VECTOR

FRACTAL = 16
"""rows and columns of a fractal: the cube's granularity on all Ascend generations"""

Terms = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Cost:
    """Cycles on a unit. The unit is occupied for `occupancy`; the result is visible `latency` later."""

    occupancy: float
    latency: float = 0.0
    instructions: int = 1
    terms: Terms = ()
    latency_terms: Terms = ()


def fractals(size: int, unit: int = FRACTAL) -> int:
    return -(-size // unit)


def product(machine: Machine, m: int, n: int, k: int, dtype: str, steps: int | None = None) -> Cost:
    """Cube: start-up + one cycle per 16 x 16 x k0 step.

    `steps`: number of 16x16x16 fractal products where operands have empty fractals; None: dense.
    """
    cube = machine.core.cube
    if dtype not in cube.k0:
        has = ", ".join(sorted(cube.k0))
        raise Unsupported(
            f"{machine.name}: the cube has no {dtype} (it has {has}); use --no-timing or --dtype"
        )
    k0 = cube.k0[dtype].value
    if steps is None:
        cycles = float(fractals(m) * fractals(n) * fractals(k, k0))
    else:
        cycles = float(math.ceil(steps * FRACTAL / k0)) if steps else 0.0
    return Cost(
        cube.startup_cycles.value + cycles,
        cube.latency_cycles.value,
        terms=(("core.cube.startup_cycles", cube.startup_cycles.value), (f"core.cube.k0.{dtype}", cycles)),
        latency_terms=(("core.cube.latency_cycles", cube.latency_cycles.value),),
    )


# --- vector ----------------------------------------------------------------------------------


def vector(machine: Machine, function: str, rows: int, cols: int, inner: int, bytes_each: float) -> Cost:
    """Vector unit: the instructions a function expands into, in 256-byte repeats.

    `rows` x `cols` is the destination on one vector core (or what is reduced to its column), `inner` the rows
    of the last source.
    """
    op = VECTOR[function]
    steps = op.expand(rows, cols, inner) if op.expand else [Instruction(function, rows, cols)]
    terms: dict[str, float] = {}
    latency: Terms = ()
    for position, step in enumerate(steps):
        if isinstance(step, HandOver):
            for field, cycles in latency:
                _add(terms, field, cycles)
            latency = ()
            _add_hand_over(machine, step, terms)
        else:
            latency = _add_instruction(machine, step, bytes_each, terms, position == len(steps) - 1)
    count = sum(step.count for step in steps if isinstance(step, Instruction))
    return Cost(sum(terms.values()), sum(c for _, c in latency), count, tuple(terms.items()), latency)


def _add_instruction(
    machine: Machine, item: Instruction, bytes_each: float, terms: dict[str, float], last: bool
) -> Terms:
    """Add an instruction's occupancy to `terms`; return the latency that its result still needs and that is
    not charged yet."""
    unit = machine.core.vector
    if item.function not in unit.functions:
        raise Unsupported(f"{machine.name}: the vector unit has no {item.function}")
    function = unit.functions[item.function]
    field = f"core.vector.functions.{item.function}"
    slope, name = function.cycles_per_repeat, "cycles_per_repeat"
    if bytes_each <= 2 and function.cycles_per_repeat_16bit is not None:
        slope, name = function.cycles_per_repeat_16bit, "cycles_per_repeat_16bit"
    repeats = math.ceil(item.rows * item.cols * bytes_each / unit.repeat_bytes.value)
    _add(terms, f"{field}.{name}", item.count * repeats * slope.value)
    if item.masked or item.rows * item.cols == 1:
        _add(terms, "core.vector.mask_cycles", item.count * MASK_SETTINGS * unit.mask_cycles.value)
    latency = function.latency_cycles.value
    hidden = item.count - 1 if last else item.count
    if item.dependent:
        _add(terms, f"{field}.latency_cycles", hidden * latency)
        if not last:
            return ()
    return ((f"{field}.latency_cycles", latency),)


def _add_hand_over(machine: Machine, turn: HandOver, terms: dict[str, float]) -> None:
    """Per turn the flags vector -> scalar -> vector, and the scalar work between them."""
    to_scalar, from_scalar = (
        flag_field(machine, "aiv_vec", scalar_of(machine, "aiv_vec")),
        flag_field(machine, scalar_of(machine, "aiv_vec"), "aiv_vec"),
    )
    for field, cycles in (to_scalar, from_scalar):
        _add(terms, field, turn.count * cycles)
    work = {"ub_read_cycles": turn.reads, "ub_write_cycles": turn.writes, "alu_cycles": turn.alus}
    for name, times in work.items():
        if times:
            cycles = getattr(machine.core.scalar, name).value
            _add(terms, f"core.scalar.{name}", turn.count * times * cycles)


def _add(terms: dict[str, float], field: str, cycles: float) -> None:
    terms[field] = terms.get(field, 0.0) + cycles


# --- transfers -------------------------------------------------------------------------------


def transfer(
    machine: Machine,
    key: str,
    rows: int,
    row_bytes: float,
    apart_bytes: float = 0,
    instructions: int = 1,
    missed: float = 0.0,
    quantised: str = "",
) -> Cost:
    """A move over path `key`: see `machine.Path`. `rows` and `row_bytes` are those of one instruction.

    `apart_bytes`: bytes of a row in global memory where rows are not adjacent there, else 0. `missed`: the
    share of the bytes that L2 does not hold. `quantised`: 'int32->int8' where the move changes the format so.
    """
    path = find_path(machine, key)
    field = f"paths.{key}"
    terms: dict[str, float] = {}
    row_time = row_bytes / path.bytes_per_cycle.value
    body = {"bytes_per_cycle": rows * row_time}
    least = _least_of_a_row(path, missed)
    if sum(least.values()) > row_time:
        body = {name: rows * cycles for name, cycles in least.items() if cycles}
    if path.min_cycles and path.min_cycles.value > sum(body.values()):
        body = {"min_cycles": path.min_cycles.value}
    for name, cycles in body.items():
        terms[f"{field}.{name}"] = instructions * cycles
    if path.startup_cycles:
        terms[f"{field}.startup_cycles"] = instructions * path.startup_cycles.value
    if path.half_rate_bytes:
        # rate(B) = peak B / (B + half) is the same as a start-up of half / peak
        terms[f"{field}.half_rate_bytes"] = (
            instructions * path.half_rate_bytes.value / path.bytes_per_cycle.value
        )
    if path.partial_line_cycles and apart_bytes % machine.memory.l2_line_bytes.value:
        terms[f"{field}.partial_line_cycles"] = instructions * rows * path.partial_line_cycles.value
    if quantised in path.quantise_cycles:
        terms[f"{field}.quantise_cycles.{quantised}"] = instructions * path.quantise_cycles[quantised].value
    latency = {f"{field}.latency_cycles": path.latency_cycles.value}
    if missed and key.startswith("gm") and machine.memory.hbm_latency_cycles:
        latency["memory.hbm_latency_cycles"] = missed * machine.memory.hbm_latency_cycles.value
    return Cost(
        sum(terms.values()), sum(latency.values()), instructions, tuple(terms.items()), tuple(latency.items())
    )


def _least_of_a_row(path: Path, missed: float) -> dict[str, float]:
    """Cycles by field: rows that miss L2 are under way for longer, so that fewer of them pass."""
    hit = path.row_min_cycles.value if path.row_min_cycles else 0.0
    if path.missed_row_min_cycles is None:
        return {"row_min_cycles": hit}
    return {
        "row_min_cycles": (1 - missed) * hit,
        "missed_row_min_cycles": missed * path.missed_row_min_cycles.value,
    }


def find_path(machine: Machine, key: str) -> Path:
    if key not in machine.paths:
        start, end = key.upper().split("_")
        raise Unsupported(f"{machine.name}: no path from {start} to {end}; add paths.{key} to the profile")
    return machine.paths[key]


# --- scalar, flags, barriers, launch -----------------------------------------------------------


def scalar(machine: Machine, function: str, times: int = 1) -> Cost:
    """Scalar instructions in a row: 'read' or 'write' of an element of UB, or 'alu'."""
    fields = {"read": "ub_read_cycles", "write": "ub_write_cycles", "alu": "alu_cycles"}
    if function not in fields:
        raise Unsupported(f"no scalar function {function!r}; known: {', '.join(fields)}")
    cycles = times * getattr(machine.core.scalar, fields[function]).value
    return Cost(cycles, terms=((f"core.scalar.{fields[function]}", cycles),))


def scalar_of(machine: Machine, unit: str) -> str:
    """The scalar unit that issues to `unit`."""
    return "aic_scalar" if machine.fused or unit.startswith("aic") else "aiv_scalar"


def flag_field(machine: Machine, source: str, target: str, cross: bool = False) -> tuple[str, float]:
    """Field and cycles of the flag from one unit to another, of one core or across cores."""
    flags = machine.core.flags
    if cross:
        return "core.flags.cross_core_cycles", flags.cross_core_cycles.value
    pair = f"{source}->{target}"
    if pair in flags.pairs:
        return f"core.flags.pairs.{pair}", flags.pairs[pair].value
    return "core.flags.default_cycles", flags.default_cycles.value


def barrier(machine: Machine, scope: str) -> Cost:
    """What a barrier costs beyond waiting: over one unit, all units of a core, or all cores."""
    field = {"core": "core_cycles", "all": "all_cores_cycles"}.get(scope, "unit_cycles")
    cycles = getattr(machine.core.barriers, field).value
    return Cost(cycles, terms=((f"core.barriers.{field}", cycles),))


def start_cycles(machine: Machine, core: int) -> float:
    """When core group number `core` issues its first instruction, from the start of the first."""
    launch = machine.launch
    return (core * launch.dispatch_us.value + launch.setup_us.value) * machine.cycles_per_us


def event_us(machine: Machine, task_us: float) -> float:
    """From one kernel to the next, issued one after another, as the host's events see it: a host that issues
    more slowly than the device runs makes the device wait."""
    return max(task_us + machine.launch.event_us.value, machine.launch.host_us.value)


def task_overhead_us(machine: Machine, mixed: bool) -> float:
    """Task duration beyond core time; `mixed`: cube and vector cores take part."""
    return machine.launch.base_us.value + (machine.launch.mixed_us.value if mixed else 0.0)


def launch_us(machine: Machine, mixed: bool) -> float:
    """Until all cores of a kernel have begun, counted in its task duration."""
    last = start_cycles(machine, machine.core.groups.value - 1)
    return task_overhead_us(machine, mixed) + last / machine.cycles_per_us
