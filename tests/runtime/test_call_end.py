"""The end of a call is found in a text that arrives in pieces of any size."""

from __future__ import annotations

import pytest

from edgekit.runtime.call_end import CallEnd

TAG = "</call>"


def end(tag: str, text: str, size: int) -> int:
    """Where the end is found, which must not be before the piece that has it."""
    found = CallEnd(tag)
    for at in range(0, len(text), size):
        place = found.look(text[: at + size])
        if place >= 0:
            assert place <= at + size
            return place
    return -1


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
@pytest.mark.parametrize(
    "text",
    [
        "|</call>|",
        'a "quotation</call>|',
        '{"a": "b"}</call>| "',
        '{"a": "</call>"}</call>|',
        '{"a": "\\"</call>"}</call>|',
        '{"a": "\\\\"}</call>|"',
        '{"a": "{</call>}"}\n</call>|',
        "{\\</call>|",
        '{"a": "</call>|\n"}</call>',
        '{"a": "b\n"}</call>|"</call>',
        "</cal</call>|",
        '{"a": "</call>',
    ],
)
def test_the_end_behind_a_closing_tag(text: str, size: int) -> None:
    assert end(TAG, text.replace("|", "", 1) if text.startswith("|") else text.replace("|", ""), size) == (
        len("</call>") if text.startswith("|") else text.find("|")
    )


@pytest.mark.parametrize("size", [1, 2, 100])
@pytest.mark.parametrize("text", ['{"a": {"b": "}"}}| {}', ' {"a": "\\"}"}|', '{"a": "}'])
def test_the_end_of_an_object_without_tags(text: str, size: int) -> None:
    assert end("", text.replace("|", ""), size) == text.find("|")


def test_the_first_tag_is_kept_and_counts_after_many() -> None:
    found = CallEnd(TAG)
    text = '{"' + TAG * 30
    assert (found.look(text), found.first) == (-1, 2 + len(TAG))
    assert found.look(text + TAG) == 2 + len(TAG)
