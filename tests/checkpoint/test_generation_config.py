"""The sampling settings and stop texts of generation_config.json."""

from __future__ import annotations

from typing import Any

import pytest

from edgekit.checkpoint.generation_config import GenerationDefaults, generation_defaults
from edgekit.sampling import SamplingOverrides


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({}, {}),
        ({"temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.1, "do_sample": True},
         {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.1}),
        ({"temperature": 0.6, "min_p": 0.1}, {"temperature": 0.6, "min_p": 0.1}),
        ({"temperature": 0.6, "top_p": 0.9, "repetition_penalty": 1.2, "do_sample": False},
         {"temperature": 0.0, "repetition_penalty": 1.2}),
        ({"do_sample": False}, {"temperature": 0.0}),
        ({"do_sample": True}, {}),
        ({"temperature": None, "top_k": None}, {}),
        ({"top_k": -1}, {"top_k": 0}),
    ],
)  # fmt: skip
def test_sampling(content: dict[str, Any], expected: dict[str, float]) -> None:
    assert generation_defaults(content, "x") == GenerationDefaults(SamplingOverrides(**expected))


def test_a_setting_that_is_not_valid_is_ignored_with_a_note() -> None:
    found = generation_defaults({"top_p": 0, "temperature": 0.5}, "generation_config.json")
    assert found.sampling == SamplingOverrides(temperature=0.5)
    assert found.notes == ("generation_config.json: top_p is 0; it must be above 0 and at most 1; it is ignored",)


def test_settings_that_are_not_supported_are_named() -> None:
    found = generation_defaults({"num_beams": 4, "typical_p": 1.0, "no_repeat_ngram_size": 3}, "x")
    assert found.notes == ("x sets no_repeat_ngram_size, num_beams, which edgekit does not support",)


@pytest.mark.parametrize(
    ("stops", "expected"), [(None, ()), ("END", ("END",)), (["a", "", "b", "a", 3], ("a", "b")), ([], ())]
)
def test_stop_texts(stops: Any, expected: tuple[str, ...]) -> None:
    assert generation_defaults({"stop_strings": stops}, "x").stop_texts == expected
