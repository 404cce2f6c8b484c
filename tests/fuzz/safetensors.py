"""The header of a safetensors file."""

import json
import struct
from functools import partial

import fuzz_changes
from fuzz_files import written

from edgekit.checkpoint.files import WeightFile
from edgekit.checkpoint.safetensors import read_header

_HEADERS = (
    {"__metadata__": {"format": "pt"}, "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}},
    {"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]},
     "b": {"dtype": "I64", "shape": [], "data_offsets": [4, 12]}},
    {},
)  # fmt: skip


def _file(header: bytes, data: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def seeds() -> list[bytes]:
    return [_file(json.dumps(h).encode(), bytes(size)) for h, size in zip(_HEADERS, (16, 12, 0), strict=True)]


def change(choose, data):
    header, change_json = data[8:-16], partial(fuzz_changes.json_change, choose)
    size = int.from_bytes(data[:8], "little")
    if size <= len(data) - 8 and (changed := change_json(data[8 : 8 + size])) is not None:
        return _file(changed, data[8 + size :])
    return fuzz_changes.binary_change(choose, header)


def read(data: bytes) -> None:
    file = WeightFile(written("model.safetensors", data))
    try:
        read_header(file)
    finally:
        file.close()
