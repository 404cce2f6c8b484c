"""Where chat templates are found, which of several is used, and what is said about the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgekit.checkpoint.chat_templates import ChatTemplates, folder_templates, read_template_file
from edgekit.errors import CorruptFileError, TokenizerError

NAMED = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "{{ x }}"}]


def chosen(folder: Path, settings: dict[str, Any] | None = None) -> str | None:
    return folder_templates(folder, settings or {}).chosen()


@pytest.mark.parametrize(
    "template", ["{{ x }}", NAMED, {"default": "{{ x }}", "rag": "no"}, [{"name": "rag", "template": "{{ x }}"}]]
)
def test_a_template_alone_or_among_named_ones(tmp_path: Path, template: Any) -> None:
    assert chosen(tmp_path, {"chat_template": template}) == "{{ x }}"
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    assert chosen(tmp_path) == "{{ x }}"


@pytest.mark.parametrize("folder", ["additional_chat_templates", "chat_templates"])
def test_templates_in_a_folder(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "rag.jinja").write_text("one")
    assert chosen(tmp_path) == "one"
    (tmp_path / folder / "default.jinja").write_text("default")
    assert chosen(tmp_path) == "default"
    (tmp_path / "chat_template.jinja").write_text("main")
    assert chosen(tmp_path) == "main"


def test_no_template(tmp_path: Path) -> None:
    for settings in ({}, {"chat_template": None}, {"chat_template": ""}, {"chat_template": []}):
        assert folder_templates(tmp_path, settings) == ChatTemplates()
        assert chosen(tmp_path, settings) is None


def test_the_first_file_is_used_and_a_note_names_one_that_differs(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("new")
    (tmp_path / "chat_template.json").write_text('{"chat_template": "old"}')
    found = folder_templates(tmp_path, {"chat_template": "new\n"})
    assert found.chosen() == "new"
    (note,) = found.notes
    assert "chat_template.jinja is used" in note
    assert "chat_template.json differs" in note


def test_templates_that_are_not_used_are_named(tmp_path: Path) -> None:
    (note,) = folder_templates(tmp_path, {"chat_template": NAMED}).notes
    assert note.endswith("has further chat templates, which are not used: tool_use")


def test_several_templates_without_a_default_are_an_error_only_if_one_is_needed(tmp_path: Path) -> None:
    found = folder_templates(tmp_path, {"chat_template": {"rag": "a", "tool_use": "b"}})
    with pytest.raises(TokenizerError, match="'rag', 'tool_use', and none is named 'default'") as caught:
        found.chosen()
    assert "--chat-template FILE" in caught.value.hint


@pytest.mark.parametrize("template", [7, [1], [{"name": "x"}], {"default": 3}])
def test_what_is_no_template(tmp_path: Path, template: Any) -> None:
    with pytest.raises(TokenizerError, match="chat_template must be text, or a list of named templates"):
        folder_templates(tmp_path, {"chat_template": template})


def test_files_that_are_not_utf_8_or_not_json(tmp_path: Path) -> None:
    (tmp_path / "chat_template.json").write_text("[]")
    with pytest.raises(CorruptFileError):
        folder_templates(tmp_path, {})
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(TokenizerError, match=r"chat_template\.jinja is not UTF-8"):
        folder_templates(tmp_path, {})


def test_a_template_given_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.jinja").write_text("größe {{ x }}", encoding="utf-8")
    assert read_template_file(tmp_path / "mine.jinja") == "größe {{ x }}"
    (tmp_path / "mine.json").write_text('{"chat_template": "{{ y }}"}')
    assert read_template_file(tmp_path / "mine.json") == "{{ y }}"
    (tmp_path / "empty").write_text(" \n")
    with pytest.raises(TokenizerError, match="empty holds no chat template"):
        read_template_file(tmp_path / "empty")
    with pytest.raises(TokenizerError, match="nowhere does not exist"):
        read_template_file(tmp_path / "nowhere")
