"""Renders messages to a prompt with the model's chat template, in the same way as Hugging Face's transformers.

The template is downloaded code. It runs in jinja2's immutable sandbox, where it can access only the messages and the
names below, not files or Python objects. It gets everything that transformers provides for templates
(``utils/chat_template_utils.py``): ``raise_exception``, ``strftime_now``, a ``tojson`` that does not escape characters,
break and continue, and the ``{% generation %}`` tag, which marks text for training and has no effect here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn, TypedDict

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ..errors import TokenizerError
from .thought import without_thought
from .tokenizer import CONFIG_FILE, Tokenizer, read_tokenizer_config

TEMPLATE_FILE = "chat_template.jinja"


class Message(TypedDict):
    """One message of a conversation. Further keys are allowed and reach the chat template unchanged.

    Attributes:
        role: ``user``, ``assistant`` or ``system``, or another role that the model's template knows.
        content: The text.
    """

    role: str
    content: str


class ChatTemplate:
    """A model's chat template.

    Args:
        source: The template's jinja2 source.
        special_tokens: Tokens that the template may use: ``bos_token``, ``eos_token``, ...
        origin: The file that holds the template, for error messages.

    Raises:
        TokenizerError: The source is not valid jinja2.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str], origin: str = "the chat template") -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, "jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = lambda pattern: datetime.now().strftime(pattern)
        self._special_tokens = dict(special_tokens)
        self._origin = origin
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise TokenizerError(f"{origin} is not valid jinja2: {error}") from None

    @classmethod
    def open(cls, folder: Path, tokenizer: Tokenizer) -> ChatTemplate | None:
        """Open an artifact's template: ``chat_template.jinja``, otherwise the one in ``tokenizer_config.json``.

        Returns:
            The template, or None if the artifact has none.

        Raises:
            TokenizerError: The template cannot be used.
        """
        path = folder / TEMPLATE_FILE
        if path.is_file():
            try:
                return cls(path.read_text(encoding="utf-8"), tokenizer.special_tokens, str(path))
            except UnicodeDecodeError as error:
                raise TokenizerError(f"{path} is not UTF-8: {error}") from None
        source = read_tokenizer_config(folder).get("chat_template")
        if isinstance(source, list):  # several named templates; those not named "default" are for tools and retrieval
            named = {entry.get("name"): entry.get("template") for entry in source if isinstance(entry, dict)}
            source = named.get("default")
        if source is None:
            return None
        if not isinstance(source, str):
            raise TokenizerError(f"{folder / CONFIG_FILE}: chat_template must be a string")
        return cls(source, tokenizer.special_tokens, str(folder / CONFIG_FILE))

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """Render the prompt for a conversation. Thoughts in earlier answers are dropped.

        Args:
            messages: The messages, oldest first.
            add_generation_prompt: Whether to end with the text that makes the model answer.

        Raises:
            ValueError: There are no messages, or a message has no role.
            TokenizerError: The template rejects the messages or fails on them.
        """
        prepared = [_prepare(message) for message in messages]
        if not prepared:
            raise ValueError("there are no messages; a conversation needs at least one")
        try:
            return self._template.render(
                messages=prepared,
                tools=None,  # templates ask "tools is not none", so it must not be undefined
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self._special_tokens,
            )
        except _RefusalError as error:
            raise TokenizerError(f"the model's chat template rejects these messages: {error.message}") from None
        except SecurityError as error:
            raise TokenizerError(f"{self._origin} does something that templates must not do: {error}") from None
        except (TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
            raise TokenizerError(f"{self._origin} fails on these messages: {type(error).__name__}: {error}") from error


class _RefusalError(TemplateError):
    """The template called ``raise_exception``."""


class _GenerationTag(Extension):
    """``{% generation %}...{% endgeneration %}`` prints its content."""

    tags = {"generation"}  # noqa: RUF012  (jinja2 declares it as an instance attribute)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _prepare(message: Mapping[str, object]) -> dict[str, object]:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise ValueError(f'a message must be {{"role": ..., "content": ...}}; got {message!r}')
    content = message.get("content")
    if message["role"] == "assistant" and isinstance(content, str):
        return {**message, "content": without_thought(content)}
    return dict(message)


def _raise_exception(message: str) -> NoReturn:
    raise _RefusalError(message)


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)
