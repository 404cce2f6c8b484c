"""The engine native: memory against numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path

from edgekit.models import ModelSpec, spec_from_config
from edgekit.planning.engines import native
from edgekit.scheme import QuantizationConfig, QuantizationScheme

INT4, INT8 = QuantizationScheme(4, 32, True), QuantizationScheme(8, 32, False)


ALL_INT4 = QuantizationConfig(INT4, INT4, INT4)


def _spec(**changes: object) -> ModelSpec:
    config = {
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 100,
        "max_position_embeddings": 128,
        "tie_word_embeddings": False,
    }
    return spec_from_config(config | changes)


def test_the_native_engines_numbers_are_those_of_its_source() -> None:
    source = Path(__file__).parents[3] / "edgekit" / "native"
    session, kernels = ((source / name).read_text() for name in ("src/session.cpp", "kernels/kernels.h"))
    assert f"kPrefillChunk = {native.PREFILL_CHUNK};" in session
    assert f"kKvBlock = {native.KV_BLOCK};" in kernels
