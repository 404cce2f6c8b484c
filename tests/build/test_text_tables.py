"""The tables of a tokenizer; tests/native/test_text.py compares what the native library makes of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from text_vocabularies import ADDED, SPECIAL, vocabulary
from tokenizers import Tokenizer

from edgekit.build.text_tables import (
    CONTROL,
    CONTROL_IN_USERS,
    CONTROL_TOKEN,
    ID_BITS,
    NORMALIZED,
    SILENT,
    UnsupportedTokenizerError,
    hash_word,
    tokenizer_tables,
)
from edgekit.build.text_tables import SPECIAL as SPECIAL_TOKEN


def changed(path: tuple[str | int, ...], value: Any, kind: str = "qwen2") -> Tokenizer:
    described = json.loads(vocabulary(kind).to_str())
    *inner, last = path
    place = described
    for key in inner:
        place = place[key]
    place[last] = value
    return Tokenizer.from_str(json.dumps(described))


PATTERN = ("pre_tokenizer", "pretokenizers", 0, "pattern", "Regex")


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (PATTERN, r"\w+|\W+", r"splits at another pattern"),
        (PATTERN, r"\p{N}", "combines patterns in a way that is not supported"),
        (("pre_tokenizer", "pretokenizers", 0, "invert"), True, "a step Split with settings"),
        (("pre_tokenizer", "pretokenizers", 1, "add_prefix_space"), True, "a step ByteLevel with settings"),
        (("model", "dropout"), 0.5, "has dropout 0.5"),
    ],
)
def test_other_settings_are_refused(path: tuple[str | int, ...], value: Any, reason: str) -> None:
    with pytest.raises(UnsupportedTokenizerError, match=reason):
        tokenizer_tables(changed(path, value), (), ())


def test_a_merge_whose_token_has_the_id_of_another_is_refused() -> None:
    left, right = json.loads(vocabulary("qwen2").to_str())["model"]["merges"][0]
    with pytest.raises(UnsupportedTokenizerError, match=r"its vocabulary lacks .*, which its merges have"):
        tokenizer_tables(changed(("model", "vocab", left + right), 0), (), ())


def test_flags_of_tokens() -> None:
    backend = vocabulary("qwen2")
    tables = tokenizer_tables(backend, ["<think>", SPECIAL[0]], ["<tool_call>"])
    flags = {row[0]: row[3] for row in tables.added.tolist()}
    ids = {text: backend.token_to_id(text) for text in (*SPECIAL, *ADDED)}
    assert flags[ids["<think>"]] == NORMALIZED | CONTROL_TOKEN
    assert flags[ids[SPECIAL[0]]] == NORMALIZED | CONTROL_TOKEN | SPECIAL_TOKEN
    assert flags[ids["<tool_call>"]] == NORMALIZED | CONTROL_IN_USERS
    assert [bool(tables.token_flags[ids[t]] & SILENT) for t in (SPECIAL[0], "<think>")] == [True, False]
    assert [bool(tables.token_flags[ids[t]] & CONTROL) for t in ("<think>", "<tool_call>", "edgekit")] == [
        True,
        True,
        False,
    ]


def test_every_merge_is_in_the_hash_table() -> None:
    backend = vocabulary("gpt2")
    model = json.loads(backend.to_str())["model"]
    tables = tokenizer_tables(backend, (), ())
    found = {slot >> ID_BITS: slot & ((1 << ID_BITS) - 1) for slot in tables.merges.tolist() if slot != (1 << 64) - 1}
    assert len(found) == len(model["merges"])
    for rank, (left, right) in enumerate(model["merges"]):
        assert found[model["vocab"][left] << ID_BITS | model["vocab"][right]] == rank
        assert tables.merged[rank] == model["vocab"][left + right]


def test_hashes_use_every_byte_of_a_word() -> None:
    words = [bytes([65 + (i == j) for i in range(size)]) for size in range(1, 30) for j in range(size + 1)]
    assert len({hash_word(word) for word in words}) == len(set(words))
