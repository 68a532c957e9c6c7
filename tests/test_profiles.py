"""Profiles: what is shipped, where it is found, how one extends another, and every way to go wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from importlib import resources
from pathlib import Path

import pytest
from typer.testing import CliRunner

from npusim import profiles
from npusim.cli.profile import app
from npusim.errors import ProfileError
from npusim.machine import Evidence, Quantity, documented_only, override, quantities
from npusim.profiles import load_machine
from npusim.yaml_files import dump

NAMES = [
    "ascend-310p3",
    "ascend-910b1",
    "ascend-910b2",
    "ascend-910b3",
    "ascend-910b4",
    "ascend-910c-9391",
    "ascend-950dt-9592",
    "ascend-950pr-9589",
    "ascend-950pr-9599",
    "hexagon-class",
    "toy",
]
ASCEND = [name for name in NAMES if name.startswith("ascend")]

# hicann/runtime, src/platform/platform_config: MHz, cube cores, vector cores (0: fused), L1, L0A, L0C, UB,
# L2 bytes, memory bytes. The clock of 910B4 is the profiler's 1650, where this file says 1500.
PLATFORM = {
    "Ascend910B1": (1850, 24, 48, 524288, 65536, 131072, 196608, 201326592, 68719476736),
    "Ascend910B2": (1800, 24, 48, 524288, 65536, 131072, 196608, 201326592, 68719476736),
    "Ascend910B3": (1800, 20, 40, 524288, 65536, 131072, 196608, 201326592, 68719476736),
    "Ascend910B4": (1650, 20, 40, 524288, 65536, 131072, 196608, 100663296, 34359738368),
    "Ascend910_9391": (1850, 24, 48, 524288, 65536, 131072, 196608, 201326592, 68719476736),
    "Ascend310P3": (1060, 8, 0, 1048576, 65536, 262144, 262144, 16777216, 24000000000),
    "Ascend950PR_9599": (1800, 36, 72, 524288, 65536, 262144, 253952, 134217728, 137438953472),
    "Ascend950PR_9589": (1650, 32, 64, 524288, 65536, 262144, 253952, 134217728, 137438953472),
    "Ascend950DT_9592": (1800, 36, 72, 524288, 65536, 262144, 253952, 134217728, 103079215104),
}
# msopprof: practical GB/s per core.
PRACTICAL = {
    "ascend-910b1": {"l0c_l1": 216.9, "l1_l0a": 437.5, "l1_l0b": 210.5},
    "ascend-910b2": {"l0c_l1": 211, "l1_l0a": 425.7, "l1_l0b": 204.8},
    "ascend-910b3": {"l0c_l1": 211, "l1_l0a": 425.7, "l1_l0b": 204.8},
    "ascend-950pr-9599": {"gm_l1": 177.6, "gm_ub": 178, "ub_gm": 143.7, "l0c_gm": 142, "l0c_l1": 412},
}
FUNCTIONS = set(
    re.findall(
        r"\w+",
        "add sub mul div max min adds muls maxs mins axpy exp ln sqrt rsqrt reciprocal abs neg relu cast "
        "copy fill select brcb row_sum row_max transpose",
    )
)


# --- what is shipped -------------------------------------------------------------------------


def test_the_profiles_of_the_design_are_shipped() -> None:
    assert profiles.profile_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_number_names_its_evidence_and_a_source_of_the_file(name: str) -> None:
    machine = profiles.check(name)
    assert machine.name == name and machine.description
    for path, number in quantities(machine).items():
        assert isinstance(number.evidence, Evidence), path
        assert number.source in machine.sources, f"{path}: {number.source}"
    for citation in machine.sources.values():
        assert len(citation) > 20 or name == "toy"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("NPUSIM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("name", NAMES)
def test_what_is_kept_of_a_profile_is_what_the_file_says(cache: Path, name: str) -> None:
    parsed = profiles.raw_profile(name)
    assert list(cache.iterdir())
    assert repr(profiles.raw_profile(name)) == repr(parsed), "names, texts and kinds of numbers"


@pytest.mark.parametrize("damage", ["", "{", "\xff"])
def test_what_is_kept_of_a_profile_and_is_damaged_is_read_anew(cache: Path, damage: str) -> None:
    parsed = profiles.raw_profile("toy")
    (kept,) = cache.iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(damage.encode("latin-1"))
    assert profiles.raw_profile("toy") == parsed
    assert kept.read_bytes() == whole


def test_a_profile_that_changed_is_read_anew(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profiles.check("toy")
    text = profiles.text_of(profiles.find("toy"))
    monkeypatch.setattr(
        profiles, "text_of", lambda file: text.replace("clock_ghz: {value: 1", "clock_ghz: {value: 2")
    )
    assert profiles.check("toy").clock_ghz.value == 2


def test_without_room_for_what_is_kept_profiles_are_read_each_time(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    known = load_machine("toy")
    monkeypatch.setenv("NPUSIM_CACHE", str(tmp_path / "file"))
    assert profiles.check("toy") == profiles.check("toy")
    profiles._built_in_machine.cache_clear()
    assert load_machine("toy") == known
    monkeypatch.delenv("NPUSIM_CACHE")
    monkeypatch.setattr("npusim.cache.folder", lambda: None)
    assert profiles.check("toy").name == "toy"


@pytest.mark.parametrize("name", NAMES)
def test_profiles_cite_no_path_of_the_authors_machine(name: str) -> None:
    text = (resources.files("hw_profiles") / f"{name}.yaml").read_text("utf-8")
    assert not any(word in text for word in ("../", "/home", "/tmp", "/work", "shared/"))


@pytest.mark.parametrize("name", NAMES)
def test_every_machine_knows_all_vector_functions_and_the_paths_of_its_kind(name: str) -> None:
    machine = load_machine(name)
    assert set(machine.core.vector.functions) == FUNCTIONS
    assert {"gm_l1", "l1_l0a", "l1_l0b", "gm_ub", "ub_gm"} <= set(machine.paths)
    assert ("l0c_ub" in machine.paths) == (machine.fused or "950" in name)


@pytest.mark.parametrize("soc", PLATFORM)
def test_sizes_and_counts_are_those_of_the_platform_configuration(soc: str) -> None:
    machine = load_machine(soc)
    mhz, cubes, vectors, l1, l0, l0c, ub, l2, hbm = PLATFORM[soc]
    assert machine.clock_ghz.value * 1000 == pytest.approx(mhz)
    assert machine.core.groups.value == cubes
    assert machine.core.vector_cores.value * cubes == vectors
    sizes = {name: level.bytes.value for name, level in machine.levels.items()}
    assert sizes == {"L1": l1, "L0A": l0, "L0B": l0, "L0C": l0c, "UB": ub}
    assert (machine.memory.l2_bytes.value, machine.memory.hbm_bytes.value) == (l2, hbm)


@pytest.mark.parametrize("name", PRACTICAL)
def test_transfer_rates_are_the_profilers_at_the_clock_of_the_chip(name: str) -> None:
    machine = load_machine(name)
    for path, gb_per_s in PRACTICAL[name].items():
        rate = machine.paths[path].bytes_per_cycle.value * machine.clock_ghz.value
        assert rate == pytest.approx(gb_per_s, rel=2e-3), path


@pytest.mark.parametrize("name", [name for name in ASCEND if "910" in name])
def test_a2_moves_87_bytes_a_cycle_to_and_from_global_memory(name: str) -> None:
    """PyPTO's rate, from which measured rows are no more than a tenth away; the practical rates of the
    profiler are."""
    paths = load_machine(name).paths
    rates = [paths[key].bytes_per_cycle for key in ("gm_l1", "gm_ub", "ub_gm", "l0c_gm")]
    assert {rate.documented or rate.value for rate in rates} == {87}
    assert [rate.value for rate in rates] == pytest.approx([87] * 4, rel=0.1)


@pytest.mark.parametrize("name", ASCEND)
def test_bf16_and_fp8_stand_only_where_the_cube_has_them(name: str) -> None:
    k0 = {dtype: depth.value for dtype, depth in load_machine(name).core.cube.k0.items()}
    assert (k0["fp16"], k0["int8"], k0["int4"]) == (16, 32, 64)
    assert ("bf16" in k0) == ("310p" not in name)
    assert ("fp8_e4m3" in k0) == ("950" in name)
    assert "int16" not in k0


@pytest.mark.parametrize("name", ["hexagon-class", "toy"])
def test_invented_machines_claim_no_evidence(name: str) -> None:
    machine = load_machine(name)
    assert machine.family == "generic"
    assert {number.evidence for number in quantities(machine).values()} == {Evidence.assumed}


def test_the_mobile_machine_has_one_memory_for_all_but_the_accumulators() -> None:
    memories = {name: level.memory for name, level in load_machine("hexagon-class").levels.items()}
    assert memories == {"L1": "tcm", "L0A": "tcm", "L0B": "tcm", "UB": "tcm", "L0C": None}


def test_profiles_are_found_in_a_zipped_package(tmp_path: Path) -> None:
    """The way a wheel may be imported: no file system below hw_profiles."""
    archive = tmp_path / "site.zip"
    with zipfile.ZipFile(archive, "w") as bundle:
        for package in ("npusim", "hw_profiles"):
            folder = Path(str(resources.files(package)))
            for file in [*folder.rglob("*.py"), *folder.glob("*.yaml")]:
                bundle.write(file, f"{package}/{file.relative_to(folder)}")
    code = "from npusim import profiles; print(profiles.__file__, profiles.load_machine('Ascend910B4').name)"
    env = os.environ | {"PYTHONPATH": str(archive)}
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert str(archive) in run.stdout and run.stdout.split()[-1] == "ascend-910b4"


# --- finding ---------------------------------------------------------------------------------


@pytest.mark.parametrize("soc", ["Ascend910B2", "ascend910b2", "ASCEND910B2", "Ascend-910B2"])
def test_a_profile_is_known_by_name_and_by_soc_in_any_case(soc: str) -> None:
    assert load_machine(soc).name == "ascend-910b2"


def test_no_two_profiles_share_a_soc() -> None:
    socs = [soc for name in NAMES for soc in load_machine(name).soc]
    assert len(socs) == len(set(socs))


def test_a_path_may_be_a_string_or_a_path(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.yaml", "extends: toy\n")
    assert load_machine(file) == load_machine(str(file))


def write(file: Path, text: str) -> Path:
    file.write_text(text, encoding="utf-8")
    return file


# --- extending -------------------------------------------------------------------------------


def test_a_profile_takes_over_all_that_it_does_not_state(tmp_path: Path) -> None:
    text = """
extends: toy
sources: {sheet: a data sheet}
core: {cube: {startup_cycles: {value: 3, source: sheet, evidence: documented}}}
"""
    machine, toy = load_machine(write(tmp_path / "mine.yaml", text)), load_machine("toy")
    assert (machine.name, machine.extends, machine.description) == ("mine", "toy", "based on toy")
    assert machine.core.cube.startup_cycles.value == 3
    assert machine.core.cube.latency_cycles == toy.core.cube.latency_cycles
    assert machine.sources == toy.sources | {"sheet": "a data sheet"}
    assert [row.path for row in profiles.diff(toy, machine)] == ["core.cube.startup_cycles"]


def test_a_name_and_a_soc_are_not_inherited(tmp_path: Path) -> None:
    machine = load_machine(write(tmp_path / "mine.yaml", "extends: ascend-910b2\n"))
    assert machine.name == "mine" and machine.soc == ()


def test_null_removes_what_the_base_has(tmp_path: Path) -> None:
    text = "extends: ascend-910b2\npaths: {l0c_gm: {partial_line_cycles: null}}\n"
    text += "core: {cube: {k0: {fp32: null}}}\n"
    machine = load_machine(write(tmp_path / "mine.yaml", text))
    assert machine.paths["l0c_gm"].partial_line_cycles is None
    assert "fp32" not in machine.core.cube.k0


def test_a_number_never_keeps_the_source_of_another(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.yaml", "extends: toy\nclock_ghz: {value: 2}\n")
    assert told(file) == (
        "mine.yaml: clock_ghz.source: missing; a number is {value, source, evidence} (and 1 more)"
    )


def test_chains_of_files_are_followed_from_each_files_own_folder(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    number = "{{value: {}, source: a test, evidence: assumed}}"
    write(tmp_path / "base" / "a.yaml", f"extends: toy\nclock_ghz: {number.format(2)}\n")
    write(tmp_path / "base" / "b.yaml", f"extends: a\nmemory: {{hbm_gb_per_s: {number.format(50)}}}\n")
    machine = load_machine(
        write(tmp_path / "c.yaml", f"extends: base/b.yaml\nclock_ghz: {number.format(3)}\n")
    )
    assert (machine.clock_ghz.value, machine.memory.hbm_gb_per_s.value) == (3, 50)


def test_a_mistake_is_reported_in_the_file_that_made_it(tmp_path: Path) -> None:
    bad = "{value: -3, source: a test, evidence: assumed}"
    write(tmp_path / "a.yaml", f"extends: toy\ncore: {{cube: {{startup_cycles: {bad}}}}}\n")
    file = write(tmp_path / "b.yaml", "extends: a.yaml\n")
    assert told(file) == "a.yaml: core.cube.startup_cycles: must be >= 0, got -3"


def test_a_cycle_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "extends: b.yaml\n")
    write(tmp_path / "b.yaml", "extends: c\n")
    write(tmp_path / "c.yaml", "extends: ./b.yaml\n")
    assert "extends: cycle b.yaml -> c.yaml -> b.yaml; remove one" in told(tmp_path / "a.yaml")


def test_a_profile_may_have_the_name_of_the_built_in_it_extends(tmp_path: Path) -> None:
    assert load_machine(write(tmp_path / "toy.yaml", "extends: toy\n")).extends == "toy"


# --- going wrong -----------------------------------------------------------------------------


def error_of(wanted: str | Path) -> str:
    with pytest.raises(ProfileError) as caught:
        profiles.check(wanted)
    text = str(caught.value)
    assert "\n" not in text and "pydantic" not in text and "Annotated" not in text
    return text


def told(file: Path) -> str:
    """The error of a file, without the folder it names."""
    return error_of(file).replace(f"{file.parent}/", "")


BAD = {
    "negative": ("core: {cube: {startup_cycles: {value: -3, source: s, evidence: assumed}}}",
                 "core.cube.startup_cycles: must be >= 0, got -3"),
    "string for a number": ("clock_ghz: {value: '1.8', source: s, evidence: assumed}",
                            "clock_ghz: must be a number, got '1.8'"),
    "truth for a number": ("clock_ghz: {value: true, source: s, evidence: assumed}",
                           "clock_ghz: must be a number, got true"),
    "infinite": ("clock_ghz: {value: .inf, source: s, evidence: assumed}",
                 "clock_ghz: must be finite, got inf"),
    "zero rate": ("paths: {gm_l1: {bytes_per_cycle: {value: 0, source: s, evidence: assumed}}}",
                  "paths.gm_l1.bytes_per_cycle: must be > 0, got 0"),
    "half a core": ("core: {groups: {value: 1.5, source: s, evidence: assumed}}",
                    "core.groups: must be a whole number, got 1.5"),
    "wrong unit": ("core: {cube: {startup_us: {value: 1, source: s, evidence: assumed}}}",
                   "core.cube.startup_us: unknown field; did you mean 'startup_cycles'?"),
    "misspelt section": ("cores: {}", "cores: unknown field; did you mean 'core'"),
    "unknown field of a number": (
        "clock_ghz: {value: 1, source: s, evidence: assumed, units: GHz}",
        "clock_ghz.units: unknown field; known: documented, documented_by, evidence"),
    "bare number": ("clock_ghz: 1.8", "clock_ghz: must be {value, source, evidence}, got 1.8"),
    "missing value": ("clock_ghz: {source: s, evidence: assumed}",
                      "clock_ghz: value missing; a number is {value, source, evidence}"),
    "missing source": ("clock_ghz: {value: 1, evidence: assumed}", "clock_ghz.source: missing; a number is"),
    "empty source": ("clock_ghz: {value: 1, source: '', evidence: assumed}",
                     "clock_ghz.source: must not be empty, got ''"),
    "missing evidence": ("clock_ghz: {value: 1, source: s}", "clock_ghz.evidence: missing; a number is"),
    "unknown evidence": ("clock_ghz: {value: 1, source: s, evidence: guessed}",
                         "clock_ghz.evidence: must be 'documented', 'measured', 'fitted' or 'assumed', got"),
    "misspelt source key": ("sources: {pypto: it}\nclock_ghz: {value: 1, source: pypt, evidence: assumed}",
                            "clock_ghz.source: 'pypt' is no key of sources; did you mean 'pypto'?"),
    "removed number": ("clock_ghz: null", "clock_ghz: missing; a number is {value, source, evidence}"),
    "duplicate key": ("clock_ghz: 1\nfamily: generic\nclock_ghz: 2",
                      "line 4: clock_ghz: given twice; keep one"),
    "syntax": ("core: {cube: [", "line 3: YAML syntax:"),
    "tab": ("core:\n\tcube: 1", "line 3: YAML syntax:"),
    "tag": ("core: !!python/object:os.system {}", "line 2: YAML syntax:"),
    "control character": ("core: \x01", "not valid YAML:"),
    "alias in itself": ("core: &a {cube: *a}", ""),
    "a list": ("core: [1, 2]", "core: must be a mapping, got [1, 2]"),
    "key that is no text": ("core: {cube: {k0: {16: {value: 1, source: s, evidence: assumed}}}}",
                            "core.cube.k0.16: must be text, got 16"),
    "documented beside no fit": (
        "clock_ghz: {value: 1, source: s, evidence: assumed, documented: 2}",
        "clock_ghz: documented: belongs to a number of evidence fitted, not assumed"),
    "fit of what is documented": (
        "clock_ghz: {value: 1, source: s, evidence: documented, fitted: {rows: '1', date: 2026-11-29}}",
        "clock_ghz: fitted: belongs to a number of evidence fitted, not documented"),
    "source of nothing": ("clock_ghz: {value: 1, source: s, evidence: fitted, documented_by: s}",
                          "clock_ghz: documented_by: names the source of documented, which is missing"),
    "documented out of range": ("clock_ghz: {value: 1, source: s, evidence: fitted, documented: 0}",
                                "clock_ghz.documented: must be > 0, got 0"),
    "half a documented core": ("core: {groups: {value: 1, source: s, evidence: fitted, documented: 1.5}}",
                               "core.groups.documented: must be a whole number, got 1.5"),
    "fit without rows": ("clock_ghz: {value: 1, source: s, evidence: fitted, fitted: {date: 2026-11-29}}",
                         "clock_ghz.fitted.rows: missing"),
    "fit of no day": ("clock_ghz: {value: 1, source: s, evidence: fitted, fitted: {rows: '1', date: soon}}",
                      "clock_ghz.fitted.date: must be a date, 2026-11-29, got 'soon'"),
    "unknown field of a fit": (
        "clock_ghz: {value: 1, source: s, evidence: fitted, fitted: {rows: '1', date: 2026-11-29, runs: 3}}",
        "clock_ghz.fitted.runs: unknown field; known: date, rows, standard_error"),
    "unknown base": ("extends: ascend-910b9", "given twice"),
    "unknown unit": ("paths: {gm_l1: {unit: mte2}}", "paths.gm_l1.unit: must be 'aic_scalar',"),
    "dtype of no cube": ("core: {cube: {k0: {fp61: {value: 1, source: s, evidence: assumed}}}}",
                         "core.cube.k0.fp61: no dtype of a cube; did you mean 'fp16'"),
    "fp64 cube": ("core: {cube: {k0: {fp64: {value: 1, source: s, evidence: assumed}}}}",
                  "core.cube.k0.fp64: no dtype of a cube;"),
    "function of no vector unit": (
        "core: {vector: {functions: {ad: {cycles_per_repeat: {value: 1, source: s, evidence: assumed}, "
        "latency_cycles: {value: 1, source: s, evidence: assumed}}}}}",
        "core.vector.functions.ad: no vector function; did you mean 'add'"),
    "fused core with a split core's path": ("core: {vector_cores: {value: 0, source: s, evidence: assumed}}",
                                            "paths.gm_ub.unit: a fused core has no aiv_mte2"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_profile_is_told_in_one_line_that_names_file_and_field(tmp_path: Path, case: str) -> None:
    text, message = BAD[case]
    file = write(tmp_path / "bad.yaml", f"extends: toy\n{text}\n")
    assert error_of(file).startswith(f"{file}: ") and message in told(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "bad.yaml: is empty; a profile starts with"),
        ("- 1", "bad.yaml: holds a list, not fields; a profile starts with"),
        ("name: bad", "bad.yaml: description: missing (and "),
        (
            "extends: ascend-910b9",
            "bad.yaml: extends: no profile 'ascend-910b9' and no ascend-910b9.yaml beside",
        ),
        ("extends: 3", "bad.yaml: extends: must be a profile's name or file, got 3"),
        ("extends: gone/base.yaml", "bad.yaml: extends: no profile 'gone/base.yaml'"),
    ],
)
def test_a_file_that_is_no_profile_is_told_so(tmp_path: Path, text: str, message: str) -> None:
    assert told(write(tmp_path / "bad.yaml", text)).startswith(message)


def test_what_cannot_be_read_is_told_so(tmp_path: Path) -> None:
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("name: größe\n".encode("latin-1"))
    assert told(latin) == "latin.yaml: not UTF-8 text (byte 8); save it as UTF-8"
    assert error_of(tmp_path) == f"{tmp_path}: is a directory; name a .yaml file in it"
    assert error_of(tmp_path / "no.yaml") == f"{tmp_path}/no.yaml: no such file; check the path"
    assert error_of("toy.yaml") == "toy.yaml: no such file; built in is 'toy', without .yaml"
    assert "cannot be read" in error_of(f"{tmp_path}/{'x' * 300}.yaml")


@pytest.mark.parametrize(
    ("name", "near"), [("ascend-910b22", "'ascend-910b2'"), ("Ascend910B9", "'ascend910b"), ("tyo", "'toy'")]
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, near: str) -> None:
    text = error_of(name)
    assert text.startswith(f"{name!r}: no such profile or .yaml file; did you mean") and near in text


@pytest.mark.parametrize("name", ["", "gpu", "\0.yaml", "x" * 5000, "/", "~no-such-user/x.yaml"])
def test_any_other_name_is_a_profile_error(name: str) -> None:
    assert error_of(name)


# --- fitted numbers --------------------------------------------------------------------------

FITTED = """
extends: ascend-910b2
sources: {calibration: rows of a test}
memory:
  hbm_gb_per_s: {value: 1420, source: calibration, evidence: fitted,
    documented: 1750, documented_by: msopprof,
    fitted: {rows: "14-17, 26", date: 2026-11-29, standard_error: 0.04}, note: "nominal"}
core:
  scalar: {issue_cycles: {value: 3, source: calibration, evidence: fitted}}
"""


@pytest.fixture
def fitted(tmp_path: Path) -> Path:
    return write(tmp_path / "fitted.yaml", FITTED)


def test_documents_alone_say_what_they_said_before_a_fit(fitted: Path) -> None:
    alone = documented_only(profiles.check(fitted))
    hbm = alone.memory.hbm_gb_per_s
    assert (hbm.value, hbm.source, hbm.evidence) == (1750, "msopprof", Evidence.documented)
    assert (hbm.documented, hbm.fitted, hbm.note) == (None, None, "nominal")
    assert alone.core.scalar.issue_cycles.value == 0


def test_show_says_what_the_documents_say_and_how_a_number_was_fitted(
    fitted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = (
        "documented 1,750 by msopprof; fitted on 2026-11-29 to rows 14-17, 26, standard error 0.04; nominal"
    )
    for width in ("100", "250"):
        monkeypatch.setenv("COLUMNS", width)
        assert said in " ".join(run("show", str(fitted)).split())
    (row,) = (
        row
        for row in json.loads(run("show", str(fitted), "--json"))["numbers"]
        if row["path"] == "memory.hbm_gb_per_s"
    )
    assert (row["documented"], row["documented_by"]) == (1750, "msopprof")
    assert row["fitted"] == {"rows": "14-17, 26", "date": "2026-11-29", "standard_error": 0.04}


def test_a_difference_shows_the_documented_value_beside_the_fitted_one(
    fitted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = json.loads(run("diff", "ascend-910b2", str(fitted), "--json"))["rows"]
    assert rows[1] == {
        "path": "memory.hbm_gb_per_s",
        "a": 1750,
        "b": 1420,
        "evidence_a": "documented",
        "evidence_b": "fitted",
        "documented_a": None,
        "documented_b": 1750,
    }
    for width in ("80", "160"):
        monkeypatch.setenv("COLUMNS", width)
        assert "1,420 (documented 1,750)" in run("diff", "ascend-910b2", str(fitted))


def test_machines_differ_where_the_documents_do(fitted: Path) -> None:
    text = FITTED.replace("documented: 1750, documented_by: msopprof,", "")
    forgotten = write(fitted.with_name("b.yaml"), text)
    (row,) = profiles.diff(load_machine(fitted), load_machine(forgotten))
    assert (row.path, row.documented_a, row.documented_b) == ("memory.hbm_gb_per_s", 1750, None)


def test_a_fitted_number_is_written_and_read_back(fitted: Path) -> None:
    machine = load_machine(fitted)
    text = dump(machine.model_dump())
    assert load_machine(write(fitted.with_name("again.yaml"), text)) == machine


# --- comparing, writing, schema --------------------------------------------------------------


def test_a_profile_does_not_differ_from_itself() -> None:
    assert profiles.diff(load_machine("toy"), load_machine("toy")) == []


def test_a_difference_names_both_values_and_their_evidence() -> None:
    toy = load_machine("toy")
    (row,) = profiles.diff(toy, override(toy, {"clock_ghz": 2}))
    assert (row.path, row.a, row.b, row.evidence_a, row.evidence_b) == (
        "clock_ghz",
        1,
        2,
        "assumed",
        "assumed",
    )


def test_fields_that_one_machine_lacks_and_fields_that_are_no_numbers_differ_too() -> None:
    rows = {
        row.path: row
        for row in profiles.diff(load_machine("ascend-910b2"), load_machine("ascend-950pr-9599"))
    }
    assert rows["paths.l0c_ub.bytes_per_cycle"].a is None
    assert rows["paths.l0c_ub.unit"].b == "aic_fixpipe"


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_reads_back_the_same(name: str, tmp_path: Path) -> None:
    text = dump(load_machine(name).model_dump(exclude={"extends"}))
    assert load_machine(write(tmp_path / f"{name}.yaml", text)) == load_machine(name).model_copy(
        update={"extends": None}
    )
    assert all("evidence" in line for line in text.splitlines() if "{value" in line)


def test_the_schema_lets_a_profile_that_extends_another_leave_fields_out() -> None:
    schema = profiles.schema()
    assert {"extends", "clock_ghz", "core"} <= set(schema["properties"])
    assert "required" not in schema and "required" not in schema["$defs"]["Cube"]
    assert set(schema["$defs"]["Cost"]["required"]) == {"value", "source", "evidence"}
    assert {"documented", "documented_by", "fitted"} < set(schema["$defs"]["Cost"]["properties"])
    assert set(schema["$defs"]["Fit"]["required"]) == {"rows", "date"}
    assert json.loads(json.dumps(schema)) == schema


# --- command line ----------------------------------------------------------------------------


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_check_counts_the_numbers_and_their_evidence() -> None:
    assert "toy: ok" in run("check", "toy", "ascend-910b2")
    data = json.loads(run("check", "toy", "--json"))
    (row,) = data["profiles"]
    assert row["evidence"]["assumed"] == row["numbers"] == len(quantities(load_machine("toy")))


def test_check_goes_through_all_and_fails_where_one_does(tmp_path: Path) -> None:
    bad = write(tmp_path / "bad.yaml", "extends: toy\nclock_ghz: 1\n")
    names = ["toy", "nothing-like-it", str(bad), "ascend-910b2"]
    result = CliRunner().invoke(app, ["check", *names], catch_exceptions=False)
    assert result.exit_code == 2
    first, second = result.stderr.splitlines()
    assert first.startswith("npusim: 'nothing-like-it': no such profile")
    assert second.startswith(f"npusim: {bad}: clock_ghz")
    assert [line.split(":")[0] for line in result.stdout.splitlines()] == ["toy", "ascend-910b2"]
    result = CliRunner().invoke(app, ["check", *names, "--json"], catch_exceptions=False)
    rows = json.loads(result.stdout)["profiles"]
    assert result.exit_code == 2 and ["error" in row for row in rows] == [False, True, True, False]


def test_a_difference_is_never_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    toy = load_machine("toy")
    changed = override(toy, {"clock_ghz": 1.23456789, "memory.hbm_bytes": 123456789012345})
    monkeypatch.setattr(profiles, "load_machine", lambda name: toy if name == "a" else changed)
    for width in ("60", "80", "160"):
        monkeypatch.setenv("COLUMNS", width)
        text = run("diff", "a", "b")
        assert "1.23456789 " in text and "123,456,789,012,345" in text and "memory.hbm_bytes" in text
        assert text.count("assumed") == 4 and all(len(line) <= int(width) for line in text.splitlines())


def test_show_prints_every_number_with_its_evidence() -> None:
    data = json.loads(run("show", "Ascend910B2", "--json"))
    numbers: dict[str, Quantity[float]] = quantities(load_machine("ascend-910b2"))
    assert [row["path"] for row in data["numbers"]] == list(numbers)
    assert all(row["source"] in data["sources"] for row in data["numbers"])
    text = run("show", "ascend-910b2")
    assert "core.cube" in text and "partial_line_cycles" in text and "documented" in text


def test_diff_prints_what_differs() -> None:
    data = json.loads(run("diff", "ascend-910b2", "ascend-910b3", "--json"))
    assert [(row["path"], row["a"], row["b"]) for row in data["rows"]] == [("core.groups", 24, 20)]
    assert "core.groups" in run("diff", "ascend-910b2", "ascend-910b3")
    assert "do not differ" in run("diff", "toy", "toy")


def test_schema_is_json_either_way() -> None:
    assert json.loads(run("schema")) == json.loads(run("schema", "--json")) == profiles.schema()
