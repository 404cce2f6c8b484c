"""Holds an answer to a format: before each token, the tokens that cannot continue the format lose their logits.

The llguidance library (https://github.com/guidance-ai/llguidance) computes which tokens can continue, as a bit mask.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError, MissingPackageError, TokenizerError
from ..threads import on_large_stack
from ..tokenizer_file import library_errors
from .response_format import Grammar
from .tokenizer import Tokenizer

_CANNOT_HOLD = "cannot hold the answer to its format"
_REFUSED = "the answer cannot be held to this response_format"
# For 100,000 characters llguidance takes up to 42 MB and 0.6 s; for 300,000, 86 MB and 5 s.
_LONGEST_GRAMMAR = 1 << 17  # characters
_LONGEST_TOKEN = 1000  # characters; in use: 128 spaces
# A third of llguidance's own limits, which a pattern of 17 characters reaches with 250 MB: (a{1000}){1000}.
_LIMITS = {"initial_lexer_fuel": 300_000, "step_lexer_fuel": 100_000, "max_lexer_states": 100_000}
_TAG = re.compile("<.*>", re.DOTALL)
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")


class Constraint:
    """The state of one answer that is held to a grammar.

    Args:
        matcher: An ``llguidance.LLMatcher``.
        vocab_size: Length of the logits.
    """

    def __init__(self, matcher: Any, vocab_size: int) -> None:
        self._matcher, self._vocab_size = matcher, vocab_size
        self._bits = np.zeros((1, (vocab_size + 31) // 32), np.int32)

    def copy(self) -> Constraint:
        """The same state for another answer, which shares the memory of the grammar."""
        return Constraint(self._matcher.deep_copy(), self._vocab_size)

    @property
    def is_complete(self) -> bool:
        """Whether nothing can follow."""
        return bool(self._matcher.is_stopped())

    def apply(self, logits: NDArray[np.float32], also: Sequence[int] = ()) -> None:
        """Give the tokens that cannot continue the answer a logit of minus infinity.

        Args:
            logits: float32 (vocab_size,); changed.
            also: Ids that are allowed nevertheless.

        Raises:
            FormatError: llguidance failed.
        """
        import llguidance.numpy

        kept = logits[list(also)]
        with library_errors(_CANNOT_HOLD, FormatError):
            llguidance.numpy.fill_next_token_bitmask(self._matcher, self._bits, 0)
        allowed = np.unpackbits(self._bits[0].view(np.uint8), count=logits.size, bitorder="little")
        np.copyto(logits, -np.inf, where=allowed == 0)
        logits[list(also)] = kept

    def accept(self, token: int) -> None:
        """Continue the answer with a token.

        Raises:
            FormatError: The grammar is too complex.
        """
        with library_errors(_CANNOT_HOLD, FormatError):
            accepted = self._matcher.consume_token(token)
        if not accepted:
            reason = str(self._matcher.get_error()).splitlines()[0]
            raise FormatError(f"{_CANNOT_HOLD}: {reason}", hint="use a simpler format")


class Constraints:
    """Makes constraints for the answers of one tokenizer.

    Args:
        tokenizer: The artifact's tokenizer.
        vocab_size: Length of the logits.
        stop_ids: Ids that end an answer.
    """

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, stop_ids: Sequence[int]) -> None:
        self._tokenizer, self._vocab_size, self._stop_ids = tokenizer, vocab_size, list(stop_ids)
        self._prepared: Any = None  # an llguidance.LLTokenizer, which takes up to a second to make

    def start(self, grammar: Grammar, *, after_thought: bool) -> Constraint:
        """A constraint for one answer.

        Args:
            grammar: What the answer must match.
            after_thought: Whether a thought may come before the answer.

        Raises:
            ValueError: As for :func:`rules_of`.
            EdgekitError: As for :meth:`of_rules`.
        """
        return self.of_rules(rules_of(grammar, after_thought=after_thought))

    def of_rules(self, rules: str) -> Constraint:
        """A constraint for one answer.

        Args:
            rules: Those of :func:`rules_of`.

        Raises:
            MissingPackageError: llguidance is not installed.
            EngineError: The system did not start a thread.
            TokenizerError: llguidance cannot use the tokenizer, or a token is too long.
            ValueError: The grammar is not valid, or not supported.
        """
        if find_spec("llguidance") is None:
            raise MissingPackageError.for_extra("structured", ["llguidance"], "an answer in a given format")
        from llguidance import LLTokenizer

        if self._prepared is None:
            definition = self._tokenizer.definition()
            described = json.loads(definition)
            _check_tokens(described)
            _hide_control_tokens(described)
            definition = json.dumps(described, ensure_ascii=False)
            with library_errors("this tokenizer cannot be used to hold an answer to a format"):
                self._prepared = LLTokenizer(definition, n_vocab=self._vocab_size, eos_token=self._stop_ids)
        matcher = on_large_stack(lambda: _matcher(self._prepared, rules))
        if matcher.is_error():
            reason = " ".join(str(matcher.get_error()).split())
            raise ValueError(f"{_REFUSED}: {reason}")
        return Constraint(matcher, self._vocab_size)


def rules_of(grammar: Grammar, *, after_thought: bool) -> str:
    """A grammar in llguidance's dialect of Lark.

    Args:
        grammar: What an answer must match.
        after_thought: Whether a thought may come before the answer.

    Raises:
        ValueError: It exceeds a limit.
    """
    rules = grammar.lark(after_thought=after_thought)
    if len(rules) > _LONGEST_GRAMMAR:
        raise ValueError(f"{_REFUSED}: it has {len(rules)} characters; allowed: {_LONGEST_GRAMMAR}")
    return rules


def _check_tokens(described: dict[str, Any]) -> None:
    """Check that no token is longer than llguidance can take: the time for one grows with the square of its length."""
    vocabulary = described["model"].get("vocab", ())  # text to id; with Unigram, a list of pairs
    texts = vocabulary if isinstance(vocabulary, dict) else (text for text, _ in vocabulary)
    longest = max(
        map(len, chain(texts, (token["content"] for token in described.get("added_tokens") or ()))), default=0
    )
    if longest > _LONGEST_TOKEN:
        raise TokenizerError(
            "this tokenizer cannot be used to hold an answer to a format: "
            f"it has a token of {longest} characters; allowed: {_LONGEST_TOKEN}"
        )


def _hide_control_tokens(described: dict[str, Any]) -> None:
    """Give control tokens names that no text spells; their ids stay.

    llguidance encodes text that a format demands, such as the only text of a Choice. Where that text spells a control
    token, it would get the token, which stands for no text in a grammar. It takes special tokens for control tokens,
    and all added tokens of the form ``<...>``.

    Args:
        described: The content of a ``tokenizer.json``; changed.
    """
    model, added = described["model"], described.get("added_tokens") or []
    spelled = {token["content"] for token in added if token.get("special") or _TAG.fullmatch(token["content"])} - {""}
    merges = (merge.split(" ") if isinstance(merge, str) else merge for merge in model.get("merges") or ())
    spelled = {text for text in spelled if not _BYTE.fullmatch(text)}  # which stand for a byte of text
    spelled -= {text for left, right in merges for text in (left, right, left + right)}  # they need these names
    names = {text: f"<\ufdd0{i}>" for i, text in enumerate(sorted(spelled))}  # with a noncharacter
    for token in added:
        token["content"] = names.get(token["content"], token["content"])
    vocabulary = model.get("vocab", {})
    if isinstance(vocabulary, dict):
        model["vocab"] = {names.get(text, text): i for text, i in vocabulary.items()}
    else:  # with Unigram, a list of pairs
        model["vocab"] = [[names.get(text, text), score] for text, score in vocabulary]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]


def _matcher(tokenizer: Any, rules: str) -> Any:
    from llguidance import LLMatcher, LLParserLimits

    with library_errors(_REFUSED, ValueError):
        return LLMatcher(tokenizer, LLMatcher.grammar_from_lark(rules), log_level=0, limits=LLParserLimits(**_LIMITS))
