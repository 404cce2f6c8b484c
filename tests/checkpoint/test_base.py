"""What all checkpoints share: dequantizing rows, special tokens, and the checks of a request for rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgekit.checkpoint import Checkpoint, QuantizedFormat, QuantizedRows, SpecialTokens, TensorInfo, TokenizerFiles
from edgekit.checkpoint.base import shortest_float
from edgekit.checkpoint.chat_templates import ChatTemplates
from edgekit.errors import CheckpointError, TensorMismatchError


@pytest.mark.parametrize("bits", [4, 8])
def test_rows_are_dequantized_by_definition(bits: int) -> None:
    rng = np.random.default_rng(bits)
    n, k = 3, 10
    groups = np.array([0, 0, 1, 2, 1, 0, 2, 2, 1, 0], np.int32)  # scattered, as activation order leaves them
    codes = rng.integers(0, 2**bits, (n, k), np.uint8)
    scales = rng.standard_normal((n, 3)).astype(np.float16)
    zeros = rng.integers(0, 2**bits, (n, 3), np.uint8)
    packed = codes if bits == 8 else codes[:, 0::2] | codes[:, 1::2] << 4
    expected = [
        [float(scales[i, groups[j]]) * (int(codes[i, j]) - int(zeros[i, groups[j]])) for j in range(k)]
        for i in range(n)
    ]
    rows = QuantizedRows(QuantizedFormat(bits, False, groups), packed, scales, zeros)
    found = rows.dequantize()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_add_bos_needs_a_bos() -> None:
    with pytest.raises(ValueError, match="no bos_id"):
        SpecialTokens(bos_id=None, eos_ids=(1,), pad_id=None, add_bos=True)


def test_tokenizer_files_are_a_mapping() -> None:
    special = SpecialTokens(bos_id=None, eos_ids=(1,), pad_id=None, add_bos=False)
    templates = ChatTemplates({"default": "é"})
    files = TokenizerFiles({"tokenizer.json": b"{}"}, special, templates, notes=("a pad token is not used",))
    assert dict(files) == {"tokenizer.json": b"{}"}
    assert len(files) == 1
    assert files.notes == ("a pad token is not used",)
    assert files.chat_template == "é"
    assert TokenizerFiles({"tokenizer.json": b"{}"}, special).chat_template is None


@pytest.mark.parametrize("value", [1e-6, 1e-5, 0.1, 10000.0, 500000.0, 1.0, 3.4028235e38])
def test_the_shortest_decimal_of_a_float32(value: float) -> None:
    assert shortest_float(float(np.float32(value))) == value


class Rows(Checkpoint):
    """A checkpoint of two tensors that returns the rows it is asked for."""

    format = "huggingface"

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        self.config = {}
        self.files = (Path("folder/one"), Path("folder/two"))
        self.tensors = {name: TensorInfo(name, "float32", shape, self.files[0], 0, 0) for name, shape in shapes.items()}
        self.closed = 0

    @property
    def tokenizer(self) -> TokenizerFiles:
        raise NotImplementedError

    def _read(self, info: TensorInfo, start: int, stop: int) -> NDArray[Any]:
        return np.arange(start, stop)

    def close(self) -> None:
        self.closed += 1


def test_requests_are_checked_before_anything_is_read() -> None:
    checkpoint = Rows({"matrix": (4, 2), "vector": (4,), "cube": (2, 2, 2), "scalar": ()})
    assert checkpoint.rows("matrix", 1, 4).tolist() == [1, 2, 3]
    assert checkpoint.rows("vector", 4, 4).tolist() == []
    for start, stop in ((-1, 2), (3, 2), (0, 5)):
        with pytest.raises(ValueError, match=f"cannot read rows {start} to {stop} of tensor 'matrix'; it has 4 rows"):
            checkpoint.rows("matrix", start, stop)
    for name in ("cube", "scalar"):
        with pytest.raises(CheckpointError, match="only matrices and vectors can be read"):
            checkpoint.rows(name, 0, 1)
    with pytest.raises(TensorMismatchError, match=r"^folder has no tensor 'matrices'; it has 4 others") as caught:
        checkpoint.rows("matrices", 0, 1)  # of several files, the folder is named
    assert caught.value.hint == "did you mean matrix?"
    with pytest.raises(TensorMismatchError) as caught:
        checkpoint.rows("zzzz", 0, 1)
    assert caught.value.hint == ""  # and not a list of all names


def test_a_float_checkpoint_has_no_codes() -> None:
    checkpoint = Rows({"matrix": (4, 2)})
    assert checkpoint.quantized_format("matrix") is None
    assert checkpoint.quantized_rows("matrix", 0, 1) is None


def test_a_checkpoint_is_closed_at_the_end_of_with() -> None:
    with Rows({}) as checkpoint:
        assert checkpoint.closed == 0
    assert checkpoint.closed == 1
