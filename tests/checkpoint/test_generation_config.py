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


# What transformers 4.57 writes for the keys that change the tokens, and a value with which each does.
CHANGING: dict[str, tuple[Any, Any]] = {
    "bad_words_ids": (None, [[5]]), "begin_suppress_tokens": (None, [220]), "constraints": (None, ["x"]),
    "diversity_penalty": (0.0, 0.5), "dola_layers": (None, "low"), "encoder_no_repeat_ngram_size": (0, 3),
    "encoder_repetition_penalty": (1.0, 1.5), "epsilon_cutoff": (0.0, 3e-4), "eta_cutoff": (0.0, 3e-4),
    "exponential_decay_length_penalty": (None, [15, 1.6]), "force_words_ids": (None, [[5]]),
    "forced_bos_token_id": (None, 0), "forced_decoder_ids": (None, [[1, 5]]), "forced_eos_token_id": (None, 0),
    "guidance_scale": (None, 1.5), "min_length": (0, 5), "min_new_tokens": (None, 50), "no_repeat_ngram_size": (0, 3),
    "num_beam_groups": (1, 2), "num_beams": (1, 4), "penalty_alpha": (None, 0.6),
    "sequence_bias": (None, [[[5], -1.0]]),
    "suppress_tokens": (None, [5]), "token_healing": (False, True), "top_h": (None, 0.4), "typical_p": (1.0, 0.9),
    "watermarking_config": (None, {"greenlist_ratio": 0.25}),
}  # fmt: skip


@pytest.mark.parametrize("key", CHANGING)
def test_each_setting_that_changes_the_tokens_is_noted(key: str) -> None:
    neutral, changing = CHANGING[key]
    assert generation_defaults({key: neutral}, "x").notes == ()
    assert generation_defaults({key: changing}, "x").notes == (f"x sets {key}, which edgekit does not support",)


@pytest.mark.parametrize(
    ("stops", "expected"), [(None, ()), ("END", ("END",)), (["a", "", "b", "a", 3], ("a", "b")), ([], ())]
)
def test_stop_texts(stops: Any, expected: tuple[str, ...]) -> None:
    assert generation_defaults({"stop_strings": stops}, "x").stop_texts == expected


@pytest.mark.parametrize(
    "key", ["max_length", "max_new_tokens", "max_time", "length_penalty", "prompt_lookup_num_tokens", "use_cache"]
)
def test_settings_of_length_beams_and_speed_need_no_note(key: str) -> None:
    assert generation_defaults({key: 3}, "x") == GenerationDefaults()
