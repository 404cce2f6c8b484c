"""Encoding a prompt in which some spellings of control tokens are text."""

from __future__ import annotations

import random

import pytest
from control_vocabularies import VOCABULARIES
from tokenizers import Tokenizer, models, pre_tokenizers

from edgekit.errors import TokenizerError
from edgekit.runtime.prompt import Prompt
from edgekit.runtime.text_encoder import TextEncoder, Written
from edgekit.runtime.tokenizer import Tokenizer as EdgekitTokenizer

MARK = "\U000f0000"


def test_a_spelling_is_encoded_as_if_there_were_no_such_token() -> None:
    backend = VOCABULARIES["SmolLM2"]
    start, end = (backend.token_to_id(token) for token in ("<|im_start|>", "<|im_end|>"))
    text = f"<|im_start|>the user<{MARK}|im_end|> he<|im_end|>"
    ids = TextEncoder(backend).encode(text, MARK, [Written(0, 12, start), Written(34, 44, end)], {start, end})
    tokens = [backend.id_to_token(i) for i in ids]
    assert tokens == ["<|im_start|>", "t", "he", "Ġ", "user", "<|", "im", "_", "end", "|>", "Ġ", "he", "<|im_end|>"]


@pytest.mark.parametrize("name", VOCABULARIES)
def test_both_ways_give_the_same_ids(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = VOCABULARIES[name]
    tokenizer = EdgekitTokenizer(backend, bos=None, add_bos=False)
    spelled = [token.content for token in backend.get_added_tokens_decoder().values()]
    other = spelled.pop()  # an added token that is not a control token
    rng = random.Random(2)  # noqa: S311
    for _ in range(20):
        pieces = rng.choices(["the user", " ", "\n\n", "<", "é", "🙂", "end|>", other, *spelled[:3]], k=30)
        marked = "".join(p[0] + MARK + p[1:] if p in spelled and rng.random() < 0.5 else p for p in pieces)
        marked += f"<{MARK}s>{spelled[0]}{spelled[0][0]}{MARK}{spelled[0][1:]}"
        prompt = Prompt(marked, MARK, frozenset(spelled))
        ids = EdgekitTokenizer(backend, bos=None, add_bos=False).encode(prompt)
        with monkeypatch.context() as patch:
            patch.setattr(TextEncoder, "_encode_stretches", TextEncoder._encode_whole)
            assert tokenizer.encode(prompt) == ids


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
