from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from public_templates import FOLDER
from tiny_artifact import write_tiny_artifact

from edgekit.artifact.manifest import read_manifest
from edgekit.errors import ContextLengthError
from edgekit.runtime.engine import EngineOptions
from edgekit.runtime.tokenizer import Tokenizer
from edgekit.serve.chat_request import read_chat_request
from edgekit.serve.completion_request import read_completion_request, read_tokenize_request
from edgekit.serve.format_budget import FormatBudget
from edgekit.serve.job import Job
from edgekit.serve.options import ServeOptions
from edgekit.serve.request_error import RequestError
from edgekit.serve.served_model import ServedModel

OPTIONS = ServeOptions(engine_options=EngineOptions(context=64, threads=1), max_tokens=9)


@pytest.fixture
def model(artifact: Path) -> Iterator[ServedModel]:
    opened = ServedModel.open("tiny", artifact, read_manifest(artifact), OPTIONS)
    yield opened
    opened.close()


def chat(model: ServedModel, **values: Any) -> Job:
    request = {"messages": [{"role": "user", "content": "Hi"}], **values}
    return model.chat_jobs(read_chat_request(request), [lambda event: None])[0]


def complete(model: ServedModel, **values: Any) -> Job:
    return model.completion_jobs(read_completion_request(values), [lambda event: None])[0]


def test_a_conversation_becomes_its_prompt(model: ServedModel) -> None:
    found = chat(model).prompt
    assert found == model.tokenize(read_tokenize_request({"messages": [{"role": "user", "content": "Hi"}]}))
    assert found != complete(model, prompt="Hi").prompt
    assert complete(model, prompt=[5, 6]).prompt == [5, 6]


def test_a_special_token_in_a_message_is_text(model: ServedModel) -> None:
    one = model.tokenize(read_tokenize_request({"messages": [{"role": "user", "content": "<|eos|>"}]}))
    assert 1 not in one


def test_formats_share_a_budget(model: ServedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("llguidance", reason="needs the extra structured")
    monkeypatch.setattr(model, "_formats", FormatBudget(500))
    asked = {"response_format": {"type": "json_schema", "json_schema": {"schema": {"enum": ["x" * 300]}}}}
    request = read_chat_request({"messages": [{"role": "user", "content": "Hi"}], "n": 3, **asked})
    jobs = model.chat_jobs(request, [lambda event: None] * 3)
    assert 300 < model._formats.held < 500  # one grammar for all three answers
    with pytest.raises(RequestError, match="take all the memory that this server has for formats"):
        chat(model, **asked)
    assert chat(model).answer
    jobs.clear()
    assert model._formats.held == 0
    assert chat(model, **asked).answer


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_tokens": 10}, "max_tokens is 10; this server allows at most 9"),
        ({"reasoning_effort": "low"}, "tiny does not think before it answers"),
        ({"think_tokens": 5}, "tiny does not think before it answers"),
    ],
)
def test_what_the_model_cannot_do_is_refused(model: ServedModel, values: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        chat(model, **values)


def test_answers_to_one_prompt_have_seeds_of_their_own(model: ServedModel) -> None:
    request = read_completion_request({"prompt": [5, 6], "seed": 2**64 - 1, "n": 2})
    jobs = model.completion_jobs(request, [lambda event: None] * 2)
    assert [job.prompt for job in jobs] == [[5, 6]] * 2
    assert jobs[0].answer is not jobs[1].answer


def test_a_prompt_that_is_repeated(model: ServedModel) -> None:
    for prompt, expected in (("Hi", "Hi"), (model.tokenize(read_tokenize_request({"prompt": "Hi"})), "Hi")):
        assert model.echoed(read_completion_request({"prompt": prompt, "echo": True})) == expected
    assert model.echoed(read_completion_request({"prompt": "Hi"})) == ""


def test_tools_are_part_of_the_prompt(built_artifact: Path) -> None:
    options = ServeOptions(engine_options=EngineOptions(context=512, threads=1))
    opened = ServedModel.open("tiny", built_artifact, read_manifest(built_artifact), options)
    try:
        tools = [{"type": "function", "function": {"name": "f"}}]
        assert len(chat(opened, tools=tools).prompt) > len(chat(opened).prompt)
        assert chat(opened, tools=tools, tool_choice="none").prompt == chat(opened).prompt
    finally:
        opened.close()


def test_a_prompt_that_does_not_fit_names_both_numbers(model: ServedModel) -> None:
    with pytest.raises(ContextLengthError, match="the prompt has 65 tokens; the context holds 64"):
        complete(model, prompt=[5] * 65)
    with pytest.raises(RequestError, match=r"prompt has the token id 100000; the ids of tiny are 0 to \d+"):
        complete(model, prompt=[100000])


def test_a_larger_context_is_offered_only_if_the_model_has_one(built_artifact: Path) -> None:
    manifest = read_manifest(built_artifact)
    longest = manifest.model["context_length"]
    for context in (64, longest):
        options = ServeOptions(engine_options=EngineOptions(context=context, threads=1))
        opened = ServedModel.open("tiny", built_artifact, manifest, options)
        try:
            with pytest.raises(ContextLengthError) as raised:
                complete(opened, prompt=[5] * (context + 1))
        finally:
            opened.close()
        larger = f", or start the server with a larger --context (tiny allows up to {longest} tokens)"
        assert raised.value.hint == f"shorten the prompt{larger if context < longest else ''}"


def test_a_prompt_that_is_far_too_long_is_not_encoded(model: ServedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> list[int]:
        raise AssertionError("encoding would take seconds")

    monkeypatch.setattr(Tokenizer, "encode", refuse)
    text = "a" * 100_000
    for ask in (
        lambda: complete(model, prompt=text),
        lambda: chat(model, messages=[{"role": "user", "content": text}]),
    ):
        with pytest.raises(ContextLengthError, match=r"the prompt has at least \d+ tokens; the context holds 64"):
            ask()
    monkeypatch.setattr(Tokenizer, "decode", refuse)
    with pytest.raises(ContextLengthError, match="the prompt has 65 tokens"):
        model.echoed(read_completion_request({"prompt": [5] * 65, "echo": True}))


def test_a_reasoning_model_takes_a_budget(reasoning_artifact: Path) -> None:
    opened = ServedModel.open("r", reasoning_artifact, read_manifest(reasoning_artifact), OPTIONS)
    try:
        assert chat(opened, reasoning_effort="low").prompt
    finally:
        opened.close()


def told(folder: Path, text: str, **values: Any) -> tuple[str, list[str]]:
    """The answer and the names of its calls if a model writes this text."""
    options = ServeOptions(engine_options=EngineOptions(context=512, threads=1))
    opened = ServedModel.open("tiny", folder, read_manifest(folder), options)
    try:
        answer, pieces = chat(opened, **values).answer, []
        for token in opened._tokenizer.encode(text, add_bos=False):
            answer.accept(token, None)
            pieces += answer.read()
        pieces += answer.flush()
        return "".join(piece.text for piece in pieces), [call.name for call in answer.tool_calls]
    finally:
        opened.close()


def test_json_is_a_call_only_of_a_given_function(tmp_path: Path) -> None:
    folder = write_tiny_artifact(tmp_path / "a")
    (folder / "chat_template.jinja").write_text((FOLDER / "llama3_2.jinja").read_text("utf-8"), "utf-8")
    tools = [{"type": "function", "function": {"name": "f"}}]
    text = '{"name": "Mars", "parameters": {}}'
    assert told(folder, text, tools=tools) == (text, [])
    assert told(folder, text.replace("Mars", "f"), tools=tools) == ("", ["f"])


def test_an_answer_without_a_thought_is_held_from_its_first_character(tmp_path: Path) -> None:
    pytest.importorskip("llguidance", reason="needs the extra structured")
    folder = write_tiny_artifact(tmp_path / "a", reasoning=True)
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text(encoding="utf-8").replace("<think>\n", ""), encoding="utf-8")
    asked = {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"enum": ["x"]}}}}
    assert told(folder, '\n"x"', **asked) == ('"x"', [])
