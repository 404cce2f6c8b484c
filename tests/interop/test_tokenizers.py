"""A tokenizer that transformers 5 has saved opens in transformers 4 from the artifact, with the same ids."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_checkpoint import tokenizer as tiny_tokenizer
from tiny_checkpoint import write_checkpoint

import edgekit
from edgekit.artifact.manifest import read_manifest
from edgekit.build.pipeline import build

pytestmark = pytest.mark.slow

TEXTS = ["The capital of France is Paris.", "<think>\nGröße 你好 🙂</think> <|eos|><|user|>  x"]


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("PreTrainedTokenizerFast", {}),
        ("PreTrainedTokenizerFast", {"extra_special_tokens": ["<|user|>", "<|assistant|>"]}),
        ("Qwen2Tokenizer", {"extra_special_tokens": ["<|user|>"]}),
        ("LlamaTokenizer", {"extra_special_tokens": ["<|user|>"]}),
    ],
)
def test_transformers_4_opens_what_transformers_5_wrote(
    gptqmodel: Callable[..., str], interop: Callable[..., str], tmp_path: Path, name: str, extra: dict[str, Any]
) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", "llama")
    settings = {"bos_token": "<|bos|>", "eos_token": "<|eos|>", "unk_token": "<|bos|>", "tokenizer_class": name}
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(settings))
    gptqmodel("transformers5_tokenizer.py", checkpoint, json.dumps(extra))
    written = json.loads((checkpoint / "tokenizer_config.json").read_text())
    assert "backend" in written, "this is transformers 5"
    expected = json.loads(gptqmodel("transformers_tokenizer.py", checkpoint, json.dumps(TEXTS)).splitlines()[-1])
    artifact = build(None, "cpu", checkpoint=checkpoint, out=tmp_path / "out", gate=False).artifact
    for run in (interop, gptqmodel):
        found = json.loads(run("transformers_tokenizer.py", artifact, json.dumps(TEXTS)).splitlines()[-1])
        assert found["ids"] == expected["ids"]
        assert found["prompt"] == expected["prompt"]
        assert found["special"] == found["generation"]
        assert found["vocabulary"] <= tiny_tokenizer().get_vocab_size(), "no token is added"
    with edgekit.load(artifact, engine="ort") as session:
        assert session.render([{"role": "user", "content": TEXTS[0]}]) == expected["prompt"]
        assert session.tokenizer.encode(TEXTS[0], add_bos=False) == expected["ids"][0]
    tokens = read_manifest(artifact).tokens
    assert found["generation"] == {"bos": tokens["bos"], "eos": tokens["eos"][0], "pad": tokens["pad"]}
