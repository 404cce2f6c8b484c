"""Reading single safetensors files: values of every float type, and every kind of invalid header."""

import json
import struct
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from edgekit.checkpoint import open_checkpoint
from edgekit.errors import CheckpointError, CorruptFileError, TensorMismatchError, TruncatedFileError

VALUES = np.arange(8 * 32, dtype=np.float32).reshape(8, 32)


def test_rows_come_in_the_stored_type(tiny_folder):
    with open_checkpoint(tiny_folder) as checkpoint:
        assert checkpoint.format == "huggingface"
        assert checkpoint.config["hidden_size"] == 32
        assert checkpoint.files == (tiny_folder / "model.safetensors",)
        for name, dtype in (("half", np.float16), ("brain", ml_dtypes.bfloat16), ("single", np.float32)):
            rows = checkpoint.rows(name, 3, 6)
            assert rows.dtype == dtype
            np.testing.assert_array_equal(rows.astype(np.float32), VALUES[3:6])
            assert rows.flags.writeable
        np.testing.assert_array_equal(checkpoint.rows("vector", 2, 5), [2, 3, 4])
        assert checkpoint.rows("single", 4, 4).shape == (0, 32)


def test_tensors_are_described_without_reading_them(tiny_folder):
    with open_checkpoint(tiny_folder) as checkpoint:
        info = checkpoint.tensors["brain"]
        assert (info.dtype, info.shape, info.size_bytes) == ("bfloat16", (8, 32), 512)
        assert info.path.read_bytes()[info.offset :][:512] == (VALUES.view(np.uint32) >> 16).astype("<u2").tobytes()
        assert checkpoint.tensors["counts"].dtype == "I64"


def test_agrees_with_the_safetensors_package(tmp_path, tiny_config):
    rng = np.random.default_rng(0)
    tensors = {
        "a": rng.standard_normal((17, 5)).astype(np.float32),
        "b": rng.standard_normal(3).astype(np.float16),
        "c": rng.standard_normal((1, 7)).astype(ml_dtypes.bfloat16),
    }
    safetensors.numpy.save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "np"})
    (tmp_path / "config.json").write_text(json.dumps(tiny_config))
    with open_checkpoint(tmp_path) as checkpoint:
        assert set(checkpoint.tensors) == set(tensors)
        for name, expected in tensors.items():
            found = checkpoint.rows(name, 0, expected.shape[0])
            assert found.dtype == expected.dtype
            assert found.tobytes() == expected.tobytes()


def test_threads_read_at_the_same_time(tiny_folder):
    with open_checkpoint(tiny_folder) as checkpoint, ThreadPoolExecutor(4) as pool:
        jobs = [(name, row) for name in ("half", "single") for row in range(8)] * 50
        found = pool.map(lambda job: checkpoint.rows(job[0], job[1], job[1] + 1), jobs)
        for (_, row), values in zip(jobs, found, strict=True):
            np.testing.assert_array_equal(values.astype(np.float32), VALUES[row : row + 1])


def test_invalid_requests(tiny_folder):
    checkpoint = open_checkpoint(tiny_folder)
    with pytest.raises(TensorMismatchError, match=r"safetensors has no tensor 'singel'; it has 5 others") as caught:
        checkpoint.rows("singel", 0, 1)
    assert caught.value.hint == "did you mean single?"
    with pytest.raises(ValueError, match="cannot read rows 0 to 9 of tensor 'single'; it has 8 rows"):
        checkpoint.rows("single", 0, 9)
    with pytest.raises(CheckpointError, match="tensor 'counts' has type I64; supported: F32, F16, BF16"):
        checkpoint.rows("counts", 0, 1)
    checkpoint.close()
    checkpoint.close()
    with pytest.raises(ValueError, match="closed"):
        checkpoint.rows("single", 0, 1)


def test_the_error_for_a_truncated_file_names_tensor_offset_and_size(tiny_folder):
    path = tiny_folder / "model.safetensors"
    with open_checkpoint(tiny_folder) as checkpoint:
        info = checkpoint.tensors["single"]
    size = info.offset + 100
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(TruncatedFileError) as caught:
        open_checkpoint(tiny_folder)
    for part in (str(path), "tensor 'single'", f"byte {info.offset}", f"{info.offset + 1024} bytes", f"has {size}"):
        assert part in caught.value.message


@pytest.mark.parametrize("size", [1, 7, 8, 50])
def test_truncated_header(tiny_folder, size):
    path = tiny_folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(TruncatedFileError, match=rf"its header needs .* it has {size}"):
        open_checkpoint(tiny_folder)


def test_a_file_that_shrinks_while_open(tiny_folder):
    path = tiny_folder / "model.safetensors"
    with open_checkpoint(tiny_folder) as checkpoint:
        path.open("r+b").truncate(checkpoint.tensors["vector"].offset + 4)
        with pytest.raises(TruncatedFileError, match="tensor 'vector'"):
            checkpoint.rows("vector", 0, 8)


@pytest.mark.parametrize("claim", [100_000_001, 2**40, 2**63, 2**64 - 1])
def test_an_impossible_header_length_allocates_nothing(tiny_folder, claim):
    path = tiny_folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", claim) + path.read_bytes()[8:])
    tracemalloc.start()
    with pytest.raises(CorruptFileError, match=f"claims {claim} bytes"):
        open_checkpoint(tiny_folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_git_lfs_pointer_is_recognized(tiny_folder):
    (tiny_folder / "model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
    )
    with pytest.raises(CorruptFileError) as caught:
        open_checkpoint(tiny_folder)
    assert "git lfs pull" in caught.value.hint


def entry(dtype="F32", shape=(2,), offsets=(0, 8), **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets), **more}


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        ("[1, 2]", b"", "is not a JSON object but a list"),
        ('{"a": ', b"", "not valid JSON"),
        ("[" * 100_000, b"", "not valid JSON"),
        ('{"a": 1, "a": 2}', b"", "duplicate key 'a'"),
        ({"a": 5}, b"", "must have exactly the keys dtype, shape and data_offsets"),
        ({"a": entry(extra=1)}, bytes(8), "must have exactly the keys"),
        ({"a": entry(dtype=7)}, bytes(8), "dtype is 7"),
        ({"a": entry(shape=[-2])}, bytes(8), "shape must be a list"),
        ({"a": entry(shape=[True])}, bytes(8), "shape must be a list"),
        ({"a": entry(shape=[2**64])}, bytes(8), "shape must be a list"),
        ({"a": entry(shape=[0, 2**60])}, b"", "shape must be a list"),
        ({"a": entry(shape=[1] * 9)}, bytes(8), "shape must be a list"),
        ({"a": entry(offsets=[8, 0])}, bytes(8), "data_offsets must be two"),
        ({"a": entry(offsets=[0, 8.0])}, bytes(8), "data_offsets must be two"),
        ({"a": entry(shape=[3])}, bytes(8), "needs 12 bytes, but data_offsets span 8"),
        ({"a": entry(), "b": entry(offsets=[4, 12])}, bytes(12), "'b' begins at byte .* and overlaps tensor 'a'"),
        ({"a": entry(), "b": entry(offsets=[12, 20])}, bytes(20), "'b' begins at byte .* and leaves a hole after"),
        ({"a": entry(offsets=[4, 12])}, bytes(12), "leaves a hole after the header"),
        ({"a": entry()}, bytes(9), "its last tensor ends at byte"),
    ],
)
def test_corrupt_headers(tiny_folder, header, data, message):
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    (tiny_folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    with pytest.raises(CorruptFileError, match=message) as caught:
        open_checkpoint(tiny_folder)
    assert str(tiny_folder / "model.safetensors") in caught.value.message
