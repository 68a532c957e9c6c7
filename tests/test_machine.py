"""The machine model: its rules, its units and pools, and what may be changed in it."""

from __future__ import annotations

from typing import Any

import pytest

from npusim.errors import ProfileError
from npusim.machine import (
    STRUCTURE,
    Evidence,
    Machine,
    Share,
    documented_only,
    override,
    quantities,
    rebuild,
    validate,
)
from npusim.problem import Target
from npusim.profiles import load_machine, raw_profile


def number(value: float) -> dict[str, Any]:
    return {"value": value, "source": "a test", "evidence": "assumed"}


def toy_with(path: str, new: object) -> Machine:
    """The toy profile with `new` in the place of what stands at `path`."""
    data = load_machine("toy").model_dump()
    *parents, leaf = path.split(".")
    node: Any = data
    for step in parents:
        node = node[step]
    node[leaf] = new
    return validate(data, "toy.yaml")


def test_a_split_core_has_nine_units_and_a_fused_one_seven() -> None:
    split, fused = load_machine("ascend-910b2"), load_machine("ascend-310p3")
    assert not split.fused and len(split.units) == 9
    assert fused.fused and len(fused.units) == 7
    assert "aiv_mte2" not in fused.units and "aiv_scalar" not in fused.units


def test_rates_of_the_chip_are_converted_at_the_core_clock() -> None:
    machine = load_machine("ascend-910b2")
    assert machine.cycles_per_us == pytest.approx(1800)
    assert machine.memory.hbm_efficiency is not None
    reached = 1750 * machine.memory.hbm_efficiency.value
    assert 1200 < reached < 1750
    assert machine.pool_bytes_per_cycle("hbm") == pytest.approx(reached / 1.8)
    assert machine.pool_bytes_per_cycle("l2") == pytest.approx(7780 / 1.8)
    plain = load_machine("ascend-310p3")  # says nothing of what transfers reach
    nominal = plain.memory.hbm_gb_per_s.value
    assert plain.pool_bytes_per_cycle("hbm") == pytest.approx(nominal / plain.clock_ghz.value)


def test_a_machine_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_machine("toy").name = "mine"  # type: ignore[misc]


def test_numbers_are_listed_by_path_and_optional_ones_only_where_given() -> None:
    toy = quantities(load_machine("toy"))
    assert toy["core.cube.k0.fp16"].value == 16
    assert toy["core.vector.functions.add.latency_cycles"].value == 10
    assert "core.l1_port_bytes_per_cycle" not in toy
    assert "paths.l0c_gm.partial_line_cycles" in quantities(load_machine("ascend-910b2"))


@pytest.mark.parametrize(
    ("path", "new", "message"),
    [
        ("core.cube.startup_cycles", number(-3), "core.cube.startup_cycles: must be >= 0, got -3"),
        ("clock_ghz", number(0), "clock_ghz: must be > 0, got 0"),
        ("core.groups", number(2.5), "core.groups: must be a whole number, got 2.5"),
        ("core.groups", number(True), "core.groups: must be a whole number, got true"),
        ("memory.hbm_gb_per_s", number(float("inf")), "memory.hbm_gb_per_s: must be finite, got inf"),
        ("core.cube", 3, "core.cube: must be a mapping, got 3"),
        ("core.cube.latency_cycles", 3, "core.cube.latency_cycles: must be {value, source, evidence}, got 3"),
        ("paths.gm_l3", {}, "paths.gm_l3.unit: missing"),
        ("family", "gpu", "family: must be 'ascend' or 'generic', got 'gpu'"),
        ("levels.L3", {"bytes": number(1)}, "levels.L3: must be 'L1', 'L0A', 'L0B', 'L0C' or 'UB', got 'L3'"),
        ("core.flags.pairs", {"aic_mac": number(1)}, "core.flags.pairs: 'aic_mac' is not 'unit->unit'"),
    ],
)
def test_a_wrong_field_is_named_with_its_path(path: str, new: object, message: str) -> None:
    with pytest.raises(ProfileError) as caught:
        toy_with(path, new)
    assert str(caught.value).startswith(f"toy.yaml: {message}")
    assert "\n" not in str(caught.value)


def test_a_path_joins_two_levels_by_a_unit_that_the_core_has() -> None:
    good = load_machine("toy").model_dump()["paths"]["gm_l1"]
    with pytest.raises(ProfileError, match=r"paths\.gm_l3: not 'from_to' of two levels"):
        toy_with("paths.gm_l3", good)
    with pytest.raises(ProfileError, match=r"paths\.gm_ub\.unit: a fused core has no aiv_mte2"):
        toy_with("core.vector_cores", number(0))


def test_levels_of_one_memory_have_one_size() -> None:
    assert (
        len({level.bytes.value for level in load_machine("hexagon-class").levels.values() if level.memory})
        == 1
    )
    data = raw_profile("hexagon-class")
    data["levels"]["UB"] = data["levels"]["UB"] | {"bytes": number(1024)}
    with pytest.raises(ProfileError, match=r"levels\.\w+\.bytes: differs from the other levels of 'tcm'"):
        validate(data, "hexagon-class.yaml")


def test_every_level_is_needed() -> None:
    data = raw_profile("toy")
    del data["levels"]["UB"]
    with pytest.raises(ProfileError, match=r"toy\.yaml: levels: UB missing"):
        validate(data, "toy.yaml")


def test_override_changes_one_number_and_marks_it_assumed() -> None:
    machine = load_machine("ascend-910b2")
    changed = override(machine, {"core.groups": 12, "clock_ghz": 1.5})
    new = quantities(changed)
    assert new["core.groups"].value == 12 and isinstance(new["core.groups"].value, int)
    assert new["clock_ghz"].evidence is Evidence.assumed and new["clock_ghz"].source == "--set"
    same = {path for path, q in quantities(machine).items() if new[path] == q}
    assert set(new) - same == {"core.groups", "clock_ghz"}


def test_override_can_give_a_number_that_the_profile_leaves_out() -> None:
    changed = override(
        load_machine("toy"), {"core.l1_port_bytes_per_cycle": 256, "paths.gm_l1.min_cycles": 5}
    )
    assert changed.core.l1_port_bytes_per_cycle is not None
    assert changed.core.l1_port_bytes_per_cycle.value == 256
    assert quantities(changed)["paths.gm_l1.min_cycles"].value == 5


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "core.cube.startup_cycle",
            3,
            "core.cube.startup_cycle: no such number; did you mean 'core.cube.startup",
        ),
        ("core.cube", 3, "core.cube: is a group of numbers: startup_cycles, latency_cycles, k0.fp16"),
        ("clock_ghz", 1e308, "clock_ghz: must be <= 1e+12, got 1e+308"),
        ("clock_ghz", 1e-300, "clock_ghz: must be >= 1e-09, got 1e-300"),
        ("core.vector_cores", 1e15, "core.vector_cores: must be <= 64, got 1"),
        ("core.cube.startup_cycles", 1e308, "core.cube.startup_cycles: must be <= 1e+12, got 1e+308"),
        ("memory.hbm_bytes", 1e300, "memory.hbm_bytes: must be <= 1e+15, got 1"),
        ("family", 3, "family: no such number"),
        ("clock_ghz.note", 3, "clock_ghz.note: no such number"),
        ("clock_ghz", -1, "clock_ghz: must be > 0, got -1"),
        ("core.groups", 1.5, "core.groups: must be a whole number, got 1.5"),
        ("core.groups", float("inf"), "core.groups: must be a whole number, got inf"),
        ("clock_ghz", float("nan"), "clock_ghz: must be finite, got nan"),
    ],
)
def test_override_refuses_what_is_no_number_of_the_machine(path: str, value: float, message: str) -> None:
    with pytest.raises(ProfileError) as caught:
        override(load_machine("toy"), {path: value})
    assert str(caught.value).startswith(f"toy: {message}")


@pytest.mark.parametrize("name", ["ascend-910b2", "ascend-910c-9391", "ascend-950pr-9599", "ascend-310p3"])
def test_documents_alone_leave_no_assumed_or_fitted_cost(name: str) -> None:
    machine = load_machine(name)
    before, after = quantities(machine), quantities(documented_only(machine))
    for path, old in before.items():
        known = old.evidence in (Evidence.documented, Evidence.measured)
        if path.startswith("core.cube.k0.") and not known:
            assert path not in after  # the documents know of no such products
            continue
        if path == "memory.hbm_efficiency" and not known:
            assert path not in after  # all of the nominal rate
            continue
        kept = known or path in STRUCTURE
        said = old.documented or 0  # of a number that was fitted
        assert after[path].value == (old.value if kept else said), path


@pytest.mark.parametrize("name", ["toy", "hexagon-class"])
def test_without_documents_there_is_no_machine(name: str) -> None:
    with pytest.raises(ProfileError, match=rf"{name}: clock_ghz is assumed, and without it there is no"):
        documented_only(load_machine(name))


def test_rebuild_replaces_the_numbers_that_a_function_returns() -> None:
    toy = load_machine("toy")
    doubled = rebuild(toy, lambda path, q: number(2 * q.value) if path.endswith("latency_cycles") else None)
    for path, q in quantities(toy).items():
        factor = 2 if path.endswith("latency_cycles") else 1
        assert quantities(doubled)[path].value == factor * q.value


def test_several_mistakes_are_counted() -> None:
    data = raw_profile("toy")
    data["clock_ghz"], data["core"]["groups"] = number(-1), number(-2)
    with pytest.raises(ProfileError, match=r"clock_ghz: must be > 0, got -1 \(and 1 more\)$"):
        validate(data, "x.yaml")


def test_an_algorithm_sees_sizes_and_counts_of_a_machine_and_no_cost():
    """What `Target.sees` says, against what changes a target."""
    machine = load_machine("ascend-910b2")
    seen = set()
    for path, number in quantities(machine).items():
        other = number.value / 2 if isinstance(number, Share) else 2 * number.value or 1
        changed = override(machine, {path: other})
        if Target.of(changed) != Target.of(machine):
            seen.add(path)
    assert seen == {path for path in quantities(machine) if Target.sees(path)}
    assert {"core.groups", "core.vector_cores", "levels.L1.bytes"} < seen
