"""Which kernel an operator of a profiler is: the shipped entries, one's own, and every way to go wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from algorithms import REGISTRY
from npusim.errors import InputError
from npusim.measurements.operators import Entry, Operator, Unfit, load_operators
from npusim.measurements.read import read
from npusim.measurements.rows import SIZES
from npusim.measurements.shapes import Pattern, parse_shapes

A2 = Path(__file__).parent / "data" / "msprof" / "device_0" / "op_summary_20240601.csv"


def test_shipped_entries_name_kernels_algorithms_and_variants_that_exist():
    for entry in load_operators().operators:
        algorithms = REGISTRY[entry.kernel].algorithms
        chosen = [algorithms[entry.algorithm]] if entry.algorithm else list(algorithms.values())
        assert all(entry.variant is None or entry.variant in one.variants for one in chosen), entry
        named = {dim.strip("* ") for text in entry.shapes for part in text.replace("->", ";").split(";")
                 for dim in part.split(",")} - {"_", "...", "1"}  # fmt: skip
        wanted = set(REGISTRY[entry.kernel].sizes) & set(SIZES)
        assert named | set(entry.needs) <= wanted and (named or entry.needs), entry


@pytest.mark.parametrize(
    ("text", "inputs", "outputs", "sizes"),
    [
        ("m,k; k,n -> m,n", [(2, 3), (3, 4)], [(2, 4)], {"m": 2, "k": 3, "n": 4}),
        ("m,k; k,n -> m,n", [(2, 3), (4, 3)], [(2, 4)], None),
        ("m,k; n,k -> m,n", [(2, 3), (4, 3)], [(2, 4)], {"m": 2, "k": 3, "n": 4}),
        ("m,k; k,n -> m,n", [(2, 3), (3, 4)], [], None),
        ("m,k; k,n", [(2, 3), (3, 4)], [], {"m": 2, "k": 3, "n": 4}),
        ("m,k; k,n", [(2, 3), (3, 4), (4,)], [], None),
        ("m,k; k,n; ...", [(2, 3), (3, 4), (4,)], [], {"m": 2, "k": 3, "n": 4}),
        ("m,k; k,n", [(1, 2, 3), (1, 3, 4)], [], None),
        ("1,m,k", [(1, 2, 3)], [], {"m": 2, "k": 3}),
        ("1,m,k", [(2, 2, 3)], [], None),
        ("*m,n", [(2, 3, 5, 7)], [], {"m": 30, "n": 7}),
        ("*m,n", [(7,)], [], {"m": 1, "n": 7}),
        ("batch,*m,n", [(2, 3, 5, 7)], [], {"batch": 2, "m": 15, "n": 7}),
        ("batch,*m,n", [(7,)], [], None),
        ("m,_", [(2, 9)], [], {"m": 2}),
        ("*_,n", [(2, 3, 9)], [], {"n": 9}),
        ("m,n", [(0, 9)], [], None),
        ("m,n", [(-1, 9)], [], None),
    ],
)
def test_a_pattern_takes_sizes_from_shapes(text, inputs, outputs, sizes):
    assert Pattern.parse(text).fit(tuple(inputs), tuple(outputs)) == sizes


@pytest.mark.parametrize(
    ("text", "shapes"),
    [
        (None, None),
        ('"8192,64;64,32"', ((8192, 64), (64, 32))),
        ("8,4; 4,2;;", ((8, 4), (4, 2))),
        ("; ; ;", None),
        ("8;;4", ((8,), (), (4,))),
    ],
)
def test_shapes_are_read_as_profilers_write_them(text, shapes):
    assert parse_shapes(text) == shapes


@pytest.mark.parametrize(
    ("given_", "dtype"),
    [("FLOAT16", "fp16"), ("DT_BF16", "bf16"), ("FLOAT", "fp32"), ("DT_FLOAT", "fp32"), ("INT8", "int8")],
)
def test_dtypes_are_those_of_the_tensors(given_, dtype):
    fields = load_operators().row(
        Operator(
            "x", "Add", inputs=((2, 2), (2, 2)), outputs=((2, 2),), input_dtypes=(given_, given_, "BOOL")
        )
    )
    assert fields["dtype"] == dtype and fields["out_dtype"] is None


@pytest.mark.parametrize(
    ("dtypes", "said"),
    [
        (("FLOAT16", "FLOAT"), "inputs differ in dtype (fp16, fp32); an entry that states dtype takes them"),
        (("INT64", "INT64"), "dtype int64 is none that npusim knows"),
    ],
)
def test_dtypes_that_no_kernel_has_are_the_reason(dtypes, said):
    with pytest.raises(Unfit) as caught:
        load_operators().row(
            Operator("x", "Add", inputs=((2, 2), (2, 2)), outputs=((2, 2),), input_dtypes=dtypes)
        )
    assert str(caught.value) == said


def test_names_match_in_any_case_and_an_entry_with_both_needs_both():
    entry = Entry(name=("*MatMul*",), type=("matmulv?",), kernel="matmul")
    assert entry.matches(Operator("a_matmul_1", "MatMulV2"))
    assert not entry.matches(Operator("a_matmul_1", "Add")) and not entry.matches(Operator("x", "MatMulV2"))
    kda = load_operators().row
    with pytest.raises(
        Unfit, match="no entry"
    ):  # a kernel of another structure, with a name that begins alike
        kda(Operator("launch_chunk_h_kda"))


def test_an_operators_file_of_ones_own_takes_the_place_of_the_shipped_one(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("operators:\n  - {type: Mul, kernel: add, shapes: '*m,n; *m,n'}\n")
    reading = read(A2, operators=mine)
    assert [(row.kernel, row.m, row.n) for row in reading.rows] == [("add", 8, 512)] and not reading.devices
    mine.write_text("extends: shipped\n" + mine.read_text())
    assert len(read(A2, operators=mine).rows) == 3


def refused(**options):
    """The message that reading with a malformed operators file ends in."""
    with pytest.raises(InputError) as caught:
        read(A2, **options)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400
    return message


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{kernel: add}", "operators.0: name or type: missing; an entry needs a glob for Op Name or"),
        ("{type: Add}", "operators.0.kernel: missing"),
        ("{type: A, kernal: add, kernel: add}", "operators.0.kernal: unknown field; did you mean 'kernel'?"),
        ("{type: A, kernel: add, shapes: 'm,q'}", "operators.0.shapes.0: 'q' is no dimension: a number, _"),
        ("{type: A, kernel: add, shapes: '*m,*n'}", "operators.0.shapes.0: '*m,*n': only one dimension"),
        ("{type: A, kernel: add, sizes: {mm: 3}}", "operators.0.sizes.mm: unknown size 'mm'; did you mean"),
        ("{type: A, kernel: add, sizes: {m: 0}}", "operators.0.sizes.m: must be > 0, got 0"),
        ("{type: A, kernel: add, dtype: fp61}", "operators.0.dtype: unknown dtype 'fp61'; did you mean"),
    ],
)
def test_a_malformed_entry_names_line_and_field(tmp_path, entry, said):
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"# mine\noperators:\n  - {entry}\n")
    assert refused(operators=mine).startswith(f"{mine}:3: {said}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "operators:\n- type: A\n  kernel: a\n  shapes:\n  - m\n  - q\n",
            ":6: operators.0.shapes.1: 'q' is no",
        ),
        ("devices:\n  x:\n    profile: toy\n", ":2: devices.x.why: missing"),
        ("extends: other\n", ":1: extends: must be 'shipped', got 'other'"),
        ("", ":1: must be a mapping, got nothing"),
        ("a: 1\na: 2\n", ": line 2: a: given twice; keep one"),
        ("a: [\n", ": line 2: YAML syntax: "),
    ],
)
def test_a_malformed_operators_file_names_the_line(tmp_path, text, said):
    mine = tmp_path / "mine.yaml"
    mine.write_text(text)
    assert refused(operators=mine).startswith(f"{mine}{said}")


def test_an_operators_file_that_is_not_there_is_said_so(tmp_path):
    assert "no such file; check the path" in refused(operators=tmp_path / "none.yaml")
    assert "is a directory" in refused(operators=tmp_path)
