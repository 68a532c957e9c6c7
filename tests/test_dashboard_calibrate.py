"""The page Calibrate without a browser: uploads, rows, operators, numbers, predictions and fits, figures."""

from __future__ import annotations

import base64
import csv
import io
import json
import stat
import zipfile
from pathlib import Path

import plotly.graph_objects as go
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.components.calibration import asked, fields, tables, views
from dashboard.figures import parity
from dashboard.figures.theme import DARK, LIGHT
from dashboard.service import Refused, Service, calibrating
from dashboard.service.calibrate import Calibrations
from dashboard.service.jobs import Home
from dashboard.service.measured import files, operators_text, with_operators
from dashboard.service.uploads import (
    EXPIRY_S,
    KEY,
    LIMIT_BYTES,
    LIMIT_UNPACKED,
    VISITORS,
    Sent,
    Uploads,
    folder_of,
)
from dashboard.state import State
from npusim.calibration.held_out import GROUPS as HELD_OUT_GROUPS
from npusim.calibration.parameters import GROUPS
from npusim.measurements.read import read, read_shipped
from npusim.measurements.rows import Measurement
from npusim.profiles import load_machine
from npusim.settings import MachineSettings
from npusim.validation.predict import case
from npusim.validation.predictor import Predictor

DATA = Path(__file__).parent / "data"
PROFILE = "ascend-910b2"
HIDDEN = {"core.flags.cross_core_cycles": 640.0}
"""what the machine that made the synthetic rows differs in"""
COLUMNS = ("device", "kernel", "algorithm", "variant", "dtype", "m", "cores", "time_us", "clock")


def table(rows) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


@pytest.fixture(scope="module")
def synthetic() -> bytes:
    """Rows as a machine with a hidden number would be measured, to the last digit."""
    plain = {"kernel": "micro", "dtype": "fp16", "cores": 1, "clock": "event", "device": PROFILE}
    rows = [
        {**plain, "algorithm": name, "variant": "bare", "m": trips}
        for name in ("cross-core-flags", "flags")
        for trips in (1000, 2000, 3000, 4000)
    ]
    with Predictor(calibrating.REGISTRY) as predictor:
        for row in rows:
            one = case(
                Measurement.at("x:1", time_us=1, **row), predictor.kernels, MachineSettings(profile=PROFILE)
            )
            [answer] = predictor([(one, HIDDEN)])
            assert not isinstance(answer, str)
            row["time_us"] = answer.on("event")
    return table(rows)


def sent(name: str, data: bytes) -> Sent:
    return Sent(name, f"data:text/csv;base64,{base64.b64encode(data).decode()}")


def packed(method: int = zipfile.ZIP_DEFLATED, **members: str | bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def damaged(archive: bytes) -> bytes:
    """With a block of a kind that deflate does not have where the first file's data begin."""
    start = 30 + int.from_bytes(archive[26:28], "little") + int.from_bytes(archive[28:30], "little")
    return archive[:start] + b"\xff" + archive[start + 1 :]


STANDS = b"devices:\n  odd: {profile: ../x.yaml, why: none}\n"
LAUGHS = (
    b"a0: &a0 [1, 1]\n"
    + b"".join(b"a%d: &a%d [*a%d, *a%d]\n" % (n, n, n - 1, n - 1) for n in range(1, 60))
    + b"operators: *a59\n"
)
"""a few lines that stand for 2^60 values"""


@pytest.fixture
def found(tmp_path) -> Calibrations:
    (tmp_path / "work").mkdir()
    (tmp_path / "private").mkdir()
    return Calibrations(Service(folder=tmp_path / "work"), calibrating.uploads_of(tmp_path / "private"))


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path / "work", (), tmp_path / "private")


def silent(*_: object) -> None:
    """Who does not want to know how far a job is."""


# --- uploads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.csv", b"\x89PNG\r\n\x00\x01", r"^a\.csv:2: has a zero byte"),
        ("a.csv", b"", r"^a\.csv: is empty"),
        ("a.csv", b"kernel,time_us,speed\nmatmul,1,2\n", r"^a\.csv:1: column 'speed' is none of a measure"),
        ("a.csv", b"this,that\n1,2\n", r"^a\.csv:1: column 'kernel' is missing from the header"),
        ("a.csv", b"kernel,time_us\nmatmul,fast\n", r"^a\.csv:2: time_us: must be a number, got 'fast'"),
        ("a.exe", b"MZ", r"^a\.exe: is no measurement; send a \.csv"),
        ("../a.csv", b"kernel,time_us\nadd,1\n", r"^upload: '\.\./a\.csv' is no plain name"),
        (".hidden.csv", b"kernel,time_us\nadd,1\n", "is no plain name"),
        ("a.csv", lambda: b"0" * (LIMIT_BYTES + 1), "more than 10 MiB together with what is here"),
        ("a.zip", b"PK\x03\x04 and no more", r"^a\.zip: cannot be unpacked"),
        ("a.zip", packed(**{"../b.csv": "kernel,time_us\nadd,1\n"}), r"^a\.zip: '\.\./b\.csv' leads out of"),
        ("a.zip", packed(**{"/b.csv": "kernel,time_us\nadd,1\n"}), r"^a\.zip: '/b\.csv' leads out of"),
        ("a.zip", packed(**{"x/../../b.csv": "kernel,time_us\n"}), "leads out of the archive"),
        ("a.zip", lambda: packed(**{"b.csv": b"0" * (LIMIT_UNPACKED + 1)}), r"^a\.zip: unpacks to more than"),
        ("a.zip", lambda: packed(**{f"{n}.csv": "" for n in range(201)}), r"^a\.zip: holds 201 files"),
        ("a.zip", packed(**{"d/b.csv": "kernel,time_us\nadd,-1\n"}), r"^a\.zip/d/b\.csv:2: time_us: must be"),
        ("a.zip", packed(**{"notes.txt": "hello"}), r"^a\.zip: holds no measurement"),
        ("a.zip", packed(zipfile.ZIP_BZIP2, **{"b.csv": b"0" * 9}), r"'b\.csv' is neither stored nor deflat"),
        (
            "a.zip",
            packed(zipfile.ZIP_LZMA, **{"b.csv": b"0" * 9}),
            r"'b\.csv' is neither stored nor deflated",
        ),
        ("a.zip", damaged(packed(**{"b.csv": "kernel,time_us\nadd,1\n"})), r"^a\.zip: cannot be unpacked"),
        ("a.zip", packed(**{"x\\..\\..\\b.csv": "kernel,time_us\n"}), "leads out of the archive"),
        (
            "a.csv",
            b"kernel,time_us,device\nadd,1,/dev/zero\n",
            r"^a\.csv:2: device: /dev/zero: only profiles",
        ),
        ("a.csv", b"kernel,time_us,device\nadd,1,..\\x\n", r"^a\.csv:2: device: \.\.\\x: only profiles"),
        ("a.csv", b"kernel,time_us,device\nadd,1,~/x.yml\n", r"^a\.csv:2: device: ~/x\.yml: only profiles"),
        ("o.yaml", STANDS, r"^o\.yaml: devices: odd: profile: \.\./x\.yaml: only profiles in the working"),
        ("o.yaml", b"operators: " + b"#" * 300_000, r"^o\.yaml: has more than 256 KiB"),
        ("o.yaml", LAUGHS, r"^o\.yaml: not valid YAML: its aliases"),
        ("o.yaml", b"operators: &a [*a]\n", r"^o\.yaml: not valid YAML: its aliases"),
        ("o.yaml", b"? [[1]]\n: 2\n", r"^o\.yaml: not valid YAML: unhashable"),
        ("a.csv", b"kernel,time_us\n" + b"add,1\n" * 5001, r"^a\.csv: has 5,002 lines, the limit is 5,000"),
        ("PipeUtilization.csv", b"block_id,aic_time(us)\n0,1\n", "OpBasicInfo"),
    ],
)
def test_a_wrong_upload_is_refused_in_one_line_and_what_was_there_stays(found, name, data, said):
    key = found.uploads.visit(None)
    before = found.upload(key, [sent("good.csv", b"kernel,time_us\nadd,1\n")])
    with pytest.raises(Refused, match=said) as refused:
        found.upload(key, [sent(name, data() if callable(data) else data)])
    text = str(refused.value)
    assert "\n" not in text and str(found.uploads.root) not in text
    assert found.rows(key) == before
    assert {one.name for one in (found.uploads.root / key).iterdir()} == {"files"}
    assert not list(found.uploads.root.parent.parent.rglob("b.csv"))


def test_a_link_in_an_archive_is_refused(found):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        link = zipfile.ZipInfo("b.csv")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(Refused, match=r"'b\.csv' is a link"):
        found.upload(found.uploads.visit(None), [sent("a.zip", out.getvalue())])


def test_an_operators_file_alone_is_no_measurement(found):
    with pytest.raises(Refused, match=r"^upload: no measurement; send a \.csv"):
        found.upload(found.uploads.visit(None), [sent("a.yaml", b"operators: []\n")])


def test_a_text_that_is_no_file_is_refused(found):
    key = found.uploads.visit(None)
    for content in ("kernel,time_us", "data:text/csv;base64,!!!!", "data:text/csv,plain"):
        with pytest.raises(Refused, match="was not received"):
            found.upload(key, [Sent("a.csv", content)])


def test_files_add_up_and_their_limit_is_for_all_together(found):
    key = found.uploads.visit(None)
    one = b"kernel,time_us,note\n" + (b"add,1," + b"x" * 100_000 + b"\n") * (LIMIT_BYTES // 180_000)
    assert found.upload(key, [sent("a.csv", one)]).count == LIMIT_BYTES // 180_000
    assert found.upload(key, [sent("b.csv", b"kernel,time_us\nadd,2\n")]).source == "a.csv, b.csv"
    with pytest.raises(Refused, match=r"a\.csv, b\.csv, c\.csv: more than 10 MiB together"):
        found.upload(key, [sent("c.csv", one)])
    assert found.upload(key, [sent("a.csv", b"kernel,time_us\nadd,1\n")]).count == 2


def test_the_limits_of_archives_are_for_all_together(found):
    key = found.uploads.visit(None)
    half = b"kernel,time_us,note\n" + (b"add,1," + b"x" * 100_000 + b"\n") * (LIMIT_UNPACKED * 3 // 500_000)
    with pytest.raises(Refused, match=r"^b\.zip: unpacks to more than 40 MiB, the limit of all archives"):
        found.upload(key, [sent(name, packed(**{"m.csv": half})) for name in ("a.zip", "b.zip")])
    row = b"kernel,time_us\nadd,1\n"
    many = [
        sent(f"{a}.zip", packed(**{f"{n}.csv": row for n in range(count)}))
        for a, count in (("a", 150), ("b", 51))
    ]
    with pytest.raises(Refused, match=r"^b\.zip: holds 51 files, the limit of all archives is 200"):
        found.upload(key, many)
    assert found.upload(key, many[:1]).count == 150


def test_what_is_sent_is_measured_before_anything_is_written(found, monkeypatch):
    key = found.uploads.visit(None)
    monkeypatch.setattr(Path, "write_bytes", lambda *_: pytest.fail("written"))
    with pytest.raises(Refused, match=r"^upload: 201 files, the limit is 200"):
        found.upload(key, [sent(f"{n}.csv", b"") for n in range(201)])
    with pytest.raises(Refused, match="more than 10 MiB together"):
        found.upload(key, [sent(f"{n}.csv", b"0" * (LIMIT_BYTES // 3 + 1000)) for n in range(3)])


def test_an_archive_made_on_windows_says_the_same(found):
    key = found.uploads.visit(None)
    row = b"kernel,time_us\nadd,1\n"
    rows = found.upload(key, [sent("a.zip", packed(**{"dir\\m.csv": row, "dir\\": b""}))])
    assert rows.count == 1
    [one] = calibrating.reading_of(found.uploads.root, key).rows
    assert one.place == "a.zip/dir/m.csv:2"


def test_a_device_may_be_unknown_or_a_profile_of_the_folder(found, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(f"name: mine\nextends: {PROFILE}\n")
    (tmp_path / "plain").write_text("of no suffix, but a file")
    key = found.uploads.visit(None)
    data = "kernel,time_us,device\nadd,1,mine.yaml\nadd,1,unheard-of\nadd,1,\n"
    rows = found.upload(key, [sent("m.csv", data.encode())])
    assert (rows.count, rows.profiles) == (3, {"mine": 1})
    with pytest.raises(Refused, match=r"^n\.csv:2: device: plain is no profile"):
        found.upload(key, [sent("n.csv", b"kernel,time_us,device\nadd,1,plain\n")])


def test_who_works_does_not_expire(tmp_path, synthetic):
    now, active = [0.0], set()
    found = Calibrations(Service(folder=tmp_path), tmp_path / "u", active=active.__contains__)
    found.uploads._clock = lambda: now[0]
    key = found.uploads.visit(None)
    job, _ = found.prediction(found.upload(key, [sent("m.csv", synthetic)]), PROFILE)
    active.add(job)
    now[0] += EXPIRY_S + 1
    found.uploads.visit(None)
    assert found.has(key)
    active.clear()
    now[0] += EXPIRY_S + 1
    found.uploads.visit(None)
    assert not found.has(key)


def test_visitors_are_few_apart_and_not_for_long(tmp_path):
    now, gone = [0.0], []
    uploads = Uploads(tmp_path / "root", gone.append, lambda: now[0])
    first = uploads.visit(None)
    assert KEY.fullmatch(first) and uploads.visit(first) == first
    assert stat.S_IMODE((uploads.root / first).stat().st_mode) == 0o700
    assert uploads.visit("A" * 32) != "A" * 32, "a key that a browser makes up is nobody's"
    for _ in range(VISITORS):
        now[0] += 1
        uploads.visit(None)
    assert not uploads.knows(first) and gone == [first, *gone[1:]]
    assert len(list(uploads.root.iterdir())) == VISITORS
    now[0] += EXPIRY_S + 1
    last = uploads.visit(None)
    assert [one.name for one in uploads.root.iterdir()] == [last]
    for key in ("..", "../..", "a/b", ""):
        with pytest.raises(Refused, match="session is not known"):
            folder_of(uploads.root, key)


def test_what_is_forgotten_is_gone_with_what_jobs_found_of_it(found, synthetic):
    forgotten = []
    found._forget = forgotten.append
    key = found.uploads.visit(None)
    rows = found.upload(key, [sent("m.csv", synthetic)])
    job, _ = found.prediction(rows, PROFILE)
    found.uploads.forget(key)
    assert not found.has(key) and list((found.uploads.root / key).iterdir()) == []
    assert forgotten == [job]


# --- rows of all formats -----------------------------------------------------------------------------


def plain(reading) -> list[Measurement]:
    return [row.model_copy(update={"place": ""}) for row in reading.rows]


@pytest.mark.parametrize(
    "names",
    [
        ["msprof/device_0/op_summary_20240601.csv"],
        ["msprof/device_0/op_summary_blocknum.csv", "msprof/device_0/op_summary_fused.csv"],
        ["msopprof/OPPROF_matmul/OpBasicInfo.csv", "msopprof/OPPROF_matmul/PipeUtilization.csv"],
    ],
)
def test_files_of_profilers_say_what_the_command_line_reads_in_them(found, names, tmp_path):
    key = found.uploads.visit(None)
    rows = found.upload(key, [sent(Path(name).name, (DATA / name).read_bytes()) for name in names])
    folder = tmp_path / "same"
    folder.mkdir()
    for name in names:
        (folder / Path(name).name).write_bytes((DATA / name).read_bytes())
    want = read(folder)
    mine = calibrating.reading_of(found.uploads.root, key)
    assert plain(mine) == plain(want)
    assert [one.reason for one in mine.unmapped] == [one.reason for one in want.unmapped]
    assert rows.count == len(want.rows)
    assert all(row.place.split(":")[0] in {Path(name).name for name in names} for row in mine.rows)


def test_an_archive_of_folders_says_what_the_command_line_reads_in_the_folder(found):
    members = {p.relative_to(DATA).as_posix(): p.read_bytes() for p in sorted(DATA.rglob("*.csv"))}
    key = found.uploads.visit(None)
    found.upload(key, [sent("prof.zip", packed(**members))])
    mine, want = calibrating.reading_of(found.uploads.root, key), read(DATA)
    assert plain(mine) == plain(want)
    assert {row.place.split("/")[0] for row in mine.rows} == {"prof.zip"}


def test_the_shipped_rows_are_one_click_away(found):
    rows = found.rows("")
    assert rows.count == len(read_shipped().rows) and rows.unmapped == ()
    assert rows.profiles[PROFILE] == rows.devices[PROFILE] + rows.devices["unknown-910b"]


# --- operators -----------------------------------------------------------------------------------------


@pytest.fixture
def profiled(found):
    """A visitor with an op_summary, and the operator in it that only a person knows."""
    key = found.uploads.visit(None)
    data = (DATA / "msprof/device_0/op_summary_20240601.csv").read_bytes()
    rows = found.upload(key, [sent("op_summary_1.csv", data)])
    return key, next(one for one in rows.unmapped if one.name == "launch_scaled_dot_kkt")


SIZES = "chunk=128, batch=16, seq_len=8192, heads=16, head_dim=128"


def test_an_assigned_operator_is_a_row_and_its_file_tells_the_command_line_the_same(
    found, profiled, tmp_path
):
    key, one = profiled
    before = found.rows(key).count
    rows = found.assign(
        key, one, {"kernel": "gdn-kkt", "variant": "published", "dtype": "fp16", "sizes": SIZES}
    )
    assert rows.count == before + 1 and one.place not in {other.place for other in rows.unmapped}
    (tmp_path / "mine.yaml").write_text(found.operators(key))
    (tmp_path / "op_summary_1.csv").write_bytes(
        (DATA / "msprof/device_0/op_summary_20240601.csv").read_bytes()
    )
    want = read(tmp_path / "op_summary_1.csv", tmp_path / "mine.yaml")
    mine = calibrating.reading_of(found.uploads.root, key)
    assert plain(mine) == plain(want)
    [new] = [row for row in mine.rows if row.kernel == "gdn-kkt"]
    assert (new.chunk, new.seq_len, new.variant) == (128, 8192, "published")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kernel": "gdn-kkt", "sizes": "chunk=128"}, "no batch, seq_len, heads, head_dim in the file"),
        ({"kernel": "gdn-kkt", "sizes": "chunk=many"}, "'chunk=many' is none; write name=number"),
        ({"kernel": "matmul", "shapes": "m,k; k,n -> m,n"}, "no input shapes in the file"),
        ({"kernel": "matmul", "shapes": "rows,k"}, "'rows' is no dimension"),
    ],
)
def test_an_operator_that_is_no_row_says_why_and_nothing_is_changed(found, profiled, given, said):
    key, one = profiled
    before = found.rows(key)
    with pytest.raises(Refused, match=said):
        found.assign(key, one, given)
    assert found.rows(key) == before and found.operators(key) == ""


def test_a_pattern_takes_the_sizes_from_the_shapes_of_a_type(found, profiled):
    key, _ = profiled
    one = next(one for one in found.rows(key).unmapped if one.type == "Mul")
    assert (one.shapes, one.launches) == ("8,512; 8,512 -> 8,512", 1)
    found.assign(key, one, {"kernel": "add", "for": "type", "shapes": "*m,n; *m,n -> *m,n"})
    [row] = [row for row in calibrating.reading_of(found.uploads.root, key).rows if row.m == 8]
    assert (row.kernel, row.m, row.n) == ("add", 8, 512)
    assert "type: Mul" in found.operators(key)


def test_an_operators_file_can_be_uploaded_edited_and_taken_away(found, profiled):
    key, one = profiled
    text = (
        f"# mine\nextends: shipped\noperators:\n- name: {one.name}\n  kernel: add\n  sizes: {{m: 8, n: 8}}\n"
    )
    count = found.rows(key).count
    assert found.upload(key, [sent("mine.yaml", text.encode())]).count == count + 1
    assert found.operators(key) == text
    with pytest.raises(Refused, match=r"^mine\.yaml:5: operators\.0\.kernel: must be text"):
        found.map(key, text.replace("kernel: add", "kernel: []"))
    assert found.operators(key) == text
    assert found.map(key, "").count == count and operators_text(folder_of(found.uploads.root, key)) == ""
    assert [one.name for one in files(folder_of(found.uploads.root, key))] == ["op_summary_1.csv"]


def test_what_comes_while_its_visitor_is_forgotten_is_refused(found):
    uploads = found.uploads
    key = uploads.visit(None)
    fresh = uploads.add(key, [sent("m.csv", b"x")])
    uploads.forget(key)
    with pytest.raises(Refused, match="the files are gone; upload them again"):
        uploads.keep(key, fresh)
    for _ in range(VISITORS):
        uploads.visit(None)
    with pytest.raises(Refused, match="the files are gone; upload them again"):
        uploads.add(key, [sent("m.csv", b"x")])
    assert not (uploads.root / key).exists()


@pytest.mark.parametrize("size", ["²", "9" * 5000, "-1", "x", ""])
def test_a_size_that_is_no_number_is_refused(found, profiled, size):
    key, one = profiled
    with pytest.raises(Refused, match=r"^sizes: .* write name=number"):
        found.assign(key, one, {"kernel": "add", "sizes": f"m={size}"})


def test_operators_of_files_that_are_gone_are_refused(found, profiled):
    key, one = profiled
    found.uploads.forget(key)
    for ask in (lambda: found.map(key, ""), lambda: found.assign(key, one, {"kernel": "add"})):
        with pytest.raises(Refused, match=r"^the files are gone; upload them again"):
            ask()
    with pytest.raises(Refused, match="the files are gone"):
        with_operators(folder_of(found.uploads.root, key), "")


# --- numbers ---------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(st.sets(st.sampled_from(sorted(GROUPS))), st.sets(st.integers(0, 60), max_size=4))
def test_numbers_are_named_by_the_fewest_groups_and_paths_and_mean_the_same(groups, places):
    found = CALIBRATIONS
    own = found.groups(PROFILE)
    every = [one.path for one in found.fields(PROFILE)]
    paths = {path for group in groups for path in own[group]} | {every[place] for place in places}
    named = found.named(PROFILE, paths)
    if not paths:
        assert named is None
        return
    assert named is not None and found.chosen(PROFILE, named) == paths
    for group in groups:
        assert not named or group in named
        less = found.with_groups(
            PROFILE, named, [one for one in own if one != group and set(own[one]) <= paths]
        )
        assert (frozenset() if less is None else found.chosen(PROFILE, less)) == paths - set(own[group])


CALIBRATIONS: Calibrations


@pytest.fixture(scope="module", autouse=True)
def _made(tmp_path_factory):
    global CALIBRATIONS
    CALIBRATIONS = Calibrations(Service(folder=tmp_path_factory.mktemp("w")), tmp_path_factory.mktemp("u"))


def test_a_number_is_ticked_and_taken_back(found):
    one = "core.scalar.alu_cycles"
    ticked = found.with_path(PROFILE, ("launch",), one, True)
    assert ticked == ("launch", one)
    assert found.with_path(PROFILE, ticked, one, False) == ("launch",)
    assert found.with_path(PROFILE, None, one, True) == (one,)
    assert found.with_path(PROFILE, (one,), one, False) is None


def test_the_grid_shows_each_number_with_its_evidence_and_what_it_carries(found):
    rows = fields.rows(found.fields(PROFILE), frozenset({"launch.base_us"}), {"launch.base_us": 0.25})
    by_path = {row["path"]: row for row in rows}
    machine = load_machine(PROFILE)
    base = by_path["launch.base_us"]
    assert (base["chosen"], base["share"], base["value"]) == (True, 0.25, machine.launch.base_us.value)
    assert base["evidence"] == str(machine.launch.base_us.evidence)
    assert sum(row["chosen"] for row in rows) == 1
    assert {row["group"] for row in rows} == {*found.groups(PROFILE), "other"}


def test_a_link_says_which_numbers_are_chosen():
    state = State()
    assert asked.fields_of(state) == ()
    assert asked.fields_of(asked.with_fields(state, None)) is None
    assert asked.fields_of(asked.with_fields(state, ("launch", "a.b"))) == ("launch", "a.b")
    assert asked.with_fields(asked.with_fields(state, ("launch",)), ()) == state


# --- predictions and fits ------------------------------------------------------------------------------


def written(rows) -> bytes:
    """Measurements as a file of npusim's own columns."""
    names = [name for name in Measurement.model_fields if name not in ("place", "note", "source")]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(names)
    for row in rows:
        writer.writerow(["" if (cell := getattr(row, name)) is None else cell for name in names])
    return text.getvalue().encode()


def test_rows_and_scores_are_those_of_npusim_validate(found, home, cli, tmp_path):
    own = [row for row in read_shipped().rows if row.kernel in ("add", "empty", "copy-gm-ub")]
    data = written([*own, own[0].model_copy(update={"kernel": "nonsense"})])
    (tmp_path / "m.csv").write_bytes(data)
    key = found.uploads.visit(None)
    rows = found.upload(key, [sent("m.csv", data)])
    seen = calibrating.predict(silent, found.prediction(rows, "")[1], home)
    want = json.loads(cli("validate", "--measurements", tmp_path / "m.csv", "--jobs", 1, "--json").out)
    assert seen.whole is not None and seen.whole.mape == want["mape"]
    assert (seen.whole.median, seen.whole.worst) == (want["median_error"], want["max_error"])
    assert (seen.ranking, seen.pairs) == (want["ranking"], want["ranked_pairs"])
    assert [(one.predicted, one.error, one.apart or None, one.unit) for one in seen.points] == [
        (row["predicted_us"], row["error"], row["apart"], row["dominated_by"]["unit"]) for row in want["rows"]
    ]
    assert {name: one.mape for name, one in seen.devices.items()} == {
        name: one["mape"] for name, one in want["by_device"].items()
    }
    assert seen.unpredicted == len(want["unsupported"]) == 1 and "no kernel" in seen.lost[0].reason
    shares = seen.carried["ascend-910b1"]
    assert sum(shares.values()) == pytest.approx(1, rel=0.02), "numbers carry the whole time, once"


@pytest.fixture(scope="module")
def fitted(synthetic, tmp_path_factory):
    """A fit to the synthetic rows, where it was made, and the file."""
    folder = tmp_path_factory.mktemp("fit")
    (folder / "work").mkdir()
    (folder / "private").mkdir()
    found = Calibrations(Service(folder=folder / "work"), calibrating.uploads_of(folder / "private"))
    home = Home(folder / "work", (), folder / "private")
    key = found.uploads.visit(None)
    rows = found.upload(key, [sent("m.csv", synthetic)])
    told = []
    _, wanted = found.fitting(rows, PROFILE, ("flags", "launch.base_us"), "kernel", False)
    fit = calibrating.fit(lambda *one: told.append(one), wanted, home)
    (folder / "m.csv").write_bytes(synthetic)
    return found, fit, told, folder


def test_a_hidden_number_is_found_again_and_the_others_stay(fitted):
    _, fit, told, _ = fitted
    by_name = {one.name: one for one in fit.learned}
    for path, value in HIDDEN.items():
        assert by_name[path].error is not None and by_name[path].value == pytest.approx(value, rel=0.01)
    default = by_name["core.flags.default_cycles"]
    assert default.value == pytest.approx(default.before, rel=0.01)
    assert fit.mape("after") < 0.003 < 0.05 < fit.mape("before")
    assert [done for done, of, text in told if text == "Evaluation 1"] == list(range(1, 9))


def test_a_fit_is_that_of_npusim_calibrate_to_the_letter_of_its_profile(fitted, cli):
    found, fit, _, folder = fitted
    out = folder / "fitted.yaml"
    said = cli(
        "calibrate", "--profile", PROFILE, "--measurements", folder / "m.csv", "--fields",
        "flags,launch.base_us", "--jobs", 1, "-o", out, "--json",
    )  # fmt: skip
    want = json.loads(said.out)
    assert (fit.mape("before"), fit.mape("after")) == (want["mape_before"], want["mape_after"])
    assert [(one.name, one.value, one.error, one.held_by) for one in fit.learned] == [
        (one["number"], one["value"], one["standard_error"], one["held_by"]) for one in want["numbers"]
    ]
    assert [(one.before, one.after) for one in fit.shifts] == [
        (row["error_before"], row["error_after"]) for row in want["rows"]
    ]
    assert [(one.group, one.mape) for one in fit.held_out] == [
        (one["group"], one["mape"]) for one in want["held_out"]["kernel"]
    ]
    assert found.profile_text(fit, "fitted") == out.read_text()


def test_the_report_opens_without_a_network_and_names_rows_and_numbers(fitted):
    found, fit, _, _ = fitted
    text = found.report(fit)
    assert text.startswith("<!DOCTYPE html>") and "core.flags.cross_core_cycles" in text
    assert all(one.place in text for one in fit.shifts)
    assert "<script src" not in text and "<link" not in text


def test_a_fit_is_saved_under_a_plain_name_and_never_over_another_profile(fitted):
    found, fit, _, folder = fitted
    for name in ("../out", "", "a/b", PROFILE):
        with pytest.raises(Refused, match="save as"):
            found.save(fit, name)
    assert found.save(fit, "mine") == "mine.yaml"
    made = load_machine(folder / "work" / "mine.yaml")
    assert made.core.flags.cross_core_cycles.value == pytest.approx(640, rel=0.01)
    with pytest.raises(Refused, match="exists"):
        found.save(fit, "mine")
    assert "mine.yaml" in [name for name, _ in found.profiles(None)]


def test_what_rows_do_not_determine_is_not_written(fitted, home, found, synthetic):
    key = found.uploads.visit(None)
    rows = found.upload(key, [sent("m.csv", synthetic)])
    _, wanted = found.fitting(rows, PROFILE, ("launch.base_us", "core.barriers.core_cycles"), "none", False)
    fit = calibrating.fit(silent, wanted, home)
    assert fit.numbers == {} and fit.held_out == ()
    with pytest.raises(Refused, match="determine none"):
        found.save(fit, "mine")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"profile": "../elsewhere.yaml"}, "only profiles in the working folder"),
        ({"fields": ["nonsense"]}, "'nonsense' is no group, number or pattern"),
        ({"hold_out": "moon"}, "load the page again"),
        ({"report": "../../x.html"}, "load the page again"),
        ({"key": "../.."}, "session is not known"),
        ({"profile": "toy"}, "no row that toy can be fitted to"),
        ({"fields": ["core.barriers.core_cycles"]}, "no row depends on any of these"),
    ],
)
def test_a_job_checks_what_a_browser_asks(found, home, synthetic, change, said):
    key = found.uploads.visit(None)
    rows = found.upload(key, [sent("m.csv", synthetic)])
    _, wanted = found.fitting(rows, PROFILE, ("flags",), "none", False)
    with pytest.raises(Refused, match=said):
        calibrating.fit(silent, wanted | change, home)


def test_the_same_question_is_the_same_job_and_another_is_another(found, synthetic):
    keys = [found.uploads.visit(None) for _ in range(2)]
    own, other = (found.upload(key, [sent("m.csv", synthetic)]) for key in keys)
    ask = [
        found.fitting(own, PROFILE, ("flags",), "none", False)[0],
        found.fitting(own, PROFILE, ("flags",), "none", True)[0],
        found.fitting(own, PROFILE, ("launch",), "none", False)[0],
        found.fitting(other, PROFILE, ("flags",), "none", False)[0],
        found.prediction(own, PROFILE)[0],
        found.prediction(own, "")[0],
    ]
    assert len(set(ask)) == len(ask)
    assert found.fitting(own, PROFILE, ("flags",), "none", False)[0] == ask[0]
    more = found.upload(keys[0], [sent("n.csv", synthetic)])
    assert found.fitting(more, PROFILE, ("flags",), "none", False)[0] not in ask


# --- figures and tables ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seen(fitted):
    found, _, _, folder = fitted
    home = Home(folder / "work", (), folder / "private")
    [key] = [one.name for one in found.uploads.root.iterdir() if KEY.fullmatch(one.name)]
    return calibrating.predict(silent, found.prediction(found.rows(key), "")[1], home)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_every_row_is_a_point_of_each_figure(seen, fitted, theme):
    _, fit, _, _ = fitted
    for made in (parity.parity(seen, theme), parity.errors(seen, theme)):
        drawn = go.Figure(made)
        xs = [x for trace in drawn.data if trace.mode == "markers" for x in trace.x if x is not None]
        assert len(xs) == len(seen.points)
    after = go.Figure(parity.fit_parity(fit, theme))
    [trace] = [one for one in after.data if one.name == "after"]
    assert list(trace.y) == pytest.approx([one.measured * (1 + one.after) for one in fit.shifts])
    errors = go.Figure(parity.fit_rows(fit, theme))
    [trace] = [one for one in errors.data if one.name == "before"]
    assert sorted(trace.x) == pytest.approx(sorted(100 * one.before for one in fit.shifts))
    assert go.Figure(parity.busy(seen, theme)).layout.annotations[0].text.startswith("no profiler gave")


def test_what_is_shown_fits_the_outputs(seen, fitted):
    _, fit, _, _ = fitted
    assert len(views.seen(seen, LIGHT)) == len(views.unseen("failed")) == len(views.SEEN)
    assert len(views.fitted(fit, LIGHT)) == len(views.unfitted("")) == len(views.FITTED)
    text = json.dumps(tables.numbers(fit).to_plotly_json(), default=lambda one: one.to_plotly_json())
    assert ["cross", "core", "cycles"][0] in text and "640" in text


def test_the_command_line_fits_the_same(found, synthetic):
    key = found.uploads.visit(None)
    rows = found.upload(key, [sent("m.csv", synthetic), sent("o.yaml", b"operators: []\n")])
    assert found.command(PROFILE, ("flags", "launch"), "none", True, rows) == (
        f"npusim calibrate --profile {PROFILE} --measurements m.csv --operators o.yaml "
        "--fields flags,launch --hold-out none --suggest"
    )
    shipped = found.command(PROFILE, (), "kernel", False, found.rows(""))
    assert shipped == f"npusim calibrate --profile {PROFILE}"
    assert (*HELD_OUT_GROUPS, "none") == calibrating.HELD_OUT
    more = found.upload(key, [sent("n.csv", synthetic)])
    assert found.command(PROFILE, (), "kernel", False, more) == "", "it takes one file, or a folder"
    key = found.uploads.visit(None)
    upper = found.upload(key, [sent("M.CSV", synthetic)])
    assert found.command(PROFILE, (), "moon", False, upper) == (
        f"npusim calibrate --profile {PROFILE} --measurements M.CSV --hold-out none"
    ), "as the job takes it"
    key = found.uploads.visit(None)
    packed_rows = found.upload(key, [sent("m.zip", packed(**{"m.csv": synthetic}))])
    assert found.command(PROFILE, (), "kernel", False, packed_rows) == "", "it reads no .zip"
