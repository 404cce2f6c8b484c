"""Finds what ends an assistant's turn, by rendering a conversation with the chat template.

    ...<|im_start|>assistant\\nANSWER<|im_end|>\\n<|im_start|>user\\nQUESTION...
                                    ^^^^^^^^^^ ends a turn

A model that was trained with the template writes this after each answer. If the source's end-of-sequence tokens lack
it, the model goes on with the user's next question.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ..checkpoint.base import TokenizerFiles
from ..errors import TokenizerError
from ..json_file import parse_json_object
from ..runtime.chat import ChatTemplate, Message

SETTINGS_FILE = "tokenizer_config.json"
_FIRST, _ANSWER, _SECOND = "edgekit-question-1", "edgekit-answer", "edgekit-question-2"
_CONTROL = re.compile(r"<[|｜/]?[^<>\s]+>|\[/?[A-Z_]+\]")  # a token that looks like no text
_MIN_STOP, _MAX_STOP = 3, 64  # characters of a stop text: shorter ones occur in answers


@dataclass(frozen=True)
class TurnEnd:
    """What ends a turn in a chat template: one token, a text of several tokens, or both if it is spelled in two ways.

    Args:
        token_id: The token; None if there is none.
        text: The text, also for a token; empty if the template does not show an end.
        is_text: Whether the model may write it as several tokens.
    """

    token_id: int | None = None
    text: str = ""
    is_text: bool = False


def special_tokens(tokenizer: TokenizerFiles) -> dict[str, str]:
    """The tokens that a chat template may name: ``bos_token``, ``eos_token``, ... with their text."""
    special = tokenizer.special
    ids = {"bos_token": special.bos_id, "eos_token": next(iter(special.eos_ids), None), "pad_token": special.pad_id}
    found = {name: tokenizer.backend.id_to_token(i) for name, i in ids.items() if i is not None}
    for name, value in settings_of(tokenizer).items():
        text = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and name not in ids and isinstance(text, str):
            found[name] = text
    return {name: text for name, text in found.items() if text is not None}


def settings_of(tokenizer: TokenizerFiles) -> dict[str, Any]:
    """The content of ``tokenizer_config.json``; empty if there is no such file."""
    content = tokenizer.get(SETTINGS_FILE)
    return {} if content is None else parse_json_object(content, SETTINGS_FILE)


def added_past(tokenizer: TokenizerFiles, vocab_size: int) -> dict[int, str]:
    """The added tokens that the model has no row for: text by id. Encoding must not produce them."""
    added = tokenizer.backend.get_added_tokens_decoder()
    return {i: token.content for i, token in added.items() if i >= vocab_size}


def check_vocabulary(tokenizer: TokenizerFiles, vocab_size: int) -> None:
    """Check that every token that encoding can produce has a row in the model's embedding.

    Added tokens past the last row are not counted, because the artifact's tokenizer is written without them.

    Raises:
        TokenizerError: A token of the vocabulary has no row.
    """
    added = tokenizer.backend.get_added_tokens_decoder()
    past = {i: text for text, i in tokenizer.backend.get_vocab(False).items() if i >= vocab_size and i not in added}
    if past:
        number = min(past)
        raise TokenizerError(
            f"tokenizer.json gives {past[number]!r} the id {number}; allowed: 0 to {vocab_size - 1}, the rows of the "
            f"model's embedding ({len(past)} such tokens)",
            hint="the tokenizer is damaged or of another model; use the files that the model was published with",
        )


def find_turn_end(tokenizer: TokenizerFiles, template: str) -> TurnEnd:
    """Find what ends an answer.

    Args:
        tokenizer: The tokenizer's files.
        template: The chat template.

    Raises:
        TokenizerError: The template is not valid, or the tokenizer cannot be used.
    """
    renders = ChatTemplate(template, special_tokens(tokenizer))
    question: Message = {"role": "user", "content": _FIRST}
    answer: Message = {"role": "assistant", "content": _ANSWER}
    again: Message = {"role": "user", "content": _SECOND}
    added = {token.content: i for i, token in tokenizer.backend.get_added_tokens_decoder().items() if token.content}
    last = _after_answer(renders, [question, answer])
    tokens = [text for text in added if text in last]
    if tokens:
        first = min(tokens, key=lambda text: (last.index(text), -len(text)))
        return TurnEnd(added[first], first)
    if last.strip():
        return _text_end(last, tokenizer)
    # Some templates write the end of an answer only before the next question, or nothing but the next turn's header.
    between = _after_answer(renders, [question, answer, again])
    starting = [text for text in added if between.lstrip().startswith(text)]
    if starting:
        longest = max(starting, key=len)
        return TurnEnd(added[longest], longest)
    cut = min((between.index(text) for text in added if text in between), default=len(between))
    return _text_end(between[:cut], tokenizer)


def _after_answer(template: ChatTemplate, messages: list[Message]) -> str:
    """The text between the answer and the next question, or the end; empty if the template does not show it."""
    try:
        text = template.render(messages, add_generation_prompt=False)
    except TokenizerError:  # it wants another conversation, for instance one with a system message
        return ""
    _, found, after = text.rpartition(_ANSWER)
    return after.partition(_SECOND)[0] if found else ""


def _text_end(after: str, tokenizer: TokenizerFiles) -> TurnEnd:
    """The end of a turn that is not one token of the vocabulary's special ones."""
    end = after.lstrip()
    word = end.split(maxsplit=1)[0] if end else ""
    if _CONTROL.fullmatch(word):
        # If the vocabulary has such a token, encoding does not produce it: the model may have learned either form.
        known = tokenizer.backend.token_to_id(word)
        return TurnEnd(known, word, is_text=True)
    line = end.split("\n", 1)[0][:_MAX_STOP].rstrip()
    if len(line) < _MIN_STOP:
        return TurnEnd()
    begins_line = "\n" in after[: len(after) - len(end)]
    return TurnEnd(None, "\n" * begins_line + line, is_text=True)
