"""Streaming text: the pieces are the whole text, characters are never split, and text comes as early as possible."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_artifact import BOS
from tiny_checkpoint import tokenizer as tiny_tokenizer
from tokenizers import AddedToken, decoders, models
from tokenizers import Tokenizer as HfTokenizer

from edgekit.runtime.text_stream import TextStream
from edgekit.runtime.tokenizer import Tokenizer

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def sentencepiece_tokenizer() -> HfTokenizer:
    """A vocabulary like Llama 2's: words with a bar for the leading space, and byte tokens for everything else."""
    words = ["<s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "▁Hello", "▁world", "llo", "é", "你", ".", "\n"]
    tokenizer = HfTokenizer(models.BPE({word: i for i, word in enumerate(words)}, [], byte_fallback=True))
    tokenizer.add_special_tokens([AddedToken("<s>", special=True)])
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(parts)
    return tokenizer


BYTE_LEVEL = Tokenizer(tiny_tokenizer(), bos=BOS, add_bos=True)
SENTENCEPIECE = Tokenizer(sentencepiece_tokenizer(), bos=0, add_bos=True)


def pieces(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    stream = TextStream(tokenizer)
    return [*(stream.push(token) for token in ids), stream.flush()]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.integers(0, 340), max_size=40))
def test_byte_level_pieces_add_up_to_the_text(ids: list[int]) -> None:
    assert "".join(pieces(BYTE_LEVEL, ids)) == BYTE_LEVEL.decode(ids)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.integers(0, 270), max_size=40))
def test_sentencepiece_pieces_add_up_to_the_text(ids: list[int]) -> None:
    assert "".join(pieces(SENTENCEPIECE, ids)) == SENTENCEPIECE.decode(ids)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*range(120, 262), 262]), min_size=17, max_size=80))
def test_a_long_run_of_invalid_bytes_adds_up_to_the_text(ids: list[int]) -> None:
    assert "".join(pieces(BYTE_LEVEL, ids)) == BYTE_LEVEL.decode(ids)


def test_each_token_of_a_run_of_invalid_bytes_costs_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    decode = BYTE_LEVEL.decode
    monkeypatch.setattr(BYTE_LEVEL, "decode", lambda ids: sizes.append(len(ids)) or decode(ids))
    (broken,) = BYTE_LEVEL.encode("é", add_bos=False)[:1]
    assert "".join(pieces(BYTE_LEVEL, [broken] * 1000)) == REPLACEMENT * 1000
    assert max(sizes) < 40


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30))
@pytest.mark.parametrize("tokenizer", [BYTE_LEVEL, SENTENCEPIECE], ids=["byte_level", "sentencepiece"])
def test_valid_text_is_never_split_inside_a_character(tokenizer: Tokenizer, text: str) -> None:
    ids = (
        BYTE_LEVEL.encode(text, add_bos=False)
        if tokenizer is BYTE_LEVEL
        else [1 + byte for byte in text.encode()]  # the byte tokens start at 1
    )
    found = pieces(tokenizer, ids)
    assert "".join(found) == tokenizer.decode(ids)
    if REPLACEMENT not in text:
        assert not any(REPLACEMENT in piece for piece in found)


def test_a_character_of_four_bytes_comes_with_its_last_byte() -> None:
    ids = [BYTE_LEVEL.token_id(token) for token in "ðŁĻĤ"]  # the bytes F0 9F 99 82 as spelled in this vocabulary
    assert None not in ids
    assert pieces(BYTE_LEVEL, [i for i in ids if i is not None]) == ["", "", "", "🙂", ""]


def test_text_is_returned_as_soon_as_it_is_final() -> None:
    ids = BYTE_LEVEL.encode("The capital of France", add_bos=False)
    found = pieces(BYTE_LEVEL, ids)
    assert all(found[:-1])
    assert found[-1] == ""


def test_a_broken_character_is_returned_when_it_is_final_or_at_the_end() -> None:
    lead, letter = BYTE_LEVEL.token_id("ð"), BYTE_LEVEL.token_id("x")
    assert lead is not None
    assert letter is not None
    assert pieces(BYTE_LEVEL, [lead, letter]) == ["", f"{REPLACEMENT}x", ""]
    assert pieces(BYTE_LEVEL, [lead]) == ["", REPLACEMENT]
    assert pieces(BYTE_LEVEL, [lead, lead]) == ["", REPLACEMENT, REPLACEMENT]


def test_only_the_leading_space_of_the_first_word_is_dropped() -> None:
    hello, world = (SENTENCEPIECE.token_id(word) for word in ("▁Hello", "▁world"))
    assert hello is not None
    assert world is not None
    assert pieces(SENTENCEPIECE, [0, hello, 0, world]) == ["", "Hello", "", " world", ""]


def test_a_stream_can_be_flushed_twice_and_used_again() -> None:
    stream = TextStream(BYTE_LEVEL)
    token = BYTE_LEVEL.token_id("x")
    assert token is not None
    assert stream.push(token) + stream.flush() + stream.flush() == "x"
    assert stream.push(token) == "x"
