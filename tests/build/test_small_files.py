"""All files of an artifact say the same, and transformers 4 can open what transformers 5 wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from chat_templates import CHATML, chat_tokenizer

from edgekit.build.conversation import Conversation
from edgekit.build.small_files import json_bytes, model_config, tokenizer_files
from edgekit.build.turns import special_tokens
from edgekit.checkpoint.base import TokenizerFiles
from edgekit.errors import BuildError
from edgekit.sampling import Sampling


def conversation(tokenizer: TokenizerFiles, **changes: Any) -> Conversation:
    special = replace(tokenizer.special, pad_id=tokenizer.special.eos_ids[0])
    made = Conversation(False, (), Sampling(), special, (), CHATML, special_tokens(tokenizer))
    return replace(made, **changes)


def written(tokenizer: TokenizerFiles, vocab_size: int = 1000, **changes: Any) -> dict[str, bytes]:
    return tokenizer_files(tokenizer, conversation(tokenizer, **changes), vocab_size)


def settings_after(settings: Mapping[str, Any], **tokenizer: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        written(chat_tokenizer(CHATML, bos=1, eos=(2, 0), settings=settings, **tokenizer))["tokenizer_config.json"]
    )
    return found


def test_ids_and_roles_agree() -> None:
    tokenizer = chat_tokenizer(CHATML, bos=1, eos=(2, 0), settings={"bos_token": "<|endoftext|>", "pad_token": "[PAD]"})
    files = written(tokenizer)
    ids = {"bos_token_id": 1, "eos_token_id": [2, 0], "pad_token_id": 2}
    assert json.loads(files["generation_config.json"]).items() >= ids.items()
    config = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": -1, "hidden_size": 8, "quantization_config": {}}
    assert model_config({**config, "temperature": 0.3}, conversation(tokenizer)) == {"hidden_size": 8, **ids}
    settings = json.loads(files["tokenizer_config.json"])
    assert [settings[f"{role}_token"] for role in ("bos", "eos", "pad")] == ["<|im_start|>", "<|im_end|>", "<|im_end|>"]
    assert files["chat_template.jinja"].decode() == settings["chat_template"] == CHATML
    assert files["tokenizer.json"] == tokenizer["tokenizer.json"]


def test_a_model_without_bos_and_without_a_template() -> None:
    tokenizer = chat_tokenizer(None, eos=(2,), settings={"chat_template": "old", "bos_token": None})
    files = written(tokenizer, template=None)
    assert "bos_token_id" not in json.loads(files["generation_config.json"])
    assert "bos_token_id" not in model_config({"bos_token_id": 7}, conversation(tokenizer))
    settings = json.loads(files["tokenizer_config.json"])
    assert settings["bos_token"] is None
    assert "chat_template" not in settings
    assert "chat_template.jinja" not in files


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), {"do_sample": True, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "repetition_penalty": 1.0}),
        (
            Sampling(0.6, 0.95, 20, 0.1, 1.1),
            {
                "do_sample": True,
                "temperature": 0.6,
                "top_p": 0.95,
                "top_k": 20,
                "min_p": 0.1,
                "repetition_penalty": 1.1,
            },
        ),
        (Sampling(0.0), {"do_sample": False, "repetition_penalty": 1.0}),
    ],
)
def test_generation_config_states_every_setting(sampling: Sampling, expected: dict[str, Any]) -> None:
    content = json.loads(written(chat_tokenizer(CHATML, eos=(2,)), sampling=sampling)["generation_config.json"])
    assert content == {"eos_token_id": 2, "pad_token_id": 2, **expected}


def test_what_transformers_5_writes_is_translated() -> None:
    found = settings_after(
        {
            "backend": "tokenizers", "tokenizer_class": "TokenizersBackend", "is_local": True, "add_prefix_space": None,
            "bos_token": "<|im_start|>", "extra_special_tokens": ["<|im_start|>", "<nowhere>"], "unk_token": "<unk>",
            "model_max_length": 512, "image_token": "<|im_start|>",
        }
    )  # fmt: skip
    assert found == {
        "tokenizer_class": "PreTrainedTokenizerFast", "additional_special_tokens": ["<|im_start|>"],
        "clean_up_tokenization_spaces": False, "model_max_length": 512, "image_token": "<|im_start|>",
        "bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>", "chat_template": CHATML,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "PreTrainedTokenizerFast"),
        ({"tokenizer_class": "Qwen2Tokenizer"}, "Qwen2Tokenizer"),
        ({"tokenizer_class": "LlamaTokenizerFast"}, "LlamaTokenizerFast"),
        ({"tokenizer_class": "Qwen2Tokenizer", "backend": "tokenizers"}, "PreTrainedTokenizerFast"),
        ({"tokenizer_class": "Qwen2Tokenizer", "extra_special_tokens": []}, "PreTrainedTokenizerFast"),
        ({"tokenizer_class": "SentencePieceBackend"}, "PreTrainedTokenizerFast"),
        ({"tokenizer_class": "MyTokenizer", "auto_map": {"AutoTokenizer": ["mine.MyTokenizer", None]}},
         "PreTrainedTokenizerFast"),
    ],
)  # fmt: skip
def test_the_class_that_opens_the_tokenizer(settings: dict[str, Any], expected: str) -> None:
    found = settings_after(settings)
    assert found["tokenizer_class"] == expected
    assert "auto_map" not in found


def test_settings_of_transformers_4_stay() -> None:
    settings = {
        "tokenizer_class": "LlamaTokenizerFast", "add_prefix_space": None, "extra_special_tokens": {"a_token": "x"},
        "eos_token": {"content": "<|im_end|>", "lstrip": False}, "sp_model_kwargs": {}, "legacy": True,
    }  # fmt: skip
    found = settings_after(settings)
    assert found.items() >= settings.items()


def test_added_tokens_without_a_row_are_left_out() -> None:
    settings = {"pad_token": "[PAD]", "added_tokens_decoder": {"1": {"content": "b"}, "259": {"content": "[PAD]"}}}
    files = written(chat_tokenizer(CHATML, eos=(2,), shown=("[PAD]",), settings=settings), vocab_size=259)
    assert [token["id"] for token in json.loads(files["tokenizer.json"])["added_tokens"]] == [0, 1, 2]
    found = json.loads(files["tokenizer_config.json"])
    assert found["added_tokens_decoder"] == {"1": {"content": "b"}}
    assert found["pad_token"] == found["eos_token"]


def test_what_json_cannot_hold() -> None:
    assert json_bytes({"ö": [1]}).decode() == '{\n  "ö": [\n    1\n  ]\n}\n'
    with pytest.raises(BuildError, match="cannot be written as JSON"):
        json_bytes({"x": float("nan")})
