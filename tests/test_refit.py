"""A profile with fitted numbers: what is written loads, and is the original's text in all else."""

from __future__ import annotations

import datetime
import functools
import re
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from npusim import profiles, yaml_files
from npusim.errors import InputError, ProfileError
from npusim.machine import Cost, Count, CountOrNone, Evidence, Machine, Rate, quantities
from npusim.profile_edits import WIDTH, _filled
from npusim.profiles import device_names, load_machine
from npusim.refit import Fitted, check_output, refit, write_profile

DATE = datetime.date(2026, 11, 29)
CITATION = "measured.csv: 12 rows of a test"

MINE = """\
# Mine.
extends: base/toy-like.yaml   # beside
name: mine
soc: [Mine1]  # taped out

memory:
  # what the stream test says
  hbm_gb_per_s:
    value: 150     # of 200
    # twice
    source: "a note: of mine"
    evidence: documented
    note: >-
      read,
      not copied
  # no more

core: {cube: {startup_cycles: {value: 3, # three
      source: what if, evidence: assumed}}, # cubes
  flags: {pairs: null}}   # end
launch:
  base_us: {value: 2, source: what if, evidence: assumed}
# The last line is a comment."""
BASE = """\
extends: toy
core: {flags: {pairs: {aic_mte1->aic_mac: {value: 4, source: a sheet, evidence: assumed}}}}
paths: {gm_l1: {min_cycles: {value: 5, source: a sheet, evidence: measured, note: 'it''s'}}}
"""


@pytest.fixture(scope="module", autouse=True)
def parsed_once():
    """Built-in profiles are read again and again here; what was read is never changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profiles, "parse", functools.cache(yaml_files.parse))
        yield


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "toy-like.yaml").write_text(BASE)
    file = tmp_path / "mine.yaml"
    file.write_text(MINE)
    return file


def one(value: float = 7.25, rows: tuple[int, ...] = (3,), error: float | None = None) -> Fitted:
    return Fitted(value, rows, error)


def written(profile: str | Path, target: Path, **fitted: Fitted) -> tuple[str, Machine]:
    """The text of a new profile, and its machine; `core__groups` is core.groups."""
    named = {path.replace("__", "."): number for path, number in fitted.items()}
    text = refit(str(profile), named, CITATION, DATE, target)
    write_profile(target, text)
    return text, load_machine(target)


def lines_of(text: str, key: str) -> str:
    """An entry with the lines that continue it."""
    found = re.search(rf"^( *){key}:.*(\n\1 +.*)*", text, re.MULTILINE)
    assert found, key
    return found.group()


# --- one number ------------------------------------------------------------------------------


def test_a_fitted_number_says_what_the_documents_say_and_how_it_was_fitted(tmp_path: Path) -> None:
    text, machine = written(
        "ascend-910b2", tmp_path / "new.yaml", core__cube__startup_cycles=one(7.5, (4, 3, 5, 9), 0.25)
    )
    assert lines_of(text, "startup_cycles") == (
        "    startup_cycles: {value: 7.5, source: calibration_2, evidence: fitted,\n"
        "      documented: 6, documented_by: pto_isa, "
        'fitted: {rows: "3-5, 9", date: 2026-11-29, standard_error: 0.25},\n'
        '      note: "taken as occupancy: mad = 6 + repeats. PyPTO has no start-up but 20 cycles of latency, '
        "taken\n"
        '        below"}'
    )
    number = machine.core.cube.startup_cycles
    assert (number.value, number.evidence, number.documented, number.documented_by) == (
        7.5,
        Evidence.fitted,
        6,
        "pto_isa",
    )
    shipped = load_machine("ascend-910b2")
    assert number.note == shipped.core.cube.startup_cycles.note
    assert machine.sources == shipped.sources | {"calibration_2": CITATION}


def test_what_was_assumed_or_fitted_before_is_not_documented(tmp_path: Path) -> None:
    fits = {"core__scalar__issue_cycles": one(), "core__flags__cross_core_cycles": one(900)}
    _, machine = written("ascend-910b2", tmp_path / "new.yaml", **fits)
    assert machine.core.scalar.issue_cycles.documented is None
    assert machine.core.flags.cross_core_cycles.documented is None


def test_a_number_fitted_again_keeps_what_the_documents_say(tmp_path: Path) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    written("ascend-910b2", first, core__cube__startup_cycles=one(7), clock_ghz=one(1.75))
    text = refit(str(first), {"core.cube.startup_cycles": one(8)}, "other.csv", DATE, second)
    write_profile(second, text)
    machine = load_machine(second)
    number = machine.core.cube.startup_cycles
    assert (number.value, number.documented, number.documented_by) == (8, 6, "pto_isa")
    assert (number.source, machine.clock_ghz.source) == ("calibration_3", "calibration_2")
    assert (machine.sources["calibration_2"], machine.sources["calibration_3"]) == (CITATION, "other.csv")
    assert machine.description.count("fitted on") == 1


def test_a_count_stays_whole(tmp_path: Path) -> None:
    text, machine = written("toy", tmp_path / "new.yaml", core__scalar__queue_depth=one(16.0))
    assert "queue_depth: {value: 16, " in text and machine.core.scalar.queue_depth.value == 16


# --- numbers that the file does not state ----------------------------------------------------


def test_inherited_and_missing_numbers_are_added_in_the_order_of_the_model(tmp_path: Path) -> None:
    fitted = {
        "launch.base_us": one(6),
        "paths.gm_l1.min_cycles": one(4),
        "paths.gm_l1.bytes_per_cycle": one(80),
        "core.flags.pairs.aic_mte1->aic_mac": one(9),
        "core.cube.startup_cycles": one(7),
    }
    text = refit("ascend-910b1", fitted, CITATION, DATE, tmp_path / "new.yaml")
    keys = re.findall(r"^ *[\w>-]+(?=:)", text, re.MULTILINE)
    assert [key for key in keys if key.strip() not in ("value", "note", "documented", "fitted")] == [
        "name", "description", "extends", "device",
        "sources", "  calibration_2",
        "clock_ghz",
        "core", "  cube", "    startup_cycles", "  flags", "    pairs", "      aic_mte1->aic_mac",
        "paths", "  gm_l1", "    bytes_per_cycle", "    min_cycles",
        "memory", "  hbm_gb_per_s", "  l2_gb_per_s",
        "launch", "  base_us",
    ]  # fmt: skip
    assert "documented: 87, documented_by: pypto" in text
    assert "\n\n\n" not in text and "  gm_l1:\n    bytes_per_cycle:" in text
    assert text.index("min_cycles") < text.index("# Paths are 910B2's") < text.index("memory:")


def test_null_gives_way_to_a_number(tmp_path: Path) -> None:
    text, machine = written("ascend-910b2", tmp_path / "new.yaml", core__l1_port_bytes_per_cycle=one(256))
    assert "l1_port_bytes_per_cycle: {value: 256, source: calibration_2, evidence: fitted," in text
    assert machine.core.l1_port_bytes_per_cycle.value == 256


# --- identity --------------------------------------------------------------------------------


def test_two_machines_share_neither_name_nor_soc(tmp_path: Path) -> None:
    text, machine = written("Ascend910B2", tmp_path / "my b2.yaml", clock_ghz=one(1.75))
    assert machine.name == "my b2" and machine.soc == () and "soc" not in text
    assert machine.description.endswith("1.8 GHz; 1 number fitted on 2026-11-29")
    assert machine.extends is None
    # but rows of its device are predicted on it, and those of a profile that it extends are not
    assert {"ascend-910b2", "Ascend910B2", "my b2"} == device_names(tmp_path / "my b2.yaml")
    written("ascend-910b1", tmp_path / "b1.yaml", clock_ghz=one(1.75))
    assert device_names(tmp_path / "b1.yaml") == {"b1", "ascend-910b1", "Ascend910B1"}


def test_a_file_that_is_rewritten_in_place_stays_who_it_is(mine: Path) -> None:
    text = refit(str(mine), {"clock_ghz": one(2)}, CITATION, DATE, mine)
    assert "name: mine\nsoc: [Mine1]  # taped out\n" in text and "extends: base/toy-like.yaml   #" in text
    with pytest.raises(InputError, match=r"mine\.yaml: exists; name another, or replace it with --force$"):
        write_profile(mine, text)
    write_profile(mine, text, force=True)
    assert load_machine(mine).clock_ghz.value == 2
    assert [path.name for path in mine.parent.iterdir() if path.is_file()] == ["mine.yaml"]


def test_a_base_file_is_found_from_another_folder(mine: Path) -> None:
    (mine.parent / "out").mkdir()
    text, machine = written(mine, mine.parent / "out" / "new.yaml", clock_ghz=one(2))
    assert "extends: ../base/toy-like.yaml   # beside\n" in text
    assert machine.paths["gm_l1"].min_cycles == load_machine(mine).paths["gm_l1"].min_cycles


# --- layouts ---------------------------------------------------------------------------------


def test_blocks_flows_and_comments_of_a_users_file(mine: Path) -> None:
    fits = {
        "memory__hbm_gb_per_s": one(150.5),
        "core__cube__startup_cycles": one(4),
        "core__cube__latency_cycles": one(5, (3, 4, 5, 8)),
        "core__scalar__alu_cycles": one(6),
        "paths__gm_l1__min_cycles": one(7),
    }
    text, machine = written(mine, mine.with_name("new.yaml"), **fits)
    assert machine.memory.hbm_gb_per_s.note == "read, not copied"
    assert machine.memory.hbm_gb_per_s.documented_by == "a note: of mine"
    assert machine.paths["gm_l1"].min_cycles.note == "it's"
    assert text == (
        """\
# Mine.
extends: base/toy-like.yaml   # beside
name: new
# taped out

sources:
  calibration: "measured.csv: 12 rows of a test"

memory:
  # what the stream test says
  # of 200
  # twice
  hbm_gb_per_s: {value: 150.5, source: calibration, evidence: fitted,
    documented: 150, documented_by: "a note: of mine", fitted: {rows: "3", date: 2026-11-29},
    note: "read, not copied"}
  # no more

core: {
  scalar: {alu_cycles: {value: 6, source: calibration, evidence: fitted,
    fitted: {rows: "3", date: 2026-11-29}}},
  cube: {
  # three
  startup_cycles: {value: 4, source: calibration, evidence: fitted, fitted: {rows: "3", date: 2026-11-29}},
  latency_cycles: {value: 5, source: calibration, evidence: fitted,
    fitted: {rows: "3-5, 8", date: 2026-11-29}}}, # cubes
  flags: {pairs: null}}   # end

paths:
  gm_l1:
    min_cycles: {value: 7, source: calibration, evidence: fitted, documented: 5, documented_by: a sheet,
      fitted: {rows: "3", date: 2026-11-29}, note: "it's"}

launch:
  base_us: {value: 2, source: what if, evidence: assumed}
# The last line is a comment.
"""
    )


def test_windows_line_ends_are_read(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(b"extends: toy\r\ncore:\r\n  # c\r\n  l1_port_bytes_per_cycle:\r\n")
    assert refit(str(file), {"core.l1_port_bytes_per_cycle": one(5e9)}, CITATION, DATE, file).endswith(
        "  # c\n  l1_port_bytes_per_cycle: {value: 5000000000, source: calibration, evidence: fitted,\n"
        '    fitted: {rows: "3", date: 2026-11-29}}\n'
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "clock_ghz: &x {value: 2, source: s, evidence: assumed}",
            "line 2: &x: a file with anchors is not rewritten; write out every *x",
        ),
        (
            "? clock_ghz\n: {value: 2, source: s, evidence: assumed}",
            "line 2: '? clock_ghz' is not rewritten; write 'key: value'",
        ),
    ],
)
def test_a_layout_that_is_not_rewritten_is_told_so(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"extends: toy\n{text}\n")
    with pytest.raises(ProfileError) as caught:
        refit(str(file), {"clock_ghz": one(3)}, CITATION, DATE, tmp_path / "new.yaml")
    assert str(caught.value) == f"{file}: {message}"


def test_what_was_removed_does_not_come_back_beside_a_fitted_number(mine: Path) -> None:
    with pytest.raises(ProfileError) as caught:
        refit(str(mine), {"core.flags.pairs.aic_mac->aic_mte1": one()}, CITATION, DATE, mine)
    assert str(caught.value) == (
        f"{mine}: cannot be rewritten without a change of core.flags.pairs.aic_mte1->aic_mac; "
        "write out its section"
    )


def test_a_base_cannot_be_replaced_by_what_extends_it(mine: Path) -> None:
    base = mine.parent / "base" / "toy-like.yaml"
    with pytest.raises(ProfileError, match=r"mine\.yaml: cannot be rewritten as .*: extends: cycle"):
        refit(str(mine), {"clock_ghz": one(3)}, CITATION, DATE, base)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("core.cube.startup", 3, "toy: core.cube.startup: no such number; did you mean"),
        ("clock_ghz", -1, "toy: clock_ghz: must be > 0, got -1"),
        ("core.groups", 1.5, "toy: core.groups: must be a whole number, got 1.5"),
    ],
)
def test_what_the_machine_cannot_have_is_refused(
    tmp_path: Path, path: str, value: float, message: str
) -> None:
    with pytest.raises(ProfileError) as caught:
        refit("toy", {path: one(value)}, CITATION, DATE, tmp_path / "new.yaml")
    assert str(caught.value).startswith(message)


def test_a_profile_is_written_where_it_is_found_again(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"new\.yml\.txt: a profile is found by the suffix \.yaml"):
        check_output(tmp_path / "new.yml.txt", force=False)
    with pytest.raises(InputError, match=r"folder .* does not exist"):
        check_output(tmp_path / "no" / "new.yaml", force=True)
    check_output(tmp_path / "new.yaml", force=False)


# --- any numbers of any profile --------------------------------------------------------------

VALUES = {
    Count: st.integers(1, 10**9),
    CountOrNone: st.just(2),
    Rate: st.floats(1e-9, 1e12),
    Cost: st.floats(0, 1e12),
}


@st.composite
def fits(draw: st.DrawFn, machine: Machine) -> dict[str, Fitted]:
    """Fits of some numbers of a machine, and perhaps of one that it leaves out."""
    known = quantities(machine)
    levels = {path for path in known if path.startswith("levels.")}  # those of one memory are one number
    paths = draw(st.sets(st.sampled_from(sorted(known.keys() - levels)), min_size=1, max_size=8))
    found = {}
    for path in sorted(paths | draw(st.sets(st.sampled_from(["paths.ub_gm.half_rate_bytes"])))):
        values = VALUES.get(type(known.get(path)), st.floats(0.01, 1))
        value = 0 if path == "core.vector_cores" and machine.fused else draw(values)
        rows = draw(st.sets(st.integers(1, 99), min_size=1, max_size=30))
        error = draw(st.none() | st.floats(0, 1e3))
        found[path] = Fitted(value, tuple(rows), error)
    return found


def comments(text: str) -> list[str]:
    return re.findall(r"(?:^|(?<=\s))#.*", text, re.MULTILINE)


@pytest.mark.parametrize(
    "profile", ["ascend-910b2", "ascend-910b1", "ascend-950dt-9592", "ascend-310p3", "hexagon-class", "mine"]
)
def test_nothing_but_the_fitted_numbers_changes(profile: str, mine: Path) -> None:
    name = str(mine) if profile == "mine" else profile
    original = load_machine(name)
    before = profiles.text_of(profiles.find(name))

    @settings(max_examples=3, deadline=None, derandomize=True, phases=[Phase.generate])
    @given(fits(original))
    def check(fitted: dict[str, Fitted]) -> None:
        target = mine.with_name("new.yaml")
        text = refit(name, fitted, CITATION, DATE, target)
        new = quantities(profiles.machine_of(text, target))
        old = quantities(original)
        assert {path: new[path].value for path in fitted} == {path: one.value for path, one in fitted.items()}
        assert all(new[path].evidence is Evidence.fitted for path in fitted)
        assert {path: new[path] for path in new if path not in fitted} == {
            path: old[path] for path in old if path not in fitted
        }
        rows = profiles.diff(original, profiles.machine_of(text, target))
        assert {row.path for row in rows} <= set(fitted)
        rest = iter(comments(text))
        assert all(comment in rest for comment in comments(before))
        lines = set(text.splitlines()) - set(before.splitlines())
        assert all(len(line) <= WIDTH for line in lines)

    check()


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300))
@settings(max_examples=60, deadline=None)
def test_a_text_is_read_back_as_it_was_whatever_is_in_it(text: str) -> None:
    for written in (yaml_files.quoted(text), yaml_files.scalar(text), yaml_files.scalar(text, flow=False)):
        flow = _filled("", ["{a: 1", f"b: {written}", "c: 2}"], 0)
        if written != yaml_files.scalar(text, flow=False):
            assert yaml_files.parse(flow, "test") == {"a": 1, "b": text, "c": 2}
        block = _filled("", [f"b: {written}"], 0)
        assert yaml_files.parse(block, "test") == {"b": text}
