"""Writes a folder for a browser from a finished artifact (``--emit web``): transformers.js and onnxruntime-web open it.

    onnx/model_q4.onnx            the artifact's graph, which reads its weights from the next files;
                                  model_q4f16.onnx if the activations are float16
    onnx/model_q4.onnx_data       the weights: a hard link to the artifact's model.onnx.data
    onnx/model_q4.onnx_data_1     and so on: further pieces, if the weights have 2 GB or more
    config.json                   the artifact's, with transformers.js_config
    tokenizer files, generation_config.json
    edgekit.json                  the artifact's manifest with the hashes of these files; edgekit verify checks them

The graph itself is unchanged: the names of its inputs and outputs are those that transformers.js uses, and
onnxruntime-web has its operators, for WebGPU in the build that transformers.js takes by default, and for WebAssembly in
the plain one (the other lacks GatherBlockQuantized there). Only the references to the weights differ.

transformers.js finds a file by the name of a data type and reads each piece into one buffer, so a piece is smaller than
2 GB. Source: transformers.js 4, ``src/utils/dtypes.js`` and ``src/utils/model-loader.js``.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto

from ..artifact.manifest import Manifest
from ..artifact.writer import hash_files
from ..errors import BuildError
from ..json_file import read_json_object
from ..json_text import json_text
from ..progress import Share, no_share
from ..units import format_bytes
from .model import MODEL_FILE
from .onnx_graph import DATA_FILE

FOLDER = "onnx"  # where transformers.js looks for graphs
PIECE_BYTES = 2 * 10**9  # under 2**31, the largest buffer that every browser gives
MAX_PIECES = 100  # transformers.js refuses more
_PAGE = 4096  # file systems that share blocks between files share whole ones
# The data type's name in transformers.js, by activation type. The formats of the matrices do not matter to it.
_DTYPES = {"float32": "q4", "float16": "q4f16"}
_FLOAT_DTYPES = {"float32": "fp32", "float16": "fp16"}
_SUFFIXES = {"fp32": ""}  # of a graph's name; the others' is the data type's name
_CHUNK_BYTES = 64 << 20  # copied at a time
_NO_RANGES = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)  # of file systems without copy_file_range
_OPTIONAL_FILES = ("chat_template.jinja", "generation_config.json", "tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class _Piece:
    """A range of ``model.onnx.data`` that becomes a file of its own."""

    name: str
    start: int
    end: int

    @property
    def size_bytes(self) -> int:
        return self.end - self.start


def write_web_folder(
    artifact: Path, folder: Path, manifest: Manifest, progress: Share = no_share, piece_bytes: int = PIECE_BYTES
) -> tuple[str, ...]:
    """Write the web folder of an artifact.

    Args:
        artifact: The artifact's folder.
        folder: An empty folder, best on the same file system.
        manifest: The artifact's manifest.
        progress: Called with the bytes done and the bytes in total.
        piece_bytes: A file of weights has at most this size.

    Returns:
        Notes for the user, one sentence each: whether weights are stored a second time, and why.

    Raises:
        BuildError: A single tensor is larger than ``piece_bytes``, or there would be too many pieces.
    """
    model = onnx.load(str(artifact / MODEL_FILE), load_external_data=False)
    dtype = (_DTYPES if manifest.quantization.get("linear") else _FLOAT_DTYPES)[manifest.activation_type]
    graph = f"model{_SUFFIXES.get(dtype, f'_{dtype}')}.onnx"
    stored = [tensor for tensor in model.graph.initializer if tensor.data_location == TensorProto.EXTERNAL]
    pieces = _point_to_pieces(stored, graph, piece_bytes)
    (folder / FOLDER).mkdir()
    (folder / FOLDER / graph).write_bytes(model.SerializeToString(deterministic=True))
    linked, notes = _write_pieces(artifact / DATA_FILE, folder / FOLDER, pieces, progress)
    for name in _OPTIONAL_FILES:
        if (artifact / name).is_file():
            shutil.copyfile(artifact / name, folder / name)
    config = read_json_object(artifact / "config.json") | {
        "transformers.js_config": _settings(dtype, graph, manifest, len(pieces))
    }
    (folder / "config.json").write_text(json_text(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    files = hash_files([path for path in folder.iterdir() if path.is_file()])
    for path in sorted((folder / FOLDER).iterdir()):
        known = manifest.files[DATA_FILE] if path.name == linked else hash_files([path])[path.name]
        files[f"{FOLDER}/{path.name}"] = known
    replace(manifest, files=files, notes=[*manifest.notes, *notes]).write(folder)
    return notes


def _settings(dtype: str, graph: str, manifest: Manifest, pieces: int) -> dict[str, Any]:
    """``transformers.js_config``: what transformers.js needs to know and cannot see."""
    return {
        "device": "webgpu",  # unless the caller names another
        "dtype": dtype,
        "kv_cache_dtype": {dtype: manifest.activation_type},
        "use_external_data_format": {graph: pieces},
    }


def _point_to_pieces(stored: Sequence[TensorProto], graph: str, piece_bytes: int) -> list[_Piece]:
    """Divide the weights into pieces, no tensor across two of them, and make the tensors refer to these.

    Tensors may share bytes, as a tied lm_head and the embedding do.
    """
    pieces: list[_Piece] = []
    for tensor in sorted(stored, key=_start):
        start, end = _start(tensor), _start(tensor) + int(_entry(tensor, "length").value)
        if not pieces or end - pieces[-1].start > piece_bytes:
            suffix = f"_{len(pieces)}" if pieces else ""
            pieces.append(_Piece(f"{graph}_data{suffix}", start // _PAGE * _PAGE, end))
        piece = replace(pieces[-1], end=max(end, pieces[-1].end))
        if piece.size_bytes > piece_bytes:
            raise BuildError(
                f"cannot write a web folder: the tensor {tensor.name} has {format_bytes(end - start)}, and a browser "
                f"reads files of up to {format_bytes(piece_bytes)}",
                hint="quantize it, or build without --emit web",
            )
        pieces[-1] = piece
        _entry(tensor, "location").value = piece.name
        _entry(tensor, "offset").value = str(start - piece.start)
    if len(pieces) > MAX_PIECES:
        raise BuildError(
            f"cannot write a web folder: the weights take {len(pieces)} files of {format_bytes(piece_bytes)}, and "
            f"transformers.js reads at most {MAX_PIECES}"
        )
    return pieces


def _entry(tensor: TensorProto, key: str) -> onnx.StringStringEntryProto:
    return next(entry for entry in tensor.external_data if entry.key == key)


def _start(tensor: TensorProto) -> int:
    return int(_entry(tensor, "offset").value)


def _write_pieces(
    data: Path, folder: Path, pieces: Sequence[_Piece], progress: Share
) -> tuple[str | None, tuple[str, ...]]:
    """Write the pieces; return the name of the one that is a link to the data file, if any, and notes."""
    size = data.stat().st_size
    if len(pieces) == 1 and pieces[0].start == 0:
        try:
            os.link(data, folder / pieces[0].name)
        except OSError as error:
            why = f"this file system cannot make a hard link ({error.strerror})"
        else:
            progress(size, size)
            return pieces[0].name, ()
    else:
        why = f"a browser reads files of less than {format_bytes(PIECE_BYTES)}, so there are {len(pieces)} pieces"
    done = 0
    with data.open("rb") as source:
        for piece in pieces:
            with (folder / piece.name).open("wb") as target:
                for count in _copy(source.fileno(), target.fileno(), piece):
                    done += count
                    progress(done, size)
    return None, (f"the web folder holds its own copy of the weights, {format_bytes(done)}: {why}",)


def _copy(source: int, target: int, piece: _Piece) -> Iterator[int]:
    """Copy a piece in chunks and yield their sizes. Btrfs and XFS share the blocks instead of copying them."""
    offset = piece.start
    while offset < piece.end:
        wanted = min(_CHUNK_BYTES, piece.end - offset)
        count = _copy_chunk(source, target, wanted, offset, offset - piece.start)
        if not count:
            raise BuildError(f"the weights end at {offset} bytes, but the graph refers to {piece.end}")
        offset += count
        yield count


def _copy_chunk(source: int, target: int, count: int, start: int, to: int) -> int:
    if hasattr(os, "copy_file_range"):
        try:
            return os.copy_file_range(source, target, count, start, to)
        except OSError as error:
            if error.errno not in _NO_RANGES:
                raise
    return os.pwrite(target, os.pread(source, count, start), to)
