"""``model.onnx.data``: every slot holds what the layout promises, whatever the chunks and threads."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from array_weights import ArrayWeights, tiny_weights

from edgekit.errors import BuildError, DiskFullError, NonFiniteWeightError
from edgekit.export import data_writer
from edgekit.export.data_writer import write_data
from edgekit.layout import DataLayout, Matrix, Slot, plan_layout
from edgekit.models import ModelSpec
from edgekit.models.spec import TensorRef
from edgekit.progress import no_share
from edgekit.quantize.packing import PackedLinear
from edgekit.quantize.rtn import quantize_rows
from edgekit.scheme import QuantizationConfig, QuantizationScheme

FOUR, EIGHT = QuantizationScheme(4, 64, False), QuantizationScheme(8, 32, True)
CONFIGS = {
    "int4": QuantizationConfig(FOUR, EIGHT, FOUR),
    "int8 and float": QuantizationConfig(EIGHT, None, EIGHT),
    "float": QuantizationConfig.none(),
}
CONTEXT = 5000  # positions of the rotary tables: more than are written at a time


def read(path: Path, slot: Slot | None) -> np.ndarray:
    assert slot is not None
    return np.fromfile(path, slot.dtype, math.prod(slot.shape), offset=slot.offset).reshape(slot.shape)


def stacked(matrix: Matrix, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([tensors[part.weight.name] for part in matrix.parts])


def check_matrix(path: Path, matrix: Matrix, tensors: Mapping[str, np.ndarray], dtype: str) -> None:
    weight = stacked(matrix, tensors)
    if matrix.scheme is None:
        np.testing.assert_array_equal(read(path, matrix.weight), weight.astype(dtype))
    else:
        expected = quantize_rows(weight, matrix.scheme, dtype)
        np.testing.assert_array_equal(read(path, matrix.codes), expected.codes)
        np.testing.assert_array_equal(read(path, matrix.scales), expected.scales)
        assert (matrix.zero_points is None) == (expected.zero_points is None)
        if expected.zero_points is not None:
            np.testing.assert_array_equal(read(path, matrix.zero_points), expected.zero_points)
    if matrix.bias is not None:
        bias = np.concatenate([tensors[part.bias.name] for part in matrix.parts if part.bias is not None])
        np.testing.assert_array_equal(read(path, matrix.bias), bias.astype(dtype))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_slot_holds_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, family: str, dtype: str
) -> None:
    """In small chunks, of which the last of each matrix is incomplete, on several threads."""
    monkeypatch.setattr(data_writer, "CHUNK_WEIGHTS", 1000)
    tensors, spec = tiny_weights(family)
    layout, path = plan_layout(spec, CONFIGS[name], dtype, CONTEXT), tmp_path / "data"
    write_data(path, layout, spec, ArrayWeights(tensors), no_share, threads=3)
    assert path.stat().st_size == layout.size_bytes
    for matrix in layout.matrices():
        check_matrix(path, matrix, tensors, dtype)
    for vector in layout.vectors():
        np.testing.assert_array_equal(read(path, vector.slot), tensors[vector.source.name].astype(dtype))
    angles = np.arange(CONTEXT)[:, None] * np.array(spec.rope.inverse_frequencies())
    np.testing.assert_array_equal(read(path, layout.rotary_cos), np.cos(angles).astype(dtype))
    np.testing.assert_array_equal(read(path, layout.rotary_sin), np.sin(angles).astype(dtype))


def small(config: QuantizationConfig, dtype: str = "float32") -> tuple[dict[str, np.ndarray], ModelSpec, DataLayout]:
    tensors, spec = tiny_weights("llama")
    return tensors, spec, plan_layout(spec, config, dtype, 8)


def test_chunks_and_threads_do_not_change_the_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors, spec, layout = small(CONFIGS["int4"])
    for chunk, threads in ((1 << 20, 1), (1, 4), (5000, 2)):
        monkeypatch.setattr(data_writer, "CHUNK_WEIGHTS", chunk)
        write_data(tmp_path / str(chunk), layout, spec, ArrayWeights(tensors), no_share, threads)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_a_chunk_holds_whole_heads_where_a_gguf_file_interleaves_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_writer, "CHUNK_WEIGHTS", 144 * 50)
    tensors, spec, layout = small(CONFIGS["int4"])
    source = ArrayWeights(tensors)
    write_data(tmp_path / "data", layout, spec, source, no_share, 1)
    reads = [(start, stop) for name, start, stop in source.reads if name.endswith("0.self_attn.q_proj.weight")]
    assert reads == [(0, 48), (48, 96), (96, 144)]
    reads = [(start, stop) for name, start, stop in source.reads if name.endswith("0.self_attn.o_proj.weight")]
    assert reads == [(0, 50), (50, 100), (100, 144)]


def test_calibrated_layers_are_written_as_given(tmp_path: Path) -> None:
    tensors, spec, layout = small(QuantizationConfig(EIGHT, EIGHT, EIGHT))
    zeros = {name: np.zeros_like(w) + 1 for name, w in tensors.items()}
    given = [(m, quantize_rows(stacked(m, zeros), EIGHT, "float32")) for m in layout.calibrated()]
    source = ArrayWeights(tensors)
    write_data(tmp_path / "data", layout, spec, source, no_share, 2, layers=iter(given))
    for matrix in layout.inner_matrices():
        check_matrix(tmp_path / "data", matrix, zeros, "float32")
    check_matrix(tmp_path / "data", layout.embedding, tensors, "float32")
    assert not [name for name, _, _ in source.reads if "_proj.weight" in name]


def test_scales_for_float16_in_float32(tmp_path: Path) -> None:
    """The codes and scales inside the layers are those of float16 scales; the embedding's stay float32's."""
    tensors, spec, layout = small(CONFIGS["int4"])
    write_data(tmp_path / "data", layout, spec, ArrayWeights(tensors), no_share, 1, half_scales=True)
    for matrix in layout.inner_matrices():
        expected = quantize_rows(stacked(matrix, tensors), FOUR, "float16")
        np.testing.assert_array_equal(read(tmp_path / "data", matrix.codes), expected.codes)
        np.testing.assert_array_equal(read(tmp_path / "data", matrix.scales), expected.scales.astype(np.float32))
    check_matrix(tmp_path / "data", layout.embedding, tensors, "float32")


class Carried(ArrayWeights):
    """A source that has its own codes for o_proj."""

    def packed(self, ref: TensorRef, start: int, stop: int, scheme: QuantizationScheme) -> PackedLinear | None:
        if "o_proj" not in ref.name:
            return None
        return quantize_rows(-self.rows(ref, start, stop), scheme, "float16")


def test_a_sources_own_codes_are_copied(tmp_path: Path) -> None:
    tensors, spec, layout = small(CONFIGS["int4"])
    write_data(tmp_path / "data", layout, spec, Carried(tensors), no_share, 2)
    for matrix in layout.inner_matrices():
        if matrix.name.endswith("o_proj"):
            expected = quantize_rows(-stacked(matrix, tensors), FOUR, "float16")
            np.testing.assert_array_equal(read(tmp_path / "data", matrix.codes), expected.codes)
            np.testing.assert_array_equal(read(tmp_path / "data", matrix.scales), expected.scales.astype(np.float32))
        else:
            check_matrix(tmp_path / "data", matrix, tensors, "float32")


def test_bfloat16_weights_are_widened(tmp_path: Path) -> None:
    tensors, spec, layout = small(CONFIGS["int8 and float"])
    narrow = {name: w.astype(ml_dtypes.bfloat16) for name, w in tensors.items()}
    write_data(tmp_path / "data", layout, spec, ArrayWeights(narrow), no_share, 1)
    for matrix in layout.matrices():
        check_matrix(tmp_path / "data", matrix, {n: w.astype(np.float32) for n, w in narrow.items()}, "float32")


def test_progress_counts_all_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_writer, "CHUNK_WEIGHTS", 5000)
    tensors, spec, layout = small(CONFIGS["int4"])
    reports: list[tuple[float, float]] = []
    write_data(
        tmp_path / "data", layout, spec, ArrayWeights(tensors), lambda done, total: reports.append((done, total)), 2
    )
    total = sum(m.out_features * m.in_features for m in layout.matrices())
    assert (reports[0], reports[-1]) == ((0, total), (total, total))
    assert reports == sorted(reports)
    assert {t for _, t in reports} == {total}


@pytest.mark.parametrize(
    ("name", "index", "value", "words"),
    [
        ("model.layers.1.mlp.up_proj.weight", (7, 3), np.nan, r"up_proj.weight holds nan at \[7, 3\]: .* finite"),
        ("model.layers.1.mlp.up_proj.weight", (190, 3), 1e6, r"holds 1e\+06 at \[190, 3\]: too large for float16"),
        ("model.embed_tokens.weight", (200, 143), 1e5, r"embed_tokens.weight holds 100000 at \[200, 143\]: too large"),
        ("model.norm.weight", (5,), np.inf, r"model.norm.weight holds inf at \[5\]"),
    ],
)
def test_a_weight_that_cannot_be_stored_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, index: tuple[int, ...], value: float, words: str
) -> None:
    monkeypatch.setattr(data_writer, "CHUNK_WEIGHTS", 5000)
    tensors, spec, layout = small(QuantizationConfig(FOUR, None, None), "float16")
    tensors[name][index] = value
    with pytest.raises(NonFiniteWeightError, match=words):
        write_data(tmp_path / "data", layout, spec, ArrayWeights(tensors), no_share, 2)


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    tensors, spec, layout = small(CONFIGS["float"])
    (tmp_path / "data").write_bytes(b"precious")
    with pytest.raises(BuildError):
        write_data(tmp_path / "data", layout, spec, ArrayWeights(tensors), no_share, 1)
    assert (tmp_path / "data").read_bytes() == b"precious"


@pytest.mark.parametrize(("call", "reads"), [("posix_fallocate", 0), ("pwrite", None)])
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, reads: int | None) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    tensors, spec, layout = small(CONFIGS["int4"])
    source = ArrayWeights(tensors)
    monkeypatch.setattr(os, call, full)
    with pytest.raises(DiskFullError):
        write_data(tmp_path / "data", layout, spec, source, no_share, 1)
    assert reads is None or len(source.reads) == reads, "the space is reserved before any weight is read"
