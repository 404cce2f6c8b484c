"""A GGUF file as a checkpoint: metadata translated to Hugging Face's config keys, tensors dequantized by rows."""

from __future__ import annotations

import threading
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CheckpointError
from .base import Checkpoint, TensorInfo, TokenizerFiles
from .files import WeightFile
from .gguf_config import ROPE_FACTORS, config_from_metadata
from .gguf_kind import check_holds_a_model
from .gguf_parts import open_parts
from .gguf_tokenizer import tokenizer_from_metadata
from .gguf_types import BLOCK_TYPES, OTHER_TYPES, dequantize, unreadable
from .head import GGUF, decide_head

_NAME_KEYS = ("general.name", "general.basename", "general.finetune", "general.base_model.0.name")
_TYPE_NAMES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
# Rows are dequantized in pieces of 4 MiB of float32: the numpy dequantizers need about five times their output as
# scratch memory, and a piece of this size roughly fits the second-level cache of a desktop CPU.
PIECE_ELEMENTS = 1024 * 1024


class GgufCheckpoint(Checkpoint):
    """An open GGUF file, or all parts of a split one.

    Args:
        path: The file, or any of the parts.
        notes: What was decided before it was opened.

    Raises:
        CheckpointError: The file cannot be read, or lacks a key of its architecture.
        CorruptFileError: The header contradicts itself.
        TruncatedFileError: The file ends before its weights do; the message names the first tensor that is cut off.
        UnsupportedModelError: The architecture uses something that edgekit does not support.
    """

    format = "gguf"

    def __init__(self, path: Path, notes: tuple[str, ...] = ()) -> None:
        self._open: dict[Path, WeightFile] = {}
        self._scratch = threading.local()
        try:
            self._header = open_parts(path, self._open)
            self.files = tuple(self._open)
            check_holds_a_model(self._header)
            self.config = config_from_metadata(self._header, self._rope_factors())
            self.names = (path.stem, *(str(self._header.metadata.get(key, "")) for key in _NAME_KEYS))
            self.tensors = {name: info for name, info in self._header.tensors.items() if name != ROPE_FACTORS}
            decided = decide_head(self.config, self.tensors, GGUF, self._readable_rows)
        except BaseException:
            self.close()
            raise
        self.config |= decided.config
        self.notes = (*notes, *decided.notes)

    @cached_property
    def tokenizer(self) -> TokenizerFiles:
        return tokenizer_from_metadata(self._header.metadata, self.config, str(self._header.path))

    def close(self) -> None:
        for file in self._open.values():
            file.close()

    def _rope_factors(self) -> list[float] | None:
        """``rope_freqs.weight`` (head_dim / 2,): configuration that GGUF stores as a tensor."""
        info = self._header.tensors.get(ROPE_FACTORS)
        if info is None:
            return None
        if len(info.shape) != 1 or info.shape[0] > 2**16:
            raise CheckpointError(
                f"{info.path}: tensor {ROPE_FACTORS!r} has shape {info.shape}; expected (head_dim / 2,)"
            )
        self.check_readable(info)
        factors: list[float] = self._read(info, 0, info.shape[0]).tolist()
        return factors

    def check_readable(self, info: TensorInfo) -> None:
        """See :meth:`Checkpoint.check_readable`."""
        if why := unreadable(_TYPE_NAMES.get(info.dtype, info.dtype)):
            raise CheckpointError(f"{info.path}: tensor {info.name!r} {why}", hint=OTHER_TYPES)

    def _readable_rows(self, info: TensorInfo, start: int, stop: int) -> NDArray[Any] | None:
        return None if unreadable(_TYPE_NAMES.get(info.dtype, info.dtype)) else self._read(info, start, stop)

    def _read(self, info: TensorInfo, start: int, stop: int) -> NDArray[Any]:
        type_name = _TYPE_NAMES.get(info.dtype, info.dtype)
        if len(info.shape) == 1:  # block types store a vector as one row
            vector: NDArray[Any] = self._dequantize(info, type_name, (1, info.shape[0]), 0, 1)[0, start:stop].copy()
            return vector
        return self._dequantize(info, type_name, info.shape, start, stop)

    def _dequantize(
        self, info: TensorInfo, type_name: str, shape: tuple[int, ...], start: int, stop: int
    ) -> NDArray[Any]:
        """Dequantize rows start to stop of an (out, in) tensor to float32, piece by piece."""
        _, block, block_bytes = BLOCK_TYPES[type_name]
        columns = shape[1]
        row_bytes = columns // block * block_bytes
        step = max(1, PIECE_ELEMENTS // columns)
        result = np.empty((stop - start, columns), np.float32)
        for first in range(start, stop, step):
            last = min(first + step, stop)
            raw = self._scratch_bytes((last - first) * row_bytes)
            self._open[info.path].read_into(raw.data, info.offset + first * row_bytes, f"tensor {info.name!r}")
            # The caller reports infinite and NaN values, with the tensor's name.
            with np.errstate(all="ignore"):
                values = dequantize(raw.reshape(last - first, row_bytes), type_name)
            result[first - start : last - start] = values
        return result

    def _scratch_bytes(self, size: int) -> NDArray[np.uint8]:
        """This thread's read buffer, reused for every piece."""
        buffer: NDArray[np.uint8] | None = getattr(self._scratch, "buffer", None)
        if buffer is None or buffer.size < size:
            buffer = self._scratch.buffer = np.empty(size, np.uint8)
        return buffer[:size]
