"""A GGUF model in one file, or split into parts as llama.cpp's gguf-split and Hugging Face repositories store it.

    NAME-00001-of-00003.gguf    split.no 0    all metadata, and the first tensors
    NAME-00002-of-00003.gguf    split.no 1    more tensors, and little or no metadata
    NAME-00003-of-00003.gguf    split.no 2

Each part has ``split.count`` (3) and ``split.tensors.count`` (of the whole model). Any part stands for the whole set.

Source: https://github.com/ggml-org/llama.cpp, ``tools/gguf-split``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, CorruptFileError
from .files import WeightFile
from .gguf_header import GgufHeader, check_not_truncated, parse_header

_PART = re.compile(r"(?P<name>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)
# Parts that are joined byte by byte: what split and 7-Zip write, and older repositories.
_CUT = re.compile(r".*\.gguf[.-]?(split-[a-z]|part[-_]?\d+(of\d+)?|part-?[a-z]|\d{3})")


def gguf_models(names: Iterable[str]) -> dict[str, list[str]]:
    """Group the ``.gguf`` files of a folder by model.

    Args:
        names: The names of the folder's files.

    Returns:
        The first file of each model (or of the parts that are there) -> all its files, sorted.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for name in sorted(name for name in names if name.lower().endswith(".gguf")):
        match = _PART.fullmatch(name)
        found.setdefault((match["name"], match["count"]) if match else (name, ""), []).append(name)
    return {files[0]: files for files in found.values()}


def open_parts(path: Path, opened: dict[Path, WeightFile]) -> GgufHeader:
    """Open a GGUF file and, if it is a part of a split model, the other parts.

    Args:
        path: The file, or any part.
        opened: Receives every file that is opened, for the caller to close; in the order of the parts.

    Returns:
        The header of the whole model: the first part's metadata, and the tensors of all parts.

    Raises:
        CheckpointError: A part is missing, or is of another set.
        CorruptFileError: A header contradicts itself or the other parts.
        TruncatedFileError: A file ends before its tensors do.
    """
    given = _open(path, opened)
    count = _split_key(given, "split.count", 1)
    if count <= 1:
        return given
    number = _split_key(given, "split.no", 0) + 1
    match = _PART.fullmatch(path.name)
    if match is None or (int(match["number"]), int(match["count"])) != (number, count):
        raise CheckpointError(
            f"{path} is part {number} of {count} of a split GGUF model, but its name does not say so",
            hint=f"parts are found by their names: call this one NAME-{number:05}-of-{count:05}.gguf, the others alike",
        )
    paths = [path.with_name(f"{match['name']}-{i:05}-of-{count:05}.gguf") for i in range(1, count + 1)]
    if missing := [part.name for part in paths if not part.is_file()]:
        shown = ", ".join(missing[:8]) + (", ..." if len(missing) > 8 else "")
        raise CheckpointError(
            f"{path} is part {number} of {count} of a split GGUF model, and {len(missing)} of the parts "
            f"{'is' if len(missing) == 1 else 'are'} missing: {shown}",
            hint=f"put all {count} parts into {path.parent}",
        )
    headers = [given if part == path else _open(part, opened) for part in paths]
    for part in paths:  # the first part comes first
        opened[part] = opened.pop(part)
    return _joined(headers, count)


def cut_hint(name: str) -> str:
    """How to join files that were cut byte by byte; empty for another name."""
    if _CUT.fullmatch(name.lower()) is None:
        return ""
    whole = re.sub(r"(?i)\.gguf.*", ".gguf", name, flags=re.DOTALL)
    return f"this is one piece of a file that was cut: join the pieces in order, cat {whole}* > joined.gguf"


def _open(path: Path, opened: dict[Path, WeightFile]) -> GgufHeader:
    opened[path] = WeightFile(path)
    header = parse_header(opened[path])
    check_not_truncated(header)
    return header


def _split_key(header: GgufHeader, key: str, default: int) -> int:
    value = header.metadata.get(key, default)
    if type(value) is not int or value < 0:
        raise CorruptFileError(f"{header.path}: {key} is {value!r}; it must be a whole number")
    return value


def _joined(headers: list[GgufHeader], count: int) -> GgufHeader:
    """Check that the headers are those of one model's parts, and join them."""
    first = headers[0]
    tensors = dict(first.tensors)
    for i, header in enumerate(headers):
        said = _split_key(header, "split.no", -1 % 2**32), _split_key(header, "split.count", 0)
        if said != (i, count):
            found = f"its split.no is {said[0]} and its split.count {said[1]}"
            raise _other_set(header.path, f"{found}; expected {i} and {count}")
        if (architecture := _differing(first.metadata, header.metadata)) is not None:
            raise _other_set(header.path, f"its architecture is {architecture}; {first.path.name} has another")
        if i == 0:
            continue
        if twice := sorted(header.tensors.keys() & tensors.keys()):
            raise _other_set(header.path, f"it repeats {len(twice)} tensors of other parts; first: {twice[0]!r}")
        tensors |= header.tensors
    expected = _split_key(first, "split.tensors.count", len(tensors))
    if expected != len(tensors):
        raise CorruptFileError(
            f"the {count} parts of {first.path} hold {len(tensors)} tensors; split.tensors.count says {expected}",
            hint="the parts are of different sets, or one was changed: fetch all of them again",
        )
    return replace(first, tensors=tensors)


def _other_set(path: Path, why: str) -> CorruptFileError:
    return CorruptFileError(
        f"{path} is not of the same set as the other parts: {why}", hint="fetch all parts again from one place"
    )


def _differing(first: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """The other part's architecture, if it has one that differs from the first part's."""
    found = other.get("general.architecture")
    return None if found is None or found == first.get("general.architecture") else str(found)
