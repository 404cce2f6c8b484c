"""Expressions for module names give what ``re`` gives, in bounded time."""

from __future__ import annotations

import contextlib
import random
import re

import pytest

from edgekit.checkpoint.module_pattern import MAX_PATTERNS, check_patterns, matches_start
from edgekit.errors import CorruptFileError, EdgekitError, UnsupportedModelError

PARTS = (
    "a", "b", ".", r"\.", r"\w", r"\d", r"\S", "[ab]", "[^a]", "[a-c.]", "(a|b)", "(ab)*", "a+", "(a|)+", "b?",
    "(?:a|b.)+?", "a{2,3}", "(a{1,2}){2}", "^", "$", r"\b", r"\B", r"\Z", "(?=a)", "(?!b)", "(b*)*", "(a?){3}", ".*",
    "(a{3}|b){1,4}",
)  # fmt: skip


def test_the_same_as_re() -> None:
    choose = random.Random(1)  # noqa: S311
    for _ in range(4000):
        pattern = "".join(choose.choices(PARTS, k=choose.randint(1, 5)))
        name = "".join(choose.choices("ab.1", k=choose.randint(1, 8)))
        try:
            expected = re.match(pattern, name) is not None
        except re.error:  # such as a repetition of a repetition
            continue
        assert matches_start(pattern, name) == expected, (pattern, name)


@pytest.mark.parametrize(
    "pattern",
    [r"((\w|\.)+)+$!", r"(\w+\.?)*!", "(a{1,65535}){1,65535}!", "(((((.*)*)*)*)*)*!", "(.?){0,65000}(.?){0,65000}!"],
)
def test_expressions_that_take_for_ever_elsewhere(pattern: str) -> None:
    name = "model.layers.17.self_attn.down_proj" * 2
    with contextlib.suppress(CorruptFileError):  # it needs too many steps
        assert not matches_start(pattern, name)


@pytest.mark.parametrize(
    ("patterns", "error", "words"),
    [
        (["["], CorruptFileError, "where: '\\[' is not a valid regular expression"),
        (["(" * 200 + ")" * 200 + "?" * 200], CorruptFileError, "has 600 characters; the limit is 500"),
        ([r"(a)\1"], UnsupportedModelError, "where: the regular expression .* uses groupref"),
        (["(?<=a)b", "a"], UnsupportedModelError, "looks behind"),
        (["(?i)a"], UnsupportedModelError, "sets flags"),
        (["(?i:a)"], UnsupportedModelError, "sets flags"),
        (
            [str(i) for i in range(MAX_PATTERNS + 1)],
            CorruptFileError,
            "has 1001 regular expressions; the limit is 1000",
        ),
        (["(" * 60 + ")" * 60], CorruptFileError, "nests too deeply"),
        (["(" * 250 + ")" * 250], CorruptFileError, "nests too deeply"),
    ],
)
def test_what_is_refused(patterns: list[str], error: type[EdgekitError], words: str) -> None:
    with pytest.raises(error, match=words):
        check_patterns(patterns, "where")
