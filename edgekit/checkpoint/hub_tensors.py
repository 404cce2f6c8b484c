"""The tensors of a repository whose weights have not been fetched: what tells how its weights are stored.

An index is a small file with the name of every tensor. One header, read by its range, has the shapes: that of the first
file with codes. A repository without an index usually has a single file.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

from ..errors import CorruptFileError
from .base import TensorInfo
from .hub import IGNORED, fetch_hub_bytes, list_hub
from .safetensors import MAX_HEADER_BYTES, parse_header_json
from .shards import find_weight_files, listed_files

_CODES = ".qweight"  # in the name of a tensor of GPTQ's or AWQ's codes


def hub_tensors(repository: str, commit: str, folder: Path) -> dict[str, TensorInfo]:
    """Find a repository's tensors.

    Args:
        repository: ``owner/name``.
        commit: The revision.
        folder: Its small files, with an index if it has one.

    Returns:
        The tensors by name. Those of the files whose header is not read have no type and no shape.

    Raises:
        SourceError, NetworkError: As for :func:`~edgekit.checkpoint.hub.fetch_hub`.
        CorruptFileError: The index or a header is not valid.
    """
    listed = list_hub(repository, commit).names
    found = find_weight_files(name for name in listed if not any(fnmatchcase(name, mark) for mark in IGNORED))
    if found is None:
        return {}
    if found.index is None:
        tensors: dict[str, TensorInfo] = {}
        for name in found.names:
            tensors |= _header(repository, commit, name)
            if any(tensor.endswith(_CODES) for tensor in tensors):
                break
        return tensors
    files = listed_files(folder / found.index)
    tensors = {
        tensor: TensorInfo(tensor, "", (), Path(name), 0, 0) for name, inside in files.items() for tensor in inside
    }
    with_codes = [name for name, inside in files.items() if any(tensor.endswith(_CODES) for tensor in inside)]
    return tensors | _header(repository, commit, next(iter([*with_codes, *files])))


def _header(repository: str, commit: str, file: str) -> dict[str, TensorInfo]:
    """The tensors of one file."""
    where = f"{repository}, {file}"
    prefix = fetch_hub_bytes(repository, commit, file, 0, 8)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or length > MAX_HEADER_BYTES:
        raise CorruptFileError(f"{where} is not a safetensors file: it begins with {prefix!r}")
    content = fetch_hub_bytes(repository, commit, file, 8, 8 + length)
    if len(content) < length:
        raise CorruptFileError(f"{where} ends within its header: {len(content)} of {length} bytes are there")
    return {tensor.name: tensor for tensor in parse_header_json(content, Path(file), where)}
