from __future__ import annotations

import json

import pytest

from edgekit.runtime.tool_calls import HERMES, LLAMA3, R1, CallForm, CallReader, ToolCall

FORMS = (HERMES, R1, LLAMA3)
NAMES = ["weather", "now", "f"]
CALLS = [("weather", '{"city": "Zürich"}'), ("now", "{}")]


def read(form: CallForm, text: str, size: int = 1) -> tuple[str, list[tuple[str, str]]]:
    """What a reader makes of a text that arrives in pieces of this size."""
    reader = CallReader(form, NAMES)
    shown = "".join(reader.push(text[at : at + size]) for at in range(0, len(text), size)) + reader.flush()
    return shown, [(call.name, call.arguments) for call in reader.calls]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_calls_are_read_as_they_are_written(form: CallForm, size: int) -> None:
    assert read(form, form.written(CALLS), size) == ("", CALLS)
    assert read(form, form.written(CALLS[:1]) + "\n", size) == ("", CALLS[:1])


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("count", [1, 2])
def test_a_single_call_ends_the_answer(form: CallForm, size: int, count: int) -> None:
    written, reader = form.written(CALLS[:count]) + "\n\nWait.", CallReader(form, NAMES, single=True)
    shown = "".join(reader.push(written[at : at + size]) for at in range(0, len(written), size))
    assert reader.is_complete
    assert (shown + reader.flush(), [call.name for call in reader.calls]) == ("", ["weather"])


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_a_single_call_is_complete_as_soon_as_it_is_written(form: CallForm) -> None:
    reader = CallReader(form, NAMES, single=True)
    written = form.written(CALLS)
    read = next(at for at in range(len(written)) if reader.push(written[at]) == "" and reader.is_complete)
    assert read < len(form.written(CALLS[:1]))
    assert not CallReader(form, NAMES).is_complete


@pytest.mark.parametrize("behind", ["\n", "\n\n", ";", "; ", " and text", "}"])
def test_a_single_call_without_tags_ends_with_its_last_brace(behind: str) -> None:
    """The brace may come in one token with what follows."""
    reader = CallReader(LLAMA3, NAMES, single=True)
    written = LLAMA3.written(CALLS[:1])
    assert [reader.push(written[:-2]), reader.is_complete] == ["", False]
    assert [reader.push(written[-2:] + behind), reader.is_complete] == ["", True]
    assert reader.push("more text") + reader.flush() == ""


@pytest.mark.parametrize("form", [HERMES, R1], ids=lambda form: form.name)
@pytest.mark.parametrize("size", [1, 4, 1000])
def test_text_around_calls_is_kept(form: CallForm, size: int) -> None:
    written = form.written(CALLS)
    assert read(form, f"I look.\n{written}\n\nWait.", size) == ("I look.Wait.", CALLS)
    assert read(form, " A < b, <tool, \n\n", size) == (" A < b, <tool, \n\n", [])


@pytest.mark.parametrize("form", [HERMES, R1], ids=lambda form: form.name)
@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_text_behind_a_call_keeps_its_white_space(form: CallForm, size: int) -> None:
    behind = "```py\ndef f():\n    return 1\n```\n\nI have called it.\n"
    assert read(form, f"{form.written(CALLS)}\n {behind}", size) == (behind, CALLS)
    again = form.written(CALLS[:1])
    assert read(form, f"{again}\nOne  two\n{again} three four", size) == ("One  twothree four", CALLS[:1] * 2)


@pytest.mark.parametrize("form", [HERMES, R1], ids=lambda form: form.name)
@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_text_around_a_block_that_is_no_call_keeps_its_white_space(form: CallForm, size: int) -> None:
    tag, close = form.begin.strip(), form.end.strip()
    text = f"Write\n\n{tag} like this {close} \n and {tag}\n{close}\n"
    assert read(form, text, size) == (text, [])
    assert read(form, f"{form.written(CALLS)}\n{tag}x{close}  y", size) == (f"{tag}x{close}  y", CALLS)
    assert read(form, f"a \n{tag} b", size) == (f"a \n{tag} b", [])


@pytest.mark.parametrize("form", [HERMES, R1], ids=lambda form: form.name)
def test_text_is_shown_as_soon_as_it_cannot_be_a_call(form: CallForm) -> None:
    reader = CallReader(form, NAMES)
    assert (reader.push("Hello"), reader.push(" <"), reader.push("b>")) == ("Hello", "", " <b>")


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (HERMES, "<tool_call>\nnot JSON\n</tool_call>"),
        (HERMES, '<tool_call>\n{"name": 5, "arguments": {}}\n</tool_call>'),
        (HERMES, '<tool_call>\n{"name": "f", "arguments": [1]}\n</tool_call>'),
        (HERMES, '<tool_call>\n{"name": "f", "arguments": {"x": NaN}}\n</tool_call>'),
        (HERMES, '<tool_call>\n{"name": "f", "arguments": {"x": 1e999}}\n</tool_call>'),
        (HERMES, '<tool_call>\n{"name": "f", "arg'),
        (HERMES, "<tool_call>" + "[" * 100_000),
        (R1, "<｜tool▁calls▁begin｜>nothing<｜tool▁calls▁end｜>"),
        (R1, R1.written([("f", "no JSON")])),
        (LLAMA3, '{"answer": 42}'),
        (LLAMA3, '{"name": "Zürich"}  is a name'),
        (LLAMA3, "{ 5"),
        (LLAMA3, '{"name": "Mars", "moons": 2}'),
        (LLAMA3, '{"name": "weather"}'),
        (LLAMA3, '{"name": "weather", "parameters": {}, "moons": 2}'),
        (LLAMA3, '{"name": "Mars", "parameters": {}}'),
        (LLAMA3, '{"function": {"name": "weather", "moons": 2, "parameters": {}}}'),
        (LLAMA3, LLAMA3.written([*CALLS, ("Mars", "{}")])),
        (LLAMA3, "x"),
    ],
)
def test_what_is_not_a_valid_call_is_text(form: CallForm, text: str) -> None:
    assert read(form, text) == (text, [])


SPELLED = [HERMES.end.strip(), R1.end, "```<｜tool▁call▁end｜>", "<｜tool▁call▁begin｜>", "```", "}; {", '\\"}', "\\\\"]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("single", [False, True])
def test_arguments_may_spell_tags(form: CallForm, size: int, single: bool) -> None:
    """Closing tags, fences and braces in a string of the arguments do not end the call."""
    calls = [("f", json.dumps({"text": f"end it with {text} please {text}"}, ensure_ascii=False)) for text in SPELLED]
    for written in ([calls[0]], calls[1:2], calls):
        text, reader = form.written(written), CallReader(form, NAMES, single=single)
        shown = "".join(reader.push(text[at : at + size]) for at in range(0, len(text), size)) + reader.flush()
        assert shown == ""
        assert [(call.name, call.arguments) for call in reader.calls] == written[: 1 if single else None]


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("bad", ['{"name": "f", x"}', '{"name": "f", "arguments": {"a": "b}', '{"a', '"'])
@pytest.mark.parametrize("between", ["", "\n", " \n text \n"])
def test_a_broken_call_does_not_hide_the_next_one(bad: str, between: str, size: int) -> None:
    broken = f"<tool_call>{bad}</tool_call>{between}"
    assert read(HERMES, broken + HERMES.written(CALLS), size) == (broken.rstrip(), CALLS)


@pytest.mark.parametrize(
    "unit", ['<tool_call>{"</tool_call>"', '<tool_call>{"', "</tool_call>", '{"a</tool_call>', "}"]
)
@pytest.mark.parametrize("single", [False, True])
def test_many_tags_take_linear_time(unit: str, single: bool) -> None:
    for form in (HERMES, LLAMA3):
        for end in ("", "\n", '"'):
            text = f"{HERMES.opening('f') if form is LLAMA3 else '<tool_call>'}{unit * 3000}{end}"
            reader = CallReader(form, NAMES, single=single)
            shown = "".join(reader.push(text[at : at + 50]) for at in range(0, len(text), 50)) + reader.flush()
            assert shown == text


def test_a_last_call_without_its_closing_tag_counts() -> None:
    for form in (HERMES, R1):
        text = form.written(CALLS[:1])
        assert read(form, text.removesuffix(form.end)) == ("", CALLS[:1])


def test_white_space_of_any_length_does_not_slow_reading_down() -> None:
    space = " \n" * 50_000  # a regular expression took an hour for this
    for text in (f"{R1.begin}{R1.opening('f')}{space}", f"{R1.begin}<｜tool▁call▁begin｜>function{space}"):
        reader = CallReader(R1, NAMES)
        assert reader.push(text) + reader.flush() == text
    assert [call.name for call in R1.read(R1.written([("f", space + '{"a": 1}' + space)]))] == ["f"]
    assert R1.read(f'{R1.opening("f")}{{"a": "```x```"}}\n```')[0].values == {"a": "```x```"}


def test_other_ways_to_write_the_same_call() -> None:
    for text in (
        '{"name": "f", "parameters": {"a": 1}}',
        '{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}',
        '{"type": "function", "name": "f", "parameters": {"a": 1}}',
        '{"function": "f", "arguments": "{\\"a\\": 1}"}',
    ):
        assert read(LLAMA3, text) == ("", [("f", '{"a": 1}')])
        assert read(HERMES, f"<tool_call>{text}</tool_call>") == ("", [("f", '{"a": 1}')])


def test_an_answer_that_begins_like_a_call_is_shown_once_it_is_none() -> None:
    reader = CallReader(LLAMA3, NAMES)
    assert (reader.push('{"na'), reader.push('ture": 1'), reader.push("}")) == ("", '{"nature": 1', "}")


def test_a_call_is_a_part_of_a_message() -> None:
    call = ToolCall("f", '{"a": 1}')
    assert call.id != ToolCall("f", "{}").id
    assert call.values == {"a": 1}
    assert call.message == {"id": call.id, "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
