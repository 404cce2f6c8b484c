"""Reasoning models are told by several signs, and models that only have a word somewhere are not taken for them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from chat_templates import (
    CHATML,
    CHATML_TOKENS,
    LLAMA3,
    LLAMA3_TOKENS,
    NEVER_THINKS,
    QWEN3,
    R1_FEBRUARY,
    R1_JANUARY,
    R1_TOKENS,
    THINK_TOKENS,
    chat_tokenizer,
)

from edgekit.build.reasoning import Reasoning, find_reasoning

R1_NAME = "DeepSeek R1 Distill Qwen 7B"
VOCABULARY = "the vocabulary has <think> and </think>"


def found(
    template: str | None, special: Sequence[str], shown: Sequence[str] = (), names: Sequence[str] = ()
) -> Reasoning:
    return find_reasoning(chat_tokenizer(template, special, shown=shown, bos=0), template, names)


def test_r1_as_published_in_january_and_in_february() -> None:
    january = found(R1_JANUARY, R1_TOKENS, THINK_TOKENS, ("model", R1_NAME))
    assert january == Reasoning(
        True, ("the chat template knows </think>", VOCABULARY, f"the model is called {R1_NAME!r}")
    )
    assert found(R1_JANUARY, R1_TOKENS).thinks, "the template alone shows it"
    february = found(R1_FEBRUARY, R1_TOKENS)
    assert february == Reasoning(True, ("the chat template ends the prompt with <think>",))


def test_qwen3_thinks_and_its_instruct_models_do_not() -> None:
    hybrid = found(QWEN3, CHATML_TOKENS, THINK_TOKENS)
    assert hybrid.thinks
    assert "the chat template has the switch enable_thinking" in hybrid.signs
    for names in ((), ("Qwen3-4B-Instruct-2507",), ("Qwen3-8B-no-thinking",)):
        assert found(CHATML, CHATML_TOKENS, THINK_TOKENS, names) == Reasoning(
            False, (f"{VOCABULARY}, but the chat template does not use them",)
        )


def test_a_template_that_closes_the_thought_itself_means_no_thought() -> None:
    never = found(NEVER_THINKS, CHATML_TOKENS, THINK_TOKENS, (R1_NAME,))
    assert never == Reasoning(False, ("the chat template ends the prompt with </think>, so that there is no thought",))


@pytest.mark.parametrize(
    "name",
    [
        R1_NAME,
        "deepseek-r1-distill-llama-8b-Q4_K_M",
        "my_DeepSeek-R1_finetune",
        "QwQ-32B",
        "Phi-4-mini-reasoning",
        "Qwen3-4B-Thinking-2507",
    ],
)
def test_a_name_counts_if_the_vocabulary_has_the_tags(name: str) -> None:
    for template in (CHATML, None):
        assert found(template, CHATML_TOKENS, THINK_TOKENS, (name,)).thinks
        assert not found(template, CHATML_TOKENS, (), (name,)).thinks


@pytest.mark.parametrize("name", ["Qwen2.5-Coder-1.5B-Instruct", "smollm2", "sqwqs", "r1", "rethinking-llama", ""])
def test_other_names(name: str) -> None:
    assert not found(CHATML, CHATML_TOKENS, THINK_TOKENS, (name,)).thinks


@pytest.mark.parametrize(
    ("template", "tokens"), [(CHATML, CHATML_TOKENS), (LLAMA3, LLAMA3_TOKENS), (None, CHATML_TOKENS)]
)
def test_ordinary_models_show_no_signs(template: str | None, tokens: tuple[str, ...]) -> None:
    why = "neither the vocabulary nor the chat template has <think> and </think>"
    assert found(template, tokens) == Reasoning(False, (why,))


def test_a_word_somewhere_is_no_sign() -> None:
    assert not found("{# R1 writes <think> here #}" + CHATML, CHATML_TOKENS).thinks
    assert not found("You think step by step. " + CHATML, CHATML_TOKENS, ("think",)).thinks


def test_what_stands_in_a_comment_is_no_sign() -> None:
    hidden = "{# <think> {# #}{{ messages[0].content }}{# </think> #}"
    assert not found(hidden, CHATML_TOKENS).thinks
    assert not found("{#" * 50_000 + CHATML, CHATML_TOKENS).thinks


def test_a_template_that_refuses_a_question_alone() -> None:
    template = "{% if messages | length < 2 %}{{ raise_exception('no') }}{% endif %}" + R1_JANUARY
    assert found(template, R1_TOKENS).thinks
