"""Expresses a chat template as pieces of text, so that the native library can write prompts without a template engine.

What a template writes between two messages mostly depends on their roles alone. So it is rendered with probe messages,
and the text from one message's content to the next one's becomes a *joint*:

    joint(edge, user)  QUESTION  joint(user, assistant)  ANSWER  joint(assistant, user)  QUESTION  joint(user, edge)

The edge stands for the beginning and the end. A default system prompt is in joint(edge, user), the generation prompt in
joint(user, edge). What templates remove from the ends of a content is found with contents that have white space there.

Where a template asks for the date, the joint holds the format between :data:`DATE`'s characters.

The pieces are then compared with the template on many conversations. If they differ, system messages are left out, and
if they still differ, the template is refused. ``native/text/chat.cpp`` does what :meth:`ChatPieces.render` does.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from ..errors import EdgekitError
from ..runtime.chat import ChatTemplate
from ..runtime.thought import THINK_CLOSE, thought_end

ROLES = ("system", "user", "assistant")
EDGE = len(ROLES)
NOTHING, SPACE, NEWLINES = range(3)  # TrimKind of native/text/chat.h
_SYSTEM, _USER, _ASSISTANT = range(3)
DATE = "\ue0fe", "\ue0ff"  # private characters around the format of a date
DATE_PARTS = "dmYybBaAHMSjIp%"  # of strftime
_VARIABLES = {"strftime_now": lambda format: f"{DATE[0]}{format}{DATE[1]}"}
_CONTENT = "edgekit{}content"
_ENDS = "\n \nedgekit\n \n"
_LONGEST = 4  # messages in the systematic part of the comparison
_SPELLED = 12  # control tokens in it
_SECONDS = 10  # of processor time for all prompts: half of a build's (runtime/template_budget.py). One may take two.
_TEXTS = (
    "", " ", "?", " lead", "trail \n", "\n\nboth\t\r\n", "a\n\nb", "\x1cseparators\x1f", "\u00a0\u3000wide\u2003",
    "e\u0301 你好 🙂 <b>&amp;</b>", "{{ messages }} {% raw %} {# #}", '"quoted" \\n \'text\'', "a </think> b",
    "<think>", "x</think>\n\ny",
)  # fmt: skip
_ANSWERS = (
    "<think>\nOne.\n</think>\n\nYes. ", "One.\n</think>\n\nYes.", " <think></think>No", "<think>unfinished",
    "</think>", "<think>a</think>",
)  # fmt: skip


class InexpressibleTemplateError(Exception):
    """The template does something that pieces cannot express; the message says what."""


@dataclass(frozen=True)
class ChatPieces:
    """A chat format.

    Args:
        joints: The text from one role to the next, ``joints[from][to]``; None where the template does not allow it.
        trims: What is removed from the left and the right of each role's content: :data:`NOTHING`, ...
        reasoning: Whether the thought that opens an earlier answer is dropped.
        opens_thought: Whether a prompt ends inside a thought.
        after_thought: What is removed from the left of an answer whose thought is dropped.
        notes: What the pieces cannot do although the template can, one phrase each.
    """

    joints: tuple[tuple[str | None, ...], ...]
    trims: tuple[tuple[int, int], ...]
    reasoning: bool
    opens_thought: bool
    after_thought: int
    notes: tuple[str, ...] = ()

    def render(self, messages: Sequence[Mapping[str, str]]) -> str | None:
        """The prompt of a conversation; None if the format does not allow it."""
        roles = [ROLES.index(message["role"]) for message in messages]
        pieces: list[str] = []
        for before, role, message in zip([EDGE, *roles], roles, messages, strict=False):
            joint = self.joints[before][role]
            if joint is None:
                return None
            pieces += [joint, trimmed(self._kept(role, message["content"]), self.trims[role])]
        end = self.joints[roles[-1]][EDGE]
        return None if end is None else "".join([*pieces, end])

    def _kept(self, role: int, content: str) -> str:
        if role != _ASSISTANT or not self.reasoning:
            return content
        end = thought_end(content, opened=self.opens_thought)
        if end is None:
            return content
        return trimmed(content[end:], (self.after_thought, NOTHING))


def trimmed(content: str, kinds: tuple[int, int]) -> str:
    """A content without what these kinds remove from its left and its right."""
    left, right = kinds
    content = content.lstrip() if left == SPACE else content.lstrip("\n") if left == NEWLINES else content
    return content.rstrip() if right == SPACE else content.rstrip("\n") if right == NEWLINES else content


def chat_pieces(template: ChatTemplate, *, reasoning: bool) -> ChatPieces:
    """Derive the pieces of a template and compare them with it.

    Args:
        template: The artifact's template.
        reasoning: Whether the model thinks before it answers.

    Raises:
        InexpressibleTemplateError: The template cannot be expressed.
    """
    end = time.thread_time() + _SECONDS
    joints = tuple(tuple(_joint(template, a, b, end) for b in range(EDGE + 1)) for a in range(EDGE + 1))
    if joints[EDGE][_USER] is None or joints[_USER][EDGE] is None:
        raise InexpressibleTemplateError("it does not write a single question as it is")
    _check_dates(joint for row in joints for joint in row if joint is not None)
    pieces = ChatPieces(
        joints,
        tuple(_trim(template, role, end) for role in range(EDGE)),
        reasoning,
        template.opens_thought,
        _after_thought(template) if reasoning else SPACE,
    )
    candidates = (
        pieces,
        _without(
            pieces, {(a, _SYSTEM) for a in (_SYSTEM, _USER, _ASSISTANT)}, "a system message that is not the first"
        ),
        _without(pieces, {(a, _SYSTEM) for a in range(EDGE + 1)}, "a system message"),
    )
    for candidate in candidates:
        try:
            for messages in _conversations(candidate, template):
                _check_time(end)
                _compare(candidate, template, messages)
        except InexpressibleTemplateError:
            if candidate is candidates[-1]:
                raise
        else:
            return candidate
    raise AssertionError("the last candidate is returned or refused")


def _without(pieces: ChatPieces, left_out: Collection[tuple[int, int]], note: str) -> ChatPieces:
    """The pieces without some joints."""
    kept = tuple(
        tuple(None if (a, b) in left_out else joint for b, joint in enumerate(row))
        for a, row in enumerate(pieces.joints)
    )
    return replace(pieces, joints=kept, notes=() if kept == pieces.joints else (note,))


def _check_time(end: float) -> None:
    if time.thread_time() > end:
        raise InexpressibleTemplateError(
            f"its prompts for some hundred conversations take more than {_SECONDS} seconds of processor time"
        )


def _check_dates(joints: Iterable[str]) -> None:
    start, end = DATE
    for joint in joints:
        for format_ in re.findall(f"{start}(.*?){end}", joint, re.DOTALL):
            if unknown := sorted(set(re.findall(r"%(.?)", format_, re.DOTALL)) - set(DATE_PARTS)):
                raise InexpressibleTemplateError(
                    f"its prompts contain the date as {format_!r}; %{unknown[0]} is not supported"
                )


def _rendered(template: ChatTemplate, roles: Sequence[int], contents: Sequence[str]) -> str | None:
    """A prompt, or None if the template refuses it."""
    try:
        return template.prompt(_messages(roles, contents), variables=_VARIABLES).text
    except EdgekitError:
        return None


def _messages(roles: Sequence[int], contents: Sequence[str]) -> list[dict[str, str]]:
    return [{"role": ROLES[role], "content": content} for role, content in zip(roles, contents, strict=True)]


def _around(first: int, second: int) -> tuple[list[int], int]:
    """A conversation in which a message of ``first`` is followed by one of ``second``, and the place of the second."""
    before = {_ASSISTANT: [_USER, _ASSISTANT], EDGE: []}.get(first, [first])
    after = {EDGE: [], _USER: [_USER]}.get(second, [second, _USER])
    return before + after, len(before)


def _joint(template: ChatTemplate, first: int, second: int, end: float) -> str | None:
    _check_time(end)
    roles, place = _around(first, second)
    if not roles or (second == EDGE and first != _USER):  # an answer follows a question
        return None
    contents = [_CONTENT.format(i) for i in range(len(roles))]
    text = _rendered(template, roles, contents)
    if text is None or any(text.count(content) != 1 for content in contents):
        return None
    places = [text.index(content) for content in contents]
    if places != sorted(places):
        return None
    start = places[place - 1] + len(contents[place - 1]) if place else 0
    return text[start : places[place] if place < len(places) else len(text)]


def _trim(template: ChatTemplate, role: int, end: float) -> tuple[int, int]:
    """What the template removes from the ends of a role's content."""
    for roles in ([role, _USER], [_USER, role, _USER], [role]):
        _check_time(end)
        contents = [_CONTENT.format(i) for i in range(len(roles))]
        place = roles.index(role) if len(roles) < 3 else 1
        plain = _rendered(template, roles, contents)
        probed = _rendered(template, roles, [_ENDS if i == place else content for i, content in enumerate(contents)])
        if plain is None or probed is None or plain.count(contents[place]) != 1:
            continue
        before, _, after = plain.partition(contents[place])
        for left, right in product((NOTHING, NEWLINES, SPACE), repeat=2):
            if probed == f"{before}{trimmed(_ENDS, (left, right))}{after}":
                return left, right
        raise InexpressibleTemplateError(f"it changes the content of the role {ROLES[role]}")
    return NOTHING, NOTHING


def _after_thought(template: ChatTemplate) -> int:
    """What is removed between a thought that is dropped and the answer."""
    roles, contents = (_USER, _ASSISTANT, _USER), [_CONTENT.format(i) for i in range(3)]
    plain = _rendered(template, roles, contents)
    probed = _rendered(template, roles, [contents[0], f"<think>\nt\n{THINK_CLOSE}{_ENDS.rstrip()}", contents[2]])
    if plain is None or probed is None:
        return SPACE
    for kind in (NOTHING, NEWLINES, SPACE):
        if probed == plain.replace(contents[1], trimmed(_ENDS.rstrip(), (kind, NOTHING))):
            return kind
    return SPACE


def _conversations(pieces: ChatPieces, template: ChatTemplate) -> Iterator[list[dict[str, str]]]:
    """Conversations that the pieces allow: all orders of roles, and contents that templates are known to change."""
    orders = [order for n in range(1, _LONGEST + 1) for order in product(range(EDGE), repeat=n)]
    allowed = [order for order in orders if _is_allowed(pieces, order)]
    for order in allowed:
        yield _messages(order, [f" \n{_CONTENT.format(i)}\n " for i in range(len(order))])
    controls = sorted(template.controls.all, key=lambda text: (len(text), text))
    spelled = controls[:: max(1, len(controls) // _SPELLED)]
    contents = [*_TEXTS, *(f"a{text}b" for text in spelled), *(text[: len(text) // 2 + 1] for text in spelled)]
    turns = [
        order
        for order in ((_SYSTEM, _USER, _ASSISTANT, _USER), (_USER, _ASSISTANT, _USER))
        if _is_allowed(pieces, order)
    ]
    for number, content in enumerate([*contents, *_ANSWERS]):
        for order in turns:
            others = [contents[(number + 3 * i) % len(contents)] for i in range(len(order))]
            for place, role in enumerate(order):
                if role == _ASSISTANT or content not in _ANSWERS:
                    yield _messages(order, [content if i == place else other for i, other in enumerate(others)])
    for order in turns:
        longer = (*order, *(_ASSISTANT, _USER) * 3)
        yield _messages(longer, [contents[i % len(contents)] for i in range(len(longer))])


def _is_allowed(pieces: ChatPieces, order: Sequence[int]) -> bool:
    return all(pieces.joints[a][b] is not None for a, b in zip([EDGE, *order], [*order, EDGE], strict=True))


def _compare(pieces: ChatPieces, template: ChatTemplate, messages: list[dict[str, str]]) -> None:
    try:
        expected = template.prompt(messages, variables=_VARIABLES).text
    except EdgekitError as error:
        roles = ", ".join(message["role"] for message in messages)
        raise InexpressibleTemplateError(
            f"it refuses some conversations of the roles {roles} ({error.message})"
        ) from None
    if pieces.render(messages) != expected:
        described = ", ".join(f"{message['role']} {message['content'][:30]!r}" for message in messages)
        raise InexpressibleTemplateError(f"its prompt depends on more than the order of roles, as with: {described}")
