"""The answer of a model that may hold calls of functions."""

from fuzz_changes import text_change

from edgekit.runtime.tool_calls import HERMES, LLAMA3, R1, CallReader

_FORMS = (HERMES, R1, LLAMA3)
_PIECES = (
    HERMES.begin, HERMES.end, HERMES.before, R1.begin, R1.end, R1.before, R1.after, LLAMA3.before, LLAMA3.between,
    '{"name": "f", "arguments": {}}', '{"function": {"name": "f"}}', '"parameters": "{}"', "{", "}", "[" * 2000,
    '{"a":' * 2000,
    "1e999", "9" * 5000, "NaN", "\\ud800", '"', ",", ":", "\n", " " * 50, "\n" * 3000,
    "<tool", "</tool_call", "`" * 3, "json",
)  # fmt: skip
change = text_change(_PIECES)


def seeds() -> list[bytes]:
    return [form.written([("f", '{"a": 1}'), ("g", "{}")]).encode() for form in _FORMS]


def read(data: bytes) -> None:
    answer = data.decode("utf-8", "replace")
    for form in _FORMS:
        for step in (7, len(answer) or 1):
            reader = CallReader(form, ["f", "g"])
            for at in range(0, len(answer), step):
                reader.push(answer[at : at + step])
            reader.flush()
            for call in reader.calls:
                _ = call.message, call.values
