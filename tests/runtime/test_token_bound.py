"""The least number of tokens of a text, against the number that it has."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from control_vocabularies import VOCABULARIES, opened
from tokenizers import pre_tokenizers

from edgekit.artifact.manifest import read_manifest
from edgekit.runtime.native_tokenizer import NativeTokenizer
from edgekit.runtime.token_bound import most_bytes_of_token
from edgekit.runtime.tokenizer import Tokenizer

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
BYTE_LEVEL: dict[str, Any] = {"type": "ByteLevel"}
SPLIT: dict[str, Any] = {"type": "Split", "behavior": "Isolated"}
THINK: dict[str, Any] = {"content": "<think>é", "lstrip": False, "rstrip": False}


def sequence(members: str, *steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", members: list(steps)}


@pytest.mark.parametrize("name", ["SmolLM2", "R1-Qwen", "Llama-3"])
def test_no_text_has_fewer_tokens(name: str) -> None:
    tokenizer, backend = opened(name), VOCABULARIES[name]
    longest = max((token.content for token in backend.get_added_tokens_decoder().values()), key=len)
    rng = random.Random(3)  # noqa: S311
    for pieces in (
        ["the user", " the", "\n\n", "é", "🙂", longest],
        [longest],
        ["\u1112\u1161\u11ab", "ω\u0314\u0342\u0345"],
    ):
        text = "".join(rng.choices(pieces, k=300))
        assert 0 < tokenizer.least_tokens(text) <= len(tokenizer.encode(text))


def test_the_native_tokenizer_knows_the_same(built_artifact: Path) -> None:
    tokens = read_manifest(built_artifact).tokens
    text = "the cat sat. " * 50
    least = Tokenizer.open(built_artifact, tokens).least_tokens(text)
    assert NativeTokenizer.open(built_artifact, tokens).least_tokens(text) == least > 0


def test_the_longest_token_counts_in_bytes() -> None:
    assert most_bytes_of_token(None, BYTE_LEVEL, [*ALPHABET, "abc"], []) == 3
    assert most_bytes_of_token(None, BYTE_LEVEL, [*ALPHABET, "abc"], [THINK]) == 9
    splits = sequence("pretokenizers", {"type": "Digits"}, SPLIT, BYTE_LEVEL)
    assert most_bytes_of_token({"type": "NFC"}, splits, [*ALPHABET, "abc"], []) == 12


@pytest.mark.parametrize(
    ("normalizer", "splits", "added"),
    [
        ({"type": "Strip"}, BYTE_LEVEL, THINK),
        (sequence("normalizers", {"type": "NFC"}, {"type": "Lowercase"}), BYTE_LEVEL, THINK),
        (None, None, THINK),
        (None, {"type": "Metaspace"}, THINK),
        (None, sequence("pretokenizers", {**SPLIT, "behavior": "Removed"}, BYTE_LEVEL), THINK),
        (None, sequence("pretokenizers", {"type": "WhitespaceSplit"}, BYTE_LEVEL), THINK),
        (None, BYTE_LEVEL, {**THINK, "rstrip": True}),
    ],
)
def test_nothing_is_known_if_a_step_may_drop_text(normalizer: Any, splits: Any, added: Any) -> None:
    assert most_bytes_of_token(normalizer, splits, ALPHABET, [added]) is None
    assert most_bytes_of_token(None, BYTE_LEVEL, ALPHABET[1:], []) is None
    assert opened("Phi-3").least_tokens(" " * 1000) == 0
