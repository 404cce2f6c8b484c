"""Chat templates as pieces: the templates of public models, and what cannot be expressed."""

from __future__ import annotations

import importlib

import pytest
from control_vocabularies import R1_ADDED, R1_SPECIAL, SMOLLM2
from public_templates import FOLDER, SPECIAL, TEMPLATES

from edgekit.build.chat_pieces import (
    EDGE,
    NEWLINES,
    NOTHING,
    ROLES,
    SPACE,
    ChatPieces,
    InexpressibleTemplateError,
    chat_pieces,
    trimmed,
)  # fmt: skip
from edgekit.runtime.chat import ChatTemplate
from edgekit.runtime.prompt import ControlTokens

ADDED = dict.fromkeys((*SMOLLM2, *R1_SPECIAL), True) | dict.fromkeys(R1_ADDED, False)
USER, ASSISTANT = ROLES.index("user"), ROLES.index("assistant")
CHATML = """{% for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def derived(source: str, name: str = "", *, reasoning: bool = False) -> ChatPieces:
    special = SPECIAL.get(name, {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>"})
    controls = ControlTokens.of(ADDED, source)
    return chat_pieces(ChatTemplate(source, special, controls=controls, reasoning=reasoning), reasoning=reasoning)


@pytest.mark.parametrize("reasoning", [False, True])
@pytest.mark.parametrize(
    ("name", "notes"),
    [
        ("chatml_smollm2", ()), ("qwen2_5_tools", ()), ("qwen3", ()), ("r1_january", ()), ("r1_february", ()),
        ("command_r", ()), ("llama3_2", ()), ("gemma3", ("a system message that is not the first",)),
        ("mistral", ("a system message",)), ("phi3", ("a system message",)),
    ],
)  # fmt: skip
def test_templates_of_public_models(name: str, notes: tuple[str, ...], reasoning: bool) -> None:
    pieces = derived((FOLDER / f"{name}.jinja").read_text(encoding="utf-8"), f"{name}.jinja", reasoning=reasoning)
    assert pieces.notes == notes
    assert pieces.opens_thought == (name == "r1_february")
    if reasoning:
        assert pieces.after_thought == {"qwen3": NEWLINES, "r1_january": NOTHING, "r1_february": NOTHING}.get(
            name, SPACE
        )


def test_every_public_template_is_tried() -> None:
    assert {name.removesuffix(".jinja") for name in TEMPLATES} == {
        "chatml_smollm2", "qwen2_5_tools", "qwen3", "r1_january", "r1_february", "command_r", "gemma3", "mistral",
        "phi3", "features", "llama3_2",
    }  # fmt: skip


def test_the_pieces_of_a_simple_template() -> None:
    pieces = derived(CHATML)
    assert pieces.joints[EDGE][USER] == "<|im_start|>user\n"
    assert pieces.joints[USER][ASSISTANT] == "<|im_end|>\n<|im_start|>assistant\n" == pieces.joints[USER][EDGE]
    assert pieces.joints[ASSISTANT][EDGE] is None
    messages = [{"role": "user", "content": " ?\n"}, {"role": "assistant", "content": "!"}]
    assert pieces.render(messages) is None
    assert pieces.render(messages[:1]) == "<|im_start|>user\n ?\n<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("{{ message.content }}", "{{ message.content | upper }}", "it does not write a single question as it is"),
        ("{{ message.content }}", "{{ message.content | replace('\\n', ' ') }}", "changes the content of"),
        ("{{ message.content }}", "{{ message.content | escape }}", "depends on more than the order of roles"),
        ("{{ message.content }}", "{{ message.content }}{{ loop.index }}", "depends on more than the order of roles"),
        ("{{ message.content }}", "{{ message.content }}{{ messages | length }}", "depends on more than the order"),
        ("{% for", "{{ strftime_now('%c') }}{% for", "contain the date as '%c'; %c is not supported"),
        ("{% for", "{% if not messages[0].content %}{{ raise_exception('') }}{% endif %}{% for", "refuses some"),
    ],
)  # fmt: skip
def test_what_cannot_be_expressed_is_refused(old: str, new: str, reason: str) -> None:
    with pytest.raises(InexpressibleTemplateError, match=reason):
        derived(CHATML.replace(old, new))


@pytest.mark.parametrize(
    ("kinds", "expected"), [((NOTHING, NOTHING), "\n \na\n "), ((SPACE, NOTHING), "a\n "), ((NEWLINES, SPACE), " \na")]
)
def test_trimming(kinds: tuple[int, int], expected: str) -> None:
    assert trimmed("\n \na\n ", kinds) == expected


def test_a_date_stays_a_format() -> None:
    pieces = derived("{{ strftime_now('%d %b %Y') }}" + CHATML)
    assert pieces.joints[EDGE][USER] == "\ue0fe%d %b %Y\ue0ff<|im_start|>user\n"


def test_trimming_templates() -> None:
    pieces = derived(CHATML.replace("message.content", "message.content | trim"))
    assert pieces.trims == ((SPACE, SPACE),) * 3
    user_only = derived(
        CHATML.replace(
            "message.content", "message.content.rstrip('\\n') if message.role == 'user' else message.content"
        )
    )
    assert user_only.trims[USER] == (NOTHING, NEWLINES)
    assert user_only.trims[ASSISTANT] == (NOTHING, NOTHING)


def test_a_template_that_is_too_slow_to_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("edgekit.build.chat_pieces"), "_SECONDS", -1)
    with pytest.raises(InexpressibleTemplateError, match="take more than -1 seconds"):
        chat_pieces(ChatTemplate("{% for m in messages %}{{ m.content }}{% endfor %}", {}), reasoning=False)
