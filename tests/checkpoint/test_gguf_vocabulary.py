"""Control tokens that a GGUF file stores as text are corrected, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest

from edgekit.checkpoint.gguf_vocabulary import (
    BYTE,
    CONTROL,
    NORMAL,
    UNUSED,
    USER_DEFINED,
    Vocabulary,
    with_control_tokens,
)


def retyped(text: str, old: int, template: str = "", **roles: int) -> tuple[int, tuple[str, ...]]:
    """The type of a token after the ordinary token "a", and the notes."""
    metadata: dict[str, Any] = {f"tokenizer.ggml.{role}_token_id": i for role, i in roles.items()}
    found, notes = with_control_tokens(Vocabulary(["a", text], [NORMAL, old], []), metadata, [template])
    assert found.types[0] == NORMAL
    return found.types[1], notes


@pytest.mark.parametrize("old", [NORMAL, USER_DEFINED])
@pytest.mark.parametrize("text", ["<|im_end|>", "<|eot_id|>", "<|EOT|>", "<｜User｜>", "<｜end▁of▁sentence｜>"])
def test_the_spelling_shows_a_control_token(text: str, old: int) -> None:
    assert retyped(text, old) == (
        CONTROL,
        (f"the GGUF file stores control tokens as text; their types are corrected: {text}",),
    )


@pytest.mark.parametrize("role", ["bos", "eos", "eot", "eom"])
def test_a_role_shows_a_control_token(role: str) -> None:
    assert retyped("</s>", NORMAL) == (NORMAL, ())
    assert retyped("</s>", NORMAL, **{role: 1})[0] == CONTROL
    assert retyped("word", NORMAL, **{role: 1}) == (NORMAL, ()), "an ordinary word is also a word"


def test_the_chat_template_shows_what_a_tag_is() -> None:
    assert retyped("<think>", NORMAL) == (NORMAL, ())
    assert retyped("<think>", NORMAL, "a<think>b")[0] == USER_DEFINED, "a thought is shown"
    assert retyped("<end_of_turn>", NORMAL, "{{ content }}<end_of_turn>")[0] == CONTROL
    assert retyped("[INST]", NORMAL, "[INST] {{ content }} [/INST]")[0] == CONTROL
    assert retyped("<tool_call>", USER_DEFINED, "<tool_call>") == (USER_DEFINED, ())


@pytest.mark.parametrize("text", ["<|>", "<||>", "<", "<|a b|>", "a<|im_end|>", "[]", "<?>", "<>"])
def test_text_stays_text(text: str) -> None:
    assert retyped(text, NORMAL, "{{ '<|im_end|>' }}") == (NORMAL, ())


@pytest.mark.parametrize("kind", [CONTROL, UNUSED, BYTE])
def test_other_types_stay(kind: int) -> None:
    assert retyped("<|im_end|>", kind, "<|im_end|>", eos=1) == (kind, ())


def test_a_note_names_a_few_of_many() -> None:
    tokens = [f"<|reserved_{i}|>" for i in range(8)]
    _, (note,) = with_control_tokens(Vocabulary(tokens, [NORMAL] * 8, []), {}, [])
    assert note.endswith(": " + ", ".join(tokens[:5]) + " and 3 more")
