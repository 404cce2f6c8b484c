"""A Hugging Face folder: ``config.json``, safetensors in one file or in shards with an index, tokenizer files.

The index (``model.safetensors.index.json``, https://huggingface.co/docs/transformers/big_models) maps each tensor's
name to its file; every file it lists must be there and hold exactly the tensors it says.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from ..errors import CheckpointError, CorruptFileError, UnsupportedModelError
from .base import Checkpoint, TensorInfo, TokenizerFiles
from .files import WeightFile, read_json_object
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

    Raises:
        CheckpointError: A file is missing or cannot be read.
        CorruptFileError: A file contradicts itself or the index.
        TruncatedFileError: A weight file is too short; names the tensor.
        UnsupportedModelError: The weights are quantized already.
    """

    format = "huggingface"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.config = read_json_object(folder / "config.json")
        _refuse_quantized(folder, self.config)
        self._open: dict[Path, WeightFile] = {}
        try:
            self.tensors = self._open_weights()
        except BaseException:
            self.close()
            raise
        self.files = tuple(sorted(self._open))

    @cached_property
    def tokenizer(self) -> TokenizerFiles:
        return read_tokenizer_files(self._folder, self.config)

    def close(self) -> None:
        for file in self._open.values():
            file.close()

    def _open_weights(self) -> dict[str, TensorInfo]:
        if (self._folder / SINGLE_FILE).is_file():
            return self._open_shard(SINGLE_FILE)
        index_path = self._folder / INDEX_FILE
        expected = _read_index(index_path)
        tensors: dict[str, TensorInfo] = {}
        for name, wanted in expected.items():
            found = self._open_shard(name)
            if missing := sorted(wanted - found.keys()):
                raise CorruptFileError(
                    f"{index_path} places tensor {missing[0]!r} in {name}, which does not hold it "
                    f"({len(missing)} such tensors)"
                )
            if surplus := sorted(found.keys() - wanted):
                raise CorruptFileError(
                    f"{self._folder / name} holds tensor {surplus[0]!r}, which {INDEX_FILE} does not place there "
                    f"({len(surplus)} such tensors)"
                )
            tensors |= found
        return tensors

    def _open_shard(self, name: str) -> dict[str, TensorInfo]:
        path = self._folder / name
        if not path.is_file():
            raise CheckpointError(
                f"{path} is missing, though {INDEX_FILE} lists it",
                hint="the download is not complete; fetch the file",
            )
        self._open[path] = WeightFile(path)
        return read_header(self._open[path])

    def _read(self, info: TensorInfo, start: int, stop: int) -> NDArray[Any]:
        dtype = _NUMPY_DTYPES.get(info.dtype)
        if dtype is None:
            raise CheckpointError(
                f"{info.path}: tensor {info.name!r} is {info.dtype}; weights can be read from {', '.join(FLOAT_DTYPES)}"
            )
        shape = (stop - start, *info.shape[1:])
        row_bytes = dtype.itemsize * (info.shape[1] if len(info.shape) == 2 else 1)
        raw = np.empty((stop - start) * row_bytes, np.uint8)
        self._open[info.path].read_into(raw.data, info.offset + start * row_bytes, f"tensor {info.name!r}")
        return raw.view(dtype).reshape(shape)


def _read_index(path: Path) -> dict[str, set[str]]:
    """Read the index: file name -> names of the tensors in it, files in order."""
    weight_map = read_json_object(path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CorruptFileError(f"{path} has no weight_map, or it is empty")
    files: dict[str, set[str]] = {}
    for tensor, name in weight_map.items():
        # A plain file name and nothing else: an index must not lead out of its folder.
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors") or "\0" in name:
            raise CorruptFileError(f"{path} places tensor {tensor!r} in {name!r}, which is no safetensors file name")
        files.setdefault(name, set()).add(tensor)
    return dict(sorted(files.items()))


def _refuse_quantized(folder: Path, config: dict[str, Any]) -> None:
    quantization = config.get("quantization_config")
    if quantization:
        method = quantization.get("quant_method") if isinstance(quantization, dict) else None
        raise UnsupportedModelError(
            f"{folder} holds weights that are quantized already ({method or 'method not named'}); "
            "supported: float32, float16, bfloat16 weights, or a GGUF file",
            hint="use the original checkpoint the quantized one was made from",
        )
