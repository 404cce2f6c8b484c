"""The conversation that ``edgekit run`` holds without ``--prompt``: reads questions, and shows answers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from ..errors import ContextLengthError, EdgekitError, TokenizerError, UsageError, nearest
from ..runtime.chat import Message
from ..runtime.generation import Generation
from ._chat_input import open_reader
from ._conversation import COMMANDS, Conversation
from ._output import open_screen, print_error
from ._stream import figures, print_answer, typed_text

Answerer = Callable[[Sequence[Message], "int | None"], Generation]


def chat_loop(conversation: Conversation, answer: Answerer) -> None:
    """Read and answer questions until ``/exit`` or the end of the input.

    Args:
        conversation: A new conversation; its session has a chat template.
        answer: Begins the answer to messages, with the most tokens of its thought.

    Raises:
        TokenizerError: The artifact has no chat template.
        UsageError: There is no stdin.
    """
    session = conversation.session
    session.render([{"role": "user", "content": "?"}])  # reports a missing template before the first question
    reader = open_reader({name: command.help for name, command in COMMANDS.items()})
    _remark(f"{session.manifest.name}, {session.engine.kernel}. /help lists the commands, Ctrl-C stops an answer")
    while (line := reader.read()) is not None:
        before = conversation.messages
        try:
            text = typed_text(line).strip()
            if text.partition(" ")[0] == "/exit":
                return
            question = _command(conversation, text) if text.startswith("/") else text
            if question:
                _turn(conversation, answer, question)
        except (ContextLengthError, TokenizerError, UsageError) as error:
            conversation.messages = before  # /retry has taken the last question back
            print_error(error)


def _command(conversation: Conversation, line: str) -> str | None:
    """Do what a command says; returns a question that is to be answered, if any."""
    name, _, rest = line.partition(" ")
    if name not in COMMANDS:
        raise UsageError(f"there is no command {name}; {nearest(name, COMMANDS)}")
    if name == "/retry":
        question = conversation.take_back()
        if question is None:
            raise UsageError("there is no question to answer again")
        return question
    if said := COMMANDS[name].run(conversation, rest.strip()):
        _remark(said)
    return None


def _turn(conversation: Conversation, answer: Answerer, question: str) -> None:
    """Answer a question and add both to the conversation."""
    try:
        generation = answer(conversation.prompt(question), conversation.think_tokens)
    except (ContextLengthError, TokenizerError) as error:
        _remark(f"the question was not added to the conversation; {_way_out(conversation, error)}")
        raise
    try:
        _show(generation, conversation)
    except KeyboardInterrupt:  # ends the answer, not the program
        generation.stop()
    if dropped := generation.completion.dropped_messages:
        conversation.drop(dropped)
        _remark(f"the context is full: the oldest {dropped} messages were left out of the conversation")
    conversation.add(question, generation.completion)
    _remark(figures(generation.completion))


def _way_out(conversation: Conversation, error: EdgekitError) -> str:
    if isinstance(error, TokenizerError) and conversation.system:  # many templates refuse a system prompt
        return "/system without a text returns to the model's own system prompt"
    return "/reset forgets the conversation"


def _show(generation: Generation, conversation: Conversation) -> None:
    screen = open_screen()
    if not (sys.stdout.isatty() and screen.color_system):
        print_answer(generation, conversation.thoughts)
        return
    from ._live_answer import draw_answer, quiet_keys

    with quiet_keys():
        draw_answer(generation, conversation.thoughts, screen)


def _remark(text: str) -> None:
    open_screen(err=True).say((text, "dim"))
