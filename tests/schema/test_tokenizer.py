"""The settings of tokenizers and of generation."""

from __future__ import annotations

from typing import Any

import pytest

from edgekit.errors import TokenizerError
from edgekit.schema.tokenizer import check_generation, check_settings


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"bos_token": None, "eos_token": "</s>", "pad_token": {"content": "<pad>", "special": True, "lstrip": False}},
        {"model_max_length": 1000000000000000019884624838656, "add_bos_token": None},
    ],
)
def test_settings_in_use(settings: dict[str, Any]) -> None:
    check_settings(settings, "tokenizer_config.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [("bos_token", 1), ("eos_token", {"special": True}), ("add_bos_token", "false"), ("model_max_length", "512")],
)
def test_settings_of_the_wrong_type(key: str, value: Any) -> None:
    with pytest.raises(TokenizerError, match=rf"tokenizer_config\.json: {key}"):
        check_settings({key: value}, "tokenizer_config.json")


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("eos_token_id", [2, [1, 2], None, -1], ["2", 2.0, True, [None], -2]),
        ("do_sample", [True, None], ["false", 1]),
        ("stop_strings", ["a", ["a", "b"]], [1, [1]]),
    ],
)
def test_generation(key: str, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        check_generation({key: value}, "generation_config.json")
    for value in bad:
        with pytest.raises(TokenizerError, match=rf"generation_config\.json: {key}"):
            check_generation({key: value}, "generation_config.json")
