"""A calibration file: JSON Lines of texts and conversations, or plain text."""

from fuzz_changes import text_change
from fuzz_files import text, written

from edgekit.calibration.texts import read_texts

_PIECES = (
    '{"text": "', '"}', '{"messages": [', "]}", '{"role": "user", "content": "', '{"role": "assistant", "content": ',
    "[{", '"type": "text"', '"text": ', "\n", "\\ud800", "\\n", "NaN", "1e999", "[" * 3000, '{"a":' * 3000, "null",
    "true", "9" * 5000, "é", "\u2028", "\x85", "\x00", "<|eos|>", "[", "]", "{", "}", ",", '"', "a" * 500,
)  # fmt: skip
change = text_change(_PIECES)


def seeds() -> list[bytes]:
    spoken = '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}]}'
    return [f'{{"text": "{"some text " * 40}"}}\n{spoken}\n\n'.encode(), b"plain text " * 50]


def read(data: bytes) -> None:
    tokenizer, template = text()
    for name in ("texts.jsonl", "texts.txt"):
        read_texts(written(name, data), tokenizer, template, 200)
