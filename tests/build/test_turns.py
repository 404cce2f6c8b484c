"""What ends a turn is found in chat templates of many kinds."""

from __future__ import annotations

import pytest
from chat_templates import (
    ALPACA,
    CHATML,
    LLAMA3,
    LLAMA3_TOKENS,
    QWEN3,
    R1_FEBRUARY,
    R1_JANUARY,
    R1_TOKENS,
    VICUNA,
    chat_tokenizer,
)

from edgekit.build.turns import TurnEnd, added_past, check_vocabulary, find_turn_end, special_tokens
from edgekit.errors import TokenizerError

HEADERS = "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content }}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "tokens", "expected"),
    [
        (CHATML, ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), TurnEnd(2, "<|im_end|>")),
        (QWEN3, ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), TurnEnd(2, "<|im_end|>")),
        (LLAMA3, LLAMA3_TOKENS, TurnEnd(4, "<|eot_id|>")),
        (R1_JANUARY, R1_TOKENS, TurnEnd(0, "<｜end▁of▁sentence｜>")),
        (R1_FEBRUARY, R1_TOKENS, TurnEnd(0, "<｜end▁of▁sentence｜>")),
        (VICUNA, ("</s>", "<s>"), TurnEnd(0, "</s>")),
        # a token that the vocabulary lacks is written as several tokens
        (CHATML, ("</s>", "<s>"), TurnEnd(None, "<|im_end|>", is_text=True)),
        (ALPACA, ("</s>",), TurnEnd(None, "\n### Instruction:", is_text=True)),
        (VICUNA.replace(" + eos_token", ""), ("</s>",), TurnEnd(None, "USER:", is_text=True)),
        # the end is written only between turns, or only the next turn's header is
        (
            "{% for m in messages %}{{ m.content }}{% if not loop.last %}<|sep|>{% endif %}{% endfor %}",
            ("</s>", "<|sep|>"),
            TurnEnd(1, "<|sep|>"),
        ),
        (HEADERS, ("</s>", "<|user|>", "<|assistant|>"), TurnEnd(1, "<|user|>")),
        # nothing shows an end
        ("{% for m in messages %}{{ m.content }}{% endfor %}", ("</s>",), TurnEnd()),
        ("{{ messages[0].content }}", ("</s>",), TurnEnd()),
        ("{{ raise_exception('no') }}", ("</s>",), TurnEnd()),
        ("{% for m in messages %}{{ m.content }}.{% endfor %}", ("</s>",), TurnEnd()),
    ],
)
def test_what_ends_a_turn(template: str, tokens: tuple[str, ...], expected: TurnEnd) -> None:
    bos = 3 if tokens == R1_TOKENS else 0
    assert find_turn_end(chat_tokenizer(template, tokens, bos=bos), template) == expected


def test_a_token_that_encoding_does_not_produce_ends_a_turn_as_id_and_as_text() -> None:
    tokenizer = chat_tokenizer(CHATML, ("</s>",))
    content = tokenizer["tokenizer.json"].replace(b'"</s>":0', b'"</s>":0,"<|im_end|>":257')
    assert content != tokenizer["tokenizer.json"]
    made = type(tokenizer)({"tokenizer.json": content}, tokenizer.special)
    assert find_turn_end(made, CHATML) == TurnEnd(257, "<|im_end|>", is_text=True)


def test_tokens_that_a_template_may_name() -> None:
    settings = {"bos_token": "<wrong>", "eos_token": None, "sep_token": {"content": "<|im_end|>"}, "unk_token": None}
    tokenizer = chat_tokenizer(CHATML, bos=1, eos=(2, 0), settings=settings)
    assert special_tokens(tokenizer) == {
        "bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "sep_token": "<|im_end|>"
    }  # fmt: skip


def test_a_vocabulary_larger_than_the_embedding() -> None:
    tokenizer = chat_tokenizer(CHATML)
    plain = tokenizer.backend.get_vocab_size(False)
    check_vocabulary(tokenizer, plain)  # the added tokens past it are left out
    with pytest.raises(TokenizerError, match=rf"the id {plain - 2}; allowed: 0 to {plain - 3}, .* \(2 such tokens\)"):
        check_vocabulary(tokenizer, plain - 2)


def test_added_tokens_without_a_row() -> None:
    tokenizer = chat_tokenizer(CHATML, shown=("<think>", "[PAD]"))
    assert added_past(tokenizer, 260) == {260: "[PAD]"}
    assert added_past(tokenizer, 261) == {}
