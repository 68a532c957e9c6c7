"""Numbers fitted to timings: a hidden machine is found again, and what rows cannot tell stays put."""

from __future__ import annotations

import csv
import datetime
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from npusim.calibration.calibrator import Calibrator
from npusim.calibration.findings import findings
from npusim.calibration.held_out import held_out
from npusim.calibration.parameters import select
from npusim.calibration.rows import fitting_rows
from npusim.calibration.slopes import slopes
from npusim.calibration.suggest import suggest
from npusim.errors import InputError
from npusim.machine import override, quantities
from npusim.measurements.rows import Measurement, Reading
from npusim.profiles import diff, load_machine
from npusim.settings import MachineSettings
from npusim.validation.predict import Case, case, predict
from npusim.validation.predictor import Predictor

REGISTRY = "algorithms:REGISTRY"
PROFILE = "ascend-910b2"
HIDDEN = {
    "core.flags.default_cycles": 31.0,
    "core.flags.cross_core_cycles": 640.0,
    "memory.hbm_efficiency": 0.62,
    "paths.gm_ub.min_cycles": 33.0,
    "paths.l0c_gm.partial_line_cycles": 40.0,
}
"""what the hidden machine differs in"""
UNTOUCHED = "core.barriers.all_cores_cycles"
"""of kernels of one phase no row depends on it"""
GDN = {"chunk": 128, "heads": 16, "key_heads": 16, "head_dim": 128, "variant": "published", "dtype": "fp16"}
SHAPES: list[dict[str, object]] = [
    *({"kernel": "gdn-state", "batch": 1, "seq_len": n, **GDN} for n in (512, 1024)),
    *(
        {"kernel": "micro", "algorithm": name, "variant": variant, "m": trips, "cores": 1, "dtype": "fp16"}
        for name, variant in (("cross-core-flags", "bare"), ("flags", "bare"), ("store-rows", "strided"))
        for trips in (1000, 2000, 3000, 4000)
    ),
    *(
        {"kernel": "copy-gm-ub", "variant": "plain", "m": m, "n": 12288, "tile_m": rows, "tile_n": 64}
        for rows, lengths in ((1, (96, 144, 192, 240)), (64, (3072, 6144, 9216, 12288)))
        for m in lengths
    ),
]


PREDICTOR = Predictor(REGISTRY)
"""of all tests here, as it keeps what it predicted"""


def cases() -> list[Case]:
    """The rows, without their times."""
    return [
        case(
            Measurement.at(f"m.csv:{line}", time_us=1, clock="event", device=PROFILE, **shape),
            PREDICTOR.kernels,
            MachineSettings(profile=PROFILE),
        )
        for line, shape in enumerate(SHAPES, 2)
    ]


def measured(on: Mapping[str, float], noise: float, seed: int = 0, only: str = "") -> list[Case]:
    """The rows as they would be measured on the profile with some numbers changed; `only` those of an
    algorithm."""
    chance = np.random.default_rng(seed)
    found, rows = [], [one for one in cases() if only in (one.row.algorithm, "")]
    for one, answer in zip(rows, PREDICTOR([(one, on) for one in rows]), strict=True):
        assert not isinstance(answer, str)
        found.append(timed(one, answer.on("event") * float(np.exp(noise * chance.standard_normal()))))
    return found


def timed(one: Case, time_us: float) -> Case:
    return replace(one, row=one.row.model_copy(update={"time_us": time_us}))


@pytest.fixture(scope="module")
def fitted() -> Calibrator:
    """A fit to timings of the hidden machine with 3 % noise."""
    parameters = select([load_machine(PROFILE)], [*HIDDEN, UNTOUCHED])
    return Calibrator(parameters, noise=0.03).fit(measured(HIDDEN, 0.03), PREDICTOR)


def test_a_hidden_machine_is_found_again_where_rows_tell(fitted):
    for one in fitted.learned_:
        if one.parameter.name in HIDDEN:
            assert one.determined, one
            hidden = HIDDEN[one.parameter.name]
            assert one.value == pytest.approx(hidden, rel=0.05), f"{one} was {hidden}"
    assert np.abs(fitted.errors_after_).mean() < 0.03 < np.abs(fitted.errors_before_).mean()


def test_what_no_row_depends_on_stays_and_is_named(fitted):
    [one] = [one for one in fitted.learned_ if one.parameter.name == UNTOUCHED]
    assert (one.value, one.held_by) == (one.parameter.start, "nothing")


def test_without_noise_the_hidden_machine_is_found_exactly():
    hidden = {"core.flags.cross_core_cycles": 640.0}
    parameters = select([load_machine(PROFILE)], hidden)
    rows = measured(hidden, 0, only="cross-core-flags")
    found = Calibrator(parameters, noise=1e-3, tolerance=1e-8, evaluations=8).fit(rows, PREDICTOR)
    for name, value in found.values_.items():
        assert value == pytest.approx(hidden[name], rel=1e-3)


def test_standard_errors_cover_what_other_noise_gives():
    """Draws of noise on the rows that hand over: values scatter about the truth as standard errors say."""
    hidden = {"core.flags.cross_core_cycles": 640.0}
    parameters = select([load_machine(PROFILE)], hidden)
    off = []
    for seed in range(6):
        rows = measured(hidden, 0.03, seed, only="cross-core-flags")
        [one] = Calibrator(parameters, noise=0.03, robust=False).fit(rows, PREDICTOR).learned_
        off.append((one.value - 640) / one.error)
    assert 0.2 < float(np.sqrt(np.mean(np.square(off)))) < 2


@pytest.mark.parametrize("place", [0, 2, 10, 18])
def test_slopes_read_off_a_run_are_those_of_two_runs(place):
    one = cases()[place]
    kernel, machine = one.work.build(PREDICTOR.kernels), one.settings.machine()
    found = predict(one.work, kernel, machine)
    by_path = slopes(found, machine, "event")
    telling = sorted(by_path, key=lambda path: -abs(by_path[path] * quantities(machine)[path].value))
    for path in [path for path in telling if not path.startswith(("launch", "core.cube.k0"))][:4]:
        value = float(quantities(machine)[path].value)
        step = 0.002 * value
        near = [
            predict(one.work, kernel, override(machine, {path: value + sign * step})).on("event")
            for sign in (-1, 1)
        ]
        two_runs = (near[1] - near[0]) / (2 * step)
        assert by_path[path] == pytest.approx(two_runs, abs=0.03 * found.on("event") / value, rel=0.1), path


def test_kernels_left_out_are_predicted_by_the_others(fitted):
    groups = {one.group: one for one in held_out(fitted, "kernel")}
    assert sum(one.rows for one in groups.values()) == len(SHAPES)
    # no other rows store rows apart, or load so little at a time
    assert groups["micro store-rows"].unknown == ("paths.l0c_gm.partial_line_cycles",)
    assert "paths.gm_ub.min_cycles" in groups["copy-gm-ub"].unknown
    # the state hands over between cores and raises flags: what the micro-benchmarks tell
    assert groups["gdn-state"].determined and groups["gdn-state"].mape < 0.06


def test_a_measurement_is_suggested_that_tells_what_is_not_known():
    """Rows of the copy alone say nothing of cross-core flags: what hands over is asked for."""
    rows = measured(HIDDEN, 0.0)
    copies = [one for one in rows if one.row.kernel == "copy-gm-ub"]
    others = [one for one in rows if one.row.kernel != "copy-gm-ub"]
    parameters = select([load_machine(PROFILE)], ["core.flags.cross_core_cycles", "paths.gm_ub.min_cycles"])
    found = Calibrator(parameters).fit(copies, PREDICTOR)
    best = suggest(found, [*others, *copies])[0]
    assert best.case.row.algorithm == "cross-core-flags"
    assert best.settles == ("core.flags.cross_core_cycles",)


def test_values_above_theory_and_errors_without_a_number_are_pointed_out(fitted):
    slow = [
        timed(one, one.row.time_us * (3 if one.row.algorithm == "store-rows" else 1)) for one in fitted.cases_
    ]
    parameters = select([load_machine(PROFILE)], ["core.flags.default_cycles"])
    found = findings(Calibrator(parameters).fit(slow, PREDICTOR))
    assert any("store-rows on" in one.about and "mechanism" in one.text for one in found)


def test_a_number_that_profiles_share_is_one_parameter():
    names = ["ascend-910b2", "ascend-910b1", "ascend-910b4"]
    [one] = select([load_machine(name) for name in names], ["paths.l0c_gm.partial_line_cycles"])
    assert {profile for profile, _, _ in one.members} == set(names)
    rates = select([load_machine(name) for name in names], ["memory.l2_gb_per_s"])
    assert len(rates) == 3  # each chip has its own
    assert all(one.prior for one in rates)


def test_unknown_fields_and_nothing_to_fit_are_errors():
    with pytest.raises(InputError, match=r"--fields: 'flgs' is no group, number .* did you mean 'flags'"):
        select([load_machine(PROFILE)], ["flgs"])
    parameters = select([load_machine(PROFILE)], ["core.barriers.all_cores_cycles"])
    with pytest.raises(InputError, match="no row depends on any"):
        Calibrator(parameters).fit(cases()[:1], PREDICTOR)


# --- the command -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of six rows of the hidden machine."""
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    columns = (
        "device",
        "kernel",
        "algorithm",
        "variant",
        "dtype",
        "m",
        "cores",
        "time_us",
        "clock",
        "source",
    )
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore")
        writer.writeheader()
        for one in measured(HIDDEN, 0.0)[2:8]:
            writer.writerow(one.row.model_dump() | {"source": "a test"})
    return path


COMMAND = ("calibrate", "--profile", PROFILE, "--fields", "flags", "--jobs", 1, "--hold-out", "none")


def test_the_command_writes_a_profile_that_predicts_the_rows(cli, rows, tmp_path):
    new = tmp_path / "new.yaml"
    called = cli(*COMMAND, "--measurements", rows, "-o", new)
    assert called.code == 0, called.err
    assert "Numbers that the rows determine" in called.out and f"written: {new}" in called.out
    changed = {one.path for one in diff(load_machine(PROFILE), load_machine(new))}
    assert changed <= {"core.flags.default_cycles", "core.flags.cross_core_cycles"} and changed
    number = quantities(load_machine(new))["core.flags.cross_core_cycles"]
    assert number.value == pytest.approx(HIDDEN["core.flags.cross_core_cycles"], rel=0.01)
    assert number.fitted and number.fitted.rows == "2-5" and number.fitted.date == datetime.date.today()
    held = json.loads(cli("validate", "--profile", new, "--measurements", rows, "--jobs", 1, "--json").out)
    assert len(held["rows"]) == 6  # it describes the device of its rows
    assert abs(held["max_error"]) < 0.01
    text = new.read_text()
    assert "# Times inside a core are kept in cycles" in text and "rows.csv" in text


def test_each_row_is_on_the_first_of_several_profiles_that_describes_its_device():
    devices = {
        "ascend-910b2": "ascend-910b2",
        "Ascend950PR_9599": "ascend-950pr-9599",
        "": "ascend-950pr-9599",
    }
    rows = [
        Measurement.at(f"m.csv:{line}", time_us=1, clock="event", device=device, **SHAPES[0])
        for line, device in enumerate([*devices, "ascend-910b4"], 2)
    ]
    profiles = ["ascend-950pr-9599", "ascend-910b2"]
    cases, (refused,) = fitting_rows(Reading(rows), profiles, PREDICTOR.kernels)
    assert [one.settings.profile for one in cases] == list(devices.values())
    assert (refused.place, refused.reason) == (
        "m.csv:5",
        "measured on ascend-910b4, which none of --profile ascend-950pr-9599,ascend-910b2 describes",
    )  # fmt: skip
    _, refused = fitting_rows(Reading(rows), profiles[1:], PREDICTOR.kernels)
    assert "which --profile ascend-910b2 does not describe" in refused[0].reason


def test_a_profile_given_by_its_path_keeps_what_is_its_own(cli, rows, tmp_path):
    """It may bear a built-in profile's name; a row that cannot be is left out with its reason."""
    own = tmp_path / "mine" / f"{PROFILE}.yaml"
    own.parent.mkdir()
    own.write_text(
        f"extends: {PROFILE}\nmemory:\n  hbm_gb_per_s: {{value: 1200, source: x, evidence: assumed}}\n"
    )
    more = tmp_path / "more.csv"
    more.write_text(rows.read_text() + f"{PROFILE},micro,flags,nonsense,fp16,10,1,5,event,x\n")
    new = tmp_path / "new.yaml"
    called = cli("calibrate", "--profile", own, "--measurements", more, "-o", new, *COMMAND[3:], "--json")
    assert called.code == 0, called.err
    assert load_machine(new).memory.hbm_gb_per_s.value == 1200
    found = json.loads(called.out)
    assert found["written"] == [str(new)] and len(found["rows"]) == 6
    [refused] = found["unsupported"]
    assert refused["row"].endswith(":8") and "nonsense" in refused["reason"]


def test_profiles_are_fitted_together_in_whatever_order_they_are_named():
    names = ["ascend-910b2", "ascend-910b1", "ascend-950pr-9599", "ascend-950pr-9589"]
    one, other = (
        {parameter.name: set(parameter.members) for parameter in select([load_machine(n) for n in order])}
        for order in (names, names[::-1])
    )
    assert one == other


def test_the_example_of_the_page_holds_what_it_says(cli, tmp_path):
    """docs/calibration.md: rows whose times are what npusim predicts."""
    page = (Path(__file__).parent.parent / "docs" / "calibration.md").read_text()
    example = page.partition("```\ndevice,kernel")[2].partition("```")[0]
    (tmp_path / "rows.csv").write_text(f"device,kernel{example}")
    found = json.loads(cli("validate", "--measurements", tmp_path / "rows.csv", "--jobs", 1, "--json").out)
    assert len(found["rows"]) == 2 and abs(found["max_error"]) < 1e-3
    assert all(row["busy"]["mte1_us"]["predicted_us"] == pytest.approx(row["busy"]["mte1_us"]["measured_us"],
               rel=1e-3) for row in found["rows"])  # fmt: skip


def test_an_existing_file_is_replaced_only_by_force(cli, rows, tmp_path):
    new = tmp_path / "new.yaml"
    new.write_text("mine")
    called = cli(*COMMAND, "--measurements", rows, "-o", new)
    assert called.code == 2 and "--force" in called.err and called.err.count("\n") == 1
    assert new.read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--measurements", "missing.csv"), "missing.csv"),
        (("--fields", "nonsense"), "--fields: 'nonsense'"),
        (("--hold-out", "moon"), "--hold-out: no 'moon'"),
        (("-o", "new.txt"), ".yaml"),
        (("--profile", "ascend-910x"), "ascend-910x"),
        (("--profile", "ascend-910b2,Ascend910B2"), "named twice"),
        (("--operators", "o.yaml"), "--operators"),
        (("--force",), "--force"),
        (("--profile", "ascend-910b1,ascend-910b2", "-o", "nowhere"), "nowhere is no folder"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(cli, arguments, said):
    called = cli("calibrate", *(() if "--profile" in arguments else ("--profile", PROFILE)), *arguments)
    assert called.code == 2 and said in called.err and called.err.count("\n") == 1
