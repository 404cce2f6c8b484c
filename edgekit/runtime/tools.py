"""The functions that a model may call: how the prompt describes them, and what an answer must be if it has to call one.

Most chat templates describe functions themselves, each in the way that its model was trained. Others, such as
DeepSeek-R1's, know calls but no descriptions, or neither. There the descriptions stand in the system's message, and the
calls and results of a conversation are written as text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from typing import Any

from ..errors import EdgekitError
from ..json_file import finite_float, refuse_constant
from ..json_text import json_text
from .chat import ChatTemplate, check_messages
from .response_format import Grammar
from .schema_rule import check_multiples, schema_rule
from .tool_calls import HERMES, LLAMA3, R1, CallForm

TokenId = Callable[[str], "int | None"]
MOST_CALLS = 8  # of an answer that has to call functions
_WHITE = "[ \\n\\r\\t]{0,20}"  # inside of arguments
_TAGS = re.compile(r"(<[^<>\s]+>)")
_ROLES = ("tool", "ipython")
_NOT_IN_NAMES = frozenset("<>`")  # the forms of calls and their tokens begin and end with them
_PROBE = {
    "type": "function",
    "function": {
        "name": "probe_name",
        "description": "A probe.",
        "parameters": {"type": "object", "properties": {"probe_key": {"type": "string"}}},
    },
}
_ASKED = {"role": "user", "content": "?"}
_RESULT = {"role": "tool", "tool_call_id": "abcdefghi", "name": "probe_name", "content": "probe_result"}
_SECOND = {"role": "tool", "tool_call_id": "jklmnopqr", "name": "probe_name", "content": "second_result"}


@dataclass(frozen=True)
class Tools:
    """The functions of one request.

    Attributes:
        definitions: As OpenAI's API has them, ``{"type": "function", "function": {...}}``, or only the inner object.
        choice: ``auto``, ``required``, or the name of the function that has to be called.
        parallel: Whether one answer may call several functions.

    Raises:
        ValueError: A function has no valid name or no valid ``parameters``, two have the same name, or ``choice`` names
            none.
    """

    definitions: tuple[Mapping[str, Any], ...]
    choice: str = "auto"
    parallel: bool = True

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for function in self.functions:
            name = function.get("name")
            if not isinstance(name, str) or not name.strip() or not name.isprintable() or set(name) & _NOT_IN_NAMES:
                raise ValueError(
                    f"a function of tools has the name {name!r:.80}; it must be text of one line, without control "
                    f"characters or any of {' '.join(sorted(_NOT_IN_NAMES))}"
                )
            if name in seen:
                raise ValueError(f"two functions of tools have the name {name!r}")
            seen.add(name)
            if not isinstance(function.get("parameters") or {}, Mapping):
                raise ValueError(f"the parameters of {name} are {function['parameters']!r}; they must be a JSON schema")
        if self.choice not in ("auto", "required", *seen):
            raise ValueError(
                f"tool_choice is {self.choice!r}; allowed: none, auto, required, and the names of tools: "
                + ", ".join(sorted(seen))
            )

    @property
    def functions(self) -> list[Mapping[str, Any]]:
        """The objects with ``name``, ``description`` and ``parameters``."""
        inner = [each.get("function", each) if isinstance(each, Mapping) else each for each in self.definitions]
        for each in inner:
            if not isinstance(each, Mapping):
                raise ValueError(f"tools must be a list of dictionaries; got {each!r}")
        return inner

    @property
    def names(self) -> list[str]:
        """The functions' names."""
        return [each["name"] for each in self.functions]

    def grammar(self, form: CallForm, other: Grammar | None, token_id: TokenId) -> Grammar | None:
        """What an answer must match: a call if there has to be one; otherwise a call or the given format, if any.

        Args:
            form: How the model writes calls.
            other: The format that was asked for.
            token_id: The id of a token of the vocabulary, or None. Tags such as ``<tool_call>`` may be tokens.
        """
        if self.choice == "auto":
            return other and replace(other, calls=self._rules(form, token_id))
        return Grammar(calls=self._rules(form, token_id))

    def _rules(self, form: CallForm, token_id: TokenId) -> str:
        """The rule ``calls`` of a grammar, in llguidance's dialect of Lark: one call, or several."""
        functions = [each for each in self.functions if self.choice in ("auto", "required", each["name"])]
        several = self.parallel and form.begin and self.choice in ("auto", "required")
        again = f" ({_terms(form.between, token_id)} call){{0,{MOST_CALLS - 1}}}" if several else ""
        begin, end = (f"{_terms(text, token_id)} " if text else "" for text in (form.begin, form.end))
        lines = [
            f"calls: {begin}call{again} {end}".rstrip(),
            "call: " + " | ".join(f"call_{number}" for number in range(len(functions))),
        ]
        for number, function in enumerate(functions):
            given = function.get("parameters") or {"properties": {}, "additionalProperties": False}
            schema = schema_rule(
                {"type": "object", **given}, _WHITE, f"the JSON schema of the function {function['name']}"
            )
            opening, after = (_terms(text, token_id) for text in (form.opening(function["name"]), form.after))
            lines += [f"call_{number}: {opening} args_{number} {after}", f"args_{number}: {schema}"]
        check_multiples((each.get("parameters") or {} for each in functions), "the JSON schemas of functions")
        return "\n".join(lines) + "\n"


def tools_of(definitions: Sequence[Mapping[str, Any]] | None, choice: str, *, parallel: bool = True) -> Tools | None:
    """The functions of a request; None if the model may call none.

    Raises:
        ValueError: As for :class:`Tools`, or a function has to be called and there is none.
    """
    if definitions is not None and (
        not isinstance(definitions, (list, tuple)) or not all(isinstance(each, Mapping) for each in definitions)
    ):
        raise ValueError(f"tools must be a list of dictionaries; got {definitions!r}")
    if choice == "none" or (not definitions and choice == "auto"):
        return None
    if not definitions:
        raise ValueError(f"tool_choice is {choice!r}, but there are no tools")
    return Tools(tuple(definitions), choice, parallel)


@dataclass(frozen=True)
class _Calls:
    """How a template takes calls.

    Attributes:
        content: The content of a message with calls.
        as_text: Whether the arguments are text; otherwise an object.
        says: Whether a message with calls may have text too, which the template writes.
        several: Whether a message may have several calls. Llama's templates refuse that.
    """

    content: str | None
    as_text: bool
    says: bool
    several: bool


class ToolTemplate:
    """What a chat template knows about functions.

    Args:
        template: The template.
    """

    def __init__(self, template: ChatTemplate) -> None:
        self._template = template

    @cached_property
    def _known(self) -> CallForm | None:
        """How the template writes calls; None if it writes none, or in a form that edgekit does not know."""
        source = self._template.source
        signs = {R1.begin: R1, "<tool_call>": HERMES, '"parameters": ': LLAMA3}
        return next((form for sign, form in signs.items() if sign in source), None)

    @property
    def form(self) -> CallForm:
        """How the model writes calls. A model whose template does not say it is told to write them as Hermes does."""
        return self._known or HERMES

    @cached_property
    def describes(self) -> bool:
        """Whether the template writes the descriptions of functions."""
        if self._known is None:
            return False
        try:
            return "probe_name" in self._template.prompt([_ASKED], tools=[_PROBE]).text
        except (EdgekitError, ValueError):
            return False

    @cached_property
    def _calls(self) -> _Calls | None:
        """How the template takes calls; None if it does not write them and their results."""
        if self._known is None:
            return None
        for content in ("", None):
            for as_text in (False, True):
                one, two = (_probe_call(result["tool_call_id"], as_text) for result in (_RESULT, _SECOND))
                text = self._probed(content, [one], _RESULT)
                body = text.partition("probe_value")
                quoted = '\\"probe_key' in text  # text that the template has made JSON of
                if body[1] and "probe_name" in body[0] and "probe_result" in body[2] and not quoted:
                    said = self._probed("probe_said", [one], _RESULT)
                    both = self._probed(content, [one, two], _RESULT, _SECOND)
                    says = "probe_said" in said and "probe_value" in said
                    return _Calls(content, as_text, says, both.count("probe_value") == 2 and "second_result" in both)
        return None

    def _probed(self, content: str | None, calls: Sequence[Any], *results: Mapping[str, Any]) -> str:
        """What the template writes for calls and their results; nothing if it refuses them."""
        said = {"role": "assistant", "content": content, "tool_calls": calls}
        try:
            return self._template.prompt([_ASKED, said, *results], tools=[_PROBE]).text
        except (EdgekitError, ValueError):
            return ""

    def definitions(self, tools: Tools | None) -> tuple[Mapping[str, Any], ...] | None:
        """The descriptions for the template; None if it gets none."""
        return tools.definitions if tools and self.describes else None

    def messages(self, messages: Sequence[Mapping[str, Any]], tools: Tools | None) -> list[Mapping[str, Any]]:
        """The messages as the template takes them, with descriptions and calls as text if it writes none.

        Where the template takes one call at a time, several calls of a message become messages of their own, each
        followed by its result.

        Raises:
            ValueError: A message is not valid, a call has no name, its arguments are not a JSON object, or a result is
                not text.
        """
        check_messages(messages)
        found: list[Mapping[str, Any]] = []
        for message in self._one_call_each(messages):
            if message.get("tool_calls"):
                found.append(self._with_calls(message))
            elif message["role"] in _ROLES and self._calls is None:
                _add_result(found, message)
            else:
                found.append(message)
        return found if tools is None or self.describes else _described(found, tools, self.form)

    def _one_call_each(self, messages: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        if not any(_has_several(message) for message in messages) or self._calls is None or self._calls.several:
            return messages
        found: list[Mapping[str, Any]] = []
        left = list(messages)
        while left:
            message = left.pop(0)
            becomes_text = message.get("content") and not self._calls.says
            if not _has_several(message) or becomes_text:
                found.append(message)
                continue
            results = list(takewhile(lambda each: each["role"] in _ROLES, left))
            del left[: len(results)]
            found += _pairs(message, results)
        return found

    def _with_calls(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        if not isinstance(message["tool_calls"], (list, tuple)):
            raise ValueError(f"tool_calls must be a list of dictionaries; got {message['tool_calls']!r:.60}")
        calls = [_named(each) for each in message["tool_calls"]]
        style, said = self._calls, message.get("content")
        if style is None or (said and not style.says):
            written = self.form.written([(name, json_text(values)) for name, values in calls])
            return {
                **{key: value for key, value in message.items() if key != "tool_calls"},
                "content": _joined(said, written, "\n"),
            }
        made = [
            {
                **each,
                "type": "function",
                "function": {"name": name, "arguments": json_text(values) if style.as_text else values},
            }
            for each, (name, values) in zip(message["tool_calls"], calls, strict=True)
        ]
        return {**message, "content": said or style.content, "tool_calls": made}


def _probe_call(name: str, as_text: bool) -> dict[str, Any]:
    values = {"probe_key": "probe_value"}
    function = {"name": "probe_name", "arguments": json_text(values) if as_text else values}
    return {"id": name, "type": "function", "function": function}


def _has_several(message: Mapping[str, Any]) -> bool:
    calls = message.get("tool_calls")
    return isinstance(calls, (list, tuple)) and len(calls) > 1


def _pairs(message: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """A message for each call of a message, followed by the call's result. Text stays in the first message.

    The result is the first one that names the call, otherwise the next one that names none of these calls.
    """
    calls = message["tool_calls"]
    names = [call.get("id") if isinstance(call, Mapping) else None for call in calls]
    known = [name for name in names if name is not None]  # no set: a name may be anything
    found: list[Mapping[str, Any]] = []
    left = list(results)
    for place, (call, name) in enumerate(zip(calls, names, strict=True)):
        mine = [at for at, each in enumerate(left) if name is not None and each.get("tool_call_id") == name][:1]
        mine = mine or [at for at, each in enumerate(left) if each.get("tool_call_id") not in known][:1]
        said = {"content": ""} if place and message.get("content") else {}
        found += [{**message, **said, "tool_calls": [call]}, *(left.pop(at) for at in mine)]
    return found + left


def _joined(content: Any, text: str, between: str) -> Any:
    """The content of a message, text or parts, with more text behind it."""
    if isinstance(content, (list, tuple)):
        return [*content, {"type": "text", "text": text}]
    return f"{content}{between}{text}" if content else text


def _named(call: Any) -> tuple[str, Mapping[str, Any]]:
    """The name and the arguments of a call in a message."""
    function = call.get("function", call) if isinstance(call, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(name, str):
        raise ValueError(f"a call of tool_calls has no function with a name; got {call!r}")
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments, parse_float=finite_float, parse_constant=refuse_constant)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"the arguments of the call of {name} are not JSON: {error}") from None
    if not isinstance(arguments, Mapping):
        raise ValueError(f"the arguments of the call of {name} must be a JSON object; got {arguments!r}")
    return name, arguments


def _add_result(messages: list[Mapping[str, Any]], result: Mapping[str, Any]) -> None:
    """Add the result of a call as text of the user's. Several results are one message, as templates may alternate."""
    text = f"<tool_response>\n{_result_text(result.get('content'))}\n</tool_response>"
    said = messages[-1].get("content") if messages and messages[-1]["role"] == "user" else None
    if isinstance(said, str) and said.endswith("</tool_response>"):
        messages[-1] = {**messages[-1], "content": f"{said}\n{text}"}
    else:
        messages.append({"role": "user", "content": text})


def _result_text(content: Any) -> str:
    """The text of a result; none if there is no content."""
    parts = content if isinstance(content, (list, tuple)) else [{"text": content or ""}]
    texts = [part.get("text") if isinstance(part, Mapping) else None for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(
            f"the content of a function's result must be text, or a list of parts of text; got {content!r:.60}"
        )
    return "\n".join(map(str, texts))


def _described(messages: Sequence[Mapping[str, Any]], tools: Tools, form: CallForm) -> list[Mapping[str, Any]]:
    """The messages with the descriptions of functions in the system's message."""
    lines = [json_text(dict(each)) for each in tools.definitions]
    example = form.written([("NAME", '{"ARGUMENT": "VALUE"}')])
    text = (
        "You can call these functions, each described by a JSON object:\n" + "\n".join(lines) + "\n\n"
        f"To call a function, write this, with its name and its arguments:\n{example}\n"
        "The result is in the next message. Call a function only if you need it."
    )
    first = messages[0]
    if first["role"] == "system":
        return [{**first, "content": _joined(first.get("content"), text, "\n\n")}, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]


def _terms(text: str, token_id: TokenId) -> str:
    """A text as terms of a grammar. A tag that is a token must be named as one: text means other tokens."""
    terms = []
    for part in _TAGS.split(text):
        token = token_id(part) if _TAGS.fullmatch(part) else None
        if part:
            terms.append(json.dumps(part, ensure_ascii=False) if token is None else f"<[{token}]>")
    return " ".join(terms)
