"""The label of the bound: which unit, and by what rule; shares of the time by evidence."""

from __future__ import annotations

import pytest

from algorithms import REGISTRY
from npusim.engine.reference import simulate
from npusim.lower import lower
from npusim.problem import Options, Problem, Target
from npusim.profiles import load_machine
from npusim.report import UnitUsage, _bound, summarise
from npusim.totals import of_timeline


def usage(busy: float, occupied: float) -> UnitUsage:
    """Of a core time of 100."""
    return UnitUsage(busy, occupied, busy / 100, busy, {})


@pytest.mark.parametrize(
    ("units", "bound"),
    [
        ({"aic_mac": usage(79, 79), "aic_mte2": usage(60, 50)}, ("latency", "aic_mac")),
        ({"aic_mac": usage(85, 85), "aic_mte2": usage(60, 50)}, ("compute", "aic_mac")),
        ({"aiv_vec": usage(85, 85), "aic_mte2": usage(60, 50)}, ("compute", "aiv_vec")),
        ({"aic_mac": usage(60, 60), "aiv_mte3": usage(81, 70)}, ("memory", "aiv_mte3")),
        # its latency makes the loading unit look busier than the cube, which has no gap
        ({"aic_mac": usage(91, 91), "aic_mte2": usage(93, 71)}, ("compute", "aic_mac")),
        ({"aic_mac": usage(82, 60), "aic_mte2": usage(99, 95)}, ("memory", "aic_mte2")),
        # a scalar unit is no bound
        ({"aic_scalar": usage(99, 99), "aic_mac": usage(20, 20)}, ("latency", "aic_scalar")),
    ],
)
def test_of_the_units_above_80_percent_the_one_occupied_longest_is_the_bound(units, bound):
    assert _bound(units, {"hbm_us": 0.0, "l2_us": 0.0}, 100.0) == bound


def matmul(profile: str, m: int, n: int, k: int, **options: int):
    machine = load_machine(profile)
    kernel = REGISTRY["matmul"].build(Problem(m=m, n=n, k=k), Options(**options), Target.of(machine))
    return summarise(of_timeline(simulate(lower(kernel, machine))), machine)


def test_a_large_product_is_bound_by_the_cube():
    report = matmul("ascend-950pr-9599", 1536, 1536, 8192)
    assert (report.bound, report.dominant_unit) == ("compute", "aic_mac")
    assert report.units["aic_mac"].occupied_us <= report.units["aic_mac"].busy_us


def test_memory_that_loads_and_stores_fill_in_turn_is_the_bound_though_no_unit_is():
    report = matmul("ascend-310p3", 16, 2048, 2048, slots=1)
    assert max(u.utilisation for name, u in report.units.items() if "scalar" not in name) < 0.95
    assert report.roofline["hbm_us"] > 0.8 * report.core_us and report.bound == "memory"
    assert report.dominant_unit in ("aic_mte2", "aiv_mte3")


@pytest.mark.parametrize("size", [16, 64])
def test_no_share_of_the_time_is_more_than_all_of_it(size):
    """Every number of the toy is assumed; costs rounded to the time grid come to 1 + 4e-9 at size 16."""
    report = matmul("toy", size, size, size)
    assert 1 - 1e-6 < report.evidence["assumed"] <= 1
    assert all(share <= 1 for _, share, _ in report.assumed)
