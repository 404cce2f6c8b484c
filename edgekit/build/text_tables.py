"""The tokenizer of an artifact as tables for the native library, in the form of ``native/text/tables.h``.

A tokenizer that the native library does not implement is refused with the reason. It implements byte-level BPE with the
pre-tokenizers of GPT-2, Llama 3, Qwen2 and SmolLM2, without or with NFC. ``tests/native/test_text.py`` compares the ids
with those of the tokenizers library.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import pre_tokenizers

from ..tokenizer_file import definition

ID_BITS = 21
MOST_TOKENS = (1 << ID_BITS) - 1
NO_SPLIT, CL100K, GPT2, NUMBERS, DIGITS = range(5)  # native/text/words.h
HAS_TEXT, SILENT, CONTROL = 1, 2, 4
SPECIAL, LEFT_STRIP, RIGHT_STRIP, NORMALIZED, SINGLE_WORD, CONTROL_TOKEN, CONTROL_IN_USERS = (1 << i for i in range(7))
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CL100K = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_PATTERNS = {
    _GPT2: (GPT2, 0),
    r"\p{N}": (NUMBERS, 0),
    _CL100K % r"\p{N}": (CL100K, 1),
    _CL100K % r"\p{N}{1,3}": (CL100K, 3),
}
_FACTOR, _SIZE_FACTOR, _MASK = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, (1 << 64) - 1


class UnsupportedTokenizerError(Exception):
    """The native library does not implement this tokenizer; the message says what it lacks."""


@dataclass(frozen=True)
class TokenizerTables:
    """The sections of a tokenizer, as ``native/text/tables.h`` describes them."""

    token_offsets: NDArray[np.uint32]
    token_bytes: bytes
    token_flags: NDArray[np.uint8]
    byte_ids: NDArray[np.int32]
    words: NDArray[np.uint32]
    merges: NDArray[np.uint64]
    merged: NDArray[np.uint32]
    added: NDArray[np.uint32]  # (tokens, 4)
    added_text: bytes
    raw_added: int
    nfc: bool
    splits: tuple[tuple[int, int], tuple[int, int]]


def tokenizer_tables(backend: Any, everywhere: Collection[str], outside_answers: Collection[str]) -> TokenizerTables:
    """Make the tables of a tokenizer.

    Args:
        backend: A ``tokenizers.Tokenizer``.
        everywhere: Added tokens that no message may turn into (:class:`~edgekit.runtime.prompt.ControlTokens`).
        outside_answers: Added tokens that only earlier answers may turn into.

    Raises:
        UnsupportedTokenizerError: The native library does not implement this tokenizer.
    """
    described = json.loads(definition(backend))
    model = _checked_model(described["model"])
    nfc = _is_nfc(described["normalizer"])
    splits = _splits(described["pre_tokenizer"])
    if described["decoder"] is None or described["decoder"]["type"] != "ByteLevel":
        raise UnsupportedTokenizerError(f"its decoder is {_kind(described['decoder'])}; supported: ByteLevel")
    vocabulary: dict[str, int] = model["vocab"]
    added = described["added_tokens"]
    count = 1 + max([*vocabulary.values(), *(token["id"] for token in added)], default=-1)
    if not 0 < count <= MOST_TOKENS:
        raise UnsupportedTokenizerError(f"its highest token id is {count - 1}; supported: 0 to {MOST_TOKENS - 1}")
    texts = [backend.id_to_token(i) for i in range(count)]
    pieces = [b"" if text is None else _bytes(text) for text in texts]
    flags = np.array([0 if text is None else HAS_TEXT for text in texts], np.uint8)
    special = {token["content"] for token in added if token["special"]}
    controls = {*everywhere, *outside_answers}
    names = {token["id"]: token["content"] for token in added}
    for i, text in enumerate(texts):
        flags[i] |= (SILENT if text in special else 0) | (CONTROL if names.get(i) in controls else 0)
    merges, merged = _merges(model, vocabulary)
    records, added_text, raw_added = _added(backend, added, everywhere, outside_answers)
    return TokenizerTables(
        token_offsets=np.cumsum([0, *map(len, pieces)], dtype=np.uint32),
        token_bytes=b"".join(pieces),
        token_flags=flags,
        byte_ids=_byte_ids(model, vocabulary),
        words=_words(backend, vocabulary, bool(model.get("ignore_merges"))),
        merges=merges,
        merged=merged,
        added=records,
        added_text=added_text,
        raw_added=raw_added,
        nfc=nfc,
        splits=splits,
    )


def _kind(step: Any) -> str:
    return "missing" if step is None else str(step.get("type"))


def _checked_model(model: dict[str, Any]) -> dict[str, Any]:
    if model["type"] != "BPE":
        raise UnsupportedTokenizerError(f"its model is {model['type']}; supported: BPE")
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            raise UnsupportedTokenizerError(f"its model has {name} {model[name]!r}; supported: none")
    return model


def _is_nfc(normalizer: dict[str, Any] | None) -> bool:
    steps = [] if normalizer is None else normalizer.get("normalizers", [normalizer])
    kinds = [_kind(step) for step in steps]
    if kinds not in ([], ["NFC"]):
        raise UnsupportedTokenizerError(f"its normalizer is {', '.join(kinds)}; supported: none and NFC")
    return bool(kinds)


def _splits(splitter: dict[str, Any] | None) -> tuple[tuple[int, int], tuple[int, int]]:
    """The two steps of splitting text into words."""
    steps = [] if splitter is None else splitter.get("pretokenizers", [splitter])
    found: list[tuple[int, int]] = []
    for step in steps:
        kind = _kind(step)
        if kind == "Split" and step["behavior"] == "Isolated" and not step["invert"]:
            pattern = step["pattern"].get("Regex")
            if pattern not in _PATTERNS:
                raise UnsupportedTokenizerError(f"its pre-tokenizer splits at another pattern, {pattern!r}")
            found.append(_PATTERNS[pattern])
        elif kind == "Digits" and step["individual_digits"]:
            found.append((DIGITS, 0))
        elif kind == "ByteLevel" and not step["add_prefix_space"]:
            found += [(GPT2, 0)] if step.get("use_regex", True) else []
        else:
            raise UnsupportedTokenizerError(f"its pre-tokenizer has a step {kind} with settings that are not supported")
    if not steps or _kind(steps[-1]) != "ByteLevel" or [_kind(step) for step in steps].count("ByteLevel") != 1:
        raise UnsupportedTokenizerError("its pre-tokenizer does not end with ByteLevel")
    supported = [(kind,) for kind in (CL100K, GPT2)] + [(first, GPT2) for first in (NUMBERS, DIGITS)]
    if tuple(kind for kind, _ in found) not in supported:
        raise UnsupportedTokenizerError("its pre-tokenizer combines patterns in a way that is not supported")
    return found[0], found[1] if len(found) > 1 else (NO_SPLIT, 0)


def _alphabet() -> dict[str, int]:
    """The characters that stand for bytes in a byte-level vocabulary."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    found = {chr(byte): byte for byte in plain} | {chr(256 + i): byte for i, byte in enumerate(others)}
    if found.keys() != set(pre_tokenizers.ByteLevel.alphabet()):
        raise AssertionError("the tokenizers library has another byte-level alphabet")
    return found


_BYTES = _alphabet()


def _bytes(token: str) -> bytes:
    """What a token stands for. The decoder takes a token with other characters as it is."""
    try:
        return bytes([_BYTES[character] for character in token])
    except KeyError:
        return token.encode("utf-8")


def _byte_ids(model: Mapping[str, Any], vocabulary: Mapping[str, int]) -> NDArray[np.int32]:
    ids = np.full(256, -1, np.int32)
    for character, byte in _BYTES.items():
        ids[byte] = vocabulary.get(character, -1)
    if (ids < 0).any() and (model.get("byte_fallback") or model.get("fuse_unk")):
        raise UnsupportedTokenizerError("its vocabulary lacks bytes, and it uses byte_fallback or fuse_unk")
    if model.get("unk_token") is not None:
        if model["unk_token"] not in vocabulary and (ids < 0).any():
            raise UnsupportedTokenizerError("its unknown token is not in the vocabulary")
        ids[ids < 0] = vocabulary.get(model["unk_token"], -1)
    return ids


def _merges(model: Mapping[str, Any], vocabulary: Mapping[str, int]) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    """The hash table of pairs, and the id that each merge makes, by rank."""
    ranks: dict[int, int] = {}
    merged = []
    for rank, merge in enumerate(model["merges"]):
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        try:
            ranks[vocabulary[left] << ID_BITS | vocabulary[right]] = rank
            merged.append(vocabulary[left + right])
        except KeyError as error:  # of two tokens with the same id, the library keeps one
            raise UnsupportedTokenizerError(f"its vocabulary lacks {error.args[0]!r}, which its merges have") from None
    if len(merged) > MOST_TOKENS:
        raise UnsupportedTokenizerError(f"it has {len(merged)} merges; supported: up to {MOST_TOKENS}")
    size = _table_size(len(ranks))
    shift = 65 - size.bit_length()
    table = np.full(size, _MASK, np.uint64)
    used = bytearray(size)
    for pair, rank in ranks.items():
        slot = (pair * _FACTOR & _MASK) >> shift
        while used[slot]:
            slot = (slot + 1) % size
        used[slot] = 1
        table[slot] = pair << ID_BITS | rank
    return table, np.array(merged, np.uint32)


def _words(backend: Any, vocabulary: Mapping[str, int], whole: bool) -> NDArray[np.uint32]:
    """The hash table of words that become one token.

    Args:
        backend: The tokenizer.
        vocabulary: Its vocabulary.
        whole: Whether a word that is in the vocabulary is one token whatever the merges say.
    """
    found = {}
    for text, i in vocabulary.items():
        if not text or not all(character in _BYTES for character in text):
            continue
        if whole or [token.id for token in backend.model.tokenize(text)] == [i]:
            found[_bytes(text)] = i
    size = _table_size(len(found))
    shift = 65 - size.bit_length()
    tag_mask = (1 << (32 - ID_BITS)) - 1
    table = np.full(size, 0xFFFFFFFF, np.uint32)
    used = bytearray(size)
    for word, i in found.items():
        hashed = hash_word(word)
        slot = hashed >> shift
        while used[slot]:
            slot = (slot + 1) % size
        used[slot] = 1
        table[slot] = (hashed & tag_mask) << ID_BITS | i
    return table


def _table_size(entries: int) -> int:
    """A power of two that leaves at least 3 of 8 slots empty."""
    return max(2, 1 << (entries * 8 // 5).bit_length())


def hash_word(word: bytes) -> int:
    """The hash of ``hash_word`` in ``native/text/tables.cpp``."""
    size = len(word)
    hashed = size * _SIZE_FACTOR & _MASK
    if size >= 8:
        for start in range(0, size - 8, 8):
            hashed = (hashed ^ int.from_bytes(word[start : start + 8], "little")) * _FACTOR & _MASK
            hashed ^= hashed >> 32
        last = int.from_bytes(word[-8:], "little")
    elif size >= 4:
        last = int.from_bytes(word[:4] + word[-4:], "little")
    else:
        last = word[0] | word[size // 2] << 8 | word[-1] << 16 if word else 0
    hashed = (hashed ^ last) * _FACTOR & _MASK
    return (hashed ^ hashed >> 32) * _FACTOR & _MASK


def _added(
    backend: Any, added: list[dict[str, Any]], everywhere: Collection[str], outside_answers: Collection[str]
) -> tuple[NDArray[np.uint32], bytes, int]:
    """The added tokens, sorted: those looked for before normalization first."""
    rows: dict[tuple[bool, bytes], tuple[int, int]] = {}
    for token in added:
        content = token["content"]
        if not content:
            continue
        flags = SPECIAL * token["special"] | LEFT_STRIP * token["lstrip"] | RIGHT_STRIP * token["rstrip"]
        flags |= NORMALIZED * token["normalized"] | SINGLE_WORD * token["single_word"]
        flags |= CONTROL_TOKEN * (content in everywhere) | CONTROL_IN_USERS * (content in outside_answers)
        looked_for = content
        if token["normalized"] and backend.normalizer is not None:
            looked_for = backend.normalizer.normalize_str(content)
        key = (token["normalized"], looked_for.encode("utf-8"))
        if key in rows:
            raise UnsupportedTokenizerError(f"two of its added tokens are {looked_for!r} after normalization")
        rows[key] = (token["id"], flags)
    offset, records, text = 0, [], b""
    for (_, content), (i, flags) in sorted(rows.items()):
        records.append((i, offset, len(content), flags))
        text += content
        offset += len(content)
    raw = sum(not normalized for normalized, _ in rows)
    return np.array(records, np.uint32).reshape(-1, 4), text, raw
