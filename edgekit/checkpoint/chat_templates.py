"""Finds a model's chat template among the places where people keep it.

In the order of their priority: ``chat_template.jinja``, ``tokenizer_config.json``, ``chat_template.json`` (processors),
and the folders of additional templates that transformers writes. A file may hold several named templates. The one named
"default" is used, or the only one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import TokenizerError
from ..json_file import is_there, parse_json_object, read_bounded

TEMPLATE_FILE = "chat_template.jinja"
JSON_FILE = "chat_template.json"
FOLDERS = ("additional_chat_templates", "chat_templates")  # today's name and that of transformers 4.50
DEFAULT = "default"


@dataclass(frozen=True)
class ChatTemplates:
    """The templates of a model.

    Args:
        named: Template source by name.
        origin: The file that holds them, for messages.
        notes: What the user should know of the choice.
    """

    named: Mapping[str, str] = field(default_factory=dict)
    origin: str = ""
    notes: tuple[str, ...] = ()

    def chosen(self) -> str | None:
        """The template for conversations, or None if there is none.

        Raises:
            TokenizerError: There are several, and none is named "default".
        """
        if len(self.named) > 1 and DEFAULT not in self.named:
            raise TokenizerError(
                f"{self.origin} has the chat templates {', '.join(map(repr, self.named))}, and none is named 'default'",
                hint="write the one to use to a file and give it with --chat-template FILE",
            )
        return self.named.get(DEFAULT) or next(iter(self.named.values()), None)


NO_TEMPLATES = ChatTemplates()


def folder_templates(folder: Path, settings: Mapping[str, Any]) -> ChatTemplates:
    """The chat templates of a Hugging Face folder.

    Args:
        folder: The folder.
        settings: The content of its ``tokenizer_config.json``.

    Raises:
        TokenizerError: A template is not text, or not UTF-8.
        CheckpointError: A file cannot be read.
    """
    found = [
        ChatTemplates(_named(_file(folder / TEMPLATE_FILE), folder / TEMPLATE_FILE), str(folder / TEMPLATE_FILE)),
        _from_json(settings, folder / "tokenizer_config.json"),
        _from_json(_json_file(folder / JSON_FILE), folder / JSON_FILE),
        *(_from_folder(folder / name) for name in FOLDERS),
    ]
    found = [templates for templates in found if templates.named]
    if not found:
        return NO_TEMPLATES
    first, *others = found
    notes = unused_templates(first)
    for other in others:
        if DEFAULT in other.named and other.named[DEFAULT].strip() != first.named.get(DEFAULT, "").strip():
            notes = (*notes, f"the chat template of {first.origin} is used; the one in {other.origin} differs")
    return ChatTemplates(first.named, first.origin, notes)


def unused_templates(templates: ChatTemplates) -> tuple[str, ...]:
    """A note that names the templates besides the default one."""
    unused = [name for name in templates.named if name != DEFAULT]
    if DEFAULT not in templates.named or not unused:
        return ()
    return (f"{templates.origin} has further chat templates, which are not used: {', '.join(unused)}",)


def read_template_file(path: Path) -> str:
    """Read the file of ``--chat-template``: jinja source, or JSON with ``chat_template``.

    Raises:
        TokenizerError: The file does not exist or holds no template.
    """
    if not path.is_file():
        raise TokenizerError(f"the chat template {path} does not exist")
    source = _from_json(_json_file(path), path).chosen() if path.suffix == ".json" else _file(path)
    if source is None or not source.strip():
        raise TokenizerError(f"{path} holds no chat template", hint="give a file with jinja source")
    return source


def _file(path: Path) -> str | None:
    if not is_there(path):
        return None
    try:
        return read_bounded(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise TokenizerError(f"{path} is not UTF-8: {error}") from None


def _json_file(path: Path) -> dict[str, Any]:
    return parse_json_object(read_bounded(path), str(path)) if is_there(path) else {}


def _from_json(content: Mapping[str, Any], path: Path) -> ChatTemplates:
    return ChatTemplates(_named(content.get("chat_template"), path), str(path))


def _from_folder(folder: Path) -> ChatTemplates:
    files = sorted(folder.glob("*.jinja")) if folder.is_dir() else []
    named = {path.stem: source for path in files if (source := _file(path))}
    return ChatTemplates(named, str(folder))


def _named(template: Any, path: Path) -> dict[str, str]:
    """``chat_template`` by name: text, an object of named texts, or a list of ``{"name": ..., "template": ...}``."""
    if template is None or template == "":
        return {}
    if isinstance(template, str):
        return {DEFAULT: template}
    named: Any = template
    if isinstance(template, list):
        try:
            named = {entry["name"]: entry["template"] for entry in template}
        except (TypeError, KeyError):
            named = None
    if not isinstance(named, dict) or not all(isinstance(part, str) for pair in named.items() for part in pair):
        raise TokenizerError(f"{path}: chat_template must be text, or a list of named templates")
    return {name: source for name, source in named.items() if source}
