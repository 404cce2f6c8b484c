"""Renders messages to a prompt with the model's chat template, in the same way as Hugging Face's transformers.

The template is downloaded code. ``template_sandbox.py`` runs it, where it can access only the messages and what
transformers provides for templates, and where its time and memory are bounded. ``prompt.py`` keeps the text of messages
text. Thoughts of earlier answers are dropped, because reasoning models were trained that way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypedDict

from jinja2 import TemplateError
from jinja2.exceptions import SecurityError

from ..errors import EdgekitError, TokenizerError
from ..json_file import is_there, read_bounded
from .prompt import ControlTokens, Marks, Prompt
from .template_meter import LimitError
from .template_sandbox import RefusalError, TemplateSandbox
from .thought import THINK_CLOSE, THINK_OPEN, starts_inside, thought_end
from .tokenizer import CONFIG_FILE, Tokenizer, read_tokenizer_config

TEMPLATE_FILE = "chat_template.jinja"
_SPLITS_THOUGHTS = re.compile(r"""split\(\s*["']</think>""")  # as R1's, QwQ's and Qwen3's templates do
_OWN = ("messages", "tools", "documents", "add_generation_prompt")  # variables that have arguments of their own
_DEEPEST = 100  # levels of lists and dictionaries in a message, a tool or a document


class Message(TypedDict):
    """One message of a conversation.

    Further keys are allowed and reach the chat template: ``tool_calls``, ``name``, ``reasoning_content``, ...

    Attributes:
        role: ``user``, ``assistant`` or ``system``, or another role that the model's template knows.
        content: The text, or a list of parts as in OpenAI's API: ``[{"type": "text", "text": "..."}]``. A template
            that takes only text gets the parts joined by line breaks.
    """

    role: str
    content: str


class ChatTemplate:
    """A model's chat template.

    Args:
        source: The template's jinja2 source.
        special_tokens: Tokens that the template may use: ``bos_token``, ``eos_token``, ...
        origin: The file that holds the template, for error messages.
        controls: The control tokens that messages must not turn into.
        reasoning: Whether the model thinks before it answers. Then thoughts in earlier answers are dropped.

    Raises:
        TokenizerError: The source is not valid jinja2.
    """

    def __init__(
        self,
        source: str,
        special_tokens: Mapping[str, str],
        origin: str = "the chat template",
        *,
        controls: ControlTokens | None = None,
        reasoning: bool = True,
    ) -> None:
        self._source = source
        self._special_tokens = dict(special_tokens)
        self._origin = origin
        self._controls = controls or ControlTokens()
        self._reasoning = reasoning
        try:
            self._template = TemplateSandbox(source)
        except LimitError as error:
            raise TokenizerError(f"{origin} cannot be used: {error}") from None
        except Exception as error:  # jinja2's compiler meets foreign code
            name = "" if isinstance(error, TemplateError) else f"{type(error).__name__}: "
            raise TokenizerError(f"{origin} is not valid jinja2: {name}{error}") from None

    @classmethod
    def open(cls, folder: Path, tokenizer: Tokenizer, *, reasoning: bool = True) -> ChatTemplate | None:
        """Open an artifact's template: ``chat_template.jinja``, otherwise the one in ``tokenizer_config.json``.

        Args:
            folder: The artifact.
            tokenizer: Its tokenizer.
            reasoning: Whether the model thinks before it answers.

        Returns:
            The template, or None if the artifact has none.

        Raises:
            TokenizerError: The template cannot be used.
        """
        path = folder / TEMPLATE_FILE
        source: Any
        if is_there(path):
            try:
                source, origin = read_bounded(path, error=TokenizerError).decode("utf-8"), path
            except UnicodeDecodeError as error:
                raise TokenizerError(f"{path} is not UTF-8: {error}") from None
        else:
            source, origin = read_tokenizer_config(folder).get("chat_template"), folder / CONFIG_FILE
        if isinstance(source, list):  # several named templates; those not named "default" are for tools and retrieval
            named = {entry.get("name"): entry.get("template") for entry in source if isinstance(entry, dict)}
            source = named.get("default")
        if source is None:
            return None
        if not isinstance(source, str):
            raise TokenizerError(f"{origin}: chat_template must be a string")
        controls = tokenizer.control_tokens(source)
        return cls(source, tokenizer.special_tokens, str(origin), controls=controls, reasoning=reasoning)

    @property
    def source(self) -> str:
        """The jinja2 source."""
        return self._source

    @property
    def controls(self) -> ControlTokens:
        """The control tokens that messages must not turn into."""
        return self._controls

    @cached_property
    def opens_thought(self) -> bool:
        """Whether the template ends a prompt inside a thought, as DeepSeek-R1's does."""
        try:
            return starts_inside(self._rendered([_Prepared({"role": "user", "content": "?"})], {}, True).marked)
        except EdgekitError:  # a template that wants more than a question; the conversation itself reports it
            return False

    @cached_property
    def _takes_parts(self) -> bool:
        """Whether the template writes a list with one part of text as it writes that text."""
        contents = ("Is it?", [{"type": "text", "text": "Is it?"}])
        written = []
        for content in contents:
            try:
                written.append(self._rendered([_Prepared({"role": "user", "content": content})], {}, True).text)
            except EdgekitError:
                return not written  # a template that wants more than a question gets the messages as they are
        return written[0] == written[1]

    def prompt(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        variables: Mapping[str, Any] | None = None,
        whole: Callable[[str], bool] = lambda text: False,
    ) -> Prompt:
        """Render the prompt for a conversation.

        Args:
            messages: The messages, oldest first; see :class:`Message`.
            add_generation_prompt: Whether to end with the text that makes the model answer.
            tools: JSON schemas of functions that the model may call, as transformers' ``tools``.
            documents: Texts to answer from, as transformers' ``documents``: ``{"title": ..., "text": ...}``.
            variables: Further variables of the model's template, such as Qwen3's ``enable_thinking``. As in
                transformers, ``bos_token`` and the like replace the special token of that name.
            whole: Whether a text is known to be everything that the model wrote.

        Raises:
            ValueError: There are no messages, a message has no role or a part that is not text, a text is not valid
                Unicode, or ``variables`` names an argument of this function.
            TokenizerError: The template rejects the messages, fails on them, or computes too much.
        """
        check_messages(messages)
        check_variables(variables)
        prepared = [self._history(self._with_text(message), whole) for message in messages]
        given = {"tools": _objects(tools, "tools"), "documents": _objects(documents, "documents")}
        return self._rendered(prepared, {**(variables or {}), **given}, add_generation_prompt)

    def render(self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = True) -> str:
        """The text of :meth:`prompt`, to be shown. Encode the prompt itself: it knows which tokens are the template's.

        Raises:
            ValueError: As for :meth:`prompt`.
            TokenizerError: As for :meth:`prompt`.
        """
        return self.prompt(messages, add_generation_prompt=add_generation_prompt).text

    def _rendered(self, prepared: Sequence[_Prepared], given: Mapping[str, Any], add_generation_prompt: bool) -> Prompt:
        texts = _texts([[each.message, each.thought] for each in prepared]) + _texts(given)
        marks = Marks(self._controls, texts)
        variables: dict[str, Any] = {
            **self._special_tokens,
            "tools": None,  # templates ask "tools is not none", so it must not be undefined
            "documents": None,
            **{
                name: value if name in self._special_tokens else _marked(value, marks, answer=False)
                for name, value in given.items()
            },
            "messages": [each.marked(marks) for each in prepared],
            "add_generation_prompt": add_generation_prompt,
        }
        text = self._run(variables, sum(map(len, texts)), marks.marker)
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise TokenizerError(f"{self._origin} writes a lone surrogate at position {error.start}") from None
        if not text:
            raise TokenizerError(f"{self._origin} writes an empty prompt for these messages")
        return Prompt(text, marks.marker if marks.marker in text else "", self._controls.all)

    def _run(self, variables: Mapping[str, Any], characters: int, marker: str) -> str:
        try:
            return self._template.render(variables, characters, marker)
        except RefusalError as error:
            message = str(error.message).replace(marker, "")
            raise TokenizerError(f"the model's chat template rejects these messages: {message}") from None
        except SecurityError as error:
            raise TokenizerError(f"{self._origin} does something that templates must not do: {error}") from None
        except (LimitError, RecursionError, MemoryError) as error:
            problem = error if isinstance(error, LimitError) else f"it ends with a {type(error).__name__}"
            raise TokenizerError(
                f"{self._origin} computes too much for a chat template: {problem}",
                hint="replace the model's chat template: edgekit build --chat-template FILE; or use plain text: --raw, "
                "Session.generate",
            ) from None
        except Exception as error:  # the template is foreign code, which may raise anything
            message = str(error).replace(marker, "")
            raise TokenizerError(
                f"{self._origin} fails on these messages: {type(error).__name__}: {message}"
            ) from error

    def _with_text(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        """A message whose content the template takes: parts of text become one text where it takes no parts."""
        parts = message.get("content")
        if not isinstance(parts, (list, tuple)) or not parts:
            return message
        if self._takes_parts:
            return message
        for part in parts:
            if isinstance(part, Mapping) and part.get("type", "text") != "text":
                raise ValueError(f"a message has a part of the type {part['type']!r}; this model takes only text")
        texts = [part.get("text") for part in parts if isinstance(part, Mapping)]
        if len(texts) < len(parts) or not all(isinstance(text, str) for text in texts):
            return message
        return {**message, "content": "\n".join(map(str, texts))}  # as llama.cpp and vLLM join them

    def _history(self, message: Mapping[str, Any], whole: Callable[[str], bool]) -> _Prepared:
        """A message, and if it is an earlier answer, without the thought that opens it."""
        content = message.get("content")
        if not self._reasoning or message["role"] != "assistant":
            return _Prepared(message)
        if isinstance(content, (list, tuple)):
            return _Prepared({**message, "content": self._parts(content)})
        if not isinstance(content, str):
            return _Prepared(message)
        end = thought_end(content, opened=self.opens_thought, whole=whole(content))
        if end is None:
            return _Prepared(message)
        thought, answer = content[:end], content[end:]
        # Such a template removes the thought itself. What it keeps, white space for instance, is what the model knows.
        if _SPLITS_THOUGHTS.search(self._source) and thought.endswith(THINK_CLOSE) and "tool_calls" not in message:
            return _Prepared({**message, "content": answer}, thought)
        kept = {}
        if "reasoning_content" in self._source:  # the template decides where a thought is kept
            kept["reasoning_content"] = thought.strip().removeprefix(THINK_OPEN).removesuffix(THINK_CLOSE).strip()
        return _Prepared({**kept, **message, "content": answer.lstrip()})

    def _parts(self, parts: Sequence[Any]) -> list[Any]:
        """The parts of an earlier answer, without the thought that opens it, which may go through several parts."""
        kept: list[Any] = []
        inside = False
        for number, part in enumerate(parts):
            text = part.get("text") if isinstance(part, Mapping) else None
            first = not any(isinstance(p, Mapping) and str(p.get("text") or "").strip() for p in parts[:number])
            if not isinstance(text, str) or not (inside or first):
                kept.append(part)
                continue
            end = thought_end(f"{THINK_OPEN}{text}" if inside else text, opened=self.opens_thought)
            if end is None:
                kept.append(part)
                continue
            start = end - len(THINK_OPEN) if inside else end
            inside = not text[:start].endswith(THINK_CLOSE)
            kept.append({**part, "text": text[start:].lstrip()})
        return kept


@dataclass(frozen=True)
class _Prepared:
    """A message for the template.

    Attributes:
        message: The message.
        thought: A thought with its tags, which the template removes from the start of the content; or empty.
    """

    message: Mapping[str, Any]
    thought: str = ""

    def marked(self, marks: Marks) -> dict[str, Any]:
        """The message with its control tokens marked, except the tags of its thought."""
        answer = self.message["role"] == "assistant"
        found: dict[str, Any] = _marked(self.message, marks, answer=answer)
        if self.thought:
            inside = self.thought.removesuffix(THINK_CLOSE)
            opening = inside[: len(inside) - len(inside.lstrip().removeprefix(THINK_OPEN))]
            thought = marks.mark(inside[len(opening) :], answer=True)
            found["content"] = f"{opening}{thought}{THINK_CLOSE}{found['content']}"
        return found


def check_messages(messages: object) -> None:
    """Check that messages are what their type says.

    Raises:
        ValueError: They are no list of dictionaries with a role, or there are none.
    """
    if isinstance(messages, (str, bytes)) or not isinstance(messages, Sequence):
        raise ValueError(f"messages must be a list of dictionaries; got {messages!r:.60}")
    if not messages:
        raise ValueError("there are no messages; a conversation needs at least one")
    for message in messages:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise ValueError(f'a message must be {{"role": ..., "content": ...}}; got {message!r:.300}')


def _objects(values: Sequence[Any] | None, name: str) -> list[Any] | None:
    """Tools or documents as a list of dictionaries."""
    if values is None:
        return None
    if not isinstance(values, (list, tuple)) or not all(isinstance(value, Mapping) for value in values):
        raise ValueError(f"{name} must be a list of dictionaries; got {values!r}")
    return list(values)


def check_variables(variables: Mapping[str, Any] | None) -> None:
    """Check further variables of a chat template.

    Args:
        variables: As for :meth:`ChatTemplate.prompt`.

    Raises:
        ValueError: They are not a dictionary, one has the name of an argument of its own, or a text is not valid.
    """
    if variables is not None and not isinstance(variables, Mapping):
        raise ValueError(f"variables must be a dictionary; got {variables!r:.60}")
    for name in _OWN:
        if variables and name in variables:
            raise ValueError(
                f"the variables of the chat template include {name!r}, which edgekit sets itself; leave it out. "
                "Messages, tools and documents are arguments of their own"
            )
    _texts(variables, "the variables of the chat template")


def _texts(value: Any, owner: str = "the messages", depth: int = 0) -> list[str]:
    """Every string in a value, which is checked for what a template or a tokenizer cannot take."""
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(
                f"a text of {owner} is not valid Unicode: it has a lone surrogate at {error.start}"
            ) from None
        return [value]
    if depth > _DEEPEST:
        raise ValueError(f"{owner} nest deeper than {_DEEPEST} levels")
    if isinstance(value, Mapping):
        return [text for pair in value.items() for member in pair for text in _texts(member, owner, depth + 1)]
    if isinstance(value, (list, tuple)):
        return [text for member in value for text in _texts(member, owner, depth + 1)]
    return []


def _marked(value: Any, marks: Marks, *, answer: bool) -> Any:
    """A copy of a value in which control tokens are marked."""
    if isinstance(value, str):
        return marks.mark(str(value), answer=answer)
    if isinstance(value, Mapping):
        return {_marked(k, marks, answer=answer): _marked(v, marks, answer=answer) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        members = [_marked(member, marks, answer=answer) for member in value]
        return tuple(members) if isinstance(value, tuple) else members
    return value
