"""How many tokens a text has at least, known from its size alone. A server need not encode what cannot fit.

A token of a byte-level vocabulary stands for as many bytes as its spelling has characters. So a text has at least as
many tokens as the longest one fits into it, if no step before the vocabulary drops text.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

# Four bytes never become less than one: U+1FBE U+0308 U+0301, of seven bytes, becomes U+0390, of two. All other
# characters have three times as many bytes at most before, such as a syllable of Hangul in three letters.
_NFC_SHRINKS = 4
_KEEP_TEXT = ("ByteLevel", "Digits", "Split")
_BYTES = 256


def most_bytes_of_token(
    normalizer: Mapping[str, Any] | None,
    pre_tokenizer: Mapping[str, Any] | None,
    vocabulary: Collection[str],
    added: Iterable[Mapping[str, Any]],
) -> int | None:
    """The most bytes of a text that one token may stand for; None if that is not known.

    Args:
        normalizer, pre_tokenizer, vocabulary: As in ``tokenizer.json``; the model must be BPE.
        added: The added tokens, each with ``content``, ``lstrip`` and ``rstrip``.
    """
    kinds = _steps(normalizer, "normalizers")
    splits = _steps(pre_tokenizer, "pretokenizers")
    added = list(added)
    if [step["type"] for step in kinds] not in ([], ["NFC"]):
        return None
    if "ByteLevel" not in [step["type"] for step in splits]:
        return None
    if any(step["type"] not in _KEEP_TEXT or step.get("behavior") == "Removed" for step in splits):
        return None
    if any(token["lstrip"] or token["rstrip"] for token in added):  # takes in any amount of white space
        return None
    if sum(len(token) == 1 for token in vocabulary) < _BYTES:  # a byte without a token is dropped
        return None
    longest = max([*map(len, vocabulary), *(len(token["content"].encode()) for token in added)])
    return longest * (_NFC_SHRINKS if kinds else 1)


def _steps(step: Mapping[str, Any] | None, members: str) -> list[Mapping[str, Any]]:
    if step is None:
        return []
    return [step] if step["type"] != "Sequence" else [each for one in step[members] for each in _steps(one, members)]
