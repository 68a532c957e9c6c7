"""Problem files read, refused and written."""

from __future__ import annotations

import os
import stat
import warnings
from pathlib import Path

import numpy as np
import pytest

from npusim.errors import InputError
from npusim.generate import key_source
from npusim.inputs import delta_matrix, read_matrices
from npusim.matrices import Layout
from npusim.npz import write_npz

CAPTURE = Path(__file__).resolve().parents[2] / "shared" / "data" / "gates_qwen3_5_0_8b.npz"


@pytest.fixture(autouse=True)
def _warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def lower(rng, matrices=3, size=20, scale=0.3):
    return np.tril(rng.standard_normal((matrices, size, size)) * scale, -1)


@pytest.fixture
def problem():
    rng = np.random.default_rng(3)
    k = rng.standard_normal((50, 2, 8))
    return {
        "k": k / np.linalg.norm(k, axis=-1, keepdims=True),
        "beta": rng.random((50, 4)),
        "g": -rng.random((50, 4)),
    }


def saved(tmp_path, **arrays):
    path = tmp_path / "problem.npz"
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int8])
def test_triangles_of_any_real_dtype_are_read_as_they_are(tmp_path, kind):
    L = (lower(np.random.default_rng(0)) * 10).astype(kind)
    batch = read_matrices(saved(tmp_path, L=L))
    assert batch.L.dtype == np.float64 and batch.head is None and batch.total == 3
    np.testing.assert_array_equal(batch.L, L.astype(np.float64))
    np.testing.assert_array_equal(read_matrices(saved(tmp_path, L=L), samples=2).L, L[[0, 1]].astype(float))


def test_keys_and_gates_of_a_file_give_the_matrices_of_their_definition(tmp_path, problem):
    batch = read_matrices(saved(tmp_path, **problem, cu_seqlens=[0, 20, 50]), 16)
    chunks = [slice(0, 16), slice(16, 20), slice(20, 36), slice(36, 50)]
    assert batch.total == len(batch.L) == 16
    for matrix, (chunk, head) in enumerate((c, h) for c in chunks for h in range(4)):
        k, beta, g = problem["k"][chunk, head // 2], problem["beta"][chunk, head], problem["g"][chunk, head]
        n = len(beta)
        expected = np.zeros((16, 16))
        expected[:n, :n] = delta_matrix(k, beta, g)
        np.testing.assert_allclose(batch.L[matrix], expected, rtol=1e-12, atol=1e-15)
        assert batch.head[matrix] == head
    whole = read_matrices(saved(tmp_path, **problem), 16)
    assert whole.total == 16 and not np.array_equal(whole.L, batch.L)
    np.testing.assert_array_equal(read_matrices(saved(tmp_path, **problem), 16, samples=5).L[0], whole.L[0])


def test_keys_are_generated_around_gates_without_keys(tmp_path, problem):
    del problem["k"]
    path = saved(tmp_path, **problem)
    batch = read_matrices(path, 16, seed=2, key_heads=2, head_dim=32, key_correlation=0.5)
    keys = key_source(Layout((50,), 16, 4), 32, 0.5, 2)
    expected = delta_matrix(keys(0, 1, 1), problem["beta"][16:32, 3], problem["g"][16:32, 3])
    np.testing.assert_allclose(batch.L[1 * 4 + 3], expected, rtol=1e-12, atol=1e-15)
    assert "generated" in batch.description and "0.5" in batch.description
    with pytest.raises(InputError, match="4 heads are no multiple of 3 key heads"):
        read_matrices(path, 16, key_heads=3)


def test_captured_gates_make_a_problem_where_they_are_at_hand():
    if not CAPTURE.exists():
        pytest.skip("captured gates not at hand")
    batch = read_matrices(CAPTURE, 64, samples=64)
    assert batch.L.shape == (64, 64, 64) and batch.total == 2048 and set(batch.head) == set(range(16))


def test_keys_that_are_not_normalised_are_taken_as_they_are_and_said_to_be(tmp_path, problem):
    plain = read_matrices(saved(tmp_path, **problem), 16)
    doubled = read_matrices(saved(tmp_path, **problem | {"k": 2 * problem["k"]}), 16)
    np.testing.assert_allclose(doubled.L, 4 * plain.L, rtol=1e-12)
    assert "not normalised: lengths 2 to 2" in doubled.description
    assert "normalised" not in plain.description
    stored = read_matrices(saved(tmp_path, **problem | {"k": problem["k"].astype(np.float16)}), 16)
    assert "normalised" not in stored.description


def changed(array, where, value):
    array = array.copy()
    array[where] = value
    return array


BAD_TRIANGLES = [
    (lambda L: L[0], r"array L: shape \(20, 20\): 3 axes are needed, \[matrices, C, C\]"),
    (lambda L: L[:, :, :19], r"must be square"),
    (lambda L: L[:0], "is empty"),
    (lambda L: L + 1j, "complex128: real numbers"),
    (lambda L: L.astype(str), "real numbers are needed"),
    (lambda L: L > 0, "dtype bool"),
    (lambda L: changed(L, (1, 2, 1), np.nan), "array L: nan at matrix 1, row 2, column 1: every value"),
    (lambda L: changed(L, (2, 0, 0), -np.inf), "-inf at matrix 2"),
    (lambda L: changed(L, (1, 4, 9), 0.5), "0.5 at matrix 1, row 4, column 9: L must be strictly lower"),
    (lambda L: L + np.eye(20), r"1\.0 at matrix 0, row 0, column 0.*not I \+ L"),
    (lambda L: np.array([[["a"], [None]]], dtype=object), "holds Python objects"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD_TRIANGLES)
def test_triangles_that_are_none_are_refused_with_the_place_of_the_fault(tmp_path, spoil, message):
    path = saved(tmp_path, L=spoil(lower(np.random.default_rng(0))))
    with pytest.raises(InputError, match=message) as caught:
        read_matrices(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


BAD_PROBLEMS = [
    (lambda p: {"beta": p["beta"]}, "no array g .*store L"),
    (lambda p: {"k": p["k"]}, "no array beta or g"),
    (lambda p: {}, "arrays in it: none"),
    (lambda p: {"betas": p["beta"], "g": p["g"]}, "array betas: unknown array: did you mean 'beta'"),
    (lambda p: p | {"L": np.zeros((1, 2, 2))}, "either L, or k, beta and g"),
    (lambda p: p | {"g": p["g"][:, :2]}, r"array g: shape \(50, 2\) differs from that of beta, \(50, 4\)"),
    (
        lambda p: p | {"beta": p["beta"][:, 0]},
        r"array beta: shape \(50,\): 2 axes are needed, \[tokens, heads\]",
    ),
    (lambda p: p | {"k": p["k"][:49]}, "array k: 49 tokens, but beta and g have 50"),
    (lambda p: p | {"k": p["k"][:, [0, 0, 0]]}, "3 key heads: the 4 heads .* no multiple"),
    (
        lambda p: p | {"k": changed(p["k"], (7, 1, 2), np.nan)},
        "array k: nan at token 7, key head 1, dimension 2",
    ),
    (lambda p: p | {"k": p["k"] * 1e200}, "array k: values too large"),
    (lambda p: p | {"beta": changed(p["beta"], (3, 2), 1.5)}, "array beta: 1.5 at token 3, head 2: .*0..1"),
    (lambda p: p | {"beta": changed(p["beta"], (3, 2), -0.1)}, "array beta: -0.1 at token 3, head 2"),
    (lambda p: p | {"g": changed(p["g"], (9, 0), 0.25)}, "array g: 0.25 at token 9, head 0: must be <= 0"),
    (lambda p: p | {"cu_seqlens": [0, 20]}, "array cu_seqlens: must start at 0, increase and end at the 50"),
    (lambda p: p | {"cu_seqlens": [0, 30, 30, 50]}, "array cu_seqlens: must start"),
    (lambda p: p | {"cu_seqlens": [0.0, 50.0]}, "whole numbers"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD_PROBLEMS)
def test_keys_and_gates_that_make_no_problem_are_refused_with_array_and_place(
    tmp_path, problem, spoil, message
):
    path = saved(tmp_path, **spoil(problem))
    with pytest.raises(InputError, match=message) as caught:
        read_matrices(path, 16)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_no_npz_file_is_refused_by_name(tmp_path):
    np.save(tmp_path / "one.npy", np.zeros((1, 2, 2)))
    (tmp_path / "text.npz").write_text("L = 1")
    (tmp_path / "empty.npz").touch()
    whole = saved(tmp_path, L=np.zeros((1, 2, 2))).read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[:100])
    damaged = bytearray(whole)
    damaged[150] ^= 255
    (tmp_path / "damaged.npz").write_bytes(damaged)
    for name, message in (
        ("missing.npz", "no such file"),
        ("", "is a folder"),
        ("one.npy", "one array without a name"),
        ("text.npz", "no .npz file"),
        ("empty.npz", "no .npz file"),
        ("cut.npz", "no .npz file"),
        ("damaged.npz", "array L: is damaged"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            read_matrices(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


def test_a_chunk_below_one_is_refused(tmp_path, problem):
    with pytest.raises(InputError, match="--chunk"):
        read_matrices(saved(tmp_path, **problem), 0)


def test_results_are_written_whole_and_under_exactly_the_name_given(tmp_path):
    for name in ("T.npz", "plain"):
        write_npz(tmp_path / name, {"T": np.ones(3)})
        write_npz(tmp_path / name, {"T": np.eye(3), "other": np.arange(2)})
        with np.load(tmp_path / name) as back:
            np.testing.assert_array_equal(back["T"], np.eye(3))
            np.testing.assert_array_equal(back["other"], np.arange(2))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["T.npz", "plain"]


def test_a_result_that_cannot_be_written_leaves_the_old_one_and_nothing_else(tmp_path):
    write_npz(tmp_path / "T.npz", {"T": np.ones(3)})

    class Broken:
        def __array__(self, *_, **__):
            raise OSError("disk full")

    with pytest.raises(InputError, match=r"T\.npz: cannot be written: disk full"):
        write_npz(tmp_path / "T.npz", {"T": Broken()})
    with np.load(tmp_path / "T.npz") as back:
        np.testing.assert_array_equal(back["T"], np.ones(3))
    assert [p.name for p in tmp_path.iterdir()] == ["T.npz"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "T.npz").stat().st_mode) == 0o666 & ~umask


def test_a_result_needs_an_existing_folder_and_a_file_name(tmp_path):
    with pytest.raises(InputError, match=r"folder .*nowhere does not exist"):
        write_npz(tmp_path / "nowhere" / "T.npz", {"T": np.ones(3)})
    with pytest.raises(InputError, match="is a folder"):
        write_npz(tmp_path, {"T": np.ones(3)})


def test_a_result_goes_through_symbolic_links_to_their_end(tmp_path):
    (tmp_path / "there").mkdir()
    for name in ("old.npz", "new.npz"):
        target, link = tmp_path / "there" / name, tmp_path / name
        if name == "old.npz":
            target.touch()
        link.symlink_to(target)
        write_npz(link, {"T": np.ones(3)})
        assert link.is_symlink() and not target.is_symlink()
        with np.load(target) as back:
            np.testing.assert_array_equal(back["T"], np.ones(3))


def test_what_is_no_regular_file_is_left_alone(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "to_pipe").symlink_to("pipe")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("pipe", "to_pipe", "loop"):
        with pytest.raises(InputError, match=f"{name}: exists and is no regular file"):
            write_npz(tmp_path / name, {"T": np.ones(3)})
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    (tmp_path / "astray").symlink_to(tmp_path / "nowhere" / "T.npz")
    with pytest.raises(InputError, match=r"folder .*nowhere does not exist"):
        write_npz(tmp_path / "astray", {"T": np.ones(3)})


def test_sequences_beside_triangles_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"array cu_seqlens: .* remove it"):
        read_matrices(saved(tmp_path, L=lower(np.random.default_rng(0)), cu_seqlens=[0, 20]))
