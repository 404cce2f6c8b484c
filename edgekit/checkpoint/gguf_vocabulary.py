"""The vocabulary of a GGUF file: the text and the type of each token, and control tokens that have the wrong type.

A file whose converter did not know a control token stores it as normal text. Then ``<|im_end|>`` in a prompt becomes a
row of ordinary tokens, and the model's own ``<|im_end|>`` is printed. llama.cpp corrects the types of the tokens whose
names it knows (``llama-vocab.cpp``); here the spelling, the roles and the chat template show which tokens these are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import TokenizerError

# Token types of llama.cpp (llama.h: llama_token_type).
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

_ROLES = ("bos", "eos", "eot", "eom")
_CONTROL = r"<\|[^<>|\s]+\|>|<｜[^<>｜\s]+｜>"  # <|im_end|>, <｜User｜>
_CONTROL_SPELLING = re.compile(_CONTROL)
_TAG = re.compile(_CONTROL + r"|</?[A-Za-z][\w▁.-]*>|\[/?[A-Z_]+\]")  # also <think>, <end_of_turn>, [INST]
_CONTROL_TAG = re.compile(r"</?(s|bos|eos|(start|end)_of_\w+)>|\[/?[A-Z_]+\]")
_NAMED = 5  # tokens in a note


@dataclass(frozen=True)
class Vocabulary:
    """The file's vocabulary: the text and type of each id, and the merges in order."""

    tokens: list[str]
    types: list[int]
    merges: list[str]

    @property
    def added(self) -> list[int]:
        """Ids of tokens that are matched whole, before the text is split."""
        return [i for i, kind in enumerate(self.types) if kind in (UNKNOWN, CONTROL, USER_DEFINED)]


def read_vocabulary(metadata: Mapping[str, Any], what: str) -> Vocabulary:
    """Read and check ``tokenizer.ggml.*``.

    Raises:
        TokenizerError: The kind of tokenizer is not supported, or the lists are not consistent.
    """
    kind = metadata.get("tokenizer.ggml.model")
    if kind != "gpt2":
        raise TokenizerError(f"{what}: tokenizer.ggml.model is {kind!r}; supported: 'gpt2' (byte-level BPE)")
    tokens, merges = (metadata.get(f"tokenizer.ggml.{key}") for key in ("tokens", "merges"))
    types = metadata.get("tokenizer.ggml.token_type")
    if not isinstance(tokens, list) or not isinstance(merges, list) or not isinstance(types, np.ndarray):
        raise TokenizerError(f"{what}: tokenizer.ggml.tokens, token_type or merges is missing or has the wrong type")
    if len(types) != len(tokens):
        raise TokenizerError(f"{what} has {len(tokens)} tokens but {len(types)} token types")
    unknown = sorted(set(types.tolist()) - {NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE})
    if unknown:
        raise TokenizerError(f"{what} has tokens of type {unknown[0]}; allowed: {NORMAL} to {BYTE}")
    used = [text for text, kind in zip(tokens, types.tolist(), strict=True) if kind != UNUSED]
    if len(set(used)) != len(used):
        (duplicate, _), *_ = Counter(used).most_common(1)
        raise TokenizerError(f"{what}: duplicate token {duplicate!r}; one of its ids could never be encoded")
    for merge in merges:
        left, _, right = merge.partition(" ")
        # Readers of merge lists treat a line that begins with #version as a comment.
        if not left or not right or " " in right or merge.startswith("#version"):
            raise TokenizerError(f"{what}: the merge {merge!r} is not two tokens separated by a space")
    return Vocabulary(tokens, types.tolist(), merges)


def with_control_tokens(
    vocabulary: Vocabulary, metadata: Mapping[str, Any], templates: Iterable[str]
) -> tuple[Vocabulary, tuple[str, ...]]:
    """Correct the types of tokens that are stored as text but have a function.

    Tokens spelled ``<|...|>`` and the tokens that begin and end texts and turns become control tokens. Tags that a
    chat template contains, such as ``<think>``, become tokens that are matched whole and shown.

    Args:
        vocabulary: As the file has it.
        metadata: The file's keys and values, for the ids of the roles.
        templates: Its chat templates.

    Returns:
        The vocabulary, and a note that names the tokens.
    """
    roles = {metadata.get(f"tokenizer.ggml.{role}_token_id") for role in _ROLES}
    tags = {tag.group() for template in templates for tag in _TAG.finditer(template)}
    types = list(vocabulary.types)
    for i, text in enumerate(vocabulary.tokens):
        if types[i] not in (NORMAL, USER_DEFINED) or not text.startswith(("<", "[")):
            continue
        if _CONTROL_SPELLING.fullmatch(text) or (i in roles and _TAG.fullmatch(text)):
            types[i] = CONTROL
        elif text in tags and types[i] == NORMAL:
            types[i] = CONTROL if _CONTROL_TAG.fullmatch(text) else USER_DEFINED
    changed = [text for text, old, new in zip(vocabulary.tokens, vocabulary.types, types, strict=True) if old != new]
    if not changed:
        return vocabulary, ()
    more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
    note = (
        f"the GGUF file stores control tokens as text; their types are corrected: {', '.join(changed[:_NAMED])}{more}"
    )
    return replace(vocabulary, types=types), (note,)
