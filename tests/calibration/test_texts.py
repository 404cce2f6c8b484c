"""Calibration texts from files and from edgekit's prompts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tiny_checkpoint import CHAT_TEMPLATE, tokenizer

from edgekit.calibration.texts import PROMPTS, read_texts
from edgekit.errors import UsageError
from edgekit.runtime.chat import ChatTemplate
from edgekit.runtime.tokenizer import Tokenizer

WORDS = Tokenizer(tokenizer(), bos=0, add_bos=True, special_tokens={"bos_token": "<|bos|>"})
TEMPLATE = ChatTemplate(CHAT_TEMPLATE, WORDS.special_tokens)
PROSE = "The capital of France is Paris. What is the capital of Italy? Rome. " * 40


def test_plain_text_is_cut_into_pieces_that_each_begin_as_a_text(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(PROSE)
    texts = read_texts(tmp_path / "text.txt", WORDS, None, 200, text_tokens=64)
    assert [len(t) for t in texts] == [64, 64, 64, 8]
    assert all(t[0] == 0 for t in texts)
    assert [i for t in texts for i in t[1:]] == WORDS.encode(PROSE, add_bos=False)[:196]


def test_conversations_go_through_the_chat_template(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": PROSE[:500]}, {"role": "assistant", "content": "Größe"}]
    lines = [json.dumps({"messages": messages}), "", json.dumps({"text": PROSE[:300]})]
    (tmp_path / "chat.jsonl").write_text("\n".join(lines))
    texts = read_texts(tmp_path / "chat.jsonl", WORDS, TEMPLATE, 10_000)
    rendered = TEMPLATE.render(messages, add_generation_prompt=False)
    assert texts == [WORDS.encode(rendered), WORDS.encode(PROSE[:300])]


BAD = {
    "missing": (None, "text.txt", r"text\.txt cannot be read: No such file"),
    "empty": (b"", "text.txt", r"text\.txt is empty"),
    "blank": (b" \n\t\n", "text.jsonl", r"text\.jsonl is empty"),
    "latin-1": ("Größe ".encode("latin-1") * 100, "text.txt", r"text\.txt is not UTF-8: byte 2 is 0xf6"),
    "too short": (b"Rome.", "text.txt", r"has \d tokens; at least 128 are needed"),
    "no JSON": (b'{"text": "a"}\n{"text": ', "text.jsonl", r"line 2 is not valid JSON"),
    "another object": (b'{"prompt": "a"}', "text.jsonl", r'line 1: expected \{"messages"'),
    "a list": (b"[1]", "text.jsonl", r"line 1 is not a JSON object but a list"),
    "no messages": (b'{"messages": []}', "text.jsonl", r"line 1: there are no messages"),
    "a message without a role": (b'{"messages": [{"content": "a"}]}', "text.jsonl", r"line 1: a message must be"),
    "half a surrogate": (b'{"text": "\\ud83d"}', "text.jsonl", r"line 1 is not valid JSON: .* lone surrogate"),
    "nested too deeply": (b'{"text": ' + b"[" * 5000, "text.jsonl", r"line 1 is not valid JSON: it nests deeper"),
    "not a number": (b'{"text": "a", "x": NaN}', "text.jsonl", r"line 1 is not valid JSON: NaN"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files(tmp_path: Path, case: str) -> None:
    content, name, message = BAD[case]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_texts(tmp_path / name, WORDS, TEMPLATE, 1000)


def test_a_line_separator_inside_of_a_text_does_not_end_the_line(tmp_path: Path) -> None:
    text = PROSE[:300] + "\u2028\x85" + PROSE[:300]
    (tmp_path / "text.jsonl").write_text(json.dumps({"text": text}, ensure_ascii=False) + "\r\n", encoding="utf-8")
    assert read_texts(tmp_path / "text.jsonl", WORDS, None, 10_000) == [WORDS.encode(text)]


def test_conversations_need_a_template(tmp_path: Path) -> None:
    (tmp_path / "chat.jsonl").write_text('{"messages": [{"role": "user", "content": "a"}]}')
    with pytest.raises(UsageError, match="the model has no chat template"):
        read_texts(tmp_path / "chat.jsonl", WORDS, None, 1000)


def test_the_shipped_prompts_are_a_mix() -> None:
    entries = [json.loads(line) for line in PROMPTS.read_text(encoding="utf-8").splitlines()]
    topics = [entry["topic"] for entry in entries]
    assert len({entry["prompt"] for entry in entries}) == len(entries) >= 20
    assert {"maths", "code", "logic", "German", "Chinese"} <= set(topics)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(UsageError, match="it is not a regular file"):
        read_texts(tmp_path / "pipe.txt", WORDS, TEMPLATE, 1000)
