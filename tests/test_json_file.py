"""JSON of others: what is read, and that everything else is an error that names the file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edgekit.errors import ArtifactError, CheckpointError, CorruptFileError
from edgekit.json_file import MAX_DEPTH, MAX_SETTINGS_BYTES, is_there, parse_json_object, read_bounded, read_json_object


def nested(depth: int) -> bytes:
    """An object with lists and objects inside it, ``depth`` levels in all."""
    value: object = 1
    for level in range(depth):
        value = {"a": value} if (depth - level) % 2 else [value]
    return json.dumps(value).encode()


def test_objects_are_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"a": {"b": [1, 2.5, 1e30, null]}, "é": "\\ud83d\\ude00", "max": 1000000000000000019884624838656}')
    assert read_json_object(path) == {"a": {"b": [1, 2.5, 1e30, None]}, "é": "😀", "max": int(1e30)}


BROKEN = {
    "is not valid JSON: Expecting value": b"",
    "is not valid JSON: Expecting property name": b"{",
    "is not valid JSON: 'utf-8' codec can't decode byte 0xff": b'{"a": "\xff"}',
    "is not a JSON object but a list": b"[1]",
    "is not a JSON object but a NoneType": b"null",
    "duplicate key 'b'": b'{"a": {"b": 1, "c": 2, "b": 1}}',
    "NaN is not a JSON number": b'{"a": NaN}',
    "-Infinity is not a JSON number": b'{"a": [-Infinity]}',
    "the number 1e999 is too large": b'{"a": 1e999}',
    "has 5000 digits; the limit is 100": b'{"a": ' + b"9" * 5000 + b"}",
    "it is UTF-8 with a byte-order mark": b"\xef\xbb\xbf{}",
    "it is UTF-16": '{"a": 1}'.encode("utf-16"),
    "it is UTF-32": '{"a": 1}'.encode("utf-32"),
    r"has a lone surrogate, \\ud800": b'{"a": [{"b": "x\\ud800"}]}',
    r"has a lone surrogate, \\udfff": b'{"a": {"\\uDFFF": 1}}',
    "it nests deeper than 100 levels": nested(MAX_DEPTH + 1),
    "nests deeper": b'{"a": ' + b"[" * 100_000,
    "deeper than": b'{"a":' * 100_000,
}


@pytest.mark.parametrize("message", BROKEN)
def test_everything_else_is_an_error_that_names_the_file(message: str, tmp_path: Path) -> None:
    with pytest.raises(CorruptFileError, match=f"^the header.*{message}"):
        parse_json_object(BROKEN[message], "the header")
    path = tmp_path / "edgekit.json"
    path.write_bytes(BROKEN[message])
    with pytest.raises(ArtifactError, match=f"^{path}.*{message}"):
        read_json_object(path, error=ArtifactError)


def test_the_deepest_allowed_nesting_can_be_written_again() -> None:
    value = parse_json_object(nested(MAX_DEPTH), "x")
    assert json.loads(json.dumps(value, indent=2)) == value


def test_bounded_reads_stop_at_their_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(100)))
    path.with_name("large").write_bytes(b"{" + b" " * MAX_SETTINGS_BYTES + b"}")
    with pytest.raises(CorruptFileError, match="larger than the limit of 8388608 bytes"):
        read_json_object(path.with_name("large"))
    assert read_bounded(path, limit=100) == bytes(range(100))
    with pytest.raises(CorruptFileError, match="larger than the limit of 99 bytes"):
        read_bounded(path, limit=99)
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        read_bounded(path.with_name("nowhere"))
    with pytest.raises(CheckpointError, match="not a valid path"):
        read_bounded(path.with_name("no\0where"))


def test_what_is_not_a_regular_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe", tmp_path / "zeros"):
        with pytest.raises(CheckpointError, match="is not a regular file"):
            read_bounded(path)
    with pytest.raises(CheckpointError, match=r"Is a directory|regular"):
        read_bounded(tmp_path)


def test_whatever_has_a_name_is_there(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "broken").symlink_to("nowhere")
    assert [is_there(tmp_path / name) for name in ("pipe", "broken", "none", "a\0b")] == [True, True, False, False]
    for name in ("pipe", "broken"):
        with pytest.raises(CheckpointError, match=f"{name} cannot be read"):
            read_bounded(tmp_path / name)
