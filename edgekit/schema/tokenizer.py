"""``tokenizer_config.json`` and ``generation_config.json`` as transformers writes them.

``tokenizer.json`` is checked by the tokenizers library and by ``tokenizer_file.py``. The ranges of temperature and its
like are those of ``sampling.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import TokenizerError
from .fields import Either, Field, Items, Number, Table, Text, Truth, Whole, check_table

_NAME = Text(longest=10_000)
_TOKEN = Either(_NAME, Table({"content": _NAME, "special": Truth()}, required=("content",)))
TOKEN_IDS = Either(Whole(-1), Items(Whole(-1), most=10_000))  # -1: none, as some files say

SETTINGS: dict[str, Field] = {
    "bos_token": _TOKEN,
    "eos_token": _TOKEN,
    "pad_token": _TOKEN,
    "unk_token": _TOKEN,
    "add_bos_token": Truth(),
    "add_eos_token": Truth(),
    "tokenizer_class": _NAME,
    "model_max_length": Number(0, 1e40),  # transformers writes 10^30 for "no limit"
}
_COUNT = Number(0, 1e40)
_NUMBER = Number(-1e40, 1e40)  # the reader notes what is out of range, and does without it
GENERATION: dict[str, Field] = {
    "bos_token_id": TOKEN_IDS,
    "eos_token_id": TOKEN_IDS,
    "pad_token_id": TOKEN_IDS,
    "do_sample": Truth(),
    **dict.fromkeys(("temperature", "top_p", "top_k", "min_p", "repetition_penalty"), _NUMBER),
    "max_length": _COUNT,
    "min_length": _COUNT,
    "max_new_tokens": _COUNT,
    "stop_strings": Either(_NAME, Items(_NAME, most=1000)),
}


def check_settings(settings: Mapping[str, Any], what: str) -> None:
    """Check a ``tokenizer_config.json``.

    Args:
        settings: The file's content.
        what: The file, for messages.

    Raises:
        TokenizerError: A value has the wrong type or is out of range.
    """
    check_table(settings, SETTINGS, what, TokenizerError)


def check_generation(content: Mapping[str, Any], what: str) -> None:
    """Check a ``generation_config.json``, or the same keys of a ``config.json``.

    Raises:
        TokenizerError: A value has the wrong type or is out of range.
    """
    check_table(content, GENERATION, what, TokenizerError)
