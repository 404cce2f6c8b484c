"""The manifest: every field of the dataclass has a type, and values that engines use are in range."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest

from edgekit.artifact.manifest import Manifest
from edgekit.errors import ArtifactError
from edgekit.schema.manifest import MANIFEST, check_manifest

GOOD: dict[str, Any] = {
    "model": {"model_type": "llama", "vocab_size": 64, "num_layers": 2, "context_length": 64},
    "plan": {"context": 64, "decode_tok_s": None, "engine": "native"},
    "quantization": {"linear": {"bits": 4, "block_size": 32, "symmetric": True}, "embedding": None},
    "tokens": {"bos": None, "eos": [1], "pad": None, "add_bos": False},
    "golden": {"prompt_ids": [1], "continuation_ids": [], "top_logits": [{"id": 1, "logit": 0.5}]},
}


def test_every_field_is_known() -> None:
    assert set(MANIFEST) == {field.name for field in fields(Manifest)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m["model"].update(vocab_size=2**40), "model.vocab_size is 1099511627776; it must be a whole number"),
        (lambda m: m["model"].pop("context_length"), "model lacks context_length"),
        (lambda m: m.update(source={"kind": 64}), "source.kind is 64"),
        (
            lambda m: m.update(source={"files": {"a": {"sha256": "0", "size_bytes": 1.0}}}),
            "source.files 'a': size_bytes is",
        ),
        (lambda m: m["plan"].update(context="64"), "plan.context is '64'"),
        (lambda m: m["plan"].update(decode_tok_s={"low": 1, "mid": -1, "high": 2}), "plan.decode_tok_s.mid is -1"),
        (
            lambda m: m["quantization"].update(linear=[4]),
            r"quantization.linear is \[4\]; it must be an object, or null",
        ),
        (lambda m: m["tokens"].update(eos=[-1]), r"tokens.eos\[0\] is -1"),
        (lambda m: m["golden"].update(prompt_ids=[]), r"golden.prompt_ids is \[\]"),
    ],
)
def test_values_out_of_range(change: Callable[[dict[str, Any]], object], words: str) -> None:
    content: dict[str, Any] = {key: dict(value) for key, value in GOOD.items()}
    check_manifest(content, "edgekit.json")
    change(content)
    with pytest.raises(ArtifactError, match=f"edgekit.json: {words}"):
        check_manifest(content, "edgekit.json")
