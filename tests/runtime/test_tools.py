from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from chat_templates import byte_tokenizer
from public_templates import FOLDER, SPECIAL, TEMPLATES, TOOLS
from tiny_artifact import BOS, EOS
from tiny_checkpoint import tokenizer as tiny_tokenizer

from edgekit.runtime.chat import ChatTemplate
from edgekit.runtime.constraint import Constraints
from edgekit.runtime.response_format import Grammar
from edgekit.runtime.tokenizer import Tokenizer
from edgekit.runtime.tool_calls import HERMES, LLAMA3, R1, CallForm, CallReader
from edgekit.runtime.tools import Tools, ToolTemplate, tools_of

TOKENIZER = Tokenizer(tiny_tokenizer(), bos=BOS, add_bos=True)
QUESTION = {"role": "user", "content": "Is it warm?"}
CALL = {"id": "abcdefghi", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Zürich"}'}}
CALLED = {"role": "assistant", "content": "", "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "abcdefghi", "content": "21 °C"}
DESCRIBES = {"qwen2_5_tools.jinja", "qwen3.jinja", "llama3_2.jinja"}  # in a form that edgekit reads


def opened(name: str) -> ChatTemplate:
    special = SPECIAL.get(name, {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>"})
    return ChatTemplate((FOLDER / name).read_text(encoding="utf-8"), special)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("qwen3.jinja", HERMES),
        ("qwen2_5_tools.jinja", HERMES),
        ("chatml_smollm2.jinja", HERMES),
        ("r1_january.jinja", R1),
        ("r1_february.jinja", R1),
        ("llama3_2.jinja", LLAMA3),
    ],
)
def test_the_template_says_how_the_model_writes_calls(name: str, form: CallForm) -> None:
    assert ToolTemplate(opened(name)).form is form


@pytest.mark.parametrize("name", [name for name in TEMPLATES if name not in ("gemma3.jinja", "features.jinja")])
def test_descriptions_calls_and_results_reach_every_prompt(name: str) -> None:
    template = opened(name)
    knows, tools = ToolTemplate(template), Tools(tuple(TOOLS))
    assert knows.describes == (name in DESCRIBES)
    text = template.prompt(knows.messages([QUESTION, CALLED, RESULT], tools), tools=knows.definitions(tools)).text
    for expected in ("Is it warm?", "A city", "weather", '{"city": "Zürich"}', "21 °C"):
        assert expected in text.replace("\\u00fc", "ü"), text
    assert '\\"city' not in text


def test_a_call_beside_text_keeps_both() -> None:
    for name in ("r1_february.jinja", "qwen3.jinja", "chatml_smollm2.jinja", "llama3_2.jinja", "gemma3.jinja"):
        template = opened(name)
        for content in ("I look.", [{"type": "text", "text": "I look."}]):
            said = {**CALLED, "content": content}
            text = template.prompt(ToolTemplate(template).messages([QUESTION, said, RESULT], None)).text
            assert text.index("I look.") < text.index("Zürich") < text.index("21 °C")


SECOND = {**CALL, "id": "jklmnopqr", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}}
SECOND_RESULT = {**RESULT, "tool_call_id": "jklmnopqr", "content": "18 °C"}


@pytest.mark.parametrize("name", [name for name in TEMPLATES if name != "features.jinja"])
def test_several_calls_and_their_results_reach_every_prompt(name: str) -> None:
    template = opened(name)
    called = {**CALLED, "tool_calls": [CALL, SECOND]}
    text = template.prompt(ToolTemplate(template).messages([QUESTION, called, RESULT, SECOND_RESULT], None)).text
    for one, two in (("Zürich", "Bern"), ("21 °C", "18 °C")):
        assert text.replace("\\u00fc", "ü").index(one) < text.replace("\\u00fc", "ü").index(two)


def test_a_template_that_takes_one_call_at_a_time_gets_each_with_its_result() -> None:
    template = opened("llama3_2.jinja")
    knows, called = ToolTemplate(template), {**CALLED, "tool_calls": [CALL, SECOND]}
    unnamed = [{"role": "tool", "content": each["content"]} for each in (RESULT, SECOND_RESULT)]
    for results in ([RESULT, SECOND_RESULT], [SECOND_RESULT, RESULT], unnamed):
        found = knows.messages([QUESTION, called, *results, QUESTION], None)
        assert [message["role"] for message in found] == ["user", "assistant", "tool", "assistant", "tool", "user"]
        text = template.prompt(found).text
        assert text.index("Zürich") < text.index("21 °C") < text.index("Bern") < text.index("18 °C")
    alone = knows.messages([QUESTION, called, SECOND_RESULT], None)
    assert [message["role"] for message in alone] == ["user", "assistant", "assistant", "tool"]
    said = knows.messages([QUESTION, {**called, "content": "I look."}, RESULT, SECOND_RESULT], None)
    assert "Bern" in said[1]["content"]
    assert template.prompt(said).text
    with pytest.raises(ValueError, match="has no function with a name; got 7"):
        knows.messages([QUESTION, {**called, "tool_calls": [7, 8]}, RESULT], None)


ONE_CALL = """{% for m in messages %}{% if m.role == 'tool' %}[{{ m.content }}]{% else %}({{ m.content }}
{%- if m.tool_calls %}{% if m.tool_calls|length > 1 %}{{ raise_exception('one call only') }}{% endif %}
{%- for c in m.tool_calls %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}{% endif %}){% endif %}
{%- endfor %}{% if add_generation_prompt %}>{% endif %}"""


def test_text_beside_calls_stays_where_calls_are_written_one_at_a_time() -> None:
    template = ChatTemplate(ONE_CALL, {})
    called = {**CALLED, "content": "I look.", "tool_calls": [CALL, SECOND]}
    text = template.prompt(ToolTemplate(template).messages([QUESTION, called, RESULT, SECOND_RESULT], None)).text
    assert text.count("I look.") == 1
    places = [text.index(each) for each in ("I look.", "Z", "21 °C", "Bern", "18 °C")]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("calls", "results"),
    [((None, None), ("a", "b")), (("x", "x"), ("x", "x")), (("a", "b"), ("1", "2")), (("a", None), (None, "a"))],
)
def test_each_call_has_one_result(calls: tuple[str | None, ...], results: tuple[str | None, ...]) -> None:
    knows = ToolTemplate(opened("llama3_2.jinja"))
    called = {**CALLED, "tool_calls": [{**CALL, "id": name} for name in calls]}
    answers = [{"role": "tool", "tool_call_id": name, "content": str(name)} for name in results]
    found = knows.messages([QUESTION, called, *answers], None)
    assert [message["role"] for message in found] == ["user", "assistant", "tool", "assistant", "tool"]
    if calls[0] in results and calls[0] is not None:
        assert found[2]["content"] == calls[0]


def test_results_of_several_calls_are_one_message_where_the_template_knows_none() -> None:
    knows = ToolTemplate(opened("chatml_smollm2.jinja"))
    found = knows.messages([QUESTION, CALLED, RESULT, {**RESULT, "content": [{"type": "text", "text": "x"}]}], None)
    assert [message["role"] for message in found] == ["user", "assistant", "user"]
    assert found[1] == {"role": "assistant", "content": HERMES.written([("weather", '{"city": "Zürich"}')])}
    assert found[2]["content"] == ("<tool_response>\n21 °C\n</tool_response>\n<tool_response>\nx\n</tool_response>")


def test_descriptions_stand_in_the_systems_message() -> None:
    knows, tools = ToolTemplate(opened("chatml_smollm2.jinja")), Tools(tuple(TOOLS))
    alone = knows.messages([QUESTION], tools)
    assert [message["role"] for message in alone] == ["system", "user"]
    assert HERMES.written([("NAME", '{"ARGUMENT": "VALUE"}')]) in alone[0]["content"]
    system = {"role": "system", "content": "Be brief."}
    assert knows.messages([system, QUESTION], tools)[0]["content"].startswith("Be brief.\n\nYou can call")
    parts = {"role": "system", "content": [{"type": "text", "text": "Be brief."}]}
    assert len(knows.messages([parts, QUESTION], tools)[0]["content"]) == 2
    assert ToolTemplate(opened("qwen3.jinja")).messages([QUESTION], tools) == [QUESTION]


@pytest.mark.parametrize(
    ("calls", "message"),
    [
        ([5], "has no function with a name"),
        ([{"function": {}}], "has no function with a name"),
        ([{"function": {"name": "f", "arguments": "{"}}], "the arguments of the call of f are not JSON"),
        ([{"function": {"name": "f", "arguments": '{"x": 1e999}'}}], "f are not JSON: the number 1e999 is too large"),
        ([{"function": {"name": "f", "arguments": '{"x": NaN}'}}], "f are not JSON: NaN is not a JSON number"),
        ([{"function": {"name": "f", "arguments": "[1]"}}], "must be a JSON object"),
    ],
)
def test_a_call_that_is_not_valid_is_an_error(calls: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ToolTemplate(opened("qwen3.jinja")).messages([QUESTION, {**CALLED, "tool_calls": calls}], None)


@pytest.mark.parametrize(
    ("definitions", "choice", "message"),
    [
        ("f", "auto", "tools must be a list of dictionaries"),
        ([5], "auto", "tools must be a list of dictionaries"),
        ([{"function": 5}], "auto", "tools must be a list of dictionaries"),
        ([{}], "auto", "has the name None"),
        ([{"name": "a\nb"}], "auto", "text of one line"),
        *(
            ([{"name": name}], "auto", "without control characters or any of < > `")
            for name in ("\x7f", "</tool_call>", "a`", " ")
        ),
        ([{"name": "f"}, {"function": {"name": "f"}}], "auto", "two functions of tools have the name 'f'"),
        ([{"name": "f", "parameters": 5}], "auto", "they must be a JSON schema"),
        ([{"name": "f"}], "g", "tool_choice is 'g'; allowed: none, auto, required, and the names of tools: f"),
        ([], "required", "but there are no tools"),
        (None, "f", "but there are no tools"),
    ],
)
def test_wrong_tools_are_refused(definitions: Any, choice: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tools_of(definitions, choice)


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        (2, "messages must be a list of dictionaries; got 2"),
        ("Hi", "messages must be a list of dictionaries; got 'Hi'"),
        ([], "there are no messages"),
        ([5], "a message must be"),
        ([QUESTION, {"content": "x"}], "a message must be"),
        ([QUESTION, {**CALLED, "tool_calls": 7}], "tool_calls must be a list of dictionaries; got 7"),
        ([QUESTION, {**CALLED, "tool_calls": [7]}], "has no function with a name; got 7"),
        ([QUESTION, CALLED, {**RESULT, "content": 21}], "result must be text, or a list of parts of text; got 21"),
        ([QUESTION, CALLED, {**RESULT, "content": ["21"]}], "result must be text"),
        ([QUESTION, CALLED, {**RESULT, "content": [{"type": "image"}]}], "result must be text"),
    ],
)
def test_wrong_messages_are_refused(messages: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ToolTemplate(opened("chatml_smollm2.jinja")).messages(messages, None)


def test_messages_without_content_add_no_text() -> None:
    knows, tools = ToolTemplate(opened("chatml_smollm2.jinja")), Tools(tuple(TOOLS))
    system, *rest = knows.messages(
        [{"role": "system", "content": None}, {"role": "user"}, {**RESULT, "content": None}], tools
    )
    assert system["content"].startswith("You can call these functions")
    assert rest == [{"role": "user"}, {"role": "user", "content": "<tool_response>\n\n</tool_response>"}]


def test_no_tools() -> None:
    assert (tools_of(None, "auto"), tools_of([], "auto"), tools_of(TOOLS, "none")) == (None, None, None)


def test_schemas_of_functions_share_a_limit() -> None:
    definitions = [{"name": f"f{i}", "parameters": {"properties": {"a": {"multipleOf": 40_000}}}} for i in range(3)]
    assert Tools(tuple(definitions[:2]), "required").grammar(HERMES, None, TOKENIZER.token_id) is not None
    with pytest.raises(
        ValueError, match=r"too large numbers for multipleOf in the JSON schemas of functions: .* 120000;"
    ):
        Tools(tuple(definitions), "required").grammar(HERMES, None, TOKENIZER.token_id)
    with pytest.raises(ValueError, match="the JSON schema of the function f has the number -1e\\+20"):
        Tools(({"name": "f", "parameters": {"minimum": -1e20}},), "f").grammar(R1, None, TOKENIZER.token_id)


def accepts(grammar: Grammar, text: str) -> bool:
    """Whether a text, and no beginning of it, matches a grammar."""
    pytest.importorskip("llguidance", reason="needs the extra structured")
    constraint = Constraints(TOKENIZER, 400, [EOS]).start(grammar, after_thought=True)
    ids = TOKENIZER.encode(text, add_bos=False)
    return bool(constraint._matcher.try_consume_tokens(ids) == len(ids) and constraint._matcher.is_accepting())


@pytest.mark.parametrize("form", [HERMES, R1, LLAMA3], ids=lambda form: form.name)
def test_a_call_that_has_to_be_made_matches_its_parameters(form: CallForm) -> None:
    found = Tools(tuple(TOOLS), "required").grammar(form, None, TOKENIZER.token_id)
    assert found is not None
    valid = [("weather", '{"city": "Bern"}')]
    assert accepts(found, form.written(valid))
    assert accepts(found, "\n" + form.written([("now", "{}")]))
    assert accepts(found, form.written([*valid, ("now", "{}")])) == (form is not LLAMA3)
    assert not accepts(found, form.written([("weather", '{"town": "Bern"}')]))
    assert not accepts(found, form.written([("other", "{}")]))
    assert not accepts(found, "Hello")
    one = Tools(tuple(TOOLS), "now", parallel=False).grammar(form, None, TOKENIZER.token_id)
    assert one is not None
    assert accepts(one, form.written([("now", "{}")]))
    assert not accepts(one, form.written(valid))
    reader = CallReader(form, ["weather", "now"])
    reader.push(form.written(valid))
    reader.flush()
    assert reader.calls[0].values == {"city": "Bern"}


@pytest.mark.parametrize("form", [HERMES, R1], ids=lambda form: form.name)
def test_tags_may_be_tokens(form: CallForm) -> None:
    """As in Qwen's vocabulary: where a grammar allows one text, llguidance allows only the tokens it consists of."""
    pytest.importorskip("llguidance", reason="needs the extra structured")
    text = form.written([("now", "{}")])
    shown = sorted(set(re.findall(r"<[^<>\s]+>", text)))
    tokenizer = Tokenizer(byte_tokenizer(["<eos>"], shown), bos=None, add_bos=False)
    found = Tools(tuple(TOOLS), "now", parallel=False).grammar(form, None, tokenizer.token_id)
    assert found is not None
    size = tokenizer.backend.get_vocab_size()
    constraint, reader = (
        Constraints(tokenizer, size, [0]).start(found, after_thought=False),
        CallReader(form, ["weather", "now"]),
    )
    ids = tokenizer.encode(text, add_bos=False)
    assert len(set(ids) & {tokenizer.token_id(tag) for tag in shown}) == len(shown)
    for token in ids:
        logits = np.zeros(size, np.float32)
        constraint.apply(logits)
        assert logits[token] == 0, tokenizer.decode([token])
        constraint.accept(token)
        reader.push(tokenizer.decode([token]))
    reader.flush()
    assert [call.name for call in reader.calls] == ["now"]


def test_a_format_holds_unless_a_function_is_called() -> None:
    tools = Tools(tuple(TOOLS))
    assert tools.grammar(HERMES, None, TOKENIZER.token_id) is None
    found = tools.grammar(HERMES, Grammar(regex="yes|no"), TOKENIZER.token_id)
    assert found is not None
    assert accepts(found, "yes")
    assert accepts(found, HERMES.written([("now", "{}")]))
    assert not accepts(found, "maybe")
