"""A Hugging Face folder: ``config.json``, safetensors in one file or in shards, and tokenizer files."""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from ..errors import CheckpointError, CorruptFileError
from ..json_file import read_json_object
from ..schema.config import check_config
from .base import Checkpoint, CheckpointFormat, TensorInfo, TokenizerFiles
from .files import WeightFile
from .head import HUGGING_FACE, decide_head
from .safetensors import FLOAT_DTYPES, read_header
from .shards import check_shard, find_weight_files, read_index
from .tokenizer_files import read_tokenizer_files

_NUMPY_DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}


class HuggingFaceCheckpoint(Checkpoint):
    """An open Hugging Face folder.

    Args:
        folder: Holds ``config.json`` and ``model.safetensors`` or its index and shards.
        notes: What was decided before it was opened.

    Raises:
        CheckpointError: A file is missing or cannot be read.
        CorruptFileError: A file contradicts itself or the index.
        TruncatedFileError: A weight file is too short; the message names the tensor.
    """

    format: CheckpointFormat = "huggingface"

    def __init__(self, folder: Path, notes: tuple[str, ...] = ()) -> None:
        self._folder = folder
        self.notes = notes
        self.config = read_json_object(folder / "config.json")
        check_config(self.config, str(folder / "config.json"))
        self.names = (folder.resolve().name, str(self.config.get("_name_or_path") or ""))
        self._open: dict[Path, WeightFile] = {}
        try:
            self.tensors = self._open_weights()
            decided = decide_head(self.config, self.tensors, HUGGING_FACE, self._stored_rows)
        except BaseException:
            self.close()
            raise
        self.config |= decided.config
        self.tensors |= decided.tensors
        self.notes += (*decided.notes, *_code_notes(self.config))
        self.files = tuple(sorted(self._open))

    @cached_property
    def tokenizer(self) -> TokenizerFiles:
        return read_tokenizer_files(self._folder, self.config)

    def close(self) -> None:
        for file in self._open.values():
            file.close()

    def _open_weights(self) -> dict[str, TensorInfo]:
        found = find_weight_files(p.name for p in self._folder.iterdir())
        if found is None:
            raise CheckpointError(f"{self._folder} holds no safetensors weights")
        index = None if found.index is None else self._folder / found.index
        wanted = dict.fromkeys(found.names) if index is None else read_index(index)
        if unused := [name for name in found.unused if name not in wanted]:
            others = ", ".join(unused[:3]) + (", ..." if len(unused) > 3 else "")
            adapter = any(name.startswith("adapter_") for name in unused)
            merge = "; --lora FOLDER merges an adapter" if adapter else ""
            why = f"{found.names[0]} holds the model" if found.index is None else f"{found.index} does not list them"
            self.notes += (f"not used, because {why}: {others}{merge}",)
        tensors: dict[str, TensorInfo] = {}
        for name, listed in wanted.items():
            shard = self._open_shard(self._folder / name)
            if index is not None and listed is not None:
                check_shard(self._folder / name, shard, index, listed)
            elif twice := sorted(shard.keys() & tensors.keys()):
                raise CorruptFileError(f"{self._folder / name} repeats tensors of other files; first: {twice[0]!r}")
            tensors |= shard
        return tensors

    def _open_shard(self, path: Path) -> dict[str, TensorInfo]:
        self._open[path] = WeightFile(path)
        return read_header(self._open[path])

    def stored_columns(self, info: TensorInfo, dtype: np.dtype[Any], start: int, stop: int) -> NDArray[Any]:
        """Read columns start..stop of a stored matrix: (rows, stop - start)."""
        rows, columns = info.shape
        values = np.empty((rows, stop - start), dtype)
        for row in range(rows if stop > start else 0):
            offset = info.offset + (row * columns + start) * dtype.itemsize
            self._open[info.path].read_into(values[row].view(np.uint8).data, offset, f"tensor {info.name!r}")
        return values

    def stored_dtype(self, info: TensorInfo) -> np.dtype[Any]:
        """The numpy type of a float tensor.

        Raises:
            CheckpointError: The tensor's type is not supported.
        """
        return _float_dtype(info)

    def check_readable(self, info: TensorInfo) -> None:
        """See :meth:`Checkpoint.check_readable`."""
        self.stored_dtype(info)

    def _stored_rows(self, info: TensorInfo, start: int, stop: int) -> NDArray[Any] | None:
        """Rows of a float tensor as it is stored, also where a subclass reads others; None for another type."""
        return HuggingFaceCheckpoint._read(self, info, start, stop) if info.dtype in _NUMPY_DTYPES else None

    def _read(self, info: TensorInfo, start: int, stop: int) -> NDArray[Any]:
        return read_float(self._open[info.path], info, start, stop)


def read_float(file: WeightFile, info: TensorInfo, start: int, stop: int) -> NDArray[Any]:
    """Read rows of a float tensor in its stored type.

    Raises:
        CheckpointError: The tensor's type is not supported, or the file cannot be read.
    """
    dtype = _float_dtype(info)
    row_bytes = dtype.itemsize * math.prod(info.shape[1:])
    raw = np.empty((stop - start) * row_bytes, np.uint8)
    file.read_into(raw.data, info.offset + start * row_bytes, f"tensor {info.name!r}")
    return raw.view(dtype).reshape(stop - start, *info.shape[1:])


def _float_dtype(info: TensorInfo) -> np.dtype[Any]:
    dtype = _NUMPY_DTYPES.get(info.dtype)
    if dtype is None:
        raise CheckpointError(
            f"{info.path}: tensor {info.name!r} has type {info.dtype}; supported: {', '.join(FLOAT_DTYPES)}"
        )
    return dtype


def _code_notes(config: dict[str, Any]) -> tuple[str, ...]:
    """A note about a model's own code, which may compute something else than its model_type says."""
    named = config.get("auto_map")
    code = named.get("AutoModelForCausalLM") if isinstance(named, dict) else None
    if not isinstance(code, str):
        return ()
    return (
        f"config.json names code of its own ({code}), which is not run: edgekit computes {config.get('model_type')}",
    )
