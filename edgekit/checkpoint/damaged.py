"""Tells files that are not what their names say: broken links, pointers, error pages and unfinished downloads.

Only names and first bytes are read. The readers of each format find what is cut off or contradicts itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ..errors import CheckpointError, CorruptFileError, TruncatedFileError
from ..links import bad_link

# Files of a Hugging Face folder that are read if they are there.
_READ = (
    "config.json", "generation_config.json", "quantize_config.json", "quant_config.json", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.json",
    "chat_template.jinja", "adapter_config.json",
)  # fmt: skip
_READ_SUFFIXES = (".safetensors", ".gguf", ".safetensors.index.json", ".jinja")
_UNFINISHED = (
    ".incomplete", ".part", ".partial", ".aria2", ".aria2__temp", ".crdownload", ".download", ".downloading", ".tmp",
    ".!qb",
)  # fmt: skip
_LFS = b"version https://git-lfs.github.com/spec/"
_PAGES = (b"<!doctype", b"<html", b"<?xml", b"<head", b"<error")
# What a server sends in place of a file when a token or the file is missing.
_REFUSALS = (
    b"entry not found",
    b"repository not found",
    b"invalid username or password",
    b"access to model",
    b"not found",
)
_FIRST_BYTES = 256
TEMPLATE_FOLDERS = ("additional_chat_templates", "chat_templates")  # today's name and that of transformers 4.50


def check_files(folder: Path, names: Iterable[str]) -> None:
    """Check the files of a folder that are read for a checkpoint.

    Args:
        folder: The folder.
        names: The names of its files.

    Raises:
        CheckpointError: A file is a broken link, or its download is not finished.
        CorruptFileError: A file is a Git LFS pointer or an error page.
        TruncatedFileError: A file is empty.
    """
    present = set(names)
    for name in sorted(present):
        if name in _READ or name.endswith(_READ_SUFFIXES) or name in TEMPLATE_FOLDERS:
            refuse_link(folder / name, folder)
            if f"{name}.aria2" in present:  # aria2 gives the file its full length at once
                raise unfinished(folder / f"{name}.aria2")
            check_file(folder / name)


def check_file(path: Path) -> None:
    """Check one file; see :func:`check_files`. A folder passes."""
    check_link(path)
    if not path.is_file():
        return
    if is_unfinished(path.name):
        raise unfinished(path)
    try:
        with path.open("rb") as file:
            start = file.read(_FIRST_BYTES)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    if not start:
        if path.suffix == ".jinja":
            return
        raise TruncatedFileError(f"{path} is empty", hint="the download or copy was interrupted; fetch the file again")
    if start.startswith(_LFS):
        raise CorruptFileError(
            f"{path} is a Git LFS pointer, not the file itself", hint="run git lfs pull in its folder"
        )
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(_PAGES) or (text.startswith(_REFUSALS) and path.stat().st_size < 10_000):
        shown = text[:60].decode("utf-8", "replace").split("\n")[0]
        raise CorruptFileError(
            f"{path} is an error page, not the file itself: it begins with {shown!r}",
            hint="fetch the file again; a private or gated repository needs a token (HF_TOKEN)",
        )


def refuse_link(path: Path, folder: Path) -> None:
    """Check that a path does not lead out of its folder: what it leads to would be copied into the artifact.

    Raises:
        CheckpointError: It does, or the link is broken.
    """
    check_link(path)
    for each in (path, *(sorted(path.glob("*")) if path.is_dir() else ())):
        if (problem := bad_link(each, folder)) is not None:
            raise CheckpointError(
                f"{each} {problem}", hint="put the file itself in its place, or give the folder that the link leads to"
            )


def check_link(path: Path) -> None:
    """Check that a path is not a link to something that does not exist.

    Raises:
        CheckpointError: It is; the message names the link and what it points to.
    """
    if not path.is_symlink() or path.exists():
        return
    target = os.readlink(path)
    cached = "blobs" in Path(target).parts
    raise CheckpointError(
        f"{path} is a link to {target}, which does not exist",
        hint="the Hugging Face cache was cleaned: fetch the model again"
        if cached
        else "restore the file that the link points to, or put the file itself in its place",
    )


def is_unfinished(name: str) -> bool:
    """Whether a file's name is that of a download in progress."""
    return name.lower().endswith(_UNFINISHED)


def unfinished(path: Path) -> CheckpointError:
    """The error for a download that is not finished."""
    return CheckpointError(
        f"{path} belongs to a download that is not finished", hint="finish the download, or fetch the model again"
    )
