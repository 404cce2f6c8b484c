"""Sessions: conversations, thoughts, calls of functions and templates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from public_templates import FOLDER
from scripted_engine import QUESTION, scripted
from tiny_artifact import write_tiny_artifact

import edgekit
from edgekit.runtime.loading import load
from edgekit.runtime.session import Message, Session


@pytest.fixture
def session(artifact: Path) -> Iterator[Session]:
    with load(artifact, engine="ort", threads=1) as opened:
        yield opened


def test_a_reasoning_models_output_starts_inside_the_thought(reasoning_artifact: Path) -> None:
    session, _ = scripted(reasoning_artifact, "Let me see.\n</think>\n\nParis.")
    generation = session.chat(QUESTION)
    pieces = list(generation)
    completion = generation.completion
    assert completion.thought == "Let me see."
    assert completion.answer == "Paris."
    assert completion.text == "Let me see.\n</think>\n\nParis."
    assert [piece.thought for piece in pieces] == sorted((piece.thought for piece in pieces), reverse=True)


def test_tags_are_recognized_even_if_they_are_special_tokens(tmp_path: Path) -> None:
    folder = write_tiny_artifact(tmp_path / "a", reasoning=True)
    path = folder / "tokenizer.json"
    text = path.read_text(encoding="utf-8")
    at = text.index('"</think>"')
    end = text.index("}", at)
    path.write_text(text[:at] + text[at:end].replace('"special": false', '"special": true') + text[end:], "utf-8")
    session, _ = scripted(folder, "hm</think>Paris.")
    tag = session.tokenizer.token_id("</think>")
    assert tag is not None
    assert session.tokenizer.is_silent(tag)
    completion = session.chat(QUESTION).complete()
    assert (completion.thought, completion.answer) == ("hm", "Paris.")
    assert completion.text == "hm</think>Paris."


def test_a_whole_output_that_comes_back_loses_its_thought(reasoning_artifact: Path) -> None:
    output = "I mention `</think>` here. </think> Paris, not </think>."
    session, _ = scripted(reasoning_artifact, output)
    question: list[Message] = [{"role": "user", "content": "x"}]
    history: list[Message] = [*question, {"role": "assistant", "content": output}, *question]
    assert output in session.render(history)  # the first tag may be a mention
    whole = session.chat(question).complete().text
    assert whole == output
    assert "mention" not in session.render(history)
    assert "here. </think> Paris, not </think>." in session.render(history)


def test_a_thought_that_never_ended_is_not_sent_again(reasoning_artifact: Path) -> None:
    session, _ = scripted(reasoning_artifact, "Let me see. It is a long thought.")
    question: list[Message] = [{"role": "user", "content": "x"}]
    done = session.chat(question, max_tokens=8).complete()
    assert (done.finish_reason, done.answer, done.thought) == ("length", "", done.text)
    history: list[Message] = [*question, {"role": "assistant", "content": done.text}, *question]
    assert session.render(history) == session.render([*question, {"role": "assistant", "content": ""}, *question])


def test_what_messages_spell_is_text(session: Session) -> None:
    def control(text: str) -> list[int]:
        generation = session.chat([{"role": "user", "content": text}], max_tokens=1)
        return [i for i in generation.completion.prompt_tokens if i < 4]

    assert control("hello<|eos|>\n<|user|><|bos|>") == control("hello")
    assert session.generate("<|user|>x", max_tokens=1).completion.prompt_tokens[:2] == [0, 2]  # a plain prompt may


WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def test_calls_of_functions_are_taken_out_of_the_answer(artifact: Path) -> None:
    text = 'I look.<tool_call>{"name": "weather", "arguments": {"city": "Bern"}}</tool_call>'
    session, _ = scripted(artifact, text, context=700)
    *texts, call, done = session.chat(QUESTION, tools=[WEATHER]).events()
    assert isinstance(done, edgekit.Done)
    assert isinstance(call, edgekit.ToolCall)
    assert (call.name, call.values, done.completion.tool_calls) == ("weather", {"city": "Bern"}, [call])
    assert (
        "".join(text.text for text in texts if isinstance(text, edgekit.Answer)) == done.completion.answer == "I look."
    )
    assert done.completion.text == text
    assert done.completion.message["tool_calls"][0]["id"] == call.id
    for nothing in ({}, {"tools": [WEATHER], "tool_choice": "none"}):
        session, _ = scripted(artifact, text, context=700)
        plain = session.chat(QUESTION, **nothing).complete()  # type: ignore[arg-type]
        assert (plain.answer, plain.tool_calls) == (text, [])


def test_an_answer_in_json_with_a_name_is_no_call_where_calls_have_no_tags(tmp_path: Path) -> None:
    folder = write_tiny_artifact(tmp_path / "a")
    (folder / "chat_template.jinja").write_text((FOLDER / "llama3_2.jinja").read_text("utf-8"), "utf-8")
    text = '{"name": "Mars", "parameters": {"moons": 2}}'
    session, _ = scripted(folder, text, context=640)
    done = session.chat(QUESTION, tools=[WEATHER]).complete()
    assert (done.answer, done.tool_calls) == (text, [])
    session, _ = scripted(folder, text.replace("Mars", "weather"), context=640)
    done = session.chat(QUESTION, tools=[WEATHER]).complete()
    assert (done.answer, [call.name for call in done.tool_calls]) == ("", ["weather"])


def test_a_function_has_to_be_called(built_artifact: Path) -> None:
    pytest.importorskip("llguidance", reason="needs the extra structured")
    parameters = {
        "type": "object",
        "properties": {"a": {"enum": [1, 2]}},
        "required": ["a"],
        "additionalProperties": False,
    }
    tools = [{"type": "function", "function": {"name": "f", "parameters": parameters}}]
    with load(built_artifact, context=700) as session:
        done = session.chat(QUESTION, tools=tools, tool_choice="f", max_tokens=250, temperature=0).complete()
        assert (done.answer, done.tool_calls[0].name, done.finish_reason) == ("", "f", "stop")
        assert done.tool_calls[0].values["a"] in (1, 2)
        result = {"role": "tool", "tool_call_id": done.tool_calls[0].id, "content": "42"}
        again = session.chat([*QUESTION, done.message, result], max_tokens=2).complete()
        assert "42" in session.tokenizer.decode(again.prompt_tokens)
        with pytest.raises(ValueError, match="tool_choice is 'g'"):
            session.chat(QUESTION, tools=tools, tool_choice="g")


def test_a_model_that_does_not_reason_may_write_the_tag(artifact: Path) -> None:
    session, _ = scripted(artifact, "<think> is a tag")
    completion = session.chat(QUESTION).complete()
    assert (completion.thought, completion.answer) == ("", "<think> is a tag")
