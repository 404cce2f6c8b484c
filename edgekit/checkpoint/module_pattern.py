"""Regular expressions that a checkpoint names its modules with, matched in bounded time.

GPTQModel's ``dynamic`` and PEFT's ``rank_pattern`` hold expressions that come with the model. Python's ``re`` tries one
way through an expression after the other, and ``((\\w|\\.)+)+$`` has more ways than a computer can try. Only whether an
expression matches is of interest here, so all ways are followed at once: a set of positions in the name, one bit each,
goes through the parsed expression, as in Thompson's algorithm (https://doi.org/10.1145/363347.363387).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from ..errors import CorruptFileError, EdgekitError, UnsupportedModelError

if sys.version_info >= (3, 11):
    from re import _constants as codes  # type: ignore[attr-defined]  # the parser is part of re, but not public
    from re import _parser as parser  # type: ignore[attr-defined]
else:
    import sre_constants as codes
    import sre_parse as parser

MAX_PATTERNS = 1000  # a model of 100 layers has 700 quantized modules
MAX_LENGTH = 500  # characters
_MAX_NESTING = 50  # groups inside groups; Python's parser follows about 200
_MAX_STEPS = 1000  # of one match, half a millisecond; expressions in use take some tens
_WORD = re.compile(r"\w")
_WITH_BODY = (codes.SUBPATTERN, codes.MAX_REPEAT, codes.MIN_REPEAT, codes.ASSERT, codes.ASSERT_NOT)
_SUPPORTED = (codes.LITERAL, codes.NOT_LITERAL, codes.ANY, codes.IN, codes.BRANCH, codes.AT, *_WITH_BODY)
_CATEGORIES: dict[Any, tuple[str, bool]] = {
    codes.CATEGORY_DIGIT: (r"\d", True),
    codes.CATEGORY_NOT_DIGIT: (r"\d", False),
    codes.CATEGORY_WORD: (r"\w", True),
    codes.CATEGORY_NOT_WORD: (r"\w", False),
    codes.CATEGORY_SPACE: (r"\s", True),
    codes.CATEGORY_NOT_SPACE: (r"\s", False),
}


def check_patterns(patterns: Iterable[str], where: str) -> None:
    """Check expressions before they are used.

    Args:
        patterns: The expressions.
        where: The file and the key that hold them, for messages.

    Raises:
        CorruptFileError: An expression is not valid or too long, or there are too many.
        UnsupportedModelError: An expression uses something that cannot be matched in bounded time: a reference to
            another group, or a group that looks behind or is not given back.
    """
    given = list(patterns)
    if len(given) > MAX_PATTERNS:
        raise CorruptFileError(f"{where} has {len(given)} regular expressions; the limit is {MAX_PATTERNS}")
    for pattern in given:
        if len(pattern) > MAX_LENGTH:
            raise CorruptFileError(
                f"{where}: the regular expression {pattern[:40]!r}... has {len(pattern)} characters; the limit is "
                f"{MAX_LENGTH}"
            )
        try:
            matches_start(pattern, "model.layers.0.mlp.down_proj")
        except EdgekitError as error:
            raise type(error)(f"{where}: {error.message}", error.hint) from None


@lru_cache(maxsize=20_000)
def matches_start(pattern: str, name: str) -> bool:
    """Whether an expression matches the beginning of a name, as ``re.match`` does.

    Args:
        pattern: The expression.
        name: A module's name.

    Raises:
        CorruptFileError: The expression is not valid, or needs too many steps.
        UnsupportedModelError: See :func:`check_patterns`.
    """
    return _Match(name).ends(_parsed(pattern), 1) != 0


@lru_cache(maxsize=MAX_PATTERNS)
def _parsed(pattern: str) -> Any:
    try:
        parsed = parser.parse(pattern)
    except (re.error, OverflowError) as error:
        raise CorruptFileError(f"{pattern!r} is not a valid regular expression: {error}") from None
    except RecursionError:
        raise CorruptFileError(f"{pattern[:40]!r}... is not a valid regular expression: it nests too deeply") from None
    if parsed.state.flags & ~re.UNICODE.value:
        raise _unsupported(f"the regular expression {pattern!r} sets flags")
    _check_supported(parsed, pattern, _MAX_NESTING)
    return parsed


def _check_supported(parsed: Any, pattern: str, levels: int) -> None:
    if levels == 0:
        raise CorruptFileError(f"{pattern[:40]!r}... is not a valid regular expression: it nests too deeply")
    for operation, argument in parsed:
        if operation not in _SUPPORTED:
            raise _unsupported(f"the regular expression {pattern!r} uses {str(operation).lower()}")
        if operation is codes.SUBPATTERN and (argument[1] or argument[2]):
            raise _unsupported(f"the regular expression {pattern!r} sets flags")
        if operation in (codes.ASSERT, codes.ASSERT_NOT) and argument[0] < 0:
            raise _unsupported(f"the regular expression {pattern!r} looks behind")
        bodies = argument[1] if operation is codes.BRANCH else [argument[-1]] if operation in _WITH_BODY else []
        for body in bodies:
            _check_supported(body, pattern, levels - 1)


def _unsupported(what: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{what}, which edgekit does not match",
        hint="supported: characters and sets, groups, alternatives, repetitions, ^, $, \\b and looking ahead",
    )


class _Match:
    """One name. A set of positions is a number whose bit i stands for the position before character i."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._all = (1 << (len(name) + 1)) - 1
        self._steps = 0
        self._operations: dict[Any, Callable[[Any, int], int]] = {
            codes.LITERAL: lambda code, at: self._one(at, lambda c: ord(c) == code),
            codes.NOT_LITERAL: lambda code, at: self._one(at, lambda c: ord(c) != code),
            codes.ANY: lambda _, at: self._one(at, lambda c: c != "\n"),
            codes.IN: lambda members, at: self._one(at, lambda c: _in_set(c, members)),
            codes.BRANCH: self._branch,
            codes.SUBPATTERN: self._group,
            codes.MAX_REPEAT: self._repeat,
            codes.MIN_REPEAT: self._repeat,
            codes.AT: self._at,
            codes.ASSERT: lambda found, at: self._ahead(found, at, True),
            codes.ASSERT_NOT: lambda found, at: self._ahead(found, at, False),
        }

    def ends(self, parsed: Any, at: int) -> int:
        """The positions after a match that begins at any of the positions ``at``."""
        for operation, argument in parsed:
            if not at:
                return 0
            self._step()
            at = self._operations[operation](argument, at)
        return at

    def _step(self) -> None:
        self._steps += 1
        if self._steps > _MAX_STEPS:
            raise CorruptFileError(f"a regular expression needs more than {_MAX_STEPS} steps for one module's name")

    def _one(self, at: int, accepts: Callable[[str], bool]) -> int:
        after = 0
        for position, character in enumerate(self._name):
            if at >> position & 1 and accepts(character):
                after |= 2 << position
        return after

    def _branch(self, argument: Any, at: int) -> int:
        after = 0
        for branch in argument[1]:
            after |= self.ends(branch, at)
        return after

    def _group(self, argument: Any, at: int) -> int:
        return self.ends(argument[-1], at)

    def _repeat(self, argument: Any, at: int) -> int:
        low, high, body = argument
        seen = at if low == 0 else 0
        count = 0
        while at and (high is codes.MAXREPEAT or count < high):
            after = self.ends(body, at)
            count += 1
            if count >= low:
                new = after & ~seen
                seen |= after
                at = new
            elif after == at:  # further repetitions change nothing
                count, at = low, after
                seen |= after
            else:
                at = after
        return seen

    def _at(self, where: Any, at: int) -> int:
        name, size = self._name, len(self._name)
        if where in (codes.AT_BEGINNING, codes.AT_BEGINNING_STRING):
            return at & 1
        if where is codes.AT_END_STRING:
            return at & 1 << size
        if where is codes.AT_END:
            return at & (1 << size | (1 << (size - 1) if name.endswith("\n") else 0))
        words = [False, *(bool(_WORD.match(c)) for c in name), False]
        between = sum(1 << i for i in range(size + 1) if words[i] != words[i + 1])
        return at & (between if where is codes.AT_BOUNDARY else self._all & ~between)

    def _ahead(self, argument: Any, at: int, wanted: bool) -> int:
        body, kept = argument[1], 0
        for position in range(len(self._name) + 1):
            if at >> position & 1 and bool(self.ends(body, 1 << position)) == wanted:
                kept |= 1 << position
        return kept


def _in_set(character: str, members: Any) -> bool:
    found = negated = False
    for kind, value in members:
        if kind is codes.NEGATE:
            negated = True
        elif kind is codes.LITERAL:
            found = found or ord(character) == value
        elif kind is codes.RANGE:
            found = found or value[0] <= ord(character) <= value[1]
        else:
            pattern, wanted = _CATEGORIES[value]
            found = found or bool(re.match(pattern, character)) == wanted
    return found != negated
