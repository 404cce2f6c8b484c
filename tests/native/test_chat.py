"""Prompts of the native library have the ids of the chat template and the tokenizers library."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from control_vocabularies import VOCABULARIES, opened
from public_templates import FOLDER, SPECIAL
from text_corpus import texts
from text_vocabularies import facts

from edgekit.build.text_file import FILE_NAME, text_file
from edgekit.errors import EngineError
from edgekit.native.text import NativeText
from edgekit.runtime.chat import ChatTemplate
from edgekit.runtime.tokenizer import Tokenizer

TEMPLATES = {"SmolLM2": "chatml_smollm2", "R1-Qwen": "r1_february", "Llama-3": "llama3_2", "Phi-3": "phi3"}
CASES = [*TEMPLATES.items(), ("SmolLM2", "qwen2_5_tools"), ("R1-Qwen", "qwen3"), ("R1-Qwen", "r1_january")]


def artifact(folder: Path, vocabulary: str, template: str) -> NativeText:
    """A folder with everything about text."""
    backend = VOCABULARIES[vocabulary]
    backend.save(str(folder / "tokenizer.json"))
    special = SPECIAL.get(f"{template}.jinja", {"bos_token": "", "eos_token": ""})
    (folder / "chat_template.jinja").write_text(
        (FOLDER / f"{template}.jinja").read_text(encoding="utf-8"), encoding="utf-8"
    )
    (folder / "tokenizer_config.json").write_text(json.dumps(special))
    made = text_file(folder, facts(reasoning=vocabulary == "R1-Qwen"))
    assert made.content is not None
    (folder / FILE_NAME).write_bytes(made.content)
    return NativeText(folder)


def python_side(folder: Path, vocabulary: str) -> tuple[Tokenizer, ChatTemplate]:
    tokenizer = Tokenizer.open(folder, facts().tokens)
    template = ChatTemplate.open(folder, tokenizer, reasoning=vocabulary == "R1-Qwen")
    assert template is not None
    return tokenizer, template


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(case))
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[NativeText, Tokenizer, ChatTemplate]]:
    folder = tmp_path_factory.mktemp("chat")
    vocabulary, template = request.param
    native = artifact(folder, vocabulary, template)
    yield native, *python_side(folder, vocabulary)
    native.close()


def spelled(tokenizer: Tokenizer) -> list[str]:
    return [token.content for token in tokenizer.backend.get_added_tokens_decoder().values()] + ["<think>", "</think>"]


def check(both: tuple[NativeText, Tokenizer, ChatTemplate], messages: list[dict[str, str]]) -> None:
    native, tokenizer, template = both
    assert native.prompt(messages) == tokenizer.encode(template.prompt(messages)), ascii(messages)


def has_system(both: tuple[NativeText, Tokenizer, ChatTemplate]) -> bool:
    try:
        both[0].prompt([{"role": "system", "content": "?"}, {"role": "user", "content": "?"}])
    except EngineError:
        return False
    return True


def conversation(contents: list[str], system: bool) -> list[dict[str, str]]:
    roles = ["system"] * system + ["user", "assistant"] * len(contents)
    last = len(contents) - (system == len(contents) % 2)  # so that it ends with a question
    return [{"role": role, "content": content} for role, content in zip(roles, contents[:last], strict=False)]


def test_random_conversations_have_the_same_ids(both: tuple[NativeText, Tokenizer, ChatTemplate]) -> None:
    chance = random.Random(1)  # noqa: S311
    corpus = list(texts(300, seed=11, special=spelled(both[1])))
    system = has_system(both)
    for _ in range(60):
        check(both, conversation(chance.sample(corpus, chance.choice((3, 5, 6))), system and chance.random() < 0.5))


def test_control_tokens_in_messages_stay_text(both: tuple[NativeText, Tokenizer, ChatTemplate]) -> None:
    system = has_system(both)
    for text in dict.fromkeys(spelled(both[1])[:60] + spelled(both[1])[-8:]):
        half = len(text) // 2 + 1
        for contents in (
            [text, text, text, text],
            [f"a{text}b", text[:half], text[half:], f"{text[:half]} "],
            [f"{text} "] * 3,
        ):
            check(both, conversation(contents, system))


THOUGHTS = [
    "<think>\nOne,\n\ntwo.\n</think>\n\nYes.\n", "One.\n</think>\n\nYes.", " <think></think> \n No", "<think>no end",
    "One,\n\ntwo", "", " ",
    "an answer that mentions </think> and more", "In code `</think>` it is text", "```\n</think>\n\n```", "x</think>",
    "</think>", "a\x1f</think>\n\nb", "(</think>\n", "word</think> \n next", "word</think>next", "\n</think>\n\nyes",
    "\u3000<think>a</think>\u3000b",
    "<tool_call>{}</tool_call>", "~~~\u2028</think>\n\n", "one <think> two</think>\n\nthree",
]  # fmt: skip


@pytest.mark.parametrize("answer", THOUGHTS)
def test_thoughts_of_earlier_answers(both: tuple[NativeText, Tokenizer, ChatTemplate], answer: str) -> None:
    native, tokenizer, template = both
    messages = conversation(["?", answer, "And?"], False)
    check(both, messages)
    whole = tokenizer.encode(template.prompt(messages, whole=lambda text: True))
    assert native.prompt(messages, whole=True) == whole


def test_a_conversation_that_the_format_does_not_allow(both: tuple[NativeText, Tokenizer, ChatTemplate]) -> None:
    native = both[0]
    user = {"role": "user", "content": "?"}
    with pytest.raises(EngineError, match="a conversation of 0 messages was given"):
        native.prompt([])
    with pytest.raises(EngineError, match="message 1 has the role 'tool'; allowed: system, user, assistant"):
        native.prompt([user, {"role": "tool", "content": "?"}])
    with pytest.raises(
        EngineError, match="does not allow an answer after a message of the assistant; end with one of the user"
    ):
        native.prompt([user, {"role": "assistant", "content": "!"}])


def test_system_messages_that_a_template_moves_are_refused(tmp_path: Path) -> None:
    native = artifact(tmp_path, "R1-Qwen", "r1_february")
    system, user = {"role": "system", "content": "Be kind."}, {"role": "user", "content": "?"}
    with pytest.raises(EngineError, match="does not allow a message of the system after one of the user"):
        native.prompt([user, system, user])
    native.close()


def test_the_date_is_todays(tmp_path: Path) -> None:
    source = (FOLDER / "chatml_smollm2.jinja").read_text(encoding="utf-8")
    template = "{{ strftime_now('%d %b %Y, %A %B %j %y %m %a %p %I %%') }}" + source
    VOCABULARIES["SmolLM2"].save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "chat_template.jinja").write_text(template, encoding="utf-8")
    made = text_file(tmp_path, facts())
    assert made.content is not None
    (tmp_path / FILE_NAME).write_bytes(made.content)
    native, (tokenizer, rendering) = NativeText(tmp_path), python_side(tmp_path, "SmolLM2")
    user = [{"role": "user", "content": "?"}]
    before, found = tokenizer.encode(rendering.prompt(user)), native.prompt(user)
    assert found in (before, tokenizer.encode(rendering.prompt(user)))  # an hour may have ended in between
    native.close()


def test_without_a_template_there_is_no_chat_format(tmp_path: Path) -> None:
    VOCABULARIES["SmolLM2"].save(str(tmp_path / "tokenizer.json"))
    made = text_file(tmp_path, facts())
    assert made.content is not None
    assert made.warnings == ()
    (tmp_path / FILE_NAME).write_bytes(made.content)
    native = NativeText(tmp_path)
    with pytest.raises(EngineError, match="has no chat format: the model has no chat template, or one that cannot be"):
        native.prompt([{"role": "user", "content": "?"}])
    native.close()


def test_the_vocabularies_are_those_of_the_other_tests() -> None:
    assert {name for name, _ in CASES} == set(VOCABULARIES)
    assert opened("SmolLM2").bos is None
