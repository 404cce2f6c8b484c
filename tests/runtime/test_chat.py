"""Chat templates: what they can use, what they cannot do, and where they are found."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tiny_artifact import write_tiny_artifact

from edgekit.artifact.manifest import read_manifest
from edgekit.errors import TokenizerError
from edgekit.runtime.chat import ChatTemplate
from edgekit.runtime.tokenizer import Tokenizer

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
HELLO = [{"role": "user", "content": "Hello"}]


def render(source: str, messages: list[dict[str, Any]] | None = None, **options: bool) -> str:
    return ChatTemplate(source, SPECIAL).render(messages or HELLO, **options)


def open_template(folder: Path) -> ChatTemplate | None:
    return ChatTemplate.open(folder, Tokenizer.open(folder, read_manifest(folder).tokens))


def test_blocks_leave_no_blank_lines() -> None:
    loop = "{% for m in messages %}\n  {% if m.role == 'user' %}\n{{ m.content }}!\n  {% endif %}\n{% endfor %}"
    source = "{{ bos_token }}\n" + loop
    assert render(source) == "<s>\nHello!\n"


def test_the_generation_prompt_can_be_left_out() -> None:
    source = "{{ messages[0]['content'] }}{% if add_generation_prompt %}<a>{% endif %}"
    assert render(source) == "Hello<a>"
    assert render(source, add_generation_prompt=False) == "Hello"


def test_templates_can_use_what_transformers_provides() -> None:
    assert render("{{ messages[0] | tojson }}", [{"role": "user", "content": "é<'"}]) == (
        '{"role": "user", "content": "é<\'"}'
    )
    assert render("{{ [1] | tojson(indent=2) }}") == "[\n  1\n]"
    assert render("{{ strftime_now('%Y') }}") in {str(datetime.now().year), str(datetime.now().year - 1)}
    assert render("{% for i in [1, 2, 3] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}") == "1"
    assert render("{% generation %}{{ eos_token }}{% endgeneration %}.") == "</s>."
    assert render("{% if tools is not none %}tools{% endif %}{% if documents %}documents{% endif %}.") == "."


def test_an_error_raised_by_the_template_is_reported() -> None:
    with pytest.raises(TokenizerError, match="rejects these messages: no system role"):
        render("{{ raise_exception('no system role') }}")


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[9].content.strip() }}",
        "{{ 1 / 0 }}",
        "{{ messages | sum }}",
        "{{ missing.attribute.of }}",
        "{% include 'other' %}",
    ],
)
def test_a_template_that_fails_is_an_error(source: str) -> None:
    with pytest.raises(TokenizerError, match="the chat template fails on these messages"):
        render(source)


def test_an_invalid_template_is_an_error() -> None:
    with pytest.raises(TokenizerError, match="not valid jinja2"):
        render("{% for %}")


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception.__globals__['json'] }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ range(10 ** 9) | list }}",
    ],
)
def test_templates_cannot_leave_the_sandbox(source: str) -> None:
    with pytest.raises(TokenizerError):
        render(source)


def test_earlier_thoughts_do_not_reach_the_template() -> None:
    messages = [*HELLO, {"role": "assistant", "content": "<think>hm</think>\n\nHi."}, *HELLO]
    assert render("{% for m in messages %}{{ m.content }}|{% endfor %}", messages) == "Hello|Hi.|Hello|"
    assert messages[1]["content"] == "<think>hm</think>\n\nHi."


@pytest.mark.parametrize("messages", [[], [{"content": "x"}], ["x"], [{"role": 1, "content": "x"}]])
def test_invalid_messages_are_refused(messages: Any) -> None:
    with pytest.raises(ValueError, match="message"):
        ChatTemplate("x", {}).render(messages)


def test_the_template_file_has_priority_over_the_configuration(tmp_path: Path) -> None:
    folder = write_tiny_artifact(tmp_path / "a")
    config = folder / "tokenizer_config.json"
    named = [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "named {{ bos_token }}"}]
    config.write_text(json.dumps({"bos_token": "<|bos|>", "chat_template": named}))
    template = open_template(folder)
    assert template is not None
    assert template.render(HELLO) == "<|bos|><|user|>Hello\n<|assistant|>"
    (folder / "chat_template.jinja").unlink()
    template = open_template(folder)
    assert template is not None
    assert template.render(HELLO) == "named <|bos|>"
    config.write_text(json.dumps({"chat_template": "plain"}))
    template = open_template(folder)
    assert template is not None
    assert template.render(HELLO) == "plain"
    config.write_text("{}")
    assert open_template(folder) is None
    config.write_text(json.dumps({"chat_template": 7}))
    with pytest.raises(TokenizerError, match="chat_template must be a string"):
        open_template(folder)


def test_the_tiny_reasoning_template_ends_inside_a_thought(reasoning_artifact: Path) -> None:
    template = open_template(reasoning_artifact)
    assert template is not None
    assert template.render(HELLO).endswith("<|assistant|><think>\n")
