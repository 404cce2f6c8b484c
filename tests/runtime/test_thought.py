"""Separating a thought from the answer, however the text is split into pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.runtime.thought import Piece, ThoughtSplitter, starts_inside, thought_end, without_thought

CASES = [
    # (inside, output, thought, answer)
    (True, "Let me see.\n</think>\n\nParis.", "Let me see.", "Paris."),
    (True, "\nLet me\n\nsee.</think>Paris.", "Let me\n\nsee.", "Paris."),
    (True, "still thinking", "still thinking", ""),
    (True, "still thinking </thi", "still thinking </thi", ""),
    (True, "a < b and </ c </think> yes", "a < b and </ c", "yes"),
    (True, "\n\n</think>\n\nParis.", "", "Paris."),
    (True, "one</think>two</think>three <think>four", "one", "two</think>three <think>four"),
    (True, "one</think> \n", "one", ""),
    (True, "", "", ""),
    (False, "Paris.", "", "Paris."),
    (False, " Paris.", "", " Paris."),
    (False, "<think>\nhm\n</think>\n\nParis.", "hm", "Paris."),
    (False, "\n <think>hm", "hm", ""),
    (False, "<thin ice", "", "<thin ice"),
    (False, "The tag <think> is text here", "", "The tag <think> is text here"),
    (False, "<thi", "", "<thi"),
]


def split(inside: bool, chunks: list[str], *, held: bool = False) -> list[Piece]:
    splitter = ThoughtSplitter(inside, held=held)
    return [piece for chunk in chunks for piece in splitter.push(chunk)] + splitter.flush()


def parts(pieces: list[Piece]) -> tuple[str, str]:
    return "".join(p.text for p in pieces if p.thought), "".join(p.text for p in pieces if not p.thought)


@pytest.mark.parametrize(("inside", "output", "thought", "answer"), CASES)
def test_thought_and_answer_are_separated_whole_or_letter_by_letter(
    inside: bool, output: str, thought: str, answer: str
) -> None:
    assert parts(split(inside, [output])) == (thought, answer)
    assert parts(split(inside, list(output))) == (thought, answer)


@pytest.mark.parametrize(("inside", "output", "thought", "answer"), CASES)
def test_an_answer_that_is_held_to_a_format_begins_with_no_white_space(
    inside: bool, output: str, thought: str, answer: str
) -> None:
    assert parts(split(inside, [output], held=True)) == (thought, answer.lstrip())
    assert parts(split(inside, list(output), held=True)) == (thought, answer.lstrip())
    assert parts(split(False, [" \n<thi"], held=True)) == ("", "<thi")
    splitter = ThoughtSplitter(False, held=True)
    splitter.push("\n yes")
    assert splitter.answer_at == 2


@given(st.booleans(), st.lists(st.sampled_from(["<think>", "</think>", "<", "/", "think>", "</thi", " ", "\n", "a"])))
def test_the_result_does_not_depend_on_how_the_text_is_split(inside: bool, chunks: list[str]) -> None:
    whole = split(inside, ["".join(chunks)])
    assert parts(split(inside, chunks)) == parts(whole)
    assert all(piece.text for piece in whole)


def test_an_answer_is_not_held_back() -> None:
    splitter = ThoughtSplitter(inside=True)
    assert splitter.push("hm</think>\n\nThe ") == [Piece("hm", thought=True), Piece("The ")]
    assert splitter.push("a < b") == [Piece("a < b")]


def test_a_prompt_that_ends_with_an_open_thought_starts_inside() -> None:
    assert starts_inside("<|Assistant|><think>\n")
    assert starts_inside("<|Assistant|><think>")
    assert not starts_inside("<|Assistant|>")
    assert not starts_inside("<think>\n\n</think>\n\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hm</think>\n\nParis.", "Paris."),
        ("<think>hm</think>Paris.", "Paris."),
        ("Paris.", "Paris."),
        ("<think>never finished", ""),
        ("The tag <think> opens.", "The tag <think> opens."),
    ],
)
def test_earlier_thoughts_are_dropped(text: str, expected: str) -> None:
    assert without_thought(text) == expected


MENTIONS = [
    "Write </think> where the thought ends, then the answer.",
    "The tags are <think> and </think>.",
    "Use `</think>` to close it.",
    'The string is "</think>", without a space.',
    "R1 writes:\n\n```\n<think>\nhm\n</think>\n\nParis.\n```\n\nThat is all.",
    "R1 ends it:\n\n```\nhm\n</think>\n\nParis.\n```\n",
    "In XML:\n\n    </think>\n\nis the end.",
    "First text,\nthen\n</think>\nthen the answer.",
    "Is it (</think>)?",
    "</think> closes a thought.",
]


@pytest.mark.parametrize("text", MENTIONS)
def test_an_answer_that_mentions_the_tag_is_kept_whole(text: str) -> None:
    for opened in (False, True):
        assert without_thought(text, opened=opened) == text
        assert without_thought(f"<think>\nhm\n</think>\n\n{text}", opened=opened) == text
        assert without_thought(f"<think></think>{text}", opened=opened) == text
    assert without_thought(f"Let me see.\n</think>\n\n{text}", opened=True) == text


@pytest.mark.parametrize(
    "thought", ["hm\n", "hm", "It is a < b.\n\nYes.\n", "", "\n\n", "use `x`, then:\n```\ncode\n```\nDone.\n", "嗯。"]
)
def test_a_thought_that_the_template_opened_ends_where_models_end_it(thought: str) -> None:
    text = f"{thought}</think>\n\nParis."
    assert without_thought(text, opened=True) == "Paris."
    assert without_thought(text, opened=False) == text
    assert thought_end(text, opened=True) == len(thought) + len("</think>")


def test_a_whole_output_has_its_thought_first_whatever_it_says() -> None:
    text = "I write `</think>` now. </think> Paris."
    assert thought_end(text, opened=True) is None
    assert thought_end(text, opened=True, whole=True) == text.index("</think>") + len("</think>")
    assert thought_end("Let me", opened=True, whole=True) == len("Let me"), "the answer ended before the thought did"
    assert thought_end("Paris.", opened=False, whole=True) is None
    assert thought_end("Paris.", opened=True) is None
    assert thought_end("<think>never finished") == len("<think>never finished")
