"""Encoding a prompt in which some spellings of control tokens are text."""

from __future__ import annotations

import pytest
from control_vocabularies import VOCABULARIES
from tokenizers import Tokenizer, models, pre_tokenizers

from edgekit.errors import TokenizerError
from edgekit.runtime.text_encoder import TextEncoder, Written

MARK = "\U000f0000"


def test_a_spelling_is_encoded_as_if_there_were_no_such_token() -> None:
    backend = VOCABULARIES["SmolLM2"]
    start, end = (backend.token_to_id(token) for token in ("<|im_start|>", "<|im_end|>"))
    text = f"<|im_start|>the user<{MARK}|im_end|> he<|im_end|>"
    ids = TextEncoder(backend).encode(text, MARK, [Written(0, 12, start), Written(34, 44, end)], {start, end})
    tokens = [backend.id_to_token(i) for i in ids]
    assert tokens == ["<|im_start|>", "t", "he", "Ġ", "user", "<|", "im", "_", "end", "|>", "Ġ", "he", "<|im_end|>"]


def test_white_space_that_a_token_takes_in_is_gone() -> None:
    backend = VOCABULARIES["Phi-3"]
    end = backend.token_to_id("<|end|>")
    ids = TextEncoder(backend).encode(f"a<|end|> \n<{MARK}|end|> b", MARK, [Written(1, 10, end)], {end})
    assert backend.decode(ids, skip_special_tokens=False) == "a<|end|><|end|> b"


def test_a_token_of_one_character_that_nothing_else_can_write_is_refused() -> None:
    backend = Tokenizer(models.WordLevel({"§": 0, "a": 1, "[UNK]": 2}, unk_token="[UNK]"))  # noqa: S106
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    backend.add_special_tokens(["§"])
    with pytest.raises(TokenizerError, match="cannot write as text"):
        TextEncoder(backend).encode(f"a§{MARK}", MARK, [], {0})
