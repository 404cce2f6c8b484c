"""genai_config.json: keys that onnxruntime-genai's strict parser accepts (tests/interop loads a real one)."""

from __future__ import annotations

import json

import pytest
from shared_models import SharedModels
from tiny_checkpoint import tiny_config

from edgekit.export.genai_config import genai_config
from edgekit.models import spec_from_config

SAMPLING = {"temperature": 0.6, "top_p": 0.95, "top_k": 0, "repetition_penalty": 1.0}


def config(**changes: object) -> dict:
    values = {
        "context_length": 256, "max_length": 128, "bos_id": 0, "eos_ids": (1,), "pad_id": None, "sampling": SAMPLING,
        "execution_providers": ["CPUExecutionProvider"],
    }  # fmt: skip
    return genai_config(spec_from_config(tiny_config("qwen2")), **{**values, **changes})


def test_shapes_and_lengths() -> None:
    found = config()
    decoder = found["model"]["decoder"]
    assert (decoder["head_size"], decoder["num_key_value_heads"], decoder["num_hidden_layers"]) == (48, 1, 2)
    assert (found["model"]["context_length"], found["search"]["max_length"]) == (256, 128)
    assert found["model"]["type"] == "qwen2"


def test_special_tokens() -> None:
    assert config()["model"]["eos_token_id"] == 1
    assert config()["model"]["pad_token_id"] == 1, "eos stands in for a missing pad"
    assert config(eos_ids=(1, 5), pad_id=7)["model"]["eos_token_id"] == [1, 5]
    assert config(pad_id=7)["model"]["pad_token_id"] == 7
    assert "bos_token_id" not in config(bos_id=None)["model"]


def test_without_an_end_the_token_of_least_harm_ends_an_answer() -> None:
    """onnxruntime-genai needs an eos token and a pad token; both are rows of the embedding."""
    for changes, ends in (({}, 0), ({"bos_id": 3}, 3), ({"bos_id": None}, 0), ({"pad_id": 7}, 7)):
        found = config(eos_ids=(), **changes)["model"]
        assert (found["eos_token_id"], found["pad_token_id"]) == (ends, ends)


def test_temperature_zero_is_greedy() -> None:
    assert config()["search"]["do_sample"] is True
    greedy = config(sampling={**SAMPLING, "temperature": 0.0})["search"]
    assert (greedy["do_sample"], greedy["temperature"]) == (False, 1.0)


@pytest.mark.parametrize(("device", "providers"), [("rtx-3060", [{"cuda": {}}]), ("jetson", []), ("cpu", [])])
def test_an_artifact_for_a_gpu_asks_for_it(models: SharedModels, device: str, providers: list) -> None:
    found = json.loads((models.artifact(device=device) / "genai_config.json").read_text())
    assert found["model"]["decoder"]["session_options"]["provider_options"] == providers
