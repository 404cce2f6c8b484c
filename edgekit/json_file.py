"""Reads JSON that others have written: ``config.json``, tokenizer settings, indexes, headers and manifests.

Every file of that kind is read here, so all of them are held to the same rules (RFC 8259, and I-JSON, RFC 7493, for
what that leaves open): UTF-8 without a byte-order mark, one object, no key twice, finite numbers, whole characters, and
a nesting that every reader can follow. Python's own reader accepts ``NaN`` and lone surrogates, and it fails with a
RecursionError on deep nesting.
"""

from __future__ import annotations

import codecs
import json
import math
import os
import stat
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

from .errors import CheckpointError, CorruptFileError, EdgekitError

MAX_JSON_BYTES = 64 * 1024 * 1024  # twice the largest tokenizer.json in use: Gemma 3's, 262144 tokens, 33 MB
MAX_SETTINGS_BYTES = 8 * 1024 * 1024  # of a configuration; Gemma 3's tokenizer_config.json has 1.2 MB
MAX_TEXT_BYTES = 256 * 1024 * 1024  # of a text to calibrate or to score on; thousands of tokens of it are used
MAX_DEPTH = 100  # files in use nest at most ten levels; Python's JSON writer follows about 300
MAX_DIGITS = 100  # transformers writes 10^30 for "no limit"; a float holds 308 digits
# UTF-32's mark in little endian begins with UTF-16's, so it is looked for first.
_MARKS = (
    (codecs.BOM_UTF8, "UTF-8 with a byte-order mark"),
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


def is_there(path: Path) -> bool:
    """Whether a folder has an entry of this name, of whatever kind. Reading a pipe or a broken link is an error."""
    try:
        return os.path.lexists(path)
    except ValueError:  # a NUL in the path
        return False


def read_bounded(path: Path, limit: int = MAX_JSON_BYTES, error: type[EdgekitError] | None = None) -> bytes:
    """Read a whole file of limited size.

    Args:
        path: A regular file. A pipe or a device is refused, because it may never end.
        limit: Largest size in bytes.
        error: What to raise; None: the classes below.

    Raises:
        CorruptFileError: The file is larger than ``limit`` bytes.
        CheckpointError: The file cannot be read.
    """
    try:
        # O_NONBLOCK: opening a pipe without a writer would wait.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise (error or CheckpointError)(f"{path} cannot be read: it is not a regular file")
            content = file.read(min(status.st_size, limit) + 1)  # read() allocates the size it is given
    except OSError as problem:
        raise (error or CheckpointError)(f"{path} cannot be read: {problem.strerror}") from None
    except ValueError:  # a NUL in the path
        raise (error or CheckpointError)(f"{str(path)!r} cannot be read: it is not a valid path") from None
    if len(content) > limit:
        raise (error or CorruptFileError)(f"{path} is larger than the limit of {limit} bytes for this kind of file")
    return content


def parse_json_object(content: bytes, what: str, error: type[EdgekitError] = CorruptFileError) -> dict[str, Any]:
    """Parse a JSON object.

    Args:
        content: The bytes of a file or of a part of one.
        what: The content's name, for error messages.
        error: What to raise.

    Raises:
        CorruptFileError: The content is not JSON, not an object, or breaks one of the rules at the top of this module.
    """
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), None)
    if encoding is not None:
        raise error(f"{what} is not valid JSON: it is {encoding}", hint="save it as UTF-8 without a byte-order mark")
    try:
        value = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_without_duplicates,
            parse_constant=refuse_constant,
            parse_float=finite_float,
            parse_int=_int,
        )
        if not isinstance(value, dict):
            raise error(f"{what} is not a JSON object but a {type(value).__name__}")
        _check(value, may_have_surrogates=b"\\u" in content)
    except RecursionError:
        raise error(f"{what} is not valid JSON: it nests deeper than {MAX_DEPTH} levels") from None
    except ValueError as problem:
        raise error(f"{what} is not valid JSON: {problem}") from None
    return value


def read_json_object(
    path: Path, limit: int = MAX_SETTINGS_BYTES, error: type[EdgekitError] | None = None
) -> dict[str, Any]:
    """Read a JSON file that holds an object; see :func:`read_bounded` and :func:`parse_json_object`."""
    return parse_json_object(read_bounded(path, limit, error), str(path), error or CorruptFileError)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        (duplicate, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"duplicate key {duplicate!r}")
    return unique


def refuse_constant(name: str) -> NoReturn:
    """Refuse ``NaN`` and ``Infinity``; the ``parse_constant`` of Python's reader."""
    raise ValueError(f"{name} is not a JSON number")


def finite_float(digits: str) -> float:
    """A number with a point or an exponent, which must be finite; the ``parse_float`` of Python's reader."""
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"the number {digits[:20]} is too large")
    return value


def _int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:  # Python refuses more than 4300 digits, and takes quadratic time for fewer
        raise ValueError(f"the number {digits[:20]}... has {len(digits)} digits; the limit is {MAX_DIGITS}")
    return int(digits)


def _check(value: dict[str, Any], *, may_have_surrogates: bool) -> None:
    """Check the nesting and, if there may be any, the characters written as escapes."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        if may_have_surrogates:
            for text in _texts(level):
                _check_text(text)
        level = [c for v in level for c in (v.values() if isinstance(v, dict) else v) if isinstance(c, (dict, list))]
        if not level:
            return
    raise RecursionError


def _texts(level: list[Any]) -> list[str]:
    """The keys and strings of these containers, without those of the containers inside them."""
    members = [[*v, *v.values()] if isinstance(v, dict) else v for v in level]
    return [text for texts in members for text in texts if isinstance(text, str)]


def _check_text(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as problem:
        raise ValueError(f"the string {text[:40]!r} has a lone surrogate, \\u{ord(text[problem.start]):04x}") from None
