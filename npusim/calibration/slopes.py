"""How a predicted time changes with each number of the profile: slopes read off one simulation.

The time is a sum along the critical path (Kelley and Walker, "Critical-path planning and scheduling", 1959),
in which a cost enters as often as the path passes it, and a rate by the time it takes there. So d time / d
cost = (time that the cost carries) / cost, and d time / d rate = -(time it carries) / rate. A transfer that
shared a pool was not paced by its path's rate but by the pool's. Slopes hold until another path becomes
critical.
"""

from __future__ import annotations

from collections.abc import Mapping

from npusim.ideals import POOLS
from npusim.machine import Cost, Machine, quantities
from npusim.measurements.rows import Clock
from npusim.validation.predict import Prediction

EFFICIENCY = "memory.hbm_efficiency"


def slopes(found: Prediction, machine: Machine, clock: Clock) -> dict[str, float]:
    """d time / d number by path, microseconds per unit of the number, of the time on a clock.

    A number that is zero has none: how often it is met is not known.
    """
    paced: dict[str, float] = {}
    pooled: dict[str, float] = {}
    for (rate, pool), us in found.limited.items():
        paced[rate] = paced.get(rate, 0.0) + us
        pooled[pool] = pooled.get(pool, 0.0) + us
    carried = {field: us - paced.get(field, 0.0) for field, us in found.by_field.items()}
    for pool, us in pooled.items():
        carried[pool] = carried.get(pool, 0.0) + us
    for field in [name for name in carried if name.endswith(".half_rate_bytes")]:
        rate = field.replace("half_rate_bytes", "bytes_per_cycle")  # whose start-up it divides
        carried[rate] = carried.get(rate, 0.0) + carried[field]
    if (
        clock == "event"
        and found.times["event"] > found.times["task_duration"] + machine.launch.event_us.value
    ):
        return {"launch.host_us": 1.0}  # the device waits for the host
    if clock == "core":
        carried = {field: us for field, us in carried.items() if field not in TASK_ONLY}
    if clock == "event" and machine.launch.event_us.value:
        carried["launch.event_us"] = machine.launch.event_us.value
    return _per_unit(carried, machine)


TASK_ONLY = ("launch.base_us", "launch.mixed_us")
"""what the time from the first core's start to the last one's end does not contain"""


def busy_slopes(found: Prediction, machine: Machine, column: str) -> dict[str, float]:
    """The same of the busy time of a unit. Busy time beyond the unit's own costs is shared memory, or
    latency that nothing hides; it is taken to stay."""
    return _per_unit(found.worked.get(column, {}), machine)


def _per_unit(carried: Mapping[str, float], machine: Machine) -> dict[str, float]:
    known = quantities(machine)
    found: dict[str, float] = {}
    for field, us in carried.items():
        number = known.get(field)
        if number is None or not number.value or not us:
            continue
        found[field] = us / number.value if isinstance(number, Cost) else -us / number.value
        if field == POOLS[0] and EFFICIENCY in known:
            found[EFFICIENCY] = -us / known[EFFICIENCY].value
    return found
