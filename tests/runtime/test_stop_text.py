"""Stop texts end streamed text wherever its pieces are cut, and nothing of them is returned."""

from __future__ import annotations

import pytest

from edgekit.runtime.stop_text import StopText


def streamed(text: str, stops: tuple[str, ...], size: int) -> tuple[str, bool]:
    stop = StopText(stops)
    pieces = [stop.push(text[i : i + size]) for i in range(0, len(text), size)]
    return "".join(pieces) + stop.flush(), stop.found


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize(
    ("text", "stops", "expected"),
    [
        ("Paris.\nUser: and?", ("\nUser:",), ("Paris.", True)),
        ("Paris.\nUse", ("\nUser:",), ("Paris.\nUse", False)),
        ("aaab", ("aab",), ("a", True)),
        ("one END two STOP", ("STOP", "END"), ("one ", True)),
        ("END", ("END",), ("", True)),
        ("größe🙂 END", ("🙂",), ("größe", True)),
        ("text", (), ("text", False)),
        ("text", ("",), ("text", False)),
    ],
)
def test_text_up_to_the_first_stop(text: str, stops: tuple[str, ...], expected: tuple[str, bool], size: int) -> None:
    assert streamed(text, stops, size) == expected


def test_text_is_returned_as_soon_as_no_stop_can_include_it() -> None:
    stop = StopText(("<end>",))
    assert [stop.push(piece) for piece in ("a", "b <e", "n", "x", "<end", "> c", "d")] == [
        "a",
        "b ",
        "",
        "<enx",
        "",
        "",
        "",
    ]
    assert stop.found
    assert stop.flush() == ""
