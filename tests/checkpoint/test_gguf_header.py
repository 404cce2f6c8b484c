"""Parsing the GGUF header: impossible sizes are rejected before memory is allocated; contradictions are reported."""

import struct
import tracemalloc

import pytest

from edgekit.checkpoint import open_checkpoint
from edgekit.errors import CheckpointError, CorruptFileError, TruncatedFileError


def test_every_truncated_header_is_reported_as_truncated(tiny_gguf, read_header):
    whole = tiny_gguf.read_bytes()
    end = min(t.offset for t in read_header(tiny_gguf).tensors.values()) - 32
    for size in range(4, end, 97):
        tiny_gguf.write_bytes(whole[:size])
        with pytest.raises(TruncatedFileError, match=rf"in the header|the header with .* it has {size}"):
            read_header(tiny_gguf)


KEY = struct.pack("<Q", 1) + b"k"
ABSURD_HEADERS = {
    "tensor count": struct.pack("<IQQ", 3, 2**60, 0),
    "metadata count": struct.pack("<IQQ", 3, 0, 2**64 - 1),
    "key length": struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 2**62) + bytes(64),
    "string length": struct.pack("<IQQ", 3, 0, 1) + KEY + struct.pack("<IQ", 8, 2**40) + bytes(64),
    "array of strings": struct.pack("<IQQ", 3, 0, 1) + KEY + struct.pack("<IIQ", 9, 8, 2**50) + bytes(64),
    "array of doubles": struct.pack("<IQQ", 3, 0, 1) + KEY + struct.pack("<IIQ", 9, 12, 2**61) + bytes(64),
    "dimension": struct.pack("<IQQ", 3, 1, 0) + KEY + struct.pack("<IQIQ", 1, 2**63, 0, 0),
    "product": struct.pack("<IQQ", 3, 1, 0) + KEY + struct.pack("<I3QIQ", 3, 2**40, 2**40, 2**40, 0, 0),
}


@pytest.mark.parametrize("case", ABSURD_HEADERS)
def test_impossible_sizes_allocate_nothing(tmp_path, case):
    path = tmp_path / "x.gguf"
    path.write_bytes(b"GGUF" + ABSURD_HEADERS[case])
    tracemalloc.start()
    with pytest.raises(CorruptFileError, match=r"x\.gguf"):
        open_checkpoint(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), CheckpointError, "in version 1; supported: versions 2 and 3"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), CheckpointError, "in big endian"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + KEY + struct.pack("<I", 13) + bytes(64), CorruptFileError, "type 13"),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + KEY + struct.pack("<IIQ", 9, 9, 1) + bytes(64),
            CorruptFileError,
            "array of type 9",
        ),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + (KEY + struct.pack("<IB", 0, 1)) * 2,
            CorruptFileError,
            "duplicate (metadata key|tensor) 'k'",
        ),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + KEY + struct.pack("<IQ", 8, 2) + b"\xff\xff",
            CorruptFileError,
            "not UTF-8",
        ),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + KEY + struct.pack("<I", 5) + bytes(99),
            CorruptFileError,
            "5 dimensions",
        ),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + KEY + struct.pack("<IQIQ", 1, 33, 2, 0),
            CorruptFileError,
            "row size 33 is not a multiple of Q4_0's block size 32",
        ),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + KEY + struct.pack("<IQIQ", 1, 8, 0, 7),
            CorruptFileError,
            "offset 7 is not aligned to 32",
        ),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 2, 0) + (KEY + struct.pack("<IQIQ", 1, 8, 0, 0)) * 2,
            CorruptFileError,
            "duplicate (metadata key|tensor) 'k'",
        ),
        (
            b"GGUF"
            + struct.pack("<IQQ", 3, 2, 0)
            + (KEY + struct.pack("<IQIQ", 1, 16, 0, 0))
            + (struct.pack("<Q", 1) + b"l" + struct.pack("<IQIQ", 1, 16, 0, 32)),
            CorruptFileError,
            "'l' at offset 32 overlaps 'k', which ends at 64",
        ),
    ],
)
def test_corrupt_headers(tmp_path, content, error, message):
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(error, match=message):
        open_checkpoint(tmp_path / "x.gguf")


@pytest.mark.parametrize("alignment", [0, 3, 2**21, -1.0])
def test_alignment(tmp_path, write_gguf, tiny_metadata, alignment):
    path = write_gguf(tmp_path / "x.gguf", tiny_metadata, {})
    raw = path.read_bytes()
    entry = struct.pack("<Q", 17) + b"general.alignment"
    entry += struct.pack("<If", 6, alignment) if isinstance(alignment, float) else struct.pack("<II", 4, alignment)
    count = struct.unpack_from("<Q", raw, 16)[0]
    path.write_bytes(raw[:16] + struct.pack("<Q", count + 1) + entry + raw[24:])
    with pytest.raises(CorruptFileError, match=r"general\.alignment is"):
        open_checkpoint(path)
    with open_checkpoint(
        write_gguf(path, {**tiny_metadata, "general.alignment": 64}, {"w": ("F32", (1,), b"\0" * 4)})
    ) as c:
        assert c.tensors["w"].offset % 64 == 0
