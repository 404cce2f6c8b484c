"""The held-out texts: separate from calibration, of several kinds, evenly used; and one bos token."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_checkpoint import CHAT_TEMPLATE, tokenizer

from edgekit.calibration.texts import PROMPTS
from edgekit.errors import UsageError
from edgekit.quality.answers import QUESTIONS
from edgekit.quality.held_out import bos_problem, entries, held_out
from edgekit.runtime.chat import ChatTemplate
from edgekit.runtime.tokenizer import Tokenizer

WORDS = 6  # in a row: fewer are shared by any two texts ("how many of them are there")


def words(add_bos: bool = True) -> Tokenizer:
    return Tokenizer(tokenizer(), bos=0, add_bos=add_bos, special_tokens={"bos_token": "<|bos|>"})


def template(source: str = CHAT_TEMPLATE) -> ChatTemplate:
    return ChatTemplate(source, {"bos_token": "<|bos|>"})


def phrases(text: str) -> set[tuple[str, ...]]:
    found = text.lower().split()
    return {tuple(found[i : i + WORDS]) for i in range(len(found) - WORDS + 1)}


def test_no_text_is_shared_with_the_calibration() -> None:
    calibration = [json.loads(line)["prompt"] for line in PROMPTS.read_text(encoding="utf-8").splitlines()]
    held = [text for e in entries() for text in (e["prompt"], e["thought"], e["answer"])] + list(QUESTIONS)
    assert not {t.strip().lower() for t in calibration} & {t.strip().lower() for t in held}
    seen = set.union(*map(phrases, calibration))
    assert not [p for text in held for p in phrases(text) & seen]


def test_there_are_several_kinds() -> None:
    kinds = [e["kind"] for e in entries()]
    assert len(set(kinds)) == len(kinds)
    assert {"prose", "maths", "code", "reasoning", "German", "Chinese"} <= set(kinds)
    assert all(e["prompt"] and e["thought"] and e["answer"] for e in entries())


@pytest.mark.parametrize("tokens", [10, 1000, 10**6])
def test_the_tokens_are_shared_out(tokens: int) -> None:
    passages = held_out(words(), template(), False, 4096, tokens)
    scored = [p.scored.stop - p.scored.start for p in passages]
    assert len(passages) == len(entries())
    assert all(n > 0 for n in scored)
    if tokens < 10**6:
        assert sum(scored) == tokens
        assert max(scored) - min(scored) <= 1
    else:
        assert scored == [len(words().encode(e["answer"], add_bos=False)) for e in entries()]


def test_only_the_answer_is_scored() -> None:
    for entry, passage in zip(entries(), held_out(words(), template(), False, 4096, 10**6), strict=True):
        assert words().decode(passage.ids[passage.start :]) == entry["answer"]
        assert passage.ids.count(0) == 1


@pytest.mark.parametrize("open_in_prompt", [True, False])
def test_a_reasoning_model_reads_thoughts_as_it_writes_them(open_in_prompt: bool) -> None:
    source = CHAT_TEMPLATE + ("{{ '<think>\\n' }}" if open_in_prompt else "")
    passage = held_out(words(), template(source), True, 4096, 10**6)[0]
    text = words().decode(passage.ids)
    entry = entries()[0]
    assert f"<think>\n{entry['thought']}\n</think>\n\n{entry['answer']}" in text
    assert text.count("<think>") == text.count("</think>") == 1


def test_a_context_cuts_the_texts_and_one_that_holds_none_is_an_error() -> None:
    assert max(len(p.ids) for p in held_out(words(), template(), False, 200, 10**6)) == 200
    with pytest.raises(UsageError, match="a context of 8 tokens is too short"):
        held_out(words(), template(), False, 8, 100)


def test_one_bos() -> None:
    assert bos_problem(words(), template()) is None
    assert bos_problem(words(), None) is None
    assert bos_problem(Tokenizer(tokenizer(), bos=None, add_bos=False), None) is None
    inside = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}{{ bos_token }}"
    found = bos_problem(words(), template(inside))
    assert found is not None
    assert "has 2 beginning-of-sequence tokens (id 0); expected one, at its start" in found


def test_a_bos_at_the_start_of_every_message_is_allowed() -> None:
    chatml = "{% for m in messages %}{{ bos_token }}{{ m.role }}\n{{ m.content }}{% endfor %}{{ bos_token }}assistant\n"
    assert bos_problem(words(add_bos=False), template(chatml)) is None


def test_the_files_are_utf8_json_lines() -> None:
    from edgekit.quality.held_out import TEXTS

    assert isinstance(TEXTS, Path)
    assert all(set(e) == {"kind", "prompt", "thought", "answer"} for e in entries())
