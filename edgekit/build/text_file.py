"""``edgekit_text.bin``: tokenizer, settings and chat format of an artifact, as the native library maps them.

The layout is drawn in ``native/text/tables.h``. An artifact whose tokenizer the native library does not implement has
no such file; Python runs it all the same.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..artifact.manifest import RuntimeFacts, read_manifest
from ..artifact.writer import disk_error, hash_files
from ..durable import write_file
from ..runtime.chat import ChatTemplate
from ..runtime.prompt import ControlTokens
from ..runtime.tokenizer import Tokenizer
from ..sampling import Sampling
from .chat_pieces import ChatPieces, InexpressibleTemplateError, chat_pieces
from .text_tables import TokenizerTables, UnsupportedTokenizerError, tokenizer_tables

FILE_NAME = "edgekit_text.bin"
MAGIC, VERSION = b"EKTEXT\r\n", 1
_HEADER, _ENTRY = 32, 24
_FLOAT32_TINY = 1.1754943508222875e-38  # a smaller positive setting would become 0
_NO_LIMIT = 2**31 - 1
_CHAT_NUMBERS = 6


@dataclass(frozen=True)
class TextFile:
    """The content of the file.

    Args:
        content: The bytes; None if the tokenizer is not supported.
        warnings: What the native library cannot do with this artifact, one sentence each.
    """

    content: bytes | None
    warnings: tuple[str, ...] = ()


def text_file(folder: Path, facts: RuntimeFacts) -> TextFile:
    """Make the file for an artifact.

    Args:
        folder: Holds the tokenizer's files.
        facts: What the manifest says, or will say.

    Raises:
        TokenizerError: The tokenizer or the template cannot be used at all.
    """
    tokenizer = Tokenizer.open(folder, facts.tokens)
    template = ChatTemplate.open(folder, tokenizer, reasoning=facts.reasoning)
    controls = ControlTokens() if template is None else template.controls
    try:
        tables = tokenizer_tables(tokenizer.backend, controls.everywhere, controls.outside_answers)
    except UnsupportedTokenizerError as error:
        return TextFile(None, (f"the native library has no tokenizer for this artifact ({error}); it takes token ids",))
    pieces, lacking = _chat(template, facts)
    return TextFile(_packed(tables, facts, pieces), lacking)


def _chat(template: ChatTemplate | None, facts: RuntimeFacts) -> tuple[ChatPieces | None, tuple[str, ...]]:
    """The chat format, and what it lacks."""
    if template is None:
        return None, ()
    try:
        pieces = chat_pieces(template, reasoning=facts.reasoning)
    except InexpressibleTemplateError as error:
        return None, (f"the native library has no chat format for this artifact's chat template: {error}",)
    return pieces, tuple(f"the native library does not accept {note} with this chat template" for note in pieces.notes)


def write_text_file(folder: Path, facts: RuntimeFacts) -> tuple[str, ...]:
    """Write the file into an artifact that is being built; returns the warnings.

    Args:
        folder: As for :func:`text_file`.
        facts: As for :func:`text_file`.

    Raises:
        TokenizerError: As for :func:`text_file`.
    """
    made = text_file(folder, facts)
    if made.content is not None:
        (folder / FILE_NAME).write_bytes(made.content)
    return made.warnings


def add_text_file(artifact: Path) -> tuple[str, ...]:
    """Add the file to an artifact that an older edgekit built, or write it anew, and list it in the manifest.

    No weight is read. The manifest is replaced last, so an interrupted call leaves an artifact that can be used.

    Args:
        artifact: The artifact's folder.

    Returns:
        What the native library cannot do with this artifact, one sentence each.

    Raises:
        ArtifactError: The folder is not an artifact.
        TokenizerError: As for :func:`text_file`.
        BuildError: The folder cannot be written.
    """
    manifest = read_manifest(artifact)
    made = text_file(artifact, manifest)
    files = {name: entry for name, entry in manifest.files.items() if name != FILE_NAME}
    path = artifact / FILE_NAME
    try:
        if made.content is None:
            path.unlink(missing_ok=True)
        else:
            write_file(path, made.content)
            files |= hash_files([path])
        replace(manifest, files=dict(sorted(files.items()))).write(artifact)
    except OSError as error:
        raise disk_error(error, path, None) from error
    return made.warnings


def _packed(tables: TokenizerTables, facts: RuntimeFacts, pieces: ChatPieces | None) -> bytes:
    joints = [] if pieces is None else [joint or "" for row in pieces.joints for joint in row]
    sections = (
        tables.token_offsets.tobytes(),
        tables.token_bytes,
        tables.token_flags.tobytes(),
        tables.byte_ids.tobytes(),
        tables.words.tobytes(),
        tables.merges.tobytes(),
        tables.merged.tobytes(),
        tables.added.tobytes(),
        tables.added_text,
        _settings(tables, facts, pieces),
        np.array(facts.tokens["eos"], np.uint32).tobytes(),
        _strings([*facts.stop_texts, *joints]),
    )
    return packed(sections)


def packed(sections: Sequence[bytes]) -> bytes:
    """Put the sections, in the order of their kinds, into one file."""
    entries, body = b"", b""
    offset = _HEADER + _ENTRY * len(sections)
    for kind, section in enumerate(sections, 1):
        entries += struct.pack("<IIQQ", kind, 0, offset + len(body), len(section))
        body += section + bytes(-len(section) % 8)
    content = entries + body
    size = _HEADER + len(content)
    return struct.pack("<8sIIQQ", MAGIC, VERSION, len(sections), size, checksum(content)) + content


def checksum(content: bytes) -> int:
    """The checksum of ``text_checksum`` in ``native/text/tables.cpp``."""
    words = np.frombuffer(content, "<u8")
    mixed = words ^ (np.arange(len(words), dtype=np.uint64) * np.uint64(0xD6E8FEB86659FD93))
    mixed = mixed * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return int((mixed ^ (mixed >> np.uint64(32))).sum(dtype=np.uint64))


def _settings(tables: TokenizerTables, facts: RuntimeFacts, pieces: ChatPieces | None) -> bytes:
    """``TextSettings`` of ``native/text/tables.h``."""
    sampling = Sampling.from_manifest(facts.sampling)
    bos = facts.tokens.get("bos")
    return struct.pack(
        "<II4BiII4fiII6I",
        tables.raw_added,
        tables.nfc,
        *tables.splits[0],
        *tables.splits[1],
        -1 if bos is None else bos,
        bool(facts.tokens.get("add_bos")) and bos is not None,
        facts.reasoning,
        sampling.temperature,
        max(sampling.top_p, _FLOAT32_TINY),
        sampling.min_p,
        sampling.repetition_penalty,
        min(sampling.top_k, _NO_LIMIT),
        len(facts.stop_texts),
        pieces is not None,
        *([0] * _CHAT_NUMBERS if pieces is None else _chat_numbers(pieces)),
    )


def _chat_numbers(pieces: ChatPieces) -> list[int]:
    """``TextSettings::chat`` of ``native/text/tables.h``, in the order of ``ChatNumber``."""
    joints = [joint for row in pieces.joints for joint in row]
    allowed = sum((joint is not None) << i for i, joint in enumerate(joints))
    trims = [left | right << 2 for left, right in pieces.trims]
    return [allowed, *trims, pieces.opens_thought, pieces.after_thought]


def _strings(texts: Sequence[str]) -> bytes:
    encoded = [text.encode("utf-8") for text in texts]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.uint32)
    return struct.pack("<I", len(texts)) + offsets.tobytes() + b"".join(encoded)
