"""A Hugging Face folder: ``config.json``, safetensors in one file or in shards with an index, and tokenizer files.

The index (``model.safetensors.index.json``, https://huggingface.co/docs/transformers/big_models) maps each tensor's
name to its file. Every listed file must exist and contain exactly the tensors that the index places in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from ..errors import CheckpointError, CorruptFileError
from ..json_file import read_json_object
from .base import Checkpoint, CheckpointFormat, TensorInfo, TokenizerFiles
from .files import WeightFile
from .head import HUGGING_FACE, decide_head
from .safetensors import FLOAT_DTYPES, read_header
from .tokenizer_files import read_tokenizer_files

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
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
        self.notes += decided.notes
        self.files = tuple(sorted(self._open))

    @cached_property
    def tokenizer(self) -> TokenizerFiles:
        return read_tokenizer_files(self._folder, self.config)

    def close(self) -> None:
        for file in self._open.values():
            file.close()

    def _open_weights(self) -> dict[str, TensorInfo]:
        single, index = weight_names(p.name for p in self._folder.iterdir())
        if single is not None:
            return self._open_shard(single)
        index_path = self._folder / (index or INDEX_FILE)
        expected = _read_index(index_path)
        tensors: dict[str, TensorInfo] = {}
        for name, wanted in expected.items():
            found = self._open_shard(name)
            if missing := sorted(wanted - found.keys()):
                raise CorruptFileError(
                    f"{index_path} places {len(missing)} tensors in {name} that are not there; first: {missing[0]!r}"
                )
            if surplus := sorted(found.keys() - wanted):
                raise CorruptFileError(
                    f"{self._folder / name} contains {len(surplus)} tensors that {index_path.name} does not place "
                    f"there; first: {surplus[0]!r}"
                )
            tensors |= found
        return tensors

    def _open_shard(self, name: str) -> dict[str, TensorInfo]:
        path = self._folder / name
        if not path.is_file():
            raise CheckpointError(
                f"{path} is missing, but {INDEX_FILE} lists it", hint="the download is incomplete; fetch this file"
            )
        self._open[path] = WeightFile(path)
        return read_header(self._open[path])

    def stored_dtype(self, info: TensorInfo) -> np.dtype[Any]:
        """The numpy type of a float tensor.

        Raises:
            CheckpointError: The tensor's type is not supported.
        """
        dtype = _NUMPY_DTYPES.get(info.dtype)
        if dtype is None:
            raise CheckpointError(
                f"{info.path}: tensor {info.name!r} has type {info.dtype}; supported: {', '.join(FLOAT_DTYPES)}"
            )
        return dtype

    def check_readable(self, info: TensorInfo) -> None:
        """See :meth:`Checkpoint.check_readable`."""
        self.stored_dtype(info)

    def _stored_rows(self, info: TensorInfo, start: int, stop: int) -> NDArray[Any] | None:
        """Rows of a float tensor as it is stored, also where a subclass reads others; None for another type."""
        return HuggingFaceCheckpoint._read(self, info, start, stop) if info.dtype in _NUMPY_DTYPES else None

    def _read(self, info: TensorInfo, start: int, stop: int) -> NDArray[Any]:
        dtype = self.stored_dtype(info)
        shape = (stop - start, *info.shape[1:])
        row_bytes = dtype.itemsize * (info.shape[1] if len(info.shape) == 2 else 1)
        raw = np.empty((stop - start) * row_bytes, np.uint8)
        self._open[info.path].read_into(raw.data, info.offset + start * row_bytes, f"tensor {info.name!r}")
        return raw.view(dtype).reshape(shape)


def weight_names(names: Iterable[str]) -> tuple[str | None, str | None]:
    """Find a folder's weights among its file names.

    AutoGPTQ names its file after the quantization (``gptq_model-4bit-128g.safetensors``), so a single weight file may
    have any name.

    Returns:
        (single weight file, None), (None, index of several files), or (None, None) if there are no weights.
    """
    found = sorted(names)
    if SINGLE_FILE in found or INDEX_FILE in found:
        return (SINGLE_FILE, None) if SINGLE_FILE in found else (None, INDEX_FILE)
    single = [name for name in found if name.endswith(".safetensors")]
    index = [name for name in found if name.endswith(".safetensors.index.json")]
    if len(index) == 1:
        return None, index[0]
    return (single[0], None) if len(single) == 1 else (None, None)


def _read_index(path: Path) -> dict[str, set[str]]:
    """Read the index: file name -> names of the tensors in that file, sorted by file name."""
    weight_map = read_json_object(path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CorruptFileError(f"{path} has no weight_map, or it is empty")
    files: dict[str, set[str]] = {}
    for tensor, name in weight_map.items():
        # Only a plain file name is allowed: an index must not point outside its folder.
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors") or "\0" in name:
            raise CorruptFileError(
                f"{path} places tensor {tensor!r} in {name!r}, which is not the name of a safetensors file"
            )
        files.setdefault(name, set()).add(tensor)
    return dict(sorted(files.items()))
