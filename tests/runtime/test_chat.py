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
from edgekit.runtime.prompt import ControlTokens
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


PRINTED = "{% for m in messages %}{{ m.content }}|{% endfor %}"
THINKING = "<think>hm</think>\n\nHi."


def answered(content: Any, source: str = PRINTED, *, reasoning: bool = True, **more: Any) -> str:
    """The prompt after an answer."""
    messages = [*HELLO, {"role": "assistant", "content": content, **more}, *HELLO]
    return ChatTemplate(source, SPECIAL, reasoning=reasoning).render(messages)


def test_earlier_thoughts_do_not_reach_the_template() -> None:
    messages = [*HELLO, {"role": "assistant", "content": THINKING}, *HELLO]
    assert render(PRINTED, messages) == "Hello|Hi.|Hello|"
    assert messages[1]["content"] == THINKING


def test_only_a_reasoning_models_answers_have_thoughts() -> None:
    assert answered(THINKING, reasoning=False) == f"Hello|{THINKING}|Hello|"
    users = [{"role": role, "content": THINKING} for role in ("system", "user")]
    assert ChatTemplate(PRINTED, {}).render(users) == f"{THINKING}|{THINKING}|"


def test_a_mention_of_the_tag_cuts_nothing_even_if_the_template_splits_there() -> None:
    splits = "{% for m in messages %}{{ m.content.split('</think>')[-1] }}|{% endfor %}"
    text = "Use </think> here."
    for source in (PRINTED, splits, splits + "{% if add_generation_prompt %}<think>\n{% endif %}"):
        for content in (text, f"<think>\nhm\n</think>{text}", f"<think></think>{text}"):
            assert answered(content, source).startswith(f"Hello|{text}|Hello|")
        assert answered(text, source, reasoning=False).startswith(f"Hello|{text}|Hello|")
    opened = PRINTED + "{% if add_generation_prompt %}<think>\n{% endif %}"
    assert answered(f"hm\n</think>\n\n{text}", opened).startswith(f"Hello|{text}|")
    assert answered(f"hm\n</think>\n\n{text}", PRINTED).startswith(f"Hello|hm\n</think>\n\n{text}|")


def test_a_thought_in_parts_is_dropped() -> None:
    source = "{% for p in messages[1].content %}{{ p.text }}|{% endfor %}"
    for parts, expected in (
        (["<think>hm</think>Hi.", "You </think>"], "Hi.|You </think>|"),
        ([" ", "<think>hm", "more", "end</think> Hi. </think>", "there"], " |||Hi. </think>|there|"),
        (["Hi.", "<think>x</think>"], "Hi.|<think>x</think>|"),
    ):
        assert answered([{"type": "text", "text": part} for part in parts], source) == expected


def test_parts_of_text_become_one_text_for_a_template_that_takes_no_parts() -> None:
    def parts(*texts: str) -> list[dict[str, str]]:
        return [{"type": "text", "text": text} for text in texts]

    template = ChatTemplate("{% for m in messages %}{{ '[' + m.content + ']' }}{% endfor %}", SPECIAL)
    assert template.render([{"role": "user", "content": parts("one", "two")}, *HELLO]) == "[one\ntwo][Hello]"
    assert (
        template.render([*HELLO, {"role": "assistant", "content": parts("<think>hm", "</think>Hi.")}]) == "[Hello][Hi.]"
    )
    lists = "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}"
    lists += (
        "{% for p in m.content %}{{ p.text }}{% if not loop.last %}+{% endif %}{% endfor %}{% endif %}|{% endfor %}"
    )
    assert ChatTemplate(lists, SPECIAL).render([{"role": "user", "content": parts("one", "two")}]) == "one+two|"
    with pytest.raises(ValueError, match="a part of the type 'image_url'; this model takes only text"):
        template.render(
            [{"role": "user", "content": [*parts("one"), {"type": "image_url", "image_url": {"url": "x"}}]}]
        )


def test_a_template_that_keeps_some_thoughts_gets_them() -> None:
    source = "{% for m in messages %}{{ m.reasoning_content }}:{{ m.content }}|{% endfor %}"
    assert answered("<think>\nhm\n</think>\n\nHi.", source) == ":Hello|hm:Hi.|:Hello|"
    assert answered(THINKING, source, reasoning_content="own") == ":Hello|own:Hi.|:Hello|"


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


HUGE = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    "source",
    [HUGE, "{{ 'x' * 10**10 }}", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "{{ '%1000000000d' % 1 }}"],
)
def test_a_template_that_computes_too_much_is_an_error(source: str) -> None:
    with pytest.raises(TokenizerError, match="the chat template computes too much for a chat template") as caught:
        render(source)
    assert "--raw" in caught.value.hint


def test_a_source_that_cannot_be_compiled_is_an_error() -> None:
    for source in ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "x" * 200_000, "{{ " + "9" * 10_000 + " }}"):
        with pytest.raises(TokenizerError, match=r"the chat template (cannot be used|is not valid jinja2)"):
            render(source)


def test_an_empty_prompt_is_an_error() -> None:
    with pytest.raises(TokenizerError, match="the chat template writes an empty prompt"):
        render("{{ missing }}")


def test_text_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(ValueError, match="lone surrogate"):
        render("x", [{"role": "user", "content": ["a", {"b": "\ud800"}]}])
    with pytest.raises(TokenizerError, match="writes a lone surrogate at position 1"):
        render("x{{ '\\ud800' }}")
    nested: list[Any] = []
    for _ in range(200):
        nested = [nested]
    with pytest.raises(ValueError, match="nest deeper"):
        render("x", [{"role": "user", "content": nested}])


def test_tools_and_documents_are_lists_of_dictionaries() -> None:
    template = ChatTemplate("{{ tools | tojson }}{{ documents | length }}{{ mode }}", {})
    prompt = template.prompt(HELLO, tools=[{"a": "é"}], documents=({"text": "x"},), variables={"mode": "!"})
    assert prompt.text == '[{"a": "é"}]1!'
    for wrong in ("text", [1], [print], {"a": 1}):
        with pytest.raises(ValueError, match="tools must be a list of dictionaries"):
            template.prompt(HELLO, tools=wrong)  # type: ignore[arg-type]
    for name in ("messages", "tools", "documents", "add_generation_prompt"):
        with pytest.raises(ValueError, match=f"the variables of the chat template include '{name}'"):
            template.prompt(HELLO, variables={name: []})
    with pytest.raises(ValueError, match="variables must be a dictionary; got \\[1\\]"):
        template.prompt(HELLO, variables=[1])  # type: ignore[arg-type]


def test_the_tiny_reasoning_template_ends_inside_a_thought(reasoning_artifact: Path) -> None:
    template = open_template(reasoning_artifact)
    assert template is not None
    assert template.render(HELLO).endswith("<|assistant|><think>\n")


def test_a_variable_replaces_a_special_token_as_in_transformers() -> None:
    special = {"bos_token": "<s>", "eos_token": "</s>"}
    controls = ControlTokens(frozenset(("<s>", "</s>", "<b>")))
    template = ChatTemplate(
        "{{ bos_token }}{{ mode }}{{ messages[0].content }}{{ eos_token }}", special, controls=controls
    )
    for variables, expected in (
        (None, "<s>x</s>"),
        ({"bos_token": ""}, "x</s>"),
        ({"bos_token": "<b>", "mode": "<b>"}, "<b><b>x</s>"),
    ):
        assert template.prompt([{"role": "user", "content": "x"}], variables=variables).text == expected
    marked = template.prompt([{"role": "user", "content": "x"}], variables={"bos_token": "<b>", "mode": "<b>"}).marked
    assert marked.startswith("<b>")
    assert not marked.startswith("<b><b>")  # other variables are text
