"""The prompts of a session's conversations: messages, functions, documents and variables through the chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import TokenizerError
from .chat import ChatTemplate
from .history import OnFull, Window
from .prompt import Prompt
from .thought import WholeAnswers, starts_inside
from .tokenizer import Tokenizer
from .tool_calls import CallForm
from .tools import Tools, ToolTemplate

Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class TemplateInputs:
    """What a chat template takes beside the messages.

    Attributes:
        tools: Functions that the model may call.
        documents: Texts to answer from.
        variables: Further variables of the template.
    """

    tools: Tools | None
    documents: Sequence[Mapping[str, Any]] | None
    variables: Mapping[str, Any] | None


@dataclass(frozen=True)
class ChatPrompt:
    """The prompt of a conversation.

    Attributes:
        ids: Its token ids.
        messages: The messages in it: all, or the latest.
        opens_thought: Whether it ends with an open thought.
    """

    ids: list[int]
    messages: list[Mapping[str, Any]]
    opens_thought: bool


class ChatPrompts:
    """Makes the prompts of one session.

    Args:
        template: The artifact's chat template. If it is None, every prompt is refused.
        tokenizer: The artifact's tokenizer.
        name: The artifact's name, for messages.
    """

    def __init__(self, template: ChatTemplate | None, tokenizer: Tokenizer, name: str) -> None:
        self._template = template
        self._tools = ToolTemplate(template) if template else None
        self._tokenizer = tokenizer
        self._name = name
        self._whole = WholeAnswers()
        self._window = Window()

    @property
    def has_template(self) -> bool:
        """Whether prompts can be made."""
        return self._template is not None

    def call_form(self, tools: Tools | None) -> CallForm | None:
        """How the model writes calls of functions; None if it is given none."""
        return self._tools.form if self._tools and tools else None

    def remember(self, asked: Messages, text: str) -> None:
        """Remember the whole answer to these messages, so that its thought is found when it comes back as a message."""
        self._whole.add(asked, text)

    def prompt(self, messages: Messages, inputs: TemplateInputs) -> Prompt:
        """The prompt of a conversation as text in which control tokens are marked.

        Raises:
            TokenizerError: There is no chat template, or it rejects the messages.
            ValueError: A message is not valid.
        """
        if self._template is None:
            raise TokenizerError(
                f"{self._name} has no chat template", hint="continue plain text instead, with --raw or Session.generate"
            )
        return self._template.prompt(
            self._tools.messages(messages, inputs.tools) if self._tools else messages,
            tools=self._tools.definitions(inputs.tools) if self._tools else None,
            documents=inputs.documents,
            variables=inputs.variables,
            whole=self._whole.among(messages).__contains__,
        )

    def ids(self, messages: Messages, inputs: TemplateInputs) -> list[int]:
        """The token ids of :meth:`prompt`, which raises the same errors."""
        return self._tokenizer.encode(self.prompt(messages, inputs))

    def fitted(
        self, messages: Messages, inputs: TemplateInputs, context: int, answer: int | None, on_full: OnFull
    ) -> ChatPrompt:
        """The prompt of a conversation, without its oldest turns if ``on_full`` allows that and they do not fit.

        It begins where the last prompt began, if that fits.

        Args:
            messages: The messages, oldest first.
            inputs: What the template takes beside them.
            context: The largest number of tokens of prompt and answer together.
            answer: The most tokens of the answer; None if they are not limited.
            on_full: As for ``Session.chat``.

        Raises:
            TokenizerError: As for :meth:`prompt`.
            ValueError: As for :meth:`prompt`, or ``on_full`` has another value.
        """
        latest: list[Prompt] = []

        def encode(asked: Messages) -> list[int]:
            latest[:] = [self.prompt(asked, inputs)]
            return self._tokenizer.encode(latest[0])

        ids, kept = self._window.fitted(messages, encode, context, answer, on_full)
        return ChatPrompt(ids, kept, starts_inside(latest[0].marked))
