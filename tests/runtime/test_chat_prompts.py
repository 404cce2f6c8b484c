"""The prompts of a session's conversations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_artifact import write_tiny_artifact

from edgekit.artifact.manifest import read_manifest
from edgekit.errors import TokenizerError
from edgekit.runtime.chat import ChatTemplate
from edgekit.runtime.chat_prompts import ChatPrompts, TemplateInputs
from edgekit.runtime.loading import load
from edgekit.runtime.session import Message
from edgekit.runtime.tokenizer import Tokenizer
from edgekit.runtime.tool_calls import HERMES
from edgekit.runtime.tools import tools_of

PLAIN = TemplateInputs(tools=None, documents=None, variables=None)
QUESTION = [{"role": "user", "content": "What is it?"}]
ANSWERED = [*QUESTION, {"role": "assistant", "content": "A cat."}, *QUESTION]


def prompts(folder: Path) -> ChatPrompts:
    tokenizer = Tokenizer.open(folder, read_manifest(folder).tokens)
    return ChatPrompts(ChatTemplate.open(folder, tokenizer), tokenizer, "tiny")


def test_what_fits_is_the_whole_prompt(artifact: Path, reasoning_artifact: Path) -> None:
    for folder, opens_thought in ((artifact, False), (reasoning_artifact, True)):
        made = prompts(folder)
        prompt = made.fitted(ANSWERED, PLAIN, 256, None, "slide")
        assert prompt.ids == made.ids(ANSWERED, PLAIN)
        assert prompt.messages == ANSWERED
        assert prompt.opens_thought == opens_thought


def test_the_oldest_turns_are_left_out_on_request_only(artifact: Path) -> None:
    made = prompts(artifact)
    context = len(made.ids(ANSWERED, PLAIN))
    assert made.fitted(ANSWERED, PLAIN, context, None, "error").messages == ANSWERED
    prompt = made.fitted(ANSWERED, PLAIN, context, None, "slide")
    assert prompt.messages == QUESTION
    assert prompt.ids == made.ids(QUESTION, PLAIN)


def test_the_form_of_calls_is_asked_for_only_with_functions(artifact: Path) -> None:
    tools = tools_of([{"name": "f"}], "auto")
    made = prompts(artifact)
    assert made.call_form(tools) is HERMES
    assert made.call_form(None) is None
    assert ChatPrompts(None, Tokenizer.open(artifact, read_manifest(artifact).tokens), "tiny").call_form(tools) is None


def test_an_answer_that_is_remembered_loses_its_thought(reasoning_artifact: Path) -> None:
    made = prompts(reasoning_artifact)
    answer = "I mention `</think>` here. </think> Paris."
    history = [*QUESTION, {"role": "assistant", "content": answer}, *QUESTION]
    assert answer in made.prompt(history, PLAIN).text  # the first tag may be a mention
    made.remember(QUESTION, answer)
    assert "mention" not in made.prompt(history, PLAIN).text


def test_a_thought_that_never_ended_is_dropped_only_behind_its_question(reasoning_artifact: Path) -> None:
    made = prompts(reasoning_artifact)
    without = made.prompt([*QUESTION, {"role": "assistant", "content": ""}, *QUESTION], PLAIN).text
    history = [*QUESTION, {"role": "assistant", "content": "Okay"}, *QUESTION]
    assert "Okay" in made.prompt(history, PLAIN).text
    made.remember(QUESTION, "Okay")
    assert made.prompt(history, PLAIN).text == without
    other = [{"role": "user", "content": "Are you there?"}, *history[1:]]
    assert "Okay" in made.prompt(other, PLAIN).text


def test_tools_documents_and_variables_reach_the_template(tmp_path: Path) -> None:
    folder = write_tiny_artifact(tmp_path / "a")
    (folder / "chat_template.jinja").write_text(
        "{{ tools | tojson }}{# <tool_call> #}{{ documents[0].text if documents }}{{ mode }}{{ messages[0].content }}"
    )
    question: list[Message] = [{"role": "user", "content": "?"}]
    with load(folder, context=64) as session:
        more: dict[str, Any] = {"tools": [{"name": "f"}], "documents": [{"text": "d"}], "variables": {"mode": "!"}}
        assert session.render(question, **more) == '[{"name": "f"}]d!?'
        ids = session.chat(question, max_tokens=1, **more).completion.prompt_tokens
        assert session.tokenizer.decode(ids) == '[{"name": "f"}]d!?'


def test_chat_needs_a_chat_template(tmp_path: Path) -> None:
    folder = write_tiny_artifact(tmp_path / "a")
    (folder / "chat_template.jinja").unlink()
    with load(folder, threads=1) as session:
        assert not session.has_chat_template
        with pytest.raises(TokenizerError, match="tiny has no chat template") as caught:
            session.chat(QUESTION)
        assert "--raw" in caught.value.hint
