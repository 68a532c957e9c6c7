"""Measurements read: files of our own, of msprof and of msopprof, and every way to be malformed."""

from __future__ import annotations

import csv
import io
import os
import statistics
import tomllib
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from npusim.errors import InputError
from npusim.measurements import table as tables
from npusim.measurements.read import read, read_shipped
from npusim.measurements.rows import BUSY, COLUMNS, SIZES, Measurement
from npusim.profiles import load_machine

ROOT = Path(__file__).parent.parent
DATA = Path(__file__).parent / "data"
SHIPPED = ROOT / "hw_profiles" / "measurements" / "ascend.csv"
A2 = DATA / "msprof" / "device_0" / "op_summary_20240601.csv"
MSOPPROF = DATA / "msopprof"
OWN = "kernel,time_us,m,cores\nadd,12.5,64,8\n"


@pytest.fixture
def file(tmp_path):
    """Write text or bytes to a file and give its path."""

    def write(content, name="mine.csv"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def refused(path, **options):
    """The message that reading a path ends in: one line that begins with the path."""
    with pytest.raises(InputError) as caught:
        read(path, **options)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400
    return message


# --- our own columns -------------------------------------------------------------------------


def test_the_shipped_rows_are_65_and_say_what_pandas_reads_in_them():
    reading, frame = read_shipped(), pd.read_csv(SHIPPED, dtype=str)
    assert len(reading.rows) == 65 and not reading.unmapped
    for row, (index, cells) in zip(reading.rows, frame.iterrows(), strict=True):
        assert row.place == f"ascend.csv:{index + 2}"
        for column, cell in cells.items():
            value = getattr(row, column)
            if pd.isna(cell):
                assert value in (None, "")
            elif isinstance(value, str):
                assert value == cell
            else:
                assert value == float(cell)


def test_the_shipped_devices_are_profiles_or_have_one_that_stands_for_them():
    reading = read_shipped()
    for name in {row.device for row in reading.rows}:
        device = reading.devices.get(name)
        assert load_machine(device.profile if device else name).core.groups.value >= 20
    assert reading.devices["unknown-910b"].cores == 20
    assert "which 910B" in reading.devices["unknown-910b"].why


def test_the_shipped_files_are_packaged():
    settings_ = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert {"measurements/*.csv", "measurements/*.yaml"} <= set(settings_["package-data"]["hw_profiles"])


NUMBERS = st.floats(1e-3, 1e9, allow_nan=False)
ROWS = st.fixed_dictionaries(
    {"kernel": st.sampled_from(["add", "matmul"]), "time_us": NUMBERS},
    optional={
        "note": st.text("abc ,;\"'\n", min_size=1).map(str.strip),
        "clock": st.sampled_from(["event", "task_duration", "core", "not stated"]),
        **dict.fromkeys(SIZES, st.integers(1, 10**9)),
        **dict.fromkeys([*BUSY, "clock_mhz", "time_std_us"], NUMBERS),
    },
)


@given(st.lists(ROWS, min_size=1, max_size=4), st.randoms(), st.sampled_from(["\n", "\r\n"]), st.booleans())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_that_pandas_writes_come_back_in_whatever_order_the_columns_stand(
    tmp_path, rows, random, end, bom
):
    columns = list({column for row in rows for column in row})
    random.shuffle(columns)
    path = tmp_path / "rows.csv"
    frame = pd.DataFrame(rows, dtype=object)[columns]
    frame.to_csv(path, index=False, lineterminator=end, encoding="utf-8-sig" if bom else "utf-8")
    for row, given_ in zip(read(path).rows, rows, strict=True):
        for column in COLUMNS:
            default = Measurement.model_fields[column].get_default()
            assert getattr(row, column) == (given_.get(column) or default), column


def test_a_place_is_the_line_that_an_editor_shows(file):
    path = file('kernel,time_us,note\n\nadd,1,"two\nlines"\n,,\nadd,2,\n')
    assert [row.place for row in read(path).rows] == [f"{path}:3", f"{path}:6"]
    assert read(path).rows[0].note == "two\nlines"


def test_empty_cells_and_a_closing_comma_say_nothing(file):
    row = read(file("Kernel , time_us,device,m,\nadd,1.5, ,NA,\n")).rows[0]
    assert (row.kernel, row.time_us, row.device, row.m, row.clock) == ("add", 1.5, "", None, "not stated")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty; a measurement file has a header and rows"),
        ("\n\n,,\n", "is empty"),
        ("kernel,time_us\n", "has a header and no row below it; write one row per measurement"),
        ("kernel,time_ms\nadd,1\n", ":1: column 'time_ms' is none of a measurement; did you mean 'time_us'"),
        ("kernel,m\nadd,1\n", ":1: column 'time_us' is missing from the header; it has kernel, m"),
        ("time_us,m\n1,1\n", ":1: column 'kernel' is missing"),
        ("a,b\n1,2\n", ":1: column 'kernel' is missing from the header; it has a, b"),
        ("kernel,time_us,place\nadd,1,x\n", "column 'place' is none of a measurement"),
        ("kernel,,time_us\nadd,1,x\n", "column '' is none of a measurement"),
        ("kernel,time_us,m,M\nadd,1,2,3\n", ":1: column 'm' is there twice (3 and 4); remove one"),
        ("kernel;time_us\nadd;1\n", ":1: columns are separated by ';'; separate them by commas"),
        ("kernel\ttime_us\nadd\t1\n", "separated by '\\t'"),
        ("kernel,time_us\nadd,1\nadd,fast\n", ":3: time_us: must be a number, got 'fast'"),
        ("kernel,time_us\nadd,-3\n", ":2: time_us: must be > 0, got '-3'"),
        ("kernel,time_us\nadd,0\n", ":2: time_us: must be > 0, got '0'"),
        ("kernel,time_us\nadd,nan\n", ":2: time_us: must be finite, got 'nan'"),
        ("kernel,time_us\nadd,inf\n", ":2: time_us: must be finite"),
        ("kernel,time_us\nadd,\n", ":2: time_us: missing"),
        ("kernel,time_us\n,1\n", ":2: kernel: missing"),
        ("kernel,time_us,m\nadd,1,2.5\n", ":2: m: must be a whole number, got '2.5'"),
        ("kernel,time_us,m\nadd,1,=1+1\n", ":2: m: must be a whole number, got '=1+1'"),
        ("kernel,time_us,cube_us\nadd,1,-1\n", ":2: cube_us: must be >= 0, got '-1'"),
        ("kernel,time_us,clock\nadd,1,wall\n", ":2: clock: must be 'event', 'task_duration', 'core' or"),
        ("kernel,time_us\nadd,1,2\n", ":2: has 3 cells, the header 2; quote cells that hold a comma"),
        ("kernel,time_us,m\nadd,1,2\nadd,1\n", ":3: has 2 cells, the header 3; "),
        ('kernel,time_us\nadd,1\nadd,"1\nadd,2\n', ":3: is no CSV row (unexpected end of data)"),
        ('kernel,time_us\n"a"dd,1\n', ":2: is no CSV row"),
        ("kernel,time_us\nadd," + "1" * 200_000 + "\n", ":2: is no CSV row"),
        (b"kernel,time_us\nadd,1\n\0\n", ":3: has a zero byte; it is no text, or UTF-16: save it as UTF-8"),
        ("kernel,time_us\nadd,1\n".encode("utf-16"), ":1: has a zero byte"),
        (b"kernel,time_us,note\nadd,1,x\nadd,1,\xb2\xe2\n", ":3: is not UTF-8 text; save it as UTF-8"),
    ],
)  # fmt: skip
def test_a_malformed_file_is_one_line_that_names_the_place(file, text, said):
    path = file(text)
    message = refused(path)
    assert message.startswith(f"{path}:") and said in message


def test_a_file_above_the_limit_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "huge.csv"
    with path.open("wb") as stream:
        stream.truncate(2**30)
    assert refused(path) == f"{path}: holds 1,024 MiB, the limit is 64; split it"


def test_no_more_than_the_limit_is_ever_read(file, monkeypatch):
    monkeypatch.setattr(tables, "LIMIT_BYTES", len(OWN) - 1)
    assert "the limit is" in refused(file(OWN))


def test_a_path_without_a_file_is_said_so(tmp_path):
    assert "no such file; check the path" in refused(tmp_path / "none.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    assert "is no regular file" in refused(tmp_path / "pipe.csv")
    assert "cannot be read" in refused("a\0b")


@pytest.mark.skipif(os.geteuid() == 0, reason="everything is readable to root")
def test_what_may_not_be_read_is_said_so(file):
    path = file(OWN, "folder/mine.csv")
    path.chmod(0)
    assert "cannot be read: Permission denied; check its permissions" in refused(path)
    path.parent.chmod(0)
    assert "cannot be read: Permission denied" in refused(path.parent)
    path.parent.chmod(0o700)


def test_an_error_of_the_system_is_an_input_error(file, monkeypatch):
    path, real = file(OWN), Path.open

    def fail(self, *arguments, **options):
        if self == path:
            raise PermissionError(13, "Permission denied")
        return real(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", fail)
    assert refused(path) == f"{path}: cannot be read: Permission denied; check its permissions"
    assert refused(path.parent) == f"{path}: cannot be read: Permission denied; check its permissions"


# --- folders ---------------------------------------------------------------------------------


def test_a_folder_gives_what_all_its_files_give():
    reading = read(DATA)
    single = [
        read(path) for path in (*sorted(DATA.rglob("OpBasic*.csv")), *sorted(DATA.rglob("op_sum*.csv")))
    ]
    assert reading.rows == [row for one in single for row in one.rows]
    assert reading.unmapped == [operator for one in single for operator in one.unmapped]


def test_in_a_folder_files_count_by_their_header_and_tables_of_other_things_do_not(file):
    file(OWN, "a/mine.csv")
    file(A2.read_text(), "b/renamed.csv")
    file("Time,Value\n1,2\n", "c/other.csv")
    file(b"\xff\xfe\0", "c/binary.csv")
    path = file("no table", "notes.txt").parent
    assert [row.kernel for row in read(path).rows] == ["add", "matmul", "add"]


def test_a_folder_without_measurements_is_refused(file):
    path = file("Time,Value\n1,2\n", "other.csv").parent
    message = refused(path)
    assert message.startswith(
        f"{path}: holds no measurement; name a folder with a CSV with kernel and time_us"
    )


def test_a_malformed_file_in_a_folder_is_named(file):
    path = file("Op Name,OP Type\nx,Add\n", "a/op_summary_1.csv")
    wanted = f"{path}:1: column 'Task Duration(us)' is missing from the header; it has Op Name, OP Type"
    assert refused(path.parent.parent) == wanted


# --- msprof ----------------------------------------------------------------------------------


def test_launches_alike_are_one_row_with_their_median():
    row = read(A2).rows[0]
    frame = pd.read_csv(A2)
    launches = frame[frame["OP Type"] == "MatMulV2"]
    times = launches["Task Duration(us)"]
    assert len(launches) == row.runs == 3
    assert row.time_us == times.median() and row.time_std_us == pytest.approx(times.std())
    assert row.cube_us == launches["aic_mac_time(us)"].median()
    assert (row.kernel, row.m, row.n, row.k) == ("matmul", 1024, 512, 4096)
    assert (row.dtype, row.out_dtype, row.cores, row.clock) == ("fp16", "fp16", 24, "task_duration")
    assert (row.vector_us, row.mte3_us) == (None, None)  # the vector cores did nothing
    assert "median of 3 launches, lines 2, 3, 5" in row.note and row.place == f"{A2}:2"


def test_a_vector_kernel_has_the_scalar_and_mte2_times_of_its_own_cores():
    row = read(A2).rows[1]
    assert (row.kernel, row.m, row.n, row.dtype, row.cores) == ("add", 8 * 512, 1024, "bf16", 48)
    assert row.busy == {"vector_us": 2.5, "scalar_us": 1.25, "mte2_us": 10, "mte3_us": 5.5}
    assert row.runs == 1 and row.time_std_us is None


def test_operators_that_are_no_row_are_given_with_the_reason():
    reasons = {unmapped.operator: unmapped.reason for unmapped in read(A2).unmapped}
    assert reasons == {
        "aclnnMul_MulAiCore_Mul (Mul)": "no entry of the operators file has its name or type",
        "aclnnAdd_AddAiCore_Add (Add)": "ran on AI_CPU, on no AI core",
        "hcom_allReduce__1": "ran on COMMUNICATION, on no AI core",
        "launch_scaled_dot_kkt (launch_scaled_dot_kkt)": "no chunk, batch, seq_len, heads, head_dim in the "
        "file; give sizes in an operators file of your own",
    }


def test_a_later_version_names_its_columns_otherwise():
    reading = read(A2.with_name("op_summary_blocknum.csv"))
    norm, softmax, product = reading.rows
    assert (norm.kernel, norm.algorithm, norm.m, norm.n, norm.dtype) == (
        "rmsnorm",
        "plain",
        8192,
        5120,
        "bf16",
    )
    assert (softmax.kernel, softmax.m, softmax.n, softmax.cores) == ("softmax", 2048, 2048, 40)
    assert (product.m, product.n, product.k) == (64, 128, 256) and "bias is left out" in product.note
    assert [u.reason.split(";")[0] for u in reading.unmapped] == ["no time in the file", "shapes 4,16,16,16"]


def test_without_task_duration_the_time_is_that_of_the_cores_and_fused_cores_have_one_of_each_unit():
    row = read(A2.with_name("op_summary_fused.csv")).rows[0]
    assert (row.time_us, row.clock) == (40.5, "core") and "no Task Duration" in row.note
    assert row.busy == {
        "cube_us": 10, "scalar_us": 5, "mte1_us": 6, "mte2_us": 7, "mte3_us": 8, "vector_us": 9
    }  # fmt: skip
    assert (row.m, row.k, row.n, row.cores) == (16, 32, 64, 8)


@given(st.randoms(), st.sampled_from([str.upper, str.lower, lambda name: f" {name.replace('(', ' (')}"]))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_columns_of_a_profiler_stand_in_any_order_and_spelling(tmp_path, random, spelled):
    rows = list(csv.reader(A2.read_text().splitlines()))
    order = list(range(len(rows[0])))
    random.shuffle(order)
    rows[0] = [spelled(name) for name in rows[0]]
    text = io.StringIO()
    csv.writer(text).writerows([row[index] for index in order] for row in rows)
    path = tmp_path / "op_summary.csv"
    path.write_text(text.getvalue())
    again, wanted = read(path).rows, read(A2).rows
    assert [r.model_dump(exclude={"place"}) for r in again] == [
        r.model_dump(exclude={"place"}) for r in wanted
    ]


HEAD = "Op Name,OP Type,Block Dim,Task Duration(us),Input Shapes,aic_mac_time(us),aicore_time(us)\n"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('x,Add,8,fast,"1,2;1,2",1,2', "Task Duration(us): must be a finite number, got 'fast'"),
        ('x,Add,8,-4,"1,2;1,2",1,2', "Task Duration(us): must be >= 0, got '-4'; leave it empty where"),
        ('x,Add,8,1e999,"1,2;1,2",1,2', "Task Duration(us): must be a finite number"),
        ('x,Add,8,1_0,"1,2;1,2",1,2', "Task Duration(us): must be a finite number"),
        ('x,Add,8,4,"1,2;1,2",-1,2', "aic_mac_time(us): must be >= 0"),
        ('x,Add,2.5,4,"1,2;1,2",1,2', "Block Dim: must be a whole number, got 2.5"),
        (
            'x,Add,8,4,"1,a;1,2",1,2',
            "Input Shapes: must be whole numbers such as 128,64;64,32, got '1,a;1,2'",
        ),
        (',Add,8,4,"1,2;1,2",1,2', "Op Name: is empty; an operator has a name"),
        ('x,Add,8,4,"1,2;1,2",1', "has 6 cells, the header 7"),
    ],
)
def test_a_malformed_cell_of_a_profiler_names_line_and_column(file, row, said):
    path = file(HEAD + 'x,MatMul,8,4,"1,2;2,2",1,2\n' + row + "\n")
    assert refused(path).startswith(f"{path}:3: {said}")


def test_a_time_beyond_belief_is_refused(file):
    path = file('Op Name,OP Type,Task Duration(us),Input Shapes,Output Shapes\nx,Add,1e13,"2,2;2,2","2,2"\n')
    assert refused(path) == f"{path}:2: time_us: must be <= 1e+12, got 10000000000000.0"


def test_a_large_op_summary_is_read_in_seconds(file):
    lines = A2.read_text().splitlines()
    rows = read(file("\n".join([lines[0], *lines[1:3] * 5000]))).rows
    assert len(rows) == 1 and rows[0].runs == 10_000 and rows[0].time_us == 110
    assert rows[0].time_std_us == pytest.approx(statistics.stdev([100, 120] * 5000))
    assert len(rows[0].note) < 200


# --- msopprof --------------------------------------------------------------------------------

OPERATORS = """
extends: shipped
operators:
  - name: my_matmul*
    kernel: matmul
    variant: basic-1
    dtype: fp16
    sizes: {m: 64, n: 128, k: 256}
  - name: launch_scaled_dot_kkt
    kernel: gdn-kkt
    sizes: {chunk: 128, batch: 1, seq_len: 512, heads: 1, head_dim: 128}
    note: one sequence
  - {name: tri_inv_col_sweep*, kernel: tri-inverse, sizes: {chunk: 64, matrices: 4}}
devices:
  my-board: {profile: ascend-910b4, why: it is one}
"""


def test_msopprof_gives_means_over_the_cores_used(file):
    reading = read(MSOPPROF, operators=file(OPERATORS, "mine.yaml"))
    product, kkt, sweep = reading.rows
    assert not reading.unmapped and set(reading.devices) == {"unknown-910b", "my-board"}
    assert product.busy == {
        "cube_us": 75, "scalar_us": 15, "mte1_us": 45, "mte2_us": 70, "fixpipe_us": 15
    }  # fmt: skip
    assert (product.time_us, product.clock, product.clock_mhz) == (210.5, "task_duration", 1850)
    assert (product.m, product.cores, product.variant, product.dtype) == (64, 2, "basic-1", "fp16")
    assert kkt.busy == {
        "cube_us": 10, "vector_us": 32, "scalar_us": 4, "mte1_us": 6, "mte2_us": 8, "mte3_us": 7,
        "fixpipe_us": 2,
    }  # fmt: skip
    assert kkt.note == "mix launch_scaled_dot_kkt; one sequence" and kkt.chunk == 128
    assert sweep.busy == {"vector_us": 250, "scalar_us": 280, "mte2_us": 1.5}
    assert (sweep.matrices, sweep.clock_mhz, sweep.runs) == (4, 1650, 1)


def test_without_pipe_utilization_there_are_no_busy_times(file):
    basic = file((MSOPPROF / "OPPROF_matmul" / "OpBasicInfo.csv").read_bytes(), "run/OpBasicInfo.csv")
    row = read(basic.parent, operators=file(OPERATORS, "mine.yaml")).rows[0]
    assert row.time_us == 210.5 and not row.busy


def test_pipe_utilization_alone_is_refused(file):
    path = file((MSOPPROF / "OPPROF_mix/kkt/PipeUtilization.csv").read_bytes(), "run/PipeUtilization.csv")
    assert "without OpBasicInfo.csv; copy the whole folder" in refused(path.parent)
    assert "has no time of the operator; name its folder" in refused(path)


def test_malformed_files_of_msopprof_are_named(file):
    basic = file("Op Name,Op Type,\nx,mix,\n", "run/OpBasicInfo.csv")
    assert "column 'Task Duration(us)' is missing" in refused(basic)
    basic.write_text("Op Name,Task Duration(us)\nx,1\ny,2\n")
    pipes = file("block_id,aic_time(us),aic_cube_time(us)\n0,1,bad\n", "run/PipeUtilization.csv")
    assert refused(basic).startswith(f"{basic}:3: a second operator")
    basic.write_text("Op Name,Task Duration(us)\nx,1\n")
    assert refused(basic.parent).startswith(
        f"{pipes}:2: aic_cube_time(us): must be a finite number, got 'bad'"
    )
    pipes.write_text("block_id\n0\n")
    assert "column 'aic_time(us)' is missing" in refused(basic)
